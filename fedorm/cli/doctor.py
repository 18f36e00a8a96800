"""``fedorm doctor``: how services and sync rules are, and what to do where they are not well."""

from __future__ import annotations

from typing import Any

import typer

from fedorm.cli.failing import run
from fedorm.cli.rule_health import examine_rules, notes_on_rules, show_rules
from fedorm.cli.services import AsForm, AsJson, Form, examine, form_of, notes, refusals, show_services
from fedorm.cli.setup import Setup
from fedorm.cli.values import dump


def doctor(context: typer.Context, format: AsForm = Form.TABLE, as_json: AsJson = False) -> None:
    """Open each service and say how it is, and what to do where it is not well; of sync rules the same.

    The rules are those of the modules that --models names. Ends with 1 when a service or a rule is not well.
    """
    setup: Setup = context.obj

    async def work() -> None:
        settings = setup.read()
        found = await examine(settings.services)
        rules = await examine_rules(settings)
        if form_of(format, as_json) is Form.JSON:
            for one in found:
                typer.echo(dump({name: getattr(one, name) for name in one.__slots__}))
            for rule in rules:
                plain: dict[str, Any] = {name: getattr(rule, name) for name in rule.__slots__}
                typer.echo(dump(plain | {"error": None if rule.error is None else setup.scrub(rule.error)}))
        else:
            show_services(found)
            show_rules(setup, rules)
            for note in [*refusals(found), *notes(settings.services), *notes_on_rules(rules)]:
                typer.echo(f"note: {note}")
        if any(error is not None for error in [*(one.error for one in found), *(rule.error for rule in rules)]):
            raise typer.Exit(1)

    run(setup, work())
