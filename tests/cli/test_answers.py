"""The commands about litmus tests: what comes with an answer, in text and in JSON."""

from __future__ import annotations

import errno
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import run, run_json
from places import ROOT

from proofs.data import SUITE
from proofs.litmus import account, matrix
from proofs.litmus.language import Litmus


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


SIMPLE = "\npage x\nA: write x 1\nexists A.x == 1\n"


def test_what_was_answered_is_told_though_the_rest_is_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        Path(f"{name}.litmus").write_text(f"litmus {name}{SIMPLE}")
    asked = account.account

    def interrupted(test: Litmus, *given: Any) -> Any:
        if test.name == "b":
            raise KeyboardInterrupt
        return asked(test, *given)

    monkeypatch.setattr("proofs.cli.answers.account", interrupted)
    code, out, err = run(capsys, "litmus", "a.litmus", "b.litmus", "-k", "v5.9", "--json")
    told = json.loads(out)
    assert (code, err) == (3, "proofs: interrupted\n")
    assert [(r["litmus"], r["answer"]) for r in told["results"]] == [("a", "Allowed")]
    assert told["stopped"] == "interrupted"
    code, out, _ = run(capsys, "litmus", "a.litmus", "b.litmus", "-k", "v5.9")
    assert (code, out.splitlines()[2]) == (3, "v5.9    Allowed")
    assert run(capsys, "litmus", "b.litmus", "-k", "v5.9") == (3, "", "proofs: interrupted\n")


def test_an_answer_stands_though_its_trace_cannot_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.litmus").write_text(f"litmus a{SIMPLE}")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "cannot keep it")

    with monkeypatch.context() as patched:
        patched.setattr("proofs.traces.trace.write", full)
        code, data = run_json(capsys, "litmus", "a.litmus", "-k", "v5.9", "--ends")
    assert code == 3
    assert [(r["answer"], r["trace"]) for r in data["results"]] == [("Allowed", None)]
    assert "No space left on device" in data["stopped"]
    # A name may be longer than a file's.
    Path("a.litmus").write_text(f"litmus {'a' * 300}{SIMPLE}")
    code, data = run_json(capsys, "litmus", "a.litmus", "-k", "v5.9")
    assert code == 0
    assert Path(data["results"][0]["trace"]).exists()


def test_the_document_of_litmus_tests_shows_what_is_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "litmus.md").read_text(encoding="utf-8")
    shutil.copy(SUITE / "F8-mprotect-pin.litmus", tmp_path)
    monkeypatch.chdir(tmp_path)
    for block, code in (("ends", 1), ("since", 0)):
        shown = re.search(rf"<!-- {block} -->\n```\n\$ python -m proofs (.*?)\n(.*?)```", text, re.S)
        assert shown
        assert run(capsys, *shown[1].split())[:2] == (code, shown[2])
    assert f"    {shown[2].splitlines()[0]}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_tests_of_the_suite_are_asked_by_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, data = run_json(capsys, "litmus", "F3p", "-k", "v5.9-rc4")
    assert (code, [(r["litmus"], r["answer"]) for r in data["results"]]) == (1, [("F3p-pin-fork-child-gone", "Broken")])
    code, out, _ = run(capsys, "show", "F20")
    assert (code, out) == (0, (SUITE / "F20-fork-vma-lock.litmus").read_text(encoding="utf-8"))
    assert [t["litmus"] for t in run_json(capsys, "show", "F3t")[1]["tests"]] == [
        "F3t-pin-fork-thp", "F3tp-pin-fork-thp-child-gone",
    ]
    some = matrix.only(matrix.read_suite(), ["F3-pin", "F20"])
    assert {row.name for row in some.rows} == {"F3-pin-fork", "F3-pin-fork-dma", "F20-fork-vma-lock"}
    code, out, _ = run(capsys, "reproducer", "F8-mprotect-pin")
    assert code == 0
    assert "static int test_F8_mprotect_pin(void)" in out
    for command in (
        ("reproducer", "F8"), ("litmus", "F99"), ("show", "F99"), ("matrix", "F99"), ("matrix", "F8", "-o", "x.md"),
    ):
        code, _, err = run(capsys, *command)
        assert code == 2
        assert len(err.splitlines()) == 1


def test_since_when_is_one_line_and_what_made_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "litmus", "F3-pin-fork-dma", "--since")
    assert (code, out.splitlines()) == (0, [
        "F3-pin-fork-dma: Broken up to v5.9-rc7, fixed in v5.9-rc8 by 70e806e4e645", "  v5.9-rc8, Broken to Holds:",
        "    fork_copies never -> copies_pinned (70e806e4e645)",
    ])
    code, data = run_json(capsys, "litmus", "F3-pin-fork-dma", "--since")
    assert data["results"][0]["turns"][0]["decisions"][0]["decision"] == "fork_copies"
    code, _, err = run(capsys, "litmus", "F3-pin-fork-dma", "--since", "-k", "v5.9")
    assert code == 2
    assert "--since asks every release" in err
