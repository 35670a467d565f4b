"""Users' files at random: kernels with decisions, rules and lemmas of their own, and claims, in a user's manner.

Most conditions ask first whether a cell has a meaning, as a careful user would; some do not, and should be refused.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from model.kernels import KERNELS
from model.logic import StateFunction
from proofs.naming.specs import system_of

HEAD = """\
import z3
from invariants import Invariant
from model import *
from model.logic import meaning
from model.kernels import *
from model.state import *

name, about = "mine", "random"


def known(function, *cell):
    bound, matters = meaning(function)
    return z3.BoolVal(True) if matters is None else z3.substitute(matters, *zip(bound, cell))


"""
SORTS = ("Proc", "Page", "Frame", "Pin", "Slot")
NAMES = ("p", "v", "k", "x", "q", "mine", "after0", "init1", "goal0", "cell0", "kept", "instance2", "any", "only")
DECISIONS = ("reuse", "fork_copies", "reuse_frees_swap_cache")
BASES = ("V5_7", "V5_9", "V5_14", "V5_19", "V6_15")
CARELESS = 0.03


@dataclass
class Writer:
    """Writes terms over the variables in scope: name to sort."""

    chance: random.Random
    functions: Sequence[StateFunction]
    scope: dict[str, str] = field(default_factory=dict)

    def element(self, sort: str) -> str | None:
        """A variable of the sort, or for a process the first one."""
        names = [name for name, s in self.scope.items() if s == sort]
        # Also where there is none in scope: what it is asked for twice, it has both times.
        if sort == "Proc" and (self.chance.random() < 0.05 or not names):
            return "FIRST"
        return self.chance.choice(names) if names else None

    def cell(self, is_bool: bool) -> tuple[str, str, str] | None:
        """(the condition that it has a meaning, the cell, its sort), if there is one over what is in scope."""
        fitting = [
            f for f in self.functions
            if f.is_bool is is_bool and all(self.element(s.name()) for s in f.domain) and f.range.name() != "Value"
        ]
        if not fitting:
            return None
        function = self.chance.choice(fitting)
        args = ", ".join(self.element(s.name()) or "" for s in function.domain)
        careless = function.meaningful is None or self.chance.random() < CARELESS
        known = "" if careless else f"known({function.name}, {args})"
        return known, f"{function.name}({args})", function.range.name()

    def atom(self) -> str:
        """A condition on one cell, or that two elements are one."""
        if self.chance.random() < 0.35 and (found := self.cell(False)):
            known, cell, sort = found
            if other := self.element(sort):
                return f"And({known}, {cell} == {other})" if known else f"({cell} == {other})"
        if self.chance.random() < 0.15:
            sort = self.chance.choice(SORTS)
            a, b = self.element(sort), self.element(sort)
            if a and b and a != b:
                return f"({a} == {b})"
        if found := self.cell(True):
            known, cell, _ = found
            return f"And({known}, {cell})" if known else cell
        return "z3.BoolVal(True)"

    def condition(self, depth: int) -> str:
        """A Bool term."""
        if not depth or self.chance.random() < 0.3:
            return self.atom()
        kind = self.chance.choice(["And", "Or", "Not", "Implies", "forall", "exists", "If"])
        below = depth - 1
        if kind in ("forall", "exists"):
            sort, name = self.chance.choice(SORTS), f"b{len(self.scope)}"
            inner = Writer(self.chance, self.functions, self.scope | {name: sort})
            return f"{kind}({sort}, lambda {name}: {inner.condition(below)})"
        count = {"Not": 1, "If": 3}.get(kind, 2)
        return f"{kind}({', '.join(self.condition(below) for _ in range(count))})"

    def update(self) -> str:
        """An update of some cell."""
        found = self.cell(self.chance.random() < 0.75)
        if not found:
            return "[]"
        _, cell, sort = found
        value = self.chance.choice(["True", "False", self.condition(1)]) if sort == "Bool" else self.element(sort)
        return f"put({cell}, {value})" if value else "[]"


def rule(chance: random.Random, functions: Sequence[StateFunction], number: int) -> str:
    """A rule of the user's."""
    names = chance.sample(NAMES, chance.randint(1, 3))
    sorts = ["Proc", *(chance.choice(SORTS) for _ in names[1:])]
    writer = Writer(chance, functions, dict(zip(names, sorts, strict=True)))
    params = ", ".join(f'Param("{n}", {s})' for n, s in writer.scope.items())
    guard = [f"alive({names[0]})", *(writer.condition(1) for _ in range(chance.randint(1, 2)))]
    updates = " + ".join(writer.update() for _ in range(chance.randint(1, 2)))
    return (f'@rule([{params}], "nowhere", "random")\ndef own_{number}(kernel, {", ".join(names)}):\n'
            f'    return Step([{", ".join(guard)}], {updates})\n\n\n')


def claim(chance: random.Random, functions: Sequence[StateFunction], number: int) -> str:
    """An invariant of the user's."""
    sorts = [chance.choice(SORTS) for _ in range(chance.randint(1, 2))]
    writer = Writer(chance, functions, {f"c{i}": s for i, s in enumerate(sorts)})
    given = ", ".join(writer.scope)
    when, then = writer.condition(1), writer.condition(2)
    # Of conditions at random hardly any is an invariant; some follow from what is asked, and are to be proved.
    then = f"Or({then}, {when})" if chance.random() < 0.3 else then
    return (f'PROMISE_{number} = Invariant("promise", "random", "nobody", ({", ".join(sorts)},),\n'
            f"    lambda {given}: {when},\n    lambda {given}: {then})\n")


def text(seed: int, claims: int = 3) -> str:
    """A file with a kernel MINE and invariants PROMISE_0 ..."""
    chance = random.Random(seed)
    base = chance.choice(BASES)
    functions = system_of(next(k.name for k in KERNELS if k.name == base.lower().replace("_", "."))).functions
    parts, given = [HEAD], []
    owned = chance.choice([0, 1, 1, 2])
    parts += [rule(chance, functions, n) for n in range(owned)]
    if owned:
        given.append(f"own_rules=({', '.join(f'own_{n}' for n in range(owned))},)")
    for decision in chance.sample(DECISIONS, chance.choice([0, 1, 1, 2])):
        writer = Writer(chance, functions, {"p": "Proc", "v": "Page", "f": "Frame"})
        usual = f"{base}.{decision}(p, v, f)"
        given.append(f"{decision}=lambda p, v, f: {chance.choice(['And', 'Or'])}({usual}, {writer.condition(1)})")
    if chance.random() < 0.5:
        given.append(f"lemmas=(forall(Proc, Page, lambda p, v: "
                     f"{Writer(chance, functions, {'p': 'Proc', 'v': 'Page'}).condition(2)}),)")
    parts.append(f"MINE = {base}.but({', '.join(['name', 'about', *given])})\n")
    parts += [claim(chance, functions, n) for n in range(claims)]
    return "".join(parts)
