"""What cannot be run is refused before any service is asked, by a message that says what to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import delete, func, insert, literal, select, text, true, update
from sqlalchemy.orm import aliased

from fedorm import (
    AsyncFederatedSession,
    CrossServiceStatementError,
    Federation,
    UnknownColumnError,
    UnknownFunctionError,
    UnknownTableError,
    UnroutedStatementError,
    UnsupportedQueryError,
)
from tests.models import Order, Payment, Product, User


@pytest.fixture
async def db(fresh_database: Callable[[str], str], no_stray_tasks: None) -> AsyncIterator[AsyncFederatedSession]:
    """A session of a federation with a user and two orders; what it has sent is counted."""
    kinds = {"users": "postgresql", "orders": "postgresql", "payments": "mysql", "inventory": "mongodb"}
    async with Federation({service: fresh_database(kind) for service, kind in kinds.items()}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([User(id=1, email="a"), Order(id=1, user_id=1, total=3), Order(id=2, user_id=1, total=5)])
            await session.commit()
        async with fed.session() as session:
            session.info["sent"] = lambda: {name: one.statements for name, one in fed.stats().services.items()}
            yield session


BOTH = "users.users u join orders.orders o on o.user_id = u.id"
REFUSED: list[tuple[str, type[Exception], str]] = [
    # Names that are not there
    ("select 1 from users.userz", UnknownTableError, r"'users\.userz': did you mean users\.users or "),
    ("select 1 from userz", UnknownTableError, r"has a table 'userz': did you mean users\.users\?"),
    ("select 1 from paymants.payments", UnknownTableError, r"did you mean payments\.payments"),
    ("select 1 from inventory.product", UnknownTableError, r"did you mean inventory\.products"),
    ("select * from read_csv, users.users", UnknownTableError, "'read_csv'"),
    ("select nothing from users.users", UnknownColumnError, "column 'nothing' could not be resolved$"),
    ("select emial from users.users u", UnknownColumnError, r"'emial' .*: did you mean u\.email\?"),
    (f"select o.totel from {BOTH}", UnknownColumnError, r"'totel' .*: did you mean o\.total\?"),
    (f"select o.id from {BOTH} where user_di = 1", UnknownColumnError, r"did you mean o\.user_id\?"),
    (f"select x.id from {BOTH}", UnknownColumnError, "nothing in FROM is called 'x', but u, o"),
    (f"select id from {BOTH}", UnknownColumnError, r"'id' .* ambiguous: write u\.id or o\.id"),
    (f"select count(*) over (partition by nope) from {BOTH}", UnknownColumnError, "'nope'"),
    (f"select frobnicate(u.id) from {BOTH}", UnknownFunctionError, "frobnicate"),
    (f"select uper(u.email) from {BOTH}", UnknownFunctionError, r"function uper\(\): did you mean upper"),
    (f"select u.id from {BOTH} where lenght(u.email) > 1", UnknownFunctionError, "length"),
    (f"select o.total from {BOTH} group by u.id", UnsupportedQueryError, "GROUP BY"),
    (f"select upper(u.email, 2, 3) from {BOTH}", UnsupportedQueryError, "number of provided arguments"),
    # Writes
    (
        "insert into users.users (id, email) select id, 'x' from orders.orders",
        UnsupportedQueryError,
        r"INSERT over several services \(orders, users\) is not possible: write to one service at a time",
    ),
    (
        "update users.users u set email = 'x' from orders.orders o where o.user_id = u.id",
        UnsupportedQueryError,
        r"UPDATE over several services \(orders, users\)",
    ),
    (
        "delete from users.users u using orders.orders o where o.user_id = u.id",
        UnsupportedQueryError,
        r"DELETE over several services",
    ),
    ("delete from users.users", UnroutedStatementError, r'DELETE in plain SQL .*=\{"service": "users"\}'),
    ("with d as (delete from users.users returning id) select * from d", UnsupportedQueryError, "DELETE inside of a"),
    (
        "with d as (insert into orders.orders (id) values (9) returning id) select d.id from d, users.users",
        UnsupportedQueryError,
        "INSERT inside of a query is not possible here: .*bind_arguments",
    ),
    (f"select u.id into copied from {BOTH}", UnsupportedQueryError, "SELECT INTO is not possible here"),
    (f"select u.id from {BOTH} for update", UnsupportedQueryError, "FOR UPDATE .* lock the rows at each service"),
    # Definitions
    ("create table users.more (id int)", UnroutedStatementError, r'CREATE in plain SQL .* "users"'),
    ("create table users.more as select * from orders.orders", UnsupportedQueryError, "CREATE over several services"),
    ("drop table users.users", UnroutedStatementError, "DROP in plain SQL"),
    ("truncate users.users", UnroutedStatementError, "TRUNCATE in plain SQL"),
    ("alter table users.users add column x int", UnroutedStatementError, "ALTER in plain SQL"),
    # More than one, or less
    ("select 1 from users.users; drop table users.users", UnsupportedQueryError, "2 statements in one text"),
    (f"select u.id from {BOTH}; select 1", UnsupportedQueryError, "2 statements in one text: run each .* by itself"),
    ("", UnroutedStatementError, "which service"),
    ("-- nothing", UnroutedStatementError, "which service"),
    ("select 1", UnroutedStatementError, "which service"),
    # What cannot be answered
    (
        "with recursive r as (select id from users.users union all select r.id + 1 from r join orders.orders o "
        "on o.id = r.id) select * from r",
        UnsupportedQueryError,
        "WITH RECURSIVE over several services is not supported",
    ),
    (
        "select r.a from read_csv('/etc/passwd') r(a), users.users",
        UnsupportedQueryError,
        r"read_csv\(\) cannot be read",
    ),
    ("select * from duckdb_secrets(), users.users", UnsupportedQueryError, r"duckdb_secrets\(\) cannot be read"),
    (f"select u.id from {BOTH} where u.id = $1", UnsupportedQueryError, "parameters are written :name"),
    # What is no SQL
    ("selec 1 from users.users", UnsupportedQueryError, "cannot be read as SQL: .*bind_arguments"),
    ("select from where", UnsupportedQueryError, "cannot be read as SQL"),
    ("select (1 from users.users, orders.orders", UnsupportedQueryError, "cannot be read as SQL"),
    ("select 'it from users.users, orders.orders", UnsupportedQueryError, "cannot be read as SQL"),
]


async def test_texts(db: AsyncFederatedSession) -> None:
    """Each is refused, nothing is sent, and the session goes on as if nothing had been."""
    sent = db.info["sent"]
    # So that the servers' statistics, which plans are made with, have been asked for.
    await db.explain(text(f"select u.email, o.total from {BOTH} order by 2"))
    before = sent()
    for statement, kind, match in REFUSED:
        with pytest.raises(kind, match=match) as raised:
            await db.execute(text(statement))
        assert (statement, type(raised.value)) == (statement, kind)
        assert (statement, sent()) == (statement, before)
    assert (await db.execute(text(f"select u.email, o.total from {BOTH} order by 2"))).all() == [("a", 3), ("a", 5)]
    assert sent() != before


async def test_statements(db: AsyncFederatedSession) -> None:
    """Writes of SQLAlchemy's that read another service, and locks."""
    sent = db.info["sent"]
    before = sent()
    for statement in (
        insert(User).from_select(["id", "email"], select(Order.id, literal("x"))),
        update(User).where(User.id == Order.user_id).values(email="x"),
        update(User).values(email=select(func.max(Payment.id)).scalar_subquery()),
        delete(User).where(User.id.in_(select(Order.user_id))),
        delete(Order).where(Order.id == select(Product.c.price).scalar_subquery()),
    ):
        with pytest.raises(CrossServiceStatementError, match=r"several services \("):
            await db.execute(statement)
    with pytest.raises(UnsupportedQueryError, match="lock the rows at each service"):
        await db.execute(select(User.id).join(Order, Order.user_id == User.id).with_for_update())
    assert sent() == before


async def test_a_strategy_that_is_not_there(db: AsyncFederatedSession) -> None:
    """The message has those that are."""
    statement = select(User.id).join(Order, Order.user_id == User.id).execution_options(join_strategy="merge")
    with pytest.raises(UnsupportedQueryError, match="join_strategy='merge': one of auto, lookup, hash, nested_loop"):
        await db.execute(statement)


async def test_lateral(db: AsyncFederatedSession) -> None:
    """A query in FROM that refers to what stands beside it is answered rightly."""
    of_user = select(Order.total).where(Order.user_id == User.id).order_by(Order.total.desc()).limit(1).lateral("l")
    largest = select(User.email, of_user.c.total).join(of_user, true())
    assert (await db.execute(largest)).all() == [("a", 5)]
    other = aliased(Order)
    smaller = select(func.count()).where(other.total < Order.total).lateral("smaller")
    ranked = select(User.email, Order.total, smaller.c[0]).join(Order, Order.user_id == User.id).join(smaller, true())
    assert (await db.execute(ranked.order_by(Order.total))).all() == [("a", 3, 0), ("a", 5, 1)]
    plain = text(
        "select u.email, l.n from users.users u left join lateral (select count(*) as n from orders.orders o "
        "where o.user_id = u.id and o.total > 4) l on true"
    )
    assert (await db.execute(plain)).all() == [("a", 1)]
