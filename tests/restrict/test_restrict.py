"""Which restrictions are enough: every set has evidence of its own, and the outermost ones are what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from invariants import invariant
from model.logic import ModelError
from model.restrictions import RESTRICTIONS
from proofs.certify import verify
from proofs.check.scopes import SCOPES
from proofs.cli.main import main
from proofs.engine import Claim
from proofs.explore.search import explore
from proofs.naming.specs import system_of
from proofs.restrict import lattice as restricting
from proofs.restrict import show
from proofs.restrict.lattice import INSUFFICIENT, SUFFICIENT, Corner, CornerJob, decide_corner, subsets
from proofs.restrict.show import graph, to_mermaid, to_text
from proofs.traces import trace as traces

FEW = ("fork-early-copy", "mprotect-refuse", "unmap-refuse")


@pytest.fixture(scope="module")
def corner(tmp_path_factory: pytest.TempPathFactory) -> Corner:
    """Three restrictions on the mapcount rule: what a write pin needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restricting, "RESTRICTIONS", tuple(r for r in RESTRICTIONS if r.name in FEW))
        out = tmp_path_factory.mktemp("restrict")
        return decide_corner(CornerJob("mapcount", "coherence-write-pin", (), 900, out, "key"))


def test_a_write_pin_under_the_mapcount_rule_needs_the_early_copy_and_to_stay_in_memory(corner: Corner) -> None:
    """It needs nothing of mprotect: a mapcount does not change when the write bit goes."""
    assert [d.restrictions for d in corner.minimal_sufficient] == [("fork-early-copy", "unmap-refuse")]
    assert [d.restrictions for d in corner.maximal_insufficient] == [
        ("fork-early-copy", "mprotect-refuse"), ("mprotect-refuse", "unmap-refuse"),
    ]
    assert (corner.sets, corner.undecided, corner.exceptions) == (8, (), ())


def test_a_sufficient_set_has_a_certificate_that_both_solvers_accept(corner: Corner) -> None:
    (checked,) = verify.verify([Path(str(d.evidence)) for d in corner.minimal_sufficient])
    assert (checked.kernel, checked.verdict) == ("mapcount+fork-early-copy+unmap-refuse", "accepted")


def test_an_insufficient_set_has_a_shortest_trace(corner: Corner) -> None:
    stated = invariant("coherence-write-pin")
    for d in corner.maximal_insufficient:
        trace = traces.read(Path(str(d.evidence)), system_of, lambda name: invariant(name).formula)
        full = system_of(trace.kernel)
        searched = explore(
            full.restricted(full.cone([stated.formula])), SCOPES["default"],
            [Claim(stated.name, stated.formula, stated.premise)], stop_at_violations=True,
        )
        path = searched.findings[0].path
        assert path is not None
        assert len(trace.steps) == d.length == len(path)


def test_the_text_says_what_each_restriction_does(corner: Corner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricting, "RESTRICTIONS", tuple(r for r in RESTRICTIONS if r.name in FEW))
    text = "\n".join(to_text([corner]))
    assert "enough      fork-early-copy, unmap-refuse (PROVED)" in text
    assert "not enough  all but unmap-refuse (VIOLATED in 6 steps)" in text
    assert "mprotect-refuse      alone not enough, not needed" in text
    assert "unmap-refuse         alone not enough, in every minimal set: necessary" in text


def test_the_graph_has_the_outermost_sets_between_nothing_and_everything(
    corner: Corner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restricting, "RESTRICTIONS", tuple(r for r in RESTRICTIONS if r.name in FEW))
    made = graph([corner])
    verdicts = {data["label"]: data["verdict"] for _, data in made.nodes(data=True)}
    assert verdicts == {
        "nothing": INSUFFICIENT, "everything": SUFFICIENT, "fork-early-copy, unmap-refuse": SUFFICIENT,
        "fork-early-copy, mprotect-refuse": INSUFFICIENT, "mprotect-refuse, unmap-refuse": INSUFFICIENT,
    }
    assert made.number_of_edges() == 6
    assert "fork-early-copy<br>unmap-refuse<br>PROVED" in to_mermaid([corner])


def test_every_set_is_decided_once() -> None:
    sets = subsets("abcd")
    assert len(sets) == len(set(sets)) == 16
    assert sets[:2] == [frozenset("abcd"), frozenset()]


def test_a_larger_set_that_breaks_what_a_smaller_one_keeps_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Monotonicity is a result: here is a lattice that has it not."""
    monkeypatch.setattr(restricting, "RESTRICTIONS", RESTRICTIONS[:2])
    verdicts = {0: SUFFICIENT, 1: SUFFICIENT, 2: INSUFFICIENT}
    monkeypatch.setattr(restricting.Lattice, "decide", lambda self, names, seconds: (verdicts[len(names)], ()))
    for name, verdict in (("with_certificate", SUFFICIENT), ("with_trace", INSUFFICIENT)):
        monkeypatch.setattr(restricting, name, lambda lattice, s, v=verdict: restricting.Decided(tuple(sorted(s)), v))
    found = decide_corner(CornerJob("mapcount", "write-bit", (), 1, tmp_path, "key"))
    assert found.exceptions == (((), ("fork-early-copy", "mprotect-refuse")),)
    assert show.to_json("mapcount", "write-bit", [found])["monotone"] is False


def test_where_neither_a_proof_nor_a_counterexample_is_found_the_set_is_undecided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restricting, "RESTRICTIONS", ())
    found = decide_corner(CornerJob("exclusive", "isolation-mapping", (), 0, tmp_path, "key"))
    assert [d.note for d in found.undecided] == ["no proof after 0 s"]
    assert found.minimal_sufficient == ()


def test_a_careless_rule_of_ones_own_is_refused(tmp_path: Path) -> None:
    """A proof takes a cell that nobody wrote to keep its value; other engines need not."""
    file = tmp_path / "careless.py"
    file.write_text(
        "from model.kernels import V5_9\n"
        "from model.logic import Param, Step, put, rule\n"
        "from model.state import Proc, Page, live, pte_present, pte_swap, vma_write\n"
        "@rule([Param('p', Proc), Param('v', Page)], 'none', 'test')\n"
        "def remap(kernel, p, v):\n"
        "    \"\"\"The old PTE comes back, whatever is left of it.\"\"\"\n"
        "    return Step([live(p, v), pte_swap(p, v)], [put(pte_present(p, v), True), put(pte_swap(p, v), False)])\n"
        "MINE = V5_9.but('mine', '', own_rules=(remap,))\n"
    )
    with pytest.raises(ModelError, match="rule remap: may let pte_frame matter without writing it"):
        decide_corner(CornerJob(f"bare:{file}:MINE", "counters", (), 60, tmp_path, "key"))


OWN = """
from invariants import Invariant
from model import And, Not, Page, Proc
from model.state import pte_present, pte_write, vma, vma_write

P = Invariant(
    "p", "what a read-only VMA has", "a test", (Proc, Page),
    lambda p, v: And(vma(p, v), Not(vma_write(p, v)), pte_present(p, v)), lambda p, v: Not(pte_write(p, v)),
)
"""


@pytest.mark.slow
def test_what_is_kept_is_of_the_claim_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricting, "RESTRICTIONS", ())
    asked: list[CornerJob] = []

    def here(function: Callable[[CornerJob], Corner], jobs: list[CornerJob], workers: int) -> Any:
        asked.extend(jobs)
        return [(job, function(job)) for job in jobs]

    monkeypatch.setattr(restricting, "each_done", here)
    file, out = tmp_path / "mine.py", tmp_path / "out"

    def verdict() -> str:
        (found,) = restricting.restrict("mapcount", f"{file}:P", out, variants=())
        assert len(found.minimal_sufficient) + len(found.maximal_insufficient) == 1
        return SUFFICIENT if found.minimal_sufficient else INSUFFICIENT

    file.write_text(OWN)
    assert [verdict(), verdict()] == [SUFFICIENT, SUFFICIENT]
    assert len(asked) == 1
    (result,), (manifest,) = (out / "results").iterdir(), (out / "certificates" / "mapcount").iterdir()
    proved, certified = result.read_text(), manifest.read_text()
    file.write_text(OWN.replace("Not(pte_write(p, v)),", "pte_write(p, v),"))
    assert [verdict(), verdict()] == [INSUFFICIENT, INSUFFICIENT]
    assert len(asked) == 2
    (violated,) = (f for f in (out / "results").iterdir() if f != result)
    shown = violated.read_text()
    # What is copied over another's is decided again, be it the answer or its evidence.
    violated.write_text(proved)
    assert (verdict(), violated.read_text()) == (INSUFFICIENT, shown)
    (trace,) = out.glob("mapcount/*.trace.json")
    trace.write_text(trace.read_text().replace('"formula": "', '"formula": "0'))
    assert verdict() == INSUFFICIENT
    file.write_text(OWN)
    changed = json.loads(certified)
    changed["obligations"]["safety"] = "0" * 24
    manifest.write_text(json.dumps(changed))
    assert verdict() == SUFFICIENT
    assert manifest.read_text() == certified
    assert len(asked) == 5


@pytest.mark.parametrize("verdict", [SUFFICIENT, INSUFFICIENT])
def test_a_run_that_did_not_come_to_its_end_is_gone_on_with(
    verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had found is not sought again: it is executed, or proved, for each set."""
    monkeypatch.setattr(restricting, "RESTRICTIONS", RESTRICTIONS[:1])
    file = tmp_path / "mine.py"
    file.write_text(OWN if verdict == SUFFICIENT else OWN.replace("Not(pte_write(p, v)),", "pte_write(p, v),"))
    job = CornerJob("mapcount", f"{file}:P", (), 60, tmp_path, "key")
    outermost = "with_certificate" if verdict == SUFFICIENT else "with_trace"

    def interrupted(*asked: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restricting, outermost, interrupted)
        with pytest.raises(KeyboardInterrupt):
            decide_corner(job)
    with monkeypatch.context() as patch:
        patch.setattr(restricting.Lattice, "decide", interrupted)
        again = decide_corner(job)
    assert (again.sets, again.undecided) == (2, ())
    assert {SUFFICIENT: again.minimal_sufficient, INSUFFICIENT: again.maximal_insufficient}[verdict]
    (part,) = (tmp_path / "results").iterdir()
    part.write_text(part.read_text().replace('"key"', '"another"'))
    monkeypatch.setattr(restricting.Lattice, "decide", interrupted)
    with pytest.raises(KeyboardInterrupt):
        decide_corner(job)


ERRORS = {
    ("-i", "write-bit"): "either --base or --kernel",
    ("-i", "write-bit", "--base", "page-count", "-k", "v5.9"): "either --base or --kernel",
    ("-i", "write-bit", "--base", "pagecount"): "did you mean page-count?",
    ("-i", "coherence", "--base", "page-count"): "several invariants: coherence-write-pin",
    ("-i", "exclusive", "--base", "page-count"): "exclusive says nothing about page-count",
    ("-i", "write-bit", "-k", "v5.99"): "there was no Linux 5.99",
    ("-i", "write-bit", "--base", "page-count", "--proof-time", "0"): "more than 0 seconds",
}


@pytest.mark.parametrize("arguments", ERRORS, ids=" ".join)
def test_bad_input_is_one_clear_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["restrict", *arguments, "-o", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert ERRORS[arguments] in error
    assert error.count("\n") == 1


def restrict_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main(["restrict", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_kernel_of_ones_own_has_its_reuse_rule_tried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """5.18 decides by page_count at swap-in too: what others reference is safe from writes, with no restriction."""
    data = restrict_json(capsys, "-k", "v5.18", "-i", "isolation-reference", "--no-variants", "-o", tmp_path)
    assert [d["restrictions"] for d in data["minimal_sufficient"]] == [[]]
    assert data["maximal_insufficient"] == []
    assert data["base"] == "bare:v5.18"
