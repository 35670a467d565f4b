"""Machine code for exploration: the grounded circuit as LLVM IR, around the visited set of `runtime.py`.

512 states at a time are transposed to bit planes, vectors of eight 64-bit words, so that a vector holds one bit of
each state; guards, claims and the next-state bits that depend on the state are evaluated there. The successors of eight
states are then made at once: a bit that becomes a constant is masked in, one that is another bit is shifted there, and
only for what is left the planes select.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from proofs.clock import look
from proofs.derive.circuit import FALSE, TRUE, Circuit
from proofs.derive.ground import GroundedStep, Grounder
from proofs.derive.symmetry import Naming, Renaming, Symmetry
from proofs.explore.code import cpu_features
from proofs.explore.runtime import BATCH, BLOCK, FIELDS, M, V, completed, runtime, splat


class _Emitter:
    """LLVM text for circuit literals; a value is written where it is first asked for."""

    def __init__(
        self, circuit: Circuit, lines: list[str], known: dict[int, str], counter: itertools.count[int]
    ) -> None:
        self.circuit = circuit
        self.lines = lines
        self.known = known
        self.counter = counter

    def nested(self) -> _Emitter:
        """For a block that this one dominates: what it computes is not known outside."""
        return _Emitter(self.circuit, self.lines, dict(self.known), self.counter)

    def do(self, instruction: str) -> str:
        """The name of what the instruction gives."""
        name = f"%t{next(self.counter)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def value(self, literal: int) -> str:
        """The SSA name of a literal's plane."""
        if literal in (FALSE, TRUE):
            return splat(-literal)
        if literal not in self.known:
            for gate in self.circuit.cone([literal], self.known):
                op, a, b = self.circuit.gates[gate]
                if op == "in":
                    place = self.do(f"getelementptr {V}, ptr %planes, i64 {a}")
                    self.known[2 * gate] = self.do(f"load {V}, ptr {place}")
                else:
                    self.known[2 * gate] = self.do(f"{op} {V} {self._operand(a)}, {self._operand(b)}")
        return self._operand(literal)

    def _operand(self, literal: int) -> str:
        if literal & 1 and literal not in self.known:
            self.known[literal] = self.do(f"xor {V} {self.known[literal ^ 1]}, {splat(-1)}")
        return self.known[literal]

    def some(self, plane: str) -> str:
        """Whether any bit of the plane is set."""
        return self.do(f"icmp ne i64 {self.do(f'call i64 @llvm.vector.reduce.or.v8i64({V} {plane})')}, 0")


@dataclass(frozen=True)
class _Change:
    """What a step does to one word of the state: (word & keep) | set, and what depends on the state.

    `moves`: (source word, distance to the left, mask of the targets). `chosen`: (bit's mask, literal of its value).
    """

    keep: int
    set: int
    moves: tuple[tuple[int, int, int], ...]
    chosen: tuple[tuple[int, int], ...]


def _changes(grounder: Grounder, step: GroundedStep, words: int) -> list[_Change]:
    """For each word of a state what the step does to it, given that its guard holds."""
    circuit = grounder.circuit
    known = circuit.assuming(circuit.conjuncts(step.guard), [literal for _, literal in step.bits])
    place_of_input = {literal: bit for bit, literal in enumerate(grounder.inputs)}
    keep = [(1 << 64) - 1] * words
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


def _block_loop(name: str, words: int, before: Sequence[str], body: Sequence[str], claim: Sequence[str]) -> list[str]:
    """A function over blocks of states; `claim` says what makes %lo of %at, or leaves."""
    return [
        f"define i64 @{name}(ptr %ctx, i64 %from, i64 %hi) {{", "entry:", f"  %planes = alloca {V}, i64 {64 * words}",
        f"  %mask = alloca {V}", *before, "  br label %block", "block:", *claim, "work:",
        "  call void @planes(ptr %ctx, ptr %planes, i64 %lo)", "  %left = sub i64 %hi, %lo",
        f"  %here = call {V} @present(i64 %left)", *body, "  br label %next", "next:", "  br label %block",
        "exit:", "  ret i64 %lo", "}",
    ]


def _expand(grounder: Grounder, steps: Sequence[GroundedStep], words: int, renaming: frozenset[int]) -> list[str]:
    """`expand(ctx, from, hi)`: the successors of the states that are not yet claimed, in blocks from the cursor to hi.

    Leaves early where the table has no room. `renaming`: the bits on which a state's representative depends.
    """
    body = ["  @fields queue stride fired"]
    emitter = _Emitter(grounder.circuit, body, {}, itertools.count())
    most = 1
    for number, step in enumerate(steps):
        look()
        changes = _changes(grounder, step, words)
        guard = emitter.value(step.guard)
        mask = emitter.do(f"and {V} {guard}, %here")
        some = emitter.some(mask)
        body += [f"  br i1 {some}, label %fire{number}, label %skip{number}", f"fire{number}:"]
        inner = emitter.nested()
        literals = [literal for change in changes for _, literal in change.chosen]
        most = max(most, len(literals))
        for i, literal in enumerate(literals):
            place = inner.do(f"getelementptr {V}, ptr %chosen, i64 {i}")
            body.append(f"  store {V} {inner.value(literal)}, ptr {place}")
        ones = inner.do(f"call {V} @llvm.ctpop.v8i64({V} {mask})")
        times = inner.do(f"call i64 @llvm.vector.reduce.add.v8i64({V} {ones})")
        counter = inner.do(f"getelementptr i64, ptr %fired, i64 {number}")
        total = inner.do(f"add i64 {inner.do(f'load i64, ptr {counter}')}, {times}")
        body.append(f"  store i64 {total}, ptr {counter}")
        if any(change != _Change((1 << 64) - 1, 0, (), ()) for change in changes):
            kind = int(any(bit in renaming for bit, _ in step.bits))
            _emit(inner, number, mask, changes, kind, words)
        body += [f"  br label %skip{number}", f"skip{number}:"]
    body += ["  call void @settle0(ptr %ctx)", "  call void @settle1(ptr %ctx)"]
    claim = [
        "  @fields count limit cursor", "  %so_far = load volatile i64, ptr %count",
        "  %full = icmp ugt i64 %so_far, %limit", "  br i1 %full, label %leave, label %ask", "leave:", "  ret i64 0",
        "ask:",
        f"  %lo = atomicrmw add ptr %cursor, i64 {BLOCK} acq_rel", "  %done = icmp uge i64 %lo, %hi",
        "  br i1 %done, label %exit, label %work",
    ]
    return _block_loop("expand", words, [f"  %chosen = alloca {V}, i64 {most}"], body, claim)


def _emit(
    emitter: _Emitter, number: int, mask: str, changes: Sequence[_Change], kind: int, words: int
) -> None:
    """The loop over groups of eight states, some of which take the step."""
    body, do = emitter.lines, emitter.do
    body.append(f"  store {V} {mask}, ptr %mask")
    bytes_set = do(f"icmp ne <64 x i8> {do(f'bitcast {V} {mask} to <64 x i8>')}, zeroinitializer")
    groups = do(f"bitcast <64 x i1> {bytes_set} to i64")
    buffer_p = do(f"getelementptr i64, ptr %ctx, i64 {_field(f'pending{kind}')}")
    buffer = do(f"load ptr, ptr {buffer_p}")
    waiting_p = do(f"getelementptr i64, ptr %ctx, i64 {_field(f'waiting{kind}')}")
    waiting = do(f"load i64, ptr {waiting_p}")
    body += [
        f"  br label %group{number}", f"group{number}:",
        f"  %g{number} = phi i64 [ {groups}, %fire{number} ], [ %g_{number}, %group{number} ]",
        f"  %n{number} = phi i64 [ {waiting}, %fire{number} ], [ %n_{number}, %group{number} ]",
    ]
    group = do(f"call i64 @llvm.cttz.i64(i64 %g{number}, i1 true)")
    lanes = do(f"load i8, ptr {do(f'getelementptr i8, ptr %mask, i64 {group}')}")
    first = do(f"add i64 %lo, {do(f'shl i64 {group}, 3')}")
    old = []
    for w in range(words):
        at = first if w == 0 else do(f"add i64 {first}, {do(f'mul i64 %stride, {w}')}")
        old.append(do(f"load {V}, ptr {do(f'getelementptr i64, ptr %queue, i64 {at}')}, align 8"))
    new = []
    plane = itertools.count()
    moved = ""
    for w, change in enumerate(changes):
        value = old[w]
        if change.keep != (1 << 64) - 1:
            value = do(f"and {V} {value}, {splat(change.keep)}")
        if change.set:
            value = do(f"or {V} {value}, {splat(change.set)}")
        for source, distance, targets in change.moves:
            shifted = old[source]
            if distance:
                shifted = do(f"{'shl' if distance > 0 else 'lshr'} {V} {shifted}, {splat(abs(distance))}")
            value = do(f"or {V} {value}, {do(f'and {V} {shifted}, {splat(targets)}')}")
        for bit, _ in change.chosen:
            at = do(f"getelementptr {V}, ptr %chosen, i64 {next(plane)}")
            byte = do(f"getelementptr i8, ptr {at}, i64 {group}")
            selected = do(f"bitcast i8 {do(f'load i8, ptr {byte}')} to {M}")
            value = do(f"or {V} {value}, {do(f'select {M} {selected}, {V} {splat(bit)}, {V} zeroinitializer')}")
        new.append(value)
        if value != old[w]:
            differs = do(f"icmp ne {V} {value}, {old[w]}")
            moved = do(f"or {M} {moved}, {differs}") if moved else differs
    # A step from a state to itself is counted and leads nowhere.
    going = do(f"and i8 {lanes}, {do(f'bitcast {M} {moved} to i8')}")
    given = ", ".join(f"{V} {value}" for value in new)
    body += [
        f"  %n_{number} = call i64 @append(ptr {buffer}, i64 %n{number}, i8 {going}, {given})",
        f"  %low{number} = sub i64 %g{number}, 1", f"  %g_{number} = and i64 %g{number}, %low{number}",
        f"  %more{number} = icmp ne i64 %g_{number}, 0",
        f"  br i1 %more{number}, label %group{number}, label %made{number}", f"made{number}:",
        f"  store i64 %n_{number}, ptr {waiting_p}", f"  %many{number} = icmp uge i64 %n_{number}, {BATCH}",
        f"  br i1 %many{number}, label %settle{number}, label %skip{number}", f"settle{number}:",
        f"  call void @settle{kind}(ptr %ctx)",
    ]


def _inspect(circuit: Circuit, claims: Sequence[int], premises: Sequence[int], words: int) -> list[str]:
    """`inspect(ctx, from, hi)`: for each open claim the least state that breaks it; where its premise is met."""
    body = ["  @fields seen open"]
    emitter = _Emitter(circuit, body, {}, itertools.count())
    do = emitter.do
    for number, (claim, premise) in enumerate(zip(claims, premises, strict=True)):
        met = do(f"and {V} {emitter.value(premise)}, %here")
        seen_p = do(f"getelementptr i64, ptr %seen, i64 {number}")
        any_met = do(f"call i64 @llvm.vector.reduce.or.v8i64({V} {met})")
        seen = do(f"load i64, ptr {seen_p}")
        body.append(f"  store i64 {do(f'or i64 {seen}, {any_met}')}, ptr {seen_p}")
        broken = do(f"and {V} {emitter.value(claim ^ 1)}, %here")
        is_open = do(f"load i64, ptr {do(f'getelementptr i64, ptr %open, i64 {number}')}")
        looked = do(f"and i1 {emitter.some(broken)}, {do(f'icmp ne i64 {is_open}, 0')}")
        body += [
            f"  br i1 {looked}, label %broken{number}, label %kept{number}", f"broken{number}:",
            f"  store {V} {broken}, ptr %mask", f"  call void @least(ptr %ctx, ptr %mask, i64 %lo, i64 {number})",
            f"  br label %kept{number}", f"kept{number}:",
        ]
    claim_lines = [
        "  %lo = phi i64 [ %from, %entry ], [ %lo2, %next ]", f"  %lo2 = add i64 %lo, {BLOCK}",
        "  %done = icmp uge i64 %lo, %hi", "  br i1 %done, label %exit, label %work",
    ]
    return _block_loop("inspect", words, [], body, claim_lines)


class _Straight:
    """Straight-line code over words of eight states."""

    def __init__(self) -> None:
        self.counter = itertools.count()
        self.lines: list[str] = []

    def do(self, instruction: str) -> str:
        """The name of what the instruction gives."""
        name = f"%z{next(self.counter)}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def op(self, name: str, a: str, b: str | int) -> str:
        """An operation on vectors of 64-bit numbers."""
        return self.do(f"{name} {V} {a}, {b if isinstance(b, str) else splat(b)}")

    def is_(self, comparison: str, a: str, b: str | int) -> str:
        """A comparison, lane by lane."""
        return self.do(f"icmp {comparison} {V} {a}, {b if isinstance(b, str) else splat(b)}")

    def select(self, condition: str, a: str, b: str | int) -> str:
        """In each lane a where the condition holds, else b."""
        return self.do(f"select {M} {condition}, {V} {a}, {V} {b if isinstance(b, str) else splat(b)}")

    def field(self, key: Sequence[str], start: int, width: int) -> str:
        """The unsigned number in `width` bits from `start`."""
        value = ""
        for word, shift, at, mask in _pieces(start, width):
            piece = self.op("lshr", key[word], shift) if shift else key[word]
            piece = self.op("and", piece, mask)
            value = self.op("or", value, self.op("shl", piece, at)) if value else piece
        return value or "zeroinitializer"

    def put(self, words: list[str], start: int, width: int, value: str) -> None:
        """Or the number into zeroed bits of `words`."""
        for word, shift, at, mask in _pieces(start, width):
            piece = self.op("and", self.op("lshr", value, at) if at else value, mask)
            words[word] = self.op("or", words[word], self.op("shl", piece, shift) if shift else piece)


def _pieces(start: int, width: int) -> list[tuple[int, int, int, int]]:
    """Of a number in `width` bits from `start`, by word: (word, first bit there, first bit of the number, mask)."""
    found = []
    at = 0
    while at < width:
        word, shift = divmod(start + at, 64)
        length = min(width - at, 64 - shift)
        found.append((word, shift, at, (1 << length) - 1))
        at += length
    return found


def _canonical(symmetry: Symmetry | None, words: int) -> list[str]:
    """What Symmetry.canonical does, on packed states: from %k0.. to %c0.. ."""
    key = [f"%k{w}" for w in range(words)]
    code = _Straight()
    least = key
    if symmetry is not None:
        def named(words: Sequence[str]) -> Sequence[str]:
            if symmetry.naming is None:
                return words
            return _frames_named(code, symmetry.naming, symmetry.place, words)

        least = list(named(key))
        for renaming in symmetry.renamings:
            other = named(_renamed(code, renaming, symmetry.place, key))
            less = code.is_("ult", other[0], least[0])
            for a, b in zip(other[1:], least[1:], strict=True):
                above, equal = code.is_("ult", a, b), code.is_("eq", a, b)
                less = code.do(f"or {M} {above}, {code.do(f'and {M} {equal}, {less}')}")
            least = [code.select(less, a, b) for a, b in zip(other, least, strict=True)]
    return [*code.lines, *(f"  %c{w} = or {V} {value}, zeroinitializer" for w, value in enumerate(least))]


def _renamed(
    code: _Straight, renaming: Renaming, place: Sequence[tuple[int, int]], key: Sequence[str]
) -> list[str]:
    """The words with elements of some sorts renamed."""
    # The marker stays.
    keep = [0] * (len(key) - 1) + [1 << 63]
    moves: dict[tuple[int, int, int], int] = {}
    for cell, source in enumerate(renaming.source):
        if cell in renaming.names:
            continue
        (start, width), (origin, _) = place[cell], place[source]
        for bit in range(width):
            (word, at), (old, was) = divmod(start + bit, 64), divmod(origin + bit, 64)
            if start == origin:
                keep[word] |= 1 << at
            else:
                moves[word, old, at - was] = moves.get((word, old, at - was), 0) | 1 << at
    result = [code.op("and", old, mask) for old, mask in zip(key, keep, strict=True)]
    for (word, old, distance), mask in moves.items():
        shifted = code.op("shl" if distance > 0 else "lshr", key[old], abs(distance)) if distance else key[old]
        result[word] = code.op("or", result[word], code.op("and", shifted, mask))
    for cell, (names, valid) in renaming.names.items():
        start, width = place[cell]
        old_name = code.field(key, *place[renaming.source[cell]])
        table = splat(sum(name << 4 * element for element, name in enumerate(names)))
        new_name = code.op("and", code.op("lshr", table, code.op("shl", old_name, 2)), 15)
        code.put(result, start, width, code.select(_any_of(code, valid, place, key), new_name, 0))
    return result


def _any_of(code: _Straight, cells: Sequence[int], place: Sequence[tuple[int, int]], key: Sequence[str]) -> str:
    """Lane by lane, whether one of the Bool cells is true."""
    masks = [0] * len(key)
    for cell in cells:
        masks[place[cell][0] // 64] |= 1 << place[cell][0] % 64
    found = ""
    for word, mask in zip(key, masks, strict=True):
        if mask:
            some = code.op("and", word, mask)
            found = code.op("or", found, some) if found else some
    return code.is_("ne", found, 0)


def _frames_named(
    code: _Straight, naming: Naming, place: Sequence[tuple[int, int]], key: Sequence[str]
) -> list[str]:
    """The words with frames numbered by first occurrence, the rest by their own bits."""
    size = naming.size
    # Four bits an element: its new number, or 15. A register holds them all.
    names, count = splat((1 << 4 * size) - 1), splat(0)

    def assign(element_shift: str, condition: str) -> None:
        nonlocal names, count
        mark = code.op("shl", code.op("xor", count, 15), element_shift)
        names = code.op("xor", names, code.select(condition, mark, 0))
        count = code.op("add", count, code.do(f"zext {M} {condition} to {V}"))

    def named(shift: str | int) -> str:
        return code.op("and", code.op("lshr", names, shift), 15)

    fields = []
    for cell, valid in naming.fields:
        start, width = place[cell]
        shift = code.op("shl", code.field(key, start, width), 2)
        is_valid = _any_of(code, valid, place, key)
        unnamed = code.is_("eq", named(shift), 15)
        assign(shift, code.do(f"and {M} {is_valid}, {unnamed}"))
        fields.append((start, width, shift, is_valid))
    keys = []
    for element in range(size):
        own = splat(0)
        for row in reversed(naming.rows):
            start, width = place[row[element]]
            own = code.op("or", code.op("shl", own, width), code.field(key, start, width))
        keys.append(own)
    for _ in range(size):
        best_shift, best_key = splat(0), splat(-1)
        for element in range(size):
            free = code.is_("eq", named(4 * element), 15)
            larger = code.is_("sgt", keys[element], best_key)
            better = code.do(f"and {M} {free}, {larger}")
            best_shift = code.select(better, splat(4 * element), best_shift)
            best_key = code.select(better, keys[element], best_key)
        assign(best_shift, code.is_("ne", best_key, -1))
    cleared = [(1 << 64) - 1] * len(key)
    moved = [place[cell] for cell, _ in naming.fields] + [place[c] for row in naming.rows for c in row]
    for start, width in moved:
        for bit in range(start, start + width):
            cleared[bit // 64] &= ~(1 << bit % 64)
    result = [code.op("and", old, mask) for old, mask in zip(key, cleared, strict=True)]
    for start, width, shift, is_valid in fields:
        code.put(result, start, width, code.select(is_valid, named(shift), 0))
    # All rows of an element move together.
    hits = [[code.is_("eq", named(4 * element), target) for element in range(size)] for target in range(size)]
    for target in range(size):
        value = keys[0]
        for element in range(1, size):
            value = code.select(hits[target][element], keys[element], value)
        for row in naming.rows:
            start, width = place[row[target]]
            code.put(result, start, width, value)
            value = code.op("lshr", value, width)
    return result


def _renaming_bits(symmetry: Symmetry | None) -> frozenset[int]:
    """The bits on which a state's representative depends."""
    if symmetry is None:
        return frozenset()
    cells: set[int] = set()
    if symmetry.naming is not None:
        cells |= {*itertools.chain(*((cell, *valid) for cell, valid in symmetry.naming.fields), *symmetry.naming.rows)}
    for renaming in symmetry.renamings:
        cells |= {cell for cell, source in enumerate(renaming.source) if cell != source}
        cells |= {c for cell, (_, valid) in renaming.names.items() for c in (cell, *valid)}
    return frozenset(bit for start, width in (symmetry.place[c] for c in cells) for bit in range(start, start + width))


def _field(name: str) -> int:
    """The number of a variable in the block that %ctx points to."""
    return FIELDS.index(name)


def assembly(
    grounder: Grounder, steps: Sequence[GroundedStep], claims: Sequence[int], premises: Sequence[int],
    symmetry: Symmetry | None,
) -> str:
    """LLVM IR of `expand`, `inspect` and `rehash` for packed states; `claims` and `premises` are circuit literals."""
    words = state_words(grounder)
    canonical = _canonical(symmetry, words)
    lines = [runtime(words, canonical, "avx512f" in cpu_features())]
    lines += _expand(grounder, steps, words, _renaming_bits(symmetry))
    lines += _inspect(grounder.circuit, claims, premises, words)
    return completed("\n".join(lines))


def state_words(grounder: Grounder) -> int:
    """64-bit words of a packed state and its marker."""
    return grounder.bits // 64 + 1
