"""What rules take for granted is read from C; where it is not so, the kernel that was read has a lapse that says so."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from small_kernel import FILES
from small_trees import BY_COUNT, tree, write_fault

from invariants import invariant
from model.kernels import FURTHER, KERNELS, V6_1
from model.lapses import LAPSES
from model.logic import ModelError
from proofs import json_text
from proofs.certify import manifest
from proofs.check import jobs
from proofs.check.prove import objection
from proofs.check.scopes import scope_named
from proofs.cli.main import main
from proofs.errors import VIOLATION
from proofs.naming.specs import find_kernel, spec_of
from proofs.source import shown
from proofs.source.csource import Tree
from proofs.source.findings import ABSENCE, NOT_READ, READ
from proofs.source.granted import GRANTED
from proofs.source.patterns import PATTERNS, Pattern
from proofs.source.survey import ASKED, kernel_text, survey

NOT_COUNTED = {
    **dict.fromkeys(
        ("fork-keeps-huge-exclusive", "fork-keeps-sub-pages-exclusive", "fork-parent-huge-writable",
         "fork-child-huge-writable", "fork-shares-pinned-huge"),
        "rule fork: the next value of page_table is not a term",
    ),
    **dict.fromkeys(("copy-not-flushed", "copy-no-second-look"),
                    "rule wp-copy.decide may let exclusive matter without writing it"),
}
"""Lapses with which no proof counts, unless its clauses say that it may, and why."""
FACTS = {question.decision: question for question in GRANTED}
READ_OF_IT = (
    "fork clears PG_anon_exclusive of what it shares", "fork write-protects what it shares",
    "what fork shares is write-protected in the child, too", "fork's early copy is what the child maps",
    "fork leaves the parent's PTE of a page that it copies as it was",
    "an exclusive page is made shared only if it is not pinned",
    "an exclusive page that is made shared is not exclusive any more",
    "a copy is mapped when the old entry is cleared and flushed, and the old page given up after that",
    "a copy for a writer is mapped writable", "a copy for a writer is mapped dirty",
    "a copy for a reader keeps soft-dirty and uffd-wp", "a page that is reused is mapped writable",
    "a page that is reused is mapped dirty",
    "GUP-fast looks at the PTE and the PMD again once it holds the page",
    "GUP-fast leaves pages that are not exclusive to slow GUP",
    "GUP-fast takes for writing only what the PTE maps writable",
    "GUP-fast, which has no VMA, leaves what is no anonymous page to slow GUP if it is for long",
)
"""The facts that small_kernel.py has to do with."""
DECIDED = {
    "read_gup": "read_exclusive", "read_gup_nonanon": "not_for_long", "gup_fast_ordered": True,
    "fork_copies": "copies_pinned_exclusive", "unshare_writable": False, "copy_frees_swap_cache": True,
}


def small_kernel(folder: Path, file: str = "", old: str = "", new: str = "") -> Tree:
    """The small kernel, with one text in one of its files replaced by another."""
    assert not file or FILES[file].count(old) == 1, f"{old} stands {FILES[file].count(old)} times in {file}"
    for name, text in {**FILES, "Makefile": "VERSION = 6\nPATCHLEVEL = 1\n"}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(old, new) if name == file else text, encoding="utf-8")
    return Tree(folder)


def broken(of: Tree) -> set[str]:
    """The facts that are read not to hold."""
    found = {name: FACTS[name].ask(of) for name in READ_OF_IT}
    assert [f.why for f in found.values() if f.how == NOT_READ] == []
    return {name for name, finding in found.items() if not finding.has(True)}


def decided(of: Tree) -> dict[str, object]:
    found = {name: ASKED[name].ask(of) for name in DECIDED}
    assert {f.how for f in found.values()} == {READ}
    return {name: getattr(f.values[0], "__name__", f.values[0]) if f.values else f.words for name, f in found.items()}


def test_all_facts_hold_of_a_kernel_that_does_as_linux(tmp_path: Path) -> None:
    small = small_kernel(tmp_path)
    assert broken(small) == set()
    assert decided(small) == DECIDED


@pytest.mark.parametrize(("file", "old", "new", "facts"), [
    ("include/linux/rmap.h", "\t\tClearPageAnonExclusive(page);\n", "",
     {"fork clears PG_anon_exclusive of what it shares"}),
    ("mm/memory.c", "\t\tptep_set_wrprotect(src_vma->vm_mm, addr, src_pte);\n", "",
     {"fork write-protects what it shares"}),
    ("mm/memory.c", "\t\tpte = pte_wrprotect(pte);\n", "", {"what fork shares is write-protected in the child, too"}),
    ("mm/memory.c", "mk_pte(fresh, dst_vma->vm_page_prot)", "mk_pte(page, dst_vma->vm_page_prot)",
     {"fork's early copy is what the child maps"}),
    ("mm/memory.c", "copy_user_highpage(fresh, page, addr, src_vma);",
     "copy_user_highpage(fresh, page, addr, src_vma);\n\tptep_set_wrprotect(src_vma->vm_mm, addr, src_pte);",
     {"fork leaves the parent's PTE of a page that it copies as it was"}),
    ("include/linux/rmap.h", "\tif (page_maybe_dma_pinned(page))\n\t\treturn -EBUSY;\n", "",
     {"an exclusive page is made shared only if it is not pinned"}),
    ("mm/memory.c", "\tptep_clear_flush(vma, vmf->address, vmf->pte);\n", "",
     {"a copy is mapped when the old entry is cleared and flushed, and the old page given up after that"}),
    ("mm/memory.c", "maybe_mkwrite(pte_mkdirty(entry), vma)", "pte_mkdirty(entry)",
     {"a copy for a writer is mapped writable"}),
    ("mm/memory.c", "maybe_mkwrite(pte_mkdirty(entry), vma)", "maybe_mkwrite(entry, vma)",
     {"a copy for a writer is mapped dirty"}),
    ("mm/memory.c", "maybe_mkwrite(pte_mkdirty(pte_mkyoung(vmf->orig_pte)), vmf->vma)",
     "pte_mkdirty(pte_mkyoung(vmf->orig_pte))", {"a page that is reused is mapped writable"}),
    ("mm/memory.c", "\t\t\tentry = pte_mksoft_dirty(entry);\n", "\t\t\t;\n",
     {"a copy for a reader keeps soft-dirty and uffd-wp"}),
    ("mm/gup.c", " || pte_val(pte) != pte_val(ptep_get_lockless(ptep))", "",
     {"GUP-fast looks at the PTE and the PMD again once it holds the page"}),
    ("mm/gup.c", "pmd_val(pmd) != pmd_val(*pmdp) || ", "",
     {"GUP-fast looks at the PTE and the PMD again once it holds the page"}),
    ("mm/gup.c", "\t\tif (!pte_write(pte) && gup_must_unshare(NULL, flags, page))\n\t\t\tgoto back;\n", "",
     {"GUP-fast leaves pages that are not exclusive to slow GUP",
      "GUP-fast, which has no VMA, leaves what is no anonymous page to slow GUP if it is for long"}),
    ("mm/gup.c", "\t\tif (!pte_access_permitted(pte, flags & FOLL_WRITE))\n\t\t\treturn 0;\n", "",
     {"GUP-fast takes for writing only what the PTE maps writable"}),
    ("mm/internal.h", "\t\t\treturn true;\n", "\t\t\treturn false;\n",
     {"GUP-fast, which has no VMA, leaves what is no anonymous page to slow GUP if it is for long"}),
])
def test_an_edit_breaks_just_the_facts_that_it_is_about(
    tmp_path: Path, file: str, old: str, new: str, facts: set[str]
) -> None:
    assert broken(small_kernel(tmp_path, file, old, new)) == facts


@pytest.mark.parametrize(("file", "old", "new", "decision", "value"), [
    ("mm/gup.c", "\tif (!pte_write(pte) && gup_must_unshare(vma, flags, page))\n\t\treturn ERR_PTR(-EMLINK);\n", "",
     "read_gup", "read_as_mapped"),
    ("mm/internal.h", "\tsmp_rmb();\n", "", "gup_fast_ordered", False),
    ("include/linux/rmap.h", "\tsmp_mb();\n", "", "gup_fast_ordered", False),
    ("include/linux/rmap.h", "\tsmp_mb__after_atomic();\n", "", "gup_fast_ordered", False),
    ("mm/memory.c", "\tif (unshare) {", "\tif (0) {", "unshare_writable", True),
    ("mm/memory.c", "\tfree_swap_cache(old);\n", "", "copy_frees_swap_cache", False),
])
def test_an_edit_makes_another_decision(
    tmp_path: Path, file: str, old: str, new: str, decision: str, value: object
) -> None:
    assert decided(small_kernel(tmp_path, file, old, new))[decision] == value


def test_without_a_vma_nothing_is_asked_of_it(tmp_path: Path) -> None:
    lost = small_kernel(tmp_path, "mm/internal.h", "\t\tif (!vma)\n\t\t\treturn true;\n", "")
    found = FACTS[READ_OF_IT[-1]].ask(lost)
    assert found.how == NOT_READ
    assert "called at mm/internal.h:9" in found.why


def test_every_lapse_is_what_some_fact_lacks_and_every_name_is_one() -> None:
    assert {q.lapse for q in GRANTED if q.lapse} == set(LAPSES)
    with pytest.raises(ModelError, match="no lapse 'fork-keeps-exclusiv'; did you mean"):
        KERNELS[-1].but("mine", "", lapses=("fork-keeps-exclusiv",))


@pytest.mark.parametrize("features", sorted({lapse.features for lapse in LAPSES.values()}))
def test_a_lapse_changes_the_rules_that_it_names_and_no_others(features: tuple[str, ...]) -> None:
    plain = next(k for k in (*KERNELS, *FURTHER) if k.name == "v6.1")
    system = plain.system(features)
    before = {rule.name: rule.text() for rule in system.rules}
    for name, lapse in LAPSES.items():
        if lapse.features == features:
            lapsed = plain.but("lapsed", "", lapses=(name,)).system(features)
            changed = {r.name.partition(".")[0] for r in lapsed.rules if r.text() != before[r.name]}
            assert changed & set(lapse.rules), name
            # What can then never be true is taken out of all rules.
            assert changed <= set(lapse.rules) or len(lapsed.false) > len(system.false), name


@pytest.mark.parametrize("name", LAPSES)
def test_a_kernel_with_a_lapse_is_looked_at_as_one_with_rules_of_its_own(name: str) -> None:
    """Of a rule that a lapse changes it is not known that no cell matters unwritten: elements are not renamed, and a
    proof counts only where z3 says so."""
    kernel = V6_1.but("lapsing", "a lapse", {"lapses": "a tree"}, lapses=(name,))
    stated = invariant("coherence-write-pin")
    system = kernel.system(LAPSES[name].features)
    part = system.restricted(system.cone([stated.formula, stated.premise]))
    asked = jobs.Job(spec_of(kernel), (stated.name,), scope_named("default"), "explore", None, 0, (), "")
    assert not jobs.query_of(asked).reduce
    assert kernel.unusual_rules == set(LAPSES[name].rules)
    assert objection(kernel, part, []) == NOT_COUNTED.get(name, "")


def test_a_tree_with_a_lapse_becomes_a_kernel_with_it(tmp_path: Path) -> None:
    reading = survey(small_kernel(tmp_path, "include/linux/rmap.h", "\t\tClearPageAnonExclusive(page);\n", ""))
    assert [name for _, name in reading.lapses()] == ["fork-keeps-exclusive"]
    file = tmp_path / "read.py"
    file.write_text(kernel_text(reading, "a small kernel"), encoding="utf-8")
    kernel = find_kernel(f"{file}:READ")
    assert kernel.lapses == ("fork-keeps-exclusive",)
    assert dict(kernel.cite)["fork-keeps-exclusive"].startswith("copy_present_pte mm/memory.c:")
    # A certificate of it would say whose it is, and where in C each decision stands that is not the model's.
    read = json_text.read(manifest.write(tmp_path / "certificates", f"{file}:READ", "counters", []))
    assert read["about"] == "a small kernel"
    assert read["cite"]["fork-keeps-exclusive"] == dict(kernel.cite)["fork-keeps-exclusive"]


# What is absent


def test_what_is_absent_is_looked_for_where_it_would_stand(tmp_path: Path) -> None:
    found = ASKED["unshare"].ask(tree(tmp_path, write_fault(BY_COUNT)))
    assert (found.how, found.values) == (ABSENCE, (None,))
    assert found.where == ("absent: looked for FAULT_FLAG_UNSHARE in mm/memory.c; do_wp_page mm/memory.c:2",)


@pytest.mark.parametrize(("memory", "why"), [
    (write_fault(BY_COUNT).replace("do_wp_page", "wp_fault"), "but no do_wp_page either, where it would stand"),
    (write_fault(BY_COUNT.replace("if (", "if (FAULT_FLAG_UNSHARED + ")),
     "but FAULT_FLAG_UNSHARED, which may be its new name"),
    (write_fault(BY_COUNT.replace("== 1", "== = 1")), "but do_wp_page, where it would stand, does not parse"),
])
def test_absence_shows_nothing_where_it_would_not_be_seen(tmp_path: Path, memory: str, why: str) -> None:
    found = ASKED["unshare"].ask(tree(tmp_path, memory))
    assert found.how == NOT_READ
    assert why in found.why


def test_nothing_is_taken_to_be_absent_without_knowing_where_it_would_stand() -> None:
    by_absence = [p for p in PATTERNS if (p.otherwise, p.absent) != (Pattern.otherwise, Pattern.absent)]
    assert [p.decision for p in by_absence if not (p.beside or p.anchors)] == []


def test_a_missing_pattern_counts_beside_what_it_would_stand_with(tmp_path: Path) -> None:
    shown = next(p for p in PATTERNS if p.decision == "ksm_keeps_soft_dirty")
    body = "static int replace_page(struct page *page)\n{\n\tset_pte_at(mm, addr, ptep, newpte);\n\treturn 0;\n}\n"
    found = shown.ask(tree(tmp_path / "a", mm__ksm_dot_c=body))
    assert (found.how, found.values) == (ABSENCE, (False,))
    assert found.where == ("absent: looked for pte_mksoft_dirty in mm/ksm.c:1, beside set_pte_at(",)
    found = shown.ask(tree(tmp_path / "b", mm__ksm_dot_c=body.replace("set_pte_at", "install_pte")))
    assert found.how == NOT_READ
    assert "neither pte_mksoft_dirty nor what it would stand beside is at mm/ksm.c:1" in found.why


@pytest.mark.slow
def test_a_lapse_gives_a_counterexample_with_the_lines_of_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand: the parent writes, forks; parent and child both have the page exclusively."""
    small_kernel(tmp_path / "tree", "include/linux/rmap.h", "\t\tClearPageAnonExclusive(page);\n", "")
    code = main(["source", "check", str(tmp_path / "tree"), "-i", "exclusive", "--engine", "bmc", "-o",
                 str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert code == VIOLATION
    assert "fork clears PG_anon_exclusive of what it shares differs: copy_present_pte mm/memory.c:" in out
    assert "has the lapse fork-keeps-exclusive" in out
    assert "A: fork" in out.partition("as a litmus test")[2]


def test_what_a_verdict_is_of_is_kept_with_hashes_functions_and_lines(tmp_path: Path) -> None:
    small = small_kernel(tmp_path / "a")
    reading = survey(small)
    assert reading.commit == ""
    assert sorted(reading.files) == sorted([*FILES, "Makefile"])
    other = survey(small_kernel(tmp_path / "b", "mm/internal.h", "\tsmp_rmb();\n", ""))
    assert {file for file in FILES if reading.files[file] != other.files[file]} == {"mm/internal.h"}
    said = {d["decision"]: d for d in shown.to_json(reading)["decisions"]}
    assert "gup_must_unshare mm/internal.h:2" in said["read_gup"]["where"]
    git = ["git", "-C", str(tmp_path / "a"), "-c", "user.name=x", "-c", "user.email=x@y"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "small"]):
        subprocess.run([*git, *words], check=True)
    assert re.fullmatch("[0-9a-f]{40}", Tree(small.root).commit)
    assert re.fullmatch(r"[0-9a-f]{40}\+", Tree(small.root, replaced={"mm/gup.c": b""}).commit)


@pytest.mark.slow
@pytest.mark.parametrize(("lapse", "claim", "features", "steps"), [
    ("unmap-forgets", "uffd-wp", (), 3), ("swap-entry-always-exclusive", "isolation-mapping", (), 4),
    ("reclaim-forgets-flush", "tlb", ("--split", "tlb,reclaim-flush"), 5),
    ("ksm-dirty-uncounted", "coherence-get", ("--with", "ksm"), 4),
    ("ksm-exclusive-uncounted", "coherence-read-pin", ("--with", "ksm"), 5),
    ("ksm-gives-back-writable", "isolation-mapping", ("--with", "ksm"), 4),
    ("collapse-referenced", "coherence-write-pin", ("--with", "huge"), 3),
    ("mprotect-huge-writable", "isolation-mapping", ("--with", "huge"), 4),
    ("fork-shares-pinned-huge", "coherence-write-pin", ("--with", "huge"), 6),
    ("gup-fast-takes-files", "coherence-longterm-pin", ("--with", "file", "--split", "gup-fast"), 5),
])
def test_a_lapse_breaks_a_claim_in_so_many_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lapse: str, claim: str, features: tuple[str, ...], steps: int
) -> None:
    kernel = tmp_path / "kernel.py"
    made = f"V6_1.but('read', 'a lapse', lapses=({lapse!r},))"
    kernel.write_text(f"from model.kernels import V6_1\n\nREAD = {made}\n", encoding="utf-8")
    asked = ("-i", claim, *features, "--engine", "bmc", "--depth", str(steps), "--workers", "1")
    assert main(["check", "-k", f"{kernel}:READ", *asked, "-o", str(tmp_path / "out")]) == VIOLATION
    assert f"V {steps}" in capsys.readouterr().out
