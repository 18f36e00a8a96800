"""Results that are read in parts, and results as Arrow tables."""

from __future__ import annotations

import asyncio
import datetime
import gc
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest
from sqlalchemy import BigInteger, DateTime, Numeric, SmallInteger, String, Text, func, insert, select, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, FederatedSession, Federation
from fedorm.query.executor import Parts
from fedorm.query.finish import Finishing

ROWS = 200_000
UTC = datetime.UTC


class Sensor(FederatedBase):
    __service__ = "sensors"
    __tablename__ = "sensors"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    place: Mapped[str] = mapped_column(String(20))


class Reading(FederatedBase):
    __service__ = "readings"
    __tablename__ = "readings"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    sensor_id: Mapped[int]
    value: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))


class Sample(FederatedBase):
    """A column of each type."""

    __service__ = "readings"
    __tablename__ = "samples"
    id: Mapped[int] = mapped_column(primary_key=True)
    small: Mapped[int | None] = mapped_column(SmallInteger)
    large: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    exact: Mapped[Decimal | None] = mapped_column(Numeric(38, 10))
    share: Mapped[float | None]
    flag: Mapped[bool | None]
    name: Mapped[str | None]
    at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    local: Mapped[datetime.datetime | None]
    day: Mapped[datetime.date | None]
    hour: Mapped[datetime.time | None]
    span: Mapped[datetime.timedelta | None]
    key: Mapped[UUID | None]
    raw: Mapped[bytes | None]
    data: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    tags: Mapped[list[str] | None] = mapped_column(ARRAY(Text))


class Manual(FederatedDocument):
    __service__ = "manuals"
    sensor_id: int
    title: str
    price: Decimal | None = None
    seen: datetime.datetime | None = None
    pages: list[int] = []

    class Settings:
        name = "manuals"


@pytest.fixture
def station_urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    kinds = {"sensors": "mysql", "readings": "postgresql", "manuals": "mongodb"}
    return {service: fresh_database(kind) for service, kind in kinds.items()}


@pytest.fixture
async def station(station_urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(station_urls) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(Sensor), [{"id": number, "place": f"p{number}"} for number in range(10)])
            await session.commit()
        yield fed


@pytest.fixture
async def busy(station: Federation) -> Federation:
    """With 200,000 readings."""
    async with station.session() as session:
        made = text(f"insert into readings select n, n % 10, n / 100.0 from generate_series(1, {ROWS}) as made(n)")
        await session.execute(made, bind_arguments={"service": "readings"})
        await session.commit()
    return station


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows DuckDB has made at each call."""
    counts: list[int] = []
    batch = Finishing.batch

    def counted(self: Finishing) -> list[tuple[Any, ...]]:
        rows = batch(self)
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(Finishing, "batch", counted)
    return counts


STATEMENT = select(Reading.id, Sensor.place).join(Sensor, Sensor.id == Reading.sensor_id)

# -- rows in parts


async def test_a_stream(busy: Federation, made: list[int]) -> None:
    """All rows come, once, and no more of them are there at a time than are asked for, and some ahead."""
    async with busy.session() as session:
        result = await session.stream(STATEMENT, execution_options={"yield_per": 1000})
        seen: set[int] = set()
        number = 0
        async for part in result.partitions():
            assert len(part) <= 1000
            number += len(part)
            seen.update(row.id for row in part)
            assert sum(made) - number <= 20_000
        assert number == len(seen) == ROWS
        assert len(made) > 10


async def test_half_of_a_stream(busy: Federation, made: list[int]) -> None:
    """What is closed, or left without a word, makes no more rows; the session goes on."""
    async with busy.session() as session:
        result = await session.stream(STATEMENT, execution_options={"yield_per": 1000})
        assert len(await result.fetchmany(1500)) == 1500
        await result.close()
        left = await session.stream_scalars(STATEMENT, execution_options={"yield_per": 1000})
        assert isinstance(await anext(left.partitions()), list)
        assert sum(made) <= 60_000
        assert await session.scalar(select(func.count()).select_from(Sensor)) == 10
        assert len((await session.execute(STATEMENT.where(Reading.id <= 5))).all()) == 5
    del left
    gc.collect()
    async with busy.session() as session:
        await session.stream(STATEMENT, execution_options={"yield_per": 1000})
    assert sum(made) <= 80_000


async def test_a_stream_of_one_service(busy: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain SQL that one service answers is streamed from there; what is left half-read is in nobody's way."""
    numbers: list[int] = []
    batch = Parts.batch

    def counted(self: Parts) -> list[tuple[Any, ...]]:
        rows = batch(self)
        numbers.append(len(rows))
        return rows

    monkeypatch.setattr(Parts, "batch", counted)
    plain = text("select id, value from readings.readings order by id").execution_options(yield_per=1000)
    async with busy.session() as session:
        result = await session.stream(plain)
        assert [tuple(row) for row in await result.fetchmany(2)] == [(1, Decimal("0.01")), (2, Decimal("0.02"))]
        assert await session.scalar(text("select count(*) from readings.readings")) == ROWS
        assert (await result.fetchone()).id == 3
        await result.close()
        assert sum(numbers) <= 20_000
        number = 0
        async for part in (await session.stream(plain)).partitions():
            number += len(part)
        assert number == ROWS
        sums = text("select sensor_id, sum(sensor_id) from readings.readings group by 1 order by 1")
        found = [tuple(row) async for row in await session.stream(sums, execution_options={"yield_per": 3})]
        assert found == [(number, number * ROWS // 10) for number in range(10)]
        assert type(found[1][1]) is int


async def test_streams_beside_each_other(busy: Federation) -> None:
    """Two of one session, each half-read while the other is, and a statement between."""
    async with busy.session() as session:
        one = await session.stream(STATEMENT.order_by(Reading.id).execution_options(yield_per=500))
        other = await session.stream(STATEMENT.order_by(Reading.id.desc()).execution_options(yield_per=500))
        assert [row.id for row in await one.fetchmany(3)] == [1, 2, 3]
        assert [row.id for row in await other.fetchmany(2)] == [ROWS, ROWS - 1]
        assert await session.scalar(select(func.count(Sensor.id)).join(Reading, Reading.sensor_id == Sensor.id)) == ROWS
        assert [row.id for row in await one.fetchmany(2)] == [4, 5]
        await one.close()
        assert (await other.fetchone()).id == ROWS - 2
        await other.close()


async def test_a_stream_of_entities(busy: Federation) -> None:
    """Objects of the identity map come in parts, those that the session has are its own."""
    async with busy.session() as session:
        kept = await session.get_one(Reading, 7)
        statement = select(Reading).join(Sensor, Sensor.id == Reading.sensor_id).where(Reading.id <= 5000)
        result = await session.stream_scalars(statement.order_by(Reading.id).execution_options(yield_per=100))
        number, most = 0, 0
        async for part in result.partitions():
            assert all(isinstance(reading, Reading) for reading in part)
            assert number != 0 or part[6] is kept
            number += len(part)
            most = max(most, len(session.identity_map))
        assert number == 5000
        assert most < 1000


def test_without_async(station_urls: dict[str, str]) -> None:
    """The same for sessions of threads: ``yield_per``, ``partitions()``, left half-read."""

    async def prepare() -> None:
        async with Federation(station_urls) as fed:
            await fed.create_all()

    asyncio.run(prepare())
    with Federation(station_urls) as fed, fed.sync_session() as session:
        session.add_all([Sensor(id=number, place=f"p{number}") for number in range(10)])
        session.execute(insert(Reading), [{"id": number, "sensor_id": number % 10} for number in range(3000)])
        session.commit()
        assert _parts(session) == [1000, 1000, 1000]
        result = session.execute(STATEMENT.order_by(Reading.id).execution_options(yield_per=10))
        assert result.fetchmany(2)[1].id == 1
        result.close()
        for row in session.scalars(select(Reading).join(Sensor, Sensor.id == Reading.sensor_id)).yield_per(10):
            assert isinstance(row, Reading)
            break
        assert _parts(session) == [1000, 1000, 1000]


def _parts(session: FederatedSession) -> list[int]:
    return [len(part) for part in session.execute(STATEMENT.execution_options(yield_per=1000)).partitions()]


# -- Arrow

FULL = Sample(
    id=1, small=3, large=2**40, price=Decimal("1.50"), exact=Decimal("1.1234567891"), share=0.5, flag=True, name="ä",
    at=datetime.datetime(2026, 1, 2, 3, tzinfo=UTC), local=datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    day=datetime.date(2026, 1, 2), hour=datetime.time(1, 2, 3), span=datetime.timedelta(days=1, microseconds=5),
    key=UUID(int=1), raw=b"\x00\xff", data={"a": [1, None]}, tags=["x", "y"],
)  # fmt: skip
TYPES = {
    "id": pa.int64(), "small": pa.int64(), "large": pa.int64(), "price": pa.decimal128(12, 2),
    "exact": pa.decimal128(38, 10), "share": pa.float64(), "flag": pa.bool_(), "name": pa.string(),
    "at": pa.timestamp("us", "UTC"), "local": pa.timestamp("us"), "day": pa.date32(), "hour": pa.time64("us"),
    "span": pa.duration("us"), "key": pa.string(), "raw": pa.binary(), "data": pa.string(),
    "tags": pa.list_(pa.string()),
}  # fmt: skip
OTHER = {"place": pa.string()}


@pytest.fixture
async def sampled(station: Federation) -> Federation:
    """With a row of each type, and one that is empty but for its key."""
    async with station.session() as session:
        values = {name: getattr(FULL, name) for name in TYPES}
        await session.execute(insert(Sample), [values])
        await session.execute(insert(Sample), [{"id": 2}])
        await session.commit()
    return station


def whole(table: pa.Table) -> list[dict[str, Any]]:
    return [{**row, "at": row["at"] and row["at"].astimezone(UTC)} for row in table.to_pylist()]


EXPECTED = {
    **{name: getattr(FULL, name) for name in TYPES},
    "key": "00000000-0000-0000-0000-000000000001",
    "data": '{"a": [1, null]}',
}
EMPTY = {**dict.fromkeys(TYPES), "id": 2}


@pytest.mark.parametrize("by_duckdb", [False, True], ids=["session", "duckdb"])
async def test_arrow(sampled: Federation, by_duckdb: bool, request: pytest.FixtureRequest) -> None:
    """Columns have their types, also where all is NULL or there are no rows, whoever reads, of one service or two."""
    if by_duckdb:
        request.getfixturevalue("prefers_scanners")
    one = select(Sample).order_by(Sample.id)
    two = select(Sample, Sensor.place).join(Sensor, Sensor.id == Sample.id).order_by(Sample.id)
    # These are what DuckDB can read by itself.
    plain = [name for name in TYPES if name not in ("span", "data", "tags")]
    few = select(*(getattr(Sample, name) for name in plain), Sensor.place).join(Sensor, Sensor.id == Sample.id)
    few = few.order_by(Sample.id).execution_options(join_strategy="hash")
    async with sampled.session() as session:
        for statement, names, more, other in (
            (one, list(TYPES), {}, {}),
            (two, list(TYPES), OTHER, {"place": True}),
            (few, plain, OTHER, {"place": True}),
        ):
            schema = {name: TYPES[name] for name in names} | more
            found = await session.arrow(statement)
            assert {field.name: field.type for field in found.schema} == schema
            expected = [{name: row[name] for name in names} for row in (EXPECTED, EMPTY)]
            if other:
                expected = [{**row, "place": f"p{row['id']}"} for row in expected]
            assert whole(found) == expected
            for wanted, rows in ((2, expected[1:]), (77, [])):
                found = await session.arrow(statement.where(Sample.id == wanted))
                assert {field.name: field.type for field in found.schema} == schema
                assert whole(found) == rows


async def test_arrow_of_aggregates_and_parameters(sampled: Federation) -> None:
    """Names are those of the statement; sums of integers are exact; parameters are bound."""
    async with sampled.session() as session:
        statement = (
            select(
                func.count().label("n"),
                func.sum(Sample.large).label("large"),
                func.sum(Sample.price).label("price"),
                func.avg(Sample.small).label("mean"),
                func.max(Sensor.place).label("place"),
            )
            .join(Sensor, Sensor.id == Sample.id)
            .where(Sample.id <= 2)
        )
        found = await session.arrow(statement)
        assert [str(field.type) for field in found.schema] == [
            "int64", "decimal128(38, 0)", "decimal128(38, 2)", "double", "string",
        ]  # fmt: skip
        assert found.to_pylist() == [
            {"n": 2, "large": Decimal(2**40), "price": Decimal("1.50"), "mean": 3.0, "place": "p2"}
        ]
        plain = text("select s.id, m.place from samples s join sensors m on m.id = s.id where s.id = :wanted")
        assert (await session.arrow(plain, {"wanted": 2})).to_pylist() == [{"id": 2, "place": "p2"}]


async def test_arrow_of_documents(station: Federation) -> None:
    """Documents alone, and joined with rows of a table."""
    seen = datetime.datetime(2026, 1, 2, tzinfo=UTC)
    columns = [Manual.c.sensor_id, Manual.c.title, Manual.c.price, Manual.c.seen, Manual.c.pages]
    async with station.session() as session:
        session.add_all([Manual(sensor_id=1, title="a", price=Decimal("2.50"), seen=seen, pages=[1, 2])])
        session.add_all([Manual(sensor_id=2, title="b")])
        await session.commit()
        alone = await session.arrow(select(*columns).order_by(Manual.c.sensor_id))
        joined = await session.arrow(
            select(*columns, Sensor.place).join(Sensor, Sensor.id == Manual.c.sensor_id).order_by(Manual.c.sensor_id)
        )
        expected = [
            {"sensor_id": 1, "title": "a", "price": Decimal("2.50"), "seen": seen, "pages": [1, 2]},
            {"sensor_id": 2, "title": "b", "price": None, "seen": None, "pages": []},
        ]
        assert alone.to_pylist() == expected
        assert joined.to_pylist() == [{**row, "place": f"p{row['sensor_id']}"} for row in expected]
        assert joined.schema.names == [*alone.schema.names, "place"]
        none = await session.arrow(select(*columns).where(Manual.c.sensor_id == 77))
        assert none.num_rows == 0
        assert [str(field.type) for field in none.schema if field.name != "price"] == [
            "int64", "string", str(alone.schema.field("seen").type), "list<item: int64>",
        ]  # fmt: skip
