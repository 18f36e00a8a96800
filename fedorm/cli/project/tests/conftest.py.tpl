"""The services of the tests: files of SQLite, which are gone afterwards."""

from __future__ import annotations

import pytest
from fedorm import Federation

import $package.models  # noqa: F401 - its tables are made before the first test


@pytest.fixture(scope="session")
def fedorm_federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Say which federation the fixture ``federation`` opens, and rolls back after each test."""
    folder = tmp_path_factory.mktemp("services")
    return Federation({name: f"sqlite+aiosqlite:///{folder / name}.db" for name in ("users", "orders", "inventory")})
