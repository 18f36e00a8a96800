"""What a run of changes comes to, once for each row: the part that the log and a broker's messages have in common."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedorm.stores.feeds import Change
from fedorm.stores.rows import Key
from fedorm.sync.applying import Work
from fedorm.sync.carrying import Carrying
from fedorm.sync.related import Linked


@dataclass(slots=True)
class Touched:
    """What a run of changes comes to for each row of the source: its last state, or that it is gone."""

    rows: dict[Key, Change | None] = field(default_factory=dict)
    """None: gone."""
    unknown: dict[Key, None] = field(default_factory=dict)
    """Rows that have to be read, as the log has not told all of their values."""
    linked: Linked = field(default_factory=Linked)
    """What related rows belong to, that have changed."""
    emptied: bool = False

    def take(self, change: Change) -> None:
        """Take in the next change of the source's own rows."""
        if change.kind == "truncate":
            self.rows.clear()
            self.unknown.clear()
            self.emptied = True
            return
        if change.before is not None:
            old = tuple(change.before.get(name) for name in change.shape.key)
            if None not in old and old != change.key:
                self._set(old, None)
        self._set(change.key, change if change.kind == "upsert" else None)

    def _set(self, key: Key, change: Change | None) -> None:
        self.rows.pop(key, None)
        self.unknown.pop(key, None)
        if change is not None and (change.values is None or len(change.values) < len(change.shape.fields)):
            self.unknown[key] = None
        else:
            self.rows[key] = change


async def work_of(carrying: Carrying, touched: Touched) -> Work:
    """Return what is to be done to the target."""
    mapping = carrying.rule.mapping
    if carrying.related is not None:
        keys = {**touched.rows, **touched.unknown, **await carrying.related.rows_of(touched.linked)}
        return await carrying.work_of_keys(list(keys))
    rows = [change.values for change in touched.rows.values() if change is not None and change.values is not None]
    work = await carrying.work_of(rows)
    for key, change in touched.rows.items():
        if change is None and (target := mapping.target_key(key)) not in work.outcomes:
            work.remove(target, key)
    if touched.unknown:
        more = await carrying.work_of_keys(list(touched.unknown))
        work.outcomes |= more.outcomes
        work.gone |= more.gone
    return work
