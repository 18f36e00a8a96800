"""From a change in one service, over its outbox and a broker, to the effect in another that comes once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from faststream import AckPolicy
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.outbox.events import Event
from fedorm.relay import handler
from fedorm.relay.cloudevents import NotACloudEventError
from fedorm.relay.consuming import Consumer
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import NATSServer
from tests.brokering import KINDS, MESSAGE, Place
from tests.test_docs_pages import blocks
from tests.test_readme import run


class Purchase(FederatedBase):
    __service__ = "brokered_orders"
    __tablename__ = "purchases"
    __outbox__ = ["insert"]
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[Decimal]


class Bill(FederatedBase):
    __service__ = "brokered_payments"
    __tablename__ = "bills"
    id: Mapped[int] = mapped_column(primary_key=True)
    purchase_id: Mapped[int]
    total: Mapped[Decimal]


@handler("*.purchases.inserted", service="brokered_payments", name="bill")
async def bill(event: Event, session: Any) -> None:
    values = event.data["values"]
    session.add(Bill(purchase_id=values["id"], total=Decimal(values["total"])))


@pytest.fixture
async def fed(fresh_database: FreshDatabase) -> AsyncIterator[Federation]:
    services = {"brokered_orders": "postgresql", "brokered_payments": "mysql"}
    async with Federation({name: fresh_database(kind) for name, kind in services.items()}) as fed:
        await fed.create_all()
        yield fed


async def buy(fed: Federation, *numbers: int) -> None:
    for number in numbers:
        async with fed.session() as session:
            session.add(Purchase(id=number, total=Decimal(number) / 4))
            await session.commit()


async def bills(fed: Federation, count: int) -> list[tuple[int, Decimal]]:
    """Wait for ``count`` bills and return them."""
    async with asyncio.timeout(30):
        while True:
            async with fed.session() as session:
                if (await session.scalar(select(func.count()).select_from(Bill)) or 0) >= count:
                    found = await session.execute(select(Bill.purchase_id, Bill.total).order_by(Bill.id))
                    return [(number, total) for number, total in found]
            await asyncio.sleep(0.02)


async def nothing_waits(fed: Federation) -> None:
    async with asyncio.timeout(30):
        while any(status.waiting or status.held or status.failed for status in await fed.outbox.status()):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", KINDS)
async def test_from_a_row_to_its_effect(kind: str, fed: Federation, request: pytest.FixtureRequest) -> None:
    """Rows that were written are billed in another service, once each, though the consumer takes each message twice."""
    place = Place(kind, request.getfixturevalue(f"{kind}_url"))
    await place.make()
    fed.outbox.to_broker("brokered_orders.*", place.url, subject=place.subject, **place.options)
    broker = place.broker()
    async with Consumer(fed, bill) as consumer:

        async def take(message: Any = MESSAGE) -> None:
            await consumer.take(message)
            await consumer.take(message)

        place.subscriber(broker)(take)
        async with place.started(broker), fed.outbox.running():
            await buy(fed, *range(1, 21))
            found = await bills(fed, 20)
            await nothing_waits(fed)
    assert sorted(found) == [(number, Decimal(number) / 4) for number in range(1, 21)]


async def test_the_broker_is_down_for_a_while(fed: Federation) -> None:
    """The events wait in the outbox, the relay says why, and they arrive when the broker is back."""
    with NATSServer() as server:
        place = Place("nats", server.url())
        fed.outbox.to_broker("brokered_orders.*", place.url, subject=place.subject, timeout=1, **place.options)
        async with fed.outbox.running():
            await buy(fed, 1, 2)
            await nothing_waits(fed)
            await asyncio.to_thread(server.kill)
            await buy(fed, 3, 4)
            async with asyncio.timeout(20):
                while not (error := fed.outbox.targets_status()[0].error):
                    await asyncio.sleep(0.02)
            assert f"nats://fedorm@127.0.0.1:{server.port} takes no events at the moment" in error
            assert server.password not in error
            await asyncio.to_thread(server.restart)
            async with place.reading() as reader:
                events = await reader.until(4)
        totals = {"1": "0.25", "2": "0.5", "3": "0.75", "4": "1"}
        assert {event.key: (event.type, event.service, event.data["values"]) for event in events} == {
            key: ("brokered_orders.purchases.inserted", "brokered_orders", {"id": int(key), "total": total})
            for key, total in totals.items()
        }


@pytest.mark.parametrize("kind", ["nats", "kafka", "rabbitmq"])
async def test_a_handler_that_fails(kind: str, fed: Federation, request: pytest.FixtureRequest) -> None:
    """Its transaction is rolled back, and the broker sends the message again."""
    place, calls = Place(kind, request.getfixturevalue(f"{kind}_url")), []
    await place.make()

    @handler("purchase.*", service="brokered_payments", name=f"fails {kind}")
    async def fails(event: Event, session: Any) -> None:
        calls.append(event.id)
        session.add(Bill(purchase_id=event.data, total=Decimal(len(calls))))
        if len(calls) < 3:
            await session.flush()
            raise LookupError("not yet")

    broker, target = place.broker(), place.target()
    async with Consumer(fed, fails) as consumer:

        async def take(message: Any = MESSAGE) -> None:
            await consumer.take(message)

        place.subscriber(broker, ack_policy=AckPolicy.NACK_ON_ERROR)(take)
        event = Event("purchase.made", data=7, service="brokered_orders")
        try:
            await target.open(fed)
            async with place.started(broker):
                await target.deliver([event])
                assert await bills(fed, 1) == [(7, Decimal(3))]
        finally:
            await target.close()
    assert calls == [event.id] * 3


async def test_a_message_that_is_no_event(fed: Federation, nats_url: str) -> None:
    """It is refused by name, and no handler sees it."""
    place, refused = Place("nats", nats_url), asyncio.Queue[Exception]()
    broker = place.broker()
    async with Consumer(fed, bill) as consumer:

        async def take(message: Any = MESSAGE) -> None:
            with pytest.raises(NotACloudEventError) as raised:
                await consumer.take(message)
            refused.put_nowait(raised.value)

        place.subscriber(broker)(take)
        async with place.started(broker), asyncio.timeout(20):
            await broker.publish({"id": 1}, place.subject)
            await broker.publish(b"{", place.subject, headers={"content-type": "application/cloudevents+json"})
            await broker.publish(b"{}", place.subject, headers={"ce-id": "1", "ce-specversion": "0.3"})
            said = [str(await refused.get()) for _ in range(3)]
    assert said == [
        "a message of type 'application/json' without CloudEvents attributes",
        "this is no CloudEvent of version 1.0: JSONDecodeError: Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1)",
        "this is no CloudEvent of version 1.0: ValueError: specversion '0.3'",
    ]


def test_the_page(tmp_path: Path, nats_url: str) -> None:
    """The program of ``docs/brokers.md`` prints what is printed below it."""
    (program,), (printed,) = blocks("brokers.md", "python"), blocks("brokers.md", "text")
    assert run(program.replace("nats://127.0.0.1:4222", nats_url), tmp_path) == printed
