"""Which scan can be narrowed by the keys that another one finds.

A semi-join, or dynamic filter: the small side runs first, and its distinct join keys travel to the big side.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

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
