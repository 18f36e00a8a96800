"""Column types that keep a value whole or refuse it, where a dialect's own would bend it and say nothing."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import types

Processor = Callable[[Any], Any]

UTC = datetime.UTC
_WIDE = Context(prec=200)


class RefusedValueError(ValueError):
    """A value that the database would not give back as it was; the store names itself in the error made of it."""


class Zoned(types.DateTime):
    """Datetimes that have a zone exactly when their column has one.

    Where the database holds no zone (``stores_utc``), the instant is kept in UTC and comes back with that zone.
    """

    stores_utc: ClassVar[bool] = False
    earliest: ClassVar[datetime.datetime] = datetime.datetime.min
    latest: ClassVar[datetime.datetime] = datetime.datetime.max

    def bind_processor(self, dialect: Any) -> Processor:
        """Check the zone and the range, then do what the dialect does."""
        zoned, inner = bool(self.timezone), super().bind_processor(dialect)
        first, last = self.earliest.year, self.latest.year

        def process(value: Any) -> Any:
            if isinstance(value, datetime.datetime):
                # Between the first and the last year no zone leads out of the range.
                if (value.utcoffset() is not None) != zoned or not first < value.year < last:
                    self._check(value, zoned)
                if zoned and self.stores_utc:
                    value = value.astimezone(UTC).replace(tzinfo=None)
            return inner(value) if inner is not None else value

        return process

    def _check(self, value: datetime.datetime, zoned: bool) -> None:
        offset = value.utcoffset()
        if zoned and offset is None:
            raise RefusedValueError(f"{value!r} has no zone, and its column has: give it one, or use DateTime()")
        if not zoned and offset is not None:
            raise RefusedValueError(f"{value!r} has a zone, and its column has none: use DateTime(timezone=True)")
        if offset is not None:
            value = value.astimezone(UTC).replace(tzinfo=None)
        if not self.earliest <= value <= self.latest:
            raise RefusedValueError(f"{value} is outside of {self.earliest} to {self.latest}")

    def result_processor(self, dialect: Any, coltype: object) -> Processor | None:
        """Add the zone that the database does not hold, or take away the one that the column does not have."""
        zoned, inner = bool(self.timezone), super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            if inner is not None:
                value = inner(value)
            if not isinstance(value, datetime.datetime):
                return value
            if not zoned:
                return value.replace(tzinfo=None)
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value

        return process


class RangedDate(types.Date):
    """Dates in the range that the database holds."""

    earliest: ClassVar[datetime.date]
    latest: ClassVar[datetime.date]

    def bind_processor(self, dialect: Any) -> Processor:
        """Check the range."""

        def process(value: Any) -> Any:
            if isinstance(value, datetime.date) and not self.earliest <= value <= self.latest:
                raise RefusedValueError(f"{value} is outside of {self.earliest} to {self.latest}")
            return value

        return process


class ExactNumeric(types.Numeric[Any]):
    """Decimals rounded to the scale that their column declares, and to none where it declares none.

    Such a column has the database's widest type, ``widest`` as precision and scale.
    """

    widest: ClassVar[tuple[int, int]]
    passes_floats: ClassVar[bool] = False

    def bind_processor(self, dialect: Any) -> Processor:
        """Round or refuse."""
        precision, scale = self.limits()
        unit, limit = Decimal(1).scaleb(-scale), Decimal(10) ** (precision - scale)

        def process(value: Any) -> Any:
            if type(value) is Decimal and value.same_quantum(unit) and -limit < value < limit:
                return self.to_database(value)  # As it has to be: to ask costs a tenth of making it so.
            if value is None or isinstance(value, bool) or (isinstance(value, float) and self.passes_floats):
                return value
            return self.to_database(self._fit(Decimal(str(value)), precision, scale))

        return process

    def limits(self) -> tuple[int, int]:
        """Return how many digits there are, and how many of them after the point."""
        return self.widest if self.precision is None else (self.precision, self.scale or 0)

    def _fit(self, value: Decimal, precision: int, scale: int) -> Decimal:
        if not value.is_finite():
            raise RefusedValueError(f"{value} is not a number that a decimal column holds")
        try:
            fitted = value.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)
        except InvalidOperation:
            fitted = Decimal(10) ** precision
        if fitted.copy_abs() >= Decimal(10) ** (precision - scale):  # abs() would round to the context's precision.
            raise RefusedValueError(f"{value} has more than {precision - scale} digits before the point")
        if self.precision is None and fitted != value:
            raise RefusedValueError(f"{value} has more than {scale} digits after the point")
        return fitted

    def to_database(self, value: Decimal) -> Any:
        """Return what the driver takes."""
        return value

    def result_processor(self, dialect: Any, coltype: object) -> Processor:
        """Return a ``Decimal`` (a float for ``asdecimal=False``) with the declared scale, or without needless zeros."""
        asdecimal, declared = self.asdecimal, self.precision is not None
        unit = Decimal(1).scaleb(-(self.scale or 0))

        def process(value: Any) -> Any:
            if value is None:
                return None
            if not isinstance(value, Decimal):
                value = Decimal(str(value))
            if not asdecimal:
                return float(value)
            return _with_zeros(value, unit) if declared else plain(value)

        return process


class Compared(types.Numeric[Any]):
    """Decimals that a column is compared with: they may have more digits than it."""


class ExactCompared(ExactNumeric, Compared):
    """The same, sent as they are, where those of no declared scale would be held to the database's widest type."""

    def bind_processor(self, dialect: Any) -> Processor:
        """Round nothing."""
        return lambda value: None if value is None else Decimal(str(value))


class FloatBackedNumeric(ExactNumeric):
    """Decimals in a database that has only 8-byte floats: those of 15 digits are exact, others are refused."""

    widest = (400, 400)
    passes_floats = True  # What is a float already is held as it is.

    def _fit(self, value: Decimal, precision: int, scale: int) -> Decimal:
        if self.precision is not None:
            return super()._fit(value, precision, scale)
        return value

    def to_database(self, value: Decimal) -> float:
        """Return the float that stands for just this decimal."""
        number = float(value)
        if not math.isfinite(number) or Decimal(f"{number:.15g}") != value:
            raise RefusedValueError(f"{value} does not fit into the 15 digits that decimals have here")
        return number

    def result_processor(self, dialect: Any, coltype: object) -> Processor:
        """Return the decimal that a float stands for."""
        asdecimal = self.asdecimal
        exponent = Decimal(1).scaleb(-(self.scale or 0)) if self.precision is not None else None

        def process(value: Any) -> Any:
            if value is None:
                return None
            if not asdecimal:
                return float(value)
            number = Decimal(f"{value:.15g}") if isinstance(value, float) else Decimal(value)
            return plain(number) if exponent is None else number.quantize(exponent, ROUND_HALF_UP, _WIDE)

        return process


class FiniteFloat(types.Float[Any]):
    """Floats, NaN excepted."""

    def bind_processor(self, dialect: Any) -> Processor:
        """Refuse NaN."""

        def process(value: Any) -> Any:
            if isinstance(value, float) and math.isnan(value):
                raise RefusedValueError("NaN would become NULL")
            return value

        return process


class RangedInteger(types.Integer):
    """Integers of 32 bits, where the database would cut off what is above."""

    bits: ClassVar[int] = 32

    def bind_processor(self, dialect: Any) -> Processor:
        """Check the range."""
        limit = 2 ** (self.bits - 1)

        def process(value: Any) -> Any:
            if isinstance(value, int) and not -limit <= value < limit:
                raise RefusedValueError(f"{value} does not fit into {self.bits} bits")
            return value

        return process


class RangedSmallInteger(RangedInteger, types.SmallInteger):
    """Integers of 16 bits."""

    bits = 16


class RangedBigInteger(RangedInteger, types.BigInteger):
    """Integers of 64 bits."""

    bits = 64


class TextUuid(types.Uuid[Any]):
    """UUIDs that a driver takes as their canonical text and returns as that or as themselves."""

    def bind_processor(self, dialect: Any) -> Processor:
        """Return the text."""
        return lambda value: None if value is None else str(UUID(str(value)))

    def result_processor(self, dialect: Any, coltype: object) -> Processor:
        """Return the UUID, or its text for ``as_uuid=False``."""
        as_uuid = self.as_uuid

        def process(value: Any) -> Any:
            if value is None:
                return None
            found = value if isinstance(value, UUID) else UUID(str(value))
            return found if as_uuid else str(found)

        return process


def _with_zeros(value: Decimal, unit: Decimal) -> Decimal:
    """Return ``value`` with at least the digits after the point that ``unit`` has."""
    if value.same_quantum(unit) or value.as_tuple().exponent < unit.as_tuple().exponent:  # type: ignore[operator]
        return value
    return value.quantize(unit, context=_WIDE)


def plain(value: Decimal) -> Decimal:
    """Return ``value`` without trailing zeros after the point, never in scientific notation."""
    short = value.normalize(_WIDE)
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1), context=_WIDE) if isinstance(exponent, int) and exponent > 0 else short


def use(dialect: Any, implementations: Mapping[type[Any], type[Any]]) -> None:
    """Make ``dialect`` use these types for SQLAlchemy's generic ones."""
    dialect.colspecs = {**dialect.colspecs, **implementations}


def check_zones(dialect: Any) -> None:
    """Make the dialect's own datetimes refuse a zone where the column has none, and the other way round."""
    for generic in (types.DateTime, types.TIMESTAMP):
        own = dialect.colspecs.get(generic)
        if own is not None or generic is types.DateTime:
            own = own or generic
            # What the driver returns has its zone already: nothing is to be done for each row that is read.
            members = {"__module__": __name__, "result_processor": own.result_processor}
            checked = type(f"Zoned{own.__name__}", (Zoned, own), members)
            use(dialect, {generic: checked})
