"""What an interrupt leaves: what was computed before is printed, how far it got is said, and the exit code is 3."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import run

from proofs.certify import solvers
from proofs.cli import hardware
from proofs.cli import tests as litmus_commands
from proofs.compare import diff
from proofs.cost import report
from proofs.cost import tables as costs
from proofs.data import CERTIFICATES
from proofs.litmus import matrix
from proofs.restrict import lattice


def after(many: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which is interrupted instead once it was called so many times."""
    calls = iter(range(many))

    def called(*given: Any, **named: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return function(*given, **named)

    return called


def here(function: Callable[[Any], Any], items: Any, workers: int, heard: Any = None) -> Iterator[tuple[Any, Any]]:
    """As `each_done`, in this process, interrupted after the first item."""
    yield items[0], function(items[0])
    raise KeyboardInterrupt


def test_diff_tells_what_it_found_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = diff.compare

    def interrupted(a: str, b: str, features: Any, bounds: Any, each: int, progress: Any) -> diff.Report:
        def told(depth: int, done: int, of: int) -> None:
            if depth == 3:
                raise KeyboardInterrupt
        return compare(a, b, features, bounds, each, told)

    monkeypatch.setattr(litmus_commands.differences, "compare", interrupted)
    monkeypatch.setattr(diff, "proved_alike", lambda *_: None)
    asked = ("diff", "v5.8", "v5.9", "--references", 1, "--each", 1, "-o", tmp_path)
    code, out, err = run(capsys, *asked)
    assert code == 3
    assert "Looked at every sequence of at most 2 operations" in out
    assert err == ("proofs: interrupted: every sequence of at most 2 operations was looked at, longer in part; "
                   "1 causes were found, the same command begins anew\n")
    assert len([*tmp_path.glob("diff/*.litmus")]) >= 1
    code, out, _ = run(capsys, *asked, "--json")
    told = json.loads(out)
    assert (code, told["stopped"], told["depth"], len(told["causes"])) == (3, "interrupted", 2, 1)
    # A second Ctrl-C, while tests are made of what was found, leaves the causes.
    monkeypatch.setattr(diff, "as_test", after(0, diff.as_test))
    code, out, _ = run(capsys, *asked, "--json")
    [cause] = json.loads(out)["causes"]
    assert (code, cause["differences"]) == (3, [])
    assert cause["decisions"]


def test_matrix_prints_the_tests_that_were_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def each_done(function: Any, jobs: Any, workers: int, heard: Any) -> Iterator[Any]:
        monkeypatch.setattr(matrix, "tell", lambda answers: (heard(answers), counted()))
        yield jobs[0], function(jobs[0])

    counted = after(0, lambda: None)
    monkeypatch.setattr(matrix, "each_done", each_done)
    page = tmp_path / "matrix.md"
    page.write_text("as it was")
    code, out, err = run(capsys, "matrix", "F8-mprotect", "F9-swap", "--out", page)
    assert code == 2
    code, out, err = run(capsys, "matrix", "F8-mprotect", "F9-swap", "--json")
    told = json.loads(out)
    assert code == 3
    assert len({row["litmus"] for row in told["results"]}) == 1
    assert told["stopped"].startswith("interrupted: 1 of ")
    assert told["stopped"] in err


def test_selftest_writes_the_tests_that_the_model_was_asked_of_and_spoils_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = hardware.predict
    asked = ("selftest", "F8-mprotect-pin", "F9-swap-pin", "-o", tmp_path / "cow_pinning")
    monkeypatch.setattr(hardware, "predict", after(0, real))
    assert run(capsys, *asked)[::2] == (
        3, "proofs: interrupted: the model was asked of 0 of 2 tests; nothing is written\n"
    )
    monkeypatch.setattr(hardware, "predict", after(1, real))
    code, out, err = run(capsys, *asked)
    assert (code, err) == (3, "proofs: interrupted: the model was asked of 1 of 2 tests\n")
    assert "1 tests that pass" in out
    assert "not in it, the model was not asked: F9-swap-pin" in out
    before = {path.name: path.read_text() for path in (tmp_path / "cow_pinning").iterdir()}
    monkeypatch.setattr(hardware, "predict", after(1, real))
    code, _, err = run(capsys, *asked)
    assert (code, err.endswith("cow_pinning is as it was\n")) == (3, True)
    assert {path.name: path.read_text() for path in (tmp_path / "cow_pinning").iterdir()} == before


def test_verify_tells_which_certificates_were_accepted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def each_done(function: Any, items: Any, workers: int) -> Iterator[Any]:
        yield from ((item, ("unsat", 0.1)) for item in items[:-1])
        raise KeyboardInterrupt

    monkeypatch.setattr(solvers, "each_done", each_done)
    manifest = next(iter(sorted((CERTIFICATES / "v5.9").glob("*.json"))))
    code, out, err = run(capsys, "verify", manifest)
    assert (code, err) == (3, "proofs: interrupted: 0 of 1 certificates were accepted before\n")
    assert "no answer: interrupted" in out


def test_cost_prints_the_kernels_that_were_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "each_done", here)
    monkeypatch.setattr(costs, "table", lambda spec, out: costs.CostTable(spec, (), {}, {}))
    monkeypatch.setattr(report, "to_json", lambda found, *_: {"kernels": [each.kernel for each in found]})
    code, out, err = run(capsys, "cost", "-k", "v5.9", "-k", "v5.19", "-o", tmp_path, "--json")
    told = json.loads(out)
    assert (code, err) == (3, "proofs: interrupted: 1 of 2 kernels were counted\n")
    assert told["stopped"] in err
    assert told["kernels"] == ["v5.9"]


def test_restrict_says_which_sets_of_variants_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def restrict(*_: Any, progress: Callable[..., Any], **named: Any) -> None:
        progress("verifying", 3, 3)
        progress("deciding", 1, 4)
        raise KeyboardInterrupt

    monkeypatch.setattr(lattice, "restrict", restrict)
    code, _, err = run(capsys, "restrict", "-i", "coherence-write-pin", "--base", "mapcount", "-o", tmp_path)
    assert (code, err) == (3, f"proofs: interrupted: 1 of 4 sets of variants decided and kept in {tmp_path}, not those "
                              "at work; the same command goes on from there\n")
