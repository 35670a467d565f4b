"""Which parts of a kernel a scope exercises: rules that fire, guard conjuncts that decide, premises that are met.

What nothing exercises is what a verdict says nothing about: a rule that cannot be taken in the scope, a condition that
could be left out without any change, an invariant that has nothing to speak of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import z3

from invariants import Invariant
from model.logic import Rule, Scope, System, Term, functions_in, names_in, text_of
from proofs.engine import Claim
from proofs.explore.search import explore


@dataclass(frozen=True)
class Conjunct:
    """A conjunct of a rule's guard. `decides`: in some state it alone forbids the rule, with some parameters."""

    rule: str
    text: str
    decides: bool


@dataclass(frozen=True)
class Coverage:
    """What an exploration met. `fired`: rule to the number of its steps. `met`: invariant to whether its premise held
    somewhere. `stopped`: why not every state of the scope was looked at; then what was not met may yet be."""

    states: int
    transitions: int
    stopped: str
    fired: dict[str, int]
    conjuncts: tuple[Conjunct, ...]
    met: dict[str, bool]


def _alone(rule: Rule, number: int) -> Term:
    """For some parameters this conjunct is false and all others are true.

    Nothing is asked of conjuncts that speak of a parameter that is a function.
    """
    functions = {p.name for p in rule.params if p.over is not None}
    others = [g for i, g in enumerate(rule.guard) if i != number and not names_in(g) & functions]
    elements = [p.term for p in rule.params if p.over is None]
    body = z3.And(*others, z3.Not(rule.guard[number]))
    return z3.Exists(elements, body) if elements else body


def _asked(rule: Rule) -> list[int]:
    """Numbers of the conjuncts that speak of the state, and not of a parameter that is a function."""
    functions = {p.name for p in rule.params if p.over is not None}
    return [i for i, g in enumerate(rule.guard) if functions_in(g) and not names_in(g) & functions]


def cover(
    system: System, scope: Scope, invariants: Sequence[Invariant], timeout: float | None = None, reduce: bool = True
) -> Coverage:
    """Explore every state and note what is met. `timeout` in seconds; `reduce`: as for `explore`."""
    yes = z3.BoolVal(True)
    asked = [(rule, i) for rule in system.rules for i in _asked(rule)]
    # What is sought is a premise: exploration notes whether it was ever met.
    claims = [Claim(f"{rule.name} {i}", yes, _alone(rule, i)) for rule, i in asked]
    claims += [Claim(each.name, yes, each.premise) for each in invariants]
    found = explore(system, scope, claims, timeout=timeout, reduce=reduce)
    met = [not finding.vacuous for finding in found.findings]
    conjuncts = tuple(
        Conjunct(rule.name, " ".join(text_of(rule.guard[i]).split()), decides)
        for (rule, i), decides in zip(asked, met, strict=False)
    )
    return Coverage(
        found.states, found.transitions, found.stopped, found.fired, conjuncts,
        {each.name: held for each, held in zip(invariants, met[len(asked):], strict=True)},
    )


def to_text(kernel: str, coverage: Coverage) -> str:
    """The coverage as text: counts, and everything that was not met."""
    fired = {rule: times for rule, times in coverage.fired.items() if times}
    decide = [c for c in coverage.conjuncts if c.decides]
    met = [name for name, held in coverage.met.items() if held]
    lines = [
        f"{kernel}: {coverage.states:,} states, {coverage.transitions:,} steps"
        + (f"; {coverage.stopped}, so the rest may yet be met" if coverage.stopped else ""),
        "", f"Rules that fire: {len(fired)} of {len(coverage.fired)}",
        *(f"  {times:>12,}  {rule}" for rule, times in sorted(fired.items(), key=lambda x: -x[1])),
        *(f"  {'never':>12}  {rule}" for rule, times in coverage.fired.items() if not times),
        "", f"Guard conjuncts that alone forbid their rule somewhere: {len(decide)} of {len(coverage.conjuncts)}",
        *(f"  never  {c.rule}: {c.text}" for c in coverage.conjuncts if not c.decides and coverage.fired[c.rule]),
        "", f"Invariants with something to speak of: {len(met)} of {len(coverage.met)}",
        *(f"  never  {name}" for name, held in coverage.met.items() if not held),
    ]
    return "\n".join(lines) + "\n"


def to_json(kernel: str, scope: Scope, coverage: Coverage) -> dict[str, Any]:
    """The coverage as `coverage --json` prints it."""
    return {
        "schema": 1, "kernel": kernel, "scope": scope.as_dict(), "states": coverage.states,
        "transitions": coverage.transitions, "stopped": coverage.stopped, "fired": coverage.fired,
        "conjuncts": [{"rule": c.rule, "text": c.text, "decides": c.decides} for c in coverage.conjuncts],
        "premises": coverage.met,
    }
