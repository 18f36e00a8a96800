"""Events that a program emits, and events and rules that are refused."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import (
    AsyncFederatedSession,
    FederatedBase,
    FederatedDocument,
    Federation,
    FederationOpenError,
    StoreError,
    UnsupportedOperationError,
)
from fedorm.catalog import catalog
from fedorm.exc import EventError, OutboxRuleError
from fedorm.outbox import Event, OutboxRule
from tests.conftest import HAS_CLICKHOUSE
from tests.outbox_models import Lamp, Shade, Shelf, told, two

__all__ = ["two"]


class Placed(BaseModel):
    """A model as an event."""

    __event_type__ = "lamp.placed"
    __event_key__ = "lamp"
    lamp: int
    price: Decimal
    at: datetime.date
    shade: Shade


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
