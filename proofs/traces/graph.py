"""States and traces as networkx graphs, and their DOT, Mermaid and GraphML forms.

A graph shows the state functions that the trace's system has and nothing else; text and pictures are made from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from model.logic import meaning
from proofs.derive.interpreter import Interpreter, State
from proofs.traces.trace import Trace

# networkx carries no usable types; the alias says what is meant.
Graph = Any
Attributes = dict[str, Any]

NODE_TYPES: dict[tuple[str, ...], str] = {
    ("Proc",): "process", ("Proc", "Page"): "PTE", ("Frame",): "frame", ("Pin",): "reference", ("Slot",): "swap slot",
}
"""Sorts of a state function's arguments to the type of node that carries its values."""
GONE = {"process": "exited", "PTE": "no VMA", "frame": "free", "reference": "dropped", "swap slot": "free"}
"""Node type to what it means that a node of the state before is in use no more."""
_EDGES = (
    ("pte_frame", "maps", "frame", ("pte_migration", "pte_write", "pte_dirty", "pte_uffd_wp", "pte_soft_dirty")),
    ("pte_slot", "swap", "swap slot", ("pte_swap_exclusive", "pte_uffd_wp", "pte_soft_dirty")),
    ("pin_frame", "refers to", "frame", ("pin_foll_pin", "pin_write", "pin_longterm", "pin_attached")),
    ("pin_proc", "taken by", "process", ("pin_page",)),
    ("slot_frame", "swap cache", "frame", ()),
)
"""State function, edge type, type of the target, state functions of the source that the edge carries too."""
_PIN_BIAS = 1024


@dataclass(frozen=True)
class Flag:
    """A word for a Bool state function that has `value`. `quiet`: not shown where every entry of the trace has it."""

    function: str
    short: str
    words: str
    value: bool = True
    quiet: bool = False


Hidden = frozenset[Flag]
FLAGS: dict[str, tuple[Flag, ...]] = {
    "process": (
        Flag("alive", "exited", "exited", False), Flag("has_pinned", "has_pinned", "has_pinned"),
        Flag("vma_soft_dirty", "VM_SOFTDIRTY", "VM_SOFTDIRTY", quiet=True),
    ),
    "PTE": (
        Flag("pte_dirty", "D", "dirty", quiet=True), Flag("pte_soft_dirty", "SD", "soft-dirty", quiet=True),
        Flag("pte_uffd_wp", "UW", "uffd-wp"), Flag("uffd_armed", "armed", "uffd armed"),
        Flag("pte_guard", "guard", "guard"), Flag("pte_swap_exclusive", "X", "exclusive"),
        Flag("migration_exclusive", "X", "exclusive"), Flag("vma_write", "vma-ro", "read-only VMA", False),
        Flag("vma_none", "vma-none", "PROT_NONE VMA"), Flag("vma_new", "new", "new VMA", quiet=True),
        Flag("vma_dontfork", "dontfork", "DONTFORK"), Flag("vma_wipeonfork", "wipeonfork", "WIPEONFORK"),
        Flag("vma_missing", "missing", "registered for missing"), Flag("vma_unwatched", "unwatched", "watched no more"),
        Flag("vma", "no-vma", "no VMA", False), Flag("pte_huge", "PMD", "by a PMD"),
    ),
    "frame": (
        Flag("exclusive", "exclusive", "exclusive"), Flag("extra", "extra-ref", "extra ref"),
        Flag("zero_page", "zero-page", "the zero page"), Flag("page_cache", "page-cache", "page cache"),
        Flag("ksm", "KSM", "KSM page"), Flag("large", "THP", "part of a THP"),
        Flag("lazyfree", "lazyfree", "MADV_FREE"), Flag("misplaced", "misplaced", "not where its index leads"),
        Flag("movable", "movable", "in ZONE_MOVABLE"), Flag("cma", "cma", "in CMA"),
        Flag("migrating", "migrating", "being migrated"),
    ),
    "reference": (
        Flag("pin_longterm", "longterm", "longterm"), Flag("pin_attached", "detached", "detached", False),
        Flag("pin_dontfork", "dontfork", "DONTFORK before"),
    ),
    "swap slot": (),
}


def new_graph(**attributes: str) -> Graph:
    import networkx as nx  # noqa: PLC0415  it takes a while to load, and most commands draw nothing

    return nx.MultiDiGraph(**attributes)


def state_graphs(trace: Trace) -> list[Graph]:
    """One MultiDiGraph for each state of the trace.

    Every node has `type`, `name`, `label` and the state functions of its sort by name; every edge has `type`, `label`
    and some functions of its source. `changed`: the step before made it or changed an attribute of it. `violates`: in
    the last state, what breaks the claim.
    """
    interpreter = trace.interpreter
    plain = [_plain_graph(trace, interpreter, state) for state in trace.states]
    hidden = quiet_flags(plain)
    witness = _witness_nodes(trace, plain[-1])
    graphs = []
    for number, graph in enumerate(plain):
        marked = graph.copy()
        before = plain[number - 1] if number else graph
        last = number == len(plain) - 1
        for node, attributes in marked.nodes(data=True):
            attributes["changed"] = before.nodes.get(node) != graph.nodes[node]
            attributes["violates"] = last and node in witness
        for source, target, key, attributes in marked.edges(keys=True, data=True):
            attributes["changed"] = before.get_edge_data(source, target, key) != graph.edges[source, target, key]
            attributes["violates"] = last and source in witness and key != "owns"
        _add_counts(marked)
        _add_labels(marked, hidden, one_page=len(trace.names.get("Page", ())) <= 1)
        graphs.append(marked)
    return graphs


def _plain_graph(trace: Trace, interpreter: Interpreter, state: State) -> Graph:
    """The nodes in use with the values that mean something, and the edges that these values are."""
    graph = new_graph()
    for function in trace.system.functions:
        sorts = tuple(s.name() for s in function.domain)
        if sorts not in NODE_TYPES:
            continue
        bound, meaningful = meaning(function)
        for index, place in interpreter.layout.position[function.name].items():
            binding = {c.decl().name(): i for c, i in zip(bound, index, strict=False)}
            if meaningful is not None and not interpreter.evaluate(meaningful, state, binding):
                continue
            elements = [trace.element(s, i) for s, i in zip(sorts, index, strict=True)]
            node = _node_id(NODE_TYPES[sorts], elements)
            if node not in graph:
                graph.add_node(node, type=NODE_TYPES[sorts], name=elements[-1])
            if sorts == ("Proc", "Page"):
                graph.nodes[node]["process"] = elements[0]
            value = state[place]
            shown = bool(value) if function.is_bool else trace.element(function.range.name(), value)
            graph.nodes[node][function.name] = shown
    _tell_backing(trace, interpreter, state, graph)
    for function_name, edge, target, carried in _EDGES:
        for node, attributes in list(graph.nodes(data=True)):
            if function_name in attributes:
                flags = {name: attributes[name] for name in carried if name in attributes}
                end = _node_id(target, [attributes[function_name]])
                if end not in graph:
                    graph.add_node(end, type=target, name=attributes[function_name])
                graph.add_edge(node, end, key=edge, type=edge, **flags)
    for node, attributes in list(graph.nodes(data=True)):
        if attributes["type"] == "PTE" and _in_use(graph, node):
            owner = _node_id("process", [attributes["process"]])
            if owner not in graph:
                graph.add_node(owner, type="process", name=attributes["process"])
            graph.add_edge(owner, node, key="owns", type="owns")
    asked = {_node_id("frame", [trace.element(sort, number)]) for sort, number in trace.witness if sort == "Frame"}
    graph.remove_nodes_from([node for node in list(graph) if node not in asked and not _in_use(graph, node)])
    return graph


def _tell_backing(trace: Trace, interpreter: Interpreter, state: State, graph: Graph) -> None:
    """Which frames that are not anonymous are the zero page, and which of the page cache."""
    place, known = interpreter.layout.position, {f.name for f in trace.system.functions}
    backs = {"backed", "backing"} <= known
    zero = {
        trace.element("Frame", state[place["backing"][index]])
        for index in (place["backed"] if backs else ())
        if state[place["backed"][index]] and not ("file" in known and state[place["file"][index]])
    }
    for _, attributes in graph.nodes(data=True):
        if attributes["type"] == "frame" and attributes.get("nonanon"):
            attributes["zero_page" if attributes["name"] in zero else "page_cache"] = True


def scope_graph(trace: Trace) -> Graph:
    """Every element that the trace's scope has as a node without values, by sort and number."""
    graph = new_graph()
    for sorts, node_type in NODE_TYPES.items():
        for elements in itertools.product(*(trace.names.get(sort, ()) for sort in sorts)):
            owner = {"process": elements[0]} if node_type == "PTE" else {}
            graph.add_node(_node_id(node_type, elements), type=node_type, name=elements[-1], **owner)
    return graph


def _node_id(node_type: str, elements: Iterable[str]) -> str:
    return f"{node_type} {':'.join(elements)}"


def _in_use(graph: Graph, node: str) -> bool:
    """Something leads to it or from it, or is true of it; of a frame only whether somebody holds it."""
    attributes = graph.nodes[node]
    values = [attributes.get("extra")] if attributes["type"] == "frame" else attributes.values()
    return graph.degree(node) > 0 or any(value is True for value in values)


_COUNTED = {"mapcount": (1, False), "page_count": (1, False)}


def cell_functions(trace: Trace) -> dict[str, tuple[int, bool]]:
    """What `cell_values` has values of: name to the number of arguments, and whether it is true or false."""
    known = {f.name: (len(f.domain), f.is_bool) for f in trace.system.functions
             if tuple(s.name() for s in f.domain) in NODE_TYPES}
    return known | _COUNTED


def cell_values(graph: Graph) -> dict[str, dict[str, Any]]:
    """What a graph's nodes say: name of a state function to its cells, each by its elements, `A,x`; but false ones."""
    found: dict[str, dict[str, Any]] = {}
    for _, attributes in graph.nodes(data=True):
        at = [attributes["process"]] if attributes["type"] == "PTE" else []
        for name, value in attributes.items():
            if value is not False and name not in ("type", "name", "label", "process", "changed", "violates"):
                found.setdefault(name, {})[",".join([*at, attributes["name"]])] = value
    return found


def _witness_nodes(trace: Trace, last: Graph) -> set[str]:
    """Nodes of the witness, in which a process and the page after it are a PTE.

    Where it names no PTE, those at which its references were taken belong to it.
    """
    found = set()
    owner = None
    for sort, number in trace.witness:
        name = trace.element(sort, number)
        if sort == "Page" and owner is not None:
            found.discard(_node_id("process", [owner]))
            found.add(_node_id("PTE", [owner, name]))
        elif (sort,) in NODE_TYPES:
            found.add(_node_id(NODE_TYPES[sort,], [name]))
        owner = name if sort == "Proc" else None
    if any(last.nodes[node]["type"] == "PTE" for node in found if node in last):
        return found
    taken = [last.nodes[node] for node in found if "pin_proc" in last.nodes.get(node, {})]
    return found | {_node_id("PTE", [a["pin_proc"], a["pin_page"]]) for a in taken if "pin_page" in a}


def _add_counts(graph: Graph) -> None:
    """page_mapcount and page_count of the frames, as the edges, the transient reference and migration's make them."""
    for node, attributes in graph.nodes(data=True):
        if attributes["type"] == "frame":
            edges = [e for _, _, e in graph.in_edges(node, data=True) if not e.get("pte_migration")]
            pins = sum(e.get("pin_foll_pin", False) for e in edges)
            attributes["mapcount"] = sum(e["type"] == "maps" for e in edges)
            held = attributes.get("extra", False) + attributes.get("migrating", False)
            attributes["page_count"] = len(edges) - pins + pins * _PIN_BIAS + held


def quiet_flags(graphs: Iterable[Graph]) -> Hidden:
    """The quiet flags that every entry in these graphs has, so that showing them says nothing."""
    entries = [a for graph in graphs for _, a in graph.nodes(data=True)]
    return frozenset(
        flag for flags in FLAGS.values() for flag in flags
        if flag.quiet and {a[flag.function] for a in entries if flag.function in a} == {flag.value}
    )


def flags_of(attributes: Attributes, hidden: Hidden) -> list[Flag]:
    """The flags that a node has, without the hidden ones."""
    return [
        flag for flag in FLAGS[attributes["type"]]
        if attributes.get(flag.function) is flag.value and flag not in hidden
    ]


def count_text(page_count: int) -> str:
    """`2+1024` for two plain references and a pin, as domain.md writes it."""
    pins, plain = divmod(page_count, _PIN_BIAS)
    return f"{plain}" + {0: "", 1: f"+{_PIN_BIAS}"}.get(pins, f"+{pins}*{_PIN_BIAS}")


def reference_kind(attributes: Attributes) -> str:
    """`pin(w)`, `get(r)`, of a reference; parts that the system does not have are left out."""
    kind = {True: "pin", False: "get"}.get(attributes.get("pin_foll_pin", ""), "ref")
    mode = {True: "(w)", False: "(r)"}.get(attributes.get("pin_write", ""), "")
    return kind + mode


def reference_words(attributes: Attributes) -> str:
    """`FOLL_PIN, write` of a reference."""
    kind = {True: "FOLL_PIN", False: "FOLL_GET"}.get(attributes.get("pin_foll_pin", ""), "reference")
    return kind + {True: ", write", False: ", read"}.get(attributes.get("pin_write", ""), "")


def _add_labels(graph: Graph, hidden: Hidden, one_page: bool) -> None:
    for _, attributes in graph.nodes(data=True):
        attributes["label"] = _node_label(attributes, [f.short for f in flags_of(attributes, hidden)], one_page)
    for _, _, attributes in graph.edges(data=True):
        attributes["label"] = _edge_label(attributes)


def _node_label(attributes: Attributes, flags: list[str], one_page: bool) -> str:
    name = attributes["name"]
    match attributes["type"]:
        case "PTE":
            place = attributes["process"] if one_page else f"{attributes['process']}[{name}]"
            return "+".join([f"{place}:{_entry(attributes)}", *flags])
        case "frame":
            content = [f"content {attributes['frame_value']}"] if "frame_value" in attributes else []
            counts = [f"mapcount {attributes['mapcount']}", f"count {count_text(attributes['page_count'])}"]
            return f"{name}: {', '.join([*content, *counts, *flags])}"
        case "reference":
            target = f"->{attributes['pin_frame']}" if "pin_frame" in attributes else ""
            taken = [f"by {attributes['pin_proc']}"] if "pin_proc" in attributes else []
            return " ".join([f"{name}:{reference_kind(attributes)}{target}", *taken, *flags])
        case "swap slot":
            if "slot_frame" in attributes:
                return f"swap cache {name}={attributes['slot_frame']}"
            return f"swap {name}" + (f": content {attributes['slot_value']}" if "slot_value" in attributes else "")
        case _:
            return " ".join([name, *flags])


def _entry(attributes: Attributes) -> str:
    """`P.W`, `P.R`, `migration(P.W)`, `swap(s0)` or `-`."""
    if "pte_frame" in attributes:
        mode = {True: ".W", False: ".R"}.get(attributes.get("pte_write", ""), "")
        named = f"{attributes['pte_frame']}{mode}"
        return f"migration({named})" if attributes.get("pte_migration") else named
    if attributes.get("pte_swap"):
        return f"swap({attributes['pte_slot']})" if "pte_slot" in attributes else "swap"
    return "present" if attributes.get("pte_present") else "-"


def _edge_label(attributes: Attributes) -> str:
    match attributes["type"]:
        case "maps":
            mode = {True: "rw", False: "ro"}.get(attributes.get("pte_write", ""), "maps")
            mode = f"migration, {mode}" if attributes.get("pte_migration") else mode
            return mode + ("+UW" if attributes.get("pte_uffd_wp") else "")
        case "swap":
            return "swap" + (", exclusive" if attributes.get("pte_swap_exclusive") else "")
        case "refers to":
            longterm = " longterm" if attributes.get("pin_longterm") else ""
            return reference_kind(attributes) + longterm + ("" if attributes.get("pin_attached", True) else " detached")
        case "taken by":
            return f"taken by, at {attributes['pin_page']}" if "pin_page" in attributes else "taken by"
        case _:
            return str(attributes["type"])
