from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest

pytest.importorskip("typer")

from typer.testing import CliRunner, Result

from fedorm import Federation
from fedorm.cli.app import app
from tests.cli.shop import Article, Person, Sale, Sample

REPOSITORY = Path(__file__).parent.parent.parent

SAMPLES: list[dict[str, Any]] = [
    {
        "id": 1,
        "big": 2**63 - 1,
        "amount": Decimal("12345678901234567890.0123456789"),
        "ratio": 0.1,
        "flag": True,
        "name": 'a "quoted", ä 日本\nline; \x1b[31mred',
        "day": date(2026, 2, 28),
        "at": datetime(2026, 2, 28, 23, 59, 59, 123456, UTC),
        "local": datetime(1999, 12, 31, 23, 59, 59, 1),
        "moment": time(1, 2, 3, 4),
        "span": timedelta(days=-1, seconds=5, microseconds=6),
        "token": UUID("12345678-1234-5678-1234-567812345678"),
        "raw": bytes(range(256)),
        "data": {"a": [1, None, "ü"], "b": {"c": 1.5}},
    },
    {"id": 2, "name": "", "flag": False, "amount": Decimal("-0.0000000001"), "big": 0, "ratio": -1e300, "raw": b""},
    {"id": 3, "name": "NULL", "ratio": float("inf"), "data": []},
    {"id": 4},
]


@dataclass
class Shell:
    """Runs ``fedorm`` over a shop, in this process or in one of its own."""

    folder: Path
    config: Path
    urls: dict[str, str]

    def __call__(self, *arguments: str, input: str | None = None, **environment: str) -> Result:
        given = ["--config", str(self.config), "--models", "tests.cli.shop", *arguments]
        result = CliRunner().invoke(app, given, input=input, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.see_no_password(result.output)
        return result

    def rows(self, *arguments: str) -> str:
        """Return what a command that succeeds writes."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def refusal(self, *arguments: str, code: int = 1, input: str | None = None) -> str:
        """Return the one line with which a command fails."""
        result = self(*arguments, input=input)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert result.stderr.startswith("fedorm: ")
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr.removeprefix("fedorm: ").rstrip("\n")

    def process(self, *arguments: str, input: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        """Run it as a user does, where ``fedorm.toml`` and ``shop.py`` are."""
        done = subprocess.run(
            [sys.executable, "-m", "fedorm", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "error::ResourceWarning", **environment},
            input=input,
            capture_output=True,
            timeout=120,
            check=False,
        )
        self.see_no_password((done.stdout + done.stderr).decode("utf-8", "replace"))
        return done

    def see_no_password(self, text: str) -> None:
        for url in self.urls.values():
            password = unquote(urlsplit(url).password or "")
            assert not password or password not in text


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {
        "people": fresh_database("postgresql"),
        "sales": fresh_database("mysql"),
        "stock": fresh_database("mongodb"),
    }


def write_settings(folder: Path, urls: dict[str, str]) -> Path:
    file = folder / "fedorm.toml"
    file.write_text("".join(f'[services.{name}]\nurl = "{url}"\nconnect_timeout = 5\n' for name, url in urls.items()))
    return file


@pytest.fixture
def shell(urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shop with three people, who have bought some, and a row with each kind of value."""
    (tmp_path / "shop.py").write_text((Path(__file__).parent / "shop.py").read_text())

    async def fill() -> None:
        async with Federation(urls) as federation:
            await federation.create_all()
            async with federation.session() as session:
                session.add_all([Person(id=1, name="Ada"), Person(id=2, name="Bob"), Person(id=3)])
                session.add_all(
                    [
                        Sale(id=10, person_id=1, sku="tea", total=Decimal("7.50")),
                        Sale(id=11, person_id=1, sku="cup", total=Decimal("12.00")),
                        Sale(id=12, person_id=2, sku="tea", total=Decimal("1.25")),
                    ]
                )
                session.add_all([Article(sku="tea", price=2.5), Article(sku="cup", price=4.0)])
                session.add_all([Sample(**one) for one in SAMPLES])
                await session.commit()

    asyncio.run(fill())
    monkeypatch.setattr(sys, "path", [*sys.path])
    return Shell(tmp_path, write_settings(tmp_path, urls), urls)
