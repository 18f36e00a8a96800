"""The command line: one module a command, or a group of commands; ``app.py`` puts them together."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from fedorm.cli.exit_codes import ExitCode

_PACKAGES = ("typer", "rich")


def main() -> None:
    """Run ``fedorm``; without the packages of the extra ``cli`` say how to get them, and end with 2."""
    try:
        from fedorm.cli.app import app
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _PACKAGES:
            raise
        print(
            f"fedorm: the command line needs the package {package!r}, which is not installed: "
            f"run  pip install 'fedorm[cli]'",
            file=sys.stderr,
        )
        sys.exit(ExitCode.MISUSED)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # A table shows what the terminal's encoding does not have.
    app(prog_name="fedorm")
