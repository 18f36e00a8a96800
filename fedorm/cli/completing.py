"""What the shell completes beside commands and options: names of services and of sync rules.

Errors complete nothing: a shell has no place to show them.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import typer

from fedorm.cli.setup import Setup


def service_names(context: typer.Context) -> list[str]:
    """Return the services that the settings' file has, whether or not its environment variables are set."""

    def find() -> list[str]:
        document = tomllib.loads(_setup(context).file.read_text(encoding="utf-8"))
        return [str(name) for name in document["services"]]

    return _quietly(find)


def rule_names(context: typer.Context) -> list[str]:
    """Return the sync rules of the models, which are imported for it."""
    return _quietly(lambda: sorted(_setup(context).federation(context.params.get("app")).sync.rules))


def _setup(context: typer.Context) -> Setup:
    given = context.find_root().params
    config = given.get("config")
    return Setup(config=Path(config) if config else None, models=tuple(given.get("models") or ()))


def _quietly(find: Callable[[], list[str]]) -> list[str]:
    """Keep from the shell what modules print as they are imported, and what goes wrong."""
    with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        try:
            return find()
        except (Exception, SystemExit):
            return []
