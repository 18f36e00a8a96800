"""What is to be done for a statement, as frozen data."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, types
from sqlglot import exp

if TYPE_CHECKING:
    from fedorm.query.small import SmallFinish


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """A semi-join: only rows whose ``column`` is among the values of another scan's ``source_column``."""

    column: str
    source: str
    source_column: str


@dataclass(frozen=True, slots=True)
class Order:
    """One term of an ORDER BY over a column."""

    column: str
    descending: bool
    nulls_first: bool


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
    outside: bool = False
    """Whether the finish reads the table by itself, over connections of its own."""
    most_keys: int | None = None
    """With more keys than these the finish reads the table by itself; None where it cannot."""
    order: tuple[Order, ...] = ()
    limit: exp.Expr | None = None
    """How many rows are enough, in this order: a number, a parameter, or a sum of the two."""
    why: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A whole query that one service answers; its rows are called ``name`` by the finish."""

    name: str
    service: str
    query: exp.Query
    """In PostgreSQL's words, with the service's own table names."""
    columns: tuple[str, ...]
    kinds: tuple[types.TypeEngine[Any] | None, ...]
    """The types of the columns, None where they follow from the values."""
    origins: Mapping[str, tuple[str, str]]
    """For a join: the alias and the column that each column comes from, by which keys can narrow it."""
    tables: Mapping[str, Table] = field(default_factory=dict)
    """For a join, and for what is aggregated: its tables by alias, which say of what types values are."""
    key_filters: tuple[KeyFilter, ...] = ()
    why: str = ""

    @property
    def sums(self) -> bool:
        """Say whether the query adds up."""
        return self.query.find(exp.Sum) is not None


Step = Scan | Piece


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """How the first rows of a result are found without the rest: a step is read in order, a part at a time."""

    step: str
    plan: Plan
    """What is done with each part; its finish returns the first ``limit`` rows, no matter what OFFSET leaves out."""
    limit: exp.Expr
    offset: exp.Expr | None
    part: int
    """How many rows of the step are expected to be enough."""
    cost: float


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Steps by wave, those of one wave run at the same time, and the SQL that DuckDB makes the result with.

    Without ``finish`` the only step's rows are the result.
    """

    waves: tuple[tuple[Step, ...], ...]
    finish: str | None
    names: tuple[str, ...]
    """What the result's columns are called."""
    parameters: frozenset[str] = field(default=frozenset())
    """The names of the statement's parameters that the finish needs."""
    rows: Mapping[str, float] = field(default_factory=dict)
    """How many rows each step was expected to return."""
    small: SmallFinish | None = None
    """How the result is made without DuckDB, when there are few rows."""
    head: Head | None = None
    """How it is made without reading all rows, when the first ones are enough."""
    prepared: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """The statements of the steps, made at their first use."""

    @property
    def steps(self) -> list[Step]:
        """All steps, in the order in which they run."""
        return [step for wave in self.waves for step in wave]

    def with_outside(self, names: Iterable[str]) -> Plan:
        """Return the plan as it was run, when there were more keys than expected: these steps without keys."""
        changed = set(names)
        why = "more keys than expected, so DuckDB read it over connections of its own"
        waves = tuple(
            tuple(
                replace(step, outside=True, key_filters=(), why=why)
                if isinstance(step, Scan) and step.name in changed and not step.outside
                else step
                for step in wave
            )
            for wave in self.waves
        )
        return replace(self, waves=waves)

    @property
    def services(self) -> set[str]:
        """The services that take part."""
        return {step.service for step in self.steps}
