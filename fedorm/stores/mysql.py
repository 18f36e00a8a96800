"""MySQL and MariaDB: aiomysql under greenlets, PyMySQL under threads."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import URL, Engine, event

from fedorm.exc import AuthenticationError, ServiceTimeoutError, ServiceUnavailableError, TLSError
from fedorm.stores.base import Capability
from fedorm.stores.sql import SQLStore

_ACCESS_DENIED = {1044, 1045, 1698, 2059}
_TIMEOUT = {1969, 3024, 1205}
_GONE = {1040, 1049, 1053, 1927, 2003, 2006, 2013, 2014, 2055, 4031}


class MySQLStore(SQLStore):
    """A MySQL 8 or MariaDB 10.6 database, or later."""

    kind = "mysql"
    extra = "mysql"
    async_driver = "aiomysql"
    sync_driver = "pymysql"
    packages = ("aiomysql", "pymysql")
    # MariaDB turns a list of 1,000 values or more into a temporary table, which is slower.
    batch_size = 900
    capabilities = frozenset(
        {
            Capability.SQL,
            Capability.TRANSACTIONS,
            Capability.SAVEPOINTS,
            Capability.TWO_PHASE,
            Capability.STREAMING,
            Capability.UPDATES,
            Capability.TLS,
        }
    )

    def connect_args(self, url: URL, *, is_async: bool) -> dict[str, Any]:
        """Return timeouts and TLS, the same for both drivers."""
        args: dict[str, Any] = {"connect_timeout": math.ceil(self.settings.connect_timeout)}
        if "charset" not in url.query:
            args["charset"] = "utf8mb4"
        if self.tls is not None:
            args["ssl"] = self.tls_context(self.tls)
        return args

    def _watched(self, engine: Engine) -> Engine:
        super()._watched(engine)
        limit = self.settings.timeout
        if limit is not None:

            @event.listens_for(engine, "connect")
            def set_timeout(connection: Any, record: Any) -> None:
                """Limit statements on the server: seconds in MariaDB, milliseconds of SELECTs in MySQL."""
                cursor = connection.cursor()
                cursor.execute("SELECT VERSION()")
                mariadb = "mariadb" in str(cursor.fetchone()[0]).lower()
                name, value = (
                    ("max_statement_time", limit) if mariadb else ("max_execution_time", math.ceil(limit * 1000))
                )
                cursor.execute(f"SET SESSION {name} = %s", (value,))
                cursor.close()

        return engine

    def classify(self, error: BaseException) -> type[ServiceUnavailableError | ServiceTimeoutError] | None:
        """Tell by the server's or the client's error number."""
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        text = str(error).lower()
        if number in _ACCESS_DENIED:
            return AuthenticationError
        if number in _TIMEOUT:
            return ServiceTimeoutError
        if any(word in text for word in ("ssl", "tls", "certificate")):
            return TLSError
        if number in _GONE or "connection reset" in text or "not connected" in text:
            return ServiceUnavailableError
        return None
