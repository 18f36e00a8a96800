"""``fedorm`` and ``alembic`` for a shell, forked from a process that has imported them, which takes the most time.

``python -m examples.split.tests.commands SOCKET`` is that process; ``script()`` is what the shell calls.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

CLIENT = """\
#!{python} -IS
import json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
    server.connect({place!r})
    said = [{module!r}, sys.argv[1:], dict(os.environ), os.getcwd()]
    socket.send_fds(server, [json.dumps(said).encode()], [0, 1, 2])
    pid = int(server.recv(20))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    sys.exit(int(server.recv(20) or 1))
"""


def script(place: Path, module: str) -> str:
    """Return a program that has the server at ``place`` run a module with its arguments, environment and files."""
    return CLIENT.format(python=sys.executable, place=str(place), module=module)


def _serve(place: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(place)
        server.listen()
        print("listening", flush=True)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _run(client)
            client.close()


def _run(client: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said, files, _, _ = socket.recv_fds(client, 1 << 20, 3)
    module, arguments, environment, folder = json.loads(said)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    sys.argv = [module, *arguments]
    client.send(f"{os.getpid()} ".encode())
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    client.send(str(code).encode())
    os._exit(0)


if __name__ == "__main__":
    for name in ("alembic.config", "fedorm.cli.app", "fedorm.migrate.alembic_history", "asyncpg", "aiomysql"):
        importlib.import_module(name)
    _serve(sys.argv[1])
