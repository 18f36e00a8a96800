"""What goes wrong with a server says where and why, and nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select, text

from fedorm import (
    AuthenticationError,
    Federation,
    FederationOpenError,
    PoolExhaustedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    federated_load,
)
from fedorm.stores.sql import SQLStore
from fedorm.testing.servers import MariaDBServer, MongoDBServer, PostgreSQLServer, Server
from fedorm.testing.servers.processes import free_port
from tests.models import Order, Product, User


@pytest.mark.clickhouse
async def test_all_services_that_fail_are_reported(
    urls: dict[str, str], clickhouse_http_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One error for all: nobody there, wrong password, unknown database, each with service and address."""
    caplog.set_level(logging.DEBUG, "sqlalchemy")
    dead = f"127.0.0.1:{free_port()}"
    services = {
        "good": urls["users"],
        "gone": {"url": f"postgresql+asyncpg://me:s3cret@{dead}/x", "connect_timeout": 2},
        "wrong": urls["orders"].replace("://fedorm:", "://fedorm:wrong"),
        "nodb": urls["orders"].rpartition("/")[0] + "/no_such_database",
        "mywrong": urls["payments"].replace("://fedorm:", "://fedorm:wrong"),
        "mygone": f"mysql+aiomysql://me:s3cret@{dead}/x",
        "mongogone": {"url": f"mongodb://me:s3cret@{dead}/x", "connect_timeout": 1},
        "chwrong": urls["analytics"].replace("://fedorm:", "://fedorm:wrong"),
        "chgone": f"clickhouse+native://me:s3cret@{dead}/x",
        "httpwrong": clickhouse_http_url.replace("://fedorm:", "://fedorm:wrong"),
        "httpgone": f"clickhouse+http://me:s3cret@{dead}/x",
    }
    with pytest.raises(FederationOpenError) as raised:
        await Federation(services).open()
    failures = raised.value.failures
    assert failures.keys() == services.keys() - {"good"}
    for name in ("wrong", "mywrong", "chwrong", "httpwrong"):
        assert isinstance(failures[name], AuthenticationError), failures[name]
    for name in ("gone", "nodb", "mygone", "mongogone", "chgone", "httpgone"):
        assert isinstance(failures[name], ServiceUnavailableError), failures[name]
        assert not isinstance(failures[name], AuthenticationError)
    shown = str(raised.value) + caplog.text
    assert f"service 'gone' at postgresql+asyncpg://me@{dead}/x" in shown
    assert "s3cret" not in shown
    with pytest.raises(FederationOpenError) as raised:
        Federation({name: services[name] for name in ("good", "gone", "mywrong", "mongogone", "chgone")}).__enter__()
    assert raised.value.failures.keys() == {"gone", "mywrong", "mongogone", "chgone"}
    assert "s3cret" not in str(raised.value)


async def test_a_wrong_mongo_password() -> None:
    """A MongoDB that asks for passwords."""
    with MongoDBServer(auth=True) as server:
        async with Federation({"m": server.url()}) as fed:
            assert (await fed.health())["m"].state == "up"
        with pytest.raises(FederationOpenError) as raised:
            await Federation({"m": server.url().replace(server.password, "wrong")}).open()
        assert isinstance(raised.value.failures["m"], AuthenticationError)


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with {"postgresql": PostgreSQLServer, "mysql": MariaDBServer, "mongodb": MongoDBServer}[request.param]() as server:
        yield server


@pytest.mark.parametrize("own_server", ["postgresql"], indirect=True)
async def test_a_server_that_goes_in_the_middle_of_a_load_and_comes_back(
    own_server: Server, fresh_database: Any, no_stray_tasks: None
) -> None:
    """The error names the service, the session rolls back cleanly, and the pool recovers."""
    own_server.create_database("people")
    services = {"users": own_server.url("people"), "orders": fresh_database("postgresql")}
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([User(id=1, email="x"), Order(id=1, user_id=1)])
            await session.commit()
        async with fed.session() as session:
            await session.scalars(select(User.id))
            session.add(Order(id=2, user_id=1))
            own_server.kill()
            with pytest.raises(ServiceUnavailableError, match="service 'users'"):
                await session.scalars(select(Order).options(federated_load(Order.user)))
            health = await fed.health()
            assert (health["users"].state, health["orders"].state) == ("down", "up")
            assert health["users"].error is not None
            await session.rollback()
            assert (await session.scalars(select(Order.id))).all() == [1]
        own_server.restart()
        async with fed.session() as session:
            orders = (await session.scalars(select(Order).options(federated_load(Order.user)))).all()
            assert [order.user.email for order in orders] == ["x"]


@pytest.mark.parametrize("own_server", ["mongodb"], indirect=True)
async def test_a_mongo_server_that_goes(own_server: Server, postgresql_url: str, no_stray_tasks: None) -> None:
    """A commit that cannot reach the documents writes no rows either."""
    services = {"users": postgresql_url, "inventory": {"url": own_server.url("inv"), "connect_timeout": 2}}
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            own_server.kill()
            session.add_all([User(id=1, email="x"), Product(sku="a", price=1)])
            with pytest.raises(ServiceUnavailableError, match="service 'inventory'"):
                await session.commit()
            await session.rollback()
            assert (await session.scalars(select(User))).all() == []
        own_server.restart()
        async with fed.session() as session:
            session.add(Product(sku="a", price=1))
            await session.commit()
            assert await session.find(Product).count() == 1


async def test_an_exhausted_pool(postgresql_url: str) -> None:
    """The error says whose connections are in use and which settings to raise."""
    one = {"url": postgresql_url, "pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}
    async with Federation({"users": one}) as fed:
        await fed.create_all()
        async with fed.session() as holder, fed.session() as waiter:
            await holder.scalars(select(User))
            with pytest.raises(PoolExhaustedError, match=r"service 'users'.*raise pool_size"):
                await waiter.scalars(select(User))
            await holder.rollback()
            assert (await waiter.scalars(select(User))).all() == []


@pytest.mark.parametrize(
    ("kind", "sleep"),
    [("postgresql", "select pg_sleep(5)"), ("mysql", "select sleep(5) from information_schema.tables")],
)
async def test_a_timeout(fresh_database: Any, kind: str, sleep: str) -> None:
    """A statement longer than the service's timeout ends with an error that names it; the session goes on."""
    async with Federation({"slow": {"url": fresh_database(kind), "timeout": 0.5}}) as fed, fed.session() as session:
        with pytest.raises(ServiceTimeoutError, match="service 'slow'"):
            await session.execute(text(sleep), bind_arguments={"service": "slow"})
        await session.rollback()
        one = await session.execute(text("select 1"), bind_arguments={"service": "slow"})
        assert one.scalar_one() == 1


@pytest.mark.parametrize("own_server", ["postgresql", "mysql", "mongodb"], indirect=True)
async def test_a_server_that_says_nothing_any_more(own_server: Server, no_stray_tasks: None) -> None:
    """A frozen server is a timeout, not a wait without end."""
    url = own_server.url("test" if own_server.name == "MongoDB" else None)
    async with Federation({"frozen": {"url": url, "connect_timeout": 1, "timeout": 1}}) as fed:
        own_server.suspend()
        try:
            health = await asyncio.wait_for(fed.health(), 20)
            assert health["frozen"].state == "down"
        finally:
            own_server.resume()
        health = await fed.health()
        assert health["frozen"].state == "up"


@pytest.mark.parametrize("own_server", ["mysql"], indirect=True)
def test_a_server_that_says_nothing_to_threads(own_server: Server) -> None:
    """It is waited for as long; one more who asks waits for the same answer, and holds no other connection."""
    with Federation({"frozen": {"url": own_server.url(), "connect_timeout": 1}}) as fed:
        own_server.suspend()
        try:
            assert [fed.sync_health()["frozen"].state for _ in range(3)] == ["down"] * 3
            store = fed.stores["frozen"]
            assert isinstance(store, SQLStore)
            assert store.sync_engine.pool.checkedout() == 1  # type: ignore[attr-defined]
        finally:
            own_server.resume()
        while fed.sync_health()["frozen"].state != "up":
            pass  # pytest's own limit ends it.
        assert store.sync_engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("own_server", ["postgresql", "mysql"], indirect=True)
async def test_a_statement_that_a_server_says_nothing_to(own_server: Server, no_stray_tasks: None) -> None:
    """It ends after the service's timeout, and the pool recovers."""
    async with Federation({"frozen": {"url": own_server.url(), "connect_timeout": 1, "timeout": 1}}) as fed:
        for _ in range(2):
            async with fed.session() as session:
                ask = session.execute(text("select 1"), bind_arguments={"service": "frozen"})
                assert (await ask).scalar() == 1
                own_server.suspend()
                try:
                    again = session.execute(text("select 2"), bind_arguments={"service": "frozen"})
                    with pytest.raises(ServiceTimeoutError, match="service 'frozen'"):
                        await asyncio.wait_for(again, 20)
                finally:
                    own_server.resume()


@pytest.mark.parametrize("own_server", ["mysql"], indirect=True)
def test_a_statement_of_a_thread_that_a_server_says_nothing_to(own_server: Server) -> None:
    """The same without async."""
    fed = Federation({"frozen": {"url": own_server.url(), "connect_timeout": 1, "timeout": 1}})
    with fed, fed.sync_session() as session:
        assert session.execute(text("select 1"), bind_arguments={"service": "frozen"}).scalar() == 1
        own_server.suspend()
        try:
            with pytest.raises((ServiceTimeoutError, ServiceUnavailableError), match="service 'frozen'"):
                session.execute(text("select 2"), bind_arguments={"service": "frozen"})
        finally:
            own_server.resume()


async def test_cancelling_leaves_nothing_open(fed: Federation) -> None:
    """A cancelled load gives its connections back; the leak checks of the fixtures hold for it."""
    async with fed.session() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.execute(text("select pg_sleep(10)"), bind_arguments={"service": "users"})
    async with fed.session() as session:
        assert (await session.scalars(select(User))).all() == []


async def test_opening_again_after_closing(urls: dict[str, str]) -> None:
    """A federation may be opened, closed and opened again; closing twice is harmless."""
    fed = Federation(urls)
    for _ in range(2):
        async with fed, fed.session() as session:
            await session.execute(text("select 1"), bind_arguments={"service": "users"})
    await fed.close()
