"""Whoever dies or fails between a rule's two halves, each target comes to what its source has."""

from __future__ import annotations

import asyncio
import functools
import json
import random
import signal
import sys
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import insert, update

from fedorm import ConfigurationError, Federation
from fedorm.sync import CDC, SyncRule
from fedorm.sync.brokers.channels import Channel, channels_of
from fedorm.sync.errors import SyncRuleError
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import PostgreSQLServer
from tests.sync.broker_child import LEASE, rules_of
from tests.sync.histories import History
from tests.sync.ledgers import FIELDS, HAS_CLICKHOUSE, source_model, target_model
from tests.sync.watching import PATIENCE, as_kept_by, rows_of, until, until_equal
from tests.sync.waves import Wave, WaveCopy, another, during, equal, holds, some, through, urls_of, waves, write

__all__ = ["through"]


# -- processes that are killed


class Processes:
    """Publishers and appliers of a test."""

    def __init__(self, broker: str, order: dict[str, Any]) -> None:
        self._broker, self._order = broker, json.dumps(order)
        self._running: dict[str, list[asyncio.subprocess.Process]] = {"publish": [], "apply": []}

    async def start(self, role: str) -> None:
        words = [sys.executable, "-m", "tests.sync.broker_child", role, self._broker, self._order]
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        self._running[role].append(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"started\n"

    async def kill(self, role: str) -> None:
        process = self._running[role].pop(0)
        process.send_signal(signal.SIGKILL)
        await process.wait()

    async def stop(self, role: str) -> None:
        process = self._running[role].pop(0)
        process.send_signal(signal.SIGTERM)
        await process.wait()

    async def end(self) -> None:
        for role, processes in self._running.items():
            while processes:
                await self.kill(role)


async def _killed_amid(
    broker: str,
    through: str,
    urls: dict[str, str],
    source: str,
    targets: list[str],
    transactions: int,
    *,
    gently: bool = False,
) -> None:
    near = source_model(source, events=False)
    order = {"urls": urls, "source": source, "targets": targets, "through": through}
    processes = Processes(broker, order)
    async with Federation(urls) as fed:
        for rule in rules_of(source, *targets, through=through):
            fed.sync.add(rule)
        await fed.create_all()
        history = History(fed, near, source, random.Random(through), big=1_000)
        await history.fill(1_000)
        try:
            appliers = ["apply"] if gently else ["apply", "apply"]
            await asyncio.gather(*(processes.start(role) for role in ["publish", *appliers]))
            writing = asyncio.create_task(history.write(writers=3, transactions=transactions))
            for role in ("apply", "publish", "apply"):
                await asyncio.sleep(1.0)
                await (processes.stop(role) if gently and role == "apply" else processes.kill(role))
                await processes.start(role)
            await writing
            for kind in targets:
                fields = [name for name in FIELDS if kind != "clickhouse" or name != "extra"]
                read = functools.partial(_read, fed, (source, kind), fields)
                there, here = functools.partial(read, near), functools.partial(read, target_model(kind))
                # SecantusDB keeps what a killed applier had in hand locked for a minute.
                rows = await until_equal(there, here, patience=4 * PATIENCE)
                verified = await fed.sync.verify(f"{through}_{kind}")
                assert (verified.equal, verified.rows, verified.differences) == (True, len(rows), [])
                assert await fed.sync.dead_letters(f"{through}_{kind}") == []
        finally:
            await processes.end()


async def _read(fed: Federation, kinds: tuple[str, str], fields: list[str], model: type) -> dict[Any, Any]:
    return as_kept_by(kinds, await rows_of(fed, model), fields)


def _urls(fresh_database: FreshDatabase, source: str, targets: list[str]) -> dict[str, str]:
    models = {source_model(source, events=False): source} | {target_model(kind): kind for kind in targets}
    urls = {model.__service__: fresh_database(kind) for model, kind in models.items()}
    if source == "mongodb":
        urls["ledger_accounts"] = fresh_database("postgresql")
    return urls


TARGETS = ["postgresql", "clickhouse"] if HAS_CLICKHOUSE else ["postgresql"]


@pytest.mark.timeout(300)
async def test_nobody_is_missed_who_dies(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """Appliers and the publisher are killed while writers go on: both targets come to the source's rows."""
    urls = _urls(fresh_database, "postgresql", TARGETS)
    await _killed_amid(nats_url, through, urls, "postgresql", TARGETS, 25)


@pytest.mark.timeout(300)
async def test_nobody_is_missed_in_kafka(
    kafka_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """The same over Kafka, with one applier at a time, which says when it goes: the server here needs that."""
    urls = _urls(fresh_database, "postgresql", ["postgresql"])
    await _killed_amid(kafka_url, through, urls, "postgresql", ["postgresql"], 8, gently=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("source", "target"), [("mongodb", "mongodb"), ("mysql", "postgresql")])
async def test_rows_of_other_stores(
    source: str, target: str, nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """Documents, and rows of MySQL, are after a broker what they were before."""
    await _killed_amid(nats_url, through, _urls(fresh_database, source, [target]), source, [target], 8)


# -- what fails


async def test_rows_that_the_target_refuses(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """They are put aside alone, and settled by a later change, whichever process writes that."""
    async with waves(fresh_database, through) as fed, another(fed) as other:
        await write(fed, insert(Wave), [*some(range(20)), *some([20, 21], name="too long")])
        async with during(fed.sync.publish(nats_url)):
            async with during(fed.sync.apply(nats_url)):
                await until(lambda: holds(fed, {row["id"]: row for row in some(range(20))}))
                letters = await until(lambda: _letters(fed, 2))
            assert sorted(letter.key for letter in letters) == [[20], [21]]
            await write(fed, update(Wave).where(Wave.id == 20).values(name="short"))
            async with during(other.sync.apply(nats_url)):
                letters = await until(lambda: _letters(fed, 1))
            assert [letter.key for letter in letters] == [[21]]
            assert (await rows_of(fed, WaveCopy))[20] == some([20], name="short")[0]


async def _letters(fed: Federation, number: int) -> Any:
    letters = await fed.sync.dead_letters("waves")
    return letters if len(letters) == number else None


async def test_a_target_that_is_down(nats_url: str, through: str, no_stray_tasks: None) -> None:
    """Messages come again until they are written; no row is put aside for that."""
    with PostgreSQLServer() as near, PostgreSQLServer() as far:
        async with Federation({"wave_shore": near.url(), "wave_beach": far.url()}) as fed:
            fed.sync.lease = LEASE
            fed.sync.add(SyncRule(source=Wave, to=WaveCopy, strategy=CDC(through=through, partitions=2), name="waves"))
            await fed.create_all()
            async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url)):
                await write(fed, insert(Wave), some(range(100)))
                await equal(fed)
                await asyncio.to_thread(far.kill)
                await write(fed, update(Wave).values(number=1))
                await until(lambda: _failing(fed))
                await asyncio.to_thread(far.restart)
                await equal(fed)
            assert await fed.sync.dead_letters("waves") == []


async def _failing(fed: Federation) -> Any:
    (account,) = [await fed.sync.accounts(fed.sync.rule("waves")).get("waves")]
    return account is not None and "wave_beach" in (account.last_error or "")


async def test_a_paused_rule(nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None) -> None:
    """Neither half goes on until it is resumed."""
    async with waves(fresh_database, through) as fed:
        await fed.sync.pause("waves")
        await write(fed, insert(Wave), some(range(10)))
        async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url)):
            await asyncio.sleep(1.0)
            assert await rows_of(fed, WaveCopy) == {}
            await fed.sync.resume("waves")
            assert len(await equal(fed)) == 10


async def test_another_number_of_partitions(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """It is refused while messages of the old ones wait, which newer ones would overtake."""
    async with waves(fresh_database, through) as fed, another(fed) as other:
        await write(fed, insert(Wave), some(range(10)))
        async with during(fed.sync.publish(nats_url)):
            await until(lambda: _streams(fed))
        fewer = replace(fed.sync.rule("waves").declared, strategy=CDC(through=through, partitions=2))
        async with Federation(urls_of(fed)) as third:
            third.sync.lease = LEASE
            third.sync.add(fewer)
            channel = channels_of(nats_url, third.sync.rule("waves"), lease=LEASE)
            with pytest.raises(
                SyncRuleError, match=r"has 4 partitions .* partitions=2: 4 messages of those have to be"
            ):
                await opened(channel())
            async with during(other.sync.apply(nats_url)):
                await equal(fed)
            await write(fed, update(Wave).values(number=2))
            async with during(third.sync.publish(nats_url), third.sync.apply(nats_url)):
                await equal(fed)


async def opened(channel: Channel) -> None:
    try:
        await channel.open(publishes=True)
    finally:
        await channel.close()


async def _streams(fed: Federation) -> bool:
    (status,) = await fed.sync.status()
    return status.state == "streaming"


async def test_what_is_refused(nats_url: str, fresh_database: FreshDatabase) -> None:
    """Rules are carried out by what they are declared for, over brokers that keep an order."""
    async with waves(fresh_database, "S") as fed:
        with pytest.raises(SyncRuleError, match=r"'waves' goes through a broker: it is carried out by  publish\(\)"):
            await fed.sync.run(["waves"])
        with pytest.raises(SyncRuleError, match="no sync rule to carry out"):
            await fed.sync.run()
        with pytest.raises(ConfigurationError, match=r"redis://.*: rules go through NATS or Kafka"):
            await fed.sync.apply("redis://:hidden@h")
    with pytest.raises(SyncRuleError, match="up to 50 letters"):
        CDC(through="a.b")
