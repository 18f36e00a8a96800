"""Migrations that fail, are killed, or are run twice at once."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from fedorm import Federation
from fedorm.migrate import BusyError, MigrationError, MigrationFailedError
from tests.migrate.conftest import Federate, on, settings, tables
from tests.migrate.revisions import write

FreshDatabase = Callable[[str], str]

CLICKHOUSE = pytest.param("clickhouse", marks=pytest.mark.clickhouse)


def started(folder: Path, **urls: str) -> subprocess.Popen[str]:
    """A process that migrates."""
    given = [f"{service}={url}" for service, url in urls.items()]
    command = [sys.executable, "-m", "tests.migrate.running", str(folder), *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def reached(process: subprocess.Popen[str], mark: Path) -> None:
    """Wait until the migration has made a file."""
    until = time.monotonic() + 60
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def killed(folder: Path, **urls: str) -> None:
    """Migrate in a process that is killed where the revision holds."""
    (folder / "hold").touch()
    process = started(folder, **urls)
    reached(process, folder / "here")
    process.kill()
    process.communicate()
    (folder / "hold").unlink()


def rows(url: str, table: str) -> list[Any]:
    asked = text(f"SELECT id FROM {table} ORDER BY id")
    return list(on(url, lambda connection: connection.execute(asked).scalars().all()))


async def test_the_second_of_three_services_fails(
    fresh_database: FreshDatabase, sqlite_url: str, federate: Federate, tmp_path: Path
) -> None:
    """The error says where each stands and what was not begun; run again, it goes on from there."""
    urls = {"mig_one": fresh_database("postgresql"), "mig_two": fresh_database("postgresql"), "mig_three": sqlite_url}
    fed = federate(**urls)
    fed.migrate.init()
    for service in urls:
        write(tmp_path, service, f"a_{service}", None, "table('first')")
        write(tmp_path, service, f"b_{service}", f"a_{service}", "table('second')")
    write(tmp_path, "mig_two", "b_mig_two", "a_mig_two", "table('second')", "op.execute('wrong')")
    told: list[tuple[str, str]] = []
    with pytest.raises(MigrationFailedError) as failed:
        await fed.migrate.upgrade(report=lambda *what: told.append(what))
    assert str(failed.value).startswith("the migration of service 'mig_two' failed: ")
    assert str(failed.value).endswith(
        ". As it stands: mig_one is at b_mig_one; mig_two is at a_mig_two; mig_three is at base; not begun: mig_three. "
        "Mend the revision, or the database, and run it again: what is done is not done twice"
    )
    assert (failed.value.failed, failed.value.left) == ("mig_two", ["mig_three"])
    assert told == [("mig_one", "did a_mig_one"), ("mig_one", "did b_mig_one"), ("mig_two", "did a_mig_two")]
    assert tables(urls["mig_two"]) == ["alembic_version", "first"]
    write(tmp_path, "mig_two", "b_mig_two", "a_mig_two", "table('second')")
    assert await fed.migrate.upgrade() == {
        "mig_one": [], "mig_two": ["b_mig_two"], "mig_three": ["a_mig_three", "b_mig_three"]
    }  # fmt: skip


async def test_all_are_looked_at_before_the_first(
    fresh_database: FreshDatabase, sqlite_url: str, federate: Federate, tmp_path: Path
) -> None:
    """A last service that stands where its history does not lead keeps the first from being touched."""
    urls = {"mig_one": fresh_database("postgresql"), "mig_two": sqlite_url}
    fed = federate(**urls)
    fed.migrate.init()
    write(tmp_path, "mig_one", "1", None, "table('first')")
    lost = write(tmp_path, "mig_two", "1", None, "pass")
    await fed.migrate.upgrade("mig_two")
    lost.unlink()
    with pytest.raises(MigrationError, match=r"service 'mig_two' is at revision 1, which .* does not have"):
        await fed.migrate.upgrade()
    assert tables(urls["mig_one"]) == []
    with pytest.raises(MigrationError, match="of one service alone"):
        await fed.migrate.upgrade(to="1")


async def test_an_order_of_services(fresh_database: FreshDatabase, sqlite_url: str, tmp_path: Path) -> None:
    """Those of the settings first, then as they are named; back the other way round."""
    urls = {"mig_one": sqlite_url, "mig_two": fresh_database("postgresql"), "mig_three": fresh_database("postgresql")}
    fed = Federation(settings(tmp_path, urls, order=("mig_three",)))
    fed.migrate.init()
    for service in urls:
        write(tmp_path, service, "1", None, "pass")
    assert list(await fed.migrate.upgrade()) == ["mig_three", "mig_one", "mig_two"]
    assert list(await fed.migrate.downgrade(None, "base")) == ["mig_two", "mig_one", "mig_three"]


STEPS = ("table('first')", "row('first', 1)", "table('second')", "hold('here')", "row('second', 2)", "table('third')")


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite", CLICKHOUSE])
async def test_killed_in_the_middle(
    kind: str, fresh_database: FreshDatabase, sqlite_url: str, federate: Federate, tmp_path: Path
) -> None:
    """The next run does what is left, and nothing twice, also where tables are not made in transactions."""
    url = sqlite_url if kind == "sqlite" else fresh_database(kind)
    fed = federate(mig_killed=url)
    fed.migrate.init()
    write(tmp_path, "mig_killed", "1", None, *STEPS)
    killed(tmp_path, mig_killed=url)
    left = set(tables(url)) - {"alembic_version", "fedorm_migrations_lock"}
    assert left == ({"first", "second", "fedorm_migrating"} if kind in ("mysql", "clickhouse") else set())
    if kind == "clickhouse":  # It has no lock that goes with its process.
        with pytest.raises(BusyError, match=r"If no process on .* does so, run there:  DROP TABLE fedorm_migrations_"):
            await fed.migrate.upgrade(wait=0)
        on(url, lambda connection: connection.exec_driver_sql("DROP TABLE fedorm_migrations_lock"))
    assert await fed.migrate.current() == {"mig_killed": []}
    assert await fed.migrate.upgrade() == {"mig_killed": ["1"]}
    assert tables(url) == ["alembic_version", "first", "second", "third"]
    assert (rows(url, "first"), rows(url, "second")) == ([1], [2])


async def test_killed_where_it_cannot_go_on(mysql_url: str, federate: Federate, tmp_path: Path) -> None:
    """A revision that is another one by then, or that was not all Alembic's: what was done is said, and what to do."""
    fed = federate(mig_killed=mysql_url)
    fed.migrate.init()
    write(tmp_path, "mig_killed", "1", None, *STEPS)
    killed(tmp_path, mig_killed=mysql_url)
    write(tmp_path, "mig_killed", "1", None, "table('other')", *STEPS)
    with pytest.raises(MigrationFailedError) as failed:
        await fed.migrate.upgrade()
    said = str(failed.value)
    assert "the upgrade by revision 1 was cut short, after these statements" in said
    assert re.search(r"1\. CREATE TABLE first .*; 2\. INSERT INTO first .*; 3\. CREATE TABLE second ", said)
    assert "Go on with  fedorm migrate upgrade --service mig_killed 1,  or undo them by hand" in said
    assert "Statement 1 of it is another one now: CREATE TABLE other" in said
    with pytest.raises(MigrationFailedError, match="was cut short"):
        await fed.migrate.downgrade(None, "base")
    await fed.migrate.stamp(None, "1")
    assert "fedorm_migrating" not in tables(mysql_url)
    assert await fed.migrate.upgrade() == {"mig_killed": []}


async def test_killed_after_statements_past_alembic(mysql_url: str, federate: Federate, tmp_path: Path) -> None:
    """Of what a revision has sent to the connection itself it is not known what was carried out."""
    fed = federate(mig_killed=mysql_url)
    fed.migrate.init()
    write(
        tmp_path,
        "mig_killed",
        "1",
        None,
        "table('first')",
        "op.get_bind().execute(sa.text('INSERT INTO first VALUES (1)'))",
        "table('second')",
        "hold('here')",
    )
    killed(tmp_path, mig_killed=mysql_url)
    with pytest.raises(MigrationFailedError, match=r"past Alembic's operations.*INSERT INTO first VALUES \(1\)"):
        await fed.migrate.upgrade()


@pytest.mark.parametrize("kind", ["mysql", pytest.param("clickhouse", marks=pytest.mark.clickhouse)])
async def test_a_first_statement_that_is_refused(
    kind: str, fresh_database: FreshDatabase, federate: Federate, tmp_path: Path
) -> None:
    """Nothing was done, so another revision may take its place."""
    url = fresh_database(kind)
    fed = federate(mig_killed=url)
    fed.migrate.init()
    refused = write(tmp_path, "mig_killed", "1", None, "op.drop_table('absent')")
    with pytest.raises(MigrationFailedError, match="absent"):
        await fed.migrate.upgrade()
    refused.unlink()
    write(tmp_path, "mig_killed", "2", None, "table('first')")
    assert await fed.migrate.upgrade() == {"mig_killed": ["2"]}
    assert tables(url) == ["alembic_version", "first"]


async def test_a_failure_on_mysql_is_mended(mysql_url: str, federate: Federate, tmp_path: Path) -> None:
    """The statement that was refused may be another one the next time; those before it are not done twice."""
    fed = federate(mig_killed=mysql_url)
    fed.migrate.init()
    write(tmp_path, "mig_killed", "1", None, "table('first')", "row('first', 1)", "table('first')")
    with pytest.raises(MigrationFailedError, match="already exists"):
        await fed.migrate.upgrade()
    write(tmp_path, "mig_killed", "1", None, "table('first')", "row('first', 1)", "table('second')")
    assert await fed.migrate.upgrade() == {"mig_killed": ["1"]}
    assert tables(mysql_url) == ["alembic_version", "first", "second"]
    assert rows(mysql_url, "first") == [1]


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite", CLICKHOUSE])
async def test_two_at_once(
    kind: str, fresh_database: FreshDatabase, sqlite_url: str, federate: Federate, tmp_path: Path
) -> None:
    """The second waits, and finds all done; one that does not want to wait that long is told so."""
    url = sqlite_url if kind == "sqlite" else fresh_database(kind)
    fed = federate(mig_twice=url)
    fed.migrate.init()
    write(tmp_path, "mig_twice", "1", None, "table('only')", "hold('here')")
    (tmp_path / "hold").touch()
    process = started(tmp_path, mig_twice=url)
    try:
        await asyncio.to_thread(reached, process, tmp_path / "here")
        with pytest.raises(BusyError, match=r"'mig_twice' .* by another process for more than 0 s") as busy:
            await fed.migrate.upgrade(wait=0)
        assert ("DROP TABLE fedorm_migrations_lock" in str(busy.value)) == (kind == "clickhouse")
        waiting = asyncio.create_task(fed.migrate.upgrade())
        await asyncio.sleep(0.5)
        assert not waiting.done()
    finally:
        (tmp_path / "hold").unlink()
    assert await waiting == {"mig_twice": []}
    out, error = await asyncio.to_thread(process.communicate)
    assert (out, process.returncode) == ("{'mig_twice': ['1']}\n", 0), error


async def test_documents_at_once(mongodb_url: str, federate: Federate, tmp_path: Path) -> None:
    """The same by a document; it is let go of at the end."""
    first, second = federate(mig_goods=mongodb_url), federate(mig_goods=mongodb_url)
    first.migrate.init()
    (tmp_path / "migrations" / "mig_goods" / "versions" / "1_wait.py").write_text(
        "import asyncio\n"
        "from fedorm.migrate.collections import schema_migration\n"
        "class Forward:\n"
        "    @schema_migration()\n"
        "    async def change(self, db):\n"
        "        await db.create_collection('made')\n"
        "        await asyncio.sleep(1)\n"
    )
    running = asyncio.create_task(first.migrate.upgrade())
    async with second:
        store: Any = second.stores["mig_goods"]
        while "made" not in await store.own_database().list_collection_names():
            await asyncio.sleep(0.02)
        with pytest.raises(BusyError, match="by another process for more than 0 s"):
            await second.migrate.upgrade(wait=0)
        assert await second.migrate.upgrade() == {"mig_goods": []}
    assert await running == {"mig_goods": ["1_wait"]}


@pytest.mark.clickhouse
async def test_a_lock_in_another_service(
    clickhouse_url: str, fresh_database: FreshDatabase, federate: Federate, tmp_path: Path
) -> None:
    """ClickHouse has no lock of its own: a service of the federation with transactions has one for it."""
    urls = {"mig_twice": clickhouse_url, "mig_one": fresh_database("postgresql")}
    fed = federate(**urls)
    fed.migrate.init("mig_twice")
    write(tmp_path, "mig_twice", "1", None, "table('only')")
    asked: list[str] = []

    def ask(connection: Any) -> None:
        locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        asked.append(connection.execute(locks).scalar())

    done = await fed.migrate.upgrade(report=lambda *what: on(urls["mig_one"], ask))
    assert done == {"mig_twice": ["1"]}
    assert asked == [1]


@pytest.mark.clickhouse
async def test_killed_while_it_inserts_into_clickhouse(clickhouse_url: str, federate: Federate, tmp_path: Path) -> None:
    """Nobody knows whether the rows are there; what was sent is said, and what to do."""
    fed = federate(mig_killed=clickhouse_url)
    fed.migrate.init()
    write(tmp_path, "mig_killed", "1", None, "table('first')", "row('first', 1)", "hold('here')", "table('second')")
    killed(tmp_path, mig_killed=clickhouse_url)
    on(clickhouse_url, lambda connection: connection.exec_driver_sql("DROP TABLE fedorm_migrations_lock"))
    with pytest.raises(MigrationFailedError) as failed:
        await fed.migrate.upgrade()
    assert re.search(r"1\. CREATE TABLE first .*; 2\. INSERT INTO first ", str(failed.value))
    assert "The last one inserts rows, which cannot be done again: see whether they are there" in str(failed.value)
    await fed.migrate.stamp("mig_killed", "1")
    assert await fed.migrate.upgrade() == {"mig_killed": []}
    assert tables(clickhouse_url) == ["alembic_version", "first"]


@pytest.mark.clickhouse
async def test_a_failure_on_clickhouse_is_mended(clickhouse_url: str, federate: Federate, tmp_path: Path) -> None:
    """The statement that was refused may be another one the next time; those before it are not done twice."""
    fed = federate(mig_killed=clickhouse_url)
    fed.migrate.init()
    write(tmp_path, "mig_killed", "1", None, "table('first')", "row('first', 1)", "table('first')")
    with pytest.raises(MigrationFailedError, match="already exists"):
        await fed.migrate.upgrade()
    write(tmp_path, "mig_killed", "1", None, "table('first')", "row('first', 1)", "table('second')")
    assert await fed.migrate.upgrade() == {"mig_killed": ["1"]}
    assert tables(clickhouse_url) == ["alembic_version", "first", "second"]
    assert rows(clickhouse_url, "first") == [1]


async def test_documents_killed_in_the_middle(mongodb_url: str, federate: Federate, tmp_path: Path) -> None:
    """The lock ends by itself, collections that are there are passed over, and documents are changed once."""
    fed = federate(mig_goods=mongodb_url)
    fed.migrate.init()
    (tmp_path / "migrations" / "mig_goods" / "versions" / "1_hold.py").write_text(
        f"""
import asyncio, pathlib
from beanie import Document, free_fall_migration
from fedorm.migrate.collections import schema_migration

class Counted(Document):
    number: int
    class Settings:
        name = "counted"

class Forward:
    @schema_migration()
    async def make(self, db):
        await db.create_collection("counted")
        await db.create_index("counted", "number_1", [("number", 1)])

    @free_fall_migration(document_models=[Counted])
    async def fill(self, session):
        await Counted(number=1).insert(session=session)
        here = pathlib.Path({str(tmp_path)!r})
        if (here / "hold").exists():
            (here / "here").touch()
            while (here / "hold").exists():
                await asyncio.sleep(0.02)
"""
    )
    killed(tmp_path, mig_goods=mongodb_url)
    async with fed:
        store: Any = fed.stores["mig_goods"]
        assert await fed.migrate.current() == {"mig_goods": []}
        assert await fed.migrate.upgrade() == {"mig_goods": ["1_hold"]}
        found = await store.own_database()["counted"].find().to_list()
        assert [one["number"] for one in found] == [1]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_a_pool_of_one_connection(kind: str, fresh_database: FreshDatabase, tmp_path: Path) -> None:
    """The lock and the journal take none of it."""
    url = {"url": fresh_database(kind), "pool_size": 1, "max_overflow": 0, "pool_timeout": 2}
    fed = Federation(settings(tmp_path, {"mig_pool": url}))
    fed.migrate.init()
    write(tmp_path, "mig_pool", "1", None, "table('only')")
    async with fed:
        assert await fed.migrate.upgrade() == {"mig_pool": ["1"]}
        assert await fed.migrate.downgrade(None, "base") == {"mig_pool": ["1"]}
