"""Bounded model checking: our encoding beside the one that it replaced, and beside other solvers on the same queries.

The former encoding: the transition is one disjunction over the rules, each with all bits of the next state; a goal is
asked in a scope of the solver's, and nothing is done about symmetry.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import z3

from benchmarks.explore import Disagreement, Missing
from invariants import invariant
from model.logic import Scope, System
from proofs.bmc.bounded import bmc
from proofs.bmc.unrolling import Unrolling, parameters
from proofs.check.cells import claim_of
from proofs.derive.circuit import FALSE
from proofs.engine import Claim

Search = Callable[[System, Scope, Claim, int], tuple[int | None, dict[str, int]]]
"""(system, scope, claim, depth) to the length of a shortest violation or None, and the size of a step's encoding."""
CASES = (
    ("v5.7", "isolation-reference", "default", 6), ("v5.9", "coherence-write-pin", "default", 6),
    ("v5.18", "coherence-read-pin", "default", 7), ("v5.9", "swap-slot", "default", 6),
    ("v6.15", "coherence-write-pin", "default", 9), ("v6.15", "coherence-write-pin", "medium", 7),
)
"""Kernel, invariant, scope, and the steps to which it is searched."""


@dataclass(frozen=True)
class Answer:
    """What a search said. `length` of the shortest violation, None if there is none within the depth; `wall` seconds
    from the terms on; `size` of a step's encoding, empty for other solvers, who get ours.
    """

    searcher: str
    length: int | None
    wall: float
    size: dict[str, int]


def _ours(system: System, scope: Scope, claim: Claim, depth: int) -> tuple[int | None, dict[str, int]]:
    unrolling = Unrolling(system, scope)
    found = bmc(system, scope, claim, depth, None, unrolling)
    return None if found.path is None else len(found.path), vars(unrolling.size)


def _former(system: System, scope: Scope, claim: Claim, depth: int) -> tuple[int | None, dict[str, int]]:
    unrolling = Unrolling(system, scope, reduce=False)
    grounder, terms = unrolling.grounder, unrolling.terms
    binding, sound = parameters(grounder, system.rules)
    moves = []
    for rule in system.rules:
        bound = binding(rule)
        guard = grounder.guard(rule, bound)
        if guard != FALSE:
            changed = dict(grounder.next_bits(grounder.after(rule, bound)))
            moves.append(z3.And(terms.term(guard), *(
                after == (terms.term(changed[i]) if i in changed else now)
                for i, (now, after) in enumerate(zip(unrolling.now, unrolling.after, strict=True))
            )))
    unrolling.choice = [z3.Bool(name) for name in grounder.circuit.inputs[2 * grounder.bits :]]
    transition = z3.And(*map(terms.term, sound), z3.Or(*moves))
    broken = z3.Not(unrolling.formula(claim.formula))
    solver = z3.SolverFor("QF_FD")
    solver.add(unrolling.renamed(unrolling.initial, 0))
    for step in range(depth + 1):
        solver.push()
        solver.add(unrolling.renamed(broken, step))
        if solver.check() == z3.sat:
            return step, {}
        solver.pop()
        solver.add(unrolling.renamed(transition, step))
    return None, {}


def _elsewhere(decide: Callable[[str], bool]) -> Search:
    """Our encoding, a query of its own for each depth, by another solver."""

    def search(system: System, scope: Scope, claim: Claim, depth: int) -> tuple[int | None, dict[str, int]]:
        unrolling = Unrolling(system, scope)
        broken = z3.Not(unrolling.formula(claim.formula))
        path = [unrolling.renamed(unrolling.initial, 0)]
        for step in range(depth + 1):
            solver = z3.Solver()
            solver.add(*path, unrolling.renamed(broken, step))
            if decide(f"(set-logic QF_UF)\n{solver.to_smt2()}"):
                return step, {}
            path.append(unrolling.renamed(unrolling.transition, step))
        return None, {}

    return search


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Missing(f"{name} is not installed: pip install {name}") from None


def _cvc5(text: str) -> bool:
    cvc5 = _module("cvc5")
    solver = cvc5.Solver()
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text.replace("(check-sat)", ""), "query")
    symbols = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        command.invoke(solver, symbols)
    return bool(solver.checkSat().isSat())


def _bitwuzla(text: str) -> bool:
    bitwuzla = _module("bitwuzla")
    parser = bitwuzla.Parser(bitwuzla.TermManager(), bitwuzla.Options())
    parser.parse(text.replace("(check-sat)", ""), True, False)
    return bool(parser.bitwuzla().check_sat() == bitwuzla.Result.SAT)


SEARCHERS: dict[str, Search] = {
    "ours": _ours, "former": _former, "bitwuzla": _elsewhere(_bitwuzla), "cvc5": _elsewhere(_cvc5),
}


def answers(
    system: System, scope: Scope, name: str, depth: int, searchers: tuple[str, ...], runs: int
) -> list[Answer]:
    """What each says of the invariant, its fastest run. Raises Disagreement, and Missing for a solver not there."""
    stated = invariant(name)
    cone = system.restricted(system.cone([stated.formula, stated.premise]))
    best: dict[str, Answer] = {}
    for _ in range(runs):
        for searcher in dict.fromkeys(("ours", *searchers)):
            started = time.monotonic()
            length, size = SEARCHERS[searcher](cone, scope, claim_of(stated), depth)
            answer = Answer(searcher, length, time.monotonic() - started, size)
            if searcher not in best or answer.wall < best[searcher].wall:
                best[searcher] = answer
            if length != best["ours"].length:
                raise Disagreement(f"{name}: {searcher} says {length}, we {best['ours'].length}")
    return list(best.values())
