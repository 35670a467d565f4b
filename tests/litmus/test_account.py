"""What is told of an answer: when it is vacuous and by which line, what was refused, what is newer, the ends."""

from __future__ import annotations

import pytest

from model.kernels import (
    DEBIAN_5_10,
    FURTHER,
    KERNELS,
    V4_8,
    V4_14,
    V5_7,
    V5_9,
    V5_11,
    V5_12,
    V5_16,
    V5_19,
    V7_2,
    WRPROTECT_FAIL,
    Kernel,
)
from model.releases import release_of
from proofs.data import SUITE
from proofs.errors import LitmusError
from proofs.litmus.account import Account, account
from proofs.litmus.execution import Answer
from proofs.litmus.parser import parse, read
from proofs.naming.specs import system_with


def told(text: str, kernel: Kernel = V5_9, with_endings: bool = False) -> Account:
    """The account of a test of which `text` is all but the name; its first line is the test's second."""
    test = parse(f"litmus t\n{text}", "t.litmus")
    return account(test, kernel, system_with(kernel, test.features), with_endings)


# Vacuous

GONE = "page x\nA: write x 1\nA: munmap x\nA: r = pin x write\n"


@pytest.mark.parametrize(("question", "answer"), [
    ("never r sees 1", Answer.HOLDS), ("exists r sees 1", Answer.FORBIDDEN), ("exists not r sees 1", Answer.ALLOWED),
    ("always r sees 1", Answer.BROKEN), ("never A.x is r", Answer.HOLDS), ("never r sees 1 and A.x == 0", Answer.HOLDS),
])
def test_a_condition_on_a_reference_that_was_never_taken_is_vacuous_and_the_line_is_named(
    question: str, answer: Answer
) -> None:
    found = told(GONE + question)
    assert found.result.answer == answer
    assert found.vacuous == "line 5: `A: r = pin x write` is refused, so that r is never taken"


@pytest.mark.parametrize("question", [
    # What is left of the condition is a question still.
    "never r sees 1 or A.x == 1", "exists refused 3 and not r sees 1", "exists A.x == 0 and not r sees 1",
])
def test_a_condition_that_can_be_otherwise_for_another_reason_is_not(question: str) -> None:
    assert told(GONE + question).vacuous == ""


def test_what_comes_after_an_operation_that_waits_was_never_there() -> None:
    waits = "page x uffd\nA: write x 1\nA: uffd-wp x\nA: write x 2\nA: r = pin x\nA: fork C\nA: write x 3\n"
    line = "line 5: `A: write x 2` waits for the userfaultfd monitor and line {} is not reached, so that {}"
    assert told(waits + "never r sees 2").vacuous == line.format(6, "r is never taken")
    assert told(waits + "never C.x == 1").vacuous == line.format(7, "C is never forked")
    assert told(waits + "never A.x == 3").vacuous == line.format(8, "3 is never stored")
    # Whether a store was done is what its value is there to say.
    assert told(waits + "never A.x == 2").vacuous == ""


def test_a_value_that_nothing_stores_is_told() -> None:
    found = told("page x\nA: write x 1\nA: fork C\nA: write x 2\nnever C.x == 3")
    assert (found.result.answer, found.vacuous) == (Answer.HOLDS, "no operation stores 3")
    assert told("page x file 3\nA: write x 1\nnever A.x == 3").vacuous == ""


@pytest.mark.parametrize(("page", "condition", "without"), [
    ("x", "exists swapped A.x", "`pageout`"), ("x", "never ksm A.x", "`ksm`"), ("x", "exists huge A.x", "`huge`"),
    ("x", "never movable A.x", "`movable` or `cma`"),
    ("x", "exists written A.x", "`async`"), ("x", "exists uffd-wp A.x", "`uffd-wp` or `uffd-copy` or `pagemap-scan`"),
    ("x huge 2", "exists swapped A.x.0 and huge A.x", "`pageout`"),
])
def test_what_an_address_is_in_no_test_without_a_certain_word_is_told(page: str, condition: str, without: str) -> None:
    """Nothing pages out, merges, protects or is declared huge: the kernel was asked nothing."""
    found = told(f"page {page}\nA: write x 1\n{condition}")
    assert found.vacuous.startswith("nothing is ever ")
    assert found.vacuous.endswith(f" in a test without {without}")


@pytest.mark.parametrize("body", [
    "page x\nA: write x 1\n*: pageout x\nexists swapped A.x", "page x huge 2\nA: write x 1\nexists huge A.x",
    "page x uffd\nA: write x 1\nA: uffd-wp x\nnever uffd-wp A.x", "page x\nA: write x 1\nnever swapped A.x or A.x == 1",
])
def test_where_it_may_be_so_nothing_is_told(body: str) -> None:
    assert told(body).vacuous == ""


def test_a_kernel_without_exclusive_pages_is_told_to_be_so() -> None:
    """"always exclusive" is Broken before 5.19, and no fault of a kernel that has no such flag."""
    body = "page x\nA: write x 1\nalways exclusive A.x"
    assert (told(body, V5_9).result.answer, told(body, V7_2).result.answer) == (Answer.BROKEN, Answer.HOLDS)
    assert told(body, V5_9).notes == ("`exclusive` is true of no page there: PG_anon_exclusive came with 5.19",)
    assert told(body, V7_2).notes == ()


def test_a_condition_that_contradicts_itself_is_told() -> None:
    found = told("page x\nA: write x 1\nnever writable A.x and not writable A.x")
    assert found.vacuous == "the condition is the same whatever the test ends in"


def test_of_a_huge_page_some_references_may_have_been_taken_before_one_was_refused() -> None:
    body = "page x huge 2\nA: write x 1\nA: munmap x.1\nA: r = pin x write\n"
    assert told(body + "never r.0 sees 1").vacuous == ""
    refused = "line 5: `A: r = pin x write` is refused, so that r.1 is never taken"
    assert told(body + "never r.1 sees 1").vacuous == refused


def test_an_end_in_which_the_reference_is_there_is_enough() -> None:
    """A pin beside the unmapping of its page is taken, or refused."""
    found = told("page x\nA: write x 1\nA: r = pin x || A: munmap x\nnever r sees 1")
    assert (found.result.answer, found.vacuous) == (Answer.BROKEN, "")
    assert "line 4: `A: r = pin x` is refused in some executions" in found.notes


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [V4_8, V5_9, V7_2, WRPROTECT_FAIL], ids=lambda k: k.name)
def test_no_test_of_the_suite_is_vacuous(kernel: Kernel) -> None:
    tests = [read(path) for path in sorted(SUITE.glob("*.litmus"))]
    found = {test.name: account(test, kernel, system_with(kernel, test.features)).vacuous for test in tests}
    assert {name: why for name, why in found.items() if why} == {}


# Notes

def test_what_was_refused_is_told_unless_the_condition_asks() -> None:
    body = "page x\nA: write x 1\nA: r = pin x write\nA: mprotect x ro\n"
    refused = told(body + "never not r sees 1", WRPROTECT_FAIL)
    assert refused.vacuous == ""
    assert refused.notes == ("line 5: `A: mprotect x ro` is refused in every execution",)
    assert told(body + "exists refused 3", WRPROTECT_FAIL).notes == ()
    assert told(body + "never not r sees 1", V5_9).notes == ()


@pytest.mark.parametrize(("kernel", "body", "notes"), [
    (V4_8, "page x\nA: r = pin x", ("line 3: `A: r = pin x` came with 5.6; Linux 4.8 has no such operation",)),
    (V5_7, "page x\nA: r = pin x", ()),
    (V4_14, "page x uffd\nA: write x 1\nA: uffd-wp x",
     ("line 4: `A: uffd-wp x` came with 5.7; Linux 4.14 has no such operation",)),
    (V5_7, "page x uffd\nA: write x 1\nA: uffd-wp x", ()),
    (V5_12, "page x file\nA: uffd-continue x",
     ("line 3: `A: uffd-continue x` came with 5.14; Linux 5.12 has no such operation",)),
    (V5_16, "page x file\nA: uffd-continue x", ()),
])
def test_operations_newer_than_the_kernel_have_a_note(kernel: Kernel, body: str, notes: tuple[str, ...]) -> None:
    assert told(f"{body}\nexists A.x == 0", kernel).notes == notes


def test_a_kernel_has_the_release_that_it_comes_from() -> None:
    mine = V5_11.but("mine", "of one's own").but("mine-too", "made of that one")
    assert [str(release_of(k)) for k in (V5_9, DEBIAN_5_10, V5_11.but("mine", "of one's own"))] == [
        "5.9", "5.10", "5.11"
    ]
    # What lies between is not known to the model.
    assert release_of(mine) is None
    assert all(release_of(k) is not None for k in (*KERNELS, *FURTHER))


# Words

@pytest.mark.parametrize(("line", "says"), [
    ("A: mlock x", "'mlock' is not in the model"), ("mlock x", "'mlock' is not in the model"),
    ("page x hugetlbfs", "'hugetlbfs' is not in the model: say `page V hugetlb`"),
    ("A: shmat x", "'shmat' is not in the model"), ("A: munlock x", "'munlock' is not in the model"),
    ("A: madvise x MADV_COLD", "'madvise' is said `P: dontneed V`"),
    ("A: MADV_GUARD_INSTALL x", "'MADV_GUARD_INSTALL' is said `P: guard-install V`"),
    ("A: MADV_WIPEONFORK x", "'MADV_WIPEONFORK' is said `P: madv-wipeonfork V`"),
    ("A: dontfork x", "'dontfork' is said `P: madv-dontfork V`"),
    ("A: MADV_DONTNEED x", "'MADV_DONTNEED' is said `P: dontneed V`"), ("A: cold x", "'cold' is not in the model"),
    ("exists hugetlbfs A.x", "'hugetlbfs' is not in the model"), ("A: munmpa x", "did you mean munmap?"),
    ("A: r = tee x", "'tee' is not in the model"), ("A: sendfile x", "'sendfile' is not in the model"),
    ("A: process_madvise x", "'process_madvise' is said `P: dontneed V`"),
    ("A: madvise(MADV_DONTNEED) y", "'madvise(MADV_DONTNEED)' is said `P: dontneed V`"),
    ("*: compact y", "'compact' is said `*: migrate V`"), ("A: swapin y", "'swapin' is said `P: read V`"),
    # Nothing is so much like it that it would not mislead.
    ("A: tea y", "unknown operation 'tea'; there are write, read"),
    ("exists swaped A.y", "a condition has no word 'swaped'; did you mean swapped?"),
    ("exists mapcount A.y", "a condition has no word 'mapcount'; there are writable"),
    ("exists refusd 1", "a condition has no word 'refusd'; did you mean refused?"),
    ("exists mlock A.y", "'mlock' is not in the model"), ("exists A.y = 1", "cannot contain '='; say `==`"),
    ("exists A.y == 1 && A.y == 1", "cannot contain '&'; say `and`"),
])
def test_a_word_that_linux_has_and_the_model_has_not_is_told_so(line: str, says: str) -> None:
    with pytest.raises(LitmusError, match=r"t\.litmus:3: ") as caught:
        parse(f"litmus t\npage y\n{line}\n", "t.litmus")
    assert says in str(caught.value)
    assert ("did you mean" in str(caught.value)) == ("did you mean" in says)


# Ends

def test_the_ends_are_told_with_how_many_executions_come_there() -> None:
    """Worked out by hand. Of a store beside a fork either comes first, and the child has the old value or the new one.
    Two first stores are two steps each, a fault and the store: six ways to order them.
    """
    found = told("page x\nA: write x 1\nA: fork C || A: write x 2\nexists C.x == 1", with_endings=True)
    assert [(e.shows, e.condition, e.executions) for e in found.endings] == [
        ("A.x == 2, C.x == 2", False, 1), ("A.x == 2, C.x == 1", True, 1),
    ]
    found = told("page x\npage y\nA: write x 1 || A: write y 2\nexists A.x == 0", with_endings=True)
    assert [(e.shows, e.condition, e.executions) for e in found.endings] == [("A.x == 1, A.y == 2", False, 6)]


def test_each_end_has_an_execution_also_where_the_answer_has_none() -> None:
    body = "page x\nA: write x 1\nA: r = get x write\nA: munmap x\nA: write x 2\n"
    found = told(body + "never r sees 2 and not slots == 0", V5_19, with_endings=True)
    assert (found.result.answer, found.result.trace) == (Answer.HOLDS, None)
    [only] = found.endings
    assert only.shows == "r sees 1, slots == 0, refused 4"
    assert only.trace.statement == "not (r sees 2 and not slots == 0)"
    assert only.trace.notes[-1] == "A: write x 2"
