"""What is declared or set wrongly is refused, with what to write instead."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.orm import Mapped, mapped_column

from fedorm import (
    AuthenticationError,
    ConfigurationError,
    DuplicateTableError,
    Federated,
    FederatedBase,
    FederatedDocument,
    Federation,
    FederationOpenError,
    KeyTypeError,
    MissingDriverError,
    MissingServiceError,
    RelationshipError,
    UnknownServiceError,
    federated_relationship,
)
from fedorm.sync.running import pauses

# -- declarations


def test_a_model_without_a_service() -> None:
    """The message is the line to write."""
    with pytest.raises(MissingServiceError, match='__service__ = "<service>"'):

        class Nobody(FederatedBase):
            __tablename__ = "nobody"
            id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(MissingServiceError, match="NoDocument"):

        class NoDocument(FederatedDocument):
            name: str


def test_a_model_of_an_unknown_service() -> None:
    """A base may say which services there are."""

    class Base(FederatedBase):
        __abstract__ = True
        __services__ = {"users", "orders"}

    with pytest.raises(UnknownServiceError, match=r"unknown service 'user'.*'orders', 'users'"):

        class Misspelt(Base):
            __service__ = "user"
            __tablename__ = "misspelt"
            id: Mapped[int] = mapped_column(primary_key=True)


def test_a_duplicate_table() -> None:
    """Two models of one service cannot have one table or collection; those of two services can."""
    with pytest.raises(DuplicateTableError, match="'users' already has a table 'users'"):

        class Again(FederatedBase):
            __service__ = "users"
            __tablename__ = "users"
            id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(DuplicateTableError, match="'products'"):

        class AgainDocument(FederatedDocument):
            __service__ = "inventory"

            class Settings:
                name = "products"

    class Elsewhere(FederatedBase):
        __service__ = "elsewhere"
        __tablename__ = "users"
        id: Mapped[int] = mapped_column(primary_key=True)


CROSSING = """
from sqlalchemy.orm import Mapped, mapped_column, relationship
from fedorm import FederatedBase

class User(FederatedBase):
    __service__ = "users"
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)

class Shipment(FederatedBase):
    __service__ = "shipping"
    __tablename__ = "shipments"
    id: Mapped[int] = mapped_column(primary_key=True)
    user: Mapped[User] = relationship(User)

Shipment()
"""


def test_a_plain_relationship_that_crosses_services() -> None:
    """Refused when mappers are configured, with what to write instead; in a process of its own, as it stays wrong."""
    done = subprocess.run([sys.executable, "-c", CROSSING], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("fedorm.exc.CrossServiceRelationshipError: Shipment.user is a relationship() from")
    assert 'user: Federated["User"] = federated_relationship(local_key=...)' in last


@pytest.mark.parametrize(
    ("key", "target", "match"),
    [("flag", "User", "can never equal|cannot match"), ("nothing", "User", "no column attribute 'nothing'")],
)
def test_keys_that_cannot_match(key: str, target: str, match: str) -> None:
    """A bool never equals an id, and a column that is not there is named."""
    name = f"Odd{key}"
    model: Any = type(
        name,
        (FederatedBase,),
        {
            "__service__": "odd",
            "__tablename__": name.lower(),
            "__annotations__": {"id": Mapped[int], "flag": Mapped[bool], "user": Federated["User"]},
            "id": mapped_column(primary_key=True),
            "flag": mapped_column(),
            "user": federated_relationship(target, local_key=key),
        },
    )
    with pytest.raises((KeyTypeError, RelationshipError), match=match):
        model.user.hop  # noqa: B018


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgresql+asyncpg://h/x", "asyncpg", "postgresql"),
        ("postgresql+asyncpg://h/x", "psycopg", "postgresql"),
        ("mysql+aiomysql://h/x", "aiomysql", "mysql"),
        ("mariadb+aiomysql://h/x", "pymysql", "mysql"),
        ("mongodb://h/x", "pymongo", "mongodb"),
        ("mongodb://h/x", "beanie", "mongodb"),
        ("sqlite+aiosqlite:///x", "aiosqlite", "sqlite"),
        ("clickhouse+native://h/x", "clickhouse_sqlalchemy", "clickhouse"),
        ("chdb:///x", "chdb", "chdb"),
    ],
)
def test_a_driver_that_is_not_installed(url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which extra brings it."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDriverError, match=rf"'far' needs the package '{package}'.*fedorm\[{extra}\]"):
        Federation({"far": url})


def test_a_package_that_no_service_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what does need it, and names no service."""
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(MissingDriverError) as raised:
        pauses()
    assert str(raised.value) == (
        "a sync rule needs the package 'tenacity', which is not installed: run  pip install 'fedorm[sync]'"
    )


# -- settings


@pytest.mark.parametrize(
    ("services", "match"),
    [
        ({"a": "nonsense"}, "a.url: .*looks like"),
        ({"a": "oracle://u:s3cret@h/x"}, "no store for 'oracle'.*known:.*postgresql"),
        ({"a": "postgres://u:s3cret@h/x"}, "no store for 'postgres'.*did you mean postgresql"),
        ({"a": None}, "service 'a' needs a URL, or a table of settings with one, and was given None"),
        ({"a": b"mysql://u:s3cret@h/x"}, "and was given bytes"),
        (["sqlite:///s3cret"], "a mapping, as in .*and were given as list"),
        ({"a": {"url": "sqlite:///x", "pool_size": 0}}, "a.pool_size"),
        ({"a": {"url": "sqlite:///x", "pool_sise": 1}}, "a.pool_sise"),
        ({"no good": "sqlite:///x"}, "must be an identifier"),
        ({"a": "mongodb://localhost:27017"}, "names no database"),
        ({"a": "redis://:s3cret@localhost/carts"}, "names the database 'carts', and Redis has numbers"),
    ],
)
def test_settings_that_are_not_valid(services: Any, match: str) -> None:
    """Service and setting are named, and no secret."""
    with pytest.raises(ConfigurationError, match=match) as raised:
        Federation(services)
    assert "s3cret" not in str(raised.value)


def test_a_url_of_sqlalchemys() -> None:
    """It is taken as its text, with its password."""
    url = make_url("postgresql+asyncpg://me:s3%2Fcret@db/orders?application_name=shop")
    fed = Federation({"orders": url, "users": {"url": url, "pool_size": 7}})
    for name in ("orders", "users"):
        assert fed.stores[name].settings.url.get_secret_value() == url.render_as_string(hide_password=False)


def test_a_setting_that_there_is_not(tmp_path: Any) -> None:
    """Whoever mistypes one in the file is told, rather than having it passed over."""
    file = tmp_path / "fedorm.toml"
    file.write_text('modles = ["shop"]\n[services.orders]\nurl = "sqlite+aiosqlite:///orders.db"\n')
    with pytest.raises(ConfigurationError, match=r"no setting 'modles'; there are services, cache, .*, models$"):
        Federation.from_file(file)


def test_from_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets come from the environment; a default may follow a colon and a dash."""
    file = tmp_path / "fedorm.toml"
    file.write_text(
        '[services.orders]\nurl = "postgresql+asyncpg://me:${ORDERS_PASSWORD}@db/orders"\npool_size = 7\ntimeout = 3\n'
        '[services.users]\nurl = "${USERS_URL:-sqlite+aiosqlite:///users.db}"\n'
        "options = { echo = false }\n"
    )
    with pytest.raises(ConfigurationError, match="ORDERS_PASSWORD is not set"):
        Federation.from_file(file)
    monkeypatch.setenv("ORDERS_PASSWORD", "s3cret")
    fed = Federation.from_file(file)
    settings = fed.stores["orders"].settings
    assert (settings.pool_size, settings.timeout) == (7, 3)
    assert settings.url.get_secret_value() == "postgresql+asyncpg://me:s3cret@db/orders"
    for shown in (repr(fed), repr(fed.stores["orders"]), repr(settings), str(settings)):
        assert "s3cret" not in shown
    assert "users.db" in repr(fed)
    with pytest.raises(ConfigurationError, match="cannot read"):
        Federation.from_file(tmp_path / "none.toml")


@pytest.mark.parametrize("place", ["{}:${{SECRET}}", "${{NAME}}:${{SECRET}}"])
async def test_a_secret_is_taken_literally(postgresql_url: str, tmp_path: Any, monkeypatch: Any, place: str) -> None:
    """A password may hold what has a meaning in URLs, in a variable of its own; it appears nowhere."""
    secret = "p@ss/w:rd?#%41 "
    async with Federation({"admin": postgresql_url}) as fed, fed.session() as session:
        for statement in ("DROP ROLE IF EXISTS odd", f"CREATE ROLE odd LOGIN PASSWORD '{secret}'"):
            await session.execute(text(statement), bind_arguments={"service": "admin"})
        await session.commit()
    monkeypatch.setenv("SECRET", secret)
    monkeypatch.setenv("NAME", "odd")
    file = tmp_path / "fedorm.toml"
    server = postgresql_url.rpartition("@")[2]
    url = f"postgresql+asyncpg://{place.format('odd')}@{server}"
    file.write_text(f'[services.users]\nurl = "{url}"\n[services.whole]\nurl = "${{WHOLE}}"\n')
    monkeypatch.setenv("WHOLE", postgresql_url)
    async with Federation.from_file(file) as fed:
        assert {state.state for state in (await fed.health()).values()} == {"up"}
        assert secret not in repr(fed) + repr(fed.stores["users"].settings)
        assert "%40" not in repr(fed)
    monkeypatch.setenv("SECRET", "wrong@/")
    with pytest.raises(FederationOpenError) as raised:
        await Federation.from_file(file).open()
    assert isinstance(raised.value.failures["users"], AuthenticationError)
    assert "wrong@/" not in str(raised.value)


async def test_limits_of_queries_in_a_file(tmp_path: Any) -> None:
    """The table [query] says what a select over several services may use; what is no size is refused at once."""
    file = tmp_path / "fedorm.toml"
    services = f'[services.one]\nurl = "sqlite+aiosqlite:///{tmp_path}/one.db"\n'
    file.write_text(services + f'[query]\nmemory_limit = "200MB"\nspill_directory = "{tmp_path}"\n')
    async with Federation.from_file(file) as fed, fed.session() as session:
        queries = session.sync_session.queries
        assert queries is not None
        settings = "SELECT current_setting('memory_limit'), current_setting('temp_directory')"
        found = queries._finisher._database.execute(settings).fetchone()
        assert found == ("190.7 MiB", str(tmp_path))
    file.write_text(services + '[query]\nmemory_limit = "much"\n')
    with pytest.raises(ConfigurationError, match="memory_limit"):
        Federation.from_file(file)
    with pytest.raises(ConfigurationError, match="memory_limit"):
        Federation({"one": f"sqlite+aiosqlite:///{tmp_path}/one.db"}, memory_limit="512 bananas")
