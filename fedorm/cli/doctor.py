"""``fedorm doctor``: how services and sync rules are, and what to do where they are not well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Annotated, Any

import typer

from fedorm.cli.exit_codes import ExitCode
from fedorm.cli.failing import run
from fedorm.cli.rule_health import FoundRule, examine_rules, notes_on_rules, rules_of, show_rules
from fedorm.cli.service_health import Examination, Found, finding_of, notes, show_services
from fedorm.cli.services import AsForm, AsJson, Form, form_of
from fedorm.cli.setup import Setup
from fedorm.cli.values import dump
from fedorm.config import FederationSettings
from fedorm.exc import ConfigurationError
from fedorm.federation import Federation
from fedorm.recovery import opened
from fedorm.stores.base import store_for
from fedorm.stores.findings import Finding

TwoPhase = Annotated[
    bool, typer.Option("--two-phase", help="Ask for what commits in two phases need, even if none has been made yet.")
]
Limit = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="How long to wait for any answer of a service.")
]


def doctor(
    context: typer.Context,
    format: AsForm = Form.TABLE,
    as_json: AsJson = False,
    two_phase: TwoPhase = False,
    timeout: Limit = 30.0,
) -> None:
    """Open each service and say how it is, and what to do where it is not well; of sync rules the same.

    Each is asked for its version, for the privileges and settings that the models of --models and their rules need, for
    what is different from the models, for what is in doubt, and how far behind it is. Ends with 1 when a service or a
    rule is not well.
    """
    setup: Setup = context.obj

    async def work() -> None:
        settings = setup.read()
        found, rules = await _examined(settings, two_phase=two_phase, limit=timeout)
        every: list[Found | FoundRule] = [*found, *rules]
        if form_of(format, as_json) is Form.JSON:
            for one in every:
                typer.echo(dump(_as_json(one, setup)))
        else:
            show_services(found)
            show_rules(setup, rules)
            for note in [*notes(settings.services, found), *notes_on_rules(rules)]:
                typer.echo(f"note: {note}")
        if any(one.errors for one in every):
            raise typer.Exit(ExitCode.FAILED)

    run(setup, work())


async def _examined(
    settings: FederationSettings, *, two_phase: bool, limit: float
) -> tuple[list[Found], list[FoundRule]]:
    """Look at the services that have a store, all at once, and at the rules between them."""
    without: dict[str, Found] = {}
    for name, one in settings.services.items():
        try:
            store_for(name, one)
        except ConfigurationError as error:  # One without its driver leaves the others to be looked at.
            without[name] = Found(name, one.backend, one.address, findings=[finding_of(error, one)])
    services = {name: one for name, one in settings.services.items() if name not in without}
    order = tuple(name for name in settings.migrations.order if name in services)
    migrations = settings.migrations.model_copy(update={"order": order})
    federation = Federation(settings.model_copy(update={"services": services, "migrations": migrations}))
    rules, wrong = rules_of(federation)
    async with opened(federation.stores) as down:
        looked = await Examination(federation, down, limit=limit).services(rules, two_phase=two_phase)
        found_rules = [wrong] if wrong is not None else await examine_rules(federation, rules, down, limit=limit)
    every = looked | without
    return [every[name] for name in settings.services], found_rules


def _as_json(one: Found | FoundRule, setup: Setup) -> dict[str, Any]:
    """Return what is written of a service or a rule; ``error`` and ``advice`` are those of its first error."""
    plain = {each.name: getattr(one, each.name) for each in fields(one)}
    first = one.errors[0] if one.errors else None
    error = None if first is None else setup.scrub(first.problem)
    advice = None if first is None else first.mend
    return plain | {"error": error, "advice": advice, "findings": _written(one.findings, setup)}


def _written(findings: Sequence[Finding], setup: Setup) -> list[dict[str, Any]]:
    return [asdict(finding) | {"problem": setup.scrub(finding.problem)} for finding in findings]
