"""What the documents show is what the program does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import documents
import pytest
from documents import block
from places import ROOT

import model.restrictions
import proofs
from proofs.cli.main import main
from proofs.data import CERTIFICATES
from proofs.litmus import execution, parser
from proofs.naming.specs import find_kernel, system_of, with_features

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
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
    test = parser.parse(text.group(1), "README.md")
    answers = [execution.answer(test, find_kernel(k), system_of(k)).answer for k in ("v5.7", "v5.8")]
    assert answers == ["Allowed", "Forbidden"]


@pytest.mark.slow
def test_the_table_in_the_readme_is_the_one_that_comes_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0
    printed, errors = capsys.readouterr()
    assert errors == ""
    assert printed == block(README, "table")


def test_the_invariant_in_the_readme_is_the_one_that_comes_along(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(CERTIFICATES / "v7.2" / "coherence-write-pin.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.split("\n\n")[:2] == block(README, "proof").rstrip().split("\n\n")


@pytest.mark.slow
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


RESTRICTIONS = (ROOT / "docs" / "restrictions.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_restrictions_in_the_documents_are_those_that_come_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "coherence-write-pin"
    assert main(["restrict", "--base", "mapcount", "-i", name, "--no-variants", "-o", str(tmp_path)]) == 0
    printed = capsys.readouterr().out.split("\nTraces and certificates")[0].strip()
    assert printed == restrictions(block(README, "restrict"))["mapcount", name]
    assert printed in RESTRICTIONS


TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_outputs_in_the_tutorial_are_those_that_come_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert documents.performed(TUTORIAL, tmp_path) == TUTORIAL
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in Path("proofs-out", "results").iterdir()}
    assert main(["restrict", "--base", "page-count", "-i", "coherence-write-pin", "--no-variants", "--json"]) == 0
    assert_what_a_write_pin_needs_under_the_page_count_rule(json.loads(capsys.readouterr().out))
    assert {path: path.read_bytes() for path in Path("proofs-out", "results").iterdir()} == before, "it is kept"


def assert_what_a_write_pin_needs_under_the_page_count_rule(data: dict[str, Any]) -> None:
    """Refusing mprotect is necessary and not enough: nothing may take the write bit from a pinned page.

    What reclaim must not do, it need not be told twice: either it leaves pinned pages in the swap cache mapped, or no
    pinned page gets there because write faults wait for the end of writeback.
    """
    always = [
        "fork-early-copy", "mprotect-refuse", "mprotect-other-skip", "soft-dirty-skip", "uffd-wp-skip",
        "uffd-unwp-skip",
    ]
    assert [(d["restrictions"], d["variants"]) for d in data["minimal_sufficient"]] == [
        ([*always, "unmap-refuse"], []), ([*always, "swap-out-refuse", "writeback-wait"], []),
    ]
    every = frozenset(r.name for r in model.restrictions.RESTRICTIONS)
    assert {every - set(d["restrictions"]) for d in data["maximal_insufficient"]} == {
        *(frozenset([name]) for name in always),
        frozenset(["unmap-refuse", "swap-out-refuse"]), frozenset(["unmap-refuse", "writeback-wait"]),
    }
    assert data["monotone"]
    assert all(Path(d["trace"]).is_file() and d["length"] >= 4 for d in data["maximal_insufficient"])


def test_the_restrictions_in_the_tutorial_are_those_in_the_other_documents() -> None:
    shown = restrictions(block(README, "restrict"))["page-count", "coherence-write-pin"]
    assert shown in TUTORIAL
    assert shown in RESTRICTIONS


def test_commands_in_documents_are_run_in_turn_on_the_files_before_them(tmp_path: Path) -> None:
    document = """Text

<!-- file t.litmus -->
```
litmus t
page x
A: write x 1
exists A.x == 1
```
<!-- run -->
```
$ python -m proofs litmus t.litmus -k v5.9
outdated
```
<!-- run 1 -->
```
$ python -m proofs litmus t.litmus -k v5.9
$ python -m proofs litmus missing.litmus
```
End
"""
    first, second = documents.blocks(documents.performed(document, tmp_path), "run")
    assert first.text == (
        "$ python -m proofs litmus t.litmus -k v5.9\nkernel  t\n------  -------\nv5.9    Allowed\n"
        "Trace: proofs-out/litmus/t.v5.9.trace.json; `python -m proofs show FILE` prints it.\n"
    )
    assert second.text.splitlines()[:4] == ["$ python -m proofs litmus t.litmus -k v5.9", "kernel  t", "...", ""]
    assert second.text.splitlines()[5].startswith("proofs: cannot read missing.litmus")


# The Python API

API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "mine.py"


def test_the_document_of_the_api_shows_the_example() -> None:
    assert block(API, "file") == EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_of_the_api_prints_what_the_document_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(EXAMPLE.read_text(encoding="utf-8"))
    told = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == (block(API, "output"), "")


PRINTED = {b.mark[1]: b.text for b in documents.blocks(API, "printed")}


def test_each_example_is_in_the_document_of_the_api_and_short() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in EXAMPLE.parent.glob("*.py")}
    assert files.keys() == {EXAMPLE.name, *PRINTED}
    assert [name for name in PRINTED if len(files[name].splitlines()) >= 40] == []


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] if name == "restricted.py" else []) for name in PRINTED
])
def test_a_further_example_prints_what_the_document_says(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text((EXAMPLE.parent / name).read_text(encoding="utf-8"))
    told = subprocess.run([sys.executable, name], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == (PRINTED[name], "")
    drawn = {path.name for path in tmp_path.glob("*.svg")}
    assert drawn == ({"v5.8.svg"} if name == "promise.py" else set())


def test_the_notebook_shows_a_table_and_a_counterexample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLE.parent / "notebook.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]), names)
    assert capsys.readouterr().out.splitlines() == [
        "v5.7 Allowed", "v5.9-rc4 Allowed", "v5.9 Forbidden", "v5.19 Forbidden",
    ]
    table = names["cells"]._repr_html_()
    assert "<tr><td>v5.9</td><td>V 4</td><td>V 3</td></tr><tr><td>v5.19</td><td>E</td><td>V 3</td></tr>" in table
    assert [line.split() for line in str(names["cells"]).splitlines()][1:] == [
        ["v5.9", "V", "4", "V", "3"], ["v5.19", "E", "V", "3"],
    ]
    assert repr(names["trace"]).startswith("<Trace of coherence-write-pin on v5.9: anon-fault(p=A, v=x, new=P), ")
    assert (len(names["trace"].steps), names["picture"]._repr_svg_()[:4]) == (4, "<svg")


def test_what_the_package_offers_can_be_listed() -> None:
    assert set(proofs.__all__) <= set(dir(proofs))


@pytest.mark.slow
def test_a_user_s_file_passes_mypy_strict(tmp_path: Path) -> None:
    files = {f"part{n}.py": text for n, text in enumerate(re.findall(r"```python\n(.*?)```", API + TUTORIAL, re.S))}
    files |= {name: (EXAMPLE.parent / name).read_text(encoding="utf-8") for name in PRINTED}
    assert len(files) >= 8
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    given = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *files]
    told = subprocess.run(given, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (0, f"Success: no issues found in {len(files)} source files\n")


@pytest.mark.parametrize("package", ["model", "invariants", "proofs"])
def test_what_a_package_exports_is_there_and_typed(package: str) -> None:
    module = __import__(package)
    assert all(hasattr(module, name) for name in module.__all__)
    assert (ROOT / package / "py.typed").is_file()
    with pytest.raises(AttributeError):
        module.nothing_like_that  # noqa: B018


DIFF = (ROOT / "docs" / "diff.md").read_text(encoding="utf-8")


def test_the_differences_in_the_docs_are_answered_as_they_say() -> None:
    shown = re.findall(r"     (litmus .*?)\n\n     (\S+): (\w+); (\S+): (\w+)\n", DIFF, re.S)
    assert len(shown) >= 12
    for text, a, answer, b, other in shown:
        test = parser.parse(re.sub(r"^     ", "", text, flags=re.M) + "\n", "docs/diff.md")
        for kernel, expected in ((a, answer), (b, other)):
            system = system_of(with_features(kernel, test.features))
            assert execution.answer(test, find_kernel(kernel), system).answer == expected


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "printed"), re.findall(r"<!-- diff (\S+) (\S+) -->\n```\n(.*?)```", DIFF, re.S))
def test_the_differences_in_the_docs_are_those_that_come_out(
    a: str, b: str, printed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["diff", a, b, "--each", "1", "--time", "3000"]) == 1
    assert capsys.readouterr().out == printed


# Reports to the kernel's developers

REPORTS = sorted((ROOT / "docs" / "reports").glob("*.md"))


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.stem)
def test_a_report_is_a_mail_in_plain_text(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    assert text.startswith("Subject: [BUG] ")
    assert text.isascii()
    assert [line for line in text.splitlines() if len(line) > 72] == []


@pytest.mark.parametrize("report", REPORTS, ids=lambda path: path.stem)
def test_a_report_s_reproducer_compiles_without_a_warning(report: Path, tmp_path: Path) -> None:
    file = report.with_suffix(".c")
    assert file.name in report.read_text(encoding="utf-8")
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(tmp_path / "it"), str(file)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


# Where things are

SIGNPOSTS = ("docs/glossary.md", "docs/semantics.md", "CONTRIBUTING.md")


def signposts(document: str) -> list[tuple[str, str]]:
    """(what, file) wherever a document says `what` in `file.py`, or `a` and `b` in it, or the file alone."""
    text = " ".join((ROOT / document).read_text(encoding="utf-8").split())
    names_in = r"((?:`[A-Za-z_][\w.-]*`(?: \(`\w+`\))?(?:, | and | or )?)*)(?: in )?"
    found = re.findall(names_in + r"`([\w./-]+\.(?:py|toml|md|litmus))`", text)
    return [(n, file) for names, file in found if "/" in file for n in (re.findall(r"`([^`]+)`", names) or [""])]


@pytest.mark.parametrize("document", SIGNPOSTS)
def test_what_a_document_says_is_in_a_file_is_there(document: str) -> None:
    found = signposts(document)
    assert len(found) >= 12
    assert [file for _, file in found if not (ROOT / file).is_file()] == []
    assert [
        (name, file) for name, file in found
        if name and not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", (ROOT / file).read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize("document", [*SIGNPOSTS, "CHANGELOG.md"])
def test_a_document_links_what_there_is(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if len(line) > 120] == []
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert target.startswith("https://") or (path.parent / target).exists(), target
    for file, place in re.findall(r"\]\(([^)#]*)#([^)]+)\)", text):
        other = text if not file else (path.parent / file).read_text(encoding="utf-8")
        headings = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", other, re.M)]
        assert f'<a id="{place}"></a>' in other or place in headings, (file, place)


def test_the_hooks_of_pre_commit_are_checks_of_ci() -> None:
    hooks = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    commands = re.findall(r'^"\$venv/bin/(.*)$', (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    assert hooks == [c.replace('"', "") for c in commands if c.startswith(("ruff", "mypy"))]
