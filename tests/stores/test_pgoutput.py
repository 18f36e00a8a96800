"""Messages of PostgreSQL's logical decoding that a server does not send as it is asked are refused, not guessed."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from sqlalchemy import Column, Integer, Text

from fedorm.stores.feeds import Chunk
from fedorm.stores.pgoutput import Decoder, Relation, UnreadableError, format_lsn, parse_lsn, read_relation
from tests.stores.logged import shape_of, table

SEEN = shape_of(table("logged_seen", Column("id", Integer, primary_key=True), Column("name", Text)))
RELATION = (
    b"R" + struct.pack(">I", 7) + b"public\0logged_seen\0d" + struct.pack(">H", 2)
    + b"\1id\0" + struct.pack(">Ii", 23, -1) + b"\0name\0" + struct.pack(">Ii", 25, -1)
)  # fmt: skip


def convert(column: Any, oid: int) -> Any:
    return (int if oid == 23 else bytes.decode), None


def row(*values: str | None, kind: bytes = b"t") -> bytes:
    written = [b"n" if one is None else kind + struct.pack(">I", len(one)) + one.encode() for one in values]
    return struct.pack(">H", len(values)) + b"".join(written)


def begin(moment: int = 0) -> bytes:
    return b"B" + struct.pack(">QqI", 0, moment, 1)


def commit(end: int, moment: int = 0) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, 0, end, moment)


def insert(*values: str | None, kind: bytes = b"t") -> bytes:
    return b"I" + struct.pack(">I", 7) + b"N" + row(*values, kind=kind)


@pytest.fixture
def decoder() -> Decoder:
    made = Decoder({("public", "logged_seen"): [SEEN]}, convert, position=16)
    made.read(RELATION, 0)
    return made


def test_relations() -> None:
    """A relation's name and columns, with their types and which of them are the identity."""
    relation = read_relation(RELATION, 0)
    assert (relation.oid, relation.schema, relation.name) == (7, "public", "logged_seen")
    assert [(one.name, one.oid, one.in_identity) for one in relation.attributes] == [
        ("id", 23, True), ("name", 25, False),
    ]  # fmt: skip


def test_transactions_are_whole(decoder: Decoder) -> None:
    """What is taken in the middle of a transaction is what was committed before, with its position and time."""
    for message in (begin(), insert("1", "a"), commit(32, 1_500_000), begin(), insert("2", None)):
        decoder.read(message, 0)
    first = decoder.take()
    assert [(one.key, one.values) for one in first.changes] == [((1,), {"id": 1, "name": "a"})]
    assert (first.position, first.committed_at) == ("0/20", 946_684_801.5)
    decoder.reached(1_000)  # Within a transaction that says nothing.
    part = decoder.take()
    assert ([one.key for one in part.changes], part.position, part.committed_at) == ([(2,)], None, 946_684_800.0)
    decoder.read(commit(48, 2_000_000), 0)
    assert decoder.take() == Chunk([], "0/30", 946_684_802.0)
    decoder.reached(1_000)
    assert decoder.take() == Chunk([], "0/3E8", None)


def test_transactions_without_a_change_move_the_position(decoder: Decoder) -> None:
    """They are no reason for a chunk, and a position never goes back."""
    for message in (begin(), commit(64)):
        decoder.read(message, 0)
    decoder.reached(32)
    assert (decoder.has_whole, decoder.position) == (False, 64)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"Z", "a message of the type 'Z'"),
        (insert("1", "a", kind=b"b"), "a value of the kind 'b'"),
        (insert("one", "a"), "logged.logged_seen: a value cannot be read: ValueError"),
        (b"U" + struct.pack(">I", 7) + b"K" + row("1", None) + b"X", "an update without a new row"),
    ],
    ids=["a message", "a binary value", "a bad value", "an update"],
)
def test_what_cannot_be_read(decoder: Decoder, message: bytes, said: str) -> None:
    """The error says what it was."""
    with pytest.raises(UnreadableError, match=said):
        decoder.read(message, 0)


def test_tables_of_no_shape(decoder: Decoder) -> None:
    """Their changes are passed over."""
    decoder.relate(Relation(8, "other", "logged_seen", []))
    decoder.read(b"I" + struct.pack(">I", 8) + b"N" + row("1"), 0)
    decoder.read(b"D" + struct.pack(">I", 8) + b"K" + row("1"), 0)
    assert not decoder.full(1)


@pytest.mark.parametrize(("text", "number"), [("0/0", 0), ("0/29C7478", 0x29C7478), ("1A/FFFFFFFF", 0x1AFFFFFFFF)])
def test_positions(text: str, number: int) -> None:
    """Places in the log are written as PostgreSQL writes them."""
    assert (parse_lsn(text), format_lsn(number)) == (number, text)


@pytest.mark.parametrize("text", ["", "12", "a/b/c", "x/0", '{"_data": "82"}'])
def test_what_is_no_position(text: str) -> None:
    """It is refused."""
    with pytest.raises(ValueError, match="is no position"):
        parse_lsn(text)
