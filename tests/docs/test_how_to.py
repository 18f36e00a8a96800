"""The how-to pages, each done from its first block to its last."""

from __future__ import annotations

import configparser
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedorm.config import settings_from_file
from tests.docs.pages import DOCS, blocks_of, do
from tests.docs.starting import Starter

PAGE = "how-to/deploying.md"


def test_testing(tmp_path: Path, starter: Starter) -> None:
    """The project's tests pass with nothing but the installed plugin."""
    do("how-to/testing.md", tmp_path, starter)


def test_deploying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are valid, the application says how it is, units and containers run what there is."""
    (settings, program) = (block for block in blocks_of(PAGE) if block.title in ("fedorm.toml", "main.py"))
    (tmp_path / "fedorm.toml").write_text(settings.code)
    monkeypatch.setenv("USERS_PASSWORD", "s3cret")
    monkeypatch.setenv("ORDERS_PASSWORD", "s3cret")
    read = settings_from_file(tmp_path / "fedorm.toml")
    assert (read.services["users"].pool_timeout, read.transactions.recover_on_start) == (5, True)
    assert read.services["orders"].pool_size + read.services["orders"].max_overflow == 15

    fastapi = pytest.importorskip("fastapi.testclient")
    (tmp_path / "fedorm.toml").write_text('[services.users]\nurl = "sqlite+aiosqlite:///users.db"\n')
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    exec(program.code, scope)
    with fastapi.TestClient(scope["app"]) as client:
        assert (client.get("/health").status_code, client.get("/metrics").status_code) == (200, 200)
        told = client.get("/metrics").text
    alerts = next(block.code for block in blocks_of(PAGE) if block.title == "alerts.yaml")
    known = set(re.findall(r"`(fedorm_\w+)`", (DOCS / "observability.md").read_text()))
    used = {name.removesuffix("_bucket") for name in re.findall(r"\bfedorm_\w+", alerts)}
    assert used <= known
    assert "fedorm_statement_seconds_bucket" in told


def test_units_and_containers() -> None:
    """They are well-formed, and have time to end what is in hand."""
    yaml = pytest.importorskip("yaml")
    files = {block.title: block.code for block in blocks_of(PAGE)}
    for name in ("shop.service", "shop-sync.service", "shop-recover.service", "shop-recover.timer"):
        configparser.ConfigParser(interpolation=None, strict=True).read_string(files[name])
    assert {"alert", "expr", "annotations"} == set(yaml.safe_load(files["alerts.yaml"])["groups"][0]["rules"][0])
    processes = yaml.safe_load(files["compose.yaml"])["services"]
    assert {name: one.get("command") for name, one in processes.items() if name in ("web", "sync")} == {
        "web": None,
        "sync": "fedorm sync run --grace 30",
    }
    assert all(one["stop_grace_period"] == "45s" for one in processes.values())


@pytest.mark.parametrize("page", ["index.md", "how-to/relationships.md"])
def test_programs(page: str, tmp_path: Path, starter: Starter) -> None:
    """The page's program prints what is printed below it."""
    do(page, tmp_path, starter)


def test_a_new_store(tmp_path: Path, starter: Starter) -> None:
    """The store is found by its entry point, loads, joins with another service, and passes a part of the suite."""
    pytest.importorskip("duckdb_engine")
    (project,) = (block.code for block in blocks_of("how-to/new-store.md") if block.title == "pyproject.toml")
    # What an installation would write; it would need the packages that build one.
    found = tomllib.loads(project)["project"]
    metadata = tmp_path / f"{found['name']}-{found['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {found['name']}\nVersion: {found['version']}\n")
    entries = [f"{name} = {place}" for name, place in found["entry-points"]["fedorm.stores"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[fedorm.stores]", *entries]))
    do("how-to/new-store.md", tmp_path, starter)
