"""How far a backfill is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fedorm.cli.lines import write_line
from fedorm.sync.backfilling import Filled

_SAY = 5.0
"""How often, in seconds, a line says how far it is."""


@contextmanager
def filling(name: str) -> Iterator[Callable[[Filled], None]]:
    """Give what shows, on stderr, how far a rule's backfill is."""
    terminal = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    if not terminal.is_terminal:
        said = time.monotonic()

        def say(filled: Filled) -> None:
            nonlocal said
            if time.monotonic() - said >= _SAY:
                said = time.monotonic()
                write_line(f"{name}: {filled.rows} of {filled.total} rows, {_speed(filled)}")

        yield say
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}")
    with Progress(*columns, console=terminal, refresh_per_second=5) as progress:
        bar = progress.add_task(name, total=None, speed="")

        def show(filled: Filled) -> None:
            progress.update(bar, total=filled.total, completed=filled.rows, speed=_speed(filled))

        yield show


def _speed(filled: Filled) -> str:
    left = filled.seconds_left
    return f"{filled.rate:.0f} rows/s" + ("" if left is None else f", {_duration(left)} left")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
