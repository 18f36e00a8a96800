"""What every test server can do: start, crash, freeze, come back with its data, and leave nothing behind."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from fedorm.testing.servers.admin import Admin
from fedorm.testing.servers.errors import ServerStartError, ServerUnavailableError
from fedorm.testing.servers.owned import OwnedProcess
from fedorm.testing.servers.processes import free_port, signal_all, wait_stopped

_live: list[Server] = []


def live_servers() -> tuple[Server, ...]:
    """Return the servers that this process has started and not stopped."""
    return tuple(_live)


class Server(ABC):
    """A database server of our own on 127.0.0.1, run as a context manager; it stops only what it started."""

    name: ClassVar[str]
    default_database: ClassVar[str]
    start_timeout: ClassVar[float] = 60.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    death_signal: ClassVar[str] = "KILL"
    user: ClassVar[str] = "fedorm"

    def __init__(self, run_as: str | None = None) -> None:
        self.password = secrets.token_hex(12)
        self._run_as = run_as
        self._port = 0
        self._own: OwnedProcess | None = None

    @abstractmethod
    def url(self, database: str | None = None) -> str:
        """Return the SQLAlchemy-style URL of ``database``, by default of the one that is always there."""

    @property
    @abstractmethod
    def admin(self) -> Admin:
        """Creates, drops and looks into this server's databases."""

    @abstractmethod
    def _initialize(self) -> None:
        """Fill the empty data directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command that runs the server in the foreground on ``self.port``."""

    @property
    def own(self) -> OwnedProcess:
        """The directory and processes; raises RuntimeError unless started."""
        if self._own is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._own

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same until ``stop()``."""
        return self._port if self.own else 0

    @property
    def pid(self) -> int:
        """The process id of the server's main process."""
        return self.own.pid

    @property
    def log(self) -> Path:
        """The file that holds all the server printed; gone after ``stop()``."""
        return self.own.log

    @property
    def is_running(self) -> bool:
        """Say whether the main process is there, be it suspended."""
        return self._own is not None and self._own.is_running

    def start(self) -> Self:
        """Start on a free port with empty data and return when it answers; raise ServerStartError if it does not."""
        if self._own is not None:
            raise RuntimeError(f"{self.name} was started before; restart() keeps its port and data")
        self._own = OwnedProcess(self.name, self._run_as)
        _live.append(self)
        try:
            self._port = free_port()
            self._initialize()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove its data; does nothing when it is not there."""
        if self._own is None:
            return
        self._terminate()
        self._own.remove()
        self._own = None
        _live.remove(self)

    def kill(self) -> None:
        """End the server as a crash would, by SIGKILL to all its processes; its data stays for ``restart()``."""
        self.own.end(signal.SIGKILL, timeout=10)

    def restart(self) -> None:
        """Start again on the same port and data, after a clean end if it still runs."""
        self.own  # noqa: B018 - raises unless started
        self._terminate()
        self._launch()

    def suspend(self) -> None:
        """Freeze the server by SIGSTOP: connections stay open and nothing answers."""
        family = self.own.family()
        signal_all(family, signal.SIGSTOP)
        wait_stopped(family, timeout=10)

    def resume(self) -> None:
        """Let a suspended server go on."""
        signal_all(reversed(self.own.family()), signal.SIGCONT)

    def create_database(self, name: str) -> None:
        """Create the database ``name``; does nothing where the first write makes it."""
        self.admin.create(name)

    def drop_database(self, name: str) -> None:
        """Drop the database ``name`` if it exists, whoever is connected to it."""
        self.admin.drop(name)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        self.own.launch(self._command(), self.death_signal)
        deadline = time.monotonic() + self.start_timeout
        while True:
            if not self.is_running:
                raise ServerStartError(f"{self.name} ended while it started:\n{self.own.log_tail()}")
            try:
                self.admin.ping()
                return
            except ImportError as error:
                missing = f"its driver {error.name} is not installed"
                raise ServerUnavailableError(self.name, missing, "Try: pip install 'fedorm[all]'") from error
            except Exception as error:
                if time.monotonic() > deadline:
                    late = f"{self.name} does not answer after {self.start_timeout} s ({error})"
                    raise ServerStartError(f"{late}:\n{self.own.log_tail()}") from error
            time.sleep(0.05)

    def _terminate(self) -> None:
        try:
            self.own.end(self.stop_signal, timeout=20)
        except TimeoutError:
            self.kill()


def _stop_all(owner: int) -> None:
    if os.getpid() == owner:  # A forked child inherits the list, not the servers.
        for server in reversed(live_servers()):
            with suppress(TimeoutError):
                server.stop()


atexit.register(_stop_all, os.getpid())
