"""Services that are in one database, of which one alone can have its history there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedorm.migrate import MigrationError
from tests.migrate.conftest import Federate
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
    assert await fed.migrate.current("mig_first") == {"mig_first": ["2"]}
