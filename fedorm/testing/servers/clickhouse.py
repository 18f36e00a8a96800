"""ClickHouse, from Debian's packages or any other ``clickhouse-server`` on PATH."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fedorm.testing.servers.admin import ClickHouseAdmin
from fedorm.testing.servers.base import Server
from fedorm.testing.servers.errors import ServerUnavailableError
from fedorm.testing.servers.processes import find_binary, free_port

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """<?xml version="1.0"?>
<yandex>
    <logger><level>warning</level><console>1</console></logger>
    <listen_host>127.0.0.1</listen_host>
    <tcp_port>{tcp}</tcp_port>
    <http_port>{http}</http_port>
    <interserver_http_port>{interserver}</interserver_http_port>
    <path>{directory}/data/</path>
    <tmp_path>{directory}/tmp/</tmp_path>
    <user_files_path>{directory}/user_files/</user_files_path>
    <format_schema_path>{directory}/format_schemas/</format_schema_path>
    <users_config>users.xml</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <timezone>UTC</timezone>
    <mark_cache_size>67108864</mark_cache_size>
    <max_concurrent_queries>100</max_concurrent_queries>
</yandex>
"""
USERS = """<?xml version="1.0"?>
<yandex>
    <profiles><default/></profiles>
    <quotas><default/></quotas>
    <users>
        <{user}>
            <password>{password}</password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
        </{user}>
    </users>
</yandex>
"""


class ClickHouseServer(Server):
    """A ClickHouse server that speaks both its native protocol (``port``) and HTTP (``http_port``)."""

    name = "ClickHouse"
    default_database: ClassVar[str] = "default"

    def __init__(self) -> None:
        super().__init__()
        self.http_port = 0

    def url(self, database: str | None = None, protocol: Literal["native", "http"] = "native") -> str:
        """Return the URL of ``database`` for clickhouse-sqlalchemy."""
        port = self.port if protocol == "native" else self.http_port
        place = f"127.0.0.1:{port}/{database or self.default_database}"
        return f"clickhouse+{protocol}://{self.user}:{self.password}@{place}"

    @property
    def admin(self) -> ClickHouseAdmin:
        """Works over HTTP, for which no driver is needed."""
        return ClickHouseAdmin(self.url(protocol="http"))

    def _initialize(self) -> None:
        self._binary()
        self.http_port = free_port()
        ports = {"tcp": self.port, "http": self.http_port, "interserver": free_port()}
        self.own.write("config.xml", CONFIG.format(**ports, directory=self.own.directory))
        self.own.write("users.xml", USERS.format(user=self.user, password=self.password))

    def _command(self) -> list[str]:
        return [str(self._binary()), f"--config-file={self.own.directory / 'config.xml'}"]

    def _binary(self) -> Path:
        binary = find_binary("clickhouse-server")
        if binary is None:
            raise ServerUnavailableError(
                self.name,
                "there is no clickhouse-server",
                "Try as root: apt-get install clickhouse-server",
            )
        return binary
