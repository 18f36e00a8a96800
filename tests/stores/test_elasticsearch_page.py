"""The program of ``docs/elasticsearch.md`` prints what is promised there, and the settings are valid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedorm import Federation

PAGE = Path(__file__).parents[2] / "docs" / "elasticsearch.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page(fresh_database: Callable[[str], str], tmp_path: Path) -> None:
    (program,), (expected,) = blocks("python"), blocks("text")
    (tmp_path / "shop.py").write_text(program)
    urls = {"SHOP_URL": fresh_database("postgresql"), "SEARCH_URL": fresh_database("elasticsearch")}
    done = subprocess.run(
        [sys.executable, "shop.py"], cwd=tmp_path, env=os.environ | urls, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, expected), done.stderr


def test_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_API_KEY", "s3cret")
    (tmp_path / "fedorm.toml").write_text(blocks("toml")[0])
    assert repr(Federation.from_file(tmp_path / "fedorm.toml").stores["search"]) == (
        "<ElasticsearchStore 'search' at elasticsearch+https://search.example.com:9200/shop>"
    )
