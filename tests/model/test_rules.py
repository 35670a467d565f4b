"""Single rules do what rule_specs.py says of them, on each kernel named there."""

from __future__ import annotations

import pytest
from rule_specs import FEATURE_SPECS, SPECS, Spec, failures

from proofs.naming.specs import find_kernel, system_of

STARTED = "vm-soft-dirty,exec,stable-writes"
"""The features with which a litmus test may start."""


@pytest.mark.parametrize("spec", FEATURE_SPECS, ids=lambda spec: spec.says)
def test_rule_of_a_feature(spec: Spec) -> None:
    wrong = {k: list(failures(spec, find_kernel(k))) for k in spec.kernels}
    assert {k: lines for k, lines in wrong.items() if lines} == {}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.says)
def test_rule(spec: Spec) -> None:
    wrong = {k: list(failures(spec, find_kernel(k), system_of(f"{k}@{STARTED}"))) for k in spec.kernels}
    assert {k: lines for k, lines in wrong.items() if lines} == {}
