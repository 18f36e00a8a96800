"""Events are written with the changes they tell of: in their transaction, in their order, or not at all."""

from __future__ import annotations

import asyncio
import datetime
import enum
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import JSON, DateTime, Enum, ForeignKey, LargeBinary, Numeric, String, select, text, update
from sqlalchemy.orm import Mapped, load_only, mapped_column
from sqlalchemy.types import TypeDecorator

from fedorm import (
    AsyncFederatedSession,
    FederatedBase,
    FederatedDocument,
    FederatedSession,
    Federation,
    FederationOpenError,
    StoreError,
    UnsupportedOperationError,
)
from fedorm.catalog import catalog
from fedorm.exc import EventError, OutboxRuleError
from fedorm.outbox import Event, OutboxRule
from fedorm.outbox.tables import fedorm_outbox
from tests.conftest import HAS_CLICKHOUSE

KINDS = ("postgresql", "mysql", "sqlite")


class Shade(enum.Enum):
    DARK = "d"
    LIGHT = "l"


class Cents(TypeDecorator[Any]):
    """Whole units in the model, hundredths in the database."""

    impl = JSON().with_variant(String(20), "sqlite", "postgresql", "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else f"{value}00"

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else int(value[:-2])


class Lamp(FederatedBase):
    __service__ = "outbox_lamps"
    __tablename__ = "outbox_lamps"
    __outbox__ = ["insert", "update", "delete"]
    id: Mapped[int] = mapped_column(primary_key=True)
    watts: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(8, 2), default=Decimal(1))
    made: Mapped[str] = mapped_column("maker", String(20), server_default="somebody")
    note: Mapped[str | None] = mapped_column(String(50))


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


class Quiet(FederatedBase):
    __service__ = "outbox_quiet"
    __tablename__ = "outbox_quiet"
    id: Mapped[int] = mapped_column(primary_key=True)


class Shelf(FederatedDocument):
    __service__ = "outbox_shelves"
    __outbox__ = ["insert", "update", "delete"]
    id: int
    label: str
    price: Decimal = Decimal(1)
    things: list[str] = []

    class Settings:
        name = "outbox_shelves"


class Placed(BaseModel):
    """A model as an event."""

    __event_type__ = "lamp.placed"
    __event_key__ = "lamp"
    lamp: int
    price: Decimal
    at: datetime.date
    shade: Shade


Told = tuple[str, str, Any]


def rows(service: str) -> Any:
    table = fedorm_outbox(service)
    return select(table.c.type, table.c.key, table.c.data).order_by(table.c.position)


async def told(fed: Federation, service: str = "outbox_lamps") -> list[Told]:
    """The events in a service's outbox, in order, which are forgotten with that."""
    async with fed.session() as session:
        found = [tuple(row) for row in await session.execute(rows(service))]
        await session.execute(fedorm_outbox(service).delete())
        await session.commit()
    return found


async def told_documents(fed: Federation) -> list[Told]:
    """The same of the documents' service."""
    database = fed.stores["outbox_shelves"].own_database()  # type: ignore[attr-defined]
    found = await database["fedorm_outbox"].find().sort("position").to_list(None)
    await database["fedorm_outbox"].delete_many({})
    return [(one["type"], one["key"], one["data"]) for one in found]


def url_of(kind: str, fresh_database: Callable[[str], str], tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path / 'lamps.db'}" if kind == "sqlite" else fresh_database(kind)


@pytest.fixture(params=KINDS)
async def lamps(
    request: pytest.FixtureRequest, fresh_database: Callable[[str], str], tmp_path: Path, no_stray_tasks: None
) -> AsyncIterator[Federation]:
    """A service of each kind of database."""
    async with Federation({"outbox_lamps": url_of(request.param, fresh_database, tmp_path)}) as fed:
        await fed.create_all()
        yield fed


@pytest.fixture
async def two(fresh_database: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    """PostgreSQL and MongoDB."""
    urls = {"outbox_lamps": fresh_database("postgresql"), "outbox_shelves": fresh_database("mongodb")}
    async with Federation(urls) as fed:
        await fed.create_all()
        yield fed


LAMP = {"id": 1, "watts": 5, "price": "1.00", "maker": "somebody", "note": None}


# -- rows


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


# -- transactions


async def test_events_are_there_with_the_commit_alone(lamps: Federation) -> None:
    """Neither after a rollback, nor after a flush that has failed, nor for a savepoint that was taken back."""
    async with lamps.session() as session:
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("never"))
        await session.rollback()
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("before", key="k"))
        async with session.begin_nested() as inner:
            session.add(Lamp(id=2, watts=5))
            session.emit(Event("inside", key="k"))
            await session.flush()
            session.emit(Event("later inside", key="k"))
            await inner.rollback()
        async with session.begin_nested():
            session.emit(Event("kept", key="k"))
        session.emit(Event("after", key="k"))
        await session.commit()
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("failed"))
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await session.commit()
        await session.rollback()
        await session.commit()
    assert [kind for kind, _, _ in await told(lamps)] == [
        "outbox_lamps.outbox_lamps.inserted", "before", "kept", "after",
    ]  # fmt: skip


async def test_the_order_is_that_of_the_changes(lamps: Federation) -> None:
    """Flush by flush; of one flush, rows before what was emitted. A select flushes, too."""
    async with lamps.session() as session:
        session.emit(Event("first", key="k"))
        await session.execute(select(Lamp))
        session.add(Lamp(id=1, watts=5))
        session.emit(Event("second", key="k"))
        await session.flush()
        session.emit(Event("third", key="k"))
        await session.commit()
    assert [kind for kind, _, _ in await told(lamps)] == [
        "first", "outbox_lamps.outbox_lamps.inserted", "second", "third",
    ]  # fmt: skip


async def test_an_event_that_cannot_be_written_undoes_the_change(lamps: Federation) -> None:
    """Nothing is committed without its event."""
    async with lamps.session() as session:
        await session.execute(text("DROP TABLE fedorm_outbox"), bind_arguments={"service": "outbox_lamps"})
        await session.commit()
        session.add(Lamp(id=1, watts=5))
        with pytest.raises(Exception, match="fedorm_outbox"):
            await session.commit()
        await session.rollback()
        assert (await session.scalars(select(Lamp.id))).all() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_the_table_is_made_at_first_use(
    kind: str, fresh_database: Callable[[str], str], tmp_path: Path, no_stray_tasks: None
) -> None:
    """Over the only connection there is, before the transaction or within."""
    limits = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 2} if kind != "sqlite" else {}
    async with Federation({"outbox_quiet": {"url": url_of(kind, fresh_database, tmp_path), **limits}}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add(Quiet(id=1))
            await session.flush()
            session.emit(Event("one", key="k"))
            await session.rollback()
            session.add(Quiet(id=1))
            await session.flush()
            session.emit(Event("one", key="k"))
            await session.commit()
        async with fed.session() as session:
            session.emit(Event("two", key="k"))
            await session.commit()
        assert [kind for kind, _, _ in await told(fed, "outbox_quiet")] == ["one", "two"]


async def test_two_transactions_of_a_row_are_in_the_order_of_their_commits(
    fresh_database: Callable[[str], str], no_stray_tasks: None
) -> None:
    """The second has to wait for the first before it gets a position."""
    async with Federation({"outbox_lamps": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add(Lamp(id=1, watts=0))
            await session.commit()

        async def raise_it(number: int) -> None:
            for _ in range(10):
                async with fed.session() as session:
                    lamp = await session.get_one(Lamp, 1, with_for_update=True)
                    lamp.watts += 1
                    await session.commit()

        await asyncio.gather(*map(raise_it, range(4)))
        changed = [data["changed"]["watts"] for _, _, data in (await told(fed))[1:]]
        assert changed == [[number, number + 1] for number in range(40)]


async def test_both_sides_write_the_same(fresh_database: Callable[[str], str]) -> None:
    """A session for threads, too, for rows and documents."""
    urls = {"outbox_lamps": fresh_database("mysql"), "outbox_shelves": fresh_database("mongodb")}
    async with Federation(urls) as fed:
        await fed.create_all()

    def work() -> None:
        with Federation(urls) as fed, fed.sync_session() as session:
            assert isinstance(session, FederatedSession)
            session.add_all([Lamp(id=1, watts=5), Shelf(id=1, label="a")])
            session.emit(Event("emitted", key=1), service="outbox_shelves")
            session.commit()

    await asyncio.to_thread(work)
    async with Federation(urls) as fed:
        assert await told(fed) == [("outbox_lamps.outbox_lamps.inserted", "1", {"key": {"id": 1}, "values": LAMP})]
        shelf = {"id": 1, "label": "a", "price": "1", "things": []}
        assert await told_documents(fed) == [
            ("outbox_shelves.outbox_shelves.inserted", "1", {"key": {"id": 1}, "values": shelf}),
            ("emitted", "1", None),
        ]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_two_phases(kind: str, fresh_database: Callable[[str], str], no_stray_tasks: None) -> None:
    """The events are in the branches."""
    urls = {"outbox_lamps": fresh_database(kind), "outbox_quiet": fresh_database("postgresql")}
    async with Federation(urls) as fed:
        await fed.create_all()
        async with fed.session(twophase=True) as session:
            session.add_all([Lamp(id=1, watts=5), Quiet(id=1)])
            session.emit(Event("both", key="k"), service="outbox_quiet")
            await session.commit()
            session.add_all([Lamp(id=2, watts=5), Quiet(id=2)])
            session.emit(Event("none", key="k"), service="outbox_quiet")
            await session.flush()
            await session.rollback()
        assert [kind for kind, _, _ in await told(fed)] == ["outbox_lamps.outbox_lamps.inserted"]
        assert [kind for kind, _, _ in await told(fed, "outbox_quiet")] == ["both"]


# -- documents


async def test_each_change_of_a_document_is_an_event(two: Federation) -> None:
    """With the old and new values of its fields; in the order of flushes, before what was emitted."""
    async with two.session() as session:
        shelf = Shelf(id=1, label="a")
        session.add(shelf)
        session.emit(Event("emitted", key=1, data={"price": Decimal(2)}), service="outbox_shelves")
        await session.commit()
        shelf.label, shelf.things = "b", ["x"]
        await session.flush()
        shelf.price = Decimal("2.5")
        await session.commit()
        await session.delete(shelf)
        await session.commit()
    whole, key = {"id": 1, "label": "a", "price": "1", "things": []}, {"id": 1}
    changed = whole | {"label": "b", "things": ["x"]}
    assert await told_documents(two) == [
        ("outbox_shelves.outbox_shelves.inserted", "1", {"key": key, "values": whole}),
        ("emitted", "1", {"price": "2"}),
        (
            "outbox_shelves.outbox_shelves.updated", "1",
            {"key": key, "values": changed, "changed": {"label": ["a", "b"], "things": [[], ["x"]]}},
        ),
        (
            "outbox_shelves.outbox_shelves.updated", "1",
            {"key": key, "values": changed | {"price": "2.5"}, "changed": {"price": ["1", "2.5"]}},
        ),
        ("outbox_shelves.outbox_shelves.deleted", "1", {"key": key, "values": changed | {"price": "2.5"}}),
    ]  # fmt: skip


async def test_events_of_documents_are_in_their_transaction(two: Federation) -> None:
    """Not after a rollback; what a savepoint has seen waits for its end, or goes with it."""
    async with two.session() as session:
        session.add(Shelf(id=1, label="a"))
        session.emit(Event("never"), service="outbox_shelves")
        await session.flush()
        await session.rollback()
        async with session.begin_nested() as inner:
            session.emit(Event("inside"), service="outbox_shelves")
            await session.flush()
            await inner.rollback()
        async with session.begin_nested():
            session.emit(Event("kept"), service="outbox_shelves")
            session.add(Lamp(id=1, watts=5))
        await session.commit()
    assert [kind for kind, _, _ in await told_documents(two)] == ["kept"]
    assert [kind for kind, _, _ in await told(two)] == ["outbox_lamps.outbox_lamps.inserted"]


# -- emitting


async def test_a_pydantic_model_is_an_event(two: Federation) -> None:
    """From whose data it can be made again; what is said in the call goes before what the model says."""
    placed = Placed(lamp=5, price=Decimal("1.50"), at=datetime.date(2026, 1, 2), shade=Shade.DARK)
    async with two.session() as session:
        made = session.emit(placed, service="outbox_lamps")
        session.emit(placed, service="outbox_lamps", key=("a", 1), type="other")
        assert (made.type, made.key, made.service) == ("lamp.placed", "5", "outbox_lamps")
        await session.commit()
    data = {"lamp": 5, "price": "1.50", "at": "2026-01-02", "shade": "d"}
    assert await told(two) == [("lamp.placed", "5", data), ("other", '["a", 1]', data)]
    assert Placed(**data) == placed


async def test_the_service_may_be_left_out_where_there_is_one(two: Federation) -> None:
    """Else the error says between which."""
    async with two.session() as session:
        with pytest.raises(EventError, match="has to do with no service yet"):
            session.emit(Event("x"))
        session.add(Lamp(id=1, watts=5))
        assert session.emit(Event("x")).service == "outbox_lamps"
        session.add(Shelf(id=1, label="a"))
        with pytest.raises(EventError, match="outbox_lamps, outbox_shelves"):
            session.emit(Event("x"))


async def test_an_event_without_a_key_is_ordered_with_no_other(two: Federation) -> None:
    """Its id is its key."""
    async with two.session() as session:
        made = session.emit(Event("x"), service="outbox_lamps")
        await session.commit()
    assert await told(two) == [("x", made.id, None)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Event(""), "1 to 255"),
        (lambda: Event("x" * 256), "1 to 255"),
        (lambda: Event("x", key="k" * 256), "256 characters"),
        (lambda: Event.of(5), "pydantic"),  # type: ignore[arg-type]
    ],
)
def test_events_that_are_none(make: Callable[[], Event], words: str) -> None:
    with pytest.raises(EventError, match=words):
        make()


async def test_what_an_event_cannot_hold(two: Federation) -> None:
    """It is refused at once, with nothing taken in."""
    async with two.session() as session:
        with pytest.raises(EventError, match="cannot hold a object"):
            session.emit(Event("x", data={"a": [object()]}), service="outbox_lamps")
        await session.commit()
    assert await told(two) == []


async def test_who_hands_events_on_is_told_of_commits(two: Federation) -> None:
    """Of those alone that have written events, by service."""
    rung: list[str] = []
    for name, store in two.stores.items():
        store.on_events.append(lambda name=name: rung.append(name))  # type: ignore[misc]
    async with two.session() as session:
        session.add(Lamp(id=1, watts=5))
        await session.flush()
        assert rung == []
        await session.commit()
        await session.execute(select(Lamp))
        await session.commit()
        session.add(Shelf(id=1, label="a"))
        await session.rollback()
    assert rung == ["outbox_lamps"]


# -- what is refused


@pytest.mark.parametrize(
    ("outbox", "words"),
    [
        (["insert", "change"], "Faulty.*'change'"),
        ("insert", r"write  __outbox__ = \[\"insert\"\]"),
        ([OutboxRule(), "insert"], "not both"),
        (OutboxRule(key="nothing"), "Faulty.*'nothing'"),
        (OutboxRule(columns=("id", "nothing")), "Faulty.*'nothing'"),
    ],
)
def test_rules_that_do_not_fit_are_refused_with_the_class(outbox: Any, words: str) -> None:
    with pytest.raises(OutboxRuleError, match=words):

        class Faulty(FederatedDocument):
            __service__ = f"outbox_faulty_{len(catalog.services)}"
            __outbox__ = outbox
            label: str


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: OutboxRule(on=()), "at least one"),
        (lambda: OutboxRule(type="{tabel}.x"), "names tabel"),
        (lambda: OutboxRule(by="nobody"), "'nobody'"),  # type: ignore[arg-type]
    ],
)
def test_rules_that_are_none(make: Callable[[], OutboxRule], words: str) -> None:
    with pytest.raises(OutboxRuleError, match=words):
        make()


@pytest.mark.clickhouse
async def test_a_service_without_transactions_is_refused(fresh_database: Callable[[str], str]) -> None:
    """An event could be there without its change: by the first emit, and for a model when the federation opens."""
    if not HAS_CLICKHOUSE:
        pytest.skip("its driver is not there")
    url = fresh_database("clickhouse")
    async with Federation({"outbox_clicks": url}) as fed, fed.session() as session:
        assert isinstance(session, AsyncFederatedSession)
        with pytest.raises(UnsupportedOperationError, match=r"service 'outbox_clicks'.*has no transactions"):
            session.emit(Event("x"), service="outbox_clicks")

    class Click(FederatedBase):
        __service__ = "outbox_no_clicks"
        __tablename__ = "outbox_clicks"
        __outbox__ = ["insert"]
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(FederationOpenError, match="Click cannot have an __outbox__") as raised:
        async with Federation({"outbox_no_clicks": url}):
            pass
    assert isinstance(raised.value.failures["outbox_no_clicks"], StoreError)
