"""The statement that writes a flush's events to a service's outbox, in their order."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from sqlalchemy import Executable, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from fedorm.outbox.plans import Row
from fedorm.outbox.tables import fedorm_outbox
from fedorm.stores.base import Capability, Store

_NAMES = ("id", "type", "key", "data")


def writing(store: Store, rows: list[Row]) -> tuple[Executable, Any]:
    """Return a statement and its parameters."""
    if Capability.ARRAY_KEYS not in store.capabilities:
        return _insert(store.service), rows
    # One statement however many the events: it is planned once, and fires the triggers of the outbox once.
    parameters = {name: [row[name] for row in rows] for name in _NAMES}
    parameters["data"] = list(map(json.dumps, parameters["data"]))
    return _insert_arrays(store.service), parameters


@cache
def _insert(service: str) -> Executable:
    return fedorm_outbox(service).insert()


@cache
def _insert_arrays(service: str) -> Executable:
    table = fedorm_outbox(service)
    parameters = (bindparam(name, type_=ARRAY(Text)) for name in _NAMES)
    each = func.unnest(*parameters).table_valued(
        *(column(name, Text) for name in _NAMES), with_ordinality="place", name="each"
    )
    each = each.render_derived()
    # The positions are given after the sort.
    rows = select(each.c.id, each.c.type, each.c.key, cast(each.c.data, table.c.data.type)).order_by(each.c.place)
    return table.insert().from_select(_NAMES, rows, include_defaults=False)
