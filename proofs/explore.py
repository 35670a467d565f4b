"""Exhaustive breadth-first exploration of a scope by machine code: shortest counterexamples, or all states seen."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import mmap
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.logic import ModelError, Scope, System, Term, initial_value
from proofs import machine, runtime
from proofs.clock import done_by
from proofs.errors import OutOfMemory, OutOfTime
from proofs.ground import Grounder
from proofs.interpreter import Instance, Interpreter
from proofs.progress import Checkpoint, Progress, Standing, expected_states, in_bytes, round_number
from proofs.symmetry import Symmetry, frames, symmetry_of

PIECE = 1 << 18
"""Buckets of a table moved to a larger one between two looks at memory."""
CHUNK = 1 << 18
"""States expanded between two looks at the clock."""
STRIDE = 1 << 16
"""States of a sample expanded between two looks at how many there are."""
ALL_VIOLATED = "every claim is violated"
"""Why an exploration ended early that was told to look no further."""
TELL = 0.5
"""Seconds between two reports of progress."""
LEAST = 3.0
"""Seconds that making the machine code may take whatever the time limit: one that goes on later must get to a state."""
WORTH_OPTIMISING = 60_000
"""States from which compiling better code pays."""
WORTH_THREADS = 1 << 15
"""States of a level from which a second thread pays."""


@dataclass(frozen=True)
class Claim:
    """A closed formula to check in every state, and the premise without which it says nothing."""

    name: str
    formula: Term
    premise: Term


@dataclass(frozen=True)
class Finding:
    """What exploration says of one claim. `path`: the steps to the nearest violation, None if there is none."""

    claim: Claim
    path: tuple[Instance, ...] | None
    vacuous: bool


@dataclass(frozen=True)
class Exploration:
    """A finished or interrupted exploration.

    `complete`: every reachable state was expanded. `stopped`: why not, in words. `diameter`: length of the longest
    shortest path (of the levels finished). `fired`: rule name to the number of its steps.
    """

    findings: tuple[Finding, ...]
    complete: bool
    stopped: str
    states: int
    transitions: int
    diameter: int
    levels: tuple[int, ...]
    fired: dict[str, int]
    seconds: float


class Memory:
    """The arrays that the machine code works on, and for each thread the block of addresses by which it finds them."""

    LOAD = 0.8
    """The part of the table's entries that may be taken."""
    START = 1 << 18
    """States for which there is room at first."""

    def __init__(self, words: int, steps: int, claims: int, limit_bytes: int, threads: int = 1) -> None:
        self.words = words
        self.steps = steps
        self.claims = claims
        self.limit_bytes = limit_bytes
        self.threads = threads
        self.slack = runtime.BLOCK * max(steps, 1) * threads
        self.stride = max(limit_bytes // (8 * words), 2 * (self.START + self.slack))
        # Address space only: pages come as the queue gets longer.
        self.queue = _reserved(self.stride * words).reshape(words, self.stride)
        self.count_cell = np.zeros(1, np.int64)
        self.cursor = np.zeros(1, np.int64)
        self.first = np.full((max(claims, 1), words), NONE, np.uint64)
        self.open = np.ones(max(claims, 1), np.uint64)
        self.hits = np.zeros(1, np.uint8)
        self.workers = [Worker(words, steps, claims) for _ in range(threads)]
        self.make_table(self.START)

    def make_table(self, states: int) -> None:
        """An empty table with room for as many states."""
        self.capacity = states
        self.buckets = self.buckets_for(states)
        self.table = _reserved(self.buckets * runtime.bucket_words(self.words))
        for worker in self.workers:
            worker.cache[:] = 0
            worker.publish(
                queue=self.queue, table=self.table, count=self.count_cell, cursor=self.cursor, first=self.first,
                open=self.open, hits=self.hits, stride=self.stride, nbuckets=self.buckets, limit=self.capacity,
            )

    def buckets_for(self, states: int) -> int:
        """Buckets of a table with room for as many states and all that can be found before it is looked at again."""
        return int((states + self.slack) / self.LOAD) // runtime.slots(self.words) + 1

    @property
    def count(self) -> int:
        return int(self.count_cell[0])

    @property
    def full(self) -> bool:
        """No block may be expanded before the table has grown."""
        return self.count > self.capacity

    @property
    def fired(self) -> np.ndarray[Any, Any]:
        """How often each rule instance was taken."""
        total: np.ndarray[Any, Any] = np.sum([w.fired for w in self.workers], axis=0)
        return total

    @property
    def bytes(self) -> int:
        """Memory of the states found and of the table."""
        return self.count * 8 * self.words + self.table.nbytes

    def inspect(self, code: machine.Code, low: int, broken: Collection[int]) -> list[int]:
        """Look at the claims in the states from number `low` on; the numbers of those that are broken only now."""
        code.inspect(self.workers[0].address, low, self.count)
        found = [c for c in range(self.claims) if c not in broken and self.first[c][-1] != NONE]
        self.open[found] = 0
        return found

    def first_key(self, claim: int) -> Key:
        """The least state of its level that breaks the claim."""
        return tuple(map(int, self.first[claim]))

    def bytes_for(self, states: int) -> int:
        """Memory of that many states and of a table for them."""
        return 8 * (states * self.words + self.buckets_for(states) * runtime.bucket_words(self.words))

    def expand(self, code: machine.Code, low: int, high: int) -> int:
        """Expand states from number `low` (a block begins there); returns the first that is not expanded."""
        self.cursor[0] = low
        threads = self.threads if high - low >= WORTH_THREADS else 1
        _together([functools.partial(code.expand, w.address, 0, high) for w in self.workers[:threads]])
        return min(high, int(self.cursor[0]))

    def grow(self, code: machine.Code) -> None:
        """A larger table with the same states. Raises OutOfMemory."""
        # Small tables are made anew less often; a large one is half full at least.
        wanted = self.capacity * 3 // 2 if self.capacity > 1 << 24 else 2 * self.capacity
        self.demand(wanted)
        old, buckets = self.table, self.buckets
        self.make_table(wanted)
        for worker in self.workers:
            worker.publish(mode=runtime.REHASH, old=old)
        width = runtime.bucket_words(self.words)
        for start in range(0, buckets, PIECE):
            bounds = np.linspace(start, min(buckets, start + PIECE), self.threads + 1, dtype=np.int64)
            parts = zip(self.workers, itertools.pairwise(map(int, bounds)), strict=True)
            _together([functools.partial(code.rehash, w.address, a, b) for w, (a, b) in parts if a < b])
            # What was read is given back, so that the two tables never need room for both.
            _forgotten(old, start * width, PIECE * width)
        for worker in self.workers:
            worker.publish(mode=runtime.NORMAL)

    def demand(self, states: int) -> None:
        """Raises OutOfMemory if there may not be as many."""
        needed = self.bytes_for(states)
        if needed > self.limit_bytes or states + self.slack > self.stride:
            raise OutOfMemory(
                f"room for {states:,} states needs {in_bytes(needed)}, allowed are {in_bytes(self.limit_bytes)}"
            )

    def add(self, states: np.ndarray[Any, Any], code: machine.Code) -> None:
        """Put those at the end of the queue that are new, one row of words each. Raises OutOfMemory."""
        for start in range(0, len(states), self.slack):
            if self.full:
                self.grow(code)
            self.workers[0].enter(states[start : start + self.slack], code, runtime.NORMAL)

    def enter(self, states: np.ndarray[Any, Any], code: machine.Code) -> None:
        """Enter the first states, different ones, one row of words each. Raises OutOfMemory."""
        if len(states) > self.capacity:
            self.demand(len(states))
            self.make_table(len(states))
        self.queue[:, : len(states)] = states.T
        self.count_cell[0] = len(states)
        self.workers[0].enter(states, code)

    def standing(self, levels: list[int], expanded: int, broken: dict[int, int], seconds: float) -> Standing:
        """What a checkpoint keeps besides the states."""
        return Standing(
            self.count, levels, expanded, broken, self.first.tolist(), self.fired.tolist(),
            self.workers[0].seen.tolist(), seconds,
        )

    def restore(self, standing: Standing) -> None:
        """Take up what a checkpoint kept besides the states."""
        self.first[:] = standing.first
        self.workers[0].fired[:] = standing.fired
        self.workers[0].seen[:] = standing.seen
        for claim in standing.broken:
            self.open[claim] = 0

    def state(self, number: int) -> int:
        """State `number` of the queue as one packed integer."""
        return packed_number(tuple(map(int, self.queue[:, number])))


NONE = np.uint64((1 << 64) - 1)


class Worker:
    """What one thread has for itself."""

    def __init__(self, words: int, steps: int, claims: int) -> None:
        self.own: dict[str, Any] = {
            "fired": np.zeros(max(steps, 1), np.uint64), "seen": np.zeros(max(claims, 1), np.uint64),
            "buckets": np.zeros(runtime.ROOM, np.uint64), "cache": np.zeros(words * runtime.CACHE, np.uint64),
            **{name: np.zeros(words * runtime.ROOM, np.uint64) for name in ("pending0", "pending1", "fresh")},
        }
        self.fired: np.ndarray[Any, Any] = self.own["fired"]
        self.seen: np.ndarray[Any, Any] = self.own["seen"]
        self.cache: np.ndarray[Any, Any] = self.own["cache"]
        self.context = np.zeros(len(runtime.FIELDS), np.uint64)
        self.publish(**self.own)

    def publish(self, **values: Any) -> None:
        """Set variables of the machine code: numbers, or arrays, which must live as long, by their addresses."""
        for name, value in values.items():
            number = value.ctypes.data if isinstance(value, np.ndarray) else value
            self.context[runtime.FIELDS.index(name)] = number

    def enter(self, states: np.ndarray[Any, Any], code: machine.Code, mode: int = runtime.REHASH) -> None:
        """Enter states, one row of words each: into the table only, or in the normal mode also into the queue."""
        self.publish(mode=mode)
        room = self.own["pending0"].reshape(states.shape[1], runtime.ROOM)
        for start in range(0, len(states), runtime.BATCH):
            batch = states[start : start + runtime.BATCH]
            room[:, : len(batch)] = batch.T
            self.publish(waiting0=len(batch))
            code.settle(self.address, 0, 0)
        self.publish(mode=runtime.NORMAL)

    @property
    def address(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.context.ctypes.data)


def _together(tasks: Sequence[Callable[[], Any]]) -> None:
    """Do all of it, a thread for each but the first."""
    helpers = [threading.Thread(target=task) for task in tasks[1:]]
    for helper in helpers:
        helper.start()
    tasks[0]()
    for helper in helpers:
        helper.join()


_NORESERVE = 0x4000
"""MAP_NORESERVE of Linux, which Python 3.11 does not name."""


def _reserved(numbers: int) -> np.ndarray[Any, Any]:
    """Zeroed 64-bit numbers from the beginning of a page on, in memory that is taken as they are written."""
    room = mmap.mmap(-1, 8 * numbers, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    if 8 * numbers > 1 << 22:
        with contextlib.suppress(OSError):
            room.madvise(mmap.MADV_HUGEPAGE)
    array: np.ndarray[Any, Any] = np.frombuffer(room, np.uint64)
    return array


def _forgotten(array: np.ndarray[Any, Any], start: int, length: int) -> None:
    """Give the memory of those numbers of a reserved array back; they are zero then."""
    room = array.base.obj if isinstance(array.base, memoryview) else array.base
    if isinstance(room, mmap.mmap):
        page = mmap.PAGESIZE
        first, last = -(-8 * start // page) * page, min(8 * (start + length), array.nbytes) // page * page
        if first < last:
            room.madvise(mmap.MADV_DONTNEED, first, last - first)


def packed_words(states: Sequence[int], words: int) -> np.ndarray[Any, Any]:
    """Packed states as rows of 64-bit words, with the marker."""
    marker = 1 << 64 * words - 1
    return np.array([[(s | marker) >> 64 * w & (1 << 64) - 1 for w in range(words)] for s in states], np.uint64)


class Model:
    """A system in a scope with claims about it, ready to be explored.

    `reduce`: count states that differ by a renaming of elements as one. `text`: the machine code, on which all that is
    found depends. `first`: the representative of the initial state, as words.
    """

    def __init__(self, system: System, scope: Scope, claims: Sequence[Claim], reduce: bool) -> None:
        grounder = Grounder(system, scope)
        formulas = [grounder.formula(c.formula) for c in claims]
        premises = [grounder.formula(c.premise) for c in claims]
        symmetry = symmetry_of(grounder, [t for c in claims for t in (c.formula, c.premise)]) if reduce else None
        self.claims = claims
        self.grounder = grounder
        self.steps = grounder.steps()
        self.text = machine.assembly(grounder, self.steps, formulas, premises, symmetry)
        self.words = machine.state_words(grounder)
        self._represent = symmetry.canonical if symmetry else lambda state: state
        self._interpreter = Interpreter(system, scope)
        self._initial = self._interpreter.initial()
        self.first = packed_words([grounder.pack(self._represent(self._initial))], self.words)

    def room(self, memory: int, threads: int = 1) -> Memory:
        """Where states are kept, in at most `memory` bytes."""
        return Memory(self.words, len(self.steps), len(self.claims), memory, threads)

    def path(self, states: Sequence[Key]) -> tuple[Instance, ...]:
        """The steps of a path of representatives, as the reference interpreter takes them. Raises EngineError."""
        known = [self.grounder.unpack(packed_number(state)) for state in states[1:]]
        return self._interpreter.follow([self._initial, *known], self._represent)

    def fired(self, by_instance: Sequence[int]) -> dict[str, int]:
        """How often each rule was taken, of how often each of its instances was."""
        fired = {rule.name: 0 for rule in self.grounder.system.rules}
        for step, times in zip(self.steps, by_instance, strict=False):
            fired[step.instance.rule.name] += int(times)
        return fired

    def findings(
        self, paths: Mapping[Key, Sequence[Key]], first: Mapping[int, Key], seen: Sequence[int]
    ) -> tuple[Finding, ...]:
        """What is found of each claim. `first`: the nearest state that breaks it, by the claim's number."""
        steps = {end: self.path(states) for end, states in paths.items()}
        return tuple(
            Finding(claim, steps[first[i]] if i in first else None, not seen[i]) for i, claim in enumerate(self.claims)
        )


def explore(
    system: System, scope: Scope, claims: Sequence[Claim], *, timeout: float | None = None,
    memory: int = 8 << 30, stop_at_violations: bool = False, reduce: bool = True,
    threads: int = 1, progress: Callable[[Progress], None] | None = None, checkpoints: Path | None = None,
) -> Exploration:
    """Explore every state of `system` in `scope`, looking at every claim in each.

    `timeout` in seconds, `memory` in bytes. `stop_at_violations`: end once every claim is broken. `reduce`: count
    states that differ by a renaming of elements as one; verdicts and shortest lengths do not depend on it. `threads`
    that expand large levels together; nothing that is found depends on how many. `progress`: told now and then.
    `checkpoints`: a folder where an exploration that takes long, or runs out of time or memory, is kept, and from where
    the same one goes on. The system should be restricted to the claims' cone. Raises ModelError if what was kept does
    not fit the memory, and OSError if the folder cannot be written.
    """
    started = time.monotonic()
    deadline = None if timeout is None else started + max(timeout, LEAST)
    try:
        with done_by(deadline):
            model = Model(system, scope, claims, reduce)
            code = machine.Code(model.text, optimised=False)
    except OutOfTime:
        unseen = tuple(Finding(claim, None, False) for claim in claims)
        fired = {rule.name: 0 for rule in system.rules}
        late = f"out of time after {timeout:g} s"
        return Exploration(unseen, False, late, 0, 0, -1, (), fired, time.monotonic() - started)
    store = model.room(memory, threads)
    checkpoint = Checkpoint(checkpoints, model.text, store.words) if checkpoints else None

    levels: list[int] = []
    broken: dict[int, int] = {}
    low = 0
    earlier = 0.0
    if checkpoint and (kept := checkpoint.load()):
        states, standing = kept
        try:
            store.enter(states, code)
        except OutOfMemory as error:
            raise ModelError(f"what was kept in {checkpoints} does not fit: {error}") from None
        store.restore(standing)
        levels, broken, low, earlier = standing.levels, standing.broken, standing.expanded, standing.seconds
    else:
        store.enter(model.first, code)

    def standing_now() -> Standing:
        return store.standing(levels, low, broken, earlier + time.monotonic() - started)

    saved = told = started
    expected = expected_states(levels)
    stopped = ""
    while True:
        # `levels` are those begun; what lies behind them are states of the next one.
        high = sum(levels)
        while low < high and not stopped:
            low = store.expand(code, low, min(high, low + CHUNK))
            now = time.monotonic()
            if progress and now - told > TELL:
                told = now
                need = store.bytes_for(expected) if expected else None
                progress(Progress(
                    tuple(levels), store.count, low, earlier + now - started, store.bytes, expected, need, memory
                ))
            if checkpoint and now - saved > checkpoint.every:
                checkpoint.save(store.queue, standing_now())
                saved = time.monotonic()
            if timeout is not None and now - started > timeout:
                stopped = f"out of time after {timeout:g} s"
            elif store.full:
                try:
                    store.grow(code)
                except OutOfMemory as error:
                    stopped = f"out of memory: {error}"
        if stopped:
            if expected:
                stopped += f"; about {round_number(expected):,} states would need {in_bytes(store.bytes_for(expected))}"
            if checkpoint:
                checkpoint.save(store.queue, standing_now())
        if store.count == high:
            break
        for claim in store.inspect(code, high, broken):
            broken[claim] = len(levels)
        if stopped:
            break
        levels.append(store.count - high)
        expected = expected_states(levels)
        if stop_at_violations and len(broken) == len(claims):
            stopped = ALL_VIOLATED
            break
        if not code.optimised and store.count > WORTH_OPTIMISING:
            with contextlib.suppress(OutOfTime), done_by(deadline):
                code = machine.Code(model.text, optimised=True)
    if checkpoint and stopped in ("", ALL_VIOLATED):
        checkpoint.discard()

    first = {claim: store.first_key(claim) for claim in broken}
    starts = list(itertools.accumulate(levels, initial=0))

    def before(depth: int, targets: Sequence[Key]) -> dict[Key, Key]:
        return predecessors(store, code, starts[depth - 1], starts[depth], targets)

    paths = shortest_paths({first[claim]: depth for claim, depth in broken.items()}, before)
    fired = model.fired(store.fired.tolist())
    return Exploration(
        model.findings(paths, first, store.workers[0].seen.tolist()), not stopped, stopped, store.count,
        sum(fired.values()), len(levels) - 1, tuple(levels), fired, earlier + time.monotonic() - started,
    )


Key = tuple[int, ...]
"""The words of a packed state with its marker."""


def packed_number(key: Key) -> int:
    """The packed state of those words, without the marker."""
    return sum(word << 64 * w for w, word in enumerate(key)) & ~(1 << 64 * len(key) - 1)


def shortest_paths(
    ends: Mapping[Key, int], before: Callable[[int, Sequence[Key]], Mapping[Key, Key]]
) -> dict[Key, list[Key]]:
    """For each of the states, given with its level, a shortest path to it: the states from the first on.

    Parents are not kept: levels are expanded again, each once, and of a state's predecessors the least is taken,
    whatever the order in which threads found them. `before(depth, states)`: for each of those states, which are of
    that level, its predecessor.
    """
    parent: dict[Key, Key] = {}
    wanted: set[Key] = set()
    for depth in range(max(ends.values(), default=0), 0, -1):
        wanted |= {end for end, level in ends.items() if level == depth}
        found = before(depth, sorted(wanted))
        parent |= found
        wanted = set(found.values())
    paths = {}
    for end, depth in ends.items():
        path = [end]
        for _ in range(depth):
            path.append(parent[path[-1]])
        paths[end] = path[::-1]
    return paths


def predecessors(
    store: Memory, code: machine.Code, low: int, high: int, targets: Sequence[Key]
) -> dict[Key, Key]:
    """For each target the least of the states from number `low` to `high` from which a step leads to it."""
    words, width = store.words, runtime.bucket_words(store.words)
    slots = runtime.slots(words)
    buckets = len(targets)
    table = np.zeros(buckets * width, np.uint64)
    hits = np.zeros(buckets * slots, np.uint8)
    worker = Worker(words, store.steps, store.claims)
    count, cursor = np.zeros(1, np.int64), np.zeros(1, np.int64)
    worker.publish(table=table, nbuckets=buckets, count=count, cursor=cursor, hits=hits, limit=1)
    worker.enter(np.array(targets, np.uint64), code)
    # Word w of the key in slot s of a bucket is number w * slots + s there.
    held = table.reshape(buckets, width)[:, : words * slots].reshape(buckets, words, slots)
    keys = [tuple(map(int, key)) for key in held.transpose(0, 2, 1).reshape(-1, words)]
    worker.publish(queue=store.queue, stride=store.stride, mode=runtime.SEARCH)
    found: dict[Key, Key] = {}
    ranges = [(start, min(high, start + (1 << 15))) for start in range(low, high, 1 << 15)]
    while ranges:
        start, end = ranges.pop()
        hits[:] = 0
        worker.cache[:] = 0
        cursor[0] = start
        code.expand(worker.address, 0, end)
        if not hits.any():
            continue
        if end - start > 1:
            middle = (start + end) // 2
            ranges += [(start, middle), (middle, end)]
            continue
        state = tuple(int(word) for word in store.queue[:, start])
        for hit in np.flatnonzero(hits):
            known = found.get(keys[hit])
            if known is None or state[::-1] < known[::-1]:
                found[keys[hit]] = state
    return found


def sample(
    system: System, scope: Scope, *, states: int, levels: int, seed: int = 0, reduce: bool = True
) -> dict[str, np.ndarray[Any, Any]]:
    """Reachable states: about `states` of them breadth first, and if that is not all, `levels` levels further on from a
    random twentieth of what was found last, again and again.

    Gives for each state function the array of its values, shape (number of states, *sizes of its domain).
    """
    grounder = Grounder(system, scope)
    steps = grounder.steps()
    symmetry = Symmetry(frames(grounder), (), tuple(grounder.bit_of_cell)) if reduce else None
    code = machine.Code(machine.assembly(grounder, steps, [], [], symmetry), optimised=False)
    words = machine.state_words(grounder)

    def reached(start: np.ndarray[Any, Any], limit: int) -> np.ndarray[Any, Any]:
        """`start` and what follows, level by level, at least `limit` states if there are as many."""
        store = Memory(words, len(steps), 0, 8 << 30)
        store.enter(start, code)
        low = 0
        while low < store.count < limit:
            low = store.expand(code, low, min(store.count, low + STRIDE))
            if store.full:
                store.grow(code)
        return np.ascontiguousarray(store.queue[:, : store.count].T)

    random = np.random.default_rng(seed)
    found = [reached(packed_words(initial_states(grounder), words), states)]
    if len(found[0]) >= states:
        for _ in range(levels):
            beam = random.choice(found[-1], states // 20, replace=False)
            found.append(reached(beam, 2 * len(beam))[len(beam) :])
    return _columns(grounder, np.concatenate(found))


def initial_states(grounder: Grounder) -> list[int]:
    """The packed initial state, and its variants in the cells that no rule writes and nothing fixes initially."""
    system, layout = grounder.system, grounder.layout
    written = {u.function.name for r in system.rules for u in r.updates}
    free = [
        f for f in system.functions if f.name not in written and not f.is_bool and initial_value(f)[1] is None
    ]
    cells = [place for f in free for place in layout.position[f.name].values()]
    start = list(grounder.unpack(grounder.initial()))
    states = []
    for values in itertools.product(*(range(layout.values(layout.cells[c][0])) for c in cells)):
        for cell, value in zip(cells, values, strict=True):
            start[cell] = value
        states.append(grounder.pack(tuple(start)))
    return states


def _columns(grounder: Grounder, packed: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    layout = grounder.layout
    columns = {}
    for function in layout.functions:
        shape = tuple(layout.scope.size(s) for s in function.domain)
        values: Any = np.zeros((len(packed), *shape), np.uint8)
        for index, cell in layout.position[function.name].items():
            start, width = grounder.bit_of_cell[cell]
            for i in range(width):
                bit = packed[:, (start + i) // 64] >> np.uint64((start + i) % 64) & np.uint64(1)
                values[(slice(None), *index)] |= (bit << np.uint64(i)).astype(np.uint8)
        columns[function.name] = values.astype(bool) if function.is_bool else values
    return columns
