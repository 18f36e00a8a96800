"""Relationships across services: every shape, over every pair of stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from beanie import PydanticObjectId
from sqlalchemy import Engine, event, insert, select, text
from sqlalchemy.exc import ProgrammingError

from fedorm import (
    AsyncFederatedSession,
    DetachedError,
    FederatedLazyLoadError,
    Federation,
    MissingTargetError,
    RelationshipError,
    UnloadedKeyError,
    federated_load,
)
from tests.models import (
    Card,
    Employee,
    Event,
    Item,
    Order,
    Parcel,
    Payment,
    Product,
    Profile,
    Review,
    Supplier,
    Tag,
    User,
    user_tags,
    wishes,
)


@pytest.fixture
async def data(fed: Federation) -> None:
    """Three users, four orders (one without a user), products of two suppliers, reviews, events, tags."""
    suppliers = [Supplier(id=PydanticObjectId(f"{n:024x}"), name=f"supplier {n}") for n in (1, 2)]
    async with fed.session() as session:
        session.add_all([User(id=n, email=f"u{n}@example.com", country="DE") for n in (1, 2, 3)])
        session.add(Profile(id=1, user_id=1, bio="first"))
        session.add_all(
            [
                Order(id=1, user_id=1, total=Decimal(50), items=[Item(id=1, sku="a"), Item(id=2, sku="b")]),
                Order(id=2, user_id=1, total=Decimal(150)),
                Order(id=3, user_id=2, total=Decimal(200), items=[Item(id=3, sku="a")]),
                Order(id=4, user_id=None, total=Decimal(1), items=[Item(id=4, sku="gone")]),
            ]
        )
        session.add_all([Card(id=1, user_id=2), Card(id=2, user_id=None)])
        session.add_all(suppliers)
        session.add_all(
            [
                Product(sku="a", price=1.0, supplier_id=suppliers[0].id),
                Product(sku="b", price=2.0, supplier_id=suppliers[1].id),
                Product(sku="c", price=3.0),
            ]
        )
        session.add_all([Review(user_id=1, stars=3), Review(user_id=1, stars=5), Review(user_id=9, stars=1)])
        session.add_all([Event(id=1, user_id=1, kind="click"), Event(id=2, user_id=1, kind="buy")])
        session.add_all([Tag(id=1, name="vip"), Tag(id=2, name="new"), Tag(id=3, name="big")])
        session.add(Parcel(user_id=1, order_id=1, weight=7))
        session.add(Payment(order_id=1, amount=Decimal("9.50")))
        session.add_all([Employee(id=1, boss_id=None), Employee(id=2, boss_id=1), Employee(id=3, boss_id=1)])
        await session.flush()
        pairs = [(1, 1), (1, 2), (2, 1), (2, 3)]
        pairs_of_wishes = [(1, "a"), (1, "b"), (1, "gone"), (2, "b"), (404, "c")]
        await session.execute(insert(wishes), [{"user_id": user, "sku": sku} for user, sku in pairs_of_wishes])
        await session.execute(insert(user_tags), [{"user_id": user, "tag_id": tag} for user, tag in pairs])
        await session.commit()


class Statements(list[tuple[str, str]]):
    """The statements that were sent, each with its database."""

    def of(self, table: str) -> int:
        return sum(f"FROM {table}" in text.replace("`", "").replace('"', "") for _, text in self)


@pytest.fixture
def statements(fed: Federation) -> Iterator[Statements]:
    sent = Statements()

    def note(connection: Any, cursor: Any, text: str, *rest: Any) -> None:
        sent.append((str(connection.engine.url.database), text))

    event.listen(Engine, "before_cursor_execute", note)
    yield sent
    event.remove(Engine, "before_cursor_execute", note)


pytestmark = pytest.mark.usefixtures("data")


async def all_of(session: AsyncFederatedSession, model: Any, *paths: Any) -> list[Any]:
    statement = select(model).order_by(*model.__table__.primary_key.columns)
    return list((await session.scalars(statement.options(*paths))).all())


async def test_many_to_one(session: AsyncFederatedSession) -> None:
    """Each order has its user; a key that is None has none."""
    orders = await all_of(session, Order, federated_load(Order.user))
    assert [order.user and order.user.id for order in orders] == [1, 1, 2, None]
    assert orders[0].user is orders[1].user


async def test_one_to_many(session: AsyncFederatedSession) -> None:
    """Each user has a list, in the order that order_by says, empty when there is none; the way back is set, too."""
    users = await all_of(session, User, federated_load(User.orders))
    assert [[order.id for order in user.orders] for user in users] == [[1, 2], [3], []]
    assert all(order.user is user for user in users for order in user.orders)


async def test_where_and_descending_order(session: AsyncFederatedSession) -> None:
    """The relationship's own condition and order are part of the remote statement."""
    users = await all_of(session, User, federated_load(User.large_orders))
    assert [[order.total for order in user.large_orders] for user in users] == [[150], [200], []]


async def test_one_to_one(session: AsyncFederatedSession) -> None:
    """A scalar that is found by the target's key."""
    users = await all_of(session, User, federated_load(User.card))
    assert [user.card and user.card.id for user in users] == [None, 1, None]


@pytest.mark.parametrize(
    ("model", "path", "expected"),
    [
        (User, User.tags, [["new", "vip"], ["big", "vip"], []]),
        (Tag, Tag.users, [["u1@example.com", "u2@example.com"], ["u1@example.com"], ["u2@example.com"]]),
    ],
)
async def test_many_to_many_through_a_third_service(
    session: AsyncFederatedSession, model: Any, path: Any, expected: list[list[str]]
) -> None:
    """Users and tags are in two services, and their association table is in a third."""
    found = await all_of(session, model, federated_load(path))
    assert [
        [getattr(one, "name", None) or one.email for one in getattr(parent, path.key)] for parent in found
    ] == expected


async def test_many_to_many_between_rows_and_documents(session: AsyncFederatedSession) -> None:
    """The association table is in the rows' own service; pairs that point nowhere are left out."""
    users = await all_of(session, User, federated_load(User.wishes))
    assert [[product.sku for product in user.wishes] for user in users] == [["b", "a"], ["b"], []]
    products = await session.find(Product).sort("sku").options(federated_load(Product.wanted_by)).to_list()
    assert [[user.id for user in product.wanted_by] for product in products] == [[1], [1, 2], []]


async def test_key_of_two_columns(session: AsyncFederatedSession) -> None:
    """A composite key matches as a whole."""
    orders = await all_of(session, Order, federated_load(Order.parcel))
    assert [order.parcel and order.parcel.weight for order in orders] == [7, None, None, None]


async def test_self_reference(session: AsyncFederatedSession) -> None:
    """A model may relate to itself, both ways."""
    people = await all_of(session, Employee, federated_load(Employee.boss), federated_load(Employee.reports))
    assert [person.boss and person.boss.id for person in people] == [None, 1, 1]
    assert [[one.id for one in person.reports] for person in people] == [[2, 3], [], []]


async def test_row_to_document_and_on_to_another_mongo_service(session: AsyncFederatedSession) -> None:
    """From order to items (ordinary), product (document) and supplier (document elsewhere) in one path."""
    path = federated_load(Order.items, Item.product, Product.supplier)
    orders = await all_of(session, Order, path)
    names = [[item.product and item.product.supplier.name for item in order.items] for order in orders]
    assert names == [["supplier 1", "supplier 2"], [], ["supplier 1"], [None]]


async def test_document_to_row(session: AsyncFederatedSession) -> None:
    """A document's relationship to a table: many-to-one, and one-to-many by a text key."""
    reviews = await session.find(Review).sort("-stars").options(federated_load(Review.user)).to_list()
    assert [review.user and review.user.id for review in reviews] == [1, 1, None]
    products = await session.find(Product).sort("sku").options(federated_load(Product.items)).to_list()
    assert [[item.id for item in product.items] for product in products] == [[1, 3], [2], []]


async def test_document_to_document(session: AsyncFederatedSession) -> None:
    """One-to-many between two Mongo services."""
    suppliers = await session.find(Supplier).sort("name").options(federated_load(Supplier.products)).to_list()
    assert [[product.sku for product in supplier.products] for supplier in suppliers] == [["a"], ["b"]]


async def test_to_and_from_clickhouse(session: AsyncFederatedSession) -> None:
    """Events of users, and users of events."""
    users = await all_of(session, User, federated_load(User.events, Event.user))
    assert [[event.kind for event in user.events] for user in users] == [["click", "buy"], [], []]
    assert users[0].events[0].user is users[0]


async def test_row_to_documents_in_order(session: AsyncFederatedSession) -> None:
    """order_by names work for documents as for columns."""
    users = await all_of(session, User, federated_load(User.reviews))
    assert [[review.stars for review in user.reviews] for user in users] == [[5, 3], [], []]


async def test_ordinary_relationship_after_a_federated_one(session: AsyncFederatedSession) -> None:
    """The profile is in the users' own database: SQLAlchemy's selectinload gets it, below the federated step."""
    orders = await all_of(session, Order, federated_load(Order.user, User.profile))
    assert orders[0].user.profile.bio == "first"
    assert orders[2].user.profile is None


async def test_one_statement_a_hop(session: AsyncFederatedSession, statements: Statements) -> None:
    """However many parents there are, each hop is one statement a batch."""
    await all_of(session, Order, federated_load(Order.user, User.events), federated_load(Order.user, User.card))
    assert [statements.of(table) for table in ("orders", "users", "events", "cards")] == [1, 1, 1, 1]


class Overlaps:
    """Which services had a statement under way when another one's began."""

    def __init__(self) -> None:
        self.open: set[str] = set()
        self.pairs: set[frozenset[str]] = set()

    def began(self, connection: Any, *rest: Any) -> None:
        self.pairs.update(frozenset({service, name_of(connection)}) for service in self.open)
        self.open.add(name_of(connection))

    def ended(self, connection: Any, *rest: Any) -> None:
        self.open.discard(name_of(connection))


def name_of(connection: Any) -> str:
    return str(connection.get_execution_options()["fedorm.service"])


@pytest.fixture
def overlaps(fed: Federation) -> Iterator[Overlaps]:
    found = Overlaps()
    event.listen(Engine, "before_cursor_execute", found.began)
    event.listen(Engine, "after_cursor_execute", found.ended)
    yield found
    event.remove(Engine, "before_cursor_execute", found.began)
    event.remove(Engine, "after_cursor_execute", found.ended)


PATHS = federated_load(Order.user, User.tags), federated_load(Order.parcel), federated_load(Order.items, Item.product)
AT_ONCE = frozenset({"users", "payments"})


async def test_hops_to_different_services_run_at_the_same_time(
    session: AsyncFederatedSession, overlaps: Overlaps
) -> None:
    """One service's statement begins before the other's has ended."""
    orders = await all_of(session, Order, *PATHS)
    assert AT_ONCE in overlaps.pairs
    check_loaded(orders)


async def test_hops_of_threads_run_at_the_same_time(fed: Federation, overlaps: Overlaps) -> None:
    """The same without async; the session is still used by one thread at a time."""

    def work() -> None:
        with fed, fed.sync_session() as session:
            for _ in range(20):
                session.expunge_all()
                orders = session.scalars(select(Order).order_by(Order.id).options(*PATHS)).all()
                check_loaded(orders)

    await asyncio.to_thread(work)
    assert AT_ONCE in overlaps.pairs


def check_loaded(orders: Any) -> None:
    assert [order.user and [tag.name for tag in order.user.tags] for order in orders] == [
        *[["new", "vip"]] * 2,
        ["big", "vip"],
        None,
    ]
    assert [order.parcel and order.parcel.weight for order in orders] == [7, None, None, None]
    assert [item.product and item.product.price for order in orders for item in order.items] == [1.0, 2.0, 1.0, None]


async def test_a_failing_hop_ends_the_others(session: AsyncFederatedSession) -> None:
    """The driver's error is raised, not a group, with the service noted; the session goes on after a rollback."""
    await session.execute(text("DROP TABLE parcels"), bind_arguments={"service": "payments"})
    with pytest.raises(ProgrammingError) as raised:
        await all_of(session, Order, federated_load(Order.parcel), federated_load(Order.user))
    assert raised.value.__notes__ == ["service: payments"]
    await session.rollback()
    assert [order.user and order.user.id for order in await all_of(session, Order, federated_load(Order.user))] == [
        *(1, 1, 2, None)
    ]


async def test_what_the_session_has_is_not_fetched_again(
    session: AsyncFederatedSession, statements: Statements
) -> None:
    """Targets in the identity map answer by themselves; only the missing key is asked for."""
    kept = await session.get(User, 1)
    orders = await all_of(session, Order, federated_load(Order.user))
    assert orders[0].user is kept
    assert statements.of("users") == 2  # get() and the one key that was missing
    statements.clear()
    await session.load(orders, Order.user)
    assert statements.of("users") == 0


async def test_awaitable_attrs_loads_all_siblings(session: AsyncFederatedSession, statements: Statements) -> None:
    """The first access loads for the whole result; the others find it there."""
    orders = await all_of(session, Order)
    statements.clear()
    assert (await orders[0].awaitable_attrs.user).id == 1
    assert orders[2].user.id == 2
    assert statements.of("users") == 1
    products = await session.find(Product).sort("sku").to_list()
    assert (await products[0].awaitable_attrs.supplier).name == "supplier 1"
    assert products[1].supplier.name == "supplier 2"


async def test_touching_an_unloaded_attribute_names_both_ways(session: AsyncFederatedSession) -> None:
    """The error says how to load with the query and how to load afterwards."""
    order = await session.get(Order, 1)
    assert order is not None
    with pytest.raises(FederatedLazyLoadError) as raised:
        order.user  # noqa: B018
    assert "federated_load(Order.user)" in str(raised.value)
    assert "awaitable_attrs.user" in str(raised.value)


async def test_detached_objects_say_so(fed: Federation) -> None:
    """Without a session there is nobody to ask."""
    async with fed.session() as session:
        order = await session.get(Order, 1)
    with pytest.raises(DetachedError, match="belongs to no session"):
        order.user  # noqa: B018


async def test_missing_raise(session: AsyncFederatedSession) -> None:
    """missing="raise" turns a key that points nowhere into an error with service and keys."""
    session.add(Order(id=9, user_id=999))
    with pytest.raises(MissingTargetError, match=r"Order.owner.*999") as raised:
        await all_of(session, Order, federated_load(Order.owner))
    assert raised.value.service == "users"
    assert raised.value.keys == [999]


async def test_own_uncommitted_rows_are_seen(session: AsyncFederatedSession) -> None:
    """The loader works on the session's own connections."""
    session.add_all([User(id=50, email="new@example.com"), Order(id=50, user_id=50)])
    product = Product(sku="new", price=1)
    session.add_all([product, Item(id=50, order_id=50, sku="new")])
    statement = select(Order).where(Order.id == 50)
    path = federated_load(Order.user), federated_load(Order.items, Item.product)
    order = (await session.scalars(statement.options(*path))).one()
    assert order.user.email == "new@example.com"
    assert order.items[0].product is product


async def test_assigning_sets_the_key(session: AsyncFederatedSession) -> None:
    """order.user = user writes user_id, and both sides know."""
    user, order = await session.get(User, 3), await session.get(Order, 4)
    assert user is not None
    assert order is not None
    await user.awaitable_attrs.orders
    order.user = user
    assert order.user_id == 3
    assert user.orders == [order]
    user.orders.append(Order(id=77))
    await session.commit()
    users = await all_of(session, User, federated_load(User.orders))
    assert [one.id for one in users[2].orders] == [4, 77]


async def test_assigning_an_unflushed_object_is_refused(session: AsyncFederatedSession) -> None:
    """Without a key there is nothing to point to."""
    with pytest.raises(UnloadedKeyError, match="flush it first"):
        Order(id=1).user = User(email="x")


async def test_refresh_loads_a_federated_attribute_anew(session: AsyncFederatedSession, fed: Federation) -> None:
    """refresh(order, ["user"]) forgets what was loaded."""
    order = (await all_of(session, Order, federated_load(Order.user)))[0]
    order.user_id = 2
    await session.flush()
    await session.refresh(order, ["user"])
    assert order.user.id == 2


async def test_streaming_loads_a_chunk_at_a_time(session: AsyncFederatedSession, statements: Statements) -> None:
    """With yield_per the relationships come with each chunk."""
    statement = select(Order).order_by(Order.id).options(federated_load(Order.user))
    result = await session.stream_scalars(statement, execution_options={"yield_per": 2})
    assert [order.user and order.user.id async for order in result] == [1, 1, 2, None]


async def test_rows_of_several_entities(session: AsyncFederatedSession) -> None:
    """Options reach their entity wherever it stands in the row."""
    statement = select(Order.id, Order).where(Order.id < 3).order_by(Order.id).options(federated_load(Order.user))
    rows = (await session.execute(statement)).all()
    assert [(number, order.user.id) for number, order in rows] == [(1, 1), (2, 1)]


async def test_orphans(fed: Federation) -> None:
    """Rows, distinct keys and a sample of those that point nowhere; from both ends, and for documents."""
    async with fed.session() as session:
        session.add_all([Order(id=20 + n, user_id=100 + n % 2) for n in range(3)])
        await session.commit()
    found = await fed.orphans(Order.user)
    assert (found.rows, found.keys, sorted(found.sample)) == (3, 2, [100, 101])
    found = await fed.orphans(User.orders)
    assert (found.rows, found.keys) == (3, 2)
    found = await fed.orphans(Item.product)
    assert (found.rows, found.sample) == (1, ["gone"])
    found = await fed.orphans(Review.user)
    assert (found.rows, found.sample) == (1, [9])


async def test_orphans_wants_a_relationship(fed: Federation) -> None:
    """Anything else, and one through a table, is refused with the reason."""
    with pytest.raises(RelationshipError):
        await fed.orphans(User.tags)


async def test_wrong_paths_are_refused() -> None:
    """A path must be made of relationships that follow one another."""
    with pytest.raises(RelationshipError, match="not a relationship"):
        federated_load(Order.id)
    with pytest.raises(RelationshipError, match="does not start there"):
        federated_load(Order.user, Item.product)


async def test_values_that_look_like_sql_stay_values(session: AsyncFederatedSession) -> None:
    """Keys go as bound values to every store."""
    nasty = "x'); DROP TABLE items; --"
    session.add_all([Item(id=60, order_id=1, sku=nasty), Product(sku=nasty, price=1)])
    session.add(Event(id=60, user_id=1, kind=nasty + '"\\'))
    await session.commit()
    item = (await session.scalars(select(Item).where(Item.sku == nasty).options(federated_load(Item.product)))).one()
    assert item.product.sku == nasty
    found = (await session.scalars(select(Event.kind).where(Event.kind == nasty + '"\\'))).all()
    assert found == [nasty + '"\\']
