"""Whole rows of an index by key: written with versions of their own, so that an older change never wins."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import RowError, StoreError, UnsupportedOperationError
from fedorm.stores.base import batches
from fedorm.stores.elasticsearch_client import CONFLICT, WHOLE, counted, reason_of
from fedorm.stores.elasticsearch_query import Query
from fedorm.stores.elasticsearch_scan import hits_with_ids
from fedorm.stores.elasticsearch_values import UnfitError, encoded, id_of, id_text, id_value, source_of
from fedorm.stores.entity_rows import EntityRows, InvalidValueError
from fedorm.stores.rows import Block, Key, RowAccess, RowShape, Values

if TYPE_CHECKING:
    from fedorm.stores.elasticsearch import ElasticsearchStore

BULK = 1_000
"""Rows of one bulk request."""
ROOM = 16
"""Versions of an index for each of a rule's: a session's changes, each of which takes one, come between."""
_AT_ONCE = 2
"""Requests that are under way at a time."""
_REPEATS = 5
_LONGEST_WRITE = 60.0


class ElasticsearchRowAccess(EntityRows):
    """Writes by bulk requests, each document with the block's version as its external one.

    The index refuses a version less than the one it has, so that of two changes of a document the newer one stays,
    whichever comes last; that is no error. A deleted document's version is known to it for ``index.gc_deletes``. What
    is written can be searched after the index's next refresh; reading here makes it refresh before.

    A row that leaves fields of the class out is read, changed and written again, unless it was changed meanwhile.
    """

    def __init__(self, store: ElasticsearchStore, shape: RowShape) -> None:
        super().__init__(store, shape)
        self.store = store
        if shape.key != ("id",):
            raise store.error(UnsupportedOperationError, f"{shape.label} is known by its id alone")
        names = {name: field.alias or name for name, field in self.model.model_fields.items()}
        self._stored = {name: names[name] for name in shape.fields}
        self._whole = set(self._stored) == set(names)
        self._index = store.index_of(self.model)

    def narrowed(self, fields: Collection[str]) -> RowAccess:
        """Go to the same index."""
        return self.store.row_access(self.shape.of(fields))

    @property
    def _client(self) -> Any:
        return self.store.client(sync=False)

    # -- reading

    async def pages(
        self, *, size: int, after: Key | None = None, since: str | None = None
    ) -> AsyncIterator[list[Values]]:
        """Read each page by the ``id`` of the last document before it."""
        async for hits in self._hits(size, after, _changed_since(since, self._stored)):
            yield [self._row(self.store.raw_of(self.model, hit)) for hit in hits]

    async def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Read the ids alone."""
        async for hits in self._hits(size, after, {"match_all": {}}, source=False):
            yield [self._key(hit) for hit in hits]

    async def _hits(
        self, size: int, after: Key | None, query: Query, *, source: bool = True
    ) -> AsyncIterator[list[Mapping[str, Any]]]:
        place = {} if after is None else {"search_after": [encoded(id_value(after[0]))]}
        while True:
            await self._refresh()
            async with self._named():
                answer = await self._client.search(
                    index=self._index, query=query, sort=[{"id": "asc"}], size=size, source=source,
                    track_total_hits=False, **place, **WHOLE,
                )  # fmt: skip
            hits = answer["hits"]["hits"]
            if hits:
                yield hits
            if len(hits) < size:
                return
            place = {"search_after": hits[-1]["sort"]}

    async def mark(self, *, changed: str | None, overlap: float) -> str | None:
        """Go back by what a write may take until it can be searched."""
        if changed is None:
            return None
        now = datetime.datetime.now(datetime.UTC)
        return f"{changed} {(now - datetime.timedelta(seconds=overlap + _LONGEST_WRITE)).isoformat()}"

    async def read(self, keys: Sequence[Key]) -> dict[Key, Values]:
        """Get the documents as they are now."""
        return {self._key(hit): self._row(self.store.raw_of(self.model, hit)) for hit in await self._found(keys)}

    async def present(self, keys: Sequence[Key]) -> set[Key]:
        """Ask for the documents without their fields."""
        return {self._key(hit) for hit in await self._found(keys, source=False)}

    async def count(self) -> int:
        """Count the documents."""
        await self._refresh()
        async with self._named():
            return await counted(self._client, self._index)

    async def _found(self, keys: Sequence[Key], *, source: Any = None) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        async with self._named():
            for batch in batches(keys, BULK):
                ids = [self._id(key) for key in batch]
                found += await hits_with_ids(self._client, self._index, ids, source=source)
        return found

    async def _refresh(self) -> None:
        async with self._named():
            await self.store.ensure_index(self.model, sync=False)
            await self._client.indices.refresh(index=self._index)

    def _key(self, hit: Mapping[str, Any]) -> Key:
        return (id_of(self.model, hit["_id"]),)

    def _id(self, key: Key) -> str:
        return id_text(self._valid("id", key[0]))

    # -- writing

    async def begin(self) -> None:
        """Return None: there are no transactions."""
        return

    async def commit(self, handle: Any) -> None:
        """Do nothing: what was written is there."""

    async def rollback(self, handle: Any) -> None:
        """Do nothing."""

    async def write(self, handle: Any, block: Block, *, version: int) -> None:
        """Send whole rows with their version; parts of rows after what they are parts of was read."""
        if not block:
            return
        with self._valid_rows():
            upserts = [] if self._whole else [self._encoded(row) for row in block.upserts]
            changes = [self._changed(key, values) for key, values in block.changes]
        try:
            async with self._named():
                await self.store.ensure_index(self.model, sync=False)
                await self._send(self._operations(block, {"version": version * ROOM, "version_type": "external_gte"}))
                await self._merge([*((*one, True) for one in upserts), *((*one, False) for one in changes if one[1])])
        finally:
            await self._tell()

    def _operations(self, block: Block, numbered: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
        for key in block.deletes:
            yield ({"delete": {"_id": self._id(key), **numbered}},)
        for row in block.upserts if self._whole else ():
            id_, source = self._encoded(row)
            yield {"index": {"_id": id_, **numbered}}, source

    def _encoded(self, row: Values) -> tuple[str, dict[str, Any]]:
        document = self._document(row)
        with _unfit():
            source = source_of(document)
        return id_text(document.id), source

    def _changed(self, key: Key, values: Values) -> tuple[str, dict[str, Any]]:
        valid = {name: self._valid(name, value) for name, value in values.items()}
        names = {name: field.alias or name for name, field in self.model.model_fields.items()}
        with _unfit():
            return self._id(key), {names[name]: encoded(value) for name, value in valid.items()}

    async def _send(self, operations: Iterator[tuple[Any, ...]]) -> None:
        """Send requests while those that follow are made."""
        waiting: set[asyncio.Task[None]] = set()
        try:
            for batch in batches(operations, BULK):
                if len(waiting) == _AT_ONCE:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.gather(*done)
                waiting.add(asyncio.create_task(self._request([line for one in batch for line in one])))
                await asyncio.sleep(0)  # It is sent.
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _request(self, lines: Sequence[Any]) -> None:
        # What went well need not be told.
        told = ["errors", "items.*.error", "items.*.status"]
        answer = await self._client.bulk(index=self._index, operations=lines, filter_path=told)
        if answer["errors"]:
            self._raise([next(iter(one.values())) for one in answer["items"]])

    async def _merge(self, parts: Sequence[tuple[str, dict[str, Any], bool]]) -> None:
        """Put fields into documents as they are now; into new ones where ``parts`` say so."""
        waiting = list(parts)
        for _ in range(_REPEATS):
            if not waiting:
                return
            again = []
            for batch in batches(waiting, BULK):
                again += await self._merge_once(batch)
            waiting = again
        raise self.store.error(
            StoreError, f"{self.shape.label}: {len(waiting)} document(s) were changed by others again and again"
        )

    async def _merge_once(
        self, parts: Sequence[tuple[str, dict[str, Any], bool]]
    ) -> list[tuple[str, dict[str, Any], bool]]:
        there = {hit["_id"]: hit for hit in await hits_with_ids(self._client, self._index, [one[0] for one in parts])}
        lines: list[Any] = []
        sent = []
        for part in parts:
            id_, values, makes = part
            hit = there.get(id_)
            if hit is None and not makes:
                continue
            sent.append(part)
            if hit is None:
                lines += ({"create": {"_id": id_}}, values)
                continue
            kept = {name: value for name, value in values.items() if makes is False or name in self._written}
            expected = {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
            lines += ({"index": {"_id": id_, **expected}}, {**hit["_source"], **kept})
        if not lines:
            return []
        answer = await self._client.bulk(index=self._index, operations=lines)
        results = [next(iter(one.values())) for one in answer["items"]]
        self._raise(results)
        return [part for part, result in zip(sent, results, strict=True) if result.get("status") == CONFLICT]

    @property
    def _written(self) -> set[str]:
        return set(self._stored.values())

    async def _tell(self) -> None:
        cache = self.store.cache
        if cache is not None:
            changed = self.store.place.changed({self.store.collection_of(self.model).lower()})
            await greenlet_spawn(cache.changed, changed)

    # -- errors

    def _raise(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Raise for what failed, unless a newer version was there."""
        failed = [one for one in results if "error" in one and one.get("status") != CONFLICT]
        if failed:
            fault = next((one for one in failed if one.get("status") == 400), failed[0])
            kind = RowError if fault.get("status") == 400 else StoreError
            raise self.store.error(kind, f"{self.shape.label}: {reason_of(fault['error'])}")

    @asynccontextmanager
    async def _named(self) -> AsyncIterator[None]:
        with self._valid_rows():
            async with self.store.named():
                yield


class _unfit:  # noqa: N801 - used as a function
    """Turns what has no form in JSON into what names the field."""

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, UnfitError):
            raise InvalidValueError(str(error)) from error


def _changed_since(since: str | None, stored: Mapping[str, str]) -> Query:
    if since is None:
        return {"match_all": {}}
    name, moment = since.split(" ", 1)
    field = stored[name]
    # A document that does not say when it was changed may have been.
    return {
        "bool": {
            "should": [
                {"range": {field: {"gte": moment, "format": "strict_date_optional_time"}}},
                {"bool": {"must_not": [{"exists": {"field": field}}]}},
            ],
            "minimum_should_match": 1,
        }
    }
