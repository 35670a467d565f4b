"""Grounding: the terms of a system in a finite scope, as a Boolean circuit over the bits of a state.

Exploration compiles the circuit to machine code, bounded model checking turns it into quantifier-free z3 terms. An
element of a sort is an int where it is known, else a tuple of literals, one per element (exactly one is true).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model.logic import Rule, Scope, System, Term, Update
from proofs.derive.circuit import FALSE, TRUE, Circuit
from proofs.derive.interpreter import Binding, Instance, Interpreter, Layout, State, instances
from proofs.derive.terms import Node, node

Element = int | tuple[int, ...]
Cells = list[Any]
"""One value per cell of the layout: a literal for Bool, an Element for a sort."""


@dataclass(frozen=True)
class GroundedStep:
    """One rule instance: guard literal, and for every state bit it may change the literal of its next value."""

    instance: Instance
    guard: int
    bits: tuple[tuple[int, int], ...]


class Grounder:
    """Grounds one system in one scope. `state`: the current value of every cell, over the circuit's inputs."""

    def __init__(self, system: System, scope: Scope) -> None:
        self.system = system
        self.scope = scope
        self.circuit = Circuit()
        self.layout = Layout(system.functions, scope)
        self.constants: dict[str, Any] = {c.decl().name(): 0 for c in system.constants}
        self.bit_of_cell: list[tuple[int, int]] = []
        self.bits = 0
        for function, _ in self.layout.cells:
            width = (self.layout.values(function) - 1).bit_length()
            self.bit_of_cell.append((self.bits, width))
            self.bits += width
        self.inputs = [self.circuit.input(f"bit{i}") for i in range(self.bits)]
        self.state: Cells = [self._decode(cell) for cell in range(len(self.layout.cells))]
        self._boolean = {f.name: f.is_bool for f in system.functions}
        self._free: dict[int, tuple[Node, tuple[str, ...], int]] = {}
        self._memo: dict[Any, Any] = {}
        self._meaning = {}
        for function in system.functions:
            bound, term = system.kept_where(function)
            if term is not None:
                self._meaning[function.name] = (node(term), [c.decl().name() for c in bound])
        self.meaningful_now = {
            place: self._meaningful(place, self.state, self._memo) for place in range(len(self.layout.cells))
        }

    def _decode(self, cell: int) -> Any:
        function, _ = self.layout.cells[cell]
        start, width = self.bit_of_cell[cell]
        bits = self.inputs[start : start + width]
        if function.is_bool:
            return bits[0]
        if width == 0:
            return 0
        return tuple(
            self.circuit.all(bit ^ (value >> i & 1 ^ 1) for i, bit in enumerate(bits))
            for value in range(self.layout.values(function))
        )

    def _encode(self, function_is_bool: bool, value: Any, width: int) -> list[int]:
        if function_is_bool:
            return [value]
        if isinstance(value, int):
            return [value >> i & 1 for i in range(width)]
        return [self.circuit.any(one for n, one in enumerate(value) if n >> i & 1) for i in range(width)]

    def pack(self, state: State) -> int:
        """A concrete state as one integer, bit i of it the circuit's input i."""
        packed = 0
        for (start, _), value in zip(self.bit_of_cell, state, strict=True):
            packed |= value << start
        return packed

    def unpack(self, packed: int) -> State:
        """The inverse of `pack`."""
        return tuple(packed >> start & (1 << width) - 1 for start, width in self.bit_of_cell)

    # Terms

    def formula(self, term: Term, binding: Binding | None = None) -> int:
        """The literal of a Bool term in the current state."""
        env = {**self.constants, **(binding or {})}
        return int(self._value(node(self.system.reduced(term)), self.state, env, (), self._memo))

    def _free_in(self, n: Node) -> tuple[tuple[str, ...], int]:
        """Names of the free parameters, and how many enclosing binders the node looks at."""
        if id(n) not in self._free:
            names: set[str] = {n.name} if n.op == "param" else set()
            depth = n.index + 1 if n.op == "var" else 0
            for arg in n.args:
                arg_names, arg_depth = self._free_in(arg)
                names |= set(arg_names)
                depth = max(depth, arg_depth - len(n.sorts))
            self._free[id(n)] = (n, tuple(sorted(names)), depth)
        return self._free[id(n)][1:]

    def _value(
        self, n: Node, state: Cells, env: Mapping[str, Any], stack: tuple[int, ...], memo: dict[Any, Any]
    ) -> Any:
        names, depth = self._free_in(n)
        key = (id(n), tuple(env[name] for name in names), stack[len(stack) - depth :])
        if key not in memo:
            memo[key] = self._compute(n, state, env, stack, memo)
        return memo[key]

    def _compute(
        self, n: Node, state: Cells, env: Mapping[str, Any], stack: tuple[int, ...], memo: dict[Any, Any]
    ) -> Any:
        c = self.circuit

        def value(i: int) -> Any:
            return self._value(n.args[i], state, env, stack, memo)

        match n.op:
            case "true":
                return TRUE
            case "false":
                return FALSE
            case "not":
                return value(0) ^ 1
            case "and" | "or":
                stop = FALSE if n.op == "and" else TRUE
                found = []
                for i in range(len(n.args)):
                    found.append(value(i))
                    if found[-1] == stop:
                        return stop
                return c.all(found) if n.op == "and" else c.any(found)
            case "implies":
                left = value(0)
                return TRUE if left == FALSE else c.any([left ^ 1, value(1)])
            case "eq" if self._is_boolean(n.args[0]):
                return c.xor2(value(0), value(1)) ^ 1
            case "eq":
                return self.equal(value(0), value(1))
            case "xor":
                return c.xor2(value(0), value(1))
            case "distinct":
                pairs = itertools.combinations([value(i) for i in range(len(n.args))], 2)
                differ = c.xor2 if self._is_boolean(n.args[0]) else lambda a, b: self.equal(a, b) ^ 1
                return c.all(differ(a, b) for a, b in pairs)
            case "ite":
                condition = value(0)
                if condition in (TRUE, FALSE):
                    return value(1 if condition == TRUE else 2)
                if self._is_boolean(n.args[1]):
                    return c.ite(condition, value(1), value(2))
                return self._choose(condition, value(1), value(2))
            case "var":
                return stack[-1 - n.index]
            case "param" if n.args:
                return self._apply([env[n.name][i] for i in range(len(env[n.name]))], value(0))
            case "param":
                return env[n.name]
            case "state":
                return self._lookup(n.name, [value(i) for i in range(len(n.args))], state)
            case _:
                ranges = [range(self.scope.as_dict()[s]) for s in n.sorts]
                stop, combine = (FALSE, c.all) if n.op == "forall" else (TRUE, c.any)
                found = []
                for chosen in itertools.product(*ranges):
                    found.append(self._value(n.args[0], state, env, stack + chosen, memo))
                    if found[-1] == stop:
                        return stop
                return combine(found)

    def _is_boolean(self, n: Node) -> bool:
        if n.op == "ite":
            return self._is_boolean(n.args[1])
        if n.op == "state":
            return self._boolean[n.name]
        return n.op not in ("var", "param")

    def equal(self, a: Element, b: Element) -> int:
        """The literal that says that two elements of one sort are the same."""
        if isinstance(a, int) and isinstance(b, int):
            return TRUE if a == b else FALSE
        if isinstance(a, int):
            a, b = b, a
        assert isinstance(a, tuple)
        if isinstance(b, int):
            return a[b] if b < len(a) else FALSE
        # A tuple ends where no larger element is possible.
        return self.circuit.any(self.circuit.and2(x, y) for x, y in zip(a, b, strict=False))

    def _choose(self, condition: int, a: Element, b: Element) -> Element:
        if a == b:
            return a
        size = max(len(x) if isinstance(x, tuple) else x + 1 for x in (a, b))
        return tuple(self.circuit.ite(condition, self.equal(a, n), self.equal(b, n)) for n in range(size))

    def _apply(self, table: Sequence[Element], index: Element) -> Element:
        if isinstance(index, int):
            return table[index]
        result: Element = table[0]
        for n, entry in enumerate(table[1:], 1):
            result = self._choose(index[n], entry, result)
        return result

    def _lookup(self, name: str, index: Sequence[Element], state: Cells) -> Any:
        table = self.layout.position[name]
        symbolic = [i for i, x in enumerate(index) if isinstance(x, tuple)]
        if not symbolic:
            return state[table[tuple(index)]]  # type: ignore[arg-type]
        first = symbolic[0]
        chosen = index[first]
        assert isinstance(chosen, tuple)
        parts = []
        for n, selected in enumerate(chosen):
            if selected != FALSE:
                rest = [*index[:first], n, *index[first + 1 :]]
                parts.append((selected, self._lookup(name, rest, state)))
        if self._boolean[name]:
            return self.circuit.any(self.circuit.and2(s, v) for s, v in parts)
        result = parts[0][1]
        for selected, found in parts[1:]:
            result = self._choose(selected, found, result)
        return result

    # Steps

    def _meaningful(self, place: int, state: Cells, memo: dict[Any, Any]) -> int:
        function, index = self.layout.cells[place]
        if function.name not in self._meaning:
            return TRUE
        term, names = self._meaning[function.name]
        env = {**self.constants, **dict(zip(names, index, strict=True))}
        return int(self._value(term, state, env, (), memo))

    def guard(self, rule: Rule, binding: Binding) -> int:
        """The literal of the rule's guard; its parameters may be bound to symbolic elements."""
        env = {**self.constants, **binding}
        found = []
        for conjunct in rule.guard:
            found.append(self._value(node(conjunct), self.state, env, (), self._memo))
            if found[-1] == FALSE:
                return FALSE
        for param in rule.params:
            if param.over is not None:
                for element, chosen in enumerate(binding[param.name]):
                    needed = self._value(
                        node(param.needed), self.state, {**env, param.of.decl().name(): element}, (), self._memo
                    )
                    found.append(self.circuit.any([self.equal(chosen, 0), needed]))
        return self.circuit.all(found)

    def after(self, rule: Rule, binding: Binding) -> Cells:
        """The value of every cell after the step, before cells that do not matter are cleared."""
        env = {**self.constants, **binding}
        after = list(self.state)
        for update in rule.updates:
            ranges = [range(self.scope.size(c.sort())) for c in update.over]
            for chosen in itertools.product(*ranges):
                inner = {**env, **{c.decl().name(): i for c, i in zip(update.over, chosen, strict=True)}}
                self._apply_update(update, inner, after)
        return after

    def _apply_update(self, update: Update, env: Mapping[str, Any], after: Cells) -> None:
        def value(term: Term) -> Any:
            return self._value(node(term), self.state, env, (), self._memo)

        when = value(update.when)
        if when == FALSE:
            return
        index = [value(i) for i in update.index]
        new = value(update.value)
        for at, place in self.layout.position[update.function.name].items():
            hit = self.circuit.all([when, *(self.equal(x, n) for x, n in zip(index, at, strict=True))])
            if hit == FALSE:
                continue
            if update.function.is_bool:
                after[place] = self.circuit.ite(hit, new, after[place])
            elif hit == TRUE:
                after[place] = new
            else:
                after[place] = self._choose(hit, new, after[place])

    def next_bits(self, after: Cells) -> tuple[tuple[int, int], ...]:
        """(bit, literal) for every bit that differs from its present value once meaningless cells are cleared."""
        memo: dict[Any, Any] = {}
        changed = []
        for place, (function, _) in enumerate(self.layout.cells):
            meaningful = self._meaningful(place, after, memo)
            # A state keeps meaningless cells cleared, so what matters as before and is not written stays as it is.
            if after[place] is self.state[place] and meaningful == self.meaningful_now[place]:
                continue
            start, width = self.bit_of_cell[place]
            for i, literal in enumerate(self._encode(function.is_bool, after[place], width)):
                cleared = self.circuit.and2(literal, meaningful)
                if cleared != self.inputs[start + i]:
                    changed.append((start + i, cleared))
        return tuple(changed)

    def steps(self) -> list[GroundedStep]:
        """Every rule instance that can be enabled, with concrete parameters."""
        found = []
        for rule in self.system.rules:
            for instance in instances(rule, self.scope):
                guard = self.guard(rule, instance.as_dict)
                if guard != FALSE:
                    bits = self.next_bits(self.after(rule, instance.as_dict))
                    found.append(GroundedStep(instance, guard, bits))
        return found

    def initial(self) -> int:
        """The packed initial state."""
        return self.pack(Interpreter(self.system, self.scope).initial())
