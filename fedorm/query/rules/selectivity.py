"""Which part of a table fulfils conditions: a guess, by the number of different values where that is known.

The figures for what is not known are those of PostgreSQL's planner (``selfuncs.h``), but for equality, for which a
tenth loses less when it is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

_EQUAL = 0.1
_OPEN = 1 / 3
"""One bound, or anything else."""
_CLOSED = 0.005
"""Two bounds that are parameters."""
_WRITTEN = 0.25
"""Two bounds that are written into the statement: who does that asks for a report."""

_LOWER, _UPPER = (exp.GT, exp.GTE), (exp.LT, exp.LTE)


def selectivity(predicates: Sequence[exp.Expr], distinct: Mapping[str, float]) -> float:
    """Return the part of a table's rows that fulfil all ``predicates``; ``distinct`` counts values by column."""
    part, bounds = 1.0, dict[str, set[str]]()
    for predicate in predicates:
        columns = {column.name for column in predicate.find_all(exp.Column)}
        name = next(iter(columns)) if len(columns) == 1 else ""
        different = distinct.get(name)
        if isinstance(predicate, exp.EQ):
            part *= 1 / different if different else _EQUAL
        elif isinstance(predicate, exp.In):
            part *= min(1.0, len(predicate.expressions) / different) if different else _EQUAL
        elif isinstance(predicate, exp.Between):
            part *= _range(predicate)
        elif name and isinstance(predicate, (*_LOWER, *_UPPER)) and isinstance(predicate.this, exp.Column):
            bounds.setdefault(name, set()).add("low" if isinstance(predicate, _LOWER) else "high")
            closed = len(bounds[name]) == 2
            part *= _range(predicate) / _OPEN if closed else _OPEN
        else:
            part *= _OPEN
    return part


def _range(predicate: exp.Expr) -> float:
    return _CLOSED if predicate.find(exp.Placeholder) is not None else _WRITTEN
