"""What a session wants written to one collection, in the forms in which the database holds it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Update:
    """A document that is there and has changed."""

    identity: Any
    expected: Mapping[str, Any]
    """Fields that have to be as they were read; those of its revision where its class keeps one."""
    changed: Mapping[str, Any]
    """What fields have now, those that are new included."""
    removed: Collection[str]
    """Fields that it has no longer."""
    before: Mapping[str, Any]
    """As it was last read or written."""
    after: dict[str, Any]
    """As it is then. The session keeps this very dict: a store may add what its server has answered."""


@dataclass(frozen=True, slots=True)
class Delete:
    """A document that is there and has to go."""

    identity: Any
    expected: Mapping[str, Any]
    before: Mapping[str, Any]


@dataclass(slots=True)
class Writes:
    """What a session wants written to one collection: documents as the database holds them."""

    model: type[Any]
    inserts: list[dict[str, Any]] = field(default_factory=list)
    """Documents that must not be there yet; kept by the session, as ``after`` of an update is."""
    updates: list[Update] = field(default_factory=list)
    deletes: list[Delete] = field(default_factory=list)
    gone: list[Any] = field(default_factory=list)
    """Ids of documents that have to be gone afterwards, whether they were there or not; before all else."""
    upserts: list[dict[str, Any]] = field(default_factory=list)
    """Documents that have to be there afterwards, in place of those with their ids."""
