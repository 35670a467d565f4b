"""Each operator means the same to the interpreter, to the circuit and to z3 itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator import Simulation
from z3 import And, Distinct, If, Implies, Not, Or, Xor

from model.logic import Scope, StateFunction, System, exists, folded, forall, names_in, register
from model.state import CONSTANTS, Bool, Frame, Page, Proc
from proofs.derive.circuit import FALSE, TRUE, Circuit
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import Interpreter, State
from proofs.derive.terms import node

# Three frames need two bits each, of which one value is none of them.
SCOPE = Scope.of(Proc=2, Page=2, Frame=3)
marked = StateFunction("test_marked", (Frame,), Bool, "a Bool of one element")
seen = StateFunction("test_seen", (Proc, Page), Bool, "a Bool of two elements")
frame_of = StateFunction("test_frame_of", (Proc, Page), Frame, "an element of two")
next_to = StateFunction("test_next_to", (Frame,), Frame, "an element of its own sort, for nested applications")
FUNCTIONS = (marked, seen, frame_of, next_to)
register(FUNCTIONS)
SYSTEM = System("test", FUNCTIONS, (), ())

p, q = z3.Consts("p q", Proc)
v, w = z3.Consts("v w", Page)
f, g = z3.Consts("f g", Frame)
copy = z3.Function("copy", Page, Frame)
BINDING: dict[str, Any] = {"p": 0, "q": 1, "v": 0, "w": 1, "f": 2, "g": 1, "copy": (2, 0)}

#              marked   seen                frame_of     next_to
STATE: State = (1, 0, 1, *(1, 0, 0, 1), *(2, 0, 1, 1), *(1, 2, 0))

YES, NO = seen(p, v), seen(p, w)


def interpreted(term: Any, state: State) -> bool:
    value = Interpreter(SYSTEM, SCOPE).evaluate(term, state, BINDING)
    assert isinstance(value, bool)
    return value


def simulated(term: Any, state: State) -> bool:
    grounder = Grounder(SYSTEM, SCOPE)
    literal = grounder.formula(term, BINDING)
    return bool(Simulation(grounder.circuit, [grounder.pack(state)]).plane(literal))


def by_z3(term: Any, state: State) -> bool:
    """The term's value in the one model with those elements, that state and that binding."""
    elements = {
        s.name(): [z3.Const(f"{s.name()}!{i}", s) for i in range(SCOPE.size(s))] for s in (Proc, Page, Frame)
    }
    solver = z3.Solver()
    for sort, members in zip((Proc, Page, Frame), elements.values(), strict=True):
        x = z3.Const("x", sort)
        solver.add(Distinct(*members), z3.ForAll([x], Or(*(x == e for e in members))))

    def element(sort: Any, number: int) -> Any:
        return elements[sort.name()][number]

    for (function, index), value in zip(Interpreter(SYSTEM, SCOPE).layout.cells, state, strict=True):
        cell = function(*(element(s, i) for s, i in zip(function.domain, index, strict=True)))
        solver.add(cell == (bool(value) if function.is_bool else element(function.range, value)))
    for constant in (p, q, v, w, f, g):
        solver.add(constant == element(constant.sort(), BINDING[constant.decl().name()]))
    for page, frame in enumerate(BINDING["copy"]):
        solver.add(copy(element(Page, page)) == element(Frame, frame))
    answers = [solver.check(term), solver.check(Not(term))]
    assert sorted(map(str, answers)) == ["sat", "unsat"]
    return bool(answers[0] == z3.sat)


OPERATORS: dict[str, tuple[Any, bool]] = {
    "true": (z3.BoolVal(True), True),
    "false": (z3.BoolVal(False), False),
    "a Bool cell that is true": (YES, True),
    "a Bool cell that is false": (NO, False),
    "not true": (Not(YES), False),
    "not false": (Not(NO), True),
    "and, all true": (And(YES, YES, marked(f)), True),
    "and, one false": (And(YES, NO, marked(f)), False),
    "and of nothing": (And(), True),
    "or, one true": (Or(NO, YES, NO), True),
    "or, none true": (Or(NO, NO), False),
    "or of nothing": (Or(), False),
    "implies, false first": (Implies(NO, NO), True),
    "implies, true first": (Implies(YES, NO), False),
    "implies, both true": (Implies(YES, YES), True),
    "equal Bools": (marked(g) == NO, True),
    "unequal Bools": (YES == NO, False),
    "Bools that differ, as z3 writes !=": (marked(g) != YES, True),
    "Bools that do not differ": (marked(f) != YES, False),
    "xor of unequal": (Xor(YES, NO), True),
    "xor of equal": (Xor(YES, YES), False),
    "equal elements": (frame_of(p, v) == f, True),
    "unequal elements": (frame_of(p, w) == f, False),
    "equal cells": (frame_of(q, v) == frame_of(q, w), True),
    "unequal parameters": (p == q, False),
    "not equal": (frame_of(p, v) != g, True),
    "distinct elements": (Distinct(frame_of(p, v), frame_of(p, w), frame_of(q, v)), True),
    "elements that are not distinct": (Distinct(frame_of(p, v), frame_of(q, v), frame_of(q, w)), False),
    "if of Bools, true": (If(YES, marked(f), NO), True),
    "if of Bools, false": (If(NO, marked(f), NO), False),
    "if of elements, true": (If(YES, f, g) == f, True),
    "if of elements, false": (If(NO, f, g) == g, True),
    "if of cells as an argument": (marked(If(NO, frame_of(p, v), frame_of(q, w))), False),
    "if of Ifs": (If(YES, If(NO, f, frame_of(q, v)), f) == g, True),
    "nested application": (marked(frame_of(p, v)), True),
    "nested application to another element": (marked(frame_of(q, v)), False),
    "nested twice": (marked(next_to(next_to(f))), False),
    "nested thrice, an element": (next_to(next_to(next_to(g))) == g, True),
    "function parameter": (copy(v) == f, True),
    "function parameter of another element": (copy(w) == f, False),
    "function parameter as an argument": (marked(copy(w)), True),
    "forall, holds": (forall(Frame, lambda x: Or(marked(x), x == g)), True),
    "forall, fails": (forall(Frame, marked), False),
    "exists, holds": (exists(Frame, lambda x: Not(marked(x))), True),
    "exists, fails": (exists(Frame, lambda x: And(marked(x), x == g)), False),
    "forall over two sorts": (forall(Proc, Page, lambda a, b: Implies(seen(a, b), frame_of(a, b) != next_to(f))), True),
    "two variables of one sort": (forall(Frame, Frame, lambda a, b: Implies(next_to(a) == next_to(b), a == b)), True),
    "exists in forall": (forall(Frame, lambda x: exists(Frame, lambda y: next_to(y) == x)), True),
    "forall in exists": (exists(Frame, lambda x: forall(Frame, lambda y: next_to(y) == x)), False),
    "variables of both quantifiers, in the right order": (
        exists(Proc, lambda a: forall(Page, lambda b: exists(Page, lambda c: And(b != c, frame_of(a, c) == g)))), True,
    ),
    "the outer and the inner variable are not confused": (
        forall(Proc, lambda a: exists(Page, lambda b: Xor(a == p, seen(a, b)))), True,
    ),
    "function parameter of a bound variable": (forall(Page, lambda b: marked(copy(b))), True),
}


@pytest.mark.parametrize("evaluate", [interpreted, simulated, by_z3], ids=lambda e: e.__name__)
@pytest.mark.parametrize(("term", "value"), OPERATORS.values(), ids=OPERATORS)
def test_operator(term: Any, value: bool, evaluate: Callable[[Any, State], bool]) -> None:
    assert evaluate(term, STATE) is value


def test_an_operator_without_a_meaning_is_refused() -> None:
    x, y = z3.Ints("x y")
    with pytest.raises(NotImplementedError, match="<"):
        node(And(YES, x < y))


def test_a_term_of_another_context_is_not_taken_for_one_of_the_same_number() -> None:
    """z3 numbers the terms of each context by themselves, and solvers have contexts of their own."""
    # The model's own were numbered first, so that another context soon has as many.
    mine = {t.get_id(): t for t in CONSTANTS}
    assert all(names_in(t) == {t.decl().name()} for t in mine.values())
    context, others = z3.Context(), list[z3.BoolRef]()
    while not (others and others[-1].get_id() > max(mine)):
        others.append(z3.Bool(f"other{len(others)}", context))
    alike = [t for t in others if t.get_id() in mine]
    assert alike
    assert all(names_in(t) == {t.decl().name()} for t in alike)
    assert all(names_in(t) == {t.decl().name()} for t in mine.values())
    assert z3.is_false(folded(z3.And(others[0], z3.BoolVal(False, context))))


def test_equal_terms_are_one_node() -> None:
    assert node(forall(Frame, marked)) is node(forall(Frame, marked))


# Random terms

Scopes = tuple[tuple[Any, ...], ...]


@st.composite
def elements(draw: st.DrawFn, sort: Any, bound: tuple[Any, ...], depth: int) -> Any:
    """A term of the sort, over the bound variables, parameters and, while depth is left, applications."""
    free = {"Proc": (p, q), "Page": (v, w), "Frame": (f, g)}[sort.name()]
    leaf = st.sampled_from([*free, *(b for b in bound if b.sort() == sort)])
    if depth == 0:
        return draw(leaf)
    choice = draw(st.integers(0, 4 if sort == Frame else 1))
    if choice == 0:
        return draw(leaf)
    if choice == 1:
        same = elements(sort, bound, depth - 1)
        return If(draw(formulas(bound, depth - 1)), draw(same), draw(same))
    if choice == 2:
        return next_to(draw(elements(Frame, bound, depth - 1)))
    if choice == 3:
        return copy(draw(elements(Page, bound, depth - 1)))
    return frame_of(draw(elements(Proc, bound, depth - 1)), draw(elements(Page, bound, depth - 1)))


@st.composite
def formulas(draw: st.DrawFn, bound: tuple[Any, ...] = (), depth: int = 4) -> Any:
    """A Bool term over the bound variables."""
    if depth == 0:
        return draw(st.sampled_from([YES, NO, marked(f)]))
    part = formulas(bound, depth - 1)
    match draw(st.integers(0, 9)):
        case 0:
            return marked(draw(elements(Frame, bound, depth - 1)))
        case 1:
            return seen(draw(elements(Proc, bound, depth - 1)), draw(elements(Page, bound, depth - 1)))
        case 2:
            side = elements(draw(st.sampled_from([Proc, Page, Frame])), bound, depth - 1)
            return draw(side) == draw(side)
        case 3:
            return Distinct(*(draw(elements(Frame, bound, depth - 1)) for _ in range(draw(st.integers(2, 3)))))
        case 4:
            return Not(draw(part))
        case 5:
            return draw(st.sampled_from([And, Or]))(*(draw(part) for _ in range(draw(st.integers(0, 3)))))
        case 6:
            return draw(st.sampled_from([Implies, Xor, lambda a, b: a == b]))(draw(part), draw(part))
        case 7:
            return If(draw(part), draw(part), draw(part))
        case _:
            sorts = draw(st.lists(st.sampled_from([Proc, Page, Frame]), min_size=1, max_size=2))
            return draw(quantified(tuple(sorts), bound, depth))


@st.composite
def quantified(draw: st.DrawFn, sorts: tuple[Any, ...], bound: tuple[Any, ...], depth: int) -> Any:
    quantifier = draw(st.sampled_from([forall, exists]))
    return quantifier(*sorts, lambda *new: draw(formulas((*bound, *new), depth - 1)))


states = st.tuples(
    *([st.integers(0, 1)] * 3), *([st.integers(0, 1)] * 4), *([st.integers(0, 2)] * 4), *([st.integers(0, 2)] * 3)
)


@given(formulas(), st.lists(states, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_interpreter_and_circuit_agree_on_random_terms(term: Any, some: list[State]) -> None:
    grounder = Grounder(SYSTEM, SCOPE)
    literal = grounder.formula(term, BINDING)
    plane = Simulation(grounder.circuit, [grounder.pack(s) for s in some]).plane(literal)
    assert [bool(plane >> i & 1) for i in range(len(some))] == [interpreted(term, s) for s in some]


@given(formulas(), states)
@settings(max_examples=60, deadline=None)
def test_interpreter_and_z3_agree_on_random_terms(term: Any, state: State) -> None:
    assert interpreted(term, state) is by_z3(term, state)


# Circuits

INPUTS = 3


@given(st.lists(st.tuples(st.sampled_from(["and2", "xor2", "ite"]), *[st.integers(0, 99)] * 3), max_size=12))
@settings(deadline=None)
def test_circuit_simplifications_keep_the_function(gates: list[tuple[str, int, int, int]]) -> None:
    """Every literal made so far, complemented or not, may be an operand of the next gate."""
    circuit = Circuit()
    rows = list(itertools.product((False, True), repeat=INPUTS))
    literals = [FALSE, TRUE, *(circuit.input(str(i)) for i in range(INPUTS))]
    tables = [[False] * len(rows), [True] * len(rows), *([row[i] for row in rows] for i in range(INPUTS))]
    for kind, *chosen in gates:
        operands = [(n // 2 % len(literals), n % 2) for n in chosen]
        a, b, c = (literals[n] ^ sign for n, sign in operands)
        x, y, z = ([value ^ bool(sign) for value in tables[n]] for n, sign in operands)
        match kind:
            case "and2":
                literals.append(circuit.and2(a, b))
                tables.append([i and j for i, j in zip(x, y, strict=True)])
            case "xor2":
                literals.append(circuit.xor2(a, b))
                tables.append([i != j for i, j in zip(x, y, strict=True)])
            case _:
                literals.append(circuit.ite(a, b, c))
                tables.append([j if i else k for i, j, k in zip(x, y, z, strict=True)])
    packed = [sum(bit << i for i, bit in enumerate(row)) for row in rows]
    simulation = Simulation(circuit, packed)
    for literal, table in zip(literals, tables, strict=True):
        assert [bool(simulation.plane(literal) >> i & 1) for i in range(len(rows))] == table
