"""How rules do while they are carried out: a table that lives on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rich import box
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from fedorm.cli.lines import log_lines, write_line
from fedorm.cli.setup import Setup
from fedorm.cli.tables import console, printable
from fedorm.exc import FedormError
from fedorm.federation import Federation
from fedorm.sync.status import RuleStatus

_LOOK = 1.0
"""How often, in seconds, it is looked how rules do."""
_WINDOW = 10
"""Of how many of the latest looks a rate is made."""
_STYLES = {"failed": "bold red", "retrying": "yellow", "unknown": "red", "paused": "dim", "stopped": "dim"}
_NAMES = ("rule", "strategy", "state", "rows/s", "lag", "synced", "deleted", "errors", "dead letters")


class Rates:
    """How many rows a second are synced, of each rule."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def of(self, one: RuleStatus, now: float | None = None) -> float:
        """Take in how a rule does, and return its rate over the latest looks."""
        seen = self._seen.setdefault(one.name, deque(maxlen=_WINDOW))
        seen.append((time.monotonic() if now is None else now, one.synced + one.deleted))
        (first, before), (last, after) = seen[0], seen[-1]
        return max(0, after - before) / (last - first) if last > first else 0.0


@contextmanager
def watched(setup: Setup, federation: Federation, names: Collection[str], *, report: float) -> Iterator[None]:
    """Show how these rules do as long as the block runs, with what is logged about them.

    Where stdout is no terminal a line on stderr says of each what it does now, and, every ``report`` seconds in which
    something was synced, how far it is.
    """
    terminal = console()
    if not terminal.is_terminal:
        lines = _Lines(federation, names, report)
        with log_lines(setup, "fedorm.sync"), _while(lines.watch()):
            yield
        lines.end()
        return
    with Live(console=terminal, auto_refresh=False) as live:
        write = terminal.print
        with (
            log_lines(setup, "fedorm.sync", lambda line: write(printable(line))),
            _while(_show(live, federation, names)),
        ):
            yield


@contextmanager
def _while(watch: Any) -> Iterator[None]:
    task = asyncio.ensure_future(watch)
    try:
        yield
    finally:
        task.cancel()


async def _show(live: Live, federation: Federation, names: Collection[str]) -> None:
    rates = Rates()
    while True:
        with suppress(FedormError, SQLAlchemyError):  # Looked at again in a moment; those at work tell of it.
            found = [one for one in await federation.sync.status() if one.name in names]
            live.update(_table([(one, rates.of(one)) for one in found]), refresh=True)
        await asyncio.sleep(_LOOK)


def _table(rows: Sequence[tuple[RuleStatus, float]]) -> Table:
    table = Table(box=box.ROUNDED, header_style="bold cyan", border_style="bright_black")
    for place, name in enumerate(_NAMES):
        table.add_column(name, justify="right" if place > 2 else "left", overflow="fold")
    for one, rate in rows:
        counts = [f"{number:,}" for number in (one.synced, one.deleted, one.errors, one.dead_letters)]
        table.add_row(
            Text(printable(one.name)),
            Text(one.strategy),
            Text(one.state, style=_STYLES.get(one.state, "green")),
            Text(f"{rate:,.0f}"),
            Text(lag_of(one)),
            *(Text(text, style="red" if place > 1 and text != "0" else "") for place, text in enumerate(counts)),
        )
    return table


def lag_of(one: RuleStatus) -> str:
    """Return how far behind a rule is, as text; empty where that is not known."""
    return "" if one.lag_seconds is None else f"{one.lag_seconds:.1f} s"


def moment(at: float | None) -> str:
    """Return a moment in ISO 8601; empty for none."""
    return "" if at is None else datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="seconds")


class _Lines:
    def __init__(self, federation: Federation, names: Collection[str], report: float) -> None:
        self._federation, self._names, self._report = federation, names, report
        self._rates = Rates()
        self._states: dict[str, str] = {}
        self._told: dict[str, tuple[float, int]] = {}

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            for one in self._now():
                rate, now = self._rates.of(one), time.monotonic()
                state = "running" if one.state == "waiting" else one.state  # From one look to the next and back.
                if state != self._states.get(one.name, "new"):
                    self._states[one.name] = state
                    write_line(f"{one.name}: {state}")
                at, before = self._told.setdefault(one.name, (now, one.synced + one.deleted))
                if one.synced + one.deleted != before and now - at >= self._report:
                    self._told[one.name] = now, one.synced + one.deleted
                    write_line(f"{one.name}: {far(one)}, {rate:.0f} rows/s")
            await asyncio.sleep(_LOOK / 5)

    def end(self) -> None:
        """Say how far each has come."""
        for one in self._now():
            write_line(f"{one.name}: {far(one)}")

    def _now(self) -> list[RuleStatus]:
        return [one for one in self._federation.sync.status() if one.name in self._names]


def far(one: RuleStatus) -> str:
    """Return how far a rule is, in words."""
    lag = f", lag {lag_of(one)}" if one.lag_seconds is not None else ""
    return (
        f"{one.state}, {one.synced} synced, {one.deleted} deleted, {one.errors} error(s), "
        f"{one.dead_letters} dead letter(s){lag}"
    )
