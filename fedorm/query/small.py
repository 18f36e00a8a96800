"""Joins a few rows in Python: for them, starting DuckDB takes longer than all the rest."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlalchemy import types
from sqlglot import exp

from fedorm.query.plan import Step
from fedorm.query.reading import Rows, number_of
from fedorm.query.rules.predicates import conjuncts, conjuncts_of, is_of
from fedorm.query.values import FAMILIES, family_of, plain_values

MOST_ROWS = 10_000
"""More rows than these, of all steps together, are finished by DuckDB."""
MOST_PAIRS = 200_000
"""More pairs than these are not compared one by one."""

Row = tuple[Any, ...]
"""The columns of all sources, one after the other; None in those of one that a left join has not found."""
Value = Callable[[Row, Mapping[str, Any]], Any]


class UnfitError(Exception):
    """The rows or parameters at hand are for DuckDB."""


@dataclass(frozen=True, slots=True)
class Source:
    """A step joined to those before it, by the columns at ``outer`` there and ``inner`` here.

    ``own`` conditions are checked before it is joined, ``conditions`` decide what a left join finds.
    """

    step: str
    kinds: tuple[types.TypeEngine[Any] | None, ...]
    outer: tuple[int, ...] = ()
    inner: tuple[int, ...] = ()
    left: bool = False
    own: tuple[Value, ...] = ()
    conditions: tuple[Value, ...] = ()

    def rows(self, found: Rows, parameters: Mapping[str, Any]) -> list[Row]:
        """Return the step's rows that are to be joined."""
        rows = plain_values(found.rows, self.kinds, UnfitError)
        for condition in self.own:
            rows = [row for row in rows if condition(row, parameters) is True]
        return rows

    def join(self, joined: list[Row], rows: list[Row], parameters: Mapping[str, Any]) -> list[Row]:
        """Return the rows before it with those of its own that match."""
        matches = self._matches(joined, rows)
        missing = (None,) * len(self.kinds)
        result: list[Row] = []
        for row in joined:
            pairs = [row + match for match in matches(row)]
            for condition in self.conditions:
                pairs = [pair for pair in pairs if condition(pair, parameters) is True]
            if not pairs and self.left:
                pairs = [row + missing]
            result += pairs
        return result

    def _matches(self, joined: list[Row], rows: list[Row]) -> Callable[[Row], Sequence[Row]]:
        if not self.inner:
            if len(joined) * len(rows) > MOST_PAIRS:
                raise UnfitError
            return lambda row: rows
        build: dict[Any, list[Row]] = {}
        inner, outer = operator.itemgetter(*self.inner), operator.itemgetter(*self.outer)
        for row in rows:
            build.setdefault(inner(row), []).append(row)
        single = len(self.inner) == 1
        for key in [key for key in build if key is None or (not single and None in key)]:
            del build[key]  # NULL equals nothing.
        return lambda row: build.get(outer(row), ())


@dataclass(frozen=True, slots=True)
class SmallFinish:
    """A select of columns over inner and left joins, as data and closures."""

    sources: tuple[Source, ...]
    conditions: tuple[Value, ...]
    outputs: tuple[int, ...]
    order: tuple[tuple[int, bool, bool], ...]
    limit: exp.Expr | None
    offset: exp.Expr | None

    def run(self, found: Mapping[str, Rows], parameters: Mapping[str, Any]) -> list[Row]:
        """Return the result. Raises ``UnfitError`` for what only DuckDB answers as PostgreSQL would."""
        first, *others = self.sources
        joined = first.rows(found[first.step], parameters)
        for source in others:
            joined = source.join(joined, source.rows(found[source.step], parameters), parameters)
        for condition in self.conditions:
            joined = [row for row in joined if condition(row, parameters) is True]
        for place, descending, nulls_first in reversed(self.order):
            joined = _ordered(joined, place, descending, nulls_first)
        start = number_of(self.offset, parameters) if self.offset is not None else 0
        if self.limit is not None or start:
            end = None if self.limit is None else start + number_of(self.limit, parameters)
            joined = joined[start:end]
        if len(self.outputs) == 1:
            return [(row[self.outputs[0]],) for row in joined]
        return list(map(operator.itemgetter(*self.outputs), joined))


def _ordered(rows: list[Row], place: int, descending: bool, nulls_first: bool) -> list[Row]:
    missing = [row for row in rows if row[place] is None]
    rest = [row for row in rows if row[place] is not None] if missing else rows
    rest = sorted(rest, key=operator.itemgetter(place), reverse=descending)
    return missing + rest if nulls_first else rest + missing


def small_finish(tree: exp.Expr, steps: Mapping[str, Step], kinds: Mapping[str, Kinds]) -> SmallFinish | None:
    """Return how to make the result in Python; None for a statement of another shape."""
    if not isinstance(tree, exp.Select):
        return None
    try:
        return _Maker(steps, kinds).make(tree)
    except _OtherShape:
        return None


Kinds = tuple[tuple[str, ...], tuple[types.TypeEngine[Any] | None, ...]]
"""The names and the types of a step's columns."""


class _OtherShape(Exception):  # noqa: N818 - no error: the statement is DuckDB's
    """The statement has something that this module does not do."""


_PARTS = {"expressions", "from_", "joins", "where", "order", "limit", "offset"}
_COMPARE: dict[type[exp.Expr], Callable[[Any, Any], Any]] = {
    exp.EQ: operator.eq, exp.NEQ: operator.ne, exp.LT: operator.lt,
    exp.LTE: operator.le, exp.GT: operator.gt, exp.GTE: operator.ge,
}  # fmt: skip


class _Maker:
    def __init__(self, steps: Mapping[str, Step], kinds: Mapping[str, Kinds]) -> None:
        self._steps, self._step_kinds = steps, kinds
        self._aliases: list[str] = []
        self._columns: dict[str, Kinds] = {}
        self._starts: dict[str, int] = {}
        """Where the columns of a source begin."""

    def make(self, tree: exp.Select) -> SmallFinish:
        if {name for name, value in tree.args.items() if value} - _PARTS:
            raise _OtherShape
        start, joins = tree.args.get("from_"), tree.args.get("joins") or []
        if start is None:
            raise _OtherShape
        free = conjuncts_of(tree)
        for join in joins:
            if join.side.upper() not in ("", "LEFT") or join.kind.upper() not in ("", "INNER", "CROSS", "OUTER"):
                raise _OtherShape
            if join.args.get("using") or join.args.get("method"):
                raise _OtherShape
            if not join.side:
                free += conjuncts(join.args.get("on"))
        sources = [self._add(start.this)]
        for join in joins:
            source = self._add(join.this)
            left = bool(join.side)
            parts = conjuncts(join.args.get("on")) if left else free
            keys = [(part, key) for part in parts if (key := self._key(part)) is not None]
            rest = [part for part in parts if all(part is not used for used, _ in keys)]
            if not left:
                free = rest
            outer, inner = tuple(key[0] for _, key in keys), tuple(key[1] for _, key in keys)
            conditions = tuple(self._condition(part) for part in rest) if left else ()
            sources.append(replace(source, outer=outer, inner=inner, left=left, conditions=conditions))
        for number, source in enumerate(sources):
            if not source.left:
                # A condition on one source alone: fewer rows to join, and to look at.
                own = [part for part in free if is_of(part, self._aliases[number])]
                free = [part for part in free if all(part is not one for one in own)]
                start_at = self._starts[self._aliases[number]]
                moved = tuple(_moved(self._condition(part), start_at) for part in own)
                sources[number] = replace(source, own=moved)
        order = tree.args.get("order")
        limit, offset = tree.args.get("limit"), tree.args.get("offset")
        outputs = tuple(self._place(column.unalias()) for column in tree.selects)
        return SmallFinish(
            tuple(sources),
            tuple(self._condition(part) for part in free),
            outputs,
            tuple(self._order(one, tree, outputs) for one in order.expressions) if order else (),
            _number(limit),
            _number(offset),
        )

    def _add(self, table: exp.Expr) -> Source:
        if not isinstance(table, exp.Table) or table.name not in self._steps or table.args.get("joins"):
            raise _OtherShape
        alias = table.alias_or_name
        names, kinds = self._step_kinds[table.name]
        if any(family_of(kind) is None for kind in kinds):
            raise _OtherShape
        self._starts[alias] = sum(len(self._columns[earlier][0]) for earlier in self._aliases)
        self._aliases.append(alias)
        self._columns[alias] = names, kinds
        return Source(table.name, kinds)

    def _place(self, column: exp.Expr) -> int:
        if not isinstance(column, exp.Column) or column.table not in self._columns:
            raise _OtherShape
        return self._starts[column.table] + self._columns[column.table][0].index(column.name)

    def _family(self, node: exp.Expr) -> str | None:
        if not isinstance(node, exp.Column):
            return None
        place = self._place(node) - self._starts[node.table]
        return family_of(self._columns[node.table][1][place])

    def _key(self, part: exp.Expr) -> tuple[int, int] | None:
        """Return where the columns are of an equality between one before it and the source added last."""
        if not isinstance(part, exp.EQ):
            return None
        for inner, outer in ((part.this, part.expression), (part.expression, part.this)):
            if not isinstance(inner, exp.Column) or not isinstance(outer, exp.Column):
                return None
            if inner.table == self._aliases[-1] and outer.table in self._aliases[:-1]:
                if self._family(inner) != self._family(outer):
                    raise _OtherShape
                return self._place(outer), self._place(inner) - self._starts[inner.table]
        return None

    def _order(self, one: exp.Expr, tree: exp.Select, outputs: tuple[int, ...]) -> tuple[int, bool, bool]:
        if not isinstance(one, exp.Ordered):
            raise _OtherShape
        column = one.this
        if isinstance(column, exp.Column) and not column.table:  # The name of an output.
            names = [output.alias_or_name for output in tree.selects]
            if names.count(column.name) != 1:
                raise _OtherShape
            place = outputs[names.index(column.name)]
        else:
            place = self._place(column)
        descending = bool(one.args.get("desc"))
        nulls_first = one.args.get("nulls_first")
        return place, descending, descending if nulls_first is None else bool(nulls_first)

    # -- conditions, in SQL's logic of three values

    def _condition(self, node: exp.Expr) -> Value:
        node = node.unnest()
        if node.args.get("negate"):  # x IS NOT NULL, without a NOT above it.
            return self._condition(exp.Not(this=_affirmed(node)))
        if isinstance(node, exp.And | exp.Or):
            one, two, decides = self._condition(node.this), self._condition(node.expression), isinstance(node, exp.Or)
            return lambda row, values: _either(one(row, values), two(row, values), decides)
        if isinstance(node, exp.Not):
            inner = self._condition(node.this)
            return lambda row, values: None if (truth := inner(row, values)) is None else not truth
        if isinstance(node, exp.Boolean):
            truth = bool(node.this)
            return lambda row, values: truth
        if isinstance(node, exp.Is) and isinstance(node.expression, exp.Null):
            value = self._value(node.this, None)
            return lambda row, values: value(row, values) is None
        if isinstance(node, exp.Between):
            family = self._family(node.this)
            value, low, high = (self._value(node.args[name], family) for name in ("this", "low", "high"))
            return lambda row, values: _either(
                _compared(operator.ge, value(row, values), low(row, values)),
                _compared(operator.le, value(row, values), high(row, values)),
                decides=False,
            )
        if isinstance(node, exp.In) and node.expressions and not node.args.get("query"):
            family = self._family(node.this)
            value = self._value(node.this, None)
            members = [self._value(one, family) for one in node.expressions]
            return lambda row, values: _among(value(row, values), [one(row, values) for one in members])
        compare = _COMPARE.get(type(node))
        if compare is None:
            raise _OtherShape
        left, right = node.this, node.expression
        family = self._family(left) or self._family(right)
        if self._family(left) and self._family(right) and self._family(left) != self._family(right):
            raise _OtherShape
        one, two = self._value(left, family), self._value(right, family)
        return lambda row, values: _compared(compare, one(row, values), two(row, values))

    def _value(self, node: exp.Expr, family: str | None) -> Value:
        node = node.unnest()
        if isinstance(node, exp.Column):
            place = self._place(node)
            return lambda row, values: row[place]
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
            literal: Any = -_constant(node.this, family)
        elif isinstance(node, exp.Literal | exp.Null):
            literal = _constant(node, family)
        elif isinstance(node, exp.Placeholder) and family is not None:
            name, fits = str(node.this), FAMILIES[family]

            def parameter(row: Row, values: Mapping[str, Any]) -> Any:
                given = values[name]
                if given is None or type(given) in fits:
                    return given
                if isinstance(given, list | tuple) and all(one is None or type(one) in fits for one in given):
                    return given
                raise UnfitError

            return parameter
        else:
            raise _OtherShape
        return lambda row, values: literal


def _moved(condition: Value, start: int) -> Value:
    """Return a condition for the rows of a source by themselves."""
    if not start:
        return condition
    before = (None,) * start
    return lambda row, values: condition(before + row, values)


def _affirmed(node: exp.Expr) -> exp.Expr:
    made = node.copy()
    made.set("negate", None)
    return made


def _constant(node: exp.Expr, family: str | None) -> Any:
    if isinstance(node, exp.Null):
        return None
    assert isinstance(node, exp.Literal)
    if node.is_string:
        if family != "text":
            raise _OtherShape
        return str(node.this)
    if family == "float":
        return float(node.this)
    if family != "exact":
        raise _OtherShape
    return int(node.this) if node.is_int else Decimal(str(node.this))


def _number(part: exp.Expr | None) -> exp.Expr | None:
    if part is None:
        return None
    number: exp.Expr = part.expression
    for one in number.flatten() if isinstance(number, exp.Add) else (number,):
        if not isinstance(one, exp.Placeholder) and not (isinstance(one, exp.Literal) and one.is_int):
            raise _OtherShape
    return number


def _compared(compare: Callable[[Any, Any], Any], one: Any, two: Any) -> bool | None:
    return None if one is None or two is None else bool(compare(one, two))


def _either(one: bool | None, two: bool | None, decides: bool) -> bool | None:
    """Return OR (``decides`` is true) or AND (it is false) of two truth values."""
    if one is decides or two is decides:
        return decides
    return None if one is None or two is None else not decides


def _among(value: Any, members: Sequence[Any]) -> bool | None:
    if len(members) == 1 and isinstance(members[0], list | tuple):
        members = members[0]
    if not members:
        return False
    if value is None:
        return None
    if any(member is not None and value == member for member in members):
        return True
    return None if any(member is None for member in members) else False
