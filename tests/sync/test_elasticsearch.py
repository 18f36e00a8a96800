"""Rules whose target is an index of Elasticsearch: every strategy, and which of two changes stays."""

from __future__ import annotations

import datetime
import functools
import random
import secrets
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Any

import pytest
from elasticsearch.dsl import Keyword

from fedorm import FederatedSearchDocument, Federation
from fedorm.exc import RowError
from fedorm.stores.elasticsearch_rows import ROOM
from fedorm.stores.rows import Block, RowAccess
from fedorm.sync import CDC, Batch, EventDriven, RealTime, SyncRule
from fedorm.sync.shapes import side_of
from fedorm.sync.strategies import Strategy
from fedorm.testing.plugin import FreshDatabase
from tests.sync.histories import History
from tests.sync.ledgers import FIELDS, source_model, target_model
from tests.sync.watching import as_kept_by, rows_of, until_equal

STRATEGIES: dict[str, Strategy] = {
    "batch": Batch(every=0.2, page=300),
    "real-time": RealTime(poll=0.1, detect_deletes=0.5, page=300, changed="touched", overlap=5.0),
    "event-driven": EventDriven(page=200),
    "cdc": CDC(page=300, batch=300),
}


class LedgerText(FederatedSearchDocument):
    __service__ = "ledger_texts"
    id: int
    number: int | None = None
    name: Annotated[str | None, Keyword()] = None
    amount: Decimal | None = None
    flag: bool | None = None
    moment: datetime.datetime | None = None
    touched: datetime.datetime
    extra: Any = None

    class Index:
        name = "ledger"


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_an_index_comes_to_what_its_source_has(
    strategy: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """Several writers at once, big and late transactions, and such as are rolled back."""
    near = source_model("postgresql", events=strategy == "event-driven")
    urls = {near.__service__: fresh_database("postgresql"), "ledger_texts": fresh_database("elasticsearch")}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=near, to=LedgerText, strategy=STRATEGIES[strategy], name="texts"))
        await fed.create_all()
        seed = secrets.token_hex(4)
        print(f"seed {seed}")
        history = History(fed, near, "postgresql", random.Random(seed), big=400)
        await history.fill(200)

        async def read(model: Any) -> Any:
            return as_kept_by(("postgresql", "elasticsearch"), await rows_of(fed, model), FIELDS)

        async with fed.sync.running(["texts"]):
            await history.write(writers=2, transactions=4)
            rows = await until_equal(functools.partial(read, near), functools.partial(read, LedgerText))
        verified = await fed.sync.verify("texts")
        assert (verified.equal, verified.rows, verified.differences) == (True, len(rows), [])
        assert await fed.sync.dead_letters("texts") == []
        assert len(rows) > 400


@pytest.mark.parametrize("strategy", ["batch", "real-time"])
async def test_an_index_as_a_source(strategy: str, fresh_database: FreshDatabase, no_stray_tasks: None) -> None:
    """It is read by its ids, and compared with what is at the target."""
    far = target_model("postgresql")
    urls = {"ledger_texts": fresh_database("elasticsearch"), far.__service__: fresh_database("postgresql")}
    async with Federation(urls) as fed:
        fed.sync.add(SyncRule(source=LedgerText, to=far, strategy=STRATEGIES[strategy], name="texts"))
        await fed.create_all()
        history = History(fed, LedgerText, "elasticsearch", random.Random(3), big=50)
        await history.fill(700)

        async def read(model: Any) -> Any:
            return as_kept_by(("postgresql", "elasticsearch"), await rows_of(fed, model), FIELDS)

        async with fed.sync.running(["texts"]):
            await until_equal(functools.partial(read, LedgerText), functools.partial(read, far))
            async with fed.session() as session:
                one = await session.get(LedgerText, 1)
                one.touched = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
                await session.delete(await session.get(LedgerText, 2))
                session.add(LedgerText(**row(-5, "new") | {"touched": one.touched}))
                await session.commit()
            await until_equal(functools.partial(read, LedgerText), functools.partial(read, far))
        assert (await fed.sync.verify("texts")).equal


# -- versions


@pytest.fixture
async def fed(fresh_database: FreshDatabase, no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation({"ledger_texts": fresh_database("elasticsearch")}) as fed:
        await fed.create_all()
        yield fed


def access_to(fed: Federation, *fields: str) -> RowAccess:
    whole = side_of(LedgerText, {}, rule="texts").whole
    return fed.stores["ledger_texts"].row_access(whole.of(fields) if fields else whole)


def row(number: int, name: str) -> dict[str, Any]:
    values = dict.fromkeys(LedgerText.model_fields) | {"id": number, "name": name}
    return values | {"touched": datetime.datetime(2024, 1, 1)}


async def test_an_older_change_that_comes_later_never_wins(fed: Federation) -> None:
    """It is passed over without an error, the newer ones of its block are not; the same one may come twice."""
    access = access_to(fed)
    await access.write(None, Block(upserts=[row(1, "new"), row(2, "old")]), version=5)
    await access.write(None, Block(upserts=[row(2, "newest")]), version=7)
    await access.write(None, Block(upserts=[row(1, "newer"), row(2, "older"), row(3, "made")]), version=6)
    await access.write(None, Block(upserts=[row(1, "newer")]), version=6)
    await access.write(None, Block(deletes=[(2,), (3,)]), version=6)
    found = await access.read([(1,), (2,), (3,)])
    assert {key: one["name"] for (key,), one in found.items()} == {1: "newer", 2: "newest"}
    await access.write(None, Block(deletes=[(1,), (2,), (99,)]), version=8)
    assert await access.count() == 0


async def test_a_session_changes_what_a_rule_has_written(fed: Federation) -> None:
    """Each change counts as one of the document; the rule's next one is newer all the same, and its last one older."""
    access = access_to(fed)
    await access.write(None, Block(upserts=[row(1, "old"), row(2, "old")]), version=5)
    async with fed.session() as session:
        for key in (1, 2):
            document = await session.get(LedgerText, key)
            for number in range(3):
                document.name = f"by hand {number}"
                await session.commit()
    await access.write(None, Block(upserts=[row(1, "old"), row(2, "old")]), version=5)
    await access.write(None, Block(upserts=[row(2, "new")]), version=6)
    found = await access.read([(1,), (2,)])
    assert [one["name"] for one in found.values()] == ["by hand 2", "new"]


async def test_a_deletion_has_a_version(fed: Federation) -> None:
    """It is sent with it, to a server that keeps it for an hour; noida-db forgets it at once."""
    access = access_to(fed)
    store: Any = fed.stores["ledger_texts"]
    client, index = store.client(sync=False), store.index_of(LedgerText)
    await access.write(None, Block(upserts=[row(1, "old")]), version=5)
    await access.write(None, Block(deletes=[(1,)]), version=7)
    answer = await client.options(ignore_status=404).delete(
        index=index, id="1", version=7 * ROOM, version_type="external_gte"
    )
    assert (answer["result"], answer["_version"]) == ("not_found", 7 * ROOM)
    settings = await client.indices.get_settings(index=index, flat_settings=True)
    assert settings[index]["settings"]["index.gc_deletes"] == "1h"


async def test_rows_that_leave_fields_out(fed: Federation) -> None:
    """Those keep what others have put there; changes of documents that are not there make none."""
    async with fed.session() as session:
        session.add(LedgerText(**row(1, "one") | {"extra": "kept", "number": 3}))
        await session.commit()
    some = access_to(fed, "id", "name", "touched")
    moment = datetime.datetime(2025, 1, 1)
    rows = [{"id": number, "name": f"name {number}", "touched": moment} for number in (1, 2)]
    await some.write(None, Block(upserts=rows, changes=[((3,), {"name": "none"})]), version=1)
    await some.write(None, Block(changes=[((2,), {"number": 9})]), version=2)
    found = await access_to(fed).read([(1,), (2,), (3,)])
    wanted = [row(1, "name 1") | {"extra": "kept", "number": 3}, row(2, "name 2") | {"number": 9}]
    assert list(found.values()) == [one | {"touched": moment} for one in wanted]


async def test_a_row_that_an_index_refuses(fed: Federation) -> None:
    """The error is of the row, names the field and leaves the value out; the others of the request are written."""
    access = access_to(fed)
    store: Any = fed.stores["ledger_texts"]
    with pytest.raises(RowError, match="field 'number': a whole number has more than 64 bits"):
        await access.write(None, Block(upserts=[row(1, "one") | {"number": 2**64}]), version=1)
    index, client = store.index_of(LedgerText), store.client(sync=False)
    await client.indices.delete(index=index)
    await client.indices.create(
        index=index, mappings={"properties": {"id": {"type": "long"}, "name": {"type": "date"}}}
    )
    with pytest.raises(RowError, match="LedgerText: document_parsing_exception"):
        await access.write(None, Block(upserts=[row(1, "no date"), row(2, "2024-01-01")]), version=1)
    assert await access.present([(1,), (2,)]) == {(2,)}
