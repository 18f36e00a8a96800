"""How a relay learns that there are events, without asking all the time."""

from __future__ import annotations

import asyncio
import time


class Bell:
    """Wakes the workers of one source; may be rung by any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def ring(self) -> None:
        """Wake those who wait, or the next one that would."""
        self._rung.set()

    def ring_threadsafe(self) -> None:
        """Do the same in a thread of any kind, also when the loop is no more."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rung.set)

    def ring_at(self, moment: float) -> None:
        """Ring at a moment, in seconds since 1970; the earliest one asked for counts."""
        when = self._loop.time() + max(0.0, moment - time.time())
        if self._timer is not None and not self._timer.cancelled():
            if when >= self._timer.when() > self._loop.time():
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._rung.set)

    def hush(self) -> None:
        """Take note that whoever rings from now on tells of something new."""
        self._rung.clear()

    async def wait(self, seconds: float) -> None:
        """Return at the next ring, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()
