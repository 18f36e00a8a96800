"""Message brokers: NATS and RabbitMQ from Debian's packages, and the Kafka protocol from the wheel ``noida-db``."""

from __future__ import annotations

import socket
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from fedorm.testing.servers.base import Server
from fedorm.testing.servers.errors import ServerUnavailableError
from fedorm.testing.servers.noida import noida_program
from fedorm.testing.servers.owned import OwnedProcess
from fedorm.testing.servers.processes import find_binary, free_port

NATS_CONFIG = """
listen: "127.0.0.1:{port}"
authorization {{ user: fedorm, password: "{password}" }}
jetstream {{ store_dir: "{directory}/jetstream" }}
"""
RABBITMQ_CONFIG = """
listeners.tcp.local = 127.0.0.1:{port}
default_user = fedorm
default_pass = {password}
loopback_users = none
log.console = true
log.console.level = warning
"""


class BrokerAdmin:
    """Sees whether a broker answers; what is kept there is named by tests with names of their own."""

    def __init__(self, port: int, hello: bytes, answer: bytes) -> None:
        self._port, self._hello, self._answer = port, hello, answer

    def ping(self) -> None:
        """Exchange the first bytes of the protocol."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=3) as connection:
            connection.sendall(self._hello)
            if self._answer not in connection.recv(1024):
                raise ConnectionError("what listens there is no such broker")

    def create(self, name: str) -> None:
        """Do nothing."""

    def drop(self, name: str) -> None:
        """Do nothing: streams, topics and queues that no test asks for again are no matter."""

    def connections(self, name: str) -> list[str]:
        """Return nothing."""
        return []


class BrokerServer(Server):
    """A broker, whose stores are no databases."""

    default_database: ClassVar[str] = ""
    hello: ClassVar[bytes] = b""
    answer: ClassVar[bytes]

    @property
    def admin(self) -> BrokerAdmin:
        """Knows the first bytes of the protocol."""
        return BrokerAdmin(self.port, self.hello, self.answer)

    @abstractmethod
    def url(self, database: str | None = None) -> str:
        """Return the broker's URL."""


class NATSServer(BrokerServer):
    """A NATS server with JetStream, which keeps what it has confirmed also after ``kill()``."""

    name = "NATS"
    answer = b"INFO "

    def url(self, database: str | None = None) -> str:
        """Return the broker's URL."""
        return f"nats://fedorm:{self.password}@127.0.0.1:{self.port}"

    def _initialize(self) -> None:
        self._binary()
        settings = NATS_CONFIG.format(port=self.port, password=self.password, directory=self.own.directory)
        self.own.write("nats.conf", settings)

    def _command(self) -> list[str]:
        return [str(self._binary()), "--config", str(self.own.directory / "nats.conf")]

    def _binary(self) -> Path:
        binary = find_binary("nats-server")
        if binary is None:
            raise ServerUnavailableError(
                self.name, "there is no nats-server", "Try as root: apt-get install nats-server"
            )
        return binary


class RabbitMQServer(BrokerServer):
    """A RabbitMQ server; its node registers with an ``epmd`` of its own, so that no daemon stays behind."""

    name = "RabbitMQ"
    # The protocol's header 0-9-1, and the frame of Connection.Start on channel 0.
    hello = b"AMQP\x00\x00\x09\x01"
    answer = b"\x01\x00\x00"

    def __init__(self, run_as: str | None = None) -> None:
        super().__init__(run_as)
        self._names: OwnedProcess | None = None

    def url(self, database: str | None = None) -> str:
        """Return the broker's URL."""
        return f"amqp://fedorm:{self.password}@127.0.0.1:{self.port}/"

    def stop(self) -> None:
        """End the server and its ``epmd``, and remove its data; does nothing when it is not there."""
        super().stop()
        if self._names is not None:
            self._names.end(self.stop_signal, timeout=10)
            self._names.remove()
            self._names = None

    def _initialize(self) -> None:
        names = find_binary("epmd")
        if names is None:
            raise ServerUnavailableError(self.name, "there is no epmd", "Try as root: apt-get install erlang-base")
        settings = RABBITMQ_CONFIG.format(port=self.port, password=self.password)
        self.own.write("rabbitmq.conf", settings)
        self.own.write("enabled_plugins", "[].")
        self._binary()
        self._names_port, self._distribution_port = free_port(), free_port()
        self._names = OwnedProcess("epmd", self._run_as)
        self._names.launch([str(names), "-port", str(self._names_port), "-address", "127.0.0.1"], self.death_signal)

    def _command(self) -> list[str]:
        folder = self.own.directory
        environment = {
            "ERL_EPMD_PORT": self._names_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "enabled_plugins",
            "RABBITMQ_MNESIA_BASE": folder / "data",
            "RABBITMQ_LOG_BASE": folder / "log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODENAME": f"fedorm{self.port}@localhost",
            "RABBITMQ_DIST_PORT": self._distribution_port,
            # One scheduler: it shares the machine with the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }
        return ["env", *(f"{name}={value}" for name, value in environment.items()), str(self._binary())]

    def _binary(self) -> Path:
        # Not the program on PATH, which changes to a user of its own.
        found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
        if not found:
            raise ServerUnavailableError(
                self.name, "there is no rabbitmq-server", "Try as root: apt-get install rabbitmq-server"
            )
        return found[-1]


class KafkaServer(BrokerServer):
    """A broker that speaks Kafka's protocol: ``noida-db``, which is not Apache's.

    It writes to disk a moment after it has confirmed: what came right before its end may be gone after ``restart()``.
    """

    name = "Kafka"
    # ApiVersions, version 0, of client null, and the answer's correlation id.
    hello = b"\x00\x00\x00\x0a\x00\x12\x00\x00ping\xff\xff"
    answer = b"ping"

    def url(self, database: str | None = None) -> str:
        """Return the broker's URL."""
        return f"kafka://127.0.0.1:{self.port}"

    def _initialize(self) -> None:
        self._program = noida_program(self.name, self.own)

    def _command(self) -> list[str]:
        own_port = ["--kafka-port", str(self.port), "--data-dir", str(self.own.directory / "data")]
        return [str(self._program), "start", "--only", "kafka", *own_port]
