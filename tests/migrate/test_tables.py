"""Histories of services of tables on their own kinds of server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

from fedorm.bookkeeping import own_metadata
from fedorm.catalog import catalog
from fedorm.exc import FedormError
from fedorm.migrate import Drift, MigrationError, MigrationFailedError, NoHistoryError
from tests.migrate.conftest import Federate, on, tables
from tests.migrate.models import MigratedSale
from tests.migrate.revisions import write


def run(url: str, *statements: str) -> None:
    on(url, lambda connection: [connection.exec_driver_sql(one) for one in statements])


def expected(service: str) -> list[str]:
    made = [*catalog.metadata(service).tables, *own_metadata(service).tables]
    return sorted([*made, "alembic_version"])


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def url(request: pytest.FixtureRequest, fresh_database: Callable[[str], str], sqlite_url: str) -> str:
    return sqlite_url if request.param == "sqlite" else fresh_database(request.param)


@pytest.mark.parametrize("service", ["mig_users", "mig_sales", "mig_parts"])
async def test_a_history_from_models(service: str, url: str, federate: Federate) -> None:
    """Autogenerate finds all, fedorm's own tables and triggers too; upgrade makes it, downgrade leaves nothing."""
    fed = federate(**{service: url})
    made = fed.migrate.init()
    assert [path.name for path in made] == ["alembic.ini", "env.py", "script.py.mako"]
    path = await fed.migrate.revision(service, "make all", autogenerate=True)
    assert path is not None
    (revision,) = fed.migrate.heads()[service]
    assert await fed.migrate.upgrade() == {service: [revision]}
    assert await fed.migrate.check() == []
    assert tables(url) == expected(service)
    assert await fed.migrate.current() == {service: [revision]}
    assert await fed.migrate.revision(service, "nothing", autogenerate=True) is None
    assert await fed.migrate.upgrade() == {service: []}
    assert await fed.migrate.downgrade(None, "base") == {service: [revision]}
    assert tables(url) == []
    assert await fed.migrate.current() == {service: []}
    assert await fed.migrate.upgrade() == {service: [revision]}


async def test_drift(postgresql_url: str, federate: Federate) -> None:
    """What somebody changes by hand is found, a table at a time, in words; the next revision brings it back."""
    fed = federate(mig_users=postgresql_url)
    fed.migrate.init()
    await fed.migrate.revision("mig_users", "make all", autogenerate=True)
    await fed.migrate.upgrade()
    triggers = text("SELECT min(tgname) FROM pg_trigger WHERE tgrelid = 'mig_people'::regclass AND NOT tgisinternal")
    trigger = on(postgresql_url, lambda connection: connection.execute(triggers).scalar())
    run(
        postgresql_url,
        "DROP TABLE fedorm_inbox",
        "CREATE TABLE strange (id int)",
        "DROP INDEX ix_mig_notes_user_id",
        "CREATE INDEX more ON mig_notes (text)",
        "ALTER TABLE mig_notes DROP CONSTRAINT mig_notes_user_id_fkey",
        "ALTER TABLE mig_notes ADD COLUMN extra int",
        "ALTER TABLE mig_people DROP COLUMN born",
        "ALTER TABLE mig_people ALTER COLUMN email TYPE varchar(7)",
        "ALTER TABLE mig_people ALTER COLUMN rank DROP NOT NULL",
        "ALTER TABLE mig_people DROP CONSTRAINT mig_people_email_key",
        f"DROP TRIGGER {trigger} ON mig_people",
    )
    found = [
        ("fedorm_inbox", "the table is not there"),
        ("mig_notes", "foreign key without a name is not there"),
        ("mig_notes", "index ix_mig_notes_user_id is not there"),
        ("mig_notes", "no model declares column extra"),
        ("mig_notes", "no model declares index more"),
        ("mig_people", "column born is not there"),
        ("mig_people", "column email is VARCHAR(7), and VARCHAR(100) in the models"),
        ("mig_people", "column rank may be NULL, and may not be NULL in the models"),
        ("mig_people", "constraint without a name is not there"),
        ("mig_people", "the triggers of its outbox are not there, or are not as they have to be"),
        ("strange", "no model declares the table"),
    ]
    assert [(one.table, one.what) for one in await fed.migrate.check()] == found
    assert await fed.migrate.revision("mig_users", "mend", autogenerate=True) is not None
    await fed.migrate.upgrade()
    assert await fed.migrate.check() == []


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
async def test_values_of_an_enum(kind: str, fresh_database: Callable[[str], str], federate: Federate) -> None:
    """One more than in the models, or one less, is found."""
    url = fresh_database(kind)
    fed = federate(mig_users=url)
    fed.migrate.init()
    await fed.migrate.revision("mig_users", "make all", autogenerate=True)
    await fed.migrate.upgrade()
    if kind == "postgresql":
        run(url, "ALTER TYPE rank ADD VALUE 'MIDDLE'")
    else:
        run(url, "ALTER TABLE mig_people MODIFY `rank` ENUM('LOW', 'HIGH', 'MIDDLE') NOT NULL")
    said = {
        "postgresql": "column rank takes LOW, HIGH, MIDDLE, and LOW, HIGH in the models",
        "mysql": "column rank is ENUM(LOW, HIGH, MIDDLE), and ENUM(LOW, HIGH) in the models",
    }
    assert await fed.migrate.check() == [Drift("mig_users", "mig_people", said[kind])]


async def test_a_database_that_is_behind(sqlite_url: str, federate: Federate, tmp_path: Path) -> None:
    """It is said where it is, and where its history leads, beside all that differs; and no revision is written."""
    fed = federate(mig_parts=sqlite_url)
    fed.migrate.init()
    await fed.migrate.revision("mig_parts", "make all", autogenerate=True)
    (head,) = fed.migrate.heads()["mig_parts"]
    behind, *missing = await fed.migrate.check()
    assert behind == Drift(
        "mig_parts",
        "",
        f"the database is at base, the newest revision is {head}: run  fedorm migrate upgrade --service mig_parts",
    )
    assert {one.what for one in missing} == {"the table is not there"}
    with pytest.raises(MigrationError, match=f"is at base, the newest revision is {head}: run"):
        await fed.migrate.revision("mig_parts", "too early", autogenerate=True)


async def test_without_a_history(sqlite_url: str, federate: Federate) -> None:
    """Models and database are compared all the same."""
    fed = federate(mig_parts=sqlite_url)
    assert {one.what for one in await fed.migrate.check()} == {"the table is not there"}
    with pytest.raises(NoHistoryError, match="begin them with  fedorm migrate init"):
        await fed.migrate.upgrade()


async def test_a_batch_on_sqlite(sqlite_url: str, federate: Federate, tmp_path: Path) -> None:
    """A table is made anew to change a column, and the rows that refer to its own stay."""
    fed = federate(mig_batch=sqlite_url)
    fed.migrate.init()
    write(
        tmp_path,
        "mig_batch",
        "1",
        None,
        "table('parent')",
        "op.create_table('child', sa.Column('id', sa.Integer, sa.ForeignKey('parent.id', ondelete='CASCADE')))",
        "row('parent', 1)",
        "row('child', 1)",
    )
    write(
        tmp_path,
        "mig_batch",
        "2",
        "1",
        "with op.batch_alter_table('parent') as batch: batch.alter_column('id', type_=sa.BigInteger)",
    )
    write(
        tmp_path,
        "mig_batch",
        "3",
        "2",
        "with op.batch_alter_table('parent') as batch: batch.add_column(sa.Column('x', sa.Integer))",
        "op.execute('wrong')",
    )
    with pytest.raises(MigrationFailedError, match="mig_batch is at 2"):
        await fed.migrate.upgrade()
    asked = text("SELECT parent.*, child.id FROM parent, child")
    assert on(sqlite_url, lambda connection: [dict(one) for one in connection.execute(asked).mappings()]) == [{"id": 1}]
    columns = on(sqlite_url, lambda connection: inspect(connection).get_columns("parent"))
    assert [(one["name"], str(one["type"])) for one in columns] == [("id", "BIGINT")]


def test_in_code_that_is_not_async(postgresql_url: str, mongodb_url: str, federate: Federate) -> None:
    """The same over the drivers for threads, for documents too."""
    fed = federate(mig_sales=postgresql_url, mig_goods=mongodb_url)
    fed.migrate.init()
    with pytest.raises(FedormError, match="not open for threads"):
        fed.sync_migrate.upgrade()
    for service in ("mig_sales", "mig_goods"):
        asyncio.run(fed.migrate.revision(service, "make all", autogenerate=True))
    heads = fed.migrate.heads()
    with fed:
        assert fed.sync_migrate.upgrade() == heads
        assert fed.sync_migrate.check() == []
        assert fed.sync_migrate.current() == heads
        assert fed.sync_migrate.downgrade(None, "base") == heads
    assert tables(postgresql_url) == []


async def test_in_an_open_federation(postgresql_url: str, federate: Federate) -> None:
    """What was made is used by sessions at once, and the pools stay open."""
    fed = federate(mig_sales=postgresql_url)
    fed.migrate.init()
    async with fed:
        await fed.migrate.revision("mig_sales", "make all", autogenerate=True)
        await fed.migrate.upgrade()
        async with fed.session() as session:
            session.add(MigratedSale(id=1, user_id=2, total=Decimal("1.50")))
            await session.commit()
        assert await fed.migrate.check() == []


def test_alembic_itself(postgresql_url: str, federate: Federate, tmp_path: Path) -> None:
    """A history of fedorm's is one of Alembic's: its own command carries it out, with the models of either."""
    fed = federate(mig_parts=postgresql_url)
    fed.migrate.init()
    config = tmp_path / "fedorm.toml"
    config.write_text(f'models = ["tests.migrate.models"]\n[services.mig_parts]\nurl = "{postgresql_url}"\n')
    environment = {**os.environ, "FEDORM_CONFIG": str(config), "FEDORM_MODELS": "tests.migrate.models"}
    environment["PYTHONPATH"] = os.getcwd()

    def alembic(*arguments: str) -> str:
        ini = str(tmp_path / "migrations" / "mig_parts" / "alembic.ini")
        command = [sys.executable, "-m", "alembic", "-c", ini, *arguments]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    alembic("revision", "--autogenerate", "-m", "make all")
    alembic("upgrade", "head")
    del environment["FEDORM_MODELS"]
    assert "No new upgrade operations detected" in alembic("check")
    assert tables(postgresql_url) == expected("mig_parts")
