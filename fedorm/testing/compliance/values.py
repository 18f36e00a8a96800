"""The values that have to survive: each type with its extremes, and what a store may lack."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=45))
WEST = datetime.timezone(datetime.timedelta(hours=-11))
_WIDE = Context(prec=200)


class Feature(enum.Enum):
    """What not every database can hold; a store that cannot declares a gap."""

    LONG_DECIMALS = "decimals of 16 to 34 digits"
    HUGE_DECIMALS = "decimals of 38 digits"
    MILLISECONDS = "times to the millisecond"
    MICROSECONDS = "times to the microsecond"
    NAIVE_DATETIMES = "datetimes without a zone"
    FAR_DATETIMES = "datetimes from year 1 to 9999"
    FAR_DATES = "dates from year 1 to 9999"
    LONG_FLOATS = "floats of 17 digits"
    INFINITY = "infinite floats"
    NAN = "floats that are not a number"
    ZERO_CHARACTERS = "text with zero characters"
    DELETED_VERSIONS = "versions of rows that were deleted"
    HUGE_JSON_NUMBERS = "whole numbers of more than 64 bits inside JSON"


class Color(enum.Enum):
    """An enumeration to store."""

    RED = "red"
    GREEN = "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"


@dataclass(frozen=True, slots=True)
class Case:
    """Values for one column of the sample model; ``feature`` is what a store needs to hold them."""

    name: str
    column: str
    values: Sequence[Any]
    feature: Feature | None = None
    equal: bool = True
    """Whether a statement can look for rows that hold a value."""

    def __str__(self) -> str:
        return self.name


HOSTILE = (
    "'; DROP TABLE compliance_samples; --",
    "' OR '1'='1",
    "\\' OR 1=1 -- \\",
    "\\",
    "\\\\'",
    '"quoted" `ticked` [bracketed]',
    "%s %(name)s %d 100% %%",
    ":name :1 ? ?? $1 {name} {{x}} @x",
    "$ne",
    "$where",
    "NULL",
    "\\N",
    "/* comment */ -- # end",
)
"""Texts that would be more than text where a statement is pasted together."""

_TEXTS = (
    "",
    " ",
    "  two spaces around  ",
    "plain",
    "Gr\u00fc\u00dfe, \u017elu\u0165ou\u010dk\u00fd k\u016f\u0148",
    "\u65e5\u672c\u8a9e, \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0010ffff",
    "e\u0301 is not \u00e9",
    "\ufeff\u2028\u2029\u00a0\x7f",
    "tab\tnewline\nreturn\r\nbackspace\bfeed\f\v\a\x1b end",
    "x" * 20_000,
)

_JSON: Sequence[Any] = (
    {},
    [],
    {"a": {"b": [{"c": [1, 2, [3, []]]}, {}]}},
    {"none": None, "true": True, "false": False, "zero": 0},
    {"float": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308},
    {"big": 2**53 + 1, "max": 2**63 - 1, "min": -(2**63)},
    {"": "empty key", "with.dot": 1, "with space": 2, "\u00fc\U0001f600": "\U0001f600", "'\"\\": "'\"\\"},
    ["text", 1, 1.5, None, True],
    {"text": list(HOSTILE)},
)  # fmt: skip

CASES: Sequence[Case] = (
    Case("integers", "integer", [0, 1, -1, 2**31 - 1, -(2**31)]),
    Case("big integers", "big", [0, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)]),
    Case("booleans", "flag", [True, False]),
    Case("floats", "real", [
        0.0, -1.5, 0.1, 0.3, 1 / 3, -math.pi, 1e22, 1e23, 8.41e21, 9007199254740993.0,
        5e-324, -2.225073858507201e-308, 2.2250738585072014e-308, 1.7976931348623157e308, -1e300,
    ]),
    Case("floats of 17 digits", "real", [123456789.123456789, 1061486.8123926779], Feature.LONG_FLOATS),
    Case("infinite floats", "real", [math.inf, -math.inf], Feature.INFINITY),
    Case("floats that are no number", "real", [math.nan], Feature.NAN, equal=False),
    Case("decimals", "amount", [
        Decimal(0), Decimal("0.1"), Decimal("-19.99"), Decimal("123456789.123456"), Decimal("0.000000000000001"),
    ]),
    Case("decimals without a precision", "price", [
        Decimal(0), Decimal("1.5"), Decimal("-0.01"), Decimal("12345678.90"), Decimal("0.000001"),
    ]),
    Case("long decimals", "amount", [
        Decimal("1234567890123456.123456789012345678"), Decimal("-1234567890.123456789"),
        Decimal("9007199254740993"), Decimal("0.100000000000000001"),
    ], Feature.LONG_DECIMALS),
    Case("huge decimals", "amount", [
        Decimal("12345678901234567890.123456789012345678"), Decimal("-99999999999999999999.999999999999999999"),
    ], Feature.HUGE_DECIMALS),
    Case("datetimes in zones", "moment", [
        datetime.datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC),
        datetime.datetime(2024, 7, 1, 1, 2, 3, tzinfo=EAST),
        datetime.datetime(1999, 12, 31, 23, 0, 0, tzinfo=WEST),
        datetime.datetime(1970, 1, 1, 0, 0, 0, tzinfo=UTC),
        datetime.datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    ]),
    Case("datetimes in zones, to the millisecond", "moment", [
        datetime.datetime(2024, 2, 29, 23, 59, 59, 999_000, tzinfo=EAST),
    ], Feature.MILLISECONDS),
    Case("datetimes in zones, to the microsecond", "moment", [
        datetime.datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=WEST),
        datetime.datetime(2024, 2, 29, 0, 0, 0, 1, tzinfo=UTC),
    ], Feature.MICROSECONDS),
    Case("far datetimes in zones", "moment", [
        datetime.datetime(1, 1, 2, 0, 0, 0, tzinfo=UTC),
        datetime.datetime(1899, 12, 31, 0, 0, 0, tzinfo=UTC),
        datetime.datetime(9999, 12, 30, 23, 59, 59, tzinfo=UTC),
    ], Feature.FAR_DATETIMES),
    Case("datetimes without a zone", "wall_clock", [
        datetime.datetime(2024, 2, 29, 23, 59, 59),
        datetime.datetime(2024, 3, 31, 2, 30, 0),
        datetime.datetime(1970, 1, 2, 0, 0, 0),
    ], Feature.NAIVE_DATETIMES),
    Case("dates", "day", [
        datetime.date(2024, 2, 29), datetime.date(1970, 1, 1), datetime.date(1970, 1, 2), datetime.date(2100, 12, 31),
    ]),
    Case("far dates", "day", [
        datetime.date(1, 1, 1), datetime.date(1899, 12, 31), datetime.date(9999, 12, 31),
    ], Feature.FAR_DATES),
    Case("uuids", "token", [
        UUID(int=0), UUID(int=2**128 - 1), UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
        UUID("00000000-0000-0000-0000-0000000000ff"),
    ]),
    Case("texts", "text", _TEXTS),
    Case("texts with zero characters", "text", ["a\x00b", "\x00", "a\x00"], Feature.ZERO_CHARACTERS),
    Case("texts that look like SQL", "text", HOSTILE),
    Case("binary", "data", [
        b"", b"\x00", b"\x00\x01\x00", bytes(range(256)), b"\xff\xfe\xfd", "\u00fc\U0001f600".encode(), b"'\\\"%s\n\t",
        b"\\xff", b"ascii", bytes(range(256)) * 100,
    ]),
    Case("JSON", "document", _JSON, equal=False),
    Case("huge numbers in JSON", "document", [{"huge": 2**64 + 1}], Feature.HUGE_JSON_NUMBERS, equal=False),
    Case("enumerations", "color", [Color.RED, Color.GREEN]),
)  # fmt: skip
"""What a column of each type has to give back as it was given."""


def exactly(value: Any) -> Any:
    """Return what two values must share to be the same: their type and all of the value.

    Decimals are compared as numbers and datetimes with a zone as instants, as databases pad the one and move the other.
    """
    if isinstance(value, float):
        return "float", value.hex()
    if isinstance(value, Decimal):
        return "Decimal", *value.normalize(_WIDE).as_tuple()
    if isinstance(value, datetime.datetime):
        aware = value.utcoffset() is not None
        return "datetime", aware, (value.astimezone(UTC) if aware else value).replace(tzinfo=None)
    if isinstance(value, Mapping):
        return {key: exactly(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [exactly(inner) for inner in value]
    return type(value).__name__, value
