"""The whole matrix: its tests and expectations, cow.c, the document and its pictures."""

from __future__ import annotations

import json
import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from places import ROOT

from model.kernels import FURTHER, KERNELS, V5_7, Kernel
from proofs.cli.main import main
from proofs.data import SUITE as FOLDER
from proofs.litmus import cow_selftest, execution, matrix, parser
from proofs.litmus.execution import Answer
from proofs.litmus.matrix import KernelAnswer, MatrixAnswers, Suite
from proofs.naming.specs import find_kernel, system_of, with_features
from proofs.traces.picture import to_svg
from proofs.traces.trace import Trace

SUITE = matrix.read_suite()
ROWS = {row.name: row for row in SUITE.rows}
PAIRS = [(case, environment) for case in cow_selftest.CASES for environment in case.environments]
OF_MARK = {"B": Answer.BROKEN, ".": Answer.HOLDS, "?": Answer.UNKNOWN}


def as_expected(suite: Suite) -> MatrixAnswers:
    """What would be found if every answer were as expected."""
    return MatrixAnswers({
        (r.name, k): KernelAnswer(OF_MARK[mark]) for r in suite.rows for k, mark in r.expected.items()
    }, {})


def trace_of(text: str, kernel: Kernel = V5_7) -> Trace:
    test = parser.parse(f"litmus t\n{text}", "t")
    found = execution.answer(test, kernel, kernel.system(test.features)).trace
    assert found
    return found


# What is asked


def test_every_test_has_an_expectation_for_every_kernel() -> None:
    assert sorted(SUITE.kernels) == sorted(k.name for k in (*KERNELS, *FURTHER))
    assert len(ROWS) == len(SUITE.rows)
    for row in SUITE.rows:
        assert set(row.expected) == set(SUITE.kernels), row.name
        assert set(row.expected.values()) <= set(OF_MARK), row.name
        assert parser.parse(row.text, row.name).name == row.name


def test_every_failure_of_the_domain_has_a_test_or_is_said_to_be_out_of_the_model() -> None:
    domain = (ROOT / "docs" / "domain.md").read_text(encoding="utf-8")
    told = {int(number) for number in re.findall(r'<a id="f(\d+)">', domain)}
    tested = {int(number) for row in SUITE.rows for number in re.findall(r"^F(\d+)", f"{row.name}\n{row.title}", re.M)}
    assert told == tested


def test_where_an_expectation_is_not_the_published_entry_the_reason_is_given() -> None:
    expected = as_expected(SUITE)
    published = [row for row in SUITE.rows if row.published]
    assert len(published) > 60
    for row in published:
        for column, kernels in SUITE.columns.items():
            mark = matrix.spread(kernels, {k: expected.cells[row.name, k] for k in kernels})
            if row.published.get(column, mark) != mark:
                assert row.reason or SUITE.reasons.get(row.group), (row.name, column)


def test_cow_c_has_its_21_cases_each_in_the_environments_that_apply() -> None:
    assert [case.number for case in cow_selftest.CASES] == [*range(1, 22)]
    assert len(PAIRS) == 14 * 10 + 4 * 1 + 3 * 3
    assert {cow_selftest.name_of(*pair) for pair in PAIRS} == {n for n, r in ROWS.items() if r.group.startswith("cow")}


def test_each_outcome_of_cow_c_stands_once_in_its_table() -> None:
    tables = tomllib.loads((FOLDER / "cow.toml").read_text(encoding="utf-8"))["table"]
    stated = [(c, e) for table in tables for e in table["environments"] for c in table["answers"]]
    assert sorted(stated) == sorted((case.key, environment.name) for case, environment in PAIRS)


@pytest.mark.parametrize(
    "environment", [e for e in cow_selftest.ENVIRONMENTS if e.name in ("base", "thp", "zero")], ids=lambda e: e.name,
)
def test_every_kernel_gives_what_is_expected_of_cow_c(environment: cow_selftest.Environment) -> None:
    """The other environments are among what `test_the_document_and_its_pictures_are_those_that_come_out` asks."""
    found, expected = {}, {}
    for row in SUITE.rows:
        if row.group == matrix.COW + environment.name:
            test = parser.parse(row.text, row.name)
            for kernel, mark in row.expected.items():
                expected[row.name, kernel] = mark
                system = system_of(with_features(kernel, test.features))
                found[row.name, kernel] = matrix.MARKS[execution.answer(test, find_kernel(kernel), system).answer]
    assert found
    assert found == expected


# Cells


@pytest.mark.parametrize(
    ("bad", "shown"),
    [
        ("", "."), ("v1 v2 v3", "B"), ("v1", "B<2"), ("v1 v2", "B<3"), ("v3", "B≥3"), ("v2 v3", "B≥2"), ("v2", "B 2"),
        ("v1 v3", "B 1, 3"),
    ],
)
def test_a_column_says_of_which_kernels_it_speaks(bad: str, shown: str) -> None:
    cells = {k: KernelAnswer(Answer.BROKEN if k in bad.split() else Answer.HOLDS) for k in ("v1", "v2", "v3")}
    assert matrix.spread(("v1", "v2", "v3"), cells) == shown


def test_the_document_shows_what_was_published_where_it_is_another_entry() -> None:
    page = matrix.to_markdown(SUITE, as_expected(SUITE), "../proofs/data/litmus")
    row = next(line for line in page.splitlines() if line.startswith("| [F3 pin + fork"))
    assert row.split(" | ")[1:] == ["B", "B", "B", "B", ".", ".", ". (~)", ".", ".", ".", ".", ".", ".", ". |"]


# Pictures

LEAK = "page x\nA: write x 1\nA: fork C\nC: r = vmsplice x\nC: munmap x\nA: write x 2\nnever r sees 2"


def test_a_trace_by_operation_has_a_state_for_each_and_the_same_ends() -> None:
    trace = trace_of(LEAK)
    folded = matrix.by_operation(trace)
    assert folded.notes == ("A: write x 1", "A: fork C", "C: r = vmsplice x", "C: munmap x", "A: write x 2")
    assert [folded.label(i) for i in (0, 4)] == [
        "anon-fault(p=A, v=x, new=Q), store(p=A, v=x, n=1)", "wp-reuse(p=A, v=x), store(p=A, v=x, n=2)",
    ]
    assert (folded.states[0], folded.states[-1]) == (trace.states[0], trace.states[-1])
    assert len(folded.states) == len(folded.steps) + 1


def test_operations_that_only_prepare_are_left_out_of_a_picture() -> None:
    trace = matrix.after_each(["A: write x 1"], trace_of(LEAK))
    assert trace.notes[0] == "A: fork C"
    assert len(trace.states) == len(trace.steps) + 1


def test_a_smaller_picture_says_the_same() -> None:
    svg = to_svg(trace_of(LEAK))
    small = matrix.smaller(svg)
    assert len(small) < len(svg) * 0.6

    def texts(picture: str) -> list[str]:
        return [e.text for e in ET.fromstring(picture).iter() if e.text and e.text.strip() and "style" not in e.tag]

    assert texts(small) == texts(svg)
    root = ET.fromstring(small)
    sheet = root[0].text or ""
    classes = {e.attrib["class"] for e in root.iter() if "class" in e.attrib}
    assert classes == set(re.findall(r"\.(c\d+)\{", sheet))


# The command


@pytest.fixture
def small_suite(tmp_path: Path) -> Path:
    """Two tests on two kernels; of one a wrong answer is expected."""
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "F1-leak.litmus").write_text(f"litmus F1-leak\nabout a leak\n{LEAK}\n")
    (folder / "other.litmus").write_text("litmus other\nabout a write\npage x\nA: write x 1\nalways A.x == 1\n")
    (folder / "expected.toml").write_text(
        '[columns]\nM0 = ["v5.7"]\nR1 = ["v5.9"]\n[answers]\nF1-leak = "B ."\nother = ". B"\n'
        '[matrix]\ncolumns = "M0 R1"\n[matrix.rows]\nF1-leak = ["F1 leak", "B B"]\n[reasons]\nF1-leak = "so it is"\n'
    )
    return folder


def test_the_command_prints_the_tables_and_what_is_unexpected(
    small_suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", "--suite", str(small_suite), "--workers", "1"]) == 1
    out, err = capsys.readouterr()
    assert re.search(r"^F1 leak +B +\. \(B\)$", out, re.M)
    assert re.search(r"^a write +\. +\.$", out, re.M)
    assert err == "proofs: other, v5.9: Holds, but B was expected\n"


def test_the_command_asks_the_tests_whose_names_begin_so(
    small_suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", "F1", "--suite", str(small_suite), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert "F1 leak" in out
    assert "a write" not in out
    assert err == ""


def test_the_command_writes_a_document_whose_links_lead_somewhere(
    small_suite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "docs" / "m.md"
    stale = out.parent / matrix.PICTURES / "old.svg"
    stale.parent.mkdir(parents=True)
    stale.touch()
    arguments = ["matrix", "--suite", str(small_suite), "-o", str(out), "--json"]
    assert main(arguments) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(r["litmus"], r["kernel"], r["mark"], r["expected"], r["published"]) for r in results] == [
        ("F1-leak", "v5.7", "B", "B", "B"), ("F1-leak", "v5.9", ".", ".", "B"),
        ("other", "v5.7", ".", ".", None), ("other", "v5.9", ".", "B", None),
    ]
    links = re.findall(r"\]\(([^)]*)\)", out.read_text(encoding="utf-8"))
    # cow.toml is not in this suite.
    assert [link for link in links if not (out.parent / link).exists()] == ["../suite/cow.toml"]
    pictures = [*(out.parent / matrix.PICTURES).iterdir()]
    assert len(pictures) == 1
    assert "F1-leak on v5.7" in pictures[0].read_text(encoding="utf-8")


def test_the_command_writes_all_tests_as_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--write-suite", str(tmp_path / "all")]) == 0
    assert f"{len(SUITE.rows)} tests" in capsys.readouterr().out
    for name, row in ROWS.items():
        assert parser.read(tmp_path / "all" / f"{name}.litmus").condition_text in row.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("", "expected.toml"), ("[columns]\nM0 = ['v5.7']", "no complete expectations: KeyError 'answers'"),
        ("[columns", "expected.toml: "), ("[columns]\nM0 = ['v5.7']\n[answers]\nother = '. .'", "ValueError"),
        ("[columns]\nM0 = ['v5.7']\n[answers]\nnone = '.'", "cannot read"),
    ],
)
def test_a_suite_that_is_not_complete_is_one_line(
    change: str, says: str, small_suite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = small_suite / "expected.toml"
    expected.unlink() if not change else expected.write_text(change)
    assert main(["matrix", "--suite", str(small_suite)]) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


# The document that comes along


def test_the_document_has_the_entries_that_are_expected() -> None:
    """Quick: whether the pictures are current takes all answers."""
    page = (ROOT / "docs" / "matrix.md").read_text(encoding="utf-8")
    without = re.sub(rf"\[([^]]*)\]\({matrix.PICTURES}[^)]*\)", r"\1", page)
    assert without == matrix.to_markdown(SUITE, as_expected(SUITE), "../proofs/data/litmus")


@pytest.mark.slow
def test_the_document_and_its_pictures_are_those_that_come_out(tmp_path: Path) -> None:
    found = matrix.ask(SUITE, 2, pictures=True)
    assert found.unexpected(SUITE) == []
    docs = ROOT / "docs"
    assert (docs / "matrix.md").read_text(encoding="utf-8") == matrix.to_markdown(SUITE, found, "../proofs/data/litmus")
    shown = {path.name: path.read_text(encoding="utf-8") for path in (docs / matrix.PICTURES).iterdir()}
    assert shown == found.pictures
    assert sum(map(len, shown.values())) < 20_000 * len(shown)
