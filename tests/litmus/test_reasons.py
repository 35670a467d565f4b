"""On which decisions a test's outcome rests: for all records of a region it is that of the ordinary litmus engine."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proofs.data import SUITE
from proofs.litmus import execution, parser, reasons
from proofs.litmus.language import Litmus
from proofs.litmus.reasons import VALUES, number_of, record_of
from proofs.naming.specs import find_kernel

KERNELS = ("v5.7", "v5.9", "v6.1", "v7.2", "mapcount-unshare")


def named(name: str) -> Litmus:
    return parser.read(SUITE / f"{name}.litmus")


def within(region: reasons.Region, record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """A record of the region, about half of whose open decisions are others."""
    return {
        d: rng.choice([v for n, v in enumerate(values) if n in region.get(d, range(len(values)))])
        if rng.random() < 0.5 else record[d] for d, values in VALUES.items()
    }


def check_region(test: Litmus, kernel: str, rng: random.Random) -> None:
    base = find_kernel(kernel)
    test = test.on(base)  # callers' words are what they are in that release, whatever the record
    why = reasons.reason(test, record_of(base))
    for record in (record_of(base), within(why.region, record_of(base), rng)):
        assert why.covers(record)
        other = base.but("other", "any of the region", **record)
        outcomes, stuck = execution.outcomes(test, other, other.system(test.features))
        assert (outcomes, bool(stuck)) == (why.outcomes, bool(why.stuck)), (test.name, kernel, record)


@pytest.mark.parametrize("name", ["F8-mprotect-pin", "F10-read-pin", "F3-pin-fork", "F9-swap-pin"])
def test_every_record_of_a_region_has_the_outcomes(name: str) -> None:
    rng = random.Random(1)
    for kernel in KERNELS[:3]:
        check_region(named(name), kernel, rng)


def test_a_swapped_out_pin_rests_on_what_reclaim_does_to_pinned_pages() -> None:
    """F9: 5.9 swaps a pinned page out, 5.11 does not; nothing of huge pages, KSM or NUMA has to do with it."""
    why = reasons.reason(named("F9-swap-pin"), record_of(find_kernel("v5.9")))
    assert why.region["swap_out_pinned"] == {number_of("swap_out_pinned", "allow")}
    assert not why.covers(record_of(find_kernel("v5.11")))
    assert not {"huge_reuse", "reuse_ksm", "numa_hints", "mprotect_pinned", "soft_dirty_lock"} & why.region.keys()


@pytest.mark.slow
def test_every_record_of_a_region_has_the_outcomes_of_any_test() -> None:
    rng = random.Random(2)
    tests = [t for path in sorted(SUITE.glob("*.litmus")) if reasons.followed(t := parser.read(path))]
    for test in rng.sample(tests, 60):
        check_region(test, rng.choice(KERNELS), rng)
