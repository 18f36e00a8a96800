"""chDB passes the store compliance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedorm import Federation
from fedorm.testing.compliance import EmbeddedOutage, Feature, Outage, Refused, StoreSuite


class TestChDB(StoreSuite):
    gaps = {
        Feature.FAR_DATETIMES: Refused("DateTime64 reaches from 1900 to 2299"),
        Feature.FAR_DATES: Refused("Date32 reaches from 1900 to 2299"),
    }

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
