"""Which kind of broker a URL, or a broker object of FastStream's, is of."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from fedorm.exc import ConfigurationError, MissingDriverError
from fedorm.relay.brokers.address import Address

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedorm.relay.brokers.base import Publisher

_KINDS = {
    "nats": ("NATS", "NATSPublisher", "nats", ("nats", "tls")),
    "kafka": ("Kafka", "KafkaPublisher", "kafka", ("kafka", "kafkas")),
    "redis": ("Redis", "RedisPublisher", "redis-broker", ("redis", "rediss")),
    "rabbitmq": ("RabbitMQ", "RabbitMQPublisher", "rabbitmq", ("amqp", "amqps")),
}
"""By module: what it is called, its class, the extra that brings its driver, and the schemes of its URLs."""
_FASTSTREAM = {"nats": "nats", "kafka": "kafka", "redis": "redis", "rabbit": "rabbitmq"}
"""By FastStream's package, the module here."""


def publisher_of(broker: Any, timeout: float, options: dict[str, Any]) -> tuple[str, Address, Callable[[], Publisher]]:
    """Return the name of the broker's kind, its address, and what makes a publisher that is not connected yet.

    Raises ``ConfigurationError`` for what is no broker or an option that it does not have, and ``MissingDriverError``
    without the package.
    """
    module = _module_of(broker)
    kind, class_name, extra, _ = _KINDS[module]
    address = Address(broker, kind)
    try:
        publisher: type[Publisher] = getattr(importlib.import_module(f"fedorm.relay.brokers.{module}"), class_name)
    except ImportError as error:
        package = f"faststream[{'rabbit' if module == 'rabbitmq' else module}]"
        raise MissingDriverError(user=f"the outbox's target {address}", package=package, extra=extra) from error
    make = partial(publisher, address, timeout, **options)
    try:
        make()
    except TypeError as error:
        raise ConfigurationError(f"{address}: {kind} does not have such an option: {error}") from error
    return module, address, make


def _module_of(broker: Any) -> str:
    module: str | None
    if isinstance(broker, str):
        scheme = broker.partition("://")[0].lower()
        for module, (_, _, _, schemes) in _KINDS.items():
            if scheme in schemes and "://" in broker:
                return module
        known = ", ".join(f"{scheme}://" for _, _, _, schemes in _KINDS.values() for scheme in schemes)
        shown = f"a URL of scheme {scheme!r}" if "://" in broker else "text that is no URL"
        raise ConfigurationError(f"{shown} is no broker that events can be handed to; known are {known}")
    for base in type(broker).__mro__:
        package, _, rest = base.__module__.partition(".")
        if package == "faststream" and (module := _FASTSTREAM.get(rest.partition(".")[0])) is not None:
            return module
    raise ConfigurationError(
        f"a {type(broker).__name__} is no broker that events can be handed to: give a URL, or FastStream's NatsBroker, "
        f"KafkaBroker, RedisBroker or RabbitBroker"
    )
