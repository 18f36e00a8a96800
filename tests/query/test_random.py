"""Random statements over three services answer as over one database."""

from __future__ import annotations

import asyncio
import datetime
import os
import random
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from sqlalchemy import BigInteger, Column, Date, Numeric, String, Table, insert, text
from sqlalchemy.orm import Session

from fedorm import FederatedBase, FederatedDocument, Federation
from fedorm.query import estimating, executor, heads, planner, runner
from fedorm.query.plan import Plan, Scan
from fedorm.query.rules import costs
from tests.query.statements import pages, selects, totals

EXAMPLES = int(os.environ.get("FEDORM_EXAMPLES", "150"))
DAYS = [datetime.date(2024, 1, 1), datetime.date(2024, 2, 29), datetime.date(1999, 12, 31), None]


def table(service: str, name: str) -> Table:
    return Table(
        name,
        FederatedBase.metadata_of(service),
        Column("k", BigInteger, primary_key=True, autoincrement=False),
        Column("i", BigInteger),
        Column("t", String(20)),
        Column("n", Numeric(10, 2)),
        Column("d", Date),
    )


a, e, b = table("left_side", "a"), table("left_side", "e"), table("middle", "b")
SQL = {"left_side.a": a, "left_side.e": e, "middle.b": b}


class C(FederatedDocument):
    __service__ = "right_side"
    k: int
    i: int | None
    t: str | None
    n: float | None
    d: datetime.date | None

    class Settings:
        name = "c"


def rows(seed: int) -> list[dict[str, Any]]:
    pick = random.Random(seed)
    return [
        {
            "k": number,
            "i": pick.choice([0, 1, 1, 2, -1, None]),
            "t": pick.choice(["x", "X", "y", "y ", "", "€", None]),
            "n": pick.choice([Decimal("1.50"), Decimal("-2.25"), Decimal(0), None]),
            "d": pick.choice(DAYS),
        }
        for number in range(1, pick.choice([1, 8, 14]))
    ]


def whole(contents: dict[str, list[dict[str, Any]]]) -> duckdb.DuckDBPyConnection:
    """The same tables in one database."""
    database = duckdb.connect(config={"default_null_order": "nulls_last"})
    database.execute("SET integer_division = true")
    for name, listed in contents.items():
        numeric = "DECIMAL(10,2)" if name in SQL else "DOUBLE"
        database.execute(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
        database.execute(f"CREATE TABLE {name} (k BIGINT, i BIGINT, t VARCHAR, n {numeric}, d DATE)")
        for row in listed:
            database.execute(f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?)", list(row.values()))
    return database


def bag(found: list[Any]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(float(value) if isinstance(value, Decimal) else value for value in row) for row in found)


def all_ways(patch: pytest.MonkeyPatch, way: str) -> None:
    """Make the planner take for the cheapest way what it would take for large tables."""
    if way == "duckdb":
        patch.setattr(executor, "MOST_ROWS", -1)
    if way == "outside":
        patch.setattr(costs, "_ATTACHED", -1e6)
        patch.setattr(estimating, "TINY", -1)
        patch.setattr(estimating, "FEW", -1)
    if way in ("aggregated", "first"):
        # As if every column had few values, of very many rows.
        patch.setattr(estimating.Estimator, "size", lambda self, table: 1e7)
        patch.setattr(estimating.Estimator, "distinct", lambda self, *_: dict.fromkeys(("k", "i", "t", "n", "d"), 2.0))
        patch.setattr(runner._SessionFacts, "outside", lambda *_: False)
    if way == "first":
        patch.setattr(planner, "FEW", 1e9)
        patch.setattr(heads, "MOST_PARTS", 3)


WAYS = [("auto", 1), ("auto", 2), ("auto", 3), ("lookup", 4)]
WAYS += [("duckdb", 5), ("outside", 6), ("aggregated", 7), ("first", 8)]


def was_taken(way: str, plans: list[Plan]) -> bool:
    """Say whether some statement was run in the way that is to be tested."""
    steps = [step for plan in plans for step in plan.steps]
    if way == "lookup":
        return any(step.key_filters for step in steps)
    if way == "outside":
        return any(isinstance(step, Scan) and step.outside for step in steps)
    if way == "aggregated":
        return any(step.name.startswith("g") for step in steps)
    return way != "first" or any(plan.head is not None for plan in plans)


@pytest.mark.parametrize(("way", "seed"), WAYS)
def test_as_over_one_database(
    fresh_database: Callable[[str], str], way: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of PostgreSQL, MariaDB and MongoDB, whatever is asked; NULLs, duplicates and cases included."""
    all_ways(monkeypatch, way)
    contents = {name: rows(seed * 10 + number) for number, name in enumerate([*SQL, "right_side.c"])}
    database = whole(contents)
    fed = Federation(
        {
            "left_side": fresh_database("postgresql"),
            "middle": fresh_database("mysql"),
            "right_side": fresh_database("mongodb"),
        }
    )

    async def prepare() -> None:
        async with fed:
            await fed.create_all()
            async with fed.session() as session:
                for name, target in SQL.items():
                    if contents[name]:
                        await session.execute(insert(target), contents[name])
                session.add_all(C(**row) for row in contents["right_side.c"])
                await session.commit()

    asyncio.run(prepare())

    def check(session: Session, statement: str) -> None:
        expected = database.execute(sqlglot.transpile(statement, read="postgres", write="duckdb")[0]).fetchall()
        asked = text(statement)
        if way == "lookup":
            asked = asked.execution_options(join_strategy="lookup")
        found = session.execute(asked).all()
        if " LIMIT " in statement and " ORDER BY " in statement:
            assert [bag([row]) for row in found] == [bag([row]) for row in expected], statement
        assert bag(list(found)) == bag(expected), statement

    with fed, fed.sync_session() as session:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given({"first": pages, "aggregated": totals}.get(way, selects)())
        def run(statement: str) -> None:
            try:
                check(session, statement)
            except Exception as error:
                error.add_note(statement)
                session.rollback()  # The next one is to find the session as it should be.
                raise

        run()
        assert session.queries is not None
        assert was_taken(way, session.queries._plans.all())
