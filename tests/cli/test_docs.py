"""The commands in ``docs/cli.md`` print what is promised there."""

from __future__ import annotations

import re
import shlex

from tests.cli.conftest import REPOSITORY, Shell


def test_what_the_page_shows(shell: Shell) -> None:
    """Each command, run where the settings and the models are; a server's guess at how many rows it has aside."""
    page = (REPOSITORY / "docs" / "cli.md").read_text()
    blocks = re.findall(r"^```console\n\$ fedorm ([^\n]*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == page.count("```console") == 3
    for command, printed in blocks:
        done = shell.process(*shlex.split(command))
        assert done.returncode == 0, done.stderr
        assert re.sub(r"~\d+", "~3", done.stdout.decode()) == printed
