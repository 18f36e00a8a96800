"""Time two ways of one job in turn, so that a machine whose speed drifts treats them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

Job = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Pair:
    """The times of two jobs in milliseconds, run in turn, and their ratio a pair."""

    first: list[float]
    second: list[float]

    @property
    def ratio(self) -> float:
        """The median of first / second over the pairs."""
        return median(a / b for a, b in zip(self.first, self.second, strict=True))

    def shown(self) -> str:
        """Return medians, ratio and the spread of the ratio as a row's text."""
        ratios = sorted(a / b for a, b in zip(self.first, self.second, strict=True))
        return (
            f"{median(self.first):.1f} | {median(self.second):.1f} | **{self.ratio:.2f}** "
            f"({ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f})"
        )


async def timed(job: Job) -> float:
    """Run ``job`` once, with the garbage of others collected before; return milliseconds."""
    gc.collect()
    started = time.perf_counter()
    await job()
    return (time.perf_counter() - started) * 1000


async def pair(first: Job, second: Job, *, rounds: int, warmups: int = 2) -> Pair:
    """Run two jobs in turn, ``rounds`` times each after ``warmups``; who goes first alternates."""
    for _ in range(warmups):
        await first()
        await second()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order: Sequence[int] = (0, 1) if number % 2 == 0 else (1, 0)
        for which in order:
            times[which].append(await timed((first, second)[which]))
    return Pair(*times)
