"""What every framework's routes for health and metrics answer with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedorm.exc import FederationOpenError, MissingDriverError
from fedorm.federation import Federation, Health
from fedorm.telemetry import register

UNCACHED = {"Cache-Control": "no-store"}
"""The headers of a report on health."""


def health_report(states: Mapping[str, Health]) -> tuple[int, dict[str, Any]]:
    """Return an HTTP status, 503 with a service down, and what to send as JSON.

    Of an error only its class is told, and of a service no address: such routes are often open to all.
    """
    services: dict[str, dict[str, Any]] = {}
    for name, one in states.items():
        services[name] = {"state": one.state}
        if one.round_trip is not None:
            services[name]["milliseconds"] = round(one.round_trip, 3)
        if one.error is not None:
            services[name]["error"] = type(one.error).__name__
    is_up = all(one.state == "up" for one in states.values())
    return 200 if is_up else 503, {"state": "up" if is_up else "down", "services": services}


def states_at_opening(federation: Federation, error: FederationOpenError) -> dict[str, Health]:
    """Return how the services are of a federation that could not be opened: all were asked."""
    return {
        name: Health(name, store.address, "down" if name in error.failures else "up", None, error.failures.get(name))
        for name, store in federation.stores.items()
    }


def metrics_page(federation: Federation, accept: str = "") -> tuple[bytes, str]:
    """Return a federation's metrics, in the format of Prometheus that ``accept`` asks for, and its media type.

    Raises ``MissingDriverError`` without the package prometheus-client.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ModuleNotFoundError as error:
        raise MissingDriverError(user="/metrics", package="prometheus-client", extra="prometheus") from error
    registry = CollectorRegistry()  # Of this page alone: the process's own may hold what is nobody's business.
    register(federation, registry)
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
