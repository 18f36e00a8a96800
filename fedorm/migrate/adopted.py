"""Histories that were there before fedorm: their folders stay where they are, and go on as they did."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path

from alembic.config import Config
from sqlalchemy import URL, Engine

from fedorm.exc import ConfigurationError
from fedorm.stores.sql import SQLStore

ADOPTED = "fedorm_adopted"
"""The setting of an ``alembic.ini`` by which a folder with an ``env.py`` of its own is told."""
_ASYNC = re.compile(r"\b(async_engine_from_config|create_async_engine)\b")
_HEAD = """\
# Written by  fedorm migrate adopt:  the history of the service "{service}" is in
#   {folder}
# whose own env.py is run. It finds the database as sqlalchemy.url, and an open connection in
# config.attributes["connection"]; alembic itself is called as before, with its own settings.

"""


def adopt(service: str, directory: Path, folder: Path) -> list[Path]:
    """Write an ``alembic.ini`` for a service that leads to an existing folder of Alembic's; return what was written.

    ``folder`` is that of its ``env.py``, or its ``alembic.ini``, whose other settings are taken over. Raises
    ``ConfigurationError``.
    """
    target = directory / "alembic.ini"
    if target.exists():
        raise ConfigurationError(f"service {service!r} has a history already: remove {target} to adopt another one")
    ini = folder if folder.is_file() else _ini_of(folder)
    sections = _sections(ini) if ini is not None else {"alembic": {}}
    scripts = _scripts(ini, sections) if ini is not None else folder
    if not (scripts / "env.py").is_file():
        raise ConfigurationError(
            f"{scripts} has no env.py: name the folder that alembic init has made, or its alembic.ini"
        )
    sections["alembic"] = {
        "path_separator": "os",
        **sections["alembic"],
        "script_location": _from_here(scripts, directory),
        "service": service,
        ADOPTED: "true",
    }
    written = configparser.RawConfigParser()
    written.read_dict(sections)
    directory.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as file:
        file.write(_HEAD.format(service=service, folder=_relative(scripts, directory)))
        written.write(file)
    return [target]


def _ini_of(folder: Path) -> Path | None:
    """Return the ``alembic.ini`` beside a folder, if it leads there."""
    ini = folder.absolute().parent / "alembic.ini"
    if ini.is_file() and _scripts(ini, _sections(ini)).absolute() == folder.absolute():
        return ini
    return None


def _scripts(ini: Path, sections: dict[str, dict[str, str]]) -> Path:
    said = Path(sections["alembic"].get("script_location", "."))
    if said.is_absolute():
        return said
    # From where alembic was called, which mostly was the folder of its settings.
    return next((one for one in (ini.parent / said, said) if one.is_dir()), said)


def _sections(ini: Path) -> dict[str, dict[str, str]]:
    """Return the settings of an ``alembic.ini``, but for where the database is: the federation says that."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(ini, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{ini} cannot be read: {error}") from error
    if not parser.has_section("alembic"):
        raise ConfigurationError(f"{ini} has no section [alembic]")
    here = str(ini.parent.absolute()).replace("%", "%%")
    found = {
        section: {name: value.replace("%(here)s", here) for name, value in parser.items(section)}
        for section in parser.sections()
    }
    found["alembic"].pop("sqlalchemy.url", None)
    return found


def prepared(config: Config, engine: Engine, store: SQLStore) -> None:
    """Tell an ``env.py`` where the database is, and let it leave the process's logging alone if it asks before."""
    scripts = config.get_main_option("script_location") or ""
    env = Path(scripts) / "env.py"
    text = env.read_text(encoding="utf-8") if env.is_file() else ""
    url = _url_for(text, engine, store)
    config.set_main_option("sqlalchemy.url", url.render_as_string(hide_password=False).replace("%", "%%"))
    if "config_file_name is not None" in text:
        config.config_file_name = None


def _from_here(folder: Path, directory: Path) -> str:
    return f"%(here)s/{_relative(folder, directory)}"


def _relative(folder: Path, directory: Path) -> str:
    return Path(os.path.relpath(folder.absolute(), directory.absolute())).as_posix()


def _url_for(env: str, engine: Engine, store: SQLStore) -> URL:
    """Return the database's URL with the driver that an ``env.py`` is made for: an asynchronous one, or not."""
    if "+" not in engine.url.drivername:
        return engine.url
    driver = store.async_driver if _ASYNC.search(env) else store.sync_driver
    return store.url.set(drivername=f"{store.url.get_backend_name()}+{driver}")
