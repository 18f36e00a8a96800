"""The site is built without a warning, needs nothing from elsewhere, and has every public name."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType

import pytest

from tests.docs.pages import DOCS, REPOSITORY

PUBLIC = (
    "fedorm",
    "fedorm.sync",
    "fedorm.migrate",
    "fedorm.migrate.clickhouse",
    "fedorm.outbox",
    "fedorm.relay",
    "fedorm.relay.brokers",
    "fedorm.sagas",
    "fedorm.integrations.fastapi",
    "fedorm.testing.servers",
    "fedorm.testing.compliance",
)
"""Modules whose ``__all__`` says what is public."""
OPEN = (
    "fedorm.exc",
    "fedorm.stores.base",
    "fedorm.stores.rows",
    "fedorm.stores.feeds",
    "fedorm.relay.targets",
    "fedorm.integrations.starlette",
    "fedorm.testing.rolling_back",
)
"""Modules of which all is public that has no underscore before its name and was not imported."""
NAMED = (
    "fedorm.config.FederationSettings",
    "fedorm.config.ServiceSettings",
    "fedorm.integrations.django.asgi.get_asgi_application",
    "fedorm.integrations.django.middleware.SessionMiddleware",
    "fedorm.integrations.django.router.FedormRouter",
    "fedorm.integrations.django.sessions.RequestSessions",
    "fedorm.integrations.django.sessions.federation",
    "fedorm.integrations.django.testing.FederatedTestCase",
    "fedorm.integrations.flask.Fedorm",
    "fedorm.query.explain.Explanation",
    "fedorm.query.explain.Explanation.to_svg",
    "fedorm.query.explain.Node",
    "fedorm.relay.consuming.Consumer",
    "fedorm.stats.Statistics",
    "fedorm.stats.Observer",
    "fedorm.stores.sql.SQLStore",
    "fedorm.sync.status.RuleStatus",
    "fedorm.sync.sync.Sync.backfill",
    "fedorm.sync.verifying.Verified",
    "fedorm.telemetry.register",
    "fedorm.telemetry.trace",
    "fedorm.testing.federations.federation",
    "fedorm.testing.federations.sync_federation",
    "fedorm.testing.plugin.fresh_database",
    "fedorm.twophase.reports.Recovery",
)
"""What is public in modules that have more, of which some want an application's settings to be imported."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does it."""
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings_handlers.python")
    folder = tmp_path_factory.mktemp("site")
    run = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    place = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(run, cwd=REPOSITORY, env=place, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class _Loaded(HTMLParser):
    """What a browser fetches for a page by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.found.add(given.get("src") or "")
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.found.add(given.get("href") or "")


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and figures are the site's own."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text())
        assert [place for place in loaded.found if place.startswith(("http:", "https:", "//"))] == [], page
    for style in site.rglob("*.css"):
        assert re.findall(r"url\([\"']?(?:https?:)?//[^)]*", style.read_text()) == [], style


def test_every_public_name_has_an_entry(site: Path) -> None:
    """The inventory, by which other sites link to this one, has all of them."""
    from mkdocstrings import Inventory

    with (site / "objects.inv").open("rb") as file:
        entries = set(Inventory.parse_sphinx(file))
    names = {f"{module}.{name}" for module in PUBLIC for name in importlib.import_module(module).__all__}
    for module in OPEN:
        found = [(name, it) for name, it in vars(importlib.import_module(module)).items() if not name.startswith("_")]
        own = {name for name, it in found if isinstance(it, type | FunctionType) and it.__module__ == module}
        names |= {f"{module}.{name}" for name in own}
    assert len(names) > 150
    assert sorted((names | {*NAMED}) - entries) == []


def test_figures_are_those_of_the_script() -> None:
    """Whoever changes a figure changes what draws it; on the pages each is shown, with words in its place."""
    done = subprocess.run(
        [sys.executable, "-c", "import figures; print({one.name: one.svg() for one in figures.FIGURES})"],
        cwd=REPOSITORY / "scripts", capture_output=True, text=True, check=True,
    )  # fmt: skip
    drawn = eval(done.stdout)
    assert drawn == {path.stem: path.read_text() for path in (DOCS / "explanation").glob("*.svg")}
    shown = "".join(path.read_text() for path in (DOCS / "explanation").glob("*.md"))
    assert set(re.findall(r"!\[[^\]]{20,}\]\((\w+)\.svg\)", shown)) == drawn.keys()
