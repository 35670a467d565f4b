"""Whose rules does a kernel have? Kernels that the interpreter plays, identified by their outcomes alone."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.kernels import FURTHER, KERNELS, Kernel
from model.logic import ModelError
from proofs.cli.main import main
from proofs.data import SUITE
from proofs.errors import NotObservable
from proofs.hardware import conform, identify, reproducer, telling
from proofs.hardware.observing import Observation
from proofs.litmus import execution, parser, reasons
from proofs.litmus.execution import Outcome
from proofs.litmus.language import Litmus
from proofs.litmus.reasons import VALUES, number_of, record_of
from proofs.litmus.suite import digest_on
from proofs.naming.specs import find_kernel, system_with

FEW = (
    "F8-mprotect-pin", "F6-uffd-wp-pin", "F10-read-pin", "F3-pin-fork", "F9-swap-pin", "F5-soft-dirty-pin",
    "F2-reference-before-fork", "F27-uffd-unwp-pin", "F26-writeback-pin", "mprotect-restores-write",
    "uffd-unwp-restores-write", "soft-dirty-pinned",
)
"""Tests of small anonymous pages, which take no time."""


@functools.cache
def few() -> tuple[Litmus, ...]:
    return tuple(parser.read(SUITE / f"{name}.litmus") for name in FEW)


def played(tests: Sequence[Litmus], kernel: Kernel, rng: random.Random | None = None) -> identify.Seen:
    """One outcome of each test on the kernel, by the ordinary litmus engine."""
    seen = {}
    for test in tests:
        outcomes, stuck = execution.outcomes(test, kernel, system_with(kernel, test.features))
        if not stuck:
            seen[test.name] = frozenset([(rng or random.Random(0)).choice(sorted(outcomes, key=str))])
    return seen


def test_a_kernel_of_the_model_is_itself() -> None:
    found = identify.identify(few(), played(few(), find_kernel("v6.12")), find_kernel("v6.12"))
    assert (found.base, found.changes, found.conflict) == ("v6.12", {}, ())
    assert set(found.explained) == set(FEW)


@pytest.mark.parametrize(("base", "changes"), [
    ("v5.9", {"swap_out_pinned": "refuse"}), ("v5.9", {"soft_dirty_pinned": "skip", "mprotect_pinned": "refuse"}),
    ("v5.12", {"uffd_wp_pinned": "skip", "uffd_unwp_pinned": "skip"}), ("v6.1", {"swap_out_pinned": "allow"}),
    ("v5.7", {"soft_dirty_pinned": "refuse"}),
])
def test_the_decisions_that_were_changed_are_found(base: str, changes: dict[str, Any]) -> None:
    """Those that these tests can see; where another change as small explains as much, it is said."""
    kernel = find_kernel(base)
    changed = kernel.but("changed", "a patch that nobody has seen", **changes)
    seen = played(few(), changed)
    check(identify.identify(few(), seen, kernel), kernel, changes, few(), seen)


def check(
    found: identify.Identity, base: Kernel, changes: dict[str, Any], tests: Sequence[Litmus], seen: identify.Seen,
    ends: identify.Reasons | None = None,
) -> None:
    """The identity explains all, by no more changes than were made, and has all of these that can be seen."""
    assert found.conflict == ()
    assert found.base == base.name
    assert len(found.changes) <= len(changes)
    true, own, record = record_of(base) | changes, record_of(base), found.record()
    known = identify.Knowledge(tests, seen, ends or identify.Reasons())
    assert known.explains(true)
    assert known.explains(record)
    for decision, value in changes.items():
        visible = not known.explains({**true, decision: own[decision]})
        values = [record[decision], *found.open.get(decision, ()), *(o.get(decision) for o in found.others)]
        assert not visible or value in values, (base.name, changes, decision)


def test_what_no_record_explains_is_the_smallest_set_of_tests() -> None:
    """Two tests that are the same question, answered otherwise: no record does both, and each alone is possible."""
    twice = [*few(), parser.parse("\n".join(
        line for line in (SUITE / "F8-mprotect-pin.litmus").read_text().splitlines() if not line.startswith("about")
    ).replace("litmus F8-mprotect-pin", "litmus again"), "again")]
    seen = dict(played(twice, find_kernel("v5.9")))
    [outcome] = seen["again"]
    seen["again"] = frozenset([outcome._replace(condition=not outcome.condition)])
    found = identify.identify(twice, seen, find_kernel("v5.9"))
    assert set(found.conflict) == {"F8-mprotect-pin", "again"}
    assert set(found.unexplained) < {"F8-mprotect-pin", "again"}
    assert len(found.explained) == len(twice) - 1


def test_an_outcome_that_no_kernel_has_is_a_conflict_of_its_own() -> None:
    seen = dict(played(few(), find_kernel("v5.9")))
    seen["F3-pin-fork"] = frozenset([Outcome(frozenset({1, 2, 3}), frozenset(), False)])
    found = identify.identify(few(), seen, find_kernel("v5.9"))
    assert found.conflict == found.unexplained == ("F3-pin-fork",)


def test_the_answer_can_be_pasted_into_a_file(tmp_path: Path) -> None:
    changes = {"fork_copies": VALUES["fork_copies"][0], "swap_out_pinned": "refuse"}
    file = tmp_path / "mine.py"
    file.write_text(identify.source("v5.9", changes, "as identified"))
    kernel = find_kernel(f"{file}:MINE")
    assert identify.differences(find_kernel("v5.9"), record_of(kernel)) == changes


def test_a_test_that_was_not_observed_is_named_where_it_would_tell() -> None:
    seen = {name: outcomes for name, outcomes in played(few(), find_kernel("v5.9")).items() if name != "F9-swap-pin"}
    found = identify.identify(few(), seen, find_kernel("v5.9"))
    assert found.open["swap_out_pinned"] == ("refuse",)
    narrow = identify.Identity(found.base, {}, found.explained, found.unseen, {"swap_out_pinned": ("refuse",)})
    [untold] = telling.untold(narrow, few(), lambda test: "nobody looked")
    assert (untold.test, untold.surely, untold.why) == ("F9-swap-pin", True, "nobody looked")


@pytest.mark.parametrize("outcome", [
    Outcome(frozenset(), frozenset(), True), Outcome(frozenset({2, 11}), frozenset({3}), False),
    Outcome(frozenset(), frozenset({1}), True),
])
def test_an_outcome_is_read_as_it_was_printed(outcome: Outcome) -> None:
    assert conform.outcome_of(conform.shown(outcome)) == outcome


def observations(kernel: str, release: str) -> list[dict[str, str]]:
    """What `conform --json` prints of a kernel that the interpreter plays."""
    seen = played(few(), find_kernel(kernel))
    rows = [Observation(release, next(iter(seen[test.name])), "") for test in few()]
    return [vars(conform.compare(test, kernel, row)) for test, row in zip(few(), rows, strict=True)]


def test_saved_observations_are_identified_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "seen.json"
    file.write_text(json.dumps({"schema": 1, "results": observations("v5.11", "5.9.0-vendor")}))
    tests = [str(SUITE / f"{name}.litmus") for name in FEW[:6]]
    assert main(["conform", "--identify", *tests, "--observed", str(file), "-k", "v5.9", "--seconds", "0.1",
                 "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    [kernel] = data["kernels"]
    assert (kernel["release"], kernel["kernel"]) == ("5.9.0-vendor", "v5.9")
    assert {"swap_out_pinned": "refuse", "soft_dirty_pinned": "skip"} in [kernel["changes"], *kernel["others"]]
    assert {each["litmus"] for each in data["results"]} == set(FEW[:6])
    again = tmp_path / "again.json"
    again.write_text(json.dumps(data))
    assert list(conform.saved(again, few())) == ["5.9.0-vendor"]


@pytest.mark.parametrize("change", [
    lambda text: text.replace("exists", "always") if "exists" in text else text.replace("never", "always"),
    lambda text: text + "\n", lambda text: text.replace("\n", "  # as it was\n", 1),
])
def test_observations_are_of_a_text_not_of_a_name(change: Callable[[str], str], tmp_path: Path) -> None:
    test = few()[0]
    text = Path(test.filename).read_text()
    file = tmp_path / "seen.json"
    file.write_text(json.dumps({"schema": 1, "results": observations("v5.11", "5.9.0-vendor")}))
    other = parser.parse(change(text), test.filename)
    if other.mode == test.mode:
        assert conform.saved(file, [other])["5.9.0-vendor"][0].outcome is not None
    else:
        with pytest.raises(ModelError, match=f"{file} was observed of another text of {test.name} than is asked about"):
            conform.saved(file, [other])


def test_observations_that_say_of_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "seen.json"
    rows = [{**row, "digest": ""} for row in observations("v5.11", "5.9.0-vendor")]
    file.write_text(json.dumps({"schema": 1, "results": rows}))
    with pytest.raises(ModelError, match="and 9 more than is asked about, or does not say of which"):
        conform.saved(file, few())


@pytest.mark.parametrize("call", ["r = rdma x", "process_vm_writev x 2"])
def test_what_a_caller_s_word_is_on_a_kernel_is_part_of_what_was_observed(call: str) -> None:
    test = parser.parse(f"litmus t\npage x\nA: write x 1\nA: {call}\nexists A.x == 1\n", "t")
    assert any(statement.operation.forms for statement in test.statements)
    assert digest_on(test, "v4.8") != digest_on(test, "v7.2")
    assert digest_on(test, "v4.8") == test.on(find_kernel("v4.8")).digest


@pytest.mark.parametrize(("text", "complaint"), [
    ("{", "is not what `conform --json` prints"), ('{"results": [{"litmus": "F9-swap-pin"}]}', "KeyError"),
    ('{"results": []}', "says nothing of any of the 12 tests"),
])
def test_a_file_that_holds_no_observations_is_said(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "seen.json"
    file.write_text(text)
    with pytest.raises(ModelError, match=complaint):
        conform.saved(file, few())


@pytest.mark.slow
def test_random_changes_of_random_kernels_are_found() -> None:
    """One to three decisions changed at random, over all tests that a program can do; more by hand before a release."""
    tests = []
    for path in sorted(SUITE.glob("*.litmus")):
        test = parser.read(path)
        try:
            reproducer.check(test)
        except NotObservable:
            continue
        tests += [test] if reasons.followed(test) else []
    ends = identify.Reasons()
    for seed in range(6):
        rng = random.Random(seed)
        base = rng.choice([k for k in (*KERNELS, *FURTHER) if k.name in ("v5.9", "v6.1")])
        own = record_of(base)
        changes = {
            d: rng.choice([v for v in VALUES[d] if number_of(d, v) != number_of(d, own[d])])
            for d in rng.sample(sorted(VALUES), rng.randint(1, 3))
        }
        found = {test.name: ends.reason(test, own | changes) for test in tests}
        seen = {
            name: frozenset([rng.choice(sorted(why.outcomes, key=str))])
            for name, why in found.items() if why.outcomes and not why.stuck
        }
        check(identify.identify(tests, seen, base, ends), base, changes, tests, seen, ends)
