"""The report of a run of `check`: a few files that a browser shows without a network.

`index.html` has the tables of verdicts, and behind each verdict its counterexample or proof; `litmus.html` the litmus
tests. What the pages show is JSON inside them; the drawing, the words and the notation are those of `show`.
"""

from __future__ import annotations

import html
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from invariants import Invariant
from model.kernels import Kernel, own_operations
from model.logic import ModelError, Scope
from proofs import json_text
from proofs.certify import manifest
from proofs.check.cells import Cell, CellKey, Table, trace_of
from proofs.check.scopes import SORT_ORDER
from proofs.compare.answer import KernelComparison
from proofs.litmus import language, parser, suite
from proofs.litmus.account import account
from proofs.litmus.execution import Answer
from proofs.naming.specs import features_of, find_kernel, system_of, with_features
from proofs.pages import compared, domain
from proofs.parallel import each_done
from proofs.traces.graph import cell_functions, cell_values, state_graphs
from proofs.traces.picture import legend, state_pictures
from proofs.traces.text import closing_words, notation, state_lines, step_words
from proofs.traces.trace import Trace

SCHEMA = 1
WEB = Path(__file__).parent / "web"
"""Style sheet and scripts of the pages."""
ASSETS = ("style.css", "expression.js", "stepper.js", "report.js")
STATUSES = ("agree", "disagree", "not-observable", "crashed", "hung")
_REPLAYED = ("litmus", "release", "kernel", "model", "observed", "status", "reason")
MARKS = {">": "changed", "-": "gone"}
"""Marks of `state_lines` in words, beside that of what `Trace.marked` is said of."""
SORT_WORDS = {
    "Proc": "process", "Page": "page", "Frame": "frame", "Pin": "reference", "Slot": "swap slot", "Folio": "folio",
    "Block": "block",
}


# Traces

@dataclass
class Pictures:
    """Pictures by number: equal ones are kept once."""

    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, svg: str) -> int:
        return self.numbers.setdefault(svg, len(self.numbers))


def trace_data(trace: Trace, roomy: bool = False) -> dict[str, Any]:
    """The trace as the pages show it: for each state a picture, its lines in words, and the step that led to it.

    `roomy`: as `picture.state_pictures` takes it.
    """
    graphs = state_graphs(trace)
    heading, statement, broken = closing_words(trace, graphs[-1])
    pictures = state_pictures(trace, graphs, roomy)
    return {
        "heading": heading, "statement": statement, "broken": broken, "violated": trace.bad,
        "functions": cell_functions(trace), "example": _example(trace),
        "notation": notation(graphs),
        "legend": [{"svg": svg, "words": words} for svg, words in legend(graphs, trace.marked)],
        "states": [
            {**_step_data(trace, number), "picture": pictures[number], "values": cell_values(graph), "lines": [
                {"marks": [MARKS.get(m, trace.marked) for m in line[:2] if m != " "], "text": line[3:]}
                for line in state_lines(graph, graphs[max(number - 1, 0)])
            ]}
            for number, graph in enumerate(graphs)
        ],
    }


def _example(trace: Trace) -> str:
    """An expression that can be asked of its states."""
    p, v, k = (trace.element(sort, 0) for sort in ("Proc", "Page", "Pin"))
    return f"pte_write({p}, {v}) and pin_frame({k}) == pte_frame({p}, {v})"


def _step_data(trace: Trace, number: int) -> dict[str, Any]:
    """What led to state `number`."""
    if not number:
        return {"title": "start", "words": ["The initial state."] if trace.reachable else []}
    rule = trace.steps[number - 1].rule
    return {
        "title": trace.label(number - 1), "words": step_words(trace, number), "function": rule.kernel_function,
        "source": domain.as_data(rule.source), "about": " ".join(rule.about.split()),
    }


def _pooled(data: dict[str, Any], pictures: Pictures) -> dict[str, Any]:
    """The same trace with the numbers of its pictures."""
    states = [{**state, "picture": pictures.number(state["picture"])} for state in data["states"]]
    return {**data, "states": states}


# Cells

def scope_words(scope: Scope, kernel: str) -> str:
    """`2 processes, 1 page`; folios and blocks only where there are huge pages."""
    sizes = scope.as_dict()
    huge = "huge" in features_of(kernel)[1]
    sorts = [s for s in SORT_ORDER if huge or s not in ("Folio", "Block")]
    return ", ".join(f"{sizes[s]} {_plural(SORT_WORDS[s], sizes[s])}" for s in sorts)


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}{'e' * word.endswith('s')}s"


def result_words(cell: Cell | None) -> tuple[str, str]:
    """The verdict as a lower-case word and what is counted, as `violated`, `4 steps`."""
    if cell is None:
        return "n/a", ""
    counted = {
        "VIOLATED": (cell.length, "step"), "PROVED": (cell.clauses, "clause"), "BOUNDED": (cell.depth, "step"),
    }.get(cell.verdict)
    said = "" if counted is None else f"{counted[0]} {_plural(counted[1], counted[0] or 0)}"
    return cell.verdict.lower(), said + (" (vacuous)" if cell.vacuous else "")


def cite_data(kernel: Kernel) -> list[list[Any]]:
    """What the kernel changes, each with a link to its decision, and the source, with its links."""
    return [[domain.as_data(", ".join(f"`{name}`" if domain.anchor_of(name) else name for name in what.split(", "))),
             domain.as_data(source)] for what, source in kernel.cite]


def _cell_data(cell: Cell, table: Table, stated: Invariant, pictures: Pictures) -> dict[str, Any]:
    """All that is known of a verdict, with its evidence."""
    kernel = find_kernel(cell.kernel)
    data = {
        **cell.public(), "table": table.name, "statement": stated.statement,
        "source": domain.as_data(stated.source), "about": kernel.about, "base": kernel.base,
        "place": domain.anchor_of(kernel.name), "cite": cite_data(kernel),
        "scope": scope_words(table.scope, cell.kernel), "without": list(table.without),
    }
    if cell.verdict == "VIOLATED":
        data["counterexample"] = _pooled(trace_data(trace_of(cell, table.scope)), pictures)
    elif cell.certificate is not None:
        data["proof"] = manifest.contents(Path(cell.certificate))
    return data


# Litmus tests

def tests_in(places: Iterable[Path], kernels: Iterable[str]) -> list[language.Litmus]:
    """The tests of those files and folders, for kernels of those names. Raises ModelError if there is none."""
    given = [*places]
    files = [file for place in given for file in (sorted(place.glob("*.litmus")) if place.is_dir() else [place])]
    if given and not files:
        raise ModelError(f"no litmus tests in {', '.join(map(str, given))}")
    own = own_operations(map(find_kernel, kernels)) if files else ()
    return parser.parse_all(((file, parser.read_text(file)) for file in files), own)


def replayed(path: Path, tests: Sequence[language.Litmus]) -> list[dict[str, str]]:
    """What real kernels did, as a JSON file tells it; docs/report.md has its form.

    Raises ModelError if it is none, or says so of another text of one of the tests.
    """
    named = {test.name: test for test in tests}
    try:
        data = json_text.read(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("results"), list):
        raise ModelError(f"{path}: not a list of replayed tests of schema {SCHEMA}")
    for number, row in enumerate(data["results"], 1):
        missing = [key for key in _REPLAYED if not isinstance(row, dict) or not isinstance(row.get(key), str)]
        if missing:
            raise ModelError(f"{path}: result {number} has no text {', '.join(missing)}")
        if row["status"] not in STATUSES:
            raise ModelError(f"{path}: result {number}: status {row['status']!r} is none of {', '.join(STATUSES)}")
        test = named.get(row["litmus"])
        if test is not None and row.get("digest") != suite.digest_on(test, row["kernel"]):
            raise ModelError(f"{path}: result {number} is of another text of {test.name} than that of {test.filename}, "
                             "or does not say of which: `conform --json` says it")
    return [{key: row[key] for key in _REPLAYED} for row in data["results"]]


_LOOKS = {
    Answer.ALLOWED: "allowed", Answer.FORBIDDEN: "forbidden", Answer.BROKEN: "violated", Answer.HOLDS: "proved",
    Answer.UNKNOWN: "unknown",
}
"""Answer to the look of its cell. Of what may exist neither answer is good or bad, so that neither has a colour."""


def answered(
    tests: Sequence[language.Litmus], kernels: Sequence[str], workers: int,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Each test with its text, its answer on each kernel, and its different traces with the kernels that have them."""
    jobs = [(test.filename, tuple(kernels)) for test in sorted(tests, key=lambda t: sorted(t.features))]
    found = {}
    for (file, _), told in each_done(_answers, jobs, workers):
        found[file] = told
        progress(len(found), len(jobs))
    return [found[test.filename] for test in tests]


def _answers(job: tuple[str, tuple[str, ...]]) -> dict[str, Any]:
    """A worker's share: one test on all kernels."""
    file, kernels = job
    test = parser.read(Path(file), own_operations(map(find_kernel, kernels)))
    answers, alike = [], dict[str, dict[str, Any]]()
    for spec in kernels:
        told = account(test, find_kernel(spec), system_of(with_features(spec, test.features)))
        result = told.result
        remarks = [result.reason, f"vacuous: {told.vacuous}" if told.vacuous else "", *told.notes]
        answers.append({
            "kernel": spec, "answer": str(result.answer) + " (vacuous)" * bool(told.vacuous),
            "look": _LOOKS[result.answer], "remarks": [text for text in remarks if text],
        })
        if result.trace is not None:
            states = trace_data(result.trace)
            entry = alike.setdefault(json.dumps(states["states"]), {
                **states, "kernels": [], "answer": str(result.answer),
            })
            entry["kernels"].append(spec)
    traces = [{**t, "heading": f"{test.name} on {', '.join(t['kernels'])}: {t['answer']}"} for t in alike.values()]
    return {
        "name": test.name, "about": test.about, "text": Path(file).read_text(encoding="utf-8"), "mode": test.mode,
        "features": sorted(test.features), "answers": answers, "traces": traces,
    }


# Pages

def embedded(data: Any) -> str:
    """The data as JSON that nothing can leave: no `<` is in it, which ends or begins an element."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def page(title: str, body: str, data: Any, scripts: Sequence[str] = ASSETS[1:]) -> str:
    """An HTML document. `body` is HTML; `title` and `data` are not."""
    loaded = "".join(f'<script src="{name}"></script>\n' for name in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n<link rel="icon" href="data:,">\n'
        f'<link rel="stylesheet" href="style.css">\n</head>\n<body>\n{body}\n'
        f'<script type="application/json" id="data">{embedded(data)}</script>\n{loaded}</body>\n</html>\n'
    )


def _nav(here: str, pages: Sequence[tuple[str, str]]) -> str:
    links = "".join(
        f'<a href="{file}"{" aria-current=" + chr(34) + "page" + chr(34) if file == here else ""}>{words}</a>'
        for file, words in pages
    )
    return f'<nav aria-label="Pages">{links}</nav>'


def _head(title: str, here: str, pages: Sequence[tuple[str, str]]) -> str:
    return (
        '<a class="skip" href="#main">To the content</a>\n'
        f'<header><p class="site">Copy-on-write and page pinning in Linux</p>{_nav(here, pages)}'
        f"</header>\n<main id=\"main\" tabindex=\"-1\">\n<div id=\"overview\">\n<h1>{html.escape(title)}</h1>\n"
    )


def facts_page(pages: Sequence[tuple[str, str]] = ((domain.PAGE, "Facts"),)) -> str:
    """The reference of facts, to which citations lead."""
    head = (
        '<a class="skip" href="#main">To the content</a>\n'
        f'<header><p class="site">Copy-on-write and page pinning in Linux</p>{_nav(domain.PAGE, pages)}</header>\n'
        '<main id="main" tabindex="-1" class="reference">\n'
    )
    return page("Facts: Linux copy-on-write and get_user_pages", f"{head}{domain.body()}\n</main>",
                {"schema": SCHEMA, "kind": "facts"}, ())


_FOOT = '</div>\n<div id="view" hidden></div>\n{made}</main>\n<noscript><p>The steps behind the links need ' \
        "JavaScript, which this page brings along; <code>python -m proofs show</code> prints them too.</p></noscript>"


def route(**parts: str) -> str:
    """The address, within a page, of what these name."""
    return "#" + urlencode({key: value for key, value in parts.items() if value})


def _entry(table: Table, cell: Cell | None) -> str:
    """A verdict of the table, which leads to its evidence."""
    verdict, counted = result_words(cell)
    inner = f"<span>{verdict}</span>" + (f" <small>{counted}</small>" if counted else "")
    if cell is None:
        return f'<td class="none" data-number="0">{inner}</td>'
    address = html.escape(route(table=table.name, kernel=cell.kernel, invariant=cell.invariant))
    number = cell.length or cell.clauses or cell.depth or 0
    return f'<td class="{verdict}" data-number="{number}"><a href="{address}">{inner}</a></td>'


def _matrix(table: Table, found: Mapping[CellKey, Cell]) -> str:
    """A table of verdicts; each leads to its evidence."""
    columns = "".join(
        f'<th scope="col" data-name="{html.escape(i.name)}"><button type="button" '
        f'title="{html.escape(i.statement)}">{html.escape(i.name).replace("-", "-<wbr>")}</button></th>'
        for i in table.invariants
    )
    rows = []
    for spec, _ in table.kernels:
        cells = []
        for stated in table.invariants:
            cells.append(_entry(table, found.get((table.name, table.spec(spec, stated), stated.name))))
        rows.append(f'<tr><th scope="row">{html.escape(spec)}</th>{"".join(cells)}</tr>')
    caption = f"{table.name}: {table.about}" if table.name else "Kernels against invariants"
    scope = scope_words(table.scope, table.spec(table.kernels[0][0], table.invariants[0]))
    without = f" Without the rules {', '.join(table.without)}." if table.without else ""
    return (
        f'<section class="matrix"><div class="scroll" role="region" tabindex="0" aria-label="{html.escape(caption)}">'
        f'<table><caption><span class="stays">{html.escape(caption)}. '
        f'<span class="quiet">Scope of the searches: {html.escape(scope)}.'
        f'{html.escape(without)}</span></span></caption>'
        f'<thead><tr><th scope="col" data-name=""><button type="button">kernel</button></th>'
        f'{columns}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def _placed(spec: str, kernel: Kernel) -> str:
    """The kernel's name, with a link to what the reference of facts says of it."""
    place = domain.anchor_of(kernel.name)
    return f'<a href="{domain.PAGE}#{place}">{html.escape(spec)}</a>' if place else html.escape(spec)


_MEANINGS = {
    "violated": "a reachable state breaks the claim; the shortest counterexample has that many steps",
    "proved": "for any number of processes, pages, frames, references and slots, by an inductive invariant of that "
              "many clauses; z3 and cvc5 agree",
    "exhausted": "holds in every state of the scope; not proved beyond it",
    "bounded": "no violation within that many steps",
    "unknown": "time or memory ran out",
    "n/a": "the claim is about something that this kernel does not have",
}


def _meanings(used: Iterable[str]) -> str:
    entries = "".join(
        f'<div><dt class="{"none" if verdict == "n/a" else verdict}">{verdict}</dt><dd>{_MEANINGS[verdict]}</dd></div>'
        for verdict in _MEANINGS if verdict in set(used)
    )
    return f'<section><h2>What the verdicts mean</h2><dl class="meanings">{entries}</dl></section>'


def _foot(made: str) -> str:
    """What ends a page: where evidence is shown, and when and by which command all was made."""
    return _FOOT.format(made=f'<p class="quiet made">{html.escape(made)}</p>\n' if made else "")


def _index(
    tables: Sequence[Table], found: Mapping[CellKey, Cell], pages: Sequence[tuple[str, str]],
    progress: Callable[[int, int], Any], made: str, judged: Sequence[KernelComparison],
) -> str:
    pictures, cells = Pictures(), []
    total = sum(len(table.cells(found)) for table in tables)
    for table in tables:
        stated = {i.name: i for i in table.invariants}
        for cell in table.cells(found):
            cells.append(_cell_data(cell, table, stated[cell.invariant], pictures))
            progress(len(cells), total)
    used = {result_words(found.get((t.name, t.spec(k, i), i.name)))[0]
            for t in tables for k, _ in t.kernels for i in t.invariants}
    choices = "".join(
        f'<label class="{"none" if verdict == "n/a" else verdict}"><input type="checkbox" value="{verdict}" checked> '
        f"{verdict}</label>" for verdict in _MEANINGS if verdict in used
    )
    claims = "".join(
        f"<div><dt>{html.escape(i.name)}</dt><dd>{html.escape(i.statement)} "
        f'<span class="quiet">[{domain.to_html(i.source)}]</span></dd></div>'
        for i in dict.fromkeys(i for t in tables for i in t.invariants)
    )
    kernels = "".join(
        f"<div><dt>{_placed(spec, kernel)}</dt><dd>{html.escape(kernel.about)}</dd></div>"
        for spec, kernel in dict.fromkeys(pair for t in tables for pair in t.kernels)
    )
    body = (
        _head("Which promises does each kernel keep?", "index.html", pages)
        + "\n".join(compared.section(each, partial(_entry, tables[0])) for each in judged)
        + '<form id="filter" hidden><label>Kernel <input type="search" name="kernel" placeholder="part of a name">'
          '</label><label>Invariant <input type="search" name="invariant" placeholder="part of a name"></label>'
          f'<fieldset><legend>Verdict</legend>{choices}</fieldset><output role="status"></output></form>\n'
        + "\n".join(_matrix(table, found) for table in tables)
        + _meanings(used)
        + f'<section><h2>What is claimed</h2><dl class="terms">{claims}</dl></section>'
        + f'<section><h2>Of which kernels</h2><dl class="terms">{kernels}</dl></section>'
        + _foot(made)
    )
    return page("Verdicts: copy-on-write and page pinning in Linux", body,
                {"schema": SCHEMA, "kind": "cells", "cells": cells, "pictures": [*pictures.numbers]})


def _litmus(
    answers: Sequence[Mapping[str, Any]], kernels: Sequence[str], real: Sequence[Mapping[str, str]],
    pages: Sequence[tuple[str, str]], made: str,
) -> str:
    pictures = Pictures()
    by_test: dict[str, list[Mapping[str, str]]] = {}
    for result in real:
        by_test.setdefault(result["litmus"], []).append(result)
    tests = [
        {**test, "traces": [_pooled(t, pictures) for t in test["traces"]], "real": by_test.get(test["name"], [])}
        for test in answers
    ]
    heads = "".join(f'<th scope="col">{html.escape(kernel)}</th>' for kernel in kernels)
    if real:
        heads += '<th scope="col">real kernels</th>'
    rows = "".join(_litmus_row(test, bool(real)) for test in tests)
    known = {test["name"] for test in tests}
    strangers = sorted(by_test.keys() - known)
    named = ", ".join(strangers[:5]) + ", ..." * (len(strangers) > 5)
    told = f"<p>Replayed, but not among these tests: {html.escape(named)}.</p>" if strangers else ""
    body = (
        _head("What does each litmus test end in?", "litmus.html", pages)
        + "<p>Allowed: some execution ends as the test asks. Forbidden: none does. Broken: an execution breaks what "
          "must always hold, or shows what must never be. Holds: none does. Vacuous: the condition cannot be "
          "otherwise, for the reason that is given with the answer.</p>"
        + '<form id="filter" hidden><label>Test <input type="search" name="test" placeholder="part of its name or '
          'text"></label><output role="status"></output></form>'
        + '<section class="matrix litmus"><div class="scroll" role="region" tabindex="0" aria-label="Answers"><table>'
          f'<caption>Litmus tests against kernels.</caption><thead><tr><th scope="col">test</th>{heads}</tr></thead>'
          f"<tbody>{rows}</tbody></table></div></section>{told}" + _foot(made)
    )
    return page("Litmus tests: copy-on-write and page pinning in Linux", body,
                {"schema": SCHEMA, "kind": "litmus", "tests": tests, "pictures": [*pictures.numbers]})


def _litmus_row(test: Mapping[str, Any], with_real: bool) -> str:
    address = html.escape(route(litmus=test["name"]))
    cells = "".join(
        f'<td class="{a["look"]}"><a href="'
        f'{html.escape(route(litmus=test["name"], kernel=a["kernel"]))}">{a["answer"]}</a></td>'
        for a in test["answers"]
    )
    if with_real:
        counted = [f"{len([*rows])} {status}" for status, rows in itertools.groupby(
            sorted(r["status"] for r in test["real"])
        )]
        worst = "violated" if any(r["status"] in ("disagree", "crashed", "hung") for r in test["real"]) else "none"
        cells += f'<td class="{worst}">{html.escape(", ".join(counted)) or "not replayed"}</td>'
    return (f'<tr><th scope="row"><a href="{address}">{html.escape(test["name"])}</a><br><span class="quiet">'
            f'{html.escape(test["about"])}</span></th>{cells}</tr>')


def write(
    folder: Path, tables: Sequence[Table], found: Mapping[CellKey, Cell], answers: Sequence[Mapping[str, Any]] = (),
    real: Sequence[Mapping[str, str]] = (), progress: Callable[[int, int], Any] = lambda done, total: None,
    made: str = "", judged: Sequence[KernelComparison] = (),
) -> Path:
    """Write the pages into the folder; the first one. `answers`: of litmus tests; without them there is no such page.

    `real`: what `replayed` reads; `made`: when, by which version and command; `judged`: kernels of the first table,
    one against another. Raises OSError.
    """
    pages = [("index.html", "Verdicts"), *([("litmus.html", "Litmus tests")] if answers else []),
             *([(domain.PAGE, "Facts")] if domain.text() else [])]
    files = {"index.html": _index(tables, found, pages, progress, made, judged)}
    if answers:
        kernels = [answer["kernel"] for answer in answers[0]["answers"]]
        files["litmus.html"] = _litmus(answers, kernels, real, pages, made)
    if domain.text():
        files[domain.PAGE] = facts_page(pages)
    files |= {name: (WEB / name).read_text(encoding="utf-8") for name in ASSETS}
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "index.html"
