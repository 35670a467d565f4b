"""Whoever drops a guard or an update of a rule is found out, or it is said why not."""

from __future__ import annotations

import pytest
import z3
from mutants import EVERY_RULE, STARTED, by_name, changes, conjuncts, judge_all, mutants
from mutate import unexplained

from model.kernels import ALL_RULES, KERNELS


def test_the_kernels_that_are_mutated_have_every_rule() -> None:
    """Of the default table; rules of features have specifications of their own (test_rules.py) and the litmus suite."""
    mutated = {r.name for kernel in EVERY_RULE for r in by_name(kernel).system().rules}
    assert mutated == {r.name for kernel in KERNELS for r in kernel.system().rules}
    assert mutated < {template.name for template in ALL_RULES}


def test_conjuncts_of_conjuncts_count_separately() -> None:
    a, b, c = z3.Bools("a b c")
    assert list(conjuncts(z3.And(a, z3.And(b, z3.Or(b, c))))) == [a, b, z3.Or(b, c)]


def test_each_mutant_lacks_one_thing() -> None:
    rule = by_name("v5.14").system().rule("unpin")
    found = [(c.what, len(c.rule.guard), len(c.rule.updates)) for c in changes(rule)]
    assert found == [("guard pin_live(k)", 0, 1), ("update pin_live(k) := False", 1, 0)]


def test_mutants_differ_from_the_system_and_from_each_other() -> None:
    kernel = by_name("v5.8")
    system = kernel.system()
    some = [m for m in mutants(system, kernel.system(STARTED)) if m.rule.name in ("store", "wp-copy", "fork")]
    assert len({m.system.digest() for m in some} | {system.digest()}) == len(some) + 1


@pytest.mark.slow
def test_mutations_are_noticed_or_explained() -> None:
    """A tenth of them; `python tests/mutate.py` judges all, in half an hour."""
    assert unexplained(judge_all(EVERY_RULE, 2, every=10)) == []
