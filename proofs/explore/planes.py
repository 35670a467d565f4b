"""Functions over a block of 512 states of the queue: their bit planes, and the least of some of them.

A plane is a vector: bit j of its lane e belongs to state 64e + j of the block.
"""

from __future__ import annotations

from proofs.explore.flow import Function
from proofs.explore.ir import INT64, PTR, Value, select
from proofs.explore.layout import States, V, fields, less


def transpose() -> Function:
    """Each lane of 64 vectors, a matrix of 64x64 bits, becomes its transpose: ever smaller squares change places."""
    f = Function("internal void", "transpose", matrix="ptr noalias")
    (matrix,) = f.parameters
    distance, low_halves = 32, (1 << 32) - 1
    while distance:
        with f.loop(0) as (again, (row,)):
            below = row + distance
            upper, lower = matrix.at(row, V), matrix.at(below, V)
            a, b = upper.load(V), lower.load(V)
            exchanged = ((a >> distance) ^ b) & low_halves
            lower.store(b ^ exchanged)
            upper.store(a ^ (exchanged << distance))
            # The next row without that bit in its number.
            following = (below + 1) & ~distance
            again(following < 64, following)
        distance //= 2
        low_halves ^= low_halves << distance
    f.ret()
    return f


def planes(words: int) -> Function:
    """The planes of all bits of the states from number `first` on; those beyond the queue's end are no states."""
    f = Function("void", "planes", context=PTR, planes="ptr noalias", first=INT64)
    context, target, first = f.parameters
    queue, stride = fields(context, "queue stride")
    for w in range(words):
        offset = stride * w + first
        # A state's word is to be in the lane of its 64, so that each lane is a matrix to be transposed.
        with f.counting(64, step=8) as j:
            start = offset + j
            rows = _lanes_exchanged(f, [queue.at(start + 64 * e).load(V) for e in range(8)])
            for e, row in enumerate(rows):
                target.at(j + (64 * w + e), V).store(row)
        f.run("transpose", target.at(64 * w, V))
    f.ret()
    return f


def _lanes_exchanged(f: Function, rows: list[Value]) -> list[Value]:
    """The transpose of 8x8 words: three rounds of shuffles cost less than 64 loads."""

    def picked(a: Value, b: Value, lanes: list[int]) -> Value:
        order = ", ".join(f"i32 {lane}" for lane in lanes)
        return f.do(f"shufflevector {V} {a.name}, {V} {b.name}, <8 x i32> <{order}>", V)

    for d in (1, 2, 4):
        low = [i if not i & d else 8 + i - d for i in range(8)]
        high = [i + d if not i & d else 8 + i for i in range(8)]
        for i in range(8):
            if not i & d:
                a, b = rows[i], rows[i + d]
                rows[i], rows[i + d] = picked(a, b, low), picked(a, b, high)
    return rows


def present() -> Function:
    """The plane that tells which states of a block there are, if `left` are from its beginning on."""
    f = Function(V, "present", left=INT64)
    (left,) = f.parameters
    starts = Value(f, V, "<" + ", ".join(f"i64 {64 * e}" for e in range(8)) + ">")
    none, all_64 = f.number(V, 0), f.number(V, 64)
    here = f.call(V, "llvm.smax.v8i64", f.call(V, "llvm.smin.v8i64", left.splat(8) - starts, all_64), none)
    # A shift by 64 has no meaning.
    f.ret(select(here.equals(0), none, f.number(V, -1) >> (all_64 - here)))
    return f


def least(words: int) -> Function:
    """Keep in first[claim] the least state, last word first, of those in the mask.

    The least one does not depend on the order in which threads found them.
    """
    f = Function("internal void", "least", context=PTR, mask=PTR, low=INT64, claim=INT64)
    context, mask, low, claim = f.parameters
    queue, stride, first = fields(context, "queue stride first")
    kept = States(first.at(claim * words), 1, words)
    with f.counting(8) as e:
        lane = mask.at(e).load()
        with f.when(lane.differs(0)), f.loop(lane) as (again, (bits,)):
            state = States(queue, stride, words).load(low + e * 64 + bits.lowest())
            with f.when(less(state, kept.load(0))):
                kept.store(0, state)
            rest = bits & (bits - 1)
            again(rest.differs(0), rest)
    f.ret()
    return f
