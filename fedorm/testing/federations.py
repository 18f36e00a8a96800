"""The pytest plugin's fixtures that give a test the application's federation, and undo what the test has done in it.

Say which one it is by a fixture of your own, in ``conftest.py``:

    @pytest.fixture(scope="session")
    def fedorm_federation():
        return Federation.from_file("fedorm-test.toml")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:  # Every run of pytest loads the plugin, and few need the half second that this takes.
    from fedorm.federation import Federation

T = TypeVar("T")


def _async_fixture(function: T) -> T:
    """Make an async fixture that works in pytest-asyncio's strict mode, too; without the package, one that says so."""
    try:
        from pytest_asyncio import fixture
    except ModuleNotFoundError:
        return pytest.fixture(function)  # type: ignore[call-overload, no-any-return]
    made: Any = fixture
    decorated: T = made(function)
    return decorated


@pytest.fixture(scope="session")
def fedorm_federation() -> Federation:
    """Give the federation that ``federation`` and ``sync_federation`` are about, not yet open; yours to define."""
    pytest.fail(
        "no fixture says which federation to test: define  fedorm_federation  with scope='session' in conftest.py, "
        "and return a Federation over databases for tests",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def fedorm_made_tables() -> set[int]:
    """Hold the federations whose tables were made in this run."""
    return set()


@_async_fixture
async def federation(fedorm_federation: Federation, fedorm_made_tables: set[int]) -> AsyncIterator[Federation]:
    """Give the open federation; after the test every service is as it was before, whatever was committed.

    Tables that are not there are made before. How it is undone, and what cannot be:
    ``fedorm.testing.rolling_back.rolled_back``.
    """
    from fedorm.testing.rolling_back import rolled_back

    async with fedorm_federation:
        await _make_tables(fedorm_federation, fedorm_made_tables)
        async with rolled_back(fedorm_federation):
            yield fedorm_federation


@pytest.fixture
def sync_federation(fedorm_federation: Federation, fedorm_made_tables: set[int]) -> Iterator[Federation]:
    """Do the same for code that is not async, with ``sync_session()``."""
    from fedorm.testing.rolling_back import sync_rolled_back

    async def make() -> None:
        async with fedorm_federation:
            await _make_tables(fedorm_federation, fedorm_made_tables)

    if id(fedorm_federation) not in fedorm_made_tables:
        asyncio.run(make())
    with fedorm_federation, sync_rolled_back(fedorm_federation):
        yield fedorm_federation


async def _make_tables(federation: Federation, made: set[int]) -> None:
    if id(federation) not in made:
        await federation.create_all()
        made.add(id(federation))
