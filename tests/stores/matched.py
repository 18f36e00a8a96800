"""Documents at random, conditions at random, and which documents fulfil them."""

from __future__ import annotations

import asyncio
import datetime
import math
import os
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import duckdb
import pytest
import sqlglot
from bson import Decimal128, Int64
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import Table
from sqlglot import exp

from fedorm import FederatedDocument, Federation
from fedorm.query.arrow import to_arrow
from fedorm.query.tables import storage_type
from fedorm.stores.mongodb import MongoDBStore

EXAMPLES = int(os.environ.get("FEDORM_EXAMPLES", "150"))
UTC = datetime.UTC
NOON = datetime.datetime(2024, 1, 1, 12, tzinfo=UTC)
KEY = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 10


class Place(BaseModel):
    city: str | None = None
    level: int | None = None


class Thing(FederatedDocument):
    __service__ = "matched"
    n: int | None = None
    f: float | None = None
    d: Decimal | None = None
    t: str | None = None
    b: bool | None = None
    at: datetime.datetime | None = None
    day: datetime.date | None = None
    colour: Colour | None = None
    level: Level | None = None
    key: UUID | None = None
    tags: list[str] | None = None
    place: Place | None = None

    class Settings:
        name = "things"


VALUES: dict[str, list[Any]] = {
    "n": [0, 1, -1, 2, Int64(1), 2.0, Decimal128("3"), 2**53 + 1, -(2**63), None],
    "f": [0, 1, 0.1, -0.1, 0.1 + 0.2, 0.3, Int64(3), Decimal128("0.1"), Decimal128("0.3"), math.nan, math.inf, None],
    "d": [0, 1, 0.1, 0.3, Decimal128("0.1"), Decimal128("0.10"), Decimal128("0.3"), Decimal128("-2.25"), 2.5, None],
    "t": ["", "x", "X", "y ", "y", "a\nb", "a%b", "(x)", None],
    "b": [True, False, 1, 0, None],
    "at": [NOON, NOON.replace(microsecond=1000), NOON.replace(hour=0), datetime.datetime(1960, 1, 1), None],
    "day": [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 2, 29), datetime.datetime(1960, 1, 1), None],
    "colour": ["red", "blue", None],
    "level": [1, 10, None],
    "key": [KEY, UUID(int=0), None],
    "tags": [[], ["x"], ["x", "y"], ["X", None], None],
    "place.city": ["x", "y ", None],
    "place.level": [0, 1, 2.0, None],
}
LITERALS: dict[str, list[str]] = {
    "n": ["0", "1", "2", "2.5", "-1", "3", "9007199254740993", "-9223372036854775808", ":two", "NULL"],
    "f": ["0", "1", "0.1", "-0.1", "0.3", "3", "1e300", ":tenth", ":sum", ":decimal", "NULL"],
    "d": ["0", "1", "0.1", "0.10", "0.3", "2.5", "-2.25", ":tenth", ":decimal", ":two", "NULL"],
    "t": ["''", "'x'", "'X'", "'y'", "'y '", ":text", "NULL"],
    "b": ["true", "false", "NULL"],
    "at": [
        "TIMESTAMP '2024-01-01 12:00:00'", "TIMESTAMP '2024-01-01 12:00:00.0005'",
        "TIMESTAMPTZ '2024-01-01 13:00:00+01'", "DATE '2024-01-01'", "'2024-01-01 12:00:00.001'",
        "DATE '1960-01-01'", ":noon", "NULL",
    ],
    "day": [
        "DATE '2024-01-01'", "'2024-02-29'", "DATE '1960-01-01'", "TIMESTAMP '2024-01-01 12:00:00'", ":day", "NULL",
    ],
    "colour": ["'red'", "'RED'", "NULL"],
    "level": ["'10'", "'1'", "NULL"],
    "key": [f"'{KEY}'", "'00000000-0000-0000-0000-000000000000'", "NULL"],
    "place.city": ["'x'", "'y'", ":text", "NULL"],
    "place.level": ["0", "1", "2", ":two", "NULL"],
}  # fmt: skip
ORDERED = ("n", "f", "d", "at", "day", "place.level")
PARAMETERS: dict[str, Any] = {
    "two": 2.0, "tenth": 0.1, "sum": 0.1 + 0.2, "decimal": Decimal("0.3"), "text": "a\nb",
    "noon": NOON, "day": datetime.date(2024, 2, 29),
}  # fmt: skip
PATTERNS = ["'x%'", "'%x'", "'%x%'", "'a_b'", "'%'", "''", "'(%)'", "'a%b'", "'%a%b%'", "'X'"]


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    form = draw(st.sampled_from(["leaf", "leaf", "and", "or", "not"] if depth else ["leaf"]))
    if form in ("and", "or"):
        return f"({draw(conditions(depth - 1))} {form.upper()} {draw(conditions(depth - 1))})"
    if form == "not":
        return f"NOT ({draw(conditions(depth - 1))})"
    name = draw(st.sampled_from(list(VALUES)))
    column = f'"{name}"'
    kinds = ["null"]
    if name == "tags":
        kinds.append("any")
    else:
        kinds += ["compare", "compare", "in", *["between"] * (name in ORDERED), *["like"] * (name == "t")]
    kind = draw(st.sampled_from(kinds))
    negation = draw(st.sampled_from(["", "NOT "]))
    if kind == "null":
        what = draw(st.sampled_from(["NULL", "TRUE", "FALSE"])) if name == "b" else "NULL"
        return f"{column} IS {negation}{what}"
    if kind == "any":
        element = draw(st.sampled_from(["'x'", "'X'", "NULL"]))
        return f"{element} = ANY({column})"
    value = st.sampled_from(LITERALS[name])
    if kind == "compare":
        signs = ["=", "<>", "<", "<=", ">", ">="] if name in ORDERED else ["=", "<>"]
        sign = draw(st.sampled_from(signs))
        return f"{column} {sign} {draw(value)}" if draw(st.booleans()) else f"{draw(value)} {sign} {column}"
    if kind == "in":
        listed = ", ".join(draw(st.lists(value, min_size=1, max_size=3)))
        return f"{column} {negation}IN ({listed})"
    if kind == "like":
        pattern = draw(st.sampled_from(PATTERNS))
        return f"{column} {negation}LIKE {pattern}"
    return f"{column} {negation}BETWEEN {draw(value)} AND {draw(value)}"


def documents(seed: int, count: int) -> list[dict[str, Any]]:
    pick = random.Random(seed)
    made = []
    for _ in range(count):
        one: dict[str, Any] = {}
        for name, values in VALUES.items():
            if pick.random() < 0.85:
                within, _, field = name.rpartition(".")
                target = one.setdefault(within, {}) if within else one
                target[field] = pick.choice(values)
        made.append(one)
    return made


@pytest.fixture
def store(fresh_database: Callable[[str], str]) -> Iterator[tuple[MongoDBStore, Callable[[Any], Any]]]:
    federation = Federation({"matched": fresh_database("mongodb")})
    with asyncio.Runner() as runner:
        runner.run(federation.__aenter__())
        found = federation.stores["matched"]
        assert isinstance(found, MongoDBStore)
        yield found, runner.run
        runner.run(federation.__aexit__(None, None, None))


COLUMNS = tuple(column.name for column in Thing.c if column.name not in ("revision_id", "place"))


async def fill(store: MongoDBStore, made: list[dict[str, Any]]) -> None:
    await store.collection(Thing, sync=False).insert_many(made)


class Finish:
    """Checks conditions over all documents, as a federated select's finish does."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        kinds = [storage_type(Thing.c[name].type) for name in COLUMNS]
        self._database = duckdb.connect()
        self._database.execute("SET TimeZone = 'UTC'; SET integer_division = true")
        self._database.register("arrow", to_arrow(rows, COLUMNS, kinds))
        # DuckDB's scan of Arrow does not know all filters.
        self._database.execute("CREATE TABLE things AS FROM arrow")

    def __call__(self, condition: str) -> set[str]:
        tree = sqlglot.parse_one(f"SELECT id FROM things WHERE {condition}", read="postgres")
        values = {str(node.this): PARAMETERS[str(node.this)] for node in tree.find_all(exp.Placeholder)}
        return {row[0] for row in self._database.execute(tree.sql(dialect="duckdb"), values).fetchall()}

    def first(self, condition: str, column: str, terms: str, limit: int) -> list[tuple[Any, ...]]:
        """Return ids and values of the first rows in an order that fulfil a condition."""
        kept = self(condition)
        rows = self.ordered(column, terms, 1_000)
        return [row for row in rows if row[0] in kept][:limit]

    def ordered(self, column: str, terms: str, limit: int) -> list[tuple[Any, ...]]:
        """Return ids and values of the first rows in an order."""
        return self._database.execute(f'SELECT id, "{column}" FROM things ORDER BY {terms} LIMIT {limit}').fetchall()


def table() -> Table:
    return Thing.__clause_element__()
