"""A session's writes as those of keys."""

from __future__ import annotations

from typing import Any

from fedorm.stores.redis_codec import DOCUMENT, Codec, Raw
from fedorm.stores.redis_transaction import RecordWrite, life_of
from fedorm.stores.writes import Writes


def record_writes(codec: Codec, writes: Writes) -> tuple[list[RecordWrite], dict[bytes, Raw | None]]:
    """Return what is written, and how records are then."""
    made: list[RecordWrite] = []
    after: dict[bytes, Raw | None] = {}

    def take(kind: str, identity: Any, raw: Raw | None, **more: Any) -> None:
        write = RecordWrite(codec, identity, kind, **more)
        made.append(write)
        after[write.key] = raw

    for identity in writes.gone:
        take("remove", identity, None)
    for raw in writes.upserts:
        life, absent = life_of(raw), [name for name in codec.fields if name not in raw and not codec.is_json]
        take("put", raw["id"], raw, fields=_fields(raw), removed=absent, life=life)
    for raw in writes.inserts:
        life = life_of(raw)
        take("insert", raw["id"], raw, fields=_fields(raw), life=life)
    for one in writes.updates:
        life = life_of(one.after)
        changed = {DOCUMENT: one.after[DOCUMENT]} if codec.is_json else _fields(one.changed)
        removed = [name for name in one.removed if name in codec.fields]
        before = one.before.get(DOCUMENT)
        take("update", one.identity, one.after, fields=changed, removed=removed, life=life, before=before)
    for gone in writes.deletes:
        take("delete", gone.identity, None)
    return made, after


def _fields(raw: Any) -> dict[str, bytes]:
    return {name: value for name, value in raw.items() if isinstance(value, bytes) and name != "id"}
