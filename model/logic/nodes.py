"""What a term is made of, asked of z3's C interface: its Python classes ask the same several times for each node."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import z3

QUANTIFIER = -1
"""What `kind_of` says of a quantifier, and of anything else that is no application."""

_classes: dict[int, tuple[Any, type]] = {}
_names: dict[int, frozenset[str]] = {}
_named: list[Any] = []  # z3 reuses the id of a term that nobody holds; who holds a term holds what is in it
_decls: dict[int, tuple[Any, frozenset[str]]] = {}
_NONE: frozenset[str] = frozenset()
_MAIN = z3.main_ctx()
_TRUE, _FALSE = z3.BoolVal(True, _MAIN), z3.BoolVal(False, _MAIN)


def key_of(term: Any) -> Hashable:
    """What tells the term from all others, as long as somebody holds it: z3's number, which is its context's own."""
    number = z3.Z3_get_ast_id(term.ctx.ref(), term.ast)
    return number if term.ctx is _MAIN else (number, id(term.ctx))


def is_true(term: Any) -> bool:
    """Whether it is the constant true."""
    return bool(term.ast.value == _TRUE.ast.value) if term.ctx is _MAIN else bool(z3.is_true(term))


def is_false(term: Any) -> bool:
    """Whether it is the constant false."""
    return bool(term.ast.value == _FALSE.ast.value) if term.ctx is _MAIN else bool(z3.is_false(term))


def kind_of(term: Any) -> int:
    """z3's kind of the term's operator (Z3_OP_AND, ...), or QUANTIFIER."""
    context, node = term.ctx.ref(), term.ast
    if z3.Z3_get_ast_kind(context, node) != z3.Z3_APP_AST:
        return QUANTIFIER
    return int(z3.Z3_get_decl_kind(context, z3.Z3_get_app_decl(context, node)))


def children_of(term: Any) -> list[Any]:
    """The arguments of an application; none of anything else."""
    context, node = term.ctx.ref(), term.ast
    if z3.Z3_get_ast_kind(context, node) != z3.Z3_APP_AST:
        return []
    number = z3.Z3_get_app_num_args(context, node)
    return [_wrapped(z3.Z3_get_app_arg(context, node, i), term, i) for i in range(number)]


def _wrapped(node: Any, parent: Any, number: int) -> Any:
    context = parent.ctx.ref()
    if z3.Z3_get_ast_kind(context, node) != z3.Z3_APP_AST:
        return parent.arg(number)
    sort = z3.Z3_get_sort(context, node)
    known = _classes.get(sort.value)
    if known is None:
        example = parent.arg(number)
        if type(example) not in (z3.BoolRef, z3.ExprRef):
            return example  # numbers have a class of their own beside that of their sort
        known = _classes[sort.value] = example.sort(), type(example)
    return known[1](node, parent.ctx)


def is_of(term: Any, sort: Any) -> bool:
    """Whether it is a term of that sort."""
    return isinstance(term, z3.ExprRef) and bool(z3.Z3_get_sort(term.ctx.ref(), term.ast).value == sort.ast.value)


def application(decl: Any, args: Sequence[Any], is_bool: bool) -> Any:
    """`decl(*args)`, of terms whose sorts are right: a Bool, or an element of some sort."""
    context = decl.ctx
    node = z3.Z3_mk_app(context.ref(), decl.ast, len(args), (z3.Ast * len(args))(*(a.ast for a in args)))
    return z3.BoolRef(node, context) if is_bool else z3.ExprRef(node, context)


def names_in(term: Any) -> frozenset[str]:
    """Names of the functions and constants, state functions among them, that occur in a term."""
    key = z3.Z3_get_ast_id(term.ctx.ref(), term.ast)
    names = _names if term.ctx is _MAIN else {}
    if key not in names:
        if names is _names:
            _named.append(term)
        _find_names(term.ctx, term.ast, names)
    return names[key]


def _find_names(ctx: Any, root: Any, names: dict[int, frozenset[str]]) -> None:
    """Note the names in a term and in all its parts, by z3's numbers."""
    context = ctx.ref()
    stack: list[tuple[int, Any, list[Any] | None]] = [(z3.Z3_get_ast_id(context, root), root, None)]
    while stack:
        key, node, parts = stack.pop()
        if key in names:
            continue
        kind = z3.Z3_get_ast_kind(context, node)
        if parts is None:
            if kind == z3.Z3_APP_AST:
                arguments = (z3.Z3_get_app_arg(context, node, i) for i in range(z3.Z3_get_app_num_args(context, node)))
                parts = [(z3.Z3_get_ast_id(context, a), a) for a in arguments]
            elif kind == z3.Z3_QUANTIFIER_AST:
                body = z3.Z3_get_quantifier_body(context, node)
                parts = [(z3.Z3_get_ast_id(context, body), body)]
            else:
                parts = []
            left = [(k, part, None) for k, part in parts if k not in names]
            if left:
                stack.append((key, node, parts))
                stack += left
                continue
        found = _own_name(ctx, node) if kind == z3.Z3_APP_AST else _NONE
        for k, _ in parts:
            found = found if names[k] <= found else found | names[k]
        names[key] = found


def _own_name(ctx: Any, node: Any) -> frozenset[str]:
    decl = z3.Z3_get_app_decl(ctx.ref(), node)
    known = _decls.get(decl.value)
    if known is None:
        # Held here, so that its address stays its own.
        held = z3.FuncDeclRef(decl, ctx)
        uninterpreted = held.kind() == z3.Z3_OP_UNINTERPRETED
        known = _decls[decl.value] = held, frozenset((held.name(),)) if uninterpreted else _NONE
    return known[1]
