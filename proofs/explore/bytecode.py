"""A model's steps and claims as numbers, and the machine code that follows them, which is the same for all models.

To compile a model's own code takes longer than to explore most scopes. A gate is one turn of a loop over vectors of
512 states, and a change one over eight: that the numbers are read in each turn costs little beside the visited set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from proofs.derive.circuit import FALSE, Circuit
from proofs.derive.ground import GroundedStep, Grounder
from proofs.explore.changes import UNCHANGED, changes
from proofs.explore.code import PLANES
from proofs.explore.compress import Compress
from proofs.explore.flow import Function
from proofs.explore.ir import INT8, INT64, PTR, Value, any_of, select
from proofs.explore.layout import ALL, BATCH, BLOCK, M, States, V, address, fields

Array = np.ndarray[Any, Any]
ZEROS, INPUTS = 0, 1
"""Numbers of planes: one of zeros, and the first of the bits of a state; those of gates come behind."""


# What is written

class _Planes:
    """Where the planes of circuit gates are; each gate is written where it is first asked for.

    There are conjunctions only, whose turns of the loop do all the same; a literal is a plane and a word to turn it by.
    """

    def __init__(self, circuit: Circuit, words: int) -> None:
        self.circuit = circuit
        self.place = {FALSE: ZEROS}
        self.used = self.most = INPUTS + 64 * words

    def gates(self, literals: Sequence[int]) -> list[int]:
        """What computes the literals: how many planes are made, the number of the first, and for each two literals."""
        first, numbers = self.used, list[int]()

        def conjunction(a: int, b: int) -> int:
            numbers.extend((*self.literal(a), *self.literal(b)))
            self.used += 1
            return self.used - 1

        for gate in self.circuit.cone(literals, self.place):
            op, a, b = self.circuit.gates[gate]
            if op == "in":
                self.place[2 * gate] = INPUTS + a
            elif op == "and":
                self.place[2 * gate] = conjunction(a, b)
            else:
                neither = [conjunction(a, b), conjunction(a ^ 1, b ^ 1)]
                numbers.extend(number for plane in neither for number in (plane, ALL))
                self.used += 1
                self.place[2 * gate] = self.used - 1
        self.most = max(self.most, self.used)
        return [self.used - first, first, *numbers]

    def literal(self, literal: int) -> tuple[int, int]:
        """The plane, and the word to turn its bits by."""
        return self.place[literal & ~1], -(literal & 1) & ALL

    @contextmanager
    def forgetting(self) -> Iterator[None]:
        """What is computed within is not known afterwards."""
        place, used = dict(self.place), self.used
        yield
        self.place, self.used = place, used


def written_steps(grounder: Grounder, words: int, steps: Sequence[GroundedStep], matter: frozenset[int]) -> Array:
    """The steps as `expand` reads them. `matter`: the bits on which a state's representative depends."""
    planes = _Planes(grounder.circuit, words)
    numbers: list[int] = []
    for step in steps:
        by_word = changes(grounder, step, words)
        gates = planes.gates([step.guard])
        changing: list[int] = []
        if any(change != UNCHANGED for change in by_word):
            with planes.forgetting():
                changing += planes.gates([literal for change in by_word for _, literal in change.chosen])
                for change in by_word:
                    changing += [change.keep, change.set, len(change.moves), len(change.chosen)]
                    for source, distance, targets in change.moves:
                        changing += [source, distance % 64, targets]
                    for bit, literal in change.chosen:
                        plane, turned = planes.literal(literal)
                        changing += [plane, bit & ~turned, bit & turned]
        kind = int(any(bit in matter for bit, _ in step.bits))
        numbers += [*gates, *planes.literal(step.guard), kind, len(changing), *changing]
    return _program(planes, len(steps), numbers)


def written_claims(circuit: Circuit, words: int, claims: Sequence[int], premises: Sequence[int]) -> Array:
    """Claims with their premises, literals of the circuit, as `inspect` reads them."""
    planes = _Planes(circuit, words)
    numbers: list[int] = []
    for claim, premise in zip(claims, premises, strict=True):
        numbers += planes.gates([premise, claim ^ 1])
        numbers += [*planes.literal(premise), *planes.literal(claim ^ 1)]
    return _program(planes, len(claims), numbers)


def _program(planes: _Planes, parts: int, numbers: Sequence[int]) -> Array:
    """How many planes it needs, which is number PLANES, of how many steps or claims it is, and those."""
    return np.array([planes.most, parts, *(number & ALL for number in numbers)], np.uint64)


# What reads it

class _Reader:
    """Reads numbers one after the other, from that address on."""

    def __init__(self, start: Value) -> None:
        self.here = start

    def next(self) -> Value:
        found = self.here.load()
        self.here = self.here.at(1)
        return found

    def literal(self, planes: Value) -> Value:
        """The plane of the literal that is written there."""
        plane, turned = self.next(), self.next()
        return planes.at(plane, V).load(V) ^ turned.splat(8)


def gates() -> Function:
    """Make the planes that are written there; gives where that ends."""
    f = Function(f"internal {PTR}", "gates", planes=PTR, start=PTR)
    planes, start = f.parameters
    reader = _Reader(start)
    count, first = reader.next(), reader.next()
    with f.repeating(count, reader.here, planes.at(first, V)) as (again, (_, here, target)):
        reader.here = here
        target.store(reader.literal(planes) & reader.literal(planes))
        again(reader.here, target.at(1, V))
    f.ret(here)
    return f


def _begun(f: Function, program: Value, planes: Value) -> tuple[Value, Value]:
    """Makes the plane of zeros; gives how many parts a program has, and where they begin."""
    planes.at(ZEROS, V).store(f.number(V, 0))
    reader = _Reader(program.at(PLANES + 1))
    return reader.next(), reader.here


def _union(plane: Value) -> Value:
    """A number that is zero if no bit of the plane is set."""
    return plane.body.call(INT64, "llvm.vector.reduce.or.v8i64", plane)


def _planes_of_block(f: Function, context: Value, planes: Value, first: Value, end: Value) -> Value:
    """Makes the planes of the states from number `first` on; gives the one of those that there are, up to `end`."""
    f.run("planes", context, planes.at(INPUTS, V), first)
    return f.call(V, "present", end - first)


def expand(words: int, way: str) -> Function:
    """`expand(context, program, planes, end)`: the successors of the states up to `end`, in blocks claimed from the
    cursor on. `planes`: room for as many as the program says.

    Leaves early where the table has no room. `way` as in `Compress`.
    """
    f = Function(INT64, "expand", context=PTR, program=PTR, planes=PTR, end=INT64)
    context, program, planes, end = f.parameters
    parts, steps = _begun(f, program, planes)
    queue, stride, fired = fields(context, "queue stride fired")
    states = States(queue, stride, words)
    taking, compress = f.room(V), Compress(f, way, [f.room(V) for _ in range(words)])
    block = f.block("block")
    f.jump(block())
    f.begin(block)
    count, limit, cursor = fields(context, "count limit cursor")
    with f.when(count.load(INT64, "volatile") > limit):
        f.ret(f.number(INT64, 0))
    first = cursor.add_atomically(BLOCK)
    with f.when(first >= end):
        f.ret(first)
    here = _planes_of_block(f, context, planes, first, end)
    with f.repeating(parts, steps) as (again, (number, step)):
        reader = _Reader(f.call(PTR, "gates", planes, step))
        mask = reader.literal(planes) & here
        kind, length = reader.next(), reader.next()
        with f.when(_union(mask).differs(0)):
            taken = f.call(INT64, "llvm.vector.reduce.add.v8i64", f.call(V, "llvm.ctpop.v8i64", mask))
            times = fired.at(number)
            times.store(times.load() + taken)
            with f.when(length.differs(0)):
                change = _Change(f, planes, states, first, f.call(PTR, "gates", planes, reader.here))
                taking.store(mask)
                _successors(context, change, taking, kind, compress)
        again(reader.here.at(length))
    f.run("settle0", context)
    f.run("settle1", context)
    f.jump(block())
    return f


@dataclass(frozen=True)
class _Change:
    """The change that is written at `start`, of the states of a block from number `first` on."""

    f: Function
    planes: Value
    states: States
    first: Value
    start: Value


def _successors(context: Value, change: _Change, taking: Value, kind: Value, compress: Compress) -> None:
    """Put the successors of the states in the plane at `taking` into the buffer of that kind, by groups of eight."""
    f = change.f
    (buffer_at, waiting_at) = (
        select(kind.differs(0), *(address(context, f"{name}{number}") for number in (1, 0)))
        for name in ("pending", "waiting")
    )
    buffer = buffer_at.load(PTR)
    some = taking.load("<64 x i8>").differs(0).cast("bitcast", INT64)
    with f.loop(some, waiting_at.load()) as (again, (groups, so_far)):
        group = groups.lowest()
        old = change.states.load(change.first + (group << 3), V)
        new = _changed(change, group, old)
        moved = any_of([a.differs(b) for a, b in zip(new, old, strict=True)])
        # A step from a state to itself is counted and leads nowhere.
        going = taking.at(group, INT8).load(INT8) & moved.cast("bitcast", INT8)
        end = compress.append(buffer, so_far, going, new)
        rest = groups & (groups - 1)
        again(rest.differs(0), rest, end)
    waiting_at.store(end)
    with f.when(end >= BATCH):
        with f.when(kind.equals(0)):
            f.run("settle0", context)
        with f.when(kind.differs(0)):
            f.run("settle1", context)


def _changed(change: _Change, group: Value, old: Sequence[Value]) -> list[Value]:
    """The words of the successors of a group."""
    f, states = change.f, change.states
    reader = _Reader(change.start)
    new = []
    for word in old:
        keep, ones, moves, choices = (reader.next() for _ in range(4))
        kept = word & keep.splat(8) | ones.splat(8)
        with f.repeating(moves, reader.here, kept) as (again, (_, choices_at, value)):
            reader.here = choices_at
            source, distance, targets = (reader.next() for _ in range(3))
            place = states.start.at(change.first + (group << 3) + source * states.stride)
            origin = place.load(V) if len(old) > 1 else word
            # Where the mask has a bit nothing has come around.
            turned = f.call(V, "llvm.fshl.v8i64", origin, origin, distance.splat(8))
            again(reader.here, value | turned & targets.splat(8))
        with f.repeating(choices, choices_at, value) as (again, (_, next_word, value)):
            reader.here = next_word
            plane, there, else_there = (reader.next() for _ in range(3))
            lanes = change.planes.at(plane, V).at(group, INT8).load(INT8).cast("bitcast", M)
            again(reader.here, value | select(lanes, there.splat(8), else_there.splat(8)))
        reader.here = next_word
        new.append(value)
    return new


def inspect() -> Function:
    """`inspect(context, program, planes, start)`: for each open claim the least state from there on that breaks it, and
    where its premise is met. `planes` as in `expand`.
    """
    f = Function(INT64, "inspect", context=PTR, program=PTR, planes=PTR, start=INT64)
    context, program, planes, start = f.parameters
    parts, claims = _begun(f, program, planes)
    mask = f.room(V)
    seen, still_open, count = fields(context, "seen open count")
    end = count.load()
    block = f.block("block", INT64)
    f.jump(block(start))
    (first,) = f.begin(block)
    with f.when(first >= end):
        f.ret(first)
    here = _planes_of_block(f, context, planes, first, end)
    with f.repeating(parts, claims) as (again, (number, claim)):
        reader = _Reader(f.call(PTR, "gates", planes, claim))
        premised, broken = (reader.literal(planes) & here for _ in range(2))
        seen_here = seen.at(number)
        seen_here.store(seen_here.load() | _union(premised))
        with f.when(_union(broken).differs(0) & still_open.at(number).load().differs(0)):
            mask.store(broken)
            f.run("least", context, mask, first, number)
        again(reader.here)
    f.jump(block(first + BLOCK))
    return f
