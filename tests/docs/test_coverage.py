"""No snippet of the documentation is there that no test runs."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import PurePath

import pytest

from tests.docs.pages import DOCS, REPOSITORY, Block, blocks_of, pages

DONE = {
    "index.md": "tests.docs.test_how_to:test_programs",
    "how-to/relationships.md": "tests.docs.test_how_to:test_programs",
    "how-to/testing.md": "tests.docs.test_how_to:test_testing",
    "how-to/new-store.md": "tests.docs.test_how_to:test_a_new_store",
    **{
        f"tutorial/{chapter}.md": "tests.docs.test_tutorial:test_the_tutorial"
        for chapter in ("index", "relationships", "select", "commit", "sync", "migrations")
    },
}
"""Pages that are done from their first block to their last: each block is a file, and commands run the files."""

RUN = {
    "brokers.md": ["tests.test_brokers_relayed:test_the_page"],
    "caching.md": ["tests.test_docs_pages:test_keeping_results"],
    "documents.md": ["tests.query.test_documents_page:test_the_page"] * 8,
    "elasticsearch.md": ["tests.stores.test_elasticsearch_page:test_the_page"],
    "frameworks.md": [
        "tests.test_docs_pages:test_fastapi",
        "tests.test_docs_pages:test_flask",
        "tests.test_docs_pages:test_django",
        "tests.test_docs_pages:test_what_a_test_has_done_is_undone",
        "tests.test_docs_pages:test_what_a_test_has_done_is_undone",
        "tests.test_docs_pages:test_an_application_in_the_tests_own_loop",
    ],
    "migrations.md": [
        "tests.migrate.test_docs:test_the_commands",
        "tests.migrate.test_docs:test_a_table_in_clickhouse",
        "tests.migrate.test_docs:test_documents",
        "tests.migrate.test_docs:test_documents",
        "tests.migrate.test_docs:test_the_program",
    ],
    "observability.md": ["tests.test_docs_pages:test_statistics", "tests.test_docs_pages:test_metrics"],
    "outbox.md": [
        "tests.test_docs_pages:test_writing_events",
        *["tests.test_docs_pages:test_events_of_other_programs"] * 4,
        "tests.test_docs_pages:test_handing_events_on",
    ],
    "queries.md": [
        *["tests.query.test_queries_page:test_the_page"] * 8,
        "tests.query.test_queries_page:test_the_limits",
        "tests.query.test_queries_page:test_the_page",
    ],
    "redis.md": ["tests.stores.test_redis:test_the_page"],
    "sagas.md": ["tests.test_docs_pages:test_sagas"],
    "sync.md": ["tests.test_docs_pages:test_keeping_data_in_sync"] * 2,
    "sync-brokers.md": ["tests.sync.test_brokers:test_the_page"],
    "transactions.md": ["tests.twophase.test_docs:test_commits_and_their_recovery"] * 4,
    "how-to/split-a-monolith.md": ["examples.split.tests.test_page:test_from_one_database_to_three"] * 2,
    "how-to/deploying.md": ["tests.docs.test_how_to:test_deploying"],
}
"""The test of each Python block of a page, in their order."""


def python_of(page: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python"]


def test_every_snippet_has_a_test() -> None:
    """A snippet that is added to a page needs a test here; one that is taken away is none any more."""
    found = {page: len(blocks) for page in pages() if (blocks := python_of(page))}
    done = {page: len(python_of(page)) for page in DONE if python_of(page)}
    assert found == done | {page: len(tests) for page, tests in RUN.items()}


def test_these_tests_are_there() -> None:
    """Each is a function of its module; that is read and not imported, as some bring models of the same names."""
    for name in {*DONE.values(), *(test for tests in RUN.values() for test in tests)}:
        module, _, function = name.partition(":")
        tree = ast.parse((REPOSITORY / module.replace(".", "/")).with_suffix(".py").read_text())
        assert function in {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}, (
            name
        )


@pytest.mark.parametrize("page", sorted(DONE))
def test_what_is_done_is_run(page: str) -> None:
    """On a page that is done no Python is left that neither a command nor another file of the tutorial runs."""
    chapters = [other for other, test in DONE.items() if test == DONE[page]]
    everything = "\n".join(block.code for chapter in chapters for block in blocks_of(chapter))
    typed = [command for chapter in chapters for block in blocks_of(chapter) for command, _ in block.commands]
    for block in python_of(page):
        name = PurePath(block.title)
        is_a_test = name.name.startswith(("test_", "conftest")) and any(one.startswith("pytest") for one in typed)
        stem = re.escape(name.stem)
        is_used = re.search(rf"^from {stem} import|--models {stem}\b|= \"{stem}:\w+\"$", everything, re.MULTILINE)
        assert block.title, f"{page}: a block without a title is not run"
        assert is_a_test or is_used or f"python {name}" in typed, f"{page}: nothing runs {name}"


def test_the_table_of_extras() -> None:
    """The first page has every extra that there is, and no other."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    _, _, table = (DOCS / "index.md").read_text().partition("| extra |")
    cells = " ".join(re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE))
    assert sorted(re.findall(r"`([a-z-]+)`", cells)) == sorted(extras)


def test_settings_and_sources_are_well_formed() -> None:
    """Every block of TOML can be read, and every block of Python, those of async programs too."""
    read = 0
    for page in (*pages(), "../README.md"):
        for block in blocks_of(page):
            if block.language == "toml":
                tomllib.loads(block.code)
            elif block.language == "python":
                compile(textwrap.dedent(block.code), page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
            read += block.language in ("toml", "python")
    assert read > 80


# -- the command line


def commands() -> Iterator[tuple[str, str]]:
    """Yield each command ``fedorm ...`` of the pages and the README, with where it is."""
    for page in (*pages(), "../README.md"):
        for block in blocks_of(page):
            if block.language not in ("console", "sh", "ini", "yaml", "dockerfile"):
                continue
            for line in block.code.splitlines():
                if block.language == "yaml" and "command:" not in line:
                    continue
                if found := re.search(r"(?:^|[ /=])fedorm ((?:[a-z]|-).*)$", line):
                    yield page, found[1]


def test_commands_are_understood() -> None:
    """Every option and argument of a command on a page is one that the command line takes."""
    pytest.importorskip("typer")
    import typer

    from fedorm.cli.app import app

    root = typer.main.get_command(app)
    understood = 0
    for page, line in commands():
        words = shlex.split(line.partition(";")[0].partition("  #")[0].rstrip("']"), comments=True)
        command, context = root, root.make_context("fedorm", [*words])
        try:
            while hasattr(command, "resolve_command"):
                rest = [*context._protected_args, *context.args]
                name, command, rest = command.resolve_command(context, rest)
                context = command.make_context(name, rest, parent=context)
        except Exception as error:
            pytest.fail(f"{page}: fedorm {line}: {error!r}", pytrace=False)
        understood += 1
    assert understood > 50
