"""The same model for other explicit-state checkers, written from the terms: Promela for Spin, Murphi for Rumur.

A cell that does not matter is cleared after each step, as the engines do it, so that the numbers of states must be
equal.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from model.logic import Rule, Scope, StateFunction, System, Term, Update, initial_value, meaning
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import Instance
from proofs.derive.terms import Node, node

Env = Mapping[str, "str | tuple[str, ...]"]


@dataclass(frozen=True)
class Syntax:
    """How a language writes its operators; `ite` is a format string."""

    conjunction: str
    disjunction: str
    equal: str
    differ: str
    ite: str


PROMELA = Syntax(" && ", " || ", "==", "!=", "({} -> {} : {})")
MURPHI = Syntax(" & ", " | ", "=", "!=", "({} ? {} : {})")


class _Writer:
    """Terms as text. An element is a number or the name of a variable; what is known is folded."""

    def __init__(self, system: System, scope: Scope, syntax: Syntax) -> None:
        self.system = system
        self.scope = scope
        self.syntax = syntax
        self.sizes = scope.as_dict()
        self.functions = {f.name: f for f in system.functions}
        self.constants: dict[str, str | tuple[str, ...]] = {c.decl().name(): "0" for c in system.constants}

    def cell(self, function: StateFunction, index: Sequence[str]) -> str:
        """The text of one cell."""
        raise NotImplementedError

    def quantified(self, n: Node, env: Env, stack: tuple[str, ...]) -> str:
        """The text of a quantifier."""
        raise NotImplementedError

    def all(self, parts: Iterable[str]) -> str:
        kept = [p for p in dict.fromkeys(parts) if p != "true"]
        if "false" in kept:
            return "false"
        return f"({self.syntax.conjunction.join(kept)})" if kept else "true"

    def any(self, parts: Iterable[str]) -> str:
        kept = [p for p in dict.fromkeys(parts) if p != "false"]
        if "true" in kept:
            return "true"
        return f"({self.syntax.disjunction.join(kept)})" if kept else "false"

    @staticmethod
    def negated(text: str) -> str:
        return {"true": "false", "false": "true"}.get(text, f"!({text})")

    def equal(self, a: str, b: str) -> str:
        known = {"true", "false"}
        if a == b:
            return "true"
        if (a.isdigit() and b.isdigit()) or (a in known and b in known):
            return "false"
        return f"({a} {self.syntax.equal} {b})"

    def ite(self, condition: str, then: str, otherwise: str) -> str:
        if condition in ("true", "false") or then == otherwise:
            return otherwise if condition == "false" else then
        return self.syntax.ite.format(condition, then, otherwise)

    def text(self, n: Node, env: Env, stack: tuple[str, ...] = ()) -> str:
        """The text of a term; `stack` holds the bound variables."""
        match n.op:
            case "true" | "false":
                return n.op
            case "var":
                return stack[-1 - n.index]
            case "forall" | "exists":
                return self.quantified(n, env, stack)
        args = [self.text(a, env, stack) for a in n.args]
        match n.op:
            case "not":
                return self.negated(args[0])
            case "and":
                return self.all(args)
            case "or":
                return self.any(args)
            case "implies":
                return self.any([self.negated(args[0]), args[1]])
            case "eq":
                return self.equal(*args)
            case "xor":
                return self.negated(self.equal(*args))
            case "distinct":
                return self.all(self.negated(self.equal(a, b)) for a, b in itertools.combinations(args, 2))
            case "ite":
                return self.ite(*args)
            case "param":
                value = env[n.name]
                if isinstance(value, str):
                    return value
                return self.chosen(value, args[0])
            case "state":
                return self.cell(self.functions[n.name], args)
        raise NotImplementedError(n.op)

    def chosen(self, table: Sequence[str], index: str) -> str:
        result = table[0]
        for i, entry in enumerate(table[1:], 1):
            result = self.ite(self.equal(index, str(i)), entry, result)
        return result

    def guard(self, rule: Rule, env: Env) -> str:
        """The rule's guard; a function parameter is the first element wherever its value does not matter."""
        parts = [self.text(node(g), env) for g in rule.guard]
        for param in rule.params:
            if param.over is not None:
                for element, chosen in enumerate(env[param.name]):
                    needed = self.text(node(param.needed), {**env, param.of.decl().name(): str(element)})
                    parts.append(self.any([self.equal(chosen, "0"), needed]))
        return self.all(parts)

    def initial(self, function: StateFunction, index: Sequence[str]) -> str:
        bound, term = initial_value(function)
        if term is None:
            return "false" if function.is_bool else "0"
        return self.text(node(term), self.named(bound, index))

    def meaning(self, function: StateFunction, index: Sequence[str]) -> str:
        bound, term = meaning(function)
        return "true" if term is None else self.text(node(term), self.named(bound, index))

    def named(self, constants: Sequence[Term], values: Sequence[str]) -> Env:
        return {**self.constants, **{c.decl().name(): v for c, v in zip(constants, values, strict=True)}}


def _reads_state(text: str) -> bool:
    return "s_" in text


class _Promela(_Writer):
    """Every rule instance is one indivisible step, with its parameters known."""

    def cell(self, function: StateFunction, index: Sequence[str]) -> str:
        flat, known = "", 0
        for sort, i in zip(function.domain, index, strict=True):
            size = self.scope.size(sort)
            flat, known = (f"{size}*({flat})" if flat else ""), known * size
            if i.isdigit():
                known += int(i)
            else:
                flat = f"{flat}+{i}" if flat else i
        place = f"{flat}+{known}" if flat and known else flat or str(known)
        return f"s_{function.name}[{place}]"

    def quantified(self, n: Node, env: Env, stack: tuple[str, ...]) -> str:
        ranges = [range(self.sizes[s]) for s in n.sorts]
        parts = (self.text(n.args[0], env, (*stack, *map(str, chosen))) for chosen in itertools.product(*ranges))
        return self.all(parts) if n.op == "forall" else self.any(parts)

    def step(self, instance: Instance, written: Iterable[tuple[StateFunction, tuple[int, ...]]]) -> list[str]:
        """The statements of one step. `written`: the cells that it may change."""
        env: dict[str, str | tuple[str, ...]] = dict(self.constants)
        for name, value in instance.binding:
            env[name] = tuple(map(str, value)) if isinstance(value, tuple) else str(value)
        assignments = []
        for update in instance.rule.updates:
            ranges = [range(self.scope.size(c.sort())) for c in update.over]
            for chosen in itertools.product(*ranges):
                inner = {**env, **{c.decl().name(): str(i) for c, i in zip(update.over, chosen, strict=True)}}
                when = self.text(node(update.when), inner)
                if when != "false":
                    index = [self.text(node(i), inner) for i in update.index]
                    value = self.text(node(update.value), inner)
                    assignments.append(_Assignment(self.cell(update.function, index), value, when))
        clearing = []
        for function, at in written:
            place = self.cell(function, list(map(str, at)))
            matters = self.meaning(function, list(map(str, at)))
            if matters != "true":
                clearing.append(f"{place} = {self.ite(matters, place, '0')}")
        return [self.guard(instance.rule, env), *_in_order(assignments), *clearing]


@dataclass(frozen=True)
class _Assignment:
    """`target` becomes `value` where `when` holds."""

    target: str
    value: str
    when: str

    @property
    def array(self) -> str:
        return self.target[: self.target.index("[")]

    @property
    def index(self) -> str:
        return self.target[self.target.index("[") + 1 : -1]

    def reads(self) -> set[tuple[str, str]]:
        return _touched(self.value) | _touched(self.when) | _touched(self.index)

    def writes(self) -> set[tuple[str, str]]:
        return {(self.array, self.index if self.index.isdigit() else "*")}

    def text(self) -> str:
        value = self.value if self.when == "true" else f"({self.when} -> {self.value} : {self.target})"
        return f"{self.target} = {value}"


def _touched(text: str) -> set[tuple[str, str]]:
    """(array, index) of each cell in the text; the index is * where it depends on the state."""
    found = set()
    for match in re.finditer(r"(s_\w+)\[", text):
        end = text.find("]", match.end())
        index = text[match.end() : end]
        found.add((match[1], index if index.isdigit() else "*"))
    return found


def _meet(a: set[tuple[str, str]], b: set[tuple[str, str]]) -> bool:
    return any(x[0] == y[0] and (x[1] == y[1] or "*" in (x[1], y[1])) for x in a for y in b)


def _in_order(assignments: Sequence[_Assignment]) -> list[str]:
    """Simultaneous assignments as a sequence: what reads a cell comes before what writes it.

    Where they wait for each other, a text's value is saved in a temporary, which is zero again at the end: Spin's
    breadth-first search has no variables outside the state.
    """
    left = list(assignments)
    done: list[str] = []
    late: list[str] = []
    names: list[str] = []

    def saved(text: str) -> str:
        if not _reads_state(text):
            return text
        names.append(f"t{len(names)}")
        done.append(f"{names[-1]} = {text}")
        return names[-1]

    while left:
        ready = next((a for a in left if not any(_meet(a.writes(), b.reads()) for b in left if b is not a)), None)
        if ready is not None:
            left.remove(ready)
            done.append(ready.text())
        else:
            one = left.pop(0)
            moved = _Assignment(f"{one.array}[{saved(one.index)}]", saved(one.value), saved(one.when))
            late.append(moved.text())
    return [*done, *late, *(f"{name} = 0" for name in names)]


def promela(system: System, scope: Scope) -> str:
    """The system in a scope as one Promela process."""
    writer = _Promela(system, scope, PROMELA)
    grounder = Grounder(system, scope)
    cell_of = {start + i: n for n, (start, width) in enumerate(grounder.bit_of_cell) for i in range(width)}
    options = []
    for step in grounder.steps():
        cells = sorted({cell_of[bit] for bit, _ in step.bits})
        statements = writer.step(step.instance, [grounder.layout.cells[c] for c in cells])
        options.append(f"  :: d_step {{ {'; '.join(s for s in statements if s)} }}")
    temporaries = {int(t) for text in options for t in re.findall(r"\bt(\d+) = 0", text)}
    lines = [f"byte t{i};" for i in sorted(temporaries)]
    for function in system.functions:
        starts = [writer.initial(function, list(map(str, i))) for i in grounder.layout.position[function.name]]
        kind = "bit" if grounder.layout.values(function) == 2 else "byte"
        values = ", ".join({"false": "0", "true": "1"}.get(value, value) for value in starts)
        lines.append(f"{kind} s_{function.name}[{len(starts)}] = {{ {values} }};")
    return "\n".join([*lines, "active proctype model() {", "  do", *options, "  od", "}", ""])


class _Murphi(_Writer):
    """Rules with parameters, quantifiers as they are. `symmetric`: sorts whose elements are interchangeable.

    A cell of such a sort that does not matter is undefined, and a Bool term that looks at one is false: by the rules of
    the model it does not matter what it is.
    """

    def __init__(self, system: System, scope: Scope, symmetric: frozenset[str]) -> None:
        super().__init__(system, scope, MURPHI)
        self.symmetric = symmetric
        self.variables = itertools.count()

    def cell(self, function: StateFunction, index: Sequence[str]) -> str:
        return f"s_{function.name}" + "".join(f"[{i}]" for i in index)

    def quantified(self, n: Node, env: Env, stack: tuple[str, ...]) -> str:
        names = [f"x{next(self.variables)}" for _ in n.sorts]
        body = self.text(n.args[0], env, (*stack, *names))
        for name, sort in reversed(list(zip(names, n.sorts, strict=True))):
            body = f"{n.op} {name}: {sort} do {body} end{n.op}"
        return f"({body})"

    def defined(self, parts: Iterable[str]) -> list[str]:
        """What must hold so that elements written thus can be looked at."""
        partial = {f"s_{f.name}[" for f in self.functions.values() if f.range.name() in self.symmetric}
        return [f"!isundefined({p})" for p in dict.fromkeys(parts) if any(p.startswith(s) for s in partial)]

    def text(self, n: Node, env: Env, stack: tuple[str, ...] = ()) -> str:
        made = super().text(n, env, stack)
        if n.op in ("eq", "distinct", "state") and made not in ("true", "false"):
            looked = [self.text(a, env, stack) for a in n.args]
            guards = self.defined(looked)
            if guards and (n.op != "state" or self.functions[n.name].is_bool):
                return self.all([*guards, made])
        return made

    def kind(self, function: StateFunction) -> str:
        return "boolean" if function.is_bool else function.range.name()

    def assigned(self, target: str, value: str) -> str:
        if self.defined([value]):
            return f"if isundefined({value}) then undefine {target}; else {target} := {value}; endif;"
        return f"{target} := {value};"

    def looped(self, names: Sequence[str], sorts: Sequence[str], body: str) -> str:
        for name, sort in reversed(list(zip(names, sorts, strict=True))):
            body = f"for {name}: {sort} do {body} endfor;"
        return body

    def rule(self, rule: Rule, written: Sequence[StateFunction]) -> list[str]:
        """The rule's text. `written`: functions of which it may change cells."""
        env: dict[str, str | tuple[str, ...]] = dict(self.constants)
        ruleset = []
        for param in rule.params:
            count = 1 if param.over is None else self.scope.size(param.over)
            names = tuple(f"p_{param.name}{i}" for i in range(count))
            env[param.name] = names[0] if param.over is None else names
            ruleset += [f"{name}: {param.sort.name()}" for name in names]
        declarations: list[str] = []
        before: list[str] = []
        after: list[str] = []
        for update in rule.updates:
            self._update(update, node(update.value), node(update.when), env, declarations, before, after)
        for function in written:
            after += self._cleared(function)
        head = f"ruleset {'; '.join(ruleset)} do" if ruleset else ""
        return [
            head, f'rule "{rule.name}"', f"  {self.guard(rule, env)} ==>", *declarations, "begin", *before, *after,
            "end;", "endruleset;" if ruleset else "",
        ]

    def guard(self, rule: Rule, env: Env) -> str:
        if any(p.over is not None and p.sort.name() in self.symmetric for p in rule.params):
            # No first element can be named; where its value does not matter, all choices lead to the same state.
            return self.all(self.text(node(g), env) for g in rule.guard)
        return super().guard(rule, env)

    def _update(
        self, update: Update, given: Node, condition: Node, env: Env, declarations: list[str], before: list[str],
        after: list[str],
    ) -> None:
        if given.op == "ite" and update.function.range.name() in self.symmetric:
            # A choice between elements would look at one that may be undefined.
            chosen, then, otherwise = given.args
            for one, extra in ((then, chosen), (otherwise, Node("not", (chosen,)))):
                self._update(update, one, Node("and", (condition, extra)), env, declarations, before, after)
            return
        names = [f"x{next(self.variables)}" for _ in update.over]
        sorts = [c.sort().name() for c in update.over]
        inner = {**env, **{c.decl().name(): name for c, name in zip(update.over, names, strict=True)}}
        when = self.text(condition, inner)
        if when == "false":
            return

        def saved(text: str, kind: str) -> str:
            if not _reads_state(text):
                return text
            name = f"t{next(self.variables)}"
            declarations.append(f"var {name}: {''.join(f'array [{s}] of ' for s in sorts)}{kind};")
            target = name + "".join(f"[{n}]" for n in names)
            assigned = self.assigned(target, text)
            if text is not when and kept != "true":
                assigned = f"if {kept} then {assigned} endif;"
            before.append(self.looped(names, sorts, assigned))
            return target

        kept = "true"
        kept = saved(when, "boolean")
        index = [
            saved(self.text(node(i), inner), s.name())
            for i, s in zip(update.index, update.function.domain, strict=True)
        ]
        value = saved(self.text(given, inner), self.kind(update.function))
        target = self.cell(update.function, index)
        if update.function.range.name() in self.symmetric and value.startswith("t"):
            assigned = f"if isundefined({value}) then undefine {target}; else {target} := {value}; endif;"
        else:
            assigned = f"{target} := {value};"
        if kept != "true":
            assigned = f"if {kept} then {assigned} endif;"
        after.append(self.looped(names, sorts, assigned))

    def _cleared(self, function: StateFunction) -> list[str]:
        names = [f"x{next(self.variables)}" for _ in function.domain]
        matters = self.meaning(function, names)
        if matters == "true":
            return []
        target = self.cell(function, names)
        clear = f"{target} := {self.zero(function)};"
        if function.range.name() in self.symmetric:
            clear = f"undefine {target};"
        sorts = [s.name() for s in function.domain]
        return [self.looped(names, sorts, f"if {self.negated(matters)} then {clear} endif;")]

    def zero(self, function: StateFunction) -> str:
        return "false" if function.is_bool else "0"

    def start(self) -> list[str]:
        """The initial state; where processes are interchangeable, one for each that may be the first."""
        lines = []
        head = []
        for constant in self.system.constants:
            if constant.sort().name() in self.symmetric:
                name = f"p_{constant.decl().name()}"
                self.constants[constant.decl().name()] = name
                head.append(f"{name}: {constant.sort().name()}")
        for function in self.system.functions:
            names = [f"x{next(self.variables)}" for _ in function.domain]
            target = self.cell(function, names)
            value = self.initial(function, names)
            sorts = [s.name() for s in function.domain]
            if function.range.name() in self.symmetric and value == "0":
                lines.append(self.looped(names, sorts, f"undefine {target};"))
            else:
                lines.append(self.looped(names, sorts, f"{target} := {value};"))
        begin = f"ruleset {'; '.join(head)} do" if head else ""
        return [begin, "startstate begin", *lines, "end;", "endruleset;" if head else ""]


def murphi(system: System, scope: Scope, symmetric: frozenset[str]) -> str:
    """The system in a scope as Murphi rules. `symmetric`: sorts to be scalarsets; they must be interchangeable."""
    sorts = {s.name() for f in system.functions for s in (*f.domain, f.range)} - {"Bool"}
    sorts |= {p.sort.name() for r in system.rules for p in r.params}
    interchanged = frozenset(s for s in symmetric & sorts if scope.as_dict()[s] > 1)
    writer = _Murphi(system, scope, interchanged)
    grounder = Grounder(system, scope)
    cell_of = {start + i: n for n, (start, width) in enumerate(grounder.bit_of_cell) for i in range(width)}
    changed: dict[str, set[str]] = {}
    for step in grounder.steps():
        names = {grounder.layout.cells[cell_of[bit]][0].name for bit, _ in step.bits}
        changed.setdefault(step.instance.rule.name, set()).update(names)
    lines = ["type"]
    for sort in sorted(sorts):
        size = scope.as_dict()[sort]
        lines.append(f"  {sort}: {f'scalarset({size})' if sort in interchanged else f'0..{size - 1}'};")
    lines.append("var")
    for function in system.functions:
        domain = "".join(f"array [{s.name()}] of " for s in function.domain)
        lines.append(f"  s_{function.name}: {domain}{writer.kind(function)};")
    rules = []
    for rule in system.rules:
        if rule.name in changed:
            rules += writer.rule(rule, [f for f in system.functions if f.name in changed[rule.name]])
    return "\n".join([*lines, *rules, *writer.start(), ""])

