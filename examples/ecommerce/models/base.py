"""What the models of all services share: the services' names, and columns for moments and money."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Annotated

from sqlalchemy import DateTime, Dialect, Numeric, TypeDecorator
from sqlalchemy.orm import mapped_column

from fedorm import FederatedBase

SERVICES = frozenset(
    {
        "users",
        "orders",
        "payments",
        "inventory",
        "analytics",
        "carts",
    }
)


class ShopBase(FederatedBase):
    """The base of every table of the shop; a misspelt ``__service__`` is refused when the class is made."""

    __abstract__ = True
    __services__ = SERVICES


class UTCDateTime(TypeDecorator[datetime.datetime]):
    """A moment: aware on our side, UTC without a zone in the database, which every kind of database can hold."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime.datetime | None, dialect: Dialect) -> datetime.datetime | None:
        """Take the zone off; refuse a naive moment, which would mean another one in each zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        return value.astimezone(datetime.UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime.datetime | None, dialect: Dialect) -> datetime.datetime | None:
        """Put the zone on again."""
        return None if value is None else value.replace(tzinfo=datetime.UTC)


def now() -> datetime.datetime:
    """Return this moment in whole seconds: MySQL and ClickHouse keep no more of it."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0)


Moment = Annotated[datetime.datetime, mapped_column(UTCDateTime)]
Money = Annotated[Decimal, mapped_column(Numeric(12, 2))]
