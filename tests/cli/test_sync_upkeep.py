"""``fedorm sync``: filling and comparing targets, rows that could not be synced, rules that rest or begin anew."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess

from tests.cli.conftest import Shell
from tests.cli.mirrors import ArchivedLetter, ListedStamp, SentLetter, SoldStamp
from tests.cli.offices import command, listed, of, office_shell, remove, rows, running, write

__all__ = ["office_shell"]


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
