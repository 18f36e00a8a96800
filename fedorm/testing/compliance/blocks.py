"""Whole rows by key: read in pages and batches, written in blocks that may come twice."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import BigInteger, Column, Date, DateTime, Integer, MetaData, SmallInteger, String, Table, Uuid, select
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation
from fedorm.catalog import SERVICE as NAMED
from fedorm.exc import RowError, StoreError
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.rows import Block, Key, RowAccess, RowShape, Values
from fedorm.testing.compliance.base import Refused, Suite, is_beanie, models_of
from fedorm.testing.compliance.rows import SERVICE, SampleRow
from fedorm.testing.compliance.values import CASES, UTC, Feature, exactly

VERSION, DELETED = "row_version", "row_is_deleted"
KEYS: dict[str, tuple[str, ...]] = {
    "integers": ("number",),
    "texts": ("note",),
    "uuids": ("token",),
    "dates": ("day", "number"),
    "datetimes": ("moment",),
    "two": ("code", "number"),
    "three": ("day", "token", "number"),
}


class RowSuite(Suite):
    """Rows by key."""

    async def make_table(self, store: Store, table: Table) -> None:
        """Make a table; where rows are only appended, one in which that of the greatest ``VERSION`` counts."""
        await store.create_all(table.metadata, [])

    @pytest.fixture
    async def samples(self, fed: Federation, store: Store) -> AsyncIterator[RowAccess]:
        """Give access to rows of one field a type."""
        fields = ("id", *dict.fromkeys(case.column for case in CASES))
        if isinstance(store, DocumentStore):
            model = models_of(store).sample
            yield store.row_access(RowShape(SERVICE, "Sample", ("id",), fields, document=model))
            return
        metadata = MetaData(info={NAMED: SERVICE})
        columns: list[Column[Any]] = [SampleRow.__table__.c[name]._copy() for name in fields]
        table = Table("compliance_row_samples", metadata, *columns, *_versions(store))
        async for access in self._access(store, table, ("id",), fields):
            yield access

    @pytest.fixture
    async def keyed(self, store: Store, fed: Federation, request: pytest.FixtureRequest) -> AsyncIterator[RowAccess]:
        """Give access to rows with a key of the kind that the test names, ``KEYS["two"]`` by default."""
        key = KEYS[getattr(request, "param", "two")]
        fields = ("code", "number", "token", "day", "moment", "note", "size")
        if isinstance(store, DocumentStore) and not is_beanie(store):
            from fedorm.testing.compliance.entities import RowsById

            yield RowsById(store, key, fields)
            return
        if Capability.DOCUMENTS in store.capabilities:
            from fedorm.testing.compliance.documents import KeyedDocument

            yield store.row_access(RowShape(SERVICE, "Keyed", key, fields, document=KeyedDocument))
            return
        kinds: Sequence[Any] = (
            String(50),
            BigInteger(),
            Uuid(),
            Date(),
            DateTime(timezone=True),
            String(20),
            Integer(),
        )
        columns: list[Column[Any]] = [
            Column(name, kind, primary_key=name in key, nullable=name == "size", autoincrement=False)
            for name, kind in zip(fields, kinds, strict=True)
        ]
        table = Table("compliance_row_keys", MetaData(info={NAMED: SERVICE}), *columns, *_versions(store))
        async for access in self._access(store, table, key, fields):
            yield access

    async def _access(
        self, store: Any, table: Table, key: tuple[str, ...], fields: tuple[str, ...]
    ) -> AsyncIterator[RowAccess]:
        versions: dict[str, Any] = {}
        if Capability.UPDATES not in store.capabilities:
            versions = {"version": VERSION, "deleted": DELETED}
        await self.make_table(store, table)
        names = (*fields, *versions.values())
        shape = RowShape(
            SERVICE, "Row", key, fields, table=table, columns={name: table.c[name] for name in names}, **versions
        )
        yield store.row_access(shape)
        assert store.engine.pool.checkedout() == 0

    # -- values

    async def test_rows_of_all_types(self, samples: RowAccess) -> None:
        """Rows that are written, few or many at once, are read as they were, by key and in pages."""
        names = samples.shape.fields
        cases = [case for case in CASES if case.feature not in self.gaps]
        values = [(case.column, value) for case in cases for value in case.values]
        rows = [dict.fromkeys(names) | {"id": number, name: value} for number, (name, value) in enumerate(values)]
        rows += [dict.fromkeys(names) | {"id": len(rows) + more} for more in range(300)]
        expected = {(row["id"],): exactly(row) for row in rows}
        await write(samples, Block(upserts=rows))
        assert _exactly(await samples.read(list(expected))) == expected
        for row in rows[:50]:
            await write(samples, Block(upserts=[row]), version=2)
        pages = [page async for page in samples.pages(size=100)]
        assert [exactly(row) for page in pages for row in page] == list(expected.values())

    async def test_rows_that_do_not_fit(self, samples: RowAccess, store: Store) -> None:
        """What a store cannot hold, or what is of another type, is a ``RowError`` that leaves the value out."""
        refused = [
            case for case in CASES if case.feature is not None and isinstance(self.gaps.get(case.feature), Refused)
        ]
        values = [(case.column, value) for case in refused for value in case.values]
        values += [("big", 2**63), ("day", "a-secret-day"), ("text", "\ud800")]
        if store.kind != "sqlite":  # It keeps a text in any column.
            values.append(("integer", "twelve-secret"))
        for name, value in values:
            row = dict.fromkeys(samples.shape.fields) | {"id": 1, name: value}
            for more in (0, 300):
                block = Block(upserts=[row] + [dict.fromkeys(row) | {"id": 2 + number} for number in range(more)])
                with pytest.raises(RowError, match=SERVICE) as raised:
                    await write(samples, block)
                if store.kind in ("postgresql", "sqlite", "mongodb"):  # Others' own words repeat it.
                    assert "secret" not in str(raised.value)
                assert await samples.count() == 0, name

    # -- pages

    @pytest.mark.parametrize("keyed", KEYS, indirect=True)
    async def test_pages(self, keyed: RowAccess) -> None:
        """Pages hold each row once, in the keys' order, from any key on; keys alone come in the same order."""
        rows = [_row(number) for number in range(57)]
        await write(keyed, Block(upserts=rows))
        everything = [row async for page in keyed.pages(size=1000) for row in page]
        assert sorted(everything, key=repr) == sorted(rows, key=repr)
        for size in (7, 19, 57):
            pages = [page async for page in keyed.pages(size=size)]
            assert [row for page in pages for row in page] == everything
            assert {len(page) for page in pages[:-1]} <= {size}
            assert len(pages[-1]) <= size
            keys = [key async for page in keyed.key_pages(size=size) for key in page]
            assert keys == [_key(keyed, row) for row in everything]
        after = [row async for page in keyed.pages(size=10, after=keys[29]) for row in page]
        assert after == everything[30:]
        assert [page async for page in keyed.key_pages(size=10, after=keys[-1])] == []
        assert await keyed.read(keys) == {_key(keyed, row): row for row in rows}

    async def test_changes_between_pages(self, keyed: RowAccess) -> None:
        """A page sees what was committed before it, and no row comes twice."""
        rows = [_row(number) for number in range(0, 60, 2)]
        await write(keyed, Block(upserts=rows))
        pages = keyed.pages(size=10)
        seen = await anext(pages)
        await write(keyed, Block(upserts=[_row(1), _row(41), _row(99)], deletes=[_key(keyed, _row(50))]), version=2)
        seen += [row async for page in pages for row in page]
        new = [41, 99] if keyed.sees_new_keys else []
        assert [row["number"] for row in seen] == sorted([*range(0, 50, 2), *range(52, 60, 2), *new])

    # -- blocks

    @pytest.mark.parametrize("keyed", ["integers"], indirect=True)
    @pytest.mark.parametrize("number", [0, 1, 3, 5000])
    async def test_blocks(self, keyed: RowAccess, store: Store, number: int) -> None:
        """A block of any size is there once it is written, once however often that is."""
        if Capability.DOCUMENTS in store.capabilities:
            number = min(number, 1000)  # A look-up of many keys takes the embedded server the square of their number.
        rows = [_row(one) for one in range(number)]
        keys = [_key(keyed, row) for row in rows]
        for version in (1, 2):
            await write(keyed, Block(upserts=rows), version=version)
            assert await keyed.count() == number
        assert await keyed.read(keys) == dict(zip(keys, rows, strict=True))
        assert await keyed.present([*keys, (-1,)]) == set(keys)
        changes: list[tuple[Key, Values]] = [(key, {"note": "changed", "size": None}) for key in keys[::2]]
        for version in (3, 4):
            await write(keyed, Block(changes=changes, deletes=keys[1::2]), version=version)
        changed = {key: row | {"note": "changed", "size": None} for key, row in zip(keys, rows, strict=True)}
        assert await keyed.read(keys) == {key: changed[key] for key in keys[::2]}
        assert await keyed.count() == len(keys[::2])

    async def test_mixed_blocks(self, keyed: RowAccess) -> None:
        """Upserts, changes and deletes come together; what is not there is neither changed nor deleted."""
        await write(keyed, Block(upserts=[_row(number) for number in range(4)]))
        block = Block(
            upserts=[_row(0) | {"note": "new"}, _row(7)],
            changes=[(_key(keyed, _row(1)), {"note": "other"}), (_key(keyed, _row(8)), {"size": 1})],
            deletes=[_key(keyed, _row(2)), _key(keyed, _row(9))],
        )
        block.changes.append((_key(keyed, _row(3)), {"size": 33}))
        expected = [_row(0) | {"note": "new"}, _row(1) | {"note": "other"}, _row(3) | {"size": 33}, _row(7)]
        for version in (2, 3):
            await write(keyed, block, version=version)
            assert [row async for page in keyed.pages(size=100) for row in page] == expected
        await write(keyed, Block(upserts=[_row(2)]), version=4)
        assert await keyed.read([_key(keyed, _row(2))]) == {_key(keyed, _row(2)): _row(2)}
        assert len(block) == 7

    async def test_versions(self, keyed: RowAccess, store: Store) -> None:
        """Where rows have versions the greatest counts, whenever it was written; a delete's, too."""
        first, second = _row(1), _row(2)
        await write(keyed, Block(upserts=[first | {"note": "late"}], deletes=[_key(keyed, second)]), version=7)
        await write(keyed, Block(upserts=[first | {"note": "early"}, second]), version=6)
        found = [row async for page in keyed.pages(size=10) for row in page]
        if Capability.UPDATES in store.capabilities and Capability.VERSIONS not in store.capabilities:
            assert found == [first | {"note": "early"}, second]
        else:
            forgotten = [second] if Feature.DELETED_VERSIONS in self.gaps else []
            assert found == [first | {"note": "late"}, *forgotten]
            assert await keyed.count() == len(found)

    # -- transactions

    async def test_rows_of_a_transaction(self, keyed: RowAccess, store: Store) -> None:
        """What is rolled back is not there, and neither is what came before an error."""
        handle = await keyed.begin()
        assert (handle is None) == (Capability.TRANSACTIONS not in store.capabilities)
        if handle is None:
            return
        for number in (1, 500):
            await keyed.write(handle, Block(upserts=[_row(one) for one in range(number)]), version=1)
        await keyed.rollback(handle)
        assert await keyed.count() == 0
        handle = await keyed.begin()
        await keyed.write(handle, Block(upserts=[_row(1)]), version=1)
        with pytest.raises(RowError):
            await keyed.write(handle, Block(upserts=[_row(2) | {"note": None}]), version=2)
        await keyed.rollback(handle)
        assert await keyed.count() == 0
        await write(keyed, Block(upserts=[_row(1)]))
        assert await keyed.count() == 1

    async def test_statements_in_the_same_transaction(self, keyed: RowAccess, samples: RowAccess, store: Any) -> None:
        """Two shapes, and any statement at the connection, are committed together or not at all."""
        if Capability.TRANSACTIONS not in store.capabilities or Capability.SQL not in store.capabilities:
            return
        table = samples.shape.table
        assert table is not None
        for ends in (keyed.rollback, keyed.commit):
            handle = await keyed.begin()
            await greenlet_spawn(handle.execute, table.insert().values(id=1, integer=5))
            await keyed.write(handle, Block(upserts=[_row(1)]), version=1)
            await samples.write(handle, Block(changes=[((1,), {"integer": 6})]), version=1)
            await ends(handle)
            assert store.engine.pool.checkedout() == 0
        assert await keyed.count() == 1
        with await greenlet_spawn(store.engine.connect) as connection:
            found = await greenlet_spawn(lambda: connection.execute(select(table.c.id, table.c.integer)).all())
            await greenlet_spawn(connection.close)
        assert found == [(1, 6)]

    async def test_constraints(self, keyed: RowAccess, store: Store) -> None:
        """A row without a value that it has to have, or too long for its column, is a ``RowError``."""
        values: list[Values] = [{"note": None}]
        if Capability.SQL in store.capabilities and store.kind in ("postgresql", "mysql"):
            values.append({"note": "too long by some characters"})
        for value in values:
            with pytest.raises(RowError, match=r"Keyed|Row"):
                await write(keyed, Block(upserts=[_row(1) | value]))
            assert await keyed.count() == 0
        with pytest.raises(StoreError):
            await write(keyed, Block(upserts=[{"code": "only", "number": 1}]))


async def write(access: RowAccess, block: Block, *, version: int = 1) -> None:
    """Write a block in a transaction of its own."""
    handle = await access.begin()
    try:
        await access.write(handle, block, version=version)
    except BaseException:
        await access.rollback(handle)
        raise
    await access.commit(handle)


def _versions(store: Store) -> Sequence[Column[Any]]:
    if Capability.UPDATES in store.capabilities:
        return ()
    return Column(VERSION, BigInteger, nullable=False), Column(DELETED, SmallInteger, nullable=False)


def _row(number: int) -> Values:
    moment = datetime.datetime(2024, 1, 1, tzinfo=UTC) + datetime.timedelta(hours=number * 7)
    return {
        "code": f"code {number // 5:04}",
        "number": number,
        "token": UUID(int=number * 2**90 + number),
        "day": datetime.date(2024, 1, 1) + datetime.timedelta(days=number % 20),
        "moment": moment,
        "note": f"note {number}",
        "size": number % 3 or None,
    }


def _key(access: RowAccess, row: Values) -> Key:
    return tuple(row[name] for name in access.shape.key)


def _exactly(found: dict[Key, Values]) -> dict[Key, Any]:
    return {key: exactly(row) for key, row in found.items()}
