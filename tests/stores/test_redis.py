"""Redis passes the store compliance suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fedorm.testing.compliance import Outage, ServerOutage, StoreSuite
from fedorm.testing.servers import RedisServer


class TestRedis(StoreSuite):
    settings = {"connect_timeout": 2}

    @pytest.fixture
    def url(self, empty_redis_url: str) -> str:
        return empty_redis_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with RedisServer(durable=True) as server:
            yield ServerOutage(server, server.url())
