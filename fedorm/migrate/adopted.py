"""Histories that were there before fedorm: their folders stay where they are, and go on as they did."""

from __future__ import annotations

import configparser
import os
import re
from pathlib import Path
from typing import Any

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
    ini = folder if folder.is_file() else None
    options = _options(ini) if ini is not None else {}
    scripts = Path(options.pop("script_location", folder)) if ini is not None else folder
    if ini is not None and not scripts.is_absolute():
        scripts = next((one for one in (ini.parent / scripts, scripts) if one.is_dir()), scripts)
    if not (scripts / "env.py").is_file():
        raise ConfigurationError(
            f"{scripts} has no env.py: name the folder that alembic init has made, or its alembic.ini"
        )
    written = configparser.RawConfigParser()
    written["alembic"] = {
        "script_location": _from_here(scripts, directory),
        "path_separator": "os",
        **options,
        "service": service,
        ADOPTED: "true",
    }
    directory.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as file:
        file.write(_HEAD.format(service=service, folder=scripts))
        written.write(file)
    return [target]


def _options(ini: Path) -> dict[str, str]:
    """Return the settings of an ``alembic.ini``, but for where the database is: the federation says that."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(ini, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{ini} cannot be read: {error}") from error
    if not parser.has_section("alembic"):
        raise ConfigurationError(f"{ini} has no section [alembic]")
    here = str(ini.parent.absolute()).replace("%", "%%")
    found = {name: value.replace("%(here)s", here) for name, value in parser.items("alembic")}
    found.pop("sqlalchemy.url", None)
    return found


def _from_here(folder: Path, directory: Path) -> str:
    relative = os.path.relpath(folder.absolute(), directory.absolute())
    return f"%(here)s/{Path(relative).as_posix()}"


def url_for(config: Any, engine: Engine, store: SQLStore) -> URL:
    """Return the database's URL with the driver that an ``env.py`` is made for: an asynchronous one, or not."""
    scripts = config.get_main_option("script_location") or ""
    env = Path(scripts) / "env.py"
    is_async = env.is_file() and _ASYNC.search(env.read_text(encoding="utf-8"))
    if "+" not in engine.url.drivername:
        return engine.url
    driver = store.async_driver if is_async else store.sync_driver
    return store.url.set(drivername=f"{store.url.get_backend_name()}+{driver}")
