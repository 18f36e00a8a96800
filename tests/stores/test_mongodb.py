"""MongoDB passes the store compliance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedorm.testing.compliance import Feature, Lost, Outage, Refused, ServerOutage, StoreSuite
from fedorm.testing.servers import MongoDBServer
from fedorm.testing.servers.admin import MongoDBAdmin


class Crash(ServerOutage):
    """SecantusDB, unlike MongoDB, has a commit on its disk only some time after it has acknowledged it."""

    def begin(self) -> None:
        """Let it write what it has acknowledged, then end it by SIGKILL."""
        admin = self.server.admin
        assert isinstance(admin, MongoDBAdmin)
        with admin.client() as client:
            client.admin.command("fsync")
        super().begin()


class TestMongoDB(StoreSuite):
    settings = {"connect_timeout": 2}
    gaps = {
        Feature.HUGE_DECIMALS: Refused("Decimal128 has 34 digits"),
        Feature.MICROSECONDS: Lost("a BSON date holds milliseconds"),
        Feature.NAIVE_DATETIMES: Lost("a BSON date is an instant: a datetime without a zone is taken for UTC"),
        Feature.HUGE_JSON_NUMBERS: Refused("BSON integers have 64 bits"),
    }

    @pytest.fixture
    def url(self, mongodb_url: str) -> str:
        return mongodb_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with MongoDBServer() as server:
            server.create_database("compliance")
            yield Crash(server, server.url("compliance"))
