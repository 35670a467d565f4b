"""Certificates of inductive proofs: what has to hold, as SMT-LIB text that any solver can read, and its verification.

A proof that an invariant holds for any number of processes, pages, frames, references and slots is a list of clauses,
closed universal formulas. It is one if they hold initially, every rule keeps them, and they imply the invariant. Each
of these obligations is one file whose only `check-sat` must be answered `unsat`; a manifest names the clauses and the
files. Whoever verifies makes every file again from the model and the manifest's clauses and compares, then asks the
solvers. Nothing here knows how clauses are found, so a defect there cannot hide here.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import z3

from invariants import Invariant
from model.logic import ModelError, Rule, StateFunction, System, Term, Update, initial_value, names_in
from proofs import json_text
from proofs.clock import check_time
from proofs.kernel_file import Terms, features_of, file_name, find_invariant, system_of
from proofs.pool import each_done, end_with_parent
from proofs.reading import in_words

SCHEMA = 1
NESTING = 100
"""Parentheses in a clause are less deep than this."""
MOST_INSTANCES = 100_000
"""Instances of a clause in a file are no more than these."""
BUILT_IN = ("z3", "cvc5")
"""Solvers that run inside this program; any other one is a command to which a file's path is appended."""
CVC5_OPTIONS = {"mbqi": "true"}
"""Model-based instantiation decides the stratified fragment; finite-model-find is slower, and runs out of time."""

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

def _joined(operator: str, parts: Sequence[str]) -> str:
    """The conjunction (`and`) or disjunction (`or`) of any number of formulas."""
    if len(parts) > 1:
        return f"({operator} {' '.join(parts)})"
    return parts[0] if parts else {"and": "true", "or": "false"}[operator]


def _applied(name: str, arguments: Sequence[str]) -> str:
    return f"({name} {' '.join(arguments)})" if arguments else name


def _declared(variables: Variables) -> str:
    return "(" + " ".join(f"({name} {sort})" for name, sort in variables) + ")"


def _quantified(quantifier: str, variables: Variables, body: str) -> str:
    return f"({quantifier} {_declared(variables)} {body})" if variables else body


def _variables(sorts: Sequence[str], taken: set[str]) -> Variables:
    """A variable for each sort, by the letters of that sort, none of them taken."""
    chosen: list[tuple[str, str]] = []
    for sort in sorts:
        letters = _LETTERS.get(sort, (sort.lower(),))
        names = itertools.chain(letters, (f"{x}{i}" for i in itertools.count(2) for x in letters))
        chosen.append((next(n for n in names if n not in taken), sort))
        taken = taken | {chosen[-1][0]}
    return tuple(chosen)


def _bound(term: Term, names: Mapping[str, str], scope: tuple[str, ...]) -> Variables:
    """The variables of a quantifier."""
    sorts = [term.var_sort(i).name() for i in range(term.num_vars())]
    return _variables(sorts, {*names.values(), *scope})


def _text(term: Term, names: Mapping[str, str], scope: tuple[str, ...] = ()) -> str:
    """The term as SMT-LIB text. `names`: how each function and constant is called; `scope`: the bound variables.

    Raises ModelError if the term mentions anything else.
    """
    if z3.is_var(term):
        return str(scope[-1 - z3.get_var_index(term)])
    if z3.is_quantifier(term):
        variables = _bound(term, names, scope)
        body = _text(term.body(), names, (*scope, *(name for name, _ in variables)))
        return _quantified("forall" if term.is_forall() else "exists", variables, body)
    kind, arguments = term.decl().kind(), [_text(c, names, scope) for c in term.children()]
    name = names.get(term.decl().name()) if kind == z3.Z3_OP_UNINTERPRETED else _OPERATORS.get(kind)
    if name is None:
        raise ModelError(f"a proof cannot speak of {term.decl().name()!r}: the system has no such function")
    return _joined(name, arguments) if name in ("and", "or") else _applied(name, arguments)


def _symbol(name: str) -> str:
    """The name as an SMT-LIB symbol. Raises ModelError if it cannot be one."""
    if not re.fullmatch(r"[ -~]+", name) or "|" in name or "\\" in name:
        raise ModelError(f"the name {name!r} cannot be written in SMT-LIB")
    return name if re.fullmatch(r"[\w!.-]+", name) else f"|{name}|"


def _tokens(text: str) -> list[str]:
    return list(_TOKEN.findall(text))


def _vocabulary(system: System) -> dict[str, str]:
    """The names that a state formula may use: state functions and constants."""
    return {name: name for name in (*(f.name for f in system.functions), *_constants(system))}


def _constants(system: System) -> dict[str, str]:
    return {c.decl().name(): c.sort().name() for c in system.constants}


# Clauses

@dataclass(frozen=True, order=True)
class Clause:
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
        return _quantified("forall", self.variables, self.body)

    @property
    def functions(self) -> frozenset[str]:
        """The names in the body, state functions among them."""
        return frozenset(_tokens(self.body))


def clause_of(formula: Term, system: System) -> Clause:
    """The clause that says the closed formula. Raises ModelError if it mentions what the system does not have."""
    names = _vocabulary(system)
    formula = system.reduced(formula)
    chooses = any(_dependencies(formula, True, ()))
    if not (z3.is_quantifier(formula) and formula.is_forall()):
        return Clause((), _text(formula, names), chooses)
    variables = _bound(formula, names, ())
    return Clause(variables, _text(formula.body(), names, tuple(name for name, _ in variables)), chooses)


def parsed(variables: Variables, body: str, system: System) -> Clause:
    """The clause of that text. Raises ModelError unless it is one formula, as `clause_of` writes it."""
    text = _quantified("forall", variables, body)
    # Looked at before z3 sees it: text that closed its parenthesis early could give z3 commands of its own.
    depths = list(itertools.accumulate({"(": 1, ")": -1}.get(t, 0) for t in _tokens(text)))
    balanced = depths and depths[-1] == 0 and 0 not in depths[:-1] and max(depths) < NESTING
    if not balanced or not re.fullmatch(r"[\w!=>() -]*", text, re.ASCII):
        raise ModelError("is not one formula")
    formula = _read(text, system)
    if formula is None or (clause := clause_of(formula, system)) != Clause(variables, body):
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


def placed(
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
    quantified, known, elsewhere = placed(update, cell)
    rest = [name for name in quantified if name not in known]
    variables = _variables([quantified[name] for name in rest], {*names.values(), *(name for name, _ in cell)})
    known |= {name: variable for name, (variable, _) in zip(rest, variables, strict=True)}
    if names_in(update.value) & set(rest):
        raise ModelError(
            f"the next {update.function.name} cannot be written: its value depends on the element that wrote it"
        )
    here = {**names, **known}
    tests = [f"(= {argument} {_text(index, here)})" for argument, index in elsewhere]
    if not z3.is_true(update.when):
        tests.append(_text(update.when, here))
    return _quantified("exists", variables, _joined("and", tests)), _text(update.value, here)


def _next_value(function: StateFunction, updates: Sequence[Update], names: Mapping[str, str]) -> str:
    """The definition of the function's value after the step, in terms of the state before."""
    cell = _variables([s.name() for s in function.domain], set(names.values()))
    result = _applied(function.name, [name for name, _ in cell])
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
    return f"(define-fun {function.name}!next {_declared(cell)} {function.range.name()} {result})"


def _assumed(clauses: Sequence[Clause], elements: Mapping[str, Sequence[str]]) -> list[str]:
    """The clauses as hypotheses.

    Where one says that for all elements there is one, it is assumed only of those that the file names: the whole
    clause would leave the fragment that solvers decide, and so less is assumed than is known.
    """
    lines = []
    for number, clause in enumerate(clauses, 1):
        name = f"clause{number}"
        lines.append(f"(define-fun {name} {_declared(clause.variables)} Bool {clause.body})")
        if clause.chooses:
            choices = [elements.get(sort, ()) for _, sort in clause.variables]
            if math.prod(map(len, choices)) > MOST_INSTANCES:
                raise ModelError(f"a clause of {len(choices)} variables has too many instances to be assumed")
            chosen = itertools.product(*choices)
            lines += [f"(assert {_applied(name, arguments)})" for arguments in chosen]
        else:
            holds = _applied(name, [variable for variable, _ in clause.variables])
            lines.append(f"(assert {_quantified('forall', clause.variables, holds)})")
    return lines


def _elements(constants: Mapping[str, str], functions: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """For each sort the constants (name to sort), and what one function (name to sorts) gives for constants."""
    named: dict[str, list[str]] = {}
    for name, sort in constants.items():
        named.setdefault(sort, []).append(name)
    elements = {sort: list(names) for sort, names in named.items()}
    for name, (*domain, result) in functions.items():
        chosen = itertools.product(*(named.get(sort, ()) for sort in domain))
        elements.setdefault(result, []).extend(_applied(name, arguments) for arguments in chosen)
    return elements


def _declaration(name: str, signature: Sequence[str]) -> str:
    """Of a function with those sorts, the last that of its value."""
    *domain, result = signature
    return f"(declare-fun {name} ({' '.join(domain)}) {result})" if domain else f"(declare-const {name} {result})"


def _obligation(
    about: str, system: System, given: Sequence[Clause], facts: Sequence[str], denied: Mapping[str, Clause],
    parameters: Mapping[str, tuple[str, ...]] | None = None,
) -> str:
    """The file that asks whether all `given` and the `facts` hold and yet one of `denied` (name to clause) does not.

    `parameters`: the names of a rule's parameters and their sorts.
    """
    goal = [f"(define-fun {name} {_declared(c.variables)} Bool {c.body})" for name, c in denied.items()]
    # Where clauses share a variable's name they share the constant: only one of them has to be false.
    constants = {f"goal!{name}": (sort,) for c in denied.values() for name, sort in c.variables}
    false = [f"(not {_applied(n, [f'goal!{x}' for x, _ in c.variables])})" for n, c in denied.items()]
    goal.append(f"(assert {_joined('or', false)})")

    signatures = {f.name: tuple(s.name() for s in (*f.domain, f.range)) for f in system.functions}
    signatures |= {name: (sort,) for name, sort in _constants(system).items()} | dict(parameters or {}) | constants
    defined = {_tokens(line)[2] for line in facts if line.startswith("(define-fun")}
    used = {t for text in (*facts, *goal, *(c.body for c in given)) for t in _tokens(text)} - defined
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
    cell = _variables([s.name() for s in function.domain], set(names.values()))
    index, value = initial_value(function)
    if value is None and not function.is_bool:
        return []
    here = {**names, **{c.decl().name(): x for c, (x, _) in zip(index, cell, strict=False)}}
    text = "false" if value is None else _text(value, here)
    return [f"(define-fun {function.name} {_declared(cell)} {function.range.name()} {text})"]


def _kept(rule: Rule, system: System, clauses: Sequence[Clause]) -> str | None:
    """The obligation that the rule keeps the clauses, None if it changes nothing of which they speak."""
    writes: dict[str, list[Update]] = {}
    for update in rule.updates:
        writes.setdefault(update.function.name, []).append(update)
    touched = {f"clause{i}!next": c for i, c in enumerate(clauses, 1) if c.functions & set(writes)}
    if not touched:
        return None
    called = {p.name: _symbol(f"rule!{p.name}") for p in rule.params}
    names = _vocabulary(system) | called
    spoken = frozenset().union(*(c.functions for c in touched.values()))
    facts = [f"(assert {_text(g, names)})" for g in rule.guard]
    facts += [_next_value(us[0].function, us, names) for name, us in writes.items() if name in spoken]
    after = {name: Clause(c.variables, _next(c.body, writes)) for name, c in touched.items()}
    parameters = {
        called[p.name]: (p.sort.name(),) if p.over is None else (p.over.name(), p.sort.name()) for p in rule.params
    }
    return _obligation(f"Rule {_symbol(rule.name)} keeps every clause.", system, clauses, facts, after, parameters)


def obligations(system: System, stated: Invariant, clauses: Sequence[Clause]) -> dict[str, str]:
    """What has to be unsatisfiable, name to SMT-LIB text: `initiation`, `safety`, and `rule NAME` for each rule that
    changes something of which a clause speaks.

    Raises ModelError if the invariant or a clause speaks of what the system does not have, if a rule's next state
    cannot be written, or if two rules have one name.
    """
    names = _vocabulary(system)
    spoken = frozenset().union(*(c.functions for c in clauses))
    initial = [line for f in system.functions if f.name in spoken for line in _initially(f, names)]
    numbered = {f"clause{i}": c for i, c in enumerate(clauses, 1)}
    made = {
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
            made[f"rule {rule.name}"] = text
    return made


# The fragment

_Scope = tuple[frozenset[str], ...]
"""For each bound variable the sorts on whose elements its choice depends: its own if it stands for any element."""


def _dependencies(term: Term, holds: bool, scope: _Scope) -> Iterator[tuple[str, str]]:
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
        yield from _dependencies(term.body(), holds, (*scope, *own))
    elif z3.is_not(term):
        yield from _dependencies(term.arg(0), not holds, scope)
    elif z3.is_implies(term):
        yield from _dependencies(term.arg(0), not holds, scope)
        yield from _dependencies(term.arg(1), holds, scope)
    elif z3.is_and(term) or z3.is_or(term):
        for child in term.children():
            yield from _dependencies(child, holds, scope)
    elif not z3.is_var(term) and _quantifies(term):
        # Equality of formulas and the condition of an `ite` count with both signs.
        for child, sign in itertools.product(term.children(), (True, False)):
            yield from _dependencies(child, sign, scope)


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
    for formula in z3.parse_smt2_string(obligation):
        for outer, inner in _dependencies(formula, True, ()):
            graph.add_edge(outer, inner, why=f"for all {outer} there is a {inner}")
    try:
        cycle = networkx.find_cycle(graph)
    except networkx.NetworkXNoCycle:
        return None
    return ", ".join(f"{outer} -> {inner} ({graph[outer][inner]['why']})" for outer, inner in cycle)


# Files

@dataclass(frozen=True)
class Checked:
    """What verification says of one manifest.

    `without`: rules that the kernel is taken to lack. `verdict`: `accepted` (every obligation is unsat, by every
    solver), `refused` (it is no proof, or not this one), or `unconfirmed` (it is the proof that it says it is, but a
    solver gave no answer). `reason`: one line unless accepted. `obligations`, `clauses`: how many.
    `seconds`: the time that solvers took for its obligations, though manifests share files.
    """

    kernel: str
    invariant: str
    without: tuple[str, ...]
    verdict: str
    reason: str
    obligations: int
    clauses: int
    seconds: float

    @property
    def accepted(self) -> bool:
        return self.verdict == "accepted"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def manifests_in(folder: Path) -> list[Path]:
    """The manifests of a folder of certificates, or of one where `check` writes, which has such a folder.

    Traces may lie beside them: where a proof failed, its counterexample to induction.
    """
    inner = folder / "certificates"
    found = (inner if inner.is_dir() else folder).glob("*/*.json")
    return sorted(path for path in found if not path.name.endswith(".trace.json"))


def copied(manifest: Path, folder: Path) -> Path:
    """The manifest's copy in another folder of certificates, its obligations copied too. Raises OSError, ValueError."""
    names = json_text.read(manifest)["obligations"].values()
    target = folder / manifest.parent.name / manifest.name
    old, new = manifest.parent.parent / "obligations", folder / "obligations"
    for path in (target.parent, new):
        path.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(old / f"{name}.smt2", new / f"{name}.smt2")
    shutil.copyfile(manifest, target)
    return target


def manifest_path(folder: Path, spec: str, name: str, without: Sequence[str] = ()) -> Path:
    """Where in a folder the manifest for that kernel, less the rules in `without`, and invariant is."""
    less = "".join(f".without-{rule}" for rule in sorted(without))
    return folder / file_name(spec) / f"{file_name(name + less)}.json"


def unlike(manifest: Path, asked: Terms) -> str:
    """Why the manifest is no certificate of those terms, of the first claim; empty if it says that it is one.

    It is compared with what was asked, and not verified. Raises ModelError if there are no such terms.
    """
    name, _ = asked.claims[0]
    try:
        read = json_text.read(manifest)
        if (other := _is_of(read, asked)):
            return other
        if read["terms"] != asked.system:
            return f"it is for other terms than those of {asked.kernel}"
        claim = clause_of(find_invariant(name).formula, system_of(asked.kernel, asked.without))
        rows = [(tuple((str(x), str(sort)) for x, sort in row["variables"]), row["body"]) for row in read["clauses"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"the manifest cannot be read: {type(error).__name__}: {error}"
    return "" if (claim.variables, claim.body) in rows else f"it does not state what {name} does"


def _is_of(read: Mapping[str, Any], asked: Terms) -> str:
    """Why the manifest is of another kernel, other features, another invariant or other rules; empty if it is not."""
    name, _ = asked.claims[0]
    for what, said, wanted in (
        ("kernel", features_of(str(read["kernel"])), features_of(asked.kernel)),
        ("invariant", read["invariant"], name),
        ("without", sorted(map(str, read["without"])), sorted(asked.without)),
    ):
        if said != wanted:
            return f"it is a certificate of {what} {read[what]}, not {asked.kernel if what == 'kernel' else wanted}"
    return ""


def write(folder: Path, spec: str, name: str, clauses: Sequence[Term], without: Sequence[str] = ()) -> Path:
    """Write the proof that invariant `name` holds in the kernel `spec` (a name, or `file.py:NAME`); its manifest.

    `without`: rules that the kernel is taken to lack. Nothing is solved here. Equal obligations are one file, whichever
    kernel they are of. Raises ModelError as `obligations` does.
    """
    stated, system = find_invariant(name), system_of(spec, tuple(without))
    said = sorted({clause_of(c, system) for c in clauses})
    texts = obligations(system, stated, said)
    manifest = {
        "schema": SCHEMA, "kernel": spec, "invariant": name, "without": sorted(without),
        "statement": stated.statement, "terms": system.digest(),
        "clauses": [{"variables": c.variables, "body": c.body} for c in said],
        "obligations": {each: _hash(text) for each, text in texts.items()},
    }
    (folder / "obligations").mkdir(parents=True, exist_ok=True)
    for text in texts.values():
        (folder / "obligations" / f"{_hash(text)}.smt2").write_text(text, encoding="utf-8")
    path = manifest_path(folder, spec, name, without)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


class _RefusedError(Exception):
    """The manifest is no proof; the message is the reason."""


@dataclass(frozen=True)
class _Opened:
    """A manifest that is what it says, its obligations (name to file), or why it is refused."""

    kernel: str
    invariant: str
    without: tuple[str, ...]
    files: Mapping[str, Path]
    clauses: int = 0
    refused: str = ""


def _expect(true: bool, reason: str) -> None:
    if not true:
        raise _RefusedError(reason)


def _clauses(rows: Any, system: System) -> list[Clause]:
    """The clauses of a manifest."""
    _expect(isinstance(rows, list), "the manifest's clauses are not a list")
    clauses = []
    for number, row in enumerate(rows, 1):
        try:
            _expect(set(row) == {"variables", "body"}, f"clause {number} has other keys than variables and body")
            variables = tuple((str(x), str(sort)) for x, sort in row["variables"])
            clauses.append(parsed(variables, str(row["body"]), system))
        except (ModelError, ValueError, TypeError) as error:
            raise _RefusedError(f"clause {number} {error}") from error
    return clauses


def formulas(manifest: Path, system: System) -> list[Term]:
    """The clauses of a manifest as terms. Raises ModelError if it cannot be read."""
    try:
        rows = json_text.read(manifest)["clauses"]
        return [c.formula(system) for c in _clauses(rows, system)]
    except (OSError, ValueError, KeyError, TypeError, _RefusedError) as error:
        raise ModelError(f"{manifest} is no certificate: {error}") from error


def is_manifest(path: Path) -> bool:
    """The file looks like a manifest, be it a good one or not."""
    try:
        return "obligations" in json_text.read(path)
    except (OSError, ValueError, TypeError):
        return False


def contents(manifest: Path) -> dict[str, Any]:
    """What the certificate says that it proves: `clauses` beside the claim in words and, in the same order, `formulas`
    as SMT-LIB text; `obligations`, each with its file's name. They are neither verified nor made again.

    Raises ModelError if it cannot be read or is for other terms.
    """
    try:
        read = json_text.read(manifest)
        kernel, less, hashes = str(read["kernel"]), tuple(map(str, read["without"])), dict(read["obligations"])
        stated, system = find_invariant(str(read["invariant"])), system_of(kernel, less)
        _expect(read["terms"] == system.digest(), f"it is for other terms than those of {kernel}")
        claim = clause_of(stated.formula, system)
        said = sorted((in_words(c.formula(system)), c.text) for c in _clauses(read["clauses"], system) if c != claim)
    except (OSError, ValueError, KeyError, TypeError, _RefusedError) as error:
        raise ModelError(f"{manifest} is no certificate: {error}") from error
    return {
        "schema": 1, "kernel": kernel, "without": less, "invariant": stated.name, "statement": stated.statement,
        "formula": claim.text, "clauses": [words for words, _ in said], "formulas": [text for _, text in said],
        "obligations": {name: f"{hashes[name]}.smt2" for name in sorted(hashes)},
    }


def described(manifest: Path, as_json: bool = False) -> str:
    """`contents`, and that the obligations are those of the model: as text for a terminal, or as JSON.

    No solver is asked. Raises ModelError if it cannot be read or is not what it says.
    """
    (opened,) = _opened_together([(manifest, None)])
    if opened.refused:
        raise ModelError(f"{manifest}: {opened.refused}")
    told = contents(manifest)
    if as_json:
        return json.dumps({**told, "obligations": [*told["obligations"]]}, indent=1)
    words = told["clauses"]
    less = f" without {', '.join(told['without'])}" if told["without"] else ""
    lines = [
        f"{told['invariant']} on {told['kernel']}{less}, for any number of processes, pages, frames, references and "
        "slots:", f"  {told['statement']}", "",
        "It is inductive together with" if words else "It is inductive by itself.",
        *(f"  {number:2} {text}" for number, text in enumerate(words, 1)),
        "", f"{len(told['obligations'])} obligations; `python -m proofs verify {manifest}` asks the solvers.",
    ]
    return "\n".join(lines)


def _opened_together(wanted: Sequence[tuple[Path, Terms | None]]) -> list[_Opened]:
    """Manifests, each with what it has to be of, None for what it says itself. Raises ModelError as `Terms.compare`."""
    for terms in dict.fromkeys(asked for _, asked in wanted if asked is not None):
        terms.compare()
    return [_opened(Path(os.path.abspath(path)), asked) for path, asked in wanted]


def _opened(path: Path, asked: Terms | None) -> _Opened:
    """The manifest, compared with what the model and its clauses give, and with what was asked."""
    kernel, name = path.parent.name, path.stem
    without: tuple[str, ...] = ()
    try:
        try:
            manifest = json_text.read(path)
            kernel, name = str(manifest["kernel"]), str(manifest["invariant"])
            schema, statement, terms = manifest["schema"], manifest["statement"], manifest["terms"]
            without = tuple(map(str, manifest["without"]))
            rows, hashes = manifest["clauses"], dict(manifest["obligations"])
            other = "" if asked is None else _is_of(manifest, asked)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _RefusedError(f"the manifest cannot be read: {type(error).__name__}: {error}") from error
        _expect(schema == SCHEMA, f"schema {schema!r}, not {SCHEMA}")
        _expect(not other, other)
        stated, system = find_invariant(name), system_of(kernel, without)
        _expect(statement == stated.statement, f"it states something else than {name} does")
        _expect(terms == system.digest(), f"certificate for other terms: {terms}, {kernel} has {system.digest()}")
        texts = obligations(system, stated, _clauses(rows, system))
        for each in sorted(hashes.keys() ^ texts.keys()):
            _expect(each in texts, f"obligation {each!r} is none of this proof")
            _expect(each in hashes, f"obligation {each!r} is missing")
        files = {}
        for each, text in texts.items():
            _expect(hashes[each] == _hash(text), f"obligation {each!r} is not what the model and the clauses give")
            files[each] = path.parent.parent / "obligations" / f"{_hash(text)}.smt2"
            _expect(files[each].is_file(), f"obligation {each!r}: there is no file {files[each].name}")
            _expect(files[each].read_bytes() == text.encode(), f"obligation {each!r}: {files[each].name} was changed")
        place = manifest_path(path.parent.parent, kernel, name, without)
        _expect(
            (path.parent.name, path.name) == (place.parent.name, place.name),
            f"it lies where another's certificate is looked for: it is of {kernel}, {name}, and belongs into "
            f"{place.parent.name}/{place.name}",
        )
    except (_RefusedError, ModelError, OSError) as error:
        return _Opened(kernel, name, without, {}, refused=str(error))
    return _Opened(kernel, name, without, files, len(rows))


# Solvers

def _by_z3(path: Path, timeout: float) -> str:
    solver = z3.Solver()
    solver.set("timeout", max(1, int(timeout * 1000)))
    solver.from_string(path.read_text(encoding="utf-8"))
    result = solver.check()
    return f"unknown ({solver.reason_unknown()})" if result == z3.unknown else str(result)


def _by_cvc5(path: Path, timeout: float) -> str:
    import cvc5  # noqa: PLC0415  it takes a while to load, and only the processes that solve need it

    solver = cvc5.Solver(cvc5.TermManager())
    for option, value in (*CVC5_OPTIONS.items(), ("tlimit-per", str(max(1, int(timeout * 1000))))):
        solver.setOption(option, value)
    parser = cvc5.InputParser(solver)
    parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, str(path))
    said = ""
    while not (command := parser.nextCommand()).isNull():
        said += command.invoke(solver, parser.getSymbolManager())
    return said.strip()


def _by_command(command: str, path: Path, timeout: float) -> str:
    """What the command prints. It has a process group of its own, so that the time limit ends its children too."""
    # Whoever ends this process must not leave the solver running.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    process = subprocess.Popen(
        [*shlex.split(command), str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True,
        preexec_fn=end_with_parent,  # noqa: PLW1509  it only asks libc
    )
    try:
        return process.communicate(timeout=timeout)[0].strip()
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:g} s"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        signal.signal(signal.SIGTERM, before)


def _answer(solver: str, path: Path, timeout: float) -> tuple[str, float]:
    """(what the solver says of the file, seconds). Only `unsat` and `sat` are answers."""
    started = time.monotonic()
    try:
        if solver in BUILT_IN:
            said = (_by_z3 if solver == "z3" else _by_cvc5)(path, timeout)
        else:
            said = _by_command(solver, path, timeout)
    except Exception as error:
        # Whatever went wrong, it is no answer.
        said = f"no answer: {type(error).__name__}: {error}"
    return " ".join(said.split())[:200], time.monotonic() - started


def said_of(text: str, timeout: float) -> dict[str, str]:
    """What each of the built-in solvers says of an SMT-LIB text; `timeout` in seconds, for each."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "obligation.smt2"
        path.write_text(text, encoding="utf-8")
        return {solver: _answer(solver, path, timeout)[0] for solver in BUILT_IN}


def _ask(question: tuple[str, Path, float]) -> tuple[str, float]:
    return _answer(*question)


def _answers(
    questions: Sequence[tuple[str, Path]], timeout: float, workers: int, progress: Callable[[int, int], Any]
) -> dict[tuple[str, Path], tuple[str, float]]:
    """What each solver says of each file."""
    answers = dict.fromkeys(questions, ("no answer: a solver's process died", 0.0))
    asked = [(solver, path, timeout) for solver, path in questions]
    with contextlib.suppress(BrokenProcessPool):
        for done, ((solver, path, _), answer) in enumerate(each_done(_ask, asked, workers), 1):
            answers[solver, path] = answer
            progress(done, len(asked))
    return answers


def _judged(
    opened: _Opened, solvers: Sequence[str], answers: Mapping[tuple[str, Path], tuple[str, float]]
) -> Checked:
    said = [(f"{s}: {name}", *answers[s, path]) for name, path in opened.files.items() for s in solvers]
    against = [f"{where}: sat" for where, answer, _ in said if answer == "sat"]
    missing = [f"{where}: {answer or 'no answer'}" for where, answer, _ in said if answer not in ("sat", "unsat")]
    verdict = "refused" if opened.refused or against else "unconfirmed" if missing else "accepted"
    reason = opened.refused or next(iter(against + missing), "")
    seconds = sum(spent for *_, spent in said)
    return Checked(
        opened.kernel, opened.invariant, opened.without, verdict, reason, len(opened.files), opened.clauses, seconds
    )


def verify(
    paths: Path | Sequence[Path], solvers: Sequence[str] = BUILT_IN, timeout: float = 60, workers: int = 2,
    progress: Callable[[int, int], Any] = lambda done, total: None, asked: Mapping[Path, Terms] | None = None,
) -> list[Checked]:
    """Check manifests, or all those in folders: each is the proof that it says it is, and every solver says so.

    A certificate for a kernel in a file runs that file. `asked`: what manifests are wanted for; one that is of
    something else is refused.

    `solvers`: `z3` and `cvc5` are built in, any other is a command that gets a file's path and prints `unsat`.
    `timeout`: seconds for each solver and file; each file is asked once. `progress(done, total)` counts them.
    Raises ModelError if there is no manifest, no solver, no time, or no such command, or if what was asked has other
    terms where it is verified.
    """
    places = [paths] if isinstance(paths, Path) else list(paths)
    manifests = [m for place in places for m in (manifests_in(place) if place.is_dir() else [place])]
    if not manifests:
        raise ModelError(f"no certificates in {', '.join(map(str, places)) or 'no place at all'}")
    if not solvers:
        raise ModelError("no solver given; there are z3, cvc5 and commands of your own")
    check_time(timeout)
    for solver in set(solvers) - set(BUILT_IN):
        try:
            words = shlex.split(solver)
        except ValueError as error:
            raise ModelError(f"no solver {solver!r}: {error}") from error
        if not words or shutil.which(words[0]) is None:
            raise ModelError(f"no solver {solver!r}: neither {' nor '.join(BUILT_IN)} nor a command")
    # Those of one kernel together, so that its terms are built once.
    wanted = [(m, (asked or {}).get(m)) for m in sorted(set(manifests))]
    by_folder = [tuple(group) for _, group in itertools.groupby(wanted, lambda each: each[0].parent)]
    by_path: dict[Path, _Opened] = {}
    for group, several in each_done(_opened_together, by_folder, workers):
        by_path |= zip((m for m, _ in group), several, strict=True)
    opened = [by_path[m] for m in manifests]
    files = dict.fromkeys(path for each in opened for path in each.files.values())
    questions = [(solver, path) for path in files for solver in dict.fromkeys(solvers)]
    answers = _answers(questions, timeout, workers, progress)
    return [_judged(each, solvers, answers) for each in opened]
