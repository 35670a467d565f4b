"""The part of the exploration's machine code that is the same for every model: bit planes, and the visited set.

A packed state has a marker, the highest bit of its last word, so that no state is zero. Eight states are worked on at
once, a vector for each of their words. The visited set is an open-addressing table of buckets as wide as a cache line;
batches of keys go into it with prefetching, and a key is claimed by one compare-and-swap, so that threads need no lock.
New states are appended to the queue, which is in breadth-first order; word w of state i is queue[w * stride + i].
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# The variables of a thread, 64 bits each, in the block that %ctx points to.
POINTERS = (
    "queue", "table", "count", "cursor", "fired", "first", "seen", "open", "pending0", "pending1", "buckets", "fresh",
    "cache", "hits", "old",
)
NUMBERS = ("stride", "nbuckets", "limit", "waiting0", "waiting1", "mode")
FIELDS = (*POINTERS, *NUMBERS)

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

V = "<8 x i64>"
M = "<8 x i1>"


def splat(value: int) -> str:
    """A vector constant with that number in every lane."""
    if value == 0:
        return "zeroinitializer"
    signed = (value + (1 << 63)) % (1 << 64) - (1 << 63)
    return "<" + ", ".join([f"i64 {signed}"] * 8) + ">"


def slots(words: int) -> int:
    """Keys in one bucket of the table."""
    return max(1, 8 // words)


def bucket_words(words: int) -> int:
    """64-bit words of one bucket."""
    return -(-max(words, 8) // 8) * 8


def completed(text: str) -> str:
    """`@fields a b` becomes the loads of those fields, as %a and %b with their addresses %a_p and %b_p."""

    def loads(match: re.Match[str]) -> str:
        made = []
        for name in match[1].split():
            made.append(f"  %{name}_p = getelementptr i64, ptr %ctx, i64 {FIELDS.index(name)}")
            made.append(f"  %{name} = load {'ptr' if name in POINTERS else 'i64'}, ptr %{name}_p")
        return "\n".join(made)

    return re.sub(r"  @fields (.*)", loads, text)


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


def runtime(words: int, canonical: Sequence[str], compress: bool) -> str:
    """The functions, as LLVM IR with @fields.

    `canonical`: lines that make %k0.. (the words of eight states) their representatives %c0.. . `compress`: the
    processor has AVX-512, whose instruction for it is then used.
    """
    parts = [DECLARATIONS, _transpose(), _planes(words), _present(), _append(words, compress), _least(words)]
    parts += [_settle(words, 0, [f"  %c{w} = or {V} %k{w}, zeroinitializer" for w in range(words)])]
    parts += [_settle(words, 1, canonical), _rehash(words)]
    return "\n".join(parts)


def _transpose() -> str:
    """Each lane of the 64 vectors at %m, a 64x64 bit matrix, becomes its transpose: ever smaller blocks swap."""
    lines = ["define internal void @transpose(ptr noalias %m) {", "entry:", "  br label %s32"]
    distance, mask = 32, (1 << 32) - 1
    while distance:
        following = f"s{distance // 2}" if distance > 1 else "exit"
        before = "entry" if distance == 32 else f"s{distance * 2}"
        d = str(distance)
        lines += [
            f"s{d}:", f"  %k{d} = phi i64 [ 0, %{before} ], [ %n{d}, %s{d} ]", f"  %kj{d} = add i64 %k{d}, {d}",
            f"  %pa{d} = getelementptr {V}, ptr %m, i64 %k{d}", f"  %pb{d} = getelementptr {V}, ptr %m, i64 %kj{d}",
            f"  %a{d} = load {V}, ptr %pa{d}", f"  %b{d} = load {V}, ptr %pb{d}",
            f"  %r{d} = lshr {V} %a{d}, {splat(distance)}", f"  %x{d} = xor {V} %r{d}, %b{d}",
            f"  %t{d} = and {V} %x{d}, {splat(mask)}", f"  %b2{d} = xor {V} %b{d}, %t{d}",
            f"  %l{d} = shl {V} %t{d}, {splat(distance)}", f"  %a2{d} = xor {V} %a{d}, %l{d}",
            f"  store {V} %a2{d}, ptr %pa{d}", f"  store {V} %b2{d}, ptr %pb{d}",
            f"  %u{d} = add i64 %kj{d}, 1", f"  %n{d} = and i64 %u{d}, {~distance}",
            f"  %m{d} = icmp ult i64 %n{d}, 64", f"  br i1 %m{d}, label %s{d}, label %{following}",
        ]
        distance //= 2
        mask ^= mask << distance if distance else 0
    return "\n".join([*lines, "exit:", "  ret void", "}"])


def _planes(words: int) -> str:
    """`planes(ctx, planes, lo)`: the bit planes of 512 states; bit j of lane e is state lo + 64e + j."""
    lines = [
        "define internal void @planes(ptr %ctx, ptr noalias %planes, i64 %lo) {", "entry:", "  @fields queue stride",
        "  br label %w0",
    ]
    for w in range(words):
        before = "entry" if w == 0 else f"e{w - 1}"
        lines += [f"w{w}:", f"  %j{w} = phi i64 [ 0, %{before} ], [ %j2{w}, %w{w} ]"]
        lines += [
            f"  %wo{w} = mul i64 %stride, {w}", f"  %at{w} = add i64 %wo{w}, %lo", f"  %a{w} = add i64 %at{w}, %j{w}",
        ]
        row = []
        for e in range(8):
            name = f"%v{w}_{e}"
            lines += [
                f"  {name}i = add i64 %a{w}, {64 * e}", f"  {name}p = getelementptr i64, ptr %queue, i64 {name}i",
                f"  {name} = load {V}, ptr {name}p, align 8",
            ]
            row.append(name)
        for d in (1, 2, 4):
            low = ", ".join(f"i32 {i if not i & d else 8 + i - d}" for i in range(8))
            high = ", ".join(f"i32 {i + d if not i & d else 8 + i}" for i in range(8))
            for i in range(8):
                if not i & d:
                    a, b = row[i], row[i + d]
                    row[i], row[i + d] = f"%s{w}_{d}_{i}", f"%s{w}_{d}_{i + d}"
                    lines.append(f"  {row[i]} = shufflevector {V} {a}, {V} {b}, <8 x i32> <{low}>")
                    lines.append(f"  {row[i + d]} = shufflevector {V} {a}, {V} {b}, <8 x i32> <{high}>")
        for e in range(8):
            lines += [
                f"  %o{w}_{e}i = add i64 %j{w}, {64 * w + e}",
                f"  %o{w}_{e} = getelementptr {V}, ptr %planes, i64 %o{w}_{e}i", f"  store {V} {row[e]}, ptr %o{w}_{e}",
            ]
        lines += [
            f"  %j2{w} = add i64 %j{w}, 8", f"  %more{w} = icmp ult i64 %j2{w}, 64",
            f"  br i1 %more{w}, label %w{w}, label %e{w}", f"e{w}:",
            f"  %m{w} = getelementptr {V}, ptr %planes, i64 {64 * w}", f"  call void @transpose(ptr %m{w})",
            "  ret void" if w == words - 1 else f"  br label %w{w + 1}",
        ]
    return "\n".join([*lines, "}"])


def _present() -> str:
    """`present(left)`: the plane of those states of a block that are there, if `left` are."""
    starts = ", ".join(f"i64 {64 * e}" for e in range(8))
    return f"""
define internal {V} @present(i64 %left) {{
  %l0 = insertelement {V} poison, i64 %left, i32 0
  %l = shufflevector {V} %l0, {V} poison, <8 x i32> zeroinitializer
  %n0 = sub {V} %l, <{starts}>
  %n1 = call {V} @llvm.smin.v8i64({V} %n0, {V} {splat(64)})
  %n = call {V} @llvm.smax.v8i64({V} %n1, {V} zeroinitializer)
  %shift = sub {V} {splat(64)}, %n
  %ones = lshr {V} {splat(-1)}, %shift
  %none = icmp eq {V} %n, zeroinitializer
  %mask = select {M} %none, {V} zeroinitializer, {V} %ones
  ret {V} %mask
}}"""


def _append(words: int, compress: bool) -> str:
    """`append(buffer, at, lanes, states by word)`: put those lanes at %at of the buffer; returns the new end."""
    given = ", ".join(f"{V} %k{w}" for w in range(words))
    lines = [f"define internal i64 @append(ptr %buffer, i64 %at, i8 %lanes, {given}) {{", "entry:"]
    lines.append("  %lanes64 = zext i8 %lanes to i64")
    if compress:
        lines.insert(0, f"declare {V} @llvm.x86.avx512.mask.compress.v8i64({V}, {V}, {M})")
        lines.append(f"  %moved = bitcast i8 %lanes to {M}")
        for w in range(words):
            lines += [
                f"  %z{w} = call {V} @llvm.x86.avx512.mask.compress.v8i64({V} %k{w}, {V} zeroinitializer, {M} %moved)",
                f"  %i{w} = add i64 %at, {w * ROOM}", f"  %p{w} = getelementptr i64, ptr %buffer, i64 %i{w}",
                f"  store {V} %z{w}, ptr %p{w}, align 8",
            ]
        lines += ["  %n = call i64 @llvm.ctpop.i64(i64 %lanes64)", "  %end = add i64 %at, %n", "  ret i64 %end", "}"]
        return "\n".join(lines)
    for w in range(words):
        lines += [f"  %m{w} = alloca {V}", f"  store {V} %k{w}, ptr %m{w}"]
    lines += [
        "  %some = icmp ne i64 %lanes64, 0", "  br i1 %some, label %lane, label %none", "none:", "  ret i64 %at",
        "lane:",
        "  %m = phi i64 [ %lanes64, %entry ], [ %m2, %lane ]", "  %n = phi i64 [ %at, %entry ], [ %n2, %lane ]",
        "  %e = call i64 @llvm.cttz.i64(i64 %m, i1 true)",
    ]
    for w in range(words):
        lines += [
            f"  %s{w} = getelementptr i64, ptr %m{w}, i64 %e", f"  %v{w} = load i64, ptr %s{w}",
            f"  %i{w} = add i64 %n, {w * ROOM}", f"  %p{w} = getelementptr i64, ptr %buffer, i64 %i{w}",
            f"  store i64 %v{w}, ptr %p{w}",
        ]
    lines += [
        "  %n2 = add i64 %n, 1", "  %low = sub i64 %m, 1", "  %m2 = and i64 %m, %low", "  %more = icmp ne i64 %m2, 0",
        "  br i1 %more, label %lane, label %exit", "exit:", "  ret i64 %n2", "}",
    ]
    return "\n".join(lines)


def _least(words: int) -> str:
    """`least(ctx, mask, lo, claim)`: keep in first[claim] the least state, last word first, of those in the mask."""
    lines = [
        "define internal void @least(ptr %ctx, ptr %mask, i64 %lo, i64 %claim) {", "entry:",
        "  @fields queue stride first", f"  %row = mul i64 %claim, {words}", "  br label %lane", "lane:",
        "  %e = phi i64 [ 0, %entry ], [ %e2, %next ]", "  %mp = getelementptr i64, ptr %mask, i64 %e",
        "  %m0 = load i64, ptr %mp", "  br label %bit", "bit:", "  %m = phi i64 [ %m0, %lane ], [ %m2, %skip ]",
        "  %some = icmp ne i64 %m, 0", "  br i1 %some, label %look, label %next", "look:",
        "  %j = call i64 @llvm.cttz.i64(i64 %m, i1 true)", "  %low = sub i64 %m, 1", "  %m2 = and i64 %m, %low",
        "  %e64 = mul i64 %e, 64", "  %ej = add i64 %e64, %j", "  %state = add i64 %lo, %ej",
    ]
    for w in range(words):
        lines += [
            f"  %wo{w} = mul i64 %stride, {w}", f"  %at{w} = add i64 %wo{w}, %state",
            f"  %p{w} = getelementptr i64, ptr %queue, i64 %at{w}", f"  %v{w} = load i64, ptr %p{w}",
            f"  %fi{w} = add i64 %row, {w}", f"  %fp{w} = getelementptr i64, ptr %first, i64 %fi{w}",
            f"  %f{w} = load i64, ptr %fp{w}", f"  %lt{w} = icmp ult i64 %v{w}, %f{w}",
            f"  %eq{w} = icmp eq i64 %v{w}, %f{w}",
        ]
    less = "%lt0"
    for w in range(1, words):
        lines += [f"  %le{w} = and i1 %eq{w}, {less}", f"  %less{w} = or i1 %lt{w}, %le{w}"]
        less = f"%less{w}"
    lines += [f"  br i1 {less}, label %keep, label %skip", "keep:"]
    lines += [f"  store i64 %v{w}, ptr %fp{w}" for w in range(words)]
    return "\n".join([
        *lines, "  br label %skip", "skip:", "  br label %bit", "next:", "  %e2 = add i64 %e, 1",
        "  %more = icmp ult i64 %e2, 8", "  br i1 %more, label %lane, label %exit", "exit:", "  ret void", "}",
    ])


def hashed(words: int, key: Sequence[str]) -> list[str]:
    """Lines that make %h, a hash of 32 bits, of the words of eight states."""
    lines = []
    value = "zeroinitializer"
    for w in range(words):
        lines += [
            f"  %ha{w} = xor {V} {key[w]}, {value}", f"  %hb{w} = mul {V} %ha{w}, {splat(0x9E3779B97F4A7C15)}",
            f"  %hc{w} = lshr {V} %hb{w}, {splat(32)}", f"  %hd{w} = xor {V} %hb{w}, %hc{w}",
        ]
        value = f"%hd{w}"
    return [*lines, f"  %he = mul {V} {value}, {splat(0xC2B2AE3D27D4EB4F)}", f"  %h = lshr {V} %he, {splat(32)}"]


def _settle(words: int, kind: int, canonical: Sequence[str]) -> str:
    """`settle(ctx)`: look up what waits, enter what is new and put it at the end of the queue."""
    last = words - 1
    lines = [
        f"define internal void @settle{kind}(ptr %ctx) noinline {{", "entry:",
        f"  @fields pending{kind} waiting{kind} buckets table nbuckets cache fresh queue stride count hits mode",
        f"  %nb0 = insertelement {V} poison, i64 %nbuckets, i32 0",
        f"  %nb = shufflevector {V} %nb0, {V} poison, <8 x i32> zeroinitializer",
        f"  %some = icmp ne i64 %waiting{kind}, 0", "  br i1 %some, label %pad, label %exit", "pad:",
        f"  %end = sub i64 %waiting{kind}, 1",
    ]
    # The last key fills up its group of eight: the cache drops the copies.
    for w in range(words):
        lines += [
            f"  %li{w} = add i64 %end, {w * ROOM}", f"  %lp{w} = getelementptr i64, ptr %pending{kind}, i64 %li{w}",
            f"  %lk{w} = load i64, ptr %lp{w}", f"  %l0{w} = insertelement {V} poison, i64 %lk{w}, i32 0",
            f"  %l1{w} = shufflevector {V} %l0{w}, {V} poison, <8 x i32> zeroinitializer",
            f"  store {V} %l1{w}, ptr %lp{w}, align 8",
        ]
    lines += [
        "  br label %group", "group:", "  %i = phi i64 [ 0, %pad ], [ %i8, %group ]",
        "  %kept = phi i64 [ 0, %pad ], [ %kept8, %group ]",
    ]
    for w in range(words):
        lines += [
            f"  %gi{w} = add i64 %i, {w * ROOM}", f"  %gp{w} = getelementptr i64, ptr %pending{kind}, i64 %gi{w}",
            f"  %k{w} = load {V}, ptr %gp{w}, align 8",
        ]
    lines += [*canonical, *hashed(words, [f"%c{w}" for w in range(words)])]
    lines += [
        f"  %bm = mul {V} %h, %nb", f"  %bv = lshr {V} %bm, {splat(32)}", f"  %cv = and {V} %h, {splat(CACHE - 1)}",
    ]
    kept = "%kept"
    for e in range(8):
        lines += [f"  %ci{e} = extractelement {V} %cv, i32 {e}", f"  %b{e} = extractelement {V} %bv, i32 {e}"]
        same = ""
        for w in range(words):
            n = f"{w}_{e}"
            lines += [
                f"  %x{n} = extractelement {V} %c{w}, i32 {e}", f"  %cj{n} = add i64 %ci{e}, {w * CACHE}",
                f"  %cp{n} = getelementptr i64, ptr %cache, i64 %cj{n}", f"  %cc{n} = load i64, ptr %cp{n}",
                f"  %ne{n} = icmp ne i64 %cc{n}, %x{n}", f"  store i64 %x{n}, ptr %cp{n}",
                f"  %ki{n} = add i64 {kept}, {w * ROOM}",
                f"  %kp{n} = getelementptr i64, ptr %pending{kind}, i64 %ki{n}",
                f"  store i64 %x{n}, ptr %kp{n}",
            ]
            if w:
                lines.append(f"  %or{n} = or i1 {same}, %ne{n}")
            same = f"%or{n}" if w else f"%ne{n}"
        lines += [
            f"  %bp{e} = getelementptr i64, ptr %buckets, i64 {kept}", f"  store i64 %b{e}, ptr %bp{e}",
            f"  %one{e} = zext i1 {same} to i64", f"  %kept{e + 1} = add i64 {kept}, %one{e}",
        ]
        kept = f"%kept{e + 1}"
    stride = bucket_words(words)
    lines += [
        "  %i8 = add i64 %i, 8", f"  %gm = icmp ult i64 %i8, %waiting{kind}",
        f"  store i64 0, ptr %waiting{kind}_p", "  br i1 %gm, label %group, label %ask0", "ask0:",
        "  %any = icmp ne i64 %kept8, 0", "  br i1 %any, label %ask, label %exit", "ask:",
        "  %q = phi i64 [ 0, %ask0 ], [ %q2, %ask ]", "  %qp = getelementptr i64, ptr %buckets, i64 %q",
        "  %qb = load i64, ptr %qp", f"  %qw = mul i64 %qb, {stride}", "  %ql = getelementptr i64, ptr %table, i64 %qw",
        "  call void @llvm.prefetch.p0(ptr %ql, i32 0, i32 3, i32 1)", "  %q2 = add i64 %q, 1",
        "  %qm = icmp ult i64 %q2, %kept8", "  br i1 %qm, label %ask, label %put0", "put0:",
        "  %searching = icmp eq i64 %mode, 1", "  br label %put", "put:",
        "  %j = phi i64 [ 0, %put0 ], [ %j2, %done ]", "  %new = phi i64 [ 0, %put0 ], [ %new2, %done ]",
        "  %jp = getelementptr i64, ptr %buckets, i64 %j", "  %jb = load i64, ptr %jp",
    ]
    count = slots(words)
    vector, bits = f"<{count} x i64>", f"i{count}"
    for w in range(words):
        lines += [
            f"  %yi{w} = add i64 %j, {w * ROOM}", f"  %yp{w} = getelementptr i64, ptr %pending{kind}, i64 %yi{w}",
            f"  %y{w} = load i64, ptr %yp{w}", f"  %y0{w} = insertelement {vector} poison, i64 %y{w}, i32 0",
            f"  %yv{w} = shufflevector {vector} %y0{w}, {vector} poison, <{count} x i32> zeroinitializer",
        ]
    lines += [
        "  br label %probe", "probe:", "  %bucket = phi i64 [ %jb, %put ], [ %next, %full ], [ %bucket, %claim ]"
        + (", [ %bucket, %probe ]" if words > 1 else ""),
        f"  %bw = mul i64 %bucket, {stride}", "  %line = getelementptr i64, ptr %table, i64 %bw",
        f"  %lastp = getelementptr i64, ptr %line, i64 {last * count}",
        f"  %held{last} = load volatile {vector}, ptr %lastp, align 8",
    ]
    if words > 1:
        # A last word of one: another thread is writing that key.
        ones = "<" + ", ".join(["i64 1"] * count) + ">"
        lines += [
            f"  %bz = icmp eq {vector} %held{last}, {ones}", f"  %bzb = bitcast <{count} x i1> %bz to {bits}",
            f"  %busy = icmp ne {bits} %bzb, 0", "  fence acquire", "  br i1 %busy, label %probe, label %compare",
            "compare:",
        ]
    lines.append(f"  %eq{last} = icmp eq <{count} x i64> %held{last}, %yv{last}")
    equal = f"%eq{last}"
    for w in range(last):
        lines += [
            f"  %hp{w} = getelementptr i64, ptr %line, i64 {w * count}",
            f"  %held{w} = load {vector}, ptr %hp{w}, align 8", f"  %eq{w} = icmp eq {vector} %held{w}, %yv{w}",
            f"  %all{w} = and <{count} x i1> {equal}, %eq{w}",
        ]
        equal = f"%all{w}"
    lines += [
        f"  %same = bitcast <{count} x i1> {equal} to {bits}", f"  %found = icmp ne {bits} %same, 0",
        "  br i1 %found, label %met, label %absent", "met:", "  br i1 %searching, label %mark, label %done", "mark:",
        f"  %same64 = {'zext' if count < 64 else 'bitcast'} {bits} %same to i64",
        "  %ms = call i64 @llvm.cttz.i64(i64 %same64, i1 true)", f"  %mb = mul i64 %bucket, {count}",
        "  %mi = add i64 %mb, %ms", "  %mp = getelementptr i8, ptr %hits, i64 %mi", "  store i8 1, ptr %mp",
        "  br label %done", "absent:", f"  %em = icmp eq {vector} %held{last}, zeroinitializer",
        f"  %emb = bitcast <{count} x i1> %em to {bits}", f"  %room = icmp ne {bits} %emb, 0",
        "  br i1 %room, label %vacant, label %full", "full:", "  %n1 = add i64 %bucket, 1",
        "  %wrap = icmp eq i64 %n1, %nbuckets", "  %next = select i1 %wrap, i64 0, i64 %n1", "  br label %probe",
        "vacant:", "  br i1 %searching, label %done, label %claim", "claim:", f"  %em64 = zext {bits} %emb to i64",
        "  %slot = call i64 @llvm.cttz.i64(i64 %em64, i1 true)", "  %sp = getelementptr i64, ptr %lastp, i64 %slot",
        f"  %swap = cmpxchg ptr %sp, i64 0, i64 {f'%y{last}' if words == 1 else '1'} acq_rel monotonic",
        "  %won = extractvalue { i64, i1 } %swap, 1", "  br i1 %won, label %enter, label %probe", "enter:",
    ]
    for w in range(last):
        lines += [f"  %ep{w} = getelementptr i64, ptr %hp{w}, i64 %slot", f"  store i64 %y{w}, ptr %ep{w}"]
    if words > 1:
        lines.append(f"  store atomic i64 %y{last}, ptr %sp release, align 8")
    for w in range(words):
        lines += [
            f"  %fi{w} = add i64 %new, {w * ROOM}", f"  %fp{w} = getelementptr i64, ptr %fresh, i64 %fi{w}",
            f"  store i64 %y{w}, ptr %fp{w}",
        ]
    lines += [
        "  %new1 = add i64 %new, 1", "  br label %done", "done:",
        "  %new2 = phi i64 [ %new, %met ], [ %new, %mark ], [ %new, %vacant ], [ %new1, %enter ]",
        "  %j2 = add i64 %j, 1", "  %jm = icmp ult i64 %j2, %kept8", "  br i1 %jm, label %put, label %end_put",
        "end_put:",
        "  %normal = icmp eq i64 %mode, 0", "  %got = icmp ne i64 %new2, 0", "  %queueing = and i1 %normal, %got",
        "  br i1 %queueing, label %reserve, label %exit", "reserve:",
        "  %base = atomicrmw add ptr %count, i64 %new2 acq_rel", "  br label %copy", "copy:",
        "  %c = phi i64 [ 0, %reserve ], [ %cn, %copy ]", "  %qi = add i64 %base, %c",
    ]
    for w in range(words):
        lines += [
            f"  %ri{w} = add i64 %c, {w * ROOM}", f"  %rp{w} = getelementptr i64, ptr %fresh, i64 %ri{w}",
            f"  %r{w} = load i64, ptr %rp{w}", f"  %wo{w} = mul i64 %stride, {w}", f"  %wi{w} = add i64 %wo{w}, %qi",
            f"  %wp{w} = getelementptr i64, ptr %queue, i64 %wi{w}", f"  store i64 %r{w}, ptr %wp{w}",
        ]
    lines += [
        "  %cn = add i64 %c, 1", "  %cm = icmp ult i64 %cn, %new2", "  br i1 %cm, label %copy, label %exit", "exit:",
        "  ret void", "}",
    ]
    return "\n".join(lines)


def _rehash(words: int) -> str:
    """`rehash(ctx, lo, hi)`: enter the keys in the buckets from %lo to %hi of the table `old` into the new one.

    Buckets are in the order of the hashes, so both tables are walked through from one end to the other.
    """
    count = slots(words)
    lines = [
        "define i64 @rehash(ptr %ctx, i64 %lo, i64 %hi) {", "entry:", "  @fields old pending0",
        f"  %np = getelementptr i64, ptr %ctx, i64 {FIELDS.index('waiting0')}", "  br label %bucket", "bucket:",
        "  %i = phi i64 [ %lo, %entry ], [ %i2, %next ]", f"  %bw = mul i64 %i, {bucket_words(words)}",
        "  %line = getelementptr i64, ptr %old, i64 %bw", "  br label %slot", "slot:",
        "  %s = phi i64 [ 0, %bucket ], [ %s2, %slot ]", "  %n = load i64, ptr %np",
    ]
    for w in range(words):
        lines += [
            f"  %si{w} = add i64 %s, {w * count}", f"  %sp{w} = getelementptr i64, ptr %line, i64 %si{w}",
            f"  %v{w} = load i64, ptr %sp{w}", f"  %di{w} = add i64 %n, {w * ROOM}",
            f"  %dp{w} = getelementptr i64, ptr %pending0, i64 %di{w}", f"  store i64 %v{w}, ptr %dp{w}",
        ]
    return "\n".join([
        *lines, f"  %held = icmp ne i64 %v{words - 1}, 0", "  %one = zext i1 %held to i64", "  %n2 = add i64 %n, %one",
        "  store i64 %n2, ptr %np", "  %s2 = add i64 %s, 1", f"  %sm = icmp ult i64 %s2, {count}",
        "  br i1 %sm, label %slot, label %filled", "filled:", "  %i2 = add i64 %i, 1",
        "  %last = icmp uge i64 %i2, %hi",
        f"  %many = icmp uge i64 %n2, {BATCH}", "  %due = or i1 %last, %many",
        "  br i1 %due, label %settle, label %next",
        "settle:", "  call void @settle0(ptr %ctx)", "  br label %next", "next:",
        "  br i1 %last, label %exit, label %bucket",
        "exit:", "  ret i64 %hi", "}", "define i64 @settle(ptr %ctx, i64 %a, i64 %b) {",
        "  call void @settle0(ptr %ctx)",
        "  ret i64 0", "}",
    ])
