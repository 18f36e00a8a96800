"""The feeds of a rule: of its source's service, and of the services of what belongs to its rows."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.findings import Finding
from fedorm.stores.rows import RowShape
from fedorm.sync.merging import MergedFeed
from fedorm.sync.related import links_of
from fedorm.sync.resolving import ResolvedRule
from fedorm.sync.strategies import CDC

if TYPE_CHECKING:
    from fedorm.federation import Federation
    from fedorm.sync.carrying import Carrying
    from fedorm.sync.sync import Sync


_COMPARING = "use  RealTime()  or  Batch(),  which compare all rows"


def feed_of(federation: Federation, rule: ResolvedRule) -> ChangeFeed:
    """Return what reads the changes of a rule's source, and of everything that it loads."""
    shapes: dict[str, list[RowShape]] = {rule.source.service: [rule.mapping.source]}
    for link in links_of(rule, federation.tables):
        shapes.setdefault(link.related.service, []).append(link.shape)
    name = _name(federation, rule)
    feeds = {service: federation.stores[service].change_feed(name, some) for service, some in shapes.items()}
    return next(iter(feeds.values())) if len(feeds) == 1 else MergedFeed(feeds)


async def untold(federation: Federation, rule: ResolvedRule) -> list[Finding]:
    """Return why the log does not tell to which row a related one has belonged that is gone, or another's now."""
    found: list[Finding] = []
    for link in links_of(rule, federation.tables):
        if not set(link.remote) <= set(link.shape.key):  # A key is always told.
            feed = federation.stores[link.related.service].change_feed(_name(federation, rule), [link.shape])
            found += [
                replace(one, mend=f"{one.mend}; or {_COMPARING}" if one.mend else _COMPARING)
                for one in await feed.whole_row_findings([link.shape])
            ]
    return found


async def leave_log(sync: Sync, carrying: Carrying) -> None:
    """Remove what the server keeps for a rule that has another strategy by now: its log would grow for ever."""
    if isinstance(carrying.rule.strategy, CDC):
        return
    position = await carrying.positions.peek()
    if position is not None and position.feed is not None:
        await sync.feed(carrying.rule).drop()
        await sync.accounts(carrying.rule).found(carrying.rule.name)


def _name(federation: Federation, rule: ResolvedRule) -> str:
    """Return a name that no other rule has, not even one of the same name that fills another database.

    It is the same in every process, whichever user it connects as and wherever it runs.
    """
    addresses = [federation.stores[service].address for service in (rule.source.service, rule.target.service)]
    places = [address.partition("://")[2].rpartition("@")[2] for address in addresses]
    digest = hashlib.sha256("\n".join([rule.name, *places]).encode()).hexdigest()[:8]
    return f"sync_{re.sub('[^a-z0-9]+', '_', rule.name.lower()).strip('_')[:30]}_{digest}"
