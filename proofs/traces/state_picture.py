"""One state drawn: processes left, frames in the middle, references and swap slots right, lines between them."""


from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proofs.traces.graph import (
    GONE,
    Attributes,
    Graph,
    Hidden,
    count_text,
    flags_of,
    reference_words,
)
from proofs.traces.svg import (
    CARD,
    CHANGED,
    CHANGED_FILL,
    GREY,
    INK,
    PAPER,
    SHADE,
    VIOLATED,
    Box,
    Point,
    add,
    along,
    line_style,
    path_data,
    put_rect,
    put_text,
    rounded,
    text_width,
    wrap,
)

MARGIN, GAP, PAD = 20.0, 12.0, 8.0
CAPTION = 312.0
PROCESS, FRAME, HOLDER = 210.0, 196.0, 196.0
LEFT = MARGIN + CAPTION + 24
MIDDLE = LEFT + PROCESS + 110
RIGHT = MIDDLE + FRAME + 96
WIDTH = RIGHT + HOLDER + MARGIN + PAD


# What stands in a node's box

@dataclass(frozen=True)
class Content:
    """A node's box: name and tail on the first line, small lines below, then chips (bordered words) in rows."""

    name: str
    tail: str
    lines: tuple[str, ...]
    chips: tuple[tuple[str, ...], ...]

    @property
    def height(self) -> float:
        return 26 + 15 * len(self.lines) + 19 * len(self.chips) + (4 if self.lines or self.chips else 0)


def _width(node_type: str) -> float:
    return {"process": PROCESS, "PTE": PROCESS - 2 * PAD, "frame": FRAME}.get(node_type, HOLDER)


def _content(attributes: Attributes, hidden: Hidden) -> Content:
    lines: list[str] = []
    tail = ""
    match attributes["type"]:
        case "process":
            tail = "process"
        case "PTE":
            tail = _entry(attributes)
        case "frame":
            tail = f"content {attributes['frame_value']}" if "frame_value" in attributes else ""
            lines = [f"mapcount {attributes['mapcount']}, count {count_text(attributes['page_count'])}"]
        case "reference":
            tail = reference_words(attributes)
            place = f" at {attributes['pin_page']}" if "pin_page" in attributes else ""
            lines = [f"taken by {attributes['pin_proc']}{place}"] if "pin_proc" in attributes else []
        case "swap slot":
            tail = "swap cache" if "slot_frame" in attributes else "swap"
            if "slot_frame" in attributes:
                lines = [f"page {attributes['slot_frame']}"]
            elif "slot_value" in attributes:
                lines = [f"content {attributes['slot_value']}"]
    inner = _width(attributes["type"]) - 2 * PAD
    wrapped = tuple(line for text in lines for line in wrap(text, inner, 11))
    words = [flag.words for flag in flags_of(attributes, hidden)]
    return Content(attributes["name"], tail, wrapped, _rows(words, inner))


def _entry(attributes: Attributes) -> str:
    if attributes.get("pte_present"):
        return {True: "writable", False: "read-only"}.get(attributes.get("pte_write", ""), "present")
    if attributes.get("pte_migration"):
        return "migration entry" + ", writable" * bool(attributes.get("pte_write"))
    return "swap entry" if attributes.get("pte_swap") else "empty"


def _rows(words: Iterable[str], width: float) -> tuple[tuple[str, ...], ...]:
    """Chips in rows of that width."""
    rows: list[tuple[str, ...]] = []
    for word in words:
        if rows and sum(_chip_width(w) + 4 for w in (*rows[-1], word)) <= width + 4:
            rows[-1] = (*rows[-1], word)
        else:
            rows.append((word,))
    return tuple(rows)


def _chip_width(word: str) -> float:
    return text_width(word, 10.5) + 10


_ROOM = {"process": 45.0, "PTE": 68.0, "frame": 64.0, "reference": 83.0, "swap slot": 45.0}
"""Node type to the height that is kept for one of which nothing is known yet."""


def places(
    graphs: Sequence[Graph], hidden: Hidden, room_for: Graph | None = None
) -> tuple[dict[str, Box], float]:
    """The box of every node of any state, relative to a panel's drawing, and the drawing's height.

    `room_for`: a graph for whose nodes there is room too, in its order.
    """
    height: dict[str, float] = {}
    kind: dict[str, Attributes] = {}
    for node, attributes in room_for.nodes(data=True) if room_for is not None else ():
        height[node], kind[node] = _ROOM[attributes["type"]], attributes
    for graph in graphs:
        for node, attributes in graph.nodes(data=True):
            height[node] = max(height.get(node, 0), _content(attributes, hidden).height)
            kind[node] = attributes
    of_type = {t: sorted(n for n in kind if kind[n]["type"] == t) for t in GONE}
    ordered = [*graphs, *([room_for] if room_for is not None else [])]
    order = {n: i for graph in ordered for i, n in enumerate(graph)}
    for nodes in of_type.values():
        nodes.sort(key=lambda n: (order[n], n))
    boxes: dict[str, Box] = {}
    y = 0.0
    for process in of_type["process"]:
        top, y = y, y + height[process]
        for pte in of_type["PTE"]:
            if kind[pte]["process"] == kind[process]["name"]:
                boxes[pte] = Box(LEFT + PAD, y, _width("PTE"), height[pte])
                y += height[pte] + PAD
        boxes[process] = Box(LEFT, top, PROCESS, y - top)
        y += GAP
    left = y - GAP
    frames = sum(height[n] + GAP for n in of_type["frame"]) - GAP
    references = sum(height[n] + GAP for n in of_type["reference"]) - GAP
    slots = sum(height[n] + GAP for n in of_type["swap slot"])
    upper = max(frames, references, 0)
    total = max(left, upper + slots)
    top = (total - upper - slots) / 2
    # The slots stand below all frames: their edges have a lane of their own.
    for nodes, x, start in (
        (of_type["frame"], MIDDLE, top + (upper - frames) / 2),
        (of_type["reference"], RIGHT, top + (upper - references) / 2),
        (of_type["swap slot"], RIGHT, top + upper + GAP),
    ):
        y = start
        for node in nodes:
            boxes[node] = Box(x, y, _width(kind[node]["type"]), height[node])
            y += height[node] + GAP
    return boxes, total


def _draw_box(parent: ET.Element, box: Box, content: Content, attributes: Attributes) -> None:
    frame_like = attributes["type"] == "frame"
    changed = attributes["changed"]
    stroke = CHANGED if changed else INK
    if attributes["violates"]:
        outer = Box(box.x - 4, box.y - 4, box.width + 8, box.height + 8)
        put_rect(parent, outer, 6, fill="none", stroke=VIOLATED, stroke_width=2.5)
    fill = CHANGED_FILL if changed else SHADE if attributes["type"] == "process" else CARD
    put_rect(
        parent, box, 2 if frame_like else 5, fill=fill, stroke=stroke,
        stroke_width=2.2 if changed else 1.6 if frame_like else 1,
    )
    if changed:
        corner = f"M{rounded(box.x)} {rounded(box.y)}h11l-11 11z"
        add(parent, "path", d=corner, fill=CHANGED)
    y = box.y + 18
    put_text(parent, box.x + PAD + 4, y, content.name, 14, bold=True)
    tail_size = 12 if attributes["type"] != "process" else 11
    fill = GREY if attributes["type"] == "process" else INK
    put_text(parent, box.x + box.width - PAD, y, content.tail, tail_size, fill=fill, anchor="end",
             bold=content.tail == "writable")
    for line in content.lines:
        y += 15
        put_text(parent, box.x + PAD + 4, y, line, 11, fill=GREY)
    for row in content.chips:
        y += 19
        x = box.x + PAD
        for word in row:
            chip = Box(x, y - 12, _chip_width(word), 16)
            put_rect(parent, chip, 8, fill=PAPER, stroke=INK, stroke_width=0.9)
            put_text(parent, x + chip.width / 2, y, word, 10.5, anchor="middle")
            x += chip.width + 4


def _draw_ghost(parent: ET.Element, box: Box, attributes: Attributes) -> None:
    """What the state before had in use and this one has not."""
    put_rect(parent, box, 5, fill="none", stroke=GREY, stroke_width=1, stroke_dasharray="2 4")
    put_text(parent, box.x + PAD + 4, box.y + 18, attributes["name"], 14, fill=GREY)
    put_text(parent, box.x + box.width - PAD, box.y + 18, GONE[attributes["type"]], 12, fill=GREY, anchor="end")


def draw_edge(parent: ET.Element, points: Sequence[Point], attributes: Attributes) -> None:
    """A line, with the marks of an edge that changed or breaks the claim."""
    style = line_style(attributes)
    width = float(style["stroke_width"])
    if attributes["violates"]:
        add(parent, "path", d=path_data(points), fill="none", stroke=VIOLATED, stroke_width=width + 7)
        add(parent, "path", d=path_data(points), fill="none", stroke=PAPER, stroke_width=width + 3)
    # The line ends inside its arrow head.
    shaft = [*points[:-1], along(points, 7)]
    add(parent, "path", d=path_data(shaft), fill="none", **style)
    colour = str(style["stroke"])
    if attributes["type"] == "refers to":
        x, y = points[0]
        held = {"fill": colour} if attributes.get("pin_foll_pin") else {"fill": PAPER}
        add(parent, "circle", cx=x, cy=y, r=4.5, stroke=colour, stroke_width=1.6, **held)
    (x, y), (bx, by) = points[-1], along(points, 10)
    nx, ny = (y - by) * 0.5, (bx - x) * 0.5
    head = f"{path_data([(x, y), (bx + nx, by + ny), (bx - nx, by - ny)])}Z"
    add(parent, "path", d=head, fill=colour)
    if attributes["changed"]:
        draw_diamond(parent, _between(points, 0.4))


def draw_diamond(parent: ET.Element, at: Point) -> None:
    """The mark of an edge that changed."""
    diamond = f"M{rounded(at[0] - 6)} {rounded(at[1])}l6 -6l6 6l-6 6z"
    add(parent, "path", d=diamond, fill=CHANGED_FILL, stroke=CHANGED, stroke_width=2)


def draw_ghost_edge(parent: ET.Element, points: Sequence[Point]) -> None:
    """An edge that the state before had and this one has not."""
    add(parent, "path", d=path_data(points), fill="none", stroke=GREY, stroke_width=1, stroke_dasharray="1 4")
    x, y = _between(points, 0.6)
    cross = f"M{rounded(x - 5)} {rounded(y - 5)}l10 10m0 -10l-10 10"
    add(parent, "path", d=cross, fill="none", stroke=GREY, stroke_width=2)


def _between(points: Sequence[Point], part: float) -> Point:
    """A point on the last segment. Marks keep off its middle, where lines cross."""
    (x1, y1), (x2, y2) = points[-2:]
    return x1 + (x2 - x1) * part, y1 + (y2 - y1) * part


# Panels

def _routes(boxes: dict[str, Box], edges: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], list[Point]]:
    """A line for each edge (source, target, type). Ends on one side of a box are spread along it, in source order."""
    sides: dict[tuple[str, bool], list[tuple[float, tuple[str, str, str], int]]] = {}
    for edge in edges:
        source, target, _ = edge
        to_right = boxes[source].x < boxes[target].x
        sides.setdefault((source, to_right), []).append((boxes[target].y, edge, 0))
        sides.setdefault((target, not to_right), []).append((boxes[source].y, edge, 1))
    ends: dict[tuple[str, str, str], dict[int, Point]] = {}
    for (node, right), uses in sides.items():
        box = boxes[node]
        for i, (_, edge, end) in enumerate(sorted(uses), 1):
            y = box.y + box.height * i / (len(uses) + 1)
            ends.setdefault(edge, {})[end] = (box.x + box.width if right else box.x, y)
    routes = {}
    for edge, at in ends.items():
        start, finish = at[0], at[1]
        # A swap entry's line passes below the frames.
        bend = [(MIDDLE - 20, finish[1])] if edge[2] == "swap" else []
        routes[edge] = [start, *bend, finish]
    return routes


_DRAWN = ("maps", "swap", "refers to", "swap cache")


def edges_of(graph: Graph) -> dict[tuple[str, str, str], Attributes]:
    """(source, target, type) to attributes, of the edges that are drawn."""
    return {(s, t, key): a for s, t, key, a in graph.edges(keys=True, data=True) if key in _DRAWN}


def draw_state(
    parent: ET.Element, graph: Graph, before: Graph, boxes: dict[str, Box], hidden: Hidden
) -> None:
    """The whiteboard: processes first, so that their PTEs lie on them, then lines, then the other boxes."""
    now, then = edges_of(graph), edges_of(before)
    routes = _routes(boxes, dict.fromkeys([*then, *now]))

    def draw(types: tuple[str, ...]) -> None:
        for node, attributes in before.nodes(data=True):
            if attributes["type"] in types and node not in graph:
                _draw_ghost(parent, boxes[node], attributes)
        for node, attributes in graph.nodes(data=True):
            if attributes["type"] in types:
                _draw_box(parent, boxes[node], _content(attributes, hidden), attributes)

    draw(("process",))
    for edge in then:
        if edge not in now:
            draw_ghost_edge(parent, routes[edge])
    draw(("PTE", "frame", "reference", "swap slot"))
    for edge, attributes in sorted(now.items(), key=lambda e: bool(e[1]["violates"])):
        draw_edge(parent, routes[edge], attributes)
