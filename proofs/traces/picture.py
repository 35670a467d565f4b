"""A trace as one SVG: a panel for each state, processes left, frames in the middle, references and swap slots right.

Everything keeps its place from panel to panel. Drawn from the graphs of proofs.graph; no scripts, fonts, ids or
style sheets, so that it survives mail and inlining.
"""

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
    quiet_flags,
    reference_words,
    scope_graph,
    state_graphs,
)
from proofs.traces.svg import (
    CARD,
    CHANGED,
    CHANGED_FILL,
    GREY,
    INK,
    PALE,
    PAPER,
    SANS,
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
from proofs.traces.text import closing_words, step_words
from proofs.traces.trace import Trace

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


def _places(
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


def _draw_edge(parent: ET.Element, points: Sequence[Point], attributes: Attributes) -> None:
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
        _draw_diamond(parent, _between(points, 0.4))


def _draw_diamond(parent: ET.Element, at: Point) -> None:
    diamond = f"M{rounded(at[0] - 6)} {rounded(at[1])}l6 -6l6 6l-6 6z"
    add(parent, "path", d=diamond, fill=CHANGED_FILL, stroke=CHANGED, stroke_width=2)


def _draw_ghost_edge(parent: ET.Element, points: Sequence[Point]) -> None:
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


def _edges(graph: Graph) -> dict[tuple[str, str, str], Attributes]:
    return {(s, t, key): a for s, t, key, a in graph.edges(keys=True, data=True) if key in _DRAWN}


def _draw_state(
    parent: ET.Element, graph: Graph, before: Graph, boxes: dict[str, Box], hidden: Hidden
) -> None:
    """The whiteboard: processes first, so that their PTEs lie on them, then lines, then the other boxes."""
    now, then = _edges(graph), _edges(before)
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
            _draw_ghost_edge(parent, routes[edge])
    draw(("PTE", "frame", "reference", "swap slot"))
    for edge, attributes in sorted(now.items(), key=lambda e: bool(e[1]["violates"])):
        _draw_edge(parent, routes[edge], attributes)


@dataclass(frozen=True)
class Line:
    """One line of a caption or of the closing words."""

    text: str
    size: float
    fill: str = INK
    bold: bool = False
    mono: bool = False

    @property
    def height(self) -> float:
        return self.size * 1.42


def _lines(text: str, width: float, size: float, fill: str = INK, bold: bool = False, mono: bool = False) -> list[Line]:
    return [Line(t, size, fill, bold, mono) for t in wrap(text, width, size, bold, mono)] if text else []


def _draw_lines(parent: ET.Element, x: float, y: float, lines: Iterable[Line]) -> float:
    """Returns the y below the last line."""
    for line in lines:
        y += line.height
        base = y - line.height * 0.25
        put_text(parent, x, base, line.text, line.size, fill=line.fill, bold=line.bold, mono=line.mono)
    return y


def _caption(trace: Trace, number: int) -> list[Line]:
    width = CAPTION - 34
    if not number:
        return _lines("start", width, 13, bold=True, mono=True)
    step = trace.steps[number - 1]
    return [
        *_lines(trace.label(number - 1), width, 13, bold=True, mono=True),
        *(line for words in step_words(trace, number) for line in _lines(words, width, 12)),
        *_lines(step.rule.kernel_function, width, 11, GREY, mono=True),
    ]


def to_svg(trace: Trace) -> str:
    """The trace as a self-contained SVG document; the same trace gives the same text."""
    graphs = state_graphs(trace)
    hidden = quiet_flags(graphs)
    boxes, body = _places(graphs, hidden)
    heading, statement, witness = closing_words(trace, graphs[-1])
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    ET.SubElement(svg, "title").text = heading
    ET.SubElement(svg, "desc").text = " ".join(
        [statement, witness, *(f"State {n}: {_described(trace, n, g)}." for n, g in enumerate(graphs))]
    )
    paper = ET.SubElement(svg, "rect")
    y = MARGIN + 18
    mark = "✗ " if trace.witness else ""
    put_text(svg, MARGIN, y, f"{mark}{heading}", 19, bold=True, fill=VIOLATED if trace.witness else INK)
    y += 12
    y = _draw_legend(svg, y, graphs, hidden)
    for number, graph in enumerate(graphs):
        words: list[Line] = []
        if number == len(graphs) - 1:
            words = [
                *_lines(f"{mark}{heading}", WIDTH - 4 * MARGIN, 14, VIOLATED if trace.witness else INK, bold=True),
                *_lines(statement, WIDTH - 4 * MARGIN, 13), *_lines(witness, WIDTH - 4 * MARGIN, 13),
            ]
        y = _draw_panel(svg, y + GAP, trace, number, graph, graphs[max(number - 1, 0)], boxes, body, hidden, words)
    height = y + MARGIN
    svg.attrib.update(width=rounded(WIDTH), height=rounded(height), viewBox=f"0 0 {rounded(WIDTH)} {rounded(height)}")
    paper.attrib.update(
        x="0.5", y="0.5", width=rounded(WIDTH - 1), height=rounded(height - 1), rx="6", fill=PAPER, stroke=PALE
    )
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="unicode") + "\n"


def boards(trace: Trace, graphs: Sequence[Graph], roomy: bool = False) -> list[str]:
    """Each state's whiteboard alone, as SVG elements of one size for a page to hold.

    `graphs`: those of the trace's states. `roomy`: with room for all that the scope has, so that the pictures of a
    longer trace keep every place.
    """
    hidden = quiet_flags(graphs)
    boxes, body = _places(graphs, hidden, scope_graph(trace) if roomy else None)
    width, height = WIDTH - MARGIN - PAD - LEFT + 20, max(body, 1) + 20
    made = []
    for number, graph in enumerate(graphs):
        svg = ET.Element("svg", {
            "viewBox": " ".join(map(rounded, (LEFT - 10, -10, width, height))), "width": rounded(width),
            "height": rounded(height), "role": "img", "font-family": SANS,
            "aria-label": f"State {number}: {_described(trace, number, graph)}",
        })
        _draw_state(svg, graph, graphs[max(number - 1, 0)], boxes, hidden)
        for element in svg.iter("text"):
            del element.attrib["font-family"]
        made.append(ET.tostring(svg, encoding="unicode"))
    return made


def legend(graphs: Sequence[Graph]) -> list[tuple[str, str]]:
    """(SVG element, words) for each kind of line and mark in the pictures of these graphs."""
    made = []
    for words, edge in _samples(graphs):
        svg = ET.Element("svg", {"viewBox": "0 0 46 20", "width": "46", "height": "20", "aria-hidden": "true"})
        _draw_sample(svg, 0, 10, words, edge)
        made.append((ET.tostring(svg, encoding="unicode"), words))
    return made


def _described(trace: Trace, number: int, graph: Graph) -> str:
    step = f"after {trace.label(number - 1)}, " if number else ""
    labels = [a["label"] for _, a in graph.nodes(data=True) if a["type"] != "process"]
    return step + "; ".join(labels)


def _draw_panel(
    parent: ET.Element, top: float, trace: Trace, number: int, graph: Graph, before: Graph, boxes: dict[str, Box],
    body: float, hidden: Hidden, words: Sequence[Line],
) -> float:
    """One state with its caption; `words` stand below. Returns the y below the panel."""
    caption = _caption(trace, number)
    inner = max(body, sum(line.height for line in caption))
    below = sum(line.height for line in words) + (GAP if words else 0)
    broken = any(a["violates"] for _, a in graph.nodes(data=True))
    panel = add(parent, "g")
    box = Box(MARGIN / 2, top, WIDTH - MARGIN, inner + below + 2 * GAP)
    put_rect(
        panel, box, 6, fill=PAPER, stroke=VIOLATED if broken else PALE, stroke_width=2.5 if broken else 1
    )
    add(panel, "circle", cx=MARGIN + 12, cy=top + GAP + 10, r=12, fill=VIOLATED if broken else INK)
    put_text(panel, MARGIN + 12, top + GAP + 14.5, str(number), 12, fill=PAPER, bold=True, anchor="middle")
    _draw_lines(panel, MARGIN + 32, top + GAP, caption)
    shift = top + GAP + (inner - body) / 2
    _draw_state(panel, graph, before, {n: Box(b.x, b.y + shift, b.width, b.height) for n, b in boxes.items()}, hidden)
    if words:
        y = top + inner + 1.5 * GAP
        add(panel, "path", d=path_data([(MARGIN, y), (WIDTH - MARGIN, y)]), stroke=PALE)
        _draw_lines(panel, MARGIN + 4, y + 4, words)
    return top + box.height


_SAMPLES: tuple[tuple[str, Attributes], ...] = (
    ("writable mapping", {"type": "maps", "pte_write": True}),
    ("read-only mapping", {"type": "maps", "pte_write": False}),
    ("FOLL_PIN", {"type": "refers to", "pin_foll_pin": True}),
    ("FOLL_GET", {"type": "refers to", "pin_foll_pin": False}),
    ("swap entry", {"type": "swap"}),
    ("in the swap cache", {"type": "swap cache"}),
)


def _samples(graphs: Sequence[Graph]) -> list[tuple[str, Attributes]]:
    """Words and edges that occur, then the marks, which have no edge."""
    used = [a for graph in graphs for a in _edges(graph).values()]
    unmarked = {"changed": False, "violates": False}
    samples = [
        (words, {**edge, **unmarked}) for words, edge in _SAMPLES if any(edge.items() <= a.items() for a in used)
    ]
    marks = ["changed in this step", "gone in this step"]
    if any(a["violates"] for _, a in graphs[-1].nodes(data=True)):
        marks.append("breaks the claim")
    return [*samples, *((mark, {}) for mark in marks)]


def _draw_sample(parent: ET.Element, x: float, y: float, words: str, edge: Attributes) -> None:
    """A line or a mark, 46 wide, about the height y."""
    line = [(x + 4, y), (x + 40, y)]
    if edge:
        _draw_edge(parent, line, edge)
    elif words == "changed in this step":
        put_rect(parent, Box(x + 6, y - 7, 15, 14), 2, fill=CHANGED_FILL, stroke=CHANGED, stroke_width=2)
        _draw_diamond(parent, (x + 33, y))
    elif words == "gone in this step":
        _draw_ghost_edge(parent, line)
    else:
        put_rect(parent, Box(x + 9, y - 8, 28, 16), 4, fill="none", stroke=VIOLATED, stroke_width=2.5)
        put_rect(parent, Box(x + 13, y - 4, 20, 8), 2, fill="none", stroke=INK, stroke_width=1)


def _draw_legend(parent: ET.Element, top: float, graphs: Sequence[Graph], hidden: Hidden) -> float:
    """Samples of the edges that occur and of the marks, in rows. Returns the y below them."""
    legend = add(parent, "g")
    x, y = MARGIN, top + 12
    for words, edge in _samples(graphs):
        width = 46 + text_width(words, 11) + 16
        if x + width > WIDTH - MARGIN:
            x, y = MARGIN, y + 20
        _draw_sample(legend, x, y, words, edge)
        put_text(legend, x + 46, y + 4, words, 11)
        x += width
    if hidden:
        quiet = ", ".join(sorted(flag.words for flag in hidden))
        put_text(legend, MARGIN, y + 24, f"Not shown, because true throughout: {quiet}.", 11, fill=GREY)
        y += 20
    return y + 8
