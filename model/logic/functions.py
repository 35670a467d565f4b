"""State functions, when their cells mean something, and updates of cells."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import z3

from model.logic.nodes import application, are_same, is_of, names_in
from model.logic.terms import ModelError, Sort, Term, bind, by_term, kind_text, short, sort_text


@dataclass(frozen=True, eq=False)
class StateFunction:
    """One component of a state: a total function from `domain` to `range`.

    `meaningful(*args)` is a Bool term that says when a cell's value is looked at; elsewhere engines may keep any value
    and the finite ones keep a canonical one (False, or the sort's first element). `initial(*args)` is its value in the
    initial state; without one the cell is False or the sort's first element. `feature`: the part of the domain without
    which nobody asks for it, so that no rule need write it; `a|b` if there are two, of which either will do.
    """

    name: str
    domain: tuple[Sort, ...]
    range: Sort
    about: str
    meaningful: Callable[..., Term] | None = None
    initial: Callable[..., Term] | None = None
    feature: str = ""
    decl: Any = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decl", z3.Function(self.name, *self.domain, self.range))

    def __call__(self, *args: Term) -> Term:
        if len(args) == len(self.domain) and all(map(is_of, args, self.domain)):
            return application(self.decl, args, self.is_bool)
        try:
            return self.decl(*args)
        except z3.Z3Exception as error:
            wanted = ", ".join(s.name() for s in self.domain)
            given = ", ".join(a.sort().name() if isinstance(a, z3.ExprRef) else repr(a) for a in args)
            raise ModelError(f"{self.name} takes ({wanted}), not ({given})") from error

    @functools.cached_property
    def is_bool(self) -> bool:
        return bool(self.range == z3.BoolSort())

    def asked_with(self, features: Iterable[str]) -> bool:
        """Some of those features asks for it, or it needs none."""
        return not self.feature or not set(self.feature.split("|")).isdisjoint(features)

    def __repr__(self) -> str:
        return self.name


REGISTRY: dict[str, StateFunction] = {}
"""What engines take for a state function, by name: those of a model, not whatever a user's file makes."""


def register(functions: Iterable[StateFunction]) -> None:
    """Let engines know the state functions of a model; the first of a name stays."""
    for function in functions:
        REGISTRY.setdefault(function.name, function)


@by_term
def functions_in(term: Term) -> frozenset[str]:
    """Names of the state functions that occur in a term."""
    return frozenset(name for name in names_in(term) if name in REGISTRY)


def _cell_term(function: StateFunction, make: Callable[..., Term] | None) -> tuple[list[Term], Term | None]:
    if make is None:
        return [], None
    bound, term = bind(function.domain, make)
    return bound, z3.BoolVal(term) if isinstance(term, bool) else term


@functools.cache
def meaning(function: StateFunction) -> tuple[list[Term], Term | None]:
    """(index constants, Bool term over them): when that cell's value matters; None means always."""
    return _cell_term(function, function.meaningful)


@functools.cache
def initial_value(function: StateFunction) -> tuple[list[Term], Term | None]:
    """(index constants, term over them): the cell's value in the initial state; None means the default."""
    return _cell_term(function, function.initial)


@dataclass(frozen=True)
class Update:
    """`function(*index) := value`, for every value of the constants `over` for which `when` holds.

    All terms are evaluated in the state before the step. Two assignments of `over` that hit one cell must agree; the
    reference interpreter checks it.
    """

    function: StateFunction
    index: tuple[Term, ...]
    value: Term
    over: tuple[Term, ...] = ()
    when: Term = field(default_factory=lambda: z3.BoolVal(True))

    def __post_init__(self) -> None:
        if not isinstance(self.function, StateFunction):
            given = kind_text(self.function)
            raise ModelError(f"Update takes a state function, as in Update(alive, (p,), ...), not {given}")
        for what, terms in (("index", self.index), ("over", self.over)):
            if not isinstance(terms, tuple) or not all(isinstance(term, z3.ExprRef) for term in terms):
                raise ModelError(f"the update of {self.function}: {what} is a tuple of terms, not {kind_text(terms)}")
        if len(self.index) != len(self.function.domain):
            wanted = ", ".join(s.name() for s in self.function.domain)
            raise ModelError(f"the update of {self.function}: it takes ({wanted}), not {len(self.index)} terms")

    def rewritten(self, rewrite: Callable[[Term], Term]) -> Update:
        """The update with every term rewritten; itself if that changes none."""
        index, value, when = tuple(map(rewrite, self.index)), rewrite(self.value), rewrite(self.when)
        if all(map(are_same, (*index, value, when), (*self.index, self.value, self.when))):
            return self
        return replace(self, index=index, value=value, when=when)


def put(cell: Term, value: Any) -> list[Update]:
    """`put(pte_write(p, v), False)`: the update of one cell.

    Raises ModelError if the first is no cell of a state function, or the second is not of its range.
    """
    function = REGISTRY.get(cell.decl().name()) if z3.is_app(cell) else None
    if function is None:
        raise ModelError(f"put takes a cell of a state function, as pte_write(p, v), not {short(cell)}")
    if function.is_bool and isinstance(value, bool):
        value = z3.BoolVal(value)
    if not z3.is_expr(value) or value.sort() != function.range:
        raise ModelError(f"{function} takes {sort_text(function.range)}, not {kind_text(value)}")
    return [Update(function, tuple(cell.children()), value)]


def each(*sorts_and_body: Any, when: Callable[..., Term] | None = None) -> list[Update]:
    """`each(Page, lambda v: put(...) + put(...), when=lambda v: ...)`: those updates for every element at once."""
    sorts, body = sorts_and_body[:-1], sorts_and_body[-1]
    bound, (updates, condition) = bind(sorts, lambda *b: (body(*b), when(*b) if when else z3.BoolVal(True)))
    return [replace(u, over=(*bound, *u.over), when=z3.And(condition, u.when)) for u in updates]


def only_if(condition: Term, updates: list[Update]) -> list[Update]:
    """Those updates, but only where the condition holds."""
    return [replace(u, when=condition if z3.is_true(u.when) else z3.And(condition, u.when)) for u in updates]
