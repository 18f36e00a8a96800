"""Draw the figures of the explanation: ``python scripts/figures.py`` writes them to ``docs/explanation/``.

Each is an SVG that needs nothing beside itself; its colours follow the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "docs" / "explanation"
LINE, SIGN, SMALL_SIGN = 17, 7.4, 6.2
"""How high a line of text is, and about how wide a sign of a title and of other text."""
STYLE = """\
:root { --page: #ffffff; --box: #f6f8fa; --mark: #ddf4ff; --line: #8c959f; --text: #1f2328; --soft: #57606a; \
--keys: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --page: #0d1117; --box: #161b22; --mark: #0c2d6b; --line: #6e7681; \
--text: #e6edf3; --soft: #a1a8b0; --keys: #d29922; } }
text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--soft); }
.title { font-size: 13px; font-weight: 600; fill: var(--text); }
.page { fill: var(--page); } .box { fill: var(--box); stroke: var(--line); }
.mark { fill: var(--mark); stroke: var(--line); }
.edge { fill: none; stroke: var(--line); stroke-width: 1.5; } .keys { stroke: var(--keys); stroke-dasharray: 5 4; }
.head { fill: var(--line); } .label { fill: var(--text); } .keyed { fill: var(--keys); }
.halo { fill: none; stroke: var(--page); stroke-width: 4px; }"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines below it, parted by ``|``; ``mark`` sets it off."""

    left: int
    top: int
    width: int
    height: int
    text: str
    mark: bool = False

    def drawn(self) -> Iterator[str]:
        """Return its elements."""
        kind = "mark" if self.mark else "box"
        place = f'x="{self.left}" y="{self.top}" width="{self.width}" height="{self.height}"'
        yield f'<rect class="{kind}" {place} rx="6"/>'
        lines = self.text.split("|")
        middle = self.left + self.width / 2
        top = self.top + self.height / 2 - (len(lines) - 1) * LINE / 2 + 4.5
        for number, text in enumerate(lines):
            sign = SIGN if number == 0 else SMALL_SIGN
            if len(text) * sign > self.width - 10:
                raise ValueError(f"too long for its box: {text!r}")
            style = ' class="title"' if number == 0 else ""
            yield f'<text{style} x="{middle:g}" y="{top + number * LINE:g}" text-anchor="middle">{escape(text)}</text>'


@dataclass(frozen=True)
class Arrow:
    """A line through ``points``, ``"x,y x,y"``, with a head at its end; ``keys`` are dashed. Its label is at ``at``."""

    points: str
    label: str = ""
    at: tuple[int, int] = (0, 0)
    keys: bool = False
    anchor: str = "start"
    headless: bool = False

    def drawn(self) -> Iterator[str]:
        """Return its elements."""
        head = "" if self.headless else f' marker-end="url(#{"keyed" if self.keys else "head"})"'
        yield f'<path class="edge{" keys" if self.keys else ""}" d="M{self.points}"{head}/>'
        if self.label:
            yield from Text(*self.at, self.label, "keyed" if self.keys else "label", self.anchor).drawn()


@dataclass(frozen=True)
class Text:
    """A line of text by itself, readable over other lines."""

    x: int
    y: int
    text: str
    kind: str = ""
    anchor: str = "start"

    def drawn(self) -> Iterator[str]:
        """Return its elements."""
        place = f'x="{self.x}" y="{self.y}" text-anchor="{self.anchor}"'
        yield f'<text class="halo" aria-hidden="true" {place}>{escape(self.text)}</text>'
        yield f'<text class="{self.kind}" {place}>{escape(self.text)}</text>'


@dataclass(frozen=True)
class Figure:
    """A picture, and in its title what it shows."""

    name: str
    title: str
    width: int
    height: int
    parts: tuple[Box | Arrow | Text, ...]

    def svg(self) -> str:
        """Return the image."""
        heads = "".join(
            f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path class="{name}" d="M0 0 L8 4 L0 8 Z"/></marker>'
            for name in ("head", "keyed")
        )
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" height="{self.height}" '
                f'viewBox="0 0 {self.width} {self.height}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f"<style>{STYLE}</style>",
                f"<defs>{heads}</defs>",
                f'<rect class="page" width="{self.width}" height="{self.height}"/>',
                *(line for part in self.parts for line in part.drawn()),
                "</svg>\n",
            ]
        )


def _layers() -> Figure:
    rows = (
        "The doors|command line; FastAPI, Starlette, Flask, Django; pytest plugin",
        "Federation|services by name, their stores, their lifetime",
        "Around the session|sync rules, migrations, relay of the outbox, sagas, recovery, telemetry",
        "Sessions|AsyncFederatedSession, FederatedSession: get_bind, dispatch",
        "What a session uses|relationships, planner, documents, commits, outbox, result cache",
        "Stores|PostgreSQL, MySQL, SQLite, MongoDB, Redis, Elasticsearch, ClickHouse, chDB, your own",
        "The ground|models, relationships, catalog, settings, statistics, errors",
    )
    boxes: list[Box | Arrow | Text] = []
    for number, text in enumerate(rows):
        top = 20 + number * 74
        boxes.append(Box(20, top, 600, 54, text, mark=text.startswith("S")))
        if number:
            boxes.append(Arrow(f"320,{top - 20} 320,{top - 2}"))
    return Figure("layers", "The layers of fedorm; each imports only those below it", 640, 558, tuple(boxes))


def _loading() -> Figure:
    return Figure(
        "loading", "How relationships to two services are loaded", 770, 470,
        (
            Box(20, 20, 200, 58, "select(Order)|one statement to orders"),
            Box(20, 110, 200, 76, "orders 1 … 1000|user_id: 7, 9, 7, NULL, …|sku: tea, cup, tea, …"),
            Arrow("120,78 120,108"),
            Box(290, 80, 190, 58, "distinct user_id|NULL never matches"),
            Box(290, 160, 190, 58, "distinct sku|less those in the session"),
            Arrow("220,140 288,112"),
            Arrow("220,150 288,186"),
            Box(550, 80, 190, 58, "users|= ANY(:keys), 10,000 each", mark=True),
            Box(550, 160, 190, 58, "inventory|$in, 500 keys each", mark=True),
            Arrow("480,109 548,109", keys=True),
            Arrow("480,189 548,189", keys=True),
            Text(514, 66, "batches of keys, to all services at once", "keyed", "middle"),
            Arrow("645,218 645,280"),
            Arrow("740,109 754,109 754,256 690,256 690,280"),
            Text(716, 274, "rows", "label"),
            Box(200, 282, 540, 58, "hash join on the key|a dictionary of the fetched side, probed by every order"),
            Arrow("60,186 60,311 198,311"),
            Box(
                200, 380, 540, 58,
                "order.user, order.product|set as loaded state: nothing is dirty, nothing is asked again",
            ),
            Arrow("470,340 470,378"),
        ),
    )  # fmt: skip


def _planning() -> Figure:
    return Figure(
        "planning", "How one select over three services is planned and run", 760, 560,
        (
            Box(20, 20, 340, 58, "select() or text()|users join orders join payments"),
            Box(400, 20, 340, 58, "tree|parsed by sqlglot, columns have their types"),
            Arrow("360,49 398,49"),
            Box(
                400, 110, 340, 76,
                "rules, one after the other|conditions and columns move down,|joins of one service stay together",
            ),
            Arrow("570,78 570,108"),
            Box(20, 110, 340, 76, "plan, kept by the statement's shape|steps, their SQL, their order|parameters open"),
            Arrow("400,148 362,148"),
            Arrow("190,186 190,228", "run", (200, 212)),
            Box(20, 230, 220, 76, "p0: users (PostgreSQL)|country = 'DE'|few rows: runs first", mark=True),
            Box(270, 230, 220, 76, "p1: orders (PostgreSQL)|user_id among the keys|sums where it can", mark=True),
            Box(520, 230, 220, 76, "p2: payments (MySQL)|order_id among the keys|safe conditions only", mark=True),
            Arrow("240,256 268,256", keys=True),
            Arrow("490,256 518,256", keys=True),
            Text(255, 222, "keys", "keyed", "middle"),
            Text(505, 222, "keys", "keyed", "middle"),
            Arrow("130,306 130,358"),
            Arrow("380,306 380,358"),
            Arrow("630,306 630,358"),
            Text(140, 338, "rows, or Arrow", "label"),
            Box(
                20, 360, 720, 76,
                "finish, in this process|few rows: in Python; more: in DuckDB, within memory_limit, spilling to disk"
                "|all conditions once more, joins, aggregates, windows, order, limit",
            ),
            Arrow("380,436 380,478"),
            Box(20, 480, 720, 58, "Result|entities of the session, rows, scalars, streams, or an Arrow table"),
        ),
    )  # fmt: skip


def _committing() -> Figure:
    columns = {"session": 110, "users": 300, "orders": 490, "payments": 680}
    parts: list[Box | Arrow | Text] = []
    for name, x in columns.items():
        parts.append(Box(x - 75, 20, 150, 40, name, mark=name != "session"))
        parts.append(Arrow(f"{x},60 {x},452", headless=True))

    def message(y: int, to: str, label: str) -> None:
        x = columns[to]
        parts.append(Arrow(f"{columns['session']},{y} {x - 3},{y}", label, (x - 8, y - 6), anchor="end"))

    message(96, "users", "flush")
    message(118, "orders", "flush")
    message(140, "payments", "flush")
    parts.append(Text(20, 172, "1. what refuses, refuses here", "label"))
    message(206, "users", "PREPARE")
    message(228, "orders", "PREPARE")
    parts.append(Text(20, 260, "2. in doubt from here on; nothing is committed yet", "label"))
    message(300, "payments", 'COMMIT, with the record "committed"')
    parts.append(Text(20, 332, "3. the decision: before it nothing holds, after it everything will", "label"))
    message(374, "users", "COMMIT PREPARED")
    message(396, "orders", "COMMIT PREPARED")
    parts.append(Text(20, 428, "4. if the process dies, fedorm recover ends them as the record says", "label"))
    return Figure("committing", "How three services commit, or none does", 780, 474, tuple(parts))


def _syncing() -> Figure:
    return Figure(
        "syncing", "How a copy stays right", 780, 440,
        (
            Box(20, 20, 220, 58, "CDC|the database's log"),
            Box(20, 92, 220, 58, "EventDriven|the outbox"),
            Box(20, 164, 220, 58, "RealTime, Batch|the table, in pages by key"),
            Box(320, 80, 200, 82, "batch|of each key its last change;|a position behind it", mark=True),
            Arrow("240,49 318,104"),
            Arrow("240,121 318,121"),
            Arrow("240,193 318,138"),
            Box(320, 210, 200, 82, "the rule|where, fields, transform,|or a function of yours"),
            Arrow("420,162 420,208"),
            Box(580, 210, 180, 82, "dead letters|rows that failed,|with the error"),
            Arrow("520,251 578,251"),
            Box(
                20, 330, 740, 86,
                "one transaction of the target|rows are written or deleted by key; "
                "the position is saved if the epoch is still the owner's"
                "|after a crash the same batch comes again, and changes nothing",
                mark=True,
            ),
            Arrow("420,292 420,328"),
            Arrow("90,328 90,224", "goes on from the position", (100, 290)),
        ),
    )  # fmt: skip


FIGURES = (_layers(), _loading(), _planning(), _committing(), _syncing())


def main() -> None:
    """Write every figure."""
    for figure in FIGURES:
        (FOLDER / f"{figure.name}.svg").write_text(figure.svg())


if __name__ == "__main__":
    main()
