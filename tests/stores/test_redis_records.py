"""Records of Redis: in the unit of work, with a time to live, related to rows, and in a select."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import func, select, text

from fedorm import (
    ConfigurationError,
    DuplicateKeyError,
    DuplicateTableError,
    FederatedRecord,
    Federation,
    FederationOpenError,
    ModelError,
    PartialCommitError,
    StaleDocumentError,
    TwoPhaseError,
    UnsupportedOperationError,
    federated_load,
)
from fedorm.exc import FedormError, RowError, StoreError
from fedorm.sync import CDC, SyncRule, SyncRuleError
from fedorm.testing.rolling_back import rolled_back
from fedorm.testing.servers import RedisServer
from tests.stores.redis_models import DAY, Basket, BasketLine, BasketNote, BasketOwner, BasketPage, BasketVisit


@pytest.fixture
def kept(empty_redis_url: str) -> Iterator[Redis]:
    """What Redis itself says."""
    with Redis.from_url(empty_redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def fed(empty_redis_url: str, tmp_path: Path, no_stray_tasks: None) -> AsyncIterator[Federation]:
    urls = {"baskets": empty_redis_url, "basket_owners": f"sqlite+aiosqlite:///{tmp_path / 'owners.db'}"}
    async with Federation(urls) as federation:
        await federation.create_all()
        yield federation


async def add(fed: Federation, *instances: Any) -> None:
    async with fed.session() as session:
        session.add_all(instances)
        await session.commit()


def lives(kept: Redis, key: str) -> int:
    """For how many days, about, a key lives."""
    return round(kept.pttl(key) / 1000 / DAY)


# -- the unit of work


async def test_how_records_are_kept(fed: Federation, kept: Redis) -> None:
    """A hash has the plain values as texts and all others as JSON, and no field for None; a text is JSON as a whole."""
    await add(
        fed,
        Basket(id="ü 1", owner_id=7, total=Decimal("2.50"), lines=[BasketLine(sku="a", number=2)]),
        BasketNote(id=7, text="q", tags={"x"}),
        BasketVisit(id=1),
    )
    assert kept.hgetall("basket:ü 1") == {
        "id": "ü 1", "owner_id": "7", "total": "2.50", "lines": '[{"sku":"a","number":2}]',
    }  # fmt: skip
    assert kept.get("basket_note:7") == '{"id":7,"text":"q","tags":["x"]}'
    assert kept.hgetall("basket_visit:1") == {"id": "1", "number": "0"}
    kept.hset("basket_visit:2", mapping={"page": "/", "number": "3", "more": "of others"})
    kept.set("basket_visit:text", "of others")
    async with fed.session() as session:
        found = await session.find(BasketVisit).sort("-id").to_list()
        assert found == [BasketVisit(id=2, page="/", number=3), BasketVisit(id=1)]
        assert await session.get(BasketVisit, "2") is found[0]


async def test_changes_are_tracked(fed: Federation, kept: Redis) -> None:
    """What was changed is sent, in place or not, and nothing else: two sessions change fields of one hash."""
    await add(fed, Basket(id="a", total=Decimal(1)), BasketNote(id=1, text="old"))
    async with fed.session() as one, fed.session() as two:
        mine, yours = await one.get(Basket, "a"), await two.get(Basket, "a")
        assert mine is not None
        assert yours is not None
        mine.lines.append(BasketLine(sku="x"))
        yours.total = Decimal(9)
        await one.commit()
        await two.commit()
        note = await one.get(BasketNote, 1)
        note.tags.add("new")
        await one.commit()
        await one.delete(mine)
        await one.commit()
        assert await one.get(Basket, "a") is None
        yours.owner_id = 3
        with pytest.raises(StaleDocumentError, match="Basket 'a' was to be changed or deleted, and is no longer there"):
            await two.commit()
    assert kept.get("basket_note:1") == '{"id":1,"text":"old","tags":["new"]}'
    assert kept.keys("*") == ["basket_note:1"]


async def test_what_a_flush_says(fed: Federation, kept: Redis) -> None:
    """A session sees what it has flushed, nobody else does; a rollback leaves nothing, of its objects neither."""
    await add(fed, BasketVisit(id=1, page="old"))
    async with fed.session() as session:
        visit = await session.get(BasketVisit, 1)
        visit.page = None
        session.add(BasketVisit(id=2))
        await session.flush()
        assert kept.hgetall("basket_visit:1") == {"id": "1", "page": "old", "number": "0"}
        assert await session.find(BasketVisit, {"page": None}).count() == 2
        assert [row[0] for row in await session.execute(select(BasketVisit.c.page))] == [None, None]
        kept.hset("basket_visit:3", "id", "3")
        session.add(BasketVisit(id=3))
        with pytest.raises(DuplicateKeyError, match=r"service 'baskets'.*there is a BasketVisit 3 already"):
            await session.flush()
        await session.rollback()
        assert visit.page == "old"
    assert sorted(kept.keys("*")) == ["basket_visit:1", "basket_visit:3"]


async def test_a_text_that_others_have_changed(fed: Federation, kept: Redis) -> None:
    """It is written as a whole, and so has to be as it was read, at the flush and still at the commit."""
    await add(fed, BasketNote(id=1, text="old"))
    for at_commit in (False, True):
        async with fed.session() as session:
            note = await session.get(BasketNote, 1)
            note.text = "mine"
            if at_commit:
                await session.flush()
            kept.set("basket_note:1", f'{{"id":1,"text":"theirs {at_commit}","tags":[]}}')
            with pytest.raises(StaleDocumentError, match="BasketNote 1 was changed by somebody else since"):
                await session.commit()
    assert kept.get("basket_note:1") == '{"id":1,"text":"theirs True","tags":[]}'


# -- one MULTI/EXEC, after the SQL services


async def test_it_commits_last(fed: Federation, kept: Redis) -> None:
    """A row that fails keeps records out; a record that is taken at the last moment comes after the rows."""
    await add(fed, BasketOwner(id=1, name="there"))
    async with fed.session() as session:
        session.add_all([Basket(id="a"), BasketOwner(id=1, name="twice")])
        with pytest.raises(Exception, match="UNIQUE"):
            await session.commit()
    assert kept.keys("*") == []
    async with fed.session() as session:
        session.add_all([Basket(id="a"), Basket(id="b"), BasketOwner(id=2, name="new")])
        await session.flush()
        kept.hset("basket:b", "id", "b")
        with pytest.raises(PartialCommitError) as raised:
            await session.commit()
    assert (raised.value.committed, raised.value.failed) == (["basket_owners"], ["baskets"])
    assert kept.keys("*") == ["basket:b"]


async def test_all_of_it_or_nothing(fed: Federation, kept: Redis) -> None:
    """Neither a key that has another type by then, nor a server without memory leaves a part of a commit."""
    await add(fed, Basket(id="a"), Basket(id="b"))
    async with fed.session() as session:
        for name in "ab":
            (await session.get(Basket, name)).owner_id = 5
        await session.flush()
        kept.delete("basket:b")
        kept.rpush("basket:b", "a list")
        with pytest.raises(RowError, match=r"service 'baskets'.*'basket:b' holds no hash"):
            await session.commit()
    assert kept.hget("basket:a", "owner_id") is None
    kept.delete("basket:b")
    kept.config_set("maxmemory", 1)
    try:
        async with fed.session() as session:
            session.add_all([Basket(id="c"), Basket(id="d")])
            with pytest.raises(StoreError, match=r"service 'baskets'.*used memory"):
                await session.commit()
    finally:
        kept.config_set("maxmemory", 0)
    assert kept.keys("*") == ["basket:a"]


async def test_a_server_that_is_killed(tmp_path: Path) -> None:
    """Two records that are always changed together are equal whenever the server dies."""
    with RedisServer(durable=True) as server:
        async with Federation({"baskets": {"url": server.url(), "connect_timeout": 2}}) as fed:
            await add(fed, BasketVisit(id=1), BasketVisit(id=2))

            async def write() -> None:
                with suppress(FedormError):
                    while True:
                        async with fed.session() as session:
                            for visit in await session.find(BasketVisit).to_list():
                                visit.number += 1
                            await session.commit()

            for _ in range(3):
                writing = asyncio.create_task(write())
                await asyncio.sleep(0.15)
                await asyncio.to_thread(server.kill)
                await writing
                await asyncio.to_thread(server.restart)
                async with fed.session() as session:
                    first, second = await session.find(BasketVisit).to_list()
                    assert first.number == second.number > 0


# -- times to live


async def test_times_to_live(fed: Federation, kept: Redis) -> None:
    """A class's for what is new; a change keeps what is left of it, or begins it anew; a record may have its own."""
    await add(fed, Basket(id="a"), BasketNote(id=1, text="t"), BasketVisit(id=1))
    assert (lives(kept, "basket:a"), lives(kept, "basket_note:1"), kept.pttl("basket_visit:1")) == (7, 7, -1)
    kept.expire("basket:a", 3 * DAY)
    kept.expire("basket_note:1", 3 * DAY)
    async with fed.session() as session:
        basket, note, visit = [await session.get(*one) for one in ((Basket, "a"), (BasketNote, 1), (BasketVisit, 1))]
        basket.total, note.text, visit.page = Decimal(1), "new", "/"
        await session.commit()
        assert (lives(kept, "basket:a"), lives(kept, "basket_note:1"), kept.pttl("basket_visit:1")) == (3, 7, -1)
        basket.expire_in(30 * DAY)
        note.expire_in(None)
        visit.expire_in(2 * DAY)
        assert set(session.dirty) == {basket, note, visit}
        await session.commit()
        assert (lives(kept, "basket:a"), kept.pttl("basket_note:1"), lives(kept, "basket_visit:1")) == (30, -1, 2)
        assert not session.dirty
        kept.expire("basket:a", 4 * DAY)
        basket.lines = []
        basket.total = Decimal(2)
        await session.commit()
        assert lives(kept, "basket:a") == 4
    new = BasketNote(id=2, text="t")
    new.expire_in(DAY)
    await add(fed, new)
    assert lives(kept, "basket_note:2") == 1
    with pytest.raises(ModelError, match=r"expire_in\(\): 0 is no time to live"):
        new.expire_in(0)


# -- relationships and selects


async def test_relationships_to_and_from(fed: Federation) -> None:
    """Rows lead to records and records to rows, by key in one round trip for all, and by any field."""
    people = [BasketOwner(id=n, name=f"n{n}", basket_id=f"b{n}" if n % 3 else None) for n in range(300)]
    await add(fed, *people, *(Basket(id=f"b{n}", owner_id=n % 50, total=Decimal(n)) for n in range(0, 300, 2)))
    await add(fed, BasketNote(id=5, text="five"))
    sent = fed.stores["baskets"].sent
    async with fed.session() as session:
        before = sent.statements
        option = federated_load(BasketOwner.basket, Basket.owner)
        found = (await session.scalars(select(BasketOwner).order_by(BasketOwner.id).options(option))).all()
        assert sent.statements == before + 1
        assert {one.id: one.basket.owner.id for one in found if one.basket} == {
            n: n % 50 for n in range(300) if n % 3 and n % 2 == 0
        }
        assert [one.id for one in await found[4].awaitable_attrs.baskets] == [
            "b254",
            "b204",
            "b154",
            "b104",
            "b54",
            "b4",
        ]
        assert [one.note.text for one in found if await one.awaitable_attrs.note] == ["five"]
        before = sent.statements
        some = await session.find(Basket, {"id": {"b2", "b4", "b5"}}).sort("id").to_list()
        assert ([one.id for one in some], sent.statements) == (["b2", "b4"], before + 1)
        assert some[1] is found[4].basket
        found[0].basket = found[4].basket
        assert found[0].basket_id == "b4"
    orphans = await fed.orphans(BasketOwner.basket)
    assert (orphans.keys, orphans.sample[0]) == (100, "b1")


async def test_a_piece_of_a_select(fed: Federation) -> None:
    """Records are joined, filtered and grouped with rows; known ids are asked for, else all are gone through."""
    await add(fed, *(BasketOwner(id=n, name=f"n{n}", basket_id=f"b{n}") for n in range(6)))
    await add(fed, *(Basket(id=f"b{n}", owner_id=n, total=Decimal(n) / 2) for n in range(4)))
    await add(fed, *(BasketNote(id=n, text=f"t{n}", tags={"a"} if n else set()) for n in range(3)))
    joined = (
        select(BasketOwner.name, Basket.c.total, BasketNote.c.text)
        .join(Basket, Basket.c.id == BasketOwner.basket_id)
        .outerjoin(BasketNote, BasketNote.c.id == BasketOwner.id)
        .where(Basket.c.total > Decimal("0.5"))
        .order_by(BasketOwner.id)
    )
    async with fed.session() as session:
        assert [tuple(row) for row in await session.execute(joined)] == [
            ("n2", Decimal(1), "t2"), ("n3", Decimal("1.5"), None),
        ]  # fmt: skip
        rows = await session.execute(text("select sum(total), count(*) from baskets.basket where owner_id in (1, 3)"))
        assert [tuple(row) for row in rows] == [(Decimal(2), 2)]
        found = await session.execute(select(BasketNote.c.id).where(BasketNote.c.id.in_([2, 9])))
        assert found.scalars().all() == [2]
        assert (await session.execute(select(func.count()).select_from(Basket.__clause_element__()))).scalar() == 4
        one = str(await session.explain(select(Basket.c.total).where(Basket.c.id == "b1")))
        assert "HMGET basket:{" in one
        assert "SCAN MATCH basket_note:*, then MGET" in str(await session.explain(select(BasketNote.c.text)))


async def test_a_session_of_threads(fed: Federation) -> None:
    """Code that is not async finds, loads and changes the same."""
    await add(fed, BasketOwner(id=1, name="n"), Basket(id="a", owner_id=1), Basket(id="b"))

    def work() -> list[Any]:
        with fed, fed.sync_session() as session:
            query = session.find(Basket).find({"id": {"a", "c"}}).sort("-id").limit(5)
            found = query.options(federated_load(Basket.owner)).all()
            found[0].total = Decimal(7)
            session.commit()
            return [found[0].owner.name, session.find(Basket, {"total": Decimal(7)}).count(), len(list(query))]

    assert await asyncio.to_thread(work) == ["n", 1, 1]


async def test_what_a_test_has_done_is_undone(fed: Federation, kept: Redis) -> None:
    """Records are as they were, times to live included."""
    await add(fed, Basket(id="a"), BasketVisit(id=1), BasketVisit(id=2))

    def held() -> tuple[Any, ...]:
        return kept.hgetall("basket:a"), kept.hgetall("basket_visit:1"), sorted(kept.keys("*"))

    before = held()
    async with rolled_back(fed), fed.session() as session:
        (await session.get(Basket, "a")).total = Decimal(3)
        (await session.get(BasketVisit, 1)).expire_in(DAY)
        await session.delete(await session.get(BasketVisit, 2))
        session.add_all([Basket(id="b"), BasketOwner(id=1, name="n")])
        await session.commit()
        assert kept.exists("basket:b")
    assert held() == before
    assert (lives(kept, "basket:a"), kept.pttl("basket_visit:1")) == (7, -1)


# -- what it does not do


async def test_refusals(fed: Federation) -> None:
    """Each says which class or service, and why."""
    with pytest.raises(ModelError, match="BasketNameless has no field  id"):

        class BasketNameless(FederatedRecord):
            __service__ = "baskets"
            name: str

    with pytest.raises(ModelError, match=r"BasketOdd.Settings.format = 'xml': write .hash. or .json."):

        class BasketOdd(FederatedRecord):
            __service__ = "baskets"
            id: int

            class Settings:
                format = "xml"

    with pytest.raises(DuplicateTableError, match="basket_visit"):

        class BasketVisitOfOthers(BasketVisit):
            more: int = 0

    async with fed.session(twophase=True) as session:
        session.add_all([Basket(id="a"), BasketOwner(id=1, name="n")])
        with pytest.raises(TwoPhaseError, match=r"service 'baskets'.*cannot take part in a two-phase commit"):
            await session.commit()
    with pytest.raises(UnsupportedOperationError, match=r"service 'baskets'.*no migrations"):
        fed.migrate.history("baskets")
    fed.outbox.to_model("x", Basket)
    with pytest.raises(ConfigurationError, match=r"'baskets'.*has no transactions, in which an effect"):
        await fed.outbox.run()


async def test_what_is_no_source(fed: Federation, empty_redis_url: str) -> None:
    """What would lose changes is refused; ``Batch()`` and ``RealTime()`` compare all records."""
    with pytest.raises(SyncRuleError, match=r"service 'baskets'.*keyspace notifications are lost to whoever is not"):
        fed.sync.add(SyncRule(source=BasketVisit, to=BasketPage, strategy=CDC()))
    fed = Federation({"basket_guests": empty_redis_url})
    with pytest.raises(FederationOpenError, match=r"takes no event into its transactions.*BasketGuest cannot have"):
        await fed.open()
