"""What is there becomes known without a model."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import Table, select

from fedorm import FederatedSession, Federation, UnknownTableError
from fedorm.testing.compliance.base import Suite, models_of, write
from fedorm.testing.compliance.rows import SERVICE

NAME = "compliance_samples"
OTHER = "compliance_undeclared"
"""The same database under a name that no model declares."""
ROWS: list[dict[str, Any]] = [
    {"integer": -7, "big": 2**62, "real": 0.1, "text": 'It\'s "ü"'},
    {"integer": None, "big": None, "real": None, "text": None},
]


class ReflectionSuite(Suite):
    """Reading a service's tables or collections. One of documents needs the extra ``fedorm[query]``."""

    @pytest.fixture
    async def undeclared(self, url: str, no_stray_tasks: None) -> Federation:
        """Give a federation, not open yet, over a database that another one has filled."""
        async with self.federation(url) as fed:
            await fed.create_all()
            sample = models_of(fed.stores[SERVICE]).sample
            await write(fed, [sample(id=number, **row) for number, row in enumerate(ROWS)])
        return Federation({OTHER: {"url": url, **self.settings}})

    async def test_reflected_values(self, undeclared: Federation) -> None:
        """The key and plain columns are found, and read as they were written."""
        async with undeclared as fed:
            table = (await fed.reflect(OTHER))[NAME]
            assert fed.tables[f"{OTHER}.{NAME}"] is table
            async with fed.session() as session:
                assert [row._asdict() for row in await session.execute(_statement(table))] == _expected(table)

    async def test_reflected_in_a_thread(self, undeclared: Federation) -> None:
        """Code that is not async finds the same."""

        def work() -> tuple[Table, list[dict[str, Any]]]:
            with undeclared as fed, fed.sync_session() as session:
                table = fed.sync_reflect(OTHER, only=[NAME])[NAME]
                return table, _rows(session, table)

        table, found = await asyncio.to_thread(work)
        assert found == _expected(table)

    async def test_names_that_are_not_there(self, undeclared: Federation) -> None:
        """The nearest one that the server has is named."""
        async with undeclared as fed:
            with pytest.raises(UnknownTableError, match=f"did you mean {OTHER}.{NAME}"):
                await fed.reflect(OTHER, only=["compliance_sample"])
            assert list(fed.tables) == []


def _key(table: Table) -> Any:
    (key,) = table.primary_key.columns
    return key


def _statement(table: Table) -> Any:
    return select(_key(table), *(table.c[name] for name in ROWS[0])).order_by(_key(table))


def _rows(session: FederatedSession, table: Table) -> list[dict[str, Any]]:
    return [row._asdict() for row in session.execute(_statement(table))]


def _expected(table: Table) -> list[dict[str, Any]]:
    return [{_key(table).name: number, **row} for number, row in enumerate(ROWS)]
