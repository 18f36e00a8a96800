"""The page about migrations does what is promised there."""

from __future__ import annotations

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


def test_a_table_in_clickhouse(tmp_path: Path) -> None:
    """The revision is carried out, here in the engine that comes as a package, and undone."""
    pytest.importorskip("chdb_sqlalchemy")
    (tmp_path / "fedorm.toml").write_text('[services.views]\nurl = "chdb:///views"\n')
    run(tmp_path, "-m", "fedorm", "migrate", "init")
    run(tmp_path, "-m", "fedorm", "migrate", "revision", "--service", "views", "-m", "Make the table")
    (revision,) = (tmp_path / "migrations" / "views" / "versions").glob("*.py")
    written, _, _ = revision.read_text().partition("def upgrade()")
    needed = "from fedorm.migrate.clickhouse import Native\nimport sqlalchemy as sa\nfrom alembic import op\n"
    undone = "\ndef downgrade() -> None:\n    op.drop_table('page_views')\n"
    revision.write_text(f"{written}{needed}{blocks(PAGE, 'python')[1]}{undone}")
    run(tmp_path, "-m", "fedorm", "migrate", "upgrade")
    reading = (
        "import asyncio\nfrom fedorm import Federation\n"
        "async def main():\n"
        "    async with Federation.from_file('fedorm.toml') as fed:\n"
        "        tables = await fed.reflect('views')\n"
        "        print([column.name for column in tables['page_views'].columns])\n"
        "asyncio.run(main())\n"
    )
    assert run(tmp_path, "-c", reading) == "['user_id', 'page', 'at']\n"
    down = run(tmp_path, "-m", "fedorm", "migrate", "downgrade", "base", "--service", "views")
    assert down.startswith("views undid ")


def test_documents(tmp_path: Path, mongodb_url: str) -> None:
    """For this model autogenerate writes this class."""
    _, _, model, forward, _ = blocks(PAGE, "python")
    imported = "from typing import Annotated\nfrom beanie import Indexed\nfrom fedorm import FederatedDocument\n"
    (tmp_path / "stock.py").write_text(imported + model)
    (tmp_path / "fedorm.toml").write_text(f'[services.inventory]\nurl = "{mongodb_url}"\n')
    run(tmp_path, "-m", "fedorm", "migrate", "init")
    written = run(
        *(tmp_path, "-m", "fedorm", "--models", "stock", "migrate", "revision"),
        *("--service", "inventory", "-m", "Make the collection", "--autogenerate"),
    )
    lines = (tmp_path / written.removeprefix("wrote ").strip()).read_text().splitlines()
    assert [line for line in forward.splitlines() if line not in lines] == []
