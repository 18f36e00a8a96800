"""What is read of an index: pages of hits, and what a federated select asks for, sent or as text."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Table, types

from fedorm.stores.base import batches
from fedorm.stores.conditions import ALWAYS, Both, Condition, DocumentScan, OneOf, Parameter
from fedorm.stores.elasticsearch_client import WHOLE, IncompleteError, reason_of
from fedorm.stores.elasticsearch_query import ALL, Mapped, Query, both_queries, indexed, match_query
from fedorm.stores.elasticsearch_values import rows_of
from fedorm.stores.entity_table import COLLECTION, FIELD, MODEL
from fedorm.stores.holding import columns_in, surely_holds

PAGE = 10_000
"""The most hits that a search returns, unless an index is set otherwise."""
_KEEP = "2m"
_READS: dict[str, Any] = {"track_total_hits": False, **WHOLE}
Hit = Mapping[str, Any]


async def all_hits(
    client: Any, index: str, query: Query, *, source: Any = None, size: int = PAGE
) -> AsyncGenerator[list[Hit]]:
    """Yield all documents that match in pages; more than one page are as they were at one moment."""
    options: dict[str, Any] = {"query": query, "size": size, "seq_no_primary_term": True, **_READS}
    if source is not None:
        options["source"] = source
    answer = await client.search(index=index, sort=["_doc"], **options)
    hits = answer["hits"]["hits"]
    if len(hits) < size:
        yield hits
        return
    opened = await client.open_point_in_time(index=index, keep_alive=_KEEP)
    pit = opened["id"]
    try:
        after: dict[str, Any] = {}
        while True:
            answer = await client.search(pit={"id": pit, "keep_alive": _KEEP}, sort=["_shard_doc"], **after, **options)
            pit, hits = answer.get("pit_id", pit), answer["hits"]["hits"]
            if hits:
                yield hits
            if len(hits) < size:
                return
            after = {"search_after": hits[-1]["sort"]}
    finally:
        await client.close_point_in_time(id=pit)


async def hits_with_ids(client: Any, index: str, ids: Sequence[str], *, source: Any = None) -> list[Hit]:
    """Return the documents with these ids that are there, written up to now."""
    options = {} if source is None else {"source": source}
    names = list(dict.fromkeys(ids))
    answer = await client.mget(index=index, ids=names, **options)
    for one in answer["docs"]:
        error = one.get("error")
        if error is not None and error.get("type") != "index_not_found_exception":
            raise IncompleteError(f"document {one['_id']!r} could not be read: {reason_of(error)}")
    return [one for one in answer["docs"] if one.get("found")]


def agreed(several: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the properties that several mappings have alike; a field that one of them lacks is in none."""
    first, *others = several or [{}]
    return {name: one for name, one in first.items() if all(other.get(name) == one for other in others)}


# -- federated selects


async def read_rows(
    client: Any, index: str, wanted: DocumentScan, mapped: Mapped, batch_size: int
) -> list[tuple[Any, ...]]:
    """Read columns of an index; a long list of keys travels in batches. Raises ``UnfitError``."""
    source = sorted({str(wanted.table.c[name].info[FIELD]) for name in wanted.columns})
    found = queries(wanted, mapped, batch_size)
    if len(found) == 1 and has_first_rows(wanted, mapped):
        rows = await _first_rows(client, index, wanted, found[0], source)
        if rows is not None:
            return rows
    rows = []
    for query in found:
        async for page in all_hits(client, index, query, source=source):
            rows += _rows(wanted, page)
    return rows


def _rows(wanted: DocumentScan, hits: Sequence[Hit]) -> list[tuple[Any, ...]]:
    return rows_of(wanted.table, wanted.columns, [{"_id": hit["_id"], **hit.get("_source", {})} for hit in hits])


def queries(wanted: DocumentScan, mapped: Mapped, batch_size: int) -> list[Query]:
    """Return the queries whose documents together are those that are wanted, each once; none where there are none."""
    table = wanted.table
    lists = sorted((OneOf(column, tuple(values)) for column, values in wanted.keys), key=lambda one: len(one.values))
    parts: list[Condition] = [wanted.where, *lists[1:]]
    if not lists or len(lists[0].values) <= batch_size:
        query = match_query(table, Both((*parts, *lists[:1])), mapped)
        return [] if query is None else [query]
    common = match_query(table, Both(tuple(one for one in parts if not _is_long(one, batch_size))), mapped)
    found = []
    for batch in batches(lists[0].values, batch_size):
        part = match_query(table, OneOf(lists[0].column, tuple(batch)), mapped)
        if part == ALL or "range" in json.dumps(part, default=str):
            # Keys that are not looked for as they are: documents could be found by several batches.
            return [] if common is None else [common]
        query = both_queries([common, part])
        if query is not None:
            found.append(query)
    return found


def _is_long(condition: Condition, batch_size: int) -> bool:
    return isinstance(condition, OneOf) and len(condition.values) > batch_size


_SORTED = (types.Integer, types.Float, types.Boolean)
"""Types that are sorted as they are held: not texts, nor what is indexed to less than all its digits."""


def has_first_rows(wanted: DocumentScan, mapped: Mapped) -> bool:
    """Say whether the server can tell which rows are the first ones."""
    limit = wanted.limit
    if not isinstance(limit, int) or not 0 < limit <= PAGE or wanted.keys or not wanted.complete:
        return False
    if not columns_in(wanted.where) <= set(wanted.columns):
        return False
    columns = [wanted.table.c[one.column] for one in wanted.order]
    return all(isinstance(one.type, _SORTED) and indexed(one, mapped) is not None for one in columns)


async def _first_rows(
    client: Any, index: str, wanted: DocumentScan, query: Query, source: Sequence[str]
) -> list[tuple[Any, ...]] | None:
    """Return the first rows; None when one is among them that may not fulfil the condition."""
    sort: list[Any] = [_sorted(wanted.table, one) for one in wanted.order]
    answer = await client.search(
        index=index, query=query, sort=sort or ["_doc"], size=wanted.limit, source=source, **_READS
    )
    rows = _rows(wanted, answer["hits"]["hits"])
    places = [wanted.columns.index(one.column) for one in wanted.order if one.column in wanted.columns]
    if any(type(row[place]) is float and row[place] == 0 for row in rows for place in places):
        return None  # Of its two zeros an index puts the one before the other, whatever comes next in the order.
    if wanted.where != ALWAYS:
        for row in rows:
            if not surely_holds(wanted.table, wanted.where, dict(zip(wanted.columns, row, strict=True))):
                return None
    return rows


def _sorted(table: Table, order: Any) -> dict[str, Any]:
    path = str(table.c[order.column].info[FIELD])
    missing = "_first" if order.nulls_first else "_last"
    return {path: {"order": "desc" if order.descending else "asc", "missing": missing}}


# -- as text


def described(wanted: DocumentScan) -> str:
    """Return what is sent for a scan; a parameter shows as its name."""
    from fedorm.stores.elasticsearch_mapping import properties_of

    name, model = str(wanted.table.info[COLLECTION]), wanted.table.info[MODEL]
    mapped = properties_of(model) if model is not None else {}
    query = match_query(wanted.table, Both((wanted.where, *(OneOf(one, tuple(v)) for one, v in wanted.keys))), mapped)
    if query is None:
        return f"{name}: nothing"
    body: dict[str, Any] = {
        "query": query,
        "_source": sorted({str(wanted.table.c[n].info[FIELD]) for n in wanted.columns}),
    }
    if has_first_rows(replace(wanted, limit=1) if isinstance(wanted.limit, Parameter) else wanted, mapped):
        body |= {"sort": [_sorted(wanted.table, one) for one in wanted.order]} if wanted.order else {}
        body["size"] = wanted.limit
    return f"GET {name}/_search {json.dumps(body, ensure_ascii=False, default=_shown)}"


def _shown(value: Any) -> str:
    return f":{value.name}" if isinstance(value, Parameter) else repr(value)
