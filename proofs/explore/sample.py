"""Reachable states, many at once, for whoever looks for what holds in all of them, or for one that breaks a formula."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import z3

from model.logic import Scope, System, Term, initial_value
from proofs.clock import look
from proofs.derive.ground import Grounder
from proofs.derive.symmetry import Symmetry, frames
from proofs.explore import machine
from proofs.explore.code import Code
from proofs.explore.memory import STRIDE, Memory, packed_words

Array = np.ndarray[Any, Any]
PIECE = 1 << 12
"""Words of a plane that are computed at once: with those of all gates they stay in the processor's cache."""


class _Walk:
    """The steps of a system in a scope, as machine code."""

    def __init__(self, system: System, scope: Scope, reduce: bool) -> None:
        self.grounder = Grounder(system, scope)
        self._steps = self.grounder.steps()
        symmetry = Symmetry(frames(self.grounder), (), tuple(self.grounder.bit_of_cell)) if reduce else None
        self._code = Code(machine.assembly(self.grounder, self._steps, [], [], symmetry))
        self.words = machine.state_words(self.grounder)
        self.start = packed_words(initial_states(self.grounder), self.words)

    def reached(self, start: Array, limit: int) -> Array:
        """`start` and what follows, level by level, at least `limit` states if there are as many; a row for each."""
        store = Memory(self.words, len(self._steps), 0, 8 << 30)
        store.enter(start, self._code)
        low = 0
        while low < store.count < limit:
            look()
            low = store.expand(self._code, low, min(store.count, low + STRIDE))
            if store.full:
                store.grow(self._code)
        return np.ascontiguousarray(store.queue[:, : store.count].T)


def sample(
    system: System, scope: Scope, *, states: int, levels: int, seed: int = 0, reduce: bool = True
) -> dict[str, Array]:
    """Reachable states: about `states` of them breadth first, and if that is not all, `levels` levels further on from a
    random twentieth of what was found last, again and again.

    Gives for each state function the array of its values, shape (number of states, *sizes of its domain).
    """
    walk = _Walk(system, scope, reduce)
    random = np.random.default_rng(seed)
    found = [walk.reached(walk.start, states)]
    if len(found[0]) >= states:
        for _ in range(levels):
            beam = random.choice(found[-1], states // 20, replace=False)
            found.append(walk.reached(beam, 2 * len(beam))[len(beam) :])
    return _columns(walk.grounder, np.concatenate(found))


class Reached:
    """The states of a scope, about `most` of them breadth first, kept so that many formulas can be looked at in all.

    A state's bits lie in planes: bit j of word e of a plane is of state 64e + j.
    """

    def __init__(self, system: System, scope: Scope, most: int, reduce: bool = True) -> None:
        walk = _Walk(system, scope, reduce)
        states = walk.reached(walk.start, most)
        self.count = len(states)
        self._grounder = walk.grounder
        self._planes = np.empty((walk.grounder.bits + 1, -(-self.count // 64)), np.uint64)
        # The last plane says which states there are.
        self._planes[-1] = packed(np.ones(self.count, bool))
        for bit in range(walk.grounder.bits):
            look()
            self._planes[bit] = packed((states[:, bit // 64] >> np.uint64(bit % 64) & np.uint64(1)).astype(bool))

    def some(self, number: int, random: np.random.Generator) -> dict[str, Array]:
        """So many of the states, at random, as `sample` gives them."""
        chosen = random.choice(self.count, min(self.count, number), replace=False)
        return _columns(self._grounder, self._states(chosen))

    def breaking(self, formula: Term, enough: int) -> dict[str, Array]:
        """States in which the closed formula does not hold, as `sample` gives them: all, or `enough` and some more."""
        broken = self._grounder.formula(z3.Not(formula))
        gates = self._grounder.circuit.cone([broken])
        found = [np.zeros(0, np.int64)]
        for first in range(0, self._planes.shape[1], PIECE):
            look()
            piece = self._planes[:, first : first + PIECE]
            flags = np.unpackbits((self._plane(broken, gates, piece) & piece[-1]).view(np.uint8), bitorder="little")
            found.append(np.flatnonzero(flags) + 64 * first)
            if sum(map(len, found)) >= enough:
                break
        return _columns(self._grounder, self._states(np.concatenate(found)))

    def _plane(self, literal: int, gates: list[int], inputs: Array) -> Array:
        """The literal's plane, gate by gate."""
        circuit = self._grounder.circuit
        known = {0: np.zeros(inputs.shape[1], np.uint64)}
        for gate in gates:
            op, a, b = circuit.gates[gate]
            if op == "in":
                known[2 * gate] = inputs[a]
            elif op in ("and", "xor"):
                for side in (a, b):
                    if side not in known:
                        known[side] = ~known[side ^ 1]
                known[2 * gate] = known[a] & known[b] if op == "and" else known[a] ^ known[b]
        return known[literal] if literal in known else ~known[literal ^ 1]

    def _states(self, numbers: Array) -> Array:
        """The packed states of those numbers."""
        states = np.zeros((len(numbers), -(-self._grounder.bits // 64) or 1), np.uint64)
        for bit in range(self._grounder.bits):
            values = self._planes[bit, numbers // 64] >> (numbers % 64).astype(np.uint64) & np.uint64(1)
            states[:, bit // 64] |= values << np.uint64(bit % 64)
        return states


def packed(flags: Array) -> Array:
    """Truth values as bits, 64 to a word, filled up with zeros."""
    words: Array = np.packbits(np.pad(flags, (0, -len(flags) % 64)), bitorder="little").view(np.uint64)
    return words


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


def _columns(grounder: Grounder, packed: Array) -> dict[str, Array]:
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
