"""Going through the source from its first key to its last: a first snapshot, a batch, a look for what is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import replace
from typing import TypeVar

from fedorm.exc import RowError
from fedorm.stores.passing import Passage, UnfitValueError
from fedorm.stores.rows import Key
from fedorm.sync.applying import Applied, Work
from fedorm.sync.carrying import Carrying, log
from fedorm.sync.keys import is_key, key_of_json, key_to_json
from fedorm.sync.positions import Position

T = TypeVar("T")
_WHOLE = 10
"""How many times as large pages are that are moved as they are."""


async def go_through(carrying: Carrying, position: Position, *, page: int) -> Position:
    """Write what the rows of the source come to, from ``position`` on, and return the position at the end.

    Each page is one block, saved with its position: interrupted at any moment, it goes on from there.
    """
    source, mapping, progress = carrying.source, carrying.rule.mapping, carrying.progress
    if position.since is not None:
        progress.lag_rows = None
    else:
        progress.lag_rows = await source.count() if carrying.total is None else carrying.total
    pairs = mapping.pairs
    if pairs is not None and not position.compares and position.since is None:
        passage = await source.passage(carrying.target, pairs)
        if passage is not None:
            try:
                position = await _pass_through(carrying, passage, position, page=page * _WHOLE)
                progress.lag_rows = 0
                return position
            except (RowError, UnfitValueError) as error:
                # Of one row or more: looked at one by one, from the last page that is written.
                log.info("sync rule %r: %s; its rows are written one by one", carrying.rule.name, error)
                saved = await carrying.load()
                position = position if saved is None else saved
    after = None if position.after is None else key_of_json(position.after, mapping.source)
    async for last, rows, work in works(carrying, after, position.since, page):
        if position.compares:
            work = await carrying.differing(work)
        elif position.since is None:
            work.gone.clear()  # Nothing of them is there.
        position = replace(position, after=key_to_json(last), version=position.version + 1)
        applied = await carrying.applier.apply(work, position)
        carrying.done()
        _tell(carrying, rows, applied)
        carrying.check()
    progress.lag_rows = 0
    return position


async def snapshot(carrying: Carrying, position: Position, *, page: int) -> Position:
    """Go through the source, and save that the stream is followed from now on; return that position."""
    done = await go_through(carrying, position, page=page)
    if position.compares:
        done = await remove_absent(carrying, done, page=page)
    done = Position("stream", feed=done.feed, version=done.version + 1)
    await carrying.positions.save(None, done, carrying.epoch)
    return done


async def works(
    carrying: Carrying, after: Key | None, since: str | None, page: int
) -> AsyncIterator[tuple[Key, int, Work]]:
    """Yield, of each page of the source, its last key, how many rows it has, and what these come to."""
    source, key_of = carrying.source, carrying.rule.mapping.key_of
    try:
        async for rows in ahead(source.pages(size=page, after=after, since=since)):
            after = key_of(rows[-1])
            yield after, len(rows), await carrying.work_of(rows)
    except RowError as error:
        # Some document is not as its class wants it: the others are read around it.
        log.info("sync rule %r: %s; rows are read by their keys", carrying.rule.name, error)
        async for keys in ahead(source.key_pages(size=page, after=after)):
            yield keys[-1], len(keys), await carrying.work_of_keys(keys)


async def _pass_through(carrying: Carrying, passage: Passage, position: Position, *, page: int) -> Position:
    """Move whole pages that nobody looks at."""
    mapping = carrying.rule.mapping
    after = None if position.after is None else key_of_json(position.after, mapping.source)
    async for passed in ahead(passage.pages(size=page, after=after)):
        # The last page of all may come again.
        last = position.after if passed.last is None else key_to_json(passed.last)
        position = replace(position, after=last, version=position.version + 1)
        handle = await carrying.target.begin()
        try:
            await passage.write(handle, passed, version=position.version)
            await carrying.positions.save(handle, position, carrying.epoch)
        except BaseException:
            await carrying.target.rollback(handle)
            raise
        await carrying.target.commit(handle)
        carrying.progress.synced += passed.rows
        carrying.done()
        _tell(carrying, passed.rows, Applied(passed.rows, 0, 0))
        carrying.check()
    return position


def _tell(carrying: Carrying, rows: int, applied: Applied) -> None:
    progress = carrying.progress
    if progress.lag_rows is not None:
        progress.lag_rows = max(0, progress.lag_rows - rows)
    if carrying.on_page is not None:
        carrying.on_page(rows, applied.written, applied.deleted, applied.failed)


async def remove_absent(carrying: Carrying, position: Position, *, page: int) -> Position:
    """Do with the target's rows whose source is gone as the rule says; return the position with its new version."""
    mapping = carrying.rule.mapping
    if carrying.rule.declared.on_delete == "ignore" or carrying.shared:
        return position
    async for keys in ahead(carrying.target.key_pages(size=page)):
        back = {mapping.source_key(key): key for key in keys}
        present = await carrying.source.present([*filter(is_key, back)])
        work = Work(gone={key: source for source, key in back.items() if source not in present})
        if work.gone:
            work = await carrying.differing(work)
        if work.gone:
            position = replace(position, version=position.version + 1)
            _tell(carrying, 0, await carrying.applier.apply(work, position))
        carrying.check()
    return position


async def ahead(pages: AsyncIterator[T], *, when: Callable[[T], bool] = lambda page: True) -> AsyncGenerator[T]:
    """Yield what an iterator does, while it is at work on the next already; after pages of which ``when`` says so."""

    async def following() -> T | None:
        return await anext(pages, None)

    task: asyncio.Task[T | None] | None = None
    try:
        while (page := await (following() if task is None else task)) is not None:
            task = asyncio.create_task(following()) if when(page) else None
            yield page
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        close = getattr(pages, "aclose", None)
        if close is not None:
            await close()
