"""What a MongoDB server is asked for: transactions, and what the user may do with which collections."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fedorm.stores.base import Capability, collection_name
from fedorm.stores.beanie_models import BeanieModels
from fedorm.stores.findings import Finding, Needs, listed, too_old

_OLDEST = (4, 2)
"""With transactions wherever there is a replica set or a sharded cluster."""

_READ, _WRITE = ("find",), ("insert", "update", "remove")
_OWN = (*_READ, *_WRITE, "createCollection", "createIndex")
_EVERYWHERE = ("AnyDatabase", "root")
_ROLES = {
    **dict.fromkeys(("read", "readAnyDatabase"), _READ),
    **dict.fromkeys(("readWrite", "dbOwner", "readWriteAnyDatabase", "root"), _OWN),
}


class MongoDBExamining(BeanieModels):
    """The part of the store that looks at its server for what its models need."""

    @abstractmethod
    def own_database(self, *, sync: bool = False) -> Any:
        """Return PyMongo's database."""

    @abstractmethod
    def named(self) -> AbstractAsyncContextManager[None]:
        """Turn the driver's errors into fedorm's."""

    async def version(self) -> str | None:
        """Run ``buildInfo``."""
        async with self.named():
            return str((await self.own_database().command("buildInfo"))["version"])

    async def findings(self, needs: Needs) -> list[Finding]:
        """Ask for the version, transactions, and the user's privileges."""
        old = too_old("MongoDB", await self.version() or "", _OLDEST)
        found = [] if old is None else [old]
        if needs.transactions is not None and Capability.TRANSACTIONS not in self.capabilities:
            found.append(
                Finding(
                    f"the server is no member of a replica set, and so has no transactions, which {needs.transactions} "
                    f"cannot do without",
                    "start it with  --replSet rs0  and run  rs.initiate()",
                )
            )
        async with self.named():
            status = await self.own_database().command("connectionStatus", showPrivileges=True)
        return [*found, *_of_rights(status.get("authInfo", {}), needs, self.own_database().name)]


def _of_rights(told: Mapping[str, Any], needs: Needs, database: str) -> list[Finding]:
    """Compare the server's list of what the user may do with what is needed."""
    users = told.get("authenticatedUsers")
    if not users:
        return []  # Without access control all is allowed.
    privileges = told.get("authenticatedUserPrivileges") or _of_roles(told.get("authenticatedUserRoles") or [])
    if privileges is None:
        return []
    rights = _Rights(database, privileges)
    names = sorted({collection_name(model) for model in needs.documents})
    written = [name for name in names if name in needs.written]
    others = [name for name in names if name not in needs.written]
    return [
        *_lacking(rights, names, _READ, users[0], "read"),
        *_lacking(rights, written, _WRITE, users[0], "readWrite"),
        # Whether a model is written to is the application's to know.
        *_lacking(rights, others, _WRITE, users[0], "readWrite", is_error=False),
        *_lacking(rights, [one.name for one in needs.own], _OWN, users[0], "readWrite"),
    ]


def _of_roles(roles: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]] | None:
    """Return what the server's own roles hold, for a server that lists roles alone; None where there are others."""
    if any(role["role"] not in _ROLES for role in roles):
        return None
    return [
        {
            "resource": {"db": "" if role["role"].endswith(_EVERYWHERE) else role["db"], "collection": ""},
            "actions": _ROLES[role["role"]],
        }
        for role in roles
    ]


class _Rights:
    """What the user may do, by the server's own list of privileges and their resources."""

    def __init__(self, database: str, privileges: Sequence[Mapping[str, Any]]) -> None:
        self.database = database
        self._privileges = privileges

    def lacking(self, collection: str, actions: Iterable[str]) -> list[str]:
        """Return which of ``actions`` the user may not do with a collection."""
        allowed = {
            action for one in self._privileges if self._is_for(one["resource"], collection) for action in one["actions"]
        }
        return [] if "anyAction" in allowed else [action for action in actions if action not in allowed]

    def _is_for(self, resource: Mapping[str, Any], collection: str) -> bool:
        if resource.get("anyResource"):
            return True
        # An empty name is that of all, but for the server's own collections.
        return resource.get("db") in ("", self.database) and resource.get("collection") in ("", collection)


def _lacking(
    rights: _Rights,
    collections: Sequence[str],
    actions: Iterable[str],
    user: Mapping[str, Any],
    role: str,
    *,
    is_error: bool = True,
) -> list[Finding]:
    missing = {name: lacking for name in collections if (lacking := rights.lacking(name, actions))}
    if not missing:
        return []
    verbs = sorted({action for lacking in missing.values() for action in lacking})
    granted = json.dumps([{"role": role, "db": rights.database}])
    mend = f"run  db.getSiblingDB({json.dumps(user['db'])}).grantRolesToUser({json.dumps(user['user'])}, {granted})"
    problem = f"the user {user['user']} may not {listed(verbs)} in {listed(list(missing))}"
    return [Finding(problem, mend, "privilege", is_error)]
