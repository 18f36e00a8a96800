"""Which conditions of a statement one table's service can check by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from fedorm.query.rules.moments import MOMENTS, moment
from fedorm.query.rules.typing import CHARS

_COMPARISONS = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_ALLOWED = (
    *_COMPARISONS, exp.And, exp.Or, exp.Not, exp.Paren, exp.Is, exp.In, exp.Between,
    exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Placeholder, exp.Neg,
)  # fmt: skip
_NUMBERS = exp.DataType.NUMERIC_TYPES
_TIMES = set(exp.DataType.TEMPORAL_TYPES)


def conjuncts(condition: exp.Expr | None) -> list[exp.Expr]:
    """Return the parts of a condition that all have to hold."""
    if condition is None:
        return []
    return [part.unnest() for part in condition.unnest().flatten()] if isinstance(condition.unnest(), exp.And) else [
        condition.unnest()
    ]  # fmt: skip


def conjuncts_of(query: exp.Expr) -> list[exp.Expr]:
    """Return the conditions of a query's WHERE that all have to hold."""
    where = query.args.get("where")
    return conjuncts(where.this if where else None)


def nullable_sources(select: exp.Select) -> set[str]:
    """Return the aliases whose rows an outer join may fill up with NULL."""
    nullable: set[str] = set()
    seen: list[str] = []
    start = select.args.get("from_") or select.args.get("from")
    if start is not None:
        seen.append(start.this.alias_or_name)
    for join in select.args.get("joins") or ():
        side, alias = join.side.upper(), join.this.alias_or_name
        if side in ("RIGHT", "FULL"):
            nullable.update(seen)
        if side in ("LEFT", "FULL"):
            nullable.add(alias)
        seen.append(alias)
    return nullable


def conditions(scope: Scope) -> Iterator[tuple[exp.Expr, set[str] | None]]:
    """Yield each condition that every row of the scope's result fulfils, and whom it may be pushed to.

    None: any source that no outer join makes nullable. A set: just those.
    """
    select = scope.expression
    for part in conjuncts_of(select):
        yield part, None
    for join in select.args.get("joins") or ():
        for part in conjuncts(join.args.get("on")):
            if not join.side:
                yield part, None
            elif join.side.upper() == "LEFT":
                # What the joined side has to fulfil to match; its other rows match nothing.
                yield part, {join.this.alias_or_name}


def pushed_predicates(scope: Scope, alias: str, is_safe: Callable[[exp.Expr], bool]) -> tuple[exp.Expr, ...]:
    """Return the conditions that the service of ``alias`` may check, with bare column names.

    They stay in the statement as well, so a service may let rows pass that the finish then refuses (a collation that
    ignores case), but must not refuse any that it would keep: ``is_safe`` says of which that holds.
    """
    if not isinstance(scope.expression, exp.Select):
        return ()
    nullable = nullable_sources(scope.expression)
    found = []
    for part, sources in conditions(scope):
        if (alias in nullable) if sources is None else (alias not in sources):
            continue
        if not is_of(part, alias):
            continue
        bare = part.copy() if is_safe(part) else _with_plain_moments(part)
        if is_safe(bare):
            for column in bare.find_all(exp.Column):
                column.set("table", None)
            found.append(bare)
    return tuple(found)


def _with_plain_moments(condition: exp.Expr) -> exp.Expr:
    """Return a condition that has ``born < '2000-01-01'`` for ``born < CAST('2000-01-01' AS DATE)``.

    So it is if the column has that type, too; the text then becomes a value of the driver's own.
    """
    made = condition.copy()
    for cast in list(made.find_all(exp.Cast)):
        leaf = cast.find_ancestor(*_COMPARISONS, exp.In, exp.Between)
        kinds = {column.type.this for column in leaf.find_all(exp.Column) if column.type} if leaf is not None else set()
        is_text = isinstance(cast.this, exp.Literal) and cast.this.is_string and not isinstance(cast, exp.TryCast)
        if is_text and kinds == {cast.to.this} and not cast.to.expressions:  # timestamp(0) would round.
            cast.replace(cast.this)
    return made


def is_safe(condition: exp.Expr) -> bool:
    """Say whether no database refuses a row that PostgreSQL would keep.

    Numbers and times compare alike everywhere. Of texts only equality is safe, and not its negation: a collation may
    take more texts for equal, and orders them its own way.
    """
    if not all(isinstance(node, _ALLOWED) for node in condition.walk()):
        return False
    if any(not isinstance(node.expression, exp.Null) for node in condition.find_all(exp.Is)):
        return False  # IS TRUE is not for all of them.
    return all(
        _is_safe_leaf(node) for node in condition.walk() if isinstance(node, (*_COMPARISONS, exp.In, exp.Between))
    )


def _is_safe_leaf(node: exp.Expr) -> bool:
    kinds = {column.type.this for column in node.find_all(exp.Column) if column.type is not None}
    if kinds and all(kind in _NUMBERS or kind in _TIMES or kind == exp.DType.BOOLEAN for kind in kinds):
        return not (isinstance(node, exp.In) and node.args.get("query")) and _is_read_alike(node, kinds)
    if not isinstance(node, exp.EQ | exp.In) or (isinstance(node, exp.In) and node.args.get("query")):
        return False
    if kinds & CHARS:
        return False  # What fills them up is part of the value in one place, and not in another.
    return not _is_negated(node)


def _is_read_alike(node: exp.Expr, kinds: set[exp.DType]) -> bool:
    """Say whether all databases read the texts in a condition as the same numbers or times."""
    if kinds & _TIMES and len(kinds) > 1:
        return False  # A date is a time in no zone, in that of the connection, or is not compared with times at all.
    texts = [str(one.this) for one in node.find_all(exp.Literal) if one.is_string]
    if not texts:
        return True
    return len(kinds) == 1 and all(kind in MOMENTS and moment(one, kind) is not None for kind in kinds for one in texts)


def _is_negated(node: exp.Expr) -> bool:
    parent: exp.Expr | None = node
    while parent is not None:
        if isinstance(parent, exp.Not) or parent.args.get("negate"):
            return True
        parent = parent.parent
    return False


def is_of(part: exp.Expr, alias: str) -> bool:
    """Say whether a condition is over one table alone."""
    columns = list(part.find_all(exp.Column))
    return bool(columns) and all(column.table == alias for column in columns)


def is_exact(part: exp.Expr) -> bool:
    """Say whether every database takes the same rows: those that compare numbers and times."""
    text = any(column.is_type(*exp.DataType.TEXT_TYPES) for column in part.find_all(exp.Column))
    return is_safe(part) and not text
