"""Redis, from Debian's packages or any other ``redis-server`` on PATH."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from fedorm.testing.servers.admin import RedisAdmin
from fedorm.testing.servers.base import Server
from fedorm.testing.servers.errors import ServerUnavailableError
from fedorm.testing.servers.processes import find_binary
from fedorm.testing.tls import Certificates

CONFIG = """
bind 127.0.0.1
{listening}
requirepass {password}
dir {directory}
save ""
appendonly {appended}
appendfsync always
daemonize no
"""


class RedisServer(Server):
    """A Redis server that keeps everything in memory: after ``restart()`` it is empty, unless it is ``durable``."""

    name = "Redis"
    default_database: ClassVar[str] = "0"

    def __init__(self, run_as: str | None = None, *, durable: bool = False, tls: Certificates | None = None) -> None:
        super().__init__(run_as)
        self._durable, self._tls = durable, tls

    def url(self, database: str | None = None) -> str:
        """Return the URL of a database, which has a number for a name."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database or self.default_database}"

    @property
    def admin(self) -> RedisAdmin:
        """Works through redis-py."""
        if self._tls is None:
            return RedisAdmin(self.url())
        return RedisAdmin(f"rediss{self.url().removeprefix('redis')}?ssl_ca_certs={self._tls.ca}")

    def _initialize(self) -> None:
        self._binary()
        settings = CONFIG.format(
            listening=self._listening(),
            password=self.password,
            directory=self.own.directory,
            appended="yes" if self._durable else "no",
        )
        self.own.write("redis.conf", settings)

    def _listening(self) -> str:
        tls = self._tls
        if tls is None:
            return f"port {self.port}"
        files = f"tls-cert-file {tls.server_cert}\ntls-key-file {tls.server_key}\ntls-ca-cert-file {tls.ca}"
        return f"port 0\ntls-port {self.port}\n{files}\ntls-auth-clients optional"

    def _command(self) -> list[str]:
        return [str(self._binary()), str(self.own.directory / "redis.conf")]

    def _binary(self) -> Path:
        binary = find_binary("redis-server")
        if binary is None:
            raise ServerUnavailableError(
                self.name, "there is no redis-server", "Try as root: apt-get install redis-server"
            )
        return binary
