"""Results in the process's own memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedorm.cache.rows import Rows

_TABLES = 10_000
"""How many tables' generations are known; with more, all tables count as changed."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a cache knows of a statement: its rows if it has them, and the generations of the tables it reads."""

    rows: Rows | None
    generations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Entry:
    rows: Rows
    generations: tuple[int, ...]
    until: float
    size: int


class MemoryCache:
    """Keeps what was used last, up to a number of entries and of bytes."""

    def __init__(self, *, entries: int, size: int) -> None:
        self._most, self._largest = entries, size
        self._kept: OrderedDict[str, _Entry] = OrderedDict()
        self._generations: dict[str, int] = {}
        self._floor = 0
        """The generation of tables that none is known of."""
        self._lock = threading.Lock()
        self.clock = 0
        """Goes on with each change; a table's generation is what it said at the table's last one."""
        self.size = 0
        """About how many bytes the entries take."""
        self.evicted = 0
        """How many entries had to go for others."""

    def __len__(self) -> int:
        return len(self._kept)

    def look(self, key: str, tables: Sequence[str]) -> Look:
        """Return what is known."""
        with self._lock:
            generations = tuple(self._generations.get(table, self._floor) for table in tables)
            entry = self._kept.get(key)
            if entry is None:
                return Look(None, generations)
            if entry.until <= time.monotonic() or entry.generations != generations:
                self._drop(key)
                return Look(None, generations)
            self._kept.move_to_end(key)
        return Look(entry.rows.own(), generations)

    def keep(self, key: str, rows: Rows, generations: tuple[int, ...], ttl: float) -> None:
        """Keep rows for ``ttl`` seconds, as read when the tables had these generations."""
        size = rows.size()
        if size > self._largest:
            return
        entry = _Entry(rows.own(), generations, time.monotonic() + ttl, size)
        with self._lock:
            self._drop(key)
            self._kept[key] = entry
            self.size += size
            while len(self._kept) > self._most or self.size > self._largest:
                self._drop(next(iter(self._kept)))
                self.evicted += 1

    def changed(self, tables: Iterable[str]) -> None:
        """Drop what was read from ``tables`` before now."""
        with self._lock:
            self.clock += 1
            for table in tables:
                self._generations[table] = self.clock
            if len(self._generations) > _TABLES:  # Plain SQL may make new tables all the time.
                self._generations.clear()
                self._floor = self.clock

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._kept.clear()
            self.size = 0

    def close(self) -> None:
        """Drop everything."""
        self.clear()

    def _drop(self, key: str) -> None:
        entry = self._kept.pop(key, None)
        if entry is not None:
            self.size -= entry.size
