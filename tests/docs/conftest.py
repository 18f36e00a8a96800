from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docs.starting import Starter


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """What starts the programs of all pages."""
    with Starter() as one:
        yield one
