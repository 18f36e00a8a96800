"""A process that publishes or applies, to be killed: ``python -m tests.sync.broker_child ROLE BROKER URLS``.

``URLS`` are those of the services, as JSON. ``rules_of`` says what is carried out.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from fedorm import Federation
from fedorm.sync import CDC, SyncRule
from tests.sync.ledgers import source_model, target_model

LEASE = 2.0
PARTITIONS = 4


def rules_of(source: str, *targets: str, through: str, **options: Any) -> list[SyncRule]:
    """A rule for each kind of target, from a source of a kind."""
    strategy = CDC(page=150, batch=500, through=through, partitions=PARTITIONS)
    near = source_model(source, events=False)
    return [
        SyncRule(source=near, to=target_model(kind), strategy=strategy, name=f"{through}_{kind}", **options)
        for kind in targets
    ]


async def carry_out(role: str, broker: str, order: dict[str, Any]) -> None:
    async with Federation(order["urls"]) as fed:
        fed.sync.lease = LEASE
        for rule in rules_of(order["source"], *order["targets"], through=order["through"]):
            fed.sync.add(rule)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, fed.sync.stop)
        print("started", flush=True)
        await (fed.sync.publish(broker) if role == "publish" else fed.sync.apply(broker, at_once=3))


if __name__ == "__main__":
    asyncio.run(carry_out(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
