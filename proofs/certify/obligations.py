"""What has to hold for clauses to be an inductive invariant, each obligation as SMT-LIB text."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import z3

from invariants import Invariant
from model.logic import ModelError, Rule, StateFunction, System, Term, Update, initial_value, names_in
from proofs.certify.fragment import depends_on
from proofs.certify.smtlib import (
    Variables,
    apply_text,
    bind,
    constants_of,
    declare,
    join,
    name_variables,
    quantify,
    symbol_of,
    tokenize,
    vocabulary_of,
    write_term,
)

NESTING = 100
"""Parentheses in a clause are less deep than this."""
MOST_INSTANCES = 100_000
"""Instances of a clause in a file are no more than these."""


# Clauses

@dataclass(frozen=True, order=True)
class CertifiedClause:
    """A closed formula: `body` (SMT-LIB text) for all values of the variables.

    `chooses`: it says that for all elements there is one, and is assumed only of elements that a file names.
    """

    variables: Variables
    body: str
    chooses: bool = field(default=False, compare=False)

    def formula(self, system: System) -> Term:
        """The clause as a term."""
        return _read(self.text, system)

    @property
    def text(self) -> str:
        """The clause as SMT-LIB text."""
        return quantify("forall", self.variables, self.body)

    @property
    def functions(self) -> frozenset[str]:
        """The names in the body, state functions among them."""
        return frozenset(tokenize(self.body))


def clause_of(formula: Term, system: System) -> CertifiedClause:
    """The clause that says the closed formula. Raises ModelError if it mentions what the system does not have."""
    names = vocabulary_of(system)
    formula = system.reduced(formula)
    chooses = any(depends_on(formula, True, ()))
    if not (z3.is_quantifier(formula) and formula.is_forall()):
        return CertifiedClause((), write_term(formula, names), chooses)
    variables = bind(formula, names, ())
    return CertifiedClause(variables, write_term(formula.body(), names, tuple(name for name, _ in variables)), chooses)


def parsed(variables: Variables, body: str, system: System) -> CertifiedClause:
    """The clause of that text. Raises ModelError unless it is one formula, as `clause_of` writes it."""
    text = quantify("forall", variables, body)
    # Looked at before z3 sees it: text that closed its parenthesis early could give z3 commands of its own.
    depths = list(itertools.accumulate({"(": 1, ")": -1}.get(t, 0) for t in tokenize(text)))
    balanced = depths and depths[-1] == 0 and 0 not in depths[:-1] and max(depths) < NESTING
    if not balanced or not re.fullmatch(r"[\w!=>() -]*", text, re.ASCII):
        raise ModelError("is not one formula")
    formula = _read(text, system)
    if formula is None or (clause := clause_of(formula, system)) != CertifiedClause(variables, body):
        raise ModelError("is not written as certificates write it")
    return clause


def _read(text: str, system: System) -> Term | None:
    """The one formula of a text, None if there are more. Raises ModelError if it does not parse."""
    sorts = {s.name(): s for f in system.functions for s in (*f.domain, f.range) if s != z3.BoolSort()}
    known = {f.name: f.decl for f in system.functions} | {c.decl().name(): c for c in system.constants}
    try:
        read = z3.parse_smt2_string(f"(assert {text})", sorts=sorts, decls=known)
    except z3.Z3Exception as error:
        raise ModelError("does not parse: " + " ".join(str(error.value).split())) from error
    return read[0] if len(read) == 1 else None


# Obligations

def _next(text: str, changed: Mapping[str, Any]) -> str:
    """The formula about the state after the step."""
    return re.sub(r"[^\s()]+", lambda m: f"{m[0]}!next" if m[0] in changed else m[0], text)


def placement(
    update: Update, cell: Sequence[tuple[str, str]]
) -> tuple[dict[str, str], dict[str, str], list[tuple[str, Term]]]:
    """How an update hits a cell whose arguments are those (name, sort): the constants that it is over with their
    sorts; those that are an argument, which it is; (argument, term that it has to equal) for the others."""
    quantified = {c.decl().name(): c.sort().name() for c in update.over}
    known, elsewhere = dict[str, str](), []
    for (argument, _), index in zip(cell, update.index, strict=True):
        name = index.decl().name()
        if name in quantified and name not in known:
            known[name] = argument
        else:
            elsewhere.append((argument, index))
    return quantified, known, elsewhere


def _effect(update: Update, cell: Variables, names: Mapping[str, str]) -> tuple[str, str]:
    """(condition, value): when the update writes that cell, and what.

    Raises ModelError if the value depends on which of several elements wrote the cell.
    """
    quantified, known, elsewhere = placement(update, cell)
    rest = [name for name in quantified if name not in known]
    variables = name_variables([quantified[name] for name in rest], {*names.values(), *(name for name, _ in cell)})
    known |= {name: variable for name, (variable, _) in zip(rest, variables, strict=True)}
    if names_in(update.value) & set(rest):
        raise ModelError(
            f"the next {update.function.name} cannot be written: its value depends on the element that wrote it"
        )
    here = {**names, **known}
    tests = [f"(= {argument} {write_term(index, here)})" for argument, index in elsewhere]
    if not z3.is_true(update.when):
        tests.append(write_term(update.when, here))
    return quantify("exists", variables, join("and", tests)), write_term(update.value, here)


def _next_value(function: StateFunction, updates: Sequence[Update], names: Mapping[str, str]) -> str:
    """The definition of the function's value after the step, in terms of the state before."""
    cell = name_variables([s.name() for s in function.domain], set(names.values()))
    result = apply_text(function.name, [name for name, _ in cell])
    for update in reversed(updates):
        condition, value = _effect(update, cell, names)
        # As `and` and `or` where possible: the condition of an `ite` counts with both signs, and a quantifier in it
        # would be an existential one, whatever the clause.
        if condition == "true":
            result = value
        elif value == "true":
            result = f"(or {condition} {result})"
        elif value == "false":
            result = f"(and (not {condition}) {result})"
        else:
            result = f"(ite {condition} {value} {result})"
    return f"(define-fun {function.name}!next {declare(cell)} {function.range.name()} {result})"


def _assumed(clauses: Sequence[CertifiedClause], elements: Mapping[str, Sequence[str]]) -> list[str]:
    """The clauses as hypotheses.

    Where one says that for all elements there is one, it is assumed only of those that the file names: the whole
    clause would leave the fragment that solvers decide, and so less is assumed than is known.
    """
    lines = []
    for number, clause in enumerate(clauses, 1):
        name = f"clause{number}"
        lines.append(f"(define-fun {name} {declare(clause.variables)} Bool {clause.body})")
        if clause.chooses:
            choices = [elements.get(sort, ()) for _, sort in clause.variables]
            if math.prod(map(len, choices)) > MOST_INSTANCES:
                raise ModelError(f"a clause of {len(choices)} variables has too many instances to be assumed")
            chosen = itertools.product(*choices)
            lines += [f"(assert {apply_text(name, arguments)})" for arguments in chosen]
        else:
            holds = apply_text(name, [variable for variable, _ in clause.variables])
            lines.append(f"(assert {quantify('forall', clause.variables, holds)})")
    return lines


def _elements(constants: Mapping[str, str], functions: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """For each sort the constants (name to sort), and what one function (name to sorts) gives for constants."""
    named: dict[str, list[str]] = {}
    for name, sort in constants.items():
        named.setdefault(sort, []).append(name)
    elements = {sort: list(names) for sort, names in named.items()}
    for name, (*domain, result) in functions.items():
        chosen = itertools.product(*(named.get(sort, ()) for sort in domain))
        elements.setdefault(result, []).extend(apply_text(name, arguments) for arguments in chosen)
    return elements


def _declaration(name: str, signature: Sequence[str]) -> str:
    """Of a function with those sorts, the last that of its value."""
    *domain, result = signature
    return f"(declare-fun {name} ({' '.join(domain)}) {result})" if domain else f"(declare-const {name} {result})"


def _obligation(
    about: str, system: System, given: Sequence[CertifiedClause], facts: Sequence[str],
    denied: Mapping[str, CertifiedClause],
    parameters: Mapping[str, tuple[str, ...]] | None = None,
) -> str:
    """The file that asks whether all `given` and the `facts` hold and yet one of `denied` (name to clause) does not.

    `parameters`: the names of a rule's parameters and their sorts.
    """
    goal = [f"(define-fun {name} {declare(c.variables)} Bool {c.body})" for name, c in denied.items()]
    # Where clauses share a variable's name they share the constant: only one of them has to be false.
    constants = {f"goal!{name}": (sort,) for c in denied.values() for name, sort in c.variables}
    false = [f"(not {apply_text(n, [f'goal!{x}' for x, _ in c.variables])})" for n, c in denied.items()]
    goal.append(f"(assert {join('or', false)})")

    signatures = {f.name: tuple(s.name() for s in (*f.domain, f.range)) for f in system.functions}
    signatures |= {name: (sort,) for name, sort in constants_of(system).items()} | dict(parameters or {}) | constants
    defined = {tokenize(line)[2] for line in facts if line.startswith("(define-fun")}
    used = {t for text in (*facts, *goal, *(c.body for c in given)) for t in tokenize(text)} - defined
    declared = {name: sorts for name, sorts in signatures.items() if name in used}
    sorts = (used | {s for c in given for _, s in c.variables}) & frozenset().union(*signatures.values())
    sorts = sorts.union(*declared.values()) - {"Bool"}
    elements = _elements(
        {name: sorts[0] for name, sorts in declared.items() if len(sorts) == 1},
        {name: sorts for name, sorts in declared.items() if len(sorts) > 1 and sorts[-1] != "Bool"},
    )
    return "\n".join([
        f"; {about} Expected: unsat.", "(set-logic UF)", *(f"(declare-sort {s} 0)" for s in sorted(sorts)),
        *(_declaration(name, signature) for name, signature in declared.items()),
        *_assumed(given, elements), *facts, *goal, "(check-sat)", "",
    ])


def _initially(function: StateFunction, names: Mapping[str, str]) -> list[str]:
    """The definition of the function in the initial state, none where it may have any value."""
    cell = name_variables([s.name() for s in function.domain], set(names.values()))
    index, value = initial_value(function)
    if value is None and not function.is_bool:
        return []
    here = {**names, **{c.decl().name(): x for c, (x, _) in zip(index, cell, strict=False)}}
    text = "false" if value is None else write_term(value, here)
    return [f"(define-fun {function.name} {declare(cell)} {function.range.name()} {text})"]


def _kept(rule: Rule, system: System, clauses: Sequence[CertifiedClause]) -> str | None:
    """The obligation that the rule keeps the clauses, None if it changes nothing of which they speak."""
    writes: dict[str, list[Update]] = {}
    for update in rule.updates:
        writes.setdefault(update.function.name, []).append(update)
    touched = {f"clause{i}!next": c for i, c in enumerate(clauses, 1) if c.functions & set(writes)}
    if not touched:
        return None
    called = {p.name: symbol_of(f"rule!{p.name}") for p in rule.params}
    names = vocabulary_of(system) | called
    spoken = frozenset().union(*(c.functions for c in touched.values()))
    facts = [f"(assert {write_term(g, names)})" for g in rule.guard]
    facts += [_next_value(us[0].function, us, names) for name, us in writes.items() if name in spoken]
    after = {name: CertifiedClause(c.variables, _next(c.body, writes)) for name, c in touched.items()}
    parameters = {
        called[p.name]: (p.sort.name(),) if p.over is None else (p.over.name(), p.sort.name()) for p in rule.params
    }
    return _obligation(f"Rule {symbol_of(rule.name)} keeps every clause.", system, clauses, facts, after, parameters)


def obligations(system: System, stated: Invariant, clauses: Sequence[CertifiedClause]) -> dict[str, str]:
    """What has to be unsatisfiable, name to SMT-LIB text: `initiation`, `safety`, and `rule NAME` for each rule that
    changes something of which a clause speaks.

    Raises ModelError if the invariant or a clause speaks of what the system does not have, if a rule's next state
    cannot be written, or if two rules have one name.
    """
    names = vocabulary_of(system)
    spoken = frozenset().union(*(c.functions for c in clauses))
    initial = [line for f in system.functions if f.name in spoken for line in _initially(f, names)]
    numbered = {f"clause{i}": c for i, c in enumerate(clauses, 1)}
    texts = {
        "initiation": _obligation("Every clause holds initially.", system, (), initial, numbered),
        "safety": _obligation(
            f"The clauses imply {stated.name}.", system, clauses, (), {"claim": clause_of(stated.formula, system)}
        ),
    }
    if len({rule.name for rule in system.rules}) < len(system.rules):
        raise ModelError(f"kernel {system.name} has two rules of one name")
    for rule in system.rules:
        text = _kept(rule, system, clauses)
        if text is not None:
            texts[f"rule {rule.name}"] = text
    return texts
