"""Redis passes the store compliance suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation, FederationOpenError, ServiceUnavailableError, TLSError
from fedorm.testing.compliance import Outage, ServerOutage, StoreSuite
from fedorm.testing.servers import RedisServer
from fedorm.testing.tls import make_certificates


class TestRedis(StoreSuite):
    settings = {"connect_timeout": 2}

    @pytest.fixture
    def url(self, empty_redis_url: str) -> str:
        return empty_redis_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with RedisServer(durable=True) as server:
            yield ServerOutage(server, server.url())


async def test_tls(tmp_path: Path) -> None:
    """The right authority, and a client's certificate, are taken; others, and plain text, are not."""
    made = make_certificates(tmp_path)
    told: list[str] = []
    with RedisServer(tls=made) as server:

        async def opens(url: str, tls: Any) -> BaseException | None:
            try:
                async with Federation({"vault": {"url": url, "tls": tls, "connect_timeout": 2}}):
                    return None
            except FederationOpenError as error:
                told.append(str(error))
                return error.failures["vault"]

        url, client = server.url(), {"cert": str(made.client_cert), "key": str(made.client_key)}
        assert await opens(url, {"ca": str(made.ca)}) is None
        assert await opens(url, {"ca": str(made.ca), **client}) is None
        assert await opens(url, {"verify": False}) is None
        assert await opens(f"rediss{url.removeprefix('redis')}?ssl_ca_certs={made.ca}", None) is None
        assert isinstance(await opens(url, {"ca": str(made.other_ca)}), TLSError)
        assert isinstance(await opens(url, True), TLSError)
        assert isinstance(await opens(f"rediss{url.removeprefix('redis')}", None), TLSError)
        assert isinstance(await opens(url, None), ServiceUnavailableError)
        assert server.password not in "".join(told)
