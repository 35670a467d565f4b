"""Inductive proofs for any number of processes, pages, frames, references and slots: obligations, and the search.

A claim is proved by clauses that hold initially, that every rule preserves, and of which the claim is one. The search
starts from the claim alone; each counterexample to induction is excluded by a mined candidate that it breaks, which
must then be preserved itself. A candidate that no candidates can support is dropped for good. What is dropped is what
Houdini would drop, but only candidates that the claim needs are ever looked at.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import z3

from model.logic import REGISTRY, Rule, Scope, Sort, System, Term, by_term, functions_in, meaning
from proofs.clock import done_by, look, seconds_left, uncounted
from proofs.derive.interpreter import Instance, Interpreter, Layout, State
from proofs.derive.steps import after, initially, next_value, opened
from proofs.errors import OutOfTime
from proofs.induct.mine import Clause, Miner, Tables, sizes_of

QUERY_SECONDS = 10
"""Time limit of one solver query."""
REFUTING = 20
"""So many states that break a candidate are learnt at once, or some more."""
MOST_INSTANCES = 10_000
"""So many instances of a clause are assumed, at most."""
PROVED, GAVE_UP = "proved", "gave up"
_NEVER = Clause(z3.BoolVal(False), "never chosen")


def _universal(term: Term, positive: bool = True) -> bool:
    """No existential quantifier, by polarity."""
    if z3.is_quantifier(term):
        return bool(term.is_forall()) == positive and _universal(term.body(), positive)
    if z3.is_not(term):
        return _universal(term.arg(0), not positive)
    if z3.is_implies(term):
        return _universal(term.arg(0), not positive) and _universal(term.arg(1), positive)
    if z3.is_and(term) or z3.is_or(term):
        return all(_universal(a, positive) for a in term.children())
    return not _quantified(term)


_is_universal = by_term(_universal)


@by_term
def _quantified(term: Term) -> bool:
    return z3.is_quantifier(term) or any(_quantified(a) for a in term.children())


def assumed(clause: Term, constants: Sequence[Term]) -> list[Term]:
    """What an obligation assumes of a clause: itself if it is universal, else its instances at the obligation's terms.

    The instances are weaker, hence sound, and keep the obligation in the fragment that the solvers decide.
    """
    if _is_universal(clause):
        return [clause]
    bound, body = opened(clause, "instance")
    terms = list(constants)
    for function in REGISTRY.values():
        if not function.is_bool:
            ranges = [[c for c in constants if c.sort() == s] for s in function.domain]
            terms += [function(*index) for index in itertools.product(*ranges)]
    places = [[t for t in terms if t.sort() == b.sort()] for b in bound]
    instances = []
    for chosen in itertools.islice(itertools.product(*places), MOST_INSTANCES):
        look()
        instances.append(z3.substitute(body, *zip(bound, chosen, strict=True)))
    return instances


# The search

@dataclass(frozen=True)
class Proof:
    """`clauses`: an inductive invariant of which no clause can be left out, the claim first."""

    claim: Clause
    clauses: tuple[Clause, ...]
    seconds: float


@dataclass(frozen=True)
class Cti:
    """A counterexample to induction: a state, reachable or not, and a step that breaks a clause which it satisfies.

    `tables`: the state, by state function; `step`: the rule with its parameters, elements numbered as in the tables.
    """

    tables: Tables
    step: Instance | None

    @property
    def scope(self) -> Scope:
        """The sizes of its universe; 1 for a sort of which the system does not speak, but a claim may."""
        every = {s.name(): 1 for f in REGISTRY.values() for s in (*f.domain, f.range) if s != z3.BoolSort()}
        return Scope(tuple((every | sizes_of(self.tables)).items()))


@dataclass(frozen=True)
class Unproved:
    """`reason`: why there is no proof, in words. `cti`: one that breaks the claim and satisfies every candidate that is
    left, of a universe as small as was found; None where it is not that."""

    claim: Clause
    reason: str
    seconds: float
    cti: Cti | None = None


class Search:
    """Looks for inductive invariants of one system among the user's lemmas, `hints` and a miner's candidates.

    What is learnt for one claim (clauses and obligations proved, candidates dropped) serves the next. `hints` are
    clauses to try before those of the miner, which `mine` makes when it is first needed.
    """

    def __init__(
        self, system: System, mine: Callable[[], Miner], lemmas: Sequence[Term] = (), hints: Sequence[Clause] = ()
    ) -> None:
        self.system = system
        self._mine = functools.cache(mine)
        self._proved: dict[Clause, None] = {}
        self._for_mining = 0.0
        self.lemmas = [Clause(system.reduced(lemma), f"lemma {i}") for i, lemma in enumerate(lemmas, 1)]
        self.hints = list(hints)
        self.dropped: dict[Clause, str] = {}
        self.queries = 0
        self._cores: dict[tuple[Clause, str], tuple[Clause, ...]] = {}

    def mine(self) -> Miner:
        """The miner, with all its candidates. If there is no time for that, the next claim goes on from there."""
        miner = self._mine()
        with self._mining():
            for _ in miner.work:
                look()
        return miner

    @contextlib.contextmanager
    def _mining(self) -> Iterator[None]:
        """What is done within does not count against the time for the proof, but has a limit of its own."""
        started = time.monotonic()
        try:
            with uncounted(self._for_mining):
                yield
        finally:
            self._for_mining -= time.monotonic() - started

    def prove(self, claim: Clause, seconds: float) -> Proof | Unproved:
        """An inductive invariant with the claim, or why there is none. Mining may take as many seconds beside."""
        started = time.monotonic()
        claim = replace(claim, formula=self.system.reduced(claim.formula))
        self._for_mining = seconds
        try:
            with done_by(started + seconds):
                found = self._support(claim)
                if isinstance(found, Unproved):
                    return replace(found, seconds=time.monotonic() - started)
                clauses = self._smallest(claim)
        except OutOfTime:
            return Unproved(claim, f"no proof after {seconds:g} s", time.monotonic() - started)
        self._proved |= dict.fromkeys(clauses)
        return Proof(claim, tuple(clauses), time.monotonic() - started)

    def keeps(self, rule: Rule, clauses: Sequence[Clause]) -> bool:
        """Whether the rule keeps every one of the clauses where all of them hold; not if the solver gives up."""
        with done_by(time.monotonic() + QUERY_SECONDS * len(clauses)):
            return all(
                self._counterexample(clause, rule, clauses) == PROVED
                for clause in clauses if rule in self._obligations(clause)
            )

    def _support(self, claim: Clause) -> list[Clause] | Unproved:
        """Clauses with which the claim is inductive, by choosing one for every counterexample to induction."""
        chosen = [claim, *(lemma for lemma in self.lemmas if lemma not in self.dropped)]
        todo = [(c, rule) for c in chosen for rule in self._obligations(c)]
        supported: dict[Clause, list[Clause]] = {}
        while todo:
            clause, rule = todo[-1]
            if clause not in chosen or set(self._core(clause, rule)) <= set(chosen):
                todo.pop()
                continue
            answer = self._counterexample(clause, rule, chosen)
            if answer == PROVED:
                continue
            option = self._excluding(answer.tables) if isinstance(answer, Cti) and rule is not None else None
            name = "the initial state" if rule is None else rule.name
            if option is not None:
                chosen.append(option)
                supported.setdefault(clause, []).append(option)
                todo += [(option, r) for r in self._obligations(option)]
            elif clause is not claim:
                # Nothing can support it, now or later: every candidate left holds in this counterexample.
                self.dropped[clause] = name
                wanted = self._wanted(claim, chosen, supported)
                chosen = [c for c in chosen if c in wanted]
                todo[:0] = [(c, r) for c in chosen for r in self._obligations(c)]
            elif isinstance(answer, Cti):
                reason = f"no candidate excludes a counterexample to induction of {name}{self._failed_lemmas()}"
                return Unproved(claim, reason, 0, self._smaller(claim, rule, chosen, answer))
            else:
                return Unproved(claim, f"z3 gave up on {name}{self._failed_lemmas()}", 0)
        return chosen

    def _wanted(
        self, claim: Clause, chosen: Sequence[Clause], supported: Mapping[Clause, Sequence[Clause]]
    ) -> set[Clause]:
        """Those of the chosen clauses that serve the claim, a lemma, or one that does: proofs of its obligations used
        them, or they were chosen for it. What was chosen for one that is dropped would only want more support."""
        left = [c for c in chosen if c not in self.dropped]
        found = [claim, *(c for c in self.lemmas if c in left)]
        for clause in found:
            used = [c for rule in self._obligations(clause) for c in self._cores.get(_key(clause, rule), ())]
            found += [c for c in dict.fromkeys([*used, *supported.get(clause, ())]) if c in left and c not in found]
        return set(found)

    def _smaller(
        self, claim: Clause, rule: Rule | None, chosen: Sequence[Clause], cti: Cti
    ) -> Cti:
        """A counterexample to induction of a smaller universe, if there is one that no candidate excludes either."""
        for sort in sizes_of(cti.tables):
            for size in range(1, sizes_of(cti.tables)[sort]):
                sizes = {**sizes_of(cti.tables), sort: size}
                found = self._counterexample(claim, rule, chosen, sizes)
                if isinstance(found, Cti) and (rule is None or self._excluding(found.tables) is None):
                    cti = found
                    break
        return cti

    def _failed_lemmas(self) -> str:
        failed = [f"{c.text} is not preserved by {self.dropped[c]}" for c in self.lemmas if c in self.dropped]
        return "".join(f"; {text}" for text in failed)

    def _excluding(self, cti: Tables) -> Clause | None:
        """A candidate that the state breaks, the best one; None if none does."""
        oracle = Interpreter(self.system, Scope(tuple(sizes_of(cti).items())))
        state = state_of(self.system, cti)
        for hint in (*self._proved, *self.hints):
            if hint not in self.dropped and not oracle.evaluate(hint.formula, state):
                return hint
        miner = self.mine()
        for clause in itertools.chain(miner.excluding(cti), miner.deeper(cti)):
            if clause not in self.dropped and not self._refuted(clause):
                return clause
        return None

    def _refuted(self, clause: Clause) -> bool:
        """Some state that was reached breaks the clause; the miner learns of those that do."""
        miner = self.mine()
        for reached in miner.reached:
            states = reached.breaking(clause.formula, REFUTING)
            if len(next(iter(states.values()))):
                miner.learn(states)
                self.dropped[clause] = "a state that is reached"
                return True
        return False

    def _obligations(self, clause: Clause) -> list[Rule | None]:
        """The initial state (None) and the rules that may change the clause's truth."""
        read = functions_in(clause.formula)
        return [None, *(r for r in self.system.rules if any(u.function.name in read for u in r.updates))]

    def _core(self, clause: Clause, rule: Rule | None) -> tuple[Clause, ...]:
        """The clauses from which the obligation was proved; if it was not yet, more than there are."""
        return self._cores.get(_key(clause, rule), (_NEVER,))

    def _counterexample(
        self, clause: Clause, rule: Rule | None, chosen: Sequence[Clause],
        sizes: Mapping[str, int] | None = None,
    ) -> Cti | str:
        """A counterexample to induction, of at most those sizes; PROVED if there is none, or GAVE_UP.

        Raises OutOfTime.
        """
        look()
        left = seconds_left()
        self.queries += 1
        solver = z3.Solver()
        solver.set("timeout", int(1000 * (QUERY_SECONDS if left is None else max(0, min(left, QUERY_SECONDS)))) + 1)
        names = [z3.Bool(f"clause{i}") for i in range(len(chosen))]
        constants, body = opened(clause.formula, "goal")
        if rule is None:
            names = []
            solver.add(z3.Not(initially(body)))
        else:
            solver.add(*rule.guard, z3.Not(after(rule, body)))
            constants += [p.term for p in rule.params if p.over is None]
            for name, c in zip(names, chosen, strict=True):
                solver.add(*(z3.Implies(name, instance) for instance in assumed(c.formula, constants)))
        if sizes is not None:
            solver.add(*(_at_most(sort, sizes.get(sort.name(), 1)) for sort in _sorts(self.system)))
        answer = solver.check(*names)
        if answer == z3.sat:
            return counterexample(self.system, rule, solver.model())
        if answer == z3.unknown:
            return GAVE_UP
        if sizes is None:
            used = {str(name) for name in solver.unsat_core()}
            core = tuple(c for name, c in zip(names, chosen, strict=False) if str(name) in used)
            self._cores[_key(clause, rule)] = core
        return PROVED

    def _smallest(self, claim: Clause) -> list[Clause]:
        """The clauses that the claim leans on, without any that turns out not to be needed."""
        kept = self._leaned_on(claim)
        for clause in sorted(kept[1:], key=lambda c: -len(c.literals)):
            fewer = [c for c in kept if c is not clause]
            if len(fewer) < len(kept) and all(
                set(self._core(c, r)) <= set(fewer) or self._counterexample(c, r, fewer) == PROVED
                for c in fewer for r in self._obligations(c)
            ):
                kept = self._leaned_on(claim)
        return kept

    def _leaned_on(self, claim: Clause) -> list[Clause]:
        """The claim and, nearest first, what the proofs of its obligations used, and of theirs."""
        found = [claim]
        for clause in found:
            for rule in self._obligations(clause):
                found += [c for c in self._core(clause, rule) if c not in found]
        return found


def _key(clause: Clause, rule: Rule | None) -> tuple[Clause, str]:
    """By what an obligation is known."""
    return clause, rule.name if rule else ""


def unwritten(system: System, rules: Sequence[Rule], clauses: Sequence[Term]) -> str:
    """A rule that may let a cell matter without writing it, in words; empty if there is none.

    Such a cell has any value (StateFunction.meaningful), but these obligations take it to keep the one it had.
    """
    for rule in rules:
        for function in system.functions:
            cell, matters = meaning(function)
            if matters is None:
                continue
            index = [z3.Const(f"cell!{i}", c.sort()) for i, c in enumerate(cell)]
            matters = z3.substitute(matters, *zip(cell, index, strict=True))
            # Two values that only a write makes equal.
            kept = z3.Function("kept!", *function.domain, function.range)
            other = z3.substitute(next_value(rule, function, index), (function(*index), kept(*index)))
            solver = z3.Solver()
            solver.set("timeout", 1000 * QUERY_SECONDS)
            constants = [*index, *(p.term for p in rule.params if p.over is None)]
            solver.add(*rule.guard, *(a for c in clauses for a in assumed(c, constants)))
            solver.add(z3.Not(matters), after(rule, matters), next_value(rule, function, index) != other)
            if solver.check() != z3.unsat:
                return f"rule {rule.name} may let {function.name} matter without writing it"
    return ""


def dead_rules(rules: Sequence[Rule], clauses: Sequence[Term]) -> list[str]:
    """Names of the rules whose guard contradicts the invariant: nothing was said of them. Unknown counts as alive."""
    dead = []
    for rule in rules:
        solver = z3.Solver()
        solver.set("timeout", 1000 * QUERY_SECONDS)
        constants = [p.term for p in rule.params if p.over is None]
        solver.add(*rule.guard, *(a for c in clauses for a in assumed(c, constants)))
        if solver.check() == z3.unsat:
            dead.append(rule.name)
    return dead


# Counterexamples to induction

def _sorts(system: System) -> list[Sort]:
    """The sorts of the system's state functions."""
    used = {s.name(): s for f in system.functions for s in (*f.domain, f.range) if s != z3.BoolSort()}
    return list(used.values())


def _at_most(sort: Sort, size: int) -> Term:
    """The sort has no more elements than that."""
    x = z3.Const("any", sort)
    return z3.ForAll([x], z3.Or(*(x == z3.Const(f"{sort.name()}!{i}", sort) for i in range(size))))


def counterexample(system: System, rule: Rule | None, model: Any) -> Cti:
    """The state and the step that a model describes; the system's constants are the first elements of their sorts."""
    universe: dict[str, list[Term]] = {}
    for sort in _sorts(system):
        universe[sort.name()] = list(model.get_universe(sort) or [z3.Const("only", sort)])
    for constant in system.constants:
        elements = universe.get(constant.sort().name(), [])
        elements.sort(key=model.eval(constant, model_completion=True).eq, reverse=True)

    def value(term: Term) -> int:
        found = model.eval(term, model_completion=True)
        if term.sort() == z3.BoolSort():
            return int(z3.is_true(found))
        return next((i for i, e in enumerate(universe.get(term.sort().name(), ())) if e.eq(found)), 0)

    tables = {}
    for function in system.functions:
        elements = [universe[s.name()] for s in function.domain]
        table = np.zeros((1, *(len(e) for e in elements)), bool if function.is_bool else np.int64)
        for index in itertools.product(*(range(len(e)) for e in elements)):
            table[(0, *index)] = value(function(*(e[i] for e, i in zip(elements, index, strict=True))))
        tables[function.name] = table
    if rule is None:
        return Cti(tables, None)
    # What a restricted system says nothing of is there once.
    binding = tuple(
        (p.name, value(p.term) if p.over is None else
         tuple(value(p.term(e)) for e in universe.get(p.over.name(), [z3.Const("only", p.over)])))
        for p in rule.params
    )
    return Cti(tables, Instance(rule, binding))


def state_of(system: System, tables: Tables) -> State:
    """The one state of the tables, as the reference interpreter has it."""
    layout = Layout(system.functions, Scope(tuple(sizes_of(tables).items())))
    return tuple(int(tables[function.name][(0, *index)]) for function, index in layout.cells)
