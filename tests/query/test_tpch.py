"""All 22 queries of TPC-H, their text as it is, over four services: the answers of one database, types included."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from tests.query import tpch

SCALE = float(os.environ.get("FEDORM_TPCH_SCALE", "0.01"))


@pytest.mark.clickhouse
@pytest.mark.parametrize("facts_in_clickhouse", [False, True], ids=["postgresql", "clickhouse"])
async def test_the_answers_of_one_database(fresh_database: Callable[[str], str], facts_in_clickhouse: bool) -> None:
    """Customers, orders, suppliers and parts live apart; lineitem with the orders, or in ClickHouse."""
    whole = tpch.generate(SCALE)
    different: dict[int, Any] = {}
    async with tpch.split(whole, fresh_database, facts_in_clickhouse=facts_in_clickhouse) as data:
        assert len(data.queries) == 22
        for number, query in data.queries.items():
            async with data.fed.session() as session:
                found = [tuple(row) for row in await session.execute(text(query))]
            expected = data.expected(query)
            kinds = [[type(value) for value in row] for row in found]
            if found != expected or kinds != [[type(value) for value in row] for row in expected]:
                different[number] = found[:3], expected[:3]
    assert different == {}
