"""What a recovery has found and done, and the figures of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType

from fedorm.exc import FedormError
from fedorm.stats import InDoubtStatistics, ServiceInDoubt
from fedorm.stores.base import Capability, Store
from fedorm.twophase.decisions import Outcome
from fedorm.twophase.settling import Done


@dataclass(frozen=True, slots=True)
class RecoveredBranch:
    """One service's part of a transaction that was found prepared, and what was done about it.

    ``id`` is the transaction's, the same for all its branches, ``age`` in seconds; ``decision`` is None where it is not
    known. ``done`` is one of ``Done``; ``why`` says why a branch was left, or whose it is.
    """

    service: str
    id: str
    age: float
    decision: Outcome | None
    done: Done
    why: str

    def __str__(self) -> str:
        return f"{self.done.value}: {self.why}" if self.why else self.done.value


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a recovery has found, and done."""

    at: datetime
    dry_run: bool
    branches: tuple[RecoveredBranch, ...]
    """By service, the oldest first."""
    unasked: Mapping[str, FedormError]
    """The services that can prepare and could not be asked, with the reason."""
    forgotten: int
    """How many decisions were dropped that no branch needs any more."""

    @property
    def left(self) -> tuple[RecoveredBranch, ...]:
        """The branches of this federation that are in doubt still."""
        return tuple(branch for branch in self.branches if branch.done is Done.LEFT)

    @property
    def is_complete(self) -> bool:
        """Say whether nothing of this federation is in doubt any more, as far as every service knows."""
        return not self.left and not self.unasked


def in_doubt_of(report: Recovery, stores: Mapping[str, Store]) -> InDoubtStatistics:
    """Return the figures of a report."""
    services: dict[str, ServiceInDoubt | None] = {}
    for name, store in stores.items():
        ages = [one.age for one in report.left if one.service == name]
        if name in report.unasked:
            services[name] = None
        elif Capability.TWO_PHASE in store.capabilities or ages:
            services[name] = ServiceInDoubt(len(ages), max(ages, default=0.0))
    ages = [one.age for one in report.left]
    return InDoubtStatistics(report.at, len(ages), max(ages, default=0.0), MappingProxyType(services))
