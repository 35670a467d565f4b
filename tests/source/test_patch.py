"""What a patch makes of a tree: all of it or one line; and no tree, whoever made it, runs code or ends the reading."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_trees import BY_COUNT, COPY, REUSE, tree, write_fault

from model.logic import ModelError
from proofs.cli.main import main
from proofs.errors import INCONCLUSIVE, USAGE
from proofs.source import csource
from proofs.source.csource import Tree
from proofs.source.patch import applied, left_alone
from proofs.source.survey import kernel_text, survey

LINES = "".join(f"line {n}\n" for n in range(1, 9)) + "\nlast\n"
FILE = "--- a/mm/memory.c\n+++ b/mm/memory.c\n"
ONE = "@@ -2,1 +2,2 @@\n line 2\n+new\n"


def patched(tmp_path: Path, text: str, file: str = "mm/memory.c") -> str | None:
    small = tree(tmp_path, LINES, mm__gup_dot_c="one\ntwo\n")
    (path := tmp_path / "x.patch").write_text(text)
    found = applied(small, path)[file]
    return None if found is None else found.decode()


AFTER_2 = LINES.replace("line 3", "new\nline 3")


@pytest.mark.parametrize(("text", "after"), [
    (FILE + ONE, AFTER_2),
    # `diff -U0`: what is put in stands after the line that the head names.
    (FILE + "@@ -5,0 +6 @@\n+new\n", LINES.replace("line 6", "new\nline 6")),
    (FILE + "@@ -0,0 +1 @@\n+new\n", f"new\n{LINES}"),
    # git with other prefixes, quilt, names in quotes.
    (FILE.replace("a/", "i/").replace("b/", "w/") + ONE, AFTER_2),
    (FILE.replace("a/", "linux-6.1.orig/").replace("b/", "linux-6.1/") + ONE, AFTER_2),
    (FILE.replace("a/mm/memory.c", '"a/mm/memory.c"') + ONE, AFTER_2),
    # Two mails in one file, with words, lists and signatures between.
    (FILE + ONE + "-- \n2.39\n\nFrom: x\n- a list\n+ of words\n---\n" + FILE + "@@ -3,1 +3,1 @@\n-new\n+newer\n",
     AFTER_2.replace("new", "newer")),
    (FILE + "@@ -10,1 +10,1 @@\n-last\n+new\n\\ No newline at end of file\n", LINES.replace("last", "new")),
])
def test_a_patch_is_applied_where_it_says(text: str, after: str, tmp_path: Path) -> None:
    assert patched(tmp_path, text) == after


def test_a_patch_makes_files_and_takes_them_away(tmp_path: Path) -> None:
    assert patched(tmp_path, "--- /dev/null\n+++ b/mm/ksm.c\n@@ -0,0 +1 @@\n+int x;\n", "mm/ksm.c") == "int x;\n"
    gone = "--- a/mm/gup.c\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-one\n-two\n"
    assert patched(tmp_path, gone, "mm/gup.c") is None
    assert Tree(tmp_path, replaced=applied(Tree(tmp_path), tmp_path / "x.patch")).text("mm/gup.c") is None


@pytest.mark.parametrize(("text", "says"), [
    # Cut short in a mail: the first lines alone were taken for all of it.
    (FILE + "@@ -6,6 +6,7 @@\n line 6\n line 7\n line 8\n+new\n", "x.patch:8: the diff ends within a hunk"),
    (FILE + "@@ -2,6 +2,7 @@\n line 2\n+new", "the diff ends within a hunk"),
    (FILE + "@@ -2,6 +2,7 @@", "the diff ends within a hunk"),
    (FILE + "@@ -2,1 +2,1 @@\n line 2\n+new\n", "x.patch:5: the hunk has more lines than its head says"),
    (FILE + "@@ -2,2 +2,2 @@\n-line 2\n+a\n+b\n+c\n-line 3\n", "the hunk has other lines than its head says"),
    (FILE + "@@ -" + "9" * 5000 + ",1 +2,2 @@\n line 2\n+new\n", "the head of a hunk is"),
    ("diff --git a/mm/memory.c b/mm/m.c\nrename from mm/memory.c\nrename to mm/m.c\n--- a/mm/gup.c\n+++ b/mm/gup.c\n"
     "@@ -1,1 +1,1 @@\n-one\n+two\n", "it renames mm/memory.c"),
    ("--- a/mm/memory.c\n+++ b/mm/other.c\n" + ONE + FILE.replace("memory", "gup") + "@@ -1 +1 @@\n-one\n+two\n",
     "it renames mm/memory.c"),
    ("--- /dev/null\n+++ b/mm/gup.c\n@@ -0,0 +1 @@\n+int x;\n", "the tree has a mm/gup.c already"),
    ("--- a/mm/gup.c\n+++ /dev/null\n@@ -1,1 +0,0 @@\n-one\n", "it takes mm/gup.c away, of which something is left"),
])
def test_a_patch_that_is_not_whole_is_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as raised:
        patched(tmp_path, text)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_patch_changes_and_nobody_reads_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path := tmp_path / "x.patch").write_text(FILE + ONE + FILE.replace("memory", "slub") + ONE)
    tree(tmp_path, LINES)
    assert left_alone(path) == ["mm/slub.c"]
    main(["source", "read", str(tmp_path), "--patch", str(path)])
    assert "also changes mm/slub.c: of these files nothing is read" in capsys.readouterr().err


def test_no_file_is_looked_at_that_the_digest_and_a_patch_leave_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: set[str] = set()
    text = Tree.text

    def noting(self: Tree, file: str) -> bytes | None:
        looked.add(file)
        return text(self, file)

    monkeypatch.setattr(Tree, "text", noting)
    survey(tree(tmp_path, write_fault(BY_COUNT)))
    assert "mm/mremap.c" in looked
    assert looked <= {"Makefile", *csource.FILES}


def test_a_makefile_names_no_other_folder_and_runs_no_code(tmp_path: Path) -> None:
    body = BY_COUNT.replace("page_count(page) == 1 && ", "")
    for odd in ('"""+print("run")+"""', "/../../x", "-\x01", "-" + "x" * 300):
        tree(tmp_path, write_fault(body))
        (tmp_path / "Makefile").write_text(f"VERSION = 6\nPATCHLEVEL = 1\nEXTRAVERSION = {odd}\n")
        reading = survey(Tree(tmp_path))
        assert reading.version == "6.1.0"
        assert odd not in kernel_text(reading, "a tree")
    (tmp_path / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 2\nEXTRAVERSION = -rc3-g1234_x+\n")
    assert Tree(tmp_path).version == "6.1.2-rc3-g1234_x+"
    (tmp_path / "Makefile").write_text(f"VERSION = 6\nPATCHLEVEL = {'9' * 5000}\n")
    with pytest.raises(ModelError, match="says no VERSION and PATCHLEVEL"):
        _ = Tree(tmp_path).version


def test_what_is_nested_too_deep_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = f"if ({'(' * 3000}page_count(page) == 1{')' * 3000}) {{ {REUSE} }}\n{COPY}"
    tree(tmp_path, write_fault(deep))
    assert main(["source", "read", str(tmp_path)]) == INCONCLUSIVE
    assert "nested too deep" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_not_taken_for_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, write_fault(BY_COUNT))
    (tmp_path / "mm" / "gup.c").mkdir()
    assert main(["source", "read", str(tmp_path)]) == USAGE
    assert capsys.readouterr().err.endswith("mm/gup.c: Is a directory\n")
