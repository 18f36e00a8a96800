"""Find, signal and own the operating system's processes that make up a server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def unprivileged_user(*preferred: str) -> str | None:
    """Return whom a server that refuses root runs as: the first user there, else ``nobody``; None if not root."""
    if os.geteuid() != 0:
        return None
    for name in preferred:
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return "nobody"


def find_binary(name: str, *folders: str | Path) -> Path | None:
    """Return the program ``name`` from ``folders``, PATH or the system folders that a user's PATH leaves out."""
    search = os.pathsep.join([*map(str, folders), os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"])
    found = shutil.which(name, path=search)
    return Path(found) if found else None


def dies_with_owner(death_signal: str) -> list[str]:
    """Return the command prefix that ends a server when this process dies, or nothing where there is none."""
    setpriv = shutil.which("setpriv")
    # The kernel sends the signal when the starting thread ends, and only the main one lives as long as we do.
    if setpriv is None or threading.current_thread() is not threading.main_thread():
        return []
    return [setpriv, "--pdeathsig", death_signal, "--"]


def descendants(pid: int) -> list[int]:
    """Return the living processes below ``pid``, nearest first."""
    children: dict[int, list[int]] = {}
    for child, parent in _processes():
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, []))
    for child in found:  # Grows while it is read: breadth first.
        found.extend(children.get(child, []))
    return found


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send ``number`` to every process of ``pids`` that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_gone(pids: Iterable[int], timeout: float) -> None:
    """Wait up to ``timeout`` seconds until none of ``pids`` runs; raise TimeoutError if some still do."""
    deadline = time.monotonic() + timeout
    left = list(pids)
    while left := [pid for pid in left if is_running(pid)]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes still run: {left}")
        time.sleep(0.01)


def wait_stopped(pids: Iterable[int], timeout: float) -> None:
    """Wait up to ``timeout`` seconds until SIGSTOP has reached all of ``pids``, where the system tells."""
    deadline = time.monotonic() + timeout
    for pid in pids:
        while any(_state(f"{pid}/task/{task}") not in (None, "T", "t", "Z") for task in _tasks(pid)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} was not stopped")
            time.sleep(0.005)


def _tasks(pid: int) -> list[str]:
    with suppress(OSError):
        return [task.name for task in Path(f"/proc/{pid}/task").iterdir()]
    return []


def _state(pid: int | str) -> str | None:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return None


def is_running(pid: int) -> bool:
    """Say whether ``pid`` runs; a process that ended and awaits its parent does not."""
    if Path("/proc/self/stat").exists():
        return _state(pid) not in (None, "Z")
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def _processes() -> list[tuple[int, int]]:
    if Path("/proc/self/stat").exists():
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # It ended while we looked.
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    found.append((int(stat.parent.name), int(parent)))
        return found
    lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in lines.stdout.splitlines())]
