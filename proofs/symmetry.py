"""Frames are interchangeable: a state stands for all that differ from it by a renaming of frames.

That is for exploration; `unmoved` says of elements of any sort that a state does not tell them apart.

The representative numbers frames by their first occurrence in the fields that name a frame, and the rest by their
own bits. It is exact: two states have the same representative if and only if a renaming of frames joins them.
"""

from __future__ import annotations

from dataclasses import dataclass

from proofs.circuit import FALSE, Circuit
from proofs.ground import Grounder
from proofs.interpreter import State


@dataclass(frozen=True)
class Symmetry:
    """Where the elements of one sort occur in a state.

    `fields`: (cell that names an element, cells of the Bools of which one must be true for it to mean something).
    `rows`: for each state function over the sort, its cells by element. `size`: elements of the sort.
    """

    fields: tuple[tuple[int, tuple[int, ...]], ...]
    rows: tuple[tuple[int, ...], ...]
    size: int

    def canonical(self, state: State) -> State:
        """The representative of the state."""
        names: dict[int, int] = {}
        for cell, valid in self.fields:
            if any(state[v] for v in valid):
                names.setdefault(state[cell], len(names))
        # The first row is the lowest bit of the machine code's key.
        rest = [e for e in range(self.size) if e not in names]
        for element in sorted(rest, key=lambda e: [-state[row[e]] for row in reversed(self.rows)]):
            names[element] = len(names)
        renamed = list(state)
        for cell, valid in self.fields:
            if any(state[v] for v in valid):
                renamed[cell] = names[state[cell]]
        for row in self.rows:
            for element, cell in enumerate(row):
                renamed[row[names[element]]] = state[cell]
        return tuple(renamed)


def frames(grounder: Grounder, sort: str = "Frame") -> Symmetry | None:
    """The symmetry of a sort in a grounded system, or None where it cannot be had.

    It needs every state function over the sort to have that argument alone and at most 64 values in all, and every
    field that names an element to be meaningful exactly when one of some Bool cells is true. No constant may name an
    element.
    """
    layout = grounder.layout
    if any(c.sort().name() == sort for c in grounder.system.constants):
        return None
    input_cell = {grounder.inputs[start]: i for i, (start, width) in enumerate(grounder.bit_of_cell) if width}
    fields = []
    rows = []
    for function in grounder.system.functions:
        places = layout.position[function.name]
        if sort in (s.name() for s in function.domain):
            if len(function.domain) != 1 or function.range.name() == sort:
                return None
            rows.append(tuple(places[(e,)] for e in range(len(places))))
        elif function.range.name() == sort:
            for place in places.values():
                valid = _disjuncts(grounder.circuit, grounder.meaningful_now[place])
                if any(v not in input_cell for v in valid):
                    return None
                fields.append((place, tuple(input_cell[v] for v in valid)))
    size = grounder.scope.as_dict()[sort]
    # Names are kept in four bits each, of which one value means "none yet".
    if not 1 < size < 15:
        return None
    return Symmetry(tuple(fields), tuple(rows), size)


def unmoved(grounder: Grounder, sort: str, a: int, b: int) -> int:
    """The literal that says that exchanging two elements of a sort leaves the state as it is.

    It is false for an element that a constant names: no other can take its place.
    """
    constants = [c.decl().name() for c in grounder.system.constants if c.sort().name() == sort]
    if any(grounder.constants[name] in (a, b) for name in constants):
        return FALSE
    circuit, layout = grounder.circuit, grounder.layout
    exchanged = {a: b, b: a}
    same = []
    for place, (function, index) in enumerate(layout.cells):
        moved = tuple(
            exchanged.get(i, i) if s.name() == sort else i for s, i in zip(function.domain, index, strict=True)
        )
        other = layout.position[function.name][moved]
        if other < place:
            continue
        here, there = grounder.state[place], grounder.state[other]
        matters = grounder.meaningful_now[place]
        same.append(circuit.xor2(matters, grounder.meaningful_now[other]) ^ 1)
        if function.is_bool:
            same.append(circuit.xor2(here, there) ^ 1)
            continue
        if function.range.name() == sort:
            size = grounder.scope.as_dict()[sort]
            there = tuple(grounder.equal(there, exchanged.get(e, e)) for e in range(size))
        same.append(circuit.any([matters ^ 1, grounder.equal(here, there)]))
    return circuit.all(same)


def _disjuncts(circuit: Circuit, literal: int) -> list[int]:
    """The literals of which the given one is the disjunction; itself if it is none."""
    op, a, b = circuit.gates[literal >> 1]
    if op != "and" or not literal & 1:
        return [literal]
    return [*_disjuncts(circuit, a ^ 1), *_disjuncts(circuit, b ^ 1)]
