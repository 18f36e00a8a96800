"""Whole records of Redis by their ids: what keeps data in sync reads and writes them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import UnsupportedOperationError
from fedorm.stores.base import batches
from fedorm.stores.entity_rows import EntityRows
from fedorm.stores.redis_client import pack
from fedorm.stores.redis_codec import codec_of, id_text
from fedorm.stores.redis_transaction import RecordWrite, RedisTransaction
from fedorm.stores.rows import Block, Key, RowAccess, RowShape, Values

if TYPE_CHECKING:
    from fedorm.stores.redis import RedisStore


class RedisRowAccess(EntityRows):
    """Holds blocks back, and sends them as one MULTI/EXEC over keys that are watched from the first write on.

    A record that is made anew gets the class's defaults in the fields beside the shape's, and its time to live; one
    that is there keeps what is left of its own. Redis has no order of keys: each reading of pages first takes all ids.
    """

    sees_new_keys = False
    rounds_moments = False

    def __init__(self, store: RedisStore, shape: RowShape) -> None:
        super().__init__(store, shape)
        if shape.key != ("id",):
            raise store.error(UnsupportedOperationError, f"knows records by their id, {shape.label} by {shape.key!r}")
        self.store = store
        self._codec = codec_of(self.model)  # type: ignore[arg-type] # mypy does not take a class for hashable

    def narrowed(self, fields: Collection[str]) -> RowAccess:
        """Go to the same records."""
        return self.store.row_access(self.shape.of(fields))

    # -- reading

    async def pages(
        self, *, size: int, after: Key | None = None, since: str | None = None
    ) -> AsyncIterator[list[Values]]:
        """Read each page as it is when it is asked for, of the records that were there at the first one."""
        for ids in batches(await self._ids(after), size):
            rows = [self._row(raw) for raw in await self.store.get_many(self._codec, ids)]
            if rows:
                yield rows

    async def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Cut all ids into pages."""
        for ids in batches(await self._ids(after), size):
            yield [(identity,) for identity in ids]

    async def _ids(self, after: Key | None) -> list[Any]:
        ids = await self.store.identities(self._codec)
        try:
            ids.sort()
            return ids[bisect_right(ids, after[0]) :] if after is not None else ids
        except TypeError:  # Not of one type, or one that has no order.
            ids.sort(key=id_text)
            return ids[bisect_right(ids, id_text(after[0]), key=id_text) :] if after is not None else ids

    async def read(self, keys: Sequence[Key]) -> dict[Key, Values]:
        """Ask for them in one round trip."""
        found = await self.store.get_many(self._codec, [key[0] for key in keys])
        return {(raw["id"],): self._row(raw) for raw in found}

    async def present(self, keys: Sequence[Key]) -> set[Key]:
        """Ask for them in one round trip."""
        asking = [pack((b"EXISTS", self._codec.key(key[0]))) for key in keys]
        async with self.store.named():
            answers = await self.store.client(sync=False).exchange(asking)
        return {key for key, answer in zip(keys, answers, strict=True) if answer == 1}

    async def count(self) -> int:
        """Count the ids."""
        return len(await self.store.identities(self._codec))

    # -- transactions

    async def begin(self) -> RedisTransaction:
        """Begin to hold back."""
        return self.store.transaction(sync=False, holds=True)

    async def commit(self, handle: RedisTransaction) -> None:
        """Send it all, and tell the result cache."""
        try:
            await self.store.commit(handle)
        finally:
            cache = self.store.cache
            if cache is not None and handle.changed:
                await greenlet_spawn(cache.changed, self.store.place.changed(handle.changed))

    async def rollback(self, handle: RedisTransaction) -> None:
        """Forget it all."""
        await self.store.abort(handle)

    # -- writing

    async def write(self, handle: RedisTransaction, block: Block, *, version: int) -> None:
        """Look at the keys, and hold the block back; the version is not written."""
        if not block:
            return
        with self._valid_rows():
            writes = [RecordWrite(self._codec, key[0], "remove") for key in block.deletes]
            writes += [self._change(key[0], values) for key, values in block.changes]
            writes += [self._upsert(row) for row in block.upserts]
        async with self.store.named():
            await handle.add(writes)
        handle.changed.add(self._codec.name.lower())

    def _upsert(self, row: Values) -> RecordWrite:
        document = self._document(row)
        identity, names = document.id, [name for name in self.shape.fields if name != "id"]
        if self._codec.is_json:
            if not self._others:
                return RecordWrite(self._codec, identity, "put", self._encoded(document))
            given, defaults = self._json(document, names), self._json(document, self._others)
            return RecordWrite(self._codec, identity, "merge", given, defaults=defaults)
        raw = self._encoded(document)
        given = {name: raw[name] for name in names if name in raw}
        defaults = {name: raw[name] for name in self._others if name in raw}
        removed = [name for name in names if name not in raw]
        return RecordWrite(self._codec, identity, "merge", given, removed=removed, defaults=defaults)

    def _change(self, identity: Any, values: Values) -> RecordWrite:
        valid = {name: self._valid(name, value) for name, value in values.items()}
        with self.store.fitting(self.shape.label):
            if self._codec.is_json:
                given = {name: self._codec.json(name, value) for name, value in valid.items()}
                return RecordWrite(self._codec, identity, "change", given)
            given = {name: self._codec.field(name, value) for name, value in valid.items() if value is not None}
        removed = [name for name, value in valid.items() if value is None]
        return RecordWrite(self._codec, identity, "change", given, removed=removed)

    @cached_property
    def _others(self) -> list[str]:
        """The class's fields beside the shape's."""
        return [name for name in self._codec.fields if name not in self.shape.fields]

    def _encoded(self, document: Any) -> dict[str, bytes]:
        raw = self.store.encode(document)
        return {name: value for name, value in raw.items() if name != "id"}

    def _json(self, document: Any, names: Sequence[str]) -> dict[str, bytes]:
        state: Mapping[str, Any] = document.__dict__
        with self.store.fitting(self.shape.label):
            return {name: self._codec.json(name, state[name]) for name in names}
