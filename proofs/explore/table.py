"""The visited set: an open-addressing table of buckets as wide as a cache line, and what leads states into it.

Successors wait in a thread's buffer until many can be looked up together, with prefetching. A key is claimed by one
compare-and-swap, so that threads need no lock. There are two buffers: what waits in number 0 are representatives
already; those of the states in number 1 are found when their turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from proofs.explore.flow import Function
from proofs.explore.ir import INT8, INT64, PTR, Value, any_of, select, vector
from proofs.explore.layout import BATCH, CACHE, NORMAL, ROOM, SEARCH, States, V, address, fields, keys_of, slots

Canonical = Callable[[Sequence[Value]], Sequence[Value]]
"""From the words of eight states to those of their representatives."""
BUSY = 1
"""The last word of a key that a thread is writing; no state has it, as there the marker is set."""


def settle(words: int, kind: int, canonical: Canonical) -> Function:
    """Empty a buffer of the thread's: enter what is new into the table, and put it at the end of the queue."""
    f = Function("void", f"settle{kind}", context=PTR)
    (context,) = f.parameters
    waiting_at = address(context, f"waiting{kind}")
    waiting = waiting_at.load()
    buffer, found = (States(start, ROOM, words) for start in fields(context, f"pending{kind} fresh"))
    with f.when(waiting.differs(0)):
        _fill_last_group(buffer, waiting)
        left = _drop_recent(f, context, buffer, waiting, canonical)
        waiting_at.store(f.number(INT64, 0))
        with f.when(left.differs(0)):
            _prefetch(f, context, words, left)
            new = _insert_all(f, context, buffer, left, found)
            (mode,) = fields(context, "mode")
            with f.when(mode.equals(NORMAL) & new.differs(0)):
                _queue(f, context, found, new)
    f.ret()
    return f


def _fill_last_group(buffer: States, waiting: Value) -> None:
    """Copies of the last state fill up its group of eight; they are dropped as recent ones."""
    last = waiting - 1
    for place in buffer.places(last):
        place.store(place.load().splat(8))


def _drop_recent(f: Function, context: Value, buffer: States, waiting: Value, canonical: Canonical) -> Value:
    """Of what waits keep the representatives that are not in the cache, with their buckets; gives how many.

    Steps lead from neighbours to the same states: most are dropped here, without a look at the table. What is kept
    takes the place of what was looked at already.
    """
    start, buckets, nbuckets = fields(context, "cache buckets nbuckets")
    cache, all_buckets = States(start, CACHE, buffer.words), nbuckets.splat(8)
    with f.loop(0, 0) as (again, (group, so_far)):
        kept = so_far
        states = canonical(buffer.load(group, V))
        hashes = hashed(states)
        # Buckets are in the order of hashes: `rehash` walks through two tables at once.
        bucket, recent = (hashes * all_buckets) >> 32, hashes & CACHE - 1
        for e in range(8):
            state, places = [word.lane(e) for word in states], cache.places(recent.lane(e))
            differs = [place.load().differs(word) for place, word in zip(places, state, strict=True)]
            for place, word in zip(places, state, strict=True):
                place.store(word)
            # Written in any case; the next one overwrites what is not kept. No processor foretells that branch.
            buffer.store(kept, state)
            buckets.at(kept).store(bucket.lane(e))
            kept = kept + any_of(differs).cast("zext", INT64)
        following = group + 8
        again(following < waiting, following, kept)
    return kept


def hashed(state: Sequence[Value]) -> Value:
    """A hash of 32 bits of each of eight states."""
    value = state[0].body.number(V, 0)
    for word in state:
        value = (word ^ value) * 0x9E3779B97F4A7C15
        value = value ^ (value >> 32)
    return (value * 0xC2B2AE3D27D4EB4F) >> 32


def _prefetch(f: Function, context: Value, words: int, number: Value) -> None:
    """Ask for all buckets before the first is looked at: memory then answers while others are on their way."""
    buckets, table = fields(context, "buckets table")
    with f.counting(number) as i:
        bucket = keys_of(table, buckets.at(i).load(), words)
        f.run("llvm.prefetch.p0", bucket.start, "i32 0, i32 3, i32 1")


def _insert_all(f: Function, context: Value, buffer: States, number: Value, found: States) -> Value:
    """Insert the first states of the buffer; gives how many are new, which are then in `found`."""
    buckets, table, nbuckets, mode, hits = fields(context, "buckets table nbuckets mode hits")
    target = _Target(table, nbuckets, mode.equals(SEARCH), hits, found)
    with f.loop(0, 0) as (again, (i, so_far)):
        new = _insert(f, target, buffer.load(i), buckets.at(i).load(), so_far)
        following = i + 1
        again(following < number, following, new)
    return new


@dataclass(frozen=True)
class _Target:
    """Into what keys are inserted, or where they are searched, and their entries' numbers in `hits` marked."""

    table: Value
    nbuckets: Value
    searching: Value
    hits: Value
    found: States


def _insert(f: Function, target: _Target, key: Sequence[Value], home: Value, new: Value) -> Value:
    """Enter a key unless it is there; `new` were before, gives how many are now.

    Whoever makes an entry's last word something other than zero owns it. Of a key of several words that is BUSY first,
    and the last word itself when the others are written: who sees it sees them.
    """
    count, words = slots(len(key)), len(key)
    group = vector(count)
    wanted = [word.splat(count) for word in key]
    probe, owned, done = f.block("probe", INT64), f.block("owned"), f.block("done", INT64)
    f.jump(probe(home))
    (number,) = f.begin(probe)
    *places, last_place = keys_of(target.table, number, words).places(0)
    last = last_place.load(group, "volatile")
    if words > 1:
        f.write("fence acquire")
        look = f.block("look")
        f.branch(_lanes(last.equals(BUSY)).differs(0), probe(number), look())
        f.begin(look)
    same = last.equals(wanted[-1])
    for place, word in zip(places, wanted, strict=False):
        same = same & place.load(group).equals(word)
    held = _lanes(same)
    with f.when(held.differs(0)):
        with f.when(target.searching):
            target.hits.at(number * count + held.lowest(), INT8).store(f.number(INT8, 1))
        f.jump(done(new))
    empty = _lanes(last.equals(0))
    with f.when(empty.equals(0)):
        following = number + 1
        f.jump(probe(select(following.equals(target.nbuckets), f.number(INT64, 0), following)))
    with f.when(target.searching):
        f.jump(done(new))
    entry = empty.lowest()
    f.branch(last_place.at(entry).claimed(BUSY if words > 1 else key[0]), owned(), probe(number))
    f.begin(owned)
    for place, word in zip(places, key, strict=False):
        place.at(entry).store(word)
    if words > 1:
        last_place.at(entry).store(key[-1], "atomic")
    target.found.store(new, key)
    f.jump(done(new + 1))
    return f.begin(done)[0]


def _lanes(truths: Value) -> Value:
    """Which lanes hold, as bits of a number."""
    lanes = truths.kind[1:].split()[0]
    return truths.cast("bitcast", f"i{lanes}").cast("zext", INT64)


def _queue(f: Function, context: Value, found: States, number: Value) -> None:
    """Put what was found at the end of the queue: one atomic addition takes room there for all of it."""
    start, stride, count = fields(context, "queue stride count")
    queue, end = States(start, stride, found.words), count.add_atomically(number)
    with f.counting(number) as i:
        queue.store(end + i, found.load(i))


def rehash(words: int) -> Function:
    """Enter the keys of some buckets of the table `old` into the new one.

    Buckets are in the order of the hashes, so both tables are walked through from one end to the other.
    """
    f = Function(INT64, "rehash", context=PTR, low=INT64, high=INT64)
    context, low, high = f.parameters
    old, start = fields(context, "old pending0")
    buffer, waiting_at = States(start, ROOM, words), address(context, "waiting0")
    with f.loop(low) as (again, (number,)):
        bucket = keys_of(old, number, words)
        with f.counting(slots(words)) as entry:
            key, waiting = bucket.load(entry), waiting_at.load()
            # Written in any case, as in _drop_recent.
            buffer.store(waiting, key)
            waiting_at.store(waiting + key[-1].differs(0).cast("zext", INT64))
        following = number + 1
        with f.when((following >= high) | (waiting_at.load() >= BATCH)):
            f.run("settle0", context)
        again(following < high, following)
    f.ret(high)
    return f


def settle_entered() -> Function:
    """What Python calls when it has put states into the first buffer itself."""
    f = Function(INT64, "settle", context=PTR, unused=INT64, unused_too=INT64)
    context, *_ = f.parameters
    f.run("settle0", context)
    f.ret(f.number(INT64, 0))
    return f
