"""What a formula says of the state after a step, and of the initial one: by substitution in the terms."""

from __future__ import annotations

from collections.abc import Sequence

import z3

from model.logic import REGISTRY, ModelError, Rule, StateFunction, Term, by_term, children_of, initial_value, names_in

# Obligations

def opened(formula: Term, prefix: str) -> tuple[list[Term], Term]:
    """(constants, body) of a universal formula; no constants if it has no outer quantifier."""
    if not (z3.is_quantifier(formula) and formula.is_forall()):
        return [], formula
    constants = [z3.Const(f"{prefix}!{i}", formula.var_sort(i)) for i in range(formula.num_vars())]
    return constants, z3.substitute_vars(formula.body(), *reversed(constants))


def next_value(rule: Rule, function: StateFunction, index: Sequence[Term]) -> Term:
    """The value of a cell after the rule, over the state before. Raises ModelError if it is no term."""
    value = function(*index)
    for update in rule.updates:
        if update.function.name != function.name:
            continue
        # An index that is a bare bound constant names its value; the others become equations.
        names: dict[str, tuple[Term, Term]] = {}
        equations = []
        for place, x in zip(update.index, index, strict=True):
            if any(place.eq(o) for o in update.over) and place.decl().name() not in names:
                names[place.decl().name()] = place, x
            else:
                equations.append(place == x)
        hit = z3.substitute(z3.And(*equations, update.when), *names.values())
        written = z3.substitute(update.value, *names.values())
        unnamed = [o for o in update.over if o.decl().name() not in names]
        if unnamed:
            if names_in(written) & {o.decl().name() for o in unnamed}:
                raise ModelError(f"rule {rule.name}: the next value of {function.name} is not a term")
            hit = z3.Exists(unnamed, hit)
        value = z3.If(hit, written, value)
    return value


def after(rule: Rule, term: Term) -> Term:
    """The term in the state after the rule, over the state before: the weakest precondition."""
    return _after(rule, frozenset(u.function.name for u in rule.updates), term, 0)


def _after(rule: Rule, written: frozenset[str], term: Term, depth: int) -> Term:
    if z3.is_quantifier(term):
        bound = [z3.Const(f"after!{depth + i}", term.var_sort(i)) for i in range(term.num_vars())]
        body = _after(rule, written, z3.substitute_vars(term.body(), *reversed(bound)), depth + len(bound))
        return z3.ForAll(bound, body) if term.is_forall() else z3.Exists(bound, body)
    if not has_quantifier(term) and written.isdisjoint(names_in(term)):
        return term
    args = [_after(rule, written, a, depth) for a in children_of(term)]
    name = term.decl().name()
    if name in REGISTRY and name in written:
        return next_value(rule, REGISTRY[name], args)
    return term.decl()(*args)


@by_term
def has_quantifier(term: Term) -> bool:
    """Whether there is a quantifier in the term."""
    return z3.is_quantifier(term) or any(map(has_quantifier, children_of(term)))


def initially(term: Term) -> Term:
    """The term in the initial state; a cell without an initial value is false, or any element."""
    if z3.is_quantifier(term):
        bound = [z3.Const(f"init!{i}", term.var_sort(i)) for i in range(term.num_vars())]
        body = initially(z3.substitute_vars(term.body(), *reversed(bound)))
        return z3.ForAll(bound, body) if term.is_forall() else z3.Exists(bound, body)
    if not term.children():
        return term
    args = [initially(a) for a in term.children()]
    name = term.decl().name()
    if name in REGISTRY:
        cell, value = initial_value(REGISTRY[name])
        if value is not None:
            return z3.substitute(value, *zip(cell, args, strict=True))
        if REGISTRY[name].is_bool:
            return z3.BoolVal(False)
    return term.decl()(*args)
