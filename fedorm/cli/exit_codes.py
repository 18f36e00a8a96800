"""How a command ends."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What the ``fedorm`` command ends with; ``docs/cli.md`` has the same as a table."""

    DONE = 0
    """It is done, and what was looked at is well."""
    FAILED = 1
    """A statement, a service or a row has failed, or what was looked at is not well: it differs, lags, is in doubt."""
    MISUSED = 2
    """The call is wrong, or what it names: options, settings, models, services, rules. Nothing is done."""
    INTERRUPTED = 130
    """Ctrl-C has ended it, as Typer has it; long-running commands end themselves then, with one of the others."""
