"""Elasticsearch passes the store compliance suite."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from fedorm import ConfigurationError, Federation, FederationOpenError, ServiceUnavailableError, TLSError
from fedorm.cli.app import app
from fedorm.config import ServiceSettings
from fedorm.stores.elasticsearch import ElasticsearchStore
from fedorm.stores.elasticsearch_client import hosts_of
from fedorm.stores.findings import Needs
from fedorm.testing.compliance import Feature, Gap, Lost, Outage, Refused, ServerOutage, StoreSuite
from fedorm.testing.servers import ElasticsearchServer
from fedorm.testing.servers.processes import free_port
from fedorm.testing.tls import make_certificates
from tests.stores.searched import VolumeText
from tests.sync.proxy import Proxy

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


async def test_what_doctor_asks(fed_of_volumes: Federation) -> None:
    """An index whose mapping is another than its class says is told of, and what to do."""
    store: Any = fed_of_volumes.stores["search_index"]
    needs = Needs(documents=[VolumeText])
    assert (await store.findings(needs), str(await store.version())[:2]) == ([], "8.")
    await store.client(sync=False).indices.put_mapping(
        index=store.index_of(VolumeText), properties={"x": {"type": "long"}}
    )
    assert [str(one) for one in await store.findings(needs)] == [
        "index volumes: no model declares field x: "
        "run  fedorm migrate revision --service search_index --autogenerate  and upgrade"
    ]


def test_the_command_doctor(elasticsearch_url: str, tmp_path: Path) -> None:
    """A cluster is up, with its version; one that is not there is told of, without the password."""
    away = f"elasticsearch://me:hidden@127.0.0.1:{free_port()}/shop"
    done = {}
    for name, url in (("up", elasticsearch_url), ("away", away)):
        file = tmp_path / f"{name}.toml"
        file.write_text(f'[services.texts]\nurl = "{url}"\nconnect_timeout = 2\n')
        done[name] = CliRunner().invoke(app, ["--config", str(file), "doctor", "--format", "json"])
    assert (done["up"].exit_code, json.loads(done["up"].output)["state"]) == (0, "up")
    assert (done["away"].exit_code, "hidden" in done["away"].output) == (1, False)
    assert "service 'texts' at elasticsearch://me@127.0.0.1" in done["away"].output


@pytest.fixture
async def fed_of_volumes(elasticsearch_url: str, no_stray_tasks: None) -> AsyncIterator[Federation]:
    async with Federation({"search_index": elasticsearch_url}) as fed:
        await fed.create_all()
        yield fed


def test_addresses() -> None:
    """Nodes, a user, encryption and a prefix are in the URL; what it cannot say is refused, without the password."""

    def store(url: str, **options: Any) -> ElasticsearchStore:
        return ElasticsearchStore("s", ServiceSettings(url=SecretStr(url), **options))

    one = store("elasticsearch+https://me:p%40ss@a:1,b/shop?refresh=true")
    assert (one.prefix, one.refresh, hosts_of(one.settings)) == (
        "shop-",
        "true",
        (["https://a:1", "https://b:9200"], ("me", "p@ss")),
    )
    assert hosts_of(store("elasticsearch://a", tls=True).settings) == (["https://a:9200"], None)
    with pytest.raises(
        ConfigurationError, match="refresh is 'soon', and can be one of wait_for, true, false"
    ) as raised:
        store("elasticsearch://me:secret@a?refresh=soon")
    assert "secret" not in str(raised.value)


async def test_tls(tmp_path: Path, elasticsearch_url: str) -> None:
    """The right authority, and a client's certificate, are taken; others, no certificate, and plain text are not.

    The server speaks no TLS: before it stands a proxy that does.
    """
    made = make_certificates(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.ca))
    context.load_cert_chain(made.server_cert, made.server_key)

    async def opens(url: str, tls: Any) -> type[BaseException] | None:
        with_password = url.replace("://", "://me:hidden@")
        try:
            async with Federation({"vault": {"url": with_password, "tls": tls, "connect_timeout": 2}}):
                return None
        except FederationOpenError as error:
            told.append(str(error))
            return type(error.failures["vault"])

    told: list[str] = []
    ca, client = {"ca": str(made.ca)}, {"cert": str(made.client_cert), "key": str(made.client_key)}
    async with Proxy(elasticsearch_url, context) as proxy:
        assert await opens(proxy.url, ca) is None
        assert await opens(proxy.url, {"verify": False}) is None
        assert await opens(proxy.url, {"ca": str(made.other_ca)}) is TLSError
        assert await opens(proxy.url.replace("search:", "search+https:"), None) is TLSError
        assert await opens(proxy.url, None) is ServiceUnavailableError
        context.verify_mode = ssl.CERT_REQUIRED
        assert await opens(proxy.url, ca | client) is None
        assert await opens(proxy.url, ca) is not None
    assert [text for text in told if "hidden" in text] == []
