"""``fedorm sql``: one query over any number of services, and its rows in the format that is wanted."""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedorm.cli.asking import Output, Parameters, Statement, StatementFile, destination, prepared, read_statement
from fedorm.cli.failing import run
from fedorm.cli.parameters import parse_parameters
from fedorm.cli.services import AsJson
from fedorm.cli.setup import Setup, UsageError
from fedorm.cli.tables import console, show_table, write_plain
from fedorm.cli.writers import CSVWriter, JSONLinesWriter, JSONWriter, Writer, refuse_duplicates

if TYPE_CHECKING:
    from sqlalchemy import TextClause

    from fedorm.async_session import AsyncFederatedSession

BATCH = 1000
"""How many rows are written at a time."""
ON_TERMINAL = 100
"""How many rows a terminal is shown by default."""


class Format(enum.StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


def sql(
    context: typer.Context,
    statement: Statement = None,
    file: StatementFile = None,
    param: Parameters = None,
    format: Annotated[Format, typer.Option("--format", "-F", help="How the rows are written.")] = Format.TABLE,
    as_json: AsJson = False,
    output: Output = None,
    limit_display: Annotated[
        int | None,
        typer.Option(
            "--limit-display",
            min=0,
            help="How many rows a table shows, 0 for all. By default 100 on a terminal and all elsewhere.",
        ),
    ] = None,
    null: Annotated[str, typer.Option("--null", help="What CSV has for NULL.")] = "",
) -> None:
    """Run one query, in PostgreSQL's words, over tables named service.table."""
    setup: Setup = context.obj

    async def work() -> None:
        values = parse_parameters(param or ())
        written = Format.JSON if as_json else format
        if written is Format.PARQUET and output is None and sys.stdout.isatty():
            raise UsageError("--format parquet is no text: write it to a file with --output, or into a pipe")
        query = prepared(read_statement(statement, file), values)
        async with setup.reading() as federation, federation.session() as session:
            match written:
                case Format.TABLE:
                    await _show(session, query, values, output, limit_display)
                case Format.PARQUET:
                    await _write_parquet(session, query, values, output)
                case _:
                    await _write(session, query, values, written, output, null)

    run(setup, work())


async def _write(
    session: AsyncFederatedSession,
    query: TextClause,
    values: Mapping[str, Any],
    format: Format,
    output: Path | None,
    null: str,
) -> None:
    result = await session.stream(query, values, execution_options={"yield_per": BATCH})
    with destination(output) as file:
        writer: Writer
        match format:
            case Format.CSV:
                writer = CSVWriter(file, null)
            case Format.JSON:
                writer = JSONWriter(file)
            case _:
                writer = JSONLinesWriter(file)
        writer.start(list(result.keys()))
        async for rows in result.partitions(BATCH):
            writer.write(rows)
        writer.finish()


async def _write_parquet(
    session: AsyncFederatedSession, query: TextClause, values: Mapping[str, Any], output: Path | None
) -> None:
    import pyarrow.parquet as pq

    table = await session.arrow(query, values)
    refuse_duplicates(table.column_names)
    with destination(output) as file:
        pq.write_table(table, file)


async def _show(
    session: AsyncFederatedSession, query: TextClause, values: Mapping[str, Any], output: Path | None, limit: int | None
) -> None:
    if limit is None:
        limit = ON_TERMINAL if output is None and console().is_terminal else 0
    result = await session.stream(query, values, execution_options={"yield_per": BATCH})
    names, kept, number = list(result.keys()), list[Sequence[Any]](), 0
    async for rows in result.partitions(BATCH):
        number += len(rows)
        kept += rows[: limit - len(kept)] if limit else rows
    if output is None:
        show_table(names, kept)
    else:
        with destination(output) as file:
            text = TextIOWrapper(file, encoding="utf-8", newline="\n")
            write_plain(text, names, kept)
            text.flush()
            text.detach()
    counted = "1 row" if number == 1 else f"{number:,} rows"
    shown = f", of which {len(kept):,} are shown: see --limit-display" if len(kept) < number else ""
    typer.secho(f"({counted}{shown})", err=True, dim=True)
