"""What the kernels' write faults cost, and what would cost otherwise."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import z3
from places import ROOT

from model import costs
from model.costs import LOCKS, MAPCOUNTS, SWAPCOUNTS, Count
from proofs.certify import solvers
from proofs.cli.main import main
from proofs.cost import bounds, report, tables, workload, worst
from proofs.cost.chains import Costs
from proofs.cost.meters import COPIES, METERS, OPERATIONS, SHOWN, SLOTS
from proofs.derive.interpreter import Instance, Interpreter, State

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def most(spec: str, name: str) -> dict[str, str]:
    """Meter to the most that the operation costs, as the first solver has it."""
    operation = BY_NAME[name]
    of_kernel = Costs(spec, operation.features)
    sums = [profile for chain in of_kernel.chains(operation) for profile in of_kernel.sums(chain)]
    return {meter: ", ".join(map(str, bounds.greatest(p.count(meter) for p in sums))) for meter in METERS}


def kernel_file(tmp_path: Path, text: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(f"from model import costs\nfrom model.kernels import *\nfrom z3 import Not\n{text}\n")
    return f"{file}:MINE"


def test_counts_are_compared_for_every_size() -> None:
    n, one = costs.PER_SUBPAGE, costs.ONE
    assert [str(c) for c in (n + one, n + n + one, Count(), Count(0, 0, 1))] == ["N+1", "2N+1", "0", "P"]
    assert bounds.at_most(one, n)
    assert not bounds.at_most(Count(3), n), "of two sub-pages there are fewer"
    assert bounds.greatest([one, n, n + one]) == (n + one,)
    assert bounds.greatest([Count(3), n]) == (Count(3), n)


def test_the_mapcount_rule_locks_every_page_and_the_count_rule_only_those_it_may_reuse(tmp_path: Path) -> None:
    assert most("v5.8", "write small") == {LOCKS: "1", MAPCOUNTS: "1", SWAPCOUNTS: "1", COPIES: "1", SLOTS: "0"}
    assert most("v5.9", "write small") == {LOCKS: "1", MAPCOUNTS: "1", SWAPCOUNTS: "0", COPIES: "1", SLOTS: "1"}
    swapped = kernel_file(tmp_path, "MINE = V5_9.but('mine', '', reuse=mapcount_is_one)")
    assert most(swapped, "write small")[SWAPCOUNTS] == "1"
    shared = [
        tables.shared(of_kernel, BY_NAME["write small"], of_kernel.chains(BY_NAME["write small"]))[LOCKS].ones
        for of_kernel in map(Costs, ("v5.8", "v5.9", swapped))
    ]
    assert shared == [1, 0, 1]


def test_a_predicate_of_ones_own_needs_a_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = "def mine(p, v, f):\n    return Not(mapcount_is_one(p, v, f))"
    unpriced = kernel_file(tmp_path, f"{rule}\nMINE = V5_9.but('mine', '', reuse=mine)")
    assert main(["cost", "-k", unpriced, "--workers", "1", "-o", str(tmp_path)]) == 2
    assert "nothing says what mine, its reuse, reads" in capsys.readouterr().err
    priced = kernel_file(tmp_path, f"@costs.evaluated(costs.BY_FLAG)\n{rule}\nMINE = V5_9.but('mine', '', reuse=mine)")
    assert most(priced, "write small")[MAPCOUNTS] == "0"


def test_a_bound_that_is_too_low_is_refuted_by_both_solvers() -> None:
    of_kernel = Costs("v5.9")
    (reuse,) = [chain for chain in of_kernel.chains(BY_NAME["write small"]) if chain.name == "wp-reuse"]
    free = bounds.obligation(of_kernel, reuse.guard, bounds.dearer(reuse.charges, LOCKS, [Count()]))
    assert solvers.said_of(free, 20) == {"z3": "sat", "cvc5": "sat"}
    assert z3.is_false(bounds.dearer(reuse.charges, LOCKS, [costs.ONE]))


def test_an_idle_slot_goes_at_reuse_or_after_the_copy_or_stays() -> None:
    alone, shared, *_ = tables.SITUATIONS
    outcomes = {spec: tables.slot_outcome(Costs(spec), alone) for spec in ("v5.8", "v5.9", "v5.14", "v5.18")}
    assert outcomes == {
        "v5.8": "freed, page reused", "v5.9": "kept, page copied", "v5.14": "freed, page copied",
        "v5.18": "freed, page reused",
    }
    assert tables.slot_outcome(Costs("v5.8"), shared) == "kept, page copied"


def test_wrong_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["-k", "v5.9@ksm"], ["--processes", "0"], ["--gain", "-1"], ["-k", "v5.99"]):
        assert main(["cost", *arguments, "-o", str(tmp_path)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def run(
    of_kernel: Costs, interpreter: Interpreter, state: State, names: list[str], **wanted: int
) -> tuple[State, list[Instance]]:
    """Take the first of those rules that is enabled with those parameters, until the access is done."""
    taken: list[Instance] = []
    while True:
        enabled = (
            i for name in names if name in of_kernel.rules for i in interpreter.instances(of_kernel.rules[name])
            if wanted.items() <= i.as_dict.items() and interpreter.enabled(i, state)
        )
        step = next(enabled, None)
        if step is None:
            return state, taken
        state = interpreter.step(step, state)
        taken.append(step)


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "expected"), [("v5.7", 3), ("v5.8", 9), ("v5.9", 3), ("v5.19", 0)])
def test_the_workload_run_in_the_model_pays_what_the_formula_says(spec: str, expected: int) -> None:
    """A fills a THP of two sub-pages, forks, and the child writes both: N = 2."""
    of_kernel = Costs(spec, ("huge",))
    interpreter = Interpreter(of_kernel.system, tables.SCOPES["huge",])
    state = interpreter.initial()
    for names in (["madvise-hugepage"], ["huge-fault"], ["fork"]):
        (step, *_) = (
            i for i in interpreter.instances(of_kernel.rules[names[0]])
            if i.as_dict["p"] == 0 and i.as_dict.get("v", 0) == 0 and interpreter.enabled(i, state)
        )
        state = interpreter.step(step, state)
    total = 0
    for page in (0, 1):
        before = state
        names = [n for n in of_kernel.faults("store") if n != "wp-copy-spurious"]
        state, faults = run(of_kernel, interpreter, state, names, p=1, v=page)
        total += worst.payment(of_kernel, interpreter, before, faults, MAPCOUNTS).at(2)
    assert total == expected
    found = {
        op.name: tables.shared(of_kernel, op, of_kernel.chains(op)) for op in OPERATIONS if op.shared and op.features
    }
    table = tables.CostTable(spec, (), {}, {**found, "write small": {meter: Count() for meter in METERS}})
    # The same by the formula, N being 512 there.
    blocks = workload.workload(table, 1, 512 * 4096, thp=True).counts[MAPCOUNTS]
    assert blocks == {3: 513, 9: 513 * 513, 0: 0}[expected]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "like"), [
    ("v5.9-rc4", "v5.9"), ("v5.12", "v5.9"), ("v5.17", "v5.14"), ("v6.2", "v5.19"),
])
def test_a_kernel_that_is_not_shown_costs_what_another_does(name: str, like: str) -> None:
    assert name not in SHOWN
    for operation in ("write small", "write THP"):
        assert most(name, operation) == most(like, operation)


@pytest.mark.slow
def test_the_document_shows_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = (ROOT / "docs" / "cost.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- cost -->\n```\n(.*?)```", document, re.S)
    assert shown
    lines = {" ".join(line.split()) for line in shown.group(1).splitlines()}
    assert main(["cost", "-k", "v5.8", "-k", "v5.9", "--svg", "cost.svg"]) == 0
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert len(printed) > 50
    assert [line for line in printed if line not in lines] == []
    assert Path("cost.svg").read_text() == (ROOT / "docs" / "pictures" / "cost.svg").read_text()
    # The traces are those of the costs, and can be shown.
    assert main(["show", "proofs-out/cost/v5.9.write-small.slots-left.trace.json"]) == 0
    assert "wp-copy" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcc"), reason="needs a C compiler (Debian: gcc)")
def test_faults_are_timed_on_the_running_kernel() -> None:
    measured = report.measure()
    assert all(ratio > 0 for ratio in measured.ratios.values())
    assert measured.release in report.to_text([], report.Workload(), measured)
