"""Where the shop's data is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from fedorm import Federation

from . import models  # noqa: F401 - whose tables are made

Sessions = Callable[[], AsyncSession]
SETTINGS = Path(__file__).parent.parent / "fedorm.toml"


@asynccontextmanager
async def opened(*, make_tables: bool = False) -> AsyncIterator[Sessions]:
    """Give what makes sessions, as long as the shop is open."""
    async with Federation.from_file(SETTINGS) as fed:
        if make_tables:
            await fed.create_all()
        yield partial(fed.session, expire_on_commit=False, twophase=True)
