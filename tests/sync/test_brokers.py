"""Rules that go through a broker: the order of a key's changes, all rows at once, and how both halves are started."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import insert, update

from fedorm import Federation
from fedorm.sync.brokers.consuming import MessageApplier
from fedorm.sync.brokers.messages import Message
from fedorm.sync.errors import LeaseLostError
from fedorm.testing.plugin import FreshDatabase
from tests.sync.watching import rows_of, until
from tests.sync.waves import Wave, WaveCopy, another, during, equal, execute, holds, some, through, waves, write
from tests.test_docs_pages import blocks
from tests.test_readme import run

__all__ = ["through"]


# -- order


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
            await until(lambda: holds(fed, wanted))


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
            await until(lambda: holds(fed, {row["id"]: row for row in some([0, 1, 2, 4, 5, 6, 7, 8, 9])}))


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


# -- how both halves are started


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
from tests.sync.waves import Wave, WaveCopy

@sync_hook(source=Wave, to=WaveCopy, strategy=CDC(through="{through}", partitions=2))
def rolling(wave):
    return WaveCopy(id=wave.id, name=wave.name, number=wave.number)
"""
