"""What a condition means is what it means in PostgreSQL, also where a store of columns or of documents checks it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Enum,
    MetaData,
    String,
    Table,
    create_engine,
    insert,
    make_url,
    text,
)

from fedorm import FederatedBase, FederatedDocument, Federation
from tests.conftest import HAS_CLICKHOUSE


def columns() -> list[Column[Any]]:
    return [
        Column("k", BigInteger, primary_key=True, autoincrement=False),
        Column("i", BigInteger),
        Column("f", Double),
        Column("t", String(20)),
        Column("b", Boolean),
        Column("d", Date),
        Column("ts", DateTime),
    ]


ROWS = Table("rows", FederatedBase.metadata_of("rows_side"), *columns())
KEPT = Table("kept", FederatedBase.metadata_of("columns_side"), *columns())


class Kept(FederatedDocument):
    __service__ = "documents_side"
    k: int
    i: int | None
    f: float | None
    t: str | None
    b: bool | None
    d: datetime.date | None
    ts: datetime.datetime | None

    class Settings:
        name = "kept"


WHOLE = MetaData()
WHOLE_ROWS = Table("rows", WHOLE, *columns(), schema="rows_side")
WHOLE_COLUMNS = Table("kept", WHOLE, *columns(), schema="columns_side")
WHOLE_DOCUMENTS = Table("kept", WHOLE, *columns(), schema="documents_side")

_DAY, _AT = datetime.date, datetime.datetime
VALUES = [
    dict(zip(["i", "f", "t", "b", "d", "ts"], row, strict=True), k=number)
    for number, row in enumerate(
        [
            (7, 1.5, "x", True, _DAY(2024, 1, 31), _AT(2024, 1, 31, 12, 30)),
            (-7, -2.5, "X", False, _DAY(2024, 2, 29), _AT(2024, 2, 29)),
            (0, 0.1, "x ", None, _DAY(1999, 12, 31), _AT(1999, 12, 31, 23, 59, 59)),
            (3, 2.5, "\xe9", True, _DAY(2024, 3, 31), _AT(2024, 3, 31, 2, 30)),
            (None, None, None, None, None, None),
            (5, 3.5, "", False, _DAY(2023, 6, 15), _AT(2023, 6, 15, 8)),
            (2**53 + 1, 1e15, "a_b%c", True, _DAY(2024, 12, 30), _AT(2024, 12, 30)),
        ],
        1,
    )
]
CONDITIONS = [
    "y.t = 'x'", "y.t = 'X'", "y.t <> 'x'", "y.t IN ('x', 'e', '')", "y.t NOT IN ('x')", "y.t < 'b'", "y.t >= 'x'",
    "y.t LIKE 'x%'", "y.t LIKE 'a\\_b\\%c'", "y.t ILIKE 'X'", "y.t NOT LIKE 'x'", "y.t IS NULL", "y.t = ''",
    "y.t BETWEEN 'A' AND 'x'", "length(y.t) = 2", "y.t || '|' = 'x |'", "y.t ~ '^[a-z]'", "y.t SIMILAR TO '(x|a)%'",
    "y.i / 2 = 3", "y.i / 2 = -3", "y.i % 4 = -3", "y.i = 9007199254740993", "y.i = 9007199254740992", "y.i > 6.5",
    "y.i IN (7, NULL)", "y.i NOT IN (7, NULL)", "y.i = 7.0", "y.f = 0.1", "y.f > 2.499", "round(y.f) = 2", "y.f = x.f",
    "y.b", "NOT y.b", "y.b IS NOT TRUE", "y.b IS UNKNOWN", "y.b = (y.i > 0)", "y.d > '2024-01-31'", "y.d = y.ts",
    "y.d IN ('2024-01-31', '2023-06-15')", "y.d + 1 = '2024-03-01'", "y.d + interval '1 month' = '2024-02-29'",
    "y.ts > '2024-01-31 12:00'", "y.ts >= '2024-03-31T02:30'", "y.ts BETWEEN '2023-06-15' AND '2024-01-31 12:30'",
    "y.d > '2024-01-31 12:00'", "extract(year FROM y.d) = 2024", "y.d < timestamp '2024-01-31 12:00'",
    "coalesce(y.t, 'none') = 'none'", "greatest(y.i, x.i) = 7", "(y.i, y.t) = (7, 'x')", "(y.i, y.f) < (3, 3)",
    "y.i = ANY(ARRAY[7, 3])", "y.t = x.t", "lower(y.t) = lower(x.t)", "x.k / nullif(y.i, 0) IS NULL",
    "EXISTS (SELECT 1 FROM {side}.kept z WHERE z.t = x.t AND z.k <> x.k)", "x.t NOT IN (SELECT z.t FROM {side}.kept z)",
]  # fmt: skip


@pytest.mark.parametrize("side", ["columns_side", "documents_side"])
async def test_conditions(fresh_database: Callable[[str], str], side: str) -> None:
    """The same rows, whatever the store could check by itself."""
    if side == "columns_side" and not HAS_CLICKHOUSE:
        pytest.skip("its driver needs an earlier SQLAlchemy")
    kind = "clickhouse" if side == "columns_side" else "mongodb"
    url = make_url(fresh_database("postgresql")).set(drivername="postgresql+psycopg")
    whole = create_engine(url, connect_args={"options": "-c timezone=UTC"})
    with whole.begin() as connection:
        for schema in ("rows_side", "columns_side", "documents_side"):
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        WHOLE.create_all(connection)
        for table in (WHOLE_ROWS, WHOLE_COLUMNS, WHOLE_DOCUMENTS):
            connection.execute(insert(table), VALUES)
    different = []
    async with Federation({"rows_side": fresh_database("postgresql"), side: fresh_database(kind)}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(ROWS), VALUES)
            if side == "columns_side":
                await session.execute(insert(KEPT), VALUES)
            else:
                session.add_all(Kept(**row) for row in VALUES)
            await session.commit()
        with whole.connect() as connection:
            for condition in CONDITIONS:
                where = condition.replace("{side}", side)
                statement = f"SELECT x.k FROM rows_side.rows x JOIN {side}.kept y ON x.k = y.k WHERE {where} ORDER BY 1"
                async with fed.session() as session:
                    try:
                        found: Any = [tuple(row) for row in await session.execute(text(statement))]
                    except Exception as error:
                        found = error
                expected = [tuple(row) for row in connection.execute(text(statement))]
                if found != expected:
                    different.append((condition, expected, found))
    whole.dispose()
    assert different == []


STATES = Table(
    "states",
    FederatedBase.metadata_of("rows_side"),
    Column("k", BigInteger, primary_key=True, autoincrement=False),
    Column("s", Enum("new", "old", "a", name="state")),
)


async def test_enumerations_are_texts(fresh_database: Callable[[str], str]) -> None:
    """Compared and ordered as texts, also where PostgreSQL answers by itself and has an order of its own for them."""
    async with Federation({"rows_side": fresh_database("postgresql"), "other": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(STATES), [{"k": 1, "s": "new"}, {"k": 2, "s": "a"}, {"k": 3, "s": None}])
            ordered = "SELECT s FROM rows_side.states WHERE s IN ('new', 'a') ORDER BY s"
            assert (await session.scalars(text(ordered))).all() == ["a", "new"]
            assert await session.scalar(text("SELECT max(s) FROM rows_side.states WHERE s > 'b'")) == "new"
