"""Whole rows of one table or collection, by key: read in pages, and written in blocks that may come twice.

What keeps data in sync between services asks each store for ``row_access(shape)``. Values are as a model holds them:
what a column's type gives and takes, not what the driver does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Column, Table

if TYPE_CHECKING:
    from fedorm.stores.passing import Pair, Passage

VERSION, DELETED = "sync_version", "sync_deleted"
"""Fields of a target whose rows can only be appended: the greatest version counts, and says whether the row is gone."""
Key = tuple[Any, ...]
Values = dict[str, Any]
"""A row by the names of its fields."""


@dataclass(frozen=True, slots=True, eq=False)
class RowShape:
    """Which fields of which table, or document class, are read or written, and which of them are the key."""

    service: str
    label: str
    """What errors call it: the model's name, else ``service.table``."""
    key: tuple[str, ...]
    fields: tuple[str, ...]
    """Names of attributes, or of a table's columns; those of the key among them."""
    table: Table | None = None
    columns: Mapping[str, Column[Any]] = field(default_factory=dict)
    """Of a table, the column of each field."""
    document: type[Any] | None = None
    version: str | None = None
    """Where rows can only be appended, the field by whose greatest value the row that counts is known."""
    deleted: str | None = None
    """There, the field that is true in a row that says that it is gone."""

    def of(self, fields: Collection[str]) -> RowShape:
        """Return what is left with these fields, and with those of the key."""
        names = tuple(name for name in self.fields if name in fields or name in self.key)
        kept = {*names, self.version, self.deleted}
        columns = {name: column for name, column in self.columns.items() if name in kept}
        return replace(self, fields=names, columns=columns)


@dataclass(slots=True)
class Block:
    """What is to be written together. No key is in it twice, and its parts may be written in any order."""

    upserts: list[Values] = field(default_factory=list)
    """Rows that have to be there afterwards, each whole: in place of those with their keys, which keep other fields.

    Where rows are only appended, the other fields of a new row have their defaults.
    """
    changes: list[tuple[Key, Values]] = field(default_factory=list)
    """Values of rows that are changed where they are there, and are not made where they are not."""
    deletes: list[Key] = field(default_factory=list)
    """Keys of rows that have to be gone afterwards, whether they were there or not."""
    only: Values = field(default_factory=dict)
    """Values by which rows are known that may be changed and deleted: others are left alone, where ``heeds_only``."""

    def __len__(self) -> int:
        return len(self.upserts) + len(self.changes) + len(self.deletes)


class RowAccess(ABC):
    """Reads and writes one ``RowShape``; made for a store that is open for asynchronous use, and holds no connection.

    A transaction is one connection's, used by one task at a time. Its ``handle`` is a SQLAlchemy ``Connection`` that is
    used under ``greenlet_spawn``, or PyMongo's session; None where the store has no transactions, and then each write
    is there at once. Raises a ``StoreError``: for what is in the rows a ``RowError``, which repeats no more than the
    database says, for everything else another one.
    """

    sees_new_keys: ClassVar[bool] = True
    """Whether pages have rows that were added while they were read; where not, those are in the next reading."""
    rounds_moments: ClassVar[bool] = True
    """Whether the database rounds moments with more digits than a column keeps, and does not cut them off."""
    heeds_only: ClassVar[bool] = False
    """Whether what a block says in ``only`` is looked at, as rows are changed and deleted."""
    narrow_floats: frozenset[str] = frozenset()
    """Fields whose columns hold floats of 32 bits, seven digits: what is read is not what was written."""

    as_replica: bool = False
    """Whether what is written was checked where it comes from: foreign keys are not looked at, where that can be."""

    def __init__(self, shape: RowShape) -> None:
        self.shape = shape

    # -- reading

    @abstractmethod
    def pages(self, *, size: int, after: Key | None = None, since: str | None = None) -> AsyncIterator[list[Values]]:
        """Yield all rows in pages of at most ``size``, in the order of their keys as the database sorts them.

        ``after`` is the key of the last row that is not wanted any more; ``since`` is a mark, and leaves out rows that
        have not changed since it was taken. Each page is read for itself by its keys, and
        sees what was committed before it: nothing is held open between two pages.
        """

    async def mark(self, *, changed: str | None, overlap: float) -> str | None:
        """Return a mark of this moment: ``pages(since=)`` it leaves out no row that is committed later.

        ``changed`` names a field that holds when a row was changed, by a clock that is at most ``overlap`` seconds
        behind the start of its transaction. None: the database cannot tell, and all rows have to be looked at.
        """
        return None

    def reaches(self, since: str, now: str) -> bool:
        """Say whether what has changed since a mark can still be told, as of another one that was just taken."""
        return True

    @abstractmethod
    def key_pages(self, *, size: int, after: Key | None = None) -> AsyncIterator[list[Key]]:
        """Yield the keys alone, in the same order."""

    @abstractmethod
    async def read(self, keys: Sequence[Key]) -> dict[Key, Values]:
        """Return the rows with these keys that are there, in statements that suit the store."""

    @abstractmethod
    async def present(self, keys: Sequence[Key]) -> set[Key]:
        """Return which of these keys are there."""

    @abstractmethod
    async def count(self) -> int:
        """Return how many rows there are."""

    async def passage(self, target: RowAccess, pairs: Sequence[Pair]) -> Passage | None:
        """Return a faster way to fill a target with all rows, as they are; None where there is none."""
        return None

    # -- writing

    @abstractmethod
    def narrowed(self, fields: Collection[str]) -> RowAccess:
        """Return what reads and writes these fields of the same rows, and their keys; handles are good for both."""

    @abstractmethod
    async def begin(self) -> Any:
        """Begin a transaction and return its handle; None where the store has none."""

    @abstractmethod
    async def write(self, handle: Any, block: Block, *, version: int) -> None:
        """Write a block in the way that is fastest for its size.

        ``version`` grows from block to block; a store whose rows are appended writes it into each row, and lets the
        greatest count. After an error the transaction can only be rolled back.
        """

    @abstractmethod
    async def commit(self, handle: Any) -> None:
        """Commit, and give the connection back."""

    @abstractmethod
    async def rollback(self, handle: Any) -> None:
        """Undo, and give the connection back; never raises for a server that is gone."""
