"""A server that speaks Elasticsearch's REST API: the wheel ``noida-db``, which is not Elastic's."""

from __future__ import annotations

from typing import ClassVar

from fedorm.testing.servers.admin import ElasticsearchAdmin
from fedorm.testing.servers.base import Server
from fedorm.testing.servers.noida import noida_program


class ElasticsearchServer(Server):
    """Answers as Elasticsearch 8.15 does, without security; a "database" is a prefix of its indices' names.

    It writes to disk a moment after it has answered: what came right before ``kill()`` may be gone after ``restart()``.
    """

    name = "Elasticsearch"
    default_database: ClassVar[str] = ""

    def url(self, database: str | None = None) -> str:
        """Return the URL for indices with a prefix."""
        return f"elasticsearch://127.0.0.1:{self.port}/{database or self.default_database}"

    @property
    def admin(self) -> ElasticsearchAdmin:
        """Works over HTTP."""
        return ElasticsearchAdmin(self.url())

    def _initialize(self) -> None:
        self._program = noida_program(self.name, self.own)

    def _command(self) -> list[str]:
        own_port = ["--elasticsearch-port", str(self.port), "--data-dir", str(self.own.directory / "data")]
        return [str(self._program), "start", "--only", "elasticsearch", *own_port]
