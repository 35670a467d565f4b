"""The model written for other checkers is the same: they count the same states and steps, or orbits."""

from __future__ import annotations

import json
import shutil

import pytest

from benchmarks import __main__ as command
from benchmarks import explore
from benchmarks.bmc import answers
from benchmarks.explore import CHECKERS
from model.kernels import KERNELS
from proofs.check.scopes import scope_named

SMALLEST = "1,1,2,1,1"
FAMILIES = {
    "ours": ((), [c for c in CHECKERS if c.startswith("ours-")]),
    "spin": (("spin", "gcc"), [c for c in CHECKERS if c.startswith("spin-")]),
    "rumur": (("rumur", "gcc"), [c for c in CHECKERS if c.startswith("rumur")]),
}
"""What each family of checkers needs installed, and its members."""


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "family", "asked"), [
    *(pytest.param("v5.9", family, members, id=f"v5.9-{family}") for family, (_, members) in FAMILIES.items()),
    *(pytest.param(k, checker.partition("-")[0], [checker], id=f"{k}-{checker}")
      for k in ("v6.15", "wrprotect-skip") for checker in ("spin-dfs", "rumur-symmetry")),
])
def test_other_checkers_count_what_we_count(
    kernel: str, family: str, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compared` raises Disagreement where they do not. What they generate is compiled as it stands: to make it quick
    would take longer than to run it in so small a scope."""
    for program in FAMILIES[family][0]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    monkeypatch.setattr(explore, "OPTIMIZED", ("-O0",))
    (system,) = (k.system() for k in KERNELS if k.name == kernel)
    runs = {r.checker: r for r in explore.compared(kernel, system, SMALLEST, asked, 1, 600).runs}
    assert runs.keys() == {"ours", "ours-symmetry", *asked}
    for checker, run in runs.items():
        assert not run.failed
        assert run.states > 1000
        if checker in explore.LOSSY:
            assert run.states <= runs["ours"].states


def test_the_command_says_which_package_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    asked = ["benchmarks", "explore", "--scope", SMALLEST, "--checker", "spin-bfs", "--runs", "1"]
    monkeypatch.setattr("sys.argv", asked)
    assert command.main() == 2
    assert capsys.readouterr().err == "benchmarks: spin is not installed: apt-get install spin\n"


def test_the_command_names_the_nearest_checker(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "explore", "--checker", "spin-bfz"])
    assert command.main() == 2
    assert "spin-bfs" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [
        "benchmarks", "explore", "--json", "--scope", SMALLEST, "--checker", "ours-2-threads", "--runs", "1",
    ])
    assert command.main() == 0
    (comparison,) = json.loads(capsys.readouterr().out)["explore"]
    counts = {(r["states"], r["transitions"]) for r in comparison["runs"] if r["checker"] != "ours-symmetry"}
    assert len(comparison["runs"]) == 3
    assert len(counts) == 1


@pytest.mark.parametrize(
    "searcher", ["former", *(pytest.param(s, marks=pytest.mark.slow) for s in ("bitwuzla", "cvc5"))]
)
def test_other_encodings_and_solvers_find_violations_of_the_same_length(searcher: str) -> None:
    """`answers` raises Disagreement where they do not."""
    if searcher == "bitwuzla":
        pytest.importorskip("bitwuzla")
    for kernel, length in (("v5.9", 4), ("v6.15", None)):
        (system,) = (k.system() for k in KERNELS if k.name == kernel)
        found = answers(system, scope_named(SMALLEST), "coherence-write-pin", 4, (searcher,), 1)
        assert [each.searcher for each in found] == ["ours", searcher]
        assert {each.length for each in found} == {length}
        assert found[0].size["clauses"] > 100
