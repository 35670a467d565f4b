"""The greatest cost in a scope, by search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import z3
from z3 import And, BoolVal, Not, Or

from model import prices
from model.costs import Count
from model.logic import Rule, Scope, Term, names_in
from model.state import Slot
from proofs.cost.bounds import SOUGHT_WITH
from proofs.cost.chains import Chain, ChargeProfile, Costs, copies
from proofs.cost.meters import METERS, P_, SECONDS, SLOTS, V_, MeteredAccess, slot_left
from proofs.derive.interpreter import Instance, Interpreter, State
from proofs.engine import Claim
from proofs.errors import EngineError
from proofs.explore.search import explore
from proofs.naming.specs import system_of
from proofs.traces.trace import Trace, execute

# The greatest cost in a scope.

Key = tuple[MeteredAccess, str]
"""An operation and a meter."""


@dataclass(frozen=True)
class Worst:
    """The greatest cost of an operation that exploration reached. `trace` ends with the operation's faults; None if
    they cost nothing. `stopped`: why a greater one was not sought in every state of the scope; empty if it was."""

    count: Count
    trace: Trace | None
    stopped: str = ""


def worst(
    costs: Costs, scope: Scope, chains: Mapping[MeteredAccess, Sequence[Chain]], seconds: float = SECONDS
) -> dict[Key, Worst]:
    """For each operation and meter the greatest cost that some state of the scope has. `seconds`: each exploration."""
    profiles = {op: [p for chain in listed for p in costs.sums(chain)] for op, listed in chains.items()}
    sought = {
        (op, meter): sorted({p.count(meter) for p in listed} - {Count()}, key=lambda c: c.at(512), reverse=True)
        for op, listed in profiles.items() for meter in METERS
    }
    found: dict[Key, Worst] = {}
    unsure: dict[Key, str] = {}
    while sought:
        for key in [key for key, counts in sought.items() if not counts]:
            found[key] = Worst(Count(), None, unsure.get(key, ""))
            del sought[key]
        asked = {key: [p for p in profiles[key[0]] if p.count(key[1]) == counts[0]] for key, counts in sought.items()}
        paths, stopped = _reached(costs, scope, list(asked.values()), seconds)
        for (key, among), path in zip(asked.items(), paths, strict=True):
            if path is None:
                sought[key] = sought[key][1:]
                if stopped:
                    unsure[key] = stopped
            else:
                trace = _with_faults(costs, scope, key, among, path)
                found[key] = Worst(sought.pop(key)[0], trace, unsure.get(key, ""))
    return found


def _conjuncts(term: Term) -> list[Term]:
    return [part for child in term.children() for part in _conjuncts(child)] if z3.is_and(term) else [term]


def _reached(
    costs: Costs, scope: Scope, wanted: Sequence[Sequence[ChargeProfile]], seconds: float
) -> tuple[list[tuple[Instance, ...] | None], str]:
    """For each group of profiles the steps to a nearest state in which one of them holds, or None; and why exploration
    was cut short, empty if it was not."""
    if not wanted:
        return [], ""
    unused = tuple(name for name in costs.rules if name not in SOUGHT_WITH)
    system = system_of(costs.spec, unused)
    claims = []
    for number, among in enumerate(wanted):
        somewhere = []
        for profile in among:
            params = [p for rule in profile.chain.rules for p in rule.params]
            functions = {p.name for p in params if p.over is not None}
            # What is asked of a function, that there is room for what it gives, the interpreter will ask again.
            holds = And(*(c for c in _conjuncts(profile.holds) if not names_in(c) & functions))
            elements = {p.name: p.term for p in params if p.over is None}
            somewhere.append(z3.Exists([P_, V_, *(t for n, t in elements.items() if n not in ("p", "v"))], holds))
        claims.append(Claim(str(number), system.reduced(Not(Or(*somewhere))), BoolVal(True)))
    part = system.restricted(system.cone([claim.formula for claim in claims]))
    explored = explore(
        part, scope, claims, timeout=seconds, stop_at_violations=True, reduce=not costs.kernel.unusual_rules
    )
    paths = [finding.path for finding in explored.findings]
    return paths, "" if None not in paths else explored.stopped


def _with_faults(
    costs: Costs, scope: Scope, key: Key, among: Sequence[ChargeProfile], path: Sequence[Instance]
) -> Trace:
    """The path and then the faults of one of the profiles, executed, and what they pay counted again step by step.

    Raises EngineError if the interpreter does not find the cost there.
    """
    operation, meter = key
    steps = [Instance(costs.system.rule(step.rule.name), step.binding) for step in path]
    interpreter = Interpreter(costs.system, scope)
    state = interpreter.initial()
    for step in steps:
        state = interpreter.step(step, state)
    count = among[0].count(meter)
    for profile in among:
        for faults in _executions(costs, interpreter, profile.chain, state):
            place = {name: faults[0].as_dict.get(name, 0) for name in ("p", "v")}
            if not interpreter.evaluate(operation.start(P_, V_), state, place):
                continue
            if payment(costs, interpreter, state, faults, meter) == count:
                statement = f"{operation.about} costs {count} {meter}"
                return execute(costs.spec, f"cost: {operation.name}", statement, costs.system, scope, [*steps, *faults])
    raise EngineError(f"{costs.spec}, {operation.name}: the interpreter does not pay {count} {meter} where it is due")


def _executions(
    costs: Costs, interpreter: Interpreter, chain: Chain, state: State
) -> Iterator[tuple[Instance, ...]]:
    """Every way to take the chain's rules one after the other, of one process at one page."""
    def go_on(rules: Sequence[Rule], state: State, taken: tuple[Instance, ...]) -> Iterator[tuple[Instance, ...]]:
        if not rules:
            yield taken
            return
        for instance in interpreter.instances(costs.rules[rules[0].name]):
            if taken and any(instance.as_dict[x] != taken[0].as_dict[x] for x in ("p", "v")):
                continue
            if interpreter.enabled(instance, state):
                yield from go_on(rules[1:], interpreter.step(instance, state), (*taken, instance))

    return go_on(chain.rules, state, ())


def payment(
    costs: Costs, interpreter: Interpreter, state: State, faults: Sequence[Instance], meter: str
) -> Count:
    """What the steps, taken from that state, pay on the meter: each one's charges in the state that it finds."""
    total = Count()
    slots = range(interpreter.scope.size(Slot))
    s = z3.Const("s", Slot)

    def held() -> set[int]:
        return {n for n in slots if interpreter.evaluate(slot_left(s), state, {"s": n})}

    before = held()
    for fault in faults:
        rule = costs.rules[fault.rule.name]
        for charge in (*prices.charges(costs.kernel, rule.name, P_, V_), *copies(rule)):
            if charge.meter == meter and interpreter.evaluate(charge.when, state, fault.as_dict):
                total += charge.count
        state = interpreter.step(fault, state)
    return Count(len(held() - before)) if meter == SLOTS else total
