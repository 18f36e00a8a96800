"""The benchmarks of what is written, and their section of the page."""

from __future__ import annotations

from benchmarks import commits, outbox
from benchmarks.measure import Pair
from benchmarks.places import Kind, started

_PAIRS = ["| fedorm; against | fedorm, ms | other, ms | ratio | bar |", "| --- | --- | --- | --- | --- |"]
_KINDS: dict[str, tuple[Kind, Kind]] = {
    "two PostgreSQL databases": ("postgresql", "postgresql"),
    "PostgreSQL and MariaDB": ("postgresql", "mysql"),
}


async def section(rounds: int) -> list[str]:
    """Measure commits and events, and return the text."""
    lines = [
        "## Writes",
        "",
        f"A row in each of two services, {commits.REPEAT} times: a session opened, the rows added and committed, "
        "in two plain sessions, one after the other, or in one. Then ten rows of one service, read, changed and "
        f"committed {outbox.REPEAT} times, with and without the events that tell of it.",
        "",
        *_PAIRS,
    ]
    with started() as places:
        for where, kinds in _KINDS.items():
            plain, two = await commits.measured(places, rounds, kinds)
            lines += [_row(f"one session, {where}; two plain sessions", plain, "1.1")]
            lines += [_row(f"`twophase=True`, {where}; two plain sessions", two, "2.5")]
        whole, alone = await outbox.measured(places, rounds)
        lines += [_row("ten changed rows with their events, PostgreSQL; without", whole, "1.15")]
        lines += [_row("the commits of those alone; without events", alone, "1.15")]
    return lines


def _row(what: str, measured: Pair, bar: str) -> str:
    line = f"| {what} | {measured.shown()} | {bar} |"
    print(line, flush=True)
    return line
