"""What Symmetry.canonical does, as machine code on the packed words of eight states at once.

There are no branches: eight states would not take the same ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from proofs.derive.symmetry import Naming, Renaming, Symmetry
from proofs.explore.ir import Body, Value, any_of, select
from proofs.explore.layout import ALL, V, less, shifted

Places = Sequence[tuple[int, int]]
"""First bit and width of each cell in a packed state."""


def representatives(symmetry: Symmetry, state: Sequence[Value]) -> Sequence[Value]:
    """Of all renamed states the least, as packed numbers."""
    f = state[0].body

    def named(words: Sequence[Value]) -> Sequence[Value]:
        return words if symmetry.naming is None else _frames_named(f, symmetry.naming, symmetry.place, words)

    least = named(state)
    for renaming in symmetry.renamings:
        other = named(_renamed(f, renaming, symmetry.place, state))
        lower = less(other, least)
        least = [select(lower, a, b) for a, b in zip(other, least, strict=True)]
    return least


def bits_that_matter(symmetry: Symmetry) -> frozenset[int]:
    """The bits on which a state's representative depends: a step that writes none needs no new one."""
    cells: set[int] = set()
    if symmetry.naming is not None:
        cells |= {*itertools.chain(*((cell, *valid) for cell, valid in symmetry.naming.fields), *symmetry.naming.rows)}
    for renaming in symmetry.renamings:
        cells |= {cell for cell, source in enumerate(renaming.source) if cell != source}
        cells |= {c for cell, (_, valid) in renaming.names.items() for c in (cell, *valid)}
    return frozenset(bit for start, width in (symmetry.place[c] for c in cells) for bit in range(start, start + width))


def _pieces(start: int, width: int) -> list[tuple[int, int, int, int]]:
    """Of a number in `width` bits from `start`, by word: (word, first bit there, first bit of the number, mask)."""
    found = []
    at = 0
    while at < width:
        word, shift = divmod(start + at, 64)
        length = min(width - at, 64 - shift)
        found.append((word, shift, at, (1 << length) - 1))
        at += length
    return found


def _field(state: Sequence[Value], start: int, width: int) -> Value:
    """The unsigned number in `width` bits from `start`."""
    pieces = [
        shifted(shifted(state[word], -shift) & mask, at) for word, shift, at, mask in _pieces(start, width)
    ]
    return any_of(pieces) if pieces else state[0].body.number(V, 0)


def _put(state: list[Value], start: int, width: int, value: Value) -> None:
    """Or the number into bits of `state` that are zero."""
    for word, shift, at, mask in _pieces(start, width):
        state[word] = state[word] | shifted(shifted(value, -at) & mask, shift)


def _means(cells: Sequence[int], place: Places, state: Sequence[Value]) -> Value:
    """In which lanes one of the Bool cells is true."""
    masks = [0] * len(state)
    for cell in cells:
        masks[place[cell][0] // 64] |= 1 << place[cell][0] % 64
    return any_of([word & mask for word, mask in zip(state, masks, strict=True) if mask]).differs(0)


def _renamed(f: Body, renaming: Renaming, place: Places, state: Sequence[Value]) -> list[Value]:
    """The words with elements of some sorts renamed."""
    # The marker stays.
    keep = [0] * (len(state) - 1) + [1 << 63]
    moves: dict[tuple[int, int, int], int] = {}
    for cell, source in enumerate(renaming.source):
        if cell in renaming.names:
            continue
        (start, width), (origin, _) = place[cell], place[source]
        for bit in range(width):
            (word, at), (old, was) = divmod(start + bit, 64), divmod(origin + bit, 64)
            if start == origin:
                keep[word] |= 1 << at
            else:
                moves[word, old, at - was] = moves.get((word, old, at - was), 0) | 1 << at
    result = [old & mask for old, mask in zip(state, keep, strict=True)]
    for (word, old, distance), mask in moves.items():
        result[word] = result[word] | shifted(state[old], distance) & mask
    for cell, (names, valid) in renaming.names.items():
        start, width = place[cell]
        old_name = _field(state, *place[renaming.source[cell]])
        # A table of four bits an element.
        table = f.number(V, sum(name << 4 * element for element, name in enumerate(names)))
        new_name = (table >> (old_name << 2)) & 15
        _put(result, start, width, select(_means(valid, place, state), new_name, 0))
    return result


UNNAMED = 15


class _Names:
    """The new numbers of elements, in each lane its own: four bits an element, so that a register holds them all."""

    def __init__(self, f: Body, size: int) -> None:
        self.names, self.count = f.number(V, (1 << 4 * size) - 1), f.number(V, 0)

    def of(self, shift: Value | int) -> Value:
        """The number of the element whose bits are there."""
        return (self.names >> shift) & UNNAMED

    def give(self, shift: Value, where: Value) -> None:
        """In those lanes the next number to the element whose bits are there; it has none."""
        self.names = self.names ^ select(where, (self.count ^ UNNAMED) << shift, 0)
        self.count = self.count + where.cast("zext", V)


def _frames_named(f: Body, naming: Naming, place: Places, state: Sequence[Value]) -> list[Value]:
    """The words with frames numbered by first occurrence, the rest by their own bits."""
    names = _Names(f, naming.size)
    fields = []
    for cell, valid in naming.fields:
        shift = _field(state, *place[cell]) << 2
        means = _means(valid, place, state)
        names.give(shift, means & names.of(shift).equals(UNNAMED))
        fields.append((place[cell], shift, means))
    own = [_own_bits(f, naming, place, state, element) for element in range(naming.size)]
    _name_the_rest(f, names, own)
    result = _cleared(naming, place, state)
    for (start, width), shift, means in fields:
        _put(result, start, width, select(means, names.of(shift), 0))
    # All rows of an element move together. Comparisons come first: among the rest they cost a tenth of all time.
    elements = range(naming.size)
    goes = [[names.of(4 * element).equals(target) for element in elements] for target in elements]
    for target in elements:
        value = own[0]
        for element in elements[1:]:
            value = select(goes[target][element], own[element], value)
        for row in naming.rows:
            start, width = place[row[target]]
            _put(result, start, width, value)
            value = value >> width
    return result


def _own_bits(f: Body, naming: Naming, place: Places, state: Sequence[Value], element: int) -> Value:
    """What the state functions over the sort say of an element, as a number; the first row lowest."""
    own = f.number(V, 0)
    for row in reversed(naming.rows):
        start, width = place[row[element]]
        own = (own << width) | _field(state, start, width)
    return own


def _name_the_rest(f: Body, names: _Names, own: Sequence[Value]) -> None:
    """Elements that do not occur get the numbers that are left, the one with the largest bits of its own first."""
    for _ in own:
        best_shift, best = f.number(V, 0), f.number(V, -1)
        for element, bits in enumerate(own):
            better = names.of(4 * element).equals(UNNAMED) & bits.signed_above(best)
            best_shift = select(better, f.number(V, 4 * element), best_shift)
            best = select(better, bits, best)
        names.give(best_shift, best.differs(-1))


def _cleared(naming: Naming, place: Places, state: Sequence[Value]) -> list[Value]:
    """The words without what naming changes."""
    masks = [ALL] * len(state)
    for cell in [*(cell for cell, _ in naming.fields), *itertools.chain(*naming.rows)]:
        start, width = place[cell]
        for bit in range(start, start + width):
            masks[bit // 64] &= ~(1 << bit % 64)
    return [old & mask for old, mask in zip(state, masks, strict=True)]
