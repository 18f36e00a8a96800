"""``fedorm new``: a project that runs as it is, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from fedorm.cli.app import app
from tests.migrate.conftest import tables

ROOT = Path(__file__).parent.parent.parent
FILES = [
    ".gitignore", "README.md", "fedorm.toml",
    *(f"migrations/{service}/{name}" for service in ("inventory", "orders", "users")
      for name in ("alembic.ini", "env.py", "script.py.mako", "versions/make_the_tables.py")),
    "my_shop/__init__.py", "my_shop/__main__.py", "my_shop/models.py", "my_shop/orders.py", "pyproject.toml",
    "tests/conftest.py", "tests/test_orders.py",
]  # fmt: skip


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Run Python in a folder, as if nothing but it and what is installed could be imported."""
    without = {name: value for name, value in os.environ.items() if not name.startswith(("FEDORM_", "PYTEST_"))}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**without, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """How a process has ended, and what it has said."""
    with process:
        try:
            out, error = process.communicate(timeout=120)
            return process.returncode, out, error
        finally:
            process.kill()


def python(folder: Path, *words: str, **environment: str) -> tuple[int, str, str]:
    """Run Python to its end."""
    return ended(started(folder, *words, **environment))


def printed(folder: Path, *words: str) -> str:
    """Return what a command that succeeds prints, and that is all that it says."""
    code, out, error = python(folder, *words)
    assert (code, error) == (0, ""), out + error
    return out


def written(folder: Path) -> list[str]:
    """The files below a folder; revisions without their ids, and no caches of Python's."""
    found = sorted(one.relative_to(folder) for one in folder.rglob("*") if one.is_file() and one.suffix != ".pyc")
    return [str(one.with_name(one.name.split("_", 2)[2]) if one.parent.name == "versions" else one) for one in found]


def test_a_project_that_runs(tmp_path: Path) -> None:
    """Its tests pass, its migrations are carried out, and are what its models are, and its program works."""
    lines = printed(tmp_path, "-m", "fedorm", "new", "my-shop").splitlines()
    assert lines[0] == "wrote my-shop: three services, with models, migrations and tests. To see it run:"
    assert lines[2:] == [
        "  cd my-shop", "  pip install -e '.[test]'", "  fedorm migrate upgrade", "  python -m my_shop", "  pytest",
    ]  # fmt: skip
    project = tmp_path / "my-shop"
    assert written(project) == FILES
    assert not [one for one in project.rglob("*") if one.is_file() and "$" in one.read_text().replace("${", "")]
    settings = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert (settings["name"], settings["dependencies"]) == ("my-shop", ["fedorm[alembic,cli,query,sqlite]"])

    testing = started(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    below = project / "my_shop"
    upgraded = printed(below, "-m", "fedorm", "migrate", "upgrade").splitlines()
    assert [line.split(" did ")[0] for line in upgraded] == ["users", "orders", "inventory"]
    assert printed(below, "-m", "fedorm", "migrate", "check") == "models and databases agree\n"
    bought = "ada@example.com: 2 x Green tea\nada@example.com has spent 7.00\n"
    assert printed(project, "-m", "my_shop") == bought
    code, told, _ = ended(testing)
    assert (code, told.splitlines()[-1].startswith("3 passed")) == (0, True), told
    kept = {one for one in written(project) if one not in FILES}
    assert {Path(one).name.partition(".")[0] for one in kept} <= {"users", "orders", "inventory"}


def test_a_project_on_servers(tmp_path: Path, fresh_database: Callable[[str], str]) -> None:
    """A database of a server's is made by the first revision for it; its password is in the environment alone."""
    url = urlsplit(fresh_database("postgresql"))
    assert url.password
    kept = url._replace(netloc=url.netloc.replace(f":{url.password}@", ":${USERS_PASSWORD}@")).geturl()
    secret = {"USERS_PASSWORD": url.password}
    new = ("-m", "fedorm", "new", "my-shop", "far/below", "--url", f"users={kept}")
    code, _, error = python(tmp_path, *new, **secret)
    assert (code, error) == (0, "")
    project = tmp_path / "far" / "below"
    assert written(project) == FILES
    assert f'url = "{kept}"' in (project / "fedorm.toml").read_text()
    assert "fedorm[alembic,cli,postgresql,query,sqlite]" in (project / "pyproject.toml").read_text()
    for words in (("migrate", "upgrade"), ("migrate", "check")):
        code, _, error = python(project, "-m", "fedorm", *words, **secret)
        assert (code, error) == (0, "")
    assert {"users", "alembic_version"} <= set(tables(url.geturl()))
    new = (*new[:4], "other", *new[5:])
    code, out, error = python(tmp_path, *new, **secret)
    assert (code, out) == (2, "")
    assert error.startswith("fedorm: --url users: its database is not empty, there is ")
    code, out, error = python(tmp_path, *new[:-1], "users=postgresql+asyncpg://nobody@127.0.0.1:1/x")
    assert (code, out) == (1, "")
    assert error.startswith("fedorm: service 'users' at postgresql+asyncpg://nobody@127.0.0.1:1/x")
    assert not (tmp_path / "other").exists()


def refusal(*words: str) -> str:
    """Return the line with which a wrong call is refused."""
    result = CliRunner().invoke(app, ["new", *words])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("fedorm: ")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("1shop", "cannot be the name of a project"), ("Shop", "cannot be"), ("my shop", "cannot be"),
        ("", "cannot be"), ("../shop", "cannot be"), ("shop-", "cannot be"), ("lambda", "'lambda' is a word of Python"),
        ("email", "'email' is a module of Python's own"), ("tests", "'tests' is a folder of the project"),
        ("sqlalchemy", "'sqlalchemy' is a module already, in /"), ("fedorm", "'fedorm' is a module already, in /"),
    ],
)  # fmt: skip
def test_names_that_cannot_be(name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a wrong call, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert why in refusal(name)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stays as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_shop").mkdir()
    (tmp_path / "my_shop" / ".hidden").write_text("mine")
    (tmp_path / "file").write_text("mine")
    assert refusal("my_shop").startswith("my_shop is not empty, and nothing is written there: name another folder")
    assert refusal("my_shop", ".").startswith(". is not empty")
    assert refusal("my_shop", "file").startswith("file is no folder")
    assert written(tmp_path) == ["file", "my_shop/.hidden"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("users", "--url users: write  --url SERVICE=URL,  with one of users, orders, inventory"),
        ("people=sqlite+aiosqlite:///x.db", "--url people: write  --url SERVICE=URL"),
        ("users=nonsense", "users.url: Value error, a URL looks like"),
        ("users=oracle://localhost/x", "no store for 'oracle'"),
        ("users=mongodb://localhost/x", "--url users: the models are tables in PostgreSQL, MySQL, MariaDB or SQLite"),
        ("users=postgresql+asyncpg://me:secret@localhost/x", "environment, and write ${USERS_PASSWORD}"),
    ],
)  # fmt: skip
def test_urls_that_cannot_be(url: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a wrong call, and nothing is written; a password is not repeated."""
    monkeypatch.chdir(tmp_path)
    said = refusal("my_shop", "--url", url)
    assert (why in said, "secret" in said, list(tmp_path.iterdir())) == (True, False, [])


def test_without_a_name() -> None:
    """It is said what is missing."""
    result = CliRunner().invoke(app, ["new"])
    assert (result.exit_code, result.stdout, "Missing argument 'NAME'" in result.stderr) == (2, "", True)
