"""Whole pages from one table to another, a column at a time, where nobody looks at single rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedorm.stores.rows import Key

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """A field of the source, the one of the target that it goes to, and what makes its values fit, if they do not."""

    source: str
    target: str
    convert: Convert | None = None


@dataclass(frozen=True, slots=True)
class PassedPage:
    """A page on its way; ``data`` is its passage's own."""

    rows: int
    last: Key | None
    """The source's key of its last row; None if no page follows, and none is known."""
    data: Any


class UnfitValueError(Exception):
    """A value that cannot be made one of its target's field: its page has to be looked at row by row."""


class Passage(ABC):
    """Leads from one table to another, for rows that are in the target not at all, or from an earlier try."""

    @abstractmethod
    def pages(self, *, size: int, after: Key | None) -> AsyncIterator[PassedPage]:
        """Yield the source's rows in the order of their keys, as ``RowAccess.pages()`` does."""

    @abstractmethod
    async def write(self, handle: Any, page: PassedPage, *, version: int) -> None:
        """Write a page in the target's transaction. After a ``RowError`` this can only be rolled back.

        Raises ``UnfitValueError`` before anything is written.
        """


class ColumnReader(Protocol):
    """Reads tables by columns."""

    def column_pages(
        self, *, size: int, after: Key | None
    ) -> AsyncIterator[tuple[int, Key, Mapping[str, Sequence[Any]]]]:
        """Yield how many rows a page has, its last key, and the values of each field."""


class ColumnWriter(Protocol):
    """Writes tables by columns."""

    async def write_columns(
        self, handle: Any, columns: Mapping[str, Sequence[Any]], number: int, *, version: int
    ) -> None:
        """Do what ``RowAccess.write()`` does with upserts."""


class ColumnPassage(Passage):
    """Between any two tables of SQL."""

    def __init__(self, source: ColumnReader, target: ColumnWriter, pairs: Sequence[Pair]) -> None:
        self._source, self._target, self._pairs = source, target, tuple(pairs)

    async def pages(self, *, size: int, after: Key | None) -> AsyncIterator[PassedPage]:
        """Read by columns."""
        async for rows, last, columns in self._source.column_pages(size=size, after=after):
            yield PassedPage(rows, last, columns)

    async def write(self, handle: Any, page: PassedPage, *, version: int) -> None:
        """Write by columns."""
        columns: dict[str, Sequence[Any]] = {}
        for pair in self._pairs:
            values = page.data[pair.source]
            try:
                columns[pair.target] = values if pair.convert is None else list(map(pair.convert, values))
            except Exception as error:
                raise UnfitValueError(f"{pair.target!r} does not take a value: {type(error).__name__}") from error
        await self._target.write_columns(handle, columns, page.rows, version=version)
