"""k-induction agrees with exploration, and what it did not show it does not say."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from typing import Any

import pytest
import z3

from invariants import INVARIANTS, invariant
from model.kernels import KERNELS
from model.logic import Scope, System, Term, forall
from model.state import (
    Page,
    Pin,
    Proc,
    has_pinned,
    mapped,
    maps,
    pin_frame,
    pin_live,
    pin_proc,
    pte_dirty,
    pte_frame,
    pte_present,
    pte_soft_dirty,
    pte_write,
)
from proofs.bmc.bounded import Induction, bmc, k_induction
from proofs.bmc.unrolling import Unrolling
from proofs.check.cells import claim_of
from proofs.derive.interpreter import Interpreter, State
from proofs.engine import Claim
from proofs.errors import EngineError
from proofs.explore.search import explore
from proofs.naming.specs import system_of
from proofs.traces.trace import execute

DEFAULT = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1)
SMALL = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1)
TWO_PAGES = Scope.of(Proc=2, Page=2, Frame=3, Pin=1, Slot=1, Value=1)
DEPTH = 4


def claim(name: str) -> Claim:
    return claim_of(invariant(name))


def only(kernel: str, rules: str) -> System:
    """The kernel with those rules and no others."""
    system = system_of(kernel)
    return replace(system, rules=tuple(r for r in system.rules if r.name in rules.split()))


def cone(system: System, *claims: Claim) -> System:
    return system.restricted(system.cone([formula for c in claims for formula in (c.formula, c.premise)]))


def nearest(system: System, scope: Scope, c: Claim) -> int | None:
    """Steps to the nearest violation, None if there is none."""
    explored = explore(system, scope, [c])
    assert explored.complete
    path = explored.findings[0].path
    return None if path is None else len(path)


def agreed(system: System, scope: Scope, c: Claim, depth: int) -> Induction:
    """The result of k-induction, after comparing it with exploration."""
    length = nearest(system, scope, c)
    found = k_induction(system, scope, c, depth)
    assert not found.stopped
    if length is not None and length <= depth:
        assert found.path is not None
        assert (len(found.path), found.k, found.depth) == (length, None, length - 1), c.name
        execute(system.name, c.name, "", system, scope, found.path, violated=c.formula)
    else:
        assert found.path is None, c.name
        assert found.k is None or length is None, c.name
        assert found.depth == (depth if found.k is None else found.k - 1), c.name
    return found


def agrees(kernel: str, scope: Scope) -> None:
    stated = [i for i in INVARIANTS if i.applies_to(next(k for k in KERNELS if k.name == kernel))]
    found = [agreed(cone(system_of(kernel), claim_of(i)), scope, claim_of(i), DEPTH) for i in stated]
    assert any(f.k for f in found)
    assert any(f.path for f in found)


@pytest.mark.parametrize(
    "kernel", ["v5.7", *(pytest.param(k, marks=pytest.mark.slow) for k in ("v5.18", "v5.19", "wrprotect-skip"))]
)
def test_k_induction_agrees_with_exploration(kernel: str) -> None:
    agrees(kernel, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "scope"), [(k.name, SMALL) for k in KERNELS[1::4]] + [("v5.9", DEFAULT), ("v6.15", DEFAULT)]
)
def test_k_induction_agrees_with_exploration_on_further_kernels(kernel: str, scope: Scope) -> None:
    agrees(kernel, scope)


FORKING = "anon-fault pin-write fork"


@pytest.mark.parametrize(("kernel", "name", "k"), [
    ("v5.18", "write-bit", 3), ("v5.18", "isolation-mapping", 4), ("v5.7", "swap-slot", 5),
])
def test_a_claim_may_need_more_than_one_step(kernel: str, name: str, k: int) -> None:
    system = only(kernel, FORKING)
    assert agreed(system, TWO_PAGES, claim(name), 9).k == k
    assert agreed(system, TWO_PAGES, claim(name), k).k == k
    assert agreed(system, TWO_PAGES, claim(name), k - 1).k is None


# What is false is not proved

def test_a_fork_that_leaves_the_exclusive_bit_is_never_proved_right() -> None:
    system = system_of("v5.19")
    forgetful = tuple(u for u in system.rule("fork").updates if u.function.name != "exclusive")
    rules = tuple(replace(r, updates=forgetful) if r.name == "fork" else r for r in system.rules)
    wrong = replace(system, rules=rules)
    for name in ("exclusive", "isolation-mapping"):
        assert agreed(cone(wrong, claim(name)), SMALL, claim(name), DEPTH).path


def test_a_violation_beyond_the_depth_leaves_the_claim_open() -> None:
    system = cone(system_of("mapcount-unshare"), claim("coherence-read-pin"))
    found = k_induction(system, DEFAULT, claim("coherence-read-pin"), 7)
    assert (found.path, found.k, found.depth, found.stopped) == (None, None, 7, "")
    found = k_induction(system, DEFAULT, claim("coherence-read-pin"), 8)
    assert found.path is not None
    assert (len(found.path), found.k, found.depth) == (8, None, 7)


def atoms(p: Term, v: Term, q: Term, w: Term, k: Term) -> list[Any]:
    return [
        pte_present(p, v), pte_write(p, v), pte_dirty(p, v), pte_soft_dirty(p, v), has_pinned(p), p == q, v == w,
        maps(q, w, pte_frame(p, v)), pin_live(k), pin_proc(k) == p, maps(p, v, pin_frame(k)), mapped(pin_frame(k)),
    ]


@functools.cache
def levels(system: System, scope: Scope) -> list[set[State]]:
    """The reachable states by distance, found by the interpreter."""
    interpreter = Interpreter(system, scope)
    found, seen = [{interpreter.initial()}], {interpreter.initial()}
    while found[-1]:
        found.append({after for state in found[-1] for _, after in interpreter.successors(state)} - seen)
        seen |= found[-1]
    return found


def test_random_claims_get_the_verdict_that_their_reachable_states_give_them() -> None:
    system = only("v5.9-rc4", "anon-fault fork wp-copy wp-reuse pin-write unpin clear-soft-dirty exit")
    interpreter, unrolling = Interpreter(system, SMALL), Unrolling(system, SMALL)
    chance = random.Random(1)
    verdicts = []
    for _ in range(40):
        picked = [(i, chance.random() < 0.5) for i in chance.sample(range(12), chance.choice((2, 3, 4)))]

        def clause(*x: Term, picked: list[tuple[int, bool]] = picked) -> Term:
            return z3.Or(*(atoms(*x)[i] if positive else z3.Not(atoms(*x)[i]) for i, positive in picked))

        formula = forall(Proc, Page, Proc, Page, Pin, clause)
        distance = next((
            n for n, level in enumerate(levels(system, SMALL))
            if not all(interpreter.evaluate(formula, state) for state in level)
        ), None)
        found = k_induction(system, SMALL, Claim("random", formula, z3.BoolVal(True)), 12, unrolling=unrolling)
        assert (None if found.path is None else len(found.path)) == distance
        assert found.k is None or distance is None
        verdicts.append((distance, found.k))
    assert len({distance for distance, _ in verdicts}) > 3
    assert len({k for _, k in verdicts}) > 2


# Any state

@pytest.mark.parametrize("kernel", ["v5.14", "v6.15"])
def test_steps_begin_in_canonical_states_and_in_all_of_them(kernel: str) -> None:
    system = system_of(kernel)
    unrolling, interpreter = Unrolling(system, DEFAULT), Interpreter(system, DEFAULT)
    sizes = [interpreter.layout.values(function) for function, _ in interpreter.layout.cells]
    is_state, grounder = unrolling.state(), unrolling.grounder
    chance = random.Random(kernel)

    def accepted(packed: int) -> bool:
        bits = [(b, z3.BoolVal(bool(packed >> i & 1))) for i, b in enumerate(unrolling.now)]
        return z3.is_true(z3.simplify(z3.substitute(is_state, *bits)))

    for _ in range(100):
        state = interpreter.canonical(tuple(chance.randrange(size) for size in sizes))
        assert accepted(grounder.pack(state))
        disturbed = grounder.pack(state) ^ 1 << chance.randrange(grounder.bits)
        cells = grounder.unpack(disturbed)
        proper = all(value < size for value, size in zip(cells, sizes, strict=True))
        assert accepted(disturbed) == (proper and interpreter.canonical(cells) == cells)


# Lemmas

def test_a_lemma_helps_and_is_looked_at() -> None:
    claims = claim("isolation-mapping"), claim("counters")
    system = cone(system_of("v5.9"), claims[0])
    assert k_induction(system, DEFAULT, claims[0], 3).k is None
    assert k_induction(system, DEFAULT, claims[1], 3).k == 1
    assert k_induction(system, DEFAULT, claims[0], 3, lemmas=[claims[1].formula]).k == 1


def test_a_false_lemma_that_the_search_meets_is_a_disagreement() -> None:
    system = only("v5.7", FORKING)
    unpinned = forall(Pin, lambda k: z3.Not(pin_live(k)))
    with pytest.raises(EngineError, match="a lemma taken for swap-slot is violated after 2 steps"):
        k_induction(system, TWO_PAGES, claim("swap-slot"), 9, lemmas=[unpinned])


# Limits

def test_running_out_of_time_proves_nothing() -> None:
    found = k_induction(system_of("v5.7"), DEFAULT, claim("mprotect"), 3, timeout=0.0)
    assert (found.path, found.k, found.depth) == (None, None, -1)
    assert found.stopped == "out of time after 0 s"


def test_running_out_of_time_later_keeps_the_depth() -> None:
    found = k_induction(cone(system_of("v5.19"), claim("exclusive")), DEFAULT, claim("exclusive"), 50, timeout=2.0)
    assert (found.path, found.k) == (None, None)
    assert found.stopped
    assert found.seconds < 30


@pytest.mark.parametrize("answers", range(3))
def test_a_solver_that_gives_up_proves_nothing(answers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`answers`: how many queries it still answers; the proof needs two, of the initial state and of one step."""
    asked = []
    check = z3.Solver.check

    def tired(solver: Any, *assumptions: Any) -> Any:
        asked.append(solver)
        return check(solver, *assumptions) if len(asked) <= answers else z3.unknown

    monkeypatch.setattr(z3.Solver, "check", tired)
    found = k_induction(cone(system_of("v5.7"), claim("mprotect")), SMALL, claim("mprotect"), 3)
    assert found.path is None
    assert found.k == (1 if answers == 2 else None)
    assert bool(found.stopped) == (answers < 2)


def test_a_system_in_which_no_step_can_be_taken_stays_where_it_begins() -> None:
    """Only the first process is there: that something is mapped never comes about, nor has anybody pinned."""
    still = replace(system_of("v5.9"), rules=())
    always = z3.BoolVal(True)
    nothing_mapped = Claim("nothing mapped", forall(Proc, Page, lambda p, v: z3.Not(pte_present(p, v))), always)
    somebody_pinned = Claim("somebody pinned", z3.Not(forall(Proc, lambda p: z3.Not(has_pinned(p)))), always)
    assert bmc(still, SMALL, nothing_mapped, 3).path is None
    assert bmc(still, SMALL, somebody_pinned, 3).path == ()
