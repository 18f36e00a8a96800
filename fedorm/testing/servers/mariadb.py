"""MariaDB, from Debian's packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from fedorm.testing.servers.admin import MySQLAdmin
from fedorm.testing.servers.base import Server
from fedorm.testing.servers.errors import ServerUnavailableError
from fedorm.testing.servers.processes import find_binary, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fedorm.testing.tls import Certificates

SETTINGS = """
bind-address = 127.0.0.1
skip-name-resolve
server-id = 1
log_bin = binlog
binlog_format = ROW
binlog_row_metadata = FULL
character-set-server = utf8mb4
collation-server = utf8mb4_general_ci
max_connections = 200
innodb_buffer_pool_size = 32M
innodb_log_file_size = 16M
innodb_flush_log_at_trx_commit = 2
key_buffer_size = 1M
aria_pagecache_buffer_size = 8M
"""


class MariaDBServer(Server):
    """A MariaDB server with a row-based binary log, and with ``settings``; with ``tls`` it refuses plain text."""

    name = "MariaDB"
    default_database: ClassVar[str] = "mysql"

    def __init__(self, *, tls: Certificates | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(unprivileged_user("mysql"))
        self.tls = tls
        self._settings = dict(settings or {})

    def url(self, database: str | None = None) -> str:
        """Return the URL of ``database`` for aiomysql."""
        place = f"127.0.0.1:{self.port}/{database or self.default_database}"
        return f"mysql+aiomysql://{self.user}:{self.password}@{place}"

    @property
    def admin(self) -> MySQLAdmin:
        """Works through PyMySQL."""
        return MySQLAdmin(self.url(), ca=self.tls.ca if self.tls else None)

    def _initialize(self) -> None:
        installer, _ = self._binaries()
        rights = "".join(
            f"CREATE USER IF NOT EXISTS {self.user}@'{host}' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {self.user}@'{host}' WITH GRANT OPTION;\n"
            for host in ("%", "localhost")
        )
        directory = self.own.directory
        lines = [
            "[mysqld]",
            SETTINGS,
            *(f"{name} = {value}" for name, value in self._settings.items()),
            f"port = {self.port}",
            f"datadir = {directory / 'data'}",
            f"socket = {directory / 'server.sock'}",
            f"pid-file = {directory / 'server.pid'}",
        ]
        if self.tls is not None:
            lines += ["require_secure_transport = ON"]
            for setting, source in (
                ("ssl_cert", self.tls.server_cert),
                ("ssl_key", self.tls.server_key),
                ("ssl_ca", self.tls.ca),
            ):
                lines.append(f"{setting} = {self.own.write(source.name, source.read_bytes())}")
        self.own.run(
            [
                *(str(installer), "--no-defaults", f"--datadir={directory / 'data'}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"),
            ]
        )
        # Not before the line above: the data directory has no user table to grant in.
        lines.append(f"init-file = {self.own.write('users.sql', rights)}")
        self.own.write("server.cnf", "\n".join(lines))

    def _command(self) -> list[str]:
        _, server = self._binaries()
        return [str(server), f"--defaults-file={self.own.directory / 'server.cnf'}"]

    def _binaries(self) -> tuple[Path, Path]:
        installer = find_binary("mariadb-install-db")
        server = find_binary("mariadbd")
        if installer is None or server is None:
            raise ServerUnavailableError(
                self.name,
                "there is no mariadbd or no mariadb-install-db",
                "Try as root: apt-get install mariadb-server",
            )
        return installer, server
