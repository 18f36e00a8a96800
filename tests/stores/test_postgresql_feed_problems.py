"""What stands against reading PostgreSQL's log is said, each with the statement that helps."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Column, Integer, Text, UniqueConstraint, make_url

from fedorm.exc import ConfigurationError
from fedorm.stores.postgresql_feed import PostgreSQLFeed
from fedorm.testing.plugin import unavailable
from fedorm.testing.servers import PostgreSQLServer, ServerUnavailableError
from tests.stores.logged import Logged, opened, read, shape_of, table, told

DEEDS = table("logged_deeds", Column("id", Integer, primary_key=True), Column("name", Text, nullable=False))
KEYLESS = table("logged_keyless", Column("id", Integer), Column("name", Text))
ROLE = "Logged reader"


@pytest.fixture
async def logged(postgresql_url: str, no_stray_tasks: None) -> AsyncIterator[Logged]:
    async with opened(postgresql_url) as service:
        await service.make(DEEDS, KEYLESS)
        yield service
        await service.left()


def remedies(problem: str) -> list[str]:
    """The statements that a problem says to run, the last first: it needs no filling in."""
    return re.split("  or  ", problem.partition("run  ")[2].partition("  and ")[0])[::-1]


async def helps(logged: Logged, feed: PostgreSQLFeed, said: list[str]) -> None:
    """See that the problems are these, that create() refuses, and that they are gone after what they say to run."""
    found = await feed.problems()
    assert [problem for problem, words in zip(found, said, strict=True) if words not in problem] == []
    with pytest.raises(ConfigurationError, match="'logged'") as raised:
        await feed.create()
    assert all(problem in str(raised.value) for problem in found)
    for problem in found:
        await logged.run(remedies(problem)[0])


async def test_nothing_stands_against_it(logged: Logged) -> None:
    """And nothing does when it is set up already."""
    feed = logged.feed("fine", DEEDS)
    assert await feed.problems() == []
    await feed.create()
    assert await feed.problems() == []


async def test_tables_without_a_key(logged: Logged) -> None:
    """Whether there is no key, no identity, or one that does not tell the key that rows are known by."""
    unique = table(
        "logged_unique", Column("id", Integer, primary_key=True), Column("name", Text, nullable=False),
        UniqueConstraint("name", name="logged_unique_name"),
    )  # fmt: skip
    await logged.make(unique)
    await logged.run(
        "ALTER TABLE logged_deeds REPLICA IDENTITY NOTHING",
        "ALTER TABLE logged_unique REPLICA IDENTITY USING INDEX logged_unique_name",
    )
    feed = logged.feed("keys", DEEDS, KEYLESS, unique)
    said = ["has no replica identity", "has no primary key", "does not tell id of a deleted row of logged_unique"]
    await helps(logged, feed, said)
    position = await feed.create()
    await logged.run("INSERT INTO logged_keyless VALUES (1, 'a'), (2, 'b')", "DELETE FROM logged_keyless WHERE id = 1")
    found = [change for one in await read(feed, position, 3) for change in one.changes]
    assert told(found)[2] == ("delete", (1,), None, {"id": 1, "name": "a"})
    by_name = logged.feed("names", shape_of(DEEDS, key=("name",)))
    await helps(logged, by_name, ["does not tell name of a deleted row"])
    assert await by_name.problems() == []


async def test_what_is_no_table_of_the_log(logged: Logged) -> None:
    """A table that is not there, a view, and a table that is not logged."""
    view = table("logged_view", Column("id", Integer, primary_key=True))
    unlogged = table("logged_unlogged", Column("id", Integer, primary_key=True))
    await logged.run(
        "CREATE VIEW logged_view AS SELECT id FROM logged_deeds",
        "CREATE UNLOGGED TABLE logged_unlogged (id integer PRIMARY KEY)",
    )
    feed = logged.feed("tables", view, unlogged, table("Logged nowhere", Column("id", Integer, primary_key=True)))
    found = await feed.problems()
    for problem, words in zip(found, ["is no table", "does not tell of", 'no table "Logged nowhere"'], strict=True):
        assert words in problem
    await logged.run(remedies(found[1])[0])
    assert await logged.feed("tables", unlogged).problems() == []


@asynccontextmanager
async def reader(logged: Logged, url: str) -> AsyncIterator[Logged]:
    """The same service, for a user who may nothing but log in."""
    await logged.run(f"CREATE ROLE \"{ROLE}\" LOGIN PASSWORD 'secret-of-the-reader'")
    try:
        other = make_url(url).set(username=ROLE, password="secret-of-the-reader")
        async with opened(other.render_as_string(hide_password=False)) as service:
            yield service
            await service.left()
    finally:
        await logged.run(f'DROP OWNED BY "{ROLE}"', f'DROP ROLE "{ROLE}"')


async def test_privileges(logged: Logged, postgresql_url: str) -> None:
    """Of the log, of publications, and of each table, for a user who has none of them."""
    async with reader(logged, postgresql_url) as other:
        feed = other.feed("privileges", DEEDS)
        said = ["may not read the log", "may not make a publication", "only its owner can publish it"]
        await helps(logged, feed, said)
        assert await feed.problems() == []
        position = await feed.create()
        await logged.run("INSERT INTO logged_deeds VALUES (1, 'a')")
        (found,) = await read(feed, position, 1)
        assert [change.key for change in found.changes] == [(1,)]
        await other.left()
        await feed.drop()
        await logged.run(f'ALTER ROLE "{ROLE}" NOREPLICATION')


async def test_a_privilege_that_is_taken_away(logged: Logged, postgresql_url: str) -> None:
    """The stream says what is missing, without the password."""
    async with reader(logged, postgresql_url) as other:
        await logged.run(f'ALTER ROLE "{ROLE}" REPLICATION')
        admin, feed = logged.feed("taken", DEEDS), other.feed("taken", DEEDS)
        position = await admin.create()
        await logged.run(f'ALTER ROLE "{ROLE}" NOREPLICATION')
        with pytest.raises(ConfigurationError, match="'logged'") as raised:
            await read(feed, position, 1)
        assert "secret-of-the-reader" not in f"{raised.value} {raised.value.__cause__}"


async def test_a_publication_that_others_have_made(logged: Logged, postgresql_url: str) -> None:
    """Who may only read the log does with a publication that is there, if it has all that is wanted."""
    async with reader(logged, postgresql_url) as other:
        await logged.run(f'ALTER ROLE "{ROLE}" REPLICATION')
        feed = other.feed("theirs", DEEDS, KEYLESS)
        await logged.run(
            "ALTER TABLE logged_keyless REPLICA IDENTITY FULL",
            "CREATE PUBLICATION fedorm_theirs FOR TABLE logged_deeds WITH (publish_via_partition_root = true)",
        )
        said = ["lacks tables, and is another user's", "logged_keyless belongs to"]
        found = await feed.problems()
        assert [problem for problem, words in zip(found, said, strict=True) if words not in problem] == []
        await logged.run("ALTER PUBLICATION fedorm_theirs ADD TABLE logged_keyless")
        assert await feed.problems() == []
        position = await feed.create()
        await logged.run("INSERT INTO logged_keyless VALUES (1, 'a')")
        (one,) = await read(feed, position, 1)
        assert [change.key for change in one.changes] == [(1,)]
        with pytest.raises(ConfigurationError, match=r"'logged'.*must be owner"):
            await feed.drop()


@pytest.fixture
def own() -> Iterator[PostgreSQLServer]:
    try:
        server = PostgreSQLServer().start()
    except ServerUnavailableError as error:
        unavailable(str(error))
    server.create_database("logged")
    yield server
    server.stop()


async def test_settings_of_the_server(own: PostgreSQLServer, no_stray_tasks: None) -> None:
    """A log that tells of no rows, and slots and senders that are all taken."""
    async with opened(own.url("logged")) as logged:
        await logged.make(DEEDS)
        for setting, value in (("wal_level", "replica"), ("max_wal_senders", "0"), ("max_replication_slots", "0")):
            await logged.alone(f"ALTER SYSTEM SET {setting} = {value}")
    own.restart()
    async with opened(own.url("logged")) as logged:
        feed = logged.feed("settings", DEEDS)
        found = await feed.problems()
        said = ["wal_level is 'replica'", "max_replication_slots is 0", "max_wal_senders is 0"]
        assert [problem for problem, words in zip(found, said, strict=True) if words not in problem] == []
        with pytest.raises(ConfigurationError, match="wal_level"):
            await feed.create()
        for problem in found:
            assert problem.endswith("and restart the server")
            await logged.alone(remedies(problem)[0])
    own.restart()
    async with opened(own.url("logged")) as logged:
        feed = logged.feed("settings", DEEDS)
        assert await feed.problems() == []
        position = await feed.create()
        for number in range(9):
            await logged.ask("SELECT pg_create_logical_replication_slot(:s, 'pgoutput')", s=f"other_{number}")
        assert await feed.problems() == []  # The feed's own slot is no other's.
        (problem,) = await logged.feed("eleventh", DEEDS).problems()
        assert "max_replication_slots is 10, and all are in use" in problem
        await logged.run("INSERT INTO logged_deeds VALUES (1, 'a')")
        assert len(await read(feed, position, 1)) == 1
