"""Passwords: whatever is in them, they reach the driver whole and nobody else."""

from __future__ import annotations

import logging
import pickle
import re
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from sqlalchemy import text

from fedorm import (
    ConfigurationError,
    CrossServiceStatementError,
    DocumentValidationError,
    DuplicateTableError,
    FederatedLazyLoadError,
    Federation,
    FederationOpenError,
    FedormError,
    MissingDriverError,
    MissingTargetError,
    PartialCommitError,
    PoolExhaustedError,
    ServiceTimeoutError,
    ServiceUnavailableError,
    StoreError,
    UnknownServiceError,
)
from fedorm.stores.sides import TwoSided
from fedorm.stores.sql import SQLStore

CLICKHOUSE = [pytest.param(scheme, marks=pytest.mark.clickhouse) for scheme in ("clickhouse+native", "clickhouse")]
SCHEMES = ["postgresql+asyncpg", "mysql+aiomysql", *CLICKHOUSE, "mongodb", "redis", "elasticsearch"]
TAILS = ["/w", "#w", "?w", "@w", ":w", "%25w", "[]w", " '\"\\&=w", "ä€${x}w", "@/?#w"]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tail", TAILS)
async def test_a_password_is_taken_as_it_is_and_never_shown(
    scheme: str, tail: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in reprs, logs, messages and tracebacks, also where it was not percent-encoded."""
    caplog.set_level(logging.DEBUG)
    name = "5" if scheme == "redis" else "db"
    url = f"{scheme}://bob:hush{tail}word@127.0.0.1:1/{name}"
    fed = Federation({"a": {"url": url, "connect_timeout": 0.2}})
    store: Any = fed.stores["a"]
    if isinstance(store, SQLStore):
        assert (store.url.password, store.url.host) == (unquote(f"hush{tail}word"), "127.0.0.1")
    else:
        assert isinstance(store, TwoSided)
        parts = urlsplit(store.settings.url.get_secret_value())
        assert (unquote(parts.password or ""), parts.hostname) == (unquote(f"hush{tail}word"), "127.0.0.1")
    seen = repr(fed) + repr(store) + repr(store.settings) + str(store.settings)
    with pytest.raises(FederationOpenError, match=re.escape(f"at {scheme}://bob@127.0.0.1:1/{name}")) as raised:
        await fed.open()
    seen += "".join(traceback.format_exception(raised.value)) + repr(vars(raised.value)) + caplog.text
    assert [line for line in seen.splitlines() if "hush" in line or "word@" in line] == []


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_addresses_that_are_none(scheme: str) -> None:
    """What cannot be read is not repeated either."""
    for url in (f"{scheme}://bob:hush@host:port/5", f"{scheme}://bob:hush@[::1/5"):
        with pytest.raises(ConfigurationError, match="service 'a'") as raised:
            await Federation({"a": url}).open()
        assert "hush" not in "".join(traceback.format_exception(raised.value))


def test_arguments_of_the_driver_are_not_shown() -> None:
    """They may hold a password, too."""
    arguments = {"connect_args": {"password": "hush"}}
    fed = Federation({"a": {"url": "postgresql+asyncpg://bob@127.0.0.1:1/db", "options": arguments}})
    assert "hush" not in repr(fed.stores["a"].settings)


def test_a_query_may_hold_an_at_sign() -> None:
    """It is part of the query, and of no password."""
    fed = Federation({"a": "postgresql+asyncpg://bob:p@host/db?application_name=a@b"})
    assert fed.stores["a"].url.host == "host"  # type: ignore[attr-defined]


def test_files_that_cannot_be_read(tmp_path: Any) -> None:
    """Each is an error about the settings."""
    file = tmp_path / "fedorm.toml"
    for content in (
        b"[services.a]\nurl = '\xff'", b"[services]\na = 5\n", b"services = []\n",
        b"[services.a]\nurl = 'postgresql://[::1]:5432/x'\n[services.a.tls]\nca = 5\n",
    ):  # fmt: skip
        file.write_bytes(content)
        with pytest.raises(ConfigurationError):
            Federation.from_file(file)
    with pytest.raises(ConfigurationError):
        Federation.from_file(tmp_path)


def test_a_default_in_the_place_of_a_password(tmp_path: Any) -> None:
    """It is taken literally, like a variable's value; beside a dollar sign and before an IPv6 address."""
    file = tmp_path / "fedorm.toml"
    file.write_text("[services.a]\nurl = 'postgresql://u$r:${NOT_SET_AT_ALL:-a@b/c}@[::1]:5432/x'\n")
    store: Any = Federation.from_file(file).stores["a"]
    assert (store.url.username, store.url.password, store.url.host) == ("u$r", "a@b/c", "::1")


ERRORS: list[FedormError] = [
    UnknownServiceError("a", known=["b"]),
    StoreError("m", service="s", address="x"),
    ServiceUnavailableError("m", service="s"),
    PoolExhaustedError("m", service="s"),
    FederationOpenError({"a": StoreError("m", service="s")}),
    PartialCommitError(committed=["a"], failed=["b"], cause=ValueError("x")),
    MissingTargetError("A.b", service="s", keys=[1]),
    FederatedLazyLoadError("A.b", "a"),
    DocumentValidationError("m", service="s", model="M", identity=1),
    MissingDriverError(service="s", package="p", extra="e"),
    CrossServiceStatementError(["a"]),
    DuplicateTableError(service="a", table="t", model="m"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_errors_reach_another_process(error: FedormError) -> None:
    """They are pickled with all that they know."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy).keys()) == (type(error), str(error), vars(error).keys())


async def test_an_error_of_a_driver_reaches_another_process(fresh_database: Callable[[str], str]) -> None:
    """Also one that holds what the driver has raised."""
    async with (
        Federation({"a": {"url": fresh_database("postgresql"), "timeout": 0.2}}) as fed,
        fed.session() as session,
    ):
        with pytest.raises(ServiceTimeoutError) as raised:
            await session.execute(text("select pg_sleep(3)"), bind_arguments={"service": "a"})
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)
