"""``AsyncFederatedSession``: the session for code that awaits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from sqlalchemy import Executable
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.util import greenlet_spawn

from fedorm.options import FederatedLoad, Relationship
from fedorm.outbox.events import Event
from fedorm.session import FederatedSession
from fedorm.stores.searching import SearchResult

if TYPE_CHECKING:
    import pyarrow as pa

    from fedorm.query.explain import Explanation


class AsyncFederatedSession(AsyncSession):
    """An ``AsyncSession`` over all services of a federation."""

    sync_session_class = FederatedSession
    sync_session: FederatedSession

    def find(self, model: type[Any], *conditions: Any) -> Any:
        """Return a Beanie query bound to this session: ``await session.find(Product, Product.price > 2).to_list()``."""
        return self.sync_session.find(model, *conditions)

    async def search(
        self, model: type[Any], query: Any = None, *, options: Sequence[Any] = (), **wanted: Any
    ) -> SearchResult[Any]:
        """Return the documents that fit best, as ``FederatedSession.search()`` does."""
        return await greenlet_spawn(self.sync_session.search, model, query, options=options, **wanted)

    def emit(
        self, what: Event | BaseModel, *, service: str | None = None, key: Any = None, type: str | None = None
    ) -> Event:
        """Write an event with the next flush, as ``FederatedSession.emit()`` does; nothing is sent before."""
        return self.sync_session.emit(what, service=service, key=key, type=type)

    async def explain(
        self, statement: Executable, parameters: Mapping[str, Any] | None = None, *, analyze: bool = False
    ) -> Explanation:
        """Return how a query over several services is, or for ``analyze`` was, run: ``print()`` it."""
        explained: Explanation = await greenlet_spawn(self.sync_session.explain, statement, parameters, analyze=analyze)
        return explained

    async def arrow(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        """Return the result of a query over any services as a ``pyarrow.Table``; of entities, their columns."""
        return await greenlet_spawn(self.sync_session.arrow, statement, parameters)

    async def load(self, instances: Iterable[Any], *paths: FederatedLoad | Relationship) -> None:
        """Load relationships of ``instances``: ``federated_load(...)`` options, or attributes."""
        await greenlet_spawn(self.sync_session.load, instances, *paths)
