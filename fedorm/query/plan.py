"""What is to be done for a statement, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Table
from sqlglot import exp


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """A semi-join: only rows whose ``column`` is among the values of another scan's ``source_column``."""

    column: str
    source: str
    source_column: str


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """Reads columns of one table, the rows that fulfil ``predicates``; ``name`` is what the finish calls it."""

    name: str
    service: str
    table: Table
    columns: tuple[str, ...]
    predicates: tuple[exp.Expr, ...] = ()
    """Conditions with bare column names, over columns of the table, literals and the statement's parameters."""
    key_filters: tuple[KeyFilter, ...] = ()
    limit: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Scans by wave, those of one wave run at the same time, and the SQL that DuckDB makes the result with."""

    waves: tuple[tuple[Scan, ...], ...]
    finish: str
    names: tuple[str, ...]
    """What the result's columns are called."""
    parameters: frozenset[str] = field(default=frozenset())
    """The names of the statement's parameters that the finish needs."""

    @property
    def scans(self) -> list[Scan]:
        """All scans, in the order in which they run."""
        return [scan for wave in self.waves for scan in wave]

    @property
    def services(self) -> set[str]:
        """The services that take part."""
        return {scan.service for scan in self.scans}
