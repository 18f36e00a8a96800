"""What goes through a broker: some changes of one rule and one partition, at most one for each row."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fedorm.exc import FedormError
from fedorm.stores.rows import Key, Values
from fedorm.sync.brokers.encoding import RowEncoding
from fedorm.sync.sameness import comparable

Kind = Literal["changes", "first", "compared", "sweep"]
"""Of the log; rows of a snapshot for an empty target, or for one that may have them; a look for what is gone."""
_FORM = 1
_ROWS, _BYTES = 1_000, 400_000
"""How much a message holds at most: brokers take a megabyte, unless told otherwise."""


class UnreadableMessageError(FedormError):
    """What came is no message of this rule."""


@dataclass(slots=True)
class Message:
    """One message; ``sequence`` grows from one message of a partition to the next, whoever publishes them."""

    kind: Kind
    sequence: int
    at: float | None = None
    """When its last change was committed, in seconds since 1970."""
    rows: list[Values] = field(default_factory=list)
    reads: list[Key] = field(default_factory=list)
    """Rows that have changed, and are to be read: the message does not tell their values."""
    gone: list[Key] = field(default_factory=list)


def partition_of(key: Key, partitions: int) -> int:
    """Return which partition a source's row belongs to, the same in every process."""
    if len(key) == 1 and type(key[0]) in (int, str):
        text = str(key[0])
    else:
        text = json.dumps([comparable(value) for value in key], default=str)
    return zlib.crc32(text.encode()) % partitions


class Parts:
    """Gathers what has become of rows, and says it in messages."""

    def __init__(self, encoding: RowEncoding, partitions: int) -> None:
        self._encoding, self._partitions = encoding, partitions
        self._open: dict[int, _Part] = {}
        self._full: dict[int, list[_Part]] = {}

    def row(self, key: Key, values: Values) -> None:
        """Take a row with its values."""
        line = self._encoding.row(values)
        if line is None or len(line) > _BYTES:
            self.read(key)
        else:
            self._part(key, len(line)).rows.append(line)

    def read(self, key: Key) -> None:
        """Take a row that is to be read."""
        line = self._encoding.key(key)
        self._part(key, len(line)).reads.append(line)

    def gone(self, key: Key) -> None:
        """Take a row that is gone."""
        line = self._encoding.key(key)
        self._part(key, len(line)).gone.append(line)

    def _part(self, key: Key, size: int) -> _Part:
        number = partition_of(key, self._partitions)
        part = self._open.get(number)
        if part is None or part.count == _ROWS or part.size + size > _BYTES:
            part = self._open[number] = _Part()
            self._full.setdefault(number, []).append(part)
        part.count += 1
        part.size += size
        return part

    def messages(self, kind: Kind, sequence: int, at: float | None) -> dict[int, list[tuple[int, bytes]]]:
        """Return, for each partition, messages and their sequences, the first of which is ``sequence``."""
        return {
            number: [
                (sequence + place, self._written(part, kind, sequence + place, at)) for place, part in enumerate(parts)
            ]
            for number, parts in self._full.items()
        }

    def _written(self, part: _Part, kind: Kind, sequence: int, at: float | None) -> bytes:
        head = {"form": _FORM, "kind": kind, "sequence": sequence, "at": at, "fields": self._encoding.shape.fields}
        text = json.dumps(head)[:-1].encode()
        lists = ((b"rows", part.rows), (b"reads", part.reads), (b"gone", part.gone))
        return text + b"".join(b', "%s": [%s]' % (name, b",".join(lines)) for name, lines in lists if lines) + b"}"


@dataclass(slots=True)
class _Part:
    rows: list[bytes] = field(default_factory=list)
    reads: list[bytes] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    count: int = 0
    size: int = 0


def sweeps(sequence: int, partitions: Iterable[int]) -> dict[int, list[tuple[int, bytes]]]:
    """Return a message for each partition that has what is gone looked for."""
    body = json.dumps({"form": _FORM, "kind": "sweep", "sequence": sequence}).encode()
    return {number: [(sequence, body)] for number in partitions}


def read_message(body: bytes, encoding: RowEncoding) -> Message:
    """Return what was published. Raises ``UnreadableMessageError`` for anything else."""
    try:
        told: dict[str, Any] = json.loads(body)
        if told["form"] != _FORM:
            raise UnreadableMessageError(f"a message has form {told['form']!r}, of another release of fedorm")
        message = Message(told["kind"], told["sequence"], told.get("at"))
        message.reads = [encoding.key_of(key) for key in told.get("reads", ())]
        message.gone = [encoding.key_of(key) for key in told.get("gone", ())]
        _read_rows(message, told.get("fields", []), told.get("rows", ()), encoding)
    except (ValueError, TypeError, LookupError) as error:
        raise UnreadableMessageError(f"what came is no message of fedorm: {type(error).__name__}") from error
    return message


def _read_rows(message: Message, fields: list[str], rows: Sequence[list[Any]], encoding: RowEncoding) -> None:
    if not rows:
        return
    names = encoding.shape.key
    places = [fields.index(name) for name in names]
    for told in rows:
        try:
            values = encoding.values(fields, told)
        except (ValueError, TypeError, ArithmeticError, LookupError):
            values = {}
        if len(values) < len(encoding.shape.fields):
            # Published by another release: what it does not say is in the source.
            message.reads.append(tuple(encoding.values([fields[at]], [told[at]])[fields[at]] for at in places))
        else:
            message.rows.append(values)
