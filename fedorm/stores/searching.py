"""A search by relevance: what is asked of a store, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for in one collection, and what is wanted of it."""

    query: Any = None
    """A text, or a query in the store's own words; None: everything."""
    size: int = 10
    offset: int = 0
    sort: Sequence[Any] = ()
    """Fields, with a minus before those that descend, or what the store takes; without any the best come first."""
    highlight: Sequence[str] = ()
    """Fields whose words that were found are wanted."""
    aggregations: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Anything else that the store takes."""


@dataclass(frozen=True, slots=True)
class SearchHit(Generic[T]):
    """A document that was found."""

    document: T
    score: float | None = None
    """How well it fits; None in an order of the caller's own."""
    highlight: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Pieces of fields, the words that were found marked in them."""


@dataclass(frozen=True, slots=True)
class SearchResult(Generic[T]):
    """The documents of a search in their order: iterate over it, or over ``hits`` for what is known of each."""

    hits: Sequence[SearchHit[T]]
    total: int | None
    """How many there are in all; at least so many unless ``is_exact``."""
    is_exact: bool = True
    aggregations: Mapping[str, Any] = field(default_factory=dict)

    @property
    def documents(self) -> list[T]:
        """The documents alone."""
        return [hit.document for hit in self.hits]

    def __iter__(self) -> Iterator[T]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.hits)
