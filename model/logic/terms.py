"""Terms: quantifiers, what stands in a term, its text, and terms without what is decided already."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ParamSpec, TypeVar

import z3

from model.logic.nodes import QUANTIFIER, are_same, children_of, is_false, is_true, key_of, kind_of, names_in

# z3's classes carry no usable types; the alias says what is meant.
Term = Any
Sort = Any
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
_open_binders = 0


def by_term(function: Callable[[Term], Result]) -> Callable[[Term], Result]:
    """Decorator: a function of one z3 term is computed once for each term."""
    known: dict[Hashable, tuple[Term, Result]] = {}

    @functools.wraps(function)
    def look(term: Term) -> Result:
        key = key_of(term)
        if key not in known:
            # z3 reuses the id of a term that nobody holds, so the term is kept beside what is known of it.
            known[key] = (term, function(term))
        return known[key][1]

    return look


def by_terms(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator: a function of some terms is computed once for the same terms under as many binders, after which what
    it binds is named."""
    known: dict[tuple[Hashable, ...], tuple[tuple[Term, ...], Result]] = {}

    @functools.wraps(function)
    def look(*terms: Arguments.args, **named: Arguments.kwargs) -> Result:
        if named or not all(isinstance(term, z3.ExprRef) for term in terms):
            return function(*terms, **named)
        key = (_open_binders, *(key_of(term) for term in terms))
        if key not in known:
            known[key] = (terms, function(*terms, **named))
        return known[key][1]

    return look


class ModelError(Exception):
    """A model that makes no sense: the message is one line for the user."""


OPERATORS = {
    z3.Z3_OP_TRUE: "true", z3.Z3_OP_FALSE: "false", z3.Z3_OP_NOT: "not", z3.Z3_OP_AND: "and", z3.Z3_OP_OR: "or",
    z3.Z3_OP_IMPLIES: "implies", z3.Z3_OP_EQ: "eq", z3.Z3_OP_DISTINCT: "distinct", z3.Z3_OP_ITE: "ite",
    z3.Z3_OP_XOR: "xor", z3.Z3_OP_IFF: "eq",
}
"""z3's kind of each operator that a term may have, to its name."""


@by_term
def text_of(term: Term) -> str:
    """The term as SMT-LIB text."""
    return str(term.sexpr())


@by_term
def name_of(constant_or_sort: Term) -> str:
    """Its name."""
    named = constant_or_sort if isinstance(constant_or_sort, z3.SortRef) else constant_or_sort.decl()
    return str(named.name())


def bind(sorts: Sequence[Sort], body: Callable[..., Any]) -> tuple[list[Term], Any]:
    """Call `body` with one bound constant per sort, named by nesting depth so that equal formulas are equal terms."""
    global _open_binders
    for sort in sorts:
        if not isinstance(sort, z3.SortRef):
            raise ModelError(f"quantifiers take sorts and then a function of as many terms, as in forall(Proc, Page, "
                             f"lambda p, v: ...), not {sort!r}")
    if not callable(body):
        raise ModelError("the last argument of a quantifier is a function of the bound terms")
    first = _open_binders
    _open_binders += len(sorts)
    try:
        bound = [z3.Const(f"{name_of(sort).lower()}'{first + i}", sort) for i, sort in enumerate(sorts)]
        return bound, body(*bound)
    finally:
        _open_binders = first


def binders_open() -> int:
    """How many bound terms there are just now: what is made inside is named by it."""
    return _open_binders


def forall(*sorts_and_body: Any) -> Term:
    """`forall(Proc, Page, lambda p, v: ...)`: the closed universal formula over those sorts."""
    bound, body = bind(sorts_and_body[:-1], sorts_and_body[-1])
    return z3.ForAll(bound, body)


def exists(*sorts_and_body: Any) -> Term:
    """`exists(Pin, lambda k: ...)`: the closed existential formula over those sorts.

    Conjuncts that do not speak of the bound elements are left outside: a quantifier among them then depends on nothing
    bound here, which is what keeps proof obligations decidable.
    """
    bound, body = bind(sorts_and_body[:-1], sorts_and_body[-1])
    conjuncts = body.children() if z3.is_and(body) else [body]
    names = set(map(name_of, bound))
    inside = [c for c in conjuncts if names_in(c) & names]
    outside = [c for c in conjuncts if not names_in(c) & names]
    if not inside or not outside:
        return z3.Exists(bound, body)
    return z3.And(*outside, z3.Exists(bound, z3.And(*inside) if len(inside) > 1 else inside[0]))


@by_term
def folded(term: Term) -> Term:
    """The term without the constants true and false that a kernel's decisions left in it.

    z3's own simplifier orders arguments by their age, so that equal systems would get unequal texts.
    """
    kind = kind_of(term)
    if kind == QUANTIFIER:
        return _folded_quantifier(term) if z3.is_quantifier(term) else term
    children = children_of(term)
    if not children:
        return term
    args = [folded(c) for c in children]
    if kind == z3.Z3_OP_NOT:
        return _negated(args[0])
    if kind in (z3.Z3_OP_AND, z3.Z3_OP_OR):
        unit, stop = _ENDS if kind == z3.Z3_OP_AND else _ENDS[::-1]
        kinds = [kind_of(a) for a in args]
        if stop in kinds:
            return z3.BoolVal(kind == z3.Z3_OP_OR)
        rest = [a for a, of in zip(args, kinds, strict=True) if of != unit]
        if len(rest) < 2:
            return rest[0] if rest else z3.BoolVal(kind == z3.Z3_OP_AND)
        return z3.And(*rest) if kind == z3.Z3_OP_AND else z3.Or(*rest)
    if kind == z3.Z3_OP_IMPLIES:
        if is_false(args[0]) or is_true(args[1]):
            return z3.BoolVal(True)
        if is_true(args[0]):
            return args[1]
        return _negated(args[0]) if is_false(args[1]) else z3.Implies(*args)
    if kind == z3.Z3_OP_ITE:
        condition, then, otherwise = args
        if is_true(condition) or is_false(condition):
            return then if is_true(condition) else otherwise
        return then if are_same(then, otherwise) else z3.If(condition, then, otherwise)
    return term if all(map(are_same, args, children)) else term.decl()(*args)


_ENDS = z3.Z3_OP_TRUE, z3.Z3_OP_FALSE


def _folded_quantifier(term: Term) -> Term:
    # Opened first, so that only closed terms are looked at. An outer variable of the same name must stay another one.
    taken = names_in(term)
    bound = []
    for i in range(term.num_vars()):
        name = str(term.var_name(i))
        while name in taken:
            name += "'"
        bound.append(z3.Const(name, term.var_sort(i)))
    opened = z3.substitute_vars(term.body(), *reversed(bound))
    body = folded(opened)
    # z3 may have simplified what it opened, so that what is folded already still differs from the term.
    if are_same(body, opened) and names_in(opened) - {b.decl().name() for b in bound} == taken:
        return term
    # A variable that is not spoken of any more would still count as a dependency.
    used = [b for b in bound if b.decl().name() in names_in(body)]
    if not used:
        return body
    return z3.ForAll(used, body) if term.is_forall() else z3.Exists(used, body)


def _negated(term: Term) -> Term:
    if is_true(term) or is_false(term):
        return z3.BoolVal(is_false(term))
    return z3.Not(term)


def short(value: Any) -> str:
    """Its text, on one line and not too long."""
    try:
        text = " ".join(str(value).split())
    except Exception:
        # A user's object may fail at being shown.
        text = "..."
    return text if len(text) <= 60 else text[:57] + "..."


def sort_text(sort: Sort) -> str:
    """`a Frame term`."""
    return f"a {sort.name()} term"


def kind_text(value: Any) -> str:
    """What a value is, for somebody who expected something else."""
    if isinstance(value, z3.ExprRef):
        return f"{sort_text(value.sort())}, {short(value)}"
    return "nothing" if value is None else f"{short(value)!r} ({type(value).__name__})"
