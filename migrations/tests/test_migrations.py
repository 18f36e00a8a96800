"""Each service's history, on empty databases of its own kind of server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, insert, inspect, select
from sqlalchemy.exc import DataError

from examples.ecommerce.bank import BANKS, DemoBank
from examples.ecommerce.checkout import checkout
from examples.ecommerce.errors import PaymentDeclinedError
from examples.ecommerce.models import Order, Payment, Stock, User
from examples.ecommerce.models.base import now
from examples.ecommerce.models.search import ProductText  # noqa: F401 - the shop knows of no search without it
from examples.ecommerce.seed import seed
from fedorm import Federation
from fedorm.bookkeeping import own_metadata
from fedorm.config import settings_from_mapping
from fedorm.stores.base import store_for
from fedorm.stores.sql import SQLStore

ROOT = Path(__file__).parents[2]
TABLES = {
    "users": ["user_preferences", "user_profiles", "users"],
    "orders": ["order_items", "order_status", "orders"],
    "payments": ["payments"],
}
OWN = {service: sorted(own_metadata(service).tables) for service in TABLES}
"""fedorm's own, which a service's migrations make, too."""
KINDS = {"users": "postgresql", "orders": "postgresql", "payments": "mysql"}

FreshDatabase = Callable[[str], str]


def config(service: str) -> Config:
    """What ``alembic -c`` reads."""
    return Config(ROOT / "migrations" / service / "alembic.ini")


def on(url: str, work: Callable[[Engine], Any], service: str = "users") -> Any:
    """What ``work`` returns for an engine of the database, over the drivers that the store has for threads."""
    store = store_for(service, settings_from_mapping({service: url}).services[service])
    assert isinstance(store, SQLStore)
    try:
        return work(store.sync_engine)
    finally:
        store.sync_engine.dispose()


def described(engine: Engine) -> dict[str, Any]:
    """Everything that the database knows of its tables, Alembic's own apart."""
    inspector = inspect(engine)

    def by_name(found: list[Any]) -> list[Any]:
        return sorted(({key: str(value) for key, value in one.items()} for one in found), key=str)

    return {
        table: {
            "columns": by_name(list(inspector.get_columns(table))),
            "primary key": inspector.get_pk_constraint(table),
            "foreign keys": by_name(list(inspector.get_foreign_keys(table))),
            "unique": by_name(list(inspector.get_unique_constraints(table))),
            "indexes": by_name(list(inspector.get_indexes(table))),
        }
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes a ``fedorm.toml`` with these services and lets FEDORM_CONFIG name it."""

    def write(**urls: str) -> None:
        path = tmp_path / "fedorm.toml"
        path.write_text("".join(f'[services.{name}]\nurl = "{url}"\n' for name, url in urls.items()))
        monkeypatch.setenv("FEDORM_CONFIG", str(path))

    return write


Configured = Callable[..., None]
EACH = pytest.mark.parametrize("service", list(TABLES))


@EACH
def test_upgrade_makes_what_the_models_say(service: str, fresh_database: FreshDatabase, configured: Configured) -> None:
    """No difference is left between models and database, and no other service's table is made."""
    url = fresh_database(KINDS[service])
    configured(**{service: url})
    command.upgrade(config(service), "head")
    command.check(config(service))
    assert sorted(on(url, described)) == sorted(TABLES[service] + OWN[service])


@EACH
def test_upgrade_equals_create_all(service: str, fresh_database: FreshDatabase, configured: Configured) -> None:
    """Columns with types and nullability, keys, constraints and indexes are those that create_all() makes."""
    migrated, created = fresh_database(KINDS[service]), fresh_database(KINDS[service])
    configured(**{service: migrated})
    command.upgrade(config(service), "head")

    async def create() -> None:
        async with Federation({service: created}) as fed:
            await fed.create_all()

    asyncio.run(create())
    on(created, own_metadata(service).create_all, service)
    assert on(migrated, described) == on(created, described)


@EACH
def test_downgrade_leaves_nothing(service: str, fresh_database: FreshDatabase, configured: Configured) -> None:
    """Only Alembic's own table stays, and it is empty; up again works."""
    url = fresh_database(KINDS[service])
    configured(**{service: url})
    command.upgrade(config(service), "head")
    command.downgrade(config(service), "base")

    def left(engine: Engine) -> tuple[list[str], list[Any]]:
        with engine.connect() as connection:
            versions = connection.exec_driver_sql("SELECT version_num FROM alembic_version").all()
        return inspect(engine).get_table_names(), list(versions)

    assert on(url, left) == (["alembic_version"], [])
    command.upgrade(config(service), "head")
    assert sorted(on(url, described)) == sorted(TABLES[service] + OWN[service])


@pytest.mark.clickhouse
@pytest.mark.parametrize("columns", ["clickhouse", "chdb"])
async def test_all_services_by_fedorm_itself(
    columns: str, fresh_database: FreshDatabase, request: pytest.FixtureRequest
) -> None:
    """Tables, documents, columns and an index: up to the newest without a difference, and down to nothing."""
    analytics = request.getfixturevalue("chdb_url") if columns == "chdb" else fresh_database("clickhouse")
    urls = {service: fresh_database(kind) for service, kind in KINDS.items()}
    urls |= {"inventory": fresh_database("mongodb"), "analytics": analytics, "search": fresh_database("elasticsearch")}
    fed = Federation(settings_from_mapping(urls, {"migrations": {"directory": ROOT / "migrations"}}))
    done = await fed.migrate.upgrade()
    assert {service: len(revisions) for service, revisions in done.items()} == {
        "users": 3, "orders": 4, "payments": 3, "inventory": 1, "analytics": 1, "search": 1
    }  # fmt: skip
    assert await fed.migrate.check() == []
    undone = await fed.migrate.downgrade(None, "base")
    assert undone == {service: done[service][::-1] for service in reversed(done)}


def test_a_difference_is_found(fresh_database: FreshDatabase, configured: Configured) -> None:
    """A column that the database lacks makes the comparison fail; so it can be trusted when it does not."""
    url = fresh_database("postgresql")
    configured(users=url)
    command.upgrade(config("users"), "head")

    def drop(engine: Engine) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE user_profiles DROP COLUMN phone")

    on(url, drop)
    with pytest.raises(CommandError, match="phone"):
        command.check(config("users"))


def test_payments_may_live_in_sqlite(sqlite_url: str, configured: Configured) -> None:
    """The embedded stand-in for MySQL has the same history."""
    configured(payments=sqlite_url)
    command.upgrade(config("payments"), "head")
    command.check(config("payments"))
    command.downgrade(config("payments"), "base")
    assert on(sqlite_url, described, "payments") == {}


def test_the_shop_runs_on_migrated_databases(
    fresh_database: FreshDatabase, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows go into the tables that the migrations made, and come back; a checkout needs no table beside them."""
    urls = {service: fresh_database(kind) for service, kind in KINDS.items()}
    configured(**urls)
    for service in urls:
        command.upgrade(config(service), "head")

    before = {service: on(url, described, service) for service, url in urls.items()}
    monkeypatch.setitem(BANKS, "full", DemoBank(1_000_000))
    monkeypatch.setitem(BANKS, "empty", DemoBank(0))

    async def check_out(fed: Federation) -> list[Any]:
        async with fed.session() as session:
            sku = (await session.find(Stock, Stock.on_hand > 1).first_or_none()).sku
        receipt = await checkout(fed, 1, {sku: 1}, bank="full")
        with pytest.raises(PaymentDeclinedError):
            await checkout(fed, 1, {sku: 1}, bank="empty")
        async with fed.session() as session:
            sold = select(Order.status).where(Order.id >= receipt.order_id).order_by(Order.id)
            return list((await session.scalars(sold)).all())

    async def trade() -> tuple[list[Any], list[Any]]:
        others = {"inventory": fresh_database("mongodb"), "analytics": fresh_database("clickhouse")}
        async with Federation(others) as fed:
            await fed.create_all()
        async with Federation(urls | others) as fed:
            seeded = await seed(fed, customers=5)
            async with fed.session() as session:
                await session.execute(
                    insert(User), [{"email": "x", "name": "x", "country": "DE", "registered_at": now()}]
                )
                users = list((await session.scalars(select(User.id))).all())
                payments = list((await session.scalars(select(Payment.id))).all())
            assert (len(users), len(payments)) == (seeded.users + 1, seeded.payments)
            assert await check_out(fed) == ["paid", "cancelled"]
            return users, payments

    users, payments = asyncio.run(trade())
    assert users == [1, 2, 3, 4, 5, 6]
    assert payments == list(range(1, len(payments) + 1))
    assert {service: on(url, described, service) for service, url in urls.items()} == before


def test_a_cancelled_order_keeps_its_status_from_being_made_shorter(
    fresh_database: FreshDatabase, configured: Configured
) -> None:
    """A downgrade that would have to cut it is refused, and leaves everything as it is."""
    url = fresh_database("postgresql")
    configured(orders=url)
    command.upgrade(config("orders"), "head")

    def cancelled(engine: Engine) -> list[Any]:
        with engine.begin() as connection:
            return list(connection.execute(select(Order.status)).scalars())

    def cancel(engine: Engine) -> None:
        with engine.begin() as connection:
            row = {"user_id": 1, "status": "cancelled", "total": 1, "placed_at": now()}
            connection.execute(insert(Order).values(row))

    on(url, cancel, "orders")
    with pytest.raises(DataError, match="too long"):
        command.downgrade(config("orders"), "0002")
    assert on(url, cancelled, "orders") == ["cancelled"]
    command.check(config("orders"))


# -- the command line


def alembic(service: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Alembic as a shell does, in another folder than ours."""
    ini = ROOT / "migrations" / service / "alembic.ini"
    without = {name: value for name, value in os.environ.items() if name not in ("FEDORM_CONFIG", "PYTHONPATH")}
    return subprocess.run(  # noqa: S603 - our own words alone
        [sys.executable, "-m", "alembic", "-c", str(ini), *arguments],
        cwd=cwd,
        env=without | environment,
        capture_output=True,
        text=True,
    )


def test_the_command_line(fresh_database: FreshDatabase, configured: Configured, tmp_path: Path) -> None:
    """From any folder, with secrets from the environment, and without printing them."""
    url = fresh_database("postgresql")
    configured(orders="${ORDERS_URL}")
    environment = {"FEDORM_CONFIG": os.environ["FEDORM_CONFIG"], "ORDERS_URL": url}
    done = alembic("orders", "upgrade", "head", cwd=tmp_path, **environment)
    assert (done.returncode, "Running upgrade  -> 0001, Make the tables." in done.stderr) == (0, True), done.stderr
    assert url.split("@")[0].rpartition(":")[2] not in done.stdout + done.stderr
    assert alembic("orders", "check", cwd=tmp_path, **environment).returncode == 0
    assert "0004 (head)" in alembic("orders", "current", cwd=tmp_path, **environment).stdout


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "mysql+aiomysql"])
def test_the_statements_can_be_printed(scheme: str, configured: Configured, tmp_path: Path) -> None:
    """``--sql`` needs no server."""
    configured(payments=f"{scheme}://nobody:secret@nowhere.invalid/payments")
    done = alembic("payments", "upgrade", "head", "--sql", cwd=tmp_path, FEDORM_CONFIG=os.environ["FEDORM_CONFIG"])
    assert done.returncode == 0, done.stderr
    assert "CREATE TABLE payments (" in done.stdout
    assert "secret" not in done.stdout + done.stderr


def test_what_is_missing_is_said(configured: Configured, tmp_path: Path) -> None:
    """No settings, settings without the service, and a service that holds documents."""
    done = alembic("users", "current", cwd=tmp_path)
    assert "set the environment variable FEDORM_CONFIG" in done.stdout + done.stderr
    configured(payments="mysql://x@localhost/x")
    with pytest.raises(CommandError, match="has no service 'users'; it has payments"):
        command.current(config("users"))
    configured(users="mongodb://localhost/x")
    with pytest.raises(CommandError, match="has no tables: its history is carried out by  fedorm migrate"):
        command.current(config("users"))
