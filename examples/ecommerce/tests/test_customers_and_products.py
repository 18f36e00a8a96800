"""Customers and what they look at, over PostgreSQL, MySQL, MongoDB and ClickHouse: whole values."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import func, select

from examples.ecommerce import shop
from examples.ecommerce.errors import EmailTakenError, PaymentDeclinedError, UnknownProductError, UnknownUserError
from examples.ecommerce.models import User, UserEvent, UserPreferences, UserProfile
from examples.ecommerce.tests.people import customer, declines, pays
from fedorm import AsyncFederatedSession, Federation

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
    assert (found.name, found.profile) == ("Ada", None)
    assert found.preferences is not None
    assert not found.preferences.newsletter
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
    assert [product.sku for product in page.supplier.products] == ["KIT-1", "OFF-0", "OFF-1"]
    assert [(stock.warehouse, stock.on_hand) for stock in page.stock] == [("leipzig", 1), ("rotterdam", 5)]
    old = await shop.product_page(session, "OFF-0")
    assert old.stock == []
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
