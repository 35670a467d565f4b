"""Verdicts for machines that build and review: JUnit XML, SARIF 2.1.0, and Markdown for mail and pull requests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from proofs.check.cells import LEGEND, Cell, Table, mark, trace_of
from proofs.naming.specs import find_invariant
from proofs.traces.text import step_words, steps_as_list, to_table
from proofs.traces.trace import Trace
from proofs.words import MAIL, wrapped

SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
PROGRAM = "cow-proofs"


@dataclass(frozen=True)
class BuildOutcome:
    """A cell and what a build makes of it. `failure`: why it fails the build, empty if it does not. `open`: it is not
    decided, which is no success. `trace`: the counterexample, of a violated cell."""

    table: str
    cell: Cell
    failure: str
    open: bool
    trace: Trace | None

    @property
    def suite(self) -> str:
        """The kernel, with the configuration that asked."""
        return f"{self.table}/{self.cell.kernel}" if self.table else self.cell.kernel


def outcome(cell: Cell, table: Table, unexpected: str | None, partial: bool) -> BuildOutcome:
    """What a build makes of a cell of the table.

    `unexpected`: the line that says that it is not as expected. `partial`: nothing is expected, a violation fails.
    """
    violated = cell.verdict == "VIOLATED"
    statement = f"violated in {cell.length} steps: {find_invariant(cell.invariant).statement}" if violated else ""
    trace = trace_of(cell, table.scope) if violated else None
    failure = unexpected or (statement if partial else "")
    return BuildOutcome(table.name, cell, failure, cell.verdict in ("UNKNOWN", "BOUNDED"), trace)


def _verdict(cell: Cell) -> str:
    """The verdict with its evidence, in one line."""
    evidence = {
        "VIOLATED": f"in {cell.length} steps" + (f", {cell.trace}" if cell.trace else ""),
        "PROVED": f"by {cell.clauses} clauses, {cell.certificate}",
        "EXHAUSTED": f"{cell.states:,} states" if cell.states else "",
        "BOUNDED": f"to {cell.depth} steps",
    }.get(cell.verdict, "")
    return ": ".join(filter(None, (f"{cell.verdict} {evidence}".strip(), cell.note)))


def to_junit(outcomes: Sequence[BuildOutcome]) -> str:
    """JUnit XML: a suite for each kernel, a case for each invariant. What is not decided is an error."""
    root = ElementTree.Element("testsuites", name=PROGRAM)
    suites: dict[str, list[BuildOutcome]] = {}
    for each in outcomes:
        suites.setdefault(each.suite, []).append(each)
    for name, members in suites.items():
        suite = ElementTree.SubElement(
            root, "testsuite", name=name, tests=str(len(members)), skipped="0",
            failures=str(sum(bool(o.failure) for o in members)),
            errors=str(sum(o.open and not o.failure for o in members)),
            time=f"{sum(o.cell.seconds for o in members):.3f}",
        )
        for each in members:
            cell = each.cell
            case = ElementTree.SubElement(
                suite, "testcase", classname=name, name=cell.invariant, time=f"{cell.seconds:.3f}"
            )
            if each.failure:
                failure = ElementTree.SubElement(case, "failure", type=cell.verdict, message=each.failure)
                failure.text = to_table(each.trace) if each.trace is not None else _verdict(cell)
            elif each.open:
                ElementTree.SubElement(case, "error", type=cell.verdict, message=cell.note or _verdict(cell))
            ElementTree.SubElement(case, "system-out").text = _verdict(cell)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _location(kernel: str, uri: str) -> dict[str, Any]:
    """Where a violation is: the user's file, if the kernel is in one, else the trace."""
    path, separator, _ = kernel.rpartition(".py:")
    return {
        "physicalLocation": {"artifactLocation": {"uri": f"{path}.py" if separator else uri}},
        "logicalLocations": [{"fullyQualifiedName": kernel, "kind": "module"}],
    }


def _flow(trace: Trace) -> dict[str, Any]:
    """The steps of a trace as a code flow; each is in a function of the kernel."""
    return {"threadFlows": [{"locations": [
        {"location": {
            "message": {"text": f"{trace.label(i)}: {' '.join(step_words(trace, i + 1))}"},
            "logicalLocations": [{"fullyQualifiedName": step.rule.kernel_function, "kind": "function"}],
        }}
        for i, step in enumerate(trace.steps)
    ]}]}


def to_sarif(outcomes: Sequence[BuildOutcome]) -> str:
    """SARIF: a result for each violated cell, an error if it fails the build, else a note; and one for each that
    is open."""
    names = list(dict.fromkeys(o.cell.invariant for o in outcomes))
    results = []
    for each in outcomes:
        cell = each.cell
        if not (each.failure or each.open or each.trace is not None):
            continue
        # A level other than none is for what failed.
        kind, level = ("fail", "error") if each.failure else ("open", "none") if each.open else ("fail", "note")
        results.append({
            "ruleId": cell.invariant, "ruleIndex": names.index(cell.invariant), "kind": kind, "level": level,
            "message": {"text": f"{cell.kernel}: {each.failure or _verdict(cell)}"},
            "locations": [_location(cell.kernel, cell.trace or "proofs-out")],
            **({"codeFlows": [_flow(each.trace)]} if each.trace is not None else {}),
        })
    rules = [{"id": name, "shortDescription": {"text": find_invariant(name).statement},
              "help": {"text": find_invariant(name).source}} for name in names]
    return json.dumps({
        "$schema": SARIF_SCHEMA, "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": PROGRAM, "rules": rules}}, "results": results}],
    }, indent=1, ensure_ascii=False) + "\n"


def to_markdown(outcomes: Sequence[BuildOutcome]) -> str:
    """Tables of verdicts, and the steps of each counterexample that fails the build.

    Lines are those of a mail, but for headings and for names that are wider.
    """
    lines = [*_tables(outcomes), ""]
    verdicts = {o.cell.verdict for o in outcomes}
    for verdict, meaning in LEGEND.items():
        lines += wrapped(f"* {meaning}", MAIL, then="  ") if verdict in verdicts else []
    for each in outcomes:
        if each.failure:
            lines += ["", f"### {each.cell.invariant} on {each.suite}", "", *wrapped(_upper(each.failure), MAIL)]
            if each.trace is not None:
                lines += ["", *steps_as_list(each.trace)]
        elif each.open:
            open_ = f"{each.cell.invariant} on {each.suite} is not decided: {_verdict(each.cell)}"
            lines += ["", *wrapped(open_, MAIL)]
    return "\n".join(lines) + "\n"


def _tables(outcomes: Sequence[BuildOutcome]) -> Iterator[str]:
    """A row for each invariant, a column for each kernel; where that is too wide, one table below the other."""
    names = list(dict.fromkeys(o.cell.invariant for o in outcomes))
    marks = {(o.suite, o.cell.invariant): mark(o.cell) for o in outcomes}
    columns: dict[str, list[str]] = {"": names}
    for suite in dict.fromkeys(o.suite for o in outcomes):
        columns[suite] = [marks.get((suite, name), "n/a") for name in names]
    tables: list[list[str]] = [[""]]
    for suite in list(columns)[1:]:
        wide = sum(max(map(len, (head, *columns[head]))) + 3 for head in (*tables[-1], suite)) + 1
        if wide > MAIL and len(tables[-1]) > 1:
            tables.append([""])
        tables[-1].append(suite)
    for number, heads in enumerate(tables):
        if number:
            yield ""
        yield f"| {' | '.join(map(_cell, heads))} |"
        yield "| --- " * len(heads) + "|"
        for row in zip(*(columns[head] for head in heads), strict=True):
            yield f"| {' | '.join(row)} |"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
