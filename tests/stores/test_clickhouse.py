"""ClickHouse passes the store compliance suite over both of its protocols."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_sqlalchemy.engines import ReplacingMergeTree
from sqlalchemy import Table, text

from fedorm import Federation, StoreError
from fedorm.stores.base import Store
from fedorm.testing.compliance import Feature, Lost, Outage, Refused, ServerOutage, StoreSuite
from fedorm.testing.compliance.blocks import VERSION
from fedorm.testing.servers import ClickHouseServer

# Of the version under test, 18.16; one since 20 has DateTime64 and Date32.
GAPS = {
    Feature.MILLISECONDS: Lost("DateTime holds seconds"),
    Feature.MICROSECONDS: Lost("DateTime holds seconds"),
    Feature.FAR_DATETIMES: Refused("DateTime reaches from 1970 to 2106"),
    Feature.FAR_DATES: Refused("Date reaches from 1970 to 2149"),
}


class _Suite(StoreSuite):
    gaps = GAPS

    async def make_table(self, store: Store, table: Table) -> None:
        key = [column.name for column in table.primary_key]
        ReplacingMergeTree(version=VERSION, order_by=key)._set_parent_with_dispatch(table)
        await super().make_table(store, table)


class TestNative(_Suite):
    @pytest.fixture
    def url(self, clickhouse_url: str) -> str:
        return clickhouse_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with ClickHouseServer() as server:
            server.create_database("compliance")
            yield ServerOutage(server, server.url("compliance"))


class TestHTTP(_Suite):
    @pytest.fixture
    def url(self, clickhouse_http_url: str) -> str:
        return clickhouse_http_url

    @pytest.fixture
    def outage(self) -> Iterator[Outage]:
        with ClickHouseServer() as server:
            server.create_database("compliance")
            yield ServerOutage(server, server.url("compliance", "http"))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("protocol", ["native", "http"])
async def test_an_error_in_the_middle(
    clickhouse_url: str, clickhouse_http_url: str, protocol: str, stream: bool
) -> None:
    """It is an error that names the service, not the last of the rows, and the session goes on."""
    url = clickhouse_url if protocol == "native" else clickhouse_http_url
    statement = text("SELECT number, 1 / 0, throwIf(number = 99999) FROM system.numbers LIMIT 100000")
    at = {"service": "figures"}
    async with Federation({"figures": url}) as fed, fed.session() as session:

        async def read() -> None:
            if not stream:
                await session.execute(statement, bind_arguments=at)
                return
            rows = await session.stream(statement, bind_arguments=at, execution_options={"yield_per": 1000})
            async for _ in rows:
                pass

        with pytest.raises(StoreError, match="service 'figures'"):
            await read()
        await session.rollback()
        assert (await session.execute(text("SELECT 1"), bind_arguments=at)).scalar_one() == 1
