"""SQLite passes the store compliance suite."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fedorm import Federation, FederationOpenError
from fedorm.testing.compliance import EmbeddedOutage, Feature, Outage, Refused, StoreSuite


class TestSQLite(StoreSuite):
    gaps = {
        Feature.LONG_DECIMALS: Refused("numbers are 8-byte floats: 15 digits"),
        Feature.HUGE_DECIMALS: Refused("numbers are 8-byte floats: 15 digits"),
        Feature.NAN: Refused("it keeps NaN as NULL"),
    }

    @pytest.fixture
    def url(self, sqlite_url: str) -> str:
        return sqlite_url

    @pytest.fixture
    def outage(self, tmp_path: Path) -> Outage:
        place = tmp_path / "volume"
        place.mkdir()
        return EmbeddedOutage(place, f"sqlite+aiosqlite:///{place / 'service.db'}")


async def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """It leaves no thread behind, which would print that the event loop is closed."""
    fed = Federation({"sqlite_nowhere": f"sqlite+aiosqlite:///{tmp_path / 'nowhere' / 'service.db'}"})
    for _ in range(20):
        with pytest.raises(FederationOpenError, match="unable to open database file"):
            await fed.open()
        assert [one for one in threading.enumerate() if "_connection_worker" in one.name] == []
