"""What a shop has to tell its callers apart from bugs."""

from __future__ import annotations

from collections.abc import Iterable


class ShopError(Exception):
    """The base of what can go wrong in the shop; nothing was written unless the error says so."""


class UnknownUserError(ShopError):
    """There is no such user."""


class UnknownOrderError(ShopError):
    """There is no such order."""


class UnknownProductError(ShopError):
    """There are no such products."""

    def __init__(self, skus: Iterable[str]) -> None:
        self.skus = sorted(skus)
        super().__init__(f"no product has the SKU {', '.join(self.skus)}")


class EmailTakenError(ShopError):
    """Somebody has registered with this address before."""


class EmptyBasketError(ShopError):
    """There is nothing in the basket to be ordered."""


class OutOfStockError(ShopError):
    """No warehouse has enough of a product."""

    def __init__(self, sku: str, wanted: int) -> None:
        self.sku, self.wanted = sku, wanted
        super().__init__(f"no warehouse has {wanted} of {sku}")


class NotPayableError(ShopError):
    """The order is paid already."""


class CardDeclinedError(ShopError):
    """The bank does not pay; raised by what charges the card."""


class PaymentDeclinedError(ShopError):
    """The order could not be paid; the attempt is kept as a declined payment."""
