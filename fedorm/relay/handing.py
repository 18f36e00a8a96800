"""From a batch of events to what is written down of it: who has got what, who has not, and when it is tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedorm.relay.lines import Given, Line, backoff
from fedorm.relay.sources import Batch, Failure, Settlement, Waiting

if TYPE_CHECKING:
    from fedorm.federation import Federation


async def hand_on(batch: Batch, lines: Sequence[Line], federation: Federation) -> Settlement:
    """Give each target what it has to get of a batch, all targets at once.

    A target that fails at an event gets no later one of the same key before it has taken that one, or it was put
    aside; the other targets, and the other keys, go on.
    """
    now = time.time()
    wanted = [[one for one in batch.fresh if line.types.match(one.event.type)] for line in lines]
    jobs = [_serve(line, batch, fresh, federation, now) for line, fresh in zip(lines, wanted, strict=True)]
    done = Settlement()
    missing: dict[int, list[tuple[str, float]]] = {}
    taken: set[int] = set()
    if len(jobs) == 1:
        served = [await jobs[0]]
    else:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job) for job in jobs]
        served = [task.result() for task in tasks]
    for line, fresh, (due, new, waits) in zip(lines, wanted, served, strict=True):
        if due.took:
            done.caught_up[line.name] = due.took
        for given in (due, new):
            done.failures += [_failure(line, first, error) for first, error in given.failed.values()]
        took = {id(one) for one in new.took}
        taken |= took
        for one in fresh:
            if id(one) not in took:
                missing.setdefault(id(one), []).append((line.name, waits.get(one.event.key, line.resume_at)))
    _sort_out(batch, done, missing, taken, everybody_rests=all(line.is_resting(time.time()) for line in lines))
    return done


async def _serve(
    line: Line, batch: Batch, fresh: Sequence[Waiting], federation: Federation, now: float
) -> tuple[Given, Given, dict[str, float]]:
    """Give one target what was due, then what is new and has nothing of its key before it; with the keys that wait."""
    waits = {key: moment for (name, key), moment in batch.held.items() if name == line.name}
    nothing = Given()
    if line.is_resting(now):
        return nothing, nothing, waits
    due = batch.due.get(line.name)
    earlier = await line.give(due, federation, token=batch.token) if due else nothing
    free = [one for one in fresh if one.event.key not in waits]
    later = await line.give(free, federation, token=batch.token) if free else nothing
    return earlier, later, waits


def _failure(line: Line, first: Waiting, error: str) -> Failure:
    tries = first.attempts + 1
    if line.attempts is not None and tries >= line.attempts:
        return Failure(line.name, first, error, None)
    return Failure(line.name, first, error, time.time() + backoff(tries))


def _sort_out(
    batch: Batch,
    done: Settlement,
    missing: dict[int, list[tuple[str, float]]],
    taken: set[int],
    *,
    everybody_rests: bool,
) -> None:
    """Divide the new events into those that all have, those that some have not, and those that were not touched."""
    failed = {failure.first.event.key for failure in done.failures}
    for one in batch.fresh:
        lacking = missing.get(id(one))
        if lacking is None:
            done.delivered.append(one)
        elif everybody_rests and id(one) not in taken and one.event.key not in failed:
            continue  # It stays as it is: nobody could have taken it, and nobody has to be told apart.
        else:
            for name, moment in lacking:
                done.parked.setdefault(name, []).append((one, moment))
