"""Settings of a federation: one URL and some options a service, from a mapping or a TOML file."""

from __future__ import annotations

import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from sqlalchemy import URL

from fedorm.exc import ConfigurationError

FILE = "fedorm.toml"
"""The name of the settings' file, as it is looked for."""
FILE_VARIABLE = "FEDORM_CONFIG"
"""The environment variable that names the settings' file."""

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_CREDENTIALS_TEMPLATE = re.compile(r"(?<=://)(?:\$\{[^}]*\}|\$(?!\{)|[^/?#@$])*(?=@)")
_CREDENTIALS = re.compile(r"(?<=://)(?P<user>[^/?#@:]*):(?P<password>.*)@", re.DOTALL)
"""Up to the last "@": rather too much is hidden than a part of a password that was not percent-encoded is shown."""
_ENCODED_CREDENTIALS = re.compile(r"://[^/?#@:]*:[^:/?#@\[\]]*@[^@?/]+(/[^@?]*)?(\?|$)")
_RELATIVE_FILE = re.compile(r"(?P<start>(?:sqlite|chdb)(?:\+\w+)?:///)(?!/|:memory:|file:|[A-Za-z]:[/\\])(?=[^?])")
"""The URL of a database that is a file, up to a path that is not absolute."""


class TLSSettings(BaseModel):
    """How a service's connection is encrypted: on, with certificates verified, unless ``verify`` says otherwise.

    Paths name PEM files. ``ca`` replaces the system's authorities; ``cert`` and ``key`` identify the client.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify: bool = True

    @field_validator("ca", "cert", "key")
    @classmethod
    def _exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path


class ServiceSettings(BaseModel):
    """One service: where it is and how it is spoken to. Times are in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: SecretStr
    pool_size: int = Field(default=5, ge=1)
    max_overflow: int = Field(default=10, ge=0)
    pool_timeout: float = Field(default=30.0, gt=0)
    connect_timeout: float = Field(default=10.0, gt=0)
    timeout: float | None = Field(default=None, gt=0)
    """The longest a single statement may take; None: as long as the server allows."""
    tls: TLSSettings | None = None
    options: dict[str, Any] = Field(default_factory=dict, repr=False)  # A driver's arguments may hold a password.
    """Anything else for ``create_engine()`` or, for MongoDB, for the client."""

    @field_validator("url")
    @classmethod
    def _has_scheme(cls, url: SecretStr) -> SecretStr:
        given = url.get_secret_value()
        if "://" not in given:
            raise ValueError('a URL looks like "postgresql+asyncpg://user:password@host:5432/database"')
        if _ENCODED_CREDENTIALS.search(given):
            return url
        # A password with "@" or "/" in it, as it is: the drivers, which disagree about those, get it encoded.
        encoded = _CREDENTIALS.sub(lambda found: f"{found['user']}:{_encode(found['password'])}@", given)
        return SecretStr(encoded)

    @field_validator("tls", mode="before")
    @classmethod
    def _tls_switch(cls, value: Any) -> Any:
        if value is True:
            return TLSSettings()
        return None if value is False else value

    @property
    def scheme(self) -> str:
        """The URL's scheme, driver included: ``postgresql+asyncpg``."""
        return self.url.get_secret_value().split("://", 1)[0].lower()

    @property
    def backend(self) -> str:
        """The kind of database: the scheme without its driver."""
        return self.scheme.split("+", 1)[0] if not self.scheme.startswith("mongodb") else self.scheme

    @property
    def address(self) -> str:
        """The URL without password and options, for messages."""
        return address_of(self.url.get_secret_value())

    @property
    def place(self) -> str:
        """Where the data is, the same for all who connect there: host and path, and the machine if it is this one."""
        rest = self.address.partition("://")[2].rpartition("@")[2]
        if ":memory:" in rest or not rest.strip("/"):
            return f"memory {uuid4()}"
        own = rest.startswith(("/", "localhost", "127.", "[::1]"))
        here = "" if rest.startswith("//") else f"{Path.cwd()} "  # An absolute path is the same from everywhere.
        return f"{self.backend} {f'{socket.gethostname()} {here}' if own else ''}{rest}"

    @property
    def identity(self) -> str:
        """All that an answer may depend on, the password aside."""
        url = _CREDENTIALS.sub(lambda found: f"{found['user']}@", self.url.get_secret_value())
        return f"{self.place} {url} {sorted(self.options.items())!r}"

    def scrub(self, text: str) -> str:
        """Return ``text`` without this service's password."""
        found = _CREDENTIALS.search(self.url.get_secret_value())
        for secret in {found["password"], unquote(found["password"])} if found else set():
            text = text.replace(secret, "***") if secret else text
        return text


class CacheSettings(BaseModel):
    """The result cache: nothing is kept unless ``ttl`` is set or a statement asks with ``cache_ttl``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ttl: float | None = Field(default=None, gt=0)
    """Seconds for which the rows of every statement are kept that does not say otherwise."""
    url: SecretStr | None = None
    """``redis://...``; None: the process's own memory."""
    entries: int = Field(default=10_000, ge=1)
    """How many results the memory holds; what was not used for longest goes first."""
    bytes: int = Field(default=64 * 2**20, ge=1)
    """About how much of it they may take."""


class QuerySettings(BaseModel):
    """What a select over several services may use of this machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    memory_limit: str | None = Field(default=None, pattern=r"^\d+(\.\d+)? ?([KMGT]i?B|%)$")
    """The memory of its finish, as "512MB" or "2GiB"; None: most of the machine's."""
    spill_directory: Path | None = None
    """Where what does not fit goes; None: a folder that is made where the process runs."""


class TransactionSettings(BaseModel):
    """What becomes of transactions over several services that a crash has cut short."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recover_on_start: bool = False
    """Whether a federation that is opened settles what is in doubt, before anything else."""


class MigrationSettings(BaseModel):
    """Where the services' histories are, and in which order they are carried out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: Path = Path("migrations")
    """One folder a service is in it; in a file, relative to that."""
    order: tuple[str, ...] = ()
    """Services that come first; the others follow as the settings name them."""


class FederationSettings(BaseModel):
    """The settings of every service of a federation by name, and of what is about several of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    services: dict[str, ServiceSettings]
    cache: CacheSettings = CacheSettings()
    query: QuerySettings = QuerySettings()
    transactions: TransactionSettings = TransactionSettings()
    migrations: MigrationSettings = MigrationSettings()
    models: tuple[str, ...] = ()
    """The modules that declare models, as in ``import``, for the command line."""

    @field_validator("models", mode="before")
    @classmethod
    def _several(cls, models: Any) -> Any:
        if isinstance(models, str):
            raise ValueError('write a list, as in  models = ["shop.models"]')
        return models

    @field_validator("services")
    @classmethod
    def _named(cls, services: dict[str, ServiceSettings]) -> dict[str, ServiceSettings]:
        for name in services:
            if not name.isidentifier():
                raise ValueError(f"service name {name!r} must be an identifier: letters, digits, underscores")
        return services


_TABLES = tuple(name for name in FederationSettings.model_fields if name not in ("services", "models"))


def address_of(url: str) -> str:
    """Return ``url`` reduced to what a message may show: no password, no query."""
    return re.split("[?#]", _CREDENTIALS.sub(lambda found: f"{found['user']}@", url), maxsplit=1)[0]


def _encode(password: str) -> str:
    """Return ``password`` with the characters encoded that end one in a URL; what is encoded already stays."""
    return quote(password, safe="%!$&'()*+,;=~")


def settings_from_mapping(services: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> FederationSettings:
    """Validate ``{name: url | {"url": ..., "pool_size": ...}}``, and ``more``: ``cache``, ``query``, ``models``, ...

    A URL is a text or SQLAlchemy's.
    Raises ``ConfigurationError`` naming service and setting; no value is repeated, as it may be a secret.
    """
    if not isinstance(services, Mapping):
        raise ConfigurationError(
            f'the services are a mapping, as in  {{"orders": "postgresql+asyncpg://..."}},  and were given as '
            f"{type(services).__name__}; those of a file are  Federation.from_file(path)"
        )
    shaped = {name: _shaped(name, entry) for name, entry in services.items()}
    try:
        return FederationSettings.model_validate({"services": shaped, **(more or {})})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'][problem['loc'][0] == 'services' :])) or 'services'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        # Not chained: pydantic's own text repeats the input, which may hold a password.
        raise ConfigurationError(f"the federation's settings are not valid: {problems}") from None


def _shaped(name: str, entry: Any) -> Any:
    """Return a service's settings as a mapping."""
    if isinstance(entry, Mapping):
        return {**entry, "url": _text(entry["url"])} if "url" in entry else entry
    if isinstance(entry, str | URL):
        return {"url": _text(entry)}
    if isinstance(entry, ServiceSettings):
        return entry
    given = "None" if entry is None else type(entry).__name__  # The value may be a secret.
    raise ConfigurationError(f"service {name!r} needs a URL, or a table of settings with one, and was given {given}")


def _text(url: Any) -> Any:
    return url.render_as_string(hide_password=False) if isinstance(url, URL) else url


def with_options(
    services: Mapping[str, Any] | FederationSettings, more: Mapping[str, Mapping[str, Any]]
) -> FederationSettings:
    """Validate settings, with those of ``more`` tables that are not None in the place of what is there."""
    given = {table: {name: one for name, one in values.items() if one is not None} for table, values in more.items()}
    if not isinstance(services, FederationSettings):
        return settings_from_mapping(services, given)
    tables = {name: getattr(services, name).model_dump(exclude_unset=True) | values for name, values in given.items()}
    changed = settings_from_mapping({}, tables)
    return services.model_copy(update={name: getattr(changed, name) for name in given})


def find_settings_file(start: str | os.PathLike[str] | None = None) -> Path:
    """Return the file that FEDORM_CONFIG names, else the nearest ``fedorm.toml`` in ``start`` or a folder above it.

    ``start`` is the working directory unless it is given. Raises ``ConfigurationError`` that says where it was looked
    for.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return Path(named)
    folder = Path(start or os.curdir).absolute()
    folders = [folder, *folder.parents]
    for one in folders:
        if os.path.isfile(one / FILE):
            return one / FILE
    raise ConfigurationError(
        f"there is no {FILE} in {', '.join(map(str, folders))}: write one with a table [services.<name>] for each "
        f"service, name it with --config or {FILE_VARIABLE}, or begin a project with  fedorm new <name>"
    )


def settings_from_file(path: str | os.PathLike[str]) -> FederationSettings:
    """Read ``[services.<name>]`` tables from a TOML file, with ``${VARIABLE}`` and ``${VARIABLE:-default}``.

    In the place of a URL's user or password a variable's value is taken literally and need not be percent-encoded.
    Relative paths, of SQLite's and chDB's files too, are taken from the file's folder. Raises ``ConfigurationError``
    for a file that is missing or not TOML, and for a variable that is not set.
    """
    file = Path(path)
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    services = document.get("services")
    if not isinstance(services, dict) or not services:
        raise ConfigurationError(f'{file} has no service: write  [services.orders]  and  url = "..."  into it')
    unknown = [name for name in document if name not in FederationSettings.model_fields]
    if unknown:
        known = ", ".join(FederationSettings.model_fields)
        raise ConfigurationError(f"{file}: there is no setting {unknown[0]!r}; there are {known}")
    folder = file.parent.resolve()
    expanded = {name: _expand(entry, f"{file}: services.{name}") for name, entry in services.items()}
    placed = {name: _placed(entry, folder) for name, entry in expanded.items()}
    more = {name: _expand(document[name], f"{file}: {name}") for name in _TABLES if name in document}
    histories = more.setdefault("migrations", {})
    if isinstance(histories, dict):
        histories["directory"] = folder / str(histories.get("directory", "migrations"))
    query = more.get("query")
    if isinstance(query, dict) and isinstance(query.get("spill_directory"), str):
        query["spill_directory"] = folder / query["spill_directory"]
    if "models" in document:
        more["models"] = _expand(document["models"], f"{file}: models")
    return settings_from_mapping(placed, more)


def _placed(entry: Any, folder: Path) -> Any:
    """Return a service's settings with the paths that are relative in its file's folder."""
    if isinstance(entry, str):
        return _RELATIVE_FILE.sub(lambda found: f"{found['start']}{folder.as_posix()}/", entry, count=1)
    if not isinstance(entry, dict):
        return entry
    placed = dict(entry)
    if isinstance(placed.get("url"), str):
        placed["url"] = _placed(placed["url"], folder)
    if isinstance(placed.get("tls"), dict):
        paths = {name: folder / placed["tls"][name] for name in ("ca", "cert", "key") if _is_path(placed["tls"], name)}
        placed["tls"] = placed["tls"] | paths
    return placed


def _is_path(settings: dict[str, Any], name: str) -> bool:
    return isinstance(settings.get(name), str)


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(inner, f"{where}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, where) for inner in value]
    if not isinstance(value, str):
        return value

    credentials = _CREDENTIALS_TEMPLATE.search(value)
    start, end = credentials.span() if credentials else (0, 0)

    def replace(found: re.Match[str]) -> str:
        name, default = found.groups()
        replacement = os.environ.get(name, default)
        if replacement is None:
            raise ConfigurationError(f"{where}: the environment variable {name} is not set")
        # A user name or a password is taken literally, whatever it holds; a variable may also be the whole URL.
        return quote(replacement, safe="") if start <= found.start() < end else replacement

    return _VARIABLE.sub(replace, value)
