"""Exhaustive breadth-first exploration of a scope by machine code: shortest counterexamples, or all states seen."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.logic import Scope, System, Term, initial_value
from proofs import machine
from proofs.ground import Grounder
from proofs.interpreter import Instance, Interpreter
from proofs.symmetry import Symmetry, frames

CHUNK = 1 << 16
"""States expanded between two looks at the clock."""
WORTH_OPTIMISING = 60_000
"""States from which compiling better code pays."""


class OutOfMemory(Exception):
    """The next enlargement would pass the memory that the caller allowed."""


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


class _Memory:
    """The arrays that the machine code works on, and the block of addresses by which it finds them."""

    def __init__(self, words: int, steps: int, claims: int, limit_bytes: int) -> None:
        self.words = words
        self.limit_bytes = limit_bytes
        self.slack = 64 * max(steps, 1)
        self.capacity = max(1 << 18, 2 * self.slack)
        self.queue = np.empty(self.capacity * words, np.uint64)
        self.parents = np.empty(self.capacity, np.uint32)
        self.table = np.zeros(self._table_size(), np.uint64)
        self.fired = np.zeros(max(steps, 1), np.uint64)
        self.first = np.full(max(claims, 1), -1, np.int64)
        self.seen = np.zeros(max(claims, 1), np.uint64)
        self.pending = np.empty(self.slack * words, np.uint64)
        self.hashes = np.empty(self.slack, np.uint64)
        self.origins = np.empty(self.slack, np.uint32)
        self.context = np.zeros(len(machine.FIELDS), np.uint64)
        self._publish()

    def _table_size(self) -> int:
        return 1 << (2 * self.capacity - 1).bit_length()

    def _publish(self) -> None:
        values = {
            "queue": self.queue.ctypes.data, "parents": self.parents.ctypes.data, "table": self.table.ctypes.data,
            "table_mask": len(self.table) - 1, "count": self.count, "limit": self.capacity - self.slack,
            "fired": self.fired.ctypes.data, "first": self.first.ctypes.data, "seen": self.seen.ctypes.data,
            "pending": self.pending.ctypes.data, "hashes": self.hashes.ctypes.data,
            "origins": self.origins.ctypes.data, "waiting": 0,
        }
        for i, name in enumerate(machine.FIELDS):
            self.context[i] = values[name]

    @property
    def count(self) -> int:
        return int(self.context[machine.FIELDS.index("count")])

    @property
    def address(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.context.ctypes.data)

    def grow(self, code: machine.Code) -> None:
        """Double the queue and rebuild the table. Raises OutOfMemory."""
        needed = 2 * self.capacity * (8 * self.words + 4 + 32)
        if needed > self.limit_bytes or 2 * self.capacity >= 1 << 32:
            raise OutOfMemory(f"the next {2 * self.capacity:,} states would need {needed >> 20:,} MiB")
        self.capacity *= 2
        queue, parents = self.queue, self.parents
        self.queue = np.empty(self.capacity * self.words, np.uint64)
        self.queue[: len(queue)] = queue
        self.parents = np.empty(self.capacity, np.uint32)
        self.parents[: len(parents)] = parents
        self.table = np.zeros(self._table_size(), np.uint64)
        self._publish()
        code.rehash(self.address, 0, self.count)

    def enter(self, states: np.ndarray[Any, Any], code: machine.Code) -> None:
        """Enter the first states, different ones, one row of words each."""
        self.queue[: states.size] = states.reshape(-1)
        self.context[machine.FIELDS.index("count")] = len(states)
        code.rehash(self.address, 0, len(states))

    def state(self, number: int) -> int:
        """State `number` of the queue as one packed integer."""
        return sum(int(self.queue[number * self.words + w]) << 64 * w for w in range(self.words))


def packed_words(states: Sequence[int], words: int) -> np.ndarray[Any, Any]:
    """Packed states as rows of 64-bit words."""
    return np.array([[s >> 64 * w & (1 << 64) - 1 for w in range(words)] for s in states], np.uint64)


def explore(
    system: System, scope: Scope, claims: Sequence[Claim], *, timeout: float | None = None,
    memory: int = 8 << 30, stop_at_violations: bool = False, reduce: bool = True,
) -> Exploration:
    """Explore every state of `system` in `scope`, looking at every claim in each.

    `timeout` in seconds, `memory` in bytes. `stop_at_violations`: end once every claim is broken. `reduce`: count
    states that differ by a renaming of frames as one; verdicts and shortest lengths do not depend on it. The system
    should be restricted to the claims' cone.
    """
    started = time.monotonic()
    grounder = Grounder(system, scope)
    steps = grounder.steps()
    formulas = [grounder.formula(c.formula) for c in claims]
    premises = [grounder.formula(c.premise) for c in claims]
    symmetry = frames(grounder) if reduce else None
    text = machine.assembly(grounder, steps, formulas, premises, symmetry)
    code = machine.Code(text, optimised=False)
    store = _Memory(machine.state_words(grounder), len(steps), len(claims), memory)
    store.enter(packed_words([grounder.initial()], store.words), code)

    levels = [1]
    stopped = ""
    low = inspected = 0
    while low < (high := store.count) and not stopped:
        # What lies between low and high is one level.
        code.inspect(store.address, inspected, high)
        inspected = high
        if stop_at_violations and (store.first[: len(claims)] >= 0).all():
            stopped = "every claim is violated"
            break
        if not code.optimised and store.count > WORTH_OPTIMISING:
            code = machine.Code(text, optimised=True)
        while low < high:
            low = code.expand(store.address, low, min(high, low + CHUNK))
            if timeout is not None and time.monotonic() - started > timeout:
                stopped = f"out of time after {timeout:g} s"
                break
            if store.count > store.capacity - store.slack:
                try:
                    store.grow(code)
                except OutOfMemory as error:
                    stopped = f"out of memory: {error}"
                    break
            low = min(low, high)
        if not stopped and store.count > high:
            levels.append(store.count - high)
    if inspected < store.count:
        code.inspect(store.address, inspected, store.count)

    fired: dict[str, int] = {r.name: 0 for r in system.rules}
    for step, times in zip(steps, store.fired, strict=False):
        fired[step.instance.rule.name] += int(times)
    interpreter = Interpreter(system, scope)
    findings = tuple(
        Finding(
            claim,
            None if store.first[i] < 0 else _path(interpreter, grounder, symmetry, store, int(store.first[i])),
            not store.seen[i],
        )
        for i, claim in enumerate(claims)
    )
    return Exploration(
        findings, not stopped, stopped, store.count, sum(fired.values()), len(levels) - 1, tuple(levels), fired,
        time.monotonic() - started,
    )


def _path(
    interpreter: Interpreter, grounder: Grounder, symmetry: Symmetry | None, store: _Memory, number: int
) -> tuple[Instance, ...]:
    """The steps from the initial state to state `number`, by the parents kept; each found by the interpreter."""
    numbers = [number]
    while numbers[-1]:
        numbers.append(int(store.parents[numbers[-1]]))
    targets = [grounder.unpack(store.state(n)) for n in reversed(numbers)]
    return interpreter.follow(targets, symmetry.canonical if symmetry else lambda state: state)


def sample(
    system: System, scope: Scope, *, states: int, levels: int, seed: int = 0, reduce: bool = True
) -> dict[str, np.ndarray[Any, Any]]:
    """Reachable states: about `states` of them breadth first, and if that is not all, `levels` levels further on from a
    random twentieth of what was found last, again and again.

    Gives for each state function the array of its values, shape (number of states, *sizes of its domain).
    """
    grounder = Grounder(system, scope)
    steps = grounder.steps()
    symmetry = frames(grounder) if reduce else None
    code = machine.Code(machine.assembly(grounder, steps, [], [], symmetry), optimised=False)
    words = machine.state_words(grounder)

    def reached(start: np.ndarray[Any, Any], limit: int) -> np.ndarray[Any, Any]:
        """`start` and what follows, level by level, at least `limit` states if there are as many."""
        store = _Memory(words, len(steps), 0, 8 << 30)
        while len(start) > store.capacity - store.slack:
            store.grow(code)
        store.enter(start, code)
        low = 0
        while low < store.count < limit:
            high = min(store.count, low + CHUNK)
            low = min(high, code.expand(store.address, low, high))
            if store.count > store.capacity - store.slack:
                store.grow(code)
        return store.queue[: store.count * words].reshape(-1, words)

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
