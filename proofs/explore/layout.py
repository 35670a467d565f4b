"""What the machine code and Python agree on: how states lie in memory, and the block of variables of a thread.

A packed state has a marker, the highest bit of its last word, so that no state is zero. Its words never lie side by
side: eight states are worked on at once, a vector for each of their words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proofs.explore.ir import INT1, INT64, PTR, Value, vector

POINTERS = (
    "queue", "table", "count", "cursor", "fired", "first", "seen", "open", "pending0", "pending1", "buckets", "fresh",
    "cache", "hits", "old",
)
NUMBERS = ("stride", "nbuckets", "limit", "waiting0", "waiting1", "mode")
FIELDS = (*POINTERS, *NUMBERS)
"""The variables of a thread, 64 bits each, in the block whose address every function is given."""

BLOCK = 512
"""States whose guards are evaluated at once."""
BATCH = 1024
"""Successors that wait before they are looked up together."""
ROOM = BATCH + BLOCK + 8
"""Successors for which there is room: a rule instance gives at most one for each state of a block."""
CACHE = 1 << 12
"""Keys in the cache of recent successors, which are not looked up again."""
NORMAL, SEARCH, REHASH = 0, 1, 2
"""Modes: enter new states and queue them; mark in `hits` the entries met, enter nothing; enter without queueing."""

V = vector(8)
"""A word of eight states, or a plane: a bit of 512 states."""
M = vector(8, INT1)
"""Which of eight states."""


ALL = (1 << 64) - 1
"""A word of ones."""


def slots(words: int) -> int:
    """Keys in one bucket of the table, which is as wide as a cache line unless a key is wider."""
    return max(1, 8 // words)


def bucket_words(words: int) -> int:
    """64-bit words of one bucket."""
    return -(-max(words, 8) // 8) * 8


def address(context: Value, name: str) -> Value:
    """Where a variable of the thread lies."""
    return context.at(FIELDS.index(name))


def fields(context: Value, names: str) -> list[Value]:
    """The values of the variables of those names."""
    return [address(context, name).load(PTR if name in POINTERS else INT64) for name in names.split()]


@dataclass(frozen=True)
class States:
    """States in memory: word w of state i is number w * stride + i."""

    start: Value
    stride: Value | int
    words: int

    def places(self, number: Value | int) -> list[Value]:
        """The addresses of a state's words."""
        found = [self.start.at(number)]
        for w in range(1, self.words):
            offset = self.stride * w
            found.append(self.start.at(number + offset if isinstance(number, Value) else offset + number))
        return found

    def load(self, number: Value | int, kind: str = INT64) -> list[Value]:
        """The words of a state, or of eight states from there on."""
        return [place.load(kind) for place in self.places(number)]

    def store(self, number: Value | int, state: Sequence[Value]) -> None:
        """Write one or eight states from there on."""
        for place, word in zip(self.places(number), state, strict=True):
            place.store(word)


def keys_of(table: Value, bucket: Value, words: int) -> States:
    """The keys of a bucket: word by word, so that all are compared at once. One of zeros is none."""
    return States(table.at(bucket * bucket_words(words)), slots(words), words)


def less(a: Sequence[Value], b: Sequence[Value]) -> Value:
    """Whether state a is the lower number; of eight states, which."""
    found = a[0] < b[0]
    for above, below in zip(a[1:], b[1:], strict=True):
        found = (above < below) | (above.equals(below) & found)
    return found


def shifted(value: Value, distance: int) -> Value:
    """To the left, or to the right if negative."""
    if distance == 0:
        return value
    return value << distance if distance > 0 else value >> -distance
