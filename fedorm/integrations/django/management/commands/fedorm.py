"""``manage.py fedorm ...``: the command line of fedorm, over the services of the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand

from fedorm.integrations.commands import run_command
from fedorm.integrations.django.sessions import federation


class Command(BaseCommand):
    """Hands all its arguments on."""

    help = "Ask the services of the federation, and look after them."

    def run_from_argv(self, argv: Sequence[str]) -> None:
        """Run ``fedorm`` with what follows; Django's own options would be in the way of its own."""
        run_command(argv[2:], called="manage.py fedorm", federation=federation())

    def add_arguments(self, parser: Any) -> None:
        """Take any for ``call_command("fedorm", "doctor")``."""
        parser.add_argument("arguments", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do the same for ``call_command()``."""
        run_command(options["arguments"], called="manage.py fedorm", federation=federation())
