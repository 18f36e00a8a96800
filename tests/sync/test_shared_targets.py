"""Several rules that fill one target: none of them removes what another has written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import String, select, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, FederatedSearchDocument, Federation
from fedorm.sync import CDC, EventDriven, Replacing, SyncRule, SyncRuleError
from fedorm.sync.strategies import Batch, RealTime, Strategy
from tests.sync.watching import rows_of
from tests.sync.watching import until as patiently


class NorthernStall(FederatedBase):
    __service__, __tablename__ = "stalls_north", "stalls"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class SouthernStall(FederatedBase):
    __service__, __tablename__ = "stalls_south", "stalls"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))


class AnyStall(FederatedBase):
    __service__, __tablename__ = "stalls_all", "stalls"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    region: Mapped[str | None] = mapped_column(String(10))


class StallDocument(FederatedDocument):
    __service__ = "stall_documents"
    id: int  # type: ignore[assignment] # Beanie's own way to give ids of another type
    name: str
    region: str | None = None

    class Settings:
        name = "stalls"


class StallText(FederatedSearchDocument):
    __service__ = "stall_texts"
    id: int
    name: str
    region: str | None = None

    class Index:
        name = "stalls"


class StallRecord(Replacing, FederatedBase):
    __service__, __tablename__ = "stall_records", "stalls"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(40))
    region: Mapped[str | None] = mapped_column(String(10))


@pytest.fixture
async def markets(fresh_database: Callable[[str], str]) -> AsyncIterator[Federation]:
    services = {name: fresh_database("postgresql") for name in ("stalls_north", "stalls_south", "stalls_all")}
    async with Federation(services) as fed:
        await fed.create_all()
        yield fed


async def stalls(fed: Federation) -> dict[int, str]:
    async with fed.session() as session:
        return {one.id: one.name for one in await session.scalars(select(AnyStall))}


async def until(fed: Federation, wanted: dict[int, str]) -> None:
    async with asyncio.timeout(60):
        while await stalls(fed) != wanted:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "strategy",
    [CDC(), EventDriven(), Batch(every=0.1, detect_deletes=False), RealTime(poll=0.1, detect_deletes=None)],
    ids=lambda strategy: strategy.name,
)
async def test_no_rule_removes_the_rows_of_another(markets: Federation, strategy: Strategy) -> None:
    """Neither in its first snapshot, which finds them there, nor in a backfill or a repair."""
    markets.sync.add(SyncRule(source=NorthernStall, to=AnyStall, strategy=strategy, name="north"))
    async with markets.session() as session:
        session.add_all(
            [NorthernStall(id=1, name="tea"), NorthernStall(id=2, name="rice"), SouthernStall(id=11, name="figs")]
        )
        await session.commit()
    await markets.sync.backfill("north")
    assert await stalls(markets) == {1: "tea", 2: "rice"}
    markets.sync.add(SyncRule(source=SouthernStall, to=AnyStall, strategy=strategy, name="south"))
    async with markets.sync.running():
        await until(markets, {1: "tea", 2: "rice", 11: "figs"})
        async with markets.session() as session:
            session.add(SouthernStall(id=12, name="oil"))
            (await session.get_one(NorthernStall, 1)).name = "mate"
            if strategy.name in ("cdc", "event-driven"):
                await session.delete(await session.get_one(NorthernStall, 2))
            await session.commit()
        there = {1: "mate", 11: "figs", 12: "oil"} | ({2: "rice"} if strategy.name in ("batch", "real-time") else {})
        await until(markets, there)
    for name in ("north", "south"):
        filled = await markets.sync.backfill(name)
        assert (filled.written, filled.deleted, await stalls(markets)) == (0, 0, there)
        found = await markets.sync.verify(name, repair=True)
        assert (found.equal, found.repaired, await stalls(markets)) == (True, 0, there)


async def empty(fed: Federation, service: str) -> None:
    async with fed.session() as session:
        await session.execute(text("TRUNCATE TABLE stalls"), bind_arguments={"service": service})
        await session.commit()


async def test_rules_that_say_which_rows_are_theirs_remove_them(markets: Federation) -> None:
    """Those whose source is gone without a word, in a table that was emptied or by comparing keys; no others."""
    north = SyncRule(source=NorthernStall, to=AnyStall, strategy=CDC(), owns={"region": "north"}, name="north")
    south = SyncRule(
        source=SouthernStall, to=AnyStall, strategy=Batch(every=0.1), owns={"region": "south"}, name="south"
    )
    async with markets.session() as session:
        session.add_all([NorthernStall(id=1, name="tea"), NorthernStall(id=2, name="rice")])
        session.add_all([SouthernStall(id=11, name="figs"), SouthernStall(id=12, name="oil")])
        session.add_all([AnyStall(id=21, name="salt"), AnyStall(id=3, name="soap", region="north")])
        await session.commit()
    for rule in (north, south):
        markets.sync.add(rule)
    async with markets.sync.running():
        await until(markets, {1: "tea", 2: "rice", 11: "figs", 12: "oil", 21: "salt"})
        await empty(markets, "stalls_north")
        await until(markets, {11: "figs", 12: "oil", 21: "salt"})
        async with markets.session() as session:
            await session.delete(await session.get_one(SouthernStall, 12))
            await session.commit()
        await until(markets, {11: "figs", 21: "salt"})
    async with markets.session() as session:
        session.add_all([AnyStall(id=4, name="soap", region="north"), NorthernStall(id=5, name="mint")])
        await session.commit()
    found = await markets.sync.verify("north", repair=True)
    assert (found.missing, found.superfluous, found.repaired) == (1, 1, 2)
    assert (await markets.sync.verify("south")).equal
    async with markets.session() as session:
        left = await session.scalars(select(AnyStall).order_by(AnyStall.id))
        assert [(one.id, one.region) for one in left] == [(5, "north"), (11, "south"), (21, None)]


@pytest.mark.parametrize(
    "kind", ["postgresql", "mongodb", "elasticsearch", pytest.param("clickhouse", marks=pytest.mark.clickhouse)]
)
@pytest.mark.parametrize("on_delete", ["delete", "mark"])
async def test_a_row_that_has_become_another_rule_s(kind: str, on_delete: Any, fresh_database: Any) -> None:
    """It stays when the rule that had it hears, later, that its own is gone."""
    target: Any = {"mongodb": StallDocument, "elasticsearch": StallText, "clickhouse": StallRecord}.get(kind, AnyStall)
    names = {"stalls_north": "postgresql", "stalls_south": "postgresql", target.__service__: kind}
    async with Federation({name: fresh_database(one) for name, one in names.items()}) as fed:
        for source, name in ((NorthernStall, "north"), (SouthernStall, "south")):
            mark = {"name": "closed"} if on_delete == "mark" else {}
            options: Any = {"owns": {"region": name}, "on_delete": on_delete, "mark": mark, "fields": {"name": "name"}}
            fed.sync.add(SyncRule(source=source, to=target, strategy=CDC(), name=name, **options))
        await fed.create_all()

        async def become(*wanted: tuple[Any, ...]) -> None:
            async def are() -> bool:
                rows = await rows_of(fed, target)
                return sorted((one["id"], one["name"], one["region"]) for one in rows.values()) == list(wanted)

            await patiently(are)

        async with fed.session() as session:
            session.add_all([NorthernStall(id=1, name="tea"), NorthernStall(id=2, name="rice")])
            await session.commit()
        for name in ("tea", "oats"):  # Twice, so that its own versions are greater than the other rule's first ones.
            async with fed.session() as session:
                (await session.get_one(NorthernStall, 1)).name = name
                await session.commit()
            async with fed.sync.running(["north"]):
                await become((1, name, "north"), (2, "rice", "north"))
        async with fed.session() as session:
            session.add(SouthernStall(id=1, name="figs"))
            for one in (1, 2):
                await session.delete(await session.get_one(NorthernStall, one))
            await session.commit()
        async with fed.sync.running(["south"]):
            await become((1, "figs", "south"), (2, "rice", "north"))
        async with fed.sync.running(["north"]):
            await become((1, "figs", "south"), *([(2, "closed", "north")] if on_delete == "mark" else []))


async def test_copies_that_nobody_may_remove_are_told_of(markets: Federation) -> None:
    """Where nothing says whose they are, those of a table that was emptied stay, and what comes later is followed."""
    for source, name in ((NorthernStall, "north"), (SouthernStall, "south")):
        markets.sync.add(SyncRule(source=source, to=AnyStall, strategy=CDC(), name=name))
    async with markets.session() as session:
        session.add_all([NorthernStall(id=1, name="tea"), SouthernStall(id=11, name="figs")])
        await session.commit()
    async with markets.sync.running():
        await until(markets, {1: "tea", 11: "figs"})
        await empty(markets, "stalls_north")
        async with markets.session() as session:
            session.add(NorthernStall(id=2, name="rice"))
            await session.commit()
        await until(markets, {1: "tea", 2: "rice", 11: "figs"})
        errors = {one.name: one.last_error for one in markets.sync.status() if one.name in ("north", "south")}
    assert errors == {
        "north": "copies of rows that are gone may be left in AnyStall, as other rules fill it, too: remove them, and "
        "say which rows are this rule's with  owns={...}",
        "south": None,
    }


async def test_rules_that_would_are_refused(markets: Federation) -> None:
    """With what to do; the rule before stays as it was."""
    markets.sync.add(SyncRule(source=NorthernStall, to=AnyStall, strategy=CDC(), name="north"))
    with pytest.raises(SyncRuleError, match=r"'south' would remove there .* detect_deletes=False, or .* owns="):
        markets.sync.add(SyncRule(source=SouthernStall, to=AnyStall, strategy=Batch(), name="south"))
    assert list(markets.sync.rules) == ["north"]
