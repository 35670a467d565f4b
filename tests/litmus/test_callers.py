"""Callers of get_user_pages by their words: what each is on which kernel (model/callers.py, domain.md 1.3.1)."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run, run_json

from model import V5_9, V6_1, V6_12
from model.callers import CALLERS
from model.kernels import Kernel
from model.operations import OPERATIONS
from model.state import pin_live
from proofs.errors import LitmusError
from proofs.hardware import reproducer
from proofs.litmus.account import account
from proofs.litmus.execution import answer
from proofs.litmus.history import causes, history, summary
from proofs.litmus.language import form_on
from proofs.litmus.parser import parse
from proofs.naming.specs import find_kernel, system_with

FORK = "page x\nA: write x 1\nA: r = {} x write\nA: fork C\nA: write x 2\nnever not A.x is r\n"
"""F3, F3g of domain.md: the child is there when the parent writes."""
MPROTECT = "page x\nA: write x 1\nA: r = {} x write\nA: mprotect x ro\nA: mprotect x rw\nA: write x 2\nnever r sees 1\n"
"""F8."""
SOFT_DIRTY = "page x\nA: write x 1\nA: r = {} x write\nA: clear-soft-dirty\nA: write x 2\nnever not A.x is r\n"
"""F5."""
UNTOUCHED = "page x\nA: r = {} x\nA: write x 1\nnever not A.x is r\n"
"""F11: the device reads what nobody has written yet."""


def asked(body: str, spec: str) -> str:
    kernel = find_kernel(spec)
    test = parse(f"litmus t\n{body}", "t.litmus")
    return str(answer(test, kernel, system_with(kernel, test.features)).answer)


# From domain.md 1.3.1 and the failures named, before the model was asked.
@pytest.mark.parametrize(("body", "word", "answers"), [
    pytest.param(FORK, "dio", {"v5.7": "Broken", "v5.19": "Broken", "v6.1": "Broken", "v6.4.0": "Broken",
                               "v6.5": "Holds", "v6.12": "Holds"}, id="fork does not see direct I/O up to 6.4"),
    pytest.param(FORK, "rdma", {"v4.14": "Broken", "v5.7": "Broken", "v5.9": "Holds", "v6.12": "Holds"},
                 id="fork sees RDMA once it copies what is pinned"),
    pytest.param(MPROTECT, "dio", {"v5.7": "Holds", "v5.18": "Broken", "v5.19": "Holds", "v6.1": "Holds",
                                   "v6.12": "Holds"}, id="mprotect loses direct I/O from 5.9 to 5.18"),
    pytest.param(SOFT_DIRTY, "dio", {"v5.9": "Broken", "v5.12": "Broken", "v6.1": "Holds"},
                 id="5.11 leaves pinned pages alone, but not those of direct I/O"),
    pytest.param(SOFT_DIRTY, "vfio", {"v5.9": "Broken", "v5.12": "Holds", "v6.1": "Holds"}, id="it does of vfio"),
    pytest.param(UNTOUCHED, "rdma", {"v5.7": "Holds", "v5.9": "Holds", "v6.1": "Holds", "v6.2": "Holds"},
                 id="FOLL_FORCE | FOLL_WRITE, then FOLL_LONGTERM, take no zero page"),
    pytest.param(UNTOUCHED, "vfio", {"v5.7": "Broken", "v6.1": "Broken", "v6.2": "Holds"},
                 id="a read-only mapping of vfio had the zero page up to 6.1"),
    pytest.param(UNTOUCHED, "dio", {"v6.1": "Broken", "v6.12": "Broken"}, id="direct I/O has it still"),
])
def test_answers_follow_what_the_caller_does_on_that_kernel(body: str, word: str, answers: dict[str, str]) -> None:
    assert {spec: asked(body.format(word), spec) for spec in answers} == answers


@pytest.mark.parametrize("kernel", [V5_9, V6_12])
@pytest.mark.parametrize("word", ["dio", "rdma", "vfio"])
def test_a_callers_word_is_the_operation_that_it_stands_for(word: str, kernel: Kernel) -> None:
    (caller,) = (o for o in CALLERS if o.word == word and o.flags)
    text, flags = form_on(caller, kernel).split(" ", 1)
    for body in (FORK, MPROTECT, SOFT_DIRTY):
        spelled = body.replace("x write", f"x {flags}").format(text)
        assert asked(body.format(word), kernel.name) == asked(spelled, kernel.name)


@pytest.mark.parametrize("spec", ["v5.5", "v5.9", "v6.1", "v6.2"])
def test_a_reference_of_rdma_to_a_read_only_mapping_is_not_refused_but_where_nothing_is(spec: str) -> None:
    assert asked("page x\nA: write x 1\nA: mprotect x ro\nA: r = rdma x\nnever refused 3\n", spec) == "Holds"
    assert asked("page x\nA: munmap x\nA: r = rdma x\nnever refused 2\n", spec) == "Broken"


def test_a_kernel_made_from_another_has_its_callers() -> None:
    mine = V6_1.but("mine", "6.1 that shares pinned pages at fork", fork_copies=V5_9.fork_copies)
    test = parse(f"litmus t\n{FORK.format('dio')}", "t.litmus")
    told = account(test, mine, system_with(mine, test.features))
    assert told.notes == ("line 4: `A: r = dio x write` is `get write fast`",)


def test_since_when_is_by_the_caller_where_no_decision_makes_the_difference() -> None:
    told = history(parse(f"litmus t\n{FORK.format('dio')}", "t.litmus"))
    assert summary(told) == "Broken up to v6.4, fixed in v6.5 by a7e689dd1c06, 1ccf164ec866"
    assert causes(told) == [
        "v6.5, Broken to Holds:", "  dio write get write fast -> pin write fast (a7e689dd1c06, 1ccf164ec866)",
    ]
    # That of rdma is by a decision: it was FOLL_PIN before fork copied pinned pages.
    told = history(parse(f"litmus t\n{FORK.format('rdma')}", "t.litmus"))
    assert [[c.decision for c in turn.decisions] for turn in told.turns] == [["fork_copies"]]


# What takes a reference for itself

@pytest.mark.parametrize(("body", "expected"), [
    ("A: write x 1\nA: fork C\nC: process_vm_writev x 5\nalways C.x == 5 and A.x == 1", "Holds"),
    ("A: write x 1\nA: mprotect x ro\nA: process_vm_writev x 5\nalways refused 3 and A.x == 1", "Holds"),
    ("A: write x 1\nA: fork C\nA: populate x write\nexists A.x is C.x", "Forbidden"),
    ("A: write x 1\nA: fork C\nA: populate x\nexists A.x is C.x", "Allowed"),
    ("A: populate x write\nA: fork C\nA: write x 1\nexists C.x == 0", "Allowed"),
    ("A: write x 1\n*: pageout x\nA: populate x\nalways present A.x", "Holds"),
])
@pytest.mark.parametrize("spec", ["v5.7", "v5.9", "v5.19", "v6.12"])
def test_a_call_that_puts_its_reference_itself(body: str, expected: str, spec: str) -> None:
    assert asked(f"page x\n{body}\n", spec) == expected


def test_no_reference_of_such_a_call_is_left() -> None:
    test = parse("litmus t\npage x huge 2\nA: process_vm_writev x.1 4\nA: populate x write\nexists A.x.1 == 4", "t")
    found = answer(test, V6_12, system_with(V6_12, test.features)).trace
    assert found is not None
    labels = [found.label(n) for n in range(len(found.steps))]
    assert sum("pin-write" in label for label in labels) == 1
    assert sum("madv-populate-write" in label for label in labels) == 2
    assert sum("unpin" in label for label in labels) == 1
    cells = found.interpreter.layout.position[pin_live.name].values()
    assert not any(found.states[-1][cell] for cell in cells)


def test_what_a_test_cannot_say_of_callers() -> None:
    for body, message in (
        ("A: dio x\nexists A.x == 0", r"dio is written `r = dio V` or `r = dio V write`"),
        ("A: r = dio x fast\nexists A.x == 0", r"dio is written"),
        ("A: r = rdma x\nA: dma r 1\nexists A.x == 0", r"r is a read reference \(line 3\)"),
        ("A: r = process_vm_writev x 1\nexists A.x == 0", r"process_vm_writev is written `process_vm_writev V n`"),
    ):
        with pytest.raises(LitmusError, match=message):
            parse(f"litmus t\npage x\n{body}", "t.litmus")
    parse("litmus t\npage x\nA: r = io_uring x\nA: dma r 1\nexists A.x == 0", "t.litmus")


def test_the_words_are_none_of_the_other_operations() -> None:
    assert not {o.word for o in CALLERS} & {o.word for o in OPERATIONS}


def test_an_answer_says_what_the_word_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "t.litmus").write_text(f"litmus t\n{FORK.format('dio')}")
    code, data = run_json(capsys, "litmus", file, "-k", "v6.1", "-k", "v6.12", "-o", tmp_path)
    assert code == 1
    assert [row["notes"] for row in data["results"]] == [
        ["line 4: `A: r = dio x write` is `get write fast`"], ["line 4: `A: r = dio x write` is `pin write fast`"],
    ]
    ring = "litmus t\npage x\nA: write x 1\nA: r = io_uring x\nexists A.x is r"
    file.write_text(ring)
    _, data = run_json(capsys, "litmus", file, "-k", "v4.14", "-o", tmp_path)
    assert "line 4: `A: r = io_uring x` came with 5.1; Linux 4.14 has no such operation" in data["results"][0]["notes"]


# Programs

def test_a_program_is_of_a_kernel_where_the_word_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "t.litmus").write_text(f"litmus t\n{FORK.format('dio')}")
    code, out, said = run(capsys, "reproducer", file)
    assert (code, out) == (3, "")
    assert said.count("\n") == 1
    assert "dio is another operation from kernel to kernel: name the kernel with -k" in said
    texts = {spec: run(capsys, "reproducer", file, "-k", spec)[1] for spec in ("v6.1", "v6.12")}
    assert "take_by_probe" in texts["v6.1"]
    assert "take_into_ring" in texts["v6.12"]
    forced = parse("litmus t\npage x\nA: r = rdma x\nexists A.x is r", "t").on(V5_9)
    assert "GP_PIN | GP_FORCE | GP_LONGTERM | GP_WRITE" in reproducer.program([forced])
