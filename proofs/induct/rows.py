"""The rows that occur in sampled states, and what of another row occurs in none of them.

A *row* says for one assignment of a profile's variables which atoms hold, one bit each. A part of a row that no row
seen has is a set of atoms that meets the difference of each row seen from that one; there may be very many rows. The
smallest such sets are found from a few differences, the nearest ones, to which those are added that a set fails to meet
(an implicit hitting set).
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from proofs.clock import look
from proofs.explore.sample import packed

Array = np.ndarray[Any, Any]
NEAREST, AMONG = 60, 1 << 12
"""Differences from which the search for a part of a row starts: those of the nearest rows, among so many."""
MOST = 20_000
"""Sets that are held against all rows before those are added that they fail to meet."""
PIECE = 64
"""Cubes that are made longer between two looks at the clock."""
GLIMPSE = 1 << 11
"""Rows, out of all, in which most cubes that occur do so: those are not looked for further."""


class Rows:
    """The different rows seen, uint64; those that come first are looked at first."""

    def __init__(self, atoms: int, rows: Array) -> None:
        self.atoms = atoms
        self.all = rows
        self._sorted = np.sort(rows)
        self.planes = self._planes_of(rows)

    def _planes_of(self, rows: Array) -> Array:
        """Literal 2i says atom i, literal 2i + 1 denies it; its plane has one bit for each row that agrees."""
        planes = np.zeros((2 * self.atoms, -(-len(rows) // 64)), np.uint64)
        for i in range(self.atoms):
            holds = (rows >> np.uint64(i) & np.uint64(1)) == 1
            planes[2 * i], planes[2 * i + 1] = packed(holds), packed(~holds)
        return planes

    def new(self, rows: Array) -> Array:
        """Those that were not seen."""
        if not len(self.all):
            return rows
        places = np.searchsorted(self._sorted, rows)
        unseen: Array = rows[self._sorted[np.minimum(places, len(self._sorted) - 1)] != rows]
        return unseen

    def add(self, rows: Array) -> None:
        """From now on those, which are new, are seen too."""
        # A plane's last word is filled up with what agrees with nothing; so that numbers fit, some row is said again.
        again = self.all[:1].repeat(-len(self.all) % 64)
        self.all = np.concatenate([self.all, again, rows])
        self._sorted = np.sort(np.concatenate([self._sorted, rows]), kind="stable")
        self.planes = np.concatenate([self.planes, self._planes_of(rows)], axis=1)

    def _agreeing(self, row: int, mask: int) -> Array:
        plane: Array = np.bitwise_and.reduce(self.planes[[2 * i + (~row >> i & 1) for i in bits(mask)]])
        return plane

    def count(self, row: int, mask: int) -> int:
        """How many rows agree with the row in the atoms of the mask."""
        return int(np.bitwise_count(self._agreeing(row, mask)).sum())

    def agreeing(self, row: int, mask: int) -> Array:
        """Numbers of some rows that agree with the row in the atoms of the mask; none only if there are none."""
        both = self._agreeing(row, mask)
        places = np.flatnonzero(both)[:NEAREST]
        flags = np.unpackbits(both[places].view(np.uint8), bitorder="little").reshape(-1, 64)
        which, bit = np.nonzero(flags)
        return places[which] * 64 + bit


class Parts:
    """The smallest parts of one row that no row seen has."""

    def __init__(self, seen: Rows, row: int) -> None:
        self._seen = seen
        self._row = row
        differences = seen.all[:AMONG] ^ np.uint64(row)
        nearest = np.argsort(np.bitwise_count(differences), kind="stable")[:NEAREST]
        self._differences = _smallest(map(int, differences[nearest]))

    def upto(self, size: int) -> list[int]:
        """Masks of at most so many atoms: all of the smallest ones, if there are any."""
        while True:
            look()
            tried = list(itertools.islice(_meeting(self._differences, size), MOST))
            failing = [mask for mask in tried if len(self._seen.agreeing(self._row, mask))]
            if not failing:
                return sorted(tried, key=lambda mask: (mask.bit_count(), mask))
            nearest = [self._nearest(mask) for mask in failing]
            self._differences = _smallest([*self._differences, *nearest])

    def _nearest(self, mask: int) -> int:
        """The smallest difference of some that the mask fails to meet."""
        those = self._seen.all[self._seen.agreeing(self._row, mask)] ^ np.uint64(self._row)
        return int(those[np.argmin(np.bitwise_count(those))])


def _smallest(masks: Iterable[int]) -> list[int]:
    """Those that contain no other one, fewest bits first."""
    kept: list[int] = []
    for mask in sorted(set(masks), key=int.bit_count):
        if all(mask & other != other for other in kept):
            kept.append(mask)
    return kept


def _meeting(masks: Sequence[int], size: int, chosen: int = 0) -> Iterator[int]:
    """Sets of at most so many atoms, as masks, that meet every mask: each once, none with an atom met before."""
    if not masks:
        yield chosen
        return
    apart, together = 0, 0
    for mask in masks:
        if not mask & together:
            apart, together = apart + 1, together | mask
    if apart > size:
        return
    smallest, left = min(masks, key=int.bit_count), masks
    for i in bits(smallest):
        yield from _meeting([m for m in left if not m >> i & 1], size - 1, chosen | 1 << i)
        left = [m & ~(1 << i) for m in left]


def bits(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    return (i for i in range(mask.bit_length()) if mask >> i & 1)


def absent_cubes(planes: Array, longest: int) -> Generator[None, None, tuple[Array, Array]]:
    """(mask, value) of the smallest cubes of at most `longest` literals that no row contains. Yields now and then."""
    glimpse = planes[:, : GLIMPSE // 64]
    absent: set[tuple[int, ...]] = set()
    present: dict[tuple[int, ...], Array] = {(): np.full(glimpse.shape[1], ~np.uint64(0))}
    for size in range(1, longest + 1):
        longer: dict[tuple[int, ...], Array] = {}
        for number, (cube, agree) in enumerate(present.items()):
            if not number % PIECE:
                yield
            first = (cube[-1] | 1) + 1 if cube else 0
            both = glimpse[first:] & agree
            seen: Any = both.any(axis=1)
            for j in range(len(both)):
                new = (*cube, first + j)
                if seen[j]:
                    longer[new] = both[j]
                elif any(part in absent for n in range(1, size) for part in itertools.combinations(new, n)):
                    continue
                elif np.bitwise_and.reduce(planes[list(new)]).any():
                    longer[new] = both[j]
                else:
                    absent.add(new)
        present = longer if size < longest else {}
    cubes = sorted(absent, key=lambda c: (len(c), c))
    mask = np.array([sum(1 << (x >> 1) for x in c) for c in cubes], np.uint64)
    value = np.array([sum(1 << (x >> 1) for x in c if not x & 1) for c in cubes], np.uint64)
    return mask, value
