"""What a term is made of, asked of z3's C interface: its Python classes ask the same several times for each node."""

from __future__ import annotations

import ctypes
from collections.abc import Hashable, Sequence
from typing import Any

import z3

QUANTIFIER = -1
"""What `kind_of` says of a quantifier, and of anything else that is no application."""

_classes: dict[int, tuple[Any, type]] = {}
_names: dict[int, frozenset[str]] = {}
_named: list[Any] = []  # z3 reuses the address of a term that nobody holds; who holds a term holds what is in it
_decls: dict[int, tuple[Any, frozenset[str]]] = {}
_NONE: frozenset[str] = frozenset()
_MAIN = z3.main_ctx()
_TRUE, _FALSE = z3.BoolVal(True, _MAIN), z3.BoolVal(False, _MAIN)


def _entry(name: str, result: Any, *arguments: Any) -> Any:
    """A function of z3's library: the wrapper in its Python module looks for an error after each call.

    Of those used here none fails on a term that somebody holds.
    """
    place = ctypes.cast(getattr(z3, name).__defaults__[0].f, ctypes.c_void_p).value
    return ctypes.PYFUNCTYPE(result, ctypes.c_void_p, *arguments)(place or 0)


_ast_kind = _entry("Z3_get_ast_kind", ctypes.c_int, ctypes.c_void_p)
_decl_of = _entry("Z3_get_app_decl", ctypes.c_void_p, ctypes.c_void_p)
_held_decl_of = _entry("Z3_get_app_decl", z3.FuncDecl, ctypes.c_void_p)
_decl_kind = _entry("Z3_get_decl_kind", ctypes.c_int, ctypes.c_void_p)
_arguments = _entry("Z3_get_app_num_args", ctypes.c_uint, ctypes.c_void_p)
_argument = _entry("Z3_get_app_arg", z3.Ast, ctypes.c_void_p, ctypes.c_uint)
_address_of_argument = _entry("Z3_get_app_arg", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint)
_sort_of = _entry("Z3_get_sort", ctypes.c_void_p, ctypes.c_void_p)
_body_of = _entry("Z3_get_quantifier_body", ctypes.c_void_p, ctypes.c_void_p)
_apply = _entry("Z3_mk_app", z3.Ast, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p)


def key_of(term: Any) -> Hashable:
    """What tells the term from all others, as long as somebody holds it: where it lies, as z3 has equal terms once."""
    return term.ast.value  # type: ignore[no-any-return]


def are_same(one: Any, other: Any) -> bool:
    """Whether they are equal terms of one context."""
    return bool(one.ast.value == other.ast.value)


def is_true(term: Any) -> bool:
    """Whether it is the constant true."""
    return bool(term.ast.value == _TRUE.ast.value) if term.ctx is _MAIN else bool(z3.is_true(term))


def is_false(term: Any) -> bool:
    """Whether it is the constant false."""
    return bool(term.ast.value == _FALSE.ast.value) if term.ctx is _MAIN else bool(z3.is_false(term))


def kind_of(term: Any) -> int:
    """z3's kind of the term's operator (Z3_OP_AND, ...), or QUANTIFIER."""
    context, node = term.ctx.ctx, term.ast
    if _ast_kind(context, node) != z3.Z3_APP_AST:
        return QUANTIFIER
    return int(_decl_kind(context, _decl_of(context, node)))


def children_of(term: Any) -> list[Any]:
    """The arguments of an application; none of anything else."""
    context, node = term.ctx.ctx, term.ast
    if _ast_kind(context, node) != z3.Z3_APP_AST:
        return []
    return [_wrapped(_argument(context, node, i), term, i) for i in range(_arguments(context, node))]


def _wrapped(node: Any, parent: Any, number: int) -> Any:
    context = parent.ctx.ctx
    if _ast_kind(context, node) != z3.Z3_APP_AST:
        return parent.arg(number)
    sort = _sort_of(context, node)
    known = _classes.get(sort)
    if known is None:
        example = parent.arg(number)
        if type(example) not in (z3.BoolRef, z3.ExprRef):
            return example  # numbers have a class of their own beside that of their sort
        known = _classes[sort] = example.sort(), type(example)
    return known[1](node, parent.ctx)


def is_of(term: Any, sort: Any) -> bool:
    """Whether it is a term of that sort."""
    return isinstance(term, z3.ExprRef) and bool(_sort_of(term.ctx.ctx, term.ast) == sort.ast.value)


def application(decl: Any, args: Sequence[Any], is_bool: bool) -> Any:
    """`decl(*args)`, of terms whose sorts are right: a Bool, or an element of some sort."""
    context = decl.ctx
    node = _apply(context.ctx, decl.ast, len(args), (z3.Ast * len(args))(*(a.ast for a in args)))
    return z3.BoolRef(node, context) if is_bool else z3.ExprRef(node, context)


def names_in(term: Any) -> frozenset[str]:
    """Names of the functions and constants, state functions among them, that occur in a term."""
    key = term.ast.value
    names = _names if term.ctx is _MAIN else {}
    if key not in names:
        if names is _names:
            _named.append(term)
        _find_names(term.ctx, key, names)
    return names[key]


def _find_names(ctx: Any, root: int, names: dict[int, frozenset[str]]) -> None:
    """Note the names in a term and in all its parts, by their addresses."""
    context = ctx.ctx
    stack: list[tuple[int, list[int] | None]] = [(root, None)]
    while stack:
        node, parts = stack.pop()
        if node in names:
            continue
        kind = _ast_kind(context, node)
        if parts is None:
            if kind == z3.Z3_APP_AST:
                parts = [_address_of_argument(context, node, i) for i in range(_arguments(context, node))]
            elif kind == z3.Z3_QUANTIFIER_AST:
                parts = [_body_of(context, node)]
            else:
                parts = []
            left: list[tuple[int, list[int] | None]] = [(part, None) for part in parts if part not in names]
            if left:
                stack.append((node, parts))
                stack += left
                continue
        found = _own_name(ctx, node) if kind == z3.Z3_APP_AST else _NONE
        for part in parts:
            found = found if names[part] <= found else found | names[part]
        names[node] = found


def _own_name(ctx: Any, node: int) -> frozenset[str]:
    decl = _decl_of(ctx.ctx, node)
    known = _decls.get(decl)
    if known is None:
        # Held here, so that its address stays its own.
        held = z3.FuncDeclRef(_held_decl_of(ctx.ctx, node), ctx)
        uninterpreted = held.kind() == z3.Z3_OP_UNINTERPRETED
        known = _decls[decl] = held, frozenset((held.name(),)) if uninterpreted else _NONE
    return known[1]
