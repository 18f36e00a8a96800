"""What the event of a changed row tells: values, keys, types, and which changes are none."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, Enum, ForeignKey, LargeBinary, String, select, update
from sqlalchemy.orm import Mapped, load_only, mapped_column
from sqlalchemy.types import TypeDecorator

from fedorm import FederatedBase, Federation
from fedorm.outbox import Event, OutboxRule
from tests.outbox_models import LAMP, Lamp, Shade, lamps, told

__all__ = ["lamps"]


class Cents(TypeDecorator[Any]):
    """Whole units in the model, hundredths in the database."""

    impl = JSON().with_variant(String(20), "sqlite", "postgresql", "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else f"{value}00"

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value[:-2])


class Rare(FederatedBase):
    """Every kind of value."""

    __service__ = "outbox_lamps"
    __tablename__ = "outbox_rare"
    __outbox__ = OutboxRule(on="insert", type="rare.{event}.{model}")
    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime.datetime]
    when: Mapped[datetime.datetime | None] = mapped_column(DateTime)
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    shade: Mapped[Shade] = mapped_column(Enum(Shade))
    more: Mapped[Any] = mapped_column(JSON)
    cents: Mapped[int] = mapped_column(Cents)
    ratio: Mapped[float]
    on: Mapped[bool]


class Chosen(FederatedBase):
    """Some columns, an own type, a key of two columns; a version that the session counts."""

    __service__ = "outbox_lamps"
    __tablename__ = "outbox_chosen"
    __outbox__ = [
        OutboxRule(type="chosen.{event}", key=("room", "id"), columns=("id", "lit")),
        OutboxRule(on=("update",), type="versions.{event}", columns=("version",)),
    ]
    id: Mapped[int] = mapped_column(primary_key=True)
    room: Mapped[str] = mapped_column(String(20))
    lit: Mapped[int]
    secret: Mapped[str] = mapped_column(String(20), default="")
    version: Mapped[int] = mapped_column(default=0, onupdate=7)


class Pair(FederatedBase):
    """A primary key of two columns."""

    __service__ = "outbox_lamps"
    __tablename__ = "outbox_pairs"
    __outbox__ = ["insert"]
    left: Mapped[str] = mapped_column(String(20), primary_key=True)
    right: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Fixture(FederatedBase):
    __service__ = "outbox_lamps"
    __tablename__ = "outbox_fixtures"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "fixture"}
    __outbox__ = ["insert", "update", "delete"]
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))


class Spot(Fixture):
    """A table of its own, joined."""

    __tablename__ = "outbox_spots"
    __mapper_args__ = {"polymorphic_identity": "spot"}
    id: Mapped[int] = mapped_column(ForeignKey("outbox_fixtures.id"), primary_key=True)
    angle: Mapped[int]


class Candle(Fixture):
    """The same table, and no events."""

    __mapper_args__ = {"polymorphic_identity": "candle"}
    __outbox__ = ()


async def test_each_change_of_a_row_is_an_event(lamps: Federation) -> None:
    """With what the database itself has put in; a change that changes nothing is none."""
    async with lamps.session() as session:
        lamp = Lamp(id=1, watts=5)
        session.add(lamp)
        await session.commit()
        lamp.watts = 8  # Nothing of it is loaded: what it was has to be read.
        await session.flush()
        lamp.watts, lamp.price = 8, Decimal("2.5")
        await session.flush()
        lamp.price = Decimal("2.50")
        await session.flush()
        await session.commit()
        await session.delete(lamp)
        await session.commit()
    key = {"id": 1}
    assert await told(lamps) == [
        ("outbox_lamps.outbox_lamps.inserted", "1", {"key": key, "values": LAMP}),
        (
            "outbox_lamps.outbox_lamps.updated", "1",
            {"key": key, "values": LAMP | {"watts": 8}, "changed": {"watts": [5, 8]}},
        ),
        (
            "outbox_lamps.outbox_lamps.updated", "1",
            {"key": key, "values": LAMP | {"watts": 8, "price": "2.50"}, "changed": {"price": ["1.00", "2.50"]}},
        ),
        ("outbox_lamps.outbox_lamps.deleted", "1", {"key": key, "values": LAMP | {"watts": 8, "price": "2.50"}}),
    ]  # fmt: skip


async def test_values_that_the_session_does_not_know_are_read(lamps: Federation) -> None:
    """An expression, and columns that were not loaded; of many objects at once."""
    async with lamps.session() as session:
        session.add_all([Lamp(id=number, watts=number, note="x") for number in range(1, 4)])
        await session.commit()
    await told(lamps)
    async with lamps.session() as session:
        for lamp in await session.scalars(select(Lamp).options(load_only(Lamp.id)).order_by(Lamp.id)):
            lamp.watts = Lamp.watts + 10  # type: ignore[assignment]
        await session.commit()
    assert [(key, data["changed"], data["values"]["note"]) for _, key, data in await told(lamps)] == [
        (str(number), {"watts": [number, number + 10]}, "x") for number in range(1, 4)
    ]


async def test_every_kind_of_value(lamps: Federation) -> None:
    """As JSON can say it, and as the database holds it."""
    number, zone = UUID(int=5), datetime.timezone(datetime.timedelta(hours=2))
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, 6)
    values = {"raw": b"\x00\xff", "shade": Shade.DARK, "more": {"a": [1, None]}, "cents": 5, "ratio": 0.1, "on": True}
    async with lamps.session() as session:
        session.add(Rare(id=number, at=at, when=None, **values))
        session.emit(Event("any", key=(1, "é"), data={"zone": at.replace(tzinfo=zone), "nan": float("nan"), **values}))
        await session.commit()
    iso = "2026-01-02T03:04:05.000006"
    text_of = {"raw": "AP8=", "shade": "DARK", "more": {"a": [1, None]}, "ratio": 0.1, "on": True}
    whole = {"id": str(number), "at": iso, "when": None, "cents": "500", **text_of}
    assert await told(lamps) == [
        ("rare.inserted.Rare", str(number), {"key": {"id": str(number)}, "values": whole}),
        ("any", '[1, "é"]', {"zone": f"{iso}+02:00", "nan": "NaN", "cents": 5, **text_of}),
    ]


async def test_a_rule_says_type_key_and_columns(lamps: Federation) -> None:
    """An update that changes none of its columns is no event of its; each rule has events of its own."""
    async with lamps.session() as session:
        one = Chosen(id=1, room="hall", lit=1)
        session.add(one)
        await session.flush()
        one.secret = "x"
        await session.flush()
        one.lit = 0
        await session.commit()
    assert await told(lamps) == [
        ("chosen.inserted", '["hall", 1]', {"key": {"id": 1}, "values": {"id": 1, "lit": 1}}),
        ("versions.updated", "1", {"key": {"id": 1}, "values": {"version": 7}, "changed": {"version": [0, 7]}}),
        (
            "chosen.updated", '["hall", 1]',
            {"key": {"id": 1}, "values": {"id": 1, "lit": 0}, "changed": {"lit": [1, 0]}},
        ),
    ]  # fmt: skip


async def test_keys_of_several_columns_and_keys_that_change(lamps: Federation) -> None:
    """A row that moves to another key is gone under the old one, and new under the other."""
    async with lamps.session() as session:
        lamp = Lamp(id=1, watts=5)
        session.add_all([Pair(left="a", right=2), lamp])
        await session.flush()
        lamp.id, lamp.watts = 9, 6
        await session.commit()
    events = await told(lamps)
    assert (
        "outbox_lamps.outbox_pairs.inserted",
        '["a", 2]',
        {"key": (pair := {"left": "a", "right": 2}), "values": pair},
    ) in events
    assert events[-2:] == [
        ("outbox_lamps.outbox_lamps.deleted", "1", {"key": {"id": 1}, "values": LAMP}),
        ("outbox_lamps.outbox_lamps.inserted", "9", {"key": {"id": 9}, "values": LAMP | {"id": 9, "watts": 6}}),
    ]


async def test_a_row_in_the_place_of_a_deleted_one_is_an_update(lamps: Federation) -> None:
    """As it is to the database."""
    async with lamps.session() as session:
        first = Lamp(id=1, watts=5)
        session.add(first)
        await session.commit()
        await told(lamps)
        await session.delete(first)
        session.add(Lamp(id=1, watts=7, note="new"))
        await session.commit()
    ((kind, key, data),) = await told(lamps)
    assert (kind, key, data["changed"]) == (
        "outbox_lamps.outbox_lamps.updated", "1", {"watts": [5, 7], "note": [None, "new"]},
    )  # fmt: skip


async def test_inheritance(lamps: Federation) -> None:
    """Types name the table of the class that has the rules; a class may do without."""
    async with lamps.session() as session:
        spot = Spot(id=1, angle=30)
        session.add_all([spot, Candle(id=2)])
        await session.commit()
        await session.refresh(spot)
        spot.angle = 60
        await session.commit()
        await session.delete(spot)
        await session.commit()
    values = {"id": 1, "kind": "spot", "angle": 30}
    assert await told(lamps) == [
        ("outbox_lamps.outbox_fixtures.inserted", "1", {"key": {"id": 1}, "values": values}),
        (
            "outbox_lamps.outbox_fixtures.updated", "1",
            {"key": {"id": 1}, "values": values | {"angle": 60}, "changed": {"angle": [30, 60]}},
        ),
        ("outbox_lamps.outbox_fixtures.deleted", "1", {"key": {"id": 1}, "values": values | {"angle": 60}}),
    ]  # fmt: skip


async def test_bulk_statements_are_the_triggers(lamps: Federation) -> None:
    """The session sees no rows there."""
    async with lamps.session() as session:
        session.add(Lamp(id=1, watts=5))
        await session.commit()
        await told(lamps)
        await session.execute(update(Lamp).values(watts=9))
        await session.commit()
    assert await told(lamps) == []
