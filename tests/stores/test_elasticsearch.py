"""Elasticsearch passes the store compliance suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fedorm.testing.compliance import Feature, Gap, Lost, Outage, Refused, ServerOutage, StoreSuite
from fedorm.testing.servers import ElasticsearchServer

IS_ELASTICS = "FEDORM_TEST_ELASTICSEARCH_URL" in os.environ
"""Whether the tests were given a server: it is Elastic's then, and not noida-db."""
GAPS: dict[Feature, Gap] = {
    Feature.INFINITY: Refused("JSON has no infinity"),
    Feature.NAN: Refused("JSON has no NaN"),
    Feature.HUGE_JSON_NUMBERS: Refused("many readers of JSON take them for floats"),
}
NOIDA: dict[Feature, Gap] = {
    Feature.LONG_FLOATS: Lost("noida-db reads some as the float beside them"),
    Feature.DELETED_VERSIONS: Lost("noida-db keeps no tombstones"),
}


class End(ServerOutage):
    """noida-db, unlike Elasticsearch, has a write on its disk only some time after it has acknowledged it."""

    def begin(self) -> None:
        """Let it write what it has acknowledged, and end."""
        self.server.own.end(self.server.stop_signal, timeout=20)


class TestElasticsearch(StoreSuite):
    settings = {"connect_timeout": 2}
    gaps = GAPS if IS_ELASTICS else GAPS | NOIDA

    @pytest.fixture
    def url(self, elasticsearch_url: str) -> str:
        return elasticsearch_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with ElasticsearchServer() as server:
            yield End(server, server.url("compliance"))
