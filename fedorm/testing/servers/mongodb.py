"""A MongoDB server: SecantusDB from its wheel, or ``mongod`` where there is one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import ClassVar

from fedorm.testing.servers.admin import MongoDBAdmin
from fedorm.testing.servers.base import Server
from fedorm.testing.servers.errors import ServerStartError, ServerUnavailableError
from fedorm.testing.servers.processes import find_binary


class MongoDBServer(Server):
    """A one-node replica set, so that transactions and change streams work; with ``auth`` it asks for a password."""

    name = "MongoDB"
    default_database: ClassVar[str] = "test"

    def __init__(self, *, auth: bool = False) -> None:
        super().__init__()
        self.auth = auth
        self._has_user = False

    def url(self, database: str | None = None) -> str:
        """Return the URL of ``database``; with ``auth`` it holds user, password and ``authSource``."""
        place = f"127.0.0.1:{self.port}/{database or self.default_database}"
        if self.auth:
            return f"mongodb://{self.user}:{self.password}@{place}?authSource=admin"
        return f"mongodb://{place}"

    @property
    def admin(self) -> MongoDBAdmin:
        """Works through PyMongo; without a password as long as there is no user."""
        return MongoDBAdmin(self.url() if self._has_user else f"mongodb://127.0.0.1:{self.port}/")

    def _initialize(self) -> None:
        self._binary()
        (self.own.directory / "data").mkdir()
        self._has_user = False

    def _launch(self) -> None:
        super()._launch()
        self._await_primary()
        if self.auth and not self._has_user:
            with self.admin.client() as client:
                roles = [{"role": "root", "db": "admin"}]
                client.admin.command("createUser", self.user, pwd=self.password, roles=roles)
            self._has_user = True
            self._terminate()
            super()._launch()

    def _await_primary(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        with self.admin.client() as client:
            hello = client.admin.command("hello")
            if hello.get("isreplicaset"):  # What a member says that no one has told of its set.
                members = [{"_id": 0, "host": f"127.0.0.1:{self.port}"}]
                client.admin.command("replSetInitiate", {"_id": "fedorm", "members": members})
            while not client.admin.command("hello")["isWritablePrimary"]:
                if time.monotonic() > deadline:
                    raise ServerStartError(f"{self.name} has no primary:\n{self.own.log_tail()}")
                time.sleep(0.05)

    def _command(self) -> list[str]:
        binary = self._binary()
        data = str(self.own.directory / "data")
        if binary.name == "mongod":
            command = [str(binary), "--bind_ip", "127.0.0.1", "--port", str(self.port), "--dbpath", data]
            # A replica set that asks for passwords needs a key file; a test of passwords needs no replica set.
            return [*command, "--auth"] * self._has_user or [*command, *["--replSet", "fedorm"] * (not self.auth)]
        # Without a configuration of its own it would read the user's.
        config = self.own.write("secantusd.toml", "")
        return [
            *(str(binary), "--config", str(config), "--host", "127.0.0.1", "--port", str(self.port)),
            *("--storage-path", data, "--cache-size", "256M", "--log-level", "WARNING"),
            *["--auth"] * self._has_user,
        ]

    def _binary(self) -> Path:
        # Not the interpreter's real path: in a virtual environment that is a link out of it.
        beside_python = Path(sys.executable).parent
        binary = find_binary("secantusd-py", beside_python) or find_binary("mongod")
        if binary is None:
            raise ServerUnavailableError(
                self.name, "there is neither secantusd-py nor mongod", "Try: pip install 'fedorm[embedded]'"
            )
        return binary
