"""Bounded model checking: z3 searches for a violation of exactly n steps, for n = 0, 1, 2, ...; and k-induction.

A second engine: it shares the grounding with exploration, but not the search, and rules keep symbolic parameters. Of
paths that differ by a renaming of elements it looks for few: a parameter is the least of the elements that the state
does not tell apart.

k-induction adds the question whether k good steps from any state whatever, reachable or not, can end in a bad one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from model.logic import Rule, Scope, System, Term
from proofs.clock import look
from proofs.derive.circuit import FALSE, TRUE, Circuit
from proofs.derive.ground import Element, Grounder
from proofs.derive.symmetry import unmoved


@dataclass(frozen=True)
class Size:
    """What each step adds to the query: `variables` (state bits, rules, parameters), `gates` of the circuit over them,
    and `clauses` that join those."""

    variables: int
    gates: int
    clauses: int


def _joined(make: Callable[..., Any], terms: Sequence[Any]) -> Any:
    """z3's And or Or of Bool terms, without the conversions of z3.And and z3.Or: they take most of the time here."""
    context = z3.main_ctx()
    return z3.BoolRef(make(context.ref(), len(terms), (z3.Ast * len(terms))(*(t.ast for t in terms))), context)


class Terms:
    """Circuit literals as z3 terms over one Bool constant per circuit input."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.known: dict[int, Any] = {0: z3.BoolVal(False)}
        self.denied: dict[int, Any] = {}

    def term(self, literal: int) -> Any:
        for gate in self.circuit.cone([literal]):
            if gate not in self.known:
                look()
                op, a, b = self.circuit.gates[gate]
                if op == "in":
                    self.known[gate] = z3.Bool(self.circuit.inputs[a])
                elif op == "and":
                    self.known[gate] = _joined(z3.Z3_mk_and, [self._signed(a), self._signed(b)])
                else:
                    self.known[gate] = z3.Xor(self._signed(a), self._signed(b))
        return self._signed(literal)

    def _signed(self, literal: int) -> Any:
        gate = literal >> 1
        if not literal & 1:
            return self.known[gate]
        if gate not in self.denied:
            self.denied[gate] = z3.Not(self.known[gate])
        return self.denied[gate]


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


def least_alike(
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
        needed = [guard, *(least_alike(grounder, rule, bound, alike) if reduce else ())]
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
        self.transition = _joined(
            z3.Z3_mk_and, [those[0] if len(those) == 1 else _joined(z3.Z3_mk_or, those) for those in alternatives]
        )
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
        before = (*self.now, *self.after, *self.choice)
        chosen = (z3.Bool(f"c{step}_{i}") for i in range(len(self.choice)))
        renamed = (*self.at(step), *self.at(step + 1), *chosen)
        of, to = ((z3.Ast * len(before))(*(t.ast for t in terms)) for terms in (before, renamed))
        return z3.BoolRef(z3.Z3_substitute(term.ctx.ref(), term.ast, len(before), of, to), term.ctx)
