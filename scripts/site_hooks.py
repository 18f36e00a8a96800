"""What MkDocs does beside its settings: the ADRs that are there, the changelog, and links that leave the folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:examples|fedorm|migrations|scripts|tests)\b[^)]*\)")
"""Links to the sources, which the pages have beside them in the repository, and the site has not."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put every ADR into the navigation."""
    pages = sorted(path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir, "adr").glob("*.md"))
    nav: list[Any] = config.nav or []
    config.nav = [{"ADRs": pages} if entry == {"ADRs": "adr/"} else entry for entry in nav]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog, which is not in the folder of the documentation."""
    changelog = Path(config.docs_dir).parent / "CHANGELOG.md"
    content = changelog.read_text().replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave of links to the sources what they say."""
    return _OUTSIDE.sub(r"\1", markdown)
