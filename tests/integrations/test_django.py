"""Django: its own test runner and clients, the management command, and the example under load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("django")
pytest.importorskip("httpx2")

import httpx2

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
    assert "Ran 9 tests" in done.stderr, done.stderr
    assert "\nOK\n" in done.stderr, done.stderr


def test_the_command(small_library: dict[str, str]) -> None:
    """It works over the services of the settings, and ends as fedorm does."""
    assert manage(small_library, "create-tables").returncode == 0
    found = manage(small_library, "fedorm", "sql", "--format", "json", "select count(*) as n from readers.readers")
    assert (found.returncode, json.loads(found.stdout)) == (0, [{"n": 0}]), found.stderr
    assert manage(small_library, "fedorm", "sql", "select nothing from readers.readers").returncode == 1
    assert "Usage: manage.py fedorm" in manage(small_library, "fedorm", "--help").stdout


WITH_SERVICES_DOWN = """
import asyncio
from examples.web import django_app
from django.test import AsyncClient, Client

async def get(path):
    answer = await AsyncClient(raise_request_exception=False).get(path)
    return answer.status_code, answer

print(asyncio.run(get("/health"))[1].json(), asyncio.run(get("/metrics"))[0], asyncio.run(get("/readers/1"))[0])
print(Client().get("/health").status_code, Client(raise_request_exception=False).get("/cards/1").status_code)
"""


def test_health_of_services_that_cannot_be_opened(small_library: dict[str, str]) -> None:
    """It is told, over ASGI and WSGI; views that ask for no session work."""
    services = small_library | {"loans": "sqlite+aiosqlite:////nowhere/loans.db"}
    environment = {**os.environ, "READERS_URL": services["readers"], "LOANS_URL": services["loans"]}
    done = subprocess.run(
        [sys.executable, "-c", WITH_SERVICES_DOWN], env=environment, capture_output=True, text=True, timeout=60
    )
    loans = {"state": "down", "error": "ServiceUnavailableError"}
    report = {"state": "down", "services": {"readers": {"state": "up"}, "loans": loans}}
    assert done.stdout == f"{report} 200 500\n503 500\n", done.stderr


SERVERS = {
    "uvicorn": ("tests.integrations.django_watched:app", "--port={port}", "readers"),
    "gunicorn": ("tests.integrations.django_wsgi_watched:app", "--bind=127.0.0.1:{port} --threads=16", "cards"),
}


@pytest.mark.parametrize("server", SERVERS)
async def test_the_example_under_load(library: dict[str, str], tmp_path: Path, server: str) -> None:
    """Fifty clients of a server of ASGI, and of one of WSGI, some of whom hang up: no session is shared or left."""
    pytest.importorskip(server)
    async with Federation(library) as fed:
        await fed.create_all()
    port = free_port()
    app, options, card = SERVERS[server]
    command = [server, app, *options.format(port=port).split(), "--log-level", "warning"]
    environment = {"READERS_URL": library["readers"], "LOANS_URL": library["loans"]}
    with serving(command, port, tmp_path / "log", **environment) as url:
        await hold_under_load(url, library, enrol="enrol", card=card)
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).json()["state"] == "up"
