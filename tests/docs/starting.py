"""Starts the programs of the pages without importing fedorm anew for each: one process has, and forks for each of them.

It is asked by lines of JSON on stdin, runs ``python program.py`` or ``fedorm ...``, and answers with the exit code and
what was printed. Nothing of one program is left for the next.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

REPOSITORY = Path(__file__).parents[2]


class Starter:
    """The process that forks; ``run()`` waits for the program that it starts."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.docs.starting"]
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def run(self, folder: Path, program: str, words: list[str]) -> tuple[int, str, str]:
        """Return the exit code, and what was written to stdout and to stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), program, words]) + "\n")
        self._process.stdin.flush()
        code, out, err = json.loads(self._process.stdout.readline())
        return code, out, err


def serve() -> None:
    """Answer until stdin ends."""
    import fedorm.cli.app
    import fedorm.sync.sync  # noqa: F401

    for line in sys.stdin:
        folder, program, words = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                _become(folder, program, words, out, err)
            _, status = os.waitpid(child, 0)
            out.seek(0)
            err.seek(0)
            print(json.dumps([os.waitstatus_to_exitcode(status), out.read(), err.read()]), flush=True)


def _become(folder: str, program: str, words: list[str], out: Any, err: Any) -> None:
    """Be that program, and end."""
    code: Any = 0
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        os.chdir(folder)
        sys.path.insert(0, folder)
        if program == "fedorm":
            from fedorm.cli import main

            sys.argv = ["fedorm", *words]
            main()
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve()
