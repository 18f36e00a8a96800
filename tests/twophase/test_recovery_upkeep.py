"""Recovery as a federation lives: at its start, in its figures and its cache; old decisions go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, table, text

from fedorm import Federation
from fedorm.stats import ServiceInDoubt
from fedorm.stores.branches import new_id, new_log
from fedorm.twophase.decisions import Outcome
from tests.twophase.left import NOTHING, SIDES, Shop, Side, old_id, recover, shop, urls

__all__ = ["shop", "urls"]


# -- old decisions


@SIDES
def test_decisions_that_no_branch_needs_are_dropped(shop: Shop, side: Side) -> None:
    """Once they are old, and every service that they name holds no branch; "rolled back" stays for ever."""
    for decider in ("users", "payments", "inventory"):
        over, refused = new_id(), new_id()
        shop.decide(decider, over, "orders", decider)
        shop.log(decider).settle(refused)
        other = new_id()
        shop.leave("orders", 1, id=other, decider=decider, log=new_log())
        shop.decide(decider, other, "orders", decider)  # A branch is there, though not one of ours.
        report = shop.recover(side, older_than=0)
        assert report.forgotten == 0
        report = shop.recover(side, older_than=0, keep=0)
        assert report.forgotten == 1
        assert [shop.decision(decider, id) for id in (over, other, refused)] == [
            None, Outcome.COMMITTED, Outcome.ROLLED_BACK,
        ]  # fmt: skip
        shop.close()
        shop.fed.__enter__()
        assert shop.recover(side, older_than=0, keep=0).forgotten == 1


def test_decisions_about_services_that_are_not_asked_are_kept(shop: Shop, urls: dict[str, str]) -> None:
    """Those that this federation does not have, those that are down, and others of the same name."""
    id = new_id()
    shop.decide("users", id, "orders", "users")
    assert recover({"users": urls["users"]}, "sync", older_than=0, keep=0).forgotten == 0
    other = urls | {"orders": urls["users"]}
    assert recover(other, "sync", older_than=0, keep=0).forgotten == 0
    assert shop.decision("users", id) is Outcome.COMMITTED
    assert recover(urls, "sync", older_than=0, keep=0).forgotten == 1
    assert shop.decision("users", id) is None


# -- at the start


@SIDES
def test_recovery_at_the_start(shop: Shop, urls: dict[str, str], side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is old enough is settled before the federation is open, the rest once it is."""
    monkeypatch.setattr("fedorm.recovery.GRACE", 1.0)
    old, young = old_id(seconds=1000), new_id()
    shop.leave("payments", 1, id=old, decider="users")
    shop.decide("users", old, "payments", "users")
    shop.leave("orders", 2, id=young, decider="users")
    found: list[list[int]] = []

    def settled() -> bool:
        found.append(shop.marks()["payments"])
        return shop.prepared() == NOTHING

    if side == "sync":
        with Federation(urls, recover_on_start=True) as fed:
            while not settled():
                pass
            assert fed.stats().in_doubt is not None
    else:

        async def run() -> None:
            async with Federation(urls, recover_on_start=True) as fed:
                while not await asyncio.to_thread(settled):
                    pass
                assert fed.stats().in_doubt is not None

        asyncio.run(run())
    assert found[0] == [1]
    assert shop.decision("users", young) is Outcome.ROLLED_BACK


def test_a_federation_that_is_closed_recovers_no_more(shop: Shop, urls: dict[str, str]) -> None:
    """Neither its task nor its thread outlives it; settings from a file are as good as arguments."""
    id = shop.left("orders", decider="users", committed=True)
    with Federation(urls, recover_on_start=True):
        pass

    async def run() -> None:
        before = asyncio.all_tasks()
        async with Federation(urls, recover_on_start=True):
            assert [task.get_name() for task in asyncio.all_tasks() - before if "recovery" in task.get_name()]
        assert [task for task in asyncio.all_tasks() - before if "recovery" in task.get_name()] == []

    asyncio.run(run())
    assert shop.prepared()["orders"] == {id}


# -- figures


async def test_what_is_in_doubt_is_in_the_statistics(shop: Shop, urls: dict[str, str]) -> None:
    """As of the last look, which says when it was; a commit of others is not counted."""
    prometheus = pytest.importorskip("prometheus_client")
    from fedorm import telemetry

    id = old_id(seconds=500)
    shop.leave("payments", 1, id=id, decider="users")
    shop.leave("payments", 2, id=new_id(), decider="users")
    shop.leave("orders", 3, id=new_id(), decider="users", log=new_log())
    registry = prometheus.CollectorRegistry()
    async with Federation(urls) as fed:
        telemetry.register(fed, registry)
        assert fed.stats().in_doubt is None
        assert registry.get_sample_value("fedorm_in_doubt_timestamp_seconds") is None
        before = datetime.now(UTC)
        found = await fed.in_doubt()
        assert fed.stats().in_doubt == found
        assert before <= found.at <= datetime.now(UTC)
        payments = found.services["payments"]
        assert payments is not None
        assert (found.branches, payments.branches) == (2, 2)
        assert 500 <= payments.oldest == found.oldest < 1500
        rest = {name: one for name, one in found.services.items() if name != "payments"}
        assert rest == {"users": ServiceInDoubt(0, 0.0), "orders": ServiceInDoubt(0, 0.0)}
        assert registry.get_sample_value("fedorm_in_doubt_branches", {"service": "payments"}) == 2
        assert registry.get_sample_value("fedorm_in_doubt_branches", {"service": "orders"}) == 0
        assert registry.get_sample_value("fedorm_in_doubt_oldest_seconds", {"service": "payments"}) == payments.oldest
        assert registry.get_sample_value("fedorm_in_doubt_timestamp_seconds") == found.at.timestamp()
        assert shop.decision("users", id) is None
        await fed.recover(older_than=0)
        stats = fed.stats().in_doubt
        assert stats is not None
        assert (stats.branches, stats.oldest, stats.at > found.at) == (0, 0.0, True)
    with Federation(urls) as fed:
        assert fed.sync_in_doubt().branches == 0


# -- what else is to be seen


async def test_cached_results_do_not_outlive_it(shop: Shop, urls: dict[str, str]) -> None:
    """A branch that is committed by the recovery has changed rows that were read before."""
    shop.left("orders", decider="users", committed=True, number=7)
    async with Federation(urls, cache_ttl=600) as fed:

        async def marks() -> list[int]:
            async with fed.session() as session:
                read = select(text("n")).select_from(table("marks"))
                return list((await session.scalars(read, bind_arguments={"service": "orders"})).all())

        assert (await marks(), await marks(), fed.cache.hits) == ([], [], 1)
        await fed.recover(older_than=0)
        assert await marks() == [7]
