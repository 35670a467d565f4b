"""Some of eight states put one behind the other, by whatever instruction the processor has for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from proofs.explore.flow import Function
from proofs.explore.ir import INT64, Value, vector
from proofs.explore.layout import ROOM, M, States, V

FOUR = vector(8, "i32")
"""A word of four states, by halves."""


def _orders() -> str:
    """For each choice of four lanes the halves of the chosen ones, to be taken first."""
    rows = []
    for chosen in range(16):
        halves = [half for lane in range(4) if chosen >> lane & 1 for half in (2 * lane, 2 * lane + 1)]
        rows.append(f"{FOUR} <" + ", ".join(f"i32 {half}" for half in [*halves, *[0] * (8 - len(halves))]) + ">")
    return f"@orders = internal constant [16 x {FOUR}] [{', '.join(rows)}]"


DECLARATIONS = {
    "avx512f": f"declare {V} @llvm.x86.avx512.mask.compress.v8i64({V}, {V}, {M})",
    "avx2": f"{_orders()}\ndeclare {FOUR} @llvm.x86.avx2.permd({FOUR}, {FOUR})",
    "": "",
}
"""What the ways to do it need, by the processor's feature; the best first, and the one that needs none."""


def best(features: Collection[str]) -> str:
    """The best way on a processor with those features."""
    return next(way for way in DECLARATIONS if not way or way in features)


@dataclass(frozen=True)
class Compress:
    """`way`: a key of DECLARATIONS. `copies`: room for a word of eight states, for each word."""

    f: Function
    way: str
    copies: Sequence[Value]

    def append(self, buffer: Value, end: Value, chosen: Value, state: Sequence[Value]) -> Value:
        """Put the states of the chosen lanes behind the end of a buffer; gives the new end.

        Behind that up to eight states may be overwritten.
        """
        f, waiting, bits = self.f, States(buffer, ROOM, len(state)), chosen.cast("zext", INT64)
        if self.way == "avx512f":
            lanes, none = chosen.cast("bitcast", M), f.number(V, 0)
            waiting.store(end, [f.call(V, "llvm.x86.avx512.mask.compress.v8i64", word, none, lanes) for word in state])
            return end + f.call(INT64, "llvm.ctpop.i64", bits)
        if self.way == "avx2":
            for first in (0, 4):
                four = (bits >> first) & 15
                order = Value(f, "ptr", "@orders").at(four, FOUR).load(FOUR)
                waiting.store(end, [f.call(FOUR, "llvm.x86.avx2.permd", _four(word, first), order) for word in state])
                end = end + f.call(INT64, "llvm.ctpop.i64", four)
            return end
        return self._one_by_one(waiting, end, bits, state)

    def _one_by_one(self, waiting: States, end: Value, bits: Value, state: Sequence[Value]) -> Value:
        # Lanes are taken by numbers that are known only then.
        f = self.f
        for copy, word in zip(self.copies, state, strict=True):
            copy.store(word)
        some, done = f.block("some"), f.block("done", INT64)
        f.branch(bits.equals(0), done(end), some())
        f.begin(some)
        with f.loop(bits, end) as (again, (left, at)):
            lane = left.lowest()
            waiting.store(at, [copy.at(lane).load() for copy in self.copies])
            rest, following = left & (left - 1), at + 1
            again(rest.differs(0), rest, following)
        f.jump(done(following))
        return f.begin(done)[0]


def _four(word: Value, first: int) -> Value:
    """Four lanes of a word of eight states, by halves."""
    f, order = word.body, ", ".join(f"i32 {first + lane}" for lane in range(4))
    some = f.do(f"shufflevector {V} {word.name}, {V} poison, <4 x i32> <{order}>", vector(4))
    return some.cast("bitcast", FOUR)
