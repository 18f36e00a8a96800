"""``fedorm recover``, and what ``fedorm doctor`` says of what is in doubt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation
from fedorm.stores.branches import new_id
from fedorm.testing.servers.processes import free_port
from tests.cli.conftest import Shell, write_settings
from tests.twophase.left import Shop, old_id


@pytest.fixture
def shop(fresh_database: Callable[[str], str]) -> Iterator[Shop]:
    kinds = {"users": "postgresql", "orders": "postgresql", "payments": "mysql", "inventory": "mongodb"}
    shop = Shop({name: fresh_database(kind) for name, kind in kinds.items()})
    shop.open()
    yield shop
    shop.close()


@pytest.fixture
def shell(shop: Shop, tmp_path: Path) -> Shell:
    return Shell(tmp_path, write_settings(tmp_path, shop.urls), shop.urls)


def listed(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_nothing_in_doubt(shell: Shell) -> None:
    """As it should be: it says so, and ends with 0."""
    assert shell.rows("recover") == "nothing is in doubt\n"
    assert shell.rows("recover", "--format", "json") == ""


def test_in_doubt_and_then_not(shell: Shell, shop: Shop) -> None:
    """Looked at by a dry run, which ends with 1; left while it is young; then settled, and nothing is left."""
    kept = shop.left("orders", "payments", decider="users", committed=True)
    lost = shop.left("orders", decider="inventory", committed=False, number=2)
    dry = shell("recover", "--dry-run", "--older-than", "0", "--format", "json")
    assert (dry.exit_code, dry.stderr) == (1, "")
    assert [(one["service"], one["transaction"], one["done"], one["why"]) for one in listed(dry.stdout)] == [
        ("orders", kept, "left", "it would be committed"),
        ("orders", lost, "left", "it would be rolled back"),
        ("payments", kept, "left", "it would be committed"),
    ]
    young = shell("recover")
    assert young.exit_code == 1
    assert "3 left: until it is 60 s old it is left to the process that has begun it" in young.stdout
    assert shop.marks() == {"users": [], "orders": [], "payments": []}
    done = shell("recover", "--older-than", "0", "--format", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = listed(done.stdout)
    assert [one.pop("age") >= 0 for one in rows] == [True] * 3
    assert rows == [
        {"service": "orders", "transaction": kept, "decision": "committed", "done": "committed", "why": None},
        {"service": "orders", "transaction": lost, "decision": "rolled back", "done": "rolled back", "why": None},
        {"service": "payments", "transaction": kept, "decision": "committed", "done": "committed", "why": None},
    ]
    assert shop.marks() == {"users": [], "orders": [1], "payments": [1]}
    assert shell.rows("recover", "--older-than", "0") == "nothing is in doubt\n"


def test_a_table_of_what_was_done(shell: Shell, shop: Shop) -> None:
    """A line a branch, in a process as a user starts it."""
    id = shop.left("orders", decider="users", committed=True)
    done = shell.process("recover", "--older-than", "0")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert [word.strip() for word in lines[0].split("|")] == ["service", "transaction", "age", "decision", "done"]
    words = [word.strip() for word in lines[2].split("|")]
    assert words[:2] + words[3:] == ["orders", id, "committed", "committed"]


def test_a_service_that_is_down(shell: Shell, shop: Shop, tmp_path: Path) -> None:
    """It is named with what to do, the rest is settled, and the command ends with 1."""
    here = shop.left("orders", decider="users", committed=True)
    shop.left("orders", decider="payments", committed=True, number=2)
    away = f"mysql+aiomysql://bob:hidden@127.0.0.1:{free_port()}/x"
    (tmp_path / "ill").mkdir()
    shell.config = write_settings(tmp_path / "ill", shop.urls | {"payments": away})
    result = shell("recover", "--older-than", "0", "--format", "json")
    assert (result.exit_code, result.stderr) == (1, "")
    rows = {(one["service"], one["done"]): one for one in listed(result.stdout)}
    assert set(rows) == {("orders", "committed"), ("orders", "left"), ("payments", "not asked")}
    assert rows["orders", "committed"]["transaction"] == here
    assert "decision of service 'payments' is not known" in rows["orders", "left"]["why"]
    assert "service 'payments' at mysql+aiomysql://bob@127.0.0.1" in rows["payments", "not asked"]["why"]
    shown = shell("recover", "--older-than", "0")
    assert shown.exit_code == 1
    assert "payments: not asked: " in shown.stdout
    assert "what to do: see whether the server runs" in shown.stdout
    assert "hidden" not in result.output + shown.output


def test_bad_input(shell: Shell, shop: Shop, tmp_path: Path) -> None:
    """A wrong call ends with 2, and nothing is done."""
    id = shop.left("orders", decider="users", committed=True)
    for wrong in (
        ["--older-than", "-1"],
        ["--older-than", "nan"],
        ["--older-than", "soon"],
        ["--format", "xml"],
        ["users"],
    ):
        assert shell("recover", *wrong).exit_code == 2
    shell.config = tmp_path / "none.toml"
    assert "there is no file" in shell.refusal("recover", code=2)
    assert shop.prepared()["orders"] == {id}


async def create(urls: dict[str, str]) -> None:
    async with Federation(urls) as fed:
        await fed.create_all()


def test_what_the_doctor_says(shell: Shell, shop: Shop) -> None:
    """How many, how old, and what to do; young ones are no illness."""
    asyncio.run(create(shop.urls))
    shop.leave("orders", 1, id=new_id(), decider="users")
    found = {one["service"]: one for one in listed(shell.rows("doctor", "--format", "json"))}
    assert {name: one["in_doubt"] for name, one in found.items()} == {
        "users": 0, "orders": 1, "payments": 0, "inventory": None,
    }  # fmt: skip
    assert 0 <= found["orders"]["oldest"] < 60
    assert {one["error"] for one in found.values()} == {None}
    assert {one["refusal"] for one in found.values()} == {None}
    shop.leave("payments", 1, id=old_id(seconds=500), decider="users")
    result = shell("doctor", "--format", "json")
    ill = {one["service"]: one for one in listed(result.stdout) if one["error"] is not None}
    assert (result.exit_code, set(ill)) == (1, {"payments"})
    assert (ill["payments"]["state"], ill["payments"]["in_doubt"]) == ("up", 1)
    assert 500 <= ill["payments"]["oldest"] < 1500
    shown = shell("doctor").stdout
    assert "\npayments: a transaction of a two-phase commit is in doubt, for 5" in shown
    assert "what to do: run  fedorm recover: it ends them as was decided" in shown
    assert shell("recover", "--older-than", "0").exit_code == 0
    assert shell("doctor").exit_code == 0
