"""Results are given again until they are too old, or a commit has changed what they were read from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, literal, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import joinedload, selectinload

from fedorm import Federation, federated_load
from fedorm.cache.codec import digest
from fedorm.cache.memory import MemoryCache
from fedorm.cache.rows import Rows
from fedorm.catalog import catalog
from tests.models import Item, Order, Payment, Product, Profile, User

CACHED = {"cache_ttl": 300}


@pytest.fixture
async def shop(fed: Federation) -> Federation:
    """Two users, two orders, two products."""
    async with fed.session() as session:
        session.add_all([User(id=1, email="ada", country="DE"), User(id=2, email="bob", country="FR")])
        session.add_all([Order(id=1, user_id=1, total=Decimal("1.50")), Order(id=2, user_id=2, total=Decimal(2))])
        session.add_all([Product(sku="a", price=1.5), Product(sku="b", price=2.5)])
        await session.commit()
    return fed


@contextmanager
def sent(fed: Federation, *services: str) -> Iterator[list[int]]:
    """Count what is sent to services inside the block."""
    before = {name: fed.stats().services[name].statements for name in services}
    counts: list[int] = []
    yield counts
    counts.extend(fed.stats().services[name].statements - before[name] for name in services)


async def ask(fed: Federation, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
    async with fed.session() as session:
        return [tuple(row) for row in await session.execute(statement, parameters, execution_options=CACHED)]


async def test_nothing_is_kept_unless_it_is_asked_for(shop: Federation) -> None:
    """Each plain statement is sent, and the cache does not hear of it."""
    with sent(shop, "users") as counts:
        for _ in range(2):
            async with shop.session() as session:
                await session.scalars(select(User.email))
    assert counts == [2]
    assert (shop.stats().cache.hits, shop.stats().cache.misses, shop.stats().cache.entries) == (0, 0, 0)


async def test_one_service(shop: Federation) -> None:
    """The option of a call, or of a statement: the rows come again, and nothing is sent."""
    statement = select(User.id, User.email).order_by(User.id)
    with sent(shop, "users") as counts:
        first = await ask(shop, statement)
        again = await ask(shop, statement)
        async with shop.session() as session:
            own = (await session.execute(statement.execution_options(cache_ttl=300))).mappings().all()
    assert first == again == [(1, "ada"), (2, "bob")]
    assert [dict(row) for row in own] == [{"id": 1, "email": "ada"}, {"id": 2, "email": "bob"}]
    assert counts == [1]
    assert (shop.stats().cache.hits, shop.stats().cache.misses, shop.stats().cache.hit_rate) == (2, 1, 2 / 3)


async def test_several_services(shop: Federation) -> None:
    """Rows joined from tables and documents come again without any of them being asked."""
    statement = (
        select(User.email, Order.total, Product.c.price)
        .join(Order, Order.user_id == User.id)
        .join(Product, Product.c.sku == "a")
        .order_by(Order.id)
    )
    with sent(shop, "users", "orders", "inventory") as first:
        expected = await ask(shop, statement)
    assert expected == [("ada", Decimal("1.50"), 1.5), ("bob", Decimal("2.00"), 1.5)]
    assert all(first)
    with sent(shop, "users", "orders", "inventory") as again:
        assert await ask(shop, statement) == expected
    assert again == [0, 0, 0]


async def test_text(shop: Federation) -> None:
    """Plain SQL over several services, over one by its name, and by its bind."""
    joined = text("select u.email, o.total from users.users u join orders.orders o on o.user_id = u.id order by 1")
    one = text("select email from users.users where id = :id")
    expected = [("ada", Decimal("1.50")), ("bob", Decimal("2.00"))]
    assert await ask(shop, joined) == expected
    assert [await ask(shop, one, {"id": id_}) for id_ in (1, 2)] == [[("ada",)], [("bob",)]]
    with sent(shop, "users", "orders") as counts:
        assert await ask(shop, joined) == expected
        assert [await ask(shop, one, {"id": id_}) for id_ in (1, 2)] == [[("ada",)], [("bob",)]]
    assert counts == [0, 0]
    with sent(shop, "orders") as direct:
        for _ in range(2):
            async with shop.session() as session:
                found = await session.execute(
                    text("SELECT total FROM orders WHERE id = :id"),
                    {"id": 2},
                    bind_arguments={"service": "orders"},
                    execution_options=CACHED,
                )
                assert found.scalars().all() == [Decimal("2.00")]
    assert direct == [1]


async def test_entities_belong_to_the_session_that_asks(shop: Federation) -> None:
    """The values are kept; each session makes its own objects of them, or finds those that it has."""
    statement = select(User).order_by(User.id).execution_options(**CACHED)
    async with shop.session() as session:
        first = (await session.scalars(statement)).all()
    with sent(shop, "users") as counts:
        async with shop.session() as session:
            known = await session.get(User, 2)
            assert known is not None
            known.email = "changed here"
            again = (await session.scalars(statement.execution_options(autoflush=False))).all()
            assert [user.email for user in again] == ["ada", "changed here"]
            assert again[1] is known
            assert again[0] in session
            assert again[0] is not first[0]
    assert counts == [1]
    async with shop.session() as session:
        fresh = (await session.scalars(statement)).all()
        fresh[0].country = "IT"
        await session.commit()
    async with shop.session() as session:
        assert (await session.get_one(User, 1)).country == "IT"


async def test_relationships_of_cached_entities(shop: Federation) -> None:
    """Joined, selected and federated loads go with the statement; what they read drops it, too."""
    async with shop.session() as session:
        session.add_all([Item(id=1, order_id=1, sku="a"), Profile(id=1, user_id=1, bio="x")])
        await session.commit()
    joined = select(User).options(joinedload(User.profile)).order_by(User.id)
    selected = select(Order).options(selectinload(Order.items), federated_load(Order.user)).order_by(Order.id)

    async def read() -> tuple[list[Any], list[Any]]:
        async with shop.session() as session:
            users = (await session.scalars(joined, execution_options=CACHED)).unique().all()
            orders = (await session.scalars(selected, execution_options=CACHED)).all()
            profiles = [user.profile.bio if user.profile else None for user in users]
            return profiles, [([item.sku for item in order.items], order.user.email) for order in orders]

    expected = ["x", None], [(["a"], "ada"), ([], "bob")]
    assert await read() == expected
    assert await read() == expected
    async with shop.session() as session:
        session.add_all([Profile(id=2, user_id=2, bio="y"), Item(id=2, order_id=2, sku="b")])
        (await session.get_one(User, 2)).email = "rob"
        await session.commit()
    assert await read() == (["x", "y"], [(["a"], "ada"), (["b"], "rob")])


async def test_documents(shop: Federation) -> None:
    """A select of documents, scalars and mappings; a list among the values is each taker's own."""
    statement = select(Product.c.sku, Product.c.labels).order_by(Product.c.sku)
    skus = select(Product.c.sku).order_by(Product.c.sku)
    (await ask(shop, statement))[0][1].append("mine")
    (await ask(shop, statement))[0][1].append("mine, too")
    assert await ask(shop, skus) == [("a",), ("b",)]
    with sent(shop, "inventory") as counts:
        async with shop.session() as session:
            found = await session.execute(statement, execution_options=CACHED)
            assert [dict(row) for row in found.mappings()] == [{"sku": "a", "labels": []}, {"sku": "b", "labels": []}]
            assert (await session.scalars(skus, execution_options=CACHED)).all() == ["a", "b"]
            assert (await session.scalar(skus, execution_options=CACHED)) == "a"
    assert counts == [0]


def test_without_async(urls: dict[str, str]) -> None:
    """Sessions for threads have the same cache."""
    with Federation(urls) as fed:
        for name in ("users", "orders", "payments"):
            catalog.metadata(name).create_all(fed.stores[name].sync_engine)  # type: ignore[attr-defined]
        with fed.sync_session() as session:
            session.add_all([User(id=1, email="ada"), Payment(order_id=1, amount=Decimal(3))])
            session.commit()
        both = select(User.email, Payment.amount).join(Payment, Payment.order_id == User.id)

        def read() -> list[tuple[Any, ...]]:
            with fed.sync_session() as session:
                emails = session.scalars(select(User.email), execution_options=CACHED).all()
                return [tuple(emails), *map(tuple, session.execute(both, execution_options=CACHED))]

        assert read() == [("ada",), ("ada", Decimal(3))]
        with sent(fed, "users", "payments") as counts:
            assert read() == [("ada",), ("ada", Decimal(3))]
        assert counts == [0, 0]
        with fed.sync_session() as session:
            session.execute(update(Payment).values(amount=4))
            session.commit()
        assert read() == [("ada",), ("ada", Decimal(4))]


# -- the key


@pytest.mark.parametrize("kind", [1, 1.0, True, Decimal(1), "1", b"1", None, UUID(int=1)])
def test_values_of_different_types_are_different(kind: Any) -> None:
    """Equal values of other types than the first never get its rows."""
    others = [1, 1.0, True, Decimal(1), Decimal("1.0"), "1", b"1", None, UUID(int=1), [1], (1,), {"1": 1}]
    same = [other for other in others if digest("sql", [other]) == digest("sql", [kind])]
    assert [type(one) for one in same] == [type(kind)]
    assert digest("a", "bc") != digest("ab", "c")
    assert digest(["a", "b"]) != digest(["a, b"])


async def test_all_parameters_are_a_part_of_the_key(tmp_path: Path) -> None:
    """Those that are bound, those that SQLAlchemy makes of literals, lists of any length, and limits."""
    async with Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'u.db'}"}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([User(id=n, email=f"u{n}") for n in range(1, 5)])
            await session.commit()
        base = select(User.id).order_by(User.id)
        cases = {
            base.where(User.id == 1): [1],
            base.where(User.id == 2): [2],
            base.where(User.id.in_([1, 2])): [1, 2],
            base.where(User.id.in_([1, 2, 3])): [1, 2, 3],
            base.limit(1): [1],
            base.limit(2): [1, 2],
            base.limit(2).offset(1): [2, 3],
        }
        for _ in range(2):
            for statement, expected in cases.items():
                assert [id_ for (id_,) in await ask(fed, statement)] == expected
        assert (fed.stats().cache.misses, fed.stats().cache.hits) == (7, 7)
        kinds = select(func.typeof(literal(1)), User.id).where(User.id == 1)
        assert await ask(fed, kinds) == [("integer", 1)]
        assert await ask(fed, select(func.typeof(literal(1.0)), User.id).where(User.id == 1)) == [("real", 1)]
        assert await ask(fed, select(func.typeof(literal("1")), User.id).where(User.id == 1)) == [("text", 1)]


# -- what is not kept


async def test_streams_and_locks_are_not_kept(shop: Federation) -> None:
    """Rows that come one by one, rows that are locked, and what changes something while it asks."""
    statement = select(User.id, User.email).execution_options(**CACHED)
    with sent(shop, "users") as counts:
        for _ in range(2):
            async with shop.session() as session:
                assert len([row async for row in await session.stream(statement)]) == 2
                by_one = await session.stream_scalars(statement.execution_options(yield_per=1))
                assert len(await by_one.all()) == 2
                assert len((await session.execute(statement.with_for_update())).all()) == 2
                await session.execute(
                    select(func.set_config("app.tenant", "7", False), User.id), execution_options=CACHED
                )
    assert counts == [8]
    assert shop.stats().cache.entries == 0


async def test_an_error_is_not_kept(shop: Federation) -> None:
    """The statement is sent again, and then answers."""
    statement = text("select id from later").columns()
    for _ in range(2):
        async with shop.session() as session:
            with pytest.raises(DBAPIError):
                await session.execute(statement, bind_arguments={"service": "users"}, execution_options=CACHED)
    async with shop.session() as session:
        await session.execute(text("create table later as select 1 as id"), bind_arguments={"service": "users"})
        await session.commit()
        found = await session.execute(statement, bind_arguments={"service": "users"}, execution_options=CACHED)
        assert found.scalars().all() == [1]


async def test_streams_over_several_services_are_not_kept(shop: Federation) -> None:
    """As those of one service."""
    both = select(User.email, Order.total).join(Order, Order.user_id == User.id).execution_options(**CACHED)
    for _ in range(2):
        async with shop.session() as session:
            assert len([row async for row in await session.stream(both)]) == 2
    assert (shop.stats().cache.entries, shop.stats().cache.misses) == (0, 0)


@pytest.mark.parametrize("wrong", [-1, True, "60", float("inf"), float("nan")])
async def test_what_is_no_time(shop: Federation, wrong: Any) -> None:
    """It is refused before anything is sent, over one service as over several."""
    both = select(User.email, Order.total).join(Order, Order.user_id == User.id)
    for statement in (select(User.id), both):
        async with shop.session() as session:
            with pytest.raises(ArgumentError, match="cache_ttl"):
                await session.execute(statement, execution_options={"cache_ttl": wrong})


async def test_settings_of_the_transaction(shop: Federation) -> None:
    """What a session has set may change what it sees: it is given nothing of others', and they nothing of it."""
    statement = text("SELECT email FROM users WHERE id = 1 AND current_setting('app.tenant', true) = '7'")

    async def read(*settings: str) -> list[Any]:
        async with shop.session() as session:
            for setting in settings:
                await session.execute(text(setting), bind_arguments={"service": "users"})
            found = await session.scalars(statement, bind_arguments={"service": "users"}, execution_options=CACHED)
            return list(found)

    assert await read() == []
    assert await read("SET LOCAL app.tenant = '7'") == ["ada"]
    assert await read("SELECT set_config('app.tenant', '7', true)") == ["ada"]
    assert await read() == []


# -- defaults


async def test_a_default_for_the_federation(shop: Federation, urls: dict[str, str]) -> None:
    """It holds for what a session is given to execute; get(), refresh() and lazy loads read anew."""
    async with Federation(urls, cache_ttl=300) as fed:
        with sent(fed, "users") as counts:
            for _ in range(2):
                async with fed.session() as session:
                    assert len((await session.scalars(select(User))).all()) == 2
        assert counts == [1]
        with sent(fed, "users") as fresh:
            async with fed.session() as session:
                assert len((await session.scalars(select(User), execution_options={"cache_ttl": None})).all()) == 2
                user = await session.get_one(User, 1)
                await session.refresh(user)
                assert len((await session.scalars(select(User).execution_options(cache_ttl=0))).all()) == 2
            async with fed.session(cache_ttl=None) as session:
                assert len((await session.scalars(select(User))).all()) == 2
        assert fresh == [5]


async def test_settings_in_a_file(tmp_path: Path) -> None:
    """The table [cache] of the TOML file, which arguments override."""
    file = tmp_path / "fedorm.toml"
    file.write_text(
        f'[services.users]\nurl = "sqlite+aiosqlite:///{tmp_path / "u.db"}"\n'
        "[cache]\nttl = 60\nentries = 5\nbytes = 1000000\n"
    )
    fed = Federation.from_file(file)
    assert fed.cache.default_ttl == 60
    async with fed:
        await fed.create_all()
        for number in range(9):
            async with fed.session() as session:
                await session.execute(select(User.id).where(User.id == number))
        assert (fed.stats().cache.entries, fed.stats().cache.evicted) == (5, 4)


# -- bounds


async def test_size_is_bounded(tmp_path: Path) -> None:
    """What was used last stays; a result that is larger than all may be is not kept at all."""
    services = {"users": f"sqlite+aiosqlite:///{tmp_path / 'u.db'}"}
    async with Federation(services, cache_bytes=20_000) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([User(id=n, email="x" * 1000) for n in range(100)])
            await session.commit()
        await ask(fed, select(User.email))
        assert fed.stats().cache.entries == 0
        for number in range(50):
            await ask(fed, select(User.email).where(User.id == number))
            await ask(fed, select(User.email).where(User.id == 0))
        figures = fed.stats().cache
        assert figures.bytes is not None
        assert figures.entries is not None
        assert 10_000 < figures.bytes <= 20_000
        assert figures.evicted == 50 - figures.entries
        assert figures.hits == 50


async def test_age_is_bounded(tmp_path: Path) -> None:
    """When its time has come a statement is sent again."""
    async with Federation({"users": f"sqlite+aiosqlite:///{tmp_path / 'u.db'}"}) as fed:
        await fed.create_all()
        statement = select(User.id).execution_options(cache_ttl=0.001)
        with sent(fed, "users") as counts:
            for _ in range(3):
                async with fed.session() as session:
                    await session.execute(statement)
                await asyncio.sleep(0.01)
        assert counts == [3]


def test_tables_without_end() -> None:
    """What is known of tables is bounded, too; what was read before never counts again."""
    cache, rows = MemoryCache(entries=10, size=10_000), Rows((("id",),), [(1,)])
    before = cache.look("key", ["kept"])
    cache.keep("key", rows, before.generations, 60)
    assert cache.look("key", ["kept"]).rows == rows
    for number in range(10_001):
        cache.changed([f"t{number}"])
    assert cache.look("key", ["kept"]).rows is None
    cache.keep("key", rows, before.generations, 60)
    assert cache.look("key", ["kept"]).rows is None
    cache.keep("key", rows, cache.look("key", ["kept"]).generations, 60)
    assert cache.look("key", ["kept"]).rows == rows
