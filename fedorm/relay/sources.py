"""What the relay reads events from: one service's outbox, a part of it at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fedorm.exc import FedormError

if TYPE_CHECKING:
    from fedorm.outbox.events import Event
    from fedorm.relay.waking import Bell


class ClaimLostError(FedormError):
    """Partitions went over to another relay while events were handed on; they are handed on once more there."""

    def __init__(self, service: str) -> None:
        super().__init__(f"service {service!r}: another relay has taken over, as this one did not answer for too long")
        self.service = service


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event in the outbox; ``attempts`` counts how often a target has failed at it before."""

    position: Any
    partition: int
    event: Event
    attempts: int = 0


@dataclass(slots=True)
class Batch:
    """The next events of some partitions, which are this relay's until the batch is settled or given up."""

    fresh: list[Waiting]
    """Events that no target was given yet, those of a key in their order."""
    due: dict[str, list[Waiting]] = field(default_factory=dict)
    """By target, events that it has not got and that are to be tried again."""
    held: dict[tuple[str, str], float] = field(default_factory=dict)
    """By target and key, when the first event of that key is tried again; later ones wait behind it."""
    token: int | None = None
    """Greater than that of every relay that has had one of these partitions before, and may not know that it has not
    any more. None where partitions are locked: then nobody else has them as long as the connection lives."""


@dataclass(slots=True)
class Failure:
    """What one target did not take: ``first`` was tried, unless the target was down; the events behind it wait."""

    target: str
    first: Waiting
    error: str
    next_at: float | None
    """When the key is tried again, in seconds since 1970; None: the event is put aside, and the key goes on."""
    tried: bool = True


@dataclass(slots=True)
class Settlement:
    """What has become of a batch."""

    delivered: list[Waiting] = field(default_factory=list)
    """Fresh events that every target has."""
    caught_up: dict[str, list[Waiting]] = field(default_factory=dict)
    """By target, events that were due and that it has now."""
    failures: list[Failure] = field(default_factory=list)
    parked: dict[str, list[tuple[Waiting, float]]] = field(default_factory=dict)
    """By target, fresh events that it has not got, with when their key is tried again."""


@dataclass(frozen=True, slots=True)
class Held:
    """An event that a target has not got: put aside, or the first of its key in line."""

    service: str
    target: str
    position: Any
    id: str
    type: str
    key: str
    attempts: int
    error: str | None
    next_at: float | None
    failed_at: float | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many events a service's outbox holds; ages in seconds."""

    waiting: int
    oldest: float | None
    kept: int
    held: dict[str, int]
    """By target, events that are tried again or wait behind such a one."""
    failed: dict[str, int]
    """By target, events that were put aside."""


class Claim(Protocol):
    """One worker's hold on a source; not for two tasks at once."""

    async def take(self, targets: Collection[str], limit: int) -> Batch | None:
        """Make some partitions this worker's and return their next events; None where there are none to be had."""

    async def settle(self, done: Settlement) -> None:
        """Write down what has become of the batch, and give the partitions back. Raises where they were lost."""

    async def renew(self) -> None:
        """Keep the partitions while events are being handed on. Raises ``ClaimLostError``."""

    async def give_up(self) -> None:
        """Give the partitions back with everything as it was; harmless without any."""

    async def close(self) -> None:
        """Give up, and let go of the connection."""


class Source(Protocol):
    """One service's outbox."""

    service: str
    poll: float
    """After how many seconds without a sign a worker looks by itself."""
    listens: bool
    """Whether the database tells of new events."""
    lease: float | None
    """For how many seconds a claim holds unless it is renewed; None: for as long as its connection lives."""

    async def exists(self) -> bool:
        """Say whether the service has an outbox."""

    async def prepare(self) -> None:
        """Make what is missing in the database."""

    def claim(self, owner: str) -> Claim:
        """Return a new worker's claim; ``owner`` is like no other's in the world."""

    async def listen(self, bell: Bell) -> None:
        """Ring when events were written, until the connection is lost."""

    async def backlog(self) -> Backlog:
        """Count what is there."""

    async def troubles(self, *, target: str | None, failed: bool) -> list[Held]:
        """Return what was put aside, or for ``failed=False`` what is being tried again, oldest first."""

    async def retry(self, *, target: str | None, ids: Collection[str] | None) -> int:
        """Hand on anew what was put aside, of these ids or all; return how many."""

    async def drop(self, *, target: str | None, ids: Collection[str] | None) -> int:
        """Never hand on what was put aside, of these ids or all; return how many."""

    async def forget_delivered(self, keep: float) -> int:
        """Remove events that were delivered before ``keep`` seconds; return how many."""

    async def forget_inbox(self, before: float) -> int:
        """Remove what the service's inbox wrote down before a moment, in seconds since 1970; return how many."""

    async def oldest(self) -> float:
        """Return when the oldest event was written that may be handed on again, in seconds since 1970: now if none."""


def keys_of(waiting: Iterable[Waiting]) -> list[str]:
    """Return the keys, each once, in order."""
    return list(dict.fromkeys(one.event.key for one in waiting))


def positions(waiting: Iterable[Waiting]) -> list[Any]:
    """Return the events' positions."""
    return [one.position for one in waiting]
