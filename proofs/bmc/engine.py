"""Bounded model checking and k-induction as engines."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import z3

from proofs.bmc.bounded import Induction, bmc, k_induction
from proofs.bmc.unrolling import Unrolling
from proofs.clock import done_by
from proofs.engine import Claim, Evidence, Means, Query
from proofs.errors import OutOfTime


def bounded(query: Query, means: Means) -> list[Evidence]:
    """Look for a violation within `depth` steps: BOUNDED, or VIOLATED by a shortest path."""
    return _unrolled(query, "bmc")


def inductive(query: Query, means: Means) -> list[Evidence]:
    """The same, and try to show by k-induction with k up to `depth` that there is none: then EXHAUSTED."""
    return _unrolled(query, "k-induction")


def unrolling_of(query: Query) -> Unrolling | None:
    """The system's unrolling; None if the query's time does not suffice to make it."""
    deadline = None if query.timeout is None else time.monotonic() + query.timeout
    with contextlib.suppress(OutOfTime), done_by(deadline):
        return Unrolling(query.system, query.scope, query.reduce)
    return None


def _unrolled(query: Query, engine: str) -> list[Evidence]:
    unrolling = unrolling_of(query)
    if unrolling is None:
        why = f"out of time after {query.timeout:g} s"
        return [Evidence(c.name, "", engine, query.timeout or 0.0).cut_short(why, -1) for c in query.claims]
    return [_evidence(query, claim, engine, unrolling) for claim in query.claims]


def _evidence(query: Query, claim: Claim, engine: str, unrolling: Unrolling) -> Evidence:
    met = _premise_met(query, claim, unrolling)
    search = k_induction if engine == "k-induction" else bmc
    found = search(query.system, query.scope, claim, query.depth, query.timeout, unrolling)
    evidence = Evidence(
        claim.name, "BOUNDED", engine, found.seconds, not met, depth=found.depth,
        encoding=dataclasses.asdict(found.size),
    )
    if found.path is not None:
        return evidence.violated(found.path)
    if isinstance(found, Induction) and found.k is not None:
        return dataclasses.replace(evidence, verdict="EXHAUSTED", note=f"by {found.k}-induction", depth=None)
    return evidence.cut_short(found.stopped, found.depth) if found.stopped else evidence


def _premise_met(query: Query, claim: Claim, unrolling: Unrolling) -> bool:
    """Within the depth, some state makes the claim say something."""
    negated = Claim("premise", z3.Not(claim.premise), claim.premise)
    return bmc(query.system, query.scope, negated, query.depth, query.timeout, unrolling).path is not None
