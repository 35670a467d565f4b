"""What is said of mutants by proof, for any number of elements: which can never be told from the original, and which
let a cell matter that nobody has written.

Lemmas about the state are assumed: those of LEMMAS that hold initially and that, together, every rule of every kernel
of a group keeps with the features beside which a rule is judged. With fewer features there are fewer rules, so they
hold there too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import z3
from z3 import And, Implies, Not, Or

from model.features import WORLD
from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError, Rule, StateFunction, System, Term, Update, forall, functions_in, meaning, text_of
from model.state import (
    Frame,
    Page,
    Pin,
    Proc,
    Slot,
    alive,
    backed,
    backing,
    block,
    cached,
    exclusive,
    file,
    folio,
    force_cow,
    frame_free,
    ksm,
    large,
    lazyfree,
    nonanon,
    page_dirty,
    page_table,
    pin_attached,
    pin_live,
    pin_page,
    pin_proc,
    pte_dirty,
    pte_frame,
    pte_huge,
    pte_none,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    slot_frame,
    uffd_armed,
    uffd_marker,
    vma,
    vma_anon,
    vma_exec,
    vma_huge,
    vma_new,
    vma_none,
    vma_uffd,
    vma_write,
)
from proofs.derive.steps import after, initially, next_value
from proofs.naming.wellformed import defects_of_conditions

EFFORT = 2_000_000
"""Limit of one query, in z3's units of work, so that answers do not depend on the machine: some 1 s. What z3 cannot
tell in it is not proved."""


def _of_ptes(say: Callable[[Term, Term, Term], Term]) -> Term:
    """Of each page that a PTE or PMD maps, given process, virtual page and frame."""
    return forall(Proc, Page, lambda p, v: Implies(pte_present(p, v), say(p, v, pte_frame(p, v))))


def _of_blocks(say: Callable[[Term, Term, Term], Term]) -> Term:
    """Of each two pages of a block that a PMD maps."""
    return forall(Proc, Page, Page, lambda p, v, w: Implies(
        And(pte_present(p, v), pte_huge(p, v), block(v) == block(w)), say(p, v, w)
    ))


def _entry(p: Term, v: Term) -> Term:
    return Or(pte_present(p, v), pte_swap(p, v))


FACTS: tuple[Term, ...] = (
    forall(Proc, Page, lambda p, v: Implies(vma(p, v), alive(p))),
    forall(Proc, Page, lambda p, v: Implies(_entry(p, v), vma(p, v))),
    forall(Pin, lambda k: Implies(And(pin_live(k), pin_attached(k)), vma(pin_proc(k), pin_page(k)))),
    forall(Proc, Page, lambda p, v: Implies(force_cow(p, v), vma(p, v))),
)
"""Those of LEMMAS that are quickly shown, and enough for most mutants."""
LEMMAS: tuple[Term, ...] = (
    *FACTS,
    forall(Proc, Page, lambda p, v: Not(And(pte_present(p, v), pte_swap(p, v)))),
    _of_blocks(lambda p, v, w: And(pte_present(p, w), pte_huge(p, w))),
    forall(Proc, Page, lambda p, v: Implies(And(vma(p, v), vma_exec(p, v)), vma_write(p, v))),
    forall(Proc, Page, lambda p, v: Implies(And(vma(p, v), vma_none(p, v)), Not(Or(vma_write(p, v), vma_exec(p, v))))),
    _of_ptes(lambda p, v, f: Implies(pte_write(p, v), vma_write(p, v))),
    _of_ptes(lambda p, v, f: Not(And(pte_write(p, v), pte_uffd_wp(p, v)))),
    _of_ptes(lambda p, v, f: Not(And(pte_write(p, v), nonanon(f)))),
    _of_ptes(lambda p, v, f: Not(And(pte_write(p, v), ksm(f)))),
    _of_ptes(lambda p, v, f: Implies(nonanon(f), And(backed(v), backing(v) == f))),
    _of_ptes(lambda p, v, f: Implies(Not(nonanon(f)), Not(And(backed(v), backing(v) == f)))),
    _of_ptes(lambda p, v, f: Not(And(ksm(f), nonanon(f)))),
    _of_ptes(lambda p, v, f: Not(And(lazyfree(f), nonanon(f)))),
    _of_ptes(lambda p, v, f: Not(And(ksm(f), large(f)))),
    _of_ptes(lambda p, v, f: Not(And(exclusive(f), nonanon(f)))),
    _of_ptes(lambda p, v, f: Not(And(exclusive(f), ksm(f)))),
    _of_ptes(lambda p, v, f: Implies(pte_write(p, v), exclusive(f))),
    _of_ptes(lambda p, v, f: Implies(And(large(f), Not(pte_huge(p, v))), Not(nonanon(f)))),
    _of_ptes(lambda p, v, f: Implies(Not(nonanon(f)), vma_anon(p, v))),
    forall(Page, lambda v: Implies(backed(v), And(
        nonanon(backing(v)), Not(ksm(backing(v))), Not(lazyfree(backing(v))), Not(large(backing(v))),
    ))),
    forall(Page, lambda v: Implies(backed(v), Not(exclusive(backing(v))))),
    forall(Page, Page, lambda v, w: Implies(And(backed(v), backed(w), file(v), backing(v) == backing(w)), v == w)),
    forall(Page, Page, lambda v, w: Implies(
        And(backed(v), Not(file(v)), Not(file(w))), And(backed(w), backing(v) == backing(w))
    )),
    forall(Frame, lambda f: Implies(And(large(f), Not(frame_free(f))), Not(nonanon(f)))),
    forall(Slot, lambda s: Implies(cached(s), And(
        Not(nonanon(slot_frame(s))), Not(large(slot_frame(s))), Not(lazyfree(slot_frame(s))),
    ))),
    forall(Slot, Page, lambda s, v: Implies(And(cached(s), backed(v)), backing(v) != slot_frame(s))),
    forall(Slot, lambda s: Implies(cached(s), page_dirty(slot_frame(s)))),
    forall(Slot, Slot, lambda s, t: Implies(And(cached(s), cached(t), slot_frame(s) == slot_frame(t)), s == t)),
    _of_ptes(lambda p, v, f: Implies(pte_huge(p, v), vma_huge(p, v))),
    _of_ptes(lambda p, v, f: Implies(pte_huge(p, v), Not(file(v)))),
    _of_ptes(lambda p, v, f: Implies(large(f), Not(file(v)))),
    _of_ptes(lambda p, v, f: Implies(pte_huge(p, v), vma_anon(p, v))),
    _of_ptes(lambda p, v, f: Implies(pte_huge(p, v), Or(nonanon(f), large(f)))),
    _of_ptes(lambda p, v, f: Implies(pte_huge(p, v), Not(page_table(p, block(v))))),
    forall(Proc, Page, lambda p, v: Implies(
        And(pte_swap(p, v), vma_huge(p, v), Not(file(v))), page_table(p, block(v))
    )),
    _of_ptes(lambda p, v, f: Implies(
        And(vma_huge(p, v), Not(pte_huge(p, v)), Not(file(v))), page_table(p, block(v))
    )),
    forall(Proc, Page, lambda p, v: Implies(pte_swap(p, v), vma_anon(p, v))),
    _of_blocks(lambda p, v, w: pte_write(p, v) == pte_write(p, w)),
    _of_blocks(lambda p, v, w: pte_dirty(p, v) == pte_dirty(p, w)),
    _of_blocks(lambda p, v, w: pte_soft_dirty(p, v) == pte_soft_dirty(p, w)),
    _of_blocks(lambda p, v, w: pte_uffd_wp(p, v) == pte_uffd_wp(p, w)),
    _of_blocks(lambda p, v, w: vma_write(p, v) == vma_write(p, w)),
    _of_blocks(lambda p, v, w: vma_exec(p, v) == vma_exec(p, w)),
    _of_blocks(lambda p, v, w: vma_uffd(p, v) == vma_uffd(p, w)),
    _of_blocks(lambda p, v, w: vma_none(p, v) == vma_none(p, w)),
    _of_blocks(lambda p, v, w: vma_new(p, v) == vma_new(p, w)),
    _of_blocks(lambda p, v, w: nonanon(pte_frame(p, v)) == nonanon(pte_frame(p, w))),
    _of_blocks(lambda p, v, w: large(pte_frame(p, v)) == large(pte_frame(p, w))),
    _of_blocks(lambda p, v, w: exclusive(pte_frame(p, v)) == exclusive(pte_frame(p, w))),
    _of_blocks(lambda p, v, w: lazyfree(pte_frame(p, v)) == lazyfree(pte_frame(p, w))),
    _of_blocks(lambda p, v, w: Implies(
        large(pte_frame(p, v)), folio(pte_frame(p, v)) == folio(pte_frame(p, w))
    )),
    forall(Proc, Page, Page, lambda p, v, w: Implies(
        And(pte_present(p, v), pte_present(p, w), pte_frame(p, v) == pte_frame(p, w), large(pte_frame(p, v))), v == w
    )),
    _of_ptes(lambda p, v, f: Not(And(lazyfree(f), large(f)))),
    forall(Proc, Page, lambda p, v: Implies(And(_entry(p, v), uffd_armed(p, v)), vma_uffd(p, v))),
    forall(Proc, Page, lambda p, v: Implies(And(_entry(p, v), pte_uffd_wp(p, v)), vma_uffd(p, v))),
    forall(Proc, Page, lambda p, v: Implies(And(_entry(p, v), pte_uffd_wp(p, v)), uffd_armed(p, v))),
    forall(Proc, Page, lambda p, v: Implies(
        And(pte_none(p, v), vma(p, v), file(v), uffd_marker(p, v)), vma_uffd(p, v)
    )),
    forall(Proc, Page, lambda p, v: Implies(And(vma(p, v), force_cow(p, v)), Not(vma_write(p, v)))),
    forall(Proc, Page, Proc, Page, lambda p, v, q, w: Implies(
        And(pte_present(p, v), pte_present(q, w), pte_frame(p, v) == pte_frame(q, w), exclusive(pte_frame(p, v))),
        And(p == q, v == w),
    )),
    forall(Proc, Page, Proc, Page, lambda p, v, q, w: Implies(
        And(pte_present(p, v), pte_present(q, w), pte_frame(p, v) == pte_frame(q, w), pte_write(p, v)),
        And(p == q, v == w),
    )),
    forall(Proc, Page, Proc, Page, lambda p, v, q, w: Implies(
        And(pte_present(p, v), pte_write(p, v), pte_swap(q, w), cached(pte_slot(q, w))),
        pte_frame(p, v) != slot_frame(pte_slot(q, w)),
    )),
    forall(Proc, Page, Proc, Page, lambda p, v, q, w: Implies(
        And(pte_present(p, v), pte_huge(p, v), exclusive(pte_frame(p, v)), pte_present(q, w), large(pte_frame(q, w)),
            folio(pte_frame(p, v)) == folio(pte_frame(q, w))),
        And(p == q, block(v) == block(w)),
    )),
    forall(Proc, Page, Proc, Page, lambda p, v, q, w: Implies(
        And(pte_swap(p, v), pte_swap_exclusive(p, v), pte_swap(q, w), pte_slot(p, v) == pte_slot(q, w)),
        And(p == q, v == w),
    )),
    forall(Proc, Page, Proc, Page, lambda p, v, q, w: Implies(
        And(pte_swap(p, v), pte_swap_exclusive(p, v), cached(pte_slot(p, v)), pte_present(q, w)),
        pte_frame(q, w) != slot_frame(pte_slot(p, v)),
    )),
    forall(Proc, Page, lambda p, v: Implies(
        And(pte_swap(p, v), cached(pte_slot(p, v))), Not(exclusive(slot_frame(pte_slot(p, v))))
    )),
    forall(Proc, Page, lambda p, v: Implies(
        And(pte_swap(p, v), pte_swap_exclusive(p, v), cached(pte_slot(p, v))), Not(ksm(slot_frame(pte_slot(p, v))))
    )),
)
"""What may hold in every reachable state; those that do not are left out."""


@functools.lru_cache(8)
def _assuming(known: tuple[Term, ...]) -> z3.Solver:
    solver = z3.Solver()
    solver.set("rlimit", EFFORT)
    solver.add(*known)
    return solver


def proves(known: Sequence[Term], given: Iterable[Term], term: Term) -> bool:
    """What is known, and given here, implies the term, as far as z3 can tell with that effort."""
    given = list(given)
    solver = _assuming(tuple(known))
    solver.push()
    solver.add(*given, Not(term))
    found = solver.check()
    solver.pop()
    if found == z3.unknown:
        # Without the others it may go another way.
        alone = z3.Solver()
        alone.set("rlimit", EFFORT)
        alone.add(*known, *given, Not(term))
        found = alone.check()
    return bool(found == z3.unsat)


def next_state(rule: Rule, term: Term) -> tuple[Term, list[Term]]:
    """The term in the state after the rule, and what is known of the functions by which it says that.

    They have other names there, where the next value of a cell is no term over the state before.
    """
    try:
        return after(rule, term), []
    except ModelError:
        pass
    said, renamed = list[Term](), []
    spoken = functions_in(term)
    for function in {u.function.name: u.function for u in rule.updates if u.function.name in spoken}.values():
        new = z3.Function(f"{function.name}!after", *function.domain, function.range)
        cell = [z3.Const(f"cell!{i}", sort) for i, sort in enumerate(function.domain)]
        hits = []
        for u in (u for u in rule.updates if u.function.name == function.name):
            writes, here = Implies(u.when, new(*u.index) == u.value), _hit(u, cell)
            said.append(z3.ForAll(list(u.over), writes) if u.over else writes)
            hits.append(here)
        said.append(z3.ForAll(cell, Or(*hits, new(*cell) == function(*cell))))
        renamed.append((function.decl, new(*(z3.Var(i, sort) for i, sort in enumerate(function.domain)))))
    return z3.substitute_funs(term, *renamed), said


def _hit(update: Update, cell: Sequence[Term]) -> Term:
    """The update writes the cell."""
    here = And(update.when, *(a == b for a, b in zip(cell, update.index, strict=True)))
    return z3.Exists(list(update.over), here) if update.over else here


_CORES: dict[tuple[str, str], frozenset[str]] = {}
"""By a rule's and a lemma's text, the lemmas, as text, of the state before that were enough to prove it kept."""


def keeps(rule: Rule, lemma: Term, known: Sequence[Term]) -> bool:
    """The rule leads from states where all that is known holds to those where the lemma does.

    A proof that needed no other lemmas than those counts for all kernels and features that have that rule.
    """
    key, by_text = (rule.text(), text_of(lemma)), {text_of(k): k for k in known}
    if key in _CORES and _CORES[key] <= by_text.keys():
        return True
    goal, said = next_state(rule, lemma)
    solver = z3.Solver()
    solver.set("rlimit", EFFORT)
    solver.add(*rule.guard, *said, Not(goal))
    names = {f"lemma!{i}": text for i, text in enumerate(by_text)}
    for name, text in names.items():
        solver.assert_and_track(by_text[text], name)
    if solver.check() != z3.unsat:
        return False
    _CORES[key] = frozenset(names[str(used)] for used in solver.unsat_core())
    return True


def invariant(rules: Sequence[Rule], lemmas: Iterable[Term]) -> list[Term]:
    """Those of the lemmas that hold initially and that, together, all rules keep."""
    kept = [lemma for lemma in lemmas if proves((), (), initially(lemma))]
    while True:
        wrong: set[int] = set()
        for rule in rules:
            writes = {u.function.name for u in rule.updates}
            for i, lemma in enumerate(kept):
                if i not in wrong and functions_in(lemma) & writes and not keeps(rule, lemma, kept):
                    wrong.add(i)
        if not wrong:
            return kept
        kept = [lemma for i, lemma in enumerate(kept) if i not in wrong]


FAMILIES = (
    frozenset({"hugetlb"}), frozenset({"madv-fork"}), frozenset({"populate"}), frozenset({"guard"}),
    frozenset({"uffd", "uffd-move", "uffd-fork"}), frozenset({"uffd-unpopulated", "uffd-async"}),
)
"""Features with which many lemmas are not kept as they are said: rules of one family are judged without the others, and
all other rules without any."""
COMMON = frozenset(WORLD).difference(*FAMILIES)


def beside(features: frozenset[str]) -> frozenset[str]:
    """The features beside which rules of those features are judged, and these."""
    return COMMON.union(*(family for family in FAMILIES if family & features))


class Group(NamedTuple):
    """What kernels that have their lemmas in common agree in."""

    exclusive_bit: bool
    spares: bool
    "An mprotect may spare the write bit of a PTE."
    never: frozenset[str]
    "Names of the state functions that are false in every state of the kernel."


@functools.cache
def group_of(kernel: Kernel, features: frozenset[str]) -> Group:
    """What the kernel's lemmas depend on, with those features."""
    spares = "skip" in (kernel.mprotect_pinned, kernel.mprotect_other_pinned)
    return Group(kernel.exclusive_bit, spares, frozenset(f.name for f in kernel.system(features).false))


@functools.cache
def known_of(group: Group, features: frozenset[str], quickly: bool = False) -> tuple[Term, ...]:
    """What is known of every reachable state of the kernels of a group, with those features. `quickly`: of FACTS."""
    systems = [k.system(features) for k in (*KERNELS, *FURTHER) if group_of(k, features) == group]
    rules = {(rule.name, rule.text()): rule for system in systems for rule in system.rules}
    return tuple(invariant(list(rules.values()), map(systems[0].reduced, FACTS if quickly else LEMMAS)))


# Mutants


def _cell(function: StateFunction) -> list[Term]:
    return [z3.Const(f"cell!{function.name}!{i}", sort) for i, sort in enumerate(function.domain)]


def _matters(function: StateFunction, cell: Sequence[Term], system: System) -> Term:
    """The cell has a meaning."""
    bound, term = meaning(function)
    return z3.BoolVal(True) if term is None else system.reduced(z3.substitute(term, *zip(bound, cell, strict=True)))


def equivalent(rule: Rule, changed: Rule, system: System, known: Sequence[Term]) -> bool:
    """Where the rule is enabled the changed one is, and leads to the same state; where only the changed one is, and it
    is a rule that changes something, it leads from a state to itself."""
    one, other = And(*rule.guard), And(*changed.guard)
    parts = [Implies(one, other)] if rule.updates else [one == other]
    functions = {u.function.name: u.function for u in rule.updates}
    try:
        for name, function in functions.items():
            cell = _cell(function)
            now, then = (next_value(r, function, cell) for r in (rule, changed))
            if sum(u.function.name == name for u in rule.updates) != sum(
                u.function.name == name for u in changed.updates
            ):
                later, said = next_state(rule, _matters(function, cell, system))
                parts.append(Implies(And(one, later, *said), now == then))
            parts.append(Implies(And(other, Not(one), _matters(function, cell, system)), then == function(*cell)))
    except ModelError:
        # A next value is no term: only the guards can be compared.
        if len(rule.updates) != len(changed.updates):
            return False
        parts = [one == other]
    return all(proves(known, (), part) for part in parts)


def unwritten(rule: Rule, system: System, known: Sequence[Term], function: StateFunction) -> bool:
    """The rule may let a cell of the function matter that it does not write, as far as z3 can tell."""
    cell = _cell(function)
    before = _matters(function, cell, system)
    later, said = next_state(rule, before)
    missed = [Not(_hit(u, cell)) for u in rule.updates if u.function.name == function.name]
    return not proves(known, [*rule.guard, later, *said, *missed], before)


def misread(rule: Rule, system: System, known: Sequence[Term]) -> frozenset[str]:
    """The state functions on which it may depend where they have no meaning whether the rule is enabled, as far as z3
    can tell."""
    return frozenset(defect.key[0] for defect in defects_of_conditions(rule, system, known))


def wrong_cell(rule: Rule, changed: Rule, system: System, known: Sequence[Term]) -> str:
    """What the changed rule, and not the rule itself, does wrong with a cell, or nothing."""
    dropped = next((u.function for u in rule.updates if all(u is not kept for kept in changed.updates)), None)
    if dropped is None:
        meaningless = misread(changed, system, known)
        if meaningless and meaningless - misread(rule, system, known):
            return "cells: its conditions depend on a cell without a meaning"
    elif unwritten(changed, system, known, dropped) and not unwritten(rule, system, known, dropped):
        return f"cells: {dropped} may matter without being written"
    return ""
