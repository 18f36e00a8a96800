"""What an Elasticsearch cluster is asked for: its version, lost shards, and indices that are not as classes say."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractAsyncContextManager
from typing import Any

from fedorm.stores.findings import Finding, Needs, listed, too_old
from fedorm.stores.pydantic_models import PydanticModels

_OLDEST = (7, 17)
"""The oldest that clients of version 8 speak to; those of version 9 speak to 9 alone."""


class ElasticsearchExamining(PydanticModels):
    """The part of the store that looks at its cluster for what its models need."""

    prefix: str

    @abstractmethod
    def client(self, *, sync: bool) -> Any:
        """Return the official client."""

    @abstractmethod
    def named(self) -> AbstractAsyncContextManager[None]:
        """Turn the client's errors into fedorm's."""

    async def version(self) -> str | None:
        """Ask who it is."""
        async with self.named():
            return str((await self.client(sync=False).info())["version"]["number"])

    async def findings(self, needs: Needs) -> list[Finding]:
        """Ask for the version, lost shards, and mappings; an index that is not there is made when it is written to."""
        from fedorm.stores.elasticsearch_schema import declared, differences, present

        old = too_old("Elasticsearch", await self.version() or "", _OLDEST)
        found = [] if old is None else [old]
        wanted = declared(needs.documents, self.prefix)
        async with self.named():
            there = await present(self.client(sync=False), self.prefix)
            names = [one.name for name, one in wanted.items() if name in there]
            health = await self.client(sync=False).cluster.health(index=names, level="indices") if names else {}
        lost = sorted(name for name, one in health.get("indices", {}).items() if one.get("status") == "red")
        if lost:
            mend = "bring back the node that has them, or restore a snapshot:  GET _cluster/allocation/explain"
            problem = f"shards of {listed(lost)} are lost: searches leave documents out, all other reading is refused"
            found.append(Finding(problem, mend))
        for name in sorted(wanted) if needs.compares else ():
            for what in differences(wanted[name], there[name]) if name in there else ():
                mend = f"run  fedorm migrate revision --service {self.service} --autogenerate  and upgrade"
                found.append(Finding(f"index {name}: {what}", mend, "drift", is_error=False))
        return found
