"""Histories of services of ClickHouse's engine: a server, and chDB in this process."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import BigInteger, func, literal_column, select, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import FederatedBase, Federation
from fedorm.migrate import Drift, MigrationFailedError
from tests.migrate.conftest import Federate, on
from tests.migrate.models import MigratedFact

engines = pytest.importorskip("clickhouse_sqlalchemy.engines")
native = pytest.importorskip("clickhouse_sqlalchemy.types")
pytestmark = pytest.mark.clickhouse

SERVICE = "mig_facts"


class MigratedView(FederatedBase):
    __service__ = "mig_views"
    __tablename__ = "mig_views"
    user_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    page: Mapped[str] = mapped_column(native.Array(native.String))
    day: Mapped[datetime.date]
    at: Mapped[datetime.datetime | None]
    __table_args__ = (
        engines.MergeTree(
            partition_by=func.toYYYYMM(literal_column("day")), order_by=("user_id", "day"), index_granularity=4096
        ),
    )


@pytest.fixture(params=["clickhouse", "chdb"])
def url(request: pytest.FixtureRequest, fresh_database: Callable[[str], str]) -> Any:
    return request.getfixturevalue("chdb_url") if request.param == "chdb" else fresh_database("clickhouse")


def names(url: str) -> list[str]:
    asked = text("SELECT name FROM system.tables WHERE database = currentDatabase()")
    return sorted(on(url, lambda connection: connection.execute(asked).scalars().all()))


def run(url: str, *statements: str) -> None:
    on(url, lambda connection: [connection.exec_driver_sql(one) for one in statements])


async def begun(fed: Federation, service: str = SERVICE) -> str:
    fed.migrate.init()
    assert await fed.migrate.revision(service, "make all", autogenerate=True) is not None
    return fed.migrate.heads()[service][0]


async def test_a_history_from_models(url: str, federate: Federate) -> None:
    """Tables have the types that the store itself gives them; upgrade is clean, downgrade leaves nothing."""
    fed = federate(mig_facts=url)
    revision = await begun(fed)
    assert await fed.migrate.upgrade() == {SERVICE: [revision]}
    assert await fed.migrate.check() == []
    assert await fed.migrate.current() == {SERVICE: [revision]}
    assert await fed.migrate.revision(SERVICE, "nothing", autogenerate=True) is None
    assert await fed.migrate.upgrade() == {SERVICE: []}
    row = {"id": 1, "total": Decimal("1.50"), "at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)}
    async with fed, fed.session() as session:
        session.add(MigratedFact(**row))
        await session.commit()
        (found,) = (await session.execute(select(MigratedFact.__table__))).mappings()
    assert dict(found) == {**row, "sku": "none"}
    assert await fed.migrate.downgrade(None, "base") == {SERVICE: [revision]}
    assert names(url) == []
    assert await fed.migrate.current() == {SERVICE: []}
    assert await fed.migrate.upgrade() == {SERVICE: [revision]}


async def test_an_engine_with_partitions(clickhouse_url: str, federate: Federate, tmp_path: Path) -> None:
    """Engine, partitions, order and settings of a model are in the revision, and on the server."""
    fed = federate(mig_views=clickhouse_url)
    await begun(fed, "mig_views")
    (path,) = (tmp_path / "migrations" / "mig_views" / "versions").glob("*.py")
    created = path.read_text().partition("op.create_clickhouse_table")[2].partition("# ###")[0]
    assert created == (
        "(\n        'mig_views',\n"
        "        sa.Column('user_id', Native('Int64'), nullable=False),\n"
        "        sa.Column('page', Native('Array(String)'), nullable=False),\n"
        "        sa.Column('day', Native('Date'), nullable=False),\n"
        "        sa.Column('at', Native('Nullable(DateTime)'), nullable=False),\n"
        "        engine='MergeTree() PARTITION BY toYYYYMM(day) ORDER BY (user_id, day) "
        "SETTINGS index_granularity=4096',\n"
        "    )\n    "
    )
    await fed.migrate.upgrade()
    assert await fed.migrate.check() == []


async def test_drift(url: str, federate: Federate) -> None:
    """Columns of other types, more of them, fewer, and tables; the next revision brings them back, and down again."""
    fed = federate(mig_facts=url)
    await begun(fed)
    await fed.migrate.upgrade()
    run(
        url,
        "ALTER TABLE mig_facts DROP COLUMN sku",
        "ALTER TABLE mig_facts ADD COLUMN more UInt8",
        "ALTER TABLE mig_facts MODIFY COLUMN total Nullable(Decimal(12, 2))",
        "CREATE TABLE strange (x Int8) ENGINE = MergeTree ORDER BY x",
    )
    found = [
        Drift(SERVICE, "mig_facts", "column sku is not there"),
        Drift(
            SERVICE, "mig_facts", "column total is Nullable(Decimal(12, 2)), and Nullable(Decimal(10, 2)) in the models"
        ),
        Drift(SERVICE, "mig_facts", "no model declares column more"),
        Drift(SERVICE, "strange", "no model declares the table"),
    ]
    assert await fed.migrate.check() == found
    assert await fed.migrate.revision(SERVICE, "mend", autogenerate=True) is not None
    await fed.migrate.upgrade()
    assert await fed.migrate.check() == []
    await fed.migrate.downgrade(SERVICE, "-1")
    assert (await fed.migrate.check())[1:] == found


async def test_another_engine(url: str, federate: Federate, tmp_path: Path) -> None:
    """It is drift; the revision that is written says what to do, and does nothing by itself."""
    fed = federate(mig_facts=url)
    await begun(fed)
    (path,) = (tmp_path / "migrations" / SERVICE / "versions").glob("*.py")
    path.write_text(
        re.sub(r"engine='.*'", "engine='MergeTree PARTITION BY id % 3 ORDER BY (id, sku)'", path.read_text())
    )
    await fed.migrate.upgrade()
    (drift,) = await fed.migrate.check()
    assert drift.table == "mig_facts"
    assert re.fullmatch(
        r"the engine is MergeTree PARTITION BY .*, and MergeTree.* ORDER BY .* in the models", drift.what
    )
    mending = await fed.migrate.revision(SERVICE, "mend", autogenerate=True)
    assert mending is not None
    with pytest.raises(MigrationFailedError, match="make a table with that, copy the rows, and exchange the names"):
        await fed.migrate.upgrade()


OWN = """
revision = "{revision}"
down_revision = {down}
import sqlalchemy as sa
from alembic import op

def upgrade():
    {up}

def downgrade():
    {down_again}
"""


def write(folder: Path, revision: str, down: str | None, up: str, down_again: str = "pass") -> None:
    text = OWN.format(revision=revision, down=repr(down), up=up, down_again=down_again)
    (folder / "migrations" / SERVICE / "versions" / f"{revision}.py").write_text(text)


async def test_revisions_by_hand(url: str, federate: Federate, tmp_path: Path) -> None:
    """SQLAlchemy's own types, rows that are inserted, changed and deleted, and columns that are altered."""
    fed = federate(mig_facts=url)
    fed.migrate.init()
    table = "t = sa.table('hand', sa.column('id', sa.Integer), sa.column('name', sa.String))"
    write(
        tmp_path,
        "1",
        None,
        "op.create_table('hand', sa.Column('id', sa.Integer, primary_key=True), "
        "sa.Column('name', sa.String), sa.Column('at', sa.DateTime))",
        "op.drop_table('hand')",
    )
    write(
        tmp_path,
        "2",
        "1",
        f"{table}; op.bulk_insert(t, [{{'id': n, 'name': 'n'}} for n in range(4)])\n    "
        "op.execute(t.update().where(t.c.id == 1).values(name='one'))\n    "
        "op.execute(t.delete().where(t.c.id > 1))",
    )
    write(
        tmp_path,
        "3",
        "2",
        "op.add_column('hand', sa.Column('n', sa.Integer, server_default=sa.text('7'), "
        "nullable=False))\n    op.alter_column('hand', 'n', type_=sa.BigInteger, "
        "existing_server_default=sa.text('7'))",
    )
    assert await fed.migrate.upgrade() == {SERVICE: ["1", "2", "3"]}
    rows = on(url, lambda connection: connection.execute(text("SELECT id, name, n FROM hand ORDER BY id")).all())
    assert [tuple(one) for one in rows] == [(0, "n", 7), (1, "one", 7)]
    asked = text("SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'hand'")
    kinds = dict(tuple(one) for one in on(url, lambda connection: connection.execute(asked).all()))
    assert kinds["n"] == "Int64"
    assert kinds["name"] == "Nullable(String)"
    assert await fed.migrate.downgrade(SERVICE, "base") == {SERVICE: ["3", "2", "1"]}
    assert names(url) == []
    await fed.migrate.stamp(SERVICE, "2")
    assert await fed.migrate.current() == {SERVICE: ["2"]}


async def test_the_statements_can_be_printed(url: str, federate: Federate, tmp_path: Path) -> None:
    """Nothing is sent: the service need not be open."""
    fed = federate(mig_facts=url)
    fed.migrate.init()
    write(tmp_path, "1", None, "op.create_clickhouse_table('printed', sa.Column('id', sa.Integer), engine='Memory')")
    printed = await fed.migrate.sql(SERVICE)
    assert "CREATE TABLE printed (id Nullable(Int32)) ENGINE = Memory;" in printed
    assert "INSERT INTO alembic_version (version_num) VALUES ('1')" in printed
