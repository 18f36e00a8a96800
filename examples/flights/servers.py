"""The four services on servers that come from pip alone: no root, nothing to install, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from fedorm.testing.servers import MongoDBServer, PostgreSQLServer


@contextmanager
def embedded() -> Iterator[dict[str, str]]:
    """Start the servers on free ports and give each service's URL; their data goes when they stop."""
    with (
        PostgreSQLServer(prefer="wheel") as postgresql,
        MongoDBServer() as mongodb,
        TemporaryDirectory(prefix="fedorm-flights-") as folder,
    ):
        yield {
            "flights": postgresql.url(),
            "fleet": f"sqlite+aiosqlite:///{folder}/fleet.db",
            "airports": mongodb.url("airports"),
            "weather": f"chdb:///{folder}/weather",
        }
