"""Relationships across services: every shape, over every pair of stores, one statement a hop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, event, select, text
from sqlalchemy.exc import ProgrammingError

from fedorm import AsyncFederatedSession, Federation, federated_load
from tests.models import Employee, Event, Item, Order, Product, Review, Supplier, Tag, User
from tests.relating import Statements, all_of, data, statements

__all__ = ["data", "statements"]

pytestmark = pytest.mark.usefixtures("data")


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
