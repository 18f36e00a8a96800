"""The servers that the shop runs on by default: all of them from pip, on private ports, gone with the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fedorm.testing.servers import MongoDBServer, PostgreSQLServer


@contextmanager
def embedded_servers() -> Iterator[dict[str, str]]:
    """Start them, and give the URL of each service."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="shop-")))
        postgresql = stack.enter_context(PostgreSQLServer(prefer="wheel"))
        mongodb = stack.enter_context(MongoDBServer())
        for database in ("users", "orders"):
            postgresql.create_database(database)
        yield {
            "users": postgresql.url("users"),
            "orders": postgresql.url("orders"),
            # There is no MySQL in a wheel: SQLite stands in for it, and ClickHouse's own engine for its server.
            "payments": f"sqlite+aiosqlite:///{folder / 'payments.db'}",
            "inventory": mongodb.url("inventory"),
            "analytics": f"chdb:///{folder / 'analytics'}",
        }
