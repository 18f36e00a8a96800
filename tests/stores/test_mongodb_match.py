"""What is sent to MongoDB of a condition: it never loses a document that PostgreSQL would find."""

from __future__ import annotations

import asyncio
import datetime
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal, DecimalException
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import duckdb
import pytest
import sqlglot
from bson import Decimal128, Int64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from sqlalchemy import Table
from sqlglot import exp

from fedorm import FederatedDocument, Federation
from fedorm.exc import UnsupportedOperationError
from fedorm.query.arrow import to_arrow
from fedorm.query.document_conditions import condition_of, document_condition
from fedorm.query.tables import storage_type
from fedorm.stores.conditions import (
    ALWAYS,
    NEVER,
    Both,
    Compare,
    Condition,
    Contains,
    DocumentScan,
    Either,
    IsNull,
    Like,
    OneOf,
    Order,
    Parameter,
)
from fedorm.stores.holding import columns_in, surely_holds
from fedorm.stores.mongodb import MongoDBStore
from fedorm.stores.mongodb_columns import exact_decimal
from fedorm.stores.mongodb_match import match_filter
from fedorm.stores.mongodb_scan import described

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


@pytest.mark.parametrize("seed", [1, 2])
def test_no_document_is_lost(store: tuple[MongoDBStore, Callable[[Any], Any]], seed: int) -> None:
    """Fields that are missing or null, numbers of all types side by side, NaN, times between two milliseconds."""
    mongodb, run = store
    run(fill(mongodb, documents(seed, 80)))
    finish = Finish(run(mongodb.read(DocumentScan(table(), COLUMNS))))
    fewer = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(conditions())
    def check(text: str) -> None:
        nonlocal fewer
        where = document_condition(sqlglot.parse_one(text, read="postgres"), PARAMETERS.__getitem__)
        rows = {identity for (identity,) in run(mongodb.read(DocumentScan(table(), ("id",), where)))}
        fewer += len(rows) < 80
        assert finish(text) - rows == set(), (text, sent(where))

    check()
    assert fewer > EXAMPLES // 2


def table() -> Table:
    return Thing.__clause_element__()


def sent(where: Condition) -> Any:
    return match_filter(table(), where)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (ALWAYS, {}),
        (NEVER, None),
        (Compare("n", "=", 1), {"n": 1}),
        (Compare("n", "<", Decimal("2.5")), {"n": {"$lte": 2}}),
        (Compare("n", "=", Decimal("2.5")), None),
        (Compare("n", "<>", 1), {"n": {"$nin": [1, None]}}),
        (Both((Compare("n", ">=", 1), Compare("n", "<=", 5))), {"n": {"$gte": 1, "$lte": 5}}),
        (Compare("t", "=", "x"), {"t": "x"}),
        (Compare("t", "<>", "x"), {"t": {"$ne": None}}),
        (Compare("t", "<", "x"), {}),
        (Compare("at", "<", NOON.replace(microsecond=1500)), {"at": {"$lte": NOON.replace(microsecond=1000)}}),
        (Compare("day", "=", datetime.date(2024, 1, 1)), {"day": NOON.replace(hour=0)}),
        (Compare("level", "=", "10"), {"level": Level.HIGH}),
        (Compare("b", "=", True), {"b": {"$in": [True, 1]}}),
        (IsNull("place.city"), {"place.city": None}),
        (IsNull("tags", negated=True), {"tags": {"$exists": True}}),
        (Contains("tags", "x"), {"tags": {"$in": ["x"]}}),
        (Like("t", "a.b%"), {"t": {"$regex": r"^a\.b", "$options": "s"}}),
        (Like("t", "%a%b%c%d%"), {}),
        (OneOf("key", (str(KEY), "no key")), {"key": KEY}),
        (Either((Compare("n", "=", 1), Compare("t", "<", "x"))), {}),
        (Both((Compare("n", "=", 1), Compare("t", "<", "x"))), {"n": 1}),
        (Both((Compare("n", "=", 1), NEVER)), None),
    ],
    ids=repr,
)
def test_what_is_sent(where: Condition, expected: Any) -> None:
    """A filter as narrow as MongoDB's comparisons allow; {} reads everything, None is not sent at all."""
    found = sent(where)
    assert found == expected or (expected and repr(found) == repr(expected).replace("<Level.HIGH: 10>", "10"))


def test_floats_and_nan() -> None:
    """NaN is the greatest number; a float may be stored as the decimal that is written like it, and the reverse."""
    assert repr(sent(Compare("f", ">", 0.5))) == "{'$or': [{'f': {'$gt': 0.5}}, {'f': nan}]}"
    assert sent(Compare("f", "=", 0.1)) == {"f": {"$in": [0.1, Decimal128("0.1")]}}
    assert sent(Compare("f", "<=", 0.1)) == {"f": {"$lte": 0.1}}
    assert sent(Compare("f", "<=", 0.3)) == {"f": {"$lte": Decimal128("0.3")}}  # 0.3 as a float is a little less.
    assert sent(Compare("d", "<=", Decimal("0.3"))) == {"d": {"$lte": Decimal128("0.3")}}
    assert sent(Compare("d", "<=", Decimal("0.1"))) == {"d": {"$lte": 0.1}}  # 0.1 as a float is a little more.
    assert sent(Compare("d", "<", Decimal("0.1"))) == {"d": {"$lt": Decimal128("0.1")}}
    assert sent(Compare("d", "=", 0.5)) == {"d": {"$gte": 0.49999999999999994, "$lte": 0.5000000000000001}}
    assert sent(Both((Compare("f", ">=", 1), Compare("f", "<=", 2)))) == {"f": {"$gte": 1.0, "$lte": 2.0}}


def test_as_text() -> None:
    """What is sent, in the words of MongoDB's shell; values that are not known yet show as their parameters."""
    where = Both((Compare("d", "=", Decimal("1.50")), Compare("at", ">", Parameter("since"))))
    scan = DocumentScan(table(), ("t", "place", "place.city"), where, keys=(("n", [Parameter("s0.n")]),))
    assert described(scan) == (
        'things.find({"d": {"$in": [NumberDecimal("1.50"), 1.5]}, "at": {"$gt": :since}, "n": {"$in": [:s0.n]}}, '
        '{"place": 1, "t": 1, "_id": 0})'
    )
    first = DocumentScan(table(), ("id",), order=(Order("n", descending=True),), limit=3)
    assert described(first) == 'things.find({}, {"_id": 1}).sort({"n": -1}).limit(3)'
    assert described(DocumentScan(table(), ("id",), NEVER)) == "things: nothing"


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("n", "1", "a value of type str, and is declared as an int"),
        ("n", 1.5, "the number 1.5, and is declared as an int"),
        ("n", True, "a value of type bool, and is declared as an int"),
        ("f", 2**53 + 1, "the number 9007199254740993, and is declared as a float"),
        ("f", Decimal128("0.30000000000000001"), "the number 0.30000000000000001, and is declared as a float"),
        ("t", 5, "a value of type int, and is declared as a str"),
        ("day", NOON, "a time of day, and is declared as a date"),
        ("tags", [1], "a value of type int, and is declared as an array"),
    ],
)
def test_a_value_of_another_type_is_refused(
    store: tuple[MongoDBStore, Callable[[Any], Any]], field: str, value: Any, problem: str
) -> None:
    """Nothing is bent into the declared type; the error names collection and field, and leaves out what is stored."""
    mongodb, run = store
    run(fill(mongodb, [{field: value}]))
    with pytest.raises(UnsupportedOperationError, match=f"collection 'things': field '{field}' holds {problem}"):
        run(mongodb.read(DocumentScan(table(), (field,))))


def test_long_lists_of_keys(store: tuple[MongoDBStore, Callable[[Any], Any]]) -> None:
    """They travel in batches, each document is found once; a short list beside them travels alone."""
    mongodb, run = store
    run(
        fill(
            mongodb, [{"n": number, "t": str(number % 3), "day": datetime.datetime(2024, 1, 1)} for number in range(9)]
        )
    )
    mongodb.batch_size = 4  # type: ignore[misc]
    keys = [0, 1, 1.0, 2, 3, 4, Decimal(4), 5, 77, 2**70]
    found = run(mongodb.read(DocumentScan(table(), ("n",), keys=(("n", keys),))))
    assert sorted(found) == [(number,) for number in range(6)]
    where = OneOf("n", tuple(keys))
    assert sorted(run(mongodb.read(DocumentScan(table(), ("n",), where)))) == sorted(found)
    both = DocumentScan(table(), ("n",), keys=(("n", keys), ("t", ["0"])))
    assert sorted(run(mongodb.read(both))) == [(0,), (3,), (6,)]


def values_of(rows: list[tuple[Any, ...]]) -> Counter[Any]:
    return Counter("NaN" if isinstance(value, float) and math.isnan(value) else value for _, value in rows)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls_first", [False, True])
@pytest.mark.parametrize("column", ["n", "f", "d", "at", "place.level"])
def test_the_first_rows(
    store: tuple[MongoDBStore, Callable[[Any], Any]], column: str, descending: bool, nulls_first: bool
) -> None:
    """Those that PostgreSQL would have first: NULL where it is asked for, NaN above all numbers, all ties."""
    mongodb, run = store
    run(fill(mongodb, documents(7, 40)))
    finish = Finish(run(mongodb.read(DocumentScan(table(), COLUMNS))))
    terms = f'"{column}" {"DESC" if descending else "ASC"} NULLS {"FIRST" if nulls_first else "LAST"}'
    for limit in (1, 5, 13, 39, 50):
        for order, text in (
            ((Order(column, descending, nulls_first),), terms),
            ((Order(column, descending, nulls_first), Order("id", True)), f"{terms}, id DESC"),
        ):
            scan = DocumentScan(table(), ("id", column), order=order, limit=limit)
            rows = run(mongodb.read(scan))
            expected = finish.ordered(column, text, limit)
            if len(order) == 1:
                assert values_of(rows) == values_of(expected)
            else:
                assert {row[0] for row in expected} <= {row[0] for row in rows}


@given(st.decimals(allow_nan=True, allow_infinity=True), st.integers(-6100, 6000))
def test_decimals_are_read_as_they_are(value: Decimal, exponent: int) -> None:
    """Sign, zeros at the end and exponent included."""
    try:
        stored = Decimal128(value)
        shifted = Decimal128(value.scaleb(exponent)) if value.is_finite() else stored
    except DecimalException:
        return  # No document holds it.
    for one in (stored, shifted):
        assert repr(exact_decimal(one)) == repr(one.to_decimal())


@pytest.mark.parametrize("seed", [3, 4])
def test_the_first_rows_behind_conditions(store: tuple[MongoDBStore, Callable[[Any], Any]], seed: int) -> None:
    """No row is missing among the first ones, whether or not the filter tells exactly which fulfil the condition."""
    mongodb, run = store
    run(fill(mongodb, documents(seed, 60)))
    finish = Finish(run(mongodb.read(DocumentScan(table(), COLUMNS))))
    fewer = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(conditions(), st.sampled_from(ORDERED), st.booleans(), st.booleans(), st.integers(1, 20), st.booleans())
    def check(text: str, column: str, descending: bool, nulls_first: bool, limit: int, longer: bool) -> None:
        nonlocal fewer
        where, complete = condition_of(sqlglot.parse_one(text, read="postgres"), PARAMETERS.__getitem__)
        order = (Order(column, descending, nulls_first), *[Order("id")] * longer)
        columns = tuple(sorted({"id", column} | columns_in(where)))
        rows = run(mongodb.read(DocumentScan(table(), columns, where, complete, order=order, limit=limit)))
        found = {row[columns.index("id")]: row[columns.index(column)] for row in rows}
        terms = f'"{column}" {"DESC" if descending else "ASC"} NULLS {"FIRST" if nulls_first else "LAST"}'
        expected = finish.first(text, column, f"{terms}, id" if longer else terms, limit)
        if longer:
            assert {identity for identity, _ in expected} <= set(found), text
        else:
            passed = finish(text) & set(found)
            assert not values_of(expected) - values_of([(identity, found[identity]) for identity in passed]), text
        fewer += len(rows) < len(finish(text))

    check()
    assert fewer > EXAMPLES // 10


def test_what_surely_holds(store: tuple[MongoDBStore, Callable[[Any], Any]]) -> None:
    """Never what the finish would not keep."""
    mongodb, run = store
    run(fill(mongodb, documents(5, 40)))
    rows = run(mongodb.read(DocumentScan(table(), COLUMNS)))
    finish, held = Finish(rows), 0

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True)
    @given(conditions())
    def check(text: str) -> None:
        nonlocal held
        where, complete = condition_of(sqlglot.parse_one(text, read="postgres"), PARAMETERS.__getitem__)
        if complete:
            sure = {row[0] for row in rows if surely_holds(table(), where, dict(zip(COLUMNS, row, strict=True)))}
            assert sure <= finish(text), text
            held += len(sure)

    check()
    assert held > EXAMPLES
