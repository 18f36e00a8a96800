"""Results in Redis: shared by processes, outlived by the statements that use them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, text, update

from fedorm import ConfigurationError, Federation
from fedorm.cache.codec import UnknownTypeError, decode, encode
from fedorm.cache.rows import Rows
from fedorm.testing.servers import RedisServer
from tests.models import Order, Payment, Product, User
from tests.test_cache import CACHED, ask, sent

pytest.importorskip("dogpile.cache")


@pytest.fixture
async def pair(urls: dict[str, str], redis_url: str) -> AsyncIterator[tuple[Federation, Federation]]:
    """Two federations over the same services and the same Redis, as in two processes."""
    async with Federation(urls, cache_url=redis_url) as one, Federation(urls, cache_url=redis_url) as other:
        await one.create_all()
        async with one.session() as session:
            session.add_all([User(id=1, email="ada"), Order(id=1, user_id=1, total=Decimal("1.50"))])
            session.add_all([Product(sku="a", price=1.5, labels=["x"]), Payment(order_id=1, amount=Decimal(3))])
            await session.commit()
        yield one, other


async def test_what_one_process_has_read_another_is_given(pair: tuple[Federation, Federation]) -> None:
    """Rows of one service and of several, entities and documents; a commit by either drops them for both."""
    one, other = pair
    both = select(User.email, Order.total, Product.c.labels, Payment.id).where(
        Order.user_id == User.id, Payment.order_id == Order.id
    )
    plain = select(User).order_by(User.id)
    expected = await ask(one, both)
    assert [type(value) for value in expected[0]][:3] == [str, Decimal, list]
    await ask(one, plain)
    await ask(other, both)
    with sent(other, "users", "orders", "inventory", "payments") as counts:
        assert await ask(other, both) == expected
        async with other.session() as session:
            assert [user.email for user in await session.scalars(plain, execution_options=CACHED)] == ["ada"]
    assert counts == [0, 0, 0, 0]
    async with other.session() as session:
        await session.execute(update(User).values(email="changed"))
        await session.commit()
    assert (await ask(one, both))[0][0] == "changed"
    assert (await ask(other, plain))[0][0].email == "changed"


async def test_federations_with_different_addresses(
    fresh_database: Callable[[str], str], redis_url: str, tmp_path: Path
) -> None:
    """The same statements over databases of the same name elsewhere have rows of their own."""
    for number in (1, 2):
        services = {"users": fresh_database("postgresql"), "orders": f"sqlite+aiosqlite:///{tmp_path / str(number)}"}
        async with Federation(services, cache_url=redis_url) as fed:
            await fed.create_all()
            async with fed.session() as session:
                session.add_all([User(id=number, email=f"u{number}"), Order(id=number, user_id=number)])
                await session.commit()
            for _ in range(2):
                assert await ask(fed, select(User.id)) == [(number,)]
                assert await ask(fed, select(Order.id)) == [(number,)]
                both = select(User.email, Order.id).join(Order, Order.user_id == User.id)
                assert await ask(fed, both) == [(f"u{number}", number)]
            assert fed.stats().cache.hits == 3


async def test_a_snapshot_older_than_a_commit_of_another_process(pair: tuple[Federation, Federation]) -> None:
    """Its rows are not kept for others."""
    one, other = pair
    statement = select(Payment.amount)
    async with one.session() as old:
        await old.execute(select(Payment.order_id))
        async with other.session() as session:
            await session.execute(update(Payment).values(amount=4))
            await session.commit()
        assert (await old.scalars(statement, execution_options=CACHED)).all() == [3]
    assert await ask(one, statement) == await ask(other, statement) == [(4,)]


async def test_values_come_back_as_they_were(pair: tuple[Federation, Federation]) -> None:
    """Every kind of value a driver gives, in value and type."""
    one, other = pair
    values = text(
        "SELECT 1::numeric(9,3), 'NaN'::float8, '-infinity'::float8, true, NULL, 'ü😀'::text, '\\x00ff'::bytea, "
        "date '2026-01-02', timestamp '2026-01-02 03:04:05.678901', timestamptz '2026-01-02 03:04:05+02', "
        "time '01:02:03.4', interval '1 day 2 hours', 2^40::int8, 12345678901234567890::numeric, ARRAY[1, NULL, 3], "
        "'{\"a\": [1, 2.5, null]}'::jsonb, timetz '01:02:03+02', '0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b'::uuid "
        "FROM users"
    )

    async def read(fed: Federation) -> list[object]:
        async with fed.session() as session:
            found = await session.execute(values, bind_arguments={"service": "users"}, execution_options=CACHED)
            return list(found.one())

    first = await read(one)
    with sent(other, "users") as counts:
        again = await read(other)
    assert counts == [0]
    assert again[:1] + again[3:] == first[:1] + first[3:]
    assert [repr(value) for value in again[:-1]] == [repr(value) for value in first[:-1]]


def test_nothing_but_values_is_written_or_read() -> None:
    """A type that is not a driver's usual one is refused; what is read runs no code, whatever it says."""
    rows = Rows((("a", 1),), [(Decimal("1.0"), [1, (2, b"x")], {"a": None, 1: "b"})])
    data = encode(rows, [7])
    assert decode(data, [7]) == rows
    assert decode(data, [8]) is None
    assert data.startswith(b"[1,[7],")
    with pytest.raises(UnknownTypeError, match="object are not kept"):
        encode(Rows((("a",),), [(object(),)]), [7])
    for wrong in (b"", b"nonsense", b"[1]", b'[1,[7],[["a"]],[[{"__reduce__":[]}]]]', b"\x80\x04.", b'{"a":1}'):
        with pytest.raises(ValueError, match=r"."):
            decode(wrong, [7])


async def test_an_entry_that_is_not_ours(
    pair: tuple[Federation, Federation], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It is ignored, and the statement sent."""
    one, _ = pair
    statement = select(User.email)
    await ask(one, statement)
    with redis_server.admin.client() as client:
        for name in client.scan_iter("fedorm:rows:*"):
            client.set(name, b"\x80\x04nonsense")
    with caplog.at_level(logging.WARNING, "fedorm.cache"), sent(one, "users") as counts:
        assert await ask(one, statement) == [("ada",)]
    assert counts == [1]
    assert "ignored an entry" in caplog.text
    assert redis_server.password not in caplog.text


async def test_entries_have_an_end(pair: tuple[Federation, Federation], redis_server: RedisServer) -> None:
    """Redis itself drops what is too old; forget() drops what it is told."""
    one, other = pair
    with redis_server.admin.client() as client:
        await one.forget()
        await ask(one, select(User.email))
        (name,) = client.scan_iter("fedorm:rows:*")
        assert 290 < client.ttl(name) <= 300
        assert all(0 < client.ttl(table) <= 7 * 86400 for table in client.scan_iter("fedorm:table:*"))
        await other.forget(User)
        with sent(one, "users") as counts:
            await ask(one, select(User.email))
        assert counts == [1]
        await other.forget()
        assert list(client.scan_iter("fedorm:rows:*")) == []


async def test_generations_that_redis_has_lost(pair: tuple[Federation, Federation], redis_server: RedisServer) -> None:
    """What was read before counts as changed: nothing that is too old comes back with them."""
    one, _ = pair
    statement = select(User.email)
    await ask(one, statement)
    with redis_server.admin.client() as client:
        client.delete("fedorm:clock", *client.scan_iter("fedorm:table:*"))
    with sent(one, "users") as counts:
        await ask(one, statement)
        await ask(one, statement)
    assert counts == [1]


async def test_without_redis_statements_are_sent(
    urls: dict[str, str], caplog: pytest.LogCaptureFixture, no_stray_tasks: None
) -> None:
    """With a warning and without an error; changes made meanwhile are told when it is back."""
    statement = select(User.email).order_by(User.id)
    with RedisServer() as server:
        async with Federation(urls, cache_url=server.url()) as fed:
            await fed.create_all()
            async with fed.session() as session:
                session.add(User(id=1, email="ada"))
                await session.commit()
            assert await ask(fed, statement) == [("ada",)]
            server.kill()
            with caplog.at_level(logging.WARNING, "fedorm.cache"), sent(fed, "users") as counts:
                assert await ask(fed, statement) == await ask(fed, statement) == [("ada",)]
                async with fed.session() as session:
                    await session.execute(insert(User), [{"id": 2, "email": "bob"}])
                    await session.commit()
                assert await ask(fed, statement) == [("ada",), ("bob",)]
            assert counts == [4]
            assert caplog.text.count("does not answer") == 1
            assert server.password not in caplog.text
            server.restart()
            while (hits := fed.stats().cache.hits) < 3:
                assert await ask(fed, statement) == [("ada",), ("bob",)]
                await asyncio.sleep(0.05)
            assert hits == 3


async def test_a_change_that_redis_did_not_hear_of(urls: dict[str, str], no_stray_tasks: None) -> None:
    """It comes back with what it had kept: the change is told before anything is read."""
    statement = select(User.email)
    with RedisServer() as server:
        async with Federation(urls, cache_url=server.url()) as fed:
            await fed.create_all()
            async with fed.session() as session:
                session.add(User(id=1, email="ada"))
                await session.commit()
            assert await ask(fed, statement) == [("ada",)]
            server.suspend()
            try:
                async with fed.session() as session:
                    await session.execute(update(User).values(email="changed"))
                    await session.commit()
            finally:
                server.resume()
            hits = fed.stats().cache.hits
            while fed.stats().cache.hits < hits + 2:
                assert await ask(fed, statement) == [("changed",)]
                await asyncio.sleep(0.05)


async def test_waiting_for_redis_does_not_block_the_loop(urls: dict[str, str], no_stray_tasks: None) -> None:
    """Other tasks go on while it does not answer."""
    with RedisServer() as server:
        async with Federation(urls, cache_url=server.url()) as fed:
            await fed.create_all()
            await ask(fed, select(func.count()).select_from(User))
            server.suspend()
            try:
                asking = asyncio.create_task(ask(fed, select(User.id)))
                ticks = 0
                while not asking.done():
                    await asyncio.sleep(0.01)
                    ticks += 1
                assert await asking == []
                assert ticks > 20
            finally:
                server.resume()


def test_in_threads(urls: dict[str, str], redis_url: str) -> None:
    """Sessions for threads use it, too."""
    with Federation({"users": urls["users"]}, cache_url=redis_url) as fed:
        with fed.sync_session() as session:
            session.execute(text("CREATE TABLE t AS SELECT 1 AS id"), bind_arguments={"service": "users"})
            session.commit()
        for _ in range(2):
            with fed.sync_session() as session:
                found = session.execute(
                    text("SELECT id FROM t"), bind_arguments={"service": "users"}, execution_options=CACHED
                )
                assert found.scalars().all() == [1]
        assert fed.stats().cache.hits == 1
        fed.sync_forget()


def test_a_url_that_is_none() -> None:
    """The error repeats no password."""
    with pytest.raises(ConfigurationError) as raised:
        Federation({"users": "sqlite+aiosqlite://"}, cache_url="http://user:s3cret@host/0")
    assert "s3cret" not in str(raised.value)
    assert "not the URL of a Redis" in str(raised.value)
