"""Claims that are checked together, and the engines that check them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import z3

from invariants import Invariant
from model.logic import Scope, System
from proofs.bmc.bounded import Induction, bmc, k_induction
from proofs.bmc.unrolling import Unrolling
from proofs.check.cells import Cell, Table, claim_of, with_contents
from proofs.clock import done_by
from proofs.derive.interpreter import Instance
from proofs.engine import Claim, Exploration, Finding
from proofs.errors import EngineError, OutOfTime
from proofs.explore import cluster
from proofs.explore.progress import Progress
from proofs.explore.search import explore
from proofs.naming.specs import Terms, check_spoken, find_invariant, find_kernel, system_of, terms_of
from proofs.parallel import tell

BMC_DEPTH = 5
"""Steps to which bounded model checking follows an exploration that found nothing."""
ENGINES = ("all", "both", "explore", "bmc", "k-induction", "proof")
UNGUARDED = "worker processes read this file again, so say `if __name__ == \"__main__\":` before verdicts is called"


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


@functools.cache
def program_digest() -> str:
    """Hash of this program's own text: results of another version are not taken for ours."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in ("model", "invariants", "proofs"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


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
                scope = with_contents(table.scope, each, system_of(spec, without).restricted(cone))
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
