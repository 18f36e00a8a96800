"""The history of a search index: files that make, change and drop indices and index templates."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from fedorm.catalog import catalog
from fedorm.migrate.files import FileHistory, loaded
from fedorm.migrate.indices import changes
from fedorm.migrate.leases import leased
from fedorm.migrate.templates import INDICES, INDICES_SETTINGS
from fedorm.stores.elasticsearch import ElasticsearchStore
from fedorm.stores.elasticsearch_schema import Index, Indices, declared, differences, present
from fedorm.stores.elasticsearch_writing import put_unless_changed

OWN = "fedorm-migrations"
"""The index, without the prefix, of which revision the others are at."""
_CURRENT, _LOCK = "current", "lock"


class IndexHistory(FileHistory):
    """Files with classes ``Forward`` and ``Backward``, whose coroutines are given ``Indices``.

    Nothing of it is in a transaction: a file that fails half-way is to be mended, and run again.
    """

    thing = "index"
    settings_file = "indices.toml"
    settings_text = INDICES_SETTINGS
    revision_text = INDICES
    _store: ElasticsearchStore

    @property
    def _client(self) -> Any:
        return self._store.client(sync=self._sync)

    @property
    def _own(self) -> str:
        return f"{self._store.prefix}{OWN}"

    def locked(self, *, wait: float) -> AbstractAsyncContextManager[None]:
        """Hold a document that has to be renewed."""
        return leased(self._store, _Lease(self._client, self._own), wait=wait)

    async def current(self) -> list[str]:
        """Get the document that says it."""
        async with self._store.named():
            found = await self._client.options(ignore_status=404).get(index=self._own, id=_CURRENT)
        name = found.get("_source", {}).get("name")
        return [str(name).removesuffix(".py")] if name else []

    async def _run(self, path: Path, side: str, after: str | None) -> None:
        found: Any = getattr(loaded(path), side, None)
        indices = Indices(self._client, self._store.prefix)
        try:
            async with self._store.named():
                for name in dir(found) if found is not None else ():
                    if not name.startswith("_"):
                        await getattr(found(), name)(indices)
                await self._write_log(after)
        finally:
            self._store.forget_indices()

    async def _write_log(self, name: str | None) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        await self._client.index(index=self._own, id=_CURRENT, document={"name": name, "ts": now})

    def _changes(self, before: Mapping[str, Index], after: Mapping[str, Index]) -> list[str]:
        return changes(before, after)

    def _differences(self, wanted: Index, there: Index) -> Iterable[str]:
        return differences(wanted, there)

    async def _both(self) -> tuple[dict[str, Index], dict[str, Index]]:
        wanted = declared(catalog.documents(self.service), self._store.prefix)
        async with self._store.named():
            there = await present(self._client, self._store.prefix)
        there.pop(OWN, None)
        if not self._store.prefix:  # Others are in the cluster, too.
            there = {name: one for name, one in there.items() if name in wanted}
        return wanted, there


class _Lease:
    """A document whose changes are checked against the one that was read."""

    def __init__(self, client: Any, index: str) -> None:
        self._client, self._index = client, index

    async def take(self, owner: str, now: float, until: float) -> bool:
        """Make it, or change it if its time is over."""
        found = await self._found()
        if found.get("found"):
            return found["_source"]["until"] < now and await self._put(owner, until, found)
        return await self._put(owner, until, None)

    async def renew(self, owner: str, until: float) -> None:
        """Change it if it is still the owner's."""
        found = await self._found()
        if found.get("found") and found["_source"]["owner"] == owner:
            await self._put(owner, until, found)

    async def _found(self) -> Any:
        return await self._client.options(ignore_status=404).get(index=self._index, id=_LOCK)

    async def _put(self, owner: str, until: float, before: Any) -> bool:
        return await put_unless_changed(self._client, self._index, _LOCK, {"owner": owner, "until": until}, before)
