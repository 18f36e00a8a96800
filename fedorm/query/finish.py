"""DuckDB in process: finishes what no single service can, over Arrow, within a memory limit."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import duckdb
import pyarrow as pa

_POSTGRESQL = "SET TimeZone = 'UTC'; SET integer_division = true"
"""What makes DuckDB mean what PostgreSQL means; a connection does not inherit it."""


class Finisher:
    """One in-memory database for a federation; each statement gets a connection of its own to it."""

    def __init__(self, *, memory_limit: str | None = None, spill_directory: str | None = None) -> None:
        config: dict[str, Any] = {}
        if memory_limit is not None:
            config["memory_limit"] = memory_limit
        if spill_directory is not None:
            config["temp_directory"] = spill_directory
        self._database = duckdb.connect(":memory:")
        for name, value in config.items():
            self._database.execute(f"SET {name} = $value", {"value": value})

    def run(
        self, sql: str, tables: Mapping[str, pa.Table], parameters: Mapping[str, Any]
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Return the names of the result's columns, and its rows in Python's own types. Blocks: run it in a thread."""
        connection = self._database.cursor()
        try:
            connection.execute(_POSTGRESQL)
            for name, table in tables.items():
                connection.register(name, table)
            result = connection.execute(sql, dict(parameters))
            kinds = [str(column[1]) for column in result.description]
            names = [str(column[0]) for column in result.description]
            found = result.to_arrow_table()
            columns = [_values(found.column(number), kinds[number]) for number in range(len(names))]
            return names, list(zip(*columns, strict=True)) if columns else []
        finally:
            connection.close()

    def close(self) -> None:
        """Give the memory back."""
        self._database.close()


def _values(column: pa.ChunkedArray, kind: str) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if kind in ("HUGEINT", "UHUGEINT"):  # Arrow knows them as decimals.
        return [None if value is None else int(value) for value in values]
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return [None if value is None else value.astimezone(datetime.UTC) for value in values]
    return values
