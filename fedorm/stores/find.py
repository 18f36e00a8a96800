"""``session.find()``: a Beanie query over the session's own database, transaction and documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Self

from beanie.odm.queries.aggregation import AggregationQuery
from beanie.odm.queries.find import FindMany

from fedorm.stores.entity_find import ThreadFind

if TYPE_CHECKING:
    from fedorm.bridge import Bridge
    from fedorm.stores.mongodb import MongoDBStore
    from fedorm.stores.readers import DocumentReader


class _BoundModel:
    """A document model whose collection is the session's, not the one its class was bound to last."""

    def __init__(self, model: type[Any], collection: Any, reader: DocumentReader, store: MongoDBStore) -> None:
        self.model, self._collection = model, collection
        self.reader, self.store = reader, store

    def get_pymongo_collection(self) -> Any:
        return self._collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


class SessionAggregation(AggregationQuery[Any]):
    """A pipeline that runs in the session's transaction, after what is pending was flushed."""

    async def get_cursor(self) -> Any:
        """Flush and run."""
        bound: Any = self.document_model
        self.session = await bound.reader.before_reading(bound.store)
        async with bound.store.named():
            return await super().get_cursor()


class SessionFind(FindMany[Any]):
    """A Beanie ``FindMany`` whose documents belong to a session."""

    AggregationQueryType = SessionAggregation

    def __init__(self, store: MongoDBStore, reader: DocumentReader, model: type[Any], *, sync: bool) -> None:
        self._model, self._store, self._reader = model, store, reader
        self._options: list[Any] = []
        bound: Any = _BoundModel(model, store.collection(model, sync=sync), reader, store)
        super().__init__(bound)
        self.projection_model = model

    def options(self, *options: Any) -> Self:
        """Load relationships with the result: ``federated_load(...)``."""
        self._options.extend(options)
        return self

    async def get_cursor(self) -> Any:
        """Flush what is pending and open the cursor in the session's transaction."""
        self.session = await self._reader.before_reading(self._store)
        async with self._store.named():
            return await super().get_cursor()

    async def to_list(self, length: int | None = None) -> list[Any]:
        """Return the documents, those that the session already has as they are there."""
        cursor = await self.get_cursor()
        async with self._store.named():
            raw = await cursor.to_list(length)
        if self.projection_model is not self._model:
            from beanie.odm.utils.parsing import parse_obj

            return [parse_obj(self.projection_model, one) for one in raw]
        return await self._adopt(raw)

    all = to_list

    async def __anext__(self) -> Any:
        if self.cursor is None:
            self.cursor = await self.get_cursor()
        if self.projection_model is not self._model:
            return await super().__anext__()
        async with self._store.named():
            raw = await self.cursor.__anext__()
        return (await self._adopt([raw]))[0]

    async def _adopt(self, raw: Sequence[dict[str, Any]]) -> list[Any]:
        if self.fetch_links:  # The links are part of these documents: they stay outside of the unit of work.
            return [self._store.parse(self._model, one) for one in raw]
        documents = self._reader.adopt(self._store, self._model, raw)
        if self._options:
            await self._reader.load(documents, self._options)
        return documents

    def for_threads(self, bridge: Bridge, flush: Callable[[], None]) -> SyncFind:
        """Return the same query for code that is not async."""
        return SyncFind(self, bridge, flush)

    async def count(self) -> int:
        """Count the matching documents, what is pending included."""
        self.session = await self._reader.before_reading(self._store)
        async with self._store.named():
            return await super().count()

    async def exists(self) -> bool:
        """Say whether a document matches."""
        self.session = await self._reader.before_reading(self._store)
        async with self._store.named():
            return await super().exists()

    async def distinct(self, key: Any, session: Any = None, **kwargs: Any) -> list[Any]:
        """Return the distinct values of a field."""
        self.session = await self._reader.before_reading(self._store)
        async with self._store.named():
            return await super().distinct(key, session, **kwargs)

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Change all matching documents when awaited; commits and rolls back with the session."""
        return _Change(self, lambda: super(SessionFind, self).update(*args, session=self.session, **kwargs))

    def upsert(self, *args: Any, **kwargs: Any) -> Any:
        """Change all matching documents, or insert one, when awaited."""
        return _Change(self, lambda: super(SessionFind, self).upsert(*args, session=self.session, **kwargs))

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        """Delete all matching documents when awaited; commits and rolls back with the session."""
        return _Change(self, lambda: super(SessionFind, self).delete(self.session, *args, **kwargs))

    async def change(self, build: Callable[[], Awaitable[Any]]) -> Any:
        """Run an update or a delete in the session's transaction."""
        self.session = await self._reader.before_writing(self._store)
        async with self._store.named():
            try:
                result = await build()
            finally:
                await self._reader.note_change(self._store, self._model, self.session)
        self._reader.forget(self._model)
        return result


class _Change:
    """An update or a delete that starts when it is awaited."""

    __slots__ = ("_build", "_query")

    def __init__(self, query: SessionFind, build: Callable[[], Awaitable[Any]]) -> None:
        self._query, self._build = query, build

    def __await__(self) -> Generator[Any, None, Any]:
        return self._query.change(self._build).__await__()


class SyncFind(ThreadFind):
    """The same query for code that is not async: chain it, then ``all()``, iterate, count or change."""

    _CHANGES = ("update", "upsert", "delete", "set", "inc", "update_many", "delete_many", "current_date")

    def distinct(self, key: Any) -> list[Any]:
        """Return the distinct values of a field."""
        values: list[Any] = self._wait(lambda: self._query.distinct(key))
        return values

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._query, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in self._CHANGES:
                return self._wait(lambda: method(*args, **kwargs))
            result = method(*args, **kwargs)
            if isinstance(result, AggregationQuery):
                return self._wait(result.to_list)
            return SyncFind(result, self._bridge, self._flush) if isinstance(result, SessionFind) else result

        return call
