"""Litmus tests: the suite of known failures, the language and its errors, and what an answer means."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import z3
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from places import ROOT

from model.decisions import always, never
from model.features import FEATURES, SPLIT, WORLD
from model.kernels import (
    ALL_RULES,
    FURTHER,
    KERNELS,
    V4_8,
    V5_7,
    V5_8,
    V5_9,
    V5_11,
    V5_14,
    V5_18,
    V5_19,
    V6_1,
    V6_4_0,
    V6_12,
    V6_15,
    V7_2,
    WRPROTECT_FAIL,
    WRPROTECT_SKIP,
    Kernel,
)
from model.logic import Staged
from model.operations import ENDINGS, OPERATIONS, TAILS, WHEN_TRYLOCK_FAILS, blocks, faults
from proofs.data import SUITE
from proofs.errors import LitmusError
from proofs.litmus.execution import Answer, Result, answer
from proofs.litmus.facts import OF_ADDRESSES
from proofs.litmus.language import Litmus
from proofs.litmus.parser import parse, parse_all, read, read_text
from proofs.naming.specs import system_with
from proofs.traces import trace

FILES = sorted(SUITE.glob("*.litmus"))
EXPECTED = tomllib.loads((SUITE / "expected.toml").read_text(encoding="utf-8"))
ALL_KERNELS = {kernel.name: kernel for kernel in (*KERNELS, *FURTHER)}
MARKS = {
    Answer.ALLOWED: "B", Answer.BROKEN: "B", Answer.FORBIDDEN: ".", Answer.HOLDS: ".", Answer.UNKNOWN: "?",
}


def answered(litmus: Litmus, kernel: Kernel) -> Result:
    return answer(litmus, kernel, system_with(kernel, litmus.features))


def ask(text: str, kernel: Kernel = V5_9) -> Result:
    """The answer to a test of which `text` is all but the name."""
    return answered(parse(f"litmus t\n{text}", "t.litmus"), kernel)


def rules_of(result: Result) -> list[str]:
    assert result.trace
    return [step.rule.name for step in result.trace.steps]


def expected(name: str) -> dict[str, str]:
    """Kernel name to the mark that expected.toml gives."""
    marks = {}
    for column, mark in zip(EXPECTED["columns"], EXPECTED["answers"][name].split(), strict=True):
        marks |= dict.fromkeys(EXPECTED["columns"][column], mark)
    return marks | EXPECTED["exceptions"].get(name, {})


# The suite


LONG = ("F33s-uffd-move-reused",)
"""Tests that take more than ten seconds."""


@pytest.mark.parametrize("path", [
    pytest.param(path, marks=[pytest.mark.slow] if path.stem in LONG else [], id=path.stem) for path in FILES
])
def test_kernels_answer_as_expected(path: Path) -> None:
    """One kernel of each column, and the exceptions; `test_matrix` asks every kernel."""
    litmus = read(path)
    asked = {*(names[-1] for names in EXPECTED["columns"].values()), *EXPECTED["exceptions"].get(path.stem, {})}
    marks = {name: mark for name, mark in expected(path.stem).items() if name in asked}
    assert {name: MARKS[answered(litmus, ALL_KERNELS[name]).answer] for name in marks} == marks


def test_each_file_has_its_name_a_description_and_an_expectation() -> None:
    tests = [read(path) for path in FILES]
    assert [t.name for t in tests] == [path.stem for path in FILES]
    assert all(t.about for t in tests)
    assert set(EXPECTED["answers"]) == {t.name for t in tests}
    assert set(EXPECTED["exceptions"]) <= set(EXPECTED["answers"])
    assert sorted(name for column in EXPECTED["columns"].values() for name in column) == sorted(ALL_KERNELS)


def answered_with_more(litmus: Litmus, kernel: Kernel) -> Result:
    """What a test does not need is there as well, but for sub-steps where operations run at the same time."""
    more = FEATURES if all(len(group) == 1 for group in litmus.groups) else WORLD
    return answer(litmus, kernel, system_with(kernel, litmus.features.union(more)))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_answer_is_the_same_on_the_whole_model(path: Path) -> None:
    litmus = read(path)
    derived, full = answered(litmus, V5_9), answered_with_more(litmus, V5_9)
    assert (full.answer, full.reason) == (derived.answer, derived.reason)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [names[-1] for names in EXPECTED["columns"].values()])
def test_the_answers_are_the_same_on_the_whole_model_of_every_column(kernel: str) -> None:
    """What the test's own features give on these kernels is as expected: `test_kernels_answer_as_expected`."""
    for path in FILES:
        litmus = read(path)
        full = answered_with_more(litmus, ALL_KERNELS[kernel])
        assert MARKS[full.answer] == expected(path.stem)[kernel], path.stem
        if full.reason:
            assert full.reason == answered(litmus, ALL_KERNELS[kernel]).reason, path.stem


def test_every_named_rule_exists_in_some_kernel() -> None:
    known = {template.name for template in ALL_RULES}
    named = set(WHEN_TRYLOCK_FAILS) | set(WHEN_TRYLOCK_FAILS.values()) | set(TAILS) | set(TAILS.values())
    for operation in OPERATIONS:
        named |= set(operation.rules)
        for kernel in (V5_8, V5_9):
            named |= set(blocks(operation.access, kernel)).union(*faults(operation.access, kernel))
    assert named <= known
    # The start state has these done, reclaim does the last one later on its own.
    assert known - named == {
        "madvise-hugepage", "backing-read", "mmap-file", "mmap-hugetlb", "mmap-soft-dirty", "free-swap-slot",
        "memory-movable", "memory-cma", "uffd-api-unpopulated", "uffd-api-async",
        "swap-in-read-full", "mprotect-other", "mprotect-other-range",
    }


def test_the_sub_steps_are_known_by_their_names() -> None:
    back, tails = set(), {}
    for template in ALL_RULES:
        for kernel in (V5_7, V5_9, V6_15):
            said = template.body(kernel, *(p.term for p in template.params))
            if isinstance(said, Staged):
                back |= {stage.back for stage in said.stages if stage.recheck}
                if said.tail_of:
                    tails[template.name] = said.tail_of
    assert back == ENDINGS
    assert tails == TAILS


# The language

HEAD = "litmus t\npage x\n"
MALFORMED = [
    ("", 1, "no test here"),
    ("page x", 1, "first statement is `litmus NAME`"),
    ("litmus", 1, "letters, digits"),
    ("litmus two words", 1, "not 'two words'"),
    ("litmus t\nlitmus u", 2, "second `litmus`"),
    ("litmus t\nabout", 2, "about TEXT"),
    ("litmus t\nabout a\nabout b", 3, "once"),
    ("litmus t\npage", 2, "name is missing"),
    ("litmus t\npage 9", 2, "cannot name a page"),
    ("litmus t\npage and", 2, "cannot name a page"),
    ("litmus t\npage x\npage x", 3, "used already"),
    ("litmus t\npage x ufd", 2, "did you mean uffd?"),
    ("litmus t\npage x uffd uffd", 2, "twice"),
    ("litmus t\npage x huge", 2, "a number from 2 to 16"),
    ("litmus t\npage x huge 1", 2, "a number from 2 to 16"),
    ("litmus t\npage x huge 512", 2, "a number from 2 to 16"),
    ("litmus t\npage x file zero", 2, "`zero` or `file`"),
    ("litmus t\nsplit", 2, "names among gup-fast, fork,"),
    ("litmus t\nsplit frok", 2, "did you mean fork?"),
    ("litmus t\nsplit fork\nsplit copy", 3, "once"),
    (HEAD + "A: write x 1\npage y", 4, "before the first operation"),
    (HEAD + "A: write x 1\nsplit fork", 4, "before the first operation"),
    (HEAD + "nevr A.x == 1", 3, "did you mean never?"),
    (HEAD + "A:", 3, "needs an operation"),
    (HEAD + "A: wriet x 1", 3, "did you mean write?"),
    (HEAD + "A: write x 1 ||", 3, "'' is not `P: operation`"),
    (HEAD + "A: write x 1 || read x", 3, "'read x' is not `P: operation`"),
    (HEAD + "A: write x 1 | A: read x", 3, "`write V n`"),
    (HEAD + "A: fork C || C: read x", 3, "process C is forked on this line"),
    (HEAD + "A: r = get x || A: drop r", 3, "r is taken on this line"),
    (HEAD + "A: r = get x\nA: drop r || A: drop r", 4, "dropped on line 4"),
    (HEAD + "A: read x || A: exit", 3, "exit ends every thread of A"),
    (HEAD + "A: fork C\nA: read x || C: exit\nC: read x", 5, "has exited on line 4"),
    (HEAD + "*: collapse x", 3, "x is not a huge page"),
    (HEAD + "page y huge 2\nA: write y.2 1", 4, "did you mean y.1?"),
    (HEAD + "page y huge 2\nA: mremap x y", 4, "x has 1 part and y has 2 parts"),
    (HEAD + "page y huge 2\nA: r = get y\nA: dma r.0 1", 5, "r.0 is a read reference (line 4)"),
    (HEAD + "page y huge 2\nA: r = get y\nA: drop r.1\nA: drop r", 6, "r.1 was dropped on line 5"),
    (HEAD + "page y huge 2\nA: r = get y\nexists r.2 sees 1", 5, "no reference 'r.2'"),
    (HEAD + "page y huge 2\nA: r = get y\nexists A.x is r", 5, "A.x and r do not have the same number of parts"),
    (HEAD + "page y unpopulated async\nexists A.y == 0", 3, "a page is `unpopulated` or `async`"),
    (HEAD + "page y hugetlb async\nexists A.y == 0", 3, "a page is `hugetlb` or `async`"),
    (HEAD + "page y hugetlb\nexists written A.y", 4, "'written' cannot be asked of the hugetlb page y"),
    (HEAD + "page y huge 2\nexists A.y is A.y.0", 4, "A.y and A.y.0 do not have the same number of parts"),
    (HEAD + "A: write x", 3, "`write V n`"),
    (HEAD + "A: write x 1 2", 3, "`write V n`"),
    (HEAD + "A: write z 1", 3, "no page 'z'"),
    (HEAD + "A: write x 0", 3, "from 1 to 255"),
    (HEAD + "A: write x 256", 3, "from 1 to 255"),
    (HEAD + "A: write x ٣", 3, "from 1 to 255"),
    (HEAD + "A: write x -1", 3, "from 1 to 255"),
    (HEAD + "A: mprotect x", 3, "`mprotect V ro` or `mprotect V rw`"),
    (HEAD + "A: mprotect x ro rw", 3, "`mprotect V ro`"),
    (HEAD + "\n# the child\nC: read x", 5, "no process 'C' up to here; there is A"),
    (HEAD + "C: read x\nA: fork C", 3, "no process 'C'"),
    (HEAD + "A: fork A", 3, "used already"),
    (HEAD + "A: fork C\nC: exit\nA: fork C", 5, "used already"),
    (HEAD + "A: fork C\nC: exit\nC: read x", 5, "has exited on line 4"),
    (HEAD + "A: vmsplice x", 3, "`r = vmsplice V`"),
    (HEAD + "A: r = read x", 3, "`read V`"),
    (HEAD + "A: r = vmsplice x fast", 3, "`r = vmsplice V`"),
    (HEAD + "A: r = get x longterm", 3, "[fast]"),
    (HEAD + "A: r = pin x write write", 3, "pin is written"),
    (HEAD + "A: r = get x\nA: r = get x", 4, "used already"),
    (HEAD + "A: is = get x", 3, "cannot name a reference"),
    (HEAD + "A: drop r", 3, "no reference 'r'"),
    (HEAD + "A: r = get x\nA: drop r\nA: drop r", 5, "dropped on line 4"),
    (HEAD + "A: r = get x write\nA: drop r\nA: dma r 1", 5, "dropped on line 4"),
    (HEAD + "A: r = pin x\nA: dma r 1", 4, "read reference (line 3)"),
    (HEAD + "A: fork C\nA: r = get x\nC: drop r", 5, "held by A (line 4)"),
    (HEAD + "*: write x 1", 3, "done by a process"),
    (HEAD + "A: trylock-fails", 3, "`*: trylock-fails`"),
    (HEAD + "A: write x 1", 3, "condition is missing"),
    (HEAD + "exists", 3, "ends where"),
    (HEAD + "exists A.x", 3, "`==` or `is`"),
    (HEAD + "exists A.x = 1", 3, "cannot contain '='"),
    (HEAD + "exists A.x == 300", 3, "from 0 to 255"),
    (HEAD + "exists A.y == 1", 3, "no page 'y'"),
    (HEAD + "exists C.x == 1", 3, "no process 'C'"),
    (HEAD + "exists r sees 1", 3, "no reference 'r'"),
    (HEAD + "exists A.x is r", 3, "no reference 'r'"),
    (HEAD + "exists writable x", 3, "expected P.V"),
    (HEAD + "exists (A.x == 1", 3, "ends where `)`"),
    (HEAD + "exists A.x == 1)", 3, "not ')'"),
    (HEAD + "exists A.x == 1 A.x == 2", 3, "expected `and`, `or`"),
    (HEAD + "exists not", 3, "ends where"),
    (HEAD + "exists " + "not " * 2000 + "A.x == 1", 3, "nested"),
    (HEAD + "exists refused 1", 3, "number of an operation"),
    (HEAD + "A: read x\nexists refused 0", 4, "from 1 to 1"),
    (HEAD + "A: read x\nexists blocked 2", 4, "from 1 to 1"),
    (HEAD + "exists slots 1", 3, "`==`"),
    (HEAD + "exists A.x == 1\nnever A.x == 1", 4, "may follow the condition of line 3"),
    (HEAD + "exists A.x == 1\nA: read x", 4, "may follow the condition of line 3"),
]


@pytest.mark.parametrize(("text", "line", "says"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_mistake_is_one_line_that_points_at_it(text: str, line: int, says: str) -> None:
    with pytest.raises(LitmusError) as caught:
        parse(text, "bad.litmus")
    message = str(caught.value)
    assert message.startswith(f"bad.litmus:{line}: ")
    assert says in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("body", "line", "lacks"),
    [
        ("page x huge 2 file\nA: write x.1 1", 2, "huge pages of files are not in the model"),
        ("page x\npage y file\nA: mremap x y", 4, "file mappings that move are not in the model"),
    ],
)
def test_what_the_model_lacks_parses_and_is_refused_with_its_line(body: str, line: int, lacks: str) -> None:
    litmus = parse(f"litmus t\n{body}\nexists A.x == 1", "new.litmus")
    with pytest.raises(LitmusError, match=re.escape(f"new.litmus:{line}: {lacks}")):
        answered(litmus, V5_9)


@pytest.mark.parametrize(
    ("page", "lacks"), [("page x huge 2", "vma_huge"), ("page x zero", "backing-read"), ("page x file", "file")]
)
def test_a_system_without_the_features_of_a_test_is_refused(page: str, lacks: str) -> None:
    litmus = parse(f"litmus t\n{page}\nexists A.x is A.x", "new.litmus")
    with pytest.raises(LitmusError, match=f"new.litmus: v5.9 was built without {lacks}"):
        answer(litmus, V5_9, V5_9.system())


def test_comments_blank_lines_and_spacing_do_not_matter() -> None:
    plain = ask("page x\nA: r = get x write\nexists r sees 0")
    spaced = ask("\n# why\npage  x # a page\r\n  A :r=get x   write fast\n\nexists  r sees 0 # yes\n\n")
    assert plain.answer == spaced.answer == Answer.ALLOWED


def test_reading_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(LitmusError, match=r"cannot read .*absent\.litmus: No such file"):
        read(tmp_path / "absent.litmus")
    (tmp_path / "bytes.litmus").write_bytes(b"litmus t\n\xff")
    with pytest.raises(LitmusError, match=r"bytes\.litmus:2: not UTF-8"):
        read(tmp_path / "bytes.litmus")


def test_two_tests_of_one_name_are_refused_and_one_given_twice_is_one(tmp_path: Path) -> None:
    """Their answers stand in the table under their name, so that both would have the second one's."""
    one, other = tmp_path / "one.litmus", tmp_path / "other.litmus"
    for path, end in ((one, "exists A.x == 1"), (other, "exists A.x == 0")):
        path.write_text(f"litmus t\npage x\nA: write x 1\n{end}\n")
    assert [test.name for test in parse_all((path, read_text(path)) for path in (one, one))] == ["t"]
    with pytest.raises(LitmusError, match=r"other\.litmus: .*one\.litmus has a test t already"):
        parse_all((path, read_text(path)) for path in (one, other))


def mistake(text: str) -> str:
    """The message that a text gets, empty if it is a test."""
    try:
        parse(text, "t")
    except LitmusError as error:
        return str(error)
    return ""


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.text(max_size=12), max_size=8).map(lambda w: HEAD + " ".join(w))))
def test_no_text_raises_anything_but_a_litmus_error(text: str) -> None:
    assert re.fullmatch(r"t:\d+: [^\n]+", mistake(text))


WORDS = st.sampled_from(
    [
        *dict.fromkeys(o.word for o in OPERATIONS),
        "\n", "A:", "*:", "C:", "x", "y", "r", "=", "1", "2", "ro", "rw", "write", "longterm", "fast",
        *OF_ADDRESSES, "litmus", "about", "page", "exists", "never", "always", "refused", "slots", "writable",
        "(", ")", "and", "or", "not", "is", "sees", "==", "A.x", "C.x",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS, max_size=30))
def test_no_sequence_of_words_raises_anything_but_a_litmus_error(words: list[str]) -> None:
    message = mistake(HEAD + " ".join(words))
    assert not message or re.fullmatch(r"t:\d+: [^\n]+", message)


# What an answer means

FORK_WRITE = "page x\nA: write x 1\nA: fork C\nA: write x 2\n"


def test_exists_is_allowed_with_a_witness_or_forbidden_without() -> None:
    allowed, forbidden = ask(FORK_WRITE + "exists C.x == 1"), ask(FORK_WRITE + "exists C.x == 2")
    assert (allowed.answer, forbidden.answer) == (Answer.ALLOWED, Answer.FORBIDDEN)
    assert allowed.trace
    assert forbidden.trace is None


def test_never_holds_or_is_broken_with_a_trace_that_ends_in_the_condition() -> None:
    broken = ask(FORK_WRITE + "never C.x == 1")
    assert broken.answer == Answer.BROKEN
    assert broken.trace
    assert broken.trace.statement == "C.x == 1"
    assert ask(FORK_WRITE + "never C.x == 2").answer == Answer.HOLDS


def test_always_is_broken_with_a_trace_that_ends_outside_the_condition() -> None:
    broken = ask(FORK_WRITE + "always C.x == 2")
    assert broken.answer == Answer.BROKEN
    assert broken.trace
    assert broken.trace.statement == "not (C.x == 2)"
    assert ask(FORK_WRITE + "always C.x == 1").answer == Answer.HOLDS


def test_a_trace_says_which_statement_each_step_belongs_to_and_uses_the_names_of_the_test() -> None:
    found = ask("page secret\nA: write secret 7\nA: fork Child\nexists Child.secret == 7").trace
    assert found
    assert [found.label(i) for i in range(len(found.steps))] == [
        "anon-fault(p=A, v=secret, new=P)", "store(p=A, v=secret, n=7)", "fork(p=A, child=Child)",
    ]
    assert list(found.notes) == ["A: write secret 7", "A: write secret 7", "A: fork Child"]
    assert (found.kernel, found.claim) == ("v5.9", "t")


def test_a_trace_survives_writing_and_reading(tmp_path: Path) -> None:
    found = ask("page x rdonly\npage y\nA: write y 200\nexists A.y == 200").trace
    assert found
    trace.write(found, tmp_path / "t.json")
    again = trace.read(tmp_path / "t.json", lambda name: ALL_KERNELS[name].system({"vm-soft-dirty"}))
    assert again.states == found.states
    assert again.notes == found.notes


def test_a_rule_that_leaves_a_choice_gives_several_executions() -> None:
    """A kernel that may copy where it could reuse: both ends are found, and the shortest is shown."""
    system = system_with(V5_7, frozenset({"zero"}))
    copy = system.rule("wp-copy")
    may_copy = replace(copy, guard=tuple(g for g in copy.guard if "forall" not in g.sexpr()))
    assert len(may_copy.guard) == len(copy.guard) - 1
    rules = tuple(may_copy if r is copy else r for r in system.rules)
    text = "litmus t\npage x\nA: write x 1\nA: r = get x\nA: mprotect x ro\nA: mprotect x rw\nA: write x 2\n"

    def on(condition: str) -> Result:
        return answer(parse(text + condition, "t"), V5_7, replace(system, rules=rules))

    assert on("exists A.x is r").executions == 2
    assert on("exists A.x is r").answer == on("exists not A.x is r").answer == Answer.ALLOWED
    assert on("never A.x is r").answer == on("always A.x is r").answer == Answer.BROKEN
    assert on("always A.x == 2").answer == Answer.HOLDS


@pytest.mark.parametrize("condition", [
    "r sees 1", "A.x == 1", "A.x is r", "A.x is C.x", "refused 3", *(f"{word} A.x" for word in OF_ADDRESSES),
])
@pytest.mark.parametrize("kernel", [V5_7, V5_9, V6_15], ids=lambda k: k.name)
def test_the_three_questions_agree(condition: str, kernel: Kernel) -> None:
    body = "page x\nA: write x 1\nA: fork C\nC: r = pin x\nA: write x 2\n"
    some = ask(f"{body}exists {condition}", kernel).answer == Answer.ALLOWED
    assert (ask(f"{body}never {condition}", kernel).answer == Answer.BROKEN) == some
    assert (ask(f"{body}always not ({condition})", kernel).answer == Answer.BROKEN) == some


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        ("page x", "A.x == 0"),
        ("page x\nA: write x 1", "A.x == 1 and not A.x == 0"),
        ("page x\nA: write x 1\nA: munmap x", "not A.x == 1 and not A.x == 0 and not soft-dirty A.x"),
        ("page x\nA: write x 1\nA: munmap x\nA: munmap x", "not refused 3"),
        ("page x\nA: munmap x\nA: write x 1", "refused 2"),
        ("page x\nA: fork C\nC: exit", "not C.x == 0 and A.x == 0"),
        ("page x\nA: write x 1\nA: dontneed x", "A.x == 0 and not A.x is A.x"),
        ("page x\nA: write x 1\nA: r = get x\nA: drop r", "not r sees 1 and not A.x is r"),
        ("page x\nA: write x 1\nA: r = get x\nA: exit\nA: drop r", "not refused 4 and not r sees 1"),
        ("page x\nA: write x 1\nA: r = get x\nA: exit", "r sees 1"),
        ("page x\nA: write x 1\nA: r = get x write\nA: dma r 9", "A.x == 9 and r sees 9 and A.x is r"),
        ("page x\nA: munmap x\nA: r = get x write\nA: dma r 9\nA: drop r", "refused 2 and refused 3 and refused 4"),
        ("page x rdonly\nA: r = get x write", "refused 1"),
        ("page x\nA: uffd-wp x", "refused 1"),
        ("page x uffd\nA: uffd-wp x", "not refused 1"),
        ("page x\npage y\nA: write x 1\nA: fork C", "A.x is C.x and not A.y is C.y and not A.x is A.y"),
        ("page x\nA: write x 1\nA: fork C", "not writable A.x and not writable C.x and not writable C.x or C.x == 5"),
        ("page x\nA: write x 1\n*: pageout x", "A.x == 1 and slots == 1 and not A.x is A.x"),
        ("page x\nA: write x 1\n*: pageout x\n*: pageout x", "not refused 2 and refused 3"),
        ("page x\n*: extra-ref x\n*: drop-extra x", "refused 1 and refused 2"),
        ("page x\nA: write x 1\n*: extra-ref x\n*: extra-ref x\n*: drop-extra x", "refused 3 and not refused 4"),
        ("page x\nA: write x 1\nA: fork C\nA: munmap x\nC: pageout x", "C.x == 1 and slots == 1 and not refused 4"),
    ],
)
def test_conditions_say_what_people_observe(body: str, condition: str) -> None:
    for kernel in (V5_7, V5_9, V6_15):
        assert ask(f"{body}\nalways {condition}", kernel).answer == Answer.HOLDS, kernel.name


def test_a_blocked_store_ends_the_test_where_its_condition_is_looked_at() -> None:
    body = "page x uffd\nA: write x 1\nA: uffd-wp x\nA: write x 2\nA: uffd-unwp x\n"
    found = ask(body + "exists blocked 3 and A.x == 1")
    assert rules_of(found) == ["anon-fault", "store", "uffd-wp", "userfault-wait"]
    assert ask(body + "exists blocked 2 or blocked 4 or refused 4").answer == Answer.FORBIDDEN


def test_a_refused_call_is_a_step_and_the_test_goes_on() -> None:
    body = "page x\nA: write x 1\nA: r = pin x write\nA: mprotect x ro\nA: write x 2\n"
    assert "mprotect-ro-refused" in rules_of(ask(body + "exists refused 3 and A.x == 2", WRPROTECT_FAIL))
    assert ask(body + "exists refused 4 and not refused 3").answer == Answer.ALLOWED
    assert ask(body + "exists not refused 3 and not refused 4", WRPROTECT_SKIP).answer == Answer.ALLOWED


def test_reclaim_of_a_pinned_page_is_allowed_in_5_9_and_refused_from_5_11() -> None:
    body = "page x\nA: write x 1\nA: r = pin x write\n*: pageout x\nexists refused 3"
    assert ask(body, V5_9).answer == Answer.FORBIDDEN
    assert ask(body, V5_11).answer == Answer.ALLOWED


def test_a_failed_trylock_copies_once_and_only_where_the_lock_is_tried() -> None:
    protect = "A: mprotect x ro\nA: mprotect x rw\n"
    body = f"page x\nA: write x 1\n{protect}*: trylock-fails\nA: write x 2\n{protect}A: write x 3\nexists A.x == 3"

    def faults_taken(kernel: Kernel) -> list[str]:
        return [name for name in rules_of(ask(body, kernel)) if name.startswith("wp-")]

    assert faults_taken(V5_7) == ["wp-reuse", "wp-reuse"]
    assert faults_taken(V5_9) == ["wp-copy-spurious", "wp-reuse"]
    assert faults_taken(V5_19) == ["wp-reuse", "wp-reuse"], "PG_anon_exclusive needs no page lock"


def test_a_transient_reference_makes_the_count_rule_copy() -> None:
    body = "page x\nA: write x 1\nA: mprotect x ro\nA: mprotect x rw\n*: extra-ref x\nA: write x 2\nexists A.x == 2"
    assert "wp-reuse" in rules_of(ask(body, V5_7))
    assert "wp-copy" in rules_of(ask(body, V5_9))
    assert "wp-reuse" in rules_of(ask(body.replace("A: write x 2", "*: drop-extra x\nA: write x 2"), V5_9))


def test_a_read_gup_raises_write_faults_only_where_the_kernel_says_so() -> None:
    body = "page x\nA: write x 1\nA: fork C\nC: r = vmsplice x\nexists r sees 1"
    assert rules_of(ask(body, V5_8))[-2:] == ["wp-copy", "get-read"]
    assert rules_of(ask(body, V5_9))[-2:] == ["fork", "get-read"]
    pinned = body.replace("vmsplice", "pin")
    assert rules_of(ask(pinned, V5_19))[-2:] == ["unshare-copy", "pin-read"]
    loaded = body.replace("r = vmsplice", "read").replace("r sees", "C.x ==")
    assert all(rules_of(ask(loaded, k))[-2:] == ["fork", "load"] for k in KERNELS)


def test_a_forced_write_fault_swaps_in_as_a_write_and_not_as_a_read() -> None:
    """A read fault would map the page read-only, and this kernel would then copy it."""
    copies = V5_8.but("copies", "never reuses", reuse=never)
    found = ask("page x\nA: write x 1\nA: r = get x write\n*: pageout x\nA: t = get x\nalways A.x is r", copies)
    assert found.answer == Answer.HOLDS


def test_a_forced_write_fault_in_a_read_only_mapping_copies_read_only() -> None:
    body = "page x\nA: write x 1\nA: mprotect x ro\nA: fork C\n*: pageout x\nC: r = vmsplice x\n"
    found = ask(body + "exists r sees 1 and not writable C.x", V5_8)
    assert rules_of(found)[-3:] == ["swap-in-read", "unshare-copy", "get-read"]


def test_two_pages_and_three_processes_do_not_run_out_of_frames() -> None:
    body = "page x\npage y\nA: write x 1\nA: write y 2\nA: r = pin x write\nA: t = pin y write\nA: fork C\nA: fork D\n"
    writes = "".join(f"{p}: write {v} {n}\n" for n, (p, v) in enumerate(((p, v) for p in "ACD" for v in "xy"), 10))
    seen = "A.x == 10 and A.y == 11 and C.x == 12 and C.y == 13 and D.x == 14 and D.y == 15"
    for kernel in (V5_7, V5_9, V5_14, V6_15):
        assert ask(f"{body}{writes}always {seen}", kernel).answer == Answer.HOLDS, kernel.name


def test_detached_pages_and_swapped_ones_do_not_run_out_of_frames_or_slots() -> None:
    detach = "".join(f"A: write x {n}\n*: extra-ref x\nA: dontneed x\n" for n in (1, 2, 3))
    swap = "A: write x 4\nA: write y 5\n*: pageout x\n*: pageout y\n"
    seen = "A.x == 4 and A.y == 5 and slots == 2"
    assert ask(f"page x\npage y\n{detach}{swap}always {seen}").answer == Answer.HOLDS


# Pages that are not plain

HUGE = "page x huge 2\nA: write x 1\n"


@pytest.mark.parametrize(
    ("body", "condition"),
    [
        ("page x huge 3", "A.x == 0 and writable A.x and not A.x.0 is A.x.2"),
        ("page x huge 2 rdonly", "A.x == 0 and not writable A.x.0 and not writable A.x.1"),
        ("page x huge 2 zero", "A.x == 0 and A.x.0 is A.x.1 and not writable A.x.0"),
        ("page x huge 2 zero\nA: write x.0 1", "A.x.0 == 1 and A.x.1 == 0 and not A.x == 1 and not A.x == 0"),
        ("page x huge 2\npage y\nA: write x 1\nA: write y 2", "A.x == 1 and A.y == 2"),
        ("page x zero\npage y zero", "A.x is A.y and A.x == 0"),
        ("page x zero\nA: read x\nA: write x 1\nA: dontneed x\nA: read x", "A.x == 0 and not writable A.x"),
        ("page x file\nA: read x\nA: write x 1\nA: dontneed x\nA: read x", "A.x == 0 and not writable A.x"),
        ("page x file\npage y", "not A.x is A.x and A.x == 0 and A.y == 0"),
        (HUGE, "A.x == 1 and A.x.0 == 1 and A.x.1 == 1 and writable A.x and soft-dirty A.x and not A.x == 2"),
        (HUGE + "A: write x.1 2", "A.x.0 == 1 and A.x.1 == 2 and not A.x == 1 and not A.x == 2"),
        (HUGE + "A: mprotect x.0 ro", "not writable A.x.0 and writable A.x.1 and not writable A.x"),
        (HUGE + "A: r = get x\nA: drop r.0", "r.1 sees 1 and not r sees 1 and A.x.1 is r.1 and not A.x is r"),
        (HUGE + "A: r = get x write\nA: dma r 5", "A.x == 5 and r sees 5 and A.x is r"),
        (HUGE + "A: r = get x write\nA: dma r.1 5", "A.x.0 == 1 and A.x.1 == 5 and not r sees 5 and not r sees 1"),
        (HUGE + "A: r = get x\nA: drop r", "not r.0 sees 1 and not r.1 sees 1"),
        (HUGE + "A: fork C", "A.x is C.x and A.x.0 is C.x.0 and not A.x.0 is C.x.1"),
        (HUGE + "A: munmap x.1\nA: write x 2", "A.x.0 == 2 and refused 3 and not refused 2"),
        (HUGE + "A: munmap x.0\nA: write x 2", "A.x.1 == 1 and refused 3"),
        (HUGE + "A: munmap x.1\nA: r = get x", "refused 3 and r.0 sees 1 and not r.1 sees 1"),
        (HUGE + "A: munmap x.0\n*: extra-ref x", "refused 3"),
        (HUGE + "A: munmap x\nA: munmap x", "not refused 3 and not A.x.0 == 1 and not A.x.1 == 1"),
        (HUGE + "A: munmap x\n*: pageout x\n*: split x", "refused 3 and refused 4"),
        (HUGE + "*: pageout x", "A.x == 1 and slots == 2 and not A.x.0 is A.x.0"),
        (HUGE + "*: pageout x.1\nA: read x", "A.x == 1 and A.x.0 is A.x.0"),
        (HUGE + "*: split x\n*: split x.1", "not refused 2 and not refused 3"),
        (HUGE + "A: r = get x.1\n*: split x\n*: split x.0", "refused 3 and refused 4"),
        (HUGE + "A: dontneed x\nA: write x.1 2", "A.x.0 == 0 and A.x.1 == 2 and writable A.x"),
        (HUGE + "A: fork C\n*: split x\nA: write x 2\nC: write x.0 3", "A.x == 2 and C.x.0 == 3 and C.x.1 == 1"),
        ("page x huge 2\npage y huge 2\nA: write x 1\nA: mremap x y", "A.y == 1 and not A.x.0 == 1 and not refused 2"),
        ("page x huge 2\npage y\nA: write x 1\nA: write y 1\n*: ksm x.1 y", "A.x.1 is A.y and A.x == 1"),
    ],
)
def test_huge_zero_and_file_pages_are_what_they_say(body: str, condition: str) -> None:
    for kernel in (V4_8, V5_7, V5_9, V5_18, V6_15):
        assert ask(f"{body}\nalways {condition}", kernel).answer == Answer.HOLDS, kernel.name


def test_an_operation_on_a_whole_huge_page_is_one_step_where_there_is_a_rule_for_it() -> None:
    assert rules_of(ask(HUGE + "A: mprotect x ro\nexists not writable A.x")) == ["store", "store", "mprotect-ro-range"]
    assert rules_of(ask(HUGE + "A: mprotect x.1 ro\nexists not writable A.x")) == [
        "store", "store", "split-pmd", "mprotect-ro",
    ]
    assert rules_of(ask(HUGE + "A: munmap x\nexists not A.x.1 == 1")) == [
        "store", "store", "split-pmd", "munmap", "munmap",
    ]
    refused = ask("page x huge 2\nA: uffd-wp x\nexists refused 1")
    assert rules_of(refused) == ["uffd-wp-range-refused"]


def test_a_large_folio_is_split_before_its_pages_go_their_own_ways() -> None:
    assert rules_of(ask(HUGE + "*: pageout x.0\nexists slots == 1")) == [
        "store", "store", "split-folio", "swap-out", "reclaim-swap-cache",
    ]
    refused = ask(HUGE + "A: r = pin x.1\n*: pageout x\nexists refused 3 and A.x == 1")
    assert rules_of(refused) == ["store", "store", "pin-read", "swap-out-refused", "swap-out-refused"]


@pytest.mark.parametrize(
    ("body", "features"),
    [
        ("page x uffd\nA: write x 1\nA: r = pin x write longterm fast\n*: pageout x", ""),
        ("page x\nA: read x", "zero"),
        ("page x\nA: r = vmsplice x", "zero"),
        ("page x zero", "zero"),
        ("page x file", "file"),
        ("page x huge 2", "huge zero"),
        ("page x file 7", "file"),
        ("page x\n*: split x", "huge"),
        ("page x\npage y\n*: ksm x y", "ksm"),
        ("page x\nA: unmerge x", "ksm"),
        ("page x\n*: migrate x", "migration"),
        ("page x\n*: numa x", "numa"),
        ("page x\nA: madv-free x", "lazyfree"),
        ("page x\nA: guard-install x", "guard"),
        ("page x\nA: madv-dofork x", "madv-fork"),
        ("page x\nA: populate x write", "populate"),
        ("page x\nA: populate x", "populate zero"),
        ("page x\nA: force-write x 1", "force zero"),
        ("page x\npage y\nA: mremap x y", "mremap"),
        ("page x file\nA: uffd-continue x", "file force"),
        ("page x\nsplit tlb gup-fast", "tlb gup-fast"),
        ("page x\nA: mprotect x rwx", "exec"),
        ("page x\n*: pageout x writing stable", "stable-writes"),
        ("page x\n*: pageout x writing\n*: writeback-end x", ""),
    ],
)
def test_the_words_of_a_test_say_which_features_it_needs(body: str, features: str) -> None:
    assert parse(f"litmus t\n{body}\nexists A.x == 0", "t").features == {*features.split(), "vm-soft-dirty"}


@pytest.mark.parametrize(
    ("name", "broken", "holds"), [("part-of-a-huge-page", V5_9, V5_7), ("fork-and-fast", V5_9, V5_11)]
)
def test_the_examples_of_the_description_of_the_language(name: str, broken: Kernel, holds: Kernel) -> None:
    text = (ROOT / "docs" / "litmus.md").read_text(encoding="utf-8")
    example = re.search(rf"```\n(litmus {name}\n.*?)```", text, re.S)
    assert example
    litmus = parse(example.group(1), "litmus.md")
    assert answered(litmus, broken).answer == Answer.BROKEN
    assert answered(litmus, holds).answer == Answer.HOLDS


# Operations that run at the same time


def test_the_steps_of_operations_on_one_line_interleave_in_every_way() -> None:
    # Stores to two pages commute: one end. To one page: one end for each that may be the last.
    commute = "page x\npage y\nA: write x 1\nA: write y 2\nA: write x 3 || A: write y 4\n"
    assert ask(commute + "always A.x == 3 and A.y == 4").executions == 1
    writers = "page x\nA: write x 1 || A: write x 2 || A: write x 3\n"
    assert ask(writers + "exists A.x == 0").executions == 3
    for n in (1, 2, 3):
        assert ask(f"{writers}exists A.x == {n}").answer == Answer.ALLOWED
    assert ask(writers + "exists A.x == 0").answer == Answer.FORBIDDEN


def test_one_after_the_other_is_among_the_interleavings_and_the_shortest_is_shown() -> None:
    body = "page x\nA: write x 1\nA: fork C || A: write x 2\n"
    before, after = ask(body + "exists C.x == 2"), ask(body + "exists C.x == 1")
    assert rules_of(before) == ["anon-fault", "store", "store", "fork"]
    assert rules_of(after) == ["anon-fault", "store", "fork", "wp-copy", "store"]
    assert after.trace
    assert list(after.trace.notes)[2:] == ["A: fork C", "A: write x 2", "A: write x 2"]
    between = ask("page x\nA: write x 1\nA: write x 2 || A: fork C || A: munmap x\nexists C.x == 1 and refused 2")
    assert rules_of(between) == ["anon-fault", "store", "fork", "munmap", "store-refused"]


def test_others_come_between_a_fault_and_what_it_was_for() -> None:
    body = "page x\nA: write x 1\nA: fork C\n"
    assert ask(body + "A: write x 2 || C: munmap x\nalways A.x == 2").executions == 2
    race = ask(body + "A: r = get x write || A: mprotect x ro\nexists refused 3", V5_7)
    assert rules_of(race)[-2:] == ["mprotect-ro", "gup-write-refused"]
    assert ask(body + "A: r = get x write || A: mprotect x ro\nnever refused 3 and refused 4").answer == Answer.HOLDS


def test_each_operation_of_a_line_has_its_own_number() -> None:
    body = "page x\nA: munmap x\nA: munmap x || A: write x 1 || A: read x\nA: write x 2\n"
    numbers = "refused 3 and refused 4 and refused 5 and not refused 1 and not refused 2"
    assert ask(f"{body}always {numbers}").answer == Answer.HOLDS


PROTECTED = "page x uffd\nA: write x 1\nA: uffd-wp x\n"


def test_who_waits_for_the_monitor_goes_on_when_another_thread_un_protects() -> None:
    body = PROTECTED + "A: write x 2 || A: uffd-unwp x\n"
    assert ask(body + "always A.x == 2 and not blocked 3").answer == Answer.HOLDS
    assert rules_of(ask(body + "exists A.x == 2"))[3:] == ["uffd-unwp", "wp-reuse", "store"]


def test_a_line_on_which_somebody_waits_is_the_last_one_and_the_others_of_it_are_done() -> None:
    body = PROTECTED + "A: write x 2 || A: fork C\nA: munmap x\n"
    assert ask(body + "always blocked 3 and not blocked 4 and A.x == 1 and C.x == 1").answer == Answer.HOLDS
    both = PROTECTED + "A: write x 2 || A: r = get x write\nA: munmap x\n"
    assert ask(both + "always blocked 3 and blocked 4 and A.x == 1").answer == Answer.HOLDS


# Sub-steps


def test_sub_steps_of_a_rule_are_taken_to_the_last_one() -> None:
    body = "page x\nsplit gup-fast copy fork tlb\nA: write x 1\nA: fork C\n"
    assert rules_of(ask(body + "A: write x 2\nexists A.x == 2"))[2:] == [
        "fork.test", "fork.copy", "fork.finish", "wp-copy.decide", "wp-copy.copy", "wp-copy.install", "store",
    ]
    assert rules_of(ask(body + "C: r = get x fast\nexists r sees 1"))[5:] == [
        "fast-get-read.read", "fast-get-read.grab", "fast-get-read.check",
    ]
    assert rules_of(ask(body + "C: r = get x\nexists r sees 1"))[5:] == ["get-read"], "not asked to be fast"
    swapped = ask("page x\nsplit swap-out\nA: write x 1\n*: pageout x\nexists slots == 1")
    assert rules_of(swapped)[2:] == ["swap-out.add", "swap-out-cached", "reclaim-swap-cache"]


def test_a_spurious_copy_goes_on_as_any_other() -> None:
    body = "page x\nsplit copy\nA: write x 1\nA: mprotect x ro\nA: mprotect x rw\n*: trylock-fails\nA: write x 2\n"
    assert rules_of(ask(body + "exists A.x == 2"))[4:] == [
        "wp-copy-spurious.decide", "wp-copy.copy", "wp-copy.install", "store",
    ]


def test_gup_fast_falls_back_where_it_cannot_or_has_to_give_back() -> None:
    untouched = "page x\nsplit gup-fast\nA: r = get x write fast\nexists r sees 0"
    assert rules_of(ask(untouched)) == ["anon-fault", "get-write"]
    body = "page x\nsplit gup-fast\nA: write x 1\nA: r = get x write fast || A: mprotect x ro\n"
    undone = ask(body + "exists refused 2")
    assert rules_of(undone)[2:] == ["mprotect-ro", "gup-write-refused"]
    raced = ask(body.replace("|| A: mprotect x ro", "|| A: dontneed x") + "exists r sees 0 and A.x is r")
    assert rules_of(raced)[2:] == ["dontneed", "anon-fault", "get-write"]
    # Read, zapped, given up, faulted in anew.
    assert ask(body + "never r sees 1 and not A.x is r").answer == Answer.HOLDS


def test_who_wants_a_lock_waits_for_who_holds_it() -> None:
    body = "page x\nsplit fork copy tlb\nA: write x 1\nA: fork C || A: mprotect x ro || A: dontneed x\n"
    found = ask(body + "always not refused 2 and not refused 3 and not refused 4")
    assert found.answer == Answer.HOLDS
    assert not found.reason
    assert ask(body + "exists C.x == 1 and A.x == 0").answer == Answer.ALLOWED


def test_a_store_through_a_stale_tlb_entry_is_one_more_thing_that_a_write_may_be() -> None:
    body = "page x\nA: write x 1\nA: clear-soft-dirty || A: write x 2\nexists A.x == 2 and not writable A.x"
    # Without the entry: before the PTE is protected, while the page is still soft-dirty, or after a fault.
    assert rules_of(ask(body))[2:] == ["store", "clear-soft-dirty"]
    split = body.replace("A: write x 1", "split tlb\nA: write x 1")
    assert rules_of(ask(split))[2:] == ["clear-soft-dirty.change", "tlb-store", "clear-soft-dirty.flush"]


def test_reclaim_that_finds_the_page_gone_between_its_sub_steps_is_refused() -> None:
    body = "page x\nsplit swap-out\nA: write x 1\nA: munmap x || *: pageout x\n"
    found = ask(body + "always slots == 0 and not A.x == 1")
    assert found.answer == Answer.HOLDS
    assert not found.reason


# What the model cannot follow


def test_an_operation_without_a_rule_makes_the_answer_unknown_with_the_reason() -> None:
    litmus = parse("litmus t\npage x\n\nA: r = pin x\nnever r sees 1", "t")
    found = answer(litmus, V5_9, system_with(V5_9, litmus.features).without(["map-backing"]))
    assert found.answer == Answer.UNKNOWN
    assert found.executions == 0
    assert found.trace is None
    assert found.reason == "line 4: no rule of v5.9 applies to `A: r = pin x`"


def test_how_a_whole_huge_page_moves_by_userfaultfd_is_unknown_and_not_told_as_its_parts() -> None:
    """move_pages_huge_pmd leaves it whole where both sides are aligned; a part of it splits it."""
    body = "page x huge 2\npage y huge 2\nA: write x 1\nA: dontneed y\nA: uffd-register y missing\n"
    found = ask(body + "A: uffd-move x y\nexists huge A.y", V7_2)
    assert found.answer == Answer.UNKNOWN
    assert found.reason == "line 7: no rule of v7.2 applies to `A: uffd-move x y`"
    assert ask(body + "*: split x\nA: uffd-move x y\nexists A.y == 1 and not huge A.y", V7_2).answer == Answer.ALLOWED


@pytest.mark.parametrize("lines", [
    "A: mmap x.0\nA: mmap x.1", "A: mmap x\nA: clear-soft-dirty\nA: mmap x.1", "A: mremap y x.0\nA: mmap x.1",
    "A: mmap x.0\nA: mremap y x.1",
])
def test_new_mappings_that_may_merge_are_not_in_the_model(lines: str) -> None:
    """__mmap_complete makes what merges soft-dirty as a whole; what mremap brought has another anon_vma and index."""
    with pytest.raises(LitmusError, match="mapped anew beside others that were are not in the model"):
        ask(f"page x huge 2\npage y\n{lines}\nexists soft-dirty A.x.0")


@pytest.mark.parametrize("lines", [
    "A: mmap x.0\nA: mmap x.0", "A: mmap x.0\nA: mmap x", "A: mmap x\nA: mmap y", "A: mremap y x.0\nA: mremap z x.1",
])
def test_other_new_mappings_are(lines: str) -> None:
    assert ask(f"page x huge 2\npage y\npage z\n{lines}\nexists soft-dirty A.x.0").answer == Answer.ALLOWED


@pytest.mark.parametrize(("lines", "lacks"), [
    ("A: fork C\nC: ksm x y\nA: pageout x", True), ("A: fork C\nC: ksm x y\n*: migrate y", True),
    ("A: fork C\nA: ksm x y\nA: pageout x", False), ("A: fork C\nC: write x 1\nC: ksm x y\nA: pageout x", False),
    ("A: ksm x y\nA: fork C\nC: pageout x", False),
])
def test_what_no_walk_of_a_reverse_mapping_finds_is_not_in_the_model(lines: str, lacks: bool) -> None:
    """rmap_walk_ksm goes by the anon_vma of whose memory was merged: a child's does not lead to its parent. Seen on
    6.1, 6.12, 7.2 and 7.3-rc7, which all keep the page."""
    body = f"page x\npage y\nA: write x 1\nA: write y 1\n{lines}\nexists swapped A.x"
    if lacks:
        with pytest.raises(LitmusError, match="its parent maps, are not in the model"):
            ask(body, V7_2)
    else:
        ask(body, V7_2)


@pytest.mark.parametrize(("kernel", "protected"), [(V6_4_0, Answer.FORBIDDEN), (V6_12, Answer.ALLOWED)])
def test_a_scan_that_fails_has_protected_the_vmas_before(kernel: Kernel, protected: Answer) -> None:
    """pagemap_scan_test_walk says EPERM when it comes to the VMA that is not tracked, read in 6.12.118 and 7.2.13."""
    body = "page x huge 2 async\nA: uffd-register x.{} wp\nA: write x.{} 1\nA: pagemap-scan x\nexists uffd-wp A.x.{}"
    assert ask(body.format(0, 0, 0), kernel).answer == protected
    assert ask(body.format(1, 1, 1), kernel).answer == Answer.FORBIDDEN


@pytest.mark.parametrize(("kernel", "refused"), [(V6_1, Answer.HOLDS), (V6_12, Answer.BROKEN)])
def test_nobody_continues_where_the_kernel_has_no_such_userfaultfd(kernel: Kernel, refused: Answer) -> None:
    """UFFDIO_API refuses features that it does not know, so nothing is registered; found at random on a real 6.1."""
    assert ask("page x file unpopulated\nA: uffd-continue x\nalways refused 1", kernel).answer == refused


@pytest.mark.parametrize(("protect", "soft_dirty"), [("x", Answer.ALLOWED), ("x.0", Answer.FORBIDDEN)])
def test_ptes_that_differ_in_uffd_wp_are_not_changed_together(protect: str, soft_dirty: Answer) -> None:
    """__pte_batch_clear_ignored leaves the bit in what pte_same compares, read in 7.2.13."""
    ptes = "page x huge 2\nA: mprotect x.1 ro\nA: mprotect x.1 rw\nA: uffd-register x wp\n"
    body = f"{ptes}A: uffd-wp {protect}\nA: clear-soft-dirty\nA: mprotect x ro\nexists soft-dirty A.x.0"
    assert ask(body, V7_2).answer == soft_dirty


def test_a_kernel_whose_faults_never_help_is_unknown_and_not_vacuously_fine() -> None:
    stubborn = V5_19.but("stubborn", "read GUP never content", read_gup=lambda *_: z3.BoolVal(False), unshare=always)
    body = "page x\nA: write x 1\nA: fork C\nA: r = pin x\nnever r sees 1"
    found = ask(body, stubborn)
    assert found.answer == Answer.UNKNOWN
    assert found.reason == "line 5: on stubborn `A: r = pin x` faults for ever"


def test_a_kernel_of_ones_own_is_answered_like_any_other() -> None:
    copies = V5_7.but("copies", "always copies", reuse=never)
    body = "page x\nA: write x 1\nA: r = pin x write\nA: clear-soft-dirty\nA: write x 2\nnever r sees 1"
    assert ask(body, V5_7).answer == Answer.HOLDS
    assert ask(body, copies).answer == Answer.BROKEN


# Random programs


@st.composite
def programs(draw: st.DrawFn) -> str:
    """A valid test of up to eight operations by up to three processes on two pages, without its condition."""
    lines = ["litmus random", "page x uffd", f"page y{draw(st.sampled_from(['', ' uffd', ' rdonly']))}"]
    processes, gone, references, dropped = ["A"], set[str](), dict[str, tuple[str, bool]](), set[str]()
    for _ in range(draw(st.integers(1, 8))):
        alive = [p for p in processes if p not in gone]
        kernel = ["* pageout", "* extra-ref", "* drop-extra", "* trylock-fails"]
        user = ["write", "read", "munmap", "dontneed", "ro", "rw", "get", "pin", "uffd-wp", "uffd-unwp", "clear"]
        life = (["fork"] if len(processes) < 3 else []) + (["exit"] if len(alive) > 1 else [])
        held = [r for r in references if r not in dropped]
        action = draw(st.sampled_from(kernel + user * 2 + life + (["drop", "dma"] if held else [])))
        p, v = draw(st.sampled_from(alive)), draw(st.sampled_from("xy"))
        n = draw(st.integers(1, 3))
        match action:
            case "write":
                lines.append(f"{p}: write {v} {n}")
            case "ro" | "rw":
                lines.append(f"{p}: mprotect {v} {action}")
            case "get" | "pin":
                write = draw(st.booleans())
                name = f"r{len(references)}"
                references[name] = (p, write)
                lines.append(f"{p}: {name} = {action} {v}{' write' if write else ''}")
            case "clear":
                lines.append(f"{p}: clear-soft-dirty")
            case "fork":
                processes.append("CD"[len(processes) - 1])
                lines.append(f"{p}: fork {processes[-1]}")
            case "exit":
                gone.add(p)
                lines.append(f"{p}: exit")
            case "drop":
                name = draw(st.sampled_from(held))
                dropped.add(name)
                lines.append(f"{references[name][0]}: drop {name}")
            case "dma":
                name = draw(st.sampled_from(held))
                if references[name][1]:
                    lines.append(f"{references[name][0]}: dma {name} {n}")
            case "* trylock-fails":
                lines.append("*: trylock-fails")
            case _ if action.startswith("* "):
                lines.append(f"*: {action[2:]} {v}")
            case _:
                lines.append(f"{p}: {action} {v}")
    places = [f"{p}.{v}" for p in processes for v in "xy"]
    place = draw(st.sampled_from(places))
    facts = [f"{place} == {draw(st.integers(0, 3))}", *(f"{word} {place}" for word in OF_ADDRESSES)]
    facts += [f"{r} sees 1" for r in references] + [f"A.x is {r}" for r in references]
    chosen = draw(st.lists(st.sampled_from(facts), min_size=1, max_size=3))
    return "\n".join(lines) + "\n{mode} " + draw(st.sampled_from([" and ", " or "])).join(chosen)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(programs(), st.sampled_from(KERNELS))
def test_random_programs_get_consistent_answers_with_traces_that_execute(program: str, kernel: Kernel) -> None:
    results = {}
    for mode in ("exists", "never", "always"):
        litmus: Litmus = parse(program.format(mode=mode), "random")
        found = results[mode] = answered(litmus, kernel)
        assert (found.trace is not None) == (found.answer in (Answer.ALLOWED, Answer.BROKEN))
        assert found.executions or found.reason
        assert not found.reason, "nothing is missing: no scope is too small"
        if found.trace:
            t = found.trace
            again = trace.execute(t.kernel, t.claim, t.statement, t.system, t.scope, t.steps, start=t.states[0])
            assert again.states == t.states
            assert len(t.notes) == len(t.steps)
    assert (results["exists"].answer == Answer.ALLOWED) == (results["never"].answer == Answer.BROKEN)
    assert (results["exists"].answer == Answer.FORBIDDEN) == (results["never"].answer == Answer.HOLDS)
    if results["always"].answer == Answer.HOLDS:
        assert results["exists"].answer == Answer.ALLOWED


ANYTHING = (
    "{p}: write {v} 1", "{p}: write {v} 2", "{p}: read {v}", "{p}: r{i} = get {v} fast", "{p}: r{i} = get {v} write",
    "{p}: r{i} = pin {v} write fast", "{p}: r{i} = pin {v} longterm", "{p}: munmap {v}", "{p}: dontneed {v}",
    "{p}: mprotect {v} ro", "{p}: mprotect {v} rw", "{p}: uffd-wp {v}", "{p}: uffd-unwp {v}", "{p}: clear-soft-dirty",
    "{p}: madv-free {v}", "{p}: unmerge {v}", "{p}: force-write {v} 2", "{p}: uffd-continue {v}", "{p}: mremap {v} {w}",
    "*: ksm {v} {w}", "{p}: pageout {v}", "*: migrate {v}", "*: numa {v}", "*: split {v}", "*: collapse {v}",
    "*: extra-ref {v}", "*: drop-extra {v}", "*: trylock-fails", "A: fork C", "A: fork D",
)


@st.composite
def crowds(draw: st.DrawFn) -> str:
    """A test of up to four lines of up to three operations at the same time, on pages of any kind, in sub-steps."""
    kinds = [draw(st.sampled_from(("", "huge 2", "zero", "file", "huge 2 zero"))) for _ in "xy"]
    flags = [draw(st.sampled_from(("", "uffd", "rdonly"))) for _ in "xy"]
    lines = ["litmus crowd", *(f"page {v} {kind} {flag}" for v, kind, flag in zip("xy", kinds, flags, strict=True))]
    lines += [f"split {name}" for name in [draw(st.sampled_from((*SPLIT, "")))] if name]
    parts = {True: ("", ".0", ".1"), False: ("",)}
    places = [v + part for v, kind in zip("xy", kinds, strict=True) for part in parts["huge" in kind]]
    processes = ["A"]
    for line in range(draw(st.integers(1, 4))):
        group = [draw(st.sampled_from(ANYTHING)) for _ in range(draw(st.sampled_from((1, 1, 2, 3))))]
        said = [
            text.format(
                p=draw(st.sampled_from(processes)), v=draw(st.sampled_from(places)), w=draw(st.sampled_from(places)),
                i=f"{line}{number}",
            ) for number, text in enumerate(group)
        ]
        processes += [s[-1] for s in dict.fromkeys(said) if "fork" in s]
        lines.append(" || ".join(said))
    mode, place = draw(st.sampled_from(("exists", "never", "always"))), draw(st.sampled_from(places))
    return "\n".join([*lines, f"{mode} A.{place} == 1"])


@pytest.mark.parametrize("kernel", ["debian-5.10", "v6.12"])
def test_reclaim_of_a_page_that_is_not_mapped_splits_no_other(kernel: str) -> None:
    """It splits the folio that it is to take, and finds none where nobody has touched anything."""
    text = "page x\npage y huge 2\n*: pageout x\nexists {}"
    assert ask(text.format("refused 1 and huge A.y"), ALL_KERNELS[kernel]).answer is Answer.ALLOWED
    assert ask(text.format("not refused 1 or not huge A.y"), ALL_KERNELS[kernel]).answer is Answer.FORBIDDEN


def test_an_operation_on_two_pages_prepares_each_again_if_another_undid_it() -> None:
    """mremap has split the PMD where it moves to, khugepaged collapses the block, mremap splits it again."""
    test = parse(
        "litmus t\npage x\npage y huge 2\n*: collapse y || A: mremap x y.0\nA: write x 1\nexists refused 3", "t"
    )
    found = answer(test, V5_9, system_with(V5_9, test.features))
    assert (found.answer, found.reason) == (Answer.ALLOWED, "")


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(crowds(), st.sampled_from((V4_8, V5_9, V6_15)))
def test_nothing_is_missing_for_any_operations_at_the_same_time(program: str, kernel: Kernel) -> None:
    # A process of the same name twice, a whole and a part together, and the like.
    assume(not mistake(program))
    litmus = parse(program, "crowd")
    assume(not litmus.missing)
    found = answer(litmus, kernel, system_with(kernel, litmus.split.union(WORLD)))
    assert found.executions
    assert not found.reason, "no scope is too small, and nobody waits for ever"
