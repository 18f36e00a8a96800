"""DuckDB with its own scanners over the services' servers: what a federated select is held against."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
from duckdb_extensions import import_extension
from sqlalchemy import URL, make_url
from sqlglot import exp

_SCANNERS = {"postgresql": "postgres_scanner", "mysql": "mysql_scanner"}


def attached(services: Mapping[str, str]) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB that has each service's database attached under the service's name, to be found by bare names."""
    connection = duckdb.connect()
    urls = {name: make_url(url) for name, url in services.items()}
    for kind in {url.get_backend_name() for url in urls.values()}:
        import_extension(_SCANNERS[kind], con=connection)
        connection.execute(f"LOAD {_SCANNERS[kind]}")
    for name, url in urls.items():
        place, kind = exp.Literal.string(_dsn(url)).sql("duckdb"), url.get_backend_name()
        connection.execute(f"ATTACH {place} AS {name} (TYPE {'postgres' if kind == 'postgresql' else 'mysql'})")
    schemas = [
        f"{name}.{'public' if url.get_backend_name() == 'postgresql' else url.database}" for name, url in urls.items()
    ]
    connection.execute(f"SET search_path = {exp.Literal.string(','.join(schemas)).sql('duckdb')}")
    return connection


def _dsn(url: URL) -> str:
    names = {"host": url.host, "port": url.port, "user": url.username, "password": url.password}
    if url.get_backend_name() == "postgresql":
        return " ".join(f"{name}={value}" for name, value in {**names, "dbname": url.database}.items())
    return " ".join(f"{name}={value}" for name, value in {**names, "database": url.database}.items())
