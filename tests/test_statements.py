"""Statements behave as in a plain session, also where fedorm takes a shorter way."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
import sqlglot
from sqlalchemy import (
    LABEL_STYLE_NONE,
    LABEL_STYLE_TABLENAME_PLUS_COL,
    String,
    Text,
    case,
    cast,
    event,
    func,
    literal,
    select,
    text,
    union_all,
)
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import (
    Mapped,
    Session,
    aliased,
    column_property,
    joinedload,
    mapped_column,
    selectinload,
    with_loader_criteria,
)

from fedorm import AsyncFederatedSession, FederatedBase, Federation, federated_load
from tests.models import Item, Order, Profile, User


class Animal(FederatedBase):
    """A hierarchy in one table, and an attribute whose column has another name."""

    __service__ = "zoo"
    __tablename__ = "animals"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))
    called: Mapped[str | None] = mapped_column("name", Text)


class Cat(Animal):
    __mapper_args__ = {"polymorphic_identity": "cat"}


class Keeper(FederatedBase):
    __service__ = "zoo"
    __tablename__ = "keepers"
    id: Mapped[int] = mapped_column(primary_key=True)
    called: Mapped[str | None] = mapped_column("name", Text)
    age: Mapped[int] = mapped_column()
    in_ten_years: Mapped[int] = column_property(age + 10)


@pytest.fixture
async def zoo(fresh_database: Callable[[str], str]) -> Any:
    async with Federation({"zoo": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        async with fed.session() as session:
            session.add_all([Animal(id=1, called="Rex"), Cat(id=2, called="Tom"), Cat(id=3, called=None)])
            session.add_all([Keeper(id=n, called=f"k{n}", age=30 + n % 3) for n in range(1, 7)])
            await session.commit()
        yield fed


SELECTS: dict[str, Callable[[], Any]] = {
    "columns": lambda: select(Keeper.id, Keeper.age).order_by(Keeper.id),
    "one column": lambda: select(Keeper.age).order_by(Keeper.id),
    "a column with another name": lambda: select(Keeper.id, Keeper.called).order_by(Keeper.id),
    "labels": lambda: select(Keeper.age.label("years"), (Keeper.id * 2).label("twice")).order_by(Keeper.id),
    "a function without a label": lambda: select(func.count(Keeper.id)),
    "groups": lambda: (
        select(Keeper.age, func.count().label("n")).group_by(Keeper.age).having(func.count() > 1).order_by(Keeper.age)
    ),
    "the same column twice": lambda: select(Keeper.id, Keeper.id).order_by(Keeper.id),
    "two tables with one name": lambda: select(Keeper.id, Animal.id).where(Keeper.id == Animal.id).order_by(Keeper.id),
    "a subclass in one table": lambda: select(Cat.id).order_by(Cat.id),
    "a subclass in a label": lambda: select(func.count(Cat.id).label("n")),
    "a subclass in the condition": lambda: select(Keeper.id).where(Keeper.id == Cat.id).order_by(Keeper.id),
    "an alias": lambda: (lambda other: select(other.id, Keeper.age).where(other.id == Keeper.id))(aliased(Keeper)),
    "in a subquery": lambda: select(Keeper.id).where(Keeper.id.in_(select(Cat.id))).order_by(Keeper.id),
    "exists": lambda: select(Keeper.id).where(select(Cat.id).where(Cat.id == Keeper.id).exists()).order_by(Keeper.id),
    "an expression": lambda: select(case((Keeper.age > 31, "old"), else_="young").label("a")).order_by(Keeper.id),
    "a constant": lambda: select(literal(1).label("one"), Keeper.id).order_by(Keeper.id),
    "a cast": lambda: select(cast(Keeper.id, String).label("text")).order_by(Keeper.id),
    "distinct and limit": lambda: select(Keeper.age).distinct().order_by(Keeper.age).limit(2).offset(1),
    "an entity and a column": lambda: select(Keeper, Keeper.age).order_by(Keeper.id),
    "a CTE": lambda: (lambda old: select(old.c.id).order_by(old.c.id))(select(Keeper.id).where(Keeper.age > 31).cte()),
    "a union": lambda: union_all(select(Keeper.id), select(Animal.id)).order_by("id"),
    "an expression with the name of its attribute": lambda: select(Keeper.in_ten_years, Keeper.id).order_by(
        Keeper.in_ten_years, Keeper.id
    ),
    "names with the table's": lambda: (
        select(Keeper.id, Keeper.age.label("years")).set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL).order_by(Keeper.id)
    ),
    "names as they are": lambda: select(Keeper.id, Keeper.age).set_label_style(LABEL_STYLE_NONE).order_by(Keeper.id),
    "a join": lambda: select(Keeper.id, Animal.kind).join(Animal, Animal.id == Keeper.id).order_by(Keeper.id),
}


@pytest.mark.parametrize("name", SELECTS)
async def test_the_same_rows_and_names_as_a_plain_session(zoo: Federation, name: str) -> None:
    """Whatever is selected, values, row types, names and keys are those of SQLAlchemy's own session."""
    build = SELECTS[name]
    engine = AsyncEngine(zoo.stores["zoo"].engine)  # type: ignore[attr-defined]
    async with zoo.session() as session, AsyncSession(engine) as plain:
        got, expected = await session.execute(build()), await plain.execute(build())
        assert list(got.keys()) == list(expected.keys())
        mine, theirs = got.all(), expected.all()
        entity = name == "an entity and a column"
        assert [row[1:] if entity else row for row in mine] == [row[1:] if entity else row for row in theirs]
        assert [row._fields for row in mine] == [row._fields for row in theirs]
        if not entity:
            assert (await session.execute(build())).mappings().all() == (await plain.execute(build())).mappings().all()
            assert (await session.scalars(build())).all() == (await plain.scalars(build())).all()


async def test_columns_alone_skip_the_orm(zoo: Federation) -> None:
    """The shorter way is taken: the result is the cursor's own."""
    async with zoo.session() as session:
        await session.run_sync(lambda inner: _is_cursor(inner, select(Keeper.id), True))
        await session.run_sync(lambda inner: _is_cursor(inner, select(Cat.id), False))


def _is_cursor(session: Session, statement: Any, expected: bool) -> None:
    result = session.execute(statement)
    assert isinstance(result, CursorResult) is expected
    result.all()


async def test_rows_know_columns_and_attributes(zoo: Federation) -> None:
    """A row's mapping takes the attribute that was selected."""
    async with zoo.session() as session:
        row = (await session.execute(select(Keeper.id, Keeper.age).where(Keeper.id == 1))).one()
        assert (row._mapping[Keeper.id], row._mapping[Keeper.__table__.c.age], row.age) == (1, 31, 31)


async def test_values_that_cannot_be_unique(zoo: Federation) -> None:
    """The error is the ORM's."""
    async with zoo.session() as session:
        result = await session.execute(select(func.array_agg(Keeper.id).label("ids")))
        with pytest.raises(InvalidRequestError, match="non-hashable"):
            result.unique().all()


async def test_listeners_may_change_selects_of_columns(zoo: Federation) -> None:
    """Criteria that a session's own listener adds hold for columns as for entities."""
    async with zoo.session() as session:

        @event.listens_for(session.sync_session, "do_orm_execute")
        def only_old(state: Any) -> None:
            state.statement = state.statement.options(with_loader_criteria(Keeper, Keeper.age > 31))

        assert (await session.scalars(select(Keeper.id).order_by(Keeper.id))).all() == [2, 5]
        assert len((await session.scalars(select(Keeper))).all()) == 2


async def test_autoflush_before_selecting_columns(zoo: Federation) -> None:
    """Pending rows are written first, unless that is switched off."""
    async with zoo.session() as session:
        session.add(Keeper(id=50, called="new", age=1))
        statement = select(Keeper.id).where(Keeper.id == 50)
        assert (await session.scalars(statement, execution_options={"autoflush": False})).all() == []
        with session.no_autoflush:
            assert (await session.scalars(statement)).all() == []
        assert (await session.scalars(statement)).all() == [50]


async def test_parameters_and_partitions_of_columns(zoo: Federation) -> None:
    """Bound parameters, yield_per and streaming work on the shorter way."""
    async with zoo.session() as session:
        from sqlalchemy import bindparam

        statement = select(Keeper.id).where(Keeper.age == bindparam("age")).order_by(Keeper.id)
        assert (await session.scalars(statement, {"age": 31})).all() == [1, 4]
        result = await session.stream(select(Keeper.id).order_by(Keeper.id).execution_options(yield_per=4))
        assert [[row.id for row in part] async for part in result.partitions()] == [[1, 2, 3, 4], [5, 6]]


async def test_federated_load_beside_other_loaders(session: AsyncFederatedSession) -> None:
    """Joined, select-in and federated loading in one statement; unique() is asked for as always."""
    session.add_all([User(id=1, email="x"), Profile(id=1, user_id=1, bio="b")])
    session.add(Order(id=1, user_id=1, items=[Item(id=1, sku="a"), Item(id=2, sku="b")]))
    await session.commit()
    for loader in (joinedload, selectinload):
        session.expunge_all()
        statement = select(Order).options(loader(Order.items), federated_load(Order.user, User.profile))
        orders = (await session.scalars(statement)).unique().all()
        assert [item.sku for item in orders[0].items] == ["a", "b"]
        assert orders[0].user.profile.bio == "b"


async def test_the_users_own_loader_goes_before(session: AsyncFederatedSession) -> None:
    """A path through a relationship that other options load already takes what they load."""
    session.add_all([User(id=1, email="x"), Order(id=1, user_id=1, items=[Item(id=1, sku="a")])])
    await session.commit()
    path = federated_load(Item.order, Order.user)
    for options in (
        [joinedload(Item.order), path],
        [path, joinedload(Item.order)],
        [selectinload(Item.order).joinedload(Order.items), path],
        [joinedload(Item.order).load_only(Order.user_id), path],
    ):
        session.expunge_all()
        item = (await session.scalars(select(Item).options(*options))).unique().one()
        assert item.order.user.email == "x"


async def test_the_legacy_query_knows_federated_relationships(session: AsyncFederatedSession) -> None:
    """Query's own ways of execution lead to the same place."""
    session.add_all([User(id=1, email="x"), Order(id=1, user_id=1)])
    await session.commit()

    def work(inner: Session) -> None:
        query = inner.query(Order).options(federated_load(Order.user))
        assert query.one().user.email == "x"
        assert query.first() is query.all()[0]
        assert inner.query(Order.id).filter(Order.id > 0).all() == [(1,)]
        assert inner.query(func.count(Order.id)).scalar() == 1

    await session.run_sync(work)


async def test_the_garbage_collector_is_on_after_a_load(session: AsyncFederatedSession) -> None:
    """It rests while rows become objects, and goes on afterwards, also after a failure."""
    session.add_all([User(id=1, email="x"), Order(id=1, user_id=1), Order(id=2, user_id=404)])
    await session.commit()
    await session.scalars(select(Order).options(federated_load(Order.user)))
    assert gc.isenabled()
    with pytest.raises(LookupError):
        await session.scalars(select(Order).options(federated_load(Order.owner)))
    assert gc.isenabled()


async def test_what_sqlglot_cannot_read(sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A text that is sent as it is does not make it warn; whoever uses it beside fedorm is warned as before."""
    async with Federation({"warned": sqlite_url}) as fed, fed.session() as session:
        await session.execute(text("ANALYZE; -- for nobody"), bind_arguments={"service": "warned"})
        await session.execute(text("EXPLAIN QUERY PLAN SELECT 1, 'unheard'"), bind_arguments={"service": "warned"})
    assert [record.getMessage() for record in caplog.records] == []
    with caplog.at_level(logging.WARNING, "sqlglot"):
        sqlglot.parse("CALL something()", read="postgres")
    assert len(caplog.records) == 1
