"""What somebody is about to buy: Redis, which forgets a cart that nobody touches."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from examples.ecommerce.models.base import SERVICES, now
from fedorm import Federated, FederatedRecord, federated_relationship

if TYPE_CHECKING:
    from examples.ecommerce.models.users import User


class Cart(FederatedRecord):
    """A customer's cart; its key is the customer's."""

    __service__ = "carts"
    __services__ = SERVICES

    id: int
    quantities: dict[str, int] = {}
    """How many of each SKU."""
    changed_at: datetime.datetime
    user: Federated[User] = federated_relationship(local_key="id")

    class Settings:
        name = "cart"
        ttl = datetime.timedelta(days=14)
        ttl_renews = True

    def put(self, sku: str, quantity: int) -> None:
        """Put so many more of a product in; less than none takes them out."""
        wanted = self.quantities.get(sku, 0) + quantity
        rest = {other: number for other, number in self.quantities.items() if other != sku}
        self.quantities = rest | {sku: wanted} if wanted > 0 else rest
        self.changed_at = now()
