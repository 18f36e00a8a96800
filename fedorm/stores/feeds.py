"""Change data capture: what a store's own log says was committed, in order, from a position on.

A feed is asked for by ``store.change_feed(name, shapes)``; ``name`` is its own among all feeds of the server's database
and becomes a part of what is made there, a replication slot for example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedorm.stores.findings import Finding
from fedorm.stores.rows import Key, RowShape, Values


@dataclass(slots=True)
class Change:
    """One committed change of one row."""

    shape: RowShape
    kind: Literal["upsert", "delete", "truncate"]
    key: Key = ()
    """After the change; of a deleted row, as it was. Empty when all rows are gone at once."""
    values: Values | None = None
    """The row after an upsert. A field that the log does not tell, as it was not changed, is not in it."""
    before: Values | None = None
    """What the log tells of the row before: all, its key alone, or nothing. The old key, if that has changed."""


@dataclass(slots=True)
class Chunk:
    """Changes in the order of their commits: of one large transaction a part, else of one or several whole ones."""

    changes: list[Change] = field(default_factory=list)
    position: str | None = None
    """Where to go on once all of this is written; None in a part of a transaction that is not its last."""
    committed_at: float | None = None
    """When the last of the transactions was committed, in seconds since 1970, by its server; None if unknown."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What lies between a position and the end of the log."""

    bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What a server keeps of its log for one feed alone, on its disk, until that feed has read it."""

    name: str
    """What the server calls who it is kept for, such as a replication slot."""
    bytes: int | None
    """None: there is no such thing at the server."""
    limited: bool = False
    """Whether the server gives it up by itself when it gets too much."""
    lost: str | None = None
    """Why the server has given it up."""


class ChangeFeed(ABC):
    """Reads the log of one database for some of its tables. One task uses it at a time.

    Positions are texts that only the feed itself reads, except that they are the same wherever they are saved.
    Raises ``StoreError`` for what is the service's fault and may pass, ``ConfigurationError`` for a setting or
    privilege that is missing, and ``FeedLostError`` when the log does not reach back to a position any more.
    """

    shapes: Sequence[RowShape]

    @abstractmethod
    async def findings(self) -> list[Finding]:
        """Return what stands against it on this server.

        Asks for settings, privileges and tables alone, and changes nothing.
        """

    async def problems(self) -> list[str]:
        """Return the same as sentences, each with what to do."""
        return [str(finding) for finding in await self.findings()]

    async def whole_row_findings(self, shapes: Sequence[RowShape] | None = None) -> list[Finding]:
        """Return what stands against ``Change.before`` being the whole row, for these shapes or for all."""
        return []

    @abstractmethod
    async def create(self) -> str:
        """Make what the server needs (slot, publication), unless it is there, and return a position.

        Rows that are read after this call and the stream from there on miss nothing together: what the stream does not
        have was committed before, and is seen. Waits for transactions where the server has to. What an earlier call has
        made is begun anew: the position is now's.
        """

    @abstractmethod
    def stream(self, position: str) -> AsyncIterator[Chunk]:
        """Yield what was committed after a position, and go on for ever.

        A chunk comes as soon as there is one, and holds up to some thousand changes when there are many. Without
        changes for a while an empty chunk brings the position forward, so that logs of other tables' changes can go.
        Raises ``StoreError`` when the connection is lost; the caller begins again from the position it has saved.
        Ending the iteration (``aclose()``, cancellation) leaves no connection, thread or task.
        """

    @abstractmethod
    async def confirm(self, position: str) -> None:
        """Tell the server that nothing before a position is needed any more. Cheap; may be called during a stream."""

    @abstractmethod
    async def backlog(self, position: str) -> Backlog:
        """Return how far behind a position is."""

    async def kept(self) -> list[Kept]:
        """Return what the server keeps for this feed alone; nothing where it keeps its log for all alike."""
        return []

    async def give_up(self, most: int) -> list[Kept]:
        """Have the server keep nothing for this feed any more where that is above ``most`` bytes; return what it was.

        Whoever reads the feed loses its connection, and then finds the log lost. Looked at and given up in one
        statement: what ``create`` has begun anew meanwhile is left alone.
        """
        return []

    @abstractmethod
    async def drop(self) -> None:
        """Remove from the server what ``create`` made; harmless when there is nothing."""
