"""Lattices of restrictions as text, JSON, DOT and Mermaid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from proofs.restrict.lattice import INSUFFICIENT, SUFFICIENT, Corner, Decided, Names


def to_json(base: str, name: str, found: Sequence[Corner]) -> dict[str, Any]:
    """What `restrict --json` prints."""
    return {
        "schema": 1, "base": base, "invariant": name,
        "minimal_sufficient": [
            {"restrictions": list(d.restrictions), "variants": list(c.variants), "certificate": d.evidence}
            for c in found for d in c.minimal_sufficient
        ],
        "maximal_insufficient": [
            {"restrictions": list(d.restrictions), "variants": list(c.variants), "trace": d.evidence,
             "length": d.length}
            for c in found for d in c.maximal_insufficient
        ],
        "undecided": [
            {"restrictions": list(d.restrictions), "variants": list(c.variants), "reason": d.note}
            for c in found for d in c.undecided
        ],
        "monotone": not any(c.exceptions for c in found),
        "exceptions": [
            {"variants": list(c.variants), "sufficient": list(a), "insufficient": list(b)}
            for c in found for a, b in c.exceptions
        ],
    }


def to_text(found: Sequence[Corner]) -> list[str]:
    """The lattices as lines of a table: for each set of variants its outermost sets, proved or violated."""
    lines = []
    for corner in found:
        lines += ["", f"Variants: {', '.join(corner.variants) or 'none'}"]
        for d in corner.minimal_sufficient:
            lines.append(f"  enough      {', '.join(d.restrictions) or 'nothing: no restriction is needed'} (PROVED)")
        if not corner.minimal_sufficient:
            lines.append("  enough      no set of these restrictions")
        for d in corner.maximal_insufficient:
            lines.append(f"  not enough  {_but(d.restrictions, corner)} (VIOLATED in {d.length} steps)")
        lines += [f"  undecided   {_but(d.restrictions, corner)}: {d.note}" for d in corner.undecided]
        lines += [f"  not monotone: {', '.join(a)} is enough, {', '.join(b)} is not" for a, b in corner.exceptions]
        if corner.minimal_sufficient and corner.minimal_sufficient[0].restrictions and not corner.undecided:
            lines += [f"  {name:20} {_role(name, corner)}" for name in corner.offered]
    return lines


def _but(names: Names, corner: Corner) -> str:
    """A set by what it lacks."""
    missing = [name for name in corner.offered if name not in names]
    return f"all but {', '.join(missing)}" if missing else "all of them"


def _role(name: str, corner: Corner) -> str:
    """What one restriction does: enough alone, and in how many of the minimal sets."""
    sets = [d.restrictions for d in corner.minimal_sufficient]
    alone = "enough" if any(set(s) <= {name} for s in sets) else "not enough"
    member = [name in s for s in sets]
    part = "in every minimal set: necessary" if all(member) else "in some minimal set" if any(member) else "not needed"
    return f"alone {alone}, {part}"


def graph(found: Sequence[Corner]) -> Any:
    """The boundary of each lattice: nothing, everything, the minimal sufficient and the maximal insufficient sets; an
    edge from a set to a next larger one of them. Nodes have `variants`, `label`, `verdict`, `length` (0: not asked)."""
    import networkx as nx  # noqa: PLC0415  it takes a while to load

    diagram = nx.DiGraph()
    for corner in found:
        sets = {}
        enough = {d.restrictions for d in corner.minimal_sufficient}
        ends = (Decided((), SUFFICIENT if () in enough else INSUFFICIENT),
                Decided(corner.offered, SUFFICIENT if enough else INSUFFICIENT))
        # What is known of an end as one of the outermost sets comes later, and replaces it.
        for d in (*ends, *corner.minimal_sufficient, *corner.maximal_insufficient):
            node = " ".join((*d.restrictions, "|", *corner.variants))
            sets[node] = frozenset(d.restrictions)
            diagram.add_node(
                node, label=_label(d.restrictions, corner), variants=", ".join(corner.variants),
                verdict=d.verdict, length=d.length or 0,
            )
        order = nx.DiGraph([(a, b) for a, b in itertools.permutations(sets, 2) if sets[a] < sets[b]])
        diagram.add_edges_from(nx.transitive_reduction(order).edges)
    return diagram


def _label(names: Names, corner: Corner) -> str:
    return "everything" if names == corner.offered else ", ".join(names) or "nothing"


def to_dot(found: Sequence[Corner]) -> str:
    """The graph for graphviz: a cluster for each set of variants, sufficient sets green, insufficient ones red."""
    diagram = graph(found)
    lines = ["digraph restrictions {", "  rankdir=BT; node [shape=box, style=filled, fontname=sans];"]
    for number, variants in enumerate(dict.fromkeys(data["variants"] for _, data in diagram.nodes(data=True))):
        lines += [f"  subgraph cluster{number} {{", f'    label="variants: {variants or "none"}";']
        for node, data in diagram.nodes(data=True):
            if data["variants"] == variants:
                colour = "palegreen" if data["verdict"] == SUFFICIENT else "mistyrose"
                words = "\\n".join(_node_words(data))
                lines.append(f'    "{node}" [label="{words}", fillcolor={colour}];')
        lines.append("  }")
    lines += [f'  "{a}" -> "{b}";' for a, b in diagram.edges]
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(found: Sequence[Corner]) -> str:
    """The graph for Markdown, as `to_dot` has it."""
    diagram = graph(found)
    number = {node: f"n{i}" for i, node in enumerate(diagram)}
    lines = ["flowchart BT"]
    for node, data in diagram.nodes(data=True):
        lines.append(f'  {number[node]}["{"<br>".join(_node_words(data))}"]:::{data["verdict"]}')
    lines += [f"  {number[a]} --> {number[b]}" for a, b in diagram.edges]
    lines += ["  classDef sufficient fill:#d5f5d5,color:#000", "  classDef insufficient fill:#fbe0e0,color:#000"]
    return "\n".join(lines) + "\n"


def _node_words(data: dict[str, Any]) -> list[str]:
    variants = [f"with {data['variants']}"] if data["variants"] else []
    steps = f" in {data['length']} steps" if data["length"] else ""
    shown = "PROVED" if data["verdict"] == SUFFICIENT else f"VIOLATED{steps}"
    return [*data["label"].split(", "), *variants, shown]
