"""What fedorm logs, as lines for who runs a command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedorm.cli.setup import Setup


def write_line(line: str) -> None:
    """Write a line to stderr, whatever that is by now."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def log_lines(setup: Setup, name: str, write: Callable[[str], None] = write_line) -> Iterator[None]:
    """Give what a logger is told from INFO on to ``write``, each record as one line without passwords."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                write(setup.scrub(" ".join(self.format(record).split())))
            except Exception:
                self.handleError(record)

    log, handler = logging.getLogger(name), Lines()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
