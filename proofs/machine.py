"""Machine code for exploration: the grounded circuit as LLVM IR, and the visited set around it.

64 states at a time are transposed to bit planes, so that one machine word holds one bit of 64 states; guards, claims
and next-state bits are evaluated there. Enabled successors are gathered lane by lane; batches of them go, with
prefetching, into an open-addressing table over a queue in breadth-first order.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import re
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm

from proofs.circuit import FALSE, TRUE, Circuit
from proofs.ground import GroundedStep, Grounder
from proofs.symmetry import Symmetry

# The exploration's variables, 64 bits each, in the block that %ctx points to.
POINTERS = ("queue", "parents", "table", "fired", "first", "seen", "pending", "hashes", "origins")
NUMBERS = ("table_mask", "count", "limit", "waiting")
FIELDS = (*POINTERS, *NUMBERS)

_RUNTIME = r"""
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

; The 64x64 bit matrix at %m becomes its transpose, by exchanging ever smaller blocks.
define internal void @transpose(ptr noalias %m) {
entry:
  br label %outer
outer:
  %j = phi i64 [ 32, %entry ], [ %j2, %outer_next ]
  %mask = phi i64 [ 4294967295, %entry ], [ %mask2, %outer_next ]
  br label %inner
inner:
  %k = phi i64 [ 0, %outer ], [ %k4, %inner ]
  %kj = add i64 %k, %j
  %pa = getelementptr i64, ptr %m, i64 %k
  %pb = getelementptr i64, ptr %m, i64 %kj
  %a = load i64, ptr %pa
  %b = load i64, ptr %pb
  %ar = lshr i64 %a, %j
  %x = xor i64 %ar, %b
  %t = and i64 %x, %mask
  %b2 = xor i64 %b, %t
  %ts = shl i64 %t, %j
  %a2 = xor i64 %a, %ts
  store i64 %a2, ptr %pa
  store i64 %b2, ptr %pb
  %k2 = add i64 %kj, 1
  %nj = xor i64 %j, -1
  %k4 = and i64 %k2, %nj
  %more = icmp ult i64 %k4, 64
  br i1 %more, label %inner, label %outer_next
outer_next:
  %j2 = lshr i64 %j, 1
  %sh = shl i64 %mask, %j2
  %mask2 = xor i64 %mask, %sh
  %done = icmp eq i64 %j2, 0
  br i1 %done, label %exit, label %outer
exit:
  ret void
}

; Copy up to 64 states from number %lo to bit planes; returns the mask of states that are there.
define internal i64 @planes(ptr %ctx, ptr noalias %planes, i64 %lo, i64 %hi) {
entry:
  @fields queue
  %left = sub i64 %hi, %lo
  %full = icmp uge i64 %left, 64
  %n = select i1 %full, i64 64, i64 %left
  br label %word
word:
  %w = phi i64 [ 0, %entry ], [ %w2, %word_next ]
  %base = mul i64 %w, 64
  %out = getelementptr i64, ptr %planes, i64 %base
  br label %copy
copy:
  %i = phi i64 [ 0, %word ], [ %i2, %copy_next ]
  %in_range = icmp ult i64 %i, %n
  br i1 %in_range, label %take, label %zero
take:
  %state = add i64 %lo, %i
  %sw = mul i64 %state, @WORDS@
  %at = add i64 %sw, %w
  %src = getelementptr i64, ptr %queue, i64 %at
  %val = load i64, ptr %src
  br label %copy_next
zero:
  br label %copy_next
copy_next:
  %v = phi i64 [ %val, %take ], [ 0, %zero ]
  %dst = getelementptr i64, ptr %out, i64 %i
  store i64 %v, ptr %dst
  %i2 = add i64 %i, 1
  %again = icmp ult i64 %i2, 64
  br i1 %again, label %copy, label %word_next
word_next:
  call void @transpose(ptr %out)
  %w2 = add i64 %w, 1
  %wmore = icmp ult i64 %w2, @WORDS@
  br i1 %wmore, label %word, label %exit
exit:
  %ones = shl i64 1, %n
  %partial = sub i64 %ones, 1
  %mask = select i1 %full, i64 -1, i64 %partial
  ret i64 %mask
}

define internal i64 @hash(ptr %key) {
entry:
  br label %loop
loop:
  %w = phi i64 [ 0, %entry ], [ %w2, %loop ]
  %h = phi i64 [ 7046029254386353131, %entry ], [ %h5, %loop ]
  %p = getelementptr i64, ptr %key, i64 %w
  %k = load i64, ptr %p
  %h1 = xor i64 %h, %k
  %h2 = mul i64 %h1, -7046029288634856825
  %h3 = lshr i64 %h2, 32
  %h4 = xor i64 %h2, %h3
  %h5 = mul i64 %h4, -4417276706812531889
  %w2 = add i64 %w, 1
  %more = icmp ult i64 %w2, @WORDS@
  br i1 %more, label %loop, label %exit
exit:
  %h6 = lshr i64 %h5, 29
  %h7 = xor i64 %h5, %h6
  ret i64 %h7
}

; Put the state at %key, whose hash is %h, into the visited set and, if it is new, at the end of the queue.
; A table entry is the state's number plus one, under 24 bits of its hash.
define internal void @insert(ptr %ctx, ptr %key, i64 %h, i32 %parent) {
entry:
  @fields queue parents table table_mask count
  %tag = and i64 %h, -1099511627776
  br label %probe
probe:
  %slot0 = phi i64 [ %h, %entry ], [ %slot_next, %next ]
  %slot = and i64 %slot0, %table_mask
  %ep = getelementptr i64, ptr %table, i64 %slot
  %e = load i64, ptr %ep
  %empty = icmp eq i64 %e, 0
  br i1 %empty, label %new, label %occupied
occupied:
  %etag = and i64 %e, -1099511627776
  %same_tag = icmp eq i64 %etag, %tag
  br i1 %same_tag, label %compare, label %next
compare:
  %enum = and i64 %e, 1099511627775
  %eidx = sub i64 %enum, 1
  %ebase = mul i64 %eidx, @WORDS@
  br label %cword
cword:
  %w = phi i64 [ 0, %compare ], [ %w2, %cnext ]
  %qa = add i64 %ebase, %w
  %qp = getelementptr i64, ptr %queue, i64 %qa
  %q = load i64, ptr %qp
  %kp = getelementptr i64, ptr %key, i64 %w
  %k = load i64, ptr %kp
  %eq = icmp eq i64 %q, %k
  br i1 %eq, label %cnext, label %next
cnext:
  %w2 = add i64 %w, 1
  %more = icmp ult i64 %w2, @WORDS@
  br i1 %more, label %cword, label %exit
next:
  %slot_next = add i64 %slot, 1
  br label %probe
new:
  %idx1 = add i64 %count, 1
  store i64 %idx1, ptr %count_p
  %entry_v = or i64 %idx1, %tag
  store i64 %entry_v, ptr %ep
  %pp = getelementptr i32, ptr %parents, i64 %count
  store i32 %parent, ptr %pp
  %nbase = mul i64 %count, @WORDS@
  br label %nword
nword:
  %nw = phi i64 [ 0, %new ], [ %nw2, %nword ]
  %na = add i64 %nbase, %nw
  %np = getelementptr i64, ptr %queue, i64 %na
  %nkp = getelementptr i64, ptr %key, i64 %nw
  %nk = load i64, ptr %nkp
  store i64 %nk, ptr %np
  %nw2 = add i64 %nw, 1
  %nmore = icmp ult i64 %nw2, @WORDS@
  br i1 %nmore, label %nword, label %exit
exit:
  ret void
}

; For every state of %mask: flip the bits whose plane in %delta says so, put the result among those that wait.
; %rename: the step changes what the representative depends on.
define internal void @emit(ptr %ctx, i64 %mask, ptr noalias %delta, ptr noalias %pos, i64 %n, i64 %lo, i1 %rename) {
entry:
  @fields queue table table_mask pending hashes origins waiting
  %some = icmp ne i64 %mask, 0
  br i1 %some, label %lane, label %exit
lane:
  %m = phi i64 [ %mask, %entry ], [ %m2, %put ]
  %at = phi i64 [ %waiting, %entry ], [ %at2, %put ]
  %kbase = mul i64 %at, @WORDS@
  %key = getelementptr i64, ptr %pending, i64 %kbase
  %i = call i64 @llvm.cttz.i64(i64 %m, i1 true)
  %state = add i64 %lo, %i
  %base = mul i64 %state, @WORDS@
  br label %load
load:
  %w = phi i64 [ 0, %lane ], [ %w2, %load ]
  %sa = add i64 %base, %w
  %sp = getelementptr i64, ptr %queue, i64 %sa
  %sv = load i64, ptr %sp
  %kp = getelementptr i64, ptr %key, i64 %w
  store i64 %sv, ptr %kp
  %w2 = add i64 %w, 1
  %wmore = icmp ult i64 %w2, @WORDS@
  br i1 %wmore, label %load, label %flip
flip:
  %j = phi i64 [ 0, %load ], [ %j2, %flip ]
  %dp = getelementptr i64, ptr %delta, i64 %j
  %d = load i64, ptr %dp
  %pp = getelementptr i16, ptr %pos, i64 %j
  %p16 = load i16, ptr %pp
  %p = zext i16 %p16 to i64
  %ds = lshr i64 %d, %i
  %d1 = and i64 %ds, 1
  %bit = and i64 %p, 63
  %dw = shl i64 %d1, %bit
  %word = lshr i64 %p, 6
  %tp = getelementptr i64, ptr %key, i64 %word
  %t = load i64, ptr %tp
  %t2 = xor i64 %t, %dw
  store i64 %t2, ptr %tp
  %j2 = add i64 %j, 1
  %jmore = icmp ult i64 %j2, %n
  br i1 %jmore, label %flip, label %done
done:
  br i1 %rename, label %represent, label %put
represent:
  call void @canonical(ptr %key)
  br label %put
put:
  %h = call i64 @hash(ptr %key)
  %hp = getelementptr i64, ptr %hashes, i64 %at
  store i64 %h, ptr %hp
  %op = getelementptr i32, ptr %origins, i64 %at
  %origin = trunc i64 %state to i32
  store i32 %origin, ptr %op
  %slot = and i64 %h, %table_mask
  %ep = getelementptr i64, ptr %table, i64 %slot
  call void @llvm.prefetch.p0(ptr %ep, i32 0, i32 3, i32 1)
  %at2 = add i64 %at, 1
  store i64 %at2, ptr %waiting_p
  %low = sub i64 %m, 1
  %m2 = and i64 %m, %low
  %left = icmp ne i64 %m2, 0
  br i1 %left, label %lane, label %exit
exit:
  ret void
}

; Insert what waits. The table's lines are on their way; a first pass asks for those of the queue too.
define internal void @flush(ptr %ctx) {
entry:
  @fields queue table table_mask pending hashes origins waiting
  %some = icmp ne i64 %waiting, 0
  br i1 %some, label %look, label %exit
look:
  %i = phi i64 [ 0, %entry ], [ %i2, %looked ]
  %hp = getelementptr i64, ptr %hashes, i64 %i
  %h = load i64, ptr %hp
  %slot = and i64 %h, %table_mask
  %ep = getelementptr i64, ptr %table, i64 %slot
  %e = load i64, ptr %ep
  %differ = xor i64 %e, %h
  %tag = lshr i64 %differ, 40
  %same = icmp eq i64 %tag, 0
  br i1 %same, label %ask, label %looked
ask:
  %number = and i64 %e, 1099511627775
  %qb = mul i64 %number, @WORDS@
  %qa = sub i64 %qb, @WORDS@
  %qp = getelementptr i64, ptr %queue, i64 %qa
  call void @llvm.prefetch.p0(ptr %qp, i32 0, i32 3, i32 1)
  br label %looked
looked:
  %i2 = add i64 %i, 1
  %lmore = icmp ult i64 %i2, %waiting
  br i1 %lmore, label %look, label %put
put:
  %j = phi i64 [ 0, %looked ], [ %j2, %put ]
  %jh = getelementptr i64, ptr %hashes, i64 %j
  %h2 = load i64, ptr %jh
  %jo = getelementptr i32, ptr %origins, i64 %j
  %origin = load i32, ptr %jo
  %kb = mul i64 %j, @WORDS@
  %key = getelementptr i64, ptr %pending, i64 %kb
  call void @insert(ptr %ctx, ptr %key, i64 %h2, i32 %origin)
  %j2 = add i64 %j, 1
  %pmore = icmp ult i64 %j2, %waiting
  br i1 %pmore, label %put, label %exit
exit:
  store i64 0, ptr %waiting_p
  ret void
}

; Enter the states from %lo to %hi of the queue into a new table.
define void @rehash(ptr %ctx, i64 %lo, i64 %hi) {
entry:
  @fields queue table table_mask
  br label %loop
loop:
  %i = phi i64 [ %lo, %entry ], [ %i1, %put ]
  %base = mul i64 %i, @WORDS@
  %key = getelementptr i64, ptr %queue, i64 %base
  %h = call i64 @hash(ptr %key)
  %tag = and i64 %h, -1099511627776
  %i1 = add i64 %i, 1
  br label %probe
probe:
  %slot0 = phi i64 [ %h, %loop ], [ %slot_next, %next ]
  %slot = and i64 %slot0, %table_mask
  %ep = getelementptr i64, ptr %table, i64 %slot
  %e = load i64, ptr %ep
  %empty = icmp eq i64 %e, 0
  br i1 %empty, label %put, label %next
next:
  %slot_next = add i64 %slot, 1
  br label %probe
put:
  %v = or i64 %i1, %tag
  store i64 %v, ptr %ep
  %more = icmp ult i64 %i1, %hi
  br i1 %more, label %loop, label %exit
exit:
  ret void
}
"""


class _Emitter:
    """LLVM text for circuit literals; a value is written where it is first asked for."""

    def __init__(
        self, circuit: Circuit, lines: list[str], known: dict[int, str], counter: itertools.count[int]
    ) -> None:
        self.circuit = circuit
        self.lines = lines
        self.known = known
        self.counter = counter

    def nested(self, lines: list[str]) -> _Emitter:
        """For a block that this one dominates: what it computes is not known outside."""
        return _Emitter(self.circuit, lines, dict(self.known), self.counter)

    def fresh(self) -> str:
        return f"%t{next(self.counter)}"

    def value(self, literal: int) -> str:
        """The SSA name of a literal's plane."""
        if literal == FALSE:
            return "0"
        if literal == TRUE:
            return "-1"
        if literal not in self.known:
            for gate in self.circuit.cone([literal]):
                if 2 * gate not in self.known:
                    self._gate(gate)
            if literal & 1 and literal not in self.known:
                self.known[literal] = self.fresh()
                self.lines.append(f"  {self.known[literal]} = xor i64 {self.known[literal ^ 1]}, -1")
        return self.known[literal]

    def _operand(self, literal: int) -> str:
        if literal & 1 and literal not in self.known:
            self.known[literal] = self.fresh()
            self.lines.append(f"  {self.known[literal]} = xor i64 {self.known[literal ^ 1]}, -1")
        return self.known[literal]

    def _gate(self, gate: int) -> None:
        op, a, b = self.circuit.gates[gate]
        name = self.fresh()
        if op == "in":
            self.lines.append(f"  {name}p = getelementptr i64, ptr %planes, i64 {a}")
            self.lines.append(f"  {name} = load i64, ptr {name}p")
        else:
            self.lines.append(f"  {name} = {op} i64 {self._operand(a)}, {self._operand(b)}")
        self.known[2 * gate] = name


def _group_loop(name: str, words: int, extra: str, body: Sequence[str], full_check: bool) -> list[str]:
    check = [
        "  @fields count limit", "  %full = icmp ugt i64 %count, %limit", "  br i1 %full, label %exit, label %work",
    ]
    return [
        f"define i64 @{name}(ptr %ctx, i64 %from, i64 %hi) {{", "entry:",
        f"  %planes = alloca i64, i64 {64 * words}", extra, "  br label %group", "group:",
        "  %lo = phi i64 [ %from, %entry ], [ %lo2, %next ]",
        *(check if full_check else ["  br label %work"]),
        "work:", "  %here = call i64 @planes(ptr %ctx, ptr %planes, i64 %lo, i64 %hi)",
        *body,
        "  br label %next", "next:", "  %lo2 = add i64 %lo, 64", "  %more = icmp ult i64 %lo2, %hi",
        "  br i1 %more, label %group, label %exit", "exit:",
        "  %end = phi i64 " + ("[ %lo, %group ], " if full_check else "") + "[ %lo2, %next ]", "  ret i64 %end", "}",
    ]


def _expand(
    circuit: Circuit, steps: Sequence[GroundedStep], bit_inputs: Sequence[int], words: int, renaming: frozenset[int]
) -> list[str]:
    """`expand(ctx, from, hi)`: the successors of those states; returns the first state not expanded.

    `renaming`: the bits on which a state's representative depends.
    """
    body: list[str] = []
    emitter = _Emitter(circuit, body, {}, itertools.count())
    widest = max((len(s.bits) for s in steps), default=0)
    masks = []
    for step in steps:
        guard = emitter.value(step.guard)
        name = emitter.fresh()
        body.append(f"  {name} = and i64 {guard}, %here")
        masks.append(name)
    body.append("  @fields fired")
    for number, (step, mask) in enumerate(zip(steps, masks, strict=True)):
        body += [
            f"  %any{number} = icmp ne i64 {mask}, 0",
            f"  br i1 %any{number}, label %fire{number}, label %skip{number}",
            f"fire{number}:",
        ]
        inner = emitter.nested(body)
        changes = [circuit.xor2(literal, bit_inputs[bit]) for bit, literal in step.bits]
        for i, change in enumerate(changes):
            plane = inner.value(change)
            body.append(f"  %d{number}_{i} = getelementptr i64, ptr %delta, i64 {i}")
            body.append(f"  store i64 {plane}, ptr %d{number}_{i}")
        if changes:
            # A step from a state to itself is counted and leads nowhere.
            moving = inner.fresh()
            body.append(f"  {moving} = and i64 {mask}, {inner.value(circuit.any(changes))}")
            rename = "true" if any(bit in renaming for bit, _ in step.bits) else "false"
            body.append(
                f"  call void @emit(ptr %ctx, i64 {moving}, ptr %delta, ptr @pos{number}, i64 {len(changes)}, i64 %lo,"
                f" i1 {rename})"
            )
        body += [
            f"  %fp{number} = getelementptr i64, ptr %fired, i64 {number}",
            f"  %fv{number} = load i64, ptr %fp{number}",
            f"  %fc{number} = call i64 @llvm.ctpop.i64(i64 {mask})",
            f"  %fn{number} = add i64 %fv{number}, %fc{number}", f"  store i64 %fn{number}, ptr %fp{number}",
            f"  br label %skip{number}", f"skip{number}:",
        ]
    body.append("  call void @flush(ptr %ctx)")
    tables = []
    for number, step in enumerate(steps):
        if step.bits:
            entries = ", ".join(f"i16 {bit}" for bit, _ in step.bits)
            tables.append(f"@pos{number} = internal constant [{len(step.bits)} x i16] [{entries}]")
    return tables + _group_loop("expand", words, f"  %delta = alloca i64, i64 {max(widest, 1)}", body, True)


def _inspect(circuit: Circuit, claims: Sequence[int], premises: Sequence[int], words: int) -> list[str]:
    """`inspect(ctx, from, hi)`: for each claim the first state that breaks it, and whether its premise was met."""
    body = ["  @fields first seen"]
    emitter = _Emitter(circuit, body, {}, itertools.count())
    for number, (claim, premise) in enumerate(zip(claims, premises, strict=True)):
        met, broken = emitter.value(premise), emitter.value(claim ^ 1)
        body += [
            f"  %sp{number} = getelementptr i64, ptr %seen, i64 {number}", f"  %sv{number} = load i64, ptr %sp{number}",
            f"  %sm{number} = and i64 {met}, %here", f"  %sn{number} = or i64 %sv{number}, %sm{number}",
            f"  store i64 %sn{number}, ptr %sp{number}",
            f"  %bm{number} = and i64 {broken}, %here", f"  %bp{number} = getelementptr i64, ptr %first, i64 {number}",
            f"  %bv{number} = load i64, ptr %bp{number}",
            f"  %bl{number} = call i64 @llvm.cttz.i64(i64 %bm{number}, i1 false)",
            f"  %bi{number} = add i64 %lo, %bl{number}", f"  %bn{number} = icmp ne i64 %bm{number}, 0",
            f"  %be{number} = icmp eq i64 %bv{number}, -1", f"  %bb{number} = and i1 %bn{number}, %be{number}",
            f"  %br{number} = select i1 %bb{number}, i64 %bi{number}, i64 %bv{number}",
            f"  store i64 %br{number}, ptr %bp{number}",
        ]
    return _group_loop("inspect", words, "", body, False)


class _Straight:
    """A function of straight-line code over the words of one state."""

    def __init__(self, words: int) -> None:
        self.counter = itertools.count()
        self.lines: list[str] = []
        self.key = []
        for w in range(words):
            self.lines.append(f"  %kp{w} = getelementptr i64, ptr %key, i64 {w}")
            self.key.append(self.do(f"load i64, ptr %kp{w}"))

    def do(self, instruction: str) -> str:
        name = f"%v{next(self.counter)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def bits(self, start: int, width: int) -> str:
        """The unsigned number in `width` bits from `start`."""
        value = "0"
        for i in range(width):
            word, shift = divmod(start + i, 64)
            bit = self.do(f"lshr i64 {self.key[word]}, {shift}")
            bit = self.do(f"and i64 {bit}, 1")
            value = self.do(f"or i64 {value}, {self.do(f'shl i64 {bit}, {i}')}")
        return value

    def put(self, words: list[str], start: int, width: int, value: str) -> None:
        """Or the number into zeroed bits of `words`."""
        for i in range(width):
            word, shift = divmod(start + i, 64)
            bit = self.do(f"and i64 {self.do(f'lshr i64 {value}, {i}')}, 1")
            words[word] = self.do(f"or i64 {words[word]}, {self.do(f'shl i64 {bit}, {shift}')}")


def _canonical(symmetry: Symmetry | None, place: Sequence[tuple[int, int]], words: int) -> list[str]:
    """`canonical(key)`: what Symmetry.canonical does, on a packed state. `place`: (first bit, width) of each cell."""
    if symmetry is None:
        return ["define internal void @canonical(ptr %key) {", "  ret void", "}"]
    code = _Straight(words)
    size = symmetry.size
    none = (1 << 4 * size) - 1
    identity = sum(i << 4 * i for i in range(size))
    # Four bits an element: its new number, or 15. A register holds them all.
    names, count = str(none), "0"

    def assign(element_shift: str, condition: str) -> None:
        nonlocal names, count
        mark = code.do(f"shl i64 {code.do(f'xor i64 {count}, 15')}, {element_shift}")
        names = code.do(f"xor i64 {names}, {code.do(f'select i1 {condition}, i64 {mark}, i64 0')}")
        count = code.do(f"add i64 {count}, {code.do(f'zext i1 {condition} to i64')}")

    def named(shift: str) -> str:
        return code.do(f"and i64 {code.do(f'lshr i64 {names}, {shift}')}, 15")

    fields = []
    for cell, valid in symmetry.fields:
        start, width = place[cell]
        shift = code.do(f"shl i64 {code.bits(start, width)}, 2")
        any_valid = "0"
        for v in valid:
            any_valid = code.do(f"or i64 {any_valid}, {code.bits(place[v][0], 1)}")
        is_valid = code.do(f"icmp ne i64 {any_valid}, 0")
        unnamed = code.do(f"icmp eq i64 {named(shift)}, 15")
        assign(shift, code.do(f"and i1 {is_valid}, {unnamed}"))
        fields.append((start, width, shift, is_valid))
    keys = []
    for element in range(size):
        key = "0"
        for row in reversed(symmetry.rows):
            start, width = place[row[element]]
            key = code.do(f"or i64 {code.do(f'shl i64 {key}, {width}')}, {code.bits(start, width)}")
        keys.append(key)
    for _ in range(size):
        best_shift, best_key = "0", "-1"
        for element in range(size):
            free = code.do(f"icmp eq i64 {named(str(4 * element))}, 15")
            larger = code.do(f"icmp sgt i64 {keys[element]}, {best_key}")
            better = code.do(f"and i1 {free}, {larger}")
            best_shift = code.do(f"select i1 {better}, i64 {4 * element}, i64 {best_shift}")
            best_key = code.do(f"select i1 {better}, i64 {keys[element]}, i64 {best_key}")
        assign(best_shift, code.do(f"icmp ne i64 {best_key}, -1"))
    code.lines += [
        f"  %same = icmp eq i64 {names}, {identity}", "  br i1 %same, label %keep, label %rename",
        "keep:", "  ret void", "rename:",
    ]
    cleared = [(1 << 64) - 1] * words
    moved = [place[cell] for cell, _ in symmetry.fields] + [place[c] for row in symmetry.rows for c in row]
    for start, width in moved:
        for bit in range(start, start + width):
            cleared[bit // 64] &= ~(1 << bit % 64)
    result = [code.do(f"and i64 {old}, {mask - (1 << 64) if mask >> 63 else mask}")
              for old, mask in zip(code.key, cleared, strict=True)]
    for start, width, shift, is_valid in fields:
        code.put(result, start, width, code.do(f"select i1 {is_valid}, i64 {named(shift)}, i64 0"))
    for row in symmetry.rows:
        for target in range(size):
            start, width = place[row[target]]
            value = "0"
            for element in range(size):
                hit = code.do(f"icmp eq i64 {named(str(4 * element))}, {target}")
                value = code.do(f"select i1 {hit}, i64 {code.bits(*place[row[element]])}, i64 {value}")
            code.put(result, start, width, value)
    stores = [f"  store i64 {value}, ptr %kp{w}" for w, value in enumerate(result)]
    return ["define internal void @canonical(ptr %key) {", *code.lines, *stores, "  ret void", "}"]


def _renaming_bits(symmetry: Symmetry | None, place: Sequence[tuple[int, int]]) -> frozenset[int]:
    if symmetry is None:
        return frozenset()
    cells = itertools.chain(*((cell, *valid) for cell, valid in symmetry.fields), *symmetry.rows)
    return frozenset(bit for start, width in (place[c] for c in cells) for bit in range(start, start + width))


def assembly(
    grounder: Grounder, steps: Sequence[GroundedStep], claims: Sequence[int], premises: Sequence[int],
    symmetry: Symmetry | None,
) -> str:
    """LLVM IR of `expand`, `inspect` and `rehash` for packed states; `claims` and `premises` are circuit literals."""
    words = state_words(grounder)
    circuit, bit_inputs = grounder.circuit, grounder.inputs
    lines = [_RUNTIME]
    lines += _canonical(symmetry, grounder.bit_of_cell, words)
    lines += _expand(circuit, steps, bit_inputs, words, _renaming_bits(symmetry, grounder.bit_of_cell))
    lines += _inspect(circuit, claims, premises, words)
    return _completed("\n".join(lines), words)


def _completed(text: str, words: int) -> str:
    """`@fields a b` becomes the loads of those fields, as %a and %b with their addresses %a_p and %b_p."""

    def loads(match: re.Match[str]) -> str:
        made = []
        for name in match[1].split():
            made.append(f"  %{name}_p = getelementptr i64, ptr %ctx, i64 {FIELDS.index(name)}")
            made.append(f"  %{name} = load {'ptr' if name in POINTERS else 'i64'}, ptr %{name}_p")
        return "\n".join(made)

    return re.sub(r"  @fields (.*)", loads, text.replace("@WORDS@", str(words)))


def state_words(grounder: Grounder) -> int:
    """64-bit words of a packed state."""
    return max(1, -(-grounder.bits // 64))


@functools.cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target(level: int) -> Any:
    """A target machine; each engine takes one over, so they cannot share it."""
    _initialize()
    return llvm.Target.from_default_triple().create_target_machine(
        opt=level, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten()
    )


class Code:
    """Compiled functions; keeps the engine that owns their memory alive.

    `optimised`: takes ten times as long to compile and runs two to three times as fast.
    """

    def __init__(self, text: str, optimised: bool) -> None:
        self.optimised = optimised
        machine = _target(int(optimised))
        module = llvm.parse_assembly(text)
        # The text is in SSA form with common subterms shared already: optimisation passes cost more than they save.
        self._engine = llvm.create_mcjit_compiler(module, machine)
        self._engine.finalize_object()
        self.expand = self._function("expand", ctypes.c_int64)
        self.inspect = self._function("inspect", ctypes.c_int64)
        self.rehash = self._function("rehash", None)

    def _function(self, name: str, result: Any) -> Any:
        prototype = ctypes.CFUNCTYPE(result, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        return prototype(self._engine.get_function_address(name))
