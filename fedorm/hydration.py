"""Pause Python's cyclic garbage collector while many rows become objects."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pause:
    """Counts who wants the collector to rest; threads may overlap."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._was_on = False

    def begin(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._was_on = gc.isenabled()
                gc.disable()
            self._holders += 1

    def end(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0 and self._was_on:
                gc.enable()


_pause = _Pause()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic collector from running inside the block; the block must not wait for anything.

    None of the objects that a result makes is garbage yet, so every collection among them is in vain, and the full
    ones look at all objects of the process: they take more time than the rows do.
    """
    _pause.begin()
    try:
        yield
    finally:
        _pause.end()


_SELDOM = 10_000


@contextmanager
def collector_seldom() -> Iterator[None]:
    """Let the cyclic collector look after 10,000 new objects instead of 700, in a process that does nothing but sync.

    Rows on their way live for some thousand others, so that each earlier look is in vain: it took a quarter of the
    time. It is a setting of the whole process, for its own program to choose, and is put back after the block.
    """
    first, *others = gc.get_threshold()
    if 0 < first < _SELDOM:  # 0: somebody has turned it off.
        gc.set_threshold(_SELDOM, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
