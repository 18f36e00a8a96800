"""How much memory a join of ten million rows with one million takes, in a process of its own, and that it is right."""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlglot import exp

from benchmarks import shop
from benchmarks.places import Places
from fedorm import Federation

USERS = 1_000_000
MEMORY_LIMIT = "512MB"
_JOINED = "from sales.orders o join accounts.users u on o.user_id = u.id"
_COUNTRIES = exp.array(*map(exp.Literal.string, shop.COUNTRIES)).sql("postgres")

QUERIES = {
    "grouped by country": (
        f"select u.country, count(*), sum(o.total) {_JOINED} group by u.country order by 1",
        f"SELECT ({_COUNTRIES})[1 + user_id % 10], count(*), sum(total) FROM orders GROUP BY 1 ORDER BY 1",
    ),
    "grouped by user, the ten greatest": (
        f"select u.email, count(*), sum(o.total) {_JOINED} group by u.email order by 3 desc, 1 limit 10",
        "SELECT 'user' || user_id || '@example.com', count(*), sum(total) FROM orders "
        "GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 10",
    ),
    "the ten greatest rows": (
        f"select u.email, o.id, o.total {_JOINED} order by o.total desc, o.id limit 10",
        "SELECT 'user' || user_id || '@example.com', id, total FROM orders ORDER BY 3 DESC, 2 LIMIT 10",
    ),
    "all rows, streamed": (
        f"select length(u.email), o.id, o.total {_JOINED}",
        "SELECT sum(length('user' || user_id || '@example.com')), sum(id), sum(total) FROM orders",
    ),
}
"""Each for the federation, and as the server of the orders reckons it, for users follow from the orders' numbers."""
STREAMED = "all rows, streamed"


@dataclass(frozen=True, slots=True)
class Peak:
    """What a query took: MiB of the whole process at its highest, and seconds."""

    name: str
    mebibytes: float
    seconds: float


async def peak(places: Places, name: str) -> Peak:
    """Run a query in a process of its own; raise AssertionError if its answer is wrong."""
    urls = await shop.urls(places, USERS)
    server = await asyncpg.connect(urls["sales"].replace("+asyncpg", ""))
    expected = [[str(value) for value in row] for row in await server.fetch(QUERIES[name][1])]
    await server.close()
    # The URLs hold passwords: they go by the standard input, not by the command line.
    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "benchmarks.memory"],
        input=json.dumps({"urls": urls, "name": name}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(child.stdout)
    assert found["rows"] == expected, f"{name}: {found['rows'][:3]} and not {expected[:3]}"
    return Peak(name, found["mebibytes"], found["seconds"])


async def _run(urls: dict[str, str], name: str) -> dict[str, Any]:
    query = text(QUERIES[name][0])
    with tempfile.TemporaryDirectory() as spill:
        fed = Federation(urls, memory_limit=MEMORY_LIMIT, spill_directory=spill)
        async with fed, fed.session() as session:
            started = time.perf_counter()
            if name == STREAMED:
                sums: list[Any] = [0, 0, Decimal(0)]
                streamed = await session.stream(query, execution_options={"yield_per": 10_000})
                async for partition in streamed.partitions():
                    for number, column in enumerate(zip(*partition, strict=True)):
                        sums[number] += sum(column)
                rows: list[Any] = [sums]
            else:
                rows = list((await session.execute(query)).all())
            seconds = time.perf_counter() - started
    return {
        "rows": [[str(value) for value in row] for row in rows],
        "mebibytes": _high_water_mark(),
        "seconds": seconds,
    }


def _high_water_mark() -> float:
    """Return the most memory that this process has had at once, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage() would begin with what the parent had when it forked.
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    print(json.dumps(asyncio.run(_run(wanted["urls"], wanted["name"]))))
