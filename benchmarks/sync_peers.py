"""What others do on the same servers, as far as they run there.

``FEDORM_PEERS`` is a virtual environment of its own with ``mysql-ch-replicator`` and ``pgsync-clickhouse``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from asyncio.subprocess import DEVNULL
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy import make_url

from benchmarks.sync_stream import BASE, CaughtUp
from benchmarks.synced import Mix, Source

FOUND = (
    "Of PyPI's packages for the same job neither runs on these servers: `mysql-ch-replicator` 0.1.16 (MariaDB to "
    "ClickHouse) and `pgsync-clickhouse` 0.1.0 (PostgreSQL to ClickHouse) both speak to ClickHouse by "
    "clickhouse-connect (1.12.0 here; they ask for 0.7.8 and 0.7 at least), whose first question to ClickHouse 18.16 "
    'ends with "Code: 47, e.displayText() = DB::Exception: Unknown identifier: readonly": its `system.settings` has no '
    "such column. By their sources and manuals they are for newer servers anyway: the first one uses `SET final = 1` "
    "and `DELETE FROM`, the other one names ClickHouse 24.8."
)
HALF = (
    "The first half of mysql-ch-replicator does run on MariaDB 10.11: its `binlog_replicator` reads the log and writes "
    "what it finds to files, for another process to bring to ClickHouse. Against that, fedorm's whole way from the log "
    "to the target."
)


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that is there."""

    program: Path

    async def caught_up(self, url: str, changes: int, rows: int) -> CaughtUp:
        """Let it read changes that were committed while it was suspended, until its files grow no more."""
        source = Source("mysql", url)
        await asyncio.to_thread(source.make, BASE)
        with tempfile.TemporaryDirectory() as directory:
            process = await asyncio.create_subprocess_exec(
                *(str(self.program), "--config", str(_configured(Path(directory), url)), "binlog_replicator"),
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
            try:
                await asyncio.sleep(10)
                process.send_signal(signal.SIGSTOP)
                await asyncio.to_thread(source.change, Mix(BASE, changes, BASE, rows))
                watched = psutil.Process(process.pid)
                before = watched.cpu_times()
                process.send_signal(signal.SIGCONT)
                seconds = await _until_quiet(Path(directory))
                after = watched.cpu_times()
            finally:
                source.close()
                process.kill()
                await process.wait()
        return CaughtUp(changes, seconds, after.user + after.system - before.user - before.system)


def peer() -> Peer | None:
    """Return the program, if it is there."""
    directory = os.environ.get("FEDORM_PEERS")
    return Peer(Path(directory) / "bin" / "mysql_ch_replicator") if directory else None


async def _until_quiet(directory: Path) -> float:
    """Return the seconds until the last of the files' growth; they are quiet when there was none for four."""
    begun = last = time.perf_counter()
    size = -1
    while time.perf_counter() - last < 4:
        found = sum(path.stat().st_size for path in directory.rglob("*.bin"))
        if found != size:
            size, last = found, time.perf_counter()
        await asyncio.sleep(0.1)
    return last - begun


def _configured(directory: Path, url: str) -> Path:
    parsed = make_url(url)
    (directory / "log" / str(parsed.database)).mkdir(parents=True)
    settings = {
        "mysql": {"host": parsed.host, "port": parsed.port, "user": parsed.username, "password": parsed.password},
        "clickhouse": {"host": "127.0.0.1", "port": 1},
        "binlog_replicator": {"data_dir": f"{directory / 'log'}/", "records_per_file": 100_000},
        "databases": parsed.database,
        "tables": "synced_rows",
    }
    path = directory / "settings.yaml"
    path.touch(mode=0o600)  # A password is in it.
    path.write_text(json.dumps(settings))  # Which is YAML, too.
    return path
