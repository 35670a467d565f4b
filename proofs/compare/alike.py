"""Whether two kernels take the same steps: rule by rule, proved by z3 for any number of elements, or seen in a scope.

If in every state that the first kernel reaches each of its rules does what the second one's does, both reach the same
states: nothing tells them apart. What is known of those states are clauses of certificates that come along, of whatever
kernel is most like this one. They are candidates only: those that are used are proved here to hold initially and to be
kept by every rule of the first kernel.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import z3

from invariants import INVARIANTS
from model.kernels import KERNELS, Kernel, most_alike
from model.logic import ModelError, Rule, Scope, StateFunction, System, Term, Update, forall, functions_in
from model.state import (
    Frame,
    Page,
    Pin,
    Proc,
    Slot,
    backed,
    backing,
    cached,
    exclusive,
    maps,
    nonanon,
    pin_frame,
    pte_present,
    pte_uffd_wp,
    pte_write,
    slot_frame,
    vma_write,
)
from proofs.certify import manifest as manifests
from proofs.certify.obligations import clause_of
from proofs.clock import done_by, look, seconds_left
from proofs.data import CERTIFICATES
from proofs.derive.steps import after, initially, next_value
from proofs.engine import Claim
from proofs.errors import OutOfTime
from proofs.naming.specs import system_of
from proofs.words import in_words

QUERY_SECONDS = 15.0
"""Time limit of one query; what z3 cannot tell in it is not known."""


def writable(p: Term, v: Term) -> Term:
    """The PTE lets its process write."""
    return z3.And(pte_present(p, v), pte_write(p, v))


_OF_PTES: tuple[tuple[Term, str], ...] = (
    (forall(Proc, Page, lambda p, v: z3.Not(z3.And(writable(p, v), pte_uffd_wp(p, v)))),
     "never W(p, v), uffd-wp(p, v)"),
    (forall(Proc, Page, lambda p, v: z3.Implies(writable(p, v), vma_write(p, v))),
     "W(p, v) => the VMA is writable"),
)
"""Candidates, and in words, beside those that the certificates needed."""
_NOT_ANONYMOUS: tuple[tuple[Term, str], ...] = (
    (forall(Frame, lambda f: z3.Not(z3.And(nonanon(f), exclusive(f)))), "never no anonymous page(f), exclusive(f)"),
    (forall(Frame, Slot, lambda f, s: z3.Not(z3.And(nonanon(f), cached(s), slot_frame(s) == f))),
     "never no anonymous page(f), holds(s, f)"),
    (forall(Proc, Page, Frame, lambda p, v, f: z3.Not(z3.And(maps(p, v, f), pte_write(p, v), nonanon(f)))),
     "never W(p, v), maps(p, v, f), no anonymous page(f)"),
    (forall(Page, lambda v: z3.Implies(backed(v), nonanon(backing(v)))), "backed by(v, f) => no anonymous page(f)"),
)
"""... where there are the zero page and the page cache, of which those certificates know nothing."""


@dataclass(frozen=True)
class Pair:
    """A rule of one name in two systems; None where a system lacks it."""

    name: str
    one: Rule | None
    other: Rule | None

    def guards(self) -> tuple[Term, Term]:
        """When each may be taken."""
        one, other = (z3.BoolVal(False) if r is None else z3.And(*r.guard) for r in (self.one, self.other))
        return one, other

    def enabled(self) -> Term:
        """One of them may be taken, for the parameters by their names."""
        return z3.Or(*self.guards())

    def same(self) -> tuple[Term, list[Term]]:
        """They do the same, for the parameters by their names and for the cells that are given beside it."""
        one, other = self.guards()
        if self.one is None or self.other is None or (
            (self.one.kind, self.one.environment) != (self.other.kind, self.other.environment)
        ):
            return z3.Not(z3.Or(one, other)), []
        parts, cells = [one == other], list[Term]()
        written = {u.function.name: u.function for r in (self.one, self.other) for u in r.updates}
        for function in written.values():
            alike, cell = _writes_alike(self.one, self.other, function)
            if not z3.is_true(alike):
                parts.append(z3.Implies(one, alike))
                cells += cell
        return z3.And(*parts), list({str(x): x for x in cells}.values())

    def claim(self, name: str, scope: Scope) -> Claim | None:
        """That they do the same, as a claim for a search in that scope.

        None where a parameter is a function of several values there, of which a claim cannot speak.
        """
        same, cells = self.same()
        enabled = self.enabled()
        bound = list(cells)
        for param in {p.name: p for r in (self.one, self.other) if r is not None for p in r.params}.values():
            if param.over is None:
                bound.append(param.term)
            elif scope.size(param.over) > 1:
                return None
            else:
                value = z3.Const(f"value!{param.name}", param.sort)
                same, enabled = (z3.substitute_funs(t, (param.term, value)) for t in (same, enabled))
                bound.append(value)
        return Claim(name, z3.ForAll(bound, same), z3.Exists(bound, enabled)) if bound else Claim(name, same, enabled)


def _writes_alike(one: Rule, other: Rule, function: StateFunction) -> tuple[Term, list[Term]]:
    """Both leave the same value in a cell of the function, whatever cell the constants say that are given beside it."""
    cell = [z3.Const(f"cell!{function.name}!{i}", sort) for i, sort in enumerate(function.domain)]
    try:
        values = next_value(one, function, cell), next_value(other, function, cell)
    except ModelError:
        # The next value is no term, as it depends on which element wrote the cell: update by update, then.
        return _updates_alike(*([u for u in r.updates if u.function.name == function.name] for r in (one, other)))
    return (z3.BoolVal(True), []) if values[0].eq(values[1]) else (values[0] == values[1], cell)


def _updates_alike(one: Sequence[Update], other: Sequence[Update]) -> tuple[Term, list[Term]]:
    """Each update of the one writes what that of the same cells of the other does; one without such writes nothing."""
    def by_cells(updates: Sequence[Update]) -> dict[str, Update]:
        found = {f"{[str(x) for x in u.over]} {[i.sexpr() for i in u.index]}": u for u in updates}
        return found if len(found) == len(updates) else {}

    mine, theirs = by_cells(one), by_cells(other)
    if (one and not mine) or (other and not theirs):
        return z3.BoolVal(False), []
    parts = []
    for cells in dict.fromkeys((*mine, *theirs)):
        u, w = mine.get(cells), theirs.get(cells)
        if u is not None and w is not None:
            parts.append(z3.And(u.when == w.when, z3.Implies(u.when, u.value == w.value)))
        else:
            parts += [z3.Not(each.when) for each in (u, w) if each is not None]
    over = {str(x): x for u in (*one, *other) for x in u.over}
    return z3.simplify(z3.And(*parts)), list(over.values())


def unlike(one: System, other: System) -> list[Pair]:
    """The rules whose terms differ, in the order of the first system, then those that only the second one has."""
    mine, theirs = ({rule.name: rule for rule in system.rules} for system in (one, other))
    pairs = [Pair(name, mine.get(name), theirs.get(name)) for name in dict.fromkeys((*mine, *theirs))]
    return [p for p in pairs if p.one is None or p.other is None or p.one.text() != p.other.text()]


@functools.cache
def _certified(kernel: str) -> tuple[tuple[Term, str], ...]:
    """The clauses of the certificates that come along for a kernel of the table, each with what it says in words."""
    system, clauses = system_of(kernel), dict[str, tuple[Term, str]]()
    for stated in INVARIANTS:
        path = manifests.manifest_path(CERTIFICATES, kernel, stated.name)
        claim = clause_of(stated.formula, system)
        for clause in manifests.formulas(path, system) if path.exists() else ():
            words = in_words(clause)
            if words.startswith("(") and clause_of(clause, system) == claim:
                # It is not of the vocabulary's words.
                words = stated.statement
            clauses.setdefault(clause.sexpr(), (clause, words))
    return tuple(clauses.values())


def candidates(kernel: Kernel, system: System) -> list[tuple[Term, str]]:
    """What may hold in every reachable state of the system, which is that kernel's with some features; and in words."""
    found = [*_certified(most_alike(kernel, KERNELS).name), *_OF_PTES]
    had = {f.name for f in system.functions}
    if nonanon.name in had:
        found = [*(_of_anonymous_pages(*each) for each in found), *_NOT_ANONYMOUS]
    reduced = [(system.reduced(c), words) for c, words in found]
    return [(c, words) for c, words in reduced if functions_in(c) <= had]


def _of_anonymous_pages(clause: Term, words: str) -> tuple[Term, str]:
    """The clause, said of anonymous pages only where it speaks of pages; and in words."""
    if not (z3.is_quantifier(clause) and clause.is_forall()):
        return clause, words
    # The names that clauses in words have.
    bound = [z3.Const(clause.var_name(i), clause.var_sort(i)) for i in range(clause.num_vars())]
    body = z3.substitute_vars(clause.body(), *reversed(bound))
    frames = [x for x in bound if x.sort() == Frame] or [pin_frame(x) for x in bound if x.sort() == Pin]
    if not frames:
        return clause, words
    # As a clause of the vocabulary, "never all of these", where it is one.
    inside = [] if not z3.is_not(body) else body.arg(0).children() if z3.is_and(body.arg(0)) else [body.arg(0)]
    if inside:
        weaker = z3.ForAll(bound, z3.Not(z3.And(*inside, *(z3.Not(nonanon(f)) for f in frames))))
    else:
        weaker = z3.ForAll(bound, z3.Or(body, *map(nonanon, frames)))
    return weaker, f"{words}; of anonymous pages"


class Known:
    """What holds in every reachable state of a system, as far as it has been proved: of candidates those that are used.

    `clauses`: an inductive invariant, grown by every answer.
    """

    def __init__(self, system: System, may_hold: Iterable[tuple[Term, str]]) -> None:
        self.system = system
        named = {f"candidate!{i}": each for i, each in enumerate(may_hold)}
        self._left = {name: clause for name, (clause, _) in named.items()}
        self._words = {name: words for name, (_, words) in named.items()}
        self._proved: set[str] = set()

    @property
    def clauses(self) -> list[Term]:
        return [self._left[name] for name in sorted(self._proved)]

    def implies(self, term: Term) -> tuple[str, ...] | None:
        """Clauses, in words, that hold in every reachable state and imply the term, whatever its constants are; None if
        none are known. Raises OutOfTime."""
        while True:
            leaned = self._core((), term)
            if leaned is None:
                return None
            wrong = self._inductive(leaned)
            if not wrong:
                return tuple(self._words[name] for name in leaned)
            for name in wrong:
                del self._left[name]

    def _inductive(self, names: Sequence[str]) -> list[str]:
        """Prove them, and whatever they lean on; what is no clause of an inductive invariant of candidates, or none."""
        reached = [*self._proved, *(n for n in names if n not in self._proved)]
        for name in reached:
            if name not in self._proved and self._core((), initially(self._left[name]), alone=True) is None:
                return [name]
        done = set(self._proved)
        while todo := [n for n in reached if n not in done]:
            for rule in self.system.rules:
                writes = {u.function.name for u in rule.updates}
                touched = [n for n in todo if functions_in(self._left[n]) & writes]
                leaned, wrong = self._kept(rule, touched)
                if wrong:
                    return wrong
                for name in leaned:
                    if name not in reached:
                        if self._core((), initially(self._left[name]), alone=True) is None:
                            return [name]
                        reached.append(name)
            done.update(todo)
        self._proved.update(done)
        return []

    def _kept(self, rule: Rule, names: Sequence[str]) -> tuple[Iterable[str], list[str]]:
        """(what is needed so that the rule keeps those clauses, those that it does not keep)."""
        if not names:
            return (), []
        try:
            goals = {name: after(rule, self._left[name]) for name in names}
        except ModelError:
            # What the rule makes of one of them is no term.
            return (), [*names]
        if (core := self._core(rule.guard, z3.And(*goals.values()))) is not None:
            return core, []
        cores = {name: self._core(rule.guard, goal) for name, goal in goals.items()}
        wrong = [name for name, core in cores.items() if core is None]
        return dict.fromkeys(n for core in cores.values() for n in core or ()), wrong

    def _core(self, given: Sequence[Term], term: Term, alone: bool = False) -> list[str] | None:
        """Names of candidates which with what is given imply the term; None if z3 finds none in its time."""
        look()
        left = seconds_left()
        # In a context of its own it takes as long whatever this process has asked before.
        fresh = z3.Context()
        solver = z3.Solver(ctx=fresh)
        solver.set("timeout", max(1, int(1000 * min(QUERY_SECONDS, QUERY_SECONDS if left is None else left))))
        solver.set("core.minimize", True)
        for name, clause in ({} if alone else self._left).items():
            solver.assert_and_track(clause.translate(fresh), name)
        solver.add(*(each.translate(fresh) for each in (*given, z3.Not(term))))
        if solver.check() != z3.unsat:
            return None
        return [str(name) for name in solver.unsat_core()]

    def implies_all(self, terms: Iterable[Term]) -> list[str] | None:
        """As `implies`, of several terms."""
        leaned: list[str] = []
        for term in terms:
            found = self.implies(term)
            if found is None:
                return None
            leaned += found
        return leaned

    def is_like(self, other: System) -> list[str] | None:
        """As `implies`, of: no step of the other system is another one, in any state that this one reaches."""
        return self.implies_all(p.same()[0] for p in unlike(self.system, other))


def proved_alike(kernels: tuple[Kernel, Kernel], systems: tuple[System, System], seconds: float) -> int | None:
    """So many clauses prove that both systems reach the same states by the same steps; None if that is not known in
    that time."""
    for number in (0, 1):
        known = Known(systems[number], candidates(kernels[number], systems[number]))
        try:
            with done_by(time.monotonic() + seconds / 2):
                if known.is_like(systems[1 - number]) is not None:
                    return len(known.clauses)
        except OutOfTime:
            continue
    return None
