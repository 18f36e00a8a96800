"""What several test files need."""

from __future__ import annotations

from typing import Any

from fedorm import Federation
from tests.models import Product


async def stored(fed: Federation, model: Any = Product) -> dict[str, Any]:
    """What a fresh session finds."""
    async with fed.session() as session:
        return {document.sku: document.price for document in await session.find(model).to_list()}
