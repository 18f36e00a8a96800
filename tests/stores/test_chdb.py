"""chDB passes the store compliance suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table
from sqlalchemy.util import greenlet_spawn

from fedorm import Federation, FederationOpenError
from fedorm.testing.compliance import EmbeddedOutage, Feature, Outage, Refused, StoreSuite
from fedorm.testing.compliance.blocks import VERSION


class TestChDB(StoreSuite):
    gaps = {
        Feature.FAR_DATETIMES: Refused("DateTime64 reaches from 1900 to 2299"),
        Feature.FAR_DATES: Refused("Date32 reaches from 1900 to 2299"),
    }

    async def make_table(self, store: Any, table: Table) -> None:
        await super().make_table(store, table)

        def replace() -> None:
            with store.engine.begin() as connection:
                made = connection.exec_driver_sql(f"SHOW CREATE TABLE {table.name}").scalar_one()
                connection.exec_driver_sql(f"DROP TABLE {table.name}")
                connection.exec_driver_sql(made.replace("= MergeTree", f"= ReplacingMergeTree({VERSION})"))

        await greenlet_spawn(replace)

    @pytest.fixture
    def url(self, chdb_url: str) -> str:
        return chdb_url

    @pytest.fixture
    def outage(self, tmp_path: Path) -> Outage:
        place = tmp_path / "volume"
        place.mkdir()
        return EmbeddedOutage(place, f"chdb:///{place / 'chdb'}")


def test_three_slashes_are_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with SQLite: the folder is made where the program runs, not at the root."""
    monkeypatch.chdir(tmp_path)
    with Federation({"analytics": "chdb:///facts"}):
        assert (tmp_path / "facts").is_dir()
    assert not Path("/facts").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """The error says so in one line, without the engine's stack; without a path the engine works in memory."""
    (tmp_path / "file").write_text("")
    with pytest.raises(FederationOpenError) as raised, Federation({"analytics": f"chdb:////{tmp_path}/file/facts"}):
        pass
    first, line = str(raised.value).splitlines()
    assert first == "1 service(s) could not be opened:"
    assert "Failed to create connection" in line
    assert "file/facts" in line
    with Federation({"analytics": "chdb://"}) as fed:
        assert [one.state for one in fed.sync_health().values()] == ["up"]
