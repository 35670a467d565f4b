"""A kernel's system as a TLA+ module, with CONSTANTS for its sorts, and the configuration with which TLC checks it.

Written from the first-order terms, for any sizes. As in the finite engines, a cell that does not matter has a default.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from invariants import Invariant
from model.logic import (
    ModelError,
    Rule,
    Scope,
    StateFunction,
    System,
    Term,
    Update,
    functions_in,
    initial_value,
    names_in,
)
from proofs.certify.obligations import placement
from proofs.derive.terms import Node, node
from proofs.naming.specs import LONGEST, file_name
from proofs.traces.text import first_sentence
from proofs.traces.trace import default_names

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
    if len(name) > LONGEST:
        name = file_name(name).replace("-", "_")
    return name if re.match(r"[A-Za-z]", name) else f"kernel_{name}"


@dataclass(frozen=True)
class _Names:
    """What means something at a place of the module. A new name is one that `bind` gives: TLA+ wants that none hides
    another.

    called   a parameter, a constant, an index or a state function of the terms, to what it is called there
    taken    all names that mean something there
    """

    called: Mapping[str, str]
    taken: frozenset[str]

    def bind(self, wished: Iterable[str], stand_for: Iterable[str] = ()) -> tuple[tuple[str, ...], _Names]:
        """Names like the wished ones, and what means something where they are bound. They are for `stand_for` in order,
        or for nothing in the terms."""
        found: list[str] = []
        for name in wished:
            tried = itertools.chain([name], (f"{name}{i}" for i in itertools.count(2)))
            found.append(next(t for t in tried if t not in self.taken and t not in found))
        called = {**self.called, **dict(zip(stand_for, found, strict=False))}
        return tuple(found), _Names(called, self.taken.union(found))

    def also(self, known: Mapping[str, str]) -> _Names:
        """Some more things in terms are called what means something already."""
        return _Names({**self.called, **known}, self.taken)


class _Writer:
    """Terms as TLA+ expressions.

    `groups`: the state functions, so that what decides whether a cell of one matters comes before it; those that decide
    on each other, or one on itself, are together. `names`: what means something everywhere. `operators`: rule name to
    operator.
    """

    def __init__(self, system: System, claims: Sequence[Invariant] = ()) -> None:
        self.system = system
        by_name = {f.name: f for f in system.functions}
        kept = {name: system.kept_where(f)[1] for name, f in by_name.items()}
        self.needs = {name: functions_in(term) for name, term in kept.items() if term is not None}
        self.groups = [tuple(by_name[name] for name in group) for group in _ordered(list(by_name), self.needs)]
        self.functions = [function for group in self.groups for function in group]
        sorts, constants = _sorts(system), _constants(system)
        self.first = {sort: name for name, sort in reversed(constants.items())}
        self.names = _Names({name: name for name in constants}, frozenset([
            *sorts, *constants, *by_name, *map(_default, sorts), *map(_matters, by_name), *map(claim_name, claims),
            "vars", "TypeOK", "Init", "Next", "Spec",
        ]))
        rules = [rule.name for rule in system.rules if rule.updates]
        operators, self.names = self.names.bind(map(camel, rules))
        self.operators = dict(zip(rules, operators, strict=True))

    def term(self, term: Term, names: _Names | None = None) -> str:
        """The term as an expression."""
        return self.expression(node(self.system.reduced(term)), names or self.names, ())

    def expression(self, n: Node, names: _Names, stack: tuple[str, ...]) -> str:
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
                return f"{names.called.get(n.name, n.name)}[{', '.join(args)}]"
            case "param":
                return names.called[n.name] + (f"[{', '.join(args)}]" if args else "")
            case _:
                bound, inner = names.bind(map(str.lower, n.sorts))
                body = self.expression(n.args[0], inner, (*stack, *bound))
                return f"({_SIGNS[n.op]} {_over(zip(bound, n.sorts, strict=True))} : {body})"

    def default(self, sort: str) -> str:
        """What a cell holds that does not matter."""
        return "FALSE" if sort == "Bool" else self.first.get(sort, _default(sort))

    def cell(
        self, function: StateFunction, names: _Names, bound: Iterable[Term] = ()
    ) -> tuple[list[tuple[str, str]], _Names]:
        """(variable, sort) for each argument, and what means something beside them. `bound`: what they are in terms."""
        sorts = [s.name() for s in function.domain]
        variables, inner = names.bind(map(str.lower, sorts), (c.decl().name() for c in bound))
        return list(zip(variables, sorts, strict=True)), inner

    def cyclic(self, group: Sequence[StateFunction]) -> bool:
        """Whether a cell of these matters is not known before all of them are."""
        return any(f.name in self.needs.get(g.name, ()) for f in group for g in group)

    def given(self, values: Mapping[str, str], names: _Names, prime: str = "") -> list[str]:
        """That the functions have these values where they matter, in this state or the next. Of a group there are all;
        the values are over the variables that `cell` gives."""
        lines = []
        for group in self.groups:
            if any(f.name not in values for f in group):
                continue
            entries = [(f, self.cell(f, names)[0], values[f.name]) for f in group]
            if not self.cyclic(group) or all(value == self.default(f.range.name()) for f, _, value in entries):
                lines += [f"{f.name}{prime} = [{_over(cell)} |-> {self.cleared(f, cell, (), value, prime)}]"
                          for f, cell, value in entries]
                continue
            # A bound variable is a value: what is written, whatever of it the next state keeps.
            written, inner = names.bind(f"{f.name}_written" for f in group)
            sets = [
                (x, f"{{[{_over(cell)} |-> {value}]}}") for x, (_, cell, value) in zip(written, entries, strict=True)
            ]
            kept = []
            for x, f in zip(written, group, strict=True):
                cell, _ = self.cell(f, inner)
                value = f"{x}[{', '.join(variable for variable, _ in cell)}]"
                kept.append(f"{f.name}{prime} = [{_over(cell)} |-> {self.cleared(f, cell, written, value, prime)}]")
            lines.append(f"\\E {_over(sets)} : ({_SIGNS['and'].join(kept)})")
        return lines

    def cleared(
        self, function: StateFunction, cell: Sequence[tuple[str, str]], written: Sequence[str], value: str, prime: str
    ) -> str:
        """The value of a cell, or the default where it does not matter. `written`: the group, where it is cyclic."""
        default = self.default(function.range.name())
        if function.name not in self.needs or value == default:
            return value
        arguments = ", ".join([*(x for x, _ in cell), *written])
        return f"IF {_matters(function.name)}({arguments}){prime} THEN {value} ELSE {default}"


def _ordered(functions: Sequence[str], needs: Mapping[str, Collection[str]]) -> list[list[str]]:
    """The functions so that each comes after those it needs; in one list those that need each other."""
    import networkx as nx  # noqa: PLC0415  it takes a while to load

    graph = nx.DiGraph()
    graph.add_nodes_from(functions)
    graph.add_edges_from((other, name) for name, others in needs.items() for other in others)
    groups = nx.condensation(graph)
    members = {g: sorted(groups.nodes[g]["members"], key=functions.index) for g in groups}
    return [members[g] for g in nx.lexicographical_topological_sort(groups, lambda g: functions.index(members[g][0]))]


def _over(bound: Iterable[tuple[str, str]]) -> str:
    return ", ".join(f"{x} \\in {sort}" for x, sort in bound)


def _matters(function: str) -> str:
    return f"Matters_{function}"


def _default(sort: str) -> str:
    return f"Default{sort}"


def _sorts(system: System) -> list[str]:
    """Those that the module speaks of."""
    cells = {s.name() for f in system.functions for s in (*f.domain, f.range) if s.name() != "Bool"}
    return sorted(cells | {p.sort.name() for r in system.rules for p in r.params})


def _constants(system: System) -> dict[str, str]:
    """Constant to its sort, of the sorts that the module speaks of."""
    sorts = _sorts(system)
    return {c.decl().name(): c.sort().name() for c in system.constants if c.sort().name() in sorts}


def to_tla(spec: str, about: str, system: System, claims: Sequence[Invariant]) -> str:
    """The module. `about`: one line on the kernel."""
    writer = _Writer(system, claims)
    functions = writer.functions
    sorts, constants = _sorts(system), _constants(system)
    lines = [f"---- MODULE {module_name(spec)} ----", f"\\* {spec}: {about}", "",
             f"CONSTANTS {', '.join([*sorts, *constants])}", "",
             *(f"ASSUME {name} \\in {sort}" for name, sort in constants.items()), "",
             "VARIABLES"]
    for i, function in enumerate(functions):
        lines += [f"  \\* {function.about}", f"  {function.name}{',' if i < len(functions) - 1 else ''}"]
    lines += ["", f"vars == <<{', '.join(f.name for f in functions)}>>", ""]
    (element,), _ = writer.names.bind(["element"])
    lines += [f"{_default(sort)} == CHOOSE {element} \\in {sort} : TRUE" for sort in sorts if sort not in writer.first]
    lines += ["", "TypeOK =="]
    for function in functions:
        domain = r" \X ".join(s.name() for s in function.domain)
        values = "BOOLEAN" if function.is_bool else function.range.name()
        lines.append(f"  /\\ {function.name} \\in [{domain} -> {values}]")
    lines += ["", "\\* Where a cell of these functions matters; elsewhere it has its default."]
    for group in writer.groups:
        for function in group:
            bound, term = system.kept_where(function)
            if term is not None:
                cell, names = writer.cell(function, writer.names, bound)
                parameters = [x for x, _ in cell]
                if writer.cyclic(group):
                    written, names = names.bind([f"{f.name}_written" for f in group], [f.name for f in group])
                    parameters += written
                lines.append(f"{_matters(function.name)}({', '.join(parameters)}) == {writer.term(term, names)}")
    values = {}
    for function in functions:
        bound, term = initial_value(function)
        _, names = writer.cell(function, writer.names, bound)
        values[function.name] = writer.default(function.range.name()) if term is None else writer.term(term, names)
    lines += ["", "Init ==", *(f"  /\\ {line}" for line in writer.given(values, writer.names))]
    for rule in system.rules:
        lines += ["", *_action(writer, rule)]
    # TLC takes a state without a next one for an error, and not every TLC can be told in its configuration not to.
    lines += ["", "\\* Nothing need happen: where no step can be taken, none is.", "Next =="]
    lines += [f"  \\/ {_call(writer, rule)}" for rule in system.rules if rule.updates]
    lines += ["  \\/ UNCHANGED vars", "", "Spec == Init /\\ [][Next]_vars"]
    for claim in claims:
        lines += ["", f"\\* {claim.statement}", f"{claim_name(claim)} == {writer.term(claim.formula)}"]
    return "\n".join([*lines, "", "====", ""])


def _head(writer: _Writer, rule: Rule) -> tuple[str, _Names, tuple[str, ...]]:
    """The rule's operator with its parameters, what means something behind it, and what the parameters are called."""
    wished = [p.name for p in rule.params]
    params, names = writer.names.bind(wished, wished)
    operator = writer.operators[rule.name]
    return f"{operator}({', '.join(params)})" if params else operator, names, params


def _call(writer: _Writer, rule: Rule) -> str:
    head, _, params = _head(writer, rule)
    sets = [p.sort.name() if p.over is None else f"[{p.over.name()} -> {p.sort.name()}]" for p in rule.params]
    return f"\\E {_over(zip(params, sets, strict=True))} : {head}" if params else head


def _action(writer: _Writer, rule: Rule) -> list[str]:
    """The rule as an operator: its guard, and the next value of every function. None for one that changes nothing."""
    if not rule.updates:
        return []
    head, names, params = _head(writer, rule)
    lines = [f"\\* {first_sentence(rule.about)} [{rule.kernel_function}]", f"{head} =="]
    lines += [f"  /\\ {writer.term(conjunct, names)}" for conjunct in rule.guard]
    for param, called in zip(rule.params, params, strict=True):
        if param.over is not None:
            over, default = param.over.name(), writer.default(param.sort.name())
            (of,), inner = names.bind([over.lower()], [param.of.decl().name()])
            needed = writer.term(param.needed, inner)
            lines.append(f"  /\\ \\A {of} \\in {over} : ({needed} \\/ {called}[{of}] = {default})")
    written: dict[str, list[Update]] = {}
    for update in rule.updates:
        written.setdefault(update.function.name, []).append(update)
    changing = set(written)
    for group in writer.groups:
        if any({f.name, *writer.needs.get(f.name, ())} & changing for f in group):
            changing |= {f.name for f in group}
    # TLC gives values in the order of the text, and whether a cell matters is asked of the next state.
    same = [f.name for f in writer.functions if f.name not in changing]
    if same:
        lines.append(f"  /\\ UNCHANGED <<{', '.join(same)}>>")
    following = {
        f.name: _next(writer, f, written.get(f.name, ()), names) for f in writer.functions if f.name in changing
    }
    return [*lines, *(f"  /\\ {line}" for line in writer.given(following, names, "'"))]


def _next(writer: _Writer, function: StateFunction, updates: Iterable[Update], names: _Names) -> str:
    """The next value of a cell, were it to matter."""
    cell, inner = writer.cell(function, names)
    value = f"{function.name}[{', '.join(x for x, _ in cell)}]"
    for update in updates:
        condition, new = _effect(writer, update, cell, inner)
        value = new if condition == "TRUE" else f"(IF {condition} THEN {new} ELSE {value})"
    return value


def _effect(writer: _Writer, update: Update, cell: Sequence[tuple[str, str]], names: _Names) -> tuple[str, str]:
    """(condition, value): when the update writes that cell, and what."""
    quantified, known, elsewhere = placement(update, cell)
    names = names.also(known)
    rest = {name: sort for name, sort in quantified.items() if name not in known}

    def condition(here: _Names) -> str:
        tests = [f"{argument} = {writer.term(index, here)}" for argument, index in elsewhere]
        if (when := writer.term(update.when, here)) != "TRUE":
            tests.append(when)
        return r" /\ ".join(tests) or "TRUE"

    bound, inner = names.bind(map(str.lower, rest.values()), rest)
    value = writer.term(update.value, inner)
    if not rest:
        return condition(names), value
    if names_in(writer.system.reduced(update.value)) & rest.keys():
        # All that write the cell agree.
        if len(rest) > 1:
            raise ModelError(f"the next {update.function.name} cannot be written in TLA+: it depends on what wrote it")
        (one,), chosen = inner.bind(map(str.lower, rest.values()), rest)
        (sort,) = rest.values()
        value = f"(LET {bound[0]} == CHOOSE {one} \\in {sort} : {condition(chosen)} IN {value})"
    return f"(\\E {_over(zip(bound, rest.values(), strict=True))} : {condition(inner)})", value


def to_cfg(system: System, scope: Scope, claims: Sequence[Invariant]) -> str:
    """The configuration file for TLC: the sizes of a scope, and what to check."""
    names = {sort: elements for sort, elements in default_names(scope).items() if sort in _sorts(system)}
    lines = ["SPECIFICATION Spec", "CONSTANTS"]
    lines += [f"  {sort} = {{{', '.join(elements)}}}" for sort, elements in sorted(names.items())]
    lines += [f"  {name} = {names[sort][0]}" for name, sort in _constants(system).items()]
    lines += ["INVARIANTS", "  TypeOK", *(f"  {claim_name(claim)}" for claim in claims), ""]
    return "\n".join(lines)
