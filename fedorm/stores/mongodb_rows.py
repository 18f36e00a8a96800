"""Whole rows of MongoDB's collections by key: documents through their class, and their fields as it holds them."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary

from sqlalchemy.util import greenlet_spawn

from fedorm.exc import (
    DuplicateKeyError,
    RowError,
    StoreError,
)
from fedorm.stores.base import batches
from fedorm.stores.bson_types import class_filter, field_name, thawed
from fedorm.stores.entity_rows import EntityRows
from fedorm.stores.rows import Block, Key, RowAccess, RowShape, Values

if TYPE_CHECKING:
    from fedorm.stores.mongodb import MongoDBStore

_FAULTS = {2, 66, 121, 10334, 11000, 11001, 12582, 17280, 17419, 17420}
"""The server's codes for a value, a document too large, a validator and a unique index."""
_LONGEST_TRANSACTION = 60.0
_CHANGED: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""The collections that open transactions have changed."""


class MongoDBRowAccess(EntityRows):
    """Writes by unordered bulks of upserts that set the shape's fields, and ``$unset`` those that are not kept as null.

    Documents are validated and encoded by their class; its event hooks are not run. A document that is made anew gets
    the class's defaults in the fields beside the shape's. Keys are of one BSON type, as others are neither before nor
    after them. A transaction is ended by the server after a minute, and one before 4.2 holds 16 MB: whoever writes
    more has to commit in between. Where the server has no transactions, a bulk that fails may be there in part.
    """

    rounds_moments = False
    heeds_only = True

    def __init__(self, store: MongoDBStore, shape: RowShape) -> None:
        super().__init__(store, shape)
        self.store = store
        self._stored = {name: field_name(self.model, name) for name in self.model.model_fields}
        self._keys = [self._stored[name] for name in shape.key]

    def narrowed(self, fields: Collection[str]) -> RowAccess:
        """Go to the same collection."""
        return self.store.row_access(self.shape.of(fields))

    # -- reading

    async def pages(
        self, *, size: int, after: Key | None = None, since: str | None = None
    ) -> AsyncIterator[list[Values]]:
        """Read each page by the key of the last document before it."""
        while True:
            found = await self._page(size, after, None, since)
            if found:
                after = self._key(found[-1])
                yield [self._row(one) for one in found]
            if len(found) < size:
                return

    async def mark(self, *, changed: str | None, overlap: float) -> str | None:
        """Go back by what a transaction may last, which MongoDB ends after a minute unless it is told otherwise."""
        if changed is None:
            return None
        now = datetime.datetime.now(datetime.UTC)
        return f"{changed} {(now - datetime.timedelta(seconds=overlap + _LONGEST_TRANSACTION)).isoformat()}"

    async def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Read the keys' fields alone."""
        while True:
            keys = [self._key(one) for one in await self._page(size, after, self._keys_alone)]
            if keys:
                after = keys[-1]
                yield keys
            if len(keys) < size:
                return

    async def read(self, keys: Sequence[Key]) -> dict[Key, Values]:
        """Look the keys up in batches."""
        found = await self._found(keys, None)
        return {self._key(one): self._row(one) for one in found}

    async def present(self, keys: Sequence[Key]) -> set[Key]:
        """Look the keys up in batches."""
        return {self._key(one) for one in await self._found(keys, self._keys_alone)}

    async def count(self) -> int:
        """Count the documents of the class."""
        async with self._named():
            return int(await self._collection.count_documents(class_filter(self.model)))

    @property
    def _collection(self) -> Any:
        return self.store.collection(self.model, sync=False)

    @cached_property
    def _keys_alone(self) -> dict[str, int]:
        return {"_id": 0} | dict.fromkeys(self._keys, 1)

    async def _page(
        self, size: int, after: Key | None, fields: Mapping[str, int] | None, since: str | None = None
    ) -> list[dict[str, Any]]:
        beyond = [self._beyond(after)] if after is not None else []
        if since is not None:
            name, moment = since.split(" ", 1)
            stored = self._stored[name]
            # A document that does not say when it was changed may have been.
            beyond.append({"$or": [{stored: {"$gte": datetime.datetime.fromisoformat(moment)}}, {stored: None}]})
        async with self._named():
            cursor = self._collection.find(self._where(*beyond), fields, sort=[(name, 1) for name in self._keys])
            found: list[dict[str, Any]] = await cursor.limit(size).to_list(None)
            return found

    async def _found(self, keys: Sequence[Key], fields: Mapping[str, int] | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with self._named():
            for batch in batches(keys, self.store.keys_per_statement(len(self._keys))):
                found += await self._collection.find(self._where(self._one_of(batch)), fields).to_list(None)
        return found

    def _where(self, *conditions: dict[str, Any]) -> dict[str, Any]:
        own = class_filter(self.model)
        every = [one for one in (own, *conditions) if one]
        return {"$and": every} if len(every) > 1 else (every[0] if every else {})

    def _one_of(self, keys: Sequence[Key]) -> dict[str, Any]:
        if len(self._keys) == 1:
            return {self._keys[0]: {"$in": [_encode(key[0]) for key in keys]}}
        return {"$or": [self._at(key) for key in keys]}

    def _at(self, key: Key) -> dict[str, Any]:
        return {name: _encode(part) for name, part in zip(self._keys, key, strict=True)}

    def _beyond(self, after: Key) -> dict[str, Any]:
        values = list(self._at(after).items())
        steps = [dict(values[:at]) | {name: {"$gt": value}} for at, (name, value) in enumerate(values)]
        return {"$or": steps} if len(steps) > 1 else steps[0]

    def _key(self, raw: dict[str, Any]) -> Key:
        raw = thawed(self.model, raw)
        return tuple(self._valid(name, raw.get(self._stored[name])) for name in self.shape.key)

    # -- transactions

    async def begin(self) -> Any:
        """Begin where the server has transactions; it hears of it with the first operation."""
        async with self._named():
            return await self.store.begin(sync=False)

    async def commit(self, handle: Any) -> None:
        """Commit, and tell the result cache."""
        if handle is not None:
            changed = _CHANGED.pop(handle, None)
            try:
                async with self._named():
                    await self.store.commit(handle)
            finally:
                await self._tell(changed)

    async def rollback(self, handle: Any) -> None:
        """Undo, and give the session back."""
        if handle is not None:
            _CHANGED.pop(handle, None)
            await self.store.abort(handle)

    async def _tell(self, changed: set[str] | None) -> None:
        cache = self.store.cache
        if cache is not None and changed:
            await greenlet_spawn(cache.changed, self.store.place.changed(changed))

    # -- writing

    async def write(self, handle: Any, block: Block, *, version: int) -> None:
        """Delete, then change, insert and replace; the version is not written."""
        if not block:
            return
        with self._valid_rows():
            # What is deleted may have held a value that is unique, and that another document now has.
            only = [{self._stored[name]: _encode(self._valid(name, value))} for name, value in block.only.items()]
            changed = [*self._changes(block.changes, only), *self._upserts(block.upserts)]
            bulks = [list(self._deletes(block.deletes, only)), changed]
        name = self.store.collection_of(self.model)
        if handle is not None:
            _CHANGED.setdefault(handle, set()).add(name)
        try:
            async with self._named():
                for operations in bulks:
                    if operations:
                        await self._collection.bulk_write(operations, ordered=False, session=handle)
        finally:
            if handle is None:
                await self._tell({name})

    def _deletes(self, keys: Sequence[Key], only: Sequence[dict[str, Any]]) -> Iterator[Any]:
        from pymongo import DeleteMany, DeleteOne

        if len(self._keys) > 1:
            yield from (DeleteOne(self._where(self._at(key), *only)) for key in keys)
            return
        for batch in batches(keys, self.store.batch_size):
            yield DeleteMany(self._where(self._one_of(batch), *only))

    def _upserts(self, rows: Sequence[Values]) -> Iterator[Any]:
        from pymongo import UpdateOne

        for row in rows:
            encoded = self.store.encode(self._document(row))
            key = {name: encoded[name] for name in self._keys}
            changes = self._set(encoded)
            others = set(self._stored.values()) - self._written - key.keys()
            made = {name: encoded[name] for name in others if name in encoded}
            if made:
                changes["$setOnInsert"] = made
            yield UpdateOne(self._where(key), changes or {"$setOnInsert": key}, upsert=True)

    def _changes(self, changes: Sequence[tuple[Key, Values]], only: Sequence[dict[str, Any]]) -> Iterator[Any]:
        from pymongo import UpdateOne

        for key, values in changes:
            valid = {name: self._valid(name, value) for name, value in values.items()}
            if valid:
                encoded = self.store.encode(self.model.model_construct(**valid))
                names = {self._stored[name] for name in valid}
                yield UpdateOne(self._where(self._at(key), *only), self._set(encoded, names))

    def _set(self, encoded: dict[str, Any], names: set[str] | None = None) -> dict[str, Any]:
        names = self._written if names is None else names
        given = {name: encoded[name] for name in names if name in encoded and name not in self._fixed}
        if self._class_id in encoded:
            given[self._class_id] = encoded[self._class_id]
        revision = self.store.new_revision(self.model)
        if revision is not None:
            given["revision_id"] = revision
        made: dict[str, Any] = {"$set": given} if given else {}
        gone = [name for name in names if name not in encoded and name not in self._fixed]
        return made | {"$unset": dict.fromkeys(gone, "")} if gone else made

    @cached_property
    def _written(self) -> set[str]:
        """What the database calls the shape's fields."""
        return {self._stored[name] for name in self.shape.fields}

    @cached_property
    def _fixed(self) -> set[str]:
        """What a document is found by, or cannot be changed."""
        return {*self._keys, "_id", "revision_id"}

    @cached_property
    def _class_id(self) -> str:
        return str(self.model.get_settings().class_id)

    # -- errors

    @asynccontextmanager
    async def _named(self) -> AsyncIterator[None]:
        try:
            with self._valid_rows():
                async with self.store.named():
                    yield
        except RowError:
            raise
        except StoreError as error:
            self._raise(error)

    def _raise(self, error: StoreError) -> NoReturn:
        cause: Any = error.__cause__
        details = getattr(cause, "details", None) or {}
        failed = [one for one in details.get("writeErrors", ()) if one.get("code") in _FAULTS]
        if failed:
            raise self.store.error(RowError, f"{self.shape.label}: {failed[0].get('errmsg', '')}") from cause
        if isinstance(error, DuplicateKeyError) or getattr(cause, "code", None) in _FAULTS:
            raise self.store.error(RowError, f"{self.shape.label}: {cause}") from cause
        raise error


def _encode(value: Any) -> Any:
    from beanie.odm.utils.encoder import Encoder

    return Encoder(to_db=True).encode(value)
