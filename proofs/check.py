"""The table of verdicts: every kernel against every invariant, by exploration and by bounded model checking."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import z3

from invariants import FURTHER, INVARIANTS, Invariant, invariant
from model.kernels import KERNELS, Kernel
from model.logic import ModelError, Scope, System
from proofs.bmc import Induction, Unrolling, bmc, k_induction
from proofs.explore import Claim, Exploration, Finding, explore
from proofs.interpreter import EngineError, Instance
from proofs.kernel_file import find_kernel, nearest, system_of, with_features
from proofs.pool import each_done
from proofs.prove import SECONDS, Verdict, prove
from proofs.trace import Trace, execute, write

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
    "large": scope_of(3, 1, 4, 2, 1),
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

    `kernel` carries the features; `table`: the name of the table that asks.
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

    def cone(self) -> System:
        """The part of the kernel's system on which its invariants can depend."""
        stated = [invariant(name) for name in self.invariants]
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


def formula_of(name: str) -> Any:
    """The formula of the invariant of that name, None if there is none."""
    return invariant(name).formula if name in {i.name for i in (*INVARIANTS, *FURTHER)} else None


@functools.lru_cache(64)
def trace_system(spec: str) -> System:
    """The system on which traces of `check` are executed."""
    system = system_of(spec)
    shown = [f(*(z3.Const(s.name(), s) for s in f.domain)) for f in system.functions if f.name not in OBSERVED_ONLY]
    # Some feature may make a rule depend on what is otherwise observed only, as KSM on the content of pages.
    return system.restricted(system.cone(shown))


def jobs(table: Table, engine: str, depth: int) -> list[Job]:
    """The work for a table."""
    made = []
    without, timeout = table.without, table.timeout
    for named, kernel in table.kernels:
        cones: dict[tuple[str, frozenset[str]], list[Invariant]] = {}
        for each in table.invariants:
            if each.applies_to(kernel):
                spec = table.spec(named, each)
                cone = system_of(spec, without).cone([each.formula, each.premise])
                cones.setdefault((spec, cone), []).append(each)
        for (spec, cone), members in cones.items():
            text = "\n".join(
                [system_of(spec, without).restricted(cone).text(),
                 *(i.formula.sexpr() + i.premise.sexpr() for i in members),
                 str(table.scope), engine, str(timeout), str(depth), program_digest()]
            )
            key = hashlib.sha256(text.encode()).hexdigest()[:24]
            names = tuple(i.name for i in members)
            made.append(Job(spec, names, table.scope, engine, timeout, depth, without, key, table.name))
    return made


def run_job(job: Job) -> list[Cell]:
    """Check the job's invariants. Raises EngineError if two engines disagree."""
    system = job.cone()
    claims = [claim_of(invariant(name)) for name in job.invariants]
    if job.engine == "proof":
        return [Cell(job.kernel, c.name, "UNKNOWN", "proof", 0.0, False) for c in claims]
    # A rule of the user's own might let a cell matter without writing it, which would tell elements apart.
    reduce = not find_kernel(job.kernel).own_rules
    if job.engine in ("bmc", "k-induction"):
        return _by_unrolling(job, system, claims, reduce)
    explored = explore(
        system, job.scope, claims, timeout=job.timeout, stop_at_violations=True, reduce=reduce
    )
    cells = [_by_exploration(job, explored, finding) for finding in explored.findings]
    if job.engine == "both":
        unrolling = Unrolling(system, job.scope, reduce)
        pairs = zip(claims, cells, strict=True)
        cells = [_second_opinion(job, system, claim, cell, unrolling) for claim, cell in pairs]
    return cells


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
        note = f"{explored.stopped}; no violation within {explored.diameter} steps"
        return dataclasses.replace(cell, verdict="UNKNOWN", note=note)
    return cell


def _by_unrolling(job: Job, system: System, claims: Sequence[Claim], reduce: bool) -> list[Cell]:
    """By BMC, or by k-induction where the job asks for it."""
    unrolling = Unrolling(system, job.scope, reduce)
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
            note = f"{found.stopped}; no violation within {found.depth} steps"
            cell = dataclasses.replace(cell, verdict="UNKNOWN", note=note)
        cells.append(cell)
    return cells


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
        tuple(invariant(name) for name in entry["invariants"]), scope_named(entry["scope"]),
        rules_named(entry.get("without", ()), [with_features(spec, features) for spec in kernels]),
        entry.get("timeout"), entry.get("proof_time", SECONDS), entry["name"], entry["about"], features,
        entry.get("inherits", False), because("violated"), because("holds"),
    )


def scope_named(text: str) -> Scope:
    """A scope by name, or as P,V,F,K,S: numbers of processes, pages, frames, references and swap slots; or as
    P,V,F,K,S,D,B with those of folios and blocks. Raises ModelError.
    """
    if text in SCOPES:
        return SCOPES[text]
    parts = text.split(",")
    if len(parts) not in (5, 7) or not all(p.strip().lstrip("-").isdigit() for p in parts):
        raise ModelError(
            f"scope {text!r} is neither {', '.join(SCOPES)} nor five numbers P,V,F,K,S or seven P,V,F,K,S,D,B"
        )
    return scope_of(*(int(p) for p in parts))


# Running many jobs

def _stored(path: Path) -> list[Cell] | None:
    """Results kept earlier, or None if there are none that can be read."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [
            Cell(**{**row, "steps": _tuples(row["steps"]), "dead_rules": tuple(row["dead_rules"])}) for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def run(
    work: Sequence[Job], out: Path, *, workers: int = 2, resume: bool = True,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Iterator[tuple[Job, list[Cell]]]:
    """Check every job, in parallel, giving each as it is done.

    What is done stays in `out`/results and is not done again. Raises EngineError if two engines disagree.
    """
    kept = out / "results"
    kept.mkdir(parents=True, exist_ok=True)
    todo: dict[str, list[Job]] = {}
    done = 0
    for job in work:
        cells = _stored(kept / f"{job.key}.json") if resume else None
        if cells is None:
            todo.setdefault(job.key, []).append(job)
        else:
            done += 1
            yield job, [dataclasses.replace(c, kernel=job.kernel) for c in cells]
    progress(done, len(work))
    for first, cells in each_done(run_job, [same[0] for same in todo.values()], workers):
        # A result that ran out of time may do better next time.
        if all(c.verdict != "UNKNOWN" for c in cells):
            rows = [dataclasses.asdict(c) for c in cells]
            part = kept / f"{first.key}.part"
            part.write_text(json.dumps(rows), encoding="utf-8")
            part.rename(kept / f"{first.key}.json")
        for job in todo[first.key]:
            done += 1
            yield job, [dataclasses.replace(c, kernel=job.kernel) for c in cells]
        progress(done, len(work))


def with_proofs(
    cells: Iterable[Cell], out: Path, *, without: tuple[str, ...], fresh: bool, seconds: float, workers: int,
    progress: Callable[[str, int, int], Any],
) -> dict[tuple[str, str], Cell]:
    """The cells that are not violated, with what proofs say of them; what the searches said stays where there is none.

    Raises EngineError as `prove` does.
    """
    left = {(c.kernel, c.invariant): c for c in cells if c.verdict != "VIOLATED"}
    verdicts = prove(
        list(left), out, without=without, fresh=fresh, seconds=seconds, workers=workers, progress=progress
    )
    return {pair: _with_proof(cell, verdicts[pair]) for pair, cell in left.items()}


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


def trace_of(cell: Cell, scope: Scope) -> Trace:
    """The cell's counterexample, executed on the reference interpreter. Raises TraceError if it is none."""
    system = trace_system(cell.kernel)
    broken = invariant(cell.invariant)
    steps = [Instance(system.rule(name), binding) for name, binding in cell.steps]
    return execute(cell.kernel, broken.name, broken.statement, system, scope, steps, violated=broken.formula)


def file_name(spec: str) -> str:
    """A kernel's name as part of a file's."""
    return spec.replace("/", "_").replace(":", "_")


def write_trace(cell: Cell, scope: Scope, out: Path, formats: dict[str, Callable[[Trace], str]]) -> Cell:
    """Write the counterexample as JSON and in each of `formats` (file ending to renderer); the cell with its path."""
    folder = out / file_name(cell.kernel)
    folder.mkdir(parents=True, exist_ok=True)
    trace = trace_of(cell, scope)
    path = folder / f"{cell.invariant}.trace.json"
    write(trace, path)
    for ending, render in formats.items():
        (folder / f"{cell.invariant}.{ending}").write_text(render(trace), encoding="utf-8")
    return dataclasses.replace(cell, trace=str(path))
