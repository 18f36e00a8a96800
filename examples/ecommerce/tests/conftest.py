from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from examples.ecommerce import models  # noqa: F401 - their tables are what create_all() makes
from fedorm import AsyncFederatedSession, Federation


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    """Give each service of the shop an empty database on a real server."""
    return {
        "users": fresh_database("postgresql"),
        "orders": fresh_database("postgresql"),
        "payments": fresh_database("mysql"),
        "inventory": fresh_database("mongodb"),
        "analytics": fresh_database("clickhouse"),
    }


@pytest.fixture
async def fed(urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(urls) as federation:
        await federation.create_all()
        yield federation


@pytest.fixture
async def session(fed: Federation) -> AsyncIterator[AsyncFederatedSession]:
    async with fed.session(expire_on_commit=False) as opened:
        yield opened
