"""The federated loader: keys, batches, rows, hash join, attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, select
from sqlalchemy.orm import Mapper, undefer
from sqlalchemy.orm.attributes import instance_state

from fedorm.entity import is_document
from fedorm.exc import MissingTargetError
from fedorm.hydration import collector_paused
from fedorm.joining import (
    Attributes,
    Key,
    all_parts,
    as_parts,
    distinct,
    document_order,
    hash_groups,
    read_keys,
    remote_key,
    row_order,
)
from fedorm.options import FederatedLoad, Node, trees
from fedorm.relationship import FederatedAttribute, Hop, convert_key
from fedorm.stores.base import DocumentStore, batches
from fedorm.stores.sql import SQLStore

if TYPE_CHECKING:
    from fedorm.session import FederatedSession


@dataclass(slots=True)
class Load:
    """One relationship of some parents on its way through the stages."""

    attribute: FederatedAttribute
    node: Node
    parents: list[Any]
    hop: Hop
    local: list[Key] = field(default_factory=list)
    """The parents' keys, in their order; None where a part is None."""
    pairs: dict[Key, list[Key]] = field(default_factory=dict)
    """For an association table: its remote keys by local key."""
    keys: list[Key] = field(default_factory=list)
    """The distinct remote keys."""
    targets: list[Any] = field(default_factory=list)


class Loader:
    """Loads federated relationships for one session, a level of the tree at a time."""

    def __init__(self, session: FederatedSession, *, refresh: bool = False) -> None:
        self._session = session
        self._refresh = refresh
        """Whether what the session has is read anew, as by ``populate_existing``."""
        self._asked: Any = None
        """The instance whose attribute was touched; others are loaded along with it, if they are still there."""

    def load(self, instances: list[Any], options: list[FederatedLoad]) -> None:
        """Load paths for instances that are already there; ordinary steps by ``selectinload``."""
        for root in trees(options):
            mine = [instance for instance in instances if isinstance(instance, root.model)]
            self._load_ordinary(root, mine)
            self.load_tree(root, mine)

    def load_siblings(self, instance: Any, attribute: FederatedAttribute) -> None:
        """Load ``attribute`` for ``instance`` and what was loaded together with it, as far as it is not loaded."""
        if is_document(type(instance)):
            siblings = self._session.documents.of_class(attribute.owner)
        else:
            state = instance_state(instance)
            siblings = [
                other
                for other in list(self._session.identity_map.values())
                if isinstance(other, attribute.owner) and instance_state(other).runid == state.runid
            ]
        missing = [other for other in siblings if other is not instance and attribute.slot not in vars(other)]
        node = Node(attribute.owner)
        node.add((attribute,))
        self._asked = instance
        self.load_tree(node, [instance, *missing])

    def load_tree(self, root: Node, parents: list[Any]) -> None:
        """Load everything below ``root`` for ``parents``: level by level, the services of a level at the same time."""
        level = [(root, parents)]
        self._session._autoflush()
        with self._session.no_autoflush, self._session.loading():
            while level:
                loads = [
                    Load(attribute, node, mine, attribute.hop)
                    for origin, parents in _through_ordinary(level)
                    for attribute, node in origin.federated
                    if (mine := _those_of(attribute.owner, origin, parents))
                ]
                if not loads:
                    return
                for load in loads:
                    self._read_local(load)
                self._through_associations([load for load in loads if load.hop.secondary is not None])
                for load in loads:
                    if load.hop.secondary is None:
                        load.keys = self._distinct_keys(load)
                self._fetch(loads)
                with collector_paused():
                    for load in loads:
                        self._join(load)
                level = [(load.node, load.targets) for load in loads if load.node.steps and load.targets]

    def _load_ordinary(self, root: Node, instances: list[Any]) -> None:
        options = root.loader_options()
        if not options or not instances:
            return
        mapper: Mapper[Any] = inspect(root.model)
        store = self._session.store_of(root.model)
        assert isinstance(store, SQLStore)
        keys = [mapper.primary_key_from_instance(instance) for instance in instances]
        for batch in batches((tuple(key) for key in keys), store.keys_per_statement(len(mapper.primary_key))):
            statement = select(root.model).where(store.key_filter(mapper.primary_key, batch)).options(*options)
            self._session.scalars(statement, execution_options={"populate_existing": False}).all()

    # -- keys

    def _read_local(self, load: Load) -> None:
        """Read the parents' keys; those that are not loaded, or expired, by one statement a batch."""
        names = load.hop.local
        try:
            load.local = read_keys(load.parents, names, vars)
        except KeyError:
            stale = [parent for parent in load.parents if not vars(parent).keys() >= set(names)]
            self._read_again(load.attribute.owner, stale, names)
            if self._asked is not None:
                gone = {id(parent) for parent in stale if instance_state(parent).expired} - {id(self._asked)}
                load.parents = [parent for parent in load.parents if id(parent) not in gone]
            load.local = read_keys(load.parents, names, Attributes)

    def _read_again(self, model: type[Any], instances: list[Any], names: Sequence[str]) -> None:
        mine = [instance for instance in instances if instance in self._session]
        keys = [key[1] for instance in mine if (key := instance_state(instance).key) is not None]
        if len(keys) < 2:
            return
        mapper, store = inspect(model), self._session.store_of(model)
        assert isinstance(store, SQLStore)
        statement = select(model).options(*(undefer(getattr(model, name)) for name in names))
        for batch in batches(keys, store.keys_per_statement(len(mapper.primary_key))):
            self._session.scalars(statement.where(store.key_filter(mapper.primary_key, batch))).unique().all()

    def _distinct_keys(self, load: Load) -> list[Key]:
        local = distinct(load.local)
        return [remote_key(load.hop, key) for key in local] if any(load.hop.convert) else local

    def _through_associations(self, loads: list[Load]) -> None:
        by_service: dict[str, list[Load]] = {}
        for load in loads:
            if load.hop.secondary is not None:
                by_service.setdefault(load.hop.secondary.service, []).append(load)
        jobs = {service: self._job(self._fetch_pairs, mine) for service, mine in by_service.items()}
        self._run(jobs)

    def _fetch_pairs(self, load: Load) -> None:
        hop, secondary = load.hop, load.hop.secondary
        assert secondary is not None
        store = self._session.store_named(secondary.service, used_by=hop.name)
        assert isinstance(store, SQLStore)
        local: dict[tuple[Any, ...], Key] = {}
        for key in distinct(load.local):
            local[convert_key(hop, as_parts(key, hop.local), secondary.to_local)] = key
        width = len(secondary.local)
        for batch in batches(local, store.keys_per_statement(width)):
            statement = select(*secondary.local, *secondary.remote).where(store.key_filter(secondary.local, batch))
            rows = self._session.execute(statement, bind_arguments={"service": store.service})
            for row in rows:
                # A collation that ignores case also finds keys that are not equal to any we asked for.
                parent, remote = local.get(tuple(row[:width])), tuple(row[width:])
                if parent is None or None in remote:
                    continue
                key = convert_key(hop, remote, hop.convert)
                load.pairs.setdefault(parent, []).append(key if len(key) > 1 else key[0])
        load.keys = distinct(key for keys in load.pairs.values() for key in keys)

    # -- targets

    def _fetch(self, loads: list[Load]) -> None:
        by_service: dict[str, list[Load]] = {}
        for load in loads:
            if load.keys:
                by_service.setdefault(load.hop.service, []).append(load)
        jobs = {}
        for service, mine in by_service.items():
            store = self._session.store_named(service, used_by=mine[0].hop.name)
            fetch = self._fetch_documents if isinstance(store, DocumentStore) else self._fetch_rows
            jobs[service] = self._job(fetch, mine)
        self._run(jobs)

    @staticmethod
    def _job(fetch: Callable[[Load], None], loads: list[Load]) -> Callable[[], None]:
        def job() -> None:
            for load in loads:
                fetch(load)

        return job

    def _run(self, jobs: dict[str, Callable[[], None]]) -> None:
        if not jobs:
            return
        if len(jobs) > 1:
            for service in jobs:
                if isinstance(self._session.stores[service], SQLStore):
                    # Now, one after the other: a session refuses to connect two services at the same moment.
                    self._session.connection(bind_arguments={"service": service})
        self._session.bridge.side_by_side(list(jobs.values()))

    def _fetch_rows(self, load: Load) -> None:
        hop, attribute, session = load.hop, load.attribute, self._session
        store = session.store_of(hop.target)
        assert isinstance(store, SQLStore)
        mapper: Mapper[Any] = inspect(hop.target)
        options = load.node.loader_options()
        wanted: Sequence[Key] = load.keys
        if hop.to_primary_key and attribute.where is None and not options and not self._refresh:
            load.targets, wanted = self._from_identity_map(load, mapper)
        if not wanted:
            return
        columns = [mapper.column_attrs[name].columns[0] for name in hop.remote]
        order = row_order(attribute, hop.target)
        statement: Any = select(hop.target).options(*options)
        if attribute.where is not None:
            statement = statement.where(attribute.where(hop.target))
        size = store.keys_per_statement(len(columns))
        if order:
            statement = statement.order_by(*order)
            # Through an association table a parent's targets may be in any batch: only one batch orders them.
            size = len(wanted) if hop.secondary is not None else size
        eager = any(related.lazy in ("joined", False) and related.uselist for related in mapper.relationships)
        for batch in batches(wanted, size):
            keys = all_parts(batch, hop.remote)
            result = session.scalars(
                statement.where(store.key_filter(columns, keys)),
                bind_arguments={"service": store.service},
                execution_options={"populate_existing": True} if self._refresh else {},
            )
            with rows_to_objects([mapper], alone=not options):
                load.targets.extend(result.unique() if eager else result)

    def _from_identity_map(self, load: Load, mapper: Mapper[Any]) -> tuple[list[Any], list[Key]]:
        """Split the keys into objects that the session has, and keys that it has to ask for."""
        found, wanted = [], []
        identity_map, owner = self._session.identity_map, mapper._identity_class
        order = [load.hop.remote.index(name) for name in _primary_key_names(mapper)]
        for key in load.keys:
            parts = as_parts(key, load.hop.remote)
            target = identity_map.get((owner, tuple(parts[position] for position in order), None))
            if target is not None and isinstance(target, load.hop.target) and not instance_state(target).expired:
                found.append(target)
            else:
                wanted.append(key)
        return found, wanted

    def _fetch_documents(self, load: Load) -> None:
        hop, attribute, session = load.hop, load.attribute, self._session
        documents = session.documents
        store = documents.store_of(hop.target)
        wanted: Sequence[Key] = load.keys
        known = documents.tracked or documents.pending
        if known and hop.to_primary_key and attribute.where is None and not self._refresh:
            wanted = []
            name = store.collection_of(hop.target)
            for key in load.keys:
                identity = (store.service, name, key)
                entry = documents.tracked.get(identity) or documents.pending.get(identity)
                if entry is not None and not entry.expired and isinstance(entry.document, hop.target):
                    load.targets.append(entry.document)
                else:
                    wanted.append(key)
        order = document_order(attribute, hop.target)
        size = store.keys_per_statement(len(hop.remote))
        if order and hop.secondary is not None:
            size = max(1, len(wanted))

        async def fetch() -> list[dict[str, Any]]:
            raw = []
            for batch in batches(wanted, size):
                raw += await store.find_keys(
                    hop.target, hop.remote, all_parts(batch, hop.remote),
                    where=attribute.where, sort=order,
                    transaction=documents.transactions.get(store.service), sync=session.uses_threads,
                )  # fmt: skip
            return raw

        if wanted:
            raw = session.bridge.run(fetch())
            with collector_paused():
                load.targets.extend(documents.adopt(store, hop.target, raw, refresh=self._refresh))

    # -- joining

    def _join(self, load: Load) -> None:
        """Set the attribute of every parent, as loaded."""
        attribute, hop = load.attribute, load.hop
        slot = attribute.slot
        local = load.local
        if hop.secondary is not None:
            self._join_pairs(load, local)
            return
        convert = any(hop.convert)
        if convert:
            remote_of = {key: remote_key(hop, key) for key in distinct(local)}
            local = [remote_of.get(key) for key in local]
        if hop.uselist:
            groups = hash_groups(read_keys(load.targets, hop.remote, Attributes), load.targets)
            for parent, key in zip(load.parents, local, strict=True):
                vars(parent)[slot] = attribute.collection(parent, groups.get(key, ()))
        else:
            built = _by_key(load)
            if attribute.missing == "raise":
                _require(load, [key for key in load.keys if key not in built])
            get = built.get
            for parent, key in zip(load.parents, local, strict=True):
                parent.__dict__[slot] = get(key)
        self._join_back(load)

    def _join_pairs(self, load: Load, local: list[Key]) -> None:
        attribute, hop = load.attribute, load.hop
        built = _by_key(load)
        rank = {id(target): position for position, target in enumerate(load.targets)}
        if attribute.missing == "raise":
            _require(load, [key for key in load.keys if key not in built])
        for parent, key in zip(load.parents, local, strict=True):
            targets = [built[one] for one in dict.fromkeys(load.pairs.get(key, ())) if one in built]
            if attribute.order_by is not None:
                targets.sort(key=lambda target: rank[id(target)])
            if hop.uselist:
                vars(parent)[attribute.slot] = attribute.collection(parent, targets)
            else:
                vars(parent)[attribute.slot] = targets[0] if targets else None

    @staticmethod
    def _join_back(load: Load) -> None:
        back = load.hop.back
        if back is None or back.hop.uselist or not load.hop.uselist:
            return
        for parent in load.parents:
            for member in vars(parent)[load.attribute.slot]:
                back.commit(member, parent)


def rows_to_objects(mappers: Iterable[Mapper[Any]], *, alone: bool) -> AbstractContextManager[None]:
    """Return the block to make objects of ``mappers`` from rows in.

    ``alone`` says that no option loads anything else with them: then, and where no relationship is eager, the rows
    are all there and nothing has to be waited for, so that the garbage collector can be paused.
    """
    lazily = (True, "select", "raise", "raise_on_sql", "noload", None, "write_only", "dynamic")
    if alone and all(
        mapper.polymorphic_on is None and all(related.lazy in lazily for related in mapper.relationships)
        for mapper in mappers
    ):
        return collector_paused()
    return nullcontext()


def _through_ordinary(level: list[tuple[Node, list[Any]]]) -> list[tuple[Node, list[Any]]]:
    """Follow the steps that are loaded already, so that all that is federated below is one level."""
    reached: list[tuple[Node, list[Any]]] = []
    for node, parents in level:
        reached.append((node, parents))
        for step, below in node.ordinary:
            children: dict[int, Any] = {}
            for parent in _those_of(step.parent.class_, node, parents):
                value = getattr(parent, step.key)
                for child in (value if step.property.uselist else (value,)) or ():
                    if child is not None:
                        children[id(child)] = child
            reached.extend(_through_ordinary([(below, list(children.values()))]))
    return reached


def _those_of(owner: type[Any], node: Node, parents: list[Any]) -> list[Any]:
    """Return the parents that have the relationships of ``owner``, which may be below their class in a hierarchy."""
    return parents if issubclass(node.model, owner) else [parent for parent in parents if isinstance(parent, owner)]


def _primary_key_names(mapper: Mapper[Any]) -> list[str]:
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]


def _by_key(load: Load) -> dict[Key, Any]:
    """Return the targets by key; of several with one key the first, in the order that the relationship says."""
    targets = load.targets[::-1]
    return dict(zip(read_keys(targets, load.hop.remote, Attributes), targets, strict=True))


def _require(load: Load, missing: list[Any]) -> None:
    if missing:
        raise MissingTargetError(load.attribute.name, service=load.hop.service, keys=missing)
