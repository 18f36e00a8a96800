"""The command line: one module a command, or a group of commands; ``app.py`` puts them together."""

from __future__ import annotations

import sys

_PACKAGES = ("typer", "rich")


def main() -> None:
    """Run ``fedorm``; without the packages of the extra ``cli`` say how to get them, and end with 2."""
    try:
        from fedorm.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _PACKAGES:
            raise
        print(
            f"fedorm: the command line needs the package {error.name!r}, which is not installed: "
            f"run  pip install 'fedorm[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
    app(prog_name="fedorm")
