"""Drivers that block, run in threads of their own so that the event loop never waits for them."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Engine, event
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

T = TypeVar("T")
_AHEAD = 500
"""How many rows of a stream are read when one is asked for."""


class Workers:
    """The threads of one service; made at first use."""

    def __init__(self, name: str, number: int) -> None:
        self._name, self._number = name, number
        self._pool: ThreadPoolExecutor | None = None

    def run(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run ``work`` in a thread when under a greenlet of the event loop, else here."""
        if not in_greenlet():
            return work(*args, **kwargs)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._number, thread_name_prefix=f"fedorm-{self._name}")
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await_only(loop.run_in_executor(self._pool, lambda: context.run(work, *args, **kwargs)))

    def close(self) -> None:
        """End the threads."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


class OffloadedCursor:
    """A DB-API cursor whose rows are all fetched in the thread that ran the statement, unless they are streamed."""

    def __init__(self, cursor: Any, workers: Workers) -> None:
        self._cursor, self._workers = cursor, workers
        self._rows: list[Any] | None = None
        self._ahead: deque[Any] = deque()
        self._position = 0
        self.is_open = True
        self.arraysize = 1

    def execute(self, statement: str, parameters: Any = None, context: Any = None) -> None:
        """Run a statement."""
        self._run(self._cursor.execute, statement, parameters, context)

    def executemany(self, statement: str, parameters: Any, context: Any = None) -> None:
        """Send many rows as one block."""
        self._run(self._cursor.executemany, statement, parameters, context)

    def _run(self, method: Callable[..., Any], statement: str, parameters: Any, context: Any) -> None:
        streams = bool(context is not None and context.execution_options.get("stream_results"))
        inserts = method == self._cursor.executemany and hasattr(self._cursor, "takes_columns")
        more = {"context": context} if inserts or _takes_context(self._cursor) else {}

        def run() -> list[Any] | None:
            method(statement, parameters, **more)
            if streams or not self._cursor.description:
                return None
            return list(self._cursor.fetchall())

        self._rows, self._position = self._workers.run(run), 0

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        if self._rows is None:
            if not self._ahead:
                # Not one by one: each visit to the thread costs more than the row.
                self._ahead.extend(self._workers.run(self._cursor.fetchmany, _AHEAD))
            return self._ahead.popleft() if self._ahead else None
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> Sequence[Any]:
        """Return the next rows."""
        if self._rows is None:
            size = size or self.arraysize
            if not self._ahead:
                return list(self._workers.run(self._cursor.fetchmany, size))
            return [self._ahead.popleft() for _ in range(min(size, len(self._ahead)))]
        start = self._position
        self._position = min(len(self._rows), start + (size or self.arraysize))
        return self._rows[start : self._position]

    def fetchall(self) -> Sequence[Any]:
        """Return the rest."""
        if self._rows is None:
            ahead = list(self._ahead)
            self._ahead.clear()
            return [*ahead, *self._workers.run(self._cursor.fetchall)]
        start, self._position = self._position, len(self._rows)
        return self._rows[start:] if start else self._rows

    def close(self) -> None:
        """Let go of the rows; of the connection, too, when a stream was left half-read."""
        if self.is_open:
            self.is_open = False
            if self._rows is None and getattr(self._cursor, "_stream_results", False):
                self._cursor.close()
            self._rows = []
            self._ahead.clear()

    async def _async_soft_close(self) -> None:
        """Do nothing: the rows are here."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class OffloadedConnection:
    """A DB-API connection whose cursors work in threads; ``disconnect`` really closes it."""

    def __init__(self, connection: Any, workers: Workers, disconnect: Callable[[Any], None]) -> None:
        self._connection, self._workers, self._disconnect = connection, workers, disconnect
        self._cursors: list[OffloadedCursor] = []

    def cursor(self, *args: Any) -> OffloadedCursor:
        """Return a cursor."""
        cursor = OffloadedCursor(self._connection.cursor(*args), self._workers)
        self._cursors = [*(other for other in self._cursors if other.is_open), cursor]
        return cursor

    def reset(self) -> None:
        """End the streams that were left half-read, so that the next session does not read on."""
        cursors, self._cursors = self._cursors, []
        for cursor in cursors:
            cursor.close()

    def commit(self) -> None:
        """Do nothing: what was sent is kept."""

    def rollback(self) -> None:
        """Do nothing: what was sent is kept."""

    def close(self) -> None:
        """Close the connection; what a thread still waits for there ends with an error."""
        self._disconnect(self._connection)

    terminate = close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def offload(
    engine: Engine, workers: Workers, disconnect: Callable[[Any], None], connect: Callable[..., Any] | None = None
) -> Engine:
    """Make ``engine`` connect through ``workers``; by the driver's ``connect`` unless another is given."""

    @event.listens_for(engine, "do_connect")
    def do_connect(dialect: Any, record: Any, arguments: Any, options: Any) -> OffloadedConnection:
        connection = workers.run(connect or dialect.loaded_dbapi.connect, *arguments, **options)
        return OffloadedConnection(connection, workers, disconnect)

    @event.listens_for(engine, "reset")
    def reset(connection: OffloadedConnection, record: Any, state: Any) -> None:
        connection.reset()

    return engine


def _takes_context(cursor: Any) -> bool:
    return hasattr(cursor, "make_external_tables") or type(cursor).__module__.startswith("clickhouse_sqlalchemy")
