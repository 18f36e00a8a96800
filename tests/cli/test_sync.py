"""``fedorm sync``: rules carried out by a process of its own, how they do, and calls that are wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedorm.testing.servers.processes import free_port
from tests.cli.conftest import Shell, write_settings
from tests.cli.mirrors import ArchivedLetter, ListedStamp, LoggedVisit, PaidVisit, SentLetter, SoldStamp
from tests.cli.offices import BOTH, command, lines_up_to, listed, of, office_shell, rows, running, until, write

__all__ = ["office_shell"]


# -- run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_rules_are_carried_out_until_the_process_is_told_to_stop(shell: Shell, number: signal.Signals) -> None:
    """What was there, and what is written while it runs; it says what each rule does, and ends with 0."""
    write(shell, SentLetter(id=1, text="hello"), SoldStamp(id=1, worth=5), PaidVisit(id=1, by="Ada"))
    with running(shell, "run") as process:
        assert process.stderr is not None
        begun = lines_up_to(process.stderr, "letters: running", "stamps: streaming", "visits: following")
        assert begun[0] == "carrying out: letters, stamps, visits"
        write(shell, SentLetter(id=2, text="bye"), SoldStamp(id=1, worth=6), PaidVisit(id=2, by="Bob"))
        until(lambda: rows(shell, ArchivedLetter), [(1, "hello"), (2, "bye")])
        until(lambda: rows(shell, ListedStamp), [(1, 6)])
        until(lambda: rows(shell, LoggedVisit), [(1, "Ada"), (2, "Bob")])
        process.send_signal(number)
        assert process.wait(30) == 0
        ended = process.stderr.read().splitlines()[-3:]
        assert process.stdout is not None
        assert process.stdout.read() == ""
    told = r"(\w+): stopped, [2-9] synced, 0 deleted, 0 error\(s\), 0 dead letter\(s\)"  # A batch may read a row again.
    assert [match[1] for line in ended if (match := re.match(told, line))] == ["letters", "stamps", "visits"]
    assert {one["name"]: (one["state"], one["owner"]) for one in listed(shell.rows("sync", "status", "--json"))} == {
        "letters": ("stopped", None), "stamps": ("stopped", None), "visits": ("stopped", None),
    }  # fmt: skip


def test_the_batch_in_hand_is_ended(shell: Shell) -> None:
    """Told to stop while rows are on their way, a run writes them before it ends."""
    write(shell, SentLetter(id=1, text="wait"))
    with running(shell, "run", "letters") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting 1\n"
        process.send_signal(signal.SIGTERM)
        (shell.folder / "go").touch()
        assert process.wait(30) == 0
    assert rows(shell, ArchivedLetter) == [(1, "wait")]


def test_a_batch_that_takes_too_long_is_left_to_another_process(shell: Shell) -> None:
    """Nothing of it is there, and no lease has to run out before it is done anew."""
    write(shell, SentLetter(id=1, text="wait"))
    with running(shell, "run", "letters", "--grace", "0") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting 1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert (rows(shell, ArchivedLetter), of(shell, "letters", "owner")) == ([], [None])
    (shell.folder / "go").touch()
    with running(shell, "run", "letters", "--lease", "600") as process:
        until(lambda: rows(shell, ArchivedLetter), [(1, "wait")])


def test_how_far_rules_are_is_said_now_and_then(shell: Shell) -> None:
    """With what goes wrong, and without a password."""
    write(shell, SentLetter(id=1, text="hello"))
    with running(shell, "run", "letters", "--report", "0.01") as process:
        assert process.stderr is not None
        lines_up_to(process.stderr, "letters: running")
        write(shell, SentLetter(id=2, text="bye"), SentLetter(id=3, text="never"))
        counts = r"2 synced, 0 deleted, 1 error\(s\), \d dead letter\(s\)"
        while not re.match(
            rf"letters: (running|waiting), {counts}, lag \d+\.\d s, \d+ rows/s$", process.stderr.readline()
        ):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_table_lives_on_a_terminal(shell: Shell) -> None:
    """With each rule's state and figures, until Ctrl-C."""
    write(shell, SentLetter(id=1, text="hello"), SentLetter(id=2, text="never"), SoldStamp(id=1, worth=5))
    master, slave = pty.openpty()
    with subprocess.Popen(
        command(shell, "run", "letters", "stamps"), cwd=shell.folder, stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TERM": "xterm-256color", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(slave)
        seen, wanted = (
            "",
            [r"letters +│ batch +│ \w+ +│ +\d+ +│ +0.0 s │ +1 │ +0 │ +1 │ +1 │", r"stamps +│ cdc +│ streaming"],
        )
        try:
            while not all(re.search(one, seen) for one in wanted):
                seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(master, 65536).decode())
            process.send_signal(signal.SIGINT)
            while process.poll() is None:
                try:
                    os.read(master, 65536)
                except OSError:
                    break
            assert process.wait(30) == 0
        finally:
            process.kill()
            os.close(master)
    for name in ("rule", "strategy", "state", "rows/s", "lag", "synced", "deleted", "errors", "dead letters"):
        assert name in seen


# -- status


def test_status(shell: Shell) -> None:
    """Of rules that nobody has carried out yet, and of one that has dead letters: then it ends with 1."""
    new = {
        "state": "new", "position": None, "last_sync_at": None, "synced": 0, "deleted": 0, "errors": 0,
        "dead_letters": 0, "lag_seconds": None, "lag_rows": None, "paused": False, "owner": None, "last_error": None,
    }  # fmt: skip
    office, archive = BOTH
    assert listed(shell.rows("sync", "status", "--format", "json")) == [
        {
            "name": "letters",
            "source": f"{office}.SentLetter",
            "target": f"{archive}.ArchivedLetter",
            "strategy": "batch",
        }
        | new,
        {"name": "stamps", "source": f"{office}.SoldStamp", "target": f"{archive}.ListedStamp", "strategy": "cdc"}
        | new,
        {"name": "visits", "source": f"{office}.PaidVisit", "target": f"{archive}.LoggedVisit"}
        | {"strategy": "event-driven"}
        | new,
    ]
    write(shell, SentLetter(id=1, text="hello"), SentLetter(id=2, text="never"))
    assert shell("sync", "backfill", "letters").exit_code == 1
    shown = shell("sync", "status", "letters", "visits")
    assert (shown.exit_code, shown.stderr) == (1, "")
    header, _, *lines = [[word.strip() for word in line.split(" | ")] for line in shown.stdout.splitlines()]
    assert header == [
        "rule", "from", "to", "strategy", "state", "lag", "last sync", "synced", "deleted", "errors", "dead letters",
    ]  # fmt: skip
    assert lines[0][:6] == ["letters", f"{office}.SentLetter", f"{archive}.ArchivedLetter", "batch", "stopped", "0.0 s"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", lines[0][6])
    assert lines[0][7:] == ["1", "0", "1", "1"]
    assert lines[1][:6] == ["visits", f"{office}.PaidVisit", f"{archive}.LoggedVisit", "event-driven", "new", ""]
    assert lines[2:] == [[""], ["letters: ValueError: letter 2 is not for the archive"]]
    assert of(shell, "letters", "synced", "errors", "dead_letters", "paused") == [1, 1, 1, False]


def test_status_of_a_service_that_is_down(shell: Shell) -> None:
    """What can be told is told, with the error and without its password; it ends with 1. Other commands name it."""
    (shell.folder / "ill").mkdir()
    away = {"sync_cli_archive": f"postgresql+asyncpg://bob:hidden@127.0.0.1:{free_port()}/x"}
    shell.config = write_settings(shell.folder / "ill", shell.urls | away)
    shown = shell("sync", "status", "--json")
    assert (shown.exit_code, [one["state"] for one in listed(shown.stdout)]) == (1, ["unknown"] * 3)
    assert all("'sync_cli_archive'" in one["last_error"] for one in listed(shown.stdout))
    assert "hidden" not in shown.output + shell("sync", "status").output
    for arguments in (
        ["run"], ["backfill", "letters"], ["verify", "letters"], ["pause", "letters"], ["resume", "letters"],
        ["reset", "letters"], ["dead-letters", "list"], ["dead-letters", "retry", "letters", "--all"],
    ):  # fmt: skip
        told = shell.refusal("sync", *arguments)
        assert ("'sync_cli_archive'" in told, "hidden" in told) == (True, False)


# -- calls that are wrong


def test_bad_input(shell: Shell, tmp_path: Path) -> None:
    """A wrong call ends with 2; one that names an unknown rule says which there are."""
    write(shell, SentLetter(id=1, text="hello"))
    for wrong in (
        ["run", "nothing"], ["run", "letters", "nothing"], ["status", "nothing"], ["backfill", "nothing"],
        ["verify", "nothing"], ["pause", "nothing"], ["resume", "nothing"], ["reset", "nothing"],
        ["dead-letters", "list", "nothing"], ["dead-letters", "retry", "nothing", "--all"],
        ["dead-letters", "drop", "nothing", "--all"],
    ):  # fmt: skip
        told = shell.refusal("sync", *wrong, code=2)
        assert told == "no rule has the name 'nothing'; there are: letters, stamps, visits"
    for wrong in (
        *(["run", "--lease", seconds] for seconds in ("0", "-1", "nan", "soon")),
        *(["run", "--report", seconds] for seconds in ("0", "nan")),
        *(["run", "--grace", seconds] for seconds in ("-1", "nan")),
        ["run", "--app", "tests.cli.mirrors:SentLetter"],
        ["run", "--app", "no_such_module"],
        ["status", "--format", "xml"],
        ["verify", "letters", "--sample", "-1"],
        ["pause"],
        ["backfill"],
        ["backfill", "letters", "stamps"],
        ["dead-letters", "retry", "letters"],
        ["dead-letters", "retry", "letters", "--all", "some"],
        ["dead-letters", "drop", "letters"],
        ["dead-letters"],
        ["stop"],
        [],
    ):
        assert shell("sync", *wrong).exit_code == 2, wrong
    assert rows(shell, ArchivedLetter) == []
    shell.config = write_settings(tmp_path, {"other": f"sqlite+aiosqlite:///{tmp_path / 'other.db'}"})
    for known in (["run"], ["status"], ["verify", "letters"], ["dead-letters", "list"]):
        assert shell.refusal("sync", *known, code=2) == (
            "no sync rules are known here: name the modules that declare them, with --models or --app"
        )


def test_a_rule_that_cannot_be(shell: Shell, tmp_path: Path) -> None:
    """SQLite has no log that could be read: each command ends with 2, and says what to do."""
    shell.config = write_settings(tmp_path, {name: f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in BOTH})
    for arguments in (["run"], ["status"], ["verify", "letters"]):
        told = shell.refusal("sync", *arguments, code=2)
        assert told.startswith("sync rule 'stamps': service 'sync_cli_office' at sqlite")
        assert told.endswith("has no log of changes that could be read: use RealTime() or Batch()")


def test_a_federation_that_is_named(shell: Shell) -> None:
    """With ``--app`` neither settings nor models are needed."""
    (shell.folder / "mirroring.py").write_text(
        f"from fedorm import Federation\nimport tests.cli.mirrors\nfed = Federation({shell.urls!r})\n"
    )
    write(shell, SentLetter(id=1, text="hello"))
    shell.config = shell.folder / "none.toml"

    def once(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fedorm", "sync", *arguments],
            cwd=shell.folder,
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    assert once("backfill", "letters", "--app", "mirroring")[0] == 0
    assert once("verify", "letters", "--app", "mirroring:fed") == (0, "1 row(s) compared: equal\n")
    code, told = once("status", "letters", "--app", "mirroring", "--json")
    assert (code, json.loads(told)["synced"]) == (0, 1)


def test_lists_as_json_by_a_short_name(shell: Shell) -> None:
    """``--json`` is ``--format json`` in every command that lists or counts."""
    for arguments in (["services"], ["outbox", "status"], ["saga", "status"], ["saga", "list"], ["recover"]):
        assert shell.rows(*arguments, "--json") == shell.rows(*arguments, "--format", "json")
    assert [one["state"] for one in listed(shell("doctor", "--json").stdout) if "service" in one] == ["up", "up"]
