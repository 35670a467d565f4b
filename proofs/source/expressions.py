"""What C expressions come to on a path, by a vocabulary.

Callees that the vocabulary does not know are followed if they are small and found in the tree. Whatever else is met has
a value of its own for each visit, about which nothing is assumed, and is remembered with its line.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import z3

from proofs.clock import look, seconds_left
from proofs.source.csource import CFunction, Node, NotRead, Tree, decided, text_of
from proofs.source.values import UNKNOWN, Event, Flags, State, Term, Thing, Value, equal, number, text, truth

MOST_PATHS = 4000
_SAME = {"likely", "unlikely", "data_race", "READ_ONCE", "lockdep_assert_held", "ACCESS_ONCE"}
ASSERTS = re.compile(
    r"(VM_)?(WARN|BUG)(_ON)?(_\w+)?|BUILD_BUG\w*|lockdep_\w+|might_\w+|(mmap|vma)_assert_\w+"
)
"""Calls that are assertions, which nobody believes here."""
_CONSTANT = re.compile(r"_*[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Vocabulary:
    """What C means, for one decision.

    words: regular expressions of expressions, whole, and their values, or functions of the match and the world.
    effects: calls, by name or with their arguments, and what the world is afterwards. events: calls that are
    remembered. stops: calls with which a path ends. inert: calls without effect on the world. renamed: names that
    other versions have for one thing. start, facts: the world at first, and what holds of its terms. once: loops have
    one round, with which the path ends: what is asked is decided for one PTE, or one page of a list.
    """

    words: Sequence[tuple[str, Any]]
    effects: dict[str, Callable[[dict[str, Value]], dict[str, Value]]] = field(default_factory=dict)
    events: frozenset[str] = frozenset()
    stops: frozenset[str] = frozenset()
    inert: str = ""
    renamed: dict[str, str] = field(default_factory=dict)
    start: dict[str, Value] = field(default_factory=dict)
    facts: tuple[Term, ...] = ()
    once: bool = False


class Expressions(ABC):
    """Evaluates expressions of a tree's functions. `seen`: what each unknown constant stands for; `functions`: those
    that were followed, and where they are."""

    def __init__(self, tree: Tree, vocabulary: Vocabulary) -> None:
        self.tree, self.vocabulary = tree, vocabulary
        self.seen: dict[str, str] = {}
        self.functions: dict[str, str] = {}
        self._words = [(re.compile(pattern), value) for pattern, value in vocabulary.words]
        self._known: dict[str, Any] = {}
        self._inert = re.compile(vocabulary.inert or r"(?!)")
        self._solver = z3.Solver()
        self._solver.add(*vocabulary.facts)
        self._feasible: dict[Any, tuple[bool, tuple[Term, ...]]] = {}
        self._stack: list[CFunction] = []
        self._count = 0

    # Places, names, conditions

    def _place(self, node: Node) -> str:
        return self._stack[-1].place(node)

    def _renamed(self, name: str) -> str:
        return self.vocabulary.renamed.get(name, name)

    def _unknown(self, what: str, node: Node, state: State, known_as: str | None = None) -> tuple[Thing, State]:
        """A value of its own for this visit of this place."""
        place = self._place(node)
        symbol, state = state.visited(f"{what}@{place}:{node.start_point[1]}")
        self.seen[UNKNOWN + symbol] = f"{' '.join(text_of(node).split())[:70]} at {place}"
        return Thing(known_as if known_as is not None else what, symbol, place, null=True), state

    def _possible(self, state: State, condition: Term) -> bool:
        if z3.is_true(condition):
            return True
        if z3.is_false(condition):
            return False
        key = (*(c.get_id() for c in state.conditions), condition.get_id())
        if key not in self._feasible:
            look()
            if (left := seconds_left()) is not None:
                self._solver.set("timeout", max(1, int(1000 * left)))
            self._solver.push()
            self._solver.add(*state.conditions, condition)
            # The terms are kept with it: z3 gives the numbers of terms that are gone to others.
            self._feasible[key] = self._solver.check() != z3.unsat, (*state.conditions, condition)
            self._solver.pop()
        return self._feasible[key][0]

    def _split(self, value: Value, state: State) -> list[tuple[bool, State]]:
        """The ways a condition can turn out, each with its state."""
        look()
        condition = z3.simplify(truth(value))
        if z3.is_true(condition) or z3.is_false(condition):
            return [(z3.is_true(condition), state)]
        ways = []
        for outcome, term in ((True, condition), (False, z3.Not(condition))):
            if self._possible(state, term):
                ways.append((outcome, state.where(term)))
        self._count += 1
        if self._count > MOST_PATHS:
            raise NotRead(f"{self._stack[0].name} has more than {MOST_PATHS} paths")
        return [(ways[0][0], state)] if len(ways) == 1 else ways

    def _word(self, known_as: str, state: State) -> Any:
        """The vocabulary's value for an expression, None if it has none."""
        if known_as not in self._known:
            self._known[known_as] = next(
                ((m, value) for pattern, value in self._words if (m := pattern.fullmatch(known_as))), None
            )
        found = self._known[known_as]
        if found is None:
            return None
        match, value = found
        return value(match, state.world) if callable(value) else value

    # Expressions: each gives the values it may have, with the state after it

    def eval(self, node: Node, state: State) -> list[tuple[Value, State]]:
        """The values that an expression may have, each with the state afterwards."""
        if state.stopped:
            return [(0, state)]
        handler = getattr(self, f"_eval_{node.type}", None)
        if handler is not None:
            found: list[tuple[Value, State]] = handler(node, state)
            return found
        if node.type == "ERROR" or node.is_missing:
            raise NotRead(f"does not parse at {self._place(node)}")
        return [self._unknown(node.type, node, state)]

    def _eval_number_literal(self, node: Node, state: State) -> list[tuple[Value, State]]:
        digits = re.sub("[uUlL]+$", "", text_of(node))
        octal = re.fullmatch("0[0-7]+", digits)
        return [(int(digits, 8 if octal else 0), state)]

    def _eval_true(self, node: Node, state: State) -> list[tuple[Value, State]]:
        return [(True, state)]

    def _eval_false(self, node: Node, state: State) -> list[tuple[Value, State]]:
        return [(False, state)]

    def _eval_null(self, node: Node, state: State) -> list[tuple[Value, State]]:
        return [(0, state)]

    def _eval_parenthesized_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        return self.eval(node.named_children[0], state)

    def _eval_cast_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        return self.eval(node.child_by_field_name("value"), state)

    def _eval_identifier(self, node: Node, state: State) -> list[tuple[Value, State]]:
        name = text_of(node)
        if name in state.locals:
            return [(state.locals[name], state)]
        known_as = self._renamed(name)
        if (word := self._word(known_as, state)) is not None:
            return [(word, state)]
        if name == "NULL":
            return [(0, state)]
        if _CONSTANT.fullmatch(name):
            return [(Flags("", frozenset([known_as])), state)]
        return [self._unknown(name, node, state)]

    def _eval_comma_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        return [r for _, s in self.eval(node.named_children[0], state) for r in self.eval(node.named_children[-1], s)]

    def _eval_unary_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        operator, argument = text_of(node.children[0]), node.child_by_field_name("argument")
        found: list[tuple[Value, State]] = []
        for value, after in self.eval(argument, state):
            if operator == "!":
                found.append((z3.simplify(z3.Not(truth(value))), after))
            elif operator == "-" and isinstance(value, Flags) and not value.base:
                found.append((Flags("", frozenset(f"-{name}" for name in value.names)), after))
            elif operator == "-":
                found.append((-value if isinstance(value, int) else -number(value), after))
            elif operator == "+":
                found.append((value, after))
            else:
                found.append(self._unknown(f"{operator}{text(value)}", node, after))
        return found

    def _eval_binary_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        operator = text_of(node.child_by_field_name("operator"))
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if operator in ("&&", "||"):
            return self._both(left, right, operator == "&&", state)
        if operator == "&":
            return self._bits(left, right, node, state)
        found = []
        for a, between in self.eval(left, state):
            for b, after in self.eval(right, between):
                found.append(self._operated(operator, a, b, node, after))
        return found

    def _operated(self, operator: str, a: Value, b: Value, node: Node, state: State) -> tuple[Value, State]:
        if operator in ("+", "-") and isinstance(a, Thing) and isinstance(b, int):
            if b == 0:
                return a, state
            if (word := self._word(f"{text(a)}{operator}{b}", state)) is not None:
                return word, state
        if operator in ("==", "!="):
            if all(isinstance(x, Flags) and not x.base for x in (a, b)) and a != b and _siblings(a, b):
                return operator == "!=", state
            result = z3.simplify(equal(a, b))
            return (result if operator == "==" else z3.simplify(z3.Not(result))), state
        if operator == "|":
            if all(isinstance(x, Flags) and not x.base for x in (a, b)):
                return Flags("", a.names | b.names), state
            for x, y in ((a, b), (b, a)):
                if isinstance(x, int) and x == 0:
                    return y, state
        elif operator in _ARITHMETIC:
            a, b = _below_zero(a), _below_zero(b)
            if isinstance(a, int) and isinstance(b, int):
                return _ARITHMETIC[operator](int(a), int(b)), state
            return z3.simplify(_ARITHMETIC[operator](number(a), number(b))), state
        known_as = f"{text(a)}{operator}{text(b)}"
        word = self._word(known_as, state)
        return (word, state) if word is not None else self._unknown(known_as, node, state)

    def _both(self, left: Node, right: Node, conjunction: bool, state: State) -> list[tuple[Value, State]]:
        """`&&` and `||`: the right side is evaluated where it counts only."""
        found: list[tuple[Value, State]] = []
        for a, between in self.eval(left, state):
            ways = self._split(a, between)
            kept = next((s for outcome, s in ways if outcome == conjunction), None)
            done = next((s for outcome, s in ways if outcome != conjunction), None)
            if kept is None:
                found.append((not conjunction, done or between))
                continue
            rights = [(truth(b), after) for b, after in self.eval(right, kept)]
            if done is None:
                found += rights
            elif len(rights) == 1 and rights[0][1].like(between):
                whole = z3.And(truth(a), rights[0][0]) if conjunction else z3.Or(truth(a), rights[0][0])
                found.append((z3.simplify(whole), replace(between, visits=rights[0][1].visits)))
            else:
                found.append((not conjunction, done))
                found += rights
        return found

    def _bits(self, left: Node, right: Node, node: Node, state: State) -> list[tuple[Value, State]]:
        found: list[tuple[Value, State]] = []
        for a, between in self.eval(left, state):
            for b, after in self.eval(right, between):
                x, y, place = (a, b, left) if not isinstance(a, Flags) or a.base else (b, a, right)
                if not isinstance(y, Flags) or y.base or isinstance(x, Flags):
                    known_as = f"{text(a)}&{text(b)}"
                    word = self._word(known_as, after)
                    found.append((word, after) if word is not None else self._unknown(known_as, node, after))
                    continue
                key, bits = self._key(place, after), []
                for name in sorted(y.names):
                    bit, after = self._bit(key, x, name, node, after)  # noqa: PLW2901
                    bits.append((name, bit))
                found.append((Flags(text(x), y.names, tuple(bits)), after))
        return found

    def _bit(self, key: tuple[str, bool] | None, value: Value, name: str, node: Node, state: State
             ) -> tuple[Term, State]:
        """One bit of a set of flags: as it was set one by one, or as the vocabulary has it."""
        if key is not None and (said := (state.locals if key[1] else state.memory).get(f"{key[0]}&{name}")) is not None:
            return truth(said), state
        base = text(value)
        if (said := state.memory.get(f"{base}&{name}")) is not None:
            return truth(said), state
        if isinstance(value, int) and value == 0:
            return z3.BoolVal(False), state
        if (word := self._word(f"{base}&{name}", state)) is not None:
            return truth(word), state
        thing, state = self._unknown(f"{base}&{name}", node, state)
        return truth(thing), state

    def _eval_conditional_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        found: list[tuple[Value, State]] = []
        for value, between in self.eval(node.child_by_field_name("condition"), state):
            for outcome, chosen in self._split(value, between):
                side = node.child_by_field_name("consequence" if outcome else "alternative")
                found += [(value, chosen)] if side is None else self.eval(side, chosen)
        return found

    # Places in memory

    def _key(self, node: Node, state: State) -> tuple[str, bool] | None:
        """The name of what can be assigned, and whether it is a local variable; None if it is no such thing."""
        if node.type == "parenthesized_expression":
            return self._key(node.named_children[0], state)
        if node.type == "identifier":
            return text_of(node), True
        if node.type in ("field_expression", "pointer_expression", "subscript_expression"):
            inner = node.child_by_field_name("argument")
            values = self.eval(inner, state)
            base = text(values[0][0]) if len(values) == 1 else text_of(inner)
            if node.type == "field_expression":
                name = text_of(node.child_by_field_name("field"))
                if base.startswith("&"):
                    return f"{base[1:]}.{name}", False
                return f"{base}{text_of(node.child_by_field_name('operator'))}{name}", False
            if node.type == "pointer_expression":
                return (base[1:] if base.startswith("&") else f"*{base}"), False
            return f"{base}[{text_of(node.named_children[-1])}]", False
        return None

    def _read(self, node: Node, state: State) -> list[tuple[Value, State]]:
        key = self._key(node, state)
        assert key is not None
        if key[0] in state.memory:
            return [(state.memory[key[0]], state)]
        if (word := self._word(key[0], state)) is not None:
            return [(word, state)]
        return [self._unknown(key[0], node, state)]

    _eval_field_expression = _eval_subscript_expression = _read

    def _eval_pointer_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        if not text_of(node).startswith("&"):
            return self._read(node, state)
        inner = node.child_by_field_name("argument")
        key = self._key(inner, state)
        known_as = f"&{key[0] if key else text_of(inner)}"
        word = self._word(known_as, state)
        return [(Thing(known_as) if word is None else word, state)]

    def _eval_assignment_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        left, operator = node.child_by_field_name("left"), text_of(node.child_by_field_name("operator"))
        right = node.child_by_field_name("right")
        found: list[tuple[Value, State]] = []
        if operator in ("|=", "&=") and (masked := self._set_bits(left, operator, right, state)) is not None:
            return masked
        for value, after in self.eval(right, state):
            new = value
            key = self._key(left, after)
            if operator != "=":
                old, after = self.eval(left, after)[0]  # noqa: PLW2901
                new, after = self._operated(operator[:-1], old, value, node, after)  # noqa: PLW2901
            found.append((new, self._assigned(key, new, after)))
        return found

    def _assigned(self, key: tuple[str, bool] | None, value: Value, state: State) -> State:
        if key is None:
            return state
        name, is_local = key
        return state.sets(name, value, is_local or name in state.locals)

    def _set_bits(self, left: Node, operator: str, right: Node, state: State) -> list[tuple[Value, State]] | None:
        """`x |= A | B` and `x &= ~A`: those bits are known from now on."""
        while right.type == "parenthesized_expression":
            right = right.named_children[0]
        if operator == "&=":
            if right.type != "unary_expression" or not text_of(right).startswith("~"):
                return None
            right = right.child_by_field_name("argument")
        ((mask, state), *more), key = self.eval(right, state), self._key(left, state)
        if more or not isinstance(mask, Flags) or mask.base or key is None:
            return None
        where = dict(state.locals if key[1] else state.memory)
        where |= {f"{key[0]}&{name}": operator == "|=" for name in mask.names}
        return [(mask, replace(state, locals=where) if key[1] else replace(state, memory=where))]

    def _eval_update_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        argument = node.child_by_field_name("argument")
        old, after = self.eval(argument, state)[0]
        step = 1 if "++" in text_of(node) else -1
        following = self._word(f"{text(old)}{'+' if step > 0 else '-'}1", after)
        if isinstance(old, int):
            new: Value = int(old) + step
        elif following is not None:
            new = following
        else:
            new, after = self._unknown(text(old), node, after)
        prefix = node.children[0].type in ("++", "--")
        return [(new if prefix else old, self._assigned(self._key(argument, after), new, after))]

    # Calls

    def _eval_call_expression(self, node: Node, state: State) -> list[tuple[Value, State]]:
        function = node.child_by_field_name("function")
        name = self._renamed(text_of(function))
        nodes = [c for c in node.child_by_field_name("arguments").named_children if c.type != "comment"]
        if name in _SAME and nodes:
            return self.eval(nodes[0], state)
        if ASSERTS.fullmatch(name):
            # An assertion is not believed; what WARN_ON says is what its condition is.
            return self.eval(nodes[0], state) if "WARN_ON" in name and node.parent.type != "expression_statement" \
                and nodes else [(False, state)]
        if name in ("IS_ENABLED", "IS_DEFINED") and (said := decided(nodes[0], self.tree.config)) is not None:
            return [(said, state)]
        if function.type != "identifier":
            return self._opaque(text_of(function), node, state)
        found: list[tuple[Value, State]] = []
        for values, after in self._arguments(nodes, state):
            for value, done in self._called(name, text_of(function), values, node, after):
                found.append((value, self._written(name, nodes, node, done)))
        return found

    def _written(self, name: str, nodes: Sequence[Node], node: Node, state: State) -> State:
        """After a call that was given addresses of variables: they hold what the vocabulary says, or anything."""
        for each in nodes:
            if each.type == "pointer_expression" and text_of(each).startswith("&"):
                variable = text_of(each.child_by_field_name("argument"))
                if variable in state.locals and not isinstance(state.locals[variable], Flags):
                    value = self._word(f"{name}:{variable}", state)
                    if value is None:
                        value, state = self._unknown(f"{variable} after {name}", node, state, variable)
                    state = state.sets(variable, value, True)
        return state

    def _arguments(self, nodes: Sequence[Node], state: State) -> list[tuple[list[Value], State]]:
        lists: list[tuple[list[Value], State]] = [([], state)]
        for each in nodes:
            lists = [([*values, value], after) for values, before in lists for value, after in self.eval(each, before)]
        return lists

    def _told(self, nodes: Sequence[Node], values: Sequence[Value], state: State) -> tuple[str, ...]:
        """The arguments in words, with the bits that were set in them one by one."""
        told = []
        for node, value in zip(nodes, values, strict=True):
            key = self._key(node, state) if node.type in ("identifier", "field_expression") else None
            where = (state.locals if key[1] else state.memory) if key else {}
            bits = [n.partition("&")[2] for n, v in where.items() if key and n.startswith(f"{key[0]}&") and v is True]
            told.append("|".join([text(value), *sorted(bits)]))
        return tuple(told)

    def _called(
        self, name: str, written: str, values: list[Value], node: Node, state: State
    ) -> list[tuple[Value, State]]:
        vocabulary = self.vocabulary
        nodes = [c for c in node.child_by_field_name("arguments").named_children if c.type != "comment"]
        known_as = f"{name}({','.join(text(v) for v in values)})"
        if name in vocabulary.events or name in vocabulary.stops:
            event = Event(name, self._place(node), self._told(nodes, values, state))
            state = replace(state, events=(*state.events, event))
            if name in vocabulary.stops:
                return [(0, replace(state, stopped=name))]
        word = self._word(known_as, state)
        if (effect := vocabulary.effects.get(known_as, vocabulary.effects.get(name))) is not None:
            state = replace(state, world=effect(dict(state.world)))
            return [(0 if word is None else word, state)]
        if word is not None:
            return [(word, state)]
        if self._inert.fullmatch(name) or name in vocabulary.events:
            return [self._unknown(known_as, node, state, known_as)]
        followed = self._followed(name, written, values, state)
        return followed if followed is not None else self._opaque(known_as, node, state, name)

    def _opaque(self, known_as: str, node: Node, state: State, name: str = "") -> list[tuple[Value, State]]:
        """A call of which nothing is known: it may do anything."""
        event = Event(name or known_as, self._place(node), unknown=True)
        return [self._unknown(known_as, node, replace(state, events=(*state.events, event)))]

    @abstractmethod
    def _followed(self, name: str, written: str, values: list[Value], state: State) -> list[tuple[Value, State]] | None:
        """The ways through a callee; None if it cannot be followed."""


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b, ">": lambda a, b: a > b, ">=": lambda a, b: a >= b,
}


def _below_zero(value: Value) -> Value:
    """-1 for an error such as -EAGAIN, of which no more counts than that it is below zero."""
    return -1 if isinstance(value, Flags) and any(name.startswith("-E") for name in value.names) else value


def _siblings(a: Flags, b: Flags) -> bool:
    """Two constants of one enumeration, which differ as their names do."""
    ((x,), (y,)) = sorted(a.names)[:1], sorted(b.names)[:1]
    return x.rpartition("_")[0] == y.rpartition("_")[0] != ""
