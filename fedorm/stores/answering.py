"""What every store is asked about itself: whether it answers, which version it is, what it lacks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod

from fedorm.bridge import ThreadBridge
from fedorm.stores.findings import Finding, Needs


class Answering(ABC):
    """The part of a store that health checks and ``fedorm doctor`` ask; all but ``ping_sync`` of one that is open."""

    @abstractmethod
    async def ping(self) -> None:
        """Get an answer from the server, or raise a ``StoreError``."""

    @abstractmethod
    def ping_sync(self, bridge: ThreadBridge) -> None:
        """Do the same for threads, over what ``open_sync`` has opened."""

    async def round_trip(self) -> float:
        """Return how long an answer takes, in milliseconds."""
        started = time.perf_counter()
        await self.ping()
        return (time.perf_counter() - started) * 1000

    async def version(self) -> str | None:
        """Return the server's version in its own words; None where it has none."""
        return None

    async def findings(self, needs: Needs) -> list[Finding]:
        """Return what an open service lacks of what its models need: version, privileges, settings, tables.

        Asks, and changes nothing. What its log has to tell is asked of ``change_feed()``.
        """
        return []
