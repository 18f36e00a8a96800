"""``ResultCache``: what is asked before a statement is sent, and told when a table has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.exc import ArgumentError

from fedorm.cache.codec import digest
from fedorm.cache.flights import Flights
from fedorm.cache.memory import Look, MemoryCache
from fedorm.cache.rows import Rows
from fedorm.stats import CacheStatistics

CACHE_TTL = "cache_ttl"
"""The execution option that says for how many seconds a statement's rows may be given again."""


def ttl_of(options: Mapping[str, Any]) -> float | None:
    """Return for how many seconds a statement's rows are kept; None for not at all.

    Raises ``ArgumentError`` for what is no time.
    """
    ttl = options.get(CACHE_TTL)
    if not ttl:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl < float("inf"):
        raise ArgumentError(f"cache_ttl={ttl!r}: a number of seconds, or None for a statement whose rows are not kept")
    return float(ttl)


class Place:
    """A service's database as the cache names it: by its address, so that two of one name are never mixed up."""

    def __init__(self, address: str, identity: str) -> None:
        self.identity = identity
        """Where a statement is sent, with all settings that its answer may depend on."""
        self._prefix = digest(address)[:16]

    def read(self, tables: Collection[str] | None) -> tuple[str, ...]:
        """Return what a statement that reads ``tables`` depends on; None: nobody knows which."""
        if tables is None:
            return (f"{self._prefix}:*any",)
        return (f"{self._prefix}:*all", *(f"{self._prefix}:{table}" for table in sorted(tables)))

    def changed(self, tables: Collection[str] | None) -> set[str]:
        """Return what a change of ``tables`` touches; None: nobody knows which."""
        if tables is None:
            return {f"{self._prefix}:*all", f"{self._prefix}:*any"}
        return {f"{self._prefix}:*any", *(f"{self._prefix}:{table}" for table in tables)}


@dataclass(frozen=True, slots=True)
class Ask:
    """A statement with its values, by its key; the tables it depends on; how long its rows may be kept."""

    key: str
    tables: tuple[str, ...]
    ttl: float
    since: int | None = None
    """The clock when the transaction began whose snapshot it reads; None for one that reads what is there now."""
    patience: float | None = None
    """For how many seconds it may wait for an equal one that runs; None: as long as that takes."""


class Backend(Protocol):
    """Where results are kept."""

    clock: int
    evicted: int

    def look(self, key: str, tables: tuple[str, ...]) -> Look | None:
        """Return what is known; None when it cannot be told."""

    def keep(self, key: str, rows: Rows, generations: tuple[int, ...], ttl: float) -> None:
        """Keep rows for ``ttl`` seconds, as read when the tables had these generations."""

    def changed(self, tables: Collection[str]) -> None:
        """Drop what was read from ``tables`` before now."""

    def clear(self) -> None:
        """Drop everything."""

    def close(self) -> None:
        """Let go of everything."""


class ResultCache:
    """Gives rows again that were read before, and counts how often."""

    def __init__(self, backend: Backend, *, default_ttl: float | None = None) -> None:
        self.backend = backend
        self.default_ttl = default_ttl
        self.hits = self.misses = 0
        self._flights: Flights[Rows] = Flights()
        self._lock = threading.Lock()

    def rows(self, ask: Ask, fetch: Callable[[], Rows]) -> Rows:
        """Return the rows that are kept, else those that ``fetch`` returns, which runs once for all who ask now."""
        look = self.backend.look(ask.key, ask.tables)
        if look is None:
            self._count(hit=False)
            return fetch()
        if look.rows is not None:
            self._count(hit=True)
            return look.rows
        if ask.since is not None and any(generation > ask.since for generation in look.generations):
            # Its snapshot may be older than a commit that others have seen already.
            self._count(hit=False)
            return fetch()

        def run() -> Rows:
            self._count(hit=False)
            rows = fetch()
            self.backend.keep(ask.key, rows, look.generations, ask.ttl)
            return rows

        # With the generations: who asks after a commit must not be given what was read before it.
        rows, ran = self._flights.run((ask.key, look.generations), run, ask.patience)
        if not ran:
            self._count(hit=True)
        return rows.own()  # Also the one that ran: its rows are in the others' hands.

    def changed(self, tables: Collection[str]) -> None:
        """Drop what was read from tables, as ``Place.changed`` names them."""
        if tables:
            self.backend.changed(tables)

    def clear(self) -> None:
        """Drop everything."""
        self.backend.clear()

    def close(self) -> None:
        """Let go of everything."""
        self.backend.close()

    def statistics(self) -> CacheStatistics:
        """Return figures as of now."""
        hits, misses, memory = self.hits, self.misses, self.backend
        return CacheStatistics(
            hits=hits,
            misses=misses,
            hit_rate=hits / (hits + misses) if hits else 0.0,
            entries=len(memory) if isinstance(memory, MemoryCache) else None,
            bytes=memory.size if isinstance(memory, MemoryCache) else None,
            evicted=memory.evicted,
        )

    def _count(self, *, hit: bool) -> None:
        with self._lock:
            if hit:
                self.hits += 1
            else:
                self.misses += 1
