"""A whole tree: what is not read is listed, what differs becomes a kernel, a patch is read before and after."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from small_trees import BY_COUNT, COPY, REUSE, tree, write_fault

from model.decisions import DECISIONS
from model.logic import ModelError
from proofs.cli import source as source_commands
from proofs.cli.main import main
from proofs.errors import INCONCLUSIVE, USAGE, VIOLATION
from proofs.naming.specs import find_kernel
from proofs.source import survey as survey_module
from proofs.source.csource import Tree
from proofs.source.findings import NOT_READ, PATTERN, READ
from proofs.source.patch import applied
from proofs.source.patterns import PATTERNS
from proofs.source.survey import ASKED, kernel_text, survey

PATCH = "\n".join((
    "--- a/mm/memory.c", "+++ b/mm/memory.c", "@@ -3,3 +3,3 @@", " {",
    " \tstruct page *page = vm_normal_page(vmf->vma, vmf->address, vmf->orig_pte);",
    "-if (PageAnon(page) && page_count(page) == 1 && !PageKsm(page)) { wp_page_reuse(vmf);",
    "+if (PageAnon(page) && PageAnonExclusive(page) && !PageKsm(page)) { wp_page_reuse(vmf);", "",
))


def test_every_decision_of_the_model_is_asked_for() -> None:
    assert set(DECISIONS) == set(ASKED)


def test_what_a_small_tree_does_not_say_is_not_read_and_keeps_the_models_value(tmp_path: Path) -> None:
    reading = survey(tree(tmp_path, write_fault(BY_COUNT)))
    rows = {row.decision: row for row in reading.rows}
    assert rows["reuse"].status == "equal"
    assert rows["huge_reuse"].status == "not read"
    assert "no function do_huge_pmd_wp_page in mm/huge_memory.c" in rows["huge_reuse"].finding.why
    assert rows["soft_dirty_lock"].status == "not read"
    # A file that is not there shows nothing either way.
    assert "no function follow_page_pte" in rows["read_gup"].finding.why
    assert rows["split_zero_parts"].status == rows["gup_fast_ordered"].status == "not read"
    outside = {row.decision for row in reading.outside()}
    assert {"huge_reuse", "soft_dirty_lock", "fork write-protects what it shares"} <= outside
    assert "huge_reuse" in kernel_text(reading, "small")


def test_a_rule_that_no_kernel_has_becomes_a_kernel_that_can_be_checked(tmp_path: Path) -> None:
    body = BY_COUNT.replace("page_count(page) == 1", "page_mapcount(page) == 1 && !page_maybe_dma_pinned(page)")
    reading = survey(tree(tmp_path / "tree", write_fault(body)))
    file = tmp_path / "read.py"
    file.write_text(kernel_text(reading, "a small tree"), encoding="utf-8")
    kernel = find_kernel(f"{file}:READ")
    assert kernel.base == reading.nearest.name
    assert kernel.decisions()["reuse"] == "reuse"
    assert kernel.decisions()["fork_copies"] == reading.nearest.decisions()["fork_copies"]
    assert "Not(maybe_pinned(f))" in file.read_text(encoding="utf-8")
    assert kernel.system().rules


def test_a_patch_is_applied_to_what_is_read_and_to_nothing_on_disk(tmp_path: Path) -> None:
    small = tree(tmp_path, write_fault(BY_COUNT))
    before = (tmp_path / "mm/memory.c").read_text()
    (tmp_path / "fix.patch").write_text(PATCH)
    patched = Tree(tmp_path, replaced=applied(small, tmp_path / "fix.patch"))
    assert ASKED["reuse"].ask(patched).words == "PG_anon_exclusive and an anonymous page"
    assert (tmp_path / "mm/memory.c").read_text() == before


@pytest.mark.parametrize(("text", "says"), [
    ("hello\n", "is no unified diff: it has no hunk"),
    (PATCH.replace("mm/memory.c", "mm/nowhere.c"), "changes no file that is read"),
    (PATCH.replace("mm/memory.c", "mm/ksm.c"), "does not apply: the tree has no mm/ksm.c"),
    (PATCH.replace("== 1", "== 7"), "does not apply: mm/memory.c, hunk 1 at line 3 fits nowhere"),
    (PATCH.replace("+if", "*if"), "a line of a hunk begins with a space, + or -"),
])
def test_a_patch_that_does_not_apply_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    small = tree(tmp_path, write_fault(BY_COUNT))
    (tmp_path / "fix.patch").write_text(text)
    with pytest.raises(ModelError) as raised:
        applied(small, tmp_path / "fix.patch")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_pattern_is_not_found_in_comments(tmp_path: Path) -> None:
    shown = next(p for p in PATTERNS if p.decision == "soft_dirty_lock")
    body = "/* mmap_write_lock(mm); */\n\tif (mmap_read_lock_killable(mm))\n\t\treturn -1;\n\treturn 0;\n"
    text = f"int clear_refs_write(struct mm_struct *mm)\n{{\n\t{body}}}\n"
    found = shown.ask(tree(tmp_path, fs__proc__task_mmu_dot_c=text))
    assert (found.how, found.values) == (PATTERN, ("read",))
    assert "fs/proc/task_mmu.c:4" in found.where[0]
    found = shown.ask(tree(tmp_path, fs__proc__task_mmu_dot_c=text.replace("mmap_read_lock", "lock_somehow")))
    assert "shows which it is of write; read" in found.why


def test_the_command_reads_a_tree_that_lacks_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, write_fault(BY_COUNT))
    assert main(["source", "read", str(tmp_path), "--json"]) == INCONCLUSIVE
    said = json.loads(capsys.readouterr().out)
    assert said["version"] == "6.1.0"
    reuse = next(d for d in said["decisions"] if d["decision"] == "reuse")
    assert (reuse["status"], reuse["how"]) == ("equal", READ)
    assert reuse["values"] == ["page_count_is_one"]


@pytest.mark.parametrize("command", [["read"], ["check"], ["diff", "elsewhere"]])
def test_a_folder_that_is_no_tree_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(["source", command[0], str(tmp_path), *command[1:]]) == USAGE
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is no kernel tree" in said


def test_two_trees_differ_in_the_decision_that_was_edited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path / "a", write_fault(BY_COUNT))
    tree(tmp_path / "b", write_fault(BY_COUNT.replace("page_count(page) == 1", "PageAnonExclusive(page)")))
    main(["source", "diff", str(tmp_path / "a"), str(tmp_path / "b"), "--json"])
    assert json.loads(capsys.readouterr().out)["differing"] == ["reuse", "reuse_large"]


@pytest.mark.slow
def test_a_page_that_is_reused_whoever_maps_it_breaks_isolation_and_a_test_tells_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: after fork both map the page; the parent's store reuses it, and the child sees the value.

    Reused by 5.9's count it is copied first, so that the claim stands.
    """
    body = BY_COUNT.replace("page_count(page) == 1 && ", "")
    tree(tmp_path / "bad", write_fault(body))
    tree(tmp_path / "good", write_fault(BY_COUNT))

    def check(which: str, claim: str) -> tuple[int, str]:
        code = main(["source", "check", str(tmp_path / which), "-i", claim, "--engine", "explore", "-o",
                     str(tmp_path / "out")])
        return code, capsys.readouterr().out

    code, out = check("bad", "isolation-mapping")
    assert code == VIOLATION
    assert "as a litmus test" in out
    assert "fork" in out.partition("as a litmus test")[2]
    # What an earlier check of the same tree wrote is not told again as if it had been asked for.
    code, out = check("bad", "swap-slot")
    assert "as a litmus test" not in out
    assert "as a litmus test" in check("bad", "isolation-mapping")[1]
    code, out = check("good", "isolation-mapping")
    # Most of the tree is not there, so that nothing is claimed.
    assert code == INCONCLUSIVE
    assert "as a litmus test" not in out
    asked = ("-i", "isolation-mapping", "--engine", "explore", "-o", str(tmp_path / "out"), "--json")
    assert main(["source", "check", str(tmp_path / "bad"), *asked]) == VIOLATION
    said = json.loads(capsys.readouterr().out)
    assert [(r["kernel"], r["verdict"]) for r in said["results"]] == [(said["trees"][0]["kernel"], "VIOLATED")]
    assert "fork" in said["tests"][0]["litmus"]
    assert main(["source", "check", str(tmp_path / "good"), *asked]) == INCONCLUSIVE
    said = json.loads(capsys.readouterr().out)
    assert (said["results"][0]["verdict"], said["tests"], said["changed"]) == ("EXHAUSTED", [], [])


@pytest.mark.slow
def test_debians_tree_decides_what_the_model_says() -> None:
    folder = Path(os.environ.get("PROOFS_SOURCES", ""))
    trees = sorted(folder.glob("6.1.*")) if os.environ.get("PROOFS_SOURCES") else []
    if not trees:
        pytest.skip("no source tree: tools/fetch-sources DIR bookworm, and PROOFS_SOURCES=DIR")
    reading = survey(Tree(trees[0]))
    counts = reading.counts()
    assert reading.nearest.name == "v6.1"
    assert [row.decision for row in reading.differing()] == []
    assert counts[READ] >= 15
    assert counts[PATTERN] >= 10
    assert reading.outside() == ()




IFS = "".join(f"\tif (flags & {1 << n}u) total += {n};\n" for n in range(40))
MANY = f"""
static vm_fault_t do_wp_page(struct vm_fault *vmf)
{{
	struct page *page = vm_normal_page(vmf->vma, vmf->address, vmf->orig_pte);
	unsigned int flags = vmf->flags, total = 0;
{IFS}
	if (PageAnon(page) && page_count(page) == total) {{ {REUSE} }}
	{COPY}
}}
"""


def test_a_decision_on_too_many_paths_is_not_read_in_its_time_and_the_others_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree(tmp_path, MANY)
    assert main(["source", "read", str(tmp_path), "--time", "0.5", "--json"]) == 3
    read = {row["decision"]: row for row in json.loads(capsys.readouterr().out)["decisions"]}
    assert read["reuse"]["how"] == NOT_READ
    assert read["reuse"]["why"] == "out of time after 0.5 s, --time gives it more"
    assert any(row["how"] != NOT_READ for row in read.values())


@pytest.mark.parametrize("command", [["read"], ["check"], ["diff", "."]])
@pytest.mark.parametrize("seconds", ["0", "-1", "nan"])
def test_what_is_no_time_is_one_line_before_anything_is_read(
    command: list[str], seconds: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["source", *command, str(tmp_path), "--time", seconds]) == 2
    assert "a time limit is more than 0 seconds" in capsys.readouterr().err


def test_an_interrupt_leaves_what_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree(tmp_path, write_fault(BY_COUNT))
    calls = iter(range(3))
    real = survey_module.answer_of

    def interrupted(*given: Any) -> Any:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(survey_module, "answer_of", interrupted)
    kernel = tmp_path / "read.py"
    assert main(["source", "read", str(tmp_path), "--kernel", str(kernel)]) == 3
    out, err = capsys.readouterr()
    assert out.count("is not read: interrupted before") > 50
    assert err == "proofs: interrupted: what was not come to is not read, and no kernel is written\n"
    assert not kernel.exists()


def test_one_tree_configured_otherwise_is_another_kernel_in_a_file_of_its_own(tmp_path: Path) -> None:
    body = f"""#ifdef CONFIG_SWAP
if (PageAnon(page) && page_count(page) == 1) {{ {REUSE} }}
#endif
{COPY}"""
    tree(tmp_path / "tree", write_fault(body))
    made = []
    for swap in (True, False):
        reading = survey(Tree(tmp_path / "tree", {"CONFIG_SWAP": swap, "SWAP": swap}))
        spec, left = source_commands.kernel_of(reading, tmp_path)
        made.append((spec, source_commands.record_of(reading, spec, left, tmp_path)))
    assert len(set(made)) == 2
    (spec, record), (other, _) = made
    assert json.loads(record.read_text())["configured"] in record.name
    if ".py:" in spec and ".py:" in other:
        assert find_kernel(spec).reuse != find_kernel(other).reuse
    usual = survey(Tree(tmp_path / "tree"))
    assert (usual.configured, usual.name) == ("", f"linux_{usual.version}_{usual.digest}")
