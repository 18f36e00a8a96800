"""What goes wrong with rules, and not with single rows of theirs: those go to the dead letters."""

from __future__ import annotations

from fedorm.exc import ConfigurationError, FedormError


class SyncRuleError(ConfigurationError):
    """A rule cannot be carried out as it is declared; says which one, and what to change."""


class UnknownRuleError(FedormError, LookupError):
    """No rule of the federation has that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no rule has the name {name!r}; there are: {', '.join(known) or 'none'}")
        self.name = name


class LeaseLostError(FedormError):
    """Another process carries out the rule by now; what was under way here was rolled back."""


class RowFailedError(FedormError):
    """A row cannot be synced as the rule's own code, or its target, refuses it."""
