"""Verdicts on kernels against invariants: by exploration, by bounded model checking, by proof; the tables of them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import multiprocessing
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import z3

from invariants import INVARIANTS, Invariant
from model.blame import nearest
from model.kernels import KERNELS, Kernel
from model.logic import ModelError, Scope, System, functions_in, names_in
from model.state import ZERO, Value
from proofs import cluster, json_text
from proofs.bmc import Induction, Unrolling, bmc, k_induction
from proofs.clock import OutOfTime, check_time, done_by
from proofs.explore import Claim, Exploration, Finding, explore
from proofs.interpreter import EngineError, Instance
from proofs.kernel_file import (
    Terms,
    check_spoken,
    file_name,
    find_invariant,
    find_invariants,
    find_kernel,
    spec_of,
    state_of,
    system_of,
    terms_of,
    with_features,
)
from proofs.pool import each_done, heard_here, tell
from proofs.progress import Progress
from proofs.prove import SECONDS, Verdict, prove
from proofs.render import FORMATS
from proofs.trace import LARGEST, Trace, execute, write

SORT_ORDER = ("Proc", "Page", "Frame", "Pin", "Slot", "Folio", "Block")
"""The sorts whose numbers a scope is made of, in the order in which it gives them."""


def scope_of(procs: int, pages: int, frames: int, pins: int, slots: int, *more: int) -> Scope:
    """The scope of those sizes; `more` is the number of folios and that of blocks, or nothing."""
    # A folio for each process and one to be made; more than frames there cannot be.
    folios, blocks = more or (max(1, min(procs + 1, frames)), 1)
    sizes = (procs, pages, frames, pins, slots, folios, blocks)
    return Scope((*zip(SORT_ORDER, sizes, strict=True), ("Value", 1)))


SCOPES: dict[str, Scope] = {
    "default": scope_of(2, 1, 3, 1, 1),
    "medium": scope_of(2, 1, 4, 2, 1),
    "large": scope_of(3, 1, 3, 1, 1),
}
FULL = Path(__file__).parent / "full.toml"
"""The configurations that `check --full` adds to the default table."""
LEGEND = {
    "VIOLATED": "V n  VIOLATED: the shortest counterexample has n steps",
    "PROVED": "P n  PROVED for any number of processes, pages, frames, references and slots, by n clauses; "
              "z3 and cvc5 agree",
    "EXHAUSTED": "E    EXHAUSTED: holds in every state of the scope; not proved beyond it",
    "BOUNDED": "B n  BOUNDED: no violation within n steps",
    "UNKNOWN": "?    UNKNOWN: see the notes",
}
"""Verdict to what `mark` writes for it, explained."""
CellKey = tuple[str, str, str]
"""A cell's place: table, kernel with features, invariant."""
BMC_DEPTH = 5
"""Steps to which bounded model checking follows an exploration that found nothing."""
ENGINES = ("all", "both", "explore", "bmc", "k-induction", "proof")
UNGUARDED = "worker processes read this file again, so say `if __name__ == \"__main__\":` before verdicts is called"
PROVING = ("all", "proof")
"""The engines after which a proof is sought of what is not violated."""
OBSERVED_ONLY = ("frame_value", "slot_value", "vma_soft_dirty")
"""State functions that no claim needs; traces of `check` leave them out."""


@dataclass(frozen=True)
class Cell:
    """One verdict. `length`: steps of the shortest counterexample. `depth`: steps that BMC excluded.

    `note`: what ran out. `clauses`: size of the inductive invariant, `certificate`: the manifest of its proof.
    `steps`: the counterexample as (rule name, binding); `trace`: its file, once written. `encoding`: the size of a step
    as BMC or k-induction encodes it, by the names of `bmc.Size`.
    """

    kernel: str
    invariant: str
    verdict: str
    engine: str
    seconds: float
    vacuous: bool
    length: int | None = None
    states: int | None = None
    transitions: int | None = None
    diameter: int | None = None
    depth: int | None = None
    note: str = ""
    clauses: int | None = None
    certificate: str | None = None
    steps: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    trace: str | None = None
    dead_rules: tuple[str, ...] = ()
    encoding: Mapping[str, int] | None = field(default=None, hash=False)

    def public(self) -> dict[str, Any]:
        """The cell as `check --json` prints it."""
        shown = dataclasses.asdict(self)
        del shown["steps"]
        shown["seconds"] = round(self.seconds, 3)
        shown["dead_rules"] = list(self.dead_rules)
        return shown


def mark(cell: Cell | None) -> str:
    """The verdict as a table has it; LEGEND explains it."""
    if cell is None:
        return "n/a"
    text = {
        "VIOLATED": f"V {cell.length}", "PROVED": f"P {cell.clauses}", "EXHAUSTED": "E",
        "BOUNDED": f"B {cell.depth}", "UNKNOWN": "?",
    }[cell.verdict]
    return text + (" (vacuous)" if cell.vacuous else "")


@dataclass(frozen=True)
class Job:
    """Invariants of one kernel that need the same state functions, and how to check them.

    `kernel` carries the features; `table`: the name of the table that asks. `terms`: what the process that asks has
    built of all that, None if it has not.
    """

    kernel: str
    invariants: tuple[str, ...]
    scope: Scope
    engine: str
    timeout: float | None
    depth: int
    without: tuple[str, ...]
    key: str
    table: str = ""
    terms: Terms | None = None

    def cone(self) -> System:
        """The part of the kernel's system on which its invariants can depend."""
        stated = [find_invariant(name) for name in self.invariants]
        full = system_of(self.kernel, self.without)
        return full.restricted(full.cone([f for i in stated for f in (i.formula, i.premise)]))

    def reduction(self) -> dict[str, Any]:
        """How much of the model that cone is, as `--verbose` tells it."""
        cone, full = self.cone(), system_of(self.kernel, self.without)
        return {
            "kernel": self.kernel, "invariants": list(self.invariants), "functions": len(cone.functions),
            "of_functions": len(full.functions), "rules": len(cone.rules), "of_rules": len(full.rules),
            "settled_without": [f.name for f in full.false],
        }


@dataclass(frozen=True)
class Table:
    """Kernels against invariants in one scope. A cell is of the kernel with `features` and those of the invariant.

    `kernels` are (name by which to find it again, kernel). `without`: rules left out. `name`: of a configuration of
    `check --full`, empty for the table that was asked for. `timeout`, `proof_time`: limits in seconds for a search and
    for one proof; with no time for proofs none is sought. `violated`: (kernel, invariant) to the reason why that is
    expected; with `inherits` also what is known of the kernel without features, but for `holds`.
    """

    kernels: tuple[tuple[str, Kernel], ...]
    invariants: tuple[Invariant, ...]
    scope: Scope
    without: tuple[str, ...] = ()
    timeout: float | None = None
    proof_time: float = SECONDS
    name: str = ""
    about: str = ""
    features: tuple[str, ...] = ()
    inherits: bool = True
    violated: Mapping[tuple[str, str], str] = field(default_factory=dict)
    holds: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def spec(self, kernel: str, stated: Invariant) -> str:
        """The kernel with the features of its cell."""
        return with_features(kernel, (*self.features, *stated.features))

    def cells(self, found: Mapping[CellKey, Cell]) -> list[Cell]:
        """Those of its cells that are found, by rows."""
        keys = ((self.name, self.spec(spec, i), i.name) for spec, _ in self.kernels for i in self.invariants)
        return [found[key] for key in keys if key in found]


@functools.cache
def program_digest() -> str:
    """Hash of this program's own text: results of another version are not taken for ours."""
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for package in ("model", "invariants", "proofs"):
        for path in sorted((root / package).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def claim_of(stated: Invariant) -> Claim:
    """The invariant as engines take it."""
    return Claim(stated.name, stated.formula, stated.premise)


def trace_system(spec: str, claims: tuple[Invariant, ...] = ()) -> System:
    """The system on which traces of `check` are executed, for those claims beside what every trace shows."""
    return _trace_system(spec, claims, state_of(spec))


@functools.lru_cache(64)
def _trace_system(spec: str, claims: tuple[Invariant, ...], state: int) -> System:
    system = system_of(spec)
    shown = [f(*(z3.Const(s.name(), s) for s in f.domain)) for f in system.functions if f.name not in OBSERVED_ONLY]
    # Some feature may make a rule depend on what is otherwise observed only, as KSM on the content of pages.
    return system.restricted(system.cone([*shown, *(i.formula for i in claims)]))


def _with_contents(scope: Scope, stated: Invariant, system: System) -> Scope:
    """The scope, with two contents of pages where the invariant speaks of contents, or a rule of the system that it
    depends on looks for zeros; else they do not matter."""
    if functions_in(stated.formula) & {"frame_value", "slot_value"} or looks_for_zeros(system):
        return Scope(tuple((sort, 2 if sort == "Value" else size) for sort, size in scope.sizes))
    return scope


def looks_for_zeros(system: System) -> bool:
    """Some rule does one thing to a page of zeros and another to a page of something else."""
    zero = ZERO.decl().name()
    asked = (
        term for r in system.rules
        for term in (*r.guard, *(u.when for u in r.updates), *(u.value for u in r.updates if u.function.range != Value))
    )
    return any(zero in names_in(term) for term in asked)


def jobs(table: Table, engine: str, depth: int) -> list[Job]:
    """The work for a table."""
    made = []
    without, timeout = table.without, table.timeout
    for named, kernel in table.kernels:
        cones: dict[tuple[str, frozenset[str], Scope], list[Invariant]] = {}
        for each in table.invariants:
            if each.applies_to(kernel):
                spec = table.spec(named, each)
                check_spoken(each, spec, without)
                cone = system_of(spec, without).cone([each.formula, each.premise])
                scope = _with_contents(table.scope, each, system_of(spec, without).restricted(cone))
                cones.setdefault((spec, cone, scope), []).append(each)
        for (spec, cone, scope), members in cones.items():
            text = "\n".join(
                [system_of(spec, without).restricted(cone).text(),
                 *(i.formula.sexpr() + i.premise.sexpr() for i in members),
                 str(scope), engine, str(timeout), str(depth), program_digest()]
            )
            key = hashlib.sha256(text.encode()).hexdigest()[:24]
            names = tuple(i.name for i in members)
            terms = terms_of(spec, names, without)
            made.append(Job(spec, names, scope, engine, timeout, depth, without, key, table.name, terms))
    return made


@dataclass(frozen=True)
class Means:
    """What a job may use: `memory` in bytes, `threads`, a folder for what is not finished, or None; and `ray`, if
    its exploration is to be spread over a cluster (cluster.connected).
    """

    memory: int = 8 << 30
    threads: int = 1
    checkpoints: Path | None = None
    ray: Any = None


def posed(job: Job) -> tuple[System, list[Claim]]:
    """The system and the claims of a job. Raises ModelError if they are others than where the job was made."""
    if job.terms is not None:
        job.terms.compare()
    return job.cone(), [claim_of(find_invariant(name)) for name in job.invariants]


def run_job(job: Job, means: Means = Means()) -> list[Cell]:
    """Check the job's invariants. Raises EngineError if two engines disagree, OSError if nothing can be kept."""
    try:
        return _checked(job, means)
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        note = "out of memory: the system gives no more; a smaller scope, --memory or --workers needs less"
        return [Cell(job.kernel, name, "UNKNOWN", job.engine, 0.0, False, note=note) for name in job.invariants]


def _checked(job: Job, means: Means) -> list[Cell]:
    system, claims = posed(job)
    if job.engine == "proof":
        return [Cell(job.kernel, c.name, "UNKNOWN", "proof", 0.0, False) for c in claims]
    # A rule of the user's own might let a cell matter without writing it, which would tell elements apart.
    reduce = not find_kernel(job.kernel).own_rules
    if job.engine in ("bmc", "k-induction"):
        return _by_unrolling(job, system, claims, reduce)

    def progress(reached: Progress) -> None:
        tell(f"{job.kernel}: {reached}")

    if means.ray is None:
        explored = explore(
            system, job.scope, claims, timeout=job.timeout, stop_at_violations=True, reduce=reduce,
            memory=means.memory, threads=means.threads, checkpoints=means.checkpoints, progress=progress,
        )
    else:
        explored = cluster.explore(
            means.ray, cluster.Question(functools.partial(posed, job), job.scope, reduce), timeout=job.timeout,
            stop_at_violations=True, memory=means.memory, checkpoints=means.checkpoints, progress=progress,
        )
    cells = [_by_exploration(job, explored, finding) for finding in explored.findings]
    if job.engine == "both":
        unrolling = _unrolled(job, system, reduce)
        if unrolling is None:
            late = f"BMC: out of time after {job.timeout:g} s"
            return [dataclasses.replace(cell, note="; ".join(filter(None, (cell.note, late)))) for cell in cells]
        pairs = zip(claims, cells, strict=True)
        cells = [_second_opinion(job, system, claim, cell, unrolling) for claim, cell in pairs]
    return cells


def _unrolled(job: Job, system: System, reduce: bool) -> Unrolling | None:
    """The system's unrolling; None if the job's time does not suffice to make it."""
    deadline = None if job.timeout is None else time.monotonic() + job.timeout
    with contextlib.suppress(OutOfTime), done_by(deadline):
        return Unrolling(system, job.scope, reduce)
    return None


def _plain(path: Sequence[Instance]) -> tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]:
    return tuple((step.rule.name, step.binding) for step in path)


def _by_exploration(job: Job, explored: Exploration, finding: Finding) -> Cell:
    cell = Cell(
        job.kernel, finding.claim.name, "EXHAUSTED", "explore", explored.seconds / len(explored.findings),
        finding.vacuous, states=explored.states, transitions=explored.transitions, diameter=explored.diameter,
        dead_rules=tuple(name for name, times in explored.fired.items() if not times) if explored.complete else (),
    )
    if finding.path is not None:
        return _violated(cell, finding.path)
    if not explored.complete:
        return dataclasses.replace(cell, verdict="UNKNOWN", note=_stopped(explored.stopped, explored.diameter))
    return cell


def _by_unrolling(job: Job, system: System, claims: Sequence[Claim], reduce: bool) -> list[Cell]:
    """By BMC, or by k-induction where the job asks for it."""
    unrolling = _unrolled(job, system, reduce)
    if unrolling is None:
        note = _stopped(f"out of time after {job.timeout:g} s", -1)
        return [Cell(job.kernel, c.name, "UNKNOWN", job.engine, job.timeout or 0.0, False, note=note) for c in claims]
    engine = k_induction if job.engine == "k-induction" else bmc
    cells = []
    for claim in claims:
        met = _premise_met(job, system, claim, unrolling)
        found = engine(system, job.scope, claim, job.depth, job.timeout, unrolling)
        cell = Cell(
            job.kernel, claim.name, "BOUNDED", job.engine, found.seconds, not met, depth=found.depth,
            encoding=dataclasses.asdict(found.size),
        )
        if found.path is not None:
            cell = _violated(cell, found.path)
        elif isinstance(found, Induction) and found.k is not None:
            cell = dataclasses.replace(cell, verdict="EXHAUSTED", note=f"by {found.k}-induction", depth=None)
        elif found.stopped:
            cell = dataclasses.replace(cell, verdict="UNKNOWN", note=_stopped(found.stopped, found.depth))
        cells.append(cell)
    return cells


def _stopped(why: str, depth: int) -> str:
    """The note of a search that was cut short; with -1 not even the initial state was looked at."""
    return f"{why}; no violation within {depth} steps" if depth >= 0 else f"{why}; nothing was searched"


def _violated(cell: Cell, path: Sequence[Instance]) -> Cell:
    return dataclasses.replace(cell, verdict="VIOLATED", length=len(path), steps=_plain(path), vacuous=False)


def _premise_met(job: Job, system: System, claim: Claim, unrolling: Unrolling) -> bool:
    """Within the depth, some state makes the claim say something."""
    negated = Claim("premise", z3.Not(claim.premise), claim.premise)
    return bmc(system, job.scope, negated, job.depth, job.timeout, unrolling).path is not None


def _second_opinion(job: Job, system: System, claim: Claim, cell: Cell, unrolling: Unrolling) -> Cell:
    """Bounded model checking must find the same shortest length, or nothing where exploration found nothing."""
    depth = cell.length if cell.length is not None else job.depth
    found = bmc(system, job.scope, claim, depth, job.timeout, unrolling)
    cell = dataclasses.replace(cell, encoding=dataclasses.asdict(found.size))
    length = None if found.path is None else len(found.path)
    finished = not found.stopped or found.path is not None
    unexplored = cell.verdict == "UNKNOWN" and length is not None and length > (cell.diameter or 0)
    if unexplored and found.path is not None:
        return dataclasses.replace(_violated(cell, found.path), engine="bmc")
    if finished and length != cell.length:
        raise EngineError(
            f"{cell.kernel}, {cell.invariant}: exploration says {cell.verdict} at length {cell.length}, "
            f"bounded model checking {length} within {depth} steps"
        )
    note = cell.note if finished else f"{cell.note}; BMC: {found.stopped}".lstrip("; ")
    return dataclasses.replace(
        cell, engine="explore+bmc", depth=found.depth, note=note, seconds=cell.seconds + found.seconds
    )


# The tables of `check --full`

def rules_named(names: Iterable[str], specs: Iterable[str]) -> tuple[str, ...]:
    """The rules of those names in the kernels; that of a rule in sub-steps stands for all of them.

    Raises ModelError for one that none of the kernels has.
    """
    rules = {r.name for spec in specs for r in system_of(spec).rules}
    found: set[str] = set()
    for name in names:
        these = {r for r in rules if name in (r, r.partition(".")[0])}
        if not these:
            raise ModelError(f"no rule {name!r}{nearest(name, sorted(rules))}")
        found |= these
    return tuple(sorted(found))


def configured(path: Path = FULL) -> list[Table]:
    """The tables of a file of configurations; the comment at its top says what is in it. Raises ModelError."""
    return [_configured(entry) for entry in tomllib.loads(path.read_text(encoding="utf-8"))["configuration"]]


def _configured(entry: Mapping[str, Any]) -> Table:
    def because(what: str) -> dict[tuple[str, str], str]:
        return {
            (kernel, name): cells["because"]
            for cells in entry.get(what, ()) for kernel in cells["kernels"] for name in cells["invariants"]
        }

    kernels = entry.get("kernels", [*(k.name for k in KERNELS), *entry.get("also", ())])
    features = tuple(entry["features"])
    return Table(
        tuple((spec, find_kernel(spec)) for spec in kernels),
        tuple(find_invariant(name) for name in entry["invariants"]), scope_named(entry["scope"]),
        rules_named(entry.get("without", ()), [with_features(spec, features) for spec in kernels]),
        entry.get("timeout"), entry.get("proof_time", SECONDS), entry["name"], entry["about"], features,
        entry.get("inherits", False), because("violated"), because("holds"),
    )


_DIGITS = 30
"""Characters of a number that is looked at."""


def scope_named(text: str) -> Scope:
    """A scope by name, or as P,V,F,K,S: numbers of processes, pages, frames, references and swap slots; or as
    P,V,F,K,S,D,B with those of folios and blocks. Raises ModelError.
    """
    if text in SCOPES:
        return SCOPES[text]
    parts = text.split(",")
    if len(parts) not in (5, 7) or not all(re.fullmatch(r"\s*-?[0-9]+\s*", p) for p in parts):
        raise ModelError(
            f"scope {text!r} is neither {', '.join(SCOPES)} nor five numbers P,V,F,K,S or seven P,V,F,K,S,D,B"
        )
    for part in parts:
        # Python reads numbers of some thousand digits only.
        if len(part) > _DIGITS or int(part) > LARGEST:
            raise ModelError(f"a scope has at most {LARGEST} of a sort, not {part.strip()[:_DIGITS]}")
    return scope_of(*(int(p) for p in parts))


# Running many jobs

def _store(path: Path, key: str, cells: Sequence[Cell]) -> None:
    """Keep the results of the job of that key, all of them or none. Raises OSError."""
    part = path.with_suffix(".part")
    try:
        rows = [dataclasses.asdict(c) for c in cells]
        part.write_text(json.dumps({"of": key, "cells": rows}), encoding="utf-8")
        part.rename(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, f"cannot keep {path}") from error


def undecided(work: Iterable[Job], found: Mapping[CellKey, Cell], why: str) -> dict[CellKey, Cell]:
    """UNKNOWN cells, with that note, for all of the work that is not found, or found without a verdict or a reason."""
    cells = {}
    for job in work:
        for name in job.invariants:
            known = found.get(key := (job.table, job.kernel, name))
            if known is None:
                cells[key] = Cell(job.kernel, name, "UNKNOWN", job.engine, 0.0, False, note=why)
            elif known.verdict == "UNKNOWN" and not known.note:
                cells[key] = dataclasses.replace(known, note=why)
    return cells


def _stored(path: Path, job: Job) -> list[Cell] | None:
    """Results kept earlier, or None if there are none that can be read and say that they are of this job's content."""
    try:
        kept = json_text.read(path)
        if kept["of"] != job.key or len(kept["cells"]) != len(job.invariants):
            return None
        return [
            Cell(**{**row, "steps": _tuples(row["steps"]), "dead_rules": tuple(row["dead_rules"])})
            for row in kept["cells"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _named(job: Job, cells: Sequence[Cell]) -> list[Cell]:
    """The cells as those of the job, which may be of other names than that of the same content which was done."""
    return [
        dataclasses.replace(cell, kernel=job.kernel, invariant=name)
        for cell, name in zip(cells, job.invariants, strict=True)
    ]


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def run(
    work: Sequence[Job], out: Path, *, workers: int = 2, resume: bool = True, memory: int = Means.memory,
    ray: Any = None,
    progress: Callable[[int, int], Any] = lambda done, total: None, heard: Callable[[str], Any] = lambda line: None,
) -> Iterator[tuple[Job, list[Cell]]]:
    """Check every job, in parallel, giving each as it is done.

    What is done stays in `out`/results and is not done again; an exploration that takes long, or runs out of time or
    of `memory`, in bytes for each, stays in `out`/unfinished. `heard` gets lines on how far one is. With `ray`
    (cluster.connected) the jobs are done on that cluster, or if there is but one, its exploration is. Raises
    EngineError if two engines disagree.
    """
    kept = out / "results"
    kept.mkdir(parents=True, exist_ok=True)
    todo: dict[str, list[Job]] = {}
    done = 0
    for job in work:
        cells = _stored(kept / f"{job.key}.json", job) if resume else None
        if cells is None:
            todo.setdefault(job.key, []).append(job)
        else:
            done += 1
            yield job, _named(job, cells)
    progress(done, len(work))
    unfinished = out / "unfinished"
    if not resume:
        shutil.rmtree(unfinished, ignore_errors=True)
    means = Means(memory, max(1, workers // max(1, len(todo))), unfinished)
    jobs = [same[0] for same in todo.values()]
    if ray is None:
        results = each_done(functools.partial(run_job, means=means), jobs, workers, heard)
    elif len(jobs) == 1:
        with heard_here(heard):
            alone = run_job(jobs[0], dataclasses.replace(means, ray=ray))
        results = iter([(jobs[0], alone)])
    else:
        # What is not finished stays on the machine where it was begun: nobody would look for it there.
        alone_there = functools.partial(run_job, means=Means(memory))
        results = cluster.each_done(ray, alone_there, jobs)
    for first, cells in results:
        # A result that ran out of time may do better next time.
        lost: OSError | None = None
        if all(c.verdict != "UNKNOWN" for c in cells):
            try:
                _store(kept / f"{first.key}.json", first.key, cells)
            except OSError as error:
                lost = error
        for job in todo[first.key]:
            done += 1
            yield job, _named(job, cells)
        if lost is not None:
            # Not before: what is decided is decided, also where it cannot be kept.
            raise lost
        progress(done, len(work))


def with_proofs(
    cells: Iterable[Cell], out: Path, *, without: tuple[str, ...], fresh: bool, seconds: float, workers: int,
    progress: Callable[[str, int, int], Any], decided: Callable[[Cell], Any],
) -> None:
    """Tell `decided` the cells that are not violated with what proofs say of them, as soon as that is known; what the
    searches said stays where there is no proof. Raises EngineError as `prove` does.
    """
    left = {(c.kernel, c.invariant): c for c in cells if c.verdict != "VIOLATED"}

    def judged(verdicts: Mapping[tuple[str, str], Verdict]) -> None:
        for pair, verdict in verdicts.items():
            decided(_with_proof(left[pair], verdict))

    prove(
        list(left), out, without=without, fresh=fresh, seconds=seconds, workers=workers, progress=progress,
        judged=judged,
    )


def _with_proof(cell: Cell, verdict: Verdict) -> Cell:
    spent = verdict.attempt.seconds + (verdict.checked.seconds if verdict.checked else 0)
    cell = dataclasses.replace(
        cell, seconds=cell.seconds + spent, engine="proof" if cell.engine == "proof" else f"{cell.engine}+proof"
    )
    if verdict.proved and verdict.checked is not None:
        return dataclasses.replace(
            cell, verdict="PROVED", clauses=verdict.checked.clauses, certificate=str(verdict.attempt.manifest),
            dead_rules=verdict.dead_rules(cell.dead_rules if cell.states else None),
        )
    shown = "" if verdict.attempt.cti is None else f", see {verdict.attempt.cti}"
    return dataclasses.replace(cell, note="; ".join(filter(None, (cell.note, f"no proof: {verdict.note}{shown}"))))


def work_of(tables: Sequence[Table], engine: str, depth: int) -> list[Job]:
    """The searches for the tables, by an engine of ENGINES. Raises ModelError for an engine or depth there is not."""
    if engine not in ENGINES:
        raise ModelError(f"no engine {engine!r}{nearest(engine, ENGINES)}")
    if depth < 0:
        raise ModelError(f"a depth is 0 or more, not {depth}")
    searches = "both" if engine == "all" else engine
    # BMC is slow at the lengths that sub-steps need; a counterexample is executed by the interpreter in any case.
    return [
        job for table in tables
        for job in jobs(table, "explore" if table.name and searches == "both" else searches, depth)
    ]


def decide(
    tables: Sequence[Table], work: Sequence[Job], found: dict[CellKey, Cell], out: Path, *, proofs: bool,
    fresh: bool = False, workers: int = 2, memory: int = Means.memory, ray: Any = None,
    progress: Callable[[str, int, int], Any] = lambda stage, done, total: None,
    heard: Callable[[str], Any] = lambda line: None,
) -> None:
    """Do the work and put every cell into `found` as it is decided, the trace of each violation under `out`.

    `proofs`: what is not violated is then to be proved. `fresh`: nothing that an earlier run kept is taken. The rest is
    as in `run`. Raises EngineError if two engines disagree.
    """
    searched = run(
        work, out, workers=workers, resume=not fresh, memory=memory, ray=ray, heard=heard,
        progress=lambda done, total: progress("checking", done, total),
    )
    pictures = {ending: FORMATS[ending] for ending in ("svg", "dot")}
    for job, cells in searched:
        found |= {(job.table, cell.kernel, cell.invariant): cell for cell in cells}
        for cell in cells:
            if cell.verdict == "VIOLATED":
                traced = write_trace(cell, job.scope, out / job.table, pictures)
                found[job.table, cell.kernel, cell.invariant] = traced
    for table in tables if proofs else ():
        if table.proof_time:
            def decided(cell: Cell, name: str = table.name) -> None:
                found[name, cell.kernel, cell.invariant] = cell

            with_proofs(
                table.cells(found), out, without=table.without, fresh=fresh, seconds=table.proof_time, workers=workers,
                progress=progress, decided=decided,
            )


def verdicts(
    kernels: Iterable[str | Kernel], invariants: Iterable[str | Invariant] = INVARIANTS, *,
    features: Iterable[str] = (), scope: str | Scope = "default", engine: str = "all", depth: int = BMC_DEPTH,
    timeout: float | None = None, proof_time: float = SECONDS, out: str | Path = "proofs-out", fresh: bool = False,
    workers: int = 2,
) -> list[Cell]:
    """What `python -m proofs check` says of those kernels and invariants, by rows; traces and certificates under `out`.

    Both are named as on the command line, or are values of a file of yours, in which they must have a name: worker
    processes read that file again. An invariant that says nothing of a kernel has no cell there. `timeout`,
    `proof_time`: seconds for each search and for each proof. Raises ModelError for what makes no sense, EngineError if
    two engines disagree.
    """
    if multiprocessing.parent_process() is not None:
        raise ModelError(UNGUARDED)
    check_time(timeout, proof_time)
    specs = [kernel if isinstance(kernel, str) else spec_of(kernel) for kernel in kernels]
    names = [stated if isinstance(stated, str) else spec_of(stated) for stated in invariants]
    table = Table(
        tuple((with_features(spec, tuple(features)), find_kernel(spec)) for spec in specs),
        tuple(each for name in names for each in find_invariants(name)),
        scope_named(scope) if isinstance(scope, str) else scope, timeout=timeout, proof_time=proof_time,
    )
    found: dict[CellKey, Cell] = {}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    work = work_of([table], engine, depth)
    try:
        decide([table], work, found, folder, proofs=engine in PROVING, fresh=fresh, workers=workers)
    except BrokenProcessPool as error:
        raise ModelError(f"a worker process ended: {UNGUARDED}; if it is, memory ran out") from error
    return table.cells(found)


def trace_of(cell: Cell, scope: Scope) -> Trace:
    """The cell's counterexample, executed on the reference interpreter. Raises TraceError if it is none."""
    broken = find_invariant(cell.invariant)
    system = trace_system(cell.kernel, (broken,))
    steps = [Instance(system.rule(name), binding) for name, binding in cell.steps]
    alone = system_of(cell.kernel).restricted(system_of(cell.kernel).cone([broken.formula, broken.premise]))
    sizes = _with_contents(scope, broken, alone)
    return execute(cell.kernel, broken.name, broken.statement, system, sizes, steps, violated=broken.formula)


def write_trace(cell: Cell, scope: Scope, out: Path, formats: dict[str, Callable[[Trace], str]]) -> Cell:
    """Write the counterexample as JSON and in each of `formats` (file ending to renderer); the cell with its path."""
    folder = out / file_name(cell.kernel)
    folder.mkdir(parents=True, exist_ok=True)
    trace = trace_of(cell, scope)
    name = file_name(cell.invariant)
    path = folder / f"{name}.trace.json"
    write(trace, path)
    for ending, render in formats.items():
        (folder / f"{name}.{ending}").write_text(render(trace), encoding="utf-8")
    return dataclasses.replace(cell, trace=str(path))
