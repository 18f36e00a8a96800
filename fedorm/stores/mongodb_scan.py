"""What a federated select reads of a collection: a filter, a projection, an order; or all that as text."""

from __future__ import annotations

import datetime
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bson import DBRef, Decimal128, ObjectId
from sqlalchemy import Table

from fedorm.stores.base import batches
from fedorm.stores.bson_types import class_filter
from fedorm.stores.conditions import Both, Condition, DocumentScan, OneOf, Parameter
from fedorm.stores.document_table import LINK
from fedorm.stores.entity_table import COLLECTION, FIELD, MODEL
from fedorm.stores.mongodb_columns import columns_of
from fedorm.stores.mongodb_first import first_rows, has_first_rows
from fedorm.stores.mongodb_match import Filter, both_filters, equal_values, flattened, match_filter

READ_AT_ONCE = 10_000
"""Documents that are there as such at a time; what remains of them are rows."""


async def find_rows(collection: Any, wanted: DocumentScan, batch_size: int, transaction: Any) -> list[tuple[Any, ...]]:
    """Read columns of a collection; a long list of keys travels in batches. Raises ``FieldTypeError``."""
    fields = projection(wanted.table, wanted.columns)

    def find(query: Filter, **options: Any) -> Any:
        return collection.find(query, fields, session=transaction, **options)

    def rows_of(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        return list(zip(*columns_of(wanted.table, wanted.columns, found), strict=True))

    queries = filters(wanted, batch_size)
    if len(queries) == 1 and has_first_rows(wanted):
        return rows_of(await first_rows(find, wanted, queries[0]))
    rows: list[tuple[Any, ...]] = []
    for query in queries:
        async with find(query) as cursor:
            while found := await cursor.to_list(READ_AT_ONCE):
                rows += rows_of(found)
    return rows


def filters(wanted: DocumentScan, batch_size: int) -> list[Filter]:
    """Return the filters whose documents together are those that are wanted; none when there are none."""
    table = wanted.table
    lists = [OneOf(column, tuple(values)) for column, values in wanted.keys]
    rest: list[Condition] = []
    for part in flattened(wanted.where):
        if isinstance(part, OneOf) and not part.negated:
            lists.append(part)
        else:
            rest.append(part)
    lists.sort(key=lambda one: len(one.values))
    short = [one for one in lists if len(one.values) <= batch_size]
    model = table.info[MODEL]
    own_class = class_filter(model) if model is not None else {}
    common = both_filters([own_class, match_filter(table, Both((*rest, *short)))])
    if common is None:
        return []
    if short or not lists:  # A short list of keys is better than any long one.
        return [common]
    column, values = lists[0].column, _distinct(table, lists[0])
    if values is None:
        return [common]
    parts = [match_filter(table, OneOf(column, tuple(batch))) for batch in batches(values, batch_size)]
    return [query for part in parts if (query := both_filters([common, part])) is not None]


def _distinct(table: Table, keys: OneOf) -> list[Any] | None:
    """Return keys of which no two find the same document; None where a key's documents cannot be listed."""
    found: dict[Any, Any] = {}
    for value in keys.values:
        equal = equal_values(table.c[keys.column].type, value)
        if equal is None:
            return None
        if equal:
            first = equal[0].to_decimal() if isinstance(equal[0], Decimal128) else equal[0]
            found.setdefault(first, value)
    return list(found.values())


def projection(table: Table, columns: Sequence[str]) -> dict[str, int]:
    """Return the fields to read; of a field and one inside it, which MongoDB refuses together, the outer one."""
    names = {str(table.c[name].info[FIELD]).removesuffix(LINK) for name in columns}
    fields = {name: 1 for name in sorted(names) if not any(name.startswith(f"{outer}.") for outer in names)}
    return fields if "_id" in fields else {**fields, "_id": 0}


# -- as text


def described(wanted: DocumentScan) -> str:
    """Return what is sent for a scan, in the words of MongoDB's shell; a parameter shows as its name."""
    name = str(wanted.table.info[COLLECTION])
    queries = filters(wanted, sys.maxsize)
    if not queries:
        return f"{name}: nothing"
    told = f"{name}.find({shown(queries[0])}, {shown(projection(wanted.table, wanted.columns))})"
    if has_first_rows(wanted):
        first = wanted.order[:1]
        sort = {str(wanted.table.c[one.column].info[FIELD]): -1 if one.descending else 1 for one in first}
        told += (f".sort({shown(sort)})" if sort else "") + f".limit({shown(wanted.limit)})"
    return told


def shown(value: Any) -> str:
    """Return a value of a filter in the words of MongoDB's shell."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)}: {shown(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, Parameter):
        return f":{value.name}"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value).replace("inf", "Infinity")
    if isinstance(value, datetime.datetime):
        return f'ISODate("{value.isoformat()}")'
    if isinstance(value, DBRef):
        return f"DBRef({shown(value.collection)}, {shown(value.id)})"
    for kind, name in ((Decimal128, "NumberDecimal"), (ObjectId, "ObjectId"), (UUID, "UUID")):
        if isinstance(value, kind):
            return f'{name}("{value}")'
    return json.dumps(value, ensure_ascii=False, default=repr)
