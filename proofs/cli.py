"""The command line: `python -m proofs`. Exit codes are in ending.py; bad input is one line on stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import keyword
import os
import signal
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS, Invariant
from model.blame import nearest
from model.features import FEATURES, SPLIT, WORLD
from model.kernels import ALL_RULES, FURTHER, KERNELS, Kernel
from model.logic import ModelError, RuleTemplate
from model.restrictions import BARE, BASES, RESTRICTIONS, VARIANTS, Restriction
from proofs import certificate, ci, domain, reproducer
from proofs import check as checking
from proofs import cluster as clusters
from proofs import conform as conforming
from proofs import cost as costing
from proofs import cost_report as cost_reports
from proofs import coverage as covering
from proofs import diff as differences
from proofs import explorer as explorers
from proofs import export as exports
from proofs import litmus as litmus_tests
from proofs import matrix as matrices
from proofs import new_kernel as starting
from proofs import prove as proving
from proofs import report as reports
from proofs import restrict as restricting
from proofs import retell as retelling
from proofs import trace as traces
from proofs import watch as watching
from proofs.clock import check_time
from proofs.ending import EXIT_CODES, INCONCLUSIVE, OK, VIOLATION, explained, is_mistaken
from proofs.kernel_file import (
    check_spoken,
    features_of,
    file_name,
    file_of,
    find_invariant,
    find_invariants,
    find_kernel,
    formula_of,
    system_of,
    with_features,
)
from proofs.lockstep import Bounds
from proofs.render import FORMATS

EXPECTED = Path(__file__).parent / "expected.toml"

app = typer.Typer(
    help="Model checker for copy-on-write and page pinning in Linux." + EXIT_CODES, add_completion=True,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)


def _completed_kernels(incomplete: str) -> list[str]:
    return [k.name for k in (*KERNELS, *FURTHER) if k.name.startswith(incomplete)]


def _completed_invariants(incomplete: str) -> list[str]:
    return [i.name for i in (*INVARIANTS, *FURTHER_INVARIANTS) if i.name.startswith(incomplete)]


KernelOption = Annotated[
    list[str] | None, typer.Option("--kernel", "-k", autocompletion=_completed_kernels, help=(
        "A kernel by name, or file.py:NAME, or BASE+RESTRICTION+..., bare:KERNEL+RESTRICTION+...; any of these may be "
        "followed by features, as v5.9@huge,ksm; may be repeated."
    ))
]
OwnInvariantOption = Annotated[list[str] | None, typer.Option(
    "--invariant", "-i", help="Beside the model's invariants your own, file.py:NAME or file.py; may be repeated."
)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for traces, graphs and results.")]
TextOutOption = Annotated[
    Path | None, typer.Option("--out", "-o", help="File to write instead of standard output.")
]


def _kernels(specs: Sequence[str] | None) -> list[tuple[str, Kernel]]:
    if not specs:
        return [(k.name, k) for k in KERNELS]
    return [(spec, find_kernel(spec)) for spec in dict.fromkeys(specs)]


def _invariants(names: Sequence[str] | None) -> list[Invariant]:
    """Those named, as `find_invariants` has them; the default table's without any."""
    if not names:
        return list(INVARIANTS)
    return list({i.name: i for name in names for i in find_invariants(name)}.values())


def _own(names: Sequence[str] | None) -> list[Invariant]:
    """Users' invariants, beside all of the model's. Raises ModelError for one of the model's."""
    for name in names or ():
        if file_of(name) is None:
            raise ModelError(f"the model's invariants are there without -i; {name!r} is not file.py:NAME")
    return _invariants(names) if names else []


def _named_features(given: Sequence[str] | None, known: Iterable[str], what: str) -> tuple[str, ...]:
    """The names in options that each hold one or several with commas between. Raises ModelError for one not known."""
    names = [name.strip() for text in given or () for name in text.split(",")]
    for name in names:
        if name not in known:
            raise ModelError(f"no {what} {name!r}{nearest(name, known)}")
    return tuple(dict.fromkeys(names))


def _progress() -> Progress:
    """A bar on a terminal, silence elsewhere."""
    return Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


def _writable(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        if not is_mistaken(error):
            raise
        raise ModelError(f"cannot write to {out}: {error.strerror}") from error
    return out


def _write(path: Path, content: str | bytes) -> None:
    try:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        if not is_mistaken(error):
            raise OSError(error.errno, error.strerror, f"cannot write {path}") from error
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


@app.command(epilog=EXIT_CODES)
def check(
    context: typer.Context,
    kernel: KernelOption = None,
    invariant: Annotated[
        list[str] | None, typer.Option("--invariant", "-i", autocompletion=_completed_invariants,
                                       help="An invariant, the first words of several, file.py:NAME, or file.py.")
    ] = None,
    world: Annotated[list[str] | None, typer.Option(
        "--with", help=f"Features for every kernel, with commas between: {', '.join(WORLD)}."
    )] = None,
    split: Annotated[list[str] | None, typer.Option(
        help=f"What is not one step, with commas between: {', '.join(SPLIT)}."
    )] = None,
    scope: Annotated[str, typer.Option(
        help="default, medium, large, or P,V,F,K,S, or P,V,F,K,S,D,B with numbers of folios and blocks."
    )] = "default",
    engine: Annotated[str, typer.Option(help=(
        "all: exploration and BMC, then a proof for every cell that they do not violate; both: the first two; "
        "or explore, bmc, k-induction, proof."
    ))] = "all",
    depth: Annotated[int, typer.Option(help="Steps BMC follows where exploration found nothing.")] = checking.BMC_DEPTH,
    timeout: Annotated[float | None, typer.Option(help="Seconds for each exploration and each BMC run.")] = None,
    proof_time: Annotated[float, typer.Option(help="Seconds for the search of one proof.")] = proving.SECONDS,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a rule out, as if nobody did that; may be repeated.")
    ] = None,
    full: Annotated[bool, typer.Option(
        "--full", help="The default table and then those of the configurations in proofs/full.toml."
    )] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print of what part of the model each verdict is.")]
    = False,
    watch: Annotated[bool, typer.Option(
        "--watch", help="Check again whenever a kernel's file or the model changes; what did not change is not redone."
    )] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write the verdicts as JUnit XML into this file.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="... as SARIF.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="... as Markdown, for mail and pull requests.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use; threads for a single exploration.")] = 2,
    memory: Annotated[float, typer.Option(help="GiB that each exploration may use.")] = 8,
    on_cluster: Annotated[str | None, typer.Option("--cluster", metavar="ADDRESS", help=(
        "Do it on a Ray cluster: its address, or local:N for N workers here. Cells are spread over it; one alone is "
        "explored in parts."
    ))] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore results kept by an earlier run, and all kept certificates.")
    ] = False,
    report: Annotated[Path | None, typer.Option(
        help="A folder for pages that show it all in a browser: tables, counterexamples, proofs, litmus tests."
    )] = None,
    litmus: Annotated[list[Path] | None, typer.Option(
        help="For the report: a litmus test or a folder of them; may be repeated."
    )] = None,
    replayed: Annotated[Path | None, typer.Option(
        help="For the report: what real kernels did, a JSON file (docs/report.md)."
    )] = None,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """Check kernels against invariants: a table of verdicts, and a graph for each violation."""
    if report is None and (litmus or replayed):
        raise ModelError("--litmus and --replayed are for a report: say --report too")
    if watch:
        files = watching.files_of((*(kernel or ()), *(invariant or ())))
        return watching.watch([x for x in context.obj if x != "--watch"], [*files, *watching.sources()], _tell)
    check_time(timeout, proof_time)
    if not 0 < memory <= 1 << 16:
        raise ModelError(f"memory is more than 0 and at most 65536 GiB, not {memory:g}")
    for file in (junit, sarif, markdown):
        if file is not None and not file.parent.is_dir():
            raise ModelError(f"cannot write {file}: there is no folder {file.parent}")
    features = (
        *_named_features(world, WORLD, "feature"), *_named_features(split, SPLIT, "sub-steps")
    )
    partial = bool(kernel or invariant or without or features)
    if full and (partial or scope != "default"):
        raise ModelError("--full is the whole table: say nothing of kernels, invariants, features, rules or scope")
    kernels = [(with_features(spec, features), each) for spec, each in _kernels(kernel)]
    asked = checking.Table(
        tuple(kernels), tuple(_invariants(invariant)), checking.scope_named(scope), (), timeout, proof_time
    )
    if without:
        specs = dict.fromkeys(asked.spec(spec, i) for spec, _ in kernels for i in asked.invariants)
        asked = dataclasses.replace(asked, without=checking.rules_named(without, specs))
    tables = [asked, *(checking.configured() if full else ())]
    work = checking.work_of(tables, engine, depth)
    if not work:
        names = ", ".join(i.name for i in asked.invariants)
        raise ModelError(f"{names} says nothing about {', '.join(kernel or [])}")
    found: dict[checking.CellKey, checking.Cell] = {}
    tests = reports.tests_in(litmus or ())
    real = reports.replayed(replayed) if replayed is not None else []
    stopped, code = "", OK
    try:
        _writable(out)
        if report is not None:
            _writable(report)
        ray = None if on_cluster is None else clusters.connected(on_cluster)
        with _progress() as bar:
            task = bar.add_task("checking", total=len(work))
            checking.decide(
                tables, work, found, out, proofs=engine in checking.PROVING, fresh=fresh, workers=workers,
                memory=int(memory * (1 << 30)), ray=ray, heard=lambda line: bar.update(task, description=line),
                progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            )
            if report is not None:
                def advance(stage: str) -> Callable[[int, int], None]:
                    return lambda done, total: bar.update(task, description=stage, completed=done, total=total)

                asked_of = [spec for spec, _ in kernels]
                answers = reports.answered(tests, asked_of, workers, advance("answering")) if tests else []
                first = reports.write(report, tables, found, answers, real, advance("drawing"))
    except (KeyboardInterrupt, Exception) as error:
        stopped, code = explained(error)
        if isinstance(error, KeyboardInterrupt):
            done = sum(cell.verdict != "UNKNOWN" for cell in found.values())
            stopped += f": {done} cells done and kept in {out}; {_going_on(fresh)}"
        if not found:
            return _complain(stopped, code)
        found |= checking.undecided(work, found, f"not decided: {stopped}")
    if as_json:
        _print_json(_results(tables, found, work if verbose else ()) | ({"stopped": stopped} if stopped else {}))
    else:
        for table in tables:
            _print_table(table, found, out)
        _print_reductions(work if verbose else ())
        _print_encodings(found.values() if verbose else ())
        if report is not None and not stopped:
            print(f"Report: {first}")
    unexpected = {} if partial else {key: line for table in tables for key, line in _unexpected(table, found).items()}
    outcomes = [
        ci.outcome(cell, table, unexpected.get((table.name, cell.kernel, cell.invariant)), partial)
        for table in (tables if junit or sarif or markdown else ()) for cell in table.cells(found)
    ]
    for path, render in ((junit, ci.to_junit), (sarif, ci.to_sarif), (markdown, ci.to_markdown)):
        if path is not None:
            _write(path, render(outcomes))
    for line in unexpected.values():
        _tell(line)
    if stopped:
        return _complain(stopped, code)
    verdicts = {c.verdict for c in found.values()}
    if unexpected or (partial and "VIOLATED" in verdicts):
        return VIOLATION
    return INCONCLUSIVE if verdicts & {"UNKNOWN", "BOUNDED"} else OK


def _unexpected(
    table: checking.Table, found: Mapping[checking.CellKey, checking.Cell]
) -> dict[checking.CellKey, str]:
    """Cells that are violated where nobody expects it, or the other way round, each with a line that says so.

    Expected is what the table itself says, and where it `inherits`, what is known of the kernel without features.
    """
    known = tomllib.loads(EXPECTED.read_text(encoding="utf-8"))
    lines = {}
    for spec, _ in table.kernels:
        for each in table.invariants:
            key = (table.name, table.spec(spec, each), each.name)
            cell = found.get(key)
            if cell is None or cell.verdict not in ("VIOLATED", "EXHAUSTED", "PROVED"):
                continue
            inherits = table.inherits and (spec, each.name) not in table.holds
            inherited = known.get(spec, {"violated": ()})["violated"] if inherits else ()
            violated = (spec, each.name) in table.violated or each.name in inherited
            if violated != (cell.verdict == "VIOLATED"):
                wanted = "VIOLATED" if violated else "no violation"
                lines[key] = f"{cell.kernel}, {cell.invariant}: {cell.verdict}, but {wanted} was expected"
    return lines


def _going_on(fresh: bool) -> str:
    """How to go on after an interrupt."""
    return f"the same command{' without --fresh' * fresh} goes on from there"


def _results(
    tables: Sequence[checking.Table], found: Mapping[checking.CellKey, checking.Cell], reported: Sequence[checking.Job]
) -> dict[str, Any]:
    """What `check --json` prints: the first table, and the others as a list; with the reductions of `reported`."""
    first, *others = tables
    return {
        "schema": 1, "scope": first.scope.as_dict(), "results": [c.public() for c in first.cells(found)],
        **({"configurations": [
            {"name": t.name, "about": t.about, "features": list(t.features), "scope": t.scope.as_dict(),
             "results": [c.public() for c in t.cells(found)]}
            for t in others
        ]} if others else {}),
        **({"reductions": [job.reduction() for job in reported]} if reported else {}),
    }


def _print_reductions(jobs: Sequence[checking.Job]) -> None:
    for told in map(checking.Job.reduction, jobs):
        print(f"{told['kernel']}, {', '.join(told['invariants'])}: the cone of influence has {told['functions']} of "
              f"{told['of_functions']} state functions, {told['rules']} of {told['of_rules']} rules; "
              f"settled without {', '.join(told['settled_without']) or 'nothing'}")


def _print_encodings(cells: Iterable[checking.Cell]) -> None:
    for cell in cells:
        if cell.encoding is not None:
            size = ", ".join(f"{number} {name}" for name, number in cell.encoding.items())
            print(f"{cell.kernel}, {cell.invariant}: a step is encoded by {size}")


def _print_table(
    table: checking.Table, found: Mapping[checking.CellKey, checking.Cell], out: Path
) -> None:
    """Rows are kernels, columns invariants; headings are numbers where the names would not fit the terminal."""
    invariants, cells = table.invariants, table.cells(found)
    if table.name:
        print(f"\n{table.name}: {table.about} (features: {', '.join(table.features) or 'none'})\n")
    rows = [
        [spec, *(checking.mark(found.get((table.name, table.spec(spec, i), i.name))) for i in invariants)]
        for spec, _ in table.kernels
    ]
    heads = [["kernel"], *(_heading(i.name) for i in invariants)]
    if _width(heads, rows) > Console().width and sys.stdout.isatty():
        heads = [["kernel"], *([str(n)] for n in range(1, len(invariants) + 1))]
        for n, i in enumerate(invariants, 1):
            print(f"{n:3} {i.name}")
        print()
    _print_columns(heads, rows)
    shown = [c for c in cells if c.states]
    print()
    verdicts = {c.verdict for c in cells}
    for verdict, meaning in checking.LEGEND.items():
        if verdict in verdicts:
            print(meaning)
    sizes = table.scope.as_dict()
    huge = any("huge" in features_of(c.kernel)[1] for c in cells)
    sorts = [s for s in checking.SORT_ORDER if huge or s not in ("Folio", "Block")]
    print("Scope: " + ", ".join(f"{sizes[s]} {s.lower()}{'s' * (sizes[s] > 1)}" for s in sorts) + ".", end=" ")
    if shown:
        largest = max(shown, key=lambda c: c.states or 0)
        counts = f"{largest.states:,} states up to renaming, {largest.transitions:,} steps"
        print(f"Largest exploration: {counts}.")
    else:
        print()
    violated = [c for c in cells if c.verdict == "VIOLATED"]
    written = [c for c in violated if c.trace]
    if len(written) < len(violated):
        print(f"{len(violated) - len(written)} counterexamples are not written.")
    if written:
        number = f"{len(written)} counterexample{'s' * (len(written) > 1)}"
        print(f"{number} under {out / table.name}: .trace.json, .svg and .dot for each;"
              " `python -m proofs show FILE` prints one.")
    for note in sorted({f"{c.kernel}, {c.invariant}: {c.note}" for c in cells if c.note}):
        print(note)
    for line in _dead_rules(cells):
        print(line)


def _heading(invariant: str) -> list[str]:
    """The name in lines, for the head of a column."""
    file = file_of(invariant)
    return invariant.split("-") if file is None else [f"{file.name}:", invariant.removeprefix(f"{file}:")]


def _dead_rules(cells: Sequence[checking.Cell]) -> list[str]:
    """Rules of which a kernel's verdicts say nothing: for PROVED cells their guard contradicts what is proved, for
    EXHAUSTED ones they fired in none of the complete explorations."""
    told = []
    for verdict, what in (("PROVED", "Dead, the guard contradicts what is proved"),
                          ("EXHAUSTED", "Vacuous, never enabled in this scope")):
        dead: dict[str, set[str]] = {}
        for cell in cells:
            if cell.verdict == verdict:
                dead[cell.kernel] = dead.get(cell.kernel, set(cell.dead_rules)) & set(cell.dead_rules)
        by_rules: dict[str, list[str]] = {}
        for kernel, rules in dead.items():
            if rules:
                by_rules.setdefault(", ".join(sorted(rules)), []).append(kernel)
        told += [f"{what}: {rules} ({', '.join(names)})" for rules, names in by_rules.items()]
    return told


def _widths(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max(len(text) for text in [*head, *(row[i] for row in rows)]) for i, head in enumerate(heads)
    ]


def _width(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(heads, rows)) + 2 * (len(heads) - 1)


def _print_columns(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> None:
    """A table; each heading is a list of lines."""
    widths = _widths(heads, rows)
    head_rows = itertools.zip_longest(*heads, fillvalue="")
    for row in [*head_rows, ["-" * w for w in widths], *rows]:
        print("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip())


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False))


@app.command(epilog=EXIT_CODES)
def show(
    file: Annotated[Path, typer.Argument(help="A .trace.json file, or the manifest of a certificate.")],
    form: Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))] = "table",
    as_json: JsonOption = False,
    out: TextOutOption = None,
) -> int:
    """Show a trace again, executed anew by the reference interpreter; or the invariant of a certificate in words."""
    form = "itf" if as_json else form
    if form not in FORMATS:
        raise ModelError(f"no format {form!r}{nearest(form, FORMATS)}")
    if certificate.is_manifest(file):
        if form not in ("table", "itf"):
            raise ModelError(f"{file} is a certificate: it is shown in words or, with --json, as data, not as {form}")
        text = certificate.described(file, as_json)
    else:
        text = FORMATS[form](traces.read(file, system_of, formula_of))
    _give(text, out)
    return OK


def _give(text: str, out: Path | None) -> None:
    """The text on standard output, or in that file."""
    text = text if text.endswith("\n") else text + "\n"
    if out is None:
        print(text, end="")
    else:
        _write(out, text)


@app.command(epilog=EXIT_CODES)
def explore(
    kernel: Annotated[str, typer.Option("--kernel", "-k", help="A kernel, as for check.")],
    scope: Annotated[str, typer.Option(help="As for check.")] = "default",
    world: Annotated[list[str] | None, typer.Option(
        "--with", help=f"Features, with commas between: {', '.join(WORLD)}."
    )] = None,
    split: Annotated[list[str] | None, typer.Option(
        help=f"What is not one step, with commas between: {', '.join(SPLIT)}."
    )] = None,
    path: Annotated[Path | None, typer.Option("--from", help="A trace file: begin where it ends.")] = None,
    serve: Annotated[bool, typer.Option(
        "--serve", help="A page in the browser, on this machine alone; its address is printed. Ctrl-C ends it."
    )] = False,
    invariant: OwnInvariantOption = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The page's port; 0 is any free one.")] = 0,
    as_json: JsonOption = False,
) -> int:
    """Walk through a kernel's states by hand: what is in use, which claims hold, which steps may be taken."""
    features = (*_named_features(world, WORLD, "feature"), *_named_features(split, SPLIT, "sub-steps"))
    find_kernel(kernel)
    explorer = explorers.Explorer(
        with_features(kernel, features), checking.scope_named(scope), tuple(i.name for i in _own(invariant))
    )
    start = explorer.path_of(traces.read_json(path)) if path is not None else []
    if not serve:
        if as_json:
            _print_json({"schema": 1, "kernel": explorer.kernel, "path": start, **explorer.view(start)})
        else:
            print(explorers.to_text(explorer, start), end="")
        return OK
    with explorers.server(explorer, start, port) as running:
        if as_json:
            _print_json({"schema": 1, "kernel": explorer.kernel, "url": running.url})
        else:
            print(f"{explorer.kernel}: {running.url}\nCtrl-C ends it.")
        sys.stdout.flush()
        try:
            running.serve()
        except KeyboardInterrupt:
            print(file=sys.stderr)
    return OK


@app.command(epilog=EXIT_CODES)
def retell(
    file: Annotated[Path, typer.Argument(help="A .trace.json file that `check` or `restrict` wrote.")],
    as_json: JsonOption = False,
    out: TextOutOption = None,
) -> int:
    """Tell a counterexample as a litmus test: operations that end where the claim is broken, and what that shows."""
    trace = traces.read(file, system_of, formula_of)
    told = retelling.retell(trace, find_kernel(trace.kernel))
    data = {
        "schema": 1, "litmus": told.litmus.name, "kernel": trace.kernel, "claim": trace.claim, "text": told.text,
        "condition": told.litmus.condition_text,
        "witness": [told.witness.label(number) for number in range(len(told.witness.steps))],
    }
    _give(json.dumps(data, indent=1, ensure_ascii=False) if as_json else told.text, out)
    return OK


@app.command(epilog=EXIT_CODES)
def litmus(
    files: Annotated[list[Path], typer.Argument(help="Litmus tests; docs/litmus.md has the language.")],
    kernel: KernelOption = None,
    split: Annotated[list[str] | None, typer.Option(
        help=f"Sub-steps beside those that a test asks for, with commas between: {', '.join(SPLIT)}."
    )] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print of what part of the model the answer is.")]
    = False,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """Answer litmus tests: Allowed or Forbidden, Holds or Broken, per kernel, with a shortest trace."""
    more = _named_features(split, SPLIT, "sub-steps")
    tests = litmus_tests.read_all(files)
    tests = [dataclasses.replace(test, split=test.split.union(more)) for test in tests]
    kernels = _kernels(kernel)
    folder = _writable(out) / "litmus"
    folder.mkdir(exist_ok=True)
    rows = []
    for test in tests:
        for spec, each in kernels:
            built = with_features(spec, test.features)
            result = litmus_tests.answer(test, each, system_of(built))
            path = None
            if result.trace is not None:
                path = folder / f"{test.name}.{file_name(spec)}.trace.json"
                # The name by which the kernel is found again, which for a user's file is not its own.
                traces.write(dataclasses.replace(result.trace, kernel=built), path)
            rows.append({
                "litmus": test.name, "kernel": spec, "answer": str(result.answer),
                "trace": None if path is None else str(path), "reason": result.reason,
                **(_part_of_model(spec, built) if verbose else {}),
            })
    if as_json:
        _print_json({"schema": 1, "results": rows})
    else:
        _print_answers([t.name for t in tests], [k for k, _ in kernels], rows)
    answers = {r["answer"] for r in rows}
    if "Broken" in answers:
        return VIOLATION
    return INCONCLUSIVE if "UNKNOWN" in answers else OK


def _print_answers(names: Sequence[str], kernels: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    answers = {(r["litmus"], r["kernel"]): r["answer"] for r in rows}
    _print_columns(
        [["kernel"], *(n.split("-") for n in names)], [[k, *(answers[n, k] for n in names)] for k in kernels]
    )
    for reason in dict.fromkeys(f"{r['litmus']}, {r['kernel']}: {r['reason']}" for r in rows if r["reason"]):
        print(reason)
    for r in rows:
        if "features" in r:
            print(f"{r['litmus']}, {r['kernel']}: {', '.join(r['features']) or 'no'} features, {r['functions']} of "
                  f"{r['all_functions']} state functions, {r['rules']} of {r['all_rules']} rules")


def _part_of_model(spec: str, built: str) -> dict[str, Any]:
    """How much of the kernel's model the spec `built` keeps, which is `spec` with features."""
    part, everything = system_of(built), system_of(with_features(spec, FEATURES))
    return {
        "features": features_of(built)[1], "functions": len(part.functions), "rules": len(part.rules),
        "all_functions": len(everything.functions), "all_rules": len(everything.rules),
    }


@app.command(epilog=EXIT_CODES)
def matrix(
    out: Annotated[Path | None, typer.Option("--out", "-o", help=(
        "A Markdown document to write, its pictures in pictures/matrix beside it; without it, print the tables."
    ))] = None,
    suite: Annotated[Path, typer.Option(help="The folder of the tests, with their expected.toml and cow.toml.")]
    = matrices.SUITE,
    write_suite: Annotated[Path | None, typer.Option(help=(
        "Only write all tests, those made from cow.c too, into this folder."
    ))] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: JsonOption = False,
) -> int:
    """Ask every litmus test and every case of cow.c of every kernel, beside what was published."""
    read = matrices.read_suite(suite)
    if write_suite is not None:
        written = matrices.write_suite(read, write_suite)
        print(f"{len(written)} tests in {write_suite}")
        return OK
    if out is not None:
        _writable(out.parent)
    try:
        with _progress() as bar:
            task = bar.add_task("asking")
            found = matrices.ask(
                read, workers, out is not None, lambda done, total: bar.update(task, completed=done, total=total)
            )
    except KeyboardInterrupt:
        _tell("interrupted")
        return INCONCLUSIVE
    if out is not None:
        matrices.write(read, found, out, suite)
    if as_json:
        _print_json(matrices.to_json(read, found))
    else:
        print(matrices.to_text(read, found) if out is None else f"{out} and {len(found.pictures)} pictures\n", end="")
    unexpected = found.unexpected(read)
    for line in unexpected:
        _tell(line)
    return VIOLATION if unexpected else OK


VmlinuzOption = Annotated[
    list[Path] | None, typer.Option("--vmlinuz", help=(
        "A kernel image to boot in qemu instead of the running kernel; its modules and probe are looked for beside it "
        "(docs/kernels.md)."
    ))
]
HostOption = Annotated[bool, typer.Option("--allow-host-settings", help=(
    "On the running kernel: change, and put back, settings of the machine (KSM, khugepaged, memory cgroups)."
))]


@app.command("reproducer", epilog=EXIT_CODES)
def write_reproducer(
    file: Annotated[Path, typer.Argument(help="A litmus test, or a .trace.json file that breaks an invariant.")],
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model whose outcomes the program is to expect; without it, what the test asks about."
    ))] = "",
    out: TextOutOption = None,
) -> int:
    """Write the C program that does a litmus test or a trace, with real processes and references."""
    test = _told(file)
    _give(reproducer.program([test], _predicted(test, kernel)), out)
    return OK


def _told(file: Path) -> litmus_tests.Litmus:
    """The litmus test in a file, or that which a trace is told as."""
    if file.suffix != ".json":
        return litmus_tests.read(file)
    trace = traces.read(file, system_of, formula_of)
    return retelling.retell(trace, find_kernel(trace.kernel)).litmus


def _predicted(test: litmus_tests.Litmus, kernel: str) -> dict[str, Iterable[litmus_tests.Outcome]] | None:
    """The outcomes that the model's kernel of that name has for the test; None without a name."""
    if not kernel:
        return None
    built = with_features(kernel, test.features)
    found, reason = litmus_tests.outcomes(test, find_kernel(kernel), system_of(built))
    if reason:
        raise ModelError(f"{test.name}: {reason}")
    return {test.name: found}


@app.command(epilog=EXIT_CODES)
def replay(
    file: Annotated[Path, typer.Argument(help="A litmus test, or a .trace.json file that breaks an invariant.")],
    vmlinuz: Annotated[Path | None, typer.Option(help="A kernel image to boot in qemu instead of the running kernel.")]
    = None,
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model to compare with, instead of the one that `uname -r` says."
    ))] = "",
    allow_host_settings: HostOption = False,
    seconds: Annotated[float, typer.Option(help="Time limit.")] = 120.0,
    as_json: JsonOption = False,
) -> int:
    """Do a litmus test or a trace on a real kernel, step by step, and compare with the model."""
    check_time(seconds)
    test = _told(file)
    if kernel:
        find_kernel(kernel)
    reproducer.check(test)
    [[seen]] = conforming.observe([test], [vmlinuz], allow_host_settings=allow_host_settings, seconds=seconds)
    found = conforming.compare(test, kernel or conforming.kernel_for(seen.release), seen)
    if as_json:
        _print_json({"schema": 1, "steps": seen.steps, "results": [dataclasses.asdict(found)]})
    else:
        for step in seen.steps:
            more = step.get("error") or step.get("reason") or ""
            print(f"{step['step']:3}  {step['operation']:32} {step['result']}{': ' * bool(more)}{more}")
        observed = f"; observed: {found.observed}" if found.observed else ""
        print(f"{found.release}, {found.kernel} in the model: {found.status}{observed}")
        if found.reason:
            print(found.reason)
    return _conformance_code([found])


def _conformance_code(found: Sequence[conforming.Conformance]) -> int:
    statuses = {f.status for f in found}
    if conforming.DISAGREE in statuses:
        return VIOLATION
    return OK if conforming.AGREE in statuses else INCONCLUSIVE


@app.command(epilog=EXIT_CODES)
def conform(
    files: Annotated[list[Path] | None, typer.Argument(
        help="Litmus tests; without any, the whole suite and cow.c's cases."
    )] = None,
    vmlinuz: VmlinuzOption = None,
    suite: Annotated[Path, typer.Option(help="The folder of the suite.")] = matrices.SUITE,
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model to compare with, instead of the one that `uname -r` says."
    ))] = "",
    here: Annotated[bool, typer.Option("--here", help="The running kernel too, where --vmlinuz is given.")] = False,
    allow_host_settings: HostOption = False,
    seconds: Annotated[float, typer.Option(help="Time limit of each kernel.")] = conforming.SECONDS,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A Markdown document to write.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Run litmus tests on real kernels and compare each with the model. Exit code 1 for a disagreement."""
    check_time(seconds)
    if kernel:
        find_kernel(kernel)
    tests = (
        litmus_tests.read_all(files) if files
        else [litmus_tests.parse(row.text, row.name) for row in matrices.read_suite(suite).rows]
    )
    images: list[Path | None] = [*(vmlinuz or ())]
    if here or not images:
        images.append(None)
    found: list[conforming.Conformance] = []
    interrupted = False
    try:
        for observed in conforming.observe(
            tests, images, allow_host_settings=allow_host_settings, seconds=seconds,
            progress=lambda what: _tell(what) if sys.stderr.isatty() else None,
        ):
            found += conforming.conform(tests, [observed], kernel)
    except KeyboardInterrupt:
        _tell("interrupted: what follows is of the kernels that were done")
        interrupted = True
    if out is not None:
        _write(out, conforming.to_markdown(found))
    if as_json:
        _print_json({"schema": 1, "results": [dataclasses.asdict(f) for f in found]})
    else:
        print(conforming.to_text(found), end="")
    code = _conformance_code(found)
    return INCONCLUSIVE if interrupted and code == OK else code


@app.command(epilog=EXIT_CODES)
def verify(
    folder: Annotated[Path | None, typer.Argument(
        help="A folder of certificates, or one manifest; without it, those of the default table that come along."
    )] = None,
    solver: Annotated[list[str] | None, typer.Option(
        help="z3, cvc5, or a command that gets a file's path and prints unsat; may be repeated. Default: z3 and cvc5."
    )] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each solver and file.")] = 60,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: JsonOption = False,
) -> int:
    """Check certificates: each is the proof that it says it is, of the model as it is now, and every solver says so."""
    given = proving.SHIPPED if folder is None else folder
    if not given.exists():
        raise ModelError(f"no folder or manifest {given}")
    started = time.monotonic()
    with _progress() as bar:
        task = bar.add_task("verifying")
        checked = certificate.verify(
            given if given.is_dir() else [given], solver or certificate.BUILT_IN, timeout, workers,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        _print_json({"schema": 1, "results": [dataclasses.asdict(c) for c in checked]})
    else:
        counts = {v: sum(c.verdict == v for c in checked) for v in ("accepted", "refused", "unconfirmed")}
        for c in checked:
            less = f" without {', '.join(c.without)}" if c.without else ""
            if less or not c.accepted:
                print(f"{c.kernel}{less}, {c.invariant}: {c.verdict}{': ' * bool(c.reason)}{c.reason}")
        told = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
        names = " and ".join(solver or certificate.BUILT_IN)
        print(f"{told}, {sum(c.obligations for c in checked)} obligations by {names}, "
              f"{time.monotonic() - started:.0f} s")
    verdicts = {c.verdict for c in checked}
    if "refused" in verdicts:
        return VIOLATION
    return INCONCLUSIVE if "unconfirmed" in verdicts else OK


@app.command(epilog=EXIT_CODES)
def restrict(
    invariant: Annotated[str, typer.Option("--invariant", "-i", help="What is to hold.")],
    base: Annotated[str | None, typer.Option(help=f"A reuse rule: {', '.join(BASES)}.")] = None,
    kernel: Annotated[str | None, typer.Option(
        "--kernel", "-k", help="Instead of a base: this kernel's reuse rule, its restrictions cleared."
    )] = None,
    variants: Annotated[bool, typer.Option(
        help=f"Also with each set of: {', '.join(v.name for v in VARIANTS)}."
    )] = True,
    proof_time: Annotated[float, typer.Option(help="Seconds for the search of one proof.")] = proving.SECONDS,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ignore results kept by an earlier run.")] = False,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """All minimal sets of restrictions that make an invariant hold, proved, and all maximal sets that do not."""
    if (base is None) == (kernel is None):
        raise ModelError("say either --base or --kernel")
    if base is not None and features_of(base)[0] not in BASES:
        raise ModelError(f"no base {base!r}{nearest(base, BASES)}")
    check_time(proof_time)
    stated = find_invariant(invariant)
    spec = base or BARE + str(kernel)
    if not stated.applies_to(find_kernel(spec)):
        raise ModelError(f"{stated.name} says nothing about {spec}")
    check_spoken(stated, spec)
    _writable(out)
    try:
        with _progress() as bar:
            task = bar.add_task("deciding")
            found = restricting.restrict(
                spec, stated.name, out, variants=[v.name for v in VARIANTS if variants], seconds=proof_time,
                workers=workers, fresh=fresh,
                progress=lambda stage, done, total: bar.update(task, description=stage, completed=done, total=total),
            )
    except KeyboardInterrupt:
        _tell(f"interrupted: what is decided is kept in {out}; {_going_on(fresh)}")
        return INCONCLUSIVE
    name = file_name(f"restrict-{spec}-{stated.name}")
    for ending, render in (("dot", restricting.to_dot), ("mmd", restricting.to_mermaid)):
        (out / f"{name}.{ending}").write_text(render(found), encoding="utf-8")
    if as_json:
        _print_json(restricting.to_json(spec, stated.name, found))
    else:
        print(f"{spec}, {stated.name}: {stated.statement}", *restricting.to_text(found), "", sep="\n")
        print(f"Traces and certificates under {out}; the lattices as graphs: {out / name}.dot and .mmd")
    return INCONCLUSIVE if any(c.undecided for c in found) else OK


@app.command(epilog=EXIT_CODES)
def diff(
    a: Annotated[str, typer.Argument(help="A kernel, as for -k.", autocompletion=_completed_kernels)],
    b: Annotated[str, typer.Argument(help="Another one.", autocompletion=_completed_kernels)],
    processes: Annotated[int, typer.Option(help="Processes in all.")] = 2,
    pages: Annotated[int, typer.Option(help="Pages.")] = 1,
    references: Annotated[int, typer.Option(help="References held at a time.")] = 2,
    depth: Annotated[int, typer.Option(help="Operations in a sequence.")] = 5,
    seconds: Annotated[float | None, typer.Option("--time", help="Seconds for the search.")] = 300,
    each: Annotated[int, typer.Option(min=1, help="Sequences to show for a cause.")] = 2,
    world: Annotated[list[str] | None, typer.Option(
        "--with", help=f"More features, with commas between; not {', '.join(differences.NOT_FOLLOWED)}."
    )] = None,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """What two kernels do differently: shortest sequences of operations, as litmus tests, by cause."""
    check_time(seconds)
    bounds = Bounds(processes, pages, references, depth=depth, seconds=seconds)
    features = _named_features(world, WORLD, "feature")
    folder = _writable(out) / "diff"
    try:
        with _progress() as bar:
            task = bar.add_task("comparing")
            report = differences.compare(a, b, features, bounds, each, lambda length, done, total: bar.update(
                task, description=f"{length} operations", completed=done, total=total
            ))
    except KeyboardInterrupt:
        _tell("interrupted")
        return INCONCLUSIVE
    folder.mkdir(exist_ok=True)
    for cause in report.causes:
        for each_found in cause.differences:
            (folder / f"{each_found.name}.litmus").write_text(each_found.text, encoding="utf-8")
    if as_json:
        _print_json(differences.to_json(report))
    else:
        print(differences.to_text(report), end="")
        if report.causes:
            print(f"The tests are in {folder}; `python -m proofs litmus FILE -k {a} -k {b}` asks one again.")
    if report.causes:
        return VIOLATION
    return INCONCLUSIVE if report.search.stopped or report.search.unfollowed or report.left_out else OK


@app.command(epilog=EXIT_CODES)
def export(
    kernel: Annotated[str, typer.Argument(help="A kernel, as for -k.")],
    form: Annotated[str, typer.Option("--format", "-f", help=", ".join(exports.FORMATS))],
    invariant: Annotated[list[str] | None, typer.Option(
        "--invariant", "-i", help="What is claimed: one invariant; for tla as many as wanted, all without it."
    )] = None,
    scope: Annotated[str, typer.Option(help="As for check; tla needs it for the configuration of TLC only.")]
    = "default",
    depth: Annotated[int, typer.Option(min=0, help="For smt2: satisfiable if so many steps break the claim.")] = 5,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=(
        "File to write instead of standard output; for tla the configuration goes beside it."
    ))] = None,
) -> int:
    """Write a kernel and a claim for another program: an SMT solver, a hardware model checker, TLC."""
    if form not in exports.FORMATS:
        raise ModelError(f"no format {form!r}{nearest(form, exports.FORMATS)}")
    if form != "tla" and not invariant:
        raise ModelError(f"say with -i which invariant {form} is to claim")
    about = find_kernel(kernel)
    stated = [i for i in _invariants(invariant) if i.applies_to(about)]
    if form != "tla" and len(stated) > 1:
        raise ModelError(f"{form} has one claim, and these are several: {', '.join(i.name for i in stated)}")
    if not stated:
        raise ModelError(f"{', '.join(invariant or ())} says nothing about {kernel}")
    spec = with_features(kernel, [feature for i in stated for feature in i.features])
    for each in stated:
        check_spoken(each, spec)
    files = exports.written(form, spec, about.about, system_of(spec), checking.scope_named(scope), stated, depth, out)
    for path, content in files.items() if out is not None else ():
        _write(path, content)
    first = next(iter(files.values()))
    if as_json:
        _print_json({
            "schema": 1, "kernel": spec, "format": form, "invariants": [i.name for i in stated],
            "scope": checking.scope_named(scope).as_dict(),
            **({"text": first.decode()} if out is None else {"files": [str(path) for path in files]}),
        })
    elif out is None:
        print(first.decode(), end="")
    return OK


@app.command(epilog=EXIT_CODES)
def coverage(
    kernel: Annotated[list[str], typer.Option("--kernel", "-k", help="A kernel, as for check; may be repeated.",
                                              autocompletion=_completed_kernels)],
    scope: Annotated[str, typer.Option(help="As for check.")] = "default",
    timeout: Annotated[float | None, typer.Option(help="Seconds for each kernel.")] = None,
    invariant: OwnInvariantOption = None,
    as_json: JsonOption = False,
) -> int:
    """Which rules fire in a scope, which guard conjuncts decide, which invariants have something to speak of."""
    check_time(timeout)
    sizes = checking.scope_named(scope)
    own = _own(invariant)
    found = {}
    for spec, each in _kernels(kernel):
        stated = [i for i in (*INVARIANTS, *FURTHER_INVARIANTS, *own) if i.applies_to(each)
                  and set(i.features) <= set(features_of(spec)[1])]
        for each_own in own:
            check_spoken(each_own, spec)
        system = checking.trace_system(spec, tuple(own))
        found[spec] = covering.cover(system, sizes, stated, timeout, reduce=not each.own_rules)
    if as_json:
        _print_json([covering.to_json(spec, sizes, each) for spec, each in found.items()])
    else:
        print("\n".join(covering.to_text(spec, each) for spec, each in found.items()), end="")
    return INCONCLUSIVE if any(each.stopped for each in found.values()) else OK


@app.command(epilog=EXIT_CODES)
def cost(
    kernel: KernelOption = None,
    processes: Annotated[int, typer.Option(help="Of the workload: processes that write.")] = 104,
    size: Annotated[int, typer.Option("--bytes", help="... and the bytes that each of them writes.")] = 959297984,
    gain: Annotated[float, typer.Option(help="A speed-up of it in per cent, to be explained.")] = 31.4,
    measure: Annotated[bool, typer.Option(
        "--measure", help="Also time such faults on the running kernel, as ratios; needs a C compiler."
    )] = False,
    picture: Annotated[Path | None, typer.Option("--svg", help="A file for the workload's picture.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """What accesses cost: page locks, counter reads, copies, swap slots; and a fork-heavy workload."""
    work = cost_reports.Workload(processes, size, gain)
    specs = [spec for spec, _ in _kernels(kernel or costing.SHOWN)]
    for spec in specs:
        if features_of(spec)[1]:
            raise ModelError(f"{spec}: costs are those of a kernel without features and with huge pages, say no others")
    folder = _writable(out) / "cost"
    folder.mkdir(exist_ok=True)
    try:
        with _progress() as bar:
            task = bar.add_task("counting", total=len(specs))
            found = costing.tables(specs, folder, workers, lambda done: bar.update(task, completed=done))
    except KeyboardInterrupt:
        _tell("interrupted")
        return INCONCLUSIVE
    measured = cost_reports.measure() if measure else None
    if picture is not None:
        _write(picture, cost_reports.to_svg(found, work, measured))
    if as_json:
        _print_json(cost_reports.to_json(found, work, measured))
    else:
        print(cost_reports.to_text(found, work, measured), end="")
    return OK if all(cell.exact or (cell.bound.proved and not cell.stopped) for t in found for cell in t.cells) \
        else INCONCLUSIVE


@app.command("new-kernel", epilog=EXIT_CODES)
def new_kernel(
    file: Annotated[Path, typer.Argument(help="The Python file to write.")],
    base: Annotated[str, typer.Option("--from", help="The kernel to start from.", autocompletion=_completed_kernels)]
    = "v5.9",
    name: Annotated[str, typer.Option(help="Its name in the file.")] = "MINE",
    as_json: JsonOption = False,
) -> int:
    """Write a commented file with a kernel of one's own to start from."""
    _start(file, name, starting.starting_file(base, str(file), name))
    if as_json:
        _print_json({"schema": 1, "file": str(file), "kernel": f"{file}:{name}", "base": base})
    else:
        print(f"{file}: python -m proofs check -k {file}:{name} -k {base}")
    return OK


def _start(file: Path, name: str, text: str) -> None:
    """Write a file to start from. Raises ModelError for one that is there already, or names that Python has not."""
    if file.suffix != ".py" or not name.isidentifier() or keyword.iskeyword(name):
        raise ModelError(f"a Python file and a Python name are wanted, as mine.py and MINE, not {file} and {name}")
    if file.exists():
        raise ModelError(f"{file} is there already")
    _write(file, text)


@app.command("new-invariant", epilog=EXIT_CODES)
def new_invariant(
    file: Annotated[Path, typer.Argument(help="The Python file to write.")],
    name: Annotated[str, typer.Option(help="Its name in the file.")] = "PROMISE",
    as_json: JsonOption = False,
) -> int:
    """Write a commented file with an invariant of one's own to start from."""
    _start(file, name, starting.starting_invariant(str(file), name))
    if as_json:
        _print_json({"schema": 1, "file": str(file), "invariant": f"{file}:{name}"})
    else:
        print(f"{file}: python -m proofs check -i {file}:{name}")
    return OK


@app.command("list", epilog=EXIT_CODES)
def list_(
    kernel: KernelOption = None,
    as_json: JsonOption = False,
) -> int:
    """List kernels, invariants and rules, each with its meaning and source; with -k, that kernel's decisions."""
    kernels = _kernels(kernel) if kernel else [(k.name, k) for k in (*KERNELS, *FURTHER)]
    rules: dict[str, dict[str, Any]] = {}
    for spec, each in kernels:
        for template in _templates(spec, each):
            entry = rules.setdefault(template.name, {
                "name": template.name, "about": " ".join((template.body.__doc__ or "").split()),
                "kernel_function": template.kernel_function, "source": template.source,
                "places": domain.places(template.source), "kind": template.kind,
                "features": sorted(template.features), "split": sorted(template.split), "kernels": [],
            })
            entry["kernels"].append(each.name)
    data = {
        "schema": 1,
        "kernels": [{"name": k.name, "about": k.about, "base": k.base, "cite": dict(k.cite),
                     "places": _places_of_kernel(k), "decisions": k.decisions()} for _, k in kernels],
        "invariants": [
            {"name": i.name, "statement": i.statement, "source": i.source, "places": domain.places(i.source),
             "features": list(i.features)}
            for i in (*INVARIANTS, *FURTHER_INVARIANTS)
        ],
        "rules": list(rules.values()),
        "features": [{"name": n, "about": about, "split": n in SPLIT} for n, about in FEATURES.items()],
        "restrictions": [_switch_data(r) for r in RESTRICTIONS],
        "variants": [_switch_data(r) for r in VARIANTS],
    }
    if as_json:
        _print_json(data)
        return OK
    print("Kernels")
    for _, k in kernels:
        print(f"  {k.name:17} {k.about}" + (f" [from {k.base}]" if k.base else ""))
        for what, commit in k.cite:
            print(f"  {'':17}   {what}: {commit}")
        if kernel:
            for decision, value in k.decisions().items():
                print(f"  {'':17}   {decision} = {value}")
    print("\nInvariants")
    for i in (*INVARIANTS, *FURTHER_INVARIANTS):
        print(f"  {i.name:23} {i.statement} [{i.source}]" + _needing(i.features)
              + _hashes(domain.cited(i.source) if kernel else []))
    print("\nRules")
    for entry in rules.values():
        print(f"  {entry['name']:26} {entry['about']} [{entry['kernel_function']}; {entry['source']}]"
              + _needing(entry["features"]) + _hashes(domain.cited(entry["source"]) if kernel else []))
    for title, features in (("Features, as in -k v5.9@huge,ksm or --with huge,ksm", WORLD),
                            ("Sub-steps, as in -k v5.9@gup-fast or --split gup-fast", SPLIT)):
        print(f"\n{title}")
        for name, about in features.items():
            print(f"  {name:17} {about}")
    for title, switches in (("Restrictions", RESTRICTIONS), ("Variants", VARIANTS)):
        print(f"\n{title}, as in -k page-count+fork-early-copy or bare:v5.18+swap-out-refuse")
        for r in switches:
            print(f"  {r.name:17} {r.about} [{r.source}]")
    if kernel:
        print(f"\nWhat stands after # is a place in {domain.NAME}; kernels and decisions have places of their names.")
    return OK


def _hashes(anchors: Sequence[str]) -> str:
    """Places of the reference of facts, for the end of a line."""
    return "".join(f" #{anchor}" for anchor in anchors)


def _switch_data(switch: Restriction) -> dict[str, Any]:
    return {"name": switch.name, "about": switch.about, "source": switch.source, "places": domain.places(switch.source)}


def _places_of_kernel(kernel: Kernel) -> dict[str, list[str]]:
    """Where the reference of facts speaks of the kernel (`kernel`), of its decisions and of what it cites."""
    cited = {what: domain.places(source) for what, source in kernel.cite}
    known = {name: anchor for name in ("kernel", *kernel.decisions())
             if (anchor := domain.anchor_of(kernel.name if name == "kernel" else name))}
    places = {name: [f"{domain.NAME}#{anchor}"] for name, anchor in known.items()}
    return {name: places.get(name, []) + cited.get(name, []) for name in {**places, **cited}}


def _templates(spec: str, kernel: Kernel) -> Iterator[RuleTemplate]:
    """The rules that the kernel has, or has where their features are on."""
    built = {rule.name.partition(".")[0] for rule in system_of(spec).rules}
    for template in (*ALL_RULES, *kernel.own_rules):
        on = template.features and template.body(kernel, *(p.term for p in template.params)) is not None
        if on or template.name in built:
            yield template


def _needing(features: Collection[str]) -> str:
    return f" (with {', '.join(features)})" if features else ""


SWALLOWS = ("__del__", "from_param")
"""Functions out of which no exception comes: Python reports what a finalizer raises, ctypes what a conversion does."""


def _interrupted(number: int, frame: Any) -> None:
    """Raise KeyboardInterrupt, where it would be swallowed a little later."""
    while frame is not None:
        if frame.f_code.co_name in SWALLOWS:
            again = threading.Timer(0.01, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if threading.current_thread() is threading.main_thread():
        # Ended by `timeout` or a job control, we end our workers as after Ctrl-C, even where that is ignored.
        signal.signal(signal.SIGTERM, _interrupted)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, _interrupted)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A file's name, or a terminal, may know other characters than ours.
            stream.reconfigure(errors="backslashreplace")
    try:
        result = app(args=given or ["--help"], obj=given, standalone_mode=False, prog_name="python -m proofs")
        # typer's own answer to Ctrl-C.
        code = _complain("interrupted", INCONCLUSIVE) if result == 130 else int(result or OK)
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has gone, which typer makes an exit of. No verdict is told, so none is claimed.
        code = INCONCLUSIVE
    except (KeyboardInterrupt, Exception) as error:
        code = _complain(*explained(error))
    return _flushed(code)


def _flushed(code: int) -> int:
    """The exit code, once everything is written that was printed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = INCONCLUSIVE
    except OSError as error:
        code = _complain(f"cannot write the results: {error.strerror}", INCONCLUSIVE)
    else:
        return code
    # What could not be written would be tried again, and complained of, on leaving.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _tell(message: str) -> None:
    # Where nobody can be told any more, the exit code still says it.
    with contextlib.suppress(OSError):
        print(f"proofs: {' '.join(message.split())}", file=sys.stderr)


def _complain(message: str, code: int) -> int:
    _tell(message)
    return code
