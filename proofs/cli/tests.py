"""Commands about litmus tests: litmus, matrix, diff."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from model.features import FEATURES, SPLIT, WORLD
from model.kernels import Kernel, own_operations
from model.logic import ModelError
from model.releases import MAINLINE
from proofs.cli.answers import Row, answer_row, print_answers
from proofs.cli.app import (
    JsonOption,
    KernelOption,
    OutOption,
    app,
    asked_kernels,
    complain,
    completed_kernels,
    named_kernel,
    names_in_options,
    print_json,
    say,
    writable_folder,
    write_file,
)
from proofs.cli.ending import explained
from proofs.cli.examples import epilog
from proofs.cli.progress import progress_bar
from proofs.clock import check_time
from proofs.compare import diff as differences
from proofs.compare import show as shown
from proofs.compare.lockstep import INTERRUPTED, Bounds
from proofs.data import SUITE
from proofs.errors import INCONCLUSIVE, OK, VIOLATION, Interrupted
from proofs.litmus import history as histories
from proofs.litmus import matrix as matrices
from proofs.litmus import suite as suite_tests
from proofs.litmus.language import Litmus
from proofs.naming.specs import features_of, system_of, with_features


@app.command(epilog=epilog("litmus"))
def litmus(
    tests: Annotated[list[str], typer.Argument(help=(
        "Files of litmus tests (docs/litmus.md has the language), or names of the suite's tests, or how they begin: F8."
    ))],
    kernel: KernelOption = None,
    split: Annotated[list[str] | None, typer.Option(
        help=f"Sub-steps beside those that a test asks for, with commas between: {', '.join(SPLIT)}."
    )] = None,
    ends: Annotated[bool, typer.Option("--ends", help=(
        "Also the ends that were reached, in how many executions, and a shortest execution to each."
    ))] = False,
    since: Annotated[bool, typer.Option("--since", help=(
        "Instead, ask every release: since when, until when, and which decisions make the difference."
    ))] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Also print of what part of the model the answer is.")]
    = False,
    as_json: JsonOption = False,
    out: OutOption = Path("proofs-out"),
) -> int:
    """Answer litmus tests: Allowed or Forbidden, Holds or Broken, per kernel, with a shortest trace."""
    more = names_in_options(split, SPLIT, "sub-steps")
    kernels = asked_kernels(kernel if not since else None)
    read = suite_tests.read_tests(tests, own=own_operations(each for _, each in kernels))
    asked = [dataclasses.replace(test, split=test.split.union(more)) for test in read]
    if since:
        return _since(asked, [*(kernel or ()), *["--ends"] * ends, *["--verbose"] * verbose], as_json)
    folder = writable_folder(out) / "litmus"
    folder.mkdir(exist_ok=True)
    rows: list[Row] = []
    stopped, code = "", OK
    if (ending := _answer(asked, kernels, folder, ends, verbose, rows)) is not None:
        stopped, code = explained(ending)
        if not rows:
            return complain(stopped, code)
    if as_json:
        print_json({"schema": 1, "results": rows} | ({"stopped": stopped} if stopped else {}))
    else:
        print_answers(list(dict.fromkeys(r["litmus"] for r in rows)), [k for k, _ in kernels], rows, folder)
    if stopped:
        return complain(stopped, code)
    answers = {r["answer"] for r in rows}
    if "Broken" in answers:
        return VIOLATION
    return INCONCLUSIVE if "UNKNOWN" in answers else OK


def _answer(
    asked: Sequence[Litmus], kernels: Sequence[tuple[str, Kernel]], folder: Path, ends: bool, verbose: bool,
    rows: list[Row],
) -> BaseException | None:
    """Add a row for each test and kernel; what ended that, or why a trace is not written, None if all is well."""
    lost: list[OSError] = []
    try:
        for test, (spec, kernel) in itertools.product(asked, kernels):
            row = answer_row(test, spec, kernel, folder, ends, lost)
            rows.append(row | (_part_of_model(test, spec) if verbose else {}))
    except (KeyboardInterrupt, Exception) as error:
        return error
    return lost[0] if lost else None


def _since(tests: Sequence[Litmus], besides: Sequence[str], as_json: bool) -> int:
    """Tell the tests' histories; `besides`: what else was asked for, which does not go with it."""
    if besides:
        raise ModelError(f"--since asks every release, and goes with no {besides[0]}")
    told: list[histories.History] = []
    interrupted = False
    try:
        with progress_bar() as bar:
            task = bar.add_task("asking", total=len(tests) * len(MAINLINE))
            for test in tests:
                told.append(histories.history(test, lambda: bar.advance(task)))
    except KeyboardInterrupt:
        say(f"interrupted: what follows is of {len(told)} of {len(tests)} tests")
        interrupted = True
    if as_json:
        print_json({"schema": 1, "results": [histories.to_json(each) for each in told]})
    for each in told if not as_json else ():
        print(f"{each.litmus}: {histories.summary(each)}")
        for line in histories.causes(each):
            print(f"  {line}")
    unknown = any(a == "UNKNOWN" for each in told for _, a in each.answers)
    return INCONCLUSIVE if interrupted or unknown else OK


def _part_of_model(test: Litmus, spec: str) -> dict[str, Any]:
    """How much of the kernel's model the test needs."""
    built = with_features(spec, test.features)
    part, everything = system_of(built), system_of(with_features(spec, FEATURES))
    return {
        "features": features_of(built)[1], "functions": len(part.functions), "rules": len(part.rules),
        "all_functions": len(everything.functions), "all_rules": len(everything.rules),
    }


@app.command(epilog=epilog("matrix"))
def matrix(
    names: Annotated[list[str] | None, typer.Argument(help=(
        "Names of tests, or how these begin, as F8; without any, all of them."
    ))] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help=(
        "A Markdown document to write, its pictures in pictures/matrix beside it; without it, print the tables."
    ))] = None,
    suite: Annotated[Path, typer.Option(help="The folder of the tests, with their expected.toml and cow.toml.")]
    = SUITE,
    write_suite: Annotated[Path | None, typer.Option(help=(
        "Only write all tests, those made from cow.c too, into this folder."
    ))] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    as_json: JsonOption = False,
) -> int:
    """Ask every litmus test and every case of cow.c of every kernel, beside what was published."""
    read = matrices.read_suite(suite)
    if names:
        if out is not None:
            raise ModelError("--out writes the document of all tests, not of some")
        read = matrices.only(read, names)
    if write_suite is not None:
        written = matrices.write_suite(read, write_suite)
        print(f"{len(written)} tests in {write_suite}")
        return OK
    if out is not None:
        writable_folder(out.parent)
    stopped = ""
    try:
        with progress_bar() as bar:
            task = bar.add_task("asking")
            found = matrices.ask(
                read, workers, out is not None, lambda done, total: bar.update(task, completed=done, total=total)
            )
    except Interrupted as error:
        found = error.so_far
        answered = matrices.answered(read, found)
        kept = f"; {out} is as it was" if out is not None else ""
        stopped = f"interrupted: {len(answered.rows)} of {len(read.rows)} tests were asked{kept}"
        if not answered.rows:
            return complain(stopped, INCONCLUSIVE)
        read, out = answered, None
    if out is not None:
        matrices.write(read, found, out, suite)
    if as_json:
        print_json(matrices.to_json(read, found) | ({"stopped": stopped} if stopped else {}))
    else:
        print(matrices.to_text(read, found) if out is None else f"{out} and {len(found.pictures)} pictures\n", end="")
    unexpected = found.unexpected(read)
    for line in unexpected:
        say(line)
    if stopped:
        return complain(stopped, INCONCLUSIVE)
    return VIOLATION if unexpected else OK


@app.command(epilog=epilog("diff"))
def diff(
    a: Annotated[str, typer.Argument(help="A kernel, as for -k.", autocompletion=completed_kernels)],
    b: Annotated[str, typer.Argument(help="Another one.", autocompletion=completed_kernels)],
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
    a, b = named_kernel(a), named_kernel(b)
    bounds = Bounds(processes, pages, references, depth=depth, seconds=seconds)
    features = names_in_options(world, WORLD, "feature")
    folder = writable_folder(out) / "diff"
    try:
        with progress_bar() as bar:
            task = bar.add_task("comparing")
            report = differences.compare(a, b, features, bounds, each, lambda length, done, total: bar.update(
                task, description=f"{length} operations", completed=done, total=total
            ))
    except KeyboardInterrupt:
        return complain("interrupted before the first sequence of operations was looked at", INCONCLUSIVE)
    folder.mkdir(exist_ok=True)
    for cause in report.causes:
        for each_found in cause.differences:
            write_file(folder / f"{each_found.name}.litmus", each_found.text)
    if as_json:
        print_json(shown.to_json(report))
    else:
        print(shown.to_text(report), end="")
        if report.causes:
            print(f"The tests are in {folder}; `python -m proofs litmus FILE -k {a} -k {b}` asks one again.")
    if report.search.stopped == INTERRUPTED:
        return complain(
            f"interrupted: every sequence of at most {report.search.depth} operations was looked at, longer in part;"
            f" {len(report.causes)} causes were found, the same command begins anew", INCONCLUSIVE,
        )
    if report.causes:
        return VIOLATION
    return INCONCLUSIVE if report.search.stopped or report.search.unfollowed or report.left_out else OK
