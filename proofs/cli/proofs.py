"""Commands about proofs: verify, restrict, cost."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from model.blame import nearest
from model.logic import ModelError
from model.restrictions import BARE, BASES, VARIANTS
from proofs.certify import solvers
from proofs.certify import verify as certificates
from proofs.check import prove as proving
from proofs.cli.app import (
    JsonOption,
    KernelOption,
    OutOption,
    app,
    asked_kernels,
    complain,
    going_on,
    named_kernel,
    print_json,
    say,
    writable_folder,
    write_file,
)
from proofs.cli.examples import epilog
from proofs.cli.progress import progress_bar
from proofs.clock import check_time
from proofs.cost import meters as costing
from proofs.cost import report as cost_reports
from proofs.cost import tables
from proofs.data import CERTIFICATES
from proofs.errors import INCONCLUSIVE, OK, VIOLATION, Interrupted
from proofs.naming.specs import check_spoken, features_of, file_name, find_invariant, find_kernel
from proofs.restrict import lattice as restricting
from proofs.restrict import show


@app.command(epilog=epilog("verify"))
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
    given = CERTIFICATES if folder is None else folder
    if not given.exists():
        raise ModelError(f"no folder or manifest {given}")
    started = time.monotonic()
    stopped = ""
    try:
        with progress_bar() as bar:
            task = bar.add_task("verifying")
            checked = certificates.verify(
                given if given.is_dir() else [given], solver or solvers.BUILT_IN, timeout, workers,
                lambda done, total: bar.update(task, completed=done, total=total),
            )
    except Interrupted as error:
        checked = error.so_far
        done = sum(c.verdict == "accepted" for c in checked)
        stopped = f"interrupted: {done} of {len(checked)} certificates were accepted before"
    if as_json:
        print_json({"schema": 1, "results": [dataclasses.asdict(c) for c in checked]}
                   | ({"stopped": stopped} if stopped else {}))
    else:
        counts = {v: sum(c.verdict == v for c in checked) for v in ("accepted", "refused", "unconfirmed")}
        for c in checked:
            less = f" without {', '.join(c.without)}" if c.without else ""
            if less or not c.accepted:
                print(f"{c.kernel}{less}, {c.invariant}: {c.verdict}{': ' * bool(c.reason)}{c.reason}")
        counted = ", ".join(f"{number} {verdict}" for verdict, number in counts.items() if number)
        names = " and ".join(solver or solvers.BUILT_IN)
        print(f"{counted}, {sum(c.obligations for c in checked)} obligations by {names}, "
              f"{time.monotonic() - started:.0f} s")
    verdicts = {c.verdict for c in checked}
    if stopped:
        return complain(stopped, INCONCLUSIVE)
    if "refused" in verdicts:
        return VIOLATION
    return INCONCLUSIVE if "unconfirmed" in verdicts else OK


@app.command(epilog=epilog("restrict"))
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
    spec = base or named_kernel(BARE + str(kernel))
    if not stated.applies_to(find_kernel(spec)):
        raise ModelError(f"{stated.name} says nothing about {spec}")
    check_spoken(stated, spec)
    writable_folder(out)
    decided = "nothing"
    try:
        with progress_bar() as bar:
            task = bar.add_task("deciding")

            def progress(stage: str, done: int, total: int) -> None:
                nonlocal decided
                if stage == "deciding":
                    decided = f"{done} of {total} sets of variants"
                bar.update(task, description=stage, completed=done, total=total)

            found = restricting.restrict(
                spec, stated.name, out, variants=[v.name for v in VARIANTS if variants], seconds=proof_time,
                workers=workers, fresh=fresh, progress=progress,
            )
    except KeyboardInterrupt:
        say(f"interrupted: {decided} decided and kept in {out}, not those at work; {going_on(fresh)}")
        return INCONCLUSIVE
    name = file_name(f"restrict-{spec}-{stated.name}")
    for ending, render in (("dot", show.to_dot), ("mmd", show.to_mermaid)):
        (out / f"{name}.{ending}").write_text(render(found), encoding="utf-8")
    if as_json:
        print_json(show.to_json(spec, stated.name, found))
    else:
        print(f"{spec}, {stated.name}: {stated.statement}", *show.to_text(found), "", sep="\n")
        print(f"Traces and certificates under {out}; the lattices as graphs: {out / name}.dot and .mmd")
    return INCONCLUSIVE if any(c.undecided for c in found) else OK


@app.command(epilog=epilog("cost"))
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
    specs = [spec for spec, _ in asked_kernels(kernel or costing.SHOWN)]
    for spec in specs:
        if features_of(spec)[1]:
            raise ModelError(f"{spec}: costs are those of a kernel without features and with huge pages, say no others")
    folder = writable_folder(out) / "cost"
    folder.mkdir(exist_ok=True)
    stopped = ""
    try:
        with progress_bar() as bar:
            task = bar.add_task("counting", total=len(specs))
            found = tables.tables(specs, folder, workers, lambda done: bar.update(task, completed=done))
    except Interrupted as error:
        found = error.so_far
        stopped = f"interrupted: {len(found)} of {len(specs)} kernels were counted"
        if not found:
            return complain(stopped, INCONCLUSIVE)
    measured = cost_reports.measure() if measure and not stopped else None
    if picture is not None:
        write_file(picture, cost_reports.to_svg(found, work, measured))
    if as_json:
        print_json(cost_reports.to_json(found, work, measured) | ({"stopped": stopped} if stopped else {}))
    else:
        print(cost_reports.to_text(found, work, measured), end="")
    if stopped:
        return complain(stopped, INCONCLUSIVE)
    return OK if all(cell.exact or (cell.bound.proved and not cell.stopped) for t in found for cell in t.cells) \
        else INCONCLUSIVE
