"""Rules that rest, are filled anew, compared, mended, and given another strategy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from fedorm import Federation
from fedorm.sync import CDC, Batch, EventDriven, RealTime
from fedorm.sync.backfilling import Filled
from fedorm.sync.strategies import Strategy
from fedorm.testing.plugin import FreshDatabase
from tests.sync.ledgers import HAS_CLICKHOUSE, LedgerEventRow, LedgerRecord
from tests.sync.parts import (
    Deal,
    PurchaseFact,
    add,
    become,
    change,
    facts,
    federation,
    remove,
    rule,
    run_sql,
)
from tests.sync.watching import rows_of, until

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "cdc": lambda: CDC(page=50),
    "batch": lambda: Batch(every=0.1, page=50),
    "real-time": lambda: RealTime(poll=0.1, detect_deletes=0.1, page=50),
    "event-driven": lambda: EventDriven(page=50),
}
ROWS = 500


@pytest.fixture
def urls(fresh_database: FreshDatabase) -> dict[str, str]:
    return {"parts_near": fresh_database("postgresql"), "parts_far": fresh_database("postgresql")}


@pytest.fixture(params=STRATEGIES.values(), ids=STRATEGIES.keys())
def strategy(request: pytest.FixtureRequest) -> Any:
    return request.param()


async def state(fed: Federation) -> str:
    (status,) = await fed.sync.status()
    return status.state


async def spoiled(fed: Federation) -> dict[int, Decimal]:
    """Make the target differ in each way, and return what it should be."""
    async with fed.session() as session:
        await session.delete(await session.get(PurchaseFact, 1))
        (await session.get(PurchaseFact, 2)).value = Decimal(99)
        session.add(PurchaseFact(purchase_id=-3, value=Decimal(3)))
        await session.commit()
    return {number: Decimal(1) for number in range(1, ROWS + 1)}


async def filled(fed: Federation) -> dict[int, Decimal]:
    """Fill the source, and wait until the target is as it is."""
    await add(fed, *[Deal(id=number) for number in range(1, ROWS + 1)])
    wanted = {number: Decimal(1) for number in range(1, ROWS + 1)}
    await become(fed, wanted)
    return wanted


async def test_a_rule_rests_and_goes_on(urls: dict[str, str], strategy: Any) -> None:
    """What is written meanwhile comes afterwards; who carries it out may be another process."""
    here, there = federation(urls, rule(strategy)), federation(urls, rule(strategy))
    async with there as other, here as fed, fed.sync.running():
        await add(fed, Deal(id=1))
        await become(fed, {1: Decimal(1)})
        await other.sync.pause("facts")

        async def rests() -> bool:
            (status,) = await fed.sync.status()
            return status.state == "paused" and status.owner is None

        await until(rests)
        await asyncio.sleep(0.3)
        await change(fed, Deal, 1, total=Decimal(2))
        await add(fed, Deal(id=2))
        await asyncio.sleep(0.7)
        assert await facts(fed) == {1: Decimal(1)}
        await other.sync.resume("facts")
        await become(fed, {1: Decimal(2), 2: Decimal(1)})


async def test_a_comparison_finds_what_differs_and_mends_it(urls: dict[str, str], strategy: Any) -> None:
    """While the rule is carried out, which it goes on to be."""
    async with federation(urls, rule(strategy)) as fed:
        async with fed.sync.running():
            await filled(fed)
        wanted = await spoiled(fed)
        found = await fed.sync.verify("facts")
        assert (found.equal, found.rows, found.missing, found.different, found.superfluous) == (False, ROWS, 1, 1, 1)
        assert [(one.key, one.kind, one.fields) for one in found.differences] == [
            ([1], "missing", ()),
            ([2], "different", ("value",)),
            ([-3], "superfluous", ()),
        ]
        mended = await fed.sync.verify("facts", repair=True)
        assert (mended.equal, mended.repaired) == (True, 3)
        assert await facts(fed) == wanted
        async with fed.sync.running():
            await change(fed, Deal, 2, total=Decimal(7))
            await become(fed, wanted | {2: Decimal(7)})
        assert (await fed.sync.verify("facts")).equal


async def test_a_backfill_brings_the_target_to_what_it_should_be(urls: dict[str, str], strategy: Any) -> None:
    """Whether the rule is carried out meanwhile or not; it tells how far it is."""
    async with federation(urls, rule(strategy)) as fed:
        reports: list[Filled] = []
        await add(fed, *[Deal(id=number) for number in range(1, ROWS + 1)])
        done = await fed.sync.backfill("facts", progress=reports.append)
        assert (done.rows, done.total, done.failed, len(reports) >= 1) == (ROWS, ROWS, 0, True)
        wanted = await spoiled(fed)
        async with fed.sync.running():
            await until(lambda: state_is_no(fed, "new"))
            await fed.sync.backfill("facts")
            await become(fed, wanted)
            await change(fed, Deal, 3, total=Decimal(7))
            await remove(fed, Deal, 4)
            wanted[3] = Decimal(7)
            del wanted[4]
            await become(fed, wanted)
        assert (await fed.sync.verify("facts")).equal


async def test_a_backfill_counts_right_while_its_lease_is_renewed(urls: dict[str, str]) -> None:
    """Each renewal tells what was done, and begins to count anew: also in the middle of a page."""
    async with federation(urls, rule(CDC(page=5))) as fed:
        await filled_once(fed)
        wanted = await spoiled(fed)
        await run_sql(fed, "parts_far", "UPDATE purchase_facts SET value = 7 WHERE purchase_id > 2")
        fed.sync.lease = 0.02
        done = await fed.sync.backfill("facts")
        assert (done.rows, done.written, done.deleted, done.failed) == (ROWS, ROWS, 1, 0)
        assert await facts(fed) == wanted
        await run_sql(fed, "parts_far", "UPDATE purchase_facts SET value = 7")
        found = await fed.sync.verify("facts", repair=True, page=5)
        assert (found.different, found.repaired, found.equal) == (ROWS, ROWS, True)


async def filled_once(fed: Federation) -> None:
    """Fill source and target, and carry the rule out no longer."""
    await add(fed, *[Deal(id=number) for number in range(1, ROWS + 1)])
    await fed.sync.backfill("facts")


async def state_is_no(fed: Federation, other: str) -> bool:
    return await state(fed) != other


async def test_a_backfill_goes_on_where_it_was_interrupted(urls: dict[str, str], strategy: Any) -> None:
    """Pages that are done are not read again, and what has changed in them meanwhile arrives all the same."""

    class StopError(Exception):
        pass

    async with federation(urls, rule(strategy, where=lambda row: True)) as fed:
        await add(fed, *[Deal(id=number) for number in range(1, ROWS + 1)])

        def stop(filled: Filled) -> None:
            if filled.rows >= 200:
                raise StopError

        with pytest.raises(StopError):
            await fed.sync.backfill("facts", progress=stop)
        assert await facts(fed) == {number: Decimal(1) for number in range(1, 201)}
        await change(fed, Deal, 1, total=Decimal(2))
        await change(fed, Deal, ROWS, total=Decimal(3))
        await remove(fed, Deal, 2)
        done = await fed.sync.backfill("facts")
        assert done.rows == ROWS - 200
        wanted = {number: Decimal(1) for number in range(1, ROWS + 1)} | {1: Decimal(2), ROWS: Decimal(3)}
        del wanted[2]
        async with fed.sync.running():
            await become(fed, wanted)
        assert (await fed.sync.verify("facts")).equal


async def test_a_rule_that_begins_anew(urls: dict[str, str], strategy: Any) -> None:
    """After ``reset()`` nothing is left at the source, and the next run compares everything."""
    async with federation(urls, rule(strategy)) as fed:
        async with fed.sync.running():
            await filled(fed)
        await fed.sync.reset("facts")
        wanted = await spoiled(fed)
        await change(fed, Deal, 5, total=Decimal(5))
        async with fed.sync.running():
            await become(fed, wanted | {5: Decimal(5)})


@pytest.mark.parametrize("after", STRATEGIES.values(), ids=STRATEGIES.keys())
async def test_a_rule_that_is_given_another_strategy(urls: dict[str, str], strategy: Any, after: Any) -> None:
    """It goes on with the other one, and what was written in between is not missed."""
    async with federation(urls, rule(strategy)) as fed, fed.sync.running():
        wanted = await filled(fed)
    async with federation(urls) as fed:  # Nobody hears of these.
        await run_sql(
            fed,
            "parts_near",
            "UPDATE purchases SET total = 2 WHERE id = 1",
            "DELETE FROM purchases WHERE id = 2",
            "INSERT INTO purchases (id, total) VALUES (1001, 3)",
        )
    wanted |= {1: Decimal(2), 1001: Decimal(3)}
    del wanted[2]
    async with federation(urls, rule(after())) as fed:
        if after().name == strategy.name == "event-driven":
            await fed.sync.backfill("facts")  # Written past the session: that is what it is for.
        async with fed.sync.running():
            await become(fed, wanted)
            await change(fed, Deal, 3, total=Decimal(4))
            await become(fed, wanted | {3: Decimal(4)})
        assert (await fed.sync.verify("facts")).equal


@pytest.mark.skipif(not HAS_CLICKHOUSE, reason="ClickHouse's driver needs SQLAlchemy below 2.1")
@pytest.mark.parametrize("name", ["cdc", "event-driven"])
async def test_rows_that_can_only_be_appended_are_mended(name: str, fresh_database: FreshDatabase) -> None:
    """What a repair or a backfill writes counts, and what is written afterwards does."""
    urls = {"ledger_event_rows": fresh_database("postgresql"), "ledger_records": fresh_database("clickhouse")}
    ledger = rule(STRATEGIES[name](), source=LedgerEventRow, to=LedgerRecord, fields=None, name="ledger")
    async with federation(urls, ledger) as fed:

        async def amounts() -> dict[int, Any]:
            return {key: row["amount"] for key, row in (await rows_of(fed, LedgerRecord)).items()}

        async def are(wanted: dict[int, Any]) -> None:
            async def equal() -> bool:
                return await amounts() == wanted

            await until(equal)

        now = "'2020-01-01 00:00:00'"
        async with fed.sync.running():
            insert = f"INSERT INTO ledger (id, amount, touched) SELECT i, 1, {now} FROM generate_series(1, 20) i"
            await run_sql(fed, "ledger_event_rows", insert)
            if name == "event-driven":
                await fed.sync.backfill("ledger")
            await are({number: Decimal(1) for number in range(1, 21)})
            await change(fed, LedgerEventRow, 3, amount=Decimal(3))
            await change(fed, LedgerEventRow, 4, amount=Decimal(4))
            await are({number: Decimal(number if number in (3, 4) else 1) for number in range(1, 21)})
        await run_sql(fed, "ledger_event_rows", "UPDATE ledger SET amount = 30 WHERE id = 3")
        if name == "event-driven":
            assert not (await fed.sync.verify("ledger")).equal
        mended = await fed.sync.verify("ledger", repair=True)
        assert (mended.equal, mended.repaired) == (True, 1)
        wanted = {number: Decimal(1) for number in range(1, 21)} | {3: Decimal(30), 4: Decimal(4)}
        assert await amounts() == wanted
        async with fed.sync.running():
            await change(fed, LedgerEventRow, 3, amount=Decimal(31))
            await remove(fed, LedgerEventRow, 4)
            wanted[3] = Decimal(31)
            del wanted[4]
            await are(wanted)
            await run_sql(fed, "ledger_event_rows", "DELETE FROM ledger WHERE id = 5")
            await fed.sync.backfill("ledger")
            del wanted[5]
            await are(wanted)
