"""Commands about real kernels: reproducer, selftest, replay, conform."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from model.kernels import V7_2, Kernel
from model.logic import ModelError
from proofs.cli import at_random, races
from proofs.cli.app import (
    HostOption,
    JsonOption,
    TextOutOption,
    VmlinuzOption,
    app,
    complain,
    give_out,
    named_kernel,
    predict,
    print_json,
    read_test,
    say,
    test_text,
    told,
    version,
    writable_folder,
    write_file,
)
from proofs.cli.examples import epilog
from proofs.cli.progress import SaidNowAndThen, progress_bar
from proofs.clock import check_time
from proofs.data import SUITE
from proofs.errors import INCONCLUSIVE, OK, VIOLATION
from proofs.hardware import conform as conforming
from proofs.hardware import identify as identifying
from proofs.hardware import observing, reproducer, selftest, telling
from proofs.hardware.needs import racing
from proofs.hardware.observing import UNREACHED, Observation
from proofs.hardware.schedule import controls
from proofs.hardware.schedule.orders import of_retold
from proofs.hardware.schedule.races import ORDERS, RaceRequest, check
from proofs.litmus import matrix as matrices
from proofs.litmus import parser
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.litmus.suite import read_tests
from proofs.naming.specs import find_kernel

REPLAYED = 120.0
"""Seconds that `replay` gives a test, if it is not told otherwise."""


@app.command("reproducer", epilog=epilog("reproducer"))
def write_reproducer(
    file: Annotated[Path, typer.Argument(help=(
        "A litmus test (a file, or one of the suite by its name), or a .trace.json file that breaks an invariant."
    ))],
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model whose outcomes the program is to expect; without it, what the test asks about."
    ))] = "",
    out: TextOutOption = None,
) -> int:
    """Write the C program that does a litmus test or a trace, with real processes and references."""
    kernel = named_kernel(kernel)
    test = read_test(file, kernel)
    give_out(reproducer.program([test], predict(test, kernel)), out)
    return OK


@app.command("selftest", epilog=epilog("selftest"))
def write_selftest(
    files: Annotated[list[Path] | None, typer.Argument(metavar="[TESTS]...", help=(
        "Litmus tests: files, or names of the suite's; without any, the whole suite and cow.c's cases."
    ))] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write, made if it is not there.")]
    = Path(selftest.PROGRAM),
    kernel: Annotated[str, typer.Option("--kernel", "-k", help="The kernel of the model whose outcomes are expected.")]
    = V7_2.name,
    as_json: JsonOption = False,
) -> int:
    """Write litmus tests as a directory for a kernel's tools/testing/selftests: a program that prints KTAP."""
    kernel = named_kernel(kernel)
    tests = _tests(files, SUITE, kernel)
    predicted: dict[str, Iterable[Outcome]] = {}
    stopped = ""
    try:
        with progress_bar() as bar:
            for test in bar.track(tests, description="asking the model"):
                predicted |= predict(test, kernel) or {}
    except KeyboardInterrupt:
        stopped = f"interrupted: the model was asked of {len(predicted)} of {len(tests)} tests"
        if not predicted or (out / f"{selftest.PROGRAM}.c").exists():
            return complain(f"{stopped}; nothing is written{f', {out} is as it was' * out.exists()}", INCONCLUSIVE)
    made = selftest.selftest(tests, kernel, predicted, version())
    folder = writable_folder(out)
    for name, text in made.files.items():
        write_file(folder / name, text)
    if as_json:
        print_json({"schema": 1, "folder": str(out), "kernel": kernel, "tests": made.tests, "left_out": made.left_out}
                   | ({"stopped": stopped} if stopped else {}))
        return complain(stopped, INCONCLUSIVE) if stopped else OK
    print(f"{out}: {made.tests} tests that pass if they end as {kernel} of the model may. `make run_tests`\n"
          f"does them there; in tools/testing/selftests of a tree it is make TARGETS={out.resolve().name} run_tests")
    left = sorted(made.left_out, key=made.left_out.__getitem__)
    for why, names in itertools.groupby(left, made.left_out.__getitem__):
        print(f"not in it, {why}: {', '.join(names)}")
    return complain(stopped, INCONCLUSIVE) if stopped else OK


def _tests(files: Sequence[Path] | None, suite: Path, kernel: str) -> list[Litmus]:
    """Those tests, files or names of the suite, as that kernel has them; without any the suite in that folder."""
    if files:
        found = find_kernel(kernel) if kernel else None
        tests = read_tests(map(str, files), suite, found.own_operations if found else ())
        return [test.on(found) for test in tests] if found else tests
    return [parser.parse(row.text, row.name) for row in matrices.read_suite(suite).rows]


@app.command(epilog=epilog("replay"))
def replay(
    file: Annotated[Path, typer.Argument(help=(
        "A litmus test (a file, or one of the suite by its name), or a .trace.json file that breaks an invariant."
    ))],
    vmlinuz: Annotated[Path | None, typer.Option(help="A kernel image to boot in qemu instead of the running kernel.")]
    = None,
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model to compare with, instead of the one that `uname -r` says."
    ))] = "",
    allow_host_settings: HostOption = False,
    seconds: Annotated[float | None, typer.Option(help=f"Time limit; {REPLAYED:g} without it.")] = None,
    schedule: races.ScheduleOption = False,
    order: races.OrderOption = "",
    number: races.OrdersOption = ORDERS,
    repeat: races.RepeatOption = 1,
    without: races.WithoutOption = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help=(
        "With --schedule: a folder to write that can be sent: test, C program, order, and a script that runs it."
    ))] = None,
    as_json: JsonOption = False,
) -> int:
    """Do a litmus test or a trace on a real kernel, step by step, and compare with the model."""
    check_time(seconds)
    kernel = named_kernel(kernel)
    kernel = kernel or observing.kernel_for(observing.release_of(vmlinuz))
    test = read_test(file, kernel)
    if schedule:
        if seconds is not None:
            raise ModelError("--seconds is not for --schedule: there each run has a limit of its own")
        check(test)
        if file.suffix == ".json":
            order = order or of_retold(told(file))
        asked = RaceRequest(number, order, repeat, controls.named(without) if without else None)
        keep = functools.partial(races.write_directory, text=test_text(file, test), out=out) if out else None
        return races.ask([test], [vmlinuz] if vmlinuz else [], kernel, asked, keep, as_json)
    if order or repeat > 1 or without or out:
        raise ModelError("--order, --repeat, --without and --out are for --schedule")
    reproducer.check(test)
    [[seen]] = observing.observe(
        [test], [vmlinuz], allow_host_settings=allow_host_settings, seconds=seconds or REPLAYED, kernel=kernel
    )
    found = conforming.compare(test, kernel, seen)
    if as_json:
        print_json({"schema": 1, "steps": seen.steps, "results": [dataclasses.asdict(found)]})
    else:
        for step in seen.steps:
            more = step.get("error") or step.get("reason") or ""
            print(f"{step['step']:3}  {step['operation']:32} {step['result']}{': ' * bool(more)}{more}")
        observed = f"; observed: {found.observed}" if found.observed else ""
        print(f"{found.release}, {found.kernel} in the model: {found.status}{observed}")
        if found.reason:
            print(found.reason)
    return _conformance_code([[found]])


def _conformance_code(rows: Sequence[Sequence[conforming.Conformance]]) -> int:
    """The exit code for what each kernel did, kernel by kernel."""
    statuses = [{f.status for f in row} for row in rows]
    if any(conforming.DIFFERENT & each for each in statuses):
        return VIOLATION
    # That one kernel agrees says nothing of another, of which nothing was seen, also if both say the same release.
    return OK if statuses and all(conforming.AGREE in each for each in statuses) else INCONCLUSIVE


SecondsOption = Annotated[float | None, typer.Option(help=(
    f"Time limit of each kernel, with --random of each batch of tests; {observing.SECONDS:g} without it."
))]


@app.command(epilog=epilog("conform"))
def conform(
    files: Annotated[list[Path] | None, typer.Argument(
        help="Litmus tests, by file, name or how the name begins; without any, the whole suite and cow.c's cases."
    )] = None,
    vmlinuz: VmlinuzOption = None,
    suite: Annotated[Path, typer.Option(help="The folder of the suite.")] = SUITE,
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model to compare with, instead of the one that `uname -r` says."
    ))] = "",
    here: Annotated[bool, typer.Option("--here", help="The running kernel too, where --vmlinuz is given.")] = False,
    allow_host_settings: HostOption = False,
    seconds: SecondsOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A Markdown document to write.")] = None,
    identify: Annotated[bool, typer.Option("--identify", help=(
        "Instead of comparing, find whose rules it has: the smallest difference from the nearest kernel, or from that "
        "of -k, that explains what was observed."
    ))] = False,
    observed_in: Annotated[list[Path] | None, typer.Option("--observed", help=(
        "With --identify: what an earlier `conform --json` printed, instead of running anything; may be repeated."
    ))] = None,
    number: at_random.RandomOption = None,
    seed: at_random.SeedOption = 1,
    world: at_random.WithOption = None,
    keep: at_random.KeepOption = Path("proofs-out/random"),
    only_races: races.RacesOption = False,
    orders: races.OrdersOption = ORDERS,
    as_json: JsonOption = False,
) -> int:
    """Run litmus tests on real kernels and compare each with the model. Exit code 1 for a disagreement."""
    check_time(seconds)
    if only_races and seconds is not None:
        raise ModelError("--seconds is not for --races: there each run has a limit of its own")
    seconds = seconds or observing.SECONDS
    if observed_in and not identify:
        raise ModelError("--observed is for --identify")
    kernel = named_kernel(kernel)
    if number is not None:
        if files or here or identify or out:
            raise ModelError("--random takes no files, and neither --here, --identify nor --out")
        return at_random.ask(at_random.Request(number, seed, world, keep, kernel, seconds), vmlinuz or (), as_json)
    if world:
        raise ModelError("--with is for --random")
    tests = _tests(files, suite, kernel)
    if only_races:
        if here or identify:
            raise ModelError("--races takes neither --here nor --identify")
        found = [test for test in tests if racing(test)]
        table = functools.partial(races.write_table, out=out) if out else None
        return races.ask(found, vmlinuz or (), kernel, RaceRequest(orders), table, as_json)
    images: list[Path | None] = [*(vmlinuz or ())]
    if here or not (images or observed_in):
        images.append(None)
    observed = observing.observe(
        tests, images, allow_host_settings=allow_host_settings, seconds=seconds,
        progress=SaidNowAndThen(), kernel=kernel,
    )
    if identify:
        rows = [row for path in observed_in or () for row in conforming.saved(path, tests).values()]
        return _identify(tests, itertools.chain(rows, observed), kernel, seconds, as_json)
    return _compared(tests, observed, kernel, out, as_json)


def _compared(
    tests: Sequence[Litmus], observed: Iterable[Sequence[Observation]], kernel: str, out: Path | None, as_json: bool
) -> int:
    """Say of each test whether it agrees. Exit code 1 for a disagreement."""
    rows: list[list[conforming.Conformance]] = []
    cut = False
    try:
        for row in observed:
            rows.append(conforming.conform(tests, [row], kernel))
            cut |= any(seen.fate == UNREACHED for seen in row)
    except KeyboardInterrupt:
        say("interrupted: what follows was seen before")
        cut = True
    found = list(itertools.chain.from_iterable(rows))
    if out is not None:
        write_file(out, conforming.to_markdown(found))
    if as_json:
        print_json({"schema": 1, "results": [dataclasses.asdict(f) for f in found]})
    else:
        print(conforming.to_text(found), end="")
    code = _conformance_code(rows)
    return INCONCLUSIVE if cut and code == OK else code


def _identify(
    tests: Sequence[Litmus], observed: Iterable[Sequence[Observation]], kernel: str, seconds: float,
    as_json: bool,
) -> int:
    """Say of each kernel whose rules it has. Exit code 1 where no record of decisions explains what was observed."""
    base = find_kernel(kernel) if kernel else None
    told: list[dict[str, Any]] = []
    results: list[dict[str, str]] = []
    code = OK
    interrupted = False
    try:
        for row in observed:
            found, left = _identity(tests, row, base, seconds)
            told.append(identifying.to_json(found, row[0].release, left))
            results += [
                {"litmus": test.name, "release": seen.release, "reason": seen.reason, "digest": seen.digest,
                 "observed": "" if seen.outcome is None else conforming.shown(seen.outcome)}
                for test, seen in zip(tests, row, strict=True)
            ]
            code = VIOLATION if found.conflict else code
            if not as_json:
                print(identifying.to_text(found, row[0].release, left))
    except KeyboardInterrupt:
        say("interrupted: nothing more is identified")
        interrupted = True
    if as_json:
        print_json({"schema": 1, "kernels": told, "results": results})
    return INCONCLUSIVE if interrupted and code == OK else code


def _identity(
    tests: Sequence[Litmus], row: Sequence[Observation], base: Kernel | None, seconds: float
) -> tuple[identifying.Identity, list[telling.Untold]]:
    """Whose rules explain what one kernel did, and what would tell the decisions that are open."""
    reasons = {test.name: seen.reason for test, seen in zip(tests, row, strict=True)}
    # A caller's word is what it was when the kernel was asked, whatever record is tried.
    asked = base or find_kernel(observing.kernel_for(row[0].release))
    tests = [test.on(asked) for test in tests]
    with progress_bar() as bar:
        task = bar.add_task("identifying", total=None)
        found = identifying.identify(
            tests, identifying.seen_in(tests, [row]), base,
            identifying.Reasons(lambda runs: bar.update(task, description=f"identifying, {runs} executions")),
        )
        return found, list(telling.untold(
            found, tests, lambda test: reasons[test],
            lambda done, total: bar.update(task, description="telling apart", completed=done, total=total),
            min(seconds, 60.0),
        ))
