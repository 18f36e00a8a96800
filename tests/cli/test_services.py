"""``fedorm services`` and ``fedorm doctor``: who is there, how it is, and what to do; and how commands fail."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedorm.cli.app import app
from fedorm.testing.servers.processes import free_port
from tests.cli.conftest import Shell, write_settings
from tests.cli.test_sql import JOINED


def listed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_services(shell: Shell) -> None:
    """Each with its kind, its address and what it can do; nobody is asked for it."""
    found = {one["service"]: one for one in listed(shell.rows("services", "--format", "json"))}
    assert {name: one["kind"] for name, one in found.items()} == {
        "people": "postgresql", "sales": "mysql", "stock": "mongodb",
    }  # fmt: skip
    assert found["people"]["address"] == re.sub(r":[^:@/]*@", "@", shell.urls["people"]).partition("?")[0]
    assert "two_phase" in found["sales"]["capabilities"]
    assert "documents" in found["stock"]["capabilities"]
    lines = shell.rows("services").splitlines()
    assert lines[0].split() == ["service", "|", "kind", "|", "address", "|", "capabilities"]
    assert [line.split()[0] for line in lines[2:]] == ["people", "sales", "stock"]


def test_all_is_well(shell: Shell) -> None:
    """Each service is up, and has said how long it takes."""
    for one in listed(shell.rows("doctor", "--format", "json")):
        assert (one["state"], one["error"], one["findings"]) == ("up", None, [])
        assert one["round_trip"] > 0
        assert re.match(r"\d+\.\d+", one["version"])
    shown = shell.rows("doctor").splitlines()
    assert [line.split(" | ")[3].strip() for line in shown[2:5]] == ["up", "up", "up"]


def test_what_is_not_well(shell: Shell, tmp_path: Path) -> None:
    """Each with its own error and what to do; the exit code says so; no password is shown."""
    (tmp_path / "ill").mkdir()
    shell.config = write_settings(
        tmp_path / "ill",
        {
            "people": shell.urls["people"],
            "away": f"postgresql+asyncpg://bob:hidden@127.0.0.1:{free_port()}/x",
            "refused": re.sub(r"//(\w+):[^@]*@", r"//\1:hidden@", shell.urls["people"]),
            "unknown": "oracle://bob:hidden@127.0.0.1/x",
        },
    )
    result = shell("doctor", "--format", "json")
    assert result.exit_code == 1
    found = {one["service"]: one for one in listed(result.stdout)}
    assert {name: one["state"] for name, one in found.items()} == {
        "people": "up", "away": "down", "refused": "down", "unknown": "down",
    }  # fmt: skip
    assert "server runs" in found["away"]["advice"]
    assert "check the user" in found["refused"]["advice"]
    assert "no store for 'oracle'" in found["unknown"]["error"]
    shown = shell("doctor")
    assert shown.exit_code == 1
    assert "\naway: service 'away' at postgresql+asyncpg://bob@127.0.0.1:" in shown.stdout
    assert "\n  what to do: " in shown.stdout
    assert "hidden" not in result.output + shown.output + shell("services").output


def test_a_query_without_its_services(shell: Shell, tmp_path: Path) -> None:
    """One line names all that are down."""
    (tmp_path / "ill").mkdir()
    away = {name: f"postgresql+asyncpg://bob:hidden@127.0.0.1:{free_port()}/x" for name in ("people", "sales")}
    shell.config = write_settings(tmp_path / "ill", away)
    refused = shell.refusal("sql", JOINED)
    assert re.search(r"service 'people' at .*; service 'sales' at ", refused)
    assert "hidden" not in refused
    assert "Traceback" in shell("--traceback", "sql", JOINED).stderr
    assert "hidden" not in shell("--traceback", "sql", JOINED).output


def test_settings_and_models_that_are_not_there(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a wrong call: exit code 2, and a line that says what to do."""
    runner = CliRunner()
    monkeypatch.chdir(tmp_path)
    good = ["--config", str(shell.config)]
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "needy.py").write_text("import not_there_at_all\n")
    (tmp_path / "bad.toml").write_text("[services.a]\nurl = '${NOT_SET_AT_ALL}'\n")
    for options, message in (
        (["--config", "none.toml"], "there is no file none.toml"),
        (["--config", "bad.toml"], "NOT_SET_AT_ALL is not set"),
        ([*good, "--models", "not_there.models"], "--models not_there.models: there is no such module"),
        ([*good, "--models", "needy"], "--models needy: it imports not_there_at_all, which is not installed"),
        ([*good, "--models", "broken"], "--models broken: cannot be imported: ZeroDivisionError"),
    ):
        result = runner.invoke(app, [*options, "services"])
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
    for wrong in (
        [],
        ["nothing"],
        ["sql", "--format", "xml", "select 1"],
        ["sql", "--limit-display", "-1", "select 1"],
    ):
        assert runner.invoke(app, [*good, *wrong]).exit_code == 2
    assert runner.invoke(app, ["--version"]).stdout.startswith("fedorm ")


# -- as a user calls it


def test_in_a_process_of_its_own(shell: Shell) -> None:
    """The settings and the models are found where it is called; data alone are on stdout."""
    done = shell.process("--models", "shop", "sql", "--format", "csv", JOINED)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"name,total,price\nAda,7.50,2.5\nAda,12.00,4.0\nBob,1.25,2.5\n"
    done = shell.process("sql", "-", input=JOINED.encode(), FEDORM_MODELS="shop", FEDORM_CONFIG=str(shell.config))
    assert (done.returncode, done.stdout.count(b"\n"), done.stderr) == (0, 5, b"(3 rows)\n")
    done = shell.process("--models", "shop", "sql", "--format", "csv", "select * from people.nobody")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"fedorm: ")
    assert done.stderr.count(b"\n") == 1
    assert shell.process("doctor").returncode == 0


def test_bytes_are_utf_8_everywhere(shell: Shell) -> None:
    """Whatever the terminal's own encoding is."""
    query = "select name from people.samples where id = 1"
    done = shell.process("-m", "shop", "sql", "-F", "jsonl", query, PYTHONIOENCODING="latin-1", LC_ALL="C")
    assert "日本" in json.loads(done.stdout.decode("utf-8"))["name"]
    done = shell.process(
        "-m", "shop", "sql", "-F", "csv", "-",
        input="select id from people.samples where name like '%日本%'".encode(), PYTHONIOENCODING="latin-1",
    )  # fmt: skip
    assert done.stdout == b"id\n1\n", done.stderr
    done = shell.process("-m", "shop", "sql", query, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_a_reader_that_leaves(shell: Shell) -> None:
    """As ``head`` does: no complaint."""
    tens = ", ".join(f"({number})" for number in range(10))
    many = f"select repeat('x', 1000) as x from people.people, (values {tens}) a(n), (values {tens}) b(n)"
    code = (
        f'{sys.executable} -m fedorm -m shop sql -F csv "{many}, (values {tens}) c(n)" | head -n 1; '
        "echo ${PIPESTATUS[0]}"
    )
    done = subprocess.run(
        ["bash", "-c", code], cwd=shell.folder, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("x\n1\n", "")


def test_on_a_terminal(shell: Shell) -> None:
    """The table has its colours, and no more rows than a terminal is good for."""
    tens = ", ".join(f"({number})" for number in range(10))
    query = f"select a.n as n from people.people, (values {tens}) a(n), (values {tens}) b(n)"
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "fedorm", "-m", "shop", "sql", query],
        cwd=shell.folder, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm-256color"},
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
    os.close(master)
    text = seen.decode()
    assert process.returncode == 0, text
    assert "\x1b[" in text
    assert sum(line.count("│") > 0 for line in text.splitlines()) == 101
    assert "(300 rows, of which 100 are shown: see --limit-display)" in text


def test_without_its_packages(tmp_path: Path) -> None:
    """Who has not installed the extra is told so, without a traceback."""
    for package in ("typer", "rich"):
        code = f"import sys; sys.modules[{package!r}] = None; import fedorm.cli; fedorm.cli.main()"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"fedorm: the command line needs the package {package!r}, which is not installed: "
            f"run  pip install 'fedorm[cli]'\n"
        )


def test_without_the_query_packages(shell: Shell) -> None:
    """A query needs another extra; the other commands do not."""
    start = "import sys; sys.modules['sqlglot'] = None; import fedorm.cli; sys.argv[1:] = {}; fedorm.cli.main()"
    for arguments, code, message in (
        (["sql", "select 1"], 2, "fedorm[query]"),
        (["explain", "select 1"], 2, "fedorm[query]"),
        (["services"], 0, ""),
    ):
        done = subprocess.run(
            [sys.executable, "-c", start.format(arguments)], cwd=shell.folder, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert message in done.stderr
        assert "Traceback" not in done.stderr
