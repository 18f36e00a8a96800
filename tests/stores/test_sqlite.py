"""SQLite passes the store compliance suite."""

from __future__ import annotations

from pathlib import Path

import pytest

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
