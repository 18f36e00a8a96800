"""What the suite of rows by key cannot ask of every store: constraints, computed columns, defaults, and detours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Computed,
    ForeignKey,
    Identity,
    Integer,
    MetaData,
    String,
    Table,
    column,
    func,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.util import greenlet_spawn

from fedorm import FederatedDocument, Federation
from fedorm.catalog import SERVICE
from fedorm.exc import RowError, StoreError, UnsupportedOperationError
from fedorm.stores.passing import Pair
from fedorm.stores.postgresql_copies import PostgreSQLCopies
from fedorm.stores.rows import Block, RowAccess, RowShape
from fedorm.testing.compliance.blocks import write
from fedorm.testing.plugin import FreshDatabase

NAME = "row_access"
SERVERS = ("postgresql", "mysql", "sqlite")


class Parcel(FederatedDocument):
    """Has fields beside those that are written."""

    __service__ = NAME
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    weight: int
    label: str | None = None
    priority: int = 3

    class Settings:
        name = "parcels"
        keep_nulls = False


class Opened:
    """A service with one table, and access to some of its columns."""

    def __init__(self, fed: Federation, table: Table) -> None:
        self.fed, self.store = fed, cast("Any", fed.stores[NAME])
        self.table = table

    def access(self, *fields: str, key: tuple[str, ...] = ("id",), **more: Any) -> RowAccess:
        columns = {name: self.table.c[name] for name in fields}
        return self.store.row_access(RowShape(NAME, "Thing", key, fields, self.table, columns, **more))  # type: ignore[no-any-return]

    async def rows(self) -> list[tuple[Any, ...]]:
        def run() -> list[tuple[Any, ...]]:
            with self.store.engine.connect() as connection:
                return [tuple(row) for row in connection.execute(select(self.table).order_by(self.table.c[0]))]

        return await greenlet_spawn(run)

    async def insert(self, *rows: dict[str, Any]) -> None:
        def run() -> None:
            with self.store.engine.begin() as connection:
                connection.execute(self.table.insert(), list(rows))

        await greenlet_spawn(run)


@asynccontextmanager
async def opened(url: str, *columns: Any, others: tuple[Any, ...] = ()) -> AsyncIterator[Opened]:
    metadata = MetaData(info={SERVICE: NAME})
    for name, more in others:
        Table(name, metadata, *more)
    table = Table("row_things", metadata, *columns)
    async with Federation({NAME: url}) as fed:
        await fed.stores[NAME].create_all(metadata, [])
        one = Opened(fed, table)
        yield one
        pool: Any = one.store.engine.pool
        assert pool.checkedout() == 0


@pytest.fixture
def url(request: pytest.FixtureRequest, fresh_database: FreshDatabase, sqlite_url: str) -> str:
    return sqlite_url if request.param == "sqlite" else fresh_database(request.param)


over = pytest.mark.parametrize("url", SERVERS, indirect=True)
MANY = 300
"""More rows than those that PostgreSQL is sent as arrays."""


@over
@pytest.mark.parametrize("number", [1, MANY])
async def test_other_columns_are_kept(url: str, number: int) -> None:
    """A column that the shape does not name keeps its value in rows that are there, and has its default in others."""
    columns = Column("id", Integer, primary_key=True), Column("a", String(9)), Column("b", String(9), default="python")
    async with opened(url, *columns, Column("c", Integer, server_default="7")) as things:
        await things.insert({"id": 1, "a": "old", "b": "mine", "c": 1})
        rows = [{"id": one, "a": "new"} for one in range(1, number + 2)]
        await write(things.access("id", "a"), Block(upserts=rows))
        expected = [(1, "new", "mine", 1), *((one, "new", "python", 7) for one in range(2, number + 2))]
        assert await things.rows() == expected


@over
@pytest.mark.parametrize("number", [1, MANY])
async def test_a_unique_value_of_another_row(url: str, number: int) -> None:
    """A row with a unique value that a row of another key has is a ``RowError``, and that row stays as it is."""
    columns = Column("id", Integer, primary_key=True), Column("email", String(30), unique=True), Column("n", Integer)
    async with opened(url, *columns) as people:
        await people.insert({"id": 1, "email": "a@example.com", "n": 0})
        access = people.access("id", "email", "n")
        rows = [
            {"id": 2 + one, "email": f"{'a' if one == number - 1 else one}@example.com", "n": 5}
            for one in range(number)
        ]
        with pytest.raises(RowError, match="Thing"):
            await write(access, Block(upserts=rows))
        assert await people.rows() == [(1, "a@example.com", 0)]
        await write(access, Block(upserts=rows, deletes=[(1,)]))
        assert len(await people.rows()) == number


@over
async def test_constraints_of_other_tables(url: str) -> None:
    """A key that is nowhere is a ``RowError``, be it seen only at the end of the transaction."""
    late = {} if url.startswith("mysql") else {"deferrable": True, "initially": "DEFERRED"}
    key: Any = ForeignKey("row_owners.id", **late)
    others = (("row_owners", (Column("id", Integer, primary_key=True),)),)
    async with opened(
        url, Column("id", Integer, primary_key=True), Column("owner", Integer, key), others=others
    ) as one:
        with pytest.raises(RowError, match="service 'row_access'"):
            await write(one.access("id", "owner"), Block(upserts=[{"id": 1, "owner": 9}]))
        assert await one.rows() == []


@over
@pytest.mark.parametrize("number", [2, MANY])
async def test_keys_that_the_database_gives(url: str, number: int) -> None:
    """A column that counts by itself takes the value that it is given, zero, too; a computed one is not written."""
    columns = [Column("id", Integer, primary_key=True, autoincrement=True), Column("n", Integer)]
    async with opened(url, *columns, Column("twice", Integer, Computed("n * 2", persisted=True))) as things:
        access = things.access("id", "n", "twice")
        rows = [{"id": one, "n": one, "twice": 77} for one in range(number)]
        await write(access, Block(upserts=rows, changes=[((500,), {"n": 1, "twice": 3})]))
        await write(access, Block(changes=[((1,), {"n": 4, "twice": 3})]))
        assert await things.rows() == [(0, 0, 0), (1, 4, 8), *((one, one, one * 2) for one in range(2, number))]


@pytest.mark.parametrize("number", [2, MANY])
async def test_identity_always(postgresql_url: str, number: int) -> None:
    """A column GENERATED ALWAYS takes the value that it is given."""
    async with opened(
        postgresql_url, Column("id", Integer, Identity(always=True), primary_key=True), Column("n", Integer)
    ) as things:
        rows = [{"id": one, "n": one} for one in range(50, 50 + number)]
        for _ in range(2):
            await write(things.access("id", "n"), Block(upserts=rows))
        assert await things.rows() == [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("number", [2, MANY])
async def test_types_without_equality(postgresql_url: str, number: int) -> None:
    """Arrays, JSON without an order, and fixed lengths are written few or many at once, and changed."""
    columns = (
        Column("id", Integer, primary_key=True),
        Column("tags", postgresql.ARRAY(String(5))),
        Column("data", postgresql.JSON),
        Column("span", postgresql.INTERVAL),
        Column("place", postgresql.INET),
    )
    async with opened(postgresql_url, *columns) as things:
        access = things.access("id", "tags", "data", "span", "place")
        rows = [
            {"id": one, "tags": ["a", "b"], "data": {"n": one}, "span": None, "place": None} for one in range(number)
        ]
        await write(access, Block(upserts=rows))
        for row in rows:
            row["data"] = None if row["id"] % 2 else {"m": 1}
        await write(access, Block(upserts=rows))
        await write(access, Block(changes=[((0,), {"tags": [], "data": [1]}), ((1,), {"data": {"x": 1}})]))
        rows[0] |= {"tags": [], "data": [1]}
        rows[1] |= {"data": {"x": 1}}
        assert await access.read([(row["id"],) for row in rows]) == {(row["id"],): row for row in rows}


@pytest.mark.parametrize("number", [1, MANY])
async def test_rows_that_are_the_same(postgresql_url: str, number: int) -> None:
    """A row that is as it has to be is not written again."""
    async with opened(postgresql_url, Column("id", Integer, primary_key=True), Column("n", Integer)) as things:
        access = things.access("id", "n")
        rows = [{"id": one, "n": None} for one in range(number)]

        async def versions() -> set[str]:
            def run() -> set[str]:
                with things.store.engine.connect() as connection:
                    return {str(one) for (one,) in connection.exec_driver_sql("SELECT xmin FROM row_things")}

            return await greenlet_spawn(run)

        await write(access, Block(upserts=rows))
        first = await versions()
        await write(access, Block(upserts=rows))
        assert await versions() == first


async def test_several_blocks_in_one_transaction(postgresql_url: str) -> None:
    """Blocks that go through the same temporary table do not meet there, whatever was rolled back before."""
    async with opened(postgresql_url, Column("id", Integer, primary_key=True), Column("n", Integer)) as things:
        access = things.access("id", "n")
        for ends in (access.rollback, access.commit, access.commit):
            handle = await access.begin()
            for version in (1, 2):
                rows = [{"id": one * version, "n": version} for one in range(MANY)]
                await access.write(handle, Block(upserts=rows), version=version)
                await access.write(handle, Block(deletes=[(0,)]), version=version)
            await ends(handle)
        expected = dict.fromkeys(range(1, MANY), 1) | {one * 2: 2 for one in range(1, MANY)}
        assert await things.rows() == sorted(expected.items())


async def test_a_text_that_is_too_long(postgresql_url: str) -> None:
    """No cast cuts it off, in a key neither."""
    async with opened(postgresql_url, Column("id", String(3), primary_key=True), Column("n", String(3))) as things:
        access = things.access("id", "n")
        await write(access, Block(upserts=[{"id": "abc", "n": "x"}]))
        for block in (Block(upserts=[{"id": "d", "n": "long"}]), Block(changes=[(("abc",), {"n": "long"})])):
            with pytest.raises(RowError, match="too long"):
                await write(access, block)
        await write(access, Block(changes=[(("abcd",), {"n": "y"})]))
        await write(access, Block(deletes=[("abcd",)]))
        assert await access.read([("abcd",)]) == {}
        assert await things.rows() == [("abc", "x")]


@pytest.mark.parametrize("number", [1, MANY])
async def test_a_key_that_is_not_unique(postgresql_url: str, number: int) -> None:
    """Rows are not written where nothing keeps them from being there twice."""
    async with opened(postgresql_url, Column("id", Integer, primary_key=True), Column("n", Integer)) as things:
        with pytest.raises(StoreError, match="no unique or exclusion constraint"):
            await write(things.access("id", "n", key=("n",)), Block(upserts=[{"id": n, "n": n} for n in range(number)]))
        assert await things.rows() == []


@pytest.mark.clickhouse
async def test_tables_that_replace_nothing(clickhouse_url: str) -> None:
    """ClickHouse's rows are read from any table, and written to none that would keep all of them."""
    columns = Column("id", BigInteger, primary_key=True), Column("n", Integer), Column("v", BigInteger, nullable=False)
    async with opened(clickhouse_url, *columns) as things:
        await things.insert(*({"id": one, "n": one, "v": 0} for one in range(25)))
        plain, versioned = things.access("id", "n"), things.access("id", "n", "v", version="v")
        assert [row["n"] async for page in plain.pages(size=10) for row in page] == list(range(25))
        for access, block in (
            (plain, Block(upserts=[{"id": 1, "n": 1}])),
            (versioned, Block(upserts=[{"id": 1, "n": 1}])),
        ):
            with pytest.raises(UnsupportedOperationError, match=r"ReplacingMergeTree\(<version>\) ORDER BY \(id\)"):
                await write(access, block)


@pytest.mark.clickhouse
@pytest.mark.parametrize("order", [("n",), ("id", "n"), ("id",), (func.intHash64(column("id")), "id")])
async def test_tables_that_replace_by_something_else(clickhouse_url: str, order: tuple[Any, ...]) -> None:
    """A row that is known by its key would take another one's place, or be there twice, and is not written."""
    from clickhouse_sqlalchemy.engines import ReplacingMergeTree

    columns = (
        Column("id", BigInteger, primary_key=True),
        Column("n", Integer, nullable=False),
        Column("v", BigInteger, nullable=False),
    )
    replacing = ReplacingMergeTree(version="v", order_by=order, primary_key=order)
    async with opened(clickhouse_url, *columns, replacing) as things:
        access = things.access("id", "n", "v", version="v")
        block = Block(upserts=[{"id": 1, "n": 1}, {"id": 2, "n": 1}])
        if "n" in order:
            by = r"ORDER BY (id, )?n, and the rule's are known by id; .* ORDER BY \(id\)"
            with pytest.raises(UnsupportedOperationError, match=by):
                await write(access, block)
            assert await things.rows() == []
        else:
            await write(access, block)
            assert await things.rows() == [(1, 1, 1), (2, 1, 1)]


async def test_fields_beside_the_shape(mongodb_url: str) -> None:
    """A document keeps its other fields; a new one has the class's defaults; what is None is not kept as null."""
    async with Federation({NAME: mongodb_url}) as fed:
        store: Any = fed.stores[NAME]
        await store.create_all(MetaData(), [Parcel])
        collection = store.collection(Parcel, sync=False)
        await collection.insert_one({"_id": 1, "weight": 1, "label": "old", "priority": 9, "extra": True})
        access = store.row_access(RowShape(NAME, "Parcel", ("id",), ("id", "weight", "label"), document=Parcel))
        await write(
            access, Block(upserts=[{"id": 1, "weight": 2, "label": None}, {"id": 2, "weight": 5, "label": "x"}])
        )
        assert await collection.find().sort("_id").to_list(None) == [
            {"_id": 1, "weight": 2, "priority": 9, "extra": True},
            {"_id": 2, "weight": 5, "label": "x", "priority": 3},
        ]
        with pytest.raises(RowError, match="Parcel: field 'weight': Input should be a valid integer") as raised:
            await write(access, Block(upserts=[{"id": 3, "weight": "a-secret", "label": None}]))
        assert "a-secret" not in str(raised.value)
        with pytest.raises(RowError, match="field 'weight'"):
            await write(access, Block(changes=[((1,), {"weight": "a-secret"})]))


@pytest.mark.parametrize("url", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("number", [1, MANY])
async def test_a_write_that_is_cancelled(url: str, number: int) -> None:
    """A write that waits for another transaction can be given up; nothing of it is left, and no connection."""
    async with opened(url, Column("id", Integer, primary_key=True), Column("n", Integer)) as things:
        access = things.access("id", "n")
        await write(access, Block(upserts=[{"id": 0, "n": 0}]))
        first = await access.begin()
        await access.write(first, Block(upserts=[{"id": 0, "n": 1}]), version=1)
        second = await access.begin()
        rows = [{"id": one, "n": 2} for one in range(number)]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(access.write(second, Block(upserts=rows), version=2), 0.3)
        await access.rollback(second)
        await access.commit(first)
        assert things.store.engine.pool.checkedout() == 0
        assert await things.rows() == [(0, 1)]
        await write(access, Block(upserts=[{"id": 0, "n": 3}]))
        assert await things.rows() == [(0, 3)]


async def test_pages_that_are_copied(postgresql_url: str) -> None:
    """Rows of the same types go from one table to another as bytes, however often; others do not fit."""

    def columns(key: str, value: str, kind: Any = Integer) -> tuple[Column[Any], ...]:
        keys = Column(key, Integer, primary_key=True), Column("name", String(9), primary_key=True)
        return *keys, Column(value, kind)

    others = ("row_copies", columns("key", "m")), ("row_others", columns("id", "n", BigInteger))
    async with opened(postgresql_url, *columns("id", "n"), others=others) as things:
        rows: list[dict[str, Any]] = [{"id": one // 3, "name": f"n{one}", "n": one or None} for one in range(50)]
        await things.insert(*rows)

        def access(name: str, key: str, value: str) -> Any:
            table = things.table.metadata.tables[name]
            return Opened(things.fed, table).access(key, "name", value, key=(key, "name"))

        source = access("row_things", "id", "n")
        target = access("row_copies", "key", "m")
        copies = PostgreSQLCopies(source, target, [Pair("id", "key"), Pair("name", "name"), Pair("n", "m")])
        assert await copies.fit()
        same = [Pair(name, name) for name in source.shape.fields]
        assert not await PostgreSQLCopies(source, access("row_others", "id", "n"), same).fit()
        for size in (7, 10, 100):
            async for page in copies.pages(size=size):
                handle = await target.begin()
                await copies.write(handle, page, version=1)
                await target.commit(handle)
            found = [row async for page in target.pages(size=100) for row in page]
            expected = [{"key": row["id"], "name": row["name"], "m": row["n"]} for row in rows]
            assert sorted(found, key=repr) == sorted(expected, key=repr)
            await write(source, Block(changes=[((1, "n4"), {"n": size})]))
            rows[4]["n"] = size
