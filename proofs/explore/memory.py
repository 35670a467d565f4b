"""The states that an exploration keeps: the table of keys, the queue, and threads that fill them."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import mmap
import threading
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from proofs.errors import OutOfMemory
from proofs.explore import layout
from proofs.explore.code import Code
from proofs.explore.progress import Standing, in_bytes

PIECE = 1 << 18
"""Buckets of a table moved to a larger one between two looks at memory."""
CHUNK = 1 << 18
"""States expanded between two looks at the clock."""
STRIDE = 1 << 16
"""States of a sample expanded between two looks at how many there are."""
WORTH_THREADS = 1 << 15
"""States of a level from which a second thread pays."""


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
        self.slack = layout.BLOCK * max(steps, 1) * threads
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
        self.table = _reserved(self.buckets * layout.bucket_words(self.words))
        for worker in self.workers:
            worker.cache[:] = 0
            worker.publish(
                queue=self.queue, table=self.table, count=self.count_cell, cursor=self.cursor, first=self.first,
                open=self.open, hits=self.hits, stride=self.stride, nbuckets=self.buckets, limit=self.capacity,
            )

    def buckets_for(self, states: int) -> int:
        """Buckets of a table with room for as many states and all that can be found before it is looked at again."""
        return int((states + self.slack) / self.LOAD) // layout.slots(self.words) + 1

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

    def inspect(self, code: Code, low: int, broken: Collection[int]) -> list[int]:
        """Look at the claims in the states from number `low` on; the numbers of those that are broken only now."""
        code.inspect(self.workers[0].address, low)
        found = [c for c in range(self.claims) if c not in broken and self.first[c][-1] != NONE]
        self.open[found] = 0
        return found

    def first_key(self, claim: int) -> Key:
        """The least state of its level that breaks the claim."""
        return tuple(map(int, self.first[claim]))

    def bytes_for(self, states: int) -> int:
        """Memory of that many states and of a table for them."""
        return 8 * (states * self.words + self.buckets_for(states) * layout.bucket_words(self.words))

    def expand(self, code: Code, low: int, high: int) -> int:
        """Expand states from number `low` (a block begins there); returns the first that is not expanded."""
        self.cursor[0] = low
        threads = self.threads if high - low >= WORTH_THREADS else 1
        _together([functools.partial(code.expand, w.address, high) for w in self.workers[:threads]])
        return min(high, int(self.cursor[0]))

    def grow(self, code: Code) -> None:
        """A larger table with the same states. Raises OutOfMemory."""
        # Small tables are made anew less often; a large one is half full at least.
        wanted = self.capacity * 3 // 2 if self.capacity > 1 << 24 else 2 * self.capacity
        self.demand(wanted)
        old, buckets = self.table, self.buckets
        self.make_table(wanted)
        for worker in self.workers:
            worker.publish(mode=layout.REHASH, old=old)
        width = layout.bucket_words(self.words)
        for start in range(0, buckets, PIECE):
            bounds = np.linspace(start, min(buckets, start + PIECE), self.threads + 1, dtype=np.int64)
            parts = zip(self.workers, itertools.pairwise(map(int, bounds)), strict=True)
            _together([functools.partial(code.rehash, w.address, a, b) for w, (a, b) in parts if a < b])
            # What was read is given back, so that the two tables never need room for both.
            _forgotten(old, start * width, PIECE * width)
        for worker in self.workers:
            worker.publish(mode=layout.NORMAL)

    def demand(self, states: int) -> None:
        """Raises OutOfMemory if there may not be as many."""
        needed = self.bytes_for(states)
        if needed > self.limit_bytes or states + self.slack > self.stride:
            raise OutOfMemory(
                f"room for {states:,} states needs {in_bytes(needed)}, allowed are {in_bytes(self.limit_bytes)}"
            )

    def add(self, states: np.ndarray[Any, Any], code: Code) -> None:
        """Put those at the end of the queue that are new, one row of words each. Raises OutOfMemory."""
        for start in range(0, len(states), self.slack):
            if self.full:
                self.grow(code)
            self.workers[0].enter(states[start : start + self.slack], code, layout.NORMAL)

    def enter(self, states: np.ndarray[Any, Any], code: Code) -> None:
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
            "buckets": np.zeros(layout.ROOM, np.uint64), "cache": np.zeros(words * layout.CACHE, np.uint64),
            **{name: np.zeros(words * layout.ROOM, np.uint64) for name in ("pending0", "pending1", "fresh")},
        }
        self.fired: np.ndarray[Any, Any] = self.own["fired"]
        self.seen: np.ndarray[Any, Any] = self.own["seen"]
        self.cache: np.ndarray[Any, Any] = self.own["cache"]
        self.context = np.zeros(len(layout.FIELDS), np.uint64)
        self.publish(**self.own)

    def publish(self, **values: Any) -> None:
        """Set variables of the machine code: numbers, or arrays, which must live as long, by their addresses."""
        for name, value in values.items():
            number = value.ctypes.data if isinstance(value, np.ndarray) else value
            self.context[layout.FIELDS.index(name)] = number

    def enter(self, states: np.ndarray[Any, Any], code: Code, mode: int = layout.REHASH) -> None:
        """Enter states, one row of words each: into the table only, or in the normal mode also into the queue."""
        self.publish(mode=mode)
        room = self.own["pending0"].reshape(states.shape[1], layout.ROOM)
        for start in range(0, len(states), layout.BATCH):
            batch = states[start : start + layout.BATCH]
            room[:, : len(batch)] = batch.T
            self.publish(waiting0=len(batch))
            code.settle(self.address, 0, 0)
        self.publish(mode=layout.NORMAL)

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


Key = tuple[int, ...]
"""The words of a packed state with its marker."""


def packed_number(key: Key) -> int:
    """The packed state of those words, without the marker."""
    return sum(word << 64 * w for w, word in enumerate(key)) & ~(1 << 64 * len(key) - 1)
