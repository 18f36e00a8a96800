"""Run the shop: ``python -m examples.ecommerce``, or with ``--config fedorm.toml`` on your own servers."""

from __future__ import annotations

import argparse
import asyncio
import datetime
from contextlib import ExitStack
from decimal import Decimal

from sqlalchemy import func, select

from examples.ecommerce import figures, shop
from examples.ecommerce.bank import BANKS, DemoBank
from examples.ecommerce.checkout import checkout
from examples.ecommerce.errors import CardDeclinedError, OutOfStockError, PaymentDeclinedError
from examples.ecommerce.events import to_analytics
from examples.ecommerce.models import Order, Product, Stock, User, UserProfile
from examples.ecommerce.models.base import now
from examples.ecommerce.seed import seed
from examples.ecommerce.servers import embedded_servers
from fedorm import AsyncFederatedSession, Federation
from fedorm.config import FederationSettings, settings_from_file, settings_from_mapping


async def charge(order_id: int, amount: Decimal) -> str:
    """Play the bank, which pays up to 5,000.00 at a time."""
    if amount > 5_000:
        raise CardDeclinedError(f"{amount} is too much for this card")
    return f"demo-{order_id:08}"


async def trade(settings: FederationSettings, customers: int) -> int:
    """Open the shop, sell something, and print what its pages show; return the order's number."""
    async with Federation(settings) as fed:
        await fed.create_all()
        BANKS.update({"full": DemoBank(5_000), "empty": DemoBank(0)})
        await fed.sagas.run_once()  # What an earlier run has left in the middle; a server would let run() go on.
        async with fed.session() as session:
            empty = await session.scalar(select(func.count()).select_from(User)) == 0
        if empty:
            print("seeded:", await seed(fed, customers, until=now().date() - datetime.timedelta(days=1)))
        async with fed.session(expire_on_commit=False) as session:
            user = await shop.register_user(
                session,
                email=f"visitor.{now():%Y%m%d%H%M%S}@example.com",
                name="A Visitor",
                country="DE",
                profile=UserProfile(street="1 High Street", city="Berlin", postcode="10115"),
            )
            order = await sell(session, user)
            await show_customers(session, user)
            await show_figures(session)
        fed.outbox.add(to_analytics)
        async with fed.outbox.running():
            await check_out(fed, user)
        return order.id


async def sell(session: AsyncFederatedSession, user: User) -> Order:
    """Let ``user`` look at two products, order and pay them; and fail to order more than there are."""
    shelves = await session.find(Stock, Stock.on_hand >= 2, Stock.warehouse == "leipzig").sort("sku").limit(2).to_list()
    for shelf in shelves:
        print_product(await shop.product_page(session, shelf.sku, viewer=user))
    order = await shop.place_order(session, user.id, {shelf.sku: 2 for shelf in shelves})
    payment = await shop.pay_order(session, order.id, charge)
    print(f"\n{user.name} paid {payment.amount} for order {order.id}, {payment.reference}")
    try:
        await shop.place_order(session, user.id, {shelves[0].sku: 100_000})
    except OutOfStockError as error:
        print(f"refused: {error}")
    return order


async def check_out(fed: Federation, user: User) -> None:
    """Let ``user`` check a product out with a card that pays, and with one that does not."""
    async with fed.session() as session:
        sku = (await session.find(Stock, Stock.on_hand >= 2).sort("sku").first_or_none()).sku
    receipt = await checkout(fed, user.id, {sku: 1}, bank="full")
    print(f"\nchecked out: order {receipt.order_id}, {receipt.total} paid, {receipt.reference}")
    try:
        await checkout(fed, user.id, {sku: 1}, bank="empty")
    except PaymentDeclinedError as error:
        print(f"taken back: {error}")


def print_product(product: Product) -> None:
    """Print a product's page."""
    there = ", ".join(f"{stock.on_hand} in {stock.warehouse}" for stock in product.stock)
    print(f"\n{product.sku}  {product.name}, {product.price}: {there}")
    print(f"  from {product.supplier.name}, who delivers {len(product.supplier.products)} products")


async def show_customers(session: AsyncFederatedSession, user: User) -> None:
    """Print the customer's overview, and the best customers."""
    overview = await shop.customer_overview(session, user.id)
    seen = ", ".join(product.name for product in overview.user.seen_products)
    print(f"\n{user.name}: {len(overview.user.orders)} order, {overview.spent} spent, has seen {seen}")
    print("\nbest customers")
    for best in await shop.best_customers(session, limit=5):
        print(f"  {best.user.name:<20} {best.user.country}  {best.orders:>3} orders  {best.spent:>10.2f}")


async def show_figures(session: AsyncFederatedSession) -> None:
    """Close the last week's days, and print what was sold in them."""
    today = now().date()
    week = [today - datetime.timedelta(days=back) for back in reversed(range(7))]
    for day in week:
        await figures.close_day(session, day)
    report = await figures.report(session, week[0], week[-1], top=5)
    print(f"\n{week[0]} to {week[-1]}")
    for country in report.countries:
        print(f"  {country.country}  {country.orders:>4} orders  {country.revenue:>10.2f}")
    for one in report.products:
        print(
            f"  {one.product.sku}  {one.product.name:<22} {one.views:>4} views {one.units:>4} sold {one.revenue:>10.2f}"
        )


def show_order(settings: FederationSettings, order_id: int) -> None:
    """Print an order's page, in code that is not async."""
    with Federation(settings) as fed, fed.sync_session() as session:
        order = shop.order_page_sync(session, order_id)
        print(f"\norder {order.id} of {order.user.name}, {order.user.country}: {order.status}, {order.total}")
        for item in order.items:
            print(f"  {item.quantity} x {item.product.name} at {item.unit_price}, from {item.warehouse}")
        for payment in order.payments:
            print(f"  {payment.state} {payment.amount}, {payment.reference}")


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="python -m examples.ecommerce", description="A shop of five services.")
    parser.add_argument("--config", help="a fedorm.toml that says where your own servers are")
    parser.add_argument("--customers", type=int, default=200, help="how many to invent for an empty shop")
    options = parser.parse_args()
    with ExitStack() as stack:
        if options.config:
            settings = settings_from_file(options.config)
        else:
            settings = settings_from_mapping(stack.enter_context(embedded_servers()))
        order_id = asyncio.run(trade(settings, options.customers))
        show_order(settings, order_id)


if __name__ == "__main__":
    main()
