"""Rows of ten columns of mixed types that are kept in sync, and what the servers themselves make of them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Double,
    Integer,
    Numeric,
    String,
    Table,
    create_engine,
    make_url,
    text,
)
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Mapped, mapped_column

from benchmarks.places import Kind
from fedorm import FederatedBase, Federation
from fedorm.sync import CDC, Replacing, SyncRule

RULE = "benchmark"
MARKER = 0
"""The key of a row whose ``amount`` says how far a writer has come."""
AFTER = 500_000_000
"""The keys of rows that are inserted later begin behind this one."""


class _Columns:
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    amount: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str] = mapped_column(String(60))
    city: Mapped[str] = mapped_column(String(60))
    note: Mapped[str] = mapped_column(String(120))
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    made: Mapped[datetime.datetime]
    active: Mapped[bool]
    score: Mapped[float] = mapped_column(Double)
    day: Mapped[datetime.date]


class SyncedRow(_Columns, FederatedBase):
    __service__ = "sync_source"
    __tablename__ = "synced_rows"


class SyncedCopy(_Columns, FederatedBase):
    __service__ = "sync_target"
    __tablename__ = "synced_copies"


class SyncedFact(Replacing, _Columns, FederatedBase):
    __service__ = "sync_facts"
    __tablename__ = "synced_facts"


def table_of(service: str) -> Table:
    """Return the one table of a service."""
    models = {"sync_source": SyncedRow, "sync_target": SyncedCopy, "sync_facts": SyncedFact}
    table: Any = models[service].__table__
    return table  # type: ignore[no-any-return]


def federation(urls: Mapping[str, str]) -> Federation:
    """Return a federation of a source and one target, with the rule between them."""
    fed = Federation(dict(urls))
    target = SyncedCopy if "sync_target" in urls else SyncedFact
    fed.sync.add(SyncRule(source=SyncedRow, to=target, strategy=CDC(), name=RULE))
    return fed


def row(key: int) -> dict[str, Any]:
    """Return a row as Python makes it."""
    return {
        "id": key,
        "amount": key * 70_000,
        "name": f"name {key}",
        "city": f"city {key % 1000}",
        "note": f"some more text that is about {key}",
        "price": Decimal(key % 100_000) / 100,
        "made": datetime.datetime(2026, 1, 1) + datetime.timedelta(seconds=key % 10_000_000),
        "active": key % 2 == 0,
        "score": key / 3,
        "day": datetime.date(2026, 1, 1) + datetime.timedelta(days=key % 1000),
    }


async def remade(fed: Federation, service: str) -> None:
    """Make the table of a service anew."""
    store, metadata = fed.stores[service], table_of(service).metadata
    await store.drop_all(metadata, [])
    await store.create_all(metadata, [])


@dataclass(frozen=True, slots=True)
class Mix:
    """Changes of a source: each second one inserts a row, and each other one changes one of the first ``base``."""

    begin: int
    """The number of the first change, from 0: no number is used twice."""
    changes: int
    base: int
    rows: int
    """How many changes a transaction has."""


_POSTGRESQL_FILL = """
INSERT INTO synced_rows (id, amount, name, city, note, price, made, active, score, day)
SELECT n, CAST(n AS bigint) * 70000, 'name ' || n, 'city ' || n % 1000, 'some more text that is about ' || n,
       n % 100000 / 100.0, TIMESTAMP '2026-01-01' + n * INTERVAL '1 second', n % 2 = 0, n / 3.0,
       DATE '2026-01-01' + n % 1000
FROM generate_series(0, CAST(:rows AS int) - 1) AS n
"""
_MARIADB_FILL = """
INSERT INTO synced_rows (id, amount, name, city, note, price, made, active, score, day)
SELECT seq, seq * 70000, CONCAT('name ', seq), CONCAT('city ', seq % 1000),
       CONCAT('some more text that is about ', seq), seq % 100000 / 100,
       TIMESTAMPADD(SECOND, seq, '2026-01-01'), seq % 2 = 0, seq / 3e0,
       DATE('2026-01-01') + INTERVAL seq % 1000 DAY
FROM seq_0_to_1000000 WHERE seq < :rows
"""
# 7919 has no divisor in common with the numbers of rows: the changed ones lie scattered.
_POSTGRESQL_MIX = """
CREATE OR REPLACE PROCEDURE synced_mix(first int, changes int, base int, size int, behind int) LANGUAGE plpgsql AS $$
BEGIN
    FOR at IN 0 .. changes / size - 1 LOOP
        INSERT INTO synced_rows (id, amount, name, city, note, price, made, active, score, day)
        SELECT behind + n, n, 'name ' || n, 'city ' || n % 1000, 'some more text that is about ' || n,
               n % 100000 / 100.0, TIMESTAMP '2026-01-01' + n * INTERVAL '1 second', n % 2 = 0, n / 3.0,
               DATE '2026-01-01' + n % 1000
        FROM generate_series(first + at * size, first + (at + 1) * size - 1) AS n WHERE n % 2 = 0;
        UPDATE synced_rows SET amount = n, score = n / 3.0, note = 'changed by ' || n
        FROM generate_series(first + at * size, first + (at + 1) * size - 1) AS n
        WHERE n % 2 = 1 AND id = 1 + CAST(n AS bigint) * 7919 % (base - 1);
        COMMIT;
    END LOOP;
END $$
"""
_MARIADB_MIX = """
CREATE OR REPLACE PROCEDURE synced_mix(first int, changes int, base int, size int, behind int)
BEGIN
    FOR at IN 0 .. changes DIV size - 1 DO
        START TRANSACTION;
        FOR n IN first + at * size .. first + (at + 1) * size - 1 DO
            IF n % 2 = 0 THEN
                INSERT INTO synced_rows (id, amount, name, city, note, price, made, active, score, day)
                VALUES (behind + n, n, CONCAT('name ', n), CONCAT('city ', n % 1000),
                        CONCAT('some more text that is about ', n), n % 100000 / 100,
                        TIMESTAMPADD(SECOND, n, '2026-01-01'), n % 2 = 0, n / 3e0,
                        DATE('2026-01-01') + INTERVAL n % 1000 DAY);
            ELSE
                UPDATE synced_rows SET amount = n, score = n / 3e0, note = CONCAT('changed by ', n)
                WHERE id = 1 + n * 7919 % (base - 1);
            END IF;
        END FOR;
        COMMIT;
    END FOR;
END
"""


class Source:
    """One source table, over a connection that commits each statement by itself; for threads."""

    def __init__(self, kind: Kind, url: str) -> None:
        self.kind = kind
        self._engine = create_engine(_for_threads(url), isolation_level="AUTOCOMMIT")

    def make(self, rows: int) -> None:
        """Make the table anew, with so many rows, from 0 on, and the procedure that changes them."""
        fill, mix = (_POSTGRESQL_FILL, _POSTGRESQL_MIX) if self.kind == "postgresql" else (_MARIADB_FILL, _MARIADB_MIX)
        with self._engine.connect() as connection:
            SyncedRow.metadata.drop_all(connection, [table_of("sync_source")])
            SyncedRow.metadata.create_all(connection, [table_of("sync_source")])
            connection.execute(text(fill), {"rows": rows})
            connection.execute(text(mix))
            if self.kind == "postgresql":
                connection.exec_driver_sql("VACUUM (ANALYZE) synced_rows")

    def change(self, mix: Mix) -> None:
        """Make changes, as fast as the server does, and then mark that they are made: the marker's amount is their end.

        For transactions of one row every change is one; for larger ones the rows of each are half and half.
        """
        values = {"first": mix.begin, "changes": mix.changes, "base": mix.base, "size": mix.rows, "behind": AFTER}
        with self._engine.connect() as connection:
            connection.execute(text("CALL synced_mix(:first, :changes, :base, :size, :behind)"), values)
            self.mark(connection, mix.begin + mix.changes)

    @staticmethod
    def mark(connection: Connection, number: int) -> None:
        """Set the marker."""
        connection.execute(
            text("UPDATE synced_rows SET amount = :number WHERE id = :id"), {"number": number, "id": MARKER}
        )

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def _for_threads(url: str) -> str:
    driver = {"postgresql+asyncpg": "postgresql+psycopg", "mysql+aiomysql": "mysql+pymysql"}
    parsed = make_url(url)
    return parsed.set(drivername=driver[parsed.drivername]).render_as_string(hide_password=False)
