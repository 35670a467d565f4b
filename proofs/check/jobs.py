"""Claims that are checked together, and the engines that check them."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invariants import Invariant
from model.logic import Scope, System
from proofs.check.cells import Cell, Table, claim_of, with_contents
from proofs.check.engines import ENGINES
from proofs.engine import Claim, Means, Query
from proofs.naming.specs import TermDigests, check_spoken, find_invariant, find_kernel, system_of, terms_of

BMC_DEPTH = 5
"""Steps to which bounded model checking follows an exploration that found nothing."""
USUAL = Means()
LOADED = time.time()
"""When this was loaded."""


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
    terms: TermDigests | None = None

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
    """Hash of this program's own text: results of another version are not taken for ours.

    Where the text has changed since it was loaded, as in a long session, it is not what runs: then one that never comes
    again.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parents[2]
    for package in ("model", "invariants", "proofs"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
            if path.stat().st_mtime > LOADED:
                digest.update(os.urandom(16))
    return digest.hexdigest()


def jobs(table: Table, engine: str, depth: int) -> list[Job]:
    """The work for a table."""
    work = []
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
            work.append(Job(spec, names, scope, engine, timeout, depth, without, key, table.name, terms))
    return work


def system_and_claims(job: Job) -> tuple[System, list[Claim]]:
    """The system and the claims of a job. Raises ModelError if they are others than where the job was made."""
    if job.terms is not None:
        job.terms.compare()
    return job.cone(), [claim_of(find_invariant(name)) for name in job.invariants]


def run_job(job: Job, means: Means = USUAL) -> list[Cell]:
    """Check the job's invariants. Raises EngineError if two engines disagree, OSError if nothing can be kept."""
    try:
        return [Cell.of(job.kernel, evidence) for evidence in ENGINES[job.engine](query_of(job), means)]
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        note = "out of memory: the system gives no more; a smaller scope, --memory or --workers needs less"
        return [Cell(job.kernel, name, "UNKNOWN", job.engine, 0.0, False, note=note) for name in job.invariants]


def query_of(job: Job) -> Query:
    """What the job asks of its engine. Raises ModelError as `posed` does."""
    system, claims = system_and_claims(job)
    # A rule that is not the model's might let a cell matter without writing it, which would tell elements apart.
    reduce = not find_kernel(job.kernel).unusual_rules
    return Query(
        job.kernel, system, job.scope, tuple(claims), functools.partial(system_and_claims, job), job.depth, job.timeout,
        reduce,
    )
