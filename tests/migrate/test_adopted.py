"""Folders that were there before: those that Alembic's own templates make, and those of Beanie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from fedorm.exc import ConfigurationError
from fedorm.migrate import MigrationFailedError
from tests.migrate.conftest import Federate, tables

REVISION = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = {revision!r}, {down!r}

def upgrade():
    op.create_table({table!r}, sa.Column("id", sa.Integer, primary_key=True))

def downgrade():
    op.drop_table({table!r})
"""
MODELS = """
import sqlalchemy as sa
target_metadata = sa.MetaData()
sa.Table("first", target_metadata, sa.Column("id", sa.Integer, primary_key=True))
sa.Table("second", target_metadata, sa.Column("id", sa.Integer, primary_key=True))
"""
COOKBOOK = """
from alembic import context
from sqlalchemy import create_engine, MetaData

connection = context.config.attributes.get("connection")
assert connection is not None
context.configure(connection=connection, target_metadata=MetaData(), version_table="own_versions")
with context.begin_transaction():
    context.run_migrations()
"""


def old(folder: Path, template: str) -> Path:
    """A folder as ``alembic init`` leaves it, with two tables in its metadata and two revisions."""
    config = Config(str(folder / "alembic.ini"))
    command.init(config, str(folder / "alembic"), template=template)
    env = folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("target_metadata = None", MODELS))
    for revision, down, table in (("1", None, "first"), ("2", "1", "second")):
        text = REVISION.format(revision=revision, down=down, table=table)
        (folder / "alembic" / "versions" / f"{revision}_{table}.py").write_text(text)
    return folder / "alembic.ini"


@pytest.mark.parametrize("given", ["alembic.ini", "folder"])
@pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite"])
@pytest.mark.parametrize("template", ["generic", "async"])
async def test_alembics_own_templates(
    template: str,
    kind: str,
    given: str,
    fresh_database: Callable[[str], str],
    sqlite_url: str,
    federate: Federate,
    tmp_path: Path,
) -> None:
    """Their env.py, which makes an engine of its own, is run as it is, with the federation's URL."""
    url = sqlite_url if kind == "sqlite" else fresh_database(kind)
    ini = old(tmp_path, template)
    before = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.is_file()}
    fed = federate(mig_adopted=url)
    fed.migrate.adopt("mig_adopted", ini if given == "alembic.ini" else tmp_path / "alembic")
    async with fed:
        assert await fed.migrate.upgrade("mig_adopted", "1") == {"mig_adopted": ["1"]}
        assert await fed.migrate.current() == {"mig_adopted": ["1"]}
        assert [one.what for one in await fed.migrate.check()][1:] == ["the table is not there"]
        assert await fed.migrate.upgrade() == {"mig_adopted": ["2"]}
        assert await fed.migrate.check() == []
        assert tables(url) == ["alembic_version", "first", "second"]
        assert "CREATE TABLE second (" in await fed.migrate.sql("mig_adopted", start="1")
        path = await fed.migrate.revision("mig_adopted", "more")
        assert path is not None
        assert path.parent == tmp_path / "alembic" / "versions"
        await fed.migrate.stamp("mig_adopted", "2")
        assert await fed.migrate.downgrade("mig_adopted", "base") == {"mig_adopted": ["2", "1"]}
        assert tables(url) == ["alembic_version"]
    assert {path: path.read_text() for path in before} == before


async def test_an_env_that_takes_the_connection(postgresql_url: str, federate: Federate, tmp_path: Path) -> None:
    """It gets an open one by the name of Alembic's cookbook; its own version table is kept to."""
    ini = old(tmp_path, "generic")
    (tmp_path / "alembic" / "env.py").write_text(COOKBOOK)
    fed = federate(mig_adopted=postgresql_url)
    fed.migrate.adopt("mig_adopted", ini)
    assert await fed.migrate.upgrade() == {"mig_adopted": ["1", "2"]}
    assert await fed.migrate.current() == {"mig_adopted": ["2"]}
    assert tables(postgresql_url) == ["first", "own_versions", "second"]
    (tmp_path / "alembic" / "versions" / "3.py").write_text(REVISION.format(revision="3", down="2", table="first"))
    with pytest.raises(MigrationFailedError, match="mig_adopted is at 2"):
        await fed.migrate.upgrade()


def test_in_code_that_is_not_async(postgresql_url: str, federate: Federate, tmp_path: Path) -> None:
    """The same in threads."""
    fed = federate(mig_adopted=postgresql_url)
    fed.migrate.adopt("mig_adopted", old(tmp_path, "async"))
    with fed:
        assert fed.sync_migrate.upgrade() == {"mig_adopted": ["1", "2"]}
        assert fed.sync_migrate.check() == []


async def test_the_settings_of_the_old_ini(federate: Federate, sqlite_url: str, tmp_path: Path) -> None:
    """Those of its section are kept, but for the database's URL, which may hold a password."""
    ini = old(tmp_path, "generic")
    text = ini.read_text().replace("# file_template", "file_template = %%(slug)s_%%(rev)s\n# file_template", 1)
    ini.write_text(text)
    assert "sqlalchemy.url" in text
    fed = federate(mig_adopted=sqlite_url)
    (written,) = fed.migrate.adopt("mig_adopted", ini)
    assert "sqlalchemy.url =" not in written.read_text()
    path = await fed.migrate.revision("mig_adopted", "more")
    assert path is not None
    assert path.name.startswith("more_")


async def test_beanies_folder(mongodb_url: str, federate: Federate, tmp_path: Path) -> None:
    """It goes on from where Beanie has left it, and Beanie goes on from there."""
    from beanie.migrations.database import DBHandler
    from beanie.migrations.models import RunningDirections, RunningMode
    from beanie.migrations.runner import MigrationNode

    folder = tmp_path / "beanie"
    folder.mkdir()
    for name in ("20200101000000_first.py", "20200102000000_second.py", "20200103000000_third.py"):
        (folder / name).write_text("class Forward: ...\nclass Backward: ...\n")

    async def beanie(distance: int) -> None:
        DBHandler.set_db(mongodb_url, mongodb_url.rpartition("/")[2])
        node = await MigrationNode.build(folder)
        mode = RunningMode(direction=RunningDirections.FORWARD, distance=distance)
        await node.run(mode=mode, allow_index_dropping=False, use_transaction=False)
        await DBHandler.get_cli().close()

    await beanie(1)
    fed = federate(mig_goods=mongodb_url)
    fed.migrate.adopt("mig_goods", folder)
    assert await fed.migrate.current() == {"mig_goods": ["20200101000000_first"]}
    assert await fed.migrate.upgrade("mig_goods", "+1") == {"mig_goods": ["20200102000000_second"]}
    await beanie(0)
    assert await fed.migrate.current() == {"mig_goods": ["20200103000000_third"]}
    assert await fed.migrate.downgrade("mig_goods", "base") == {
        "mig_goods": ["20200103000000_third", "20200102000000_second", "20200101000000_first"]
    }


def test_what_is_no_history(federate: Federate, sqlite_url: str, mongodb_url: str, tmp_path: Path) -> None:
    """A folder without an env.py, an ini without the section, and a second history are refused."""
    fed = federate(mig_adopted=sqlite_url, mig_goods=mongodb_url)
    with pytest.raises(ConfigurationError, match=r"has no env\.py: name the folder"):
        fed.migrate.adopt("mig_adopted", tmp_path)
    wrong = tmp_path / "wrong.ini"
    wrong.write_text("[other]\n")
    with pytest.raises(ConfigurationError, match=r"has no section \[alembic\]"):
        fed.migrate.adopt("mig_adopted", wrong)
    with pytest.raises(ConfigurationError, match="is no folder: name the one that  beanie migrate"):
        fed.migrate.adopt("mig_goods", tmp_path / "nowhere")
    fed.migrate.init()
    with pytest.raises(ConfigurationError, match="has a history already"):
        fed.migrate.adopt("mig_adopted", old(tmp_path, "generic"))
    with pytest.raises(ConfigurationError, match="has a history already"):
        fed.migrate.adopt("mig_goods", tmp_path)
