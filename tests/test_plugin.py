"""The pytest plugin in a user's own project: it starts servers, says what it cannot, and finds what is left open."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedorm.testing.servers import Server

HEAD = "import asyncio, asyncpg, threading\nfrom fedorm import Federation\n"


def run(folder: Path, body: str, conftest: str = "", **environment: str) -> str:
    (folder / "test_it.py").write_text(HEAD + body)
    (folder / "conftest.py").write_text(conftest)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nfedorm_leak_check = true\n")
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("FEDORM_TEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


NO_MARIADB = """
from fedorm.testing.servers import mariadb
mariadb.find_binary = lambda *names: None  # as if nothing were there
"""


def test_a_server_that_cannot_be_had(tmp_path: Path) -> None:
    """The test is skipped with the reason and the remedy; in CI it fails."""
    body = "async def test_it(mysql_url): ...\n"
    shown = run(tmp_path, body, NO_MARIADB)
    assert "1 skipped" in shown
    assert "MariaDB cannot be started here" in shown
    assert "apt-get install mariadb-server" in shown
    assert "1 error" in run(tmp_path, body, NO_MARIADB, CI="true")
    shown = run(tmp_path, "def test_it(fresh_database): fresh_database('maria')\n")
    assert "fresh_database('maria'): the kinds are postgresql, mysql, mongodb, clickhouse, elasticsearch; see" in shown


def test_a_server_that_the_environment_names(tmp_path: Path, postgresql_server: Server) -> None:
    """No server is started; the test gets a database of its own on that one, dropped afterwards."""
    body = f"""
async def test_it(postgresql_url, second_postgresql_url):
    assert ":{postgresql_server.port}/" in postgresql_url and postgresql_url != second_postgresql_url
    async with Federation({{"users": postgresql_url}}) as fed:
        assert (await fed.health())["users"].state == "up"
    from fedorm.testing.servers import live_servers
    assert live_servers() == ()
"""
    assert "1 passed" in run(tmp_path, body, FEDORM_TEST_POSTGRESQL_URL=postgresql_server.url())


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (
            "kept = []\nasync def test_it(postgresql_url):\n"
            "    kept.append(await asyncpg.connect(postgresql_url.replace('+asyncpg', '')))\n",
            "connections were left open",
        ),
        (
            "def test_it():\n    threading.Thread(target=threading.Event().wait, args=(5,), name='fedorm-x').start()\n",
            "threads were left behind",
        ),
        (
            "async def test_it(no_stray_tasks):\n    asyncio.create_task(asyncio.sleep(5))\n",
            "tasks were left running",
        ),
    ],
    ids=["connection", "thread", "task"],
)
def test_what_a_test_leaves_is_found(tmp_path: Path, postgresql_server: Server, body: str, found: str) -> None:
    """Each is an error of the test that left it."""
    shown = run(tmp_path, body, FEDORM_TEST_POSTGRESQL_URL=postgresql_server.url())
    assert found in shown
    assert "1 error" in shown


def test_servers_end_with_the_run(tmp_path: Path) -> None:
    """Whatever the run started is gone after it."""
    body = """
async def test_it(postgresql_url, mongodb_url):
    from fedorm.testing.servers import live_servers
    print("PIDS", *(pid for server in live_servers() for pid in server.own.family()))
    assert 0
"""
    shown = run(tmp_path, body)
    pids = next(line for line in shown.splitlines() if line.startswith("PIDS")).split()[1:]
    assert len(pids) >= 2
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
