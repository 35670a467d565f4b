"""What engines take and give."""

from __future__ import annotations

from dataclasses import dataclass

from model.logic import Term
from proofs.derive.interpreter import Instance


@dataclass(frozen=True)
class Claim:
    """A closed formula to check in every state, and the premise without which it says nothing."""

    name: str
    formula: Term
    premise: Term


@dataclass(frozen=True)
class Finding:
    """What exploration says of one claim. `path`: the steps to the nearest violation, None if there is none."""

    claim: Claim
    path: tuple[Instance, ...] | None
    vacuous: bool


@dataclass(frozen=True)
class Exploration:
    """A finished or interrupted exploration.

    `complete`: every reachable state was expanded. `stopped`: why not, in words. `diameter`: length of the longest
    shortest path (of the levels finished). `fired`: rule name to the number of its steps.
    """

    findings: tuple[Finding, ...]
    complete: bool
    stopped: str
    states: int
    transitions: int
    diameter: int
    levels: tuple[int, ...]
    fired: dict[str, int]
    seconds: float
