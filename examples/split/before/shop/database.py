"""Where the shop's data is."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from .models import Base

Sessions = Callable[[], AsyncSession]


@asynccontextmanager
async def opened(*, make_tables: bool = False) -> AsyncIterator[Sessions]:
    """Give what makes sessions, as long as the shop is open."""
    engine = create_async_engine(os.environ["SHOP_URL"])
    if make_tables:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()
