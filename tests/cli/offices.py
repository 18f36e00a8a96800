"""What the tests of ``fedorm sync`` share: an office and its archive, what is in them, and the command as a process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from fedorm import Federation
from tests.cli.conftest import Shell, write_settings

MODELS = ("--models", "tests.cli.mirrors")
BOTH = ("sync_cli_office", "sync_cli_archive")


@pytest.fixture(name="shell")
def office_shell(fresh_database: Callable[[str], str], tmp_path: Path) -> Shell:
    urls = {name: fresh_database("postgresql") for name in BOTH}

    async def make() -> None:
        async with Federation(urls) as fed:
            await fed.create_all()

    asyncio.run(make())
    return Shell(tmp_path, write_settings(tmp_path, urls), urls)


def write(shell: Shell, *objects: Any) -> None:
    async def work() -> None:
        async with Federation(shell.urls) as fed, fed.session() as session:
            for one in objects:
                await session.merge(one)
            await session.commit()

    asyncio.run(work())


def remove(shell: Shell, model: type[Any], *ids: int) -> None:
    async def work() -> None:
        async with Federation(shell.urls) as fed, fed.session() as session:
            await session.execute(delete(model).where(model.__table__.primary_key.columns.values()[0].in_(ids)))
            await session.commit()

    asyncio.run(work())


def rows(shell: Shell, model: type[Any]) -> list[tuple[Any, ...]]:
    async def work() -> list[tuple[Any, ...]]:
        async with Federation(shell.urls) as fed, fed.session() as session:
            return sorted(tuple(row) for row in await session.execute(select(model.__table__)))

    return asyncio.run(work())


def listed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def of(shell: Shell, rule: str, *names: str) -> list[Any]:
    """These figures of a rule's status."""
    (found,) = listed(shell("sync", "status", rule, "--json").stdout)
    return [found[name] for name in names]


def command(shell: Shell, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "fedorm", "--config", str(shell.config), *MODELS, "sync", *arguments]


@contextmanager
def running(shell: Shell, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command for the block, and kill it if it has not ended."""
    with subprocess.Popen(
        command(shell, *arguments),
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "PYTHONWARNINGS": "error::ResourceWarning"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_up_to(stream: Any, *last: str) -> list[str]:
    """The lines of a process's output up to those that have to come, in whatever order."""
    found: list[str] = []
    missing = set(last)
    while missing:
        line = stream.readline()
        assert line, found
        found.append(line.rstrip("\n"))
        missing.discard(found[-1])
    return found


def until(what: Callable[[], Any], wanted: Any) -> None:
    """Look again and again; pytest's own limit ends it."""
    while what() != wanted:
        pass
