"""Mining: clauses over the vocabulary that hold in every sampled state, as candidates for an inductive invariant.

A *row* says for one assignment of a profile's variables which atoms hold, one bit each. A *cube* is a set of literals
over a profile's atoms; its clause is the negation, "never all of these". A candidate is a cube that no sampled row
contains and that no smaller candidate implies.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import z3

from model.logic import REGISTRY, Scope, System, Term, functions_in
from model.state import Block, Folio, block
from model.vocabulary import PLACES, PROFILES, VARIABLES, WORDS, Word
from proofs.clock import done_by, look
from proofs.derive.terms import Node, node
from proofs.explore.sample import Reached, sample
from proofs.induct.rows import Parts, Rows, absent_cubes, bits
from proofs.words import sentence

Array = np.ndarray[Any, Any]
Tables = Mapping[str, Array]
"""State function name to its values in many states: shape (states, *sizes of its domain)."""
SCOPES = (
    Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1, Folio=1, Block=1),
    Scope.of(Proc=2, Page=3, Frame=4, Pin=1, Slot=2, Value=1, Folio=2, Block=2),
    Scope.of(Proc=3, Page=1, Frame=4, Pin=2, Slot=2, Value=1, Folio=2, Block=1),
)
"""Where states are sampled."""
FOLIO_SCOPES = (
    Scope.of(Proc=2, Page=1, Frame=3, Pin=1, Slot=1, Value=1, Folio=1, Block=1),
    Scope.of(Proc=2, Page=2, Frame=3, Pin=2, Slot=1, Value=1, Folio=1, Block=1),
    Scope.of(Proc=2, Page=3, Frame=4, Pin=1, Slot=1, Value=1, Folio=1, Block=2),
    Scope.of(Proc=3, Page=1, Frame=4, Pin=2, Slot=2, Value=1, Folio=2, Block=1),
)
"""The same for systems with large folios."""
FOLIO_REACHED = (
    Scope.of(Proc=2, Page=2, Frame=3, Pin=1, Slot=1, Value=1, Folio=1, Block=1),
    Scope.of(Proc=2, Page=2, Frame=4, Pin=1, Slot=1, Value=1, Folio=2, Block=2),
)
"""Where candidates of theirs are held against all states, or very many: what breaks a false one lies deep."""
MOST_REACHED = 6_000_000
"""So many."""
STATES, LEVELS, KEPT = 60_000, 15, 40_000
"""States of each scope that are explored breadth first, random levels beyond them, and states kept of all these."""
ENLARGED = 2_000
"""Of these so many once more with one element more of each sort, for systems with large folios."""
SHORT, LONG = 4, 7
"""Most literals of the candidates found beforehand, and of those sought for one state that none of them excludes."""
SYMMETRIC = frozenset(word.name for word in WORDS if word.symmetric)
CHUNK = 1 << 21
"""Rows made at once."""
MOST = 1 << 22
"""Assignments of a profile's variables that are looked at in one state: more than any state of a kernel's own has."""


LOOKED_AT = 24
"""Rows of a state and a profile for which longer candidates are sought with large folios: those that say the least."""
MOST_ATOMS = 64
"""Atoms of a profile: each is one bit of a row. Those of the last words are left out where there are more."""


@dataclass(frozen=True, eq=False)
class Clause:
    """A closed universal formula. `literals`: (holds or not, word, variables), none of a claim or lemma."""

    formula: Term
    text: str
    literals: tuple[tuple[bool, str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Profile:
    """Variables, and the atoms that clauses over them are made of, at most 64: a word, the variables it is said of."""

    letters: str
    atoms: tuple[tuple[Word, str], ...]

    def formula(self, atom: int) -> Term:
        """The atom as a term over constants named by the letters."""
        word, letters = self.atoms[atom]
        return word.holds(*(z3.Const(x, VARIABLES[x]) for x in letters))

    def rows(self, tables: Tables) -> Array:
        """The different rows that occur in the states, for all assignments of the variables: uint64, sorted.

        In states of very many elements, which a claim of many variables asks for, the variables are but the first of
        them: rows are left out then, none is wrong.
        """
        formulas = [node(self.formula(i)) for i in range(len(self.atoms))]
        known = sizes_of(tables)
        sizes = [known[VARIABLES[x].name()] for x in self.letters]
        while math.prod(sizes) > MOST:
            sizes[sizes.index(max(sizes))] -= 1
        ranges = [np.arange(size) for size in sizes]
        total = len(next(iter(tables.values())))
        some = max(1, CHUNK // int(np.prod([len(r) for r in ranges])))
        found = [np.zeros(0, np.uint64)]
        for first in range(0, total, some):
            states, *axes = np.meshgrid(np.arange(first, min(total, first + some)), *ranges, indexing="ij", sparse=True)
            env = dict(zip(self.letters, axes, strict=True))
            rows = np.zeros(np.broadcast_shapes(states.shape, *(a.shape for a in axes)), np.uint64)
            for i, formula in enumerate(formulas):
                rows |= np.asarray(_evaluate(formula, tables, states, env)).astype(np.uint64) << np.uint64(i)
            found.append(np.unique(rows))
        return np.unique(np.concatenate(found))

    def clause(self, mask: int, value: int) -> Clause:
        """The clause of a cube: atom i is in it if bit i of `mask` is set, and holds in it if bit i of `value` is."""
        literals = [
            (bool(value >> i & 1), word.name, letters)
            for i, (word, letters) in enumerate(self.atoms) if mask >> i & 1
        ]
        terms = [self.formula(i) if value >> i & 1 else z3.Not(self.formula(i)) for i in bits(mask)]
        used = [z3.Const(x, VARIABLES[x]) for x in self.letters if any(x in letters for _, _, letters in literals)]
        body = z3.Not(z3.And(*terms) if len(terms) > 1 else terms[0])
        return Clause(z3.ForAll(used, body), sentence(literals), tuple(literals))


def sizes_of(tables: Tables) -> dict[str, int]:
    """Sort name to its number of elements."""
    return {
        sort.name(): size for name, table in tables.items()
        for sort, size in zip(REGISTRY[name].domain, table.shape[1:], strict=True)
    }


def _evaluate(n: Node, tables: Tables, states: Array, env: Mapping[str, Array]) -> Any:
    """A quantifier-free formula in many states and for all assignments at once, by broadcasting."""
    args = [_evaluate(a, tables, states, env) for a in n.args]
    match n.op:
        case "not":
            return ~args[0]
        case "and":
            return functools.reduce(np.logical_and, args)
        case "or":
            return functools.reduce(np.logical_or, args)
        case "eq":
            return args[0] == args[1]
        case "param":
            return env[n.name]
        case "state":
            return tables[n.name][(states, *args)]
    raise NotImplementedError(f"a word cannot use {n.op}")


def profiles(known: frozenset[str]) -> list[Profile]:
    """The vocabulary's profiles, with the words that speak of those state functions, and of their sorts, only."""
    sorts = {s.name() for name in known for s in REGISTRY[name].domain}
    usable_profiles = []
    for letters in PROFILES:
        usable = "".join(x for x in letters if VARIABLES[x].name() in sorts)
        atoms = [
            (word, places) for word in WORDS for places in _places(word, usable)
            if word.needs <= known and functions_in(word.holds(*(z3.Const(x, VARIABLES[x]) for x in places))) <= known
        ]
        usable_profiles.append(Profile(usable, tuple(atoms[:MOST_ATOMS])))
    return usable_profiles


def _places(word: Word, letters: str) -> Iterator[str]:
    """The variables of which a word can be said; those of one sort in one order only."""
    for places in itertools.permutations(letters, len(word.sorts)):
        text = "".join(places)
        place = "".join(x for x in places if x in PLACES[-1])
        if any(VARIABLES[x] != s for x, s in zip(places, word.sorts, strict=True)):
            continue
        if text == "".join(sorted(text)) if len(set(word.sorts)) == 1 else len(place) < 2 or place in PLACES:
            yield text


def _ordered(word: str, letters: str) -> str:
    """The letters, or for a symmetric word those of its halves first that come first."""
    half = len(letters) // 2
    return min(letters, letters[half:] + letters[:half]) if word in SYMMETRIC else letters


_Cube = tuple[Profile, Rows, int, int]
"""(profile, what is seen of it, mask, value)."""


class Miner:
    """The candidates for one system: all of them once `work` has come to its end, piece by piece."""

    def __init__(self, system: System, reduce: bool = True) -> None:
        self.profiles = profiles(frozenset(f.name for f in system.functions))
        self.large = any(f.range == Folio for f in system.functions)
        self.rows: list[Rows] = []
        self.reached: list[Reached] = []
        self._cubes: list[tuple[Array, Array]] = []
        self._known: dict[tuple[tuple[bool, str, str], ...], Clause] = {}
        self.work = self._work(system, reduce)

    def _work(self, system: System, reduce: bool) -> Iterator[None]:
        """Sample states, scope by scope, and find what never occurs in them. Not for ever: whoever asks looks at the
        clock between two pieces, and may ask for the next one later."""
        found: list[list[Array]] = [[] for _ in self.profiles]
        random = np.random.default_rng(0)
        for tables in self._samples(system, reduce, random):
            yield
            for profile, rows in zip(self.profiles, found, strict=True):
                rows.append(profile.rows(tables))
                yield
        self.rows = [
            Rows(len(profile.atoms), random.permutation(np.unique(np.concatenate(rows))))
            for profile, rows in zip(self.profiles, found, strict=True)
        ]
        for seen in self.rows:
            self._cubes.append((yield from absent_cubes(seen.planes, SHORT)))

    def _samples(self, system: System, reduce: bool, random: np.random.Generator) -> Iterator[Tables]:
        for scope in FOLIO_SCOPES if self.large else SCOPES:
            with done_by(None):
                tables = sample(system, scope, states=STATES, levels=LEVELS, reduce=reduce)
            total = len(next(iter(tables.values())))
            kept = random.choice(total, min(total, KEPT), replace=False)
            tables = {name: table[kept] for name, table in tables.items()}
            yield tables
            if self.large:
                yield with_one_more({name: table[:ENLARGED] for name, table in tables.items()})
        for scope in FOLIO_REACHED if self.large else ():
            with done_by(None):
                self.reached.append(Reached(system, scope, MOST_REACHED, reduce))
            yield self.reached[-1].some(KEPT, random)
            yield with_one_more(self.reached[-1].some(ENLARGED, random))

    def excluding(self, tables: Tables) -> Iterator[Clause]:
        """The short candidates that the one state breaks, fewest literals first. What is learnt meanwhile counts."""
        found = []
        for profile, seen, (mask, value) in zip(self.profiles, self.rows, self._cubes, strict=True):
            broken = np.zeros(len(mask), bool)
            for row in profile.rows(tables):
                look()
                broken |= row & mask == value
            found += [(profile, seen, int(mask[i]), int(value[i])) for i in np.flatnonzero(broken)]
        return self._clauses(self._ordered(found))

    def deeper(self, tables: Tables) -> Iterator[Clause]:
        """Longer candidates that the one state breaks, fewest literals first: parts of its rows that never occur."""
        rows: list[tuple[Profile, Rows, int, Parts]] = []
        for profile, seen in zip(self.profiles, self.rows, strict=True):
            absent = [int(row) for row in seen.new(profile.rows(tables))]
            if self.large:
                absent = sorted(absent, key=int.bit_count)[:LOOKED_AT]
            rows += [(profile, seen, row, Parts(seen, row)) for row in absent]
        for size in range(SHORT + 1, LONG + 1):
            for profile, seen, row, parts in rows:
                cubes = [(profile, seen, mask, row & mask) for mask in parts.upto(size)]
                yield from self._clauses(self._ordered(cubes))

    def _ordered(self, cubes: list[_Cube]) -> list[_Cube]:
        """Few literals first; with large folios, where many are tempting, those that many rows put to the test."""

        def tested(seen: Rows, mask: int, value: int) -> int:
            return min(seen.count(value ^ 1 << i, mask) for i in bits(mask)) if self.large else 0

        return sorted(cubes, key=lambda cube: (cube[2].bit_count(), -tested(*cube[1:])))

    def _clauses(self, cubes: Iterable[_Cube]) -> Iterator[Clause]:
        """The clauses of those cubes that no row seen contains: one for all that differ by their variables' names or
        profile."""
        told = set()
        for profile, seen, mask, value in cubes:
            if not len(seen.agreeing(value, mask)):
                clause = profile.clause(mask, value)
                clause = self._known.setdefault(_canonical(clause.literals), clause)
                if clause not in told:
                    told.add(clause)
                    yield clause

    def learn(self, tables: Tables) -> None:
        """No candidate may exclude these states any more, nor what they are beside elements that nothing refers to."""
        tables = with_one_more(tables)
        for i, (profile, seen) in enumerate(zip(self.profiles, self.rows, strict=True)):
            new = seen.new(profile.rows(tables))
            seen.add(new)
            mask, value = self._cubes[i]
            absent = np.ones(len(mask), bool)
            for row in new:
                absent &= row & mask != value
            self._cubes[i] = mask[absent], value[absent]


def with_one_more(tables: Tables) -> Tables:
    """The states with one element more of each sort: a process that is none yet, a page, in a block by itself, that was
    unmapped at the beginning, and what nothing refers to."""
    more = {
        name: np.pad(table, [(0, 0), *((0, 1) for _ in REGISTRY[name].domain)]) for name, table in tables.items()
    }
    if block.name in more:
        more[block.name][:, -1] = sizes_of(tables)[Block.name()]
    return more


def _canonical(literals: tuple[tuple[bool, str, str], ...]) -> tuple[tuple[bool, str, str], ...]:
    """The same literals for clauses that differ by exchanging variables of one sort."""
    exchanges = (str.maketrans("pqvw", "qpwv"), str.maketrans("kl", "lk"), str.maketrans("st", "ts"))
    names = []
    for some in itertools.product((False, True), repeat=len(exchanges)):
        exchanged = []
        for holds, word, letters in literals:
            new = letters
            for use, table in zip(some, exchanges, strict=True):
                new = new.translate(table) if use else new
            exchanged.append((holds, word, _ordered(word, new)))
        names.append(tuple(sorted(exchanged)))
    return min(names)
