"""What a service is asked about itself: whether it answers, and what it lacks of what its models need."""

from __future__ import annotations

import asyncio
from typing import Any

from fedorm import Federation
from fedorm.catalog import catalog
from fedorm.stores.base import Capability, Store
from fedorm.stores.findings import Needs
from fedorm.testing.compliance.base import Suite
from fedorm.testing.compliance.rows import SERVICE


class ExaminingSuite(Suite):
    """What ``fedorm doctor`` and routes for health ask of a store."""

    async def test_nothing_is_lacking(self, fed: Federation, store: Store) -> None:
        """A server that has all that the models need is told of nothing."""
        assert await store.findings(_needs()) == []
        assert (await fed.health())[SERVICE].state == "up"

    async def test_tables_that_are_not_there(self, fed: Federation, store: Store) -> None:
        """They are named; collections are made with their first document."""
        await fed.drop_all()
        found = [(one.about, one.is_error) for one in await store.findings(_needs())]
        assert found == ([("table", True)] if Capability.SQL in store.capabilities else [])

    async def test_health_in_threads(self, url: str) -> None:
        """Code that is not async asks over what threads have opened."""
        fed = self.federation(url)

        def ask() -> Any:
            with fed:
                return fed.sync_health()[SERVICE]

        health = await asyncio.to_thread(ask)
        assert (health.state, health.error) == ("up", None)
        assert health.round_trip > 0


def _needs() -> Needs:
    return Needs(tuple(catalog.metadata(SERVICE).tables.values()), tuple(catalog.documents(SERVICE)))
