"""Message brokers as targets of the relay: NATS, Kafka, Redis and RabbitMQ, through FastStream."""

from fedorm.relay.brokers.base import UndeliverableEventError
from fedorm.relay.brokers.target import BrokerTarget

__all__ = ["BrokerTarget", "UndeliverableEventError"]
