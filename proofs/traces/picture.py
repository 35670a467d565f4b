"""A trace as one SVG: a panel for each state, with what led to it; and each state's picture alone, for pages.

Everything keeps its place from panel to panel. Drawn from the graphs of proofs.traces.graph; no scripts, fonts, ids or
style sheets, so that it survives mail and inlining.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proofs.traces.graph import Attributes, Graph, Hidden, quiet_flags, scope_graph, state_graphs
from proofs.traces.state_picture import (
    CAPTION,
    GAP,
    LEFT,
    MARGIN,
    PAD,
    WIDTH,
    draw_diamond,
    draw_edge,
    draw_ghost_edge,
    draw_state,
    edges_of,
    places,
)
from proofs.traces.svg import (
    CHANGED,
    CHANGED_FILL,
    GREY,
    INK,
    PALE,
    PAPER,
    SANS,
    VIOLATED,
    Box,
    add,
    path_data,
    put_rect,
    put_text,
    rounded,
    text_width,
    wrap,
)
from proofs.traces.text import closing_words, step_words
from proofs.traces.trace import Trace


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


class Picture(str):
    """SVG that a notebook shows as what it draws."""

    def _repr_svg_(self) -> str:
        return str(self)


def to_svg(trace: Trace) -> Picture:
    """The trace as a self-contained SVG document; the same trace gives the same text."""
    graphs = state_graphs(trace)
    hidden = quiet_flags(graphs)
    boxes, body = places(graphs, hidden)
    heading, statement, witness = closing_words(trace, graphs[-1])
    svg = ET.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img"})
    ET.SubElement(svg, "title").text = heading
    ET.SubElement(svg, "desc").text = " ".join(
        [statement, witness, *(f"State {n}: {_described(trace, n, g)}." for n, g in enumerate(graphs))]
    )
    paper = ET.SubElement(svg, "rect")
    y = MARGIN + 18
    mark, ink = ("✗ ", VIOLATED) if trace.bad else ("", INK)
    put_text(svg, MARGIN, y, f"{mark}{heading}", 19, bold=True, fill=ink)
    y += 12
    y = _draw_legend(svg, y, graphs, hidden, trace.marked)
    for number, graph in enumerate(graphs):
        words: list[Line] = []
        if number == len(graphs) - 1:
            words = [
                *_lines(f"{mark}{heading}", WIDTH - 4 * MARGIN, 14, ink, bold=True),
                *_lines(statement, WIDTH - 4 * MARGIN, 13), *_lines(witness, WIDTH - 4 * MARGIN, 13),
            ]
        y = _draw_panel(svg, y + GAP, trace, number, graph, graphs[max(number - 1, 0)], boxes, body, hidden, words)
    height = y + MARGIN
    svg.attrib.update(width=rounded(WIDTH), height=rounded(height), viewBox=f"0 0 {rounded(WIDTH)} {rounded(height)}")
    paper.attrib.update(
        x="0.5", y="0.5", width=rounded(WIDTH - 1), height=rounded(height - 1), rx="6", fill=PAPER, stroke=PALE
    )
    ET.indent(svg, " ")
    return Picture(ET.tostring(svg, encoding="unicode") + "\n")


def state_pictures(trace: Trace, graphs: Sequence[Graph], roomy: bool = False) -> list[str]:
    """Each state's whiteboard alone, as SVG elements of one size for a page to hold.

    `graphs`: those of the trace's states. `roomy`: with room for all that the scope has, so that the pictures of a
    longer trace keep every place.
    """
    hidden = quiet_flags(graphs)
    boxes, body = places(graphs, hidden, scope_graph(trace) if roomy else None)
    width, height = WIDTH - MARGIN - PAD - LEFT + 20, max(body, 1) + 20
    pictures = []
    for number, graph in enumerate(graphs):
        svg = ET.Element("svg", {
            "viewBox": " ".join(map(rounded, (LEFT - 10, -10, width, height))), "width": rounded(width),
            "height": rounded(height), "role": "img", "font-family": SANS,
            "aria-label": f"State {number}: {_described(trace, number, graph)}",
        })
        draw_state(svg, graph, graphs[max(number - 1, 0)], boxes, hidden)
        for element in svg.iter("text"):
            del element.attrib["font-family"]
        pictures.append(ET.tostring(svg, encoding="unicode"))
    return pictures


def legend(graphs: Sequence[Graph], marked: str = "breaks the claim") -> list[tuple[str, str]]:
    """(SVG element, words) for each kind of line and mark in the pictures of these graphs; `marked`: what the red one
    means."""
    entries = []
    for words, edge in _samples(graphs, marked):
        svg = ET.Element("svg", {"viewBox": "0 0 46 20", "width": "46", "height": "20", "aria-hidden": "true"})
        _draw_sample(svg, 0, 10, words, edge)
        entries.append((ET.tostring(svg, encoding="unicode"), words))
    return entries


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
    draw_state(panel, graph, before, {n: Box(b.x, b.y + shift, b.width, b.height) for n, b in boxes.items()}, hidden)
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


def _samples(graphs: Sequence[Graph], marked: str) -> list[tuple[str, Attributes]]:
    """Words and edges that occur, then the marks, which have no edge."""
    used = [a for graph in graphs for a in edges_of(graph).values()]
    unmarked = {"changed": False, "violates": False}
    samples = [
        (words, {**edge, **unmarked}) for words, edge in _SAMPLES if any(edge.items() <= a.items() for a in used)
    ]
    marks = ["changed in this step", "gone in this step"]
    if any(a["violates"] for _, a in graphs[-1].nodes(data=True)):
        marks.append(marked)
    return [*samples, *((mark, {}) for mark in marks)]


def _draw_sample(parent: ET.Element, x: float, y: float, words: str, edge: Attributes) -> None:
    """A line or a mark, 46 wide, about the height y."""
    line = [(x + 4, y), (x + 40, y)]
    if edge:
        draw_edge(parent, line, edge)
    elif words == "changed in this step":
        put_rect(parent, Box(x + 6, y - 7, 15, 14), 2, fill=CHANGED_FILL, stroke=CHANGED, stroke_width=2)
        draw_diamond(parent, (x + 33, y))
    elif words == "gone in this step":
        draw_ghost_edge(parent, line)
    else:
        put_rect(parent, Box(x + 9, y - 8, 28, 16), 4, fill="none", stroke=VIOLATED, stroke_width=2.5)
        put_rect(parent, Box(x + 13, y - 4, 20, 8), 2, fill="none", stroke=INK, stroke_width=1)


def _draw_legend(parent: ET.Element, top: float, graphs: Sequence[Graph], hidden: Hidden, marked: str) -> float:
    """Samples of the edges that occur and of the marks, in rows. Returns the y below them."""
    legend = add(parent, "g")
    x, y = MARGIN, top + 12
    for words, edge in _samples(graphs, marked):
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
