"""Whether an obligation is in the fragment that solvers decide: no cycle between its sorts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import z3

from model.logic import Term

# The fragment

_Scope = tuple[frozenset[str], ...]
"""For each bound variable the sorts on whose elements its choice depends: its own if it stands for any element."""


def depends_on(term: Term, holds: bool, scope: _Scope) -> Iterator[tuple[str, str]]:
    """(outer, inner): for an element of the outer sort, the term, asserted or (`holds` false) denied, says that there
    is one of the inner sort.
    """
    if z3.is_quantifier(term):
        sorts = [term.var_sort(i).name() for i in range(term.num_vars())]
        if term.is_forall() == holds:
            own = tuple(frozenset([sort]) for sort in sorts)
        else:
            outer = frozenset().union(*(scope[-1 - i] for i in _free(term)))
            yield from itertools.product(sorted(outer), sorts)
            own = (outer,) * len(sorts)
        yield from depends_on(term.body(), holds, (*scope, *own))
    elif z3.is_not(term):
        yield from depends_on(term.arg(0), not holds, scope)
    elif z3.is_implies(term):
        yield from depends_on(term.arg(0), not holds, scope)
        yield from depends_on(term.arg(1), holds, scope)
    elif z3.is_and(term) or z3.is_or(term):
        for child in term.children():
            yield from depends_on(child, holds, scope)
    elif not z3.is_var(term) and _quantifies(term):
        # Equality of formulas and the condition of an `ite` count with both signs.
        for child, sign in itertools.product(term.children(), (True, False)):
            yield from depends_on(child, sign, scope)


def _quantifies(term: Term) -> bool:
    return z3.is_quantifier(term) or any(_quantifies(child) for child in term.children())


def _free(term: Term, depth: int = 0) -> frozenset[int]:
    """The variables of the term that it does not bind itself, counted outwards from it."""
    if z3.is_var(term):
        index = z3.get_var_index(term) - depth
        return frozenset([index] if index >= 0 else [])
    if z3.is_quantifier(term):
        return _free(term.body(), depth + term.num_vars())
    return frozenset().union(*(_free(child, depth) for child in term.children()))


def fragment(obligation: str) -> str | None:
    """None if the obligation is stratified, so that solvers decide it; else the cycle of sorts, in words.

    A function leads from the sorts of its arguments to that of its value, and "for all x there is a y" from the sort
    of x to that of y. Where nothing leads back, only finitely many elements matter.
    """
    import networkx  # noqa: PLC0415  it takes a while to load

    graph = networkx.DiGraph()
    for name, *sorts in re.findall(r"^\(declare-fun (\S+) \((.+)\) (\w+)\)$", obligation, re.MULTILINE):
        if sorts[1] != "Bool":
            for sort in sorts[0].split():
                graph.add_edge(sort, sorts[1], why=name)
    # In the context of all others what a text defines would stay, and slow them down.
    for formula in z3.parse_smt2_string(obligation, ctx=z3.Context()):
        for outer, inner in depends_on(formula, True, ()):
            graph.add_edge(outer, inner, why=f"for all {outer} there is a {inner}")
    try:
        cycle = networkx.find_cycle(graph)
    except networkx.NetworkXNoCycle:
        return None
    return ", ".join(f"{outer} -> {inner} ({graph[outer][inner]['why']})" for outer, inner in cycle)
