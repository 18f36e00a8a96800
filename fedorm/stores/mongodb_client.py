"""PyMongo's client of a service, as its settings say."""

from __future__ import annotations

import math
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from fedorm.config import ServiceSettings, TLSSettings
from fedorm.exc import ConfigurationError
from fedorm.stats import Recorder
from fedorm.stores.mongodb_watch import CommandRecorder


def made_client(service: str, settings: ServiceSettings, sent: Recorder) -> Any:
    """Return a client that tells ``sent`` of its commands; it connects when it is first used.

    Raises ``ConfigurationError`` for an address or options that PyMongo does not take.
    """
    milliseconds = math.ceil(settings.connect_timeout * 1000)
    options: dict[str, Any] = {
        "uuidRepresentation": "standard",
        "tz_aware": True,
        "serverSelectionTimeoutMS": milliseconds,
        "connectTimeoutMS": milliseconds,
        "maxPoolSize": settings.pool_size + settings.max_overflow,
        "waitQueueTimeoutMS": math.ceil(settings.pool_timeout * 1000),
        **({} if settings.tls is None else _tls_options(settings.tls)),
    }
    if settings.timeout is not None:
        options["timeoutMS"] = math.ceil(settings.timeout * 1000)
    try:
        given = {**options, **settings.options}
        given["event_listeners"] = [*given.get("event_listeners", ()), CommandRecorder(sent)]
        return AsyncMongoClient(settings.url.get_secret_value(), **given)
    except (PyMongoError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"service {service!r}: {settings.address} is not usable: {settings.scrub(str(error))}"
        ) from None


def _tls_options(tls: TLSSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"tls": True}
    if tls.ca is not None:
        options["tlsCAFile"] = str(tls.ca)
    if tls.cert is not None:
        options["tlsCertificateKeyFile"] = str(tls.cert)
    if not tls.verify:
        options["tlsAllowInvalidCertificates"] = True
    return options
