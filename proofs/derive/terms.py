"""From z3's terms to a small Python tree, read once; the interpreter and the grounder both walk that tree."""

from __future__ import annotations

from dataclasses import dataclass

import z3

from model.logic import OPERATORS, REGISTRY, Term, by_term


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. `op`: a name of model.logic.OPERATORS, or

    `state` (name: state function), `param` (name; with arguments, a function parameter), `var` (index: de Bruijn),
    `forall` / `exists` (sorts: names of the bound sorts, outermost first).
    """

    op: str
    args: tuple[Node, ...] = ()
    name: str = ""
    index: int = 0
    sorts: tuple[str, ...] = ()


@by_term
def node(term: Term) -> Node:
    """The tree of a z3 term; equal terms give the same object.

    Raises NotImplementedError for an operator that the engines do not have.
    """
    if z3.is_quantifier(term):
        sorts = tuple(term.var_sort(i).name() for i in range(term.num_vars()))
        return Node("forall" if term.is_forall() else "exists", (node(term.body()),), sorts=sorts)
    if z3.is_var(term):
        return Node("var", index=z3.get_var_index(term))
    kind = term.decl().kind()
    args = tuple(node(c) for c in term.children())
    if kind in OPERATORS:
        return Node(OPERATORS[kind], args)
    if kind == z3.Z3_OP_UNINTERPRETED:
        name = term.decl().name()
        return Node("state" if name in REGISTRY else "param", args, name=name)
    raise NotImplementedError(f"operator {term.decl().name()} has no meaning in the engines")
