"""One statement's finish, run in a thread for a session that must not block, and ended when nobody waits any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import duckdb
import pyarrow as pa
from sqlglot import exp

from fedorm.exc import UnsupportedQueryError
from fedorm.query.finish import Finisher, Finishing
from fedorm.query.profile import steps_of
from fedorm.stores.offload import Workers

T = TypeVar("T")
_AGAIN = 0.05
"""Seconds after which a statement that goes on is interrupted again."""


class OutsideError(UnsupportedQueryError):
    """DuckDB could not finish a statement for which it reads services by itself."""


class DefectError(UnsupportedQueryError):
    """DuckDB has a defect that a statement has met; without its optimizer it may not meet it."""


class Finish:
    """Makes the result of a statement out of what its steps have found, and of views of what DuckDB reads itself."""

    def __init__(
        self,
        finisher: Finisher,
        workers: Workers,
        tables: Mapping[str, pa.Table],
        views: Mapping[str, exp.Query],
        sql: str,
        parameters: Mapping[str, Any],
    ) -> None:
        self._finisher, self._workers = finisher, workers
        self._tables, self._views = tables, views
        self._sql, self._parameters = sql, parameters
        self._running: Finishing | None = None
        self._database: duckdb.DuckDBPyConnection | None = None
        self._optimizes = True
        self._ended = False
        self._ahead: list[tuple[Any, ...]] = []
        self._turn = threading.Lock()
        """Held while a thread works with the connection."""

    def rows(self) -> list[tuple[Any, ...]]:
        """Return all rows."""
        return self._whole(lambda running: running.rows())

    def table(self) -> pa.Table:
        """Return the result as Arrow; integers stay integers where they fit into 64 bits."""
        return self._whole(lambda running: running.table())

    def measured(self) -> tuple[dict[str, Any], pa.Table]:
        """Return what DuckDB read by itself, measured by step, and the result."""

        def read(running: Finishing) -> tuple[dict[str, Any], pa.Table]:
            table = running.table()
            return steps_of(running.profiled(), self._views), table

        return self._whole(read, profile=True)

    def _whole(self, read: Callable[[Finishing], T], *, profile: bool = False) -> T:
        def attempt() -> T:
            with self._told():
                try:
                    return read(self._start(profile=profile))
                finally:
                    self._let_go()

        def work() -> T:
            with self._turn:
                try:
                    return self._twice(attempt)
                finally:
                    self._end()

        return self._do(work)

    def _twice(self, attempt: Callable[[], T]) -> T:
        """Try without DuckDB's optimizer what meets a defect with it: most of them are there."""
        try:
            return attempt()
        except DefectError:
            if self._ended or not self._optimizes:
                raise
            self._optimizes = False
            return attempt()

    # -- streaming

    def started(self) -> Finish:
        """Run the statement and read its first rows."""

        def attempt() -> list[tuple[Any, ...]]:
            with self._told():
                try:
                    return self._start().batch()
                except BaseException:
                    self._let_go()
                    raise

        def work() -> list[tuple[Any, ...]]:
            with self._turn:
                try:
                    return self._twice(attempt)
                except BaseException:
                    self._end()
                    raise

        self._ahead = self._do(work)
        return self

    def batch(self) -> Sequence[tuple[Any, ...]]:
        """Return the next rows, none at the end."""
        if self._ahead:
            rows, self._ahead = self._ahead, []
            return rows

        def work() -> list[tuple[Any, ...]]:
            with self._turn, self._told():
                rows: list[tuple[Any, ...]] = []
                try:
                    if self._running is not None and not self._ended:
                        rows = self._running.batch()
                finally:
                    if not rows or self._ended:
                        self._end()
                return rows

        return self._do(work)

    def close(self) -> None:
        """End the statement if it still runs, and let go of what it holds."""
        self._ended = True
        running = self._running
        if running is None:
            return
        if self._turn.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._turn.release()
        else:  # A thread works with it.
            self._stop(running)

    # -- in the thread

    def _start(self, *, profile: bool = False) -> Finishing:
        if self._ended:
            raise duckdb.InterruptException("nobody waits for the result any more")
        running = self._finisher.start(self._tables, self._views, optimizes=self._optimizes)
        self._running, self._database = running, running.database
        if profile:
            running.profile()
        running.run(self._sql, self._parameters)
        return running

    def _let_go(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.close()

    def _end(self) -> None:
        self._ended, self._tables = True, {}
        self._let_go()

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return self._workers.run(work)
        except BaseException:
            self._ended = True
            running = self._running
            if running is not None:
                self._stop(running)
            raise

    def _stop(self, running: Finishing) -> None:
        """Interrupt what a thread is doing with the connection until it has ended; the thread then closes it.

        Not once: DuckDB forgets an interruption for which its statement has not begun yet.
        """

        def interrupt() -> None:
            while not self._turn.acquire(timeout=_AGAIN):
                with suppress(duckdb.Error):  # It may be closed by now.
                    running.interrupt()
            self._turn.release()

        running.interrupt()
        threading.Thread(target=interrupt, name="fedorm-interrupt", daemon=True).start()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn DuckDB's errors into fedorm's."""
        try:
            yield
        except duckdb.OutOfMemoryException as error:
            raise UnsupportedQueryError(
                "the finish needs more memory than the federation's memory_limit: raise it, or give it a "
                f"spill_directory with more space ({_first_line(error)})"
            ) from error
        except duckdb.InterruptException:
            raise
        except (duckdb.InternalException, duckdb.FatalException) as error:
            if self._database is not None:
                self._finisher.renew(self._database)
            raise DefectError(f"DuckDB has failed by a defect of its own: {_first_line(error)}") from error
        except duckdb.Error as error:
            kind = OutsideError if self._views else UnsupportedQueryError
            # What a scanner says may repeat its connection's settings.
            text = "" if self._views and isinstance(error, duckdb.IOException) else f": {_first_line(error)}"
            raise kind(f"DuckDB cannot finish the statement{text}") from (None if not text else error)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
