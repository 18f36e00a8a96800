"""The snippets of these pages of the documentation do what is promised there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from fedorm import Federation
from tests.test_readme import run

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def test_keeping_results(tmp_path: Path) -> None:
    """The program prints what is printed below it, but for what a row takes in this Python's memory."""
    (program,), (expected,) = blocks("caching.md", "python"), blocks("caching.md", "text")
    anything = r"bytes=\d+"
    assert re.sub(anything, "", run(program, tmp_path)) == re.sub(anything, "", expected)


def test_the_cache_of_a_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is valid beside that of a service."""
    pytest.importorskip("dogpile.cache")
    (table,) = blocks("caching.md", "toml")
    monkeypatch.setenv("REDIS_PASSWORD", "s3cret")
    file = tmp_path / "fedorm.toml"
    file.write_text(f'[services.users]\nurl = "sqlite+aiosqlite:///users.db"\n{table}')
    fed = Federation.from_file(file)
    assert fed.cache.default_ttl == 60
    assert "s3cret" not in repr(vars(fed.cache))


def test_statistics(tmp_path: Path) -> None:
    """The program prints what is printed below it."""
    assert run(blocks("observability.md", "python")[0], tmp_path) == blocks("observability.md", "text")[0]


def test_metrics(tmp_path: Path) -> None:
    """The snippet registers, and every metric of the table is there, and no other."""
    client = pytest.importorskip("prometheus_client")
    with Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'users.db'}"}) as fed:
        before = set(client.REGISTRY._collector_to_names)
        exec(blocks("observability.md", "python")[1], {"fed": fed})
        try:
            fed.sync_in_doubt()
            told = client.generate_latest().decode()
        finally:
            for collector in set(client.REGISTRY._collector_to_names) - before:
                client.REGISTRY.unregister(collector)
    names = {name.removesuffix("_total") for name in re.findall(r"^# TYPE (fedorm_\w+)", told, re.MULTILINE)}
    page = (DOCS / "observability.md").read_text()
    assert names == {name.removesuffix("_total") for name in re.findall(r"`(fedorm_\w+)`", page)}
    assert 'federation="shop"' in told


def test_writing_events(tmp_path: Path) -> None:
    """The program prints what is printed below it."""
    assert run(blocks("outbox.md", "python")[0], tmp_path) == blocks("outbox.md", "text")[0]


def test_handing_events_on(tmp_path: Path) -> None:
    """The program prints what is printed below it."""
    assert run(blocks("outbox.md", "python")[-1], tmp_path) == blocks("outbox.md", "text")[-1]


def test_events_of_other_programs(tmp_path: Path) -> None:
    """Alembic writes these operations for these models, by this ``env.py``; then the program prints these events."""
    _, shop, environment, operations, program, _ = blocks("outbox.md", "python")
    config = Config(tmp_path / "alembic.ini")
    command.init(config, str(tmp_path / "migrations"))
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "migrations" / "env.py").write_text(environment)

    def alembic(*arguments: str) -> None:
        place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        words = [sys.executable, "-m", "alembic", *arguments]
        done = subprocess.run(words, cwd=tmp_path, env=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    alembic("revision", "--autogenerate", "-m", "orders")
    (revision,) = (tmp_path / "migrations" / "versions").glob("*.py")
    up, _, down = revision.read_text().partition("def downgrade()")
    assert operations in up
    assert "    op.drop_outbox_triggers('orders')\n" in down
    alembic("upgrade", "head")
    alembic("check")
    alembic("downgrade", "base")
    alembic("upgrade", "head")
    assert run(program, tmp_path) == blocks("outbox.md", "text")[1]


def test_sagas(tmp_path: Path) -> None:
    """The program prints what is printed below it."""
    (program,), (expected,) = blocks("sagas.md", "python"), blocks("sagas.md", "text")
    assert run(program, tmp_path) == expected


def test_keeping_data_in_sync(tmp_path: Path) -> None:
    """The programs print what is printed below them."""
    pytest.importorskip("tenacity")
    pytest.importorskip("chdb")
    programs, expected = blocks("sync.md", "python"), blocks("sync.md", "text")
    printed = []
    for number, program in enumerate(programs):
        (folder := tmp_path / str(number)).mkdir()
        printed.append(run(program, folder))
    assert printed == expected
    assert len(printed) == 2


WITH_CLIENT = """
import asyncio
from fastapi.testclient import TestClient

async def make_tables():
    async with fed:
        await fed.create_all()

asyncio.run(make_tables())
with TestClient(app) as client:
    print(client.post("/customers/Ada?sku=tea").json(), client.post("/customers/Bob?sku=sold-out").status_code)
    print(client.get("/customers/1").json(), client.get("/customers/2").json(), client.get("/health").status_code)
"""


def test_fastapi(tmp_path: Path) -> None:
    """The application keeps what is to be kept, and nothing of what is refused."""
    pytest.importorskip("fastapi")
    assert run(blocks("frameworks.md", "python")[0] + WITH_CLIENT, tmp_path) == "1 409\n['tea'] [] 200\n"


def test_what_a_test_has_done_is_undone(tmp_path: Path) -> None:
    """The tests pass with the fixture, in this order."""
    conftest, tests, _ = blocks("frameworks.md", "python")[-3:]
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_notes.py").write_text(tests)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert "2 passed" in done.stdout, done.stdout


def test_an_application_in_the_tests_own_loop(tmp_path: Path) -> None:
    """The application answers a client that is in its loop, and has opened its federation."""
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx2")
    application, *_, calling = blocks("frameworks.md", "python")
    called = calling.replace("        ...", "        print((await client.get('/health')).json()['state'])")
    main = f"async def main():\n{textwrap.indent(called, '    ')}\nimport asyncio\nasyncio.run(main())\n"
    program = f"from httpx2 import ASGITransport, AsyncClient\n{application}\n{main}"
    assert run(program, tmp_path) == "up\n"


WITH_FLASK = """
import asyncio

async def make_tables():
    async with Federation(create_app().config["FEDORM_SERVICES"]) as fed:
        await fed.create_all()

asyncio.run(make_tables())
client = (app := create_app()).test_client()
print(client.post("/customers/Ada?sku=tea").json, client.post("/customers/Bob?sku=sold-out").status_code)
print(client.get("/customers/1").json, client.get("/customers/2").status_code, client.get("/health").status_code)
db.close(app)
"""


def test_flask(tmp_path: Path) -> None:
    """The application keeps what is to be kept, and nothing of what is refused."""
    pytest.importorskip("flask")
    models = re.findall(r"^class .*?\n\n", blocks("frameworks.md", "python")[0], re.MULTILINE | re.DOTALL)
    imported = "from sqlalchemy.orm import Mapped, mapped_column\nfrom fedorm import *\n"
    program = imported + "".join(models) + blocks("frameworks.md", "python")[1] + WITH_FLASK
    assert run(program, tmp_path) == "{'id': 1} 409\n['tea'] 500 200\n"


WITH_DJANGO = """
from django.conf import settings
settings.configure(SECRET_KEY="x", DATABASES={}, INSTALLED_APPS=INSTALLED_APPS, MIDDLEWARE=MIDDLEWARE,
                   DATABASE_ROUTERS=DATABASE_ROUTERS, FEDORM=FEDORM, ROOT_URLCONF=__name__,
                   ALLOWED_HOSTS=["testserver"])

import django
django.setup()
from django.db import router
from django.http import JsonResponse
from django.test import Client
from django.urls import path
from sqlalchemy import literal, select

def one(request):
    found = request.fedorm.session.scalar(select(literal(1)), bind_arguments={"service": "orders"})
    return JsonResponse({"one": found})

urlpatterns = [path("one", one)]
if __name__ == "__main__":
    print(Client().get("/one").json(), router.allow_migrate("orders", "auth"), router.allow_migrate("default", "auth"))
"""


def test_django(tmp_path: Path) -> None:
    """The settings are all that a project needs."""
    pytest.importorskip("django")
    program = blocks("frameworks.md", "python")[2] + WITH_DJANGO
    assert run(program, tmp_path) == "{'one': 1} False True\n"
