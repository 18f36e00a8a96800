"""The wheel ``noida-db``: one program that speaks the protocols of several servers."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from fedorm.testing.servers.errors import ServerUnavailableError
from fedorm.testing.servers.owned import OwnedProcess


def noida_program(server: str, own: OwnedProcess) -> Path:
    """Return the program, in a server's own directory. Raises ``ServerUnavailableError`` where it is not installed."""
    package = importlib.util.find_spec("noida_db")
    found = Path(package.origin).with_name("noida-db") if package is not None and package.origin else None
    if found is None or not found.is_file():
        raise ServerUnavailableError(server, "the package noida-db is not installed", "Try: pip install noida-db")
    # A copy: in the package it is not executable, and its own starter would leave it behind.
    program = own.directory / "noida-db"
    shutil.copyfile(found, program)
    os.chmod(program, 0o700)
    own.give_away(program)
    return program
