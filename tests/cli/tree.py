"""The tree of the commands, as the shell sees it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import typer.main
from typer.core import TyperGroup

from fedorm.cli.app import app

ROOT = typer.main.get_command(app)
Path = tuple[str, ...]


def groups(group: Any = ROOT, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each group of commands, the whole one too."""
    yield path, group
    for name, one in group.commands.items():
        if isinstance(one, TyperGroup):
            yield from groups(one, (*path, name))


def commands() -> dict[Path, Any]:
    """Each command by its words."""
    return {
        (*path, name): one
        for path, group in groups()
        for name, one in group.commands.items()
        if not isinstance(one, TyperGroup)
    }


def examples_of(command: Any) -> list[list[str]]:
    """The words behind ``fedorm`` of the examples in a command's help; what a shell does with its output aside."""
    calls = re.findall(r"^ +fedorm (.+)$", command.epilog or "", re.MULTILINE)
    return [shlex.split(call.partition(" > ")[0]) for call in calls]


def parsed(words: Sequence[str]) -> Any:
    """The context that a call is parsed to; nothing is run."""
    context = ROOT.make_context("fedorm", list(words))
    while isinstance(context.command, TyperGroup):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context
