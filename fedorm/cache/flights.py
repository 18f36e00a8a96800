"""One run for all who ask the same at the same time, tasks and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from typing import Generic, TypeVar

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

T = TypeVar("T")


class Flights(Generic[T]):
    """Lets one run and the others wait for its result."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, Future[T]] = {}
        self._lock = threading.Lock()

    def run(self, key: Hashable, work: Callable[[], T], patience: float | None = None) -> tuple[T, bool]:
        """Return what ``work`` returns, and whether it was run here and not by another who asked for ``key``.

        Where the one that runs is cancelled another takes over. Where it fails the others run by themselves: an error
        is its own, as may be the connection that it comes from. So does who has waited for ``patience`` seconds.
        """
        while True:
            with self._lock:
                flight = self._under_way.get(key)
                if flight is None:
                    mine = self._under_way[key] = Future[T]()
            if flight is None:
                return self._lead(key, mine, work), True
            try:
                return _wait(flight, patience), False
            except _CancelledFlight:
                continue
            except (_FailedFlight, TimeoutError):
                return work(), True

    def _lead(self, key: Hashable, flight: Future[T], work: Callable[[], T]) -> T:
        try:
            result = work()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            # Not the error itself: its traceback would grow with each who raises it, and keep alive what it names.
            flight.set_exception(_FailedFlight() if isinstance(error, Exception) else _CancelledFlight())
            raise
        with self._lock:
            del self._under_way[key]
        flight.set_result(result)
        return result


class _FailedFlight(Exception):  # noqa: N818
    """The one that ran has failed."""


class _CancelledFlight(Exception):  # noqa: N818
    """The one that ran was cancelled."""


def _wait(flight: Future[T], patience: float | None) -> T:
    return await_only(_landing(flight, patience)) if in_greenlet() else flight.result(patience)


async def _landing(flight: Future[T], patience: float | None) -> T:
    """Wait on the running loop. Not by asyncio's ``wrap_future``: who is cancelled there cancels it for all."""
    loop = asyncio.get_running_loop()
    landed = asyncio.Event()

    def wake(_: Future[T]) -> None:
        with suppress(RuntimeError):  # The loop of one that did not wait for the end is closed.
            loop.call_soon_threadsafe(landed.set)

    flight.add_done_callback(wake)
    async with asyncio.timeout(patience):
        await landed.wait()
    return flight.result()
