"""How a thread that reads a log hands chunks to the event loop, and waits when those are not taken."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import suppress

from fedorm.stores.feeds import Chunk

PART = 5_000
"""How many changes a chunk holds, about."""
_MOST = 2 * PART
"""How many changes may wait to be taken."""


class ChunkQueue:
    """A bounded queue from one thread to one task of the loop on which it is made.

    Whole transactions that wait are joined: who takes them fast gets each at once, who is slow gets many together.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._state = threading.Condition()
        self._waiting: deque[tuple[Chunk, bool]] = deque()
        self._size = 0
        self._closed = self._ended = False
        self._sleeps = False
        self._error: BaseException | None = None

    # -- the thread's side

    def put(self, chunk: Chunk, *, whole: bool) -> bool:
        """Hand over a chunk, of whole transactions or of a part of one; False once nobody takes it any more."""
        with self._state:
            while self._size >= _MOST and not self._closed:
                self._state.wait()
            if self._closed:
                return False
            last, is_whole = self._waiting[-1] if self._waiting else (None, False)
            if last is not None and is_whole and whole and len(last.changes) + len(chunk.changes) <= PART:
                last.changes.extend(chunk.changes)
                last.position = chunk.position
                last.committed_at = chunk.committed_at or last.committed_at
            else:
                self._waiting.append((chunk, whole))
            self._size += len(chunk.changes)
            sleeps, self._sleeps = self._sleeps, False
        if sleeps:  # Not for each: the loop is told through a socket.
            self._wake()
        return True

    def end(self, error: BaseException | None) -> None:
        """Tell that nothing comes any more, as the thread's last act."""
        with self._state:
            self._error, self._ended = error, True
        self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(self._arrived.set)

    # -- the loop's side

    async def get(self) -> Chunk:
        """Return the next chunk; raise what the thread has ended with, once there is none."""
        while True:
            self._arrived.clear()
            with self._state:
                if self._waiting:
                    chunk, _ = self._waiting.popleft()
                    self._size -= len(chunk.changes)
                    self._state.notify()
                    return chunk
                if self._ended:
                    raise self._error or EOFError("the log has ended")
                self._sleeps = True
            await self._arrived.wait()

    async def close(self) -> None:
        """Take nothing any more, and wait for the thread's end also if cancelled."""
        with self._state:
            self._closed = True
            self._state.notify()
        cancelled: asyncio.CancelledError | None = None
        while self._lives():
            try:
                await self._arrived.wait()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _lives(self) -> bool:
        self._arrived.clear()
        return not self._ended
