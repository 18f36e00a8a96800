"""What a federated select reads of a collection: keys as a filter, fields as a projection, values in plain types."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from bson import Binary, Decimal128, ObjectId
from bson.errors import InvalidId
from sqlalchemy import ARRAY, Table, types

from fedorm.stores.base import batches
from fedorm.stores.document_table import FIELD, ObjectIdText


async def find_rows(
    collection: Any,
    table: Table,
    columns: Sequence[str],
    keys: Sequence[tuple[str, Sequence[Any]]],
    batch_size: int,
    transaction: Any,
) -> list[tuple[Any, ...]]:
    """Read columns of a collection; of several lists of keys the shortest travels, in batches."""
    queries: list[dict[str, Any]] = [{}]
    if keys:
        column, values = min(keys, key=lambda one: len(one[1]))
        queries = [keys_filter(table, column, batch) for batch in batches(values, batch_size)]
    fields = projection(table, columns)
    found: list[dict[str, Any]] = []
    for query in queries:
        found += await collection.find(query, fields, session=transaction).to_list(None)
    return rows(table, columns, found)


def projection(table: Table, columns: Sequence[str]) -> dict[str, int]:
    """Return the fields to read."""
    fields = {str(table.c[name].info[FIELD]): 1 for name in columns}
    return fields if "_id" in fields else {**fields, "_id": 0}


def keys_filter(table: Table, column: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return the filter for a column that equals one of ``values``."""
    kind = table.c[column].type
    stored = [stored_value(kind, value) for value in values]
    return {str(table.c[column].info[FIELD]): {"$in": stored}}


def stored_value(kind: types.TypeEngine[Any], value: Any) -> Any:
    """Return a value as the database holds it."""
    if isinstance(kind, ObjectIdText):
        try:
            return ObjectId(str(value))
        except InvalidId:
            return value
    if isinstance(kind, types.Uuid):
        import uuid

        return uuid.UUID(str(value))
    if isinstance(kind, types.Date) and isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return datetime.datetime.combine(value, datetime.time())
    return Decimal128(value) if isinstance(value, Decimal) else value


def rows(table: Table, columns: Sequence[str], found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return documents as rows of plain values; a field that is not there is NULL."""
    readers = [(str(table.c[name].info[FIELD]), _reader(table.c[name].type)) for name in columns]
    return [tuple(read(one.get(field)) for field, read in readers) for one in found]


def _reader(kind: types.TypeEngine[Any]) -> Callable[[Any], Any]:
    if isinstance(kind, types.JSON):
        return _plain
    if isinstance(kind, ARRAY):
        return lambda value: None if value is None else [_value(one) for one in value]
    if isinstance(kind, types.Date):
        return lambda value: value.date() if isinstance(value, datetime.datetime) else _value(value)
    return _value


def _value(value: Any) -> Any:
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, Binary):
        return bytes(value)
    return value


def _plain(value: Any) -> Any:
    """Return what JSON can hold; what it has no form for becomes text."""
    value = _value(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
