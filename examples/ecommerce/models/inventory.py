"""What can be bought, how much of it is where, and who delivers it: MongoDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from beanie import DecimalAnnotation, Indexed, PydanticObjectId
from pymongo import ASCENDING, IndexModel

from examples.ecommerce import models
from examples.ecommerce.models.base import SERVICES
from fedorm import Federated, FederatedDocument, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.analytics import ProductAnalytics
    from examples.ecommerce.models.orders import Order, OrderItem


class ShopDocument(FederatedDocument):
    """The base of every document of the shop."""

    __abstract__ = True
    __services__ = SERVICES


class Supplier(ShopDocument):
    """Who delivers products."""

    __service__ = "inventory"

    name: str
    country: str
    products: Federated[list[Product]] = federated_relationship(
        remote_key="supplier_id", order_by="sku", back_populates="supplier"
    )

    class Settings:
        name = "suppliers"


class Product(ShopDocument):
    """What can be bought."""

    __service__ = "inventory"

    sku: Annotated[str, Indexed(unique=True)]
    name: str
    category: str
    price: DecimalAnnotation
    tags: list[str] = []
    supplier_id: Annotated[PydanticObjectId, Indexed()]
    replaced_by_sku: Annotated[str | None, Indexed()] = None

    supplier: Federated[Supplier] = federated_relationship(local_key="supplier_id", back_populates="products")
    stock: Federated[list[Stock]] = federated_relationship(
        local_key="sku", remote_key="sku", order_by="warehouse", back_populates="product"
    )
    # To itself, both ways.
    replaced_by: Federated[Product | None] = federated_relationship(
        local_key="replaced_by_sku", remote_key="sku", back_populates="replaces"
    )
    replaces: Federated[list[Product]] = federated_relationship(
        local_key="sku", remote_key="replaced_by_sku", order_by="sku", back_populates="replaced_by"
    )
    # In other databases.
    items: Federated[list[OrderItem]] = federated_relationship(local_key="sku", remote_key="sku", order_by="order_id")
    orders: Federated[list[Order]] = federated_relationship(
        secondary=lambda: models.OrderItem,
        local_key="sku",
        secondary_local="sku",
        secondary_remote="order_id",
        order_by="id",
    )
    figures: Federated[list[ProductAnalytics]] = federated_relationship(
        local_key="sku", remote_key="sku", order_by=("day", "revision"), back_populates="product"
    )

    class Settings:
        name = "products"


class Stock(ShopDocument):
    """How much of a product lies in a warehouse."""

    __service__ = "inventory"

    sku: str
    warehouse: str
    on_hand: int
    product: Federated[Product] = federated_relationship(local_key="sku", remote_key="sku", back_populates="stock")

    class Settings:
        name = "inventory"
        # Of two sessions that take the last one, the second finds a newer revision and writes nothing.
        use_revision = True
        indexes = [IndexModel([("sku", ASCENDING), ("warehouse", ASCENDING)], unique=True)]
