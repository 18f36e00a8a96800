"""``fedorm sync``: carry sync rules out, see how they do, and look after them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Annotated, Any

import typer

from fedorm.cli.dead_letters import dead_letters, shown_key
from fedorm.cli.examples import examples
from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import run
from fedorm.cli.filling import filling
from fedorm.cli.lines import write_line
from fedorm.cli.rules import App, Each, Rule, Rules, chosen, interruptible, ruled
from fedorm.cli.services import AsForm, AsJson, Form, form_of
from fedorm.cli.setup import Setup, UsageError
from fedorm.cli.tables import show_table
from fedorm.cli.through import through
from fedorm.cli.values import dump
from fedorm.cli.watching import lag_of, moment, watched
from fedorm.hydration import collector_seldom
from fedorm.recovery import opened
from fedorm.relay.handlers import declared
from fedorm.sync.accounts import LEASE
from fedorm.sync.status import RuleStatus
from fedorm.sync.strategies import EventDriven
from fedorm.sync.sync import Sync
from fedorm.sync.verifying import Verified

sync = typer.Typer(
    no_args_is_help=True,
    help="Keep data in sync between services, by the rules of models.",
    epilog=examples("fedorm sync run", "fedorm sync status --json"),
)
sync.add_typer(dead_letters, name="dead-letters")
sync.add_typer(through)


@sync.command("run", epilog=examples("fedorm sync run", "fedorm sync run --app shop.main:fed Order:OrderFact"))
def run_rules(
    context: typer.Context,
    rules: Rules = None,
    app: App = None,
    lease: Annotated[
        float, typer.Option(metavar="SECONDS", help="After which silence another process takes a rule over.")
    ] = LEASE,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long batches in hand may go on at the end.")
    ] = 30.0,
    report: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How often a line says how far a rule is, without a terminal."),
    ] = 10.0,
) -> None:
    """Carry rules out until SIGTERM or SIGINT, and end after the batches in hand.

    The rules are those of the modules that --models names, or of the federation that --app names. On a terminal a table
    shows how they do; elsewhere stderr gets a line when a rule's state changes, and what goes wrong. Any number of
    processes may run at once. What goes wrong with rows or services is retried, or put aside, and ends nothing.
    """
    setup: Setup = context.obj

    async def work() -> None:
        for option, seconds in (("lease", lease), ("report", report)):
            if not seconds > 0:  # Nor NaN.
                raise UsageError(f"--{option} is a number of seconds above zero, not {seconds:g}")
        if not grace >= 0:
            raise UsageError(f"--grace is a number of seconds, zero or more, not {grace:g}")
        async with ruled(setup, app) as federation:
            names = chosen(federation, rules)
            if not rules:  # The others are for  publish  and  apply.
                names = [name for name in names if federation.sync.rule(name).through is None]
            federation.sync.lease = lease
            if app is None and any(isinstance(federation.sync.rule(name).strategy, EventDriven) for name in names):
                federation.outbox.add(*declared())  # One relay has to know all targets.
            loop = asyncio.get_running_loop()
            write_line(f"carrying out: {', '.join(names)}")
            with watched(setup, federation, names, report=report), collector_seldom():
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(number, federation.sync.stop)
                await federation.sync.run(names, grace=grace)

    run(setup, work())


@sync.command(epilog=examples("fedorm sync status", "fedorm --models shop.models sync status --json"))
def status(
    context: typer.Context, rules: Rules = None, app: App = None, format: AsForm = Form.TABLE, as_json: AsJson = False
) -> None:
    """Show how each rule does: its state, how far behind it is, what it has synced, what went wrong.

    Ends with 1 when one has failed or has dead letters, or a service does not answer.
    """
    setup: Setup = context.obj

    async def work() -> None:
        federation = setup.federation(app)
        names = chosen(federation, rules)
        async with opened(federation.stores):
            found = [one for one in await federation.sync.status() if one.name in names]
        if form_of(format, as_json) is Form.JSON:
            for one in found:
                plain: dict[str, Any] = {name: getattr(one, name) for name in one.__slots__}
                typer.echo(dump(plain | {"last_error": _scrubbed(setup, one)}))
        else:
            _show_status(setup, found)
        if any(one.state in ("failed", "unknown") or one.dead_letters for one in found):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


def _scrubbed(setup: Setup, one: RuleStatus) -> str | None:
    return None if one.last_error is None else setup.scrub(" ".join(one.last_error.split()))


def _show_status(setup: Setup, found: list[RuleStatus]) -> None:
    names = ["rule", "from", "to", "strategy", "state", "lag", "last sync"]
    show_table(
        [*names, "synced", "deleted", "errors", "dead letters"],
        [
            (
                *(one.name, one.source, one.target, one.strategy, one.state, lag_of(one), moment(one.last_sync_at)),
                *(one.synced, one.deleted, one.errors, one.dead_letters),
            )
            for one in found
        ],
    )
    for one in found:
        if one.last_error is not None:
            typer.echo(f"\n{one.name}: {_scrubbed(setup, one)}")


@sync.command(epilog=examples("fedorm sync backfill Order:OrderFact"))
def backfill(context: typer.Context, rule: Rule, app: App = None) -> None:
    """Go through a rule's whole source and bring its target to what it should be.

    Whoever carries the rule out lets go of it meanwhile. Interrupted, it goes on from the last page when it is called
    again, or when the rule is carried out next. Ends with 1 when rows could not be synced: they are dead letters.
    """
    setup: Setup = context.obj

    async def work() -> None:
        async with ruled(setup, app) as federation:
            (name,) = chosen(federation, [rule])
            with filling(name) as show:
                filled = await interruptible(
                    federation.sync.backfill(name, progress=show),
                    f"{name} goes on from the last page when it is called again, or carried out",
                )
        typer.echo(
            f"{filled.rows} row(s) gone through in {filled.seconds:.1f} s, {filled.rate:.0f} rows/s: {filled.written} "
            f"written, {filled.deleted} deleted, {filled.failed} failed"
        )
        if filled.failed:
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


@sync.command(
    epilog=examples("fedorm sync verify Order:OrderFact --json", "fedorm sync verify Order:OrderFact --repair")
)
def verify(
    context: typer.Context,
    rules: Rules = None,
    app: App = None,
    repair: Annotated[bool, typer.Option("--repair", help="Mend rows that differ; the rule rests meanwhile.")] = False,
    sample: Annotated[int, typer.Option(help="How many rows that differ are listed at most.", min=0)] = 100,
    format: AsForm = Form.TABLE,
    as_json: AsJson = False,
) -> None:
    """Compare the source and the target of each rule, and list the rows that differ.

    Ends with 0 when both agree, or all that differed was repaired, and else with 1.
    """
    setup: Setup = context.obj

    async def work() -> None:
        told: list[dict[str, Any]] = []
        is_json = form_of(format, as_json) is Form.JSON
        async with ruled(setup, app) as federation:
            names = chosen(federation, rules)
            for name in names:
                found = await interruptible(
                    federation.sync.verify(name, repair=repair, sample=sample),
                    "nothing was changed" if not repair else f"what was repaired of {name} stays so",
                )
                told.append(asdict(found) | {"equal": found.equal})
                if not is_json:
                    _show_verified(found, f"{name}: " if len(names) > 1 else "")
        if is_json:
            typer.echo(dump(told[0] if rules is not None and len(rules) == 1 else told))
        if not all(one["equal"] for one in told):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


def _show_verified(found: Verified, which: str) -> None:
    if found.differences:
        show_table(
            ["key", "is", "fields"],
            [(shown_key(one.key), one.kind, ", ".join(one.fields)) for one in found.differences],
        )
        typer.echo()
    number = found.missing + found.different + found.superfluous
    if number > len(found.differences):
        typer.echo(f"({number} rows, of which {len(found.differences)} are shown: see --sample)")
    kinds = f"{found.missing} missing, {found.different} different, {found.superfluous} superfluous"
    told = "equal" if not number and not found.failed else f"{kinds}, {found.failed} failed; {found.repaired} repaired"
    typer.echo(f"{which}{found.rows} row(s) compared: {told}")


@sync.command("advance-keys", epilog=examples("fedorm sync advance-keys"))
def advance_keys(context: typer.Context, rules: Rules = None, app: App = None) -> None:
    """Let the targets' databases give out no key that is taken, before others than the rules write to them.

    What a rule writes has its keys already, which a sequence does not notice: without this the first rows that are
    inserted would get the same ones. Keys of rows that are gone from the source are not given out again, either.
    """
    setup: Setup = context.obj

    async def work() -> None:
        async with ruled(setup, app) as federation:
            for name in chosen(federation, rules):
                last = await federation.sync.advance_keys(name)
                label = federation.sync.rule(name).target.label
                typer.echo(f"{label} gives out no keys" if last is None else f"{label} gives out keys beyond {last}")

    run(setup, work())


@sync.command(epilog=examples("fedorm sync pause Order:OrderFact"))
def pause(context: typer.Context, rules: Each, app: App = None) -> None:
    """Let rules rest, in whichever process, until  fedorm sync resume."""
    _do(context.obj, rules, app, lambda sync, name: sync.pause(name), "is paused")


@sync.command(epilog=examples("fedorm sync resume Order:OrderFact"))
def resume(context: typer.Context, rules: Each, app: App = None) -> None:
    """Let paused rules go on."""
    _do(context.obj, rules, app, lambda sync, name: sync.resume(name), "goes on")


@sync.command(epilog=examples("fedorm sync reset Order:OrderFact"))
def reset(context: typer.Context, rules: Each, app: App = None) -> None:
    """Forget how far rules have come, and remove what they have made at the source, replication slots for example.

    Carried out again they begin with a new snapshot, and nothing is removed from the target before. Pause rules that
    are to be given up first, so that nobody carries them out meanwhile.
    """
    _do(context.obj, rules, app, lambda sync, name: sync.reset(name), "begins anew when it is carried out next")


Doing = Callable[[Sync, str], Coroutine[Any, Any, None]]


def _do(setup: Setup, rules: list[str], app: str | None, doing: Doing, told: str) -> None:
    async def work() -> None:
        async with ruled(setup, app) as federation:
            for name in chosen(federation, rules):
                await interruptible(doing(federation.sync, name), f"see how {name} is by  fedorm sync status")
                typer.echo(f"{name} {told}")

    run(setup, work())
