"""``fedorm sync dead-letters``: rows that rules could not sync."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fedorm.cli.examples import examples
from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import run
from fedorm.cli.rules import App, Rule, Rules, chosen, interruptible, ruled
from fedorm.cli.services import AsForm, AsJson, Form, form_of
from fedorm.cli.setup import Setup, UsageError
from fedorm.cli.tables import show_table
from fedorm.cli.values import dump
from fedorm.cli.watching import moment
from fedorm.sync.dead_letters import DeadLetter

dead_letters = typer.Typer(
    no_args_is_help=True,
    help="See the rows that could not be synced, and look after them.",
    epilog=examples("fedorm sync dead-letters list --json"),
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The rows' ids, as listed.")]
All = Annotated[bool, typer.Option("--all", help="All of the rule's.")]


@dead_letters.command("list", epilog=examples("fedorm sync dead-letters list Order:OrderFact --json"))
def list_letters(
    context: typer.Context, rules: Rules = None, app: App = None, format: AsForm = Form.TABLE, as_json: AsJson = False
) -> None:
    """List the rows that could not be synced, the oldest of each rule first, with their errors.

    As JSON with the whole row of the source, too.
    """
    setup: Setup = context.obj

    async def work() -> None:
        found: list[DeadLetter] = []
        async with ruled(setup, app) as federation:
            for name in chosen(federation, rules):
                found += await federation.sync.dead_letters(name)
        if form_of(format, as_json) is Form.JSON:
            for one in found:
                plain: dict[str, Any] = {name: getattr(one, name) for name in one.__slots__}
                typer.echo(dump(plain | {"error": setup.scrub(one.error)}))
        elif found:
            show_table(
                ["rule", "id", "key", "at", "attempts", "error"],
                [
                    (one.rule, one.id, shown_key(one.key), moment(one.at), one.attempts, setup.scrub(one.error))
                    for one in found
                ],
            )
        else:
            typer.echo("no dead letters")

    run(setup, work())


@dead_letters.command(epilog=examples("fedorm sync dead-letters retry Order:OrderFact --all"))
def retry(context: typer.Context, rule: Rule, ids: Ids = None, all: All = False, app: App = None) -> None:
    """Read rows anew and sync them as they are now. Ends with 1 when one of them fails again, or is not there."""
    setup: Setup = context.obj

    async def work() -> None:
        wanted = _wanted(ids, all)
        async with ruled(setup, app) as federation:
            (name,) = chosen(federation, [rule])
            before = await _ids(federation, name, wanted)
            retrying = federation.sync.retry_dead_letters(name, wanted)
            await interruptible(retrying, f"those of {name} that were not synced are dead letters still")
            left = await _ids(federation, name, wanted)
        typer.echo(f"{len(before - left)} row(s) synced, {len(left)} failed again")
        if left or len(before) < len(set(wanted or ())):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@dead_letters.command(epilog=examples("fedorm sync dead-letters drop Order:OrderFact 948caf212373ecd9c2d5ac2b4c1e217a"))
def drop(context: typer.Context, rule: Rule, ids: Ids = None, all: All = False, app: App = None) -> None:
    """Give up rows that could not be synced; they come again when they change. Ends with 1 when one is not there."""
    setup: Setup = context.obj

    async def work() -> None:
        wanted = _wanted(ids, all)
        async with ruled(setup, app) as federation:
            (name,) = chosen(federation, [rule])
            number = await federation.sync.drop_dead_letters(name, wanted)
        typer.echo(f"{number} row(s) dropped")
        if number < len(set(wanted or ())):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


def shown_key(key: list[Any]) -> str:
    """Return a key as a person writes it: a single value, or several with commas between them."""
    return ", ".join(one if isinstance(one, str) else dump(one) for one in key)


def _wanted(ids: list[str] | None, every: bool) -> list[str] | None:
    if every == bool(ids):
        raise UsageError("name rows by their ids, as in  fedorm sync dead-letters list,  or all of them by --all")
    return ids or None


async def _ids(federation: Any, name: str, wanted: list[str] | None) -> set[str]:
    there = {one.id for one in await federation.sync.dead_letters(name)}
    return there if wanted is None else there & set(wanted)
