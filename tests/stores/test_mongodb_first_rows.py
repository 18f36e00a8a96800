"""The first rows that MongoDB sends are those that PostgreSQL would have first."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedorm.query.document_conditions import condition_of
from fedorm.stores.conditions import DocumentScan, Order
from fedorm.stores.holding import columns_in
from fedorm.stores.mongodb import MongoDBStore
from tests.stores.matched import (
    COLUMNS,
    EXAMPLES,
    ORDERED,
    PARAMETERS,
    Finish,
    conditions,
    documents,
    fill,
    store,
    table,
)

__all__ = ["store"]


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
