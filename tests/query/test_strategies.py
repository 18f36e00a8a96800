"""However a statement is run, its rows are the same: keys sent, tables aggregated where they are, first rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from sqlalchemy import Numeric, String, event, func, insert, null, select, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation, UnsupportedQueryError
from fedorm.query import plans
from fedorm.query.explain import Explanation
from fedorm.query.finish import Finishing
from tests.query.conftest import databases, run

SHOPS, SALES = 2_000, 12_000


class Outlet(FederatedBase):
    __service__ = "strategy_shops"
    __tablename__ = "shops"
    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[str]
    region_id: Mapped[int | None]


class Receipt(FederatedBase):
    __service__ = "strategy_sales"
    __tablename__ = "sales"
    id: Mapped[int] = mapped_column(primary_key=True)
    shop_id: Mapped[int] = mapped_column(index=True)
    kind: Mapped[int | None] = mapped_column(index=True)
    total: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))


class Kind(FederatedBase):
    __service__ = "strategy_kinds"
    __tablename__ = "kinds"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def services(request: pytest.FixtureRequest, fedorm_servers: Any) -> Iterator[dict[str, str]]:
    """The sales in PostgreSQL, or in MariaDB; the rest in PostgreSQL."""
    with databases(fedorm_servers) as make:
        urls = {
            "strategy_shops": make("postgresql"),
            "strategy_kinds": make("postgresql"),
            "strategy_sales": make(request.param),
        }
        run(_fill(urls))
        yield urls


async def _fill(urls: dict[str, str]) -> None:
    async with Federation(urls) as fed:
        await fed.create_all()
        async with fed.session() as session:
            await session.execute(insert(Kind), [{"id": n, "name": f"kind {n}"} for n in range(1, 6)])
            await session.execute(
                insert(Outlet),
                [{"id": n, "city": f"c{n % 50}", "region_id": n % 7 or None} for n in range(1, SHOPS + 1)],
            )
            await session.execute(
                insert(Receipt),
                [
                    {
                        "id": n,
                        "shop_id": n * 7 % (SHOPS + 20) + 1,
                        "kind": n % 6 or None,
                        "total": None if n % 11 == 0 else Decimal(n % 997) / 100,
                    }
                    for n in range(1, SALES + 1)
                ],
            )
            await session.commit()
            for service, url in urls.items():
                analyze = "ANALYZE TABLE" if url.startswith("mysql") else "ANALYZE"
                statement = text(f"{analyze} {service.removeprefix('strategy_')}")
                await session.execute(statement, bind_arguments={"service": service})
            await session.commit()


@pytest.fixture
async def fed(services: dict[str, str]) -> Any:
    async with Federation(services) as federation:
        yield federation


RECEIPTS = select(Receipt.id, Receipt.total, Outlet.city).join(Outlet, Outlet.id == Receipt.shop_id)
STATEMENTS: dict[str, Callable[[], Any]] = {
    "few keys": lambda: RECEIPTS.where(Outlet.id.in_([3, 5, 8])).order_by(Receipt.id),
    "many keys": lambda: RECEIPTS.where(Outlet.id.between(10, 1500)).order_by(Receipt.id),
    "sums": lambda: (
        select(Kind.name, func.count(), func.count(Receipt.total), func.sum(Receipt.total), func.sum(Receipt.shop_id))
        .join(Receipt, Receipt.kind == Kind.id)
        .where(Receipt.id > 100, Kind.name != "kind 2")
        .group_by(Kind.name)
        .having(func.count() > 5)
        .order_by(Kind.name)
    ),
    "ends": lambda: select(func.min(Receipt.total), func.max(Receipt.id)).join(Kind, Kind.id == Receipt.kind),
    "sums of nothing": lambda: (
        select(func.count(), func.sum(Receipt.total), func.sum(Receipt.id))
        .join(Kind, Kind.id == Receipt.kind)
        .where(Receipt.id < 0)
    ),
    "first of an inner join": lambda: RECEIPTS.where(Outlet.city == "c7").order_by(Receipt.id.desc()).limit(5),
    "later ones": lambda: RECEIPTS.order_by(Receipt.id).limit(7).offset(40),
    "first of a left join": lambda: (
        select(Receipt.id, Outlet.city)
        .outerjoin(Outlet, Outlet.id == Receipt.shop_id)
        .order_by(Receipt.total, Receipt.id.desc())
        .limit(9)
    ),
    "NULL first": lambda: (
        select(Receipt.id, Receipt.total, Outlet.city)
        .outerjoin(Outlet, Outlet.id == Receipt.shop_id)
        .order_by(Receipt.total.desc(), Receipt.id)
        .limit(4)
    ),
    "NULL where it is asked for": lambda: (
        RECEIPTS.order_by(Receipt.total.asc().nulls_first(), Receipt.id).limit(3).offset(2)
    ),
    "none of them": lambda: RECEIPTS.where(Outlet.city == "nowhere").order_by(Receipt.id).limit(5),
    "no rows wanted": lambda: RECEIPTS.order_by(Receipt.id).limit(0),
    "by both": lambda: RECEIPTS.order_by(Outlet.city, Receipt.id).limit(6),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_the_rows_are_the_same_in_every_way(fed: Federation, name: str) -> None:
    """Of keys sent, sent wherever they can be, not sent at all, and pairs compared one by one."""
    async with fed.session() as session:
        found = {}
        for strategy in ("auto", "lookup", "hash") + (("nested_loop",) if "key" in name else ()):
            statement = STATEMENTS[name]().execution_options(join_strategy=strategy)
            rows = (await session.execute(statement)).all()
            found[strategy] = [(tuple(row), [type(value) for value in row]) for row in rows]
    assert all(rows == found["hash"] for rows in found.values())
    assert found["hash"] or name in ("none of them", "no rows wanted")


def _steps(explanation: Explanation) -> dict[str, Any]:
    return {str(node.service).removeprefix("strategy_"): node for node in explanation.root.children}


async def test_the_first_rows_are_read_alone(fed: Federation) -> None:
    """Neither all sales nor all shops are read for a page of them."""
    async with fed.session() as session:
        steps = _steps(await session.explain(STATEMENTS["later ones"](), analyze=True))
        assert steps["sales"].measured.rows < SALES / 10
        assert steps["shops"].measured.rows < SALES / 10
        assert "until there are rows enough" in steps["sales"].why
        left = _steps(await session.explain(STATEMENTS["first of a left join"](), analyze=True))
        assert left["sales"].measured.rows == 9


async def test_rare_rows_are_found_all_the_same(fed: Federation) -> None:
    """When the first parts hold too few of them everything is read after all."""
    rare = RECEIPTS.where(Outlet.region_id == 3, Outlet.city == "c3", Receipt.total > 9).order_by(Receipt.id).limit(40)
    async with fed.session() as session:
        found = (await session.execute(rare)).all()
        assert found == (await session.execute(rare.execution_options(join_strategy="hash"))).all()


async def test_a_table_is_aggregated_where_it_is(fed: Federation) -> None:
    """Of twelve thousand sales come as many rows as there are kinds; the condition on them is checked there."""
    async with fed.session() as session:
        explanation = await session.explain(STATEMENTS["sums"](), analyze=True)
        sales = _steps(explanation)["sales"]
        assert sales.measured.rows <= 6
        assert "GROUP BY" in sales.sent
        assert "Receipt.id > 100" not in explanation.root.sent


async def test_an_unknown_strategy_is_refused(fed: Federation) -> None:
    """The message names those that there are."""
    async with fed.session() as session:
        with pytest.raises(UnsupportedQueryError, match="auto, lookup, hash, nested_loop"):
            await session.execute(STATEMENTS["sums"]().execution_options(join_strategy="merge"))


async def test_more_keys_than_expected_are_not_sent(fed: Federation) -> None:
    """A range that turns out to be wide makes DuckDB read the sales by itself, where the session has not written."""
    statement = RECEIPTS.where(Outlet.id.between(1, SHOPS)).order_by(Receipt.id)
    async with fed.session() as session:
        steps = _steps(await session.explain(statement, analyze=True))
        assert steps["sales"].measured.rows == SALES
        rows = (await session.execute(statement)).all()
        session.add(Receipt(id=SALES + 1, shop_id=1, kind=None, total=Decimal("1.00")))
        assert len((await session.execute(statement)).all()) == len(rows) + 1


async def test_batches_of_keys_are_looked_up_at_once(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """More keys than one statement takes go over several connections, and every row comes once.

    Where the session has written they go over its own, which sees what it wrote.
    """
    store = fed.stores["strategy_sales"]
    monkeypatch.setattr(type(store), "keys_per_statement", lambda self, width: 50)
    connections: list[int] = []

    def seen(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if "sales" in statement and "shop_id" in statement:
            connections.append(id(connection.connection.dbapi_connection))

    event.listen(store.engine, "before_cursor_execute", seen)  # type: ignore[attr-defined]
    statement = RECEIPTS.where(Outlet.id.in_(range(1, 501))).order_by(Receipt.id)
    lookup = statement.execution_options(join_strategy="lookup")
    async with fed.session() as session:
        expected = (await session.execute(statement.execution_options(join_strategy="hash"))).all()
        connections.clear()
        assert (await session.execute(lookup)).all() == expected
        assert len(connections) == 10
        assert len(set(connections)) > 1
        session.add(Receipt(id=SALES + 1, shop_id=1, kind=None, total=Decimal("1.00")))
        connections.clear()
        assert len((await session.execute(lookup)).all()) == len(expected) + 1
        assert len(set(connections)) == 1


async def test_a_plan_lasts_as_long_as_its_tables_have_their_size(
    fed: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement is planned once; when a table has become many times larger, once more."""
    monkeypatch.setattr(plans, "FRESH", 0.0)
    sizes: dict[str, float] = {"sales": 10.0, "shops": 10.0, "kinds": 10.0}
    statement = RECEIPTS.where(Outlet.id == 3)
    async with fed.session() as session:
        queries = session.sync_session.queries
        assert queries is not None
        monkeypatch.setattr(queries.statistics, "rows", lambda session, service: sizes)
        for grown, planned in ((10.0, 1), (900.0, 1), (2_000.0, 1), (100_000.0, 2), (110_000.0, 2), (100.0, 3)):
            sizes["sales"] = grown
            await session.execute(statement)
            assert queries.planned == planned


async def test_the_first_row_of_each_window(fed: Federation) -> None:
    """Also of a window whose order is no order at all."""
    ranked = (
        select(Outlet.region_id, Receipt.id, func.row_number().over(partition_by=Outlet.region_id, order_by=null()))
        .join(Receipt, Receipt.shop_id == Outlet.id)
        .add_columns(func.count().over(partition_by=Outlet.region_id).label("among"))
        .subquery()
    )
    first = select(ranked).where(ranked.c[2] == 1)
    async with fed.session() as session:
        rows = (await session.execute(first.execution_options(join_strategy="hash"))).all()
        assert len(rows) == 7
        assert all(row.id is not None and row.among > 0 for row in rows)


async def test_a_defect_of_duckdb_ends_no_other_statement(fed: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that an internal error has made unusable is replaced; the statement is tried without the optimizer."""
    failed: list[bool] = []
    run = Finishing.run

    def fails_once(self: Finishing, sql: str, parameters: Any) -> None:
        if not failed:
            failed.append(True)

            raise duckdb.InternalException("INTERNAL Error: told to")
        run(self, sql, parameters)

    statement = STATEMENTS["sums"]().order_by(func.abs(func.min(Receipt.id)))
    async with fed.session() as session:
        expected = (await session.execute(statement)).all()
        queries = session.sync_session.queries
        assert queries is not None
        before = queries._finisher._database
        monkeypatch.setattr(Finishing, "run", fails_once)
        assert (await session.execute(statement)).all() == expected
        assert failed == [True]
        assert queries._finisher._database is not before
        assert (await session.execute(statement)).all() == expected
