"""MySQL passes the store compliance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedorm.testing.compliance import Feature, Outage, Refused, ServerOutage, StoreSuite
from fedorm.testing.servers import MariaDBServer


class TestMySQL(StoreSuite):
    gaps = {
        Feature.INFINITY: Refused("DOUBLE holds finite numbers"),
        Feature.NAN: Refused("DOUBLE holds finite numbers"),
    }

    @pytest.fixture
    def url(self, mysql_url: str) -> str:
        return mysql_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with MariaDBServer() as server:
            server.create_database("compliance")
            yield ServerOutage(server, server.url("compliance"))
