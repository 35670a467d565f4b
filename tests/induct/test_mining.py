"""Candidates for inductive invariants: what samples say, against the interpreter and against looking at everything."""

from __future__ import annotations

import functools
import itertools
import random
import time

import numpy as np
import pytest
import z3

from invariants import invariant
from model.logic import Scope, System
from model.vocabulary import VARIABLES, WORDS
from proofs.clock import done_by, look, uncounted
from proofs.derive.interpreter import Interpreter
from proofs.engine import Claim
from proofs.errors import OutOfTime
from proofs.explore.sample import Reached
from proofs.explore.search import explore
from proofs.induct import mine as mining
from proofs.induct.mine import Miner, Tables, profiles
from proofs.induct.rows import Parts, Rows, absent_cubes
from proofs.induct.search import state_of
from proofs.naming.specs import system_of

SMALL = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1, Folio=1, Block=1)
MIXED = Scope.of(Proc=2, Page=2, Frame=2, Pin=1, Slot=1, Value=1, Folio=2, Block=2)


# Words

def at_random(spec: str, scope: Scope, states: int, seed: int) -> Tables:
    """States with any values, reachable or not, but for what has no meaning, which is as finite engines keep it."""
    system, chosen = system_of(spec), random.Random(seed)
    oracle = Interpreter(system, scope)
    cells = oracle.layout.cells
    found = [
        oracle.canonical(tuple(chosen.randrange(oracle.layout.values(f)) for f, _ in cells)) for _ in range(states)
    ]
    tables = {}
    for function in system.functions:
        shape = (states, *(scope.size(s) for s in function.domain))
        table = np.zeros(shape, bool if function.is_bool else np.uint8)
        for index, cell in oracle.layout.position[function.name].items():
            table[(slice(None), *index)] = [state[cell] for state in found]
        tables[function.name] = table
    return tables


@pytest.mark.parametrize("spec", ["v6.15@huge,zero,file", "v6.15@tlb", "v7.2@ksm,lazyfree,migration", "v5.9"])
def test_a_word_says_in_samples_what_its_term_does(spec: str) -> None:
    """All rows of a state, atom by atom, against the interpreter on the word's own term."""
    system = system_of(spec)
    oracle = Interpreter(system, MIXED)
    tables = at_random(spec, MIXED, 2, 1)
    told = set()
    for profile in profiles(frozenset(f.name for f in system.functions)):
        ranges = [range(MIXED.size(VARIABLES[x])) for x in profile.letters]
        for number in range(2):
            one = {name: table[number : number + 1] for name, table in tables.items()}
            state = state_of(system, one)
            expected = set()
            for chosen in itertools.product(*ranges):
                called = dict(zip(profile.letters, chosen, strict=True))
                holds = [oracle.evaluate(profile.formula(i), state, called) for i in range(len(profile.atoms))]
                expected.add(sum(bool(held) << i for i, held in enumerate(holds)))
            assert set(map(int, profile.rows(one))) == expected
            told |= {word.name for i, (word, _) in enumerate(profile.atoms) if any(row >> i & 1 for row in expected)}
    assert told


FOLIO_WORDS = {"maps part of folio", "shares folio", "refers to folio", "exclusive page"}


@pytest.mark.parametrize(
    ("spec", "offered"),
    [
        ("v6.15", set()), ("v6.15@migration", set()), ("v5.7@huge", FOLIO_WORDS - {"exclusive page"}),
        ("v6.15@huge", FOLIO_WORDS),
    ],
)
def test_words_about_folios_are_offered_where_there_are_some(spec: str, offered: set[str]) -> None:
    words = {
        word.name for profile in profiles(frozenset(f.name for f in system_of(spec).functions))
        for word, _ in profile.atoms
    }
    assert words & FOLIO_WORDS == offered


@pytest.mark.parametrize("word", [w for w in WORDS if w.symmetric], ids=lambda w: w.name)
def test_a_symmetric_word_says_the_same_of_exchanged_elements(word: mining.Word) -> None:
    half = len(word.sorts) // 2
    assert word.sorts[:half] == word.sorts[half:]
    elements = [z3.Const(f"e{i}", sort) for i, sort in enumerate(word.sorts)]
    solver = z3.Solver()
    solver.add(word.holds(*elements) != word.holds(*elements[half:], *elements[:half]))
    assert solver.check() == z3.unsat


# Rows and their parts

ATOMS = 7


def some_rows(seed: int) -> tuple[Rows, list[int]]:
    """Rows seen, and some that were not."""
    chosen = random.Random(seed)
    every = chosen.sample(range(1 << ATOMS), 60)
    return Rows(ATOMS, np.array(every[:40], np.uint64)), every[40:]


def is_part(seen: Rows, row: int, mask: int) -> bool:
    return all((int(other) ^ row) & mask for other in seen.all)


def smallest_parts(seen: Rows, row: int) -> list[int]:
    """By looking at every set of atoms."""
    parts = [mask for mask in range(1 << ATOMS) if is_part(seen, row, mask)]
    least = min(map(int.bit_count, parts))
    return [mask for mask in parts if mask.bit_count() == least]


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_parts_of_a_row_that_no_row_has_are_found(seed: int) -> None:
    seen, others = some_rows(seed)
    for row in others:
        expected = smallest_parts(seen, row)
        least = expected[0].bit_count()
        assert Parts(seen, row).upto(least - 1) == []
        assert Parts(seen, row).upto(least) == expected


def test_a_part_that_is_learnt_to_occur_is_none_any_more() -> None:
    seen, (row, *others) = some_rows(3)
    parts = Parts(seen, row)
    before = parts.upto(ATOMS)
    seen.add(seen.new(np.array(sorted(others), np.uint64)))
    after = parts.upto(ATOMS)
    assert any(not is_part(seen, row, mask) for mask in before)
    assert after
    assert all(is_part(seen, row, mask) for mask in after)
    seen.add(np.array([row], np.uint64))
    assert parts.upto(ATOMS) == []


def test_rows_are_new_once() -> None:
    seen, others = some_rows(5)
    asked = np.array(sorted([*others, *map(int, seen.all[:9])]), np.uint64)
    assert seen.new(asked).tolist() == sorted(others)
    seen.add(seen.new(asked))
    assert seen.new(asked).tolist() == []
    for mask, row in itertools.product((1, 0b101, 0b1100110), others):
        agreeing = seen.all[seen.agreeing(row, mask)]
        assert len(agreeing)
        assert all((int(other) ^ row) & mask == 0 for other in agreeing)
        assert seen.count(row, mask) == sum((other ^ row) & mask == 0 for other in set(map(int, seen.all)))


def test_short_cubes_are_those_that_no_row_contains() -> None:
    seen, _ = some_rows(2)
    work = absent_cubes(seen.planes, 3)
    while True:
        try:
            next(work)
        except StopIteration as end:
            masks, values = end.value
            break
    found = {(int(mask), int(value)) for mask, value in zip(masks, values, strict=True)}
    absent = {
        (mask, value) for mask in range(1 << ATOMS) if 1 <= mask.bit_count() <= 3
        for value in range(1 << ATOMS) if value & ~mask == 0 and all(int(row) & mask != value for row in seen.all)
    }
    smallest = {
        (mask, value) for mask, value in absent
        if not any((mask & ~(1 << i), value & ~(1 << i)) in absent for i in range(ATOMS) if mask >> i & 1)
    }
    assert found == smallest


# States that were reached

NAMES = ("coherence-write-pin", "isolation-mapping", "isolation-reference", "mprotect")


@functools.cache
def small(spec: str) -> System:
    """What those invariants need of the kernel, without much that is of no matter here."""
    full = system_of(spec, ("swap-out", "extra-ref"))
    return full.restricted(full.cone([invariant(name).formula for name in NAMES]))


@functools.cache
def reached(spec: str) -> Reached:
    return Reached(small(spec), SMALL, 1 << 22)


def test_the_states_reached_are_those_of_an_exploration() -> None:
    found = explore(small("v5.9"), SMALL, [], reduce=False)
    assert found.complete
    assert Reached(small("v5.9"), SMALL, 1 << 22, reduce=False).count == found.states


@pytest.mark.parametrize("spec", ["v5.9", "v5.7@huge"])
@pytest.mark.parametrize("name", NAMES)
def test_a_claim_is_broken_by_a_state_reached_where_exploration_finds_one(spec: str, name: str) -> None:
    system, stated = small(spec), invariant(name)
    broken = explore(system, SMALL, [Claim(name, stated.formula, stated.premise)]).findings[0].path is not None
    states = reached(spec).breaking(stated.formula, 1 << 22)
    number = len(states["alive"])
    assert (number > 0) == broken
    oracle = Interpreter(system, SMALL)
    for i in range(min(number, 50)):
        one = state_of(system, {name: table[i : i + 1] for name, table in states.items()})
        assert not oracle.evaluate(stated.formula, one)


def test_every_state_breaks_what_is_never_true() -> None:
    states = reached("v5.9")
    assert 1 <= len(states.breaking(z3.BoolVal(False), 1)["alive"]) <= states.count
    assert len(states.breaking(z3.BoolVal(False), states.count)["alive"]) == states.count
    assert len(states.breaking(z3.BoolVal(True), 1)["alive"]) == 0


def test_no_candidate_excludes_what_was_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mined from states without pins; then states with some are learnt, and one element more of most sorts."""
    monkeypatch.setattr(mining, "SCOPES", (SMALL,))
    monkeypatch.setattr(mining, "STATES", 200)
    monkeypatch.setattr(mining, "LEVELS", 0)
    full = system_of("v5.9")
    system = full.restricted(full.cone([invariant("coherence-write-pin").formula]))
    miner = Miner(system)
    for _ in miner.work:
        pass
    states = Reached(system, SMALL, 1 << 20).some(40, np.random.default_rng(0))
    assert any(list(miner.excluding({n: t[i : i + 1] for n, t in states.items()})) for i in range(40))
    miner.learn(states)
    for i in range(40):
        one = {name: table[i : i + 1] for name, table in states.items()}
        assert list(itertools.chain(miner.excluding(one), miner.deeper(one))) == []
        more = mining.with_one_more(one)
        assert list(itertools.chain(miner.excluding(more), miner.deeper(more))) == []


# Time

def test_what_is_not_counted_puts_the_deadline_off() -> None:
    with done_by(time.monotonic() + 0.2):
        with uncounted(10):
            time.sleep(0.3)
            look()
        look()
        time.sleep(0.25)
        with pytest.raises(OutOfTime):
            look()


def too_long() -> None:
    with uncounted(0.01):
        time.sleep(0.02)
        look()


def test_what_is_not_counted_has_a_limit_of_its_own() -> None:
    with done_by(time.monotonic() + 10):
        with pytest.raises(OutOfTime):
            too_long()
        look()
