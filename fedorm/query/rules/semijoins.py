"""Which scan can be narrowed by the keys that another one finds.

A semi-join, or dynamic filter: the small side runs first, and its distinct join keys travel to the big side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from fedorm.query.plan import KeyFilter, Piece, Scan, Step
from fedorm.query.rules import costs
from fedorm.query.rules.predicates import conditions, nullable_sources
from fedorm.query.rules.typing import CHARS, kind_of

Strategy = Literal["auto", "lookup", "hash", "nested_loop"]


def key_pairs(scope: Scope) -> Iterator[tuple[exp.Column, exp.Column]]:
    """Yield pairs of columns: only rows whose second column is among the first's values can be in the result."""
    if not isinstance(scope.expression, exp.Select):
        return
    nullable = nullable_sources(scope.expression)
    for part, sources in conditions(scope):
        if not isinstance(part, exp.EQ):
            continue
        left, right = part.this, part.expression
        if not isinstance(left, exp.Column) or not isinstance(right, exp.Column) or left.table == right.table:
            continue
        if kind_of(left) in CHARS or kind_of(right) in CHARS:
            continue  # Filled up in one place, and not in another.
        for source, target in ((left, right), (right, left)):
            free = target.table not in nullable if sources is None else target.table in sources
            if free:
                yield source, target


MOST_KEYS = 20_000
"""A step expected to return more rows sends no keys."""


@dataclass(slots=True)
class Estimate:
    """What is expected of a step: rows looked at and returned, and the cost of the cheapest way without keys."""

    total: float
    wanted: float
    cost: float
    outside: bool = False
    """Whether that way is to let the finish read."""
    distinct: Mapping[str, float] | None = None
    """How many different values a column has, where that is known."""
    indexed: frozenset[str] = frozenset()
    batch: int = 10_000
    """How many keys one statement takes."""

    def matching(self, column: str, keys: float, source: Estimate, source_column: str) -> float:
        """Return how many rows have one of ``keys`` values in a column.

        Where it is not known how many different values the column has, it is taken to have as many as the other side
        has of its own, or rows: it refers to that side. (Selinger et al., Access Path Selection, 1979.)
        """
        return min(self.wanted, keys * self.each(column, source, source_column))

    def each(self, column: str, source: Estimate, source_column: str) -> float:
        """Return how many rows have one value of a column."""
        different = (self.distinct or {}).get(column) or (source.distinct or {}).get(source_column)
        part = self.wanted / self.total if self.total else 1.0
        return self.total / (different or max(1.0, source.total)) * part


def in_waves(
    steps: Mapping[str, Step],
    estimates: Mapping[str, Estimate],
    filters: Sequence[tuple[str, KeyFilter]],
    strategy: Strategy = "auto",
) -> tuple[tuple[Step, ...], ...]:
    """Let small steps run before those that their keys narrow, where that is cheaper than to read them.

    The estimates are brought down to what will be left. ``strategy`` "lookup" sends keys wherever they can be sent,
    "hash" and "nested_loop" never.
    """
    made = dict(steps)
    before: dict[str, set[str]] = {name: set() for name in steps}
    """For each step, those that have to be done when it starts."""

    def waits_for(name: str, other: str) -> bool:
        return name == other or any(waits_for(earlier, other) for earlier in before[name])

    pending = list(filters) if strategy in ("auto", "lookup") else []
    while pending:
        pending.sort(key=lambda one: estimates[one[1].source].wanted)
        target, key = pending.pop(0)
        source, step = key.source, made[target]
        known = isinstance(step, Piece) and key.column not in step.origins
        if known or waits_for(source, target) or source == target:
            continue
        sending, narrowed = estimates[source], estimates[target]
        keys = min(sending.wanted, (sending.distinct or {}).get(key.source_column, sending.wanted))
        if strategy != "lookup" and (keys > MOST_KEYS or sending.wanted > MOST_KEYS):
            continue
        wanted = narrowed.matching(key.column, max(1.0, keys), sending, key.source_column)
        indexed = key.column in narrowed.indexed
        cost = costs.lookup(narrowed.total, keys, wanted, batch=narrowed.batch, indexed=indexed)
        if strategy != "lookup" and cost >= narrowed.cost:
            continue
        made[target] = step = replace(step, key_filters=(*step.key_filters, key))
        if narrowed.outside and isinstance(step, Scan) and strategy != "lookup":
            each = narrowed.each(key.column, sending, key.source_column)
            most = costs.most_keys(narrowed.total, each, narrowed.cost, batch=narrowed.batch, indexed=indexed)
            made[target] = replace(step, most_keys=most)
        before[target].add(source)
        narrowed.wanted, narrowed.cost, narrowed.outside = max(1.0, wanted), min(cost, narrowed.cost), False
        sending.outside = False

    _keep_sources(made)

    def wave(name: str) -> int:
        return max((wave(earlier) + 1 for earlier in before[name]), default=0)

    at = {name: wave(name) for name in made}
    last = max(at.values(), default=0)
    return tuple(tuple(made[name] for name in made if at[name] == number) for number in range(last + 1))


def _keep_sources(steps: dict[str, Step]) -> None:
    """Let a step be given up to the finish only when nothing that has to be read by us waits for its keys."""
    changed = True
    while changed:
        changed = False
        for step in list(steps.values()):
            for key in step.key_filters:
                source = steps[key.source]
                given = isinstance(step, Scan) and step.most_keys is not None
                if isinstance(source, Scan) and source.most_keys is not None and not given:
                    steps[source.name] = replace(source, most_keys=None)
                    changed = True
