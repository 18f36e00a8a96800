"""What type checkers know of a user's code: ``tests/typed/library.py`` is right, ``mistakes.py`` has what they refuse.

Users have mypy or pyright, so both read the same files, strict. The pyright here is basedpyright, which has all in its
wheel; the package ``pyright`` would fetch its program from npm. Neither reads anything but files, so both work offline.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import Federated, FederatedBase, federated_relationship
from fedorm.relationship import FederatedAttribute

TYPED = Path(__file__).parent / "typed"
REPOSITORY = TYPED.parents[1]
Errors = dict[str, set[int]]
"""Numbers of lines by the names of files."""


def refused() -> Errors:
    """The lines that say of themselves that they are wrong."""
    lines = (TYPED / "mistakes.py").read_text().splitlines()
    return {"mistakes.py": {number for number, line in enumerate(lines, 1) if "  # refused: " in line}}


def by_file(errors: list[tuple[str, int]]) -> Errors:
    found: Errors = {}
    for file, number in errors:
        found.setdefault(Path(file).name, set()).add(number)
    return found


def test_mypy() -> None:
    """Strict, it finds the mistakes and nothing else."""
    pytest.importorskip("mypy")
    run = [sys.executable, "-m", "mypy", "--no-error-summary", str(TYPED / "library.py"), str(TYPED / "mistakes.py")]
    done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False)
    errors = re.findall(r"^[^:\n]*tests/typed/(\w+\.py):(\d+): error: ", done.stdout, re.MULTILINE)
    assert by_file([(file, int(number)) for file, number in errors]) == refused(), done.stdout + done.stderr


def test_pyright() -> None:
    """Strict, it finds the mistakes, and neither errors nor unknown types elsewhere."""
    pytest.importorskip("basedpyright")
    run = [
        sys.executable,
        "-m",
        "basedpyright",
        "--outputjson",
        "--pythonpath",
        sys.executable,
        "--project",
        str(TYPED),
    ]
    done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False)
    told = json.loads(done.stdout)
    assert told["summary"]["filesAnalyzed"] == 2
    errors = [(one["file"], one["range"]["start"]["line"] + 1) for one in told["generalDiagnostics"]]
    assert by_file(errors) == refused(), done.stdout


class TypedPerson(FederatedBase):
    __service__ = "typed_people"
    __tablename__ = "people"
    id: Mapped[int] = mapped_column(primary_key=True)
    boss_id: Mapped[int | None]
    boss: Federated[TypedPerson | None] = federated_relationship(local_key="boss_id")


def test_on_the_class_it_is_what_loads_it() -> None:
    """On the class it is the attribute that federated_load() takes, as the checkers take it to be."""
    attribute = TypedPerson.boss
    assert isinstance(attribute, FederatedAttribute)
    assert attribute.hop.target is TypedPerson
