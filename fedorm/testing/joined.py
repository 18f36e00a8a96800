"""One transaction over a service's engine, which all others over it become savepoints of."""

from __future__ import annotations

import re
from itertools import count
from typing import Any, cast

from sqlalchemy import Connection, Engine, NullPool, event
from sqlalchemy.sql.elements import RollbackToSavepointClause, SavepointClause

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore

_savepoint: Any = SavepointClause
_back_to: Any = RollbackToSavepointClause
_READS = {
    "SELECT",
    "SHOW",
    "DESCRIBE",
    "EXPLAIN",
    "VALUES",
    "TABLE",
    "PRAGMA",
    "SET",
    "SAVEPOINT",
    "RELEASE",
    "ROLLBACK",
}
_DEFINES = {"CREATE", "ALTER", "DROP", "TRUNCATE", "RENAME"}
_CHANGES = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE)\b", re.IGNORECASE)


class OuterTransaction:
    """A transaction over one engine, begun at its first use and rolled back in the end.

    Until then every connection of the engine is the same one. What begins a transaction makes a savepoint, a commit
    keeps what came after it, a rollback goes back to it. SQLAlchemy calls this joining a session into an external
    transaction; here whatever uses the engine joins, in its own turn.
    """

    def __init__(self, store: SQLStore, engine: Engine) -> None:
        self.store, self.engine = store, engine
        self.joined: list[JoinedConnection] = []
        """The transactions under way."""
        self._names = count(1)
        self._own_pool = engine.pool
        self._connection: Connection | None = None

    def install(self) -> None:
        """Put this in the place of the engine's pool."""
        self.engine.pool = _JoinedPool(self.join, reset_on_return=None, dialect=self.engine.dialect)
        event.listen(self.engine, "before_cursor_execute", self._before_execute, retval=True)
        event.listen(self.engine, "set_connection_execution_options", self._refuse_isolation)

    def undo(self) -> None:
        """Roll back, and give the engine its pool again."""
        event.remove(self.engine, "before_cursor_execute", self._before_execute)
        event.remove(self.engine, "set_connection_execution_options", self._refuse_isolation)
        self.engine.pool = self._own_pool
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.rollback()
            finally:
                connection.close()

    def join(self) -> JoinedConnection:
        """Return a connection that is a part of this transaction."""
        return JoinedConnection(self, self._shared())

    def _shared(self) -> Any:
        if self._connection is None:
            self._connection = Connection(self.engine, connection=self._own_pool.connect())
            self._connection.begin()
        return self._connection.connection.dbapi_connection

    def new_name(self) -> str:
        """Return the name of a savepoint that there is not."""
        return f"fedorm_joined_{next(self._names)}"

    def compiled(self, clause: Any) -> str:
        """Return a statement about a savepoint in the database's words."""
        return str(clause.compile(dialect=self.engine.dialect))

    def _before_execute(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> tuple[str, Any]:
        joined = cast(Any, connection.connection.dbapi_connection)
        if not isinstance(joined, JoinedConnection):
            return statement, parameters
        word = statement.lstrip("( \n\t")[:10].split(None, 1)[0].upper() if statement.strip() else ""
        if word.startswith("BEGIN"):  # SQLite's, which its store sends itself.
            joined.has_savepoint = True
            return self.compiled(_savepoint(joined.name)), parameters
        if word in _DEFINES:
            self._refuse_definition(statement)
        writes = word not in _READS and (word != "WITH" or _CHANGES.search(statement) is not None)
        if Capability.TRANSACTIONS not in self.store.capabilities:
            if writes:
                raise self._error("has no transactions: what a test writes there could not be taken back")
            return statement, parameters
        joined.begin()
        if writes:
            joined.note_write()
        if word in ("SAVEPOINT", "RELEASE", "ROLLBACK"):
            # SQLAlchemy counts them from one in each session; MySQL forgets one when another gets its name.
            statement = statement.replace("sa_savepoint_", f"{joined.name}_")
        return statement, parameters

    def _refuse_definition(self, statement: str) -> None:
        if Capability.DDL_IN_TRANSACTIONS in self.store.capabilities or "TEMPORARY" in statement.upper():
            return
        raise self._error("commits when a table is made, changed or dropped: do that before the test's transaction")

    def _refuse_isolation(self, connection: Connection, options: dict[str, Any]) -> None:
        if "isolation_level" in options:
            raise self._error("takes no isolation level within a test's transaction, of which all others are a part")

    def _error(self, problem: str) -> UnsupportedOperationError:
        return cast(UnsupportedOperationError, self.store.error(UnsupportedOperationError, problem))

    def refuse_rollback(self) -> None:
        """Raise the error of a rollback that would take what another has written since with it."""
        raise self._error(
            "cannot undo a session's changes alone, as another one has written since in the same test's transaction: "
            "end the session before another one writes"
        )


class _JoinedPool(NullPool):
    """Gives the shared connection to everybody."""


class JoinedConnection:
    """A driver's connection of which only a savepoint is its user's own; all else is passed on."""

    def __init__(self, outer: OuterTransaction, shared: Any) -> None:
        self._outer, self._shared = outer, shared
        self.has_savepoint = self.wrote = self.is_overtaken = False
        self.name = outer.new_name()
        outer.joined.append(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shared, name)

    def begin(self) -> None:
        """Make the savepoint unless there is one."""
        if not self.has_savepoint:
            self._send(_savepoint(self.name))
            self.has_savepoint = True

    def note_write(self) -> None:
        """Take note that something is written: behind that the savepoints of all others are of no use."""
        self.wrote = True
        for other in self._outer.joined:
            if other is self:
                continue
            if other.wrote:
                other.is_overtaken = True
            else:
                other.has_savepoint = False  # Its next statement makes it anew, behind this.

    def commit(self) -> None:
        """Keep everything: it is undone with the outer transaction."""
        self._end()

    def rollback(self) -> None:
        """Go back to the savepoint. Raises ``UnsupportedOperationError`` when others have written since."""
        if self.has_savepoint:
            if self.is_overtaken:
                self._end()
                self._outer.refuse_rollback()
            for other in self._outer.joined:
                if other is not self and not other.wrote:
                    other.has_savepoint = False  # It may have come later, and go with this.
            self._send(_back_to(self.name))
        self._end()

    def _end(self) -> None:
        self.has_savepoint = self.wrote = self.is_overtaken = False
        self.name = self._outer.new_name()

    def close(self) -> None:
        """Take no part any more; the shared connection stays open."""
        if self in self._outer.joined:
            self._outer.joined.remove(self)

    terminate = close

    def _send(self, clause: Any) -> None:
        cursor = self._shared.cursor()
        try:
            cursor.execute(self._outer.compiled(clause))
        finally:
            cursor.close()
