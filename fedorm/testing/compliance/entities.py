"""The suite's models for stores that have a base class of their own; the same fields as those for tables."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from fedorm import federated_relationship
from fedorm.stores.base import DocumentStore
from fedorm.stores.rows import Block, Key, RowAccess, RowShape, Values
from fedorm.testing.compliance.rows import SERVICE
from fedorm.testing.compliance.values import Color


@lru_cache(maxsize=16)
def entities(base: Any) -> tuple[type[Any], type[Any], type[Any]]:
    """Make the sample, what links point to, and what points, of a store's base class."""

    class SampleEntity(base):  # type: ignore[misc]
        """One field a type."""

        __service__ = SERVICE
        id: int
        integer: int | None = None
        big: int | None = None
        flag: bool | None = None
        real: float | None = None
        amount: Decimal | None = None
        price: Decimal | None = None
        moment: datetime.datetime | None = None
        wall_clock: datetime.datetime | None = None
        day: datetime.date | None = None
        token: UUID | None = None
        text: str | None = None
        data: bytes | None = None
        document: Any = None
        color: Color | None = None

        class Settings:
            """The store's."""

            name = "compliance_samples"

    class TargetEntity(base):  # type: ignore[misc]
        """What links point to, by keys of several types."""

        __service__ = SERVICE
        id: int
        code: str | None = None
        token: UUID | None = None
        day: datetime.date | None = None
        owner: int | None = None
        number: int | None = None

        class Settings:
            """The store's."""

            name = "compliance_targets"

    def points(local: Any, remote: Any = None, **options: Any) -> Any:
        return federated_relationship(TargetEntity, local_key=local, remote_key=remote, **options)

    class LinkEntity(base):  # type: ignore[misc]
        """What points; the suite keeps it in memory."""

        __service__ = SERVICE
        id: int
        target_id: int | None = None
        code: str | None = None
        token: UUID | None = None
        day: datetime.date | None = None
        owner: int | None = None
        number: int | None = None
        target = points("target_id", uselist=False)
        by_code = points("code", "code", uselist=False)
        by_token = points("token", "token", uselist=False)
        by_day = points("day", "day", uselist=False)
        by_pair = points(("owner", "number"), ("owner", "number"), uselist=False)
        of_owner = points("owner", "owner", order_by="-id", uselist=True)

        class Settings:
            """The store's."""

            name = "compliance_links"

    return SampleEntity, TargetEntity, LinkEntity


@lru_cache(maxsize=64)
def keyed_entity(base: Any, kind: Any) -> type[Any]:
    """Make a class whose ``id`` is of a kind, and that has several fields beside it."""

    class KeyedEntity(base):  # type: ignore[misc]
        """Several fields that can be a key."""

        __service__ = SERVICE
        id: Any
        code: str
        number: int
        token: UUID
        day: datetime.date
        moment: datetime.datetime
        note: str
        size: int | None = None

        class Settings:
            """The store's."""

            name = f"compliance_keyed_{kind.__name__}"

        __annotations__["id"] = kind

    return KeyedEntity


class RowsById(RowAccess):
    """Rows that are known by some of their fields, over a store that knows its objects by ``id`` alone.

    A single field is the ``id``; of several it is made.
    """

    def __init__(self, store: DocumentStore, key: tuple[str, ...], fields: tuple[str, ...]) -> None:
        super().__init__(RowShape(SERVICE, "Keyed", key, fields))
        kinds = {"number": int, "note": str, "token": UUID, "moment": datetime.datetime}
        base: Any = store.entity_base()
        model = keyed_entity(base, kinds[key[0]] if len(key) == 1 else str)
        self._inner = store.row_access(RowShape(SERVICE, "Keyed", ("id",), ("id", *fields), document=model))
        self.sees_new_keys = self._inner.sees_new_keys  # type: ignore[misc]
        self._keys: dict[Any, Key] = {}

    def _id(self, key: Key) -> Any:
        made = (
            key[0] if len(key) == 1 else "|".join(f"{part:08}" if isinstance(part, int) else str(part) for part in key)
        )
        self._keys[made] = key
        return made

    def _whole(self, row: Values) -> Values:
        names = self.shape.key
        return row | ({"id": self._id(tuple(row[name] for name in names))} if set(names) <= set(row) else {})

    def _row(self, row: Values) -> Values:
        return {name: value for name, value in row.items() if name != "id"}

    def narrowed(self, fields: Collection[str]) -> RowAccess:
        """Not needed here."""
        raise NotImplementedError

    async def pages(
        self, *, size: int, after: Key | None = None, since: str | None = None
    ) -> AsyncIterator[list[Values]]:
        """Leave out the ``id``."""
        start = None if after is None else (self._id(after),)
        async for page in self._inner.pages(size=size, after=start, since=since):
            yield [self._row(row) for row in page]

    async def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Return the keys that the ids were made of."""
        start = None if after is None else (self._id(after),)
        async for page in self._inner.key_pages(size=size, after=start):
            yield [self._keys[one[0]] for one in page]

    async def read(self, keys: Sequence[Key]) -> dict[Key, Values]:
        """Look up by ``id``."""
        found = await self._inner.read([(self._id(key),) for key in keys])
        return {self._keys[key[0]]: self._row(row) for key, row in found.items()}

    async def present(self, keys: Sequence[Key]) -> set[Key]:
        """Look up by ``id``."""
        return {self._keys[key[0]] for key in await self._inner.present([(self._id(key),) for key in keys])}

    async def count(self) -> int:
        """Count."""
        return await self._inner.count()

    async def begin(self) -> Any:
        """Begin."""
        return await self._inner.begin()

    async def write(self, handle: Any, block: Block, *, version: int) -> None:
        """Write by ``id``."""
        made = replace(
            block,
            upserts=[self._whole(row) for row in block.upserts],
            changes=[((self._id(key),), values) for key, values in block.changes],
            deletes=[(self._id(key),) for key in block.deletes],
        )
        await self._inner.write(handle, made, version=version)

    async def commit(self, handle: Any) -> None:
        """Commit."""
        await self._inner.commit(handle)

    async def rollback(self, handle: Any) -> None:
        """Undo."""
        await self._inner.rollback(handle)
