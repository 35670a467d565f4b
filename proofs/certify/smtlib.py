"""Terms as SMT-LIB text, which depends on nothing but the term: equal formulas have equal texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

import z3

from model.logic import ModelError, System, Term

_OPERATORS = {
    z3.Z3_OP_TRUE: "true", z3.Z3_OP_FALSE: "false", z3.Z3_OP_NOT: "not", z3.Z3_OP_AND: "and", z3.Z3_OP_OR: "or",
    z3.Z3_OP_IMPLIES: "=>", z3.Z3_OP_EQ: "=", z3.Z3_OP_DISTINCT: "distinct", z3.Z3_OP_ITE: "ite",
    z3.Z3_OP_XOR: "xor", z3.Z3_OP_IFF: "=",
}
_LETTERS: dict[str, Sequence[str]] = {
    "Proc": "pq", "Page": "vw", "Frame": "fg", "Pin": "kl", "Slot": "st", "Value": "mn",
}
_TOKEN = re.compile(r"[()]|\|[^|]*\||[^\s()|]+")

Variables = tuple[tuple[str, str], ...]
"""(name, name of its sort) each."""


# Terms as text. Names of variables depend on nothing but the term, so equal formulas have equal texts.

def join(operator: str, parts: Sequence[str]) -> str:
    """The conjunction (`and`) or disjunction (`or`) of any number of formulas."""
    if len(parts) > 1:
        return f"({operator} {' '.join(parts)})"
    return parts[0] if parts else {"and": "true", "or": "false"}[operator]


def apply_text(name: str, arguments: Sequence[str]) -> str:
    return f"({name} {' '.join(arguments)})" if arguments else name


def declare(variables: Variables) -> str:
    return "(" + " ".join(f"({name} {sort})" for name, sort in variables) + ")"


def quantify(quantifier: str, variables: Variables, body: str) -> str:
    return f"({quantifier} {declare(variables)} {body})" if variables else body


def name_variables(sorts: Sequence[str], taken: set[str]) -> Variables:
    """A variable for each sort, by the letters of that sort, none of them taken."""
    chosen: list[tuple[str, str]] = []
    for sort in sorts:
        letters = _LETTERS.get(sort, (sort.lower(),))
        names = itertools.chain(letters, (f"{x}{i}" for i in itertools.count(2) for x in letters))
        chosen.append((next(n for n in names if n not in taken), sort))
        taken = taken | {chosen[-1][0]}
    return tuple(chosen)


def bind(term: Term, names: Mapping[str, str], scope: tuple[str, ...]) -> Variables:
    """The variables of a quantifier."""
    sorts = [term.var_sort(i).name() for i in range(term.num_vars())]
    return name_variables(sorts, {*names.values(), *scope})


def write_term(term: Term, names: Mapping[str, str], scope: tuple[str, ...] = ()) -> str:
    """The term as SMT-LIB text. `names`: how each function and constant is called; `scope`: the bound variables.

    Raises ModelError if the term mentions anything else.
    """
    if z3.is_var(term):
        return str(scope[-1 - z3.get_var_index(term)])
    if z3.is_quantifier(term):
        variables = bind(term, names, scope)
        body = write_term(term.body(), names, (*scope, *(name for name, _ in variables)))
        return quantify("forall" if term.is_forall() else "exists", variables, body)
    kind, arguments = term.decl().kind(), [write_term(c, names, scope) for c in term.children()]
    name = names.get(term.decl().name()) if kind == z3.Z3_OP_UNINTERPRETED else _OPERATORS.get(kind)
    if name is None:
        raise ModelError(f"a proof cannot speak of {term.decl().name()!r}: the system has no such function")
    return join(name, arguments) if name in ("and", "or") else apply_text(name, arguments)


def symbol_of(name: str) -> str:
    """The name as an SMT-LIB symbol. Raises ModelError if it cannot be one."""
    if not re.fullmatch(r"[ -~]+", name) or "|" in name or "\\" in name:
        raise ModelError(f"the name {name!r} cannot be written in SMT-LIB")
    return name if re.fullmatch(r"[\w!.-]+", name) else f"|{name}|"


def tokenize(text: str) -> list[str]:
    return list(_TOKEN.findall(text))


def vocabulary_of(system: System) -> dict[str, str]:
    """The names that a state formula may use: state functions and constants."""
    return {name: name for name in (*(f.name for f in system.functions), *constants_of(system))}


def constants_of(system: System) -> dict[str, str]:
    return {c.decl().name(): c.sort().name() for c in system.constants}
