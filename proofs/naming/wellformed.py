"""Whether rules and claims make sense in every engine: what they say depends on no cell where it has no meaning, they
leave none that gains one, and no two updates give one cell two values. z3 proves it, for any number of elements.

Finite engines clear a cell that has no meaning (StateFunction.meaningful), proofs let it keep its value, so that what
depends on it would get one answer from each. Two states that differ only in such cells are compared: a claim must have
one truth in both, a rule must be enabled in both and lead to two that again differ only in such cells.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import z3

from invariants import Invariant
from model.all_rules import ALL_RULES
from model.blame import place_of
from model.kernels import FURTHER, KERNELS, Kernel, asked_of, most_alike
from model.logic import (
    ModelError,
    Rule,
    StateFunction,
    System,
    Term,
    Update,
    forall,
    functions_in,
    key_of,
    meaning,
    short,
)
from model.state import (
    Page,
    Pin,
    Proc,
    alive,
    block,
    force_cow,
    mapped_huge,
    pin_attached,
    pin_live,
    pin_page,
    pin_proc,
    pte_migration,
    pte_present,
    pte_swap,
    vma,
)
from proofs.derive.steps import after, initially

SECONDS = 10
"""Time limit of one query; what z3 cannot tell is refused."""

_FACTS = (
    forall(Proc, Page, lambda p, v: z3.Implies(vma(p, v), alive(p))),
    forall(Proc, Page, lambda p, v: z3.Implies(pte_present(p, v), vma(p, v))),
    forall(Proc, Page, lambda p, v: z3.Implies(pte_swap(p, v), vma(p, v))),
    forall(Proc, Page, lambda p, v: z3.Implies(pte_migration(p, v), vma(p, v))),
    forall(Pin, lambda k: z3.Implies(z3.And(pin_live(k), pin_attached(k)), vma(pin_proc(k), pin_page(k)))),
    forall(Proc, Page, lambda p, v: z3.Implies(force_cow(p, v), vma(p, v))),
    forall(Proc, Page, Page, lambda p, v, w: z3.Implies(
        z3.And(mapped_huge(p, v), block(v) == block(w)), mapped_huge(p, w)
    )),
)
"""What holds of every kernel: used for a system where its rules preserve it."""


class Defect(NamedTuple):
    """`what` is wrong with a rule, or with a claim, in words; `key`: the same for two rules that lack the same; `why`:
    how that comes, and what helps.
    """

    key: tuple[str, str]
    what: str
    why: str = ""


@functools.lru_cache(8)
def facts_of(system: System) -> list[Term]:
    """Those facts that hold initially and that, together, every rule of the system preserves."""
    said = (f for f in map(system.reduced, _FACTS) if not z3.is_true(z3.simplify(f)))
    facts = [f for f in said if _holds([], initially(f))]
    while True:
        kept = [f for f in facts if all(_keeps(r, f, facts) for r in system.rules)]
        if len(kept) == len(facts):
            return kept
        facts = kept


def _keeps(rule: Rule, fact: Term, facts: Sequence[Term]) -> bool:
    if not _writes(rule, fact):
        return True
    try:
        return _holds([*facts, *rule.guard], after(rule, fact))
    except ModelError:
        # What the rule makes of it is no term.
        return False


def _writes(rule: Rule, term: Term) -> bool:
    """The rule writes a state function of which the term speaks; else the term says the same after it as before."""
    return not functions_in(term).isdisjoint(u.function.name for u in rule.updates)


def defects_of_claim(stated: Invariant, system: System, facts: Sequence[Term]) -> Iterator[Defect]:
    """The state functions on which the claim depends where they have no meaning, in that system."""
    for what, term in (("when", stated.premise), ("when and then", stated.formula)):
        yield from _misread(system, facts, [], system.reduced(term), what)


def defects_of_conditions(rule: Rule, system: System, facts: Sequence[Term]) -> Iterator[Defect]:
    """The state functions on which the conditions of a rule depend where they have no meaning."""
    yield from _misread(system, facts, [], z3.And(*rule.guard), "its conditions")


def defects_of_rule(rule: Rule, system: System, facts: Sequence[Term]) -> Iterator[Defect]:
    """What is wrong with a rule of the system."""
    yield from defects_of_conditions(rule, system, facts)
    facts = [*facts, *rule.guard]
    for number, update in enumerate(rule.updates):
        yield from _disagreeing(facts, update, rule.updates[number:])
    for function in system.functions:
        updates = [u for u in rule.updates if u.function.name == function.name]
        bound, matters = meaning(function)
        if not updates and (matters is None or not _writes(rule, matters)):
            continue
        cell = [z3.Const(f"cell!{i}", sort) for i, sort in enumerate(function.domain)]
        try:
            then = [] if matters is None else [after(rule, z3.substitute(matters, *zip(bound, cell, strict=True)))]
        except ModelError:
            # Whether it has a meaning afterwards is no term: it may have.
            then = []
        hits = []
        for update in updates:
            hit = _hit(update, cell)
            hits.append(z3.Exists(list(update.over), hit) if update.over else hit)
            yield from _misread(
                system, [*facts, *then], [hit], update.value, f"the value that it gives {function.name}"
            )
            yield from _misread(system, [*facts, *then], [], hit, f"which cells of {function.name} it writes")
        if matters is not None:
            before = z3.substitute(matters, *zip(bound, cell, strict=True))
            if not _holds([*facts, *then, *map(z3.Not, hits)], before):
                what = f"may let {function.name} matter without writing it"
                yield Defect((function.name, "kept"), what, _why_it_matters(function, rule))


def _why_it_matters(function: StateFunction, rule: Rule) -> str:
    """What the rule writes that gives a cell of the function a meaning, where it has none before; and what helps."""
    written = sorted({u.function.name for u in rule.updates} & functions_in(meaning(function)[1]))
    return (
        f"it writes {' and '.join(written)}, after which {function.name} ({function.about}) may say something in a "
        "cell where it said nothing before and was never written; docs/api.md, 'A cell without a value', has the remedy"
    )


def _hit(update: Update, cell: Sequence[Term]) -> Term:
    return z3.And(update.when, *(i == x for i, x in zip(update.index, cell, strict=True)))


def _disagreeing(facts: Sequence[Term], update: Update, others: Sequence[Update]) -> Iterator[Defect]:
    """That an update gives some cell another value than it, or another one of these, gives the same cell."""
    name = update.function.name
    for other in others:
        renamed = [(x, z3.Const(f"{x.decl().name()}!", x.sort())) for x in other.over]
        if other.function.name != name or (other is update and not renamed):
            continue
        index, when, value = (
            [z3.substitute(t, *renamed) if renamed else t for t in terms]
            for terms in (other.index, [other.when], [other.value])
        )
        same_cell = [i == j for i, j in zip(update.index, index, strict=True)]
        if not _holds([*facts, update.when, *when, *same_cell], update.value == value[0]):
            yield Defect((name, "two values"), f"may give one cell of {name} two values at once")
            return


def _misread(
    system: System, facts: Sequence[Term], where: Sequence[Term], term: Term, what: str
) -> Iterator[Defect]:
    """The state functions on which the term depends in a cell that has no meaning, where those other terms hold."""
    known = [*facts, *where]
    if _independent(system, [*known, *_alike(system)], term):
        return
    # One function at a time is enough to find which, unless what has a meaning depends on what has none.
    named = False
    for function in system.functions:
        if function.name in functions_in(term) and not _holds(known, _changed(system, term, [function]) == term):
            named = True
            bound, matters = meaning(function)
            cell = f"{function.name}({', '.join(str(x) for x in bound)})"
            yield Defect(
                (function.name, what),
                f"{what}: it depends on {function.name} where that has no meaning; {cell} has one where "
                f"{short(matters)}",
            )
    if not named:
        yield Defect((", ".join(sorted(functions_in(term))), what), f"{what}: it may depend on cells without a meaning")


def _independent(system: System, known: Sequence[Term], term: Term) -> bool:
    """The term has one value in both states: each of its parts has, or z3 proves it of the whole."""
    if all(meaning(f)[1] is None for f in system.functions if f.name in functions_in(term)):
        return True
    parts = [_opened(term)] if z3.is_quantifier(term) else term.children() if z3.is_bool(term) else []
    if parts and _is_connective(term) and all(_independent(system, known, part) for part in parts):
        return True
    return _holds(known, _changed(system, term) == term)


def _opened(term: Term) -> Term:
    constants = [z3.Const(f"open!{term.get_id()}!{i}", term.var_sort(i)) for i in range(term.num_vars())]
    return z3.substitute_vars(term.body(), *reversed(constants))


def _is_connective(term: Term) -> bool:
    return bool(z3.is_quantifier(term) or term.decl().kind() != z3.Z3_OP_UNINTERPRETED)


@functools.lru_cache(8)
def _other_values(system: System) -> dict[str, tuple[z3.FuncDeclRef, Term]]:
    """Of each state function that has cells without a meaning: its value, over variables, in a state that differs from
    this one only in such cells."""
    values = {}
    for function in system.functions:
        bound, matters = meaning(function)
        if matters is not None:
            other = z3.Function(f"other!{function.name}", *function.domain, function.range)
            value = z3.If(matters, function(*bound), other(*bound))
            cell = [z3.Var(i, sort) for i, sort in enumerate(function.domain)]
            values[function.name] = function.decl, z3.substitute(value, *zip(bound, cell, strict=True))
    return values


def _changed(system: System, term: Term, functions: Iterable[StateFunction] | None = None) -> Term:
    """The term in a state that differs from this one only in cells that have no meaning, of those functions."""
    names = functions_in(term) if functions is None else {f.name for f in functions}
    values = [value for name, value in _other_values(system).items() if name in names]
    return z3.substitute_funs(term, *values) if values else term


@functools.lru_cache(8)
def _alike(system: System) -> list[Term]:
    """What has a meaning is the same in both states: implied but where a meaning depends on itself, as of `large`."""
    alike = []
    for function in system.functions:
        bound, matters = meaning(function)
        if matters is not None and function.name in functions_in(matters):
            alike.append(z3.ForAll(bound, matters == _changed(system, matters)))
    return alike


_MOST_TOLD = 1 << 17
_told: dict[tuple[frozenset[Hashable], Hashable], tuple[list[Term], bool]] = {}
"""What z3 said of a term where others hold, which are kept beside it, so that their keys stay their own: kernels share
most of their rules."""


def _holds(assumed: Iterable[Term], term: Term) -> bool:
    terms = [*assumed, term]
    key = frozenset(map(key_of, terms[:-1])), key_of(term)
    if key not in _told:
        solver = z3.Solver()
        solver.set("timeout", 1000 * SECONDS)
        solver.add(*terms[:-1], z3.Not(term))
        found = solver.check()
        if found == z3.unknown:
            return False
        if len(_told) == _MOST_TOLD:
            _told.clear()
        _told[key] = terms, bool(found == z3.unsat)
    return _told[key][1]


# A user's kernels and claims


def _found(defects: Callable[[Sequence[Term]], Iterator[Defect]], system: System) -> Iterator[Defect]:
    """The defects that there are by the facts; most rules and claims have none without them, which is quicker seen."""
    return iter(()) if next(defects(()), None) is None else defects(facts_of(system))


def check_kernel(kernel: Kernel, system: System, features: Sequence[str]) -> None:
    """Raises ModelError, with the line, for what is wrong with a rule of a user's kernel that the user wrote, or that
    asks a decision which the model's kernel that is most alike takes otherwise; `system` is that of the kernel with
    those features.

    What is wrong with the model's own rule of that name too is none of the user's doing.
    """
    usual = most_alike(kernel, (*KERNELS, *FURTHER))
    # Also where it is one of the model's functions or values: they make sense together, not each with any other.
    mine = {d: kernel.place_of(getattr(kernel, d)) for d in kernel.decisions()
            if getattr(kernel, d) is not getattr(usual, d)}
    places = {t.name: kernel.place_of(t.body) for t in kernel.own_rules}
    there = {rule.name.partition(".")[0] for rule in system.rules}
    for template in ALL_RULES if mine else ():
        if template.name not in there:
            continue
        if asked := sorted(mine.keys() & asked_of(kernel, template)):
            places[template.name] = mine[asked[0]]
    if not places:
        return
    plain = dataclasses.replace(kernel.plain(), **{d: getattr(usual, d) for d in mine})
    for rule in system.rules:
        place = places.get(rule.name.partition(".")[0], "")
        for defect in _found(functools.partial(defects_of_rule, rule, system), system) if place else ():
            original = plain.system(features)
            same = [r for r in original.rules if r.name == rule.name]
            known = {d.key for r in same for d in defects_of_rule(r, original, facts_of(original))}
            if defect.key not in known:
                why = f": {defect.why}" if defect.why else ""
                raise ModelError(f"{place}: rule {rule.name}: {defect.what}{why}")


def check_claim(stated: Invariant, system: System) -> None:
    """Raises ModelError, with the line, if the claim depends on what has no meaning in that system."""
    for defect in _found(functools.partial(defects_of_claim, stated, system), system):
        raise ModelError(f"{place_of(stated.then) or place_of(stated.when)}: invariant {stated.name}: {defect.what}")
