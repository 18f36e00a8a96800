"""Stores whose clients belong to an event loop: one for tasks, and one that threads reach over their bridge's loop."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, TypeVar

from fedorm.bridge import ThreadBridge
from fedorm.exc import ServiceUnavailableError
from fedorm.stores.base import DocumentStore

S = TypeVar("S")


class TwoSided(DocumentStore, Generic[S]):
    """The part of a store that holds a client, and what belongs to it, for each of both sides while that is open."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sides: dict[bool, S] = {}
        """By whether it is that of threads."""

    @abstractmethod
    def make_side(self) -> S:
        """Make a client, which need not have connected yet."""

    @abstractmethod
    async def end_side(self, side: S) -> None:
        """Close a client."""

    @abstractmethod
    async def ping(self, *, sync: bool = False) -> None:
        """Get an answer, in time."""

    async def greet(self, *, sync: bool) -> None:
        """Do what comes first on a new side; raise what the service has against it."""
        await self.ping(sync=sync)

    def side(self, *, sync: bool) -> S:
        """Return an open side. Raises ``ServiceUnavailableError`` before it is open."""
        try:
            return self.sides[sync]
        except KeyError:
            raise ServiceUnavailableError(
                "is not open: enter the federation first", service=self.service, address=self.address
            ) from None

    # -- lifetime

    async def open(self) -> None:
        """Connect, and get an answer."""
        await self._open(sync=False)

    async def close(self) -> None:
        """Close the client."""
        await self._close(sync=False)

    def open_sync(self, bridge: ThreadBridge) -> None:
        """Connect a client of the bridge's loop."""
        bridge.run(self._open(sync=True))

    def close_sync(self, bridge: ThreadBridge) -> None:
        """Close the client of the bridge's loop."""
        bridge.run(self._close(sync=True))

    def ping_sync(self, bridge: ThreadBridge) -> None:
        """Get an answer over the client of the bridge's loop."""
        bridge.run(self.ping(sync=True))

    async def _open(self, *, sync: bool) -> None:
        self.sides[sync] = self.make_side()
        try:
            await self.greet(sync=sync)
        except BaseException:
            await self._close(sync=sync)
            raise

    async def _close(self, *, sync: bool) -> None:
        side = self.sides.pop(sync, None)
        if side is not None:
            await self.end_side(side)
