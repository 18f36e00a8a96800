"""Redis as the target of every strategy, and as a source that is compared; the position is in the rows' MULTI/EXEC."""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import random
import secrets
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from fedorm import FederatedRecord, Federation, StaleDocumentError
from fedorm.stores.positions import SavedPosition
from fedorm.stores.redis import RedisStore
from fedorm.stores.rows import Block, RowShape
from fedorm.sync import CDC, Batch, SyncRule
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import RedisServer
from tests.stores.redis_models import BasketNote, BasketPage, BasketVisit
from tests.sync.histories import History
from tests.sync.ledgers import FIELDS, source_model
from tests.sync.test_histories import STRATEGIES
from tests.sync.watching import as_kept_by, rows_of, until, until_equal


class LedgerHash(FederatedRecord):
    __service__ = "ledger_hashes"
    id: int
    number: int | None = None
    name: str | None = None
    amount: Decimal | None = None
    flag: bool | None = None
    moment: datetime.datetime | None = None
    touched: datetime.datetime
    extra: Any | None = None

    class Settings:
        name = "ledger"


class LedgerText(LedgerHash):
    """The same as JSON."""

    __service__ = "ledger_texts"

    class Settings:
        name = "ledger_text"
        format = "json"


@pytest.mark.parametrize(
    ("source", "strategy", "far"),
    [
        ("sqlite", "batch", LedgerHash),
        ("postgresql", "real-time", LedgerText),
        ("sqlite", "event-driven", LedgerText),
        ("postgresql", "cdc", LedgerHash),
    ],
)
async def test_a_target_of_every_strategy(
    source: str,
    strategy: str,
    far: Any,
    empty_redis_url: str,
    fresh_database: FreshDatabase,
    tmp_path: Path,
    no_stray_tasks: None,
) -> None:
    """Whatever writers do to the source: the records come to the same values."""
    seed = secrets.token_hex(4)
    print(f"FEDORM_SEED={seed}")
    near = source_model(source, events=strategy == "event-driven")
    url = f"sqlite+aiosqlite:///{tmp_path / 'near.db'}" if source == "sqlite" else fresh_database(source)
    async with Federation({near.__service__: url, far.__service__: empty_redis_url}) as fed:
        fed.sync.add(SyncRule(source=near, to=far, strategy=STRATEGIES[strategy](), name="ledger"))
        await fed.create_all()
        history = History(fed, near, source, random.Random(seed), big=300)
        await history.fill(200)
        read = functools.partial(_read, fed)
        async with fed.sync.running(["ledger"]):
            await history.write(writers=2, transactions=4)
            rows = await until_equal(lambda: read(near), lambda: read(far))
        verified = await fed.sync.verify("ledger")
        assert (verified.equal, verified.rows, verified.differences) == (True, len(rows), [])
        assert await fed.sync.dead_letters("ledger") == []


async def _read(fed: Federation, model: type) -> dict[Any, Any]:
    return as_kept_by(["redis"], await rows_of(fed, model), FIELDS)


async def test_a_target_that_is_killed(fresh_database: FreshDatabase, no_stray_tasks: None) -> None:
    """Rows and position are in one MULTI/EXEC: whenever the server dies the rule goes on from what it has."""
    near = source_model("postgresql", events=False)
    with RedisServer(durable=True) as server:
        urls = {near.__service__: fresh_database("postgresql"), "ledger_hashes": server.url()}
        async with Federation(urls) as fed:
            fed.sync.add(SyncRule(source=near, to=LedgerHash, strategy=CDC(page=100, batch=50), name="ledger"))
            await fed.create_all()
            history = History(fed, near, "postgresql", random.Random(7), big=300)
            await history.fill(500)
            async with fed.sync.running(["ledger"]):
                for _ in range(2):
                    await history.write(writers=2, transactions=2)
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.restart)
                rows = await until_equal(lambda: _read(fed, near), lambda: _read(fed, LedgerHash))
            verified = await fed.sync.verify("ledger")
            assert (verified.equal, verified.rows) == (True, len(rows))


async def test_a_source_that_is_compared(empty_redis_url: str, tmp_path: Path, no_stray_tasks: None) -> None:
    """``Batch`` finds what was added, changed, deleted, and what has passed its time to live."""
    urls = {"baskets": empty_redis_url, "basket_owners": f"sqlite+aiosqlite:///{tmp_path / 'pages.db'}"}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=BasketVisit, to=BasketPage, strategy=Batch(every=None, page=3), name="pages"))
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([BasketVisit(id=number, page=f"/{number}", number=number) for number in range(10)])
            await session.commit()
        await fed.sync.backfill("pages")
        assert await _pages(fed) == {number: (f"/{number}", number) for number in range(10)}
        with Redis.from_url(empty_redis_url) as client:
            client.hset("basket_visit:1", "page", "/other")
            client.delete("basket_visit:2")
            client.pexpire("basket_visit:3", 1)
            client.hset("basket_visit:11", mapping={"number": 11})
            await until(lambda: asyncio.to_thread(lambda: not client.exists("basket_visit:3")))
        await fed.sync.backfill("pages")
        expected = {number: (f"/{number}", number) for number in (0, 4, 5, 6, 7, 8, 9)}
        assert await _pages(fed) == expected | {1: ("/other", 1), 11: (None, 11)}
        assert (await fed.sync.verify("pages")).equal


async def _pages(fed: Federation) -> dict[int, Any]:
    return {key: (row["page"], row["number"]) for key, row in (await rows_of(fed, BasketPage)).items()}


async def test_positions(empty_redis_url: str) -> None:
    """A position is there with the rows or not at all, and an earlier owner saves none, whenever a later one comes."""
    async with Federation({"baskets": empty_redis_url}) as fed:
        store: Any = fed.stores["baskets"]
        assert isinstance(store, RedisStore)
        log, shape = store.positions(), RowShape("baskets", "Visit", ("id",), ("id", "number"), document=BasketVisit)
        access = store.row_access(shape)
        saved = [SavedPosition(f"p{number}", number, epoch=5, saved_at=1.0) for number in range(3)]
        assert await log.claim("rule", 5) is None
        for ends, there in ((access.rollback, None), (access.commit, saved[0])):
            handle = await access.begin()
            await access.write(handle, Block(upserts=[{"id": 1, "number": 1}]), version=1)
            assert await log.save(handle, "rule", saved[0])
            await ends(handle)
            assert (await access.count(), await log.peek("rule")) == (0 if there is None else 1, there)
        handle = await access.begin()
        await access.write(handle, Block(upserts=[{"id": 2, "number": 2}]), version=2)
        assert await log.save(handle, "rule", saved[1])
        claimed = await log.claim("rule", 6)
        assert claimed == SavedPosition("p0", 0, epoch=6, saved_at=1.0)
        with pytest.raises(StaleDocumentError, match="sync rule 'rule' is carried out by another process"):
            await access.commit(handle)
        assert not await log.save(None, "rule", saved[2])
        assert (await access.count(), await log.claim("rule", 5)) == (1, claimed)
        await log.forget("rule")
        assert await log.peek("rule") is None


async def test_blocks_of_texts(empty_redis_url: str) -> None:
    """Of a text a block changes the fields that it names; a new one gets the class's defaults and time to live."""
    async with Federation({"baskets": empty_redis_url}) as fed:
        store = fed.stores["baskets"]
        shape = RowShape("baskets", "Note", ("id",), ("id", "text"), document=BasketNote)
        access = store.row_access(shape)
        with Redis.from_url(empty_redis_url, decode_responses=True) as client:
            client.set("basket_note:1", '{"id":1,"text":"old","tags":["kept"],"more":1}')
            handle = await access.begin()
            block = Block(
                upserts=[{"id": 1, "text": "new"}, {"id": 2, "text": "made"}], changes=[((3,), {"text": "nobody"})]
            )
            await access.write(handle, block, version=1)
            await access.commit(handle)
            assert [json.loads(client.get(f"basket_note:{number}") or "0") for number in (1, 2, 3)] == [
                {"id": 1, "text": "new", "tags": ["kept"], "more": 1}, {"id": 2, "text": "made", "tags": []}, 0,
            ]  # fmt: skip
            assert client.pttl("basket_note:2") > 0
