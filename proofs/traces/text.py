"""A trace as a plain-text table for terminals and mail, in the notation of domain.md section 3."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable

from proofs.traces.graph import FLAGS, GONE, Attributes, Graph, Hidden, quiet_flags, reference_words, state_graphs
from proofs.traces.trace import Trace
from proofs.words import MAIL, wrapped

WIDTH, NARROWEST = 100, 60
_NUMBER = 4
_ORDER = ("process", "PTE", "frame", "reference", "swap slot")


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line."""
    flat = " ".join(text.split())
    end = flat.find(". ")
    return flat if end < 0 else flat[: end + 1]


def step_words(trace: Trace, number: int) -> list[str]:
    """What happened in step `number` (from 1): the note if there is one, then the rule's meaning."""
    note = trace.notes[number - 1] if trace.notes else ""
    return [words for words in (note, first_sentence(trace.steps[number - 1].rule.about)) if words]


def closing_words(trace: Trace, last: Graph) -> tuple[str, str, str]:
    """What the last state shows: heading, the claim in words, what breaks it (empty for a trace without witness)."""
    statement = trace.statement.rstrip(".") + "."
    if trace.verdict:
        caught = "; ".join(_in_words(a) for _, a in last.nodes(data=True) if a["violates"])
        heading = f"{trace.claim} on {trace.kernel}: {trace.verdict}"
        return heading, f"It ends in: {statement}", f"That is about: {caught}." if caught else ""
    if not trace.witness:
        return f"{trace.claim} on {trace.kernel}", statement, ""
    if not trace.reachable:
        return (
            f"{trace.claim} on {trace.kernel}: a counterexample to induction, its first state need not be reachable",
            f"To prove: {statement}", "",
        )
    broken = "; ".join(_in_words(a) for _, a in last.nodes(data=True) if a["violates"])
    return f"{trace.claim} is violated on {trace.kernel}", f"Claimed: {statement}", f"Here: {broken}."


def _in_words(attributes: Attributes) -> str:
    name = attributes["name"]
    match attributes["type"]:
        case "PTE":
            place = f"the PTE of {attributes['process']} at {name}"
            if "pte_frame" in attributes:
                mode = {True: ", writable", False: ", read-only"}.get(attributes.get("pte_write", ""), "")
                return f"{place} maps {attributes['pte_frame']}{mode}"
            entry = f"a swap entry for {attributes['pte_slot']}" if "pte_slot" in attributes else "empty"
            return f"{place} is {entry}"
        case "reference":
            target = f" to {attributes['pin_frame']}" if "pin_frame" in attributes else ""
            taken = f", taken by {attributes['pin_proc']}" if "pin_proc" in attributes else ""
            return f"{name} is a reference{target} ({reference_words(attributes)}{taken})"
        case _:
            return str(attributes["label"])


def to_table(trace: Trace, width: int = WIDTH) -> str:
    """The trace as text of at most that many columns, though no fewer than NARROWEST: each step and the state after it,
    then the claim and what breaks it."""
    width = max(width, NARROWEST)
    column = (width - _NUMBER) * 12 // 25
    graphs = state_graphs(trace)
    heading, statement, broken = closing_words(trace, graphs[-1])
    rule = "-" * width
    lines = [*_wrap(heading, width), "", _columns("#", "step", "   state after it", column), rule]
    for number, graph in enumerate(graphs):
        right = [
            line for item in state_lines(graph, graphs[max(number - 1, 0)])
            for line in _wrap(item, width - _NUMBER - column, "     ")
        ]
        rows = itertools.zip_longest([str(number)], _step_lines(trace, number, column), right, fillvalue="")
        lines += [_columns(*row, column) for row in rows]
        lines.append(rule)
    for words in (heading, statement, broken):
        lines += _wrap(words, width)
    marks = f"> changed, - gone, ! {trace.marked}; "
    lines += ["", *_wrap(marks + notation(graphs), width, "")]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def steps_as_list(trace: Trace) -> list[str]:
    """The steps as a numbered list in Markdown, in the lines of a mail."""
    steps = (
        f"{i}. `{trace.label(i - 1)}` {' '.join(step_words(trace, i))} ({step.rule.kernel_function})"
        for i, step in enumerate(trace.steps, 1)
    )
    return [line for step in steps for line in wrapped(step, MAIL, then="   ")]


def to_markdown(trace: Trace) -> str:
    """The trace as Markdown for mail and pull requests: the claim, the steps, and what breaks it. Only a heading may be
    wider than a mail."""
    heading, statement, broken = closing_words(trace, state_graphs(trace)[-1])
    claim, here = ("\n".join(wrapped(words, MAIL)) for words in (statement, broken))
    parts = [f"### {heading}", claim, "\n".join(steps_as_list(trace)), here]
    return "\n\n".join(filter(None, parts)) + "\n"


def _wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def _columns(number: str, step: str, state: str, column: int) -> str:
    return f"{number:<{_NUMBER}}{step:<{column}}{state}"


def _step_lines(trace: Trace, number: int, column: int) -> list[str]:
    if not number:
        return ["start"]
    step = trace.steps[number - 1]
    parts = [trace.label(number - 1), *step_words(trace, number), f"[{step.rule.kernel_function}]"]
    return [line for part in parts for line in _wrap(part, column - 2)]


def state_lines(graph: Graph, before: Graph) -> list[str]:
    """The state, one line for each thing in use: `!` breaks the claim, `>` changed, `-` gone since `before`."""
    lines: list[tuple[int, str]] = []
    for _, attributes in graph.nodes(data=True):
        kind = attributes["type"]
        marks = ("!" if attributes["violates"] else " ") + (">" if attributes["changed"] else " ")
        # A process without flags says nothing that its PTEs don't say.
        if kind != "process" or attributes["label"] != attributes["name"] or attributes["violates"]:
            lines.append((_ORDER.index(kind), f"{marks} {attributes['label']}"))
    for node, attributes in before.nodes(data=True):
        if node not in graph:
            kind = attributes["type"]
            place = attributes["label"].partition(":")[0] if kind == "PTE" else attributes["name"]
            lines.append((_ORDER.index(kind), f" - {place}: {GONE[kind]}"))
    return [text for _, text in sorted(lines, key=lambda line: line[0])]


def notation(graphs: Iterable[Graph]) -> str:
    """What in the lines of these states is not said in words, on one line."""
    entries = [a for graph in graphs for _, a in graph.nodes(data=True)]
    hidden: Hidden = quiet_flags(graphs)
    used = [
        flag for flags in FLAGS.values() for flag in flags
        if flag not in hidden and any(a.get(flag.function) is flag.value for a in entries)
    ]
    words = [f"+{flag.short} {flag.words}" for flag in used if flag.short != flag.words]
    parts = [".W writable, .R read-only", ", ".join(words)]
    if any(a.get("pin_foll_pin") for a in entries):
        parts.append("count +1024 for a FOLL_PIN")
    if hidden:
        parts.append(f"not shown, as true throughout: {', '.join(sorted(flag.words for flag in hidden))}")
    return "; ".join(part for part in parts if part) + "."
