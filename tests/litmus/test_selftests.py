"""docs/selftests.md against the suite: its tests are there and answer as it says, and its counts are right."""

from __future__ import annotations

import re

import pytest
from places import ROOT

from proofs.data import SUITE as FOLDER
from proofs.litmus import matrix
from proofs.litmus.execution import Answer

PAGE = (ROOT / "docs" / "selftests.md").read_text(encoding="utf-8")
OPENING, *SECTIONS = re.split(r"^## ", PAGE, flags=re.M)
CASES = {
    section.splitlines()[0]: re.findall(r"^\| (?!case|---)(.+?) \| (.+) \|$", section, re.M) for section in SECTIONS
}
NOT_SAID = "not said: "
ROWS = {row.name: row for row in matrix.read_suite().rows}
TESTS = [
    found for cases in CASES.values() for _, said in cases
    for found in re.findall(r"\[([\w-]+)\]\(\.\./proofs/data/litmus/([\w-]+)\.litmus\) (\w+) ([+-])", said)
]


def words(name: str) -> tuple[Answer, Answer]:
    """The answers of such a test: where the bad outcome can be reached, and where not."""
    if ROWS[name].text.strip().splitlines()[-1].startswith("exists"):
        return Answer.ALLOWED, Answer.FORBIDDEN
    return Answer.BROKEN, Answer.HOLDS


def test_each_case_names_tests_of_the_suite_or_the_reason_why_none_says_it() -> None:
    for cases in CASES.values():
        assert cases
        for case, said in cases:
            assert said.startswith(NOT_SAID) != bool(re.match(r"\[[\w-]+\]\(", said)), case
            assert len(said) > len(NOT_SAID), case
    assert len(TESTS) > 80
    assert {file for _, file, _, _ in TESTS} == {name for name, _, _, _ in TESTS}
    assert [name for name, _, _, _ in TESTS if not (FOLDER / f"{name}.litmus").is_file()] == []


def test_each_answer_is_the_one_expected_on_7_2() -> None:
    assert {(name, told) for name, _, told, _ in TESTS} == {
        (name, words(name)[0 if ROWS[name].expected["v7.2"] == "B" else 1].value) for name, _, _, _ in TESTS
    }


def test_what_real_kernels_did_is_what_the_page_of_conformance_says() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    column = next(line for line in page.splitlines() if line.startswith("| test |")).split(" | ").index(
        next(re.findall(r"7\.2[\w.+-]+", line)[0] for line in page.splitlines() if line.startswith("| test |"))
    )
    seen = {
        cells[0].removeprefix("| "): cells[column]
        for cells in (line.split(" | ") for line in page.splitlines() if re.match(r"\| [\w-]+ \| \w+ [+-] ", line))
    }
    told = {name: f"{answer} {mark}" for name, _, answer, mark in TESTS}
    assert len(told.keys() & seen.keys()) > 40
    assert {name: told[name] for name in told.keys() & seen.keys()} == {n: seen[n] for n in told.keys() & seen.keys()}


@pytest.mark.parametrize("name", CASES)
def test_a_file_s_cases_are_counted_at_the_top(name: str) -> None:
    missing = sum(said.startswith(NOT_SAID) for _, said in CASES[name])
    assert f"| {name} | {len(CASES[name])} | {len(CASES[name]) - missing} | {missing} |" in OPENING.splitlines()


def test_all_cases_are_counted_at_the_top() -> None:
    every = [said for cases in CASES.values() for _, said in cases]
    missing = sum(said.startswith(NOT_SAID) for said in every)
    assert f"| all | {len(every)} | {len(every) - missing} | {missing} |" in OPENING.splitlines()
