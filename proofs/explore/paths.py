"""Shortest paths to a state, found by expanding levels again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from proofs.explore import layout
from proofs.explore.code import Code
from proofs.explore.memory import Key, Memory, Worker


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
    store: Memory, code: Code, low: int, high: int, targets: Sequence[Key]
) -> dict[Key, Key]:
    """For each target the least of the states from number `low` to `high` from which a step leads to it."""
    words, width = store.words, layout.bucket_words(store.words)
    slots = layout.slots(words)
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
    worker.publish(queue=store.queue, stride=store.stride, mode=layout.SEARCH)
    found: dict[Key, Key] = {}
    ranges = [(start, min(high, start + (1 << 15))) for start in range(low, high, 1 << 15)]
    while ranges:
        start, end = ranges.pop()
        hits[:] = 0
        worker.cache[:] = 0
        cursor[0] = start
        code.expand(worker.address, end)
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
