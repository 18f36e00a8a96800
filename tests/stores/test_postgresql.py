"""PostgreSQL passes the store compliance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedorm.testing.compliance import Feature, Outage, Refused, ServerOutage, StoreSuite
from fedorm.testing.servers import PostgreSQLServer


class TestPostgreSQL(StoreSuite):
    gaps = {Feature.ZERO_CHARACTERS: Refused("text ends at a zero character")}

    @pytest.fixture
    def url(self, postgresql_url: str) -> str:
        return postgresql_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with PostgreSQLServer() as server:
            server.create_database("compliance")
            yield ServerOutage(server, server.url("compliance"))
