"""``fedorm migrate``: what each command writes, and how it ends."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedorm.cli.app import app
from tests.cli.conftest import Shell
from tests.migrate.conftest import on, tables
from tests.migrate.revisions import write

PEOPLE, BOOKS, THINGS = "cli_people", "cli_books", "cli_things"
MODELS = """
from sqlalchemy.orm import Mapped, mapped_column
from fedorm import FederatedBase, FederatedDocument, Federated, federated_relationship

class CliPerson(FederatedBase):
    __service__ = "cli_people"
    __tablename__ = "cli_people"
    id: Mapped[int] = mapped_column(primary_key=True)
    books: Federated[list["CliBook"]] = federated_relationship(remote_key="person_id")

class CliBook(FederatedBase):
    __service__ = "cli_books"
    __tablename__ = "cli_books"
    id: Mapped[int] = mapped_column(primary_key=True)
    person_id: Mapped[int] = mapped_column(index=True)

class CliThing(FederatedDocument):
    __service__ = "cli_things"
    name: str
    class Settings:
        name = "cli_things"
        indexes = ["name"]
"""


class MigrateShell(Shell):
    """Runs ``fedorm migrate`` where the settings and the models are."""

    def __call__(self, *arguments: str, input: str | None = None, **environment: str) -> Result:
        given = ["--config", str(self.config), "--models", "climodels", "migrate", *arguments]
        result = CliRunner().invoke(app, given, env=environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        self.see_no_password(result.output)
        return result


@pytest.fixture
def urls(fresh_database: Callable[[str], str]) -> dict[str, str]:
    return {
        PEOPLE: fresh_database("postgresql"),
        BOOKS: fresh_database("mysql"),
        THINGS: fresh_database("mongodb"),
    }


@pytest.fixture
def shell(urls: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MigrateShell:
    """A folder with settings and models, in which the command is called."""
    if "climodels" not in sys.modules:
        (tmp_path / "climodels.py").write_text(MODELS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "fedorm.toml"
    config.write_text(
        f'[migrations]\norder = ["{BOOKS}"]\n'
        + "".join(f'[services.{name}]\nurl = "{url}"\nconnect_timeout = 5\n' for name, url in urls.items())
    )
    return MigrateShell(tmp_path, config, urls)


def begun(shell: MigrateShell) -> dict[str, str]:
    """Write histories with what the models declare; return the revisions."""
    shell.rows("init")
    for service in shell.urls:
        shell.rows("revision", "--service", service, "-m", "make all", "--autogenerate")
    heads = [json.loads(line) for line in shell.rows("heads", "--json").splitlines()]
    return {one["service"]: one["revision"] for one in heads}


def test_the_way_of_a_history(shell: MigrateShell) -> None:
    """Begun, written, carried out, looked at, and undone, over three kinds of database."""
    assert shell.rows("init") == (
        f"wrote migrations/{BOOKS}/alembic.ini\nwrote migrations/{BOOKS}/env.py\n"
        f"wrote migrations/{BOOKS}/script.py.mako\n"
        f"wrote migrations/{PEOPLE}/alembic.ini\nwrote migrations/{PEOPLE}/env.py\n"
        f"wrote migrations/{PEOPLE}/script.py.mako\n"
        f"wrote migrations/{THINGS}/beanie.toml\n"
    )
    assert shell.rows("init") == "all services have a history already\n"
    for service in shell.urls:
        wrote = shell.rows("revision", "--service", service, "-m", "make all", "--autogenerate")
        assert re.fullmatch(rf"wrote migrations/{service}/versions/\w+_make_all\.py\n", wrote)
    revisions = {one["service"]: one["revision"] for one in map(json.loads, shell.rows("heads", "--json").splitlines())}
    people, books, things = revisions[PEOPLE], revisions[BOOKS], revisions[THINGS]
    assert shell("current").exit_code == 1
    assert shell.rows("upgrade") == f"{BOOKS} did {books}\n{PEOPLE} did {people}\n{THINGS} did {things}\n"
    assert shell.rows("upgrade") == f"{BOOKS} is up to date\n{PEOPLE} is up to date\n{THINGS} is up to date\n"
    assert [json.loads(line) for line in shell.rows("current", "--json").splitlines()] == [
        {"service": BOOKS, "revision": books, "newest": True},
        {"service": PEOPLE, "revision": people, "newest": True},
        {"service": THINGS, "revision": things, "newest": True},
    ]
    assert shell.rows("check") == "models and databases agree\n"
    assert shell.rows("revision", "--service", PEOPLE, "-m", "more", "--autogenerate") == "nothing has changed\n"
    assert [json.loads(line) for line in shell.rows("history", "--service", PEOPLE, "--json").splitlines()] == [
        {"service": PEOPLE, "revision": people, "follows": None, "head": True, "message": "make all"}
    ]
    assert shell.rows("downgrade", "--service", BOOKS, "-1") == f"{BOOKS} undid {books}\n"
    assert shell.rows("downgrade", "--all", "base") == (
        f"{THINGS} undid {things}\n{PEOPLE} undid {people}\n{BOOKS} has nothing to undo\n"
    )
    assert shell.rows("stamp", "--service", PEOPLE, "head") == f"{PEOPLE} is at {people}\n"


def test_tables_for_people(shell: MigrateShell) -> None:
    """Lists are tables, as those of the other commands."""
    revisions = begun(shell)
    wide = "-" * len(revisions[PEOPLE])
    assert shell.rows("heads", "--service", PEOPLE) == (
        f"service    | revision\n-----------+-{wide}\ncli_people | {revisions[PEOPLE]}\n"
    )
    result = shell("current", "--service", PEOPLE)
    assert (result.exit_code, result.stdout) == (
        1,
        "service    | revision | newest\n-----------+----------+-------\ncli_people | NULL     | false\n",
    )
    empty = shell.rows("history", "--service", THINGS, "--format", "json")
    assert json.loads(empty)["message"] == "make all"


def test_what_is_different(shell: MigrateShell) -> None:
    """A table at a time, with 1; as JSON, a line each."""
    begun(shell)
    shell.rows("upgrade")
    on(shell.urls[PEOPLE], lambda connection: connection.exec_driver_sql("ALTER TABLE cli_people ADD more INT"))
    on(shell.urls[BOOKS], lambda connection: connection.exec_driver_sql("DROP TABLE cli_books"))
    result = shell("check")
    assert (result.exit_code, result.stdout) == (
        1,
        "cli_books.cli_books\n  the table is not there\ncli_people.cli_people\n  no model declares column more\n",
    )
    result = shell("check", "--service", PEOPLE, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        1, {"service": PEOPLE, "table": "cli_people", "what": "no model declares column more"},
    )  # fmt: skip


def test_sql(shell: MigrateShell) -> None:
    """The statements of an upgrade, for a service of tables alone."""
    revisions = begun(shell)
    printed = shell.rows("sql", "--service", PEOPLE)
    assert "CREATE TABLE cli_people (" in printed
    assert f"INSERT INTO alembic_version (version_num) VALUES ('{revisions[PEOPLE]}')" in printed
    assert tables(shell.urls[PEOPLE]) == ["alembic_version"]
    assert shell.rows("sql", "--service", PEOPLE, "head", "--from", "head").strip() in ("", "BEGIN;\n\nCOMMIT;")
    assert "holds documents, whose migrations are no SQL" in shell.refusal("sql", "--service", THINGS)
    assert shell.refusal("sql", code=2) == "name the service by --service"


def test_adopt(shell: MigrateShell, tmp_path: Path) -> None:
    """A folder that is there becomes the history; another one is refused."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "env.py").write_text("")
    assert shell.rows("adopt", "--service", PEOPLE, "old") == f"wrote migrations/{PEOPLE}/alembic.ini\n"
    assert "has a history already: remove" in shell.refusal("adopt", "--service", PEOPLE, "old", code=2)
    assert "has no env.py: name the folder" in shell.refusal("adopt", "--service", BOOKS, "migrations", code=2)


@pytest.mark.parametrize(
    "command",
    [
        ("init",), ("adopt", "old"), ("revision", "-m", "x"), ("upgrade",), ("downgrade", "base"), ("stamp", "head"),
        ("current",), ("history",), ("heads",), ("check",), ("sql",),
    ],
)  # fmt: skip
def test_an_unknown_service(command: tuple[str, ...], shell: MigrateShell) -> None:
    """It is said which there are, with 2."""
    said = shell.refusal(*command, "--service", "nowhere", code=2)
    assert said == f"--service nowhere: {shell.config} has no such service; it has {PEOPLE}, {BOOKS}, {THINGS}"


@pytest.mark.parametrize(
    "command", [("upgrade",), ("downgrade", "base", "--all"), ("stamp", "head"), ("current",), ("history",), ("heads",)]
)
def test_without_histories(command: tuple[str, ...], shell: MigrateShell) -> None:
    """What to do is said, with 2."""
    assert "begin them with  fedorm migrate init" in shell.refusal(*command, code=2)


@pytest.mark.parametrize(
    "command",
    [
        ("revision", "-m", "x"), ("upgrade",), ("downgrade", "base"), ("stamp", "head"), ("history",),
        ("heads",), ("sql",),
    ],
)  # fmt: skip
def test_a_service_without_a_history(command: tuple[str, ...], shell: MigrateShell) -> None:
    """The same for one that is named."""
    said = shell.refusal(*command, "--service", PEOPLE, code=2)
    assert said.endswith(f"begin one with  fedorm migrate init --service {PEOPLE}")


def test_bad_revisions(shell: MigrateShell) -> None:
    """Unknown ones, ones of one service for several, and too many heads."""
    begun(shell)
    assert shell.refusal("upgrade", "--service", PEOPLE, "nope") == (
        f"service '{PEOPLE}': Can't locate revision identified by 'nope'"
    )
    assert "there is no revision 'nope'" in shell.refusal("upgrade", "--service", THINGS, "nope")
    assert "can be a revision of one service alone" in shell.refusal("upgrade", "nope")
    assert shell.refusal("downgrade", "base", code=2) == "name the services by --service, or all of them by --all"
    write(shell.folder, PEOPLE, "other", None, "pass")
    result = shell("heads", "--service", PEOPLE, "--json")
    assert (result.exit_code, len(result.stdout.splitlines())) == (1, 2)
    assert "Multiple head revisions are present" in shell.refusal("upgrade", "--service", PEOPLE, "head")


def test_a_failure(shell: MigrateShell) -> None:
    """One line that says where all stand; with 1."""
    shell.rows("init", "--service", BOOKS, "--service", PEOPLE)
    write(shell.folder, BOOKS, "1", None, "pass")
    write(shell.folder, PEOPLE, "1", None, "op.execute('wrong')")
    result = shell("upgrade")
    assert (result.exit_code, result.stdout) == (1, f"{BOOKS} did 1\n")
    assert result.stderr.startswith(f"fedorm: the migration of service '{PEOPLE}' failed: ")
    assert f"As it stands: {BOOKS} is at 1; {PEOPLE} is at base. Mend the revision" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_service_that_does_not_answer(shell: MigrateShell) -> None:
    """It is named, and nothing is done; the services that are not asked for need not answer."""
    begun(shell)
    text = re.sub(r'(?s)(\[services\.cli_books\]\nurl = ")[^"]*', r"\1mysql+aiomysql://x:secret@127.0.0.1:1/x",
                  shell.config.read_text())  # fmt: skip
    shell.config.write_text(text)
    assert "service 'cli_books' at mysql+aiomysql://x@127.0.0.1:1/x" in shell.refusal("upgrade")
    assert tables(shell.urls[PEOPLE]) == ["alembic_version"]
    assert f"{PEOPLE} did" in shell.rows("upgrade", "--service", PEOPLE)


def test_bad_settings(shell: MigrateShell) -> None:
    """An order that names what is not there, with 2."""
    shell.config.write_text(shell.config.read_text().replace(f'["{BOOKS}"]', '["nowhere"]'))
    assert "[migrations] order names 'nowhere'" in shell.refusal("heads", code=2)
    shell.config.write_text(shell.config.read_text().replace("order", "ordre"))
    assert "migrations.ordre" in shell.refusal("heads", code=2)


def test_without_models(shell: MigrateShell) -> None:
    """Nothing is compared, with 2: a revision would drop all tables. Neither does one come before an upgrade."""
    begun(shell)
    said = (
        "fedorm: no models are known, so that all tables would seem to be nobody's: name their modules by --models, or "
        f'by models = ["..."] at the top of {shell.config}\n'
    )
    for models in ([], ["--models", "json"]):
        for command in (["revision", "--service", PEOPLE, "-m", "all gone", "--autogenerate"], ["check"]):
            done = shell.process(*models, "migrate", *command)
            assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", said)
    assert shell.refusal("revision", "--service", PEOPLE, "-m", "more", "--autogenerate").endswith(
        f"run  fedorm migrate upgrade --service {PEOPLE}"
    )


def test_as_a_process(shell: MigrateShell) -> None:
    """As a shell calls it, with a folder that the settings name."""
    (shell.folder / "climodels.py").write_text(MODELS)
    shell.config.write_text(shell.config.read_text().replace("[migrations]", '[migrations]\ndirectory = "db"'))
    done = shell.process("--models", "climodels", "migrate", "init", "--service", PEOPLE)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, b"wrote db/cli_people/alembic.ini"), done.stderr
    done = shell.process("migrate", "upgrade", "--nonsense")
    assert done.returncode != 0
