"""Operations that a user's kernel declares for rules of its own: litmus, retell, diff, programs; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run, run_json

from invariants import invariant
from model import V5_9, V5_19, Kernel, ModelError, Operation, Scope
from model.kernels import own_operations
from proofs.check import jobs
from proofs.check.cells import Table, trace_of
from proofs.check.scopes import scope_of
from proofs.derive.interpreter import interpreter_of
from proofs.litmus.account import account
from proofs.litmus.execution import Answer, Run, answer
from proofs.litmus.parser import parse
from proofs.litmus.retell import retell
from proofs.naming.specs import find_kernel, system_with

RULES = """
from model import *
from model.state import *

P, V, K = Param("p", Proc), Param("v", Page), Param("k", Pin)


@rule([P, V], "my_function", "made up")
def drop_write(kernel, p, v):
    return Step([live(p, v), pte_present(p, v), pte_write(p, v)], put(pte_write(p, v), False))


@rule([P, V], "my_function", "made up")
def give_write(kernel, p, v):
    may = And(live(p, v), vma_write(p, v), pte_present(p, v))
    return Step([may, anon(pte_frame(p, v))], put(pte_write(p, v), True))


@rule([P, V, Param("f", Frame)], "my_function", "made up")
def forget(kernel, p, v, f):
    there = And(live(p, v), pte_present(p, v), pte_frame(p, v) == f)
    return Step([there, exclusive(f), Not(pte_write(p, v))], put(exclusive(f), False))


@rule([K, Param("n", Value)], "my_function", "made up")
def device_error(kernel, k, n):
    return Step([pin_live(k), pin_foll_pin(k)], put(frame_value(pin_frame(k)), n))


@rule([P, V, Param("f", Frame), Param("s", Slot, fresh=True)], "my_function", "made up")
def evict(kernel, p, v, f, s):
    added = [put(cached(s), True), put(slot_frame(s), f), put(writeback(s), False), put(page_dirty(f), True)]
    gone = [put(pte_present(p, v), False), put(pte_swap(p, v), True), put(pte_slot(p, v), s)]
    return Step([live(p, v), maps(p, v, f), anon(f), Not(in_swap_cache(f))], [*added, *gone])


@rule([P, V, Param("f", Frame, fresh=True), Param("g", Frame, fresh=True)], "my_function", "made up")
def copy_by_way_of_another(kernel, p, v, f, g):
    return Step([live(p, v), pte_present(p, v), pte_write(p, v), f != g], put(pte_write(p, v), False))


DROP = Operation("drop-write", ("v",), goal=("drop-write",))
GIVE = Operation("give-write", ("v",), goal=("give-write",))
FORGET = Operation("forget", ("v",), goal=("forget",), on_frame=True, actor="either")
SPOIL = Operation("spoil", ("k", "n"), goal=("device-error",), refusal=("reference-missing",))
"""
KERNELS = """
MINE = V5_9.but("mine", "5.9 that write-protects now and then", own_rules=(drop_write,), own_operations=(DROP,))
MUTE = V5_9.but("mute", "the same, and no test can say so", own_rules=(drop_write,))
EVICTING = V5_9.but("evicting", "", own_rules=(evict,),
                    own_operations=(Operation("evict", ("v",), goal=("evict",), on_frame=True),))
COPYING = V5_9.but("copying", "", own_rules=(copy_by_way_of_another,),
                   own_operations=(Operation("copy", ("v",), goal=("copy-by-way-of-another",)),))
ODD = V5_19.but("odd", "odd", own_rules=(forget, device_error), own_operations=(FORGET, SPOIL))
"""
LOST = "litmus t\npage x\nA: write x 1\nA: r = pin x write\nA: drop-write x\nA: write x 2\nnever r sees 1\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(RULES + KERNELS)
    return path


@pytest.fixture(scope="module")
def mine(file: Path) -> Kernel:
    return find_kernel(f"{file}:MINE")


@pytest.fixture(scope="module")
def mute(file: Path) -> Kernel:
    return find_kernel(f"{file}:MUTE")


def answered(kernel: Kernel, text: str, *others: Kernel) -> Answer:
    test = parse(text, "t.litmus", own_operations([kernel, *others]))
    return answer(test, kernel, system_with(kernel, test.features)).answer


# Litmus tests

def test_a_rule_of_ones_own_is_an_operation(mine: Kernel) -> None:
    assert [answered(k, LOST, mine) for k in (mine, V5_9)] == [Answer.BROKEN, Answer.HOLDS]


def test_on_a_kernel_that_lacks_it_the_operation_does_nothing_and_the_answer_says_so(mine: Kernel) -> None:
    test = parse(LOST, "t.litmus", mine.own_operations)
    told = account(test, V5_19, system_with(V5_19, test.features))
    assert told.result.answer == Answer.HOLDS
    assert told.notes == ("line 5: `A: drop-write x` does nothing there: it is another kernel's own",)


def test_where_no_rule_is_enabled_nothing_is_done_and_the_answer_says_so(mine: Kernel) -> None:
    test = parse("litmus t\npage x\nA: drop-write x\nA: write x 1\nnever refused 1\n", "t", mine.own_operations)
    told = account(test, mine, system_with(mine, test.features))
    assert told.result.answer == Answer.HOLDS
    assert told.notes == ("line 3: `A: drop-write x` finds nothing to do in every execution",)


def test_operations_of_frames_values_and_references(file: Path) -> None:
    kernel = find_kernel(f"{file}:ODD")
    begin = "litmus t\npage x\nA: write x 1\nA: r = pin x\nA: mprotect x ro\n"
    assert answered(kernel, begin + "exists exclusive A.x") == Answer.ALLOWED
    assert answered(kernel, begin + "*: forget x\nexists exclusive A.x") == Answer.FORBIDDEN
    assert answered(kernel, begin + "A: forget x\nA: forget x\nexists refused 5") == Answer.FORBIDDEN
    # As where reclaim finds no page.
    assert answered(kernel, "litmus t\npage x\n*: forget x\nalways refused 1") == Answer.HOLDS
    assert answered(kernel, begin + "A: spoil r 7\nalways A.x == 7 and r sees 7") == Answer.HOLDS
    gone = "litmus t\npage x\nA: munmap x\nA: r = pin x\nA: spoil r 7\nalways refused 2 and refused 3"
    assert answered(kernel, gone) == Answer.HOLDS


@pytest.mark.parametrize(("name", "text"), [
    ("EVICTING", "page x\npage y\nA: write x 1\nA: write y 2\nA: evict x\nA: evict y\n"
                 "never swapped A.x and swapped A.y"),
    ("COPYING", "page x\nA: write x 1\nA: copy x\nnever not writable A.x"),
])
def test_a_rule_finds_as_many_unused_frames_and_slots_as_it_takes(name: str, text: str, file: Path) -> None:
    """A kernel has more of them than any test; that the scope ran out was told as `Holds`."""
    assert answered(find_kernel(f"{file}:{name}"), f"litmus t\n{text}") == Answer.BROKEN


def test_where_the_scope_has_no_unused_element_left_nothing_is_claimed(file: Path) -> None:
    kernel = find_kernel(f"{file}:COPYING")
    test = parse("litmus t\npage x\nA: write x 1\nA: copy x\nnever not writable A.x", "t", kernel.own_operations)
    system = system_with(kernel, test.features)
    small = Scope.of(**test.scope().as_dict() | {"Frame": 2})
    result = Run(test, kernel, interpreter_of(system, small)).result()
    assert result.answer == Answer.UNKNOWN
    assert result.reason == "copy-by-way-of-another takes an unused frame, and the test's scope has no more of them"
    # Where it asks for something that is not so, it is not the scope that forbids it.
    test = parse("litmus t\npage x\nA: write x 1\nA: mprotect x ro\nA: copy x\nnever writable A.x", "t",
                 kernel.own_operations)
    assert Run(test, kernel, interpreter_of(system, small)).result().answer == Answer.HOLDS


def test_without_a_declaration_nothing_holds_and_the_rule_is_named(mine: Kernel, mute: Kernel) -> None:
    text = LOST.replace("A: drop-write x\n", "")
    test = parse(text, "t.litmus")
    told = account(test, mute, system_with(mute, test.features))
    assert told.result.answer == Answer.UNKNOWN
    assert "no operation takes this rule of mute: drop-write" in told.result.reason
    assert answered(mine, text) == Answer.HOLDS


# From check to litmus

@pytest.mark.parametrize(("base", "name", "claim"), [
    ("V5_9", "drop-write", "coherence-write-pin"),
    ("V5_19", "give-write", "isolation-mapping"), ("V5_19", "give-write", "isolation-reference"),
    ("V5_19", "forget", "exclusive"), ("V6_12", "forget", "exclusive"),
])
def test_a_counterexample_through_it_is_retold_as_a_test_that_litmus_finds_broken(
    base: str, name: str, claim: str, tmp_path: Path
) -> None:
    own, operation = name.replace("-", "_"), name.partition("-")[0].upper()
    file = tmp_path / "mine.py"
    file.write_text(f"{RULES}\nM = {base}.but('m', '', own_rules=({own},), own_operations=({operation},))\n")
    # What else would break the claim in as few steps is left out of the search, not of the answers.
    others = ("mprotect-other", "mprotect-ro", "clear-soft-dirty", "uffd-wp", "uffd-unwp")
    kernel = find_kernel(f"{file}:M")
    table = Table(((f"{file}:M", kernel),), (invariant(claim),), scope_of(2, 1, 2, 1, 1), others)
    (cell,) = (cell for job in jobs.jobs(table, "explore", 0) for cell in jobs.run_job(job))
    assert cell.verdict == "VIOLATED"
    trace = trace_of(cell, table.scope)
    assert name in {step.rule.name for step in trace.steps}
    text = retell(trace, kernel).text
    assert f": {name} x" in text
    assert answered(kernel, text) == Answer.ALLOWED
    assert answered(kernel, text.replace("\nexists ", "\nnever ")) == Answer.BROKEN
    assert answered(kernel.plain(), text, kernel) == Answer.FORBIDDEN


# Commands

def test_the_commands_take_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (test := tmp_path / "t.litmus").write_text(LOST)
    code, data = run_json(capsys, "litmus", test, "-k", f"{file}:MINE", "-k", "v5.9", "-o", tmp_path)
    assert code == 1
    assert [row["answer"] for row in data["results"]] == ["Broken", "Holds"]
    code, out, said = run(capsys, "reproducer", test, "-k", f"{file}:MINE")
    assert (code, out, said.count("\n")) == (3, "", 1)
    assert "drop-write is an operation of a kernel of one's own, which no program can do" in said
    code, _, said = run(capsys, "litmus", test, "-k", "v5.9")
    assert code == 2
    assert "t.litmus:5: unknown operation 'drop-write'" in said


def test_diff_makes_tests_of_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, data = run_json(
        capsys, "diff", "v5.9", f"{file}:MINE", "--depth", 2, "--references", 1, "--processes", 1, "-o", tmp_path
    )
    assert code == 0
    assert not data["causes"]
    code, data = run_json(
        capsys, "diff", "v5.9", f"{file}:MINE", "--depth", 3, "--references", 1, "--processes", 1, "-o", tmp_path
    )
    assert code == 1
    assert [d["name"] for cause in data["causes"] for d in cause["decisions"]] == ["own_rules"]
    (shown, *_) = data["causes"][0]["differences"]
    assert "drop-write x" in shown["litmus"]
    assert not data["left_out"]
    code, data = run_json(capsys, "diff", "v5.9", f"{file}:MUTE", "--depth", 2, "-o", tmp_path)
    assert code == 3
    assert data["left_out"] == ["drop-write"]


# What is refused

@pytest.mark.parametrize(("operation", "message"), [
    (Operation("write", ("v",), goal=("drop-write",)), "there is one of that name already"),
    (Operation("dio", ("v",), goal=("drop-write",)), "there is one of that name already"),
    (Operation("Drop it", ("v",), goal=("drop-write",)), "words are small letters"),
    (Operation("zap", ("v",), goal=("drop-wriet",)), "no rule 'drop-wriet'; did you mean drop-write"),
    (Operation("zap", ("v",)), "it has a goal"),
    (Operation("zap", (), goal=("drop-write",)), "rule drop-write takes a Page v that no argument names"),
    (Operation("zap", ("v", "w"), goal=("drop-write",)), "none of its rules has a parameter w"),
    (Operation("zap", ("page",), goal=("drop-write",)), "arguments are v and w"),
    (Operation("zap", ("v",), goal=("drop-write",), reference=True), "a reference is a rule's parameter k"),
    (Operation("zap", ("v",), goal=("drop-write", "migrate")), "rule migrate needs features"),
    (Operation("zap", ("v",), goal=("drop-write",), actor="root"), "no actor 'root'; there are process, kernel"),
    # What is misspelled raises no fault, and what follows nothing was never done: both were told as `Holds`.
    (Operation("zap", ("v",), goal=("drop-write",), access="stores"), "no access 'stores'; did you mean store"),
    (Operation("zap", ("v",), goal=("drop-write",), then=("munmap",)), "then is done on the slot s of its goal"),
    (Operation("zap", ("v",), goal=("drop-write",), beside="gupfast"), "no beside 'gupfast'; did you mean gup-fast"),
    (Operation("zap", ("v",), goal=("drop-write",), features=frozenset({"hug"})), "no feature 'hug'; did you mean"),
    # A refusal as a goal was done, so that `refused 1` was Forbidden; a step as a refusal would be done and refused.
    (Operation("zap", ("v",), goal=("gup-read-refused",)), "rule gup-read-refused is a refusal, and is not named as"),
    (Operation("zap", ("v",), goal=("drop-write",), refusal=("munmap",)), "rule munmap is a step, and is named as a"),
    (Operation("zap", ("v",), goal=("userfault-wait",)), "rule userfault-wait is a block, which no operation"),
    (Operation("zap", ("v",), goal=("drop-write",), since="banana"), "since is a release of Linux, as '6.1', not"),
    *((Operation(**{"word": "zap", "arguments": ("v",), "goal": ("drop-write",), name: value}), f"{name} is {kind}")
      for name, value, kind in (
          ("since", 5, "a text"), ("word", ("zap",), "a text"), ("on_frame", 1, "True or False"),
          ("goal", "drop-write", "a tuple of texts"), ("goal", ["drop-write"], "a tuple of texts"),
          ("goal", (1,), "a tuple of texts"), ("goal", 1, "a tuple of texts"), ("arguments", "v", "a tuple of texts"),
          ("flags", "hard", "a frozenset of texts"), ("flags", {"hard"}, "a frozenset of texts"),
          ("features", {"huge"}, "a frozenset of texts"), ("forms", "v", "a tuple of texts"))),
])
def test_a_declaration_that_makes_no_sense_is_one_line(operation: Operation, message: str, mute: Kernel) -> None:
    with pytest.raises(ModelError, match=f"^kernel mine: operation .*{message}") as raised:
        mute.but("mine", "", own_operations=(operation,))
    assert "\n" not in str(raised.value)


def test_two_kernels_that_call_two_things_alike_are_asked_each_alone(mine: Kernel) -> None:
    (drop,) = mine.own_operations
    other = V5_9.but("other", "", own_operations=(Operation("drop-write", ("v",), goal=("munmap",)),))
    with pytest.raises(ModelError, match="mine and other both declare 'drop-write', not alike"):
        own_operations([mine, other])
    with pytest.raises(ModelError, match="it is declared twice"):
        mine.but("mine", "", own_operations=(drop, drop))
    with pytest.raises(ModelError, match="own_operations is a tuple of operations"):
        mine.but("mine", "", own_operations=drop)
