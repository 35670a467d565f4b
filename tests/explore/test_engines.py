"""The engines agree: interpreter, circuit, machine code, symmetry reduction, bounded model checking.

The interpreter evaluates the terms as they stand and is the oracle; where it can follow, the others must count the same
states and steps, break the same claims, and need as many steps for it.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mutants import STARTED, by_name, mutants
from simulator import Simulation, ones

from invariants import INVARIANTS, Invariant, invariant
from model.kernels import KERNELS
from model.logic import Scope, System, meaning
from proofs.bmc.bounded import bmc
from proofs.bmc.unrolling import Unrolling, least_alike
from proofs.check.scopes import scope_of
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.derive.symmetry import symmetry_of, unmoved
from proofs.engine import Claim, Exploration
from proofs.explore import code as machine_code
from proofs.explore import machine, memory
from proofs.explore import search as exploration
from proofs.explore.memory import Memory, packed_words
from proofs.explore.progress import Progress, expected_states
from proofs.explore.search import explore
from proofs.induct.search import unwritten
from proofs.traces.trace import execute

BY_NAME = {k.name: k for k in KERNELS}
ERAS = (
    "v5.7", "v5.8", "v5.9-rc4", "v5.14", "v5.18", "v5.19", "v6.15", "break-cow", "mapcount-unshare", "wrprotect-fail",
)
MAIN = ("v5.7", "v5.14", "v5.19", "mapcount-unshare")
"""One kernel for each way to decide whether a page is reused; for the others the same is asked by the slow tests."""
every_era = pytest.mark.parametrize(
    "kernel", [pytest.param(k, marks=() if k in MAIN else pytest.mark.slow) for k in ERAS]
)
DEFAULT = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1)
SMALL = Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1)
WALK = Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=2)
WIDE_WALK = Scope.of(Proc=2, Page=2, Frame=3, Pin=2, Slot=2, Value=2)
WALK_LENGTH = 20


@functools.cache
def system(kernel: str, features: tuple[str, ...] = ()) -> System:
    return BY_NAME[kernel].system(features)


def distinct_kernels() -> list[str]:
    """One name for each set of terms: some kernels differ only in what the model does not show."""
    return list({system(k.name).digest(): k.name for k in reversed(KERNELS)}.values())


def applicable(kernel: str) -> list[Invariant]:
    return [i for i in INVARIANTS if i.applies_to(BY_NAME[kernel])]


def claim(i: Invariant) -> Claim:
    return Claim(i.name, i.formula, i.premise)


def lengths(explored: Exploration) -> dict[str, int | None]:
    """For each claim the number of steps to its nearest violation."""
    return {f.claim.name: None if f.path is None else len(f.path) for f in explored.findings}


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
    """Some rules of a kernel in a scope that the interpreter explores in a second. `quick`: for these kernels.

    `features`: of the system; the name of a rule in sub-steps stands for all of them.
    """

    name: str
    quick: tuple[str, ...]
    rules: str
    scope: Scope
    features: tuple[str, ...] = ()

    def of(self, kernel: str) -> System:
        chosen = self.rules.split()
        whole = system(kernel, self.features)
        return replace(whole, rules=tuple(r for r in whole.rules if r.name.partition(".")[0] in chosen))


STORIES = (
    Story(
        "fork copies pinned pages, each to a frame of its own", (), "anon-fault pin-write fork",
        Scope.of(Proc=2, Page=2, Frame=4, Pin=2, Slot=1, Value=1),
    ),
    Story(
        "fork copies one of two pages", ("v5.9-rc4", "v5.14", "v6.15"), "anon-fault pin-write fork",
        Scope.of(Proc=2, Page=2, Frame=3, Pin=1, Slot=1, Value=1),
    ),
    Story(
        "a second page and reference fill a second word", ("v5.7", "v5.19"), "anon-fault fork pin-write wp-copy",
        Scope.of(Proc=2, Page=2, Frame=2, Pin=2, Slot=1, Value=1),
    ),
    Story(
        "references of two kinds to a page that is shared, copied, reused and unshared", MAIN,
        "anon-fault fork pin-write get-read unpin wp-copy wp-reuse unshare-copy unshare-reuse",
        Scope.of(Proc=2, Page=1, Frame=2, Pin=2, Slot=1, Value=1),
    ),
    Story(
        "processes come and go", (),
        "anon-fault fork exit munmap dontneed pin-write get-read unpin wp-copy wp-reuse wp-copy-spurious",
        Scope.of(Proc=2, Page=1, Frame=2, Pin=1, Slot=1, Value=1),
    ),
    Story(
        "two pages and two slots go to swap and come back", ("v5.18", "v5.19"),
        "anon-fault swap-out swap-out-cached swap-in-read swap-in-write swap-cache-read reclaim-swap-cache "
        "free-swap-slot extra-ref drop-extra",
        Scope.of(Proc=1, Page=2, Frame=3, Pin=1, Slot=2, Value=1),
    ),
    Story(
        "a pinned page is write-protected in every way", MAIN,
        "anon-fault store pin-write unpin wp-copy wp-reuse mprotect-ro mprotect-rw clear-soft-dirty uffd-wp uffd-unwp",
        Scope.of(Proc=1, Page=1, Frame=3, Pin=1, Slot=1, Value=2),
    ),
)
FEATURE_STORIES = (
    Story(
        "a THP is shared, pinned, reused or split", ("v6.15", "v5.7", "v5.11"),
        "madvise-hugepage huge-fault split-pmd split-folio fork pin-write huge-wp-reuse huge-wp-split wp-reuse munmap",
        scope_of(2, 2, 2, 1, 1, 1, 1), ("huge",),
    ),
    Story(
        "a copy in sub-steps beside flushes that are late", ("v5.9", "v5.12"),
        "anon-fault extra-ref uffd-wp uffd-unwp wp-copy wp-reuse dontneed", scope_of(1, 1, 3, 1, 1), ("tlb",),
    ),
    Story(
        "GUP-fast while fork looks and shares", ("v5.9", "v6.0"), "anon-fault fork fast-pin-write unpin exit",
        scope_of(2, 1, 2, 1, 1), ("gup-fast", "fork"),
    ),
    Story(
        "GUP-fast while KSM has the PTE", ("v6.0",), "anon-fault mprotect-ro ksm-protect fast-pin-read unpin",
        scope_of(1, 1, 2, 1, 1), ("gup-fast", "share"),
    ),
    Story(
        "pages of a file are forced, copied and mapped again", ("v5.7", "v6.0"),
        "mmap-file file-read map-backing cow-fault mprotect-ro force-wp-copy force-wp-reuse force-store dontneed",
        scope_of(2, 1, 3, 1, 1), ("file", "force"),
    ),
    Story(
        "KSM merges, migration moves", ("v5.9", "v6.15"),
        "anon-fault fork wp-copy ksm-merge unmerge-copy migrate pin-write unpin", scope_of(2, 1, 3, 1, 1),
        ("ksm", "migration"),
    ),
)
"""Frames are told apart by more cells here, and fields that name one have meanings of several parts."""


def distinct_eras(story: Story) -> list[str]:
    """One kernel for each set of terms that the story has, of its quick ones if it can be."""
    by_terms: dict[str, str] = {}
    for kernel in (*story.quick, *ERAS):
        by_terms.setdefault(story.of(kernel).digest(), kernel)
    return list(by_terms.values())


every_story_and_era = pytest.mark.parametrize(
    ("kernel", "story"),
    [
        pytest.param(k, s, id=f"{k}-{s.name.replace(' ', '-')}", marks=() if k in s.quick else pytest.mark.slow)
        for s in STORIES for k in distinct_eras(s)
    ] + [
        pytest.param(
            k, s, id=f"{k}-{s.name.replace(' ', '-')}", marks=pytest.mark.slow if k in s.quick[1:] else ()
        )
        for s in FEATURE_STORIES for k in s.quick
    ],
)


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


def test_the_stories_have_function_parameters_over_two_pages_and_states_of_two_words() -> None:
    (first, second, third, *_) = STORIES
    steps = Grounder(second.of("v5.14"), second.scope).steps()
    copies = {s.instance.as_dict["copy"] for s in steps if s.instance.rule.name == "fork"}
    assert copies == set(itertools.product(range(3), repeat=2))
    assert all(machine.state_words(Grounder(s.of("v5.19"), s.scope)) == 2 for s in (first, second, third))


@every_story_and_era
def test_exploration_counts_what_the_interpreter_counts(kernel: str, story: Story) -> None:
    oracle = reached(kernel, story)
    explored = explore(story.of(kernel), story.scope, [], reduce=False)
    assert explored.complete
    assert explored.states == len(oracle.steps)
    assert explored.transitions == sum(oracle.steps.values())
    assert explored.levels == tuple(len(level) for level in oracle.levels)


@pytest.mark.slow
@every_story_and_era
def test_exploration_judges_claims_as_the_interpreter_does(kernel: str, story: Story) -> None:
    interpreter = Interpreter(story.of(kernel), story.scope)
    claims = [claim(i) for i in applicable(kernel)]
    explored = explore(story.of(kernel), story.scope, claims)
    for finding in explored.findings:
        breaking = (
            distance for distance, level in enumerate(reached(kernel, story).levels)
            if not all(interpreter.evaluate(finding.claim.formula, state) for state in level)
        )
        assert lengths(explored)[finding.claim.name] == next(breaking, None), finding.claim.name
        premised = any(interpreter.evaluate(finding.claim.premise, s) for s in reached(kernel, story).steps)
        assert finding.vacuous is not premised, finding.claim.name


class Tight(Memory):
    """Room for few states at first, so that it must grow soon."""

    START = 64
    growths = 0

    def grow(self, code: machine_code.Code) -> None:
        super().grow(code)
        Tight.growths += 1


@pytest.mark.parametrize("story", [s for s in STORIES if "v5.19" in s.quick], ids=lambda s: s.name.replace(" ", "-"))
def test_enlarging_the_tables_loses_nothing(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = reached("v5.19", story)
    monkeypatch.setattr(exploration, "Memory", Tight)
    monkeypatch.setattr(Tight, "growths", 0)
    explored = explore(story.of("v5.19"), story.scope, [], reduce=False)
    assert Tight.growths
    assert explored.levels == tuple(len(level) for level in oracle.levels)
    assert explored.transitions == sum(oracle.steps.values())


@pytest.mark.parametrize("story", [s for s in STORIES if "v5.19" in s.quick], ids=lambda s: s.name.replace(" ", "-"))
def test_two_threads_find_the_same_states_and_the_same_paths(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the order in which they find them; small tables and levels make them meet often."""
    monkeypatch.setattr(exploration, "Memory", Tight)
    monkeypatch.setattr(memory, "WORTH_THREADS", 0)
    claims = [claim(i) for i in applicable("v5.19")]
    alone, *together = (explore(story.of("v5.19"), story.scope, claims, threads=n) for n in (1, 2, 3, 2, 3))
    for explored in together:
        assert (explored.levels, explored.fired) == (alone.levels, alone.fired)
        assert [f.path for f in explored.findings] == [f.path for f in alone.findings]


def test_object_code_is_kept_and_what_is_damaged_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def counts() -> tuple[int, int]:
        explored = explore(STORIES[-1].of("v5.14"), STORIES[-1].scope, [])
        return explored.states, explored.transitions

    before = counts()
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.o")}
    assert kept
    assert counts() == before
    for path, content in kept.items():
        path.write_bytes(content[:-1])
    assert counts() == before
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.o")} == kept


def test_models_of_one_shape_share_their_object_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other rules are other numbers that the same code follows."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = []
    for kernel in ("v5.8", "v5.9-rc4", "break-cow"):
        explored = explore(system(kernel), SMALL, [])
        found.append((explored.states, explored.transitions, len(list(tmp_path.rglob("*.o")))))
    assert len(set(found)) == 3
    assert {files for *_, files in found} == {2}


def test_where_nothing_can_be_kept_exploration_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert explore(STORIES[-1].of("v5.7"), STORIES[-1].scope, []).complete


@pytest.mark.parametrize(("words", "scope"), [
    (3, Scope.of(Proc=3, Page=2, Frame=2, Pin=2, Slot=4, Value=4)),
    pytest.param(4, Scope.of(Proc=3, Page=3, Frame=2, Pin=6, Slot=4, Value=4), marks=pytest.mark.slow),
])
def test_a_state_may_have_any_number_of_words(words: int, scope: Scope) -> None:
    story = Story("states of many words", (), "anon-fault fork wp-copy", scope)
    grounder = Grounder(story.of("v5.19"), story.scope)
    written = {bit // 64 for s in grounder.steps() for bit, after in s.bits if after != grounder.inputs[bit]}
    assert (machine.state_words(grounder), written) == (words, set(range(words)))
    oracle = reached("v5.19", story)
    explored = explore(story.of("v5.19"), story.scope, [], reduce=False)
    assert (explored.states, explored.transitions) == (len(oracle.steps), sum(oracle.steps.values()))
    assert explored.levels == tuple(len(level) for level in oracle.levels)


@pytest.mark.parametrize("lacking", ["avx512", "avx"])
@pytest.mark.parametrize("reduce", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("story", [s for s in STORIES if "v5.19" in s.quick], ids=lambda s: s.name.replace(" ", "-"))
def test_a_processor_without_instructions_for_it_finds_the_same(
    story: Story, reduce: bool, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = [claim(i) for i in applicable("v5.19")]

    def found() -> tuple[object, ...]:
        explored = explore(story.of("v5.19"), story.scope, claims, reduce=reduce)
        return explored.levels, explored.transitions, explored.fired, [f.path for f in explored.findings]

    here = found()
    without = frozenset(name for name in machine_code.cpu_features() if lacking not in name)
    for file in (machine, machine_code):
        monkeypatch.setattr(file, "cpu_features", lambda: without)
    assert found() == here


# Exploration that stops and goes on


def test_an_exploration_that_ran_out_of_time_or_memory_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cone, members = next(cones("v5.14"))
    claims = [claim(i) for i in members]
    whole = explore(cone, SMALL, claims)
    monkeypatch.setattr(exploration, "CHUNK", 4096)
    parts = [explore(cone, SMALL, claims, timeout=1e-9, checkpoints=tmp_path)]
    while not parts[-1].complete:
        parts.append(explore(cone, SMALL, claims, timeout=1e-9, checkpoints=tmp_path))
    assert len(parts) > 5
    assert [p.states for p in parts] == sorted(p.states for p in parts)
    assert replace(parts[-1], seconds=whole.seconds) == whole
    assert not list(tmp_path.iterdir())


def test_what_was_kept_of_an_exploration_is_taken_for_no_other(tmp_path: Path) -> None:
    (cone, members), (other, others), *_ = cones("v5.14")
    explore(cone, SMALL, [claim(i) for i in members], timeout=1e-9, checkpoints=tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 2
    assert explore(other, SMALL, [claim(i) for i in others], checkpoints=tmp_path).complete
    assert sorted(tmp_path.iterdir()) == kept


def test_a_checkpoint_cut_short_is_not_taken(tmp_path: Path) -> None:
    cone, members = next(cones("v5.14"))
    claims = [claim(i) for i in members]
    explore(cone, SMALL, claims, timeout=1e-9, checkpoints=tmp_path)
    (states,) = tmp_path.glob("*.states")
    states.write_bytes(states.read_bytes()[:-8])
    found = explore(cone, SMALL, claims, checkpoints=tmp_path)
    assert replace(found, seconds=0) == replace(explore(cone, SMALL, claims), seconds=0)


def test_a_checkpoint_in_which_a_state_changed_is_not_taken(tmp_path: Path) -> None:
    cone, members = next(cones("v5.14"))
    claims = [claim(i) for i in members]
    explore(cone, SMALL, claims, timeout=1e-9, checkpoints=tmp_path)
    (states,) = tmp_path.glob("*.states")
    kept = bytearray(states.read_bytes())
    kept[8] ^= 1
    states.write_bytes(kept)
    found = explore(cone, SMALL, claims, checkpoints=tmp_path)
    assert replace(found, seconds=0) == replace(explore(cone, SMALL, claims), seconds=0)


def test_a_scope_that_does_not_fit_says_what_it_would_need(monkeypatch: pytest.MonkeyPatch) -> None:
    cone, members = next(cones("v5.14"))
    monkeypatch.setattr(exploration, "Memory", Tight)
    found = explore(cone, DEFAULT, [claim(i) for i in members], memory=1 << 20)
    assert not found.complete
    wanted = re.fullmatch(
        r"out of memory: room for [\d,]+ states needs \d+ MiB, allowed are 1 MiB; about ([\d,]+) states would need "
        r"\d+ MiB", found.stopped,
    )
    assert wanted
    whole = explore(cone, DEFAULT, [claim(i) for i in members])
    assert whole.states / 3 < int(wanted[1].replace(",", "")) < 3 * whole.states


def test_progress_says_beforehand_that_a_scope_will_not_fit() -> None:
    fits = Progress((1, 2), 20_000_000, 10_000_000, 10.0, 1 << 30, 90_000_000, 2 << 30, 8 << 30)
    assert str(fits) == "20.0 of ~90 M states, ~1 min 20 s left, ~2.0 GiB"
    assert str(replace(fits, need=12 << 30)).endswith("~12.0 GiB: more than the 8.0 GiB of --memory")
    assert str(replace(fits, expected=None)) == "20.0 M states, 1.0 GiB"


@pytest.mark.parametrize("shape", [(1.2, 3.0), (0.8, 2.5)])
def test_the_number_of_states_is_foreseen_from_levels_whose_ratio_falls_evenly(shape: tuple[float, float]) -> None:
    ratio, levels = shape[1], [1000.0]
    while levels[-1] >= 1:
        levels.append(levels[-1] * math.exp(ratio))
        ratio -= shape[0] / 4
    whole = [round(level) for level in levels if level >= 1]
    assert expected_states(whole[:4]) is None
    foreseen = expected_states(whole[:7])
    assert foreseen is not None
    assert math.isclose(foreseen, sum(whole), rel_tol=0.02)


# Symmetry


class Renaming:
    """Gives the state in which element e of a sort is called names[sort][e]."""

    def __init__(self, interpreter: Interpreter, names: dict[str, tuple[int, ...]]) -> None:
        self.interpreter = interpreter
        layout = interpreter.layout
        self.moves: list[tuple[int, tuple[int, ...] | None]] = []
        """For each cell where it goes, and how its values are called then."""
        for function in layout.functions:
            sorts = [names.get(sort.name()) for sort in function.domain]
            values = names.get(function.range.name())
            for index in layout.position[function.name]:
                place = tuple(i if called is None else called[i] for called, i in zip(sorts, index, strict=True))
                self.moves.append((layout.place(function, *place), values))

    def __call__(self, state: State) -> State:
        result = list(state)
        for value, (place, called) in zip(state, self.moves, strict=True):
            result[place] = value if called is None else called[value]
        return self.interpreter.canonical(tuple(result))


def renamings(of: System, scope: Scope) -> list[dict[str, tuple[int, ...]]]:
    """All that leave each constant's element, the first, its name."""
    fixed = {c.sort().name() for c in of.constants}
    of_sort = [
        [(sort, p) for p in itertools.permutations(range(size)) if sort not in fixed or p[0] == 0]
        for sort, size in scope.sizes
    ]
    return [dict(chosen) for chosen in itertools.product(*of_sort)]


def machine_states(of: System, scope: Scope, most: int = 1 << 17) -> list[State]:
    """The representatives that the machine code keeps, or the first `most` and a few more."""
    grounder = Grounder(of, scope)
    steps = grounder.steps()
    code = machine_code.Code(machine.assembly(grounder, steps, [], [], symmetry_of(grounder)))
    store = Memory(machine.state_words(grounder), len(steps), 0, 1 << 30)
    symmetry = symmetry_of(grounder)
    initial = grounder.unpack(grounder.initial())
    first = symmetry.canonical(initial) if symmetry else initial
    store.enter(packed_words([grounder.pack(first)], store.words), code)
    low = 0
    while low < store.count < most:
        low = store.expand(code, low, min(store.count, low + 64))
        if store.full:
            store.grow(code)
    return [grounder.unpack(store.state(n)) for n in range(store.count)]


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "story"), [
    pytest.param(k, s, id=f"{k}-{s.name.replace(' ', '-')}") for s in (*STORIES, *FEATURE_STORIES) for k in s.quick
])
def test_reduced_exploration_has_one_state_for_each_orbit(kernel: str, story: Story) -> None:
    of, oracle = story.of(kernel), reached(kernel, story)
    interpreter = Interpreter(of, story.scope)
    symmetry = symmetry_of(Grounder(of, story.scope))
    assert symmetry is not None
    sorts = {s.name() for f in of.functions for s in (*f.domain, f.range)} - {"Bool", "Value"}
    permutations = [
        Renaming(interpreter, dict(zip(sorts, chosen, strict=True)))
        for chosen in itertools.product(*(itertools.permutations(range(story.scope.as_dict()[s])) for s in sorts))
    ]
    distance = {state: n for n, level in enumerate(oracle.levels) for state in level}
    representatives: dict[State, int] = {}
    farthest = 0
    unseen = set(oracle.steps)
    while unseen:
        state = unseen.pop()
        orbit = {renamed(state) for renamed in permutations}
        # The first process is told apart initially: not every renaming of a reachable state need be reachable.
        unseen -= orbit
        (representative,) = {symmetry.canonical(member) for member in orbit}
        assert representative in orbit
        assert symmetry.canonical(representative) == representative
        (representatives[representative],) = {oracle.steps[member] for member in orbit & distance.keys()}
        farthest = max(farthest, min(distance[member] for member in orbit & distance.keys()))

    explored = explore(of, story.scope, [])
    assert explored.states == len(representatives)
    assert explored.transitions == sum(representatives.values())
    assert explored.diameter == farthest
    assert sorted(machine_states(of, story.scope)) == sorted(representatives)


@pytest.mark.parametrize(("kernel", "story"), [
    pytest.param(s.quick[0] if s.quick else "v5.19", s, id=s.name.replace(" ", "-"), marks=marks) for s, marks in (
        (STORIES[1], ()), *((s, pytest.mark.slow) for s in (STORIES[2], STORIES[5], *FEATURE_STORIES[:-1])),
    )
])
def test_steps_that_name_the_least_of_equal_elements_reach_a_renaming_of_every_state_as_soon(
    kernel: str, story: Story
) -> None:
    of, oracle = story.of(kernel), reached(kernel, story)
    interpreter, grounder = Interpreter(of, story.scope), Grounder(of, story.scope)
    alike = functools.partial(unmoved, grounder)
    every = [Renaming(interpreter, names) for names in renamings(of, story.scope)]
    least = {
        s.instance: grounder.circuit.all(least_alike(grounder, s.instance.rule, s.instance.as_dict, alike))
        for s in grounder.steps()
    }
    level, seen, left_out = [interpreter.initial()], {interpreter.initial()}, 0
    for those in oracle.levels:
        assert {renamed(state) for state in level for renamed in every} >= set(those)
        simulation = Simulation(grounder.circuit, [grounder.pack(state) for state in level])
        following = set()
        for n, state in enumerate(level):
            for instance, after in interpreter.successors(state):
                if simulation.plane(least[instance]) >> n & 1:
                    following.add(after)
                else:
                    left_out += 1
        level = sorted(following - seen)
        seen |= following
    assert left_out


@pytest.mark.parametrize(("kernel", "story"), [
    pytest.param("v5.14", STORIES[1], id="two-pages"), pytest.param("v6.15", FEATURE_STORIES[0], id="huge"),
    pytest.param("v5.19", STORIES[5], id="two-slots", marks=pytest.mark.slow),
])
def test_elements_are_alike_in_a_state_that_their_exchange_does_not_change(kernel: str, story: Story) -> None:
    of, chance = story.of(kernel), random.Random(kernel)
    interpreter, grounder = Interpreter(of, story.scope), Grounder(of, story.scope)
    states = [s for level in reached(kernel, story).levels for s in chance.sample(level, min(len(level), 20))]
    fixed = {c.sort().name() for c in of.constants}
    pairs = [(sort, a, b) for sort, size in story.scope.sizes for a, b in itertools.combinations(range(size), 2)]
    literals = {pair: unmoved(grounder, *pair) for pair in pairs}
    simulation = Simulation(grounder.circuit, [grounder.pack(state) for state in states])
    for (sort, a, b), literal in literals.items():
        names = list(range(story.scope.as_dict()[sort]))
        names[a], names[b] = b, a
        movable, renamed = sort not in fixed or a > 0, Renaming(interpreter, {sort: tuple(names)})
        for n, state in enumerate(states):
            same = movable and renamed(state) == state
            assert bool(simulation.plane(literal) >> n & 1) == same, (sort, a, b)


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
    walks = -(-5_000 // WALK_LENGTH // len(distinct_kernels()))
    assert agrees_with_circuit(kernel, WALK, walks) > walks


@pytest.mark.slow
@pytest.mark.parametrize("kernel", distinct_kernels())
def test_circuit_and_interpreter_take_the_same_steps_on_two_thousand_walks(kernel: str) -> None:
    walks = -(-2_000 // len(distinct_kernels()))
    assert agrees_with_circuit(kernel, WALK, walks) > walks


@pytest.mark.parametrize("kernel", ["v5.7", "v5.14", "v6.15"])
def test_circuit_and_interpreter_take_the_same_steps_with_two_of_everything(kernel: str) -> None:
    assert agrees_with_circuit(kernel, WIDE_WALK, 3) > 3


# Cells that do not matter

@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["v5.7", "v5.14", "v6.15", "wrprotect-skip"])
def test_junk_in_cells_that_do_not_matter_changes_nothing_that_does(kernel: str) -> None:
    interpreter = Interpreter(system(kernel), WALK)
    chance = random.Random(kernel)
    layout = interpreter.layout
    matters = {f.name: meaning(f) for f in system(kernel).functions if f.meaningful is not None}
    sample = chance.sample(machine_states(system(kernel), WALK), 40)
    assert len(set(sample)) == 40
    for state in sample:
        junk = list(state)
        for place, (function, index) in enumerate(layout.cells):
            if function.name in matters:
                bound, term = matters[function.name]
                binding = {c.decl().name(): i for c, i in zip(bound, index, strict=True)}
                if not interpreter.evaluate(term, state, binding):
                    junk[place] = chance.randrange(layout.values(function))
        assert interpreter.canonical(tuple(junk)) == state
        for i in applicable(kernel):
            assert interpreter.evaluate(i.formula, tuple(junk)) == interpreter.evaluate(i.formula, state), i.name
        # A rule that made a cell matter without writing it would take over the junk.
        assert dict(interpreter.successors(tuple(junk))) == dict(interpreter.successors(state))


# Cones of influence, traces


def agrees_with_cones(kernel: str) -> None:
    whole = lengths(explore(system(kernel), SMALL, [claim(i) for i in applicable(kernel)]))
    for cone, members in cones(kernel):
        assert lengths(explore(cone, SMALL, [claim(i) for i in members])) == {i.name: whole[i.name] for i in members}


@pytest.mark.parametrize("kernel", ["v5.8", "v5.14"])
def test_the_cone_of_a_claim_gives_the_verdict_of_the_whole_system(kernel: str) -> None:
    agrees_with_cones(kernel)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", distinct_kernels())
def test_the_cones_of_every_kernel_give_the_verdicts_of_the_whole_system(kernel: str) -> None:
    agrees_with_cones(kernel)


@pytest.mark.slow
@every_era
def test_every_counterexample_executes_on_the_whole_system(kernel: str) -> None:
    found = 0
    for cone, members in cones(kernel):
        for finding in explore(cone, SMALL, [claim(i) for i in members]).findings:
            if finding.path is not None:
                found += 1
                path = [Instance(system(kernel).rule(step.rule.name), step.binding) for step in finding.path]
                for of, steps in ((cone, finding.path), (system(kernel), path)):
                    trace = execute(kernel, finding.claim.name, "", of, SMALL, steps, violated=finding.claim.formula)
                    assert all(trace.interpreter.evaluate(finding.claim.formula, s) for s in trace.states[:-1])
    assert found


# Bounded model checking


def agrees_with_bmc(kernel: str, scope: Scope, names: tuple[str, ...], depth: int) -> None:
    for cone, members in cones(kernel):
        chosen = [claim(i) for i in members if i.name in names]
        found = lengths(explore(cone, scope, chosen)) if chosen else {}
        for c in chosen:
            nearest = found[c.name]
            bounded = bmc(cone, scope, c, depth if nearest is None else nearest)
            assert not bounded.stopped
            if nearest is None:
                assert (bounded.path, bounded.depth) == (None, depth), c.name
            else:
                assert bounded.path is not None
                assert (len(bounded.path), bounded.depth) == (nearest, nearest - 1), c.name
                execute(kernel, c.name, "", cone, scope, bounded.path, violated=c.formula)


SAMPLE = ("coherence-write-pin", "isolation-reference", "swap-slot", "uffd-wp")


@every_era
def test_bounded_model_checking_finds_the_same_shortest_violations(kernel: str) -> None:
    agrees_with_bmc(kernel, SMALL, SAMPLE, 4)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "scope"), [
    *(pytest.param(k, SMALL, id=f"{k}-two-frames") for k in distinct_kernels()),
    *(pytest.param(k, DEFAULT, id=f"{k}-three-frames") for k in MAIN),
])
def test_bounded_model_checking_agrees_on_every_kernel_and_invariant(kernel: str, scope: Scope) -> None:
    agrees_with_bmc(kernel, scope, tuple(i.name for i in INVARIANTS), 5)


@pytest.mark.parametrize(("kernel", "story"), [
    pytest.param(
        k, s, id=f"{k}-{s.name.replace(' ', '-')}",
        marks=() if (k, s) == ("v5.9", FEATURE_STORIES[5]) else pytest.mark.slow,
    )
    for s in (*STORIES[1:3], STORIES[5], *FEATURE_STORIES) for k in s.quick
])
def test_bounded_model_checking_agrees_in_wide_scopes_and_with_features(kernel: str, story: Story) -> None:
    of, claims = story.of(kernel), [claim(i) for i in applicable(kernel)]
    unrolling = Unrolling(of, story.scope)
    for name, nearest in lengths(explore(of, story.scope, claims, reduce=False)).items():
        (judged,) = (c for c in claims if c.name == name)
        bounded = bmc(of, story.scope, judged, 5, unrolling=unrolling)
        near = nearest is not None and nearest <= 5
        assert (None if bounded.path is None else len(bounded.path)) == (nearest if near else None), name


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["v5.9", "v6.15"])
def test_bounded_model_checking_agrees_on_broken_kernels(kernel: str) -> None:
    """One in eighty of the kernels with a guard or an update left out; some of them let a cell matter without writing
    it, and then elements that look alike are not."""
    claims = [claim(i) for i in applicable(kernel) if i.name in SAMPLE]
    violated = 0
    for mutant in itertools.islice(mutants(system(kernel), by_name(kernel).system(STARTED)), 1, None, 80):
        of = mutant.system.restricted(mutant.system.cone([f for c in claims for f in (c.formula, c.premise)]))
        explored = explore(of, SMALL, claims, reduce=False)
        unrolling = Unrolling(of, SMALL, reduce=not unwritten(of, of.rules, []))
        for finding in explored.findings:
            nearest = None if finding.path is None or len(finding.path) > 4 else len(finding.path)
            bounded = bmc(of, SMALL, finding.claim, 4, unrolling=unrolling)
            assert (None if bounded.path is None else len(bounded.path)) == nearest, (mutant.what, finding.claim)
            violated += nearest is not None
    assert violated


def test_the_size_of_the_encoding_grows_with_the_scope() -> None:
    small, default = (Unrolling(system("v5.9"), scope) for scope in (SMALL, DEFAULT))
    assert small.size.variables == small.grounder.bits + len(small.choice)
    assert small.size.variables < default.size.variables
    assert small.size.gates < default.size.gates
    assert bmc(system("v5.9"), SMALL, claim(invariant("mprotect")), 0, unrolling=small).size == small.size


# Rules

NEVER_FIRES: dict[tuple[str, str], str] = {}


@pytest.mark.parametrize("kernel", distinct_kernels())
def test_every_rule_fires_at_the_default_scope(kernel: str) -> None:
    """A bound on memory ends the exploration early: that a rule fired stays true."""
    explored = explore(system(kernel), DEFAULT, [], memory=1)
    silent = {r.name for r in system(kernel).rules if r.kind == "step" and not explored.fired[r.name]}
    assert silent == {rule for k, rule in NEVER_FIRES if k == kernel}


# Limits: what ran out is said, and nothing is called complete


def test_running_out_of_time_is_no_verdict() -> None:
    explored = explore(system("v5.7"), SMALL, [claim(invariant("mprotect"))], timeout=0.0)
    assert not explored.complete
    assert "out of time" in explored.stopped


def test_running_out_of_memory_is_no_verdict() -> None:
    explored = explore(system("v5.7"), SMALL, [claim(invariant("mprotect"))], memory=1)
    assert not explored.complete
    assert "out of memory" in explored.stopped


def test_bounded_model_checking_that_runs_out_of_time_claims_no_depth() -> None:
    bounded = bmc(system("v5.7"), DEFAULT, claim(invariant("mprotect")), 3, timeout=0.0)
    assert bounded.path is None
    assert bounded.depth == -1
    assert "out of time" in bounded.stopped


def test_stopping_at_violations_is_not_complete() -> None:
    explored = explore(system("v5.7"), SMALL, [claim(invariant("write-bit"))], stop_at_violations=True)
    assert not explored.complete
    assert explored.stopped
    assert lengths(explored) == {"write-bit": 3}


def test_a_system_that_finishes_in_time_and_memory_is_complete() -> None:
    explored = explore(STORIES[-1].of("v5.7"), STORIES[-1].scope, [], timeout=600)
    assert explored.complete
    assert not explored.stopped
