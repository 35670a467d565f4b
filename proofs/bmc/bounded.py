"""Bounded model checking and k-induction over unrolled steps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import z3

from model.logic import Scope, System, Term
from proofs.bmc.unrolling import Size, Unrolling
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.engine import Claim
from proofs.errors import EngineError


@dataclass(frozen=True)
class Bounded:
    """`path`: a shortest violation, or None. `depth`: no violation has at most this many steps (-1: not even none).

    `stopped`: what ran out, empty if the depth asked for was reached. `size`: of the encoding of a step.
    """

    path: tuple[Instance, ...] | None
    depth: int
    stopped: str
    seconds: float
    size: Size


@dataclass(frozen=True)
class Induction:
    """`path`: a shortest violation, or None. `k`: the claim holds in every reachable state of the scope, shown by
    k-induction with that k; None if it was not shown. `depth`: no violation has at most this many steps (-1: not even
    none).

    `stopped`: what ran out, empty if there is a path or a k, or the depth asked for was reached without either.
    `size`: of the encoding of a step.
    """

    path: tuple[Instance, ...] | None
    k: int | None
    depth: int
    stopped: str
    seconds: float
    size: Size


class _Stopped(Exception):
    """The time is over, or z3 gave up; the message says which."""


class _Paths:
    """The paths of `steps` steps that begin in a state where `start` holds.

    `timeout`: seconds from `started` on the monotonic clock that all queries may take.
    """

    def __init__(self, unrolling: Unrolling, start: Any, started: float, timeout: float | None) -> None:
        self.unrolling = unrolling
        self.steps = 0
        self._started = started
        self._timeout = timeout
        self._solver = z3.SolverFor("QF_FD")
        self._asked = 0
        self.require(start)

    def require(self, term: Any) -> None:
        """Only paths whose last state satisfies the term, which is over `now`."""
        self._solver.add(self.unrolling.renamed(term, self.steps))

    def extend(self) -> None:
        """One step more."""
        self.require(self.unrolling.transition)
        self.steps += 1

    def require_new_state(self) -> None:
        """Only paths whose last state is none of those before."""
        last = self.unrolling.at(self.steps)
        for step in range(self.steps):
            pairs = zip(self.unrolling.at(step), last, strict=True)
            self._solver.add(z3.Or(*(z3.Xor(a, b) for a, b in pairs)))

    def ending_in(self, goal: Any) -> list[State] | None:
        """The states of a path whose last one satisfies `goal`, or None if there is none. Raises _Stopped."""
        if self._timeout is not None:
            left = self._timeout - (time.monotonic() - self._started)
            if left <= 0:
                raise _Stopped(f"out of time after {self._timeout:g} s")
            self._solver.set("timeout", max(1, int(left * 1000)))
        # Asked as an assumption: what the solver learns in a scope is lost with it.
        self._asked += 1
        asked = z3.Bool(f"goal{self._asked}")
        reached = self.unrolling.renamed(goal, self.steps)
        self._solver.add(z3.Implies(asked, reached))
        answer = self._solver.check(asked)
        if answer == z3.unknown:
            raise _Stopped(f"z3 gave up: {self._solver.reason_unknown()}")
        if answer == z3.sat:
            return self._states()
        self._solver.add(z3.Not(reached))
        return None

    def _states(self) -> list[State]:
        model, states = self._solver.model(), []
        for step in range(self.steps + 1):
            packed = 0
            for i, bit in enumerate(self.unrolling.at(step)):
                packed |= int(z3.is_true(model.eval(bit, model_completion=True))) << i
            states.append(self.unrolling.grounder.unpack(packed))
        return states


def bmc(
    system: System, scope: Scope, claim: Claim, depth: int, timeout: float | None = None,
    unrolling: Unrolling | None = None,
) -> Bounded:
    """Search for a violation of `claim` with at most `depth` steps, shortest first.

    `timeout` in seconds, in all. `unrolling`: that of the same system and scope, if there is one already.
    """
    started = time.monotonic()
    unrolling = unrolling or Unrolling(system, scope)
    broken = z3.Not(unrolling.formula(claim.formula))
    paths = _Paths(unrolling, unrolling.initial, started, timeout)
    try:
        while (states := paths.ending_in(broken)) is None and paths.steps < depth:
            paths.extend()
    except _Stopped as reason:
        return Bounded(None, paths.steps - 1, str(reason), time.monotonic() - started, unrolling.size)
    if states is None:
        return Bounded(None, depth, "", time.monotonic() - started, unrolling.size)
    path = Interpreter(system, scope).follow(states, lambda state: state)
    return Bounded(path, paths.steps - 1, "", time.monotonic() - started, unrolling.size)


def k_induction(
    system: System, scope: Scope, claim: Claim, depth: int, timeout: float | None = None,
    unrolling: Unrolling | None = None, lemmas: Sequence[Term] = (),
) -> Induction:
    """Prove `claim` in every reachable state of the scope, or find a shortest violation, by k-induction.

    For k = 1, 2, ..., `depth`: no violation has fewer than k steps, and k steps between different states where the
    claim holds, beginning anywhere, do not lead to one where it does not. `timeout` in seconds, in all. `unrolling`:
    that of the same system and scope, if there is one already. `lemmas`: closed formulas over the system's state
    functions that the caller has proved for reachable states; they are assumed where the steps begin anywhere. Raises
    EngineError if the search for violations meets a state where one of them does not hold.
    """
    started = time.monotonic()
    unrolling = unrolling or Unrolling(system, scope)
    holds = unrolling.formula(claim.formula)
    known = z3.And(*(unrolling.formula(lemma) for lemma in lemmas))
    reachable = _Paths(unrolling, unrolling.initial, started, timeout)
    anywhere = _Paths(unrolling, z3.And(unrolling.state(), known), started, timeout)
    excluded = -1

    def result(path: tuple[Instance, ...] | None, k: int | None, stopped: str) -> Induction:
        return Induction(path, k, excluded, stopped, time.monotonic() - started, unrolling.size)

    try:
        while True:
            if lemmas and reachable.ending_in(z3.Not(known)) is not None:
                raise EngineError(f"a lemma taken for {claim.name} is violated after {reachable.steps} steps")
            states = reachable.ending_in(z3.Not(holds))
            if states is not None:
                return result(Interpreter(system, scope).follow(states, lambda state: state), None, "")
            excluded = reachable.steps
            if excluded == depth:
                return result(None, None, "")
            anywhere.require(holds)
            anywhere.extend()
            anywhere.require(known)
            anywhere.require_new_state()
            if anywhere.ending_in(z3.Not(holds)) is None:
                return result(None, anywhere.steps, "")
            reachable.extend()
    except _Stopped as reason:
        return result(None, None, str(reason))
