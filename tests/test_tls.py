"""TLS to a PostgreSQL and a MariaDB that refuse plain text: right, wrong and missing certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedorm import ConfigurationError, Federation, FederationOpenError, ServiceUnavailableError, TLSError
from fedorm.testing.plugin import unavailable
from fedorm.testing.servers import MariaDBServer, PostgreSQLServer, Server, ServerUnavailableError
from fedorm.testing.tls import Certificates, make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    made = {"postgresql": PostgreSQLServer, "mariadb": MariaDBServer}[request.param](tls=certificates)
    try:
        made.start()
    except ServerUnavailableError as error:
        unavailable(str(error))
    yield made
    made.stop()


async def opens(settings: dict[str, Any]) -> None:
    async with Federation({"vault": settings}) as fed:
        health = await fed.health()
        assert health["vault"].state == "up"


def opens_sync(settings: dict[str, Any]) -> None:
    with Federation({"vault": settings}):
        pass


async def test_the_right_authority(server: Server, certificates: Certificates) -> None:
    """A server whose certificate the named authority has signed is trusted, by both drivers."""
    settings = {"url": server.url(), "tls": {"ca": str(certificates.ca)}}
    await opens(settings)
    opens_sync(settings)


async def test_options_in_the_url(server: Server, certificates: Certificates) -> None:
    """tls_ca in the URL is enough to turn TLS on."""
    await opens({"url": f"{server.url()}?tls_ca={certificates.ca}"})


async def test_a_client_certificate(server: Server, certificates: Certificates) -> None:
    """The client can show its own certificate."""
    tls = {"ca": str(certificates.ca), "cert": str(certificates.client_cert), "key": str(certificates.client_key)}
    await opens({"url": server.url(), "tls": tls})


@pytest.mark.parametrize("ca", ["other", "system"])
async def test_an_unknown_authority_is_refused(server: Server, certificates: Certificates, ca: str) -> None:
    """Neither another authority nor the system's vouches for this server."""
    tls: Any = {"ca": str(certificates.other_ca)} if ca == "other" else True
    with pytest.raises(FederationOpenError) as raised:
        await opens({"url": server.url(), "tls": tls})
    assert isinstance(raised.value.failures["vault"], TLSError)
    assert server.password not in str(raised.value)
    if ca == "other":
        with pytest.raises(FederationOpenError, match="vault"):
            opens_sync({"url": server.url(), "tls": tls})


async def test_verification_is_switched_off_by_name(server: Server) -> None:
    """The setting verify = false encrypts without asking who answers."""
    await opens({"url": server.url(), "tls": {"verify": False}})
    await opens({"url": f"{server.url()}?tls=true&tls_verify=false"})
    opens_sync({"url": server.url(), "tls": {"verify": False}})


async def test_plain_text_is_refused(server: Server) -> None:
    """A server that insists on TLS refuses a service configured without it."""
    with pytest.raises(FederationOpenError) as raised:
        await opens({"url": server.url()})
    assert isinstance(raised.value.failures["vault"], ServiceUnavailableError)


def test_a_missing_file_is_named(server: Server, tmp_path: Path) -> None:
    """The setting and the path are in the message."""
    with pytest.raises(ConfigurationError, match=r"vault.*tls.*there is no file"):
        Federation({"vault": {"url": server.url(), "tls": {"ca": str(tmp_path / "none.crt")}}})


def test_modes_that_fall_back_are_refused(server: Server) -> None:
    """sslmode=prefer would speak plain text when the server likes."""
    with pytest.raises(ConfigurationError, match="may fall back to plain text"):
        Federation({"vault": f"{server.url()}?sslmode=prefer"})
