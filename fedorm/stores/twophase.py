"""What a SQL store can be asked about prepared transactions, and the two phases as a dialect's methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import Connection, Engine

from fedorm.stores.branches import Branch
from fedorm.stores.findings import Finding

_ASKED = "fedorm.two_phase_refusal"


@dataclass(frozen=True, slots=True)
class InDoubt:
    """A branch that is prepared, and since when; where the database does not say, since its transaction began."""

    branch: Branch
    since: datetime


class TwoPhase:
    """The part of a SQL store that has to do with prepared transactions; a store with ``TWO_PHASE`` overrides it."""

    names_branches_first: ClassVar[bool] = False
    """Whether a branch has its final name from its start on."""

    def two_phase_refusal(self, engine: Engine) -> str | None:
        """Say why this server cannot prepare a transaction; None if it can. Asked once for each pool."""
        known: dict[str, str | None] = engine.pool.__dict__
        if _ASKED not in known:
            with engine.connect() as connection:
                refusal = self.refusal_of(connection)
                known[_ASKED] = None if refusal is None else str(refusal)
        return known[_ASKED]

    def refusal_of(self, connection: Connection) -> Finding | None:
        """Ask the server."""
        return Finding("cannot prepare a transaction", "")

    def in_doubt(self, connection: Connection) -> list[InDoubt]:
        """Return the prepared branches of fedorm's that the server shows; maybe of other databases, too."""
        return []

    def end_prepared(self, connection: Connection, branch: Branch, *, commit: bool) -> bool:
        """Commit or roll back a branch that another connection has prepared; False where it is no longer there.

        ``connection`` must have no transaction. Raises ``BranchHeldError`` while its own connection lives.
        """
        raise NotImplementedError

    @contextmanager
    def brief_lock_waits(self, connection: Connection, seconds: int) -> Iterator[None]:
        """Wait for locks in the block for so many seconds at most; what ends a wait is of no fixed class."""
        yield


@dataclass(frozen=True, slots=True)
class Phases:
    """The commands of the two phases, given a SQLAlchemy connection and a branch."""

    begin: Callable[[Connection, Branch], None]
    prepare: Callable[[Connection, Branch], None]
    commit_prepared: Callable[[Connection, Branch], None]
    rollback_prepared: Callable[[Connection, Branch], None]
    commit: Callable[[Connection, Branch], None]
    """Of a branch that was not prepared."""
    rollback: Callable[[Connection, Branch], None]

    def install(self, dialect: Any) -> None:
        """Put the commands into the place of the dialect's own."""

        def commit(connection: Connection, xid: Branch, is_prepared: bool = True, recover: bool = False) -> None:
            (self.commit_prepared if is_prepared else self.commit)(connection, xid)

        def rollback(connection: Connection, xid: Branch, is_prepared: bool = True, recover: bool = False) -> None:
            (self.rollback_prepared if is_prepared else self.rollback)(connection, xid)

        dialect.do_begin_twophase = self.begin
        dialect.do_prepare_twophase = self.prepare
        dialect.do_commit_twophase = commit
        dialect.do_rollback_twophase = rollback
