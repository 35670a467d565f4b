"""Transition systems, what can be left out of one, and how large a finite search makes it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace

import z3

from model.logic.functions import StateFunction, functions_in, initial_value, meaning
from model.logic.nodes import are_same, is_false, is_true, key_of
from model.logic.rules import Rule, by_rule, not_writing
from model.logic.terms import ModelError, Sort, Term, by_term, folded, name_of, text_of


@dataclass(frozen=True)
class System:
    """A kernel's transition system: its state functions, rules, and the axioms of its constants.

    `constants` are fixed elements (the first process, the value zero): name to sort. In a finite scope each stands for
    the first element of its sort. `false`: state functions that are false for ever, and therefore not among the others;
    `reduced` takes them out of a formula.
    """

    name: str
    functions: tuple[StateFunction, ...]
    rules: tuple[Rule, ...]
    constants: tuple[Term, ...]
    false: tuple[StateFunction, ...] = ()

    def rule(self, name: str) -> Rule:
        for r in self.rules:
            if r.name == name:
                return r
        raise ModelError(f"kernel {self.name} has no rule {name!r}")

    def cone(self, formulas: Iterable[Term]) -> frozenset[str]:
        """The state functions on which the truth of the formulas can depend, now or after any steps."""
        wanted: set[str] = set()
        for formula in formulas:
            wanted |= functions_in(self.reduced(formula))
        by_name = {f.name: f for f in self.functions}
        reads: list[tuple[str, frozenset[str]]] = []
        for r in self.rules:
            guard = r.functions_read()
            for u in r.updates:
                inputs = guard.union(*(functions_in(t) for t in (u.value, u.when, *u.index)))
                reads.append((u.function.name, inputs))
        changed = True
        while changed:
            before = len(wanted)
            for target, inputs in reads:
                if target in wanted:
                    wanted |= inputs
            for name in list(wanted):
                term = meaning(by_name[name])[1]
                if term is not None:
                    wanted |= functions_in(term)
            changed = len(wanted) > before
        return frozenset(wanted)

    def restricted(self, names: Iterable[str]) -> System:
        """The system over those state functions only; they must be a cone, so that nothing kept reads what is dropped.

        Rules that change nothing kept are dropped: they would be steps from a state to itself.
        """
        kept = frozenset(names)
        if kept >= {f.name for f in self.functions}:
            return self
        rules = []
        for r in self.rules:
            updates = tuple(u for u in r.updates if u.function.name in kept)
            if updates:
                rules.append(replace(r, updates=updates))
        return replace(self, functions=tuple(f for f in self.functions if f.name in kept), rules=tuple(rules))

    def settled(self) -> System:
        """The same transitions, said with fewer state functions.

        A Bool function that is false initially, and that no rule can make true as long as all of these are false, stays
        false; it is replaced by false, rules whose guard is false then are dropped, and so is every function of which
        nothing speaks any more. (The set is the largest one: what some rule can make true is taken out until none is.)
        """
        false = {f.name: f for f in self.functions if f.is_bool and initial_value(f)[1] is None}
        while True:
            rules = [rest for r in self.rules if (rest := _rule_assuming(r, false)) is not None]
            rising = {u.function.name for r in rules for u in r.updates if not is_false(u.value)} & false.keys()
            if not rising:
                break
            false = {name: f for name, f in false.items() if name not in rising}
        rules = [not_writing(r, false) for r in rules]
        assume = _assuming(tuple(false.values()))
        functions = [_function_assuming(f, assume) for f in self.functions if f.name not in false]
        cells = [term for f in functions for term in (meaning(f)[1], initial_value(f)[1]) if term is not None]
        spoken = frozenset().union(*map(functions_in, cells), *(r.functions_spoken for r in rules))
        kept = tuple(f for f in functions if f.name in spoken or f.is_bool)
        return replace(self, functions=kept, rules=tuple(rules), false=(*self.false, *false.values()))

    def reduced(self, formula: Term) -> Term:
        """The formula without the state functions that are false for ever."""
        return self._reduce(formula)

    @functools.cached_property
    def _reduce(self) -> Callable[[Term], Term]:
        return _assuming(self.false)

    def without(self, names: Iterable[str]) -> System:
        """The system that lacks those rules, as if nobody did that."""
        return replace(self, rules=tuple(r for r in self.rules if r.name not in set(names)))

    def kept_where(self, function: StateFunction) -> tuple[list[Term], Term | None]:
        """(index constants, Bool term over them): where finite engines keep that cell's value; None means always.

        Where it has a meaning; and where the cell that says so, if it is one, has a meaning itself: it is cleared too.
        """
        if function not in self._kept_where:
            self._kept_where[function] = self._kept(function)
        return self._kept_where[function]

    @functools.cached_property
    def _kept_where(self) -> dict[StateFunction, tuple[list[Term], Term | None]]:
        return {}

    def _kept(self, function: StateFunction) -> tuple[list[Term], Term | None]:
        bound, term = meaning(function)
        if term is None or not z3.is_app(term):
            return bound, term
        name = term.decl().name()
        said_by = next((f for f in self.functions if f.name == name), None)
        index, inner = self.kept_where(said_by) if said_by is not None else ([], None)
        if inner is None:
            return bound, term
        return bound, z3.And(term, z3.substitute(inner, *zip(index, term.children(), strict=True)))

    def text(self) -> str:
        """The terms as text: equal systems have equal texts, whatever the process that built them."""
        lines = []
        for f in self.functions:
            lines.append(f.decl.sexpr())
            for role, (_, term) in (("meaningful", meaning(f)), ("initial", initial_value(f))):
                lines.append(f"  {role} {text_of(term) if term is not None else 'default'}")
        return "\n".join([*lines, *(r.text() for r in self.rules)])

    def digest(self) -> str:
        """Short hash of the terms: what cached results and certificates are for."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]


@functools.cache
def _assuming(false: tuple[StateFunction, ...]) -> Callable[[Term], Term]:
    """Rewrites a term for states in which those Bool functions are false everywhere."""
    by_name = {f.name: f for f in false}
    names = frozenset(by_name)

    def rewrite(term: Term) -> Term:
        spoken = functions_in(term)
        return term if names.isdisjoint(spoken) else _falsified(frozenset(by_name[n] for n in names & spoken))(term)

    return rewrite


@functools.cache
def _falsified(false: frozenset[StateFunction]) -> Callable[[Term], Term]:
    """Rewrites a term that speaks of all of them."""
    values = [(f.decl, z3.BoolVal(False)) for f in false]

    @by_term
    def rewrite(term: Term) -> Term:
        return folded(z3.substitute_funs(term, *values))

    return rewrite


@by_rule
def _rule_assuming(rule: Rule, false: frozenset[StateFunction]) -> Rule | None:
    """The rule so rewritten; None if it can then never be taken."""
    return rule.rewritten(_assuming(tuple(sorted(false, key=lambda f: f.name))))


def _function_assuming(function: StateFunction, assume: Callable[[Term], Term]) -> StateFunction:
    """The function with its meaning so rewritten; itself if that changes nothing."""
    bound, term = meaning(function)
    if term is None or are_same(rewritten := assume(term), term):
        return function
    key = function, key_of(rewritten)
    if key not in _meant:
        _meant[key] = rewritten, replace(function, meaningful=None if is_true(rewritten) else (
            lambda *cell: z3.substitute(rewritten, *zip(bound, cell, strict=True))
        ))
    return _meant[key][1]


_meant: dict[tuple[StateFunction, Hashable], tuple[Term, StateFunction]] = {}
"""By function and meaning, which is held: the function with that meaning, one object for all systems."""


@dataclass(frozen=True)
class Scope:
    """How many elements each sort has in a finite search.

    Raises ModelError if a size is not a positive integer.
    """

    sizes: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for name, size in self.sizes:
            if size < 1:
                raise ModelError(f"a scope needs at least 1 {name.lower()}, not {size}")

    @staticmethod
    def of(**sizes: int) -> Scope:
        return Scope(tuple(sizes.items()))

    def size(self, sort: Sort) -> int:
        wanted = name_of(sort)
        for name, size in self.sizes:
            if name == wanted:
                return size
        raise ModelError(f"the scope gives no size for sort {wanted}")

    def as_dict(self) -> dict[str, int]:
        return dict(self.sizes)
