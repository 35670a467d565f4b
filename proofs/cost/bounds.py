"""Bounds of costs, for any number of everything, by proof."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import z3
from z3 import And, BoolVal, Or

from model.costs import Charge, Count
from model.logic import Term
from model.state import alive
from proofs.certify import solvers
from proofs.cost.chains import Chain, Costs, said_before, with_number
from proofs.cost.meters import METERS, P_, SECONDS, V_, MeteredAccess
from proofs.errors import EngineError

SOUGHT_WITH = frozenset({
    "anon-fault", "fork", "exit", "munmap", "store", "swap-out", "swap-out-cached", "swap-cache-read", "swap-in-read",
    "swap-in-write", "wp-reuse", "wp-copy", "wp-copy-spurious", "unshare-copy", "unshare-reuse", "pin-write",
    "madvise-hugepage", "huge-fault", "huge-wp-reuse", "huge-wp-copy", "huge-wp-split", "split-pmd",
})
"""Rules of which paths to the greatest cost are made; without the others some path may be missed, none invented."""


def at_most(a: Count, b: Count) -> bool:
    """a <= b for every N >= 2 and P >= 1."""
    return a.subpages <= b.subpages and a.pages <= b.pages and a.at(2, 1) <= b.at(2, 1)


def greatest(counts: Iterable[Count]) -> tuple[Count, ...]:
    """Those that no other one is at least, for every size: one, as a rule."""
    different = list(dict.fromkeys(counts))
    return tuple(
        a for a in different if not any(a != b and at_most(a, b) for b in different)
    )


# Bounds.

@dataclass(frozen=True)
class Bound:
    """That an operation never costs more, of one meter. `most`: one count, or several of which none is always the
    greatest. `answers`: solver to what it said of the obligations; proved if all said unsat. There are none where all
    that the operation may ever pay is no more."""

    most: tuple[Count, ...]
    answers: dict[str, str]

    @property
    def proved(self) -> bool:
        return set(self.answers.values()) <= {"unsat"}

    def __str__(self) -> str:
        return "max(" + ", ".join(map(str, self.most)) + ")" if len(self.most) > 1 else str(self.most[0])


@functools.lru_cache(1 << 14)
def _said(text: str) -> tuple[tuple[str, str], ...]:
    """What each built-in solver says of an SMT-LIB text; it may be an obligation of several kernels."""
    return tuple(solvers.said_of(text, SECONDS).items())


def dearer(charges: Sequence[Charge], meter: str, most: Sequence[Count]) -> Term:
    """Charges of the meter are due together that are more than that, for some size."""
    due = [c for c in charges if c.meter == meter]
    found: list[tuple[int, ...]] = []
    for size in range(1, len(due) + 1):
        for chosen in itertools.combinations(range(len(due)), size):
            total = sum((due[i].count for i in chosen), Count())
            if not any(at_most(total, m) for m in most) and not any(set(f) <= set(chosen) for f in found):
                found.append(chosen)
    return Or(*(And(*(due[i].when for i in chosen)) for chosen in found)) if found else BoolVal(False)


def obligation(costs: Costs, *terms: Term) -> str:
    """The text that is satisfiable if some state has all of it."""
    solver = z3.Solver()
    solver.add(*costs.lemmas, *(costs.system.reduced(term) for term in terms))
    # z3 does not quote the names of bound variables that model/logic/terms.py makes.
    text: str = solver.to_smt2()
    return "(set-logic UF)\n" + text.replace("'", "~")


def bounds(costs: Costs, operation: MeteredAccess, chains: Sequence[Chain]) -> dict[str, Bound]:
    """For each meter the most that any of the chains costs, and whether z3 and cvc5 agree that there are no others."""
    listed = {tuple(rule.name for rule in chain.rules) for chain in chains}
    start = Chain((), costs.system.reduced(And(alive(P_), operation.start(P_, V_))), ())
    names = costs.faults(operation.access)
    complete = []
    for chain in (start, *chains):
        reached = tuple(rule.name for rule in chain.rules)
        if reached and names == [operation.access]:
            continue
        others = [costs.rules[n] for n in names if (*reached, n) not in listed]
        # A parameter that is a function may have the name of another rule's element: not in one text.
        single = [[r] for r in others if any(p.over is not None for p in r.params)]
        for group in (*single, [r for r in others if [r] not in single]):
            guards = [said_before(chain.rules, And(*with_number(r, len(reached)).guard)) for r in group]
            if guards:
                complete.append(obligation(costs, chain.guard, Or(*guards)))
    found = {}
    for meter in METERS:
        most = greatest(profile.count(meter) for chain in chains for profile in costs.sums(chain))
        texts = list(complete)
        for chain in chains:
            more = dearer(chain.charges, meter, most)
            if not z3.is_false(more):
                texts.append(obligation(costs, chain.guard, more))
        answers: dict[str, str] = {}
        for text in texts:
            for solver, said in _said(text):
                if answers.setdefault(solver, "unsat") == "unsat":
                    answers[solver] = said
        if "sat" in answers.values():
            raise EngineError(f"{costs.spec}, {operation.name}: a solver finds more {meter} than {most}")
        found[meter] = Bound(most or (Count(),), answers)
    return found
