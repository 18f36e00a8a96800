"""What events are handed on to: the interface that handlers, models and brokers have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fedorm.exc import FedormError

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.outbox.events import Event


class TargetUnavailableError(FedormError):
    """A target takes nothing at the moment, whatever the event; the relay rests and tries again without end."""


class PartlyDeliveredError(FedormError):
    """A target has taken the first ``delivered`` of the events it was given, and failed at the next one."""

    def __init__(self, message: str, *, delivered: int) -> None:
        super().__init__(message)
        self.delivered = delivered


class Target(Protocol):
    """Takes events of the types that match one of ``types``, with wildcards: ``orders.*`` or ``*.deleted``.

    ``name`` is kept in the databases, beside events that this target has not got yet: no two targets of a federation
    have the same one, and a target keeps its name from one release of an application to the next.
    """

    name: str
    types: tuple[str, ...]

    async def open(self, federation: Federation) -> None:
        """Connect, before the first event; called once at the relay's start, and again after a ``close``."""

    async def close(self) -> None:
        """Let go of what ``open`` took; also called where ``open`` has failed."""

    async def deliver(self, events: Sequence[Event]) -> None:
        """Take all of ``events``, those of one key in their order; return once none can be lost any more.

        An event may come again, with the same ``id``, and then the later ones of its key come again after it. Several
        calls may be under way at once, never with events of one service and one key. Raises
        ``TargetUnavailableError`` where no event would have been taken, ``PartlyDeliveredError`` where the first ones
        were; after any other error the events are handed on once more, in ever smaller parts, to learn which of them
        the target cannot take. A cancellation may leave some taken.
        """


@runtime_checkable
class FencedTarget(Protocol):
    """A target that refuses what comes too late, from a relay whose lease has gone over to another meanwhile."""

    async def deliver_fenced(self, events: Sequence[Event], tokens: Mapping[int, int]) -> None:
        """Do as ``Target.deliver``, for events of a source that leases its partitions, with a token of each.

        Raises ``TargetUnavailableError``, with nothing taken, where it has been given a greater token of a partition.
        """
