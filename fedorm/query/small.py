"""Joins a few rows in Python: for them, starting DuckDB takes longer than all the rest."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import types
from sqlglot import exp

from fedorm.query.plan import Step
from fedorm.query.reading import Rows, number_of
from fedorm.query.rules.predicates import conjuncts
from fedorm.query.values import FAMILIES, family_of, plain_values

MOST_ROWS = 10_000
"""More rows than these, of all steps together, are finished by DuckDB."""
MOST_PAIRS = 200_000
"""More pairs than these are not compared one by one."""

Joined = tuple[Any, ...]
"""A row of each source, None for one that a left join has not found."""
Value = Callable[[Joined, Mapping[str, Any]], Any]
Place = tuple[int, int]
"""Of a column: the position of its source, and its own in there."""


class UnfitError(Exception):
    """The rows or parameters at hand are for DuckDB."""


@dataclass(frozen=True, slots=True)
class Source:
    """A step joined to those before it: where the keys of both sides are, and what else has to hold."""

    step: str
    keys: tuple[tuple[Place, int], ...] = ()
    left: bool = False
    conditions: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class SmallFinish:
    """A select of columns over inner and left joins, as data and closures."""

    sources: tuple[Source, ...]
    kinds: tuple[tuple[types.TypeEngine[Any] | None, ...], ...]
    conditions: tuple[Value, ...]
    outputs: tuple[Place, ...]
    order: tuple[tuple[Place, bool, bool], ...]
    limit: exp.Expr | None
    offset: exp.Expr | None

    def run(self, found: Mapping[str, Rows], parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Return the result. Raises ``UnfitError`` for what only DuckDB answers as PostgreSQL would."""
        tables = [
            plain_values(found[source.step].rows, kinds, UnfitError)
            for source, kinds in zip(self.sources, self.kinds, strict=True)
        ]
        joined: list[Joined] = [(row,) for row in tables[0]]
        for source, table in zip(self.sources[1:], tables[1:], strict=True):
            joined = _join(joined, table, source, parameters)
        for condition in self.conditions:
            joined = [row for row in joined if condition(row, parameters) is True]
        for place, descending, nulls_first in reversed(self.order):
            joined = _ordered(joined, place, descending, nulls_first)
        start = number_of(self.offset, parameters) if self.offset is not None else 0
        if self.limit is not None or start:
            end = None if self.limit is None else start + number_of(self.limit, parameters)
            joined = joined[start:end]
        return [tuple(None if row[one] is None else row[one][two] for one, two in self.outputs) for row in joined]


def _join(joined: list[Joined], table: Sequence[Any], source: Source, parameters: Mapping[str, Any]) -> list[Joined]:
    if not source.keys:
        if len(joined) * len(table) > MOST_PAIRS:
            raise UnfitError
        matches: Callable[[Joined], Sequence[Any]] = lambda row: table  # noqa: E731
    else:
        build: dict[Any, list[Any]] = {}
        places = [inner for _, inner in source.keys]
        for row in table:
            key = tuple([row[place] for place in places])
            if None not in key:
                build.setdefault(key, []).append(row)
        outer = [place for place, _ in source.keys]

        def matches(row: Joined) -> Sequence[Any]:
            key = tuple([None if row[one] is None else row[one][two] for one, two in outer])
            return build.get(key, ())

    result: list[Joined] = []
    for row in joined:
        pairs = [(*row, match) for match in matches(row)]
        if source.conditions:
            pairs = [pair for pair in pairs if all(check(pair, parameters) is True for check in source.conditions)]
        if not pairs and source.left:
            pairs = [(*row, None)]
        result += pairs
    return result


def _ordered(rows: list[Joined], place: Place, descending: bool, nulls_first: bool) -> list[Joined]:
    one, two = place
    missing = [row for row in rows if row[one] is None or row[one][two] is None]
    rest = [row for row in rows if row[one] is not None and row[one][two] is not None]
    rest.sort(key=lambda row: row[one][two], reverse=descending)
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

    def make(self, tree: exp.Select) -> SmallFinish:
        if {name for name, value in tree.args.items() if value} - _PARTS:
            raise _OtherShape
        start, joins = tree.args.get("from_"), tree.args.get("joins") or []
        if start is None:
            raise _OtherShape
        where = tree.args.get("where")
        free = conjuncts(where.this if where else None)
        for join in joins:
            if (join.side or "").upper() not in ("", "LEFT") or (join.kind or "").upper() not in (
                "",
                "INNER",
                "CROSS",
                "OUTER",
            ):
                raise _OtherShape
            if join.args.get("using") or join.args.get("method"):
                raise _OtherShape
            if not join.side:
                free += conjuncts(join.args.get("on"))
        sources = [Source(self._add(start.this))]
        for join in joins:
            step = self._add(join.this)
            left = bool(join.side)
            parts = conjuncts(join.args.get("on")) if left else free
            keys = [(part, key) for part in parts if (key := self._key(part)) is not None]
            if not left:
                free = [part for part in free if all(part is not used for used, _ in keys)]
            rest = [part for part in parts if all(part is not used for used, _ in keys)] if left else []
            sources.append(
                Source(step, tuple(key for _, key in keys), left, tuple(self._condition(part) for part in rest))
            )
        order = tree.args.get("order")
        limit, offset = tree.args.get("limit"), tree.args.get("offset")
        outputs = tuple(self._place(column.unalias()) for column in tree.selects)
        return SmallFinish(
            tuple(sources),
            tuple(self._columns[alias][1] for alias in self._aliases),
            tuple(self._condition(part) for part in free),
            outputs,
            tuple(self._order(one, tree, outputs) for one in order.expressions) if order else (),
            _number(limit),
            _number(offset),
        )

    def _add(self, table: exp.Expr) -> str:
        if not isinstance(table, exp.Table) or table.name not in self._steps or table.args.get("joins"):
            raise _OtherShape
        alias = table.alias_or_name
        names, kinds = self._step_kinds[table.name]
        if any(family_of(kind) is None for kind in kinds):
            raise _OtherShape
        self._aliases.append(alias)
        self._columns[alias] = names, kinds
        return table.name

    def _place(self, column: exp.Expr) -> Place:
        if not isinstance(column, exp.Column) or column.table not in self._columns:
            raise _OtherShape
        names, _ = self._columns[column.table]
        return self._aliases.index(column.table), names.index(column.name)

    def _family(self, node: exp.Expr) -> str | None:
        if isinstance(node, exp.Column):
            one, two = self._place(node)
            return family_of(self._columns[self._aliases[one]][1][two])
        return None

    def _key(self, part: exp.Expr) -> tuple[Place, int] | None:
        """Return the keys of an equality between the source added last and one before it."""
        if not isinstance(part, exp.EQ):
            return None
        for inner, outer in ((part.this, part.expression), (part.expression, part.this)):
            if not isinstance(inner, exp.Column) or not isinstance(outer, exp.Column):
                return None
            if inner.table == self._aliases[-1] and outer.table in self._aliases[:-1]:
                if self._family(inner) != self._family(outer):
                    raise _OtherShape
                return self._place(outer), self._place(inner)[1]
        return None

    def _order(self, one: exp.Expr, tree: exp.Select, outputs: tuple[Place, ...]) -> tuple[Place, bool, bool]:
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
            place, inner = self._place(node)
            return lambda row, values: None if row[place] is None else row[place][inner]
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
            literal: Any = -_constant(node.this, family)
        elif isinstance(node, exp.Literal | exp.Null):
            literal = _constant(node, family)
        elif isinstance(node, exp.Placeholder) and family is not None:
            name, fits = str(node.this), FAMILIES[family]

            def parameter(row: Joined, values: Mapping[str, Any]) -> Any:
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
    if not isinstance(number, exp.Placeholder) and not (isinstance(number, exp.Literal) and number.is_int):
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
