"""Locks that are taken again, flushes that are put off, and loops of reclaim and mprotect: what an edit of C breaks."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from small_loops import FILES

from proofs.source.csource import Tree
from proofs.source.findings import READ
from proofs.source.granted import GRANTED
from proofs.source.survey import ASKED

FACTS = {question.decision: question for question in GRANTED}
COPIED = "a copy is mapped only where the PTE is still what was copied"
REUSED = "a page is reused only where the PTE is still what was read"
HUGE_REUSED = "a THP is reused only where the PMD is still what was read"
SWAPPED_IN = "swap-in maps the page only where the PTE is still the swap entry"
HINTED = "a NUMA hint is taken back only where the PTE is still what was read"
MERGED = "ksmd merges only where the PTE is still what it compared"
WRITTEN_OUT, FREED = (f"reclaim flushes TLBs before it {what} what it has unmapped" for what in ("writes out", "frees"))
NOTED = "reclaim notes each flush that it puts off"
KEPT = "reclaim keeps soft-dirty and uffd-wp in the swap entry"
EXCLUSIVE = "a swap entry is exclusive where the page was"
DIRTIED = "reclaim marks a page dirty whose PTE was"
PROTECTED, UNMAPPED = (f"{what} sees to flushes that reclaim has put off" for what in ("mprotect", "munmap"))
SUB_PAGES = "mprotect gives the write bit back to sub-pages that are exclusive, and to no other"
ALIKE = "mprotect changes PTEs in one go that are alike in soft-dirty and write bits"
UPGRADED = "mprotect gives a THP its write bit back where it would give it to a page"
PENDING, DIRTY = ("ksmd counts references while a TLB flush is pending",
                  "ksmd counts references of a page whose PTE is dirty")
COUNTED = "ksmd counts references of an exclusive page, whatever its PTE"
GIVEN_BACK = "ksmd gives the PTE back read-only and clean, its page dirty if it was"
UNREFERENCED = "collapse takes only pages that nobody refers to"
NAMES = (
    COPIED, REUSED, HUGE_REUSED, SWAPPED_IN, HINTED, MERGED, WRITTEN_OUT, FREED, NOTED, KEPT, EXCLUSIVE, DIRTIED,
    PROTECTED, UNMAPPED, SUB_PAGES, ALIKE, UPGRADED, PENDING, DIRTY, COUNTED, GIVEN_BACK,
    UNREFERENCED,
)
DECIDED = {"swap_out_pinned": "refuse", "unmap_pinned": "refuse", "discard_counts": True, "lazyfree_stays": False,
           "collapse_shared": True, "collapse_compound": True, "collapse_rechecks_uffd_wp": True}
SECOND = "\t\tif (!pte_same(*vmf->pte, vmf->orig_pte))\n\t\t\tgoto out;\n"


def kernel(folder: Path, file: str = "", old: str = "", new: str = "", at: int = 0) -> Tree:
    """The small kernel, with the `at`-th place of a text in one of its files made another text."""
    for name, text in {**FILES, "Makefile": "VERSION = 6\nPATCHLEVEL = 1\n"}.items():
        made = text
        if name == file:
            before = text.split(old)
            assert len(before) > at + 1, f"{old!r} does not stand {at + 1} times in {name}"
            made = old.join(before[:at + 1]) + new + old.join(before[at + 1:])
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made, encoding="utf-8")
    return Tree(folder)


def broken(of: Tree, file: str = "") -> set[str]:
    """The facts that are read not to hold, of functions in a file or of all. All of them must be read."""
    found = {name: FACTS[name].ask(of) for name in NAMES if not file or file in FACTS[name].files}
    assert {name: f.why for name, f in found.items() if f.how != READ} == {}
    return {name for name, finding in found.items() if not finding.has(True)}


def decided(of: Tree) -> dict[str, object]:
    found = {name: ASKED[name].ask(of) for name in DECIDED}
    assert {name: f.why for name, f in found.items() if f.how != READ} == {}
    return {name: f.values[0] if f.values else f.words for name, f in found.items()}


def test_all_holds_of_a_kernel_that_does_as_linux(tmp_path: Path) -> None:
    small = kernel(tmp_path)
    assert broken(small) == set()
    assert decided(small) == DECIDED


@pytest.mark.parametrize(("file", "old", "new", "at", "facts"), [
    ("mm/memory.c", "if (pte_same(*vmf->pte, vmf->orig_pte))", "if (vmf->pte)", 0, {COPIED}),
    # A look before the lock is taken says nothing of what is there afterwards.
    ("mm/memory.c", "\tif (!cow_user_page(fresh, old, vmf))\n\t\treturn 0;\n",
     "\tif (!cow_user_page(fresh, old, vmf) || !pte_same(*vmf->pte, vmf->orig_pte))\n\t\treturn 0;\n", 0, set()),
    ("mm/memory.c", "\t\tif (!pte_same(*vmf->pte, vmf->orig_pte))\n\t\t\treturn 0;\n", "", 0, {REUSED}),
    ("mm/memory.c", "\tif (!pte_same(*vmf->pte, vmf->orig_pte))\n\t\tgoto out;\n\tset_pte_at",
     "\tset_pte_at", 0, {SWAPPED_IN}),
    ("mm/memory.c", SECOND, "", 0, {HINTED}),
    ("mm/memory.c", "\tif (!pte_same(*vmf->pte, vmf->orig_pte))\n\t\tgoto out;\n\tpage", "\tpage", 0, {HINTED}),
    ("mm/huge_memory.c", "\tif (!pmd_same(*vmf->pmd, vmf->orig_pmd))\n\t\tgoto out;\n\tpage", "\tpage", 0,
     {HUGE_REUSED}),
    ("mm/huge_memory.c", "\t\tif (!pmd_same(*vmf->pmd, vmf->orig_pmd))\n\t\t\tgoto out;\n", "", 0, {HUGE_REUSED}),
    ("mm/ksm.c", "\tif (!pte_same(*ptep, orig_pte))\n\t\tgoto out;\n", "", 0, {MERGED}),
    ("mm/vmscan.c", "\t\t\ttry_to_unmap_flush_dirty();\n", "", 0, {WRITTEN_OUT}),
    ("mm/vmscan.c", "\ttry_to_unmap_flush();\n", "", 0, {FREED}),
    ("mm/vmscan.c", "\ttry_to_unmap_flush();\n\tfree_unref_page_list(&free_pages);\n",
     "\tfree_unref_page_list(&free_pages);\n\ttry_to_unmap_flush();\n", 0, {FREED}),
    ("mm/rmap.c", "\t\t\tset_tlb_ubc_flush_pending(mm, pte_dirty(pteval));\n", "", 0, {NOTED}),
    ("mm/rmap.c", "\t\tif (pte_uffd_wp(pteval))\n\t\t\tswp_pte = pte_swp_mkuffd_wp(swp_pte);\n", "", 0, {KEPT}),
    ("mm/rmap.c", "\t\tif (anon_exclusive)\n", "", 0, {EXCLUSIVE}),
    ("mm/rmap.c", "\t\tif (pte_dirty(pteval))\n\t\t\tset_page_dirty(page);\n", "", 0, {DIRTIED}),
    ("mm/mprotect.c", "\tflush_tlb_batched_pending(vma->vm_mm);\n", "", 0, {PROTECTED}),
    ("mm/memory.c", "\tflush_tlb_batched_pending(vma->vm_mm);\n", "", 0, {UNMAPPED}),
    ("mm/mprotect.c", "PageAnonExclusive(page + n)", "PageAnonExclusive(page)", 0, {SUB_PAGES}),
    ("mm/mprotect.c", "n < nr; n++", "n < 1; n++", 0, {SUB_PAGES}),
    ("mm/mprotect.c", " | FPB_RESPECT_WRITE", "", 0, {ALIKE}),
    ("mm/huge_memory.c", "PageAnonExclusive(vm_normal_page_pmd(vma, addr, pmd))", "true", 0, {UPGRADED}),
    ("mm/huge_memory.c", " || userfaultfd_huge_pmd_wp(vma, pmd)", "", 0, {UPGRADED}),
    ("mm/ksm.c", " || mm_tlb_flush_pending(mm)", "", 0, {PENDING}),
    ("mm/ksm.c", " || pte_dirty(entry)", "", 0, {DIRTY}),
    ("mm/ksm.c", " || exclusive ||", " ||", 0, {COUNTED}),
    ("mm/ksm.c", "\t\tentry = pte_mkclean(entry);\n", "", 0, {GIVEN_BACK}),
    ("mm/ksm.c", "\t\tif (pte_dirty(entry))\n\t\t\tset_page_dirty(page);\n", "", 0, {GIVEN_BACK}),
    ("mm/khugepaged.c", "page_count(page) != page_mapcount(page) + PageSwapCache(page)", "0", 0, {UNREFERENCED}),
])
def test_an_edit_breaks_just_the_facts_that_it_is_about(
    tmp_path: Path, file: str, old: str, new: str, at: int, facts: set[str]
) -> None:
    assert broken(kernel(tmp_path, file, old, new, at), file) == facts


@pytest.mark.parametrize(("file", "old", "new", "decision", "value"), [
    ("mm/vmscan.c", "\t\t\tif (page_maybe_dma_pinned(page))\n\t\t\t\tgoto keep_locked;\n", "", "swap_out_pinned",
     "allow"),
    ("mm/rmap.c", "if (anon_exclusive && page_try_share_anon_rmap(page))", "if (0)", "unmap_pinned", "allow"),
    ("mm/rmap.c", "page_count(page) == 1 + page_mapcount(page) && ", "", "discard_counts", False),
    ("mm/rmap.c", "\t\t\tSetPageSwapBacked(page);\n", "", "lazyfree_stays", True),
    ("mm/khugepaged.c", " || pte_uffd_wp(pteval)", "", "collapse_rechecks_uffd_wp", False),
    ("mm/khugepaged.c", "\t\tif (!trylock_page(page))", "\t\tif (page_mapcount(page) > 1 || !trylock_page(page))",
     "collapse_shared", False),
    ("mm/khugepaged.c", "\t\tif (!trylock_page(page))", "\t\tif (PageCompound(page) || !trylock_page(page))",
     "collapse_compound", False),
])
def test_an_edit_makes_another_decision(
    tmp_path: Path, file: str, old: str, new: str, decision: str, value: object
) -> None:
    assert decided(kernel(tmp_path, file, old, new))[decision] == value


# Debian's trees, where there are some


def debian(version: str) -> Tree:
    """The tree of that version. Skips the test where there is none."""
    folder = Path(os.environ.get("PROOFS_SOURCES", ""))
    trees = sorted(folder.glob(f"{version}.*")) if os.environ.get("PROOFS_SOURCES") else []
    if not trees:
        pytest.skip("no source tree: tools/fetch-sources DIR, and PROOFS_SOURCES=DIR")
    return Tree(trees[0])


def edited(of: Tree, function: str, pattern: str, text: str) -> Tree:
    """The tree with every place of a regular expression in a function made a text."""
    found = of.function(function)
    old = of.text(found.file)
    assert old is not None
    begin, end = found.node.start_byte, found.node.end_byte
    made, places = re.subn(pattern.encode(), text.encode(), old[begin:end], flags=re.S)
    assert places, f"nothing of {function} is {pattern}"
    return Tree(of.root, replaced={found.file: old[:begin] + made + old[end:]})


@pytest.mark.slow
@pytest.mark.parametrize(("function", "pattern", "text", "fact"), [
    ("wp_page_copy", r"likely\(pte_same\([^;{]*?\)\)", "1", COPIED),
    ("do_swap_page", r"if \(unlikely\(!pte_same\(\*vmf->pte, vmf->orig_pte\)\)\)\s+goto out_nomap;", "", SWAPPED_IN),
    ("do_huge_pmd_wp_page", r"unlikely\(!pmd_same\([^;{]*?\)\)", "0", HUGE_REUSED),
    ("do_numa_page", r"unlikely\(!pte_same\([^;{]*?\)\)", "0", HINTED),
    ("replace_page", r"!pte_same\([^;{]*?\)\)", "0)", MERGED),
    ("shrink_folio_list", r"try_to_unmap_flush_dirty\(\);", "", WRITTEN_OUT),
    ("shrink_folio_list", r"try_to_unmap_flush\(\);", "", FREED),
    ("try_to_unmap_one", r"set_tlb_ubc_flush_pending\([^;]*\);", "", NOTED),
    ("try_to_unmap_one", r"if \(pte_soft_dirty\(pteval\)\)\s+swp_pte = [^;]*;", "", KEPT),
    ("change_pte_range", r"flush_tlb_batched_pending\([^;]*\);", "", PROTECTED),
    ("write_protect_page", r" \|\| mm_tlb_flush_pending\(mm\)", "", PENDING),
])
def test_an_edit_of_debians_tree_breaks_the_fact(function: str, pattern: str, text: str, fact: str) -> None:
    tree = debian("6.1")
    assert FACTS[fact].ask(tree).has(True)
    found = FACTS[fact].ask(edited(tree, function, pattern, text))
    assert found.how == READ
    assert not found.has(True)


@pytest.mark.slow
@pytest.mark.parametrize(("into", "of", "function", "decision", "value"), [
    # c18160dba5ff of 6.11; what reclaim does with a page given up by MADV_FREE changed between 6.12 and 7.2.
    ("6.1", "6.12", "do_swap_page", "swap_in_upgrades", True),
    ("6.12", "6.1", "do_swap_page", "swap_in_upgrades", False),
    ("6.12", "7.2", "try_to_unmap_one", "lazyfree_stays", True),
    ("7.2", "6.12", "try_to_unmap_one", "lazyfree_stays", False),
])
def test_a_function_of_another_version_is_read_as_it_is_there(
    into: str, of: str, function: str, decision: str, value: object
) -> None:
    tree, other = debian(into), debian(of)
    old, new = tree.function(function), other.function(function)
    texts = {name: kept.text(found.file) for name, kept, found in (("old", tree, old), ("new", other, new))}
    assert texts["old"] is not None
    assert texts["new"] is not None
    part = texts["new"][new.node.start_byte:new.node.end_byte]
    mixed = texts["old"][:old.node.start_byte] + part + texts["old"][old.node.end_byte:]
    assert not ASKED[decision].ask(tree).has(value)
    assert ASKED[decision].ask(Tree(tree.root, replaced={old.file: mixed})).has(value)
