"""The banks that pay for checkouts: they are outside, and no transaction reaches them."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from examples.ecommerce.errors import CardDeclinedError


class Bank(Protocol):
    """Takes money and gives it back; a call may have come there, whatever has become of the caller."""

    async def charge(self, key: str, amount: Decimal) -> str:
        """Take ``amount``, once for each ``key``, and return the reference of that, however often this is called.

        Raises ``CardDeclinedError``, also for a key that was cancelled, and ``BankUnavailableError``.
        """

    async def cancel(self, key: str) -> bool:
        """Give back what was taken for ``key``, and take nothing for it from now on; say whether anything was taken.

        The answer is the same however often this is called, for a key that the bank has never heard of, too. Raises
        ``BankUnavailableError``.
        """


BANKS: dict[str, Bank] = {}
"""The banks by name, to be filled by each process that checks out or runs sagas: a saga keeps the name alone."""


class DemoBank:
    """Pays up to ``limit`` at a time, and forgets its customers when the process ends."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[str, Decimal] = {}
        self._cancelled: set[str] = set()

    async def charge(self, key: str, amount: Decimal) -> str:
        """Take the money, if it is not too much."""
        if amount > self._limit or key in self._cancelled:
            raise CardDeclinedError(f"{amount} is too much for this card")
        self._taken[key] = amount
        return f"demo-{key[:8]}"

    async def cancel(self, key: str) -> bool:
        """Give it back."""
        self._cancelled.add(key)
        return key in self._taken
