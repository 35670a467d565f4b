"""Commands that check tables: check, coverage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from invariants import FURTHER as FURTHER_INVARIANTS
from invariants import INVARIANTS
from model.features import SPLIT, WORLD
from model.logic import ModelError
from proofs.check import again, ci, scopes
from proofs.check import coverage as covering
from proofs.check import prove as proving
from proofs.check import tables as checking
from proofs.check.cells import LEGEND, Cell, CellKey, Table, mark, trace_system
from proofs.check.engines import PROVING
from proofs.check.jobs import BMC_DEPTH, Job
from proofs.cli import against as comparing
from proofs.cli import watch as watching
from proofs.cli.app import (
    JsonOption,
    KernelOption,
    OutOption,
    OwnInvariantOption,
    app,
    asked_invariants,
    asked_kernels,
    called,
    complain,
    completed_invariants,
    completed_kernels,
    going_on,
    names_in_options,
    own_invariants,
    print_columns,
    print_json,
    print_prose,
    say,
    say_idle,
    writable_folder,
    write_file,
)
from proofs.cli.ending import explained
from proofs.cli.examples import epilog
from proofs.cli.progress import progress_bar
from proofs.clock import check_time
from proofs.compare import answer
from proofs.compare.answer import KernelComparison
from proofs.errors import INCONCLUSIVE, OK, VIOLATION
from proofs.explore import cluster as clusters
from proofs.naming.specs import check_spoken, features_of, file_of, with_features
from proofs.pages import report as reports


@app.command(epilog=epilog("check"))
def check(
    context: typer.Context,
    kernel: KernelOption = None,
    invariant: Annotated[
        list[str] | None, typer.Option("--invariant", "-i", autocompletion=completed_invariants,
                                       help="An invariant, the first words of several, file.py:NAME, or file.py.")
    ] = None,
    world: Annotated[list[str] | None, typer.Option(
        "--with", help=f"Features for every kernel, with commas between: {', '.join(WORLD)}."
    )] = None,
    split: Annotated[list[str] | None, typer.Option(
        help=f"What is not one step, with commas between: {', '.join(SPLIT)}."
    )] = None,
    scope: Annotated[str, typer.Option(
        help="default, medium, large; sizes by name, as procs=3,slots=2; P,V,F,K,S, or P,V,F,K,S,D,B with numbers of "
             "folios and blocks."
    )] = "default",
    engine: Annotated[str, typer.Option(help=(
        "all: exploration and BMC, then a proof for every cell that they do not violate; both: the first two; "
        "or explore, bmc, k-induction, proof."
    ))] = "all",
    depth: Annotated[int, typer.Option(help="Steps BMC follows where exploration found nothing.")] = BMC_DEPTH,
    timeout: Annotated[float | None, typer.Option(help="Seconds for each exploration and each BMC run.")] = None,
    proof_time: Annotated[float, typer.Option(help="Seconds for the search of one proof.")] = proving.SECONDS,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a rule out, as if nobody did that; may be repeated.")
    ] = None,
    against: Annotated[str | None, typer.Option(autocompletion=completed_kernels, help=(
        "A kernel with which those of -k are compared, cell by cell and decision by decision: exit code 1 if something "
        "is worse, 3 if that is not decided, else 0 (docs/against.md)."
    ))] = None,
    mail: Annotated[bool, typer.Option(
        "--mail", help="Print the comparison as plain text of 72 columns, as for a mailing list."
    )] = False,
    tell: Annotated[float, typer.Option(
        min=0, help="Seconds for a shortest litmus test that tells compared kernels apart; 0: none is sought."
    )] = comparing.TELL,
    full: Annotated[bool, typer.Option(
        "--full", help="The default table and then those of the configurations in proofs/data/full.toml."
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
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify kept certificates again though nothing has changed.")
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
        return watching.watch([x for x in context.obj if x != "--watch"], [*files, *watching.sources()], say)
    check_time(timeout, proof_time, tell or None)
    if not 0 < memory <= 1 << 16:
        raise ModelError(f"memory is more than 0 and at most 65536 GiB, not {memory:g}")
    for file in (junit, sarif, markdown):
        if file is not None and not file.parent.is_dir():
            raise ModelError(f"cannot write {file}: there is no folder {file.parent}")
    features = (
        *names_in_options(world, WORLD, "feature"), *names_in_options(split, SPLIT, "sub-steps")
    )
    comparing.check_asked(against, kernel, full, mail, as_json)
    partial = bool(kernel or invariant or without or features)
    if full and (partial or scope != "default"):
        raise ModelError("--full is the whole table: say nothing of kernels, invariants, features, rules or scope")
    named = kernel if against is None else [against, *(kernel or ())]
    asked = _asked_table(named, invariant, features, scope, without, timeout, proof_time)
    if against is not None:
        comparing.check_kernels([spec for spec, _ in asked.kernels])
    tables = [asked, *(scopes.configured() if full else ())]
    key = again.question(tables, engine, depth)
    found: dict[CellKey, Cell] = {}
    if key is not None and not (fresh or verify or verbose):
        found |= again.answered(out, key) or {}
    work = [] if found else checking.work_of(tables, engine, depth)
    if not (work or found):
        names = ", ".join(i.name for i in asked.invariants)
        raise ModelError(f"{names} says nothing about {', '.join(kernel or [])}")
    tests = reports.tests_in(litmus or (), [spec for spec, _ in asked.kernels])
    real = reports.replayed(replayed, tests) if replayed is not None else []
    stopped, code = "", OK
    judged: list[KernelComparison] = []
    try:
        writable_folder(out)
        if report is not None:
            writable_folder(report)
        with progress_bar() as bar:
            task = bar.add_task("checking", total=len(work))
            if work:
                ray = None if on_cluster is None else clusters.connected(on_cluster)
                checking.decide(
                    tables, work, found, out, proofs=engine in PROVING, key=key, fresh=fresh, workers=workers,
                    memory=int(memory * (1 << 30)), ray=ray, heard=lambda line: bar.update(task, description=line),
                    progress=lambda stage, done, total: bar.update(
                        task, description=stage, completed=done, total=total
                    ),
                )
            if against is not None:
                judged = comparing.answers(
                    asked, found, tell, int(memory * (1 << 30)), lambda stage: bar.update(task, description=stage)
                )
            if report is not None:
                def advance(stage: str) -> Callable[[int, int], None]:
                    return lambda done, total: bar.update(task, description=stage, completed=done, total=total)

                specs = [spec for spec, _ in asked.kernels]
                answers = reports.answered(tests, specs, workers, advance("answering")) if tests else []
                first = reports.write(
                    report, tables, found, answers, real, advance("drawing"), called(context.obj), judged
                )
    except (KeyboardInterrupt, Exception) as error:
        stopped, code = explained(error)
        if isinstance(error, KeyboardInterrupt):
            done = sum(cell.verdict != "UNKNOWN" for cell in found.values())
            stopped += f": {done} cells done and kept in {out}; {going_on(fresh)}"
        if not found:
            return complain(stopped, code)
        found |= checking.undecided(work, found, f"not decided: {stopped}")
        if against is not None and not judged:
            judged = comparing.verdicts_alone(asked, found, stopped)
    say_idle(spec for _, spec, _ in found)
    if as_json:
        print_json(
            _results(tables, found, work if verbose else ())
            | ({"against": [answer.to_json(each) for each in judged]} if against is not None else {})
            | ({"stopped": stopped} if stopped else {})
        )
    elif against is not None:
        comparing.print_answers(judged, context.obj if mail else None)
        if report is not None and not stopped:
            say(f"Report: {first}")
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
            write_file(path, render(outcomes))
    for line in unexpected.values():
        say(line)
    if stopped:
        return complain(stopped, code)
    if against is not None:
        return comparing.exit_code(judged)
    verdicts = {c.verdict for c in found.values()}
    if unexpected or (partial and "VIOLATED" in verdicts):
        return VIOLATION
    return INCONCLUSIVE if verdicts & {"UNKNOWN", "BOUNDED"} else OK


def _asked_table(
    kernel: Sequence[str] | None, invariant: Sequence[str] | None, features: Sequence[str], scope: str,
    without: Sequence[str] | None, timeout: float | None, proof_time: float,
) -> Table:
    """The table of what was asked for. Raises ModelError for what there is not."""
    kernels = [(with_features(spec, features), each) for spec, each in asked_kernels(kernel)]
    asked = Table(
        tuple(kernels), tuple(asked_invariants(invariant)), scopes.scope_named(scope), (), timeout, proof_time
    )
    if not without:
        return asked
    specs = dict.fromkeys(asked.spec(spec, i) for spec, _ in kernels for i in asked.invariants)
    return dataclasses.replace(asked, without=scopes.rules_named(without, specs))


def _unexpected(
    table: Table, found: Mapping[CellKey, Cell]
) -> dict[CellKey, str]:
    """Cells that are violated where nobody expects it, or the other way round, each with a line that says so."""
    lines = {}
    for spec, _ in table.kernels:
        for each in table.invariants:
            key = (table.name, table.spec(spec, each), each.name)
            cell = found.get(key)
            if cell is None or cell.verdict not in ("VIOLATED", "EXHAUSTED", "PROVED"):
                continue
            violated = table.expects_violation(spec, each)
            if violated != (cell.verdict == "VIOLATED"):
                wanted = "VIOLATED" if violated else "no violation"
                lines[key] = f"{cell.kernel}, {cell.invariant}: {cell.verdict}, but {wanted} was expected"
    return lines


def _results(
    tables: Sequence[Table], found: Mapping[CellKey, Cell], reported: Sequence[Job]
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


def _print_reductions(jobs: Sequence[Job]) -> None:
    for told in map(Job.reduction, jobs):
        print(f"{told['kernel']}, {', '.join(told['invariants'])}: the cone of influence has {told['functions']} of "
              f"{told['of_functions']} state functions, {told['rules']} of {told['of_rules']} rules; "
              f"settled without {', '.join(told['settled_without']) or 'nothing'}")


def _print_encodings(cells: Iterable[Cell]) -> None:
    for cell in cells:
        if cell.encoding is not None:
            size = ", ".join(f"{number} {name}" for name, number in cell.encoding.items())
            print(f"{cell.kernel}, {cell.invariant}: a step is encoded by {size}")


SHORT = {
    "coherence": "coher", "longterm": "long", "isolation": "isol", "mapping": "map", "reference": "ref",
    "exclusive": "excl", "mprotect": "mprot", "counters": "count",
}
"""Words of headings, as they are where there is no room."""


def _print_table(
    table: Table, found: Mapping[CellKey, Cell], out: Path
) -> None:
    """Rows are kernels, columns invariants; headings are shortened where the names would not fit the terminal."""
    invariants, cells = table.invariants, table.cells(found)
    if table.name:
        print(f"\n{table.name}: {table.about} (features: {', '.join(table.features) or 'none'})\n")
    rows = [
        [spec, *(mark(found.get((table.name, table.spec(spec, i), i.name))) for i in invariants)]
        for spec, _ in table.kernels
    ]
    heads = [["kernel"], *(_heading(i.name) for i in invariants)]
    print_columns(heads, rows, [[SHORT.get(word, word) for word in head] for head in heads])
    shown = [c for c in cells if c.states]
    print()
    verdicts = {c.verdict for c in cells}
    for verdict, meaning in LEGEND.items():
        if verdict in verdicts:
            print_prose(meaning, "     ")
    huge = any("huge" in features_of(c.kernel)[1] for c in cells)
    largest = ""
    if shown:
        most = max(shown, key=lambda c: c.states or 0)
        largest = f"Largest exploration: {most.states:,} states up to renaming, {most.transitions:,} steps."
    print_prose(f"Scope: {scopes.in_words(table.scope, huge)}. {largest}")
    violated = [c for c in cells if c.verdict == "VIOLATED"]
    written = [c for c in violated if c.trace]
    if len(written) < len(violated):
        print(f"{len(violated) - len(written)} counterexamples are not written.")
    if written:
        number = f"{len(written)} counterexample{'s' * (len(written) > 1)}"
        print_prose(f"{number} under {out / table.name}: .trace.json, .svg and .dot for each; "
                    "`python -m proofs show FILE` prints one.")
    for note in sorted({f"{c.kernel}, {c.invariant}: {c.note}" for c in cells if c.note}):
        print_prose(note, "  ")
    for line in _dead_rules(cells):
        print_prose(line, "  ")


def _heading(invariant: str) -> list[str]:
    """The name in lines, for the head of a column."""
    file = file_of(invariant)
    return invariant.split("-") if file is None else [f"{file.name}:", invariant.removeprefix(f"{file}:")]


def _dead_rules(cells: Sequence[Cell]) -> list[str]:
    """Rules of which a kernel's verdicts say nothing: for PROVED cells their guard contradicts what is proved, for
    EXHAUSTED ones they fired in none of the complete explorations."""
    lines = []
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
        lines += [f"{what}: {rules} ({', '.join(names)})" for rules, names in by_rules.items()]
    return lines


@app.command(epilog=epilog("coverage"))
def coverage(
    kernel: Annotated[list[str], typer.Option("--kernel", "-k", help="A kernel, as for check; may be repeated.",
                                              autocompletion=completed_kernels)],
    scope: Annotated[str, typer.Option(help="As for check.")] = "default",
    timeout: Annotated[float | None, typer.Option(help="Seconds for each kernel.")] = None,
    invariant: OwnInvariantOption = None,
    as_json: JsonOption = False,
) -> int:
    """Which rules fire in a scope, which guard conjuncts decide, which invariants have something to speak of."""
    check_time(timeout)
    sizes = scopes.scope_named(scope)
    own = own_invariants(invariant)
    found = {}
    for spec, each in asked_kernels(kernel):
        stated = [i for i in (*INVARIANTS, *FURTHER_INVARIANTS, *own) if i.applies_to(each)
                  and set(i.features) <= set(features_of(spec)[1])]
        for each_own in own:
            check_spoken(each_own, spec)
        system = trace_system(spec, tuple(own))
        found[spec] = covering.cover(system, sizes, stated, timeout, reduce=not each.unusual_rules)
    if as_json:
        print_json([covering.to_json(spec, sizes, each) for spec, each in found.items()])
    else:
        print("\n".join(covering.to_text(spec, each) for spec, each in found.items()), end="")
    return INCONCLUSIVE if any(each.stopped for each in found.values()) else OK
