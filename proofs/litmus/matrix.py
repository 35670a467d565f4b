"""Every litmus test of the suite and every case of cow.c on every kernel, beside what is published: docs/matrix.md."""

from __future__ import annotations

import hashlib
import itertools
import os
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.kernels import KERNELS
from model.logic import ModelError
from proofs.data import SUITE
from proofs.errors import Interrupted
from proofs.litmus import cow_selftest, execution, parser
from proofs.litmus.execution import Answer
from proofs.litmus.suite import named as tests_named
from proofs.naming.specs import find_kernel, system_of, with_features
from proofs.parallel import each_done, tell
from proofs.traces.picture import to_svg
from proofs.traces.text import first_sentence
from proofs.traces.trace import Trace

PICTURES = Path("pictures") / "matrix"
"""Where a document's pictures are, seen from its folder."""
MARKS = {
    Answer.ALLOWED: "B", Answer.BROKEN: "B", Answer.FORBIDDEN: ".", Answer.HOLDS: ".", Answer.UNKNOWN: "?",
}
MATRIX, VARIANTS, OTHER, COW = "matrix", "variants", "other", "cow: "
"""Groups of rows; COW is followed by an environment's name."""
LEGEND = (
    "B: the bad outcome can be reached; a dot: it cannot; ?: the model cannot say. B<5.12: on those kernels of the "
    "column. In parentheses: the published entry, where it is another; ~ is \"depends\" there, - \"not applicable\"."
)
OUT_OF_MODEL = (
    "cow.c's runs with hugetlb pages, of several sizes; shared hugetlb mappings, and files of hugetlbfs.",
    "F23's strace on a DAX private mapping: there are no PFN mappings.",
    "MADV_DONTFORK (cow.c's partially shared THP, cases 17 and 18): the child gets the rest too and unmaps it, or is "
    "gone. So the rest is read-only and not exclusive in the parent, where it would be as it was; by the rules every "
    "verdict is the same.",
    "Huge pages of files; THPs smaller than a PMD; swapping a THP as a whole: it goes to swap page by page.",
)
_SVG = "{http://www.w3.org/2000/svg}"
_STYLE = (
    "fill", "stroke", "stroke-width", "stroke-dasharray", "font-size", "font-family", "font-weight", "text-anchor",
)
_BATCH = 24
"""Tests of equal features in one piece of work: they share the systems that a worker builds."""


@dataclass(frozen=True)
class TestRow:
    """One test: what is expected of it and what is published.

    `group`: the part of the document in which it stands. `expected`: kernel to mark. `published`: column to entry, as
    far as there are any. `reason`: why they differ, or why it is as it is. `start`: operations that only prepare, which
    pictures leave out. `drawn_as`: another test whose pictures are shown for this one, as only its words differ.
    """

    name: str
    title: str
    group: str
    text: str
    expected: Mapping[str, str]
    published: Mapping[str, str]
    reason: str = ""
    start: tuple[str, ...] = ()
    drawn_as: str = ""


@dataclass(frozen=True)
class Suite:
    """`columns`: name to kernels. `reasons`: of a whole group of rows."""

    columns: Mapping[str, tuple[str, ...]]
    rows: tuple[TestRow, ...]
    reasons: Mapping[str, str]

    @property
    def kernels(self) -> tuple[str, ...]:
        return tuple(itertools.chain.from_iterable(self.columns.values()))


@dataclass(frozen=True)
class KernelAnswer:
    """What one kernel answers. `reason`: why it is UNKNOWN. `picture`: file name of its trace, empty without one."""

    answer: Answer
    reason: str = ""
    picture: str = ""

    @property
    def mark(self) -> str:
        return MARKS[self.answer]


@dataclass(frozen=True)
class MatrixAnswers:
    """Answers by (test, kernel), and the pictures that they name."""

    cells: Mapping[tuple[str, str], KernelAnswer]
    pictures: Mapping[str, str]

    def unexpected(self, suite: Suite) -> list[str]:
        """One line for each answer other than expected."""
        lines = []
        for row in suite.rows:
            for kernel, mark in row.expected.items():
                cell = self.cells[row.name, kernel]
                if cell.mark != mark:
                    why = f" ({cell.reason})" if cell.reason else ""
                    lines.append(f"{row.name}, {kernel}: {cell.answer}, but {mark} was expected{why}")
        return lines


# What is asked


def read_suite(folder: Path = SUITE) -> Suite:
    """A folder's litmus files with its expected.toml, and cow.c if there is a cow.toml. Raises ModelError."""
    data = _toml(folder / "expected.toml")
    cow = _toml(folder / "cow.toml") if (folder / "cow.toml").exists() else {"table": []}
    try:
        columns = {name: tuple(kernels) for name, kernels in data["columns"].items()}
        rows = (*_rows(folder, data, columns), *_cow_rows(cow, columns))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder} has no complete expectations: {type(error).__name__} {error}") from error
    reasons: dict[str, str] = {}
    for table in cow["table"]:
        for environment in table["environments"]:
            group = COW + environment
            reasons[group] = f"{reasons.get(group, '')} {table.get('reason', '')}".strip()
    return Suite(columns, rows, reasons)


def only(suite: Suite, words: Iterable[str]) -> Suite:
    """The rows of the tests with those names, or names that begin so. Raises LitmusError for a word that names none."""
    names = [row.name for row in suite.rows]
    wanted = {name for word in words for name in tests_named(word, names)}
    return replace(suite, rows=tuple(row for row in suite.rows if row.name in wanted))


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; --suite says where the tests are") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error


def _rows(folder: Path, data: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> Iterator[TestRow]:
    """The rows of the published matrix in its order, then the rest in the order of the table of answers."""
    published = data.get("matrix", {}).get("rows", {})
    for name in dict.fromkeys([*published, *data["answers"]]):
        path = folder / f"{name}.litmus"
        about = parser.read(path).about
        title, marks = published.get(name, ("", ""))
        variant = f"{name.partition('-')[0]} {about}" if name.startswith("F") else ""
        yield TestRow(
            name, title or variant or about, MATRIX if title else VARIANTS if variant else OTHER,
            path.read_text(encoding="utf-8"),
            _by_kernel(data["answers"][name], columns) | data.get("exceptions", {}).get(name, {}),
            _by_column(data["matrix"]["columns"], marks, columns) if title else {},
            data.get("reasons", {}).get(name, ""),
        )


def _cow_rows(cow: Mapping[str, Any], columns: Mapping[str, tuple[str, ...]]) -> Iterator[TestRow]:
    expected = {
        (case, environment): (marks, cow["published"].get(table.get("published", ""), {}).get(case, ""))
        for table in cow["table"] for environment in table["environments"] for case, marks in table["answers"].items()
    }
    for environment in cow_selftest.ENVIRONMENTS if expected else ():
        for case in cow_selftest.CASES:
            if environment in case.environments:
                marks, published = expected[case.key, environment.name]
                yield TestRow(
                    cow_selftest.name_of(case, environment), f"{case.number} {case.about}", COW + environment.name,
                    cow_selftest.text_of(case, environment), _by_kernel(marks, columns),
                    _by_column(cow["published"]["columns"], published, columns) if published else {},
                    start=environment.start,
                    # Without sub-steps GUP-fast is GUP.
                    drawn_as=cow_selftest.name_of(case.slow, environment) if case.slow else "",
                )


def _by_kernel(marks: str, columns: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    return {k: mark for mark, kernels in zip(marks.split(), columns.values(), strict=True) for k in kernels}


def _by_column(names: str, marks: str, columns: Iterable[str]) -> dict[str, str]:
    """Published entries by our columns: NW is that of NF and NS, the last X that of those after it too."""
    entries = dict(zip(names.split(), marks.split(), strict=True))
    stands_in = {"NF": ("NW",), "NS": ("NW",), "X3": ("X2",), "X4": ("X3", "X2")}
    found = {c: next((e for e in (c, *stands_in.get(c, ())) if e in entries), "") for c in columns}
    return {c: entries[e] for c, e in found.items() if e}


# Asking


def ask(
    suite: Suite, workers: int, pictures: bool, progress: Callable[[int, int], None] = lambda done, total: None
) -> MatrixAnswers:
    """What every kernel of the suite answers to every row. Raises Interrupted with the answers so far."""
    by_features: dict[frozenset[str], list[TestRow]] = {}
    for row in suite.rows:
        by_features.setdefault(parser.parse(row.text, row.name).features, []).append(row)
    jobs = [
        (tuple(rows[at:at + _BATCH]), suite.kernels, pictures)
        for rows in by_features.values() for at in range(0, len(rows), _BATCH)
    ]
    jobs.sort(key=lambda job: -len(job[0]))
    cells: dict[tuple[str, str], KernelAnswer] = {}
    drawn: dict[str, str] = {}

    def heard(answers: MatrixAnswers) -> None:
        cells.update(answers.cells)
        drawn.update(answers.pictures)
        progress(len(cells), len(suite.rows) * len(suite.kernels))

    try:
        for _ in each_done(_answer_all, jobs, workers, heard):
            pass
    except KeyboardInterrupt as error:
        raise Interrupted(MatrixAnswers(cells, drawn)) from error
    for row in suite.rows if pictures else ():
        for kernel in suite.kernels if row.drawn_as else ():
            cell, other = cells[row.name, kernel], cells[row.drawn_as, kernel]
            if cell.answer == other.answer:
                cells[row.name, kernel] = replace(cell, picture=other.picture)
    return MatrixAnswers(cells, drawn)


def answered(suite: Suite, found: MatrixAnswers) -> Suite:
    """The suite with those rows alone that every kernel was asked."""
    rows = (row for row in suite.rows if all((row.name, kernel) in found.cells for kernel in suite.kernels))
    return replace(suite, rows=tuple(rows))


def _answer_all(job: tuple[tuple[TestRow, ...], tuple[str, ...], bool]) -> None:
    """A worker's share: of each of some rows its cells on all kernels, and their pictures, are told."""
    rows, kernels, pictures = job
    for row in rows:
        cells: dict[tuple[str, str], KernelAnswer] = {}
        drawn: dict[str, str] = {}
        name, test = row.name, parser.parse(row.text, row.name)
        traces: dict[str, Trace] = {}
        for kernel in kernels:
            found = execution.answer(test, find_kernel(kernel), system_of(with_features(kernel, test.features)))
            cells[name, kernel] = KernelAnswer(found.answer, found.reason)
            if found.trace is not None:
                traces[kernel] = by_operation(after_each(row.start, found.trace))
        for shared, svg in _drawn(traces) if pictures and not row.drawn_as else ():
            file = f"{hashlib.sha256(svg.encode()).hexdigest()[:12]}.svg"
            drawn[file] = svg
            cells |= {(name, kernel): replace(cells[name, kernel], picture=file) for kernel in shared}
        tell(MatrixAnswers(cells, drawn))


# Pictures


@dataclass(frozen=True)
class _Operations(Trace):
    """A trace of which each step is what a statement did without a break, so that pictures have fewer panels."""

    labels: tuple[str, ...] = ()

    def label(self, number: int) -> str:
        return self.labels[number]


def after_each(start: Sequence[str], trace: Trace) -> Trace:
    """The trace without the steps of these first operations."""
    done = 0
    for statement in start:
        while done < len(trace.notes) and trace.notes[done] == statement:
            done += 1
    return replace(trace, steps=trace.steps[done:], states=trace.states[done:], notes=trace.notes[done:])


def by_operation(trace: Trace) -> Trace:
    """The trace with a state after each run of steps that belong to one statement."""
    runs = [[*run] for _, run in itertools.groupby(range(len(trace.steps)), lambda i: trace.notes[i])]

    def together(run: Sequence[int]) -> Any:
        rules = [trace.steps[i].rule for i in run]
        said = [*dict.fromkeys(first_sentence(rule.about).rstrip(".") for rule in rules)]
        said[1:] = [text[0].lower() + text[1:] if text[1].islower() else text for text in said[1:]]
        where = dict.fromkeys(rule.kernel_function for rule in rules)
        return replace(trace.steps[run[-1]], rule=replace(
            rules[-1], about="; ".join(said) + ".", kernel_function=", ".join(where)
        ))

    return _Operations(
        trace.kernel, trace.claim, trace.statement, trace.system, trace.scope, trace.names,
        tuple(together(run) for run in runs), (trace.states[0], *(trace.states[run[-1] + 1] for run in runs)),
        trace.witness, tuple(trace.notes[run[0]] for run in runs), trace.reachable, trace.without, trace.formula,
        trace.verdict,
        tuple(", ".join(trace.label(i) for i in run) for run in runs),
    )


def _drawn(traces: Mapping[str, Trace]) -> Iterator[tuple[list[str], str]]:
    """Each different picture of one test's traces, with the kernels that have it; they are named in it."""
    alike: dict[str, list[str]] = {}
    known: dict[Any, str] = {}
    for kernel, trace in traces.items():
        unnamed = replace(trace, kernel="")
        if (key := _what_is_drawn(unnamed)) not in known:
            known[key] = to_svg(unnamed)
        alike.setdefault(known[key], []).append(kernel)
    table = [k.name for k in KERNELS]
    for kernels in alike.values():
        shown = min(kernels, key=lambda k: table.index(k) if k in table else len(table))
        others = [k for k in kernels if k != shown]
        trace = replace(traces[shown], kernel=shown)
        if others:
            trace = replace(trace, statement=f"{trace.statement}. The same on {', '.join(others)}")
        yield kernels, smaller(to_svg(trace))


def _what_is_drawn(trace: Trace) -> Any:
    """All of the trace on which its picture depends: it draws cells that mean something, and no rule's terms."""
    return (
        trace.kernel, trace.claim, trace.statement, trace.verdict, trace.reachable, trace.system.functions, trace.scope,
        tuple(trace.names.items()), trace.states, trace.witness, trace.notes,
        tuple((trace.label(n), s.rule.about, s.rule.kernel_function) for n, s in enumerate(trace.steps)),
    )


def smaller(svg: str) -> str:
    """The same picture in half the bytes: looks are said once, in a style sheet, as these files are not inlined."""
    root = ET.fromstring(svg)
    classes: dict[str, str] = {}
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.text, element.tail = (t if t and t.strip() else None for t in (element.text, element.tail))
        style = ";".join(
            f"{name}:{element.attrib.pop(name)}{'px' * (name == 'font-size')}"
            for name in _STYLE if name in element.attrib
        )
        if style:
            element.set("class", classes.setdefault(style, f"c{len(classes)}"))
    sheet = ET.Element("style")
    sheet.text = "".join(f".{name}{{{style}}}" for style, name in classes.items())
    root.insert(0, sheet)
    root.set("xmlns", _SVG.strip("{}"))
    return ET.tostring(root, encoding="unicode").replace(" />", "/>") + "\n"


# Showing


def spread(kernels: Sequence[str], cells: Mapping[str, KernelAnswer]) -> str:
    """A column's mark: one for all its kernels, or for which of them it is B."""
    marks = [cells[k].mark for k in kernels]
    if len(set(marks)) == 1:
        return marks[0]
    bad = [k for k in kernels if cells[k].mark == "B"]
    named = [k.removeprefix("v") for k in kernels]
    if bad == [*kernels[:len(bad)]]:
        return f"B<{named[len(bad)]}"
    if bad == [*kernels[-len(bad):]]:
        return f"B≥{named[-len(bad)]}"
    return "B " + ", ".join(k.removeprefix("v") for k in bad)


def _cells(row: TestRow, suite: Suite, found: MatrixAnswers, linked: bool) -> Iterator[str]:
    """The row's entries in the suite's columns, with the published ones where they are others."""
    for column, kernels in suite.columns.items():
        cells = {k: found.cells[row.name, k] for k in kernels}
        mark = spread(kernels, cells)
        said = row.published.get(column, mark)
        pictures = [cell.picture for cell in cells.values() if cell.picture]
        shown = f"[{mark}]({PICTURES / pictures[0]})" if linked and pictures else mark
        yield shown + (f" ({said})" if said != mark else "")


def _groups(suite: Suite) -> Iterator[tuple[str, str, list[TestRow]]]:
    """(group, heading, its rows)."""
    environments = {COW + e.name: e.about for e in cow_selftest.ENVIRONMENTS}
    headings = {
        MATRIX: "The failures of the matrix", VARIANTS: "Their variants, and the failures without a row there",
        OTHER: "Tracking, refusals, and what every kernel must keep",
    } | {group: f"cow.c with {about}" for group, about in environments.items()}
    for group, rows in itertools.groupby(suite.rows, lambda row: row.group):
        yield group, headings[group], [*rows]


def to_text(suite: Suite, found: MatrixAnswers) -> str:
    """All tables for a terminal."""
    lines = [f"{name:3} {', '.join(kernels)}" for name, kernels in suite.columns.items()]
    for _, heading, rows in _groups(suite):
        table = [[heading, *suite.columns], *([row.title, *_cells(row, suite, found, False)] for row in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines.append("")
        lines += ["  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*lines, "", LEGEND]) + "\n"


def to_markdown(suite: Suite, found: MatrixAnswers, tests: str) -> str:
    """The document; `tests` is the path from its folder to the suite's."""
    lines = [
        "# Every failure on every kernel",
        "",
        "What the checker answers to each litmus test. `python -m proofs matrix --out docs/matrix.md` makes this page.",
        "The rows and the published entries of the first table are those of domain.md 3.1, those of cow.c of its 6.4.",
        f"[expected.toml]({tests}/expected.toml) and [cow.toml]({tests}/cow.toml) say what was expected. Each B leads",
        "to a picture of a shortest trace, with a state after each operation.",
        "",
        LEGEND,
        "",
        "| column | kernels |", "| --- | --- |",
        *(f"| {name} | {', '.join(kernels)} |" for name, kernels in suite.columns.items()),
    ]
    for group, heading, rows in _groups(suite):
        lines += ["", f"## {heading}", ""]
        if suite.reasons.get(group):
            lines += [suite.reasons[group], ""]
        lines += [f"| | {' | '.join(suite.columns)} |", "|" + " --- |" * (len(suite.columns) + 1)]
        reasons: list[str] = []
        for row in rows:
            name = row.title if group.startswith(COW) else f"[{row.title}]({tests}/{row.name}.litmus)"
            if row.reason:
                reasons += [row.reason] if row.reason not in reasons else []
                name += f" ({reasons.index(row.reason) + 1})"
            lines.append(f"| {name} | {' | '.join(_cells(row, suite, found, True))} |")
        lines += ["", *(f"{number}. {reason}" for number, reason in enumerate(reasons, 1))] if reasons else []
    lines += ["", "## Not in the model", "", *(f"* {item}" for item in OUT_OF_MODEL)]
    return "\n".join(lines) + "\n"


def to_json(suite: Suite, found: MatrixAnswers) -> dict[str, Any]:
    """All answers, with what was expected."""
    return {
        "schema": 1,
        "columns": {name: list(kernels) for name, kernels in suite.columns.items()},
        "results": [
            {
                "litmus": row.name, "about": row.title, "group": row.group, "kernel": kernel,
                "answer": str(found.cells[row.name, kernel].answer), "mark": found.cells[row.name, kernel].mark,
                "expected": row.expected[kernel], "published": row.published.get(column), "reason": row.reason,
            }
            for row in suite.rows for column, kernels in suite.columns.items() for kernel in kernels
        ],
    }


def write(suite: Suite, found: MatrixAnswers, out: Path, folder: Path) -> None:
    """The document `out` and its pictures; pictures of an earlier one go. Raises OSError."""
    pictures = out.parent / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    for old in pictures.glob("*.svg"):
        if old.name not in found.pictures:
            old.unlink()
    for name, svg in found.pictures.items():
        (pictures / name).write_text(svg, encoding="utf-8")
    tests = Path(os.path.relpath(folder.resolve(), out.parent.resolve())).as_posix()
    out.write_text(to_markdown(suite, found, tests), encoding="utf-8")


def write_suite(suite: Suite, folder: Path) -> list[Path]:
    """Every test as a file. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for row in suite.rows:
        paths.append(folder / f"{row.name}.litmus")
        paths[-1].write_text(row.text, encoding="utf-8")
    return paths
