"""A pytest plugin: real databases and message brokers for tests, each test in databases of its own.

A server is started at the first use of its fixture, on a private port, and stopped with the run. Where an environment
variable ``FEDORM_TEST_POSTGRESQL_URL`` (``_MYSQL_``, ``_MONGODB_``, ``_CLICKHOUSE_``,
``_REDIS_``, ``_ELASTICSEARCH_``, ``_NATS_``, ``_KAFKA_``, ``_RABBITMQ_``) gives a URL, that server is used.
Where a server cannot be had the test is skipped, and fails if ``CI=true``.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedorm.testing.federations import (  # noqa: F401 - fixtures
    federation,
    fedorm_federation,
    fedorm_made_tables,
    sync_federation,
)
from fedorm.testing.servers import (
    ClickHouseServer,
    ElasticsearchServer,
    KafkaServer,
    MariaDBServer,
    MongoDBServer,
    NATSServer,
    PostgreSQLServer,
    RabbitMQServer,
    RedisServer,
    Server,
    ServerUnavailableError,
    live_servers,
)
from fedorm.testing.servers.admin import (
    Admin,
    ClickHouseAdmin,
    ElasticsearchAdmin,
    MongoDBAdmin,
    MySQLAdmin,
    PostgreSQLAdmin,
    RedisAdmin,
)
from fedorm.testing.servers.processes import is_running

FreshDatabase = Callable[[str], str]


@dataclass(frozen=True)
class Place:
    """A server that databases can be made on, started by us or given by a URL."""

    admin: Admin
    url: Callable[[str], str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch for the leak check."""
    parser.addini(
        "fedorm_leak_check", "fail tests that leave tasks, threads or connections", type="bool", default=False
    )


_FRESH = ("postgresql", "mysql", "mongodb", "clickhouse", "elasticsearch")
"""The kinds of which a server has any number of databases."""


class _Servers:
    """The servers of a test run, by kind; started when they are first asked for."""

    kinds: dict[str, Callable[[], Server]] = {
        "postgresql": PostgreSQLServer,
        "mysql": MariaDBServer,
        "mongodb": MongoDBServer,
        "clickhouse": ClickHouseServer,
        "redis": RedisServer,
        "elasticsearch": ElasticsearchServer,
        "nats": NATSServer,
        "kafka": KafkaServer,
        "rabbitmq": RabbitMQServer,
    }
    admins: dict[str, Callable[[str], Admin]] = {
        "postgresql": PostgreSQLAdmin,
        "mysql": MySQLAdmin,
        "mongodb": MongoDBAdmin,
        "clickhouse": ClickHouseAdmin,
        "redis": RedisAdmin,
        "elasticsearch": ElasticsearchAdmin,
    }

    def __init__(self) -> None:
        self.started: dict[str, Server] = {}
        self._unavailable: dict[str, str] = {}

    def server(self, kind: str) -> Server:
        """Return our own server of a kind; skips the test, or fails it in CI, where there is none."""
        if kind not in self.started:
            if kind in self._unavailable:
                unavailable(self._unavailable[kind])
            server = self.kinds[kind]()
            try:
                self.started[kind] = server.start()
            except ServerUnavailableError as error:
                self._unavailable[kind] = str(error)
                unavailable(str(error))
        return self.started[kind]

    def place(self, kind: str) -> Place:
        """Return the server that the environment names, else our own."""
        given = os.environ.get(f"FEDORM_TEST_{kind.upper()}_URL")
        if given:
            return Place(self.admins[kind](given), lambda database: _with_database(given, database))
        server = self.server(kind)
        return Place(server.admin, server.url)

    def stop(self) -> None:
        """Stop what was started, and see that nothing is left of it."""
        pids = [pid for server in self.started.values() for pid in server.own.family()]
        for server in self.started.values():
            server.stop()
        left = [pid for pid in pids if is_running(pid)]
        if left or live_servers():
            raise AssertionError(f"servers were left behind: {left} {live_servers()}")


def unavailable(reason: str) -> None:
    """Skip the test; fail it where ``CI=true``, as there everything has to run."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _with_database(url: str, database: str) -> str:
    return re.sub(r"^([^:]+://[^/]+)(/[^?]*)?", rf"\g<1>/{database}", url)


@pytest.fixture(scope="session")
def fedorm_servers() -> Iterator[_Servers]:
    """Hold the servers of this run."""
    servers = _Servers()
    yield servers
    servers.stop()


@pytest.fixture
def fresh_database(fedorm_servers: _Servers) -> Iterator[FreshDatabase]:
    """Give a function that makes an empty database of a kind and returns its URL; dropped after the test."""
    made: list[tuple[str, Admin, str]] = []

    def make(kind: str) -> str:
        if kind not in _FRESH:
            raise ValueError(f"fresh_database({kind!r}): the kinds are {', '.join(_FRESH)}; see also empty_redis_url")
        place = fedorm_servers.place(kind)
        name = f"t_{secrets.token_hex(5)}"
        place.admin.create(name)
        made.append((kind, place.admin, name))
        return place.url(name)

    yield make
    left: list[str] = []
    for kind, admin, name in made:
        with suppress(OSError):
            # A server sees at its next heartbeats only that a reader of its log was killed.
            for _ in range(100):
                open_connections = admin.connections(name)
                if not open_connections:
                    break
                time.sleep(0.05)
            left += [f"{kind}: {connection}" for connection in open_connections]
        admin.drop(name)
    assert not left, f"connections were left open: {left}"


def _server_fixture(kind: str) -> Any:
    @pytest.fixture(name=f"{kind}_server")
    def server(fedorm_servers: _Servers) -> Server:
        return fedorm_servers.server(kind)

    server.__doc__ = f"Our own {kind} server."
    return server


def _url_fixture(kind: str, prefix: str = "") -> Any:
    @pytest.fixture(name=f"{prefix}{kind}_url")
    def url(fresh_database: FreshDatabase) -> str:
        return fresh_database(kind)

    return url


postgresql_server = _server_fixture("postgresql")
mysql_server = _server_fixture("mysql")
mongodb_server = _server_fixture("mongodb")
clickhouse_server = _server_fixture("clickhouse")
redis_server = _server_fixture("redis")
elasticsearch_server = _server_fixture("elasticsearch")
nats_server = _server_fixture("nats")
kafka_server = _server_fixture("kafka")
rabbitmq_server = _server_fixture("rabbitmq")
postgresql_url = _url_fixture("postgresql")
second_postgresql_url = _url_fixture("postgresql", "second_")
mysql_url = _url_fixture("mysql")
mongodb_url = _url_fixture("mongodb")
second_mongodb_url = _url_fixture("mongodb", "second_")
clickhouse_url = _url_fixture("clickhouse")
elasticsearch_url = _url_fixture("elasticsearch")


@pytest.fixture
def clickhouse_http_url(fedorm_servers: _Servers) -> Iterator[str]:
    """Give an empty ClickHouse database's URL for HTTP."""
    server = fedorm_servers.server("clickhouse")
    assert isinstance(server, ClickHouseServer)
    name = f"t_{secrets.token_hex(5)}"
    server.create_database(name)
    yield server.url(name, "http")
    server.drop_database(name)


def _shared_url_fixture(kind: str) -> Any:
    @pytest.fixture(name=f"{kind}_url")
    def url(fedorm_servers: _Servers) -> str:
        given = os.environ.get(f"FEDORM_TEST_{kind.upper()}_URL")
        return given or fedorm_servers.server(kind).url()

    url.__doc__ = f"The URL of a {kind} server, which all tests share: what is kept there has names of a test's own."
    return url


redis_url = _shared_url_fixture("redis")


@pytest.fixture
def empty_redis_url(fedorm_servers: _Servers) -> Iterator[str]:
    """Give the URL of a database of our own Redis that nobody else uses, empty."""
    server = fedorm_servers.server("redis")
    assert isinstance(server, RedisServer)
    with RedisAdmin(server.url("14")).client() as client:
        client.flushdb()
        yield server.url("14")
        client.flushdb()


nats_url = _shared_url_fixture("nats")
kafka_url = _shared_url_fixture("kafka")
rabbitmq_url = _shared_url_fixture("rabbitmq")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the URL of a SQLite file that is not there yet."""
    return f"sqlite+aiosqlite:///{tmp_path / 'service.db'}"


@pytest.fixture
def chdb_url(tmp_path: Path) -> str:
    """Give the URL of an empty chDB folder."""
    pytest.importorskip("chdb")
    return f"chdb:///{tmp_path / 'chdb'}"


@pytest.fixture(autouse=True)
def fedorm_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread of fedorm's behind; needs ``fedorm_leak_check = true``."""
    if not request.config.getini("fedorm_leak_check"):
        yield
        return
    yield
    deadline = time.monotonic() + 2
    while True:
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("fedorm-")]
        if not threads or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    assert not threads, f"threads were left behind: {threads}"


@pytest.fixture
async def no_stray_tasks() -> Any:
    """Fail an async test that leaves a task running."""
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task() and not task.done()]
    assert not left, f"tasks were left running: {left}"
