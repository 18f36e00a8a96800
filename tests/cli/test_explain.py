"""``fedorm explain``: a plan on a terminal, in a file, as a drawing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

from tests.cli.conftest import Shell
from tests.cli.test_sql import JOINED


def test_a_plan_as_text(shell: Shell) -> None:
    """As ``print(await session.explain(...))`` has it; measured for ``--analyze``."""
    plan = shell.rows("explain", JOINED)
    assert plan.startswith("finish in DuckDB\n")
    assert [word in plan for word in ("people (postgresql)", "sales (mysql)", "stock (mongodb)", " ms")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert re.match(r"finish in \w+  \[3 rows, ", shell.rows("explain", "--analyze", JOINED))


def test_a_plan_on_a_terminal(shell: Shell) -> None:
    """A tree with colours."""
    shown = shell("explain", JOINED, FORCE_COLOR="1", COLUMNS="200").stdout
    assert "\x1b[1;36mfinish in DuckDB\x1b[0m" in shown
    assert "├── " in shown
    assert "└── " in shown


def test_a_plan_as_a_drawing(shell: Shell, tmp_path: Path) -> None:
    """Mermaid and SVG, on stdout or in a file."""
    drawn = shell.rows("explain", "--format", "mermaid", JOINED).splitlines()
    assert (drawn[0], sum("-->" in line for line in drawn)) == ("flowchart BT", 3)
    file = tmp_path / "plan.svg"
    assert shell.rows("explain", "--format", "svg", "--output", str(file), JOINED) == ""
    assert ElementTree.fromstring(file.read_text()).tag == "{http://www.w3.org/2000/svg}svg"


def test_a_plan_as_json(shell: Shell) -> None:
    """The whole tree, with what was measured."""
    plan = json.loads(shell.rows("explain", "--format", "json", "--analyze", JOINED))
    assert (plan["strategy"], plan["measured"]["rows"]) == ("finish", 3)
    steps = {step["service"]: (step["kind"], step["measured"]["rows"]) for step in plan["children"]}
    assert steps == {"people": ("postgresql", 3), "sales": ("mysql", 3), "stock": ("mongodb", 2)}


def test_parameters_of_a_plan(shell: Shell) -> None:
    """A plan needs none; measuring it does."""
    query = "select p.name, s.total from people.people p join sales.sales s on s.person_id = p.id where p.id = :id"
    assert "finish in DuckDB" in shell.rows("explain", query)
    assert ":id" in shell.refusal("explain", "--analyze", query, code=2)
    measured = json.loads(shell.rows("explain", "--analyze", "-F", "json", "-p", "id=2", query))
    assert measured["measured"]["rows"] == 1


def test_what_is_not_explained(shell: Shell) -> None:
    """Writes are not, nor are tables that are not there."""
    assert "DELETE" in shell.refusal("explain", "delete from people.people")
    assert "people.nobody" in shell.refusal("explain", "select * from people.nobody")
