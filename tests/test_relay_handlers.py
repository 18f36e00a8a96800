"""What handlers and models get of a relay's events, and the inbox that keeps them from a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select

from fedorm import AsyncFederatedSession, FederatedDocument, FederatedSession, Federation
from fedorm.outbox.events import Event
from fedorm.outbox.tables import fedorm_inbox
from fedorm.relay import handler
from tests.relaying import Note, Price, emit, fed, kind, make_url, notes, opened, pg, until, until_empty

__all__ = ["kind", "make_url", "fed", "pg"]


class PriceCard(FederatedDocument):
    __service__ = "cards"
    id: str  # type: ignore[assignment]
    amount: Decimal

    class Settings:
        name = "price_cards"


async def test_a_handler_s_effect_and_its_inbox_row_are_one(fed: Federation) -> None:
    """An event that fails half-way leaves nothing; one that comes again does nothing."""
    fails = {"a:2"}

    @handler("news.*", service="notes", name="noting")
    async def note(event: Event, session: AsyncFederatedSession) -> None:
        name = f"{event.key}:{event.data['n']}"
        session.add(Note(text=name))
        await session.flush()
        if name in fails:
            fails.discard(name)
            raise RuntimeError("after the flush")

    fed.outbox.add(note)
    await emit(fed, "a:1", "a:2", "a:3", "b:1")
    async with fed.outbox.running():
        await until_empty(fed)
    found = await notes(fed)
    assert sorted(found) == ["a:1", "a:2", "a:3", "b:1"]
    assert [name for name in found if name.startswith("a")] == ["a:1", "a:2", "a:3"]
    event = Event("news.made", key="c", data={"n": 1})
    await note.open(fed)
    await note.deliver([event])
    await note.deliver([event, Event("news.made", key="c", data={"n": 2})])
    await note.close()
    assert (await notes(fed))[4:] == ["c:1", "c:2"]


async def test_events_of_a_model_s_hooks_keep_another_model_as_it_is(pg: Federation) -> None:
    """Inserted, changed and deleted rows; values come back in the types of their columns."""
    pg.outbox.to_model("price.*", Price, fields={"id": "sku", "price": "amount"})

    async def tell(what: str, key: str, price: str | None) -> None:
        data: dict[str, Any] = {"id": key, "price": price, "unknown": 1}
        async with pg.session() as session:
            session.emit(Event(f"price.{what}", key=key, data=data), service="news")
            await session.commit()

    async with pg.outbox.running():
        await tell("inserted", "a", "1.50")
        await tell("inserted", "b", "2.00")
        await tell("updated", "a", "1.75")
        await tell("deleted", "b", "2.00")
        await tell("inserted", "c", "3")
        await until_empty(pg)
    async with pg.session() as session:
        rows = (await session.execute(select(Price.sku, Price.amount).order_by(Price.sku))).all()
    assert rows == [("a", Decimal("1.75")), ("c", Decimal(3))]


async def test_a_document_is_kept_as_events_say(make_url: Callable[[str], str]) -> None:
    """Documents of MongoDB are a target as rows are."""
    async for services in opened({"news": make_url("postgresql"), "cards": make_url("mongodb")}):
        services.outbox.to_model("price.*", PriceCard)
        async with services.session() as session:
            for what, key, amount in (("made", "a", 1), ("made", "b", 2), ("made", "a", 3), ("deleted", "b", 2)):
                event = Event(f"price.{what}", key=key, data={"id": key, "amount": Decimal(amount)})
                session.emit(event, service="news")
            await session.commit()
        async with services.outbox.running():
            await until_empty(services)
        async with services.session() as session:
            cards = await session.find(PriceCard).to_list()
        assert [(card.id, card.amount) for card in cards] == [("a", Decimal(3))]


async def test_a_function_that_is_not_async_runs_in_a_thread(pg: Federation) -> None:
    """With a session for threads, and the same inbox."""

    @handler("news.made", service="notes", name="threaded")
    def note(event: Event, session: FederatedSession) -> None:
        assert isinstance(session, FederatedSession)
        session.add(Note(text=event.key))

    pg.outbox.add(note)
    await emit(pg, "a:1", "b:1")
    async with pg.outbox.running():
        await until_empty(pg)
    assert sorted(await notes(pg)) == ["a", "b"]


async def test_a_batch_handler_gets_lists(pg: Federation) -> None:
    """With ``batch`` the events come together, those alone that were not there before."""
    sizes: list[int] = []

    @handler("news.made", service="notes", name="batches", batch=True)
    async def note(events: list[Event], session: AsyncFederatedSession) -> None:
        sizes.append(len(events))
        session.add_all([Note(text=event.key) for event in events])

    pg.outbox.add(note)
    async with pg.session() as session:
        for number in range(30):
            session.emit(Event("news.made", key="one", data={"n": number}), service="news")
        await session.commit()
    async with pg.outbox.running():
        await until_empty(pg)
    assert (sizes, len(await notes(pg))) == ([30], 30)


async def test_a_handler_may_not_commit(pg: Federation) -> None:
    """Its effect would be there without the note that it is."""

    @handler("news.made", service="notes", name="committing")
    async def note(event: Event, session: AsyncFederatedSession) -> None:
        await session.commit()

    pg.outbox.add(note, attempts=1)
    await emit(pg, "a:1")
    async with pg.outbox.running():
        await until_empty(pg, but=1)
        await until(lambda: pg.outbox.targets_status()[0].failures)
    (failed,) = await pg.outbox.failed()
    assert failed.error is not None
    assert "leave commit() and rollback() to fedorm" in failed.error


async def test_the_inbox_forgets_no_event_that_may_come_again(fed: Federation) -> None:
    """What it may forget goes by the oldest event that any outbox still has."""
    (source,) = fed.outbox._sources(["news"])
    before = await source.oldest()
    await emit(fed, "a:1")
    await asyncio.sleep(1.1)  # SQLite's clock has seconds.
    oldest = await source.oldest()
    assert before < oldest + 1.5
    await emit(fed, "a:2")
    assert await source.oldest() == oldest


async def test_old_rows_of_an_inbox_are_removed(pg: Federation) -> None:
    """All at once or in parts."""

    @handler("news.made", service="notes", name="forgetful")
    async def note(event: Event, session: AsyncFederatedSession) -> None:
        session.add(Note(text=event.key))

    pg.outbox.add(note)
    await emit(pg, "a:1", "b:1")
    async with pg.outbox.running():
        await until_empty(pg)
    (source,) = pg.outbox._sources(["notes"])
    inbox = fedorm_inbox("notes")

    async def rows() -> int:
        async with pg.session() as session:
            return int(await session.scalar(select(func.count()).select_from(inbox)) or 0)

    assert (await source.forget_inbox(0.0), await rows()) == (0, 2)
    assert (await source.forget_inbox(4e9), await rows()) == (2, 0)
