"""Services that are in one database, of which one alone can have its history there."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from fedorm.migrate import MigrationError
from tests.migrate.conftest import Federate, on, tables
from tests.migrate.test_adopted import old


async def test_two_histories_in_one_database(postgresql_url: str, federate: Federate, tmp_path: Path) -> None:
    """Both at once are refused, and the second alone, whatever it is told to do; nothing is written down for it."""
    fed = federate(mig_first=postgresql_url, mig_second=postgresql_url)
    fed.migrate.adopt("mig_first", old(tmp_path, "generic"))
    fed.migrate.init("mig_second")
    await fed.migrate.revision("mig_second", "begin")
    (begun,) = (one.id for one in fed.migrate.revisions("mig_second")["mig_second"])
    with pytest.raises(MigrationError, match="'mig_first' and 'mig_second' are in one database: a database has one"):
        await fed.migrate.upgrade()
    assert await fed.migrate.upgrade("mig_first") == {"mig_first": ["1", "2"]}
    refused = "'mig_second' is in the database of 'mig_first', which is at revision 2 of 'mig_first'"
    with pytest.raises(MigrationError, match=refused):
        await fed.migrate.upgrade("mig_second")
    with pytest.raises(MigrationError, match=refused):
        await fed.migrate.stamp("mig_second", begun)
    with pytest.raises(MigrationError, match=refused):
        await fed.migrate.revision("mig_second", "more", autogenerate=True)
    with pytest.raises(MigrationError, match=refused):
        await fed.migrate.check("mig_second")
    assert await fed.migrate.check() == []
    assert await fed.migrate.current("mig_first") == {"mig_first": ["2"]}


@pytest.mark.parametrize("adopted", [True, False])
async def test_tables_that_refer_to_each_other(
    adopted: bool, postgresql_url: str, federate: Federate, tmp_path: Path
) -> None:
    """Those that no model declares any more are dropped one after the other, and made again by the way back."""
    fed = federate(mig_first=postgresql_url)
    if adopted:
        fed.migrate.adopt("mig_first", old(tmp_path, "generic"))
    else:
        fed.migrate.init()
        await fed.migrate.revision("mig_first", "begin", autogenerate=True)
    await fed.migrate.upgrade()
    before = tables(postgresql_url)
    columns = [("b", "c"), ("c", None), ("d", "b"), ("a", "d"), ("e", "c")]
    metadata = MetaData()
    for name, other in columns:
        key = [Column("other", ForeignKey(f"{other}.id"), index=True)] if other else []
        Table(name, metadata, Column("id", Integer, primary_key=True), *key)
    on(postgresql_url, metadata.create_all)
    assert await fed.migrate.revision("mig_first", "drop them", autogenerate=True) is not None
    await fed.migrate.upgrade()
    assert tables(postgresql_url) == before
    await fed.migrate.downgrade("mig_first", "-1")
    assert tables(postgresql_url) == sorted([*before, "a", "b", "c", "d", "e"])
    assert await fed.migrate.upgrade() == {"mig_first": fed.migrate.heads()["mig_first"]}
