"""Counterexamples as graphs, pictures and text; traces as files."""

from __future__ import annotations

import io
import itertools
import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from invariants import invariant
from model.kernels import KERNELS, V5_7, V5_9, V5_11, V6_15, Kernel
from model.logic import Scope, System
from proofs.derive.interpreter import Instance
from proofs.errors import TraceError
from proofs.naming.specs import formula_of
from proofs.traces.drawn_graph import to_dot, to_graphml, to_mermaid, trace_graph
from proofs.traces.graph import NODE_TYPES, Graph, state_graphs
from proofs.traces.picture import to_svg
from proofs.traces.render import FORMATS
from proofs.traces.text import to_table
from proofs.traces.trace import Trace, default_names, execute, read, write

SCOPE = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=2)
Steps = Sequence[tuple[str, Mapping[str, int]]]

VMSPLICE_LEAK: Steps = [
    ("anon-fault", {}), ("fork", {"child": 1}), ("get-read", {"p": 1}), ("munmap", {"p": 1}), ("wp-reuse", {})
]
SOFT_DIRTY: Steps = [("anon-fault", {}), ("pin-write", {}), ("clear-soft-dirty", {}), ("wp-copy", {"new": 1})]
SWAPPED: Steps = [
    ("anon-fault", {}), ("pin-write", {}), ("swap-out", {}), ("swap-in-read", {}), ("wp-copy", {"new": 1})
]


def instances(system: System, steps: Steps) -> list[Instance]:
    """The named rules with those arguments, 0 for the others."""
    made = []
    for name, given in steps:
        rule = system.rule(name)
        default = {p.name: 0 if p.over is None else (0,) * SCOPE.size(p.over) for p in rule.params}
        made.append(Instance(rule, tuple({**default, **given}.items())))
    return made


def violation(kernel: Kernel, claim: str, steps: Steps, restricted: bool = False) -> Trace:
    """The steps on that kernel; the last one breaks the claim."""
    found = invariant(claim)
    system = kernel.system()
    if restricted:
        system = system.restricted(system.cone([found.formula]))
    return execute(
        kernel.name, claim, found.statement, system, SCOPE, instances(system, steps), violated=found.formula
    )


def random_walk(kernel: Kernel, seed: int, length: int) -> Trace:
    """Steps that change something, in a scope with several of everything; the end of a longer walk."""
    scope = Scope.of(Proc=3, Page=2, Frame=6, Pin=3, Slot=2, Value=2)
    chosen = random.Random(seed)
    trace = Trace(kernel.name, "walk", "nothing", kernel.system(), scope, default_names(scope), (), ())
    interpreter = trace.interpreter
    rules = [r for r in trace.system.rules if r.kind == "step" and r.name not in ("exit", "munmap", "dontneed")]
    choices = {r.name: list(interpreter.instances(r)) for r in rules}
    steps: list[Instance] = []
    states = [interpreter.initial()]
    while len(steps) < 60:
        step = chosen.choice(choices[chosen.choice(rules).name])
        if interpreter.enabled(step, states[-1]):
            after = interpreter.step(step, states[-1])
            if after != states[-1]:
                steps.append(step)
                states.append(after)
    return replace(trace, steps=tuple(steps[-length:]), states=tuple(states[-length - 1:]))


@pytest.fixture(scope="module")
def leak() -> Trace:
    return violation(V5_7, "isolation-reference", VMSPLICE_LEAK)


@pytest.fixture(scope="module")
def soft_dirty() -> Trace:
    return violation(V5_9, "coherence-write-pin", SOFT_DIRTY)


@pytest.fixture(scope="module")
def swapped() -> Trace:
    return violation(V5_9, "coherence-write-pin", SWAPPED)


@pytest.fixture(scope="module")
def walks() -> list[Trace]:
    return [random_walk(V6_15, 1, 8), random_walk(V5_11, 2, 8)]


@pytest.fixture(scope="module")
def traces(leak: Trace, soft_dirty: Trace, swapped: Trace, walks: list[Trace]) -> list[Trace]:
    return [leak, soft_dirty, swapped, *walks]


def node_types(graph: Graph) -> Counter[str]:
    return Counter(a["type"] for _, a in graph.nodes(data=True))


def edge_types(graph: Graph) -> Counter[str]:
    return Counter(a["type"] for *_, a in graph.edges(data=True))


# Graphs

def test_state_graphs_of_the_vmsplice_leak(leak: Trace) -> None:
    graphs = state_graphs(leak)
    assert [node_types(g) for g in graphs] == [
        Counter(process=1, PTE=1), Counter(process=1, PTE=1, frame=1), Counter(process=2, PTE=2, frame=1),
        Counter(process=2, PTE=2, frame=1, reference=1), Counter(process=2, PTE=1, frame=1, reference=1),
        Counter(process=2, PTE=1, frame=1, reference=1),
    ]
    assert edge_types(graphs[3]) == {"owns": 2, "maps": 2, "refers to": 1, "taken by": 1}
    assert [g.edges["PTE A:x", "frame P", "maps"]["pte_write"] for g in graphs[1:]] == [True, False, False, False, True]
    frames = [g.nodes["frame P"] for g in graphs[1:]]
    assert [(f["mapcount"], f["page_count"]) for f in frames] == [(1, 1), (2, 2), (2, 3), (1, 2), (1, 2)]
    reference = graphs[-1].edges["reference r", "frame P", "refers to"]
    assert (reference["pin_foll_pin"], reference["pin_write"], reference["pin_attached"]) == (False, False, False)
    assert {n for n, a in graphs[-1].nodes(data=True) if a["violates"]} == {"PTE A:x", "reference r"}
    assert not any(a["violates"] for g in graphs[:-1] for _, a in g.nodes(data=True))


def test_swap_edges(swapped: Trace) -> None:
    out, back = state_graphs(swapped)[3:5]
    assert edge_types(out) == {"owns": 1, "swap": 1, "swap cache": 1, "refers to": 1, "taken by": 1}
    assert out.nodes["frame P"]["page_count"] == 1 + 1024
    assert edge_types(back) == {"owns": 1, "maps": 1, "swap cache": 1, "refers to": 1, "taken by": 1}
    assert back.nodes["PTE A:x"]["label"] == "A:P.R"


def test_a_claim_about_a_reference_marks_where_it_was_taken(soft_dirty: Trace) -> None:
    last = state_graphs(soft_dirty)[-1]
    assert {n for n, a in last.nodes(data=True) if a["violates"]} == {"PTE A:x", "reference r"}


def node_of(trace: Trace, place: int) -> str:
    """The node that a cell belongs to."""
    function, index = trace.interpreter.layout.cells[place]
    sorts = tuple(s.name() for s in function.domain)
    names = [trace.element(s, i) for s, i in zip(sorts, index, strict=True)]
    return f"{NODE_TYPES[sorts]} {':'.join(names)}"


def test_changed_is_the_difference_of_the_states(traces: list[Trace]) -> None:
    for trace in traces:
        graphs = state_graphs(trace)
        for number, (before, after) in enumerate(itertools.pairwise(graphs)):
            cells = {node_of(trace, place) for place in trace.changed(number)}
            changed = {n for n, a in after.nodes(data=True) if a["changed"]}
            # A frame or a slot is made or freed by cells that refer to it.
            indirect = {n for n in set(before) ^ set(after) if n.startswith(("frame", "swap slot", "process"))}
            assert cells & set(after) <= changed
            assert changed <= cells | indirect
            assert cells - set(after) <= set(before)
        assert not any(a["changed"] for _, a in graphs[0].nodes(data=True))


def test_every_edge_of_a_changed_cell_is_changed(traces: list[Trace]) -> None:
    for trace in traces:
        for before, after in itertools.pairwise(state_graphs(trace)):
            for source, target, key, a in after.edges(keys=True, data=True):
                assert a["changed"] or before.has_edge(source, target, key)
                assert not a["changed"] or after.nodes[source]["changed"] or after.nodes[target]["changed"]


def test_a_restricted_system_shows_what_it_has() -> None:
    trace = violation(V5_9, "coherence-write-pin", SOFT_DIRTY, restricted=True)
    names = {f.name for f in trace.system.functions}
    assert "frame_value" not in names
    for graph in state_graphs(trace):
        assert not any("frame_value" in a for _, a in graph.nodes(data=True))
    assert "content" not in to_table(trace)
    ET.fromstring(to_svg(trace))


def test_trace_graph(leak: Trace) -> None:
    graph = trace_graph(leak)
    assert list(nx.topological_sort(graph)) == ["0", "1", "2", "3", "4", "5"]
    assert [a["rule"] for *_, a in graph.edges(data=True)] == [s.rule.name for s in leak.steps]
    step = graph.get_edge_data("3", "4")["e3"]
    assert (step["label"], step["argument_p"]) == ("munmap(p=C, v=x)", "C")


def test_graphml_round_trip(traces: list[Trace]) -> None:
    for trace in traces:
        graph = trace_graph(trace, contents=True)
        again = nx.read_graphml(io.BytesIO(to_graphml(trace).encode()), force_multigraph=True)
        assert dict(again.nodes(data=True)) == dict(graph.nodes(data=True))
        found = {k: (s, t, a) for s, t, k, a in again.edges(keys=True, data=True)}
        assert found == {k: (s, t, a) for s, t, k, a in graph.edges(keys=True, data=True)}


def test_dot_is_well_formed(traces: list[Trace]) -> None:
    for trace in traces:
        hostile = replace(trace, statement='a "quoted" \\ statement { with ] everything')
        text = to_dot(hostile)
        bare = re.sub(r'"(\\.|[^"\\])*"', "s", text)
        assert bare.count("{") == bare.count("}") == 1 + len(trace.states)
        assert '"' not in bare
        if shutil.which("dot"):
            subprocess.run(["dot", "-Tcanon"], input=text, text=True, check=True, capture_output=True)


def test_mermaid_declares_every_node_once(traces: list[Trace]) -> None:
    for trace in traces:
        lines = to_mermaid(trace).splitlines()
        declared = Counter(m[1] for line in lines if (m := re.match(r'    (n\d+_\d+)\["[^"]*"\]', line)))
        assert set(declared.values()) == {1}
        assert len(declared) == sum(g.number_of_nodes() for g in state_graphs(trace))
        used = [m.groups() for line in lines if (m := re.match(r"    (n\d+_\d+) \S+ ?.* (n\d+_\d+)$", line))]
        assert {n for pair in used for n in pair} <= set(declared)


# Pictures

Rectangle = tuple[float, float, float, float]


def text_boxes(svg: ET.Element) -> list[tuple[str, Rectangle]]:
    """Where each text stands, measured without the picture's own table: by the mean width of DejaVu's letters."""
    found = []
    for element in svg.iter("{http://www.w3.org/2000/svg}text"):
        size, x, y = (float(element.attrib[k]) for k in ("font-size", "x", "y"))
        words = element.text or ""
        if "Mono" in element.attrib["font-family"]:
            width = len(words) * size * 0.602
        else:
            mean = 0.66 if element.get("font-weight") else 0.58
            width = size * sum(0.75 if c.isupper() else mean for c in words)
        x -= {"start": 0.0, "middle": width / 2, "end": width}[element.attrib["text-anchor"]]
        found.append((words, (x, y - size * 0.8, x + width, y + size * 0.22)))
    return found


def overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_no_text_of_a_picture_overlaps(traces: list[Trace]) -> None:
    wordy = replace(traces[0], statement="a very long statement " * 20, notes=("a note that goes on and on " * 4,) * 5)
    for trace in (*traces, wordy):
        svg = ET.fromstring(to_svg(trace))
        width, height = float(svg.attrib["width"]), float(svg.attrib["height"])
        boxes = text_boxes(svg)
        for words, (left, top, right, bottom) in boxes:
            assert words.strip()
            assert left >= 0
            assert top >= 0
            assert right <= width
            assert bottom <= height, words
        for (one, a), (other, b) in itertools.combinations(boxes, 2):
            assert not overlap(a, b), f"{one!r} overlaps {other!r}"


def test_picture_is_self_contained_and_accessible(traces: list[Trace]) -> None:
    for trace in traces:
        svg = ET.fromstring(to_svg(trace))
        tags = [e.tag.partition("}")[2] for e in svg.iter()]
        assert tags[:3] == ["svg", "title", "desc"]
        assert {"script", "style", "image", "foreignObject"}.isdisjoint(tags)
        assert not [k for e in svg.iter() for k in e.attrib if k == "id" or "href" in k]
        words = " ".join(e.text or "" for e in svg.iter())
        for step in trace.steps:
            assert step.rule.name in words
        assert trace.statement in words


def test_picture_marks_the_witness(leak: Trace) -> None:
    svg = ET.fromstring(to_svg(leak))
    panels = [g for g in svg.findall("{*}g") if g.find("{*}circle") is not None][-len(leak.states):]

    def outlines(panel: ET.Element) -> int:
        boxes = [r for r in panel.iter("{http://www.w3.org/2000/svg}rect") if r.get("fill") == "none"]
        return sum(r.get("stroke") == "#c01616" for r in boxes)

    assert [outlines(p) for p in panels] == [0, 0, 0, 0, 0, 2]
    assert "isolation-reference is violated on v5.7" in "".join(panels[-1].itertext())


def test_picture_keeps_places(leak: Trace) -> None:
    svg = ET.fromstring(to_svg(leak))
    places = {t.get("x") for t in svg.iter("{http://www.w3.org/2000/svg}text") if t.text == "P"}
    assert len(places) == 1


def test_every_format_is_deterministic(swapped: Trace) -> None:
    again = violation(V5_9, "coherence-write-pin", SWAPPED)
    for name, form in FORMATS.items():
        assert form(swapped) == form(again), name


def test_hostile_names_are_escaped(leak: Trace) -> None:
    hostile = replace(leak, kernel='<script>alert("1")</script>', statement="a < b & c]]>")
    ET.fromstring(to_svg(hostile))
    page = FORMATS["html"](hostile)
    assert "<script" not in page
    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: seen.append(tag)  # type: ignore[method-assign]
    parser.feed(page)
    assert {"html", "svg", "pre"} <= set(seen)


# Text

def test_table_of_the_vmsplice_leak(leak: Trace) -> None:
    table = to_table(leak)
    assert max(map(len, table.splitlines())) <= 100
    for words in ("A:P.W", "C:P.R", "r:get(r)->P by C", "munmap, zap_pte_range", "- C: no VMA", "wp-reuse(p=A, v=x)",
                  "isolation-reference is violated on v5.7"):
        assert words in table
    assert re.search(r"!> A:P\.W\n", table)
    assert leak.statement in " ".join(table.split())


def test_table_shows_what_varies(soft_dirty: Trace, leak: Trace) -> None:
    assert "A:P.W+SD" in to_table(soft_dirty)
    assert "+SD" not in to_table(leak)


def test_table_is_at_most_100_columns(traces: list[Trace]) -> None:
    for trace in traces:
        assert max(map(len, to_table(trace).splitlines())) <= 100


# Files

def system_of(name: str) -> System:
    return next(k for k in KERNELS if k.name == name).system()


def test_trace_file_round_trip(swapped: Trace, walks: list[Trace], tmp_path: Path) -> None:
    for trace in (swapped, walks[0]):
        path = tmp_path / "trace.itf.json"
        write(trace, path)
        assert path.read_text() == FORMATS["itf"](trace)
        again = read(path, system_of, formula_of)
        assert again.states == trace.states
        assert again.witness == trace.witness
        assert to_svg(again) == to_svg(trace)


def tampered_state(data: Any) -> None:
    cells = next(c for c in data["states"][-1]["pte_write"]["#map"] if c[0] == {"#tup": ["A", "x"]})
    cells[1] = not cells[1]


def tampered_start(data: Any) -> None:
    del data["states"][0]["pte_write"]


def wrong_schema(data: Any) -> None:
    data["#meta"]["schema"] = 99


def skipped_step(data: Any) -> None:
    del data["#meta"]["steps"][0]


def foreign_witness(data: Any) -> None:
    data["#meta"]["witness"] = [["Proc", "nobody"]]


@pytest.mark.parametrize("damage", [tampered_state, tampered_start, wrong_schema, skipped_step, foreign_witness])
def test_damaged_trace_files_are_refused(leak: Trace, tmp_path: Path, damage: Callable[[Any], None]) -> None:
    data = json.loads(FORMATS["itf"](leak))
    damage(data)
    path = tmp_path / "trace.itf.json"
    path.write_text(json.dumps(data))
    with pytest.raises(TraceError) as raised:
        read(path, system_of)
    assert str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"#meta": 3}'])
def test_files_that_are_no_traces_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace.itf.json"
    path.write_text(text)
    with pytest.raises(TraceError) as raised:
        read(path, system_of)
    assert "\n" not in str(raised.value)


def test_truncated_and_missing_files_are_refused(leak: Trace, tmp_path: Path) -> None:
    path = tmp_path / "trace.itf.json"
    with pytest.raises(TraceError, match="cannot read"):
        read(path, system_of)
    text = FORMATS["itf"](leak)
    path.write_text(text[: len(text) // 2])
    with pytest.raises(TraceError, match="not a trace"):
        read(path, system_of)
