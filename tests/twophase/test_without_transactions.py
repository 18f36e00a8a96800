"""ClickHouse as the last in a two-phase commit: it cannot undo, and keeps no log of what it has got."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from multiprocessing import get_context

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from fedorm import Federation, TwoPhaseError, points
from fedorm.stores.sql import SQLStore
from tests.twophase.ledger import LedgerCopy, LedgerEntry, LedgerFact, Note, entries, write

pytestmark = pytest.mark.clickhouse
PROCESSES = get_context("forkserver")
KINDS = {"ledger_main": "postgresql", "ledger_copy": "mysql", "ledger_facts": "clickhouse"}


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {name: fresh_database(kind) for name, kind in KINDS.items()}


@pytest.fixture
async def ledger(urls: dict[str, str], no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation(urls) as fed:
        await fed.create_all()
        yield fed


async def held(fed: Federation) -> list[list[int]]:
    """What each service holds."""
    async with fed.session() as session:
        models = (LedgerEntry, LedgerCopy, LedgerFact)
        return [list((await session.scalars(select(model.id).order_by(model.id))).all()) for model in models]


async def in_doubt(fed: Federation) -> int:
    """How many branches are prepared."""
    return (await fed.in_doubt()).branches


async def test_all_commit(ledger: Federation) -> None:
    """PostgreSQL and MariaDB prepare, ClickHouse gets its rows, and then they commit."""
    async with ledger.session(twophase=True) as session:
        session.add_all(entries(10))
        await session.commit()
        session.add_all(entries(20))
        await session.commit()
    assert await held(ledger) == [[10, 20], [10, 20], [10, 11, 12, 20, 21, 22]]
    assert await in_doubt(ledger) == 0


async def test_clickhouse_alone_commits_as_ever(ledger: Federation) -> None:
    """Where nothing else was written there is nothing to agree upon."""
    async with ledger.session(twophase=True) as session:
        session.add_all([LedgerFact(id=1, text="a"), LedgerFact(id=2, text="b")])
        await session.commit()
    assert await held(ledger) == [[], [], [1, 2]]


async def test_what_another_refuses_is_not_sent(ledger: Federation) -> None:
    """A service that refuses its rows does so before ClickHouse, which could not give them back, gets any."""
    async with ledger.session(twophase=True) as session:
        session.add(LedgerCopy(id=10, text="there before"))
        await session.commit()
        session.expunge_all()
        session.add_all(entries(10))
        with pytest.raises(IntegrityError):
            await session.commit()
    assert await held(ledger) == [[], [10], []]


async def test_what_clickhouse_refuses_is_nowhere(ledger: Federation) -> None:
    """The others were prepared, and roll back; the session is usable again."""
    store = ledger.stores["ledger_facts"]
    assert isinstance(store, SQLStore)
    async with ledger.session(twophase=True) as session:
        session.add_all(entries(10))
        session.add(LedgerFact(id=99, text=None))
        with pytest.raises(Exception, match="ledger_facts"):
            await session.commit()
        await session.rollback()
        assert await held(ledger) == [[], [], []]
        assert await in_doubt(ledger) == 0
        session.add_all(entries(20))
        await session.commit()
    assert await held(ledger) == [[20], [20], [20, 21, 22]]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([LedgerFact(text="no key")], "primary key"),
        ([LedgerFact(id=7, text="there before")], "has a row with the key"),
    ],
)
async def test_rows_that_could_not_be_found_again_are_refused(
    ledger: Federation, rows: list[LedgerFact], why: str
) -> None:
    """A recovery looks for a row by its key: there has to be one, and a new one."""
    async with ledger.session() as session:
        session.add(LedgerFact(id=7, text="first"))
        await session.commit()
    async with ledger.session(twophase=True) as session:
        session.add_all([LedgerEntry(id=1, text="entry"), *(LedgerFact(id=row.id, text=row.text) for row in rows)])
        with pytest.raises(TwoPhaseError, match=why):
            await session.commit()
    assert await held(ledger) == [[], [], [7]]


AT = ("before prepare ledger_main", "after delegate ledger_copy", "before decide ledger_facts", "after send")
THEN = ("after decide ledger_facts", "before confirm ledger_copy", "after confirm ledger_main")


@pytest.mark.parametrize("threads", [False, True])
async def test_a_process_that_dies_on_the_way(ledger: Federation, urls: dict[str, str], threads: bool) -> None:
    """Before the rows have come nothing holds anywhere; from then on, everything."""
    for number, point in enumerate([*AT, *THEN][threads::2]):
        child = PROCESSES.Process(target=write, args=(Note(urls, number * 10, point, threads),))
        child.start()
        child.join()
        assert child.exitcode == -9, point
        before = await ledger.recover(older_than=0, dry_run=True)
        again = await ledger.recover(older_than=0)
        assert len(before.branches) >= len(again.branches)
        assert await in_doubt(ledger) == 0
        sent = point == "after send" or point in THEN
        main, copies, facts = await held(ledger)
        assert (number * 10 in main, number * 10 in copies, number * 10 in facts) == (sent, sent, sent), point


async def test_a_recovery_waits_for_a_coordinator_that_is_sending(
    ledger: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While rows are on their way nobody concludes that they have not come."""
    async with ledger.session(twophase=True) as session, Federation(urls_of(ledger)) as other:
        session.add_all(entries(10))
        done: list[list[str]] = []

        def reached(point: str) -> None:
            if point == "after send":
                report = session.sync_session.bridge.run(other.recover(older_than=0))
                done.append([branch.done.value for branch in report.branches])

        monkeypatch.setattr(points, "reached", reached)
        await session.commit()
    assert done == [["left", "left"]]
    assert await held(ledger) == [[10], [10], [10, 11, 12]]


def urls_of(fed: Federation) -> dict[str, str]:
    return {name: store.settings.url.get_secret_value() for name, store in fed.stores.items()}
