from sqlalchemy import select

from fedorm import Federation, federated_load
from tests.models import Event, Item, Order, Product, User


async def test_one_session_writes_and_relates_four_kinds_of_database(fed: Federation) -> None:
    """What the README promises first: add, commit, and load across services."""
    async with fed.session() as session:
        session.add(User(id=1, email="a@example.com"))
        session.add(Order(id=10, user_id=1, items=[Item(id=100, sku="x")]))
        session.add(Product(sku="x", price=2.5))
        session.add(Event(id=1, user_id=1, kind="click"))
        await session.commit()
    async with fed.session() as session:
        statement = select(Order).options(
            federated_load(Order.user, User.events), federated_load(Order.items, Item.product)
        )
        orders = (await session.scalars(statement)).all()
        assert orders[0].user.email == "a@example.com"
        assert orders[0].items[0].product.price == 2.5
        assert [event.kind for event in orders[0].user.events] == ["click"]
        found = await session.find(Product, Product.price > 2).to_list()
        assert found == [orders[0].items[0].product]
