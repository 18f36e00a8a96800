"""The relay: what handlers and models get of the events of every kind of outbox; what becomes of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import AsyncFederatedSession, FederatedBase, FederatedDocument, FederatedSession, Federation
from fedorm.exc import ConfigurationError, UnknownServiceError
from fedorm.outbox.events import Event
from fedorm.outbox.tables import fedorm_inbox
from fedorm.relay import PartlyDeliveredError, TargetUnavailableError, handler
from fedorm.testing.plugin import FreshDatabase

KINDS = ("postgresql", "mysql", "sqlite", "mongodb")


class Note(FederatedBase):
    """A handler's effect."""

    __service__ = "notes"
    __tablename__ = "notes"
    seen: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


class Price(FederatedBase):
    __service__ = "notes"
    __tablename__ = "prices"
    sku: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[Decimal]
    label: Mapped[str | None]


class PriceCard(FederatedDocument):
    __service__ = "cards"
    id: str  # type: ignore[assignment]
    amount: Decimal

    class Settings:
        name = "price_cards"


class Recorder:
    """A target that takes what it is not told to refuse, and remembers the events and the calls."""

    def __init__(self, name: str = "recorder", types: Sequence[str] = ("*",)) -> None:
        self.name, self.types = name, tuple(types)
        self.took: list[str] = []
        self.calls: list[list[str]] = []
        self.refuses: set[str] = set()
        self._ids: set[str] = set()
        self.is_down = False
        self.is_open = False

    async def open(self, federation: Federation) -> None:
        self.is_open = True

    async def close(self) -> None:
        self.is_open = False

    async def deliver(self, events: Sequence[Event]) -> None:
        assert self.is_open
        names = [f"{event.key}:{event.data['n']}" for event in events]
        self.calls.append(names)
        if self.is_down:
            raise TargetUnavailableError("down for now")
        if self.refuses & set(names):
            raise ValueError(f"cannot take {names}")
        # MariaDB may end a relay's transaction for a deadlock: events come again then, as a target has to expect.
        self.took += [name for name, event in zip(names, events, strict=True) if event.id not in self._ids]
        self._ids |= {event.id for event in events}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_url(fresh_database: FreshDatabase, sqlite_url: str) -> Callable[[str], str]:
    return lambda kind: sqlite_url if kind == "sqlite" else fresh_database(kind)


async def opened(urls: dict[str, str]) -> AsyncIterator[Federation]:
    async with Federation(urls) as federation:
        await federation.create_all()
        yield federation


@pytest.fixture
async def fed(kind: str, make_url: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    """Events in a service of every kind, effects in PostgreSQL."""
    async for federation in opened({"news": make_url(kind), "notes": make_url("postgresql")}):
        yield federation


@pytest.fixture
async def pg(make_url: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async for federation in opened({"news": make_url("postgresql"), "notes": make_url("postgresql")}):
        yield federation


async def emit(fed: Federation, *names: str, type: str = "news.made") -> None:
    """Emit events by ``key:number``, each in a transaction of its own."""
    for name in names:
        key, _, number = name.partition(":")
        async with fed.session() as session:
            session.emit(Event(type, key=key, data={"n": int(number)}), service="news")
            await session.commit()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def until_empty(fed: Federation, *, but: int = 0) -> None:
    async with asyncio.timeout(20):
        while (await status(fed)).waiting > but:
            await asyncio.sleep(0.01)


async def until_put_aside(fed: Federation, number: int) -> None:
    async with asyncio.timeout(20):
        while len(await fed.outbox.failed()) < number:
            await asyncio.sleep(0.01)


async def status(fed: Federation) -> Any:
    return {one.service: one for one in await fed.outbox.status()}["news"]


async def notes(fed: Federation) -> list[str]:
    async with fed.session() as session:
        return list(await session.scalars(select(Note.text).order_by(Note.seen)))


async def test_a_target_gets_all_events_in_order_and_the_outbox_is_empty_then(fed: Federation) -> None:
    """Events that were there before, and those that come while the relay runs; nothing of them is left."""
    target = Recorder()
    fed.outbox.add(target)
    await emit(fed, "a:1", "a:2", "b:1")
    async with fed.outbox.running():
        await until(lambda: len(target.took) == 3)
        await emit(fed, "a:3", "b:2")
        await until_empty(fed)
    assert sorted(target.took) == ["a:1", "a:2", "a:3", "b:1", "b:2"]
    assert [name for name in target.took if name.startswith("a")] == ["a:1", "a:2", "a:3"]
    assert not target.is_open


async def test_types_are_matched_with_wildcards(fed: Federation) -> None:
    """A target gets the types that it names; an event that nobody takes is removed."""
    made, all_of_news, other = Recorder("made", ["news.made"]), Recorder("news", ["news.*"]), Recorder("x", ["x.*"])
    fed.outbox.add(made, all_of_news, other)
    await emit(fed, "a:1")
    await emit(fed, "a:2", type="news.gone")
    await emit(fed, "a:3", type="unheard.of")
    async with fed.outbox.running():
        await until_empty(fed)
    assert (made.took, all_of_news.took, other.took) == (["a:1"], ["a:1", "a:2"], [])


async def test_a_key_waits_behind_its_event_that_fails_and_others_go_on(fed: Federation) -> None:
    """Order is kept for the target that fails; other keys, and other targets, are not kept waiting."""
    failing, fine = Recorder("failing"), Recorder("fine")
    failing.refuses = {"a:1"}
    fed.outbox.add(failing, fine)
    await emit(fed, "a:1", "a:2", "b:1")
    async with fed.outbox.running():
        await until(lambda: failing.took == ["b:1"] and len(fine.took) == 3)
        await emit(fed, "a:3", "b:2")
        await until(lambda: failing.took == ["b:1", "b:2"] and len(fine.took) == 5)
        async with asyncio.timeout(10):
            while (await status(fed)).held != {"failing": 3}:
                await asyncio.sleep(0.01)
        (held,) = await fed.outbox.retrying()
        assert (held.target, held.key, held.error) == ("failing", "a", "ValueError: cannot take ['a:1']")
        failing.refuses = set()
        await until_empty(fed)
    assert failing.took == ["b:1", "b:2", "a:1", "a:2", "a:3"]
    assert [name for name in fine.took if name.startswith("a")] == ["a:1", "a:2", "a:3"]
    assert await status(fed) == (await status(fed)).__class__("news", 0, None, 0, {}, {})


async def test_an_event_that_keeps_failing_is_put_aside_and_its_key_goes_on(fed: Federation) -> None:
    """It is there with its error, and can be handed on anew or be given up."""
    target = Recorder()
    target.refuses = {"a:1", "b:1"}
    fed.outbox.add(target, attempts=2)
    await emit(fed, "a:1", "a:2", "b:1")
    async with fed.outbox.running():
        await until_empty(fed, but=2)
        await until_put_aside(fed, 2)  # One may still be tried again.
        failed = sorted(await fed.outbox.failed(), key=lambda one: one.key)
        assert [(one.key, one.attempts, one.error) for one in failed] == [
            ("a", 2, "ValueError: cannot take ['a:1']"),
            ("b", 2, "ValueError: cannot take ['b:1']"),
        ]
        assert target.took == ["a:2"]
        target.refuses = set()
        assert await fed.outbox.retry([failed[0].id]) == 1
        await until(lambda: target.took == ["a:2", "a:1"])
        assert await fed.outbox.drop(target="recorder") == 1
        await until_empty(fed)
    assert await fed.outbox.failed() == []
    assert target.took == ["a:2", "a:1"]


async def test_a_target_that_is_down_is_left_alone_and_gets_everything_later(fed: Federation) -> None:
    """Nothing of it counts as an event's failure; a target beside it goes on."""
    down, fine = Recorder("down"), Recorder("fine")
    down.is_down = True
    fed.outbox.add(down, fine, attempts=1)
    await emit(fed, "a:1", "a:2", "b:1")
    async with fed.outbox.running():
        await until(lambda: len(fine.took) == 3 and down.calls)
        await emit(fed, "a:3")
        await until(lambda: len(fine.took) == 4)
        assert await fed.outbox.failed() == []
        down.is_down = False
        await until_empty(fed)
    assert [name for name in down.took if name.startswith("a")] == ["a:1", "a:2", "a:3"]
    assert len(down.took) == len(fine.took) == 4


async def test_a_target_that_refuses_to_open_again_ends_no_relay(fed: Federation) -> None:
    """It was down at the start, and its password is wrong afterwards: it rests, and the target beside it goes on."""
    tried: list[Exception] = []

    class Refused(Recorder):
        password = "wrong"

        async def open(self, federation: Federation) -> None:
            if not tried or self.password == "wrong":
                tried.append(ConfigurationError("its password is wrong") if tried else TargetUnavailableError("down"))
                raise tried[-1]
            await super().open(federation)

    refused, fine = Refused("refused"), Recorder("fine")
    fed.outbox.add(refused, fine, attempts=1)
    await emit(fed, "a:1", "b:1")
    async with fed.outbox.running():
        await until(lambda: len(tried) >= 3 and {"a:1", "b:1"} <= set(fine.took))
        await emit(fed, "a:2")
        await until(lambda: "a:2" in fine.took)
        assert fed.outbox.targets_status()[0].error == "ConfigurationError: its password is wrong"
        assert await fed.outbox.failed() == []
        refused.password = "right"
        await until_empty(fed)
    assert [type(one) for one in tried[:3]] == [TargetUnavailableError, ConfigurationError, ConfigurationError]
    # Some may come twice: MariaDB's deadlocks are one reason.
    assert list(dict.fromkeys(name for name in refused.took if name.startswith("a"))) == ["a:1", "a:2"]
    assert set(refused.took) == set(fine.took) == {"a:1", "a:2", "b:1"}


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
    async for fed in opened({"news": make_url("postgresql"), "cards": make_url("mongodb")}):
        fed.outbox.to_model("price.*", PriceCard)
        async with fed.session() as session:
            for what, key, amount in (("made", "a", 1), ("made", "b", 2), ("made", "a", 3), ("deleted", "b", 2)):
                event = Event(f"price.{what}", key=key, data={"id": key, "amount": Decimal(amount)})
                session.emit(event, service="news")
            await session.commit()
        async with fed.outbox.running():
            await until_empty(fed)
        async with fed.session() as session:
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


async def test_what_a_target_has_taken_of_a_batch_is_not_given_again(pg: Federation) -> None:
    """A target that says how many it has taken gets the rest alone."""

    class Partly(Recorder):
        async def deliver(self, events: Sequence[Event]) -> None:
            names = [f"{event.key}:{event.data['n']}" for event in events]
            self.took += names[:2]
            if len(names) > 2:
                raise PartlyDeliveredError("two at a time", delivered=2)

    target = Partly()
    pg.outbox.add(target)
    async with pg.session() as session:
        for number in range(5):
            session.emit(Event("news.made", key="a", data={"n": number}), service="news")
        await session.commit()
    async with pg.outbox.running():
        await until_empty(pg)
    assert target.took == [f"a:{number}" for number in range(5)]


async def test_an_event_whose_transaction_commits_late_is_not_passed_over(fed: Federation) -> None:
    """It has a lower position than events that were handed on and removed before it could be seen."""
    target = Recorder()
    fed.outbox.add(target)
    async with fed.outbox.running():
        async with fed.session() as late:
            late.emit(Event("news.made", key="late", data={"n": 1}), service="news")
            if fed.stores["news"].kind != "sqlite":  # Its only writer would keep out the others.
                await late.flush()
            await emit(fed, "a:1", "a:2")
            await until(lambda: len(target.took) == 2)
            await late.commit()
        await until_empty(fed)
    assert target.took == ["a:1", "a:2", "late:1"]


async def test_delivered_events_are_kept_for_as_long_as_is_asked(fed: Federation) -> None:
    """They count as kept, nobody gets them again, and they go when their time is over."""
    target = Recorder()
    fed.outbox.add(target)
    await emit(fed, "a:1", "b:1")
    async with fed.outbox.running(keep=1000):
        await until_empty(fed)
        assert (await status(fed)).kept == 2
    async with fed.outbox.running(keep=0.5):
        async with asyncio.timeout(20):
            while (await status(fed)).kept:
                await asyncio.sleep(0.05)
    assert sorted(target.took) == ["a:1", "b:1"]


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


async def test_many_relays_share_an_outbox(fed: Federation, kind: str) -> None:
    """Each event goes to one of them, and a key's events stay in order."""
    took: list[str] = []

    class Shared(Recorder):
        async def deliver(self, events: Sequence[Event]) -> None:
            await asyncio.sleep(0.002)
            took.extend(f"{event.key}:{event.data['n']}" for event in events)

    fed.outbox.add(Shared())
    async with fed.session() as session:
        for number in range(300):
            session.emit(Event("news.made", key=f"k{number % 30}", data={"n": number}), service="news")
        await session.commit()
    async with fed.outbox.running(batch=20), fed.outbox.running(batch=20):
        await until_empty(fed)
    assert len(took) == len(set(took)) == 300
    for key in range(30):
        numbers = [int(name.partition(":")[2]) for name in took if name.partition(":")[0] == f"k{key}"]
        assert numbers == sorted(numbers)


async def test_a_relay_ends_after_the_batch_in_hand(pg: Federation) -> None:
    """Also when it is cancelled: what a target has taken is not handed on again."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Recorder):
        async def deliver(self, events: Sequence[Event]) -> None:
            begun.set()
            await go_on.wait()
            await super().deliver(events)

    target = Slow()
    pg.outbox.add(target)
    await emit(pg, "a:1")
    task = asyncio.create_task(pg.outbox.run())
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (target.took, (await status(pg)).waiting) == (["a:1"], 0)
    task = asyncio.create_task(pg.outbox.run())
    await asyncio.sleep(0.1)
    pg.outbox.stop()
    await task


async def test_what_cannot_be_set_up_is_refused_by_name(pg: Federation) -> None:
    """A relay without targets, names that are taken, services and attributes that are not there."""
    with pytest.raises(ConfigurationError, match="nothing to hand events on to"):
        await pg.outbox.run()
    pg.outbox.add(Recorder())
    with pytest.raises(ConfigurationError, match="two targets of events have the name 'recorder'"):
        pg.outbox.add(Recorder())
    with pytest.raises(UnknownServiceError, match="unknown service 'none'"):
        await pg.outbox.run(["none"])
    pg.outbox.to_model("x", Price, fields={"id": "nothing"})
    with pytest.raises(ConfigurationError, match=r"to_model\(Price\): it has no attribute 'nothing'"):
        await pg.outbox.run()
