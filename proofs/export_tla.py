"""A kernel's system as a TLA+ module, with CONSTANTS for its sorts, and the configuration with which TLC checks it.

Written from the first-order terms, for any sizes. As in the finite engines, a cell that does not matter has a default.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from invariants import Invariant
from model.logic import (
    REGISTRY,
    ModelError,
    Rule,
    Scope,
    StateFunction,
    System,
    Term,
    Update,
    functions_in,
    initial_value,
    meaning,
)
from proofs.certificate import placed
from proofs.terms import Node, node
from proofs.text import first_sentence
from proofs.trace import default_names

_SIGNS = {"and": r" /\ ", "or": r" \/ ", "forall": r"\A", "exists": r"\E"}


def camel(name: str) -> str:
    """A name of ours as that of an operator: `wp-reuse` is WpReuse."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


def claim_name(claim: Invariant) -> str:
    """The name of a claim's operator."""
    return f"Inv{camel(claim.name)}"


def module_name(spec: str) -> str:
    """A kernel's spec as the name of a module, and of its file."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", spec).strip("_")
    return name if re.match(r"[A-Za-z]", name) else f"kernel_{name}"


class _Writer:
    """Terms as TLA+ expressions. `names`: what stands for a parameter, a constant or an index.

    `functions`: so that what decides whether a cell of one matters comes before it. `cleared`: those whose cells have a
    default where they do not matter.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        by_name = {f.name: f for f in system.functions}
        needs = {name: functions_in(term) for name, f in by_name.items() if (term := meaning(f)[1]) is not None}
        while True:
            try:
                order = list(TopologicalSorter({n: needs.get(n, frozenset()) for n in by_name}).static_order())
                break
            except CycleError as error:
                # Whether it matters depends on itself: it keeps any value, which nothing looks at.
                del needs[error.args[1][0]]
        self.functions = [by_name[name] for name in order]
        self.cleared = frozenset(needs)
        self.constants = {c.decl().name(): c.decl().name() for c in system.constants}
        self.first = {c.sort().name(): c.decl().name() for c in reversed(system.constants)}

    def term(self, term: Term, names: Mapping[str, str] | None = None) -> str:
        """The term as an expression."""
        return self.expression(node(self.system.reduced(term)), {**self.constants, **(names or {})}, ())

    def expression(self, n: Node, names: Mapping[str, str], stack: tuple[str, ...]) -> str:
        args = [self.expression(a, names, stack) for a in n.args] if not n.sorts else []
        match n.op:
            case "true" | "false":
                return n.op.upper()
            case "not":
                return f"~{args[0]}"
            case "and" | "or":
                return f"({_SIGNS[n.op].join(args)})"
            case "implies":
                return f"({args[0]} => {args[1]})"
            case "eq":
                return f"({args[0]} = {args[1]})"
            case "xor":
                return f"({args[0]} # {args[1]})"
            case "distinct":
                return "(" + r" /\ ".join(f"{a} # {b}" for a, b in itertools.combinations(args, 2)) + ")"
            case "ite":
                return f"(IF {args[0]} THEN {args[1]} ELSE {args[2]})"
            case "var":
                return stack[-1 - n.index]
            case "state":
                return f"{n.name}[{', '.join(args)}]"
            case "param":
                return names[n.name] + (f"[{', '.join(args)}]" if args else "")
            case _:
                taken = {*names.values(), *stack}
                bound: tuple[str, ...] = ()
                for sort in n.sorts:
                    bound += (_unused(sort.lower(), {*taken, *bound}),)
                over = ", ".join(f"{x} \\in {sort}" for x, sort in zip(bound, n.sorts, strict=True))
                body = self.expression(n.args[0], names, (*stack, *bound))
                return f"({_SIGNS[n.op]} {over} : {body})"

    def default(self, sort: str) -> str:
        """What a cell holds that does not matter."""
        return "FALSE" if sort == "Bool" else self.first.get(sort, f"Default{sort}")


def _unused(name: str, taken: Iterable[str]) -> str:
    names = itertools.chain([name], (f"{name}{i}" for i in itertools.count(2)))
    # A variable of the module is one of a state function's name.
    return next(n for n in names if n not in {*taken, *REGISTRY})


def _cell(function: StateFunction, taken: Iterable[str] = ()) -> list[tuple[str, str]]:
    """(variable, sort) for each argument."""
    found: list[tuple[str, str]] = []
    for sort in (s.name() for s in function.domain):
        found.append((_unused(sort.lower(), {*taken, *(x for x, _ in found)}), sort))
    return found


def _over(cell: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{x} \\in {sort}" for x, sort in cell)


def _matters(function: StateFunction, cell: Sequence[tuple[str, str]], prime: str = "") -> str:
    return f"Matters_{function.name}({', '.join(x for x, _ in cell)}){prime}"


def _sorts(system: System) -> list[str]:
    """Those that the module speaks of."""
    cells = {s.name() for f in system.functions for s in (*f.domain, f.range) if s.name() != "Bool"}
    return sorted(cells | {p.sort.name() for r in system.rules for p in r.params})


def to_tla(spec: str, about: str, system: System, claims: Sequence[Invariant]) -> str:
    """The module. `about`: one line on the kernel."""
    writer = _Writer(system)
    functions = writer.functions
    sorts = _sorts(system)
    lines = [f"---- MODULE {module_name(spec)} ----", f"\\* {spec}: {about}", "",
             f"CONSTANTS {', '.join([*sorts, *writer.constants])}", "",
             "ASSUME " + r" /\ ".join(f"{c} \\in {c.sort().name()}" for c in system.constants), "",
             "VARIABLES"]
    for i, function in enumerate(functions):
        lines += [f"  \\* {function.about}", f"  {function.name}{',' if i < len(functions) - 1 else ''}"]
    lines += ["", f"vars == <<{', '.join(f.name for f in functions)}>>", ""]
    lines += [f"Default{sort} == CHOOSE element \\in {sort} : TRUE" for sort in sorts if sort not in writer.first]
    lines += ["", "TypeOK =="]
    for function in functions:
        domain = r" \X ".join(s.name() for s in function.domain)
        values = "BOOLEAN" if function.is_bool else function.range.name()
        lines.append(f"  /\\ {function.name} \\in [{domain} -> {values}]")
    lines += ["", "\\* Where a cell of these functions matters; elsewhere it has its default."]
    for function in functions:
        bound, term = meaning(function)
        if function.name in writer.cleared:
            cell = _cell(function)
            names = {c.decl().name(): x for c, (x, _) in zip(bound, cell, strict=True)}
            lines.append(f"{_matters(function, cell)} == {writer.term(term, names)}")
    lines += ["", "Init =="]
    for function in functions:
        cell = _cell(function)
        bound, term = initial_value(function)
        names = {c.decl().name(): x for c, (x, _) in zip(bound, cell, strict=False)}
        default = writer.default(function.range.name())
        value = default if term is None else writer.term(term, names)
        if function.name in writer.cleared and value != default:
            value = f"IF {_matters(function, cell)} THEN {value} ELSE {default}"
        lines.append(f"  /\\ {function.name} = [{_over(cell)} |-> {value}]")
    for rule in system.rules:
        lines += ["", *_action(writer, rule)]
    lines += ["", "Next =="]
    lines += [f"  \\/ {_call(rule)}" for rule in system.rules if rule.updates]
    lines += ["", "Spec == Init /\\ [][Next]_vars"]
    for claim in claims:
        lines += ["", f"\\* {claim.statement}", f"{claim_name(claim)} == {writer.term(claim.formula)}"]
    return "\n".join([*lines, "", "====", ""])


def _call(rule: Rule) -> str:
    if not rule.params:
        return camel(rule.name)
    sets = [p.sort.name() if p.over is None else f"[{p.over.name()} -> {p.sort.name()}]" for p in rule.params]
    over = ", ".join(f"{p.name} \\in {of}" for p, of in zip(rule.params, sets, strict=True))
    return f"\\E {over} : {camel(rule.name)}({', '.join(p.name for p in rule.params)})"


def _action(writer: _Writer, rule: Rule) -> list[str]:
    """The rule as an operator: its guard, and the next value of every function. None for one that changes nothing."""
    if not rule.updates:
        return []
    names = {p.name: p.name for p in rule.params}
    head = f"{camel(rule.name)}({', '.join(names)})" if names else camel(rule.name)
    lines = [f"\\* {first_sentence(rule.about)} [{rule.kernel_function}]", f"{head} =="]
    lines += [f"  /\\ {writer.term(conjunct, names)}" for conjunct in rule.guard]
    for param in rule.params:
        if param.over is not None:
            of, over = _unused(param.over.name().lower(), names), param.over.name()
            needed = writer.term(param.needed, {**names, param.of.decl().name(): of})
            default = writer.default(param.sort.name())
            lines.append(f"  /\\ \\A {of} \\in {over} : ({needed} \\/ {param.name}[{of}] = {default})")
    written: dict[str, list[Update]] = {}
    for update in rule.updates:
        written.setdefault(update.function.name, []).append(update)
    changing = set(written)
    for function in writer.functions:
        if function.name in writer.cleared and functions_in(meaning(function)[1]) & changing:
            changing.add(function.name)
    # TLC gives values in the order of the text, and whether a cell matters is asked of the next state.
    same = [f.name for f in writer.functions if f.name not in changing]
    if same:
        lines.append(f"  /\\ UNCHANGED <<{', '.join(same)}>>")
    for function in writer.functions:
        if function.name in changing:
            lines.append(f"  /\\ {_next(writer, function, written.get(function.name, ()), names)}")
    return lines


def _next(writer: _Writer, function: StateFunction, updates: Iterable[Update], names: Mapping[str, str]) -> str:
    cell = _cell(function, names)
    value = f"{function.name}[{', '.join(x for x, _ in cell)}]"
    for update in updates:
        condition, new = _effect(writer, update, cell, names)
        value = new if condition == "TRUE" else f"(IF {condition} THEN {new} ELSE {value})"
    if function.name in writer.cleared:
        default = writer.default(function.range.name())
        value = f"IF {_matters(function, cell, chr(39))} THEN {value} ELSE {default}"
    return f"{function.name}' = [{_over(cell)} |-> {value}]"


def _effect(
    writer: _Writer, update: Update, cell: Sequence[tuple[str, str]], names: Mapping[str, str]
) -> tuple[str, str]:
    """(condition, value): when the update writes that cell, and what."""
    quantified, known, elsewhere = placed(update, cell)
    taken = [*names.values(), *(x for x, _ in cell)]
    rest: dict[str, str] = {}
    for name, sort in quantified.items():
        if name not in known:
            rest[name] = _unused(sort.lower(), taken)
            taken.append(rest[name])

    def condition(here: Mapping[str, str]) -> str:
        tests = [f"{argument} = {writer.term(index, here)}" for argument, index in elsewhere]
        if (when := writer.term(update.when, here)) != "TRUE":
            tests.append(when)
        return r" /\ ".join(tests) or "TRUE"

    # A quantifier in a term must not take the name of the function's own variable.
    here = {**names, **{f"[{x}]": x for x, _ in cell}, **known, **rest}
    value = writer.term(update.value, here)
    if not rest:
        return condition(here), value
    over = ", ".join(f"{x} \\in {quantified[name]}" for name, x in rest.items())
    if any(re.search(rf"\b{x}\b", value) for x in rest.values()):
        # All that write the cell agree.
        (name, x), *more = rest.items()
        if more:
            raise ModelError(f"the next {update.function.name} cannot be written in TLA+: it depends on what wrote it")
        one = _unused(x, taken)
        value = f"(LET {x} == CHOOSE {one} \\in {quantified[name]} : {condition({**here, name: one})} IN {value})"
    return f"(\\E {over} : {condition(here)})", value


def to_cfg(system: System, scope: Scope, claims: Sequence[Invariant]) -> str:
    """The configuration file for TLC: the sizes of a scope, and what to check."""
    names = {sort: elements for sort, elements in default_names(scope).items() if sort in _sorts(system)}
    lines = ["SPECIFICATION Spec", "CONSTANTS"]
    lines += [f"  {sort} = {{{', '.join(elements)}}}" for sort, elements in sorted(names.items())]
    lines += [f"  {c.decl().name()} = {names[c.sort().name()][0]}" for c in system.constants]
    lines += ["INVARIANTS", "  TypeOK", *(f"  {claim_name(claim)}" for claim in claims), "CHECK_DEADLOCK FALSE", ""]
    return "\n".join(lines)
