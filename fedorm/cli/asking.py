"""What the commands that are given a statement share: their options, where it is read from, where the answer goes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from fedorm.cli.setup import UsageError
from fedorm.exc import MissingDriverError

if TYPE_CHECKING:
    from sqlalchemy import TextClause

Statement = Annotated[str | None, typer.Argument(metavar="STATEMENT", help="The query, or - to read it from stdin.")]
StatementFile = Annotated[Path | None, typer.Option("--file", "-f", help="Read the query from a file.")]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        "-p",
        metavar="NAME=VALUE",
        help="The value of :NAME, typed as it looks, or NAME:TYPE=VALUE. The same name again makes a list.",
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to a file, once all is there.")]


def read_statement(given: str | None, file: Path | None) -> str:
    """Return the statement from the argument, from a file, or from stdin for ``-``. Raises ``UsageError``."""
    if (given is None) == (file is None):
        raise UsageError("give one statement: as an argument, with --file, or - for stdin")
    if given is not None and given != "-":
        return given
    try:
        if given == "-" or str(file) == "-":
            return sys.stdin.buffer.read().decode("utf-8-sig")
        assert file is not None
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"the statement cannot be read from {file or 'stdin'}: {why}") from error


def prepared(sql: str, values: Mapping[str, Any], *, partly: bool = False) -> TextClause:
    """Return a query for a session: see ``statement.prepare``. Raises ``MissingDriverError`` without sqlglot."""
    try:
        from fedorm.cli.statement import prepare
    except ModuleNotFoundError as error:
        if error.name != "sqlglot":
            raise
        raise MissingDriverError(user="a select over several services", package="sqlglot", extra="query") from error
    return prepare(sql, values, partly=partly)


@contextmanager
def destination(output: Path | None) -> Iterator[BinaryIO]:
    """Give what to write to: stdout, or a file that takes its name once nothing has gone wrong."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = output.resolve()
    try:
        if target.exists() and not target.is_file():
            handle, name = os.open(target, os.O_WRONLY), None  # A pipe, or /dev/null; a directory is an error.
        else:
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise UsageError(f"--output {output}: {error.strerror}") from error
    if name is None:
        with os.fdopen(handle, "wb") as special:
            yield special
        return
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        _give_mode(name, target)
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _give_mode(name: str, target: Path) -> None:
    """Give a new file the rights that the old one had, or those that any new file has."""
    if target.exists():
        shutil.copymode(target, name)
        return
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(name, 0o666 & ~mask)
