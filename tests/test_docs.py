"""What the documents show is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proofs import litmus
from proofs.cli import main
from proofs.kernel_file import find_kernel, system_of, with_features
from proofs.prove import SHIPPED

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_kernel_of_ones_own_in_the_readme_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", README, re.S)
    assert code
    file = tmp_path / "mine.py"
    file.write_text(code.group(1))
    assert find_kernel(f"{file}:MINE").base == "v5.9"
    assert main(["check", "-k", f"{file}:MINE", "--scope", "2,1,2,1,1", "-o", str(tmp_path)]) == 1
    assert "E" in capsys.readouterr().out


def test_the_litmus_test_in_the_readme_answers_as_it_says() -> None:
    text = re.search(r"```\n(litmus F1\n.*?)```", README, re.S)
    assert text
    test = litmus.parse(text.group(1), "README.md")
    answers = [litmus.answer(test, find_kernel(k), system_of(k)).answer for k in ("v5.7", "v5.8")]
    assert answers == ["Allowed", "Forbidden"]


@pytest.mark.slow
def test_the_table_in_the_readme_is_the_one_that_comes_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    shown = re.search(r"<!-- table -->\n```\n(.*?)```", README, re.S)
    assert shown
    assert printed == shown.group(1)


def test_the_invariant_in_the_readme_is_the_one_that_comes_along(capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.search(r"<!-- proof -->\n```\n(.*?)```", README, re.S)
    assert shown
    assert main(["show", str(SHIPPED / "wrprotect-fail" / "coherence-write-pin.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.split("\n\n")[:2] == shown.group(1).rstrip().split("\n\n")


def test_the_lemma_in_the_docs_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "proofs.md").read_text(encoding="utf-8"), re.S)
    assert code
    file = tmp_path / "mine.py"
    file.write_text(code.group(1))
    arguments = ["check", "-k", f"{file}:MINE", "-i", "isolation-mapping", "--engine", "proof", "-o", str(tmp_path)]
    assert main(arguments) == 0
    assert "P " in capsys.readouterr().out


def restrictions(text: str) -> dict[tuple[str, str], str]:
    """(base, invariant) to what a document shows for it."""
    parts = re.split(r"^(?=\S+, \S+: )", text, flags=re.M)[1:]
    return {tuple(part.split(":")[0].split(", ")): part.strip() for part in parts}  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("base", ["page-count", "mapcount"])
def test_the_restrictions_in_the_documents_are_those_that_come_out(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = re.search(r"<!-- restrict -->\n```\n(.*?)```", README, re.S)
    assert shown
    name = "coherence-write-pin"
    assert main(["restrict", "--base", base, "-i", name, "--no-variants", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split("\nTraces and certificates")[0].strip()
    assert printed == restrictions(shown.group(1))[base, name]
    kept = (ROOT / "docs" / "restrictions.md").read_text(encoding="utf-8")
    assert printed in kept


DIFF = (ROOT / "docs" / "diff.md").read_text(encoding="utf-8")


def test_the_differences_in_the_docs_are_answered_as_they_say() -> None:
    shown = re.findall(r"     (litmus .*?)\n\n     (\S+): (\w+); (\S+): (\w+)\n", DIFF, re.S)
    assert len(shown) >= 12
    for text, a, answer, b, other in shown:
        test = litmus.parse(re.sub(r"^     ", "", text, flags=re.M) + "\n", "docs/diff.md")
        for kernel, expected in ((a, answer), (b, other)):
            system = system_of(with_features(kernel, test.features))
            assert litmus.answer(test, find_kernel(kernel), system).answer == expected


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "printed"), re.findall(r"<!-- diff (\S+) (\S+) -->\n```\n(.*?)```", DIFF, re.S))
def test_the_differences_in_the_docs_are_those_that_come_out(
    a: str, b: str, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["diff", a, b, "--each", "1", "--time", "3000"]) == 1
    assert capsys.readouterr().out == printed
