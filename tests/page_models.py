"""Documents with and without revisions, and a federation of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fedorm import FederatedDocument, Federation


class Page(FederatedDocument):
    __service__ = "pages"
    id: int  # type: ignore[assignment]
    price: int
    labels: list[str] = []

    class Settings:
        name = "pages"


class Sheet(FederatedDocument):
    """The same with revisions, and with a None that is not stored."""

    __service__ = "pages"
    id: int  # type: ignore[assignment]
    price: int | None
    labels: list[str] = []

    class Settings:
        name = "sheets"
        use_revision = True
        keep_nulls = False


@pytest.fixture
async def pages(fresh_database: Callable[[str], str], no_stray_tasks: None) -> Any:
    async with Federation({"pages": fresh_database("mongodb"), "users": fresh_database("postgresql")}) as fed:
        await fed.create_all()
        yield fed
