"""All of a kernel's costs, and what becomes of an idle slot."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import z3
from z3 import And, BoolVal, Not

from model.costs import Count
from model.logic import Term, exists
from model.state import (
    Frame,
    Page,
    Proc,
    Slot,
    alive,
    cached,
    exclusive,
    in_swap_cache,
    live,
    mapped,
    mapped_only_by,
    maps,
    pte_frame,
    pte_slot,
    pte_write,
    slot_frame,
    swapped_only_by,
    unreferenced,
)
from proofs.check.scopes import scope_of
from proofs.cost.bounds import Bound, bounds
from proofs.cost.chains import Chain, Costs, said_before
from proofs.cost.meters import METERS, OPERATIONS, P_, SECONDS, V_, MeteredAccess, idle, small, swapped
from proofs.cost.worst import Worst, worst
from proofs.errors import EngineError, Interrupted
from proofs.naming.specs import file_name
from proofs.parallel import each_done
from proofs.traces.trace import write

SCOPES = {(): scope_of(2, 1, 3, 1, 1), ("huge",): scope_of(2, 2, 4, 1, 1, 2, 1)}
"""Features to the scope in which the greatest cost is sought."""


# All of a kernel.

@dataclass(frozen=True)
class OperationCost:
    """The cost of one operation, by name, on one meter: the greatest reached, and the most there can be.

    `steps`: the path to it, ending with the faults; `trace`: the file that has it, empty if there is none. `stopped`:
    as in `Worst`.
    """

    operation: str
    meter: str
    worst: Count
    steps: tuple[str, ...]
    stopped: str
    bound: Bound
    trace: str = ""

    @property
    def exact(self) -> bool:
        """The bound is proved, and reached."""
        return self.bound.proved and self.bound.most == (self.worst,)

    def __str__(self) -> str:
        if self.exact:
            return str(self.worst)
        return f"{self.worst} (<= {self.bound})" if self.bound.proved else f"{self.worst} (no bound)"


@dataclass(frozen=True)
class CostTable:
    """What one kernel's operations cost. `cells`: those of the operations that it has. `fates`: situation to what may
    become of an idle slot. `shared`: write to what it costs where others map the page too, meter by meter."""

    kernel: str
    cells: tuple[OperationCost, ...]
    slot_outcomes: dict[str, str]
    shared: dict[str, dict[str, Count]]


def table(spec: str, out: Path | None = None, seconds: float = SECONDS) -> CostTable:
    """The costs of a kernel. `out`: a folder for the traces of the worst cases; `seconds`: each query and exploration.

    Raises UnpricedError where a decision of the kernel's has no price.
    """
    cells: list[OperationCost] = []
    always: dict[str, dict[str, Count]] = {}
    slot_outcomes: dict[str, str] = {}
    for features, scope in SCOPES.items():
        costs = Costs(spec, features)
        chains = {op: costs.chains(op) for op in OPERATIONS if op.features == features}
        chains = {op: listed for op, listed in chains.items() if listed}
        reached = worst(costs, scope, chains, seconds)
        for op, listed in chains.items():
            bound = bounds(costs, op, listed)
            cells += [_cell(spec, op, meter, reached[op, meter], bound[meter], out) for meter in METERS]
            if op.shared:
                always[op.name] = shared(costs, op, listed)
        if not features:
            slot_outcomes = {situation.name: slot_outcome(costs, situation) for situation in SITUATIONS}
    return CostTable(spec, tuple(cells), slot_outcomes, always)


def _cell(spec: str, op: MeteredAccess, meter: str, reached: Worst, bound: Bound, out: Path | None) -> OperationCost:
    trace, path = reached.trace, ""
    if trace is not None and out is not None:
        path = str(out / f"{file_name(spec)}.{op.name.replace(' ', '-')}.{meter.replace(' ', '-')}.trace.json")
        write(trace, Path(path))
    steps = () if trace is None else tuple(trace.label(n) for n in range(len(trace.steps)))
    return OperationCost(op.name, meter, reached.count, steps, reached.stopped, bound, path)


def tables(specs: Sequence[str], out: Path | None, workers: int, progress: Callable[[int], Any]) -> list[CostTable]:
    """The costs of kernels, as `table`, in that order. Raises Interrupted with those that are known by then."""
    done: dict[str, CostTable] = {}
    try:
        for spec, found in each_done(functools.partial(table, out=out), specs, workers):
            done[spec] = found
            progress(len(done))
    except KeyboardInterrupt as error:
        raise Interrupted([done[spec] for spec in specs if spec in done]) from error
    return [done[spec] for spec in specs]


# What becomes of an idle slot.

@dataclass(frozen=True)
class SlotSituation:
    """(p, v) has a page whose slot s no page table needs, or will not after the access. `holds`: of (p, v, s)."""

    name: str
    about: str
    access: str
    holds: Callable[[Term, Term, Term], Term]


def _mapped_idle(p: Term, v: Term, s: Term) -> Term:
    f = pte_frame(p, v)
    return And(small(p, v), Not(pte_write(p, v)), idle(s), slot_frame(s) == f, unreferenced(f))


SITUATIONS: tuple[SlotSituation, ...] = (
    SlotSituation("write, alone", "a write to a page that nobody else maps", "store",
                  lambda p, v, s: And(_mapped_idle(p, v, s), mapped_only_by(p, v, pte_frame(p, v)))),
    SlotSituation("write, shared", "a write to a page that others map too", "store",
                  lambda p, v, s: And(_mapped_idle(p, v, s), Not(mapped_only_by(p, v, pte_frame(p, v))),
                                      Not(exclusive(pte_frame(p, v))))),
    SlotSituation("swap-in to write", "a write to a page that is swapped out, and mapped or named nowhere else",
                  "store", lambda p, v, s: And(swapped(p, v), pte_slot(p, v) == s, swapped_only_by(p, v, s),
                                               cached(s), Not(mapped(slot_frame(s))), unreferenced(slot_frame(s)))),
    SlotSituation("unmap, last", "munmap of a page that nobody else maps", "munmap",
                  lambda p, v, s: And(_mapped_idle(p, v, s), mapped_only_by(p, v, pte_frame(p, v)))),
)

_SLOT_OUTCOMES = {
    "store": {(True, True): "freed, page reused", (True, False): "freed, page copied",
              (False, True): "kept, page reused", (False, False): "kept, page copied"},
    "munmap": {(True, False): "freed", (False, False): "kept"},
}
"""Access to (the slot is freed, the process keeps the page) to words."""


def slot_outcome(costs: Costs, situation: SlotSituation) -> str:
    """What may become of slot and page in any state of any size, where no attempt at the page lock fails."""
    s, f = z3.Const("s", Slot), z3.Const("f", Frame)
    start = And(alive(P_), live(P_, V_), situation.holds(P_, V_, s), slot_frame(s) == f)
    operation = MeteredAccess(situation.name, situation.about, situation.access, lambda p, v: start)
    outcomes: set[str] = set()
    for chain in costs.chains(operation, priced=False):
        if any(rule.environment for rule in chain.rules):
            continue
        # An access is done when the store can be made; munmap, at once.
        done = pte_write(P_, V_) if situation.access == "store" else BoolVal(True)
        freed, keeps = Not(cached(s)), maps(P_, V_, f)
        for outcome, words in _SLOT_OUTCOMES[situation.access].items():
            parts = [part if yes else Not(part) for part, yes in zip((freed, keeps), outcome, strict=True)]
            if costs.possible(chain.guard, said_before(chain.rules, And(done, *parts))):
                outcomes.add(words)
    return " or ".join(sorted(outcomes))


def _not_alone(p: Term, v: Term) -> Term:
    """Others map the page, fork has taken its owner's mark away, it was never swapped out, nobody refers to it."""
    f = pte_frame(p, v)
    others = exists(Proc, Page, lambda q, w: And(q != p, maps(q, w, f)))
    return And(others, Not(exclusive(f)), Not(in_swap_cache(f)), unreferenced(f))


def shared(costs: Costs, operation: MeteredAccess, chains: Sequence[Chain]) -> dict[str, Count]:
    """What a write pays, meter by meter, to a page that other processes map too and nobody else refers to.

    Raises EngineError if that is not always the same.
    """
    counts: dict[str, Count] = {}
    for meter in METERS:
        sums = {
            profile.count(meter) for chain in chains
            for profile in costs.sums(chain, _not_alone(P_, V_), said_before(chain.rules, pte_write(P_, V_)))
        }
        if len(sums) != 1:
            raise EngineError(f"{costs.spec}, {operation.name}: {meter} of a shared page are {sorted(map(str, sums))}")
        (counts[meter],) = sums
    return counts
