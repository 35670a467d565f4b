"""Exploration as an engine: EXHAUSTED, or VIOLATED by a shortest path."""

from __future__ import annotations

from proofs.engine import Evidence, Exploration, Finding, Means, Query
from proofs.explore import cluster
from proofs.explore.progress import Progress
from proofs.explore.search import explore


def explored(query: Query, means: Means) -> list[Evidence]:
    """Explore all states of the scope, on this machine or spread over a cluster."""
    def progress(reached: Progress) -> None:
        if means.tell is not None:
            means.tell(f"{query.name}: {reached}")

    if means.ray is None:
        found = explore(
            query.system, query.scope, query.claims, timeout=query.timeout, stop_at_violations=True,
            reduce=query.reduce, memory=means.memory, threads=means.threads, checkpoints=means.checkpoints,
            progress=progress,
        )
    else:
        found = cluster.explore(
            means.ray, cluster.ClusterTask(query.make, query.scope, query.reduce), timeout=query.timeout,
            stop_at_violations=True, memory=means.memory, checkpoints=means.checkpoints, progress=progress,
        )
    return [_evidence(found, finding) for finding in found.findings]


def _evidence(found: Exploration, finding: Finding) -> Evidence:
    evidence = Evidence(
        finding.claim.name, "EXHAUSTED", "explore", found.seconds / len(found.findings), finding.vacuous,
        states=found.states, transitions=found.transitions, diameter=found.diameter,
        dead_rules=tuple(name for name, times in found.fired.items() if not times) if found.complete else (),
    )
    if finding.path is not None:
        return evidence.violated(finding.path)
    return evidence if found.complete else evidence.cut_short(found.stopped, found.diameter)
