"""A server's directory and its processes: run in it, frozen, ended."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedorm.testing.servers.errors import ServerStartError
from fedorm.testing.servers.processes import descendants, dies_with_owner, signal_all, wait_gone


class OwnedProcess:
    """A temporary directory, and the process that runs in it as ``run_as`` (None: as ourselves)."""

    def __init__(self, label: str, run_as: str | None) -> None:
        self._user = pwd.getpwnam(run_as) if run_as else None
        self._popen: subprocess.Popen[bytes] | None = None
        self.directory = Path(tempfile.mkdtemp(prefix=f"fedorm-{label.lower()}-"))
        self.log = self.directory / "server.log"
        self.give_away(self.directory)

    @property
    def pid(self) -> int:
        """The main process's id, also after its end; raises RuntimeError before the first launch."""
        if self._popen is None:
            raise RuntimeError("the server was never launched")
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Say whether the main process is there, be it suspended."""
        return self._popen is not None and self._popen.poll() is None

    def launch(self, command: list[str], death_signal: str) -> None:
        """Run ``command`` in the background, its output appended to ``log``."""
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*dies_with_owner(death_signal), *command],
                stdout=log,
                # Ctrl-C in the terminal is for the tests, which then stop the server themselves.
                start_new_session=True,
                **self._options(),
            )

    def run(self, command: list[str]) -> None:
        """Run a program to its end; raise ServerStartError with what it printed if it fails."""
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False, **self._options())
        if done.returncode:
            printed = done.stdout.decode(errors="replace")[-4000:]
            raise ServerStartError(f"{Path(command[0]).name} failed with {done.returncode}:\n{printed}")

    def end(self, number: signal.Signals, timeout: float) -> None:
        """End the processes with ``number``; raise TimeoutError when some still run after ``timeout`` seconds."""
        family = self.family()
        if not family or self._popen is None:
            return
        # A clean end is the main process's own affair; a crash must not leave it the time to tidy up.
        signal_all(family if number is signal.SIGKILL else family[:1], number)
        signal_all(family, signal.SIGCONT)  # A suspended process hears nothing but SIGKILL.
        wait_gone(family, timeout)
        self._popen.wait()

    def family(self) -> list[int]:
        """Return the ids of the main process and all below it; empty when it does not run."""
        return [self.pid, *descendants(self.pid)] if self.is_running else []

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file into the directory that only the server's user can read."""
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.give_away(path)
        return path

    def give_away(self, path: Path) -> None:
        """Make the server's user the owner of ``path``."""
        if self._user is not None:
            os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def log_tail(self) -> str:
        """Return the end of the log."""
        with suppress(OSError):
            return self.log.read_text(errors="replace")[-4000:]
        return "(no log)"

    def remove(self) -> None:
        """Remove the directory with all data."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _options(self) -> dict[str, Any]:
        # HOME, TMPDIR and the working directory of the owner may be closed to the server's user.
        own = {name: str(self.directory) for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR")}
        options: dict[str, Any] = {
            "cwd": self.directory,
            "env": {**os.environ, **own, "LC_ALL": "C.UTF-8", "CLICKHOUSE_WATCHDOG_ENABLE": "0"},
            "stdin": subprocess.DEVNULL,
            "stderr": subprocess.STDOUT,
        }
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        return options
