"""How a command ends when something goes wrong: one line on stderr, and an exit code."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import traceback
from collections.abc import Coroutine
from typing import Any, TypeVar

import typer
from sqlalchemy import exc as sa_exc

from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.setup import Setup, UsageError
from fedorm.exc import (
    ConfigurationError,
    FederationOpenError,
    FedormError,
    UnknownServiceError,
    UnroutedStatementError,
)
from fedorm.sync.errors import UnknownRuleError

T = TypeVar("T")

_CLASS = re.compile(r"^<class '(?:\w+\.)*(\w+)'>: ")
_LINE_END = re.compile(r"\s*[\r\n]\s*")
_NOTE = "service: "
"""How a store writes down which service an error of the driver comes from."""
_MISUSES = (UsageError, ConfigurationError, UnknownServiceError, UnknownRuleError)
_NO_TABLE = "the statement names no table, so that no service can be asked: name one as  service.table"


def run(setup: Setup, work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; what goes wrong becomes one line on stderr and an exit code."""
    try:
        return asyncio.run(work)
    except BrokenPipeError:
        # Who reads has had enough, as head does. Python must not complain when it ends and flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.FAILED) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if setup.trace:
            typer.echo(setup.scrub("".join(traceback.format_exception(error))), err=True)
        typer.echo(f"fedorm: {setup.scrub(one_line(error))}", err=True)
        raise typer.Exit(ExitCode.MISUSED if isinstance(error, _MISUSES) else ExitCode.FAILED) from None


def one_line(error: BaseException) -> str:
    """Return what an error says in one line, without the statement, which who called has just written."""
    if isinstance(error, UnroutedStatementError):
        return _NO_TABLE
    if isinstance(error, FederationOpenError):
        return "; ".join(one_line(failure) for failure in error.failures.values())
    if isinstance(error, sa_exc.StatementError) and error.orig is not None and not isinstance(error, FedormError):
        text = _CLASS.sub(r"\1: ", str(error.orig))
    else:
        text = str(error)
        if not isinstance(error, FedormError | UsageError):
            text = f"{type(error).__name__}: {text}"
    text = text.partition("\n[SQL:")[0].partition("(Background on")[0]
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(_NOTE)]
    services = [f"service {note.removeprefix(_NOTE)!r}: " for note in notes]
    return _LINE_END.sub(" ", "".join([*services, text]).strip())
