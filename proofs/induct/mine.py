"""Mining: clauses over the vocabulary that hold in every sampled state, as candidates for an inductive invariant.

A *row* says for one assignment of a profile's variables which atoms hold, one bit each. A *cube* is a set of literals
over a profile's atoms; its clause is the negation, "never all of these". A candidate is a cube that no sampled row
contains and that no smaller candidate implies.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import z3

from model.logic import REGISTRY, Scope, System, Term, functions_in
from model.vocabulary import PLACES, PROFILES, VARIABLES, WORDS, Word
from proofs.clock import done_by, look
from proofs.derive.terms import Node, node
from proofs.explore.sample import sample
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
STATES, LEVELS, KEPT = 60_000, 15, 40_000
"""States of each scope that are explored breadth first, random levels beyond them, and states kept of all these."""
SHORT, LONG = 4, 7
"""Most literals of the candidates found beforehand, and of those sought for one state that none of them excludes."""
CHUNK = 1 << 21
"""Rows made at once."""
MOST = 1 << 22
"""Assignments of a profile's variables that are looked at in one state: more than any state of a kernel's own has."""
PIECE = 64
"""Cubes that are made longer between two looks at the clock."""
GLIMPSE = 1 << 11
"""Rows, out of all, in which most cubes that occur do so: those are not looked for further."""


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
        terms = [self.formula(i) if value >> i & 1 else z3.Not(self.formula(i)) for i in _bits(mask)]
        used = [z3.Const(x, VARIABLES[x]) for x in self.letters if any(x in letters for _, _, letters in literals)]
        body = z3.Not(z3.And(*terms) if len(terms) > 1 else terms[0])
        return Clause(z3.ForAll(used, body), sentence(literals), tuple(literals))


def _bits(mask: int) -> Iterator[int]:
    return (i for i in range(mask.bit_length()) if mask >> i & 1)


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
            if functions_in(word.holds(*(z3.Const(x, VARIABLES[x]) for x in places))) <= known
        ]
        usable_profiles.append(Profile(usable, tuple(atoms)))
    return usable_profiles


def _places(word: Word, letters: str) -> Iterator[str]:
    """The variables of which a word can be said; an equality once for each pair."""
    equality = len(word.sorts) == 2 and word.sorts[0] == word.sorts[1]
    for places in itertools.permutations(letters, len(word.sorts)):
        text = "".join(places)
        if any(VARIABLES[x] != s for x, s in zip(places, word.sorts, strict=True)):
            continue
        place = "".join(x for x in places if x in "".join(PLACES))
        if text == "".join(sorted(text)) if equality else len(place) < 2 or place in PLACES:
            yield text


class Miner:
    """The candidates for one system: all of them once `work` has come to its end, piece by piece."""

    def __init__(self, system: System, reduce: bool = True) -> None:
        self.profiles = profiles(frozenset(f.name for f in system.functions))
        self.rows: list[Array] = []
        self._cubes: list[tuple[Array, Array]] = []
        self._known: dict[tuple[tuple[bool, str, str], ...], Clause] = {}
        self.work = self._work(system, reduce)

    def _work(self, system: System, reduce: bool) -> Iterator[None]:
        """Sample states, scope by scope, and find what never occurs in them. Not for ever: whoever asks looks at the
        clock between two pieces, and may ask for the next one later."""
        found: list[list[Array]] = [[] for _ in self.profiles]
        random = np.random.default_rng(0)
        for scope in SCOPES:
            with done_by(None):
                tables = sample(system, scope, states=STATES, levels=LEVELS, reduce=reduce)
            yield
            total = len(next(iter(tables.values())))
            kept = random.choice(total, min(total, KEPT), replace=False)
            tables = {name: table[kept] for name, table in tables.items()}
            for profile, rows in zip(self.profiles, found, strict=True):
                rows.append(profile.rows(tables))
                yield
        self.rows = [random.permutation(np.unique(np.concatenate(rows))) for rows in found]
        for profile, those in zip(self.profiles, self.rows, strict=True):
            self._cubes.append((yield from _absent_cubes(len(profile.atoms), those)))

    def excluding(self, tables: Tables) -> list[Clause]:
        """The short candidates that the one state breaks, fewest literals first."""
        found = []
        for profile, (mask, value) in zip(self.profiles, self._cubes, strict=True):
            broken = np.zeros(len(mask), bool)
            for row in profile.rows(tables):
                look()
                broken |= row & mask == value
            found += [self._clause(profile, int(mask[i]), int(value[i])) for i in np.flatnonzero(broken)]
        return _by_size(found)

    def deeper(self, tables: Tables) -> list[Clause]:
        """Longer candidates that the one state breaks: of each of its rows that never occurs, the smallest part that
        never occurs."""
        found = []
        for profile, rows in zip(self.profiles, self.rows, strict=True):
            for row in np.setdiff1d(profile.rows(tables), rows):
                look()
                for mask in _smallest_parts(rows ^ row):
                    found.append(self._clause(profile, mask, int(row) & mask))
        return _by_size(found)

    def _clause(self, profile: Profile, mask: int, value: int) -> Clause:
        """The clause, one object for all cubes that differ by their variables' names or profile."""
        clause = profile.clause(mask, value)
        return self._known.setdefault(_canonical(clause.literals), clause)


def _by_size(clauses: list[Clause]) -> list[Clause]:
    return sorted(dict.fromkeys(clauses), key=lambda c: len(c.literals))


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
            exchanged.append((holds, word, "".join(sorted(new)) if word.startswith("same ") else new))
        names.append(tuple(sorted(exchanged)))
    return min(names)


def _absent_cubes(atoms: int, rows: Array) -> Generator[None, None, tuple[Array, Array]]:
    """(mask, value) of the smallest cubes of at most SHORT literals that no row contains."""
    # Literal 2i says atom i, literal 2i + 1 denies it; its plane has one bit for each row that agrees.
    planes = np.zeros((2 * atoms, -(-len(rows) // 64)), np.uint64)
    for literal in range(2 * atoms):
        i, denied = divmod(literal, 2)
        planes[literal] = _packed((rows >> np.uint64(i) & np.uint64(1)) == 1 - denied)
    glimpse = planes[:, : GLIMPSE // 64]
    absent: set[tuple[int, ...]] = set()
    present: dict[tuple[int, ...], Array] = {(): np.full(glimpse.shape[1], ~np.uint64(0))}
    for size in range(1, SHORT + 1):
        longer: dict[tuple[int, ...], Array] = {}
        for number, (cube, agree) in enumerate(present.items()):
            if not number % PIECE:
                yield
            first = (cube[-1] | 1) + 1 if cube else 0
            both = glimpse[first:] & agree
            seen: Any = both.any(axis=1)
            for j in range(len(both)):
                new = (*cube, first + j)
                if seen[j]:
                    longer[new] = both[j]
                elif any(part in absent for n in range(1, size) for part in itertools.combinations(new, n)):
                    continue
                elif np.bitwise_and.reduce(planes[list(new)]).any():
                    longer[new] = both[j]
                else:
                    absent.add(new)
        present = longer if size < SHORT else {}
    cubes = sorted(absent, key=lambda c: (len(c), c))
    mask = np.array([sum(1 << (x >> 1) for x in c) for c in cubes], np.uint64)
    value = np.array([sum(1 << (x >> 1) for x in c if not x & 1) for c in cubes], np.uint64)
    return mask, value


def _packed(flags: Array) -> Array:
    packed: Array = np.packbits(np.pad(flags, (0, -len(flags) % 64)), bitorder="little").view(np.uint64)
    return packed


def _smallest_parts(differences: Array) -> list[int]:
    """The smallest sets of atoms, as masks of at most LONG bits, that meet each of the differences."""
    for size in range(1, LONG + 1):
        found = set(_meeting(differences, 0, size))
        if found:
            return sorted(found)
    return []


def _meeting(differences: Array, mask: int, size: int) -> Iterator[int]:
    left = differences[differences & np.uint64(mask) == 0]
    if not len(left):
        yield mask
    elif size:
        # Some atom of the smallest difference must be in the set.
        for i in _bits(int(left[np.argmin(_population(left))])):
            yield from _meeting(left, mask | 1 << i, size - 1)


def _population(words: Array) -> Array:
    """Number of bits set in each."""
    count: Array = np.unpackbits(words.view(np.uint8)).reshape(len(words), 64).sum(axis=1)
    return count
