"""Create, drop and look into databases on a server that is given by its URL."""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from psycopg import Cursor
    from pymongo import MongoClient


class Admin(Protocol):
    """What a kind of server must be able to do for tests; ``execute`` is the kind's own."""

    def ping(self) -> None:
        """Raise unless the server answers."""

    def create(self, name: str) -> None:
        """Create the database ``name``, where the server does not do so on first use."""

    def drop(self, name: str) -> None:
        """Drop the database ``name`` if it exists, whoever is connected to it."""

    def connections(self, name: str) -> list[str]:
        """Describe the client connections open in the database ``name``; empty where it cannot be told."""


class PostgreSQLAdmin:
    """Administers PostgreSQL through psycopg."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def ping(self) -> None:
        """Run the smallest query."""
        with self._cursor() as cursor:
            cursor.execute("SELECT 1")

    def create(self, name: str) -> None:
        """Create the database ``name``."""
        with self._cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{name}"'.encode())

    def drop(self, name: str) -> None:
        """Drop the database ``name`` with its prepared transactions, replication slots and connections."""
        with self._cursor() as cursor:
            cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", (name,))
            prepared = [str(gid) for (gid,) in cursor.fetchall()]
        if prepared:  # They can be ended in their own database alone, and keep it from being dropped.
            with self._cursor(name) as cursor:
                for gid in prepared:
                    cursor.execute("ROLLBACK PREPARED '{}'".format(gid.replace("'", "''")).encode())
        slots = "FROM pg_replication_slots WHERE database = %s"
        with self._cursor() as cursor:
            cursor.execute(
                f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active_pid IS NOT NULL".encode(),
                (name,),
            )
            cursor.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}".encode(), (name,))
            cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())

    def connections(self, name: str) -> list[str]:
        """List the client backends, replication among them, with their last statement."""
        with self._cursor() as cursor:
            cursor.execute(
                "SELECT pid, application_name, state, query FROM pg_stat_activity"
                " WHERE datname = %s AND backend_type IN ('client backend', 'walsender')",
                (name,),
            )
            return [f"pid {pid} {app!r} {state}: {query}" for pid, app, state, query in cursor.fetchall()]

    @contextmanager
    def _cursor(self, database: str | None = None) -> Iterator[Cursor]:
        import psycopg

        with (
            psycopg.connect(
                host=self._url.host or "127.0.0.1",
                port=self._url.port or 5432,
                user=self._url.username,
                password=self._url.password,
                dbname=database or self._url.database or "postgres",
                connect_timeout=5,
                autocommit=True,
            ) as connection,
            connection.cursor() as cursor,
        ):
            yield cursor


class MySQLAdmin:
    """Administers MySQL and MariaDB through PyMySQL; ``ca`` turns TLS on."""

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self._url = make_url(url)
        self._ca = ca

    def ping(self) -> None:
        """Run the smallest query."""
        with self._cursor() as cursor:
            cursor.execute("SELECT 1")

    def create(self, name: str) -> None:
        """Create the database ``name``."""
        with self._cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{name}`")

    def drop(self, name: str) -> None:
        """Drop the database ``name`` and end the connections to it, whose locks would make the drop wait."""
        with self._cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (connection,) in cursor.fetchall():
                # It may have left since it was listed, which KILL answers with an error.
                cursor.execute(f"BEGIN NOT ATOMIC DECLARE CONTINUE HANDLER FOR 1094 DO 0; KILL {connection}; END")
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def connections(self, name: str) -> list[str]:
        """List the connections whose current database is ``name``."""
        with self._cursor() as cursor:
            cursor.execute("SELECT id, host, command, info FROM information_schema.processlist WHERE db = %s", (name,))
            return [f"id {id_} {host} {command}: {info}" for id_, host, command, info in cursor.fetchall()]

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        import pymysql

        connection = pymysql.connect(
            host=self._url.host or "127.0.0.1",
            port=self._url.port or 3306,
            user=self._url.username,
            password=self._url.password or "",
            ssl={"ca": str(self._ca)} if self._ca else None,
            connect_timeout=5,
            autocommit=True,
        )
        with connection, connection.cursor() as cursor:
            yield cursor


class MongoDBAdmin:
    """Administers MongoDB through PyMongo."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ping(self) -> None:
        """Ask for the server's state."""
        with self.client() as client:
            client.admin.command("ping")

    def create(self, name: str) -> None:
        """Do nothing: MongoDB makes a database on the first write to it."""

    def drop(self, name: str) -> None:
        """Drop the database ``name``, and end the transactions of killed clients, whose locks would make it wait."""
        with self.client() as client:
            client.admin.command({"killAllSessions": []})
            client.drop_database(name)

    def connections(self, name: str) -> list[str]:
        """Return nothing: a connection to MongoDB belongs to no database."""
        return []

    @contextmanager
    def client(self) -> Iterator[MongoClient[dict[str, Any]]]:
        """Open a client to just the server of the URL, without looking for others."""
        from pymongo import MongoClient

        with MongoClient[dict[str, Any]](self._url, directConnection=True, serverSelectionTimeoutMS=3000) as client:
            yield client


class RedisAdmin:
    """Administers Redis through redis-py; its databases are there from the beginning."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ping(self) -> None:
        """Ask for an answer."""
        with self.client() as client:
            client.ping()

    def create(self, name: str) -> None:
        """Do nothing."""

    def drop(self, name: str) -> None:
        """Do nothing: keys that no test asks for again are no matter."""

    def connections(self, name: str) -> list[str]:
        """Return nothing: a pool's connections are idle."""
        return []

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Open a client."""
        from redis import Redis

        with Redis.from_url(self._url, socket_timeout=5, socket_connect_timeout=3) as client:
            yield client


class ElasticsearchAdmin:
    """Administers Elasticsearch through its own client; a database is a prefix of names."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def ping(self) -> None:
        """Ask who it is."""
        with self.client() as client:
            client.info()

    def create(self, name: str) -> None:
        """Do nothing: an index is made on its own."""

    def drop(self, name: str) -> None:
        """Delete the indices and templates whose names begin with ``name`` and a hyphen."""
        with self.client() as client:
            indices = client.indices.get(index=f"{name}-*", features="aliases", expand_wildcards="all")
            for index in indices:
                client.indices.delete(index=index, ignore_unavailable=True)
            templates = client.options(ignore_status=404).indices.get_index_template(name=f"{name}-*")
            for template in templates["index_templates"]:
                client.indices.delete_index_template(name=template["name"])

    def connections(self, name: str) -> list[str]:
        """Return nothing: a connection belongs to no index."""
        return []

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Open a client."""
        from elasticsearch import Elasticsearch

        scheme = "https" if self._url.drivername.endswith("+https") else "http"
        user = (self._url.username, self._url.password or "") if self._url.username else None
        with Elasticsearch(
            f"{scheme}://{self._url.host or '127.0.0.1'}:{self._url.port or 9200}",
            basic_auth=user,
            request_timeout=10,
            max_retries=0,
        ) as client:
            yield client


class ClickHouseAdmin:
    """Administers ClickHouse: over HTTP by the standard library, or over the native protocol by its driver."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url)

    def ping(self) -> None:
        """Run the smallest query."""
        self._execute("SELECT 1")

    def create(self, name: str) -> None:
        """Create the database ``name``."""
        self._execute(f"CREATE DATABASE `{name}`")

    def drop(self, name: str) -> None:
        """Drop the database ``name``."""
        self._execute(f"DROP DATABASE IF EXISTS `{name}`")

    def connections(self, name: str) -> list[str]:
        """Return nothing: ClickHouse lists running queries, not connections."""
        return []

    def _execute(self, statement: str) -> None:
        host, user, password = self._url.host or "127.0.0.1", self._url.username, self._url.password or ""
        if "native" in self._url.drivername:
            from clickhouse_driver import Client

            client = Client(host, self._url.port or 9000, user=user or "default", password=password)
            try:
                client.execute(statement)
            finally:
                client.disconnect()
            return
        request = urllib.request.Request(
            f"http://{host}:{self._url.port or 8123}/",
            data=statement.encode(),
            headers={"X-ClickHouse-User": user or "default", "X-ClickHouse-Key": password},
        )
        # Servers of tests are near; a proxy from the environment is for what is far.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=30).close()
