"""What goes wrong says where and why, and nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import (
    AuthenticationError,
    ConfigurationError,
    DuplicateTableError,
    Federated,
    FederatedBase,
    FederatedDocument,
    Federation,
    FederationOpenError,
    KeyTypeError,
    MissingDriverError,
    MissingServiceError,
    PoolExhaustedError,
    RelationshipError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    UnknownServiceError,
    federated_load,
    federated_relationship,
)
from fedorm.stores.sql import SQLStore
from fedorm.sync.running import pauses
from fedorm.testing.servers import MariaDBServer, MongoDBServer, PostgreSQLServer, Server
from fedorm.testing.servers.processes import free_port
from tests.models import Order, Product, User

# -- declarations


def test_a_model_without_a_service() -> None:
    """The message is the line to write."""
    with pytest.raises(MissingServiceError, match='__service__ = "<service>"'):

        class Nobody(FederatedBase):
            __tablename__ = "nobody"
            id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MissingServiceError, match="NoDocument"):

        class NoDocument(FederatedDocument):
            name: str


def test_a_model_of_an_unknown_service() -> None:
    """A base may say which services there are."""

    class Base(FederatedBase):
        __abstract__ = True
        __services__ = {"users", "orders"}

    with pytest.raises(UnknownServiceError, match=r"unknown service 'user'.*'orders', 'users'"):

        class Misspelt(Base):
            __service__ = "user"
            __tablename__ = "misspelt"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_duplicate_table() -> None:
    """Two models of one service cannot have one table or collection; those of two services can."""
    with pytest.raises(DuplicateTableError, match="'users' already has a table 'users'"):

        class Again(FederatedBase):
            __service__ = "users"
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(DuplicateTableError, match="'products'"):

        class AgainDocument(FederatedDocument):
            __service__ = "inventory"

            class Settings:
                name = "products"

    class Elsewhere(FederatedBase):
        __service__ = "elsewhere"
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)


CROSSING = """
from sqlalchemy.orm import Mapped, mapped_column, relationship
from fedorm import FederatedBase

class User(FederatedBase):
    __service__ = "users"
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)

class Shipment(FederatedBase):
    __service__ = "shipping"
    __tablename__ = "shipments"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[User] = relationship(User)

Shipment()
"""


def test_a_plain_relationship_that_crosses_services() -> None:
    """Refused when mappers are configured, with what to write instead; in a process of its own, as it stays wrong."""
    done = subprocess.run([sys.executable, "-c", CROSSING], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fedorm.exc.CrossServiceRelationshipError: Shipment.user is a relationship() from")
    assert 'user: Federated["User"] = federated_relationship(local_key=...)' in last


@pytest.mark.parametrize(
    ("key", "target", "match"),
    [("flag", "User", "can never equal|cannot match"), ("nothing", "User", "no column attribute 'nothing'")],
)
def test_keys_that_cannot_match(key: str, target: str, match: str) -> None:
    """A bool never equals an id, and a column that is not there is named."""
    name = f"Odd{key}"
    model: Any = type(
        name,
        (FederatedBase,),
        {
            "__service__": "odd",
            "__tablename__": name.lower(),
            "__annotations__": {"id": Mapped[int], "flag": Mapped[bool], "user": Federated["User"]},
            "id": mapped_column(primary_key=True),
            "flag": mapped_column(),
            "user": federated_relationship(target, local_key=key),
        },
    )
    with pytest.raises((KeyTypeError, RelationshipError), match=match):
        model.user.hop  # noqa: B018


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgresql+asyncpg://h/x", "asyncpg", "postgresql"),
        ("postgresql+asyncpg://h/x", "psycopg", "postgresql"),
        ("mysql+aiomysql://h/x", "aiomysql", "mysql"),
        ("mariadb+aiomysql://h/x", "pymysql", "mysql"),
        ("mongodb://h/x", "pymongo", "mongodb"),
        ("mongodb://h/x", "beanie", "mongodb"),
        ("sqlite+aiosqlite:///x", "aiosqlite", "sqlite"),
        ("clickhouse+native://h/x", "clickhouse_sqlalchemy", "clickhouse"),
        ("chdb:///x", "chdb", "chdb"),
    ],
)
def test_a_driver_that_is_not_installed(url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which extra brings it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDriverError, match=rf"'far' needs the package '{package}'.*fedorm\[{extra}\]"):
        Federation({"far": url})


def test_a_package_that_no_service_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what does need it, and names no service."""
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(MissingDriverError) as raised:
        pauses()
    assert str(raised.value) == (
        "a sync rule needs the package 'tenacity', which is not installed: run  pip install 'fedorm[sync]'"
    )


# -- settings


@pytest.mark.parametrize(
    ("services", "match"),
    [
        ({"a": "nonsense"}, "a.url: .*looks like"),
        ({"a": "oracle://u:s3cret@h/x"}, "no store for 'oracle'.*known:.*postgresql"),
        ({"a": "postgres://u:s3cret@h/x"}, "no store for 'postgres'.*did you mean postgresql"),
        ({"a": None}, "service 'a' needs a URL, or a table of settings with one, and was given None"),
        ({"a": b"mysql://u:s3cret@h/x"}, "and was given bytes"),
        (["sqlite:///s3cret"], "a mapping, as in .*and were given as list"),
        ({"a": {"url": "sqlite:///x", "pool_size": 0}}, "a.pool_size"),
        ({"a": {"url": "sqlite:///x", "pool_sise": 1}}, "a.pool_sise"),
        ({"no good": "sqlite:///x"}, "must be an identifier"),
        ({"a": "mongodb://localhost:27017"}, "names no database"),
        ({"a": "redis://:s3cret@localhost/carts"}, "names the database 'carts', and Redis has numbers"),
    ],
)
def test_settings_that_are_not_valid(services: Any, match: str) -> None:
    """Service and setting are named, and no secret."""
    with pytest.raises(ConfigurationError, match=match) as raised:
        Federation(services)
    assert "s3cret" not in str(raised.value)


def test_a_url_of_sqlalchemys() -> None:
    """It is taken as its text, with its password."""
    url = make_url("postgresql+asyncpg://me:s3%2Fcret@db/orders?application_name=shop")
    fed = Federation({"orders": url, "users": {"url": url, "pool_size": 7}})
    for name in ("orders", "users"):
        assert fed.stores[name].settings.url.get_secret_value() == url.render_as_string(hide_password=False)


def test_a_setting_that_there_is_not(tmp_path: Any) -> None:
    """Whoever mistypes one in the file is told, rather than having it passed over."""
    file = tmp_path / "fedorm.toml"
    file.write_text('modles = ["shop"]\n[services.orders]\nurl = "sqlite+aiosqlite:///orders.db"\n')
    with pytest.raises(ConfigurationError, match=r"no setting 'modles'; there are services, cache, .*, models$"):
        Federation.from_file(file)


def test_from_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets come from the environment; a default may follow a colon and a dash."""
    file = tmp_path / "fedorm.toml"
    file.write_text(
        '[services.orders]\nurl = "postgresql+asyncpg://me:${ORDERS_PASSWORD}@db/orders"\npool_size = 7\ntimeout = 3\n'
        '[services.users]\nurl = "${USERS_URL:-sqlite+aiosqlite:///users.db}"\n'
        "options = { echo = false }\n"
    )
    with pytest.raises(ConfigurationError, match="ORDERS_PASSWORD is not set"):
        Federation.from_file(file)
    monkeypatch.setenv("ORDERS_PASSWORD", "s3cret")
    fed = Federation.from_file(file)
    settings = fed.stores["orders"].settings
    assert (settings.pool_size, settings.timeout) == (7, 3)
    assert settings.url.get_secret_value() == "postgresql+asyncpg://me:s3cret@db/orders"
    for shown in (repr(fed), repr(fed.stores["orders"]), repr(settings), str(settings)):
        assert "s3cret" not in shown
    assert "users.db" in repr(fed)
    with pytest.raises(ConfigurationError, match="cannot read"):
        Federation.from_file(tmp_path / "none.toml")


@pytest.mark.parametrize("place", ["{}:${{SECRET}}", "${{NAME}}:${{SECRET}}"])
async def test_a_secret_is_taken_literally(postgresql_url: str, tmp_path: Any, monkeypatch: Any, place: str) -> None:
    """A password may hold what has a meaning in URLs, in a variable of its own; it appears nowhere."""
    secret = "p@ss/w:rd?#%41 "
    async with Federation({"admin": postgresql_url}) as fed, fed.session() as session:
        for statement in ("DROP ROLE IF EXISTS odd", f"CREATE ROLE odd LOGIN PASSWORD '{secret}'"):
            await session.execute(text(statement), bind_arguments={"service": "admin"})
        await session.commit()
    monkeypatch.setenv("SECRET", secret)
    monkeypatch.setenv("NAME", "odd")
    file = tmp_path / "fedorm.toml"
    server = postgresql_url.rpartition("@")[2]
    url = f"postgresql+asyncpg://{place.format('odd')}@{server}"
    file.write_text(f'[services.users]\nurl = "{url}"\n[services.whole]\nurl = "${{WHOLE}}"\n')
    monkeypatch.setenv("WHOLE", postgresql_url)
    async with Federation.from_file(file) as fed:
        assert {state.state for state in (await fed.health()).values()} == {"up"}
        assert secret not in repr(fed) + repr(fed.stores["users"].settings)
        assert "%40" not in repr(fed)
    monkeypatch.setenv("SECRET", "wrong@/")
    with pytest.raises(FederationOpenError) as raised:
        await Federation.from_file(file).open()
    assert isinstance(raised.value.failures["users"], AuthenticationError)
    assert "wrong@/" not in str(raised.value)


# -- servers


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


async def test_limits_of_queries_in_a_file(tmp_path: Any) -> None:
    """The table [query] says what a select over several services may use; what is no size is refused at once."""
    file = tmp_path / "fedorm.toml"
    services = f'[services.one]\nurl = "sqlite+aiosqlite:///{tmp_path}/one.db"\n'
    file.write_text(services + f'[query]\nmemory_limit = "200MB"\nspill_directory = "{tmp_path}"\n')
    async with Federation.from_file(file) as fed, fed.session() as session:
        queries = session.sync_session.queries
        assert queries is not None
        settings = "SELECT current_setting('memory_limit'), current_setting('temp_directory')"
        found = queries._finisher._database.execute(settings).fetchone()
        assert found == ("190.7 MiB", str(tmp_path))
    file.write_text(services + '[query]\nmemory_limit = "much"\n')
    with pytest.raises(ConfigurationError, match="memory_limit"):
        Federation.from_file(file)
    with pytest.raises(ConfigurationError, match="memory_limit"):
        Federation({"one": f"sqlite+aiosqlite:///{tmp_path}/one.db"}, memory_limit="512 bananas")
