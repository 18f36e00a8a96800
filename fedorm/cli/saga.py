"""``fedorm saga``: end what a crash has left of sagas, see how they are, and forget the old ones."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from fedorm.cli.examples import examples
from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import run
from fedorm.cli.lines import log_lines
from fedorm.cli.services import AsForm, AsJson, Form, form_of, write_list
from fedorm.cli.setup import Setup, UsageError
from fedorm.sagas import SagaState, State
from fedorm.sagas.sagas import GRACE, LEASE, WEEK
from fedorm.sagas.steps import declared_names

saga = typer.Typer(
    no_args_is_help=True,
    help="End the sagas that a crash has left, and look after them.",
    epilog=examples("fedorm saga run", "fedorm saga list --json"),
)

App = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:NAME", help="A federation, instead of that of --config."),
]


@saga.command(
    "run", epilog=examples("fedorm --models shop.steps saga run", "fedorm --models shop.steps saga run --once")
)
def run_sagas(
    context: typer.Context,
    app: App = None,
    once: Annotated[bool, typer.Option("--once", help="End what is due now, and then end.")] = False,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="How often to look for sagas.")] = 5.0,
    lease: Annotated[
        float, typer.Option(metavar="SECONDS", help="After which silence another runner takes a saga over.")
    ] = LEASE,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long the saga in hand may go on at the end.", min=0)
    ] = GRACE,
) -> None:
    """End the sagas that nobody is at, forward or back, until SIGTERM or SIGINT, and end after the saga in hand.

    Their steps are those of the modules that --models names, or that --app imports. With --once the command ends with 1
    when a saga is left that is not over and that nobody is at.
    """
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened(app) as federation:
            names = declared_names()
            if not names:
                raise UsageError("no steps are known here: name the modules that declare them, with --models or --app")
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, federation.sagas.stop)
            with log_lines(setup, "fedorm.sagas"):
                typer.echo(f"ending sagas with the steps: {', '.join(names)}", err=True)
                if not once:
                    await federation.sagas.run(every=every, lease=lease, grace=grace)
                    return
                ended = await federation.sagas.run_once(lease=lease, grace=grace)
            now = time.time()
            left = [one for one in await federation.sagas.unfinished() if one.until < now]
        typer.echo(f"{len(ended)} saga(s){_by_state(ended)}; {len(left)} left")
        if left:
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@saga.command(epilog=examples("fedorm saga status --json"))
def status(context: typer.Context, format: AsForm = Form.TABLE, as_json: AsJson = False) -> None:
    """Count the sagas of each service by their state. Ends with 1 where compensations fail."""
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened() as federation:
            counts = await federation.sagas.status()
            failing = Counter(one.service for one in await federation.sagas.unfinished() if one.failures)
        rows = [
            (service, *(found.get(state, 0) for state in State), failing[service]) for service, found in counts.items()
        ]
        write_list(
            ["service", *(state.value for state in State), "failing"], rows, form_of(format, as_json), "no sagas"
        )
        if failing:
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@saga.command("list", epilog=examples("fedorm saga list --json"))
def list_unfinished(context: typer.Context, format: AsForm = Form.TABLE, as_json: AsJson = False) -> None:
    """List the sagas that are not over: their age, the step that is next, and the last error."""
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened() as federation:
            found = await federation.sagas.unfinished()
        now = time.time()
        names = ["service", "saga", "id", "state", "step", "age", "failures", "led", "error"]
        rows: list[tuple[Any, ...]] = []
        for one in found:
            age, led = now - one.begun_at, one.until > now
            error = setup.scrub(one.error or "")
            start = (one.service, one.name, one.id, one.state.value, _step(one))
            if form_of(format, as_json) is Form.JSON:
                rows.append((*start, round(age, 3), one.failures, led, error or None))
            else:
                rows.append((*start, f"{age:.0f} s", one.failures, "yes" if led else "no", error))
        write_list(names, rows, form_of(format, as_json), "no sagas")

    run(setup, work())


@saga.command(epilog=examples("fedorm saga forget --older-than 86400"))
def forget(
    context: typer.Context,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            metavar="SECONDS",
            min=0,
            help="Keep those that were over later: their marks stop a step that comes late.",
        ),
    ] = WEEK,
) -> None:
    """Drop the sagas that were over long ago, with the marks that their steps have left."""
    setup: Setup = context.obj

    async def work() -> None:
        async with setup.opened() as federation:
            number = await federation.sagas.forget(older_than=older_than)
        typer.echo(f"{number} saga(s) forgotten")

    run(setup, work())


def _step(one: SagaState) -> str | None:
    """Return the step that is to be done next, or to be undone."""
    place = one.position if one.state is State.RUNNING else one.position - 1
    return one.steps[place].name if 0 <= place < len(one.steps) else None


def _by_state(ended: Sequence[SagaState]) -> str:
    counts = Counter(one.state for one in ended)
    return ": " + ", ".join(f"{counts[state]} {state.value}" for state in State if counts[state]) if counts else ""
