"""Rules that go through a broker: whoever dies in between, each target comes to what its source has."""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import math
import os
import random
import secrets
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from beanie import PydanticObjectId
from pydantic import BaseModel
from sqlalchemy import JSON, BigInteger, DateTime, Numeric, String, insert, text, update
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import ConfigurationError, FederatedBase, FederatedDocument, Federation
from fedorm.sync import CDC, SyncRule
from fedorm.sync.brokers.channels import Channel, channels_of
from fedorm.sync.brokers.consuming import MessageApplier
from fedorm.sync.brokers.encoding import RowEncoding
from fedorm.sync.brokers.messages import Message
from fedorm.sync.errors import LeaseLostError, SyncRuleError
from fedorm.sync.shapes import side_of
from fedorm.testing.plugin import FreshDatabase
from fedorm.testing.servers import PostgreSQLServer
from tests.sync.broker_child import LEASE, rules_of
from tests.sync.histories import History
from tests.sync.ledgers import FIELDS, HAS_CLICKHOUSE, source_model, target_model
from tests.sync.watching import PATIENCE, as_kept_by, rows_of, until, until_equal
from tests.test_docs_pages import blocks
from tests.test_readme import run


class Wave(FederatedBase):
    __service__ = "wave_shore"
    __tablename__ = "waves"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(100))
    number: Mapped[int] = mapped_column(BigInteger)


class WaveCopy(FederatedBase):
    __service__ = "wave_beach"
    __tablename__ = "wave_copies"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(5))
    number: Mapped[int] = mapped_column(BigInteger)


@pytest.fixture
def through() -> str:
    """A stream of a test's own."""
    return f"SYNC_{secrets.token_hex(5)}"


@asynccontextmanager
async def waves(fresh_database: FreshDatabase, through: str, **options: Any) -> AsyncIterator[Federation]:
    urls = {"wave_shore": fresh_database("postgresql"), "wave_beach": fresh_database("postgresql")}
    async with Federation(urls) as fed:
        fed.sync.lease = LEASE
        strategy = CDC(through=through, partitions=4)
        fed.sync.add(SyncRule(source=Wave, to=WaveCopy, strategy=strategy, name="waves", **options))
        await fed.create_all()
        yield fed


@asynccontextmanager
async def during(*work: Any) -> AsyncIterator[None]:
    """Carry something out as long as the block runs."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def equal(fed: Federation) -> dict[Any, dict[str, Any]]:
    return await until_equal(lambda: rows_of(fed, Wave), lambda: rows_of(fed, WaveCopy))


def some(ids: Any, **values: Any) -> list[dict[str, Any]]:
    return [{"id": id, "name": "wave", "number": 0, **values} for id in ids]


async def write(fed: Federation, statement: Any, *rows: Any) -> None:
    async with fed.session() as session:
        await session.execute(statement, *rows)
        await session.commit()


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


# -- order


async def execute(fed: Federation, service: str, *statements: str) -> Any:
    """Execute SQL in a service, and return the last one's rows."""
    async with fed.session() as session:
        for statement in statements:
            result = await session.execute(text(statement), bind_arguments={"service": service})
        rows = result.all() if result.returns_rows else None
        await session.commit()
    return rows


LOGGED = (
    "CREATE TABLE wave_log (place bigserial PRIMARY KEY, id bigint, number bigint)",
    """CREATE FUNCTION log_wave() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO wave_log (id, number) VALUES (NEW.id, NEW.number); RETURN NEW; END $$""",
    """CREATE TRIGGER log_wave BEFORE INSERT OR UPDATE ON wave_copies
    FOR EACH ROW EXECUTE FUNCTION log_wave()""",
)


async def test_changes_of_a_key_keep_their_order(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """Many changes of few keys, two appliers: the target has never seen an older row after a newer one."""
    async with waves(fresh_database, through) as fed, another(fed) as other:
        await execute(fed, "wave_beach", *LOGGED)
        await write(fed, insert(Wave), some(range(10)))
        async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url), other.sync.apply(nats_url)):
            for number in range(1, 301):
                await write(fed, update(Wave).where(Wave.id == number % 10).values(number=number))
            await equal(fed)
        log = await execute(fed, "wave_beach", "SELECT id, number FROM wave_log ORDER BY place")
    by_key: dict[int, list[int]] = {}
    for id, number in log:
        by_key.setdefault(id, []).append(number)
    assert {id: numbers[-1] for id, numbers in by_key.items()} == {n % 10: n for n in range(291, 301)}
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert len(log) > 20


def urls_of(fed: Federation) -> dict[str, str]:
    stores = cast("dict[str, Any]", fed.stores)
    return {name: store.url.render_as_string(hide_password=False) for name, store in stores.items()}


@asynccontextmanager
async def another(fed: Federation) -> AsyncIterator[Federation]:
    """A federation of the same services and rules, as another process has."""
    async with Federation(urls_of(fed)) as other:
        other.sync.lease = LEASE
        other.sync.add(fed.sync.rule("waves").declared)
        yield other


async def test_what_is_older_is_not_written(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """A message that comes after a newer one, of a publisher that was taken for dead, changes nothing."""
    async with waves(fresh_database, through) as fed:
        applier = MessageApplier(fed.sync, fed.sync.rule("waves"), cast("Any", None), asyncio.Semaphore(1))

        def message(sequence: int) -> Message:
            return Message("changes", sequence, rows=some([7], number=sequence))

        await applier.apply(2, message(40))
        await applier.apply(2, message(40))  # That comes again is no harm.
        with pytest.raises(LeaseLostError):
            await applier.apply(2, message(39))
        await applier.apply(1, Message("changes", 5, rows=some([8])))  # Another partition has its own sequence.
        assert await rows_of(fed, WaveCopy) == {row["id"]: row for row in [*some([7], number=40), *some([8])]}


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"name": str(len(row["name"]) // 1000)}


async def test_a_row_that_is_told_by_half_is_read(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """What a message does not tell, as it was too large for one, is in the source."""
    async with waves(fresh_database, through, transform=_measured) as fed:
        await execute(fed, "wave_shore", "ALTER TABLE waves ALTER name TYPE text")
        await write(fed, insert(Wave), [*some([1], name="x" * 2_000_000), *some([2])])
        async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url)):
            wanted = {row["id"]: row for row in [*some([1], name="2000"), *some([2], name="0")]}
            await until(lambda: _is(fed, wanted))


async def _is(fed: Federation, wanted: dict[Any, Any]) -> bool:
    return await rows_of(fed, WaveCopy) == wanted


# -- all rows at once


async def test_all_rows_gone_at_once(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """TRUNCATE also removes what is still on its way to the target, and nothing that was written after it."""
    async with waves(fresh_database, through) as fed:
        await write(fed, insert(Wave), some(range(100)))
        async with during(fed.sync.publish(nats_url)):
            async with during(fed.sync.apply(nats_url)):
                await equal(fed)
            await write(fed, insert(Wave), some(range(100, 200)))
            await execute(fed, "wave_shore", "TRUNCATE waves")
            await write(fed, insert(Wave), some(range(150, 250), number=1))
            async with during(fed.sync.apply(nats_url)):
                assert len(await equal(fed)) == 100


async def test_publishing_all_rows_again(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """A backfill mends what is missing, different or too much in the target."""
    async with waves(fresh_database, through) as fed:
        await write(fed, insert(Wave), some(range(100)))
        async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url)):
            await equal(fed)
            await execute(
                fed,
                "wave_beach",
                "DELETE FROM wave_copies WHERE id < 10",
                "UPDATE wave_copies SET number = 7 WHERE id < 20",
                "INSERT INTO wave_copies VALUES (1000, 'x', 1)",
            )
            await fed.sync.backfill("waves")
            assert len(await equal(fed)) == 100


async def test_filling_a_target_that_has_rows(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """They are what the source has in the end."""
    async with waves(fresh_database, through, where=lambda row: row["id"] != 3) as fed:
        await write(fed, insert(Wave), some(range(10)))
        await write(fed, insert(WaveCopy), some([3, 5, 20], number=5))
        async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url)):
            await until(lambda: _is(fed, {row["id"]: row for row in some([0, 1, 2, 4, 5, 6, 7, 8, 9])}))


async def test_what_is_kept_of_a_rule_is_lost(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """It begins anew, above the numbers that the target has seen."""
    async with waves(fresh_database, through) as fed, another(fed) as other:
        await write(fed, insert(Wave), some(range(10)))
        for one in (fed, other):
            async with during(one.sync.publish(nats_url), one.sync.apply(nats_url)):
                await equal(fed)
            await write(fed, update(Wave).values(number=Wave.number + 1))
            await fed.sync.reset("waves")
            await execute(fed, "wave_shore", "DELETE FROM fedorm_sync_rules")
        async with during(fed.sync.publish(nats_url), fed.sync.apply(nats_url)):
            assert {row["number"] for row in (await equal(fed)).values()} == {2}


# -- what fails


async def test_rows_that_the_target_refuses(
    nats_url: str, through: str, fresh_database: FreshDatabase, no_stray_tasks: None
) -> None:
    """They are put aside alone, and settled by a later change, whichever process writes that."""
    async with waves(fresh_database, through) as fed, another(fed) as other:
        await write(fed, insert(Wave), [*some(range(20)), *some([20, 21], name="too long")])
        async with during(fed.sync.publish(nats_url)):
            async with during(fed.sync.apply(nats_url)):
                await until(lambda: _is(fed, {row["id"]: row for row in some(range(20))}))
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


# -- values


class Odd(FederatedBase):
    __service__ = "odd_values"
    __tablename__ = "odd_values"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    amount: Mapped[Decimal | None] = mapped_column(Numeric(30, 10))
    ratio: Mapped[float | None]
    at: Mapped[datetime.datetime | None] = mapped_column(DateTime(timezone=True))
    day: Mapped[datetime.date | None]
    wait: Mapped[datetime.timedelta | None]
    raw: Mapped[bytes | None]
    extra: Mapped[Any | None] = mapped_column(JSON)


class Leaf(BaseModel):
    at: datetime.datetime
    cents: Decimal


class OddDocument(FederatedDocument):
    __service__ = "odd_documents"
    leaves: list[Leaf] = []
    anything: Any = None
    size: float | None = None

    class Settings:
        name = "odd"


async def test_values_of_columns_stay_what_they_are(fresh_database: FreshDatabase) -> None:
    """What is read from a message is what a model holds."""
    async with Federation({"odd_values": fresh_database("postgresql")}) as fed:
        encoding = RowEncoding(side_of(Odd, {}, rule="r").whole, fed.stores["odd_values"])
        row = {
            "id": uuid.UUID(int=7),
            "amount": Decimal("1.2500000000"),
            "ratio": math.inf,
            "at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC),
            "day": datetime.date(2026, 1, 2),
            "wait": datetime.timedelta(days=-3, microseconds=1),
            "raw": b"\x00\xff",
            "extra": {"ü": [1, None, 2.5]},
        }
        line = encoding.row(row)
        assert line is not None
        assert encoding.values(list(encoding.shape.fields), json.loads(line)) == row
        empty = dict.fromkeys(row) | {"id": row["id"]}
        assert encoding.values(list(encoding.shape.fields), json.loads(encoding.row(empty) or b"")) == empty


async def test_values_of_documents_stay_what_they_are(fresh_database: FreshDatabase) -> None:
    """Also where the class does not say what they are."""
    async with Federation({"odd_documents": fresh_database("mongodb")}) as fed:
        encoding = RowEncoding(side_of(OddDocument, {}, rule="r").whole, fed.stores["odd_documents"])
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)
        row = {
            "id": PydanticObjectId("0123456789abcdef01234567"),
            "leaves": [Leaf(at=moment, cents=Decimal("1.50"))],
            "anything": {"at": moment, "$is": ["x"], "raw": b"\x00", "of": [Decimal("2.0"), uuid.UUID(int=3)]},
            "size": 2.5,
        }
        line = encoding.row(row)
        assert line is not None
        assert encoding.values(list(encoding.shape.fields), json.loads(line)) == row


def test_the_page(tmp_path: Path, nats_url: str, fresh_database: FreshDatabase) -> None:
    """The program of ``docs/sync-brokers.md`` prints what is printed below it."""
    (program,), (printed,) = blocks("sync-brokers.md", "python"), blocks("sync-brokers.md", "text")
    for name in ("shop", "reports"):
        program = program.replace(f"postgresql+asyncpg://127.0.0.1/{name}", fresh_database("postgresql"))
    assert run(program.replace("nats://127.0.0.1:4222", nats_url), tmp_path) == printed


async def test_on_the_command_line(tmp_path: Path, nats_url: str, fresh_database: FreshDatabase) -> None:
    """``publish`` and ``apply`` end well at SIGTERM; ``run`` leaves their rules to them."""
    urls = {"wave_shore": fresh_database("postgresql"), "wave_beach": fresh_database("postgresql")}
    settings = [f'[services.{name}]\nurl = "{url}"\n' for name, url in urls.items()]
    (tmp_path / "fedorm.toml").write_text("".join(settings))
    (tmp_path / "rolling.py").write_text(ROLLING.format(through=f"CLI_{secrets.token_hex(4)}"))
    place = {
        **os.environ,
        "FEDORM_SYNC_BROKER": nats_url,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
    }
    words = ["-m", "fedorm", "--config", str(tmp_path / "fedorm.toml"), "--models", "rolling", "sync"]

    async def fedorm(command: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, *words, command, env=place, stderr=asyncio.subprocess.PIPE
        )

    async with Federation(urls) as fed:
        await fed.create_all()
        await write(fed, insert(Wave), some(range(10)))
        halves = [await fedorm("publish"), await fedorm("apply")]
        try:
            await equal(fed)
        finally:
            for half in halves:
                half.send_signal(signal.SIGTERM)
        said = [(await half.communicate())[1].decode() for half in halves]
    assert [half.returncode for half in halves] == [0, 0], said
    assert ["publishing: rolling" in said[0], "applying: rolling" in said[1]] == [True, True]
    done = await fedorm("run")
    _, error = await done.communicate()
    assert ("there is no sync rule to carry out" in error.decode(), done.returncode) == (True, 2), error.decode()


ROLLING = """
from fedorm.sync import CDC, sync_hook
from tests.sync.test_brokers import Wave, WaveCopy

@sync_hook(source=Wave, to=WaveCopy, strategy=CDC(through="{through}", partitions=2))
def rolling(wave):
    return WaveCopy(id=wave.id, name=wave.name, number=wave.number)
"""
