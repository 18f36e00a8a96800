"""Every model of the process, by service and by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Column, FromClause, MetaData, Table
from sqlalchemy.sql import visitors

from fedorm.exc import CrossServiceForeignKeyError, MissingServiceError, ModelError, UnknownServiceError

SERVICE = "fedorm.service"
"""The key under which a MetaData's ``info`` and an engine's execution options name their service."""

SESSION = "_fedorm_session"
"""The execution option that brings the session to where a statement over several services is run."""

STRATEGY = "join_strategy"
"""The execution option by which a user overrides how the planner joins."""


_PLAIN = MetaData()


class Catalog:
    """Every model of the process, by name; one MetaData a service."""

    def __init__(self) -> None:
        self._metadata: dict[str, MetaData] = {}
        self._models: dict[str, list[type[Any]]] = {}
        self._documents: dict[str, list[type[Any]]] = {}
        self._listeners: list[Callable[[type[Any]], None]] = []

    def metadata(self, service: str) -> MetaData:
        """Return the MetaData of a service; made at first use."""
        if service not in self._metadata:
            self._metadata[service] = MetaData(info={SERVICE: service})
        return self._metadata[service]

    def metadata_like(self, service: str, base: MetaData) -> MetaData:
        """Return the same with the schema and the naming convention of a base's own MetaData, if that has any."""
        metadata = self.metadata(service)
        for setting, default in (("naming_convention", _PLAIN.naming_convention), ("schema", _PLAIN.schema)):
            wanted, has = getattr(base, setting), getattr(metadata, setting)
            if wanted in (default, has):
                continue
            if has != default:
                raise ModelError(f"models of service {service!r} have bases whose MetaData differ in their {setting}")
            setattr(metadata, setting, wanted)
        return metadata

    def refuse_crossing_keys(self, services: Iterable[str]) -> None:
        """Raise ``CrossServiceForeignKeyError`` for a foreign key of theirs to a table that another service owns."""
        for service in services:
            own = self.metadata(service).tables
            for table in own.values():
                for key in table.foreign_keys:
                    target = key.target_fullname.rpartition(".")[0]
                    owner = next((name for name, one in self._metadata.items() if target in one.tables), service)
                    if target not in own and owner != service:
                        raise CrossServiceForeignKeyError(
                            column=str(key.parent), service=service, target=key.target_fullname, target_service=owner
                        )

    @property
    def services(self) -> set[str]:
        """The services that some model or table names."""
        return {name for name, metadata in self._metadata.items() if metadata.tables} | {
            name for name, documents in self._documents.items() if documents
        }

    def documents(self, service: str) -> list[type[Any]]:
        """Return the document models of a service."""
        return list(self._documents.get(service, ()))

    def models(self, service: str) -> list[type[Any]]:
        """Return all models of a service, over tables and documents."""
        return [model for some in self._models.values() for model in some if model.__service__ == service]

    def add(self, model: type[Any], *, document: bool = False) -> None:
        """Make ``model`` known by its class name."""
        self._models.setdefault(model.__name__, []).append(model)
        if document:
            self._documents.setdefault(model.__service__, []).append(model)
        for listener in self._listeners:
            listener(model)

    def on_add(self, listener: Callable[[type[Any]], None]) -> None:
        """Call ``listener`` with each model, once it is mapped; what it raises, the class statement raises."""
        self._listeners.append(listener)

    def find(self, name: str, *, near: type[Any]) -> type[Any]:
        """Return the model called ``name``; of several, the one in the module of ``near``.

        ``name`` may be a dotted path ending in the class name. Raises ``ModelError`` for none and for a tie.
        """
        module, _, simple = name.rpartition(".")
        found = self._models.get(simple, [])
        if module:
            found = [model for model in found if model.__module__.endswith(module)]
        if len(found) > 1:
            found = [model for model in found if model.__module__ == near.__module__][-1:] or found
        if len(found) != 1:
            problem = "several models have" if found else "no model has"
            raise ModelError(
                f"{near.__name__}: {problem} the name {name!r}"
                + ("; write its module's path before it" if found else "; import its module, or correct the name")
            )
        return found[0]


catalog = Catalog()


def service_of(model: Any) -> str:
    """Return the service that owns a model class."""
    return str(model.__service__)


def check_service(model: type[Any]) -> str:
    """Return the service ``model`` names; raise if it names none, or one outside its base's ``__services__``."""
    service = getattr(model, "__service__", None)
    if not isinstance(service, str) or not service:
        raise MissingServiceError(model.__name__)
    known = getattr(model, "__services__", None)
    if known is not None and service not in known:
        raise UnknownServiceError(service, known=known, used_by=f"model {model.__name__}")
    return service


def owner_of(table: Table) -> str | None:
    """Return the service that owns a table, None for a table outside fedorm's MetaData."""
    owner: str | None = table.metadata.info.get(SERVICE)
    return owner


def services_of(clause: Any) -> set[str]:
    """Return the services that own the tables named anywhere in a SQL expression."""
    services: set[str] = set()
    unvisited, seen = [clause], set[int]()
    while unvisited:
        for element in visitors.iterate(unvisited.pop()):
            table = element.table if isinstance(element, Column) else element
            if isinstance(table, Table):
                owner = owner_of(table)
                if owner is not None:
                    services.add(owner)
            elif table is not element and isinstance(table, FromClause) and id(table) not in seen:
                # A column of an alias: where that is the target of a join nothing else leads to its table.
                seen.add(id(table))
                unvisited.append(table)
    return services
