"""What every SQL database is asked about itself: its version, and whether the models' tables are there as declared."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, TypeVar

from sqlalchemy import Connection, Engine, Inspector, Table, TextClause, inspect, select, text
from sqlalchemy import exc as sa_exc
from sqlalchemy.util import greenlet_spawn

from fedorm.exc import ServiceTimeoutError, ServiceUnavailableError, StoreError
from fedorm.stores.base import Capability
from fedorm.stores.findings import Finding, Needs, listed, too_old
from fedorm.stores.sql_reading import SQLReading
from fedorm.stores.twophase import TwoPhase

T = TypeVar("T")
_MAKE = "make what is missing with  fedorm migrate upgrade,  or  await fed.create_all()"
_MAKE_COLUMN = "bring the table to what the models are with a migration, or correct the model"


class SQLExamining(TwoPhase, SQLReading):
    """The part of a SQL store that looks at its server for what its models need."""

    oldest: ClassVar[Sequence[int]] = ()
    """The version from which on it is known."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine for code under a greenlet."""

    def asks_version(self) -> TextClause:
        """Return the query for the server's version."""
        return text("SELECT version()")

    def finding_of_version(self, version: str) -> Finding | None:
        """Compare it with the oldest one."""
        return too_old(self.kind, version, self.oldest)

    async def version(self) -> str | None:
        """Ask the server."""
        found = await self._asked(lambda connection: connection.scalar(self.asks_version()))
        return None if found is None else str(found).partition(" ")[0]

    async def findings(self, needs: Needs) -> list[Finding]:
        """Look at the server, at what the user may do, and at the tables."""
        version = await self.version()
        old = self.finding_of_version(version) if version is not None else None
        found = await self._asked(lambda connection: list(self.examine(connection, needs)))
        return [*([old] if old is not None else []), *found]

    async def _asked(self, work: Callable[[Connection], T]) -> T:
        def run() -> T:
            with self.engine.connect() as connection:
                return work(connection)

        return await greenlet_spawn(run)

    def examine(self, connection: Connection, needs: Needs) -> Iterator[Finding]:
        """Ask for all but the version; ``connection`` is rolled back afterwards."""
        if needs.two_phase and Capability.TWO_PHASE in self.capabilities:
            refusal = self.refusal_of(connection)
            if refusal is not None:
                yield refusal
        asked = inspect(connection)
        columns = {table: _missing_columns(asked, connection, table) for table in needs.tables}
        there = [table for table, missing in columns.items() if missing is not None]
        if needs.compares:
            if absent := [table.fullname for table, missing in columns.items() if missing is None]:
                yield Finding(f"there is no table {listed(absent)}", _MAKE, "table")
            for table in there:
                if missing := columns[table]:
                    yield Finding(f"{table.fullname} has no column {listed(missing)}", _MAKE_COLUMN, "table")
        yield from self.examine_rights(connection, needs, there)

    def examine_rights(self, connection: Connection, needs: Needs, there: Sequence[Table]) -> Iterator[Finding]:
        """Ask what the user may do, of the tables that are ``there``; here, try to read them."""
        for table in there:
            try:
                connection.execute(select(table).limit(0))
            except (sa_exc.DBAPIError, StoreError) as error:
                _raise_if_gone(error)
                connection.rollback()
                problem = self.settings.scrub(str(getattr(error, "orig", None) or error).strip())
                yield Finding(f"{table.fullname} cannot be read ({problem})", "let the user read it", "privilege")


def _raise_if_gone(error: Exception) -> None:
    if isinstance(error, ServiceUnavailableError | ServiceTimeoutError):
        raise error


def _missing_columns(asked: Inspector, connection: Connection, table: Table) -> list[str] | None:
    """Return the columns that a table has not got, none where the user may not know; None without the table."""
    try:
        if not asked.has_table(table.name, schema=table.schema):
            return None
        there = {column["name"].lower() for column in asked.get_columns(table.name, schema=table.schema)}
    except (sa_exc.DBAPIError, StoreError) as error:
        _raise_if_gone(error)
        connection.rollback()
        return []
    return [column.name for column in table.columns if column.name.lower() not in there]
