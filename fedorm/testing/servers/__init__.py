"""Start real database servers and message brokers on private ports, each with its own data that vanishes with it."""

from __future__ import annotations

from fedorm.testing.servers.base import Server, live_servers
from fedorm.testing.servers.brokers import KafkaServer, NATSServer, RabbitMQServer
from fedorm.testing.servers.clickhouse import ClickHouseServer
from fedorm.testing.servers.elasticsearch import ElasticsearchServer
from fedorm.testing.servers.errors import ServerStartError, ServerUnavailableError
from fedorm.testing.servers.mariadb import MariaDBServer
from fedorm.testing.servers.mongodb import MongoDBServer
from fedorm.testing.servers.postgresql import PostgreSQLServer
from fedorm.testing.servers.redis import RedisServer

__all__ = [
    "PostgreSQLServer",
    "MariaDBServer",
    "MongoDBServer",
    "ClickHouseServer",
    "RedisServer",
    "ElasticsearchServer",
    "NATSServer",
    "KafkaServer",
    "RabbitMQServer",
    "Server",
    "ServerStartError",
    "ServerUnavailableError",
    "live_servers",
]
