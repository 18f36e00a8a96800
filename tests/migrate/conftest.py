from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, inspect

from fedorm import Federation
from fedorm.config import FederationSettings, settings_from_mapping
from fedorm.stores.base import store_for
from fedorm.stores.sql import SQLStore

Federate = Callable[..., Federation]


@pytest.fixture
def federate(tmp_path: Path) -> Federate:
    """Makes a federation of these services, with its histories in a folder of the test."""

    def make(**urls: str) -> Federation:
        return Federation(settings(tmp_path, urls))

    return make


def settings(folder: Path, urls: dict[str, Any], **more: Any) -> FederationSettings:
    return settings_from_mapping(urls, {"migrations": {"directory": folder / "migrations", **more}})


def on(url: str, work: Callable[[Connection], Any]) -> Any:
    """What ``work`` returns for a connection to the database, committed."""
    store = store_for("any", settings_from_mapping({"any": url}).services["any"])
    assert isinstance(store, SQLStore)
    engine: Engine = store.sync_engine
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


def tables(url: str) -> list[str]:
    return sorted(on(url, lambda connection: inspect(connection).get_table_names()))
