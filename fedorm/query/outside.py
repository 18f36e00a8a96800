"""Tables that DuckDB reads by itself, over connections of its own, where the session has written nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import duckdb
from sqlalchemy import Table, types
from sqlglot import exp

from fedorm.query.tables import storage_type
from fedorm.stores.scanning import Scanner

FRESH = 60.0
"""Seconds after which a table's types are asked for again."""

_SETTINGS = {
    # MySQL's own collations take other texts for equal, and order them otherwise.
    "mysql_scanner": (
        "SET GLOBAL mysql_experimental_filter_pushdown = false",
        "SET GLOBAL mysql_aggregate_pushdown_enabled = false",
        "SET GLOBAL mysql_order_pushdown_enabled = false",
    ),
}
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_LOADING = threading.Lock()


@dataclass
class Attached:
    """A service's database in DuckDB, and what is known of the types there."""

    connection: duckdb.DuckDBPyConnection
    catalog: str
    scanner: Scanner
    _known: dict[tuple[Any, ...], tuple[float, exp.Query | None]] = field(default_factory=dict)

    def view(self, table: Table, columns: Sequence[str]) -> exp.Query | None:
        """Return the query for columns of a table, with no value bent; None where DuckDB cannot do that.

        Raises ``duckdb.Error`` when the service does not answer.
        """
        key = table.schema, table.name, tuple(columns)
        asked, known = self._known.get(key, (0.0, None))
        if asked and time.monotonic() - asked < FRESH:
            return known
        query = self._view(table, columns)
        self._known[key] = time.monotonic(), query
        return query

    def _view(self, table: Table, columns: Sequence[str]) -> exp.Query | None:
        schema, name = self.scanner.path(table)
        source = exp.table_(name, db=schema, catalog=self.catalog, quoted=True)
        wanted = exp.select(*(exp.column(column, quoted=True) for column in columns)).from_(source)
        cursor = self.connection.cursor()
        try:
            found = cursor.execute(f"DESCRIBE {wanted.sql(dialect='duckdb')}").fetchall()
        finally:
            cursor.close()
        outputs = []
        for column, row in zip(columns, found, strict=True):
            value = _unbent(exp.column(column, quoted=True), table.c[column].type, str(row[1]), self.scanner)
            if value is None:
                return None
            outputs.append(exp.alias_(value, column, quoted=True))
        return exp.select(*outputs).from_(source)


def _unbent(column: exp.Column, kind: types.TypeEngine[Any], described: str, scanner: Scanner) -> exp.Expr | None:
    """Return how a column reads the same as over the session; None where it would not."""
    kind = storage_type(kind)
    base = described.split("(")[0]
    plain: Mapping[type[Any], set[str]] = {
        types.Boolean: {"BOOLEAN"},
        types.Integer: _INTEGERS,
        types.Float: {"DOUBLE", "FLOAT"},
        types.Numeric: {"DECIMAL"},
        types.DateTime: {"TIMESTAMP WITH TIME ZONE"} if getattr(kind, "timezone", False) else {"TIMESTAMP"},
        types.Date: {"DATE"},
        types.Time: {"TIME"},
        types.LargeBinary: {"BLOB"},
        types.String: {"VARCHAR"},
    }
    if isinstance(kind, types.Uuid):
        return exp.cast(column, "text") if base == "UUID" else None
    if isinstance(kind, types.String) and base == "ENUM":
        return exp.cast(column, "text")
    for family, described_as in plain.items():
        if isinstance(kind, family):
            if base in described_as:
                return column
            break
    if isinstance(kind, types.DateTime) and kind.timezone and scanner.holds_utc and base == "TIMESTAMP":
        return exp.AtTimeZone(this=column, zone=exp.Literal.string("UTC"))
    return None


def attach(database: duckdb.DuckDBPyConnection, service: str, scanner: Scanner) -> Attached:
    """Attach a service's database, to be read only.

    Raises ``duckdb.Error`` without the extension, and when the service does not answer.
    """
    with _LOADING:
        try:
            database.execute(f"LOAD {_literal(str(_packaged(scanner.extension)))}")
        except (ImportError, duckdb.Error):
            database.execute(f"LOAD {scanner.extension}")  # One that the user has installed in DuckDB's own way.
        for setting in _SETTINGS.get(scanner.extension, ()):
            database.execute(setting)
    catalog = f"fedorm_{service}"
    name = exp.to_identifier(catalog, quoted=True).sql(dialect="duckdb")
    secret = ", ".join(f"{key} {_literal(value)}" for key, value in scanner.secret.items())
    database.execute(f"CREATE OR REPLACE TEMPORARY SECRET {name} (TYPE {scanner.kind}, {secret})")
    options = _literal(" ".join(f"{key}={_libpq(value)}" for key, value in scanner.options.items()))
    database.execute(f"ATTACH IF NOT EXISTS {options} AS {name} (TYPE {scanner.kind}, SECRET {name}, READ_ONLY)")
    return Attached(database, catalog, scanner)


def _packaged(extension: str) -> Traversable:
    """Return the file in the extension's package from PyPI that is for this DuckDB; loading it installs nothing."""
    folder = files(f"duckdb_extension_{extension}")
    return folder / "extensions" / f"v{duckdb.__version__}" / f"{extension}.duckdb_extension"


def _literal(value: str) -> str:
    return exp.Literal.string(value).sql(dialect="duckdb")


def _libpq(value: str) -> str:
    """Quote a value as PostgreSQL's connection strings want it."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
