"""The tree of a plan, drawn: as a Mermaid flowchart, and as an SVG that needs nothing beside itself."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedorm.query.explain import Node

# -- Mermaid

_PLAIN = frozenset(" ,.()")


def to_mermaid(root: Node) -> str:
    """Return a flowchart in Mermaid's words: steps point to the one that reads them, keys to where they travel."""
    lines = ["flowchart BT"]
    placed = list(_walk(root))
    identifiers = {id(node): f"n{number}" for number, (node, _) in enumerate(placed)}
    for node, _ in placed:
        label = "<br/>".join(_mermaid_text(line) for line in _facts(node))
        lines.append(f'    {identifiers[id(node)]}["{label}"]')
    for node, _ in placed:
        lines += [f"    {identifiers[id(child)]} --> {identifiers[id(node)]}" for child in node.children]
    by_name = {node.name: node for node, _ in placed if node.name}
    for node, _ in placed:
        for source in node.keys_from:
            if source in by_name:
                lines.append(f"    {identifiers[id(by_name[source])]} -. keys .-> {identifiers[id(node)]}")
    return "\n".join(lines)


def _mermaid_text(text: str) -> str:
    """Return text as Mermaid shows it, and does not read it.

    In a label it reads Markdown, HTML, formulas, entities, directives and icons, so that hardly a sign is safe. What is
    neither letter nor digit is written as a code.
    """
    signs = map(_visible, " ".join(text.split()))
    coded = "".join(sign if sign.isalnum() or sign in _PLAIN else f"#{ord(sign)};" for sign in signs)
    # Two dollar signs begin a formula even so: an invisible word joiner keeps them apart.
    return re.sub("#36;(?=#36;)", "#36;#8288;", coded)


def _facts(node: Node) -> list[str]:
    lines = [node.title, node.sent]
    if node.why:
        lines.append(node.why)
    numbers = numbers_of(node)
    return [*lines, numbers] if numbers else lines


def numbers_of(node: Node) -> str:
    """Return how many rows were expected and, once they were counted, how many there were, and in which time."""
    facts = []
    if node.estimated is not None:
        facts.append(f"~{node.estimated:,.0f} rows")
    if node.measured is not None:
        one = node.measured
        facts.append(f"{one.rows:,} rows, {one.bytes:,} bytes, {one.milliseconds:.1f} ms")
    return "; ".join(facts)


def _walk(node: Node, depth: int = 0) -> Iterator[tuple[Node, int]]:
    yield node, depth
    for child in node.children:
        yield from _walk(child, depth + 1)


# -- SVG

_BOX, _INDENT, _MARGIN, _GAP, _LANE = 780, 36, 20, 18, 16
"""Widths and distances in pixels; a lane is where one source's keys run down beside the boxes."""
_LINE, _PADDING = 17, 12
_TEXT_SIGNS, _CODE_SIGNS = 100, 102
"""How many signs a line of a box holds: of running text, and of code."""
_STYLE = """\
:root { --page: #ffffff; --box: #f6f8fa; --line: #8c959f; --text: #1f2328; --soft: #57606a; --code: #0a3069; \
--keys: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --box: #161b22; --line: #6e7681; --text: #e6edf3; \
--soft: #9198a1; --code: #a5d6ff; --keys: #d29922; } }
text { white-space: pre; font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--text); }
.title { font-weight: 600; } .soft { fill: var(--soft); }
.code { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: var(--code); }
.page { fill: var(--page); } .box { fill: var(--box); stroke: var(--line); }
.edge { fill: none; stroke: var(--line); } .keys { fill: none; stroke: var(--keys); stroke-dasharray: 5 4; }
.head { fill: var(--keys); } .label { fill: var(--keys); font-size: 12px; }"""


@dataclass(slots=True)
class _Box:
    """A step's place and its lines, each with the class that says how it is written."""

    node: Node
    depth: int
    top: int
    lines: list[tuple[str, str]] = field(default_factory=list)

    @property
    def left(self) -> int:
        return _MARGIN + self.depth * _INDENT

    @property
    def height(self) -> int:
        return len(self.lines) * _LINE + 2 * _PADDING - 4


def to_svg(root: Node) -> str:
    """Return the tree as an SVG image: every step below the one that reads it, dashed lines where keys travel.

    It is well-formed XML without scripts, fonts or references; its colours follow the reader's light or dark scheme.
    """
    boxes, top = [], _MARGIN
    for node, depth in _walk(root):
        box = _Box(node, depth, top, _box_lines(node))
        boxes.append(box)
        top += box.height + _GAP
    sources = _key_lanes(boxes)
    deepest = max(box.left for box in boxes)
    width = deepest + _BOX + _MARGIN + (len(sources) * _LANE + 34 if sources else 0)
    height = top - _GAP + _MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img">',
        "<title>Plan of a statement over several services</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
    ]
    drawn += _edges(boxes)
    for box in boxes:
        drawn += _drawn_box(box)
    for lane, (source, targets) in enumerate(sources):
        drawn += _drawn_keys(source, targets, deepest + _BOX + 14 + lane * _LANE)
    return "\n".join([*drawn, "</svg>"]) + "\n"


def _box_lines(node: Node) -> list[tuple[str, str]]:
    lines = [("title", part) for part in _wrapped(node.title, _TEXT_SIGNS - 10)]
    facts = "; ".join(filter(None, (node.strategy, numbers_of(node))))
    lines += [("soft", part) for part in _wrapped(facts, _TEXT_SIGNS)] if facts else []
    lines += [("code", part) for part in _wrapped(node.sent, _CODE_SIGNS)]
    if node.why:
        lines += [("soft", part) for part in _wrapped(f"because: {node.why}", _TEXT_SIGNS)]
    return lines


def _edges(boxes: list[_Box]) -> Iterator[str]:
    """Lead a line from each box to the one above it, of one step less."""
    above: dict[int, _Box] = {}
    for box in boxes:
        above[box.depth] = box
        if box.depth:
            parent = above[box.depth - 1]
            x, y = parent.left + _INDENT // 2, box.top + 20
            yield f'<path class="edge" d="M{x} {parent.top + parent.height} V{y} H{box.left}"/>'


def _drawn_box(box: _Box) -> Iterator[str]:
    yield f'<rect class="box" x="{box.left}" y="{box.top}" width="{_BOX}" height="{box.height}" rx="6"/>'
    for number, (kind, line) in enumerate(box.lines):
        y = box.top + _PADDING + 11 + number * _LINE
        yield f'<text class="{kind}" x="{box.left + _PADDING}" y="{y}">{escape(line, quote=False)}</text>'


def _key_lanes(boxes: list[_Box]) -> list[tuple[_Box, list[_Box]]]:
    """Return each box whose keys travel, and where to."""
    found = []
    for source in boxes:
        targets = [box for box in boxes if source.node.name and source.node.name in box.node.keys_from]
        if targets:
            found.append((source, targets))
    return found


def _drawn_keys(source: _Box, targets: list[_Box], x: int) -> Iterator[str]:
    start = source.top + source.height // 2 + 9
    for target in targets:
        end, edge = target.top + target.height // 2 - 9, target.left + _BOX
        yield f'<path class="keys" d="M{source.left + _BOX} {start} H{x} V{end} H{edge + 7}"/>'
        yield f'<path class="head" d="M{edge} {end} l8 -4 v8 z"/>'
    yield f'<text class="label" x="{x + 4}" y="{start + 4}">keys</text>'


def _wrapped(text: str, width: int) -> list[str]:
    """Cut text into lines of at most ``width`` signs, at spaces where there are some."""
    lines = []
    for line in text.splitlines() or [""]:
        rest = "".join(map(_visible, line))
        while (fits := _fitting(rest, width)) < len(rest):
            cut = rest.rfind(" ", 0, fits + 1)
            cut = cut if cut > fits // 2 else fits
            lines.append(rest[:cut])
            rest = rest[cut:].lstrip(" ")
        lines.append(rest)
    return lines


def _fitting(text: str, width: int) -> int:
    """Return how many characters fit; those of East Asia take two places."""
    used = 0
    for number, sign in enumerate(text):
        used += 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        if used > width:
            return number
    return len(text)


def _visible(sign: str) -> str:
    """Return a character, or a mark in the place of one that XML does not have or that turns the line around."""
    if sign == "\t":
        return "    "
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(sign) in ("Cc", "Cs", "Cn", "Co", "Cf") else sign
