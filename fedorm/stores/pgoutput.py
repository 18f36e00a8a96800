"""pgoutput, the messages in which PostgreSQL's logical decoding tells of changes: protocol version 1, values as text.

Nothing here reads or writes: messages go in, changes come out, transaction by transaction.
https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

from fedorm.stores.feeds import Change, Chunk
from fedorm.stores.rows import Key, RowShape, Values

Load = Callable[[bytes], Any]
Process = Callable[[Any], Any]
Conversion = tuple[Load, Process | None]
"""What makes a value of the driver's text, and what the column's type makes of that value, or of None."""
Converter = Callable[[Any, int], Conversion]
"""Gives the conversion for a column and the number of its type at the server."""
TableName = tuple[str, str]

_TEXT, _NULL, _UNCHANGED, _OLD, _KEY, _NEW = b"tnuOKN"
_length = Struct(">I").unpack_from
_oid = Struct(">I").unpack_from
_short = Struct(">H").unpack_from
_begin = Struct(">QqI").unpack_from
_commit = Struct(">BQQq").unpack_from
_EPOCH = 946_684_800.0
"""2000-01-01 in seconds since 1970."""
LARGE = 16_000_000
"""So many bytes of messages are enough for a chunk, however few changes they are."""


class KeyNotLoggedError(Exception):
    """The log does not tell the key of a row that was changed or deleted."""

    def __init__(self, shape: RowShape, relation: Relation) -> None:
        self.table = f"{relation.schema}.{relation.name}"
        super().__init__(f"{shape.label}: the log does not tell the key of a changed row of {relation.name}")


class UnreadableError(Exception):
    """A message is not of the protocol that was asked for, or a value is none that Python or a column's type knows."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One column of a table as the log has it."""

    name: str
    oid: int
    """The number of its type."""
    in_identity: bool


@dataclass(slots=True)
class Relation:
    """One table as the log has it from here on."""

    oid: int
    schema: str
    name: str
    attributes: Sequence[Attribute]


def read_relation(data: bytes, start: int) -> Relation:
    """Read a relation message, whose type is at ``start``."""
    (oid,) = _oid(data, start + 1)
    schema, at = _text(data, start + 5)
    name, at = _text(data, at)
    (count,) = _short(data, at + 1)  # Behind the kind of identity, which the rows themselves tell again.
    at += 3
    attributes = []
    for _ in range(count):
        flags = data[at]
        column, at = _text(data, at + 1)
        (kind,) = _oid(data, at)
        at += 8  # The type's modifier, too.
        attributes.append(Attribute(column, kind, bool(flags & 1)))
    return Relation(oid, schema or "pg_catalog", name, attributes)


def _text(data: bytes, start: int) -> tuple[str, int]:
    end = data.index(0, start)
    return data[start:end].decode(), end + 1


Slot = tuple[str, Load, Process | None]


class _Plan:
    """How rows of one relation become changes of one shape; the loop over its columns is what costs."""

    def __init__(self, shape: RowShape, relation: Relation, convert: Converter) -> None:
        self.shape, self.relation = shape, relation
        fields: dict[str, list[str]] = {}
        for name in shape.fields:
            fields.setdefault(shape.columns[name].name, []).append(name)
        self.columns: list[Slot | None] = []
        self.identity: list[Slot | None] = []
        self.aliases: list[tuple[str, str]] = []
        self.unreadable: set[str] = set()
        """Fields of the row that was read last that Python, or a column's type, has no value for."""
        self.only_key = shape.key[0] if len(shape.key) == 1 else None
        for attribute in relation.attributes:
            first, *more = fields.get(attribute.name, [None])
            column = None if first is None else (first, *convert(shape.columns[first], attribute.oid))
            self.columns.append(column)
            self.identity.append(column if attribute.in_identity else None)
            self.aliases += [(name, first) for name in more if first is not None and name is not None]

    def row(self, data: bytes, at: int, columns: Sequence[Slot | None]) -> tuple[Values, int]:
        """Return the row that begins at ``at``, and where it ends."""
        values: Values = {}
        if self.unreadable:
            self.unreadable = set()
        at += 2  # The number of columns is that of the relation.
        for column in columns:
            kind = data[at]
            if kind == _TEXT:
                (size,) = _length(data, at + 1)
                begin = at + 5
                at = begin + size
                if column is not None:
                    name, load, process = column
                    try:
                        value = load(data[begin:at])
                        values[name] = value if process is None else process(value)
                    except Exception:
                        if name in self.shape.key:
                            raise
                        self.unreadable.add(name)  # Left out, as what has not changed: whoever needs it reads the row.
                continue
            at += 1
            if kind == _NULL:
                if column is not None:
                    name, _, process = column
                    values[name] = None if process is None else process(None)
            elif kind != _UNCHANGED:
                raise UnreadableError(f"the log has a value of the kind {chr(kind)!r}")
        if self.aliases:
            values.update({name: values[first] for name, first in self.aliases if first in values})
        return values, at

    def key(self, values: Values, before: Values | None = None) -> Key:
        """Return a row's key; what the log leaves out of the new row is as it was before."""
        try:
            if self.only_key is not None:
                return (values[self.only_key],)
            return tuple([values[name] for name in self.shape.key])
        except KeyError:
            whole = {**(before or {}), **values}
            try:
                return tuple([whole[name] for name in self.shape.key])
            except KeyError:
                raise KeyNotLoggedError(self.shape, self.relation) from None

    def insert(self, data: bytes, at: int) -> Change:
        """Read what comes behind the relation's number in an insert."""
        values, _ = self.row(data, at + 1, self.columns)
        return Change(self.shape, "upsert", self.key(values), values)

    def update(self, data: bytes, at: int) -> Change:
        """Read the same of an update."""
        kind, before = data[at], None
        if kind != _NEW:
            before, at = self.row(data, at + 1, self.columns if kind == _OLD else self.identity)
            if data[at] != _NEW:
                raise UnreadableError("the log has an update without a new row")
        values, _ = self.row(data, at + 1, self.columns)
        key = self.key(values, before)
        if before is not None and kind == _OLD:
            for name in before.keys() - values.keys() - self.unreadable:
                values[name] = before[name]
        return Change(self.shape, "upsert", key, values, before)

    def delete(self, data: bytes, at: int) -> Change:
        """Read the same of a delete."""
        before, _ = self.row(data, at + 1, self.columns if data[at] == _OLD else self.identity)
        return Change(self.shape, "delete", self.key(before), None, before)


class Decoder:
    """Gathers the changes of transactions, which the log tells one after the other, each when it is committed.

    ``shapes`` are those of each table, by its schema and name; changes of other tables are passed over, and so are
    columns that no shape has.
    """

    def __init__(self, shapes: Mapping[TableName, Sequence[RowShape]], convert: Converter, *, position: int) -> None:
        self._shapes, self._convert = shapes, convert
        self._plans: dict[int, list[_Plan]] = {}
        self._changes: list[Change] = []
        self._whole = 0
        """How many of the changes are of transactions that have been told to their end."""
        self._taken = False
        """Whether a part of the transaction that is being told has been taken."""
        self._size = 0
        self.position = position
        """All that was committed before is told."""
        self.in_transaction = False
        self._committed_at: float | None = None
        self._committing_at: float | None = None
        self._readers: dict[int, Callable[[bytes, int], None]] = {
            ord("I"): self._insert, ord("U"): self._update, ord("D"): self._delete, ord("T"): self._truncate,
            ord("B"): self._begin, ord("C"): self._commit,
            ord("R"): lambda data, start: self.relate(read_relation(data, start)),
            ord("Y"): _pass, ord("O"): _pass, ord("M"): _pass,
        }  # fmt: skip

    def relate(self, relation: Relation) -> None:
        """Read a table's rows like this from here on."""
        shapes = self._shapes.get((relation.schema, relation.name), ())
        self._plans[relation.oid] = [_Plan(shape, relation, self._convert) for shape in shapes]

    def read(self, data: bytes, start: int) -> None:
        """Read a message, whose type is at ``start``."""
        reader = self._readers.get(data[start])
        if reader is None:
            raise UnreadableError(f"the log has a message of the type {chr(data[start])!r}")
        try:
            reader(data, start)
        except (UnreadableError, KeyNotLoggedError):
            raise
        except Exception as error:
            # A driver's loaders and users' types raise what they like.
            plans = self._plans.get(_oid(data, start + 1)[0], [])
            label = plans[0].shape.label if plans else "the log"
            raise UnreadableError(f"{label}: a value cannot be read: {type(error).__name__}: {error}") from error

    def reached(self, position: int) -> None:
        """Take note that the log was read up to a position; in the middle of a transaction that says nothing."""
        if not self.in_transaction:
            self.position = max(self.position, position)

    # -- chunks

    def full(self, limit: int) -> bool:
        """Say whether there are so many changes that they should be taken."""
        return len(self._changes) >= limit or self._size >= LARGE

    @property
    def has_whole(self) -> bool:
        """Say whether there are whole transactions to take, or the last part of one."""
        return self._committed_at is not None

    def take(self) -> Chunk:
        """Take the whole transactions, else the part of one that is there."""
        self._size = 0
        if self.has_whole or not self.in_transaction:
            changes, self._changes = self._changes[: self._whole], self._changes[self._whole :]
            committed_at, self._committed_at, self._whole = self._committed_at, None, 0
            return Chunk(changes, format_lsn(self.position), committed_at)
        changes, self._changes, self._taken = self._changes, [], True
        return Chunk(changes, None, self._committing_at)

    # -- messages

    def _insert(self, data: bytes, start: int) -> None:
        (oid,) = _oid(data, start + 1)
        for plan in self._plans[oid]:
            self._changes.append(plan.insert(data, start + 5))
        self._size += len(data)

    def _update(self, data: bytes, start: int) -> None:
        (oid,) = _oid(data, start + 1)
        for plan in self._plans[oid]:
            self._changes.append(plan.update(data, start + 5))
        self._size += len(data)

    def _delete(self, data: bytes, start: int) -> None:
        (oid,) = _oid(data, start + 1)
        for plan in self._plans[oid]:
            self._changes.append(plan.delete(data, start + 5))
        self._size += len(data)

    def _truncate(self, data: bytes, start: int) -> None:
        (count,) = _length(data, start + 1)
        for number in range(count):
            (oid,) = _oid(data, start + 6 + 4 * number)
            self._changes += [Change(plan.shape, "truncate") for plan in self._plans[oid]]

    def _begin(self, data: bytes, start: int) -> None:
        _, moment, _ = _begin(data, start + 1)
        self.in_transaction, self._committing_at = True, _EPOCH + moment / 1e6

    def _commit(self, data: bytes, start: int) -> None:
        _, _, end, moment = _commit(data, start + 1)
        self.in_transaction, self.position = False, end
        if len(self._changes) > self._whole or self._taken:
            self._whole, self._committed_at = len(self._changes), _EPOCH + moment / 1e6
        self._taken = False


def _pass(data: bytes, start: int) -> None:
    """Types, origins and messages of applications say nothing about rows."""


def parse_lsn(position: str) -> int:
    """Return a place in the log as a number; raises ``ValueError``."""
    high, _, low = position.partition("/")
    try:
        return (int(high, 16) << 32) | int(low, 16)
    except ValueError:
        raise ValueError(f"{position!r} is no position in PostgreSQL's log") from None


def format_lsn(position: int) -> str:
    """Write a place in the log as PostgreSQL does."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
