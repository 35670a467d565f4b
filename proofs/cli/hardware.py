"""Commands about real kernels: reproducer, replay, conform."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from proofs.cli.app import (
    HostOption,
    JsonOption,
    TextOutOption,
    VmlinuzOption,
    app,
    give_out,
    predict,
    print_json,
    read_test,
    say,
    write_file,
)
from proofs.clock import check_time
from proofs.data import SUITE
from proofs.errors import EXIT_CODES, INCONCLUSIVE, OK, VIOLATION
from proofs.hardware import conform as conforming
from proofs.hardware import observing, reproducer
from proofs.litmus import matrix as matrices
from proofs.litmus import parser
from proofs.naming.specs import find_kernel


@app.command("reproducer", epilog=EXIT_CODES)
def write_reproducer(
    file: Annotated[Path, typer.Argument(help="A litmus test, or a .trace.json file that breaks an invariant.")],
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model whose outcomes the program is to expect; without it, what the test asks about."
    ))] = "",
    out: TextOutOption = None,
) -> int:
    """Write the C program that does a litmus test or a trace, with real processes and references."""
    test = read_test(file)
    give_out(reproducer.program([test], predict(test, kernel)), out)
    return OK


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
    test = read_test(file)
    if kernel:
        find_kernel(kernel)
    reproducer.check(test)
    [[seen]] = observing.observe([test], [vmlinuz], allow_host_settings=allow_host_settings, seconds=seconds)
    found = conforming.compare(test, kernel or conforming.kernel_for(seen.release), seen)
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
    return _conformance_code([found])


def _conformance_code(found: Sequence[conforming.Conformance]) -> int:
    statuses = {f.status for f in found}
    if statuses & conforming.DIFFERENT:
        return VIOLATION
    return OK if conforming.AGREE in statuses else INCONCLUSIVE


@app.command(epilog=EXIT_CODES)
def conform(
    files: Annotated[list[Path] | None, typer.Argument(
        help="Litmus tests; without any, the whole suite and cow.c's cases."
    )] = None,
    vmlinuz: VmlinuzOption = None,
    suite: Annotated[Path, typer.Option(help="The folder of the suite.")] = SUITE,
    kernel: Annotated[str, typer.Option("--kernel", "-k", help=(
        "The kernel of the model to compare with, instead of the one that `uname -r` says."
    ))] = "",
    here: Annotated[bool, typer.Option("--here", help="The running kernel too, where --vmlinuz is given.")] = False,
    allow_host_settings: HostOption = False,
    seconds: Annotated[float, typer.Option(help="Time limit of each kernel.")] = observing.SECONDS,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A Markdown document to write.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Run litmus tests on real kernels and compare each with the model. Exit code 1 for a disagreement."""
    check_time(seconds)
    if kernel:
        find_kernel(kernel)
    tests = (
        parser.read_all(files) if files
        else [parser.parse(row.text, row.name) for row in matrices.read_suite(suite).rows]
    )
    images: list[Path | None] = [*(vmlinuz or ())]
    if here or not images:
        images.append(None)
    found: list[conforming.Conformance] = []
    interrupted = False
    try:
        for observed in observing.observe(
            tests, images, allow_host_settings=allow_host_settings, seconds=seconds,
            progress=lambda what: say(what) if sys.stderr.isatty() else None,
        ):
            found += conforming.conform(tests, [observed], kernel)
    except KeyboardInterrupt:
        say("interrupted: what follows is of the kernels that were done")
        interrupted = True
    if out is not None:
        write_file(out, conforming.to_markdown(found))
    if as_json:
        print_json({"schema": 1, "results": [dataclasses.asdict(f) for f in found]})
    else:
        print(conforming.to_text(found), end="")
    code = _conformance_code(found)
    return INCONCLUSIVE if interrupted and code == OK else code
