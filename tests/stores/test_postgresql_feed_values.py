"""Values of PostgreSQL's log are those that a select gives."""

from __future__ import annotations

import datetime
import enum
import uuid
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import DOMAIN, HSTORE, INET, INT4RANGE, JSONB, TSTZRANGE, Range
from sqlalchemy.types import TypeEngine

from fedorm.exc import RowError
from fedorm.testing.compliance.rows import SampleRow
from fedorm.testing.compliance.values import CASES, Case, Color, exactly
from fedorm.testing.compliance.values import Feature as F
from tests.stores.logged import Logged, opened, read, table

EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=45))


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Cents(TypeDecorator[Decimal]):
    """Money, kept in cents; NULL is none."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Decimal:
        return Decimal(value or 0) / 100


CHECKED = DOMAIN("logged_checked", Integer())
KINDS: Sequence[tuple[str, TypeEngine[Any], Sequence[Any]]] = [
    ("smallint", SmallInteger(), [-7]),
    ("float4", postgresql.REAL(), [1.5]),
    ("float8", Double(), [0.1, float("inf"), 5e-324]),
    ("float as decimal", Float(asdecimal=True), [Decimal("0.5")]),
    ("numeric as float", Numeric(asdecimal=False), [0.25]),
    ("numeric", Numeric(), [Decimal("NaN"), Decimal("1e30"), Decimal("1.50")]),
    ("varchar", String(10), ["", "a", "\N{SNOWMAN}'\\\n"]),
    ("char", postgresql.CHAR(5), ["ab"]),
    ("boolean", Boolean(), [True, False]),
    ("date", Date(), [datetime.date.min, datetime.date.max, datetime.date(2024, 2, 29)]),
    ("timestamp", DateTime(), [datetime.datetime.min, datetime.datetime.max, datetime.datetime(2024, 2, 29, 1, 2, 3)]),
    ("timestamptz", DateTime(timezone=True), [datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=EAST)]),
    ("time", Time(), [datetime.time(1, 2, 3, 4)]),
    ("timetz", Time(timezone=True), [datetime.time(1, 2, 3, 4, tzinfo=EAST)]),
    ("interval", Interval(), [datetime.timedelta(days=-400, seconds=3, microseconds=5)]),
    ("json", JSON(), [{"a": [1, None, "\N{SNOWMAN}"]}, [], JSON.NULL]),
    ("jsonb", JSONB(none_as_null=True), [{"a": 2**70}, "text", 1.5]),
    ("bytea", LargeBinary(), [b"", bytes(range(256))]),
    ("pickled", PickleType(), [{"a": {1, 2}}]),
    ("uuid", Uuid(), [uuid.UUID(int=1)]),
    ("uuid as text", Uuid(as_uuid=False), [str(uuid.UUID(int=2))]),
    ("integers", ARRAY(Integer), [[], [1, None, 2]]),
    ("texts", postgresql.ARRAY(Text, dimensions=2), [[["a", "b,c"], ['"', "\\"]]]),
    ("decimals", ARRAY(Numeric), [[Decimal("1.5")]]),
    ("moments", ARRAY(DateTime(timezone=True)), [[datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)]]),
    ("moods", postgresql.ARRAY(Enum(Mood, name="logged_mood")), [[Mood.GOOD, Mood.BAD]]),
    ("mood", Enum(Mood, name="logged_mood"), [Mood.BAD]),
    ("mood as text", Enum(Mood, native_enum=False), [Mood.GOOD]),
    ("decorated", Cents(), [Decimal("1.25"), Decimal(0)]),
    ("domain", CHECKED, [5]),
    ("inet", INET(), ["10.0.0.1"]),
    ("money", postgresql.MONEY(), ["$1.50"]),
    ("vector", postgresql.TSVECTOR(), ["'a':1"]),
    ("range", INT4RANGE(), [Range(1, 5), Range(empty=True)]),
    ("moment range", TSTZRANGE(), [Range(datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), None)]),
    ("big", BigInteger(), [2**63 - 1, -(2**63)]),
]  # fmt: skip


@pytest.fixture
async def logged(postgresql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with opened(postgresql_url) as service:
        yield service
        await service.left()


async def set_styles(logged: Logged) -> None:
    """Have the server write values as psycopg could not read them, to whoever does not ask for something else."""
    ((database,),) = await logged.ask("SELECT current_database()")
    for setting in ("DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'", "TimeZone = 'Asia/Kathmandu'",
                    "extra_float_digits = 0", "bytea_output = 'escape'"):  # fmt: skip
        await logged.run(f"ALTER DATABASE {database} SET {setting}")


def plainly(value: Any) -> Any:
    """As ``exactly``, and ranges and NaN too."""
    if isinstance(value, Decimal) and value.is_nan():
        return "NaN"
    if isinstance(value, Range):
        return "Range", exactly(value.lower), exactly(value.upper), value.bounds, value.empty
    return [plainly(one) for one in value] if isinstance(value, list) else exactly(value)


@pytest.mark.parametrize(("name", "kind", "values"), KINDS, ids=[name for name, _, _ in KINDS])
async def test_as_a_select_gives_them(logged: Logged, name: str, kind: Any, values: Sequence[Any]) -> None:
    """Of each type, NULL too, in a new row and in an old one."""
    kinds = table("logged_kinds", Column("id", Integer, primary_key=True), Column("value", kind))
    await logged.make(kinds)
    await logged.run("ALTER TABLE logged_kinds REPLICA IDENTITY FULL")
    feed = logged.feed("kinds", kinds)
    position = await feed.create()
    rows = [{"id": number, "value": value} for number, value in enumerate([*values, None])]
    await logged.do(lambda connection: [connection.execute(insert(kinds), row) for row in rows])

    with logged.store.sync_engine.connect() as connection:
        selected = [dict(row) for row in connection.execute(select(kinds).order_by(kinds.c.id)).mappings()]
    logged.store.sync_engine.dispose()
    await set_styles(logged)
    await logged.run("DELETE FROM logged_kinds")
    found = [change for one in await read(feed, position, 2 * len(rows)) for change in one.changes]
    expected = [plainly(row["value"]) for row in selected]
    assert [plainly(change.values["value"]) for change in found if change.values is not None] == expected
    assert [plainly(change.before["value"]) for change in found if change.before is not None] == expected


async def test_the_common_types(logged: Logged) -> None:
    """All that the stores' suite knows."""
    cases: list[Case] = [case for case in CASES if case.feature is not F.ZERO_CHARACTERS]
    given: Any = SampleRow.__table__
    samples = table(
        "logged_samples", *[Column(one.name, one.type, primary_key=one.primary_key) for one in given.columns]
    )
    rows = [
        {"id": number, case.column: value}
        for number, (case, value) in enumerate((case, value) for case in cases for value in case.values)
    ]
    await logged.make(samples)
    feed = logged.feed("common", samples)
    position = await feed.create()
    await logged.do(lambda connection: [connection.execute(insert(samples), row) for row in rows])
    found = [change for one in await read(feed, position, len(rows)) for change in one.changes]
    blank = dict.fromkeys(samples.columns.keys())
    for change, row in zip(found, rows, strict=True):
        assert change.values is not None
        assert {name: exactly(value) for name, value in change.values.items()} == {
            name: exactly(value) for name, value in (blank | row).items()
        }
    assert Color.RED in [change.values["color"] for change in found if change.values]


async def test_maps_of_texts(logged: Logged) -> None:
    """The extension hstore, whose type has another number in each database."""
    if not await logged.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'"):
        pytest.skip("the server has no hstore")
    await logged.run("CREATE EXTENSION hstore")
    maps = table("logged_maps", Column("id", Integer, primary_key=True), Column("value", HSTORE))
    await logged.make(maps)
    feed = logged.feed("maps", maps)
    position = await feed.create()
    await logged.run("""INSERT INTO logged_maps VALUES (1, 'a=>"b c", d=>NULL'), (2, NULL)""")
    found = [change for one in await read(feed, position, 2) for change in one.changes]
    assert [change.values["value"] for change in found if change.values] == [{"a": "b c", "d": None}, None]


async def test_generated_columns(logged: Logged) -> None:
    """What the log leaves out is missing in the values."""
    sums = table(
        "logged_sums",
        Column("id", Integer, primary_key=True),
        Column("twice", Integer, Computed("id * 2", persisted=True)),
    )
    await logged.make(sums)
    feed = logged.feed("sums", sums)
    position = await feed.create()
    await logged.run("INSERT INTO logged_sums (id) VALUES (4)")
    ((change,),) = [one.changes for one in await read(feed, position, 1)]
    assert {"twice": 8, **(change.values or {})} == {"id": 4, "twice": 8}


@pytest.mark.parametrize(
    ("kind", "written"),
    [(Date(), "0044-03-15 BC"), (Enum(Mood, native_enum=False, length=20), "unknown")],
    ids=["a date", "a name"],
)
async def test_what_python_has_no_value_for(logged: Logged, kind: Any, written: str) -> None:
    """It is left out, as what is not logged, and reading the row says that it is the row's fault."""
    odd = table("logged_odd", Column("id", Integer, primary_key=True), Column("value", kind))
    await logged.make(odd)
    feed = logged.feed("odd", odd)
    position = await feed.create()
    await logged.run("ALTER TABLE logged_odd REPLICA IDENTITY FULL", "INSERT INTO logged_odd VALUES (1, NULL)")
    await logged.run(f"UPDATE logged_odd SET value = '{written}'")
    found = [change for one in await read(feed, position, 2) for change in one.changes]
    assert [one.values for one in found] == [{"id": 1, "value": None}, {"id": 1}]
    with pytest.raises(RowError, match=r"logged_odd: .*Error: a value cannot be read"):
        await logged.store.row_access(feed.shapes[0]).read([(1,)])
