"""Bounded model checking: z3 searches for a violation of exactly n steps, for n = 0, 1, 2, ...

A second engine: it shares the grounding with exploration, but not the search, and rules keep symbolic parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import z3

from model.logic import Rule, Scope, System
from proofs.circuit import FALSE, Circuit
from proofs.explore import Claim
from proofs.ground import Grounder
from proofs.interpreter import Instance, Interpreter, State


@dataclass(frozen=True)
class Bounded:
    """`path`: a shortest violation, or None. `depth`: no violation has at most this many steps (-1: not even none).

    `stopped`: what ran out, empty if the depth asked for was reached.
    """

    path: tuple[Instance, ...] | None
    depth: int
    stopped: str
    seconds: float


class _Terms:
    """Circuit literals as z3 terms over one Bool constant per circuit input."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.known: dict[int, Any] = {0: z3.BoolVal(False)}
        self.inputs: list[Any] = []

    def term(self, literal: int) -> Any:
        for gate in self.circuit.cone([literal]):
            if gate not in self.known:
                op, a, b = self.circuit.gates[gate]
                if op == "in":
                    self.known[gate] = z3.Bool(self.circuit.inputs[a])
                else:
                    make = z3.And if op == "and" else z3.Xor
                    self.known[gate] = make(self._signed(a), self._signed(b))
        return self._signed(literal)

    def _signed(self, literal: int) -> Any:
        return z3.Not(self.known[literal >> 1]) if literal & 1 else self.known[literal >> 1]


def _parameters(grounder: Grounder, rules: tuple[Rule, ...]) -> tuple[Callable[[Rule], dict[str, Any]], list[int]]:
    """Symbolic elements for every rule's parameters, shared among rules; and the literals that make them elements."""
    pools: dict[str, list[tuple[int, ...]]] = {}
    sound: list[int] = []

    def element(sort: str, number: int) -> Any:
        size = grounder.scope.as_dict()[sort]
        if size == 1:
            return 0
        pool = pools.setdefault(sort, [])
        while len(pool) <= number:
            one_hot = tuple(grounder.circuit.input(f"{sort}{len(pool)}_{n}") for n in range(size))
            pool.append(one_hot)
            sound.append(grounder.circuit.any(one_hot))
            for i in range(size):
                sound.extend(grounder.circuit.and2(one_hot[i], one_hot[j]) ^ 1 for j in range(i))
        return pool[number]

    def binding(rule: Rule) -> dict[str, Any]:
        used: dict[str, int] = {}
        bound: dict[str, Any] = {}
        for param in rule.params:
            sort = param.sort.name()
            wanted = 1 if param.over is None else grounder.scope.size(param.over)
            start = used.get(sort, 0)
            used[sort] = start + wanted
            elements = tuple(element(sort, start + i) for i in range(wanted))
            bound[param.name] = elements[0] if param.over is None else elements
        return bound

    for rule in rules:
        binding(rule)
    return binding, sound


class Unrolling:
    """The grounded transition relation as one z3 term, and fresh copies of it step by step.

    `initial`, `transition`: quantifier-free Bool terms over `now` and `after`, the state bits, and `choice`, the
    parameters of the step.
    """

    def __init__(self, system: System, scope: Scope) -> None:
        self.grounder = Grounder(system, scope)
        grounder = self.grounder
        binding, sound = _parameters(grounder, system.rules)
        self._terms = _Terms(grounder.circuit)
        self.now = [self._terms.term(literal) for literal in grounder.inputs]
        self.after = [z3.Bool(f"after{i}") for i in range(grounder.bits)]
        moves = []
        for rule in system.rules:
            bound = binding(rule)
            guard = grounder.guard(rule, bound)
            if guard == FALSE:
                continue
            changed = dict(grounder.next_bits(grounder.after(rule, bound)))
            moves.append(
                z3.And(
                    self._terms.term(guard),
                    *(
                        self.after[i] == (self._terms.term(changed[i]) if i in changed else self.now[i])
                        for i in range(grounder.bits)
                    ),
                )
            )
        self.choice = [z3.Bool(name) for name in grounder.circuit.inputs[grounder.bits :]]
        self.transition = z3.And(*(self._terms.term(literal) for literal in sound), z3.Or(*moves))
        start = grounder.initial()
        self.initial = z3.And(*(b if start >> i & 1 else z3.Not(b) for i, b in enumerate(self.now)))

    def claim(self, claim: Claim) -> Any:
        """The claim's formula over `now`."""
        return self._terms.term(self.grounder.formula(claim.formula))

    def at(self, time_step: int) -> list[Any]:
        """The state bits at a step."""
        return [z3.Bool(f"s{time_step}_{i}") for i in range(self.grounder.bits)]

    def renamed(self, term: Any, step: int) -> Any:
        """The term about step `step`: `now` is its state, `after` the next one, `choice` its parameters."""
        pairs = list(zip(self.now, self.at(step), strict=True))
        pairs += list(zip(self.after, self.at(step + 1), strict=True))
        pairs += [(c, z3.Bool(f"c{step}_{i}")) for i, c in enumerate(self.choice)]
        return z3.substitute(term, *pairs)


def bmc(
    system: System, scope: Scope, claim: Claim, depth: int, timeout: float | None = None,
    unrolling: Unrolling | None = None,
) -> Bounded:
    """Search for a violation of `claim` with at most `depth` steps, shortest first.

    `timeout` in seconds, in all. `unrolling`: that of the same system and scope, if there is one already.
    """
    started = time.monotonic()
    unrolling = unrolling or Unrolling(system, scope)
    broken = z3.Not(unrolling.claim(claim))
    solver = z3.SolverFor("QF_FD")
    solver.add(unrolling.renamed(unrolling.initial, 0))
    for step in range(depth + 1):
        if step:
            solver.add(unrolling.renamed(unrolling.transition, step - 1))
        if timeout is not None:
            left = timeout - (time.monotonic() - started)
            if left <= 0:
                return Bounded(None, step - 1, f"out of time after {timeout:g} s", time.monotonic() - started)
            solver.set("timeout", max(1, int(left * 1000)))
        solver.push()
        solver.add(unrolling.renamed(broken, step))
        answer = solver.check()
        if answer == z3.sat:
            states = _states(unrolling, solver.model(), step)
            path = Interpreter(system, scope).follow(states, lambda state: state)
            return Bounded(path, step - 1, "", time.monotonic() - started)
        if answer != z3.unsat:
            return Bounded(None, step - 1, f"z3 gave up: {solver.reason_unknown()}", time.monotonic() - started)
        solver.pop()
    return Bounded(None, depth, "", time.monotonic() - started)


def _states(unrolling: Unrolling, model: Any, steps: int) -> list[State]:
    states = []
    for step in range(steps + 1):
        packed = 0
        for i, bit in enumerate(unrolling.at(step)):
            packed |= int(z3.is_true(model.eval(bit, model_completion=True))) << i
        states.append(unrolling.grounder.unpack(packed))
    return states
