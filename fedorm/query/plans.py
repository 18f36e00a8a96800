"""The plans of statements, kept by their text until the tables are of another size."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from fedorm.query.estimating import TINY
from fedorm.query.plan import Plan
from fedorm.query.statistics import FRESH

PLANS = 500
"""How many plans are kept."""
GROWN = 4.0
"""By which factor a table has to grow or shrink for a statement to be planned anew."""

Sizes = Mapping[tuple[str, str], float]
"""Rows by service and table."""


@dataclass(slots=True)
class _Kept:
    plan: Plan
    sizes: Sizes
    looked_at: float


class Plans:
    """The plans that were used last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    def get(self, key: Hashable, rows: Callable[[str, str], float]) -> Plan | None:
        """Return a plan if the tables still have about as many ``rows`` as when it was made."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        now = time.monotonic()
        if now - kept.looked_at > FRESH:  # The servers' statistics are no newer than that, either.
            if any(_differ(size, rows(*place)) for place, size in kept.sizes.items()):
                del self._kept[key]
                return None
            kept.looked_at = now
        self._kept.move_to_end(key)
        return kept.plan

    def put(self, key: Hashable, plan: Plan, sizes: Sizes) -> None:
        """Keep a plan that was made for tables of some sizes."""
        self._kept[key] = _Kept(plan, dict(sizes), time.monotonic())
        while len(self._kept) > PLANS:
            self._kept.popitem(last=False)

    def all(self) -> list[Plan]:
        """Return the plans that are kept."""
        return [kept.plan for kept in self._kept.values()]


def _differ(before: float, now: float) -> bool:
    one, two = max(before, TINY), max(now, TINY)
    return max(one, two) > GROWN * min(one, two)
