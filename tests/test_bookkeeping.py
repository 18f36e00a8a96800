"""fedorm's own tables, as a service's migrations get to know them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import fedorm

PACKAGE = Path(fedorm.__file__).parent
ASK = """
import sys, types
package = types.ModuleType("fedorm")  # So that nothing is imported that nobody names.
package.__path__ = [sys.argv[1]]
sys.modules["fedorm"] = package
from fedorm.bookkeeping import own_metadata
before = sorted(name for name in sys.modules if name.startswith("fedorm."))
print(*before, "|", *sorted(own_metadata("anything").tables))
"""


def test_migrations_know_every_table_whatever_was_imported() -> None:
    """Each that some module declares, in a process that has imported none of those modules."""
    done = subprocess.run([sys.executable, "-c", ASK, PACKAGE], capture_output=True, text=True, check=True)
    before, _, tables = done.stdout.strip().partition(" | ")
    sources = [file.read_text() for file in PACKAGE.rglob("*.py")]
    declared = [name for source in sources for name in re.findall(r"^@own_table\ndef (\w+)\(", source, re.MULTILINE)]
    assert before == "fedorm.bookkeeping fedorm.catalog fedorm.exc"
    assert tables.split() == sorted(declared)
    assert len(declared) >= 7
