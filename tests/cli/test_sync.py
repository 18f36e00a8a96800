"""``fedorm sync``: rules carried out by a process of its own, and what is to be seen and done about them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select

from fedorm import Federation
from fedorm.testing.servers.processes import free_port
from tests.cli.conftest import Shell, write_settings
from tests.cli.mirrors import ArchivedLetter, ListedStamp, LoggedVisit, PaidVisit, SentLetter, SoldStamp

MODELS = ("--models", "tests.cli.mirrors")
BOTH = ("sync_cli_office", "sync_cli_archive")


@pytest.fixture
def shell(fresh_database: Callable[[str], str], tmp_path: Path) -> Shell:
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


# -- looking after them


def test_backfill(shell: Shell) -> None:
    """All rows of the source are gone through; what could not be synced makes it end with 1."""
    write(shell, *(SoldStamp(id=number, worth=number) for number in range(1, 4)))
    filled = shell.rows("sync", "backfill", "stamps")
    assert re.sub(r"in \d+\.\d s, \d+ rows/s", "in T", filled) == (
        "3 row(s) gone through in T: 3 written, 0 deleted, 0 failed\n"
    )
    write(shell, ListedStamp(id=2, worth=7), ListedStamp(id=9, worth=9))
    remove(shell, ListedStamp, 1)
    assert ": 2 written, 1 deleted, 0 failed\n" in shell.rows("sync", "backfill", "stamps")
    assert rows(shell, ListedStamp) == [(1, 1), (2, 2), (3, 3)]
    write(shell, SentLetter(id=1, text="never"), SentLetter(id=2, text="hello"))
    failed = shell("sync", "backfill", "letters")
    assert (failed.exit_code, ": 1 written, 0 deleted, 1 failed\n" in failed.stdout) == (1, True)


def test_an_interrupted_backfill_lets_the_rule_go(shell: Shell) -> None:
    """SIGTERM ends it with 1, nobody owns the rule, it is not paused, and the next one does the rest."""
    write(shell, SentLetter(id=1, text="wait"))
    with running(shell, "backfill", "letters") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "waiting 1\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
        assert process.stderr.read() == (
            "fedorm: interrupted: letters goes on from the last page when it is called again, or carried out\n"
        )
    assert of(shell, "letters", "owner", "paused", "synced") == [None, False, 0]
    (shell.folder / "go").touch()
    with running(shell, "backfill", "letters") as process:
        assert process.wait(60) == 0
    assert rows(shell, ArchivedLetter) == [(1, "wait")]


def test_a_backfill_is_a_bar_on_a_terminal(shell: Shell) -> None:
    """With the rows that are done, of how many, and how fast; its result is on stdout alone."""
    write(shell, *(SoldStamp(id=number, worth=number) for number in range(1, 4)))
    master, slave = pty.openpty()
    with subprocess.Popen(
        command(shell, "backfill", "stamps"), cwd=shell.folder, stdin=slave, stdout=subprocess.PIPE, stderr=slave,
        env={**os.environ, "PYTHONPATH": os.getcwd(), "TERM": "xterm-256color", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
        assert process.stdout is not None
        result = process.stdout.read().decode()
    os.close(master)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert process.returncode == 0
    assert re.search(r"stamps ━+ 3/3 \d+ rows/s, 0:00 left", shown)
    assert result.startswith("3 row(s) gone through in ")


def test_verify_and_repair(shell: Shell) -> None:
    """The rows that differ, how, and in what; it ends with 1 until they are mended."""
    write(shell, *(SoldStamp(id=number, worth=number) for number in range(1, 6)))
    shell.rows("sync", "backfill", "stamps")
    assert shell.rows("sync", "verify", "stamps") == "5 row(s) compared: equal\n"
    write(shell, ListedStamp(id=2, worth=7), ListedStamp(id=9, worth=9))
    remove(shell, ListedStamp, 4)
    found = shell("sync", "verify", "stamps", "--json")
    assert found.exit_code == 1
    (result,) = listed(found.stdout)
    assert result | {"ranges": 0, "differences": sorted(result["differences"], key=lambda one: one["key"])} == {
        "rule": "stamps", "rows": 5, "ranges": 0, "missing": 1, "different": 1, "superfluous": 1, "failed": 0,
        "repaired": 0, "equal": False,
        "differences": [
            {"key": [2], "kind": "different", "fields": ["worth"]},
            {"key": [4], "kind": "missing", "fields": []},
            {"key": [9], "kind": "superfluous", "fields": []},
        ],
    }  # fmt: skip
    few = shell("sync", "verify", "stamps", "--sample", "1")
    assert few.exit_code == 1
    assert few.stdout.endswith(
        "\n(3 rows, of which 1 are shown: see --sample)\n"
        "5 row(s) compared: 1 missing, 1 different, 1 superfluous, 0 failed; 0 repaired\n"
    )
    mended = shell.rows("sync", "verify", "stamps", "--repair").splitlines()
    assert [word.strip() for word in mended[0].split("|")] == ["key", "is", "fields"]
    assert sorted([word.strip() for word in line.split("|")] for line in mended[2:5]) == [
        ["2", "different", "worth"],
        ["4", "missing", ""],
        ["9", "superfluous", ""],
    ]
    assert mended[5:] == ["", "5 row(s) compared: 1 missing, 1 different, 1 superfluous, 0 failed; 3 repaired"]
    assert rows(shell, ListedStamp) == [(number, number) for number in range(1, 6)]
    assert shell.rows("sync", "verify", "stamps") == "5 row(s) compared: equal\n"


def test_verify_tells_of_rows_that_a_rule_fails_for(shell: Shell) -> None:
    """What they should be is not known, so that they are not equal."""
    write(shell, SentLetter(id=1, text="never"), SentLetter(id=2, text="hello"))
    shell("sync", "backfill", "letters")
    for arguments in ([], ["--repair"]):
        found = shell("sync", "verify", "letters", *arguments)
        assert (found.exit_code, found.stdout) == (
            1, "2 row(s) compared: 0 missing, 0 different, 0 superfluous, 1 failed; 0 repaired\n",
        )  # fmt: skip


def test_dead_letters(shell: Shell) -> None:
    """Listed with their errors, as JSON with the row, too; synced after all, or given up."""
    assert shell.rows("sync", "dead-letters", "list") == "no dead letters\n"
    assert shell.rows("sync", "dead-letters", "list", "--json") == ""
    write(shell, *(SentLetter(id=number, text="never") for number in range(1, 5)))
    shell("sync", "backfill", "letters")
    found = {one["key"][0]: one for one in listed(shell.rows("sync", "dead-letters", "list", "--json"))}
    assert sorted(found) == [1, 2, 3, 4]
    assert found[3] | {"at": 0, "id": ""} == {
        "id": "", "rule": "letters", "key": [3], "row": {"id": 3, "text": "never"}, "attempts": 1, "at": 0,
        "error": "ValueError: letter 3 is not for the archive",
    }  # fmt: skip
    shown = [line.split(" | ") for line in shell.rows("sync", "dead-letters", "list", "letters").splitlines()]
    assert [word.strip() for word in shown[0]] == ["rule", "id", "key", "at", "attempts", "error"]
    assert {line[1].strip() for line in shown[2:]} == {one["id"] for one in found.values()}
    assert shell.rows("sync", "dead-letters", "list", "stamps") == "no dead letters\n"
    ids = {number: one["id"] for number, one in found.items()}

    again = shell("sync", "dead-letters", "retry", "letters", ids[1])
    assert (again.exit_code, again.stdout) == (1, "0 row(s) synced, 1 failed again\n")
    assert [one["attempts"] for one in listed(shell.rows("sync", "dead-letters", "list", "--json"))] == [1, 1, 1, 2]
    write(shell, SentLetter(id=1, text="hello"), SentLetter(id=2, text="bye"))
    assert shell.rows("sync", "dead-letters", "retry", "letters", ids[1]) == "1 row(s) synced, 0 failed again\n"
    missing = shell("sync", "dead-letters", "retry", "letters", ids[1])
    assert (missing.exit_code, missing.stdout) == (1, "0 row(s) synced, 0 failed again\n")
    rest = shell("sync", "dead-letters", "retry", "letters", "--all")
    assert (rest.exit_code, rest.stdout) == (1, "1 row(s) synced, 2 failed again\n")
    assert rows(shell, ArchivedLetter) == [(1, "hello"), (2, "bye")]

    assert shell.rows("sync", "dead-letters", "drop", "letters", ids[3]) == "1 row(s) dropped\n"
    assert shell("sync", "dead-letters", "drop", "letters", ids[3]).exit_code == 1
    assert shell.rows("sync", "dead-letters", "drop", "letters", "--all") == "1 row(s) dropped\n"
    assert shell.rows("sync", "dead-letters", "drop", "letters", "--all") == "0 row(s) dropped\n"


def test_pause_resume_and_reset(shell: Shell) -> None:
    """Nobody carries a paused rule out; one that was reset begins anew."""
    write(shell, SoldStamp(id=1, worth=1))
    assert shell.rows("sync", "pause", "stamps") == "stamps is paused\n"
    assert of(shell, "stamps", "state", "paused") == ["paused", True]
    shell.rows("sync", "backfill", "stamps")
    assert of(shell, "stamps", "state", "paused") == ["paused", True]
    assert shell.rows("sync", "resume", "stamps") == "stamps goes on\n"
    assert of(shell, "stamps", "state", "paused") == ["stopped", False]
    assert of(shell, "stamps", "position") != [None]
    assert shell.rows("sync", "reset", "stamps") == "stamps begins anew when it is carried out next\n"
    assert of(shell, "stamps", "position", "paused") == [None, False]
    assert rows(shell, ListedStamp) == [(1, 1)]


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
        ["verify"],
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
