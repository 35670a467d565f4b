"""What C expressions come to, path by path: terms of z3, things that only have a name, sets of flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import z3

Term = Any
UNKNOWN = "?"
"""How the name of a constant begins that stands for something that the vocabulary does not know."""


@dataclass(frozen=True)
class Thing:
    """A value that has no term: a pointer, a structure, or what a call gave that the vocabulary does not know.

    text: how the vocabulary knows it. symbol: tells it from others of that text, "" if there is only one. place:
    where it was made. null: whether it may be NULL or 0; what the vocabulary names is not unless it says so.
    """

    text: str
    symbol: str = ""
    place: str = ""
    null: bool = False

    def number(self) -> Term:
        return z3.Int(UNKNOWN + (self.symbol or self.text))


@dataclass(frozen=True)
class Flags:
    """The bits `names` of a set of flags called `base`; without a base the constant of those bits."""

    base: str
    names: frozenset[str]
    bits: tuple[tuple[str, Term], ...] = ()


Value = Any
"""A Bool or Int term of z3's, a Python int or bool, a Thing, or Flags."""


def text(value: Value) -> str:
    """How a value stands in the name of what is made of it."""
    if isinstance(value, Thing):
        return value.text
    if isinstance(value, Flags):
        names = "|".join(sorted(value.names))
        return f"{value.base}&{names}" if value.base else names
    return str(int(value)) if isinstance(value, bool | int) else "#"


def truth(value: Value) -> Term:
    """The value as a condition."""
    if isinstance(value, Thing):
        return value.number() != 0 if value.null else z3.BoolVal(True)
    if isinstance(value, Flags):
        return z3.Or(*(bit for _, bit in value.bits)) if value.base else z3.BoolVal(bool(value.names))
    if isinstance(value, bool | int):
        return z3.BoolVal(bool(value))
    return value if z3.is_bool(value) else value != 0


def number(value: Value) -> Term:
    """The value as an integer."""
    if isinstance(value, Thing):
        return value.number()
    if isinstance(value, bool | int):
        return z3.IntVal(int(value))
    if isinstance(value, Flags):
        named = z3.Int(UNKNOWN + "|".join(sorted(value.names)))
        return z3.If(truth(value), z3.IntVal(1), z3.IntVal(0)) if value.base else named
    return z3.If(value, z3.IntVal(1), z3.IntVal(0)) if z3.is_bool(value) else value


def equal(a: Value, b: Value) -> Term:
    """The two values are the same."""
    for x, y in ((a, b), (b, a)):
        if isinstance(x, Thing) and isinstance(y, int) and int(y) == 0:
            return z3.Not(truth(x))
        if isinstance(x, Thing) and not x.null and isinstance(y, Flags) and all(n.startswith("-E") for n in y.names):
            return z3.BoolVal(False)
        if isinstance(x, Flags) and x.base and isinstance(y, Flags) and not y.base:
            return z3.And(*(bit if name in y.names else z3.Not(bit) for name, bit in x.bits),
                          z3.BoolVal(y.names <= x.names))
        if isinstance(x, Flags) and x.base and isinstance(y, int) and int(y) == 0:
            return z3.Not(truth(x))
    if isinstance(a, Thing) and isinstance(b, Thing) and (a == b or not (a.null or b.null)):
        # What the vocabulary calls by different names is different.
        return z3.BoolVal(a == b)
    if all(z3.is_expr(x) and z3.is_bool(x) for x in (a, b)):
        return a == b
    return number(a) == number(b)


@dataclass(frozen=True)
class Event:
    """A call that counts, or one that nothing is known of (`unknown`), on a path."""

    name: str
    place: str
    arguments: tuple[str, ...] = ()
    unknown: bool = False


@dataclass(frozen=True)
class State:
    """Where a path is: its conditions, variables of the function, memory by name, the world, and what was called.

    stopped: the call with which it ended, "" while it goes on.
    """

    conditions: tuple[Term, ...] = ()
    locals: dict[str, Value] = field(default_factory=dict)
    memory: dict[str, Value] = field(default_factory=dict)
    world: dict[str, Value] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    visits: dict[str, int] = field(default_factory=dict)
    stopped: str = ""

    def where(self, condition: Term) -> State:
        return replace(self, conditions=(*self.conditions, condition))

    def sets(self, name: str, value: Value, is_local: bool) -> State:
        """With a variable or a place of memory changed; bits of it that were set one by one are forgotten."""
        where = self.locals if is_local else self.memory
        kept = {n: v for n, v in where.items() if not n.startswith((f"{name}&", f"{name}."))}
        kept[name] = value
        return replace(self, locals=kept) if is_local else replace(self, memory=kept)

    def visited(self, spot: str) -> tuple[str, State]:
        """A name for this visit of a spot, no other of the path has it."""
        count = self.visits.get(spot, 0) + 1
        return f"{spot}.{count}", replace(self, visits={**self.visits, spot: count})

    def like(self, other: State) -> bool:
        """Nothing but conditions tells the two apart."""
        return (
            self.events == other.events and self.stopped == other.stopped and _same(self.locals, other.locals)
            and _same(self.memory, other.memory) and _same(self.world, other.world)
        )


def _same(a: dict[str, Value], b: dict[str, Value]) -> bool:
    return a.keys() == b.keys() and all(same(v, b[n]) for n, v in a.items())


def same(a: Value, b: Value) -> bool:
    """They are written alike."""
    if z3.is_expr(a) or z3.is_expr(b):
        return z3.is_expr(a) and z3.is_expr(b) and bool(a.eq(b))
    if isinstance(a, Flags) and isinstance(b, Flags):
        return a.base == b.base and a.names == b.names and all(
            same(x, y) for (_, x), (_, y) in zip(a.bits, b.bits, strict=True))
    return bool(type(a) is type(b) and a == b)
