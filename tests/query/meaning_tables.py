"""Two tables of values that databases compare, order and write in different ways."""

from __future__ import annotations

import datetime
from decimal import Decimal as D
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Uuid,
)

from fedorm import FederatedBase

UTC = datetime.UTC
DATE, AT = datetime.date, datetime.datetime


def columns() -> list[Column[Any]]:
    return [
        Column("k", BigInteger, primary_key=True, autoincrement=False),
        Column("i", BigInteger), Column("j", Integer), Column("f", Double), Column("n", Numeric(10, 2)),
        Column("m", Numeric(12, 4)), Column("t", String(20)), Column("u", String(50)), Column("c", CHAR(5)),
        Column("b", Boolean), Column("d", Date), Column("ts", DateTime), Column("tz", DateTime(timezone=True)),
        Column("g", Uuid), Column("js", JSON(none_as_null=True)),
    ]  # fmt: skip


def arrays() -> list[Column[Any]]:
    return [Column("arr", ARRAY(Integer)), Column("tags", ARRAY(Text))]


LEFT = Table("a", FederatedBase.metadata_of("meaning_left"), *columns(), *arrays())
RIGHT = Table("b", FederatedBase.metadata_of("meaning_right"), *columns())
WHOLE = MetaData()
WHOLE_LEFT = Table("a", WHOLE, *columns(), *arrays(), schema="meaning_left")
WHOLE_RIGHT = Table("b", WHOLE, *columns(), schema="meaning_right")

_ROWS: list[tuple[Any, ...]] = [
    (
        7,
        2,
        1.5,
        D("1.50"),
        D("3.1415"),
        "x",
        "Stra\xdfe",
        "ab",
        True,
        DATE(2024, 1, 31),
        AT(2024, 1, 31, 12, 30, 15, 250000),
        AT(2024, 1, 31, 23, 30, tzinfo=UTC),
        UUID(int=10),
        {"a": {"b": [1, 2]}, "s": "t"},
    ),
    (
        -7,
        2,
        -2.5,
        D("-2.25"),
        D("2.5000"),
        "X",
        "\xc4\xd6\xfc",
        "AB",
        False,
        DATE(2024, 2, 29),
        AT(2024, 2, 29),
        AT(2024, 2, 29, tzinfo=UTC),
        UUID(int=2),
        [1, "z", None],
    ),
    (
        7,
        -2,
        0.1,
        D("0.00"),
        D("0.3333"),
        "x ",
        "",
        "a",
        None,
        DATE(1999, 12, 31),
        AT(1999, 12, 31, 23, 59, 59),
        AT(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        None,
        {"a": None},
    ),
    (
        0,
        3,
        2.5,
        D("10.10"),
        D("-0.5000"),
        "\xe9",
        "a_b%c",
        "b",
        True,
        DATE(2024, 3, 31),
        AT(2024, 3, 31, 2, 30),
        AT(2024, 3, 31, 1, 30, tzinfo=UTC),
        UUID(int=2**127),
        "text",
    ),
    (None,) * 14,
    (
        5,
        4,
        3.5,
        D("0.50"),
        D("0.5000"),
        "e",
        "  pad ",
        "ab",
        False,
        DATE(2023, 6, 15),
        AT(2023, 6, 15, 8, 0, 0, 1),
        AT(2023, 6, 15, 8, 0, 0, 1, tzinfo=UTC),
        UUID(int=10),
        12,
    ),
    (
        2**53 + 1,
        1,
        1e15,
        D("99999999.99"),
        D("0.0001"),
        "",
        "B\\n",
        "",
        True,
        DATE(2024, 12, 30),
        AT(2024, 12, 30),
        AT(2024, 12, 30, tzinfo=UTC),
        UUID(int=3),
        True,
    ),
    (
        5,
        4,
        3.5,
        D("0.50"),
        D("0.5000"),
        "\xc9",
        "b",
        "AB ",
        False,
        DATE(2023, 6, 15),
        AT(2023, 6, 15, 8, 0, 0, 1),
        AT(2023, 6, 15, 8, 0, 0, 1, tzinfo=UTC),
        UUID(int=10),
        12.5,
    ),
]
_ARRAYS: list[list[int | None] | None] = [[1, 2, 3], [], None, [None, 4], [5], [7, 7], [0], [1]]


def left_rows() -> list[dict[str, Any]]:
    """What the first table has."""
    names = [column.name for column in columns()]
    rows = [dict(zip(names, (k, *row), strict=True)) for k, row in enumerate(_ROWS, 1)]
    tags = [None if one is None else [None if tag is None else str(tag) for tag in one] for one in _ARRAYS]
    return [{**row, "arr": one, "tags": two} for row, one, two in zip(rows, _ARRAYS, tags, strict=True)]


def right_rows() -> list[dict[str, Any]]:
    """The same values in the second table, one row further on."""
    names = [column.name for column in columns()]
    return [dict(zip(names, (k, *row), strict=True)) for k, row in enumerate([*_ROWS[1:], _ROWS[0]], 1)]
