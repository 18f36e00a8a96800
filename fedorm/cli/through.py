"""``fedorm sync publish`` and ``fedorm sync apply``: the two halves of rules that go through a message broker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from fedorm.cli.examples import examples
from fedorm.cli.failing import run
from fedorm.cli.lines import write_line
from fedorm.cli.rules import App, Rules, chosen, known, ruled
from fedorm.cli.setup import Setup, UsageError
from fedorm.federation import Federation
from fedorm.sync.accounts import LEASE

through = typer.Typer()

Broker = Annotated[
    str,
    typer.Option(
        "--broker", metavar="URL", envvar="FEDORM_SYNC_BROKER", help="Of NATS or Kafka, as in nats://host:4222."
    ),
]
Lease = Annotated[float, typer.Option(metavar="SECONDS", help="After which silence another process takes work over.")]


@through.command(epilog=examples("fedorm sync publish --broker nats://host:4222"))
def publish(context: typer.Context, broker: Broker, rules: Rules = None, app: App = None, lease: Lease = LEASE) -> None:
    """Publish the changes of rules that go through a broker, until SIGTERM or SIGINT.

    Any number of processes may run at once: each rule is one's at a time.
    """
    _carry_out(context.obj, app, rules, lease, "publishing", lambda fed, names: fed.sync.publish(broker, names))


@through.command(epilog=examples("fedorm sync apply --broker nats://host:4222 --at-once 16"))
def apply(
    context: typer.Context,
    broker: Broker,
    rules: Rules = None,
    app: App = None,
    lease: Lease = LEASE,
    at_once: Annotated[int, typer.Option(min=1, help="How many messages are written at a time.")] = 8,
) -> None:
    """Write what is published of rules that go through a broker, until SIGTERM or SIGINT.

    Any number of processes may run at once, and share the work.
    """
    _carry_out(
        context.obj, app, rules, lease, "applying", lambda fed, names: fed.sync.apply(broker, names, at_once=at_once)
    )


def _carry_out(
    setup: Setup,
    app: str | None,
    rules: list[str] | None,
    lease: float,
    doing: str,
    half: Callable[[Federation, list[str]], Coroutine[Any, Any, None]],
) -> None:
    async def work() -> None:
        if not lease > 0:  # Nor NaN.
            raise UsageError(f"--lease is a number of seconds above zero, not {lease:g}")
        async with ruled(setup, app) as federation:
            through = sorted(name for name, rule in known(federation).items() if rule.through is not None)
            names = chosen(federation, rules) if rules else through
            federation.sync.lease = lease
            write_line(f"{doing}: {', '.join(names)}")
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, federation.sync.stop)
            await half(federation, names)

    run(setup, work())
