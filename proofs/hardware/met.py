"""What there is to meet of a kernel's rules in executions of litmus tests: rules that are taken, and conjuncts of
guards that alone forbid a step.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from model.all_rules import ALL_RULES
from model.decisions import Decisions
from model.features import WORLD
from model.kernels import Kernel, asked_of
from model.logic import Rule, System, functions_in, names_in, text_of
from model.operations import Operation, blocks, faults
from proofs.derive.interpreter import interpreter_of
from proofs.litmus.execution import Run
from proofs.litmus.instances import left_out
from proofs.litmus.language import Litmus
from proofs.naming.specs import find_kernel, system_of, with_features

Numbers = frozenset[int]
"""Of statements, counted from 1."""


def rules_of(operation: Operation, kernel: Decisions) -> frozenset[str]:
    """Names of all rules that the operation may take on the kernel."""
    return frozenset(operation.rules).union(blocks(operation.access, kernel), *faults(operation.access, kernel))


@dataclass(frozen=True)
class Goals:
    """What there is to meet of a kernel with all features that a real one has.

    rules       names of those that some operation may take
    conjuncts   of their guards, those that speak of the state: `RULE NUMBER` to the text
    decisions   each that such a rule asks for, to those rules
    """

    kernel: Kernel
    system: System
    rules: frozenset[str]
    conjuncts: dict[str, str]
    decisions: dict[str, frozenset[str]]

    def met_in(self, rule: Rule, forbidding: Sequence[int]) -> frozenset[str]:
        """What is met where an execution tries a step of the rule, and these conjuncts of the guard forbid it: `RULE`
        if none does, `RULE NUMBER` of one that alone does."""
        if not forbidding:
            return frozenset([rule.name]) & self.rules
        return frozenset([f"{rule.name} {forbidding[0]}"] if len(forbidding) == 1 else []) & self.conjuncts.keys()

    def executions(self, test: Litmus) -> tuple[list[tuple[Numbers, Numbers, tuple[bool, ...]]], str, frozenset[str]]:
        """The ends of all executions of the test, nearest first: refused and blocked statements, and
        which of its facts are true; why one could not be followed; what they meet."""
        met: set[str] = set()
        run = Run(
            test, self.kernel, interpreter_of(self.system, test.scope()),
            lambda rule, forbidding: met.update(self.met_in(rule, forbidding)),
        )
        ends, reason = run.explore(run.start)
        facts = [self.system.reduced(fact.meaning()) for fact in test.facts]
        found = [(*run.given_up(end), tuple(run.holds(end, fact) for fact in facts)) for end in ends]
        return found, reason or left_out(self.kernel, self.system), frozenset(met)

    def missing(self, rules: Collection[str], met: Collection[str]) -> float:
        """Which part of what there is to meet of these rules has not been met, from 0 to 1."""
        all_of_them = [key for rule in self.rules.intersection(rules) for key in self._of_rule[rule]]
        return sum(key not in met for key in all_of_them) / max(1, len(all_of_them))

    @functools.cached_property
    def _of_rule(self) -> dict[str, list[str]]:
        """What there is to meet of each rule."""
        found = {rule: [rule] for rule in self.rules}
        for key in self.conjuncts:
            found[key.split()[0]].append(key)
        return found

    def decided(self, met: Iterable[str]) -> frozenset[str]:
        """The decisions that a rule asked for which was taken, or forbidden by one conjunct."""
        rules = {key.split()[0] for key in met}
        return frozenset(name for name, asking in self.decisions.items() if asking & rules)


def goals_of(spec: str, operations: Iterable[Operation]) -> Goals:
    """What there is to meet of the kernel of that name by these operations. Raises ModelError for an unknown one."""
    kernel = find_kernel(spec)
    system = system_of(with_features(spec, tuple(WORLD)))
    able = frozenset().union(*(rules_of(operation, kernel) for operation in operations))
    rules = [rule for rule in system.rules if rule.name in able]
    conjuncts = {
        f"{rule.name} {n}": " ".join(text_of(g).split()) for rule in rules for n, g in enumerate(rule.guard)
        if functions_in(g) and not names_in(g) & {p.name for p in rule.params if p.over is not None}
    }
    decisions: dict[str, set[str]] = {}
    names = frozenset(rule.name for rule in rules)
    for template in ALL_RULES:
        for decision in asked_of(kernel, template) if template.name in names else ():
            decisions.setdefault(decision, set()).add(template.name)
    return Goals(kernel, system, names, conjuncts, {name: frozenset(asking) for name, asking in decisions.items()})
