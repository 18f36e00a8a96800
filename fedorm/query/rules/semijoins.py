"""Which scan can be narrowed by the keys that another one finds.

A semi-join, or dynamic filter: the small side runs first, and its distinct join keys travel to the big side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from fedorm.query.plan import KeyFilter, Piece, Step
from fedorm.query.rules.predicates import conditions, nullable_sources


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
        for source, target in ((left, right), (right, left)):
            free = target.table not in nullable if sources is None else target.table in sources
            if free:
                yield source, target


FEWER = 3
"""How many times smaller a step has to be for its keys to be worth a wait."""
MOST_KEYS = 100_000
"""A step expected to return more rows sends no keys."""


def in_waves(
    steps: Mapping[str, Step], rows: dict[str, float], filters: Sequence[tuple[str, KeyFilter]]
) -> tuple[tuple[Step, ...], ...]:
    """Let small steps run before those that their keys narrow; ``rows`` is brought down to what will be left."""
    made = dict(steps)
    before: dict[str, set[str]] = {name: set() for name in steps}
    """For each step, those that have to be done when it starts."""

    def waits_for(name: str, other: str) -> bool:
        return name == other or any(waits_for(earlier, other) for earlier in before[name])

    for target, key in sorted(filters, key=lambda one: rows[one[1].source]):
        source, step = key.source, made[target]
        if isinstance(step, Piece) and key.column not in step.origins:
            continue
        if rows[source] * FEWER > rows[target] or rows[source] > MOST_KEYS or waits_for(source, target):
            continue
        made[target] = replace(step, key_filters=(*step.key_filters, key))
        before[target].add(source)
        rows[target] = min(rows[target], max(rows[source] * 4, rows[target] / FEWER))

    def wave(name: str) -> int:
        return max((wave(earlier) + 1 for earlier in before[name]), default=0)

    at = {name: wave(name) for name in made}
    last = max(at.values(), default=0)
    return tuple(tuple(made[name] for name in made if at[name] == number) for number in range(last + 1))
