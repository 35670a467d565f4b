"""Kernels and invariants that are in no file, scripts without a guard, and sizes by name."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

from invariants import Invariant
from model import V5_9, V5_19, And, Kernel, ModelError, Not, Pin, Scope, Slot, never
from model.state import cached, pin_foll_pin, pin_frame, pin_live, slot_frame
from proofs import scope_of, trace_of, verdicts
from proofs.check import jobs
from proofs.check.scopes import SCOPES, scope_called, scope_named
from proofs.naming import specs

SMALL = {"frames": 2}


def claim() -> Invariant:
    return Invariant(
        "pinned-not-swapped", "a pinned page is not in the swap cache", "mine", (Pin, Slot),
        when=lambda k, s: And(pin_live(k), pin_foll_pin(k), cached(s)), then=lambda k, s: slot_frame(s) != pin_frame(k),
    )


def kernel(**decisions: object) -> Kernel:
    return V5_9.but("mine", "made here", **decisions)


def test_what_is_in_no_file_is_checked_in_this_process(tmp_path: Path) -> None:
    cells = verdicts([kernel(reuse=never), "v5.9"], [claim(), "write-bit"], scope=SMALL, engine="explore", out=tmp_path)
    assert [(c.kernel, c.invariant, c.verdict) for c in cells] == [
        ("session:mine", "session:pinned-not-swapped", "VIOLATED"), ("session:mine", "write-bit", "VIOLATED"),
        ("v5.9", "session:pinned-not-swapped", "VIOLATED"), ("v5.9", "write-bit", "VIOLATED"),
    ]
    assert trace_of(cells[0]).kernel == "session:mine"


def test_another_one_of_the_same_name_is_another_one(tmp_path: Path) -> None:
    found = []
    for base in (V5_9, V5_19, V5_9):
        mine = base.but("mine", "made here")
        found += verdicts([mine], ["coherence-write-pin"], scope=SMALL, engine="explore", out=tmp_path)
        assert specs.spec_of(mine) == "session:mine"
    assert [cell.verdict for cell in found] == ["VIOLATED", "EXHAUSTED", "VIOLATED"]


ODD_NAMES = ("mine.py:MINE", "mine.py", "v5.19", "session:mine", "bare:v5.9", "mine@huge", "a\nb")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_kernel_is_what_it_is_whatever_it_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5.9's rules under the name of a file's kernel were answered as that one: EXHAUSTED."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from model import V5_19\nMINE = V5_19.but('mine', 'x')\n")
    mine = V5_9.but(name, "made here")
    (cell,) = verdicts([mine], ["coherence-write-pin"], scope=SMALL, engine="explore", out=tmp_path)
    assert (cell.verdict, cell.length) == ("VIOLATED", 4)
    assert specs.find_kernel(cell.kernel) is mine
    assert trace_of(cell).kernel == cell.kernel


def test_an_invariant_is_what_it_is_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from invariants import Invariant\nfrom model.state import Pin, pin_live\n"
        "SAID = Invariant('said', 'x', 'me', (Pin,), pin_live, pin_live)\n"
    )
    (said,) = specs.find_invariants("mine.py:SAID")
    assert specs.spec_of(said) == "mine.py:SAID"
    other = dataclasses.replace(claim(), name="mine.py:SAID")
    assert specs.find_invariant(specs.spec_of(other)).formula.eq(other.formula)
    (found,) = specs.find_invariants(specs.spec_of(other))
    assert specs.spec_of(found) == found.name == specs.spec_of(other)


def test_what_an_old_text_found_is_not_kept_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session goes on with what it has loaded, while the files change below it."""
    digest = jobs.program_digest.__wrapped__
    monkeypatch.setattr(jobs, "LOADED", float("inf"))
    assert digest() == digest()
    monkeypatch.setattr(jobs, "LOADED", 0.0)
    assert digest() != digest()


def test_it_is_proved_there_too(tmp_path: Path) -> None:
    (cell,) = verdicts([V5_9.but("again", "5.9")], ["mprotect"], scope=SMALL, proof_time=60, out=tmp_path)
    assert (cell.verdict, cell.kernel) == ("PROVED", "session:again")


def test_mistakes_are_told_as_those_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"reuse\(p, v, f\) gives"):
        verdicts([kernel(reuse=lambda p, v, f: 1)], ["write-bit"], out=tmp_path)
    with pytest.raises(ModelError, match="session:nobody is of another session: a file keeps a kernel"):
        specs.find_kernel("session:nobody")
    odd = Invariant("odd", "odd", "mine", (Pin,), when=pin_live, then=lambda k: Not(cached(k)))
    with pytest.raises(ModelError):
        verdicts([kernel()], [odd], out=tmp_path)


SCRIPT = """
from model import V5_9, never
from proofs import verdicts

MINE = V5_9.but("mine", "copies always", reuse=never)
print("begins")
for cell in verdicts([MINE, "v5.9"], ["write-bit"], scope={"frames": 2}, engine="explore"):
    print(cell.kernel, cell.verdict)
"""


def test_a_script_needs_no_guard(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    # What is printed while the file is only read goes elsewhere.
    assert done.stdout == "begins\nscript.py:MINE VIOLATED\nv5.9 VIOLATED\n", done.stderr


def test_a_script_from_nowhere_is_a_session(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-"], input=SCRIPT, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "begins\nsession:mine VIOLATED\nv5.9 VIOLATED\n", done.stderr


# Sizes

@pytest.mark.parametrize(("said", "scope"), [
    ({}, SCOPES["default"]), ({"procs": 3}, SCOPES["large"]), ("procs=3", SCOPES["large"]),
    ("frames=4, references=2", SCOPES["medium"]), ({"pins": 2, "frames": 4}, SCOPES["medium"]),
    ({"folios": 2, "blocks": 2}, scope_of(2, 1, 3, 1, 1, 2, 2)), ("blocks=2", scope_of(2, 1, 3, 1, 1, 3, 2)),
    (SCOPES["large"], SCOPES["large"]), ("2,1,4,2,1", SCOPES["medium"]),
])
def test_sizes_by_name_are_those_of_the_default_scope_but(said: str | Scope | dict[str, int], scope: Scope) -> None:
    assert scope_called(said) == scope


@pytest.mark.parametrize("text", ["procs=", "procs=-1", "procs=x", "=3", "procs=3,procs=3", "pages=1,page=2"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ModelError):
        scope_named(text)
