"""The data of TPC-H, loaded once for all tests that ask it."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import duckdb
import pytest

from fedorm.query import estimating
from fedorm.query.explain import Explanation
from fedorm.query.rules import costs
from tests.query import tpch

SCALE = float(os.environ.get("FEDORM_TPCH_SCALE", "0.01"))


@contextmanager
def databases(servers: Any) -> Iterator[Callable[[str], str]]:
    """Give a function that makes a database, as ``fresh_database`` does, for longer than a test."""
    made: list[tuple[Any, str]] = []

    def make(kind: str) -> str:
        place, name = servers.place(kind), f"t_{secrets.token_hex(5)}"
        place.admin.create(name)
        made.append((place.admin, name))
        return str(place.url(name))

    try:
        yield make
    finally:
        for admin, name in made:
            admin.drop(name)


def run(work: Any) -> None:
    """Run a coroutine on an event loop of its own, away from those of the tests."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def whole() -> Iterator[duckdb.DuckDBPyConnection]:
    """The data in one DuckDB database."""
    with tpch.generate(SCALE) as connection:
        yield connection


@pytest.fixture(scope="session")
def tpch_services(whole: duckdb.DuckDBPyConnection, fedorm_servers: Any) -> Iterator[dict[str, str]]:
    """The URLs of the services that hold the data: customers, orders with their lines, suppliers, and parts."""
    with databases(fedorm_servers) as make:
        services = {name: make(kind) for name, kind in tpch.PLACEMENT.items()}
        run(tpch.load(whole, services))
        yield services


@pytest.fixture(scope="session")
def tpch_services_with_facts(
    whole: duckdb.DuckDBPyConnection, tpch_services: dict[str, str], fedorm_servers: Any
) -> Iterator[dict[str, str]]:
    """The same, and the lines of the orders in ClickHouse."""
    with databases(fedorm_servers) as make:
        url = make("clickhouse")
        run(tpch.load(whole, {"tpch_facts": url}))
        yield tpch.with_facts(tpch_services, url)


PLACEMENTS = [
    pytest.param("tpch_services", id="postgresql"),
    pytest.param("tpch_services_with_facts", id="clickhouse", marks=pytest.mark.clickhouse),
]


@pytest.fixture(params=PLACEMENTS)
def placement(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each of the two placements of the data."""
    services: dict[str, str] = request.getfixturevalue(request.param)
    return services


@pytest.fixture
def prefers_scanners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make DuckDB's own reading so cheap to the planner that it is chosen for tables of any size."""
    monkeypatch.setattr(costs, "_ATTACHED", -1e6)
    monkeypatch.setattr(estimating, "TINY", -1)
    monkeypatch.setattr(estimating, "FEW", -1)


def read_outside(explanation: Explanation) -> set[str]:
    """Return the services whose tables are not read over the session."""
    return {str(step.service) for step in explanation.root.children if step.strategy == "outside"}
