from __future__ import annotations

import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import ModuleType

import pytest

from examples.split.before.shop.database import Sessions

OF_A_STEP = os.environ.get("SPLIT_SHOP")
"""The folder of the application as it is between two steps, where the tests are run for one."""
SPLIT = {"USERS_URL": "postgresql", "CATALOGUE_URL": "mysql", "SHOP_URL": "postgresql"}
"""The databases of the shop's three services, the last of which is the one that it had."""


@dataclass(frozen=True)
class Shop:
    """The application, open."""

    sessions: Sessions
    selling: ModuleType


def modules(package: str) -> tuple[ModuleType, ModuleType]:
    """Import what opens the application, and what it does."""
    if package.startswith("/"):
        sys.path.insert(0, package)
    name = "shop" if package.startswith("/") else f"examples.split.{package}.shop"
    return importlib.import_module(f"{name}.database"), importlib.import_module(f"{name}.selling")


@pytest.fixture(params=[OF_A_STEP] if OF_A_STEP else ["before", "after over one database", "after"])
async def shop(
    request: pytest.FixtureRequest, fresh_database: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    """Give the shop as it was, as three services over its one database, and as these over three, with empty tables."""
    package, _, over_one = str(request.param).partition(" over ")
    one = fresh_database("postgresql") if package != "after" or over_one else None
    for variable, kind in SPLIT.items():
        monkeypatch.setenv(variable, one or fresh_database(kind))
    database, selling = modules(package)
    async with database.opened(make_tables=True) as sessions:
        yield Shop(sessions, selling)
