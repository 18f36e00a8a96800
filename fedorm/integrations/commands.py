"""The ``fedorm`` command inside a framework's own command, over the application's federation."""

from __future__ import annotations

from collections.abc import Sequence

from fedorm.exc import MissingDriverError
from fedorm.federation import Federation


def run_command(arguments: Sequence[str], *, called: str, federation: Federation) -> None:
    """Run ``fedorm`` with ``arguments`` and end the process as it does; ``called`` is its name in the help.

    Raises ``MissingDriverError`` without the packages of the extra ``cli``.
    """
    try:
        import typer.main

        from fedorm.cli.app import app
        from fedorm.cli.setup import Setup
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        raise MissingDriverError(user="the command line", package=error.name, extra="cli") from error
    given = Setup(given=federation.settings)
    typer.main.get_command(app).main(list(arguments), prog_name=called, obj=given)
