"""Tables that no model declares, in services that some models are of."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Table
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, FederatedDocument, Federation

Fresh = Callable[[str], str]
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
KEY = UUID("0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b")


class Customer(FederatedBase):
    __service__ = "ledger"
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Part(FederatedDocument):
    __service__ = "warehouse"
    code: str

    class Settings:
        name = "parts"


POSTGRESQL = """
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE DOMAIN money_amount AS numeric(10, 3);
    CREATE TABLE kinds (
        id bigint PRIMARY KEY, price numeric(12, 2) NOT NULL, at timestamptz, day date, key uuid, about jsonb,
        feeling mood, tags text[], sizes integer[], amount money_amount, data bytea, ok boolean, ratio double precision,
        address inet
    );
    INSERT INTO kinds VALUES (1, 12.50, '2026-01-02 13:00+01', '2026-01-02', '0b5c8e0e-6d0f-4a41-9d3c-2f6f0c1f2a3b',
        '{"a": [1, null]}', 'glad', '{x,"y, z"}', '{1,2}', 1.250, '\\x00ff', true, 0.5, '10.0.0.1'),
        (2, -0.01, NULL, NULL, NULL, NULL, NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE customers (id integer PRIMARY KEY, name text NOT NULL, secret text);
    INSERT INTO customers VALUES (1, 'ada', 'x'), (2, 'bob', 'y');
    CREATE TABLE invoices (id integer PRIMARY KEY, customer_id integer REFERENCES customers, total numeric(10, 2));
    INSERT INTO invoices VALUES (10, 1, 5.00), (11, 1, 7.25), (12, 2, 1.00);
    CREATE TABLE lines (
        invoice_id integer REFERENCES invoices, number integer, code text, PRIMARY KEY (invoice_id, number)
    );
    INSERT INTO lines VALUES (10, 1, 'a'), (10, 2, 'b'), (11, 1, 'a'), (12, 1, 'gone');
    CREATE VIEW large AS SELECT id, total FROM invoices WHERE total > 4;
    CREATE MATERIALIZED VIEW sums AS SELECT customer_id, sum(total) AS total FROM invoices GROUP BY customer_id
"""
MARIADB = """
    CREATE TABLE kinds (
        id BIGINT PRIMARY KEY, price DECIMAL(12, 2), at DATETIME(6), day DATE, about JSON, feeling ENUM('glad', 'sad'),
        small TINYINT, ratio DOUBLE, data VARBINARY(5), code VARCHAR(9) COLLATE utf8mb4_bin, year YEAR, notes LONGTEXT
    );
    INSERT INTO kinds VALUES (1, 12.50, '2026-01-02 12:00:00.000001', '2026-01-02', '{"a": [1, null]}', 'glad', -3, 0.5,
        x'00ff', 'a', 2026, 'long');
    CREATE TABLE parts (code VARCHAR(9) PRIMARY KEY, price DECIMAL(8, 2));
    INSERT INTO parts VALUES ('a', 1.50), ('b', 2.25);
    CREATE TABLE bins (id INT PRIMARY KEY, code VARCHAR(9), FOREIGN KEY (code) REFERENCES parts (code));
    INSERT INTO bins VALUES (1, 'a')
"""


async def prepared(fed: Federation, service: str, script: str) -> None:
    async with fed.session() as session:
        connection = await session.connection(bind_arguments={"service": service})
        for statement in script.split(";"):
            await connection.exec_driver_sql(statement)
        await session.commit()


@pytest.fixture
async def ledger(fresh_database: Fresh) -> Any:
    async with Federation({"ledger": fresh_database("postgresql"), "parts": fresh_database("mysql")}) as fed:
        await prepared(fed, "ledger", POSTGRESQL)
        await prepared(fed, "parts", MARIADB)
        yield fed


def kinds_of(table: Table) -> dict[str, str]:
    return {column.name: repr(column.type) for column in table.columns}


async def rows(fed: Federation, statement: Any, **parameters: Any) -> list[tuple[Any, ...]]:
    async with fed.session() as session:
        return [tuple(row) for row in await session.execute(statement, parameters)]
