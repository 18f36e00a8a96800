"""Between SQLAlchemy and the driver: counts what is sent, gives rows from the cache, notes what a commit changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.engine.cursor import CursorFetchStrategy, FullyBufferedCursorFetchStrategy

from fedorm.cache.codec import UnknownTypeError, digest
from fedorm.cache.results import CACHE_TTL, Ask, ttl_of
from fedorm.cache.rows import Rows
from fedorm.stats import UNOBSERVED, WHOLE, Recorder
from fedorm.stores.base import Capability
from fedorm.stores.touched import ANYTHING, Touched, raw_touched

if TYPE_CHECKING:
    from fedorm.stores.base import Store

TOUCHED = "fedorm_touched"
"""The execution option that tells what a string for the driver reads and changes; such a one is counted, too."""
_CHANGED, _BEGAN = "fedorm.changed", "fedorm.began"
"""In a connection's ``info``: the tables that its transaction has changed, and the cache's clock when it began."""
_DOUBLE_QUOTED = re.compile(r'"(?:[^"\\]|\\.|"")*"')
_AT_EACH_STATEMENT = {"READ COMMITTED", "READ UNCOMMITTED", "AUTOCOMMIT"}
"""Isolation levels at which a statement sees what was committed before it, whenever its transaction began."""


def watch(engine: Engine, store: Store) -> None:
    """Stand between ``engine`` and its driver on behalf of ``store``."""
    Watch(engine, store).take_place()


class Watch:
    """The methods of one engine's dialect by which SQLAlchemy speaks to the driver."""

    def __init__(self, engine: Engine, store: Store) -> None:
        self._dialect: Any = engine.dialect
        self._store = store
        self._takes_snapshots: bool | None = None

    def take_place(self) -> None:
        """Put this in the dialect's place."""
        dialect = self._dialect
        self._execute = dialect.do_execute
        dialect.do_execute = self.execute
        dialect.do_executemany = self._watched(dialect.do_executemany)
        self._execute_no_params = dialect.do_execute_no_params
        dialect.do_execute_no_params = self.execute_no_params
        dialect.do_commit = self._ending(dialect.do_commit, lambda connection: connection)
        dialect.do_rollback = self._undoing(dialect.do_rollback, lambda connection: connection)
        dialect.do_commit_twophase = self._ending(dialect.do_commit_twophase, _pooled)
        dialect.do_rollback_twophase = self._undoing(dialect.do_rollback_twophase, _pooled)

    # -- statements

    def execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Send a statement, or give the rows that are kept."""
        store = self._store
        if context is None or store.observer is not UNOBSERVED or self._takes_snapshots is not False:
            self._execute_watched(cursor, statement, parameters, context)
            return
        compiled = context.compiled
        if compiled is None or not getattr(compiled, "only_reads", False) or CACHE_TTL in context.execution_options:
            self._execute_watched(cursor, statement, parameters, context)
            return
        # The plainest of selects: every microsecond here is one more than SQLAlchemy's own.
        started = perf_counter()
        try:
            self._execute(cursor, statement, parameters, context)
        except BaseException:
            store.sent.failed(perf_counter() - started)
            raise
        took, rows = perf_counter() - started, cursor.rowcount
        store.sent.done(took, rows if rows >= 0 else max(0, _uncounted(cursor, parameters, context, store.sent)))

    def _execute_watched(self, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        ttl = ttl_of(context.execution_options) if context is not None else None
        if ttl is not None:
            ask = self._ask(statement, parameters, context, ttl)
            if ask is not None and self._store.cache is not None:
                rows = self._store.cache.rows(ask, lambda: self._fetch(cursor, statement, parameters, context))
                context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                    cursor, list(rows.description), rows.rows
                )
                return
        self._send(self._execute, cursor, statement, parameters, context)

    def execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        """Send a statement in which no sign stands for a parameter."""
        self._send(lambda *_: self._execute_no_params(cursor, statement, context), cursor, statement, (), context)

    def _watched(self, inner: Callable[..., None]) -> Callable[..., None]:
        def execute(cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
            self._send(inner, cursor, statement, parameters, context)

        return execute

    def _send(
        self, inner: Callable[..., None], cursor: Any, statement: str, parameters: Any, context: Any = None
    ) -> None:
        store, cache, compiled = self._store, self._store.cache, getattr(context, "compiled", None)
        if context is None:
            inner(cursor, statement, parameters, context)
            return
        # A string for the driver is looked at without sqlglot: the dialect's own at the connection are such.
        told: Touched | None = context.execution_options.get(TOUCHED)
        touched = told or raw_touched(statement) if compiled is None else getattr(compiled, "touched", ANYTHING)
        if cache is not None and self._begins_snapshots():
            info_of(context.root_connection.connection).setdefault(_BEGAN, cache.backend.clock)
        try:
            if compiled is None and told is None:
                inner(cursor, statement, parameters, context)  # Not counted.
            elif store.observer is UNOBSERVED:
                self._timed(inner, cursor, statement, parameters, context)
            else:
                with store.observer.step(store.service, WHOLE, lambda: self._shown(statement)) as seen:
                    seen.rows = self._timed(inner, cursor, statement, parameters, context)
        finally:
            if cache is not None and (touched.changes is None or touched.changes):
                self._note(touched, context)  # Also after a failure: where nothing is undone, some of it may be there.

    def _begins_snapshots(self) -> bool:
        """Say whether transactions of this database read a snapshot; known once it was connected to."""
        if self._takes_snapshots is None and hasattr(self._dialect, "default_isolation_level"):
            self._takes_snapshots = dialect_snapshots(self._dialect)
        return self._takes_snapshots is not False

    def _shown(self, statement: str) -> str:
        """Return a statement in which double quotes enclose names: where they enclose texts, without those."""
        names = self._dialect.identifier_preparer.initial_quote
        return statement if names == '"' else _DOUBLE_QUOTED.sub("?", statement)

    def _timed(
        self, inner: Callable[..., None], cursor: Any, statement: str, parameters: Any, context: Any
    ) -> int | None:
        """Send a statement and count it; return how many rows it gives or has changed, None where nobody knows."""
        started = perf_counter()
        try:
            inner(cursor, statement, parameters, context)
        except BaseException:
            self._store.sent.failed(perf_counter() - started)
            raise
        took, rows = perf_counter() - started, cursor.rowcount
        if rows < 0:
            rows = _uncounted(cursor, parameters, context, self._store.sent)
        self._store.sent.done(took, max(0, rows))
        return rows if rows >= 0 else None

    def _fetch(self, cursor: Any, statement: str, parameters: Any, context: Any) -> Rows:
        self._send(self._execute, cursor, statement, parameters, context)
        rows = [tuple(row) for row in cursor.fetchall()]
        if isinstance(context.cursor_fetch_strategy, CountedFetch):
            self._store.sent.came(len(rows))
        return Rows(tuple(tuple(column) for column in cursor.description), rows)

    # -- the cache

    def _ask(self, statement: str, parameters: Any, context: Any, ttl: float) -> Ask | None:
        """Return the question to the cache; None for a statement that has to be sent."""
        cache, options = self._store.cache, context.execution_options
        touched = getattr(context.compiled, "touched", ANYTHING)
        if cache is None or not touched.is_query or context._is_server_side:
            return None
        if options.get("stream_results") or options.get("yield_per"):
            return None
        connection = context.root_connection
        info = info_of(connection.connection)
        if reads_own_changes(info, touched.reads):
            return None
        place = self._store.place
        try:
            key = digest(place.identity, self._dialect.driver, statement, parameters)
        except UnknownTypeError:
            return None
        return Ask(key, place.read(touched.reads), ttl, snapshot_of(self._store, connection))

    def _note(self, touched: Touched, context: Any) -> None:
        """Keep in mind what the transaction has changed; where there is none the change is there already."""
        connection = context.root_connection
        info = info_of(connection.connection)
        changed: set[str] = info.setdefault(_CHANGED, set())
        changed.update(touched.changes if touched.changes is not None else {"*"})
        if Capability.TRANSACTIONS not in self._store.capabilities or level_of(connection) == "AUTOCOMMIT":
            self._tell(info.pop(_CHANGED))

    def _tell(self, changed: set[str]) -> None:
        if self._store.cache is not None:
            self._store.cache.changed(self._store.place.changed(None if "*" in changed else changed))

    def _ending(self, inner: Callable[..., None], pooled: Callable[[Any], Any]) -> Callable[..., None]:
        def commit(connection: Any, *args: Any, **options: Any) -> None:
            info = info_of(pooled(connection))
            info.pop(_BEGAN, None)
            changed = info.pop(_CHANGED, None)
            try:
                inner(connection, *args, **options)
            finally:
                if changed:  # Also after a failure: it may have come when the server had committed.
                    self._tell(changed)

        return commit

    def _undoing(self, inner: Callable[..., None], pooled: Callable[[Any], Any]) -> Callable[..., None]:
        def rollback(connection: Any, *args: Any, **options: Any) -> None:
            info = info_of(pooled(connection))
            info.pop(_BEGAN, None)
            info.pop(_CHANGED, None)
            inner(connection, *args, **options)

        return rollback


def _pooled(connection: Any) -> Any:
    return None if connection.closed or connection.invalidated else connection.connection


def info_of(pooled: Any) -> dict[Any, Any]:
    """Return what is remembered with a pooled connection; nothing with one that is just being made, or is gone."""
    try:
        info = None if pooled is None else pooled.info
    except NotImplementedError:
        info = None
    return {} if info is None else info


def note_change(connection: Any, touched: Touched) -> None:
    """Remember what a connection's transaction has changed past SQLAlchemy."""
    info = info_of(_pooled(connection))
    info.setdefault(_CHANGED, set()).update(touched.changes if touched.changes is not None else {"*"})


def has_changed(connection: Any) -> bool:
    """Say whether a connection's transaction is known to have changed something."""
    return bool(info_of(_pooled(connection)).get(_CHANGED))


def reads_own_changes(info: dict[Any, Any], reads: frozenset[str] | None) -> bool:
    """Say whether a connection's transaction has changed what a statement reads."""
    changed: set[str] = info.get(_CHANGED, set())
    return bool(changed) and (reads is None or "*" in changed or not reads.isdisjoint(changed))


def level_of(connection: Any) -> str | None:
    """Return a connection's isolation level, in capitals; None where the database has none."""
    level = connection.get_execution_options().get("isolation_level") or getattr(
        connection.dialect, "default_isolation_level", None
    )
    return None if level is None else str(level).replace("_", " ").upper()


def snapshot_of(store: Store, connection: Any) -> int | None:
    """Return the cache's clock when a connection's snapshot was taken; None if it is yet to be, or anew each time."""
    if Capability.TRANSACTIONS not in store.capabilities or level_of(connection) in _AT_EACH_STATEMENT:
        return None
    began: int | None = info_of(connection.connection).get(_BEGAN)
    # Where this connection alone takes snapshots nobody has looked at the clock: then nothing it reads is kept.
    return began if began is not None or dialect_snapshots(connection.dialect) else -1


class CountedFetch(CursorFetchStrategy):
    """Counts rows as they are fetched."""

    __slots__ = ("_sent",)

    def __init__(self, sent: Recorder) -> None:
        self._sent = sent

    def fetchone(self, *args: Any, **options: Any) -> Any:
        """Count one, if there is one."""
        row = super().fetchone(*args, **options)
        self._sent.came(row is not None)
        return row

    def fetchmany(self, *args: Any, **options: Any) -> Any:
        """Count some."""
        rows = super().fetchmany(*args, **options)
        self._sent.came(len(rows))
        return rows

    def fetchall(self, *args: Any, **options: Any) -> Any:
        """Count the rest."""
        rows = super().fetchall(*args, **options)
        self._sent.came(len(rows))
        return rows


def _uncounted(cursor: Any, parameters: Any, context: Any, sent: Recorder) -> int:
    """Return how many rows there are where the driver does not say; -1 where they are counted later, or not at all."""
    if context.executemany:
        return len(parameters)
    held = getattr(cursor, "_rows", None)  # What asynchronous drivers have fetched already.
    if held is not None:
        return len(held)
    if cursor.description is not None and not context._is_server_side:
        context.cursor_fetch_strategy = CountedFetch(sent)
    return -1


def dialect_snapshots(dialect: Any) -> bool:
    """Say whether transactions of this database read a snapshot unless told otherwise."""
    return getattr(dialect, "default_isolation_level", None) not in _AT_EACH_STATEMENT
