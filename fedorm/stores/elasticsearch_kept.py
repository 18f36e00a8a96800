"""The documents of an Elasticsearch service as they were before a test, put back after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedorm.stores.base import batches
from fedorm.stores.elasticsearch_query import ALL
from fedorm.stores.elasticsearch_scan import all_hits

if TYPE_CHECKING:
    from fedorm.stores.elasticsearch import ElasticsearchStore

_Kept = dict[tuple[str, str], Mapping[str, Any]]
"""The source of each document by its index and its id."""
_AT_ONCE = 1_000


class ElasticsearchKept:
    """The documents of all models of the service; their versions and sequence numbers go on, as they always do."""

    def __init__(self, store: ElasticsearchStore, *, sync: bool) -> None:
        self._store, self._sync = store, sync
        self._before: _Kept = {}

    async def remember(self) -> None:
        """Read all indices."""
        self._before = await self._all()

    async def restore(self) -> None:
        """Delete what is new, and write what has changed or is gone."""
        now, before = await self._all(), self._before
        operations: list[tuple[Any, ...]] = [
            ({"delete": {"_index": index, "_id": id_}},) for index, id_ in now.keys() - before.keys()
        ]
        for (index, id_), source in before.items():
            if now.get((index, id_)) != source:
                operations.append(({"index": {"_index": index, "_id": id_}}, source))
        async with self._store.named():
            for batch in batches(operations, _AT_ONCE):
                lines = [line for one in batch for line in one]
                await self._store.client(sync=self._sync).bulk(operations=lines, refresh=True)

    async def _all(self) -> _Kept:
        client, found = self._store.client(sync=self._sync), {}
        async with self._store.named():
            for index in {self._store.index_of(model) for model in self._store.models()}:
                if not await client.indices.exists(index=index):
                    continue
                await client.indices.refresh(index=index)
                async for page in all_hits(client, index, ALL):
                    found.update({(index, hit["_id"]): hit["_source"] for hit in page})
        return found
