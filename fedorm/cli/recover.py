"""``fedorm recover``: what a crash has left in doubt, and its end."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer

from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import one_line, run
from fedorm.cli.service_health import advice
from fedorm.cli.services import AsForm, AsJson, Form, form_of, write_list
from fedorm.cli.setup import Setup
from fedorm.cli.tables import show_table
from fedorm.federation import Federation
from fedorm.recovery import RecoveredBranch, Recovery


def recover(
    context: typer.Context,
    older_than: Annotated[
        float,
        typer.Option(
            "--older-than",
            metavar="SECONDS",
            min=0,
            help="Leave younger transactions alone: the processes that have begun them may be about to end them.",
        ),
    ] = 60.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Say what would be done, and change nothing.")
    ] = False,
    format: AsForm = Form.TABLE,
    as_json: AsJson = False,
) -> None:
    """End the two-phase commits that a crash has left in doubt, as was decided.

    Ends with 1 when something is in doubt still, or a service could not be asked.
    """
    setup: Setup = context.obj

    async def work() -> None:
        federation = Federation(setup.read())
        report = await federation.recover_where_possible(older_than, dry_run=dry_run)
        (_write_json if form_of(format, as_json) is Form.JSON else _show)(setup, report)
        if not report.is_complete:
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


def _write_json(setup: Setup, report: Recovery) -> None:
    names = ("service", "transaction", "age", "decision", "done", "why")
    rows: list[tuple[Any, ...]] = [
        (one.service, one.id, round(one.age, 3), _decision(one), one.done.value, setup.scrub(one.why) or None)
        for one in report.branches
    ]
    rows += [
        (name, None, None, None, "not asked", setup.scrub(one_line(error))) for name, error in report.unasked.items()
    ]
    write_list(names, rows, Form.JSON)


def _decision(branch: RecoveredBranch) -> str | None:
    return None if branch.decision is None else branch.decision.value


def _show(setup: Setup, report: Recovery) -> None:
    if report.branches:
        show_table(
            ["service", "transaction", "age", "decision", "done"],
            [
                (one.service, one.id, f"{one.age:.0f} s", _decision(one) or "", one.done.value)
                for one in report.branches
            ],
        )
        typer.echo()
    reasons = Counter(f"{one.done.value}: {' '.join(one.why.split())}" for one in report.branches if one.why)
    for reason, number in reasons.items():
        typer.echo(f"{number} {setup.scrub(reason)}")
    if not report.branches and not report.unasked:
        typer.echo("nothing is in doubt")
    assert setup.settings is not None
    for name, error in report.unasked.items():
        what_to_do = advice(error, setup.settings.services[name])
        typer.echo(f"{name}: not asked: {setup.scrub(one_line(error))}\n  what to do: {what_to_do}")
