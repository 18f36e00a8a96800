"""A step as a statement of its service, made once: the values are put in for each execution."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, Executable, Select, bindparam, cast, column, select, text, type_coerce, types
from sqlglot import exp

from fedorm.query.plan import Order, Piece, Scan
from fedorm.query.rules.moments import moment
from fedorm.query.tables import JsonText, ReadJson, result_type, storage_type, to_database
from fedorm.stores.base import Capability
from fedorm.stores.exact import Compared
from fedorm.stores.sql import SQLStore

KindOf = Callable[[exp.Expr], types.TypeEngine[Any] | None]


@dataclass(frozen=True, slots=True)
class Slot:
    """A value of a statement: that of the user's ``parameter``, or else ``literal``."""

    name: str
    parameter: str | None
    literal: Any
    kind: types.TypeEngine[Any] | None

    def value(self, parameters: Mapping[str, Any]) -> Any:
        """Return the value in its storage type."""
        value = self.literal if self.parameter is None else parameters[self.parameter]
        return to_database(self.kind, value) if self.kind is not None else value


@dataclass(frozen=True, slots=True)
class Prepared:
    """A statement and what has to be bound."""

    statement: Executable
    slots: tuple[Slot, ...]

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values to bind, from the user's parameters."""
        return {slot.name: slot.value(parameters) for slot in self.slots}


def prepare_scan(store: SQLStore, scan: Scan, ranges: Sequence[str], parameters: Mapping[str, Any]) -> Prepared:
    """Return a scan's select; each column of ``ranges`` has to be between ``low<n>`` and ``high<n>``."""
    columns = [_read(store, scan.table.c[name]) for name in scan.columns]
    statement: Select[Any] = select(*columns).select_from(scan.table)
    slots: list[Slot] = []
    for number, predicate in enumerate(scan.predicates):
        made = exp.Paren(this=predicate.copy())
        if store.sql_dialect == "clickhouse":  # There the name alone could be that of a value made of the column.
            for named in made.find_all(exp.Column):
                named.set("table", exp.to_identifier(str(scan.table.name), quoted=True))
        bound, binds = bind(made, lambda node: compared_type(scan, node), f"q{number}_", parameters)
        slots += bound
        statement = statement.where(text(_written(made, store, identify=True)).bindparams(*binds))
    for number, name in enumerate(ranges):
        column = type_coerce(scan.table.c[name], storage_type(scan.table.c[name].type))
        low, high = (bindparam(f"{end}{number}", type_=column.type) for end in ("low", "high"))
        statement = statement.where(column.between(low, high))
    for one in scan.order:
        statement = statement.order_by(*_ordered(store, scan.table.c[one.column], one))
    if scan.limit is not None:
        statement = statement.limit(bindparam("fedorm_limit", type_=types.Integer()))
    return Prepared(statement, tuple(slots))


def _read(store: SQLStore, column: Column[Any]) -> Any:
    """Return a column as it is read."""
    kind = result_type(column.type)
    if isinstance(kind, ReadJson) and Capability.WHOLE_QUERIES in store.capabilities:
        return type_coerce(cast(column, types.Text()), JsonText()).label(column.name)
    return type_coerce(column, kind)


def _ordered(store: SQLStore, column: Any, order: Order) -> Sequence[Any]:
    """Return the terms of ORDER BY, NULL where it has to be, in words that every database has."""
    term = column.desc() if order.descending else column.asc()
    if not column.nullable:
        return (term,)
    if order.nulls_first == order.descending and Capability.WHOLE_QUERIES in store.capabilities:
        return (term,)  # As PostgreSQL does it by itself, and by an index.
    missing = column.is_(None)
    return (missing.desc() if order.nulls_first else missing.asc(), term)


def prepare_piece(
    store: SQLStore, piece: Piece, lists: Sequence[str], ranges: Sequence[str], parameters: Mapping[str, Any]
) -> Prepared:
    """Return a piece's statement; keys are bound as ``k<n>`` for lists, then as ``low<n>`` and ``high<n>``."""
    query = piece.query.copy()
    binds: list[Any] = []

    def target(name: str) -> exp.Expr:
        alias, column = piece.origins[name]
        return exp.column(column, table=alias, quoted=True)

    for number, name in enumerate(lists):
        kind = key_type(piece, name)
        binds.append(store.key_parameter(f"k{number}", kind, []))
        written = f"{_written(target(name), store)} {store.key_condition(f'k{number}')}"
        query = _narrowed(query, exp.Var(this=written))
    for number, name in enumerate(ranges):
        kind = key_type(piece, name)
        low, high = (exp.Var(this=f":{end}{number}") for end in ("low", "high"))
        query = _narrowed(query, exp.Between(this=target(name), low=low, high=high))
        binds += [bindparam(f"{end}{number}", type_=kind) for end in ("low", "high")]
    kind_of = (lambda node: _kind_in(piece, node)) if piece.tables else None
    slots, own = bind(query, kind_of, "v", parameters)
    statement: Any = text(_written(query, store)).bindparams(*binds, *own)
    if piece.tables:  # The drivers' values may not be those that SQLAlchemy makes of them.
        statement = statement.columns(
            *(column(name, kind or types.NullType()) for name, kind in zip(piece.columns, piece.kinds, strict=True))
        )
    return Prepared(statement, tuple(slots))


def key_type(piece: Piece, name: str) -> types.TypeEngine[Any] | None:
    """Return the type of the keys that a piece's column is compared with."""
    alias, of = piece.origins[name]
    return storage_type(piece.tables[alias].c[of].type) if alias in piece.tables else None


def _kind_in(piece: Piece, node: exp.Expr) -> types.TypeEngine[Any] | None:
    """Return the type of the column that a value is compared with; None where there is none, or are several."""
    leaf = node.find_ancestor(exp.Binary, exp.In, exp.Between, exp.Is)
    columns = {(one.table, one.name) for one in leaf.find_all(exp.Column)} if leaf is not None else set()
    if len(columns) != 1:
        return None
    alias, name = columns.pop()
    return storage_type(piece.tables[alias].c[name].type) if alias in piece.tables else None


def _written(tree: exp.Expr, store: SQLStore, *, identify: bool = False) -> str:
    """Return a tree as SQL for ``text()``, for which a colon in a name, or in a comment, would begin a parameter."""
    for name in tree.find_all(exp.Identifier):
        name.set("this", str(name.this).replace(":", "\\:"))
    if store.sql_dialect == "clickhouse":  # Older servers do not know TRUE and FALSE.
        tree = tree.transform(
            lambda node: exp.Literal.number(int(bool(node.this))) if isinstance(node, exp.Boolean) else node
        )
    return tree.sql(dialect=store.sql_dialect, identify=identify, comments=False)


def _narrowed(query: exp.Query, condition: exp.Expr) -> exp.Query:
    assert isinstance(query, exp.Select)
    return query.where(condition, copy=False)


def bind(
    tree: exp.Expr, kind_of: KindOf | None, prefix: str, parameters: Mapping[str, Any]
) -> tuple[list[Slot], list[Any]]:
    """Write a marker in the place of each value; return the slots and the parameters of ``text()``.

    Without a type numbers stay as they are: PostgreSQL wants them so in LIMIT, and by position in GROUP BY.
    """
    slots: list[Slot] = []
    binds: list[Any] = []
    for node in list(tree.find_all(exp.Placeholder, exp.Literal)):
        kind = kind_of(node) if kind_of is not None else None
        if isinstance(node, exp.Literal) and kind is None and not _is_text_value(node):
            if node.is_string:
                node.set("this", str(node.this).replace(":", "\\:"))  # For text() a colon begins a parameter.
            continue
        name = f"{prefix}{len(slots)}"
        is_parameter = isinstance(node, exp.Placeholder)
        parameter, literal = (str(node.this), None) if is_parameter else (None, node.to_py())
        if isinstance(literal, str):
            literal = _moment(literal, kind)
        elif isinstance(literal, Decimal) and isinstance(kind, types.Float):
            literal = float(literal)
        value = parameters[parameter] if parameter is not None else literal
        kind = _unrounded(kind, value)
        slots.append(Slot(name, parameter, literal, kind))
        marker, parent = exp.Var(this=f":{name}"), node.parent
        if isinstance(value, list | tuple) and isinstance(parent, exp.In):
            parent.replace(exp.In(this=parent.this, field=marker))  # SQLAlchemy writes the parentheses.
            binds.append(bindparam(name, type_=kind, expanding=True))
        else:
            node.replace(marker)
            # The type of a value without a column is that which SQLAlchemy takes from the value itself.
            binds.append(
                bindparam(name, type_=kind) if kind is not None else bindparam(name, slots[-1].value(parameters))
            )
    return slots, binds


def _unrounded(kind: types.TypeEngine[Any] | None, value: Any) -> types.TypeEngine[Any] | None:
    """Return the type of a column as that of what it is compared with, which may be finer: 0.499 is less than 0.50."""
    some = next((one for one in value if one is not None), None) if isinstance(value, list | tuple) else value
    if isinstance(kind, types.Numeric) and not isinstance(kind, types.Float):
        return Compared()
    if isinstance(kind, types.Integer) and isinstance(some, Decimal | float):
        return None
    if isinstance(kind, types.Date) and isinstance(some, datetime.datetime):
        return None
    return kind


def _moment(literal: str, kind: types.TypeEngine[Any] | None) -> Any:
    """Return a date or time that is written as a text, for a column that has such values."""
    if isinstance(kind, types.DateTime):
        return moment(literal, exp.DType.TIMESTAMPTZ if kind.timezone else exp.DType.TIMESTAMP)
    return moment(literal, exp.DType.DATE) if isinstance(kind, types.Date) else literal


def _is_text_value(node: exp.Literal) -> bool:
    """Say whether a literal is compared with a text; others may be part of the syntax, as in an interval."""
    if not node.is_string or not isinstance(node.parent, exp.Binary | exp.In | exp.Between):
        return False
    columns = list(node.parent.find_all(exp.Column))
    return bool(columns) and all(column.is_type(*exp.DataType.TEXT_TYPES) for column in columns)


def compared_type(scan: Scan, node: exp.Expr) -> types.TypeEngine[Any] | None:
    """Return the type of the column that a value is compared with; None where there is none, or are several."""
    leaf = node.find_ancestor(exp.Binary, exp.In, exp.Between, exp.Is)
    columns = {column.name for column in leaf.find_all(exp.Column)} if leaf is not None else set()
    return storage_type(scan.table.c[columns.pop()].type) if len(columns) == 1 else None
