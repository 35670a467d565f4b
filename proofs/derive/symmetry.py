"""Elements of a sort are interchangeable: a state stands for all that differ from it by a renaming of them.

Frames are numbered by their first occurrence in the fields that name a frame, and the rest by their own bits. Of the
other sorts every renaming is tried, and the least state taken. It is exact: two states have the same representative
if and only if a renaming joins them.
That is for exploration; `unmoved` says of elements of any sort that a state does not tell them apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from model.logic import Term, meaning, names_in
from proofs.derive.circuit import FALSE, Circuit
from proofs.derive.ground import Grounder
from proofs.derive.interpreter import State

MOST_RENAMINGS = 24
"""Renamings that are tried for a state; a sort with which there would be more is left as it is."""


@dataclass(frozen=True)
class Naming:
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


@dataclass(frozen=True)
class Renaming:
    """Elements of some sorts get other names.

    `source`: for each cell the one whose value it gets. `names`: for a cell that names an element of those sorts, the
    new name of each element, and the cells of the Bools of which one must be true, before, for it to mean something.
    """

    source: tuple[int, ...]
    names: dict[int, tuple[tuple[int, ...], tuple[int, ...]]]

    def of(self, state: State) -> State:
        """The state with other names."""
        renamed = [state[cell] for cell in self.source]
        for cell, (names, valid) in self.names.items():
            if any(state[v] for v in valid):
                renamed[cell] = names[renamed[cell]]
        return tuple(renamed)


@dataclass(frozen=True)
class Symmetry:
    """The renamings under which a grounded system stays as it is.

    `naming`: how frames are numbered, None if they are not interchangeable. `renamings`: those of the other sorts but
    for the one that changes nothing. `place`: (first bit, width) of each cell in a packed state.
    """

    naming: Naming | None
    renamings: tuple[Renaming, ...]
    place: tuple[tuple[int, int], ...]

    def canonical(self, state: State) -> State:
        """The representative of the state: of all renamed states the one that is the least number when packed."""
        known = [state, *(renaming.of(state) for renaming in self.renamings)]
        if self.naming is not None:
            known = [self.naming.canonical(each) for each in known]
        return min(known, key=self._number)

    def _number(self, state: State) -> list[int]:
        """States compare by these as by their packed numbers: the last cell is the highest."""
        return list(reversed(state))


def symmetry_of(grounder: Grounder, claims: Sequence[Term] = ()) -> Symmetry | None:
    """The symmetry of a grounded system and of closed formulas about it; None if there is none that we can use."""
    naming = frames(grounder)
    renamings = _renamings(grounder, claims)
    if naming is None and not renamings:
        return None
    return Symmetry(naming, renamings, tuple(grounder.bit_of_cell))


def _renamings(grounder: Grounder, claims: Sequence[Term]) -> tuple[Renaming, ...]:
    """Those of all sorts but Frame, as far as no constant tells elements apart and they do not get too many."""
    system, layout = grounder.system, grounder.layout
    terms = [*claims, *(t for f in system.functions if (t := meaning(f)[1]) is not None)]
    terms += itertools.chain.from_iterable(rule.terms() for rule in system.rules)
    used = frozenset().union(*map(names_in, terms))
    told_apart = {c.sort().name() for c in system.constants if c.decl().name() in used}
    sizes = {
        sort: size for sort, size in grounder.scope.sizes
        if size > 1 and sort != "Frame" and sort not in told_apart
        and any(sort == s.name() for f in system.functions for s in (*f.domain, f.range))
    }
    fields = {}
    for place, (function, _) in enumerate(layout.cells):
        sort = function.range.name()
        if sort in sizes:
            valid = _valid(grounder, place)
            if valid is None:
                del sizes[sort]
            else:
                fields[place] = (sort, valid)
    number = 1
    for sort, size in list(sizes.items()):
        number *= math.factorial(size)
        if number > MOST_RENAMINGS:
            number //= math.factorial(size)
            del sizes[sort]
    moving = []
    for chosen in itertools.product(*(itertools.permutations(range(size)) for size in sizes.values())):
        names = dict(zip(sizes, chosen, strict=True))
        source = list(range(len(layout.cells)))
        renamed = {}
        for place, (function, index) in enumerate(layout.cells):
            domain = zip(function.domain, index, strict=True)
            target = tuple(names[s.name()][i] if s.name() in names else i for s, i in domain)
            goal = layout.position[function.name][target]
            source[goal] = place
            if place in fields and fields[place][0] in names:
                sort, valid = fields[place]
                renamed[goal] = (names[sort], valid)
        if source != list(range(len(layout.cells))) or any(n != tuple(range(len(n))) for n, _ in renamed.values()):
            moving.append(Renaming(tuple(source), renamed))
    return tuple(moving)


def frames(grounder: Grounder, sort: str = "Frame") -> Naming | None:
    """How elements of a sort are numbered in a grounded system, or None where it cannot be done.

    It needs every state function over the sort to have that argument alone and at most 64 values in all, and every
    field that names an element to be meaningful exactly when one of some Bool cells is true. No constant may name an
    element.
    """
    layout = grounder.layout
    if any(c.sort().name() == sort for c in grounder.system.constants):
        return None
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
                valid = _valid(grounder, place)
                if valid is None:
                    return None
                fields.append((place, valid))
    size = grounder.scope.as_dict()[sort]
    # Names are kept in four bits each, of which one value means "none yet".
    if not 1 < size < 15:
        return None
    return Naming(tuple(fields), tuple(rows), size)


def _valid(grounder: Grounder, place: int) -> tuple[int, ...] | None:
    """The cells of the Bools of which one must be true for that cell to mean something; None if it is not so.

    Of states that keep cells without a meaning cleared, so that a Bool that is true has one.
    """
    circuit = grounder.circuit
    cell_of = {grounder.inputs[start]: i for i, (start, width) in enumerate(grounder.bit_of_cell) if width}
    conjuncts = _conjuncts(circuit, grounder.meaningful_now[place])
    implied = {
        c for literal in conjuncts if literal in cell_of
        for c in _conjuncts(circuit, grounder.meaningful_now[cell_of[literal]])
    }
    left = [c for c in conjuncts if c not in implied]
    if len(left) != 1:
        return None
    valid = _disjuncts(circuit, left[0])
    return None if any(v not in cell_of for v in valid) else tuple(cell_of[v] for v in valid)


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


def _conjuncts(circuit: Circuit, literal: int) -> list[int]:
    """The literals of which the given one is the conjunction; itself if it is none."""
    op, a, b = circuit.gates[literal >> 1]
    if op != "and" or literal & 1:
        return [literal]
    return [*_conjuncts(circuit, a), *_conjuncts(circuit, b)]


def _disjuncts(circuit: Circuit, literal: int) -> list[int]:
    """The literals of which the given one is the disjunction; itself if it is none."""
    return [c ^ 1 for c in _conjuncts(circuit, literal ^ 1)]
