"""The engines there are, by the names that `--engine` takes."""

from __future__ import annotations

import dataclasses

from proofs.bmc import engine as unrolling
from proofs.bmc.bounded import bmc
from proofs.bmc.unrolling import Unrolling
from proofs.engine import Claim, Engine, Evidence, Means, Query
from proofs.errors import EngineError
from proofs.explore.engine import explored


def both(query: Query, means: Means) -> list[Evidence]:
    """Explore, and let bounded model checking find the same shortest violations. Raises EngineError if it does not."""
    found = explored(query, means)
    unrolled = unrolling.unrolling_of(query)
    if unrolled is None:
        late = f"BMC: out of time after {query.timeout:g} s"
        return [dataclasses.replace(e, note="; ".join(filter(None, (e.note, late)))) for e in found]
    return [second_opinion(query, c, e, unrolled) for c, e in zip(query.claims, found, strict=True)]


def second_opinion(query: Query, claim: Claim, first: Evidence, unrolled: Unrolling) -> Evidence:
    """Bounded model checking must find the same shortest length, or nothing where exploration found nothing."""
    known = None if first.path is None else len(first.path)
    depth = query.depth if known is None else known
    found = bmc(query.system, query.scope, claim, depth, query.timeout, unrolled)
    evidence = dataclasses.replace(first, encoding=dataclasses.asdict(found.size))
    length = None if found.path is None else len(found.path)
    finished = not found.stopped or found.path is not None
    unexplored = first.verdict == "UNKNOWN" and length is not None and length > (first.diameter or 0)
    if unexplored and found.path is not None:
        return dataclasses.replace(evidence.violated(found.path), engine="bmc")
    if finished and length != known:
        raise EngineError(
            f"{query.name}, {claim.name}: exploration says {first.verdict} at length {known}, "
            f"bounded model checking {length} within {depth} steps"
        )
    note = first.note if finished else f"{first.note}; BMC: {found.stopped}".lstrip("; ")
    return dataclasses.replace(
        evidence, engine="explore+bmc", depth=found.depth, note=note, seconds=first.seconds + found.seconds
    )


def unsearched(query: Query, means: Means) -> list[Evidence]:
    """No search: a proof is sought of every claim."""
    return [Evidence(claim.name, "UNKNOWN", "proof", 0.0) for claim in query.claims]


ENGINES: dict[str, Engine] = {
    "all": both, "both": both, "explore": explored, "bmc": unrolling.bounded,
    "k-induction": unrolling.inductive, "proof": unsearched,
}
"""What searches; an engine is a file of its own and an entry here."""
PROVING = ("all", "proof")
"""Those after which a proof for any size is sought of what is not violated (prove.py), for many kernels at once."""
