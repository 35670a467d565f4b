"""The engines agree: interpreter, circuit, machine code, symmetry reduction, bounded model checking.

The interpreter evaluates the terms as they stand and is the oracle; where it can follow, the others must count the same
states and steps, break the same claims, and need as many steps for it.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from simulator import Simulation, ones

from invariants import INVARIANTS, Invariant, invariant
from model.kernels import KERNELS, Kernel
from model.logic import REGISTRY, Scope, System, meaning
from model.state import Frame
from proofs import machine
from proofs.bmc import bmc
from proofs.explore import Claim, Exploration, _Memory, explore
from proofs.ground import Grounder
from proofs.interpreter import Instance, Interpreter, State
from proofs.symmetry import frames
from proofs.trace import execute

BY_NAME = {k.name: k for k in KERNELS}
ERAS = (
    "v5.7", "v5.8", "v5.9-rc4", "v5.14", "v5.18", "v5.19", "v6.15", "break-cow", "mapcount-unshare", "wrprotect-fail",
)
DEFAULT = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1)
SMALL = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1)
WALK = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=2)
WIDE_WALK = Scope.of(Proc=2, Page=2, Frame=3, Pin=2, Slot=2, Value=2)
WALK_LENGTH = 20


@functools.cache
def system(kernel: str) -> System:
    return BY_NAME[kernel].system()


def distinct_kernels() -> list[str]:
    """One name for each set of terms: some kernels differ only in what the model does not show."""
    return list({system(k.name).digest(): k.name for k in reversed(KERNELS)}.values())


def applicable(kernel: str) -> list[Invariant]:
    return [i for i in INVARIANTS if i.applies_to(BY_NAME[kernel])]


def claim(i: Invariant) -> Claim:
    return Claim(i.name, i.formula, i.premise)


def lengths(exploration: Exploration) -> dict[str, int | None]:
    """For each claim the number of steps to its nearest violation."""
    return {f.claim.name: None if f.path is None else len(f.path) for f in exploration.findings}


def cones(kernel: str) -> Iterator[tuple[System, list[Invariant]]]:
    """The restricted systems that suffice, each with the invariants that need just that much."""
    groups: dict[frozenset[str], list[Invariant]] = {}
    for i in applicable(kernel):
        groups.setdefault(system(kernel).cone([i.formula, i.premise]), []).append(i)
    for names, members in groups.items():
        yield system(kernel).restricted(names), members


# Whole small scopes


@dataclass(frozen=True)
class Story:
    """Some rules of a kernel in a scope that the interpreter explores in a second."""

    name: str
    rules: str
    scope: Scope

    def of(self, kernel: str) -> System:
        chosen = self.rules.split()
        return replace(system(kernel), rules=tuple(r for r in system(kernel).rules if r.name in chosen))


STORIES = (
    Story(
        "fork of two pinned pages copies each to a frame of its own", "anon-fault pin-write fork",
        Scope.of(Proc=2, Page=2, Frame=4, Pin=2, Slot=1, Value=1),
    ),
    Story(
        "two references to pages that are shared, copied, reused and unshared",
        "anon-fault fork exit pin-write get-read unpin wp-copy wp-reuse wp-copy-spurious unshare-copy unshare-reuse",
        Scope.of(Proc=2, Page=1, Frame=2, Pin=2, Slot=1, Value=1),
    ),
    Story(
        "two pages and two slots go to swap and come back",
        "anon-fault swap-out swap-out-cached swap-in-read swap-in-write swap-cache-read reclaim-swap-cache "
        "free-swap-slot extra-ref drop-extra",
        Scope.of(Proc=1, Page=2, Frame=3, Pin=1, Slot=2, Value=1),
    ),
    Story(
        "a pinned page is write-protected in every way",
        "anon-fault store pin-write unpin wp-copy wp-reuse mprotect-ro mprotect-rw clear-soft-dirty uffd-wp uffd-unwp",
        Scope.of(Proc=1, Page=1, Frame=3, Pin=1, Slot=1, Value=2),
    ),
)
each_story = pytest.mark.parametrize("story", STORIES, ids=lambda s: s.name.replace(" ", "-"))
each_era = pytest.mark.parametrize("kernel", ERAS)


@dataclass(frozen=True)
class Reached:
    """What the interpreter finds: the states by distance, and how many steps leave each."""

    levels: tuple[tuple[State, ...], ...]
    steps: dict[State, int]


@functools.cache
def reached(kernel: str, story: Story) -> Reached:
    interpreter = Interpreter(story.of(kernel), story.scope)
    steps: dict[State, int] = {}
    levels = []
    level = {interpreter.initial()}
    while level:
        levels.append(tuple(level))
        following: set[State] = set()
        for state in level:
            successors = list(interpreter.successors(state))
            steps[state] = len(successors)
            following.update(after for _, after in successors)
        level = following - steps.keys()
    return Reached(tuple(levels), steps)


def test_the_stories_cover_function_parameters_over_two_pages_and_states_of_several_words() -> None:
    grounder = Grounder(STORIES[0].of("v5.14"), STORIES[0].scope)
    assert machine.state_words(grounder) > 1
    copies = {s.instance.as_dict["copy"] for s in grounder.steps() if s.instance.rule.name == "fork"}
    assert len(copies) == 4**2


@each_story
@each_era
def test_exploration_counts_what_the_interpreter_counts(kernel: str, story: Story) -> None:
    oracle = reached(kernel, story)
    explored = explore(story.of(kernel), story.scope, [], reduce=False)
    assert explored.complete
    assert explored.states == len(oracle.steps)
    assert explored.transitions == sum(oracle.steps.values())
    assert explored.levels == tuple(len(level) for level in oracle.levels)


@each_story
@pytest.mark.parametrize("kernel", ["v5.7", "v6.15", "wrprotect-skip"])
@pytest.mark.parametrize("reduce", [False, True])
def test_exploration_judges_claims_as_the_interpreter_does(kernel: str, story: Story, reduce: bool) -> None:
    interpreter = Interpreter(story.of(kernel), story.scope)
    claims = [claim(i) for i in applicable(kernel)]
    explored = explore(story.of(kernel), story.scope, claims, reduce=reduce)
    for finding in explored.findings:
        breaking = (
            distance for distance, level in enumerate(reached(kernel, story).levels)
            if not all(interpreter.evaluate(finding.claim.formula, state) for state in level)
        )
        assert lengths(explored)[finding.claim.name] == next(breaking, None), finding.claim.name
        premised = any(interpreter.evaluate(finding.claim.premise, s) for s in reached(kernel, story).steps)
        assert finding.vacuous is not premised, finding.claim.name


# Symmetry


def renamed(interpreter: Interpreter, state: State, names: tuple[int, ...]) -> State:
    """The state in which frame f is called names[f]."""
    layout = interpreter.layout
    result = list(state)
    for value, (function, index) in zip(state, layout.cells, strict=True):
        place = tuple(names[i] if sort == Frame else i for sort, i in zip(function.domain, index, strict=True))
        result[layout.position[function.name][place]] = names[value] if function.range == Frame else value
    return interpreter.canonical(tuple(result))


def explored_states(of: System, scope: Scope) -> set[State]:
    """The representatives that the machine code keeps."""
    grounder = Grounder(of, scope)
    steps = grounder.steps()
    code = machine.Code(machine.assembly(grounder, steps, [], [], frames(grounder)))
    store = _Memory(machine.state_words(grounder), len(steps), 0, 1 << 30)
    store.start(grounder.initial(), code)
    low = 0
    while low < store.count:
        high = store.count
        low = min(high, code.expand(store.address, low, high))
    return {grounder.unpack(store.state(n)) for n in range(store.count)}


@each_story
@each_era
def test_reduced_exploration_has_one_state_for_each_orbit(kernel: str, story: Story) -> None:
    of, oracle = story.of(kernel), reached(kernel, story)
    interpreter = Interpreter(of, story.scope)
    symmetry = frames(Grounder(of, story.scope))
    assert symmetry is not None
    permutations = list(itertools.permutations(range(story.scope.size(Frame))))
    representatives: dict[State, int] = {}
    unseen = set(oracle.steps)
    while unseen:
        state = unseen.pop()
        orbit = {renamed(interpreter, state, names) for names in permutations}
        unseen -= orbit
        (representative,) = {symmetry.canonical(member) for member in orbit}
        assert representative in orbit
        assert symmetry.canonical(representative) == representative
        (representatives[representative],) = {oracle.steps[member] for member in orbit}

    explored = explore(of, story.scope, [])
    assert explored.states == len(representatives)
    assert explored.transitions == sum(representatives.values())
    assert explored.diameter == len(oracle.levels) - 1
    assert explored_states(of, story.scope) == set(representatives)


# Random walks on whole systems


def walk(interpreter: Interpreter, walks: int, chance: random.Random) -> dict[State, dict[Instance, State]]:
    """The states on random walks, each with all its successors; rules are equally likely, whatever their parameters."""
    seen: dict[State, dict[Instance, State]] = {}
    for _ in range(walks):
        state = interpreter.initial()
        for _ in range(WALK_LENGTH):
            if state not in seen:
                seen[state] = dict(interpreter.successors(state))
            moves: dict[str, list[State]] = {}
            for step, after in seen[state].items():
                if after != state:
                    moves.setdefault(step.rule.name, []).append(after)
            state = chance.choice(chance.choice(list(moves.values()))) if moves else interpreter.initial()
    return seen


def agrees_with_circuit(kernel: str, scope: Scope, walks: int) -> int:
    """Compare every successor of every state on the walks; returns how many states there were."""
    grounder = Grounder(system(kernel), scope)
    steps = grounder.steps()
    seen = walk(Interpreter(system(kernel), scope), walks, random.Random(kernel))
    packed = [grounder.pack(state) for state in seen]
    simulation = Simulation(grounder.circuit, packed)
    found: list[dict[Instance, int]] = [{} for _ in packed]
    for step in steps:
        enabled = ones(simulation.plane(step.guard))
        changes = [(bit, simulation.plane(literal)) for bit, literal in step.bits]
        for lane in enabled:
            after = packed[lane]
            for bit, plane in changes:
                after = after & ~(1 << bit) | (plane >> lane & 1) << bit
            found[lane][step.instance] = after
    for successors, by_circuit in zip(seen.values(), found, strict=True):
        assert by_circuit == {step: grounder.pack(after) for step, after in successors.items()}
    return len(seen)


@pytest.mark.parametrize("kernel", distinct_kernels())
def test_circuit_and_interpreter_take_the_same_steps(kernel: str) -> None:
    walks = -(-10_000 // WALK_LENGTH // len(distinct_kernels()))
    assert agrees_with_circuit(kernel, WALK, walks) > walks


@pytest.mark.slow
@pytest.mark.parametrize("kernel", distinct_kernels())
def test_circuit_and_interpreter_take_the_same_steps_on_ten_thousand_walks(kernel: str) -> None:
    walks = -(-10_000 // len(distinct_kernels()))
    assert agrees_with_circuit(kernel, WALK, walks) > walks


@pytest.mark.parametrize("kernel", ["v5.7", "v5.14", "v6.15"])
def test_circuit_and_interpreter_take_the_same_steps_with_two_of_everything(kernel: str) -> None:
    assert agrees_with_circuit(kernel, WIDE_WALK, 3) > 3
