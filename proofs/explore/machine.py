"""Machine code for exploration: the grounded circuit over blocks of states, around the visited set of `table`.

512 states at a time are transposed to bit planes, vectors of eight 64-bit words, so that a vector holds one bit of
each state; guards, claims and the next-state bits that depend on the state are evaluated there. The successors of eight
states are then made at once: a bit that becomes a constant is masked in, one that is another bit is shifted there, and
only for what is left the planes select.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proofs.clock import look
from proofs.derive.circuit import FALSE, TRUE, Circuit
from proofs.derive.ground import GroundedStep, Grounder
from proofs.derive.symmetry import Symmetry
from proofs.explore.code import cpu_features
from proofs.explore.flow import Function
from proofs.explore.ir import INT8, INT64, PTR, Body, Value, any_of, constant, select
from proofs.explore.layout import ALL, BATCH, BLOCK, M, States, V, address, fields, shifted
from proofs.explore.planes import least, planes, present, transpose
from proofs.explore.renaming import bits_that_matter, representatives
from proofs.explore.table import append, rehash, settle, settle_entered

DECLARATIONS = f"""
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare {V} @llvm.ctpop.v8i64({V})
declare i64 @llvm.vector.reduce.add.v8i64({V})
declare i64 @llvm.vector.reduce.or.v8i64({V})
declare {V} @llvm.smax.v8i64({V}, {V})
declare {V} @llvm.smin.v8i64({V}, {V})
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
"""
COMPRESS = f"declare {V} @llvm.x86.avx512.mask.compress.v8i64({V}, {V}, {M})\n"


ONES = constant(V, -1)


class _Gates:
    """The planes of circuit literals; each is written where it is first asked for.

    There are thousands of gates, hence text; they are named as LLVM's instructions are.
    """

    def __init__(self, circuit: Circuit, body: Body, inputs: Value, known: dict[int, str]) -> None:
        self.circuit, self.body, self.inputs, self.known = circuit, body, inputs, known

    def nested(self) -> _Gates:
        """For a block that this one dominates: what it computes is not known outside."""
        return _Gates(self.circuit, self.body, self.inputs, dict(self.known))

    def plane(self, literal: int) -> Value:
        if literal in (FALSE, TRUE):
            return self.body.number(V, -literal)
        if literal not in self.known:
            for gate in self.circuit.cone([literal], self.known):
                op, a, b = self.circuit.gates[gate]
                if op == "in":
                    self.known[2 * gate] = self.inputs.at(a, V).load(V).name
                else:
                    self.known[2 * gate] = self.body.do(f"{op} {V} {self._name(a)}, {self._name(b)}", V).name
        return Value(self.body, V, self._name(literal))

    def _name(self, literal: int) -> str:
        if literal & 1 and literal not in self.known:
            self.known[literal] = self.body.do(f"xor {V} {self.known[literal ^ 1]}, {ONES}", V).name
        return self.known[literal]


def _union(plane: Value) -> Value:
    """A number that is zero if no bit of the plane is set."""
    return plane.body.call(INT64, "llvm.vector.reduce.or.v8i64", plane)


@dataclass(frozen=True)
class _Change:
    """What a step does to one word of the state: (word & keep) | set, and what depends on the state.

    `moves`: (source word, distance to the left, mask of the targets). `chosen`: (bit's mask, literal of its value).
    """

    keep: int
    set: int
    moves: tuple[tuple[int, int, int], ...]
    chosen: tuple[tuple[int, int], ...]


UNCHANGED = _Change(ALL, 0, (), ())


def _changes(grounder: Grounder, step: GroundedStep, words: int) -> list[_Change]:
    """For each word of a state what the step does to it, given that its guard holds."""
    look()
    circuit = grounder.circuit
    known = circuit.assuming(circuit.conjuncts(step.guard), [literal for _, literal in step.bits])
    place_of_input = {literal: bit for bit, literal in enumerate(grounder.inputs)}
    keep = [ALL] * words
    ones = [0] * words
    moves: list[dict[tuple[int, int], int]] = [{} for _ in range(words)]
    chosen: list[list[tuple[int, int]]] = [[] for _ in range(words)]
    for (bit, _), literal in zip(step.bits, known, strict=True):
        word, place = divmod(bit, 64)
        mask = 1 << place
        if literal == grounder.inputs[bit]:
            continue
        keep[word] &= ~mask
        if literal == TRUE:
            ones[word] |= mask
        elif literal in place_of_input:
            source, at = divmod(place_of_input[literal], 64)
            moves[word][source, place - at] = moves[word].get((source, place - at), 0) | mask
        elif literal != FALSE:
            chosen[word].append((mask, literal))
    return [
        _Change(keep[w], ones[w], tuple((s, d, m) for (s, d), m in moves[w].items()), tuple(chosen[w]))
        for w in range(words)
    ]


def _planes_of_block(f: Function, context: Value, target: Value, first: Value, end: Value) -> Value:
    """Makes the planes of the states from number `first` on; gives the one of those that there are, up to `end`."""
    f.run("planes", context, target, first)
    return f.call(V, "present", end - first)


def _expand(grounder: Grounder, steps: Sequence[GroundedStep], words: int, matter: frozenset[int]) -> Function:
    """`expand(context, _, end)`: the successors of the states up to `end`, in blocks claimed from the cursor on.

    Leaves early where the table has no room. `matter`: the bits on which a state's representative depends.
    """
    changes = [_changes(grounder, step, words) for step in steps]
    most = max((sum(len(change.chosen) for change in by_word) for by_word in changes), default=0)
    f = Function(INT64, "expand", context=PTR, unused=INT64, end=INT64)
    context, _, end = f.parameters
    bits, chosen, taking = f.room(V, 64 * words), f.room(V, most + 1), f.room(V)
    block = f.block("block")
    f.jump(block())
    f.begin(block)
    count, limit, cursor = fields(context, "count limit cursor")
    with f.when(count.load(INT64, "volatile") > limit):
        f.ret(f.number(INT64, 0))
    first = cursor.add_atomically(BLOCK)
    with f.when(first >= end):
        f.ret(first)
    here = _planes_of_block(f, context, bits, first, end)
    gates = _Gates(grounder.circuit, f, bits, {})
    queue, stride, fired = fields(context, "queue stride fired")
    successors = _Successors(f, context, States(queue, stride, words), first, taking, chosen)
    for number, (step, by_word) in enumerate(zip(steps, changes, strict=True)):
        look()
        mask = gates.plane(step.guard) & here
        with f.when(_union(mask).differs(0)):
            ones = f.call(V, "llvm.ctpop.v8i64", mask)
            taken = f.call(INT64, "llvm.vector.reduce.add.v8i64", ones)
            times = fired.at(number)
            times.store(times.load() + taken)
            if any(change != UNCHANGED for change in by_word):
                kind = int(any(bit in matter for bit, _ in step.bits))
                successors.make(gates.nested(), mask, by_word, kind)
    f.run("settle0", context)
    f.run("settle1", context)
    f.jump(block())
    return f


@dataclass(frozen=True)
class _Successors:
    """Makes successors of the states of a block.

    `first`: the number of the first one. `taking`, `chosen`: room for planes, of which bytes are read.
    """

    f: Function
    context: Value
    states: States
    first: Value
    taking: Value
    chosen: Value

    def make(self, gates: _Gates, mask: Value, changes: Sequence[_Change], kind: int) -> None:
        """Put those of the masked states into the buffer of that kind, by groups of eight of which some are masked."""
        f = self.f
        for i, literal in enumerate(literal for change in changes for _, literal in change.chosen):
            self.chosen.at(i, V).store(gates.plane(literal))
        self.taking.store(mask)
        some = mask.cast("bitcast", "<64 x i8>").differs(0).cast("bitcast", INT64)
        # Used again below: from an address made twice LLVM makes code that is a fifth longer.
        (buffer,), waiting_at = fields(self.context, f"pending{kind}"), address(self.context, f"waiting{kind}")
        with f.loop(some, waiting_at.load()) as (again, (groups, so_far)):
            group = groups.lowest()
            old = self.states.load(self.first + (group << 3), V)
            bytes_chosen = self.chosen.at(group, INT8)
            selected = (bytes_chosen.at(64 * i, INT8).load(INT8).cast("bitcast", M) for i in itertools.count())
            new = [_changed(old, word, change, selected) for word, change in enumerate(changes)]
            moved = any_of([a.differs(b) for a, b in zip(new, old, strict=True) if a is not b])
            # A step from a state to itself is counted and leads nowhere.
            going = self.taking.at(group, INT8).load(INT8) & moved.cast("bitcast", INT8)
            end = f.call(INT64, "append", buffer, so_far, going, *new)
            rest = groups & (groups - 1)
            again(rest.differs(0), rest, end)
        waiting_at.store(end)
        with f.when(end >= BATCH):
            f.run(f"settle{kind}", self.context)


def _changed(old: Sequence[Value], word: int, change: _Change, selected: Iterator[Value]) -> Value:
    """A word of the successors; the very value of `old` if it is the same. `selected`: lanes, a chosen bit each."""
    new = old[word]
    if change.keep != ALL:
        new = new & change.keep
    if change.set:
        new = new | change.set
    for source, distance, targets in change.moves:
        new = new | shifted(old[source], distance) & targets
    for bit, _ in change.chosen:
        lanes = next(selected)
        new = new | select(lanes, new.body.number(V, bit), 0)
    return new


def _inspect(circuit: Circuit, claims: Sequence[int], premises: Sequence[int], words: int) -> Function:
    """`inspect(context, from, end)`: for each open claim the least state that breaks it; where its premise is met."""
    f = Function(INT64, "inspect", context=PTR, start=INT64, end=INT64)
    context, start, end = f.parameters
    bits, mask = f.room(V, 64 * words), f.room(V)
    seen, still_open = fields(context, "seen open")
    block = f.block("block", INT64)
    f.jump(block(start))
    (first,) = f.begin(block)
    with f.when(first >= end):
        f.ret(first)
    here = _planes_of_block(f, context, bits, first, end)
    gates = _Gates(circuit, f, bits, {})
    for number, (claim, premise) in enumerate(zip(claims, premises, strict=True)):
        seen_here = seen.at(number)
        seen_here.store(seen_here.load() | _union(gates.plane(premise) & here))
        broken = gates.plane(claim ^ 1) & here
        with f.when(_union(broken).differs(0) & still_open.at(number).load().differs(0)):
            mask.store(broken)
            f.run("least", context, mask, first, f.number(INT64, number))
    f.jump(block(first + BLOCK))
    return f


def assembly(
    grounder: Grounder, steps: Sequence[GroundedStep], claims: Sequence[int], premises: Sequence[int],
    symmetry: Symmetry | None,
) -> str:
    """LLVM IR of what `Code` offers, for packed states; `claims` and `premises` are circuit literals."""
    words = state_words(grounder)
    compress = "avx512f" in cpu_features()
    matter = frozenset[int]() if symmetry is None else bits_that_matter(symmetry)
    functions = [
        transpose(), planes(words), present(), least(words), append(words, compress),
        settle(words, 0, lambda state: state),
        settle(words, 1, lambda state: state if symmetry is None else representatives(symmetry, state)),
        rehash(words), settle_entered(),
        _expand(grounder, steps, words, matter), _inspect(grounder.circuit, claims, premises, words),
    ]
    return "\n".join([DECLARATIONS, *[COMPRESS] * compress, *map(str, functions)])


def state_words(grounder: Grounder) -> int:
    """64-bit words of a packed state and its marker."""
    return grounder.bits // 64 + 1
