"""What leads from a source to one target: retries, rests, and telling events that fail from a target that is down."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedorm.exc import AuthenticationError, ConfigurationError, PoolExhaustedError, ServiceUnavailableError
from fedorm.relay.matching import Types
from fedorm.relay.sources import Waiting
from fedorm.relay.targets import FencedTarget, PartlyDeliveredError, Target, TargetUnavailableError

if TYPE_CHECKING:
    from fedorm.federation import Federation

logger = logging.getLogger("fedorm.outbox")
_FIRST_WAIT, _LONGEST_WAIT = 0.25, 300.0
_LONGEST_REST = 30.0
_ENOUGH = 10
"""After how many failures, and no success, the rest of a batch is left for later."""


def backoff(failures: int, longest: float = _LONGEST_WAIT) -> float:
    """Return how many seconds to wait after so many failures: twice as long each time, and never all at once."""
    return min(longest, _FIRST_WAIT * 2.0 ** min(failures - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311


def is_down(error: BaseException) -> bool:
    """Say whether an error is about the target, and would have come with any event."""
    return isinstance(error, TargetUnavailableError | ServiceUnavailableError | PoolExhaustedError)


def in_words(error: BaseException) -> str:
    """Return an error as it is kept beside its event."""
    return f"{type(error).__name__}: {error}"[:2000]


@dataclass(slots=True)
class Given:
    """What became of events that a target was given."""

    took: list[Waiting] = field(default_factory=list)
    failed: dict[str, tuple[Waiting, str]] = field(default_factory=dict)
    """By key, the event that the target could not take, and why."""
    behind: list[Waiting] = field(default_factory=list)
    """Events that wait behind those, or were not tried."""
    down: str | None = None
    """Why the target takes nothing at the moment."""


class Line:
    """A target of this relay, and how it has been doing here."""

    def __init__(self, target: Target, attempts: int | None) -> None:
        self.target = target
        self.name = target.name
        self.types = Types(target.types)
        self.attempts = attempts
        """How often an event is tried before it is put aside; None: it is never."""
        self.delivered = self.failures = 0
        self.last_error: str | None = None
        self.resume_at = 0.0
        """When the target is tried again, in seconds since 1970."""
        self._rests = 0
        self._is_open = False
        self._opening = asyncio.Lock()

    def is_resting(self, now: float) -> bool:
        """Say whether the target was down, and is to be left alone for now."""
        return now < self.resume_at

    async def open(self, federation: Federation) -> None:
        """Open the target; one that is down is opened later. Raises what no waiting mends."""
        async with self._opening:
            if self._is_open or self.is_resting(time.time()):
                return
            try:
                await self.target.open(federation)
                self._is_open = True
            except BaseException as error:
                await self.close()
                if not isinstance(error, Exception) or isinstance(error, ConfigurationError | AuthenticationError):
                    raise
                self._rest(in_words(error))

    async def close(self) -> None:
        """Close the target."""
        self._is_open = False
        await self.target.close()

    def _rest(self, error: str) -> None:
        self._rests += 1
        self.last_error = error
        self.resume_at = time.time() + backoff(self._rests, _LONGEST_REST)

    async def give(self, events: Sequence[Waiting], federation: Federation, *, token: int | None = None) -> Given:
        """Hand events on, in their order for each key; never raises for what a target does.

        ``token`` is their batch's.
        """
        given = Given()
        try:
            await self.open(federation)
        except Exception as refusal:
            # No waiting mends it, but somebody may; and the other targets go on.
            logger.warning("target %r of events cannot be opened: %s", self.name, in_words(refusal))
            self._rest(in_words(refusal))
        if self.is_resting(time.time()):
            given.behind, given.down = list(events), self.last_error
            return given
        await self._give(events, given, token)
        self.delivered += len(given.took)
        self.failures += len(given.failed)
        if given.down is not None:
            self._rest(given.down)
        elif given.took:
            self._rests, self.resume_at = 0, 0.0
        for _, error in given.failed.values():
            self.last_error = error
        return given

    async def _give(self, events: Sequence[Waiting], given: Given, token: int | None) -> None:
        """Hand events on together; where that fails, by halves, until what fails is alone."""
        free = [one for one in events if one.event.key not in given.failed]
        given.behind += [one for one in events if one.event.key in given.failed]
        if not free:
            return
        if given.down is not None or (not given.took and len(given.failed) >= _ENOUGH):
            given.behind += free
            return
        try:
            await self._deliver(free, token)
        except Exception as error:
            if isinstance(error, PartlyDeliveredError):
                given.took += free[: error.delivered]
                free = free[error.delivered :]
            if is_down(error.__cause__ or error) or is_down(error):
                given.down = in_words(error)
                given.behind += free
            elif len(free) == 1:
                given.failed[free[0].event.key] = (free[0], in_words(error))
            elif free:
                middle = len(free) // 2
                await self._give(free[:middle], given, token)
                await self._give(free[middle:], given, token)
        else:
            given.took += free

    async def _deliver(self, waiting: Sequence[Waiting], token: int | None) -> None:
        target, events = self.target, [one.event for one in waiting]
        if token is not None and isinstance(target, FencedTarget):
            await target.deliver_fenced(events, {one.partition: token for one in waiting})
        else:
            await target.deliver(events)
