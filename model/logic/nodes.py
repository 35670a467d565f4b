"""What a term is made of, asked of z3's C interface: its Python classes ask the same several times for each node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import z3

QUANTIFIER = -1
"""What `kind_of` says of a quantifier, and of anything else that is no application."""

_classes: dict[int, tuple[Any, type]] = {}
_names: dict[int, frozenset[str]] = {}
_named: list[Any] = []  # z3 reuses the id of a term that nobody holds; who holds a term holds what is in it
_decls: dict[int, tuple[Any, frozenset[str]]] = {}
_NONE: frozenset[str] = frozenset()
_TRUE, _FALSE = z3.BoolVal(True), z3.BoolVal(False)


def id_of(term: Any) -> int:
    """z3's number of the term, its own as long as somebody holds it."""
    return int(z3.Z3_get_ast_id(term.ctx.ref(), term.ast))


def is_true(term: Any) -> bool:
    """Whether it is the constant true."""
    return bool(term.ast.value == _TRUE.ast.value)


def is_false(term: Any) -> bool:
    """Whether it is the constant false."""
    return bool(term.ast.value == _FALSE.ast.value)


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
    key = id_of(term)
    if key not in _names:
        _named.append(term)
        _find_names(term.ctx.ref(), term.ast)
    return _names[key]


def _find_names(context: Any, root: Any) -> None:
    """Note the names in a term and in all its parts."""
    stack: list[tuple[int, Any, list[Any] | None]] = [(z3.Z3_get_ast_id(context, root), root, None)]
    while stack:
        key, node, parts = stack.pop()
        if key in _names:
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
            left = [(k, part, None) for k, part in parts if k not in _names]
            if left:
                stack.append((key, node, parts))
                stack += left
                continue
        found = _own_name(context, node) if kind == z3.Z3_APP_AST else _NONE
        for k, _ in parts:
            found = found if _names[k] <= found else found | _names[k]
        _names[key] = found


def _own_name(context: Any, node: Any) -> frozenset[str]:
    decl = z3.Z3_get_app_decl(context, node)
    known = _decls.get(decl.value)
    if known is None:
        # Held here, so that its address stays its own.
        held = z3.FuncDeclRef(decl, z3.main_ctx())
        uninterpreted = held.kind() == z3.Z3_OP_UNINTERPRETED
        known = _decls[decl.value] = held, frozenset((held.name(),)) if uninterpreted else _NONE
    return known[1]
