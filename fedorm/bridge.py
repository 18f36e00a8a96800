"""How a session's synchronous core waits for work that is asynchronous."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

T = TypeVar("T")
_GRACE = 10.0
"""How many seconds a cancellation waits for what must not be left half done."""

_turn: contextvars.ContextVar[threading.Lock] = contextvars.ContextVar("fedorm_turn")


@contextmanager
def waiting() -> Iterator[None]:
    """Let the other threads of ``side_by_side`` work, while this one waits for a service inside the block."""
    turn = _turn.get(None)
    if turn is None:
        yield
        return
    turn.release()
    try:
        yield
    finally:
        turn.acquire()


class Turns:
    """A lock for tasks that may be used by one event loop after the other; asyncio's own belongs to its first."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._lock = loop, asyncio.Lock()
        await self._lock.acquire()

    async def __aexit__(self, *error: object) -> None:
        self._lock.release()


class Bridge(Protocol):
    """Runs coroutines to their end on behalf of code that cannot await."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for ``work`` and return its result."""

    def side_by_side(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run blocking ``jobs``, at the same time where the drivers allow it; return their results in order."""

    def to_its_end(self, job: Callable[[], T]) -> tuple[T, BaseException | None]:
        """Run ``job`` also if its caller is cancelled meanwhile; return its result, and the cancellation."""

    def can_wait(self) -> bool:
        """Say whether the calling code may wait here without blocking an event loop."""


class AsyncBridge:
    """Waits on the event loop that the session's greenlet runs under."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for ``work``; outside a greenlet this is an error, as it would block the loop."""
        if not in_greenlet():
            work.close()
        return await_only(work)

    def side_by_side(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run each job in a task of its own; the first failure cancels the others and is raised alone."""
        if len(jobs) == 1:
            return [jobs[0]()]

        async def gather() -> list[T]:
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(greenlet_spawn(job)) for job in jobs]
            except BaseExceptionGroup as errors:
                raise _first(errors) from None
            return [task.result() for task in tasks]

        return await_only(gather())

    def to_its_end(self, job: Callable[[], T]) -> tuple[T, BaseException | None]:
        """Run ``job`` in a task of its own, which a cancellation of the caller's lets finish, for some seconds."""

        async def wait() -> tuple[T, BaseException | None]:
            task = asyncio.create_task(greenlet_spawn(job))
            cancelled: BaseException | None = None
            while not task.done():
                try:
                    await asyncio.wait({task}, timeout=None if cancelled is None else _GRACE)
                    if cancelled is not None:
                        task.cancel()  # No effect on one that is done.
                except asyncio.CancelledError as error:
                    cancelled = error
            return task.result(), cancelled

        return await_only(wait())

    def can_wait(self) -> bool:
        """Be true under ``awaitable_attrs`` and inside the session's own calls."""
        return in_greenlet()


class ThreadBridge:
    """Runs coroutines on an event loop in a thread of its own, for sessions in code that is not async."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fedorm-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Block the calling thread until ``work`` is done; an interrupt cancels it."""
        context = contextvars.copy_context()
        started: asyncio.Future[T] | Any = asyncio.run_coroutine_threadsafe(_in(context, work), self._loop)
        try:
            with waiting():
                result: T = started.result()
            return result
        except BaseException:
            started.cancel()
            raise

    def side_by_side(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run the jobs in threads of which one works at a time, as long as the others wait for their services.

        So the session they share is never used by two at once, as it is never by two greenlets. All jobs end before
        this returns; of several failures the first job's is raised.
        """
        if len(jobs) == 1:
            return [jobs[0]()]
        turn = threading.Lock()

        def take_turns(job: Callable[[], T]) -> T:
            _turn.set(turn)
            with turn:
                return job()

        with ThreadPoolExecutor(len(jobs), thread_name_prefix="fedorm-hop") as pool:
            started = [pool.submit(contextvars.copy_context().run, take_turns, job) for job in jobs]
        return [one.result() for one in started]

    def to_its_end(self, job: Callable[[], T]) -> tuple[T, BaseException | None]:
        """Run ``job``: nobody cancels a thread."""
        return job(), None

    def can_wait(self) -> bool:
        """Be true: a thread may block."""
        return True

    def close(self) -> None:
        """Stop the loop and join its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _in(context: contextvars.Context, work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.get_running_loop().create_task(work, context=context)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
