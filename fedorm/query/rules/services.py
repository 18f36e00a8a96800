"""What is written differently when a service answers a query by itself, so that it answers as the finish would.

Both take texts in the order of their code points, know no zone but UTC, and divide decimals as floats.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from sqlglot import exp

from fedorm.query.rules.moments import MOMENTS, moment
from fedorm.query.rules.typing import CHARS, DECIMALS, FLOATS, INTEGERS, TEXTS, kind_of

_UTC = exp.Literal.string("UTC")
_FLOATS_THERE = (exp.Avg, exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop)
_RANGES = (exp.LT, exp.LTE, exp.GT, exp.GTE)
_ZONED, _DAY = exp.DType.TIMESTAMPTZ, exp.DType.DATE


def for_service(
    query: exp.Query, *, whole: bool, collate: bool, enumerations: Container[tuple[str, str]] = ()
) -> exp.Query | None:
    """Return a query as its service is to be asked; None where the service cannot be made to mean the same.

    ``whole``: the answer is that of the statement, and goes through no finish. ``collate``: the service's own order of
    texts is another one. ``enumerations`` are columns, by alias and name, whose texts have an order and a type of their
    own there.
    """
    made = query.copy()
    for column in list(made.find_all(exp.Column)):
        if (column.table, column.name) in enumerations:
            plain = exp.cast(column.copy(), "text")
            plain.type = column.type
            column.replace(plain)
    if collate and not all(_collated(node) for node in reversed(list(made.bfs()))):
        return None
    for node in reversed(list(made.bfs())):
        parent, key, index, kind = node.parent, node.arg_key, node.index, node.type
        new = _in_utc(node) or _as_float(node)
        if new is not None and parent is not None:
            new.type = kind
            parent.set(key or "", new, index)
    if not whole:
        for output in made.selects:
            value = output.unalias()
            if kind_of(value) in CHARS and isinstance(output, exp.Alias):
                output.set("this", exp.cast(value.copy(), "text"))  # Without what fills it up.
    return made


# -- numbers


def _as_float(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node, _FLOATS_THERE):
        return exp.cast(node.copy(), "double")
    if isinstance(node, exp.Div):
        kinds = {kind_of(node.left), kind_of(node.right)}
        if kinds & DECIMALS and not kinds & FLOATS and kinds <= DECIMALS | INTEGERS:
            return exp.Div(this=exp.cast(node.left.copy(), "double"), expression=node.right.copy(), typed=True)
    if isinstance(node, exp.Sqrt | exp.Exp | exp.Ln) and kind_of(node.this) in DECIMALS:
        changed = node.copy()
        changed.set("this", exp.cast(node.this.copy(), "double"))
        return changed
    return None


# -- time zones


def _at_utc(value: exp.Expr) -> exp.Expr:
    return exp.AtTimeZone(this=exp.Paren(this=value.copy()), zone=_UTC.copy())


def _instant_of(value: exp.Expr) -> exp.Expr:
    return exp.Paren(this=_at_utc(exp.cast(value.copy(), "timestamp")))


def _in_utc(node: exp.Expr) -> exp.Expr | None:
    if isinstance(node, exp.Extract) and kind_of(node.expression) == _ZONED and node.name.upper() != "EPOCH":
        return exp.Extract(this=node.this.copy(), expression=_at_utc(node.expression))
    if isinstance(node, exp.TimeToStr) and kind_of(node.this) == _ZONED:
        changed = node.copy()
        changed.set("this", _at_utc(node.this))
        return changed
    if isinstance(node, exp.TimestampTrunc) and kind_of(node.this) in (_ZONED, _DAY) and not node.args.get("zone"):
        local = _at_utc(node.this) if kind_of(node.this) == _ZONED else exp.cast(node.this.copy(), "timestamp")
        return exp.Paren(this=_at_utc(exp.TimestampTrunc(this=local, unit=node.args["unit"].copy())))
    if isinstance(node, exp.CurrentDate) and not node.this:
        return exp.cast(_at_utc(exp.CurrentTimestamp()), "date")
    if isinstance(node, exp.Add | exp.Sub):
        kinds = {kind_of(node.left), kind_of(node.right)}
        if kinds == {_ZONED, exp.DType.INTERVAL}:
            sides = [_at_utc(one) if kind_of(one) == _ZONED else one.copy() for one in (node.left, node.right)]
            return exp.Paren(this=_at_utc(type(node)(this=sides[0], expression=sides[1])))
    if isinstance(node, exp.Cast):
        return _cast(node)
    if isinstance(node, exp.EQ | exp.NEQ | exp.LT | exp.LTE | exp.GT | exp.GTE):
        return _compared(node)
    return None


def _cast(node: exp.Cast) -> exp.Expr | None:
    to, source = node.to.this, kind_of(node.this)
    if to == _ZONED:
        if source in (_DAY, exp.DType.TIMESTAMP):
            return _instant_of(node.this)
        return exp.cast(_whole(node.this), "timestamptz") if isinstance(node.this, exp.Literal) else None
    if source != _ZONED:
        return None
    if to in TEXTS:
        return exp.Paren(
            this=exp.DPipe(this=exp.cast(_at_utc(node.this), "text"), expression=exp.Literal.string("+00"))
        )
    return exp.cast(_at_utc(node.this), node.to) if to in (_DAY, exp.DType.TIMESTAMP, exp.DType.TIME) else None


def _whole(literal: exp.Expr) -> exp.Expr:
    """Return a text with the zone that it means."""
    value = moment(str(literal.this), _ZONED)
    return literal.copy() if value is None else exp.Literal.string(str(value))


def _compared(node: exp.Expr) -> exp.Expr | None:
    """Compare a time with a zone and what has none in UTC."""
    one, two = node.this, node.args["expression"]
    kinds = kind_of(one), kind_of(two)
    if _ZONED not in kinds or kinds[0] == kinds[1]:
        return None
    sides = []
    for side in (one, two):
        if isinstance(side, exp.Literal) and side.is_string:
            sides.append(_whole(side))
        else:
            sides.append(_instant_of(side) if kind_of(side) in MOMENTS - {_ZONED} else side.copy())
    return type(node)(this=sides[0], expression=sides[1])


# -- the order of texts


def _collated(node: exp.Expr) -> bool:
    """Let a node order texts by their code points; False where that cannot be written."""
    for key, value in list(_ordered_parts(node)):
        if kind_of(value) not in TEXTS or isinstance(value, exp.Literal | exp.Null):
            continue
        wanted = value
        if isinstance(node, exp.Ordered):
            if node.find_ancestor(exp.Query, exp.AggFunc) is None or _is_of_outputs(node):
                return False
            select = node.find_ancestor(exp.Select)
            names = {one.alias_or_name: one.unalias() for one in select.selects} if select is not None else {}
            if isinstance(value, exp.Column) and not value.table:
                wanted = names.get(value.name, value)
        collation = exp.to_identifier("C", quoted=True)
        written = exp.Collate(this=exp.cast(wanted.copy(), "text"), expression=collation)
        written.type = value.type
        if isinstance(key, int):
            node.set("expressions", written, key)
        else:
            node.set(key, written)
    return True


def _ordered_parts(node: exp.Expr) -> Iterator[tuple[str | int, exp.Expr]]:
    if isinstance(node, exp.Ordered | exp.Max | exp.Min):
        yield "this", node.this
    elif isinstance(node, _RANGES):
        yield "this", node.this
        yield "expression", node.args["expression"]
    elif isinstance(node, exp.Between):
        yield "this", node.this
    elif isinstance(node, exp.Greatest | exp.Least):
        yield "this", node.this
        yield from enumerate(node.expressions)


def _is_of_outputs(node: exp.Ordered) -> bool:
    """Say whether a term of ORDER BY has to be among the outputs as it stands."""
    around = node.find_ancestor(exp.Query)
    if not isinstance(around, exp.Select) or around.args.get("distinct"):
        return True
    call = node.find_ancestor(exp.AggFunc, exp.Query)
    return isinstance(call, exp.AggFunc) and call.find(exp.Distinct) is not None
