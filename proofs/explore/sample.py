"""Samples of reachable states, for whoever looks for what holds in all of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from model.logic import Scope, System, initial_value
from proofs.derive.ground import Grounder
from proofs.derive.symmetry import Symmetry, frames
from proofs.explore import machine
from proofs.explore.code import Code
from proofs.explore.memory import STRIDE, Memory, packed_words


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
    code = Code(machine.assembly(grounder, steps, [], [], symmetry), optimised=False)
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
