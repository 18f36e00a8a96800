"""Which services can have an outbox, and making those that models want."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.util import greenlet_spawn

from fedorm.bookkeeping import ensure
from fedorm.exc import UnsupportedOperationError
from fedorm.outbox.rules import has_outbox, models_with_rules
from fedorm.outbox.tables import fedorm_outbox
from fedorm.outbox.triggers import make_triggers
from fedorm.stores.base import Capability, DocumentStore, Store
from fedorm.stores.sql import SQLStore


def refusal_of(store: Store, models: Iterable[type[Any]] = ()) -> UnsupportedOperationError | None:
    """Return why a service cannot have an outbox; None if it can. ``models`` are those that want one."""
    if store.keeps_own:
        return None
    names = ", ".join(sorted(model.__name__ for model in models))
    wanted = f"{names} cannot have an __outbox__ there" if names else "no event can be written there"
    more = "; make the server a replica set" if Capability.TRANSACTIONS in store.may_have else ""
    lack = (
        "takes no event into its transactions"
        if Capability.TRANSACTIONS in store.capabilities
        else "has no transactions"
    )
    return UnsupportedOperationError(
        f"{lack}, so that an event could be kept without its change, or lost: {wanted}{more}",
        service=store.service,
        address=store.address,
    )


def checked(results: Mapping[str, Any], stores: Mapping[str, Store]) -> dict[str, Any]:
    """Return what came of opening stores, with a refusal for each that cannot keep the rules of its models."""
    seen = dict(results)
    for name, store in stores.items():
        models = models_with_rules(name)
        if models and seen.get(name) is None:
            seen[name] = refusal_of(store, models)
    return seen


async def make_outboxes(stores: Iterable[Store]) -> None:
    """Make the outboxes of services whose models have rules, and their triggers."""
    for store in stores:
        if not has_outbox(store.service):
            continue
        if isinstance(store, SQLStore):
            await greenlet_spawn(ensure, store.engine, fedorm_outbox(store.service))
            await greenlet_spawn(make_triggers, store.engine, store.service)
        elif isinstance(store, DocumentStore):
            await store.prepare_events(sync=False)
