"""What the commands for sync rules share: how a rule is named, and the federation whose rules they are."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import typer

from fedorm.cli.completing import rule_names
from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.setup import Setup, UsageError
from fedorm.federation import Federation
from fedorm.sync.resolving import ResolvedRule

T = TypeVar("T")

Rule = Annotated[
    str, typer.Argument(metavar="RULE", help="The rule's name, as in  fedorm sync status.", autocompletion=rule_names)
]
Rules = Annotated[
    list[str] | None,
    typer.Argument(metavar="RULE", help="Rules by their names; all where none is named.", autocompletion=rule_names),
]
Each = Annotated[list[str], typer.Argument(metavar="RULE", help="Rules by their names.", autocompletion=rule_names)]
App = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:NAME", help="A federation, with its rules, instead of that of --config."),
]


@asynccontextmanager
async def ruled(setup: Setup, app: str | None) -> AsyncIterator[Federation]:
    """Open a federation that has rules. Raises ``UsageError`` for one without."""
    async with setup.opened(app) as federation:
        known(federation)
        yield federation


def known(federation: Federation) -> Mapping[str, ResolvedRule]:
    """Return the rules of a federation. Raises ``UsageError`` where there are none."""
    rules = federation.sync.rules
    if not rules:
        raise UsageError("no sync rules are known here: name the modules that declare them, with --models or --app")
    return rules


def chosen(federation: Federation, names: Sequence[str] | None) -> list[str]:
    """Return these rules' names, or those of all. Raises ``UsageError`` for one that there is not."""
    rules = known(federation)
    for name in names or ():
        if name not in rules:
            raise UsageError(f"no rule has the name {name!r}; there are: {', '.join(sorted(rules))}")
    return list(dict.fromkeys(names)) if names else sorted(rules)


async def interruptible(work: Coroutine[Any, Any, T], told: str) -> T:
    """Do some work, and let SIGTERM and SIGINT cancel it: then what is under way is undone, and the exit code is 1.

    ``told`` is what becomes of it.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)

    def interrupt() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: None)  # What ends it must not be cut off in its turn.
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
        typer.echo(f"fedorm: interrupted: {told}", err=True)
        raise typer.Exit(ExitCode.FAILED) from None
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
