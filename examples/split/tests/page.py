"""The how-to page as a script: its diffs are applied, its files written, its commands run, in their order."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from examples.split.tests.commands import script

SPLIT = Path(__file__).parent.parent
REPOSITORY = SPLIT.parent.parent
PAGE = REPOSITORY / "docs" / "how-to" / "split-a-monolith.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_IDS = re.compile(r"\b(\d{8}_)?[0-9a-f]{12}|\d+(\.\d+)? ms|\d+")
_END = "-- done --"


def blocks(step: str, language: str) -> list[str]:
    """Return the blocks of the section whose heading begins with ``step``."""
    (section,) = (one for one in PAGE.read_text().split("\n## ") if one.startswith(step))
    return [text for kind, text in _BLOCK.findall(section) if kind == language]


class Walk:
    """One way through the page, in a folder that is the application, in one shell."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        commands = folder.parent / "bin"
        commands.mkdir()
        for name in ("fedorm", "alembic"):
            (commands / name).write_text(script(folder.parent / "socket", name))
            (commands / name).chmod(0o755)
        environment = {**environment, "PATH": f"{commands}:/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY)}
        serving = [sys.executable, "-m", "examples.split.tests.commands", str(folder.parent / "socket")]
        self._server = subprocess.Popen(serving, stdout=subprocess.PIPE, env=environment)
        assert self._server.stdout is not None
        assert self._server.stdout.readline() == b"listening\n"
        self._shell = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def apply(self, step: str) -> None:
        """Change the files as the step's diffs say, and write those that it shows whole."""
        for diff in blocks(step, "diff"):
            subprocess.run(["git", "apply", "-"], cwd=self.folder, input=diff, text=True, check=True)
        for text in blocks(step, "python") + blocks(step, "toml"):
            name = text.partition("\n")[0].removeprefix("# ")
            (self.folder / name).write_text(text)

    def told(self, step: str) -> Iterator[tuple[str, str]]:
        """Yield the step's commands, each with what the page says that it prints."""
        for block in blocks(step, "console"):
            for part in block.split("$ ", 1)[1].split("\n$ "):
                line, _, output = part.partition("\n")
                yield line, output.strip()

    def run(self, line: str) -> tuple[int, str]:
        """Run a command, and return its exit code and what it has printed."""
        if line.endswith(" &"):
            line = f"{line[:-2]} >> running.log 2>&1 &"
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{line}\ncode=$?; echo; echo {_END} $code\n")
        self._shell.stdin.flush()
        printed: list[str] = []
        for one in self._shell.stdout:
            if one.startswith(_END):
                return int(one.removeprefix(_END)), "".join(printed).strip()
            printed.append(one)
        raise AssertionError(f"{line} has ended the shell: {''.join(printed)}")

    def close(self) -> None:
        """End the shell, and what it has started."""
        self.run("kill $(jobs -p) 2> /dev/null; wait")
        self._server.terminate()
        self._server.communicate()
        self._shell.communicate()


def shape(text: str) -> str:
    """Return text without ids, days and numbers."""
    return re.sub(r" +", " ", re.sub(r"─+|-{3,}", "-", _IDS.sub("N", text)))


def sources(folder: Path) -> dict[str, str]:
    """Return the files of an application by their names, both without ids, days and numbers.

    Of settings and revisions only what the application wants of them: fedorm's comments, and its own tables, change
    with its versions.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".log":
            text = path.read_text()
            if path.suffix == ".ini":
                text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
            if path.parent.name == "versions":
                text = "\n".join(_statements(text))
            found[shape(str(path.relative_to(folder)))] = shape(text)
    return found


def _statements(revision: str) -> list[str]:
    """Return what a revision does, sorted: Alembic looks at indexes and keys in no fixed order."""
    functions = [one for one in ast.parse(revision).body if isinstance(one, ast.FunctionDef)]
    done = (f"{function.name} {ast.unparse(one)}" for function in functions for one in function.body)
    return sorted(one for one in done if "fedorm_" not in one)
