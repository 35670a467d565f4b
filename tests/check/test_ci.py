"""What `check` writes for builds and reviews says what the table says, and a time-out is no success."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from proofs.check.cells import Cell
from proofs.check.ci import BuildOutcome, to_markdown
from proofs.cli.main import main

SCOPE = ["--scope", "2,1,2,1,1"]
FORMS = ("junit", "sarif", "markdown")


def checked(folder: Path, *given: str) -> tuple[int, ElementTree.Element, dict[str, Any], str]:
    """Exit code, JUnit, SARIF and Markdown of a check."""
    files = {form: folder / form for form in FORMS}
    options = [text for form, file in files.items() for text in (f"--{form}", str(file))]
    code = main(["check", *given, *options, "-o", str(folder / "out")])
    texts = {form: file.read_text() for form, file in files.items()}
    return code, ElementTree.fromstring(texts["junit"]), json.loads(texts["sarif"]), texts["markdown"]


def test_a_violation_fails_with_its_steps(tmp_path: Path) -> None:
    code, junit, sarif, markdown = checked(
        tmp_path, "-k", "v5.9", "-k", "v5.19", "-i", "coherence-write-pin", "-i", "swap-slot", "--engine", "explore",
        *SCOPE,
    )
    assert code == 1
    suites = {s.get("name"): s for s in junit}
    assert set(suites) == {"v5.9", "v5.19"}
    assert (suites["v5.9"].get("tests"), suites["v5.9"].get("failures")) == ("2", "2")
    assert (suites["v5.19"].get("failures"), suites["v5.19"].get("errors")) == ("0", "0")
    cases = {c.get("name"): c for c in suites["v5.9"]}
    assert "wp-copy(p=A" in (cases["coherence-write-pin"].findtext("failure") or "")
    assert "EXHAUSTED" in (suites["v5.19"][0].findtext("system-out") or "")

    (run,) = sarif["runs"]
    assert sarif["version"] == "2.1.0"
    assert sarif["$schema"].endswith("sarif-schema-2.1.0.json")
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["coherence-write-pin", "swap-slot"]
    assert [(r["ruleId"], r["level"], r["kind"]) for r in run["results"]] == [
        ("coherence-write-pin", "error", "fail"), ("swap-slot", "error", "fail"),
    ]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert result["message"]["text"].startswith("v5.9: violated in 4 steps")
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith(".trace.json")
        ((flow,),) = ([f["threadFlows"][0]["locations"]] for f in result["codeFlows"])
        assert len(flow) == 4
        assert all(place["location"]["message"]["text"] for place in flow)

    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert rows == [
        "|  | v5.9 | v5.19 |", "| --- | --- | --- |", "| coherence-write-pin | V 4 | E |", "| swap-slot | V 4 | E |",
    ]
    assert "\n4. `wp-copy(p=A, v=x, new=" in markdown
    assert max(map(len, markdown.splitlines())) <= 72


def test_a_file_of_ones_own_is_where_sarif_points(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from model.kernels import V5_9\nMINE = V5_9.but('mine', 'as 5.9')\n")
    _, _, sarif, _ = checked(
        tmp_path, "-k", f"{file}:MINE", "-i", "write-bit", "--engine", "explore", *SCOPE
    )
    place = sarif["runs"][0]["results"][0]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == str(file)


def test_what_ran_out_of_time_is_an_error_and_open(tmp_path: Path) -> None:
    code, junit, sarif, markdown = checked(
        tmp_path, "-k", "v5.19", "-i", "isolation-mapping", "--engine", "explore", "--timeout", "0.001", "--scope",
        "3,1,4,2,1", "--fresh",
    )
    assert code == 3
    assert [(s.get("failures"), s.get("errors")) for s in junit] == [("0", "1")]
    error = junit.find(".//error")
    assert error is not None
    assert error.get("type") == "UNKNOWN"
    assert [(r["kind"], r["level"]) for r in sarif["runs"][0]["results"]] == [("open", "none")]
    assert "is not decided" in markdown


def test_markdown_of_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "-k", "v5.9", "-i", "write-bit", "--engine", "explore", *SCOPE, "-o", str(tmp_path)])
    capsys.readouterr()
    assert main(["show", str(tmp_path / "v5.9" / "write-bit.trace.json"), "-f", "markdown"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("### write-bit is violated on v5.9\n\nClaimed: ")
    assert "\n3. `" in printed
    assert printed.rpartition("\n\n")[2].startswith("Here: ")
    assert max(map(len, printed.splitlines())) <= 72


def test_a_table_of_many_kernels_is_several_in_markdown() -> None:
    kernels = [f"a-kernel-{number}" for number in range(9)]
    cells = [Cell(kernel, "an-invariant", "PROVED", "all", 0.0, False, clauses=n) for n, kernel in enumerate(kernels)]
    lines = to_markdown([BuildOutcome("", cell, "", False, None) for cell in cells]).splitlines()
    heads = [line for line in lines if line.startswith("|  |")]
    assert " ".join(heads).replace("|", " ").split() == kernels
    assert len(heads) > 1
    assert max(map(len, lines)) <= 72


@pytest.mark.parametrize("form", FORMS)
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", f"--{form}", str(tmp_path / "no" / "file"), "-o", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
