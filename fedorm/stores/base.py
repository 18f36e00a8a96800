"""What a kind of database must offer to be a service, and what it may say it can do."""

from __future__ import annotations

import difflib
import enum
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from itertools import islice
from typing import Any, ClassVar, TypeVar

from sqlalchemy import MetaData, Table

from fedorm.bridge import ThreadBridge
from fedorm.cache.results import Place, ResultCache
from fedorm.catalog import catalog
from fedorm.config import ServiceSettings
from fedorm.exc import ConfigurationError, MissingDriverError, StoreError, TwoPhaseError, UnsupportedOperationError
from fedorm.stats import UNOBSERVED, Observer, Recorder
from fedorm.stores.answering import Answering
from fedorm.stores.conditions import DocumentScan
from fedorm.stores.decisions import DocumentDecisions
from fedorm.stores.feeds import ChangeFeed
from fedorm.stores.positions import PositionLog
from fedorm.stores.readers import DocumentReader, KeptDocuments
from fedorm.stores.rows import RowAccess, RowShape
from fedorm.stores.searching import Search, SearchResult
from fedorm.stores.writes import Writes

T = TypeVar("T")


class Capability(enum.Enum):
    """What code above the stores may ask for, instead of asking which database it is."""

    SQL = "speaks SQL through a SQLAlchemy engine"
    DOCUMENTS = "holds documents"
    TRANSACTIONS = "undoes on rollback what a session has written"
    SAVEPOINTS = "undoes a part of a transaction"
    TWO_PHASE = "prepares a transaction, to be committed later"
    STREAMING = "sends rows while the statement still runs"
    ARRAY_KEYS = "takes a batch of keys as one array parameter"
    JOINS = "joins tables of its own without reading all of them"
    EXACT_SUMS = "adds up integers and decimals without rounding"
    UPDATES = "changes and deletes single rows"
    WHOLE_QUERIES = "means by any query what PostgreSQL means"
    TLS = "encrypts its connections"
    SKIP_LOCKED = "locks rows that nobody else holds, and passes over the others"
    LISTEN = "tells at once that something was committed"
    DDL_IN_TRANSACTIONS = "makes tables within a transaction, and undoes that with it"
    CHANGE_FEED = "tells from its log what was committed"
    VERSIONS = "keeps the greatest version of a row that is kept in sync, whenever it comes"
    SEARCH = "ranks what it finds by relevance"


class Store(Answering):
    """One service's database: its lifetime, its health, its schema.

    A store is opened once for asynchronous use (``open``/``close``) and, apart from that, once for use by threads
    (``open_sync``/``close_sync``); the two share no connection.
    """

    kind: ClassVar[str]
    extra: ClassVar[str]
    batch_size: ClassVar[int] = 500
    """How many keys one statement looks up at most."""

    most_keys: ClassVar[int] = 20_000
    """With more keys than these it is better to read all rows between the least and the greatest."""

    may_have: ClassVar[frozenset[Capability]] = frozenset()
    """Capabilities that depend on the server: whether it has them is known once it is open."""
    no_feed: ClassVar[str] = "has no log of changes that could be read"
    """What is said where it has no ``Capability.CHANGE_FEED``."""
    has_schema: ClassVar[bool] = True
    """Whether what it holds has a schema that migrations change."""
    history: ClassVar[str] = ""
    """Of a store without SQL, which history they are: a module of ``fedorm.migrate``, which is above, and its class."""
    commits_after_rows: ClassVar[bool] = False
    """Whether a session commits it after its SQL services: one that hardly ever refuses at the commit what it took."""

    def __init__(self, service: str, settings: ServiceSettings) -> None:
        self.service = service
        self.settings = settings
        self.sent = Recorder()
        """What was sent there, and how long it took."""
        self.observer: Observer = UNOBSERVED
        self.cache: ResultCache | None = None
        """The federation's; None for a store that belongs to none."""
        self.on_events: list[Callable[[], None]] = []
        """Called after each commit that has written events to the service's outbox; see ``fedorm.outbox.writing``."""

    @cached_property
    def place(self) -> Place:
        """Where the service is, to the cache."""
        return Place(self.settings.place, self.settings.identity)

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """What this service can do; may depend on the server, then known once it is open."""

    @property
    def keeps_own(self) -> bool:
        """Whether fedorm's own entries can be in one transaction with a session's rows: events, marks, decisions."""
        return Capability.TRANSACTIONS in self.capabilities

    @property
    def address(self) -> str:
        """Where the service is, without its password."""
        return self.settings.address

    @abstractmethod
    async def open(self) -> None:
        """Connect and get an answer; raise a ``StoreError`` that says why not."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection; closing twice is harmless."""

    @abstractmethod
    def open_sync(self, bridge: ThreadBridge) -> None:
        """Connect for sessions that are used by threads."""

    @abstractmethod
    def close_sync(self, bridge: ThreadBridge) -> None:
        """Close what ``open_sync`` opened."""

    @abstractmethod
    async def create_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Make the tables, or collections, and indexes that are not there yet."""

    @abstractmethod
    async def drop_all(self, metadata: MetaData, documents: Sequence[type[Any]]) -> None:
        """Drop the tables or collections that are there."""

    def row_access(self, shape: RowShape) -> RowAccess:
        """Return what reads and writes whole rows by key, to keep them in sync."""
        raise self.error(UnsupportedOperationError, "cannot be kept in sync")

    def change_feed(self, name: str, shapes: Sequence[RowShape]) -> ChangeFeed:
        """Return what reads the changes of some tables from the log; a store with ``Capability.CHANGE_FEED`` has to."""
        raise self.error(UnsupportedOperationError, self.no_feed)

    def keys_per_statement(self, width: int) -> int:
        """Return how many keys of ``width`` columns one statement looks up at most."""
        return max(1, self.batch_size // width)

    def missing_driver(self, package: str) -> MissingDriverError:
        """Make the error that says which extra brings ``package``."""
        return MissingDriverError(service=self.service, package=package, extra=self.extra)

    def error(self, kind: type[StoreError], cause: BaseException | str, **more: Any) -> StoreError:
        """Make an error of ``kind`` that names this service and repeats ``cause`` without the password."""
        text = cause if isinstance(cause, str) else f"{type(cause).__name__}: {cause}"
        return kind(self.settings.scrub(text.strip()), service=self.service, address=self.address, **more)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.service!r} at {self.address}>"


class DocumentStore(Store):
    """A service that holds objects of a class of its own. ``transaction`` is what ``begin`` returned, or None.

    A document, whatever the database calls it, is an instance of a pydantic model that has an ``id`` and ``Entity``, of
    ``stores/entity.py``, among its bases. As the database holds it, it is a dict: ``find`` returns it, ``parse`` takes
    it and ``encode`` makes it; the session compares what it has read with what ``encode`` makes of the document now.
    """

    id_name: ClassVar[str] = "id"
    """What such a dict calls the ``id``."""

    @abstractmethod
    def entity_base(self) -> type[Any]:
        """Return the class that the models of such a service derive from."""

    def models(self) -> list[type[Any]]:
        """Return the service's models."""
        base = self.entity_base()
        return [model for model in catalog.documents(self.service) if issubclass(model, base)]

    # -- transactions

    @abstractmethod
    async def begin(self, *, sync: bool) -> Any:
        """Start a transaction; None where the server has none."""

    @abstractmethod
    async def commit(self, transaction: Any) -> None:
        """Commit, or raise a ``StoreError``."""

    @abstractmethod
    async def abort(self, transaction: Any) -> None:
        """Undo; never raises for a server that is gone, which undoes by itself."""

    # -- reading and writing

    @abstractmethod
    async def find(
        self, model: type[Any], query: Any, *, sort: Any = None, transaction: Any = None, sync: bool = False
    ) -> list[dict[str, Any]]:
        """Return the documents that match ``query``, what ``query()`` and ``where=`` take, in the order of ``sort``."""

    @abstractmethod
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
        """Return the documents whose ``fields`` equal one of ``keys``, at most ``batch_size`` of them."""

    @abstractmethod
    async def write(self, writes: Writes, *, transaction: Any, sync: bool) -> None:
        """Write in blocks.

        Raises ``DuplicateKeyError`` for an insert of what is there, ``StaleDocumentError`` for a change of what is not.
        """

    @abstractmethod
    def query(self, reader: DocumentReader, model: type[Any], conditions: Sequence[Any], *, sync: bool) -> Any:
        """Return the query object of ``session.find()``, which reads and writes through ``reader``."""

    async def search(self, model: type[Any], wanted: Search, *, sync: bool = False) -> SearchResult[dict[str, Any]]:
        """Return documents as the database holds them, the best first; a store with ``Capability.SEARCH`` has to."""
        raise self.error(UnsupportedOperationError, "ranks nothing by relevance")

    # -- documents

    @abstractmethod
    def parse(self, model: type[Any], raw: dict[str, Any]) -> Any:
        """Make the document; raises ``DocumentValidationError``."""

    def parse_many(self, model: type[Any], raw: Sequence[dict[str, Any]]) -> list[Any]:
        """Make documents; override where some of the work is the same for all of them."""
        return [self.parse(model, one) for one in raw]

    @abstractmethod
    def encode(self, document: Any) -> dict[str, Any]:
        """Return the document as the database holds it."""

    @abstractmethod
    def validate(self, document: Any) -> None:
        """Turn changed values into their fields' types; raise ``DocumentValidationError`` for one that does not fit."""

    @abstractmethod
    def identity(self, model: type[Any], value: Any) -> Any:
        """Return ``value`` in the type of the model's ``id``."""

    @abstractmethod
    def tracks_by_assignment(self, model: type[Any]) -> bool:
        """Say whether a document can only change by assigning a field, as no field holds a mutable value."""

    def collection_of(self, model: type[Any]) -> str:
        """Return the name of a model's collection, the same for classes that share one."""
        return collection_name(model)

    def key_of(self, model: type[Any], raw: dict[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
        """Return the values that fields have in a document."""
        document = self.parse(model, raw)
        return tuple(getattr(document, name) for name in names)

    def new_identity(self, document: Any) -> Any:
        """Return an ``id`` for a document that has none, None when its model's ids are the user's to give."""
        return None

    def new_revision(self, model: type[Any]) -> Any:
        """Return a new ``revision_id`` for a model that keeps one, None for others."""
        return None

    async def notify(self, document: Any, event: str, *, before: bool) -> None:
        """Run the model's own hooks around ``event``: "insert", "update" or "delete"."""
        return

    # -- selects over several services

    @abstractmethod
    def document_tables(self) -> Sequence[Table]:
        """Return the service's collections as tables, for queries over several services."""

    @abstractmethod
    async def reflect_tables(self, metadata: MetaData, wanted: Callable[[str], bool], *, sync: bool) -> None:
        """Put the collections that the server has, and that are ``wanted`` by name, into ``metadata`` as tables."""

    @abstractmethod
    async def row_counts(self, *, sync: bool = False) -> dict[str, float]:
        """Return about how many documents each collection has."""

    @abstractmethod
    async def read(self, wanted: DocumentScan, *, transaction: Any = None, sync: bool = False) -> list[tuple[Any, ...]]:
        """Return columns of one of ``document_tables``, of all documents that fulfil the conditions; others, too.

        Raises ``UnsupportedOperationError`` for a value that is not of its column's type.
        """

    @abstractmethod
    def describe(self, wanted: DocumentScan) -> str:
        """Return what would be sent, as text."""

    @abstractmethod
    async def count_keys(
        self, model: type[Any], names: Sequence[str], *, transaction: Any = None, sync: bool = False
    ) -> dict[tuple[Any, ...], int]:
        """Return how many documents have which values in these fields."""

    # -- fedorm's own entries, where ``keeps_own``

    def decisions(self, *, sync: bool) -> DocumentDecisions:
        """Return the log of transactions over several services that this one decides."""
        raise self.error(TwoPhaseError, "cannot take part in a two-phase commit: it can keep no decision of it")

    async def prepare_events(self, *, sync: bool) -> None:
        """Make the outbox unless it is known to be there; before a transaction, which would not see it."""
        raise self.error(UnsupportedOperationError, "has no outbox")

    async def write_events(self, events: Sequence[dict[str, Any]], *, transaction: Any, sync: bool) -> None:
        """Write events to the outbox, in the given order: behind those of all that has changed the same documents."""
        raise self.error(UnsupportedOperationError, "has no outbox")

    def positions(self) -> PositionLog | None:
        """Return where sync rules that write here keep how far they are; None: elsewhere, after what they write."""
        return None

    def kept(self, *, sync: bool) -> KeptDocuments:
        """Return what puts everything back as it was, after a test."""
        raise self.error(UnsupportedOperationError, "cannot be put back as it was before a test")


def collection_name(model: type[Any]) -> str:
    """Return the collection of a document model; known before the model is bound to a database."""
    settings = getattr(model, "Settings", None)
    return str(getattr(settings, "name", None) or model.__name__)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut ``items`` into lists of at most ``size``."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def store_for(service: str, settings: ServiceSettings) -> Store:
    """Make the store that a service's URL asks for, from the entry points in the group ``fedorm.stores``.

    Raises ``ConfigurationError`` for a scheme no store claims, ``MissingDriverError`` for a driver not installed.
    """
    found = entry_points(group="fedorm.stores", name=settings.backend)
    if not found:
        known = sorted(entry_points(group="fedorm.stores").names)
        near = difflib.get_close_matches(settings.backend, known, n=1)
        hint = f": did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
        raise ConfigurationError(f"service {service!r}: no store for {settings.scheme!r} (in {settings.address}){hint}")
    store: Store = next(iter(found)).load()(service, settings)
    return store
