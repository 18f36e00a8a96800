"""The first rows of a collection in an order that MongoDB does not have: PostgreSQL's place of NULL and of NaN.

Both order the documents with a value alike, and those with NaN or NULL need no order: such blocks are read one after
the other until there are rows enough.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import types

from fedorm.stores.conditions import ALWAYS, Compare, DocumentScan
from fedorm.stores.document_table import FIELD, ObjectIdText
from fedorm.stores.mongodb_columns import column_values
from fedorm.stores.mongodb_match import Filter, both_filters, match_filter

Read = Callable[..., Awaitable[list[dict[str, Any]]]]
"""Reads the documents that a filter finds; takes the options of ``find``."""

_SORTED = (types.Integer, types.Numeric, types.DateTime, types.Date, types.Uuid, ObjectIdText)
"""Not texts: a collection's collation orders them in its own way."""


def has_first_rows(wanted: DocumentScan) -> bool:
    """Say whether MongoDB can tell which rows are the first ones; not behind conditions, which find too many."""
    limit = wanted.limit
    if limit is None or (isinstance(limit, int) and limit < 1) or wanted.where != ALWAYS or wanted.keys:
        return False
    kind = wanted.table.c[wanted.order[0].column].type if wanted.order else types.Integer()
    return isinstance(kind, _SORTED)


async def first_rows(read: Read, wanted: DocumentScan, query: Filter) -> list[dict[str, Any]]:
    """Return documents among which the first ``limit`` rows are; those equal to the last in a longer order, too."""
    limit = wanted.limit
    assert isinstance(limit, int)
    if not wanted.order:
        return await read(query, limit=limit)
    order = wanted.order[0]
    column = wanted.table.c[order.column]
    path = str(column.info[FIELD])
    sort = {"sort": [(path, -1 if order.descending else 1)]}
    found: list[dict[str, Any]] = []
    for block, is_sorted in _blocks(path, column.type, descending=order.descending, nulls_first=order.nulls_first):
        missing = limit - len(found)
        narrowed = both_filters([query, block]) or {}
        if len(wanted.order) == 1:
            found += await read(narrowed, limit=missing, **(sort if is_sorted else {}))
        else:
            if is_sorted:
                last = await read(narrowed, skip=missing - 1, limit=1, **sort)
                for value in column_values(column, last):
                    bound = Compare(order.column, ">=" if order.descending else "<=", value)
                    narrowed = both_filters([narrowed, match_filter(wanted.table, bound)]) or {}
            found += await read(narrowed)
        if len(found) >= limit:
            break
    return found


def _blocks(
    path: str, kind: types.TypeEngine[Any], *, descending: bool, nulls_first: bool
) -> list[tuple[Filter, bool]]:
    """Return filters of documents that come one after the other, and whether those of each are to be sorted."""
    values: list[tuple[Filter, bool]] = [({path: {"$ne": None}}, True)]
    if isinstance(kind, types.Float):
        values = [({path: {"$gte": -math.inf}}, True), ({path: math.nan}, False)]
    if descending:
        values.reverse()
    nulls: tuple[Filter, bool] = ({path: None}, False)
    return [nulls, *values] if nulls_first else [*values, nulls]
