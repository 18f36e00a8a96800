"""Migrates in a process of its own: ``python -m tests.migrate.running FOLDER SERVICE=URL ...``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fedorm import Federation
from fedorm.migrate import leases
from tests.migrate.conftest import settings

leases.LEASE = 2.0
"""So that a test need not wait that long for the lock of a process that it has killed."""


async def main(folder: str, *services: str) -> None:
    urls = dict(one.split("=", 1) for one in services)
    done = await Federation(settings(Path(folder), urls)).migrate.upgrade()
    print(done, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
