"""``session.find()`` over an index: reads no more of it than is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedorm.stores.conditions import Both
from fedorm.stores.elasticsearch_client import counted
from fedorm.stores.elasticsearch_scan import PAGE
from fedorm.stores.entity_find import EntityFind

if TYPE_CHECKING:
    from fedorm.stores.elasticsearch import ElasticsearchStore


class SearchFind(EntityFind):
    """Stops reading at its limit unless the documents are to be sorted; counts a whole index by its own counter."""

    _store: ElasticsearchStore

    async def count(self) -> int:
        """Count what fulfils the conditions."""
        if any(part != Both() for part in self._where.parts):
            return await super().count()
        await self._reader.before_reading(self._store)
        async with self._store.named():
            return await counted(self._store.client(sync=self._sync), self._store.index_of(self._model))

    async def _found(self) -> list[dict[str, Any]]:
        if self._limit is not None and self._limit <= PAGE and not self._order:
            await self._reader.before_reading(self._store)
            found = await self._store.first_of(self._model, self._where, self._limit, sync=self._sync)
            if found is not None:
                return found
        return await super()._found()
