"""Elasticsearch: search documents over the official asynchronous client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import MetaData, Table

from fedorm.catalog import catalog
from fedorm.config import ServiceSettings
from fedorm.exc import ConfigurationError, ServiceTimeoutError, UnsupportedOperationError
from fedorm.stores.base import Capability
from fedorm.stores.conditions import Both, Compare, Condition, DocumentScan, Either, OneOf
from fedorm.stores.elasticsearch_findings import ElasticsearchExamining
from fedorm.stores.elasticsearch_side import Side
from fedorm.stores.matching import condition_from, ordered, predicate_of
from fedorm.stores.readers import DocumentReader, KeptDocuments
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.searching import Search, SearchResult
from fedorm.stores.sides import TwoSided
from fedorm.stores.writes import Writes

_CHANGE = ("_seq_no", "_primary_term")
"""What a document as it was read has beside its fields and its ``id``: which change of it this is."""


_CAPABILITIES = frozenset(
    {Capability.DOCUMENTS, Capability.UPDATES, Capability.TLS, Capability.VERSIONS, Capability.SEARCH}
)


class ElasticsearchStore(TwoSided[Side], ElasticsearchExamining):
    """The indices of an Elasticsearch cluster whose names begin with the URL's path, all of them without one.

    It has no transactions: a session sends what it holds at the commit, in one request a class, before the services
    that can still be rolled back; when a part of a request fails, the rest of it is undone.
    """

    kind = "elasticsearch"
    extra = "elasticsearch"
    history = "fedorm.migrate.index_history:IndexHistory"
    batch_size = 1_000
    most_keys = 10_000
    id_name = "_id"

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        super().__init__(service, settings)
        for package in ("elasticsearch", "aiohttp"):
            try:
                __import__(package)
            except ModuleNotFoundError as error:
                raise self.missing_driver(package) from error
        from fedorm.stores.elasticsearch_client import hosts_of, prefix_of, refresh_of

        try:
            self.prefix = prefix_of(settings)
            self.refresh = refresh_of(settings)
            hosts_of(settings)
        except ValueError as error:
            problem = f"{settings.address} is not usable: {settings.scrub(str(error))}"
            raise ConfigurationError(f"service {service!r}: {problem}; write  elasticsearch://host:9200") from None

    def entity_base(self) -> type[Any]:
        """Return ``FederatedSearchDocument``."""
        from fedorm.stores.elasticsearch_document import FederatedSearchDocument

        return FederatedSearchDocument

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Return what every server can do."""
        return _CAPABILITIES

    # -- lifetime

    def make_side(self) -> Side:
        """Make a client."""
        from fedorm.stores.elasticsearch_client import made_client

        return Side(made_client(self.service, self.settings, self.sent))

    async def end_side(self, side: Side) -> None:
        """Close the client."""
        await side.client.close()

    async def ping(self, *, sync: bool = False) -> None:
        """Ask who it is."""
        async with self.named(), asyncio.timeout(self.settings.connect_timeout + 1):
            await self.client(sync=sync).info()

    def client(self, *, sync: bool) -> Any:
        """Return the official client."""
        return self.side(sync=sync).client

    def index_of(self, model: type[Any]) -> str:
        """Return the name of a model's index on the server."""
        from fedorm.stores.elasticsearch_mapping import index_name

        return index_name(self.prefix, self.collection_of(model))

    async def ensure_index(self, model: type[Any], *, sync: bool) -> None:
        """Make a model's index if it is not there."""
        from fedorm.stores.elasticsearch_schema import declared

        (index,) = declared([model], self.prefix).values()
        await self.side(sync=sync).ensure(index)

    def forget_indices(self) -> None:
        """Ask for indices and mappings anew, as they were changed."""
        for side in self.sides.values():
            side.forget()

    # -- errors

    @asynccontextmanager
    async def named(self) -> AsyncIterator[None]:
        """Turn the client's errors into fedorm's."""
        from fedorm.stores.elasticsearch_client import ERRORS, classify
        from fedorm.stores.elasticsearch_values import UnfitError

        try:
            yield
        except (UnfitError, UnicodeError) as error:
            raise self.error(UnsupportedOperationError, error) from error
        except TimeoutError as error:
            raise self.error(ServiceTimeoutError, f"no answer within {self.settings.connect_timeout:g} s") from error
        except (*ERRORS, OSError) as error:
            text = str(error)
            if "index_not_found_exception" in text:
                text += ": make it by create_all(), or by  fedorm migrate upgrade"
            if "media_type_header_exception" in text:
                text += ": a server of version 8 needs  pip install 'elasticsearch<9'"
            raise self.error(classify(error), f"{type(error).__name__}: {text}") from error

    # -- transactions

    async def begin(self, *, sync: bool) -> None:
        """Return None: there are none."""
        return

    async def commit(self, transaction: Any) -> None:
        """Do nothing."""

    async def abort(self, transaction: Any) -> None:
        """Do nothing."""

    # -- documents

    def parse(self, model: type[Any], raw: dict[str, Any]) -> Any:
        """Let pydantic make the document."""
        from pydantic import ValidationError

        from fedorm.stores.elasticsearch_values import fields_in, loosened

        values = fields_in(model, raw)
        try:
            return model.model_validate(values)
        except ValidationError as error:
            loose = loosened(model, values)
            try:
                if loose is not None:
                    return model.model_validate(loose)
            except ValidationError:
                pass
            raise self.invalid(model, raw.get("_id"), error) from error

    def encode(self, document: Any) -> dict[str, Any]:
        """Return the document as JSON has it, and its ``id`` as it is."""
        from fedorm.stores.elasticsearch_values import UnfitError, source_of

        try:
            return {"_id": document.id, **source_of(document)}
        except UnfitError as error:
            model = type(document).__name__
            raise self.error(UnsupportedOperationError, f"{model} {document.id!r}: {error}") from error

    def raw_of(self, model: type[Any], hit: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was found as the session keeps it."""
        from pydantic import ValidationError

        from fedorm.stores.elasticsearch_values import id_of

        try:
            raw = {"_id": id_of(model, hit["_id"]), **hit.get("_source", {})}
        except ValidationError as error:
            raise self.invalid(model, hit["_id"], error) from None
        raw.update({name: hit[name] for name in _CHANGE if name in hit})
        raw.setdefault("id", hit["_id"])
        return raw

    # -- reading and writing

    async def find(
        self, model: type[Any], query: Any, *, sort: Any = None, transaction: Any = None, sync: bool = False
    ) -> list[dict[str, Any]]:
        """Search by what the index can check, and check the rest here."""
        return await self._found(model, condition_from(query if query is not None else {}), sort, sync=sync)

    async def first_of(
        self, model: type[Any], condition: Condition, number: int, *, sync: bool
    ) -> list[dict[str, Any]] | None:
        """Return so many of the documents that fulfil a condition; None when that takes reading all of them."""
        from fedorm.stores.elasticsearch_client import WHOLE

        index, size = self.index_of(model), max(10, number)
        async with self.named():
            query = await self._query(model, condition, sync=sync)
            if query is None:
                return []
            answer = await self.client(sync=sync).search(
                index=index, query=query, size=size, seq_no_primary_term=True, **WHOLE
            )
        hits = answer["hits"]["hits"]
        found = self._fulfilling(model, [self.raw_of(model, hit) for hit in hits], condition, ())
        return found[:number] if len(found) >= number or len(hits) < size else None

    async def _query(self, model: type[Any], condition: Condition, *, sync: bool) -> dict[str, Any] | None:
        from fedorm.stores.elasticsearch_query import match_query

        mapped = await self.side(sync=sync).mapped(self.index_of(model))
        return match_query(model.__clause_element__(), condition, mapped)

    def _fulfilling(
        self, model: type[Any], found: list[dict[str, Any]], condition: Condition, sort: Sequence[str]
    ) -> list[dict[str, Any]]:
        from fedorm.stores.elasticsearch_values import Attributes

        if condition == Both() and not sort:
            return found
        holds = predicate_of(condition, exact=True)
        pairs = [(raw, Attributes(self.parse(model, raw))) for raw in found]
        kept = [pair for pair in pairs if holds(pair[1])]
        return [raw for raw, _ in ordered(kept, list(sort), lambda pair, name: pair[1][name])]

    async def _found(self, model: type[Any], condition: Condition, sort: Any, *, sync: bool) -> list[dict[str, Any]]:
        from fedorm.stores.elasticsearch_scan import all_hits

        index, client, hits = self.index_of(model), self.client(sync=sync), []
        async with self.named():
            query = await self._query(model, condition, sync=sync)
            if query is not None:
                hits = [hit async for page in all_hits(client, index, query) for hit in page]
        return self._fulfilling(model, [self.raw_of(model, hit) for hit in hits], condition, sort or ())

    async def find_keys(
        self,
        model: type[Any],
        fields: Sequence[str],
        keys: Sequence[tuple[Any, ...]],
        *,
        where: Any = None,
        sort: Any = None,
        transaction: Any = None,
        sync: bool = False,
    ) -> list[dict[str, Any]]:
        """Get by ``id`` what was written up to now, and search by other fields what was refreshed."""
        if not keys:
            return []
        parts = [] if where is None else [condition_from(where(model))]
        if tuple(fields) == ("id",):
            from fedorm.stores.elasticsearch_scan import hits_with_ids
            from fedorm.stores.elasticsearch_values import id_text

            async with self.named():
                ids = [id_text(key[0]) for key in keys]
                hits = await hits_with_ids(self.client(sync=sync), self.index_of(model), ids)
            found = [self.raw_of(model, hit) for hit in hits]
            return self._fulfilling(model, found, Both(tuple(parts)), sort or ())
        if len(fields) == 1:
            parts.append(OneOf(fields[0], tuple(key[0] for key in keys)))
        else:
            pairs = (tuple(Compare(name, "=", part) for name, part in zip(fields, key, strict=True)) for key in keys)
            parts.append(Either(tuple(Both(pair) for pair in pairs)))
        return await self._found(model, Both(tuple(parts)), sort, sync=sync)

    async def write(self, writes: Writes, *, transaction: Any, sync: bool) -> None:
        """Send all in one request; undo it when a part of it fails."""
        from fedorm.stores.elasticsearch_writing import write_documents

        await write_documents(self, writes, sync=sync)

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole documents of one class."""
        from fedorm.stores.elasticsearch_rows import ElasticsearchRowAccess

        return ElasticsearchRowAccess(self, shape)

    def query(self, reader: DocumentReader, model: type[Any], conditions: Sequence[Any], *, sync: bool) -> Any:
        """Return a query by conditions; searches by relevance are ``session.search()``'s."""
        from fedorm.stores.elasticsearch_find import SearchFind

        return SearchFind(self, reader, model, conditions, sync=sync)

    async def search(self, model: type[Any], wanted: Search, *, sync: bool = False) -> SearchResult[dict[str, Any]]:
        """Send the search, and take the answer apart."""
        from fedorm.stores.elasticsearch_search import result_of, search_body

        async with self.named():
            answer = await self.client(sync=sync).search(index=self.index_of(model), body=search_body(model, wanted))
        return result_of(answer.body, lambda hit: self.raw_of(model, hit))

    def kept(self, *, sync: bool) -> KeptDocuments:
        """Return what puts all documents of the models back."""
        from fedorm.stores.elasticsearch_kept import ElasticsearchKept

        return ElasticsearchKept(self, sync=sync)

    # -- selects over several services

    def document_tables(self) -> list[Table]:
        """Return each class's table."""
        return [model.__clause_element__() for model in catalog.documents(self.service)]

    async def reflect_tables(self, metadata: MetaData, wanted: Callable[[str], bool], *, sync: bool) -> None:
        """Go by the indices' mappings, and by a sample for fields that hold several values."""
        from fedorm.stores.elasticsearch_reflection import reflect_indices

        async with self.named():
            await reflect_indices(self.client(sync=sync), self.prefix, metadata, wanted)

    async def row_counts(self, *, sync: bool = False) -> dict[str, float]:
        """Count each index; one that is not there has none."""
        counts: dict[str, float] = {}
        async with self.named():
            for model in catalog.documents(self.service):
                found = await self.client(sync=sync).count(index=self.index_of(model), ignore_unavailable=True)
                counts[model.__clause_element__().name] = float(found["count"])
        return counts

    async def count_keys(
        self, model: type[Any], names: Sequence[str], *, transaction: Any = None, sync: bool = False
    ) -> dict[tuple[Any, ...], int]:
        """Read the fields of all documents."""
        found = await self._found(model, Both(), None, sync=sync)
        return dict(Counter(self.key_of(model, raw, names) for raw in found))

    async def read(self, wanted: DocumentScan, *, transaction: Any = None, sync: bool = False) -> list[tuple[Any, ...]]:
        """Search by the conditions and keys, and take the fields out of the documents."""
        from fedorm.stores.elasticsearch_mapping import index_name
        from fedorm.stores.elasticsearch_scan import read_rows
        from fedorm.stores.entity_table import COLLECTION

        index = index_name(self.prefix, wanted.table.info[COLLECTION])
        async with self.named():
            mapped = await self.side(sync=sync).mapped(index)
            return await read_rows(self.client(sync=sync), index, wanted, mapped, self.batch_size)

    def describe(self, wanted: DocumentScan) -> str:
        """Return the search that would be sent, by what the class declares."""
        from fedorm.stores.elasticsearch_scan import described

        return described(wanted)

    # -- schema

    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Make the index templates, and the indices with the mappings that the documents declare."""
        from fedorm.stores.elasticsearch_schema import create_index, declared

        async with self.named():
            for one in declared(documents, self.prefix).values():
                await create_index(self.client(sync=False), one)
        self.forget_indices()

    async def drop_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Drop the indices and the templates."""
        from fedorm.stores.elasticsearch_schema import declared, drop_index

        async with self.named():
            for one in declared(documents, self.prefix).values():
                await drop_index(self.client(sync=False), one.name)
        self.forget_indices()
