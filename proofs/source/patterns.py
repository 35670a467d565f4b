"""Decisions that are found in the text of a function: that it calls something, asks something, or does so first.

A pattern is weaker than what is read path by path: it says that the words stand there, not that they are reached. That
nothing is found where a version with the other value has something is weaker still, and told apart (`absence`).
Spaces in a pattern are any white space; comments of the source are blanked out before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from model import decisions
from proofs.source.csource import NotRead, Tree, without_comments
from proofs.source.findings import ABSENCE, NOT_READ, PATTERN, DecisionFinding, anchored, similar

_NONE = object()
_HUGETLB = ("mm/hugetlb.c",)


@dataclass(frozen=True)
class Pattern:
    """How one decision shows in the text.

    functions: where to look, all that there are; without any, in the whole files. choices: values and what shows each;
    the first found counts. otherwise: the value where none shows; absent: that where the tree has no such function;
    without them it is not read. That something is missing counts only where it would be seen: `beside` (a regular
    expression) stands in the functions, and one of the functions `anchors` is in the files.
    """

    decision: str
    files: tuple[str, ...]
    functions: tuple[str, ...]
    choices: Sequence[tuple[Any, str]]
    otherwise: Any = _NONE
    absent: Any = _NONE
    beside: str = ""
    anchors: tuple[str, ...] = ()

    def ask(self, tree: Tree) -> DecisionFinding:
        """What the tree shows. What cannot be found says why, and is no error."""
        try:
            texts = self._texts(tree)
        except NotRead as error:
            return DecisionFinding(self.decision, NOT_READ, why=str(error))
        if not texts:
            return self._without(tree)
        for value, pattern in self.choices:
            for file, line, text in texts:
                if found := re.search(spaced(pattern), text, re.S):
                    place = f"{file}:{line + text.count(chr(10), 0, found.start())}"
                    shown = " ".join(found[0].split())
                    return DecisionFinding(self.decision, PATTERN, (value,), (f"{shown[:90]} at {place}",))
        where = ", ".join(f"{file}:{line}" for file, line, _ in texts)
        if self.otherwise is _NONE:
            known = "; ".join(decisions.value_text(value) for value, _ in self.choices)
            return DecisionFinding(self.decision, NOT_READ, why=f"nothing at {where} shows which it is of {known}")
        return self._missing(tree, texts, where)

    def _without(self, tree: Tree) -> DecisionFinding:
        """There is no such function."""
        missing = " or ".join(self.functions) or " or ".join(self.files)
        if self.absent is _NONE or all(tree.text(file) is None for file in self.files):
            return DecisionFinding(self.decision, NOT_READ, why=f"there is no {missing} in {', '.join(self.files)}")
        try:
            place = anchored(tree, self.files, self.anchors, missing)
            for name in self.functions:
                if like := similar(tree, name, self.files):
                    raise NotRead(f"there is no {name}, but {like}, which may be its new name")
        except NotRead as error:
            return DecisionFinding(self.decision, NOT_READ, why=str(error))
        return DecisionFinding(self.decision, ABSENCE, (self.absent,), (f"absent: looked for {missing}; {place}",))

    def _missing(self, tree: Tree, texts: Sequence[tuple[str, int, str]], where: str) -> DecisionFinding:
        """Nothing of what shows another value is there: that counts only where it would stand."""
        names = dict.fromkeys(name for _, pattern in self.choices for name in names_in(pattern))
        sought = ", ".join(names) or "anything else"
        try:
            place = anchored(tree, self.files, self.anchors, sought) if self.anchors else ""
        except NotRead as error:
            return DecisionFinding(self.decision, NOT_READ, why=str(error))
        beside = next((found[0] for _, _, text in texts if (found := re.search(spaced(self.beside), text, re.S))), None)
        if self.beside and beside is None:
            why = f"neither {sought} nor what it would stand beside is at {where}"
            return DecisionFinding(self.decision, NOT_READ, why=why)
        near = " ".join((beside or "").split())[:60]
        said = f"absent: looked for {sought} in {where}" + (f", beside {near}" if near else "")
        return DecisionFinding(self.decision, ABSENCE, (self.otherwise,), (f"{said}; {place}" if place else said,))

    def _texts(self, tree: Tree) -> list[tuple[str, int, str]]:
        if not self.functions:
            given = [(file, 1, tree.text(file)) for file in self.files]
        else:
            found = [f for f in (tree.find(name, self.files) for name in self.functions) if f is not None]
            given = [(f.file, f.line, f.node.text) for f in found]
        return [(file, line, without_comments(text).decode("utf-8", "replace")) for file, line, text in given if text]


def names_in(pattern: str) -> list[str]:
    """The names that a pattern speaks of, for people."""
    return re.findall(r"[A-Za-z]\w{5,}", re.sub(r"\\[a-z][+*]?|\([^()]*\)\?|unlikely", " ", pattern))


def spaced(pattern: str) -> str:
    """The pattern, in which a space stands for any white space, or none."""
    return pattern.replace(" ", r"\s*")


_HUGE = ("mm/huge_memory.c",)
_UFFD = ("mm/userfaultfd.c", "fs/userfaultfd.c")
_COLLAPSE = ("mm/khugepaged.c",)
_MEMORY = ("mm/memory.c",)

PATTERNS: tuple[Pattern, ...] = (
    Pattern("touch_dirties_pmd", (*_HUGE, "mm/gup.c"), ("touch_pmd",), (
        (False, r"if \( (flags & FOLL_WRITE|write) \) \w+ = pmd_mkdirty"), (True, r"pmd_mkdirty"))),
    Pattern("read_gup_writes", ("mm/gup.c",), (), ((True, r"\bshould_force_cow_break\("),), False,
            anchors=("__get_user_pages",)),
    Pattern("exclusive_bit", ("include/linux/page-flags.h",), (), ((True, r"\bPG_anon_exclusive\b"),), False,
            anchors=("PageAnon", "folio_test_anon")),
    Pattern("ksm_keeps_soft_dirty", ("mm/ksm.c",), ("replace_page",), ((True, r"pte_mksoft_dirty\("),), False,
            beside=r"\bset_pte_at(_notify)?\("),
    Pattern("unmerge_unshares", ("mm/ksm.c",), ("break_ksm",), (
        (True, r"handle_mm_fault\([^;]*FAULT_FLAG_UNSHARE"), (False, r"handle_mm_fault\([^;]*FAULT_FLAG_WRITE"))),
    Pattern("migrate_large", ("mm/migrate.c",), (
        "migrate_pages_batch", "migrate_pages", "unmap_and_move", "migrate_folio_unmap"), (
        ("split-partial", r"(folio_test_partially_mapped\( \w+ \)|list_empty\( &\w+->_deferred_list \)).{0,60}?"
                          r"try_split_folio\("),
        ("split", r"PageTransHuge\( page \) && !PageTransHuge\( hpage \).{0,200}?split_huge_page")), "whole",
            beside=r"\b(unmap_and_move|migrate_folio_unmap)\b"),
    Pattern("migration_dirty", ("mm/migrate.c",), ("remove_migration_pte",), (
        ("keep", r"pte_mkdirty\( pte \).*?else pte = pte_clear_soft_dirty\( pte \)"),
        ("soft-dirty", r"migration_(entry_)?dirty\( entry \) \) pte = pte_mkdirty")), "drop",
            beside=r"\b(maybe_mkwrite|pte_mkwrite)\("),
    Pattern("split_keeps_dirty", _HUGE, ("__split_huge_pmd_locked",), (
        (True, r"if \( dirty \) entry = pte_mkdirty\( entry \)"),), False,
            beside=r"\bpte_mksoft_dirty\("),
    Pattern("split_zero_parts", ("mm/migrate.c",), ("try_to_map_unused_to_zeropage",), (
        ("map", r"pte_mksoft_dirty\( newpte \).*?pte_mkuffd(_wp)?\( newpte \)"), ("map-bare", r"pte_mkspecial\(")),
        absent="keep",
            anchors=("remove_migration_ptes",)),
    Pattern("collapse_read_only", _COLLAPSE, ("__collapse_huge_page_isolate",), (
        (False, r"SCAN_PAGE_RO\b"),), True,
            beside=r"\bSCAN_PTE_NON_PRESENT\b"),
    Pattern("lazyfree_splits", ("mm/madvise.c",), ("madvise_free_pte_range",), (
        (decisions.mapped_in_one_mm, r"folio_(estimated_sharers|likely_mapped_shared|maybe_mapped_shared)\("),
        (decisions.page_mapcount_is_one, r"if \( page_mapcount\( page \) != 1 \)"))),
    Pattern("mremap_clears_uffd_wp", ("mm/mremap.c",), ("move_ptes",), (
        (True, r"need_clear_uffd_wp.*?pte_clear_uffd(_wp)?\("),), False,
            beside=r"\bmove_soft_dirty_pte\("),
    Pattern("mremap_looks_first", ("mm/mremap.c",), (), (
        (True, r"check_prep_vma\(|= (find_vma|vma_lookup)\( mm, addr \) ; if \( !vma[^)]*\) \{ ret = -?EFAULT"),),
            False, beside=r"= mremap_to\("),
    Pattern("dontunmap_unlinks", ("mm/mremap.c",), (), ((True, r"\bunlink_anon_vmas\("),), False,
            beside=r"\bMREMAP_DONTUNMAP\b"),
    Pattern("uffd_prepares_first", ("mm/userfaultfd.c",), (), ((True, r"= find_vma_and_prepare_anon\("),), False,
            beside=r"\banon_vma_prepare\("),
    Pattern("uffd_move_gives_up", ("mm/userfaultfd.c",), ("move_pages_pte", "move_pages_ptes"), (
        (True, r"= split_folio\( src_folio \) ; if \( (err|ret) \) \{ if \( (err|ret) == -?EAGAIN"),
        (False, r"= split_folio\( src_folio \) ; if \( (err|ret) \) goto")), absent=False,
            anchors=("mfill_atomic_pte", "mwriteprotect_range")),
    Pattern("lazyfree_spares_ksm", ("mm/madvise.c",), ("madvise_free_pte_range",), (
        (True, r"if \( folio_test_ksm\( folio \) \)"),), False,
            beside=r"\b(folio_trylock|trylock_page)\("),
    Pattern("dontneed_frees_tables", _MEMORY, ("zap_pte_range",), (
        (True, r"(try_get_and_clear_pmd|zap_empty_pte_table)\("),), False,
            beside=r"\bpte_unmap_unlock\("),
    Pattern("uffd_continue_dirty", ("mm/userfaultfd.c",), ("mfill_atomic_install_pte", "mcopy_atomic_install_pte"), (
        (False, r"(if \( writable|page_in_cache && !vm_shared) .*?pte_mkdirty"), (True, r"pte_mkdirty\(")),
        False, absent=False,
            beside=r"\bpte_mk\w+\(", anchors=("mcopy_atomic_pte", "mfill_atomic_pte", "mfill_atomic")),
    Pattern("follows_inaccessible", ("include/linux/mm.h",), ("gup_can_follow_protnone",), (
        (True, r"\bFOLL_HONOR_NUMA_FAULT\b"), (False, r"return flags & FOLL_FORCE")), absent=True,
            anchors=("vma_is_accessible",)),
    Pattern("ksm_walks", ("mm/ksm.c",), ("scan_get_next_rmap_item",), (
        (True, r"= walk_page_range_vma\("), (False, r"= follow_page\("), (False, r"= folio_walk_start\("))),
    Pattern("protect_batches", ("mm/mprotect.c",), (), ((True, r"\bmodify_prot_start_ptes\("),), False,
            anchors=("change_pte_range",), beside=r"\bptep_modify_prot_start\(|\bpte_modify\("),
    Pattern("dofork_of_special", ("mm/madvise.c",), ("madvise_vma_behavior", "madvise_behavior"), (
        (False, r"case MADV_DOFORK : if \( new_flags & VM_SPECIAL"), (True, r"case MADV_DOFORK : if \( \S+ & VM_IO"))),
    Pattern("soft_dirty_lock", ("fs/proc/task_mmu.c",), ("clear_refs_write",), (
        ("write", r"if \( (mmap_write_lock|down_write)\w*\( "), ("read", r"(mmap_read_lock|down_read)\w*\("))),
    Pattern("uffd_across_vmas", ("mm/userfaultfd.c",), ("mwriteprotect_range",), (
        (True, r"\bvmi, dst_vma, end\b"), (False, r"dst_vma = find_dst_vma\("))),
    Pattern("uffd_markers", ("mm/mprotect.c",), (), ((True, r"make_pte_marker\( PTE_MARKER_UFFD_WP \)"),), False,
            anchors=("change_pte_range",)),
    Pattern("uffd_unpopulated", _MEMORY, ("do_anonymous_page",), ((True, r"vmf_orig_pte_uffd\w*\("),), False,
            beside=r"\buserfaultfd_missing\("),
    Pattern("uffd_async", _MEMORY, ("do_wp_page",), ((True, r"userfaultfd_wp_async\("),), False,
            beside=r"\buserfaultfd_pte_wp\("),
    Pattern("register_narrows", _UFFD, ("userfaultfd_register",), (
        (False, r"VM_UFFD_WP( \| \w+)* \) & ~vm_flags"),), True,
            beside=r"\bvma_can_userfault\("),
    Pattern("guard_regions", ("mm/madvise.c",), (), ((True, r"\bmadvise_guard_install\("),), False,
            beside=r"\bMADV_DONTNEED\b"),
    Pattern("guard_files", ("mm/madvise.c",), ("is_valid_guard_vma", "madvise_guard_install"), (
        ("refused", r"VM_MAYWRITE \| disallowed"), ("flag", r"VMA?_MAYBE_GUARD"), ("anon-vma", r"anon_vma_prepare\("),
    ), absent="refused", anchors=("madvise_dontneed_free",)),
    Pattern("copy_fills_markers", _UFFD, (
        "mfill_atomic_install_pte", "mcopy_atomic_install_pte", "mcopy_atomic_pte",
    ), (
        (True, r"pte_none_mostly\("), (False, r"pte_none\("))),
    Pattern("unregister_unprotects", _UFFD, ("userfaultfd_unregister", "userfaultfd_clear_vma"), (
        (True, r"uffd_wp_range\(|\bMM_CP_UFFD_WP_RESOLVE\b"),), False,
            beside=r"\bNULL_VM_UFFD_CTX\b"),
    Pattern("copy_protects_read_only", _UFFD, (
        "mfill_atomic_install_pte", "mcopy_atomic_install_pte", "mcopy_atomic_pte",
    ), (
        (False, r"\( (dst_vma->vm_flags & VM_WRITE|writable) \) \{ if \( wp_copy \)"), (True, r"pte_mkuffd\w*\("))),
    Pattern("hugetlb_fork_copies", _HUGETLB, ("copy_hugetlb_page_range",), (
        (decisions.copies_pinned_exclusive, r"(hugetlb|page)_try_dup_anon_rmap\("),
        (decisions.copies_pinned, r"page_needs_cow_for_dma\(")), decisions.never, beside=r"\bpage_dup_rmap\("),
    Pattern("hugetlb_copy_writable", _HUGETLB, ("hugetlb_install_folio", "hugetlb_install_page"), (
        (True, r"make_huge_pte\([^;]*, 1 \)"), (False, r"make_huge_pte\([^;]*, true \)")), absent=False,
            anchors=("copy_hugetlb_page_range",)),
    Pattern("swap_in_sync", _MEMORY, ("do_swap_page", "should_try_to_free_swap"), (
        ("guards", r"swapcache_prepare\("), ("skips", r"__swap_count\( entry \) == 1"),
        ("frees", r"SWP_SYNCHRONOUS_IO \) \) return true"))),
    Pattern("longterm_migrates", ("mm/gup.c",), (
        "check_and_migrate_movable_pages_or_folios", "check_and_migrate_movable_pages", "try_grab_compound_head",
    ), (
        ("movable", r"collect_longterm_unpinnable_\w+\(|is_pinnable_page\("), ("cma", r"is_migrate_cma_page\("))),
    Pattern("early_copy_keeps_uffd_wp", _MEMORY, ("copy_present_page",), (
        (True, r"userfaultfd_(pte_wp|protected|wp)\( dst_vma|pte_mkuffd\w*\("),), False, absent=False,
            beside=r"\bmaybe_mkwrite\(", anchors=("copy_page_range",)),
    Pattern("uffd_move", _UFFD, ("move_pages_pte", "move_pages_ptes", "move_swap_pte"), (
        ("rechecks", r"entry\.val != src_folio->swap\.val"),
        ("carries", r"\b(filemap_get_folio|swap_cache_get_folio)\("), ("blind", r"move_swap_pte\(")), absent="none",
            anchors=("mfill_atomic", "__mcopy_atomic")),
    Pattern("move_soft_dirty", _UFFD, ("move_swap_pte",), (
        (True, r"pte_swp_mksoft_dirty\("),), False, absent=False,
            beside=r"\bset_pte_at\(", anchors=("mfill_atomic", "__mcopy_atomic")),
    Pattern("fork_excludes_faults", ("kernel/fork.c", "mm/mmap.c"), ("dup_mmap",), (
        (True, r"\bvma_start_write\w*\( mpnt \)"), (False, r"\bVMA_LOCK\b")), True,
            beside=r"\bmmap_(write_)?lock"),
    Pattern("fork_seqcount", ("mm/gup.c",), (), (
        (True, r"read_seqcount_retry\( &current->mm->write_protect_seq"),), False,
            anchors=("internal_get_user_pages_fast", "gup_fast", "gup_fast_fallback")),
    Pattern("split_locks_page", _HUGE, ("__split_huge_pmd",), ((True, r"trylock_page\( page \)"),), False,
            beside=r"\bpmd_lock\("),
)
