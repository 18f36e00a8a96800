"""What customers search in: Elasticsearch, kept in sync with the products."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

from beanie import PydanticObjectId
from elasticsearch.dsl import Keyword, Text

from examples.ecommerce.models.base import SERVICES
from examples.ecommerce.models.inventory import Product
from fedorm import Federated, FederatedSearchDocument, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.inventory import Stock
    from examples.ecommerce.models.orders import OrderItem


class ProductText(FederatedSearchDocument):
    """A product as it is searched for: its ``id`` is the product's."""

    __service__ = "search"
    __services__ = SERVICES
    id: PydanticObjectId
    sku: Annotated[str, Keyword()]
    name: Annotated[str, Text(analyzer="english", fields={"keyword": Keyword()})]
    category: Annotated[str, Keyword()]
    tags: Annotated[list[str], Keyword()] = []
    price: Decimal

    product: Federated[Product] = federated_relationship(local_key="id")
    stock: Federated[list[Stock]] = federated_relationship(local_key="sku", remote_key="sku", order_by="warehouse")
    sold: Federated[list[OrderItem]] = federated_relationship(local_key="sku", remote_key="sku", order_by="order_id")

    class Index:
        """The index."""

        name = "product_texts"
        settings = {"number_of_shards": 1}
