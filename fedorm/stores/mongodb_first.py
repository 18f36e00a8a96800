"""The first rows of a collection in an order that MongoDB does not have: PostgreSQL's place of NULL and of NaN.

Both order the documents with a value alike, and those with NaN or NULL need no order: such blocks are read one after
the other until there are rows enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import types

from fedorm.stores.conditions import ALWAYS, Compare, DocumentScan
from fedorm.stores.document_table import ObjectIdText
from fedorm.stores.entity_table import FIELD
from fedorm.stores.holding import columns_in, surely_holds
from fedorm.stores.mongodb_columns import column_values, columns_of
from fedorm.stores.mongodb_match import Filter, both_filters, match_filter

Find = Callable[..., Any]
"""Makes the cursor of a filter; takes the options of ``find``."""

_SORTED = (types.Integer, types.Numeric, types.Float, types.DateTime, types.Date, types.Uuid, ObjectIdText)
"""Not texts: a collection's collation orders them in its own way."""


def has_first_rows(wanted: DocumentScan) -> bool:
    """Say whether MongoDB can tell which rows are the first ones."""
    limit = wanted.limit
    if limit is None or (isinstance(limit, int) and limit < 1) or wanted.keys or not wanted.complete:
        return False
    if not columns_in(wanted.where) <= set(wanted.columns):
        return False
    kind = wanted.table.c[wanted.order[0].column].type if wanted.order else types.Integer()
    return isinstance(kind, _SORTED)


async def first_rows(find: Find, wanted: DocumentScan, query: Filter) -> list[dict[str, Any]]:
    """Return documents among which the first ``limit`` rows are; those equal to the last in a longer order, too.

    A filter may let documents pass that do not fulfil the condition: when one such is among them, all are read.
    """
    found = await _first(find, wanted, query)
    if wanted.where != ALWAYS:
        names = sorted(columns_in(wanted.where))
        for values in zip(*columns_of(wanted.table, names, found), strict=True):
            if not surely_holds(wanted.table, wanted.where, dict(zip(names, values, strict=True))):
                return list(await find(query).to_list(None))
    return found


async def _first(find: Find, wanted: DocumentScan, query: Filter) -> list[dict[str, Any]]:
    limit = wanted.limit
    assert isinstance(limit, int)
    if not wanted.order:
        first: list[dict[str, Any]] = await find(query, limit=limit).to_list(None)
        return first
    order = wanted.order[0]
    column = wanted.table.c[order.column]
    path = str(column.info[FIELD])
    sort = {"sort": [(path, -1 if order.descending else 1)]}
    found: list[dict[str, Any]] = []
    for block, is_sorted in _blocks(path, column.type, descending=order.descending, nulls_first=order.nulls_first):
        missing = limit - len(found)
        narrowed = both_filters([query, block]) or {}
        if len(wanted.order) == 1:
            found += await find(narrowed, limit=missing, **(sort if is_sorted else {})).to_list(None)
        else:
            if is_sorted:
                last = await find(narrowed, skip=missing - 1, limit=1, **sort).to_list(None)
                for value in column_values(column, last):
                    bound = Compare(order.column, ">=" if order.descending else "<=", value)
                    narrowed = both_filters([narrowed, match_filter(wanted.table, bound)]) or {}
            found += await find(narrowed).to_list(None)
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
