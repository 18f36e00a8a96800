"""A plan as a drawing: whatever its SQL holds, the drawing is well formed and says it."""

from __future__ import annotations

import json
import re
from html import unescape
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlglot import parse_one

from fedorm import Federation
from fedorm.query.explain import Explanation, Node, sent
from fedorm.query.measured import Measured
from fedorm.query.plan import Order, Scan

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = [
    "a \"quoted\" 'text' with `ticks`",
    "</text><script>alert(1)</script> & &amp; &#60;",
    'style:x#fff; classDef a:#b; "]; end',
    "%%{init: {}}%% -- ; # $$x$$ *bold* _it_ \\n @{}",
    "日本語 ä \N{GRINNING FACE}",
    "]]> <!-- -->",
]


def explanation(sent: str) -> Explanation:
    users = Node(
        "s0: read users (postgresql)", sent, 2000, "", Measured(1000, 24_000, 3.25),
        name="s0", service="users", kind="postgresql", strategy="scan",
    )  # fmt: skip
    orders = Node(
        "s1: read orders (mysql)", "SELECT `id` FROM `orders`", 20_000, "lookup: only keys of s0.id", None,
        name="s1", service="orders", kind="mysql", strategy="lookup", keys_from=("s0",),
    )  # fmt: skip
    return Explanation(
        Node("finish in DuckDB", "SELECT 1", None, "joins", Measured(3, 0, 8.0), (users, orders), strategy="finish")
    )


def lines(svg: str, kind: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter(f"{SVG}text") if one.get("class") == kind]


@pytest.mark.parametrize("sent", HOSTILE)
def test_an_svg_says_what_is_sent(sent: str) -> None:
    """It parses as XML, and its text is the very text of the plan."""
    svg = explanation(sent).to_svg()
    assert lines(svg, "code") == ["SELECT 1", sent, "SELECT `id` FROM `orders`"]
    assert lines(svg, "title") == ["finish in DuckDB", "s0: read users (postgresql)", "s1: read orders (mysql)"]
    assert lines(svg, "soft") == [
        "finish; 3 rows, 0 bytes, 8.0 ms",
        "because: joins",
        "scan; ~2,000 rows; 1,000 rows, 24,000 bytes, 3.2 ms",
        "lookup; ~20,000 rows",
        "because: lookup: only keys of s0.id",
    ]
    assert lines(svg, "label") == ["keys"]


def test_an_svg_needs_nothing_beside_itself() -> None:
    """No scripts, no references, no fonts of others, and no text but what is drawn."""
    root = ElementTree.fromstring(explanation("x").to_svg())
    assert {one.tag.removeprefix(SVG) for one in root.iter()} == {"svg", "title", "style", "rect", "path", "text"}
    assert not [name for one in root.iter() for name in one.attrib if "href" in name or name.startswith("on")]
    assert "url(" not in explanation("x").to_svg()
    assert "@import" not in explanation("x").to_svg()


def test_boxes_lie_below_one_another() -> None:
    """None covers another, and all are inside of the image."""
    root = ElementTree.fromstring(explanation("word " * 500).to_svg())
    boxes = [
        [int(one.get(name, "")) for name in ("x", "y", "width", "height")]
        for one in root.iter(f"{SVG}rect")
        if one.get("class") == "box"
    ]
    assert len(boxes) == 3
    assert all(above[1] + above[3] < below[1] for above, below in pairwise(boxes))
    assert all(x + width < int(root.get("width", "")) for x, _, width, _ in boxes)
    assert boxes[-1][1] + boxes[-1][3] < int(root.get("height", ""))


@pytest.mark.parametrize("sent", ["word " * 300, "x" * 1000, "日本" * 300, "one\ntwo\r\nthree"])
def test_long_text_is_cut_into_lines(sent: str) -> None:
    """Nothing of it is lost, and no line is wider than its box."""
    drawn = lines(explanation(sent).to_svg(), "code")[1:-1]
    assert "".join("".join(drawn).split()) == "".join(sent.split())
    assert max(len(line) for line in drawn) <= 102


def test_what_xml_does_not_have_is_marked() -> None:
    """Control characters and those that turn a line around."""
    drawn = lines(explanation("a\x00b\x1b[31m\u202ec").to_svg(), "code")[1]
    assert drawn == "a\ufffdb\ufffd[31m\ufffdc"


def decoded(label: str) -> str:
    """Return what Mermaid shows for a label."""
    return unescape(re.sub(r"#(\d+);", r"&#\1;", label)).replace("\N{WORD JOINER}", "")


@pytest.mark.parametrize("sent", HOSTILE)
def test_mermaid_says_what_is_sent(sent: str) -> None:
    """Each label is one quoted string of letters, digits and codes, and means the text of the plan."""
    drawn = explanation(sent).to_mermaid().splitlines()
    assert [drawn[0], *drawn[4:]] == ["flowchart BT", "    n1 --> n0", "    n2 --> n0", "    n1 -. keys .-> n2"]
    labels = []
    for number, line in enumerate(drawn[1:4]):
        match = re.fullmatch(rf'    n{number}\["((?:[\w ,.()]|#\d+;|<br/>)*)"\]', line)
        assert match, line
        labels.append([decoded(part) for part in match[1].split("<br/>")])
    assert labels == [
        ["finish in DuckDB", "SELECT 1", "joins", "3 rows, 0 bytes, 8.0 ms"],
        ["s0: read users (postgresql)", sent, "~2,000 rows; 1,000 rows, 24,000 bytes, 3.2 ms"],
        ["s1: read orders (mysql)", "SELECT `id` FROM `orders`", "lookup: only keys of s0.id", "~20,000 rows"],
    ]


def test_a_formula_is_none() -> None:
    """Two dollar signs never stand together."""
    assert "#36;#36;" not in explanation("$$$$x$$").to_mermaid()


def test_plain_values() -> None:
    """``to_dict()`` is the whole tree, and JSON can say it."""
    one = explanation("SELECT 2").to_dict()
    assert json.loads(json.dumps(one)) == one
    assert one["children"][0] == {
        "title": "s0: read users (postgresql)",
        "name": "s0",
        "service": "users",
        "kind": "postgresql",
        "strategy": "scan",
        "why": "",
        "sent": "SELECT 2",
        "estimated_rows": 2000,
        "measured": {"rows": 1000, "bytes": 24_000, "milliseconds": 3.25},
        "keys_from": [],
        "children": [],
    }
    assert (one["service"], one["kind"], one["strategy"]) == (None, "DuckDB", "finish")
    assert one["children"][1]["keys_from"] == ["s0"]


def test_a_scan_that_needs_few_rows() -> None:
    """Its order and its limit are sent, and so are they shown."""
    table = Table("users", MetaData(), Column("id", Integer), Column("email", String))
    order = (Order("email", descending=True, nulls_first=True), Order("id", descending=False, nulls_first=False))
    scan = Scan("s0", "users", table, ("id",), order=order, limit=parse_one("5 + :n"))
    store = Federation({"users": "postgresql+asyncpg://bob@127.0.0.1/users"}).stores["users"]
    assert sent(scan, store) == 'SELECT "id" FROM "users" ORDER BY "email" DESC, "id" LIMIT 5 + %(n)s'
