"""``fedorm explain``: how a query is, or was, run, as a tree or as a drawing."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from fedorm.cli.asking import Output, Parameters, Statement, StatementFile, destination, prepared, read_statement
from fedorm.cli.failing import run
from fedorm.cli.parameters import parse_parameters
from fedorm.cli.services import AsJson
from fedorm.cli.setup import Setup
from fedorm.cli.tables import console, printable

if TYPE_CHECKING:
    from fedorm.query.explain import Explanation, Node


class Drawing(enum.StrEnum):
    """How a plan is written."""

    TEXT = "text"
    MERMAID = "mermaid"
    SVG = "svg"
    JSON = "json"


def explain(
    context: typer.Context,
    statement: Statement = None,
    file: StatementFile = None,
    param: Parameters = None,
    analyze: Annotated[
        bool, typer.Option("--analyze", "-a", help="Run it, and say how many rows each step had and how long it took.")
    ] = False,
    format: Annotated[Drawing, typer.Option("--format", "-F", help="How the plan is written.")] = Drawing.TEXT,
    as_json: AsJson = False,
    output: Output = None,
) -> None:
    """Show which service is asked what for a query, and why."""
    setup: Setup = context.obj

    async def work() -> Explanation:
        values = parse_parameters(param or ())
        query = prepared(read_statement(statement, file), values, partly=not analyze)
        async with setup.reading() as federation, federation.session() as session:
            return await session.explain(query, values, analyze=analyze)

    async def show() -> None:
        explanation = await work()
        terminal = console()
        drawing = Drawing.JSON if as_json else format
        if drawing is Drawing.TEXT and output is None and terminal.is_terminal:
            terminal.print(plan_tree(explanation.root))
            return
        with destination(output) as to:
            to.write(written(explanation, drawing).encode("utf-8"))

    run(setup, show())


def written(explanation: Explanation, format: Drawing) -> str:
    """Return a plan in a format, as text that ends with a newline."""
    match format:
        case Drawing.MERMAID:
            text = explanation.to_mermaid()
        case Drawing.SVG:
            text = explanation.to_svg()
        case Drawing.JSON:
            text = json.dumps(explanation.to_dict(), ensure_ascii=False, indent=2)
        case _:
            text = str(explanation)
    return text if text.endswith("\n") else text + "\n"


def plan_tree(node: Node) -> Tree:
    """Return a step, and those below it, as a tree with colours."""
    from fedorm.query.drawing import numbers_of

    title = Text(printable(node.title), style="bold cyan")
    if node.strategy:
        title.append(f"  {node.strategy}", style="yellow")
    parts = [title, Text(printable(node.sent), style="bright_black" if node.service is None else "")]
    if numbers := numbers_of(node):
        parts.append(Text(numbers, style="green"))
    if node.why:
        parts.append(Text(printable(f"because: {node.why}"), style="dim italic"))
    tree = Tree(Group(*parts), guide_style="bright_black")
    for child in node.children:
        tree.children.append(plan_tree(child))
    return tree
