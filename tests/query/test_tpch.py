"""All 22 queries of TPC-H, their text as it is, over four services: the answers of one database, types included."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from sqlalchemy import delete, insert, text

from fedorm import AsyncFederatedSession
from tests.query import tpch
from tests.query.conftest import read_outside


async def differences(
    data: tpch.TPCH, numbers: Any = range(1, 23), *, strategy: str = "auto", write: bool = False
) -> dict[int, Any]:
    """Return what is found and what should be, of the queries where these are not the same in values and types."""
    different: dict[int, Any] = {}
    for number in numbers:
        async with data.fed.session() as session:
            if write:
                await write_everywhere(session)
            statement = text(data.queries[number]).execution_options(join_strategy=strategy)
            found = [tuple(row) for row in await session.execute(statement)]
        expected = data.expected(data.queries[number])
        kinds = [[type(value) for value in row] for row in found]
        if found != expected or kinds != [[type(value) for value in row] for row in expected]:
            different[number] = found[:3], expected[:3]
    return different


async def write_everywhere(session: AsyncFederatedSession) -> None:
    """Write to each SQL service in the session's transaction, and leave everything as it was."""
    for table in (tpch.region, tpch.orders, tpch.supplier):
        key = next(iter(table.primary_key))
        await session.execute(insert(table), {key.name: -1})
        await session.execute(delete(table).where(key == -1))


async def test_the_answers_of_one_database(whole: duckdb.DuckDBPyConnection, placement: dict[str, str]) -> None:
    """Customers, orders, suppliers and parts live apart; lineitem with the orders, or in ClickHouse."""
    async with tpch.opened(whole, placement) as data:
        assert len(data.queries) == 22
        assert await differences(data) == {}


async def test_tables_that_duckdb_reads_by_itself(
    whole: duckdb.DuckDBPyConnection, tpch_services: dict[str, str], prefers_scanners: None
) -> None:
    """The same answers when each table of PostgreSQL and MariaDB is read over connections of DuckDB's own."""
    async with tpch.opened(whole, tpch_services) as data:
        async with data.fed.session() as session:
            plan = await session.explain(text(data.queries[5]))
        assert read_outside(plan) == {"tpch_sales", "tpch_orders", "tpch_supply"}
        assert await differences(data) == {}


async def test_tables_of_a_session_that_has_written(
    whole: duckdb.DuckDBPyConnection, tpch_services: dict[str, str], prefers_scanners: None
) -> None:
    """The same answers over the session's own connections, the only ones that see what it has written."""
    async with tpch.opened(whole, tpch_services) as data:
        async with data.fed.session() as session:
            await write_everywhere(session)
            assert read_outside(await session.explain(text(data.queries[5]))) == set()
        assert await differences(data, (2, 3, 5, 13, 16, 18, 20, 22), write=True) == {}


@pytest.mark.parametrize("strategy", ["lookup", "hash", "nested_loop"])
async def test_join_strategies(whole: duckdb.DuckDBPyConnection, tpch_services: dict[str, str], strategy: str) -> None:
    """The same answers whichever way is asked for."""
    async with tpch.opened(whole, tpch_services) as data:
        assert await differences(data, (3, 4, 11, 13, 16, 19, 22), strategy=strategy) == {}


@pytest.mark.parametrize(
    "query",
    [
        "select o_orderkey, o_totalprice from orders, customer where c_custkey = o_custkey order by 2 desc, 1 limit 3",
        "select o_orderkey k from orders union all select -c_custkey from customer order by k desc limit 3",
        "select distinct o_orderdate from orders, customer where c_custkey = o_custkey order by 1 nulls first limit 3",
        "select count(*) from customer c join (select o_custkey from orders order by o_totalprice desc, o_orderkey"
        " limit 7) o on c.c_custkey = o.o_custkey",
    ],
)
async def test_null_first_of_what_duckdb_reads(
    whole: duckdb.DuckDBPyConnection, tpch_services: dict[str, str], prefers_scanners: None, query: str
) -> None:
    """A top-N in which NULL would come first has its rows also where there is none."""
    async with tpch.opened(whole, tpch_services) as data, data.fed.session() as session:
        assert "tpch_sales" in read_outside(await session.explain(text(query)))
        found = [tuple(row) for row in await session.execute(text(query))]
        assert found == data.expected(query)
        assert len(found) in (1, 3)
