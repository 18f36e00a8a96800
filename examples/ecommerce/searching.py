"""Finding products by words: over an index that a rule keeps in sync with MongoDB's products.

Needs the extra ``fedorm[elasticsearch]`` and a service ``search`` beside the shop's others.
"""

from __future__ import annotations

from dataclasses import dataclass

from elasticsearch.dsl import A
from elasticsearch.dsl.query import Bool, MultiMatch, Query, Range, Term

from examples.ecommerce.models.inventory import Product, Supplier
from examples.ecommerce.models.search import ProductText
from fedorm import AsyncFederatedSession, federated_load
from fedorm.sync import CDC, SyncRule

to_search = SyncRule(source=Product, to=ProductText, strategy=CDC(), name="products-to-search")
"""Add it by ``fed.sync.add(to_search)``; changes of products are found a moment after their commit."""


@dataclass(frozen=True)
class Found:
    """What a customer's words have led to."""

    products: list[ProductText]
    """The best first, each with its product, the supplier and the stock."""
    total: int
    categories: dict[str, int]
    """How many of all that was found are of which category."""


async def find_products(
    session: AsyncFederatedSession, words: str, *, category: str | None = None, at_most: float | None = None
) -> Found:
    """Search names and tags for any form of some words; what is in stock, and where, comes from MongoDB."""
    fields = [f"{ProductText.dsl.name}^2", str(ProductText.dsl.tags)]
    narrowed: list[Query] = [Term(category=category)] if category is not None else []
    narrowed += [Range(price={"lte": at_most})] if at_most is not None else []
    result = await session.search(
        ProductText,
        Bool(must=[MultiMatch(query=words, fields=fields)], filter=narrowed),
        options=[
            federated_load(ProductText.product, Product.supplier, Supplier.products),
            federated_load(ProductText.stock),
        ],
        sort=["_score", "sku"],
        aggregations={"categories": A("terms", field="category")},
    )
    buckets = result.aggregations["categories"]["buckets"]
    return Found(result.documents, result.total or 0, {one["key"]: one["doc_count"] for one in buckets})
