"""What operations cost, kernel by kernel: page locks, mapcount and swapcount reads, copies of pages, slots left behind.

An operation is the faults that a memory access may raise one after the other, undisturbed. Which faults follow which is
asked of a solver: the next fault's guard, said of the state before. So is which of the things that `model/costs.py`
charges can be due together; the sums that can be are the operation's costs. Copies are the updates that write one
page's content to a fresh page; slots left behind are what `cached` says after the faults. The greatest cost is then
sought in a scope, by exploration, and its trace executed; that nothing is dearer is asked of z3 and cvc5, for any
number of processes, pages, frames, references, slots, and sub-pages.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import z3
from z3 import And, BoolVal, Not, Or

from model import costs, operations
from model.costs import LOCKS, MAPCOUNTS, ONE, PER_SUBPAGE, SWAPCOUNTS, Charge, Count
from model.kernels import Kernel
from model.logic import ModelError, Rule, Scope, System, Term, exists, forall, functions_in, names_in
from model.state import (
    Frame,
    Page,
    Proc,
    Slot,
    alive,
    anon,
    block,
    cached,
    exclusive,
    in_swap_cache,
    in_writeback,
    large,
    live,
    mapped,
    mapped_only_by,
    maps,
    pte_frame,
    pte_huge,
    pte_present,
    pte_slot,
    pte_swap,
    pte_write,
    slot_frame,
    swapped_only_by,
    swaps,
    unreferenced,
    writeback,
)
from proofs import certificate
from proofs.check import scope_of
from proofs.errors import EngineError
from proofs.explore import Claim, explore
from proofs.induct import Proof, Search, after
from proofs.interpreter import Instance, Interpreter, State
from proofs.kernel_file import file_name, find_kernel, system_of, with_features
from proofs.mine import Clause, Miner
from proofs.pool import each_done
from proofs.trace import Trace, execute, write

COPIES, SLOTS = "page copies", "slots left"
METERS: dict[str, str] = {
    LOCKS: "page-lock acquisitions, attempts of trylock_page included",
    MAPCOUNTS: "reads of a mapcount",
    SWAPCOUNTS: "reads of a swap count",
    COPIES: "pages copied",
    SLOTS: "swap slots, each with its page, that are held afterwards though no page table leads to them any more",
}
"""What is counted, each explained."""
DEPTH = 4
"""Faults that one access may raise; an operation that can raise more is an error here."""
SECONDS = 20.0
"""Time limit of one solver query, and of one exploration."""
SCOPES = {(): scope_of(2, 1, 3, 1, 1), ("huge",): scope_of(2, 2, 4, 1, 1, 2, 1)}
"""Features to the scope in which the greatest cost is sought."""
SOUGHT_WITH = frozenset({
    "anon-fault", "fork", "exit", "munmap", "store", "swap-out", "swap-out-cached", "swap-cache-read", "swap-in-read",
    "swap-in-write", "wp-reuse", "wp-copy", "wp-copy-spurious", "unshare-copy", "unshare-reuse", "pin-write",
    "madvise-hugepage", "huge-fault", "huge-wp-reuse", "huge-wp-copy", "huge-wp-split", "split-pmd",
})
"""Rules of which paths to the greatest cost are made; without the others some path may be missed, none invented."""

SHOWN = (
    "v5.7", "v5.8", "v5.9", "v5.14", "v5.18", "v5.19", "v6.12", "v6.15", "break-cow", "mapcount-unshare",
)
"""Kernels that cost something else than the one before them, and two proposals."""

P_, V_ = z3.Const("p", Proc), z3.Const("v", Page)


@dataclass(frozen=True)
class Operation:
    """An access by (p, v) in the states where `start` holds. `access`: as in model/operations.py; or a rule's name.

    `shared`: it is a fault of the fork-heavy workload.
    """

    name: str
    about: str
    access: str
    start: Callable[[Term, Term], Term]
    features: tuple[str, ...] = ()
    shared: bool = False


def _maps(p: Term, v: Term) -> Term:
    return And(pte_present(p, v), Not(pte_swap(p, v)), anon(pte_frame(p, v)))


def _small(p: Term, v: Term) -> Term:
    """A page under writeback keeps its slot, whatever the kernel's rules."""
    f = pte_frame(p, v)
    return And(_maps(p, v), Not(pte_huge(p, v)), Not(large(f)), Not(in_writeback(f)))


def _swapped(p: Term, v: Term) -> Term:
    return And(pte_swap(p, v), Not(pte_present(p, v)), Not(writeback(pte_slot(p, v))))


def _sub_page(p: Term, v: Term) -> Term:
    return And(_maps(p, v), Not(pte_huge(p, v)), large(pte_frame(p, v)))


def _thp(p: Term, v: Term) -> Term:
    return And(_maps(p, v), pte_huge(p, v), large(pte_frame(p, v)))


OPERATIONS: tuple[Operation, ...] = (
    Operation("write small", "a write to a small page mapped read-only", "store", _small, shared=True),
    Operation("write swapped", "a write to a page that is swapped out", "store", _swapped),
    Operation("pin small", "FOLL_PIN for reading, of a small page mapped read-only", "read-gup", _small),
    Operation("fork", "fork, small pages", "fork", lambda p, v: BoolVal(True)),
    Operation("write sub-page", "a write to a sub-page of a THP, mapped read-only by a PTE", "store", _sub_page,
              ("huge",), shared=True),
    Operation("write THP", "a write to a THP mapped read-only by a PMD", "store", _thp, ("huge",), shared=True),
)


# Slots.

def idle(s: Term) -> Term:
    """The slot is held by the swap cache alone: no swap entry names it."""
    return And(cached(s), Not(exists(Proc, Page, lambda q, w: swaps(q, w, s))))


def left(s: Term) -> Term:
    """... and no page table has its page."""
    return And(idle(s), Not(mapped(slot_frame(s))))


@dataclass(frozen=True)
class Lemma:
    """What the bounds assume of states, with the features that make it worth saying; proved for each kernel."""

    name: str
    formula: Term
    features: tuple[tuple[str, ...], ...] = ((), ("huge",))


LEMMAS: tuple[Lemma, ...] = (
    Lemma("a page is in the swap cache under one slot", forall(
        Slot, Slot, lambda s, t: z3.Implies(And(cached(s), cached(t), slot_frame(s) == slot_frame(t)), s == t)
    )),
    # Reclaim of this model splits a THP first.
    Lemma("no part of a large folio is in the swap cache", forall(
        Slot, lambda s: Not(And(cached(s), large(slot_frame(s))))
    ), (("huge",),)),
)


def _assumed(kernel: Kernel, system: System, features: tuple[str, ...]) -> list[Term]:
    """The lemmas that these features need, proved inductive. Raises ModelError where a proof is not found."""
    proved = []
    for lemma in LEMMAS:
        if features not in lemma.features:
            continue
        part = system.restricted(system.cone([lemma.formula]))
        search = Search(part, functools.partial(Miner, part, reduce=not kernel.own_rules), kernel.lemmas)
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


def _numbered(rule: Rule, number: int) -> Rule:
    """The rule with its own names for parameters that are not the access's."""
    # Functions keep theirs; none comes after another rule, or `chains` complains.
    own = [p for p in rule.params if p.name not in ("p", "v") and p.over is None]
    if not own:
        return rule
    names = [(p.term, z3.Const(f"{p.name}!{number}", p.sort)) for p in own]
    renamed = rule.rewritten(lambda term: z3.substitute(term, *names))
    assert renamed is not None
    return replace(renamed, params=tuple(replace(p, name=f"{p.name}!{number}") if p in own else p for p in rule.params))


def _before(rules: Sequence[Rule], term: Term) -> Term:
    """The term in the state after those rules, said over the state before them."""
    for rule in reversed(rules):
        term = after(rule, term)
    return term


def copies(rule: Rule) -> list[Charge]:
    """The pages that the rule copies: content of one page written to a page that was free."""
    fresh = {p.name: p for p in rule.params if p.fresh}
    found = []
    for update in rule.updates:
        if update.function.name != "frame_value" or "frame_value" not in functions_in(update.value):
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

    def paid(self, rule: Rule, number: int, before: Sequence[Rule]) -> list[Charge]:
        """What the rule, fault `number` of its operation, pays, over the state before the first fault."""
        due = [*costs.charges(self.kernel, rule.name, P_, V_), *copies(rule)]
        due = [replace(c, when=self.system.reduced(_before(before, self.system.reduced(c.when)))) for c in due]
        return [c for c in due if not z3.is_false(c.when)]

    def chains(self, operation: Operation, priced: bool = True) -> list[Chain]:
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
                rule = _numbered(self.rules[name], number)
                guard = _before(chain.rules, And(*rule.guard))
                if not self.possible(chain.guard, guard):
                    continue
                if any(p.over is not None for p in rule.params) and chain.rules:
                    raise EngineError(f"{self.spec}, {operation.name}: {name} after {chain.name} has no price")
                if number == DEPTH:
                    raise EngineError(f"{self.spec}, {operation.name}: more than {DEPTH} faults: {chain.name}, {name}")
                longer = Chain(
                    (*chain.rules, rule), And(chain.guard, guard),
                    (*chain.charges, *(self.paid(rule, number, chain.rules) if priced else ())),
                )
                found.append(longer)
                growing.append(longer)
        return [replace(c, charges=(*c.charges, *self._left_behind(c))) for c in found] if priced else found

    def _left_behind(self, chain: Chain) -> list[Charge]:
        """The slot of the page accessed, to which no page table leads after the faults, and one did before."""
        def newly(s: Term) -> Term:
            f = pte_frame(P_, V_)
            here = Or(And(pte_swap(P_, V_), pte_slot(P_, V_) == s), And(pte_present(P_, V_), slot_frame(s) == f))
            return And(here, Not(left(s)), _before(chain.rules, left(s)))

        a, b = z3.Consts("a b", Slot)
        if self.possible(chain.guard, newly(a), newly(b), a != b):
            raise EngineError(f"{self.spec}: {chain.name} may leave two slots behind")
        when = z3.Exists([a], self.system.reduced(newly(a)))
        return [Charge(SLOTS, ONE, when, "cached")] if self.possible(chain.guard, when) else []

    def sums(self, chain: Chain, *where: Term) -> list[Profile]:
        """What can be due together, in states where `where` holds."""
        found: list[Profile] = []
        solver = self._solver
        solver.push()
        solver.add(chain.guard, *(self.system.reduced(term) for term in where))

        def choose(number: int, due: tuple[int, ...]) -> None:
            if number == len(chain.charges):
                found.append(Profile(chain, due))
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
class Profile:
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


def at_most(a: Count, b: Count) -> bool:
    """a <= b for every N >= 2 and P >= 1."""
    return a.subpages <= b.subpages and a.pages <= b.pages and a.at(2, 1) <= b.at(2, 1)


def greatest(counts: Iterable[Count]) -> tuple[Count, ...]:
    """Those that no other one is at least, for every size: one, as a rule."""
    different = list(dict.fromkeys(counts))
    return tuple(
        a for a in different if not any(a != b and at_most(a, b) for b in different)
    )


# Bounds.

@dataclass(frozen=True)
class Bound:
    """That an operation never costs more, of one meter. `most`: one count, or several of which none is always the
    greatest. `answers`: solver to what it said of the obligations; proved if all said unsat. There are none where all
    that the operation may ever pay is no more."""

    most: tuple[Count, ...]
    answers: dict[str, str]

    @property
    def proved(self) -> bool:
        return set(self.answers.values()) <= {"unsat"}

    def __str__(self) -> str:
        return "max(" + ", ".join(map(str, self.most)) + ")" if len(self.most) > 1 else str(self.most[0])


@functools.lru_cache(1 << 14)
def _said(text: str) -> tuple[tuple[str, str], ...]:
    """What each built-in solver says of an SMT-LIB text; it may be an obligation of several kernels."""
    return tuple(certificate.said_of(text, SECONDS).items())


def dearer(charges: Sequence[Charge], meter: str, most: Sequence[Count]) -> Term:
    """Charges of the meter are due together that are more than that, for some size."""
    due = [c for c in charges if c.meter == meter]
    found: list[tuple[int, ...]] = []
    for size in range(1, len(due) + 1):
        for chosen in itertools.combinations(range(len(due)), size):
            total = sum((due[i].count for i in chosen), Count())
            if not any(at_most(total, m) for m in most) and not any(set(f) <= set(chosen) for f in found):
                found.append(chosen)
    return Or(*(And(*(due[i].when for i in chosen)) for chosen in found)) if found else BoolVal(False)


def obligation(these: Costs, *terms: Term) -> str:
    """The text that is satisfiable if some state has all of it."""
    solver = z3.Solver()
    solver.add(*these.lemmas, *(these.system.reduced(term) for term in terms))
    # z3 does not quote the names of bound variables that model/logic.py makes.
    text: str = solver.to_smt2()
    return "(set-logic UF)\n" + text.replace("'", "~")


def bounds(these: Costs, operation: Operation, chains: Sequence[Chain]) -> dict[str, Bound]:
    """For each meter the most that any of the chains costs, and whether z3 and cvc5 agree that there are no others."""
    listed = {tuple(rule.name for rule in chain.rules) for chain in chains}
    start = Chain((), these.system.reduced(And(alive(P_), operation.start(P_, V_))), ())
    names = these.faults(operation.access)
    complete = []
    for chain in (start, *chains):
        reached = tuple(rule.name for rule in chain.rules)
        if reached and names == [operation.access]:
            continue
        others = [these.rules[n] for n in names if (*reached, n) not in listed]
        # A parameter that is a function may have the name of another rule's element: not in one text.
        apart = [[r] for r in others if any(p.over is not None for p in r.params)]
        for group in (*apart, [r for r in others if [r] not in apart]):
            guards = [_before(chain.rules, And(*_numbered(r, len(reached)).guard)) for r in group]
            if guards:
                complete.append(obligation(these, chain.guard, Or(*guards)))
    found = {}
    for meter in METERS:
        most = greatest(profile.count(meter) for chain in chains for profile in these.sums(chain))
        texts = list(complete)
        for chain in chains:
            more = dearer(chain.charges, meter, most)
            if not z3.is_false(more):
                texts.append(obligation(these, chain.guard, more))
        answers: dict[str, str] = {}
        for text in texts:
            for solver, said in _said(text):
                if answers.setdefault(solver, "unsat") == "unsat":
                    answers[solver] = said
        if "sat" in answers.values():
            raise EngineError(f"{these.spec}, {operation.name}: a solver finds more {meter} than {most}")
        found[meter] = Bound(most or (Count(),), answers)
    return found


# The greatest cost in a scope.

Key = tuple[Operation, str]
"""An operation and a meter."""


@dataclass(frozen=True)
class Worst:
    """The greatest cost of an operation that exploration reached. `trace` ends with the operation's faults; None if
    they cost nothing. `stopped`: why a greater one was not sought in every state of the scope; empty if it was."""

    count: Count
    trace: Trace | None
    stopped: str = ""


def worst(
    these: Costs, scope: Scope, chains: Mapping[Operation, Sequence[Chain]], seconds: float = SECONDS
) -> dict[Key, Worst]:
    """For each operation and meter the greatest cost that some state of the scope has. `seconds`: each exploration."""
    profiles = {op: [p for chain in listed for p in these.sums(chain)] for op, listed in chains.items()}
    sought = {
        (op, meter): sorted({p.count(meter) for p in listed} - {Count()}, key=lambda c: c.at(512), reverse=True)
        for op, listed in profiles.items() for meter in METERS
    }
    found: dict[Key, Worst] = {}
    unsure: dict[Key, str] = {}
    while sought:
        for key in [key for key, counts in sought.items() if not counts]:
            found[key] = Worst(Count(), None, unsure.get(key, ""))
            del sought[key]
        asked = {key: [p for p in profiles[key[0]] if p.count(key[1]) == counts[0]] for key, counts in sought.items()}
        paths, stopped = _reached(these, scope, list(asked.values()), seconds)
        for (key, among), path in zip(asked.items(), paths, strict=True):
            if path is None:
                sought[key] = sought[key][1:]
                if stopped:
                    unsure[key] = stopped
            else:
                trace = _with_faults(these, scope, key, among, path)
                found[key] = Worst(sought.pop(key)[0], trace, unsure.get(key, ""))
    return found


def _conjuncts(term: Term) -> list[Term]:
    return [part for child in term.children() for part in _conjuncts(child)] if z3.is_and(term) else [term]


def _reached(
    these: Costs, scope: Scope, wanted: Sequence[Sequence[Profile]], seconds: float
) -> tuple[list[tuple[Instance, ...] | None], str]:
    """For each group of profiles the steps to a nearest state in which one of them holds, or None; and why exploration
    was cut short, empty if it was not."""
    if not wanted:
        return [], ""
    unused = tuple(name for name in these.rules if name not in SOUGHT_WITH)
    system = system_of(these.spec, unused)
    claims = []
    for number, among in enumerate(wanted):
        somewhere = []
        for profile in among:
            params = [p for rule in profile.chain.rules for p in rule.params]
            functions = {p.name for p in params if p.over is not None}
            # What is asked of a function, that there is room for what it gives, the interpreter will ask again.
            holds = And(*(c for c in _conjuncts(profile.holds) if not names_in(c) & functions))
            elements = {p.name: p.term for p in params if p.over is None}
            somewhere.append(z3.Exists([P_, V_, *(t for n, t in elements.items() if n not in ("p", "v"))], holds))
        claims.append(Claim(str(number), system.reduced(Not(Or(*somewhere))), BoolVal(True)))
    part = system.restricted(system.cone([claim.formula for claim in claims]))
    explored = explore(
        part, scope, claims, timeout=seconds, stop_at_violations=True, reduce=not these.kernel.own_rules
    )
    paths = [finding.path for finding in explored.findings]
    return paths, "" if None not in paths else explored.stopped


def _with_faults(
    these: Costs, scope: Scope, key: Key, among: Sequence[Profile], path: Sequence[Instance]
) -> Trace:
    """The path and then the faults of one of the profiles, executed, and what they pay counted again step by step.

    Raises EngineError if the interpreter does not find the cost there.
    """
    operation, meter = key
    steps = [Instance(these.system.rule(step.rule.name), step.binding) for step in path]
    interpreter = Interpreter(these.system, scope)
    state = interpreter.initial()
    for step in steps:
        state = interpreter.step(step, state)
    count = among[0].count(meter)
    for profile in among:
        for faults in _executions(these, interpreter, profile.chain, state):
            place = {name: faults[0].as_dict.get(name, 0) for name in ("p", "v")}
            if not interpreter.evaluate(operation.start(P_, V_), state, place):
                continue
            if paid(these, interpreter, state, faults, meter) == count:
                statement = f"{operation.about} costs {count} {meter}"
                return execute(these.spec, f"cost: {operation.name}", statement, these.system, scope, [*steps, *faults])
    raise EngineError(f"{these.spec}, {operation.name}: the interpreter does not pay {count} {meter} where it is due")


def _executions(
    these: Costs, interpreter: Interpreter, chain: Chain, state: State
) -> Iterator[tuple[Instance, ...]]:
    """Every way to take the chain's rules one after the other, of one process at one page."""
    def go_on(rules: Sequence[Rule], state: State, taken: tuple[Instance, ...]) -> Iterator[tuple[Instance, ...]]:
        if not rules:
            yield taken
            return
        for instance in interpreter.instances(these.rules[rules[0].name]):
            if taken and any(instance.as_dict[x] != taken[0].as_dict[x] for x in ("p", "v")):
                continue
            if interpreter.enabled(instance, state):
                yield from go_on(rules[1:], interpreter.step(instance, state), (*taken, instance))

    return go_on(chain.rules, state, ())


def paid(
    these: Costs, interpreter: Interpreter, state: State, faults: Sequence[Instance], meter: str
) -> Count:
    """What the steps, taken from that state, pay on the meter: each one's charges in the state that it finds."""
    total = Count()
    slots = range(interpreter.scope.size(Slot))
    s = z3.Const("s", Slot)

    def held() -> set[int]:
        return {n for n in slots if interpreter.evaluate(left(s), state, {"s": n})}

    before = held()
    for fault in faults:
        rule = these.rules[fault.rule.name]
        for charge in (*costs.charges(these.kernel, rule.name, P_, V_), *copies(rule)):
            if charge.meter == meter and interpreter.evaluate(charge.when, state, fault.as_dict):
                total += charge.count
        state = interpreter.step(fault, state)
    return Count(len(held() - before)) if meter == SLOTS else total


# All of a kernel.

@dataclass(frozen=True)
class Cell:
    """The cost of one operation, by name, on one meter: the greatest reached, and the most there can be.

    `steps`: the path to it, ending with the faults; `trace`: the file that has it, empty if there is none. `stopped`:
    as in `Worst`.
    """

    operation: str
    meter: str
    worst: Count
    steps: tuple[str, ...]
    stopped: str
    bound: Bound
    trace: str = ""

    @property
    def exact(self) -> bool:
        """The bound is proved, and reached."""
        return self.bound.proved and self.bound.most == (self.worst,)

    def __str__(self) -> str:
        if self.exact:
            return str(self.worst)
        return f"{self.worst} (<= {self.bound})" if self.bound.proved else f"{self.worst} (no bound)"


@dataclass(frozen=True)
class Table:
    """What one kernel's operations cost. `cells`: those of the operations that it has. `fates`: situation to what may
    become of an idle slot. `shared`: write to what it costs where others map the page too, meter by meter."""

    kernel: str
    cells: tuple[Cell, ...]
    fates: dict[str, str]
    shared: dict[str, dict[str, Count]]


def table(spec: str, out: Path | None = None, seconds: float = SECONDS) -> Table:
    """The costs of a kernel. `out`: a folder for the traces of the worst cases; `seconds`: each query and exploration.

    Raises UnpricedError where a decision of the kernel's has no price.
    """
    cells: list[Cell] = []
    always: dict[str, dict[str, Count]] = {}
    fates: dict[str, str] = {}
    for features, scope in SCOPES.items():
        these = Costs(spec, features)
        chains = {op: these.chains(op) for op in OPERATIONS if op.features == features}
        chains = {op: listed for op, listed in chains.items() if listed}
        reached = worst(these, scope, chains, seconds)
        for op, listed in chains.items():
            bound = bounds(these, op, listed)
            cells += [_cell(spec, op, meter, reached[op, meter], bound[meter], out) for meter in METERS]
            if op.shared:
                always[op.name] = shared(these, op, listed)
        if not features:
            fates = {situation.name: fate(these, situation) for situation in SITUATIONS}
    return Table(spec, tuple(cells), fates, always)


def _cell(spec: str, op: Operation, meter: str, reached: Worst, bound: Bound, out: Path | None) -> Cell:
    trace, path = reached.trace, ""
    if trace is not None and out is not None:
        path = str(out / f"{file_name(spec)}.{op.name.replace(' ', '-')}.{meter.replace(' ', '-')}.trace.json")
        write(trace, Path(path))
    steps = () if trace is None else tuple(trace.label(n) for n in range(len(trace.steps)))
    return Cell(op.name, meter, reached.count, steps, reached.stopped, bound, path)


def tables(specs: Sequence[str], out: Path | None, workers: int, progress: Callable[[int], Any]) -> list[Table]:
    """The costs of kernels, as `table`, in that order."""
    done: dict[str, Table] = {}
    for spec, found in each_done(functools.partial(table, out=out), specs, workers):
        done[spec] = found
        progress(len(done))
    return [done[spec] for spec in specs]


# What becomes of an idle slot.

@dataclass(frozen=True)
class Situation:
    """(p, v) has a page whose slot s no page table needs, or will not after the access. `holds`: of (p, v, s)."""

    name: str
    about: str
    access: str
    holds: Callable[[Term, Term, Term], Term]


def _mapped_idle(p: Term, v: Term, s: Term) -> Term:
    f = pte_frame(p, v)
    return And(_small(p, v), Not(pte_write(p, v)), idle(s), slot_frame(s) == f, unreferenced(f))


SITUATIONS: tuple[Situation, ...] = (
    Situation("write, alone", "a write to a page that nobody else maps", "store",
              lambda p, v, s: And(_mapped_idle(p, v, s), mapped_only_by(p, v, pte_frame(p, v)))),
    Situation("write, shared", "a write to a page that others map too", "store",
              lambda p, v, s: And(_mapped_idle(p, v, s), Not(mapped_only_by(p, v, pte_frame(p, v))),
                                  Not(exclusive(pte_frame(p, v))))),
    Situation("swap-in to write", "a write to a page that is swapped out, and mapped or named nowhere else",
              "store", lambda p, v, s: And(_swapped(p, v), pte_slot(p, v) == s, swapped_only_by(p, v, s),
                                           cached(s), Not(mapped(slot_frame(s))), unreferenced(slot_frame(s)))),
    Situation("unmap, last", "munmap of a page that nobody else maps", "munmap",
              lambda p, v, s: And(_mapped_idle(p, v, s), mapped_only_by(p, v, pte_frame(p, v)))),
)


_FATES = {
    "store": {(True, True): "freed, page reused", (True, False): "freed, page copied",
              (False, True): "kept, page reused", (False, False): "kept, page copied"},
    "munmap": {(True, False): "freed", (False, False): "kept"},
}
"""Access to (the slot is freed, the process keeps the page) to words."""


def fate(these: Costs, situation: Situation) -> str:
    """What may become of slot and page in any state of any size, where no attempt at the page lock fails."""
    s, f = z3.Const("s", Slot), z3.Const("f", Frame)
    start = And(alive(P_), live(P_, V_), situation.holds(P_, V_, s), slot_frame(s) == f)
    operation = Operation(situation.name, situation.about, situation.access, lambda p, v: start)
    outcomes: set[str] = set()
    for chain in these.chains(operation, priced=False):
        if any(rule.environment for rule in chain.rules):
            continue
        # An access is done when the store can be made; munmap, at once.
        done = pte_write(P_, V_) if situation.access == "store" else BoolVal(True)
        freed, keeps = Not(cached(s)), maps(P_, V_, f)
        for outcome, words in _FATES[situation.access].items():
            parts = [part if yes else Not(part) for part, yes in zip((freed, keeps), outcome, strict=True)]
            if these.possible(chain.guard, _before(chain.rules, And(done, *parts))):
                outcomes.add(words)
    return " or ".join(sorted(outcomes))


# The fork-heavy workload of the discussion.

SUBPAGES, PAGE_BYTES = 512, 4096
"""HPAGE_PMD_NR and PAGE_SIZE of x86-64."""


def _not_alone(p: Term, v: Term) -> Term:
    """Others map the page, fork has taken its owner's mark away, it was never swapped out, nobody refers to it."""
    f = pte_frame(p, v)
    others = exists(Proc, Page, lambda q, w: And(q != p, maps(q, w, f)))
    return And(others, Not(exclusive(f)), Not(in_swap_cache(f)), unreferenced(f))


def shared(these: Costs, operation: Operation, chains: Sequence[Chain]) -> dict[str, Count]:
    """What a write pays, meter by meter, to a page that other processes map too and nobody else refers to.

    Raises EngineError if that is not always the same.
    """
    counts: dict[str, Count] = {}
    for meter in METERS:
        sums = {
            profile.count(meter) for chain in chains
            for profile in these.sums(chain, _not_alone(P_, V_), _before(chain.rules, pte_write(P_, V_)))
        }
        if len(sums) != 1:
            raise EngineError(f"{these.spec}, {operation.name}: {meter} of a shared page are {sorted(map(str, sums))}")
        (counts[meter],) = sums
    return counts


@dataclass(frozen=True)
class Total:
    """What the workload costs in all: `faults`, and `counts` by meter. `locked`: how many different page locks those
    acquisitions are spread over."""

    faults: int
    counts: dict[str, int]
    locked: int


def workload(found: Table, processes: int, size: int, thp: bool) -> Total:
    """`processes` children of a process that has filled `size` bytes and waits; each writes all of them once.

    `thp`: huge pages wherever they fit; what is left at the end is small pages.
    """
    pages = -(-size // PAGE_BYTES)
    blocks, rest = divmod(pages, SUBPAGES) if thp else (0, pages)
    parts = [("write small", rest)]
    copied_whole = found.shared["write THP"][COPIES].subpages > 0
    parts += [("write THP", blocks), ("write sub-page", 0 if copied_whole else blocks * (SUBPAGES - 1))]
    counts = {
        meter: processes * sum(times * found.shared[name][meter].at(SUBPAGES) for name, times in parts)
        for meter in METERS
    }
    # PG_locked of a sub-page is its head's (trylock_page looks at compound_head).
    return Total(processes * sum(times for _, times in parts), counts, blocks + rest if counts[LOCKS] else 0)
