"""Having a rule for oneself: who carries it out sees that somebody wants it, and lets go of it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fedorm.exc import FedormError, StoreError
from fedorm.sync.accounts import Accounts, Progress, wish
from fedorm.sync.errors import LeaseLostError


@asynccontextmanager
async def wished(accounts: Accounts, rule: str, wait: float) -> AsyncIterator[None]:
    """Say that a rule is wanted, as long as the block runs; one at a time may. It ends with a crash, as leases do."""
    name = wish(rule)
    epoch = await taken(accounts, name, rule, wait)

    async def renew() -> None:
        while True:
            await asyncio.sleep(min(1.0, accounts.lease / 3))
            with suppress(StoreError):  # Until it is over: then the rule's own lease tells of that.
                await accounts.renew(name, epoch, Progress())

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with suppress(StoreError, LeaseLostError):
            await asyncio.shield(accounts.renew(name, epoch, Progress(), release=True))


async def taken(accounts: Accounts, name: str, rule: str, wait: float) -> int:
    """Take a lease as soon as it is nobody's, and return its epoch. Raises ``FedormError`` after ``wait`` seconds."""
    try:
        async with asyncio.timeout(wait):
            while (epoch := await accounts.take(name, even_paused=True)) is None:  # noqa: ASYNC110 - a database's
                await asyncio.sleep(0.1)
            return epoch
    except TimeoutError:
        raise FedormError(f"sync rule {rule!r}: who carries it out has not let go of it within {wait:g} s") from None
