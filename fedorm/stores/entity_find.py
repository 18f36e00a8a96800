"""``session.find()`` over a store that has no query language of its own for it: conditions, an order, a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from fedorm.stores.conditions import Both
from fedorm.stores.matching import condition_from

if TYPE_CHECKING:
    from fedorm.bridge import Bridge
    from fedorm.stores.base import DocumentStore
    from fedorm.stores.readers import DocumentReader


class EntityFind:
    """A query over one class: chain it, then ``to_list()``, ``first_or_none()``, ``count()`` or ``async for``.

    Conditions are dicts of fields and values (a set stands for one of several), or those of
    ``fedorm.stores.conditions``; all have to hold.
    """

    def __init__(
        self, store: DocumentStore, reader: DocumentReader, model: type[Any], conditions: Sequence[Any], *, sync: bool
    ) -> None:
        self._store, self._reader, self._model, self._sync = store, reader, model, sync
        self._where = Both(tuple(condition_from(one) for one in conditions))
        self._order: list[str] = []
        self._limit: int | None = None
        self._options: list[Any] = []

    def find(self, *conditions: Any) -> Self:
        """Add conditions."""
        self._where = Both((*self._where.parts, *(condition_from(one) for one in conditions)))
        return self

    def sort(self, *names: str) -> Self:
        """Order by fields, descending with a minus before the name."""
        self._order += names
        return self

    def limit(self, number: int) -> Self:
        """Return so many at most."""
        self._limit = number
        return self

    def options(self, *options: Any) -> Self:
        """Load relationships with the result: ``federated_load(...)``."""
        self._options += options
        return self

    async def to_list(self) -> list[Any]:
        """Return the objects, those that the session already has as they are there."""
        found = self._reader.adopt(self._store, self._model, await self._found())
        if self._options:
            await self._reader.load(found, self._options)
        return found

    all = to_list

    async def first_or_none(self) -> Any:
        """Return the first object, None without one."""
        found = await self.limit(1).to_list()
        return found[0] if found else None

    async def count(self) -> int:
        """Count what fulfils the conditions."""
        return len(await self._found())

    async def exists(self) -> bool:
        """Say whether anything fulfils the conditions."""
        return bool(await self.limit(1)._found())

    async def _found(self) -> list[dict[str, Any]]:
        transaction = await self._reader.before_reading(self._store)
        found = await self._store.find(
            self._model, self._where, sort=self._order, transaction=transaction, sync=self._sync
        )
        return found if self._limit is None else found[: self._limit]

    async def __aiter__(self) -> AsyncIterator[Any]:
        for one in await self.to_list():
            yield one

    def for_threads(self, bridge: Bridge, flush: Callable[[], None]) -> SyncEntityFind:
        """Return the same query for code that is not async."""
        return SyncEntityFind(self, bridge, flush)


class ThreadFind:
    """What all queries of ``session.find()`` can do in code that is not async."""

    def __init__(self, query: Any, bridge: Bridge, flush: Callable[[], None]) -> None:
        self._query, self._bridge, self._flush = query, bridge, flush

    def _wait(self, work: Callable[[], Any]) -> Any:
        # In the calling thread: flushing touches the session, which the bridge's thread must not.
        self._flush()

        async def run() -> Any:
            return await work()

        return self._bridge.run(run())

    def all(self) -> list[Any]:
        """Return the objects."""
        found: list[Any] = self._wait(self._query.to_list)
        return found

    to_list = all

    def first_or_none(self) -> Any:
        """Return the first object, None without one."""
        return self._wait(self._query.first_or_none)

    def count(self) -> int:
        """Count what fulfils the conditions."""
        return int(self._wait(self._query.count))

    def exists(self) -> bool:
        """Say whether anything fulfils the conditions."""
        return bool(self._wait(self._query.exists))

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())


class SyncEntityFind(ThreadFind):
    """The same query for code that is not async: chain it, then ``all()``, iterate or count."""

    def find(self, *conditions: Any) -> Self:
        """Add conditions."""
        self._query.find(*conditions)
        return self

    def sort(self, *names: str) -> Self:
        """Order by fields, descending with a minus before the name."""
        self._query.sort(*names)
        return self

    def limit(self, number: int) -> Self:
        """Return so many at most."""
        self._query.limit(number)
        return self

    def options(self, *options: Any) -> Self:
        """Load relationships with the result."""
        self._query.options(*options)
        return self
