"""Pages of the documentation: their blocks of code, and how a page is done from its first block to its last.

A block with ``title="shop.py"`` is a file. Of a ``console`` block each line behind a dollar sign is run, and has to
print the lines below it. What other blocks are, their tests know.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.docs.starting import Starter

DOCS = Path(__file__).parents[2] / "docs"
REPOSITORY = DOCS.parent
_FENCE = re.compile(r"^```(\w+)[^\n]*?(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_VARYING = re.compile(r"\d{8}_[0-9a-f]{12}|\b[0-9a-f]{12}\b|\b\d+\.\d+ ?m?s\b")
"""Ids of revisions with their days, and how long something took."""


@dataclass(frozen=True)
class Block:
    """Some code on a page; ``title`` is the name of the file that it is."""

    language: str
    title: str
    code: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """What is typed in a console, each with what it prints."""
        found = re.findall(r"^\$ ([^\n]*)\n((?:(?!\$ )[^\n]*\n)*)", self.code, re.MULTILINE)
        return [(command, printed) for command, printed in found]


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, named by its path below ``docs/``."""
    return [Block(*found) for found in _FENCE.findall((DOCS / page).read_text())]


def pages() -> Iterator[str]:
    """Yield the pages that there are, but for those in which code is only cited: decisions and measurements."""
    for path in sorted(DOCS.rglob("*.md")):
        page = path.relative_to(DOCS).as_posix()
        if not page.startswith("adr/") and page != "benchmarks.md":
            yield page


def typed(command: str, folder: Path, starter: Starter) -> str:
    """Run ``python``, ``fedorm``, ``pytest`` or ``rm`` of this environment in a folder, and return what it prints."""
    program, *words = shlex.split(command)
    if program == "rm":
        for word in words:
            (folder / word).unlink()
        return ""
    if program == "pytest":  # A process of its own: what pytest rewrites must not have been imported.
        place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(REPOSITORY)]), "COLUMNS": "80"}
        run = [sys.executable, "-m", "pytest", *words]
        done = subprocess.run(run, cwd=folder, env=place, capture_output=True, text=True, timeout=200, check=False)
        code, out, err = done.returncode, done.stdout, done.stderr
    else:
        assert program in ("python", "fedorm"), f"$ {command}: a program that no page has used before"
        code, out, err = starter.run(folder, program, words)
    assert code == 0, f"$ {command}\n{out}{err}"
    return out


def do(page: str, folder: Path, starter: Starter) -> None:
    """Write the files of a page and run its commands, in their order; a command without output may print anything."""
    for block in blocks_of(page):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.code)
        for command, printed in block.commands if block.language == "console" else ():
            told = typed(command, folder, starter)
            if printed:
                assert _VARYING.sub("…", told) == _VARYING.sub("…", printed), f"{page}: $ {command}"
