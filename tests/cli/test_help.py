"""Help, lists as JSON, and wrong calls, over the whole tree of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedorm.cli.app import app
from tests.cli.tree import commands, examples_of, groups, parsed

COMMANDS = commands()

LISTS = {
    ("services",), ("doctor",), ("recover",), ("sql",), ("explain",),
    ("outbox", "status"), ("outbox", "list"), ("saga", "status"), ("saga", "list"),
    ("migrate", "current"), ("migrate", "history"), ("migrate", "heads"), ("migrate", "check"),
    ("sync", "status"), ("sync", "verify"), ("sync", "dead-letters", "list"),
}  # fmt: skip
"""The commands that list something, count, or compare."""

CALLS: dict[tuple[str, ...], list[str]] = {path: [] for path in COMMANDS} | {
    ("sql",): ["select 1"],
    ("explain",): ["select 1"],
    ("outbox", "retry"): ["--all"],
    ("outbox", "drop"): ["--all"],
    ("migrate", "adopt"): ["--service", "users", "alembic"],
    ("migrate", "revision"): ["--service", "users", "-m", "x"],
    ("migrate", "downgrade"): ["--all", "base"],
    ("migrate", "stamp"): ["head"],
    ("migrate", "sql"): ["--service", "users"],
    ("sync", "publish"): ["--broker", "nats://127.0.0.1:1"],
    ("sync", "apply"): ["--broker", "nats://127.0.0.1:1"],
    ("sync", "dead-letters", "retry"): ["rule", "--all"],
    ("sync", "dead-letters", "drop"): ["rule", "--all"],
    **{("sync", name): ["rule"] for name in ("backfill", "verify", "pause", "resume", "reset")},
}
"""What each command has to be called with."""


def named(path: tuple[str, ...]) -> str:
    return " ".join(path)


def test_each_command_lists_as_json_or_does_something() -> None:
    """``--json`` is there for all that list, and only there."""
    having = {path for path, command in COMMANDS.items() if any("--json" in one.opts for one in command.params)}
    assert having == LISTS


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_help_has_examples(path: tuple[str, ...]) -> None:
    """Each command's help says what it does, and shows calls, a line each, that are calls of that very command."""
    examples = examples_of(COMMANDS[path])
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "60"})
    assert (result.exit_code, result.stderr, bool(examples)) == (0, "", True)
    shown = result.stdout.splitlines()
    assert shown[0].split()[:1] + shown[0].split()[2 : 2 + len(path)] == ["Usage:", *path]
    assert COMMANDS[path].help.split()[0] in result.stdout
    for line in COMMANDS[path].epilog.splitlines()[1:]:
        assert f"  {line}" in shown
    for words in examples:
        assert parsed(words).command is COMMANDS[path], words


@pytest.mark.parametrize(("path", "group"), [pytest.param(*one, id=named(one[0]) or "fedorm") for one in groups()])
def test_groups_have_help(path: tuple[str, ...], group: object) -> None:
    """A group without a command shows its own, with examples of its commands, and ends with 2, as the call is wrong."""
    examples = examples_of(group)
    alone = CliRunner().invoke(app, list(path))
    result = CliRunner().invoke(app, [*path, "-h"])
    assert (alone.exit_code, result.exit_code, result.stderr) == (2, 0, "")
    assert alone.output == result.output
    assert examples
    for words in examples:
        assert len(path) == 0 or tuple(words[: len(path)]) == path
        assert parsed(words).command in COMMANDS.values()


@pytest.mark.parametrize("path", COMMANDS, ids=named)
def test_a_wrong_option(path: tuple[str, ...]) -> None:
    """It is named, with the usage, and with 2."""
    result = CliRunner().invoke(app, [*path, *CALLS[path], "--nonsense"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: ")
    assert "--nonsense" in result.stderr


@pytest.mark.parametrize("path", [path for path in COMMANDS if path != ("new",)], ids=named)
def test_without_settings(path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says where they were looked for, with 2."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDORM_CONFIG", raising=False)
    result = CliRunner().invoke(app, [*path, *CALLS[path]])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"fedorm: there is no fedorm.toml in {tmp_path}, {tmp_path.parent}, ")
    assert result.stderr.endswith("/: write one with a table [services.<name>] for each service, name it with --config "
                                  "or FEDORM_CONFIG, or begin a project with  fedorm new <name>\n")  # fmt: skip
