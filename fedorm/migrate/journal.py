"""What a revision has done so far, where the database makes tables outside of transactions.

There a revision that is cut short has done its first part. Each of its statements is written down before it is sent;
when the revision is carried out again, those that are written down are left out, up to the last, which may not have
been carried out. In MySQL and MariaDB a statement that changes rows is written down in their transaction, so that it
was if that is there; one that changes tables is sent again: the server refuses to make what is there. In ClickHouse
that goes for what changes rows, too, but for an INSERT, of which nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    Column,
    Connection,
    Insert,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    event,
    insert,
    inspect,
    select,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.schema import CreateTable, DropTable, ExecutableDDLElement

from fedorm.migrate.clickhouse import STORE
from fedorm.migrate.errors import MigrationError
from fedorm.migrate.locks import JOURNAL
from fedorm.migrate.working import unpooled
from fedorm.stores.clickhouse_schema import Made

_DONE = {121, 1050, 1051, 1054, 1060, 1061, 1068, 1091, 1146, 1304, 1359, 1360, 1826}
"""The server's codes for what is there already, or is not there any more."""
_DONE_WORDS = ("already exist", "doesn't exist", "does not exist", "Cannot find column", "Wrong column name")
"""What ClickHouse says of the same."""
_READING = ("SELECT", "SHOW", "DESCRIBE", "EXPLAIN", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET")
_DDL = ("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE")

_table = Table(
    JOURNAL,
    MetaData(),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("revision", String(100), nullable=False),
    Column("statement", Text, nullable=False),
)


class Journal:
    """The journal of one run, over the connection that Alembic migrates."""

    def __init__(self, service: str, context: MigrationContext) -> None:
        self._service, self._context = service, context
        self._known: dict[int, str] = {}
        self._step: str | None = None
        self._last = 0
        self._plain: Callable[..., Any]
        self._place = 0
        self._within = False
        self._beside = False

    def attach(self) -> None:
        """Write down from now on what the context's revisions do."""
        context: Any = self._context
        steps, execute = context._migrations_fn, context.impl._exec
        self._plain = execute
        context._migrations_fn = lambda heads, same: self._each(steps, heads, same)
        context.impl._exec = lambda construct, *given, **more: self._execute(execute, construct, *given, **more)

    def _each(self, steps: Callable[..., Any], heads: Any, context: Any) -> Iterator[Any]:
        if steps.__name__ not in ("upgrade", "downgrade"):
            yield from steps(heads, context)
            if steps.__name__ == "do_stamp":  # That says where it stands.
                self._elsewhere(context.connection, DropTable(_table, if_exists=True))
            return
        connection: Connection = context.connection
        event.listen(connection, "before_cursor_execute", self._saw)
        try:
            begun = self._begun(connection, set(heads))
            for step in steps(heads, context):
                name = f"{'upgrade' if step.is_upgrade else 'downgrade'} {step.revision.revision}"
                self._begin(connection, name, begun)
                begun = None
                yield step
                self._step = None
                self._elsewhere(connection, DropTable(_table))
            if begun is not None:
                raise MigrationError(self._cut_short(begun))
        finally:
            event.remove(connection, "before_cursor_execute", self._saw)

    # -- what was begun before

    def _begun(self, connection: Connection, heads: set[str]) -> str | None:
        """Return the step that was cut short, if one was."""
        with self._other(connection) as other:
            if not inspect(other).has_table(JOURNAL):
                return None
            rows = other.execute(select(_table).order_by(_table.c.place)).all()
        self._known = {one.place: one.statement for one in rows}
        self._last = max((abs(place) for place in self._known), default=0)
        if all(place < 0 for place in self._known):  # Not even its first statement was carried out.
            self._elsewhere(connection, DropTable(_table))
            return None
        step = str(rows[0].revision)
        direction, _, revision = step.partition(" ")
        if (direction == "upgrade") == (revision in heads):  # The end itself was cut short.
            self._elsewhere(connection, DropTable(_table))
            return None
        return step

    def _begin(self, connection: Connection, step: str, begun: str | None) -> None:
        if begun is not None and begun != step:
            raise MigrationError(self._cut_short(begun))
        if begun is None:
            self._known, self._last = {}, 0
            self._elsewhere(connection, self._creation())
        elif 0 in self._known:
            raise MigrationError(
                f"{self._cut_short(begun)}. It has sent statements past Alembic's operations, so that it is not known "
                f"which: {self._known[0]}"
            )
        self._step, self._place = step, 0

    def _creation(self) -> Any:
        return CreateTable(_table, if_not_exists=True)

    def _cut_short(self, step: str) -> str:
        direction, _, revision = step.partition(" ")
        known = [f"{place}. {' '.join(one.split())}" for place, one in sorted(self._known.items()) if place > 0]
        target = revision if direction == "upgrade" else f"{revision}-1"
        return (
            f"service {self._service!r}: the {direction} by revision {revision} was cut short, after these statements, "
            f"of which the last may not have been carried out: {'; '.join(known)}. Go on with  fedorm migrate "
            f"{direction} --service {self._service} {target},  or undo them by hand, and then  DROP TABLE {JOURNAL}"
        )

    # -- statements

    def _execute(self, execute: Callable[..., Any], construct: Any, *given: Any, **more: Any) -> Any:
        if self._step is None or getattr(construct, "table", None) is self._context._version:
            return execute(construct, *given, **more)
        self._place += 1
        place, said = self._place, self._said(construct)
        before = self._known.get(place)
        if before is not None:
            if before != said:
                other = f"Statement {place} of it is another one now: {' '.join(said.split())}"
                raise MigrationError(f"{self._cut_short(self._step)}. {other}")
            if place < self._last or not self._is_in_doubt(construct, said):
                return None
            try:
                return self._run(execute, construct, *given, **more)
            except Exception as error:
                if not self._is_done(error):
                    self._forget(place)
                    raise
                return None
        self._write(place, said)
        try:
            return self._run(execute, construct, *given, **more)
        except BaseException:
            self._forget(place)
            raise

    def _run(self, execute: Callable[..., Any], *given: Any, **more: Any) -> Any:
        self._within = True
        try:
            return execute(*given, **more)
        finally:
            self._within = False

    def _said(self, construct: Any) -> str:
        if isinstance(construct, str):
            return construct
        return str(construct.compile(dialect=self._context.dialect))

    def _write(self, place: int, said: str) -> None:
        row = {"place": place, "revision": self._step, "statement": said}
        self._run(self._connection.execute, insert(_table), [row])

    def _is_in_doubt(self, construct: Any, said: str) -> bool:
        """Say whether the last statement that was written down may not have been carried out, and can be sent again."""
        return isinstance(construct, ExecutableDDLElement) or said.lstrip().upper().startswith(_DDL)

    def _is_done(self, error: Exception) -> bool:
        arguments: Any = getattr(getattr(error, "orig", None), "args", ())
        return isinstance(error, sa_exc.DBAPIError) and bool(arguments) and arguments[0] in _DONE

    def _forget(self, place: int) -> None:
        """Of a statement that was refused: it may be another one the next time; those before it are done."""
        self._connection.rollback()
        for statement in self._forgetting(place):
            self._elsewhere(self._connection, statement)

    def _forgetting(self, place: int) -> Iterator[Any]:
        if -place not in self._known:
            yield insert(_table).values(place=-place, revision=self._step, statement="")
        yield delete(_table).where(_table.c.place == place)

    @property
    def _connection(self) -> Connection:
        connection = self._context.impl.connection
        assert connection is not None
        return connection

    def _elsewhere(self, connection: Connection, statement: Any) -> None:
        with self._other(connection) as other:
            other.execute(statement)
            other.commit()

    def _other(self, connection: Connection) -> AbstractContextManager[Connection]:
        """Return a connection for what is not to be in the migration's transaction."""
        return unpooled(connection.engine)

    def _saw(self, connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        """Note that a revision has sent something to the connection itself."""
        if self._step is None or self._within or self._beside or statement.lstrip().upper().startswith(_READING):
            return
        if JOURNAL in statement or self._context.version_table in statement:
            return
        self._beside = True
        self._write(0, statement)


class ClickHouseJournal(Journal):
    """The journal where nothing is a transaction."""

    def _other(self, connection: Connection) -> AbstractContextManager[Connection]:
        """Return the same: there are no transactions, and chDB has one connection alone."""
        return nullcontext(connection)

    def _creation(self) -> Any:
        context: Any = self._context
        store = context.opts[STORE]
        return Made.of(JOURNAL, list(_table.columns), "MergeTree ORDER BY place", store, context.dialect)

    def _is_in_doubt(self, construct: Any, said: str) -> bool:
        if isinstance(construct, Insert) or said.lstrip().upper().startswith("INSERT"):
            cut_short = self._cut_short(str(self._step))
            raise MigrationError(
                f"{cut_short}. The last one inserts rows, which cannot be done again: see whether they "
                f"are there, go on by hand, and then  fedorm migrate stamp --service {self._service}"
            )
        return True

    def _is_done(self, error: Exception) -> bool:
        return any(words in str(error) for words in _DONE_WORDS)

    def _forget(self, place: int) -> None:
        """By a mutation, which is waited for."""
        if -place not in self._known:
            self._write(-place, "")
        self._run(self._plain, delete(_table).where(_table.c.place == place))
