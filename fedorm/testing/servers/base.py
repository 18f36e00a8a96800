"""What every test server can do: start, crash, freeze, come back with its data, and leave nothing behind."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from fedorm.testing.servers.processes import descendants, dies_with_owner, free_port, signal_all, wait_gone

_live: list[Server] = []


class ServerUnavailableError(RuntimeError):
    """A server cannot be had on this machine: says what is missing and how to get it."""

    def __init__(self, server: str, missing: str, remedy: str) -> None:
        super().__init__(f"{server} cannot be started here: {missing}. {remedy}")


class ServerStartError(RuntimeError):
    """A server ended, or did not answer in time: shows the end of its log."""


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

    def __init__(self) -> None:
        self.password = secrets.token_hex(12)
        self.run_as: str | None = None
        self._port: int | None = None
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def url(self, database: str | None = None) -> str:
        """Return the SQLAlchemy-style URL of ``database``, by default of the one that is always there."""

    @abstractmethod
    def create_database(self, name: str) -> None:
        """Create the database ``name``, where the server does not do so on first use."""

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Drop the database ``name`` if it exists, whoever is connected to it."""

    @abstractmethod
    def connections(self, database: str) -> list[str]:
        """Describe the client connections that are open in ``database``; empty where it cannot be told."""

    @abstractmethod
    def _initialize(self) -> None:
        """Fill the empty data directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command that runs the server in the foreground on ``self.port``."""

    @abstractmethod
    def _ping(self) -> None:
        """Raise unless the server answers as the user it was made for."""

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same until ``stop()``."""
        return self._started(self._port)

    @property
    def directory(self) -> Path:
        """The server's own temporary directory."""
        return self._started(self._directory)

    @property
    def pid(self) -> int:
        """The process id of the server's main process."""
        return self._started(self._process).pid

    @property
    def log(self) -> Path:
        """The file that holds all the server printed."""
        return self.directory / "server.log"

    @property
    def is_running(self) -> bool:
        """Say whether the main process is there, be it suspended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start on a free port with empty data and return when it answers; raise ServerStartError if it does not."""
        if self._directory is not None:
            raise RuntimeError(f"{self.name} was started before; restart() keeps its port and data")
        self._directory = Path(tempfile.mkdtemp(prefix=f"fedorm-{self.name.lower()}-"))
        _live.append(self)
        try:
            self._port = free_port()
            self._give_away(self._directory)
            self._initialize()
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and remove its data; does nothing when it is not there."""
        if self._directory is None:
            return
        self._terminate()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = self._port = self._process = None
        with suppress(ValueError):
            _live.remove(self)

    def kill(self) -> None:
        """End the server as a power cut would, by SIGKILL to all its processes; its data stays for ``restart()``."""
        self._end(signal.SIGKILL, timeout=10)

    def restart(self) -> None:
        """Start again on the same port and data, after a clean end if it still runs."""
        self._started(self._directory)
        self._terminate()
        self._launch()

    def suspend(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        signal_all(self._family(), signal.SIGSTOP)

    def resume(self) -> None:
        """Let a suspended server go on."""
        signal_all(reversed(self._family()), signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*dies_with_owner(self.death_signal), *self._command()],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for the tests, which then stop the server themselves.
                start_new_session=True,
                user=self.run_as,
                group=self._group(),
                extra_groups=[] if self.run_as else None,
            )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self.start_timeout
        while True:
            if not self.is_running:
                raise ServerStartError(f"{self.name} ended while it started:\n{self._log_tail()}")
            try:
                self._ping()
                return
            except ImportError as error:
                raise ServerUnavailableError(
                    self.name, f"its driver {error.name} is not installed", "pip install 'fedorm[all]'"
                ) from error
            except Exception as error:
                if time.monotonic() > deadline:
                    raise ServerStartError(
                        f"{self.name} does not answer after {self.start_timeout} s: {error}\n{self._log_tail()}"
                    ) from error
            time.sleep(0.05)

    def _terminate(self) -> None:
        try:
            self._end(self.stop_signal, timeout=20)
        except (TimeoutError, subprocess.TimeoutExpired):
            self.kill()

    def _end(self, number: signal.Signals, timeout: float) -> None:
        family = self._family()
        if not family or self._process is None:
            return
        signal_all(family[:1] if number is self.stop_signal else family, number)
        signal_all(family, signal.SIGCONT)  # A suspended process hears only SIGKILL.
        self._process.wait(timeout)
        wait_gone(family[1:], timeout)

    def _family(self) -> list[int]:
        if self._process is None or self._process.poll() is not None:
            return []
        return [self._process.pid, *descendants(self._process.pid)]

    def _run(self, command: list[str]) -> None:
        """Run a program that prepares the data as the server's user; raise ServerStartError with what it printed."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            user=self.run_as,
            group=self._group(),
            extra_groups=[] if self.run_as else None,
        )
        if done.returncode:
            printed = done.stdout.decode(errors="replace")
            raise ServerStartError(f"{Path(command[0]).name} failed with {done.returncode}:\n{printed[-4000:]}")

    def _environment(self) -> dict[str, str]:
        # HOME and TMPDIR of the owner may be closed to the server's user.
        return {**os.environ, "HOME": str(self.directory), "TMPDIR": str(self.directory), "LC_ALL": "C.UTF-8"}

    def _write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the server's directory that only the server's user can read."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self._give_away(path)
        return path

    def _give_away(self, path: Path) -> None:
        if self.run_as is not None:
            shutil.chown(path, self.run_as, self._group())

    def _group(self) -> int | None:
        if self.run_as is None:
            return None
        import pwd

        return pwd.getpwnam(self.run_as).pw_gid

    def _log_tail(self) -> str:
        with suppress(OSError):
            return self.log.read_text(errors="replace")[-4000:]
        return "(no log)"

    def _started(self, value: T | None) -> T:
        if value is None:
            raise RuntimeError(f"{self.name} is not started")
        return value


def _stop_all() -> None:
    for server in reversed(live_servers()):
        server.stop()


atexit.register(_stop_all)
