"""Django: its own test runner and clients, the management command, and the example under load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")

from fedorm import Federation
from tests.integrations.load import hold_under_load
from tests.integrations.serving import free_port, serving


def manage(services: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "READERS_URL": services["readers"], "LOANS_URL": services["loans"]}
    command = [sys.executable, "-m", "examples.web.django_app", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_with_djangos_own_runner(small_library: dict[str, str]) -> None:
    """Views of both kinds, the router, and what a test case undoes."""
    done = manage(small_library, "test", "tests.integrations.django_cases")
    assert "Ran 6 tests" in done.stderr, done.stderr
    assert "\nOK\n" in done.stderr, done.stderr


def test_the_command(small_library: dict[str, str]) -> None:
    """It works over the services of the settings, and ends as fedorm does."""
    assert manage(small_library, "create-tables").returncode == 0
    found = manage(small_library, "fedorm", "sql", "--format", "json", "select count(*) as n from readers.readers")
    assert (found.returncode, json.loads(found.stdout)) == (0, [{"n": 0}]), found.stderr
    assert manage(small_library, "fedorm", "sql", "select nothing from readers.readers").returncode == 1
    assert "Usage: manage.py fedorm" in manage(small_library, "fedorm", "--help").stdout


async def test_the_example_under_load(library: dict[str, str], tmp_path: Path) -> None:
    """Fifty clients of a real server, some of whom hang up: no session is shared, no connection is left."""
    pytest.importorskip("uvicorn")
    async with Federation(library) as fed:
        await fed.create_all()
    port = free_port()
    command = ["uvicorn", "tests.integrations.django_watched:app", "--port", str(port), "--log-level", "warning"]
    environment = {"READERS_URL": library["readers"], "LOANS_URL": library["loans"]}
    with serving(command, port, tmp_path / "log", **environment) as url:
        await hold_under_load(url, library, enrol="enrol")
