"""The snippets of ``docs/transactions.md`` do what is promised there, over the databases that it is about."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

from fedorm import Federation
from tests.test_docs_pages import blocks
from tests.test_readme import run

PROGRAM = """
import asyncio, json, os
from fedorm import Federation

async def main():
    async with Federation(json.loads(os.environ["SERVICES"])) as fed:
        await fed.create_all()
{snippets}
        async with fed.session() as session:
            print((await session.get(Account, 1)).balance, (await session.get(Charge, 2)).amount,
                  sorted([one.charge for one in await session.find(Receipt).to_list()]))

asyncio.run(main())
"""


def test_commits_and_their_recovery(fresh_database: Callable[[str], str], tmp_path: Path) -> None:
    """One ordinary commit, one for all services or none, and a recovery with nothing to do."""
    models, *snippets = blocks("transactions.md", "python")
    program = models + PROGRAM.format(snippets=textwrap.indent("\n".join(snippets), " " * 8))
    kinds = {"bank": "postgresql", "payments": "mysql", "archive": "mongodb"}
    services = {name: fresh_database(kind) for name, kind in kinds.items()}
    assert run(program, tmp_path, SERVICES=json.dumps(services)) == "80 10 [1, 2]\n"


def test_recovery_at_the_start_by_a_file(tmp_path: Path) -> None:
    """The table is valid beside that of a service."""
    (table,) = blocks("transactions.md", "toml")
    file = tmp_path / "fedorm.toml"
    file.write_text(f'[services.users]\nurl = "sqlite+aiosqlite:///{tmp_path / "users.db"}"\n{table}')
    assert Federation.from_file(file)._recover_on_start
    with Federation.from_file(file) as fed:
        found = fed.stats().in_doubt
        assert found is not None
        assert (found.branches, dict(found.services)) == (0, {})
