"""``fedorm outbox``: hand events on, see how many wait, and look after those that nobody could take."""

from __future__ import annotations

import asyncio
import datetime
import signal
from typing import Annotated

import typer

from fedorm.cli.completing import service_names
from fedorm.cli.examples import examples
from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import run
from fedorm.cli.services import AsForm, AsJson, Form, form_of, write_list
from fedorm.cli.setup import Setup, UsageError
from fedorm.cli.tables import show_table
from fedorm.cli.values import dump
from fedorm.cli.watching import moment
from fedorm.relay.handlers import declared

outbox = typer.Typer(
    no_args_is_help=True,
    help="Hand the events of outboxes on, and look after them.",
    epilog=examples("fedorm outbox run", "fedorm outbox status --json"),
)

Service = Annotated[
    list[str] | None,
    typer.Option("--service", "-s", help="Only this service's outbox. Repeatable.", autocompletion=service_names),
]
OneService = Annotated[
    str | None, typer.Option("--service", "-s", help="Only this service's outbox.", autocompletion=service_names)
]
Target = Annotated[str | None, typer.Option("--target", "-t", help="Only this target.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="The events' ids.")]
All = Annotated[bool, typer.Option("--all", help="All that were put aside.")]
App = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:NAME", help="A federation that has its targets, instead of --config."),
]


@outbox.command(
    "run",
    epilog=examples(
        "fedorm --models shop.handlers outbox run", "fedorm outbox run --app shop.main:fed --service orders"
    ),
)
def run_relay(
    context: typer.Context,
    app: App = None,
    service: Service = None,
    keep: Annotated[float, typer.Option(help="For how many seconds delivered events are kept.")] = 0.0,
    workers: Annotated[int, typer.Option(help="How many batches of a service are handed on at a time.", min=1)] = 2,
    batch: Annotated[int, typer.Option(help="How many events a batch has at most.", min=1)] = 500,
    grace: Annotated[float, typer.Option(help="For how many seconds a batch in hand may go on at the end.")] = 10.0,
) -> None:
    """Hand events on until SIGTERM or SIGINT, and end after the batch in hand.

    The targets are those of the federation that --app names, else all handlers of the modules that --models names.
    """
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened(app) as federation:
            if app is None:
                federation.outbox.add(*declared())
            if not federation.outbox.targets:
                raise UsageError(
                    "there is nothing to hand events on to: name the modules that declare handlers, with --models, or "
                    "a federation that has targets, with --app"
                )
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, federation.outbox.stop)
            typer.echo(f"handing on to: {', '.join(target.name for target in federation.outbox.targets)}", err=True)
            await federation.outbox.run(service, keep=keep, workers=workers, batch=batch, grace=grace)

    run(setup, work())


@outbox.command(epilog=examples("fedorm outbox status", "fedorm outbox status --json"))
def status(context: typer.Context, format: AsForm = Form.TABLE, as_json: AsJson = False) -> None:
    """Count the events that wait, by service. Ends with 1 when one was put aside or a service does not answer."""
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened() as federation:
            found = await federation.outbox.status()
            failed = await federation.outbox.failed()
        if form_of(format, as_json) is Form.JSON:
            for one in found:
                typer.echo(dump({name: getattr(one, name) for name in one.__slots__}))
        else:
            show_table(
                ["service", "waiting", "oldest, s", "kept", "tried again", "put aside", "error"],
                [
                    (
                        one.service,
                        one.waiting,
                        "" if one.oldest is None else f"{one.oldest:.1f}",
                        one.kept,
                        sum(one.held.values()),
                        sum(one.failed.values()),
                        one.error or "",
                    )
                    for one in found
                ],
            )
            for event in failed:
                at = datetime.datetime.fromtimestamp(event.failed_at or 0, datetime.UTC).isoformat(timespec="seconds")
                typer.echo(f"\n{event.id} {event.type} {event.key}: put aside by {event.target} at {at}")
                typer.echo(f"  after {event.attempts} tries: {setup.scrub(event.error or '')}")
        if failed or any(one.error for one in found):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@outbox.command("list", epilog=examples("fedorm outbox list", "fedorm outbox list --service orders --json"))
def list_put_aside(
    context: typer.Context,
    service: OneService = None,
    target: Target = None,
    format: AsForm = Form.TABLE,
    as_json: AsJson = False,
) -> None:
    """List the events that were put aside, with the errors they have failed with."""
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened() as federation:
            found = await federation.outbox.failed(service, target=target)
        rows = [
            (
                *(one.service, one.target, one.id, one.type, one.key, moment(one.failed_at), one.attempts),
                setup.scrub(one.error or ""),
            )
            for one in found
        ]
        names = ["service", "target", "id", "type", "key", "put aside at", "attempts", "error"]
        if form_of(format, as_json) is Form.JSON:
            names[5] = "failed_at"
        write_list(names, rows, form_of(format, as_json), "no events were put aside")

    run(setup, work())


@outbox.command(epilog=examples("fedorm outbox retry --all --target mailer", "fedorm outbox retry 0193a1b2c3d47e5f"))
def retry(
    context: typer.Context, ids: Ids = None, all: All = False, service: OneService = None, target: Target = None
) -> None:
    """Hand events on anew that were put aside."""
    _look_after("retry", context.obj, ids, all, service, target)


@outbox.command(epilog=examples("fedorm outbox drop 0193a1b2c3d47e5f"))
def drop(
    context: typer.Context, ids: Ids = None, all: All = False, service: OneService = None, target: Target = None
) -> None:
    """Give up events that were put aside."""
    _look_after("drop", context.obj, ids, all, service, target)


def _look_after(
    what: str, setup: Setup, ids: list[str] | None, every: bool, service: str | None, target: str | None
) -> None:
    async def work() -> None:
        if every == bool(ids):
            raise UsageError("name events by their ids, as in  fedorm outbox list,  or all of them by --all")
        async with setup.opened() as federation:
            method = federation.outbox.retry if what == "retry" else federation.outbox.drop
            number = await method(ids or None, service=service, target=target)
        typer.echo(f"{number} event(s): {'handed on anew' if what == 'retry' else 'dropped'}")
        if ids and not number:
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())
