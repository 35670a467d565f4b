"""What an engine takes and what it gives with its evidence. The engines there are: proofs/check/engines.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from model.logic import Scope, System, Term
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


@dataclass(frozen=True)
class Query:
    """Claims about one system in one scope.

    `name`: of the system, for messages. `make`: gives the system and the claims on whatever machine it is called; it
    can be pickled. `depth`: steps that a bounded search looks at; `timeout`: seconds for each search. `reduce`:
    elements of a sort may be taken for interchangeable.
    """

    name: str
    system: System
    scope: Scope
    claims: tuple[Claim, ...]
    make: Callable[[], tuple[System, Sequence[Claim]]]
    depth: int
    timeout: float | None = None
    reduce: bool = True


@dataclass(frozen=True)
class Means:
    """What an engine may use: `memory` in bytes, `threads`, a folder for what is not finished, or None; and `ray`, if
    it is to be spread over a cluster (cluster.connected). `tell`: hears in words how far it is.
    """

    memory: int = 8 << 30
    threads: int = 1
    checkpoints: Path | None = None
    ray: Any = None
    tell: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Evidence:
    """What an engine says of one claim: a verdict, and on what it rests.

    `path`: the steps of a shortest violation. `depth`: steps within which a bounded search saw none. `note`: what ran
    out. `encoding`: the size of a step for a solver, by the names of bmc's Size.
    """

    claim: str
    verdict: str
    engine: str
    seconds: float
    vacuous: bool = False
    path: tuple[Instance, ...] | None = None
    states: int | None = None
    transitions: int | None = None
    diameter: int | None = None
    depth: int | None = None
    note: str = ""
    dead_rules: tuple[str, ...] = ()
    encoding: Mapping[str, int] | None = field(default=None, hash=False)

    def violated(self, path: Sequence[Instance]) -> Evidence:
        """The same with that violation."""
        return dataclasses.replace(self, verdict="VIOLATED", path=tuple(path), vacuous=False)

    def cut_short(self, why: str, depth: int) -> Evidence:
        """The same of a search that was cut short; with -1 not even the initial state was looked at."""
        note = f"{why}; no violation within {depth} steps" if depth >= 0 else f"{why}; nothing was searched"
        return dataclasses.replace(self, verdict="UNKNOWN", note=note)


class Engine(Protocol):
    """Answers each claim of a query. Raises EngineError if it contradicts itself, OSError if nothing can be kept."""

    def __call__(self, query: Query, means: Means) -> list[Evidence]: ...
