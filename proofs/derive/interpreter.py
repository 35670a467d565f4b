"""The reference interpreter: evaluates the terms directly over one concrete state. The oracle of every other engine."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import z3

from model.logic import (
    ModelError,
    Param,
    Rule,
    Scope,
    StateFunction,
    System,
    Term,
    initial_value,
    key_of,
    name_of,
    names_in,
)
from proofs.derive.terms import Node, node
from proofs.errors import EngineError

State = tuple[int, ...]
"""One value per cell, in the order of the layout: 0 or 1 for Bool, an element's number for a sort."""
Value = Any
Binding = Mapping[str, Any]
"""Parameter name to element number; for a function parameter, to a tuple of them."""
Evaluator = Callable[[State, Binding, tuple[int, ...]], Value]


@dataclass(frozen=True)
class Instance:
    """A rule with its parameters bound: one possible step."""

    rule: Rule
    binding: tuple[tuple[str, Any], ...]

    @functools.cached_property
    def as_dict(self) -> dict[str, Any]:
        return dict(self.binding)


class Plan(NamedTuple):
    """A rule ready for evaluation: its guard's conjuncts, and for each update the cells of its function, the names and
    ranges of the constants that it is over, and when, index and value."""

    rule: Rule
    guard: tuple[Evaluator, ...]
    updates: tuple[
        tuple[
            StateFunction, dict[tuple[int, ...], int], tuple[str, ...], tuple[range, ...], Evaluator,
            tuple[Evaluator, ...], Evaluator,
        ], ...
    ]


class Layout:
    """Where each cell of each state function lies in a State, for one system and scope."""

    def __init__(self, functions: tuple[StateFunction, ...], scope: Scope) -> None:
        self.functions = functions
        self.scope = scope
        self.cells: list[tuple[StateFunction, tuple[int, ...]]] = []
        self.position: dict[str, dict[tuple[int, ...], int]] = {}
        for function in functions:
            ranges = [range(scope.size(s)) for s in function.domain]
            table = self.position[function.name] = {}
            for index in itertools.product(*ranges):
                table[index] = len(self.cells)
                self.cells.append((function, index))

    def has(self, function: StateFunction) -> bool:
        """The system has it."""
        return function.name in self.position

    def place(self, function: StateFunction, *index: int) -> int:
        """Where that cell lies in a State."""
        return self.position[function.name][index]

    def values(self, function: StateFunction) -> int:
        """How many values a cell of that function has."""
        return 2 if function.is_bool else self.scope.size(function.range)


@functools.lru_cache(1024)
def _evaluators(functions: tuple[z3.FuncDeclRef, ...], scope: Scope) -> dict[int, tuple[Node, Evaluator]]:
    """Node to itself and its evaluator, for all interpreters whose states are laid out alike."""
    return {}


_UpdateTree = tuple[StateFunction, list[str], list[str], Node, list[Node], Node]
"""An update's function, the names and sorts of the constants that it is over; when, index and value."""


class _Trees:
    """The terms of one system as trees, read once for all scopes."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.rules: dict[int, tuple[Rule, list[Node], list[_UpdateTree]]] = {}

    @functools.cached_property
    def kept(self) -> list[tuple[str, list[str], Node]]:
        """Of each function whose cells do not always matter: its name, those of its index, and when they do."""
        found = ((f.name, *self.system.kept_where(f)) for f in self.system.functions)
        return [
            (name, _names(bound), node(self.system.reduced(term))) for name, bound, term in found if term is not None
        ]

    def of(self, rule: Rule) -> tuple[list[Node], list[_UpdateTree]]:
        """Its guard and updates."""
        if id(rule) not in self.rules:
            def tree(term: Term) -> Node:
                return node(self.system.reduced(term))

            # The rule is held, so that its id stays its own.
            self.rules[id(rule)] = (rule, [tree(g) for g in rule.guard], [
                (
                    u.function, _names(u.over), [name_of(c.sort()) for c in u.over], tree(u.when),
                    [tree(i) for i in u.index], tree(u.value),
                ) for u in rule.updates
            ])
        return self.rules[id(rule)][1:]


_trees: dict[int, _Trees] = {}


def _trees_of(system: System) -> _Trees:
    """One for each system: it holds the system, so the id stays its own."""
    if id(system) not in _trees:
        if len(_trees) == 256:
            _trees.clear()
        _trees[id(system)] = _Trees(system)
    return _trees[id(system)]


def _names(constants: Iterable[Term]) -> list[str]:
    return [name_of(c) for c in constants]


class Interpreter:
    """Direct evaluation of one system in one scope."""

    def __init__(self, system: System, scope: Scope) -> None:
        self.system = system
        self.scope = scope
        self.layout = Layout(system.functions, scope)
        self.constants = dict.fromkeys(_names(system.constants), 0)
        self._trees = _trees_of(system)
        self._compiled = _evaluators(tuple(f.decl for f in system.functions), scope)
        self._plans: dict[int, Plan] = {}
        self._orders: dict[int, list[tuple[str, list[Any], list[Evaluator]]]] = {}
        self._evaluated: dict[Hashable, tuple[Term, Evaluator]] = {}
        self._meaning = [
            (place, self._compile(tree), {**self.constants, **dict(zip(bound, index, strict=True))})
            for function, bound, tree in self._trees.kept
            for index, place in self.layout.position[function].items()
        ]

    # Evaluation

    def evaluate(self, term: Term, state: State, binding: Binding | None = None) -> Value:
        """The value of a term: bool for Bool, an element number for a sort."""
        key = key_of(term)
        if key not in self._evaluated:
            # The term is held, so that its key stays its own.
            self._evaluated[key] = term, self._compile(node(self.system.reduced(term)))
        return self._evaluated[key][1](state, {**self.constants, **(binding or {})}, ())

    def _compile(self, n: Node) -> Evaluator:
        if id(n) in self._compiled:
            return self._compiled[id(n)][1]
        evaluator = self._make(n)
        self._compiled[id(n)] = (n, evaluator)
        return evaluator

    def _make(self, n: Node) -> Evaluator:
        args = [self._compile(a) for a in n.args]
        match n.op:
            case "true":
                return lambda state, env, stack: True
            case "false":
                return lambda state, env, stack: False
            case "not":
                return lambda state, env, stack: not args[0](state, env, stack)
            case "and" | "or":
                return _joined(args, n.op == "or")
            case "implies":
                return lambda state, env, stack: not args[0](state, env, stack) or args[1](state, env, stack)
            case "eq":
                return lambda state, env, stack: args[0](state, env, stack) == args[1](state, env, stack)
            case "xor":
                return lambda state, env, stack: args[0](state, env, stack) != args[1](state, env, stack)
            case "distinct":
                def distinct(state: State, env: Binding, stack: tuple[int, ...]) -> bool:
                    values = [a(state, env, stack) for a in args]
                    return len(set(values)) == len(values)

                return distinct
            case "ite":
                return lambda state, env, stack: (
                    args[1](state, env, stack) if args[0](state, env, stack) else args[2](state, env, stack)
                )
            case "var":
                place = -1 - n.index
                return lambda state, env, stack: stack[place]
            case "param":
                name = n.name
                if len(args) > 1:
                    return lambda state, env, stack: env[name][tuple(a(state, env, stack) for a in args)]
                if args:
                    return lambda state, env, stack: env[name][args[0](state, env, stack)]
                return lambda state, env, stack: env[name]
            case "state":
                return self._state(n.name, args)
            case _:
                return self._quantifier(n, args[0])

    def _state(self, name: str, args: list[Evaluator]) -> Evaluator:
        if name not in self.layout.position:
            raise ModelError(f"state function {name} is not part of this system")
        table = self.layout.position[name]
        made = bool if next(f.is_bool for f in self.layout.functions if f.name == name) else int
        if len(args) == 1:
            places, of = [table[i,] for i in range(len(table))], args[0]
            return lambda state, env, stack: made(state[places[of(state, env, stack)]])
        if len(args) == 2:
            one, other = args
            rows = [[place for _, place in row] for _, row in itertools.groupby(table.items(), lambda cell: cell[0][0])]
            return lambda state, env, stack: made(state[rows[one(state, env, stack)][other(state, env, stack)]])
        return lambda state, env, stack: made(state[table[tuple(a(state, env, stack) for a in args)]])

    def _quantifier(self, n: Node, body: Evaluator) -> Evaluator:
        sizes = self.scope.as_dict()
        elements = tuple(itertools.product(*(range(sizes[s]) for s in n.sorts)))
        ends = n.op == "exists"

        def run(state: State, env: Binding, stack: tuple[int, ...]) -> bool:
            for chosen in elements:
                if body(state, env, stack + chosen) == ends:
                    return ends
            return not ends

        return run

    def counterexample(self, formula: Term, state: State) -> dict[str, int] | None:
        """For a universal formula that is false: the values of its outer variables that make it so."""
        formula = self.system.reduced(formula)
        n = node(formula)
        if n.op != "forall":
            return None
        body = self._compile(n.args[0])
        names = [formula.var_name(i) for i in range(formula.num_vars())]
        for chosen in itertools.product(*(range(self.scope.as_dict()[s]) for s in n.sorts)):
            if not body(state, self.constants, chosen):
                return dict(zip(names, chosen, strict=True))
        return None

    # States and steps

    def initial(self) -> State:
        """The initial state."""
        return self._initial

    @functools.cached_property
    def _initial(self) -> State:
        state = [0] * len(self.layout.cells)
        for function in self.system.functions:
            bound, term = initial_value(function)
            if term is None:
                continue
            for index, place in self.layout.position[function.name].items():
                binding = dict(zip(_names(bound), index, strict=True))
                state[place] = int(self.evaluate(term, (), binding))
        return self.canonical(tuple(state))

    def canonical(self, state: State) -> State:
        """The state with every cell that does not matter at its default."""
        cleared = list(state)
        for place, evaluate, env in self._meaning:
            if state[place] and not evaluate(state, env, ()):
                cleared[place] = 0
        return tuple(cleared)

    def _plan(self, rule: Rule) -> Plan:
        if id(rule) not in self._plans:
            guard, updates = self._trees.of(rule)
            sizes = self.scope.as_dict()
            self._plans[id(rule)] = Plan(rule, tuple(map(self._compile, guard)), tuple(
                (
                    function, self.layout.position[function.name], tuple(names), tuple(range(sizes[s]) for s in sorts),
                    self._compile(when), tuple(map(self._compile, index)), self._compile(value),
                ) for function, names, sorts, when, index, value in updates
            ))
        return self._plans[id(rule)]

    def enabled(self, instance: Instance, state: State) -> bool:
        """All guard conjuncts hold."""
        env = {**self.constants, **instance.as_dict}
        return all(conjunct(state, env, ()) for conjunct in self._plan(instance.rule).guard)

    def forbidding(self, instance: Instance, state: State, most: int) -> list[int]:
        """Numbers of the guard's conjuncts that do not hold, the first so many."""
        env = {**self.constants, **instance.as_dict}
        guard = self._plan(instance.rule).guard
        return list(itertools.islice((n for n, holds in enumerate(guard) if not holds(state, env, ())), most))

    def step(self, instance: Instance, state: State) -> State:
        """The state after the step. Raises ModelError if the rule gives one cell two values."""
        written: dict[int, int] = {}
        for function, table, names, ranges, when, index, value_of in self._plan(instance.rule).updates:
            for chosen in itertools.product(*ranges):
                env = {**self.constants, **instance.as_dict, **dict(zip(names, chosen, strict=True))}
                if not when(state, env, ()):
                    continue
                place = table[tuple(i(state, env, ()) for i in index)]
                value = int(value_of(state, env, ()))
                if written.setdefault(place, value) != value:
                    raise ModelError(f"rule {instance.rule.name} gives {function.name} two values at once")
        after = list(state)
        for place, value in written.items():
            after[place] = value
        return self.canonical(tuple(after))

    def instances(self, rule: Rule) -> Iterator[Instance]:
        """Every binding of the rule's parameters in the scope."""
        yield from instances(rule, self.scope)

    def canonical_choice(self, instance: Instance, state: State) -> bool:
        """Function parameters have their default wherever their value does not matter, so no step is counted twice."""
        for param in instance.rule.params:
            if param.over is None:
                continue
            of = name_of(param.of)
            for element, value in enumerate(instance.as_dict[param.name]):
                if value and not self.evaluate(param.needed, state, {**instance.as_dict, of: element}):
                    return False
        return True

    def successors(self, state: State) -> Iterator[tuple[Instance, State]]:
        """Every step that the rules allow from the state, in rule order."""
        for rule in self.system.rules:
            for instance in self._enabled_instances(rule, state):
                if self.canonical_choice(instance, state):
                    yield instance, self.step(instance, state)

    def _enabled_instances(self, rule: Rule, state: State) -> Iterator[Instance]:
        """The bindings of `instances` with which all guard conjuncts hold. Each is looked at as soon as the parameters
        that it speaks of are bound, so that the others are bound only where it holds."""
        partial: list[dict[str, Any]] = [self.constants]
        for name, values, conjuncts in self._order(rule):
            extended = ({**env, name: value} for env in partial for value in values) if name else partial
            partial = [env for env in extended if all(conjunct(state, env, ()) for conjunct in conjuncts)]
        for env in partial:
            yield Instance(rule, tuple((p.name, env[p.name]) for p in rule.params))

    def _order(self, rule: Rule) -> list[tuple[str, list[Any], list[Evaluator]]]:
        """Without a name the conjuncts that speak of no parameter; then each parameter, its values, and the conjuncts
        that speak of it and of none after it."""
        if id(rule) not in self._orders:
            order: list[tuple[str, list[Any], list[Evaluator]]] = [
                ("", [], []), *((p.name, _choices(p, self.scope), []) for p in rule.params)
            ]
            for term, conjunct in zip(rule.guard, self._plan(rule).guard, strict=True):
                names = names_in(term)
                last = max((n for n, p in enumerate(rule.params, 1) if p.name in names), default=0)
                order[last][2].append(conjunct)
            self._orders[id(rule)] = order
        return self._orders[id(rule)]

    def follow(self, states: Sequence[State], represent: Callable[[State], State]) -> tuple[Instance, ...]:
        """The steps of an engine's path, which gives only `represent` of each state after the first.

        Raises EngineError if the rules have no such path.
        """
        state, path = states[0], []
        for target in states[1:]:
            step = next(((i, after) for i, after in self.successors(state) if represent(after) == target), None)
            if step is None:
                raise EngineError("an engine took a step that the reference interpreter does not have")
            path.append(step[0])
            state = step[1]
        return tuple(path)


def instances(rule: Rule, scope: Scope) -> Iterator[Instance]:
    """Every binding of the rule's parameters in the scope."""
    choices = [_choices(p, scope) for p in rule.params]
    for chosen in itertools.product(*choices):
        yield Instance(rule, tuple((p.name, c) for p, c in zip(rule.params, chosen, strict=True)))


def _choices(param: Param, scope: Scope) -> list[Any]:
    elements = range(scope.size(param.sort))
    if param.over is None:
        return list(elements)
    return list(itertools.product(elements, repeat=scope.size(param.over)))


def _joined(args: Sequence[Evaluator], ends: bool) -> Evaluator:
    """The conjunction, where one that is false `ends` it, or the disjunction, where one that holds does."""

    def join(state: State, env: Binding, stack: tuple[int, ...]) -> bool:
        for argument in args:
            if argument(state, env, stack) == ends:
                return ends
        return not ends

    return join


_interpreters: dict[tuple[int, Scope], Interpreter] = {}


def interpreter_of(system: System, scope: Scope) -> Interpreter:
    """One interpreter per system and scope: it holds the system, so the id stays its own."""
    key = (id(system), scope)
    if key not in _interpreters:
        if len(_interpreters) == 2048:
            _interpreters.clear()
        _interpreters[key] = Interpreter(system, scope)
    return _interpreters[key]
