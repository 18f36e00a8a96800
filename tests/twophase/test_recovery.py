"""What a crash has left in doubt in PostgreSQL and MariaDB is settled, as those or MongoDB have decided."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from datetime import timedelta

import pytest
from sqlalchemy import inspect, text

from fedorm import ConfigurationError, Federation, FedormError, TwoPhaseError
from fedorm.recovery import Recovery
from fedorm.stores.branches import new_id, new_log
from fedorm.testing.servers.processes import free_port
from fedorm.twophase.decisions import Outcome
from tests.twophase.left import NOTHING, SIDES, SQL, Shop, Side, done, old_id, recover, shop, urls

__all__ = ["shop", "urls"]


# -- settling


@SIDES
@pytest.mark.parametrize("decider", ["users", "payments", "inventory"])
def test_what_was_decided_is_done(shop: Shop, decider: str, side: Side) -> None:
    """Committed where that is on record; rolled back, and put on record, where nothing is."""
    holders = [name for name in SQL if name != decider]
    kept = shop.left(*holders, decider=decider, committed=True, number=1)
    lost = shop.left(*holders, decider=decider, committed=False, number=2)
    report = shop.recover(side, older_than=0)
    assert done(report) == {(holder, kept): "committed" for holder in holders} | {
        (holder, lost): "rolled back" for holder in holders
    }
    assert {one.decision for one in report.branches} == {Outcome.COMMITTED, Outcome.ROLLED_BACK}
    assert (report.is_complete, report.left, dict(report.unasked)) == (True, (), {})
    assert shop.marks() == {name: [1] if name in holders else [] for name in SQL}
    assert shop.prepared() == NOTHING
    assert [shop.decision(decider, id) for id in (kept, lost)] == [Outcome.COMMITTED, Outcome.ROLLED_BACK]
    again = shop.recover(side, older_than=0)
    assert (again.branches, again.is_complete) == ((), True)


@SIDES
def test_a_decision_that_was_handed_on(shop: Shop, side: Side) -> None:
    """MongoDB decides what MariaDB's name stands on; MariaDB holds a branch of its own."""
    (to,) = shop.located("inventory")
    expected = {}
    for number, committed in ((1, True), (2, False)):
        id = new_id()
        for holder in ("orders", "payments"):
            shop.leave(holder, number, id=id, decider="payments")
            expected[holder, id] = "committed" if committed else "rolled back"
        shop.log("payments").delegate(id, to, shop.located("orders", "payments", "inventory"))
        if committed:
            shop.decide("inventory", id, "orders", "payments", "inventory")
    assert done(shop.recover(side, older_than=0)) == expected
    assert shop.marks() == {"users": [], "orders": [1], "payments": [1]}
    assert shop.prepared() == NOTHING
    assert [shop.decision("inventory", id) for (holder, id) in expected if holder == "orders"] == [
        Outcome.COMMITTED,
        Outcome.ROLLED_BACK,
    ]


def test_a_coordinator_that_was_only_slow_cannot_commit(shop: Shop) -> None:
    """After the recovery its place is taken: the record that would be its commit point is refused."""
    id = shop.left("orders", decider="users", committed=False)
    shop.recover("sync", older_than=0)
    with pytest.raises(TwoPhaseError, match="rolled back meanwhile by a recovery"):
        shop.decide("users", id, "orders", "users")
    assert shop.decision("users", id) is Outcome.ROLLED_BACK


@SIDES
def test_young_branches_are_left(shop: Shop, side: Side) -> None:
    """They are reported, and nothing is decided about them; not even where their transaction began long ago."""
    id = old_id(seconds=1000)
    for holder in ("orders", "payments"):
        shop.leave(holder, 1, id=id, decider="users")
    report = shop.recover(side)
    assert done(report) == {("orders", id): "left", ("payments", id): "left"}
    assert not report.is_complete
    assert {one.why for one in report.left} == {"until it is 60 s old it is left to the process that has begun it"}
    assert all(one.age < 60 for one in report.left)
    assert shop.decision("users", id) is None
    assert shop.prepared() == {"users": set(), "orders": {id}, "payments": {id}}
    alone = old_id(seconds=1000)
    shop.leave("payments", 2, id=alone, decider="users")  # XA keeps no other time than that in its id.
    (settled,) = (one for one in shop.recover(side).branches if one.id == alone)
    assert (settled.done.value, 1000 <= settled.age < 2000) == ("rolled back", True)


@SIDES
def test_foreign_branches_are_left_alone(shop: Shop, side: Side) -> None:
    """Those of another application with services of the same names, and those of services that we do not have."""
    shop.log("users").token()
    ids = [new_id(), new_id(), new_id()]
    shop.leave("orders", 1, id=ids[0], decider="users", log=new_log())
    shop.leave("payments", 2, id=ids[1], decider="accounts", log=new_log())
    shop.leave("orders", 3, id=ids[2], decider="payments", log=new_log())  # Which has never had a log.
    with shop.connected("orders") as connection:
        connection.execute(text("INSERT INTO marks VALUES (4)"))
        connection.exec_driver_sql("PREPARE TRANSACTION 'somebody'")  # No name of ours.
        before = shop.prepared()
        report = shop.recover(side, older_than=0)
        assert done(report) == {
            ("orders", ids[0]): "foreign", ("payments", ids[1]): "foreign", ("orders", ids[2]): "foreign",
        }  # fmt: skip
        assert report.is_complete
        assert shop.prepared() == before == {"users": set(), "orders": {ids[0], ids[2]}, "payments": {ids[1]}}
    with shop.connected("orders").execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("COMMIT PREPARED 'somebody'")
    with shop.connected("payments") as connection:
        assert not inspect(connection).has_table("fedorm_decisions")
    assert shop.marks()["orders"] == [4]


@SIDES
def test_a_dry_run_changes_nothing(shop: Shop, side: Side) -> None:
    """It says what would be done: no branch is ended, no record written or dropped, no table made."""
    kept = shop.left("orders", "payments", decider="users", committed=True)
    lost = shop.left("orders", decider="users", committed=False, number=2)
    before = shop.prepared()
    report = shop.recover(side, older_than=0, keep=0, dry_run=True)
    assert {(one.service, one.id): one.why for one in report.branches} == {
        ("orders", kept): "it would be committed",
        ("payments", kept): "it would be committed",
        ("orders", lost): "it would be rolled back",
    }
    assert (report.dry_run, report.forgotten, len(report.left)) == (True, 0, 3)
    assert shop.prepared() == before
    assert [shop.decision("users", id) for id in (kept, lost)] == [Outcome.COMMITTED, None]
    for name in ("orders", "payments"):
        with shop.connected(name) as connection:
            made = shop.located("orders", "payments") and inspect(connection).has_table("fedorm_decisions")
            assert made  # By the test itself, to name them in the record.


def test_a_dry_run_makes_no_log(urls: dict[str, str]) -> None:
    """Nor does a recovery of services that have never had a two-phase commit."""
    for dry_run in (True, False):
        assert recover(urls, "sync", older_than=0, keep=0, dry_run=dry_run).branches == ()
    with Federation(urls) as fed:
        for name in SQL:
            with fed.stores[name].sync_engine.connect() as connection:  # type: ignore[attr-defined]
                assert not inspect(connection).has_table("fedorm_decisions")

    async def collections() -> list[str]:
        async with Federation(urls) as fed:
            names: list[str] = await fed.stores["inventory"].side(sync=False).database.list_collection_names()  # type: ignore[attr-defined]
            return names

    assert asyncio.run(collections()) == []


def test_a_branch_that_a_living_connection_holds(shop: Shop) -> None:
    """MariaDB does not give it away: it is left, with the reason, until the connection is gone."""
    id = new_id()
    connection, _ = shop.prepare("payments", 1, id=id, decider="users")
    with connection:
        shop.decide("users", id, "payments", "users")
        (one,) = shop.recover("sync", older_than=0).branches
        assert (one.done.value, one.decision) == ("left", Outcome.COMMITTED)
        assert "service 'payments'" in one.why
        assert shop.marks()["payments"] == []
        connection.invalidate()
    assert done(shop.recover("sync", older_than=0)) == {("payments", id): "committed"}
    assert shop.marks()["payments"] == [1]


# -- services that are down


@pytest.mark.parametrize("away", ["users", "orders", "payments", "inventory"])
def test_a_service_that_is_down(shop: Shop, urls: dict[str, str], away: str) -> None:
    """It is named, what it decides is left, and everything else is settled."""
    by = {name: shop.left(*set(SQL) - {name}, decider=name, committed=True, number=n) for n, name in enumerate(urls)}
    scheme = urls[away].partition(":")[0]
    down = {"url": f"{scheme}://bob:hidden@127.0.0.1:{free_port()}/x", "connect_timeout": 0.5}

    async def run() -> Recovery:
        return await Federation({**urls, away: down}).recover_where_possible(older_than=0)

    report = asyncio.run(run())
    assert set(report.unasked) == ({away} if away in SQL else set())
    assert "hidden" not in str(report)
    assert done(report) == {
        (holder, by[decider]): "left" if decider == away else "committed"
        for decider in by
        for holder in SQL
        if holder not in (decider, away)
    }
    assert not report.is_complete
    assert all(f"service '{away}'" in one.why for one in report.left)
    rest = shop.recover("sync", older_than=0)
    assert rest.is_complete
    assert set(done(rest).values()) == {"committed"}
    assert shop.prepared() == NOTHING


# -- several at once

PROGRAM = """
import asyncio, json, sys
from fedorm import Federation

async def main(urls):
    async with Federation(urls) as fed:
        print("ready", flush=True)
        sys.stdin.readline()
        report = await fed.recover(older_than=0)
        print(json.dumps([report.is_complete, [(one.service, one.id, one.done.value) for one in report.branches]]))

asyncio.run(main(json.loads(sys.argv[1])))
"""


def test_two_recoveries_at_once(shop: Shop) -> None:
    """In two processes: each branch is ended once, both find everything settled, and both say the same of it."""
    expected: dict[tuple[str, str], str] = {}
    for number in range(24):
        decider = ("users", "orders", "payments", "inventory")[number % 4]
        holders = [name for name in SQL if name != decider]
        committed = number % 3 > 0
        id = shop.left(*holders, decider=decider, committed=committed, number=number)
        expected |= {(holder, id): "committed" if committed else "rolled back" for holder in holders}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(shop.urls)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    reports = []
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in processes:
        out, _ = one.communicate(timeout=60)
        assert one.returncode == 0
        reports.append(json.loads(out))
    assert [complete for complete, _ in reports] == [True, True]
    ended = [(service, id, what) for _, branches in reports for service, id, what in branches if what != "gone"]
    assert {(service, id): what for service, id, what in ended} == expected
    assert len(ended) == len(expected)
    assert shop.prepared() == NOTHING


async def test_bad_input(shop: Shop, urls: dict[str, str]) -> None:
    """It is refused before anybody is asked."""
    id = shop.left("orders", decider="users", committed=True)
    fed = Federation(urls)
    for closed in (fed.recover, fed.in_doubt):
        with pytest.raises(FedormError, match="not open"):
            await closed()
    for closed in (fed.sync_recover, fed.sync_in_doubt):
        with pytest.raises(FedormError, match="not open for threads"):
            closed()
    async with fed:
        for wrong in (-1, math.nan, -math.inf):
            with pytest.raises(ConfigurationError, match="older_than is a number of seconds"):
                await fed.recover(older_than=wrong)
            with pytest.raises(ConfigurationError, match="keep is a number of seconds"):
                await fed.recover(keep=wrong)
        assert len((await fed.recover(older_than=math.inf)).left) == 1
        assert (await fed.recover(older_than=timedelta(0).total_seconds())).is_complete
    with pytest.raises(ConfigurationError, match=r"transactions\.recover_on_start"):
        Federation(urls, recover_on_start="perhaps")  # type: ignore[arg-type]
    assert shop.decision("users", id) is Outcome.COMMITTED
