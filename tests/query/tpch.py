"""The eight tables of TPC-H, split over four services by function."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import duckdb
from duckdb_extensions import import_extension
from sqlalchemy import BigInteger, Column, Date, Index, Integer, Numeric, String, Table, insert

from fedorm import FederatedBase, FederatedDocument, Federation
from fedorm.catalog import owner_of

Money = Numeric(15, 2)


def _table(service: str, name: str, *columns: tuple[str, Any], key: int = 1) -> Table:
    made = [
        Column(column, kind, primary_key=number < key, autoincrement=False)
        for number, (column, kind) in enumerate(columns)
    ]
    return Table(name, FederatedBase.metadata_of(service), *made)


region = _table("tpch_sales", "region", ("r_regionkey", Integer), ("r_name", String(25)), ("r_comment", String(152)))
nation = _table(
    "tpch_sales", "nation",
    ("n_nationkey", Integer), ("n_name", String(25)), ("n_regionkey", Integer), ("n_comment", String(152)),
)  # fmt: skip
customer = _table(
    "tpch_sales", "customer",
    ("c_custkey", BigInteger), ("c_name", String(25)), ("c_address", String(40)), ("c_nationkey", Integer),
    ("c_phone", String(15)), ("c_acctbal", Money), ("c_mktsegment", String(10)), ("c_comment", String(117)),
)  # fmt: skip
orders = _table(
    "tpch_orders", "orders",
    ("o_orderkey", BigInteger), ("o_custkey", BigInteger), ("o_orderstatus", String(1)), ("o_totalprice", Money),
    ("o_orderdate", Date), ("o_orderpriority", String(15)), ("o_clerk", String(15)), ("o_shippriority", Integer),
    ("o_comment", String(79)),
)  # fmt: skip
LINEITEM: tuple[tuple[str, Any], ...] = (
    ("l_orderkey", BigInteger), ("l_linenumber", BigInteger), ("l_partkey", BigInteger), ("l_suppkey", BigInteger),
    ("l_quantity", Money), ("l_extendedprice", Money), ("l_discount", Money), ("l_tax", Money),
    ("l_returnflag", String(1)), ("l_linestatus", String(1)), ("l_shipdate", Date), ("l_commitdate", Date),
    ("l_receiptdate", Date), ("l_shipinstruct", String(25)), ("l_shipmode", String(10)), ("l_comment", String(44)),
)  # fmt: skip
lineitem = _table("tpch_orders", "lineitem", *LINEITEM, key=2)
Index("lineitem_part", lineitem.c.l_partkey)
facts = _table("tpch_facts", "lineitem", *LINEITEM, key=2)
ledger = orders.to_metadata(FederatedBase.metadata_of("tpch_ledger"))
"""The orders alone, for the placement that has their lines in ClickHouse."""
supplier = _table(
    "tpch_supply", "supplier",
    ("s_suppkey", BigInteger), ("s_name", String(25)), ("s_address", String(40)), ("s_nationkey", Integer),
    ("s_phone", String(15)), ("s_acctbal", Money), ("s_comment", String(101)),
)  # fmt: skip
partsupp = _table(
    "tpch_supply", "partsupp",
    ("ps_partkey", BigInteger), ("ps_suppkey", BigInteger), ("ps_availqty", BigInteger), ("ps_supplycost", Money),
    ("ps_comment", String(199)), key=2,
)  # fmt: skip


class Part(FederatedDocument):
    __service__ = "tpch_parts"
    p_partkey: int
    p_name: str
    p_mfgr: str
    p_brand: str
    p_type: str
    p_size: int
    p_container: str
    p_retailprice: Decimal
    p_comment: str

    class Settings:
        name = "part"


PLACEMENT = {
    "tpch_sales": "postgresql",
    "tpch_orders": "postgresql",
    "tpch_supply": "mysql",
    "tpch_parts": "mongodb",
}
"""The kind of database of each service."""


def with_facts(services: Mapping[str, str], facts_url: str) -> dict[str, str]:
    """Return the other placement over the same databases: lines in ClickHouse, and those beside the orders not seen."""
    rest = {name: url for name, url in services.items() if name != "tpch_orders"}
    return {**rest, "tpch_ledger": services["tpch_orders"], "tpch_facts": facts_url}


@dataclass(frozen=True)
class TPCH:
    """The split data behind a federation, and the same data whole in DuckDB."""

    fed: Federation
    whole: duckdb.DuckDBPyConnection
    queries: dict[int, str]

    def expected(self, sql: str) -> list[tuple[Any, ...]]:
        return self.whole.execute(sql).fetchall()


def generate(scale: float) -> duckdb.DuckDBPyConnection:
    """Make the data with DuckDB's own generator."""
    import_extension("tpch")
    whole = duckdb.connect()
    whole.execute("LOAD tpch")
    whole.execute(f"CALL dbgen(sf = {scale})")
    return whole


@asynccontextmanager
async def split(whole: duckdb.DuckDBPyConnection, fresh_database: Callable[[str], str]) -> AsyncIterator[TPCH]:
    """Put each table into its service."""
    services = {name: fresh_database(kind) for name, kind in PLACEMENT.items()}
    await load(whole, services)
    async with opened(whole, services) as data:
        yield data


async def load(whole: duckdb.DuckDBPyConnection, services: Mapping[str, str]) -> None:
    """Put each table, and the parts, into the service of theirs that is among ``services``."""
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            for table in (region, nation, customer, orders, lineitem, facts, supplier, partsupp):
                if owner_of(table) not in services:
                    continue
                names = [column.name for column in table.columns]
                cursor = whole.cursor().execute(f"SELECT {', '.join(names)} FROM {table.name}")
                while rows := cursor.fetchmany(20_000):
                    await session.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows])
            if Part.__service__ in services:
                names = [name for name in Part.model_fields if name.startswith("p_")]
                for row in whole.execute(f"SELECT {', '.join(names)} FROM part").fetchall():
                    session.add(Part(**dict(zip(names, row, strict=True))))
            await session.commit()


@asynccontextmanager
async def opened(whole: duckdb.DuckDBPyConnection, services: Mapping[str, str]) -> AsyncIterator[TPCH]:
    """Open a federation over services that are loaded."""
    queries = {int(number): str(text) for number, text in whole.execute("FROM tpch_queries()").fetchall()}
    async with Federation(services) as fed:
        yield TPCH(fed, whole, queries)


def comparable(value: Any) -> Any:
    """Return a value as both sides give it."""
    return value.date() if isinstance(value, datetime.datetime) and value.time() == datetime.time() else value
