"""Since when: what is known of the failures, as docs/domain.md has it (0.1 and 3), comes out by itself."""

from __future__ import annotations

import functools
import itertools

import pytest

from model import releases
from model.kernels import differing
from model.releases import MAINLINE, Version
from proofs.cli.main import main
from proofs.errors import INCONCLUSIVE, LitmusError
from proofs.litmus.execution import Answer, answer
from proofs.litmus.history import History, causes, history, smallest, summary, to_json
from proofs.litmus.parser import parse
from proofs.litmus.suite import known, matches, read_tests
from proofs.naming.specs import system_with


@functools.cache
def told(name: str) -> History:
    [test] = read_tests([name])
    return history(test)


SINCE = [
    ("F8-mprotect-pin", "Broken v5.9-rc4 (09854ba94c6a) to v5.18, fixed in v5.19 by 78fbe906cc90, 6c287605fd56"),
    ("F3-pin-fork", "Broken up to v5.9-rc7, fixed in v5.9-rc8 by 70e806e4e645"),
    ("F3g-get-fork", "Broken on every release from v4.8 to v7.3-rc7"),
    # Read in 6.12 and 7.2, and in 7.3-rc7, not in between.
    ("swap-in-frees-exclusive", "Broken in v7.2 or before, fixed by v7.3-rc7 (it is not known when)"),
]
MORE = [
    ("F8t-mprotect-pin-thp", "Broken in v5.18 (3bff7e3f1f16), fixed in v5.19 by 78fbe906cc90, 6c287605fd56"),
    ("F1-vmsplice-leak", "Broken up to v5.7, fixed in v5.8 by 17839856fd58"),
    ("F15-dirty-cow", "Broken up to v4.8, fixed in v4.9 by 19be0eaffa3a"),
    ("F16-huge-dirty-cow", "Broken up to v4.14, fixed in v4.15 by a8f97366452e"),
    ("F17-uffd-continue-dirty", "Broken v5.16 (9ae0f87d009c) to v5.19, fixed in v6.0 by 5535be309971"),
    # Before 5.7 nobody has userfaultfd write-protect.
    ("F31-migrate-uffd-wp-thp", "Allowed up to v6.2, Forbidden in v6.3 by 24bf08c4376b"),
    ("thp-zero-unshare-uffd-wp", "Broken since v6.13 (1ced09e0331f)"),
    ("F1s-vmsplice-leak-swap", "Broken up to v5.7, fixed in v5.8 by 17839856fd58; "
     "Broken v5.9-rc4 (a308c71bf1e6) to v5.17, fixed in v5.18 by c145e0b47c77"),
]


@pytest.mark.parametrize(("name", "line"), [*SINCE, *(pytest.param(*row, marks=pytest.mark.slow) for row in MORE)])
def test_since_when_a_failure_is_there(name: str, line: str) -> None:
    assert summary(told(name)) == line


def test_releases_that_lack_an_operation_are_not_asked() -> None:
    test = "litmus t\npage x {}\nA: {} x\nexists A.x == 1"
    for page, operation, first in (("uffd", "uffd-wp", "5.7"), ("file", "uffd-continue", "5.14"), ("", "read", "4.8")):
        assert str(history(parse(test.format(page, operation), "t.litmus")).answers[0][0]) == first


@pytest.mark.parametrize("name", [
    "F8-mprotect-pin",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("F1s-vmsplice-leak-swap", "thp-zero-written")),
])
def test_the_decisions_make_the_difference_and_none_of_them_is_in_vain(name: str) -> None:
    [test] = read_tests([name])
    found = told(name)
    assert found.turns
    for turn in found.turns:
        pair = next(
            (a, b) for (_, a), (at, b) in itertools.pairwise(MAINLINE) if at >= turn.since and differing(a, b)
        )

        def with_changed(decisions: tuple[str, ...], pair: tuple = pair) -> str:  # type: ignore[type-arg]
            a, b = pair
            mixed = a.but("mixed", "for the test", **{name: getattr(b, name) for name in decisions})
            return answer(test, mixed, system_with(mixed, test.features)).answer

        names = tuple(each.decision for each in turn.decisions)
        assert with_changed(()) == turn.before
        assert with_changed(names) == turn.after
        for fewer in itertools.combinations(names, len(names) - 1):
            assert with_changed(fewer) != turn.after
        for other in turn.others:
            assert with_changed((other.decision,)) == turn.after


def test_what_makes_the_difference_is_one_decision_or_several_together() -> None:
    found = told("F8-mprotect-pin")
    assert causes(found) == [
        "v5.9-rc4, Holds to Broken:", "  reuse reused_by_mapcount -> page_count_is_one (09854ba94c6a)",
        "v5.19, Broken to Holds, only if all of these change:",
        "  reuse page_count_is_one_after_swap_cache -> exclusive_or_page_count",
        "  exclusive_bit False -> True (78fbe906cc90, 6c287605fd56)",
    ]
    data = to_json(found)
    assert [(t["since"], t["last"], t["exact"], t["commits"]) for t in data["turns"]] == [
        ("5.9-rc4", "5.9-rc3", True, ["09854ba94c6a"]), ("5.19", "5.18", True, ["78fbe906cc90", "6c287605fd56"]),
    ]


@pytest.mark.parametrize(("enough", "expected"), [
    ([{"b"}], ("b",)), ([{"a", "c"}], ("a", "c")), ([{"a", "b", "c"}], ("a", "b", "c")), ([{"c"}, {"a", "b"}], ("c",)),
])
def test_the_smallest_set_that_explains(enough: list[set[str]], expected: tuple[str, ...]) -> None:
    assert smallest("abc", lambda names: any(each <= set(names) for each in enough)) == expected


@pytest.mark.parametrize(("version", "before"), [
    ("5.9-rc4", "5.9-rc3"), ("5.9-rc1", "5.8"), ("6.0", "5.19"), ("5.0", "4.20"), ("7.0", "6.19"), ("5.19", "5.18"),
])
def test_the_release_before(version: str, before: str) -> None:
    assert str(releases.preceding(releases.version_of(version))) == before


def test_a_test_of_operations_that_no_release_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proofs.litmus.history.MAINLINE", ((Version(4, 8), MAINLINE[0][1]),))
    with pytest.raises(LitmusError, match="no release of the model has all of its operations"):
        history(parse("litmus t\npage x\nA: r = pin x\nexists r sees 0", "t.litmus"))


def test_an_interrupt_leaves_the_histories_that_were_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = [History("first", ((Version(5, 9), Answer.HOLDS),))]

    def asked(*_: object) -> History:
        if not done:
            raise KeyboardInterrupt
        return done.pop()

    monkeypatch.setattr("proofs.litmus.history.history", asked)
    assert main(["litmus", "F8", "--since"]) == INCONCLUSIVE
    printed, said = capsys.readouterr()
    assert printed.startswith("first: ")
    assert said == "proofs: interrupted: what follows is of 1 of 8 tests\n"


# Tests by name

def test_a_test_is_found_by_its_name_or_how_it_begins() -> None:
    names = known()
    assert matches("F8-mprotect-pin", names) == ["F8-mprotect-pin"]
    eight = {name.partition("-")[0] for name in matches("F8", names)}
    assert eight == {"F8", "F8f", "F8g", "F8h", "F8n", "F8t", "F8tg", "F8tp"}
    assert {name.partition("-")[0] for name in matches("F1", names)} == {"F1", "F1h", "F1hd", "F1hp", "F1s", "F1t"}
    assert {name.partition(".")[2] for name in matches("cow-19", names)} == {"zero", "huge-zero", "file"}
    assert matches("F99", names) == matches("", names) == []
    assert [test.name for test in read_tests(["F20", "F20-fork-vma-lock"])] == ["F20-fork-vma-lock"]
    with pytest.raises(LitmusError, match="F99 is no file, nor a test of the suite"):
        read_tests(["F99"])
    with pytest.raises(LitmusError, match=r"cannot read F99\.litmus"):
        read_tests(["F99.litmus"])
