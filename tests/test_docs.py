"""What the documents show is what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proofs import check, litmus
from proofs.cli import main
from proofs.kernel_file import find_kernel

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
    answers = [litmus.answer(test, find_kernel(k), check.system_of(k)).answer for k in ("v5.7", "v5.8")]
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
