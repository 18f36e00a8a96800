from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib.util import find_spec

import pytest

from fedorm import AsyncFederatedSession, Federation
from tests import models  # noqa: F401 - their tables are what create_all() makes

HAS_CLICKHOUSE = find_spec("clickhouse_sqlalchemy") is not None
"""Its driver needs SQLAlchemy below 2.1; everything else is tested with later ones, too."""


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    """One database a service, over all four kinds of server."""
    return {
        "users": fresh_database("postgresql"),
        "orders": fresh_database("postgresql"),
        "payments": fresh_database("mysql"),
        "inventory": fresh_database("mongodb"),
        "suppliers": fresh_database("mongodb"),
        "analytics": fresh_database("clickhouse" if HAS_CLICKHOUSE else "postgresql"),
    }


@pytest.fixture
async def fed(urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(urls) as federation:
        await federation.create_all()
        yield federation


@pytest.fixture
async def session(fed: Federation) -> AsyncIterator[AsyncFederatedSession]:
    async with fed.session() as opened:
        yield opened
