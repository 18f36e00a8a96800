"""The relay: what targets get of the events of every kind of outbox; what becomes of those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fedorm import Federation
from fedorm.exc import ConfigurationError, UnknownServiceError
from fedorm.outbox.events import Event
from fedorm.relay import PartlyDeliveredError, TargetUnavailableError
from tests.relaying import Price, Recorder, emit, fed, kind, make_url, pg, status, until, until_empty, until_put_aside

__all__ = ["kind", "make_url", "fed", "pg"]


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
