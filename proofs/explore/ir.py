"""LLVM's instructions, written as Python expressions: an operator on values writes one and gives its result.

What llvmlite has for it takes ten times as long, which is felt where many small scopes are compiled.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence

INT1, INT8, INT64, PTR = "i1", "i8", "i64", "ptr"


def vector(lanes: int, element: str = INT64) -> str:
    return f"<{lanes} x {element}>"


@functools.cache
def truth(kind: str) -> str:
    """The type of what a comparison of two values gives."""
    return vector(int(kind[1:].split(maxsplit=1)[0]), INT1) if kind.startswith("<") else INT1


@functools.lru_cache(1 << 12)
def constant(kind: str, number: int) -> str:
    """A number as an operand, in every lane of a vector."""
    signed = (number + (1 << 63)) % (1 << 64) - (1 << 63)
    if not kind.startswith("<"):
        return str(signed)
    lanes, _, element = kind[1:-1].split()
    return "<" + ", ".join([f"{element} {signed}"] * int(lanes)) + ">" if signed else "zeroinitializer"


def operand(number: Value | int) -> str:
    return str(number) if isinstance(number, int) else number.name


def _operation(op: str) -> Callable[[Value, Value | int], Value]:
    def written(a: Value, b: Value | int) -> Value:
        kind = a.kind
        return a.body.do(f"{op} {kind} {a.name}, {constant(kind, b) if isinstance(b, int) else b.name}", kind)

    return written


def _comparison(how: str) -> Callable[[Value, Value | int], Value]:
    def written(a: Value, b: Value | int) -> Value:
        other = constant(a.kind, b) if isinstance(b, int) else b.name
        return a.body.do(f"icmp {how} {a.kind} {a.name}, {other}", truth(a.kind))

    return written


class Value:
    """What an instruction gives, or a constant; of type `kind`. Numbers are unsigned unless a name says otherwise."""

    __slots__ = ("body", "kind", "name")

    def __init__(self, body: Body, kind: str, name: str) -> None:
        self.body, self.kind, self.name = body, kind, name

    __add__, __sub__, __mul__ = _operation("add"), _operation("sub"), _operation("mul")
    __and__, __or__, __xor__ = _operation("and"), _operation("or"), _operation("xor")
    __lshift__, __rshift__ = _operation("shl"), _operation("lshr")
    __lt__, __gt__, __ge__ = _comparison("ult"), _comparison("ugt"), _comparison("uge")
    equals, differs, signed_above = _comparison("eq"), _comparison("ne"), _comparison("sgt")

    def cast(self, how: str, kind: str) -> Value:
        return self.body.do(f"{how} {self.kind} {self.name} to {kind}", kind)

    def lane(self, number: int) -> Value:
        return self.body.do(f"extractelement {self.kind} {self.name}, i32 {number}", INT64)

    def lowest(self) -> Value:
        """The number of the lowest bit that is set; one is."""
        return self.body.call(INT64, "llvm.cttz.i64", self, "i1 true")

    def splat(self, lanes: int) -> Value:
        """A vector with this number in every lane."""
        kind, do = vector(lanes, self.kind), self.body.do
        first = do(f"insertelement {kind} poison, {self.kind} {self.name}, i32 0", kind)
        return do(f"shufflevector {kind} {first.name}, {kind} poison, {vector(lanes, 'i32')} zeroinitializer", kind)

    def at(self, index: Value | int, kind: str = INT64) -> Value:
        """The address of an element of the array whose address this is."""
        return self.body.do(f"getelementptr {kind}, ptr {self.name}, i64 {operand(index)}", PTR)

    def load(self, kind: str = INT64, how: str = "") -> Value:
        """What is at this address. Vectors may lie anywhere that is good for a number."""
        return self.body.do(f"load {how} {kind}, ptr {self.name}, align {1 if kind == INT8 else 8}", kind)

    def store(self, value: Value, how: str = "") -> None:
        place = f"ptr {self.name} {'release' if 'atomic' in how else ''}, align {1 if value.kind == INT8 else 8}"
        self.body.write(f"store {how} {value.kind} {value.name}, {place}")

    def add_atomically(self, number: Value | int) -> Value:
        """Add to the number at this address; gives what was there."""
        return self.body.do(f"atomicrmw add ptr {self.name}, i64 {operand(number)} acq_rel", INT64)

    def claimed(self, number: Value | int) -> Value:
        """Whether this thread was the one to put the number where zero was, at this address."""
        pair = "{ i64, i1 }"
        swap = self.body.do(f"cmpxchg ptr {self.name}, i64 0, i64 {operand(number)} acq_rel monotonic", pair)
        return self.body.do(f"extractvalue {pair} {swap.name}, 1", INT1)


def select(condition: Value, a: Value, b: Value | int) -> Value:
    """a where the condition holds, else b; lane by lane."""
    other = constant(a.kind, b) if isinstance(b, int) else b.name
    return a.body.do(f"select {condition.kind} {condition.name}, {a.kind} {a.name}, {a.kind} {other}", a.kind)


def any_of(values: Sequence[Value]) -> Value:
    return functools.reduce(operator.or_, values)


class Body:
    """The lines of a function, as they are written."""

    def __init__(self) -> None:
        self.lines: list[object] = []
        self.numbers = itertools.count()

    def write(self, instruction: str) -> None:
        self.lines.append("  " + instruction)

    def do(self, instruction: str, kind: str) -> Value:
        """What the instruction gives, which is of that type."""
        name = f"%t{next(self.numbers)}"
        self.lines.append(f"  {name} = {instruction}")
        return Value(self, kind, name)

    def number(self, kind: str, number: int) -> Value:
        return Value(self, kind, constant(kind, number))

    def room(self, kind: str, count: int = 1) -> Value:
        """The address of memory for that many, while the function runs."""
        return self.do(f"alloca {kind}, i64 {count}", PTR)

    def call(self, result: str, name: str, *given: Value | str) -> Value:
        """What the function of that name gives."""
        listed = ", ".join(g if isinstance(g, str) else f"{g.kind} {g.name}" for g in given)
        return self.do(f"call {result} @{name}({listed})", result)

    def run(self, name: str, *given: Value | str) -> None:
        """Call a function that gives nothing."""
        listed = ", ".join(g if isinstance(g, str) else f"{g.kind} {g.name}" for g in given)
        self.write(f"call void @{name}({listed})")
