"""A whole trace as one graph, and as GraphML, DOT and Mermaid."""

from __future__ import annotations

from typing import Any

from proofs.traces.graph import Attributes, Graph, new_graph, state_graphs
from proofs.traces.trace import Trace

# The whole trace

def trace_graph(trace: Trace, contents: bool = False) -> Graph:
    """The states in a line; the edges are the steps, with the rule, its arguments and the kernel function.

    `contents`: with the nodes and edges of each state's graph, under ids such as `3/frame P`; their attribute `state`
    says whose they are.
    """
    graph = new_graph(kernel=trace.kernel, claim=trace.claim, statement=trace.statement)
    for number, shown in enumerate(state_graphs(trace)):
        items = [a["label"] for _, a in shown.nodes(data=True) if a["type"] in ("PTE", "reference", "swap slot")]
        violated = any(a["violates"] for _, a in shown.nodes(data=True))
        graph.add_node(str(number), type="state", state=number, label="; ".join(items), changed=False,
                       violates=violated)
        if contents:
            graph.add_nodes_from((f"{number}/{node}", {**a, "state": number}) for node, a in shown.nodes(data=True))
            for source, target, attributes in shown.edges(data=True):
                _add_edge(graph, f"{number}/{source}", f"{number}/{target}", state=number, **attributes)
    for number, step in enumerate(trace.steps):
        arguments = {f"argument_{name}": value for name, value in trace.arguments(number).items()}
        _add_edge(
            graph, str(number), str(number + 1), type="step", label=trace.label(number), rule=step.rule.name,
            kernel_function=step.rule.kernel_function, **arguments,
        )
    return graph


def _add_edge(graph: Graph, source: str, target: str, **attributes: Any) -> None:
    """GraphML wants an id of its own for every edge."""
    graph.add_edge(source, target, key=f"e{graph.number_of_edges()}", **attributes)


def to_graphml(trace: Trace) -> str:
    """The trace's graph, with the contents of its states, as GraphML."""
    import networkx as nx  # noqa: PLC0415  as in _new_graph

    return "\n".join(nx.generate_graphml(trace_graph(trace, contents=True))) + "\n"


def heading(trace: Trace, number: int) -> str:
    """`3 munmap(p=C, v=x)`: what led to the state; `0 start` for the first."""
    return f"{number} {trace.label(number - 1) if number else 'start'}"


_SHAPES = {"process": "box", "PTE": "component", "frame": "box3d", "reference": "cds", "swap slot": "cylinder"}
_DOT_EDGES = {
    "maps": "style=dashed", "swap": "style=dotted, color=steelblue", "refers to": "color=purple, arrowhead=dot",
    "taken by": "color=gray, arrowhead=none, constraint=false", "swap cache": "style=dotted, color=steelblue",
    "owns": "arrowhead=none, color=gray",
}


def to_dot(trace: Trace) -> str:
    """The trace for graphviz: a cluster for each state; changed elements are orange and starred, the witness is red."""
    clusters = []
    for number, graph in enumerate(state_graphs(trace)):
        function = trace.steps[number - 1].rule.kernel_function if number else ""
        lines = [
            f"  subgraph cluster_{number} {{",
            f"    label={_quoted(heading(trace, number) + chr(10) + function)}; labeljust=l; color=gray;",
            f"    {number} [label={number}, shape=circle];",
        ]
        for node, a in graph.nodes(data=True):
            width = ", penwidth=3" if a["violates"] else ""
            style = f"{_dot_mark(a)}, shape={_SHAPES[a['type']]}{width}"
            lines.append(f"    {_quoted(f'{number}/{node}')} [{style}];")
        for source, target, a in graph.edges(data=True):
            style = "penwidth=3" if a.get("pte_write") else _DOT_EDGES[a["type"]]
            ends = f"{_quoted(f'{number}/{source}')} -> {_quoted(f'{number}/{target}')}"
            lines.append(f"    {ends} [{style}, {_dot_mark(a)}];")
        clusters.append("\n".join([*lines, "  }"]))
    return "\n".join([
        f"digraph {_quoted(f'{trace.claim} on {trace.kernel}')} {{",
        "  rankdir=LR; fontname=sans; node [fontname=sans, fontsize=11]; edge [fontname=sans, fontsize=10];",
        # dot draws the last cluster on top.
        *reversed(clusters),
        *(f"  {number} -> {number + 1} [constraint=false];" for number in range(len(trace.steps))),
        f"  label={_quoted(f'{trace.claim}: {trace.statement}')}; labelloc=b;", "}",
    ]) + "\n"


def _dot_mark(attributes: Attributes) -> str:
    label = "" if attributes["type"] == "owns" else attributes["label"]
    if attributes["violates"]:
        return f"label={_quoted(f'{label} !')}, color=red, fontcolor=red"
    if attributes["changed"]:
        return f"label={_quoted(f'{label} *')}, color=darkorange, fontcolor=darkorange4"
    return f"label={_quoted(label)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_mermaid(trace: Trace) -> str:
    """The trace as a Mermaid flowchart: a subgraph for each state."""
    lines = [
        "flowchart LR", "  classDef changed stroke:#b26a00,stroke-width:3px",
        "  classDef violates stroke:#c81e1e,stroke-width:4px,stroke-dasharray:6 2",
    ]
    for number, graph in enumerate(state_graphs(trace)):
        names = {node: f"n{number}_{i}" for i, node in enumerate(graph)}
        lines.append(f"  subgraph state{number}[{_mermaid_text(heading(trace, number))}]")
        for node, a in graph.nodes(data=True):
            mark = ":::violates" if a["violates"] else ":::changed" if a["changed"] else ""
            lines.append(f"    {names[node]}[{_mermaid_text(a['label'])}]{mark}")
        for source, target, a in graph.edges(data=True):
            if a["type"] == "owns":
                arrow = "---"
            else:
                line = "==>" if a.get("pte_write") else "-.->" if a["type"] == "maps" else "-->"
                arrow = f"{line}|{_mermaid_text(a['label'])}|"
            lines.append(f"    {names[source]} {arrow} {names[target]}")
        lines.append("  end")
    lines += [f"  state{number} --> state{number + 1}" for number in range(len(trace.steps))]
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    escaped = text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
    return f'"{" ".join(escaped.split())}"'
