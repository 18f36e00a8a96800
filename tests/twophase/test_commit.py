"""``twophase=True``: all services commit or none does, and nothing is prepared that need not be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import String, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, Federation, InDoubtError, TwoPhaseError, points
from fedorm.testing.servers import PostgreSQLServer

KINDS = {
    "agree_users": "postgresql",
    "agree_orders": "postgresql",
    "agree_payments": "mysql",
    "agree_refunds": "mysql",
    "agree_stock": "mongodb",
}


class AgreeUser(FederatedBase):
    __service__, __tablename__ = "agree_users", "users"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str] = mapped_column(String(50))


class AgreeOrder(FederatedBase):
    __service__, __tablename__ = "agree_orders", "orders"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class AgreePayment(FederatedBase):
    __service__, __tablename__ = "agree_payments", "payments"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class AgreeRefund(FederatedBase):
    __service__, __tablename__ = "agree_refunds", "refunds"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class AgreeStock(FederatedDocument):
    __service__ = "agree_stock"
    sku: str

    class Settings:
        name = "stock"


class AgreeNote(FederatedBase):
    __service__, __tablename__ = "agree_notes", "notes"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


TABLES: tuple[Any, ...] = (AgreeUser, AgreeOrder, AgreePayment, AgreeRefund)


@pytest.fixture
async def shop(
    fresh_database: Callable[[str], str], sqlite_url: str, no_stray_tasks: None
) -> AsyncIterator[Federation]:
    urls = {name: fresh_database(kind) for name, kind in KINDS.items()}
    async with Federation(urls | {"agree_notes": sqlite_url}) as fed:
        await fed.create_all()
        yield fed
        assert (await fed.in_doubt()).branches == 0


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The points that commits have passed by."""
    seen: list[str] = []
    monkeypatch.setattr(points, "reached", seen.append)
    return seen


async def ids(fed: Federation) -> list[list[int]]:
    """What users, orders, payments and refunds hold."""
    async with fed.session() as session:
        return [list((await session.scalars(select(model.id).order_by(model.id))).all()) for model in TABLES]


async def test_five_services_commit_together(shop: Federation, reached: list[str]) -> None:
    """Two PostgreSQL, two MariaDB and MongoDB, which decides as it cannot prepare: all have it."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreeOrder(id=1), AgreePayment(id=1), AgreeRefund(id=1)])
        session.add(AgreeStock(sku="tea"))
        await session.commit()
        assert [user.email for user in await session.scalars(select(AgreeUser))] == ["a"]
        assert [one.sku for one in await session.find(AgreeStock).to_list()] == ["tea"]
    assert await ids(shop) == [[1], [1], [1], [1]]
    decided = reached.index("before decide agree_stock")
    prepared = {point.split()[-1] for point in reached[:decided] if point.startswith("after prepare")}
    assert prepared == {"agree_users", "agree_orders", "agree_payments", "agree_refunds"}
    assert all(" confirm " in point for point in reached[decided + 2 :])


async def test_one_that_refuses_late_undoes_all(shop: Federation) -> None:
    """A constraint that is checked when it prepares: nothing is anywhere, and the session is usable again."""
    late = "ALTER TABLE users ADD CONSTRAINT late UNIQUE (email) DEFERRABLE INITIALLY DEFERRED"
    async with shop.session(twophase=True) as session:
        await session.execute(text(late), bind_arguments={"service": "agree_users"})
        await session.commit()
        session.add_all([AgreeUser(id=1, email="x"), AgreeUser(id=2, email="x"), AgreeOrder(id=1), AgreePayment(id=1)])
        session.add(AgreeStock(sku="tea"))
        with pytest.raises(IntegrityError, match="late"):
            await session.commit()
        await session.rollback()
        assert await session.find(AgreeStock).to_list() == []
        session.add_all([AgreeUser(id=3, email="y"), AgreeRefund(id=3)])
        await session.commit()
    assert await ids(shop) == [[3], [], [], [3]]


async def test_a_prepare_that_the_server_made_a_rollback_of_counts_as_failed(shop: Federation) -> None:
    """PostgreSQL answers ROLLBACK, and no error, when a statement before had failed and its error was swallowed."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreeOrder(id=1), AgreePayment(id=1)])
        await session.flush()
        with pytest.raises(DBAPIError):
            await session.execute(text("SELECT 1 / 0"), bind_arguments={"service": "agree_users"})
        with pytest.raises(TwoPhaseError, match=r"agree_users.*rolled back instead of prepared"):
            await session.commit()
        await session.rollback()
    assert await ids(shop) == [[], [], [], []]


async def test_services_that_were_only_read_are_not_prepared(shop: Federation, reached: list[str]) -> None:
    """With one service written to the commit is an ordinary one, with two those two agree."""
    async with shop.session(twophase=True) as session:
        await session.scalars(select(AgreeUser))
        await session.scalars(select(AgreePayment))
        session.add(AgreeOrder(id=1))
        await session.commit()
        assert reached == []
        await session.scalars(select(AgreeUser))
        session.add_all([AgreeOrder(id=2), AgreePayment(id=2)])
        await session.commit()
    assert {point for point in reached if "agree_users" in point} == {
        "before release agree_users",
        "after release agree_users",
    }
    assert {point for point in reached if "prepare" in point} == {
        "before prepare agree_orders",
        "after prepare agree_orders",
    }
    assert await ids(shop) == [[], [1, 2], [2], []]


async def test_two_that_cannot_prepare_are_refused(shop: Federation, reached: list[str]) -> None:
    """With the reason, and before anything is committed or prepared."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreeNote(id=1), AgreeStock(sku="tea")])
        with pytest.raises(TwoPhaseError, match=r"'agree_notes' \(sqlite\), 'agree_stock' \(mongodb\) cannot prepare"):
            await session.commit()
        await session.rollback()
        assert await session.find(AgreeStock).to_list() == []
    assert reached == []
    assert await ids(shop) == [[], [], [], []]


async def test_savepoints_within(shop: Federation) -> None:
    """``begin_nested()`` undoes its part of each branch."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreePayment(id=1), AgreeRefund(id=1)])
        nested = await session.begin_nested()
        session.add_all([AgreeUser(id=2, email="b"), AgreePayment(id=2), AgreeRefund(id=2)])
        await session.flush()
        await nested.rollback()
        async with session.begin_nested():
            session.add_all([AgreeUser(id=3, email="c"), AgreePayment(id=3), AgreeRefund(id=3)])
        await session.commit()
    assert await ids(shop) == [[1, 3], [], [1, 3], [1, 3]]


async def test_threads_agree_too(shop: Federation) -> None:
    """The same over psycopg and PyMySQL."""

    def work() -> None:
        with shop, shop.sync_session(twophase=True) as session:
            session.add_all([AgreeUser(id=1, email="a"), AgreeOrder(id=1), AgreePayment(id=1), AgreeRefund(id=1)])
            session.add(AgreeStock(sku="tea"))
            session.commit()
            session.add_all([AgreeUser(id=2, email="b"), AgreePayment(id=2), AgreePayment(id=1)])
            with pytest.raises(IntegrityError):
                session.commit()
            session.rollback()
            session.add_all([AgreeUser(id=3, email="c"), AgreeRefund(id=3)])
            session.commit()

    await asyncio.to_thread(work)
    assert await ids(shop) == [[1, 3], [1], [1], [1, 3]]


@pytest.mark.parametrize("service", ["agree_users", "agree_payments"])
async def test_a_connection_lost_after_the_decision_is_made_good(
    shop: Federation, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """A branch whose connection is gone is committed over another one."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreePayment(id=1), AgreeStock(sku="tea")])
        await session.flush()
        kill = await _kills(shop, session, service)

        def reached(point: str) -> None:
            if point == "after decide agree_stock":
                session.sync_session.bridge.run(kill())

        monkeypatch.setattr(points, "reached", reached)
        await session.commit()
    assert await ids(shop) == [[1], [], [1], []]


async def test_a_decision_whose_answer_is_lost_is_asked_for(shop: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deciding service goes away at its commit: its log says that nothing was decided, and all roll back."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreePayment(id=1)])
        await session.flush()
        kill = await _kills(shop, session, "agree_payments")

        def reached(point: str) -> None:
            if point == "before decide agree_payments":
                session.sync_session.bridge.run(kill())

        monkeypatch.setattr(points, "reached", reached)
        with pytest.raises(DBAPIError):
            await session.commit()
        await session.rollback()
    assert await ids(shop) == [[], [], [], []]


async def _kills(fed: Federation, session: Any, service: str) -> Callable[[], Any]:
    """What ends a session's connection to a service."""
    bound = {"bind_arguments": {"service": service}}
    mysql = KINDS[service] == "mysql"
    process = await session.scalar(text("SELECT connection_id()" if mysql else "SELECT pg_backend_pid()"), **bound)

    async def kill() -> None:
        async with fed.session() as other:
            end = f"KILL {process:d}" if mysql else f"SELECT pg_terminate_backend({process:d})"
            await other.execute(text(end), **bound)
        await asyncio.sleep(0.2)

    return kill


async def test_a_cancelled_commit_is_whole(shop: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while it prepares, it goes on to its end, and only then is cancelled."""
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreeOrder(id=1), AgreePayment(id=1)])
        task = asyncio.create_task(session.commit())

        def reached(point: str) -> None:
            if point == "after prepare agree_users":
                task.cancel()

        monkeypatch.setattr(points, "reached", reached)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await ids(shop) == [[1], [1], [1], []]


async def test_a_decided_branch_that_cannot_be_told_is_in_doubt(
    shop: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says that the transaction holds, and where it will be known later; the recovery sees to that."""

    def refuse(connection: Any, xid: Any, is_prepared: bool) -> None:
        if is_prepared:
            raise ConnectionError("the cable is cut")

    engine = shop.stores["agree_orders"].engine  # type: ignore[attr-defined]
    async with shop.session(twophase=True) as session:
        session.add_all([AgreeUser(id=1, email="a"), AgreeOrder(id=1)])
        event.listen(engine, "commit_twophase", refuse)
        with monkeypatch.context() as patched:
            patched.setattr(type(shop.stores["agree_orders"]), "end_prepared", _cut)
            with pytest.raises(InDoubtError, match=r"holds, and agree_orders will know it after .*recover") as raised:
                await session.commit()
        event.remove(engine, "commit_twophase", refuse)
        assert (raised.value.outcome, raised.value.pending) == ("committed", ["agree_orders"])
        assert await ids(shop) == [[1], [], [], []]
        report = await shop.recover(older_than=0)
        assert [(one.service, one.done.value) for one in report.branches] == [("agree_orders", "committed")]
    assert await ids(shop) == [[1], [1], [], []]


def _cut(*_: Any, **__: Any) -> None:
    raise ConnectionError("the cable is cut")


async def test_a_server_that_forbids_it_is_named_before_the_first_write(fresh_database: Callable[[str], str]) -> None:
    """Also before the first read; an ordinary session may use it."""
    with PostgreSQLServer() as server:
        server.create_database("agree")
        services = {"agree_users": server.url("agree"), "agree_orders": fresh_database("postgresql")}
        async with Federation(services) as fed:
            await fed.create_all()
        engine = create_async_engine(services["agree_users"], isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text("ALTER SYSTEM SET max_prepared_transactions = 0"))
        await engine.dispose()
        server.kill()
        server.restart()
        async with Federation(services) as fed:
            async with fed.session(twophase=True) as session:
                session.add_all([AgreeOrder(id=1), AgreeUser(id=1, email="a")])
                with pytest.raises(TwoPhaseError, match=r"agree_users.*max_prepared_transactions is 0.*restart"):
                    await session.flush()
                await session.rollback()
                assert (await session.scalars(select(AgreeOrder.id))).all() == []
            async with fed.session() as session:
                session.add(AgreeUser(id=1, email="a"))
                await session.commit()
