"""Where the servers of a benchmark are: started for one run, or kept with their data for many.

``python -m benchmarks serve`` starts PostgreSQL and MariaDB and keeps them until it is ended. Runs that have the same
``FEDORM_BENCH_DATA``, a directory, then use those servers, and load data once only.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import Column, Integer, MetaData, Table, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateTable

from fedorm.testing.servers import MariaDBServer, PostgreSQLServer
from fedorm.testing.servers.admin import MySQLAdmin, PostgreSQLAdmin

Kind = Literal["postgresql", "mysql"]

_loaded = Table("benchmark_loaded", MetaData(), Column("id", Integer, primary_key=True))
"""A table that is made when all others of a database are filled."""


class Places:
    """Servers by kind, given by the URLs of their administrators."""

    def __init__(self, urls: dict[str, str]) -> None:
        self._urls = urls

    def url(self, kind: Kind, database: str) -> str:
        """Return the URL of a database for an async driver."""
        return make_url(self._urls[kind]).set(database=database).render_as_string(hide_password=False)

    async def filled(self, kind: Kind, database: str, fill: Callable[[str], Awaitable[None]]) -> str:
        """Return the URL of a database, made and filled by ``fill`` unless it is there from a run before."""
        url = self.url(kind, database)
        if not await _is_loaded(url):
            admin = PostgreSQLAdmin(self._urls[kind]) if kind == "postgresql" else MySQLAdmin(self._urls[kind])
            admin.drop(database)
            admin.create(database)
            await fill(url)
            await _tidy(url)
        return url


async def _is_loaded(url: str) -> bool:
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(lambda sync: sync.dialect.has_table(sync, _loaded.name))
    except Exception:  # There is no such database: each driver has an error of its own for that.
        return False
    finally:
        await engine.dispose()


async def _tidy(url: str) -> None:
    """Give the planner of the server its statistics, and mark the database as filled."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.exec_driver_sql("VACUUM (ANALYZE)")
        else:
            tables = await connection.run_sync(lambda sync: sync.dialect.get_table_names(sync))
            for table in tables:
                await connection.exec_driver_sql(
                    f"ANALYZE TABLE {connection.dialect.identifier_preparer.quote(table)} PERSISTENT FOR ALL"
                )
        await connection.execute(CreateTable(_loaded))
    await engine.dispose()


def _kept() -> Path | None:
    directory = os.environ.get("FEDORM_BENCH_DATA")
    return Path(directory) / "servers.json" if directory else None


@contextmanager
def started() -> Iterator[Places]:
    """Give the servers that are kept, or start some for this run alone."""
    kept = _kept()
    if kept is not None and kept.exists():
        yield Places(json.loads(kept.read_text()))
        return
    with PostgreSQLServer() as postgresql, MariaDBServer() as mariadb:
        yield Places({"postgresql": postgresql.url(), "mysql": mariadb.url()})


def serve() -> None:
    """Start the servers, say where they are in ``FEDORM_BENCH_DATA``, and keep them until SIGTERM or SIGINT."""
    kept = _kept()
    if kept is None:
        raise SystemExit("set FEDORM_BENCH_DATA to a directory that says where the servers are")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        postgresql = stack.enter_context(PostgreSQLServer())
        mariadb = stack.enter_context(MariaDBServer())
        stack.callback(kept.unlink, missing_ok=True)
        kept.touch(mode=0o600)  # Passwords are in it.
        kept.write_text(json.dumps({"postgresql": postgresql.url(), "mysql": mariadb.url()}))
        print(f"PostgreSQL on port {postgresql.port}, MariaDB on port {mariadb.port}", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
