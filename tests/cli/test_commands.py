"""Every command once as it should be called and once as it should not: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedorm import Federation
from fedorm.cli.app import app
from fedorm.cli.exit_codes import ExitCode
from tests.cli.conftest import REPOSITORY
from tests.cli.kiosk import SETTINGS, KioskSale
from tests.cli.tree import commands

RULE, TILL = "kiosk_sales", "kiosk_till"
CALLS: list[tuple[str, ExitCode, str]] = [
    ("services", ExitCode.DONE, r"service +\| kind .*\n.*\nkiosk_till +\| sqlite .*\nkiosk_ledger \| sqlite .*\n"),
    ("migrate init", ExitCode.DONE, r"(wrote migrations/kiosk_(till|ledger)/\S+\n){6}"),
    (f"migrate revision --service {TILL} -m x --autogenerate", ExitCode.DONE, r"wrote migrations/kiosk_till/\S+\n"),
    ("migrate revision --service kiosk_ledger -m x --autogenerate", ExitCode.DONE, r"wrote migrations/\S+\n"),
    ("migrate heads", ExitCode.DONE, r"service .*\n.*\nkiosk_till +\| \w{12}\nkiosk_ledger \| \w{12}\n"),
    (f"migrate history -s {TILL} --json", ExitCode.DONE, r'{"service": "kiosk_till", .*"head": true, .*}\n'),
    (f"migrate current -s {TILL} --json", ExitCode.FAILED, r'{.*"revision": null, "newest": false}\n'),
    (f"migrate sql -s {TILL}", ExitCode.DONE, r"(?s).*CREATE TABLE kiosk_sales \(.*COMMIT;\s+"),
    (f"migrate check -s {TILL}", ExitCode.FAILED, r"(?s)kiosk_till\n.*kiosk_sales\n  the table is not there\n"),
    ("migrate upgrade", ExitCode.DONE, r"kiosk_till did \w{12}\nkiosk_ledger did \w{12}\n"),
    ("migrate check", ExitCode.DONE, r"models and databases agree\n"),
    (f"migrate stamp -s {TILL} head", ExitCode.DONE, r"kiosk_till is at \w{12}\n"),
    ("doctor --json", ExitCode.DONE, r'({"service": .*"state": "up".*}\n){2}{"rule": "kiosk_sales",.*}\n'),
    ("recover", ExitCode.DONE, r"nothing is in doubt\n"),
    ('sql --json "select id, cents from kiosk_till.kiosk_sales order by id"', ExitCode.DONE,
     r'\[\n{"id": 1, "cents": 5},\n{"id": 2, "cents": 5000}\n\]\n'),
    ('explain --json "select id from kiosk_till.kiosk_sales"', ExitCode.DONE, r'(?s){.*"service": "kiosk_till".*}\n'),
    ("sync status --json", ExitCode.DONE, r'{"name": "kiosk_sales", .*"state": "new".*}\n'),
    (f"sync backfill {RULE}", ExitCode.FAILED, r"2 row\(s\) gone through .*: 1 written, 0 deleted, 1 failed\n"),
    (f"sync verify {RULE} --json", ExitCode.FAILED, r'{.*"equal": false}\n'),
    (f"sync dead-letters list {RULE} --json", ExitCode.DONE, r'{.*"rule": "kiosk_sales".*sale 2 is too dear.*}\n'),
    (f"sync dead-letters retry {RULE} --all", ExitCode.FAILED, r"0 row\(s\) synced, 1 failed again\n"),
    (f"sync dead-letters drop {RULE} --all", ExitCode.DONE, r"1 row\(s\) dropped\n"),
    ("sync advance-keys", ExitCode.DONE, r"KioskEntry gives out keys beyond 2\n"),
    (f"sync pause {RULE}", ExitCode.DONE, r"kiosk_sales is paused\n"),
    (f"sync resume {RULE}", ExitCode.DONE, r"kiosk_sales goes on\n"),
    (f"sync reset {RULE}", ExitCode.DONE, r"kiosk_sales begins anew when it is carried out next\n"),
    ("outbox status --json", ExitCode.DONE, r'({"service": "kiosk_\w+", "waiting": 0, .*}\n){2}'),
    ("outbox list", ExitCode.DONE, r"no events were put aside\n"),
    ("outbox retry --all", ExitCode.DONE, r"0 event\(s\): handed on anew\n"),
    ("outbox drop nothing", ExitCode.FAILED, r"0 event\(s\): dropped\n"),
    ("saga status", ExitCode.DONE, r"no sagas\n"),
    ("saga list --json", ExitCode.DONE, r""),
    ("saga forget", ExitCode.DONE, r"0 saga\(s\) forgotten\n"),
    ("migrate downgrade --all base", ExitCode.DONE, r"kiosk_ledger undid \w{12}\nkiosk_till undid \w{12}\n"),
    (f"migrate adopt -s {TILL} old", ExitCode.DONE, r"wrote migrations/kiosk_till/alembic.ini\n"),
]  # fmt: skip
PROCESSES = {("new",), ("outbox", "run"), ("saga", "run"), ("sync", "run"), ("sync", "publish"), ("sync", "apply")}
"""What is tested in processes of its own, in files of its own; publish and apply with the brokers."""

NOWHERE, UNKNOWN = "'?nowhere'?", "no rule has the name 'nothing'; there are: kiosk_sales"
WRONG: list[tuple[str, str]] = [
    ("new", "Missing argument 'NAME'"),
    ("services --format xml", "\'xml\' is not one of \'t(able|ext)\'"),
    ("doctor --format xml", "\'xml\' is not one of \'t(able|ext)\'"),
    ("recover --older-than soon", "--older-than.*a valid number"),
    ("sql", "give one statement"),
    ("sql --file none.sql", "none.sql"),
    ('sql "select :id"', "the statement has the parameter :id"),
    ("explain", "give one statement"),
    ("explain --format xml x", "\'xml\' is not one of \'t(able|ext)\'"),
    ("outbox run --batch 0", "--batch"),
    ("outbox status --format xml", "\'xml\' is not one of \'t(able|ext)\'"),
    ("outbox list --service nowhere", NOWHERE),
    ("outbox retry", "name events by their ids"),
    ("outbox retry --all --service nowhere", NOWHERE),
    ("outbox drop --all some", "name events by their ids"),
    ("outbox drop --all --service nowhere", NOWHERE),
    ("saga run --app no_such_module", "no_such_module"),
    ("saga status --format xml", "\'xml\' is not one of \'t(able|ext)\'"),
    ("saga list --format xml", "\'xml\' is not one of \'t(able|ext)\'"),
    ("saga forget --older-than nan", "--older-than.*greater than or equal to 0"),
    *((f"migrate {one} --service nowhere", NOWHERE) for one in (
        "init", "adopt old", "revision -m x", "upgrade", "downgrade base", "stamp head", "current", "history", "heads",
        "check", "sql")),
    *((f"sync {one} nothing", UNKNOWN) for one in (
        "run", "status", "backfill", "verify", "pause", "resume", "reset", "advance-keys", "dead-letters list",
        "dead-letters retry --all", "dead-letters drop --all")),
    *((f"sync {one} --broker nats://127.0.0.1:1 nothing", UNKNOWN) for one in ("publish", "apply")),
    *((f"sync {one} --broker nats://127.0.0.1:1 --lease 0", "--lease is a number of seconds") for one in
      ("publish", "apply")),
    ("sync apply --broker nats://127.0.0.1:1 --at-once 0", "--at-once.*greater"),
]  # fmt: skip


def path_of(call: str) -> tuple[str, ...]:
    """Return a command's own words."""
    words = call.split()
    return next(tuple(words[:number]) for number in (3, 2, 1) if tuple(words[:number]) in commands())


@pytest.fixture
def kiosk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project on files of SQLite, which are not there yet."""
    (tmp_path / "fedorm.toml").write_text(SETTINGS)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "env.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("FEDORM_CONFIG", raising=False)
    return tmp_path


def call(line: str) -> Result:
    result = CliRunner().invoke(app, shlex.split(line), prog_name="fedorm")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_each_command(kiosk: Path) -> None:
    """The whole life of a project, on files of SQLite: all that a command prints, and its exit code."""
    for line, code, printed in CALLS:
        if line.startswith("migrate adopt"):
            shutil.rmtree(kiosk / "migrations")
        result = call(line)
        told = (line, result.exit_code, result.stdout, result.stderr)
        assert result.exit_code == code, told
        assert re.fullmatch(printed, result.stdout), told
        if line == "migrate check":
            asyncio.run(sell(KioskSale(id=1, cents=5), KioskSale(id=2, cents=5000)))
    assert {path_of(line) for line, _, _ in CALLS} == commands().keys() - PROCESSES


async def sell(*sales: KioskSale) -> None:
    async with Federation.from_file() as federation, federation.session() as session:
        session.add_all(sales)
        await session.commit()


@pytest.mark.parametrize(("line", "why"), WRONG)
def test_wrong_calls(line: str, why: str, kiosk: Path) -> None:
    """Each ends with 2, says why, in one line or with the usage, prints nothing, and does nothing."""
    result = call(line)
    assert (result.exit_code, result.stdout) == (ExitCode.MISUSED, ""), result.output
    assert re.search(why, result.stderr), result.stderr
    assert result.stderr.startswith("Usage: fedorm ") or re.fullmatch(r"fedorm: .*\n", result.stderr), result.stderr
    assert sorted(one.name for one in kiosk.iterdir() if not one.name.endswith((".db", "-wal", "-shm"))) == [
        "fedorm.toml", "old",
    ]  # fmt: skip


def test_each_command_has_a_wrong_call() -> None:
    """None was forgotten."""
    assert {path_of(line) for line, _ in WRONG} == commands().keys()


def test_exit_codes_are_documented() -> None:
    """The table of the page has each code, and no other; commands end with those alone."""
    page = (REPOSITORY / "docs" / "cli.md").read_text()
    assert re.findall(r"^\| (\d+) \|", page, re.MULTILINE) == [str(int(code)) for code in ExitCode]
    for file in (REPOSITORY / "fedorm" / "cli").glob("*.py"):
        endings = re.findall(r"(?:typer\.Exit|sys\.exit)\((.*?)\)", file.read_text())
        assert [one for one in endings if not one.startswith("ExitCode.")] == [], file


def test_interrupted(kiosk: Path) -> None:
    """Ctrl-C ends a command that waits for a server with 130, and without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+asyncpg://me@127.0.0.1:{silent.getsockname()[1]}/x"
        (kiosk / "fedorm.toml").write_text(f"[services.kiosk_silent]\nurl = '{url}'\n")
        place = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "fedorm", "outbox", "list"]
        with subprocess.Popen(command, env=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                with silent.accept()[0]:
                    process.send_signal(signal.SIGINT)
                    out, error = process.communicate(timeout=60)
            finally:
                process.kill()
    assert (process.returncode, out, error) == (ExitCode.INTERRUPTED, "", "")
