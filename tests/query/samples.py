"""A model for each kind of store that has a column of each type, and the values that are put into it."""

from __future__ import annotations

import datetime
import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from sqlalchemy import types
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase

UTC = datetime.UTC
EAST = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
BIG = 2**63 - 1


class Colour(enum.Enum):
    """Names and values differ, and so do their orders."""

    RED = "z-red"
    GREEN = "a-green"
    BLUE = "m-blue"


class Cents(types.TypeDecorator[Decimal]):
    """A user's own type: amounts held as whole cents."""

    impl = types.BigInteger
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Any) -> int | None:
        return None if value is None else int(value * 100)

    def process_result_value(self, value: int | None, dialect: Any) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-2)


class Tagged(types.TypeDecorator[str]):
    """A user's own type: texts held with a mark before them."""

    impl = types.String(40)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else f"tag:{value}"

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.removeprefix("tag:")


@dataclass(frozen=True)
class Sample:
    """A column's type, its values, the type of its column in Arrow, and what can be done with it."""

    kind: types.TypeEngine[Any]
    values: Sequence[Any]
    arrow: pa.DataType
    compares: bool = True
    """Whether values can be looked for, and grouped by."""
    orders: bool = True
    """Whether values have a least and a greatest."""


def moment(*parts: int, zone: datetime.tzinfo | None = None) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=zone)  # type: ignore[arg-type]


ID = UUID("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
TEXTS = ["", "ä", "Ünïcödé ß", "🙂👩‍👩‍👧", "trailing  ", "trailing", "a'b\"c\\d:e%f", "A", "a", "tab\tand\nline"]
DOCUMENT = {
    "a": [1, None, {"b": "ä🙂"}], "big": 2**70, "float": 0.1, "tiny": 5e-324, "no": None, "yes": True, "": "", "e": {},
}  # fmt: skip
DOCUMENTS = [DOCUMENT, [], {}, None, "text", 5, 1.5, False, [[1, [2]], "x"], "5", "null"]
DECIMALS = [Decimal("0.00"), Decimal("-0.01"), Decimal("9999999999.99"), Decimal("-9999999999.99"), Decimal("1.50")]
MOMENTS = [
    moment(2026, 3, 4, 5, 6, 7, 890123), moment(1969, 12, 31, 23, 59, 59, 999999), moment(1970, 1, 1),
    moment(2026, 10, 25, 2, 30), moment(1901, 2, 3, 4, 5, 6),
]  # fmt: skip
FAR = [moment(1, 1, 2, 0, 0, 1), moment(9999, 12, 30, 23, 59, 59, 999999)]
DAYS = [datetime.date(2024, 2, 29), datetime.date(1969, 12, 31), datetime.date(1970, 1, 1)]
FAR_DAYS = [datetime.date(1, 1, 2), datetime.date(9999, 12, 30)]
WITH_SECONDS = [moment(2026, 3, 4, 5, 6, 7), moment(1970, 1, 2), moment(2026, 10, 25, 2, 30)]
HOURS = [datetime.time(), datetime.time(23, 59, 59, 999999), datetime.time(1, 2, 3)]
SPANS = [
    datetime.timedelta(), datetime.timedelta(days=-3, microseconds=7), datetime.timedelta(days=400, hours=25),
    datetime.timedelta(microseconds=-1), datetime.timedelta(hours=30),
]  # fmt: skip
FLOATS = [0.0, -0.0, 5e-324, 1.7976931348623157e308, -0.1, 1 / 3, 16777217.0, 1e16]
BYTES = [b"", bytes(range(256)), b"\x00", b"text", b"\\x41"]


def _zoned(moments: Sequence[datetime.datetime]) -> list[datetime.datetime]:
    return [one.replace(tzinfo=UTC if number % 2 else EAST) for number, one in enumerate(moments)]


US, INSTANT = pa.timestamp("us"), pa.timestamp("us", "UTC")
COMMON: Mapping[str, Sample] = {
    "whole": Sample(types.Integer(), [0, 2**31 - 1, -(2**31), 7], pa.int64()),
    "small": Sample(types.SmallInteger(), [0, 2**15 - 1, -(2**15)], pa.int64()),
    "large": Sample(types.BigInteger(), [0, BIG, -BIG, -BIG - 1, 2**53 + 1], pa.int64()),
    "flag": Sample(types.Boolean(), [True, False], pa.bool_(), orders=False),
    "share": Sample(types.Float(), FLOATS, pa.float64()),
    "double": Sample(types.Double(), FLOATS, pa.float64()),
    "price": Sample(types.Numeric(12, 2), DECIMALS, pa.decimal128(12, 2)),
    "rate": Sample(types.Numeric(12, 2, asdecimal=False), [0.0, 0.1, -9999.99], pa.decimal128(12, 2)),
    "wide": Sample(
        types.Numeric(38, 10),
        [Decimal("9" * 28 + "." + "9" * 10), Decimal("-" + "9" * 28 + ".0000000001"), Decimal("0E-10"), Decimal("1.5")],
        pa.decimal128(38, 10),
    ),
    "free": Sample(
        types.Numeric(), [Decimal("1.5"), Decimal("0"), Decimal("-12345678901.000123"), Decimal("100")],
        pa.decimal128(38, 10),
    ),
    "name": Sample(types.String(60), TEXTS, pa.string()),
    "prose": Sample(types.Text(), TEXTS, pa.string()),
    "unicode": Sample(types.Unicode(60), TEXTS, pa.string()),
    "colour": Sample(types.Enum(Colour), list(Colour), pa.string(), orders=False),
    "shade": Sample(types.Enum("light", "dark", name="shade"), ["dark", "light"], pa.string(), orders=False),
    "shown": Sample(
        types.Enum(Colour, values_callable=lambda members: [one.value for one in members], name="shown"),
        list(Colour), pa.string(), orders=False,
    ),
    "day": Sample(types.Date(), DAYS + FAR_DAYS, pa.date32()),
    "local": Sample(types.DateTime(), MOMENTS + FAR, US),
    "instant": Sample(types.DateTime(timezone=True), _zoned(MOMENTS + FAR), INSTANT),
    "hour": Sample(types.Time(), HOURS, pa.time64("us")),
    "span": Sample(types.Interval(), SPANS, pa.duration("us")),
    "raw": Sample(types.LargeBinary(), BYTES, pa.binary(), orders=False),
    "key": Sample(types.Uuid(), [ID, UUID(int=0), UUID(int=2**128 - 1)], pa.string()),
    "key_text": Sample(types.Uuid(as_uuid=False), [str(ID), str(UUID(int=5))], pa.string()),
    "data": Sample(types.JSON(), DOCUMENTS, pa.string(), compares=False, orders=False),
    "cents": Sample(Cents(), [Decimal("1.25"), Decimal("-7.00"), Decimal("0.00")], pa.int64()),
    "tagged": Sample(Tagged(), ["", "ä", "tag:x"], pa.string(), orders=False),
    "pickle": Sample(types.PickleType(), [{"a": {1, 2}}, (1, "x"), ""], pa.binary(), compares=False, orders=False),
}  # fmt: skip
NOT_FINITE = [math.inf, -math.inf, math.nan]


def _more(name: str, values: Sequence[Any]) -> dict[str, Sample]:
    sample = COMMON[name]
    return {name: Sample(sample.kind, [*sample.values, *values], sample.arrow, sample.compares, sample.orders)}


def _only(name: str, values: Sequence[Any]) -> dict[str, Sample]:
    sample = COMMON[name]
    return {name: Sample(sample.kind, values, sample.arrow, sample.compares, sample.orders)}


POSTGRESQL: Mapping[str, Sample] = {
    **COMMON,
    **_more("share", NOT_FINITE),
    **_more("double", NOT_FINITE),
    "real": Sample(types.REAL(), [0.5, -1.25], pa.float64()),
    "binary_data": Sample(
        postgresql.JSONB(), [*DOCUMENTS[:1], {"b": 1, "a": 2}, None, [1]], pa.string(), compares=False, orders=False
    ),
    "tags": Sample(postgresql.ARRAY(types.Text()), [[], ["a", None, "ä"], ["x"]], pa.list_(pa.string()), orders=False),
    "numbers": Sample(
        types.ARRAY(types.BigInteger()), [[], [1, None, BIG]], pa.list_(pa.int64()), orders=False
    ),
    "prices": Sample(
        types.ARRAY(types.Numeric(10, 2)), [[Decimal("1.50"), None], []], pa.list_(pa.decimal128(10, 2)), orders=False
    ),
    "days": Sample(types.ARRAY(types.Date()), [DAYS, []], pa.list_(pa.date32()), orders=False),
    "keys": Sample(types.ARRAY(types.Uuid()), [[ID, None], []], pa.list_(pa.string()), orders=False),
    "colours": Sample(postgresql.ARRAY(types.Enum(Colour)), [list(Colour), []], pa.list_(pa.string()), orders=False),
    "grid": Sample(
        types.ARRAY(types.Integer(), dimensions=2), [[[1, 2], [3, 4]]], pa.list_(pa.list_(pa.int64())), orders=False
    ),
    "long": Sample(postgresql.INTERVAL(), SPANS, pa.duration("us")),
}  # fmt: skip
MYSQL: Mapping[str, Sample] = {
    **COMMON,
    **_more("prose", ["nul\x00inside"]),
    **_only("hour", HOURS),
}
SQLITE: Mapping[str, Sample] = {
    **COMMON,
    **_more("share", NOT_FINITE[:2]),
    **_more("double", NOT_FINITE[:2]),
    **_more("prose", ["nul\x00inside"]),
    **_only("wide", [Decimal("123.4500000000"), Decimal("0E-10")]),
    **_only("free", [Decimal("1.5"), Decimal("0"), Decimal("100")]),
    **_only("price", [Decimal("0.00"), Decimal("-0.01"), Decimal("9999999999.99"), Decimal("1.50")]),
}
_CLICKHOUSE = {
    **COMMON,
    **_more("share", NOT_FINITE),
    **_more("double", NOT_FINITE),
    **_more("prose", ["nul\x00inside"]),
    **_only("day", DAYS),
    **_only("local", MOMENTS),
    **_only("instant", _zoned(MOMENTS)),
}
CLICKHOUSE: Mapping[str, Sample] = {
    name: sample for name, sample in _CLICKHOUSE.items() if name not in ("hour", "span", "pickle")
}
CLICKHOUSE_IN_SECONDS: Mapping[str, Sample] = {
    **CLICKHOUSE,
    **_only("day", DAYS[:1] + DAYS[2:]),
    **_only("local", WITH_SECONDS),
    **_only("instant", _zoned(WITH_SECONDS)),
}
"""What servers older than DateTime64 hold."""
SAMPLES: Mapping[str, Mapping[str, Sample]] = {
    "postgresql": POSTGRESQL, "mysql": MYSQL, "sqlite": SQLITE, "clickhouse": CLICKHOUSE_IN_SECONDS, "chdb": CLICKHOUSE,
}  # fmt: skip
ROWS = 1 + max(len(sample.values) for samples in SAMPLES.values() for sample in samples.values())
"""The last row is empty but for its key."""


class Label(FederatedBase):
    """The tiny table of another service."""

    __service__ = "type_labels"
    __tablename__ = "labels"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(types.String(20))


def _model(kind: str) -> Any:
    """Make a store's model; the attributes are not called as the columns are."""
    columns = {name: mapped_column(f"c_{name}", sample.kind, nullable=True) for name, sample in SAMPLES[kind].items()}
    made = {"__service__": f"type_{kind}", "__tablename__": "samples", "__module__": __name__, **columns}
    made["id"] = mapped_column("the_id", types.Integer(), primary_key=True, autoincrement=False)
    return type(f"{kind.title()}Sample", (FederatedBase,), made)


MODELS: Mapping[str, Any] = {kind: _model(kind) for kind in SAMPLES}


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Return the rows to insert; what a column has no value for is left out."""
    return [
        {
            "id": number,
            **{name: sample.values[number] for name, sample in SAMPLES[kind].items() if number < len(sample.values)},
        }
        for number in range(ROWS)
    ]
