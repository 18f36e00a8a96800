"""``fedorm outbox``: a relay as a process of its own, and what is to be seen and done about its events."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedorm import Federation
from fedorm.outbox.events import Event
from tests.cli.conftest import Shell, write_settings

MODULE = """
from fedorm import Federation
from fedorm.relay import handler

@handler("cli.*", service="outbox_cli", name="cli")
async def take(event, session):
    if event.key == "bad":
        raise ValueError("it is bad")
    print("took", event.key, flush=True)
"""


@pytest.fixture
def shell(fresh_database: Callable[[str], str], tmp_path: Path) -> Shell:
    urls = {"outbox_cli": fresh_database("postgresql")}
    (tmp_path / "relayed.py").write_text(MODULE)
    return Shell(tmp_path, write_settings(tmp_path, urls), urls)


async def _emit(urls: dict[str, str], *keys: str) -> None:
    async with Federation(urls) as fed:
        for key in keys:
            async with fed.session() as session:
                session.emit(Event("cli.made", key=key, data={}), service="outbox_cli")
                await session.commit()


async def _put_aside(urls: dict[str, str]) -> None:
    """Try what is there once, with a target that refuses it."""

    class Refusing:
        name, types = "refusing", ("*",)

        async def open(self, federation: Federation) -> None: ...

        async def close(self) -> None: ...

        async def deliver(self, events: object) -> None:
            raise ValueError("it is bad")

    async with Federation(urls) as fed:
        fed.outbox.add(Refusing(), attempts=1)
        async with fed.outbox.running():
            async with asyncio.timeout(20):
                while not await fed.outbox.failed():
                    await asyncio.sleep(0.05)


def test_a_relay_runs_until_it_is_told_to_stop(shell: Shell) -> None:
    """It hands on to the handlers of the modules named, also what comes later; SIGTERM ends it with 0."""
    asyncio.run(_emit(shell.urls, "first"))
    command = [sys.executable, "-m", "fedorm", "--config", str(shell.config), "--models", "relayed", "outbox", "run"]
    running = subprocess.Popen(
        command,
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert running.stderr is not None
        assert running.stdout is not None
        assert running.stderr.readline() == "handing on to: cli\n"
        assert running.stdout.readline() == "took first\n"
        asyncio.run(_emit(shell.urls, "second"))
        assert running.stdout.readline() == "took second\n"
        running.send_signal(signal.SIGTERM)
        assert (running.wait(20), running.stderr.read()) == (0, "")
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdout, running.stderr):
            if stream is not None:
                stream.close()


def test_a_relay_without_targets_is_refused(shell: Shell) -> None:
    """It would remove all events, as handed on to everybody."""
    result = subprocess.run(
        [sys.executable, "-m", "fedorm", "--config", str(shell.config), "outbox", "run"],
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "there is nothing to hand events on to" in result.stderr


def test_what_was_put_aside_is_shown_and_handed_on_anew_or_dropped(shell: Shell) -> None:
    """With its error; ``status`` ends with 1 as long as there is any."""
    assert json.loads(shell.rows("outbox", "status", "--format", "json"))["waiting"] == 0
    asyncio.run(_emit(shell.urls, "bad"))
    waiting = json.loads(shell.rows("outbox", "status", "--format", "json"))
    assert (waiting["service"], waiting["waiting"], waiting["failed"]) == ("outbox_cli", 1, {})
    asyncio.run(_put_aside(shell.urls))
    shown = shell("outbox", "status")
    assert shown.exit_code == 1
    assert "put aside by refusing" in shown.stdout
    assert "after 1 tries: ValueError: it is bad" in shown.stdout
    (held,) = (json.loads(line) for line in shell.rows("outbox", "list", "--json").splitlines())
    assert (held["service"], held["target"], held["type"], held["key"]) == ("outbox_cli", "refusing", "cli.made", "bad")
    assert (held["attempts"], held["error"], held["id"] in shown.stdout) == (1, "ValueError: it is bad", True)
    assert shell.rows("outbox", "list", "--target", "another") == "no events were put aside\n"
    assert held["id"] in shell.rows("outbox", "list", "--service", "outbox_cli")
    assert shell("outbox", "retry").exit_code == 2
    assert shell.rows("outbox", "retry", "--all") == "1 event(s): handed on anew\n"
    asyncio.run(_put_aside(shell.urls))
    (event,) = [line.split()[0] for line in shell("outbox", "status").stdout.splitlines() if "put aside by" in line]
    assert shell.rows("outbox", "drop", event) == "1 event(s): dropped\n"
    assert shell("outbox", "drop", event).exit_code == 1
    assert json.loads(shell.rows("outbox", "status", "--format", "json"))["waiting"] == 0
