"""What an access costs, as a formula: chains of faults, and what they copy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import z3
from z3 import And, Not, Or

from model import operations, prices
from model.costs import ONE, PER_SUBPAGE, Charge, Count
from model.kernels import Kernel
from model.logic import ModelError, Rule, System, Term, functions_in
from model.state import Slot, alive, block, frame_value, pte_frame, pte_present, pte_slot, pte_swap, slot_frame
from proofs.cost.meters import COPIES, DEPTH, LEMMAS, P_, SECONDS, SLOTS, V_, MeteredAccess, slot_left
from proofs.derive.steps import after
from proofs.errors import EngineError
from proofs.induct.mine import Clause, Miner
from proofs.induct.search import Proof, Search
from proofs.naming.specs import find_kernel, system_of, with_features


def _assumed(kernel: Kernel, system: System, features: tuple[str, ...]) -> list[Term]:
    """The lemmas that these features need, proved inductive. Raises ModelError where a proof is not found."""
    proved = []
    for lemma in LEMMAS:
        if features not in lemma.features:
            continue
        part = system.restricted(system.cone([lemma.formula]))
        search = Search(part, functools.partial(Miner, part, reduce=not kernel.unusual_rules), kernel.lemmas)
        found = search.prove(Clause(lemma.formula, lemma.name), SECONDS)
        if not isinstance(found, Proof):
            raise ModelError(f"{system.name}: {lemma.name}: {found.reason}")
        proved.append(system.reduced(lemma.formula))
    return proved


# Chains of faults.

@dataclass(frozen=True)
class Chain:
    """Faults that one access raises one after the other. `guard` and `charges` are over the state before the first."""

    rules: tuple[Rule, ...]
    guard: Term
    charges: tuple[Charge, ...]

    @property
    def name(self) -> str:
        return ", ".join(rule.name for rule in self.rules)


def with_number(rule: Rule, number: int) -> Rule:
    """The rule with its own names for parameters that are not the access's."""
    # Functions keep theirs; none comes after another rule, or `chains` complains.
    own = [p for p in rule.params if p.name not in ("p", "v") and p.over is None]
    if not own:
        return rule
    names = [(p.term, z3.Const(f"{p.name}!{number}", p.sort)) for p in own]
    renamed = rule.rewritten(lambda term: z3.substitute(term, *names))
    assert renamed is not None
    return replace(renamed, params=tuple(replace(p, name=f"{p.name}!{number}") if p in own else p for p in rule.params))


def said_before(rules: Sequence[Rule], term: Term) -> Term:
    """The term in the state after those rules, said over the state before them."""
    for rule in reversed(rules):
        term = after(rule, term)
    return term


def copies(rule: Rule) -> list[Charge]:
    """The pages that the rule copies: content of one page written to a page that was free."""
    fresh = {p.name: p for p in rule.params if p.fresh}
    found = []
    for update in rule.updates:
        if update.function.name != frame_value.name or frame_value.name not in functions_in(update.value):
            continue
        if update.index[0].decl().name() not in fresh:
            continue
        if not update.over:
            found.append(Charge(COPIES, ONE, update.when, rule.name))
            continue
        count = PER_SUBPAGE if _within_block(rule, update.over[0], update.when) else Count(0, 0, 1)
        found.append(Charge(COPIES, count, z3.Exists(list(update.over), update.when), rule.name))
    return found


def _within_block(rule: Rule, page: Term, when: Term) -> bool:
    """A solver agrees that `when` holds of pages of v's block only."""
    solver = z3.Solver()
    solver.add(*rule.guard, when, block(page) != block(V_))
    return bool(solver.check() == z3.unsat)


class Costs:
    """The costs of one kernel with some features. `spec`: as for `find_kernel`, without features."""

    def __init__(self, spec: str, features: tuple[str, ...] = ()) -> None:
        self.spec = with_features(spec, features)
        self.kernel: Kernel = find_kernel(spec)
        self.system: System = system_of(self.spec)
        self.rules = {rule.name: rule for rule in self.system.rules}
        self.lemmas = _assumed(self.kernel, self.system, features)
        self._solver = z3.Solver()
        self._solver.set("timeout", int(1000 * SECONDS))
        self._solver.add(*self.lemmas)

    def possible(self, *terms: Term) -> bool:
        """Some state, reachable or not, has all of it; or the solver cannot say."""
        self._solver.push()
        try:
            self._solver.add(*(self.system.reduced(term) for term in terms))
            return bool(self._solver.check() != z3.unsat)
        finally:
            self._solver.pop()

    def faults(self, access: str) -> list[str]:
        """Names of the rules that the access may raise and this kernel has; of a rule, itself."""
        groups = operations.faults(access, self.kernel) or ((access,),)
        names = [name for group in groups for name in group]
        names += [operations.WHEN_TRYLOCK_FAILS[n] for n in names if n in operations.WHEN_TRYLOCK_FAILS]
        return [name for name in dict.fromkeys(names) if name in self.rules]

    def charges_of(self, rule: Rule, number: int, before: Sequence[Rule]) -> list[Charge]:
        """What the rule, fault `number` of its operation, pays, over the state before the first fault."""
        due = [*prices.charges(self.kernel, rule.name, P_, V_), *copies(rule)]
        due = [replace(c, when=self.system.reduced(said_before(before, self.system.reduced(c.when)))) for c in due]
        return [c for c in due if not z3.is_false(c.when)]

    def chains(self, operation: MeteredAccess, priced: bool = True) -> list[Chain]:
        """Every chain of faults of the operation, those that another one goes on from among them."""
        found: list[Chain] = []
        start = self.system.reduced(And(alive(P_), operation.start(P_, V_)))
        names = self.faults(operation.access)
        growing = [Chain((), start, ())]
        while growing:
            chain = growing.pop(0)
            # What is a rule by itself is no access that is tried again.
            for name in () if chain.rules and names == [operation.access] else names:
                number = len(chain.rules)
                rule = with_number(self.rules[name], number)
                guard = said_before(chain.rules, And(*rule.guard))
                if not self.possible(chain.guard, guard):
                    continue
                if any(p.over is not None for p in rule.params) and chain.rules:
                    raise EngineError(f"{self.spec}, {operation.name}: {name} after {chain.name} has no price")
                if number == DEPTH:
                    raise EngineError(f"{self.spec}, {operation.name}: more than {DEPTH} faults: {chain.name}, {name}")
                longer = Chain(
                    (*chain.rules, rule), And(chain.guard, guard),
                    (*chain.charges, *(self.charges_of(rule, number, chain.rules) if priced else ())),
                )
                found.append(longer)
                growing.append(longer)
        return [replace(c, charges=(*c.charges, *self._left_behind(c))) for c in found] if priced else found

    def _left_behind(self, chain: Chain) -> list[Charge]:
        """The slot of the page accessed, to which no page table leads after the faults, and one did before."""
        def newly(s: Term) -> Term:
            f = pte_frame(P_, V_)
            here = Or(And(pte_swap(P_, V_), pte_slot(P_, V_) == s), And(pte_present(P_, V_), slot_frame(s) == f))
            return And(here, Not(slot_left(s)), said_before(chain.rules, slot_left(s)))

        a, b = z3.Consts("a b", Slot)
        if self.possible(chain.guard, newly(a), newly(b), a != b):
            raise EngineError(f"{self.spec}: {chain.name} may leave two slots behind")
        when = z3.Exists([a], self.system.reduced(newly(a)))
        return [Charge(SLOTS, ONE, when, "cached")] if self.possible(chain.guard, when) else []

    def sums(self, chain: Chain, *where: Term) -> list[ChargeProfile]:
        """What can be due together, in states where `where` holds."""
        found: list[ChargeProfile] = []
        solver = self._solver
        solver.push()
        solver.add(chain.guard, *(self.system.reduced(term) for term in where))

        def choose(number: int, due: tuple[int, ...]) -> None:
            if number == len(chain.charges):
                found.append(ChargeProfile(chain, due))
                return
            when = chain.charges[number].when
            for holds in (True, False):
                solver.push()
                solver.add(when if holds else Not(when))
                if solver.check() != z3.unsat:
                    choose(number + 1, (*due, number) if holds else due)
                solver.pop()

        if solver.check() != z3.unsat:
            choose(0, ())
        solver.pop()
        return found


@dataclass(frozen=True)
class ChargeProfile:
    """Charges, by number, that are due together, all others not."""

    chain: Chain
    due: tuple[int, ...]

    def count(self, meter: str) -> Count:
        """Their sum on that meter."""
        return sum(
            (self.chain.charges[i].count for i in self.due if self.chain.charges[i].meter == meter), Count()
        )

    @property
    def holds(self) -> Term:
        """Over the state before the first fault: the operation takes these faults and pays this."""
        parts = [c.when if i in self.due else Not(c.when) for i, c in enumerate(self.chain.charges)]
        return And(self.chain.guard, *parts)
