"""A session's writes as one bulk request, undone by another one when a part of it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedorm.exc import DuplicateKeyError, StaleDocumentError, StoreError
from fedorm.stores.elasticsearch_client import CONFLICT, reason_of
from fedorm.stores.elasticsearch_values import id_text

if TYPE_CHECKING:
    from fedorm.stores.elasticsearch import ElasticsearchStore
    from fedorm.stores.writes import Writes

META = ("_id", "_seq_no", "_primary_term")


@dataclass(frozen=True, slots=True)
class _Operation:
    """One action of a bulk request."""

    kind: str
    id: str
    source: Mapping[str, Any] | None = None
    expected: Mapping[str, Any] | None = None
    """The document as it was read, which it still has to be."""
    kept: dict[str, Any] | None = None
    """What the session keeps, and is told which change of the document this is."""
    forced: bool = False
    """Whether it does not matter what was there."""

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the action and the document."""
        meta: dict[str, Any] = {"_id": self.id}
        if self.expected is not None and "_seq_no" in self.expected:
            meta |= {"if_seq_no": self.expected["_seq_no"], "if_primary_term": self.expected["_primary_term"]}
        yield {self.kind: meta}
        if self.source is not None:
            yield {name: value for name, value in self.source.items() if name not in META}


async def write_documents(store: ElasticsearchStore, writes: Writes, *, sync: bool) -> None:
    """Send a class's writes. Raises ``DuplicateKeyError`` and ``StaleDocumentError``; then nothing of them is kept.

    What was written is undone one after the other, and unless somebody else has changed it again meanwhile: others may
    have seen it.
    """
    operations = list(_operations(writes))
    if not operations:
        return
    index, client = store.index_of(writes.model), store.client(sync=sync)
    body = [line for one in operations for line in one.lines()]
    async with store.named():
        await store.ensure_index(writes.model, sync=sync)
        answer = await client.bulk(index=index, operations=body, refresh=store.refresh)
        results = [next(iter(item.values())) for item in answer["items"]]
        failed = [(one, result) for one, result in zip(operations, results, strict=True) if _has_failed(one, result)]
        if failed:
            done = [(one, result) for one, result in zip(operations, results, strict=True) if "_seq_no" in result]
            await _undo(client, index, [pair for pair in done if not _has_failed(*pair)], store.refresh)
    if failed:
        raise _error(store, writes, failed)
    for one, result in zip(operations, results, strict=True):
        if one.kept is not None:
            one.kept.update({name: result[name] for name in META[1:]})


def _operations(writes: Writes) -> Iterator[_Operation]:
    for identity in writes.gone:
        yield _Operation("delete", id_text(identity), forced=True)
    for raw in writes.upserts:
        yield _Operation("index", id_text(raw["_id"]), raw, kept=raw, forced=True)
    for raw in writes.inserts:
        yield _Operation("create", id_text(raw["_id"]), raw, kept=raw)
    for change in writes.updates:
        yield _Operation("index", id_text(change.identity), change.after, change.before, change.after)
    for gone in writes.deletes:
        yield _Operation("delete", id_text(gone.identity), expected=gone.before)


def _has_failed(operation: _Operation, result: Mapping[str, Any]) -> bool:
    return "error" in result or (result.get("status") == 404 and not operation.forced)


async def _undo(client: Any, index: str, done: Sequence[tuple[_Operation, Mapping[str, Any]]], refresh: str) -> None:
    lines: list[dict[str, Any]] = []
    for one, result in done:
        if one.kind == "create":
            lines += _Operation("delete", one.id, expected=result).lines()
        elif one.kind == "index" and one.expected is not None:
            lines += _Operation("index", one.id, one.expected, expected=result).lines()
        elif one.expected is not None:
            lines += _Operation("create", one.id, one.expected).lines()
    if lines:
        await client.bulk(index=index, operations=lines, refresh=refresh)


def _error(
    store: ElasticsearchStore, writes: Writes, failed: Sequence[tuple[_Operation, Mapping[str, Any]]]
) -> Exception:
    name = writes.model.__name__
    others = [result["error"] for _, result in failed if "error" in result and result.get("status") != CONFLICT]
    if others:
        return store.error(StoreError, f"{name}: {reason_of(others[0])}")
    if all(one.kind == "create" for one, _ in failed):
        ids = ", ".join(repr(one.id) for one, _ in failed[:5])
        return store.error(DuplicateKeyError, f"there is a {name} with the id {ids} already")
    changed = len(writes.updates) + len(writes.deletes)
    stale = sum(one.kind != "create" for one, _ in failed)
    return StaleDocumentError(
        f"service {store.service!r}: {changed} document(s) of {name} were to be changed or deleted, {changed - stale} "
        f"were still there as they had been read; read them again and repeat"
    )


async def put_unless_changed(client: Any, index: str, id_: str, document: dict[str, Any], before: Any) -> bool:
    """Write one document in place of ``before``, as it was got, None if it was not there; False if that has changed."""
    options: dict[str, Any] = {"op_type": "create"}
    if before is not None:
        options = {"if_seq_no": before["_seq_no"], "if_primary_term": before["_primary_term"]}
    answer = await client.options(ignore_status=CONFLICT).index(index=index, id=id_, document=document, **options)
    return "error" not in answer.body
