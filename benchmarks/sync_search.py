"""Rows from PostgreSQL to an index of Elasticsearch, by a backfill and by the official client's bulk helper."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Annotated, Any

import asyncpg
from elasticsearch import AsyncElasticsearch
from elasticsearch.dsl import Keyword
from elasticsearch.helpers import async_bulk

from benchmarks.measure import Pair, timed
from benchmarks.synced import RULE, SyncedRow, table_of
from fedorm import FederatedSearchDocument, Federation
from fedorm.stores.elasticsearch import ElasticsearchStore
from fedorm.sync import CDC, SyncRule

ROWS = 10_000
CHUNK = 1_000
"""How many documents the helper sends at once, as the backfill does; its own default is 500."""
_QUERY = f"SELECT {', '.join(column.name for column in table_of('sync_source').columns)} FROM synced_rows ORDER BY id"


class SyncedText(FederatedSearchDocument):
    """The rows as documents."""

    __service__ = "sync_texts"
    id: int
    amount: int
    name: str
    city: Annotated[str, Keyword()]
    note: str
    price: Decimal
    made: datetime.datetime
    active: bool
    score: float
    day: datetime.date

    class Index:
        """The index."""

        name = "synced_texts"
        settings = {"number_of_shards": 1, "number_of_replicas": 0}


async def measured(urls: Mapping[str, str], rounds: int, *, alone: bool) -> Pair:
    """Fill an empty index both ways in turn; raise AssertionError if it is not the source's copy then.

    ``alone``: the helper is given actions that are in memory already; else it is while they are read, as by hand.
    """
    times: tuple[list[float], list[float]] = ([], [])
    async with Federation(dict(urls)) as fed:
        fed.sync.add(SyncRule(source=SyncedRow, to=SyncedText, strategy=CDC(), name=RULE))
        store = fed.stores["sync_texts"]
        assert isinstance(store, ElasticsearchStore)
        client: AsyncElasticsearch = store.client(sync=False)
        index = store.index_of(SyncedText)
        prepared = [one async for one in _actions(urls["sync_source"], index)] if alone else []

        async def ours() -> None:
            await fed.sync.backfill(RULE)

        async def theirs() -> None:
            actions: Any = prepared if alone else _actions(urls["sync_source"], index)
            await async_bulk(client, actions, chunk_size=CHUNK)

        for number in range(rounds + 1):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            for which in order:
                await fed.sync.reset(RULE)
                await store.drop_all(SyncedRow.metadata, [SyncedText])
                await store.create_all(SyncedRow.metadata, [SyncedText])
                took = await timed((ours, theirs)[which])
                await _check(client, index)
                if number:  # The first round is for warming up.
                    times[which].append(took)
        await fed.sync.reset(RULE)
        await store.drop_all(SyncedRow.metadata, [SyncedText])
    return Pair(*times)


async def _actions(url: str, index: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the helper's actions, rows read by a cursor of asyncpg's."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(_QUERY, prefetch=CHUNK):
                source = dict(row)
                source["price"] = float(source["price"])
                yield {"_index": index, "_id": str(row["id"]), "_source": source}
    finally:
        await connection.close()


async def _check(client: AsyncElasticsearch, index: str) -> None:
    await client.indices.refresh(index=index)
    answer = await client.search(
        index=index, size=0, track_total_hits=True, aggs={"amount": {"sum": {"field": "amount"}}}
    )
    found = (answer["hits"]["total"]["value"], answer["aggregations"]["amount"]["value"])
    expected = (ROWS, 70_000 * ROWS * (ROWS - 1) // 2)
    assert found == expected, f"the index has {found}, and the source {expected}"
