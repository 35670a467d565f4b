"""Bounded model checking: z3 searches for a violation of exactly n steps, for n = 0, 1, 2, ...; and k-induction.

A second engine: it shares the grounding with exploration, but not the search, and rules keep symbolic parameters. Of
paths that differ by a renaming of elements it looks for few: a parameter is the least of the elements that the state
does not tell apart.

k-induction adds the question whether k good steps from any state whatever, reachable or not, can end in a bad one.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from model.logic import Rule, Scope, System, Term
from proofs.circuit import FALSE, TRUE, Circuit
from proofs.clock import look
from proofs.errors import EngineError
from proofs.explore import Claim
from proofs.ground import Element, Grounder
from proofs.interpreter import Instance, Interpreter, State
from proofs.symmetry import unmoved


@dataclass(frozen=True)
class Size:
    """What each step adds to the query: `variables` (state bits, rules, parameters), `gates` of the circuit over them,
    and `clauses` that join those."""

    variables: int
    gates: int
    clauses: int


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


class Terms:
    """Circuit literals as z3 terms over one Bool constant per circuit input."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.known: dict[int, Any] = {0: z3.BoolVal(False)}
        self.inputs: list[Any] = []

    def term(self, literal: int) -> Any:
        for gate in self.circuit.cone([literal]):
            if gate not in self.known:
                look()
                op, a, b = self.circuit.gates[gate]
                if op == "in":
                    self.known[gate] = z3.Bool(self.circuit.inputs[a])
                else:
                    make = z3.And if op == "and" else z3.Xor
                    self.known[gate] = make(self._signed(a), self._signed(b))
        return self._signed(literal)

    def _signed(self, literal: int) -> Any:
        return z3.Not(self.known[literal >> 1]) if literal & 1 else self.known[literal >> 1]


def parameters(grounder: Grounder, rules: tuple[Rule, ...]) -> tuple[Callable[[Rule], dict[str, Any]], list[int]]:
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


def _least(
    grounder: Grounder, rule: Rule, bound: Mapping[str, Any], alike: Callable[[str, int, int], int]
) -> list[int]:
    """Literals that say: of two elements that are `alike` in the state, the rule's parameters name the lesser first.

    Exchanging the two from this step on makes of any path one that is as long and ends alike, and its parameters less
    in this step. So a path whose choices are the least of all such satisfies the literals everywhere.
    """
    circuit = grounder.circuit
    named: dict[str, list[Element]] = {}
    for param in rule.params:
        values = [bound[param.name]] if param.over is None else bound[param.name]
        named.setdefault(param.sort.name(), []).extend(values)
    wanted = []
    for sort, elements in named.items():
        for lesser, greater in itertools.combinations(range(grounder.scope.as_dict()[sort]), 2):
            neither, wrong = TRUE, []
            for element in elements:
                wrong.append(circuit.and2(neither, grounder.equal(element, greater)))
                neither = circuit.all([neither, *(grounder.equal(element, x) ^ 1 for x in (lesser, greater))])
            wanted.append(circuit.all([alike(sort, lesser, greater), circuit.any(wrong)]) ^ 1)
    return wanted


def _step(grounder: Grounder, after: Sequence[int], reduce: bool) -> list[list[int]]:
    """Clauses over literals which say that one rule leads to the state `after`.

    There is a variable for each rule. One is true, and implies the rule's guard and the bits that it writes; a bit
    changes only if a rule that writes it is taken.
    """
    circuit = grounder.circuit
    binding, sound = parameters(grounder, grounder.system.rules)
    alike = functools.cache(functools.partial(unmoved, grounder))
    clauses = [[literal] for literal in sound]
    taken: list[int] = []
    writers: list[list[int]] = [[] for _ in after]
    for rule in grounder.system.rules:
        bound = binding(rule)
        guard = grounder.guard(rule, bound)
        if guard == FALSE:
            continue
        take = circuit.input(f"take {rule.name}")
        needed = [guard, *(_least(grounder, rule, bound, alike) if reduce else ())]
        clauses += [[take ^ 1, part] for literal in needed for part in circuit.conjuncts(literal) if part != TRUE]
        clauses += [[take ^ 1, other ^ 1] for other in taken]
        taken.append(take)
        for bit, literal in grounder.next_bits(grounder.after(rule, bound)):
            writers[bit].append(take)
            clauses += [[take ^ 1, after[bit], literal ^ 1], [take ^ 1, after[bit] ^ 1, literal]]
    for before, later, those in zip(grounder.inputs, after, writers, strict=True):
        clauses += [[later, before ^ 1, *those], [later ^ 1, before, *those]]
    return [*clauses, taken]


class Unrolling:
    """The grounded transition relation as one z3 term, and fresh copies of it step by step.

    `initial`, `transition`: quantifier-free Bool terms over `now` and `after`, the state bits, and `choice`, the rule
    and the parameters of the step; `clauses` are those of the transition over literals of the circuit. `reduce`: leave
    out paths that are renamings of others. Shortest lengths do not depend on it, unless a cell comes to matter without
    being written, which would tell elements apart.
    """

    def __init__(self, system: System, scope: Scope, reduce: bool = True) -> None:
        self.grounder = Grounder(system, scope)
        grounder, circuit = self.grounder, self.grounder.circuit
        self.after_literals = [circuit.input(f"after{i}") for i in range(grounder.bits)]
        self.clauses = _step(grounder, self.after_literals, reduce)
        self.terms = Terms(circuit)
        self.now = [self.terms.term(literal) for literal in grounder.inputs]
        self.after = [self.terms.term(literal) for literal in self.after_literals]
        self.choice = [z3.Bool(name) for name in circuit.inputs[2 * grounder.bits :]]
        alternatives = [[self.terms.term(literal) for literal in clause] for clause in self.clauses]
        self.transition = z3.And(*(those[0] if len(those) == 1 else z3.Or(*those) for those in alternatives))
        used = circuit.cone(literal for clause in self.clauses for literal in clause)
        gates = sum(circuit.gates[gate][0] in ("and", "xor") for gate in used)
        self.size = Size(grounder.bits + len(self.choice), gates, len(self.clauses))
        start = grounder.initial()
        self.initial = z3.And(*(b if start >> i & 1 else z3.Not(b) for i, b in enumerate(self.now)))

    def formula(self, term: Term) -> Any:
        """A closed formula, over `now`."""
        return self.terms.term(self.grounder.formula(term))

    def state(self) -> Any:
        """`now` is a state as steps leave it: cells hold elements of their sorts, the first where they do not matter.

        Every step preserves it, as the interpreter's states are canonical.
        """
        circuit, sound = self.grounder.circuit, []
        for place, value in enumerate(self.grounder.state):
            start, width = self.grounder.bit_of_cell[place]
            if isinstance(value, tuple):
                sound.append(circuit.any(value))
            default = circuit.any(self.grounder.inputs[start : start + width]) ^ 1
            sound.append(circuit.any([self.grounder.meaningful_now[place], default]))
        return self.terms.term(circuit.all(sound))

    def at(self, time_step: int) -> list[Any]:
        """The state bits at a step."""
        return [z3.Bool(f"s{time_step}_{i}") for i in range(self.grounder.bits)]

    def renamed(self, term: Any, step: int) -> Any:
        """The term about step `step`: `now` is its state, `after` the next one, `choice` its parameters."""
        pairs = list(zip(self.now, self.at(step), strict=True))
        pairs += list(zip(self.after, self.at(step + 1), strict=True))
        pairs += [(c, z3.Bool(f"c{step}_{i}")) for i, c in enumerate(self.choice)]
        return z3.substitute(term, *pairs)


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
