"""What a federated select asks of a store that reads no SQL: conditions on columns as plain data, and a whole scan.

A store may return more rows than fulfil a condition, since whoever asks checks it again, but never fewer: it answers as
PostgreSQL would, for which a comparison with NULL is not true. There is no negation: it has been carried inwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Table

Operator = Literal["=", "<>", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Parameter:
    """Stands for a value that is left out, where a scan is only described."""

    name: str


@dataclass(frozen=True, slots=True)
class Compare:
    """A column compared with a value that is not NULL."""

    column: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class OneOf:
    """A column that equals one of some values, none of which is NULL; ``negated``: that is not NULL and equals none."""

    column: str
    values: tuple[Any, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class IsNull:
    """A column that is NULL; ``negated``: that is not."""

    column: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Contains:
    """A column of arrays, one of whose elements equals a value."""

    column: str
    value: Any


@dataclass(frozen=True, slots=True)
class Like:
    """A column of text that fits a pattern of ``%`` and ``_``, in which nothing is escaped."""

    column: str
    pattern: Any


@dataclass(frozen=True, slots=True)
class Both:
    """Conditions that all have to hold; none at all always holds."""

    parts: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """Conditions of which one has to hold; none at all never holds."""

    parts: tuple[Condition, ...] = ()


Condition = Compare | OneOf | IsNull | Contains | Like | Both | Either

ALWAYS = Both()
NEVER = Either()


@dataclass(frozen=True, slots=True)
class Order:
    """A column that rows are ordered by."""

    column: str
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DocumentScan:
    """Columns of a collection, of the documents that fulfil ``where`` and whose columns are among ``keys``.

    With ``limit`` only the first rows in the order of ``order`` are needed; a store that cannot say for sure which
    those are returns all. They are those that fulfil ``where`` if that is all that is asked: if it is ``complete``.
    """

    table: Table
    columns: tuple[str, ...]
    where: Condition = ALWAYS
    complete: bool = True
    keys: tuple[tuple[str, Sequence[Any]], ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | Parameter | None = None
