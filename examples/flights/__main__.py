"""Load 336,776 flights into four databases and ask questions across them: ``python -m examples.flights``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from examples.flights.load import HalfLoadedError, all_frames, load, progress_bar
from examples.flights.questions import QUESTIONS
from examples.flights.servers import embedded
from fedorm import Federation, FedormError


async def run(federation: Federation, console: Console, *, reset: bool = False) -> None:
    """Load what is not there yet, then ask every question."""
    async with federation:
        for name, store in federation.stores.items():
            console.print(f"  {name:<9} {store.address}", highlight=False)
        if reset:
            await federation.drop_all()
        started = time.perf_counter()
        with progress_bar(console) as progress:
            written = await load(federation, all_frames(), progress=progress)
        took = time.perf_counter() - started
        console.print(f"{written:,} rows loaded in {took:.1f} s" if written else "all rows were loaded before")
        for question, ask in QUESTIONS.items():
            started = time.perf_counter()
            with console.status(question):
                answer = await ask(federation)
            took = time.perf_counter() - started
            console.print(f"\n[bold]{question}[/]", table(answer), f"[dim]answered in {took:.2f} s[/]", sep="\n")


def table(rows: Sequence[NamedTuple]) -> Table:
    """Make a table with a column for each field: text to the left, numbers to the right."""
    made = Table()
    for name, value in zip(rows[0]._fields, rows[0], strict=True) if rows else ():
        made.add_column(name.replace("_", " "), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        made.add_row(*(shown(name, value) for name, value in zip(row._fields, row, strict=True)))
    return made


def shown(name: str, value: Any) -> str:
    """Return a value as text; a delay is in minutes, and a year has no comma."""
    if value is None:
        return "-"
    if name.startswith("late"):
        return f"{value:+.1f}"
    if isinstance(value, datetime):
        return f"{value:%d %b %H:%M} UTC"
    return f"{value:,}" if isinstance(value, int) and name != "built" else str(value)


def main() -> None:
    """Run on the databases of ``--config``, else on embedded ones that are gone afterwards."""
    parser = argparse.ArgumentParser(prog="python -m examples.flights", description=main.__doc__)
    parser.add_argument("--config", metavar="FILE", help="a fedorm.toml that names the four databases")
    parser.add_argument("--reset", action="store_true", help="drop the example's tables first, and load anew")
    options = parser.parse_args()
    # Where nobody sees a window's edge, as in a CI's log, the tables get the room they need.
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        if options.config:
            asyncio.run(run(Federation.from_file(options.config), console, reset=options.reset))
        else:
            console.print("PostgreSQL, SQLite, MongoDB and ClickHouse, embedded:")
            with embedded() as urls:
                asyncio.run(run(Federation(urls), console))
    except (FedormError, HalfLoadedError) as error:
        parser.exit(1, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted\n")


if __name__ == "__main__":
    main()
