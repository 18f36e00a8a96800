"""The snippets of ``docs/documents.md`` print what is promised there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedorm import Federation

PAGE = Path(__file__).parents[2] / "docs" / "documents.md"


async def test_the_page(
    fresh_database: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One block after the other, in one session."""
    blocks = re.findall(r"^```(python|text)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "documents_page.py").write_text(blocks[0][1])
    monkeypatch.syspath_prepend(tmp_path)
    scope = vars(importlib.import_module("documents_page"))
    services = {"catalogue": fresh_database("mongodb"), "sales": fresh_database("postgresql")}
    compared = 0
    async with Federation(services) as fed:
        await fed.create_all()
        async with fed.session() as session:
            scope["session"] = session
            for language, block in blocks[1:]:
                if language == "text":
                    assert capsys.readouterr().out == block
                    compared += 1
                    continue
                done = eval(compile(block, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True), scope)
                if inspect.isawaitable(done):
                    await done
    assert compared == 6
