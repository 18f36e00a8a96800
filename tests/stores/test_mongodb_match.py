"""What is sent to MongoDB of a condition: it never loses a document that PostgreSQL would find."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal, DecimalException
from typing import Any

import pytest
import sqlglot
from bson import Decimal128
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedorm.exc import UnsupportedOperationError
from fedorm.query.document_conditions import condition_of, document_condition
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
from fedorm.stores.holding import surely_holds
from fedorm.stores.mongodb import MongoDBStore
from fedorm.stores.mongodb_columns import exact_decimal
from fedorm.stores.mongodb_match import match_filter
from fedorm.stores.mongodb_scan import described
from tests.stores.matched import (
    COLUMNS,
    EXAMPLES,
    KEY,
    NOON,
    PARAMETERS,
    Finish,
    Level,
    conditions,
    documents,
    fill,
    store,
    table,
)

__all__ = ["store"]


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
