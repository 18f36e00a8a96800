"""A process that changes the source's rows at a steady rate: this work shares no event loop with what is measured.

Its standard input says where and how; it prints when each of its transactions was committed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from typing import Any

from sqlalchemy import bindparam, insert, update
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.synced import AFTER, MARKER, row, table_of

Committed = list[tuple[float, int]]
"""When each commit was sent, by the system's monotonic clock, and what the marker's amount was in it."""


async def started(
    urls: Mapping[str, str], first: int, base: int, rate: int, rows: int, seconds: float
) -> asyncio.Task[Committed]:
    """Let the process write ``rate`` changes a second, ``rows`` a transaction; return the task that awaits its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.sync_writer", stdin=PIPE, stdout=PIPE
    )
    wanted = {"url": urls["sync_source"], "first": first, "base": base, "rate": rate, "rows": rows, "seconds": seconds}

    async def wait() -> Committed:
        output, _ = await process.communicate(json.dumps(wanted).encode())
        if process.returncode:
            raise RuntimeError(f"the process that writes has ended with {process.returncode}")
        return [(moment, number) for moment, number in json.loads(output)]

    return asyncio.create_task(wait())


async def _write(wanted: dict[str, Any]) -> Committed:
    """Write transactions of one marker and the same number of inserted and changed rows, at their moments."""
    table = table_of("sync_source")
    inserting = insert(table)
    changing = (
        update(table)
        .where(table.c.id == bindparam("key"))
        .values(amount=bindparam("new_amount"), note=bindparam("new_note"))
    )
    rows, base, number = wanted["rows"], wanted["base"], wanted["first"]
    committed: Committed = []
    engine = create_async_engine(wanted["url"])
    async with engine.connect() as connection:
        begun = time.monotonic()
        for at in range(int(wanted["rate"] * wanted["seconds"]) // rows):
            await asyncio.sleep(max(0.0, begun + at * rows / wanted["rate"] - time.monotonic()))
            numbers = range(number, number := number + rows - 1)
            inserted = [row(AFTER + one) for one in numbers if one % 2 == 0]
            changed = [(1 + one * 7919 % (base - 1), one) for one in numbers if one % 2]
            changed.append((MARKER, number))
            if inserted:
                await connection.execute(inserting, inserted)
            values = [{"key": key, "new_amount": one, "new_note": f"changed by {one}"} for key, one in changed]
            await connection.execute(changing, values)
            sent = time.monotonic()
            await connection.commit()
            committed.append((sent, number))
    await engine.dispose()
    return committed


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_write(json.load(sys.stdin)))))
