from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def library(fresh_database: Callable[[str], str]) -> dict[str, str]:
    """The library's two databases, in PostgreSQL."""
    return {name: fresh_database("postgresql") for name in ("readers", "loans")}


@pytest.fixture
def small_library(tmp_path: Path) -> dict[str, str]:
    """The same in SQLite."""
    return {name: f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in ("readers", "loans")}
