"""Histories of services of tables on their own kinds of server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedorm.bookkeeping import own_metadata
from fedorm.catalog import catalog
from tests.migrate import models  # noqa: F401
from tests.migrate.conftest import Federate, tables

SERVICES = {
    "mig_users": "postgresql",
    "mig_sales": "mysql",
    "mig_parts": "sqlite",
}


def expected(service: str) -> list[str]:
    made = [*catalog.metadata(service).tables, *own_metadata(service).tables]
    return sorted([*made, "alembic_version"])


@pytest.fixture(params=["postgresql", "mysql", "sqlite"])
def url(request: pytest.FixtureRequest, fresh_database: Callable[[str], str], sqlite_url: str) -> str:
    return sqlite_url if request.param == "sqlite" else fresh_database(request.param)


@pytest.mark.parametrize("service", ["mig_users", "mig_sales", "mig_parts"])
async def test_a_history_from_models(service: str, url: str, federate: Federate) -> None:
    """Autogenerate finds all, fedorm's own tables and triggers too; upgrade makes it, downgrade leaves nothing."""
    fed = federate(**{service: url})
    made = fed.migrate.init()
    assert [path.name for path in made] == ["alembic.ini", "env.py", "script.py.mako"]
    path = await fed.migrate.revision(service, "make all", autogenerate=True)
    assert path is not None
    (revision,) = fed.migrate.heads()[service]
    assert await fed.migrate.upgrade() == {service: [revision]}
    assert await fed.migrate.check() == []
    assert tables(url) == expected(service)
    assert await fed.migrate.current() == {service: [revision]}
    assert await fed.migrate.revision(service, "nothing", autogenerate=True) is None
    assert await fed.migrate.upgrade() == {service: []}
    assert await fed.migrate.downgrade(None, "base") == {service: [revision]}
    assert tables(url) == ["alembic_version"]
    assert await fed.migrate.current() == {service: []}
    assert await fed.migrate.upgrade() == {service: [revision]}
