"""How rules do: what a process knows of those that it carries out, what the services say, what Prometheus gets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from fedorm import Federation, telemetry
from fedorm.sync.accounts import wish
from fedorm.sync.status import RuleStatus
from fedorm.sync.strategies import CDC
from tests.cli.mirrors import ArchivedLetter, SentLetter
from tests.sync.parts import Deal, add, federation, rule, run_sql

client = pytest.importorskip("prometheus_client")

LABELS = {
    "rule": "letters",
    "source": "sync_cli_office.SentLetter",
    "target": "sync_cli_archive.ArchivedLetter",
    "strategy": "batch",
    "shop": "north",
}


@pytest.fixture
def services(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {name: fresh_database("postgresql") for name in ("sync_cli_office", "sync_cli_archive")}


@pytest.fixture
async def office(services: dict[str, str]) -> AsyncIterator[Federation]:
    """An office with two letters, and one that its archive does not take."""
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all(
                [SentLetter(id=1, text="hello"), SentLetter(id=2, text="bye"), SentLetter(id=3, text="never")]
            )
            await session.commit()
        yield fed


def here(fed: Federation) -> RuleStatus:
    """What this process knows of the rule."""
    (found,) = [one for one in fed.sync.status() if one.name == "letters"]
    return found


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await asyncio.sleep(0.01)


def metrics(registry: Any) -> dict[str, dict[str, float]]:
    """By name, the values by rule."""
    found: dict[str, dict[str, float]] = {}
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "fedorm_sync_state":
                assert sample.labels.pop("state") in ("waiting", "running", "stopped", "new")
            if sample.name.startswith("fedorm_sync_") and not sample.name.endswith("_created"):
                assert sample.labels.keys() == LABELS.keys()
                if sample.labels["rule"] == "letters":
                    assert sample.labels == LABELS
                found.setdefault(sample.name, {})[sample.labels["rule"]] = sample.value
    return found


async def test_metrics(office: Federation) -> None:
    """They are those of the rules that this process carries out or has asked about, and nobody is asked for them."""
    registry = client.CollectorRegistry()
    telemetry.register(office, registry, labels={"shop": "north"})
    assert metrics(registry) == {}
    async with office.sync.running(["letters"]):
        # Also what was told to the account by now, once a second, is in them.
        await until(lambda: here(office).dead_letters == 1)
        found = metrics(registry)
    status = here(office)
    assert found.pop("fedorm_sync_state") == {"letters": 1}
    assert found.keys() == {
        "fedorm_sync_synced_total", "fedorm_sync_deleted_total", "fedorm_sync_errors_total",
        "fedorm_sync_dead_letters", "fedorm_sync_lag_seconds", "fedorm_sync_lag_rows",
        "fedorm_sync_last_sync_timestamp_seconds",
    }  # fmt: skip
    assert all(values.keys() == {"letters"} for values in found.values())
    counted = {name: values["letters"] for name, values in found.items() if not re.search("_lag_|second", name)}
    assert counted == {
        "fedorm_sync_synced_total": 2, "fedorm_sync_deleted_total": 0, "fedorm_sync_errors_total": 1,
        "fedorm_sync_dead_letters": 1,
    }  # fmt: skip
    assert found["fedorm_sync_last_sync_timestamp_seconds"]["letters"] <= (status.last_sync_at or 0)
    await office.sync.status()
    assert set(metrics(registry)["fedorm_sync_synced_total"]) == {"letters", "stamps", "visits"}


async def test_figures_never_go_back(office: Federation, services: dict[str, str]) -> None:
    """Whatever of them is in the account already, in this process's hands, or another process's work."""
    seen: list[tuple[int, int, int]] = []

    def synced() -> int:
        one = here(office)
        seen.append((one.synced, one.errors, one.dead_letters))
        return one.synced

    async with office.sync.running(["letters"]):
        await until(lambda: synced() >= 2 and seen[-1][2] == 1)
        for number in range(3):
            async with office.session() as session:
                await session.execute(update(SentLetter).where(SentLetter.id == 1).values(text=f"again {number}"))
                await session.commit()
            await until(lambda: synced() >= 3 + number)  # noqa: B023
    synced()
    assert here(office).state == "stopped"
    async with Federation(services) as other, other.session() as session:
        await session.execute(update(SentLetter).where(SentLetter.id == 2).values(text="moved"))
        await session.commit()
        await other.sync.backfill("letters")
        said = next(one for one in await other.sync.status() if one.name == "letters")
        assert (said.synced >= seen[-1][0] + 1, said.state, said.owner) == (True, "stopped", None)
    async with office.sync.running(["letters"]):
        await until(lambda: synced() >= said.synced)
    assert seen == sorted(seen)
    async with office.session() as session:
        rows = await session.execute(select(ArchivedLetter.letter_id, ArchivedLetter.text).order_by("letter_id"))
        assert [tuple(row) for row in rows] == [(1, "again 2"), (2, "moved")]


async def test_a_rule_whose_owner_has_died_is_stopped(office: Federation) -> None:
    """As soon as its lease is over; until then it is said to do what it did."""
    office.sync.lease = 1.0
    accounts = office.sync.accounts(office.sync.rule("letters"))
    epoch = await accounts.take("letters")
    assert epoch is not None
    progress = office.sync.carrying(office.sync.rule("letters"), epoch=epoch).progress
    progress.state = "running"
    await accounts.renew("letters", epoch, progress)

    async def state() -> str:
        return next(one.state for one in await office.sync.status() if one.name == "letters")

    assert await state() == "running"
    async with asyncio.timeout(30):
        while await state() == "running":
            await asyncio.sleep(0.05)
    assert await state() == "stopped"


async def test_a_run_ends_within_its_grace(office: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes longer is undone, and the rule is nobody's then."""
    monkeypatch.chdir(tmp_path)
    async with office.session() as session:
        await session.execute(update(SentLetter).where(SentLetter.id == 1).values(text="wait"))
        await session.commit()
    run = asyncio.create_task(office.sync.run(["letters"], grace=0.1))
    await until(lambda: here(office).state == "running")
    office.sync.stop()
    async with asyncio.timeout(30):
        await run
    assert next(one.owner for one in await office.sync.status() if one.name == "letters") is None
    async with office.session() as session:
        assert (await session.scalars(select(ArchivedLetter))).all() == []


async def test_a_rule_is_one_callers_alone(office: Federation, services: dict[str, str]) -> None:
    """Who carries it out lets go of it and goes on afterwards; others wait; a rule that was paused stays so."""
    async with office.sync.running(["letters"]), Federation(services) as other:
        await until(lambda: here(office).dead_letters == 1)
        both = await asyncio.gather(office.sync.backfill("letters"), other.sync.backfill("letters"))
        assert [(one.rows, one.failed) for one in both] == [(3, 1), (3, 1)]
        async with other.sync.exclusively("letters"):
            assert await office.sync.accounts(office.sync.rule("letters")).take("letters") is None
            async with office.session() as session:
                await session.execute(update(SentLetter).where(SentLetter.id == 1).values(text="later"))
                await session.commit()
        async with office.session() as session, asyncio.timeout(60):
            while not await session.scalar(select(ArchivedLetter.text).where(ArchivedLetter.text == "later")):
                await session.rollback()
    await office.sync.pause("letters")
    await office.sync.backfill("letters")
    said = next(one for one in await office.sync.status() if one.name == "letters")
    assert (said.state, said.paused) == ("paused", True)


async def test_a_backfill_that_was_killed_holds_a_rule_for_a_lease(office: Federation) -> None:
    """Nobody has to let the rule go on by hand."""
    office.sync.lease = 1.0
    accounts = office.sync.accounts(office.sync.rule("letters"))
    assert await accounts.take(wish("letters"), even_paused=True) is not None
    assert await accounts.take("letters", even_paused=True) is not None
    assert await accounts.take("letters") is None
    async with office.sync.running(["letters"]):
        await until(lambda: here(office).dead_letters == 1)
    said = next(one for one in await office.sync.status() if one.name == "letters")
    assert (said.paused, said.synced) == (False, 2)


async def test_how_far_behind_a_rule_is(fresh_database: Callable[[str], str]) -> None:
    """In rows that are left to be written, and in seconds, which become more as long as nothing can be."""
    gate = asyncio.Event()

    async def held(row: Any) -> Any:
        await gate.wait()
        return row

    urls = {name: fresh_database("postgresql") for name in ("parts_near", "parts_far")}
    async with federation(urls, rule(CDC(page=10), transform=held)) as fed:
        await add(fed, *[Deal(id=number) for number in range(25)])

        def now() -> RuleStatus:
            return next(one for one in fed.sync.status() if one.name == "facts")

        async with fed.sync.running():
            await until(lambda: (now().state, now().lag_rows) == ("snapshot", 25))
            gate.set()
            await until(lambda: (now().state, now().lag_rows) == ("streaming", 0))
            gate.clear()
            await add(fed, *[Deal(id=number) for number in range(30, 35)])
            await until(lambda: now().lag_rows == 5)
            async with asyncio.timeout(60):
                while [one.lag_rows for one in await fed.sync.status() if one.name == "facts"] != [5]:
                    await asyncio.sleep(0.05)
            gate.set()
            await until(lambda: now().lag_rows == 0)
            await run_sql(fed, "parts_far", "DROP TABLE purchase_facts")
            await add(fed, Deal(id=40))
            await until(lambda: now().state in ("retrying", "failed"))
            before = now().lag_seconds or 0.0
            await until(lambda: (now().lag_seconds or 0.0) > before)
