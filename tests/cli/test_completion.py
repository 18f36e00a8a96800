"""Completion: what a shell is told, and that a real one takes it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedorm.cli.app import app
from tests.cli.kiosk import SETTINGS
from tests.cli.tree import ROOT

BROKEN = [None, "this is no TOML", "[services]", 'models = ["exits"]\n[services.a]\nurl = "x"']


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "fedorm.toml").write_text(SETTINGS)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("FEDORM_CONFIG", raising=False)
    return tmp_path


def completed(*words: str) -> list[str]:
    """What bash is told that the last of some words may become."""
    line = {"COMP_WORDS": "\n".join(["fedorm", *words]), "COMP_CWORD": str(len(words))}
    result = CliRunner().invoke(app, [], env={**line, "_FEDORM_COMPLETE": "complete_bash"}, prog_name="fedorm")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.split()


def test_commands_and_options(project: Path) -> None:
    """Those of the whole tree, and the choices of an option."""
    assert completed("") == list(ROOT.commands)
    assert completed("sync", "dead-letters", "") == ["list", "retry", "drop"]
    assert completed("migrate", "up") == ["upgrade"]
    assert completed("services", "--j") == ["--json"]
    assert completed("sql", "--format", "j") == ["json", "jsonl"]


@pytest.mark.parametrize(
    "words",
    [("--reflect",), ("migrate", "check", "--service"), ("migrate", "sql", "-s"), ("outbox", "list", "--service"),
     ("outbox", "run", "--service")],
)  # fmt: skip
def test_services(words: tuple[str, ...], project: Path) -> None:
    """Those of the settings that the command finds or is given, whose variables need not be set."""
    assert completed(*words, "") == ["kiosk_till", "kiosk_ledger"]
    assert completed(*words, "kiosk_l") == ["kiosk_ledger"]
    other = project / "other.toml"
    other.write_text("[services.kiosk_other]\nurl = '${NOT_SET_AT_ALL}'\n")
    assert completed("--config", str(other), *words, "") == ["kiosk_other"]


@pytest.mark.parametrize("words", [("status",), ("verify",), ("run",), ("dead-letters", "retry")])
def test_rules(words: tuple[str, ...], project: Path) -> None:
    """Those of the models that the settings name, or ``--models``."""
    assert completed("sync", *words, "") == ["kiosk_sales"]
    assert completed("--models", "tests.cli.kiosk", "sync", *words, "x") == []


@pytest.mark.parametrize("broken", BROKEN)
def test_errors_complete_nothing(broken: str | None, project: Path) -> None:
    """Nor do they say anything, whatever a module does."""
    (project / "exits.py").write_text("import sys\nsys.exit('gone')")
    (project / "fedorm.toml").unlink() if broken is None else (project / "fedorm.toml").write_text(broken)
    assert completed("sync", "verify", "") == []
    assert completed("migrate", "check", "--service", "b") == []


def test_in_bash(project: Path) -> None:
    """Installed by the command itself; what a module prints as it is imported does not get in."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = project / "bin" / "fedorm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fedorm "$@"\n')
    program.chmod(0o755)
    script = """
        fedorm --install-completion
        . ~/.bashrc
        COMP_WORDS=(fedorm sync verify k) COMP_CWORD=3
        _fedorm_completion fedorm
        echo "${COMPREPLY[@]}"
        complete -p fedorm
    """
    root = str(Path(__file__).parent.parent.parent)
    home = {"HOME": str(project), "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": root}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=os.environ | home, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert (lines[0].startswith("bash completion installed in "), done.stderr) == (True, "")
    assert lines[2:] == ["kiosk_sales", "complete -o default -F _fedorm_completion fedorm"]


@pytest.mark.parametrize(("shell", "sign"), [("bash", "complete -"), ("zsh", "compdef"), ("fish", "complete --")])
def test_scripts(shell: str, sign: str) -> None:
    """What a start-up file evaluates, for each shell."""
    result = CliRunner().invoke(app, [], env={"_FEDORM_COMPLETE": f"source_{shell}"}, prog_name="fedorm")
    assert (result.exit_code, result.stderr, sign in result.stdout, "fedorm" in result.stdout) == (0, "", True, True)
