"""What a shop has to tell its callers apart from bugs."""

from __future__ import annotations

from collections.abc import Iterable

from fedorm import ServiceUnavailableError


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


class BankUnavailableError(ShopError, ServiceUnavailableError):
    """The bank does not answer, and may have taken the money; a step of a saga that meets such an error is retried."""

    def __init__(self, message: str) -> None:
        ServiceUnavailableError.__init__(self, message, service="bank")


class UnknownBankError(ShopError):
    """Nobody has told the process how to reach a bank of that name."""


class CheckoutError(ShopError):
    """A checkout did not end well; ``checkout`` is its id."""

    def __init__(self, checkout: str, message: str) -> None:
        self.checkout = checkout
        super().__init__(f"checkout {checkout}: {message}")


class CheckoutFailedError(CheckoutError):
    """Nothing is sold, nor charged in the end: what was done of it is taken back."""


class CheckoutUnderWayError(CheckoutError):
    """Whether it will be sold is not known yet: a runner brings the checkout to its end."""


class CheckoutExistsError(CheckoutError):
    """A checkout of this id was begun before; this one has done nothing."""
