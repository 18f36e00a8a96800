"""What the shop does, over PostgreSQL, MySQL, MongoDB and ClickHouse: whole values, and nothing written on failure."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from beanie import PydanticObjectId
from sqlalchemy import func, select

from examples.ecommerce import shop
from examples.ecommerce.errors import (
    CardDeclinedError,
    EmailTakenError,
    EmptyBasketError,
    NotPayableError,
    OutOfStockError,
    PaymentDeclinedError,
    UnknownOrderError,
    UnknownProductError,
    UnknownUserError,
)
from examples.ecommerce.models import (
    Order,
    OrderItem,
    OrderStatus,
    Payment,
    Product,
    Stock,
    Supplier,
    User,
    UserEvent,
    UserPreferences,
    UserProfile,
)
from fedorm import AsyncFederatedSession, Federation, StaleDocumentError, federated_load


@pytest.fixture
async def goods(fed: Federation) -> None:
    """A kettle in two warehouses, a lamp in one, and an old lamp that there is no more of."""
    supplier = Supplier(id=PydanticObjectId("0" * 24), name="Northwind", country="GB")
    async with fed.session() as session:
        session.add_all(
            [
                supplier,
                Product(
                    sku="KIT-1", name="kettle", category="kitchen", price=Decimal("20.50"), supplier_id=supplier.id
                ),
                Product(sku="OFF-1", name="lamp", category="office", price=Decimal("9.99"), supplier_id=supplier.id),
                Product(
                    sku="OFF-0", name="old lamp", category="office", price=Decimal("5.00"), replaced_by_sku="OFF-1"
                ),
                Stock(sku="KIT-1", warehouse="leipzig", on_hand=1),
                Stock(sku="KIT-1", warehouse="rotterdam", on_hand=5),
                Stock(sku="OFF-1", warehouse="leipzig", on_hand=3),
            ]
        )
        await session.commit()


async def customer(session: AsyncFederatedSession, email: str = "ada@example.com") -> User:
    return await shop.register_user(session, email=email, name="Ada", country="DE")


async def pays(order_id: int, amount: Decimal) -> str:
    return f"ref-{order_id}-{amount}"


async def declines(order_id: int, amount: Decimal) -> str:
    raise CardDeclinedError("no money")


async def written(fed: Federation) -> dict[str, Any]:
    """What all services hold of sales, read by a session of its own."""
    async with fed.session() as session:
        return {
            "orders": (await session.scalars(select(Order.status).order_by(Order.id))).all(),
            "items": await session.scalar(select(func.count()).select_from(OrderItem)),
            "history": (await session.scalars(select(OrderStatus.status).order_by(OrderStatus.id))).all(),
            "payments": (await session.scalars(select(Payment.state).order_by(Payment.id))).all(),
            "stock": {(s.sku, s.warehouse): s.on_hand for s in await session.find(Stock).to_list()},
            "events": sorted([kind async for kind in await session.stream_scalars(select(UserEvent.kind))]),
        }


FULL = {("KIT-1", "leipzig"): 1, ("KIT-1", "rotterdam"): 5, ("OFF-1", "leipzig"): 3}
NOTHING_SOLD = {"orders": [], "items": 0, "history": [], "payments": [], "stock": FULL, "events": ["register"]}


# -- customers


async def test_registering_writes_rows_and_an_event(session: AsyncFederatedSession, fed: Federation) -> None:
    """User, profile and preferences are in PostgreSQL, the event in ClickHouse, all with the same key."""
    host = await customer(session)
    profile = UserProfile(phone="1", street="1 Mill Lane", city="Leeds", postcode="LS1")
    await shop.register_user(
        session,
        email="b@example.com",
        name="Ben",
        country="GB",
        profile=profile,
        newsletter=True,
        invited_by_id=host.id,
    )
    async with fed.session() as fresh:
        user = (await fresh.scalars(select(User).where(User.email == "b@example.com"))).one()
        found = await fresh.get(UserProfile, user.id)
        preferences = await fresh.get(UserPreferences, user.id)
        assert found is not None
        assert preferences is not None
        assert (user.name, user.country, user.invited_by_id) == ("Ben", "GB", host.id)
        assert (found.phone, found.street, found.city, found.postcode) == ("1", "1 Mill Lane", "Leeds", "LS1")
        assert (preferences.language, preferences.newsletter) == ("en", True)
        events = (await fresh.scalars(select(UserEvent).order_by(UserEvent.user_id))).all()
        assert [(event.kind, event.user_id) for event in events] == [("register", host.id), ("register", user.id)]


async def test_an_address_registers_once(session: AsyncFederatedSession, fed: Federation) -> None:
    """The second time there is no user, no profile and no event."""
    await customer(session)
    with pytest.raises(EmailTakenError, match=r"ada@example\.com"):
        await customer(session)
    async with fed.session() as fresh:
        assert await fresh.scalar(select(func.count()).select_from(User)) == 1
        assert await fresh.scalar(select(func.count()).select_from(UserPreferences)) == 1
        assert await fresh.scalar(select(func.count()).select_from(UserEvent)) == 1


async def test_a_customers_overview_spans_all_services(session: AsyncFederatedSession, goods: None) -> None:
    """Orders with their products, what is unpaid, payments, and the products that were looked at, each once."""
    user = await customer(session)
    guest = await shop.register_user(session, email="g@x", name="Gus", country="DE", invited_by_id=user.id)
    for sku in ("OFF-1", "KIT-1", "OFF-1"):
        await shop.product_page(session, sku, viewer=user)
    paid = await shop.place_order(session, user.id, {"KIT-1": 2})
    await shop.pay_order(session, paid.id, pays)
    unpaid = await shop.place_order(session, user.id, {"OFF-1": 1})
    with pytest.raises(PaymentDeclinedError):
        await shop.pay_order(session, unpaid.id, declines)

    session.expunge_all()
    overview = await shop.customer_overview(session, user.id)
    found = overview.user
    assert (found.name, found.profile, found.preferences.newsletter) == ("Ada", None, False)
    assert [one.id for one in found.invited] == [guest.id]
    assert [[item.product.name for item in order.items] for order in found.orders] == [["lamp"], ["kettle"]]
    assert [order.id for order in found.unpaid_orders] == [unpaid.id]
    assert [payment.state for payment in found.payments] == ["captured", "declined"]
    assert [product.sku for product in found.seen_products] == ["KIT-1", "OFF-1"]
    assert overview.spent == Decimal("41.00")


async def test_the_best_customers_have_paid_most(session: AsyncFederatedSession, goods: None) -> None:
    """The sums count what is paid for, in order, up to the limit."""
    users = [await customer(session, f"{number}@example.com") for number in range(3)]
    baskets = ({"OFF-1": 1}, {"KIT-1": 2}, {"KIT-1": 3})
    orders = [await shop.place_order(session, user.id, basket) for user, basket in zip(users, baskets, strict=True)]
    for order in orders[:2]:
        await shop.pay_order(session, order.id, pays)
    best = await shop.best_customers(session)
    assert [(one.user, one.orders, one.spent) for one in best] == [
        (users[1], 1, Decimal("41.00")),
        (users[0], 1, Decimal("9.99")),
    ]
    assert [one.user for one in await shop.best_customers(session, limit=1)] == [users[1]]


async def test_unknown_customers_are_named(session: AsyncFederatedSession, goods: None) -> None:
    """Neither a page nor an order for somebody who is not there."""
    with pytest.raises(UnknownUserError, match="7"):
        await shop.customer_overview(session, 7)
    with pytest.raises(UnknownUserError, match="7"):
        await shop.place_order(session, 7, {"KIT-1": 1})


# -- products


async def test_a_products_page(session: AsyncFederatedSession, goods: None) -> None:
    """Supplier with its other products, stock by warehouse, and the successor."""
    page = await shop.product_page(session, "KIT-1")
    assert (page.name, page.price, page.replaced_by) == ("kettle", Decimal("20.50"), None)
    assert page.supplier.name == "Northwind"
    assert [product.sku for product in page.supplier.products] == ["KIT-1", "OFF-1"]
    assert [(stock.warehouse, stock.on_hand) for stock in page.stock] == [("leipzig", 1), ("rotterdam", 5)]
    old = await shop.product_page(session, "OFF-0")
    assert (old.supplier, old.stock) == (None, [])
    assert old.replaced_by is not None
    assert old.replaced_by.sku == "OFF-1"


async def test_looking_at_a_product_is_an_event(session: AsyncFederatedSession, goods: None) -> None:
    """With a viewer, and only of a product that is there."""
    user = await customer(session)
    await shop.product_page(session, "KIT-1", viewer=user)
    await shop.product_page(session, "KIT-1")
    with pytest.raises(UnknownProductError, match="nothing"):
        await shop.product_page(session, "nothing", viewer=user)
    views = (await session.scalars(select(UserEvent).where(UserEvent.kind == "view"))).all()
    assert [(view.user_id, view.sku) for view in views] == [(user.id, "KIT-1")]


# -- orders


async def test_placing_an_order_writes_to_three_services(
    session: AsyncFederatedSession, fed: Federation, goods: None
) -> None:
    """An order with its items, less stock on the first shelf that has enough, and an event."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 2, "OFF-1": 3})
    assert await written(fed) == {
        "orders": ["placed"],
        "items": 2,
        "history": ["placed"],
        "payments": [],
        "stock": {("KIT-1", "leipzig"): 1, ("KIT-1", "rotterdam"): 3, ("OFF-1", "leipzig"): 0},
        "events": ["order", "register"],
    }
    async with fed.session() as fresh:
        found = (
            await fresh.scalars(select(Order).options(federated_load(Order.items), federated_load(Order.user)))
        ).one()
        assert (found.id, found.user.email, found.total) == (order.id, "ada@example.com", Decimal("70.97"))
        assert found.placed_at == order.placed_at
        assert [(i.line, i.sku, i.warehouse, i.quantity, i.unit_price) for i in found.items] == [
            (1, "KIT-1", "rotterdam", 2, Decimal("20.50")),
            (2, "OFF-1", "leipzig", 3, Decimal("9.99")),
        ]
        event = (await fresh.scalars(select(UserEvent).where(UserEvent.kind == "order"))).one()
        assert (event.user_id, event.order_id, event.sku) == (user.id, order.id, None)


@pytest.mark.parametrize(
    ("basket", "error", "words"),
    [
        ({"OFF-1": 1, "KIT-1": 6}, OutOfStockError, "no warehouse has 6 of KIT-1"),
        ({"OFF-1": 1, "OFF-0": 1}, OutOfStockError, "no warehouse has 1 of OFF-0"),
        ({"OFF-1": 1, "Z": 1, "A": 1}, UnknownProductError, "no product has the SKU A, Z"),
        ({}, EmptyBasketError, "nothing in the basket"),
        ({"OFF-1": 0}, EmptyBasketError, "nothing in the basket"),
    ],
)
async def test_an_order_that_cannot_be_is_written_nowhere(
    session: AsyncFederatedSession,
    fed: Federation,
    goods: None,
    basket: dict[str, int],
    error: type[Exception],
    words: str,
) -> None:
    """No order, no item, no event, and all goods still there; not even when the session goes on and commits."""
    user = await customer(session)
    with pytest.raises(error, match=words):
        await shop.place_order(session, user.id, basket)
    await session.commit()
    assert await written(fed) == NOTHING_SOLD


async def test_the_last_one_is_sold_once(fed: Federation, session: AsyncFederatedSession, goods: None) -> None:
    """Of two sessions that have seen the same shelf the second writes nothing, in no service."""
    user = await customer(session)
    async with fed.session(expire_on_commit=False) as slow:
        # What a page has shown a while ago is what this session goes by.
        await slow.find(Stock).to_list()
        await shop.place_order(session, user.id, {"OFF-1": 3})
        with pytest.raises(StaleDocumentError, match="inventory"):
            await shop.place_order(slow, user.id, {"OFF-1": 1})
    sold = await written(fed)
    assert (sold["orders"], sold["items"], sold["events"]) == (["placed"], 1, ["order", "register"])
    assert sold["stock"] == FULL | {("OFF-1", "leipzig"): 0}


async def test_paying(session: AsyncFederatedSession, fed: Federation, goods: None) -> None:
    """A payment in MySQL, a new status in PostgreSQL, an event in ClickHouse."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    payment = await shop.pay_order(session, order.id, pays)
    assert await written(fed) == {
        "orders": ["paid"],
        "items": 1,
        "history": ["placed", "paid"],
        "payments": ["captured"],
        "stock": FULL | {("KIT-1", "leipzig"): 0},
        "events": ["order", "pay", "register"],
    }
    async with fed.session() as fresh:
        found = (await fresh.scalars(select(Payment).options(federated_load(Payment.order, Order.user)))).one()
        assert (found.amount, found.reference) == (Decimal("20.50"), f"ref-{order.id}-20.50")
        assert (found.id, found.created_at) == (payment.id, payment.created_at)
        assert found.order.user.id == found.user_id == user.id


async def test_a_declined_payment_is_kept_and_may_be_tried_again(
    session: AsyncFederatedSession, fed: Federation, goods: None
) -> None:
    """The order stays unpaid until another attempt succeeds."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    with pytest.raises(PaymentDeclinedError, match="no money"):
        await shop.pay_order(session, order.id, declines)
    declined = await written(fed)
    assert (declined["orders"], declined["history"]) == (["placed"], ["placed"])
    assert (declined["payments"], declined["events"]) == (["declined"], ["order", "register"])
    await shop.pay_order(session, order.id, pays)
    settled = await written(fed)
    assert (settled["orders"], settled["payments"]) == (["paid"], ["declined", "captured"])


async def test_an_order_is_paid_once(session: AsyncFederatedSession, fed: Federation, goods: None) -> None:
    """The second payment is refused before anything is charged; so is one for no order."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"KIT-1": 1})
    await shop.pay_order(session, order.id, pays)
    with pytest.raises(NotPayableError, match="is paid"):
        await shop.pay_order(session, order.id, pays)
    with pytest.raises(UnknownOrderError, match="999"):
        await shop.pay_order(session, 999, pays)
    await session.commit()
    assert (await written(fed))["payments"] == ["captured"]


def what_an_order_page_shows(order: Order) -> dict[str, Any]:
    return {
        "user": (order.user.name, order.user.profile),
        "items": [(i.quantity, i.product.name, i.product.supplier.name, i.stock.on_hand) for i in order.items],
        "payments": [(payment.state, payment.amount) for payment in order.payments],
        "history": [step.status for step in order.history],
        "ways back": [payment.order is order for payment in order.payments],
    }


PAGE = {
    "user": ("Ada", None),
    "items": [(1, "lamp", "Northwind", 2), (2, "kettle", "Northwind", 3)],
    "payments": [("declined", Decimal("50.99")), ("captured", Decimal("50.99"))],
    "history": ["placed", "paid"],
    "ways back": [True, True],
}


@pytest.fixture
async def sold(session: AsyncFederatedSession, goods: None) -> int:
    """The number of an order that was paid at the second attempt."""
    user = await customer(session)
    order = await shop.place_order(session, user.id, {"OFF-1": 1, "KIT-1": 2})
    with pytest.raises(PaymentDeclinedError):
        await shop.pay_order(session, order.id, declines)
    await shop.pay_order(session, order.id, pays)
    return order.id


async def test_an_orders_page(fed: Federation, sold: int) -> None:
    """User, items with product, supplier and shelf, payments and history."""
    async with fed.session() as session:
        assert what_an_order_page_shows(await shop.order_page(session, sold)) == PAGE
        with pytest.raises(UnknownOrderError, match="999"):
            await shop.order_page(session, 999)


async def test_an_orders_page_in_code_that_is_not_async(urls: dict[str, str], sold: int) -> None:
    """The same page through the drivers for threads."""

    def view() -> dict[str, Any]:
        with Federation(urls) as fed, fed.sync_session() as session:
            page = what_an_order_page_shows(shop.order_page_sync(session, sold))
            with pytest.raises(UnknownOrderError, match="999"):
                shop.order_page_sync(session, 999)
            return page

    assert await asyncio.to_thread(view) == PAGE
