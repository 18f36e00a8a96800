"""The settings' file: which one is used, what its paths are relative to, and where models are imported from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fedorm import Federation
from fedorm.cli.app import app
from fedorm.cli.setup import Setup
from fedorm.config import find_settings_file, settings_from_file
from fedorm.exc import ConfigurationError

FIRM = """
models = ["firm.desks"]
[query]
spill_directory = "spill"
[services.cli_firm]
url = "sqlite+aiosqlite:///data/firm.db"
"""
DESKS = """
from sqlalchemy.orm import Mapped, mapped_column
from fedorm import FederatedBase

class FirmDesk(FederatedBase):
    __service__, __tablename__ = "cli_firm", "firm_desks"
    id: Mapped[int] = mapped_column(primary_key=True)
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fedorm.toml").write_text(text)
    return folder / "fedorm.toml"


@pytest.fixture
def firm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with settings, models in a package, and a folder far below, which is the working directory."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("FEDORM_CONFIG", raising=False)
    write(tmp_path / "firm", FIRM)
    (tmp_path / "firm" / "data").mkdir()
    package = tmp_path / "firm" / "firm"
    (package / "far" / "below").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "desks.py").write_text("")
    for name in [name for name in sys.modules if name.partition(".")[0] == "firm"]:
        del sys.modules[name]  # Another test's.
    (package / "far" / "below" / "email.py").write_text("raise ImportError('this is not Python\\'s own')")
    monkeypatch.chdir(package / "far" / "below")
    return tmp_path / "firm"


def call(*words: str, **environment: str) -> Result:
    result = CliRunner().invoke(app, list(words), env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def addresses(*words: str, **environment: str) -> list[str]:
    result = call(*words, "services", "--json", **environment)
    assert result.exit_code == 0, result.output
    return [json.loads(line)["address"] for line in result.stdout.splitlines()]


def test_from_a_folder_below(firm: Path) -> None:
    """As an installed script is called there: the models, the database and the histories are those of the project."""

    def fedorm(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from fedorm.cli import main; main()", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if Path(one, "fedorm").is_dir())},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    (firm / "firm" / "desks.py").write_text(DESKS)
    history = firm / "migrations" / "cli_firm"
    assert fedorm("migrate", "init").splitlines()[0] == f"wrote {history}/alembic.ini"
    assert fedorm("migrate", "revision", "-s", "cli_firm", "-m", "x", "--autogenerate").startswith(f"wrote {history}/")
    assert fedorm("migrate", "upgrade").startswith("cli_firm did ")
    assert (firm / "data" / "firm.db").is_file()
    assert fedorm("sql", "--json", "select count(*) as n from cli_firm.firm_desks") == '[\n{"n": 0}\n]\n'


def test_which_file_it_is(firm: Path, tmp_path: Path) -> None:
    """``--config``, then the environment, then the nearest one upward."""
    one = write(tmp_path / "one", "[services.cli_one]\nurl = 'sqlite+aiosqlite:///one.db'\n")
    two = write(tmp_path / "two", "[services.cli_two]\nurl = 'sqlite+aiosqlite:///two.db'\n")
    start = f"sqlite+aiosqlite:///{tmp_path}"
    assert addresses() == [f"{start}/firm/data/firm.db"]
    assert addresses(FEDORM_CONFIG=str(one)) == [f"{start}/one/one.db"]
    assert addresses("--config", str(two), FEDORM_CONFIG=str(one)) == [f"{start}/two/two.db"]
    assert addresses("--config", os.path.relpath(two)) == [f"{start}/two/two.db"]
    write(firm / "firm" / "far", "[services.cli_near]\nurl = 'sqlite+aiosqlite:///near.db'\n")
    assert addresses(FEDORM_CONFIG="") == [f"{start}/firm/firm/far/near.db"]


def test_models_that_are_named_replace_those_of_the_settings(firm: Path) -> None:
    """From where the command is called, if the file was named, and from beside the file."""
    named = ("--config", str(firm / "fedorm.toml"))
    (Path.cwd() / "firm_here.py").write_text("print('here')")
    (firm / "firm_beside.py").write_text("print('beside')")
    (firm / "firm" / "desks.py").write_text("print('of the settings')")
    for words, printed in (
        ((), "of the settings"), (("-m", "firm_beside"), "beside"), ((*named, "-m", "firm_here"), "here"),
    ):  # fmt: skip
        assert call(*words, "services", "--json").stdout.splitlines()[0] == printed
    refused = call("-m", "firm_nowhere", "services")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("fedorm: --models firm_nowhere: there is no such module beside the settings")
    for given, hint in (
        ("firm/nowhere.py", "write it as in  import firm.nowhere"), ("a,b", "give the option once for each module"),
    ):  # fmt: skip
        assert call("-m", given, "services").stderr.endswith(f"nor installed: {hint}\n")


def test_models_of_the_settings_that_are_not_there(firm: Path) -> None:
    """It is said which file names them."""
    file = write(firm, FIRM.replace("firm.desks", "firm_gone"))
    refused = call("services")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith(f"fedorm: {file}: models: firm_gone: there is no such module")
    write(firm, FIRM.replace('["firm.desks"]', '"firm.desks"'))
    refused = call("services")
    assert refused.exit_code == 2
    assert 'models: Value error, write a list, as in  models = ["shop.models"]' in refused.stderr


def test_a_file_that_is_not_there(firm: Path, tmp_path: Path) -> None:
    """Whoever names it; nothing else is taken in its place."""
    for result in (call("--config", "none.toml", "services"), call("services", FEDORM_CONFIG="none.toml")):
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"fedorm: there is no file none.toml in {Path.cwd()}: write one with a table")
        assert "--config or FEDORM_CONFIG" in result.stderr
    result = call("--config", str(tmp_path), "services")
    assert (result.exit_code, result.stderr) == (2, f"fedorm: cannot read {tmp_path}: Is a directory\n")


def test_in_a_program(firm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``Federation.from_file()`` finds what the command finds; an error names each folder."""
    assert find_settings_file() == firm / "fedorm.toml"
    assert Federation.from_file().stores["cli_firm"].address == f"sqlite+aiosqlite:///{firm}/data/firm.db"
    other = write(tmp_path / "other", "[services.cli_other]\nurl = 'sqlite+aiosqlite:///other.db'\n")
    assert find_settings_file(other.parent) == other
    monkeypatch.setenv("FEDORM_CONFIG", str(other))
    assert list(Federation.from_file().stores) == ["cli_other"]
    monkeypatch.delenv("FEDORM_CONFIG")
    with pytest.raises(ConfigurationError, match=rf"no fedorm.toml in {tmp_path}/far, {tmp_path}, .*, /: write"):
        find_settings_file(tmp_path / "far")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Those of databases that are files, of certificates, of histories and of what spills; others stay as they are."""
    (tmp_path / "ca.crt").write_text("")
    urls = {
        "a": "sqlite+aiosqlite:///a.db", "b": "sqlite:////b.db", "c": "sqlite+aiosqlite:///:memory:", "d": "chdb:///d/e",
        "e": "sqlite+aiosqlite://", "f": "sqlite+aiosqlite:///f.db?timeout=3", "g": "postgresql+asyncpg:///g",
    }  # fmt: skip
    text = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    with_tls = f'[services]\n{text}[services.h]\ntls.ca = "ca.crt"'
    file = write(tmp_path, FIRM.replace("[services.cli_firm]", with_tls))
    found = settings_from_file(file)
    assert {name: one.url.get_secret_value() for name, one in found.services.items()} == urls | {
        "a": f"sqlite+aiosqlite:///{tmp_path}/a.db",
        "d": f"chdb:///{tmp_path}/d/e",
        "f": f"sqlite+aiosqlite:///{tmp_path}/f.db?timeout=3",
        "h": f"sqlite+aiosqlite:///{tmp_path}/data/firm.db",
    }
    assert (found.query.spill_directory, found.migrations.directory) == (tmp_path / "spill", tmp_path / "migrations")
    tls = found.services["h"].tls
    assert (tls and tls.ca, found.models) == (tmp_path / "ca.crt", ("firm.desks",))


def test_no_password_of_an_application_is_shown(firm: Path) -> None:
    """Nor one of a federation that ``--app`` names, whose settings are its own."""
    url = "postgresql+asyncpg://me:hid%2Fden@localhost/x"
    (firm / "firm_main.py").write_text(f"from fedorm import Federation\nfed = Federation({{'cli_firm': {url!r}}})\n")
    setup = Setup()
    assert list(setup.federation("firm_main").stores) == ["cli_firm"]
    assert setup.scrub("hid%2Fden and hid/den") == "*** and ***"
