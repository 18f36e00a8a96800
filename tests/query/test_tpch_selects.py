"""Queries of TPC-H as ``select()``s over models of four services: the answers of one database, types included."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import duckdb
from sqlalchemy import Numeric, Select, and_, case, distinct, exists, extract, func, or_, select
from sqlalchemy.orm import aliased

from fedorm import FederatedBase
from tests.query import tpch
from tests.query.tpch import Part

Day = datetime.date


class Continent(FederatedBase):
    __service__ = "tpch_sales"
    __table__ = tpch.region


class Country(FederatedBase):
    __service__ = "tpch_sales"
    __table__ = tpch.nation


class Buyer(FederatedBase):
    __service__ = "tpch_sales"
    __table__ = tpch.customer


class Purchase(FederatedBase):
    __service__ = "tpch_orders"
    __table__ = tpch.orders


class PurchaseLine(FederatedBase):
    __service__ = "tpch_orders"
    __table__ = tpch.lineitem


class LedgerPurchase(FederatedBase):
    __service__ = "tpch_ledger"
    __table__ = tpch.ledger


class Fact(FederatedBase):
    __service__ = "tpch_facts"
    __table__ = tpch.facts


class Seller(FederatedBase):
    __service__ = "tpch_supply"
    __table__ = tpch.supplier


class Offer(FederatedBase):
    __service__ = "tpch_supply"
    __table__ = tpch.partsupp


QUERIES: dict[int, Callable[[Any, Any], Select[Any]]] = {}
"""Makers of the statements, by number, from the classes of the orders and of their lines."""


def query(number: int) -> Any:
    def keep(make: Any) -> Any:
        QUERIES[number] = make
        return make

    return keep


def revenue(line: Any) -> Any:
    return func.sum(line.l_extendedprice * (1 - line.l_discount))


@query(2)
def cheapest_suppliers(order: Any, line: Any) -> Select[Any]:
    other, seller, country, continent = aliased(Offer), aliased(Seller), aliased(Country), aliased(Continent)
    least = (
        select(func.min(other.ps_supplycost))
        .join(seller, seller.s_suppkey == other.ps_suppkey)
        .join(country, country.n_nationkey == seller.s_nationkey)
        .join(continent, continent.r_regionkey == country.n_regionkey)
        .where(other.ps_partkey == Part.c.p_partkey, continent.r_name == "EUROPE")
        .correlate(Part.c.p_partkey.table)
        .scalar_subquery()
    )
    return (
        select(
            Seller.s_acctbal, Seller.s_name, Country.n_name, Part.c.p_partkey, Part.c.p_mfgr,
            Seller.s_address, Seller.s_phone, Seller.s_comment,
        )
        .select_from(Offer)
        .join(Part, Part.c.p_partkey == Offer.ps_partkey)
        .join(Seller, Seller.s_suppkey == Offer.ps_suppkey)
        .join(Country, Country.n_nationkey == Seller.s_nationkey)
        .join(Continent, Continent.r_regionkey == Country.n_regionkey)
        .where(Part.c.p_size == 15, Part.c.p_type.endswith("BRASS"), Continent.r_name == "EUROPE")
        .where(Offer.ps_supplycost == least)
        .order_by(Seller.s_acctbal.desc(), Country.n_name, Seller.s_name, Part.c.p_partkey)
        .limit(100)
    )  # fmt: skip


@query(3)
def unshipped_orders(order: Any, line: Any) -> Select[Any]:
    amount = revenue(line).label("revenue")
    return (
        select(line.l_orderkey, amount, order.o_orderdate, order.o_shippriority)
        .join(order, order.o_orderkey == line.l_orderkey)
        .join(Buyer, Buyer.c_custkey == order.o_custkey)
        .where(Buyer.c_mktsegment == "BUILDING")
        .where(order.o_orderdate < Day(1995, 3, 15), line.l_shipdate > Day(1995, 3, 15))
        .group_by(line.l_orderkey, order.o_orderdate, order.o_shippriority)
        .order_by(amount.desc(), order.o_orderdate)
        .limit(10)
    )


@query(4)
def late_orders(order: Any, line: Any) -> Select[Any]:
    late = exists().where(line.l_orderkey == order.o_orderkey, line.l_commitdate < line.l_receiptdate)
    return (
        select(order.o_orderpriority, func.count())
        .where(order.o_orderdate >= Day(1993, 7, 1), order.o_orderdate < Day(1993, 10, 1), late)
        .group_by(order.o_orderpriority)
        .order_by(order.o_orderpriority)
    )


@query(5)
def local_suppliers(order: Any, line: Any) -> Select[Any]:
    amount = revenue(line).label("revenue")
    return (
        select(Country.n_name, amount)
        .select_from(Buyer)
        .join(order, order.o_custkey == Buyer.c_custkey)
        .join(line, line.l_orderkey == order.o_orderkey)
        .join(Seller, and_(Seller.s_suppkey == line.l_suppkey, Seller.s_nationkey == Buyer.c_nationkey))
        .join(Country, Country.n_nationkey == Seller.s_nationkey)
        .join(Continent, Continent.r_regionkey == Country.n_regionkey)
        .where(Continent.r_name == "ASIA")
        .where(order.o_orderdate >= Day(1994, 1, 1), order.o_orderdate < Day(1995, 1, 1))
        .group_by(Country.n_name)
        .order_by(amount.desc())
    )


@query(7)
def trade_of_two_nations(order: Any, line: Any) -> Select[Any]:
    seller, buyer = aliased(Country), aliased(Country)
    shipping = (
        select(
            seller.n_name.label("supp_nation"),
            buyer.n_name.label("cust_nation"),
            extract("year", line.l_shipdate).label("l_year"),
            (line.l_extendedprice * (1 - line.l_discount)).label("volume"),
        )
        .select_from(Seller)
        .join(line, line.l_suppkey == Seller.s_suppkey)
        .join(order, order.o_orderkey == line.l_orderkey)
        .join(Buyer, Buyer.c_custkey == order.o_custkey)
        .join(seller, seller.n_nationkey == Seller.s_nationkey)
        .join(buyer, buyer.n_nationkey == Buyer.c_nationkey)
        .where(
            or_(
                and_(seller.n_name == "FRANCE", buyer.n_name == "GERMANY"),
                and_(seller.n_name == "GERMANY", buyer.n_name == "FRANCE"),
            )
        )
        .where(line.l_shipdate.between(Day(1995, 1, 1), Day(1996, 12, 31)))
        .subquery("shipping")
    )
    columns = [shipping.c.supp_nation, shipping.c.cust_nation, shipping.c.l_year]
    return select(*columns, func.sum(shipping.c.volume)).group_by(*columns).order_by(*columns)


@query(9)
def profit_by_nation_and_year(order: Any, line: Any) -> Select[Any]:
    cost = Offer.ps_supplycost * line.l_quantity
    profit = (
        select(
            Country.n_name.label("nation"),
            extract("year", order.o_orderdate).label("o_year"),
            (line.l_extendedprice * (1 - line.l_discount) - cost).label("amount"),
        )
        .select_from(line)
        .join(Part, Part.c.p_partkey == line.l_partkey)
        .join(Seller, Seller.s_suppkey == line.l_suppkey)
        .join(Offer, and_(Offer.ps_suppkey == line.l_suppkey, Offer.ps_partkey == line.l_partkey))
        .join(order, order.o_orderkey == line.l_orderkey)
        .join(Country, Country.n_nationkey == Seller.s_nationkey)
        .where(Part.c.p_name.contains("green"))
        .cte("profit")
    )
    columns = [profit.c.nation, profit.c.o_year]
    return (
        select(*columns, func.sum(profit.c.amount)).group_by(*columns).order_by(profit.c.nation, profit.c.o_year.desc())
    )


@query(10)
def returned_items(order: Any, line: Any) -> Select[Any]:
    amount = revenue(line).label("revenue")
    return (
        select(
            Buyer.c_custkey, Buyer.c_name, amount, Buyer.c_acctbal, Country.n_name, Buyer.c_address,
            Buyer.c_phone, Buyer.c_comment,
        )
        .select_from(Buyer)
        .join(order, order.o_custkey == Buyer.c_custkey)
        .join(line, line.l_orderkey == order.o_orderkey)
        .join(Country, Country.n_nationkey == Buyer.c_nationkey)
        .where(order.o_orderdate >= Day(1993, 10, 1), order.o_orderdate < Day(1994, 1, 1), line.l_returnflag == "R")
        .group_by(
            Buyer.c_custkey, Buyer.c_name, Buyer.c_acctbal, Buyer.c_phone, Country.n_name,
            Buyer.c_address, Buyer.c_comment,
        )
        .order_by(amount.desc())
        .limit(20)
    )  # fmt: skip


@query(11)
def important_stock(order: Any, line: Any) -> Select[Any]:
    def german(*columns: Any) -> Any:
        return (
            select(*columns)
            .select_from(Offer)
            .join(Seller, Seller.s_suppkey == Offer.ps_suppkey)
            .join(Country, Country.n_nationkey == Seller.s_nationkey)
            .where(Country.n_name == "GERMANY")
        )

    value = func.sum(Offer.ps_supplycost * Offer.ps_availqty)
    least = german(value * Decimal("0.0001")).scalar_subquery()
    amount = value.label("value")
    grouped: Select[Any] = german(Offer.ps_partkey, amount).group_by(Offer.ps_partkey)
    return grouped.having(value > least).order_by(amount.desc())


@query(12)
def late_lines_by_ship_mode(order: Any, line: Any) -> Select[Any]:
    urgent = order.o_orderpriority.in_(["1-URGENT", "2-HIGH"])
    return (
        select(line.l_shipmode, func.sum(case((urgent, 1), else_=0)), func.sum(case((~urgent, 1), else_=0)))
        .join(order, order.o_orderkey == line.l_orderkey)
        .where(line.l_shipmode.in_(["MAIL", "SHIP"]), line.l_commitdate < line.l_receiptdate)
        .where(line.l_shipdate < line.l_commitdate)
        .where(line.l_receiptdate >= Day(1994, 1, 1), line.l_receiptdate < Day(1995, 1, 1))
        .group_by(line.l_shipmode)
        .order_by(line.l_shipmode)
    )


@query(13)
def orders_of_customers(order: Any, line: Any) -> Select[Any]:
    made = and_(order.o_custkey == Buyer.c_custkey, order.o_comment.not_like("%special%requests%"))
    counts = (
        select(Buyer.c_custkey, func.count(order.o_orderkey).label("c_count"))
        .outerjoin(order, made)
        .group_by(Buyer.c_custkey)
        .subquery()
    )
    number = func.count().label("custdist")
    return select(counts.c.c_count, number).group_by(counts.c.c_count).order_by(number.desc(), counts.c.c_count.desc())


@query(14)
def share_of_promotions(order: Any, line: Any) -> Select[Any]:
    amount = line.l_extendedprice * (1 - line.l_discount)
    promoted = case((Part.c.p_type.startswith("PROMO"), amount), else_=0)
    # SQLAlchemy casts a divisor to its type, which for the sum would be that of a price.
    total = func.sum(amount, type_=Numeric(38, 4))
    return (
        select(Decimal("100.00") * func.sum(promoted) / total)
        .select_from(line)
        .join(Part, Part.c.p_partkey == line.l_partkey)
        .where(line.l_shipdate >= Day(1995, 9, 1), line.l_shipdate < Day(1995, 10, 1))
    )


@query(15)
def best_supplier(order: Any, line: Any) -> Select[Any]:
    sums = (
        select(line.l_suppkey.label("supplier_no"), revenue(line).label("total_revenue"))
        .where(line.l_shipdate >= Day(1996, 1, 1), line.l_shipdate < Day(1996, 4, 1))
        .group_by(line.l_suppkey)
        .cte("revenue")
    )
    most = select(func.max(sums.c.total_revenue)).scalar_subquery()
    return (
        select(Seller.s_suppkey, Seller.s_name, Seller.s_address, Seller.s_phone, sums.c.total_revenue)
        .join(sums, sums.c.supplier_no == Seller.s_suppkey)
        .where(sums.c.total_revenue == most)
        .order_by(Seller.s_suppkey)
    )


@query(16)
def suppliers_of_parts(order: Any, line: Any) -> Select[Any]:
    complained = select(Seller.s_suppkey).where(Seller.s_comment.like("%Customer%Complaints%"))
    number = func.count(distinct(Offer.ps_suppkey)).label("supplier_cnt")
    columns = [Part.c.p_brand, Part.c.p_type, Part.c.p_size]
    return (
        select(*columns, number)
        .select_from(Offer)
        .join(Part, Part.c.p_partkey == Offer.ps_partkey)
        .where(Part.c.p_brand != "Brand#45", ~Part.c.p_type.startswith("MEDIUM POLISHED"))
        .where(Part.c.p_size.in_([49, 14, 23, 45, 19, 3, 36, 9]), Offer.ps_suppkey.not_in(complained))
        .group_by(*columns)
        .order_by(number.desc(), *columns)
    )


@query(18)
def large_orders(order: Any, line: Any) -> Select[Any]:
    other = aliased(line)
    large = select(other.l_orderkey).group_by(other.l_orderkey).having(func.sum(other.l_quantity) > 300)
    columns = [Buyer.c_name, Buyer.c_custkey, order.o_orderkey, order.o_orderdate, order.o_totalprice]
    return (
        select(*columns, func.sum(line.l_quantity))
        .select_from(Buyer)
        .join(order, order.o_custkey == Buyer.c_custkey)
        .join(line, line.l_orderkey == order.o_orderkey)
        .where(order.o_orderkey.in_(large))
        .group_by(*columns)
        .order_by(order.o_totalprice.desc(), order.o_orderdate)
        .limit(100)
    )


@query(20)
def promotable_parts(order: Any, line: Any) -> Select[Any]:
    sold = (
        select(Decimal("0.5") * func.sum(line.l_quantity))
        .where(line.l_partkey == Offer.ps_partkey, line.l_suppkey == Offer.ps_suppkey)
        .where(line.l_shipdate >= Day(1994, 1, 1), line.l_shipdate < Day(1995, 1, 1))
        .scalar_subquery()
    )
    parts = select(Part.c.p_partkey).where(Part.c.p_name.startswith("forest"))
    sellers = select(Offer.ps_suppkey).where(Offer.ps_partkey.in_(parts), Offer.ps_availqty > sold)
    return (
        select(Seller.s_name, Seller.s_address)
        .join(Country, Country.n_nationkey == Seller.s_nationkey)
        .where(Country.n_name == "CANADA", Seller.s_suppkey.in_(sellers))
        .order_by(Seller.s_name)
    )


@query(21)
def suppliers_who_kept_orders_waiting(order: Any, line: Any) -> Select[Any]:
    first, second, third = aliased(line), aliased(line), aliased(line)
    shared = exists().where(second.l_orderkey == first.l_orderkey, second.l_suppkey != first.l_suppkey)
    also_late = exists().where(
        third.l_orderkey == first.l_orderkey,
        third.l_suppkey != first.l_suppkey,
        third.l_receiptdate > third.l_commitdate,
    )
    number = func.count().label("numwait")
    return (
        select(Seller.s_name, number)
        .join(first, first.l_suppkey == Seller.s_suppkey)
        .join(order, order.o_orderkey == first.l_orderkey)
        .join(Country, Country.n_nationkey == Seller.s_nationkey)
        .where(order.o_orderstatus == "F", first.l_receiptdate > first.l_commitdate, shared, ~also_late)
        .where(Country.n_name == "SAUDI ARABIA")
        .group_by(Seller.s_name)
        .order_by(number.desc(), Seller.s_name)
        .limit(100)
    )


@query(22)
def customers_without_orders(order: Any, line: Any) -> Select[Any]:
    codes = ["13", "31", "23", "29", "30", "18", "17"]
    code = func.substring(Buyer.c_phone, 1, 2)
    rich = aliased(Buyer)
    average = (
        select(func.avg(rich.c_acctbal))
        .where(rich.c_acctbal > 0, func.substring(rich.c_phone, 1, 2).in_(codes))
        .scalar_subquery()
    )
    bought = exists().where(order.o_custkey == Buyer.c_custkey)
    sale = (
        select(code.label("cntrycode"), Buyer.c_acctbal)
        .where(code.in_(codes), Buyer.c_acctbal > average, ~bought)
        .subquery("custsale")
    )
    return (
        select(sale.c.cntrycode, func.count(), func.sum(sale.c.c_acctbal))
        .group_by(sale.c.cntrycode)
        .order_by(sale.c.cntrycode)
    )


async def test_the_answers_of_one_database(whole: duckdb.DuckDBPyConnection, placement: dict[str, str]) -> None:
    """Joins, EXISTS, IN, scalar subqueries, CTEs and CASE over models and documents, in both placements."""
    order, line = (LedgerPurchase, Fact) if "tpch_facts" in placement else (Purchase, PurchaseLine)
    different: dict[int, Any] = {}
    async with tpch.opened(whole, placement) as data:
        for number, make in QUERIES.items():
            async with data.fed.session() as session:
                found = [tuple(row) for row in await session.execute(make(order, line))]
            expected = data.expected(data.queries[number])
            kinds = [[type(value) for value in row] for row in found]
            if found != expected or kinds != [[type(value) for value in row] for row in expected]:
                different[number] = found[:3], expected[:3]
    assert different == {}
