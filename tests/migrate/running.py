"""Migrates in a process of its own: ``python -m tests.migrate.running FOLDER SERVICE=URL ...``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from fedorm import Federation
from tests.migrate.conftest import settings


async def main(folder: str, *services: str) -> None:
    urls = dict(one.split("=", 1) for one in services)
    done = await Federation(settings(Path(folder), urls)).migrate.upgrade()
    print(done, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
