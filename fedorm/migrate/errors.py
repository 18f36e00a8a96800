"""What can go wrong with a service's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedorm.exc import ConfigurationError, FedormError


class MigrationError(FedormError):
    """A history cannot be carried out; says of which service, and what to do."""


class NoHistoryError(MigrationError, ConfigurationError):
    """A service has no history yet, or not where it was looked for."""


class MigrationFailedError(MigrationError):
    """A migration of one service has failed, with others done before it or left for later.

    ``standing`` has the revisions that each service is at now, ``failed`` names the one, ``left`` those that were not
    begun. Running it again goes on from there.
    """

    def __init__(self, failed: str, cause: BaseException, standing: Mapping[str, str], left: Sequence[str]) -> None:
        why = str(cause).partition("\n[SQL:")[0].partition("\n(Background on")[0].partition(" Stack trace:")[0]
        where = "; ".join(f"{service} is at {revision}" for service, revision in standing.items())
        rest = f"; not begun: {', '.join(left)}" if left else ""
        super().__init__(
            f"the migration of service {failed!r} failed: {why}. As it stands: {where}{rest}. Mend the revision, or "
            f"the database, and run it again: what is done is not done twice"
        )
        self.failed, self.standing, self.left = failed, dict(standing), list(left)


class BusyError(MigrationError):
    """Another process was migrating a service for longer than was waited."""
