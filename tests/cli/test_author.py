"""The loop of somebody who writes a kernel: a file to start from, checks that run again, what is exercised."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from z3 import And, Not, Or

from invariants import invariant
from model.kernels import FURTHER, KERNELS, V5_9, Kernel
from model.logic import ModelError, Step, Term, put, rule
from model.ptes import P, V
from model.state import mapped_only_by, pte_present, pte_write
from proofs.check.coverage import cover
from proofs.check.scopes import scope_of
from proofs.check.tables import verdicts
from proofs.cli.main import main
from proofs.cli.start import meanings, starting_file, starting_invariant
from proofs.cli.watch import files_of
from proofs.explore.search import explore
from proofs.naming.specs import find_invariants, find_kernel, system_of, terms_of

SMALL = scope_of(2, 1, 2, 1, 1)


# new-kernel

@pytest.mark.parametrize("base", [k.name for k in (*KERNELS, *FURTHER)])
def test_the_starting_file_of_every_kernel_is_a_kernel_that_differs_in_its_rule(base: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = starting_file(base, "mine.py", "MINE")
    file.write_text(text)
    mine, start = find_kernel(f"{file}:MINE"), find_kernel(base)
    assert mine.base == base
    assert {n for n, v in mine.decisions().items() if v != start.decisions()[n]} == {"reuse"}
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_starting_file_tells_of_every_decision() -> None:
    text = starting_file("v5.19", "mine.py", "MINE")
    for decision, value in find_kernel("v5.19").decisions().items():
        assert re.search(rf"^# {decision} = {re.escape(value)}\n#     \S", text, re.M), decision
    assert all(meaning for _, meaning in meanings())


def test_its_rule_works_once_its_marks_are_taken_away(tmp_path: Path) -> None:
    text = starting_file("v5.9", "mine.py", "MINE")
    begin, end = text.index("# from model import Operation"), text.index("\n\n\nMINE: Kernel")
    shown = re.sub(r"^# ?", "", text[begin:end], flags=re.M)
    file = tmp_path / "mine.py"
    rest = text[end:].replace("    reuse=reuse,", "    reuse=reuse, own_rules=(drop_write,),\n    "
                             'own_operations=(Operation("drop-write", ("v",), goal=("drop-write",)),),')
    file.write_text(text[:begin] + shown + rest)
    assert "drop-write" in {r.name for r in system_of(f"{file}:MINE").rules}
    assert [o.word for o in find_kernel(f"{file}:MINE").own_operations] == ["drop-write"]


@pytest.mark.parametrize("text", [starting_file("v7.2", "mine.py", "MINE"), starting_invariant("mine.py", "MINE")])
def test_every_word_that_the_comments_tell_is_imported(text: str) -> None:
    namespace: dict[str, Any] = {}
    exec(text, namespace)
    told = re.findall(r"^# (\w+)\([\w, ]*\):", text, re.M)
    assert {"maps", "exclusive", "pte_write", "pin_frame", "cached"} <= set(told)
    for word in (*told, "And", "Or", "Not", "If", "forall", "exists", "Proc", "Page", "Frame", "Pin", "Slot"):
        assert word in namespace, word


def test_new_kernel_writes_a_file_that_check_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    assert main(["new-kernel", str(file), "--from", "v5.11", "--name", "TRY"]) == 0
    assert f"{file}:TRY" in capsys.readouterr().out
    given = ["-k", f"{file}:TRY", "-i", "write-bit", "--scope", "2,1,2,1,1", "--engine", "explore"]
    assert main(["check", *given, "-o", str(tmp_path)]) == 1


@pytest.mark.parametrize("given", [
    ["mine.txt"], ["mine.py", "--name", "not a name"], ["mine.py", "--from", "v5.99"], ["there.py"], ["no/folder.py"],
])
def test_new_kernel_refuses_in_one_line(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.py").write_text("mine")
    assert main(["new-kernel", *given]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert Path("there.py").read_text() == "mine"


# new-invariant, and what comes of one

OWN = """
from invariants import Invariant
from model import Frame, Proc, Page, And, Not
from model.state import frame_free, frame_value, pte_present, pte_write, vma, vma_write

AS_MPROTECT = Invariant(
    "mine", "as the invariant mprotect", "a test", (Proc, Page),
    lambda p, v: And(vma(p, v), Not(vma_write(p, v)), pte_present(p, v)), lambda p, v: Not(pte_write(p, v)),
)
ALIKE = Invariant(
    "alike", "all pages hold the same", "a test", (Frame, Frame),
    lambda f, g: And(Not(frame_free(f)), Not(frame_free(g))), lambda f, g: frame_value(f) == frame_value(g),
)
"""


def test_the_starting_invariant_says_what_can_be_said_and_can_be_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-invariant", "mine.py"]) == 0
    assert capsys.readouterr().out == "mine.py: python -m proofs check -i mine.py:PROMISE\n"
    assert re.search(r"^# pin_live\(k\): the reference is held$", Path("mine.py").read_text(), re.M)
    assert main(["new-invariant", "mine.py"]) == 2
    (stated,) = find_invariants("mine.py")
    assert stated.name == "mine.py:PROMISE"
    (cell,) = verdicts(["v5.9"], [stated], scope="2,1,2,1,1", engine="explore")
    assert (cell.verdict, cell.length) == ("VIOLATED", 3)
    assert main(["retell", str(cell.trace)]) == 0
    assert "about  mine.py:PROMISE does not hold" in capsys.readouterr().out


def test_an_invariant_of_contents_is_searched_with_more_than_one_content(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    (cell,) = verdicts(["v5.9"], [f"{tmp_path}/mine.py:ALIKE"], scope="2,1,2,1,1", engine="explore", out=tmp_path)
    assert (cell.verdict, cell.length) == ("VIOLATED", 4)
    assert main(["show", str(cell.trace)]) == 0


def test_coverage_and_the_explorer_take_users_invariants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    given = ["-k", "v5.9", "--scope", "1,1,1,1,1", "-i", f"{tmp_path}/mine.py", "--json"]
    assert main(["coverage", *given]) == 0
    assert json.loads(capsys.readouterr().out)[0]["premises"][f"{tmp_path}/mine.py:ALIKE"] is True
    assert main(["explore", *given]) == 0
    assert f"{tmp_path}/mine.py:AS_MPROTECT" in {c["name"] for c in json.loads(capsys.readouterr().out)["claims"]}
    assert main(["coverage", "-k", "v5.9", "-i", "mprotect"]) == 2


@pytest.mark.slow
def test_a_user_s_invariant_is_decided_proved_and_verified_as_the_model_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    name = f"{tmp_path}/mine.py:AS_MPROTECT"
    cells = verdicts(["v5.9", "wrprotect-skip"], ["mprotect", name], out=tmp_path)
    told = [(c.verdict, c.engine, c.length, c.states, c.transitions, c.clauses, c.vacuous) for c in cells]
    assert told[0] == told[1]
    assert told[2] == told[3]
    assert [t[0] for t in told] == ["PROVED", "PROVED", "VIOLATED", "VIOLATED"]
    assert main(["verify", str(cells[1].certificate)]) == 0
    (tmp_path / "mine.py").write_text(OWN.replace("Not(pte_write(p, v)),", "pte_write(p, v),"))
    assert main(["verify", str(cells[1].certificate)]) == 1


def test_what_is_watched_are_the_files_of_kernels_and_invariants() -> None:
    specs = ["v5.9", "a/mine.py:MINE@huge", "bare:b.py:X+swap-out-refuse", "promise.py", "promise.py:P", "coherence"]
    assert [str(f) for f in files_of(specs)] == ["a/mine.py", "b.py", "promise.py", "promise.py"]


# Files that import others, and what must not depend on when it is asked

MINE = """
from model import V5_9, Or
from model.state import mapped_only_by
import helper

def reuse(p, v, f):
    import late
    return Or(V5_9.reuse(p, v, f), mapped_only_by(p, v, f)) if late.WIDE else V5_9.reuse(p, v, f)

MINE = V5_9.but(helper.NAME, "", reuse=reuse, mprotect_pinned=helper.PINNED)
"""


def authors(folder: Path) -> dict[str, str]:
    """Two folders with a file and two modules each, all of the same names: folder to the kernel's spec."""
    specs = {}
    for name, pinned, wide in (("a", "skip", True), ("b", "refuse", False)):
        (folder / name).mkdir()
        (folder / name / "mine.py").write_text(MINE)
        (folder / name / "helper.py").write_text(f"NAME, PINNED = 'of {name}', '{pinned}'\n")
        (folder / name / "late.py").write_text(f"from helper import NAME\nWIDE = {wide}\n")
        specs[name] = f"{folder / name / 'mine.py'}:MINE"
    return specs


def test_each_file_has_the_modules_that_lie_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = authors(tmp_path)
    of_a_script = ModuleType("helper")
    of_a_script.__file__ = str(tmp_path / "helper.py")
    monkeypatch.setitem(sys.modules, "helper", of_a_script)
    wanted = {"a": V5_9.but("", "", mprotect_pinned="skip", reuse=lambda p, v, f: Or(
        V5_9.reuse(p, v, f), mapped_only_by(p, v, f)
    )), "b": V5_9.but("", "", mprotect_pinned="refuse")}
    for name in ("a", "b", "a"):
        assert (find_kernel(specs[name]).name, find_kernel(specs[name]).mprotect_pinned) == (
            f"of {name}", wanted[name].mprotect_pinned
        )
        assert system_of(specs[name]).digest() == wanted[name].system().digest()
    assert sys.modules["helper"] is of_a_script
    assert "late" not in sys.modules
    assert not list(tmp_path.rglob("a/__pycache__"))


def test_a_module_that_changes_is_read_again(tmp_path: Path) -> None:
    spec = authors(tmp_path)["b"]
    before = system_of(spec).digest()
    (tmp_path / "b" / "late.py").write_text("WIDE = True \n")
    widened = system_of(spec).digest()
    assert widened != before
    (tmp_path / "b" / "helper.py").write_text("NAME, PINNED = 'of c', 'skip'\n")
    assert find_kernel(spec).name == "of c"
    assert system_of(spec).digest() not in (before, widened)


def test_a_module_that_is_not_there_is_an_error_until_it_is(tmp_path: Path) -> None:
    spec = authors(tmp_path)["a"]
    (tmp_path / "a" / "helper.py").unlink()
    with pytest.raises(ModelError, match=r"mine\.py:4: .*No module named 'helper'"):
        find_kernel(spec)
    (tmp_path / "a" / "helper.py").write_text("NAME, PINNED = 'of a', 'skip'\n")
    assert find_kernel(spec).name == "of a"


UNSTEADY = {
    "a decision by chance": (
        "import random\ndef reuse(p, v, f):\n    return Or(random.random() < 0.5, V5_9.reuse(p, v, f))\n"
        "MINE = V5_9.but('mine', '', reuse=reuse)\n", "mine.py:5: reuse gives"),
    "a decision that counts": (
        "asked = []\ndef reuse(p, v, f):\n    asked.append(f)\n"
        "    return V5_9.reuse(p, v, f) if len(asked) < 64 else Not(maybe_pinned(f))\n"
        "MINE = V5_9.but('mine', '', reuse=reuse)\n", "mine.py:5: reuse: rule wp-reuse, which asks for that"),
    "a rule by chance": (
        "import random\n@rule([P, V], 'f', 'here')\ndef odd(kernel, p, v):\n    \"\"\"Odd.\"\"\"\n"
        "    return Step([pte_write(p, v)], put(pte_write(p, v), random.random() < 0.5))\n"
        "MINE = V5_9.but('mine', '', own_rules=(odd,))\n", "mine.py:5: rule odd is not the same"),
    "a rule that counts": (
        "asked = []\n@rule([P, V], 'f', 'here')\ndef odd(kernel, p, v):\n    \"\"\"Odd.\"\"\"\n"
        "    asked.append(p)\n    return Step([pte_present(p, v)], put(pte_write(p, v), len(asked) > 52))\n"
        "MINE = V5_9.but('mine', '', own_rules=(odd,))\n", "mine.py:5: rule odd is not the same"),
}


@pytest.mark.parametrize("case", UNSTEADY)
def test_what_is_not_the_same_each_time_is_told_at_its_line(case: str, tmp_path: Path) -> None:
    text, says = UNSTEADY[case]
    (tmp_path / "mine.py").write_text(
        "from model import *\nfrom model.state import *\nP, V = Param('p', Proc), Param('v', Page)\n" + text
    )
    with pytest.raises(ModelError) as refused:
        system_of(f"{tmp_path}/mine.py:MINE")
    assert says in str(refused.value)
    assert "whenever it is asked" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_invariant_by_chance_is_told_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN.replace("from model import", "import random\nfrom model import").replace(
        "lambda p, v: Not(pte_write(p, v)),", "lambda p, v: pte_write(p, v) == (random.random() < 0.5),"
    ))
    with pytest.raises(ModelError, match=r"mine\.py:9: invariant mine: then gives .* whenever it is asked"):
        find_invariants(f"{tmp_path}/mine.py:AS_MPROTECT")


def test_what_a_process_compares_names_what_is_other() -> None:
    asked = terms_of("v5.9", ["mprotect", "soft-dirty"], ("fork",))
    asked.compare()
    for other, name in (
        (dataclasses.replace(asked, system="0" * 16), "v5.9"),
        (dataclasses.replace(asked, without=()), "v5.9"),
        (dataclasses.replace(asked, claims=(asked.claims[0], ("soft-dirty", "0" * 16))), "soft-dirty"),
    ):
        with pytest.raises(ModelError, match=f"^{name} gives other terms"):
            other.compare()


# coverage

@rule([P, V], "my_function", "here")
def dead(kernel: Kernel, p: Term, v: Term) -> Step:
    """Never: a write bit without a page."""
    return Step([Not(pte_present(p, v)), pte_write(p, v)], put(pte_write(p, v), False))


@rule([P, V], "my_function", "here")
def doubly_guarded(kernel: Kernel, p: Term, v: Term) -> Step:
    """Asks twice for the same."""
    return Step([pte_present(p, v), And(pte_present(p, v), pte_write(p, v))], put(pte_write(p, v), False))


def test_dead_rules_and_idle_conditions_are_named() -> None:
    mine = V5_9.but("mine", "with rules to be noticed", own_rules=(dead, doubly_guarded))
    found = cover(mine.system(), SMALL, [invariant("write-bit")], reduce=False)
    assert not found.stopped
    assert found.fired["dead"] == 0
    assert found.fired["doubly-guarded"] > 0
    decides = {(c.rule, c.text): c.decides for c in found.conjuncts}
    assert decides["doubly-guarded", "(pte_present p v)"] is False
    assert decides["doubly-guarded", "(and (pte_present p v) (pte_write p v))"] is True
    assert found.met == {"write-bit": True}


def test_a_conjunct_is_idle_exactly_where_leaving_it_out_changes_nothing() -> None:
    system = V5_9.system()
    found = cover(system, SMALL, [])
    told = {(c.rule, c.text): c.decides for c in found.conjuncts}
    name = "store"
    guarded = system.rule(name)
    for i, conjunct in enumerate(guarded.guard):
        decides = told.get((name, " ".join(conjunct.sexpr().split())))
        if decides is None:
            continue
        without = dataclasses.replace(guarded, guard=(*guarded.guard[:i], *guarded.guard[i + 1:]))
        other = dataclasses.replace(
            system, rules=tuple(without if r.name == name else r for r in system.rules)
        )
        # Only the rule with one condition less may do more, and it does where that condition decides.
        more = explore(other, SMALL, []).fired[name] > found.fired[name]
        assert more == decides, (name, conjunct)


def test_what_a_scope_is_too_small_for_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", "-k", "v5.9", "--scope", "1,1,1,1,1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"never  fork\n", printed)
    assert re.search(r"never  isolation-mapping\n", printed)
    assert main(["coverage", "-k", "v5.9", "--scope", "1,1,1,1,1", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["fired"]["fork"] == 0
    assert told["premises"]["isolation-mapping"] is False


def test_a_coverage_cut_short_is_inconclusive(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coverage", "-k", "v5.9", "--scope", "3,1,4,2,1", "--timeout", "0.01"]) == 3
    assert "may yet be met" in capsys.readouterr().out


# check --watch, and completion

@pytest.mark.slow
def test_watch_checks_again_when_the_file_changes(tmp_path: Path) -> None:
    file, helper = tmp_path / "mine.py", tmp_path / "helper.py"
    file.write_text("from model.kernels import V5_9\nMINE = V5_9.but('mine', 'as 5.9')\n")
    log = tmp_path / "log"
    with log.open("w") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "proofs", "check", "--watch", "-k", f"{file}:MINE", "-i", "coherence-write-pin",
             "--engine", "explore", "--scope", "2,1,2,1,1", "-o", str(tmp_path / "out")],
            stdout=output, stderr=output, start_new_session=True,
        )
        try:
            until(log, "exit code 1", running)
            file.write_text("from model.kernels import V5_19\nMINE = V5_19.but('mine', 'as 5.19', nothing=1)\n")
            until(log, "exit code 2", running)
            assert "no decision 'nothing'" in log.read_text()
            file.write_text("from model.kernels import V5_19\nMINE = V5_19.but('mine', 'as 5.19')\n")
            until(log, "exit code 0", running)
            # A module that is not there yet, comes, and changes.
            file.write_text("import helper\nMINE = helper.BASE.but('mine', 'as that')\n")
            until(log, "No module named 'helper'", running)
            until(log, "exit code 2", running, 2)
            helper.write_text("from model.kernels import V5_19 as BASE\n")
            until(log, "exit code 0", running, 2)
            helper.write_text("from model.kernels import V5_9 as BASE\n")
            until(log, "exit code 1", running, 2)
        finally:
            os.killpg(running.pid, signal.SIGINT)
            assert running.wait(120) in (0, 1, 2, 3)


def until(log: Path, text: str, running: subprocess.Popen[bytes], times: int = 1) -> None:
    for _ in range(1800):
        if log.read_text().count(text) >= times:
            return
        assert running.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.slow
@pytest.mark.parametrize(("words", "expected"), [
    ("cow-proofs check -k v5.1", {"v5.11", "v5.12", "v5.14", "v5.16", "v5.17", "v5.18", "v5.19"}),
    ("cow-proofs check -i cou", {"counters"}), ("cow-proofs di", {"diff"}),
    ("cow-proofs diff mapc", {"mapcount-unshare"}),
])
def test_the_shell_completes_commands_kernels_and_invariants(words: str, expected: set[str]) -> None:
    environment = {
        **os.environ, "_COW_PROOFS_COMPLETE": "complete_bash", "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = (
        "import sys; sys.argv = ['cow-proofs']; from proofs.cli.main import app, load; load([]); "
        "app(prog_name='cow-proofs')"
    )
    told = subprocess.run([sys.executable, "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert set(told.stdout.split()) == expected
