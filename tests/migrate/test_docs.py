"""The page about migrations does what is promised there."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fedorm.config import settings_from_file
from tests.test_docs_pages import blocks

PAGE = "migrations.md"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The settings and the models of the page, in a folder of their own."""
    (tmp_path / "fedorm.toml").write_text(blocks(PAGE, "toml")[0])
    (tmp_path / "shop.py").write_text(blocks(PAGE, "python")[0])
    return tmp_path


def run(folder: Path, *words: str) -> str:
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=place, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_the_commands(shop: Path) -> None:
    """They print what is printed below them, but for ids and days."""
    (console,) = blocks(PAGE, "console")
    printed = ""
    for line in re.findall(r"^\$ fedorm (.*)$", console, re.MULTILINE):
        printed += f"$ fedorm {line}\n{run(shop, '-m', 'fedorm', *shlex.split(line))}"
    ids = re.compile(r"\d{8}_[0-9a-f]{12}|[0-9a-f]{12}")
    assert ids.sub("ID", printed) == ids.sub("ID", console)


def test_the_program(shop: Path) -> None:
    """It prints what is printed below it."""
    program = blocks(PAGE, "python")[-1]
    (shop / "program.py").write_text(program)
    assert run(shop, "program.py") == blocks(PAGE, "text")[0]


def test_the_settings(shop: Path) -> None:
    """The table is valid; the folder is beside the file."""
    found = settings_from_file(shop / "fedorm.toml").migrations
    assert (found.directory, found.order) == (shop / "migrations", ("orders",))


def test_the_other_snippets() -> None:
    """They are Python."""
    for block in blocks(PAGE, "python"):
        ast.parse(block)
