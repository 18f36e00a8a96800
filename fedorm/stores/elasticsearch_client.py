"""The official client of a service, as its settings say, and its errors in fedorm's words."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import elasticsearch
from elastic_transport import AsyncTransport, TlsError, TransportApiResponse
from elasticsearch import AsyncElasticsearch

from fedorm.config import ServiceSettings, TLSSettings
from fedorm.exc import (
    AuthenticationError,
    ConfigurationError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StoreError,
    TLSError,
)
from fedorm.stats import Recorder


class IncompleteError(Exception):
    """An answer that leaves out what is in the index."""


ERRORS = (elasticsearch.ApiError, elasticsearch.TransportError, elasticsearch.SerializationError, IncompleteError)
"""What the client raises."""
_COUNTED = ("_search", "_bulk", "_mget", "_doc", "_create", "_update", "_count", "_delete_by_query")
"""Ends of the paths of requests that read or write documents."""
CONFLICT = 409


def made_client(service: str, settings: ServiceSettings, sent: Recorder) -> AsyncElasticsearch:
    """Return a client that tells ``sent`` of its requests; it connects when it is first used.

    ``tls`` or the scheme ``elasticsearch+https`` encrypts. Raises ``ConfigurationError`` for what the client does not
    take.
    """

    class Transport(AsyncTransport):
        """Counts what is sent."""

        async def perform_request(self, method: str, target: str, **options: Any) -> TransportApiResponse:  # type: ignore[override]
            """Send, and count what reads or writes documents."""
            if target.partition("?")[0].rpartition("/")[2] not in _COUNTED and "/_doc/" not in target:
                return await super().perform_request(method, target, **options)
            started = perf_counter()
            try:
                answer = await super().perform_request(method, target, **options)
            except BaseException:
                sent.failed(perf_counter() - started)
                raise
            sent.done(perf_counter() - started, _documents(answer.body))
            return answer

    options: dict[str, Any] = {
        "connections_per_node": settings.pool_size + settings.max_overflow,
        "request_timeout": settings.timeout if settings.timeout is not None else 60.0,
        # A write that is sent twice may find its own first one, and take it for another's.
        "max_retries": 0,
        "transport_class": Transport,
        **dict(_tls_options(settings.tls)),
        **{name: value for name, value in settings.options.items() if name not in OWN_OPTIONS},
    }
    try:
        hosts, user = hosts_of(settings)
        if user is not None:
            # The client would encode it itself, and takes ASCII alone.
            options.setdefault("basic_auth", b64encode(":".join(user).encode()).decode())
        return AsyncElasticsearch(hosts, **options)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"service {service!r}: {settings.address} is not usable: {settings.scrub(str(error))}"
        ) from None


OWN_OPTIONS = {"refresh"}
"""Options of a service that are fedorm's, and not the client's."""
REFRESHES = ("wait_for", "true", "false")


def hosts_of(settings: ServiceSettings) -> tuple[list[str], tuple[str, str] | None]:
    """Return the nodes' addresses, and the user with the password. Raises ValueError for what is no URL."""
    parts = urlsplit(settings.url.get_secret_value())
    credentials, _, places = parts.netloc.rpartition("@")
    scheme = "https" if settings.tls is not None or settings.scheme.endswith("+https") else "http"
    hosts = [f"{scheme}://{one if _has_port(one) else f'{one}:9200'}" for one in places.split(",") if one]
    if not hosts:
        raise ValueError("it names no host")
    if not credentials:
        return hosts, None
    name, _, password = credentials.partition(":")
    return hosts, (unquote(name), unquote(password))


def _has_port(place: str) -> bool:
    return place.rpartition(":")[2].isdigit()


def prefix_of(settings: ServiceSettings) -> str:
    """Return what all names of indices begin with: the URL's path and a hyphen, nothing without one."""
    path = unquote(urlsplit(settings.url.get_secret_value()).path.strip("/")).lower()  # Names have no capitals.
    return f"{path}-" if path else ""


def refresh_of(settings: ServiceSettings) -> str:
    """Return when what a session has written can be searched: the option ``refresh``. Raises ValueError."""
    query = dict(parse_qsl(urlsplit(settings.url.get_secret_value()).query))
    said = query.get("refresh", settings.options.get("refresh", REFRESHES[0]))
    said = str(said).lower()
    if said not in REFRESHES:
        raise ValueError(f"refresh is {said!r}, and can be one of {', '.join(REFRESHES)}")
    return said


def _tls_options(tls: TLSSettings | None) -> Iterator[tuple[str, Any]]:
    if tls is None:
        return
    if tls.ca is not None:
        yield "ca_certs", str(tls.ca)
    if tls.cert is not None:
        yield "client_cert", str(tls.cert)
    if tls.key is not None:
        yield "client_key", str(tls.key)
    if not tls.verify:
        yield "verify_certs", False
        yield "ssl_show_warn", False


WHOLE: dict[str, Any] = {"allow_partial_search_results": False}
"""Options of a search whose answer stands for all documents: without them a lost shard's are left out in silence."""


async def counted(client: Any, index: str, **options: Any) -> int:
    """Return how many documents an index has. Raises ``IncompleteError`` where some of it cannot be asked."""
    answer = await client.count(index=index, **options)
    if answer["_shards"]["failed"]:
        raise IncompleteError(f"{answer['_shards']['failed']} shard(s) of {index} did not answer")
    return int(answer["count"])


def reason_of(error: Mapping[str, Any]) -> str:
    """Return what the server says of a failure, and of what has caused it."""
    cause = error.get("caused_by") or {}
    more = f" ({cause['reason']})" if cause.get("reason") else ""
    return f"{error.get('type', 'error')}: {error.get('reason', '')}{more}"


def _documents(body: Any) -> int:
    """Return how many documents came or were written."""
    if not isinstance(body, dict):
        return 0
    hits = body.get("hits")
    if isinstance(hits, dict):
        return len(hits.get("hits", ()))
    found = body.get("docs", body.get("items"))
    return len(found) if isinstance(found, list) else int("_id" in body)


def classify(error: BaseException) -> type[StoreError]:
    """Return the class of error that one of the client's stands for."""
    if isinstance(error, elasticsearch.AuthenticationException | elasticsearch.AuthorizationException):
        return AuthenticationError
    if isinstance(error, TlsError):
        return TLSError
    if isinstance(error, elasticsearch.ConnectionTimeout | TimeoutError):
        return ServiceTimeoutError
    if isinstance(error, elasticsearch.ConnectionError | IncompleteError | OSError):
        return ServiceUnavailableError
    if isinstance(error, elasticsearch.ApiError) and error.status_code in (429, 502, 503, 504):
        return ServiceUnavailableError
    return StoreError
