"""Single rules do what rule_specs.py says of them, on each kernel named there."""

from __future__ import annotations

import pytest
from feature_specs import UNNOTICED_SPECS
from rule_specs import FEATURE_SPECS, SPECS, Spec, failures
from rule_specs import test_of as as_test

from model.all_rules import ALL_RULES
from proofs.naming.specs import find_kernel, system_of

STARTED = "vm-soft-dirty,exec,stable-writes"
"""The features with which a litmus test may start."""


@pytest.mark.parametrize("spec", [*FEATURE_SPECS, *UNNOTICED_SPECS], ids=lambda spec: spec.says)
def test_rule_of_a_feature(spec: Spec) -> None:
    wrong = {k: list(failures(spec, find_kernel(k))) for k in spec.kernels}
    assert {k: lines for k, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.says)
def test_rule(spec: Spec) -> None:
    wrong = {k: list(failures(spec, find_kernel(k), system_of(f"{k}@{STARTED}"))) for k in spec.kernels}
    assert {k: lines for k, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize("spec", [s for s in (*FEATURE_SPECS, *UNNOTICED_SPECS, *SPECS) if s.never],
                         ids=lambda spec: spec.says)
def test_what_is_never_enabled_is_a_rule_that_the_history_brings(spec: Spec) -> None:
    """Else it would be so whatever the model says."""
    brought = as_test(spec).features | set(STARTED.split(","))
    needs = {t.name: t.features for t in ALL_RULES}
    assert [name for name, _ in spec.never if not needs[name] <= brought] == []
