"""What executions of litmus tests have met of a kernel's rules: those taken, and conjuncts of guards that alone forbade
a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from model.decisions import Decisions
from model.features import WORLD
from model.kernels import ALL_RULES, Kernel, asked_of
from model.logic import Rule, System, functions_in, names_in, text_of
from model.operations import Operation, blocks, faults
from proofs.naming.specs import find_kernel, system_of, with_features


def rules_of(operation: Operation, kernel: Decisions) -> frozenset[str]:
    """Names of all rules that the operation may take on the kernel."""
    return frozenset().union(
        operation.goal, operation.refusal, operation.perhaps, operation.nothing, operation.prepares, operation.then,
        operation.whole, operation.whole_refusal, operation.at_once, filter(None, [operation.quick]),
        blocks(operation.access, kernel), *faults(operation.access, kernel),
    )


@dataclass
class Met:
    """What there is to meet of a kernel with all features that a real one has, and what has been met.

    `rules`: names of those that some operation may take. `conjuncts`: of their guards, as (rule, number) to the text:
    those that speak of the state. `decisions`: each that such a rule asks for, to those rules.
    """

    kernel: Kernel
    system: System
    rules: frozenset[str]
    conjuncts: dict[tuple[str, int], str]
    decisions: dict[str, frozenset[str]]
    taken: set[str] = field(default_factory=set)
    alone: set[tuple[str, int]] = field(default_factory=set)
    fresh: set[str] = field(default_factory=set)

    def tried(self, rule: Rule, forbidding: Sequence[int]) -> None:
        """An execution tried a step of the rule, and these conjuncts of the guard forbade it."""
        if not forbidding and rule.name in self.rules and rule.name not in self.taken:
            self.taken.add(rule.name)
            self.fresh.add(rule.name)
        elif len(forbidding) == 1 and (key := (rule.name, forbidding[0])) in self.conjuncts and key not in self.alone:
            self.alone.add(key)
            self.fresh.add(f"{key[0]} {key[1]}")

    def news(self) -> tuple[str, ...]:
        """What was met since this was asked last: `RULE`, or `RULE NUMBER` of a conjunct."""
        found = tuple(sorted(self.fresh))
        self.fresh.clear()
        return found

    def remember(self, news: Iterable[str]) -> None:
        """It has been met in an earlier run. What there no longer is counts for nothing."""
        for text in news:
            rule, _, number = text.partition(" ")
            if number and (rule, int(number)) in self.conjuncts:
                self.alone.add((rule, int(number)))
            elif not number and rule in self.rules:
                self.taken.add(rule)

    def forget(self, news: Iterable[str]) -> None:
        """It was not met after all: the test that met it first could not be observed."""
        for text in news:
            rule, _, number = text.partition(" ")
            if number:
                self.alone.discard((rule, int(number)))
            else:
                self.taken.discard(rule)

    def missing(self, rules: Iterable[str]) -> float:
        """Which part of what there is to meet of these rules has not been met, from 0 to 1."""
        among = set(rules) & self.rules
        conjuncts = [key for key in self.conjuncts if key[0] in among]
        left = len(among - self.taken) + sum(key not in self.alone for key in conjuncts)
        return left / (len(among) + len(conjuncts)) if among else 0.0

    def decided(self) -> frozenset[str]:
        """The decisions that a rule asked for which was taken, or forbidden by one conjunct."""
        met = self.taken | {rule for rule, _ in self.alone}
        return frozenset(name for name, rules in self.decisions.items() if rules & met)


def met_of(spec: str, operations: Iterable[Operation]) -> Met:
    """Nothing met yet of the kernel of that name, by these operations. Raises ModelError for an unknown one."""
    kernel = find_kernel(spec)
    system = system_of(with_features(spec, tuple(WORLD)))
    able = frozenset().union(*(rules_of(operation, kernel) for operation in operations))
    rules = [rule for rule in system.rules if rule.name in able]
    conjuncts = {
        (rule.name, n): " ".join(text_of(g).split()) for rule in rules for n, g in enumerate(rule.guard)
        if functions_in(g) and not names_in(g) & {p.name for p in rule.params if p.over is not None}
    }
    decisions: dict[str, set[str]] = {}
    names = frozenset(rule.name for rule in rules)
    for template in ALL_RULES:
        for decision in asked_of(kernel, template) if template.name in names else ():
            decisions.setdefault(decision, set()).add(template.name)
    return Met(kernel, system, names, conjuncts, {name: frozenset(asking) for name, asking in decisions.items()})
