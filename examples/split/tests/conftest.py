from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import ModuleType

import pytest

from examples.split.before.shop.database import Sessions

SPLIT = {"USERS_URL": "postgresql", "CATALOGUE_URL": "mysql", "ORDERS_URL": "postgresql"}


@dataclass(frozen=True)
class Shop:
    """The application, before it was split or after, open."""

    sessions: Sessions
    selling: ModuleType


@pytest.fixture(params=["before", "after, one database", "after"])
async def shop(
    request: pytest.FixtureRequest, fresh_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    """The same tests are for the shop as it was, for that of three services over its one database, and over three."""
    package, _, only = str(request.param).partition(", ")
    if package == "before":
        monkeypatch.setenv("SHOP_URL", fresh_database("postgresql"))
    else:
        one = fresh_database("postgresql") if only else None
        for variable, kind in SPLIT.items():
            monkeypatch.setenv(variable, one or fresh_database(kind))
    database, selling = (
        importlib.import_module(f"examples.split.{package}.shop.{one}") for one in ("database", "selling")
    )
    async with database.opened(make_tables=True) as sessions:
        yield Shop(sessions, selling)
