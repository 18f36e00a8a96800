"""The snippets of ``docs/queries.md`` print what is promised there, but for figures that are another machine's."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

from fedorm import Federation
from fedorm.config import QuerySettings
from tests.test_readme import run

PAGE = (Path(__file__).parents[2] / "docs" / "queries.md").read_text()
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

MAIN = """
import asyncio
from fedorm import Federation

async def main(services):
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
{filled}
    async with Federation(services) as fed:  # The old connections have told the servers' statistics what they wrote.
        async with fed.session() as session:
            for table, service in (("users", "users"), ("orders", "orders"), ("table payments", "payments")):
                await session.execute(text(f"analyze {{table}}"), bind_arguments={{"service": service}})
            await session.commit()
        async with fed.session() as session:
{asked}

asyncio.run(main({services}))
"""


def without_figures(told: str) -> str:
    """Leave out how long it took, and what the servers' statistics happened to say."""
    return re.sub(r"~[\d,]+ rows|expected [\d,]+|[\d,]+ bytes|[\d.]+ ms", "", told)


def test_the_page(fresh_database: Callable[[str], str], tmp_path: Path) -> None:
    """One block after the other, in one session."""
    kinds = {"users": "postgresql", "orders": "postgresql", "payments": "mysql", "inventory": "mongodb"}
    services = {service: fresh_database(kind) for service, kind in kinds.items()}
    models, filled, *asked = (block for language, block in BLOCKS if language == "python" and "fed = " not in block)
    made = {
        "filled": textwrap.indent(filled, " " * 12),
        "asked": textwrap.indent("\n".join(asked), " " * 12),
        "services": json.dumps(services),
    }
    told = run(models + MAIN.format(**made), tmp_path)
    assert without_figures(told) == without_figures("".join(block for language, block in BLOCKS if language == "text"))


def test_the_limits(tmp_path: Path) -> None:
    """The federation keeps within the limits it is made with."""
    (snippet,) = (block for _, block in BLOCKS if "fed = " in block)
    scope = {"Federation": Federation, "services": {"users": f"sqlite+aiosqlite:///{tmp_path / 'users.db'}"}}
    exec(snippet, scope)
    limits = QuerySettings(memory_limit="512MB", spill_directory=Path("/var/tmp/fedorm"))
    assert scope["fed"]._query_settings == limits  # type: ignore[attr-defined]
