"""Tables that no model declares, read from ClickHouse's own catalog, in SQLAlchemy's own types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, text, types

from fedorm.stores.reflecting import Wanted

COLUMNS = (
    "SELECT table, name, type, is_in_primary_key FROM system.columns"
    " WHERE database = currentDatabase() ORDER BY table, position"
)
"""``position`` is a column of newer servers alone; older ones keep the order by themselves."""
OLD_COLUMNS = COLUMNS.replace(" ORDER BY table, position", "")

_INTEGERS: dict[str, type[types.Integer]] = {
    "Int8": types.SmallInteger, "UInt8": types.SmallInteger, "Int16": types.SmallInteger, "UInt16": types.Integer,
    "Int32": types.Integer, "UInt32": types.BigInteger, "Int64": types.BigInteger, "UInt64": types.BigInteger,
}  # fmt: skip
_SIMPLE: dict[str, type[types.TypeEngine[Any]]] = {
    "String": types.Text, "Bool": types.Boolean, "UUID": types.Uuid, "Date": types.Date, "Date32": types.Date,
}  # fmt: skip
_WIDTHS = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}


def reflect_tables(connection: Connection, metadata: MetaData, wanted: Wanted, *, old: bool) -> None:
    """Put the tables and views of the database into ``metadata``; ``old``: the server is older than 20."""
    tables: dict[str, list[Column[Any]]] = {}
    for table, name, kind, is_key in connection.execute(text(OLD_COLUMNS if old else COLUMNS)):
        if wanted(table):
            made, nullable = column_type(kind)
            tables.setdefault(table, []).append(Column(name, made, primary_key=bool(is_key), nullable=nullable))
    for table, columns in tables.items():
        Table(table, metadata, *columns)


def column_type(declared: str) -> tuple[types.TypeEngine[Any], bool]:
    """Return the type of a column and whether it takes NULL, from the server's words for it.

    A type that SQLAlchemy has no word for, as a Map, becomes ``NullType``: its values are what the driver returns.
    """
    name, arguments = _split(declared)
    if name == "Nullable":
        return column_type(arguments[0])[0], True
    if name in ("LowCardinality", "SimpleAggregateFunction"):
        return column_type(arguments[-1])
    return _plain_type(name, arguments), False


def _plain_type(name: str, arguments: list[str]) -> types.TypeEngine[Any]:
    if name in _INTEGERS:
        return _INTEGERS[name]()
    if name.startswith(("Float", "BFloat")):
        return types.Float()
    if name == "Decimal":
        return types.Numeric(int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0)
    if name in _WIDTHS:
        return types.Numeric(_WIDTHS[name], int(arguments[0]))
    if name.startswith("DateTime"):
        return types.DateTime(timezone=any(one.startswith("'") for one in arguments))
    if name.startswith("Enum"):
        return types.Enum(*map(_enum_value, arguments), native_enum=False)
    if name == "FixedString":
        return types.String(int(arguments[0]))
    if name == "Array":
        inner, _ = column_type(arguments[0])
        return types.NullType() if isinstance(inner, types.NullType) else types.ARRAY(inner)
    return _SIMPLE.get(name, types.NullType)()


def _enum_value(argument: str) -> str:
    quoted = argument.rpartition("=")[0].strip()[1:-1]
    return re.sub(r"\\(.)", r"\1", quoted)


def _split(declared: str) -> tuple[str, list[str]]:
    """Return a type's name and its arguments as texts."""
    name, opened, rest = declared.partition("(")
    return name, list(_arguments(rest[:-1])) if opened else []


_TOKENS = re.compile(r"'(?:[^'\\]|\\.)*'|.", re.DOTALL)


def _arguments(listed: str) -> Iterator[str]:
    depth, current = 0, ""
    for part in _TOKENS.findall(listed):
        depth += (part == "(") - (part == ")")
        if part == "," and depth == 0:
            yield current.strip()
            current = ""
        else:
            current += part
    if current.strip():
        yield current.strip()
