"""The commands about litmus tests: what comes with an answer, in text and in JSON."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from places import ROOT

from proofs.cli.main import main
from proofs.data import SUITE


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code, out, _ = run(capsys, *arguments, "--json")
    return code, json.loads(out)


def test_litmus_says_what_is_vacuous_refused_and_newer_and_shows_the_ends(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gone.litmus").write_text("litmus gone\npage x\nA: munmap x\nA: r = pin x\nnever r sees 1\n")
    code, data = run_json(capsys, "litmus", "gone.litmus", "-k", "v4.8", "-k", "v5.9", "--ends")
    assert code == 0
    old, new = data["results"]
    assert old["vacuous"] == new["vacuous"] == "line 4: `A: r = pin x` is refused, so that r is never taken"
    refused = "line 4: `A: r = pin x` is refused in every execution"
    assert new["notes"] == [refused]
    assert old["notes"] == ["line 4: `A: r = pin x` came with 5.6; Linux 4.8 has no such operation", refused]
    [end] = new["ends"]
    assert (end["shows"], end["condition"], end["executions"]) == ("refused 2", False, 1)
    code, out, _ = run(capsys, "show", end["trace"])
    assert code == 0
    assert "not (r sees 1)" in out
    kernels = ("v5.7", "v5.8", "mapcount-unshare")
    code, out, _ = run(capsys, "litmus", "gone.litmus", *itertools.chain(*(("-k", kernel) for kernel in kernels)))
    assert "v5.8              Holds (vacuous)" in out.splitlines()
    assert f"gone, every kernel: {refused}" in out.splitlines()


def test_the_document_of_litmus_tests_shows_the_ends_that_are_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "litmus.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- ends -->\n```\n\$ python -m proofs (.*?)\n(.*?)```", text, re.S)
    assert shown
    shutil.copy(SUITE / "F8-mprotect-pin.litmus", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *shown[1].split())[:2] == (1, shown[2])
