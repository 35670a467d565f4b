"""What C says about a page, for any version: names of one thing, expressions and their terms, calls and their effects.

The words are those of 7.x; RENAMED says how older versions, and functions of pages for those of folios, have them.
Nothing here is a decision: an expression that is missing is not assumed to be anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from z3 import And, Bool, If, Implies, Int, IntVal, Not, Or

from proofs.source.expressions import Vocabulary
from proofs.source.values import Term, Thing, Value
from proofs.source.world import (
    ENTRIES,
    LOCAL,
    OTHERS,
    PAGE,
    REFERENCES,
    SLOT,
    SUB_PAGES,
    TRANSIENT,
    word,
)

RENAMED = {
    **dict.fromkeys(("folio", "src_page"), "page"), "src_vma": "vma", "dst_vma": "child",
    "orig_pmd": "pmd", "ptent": "pte", "oldpte": "pte", "src_pte": "ptep",
    "PageKsm": "folio_test_ksm", "page_count": "folio_ref_count", "trylock_page": "folio_trylock",
    "PageSwapCache": "folio_test_swapcache", "PageAnon": "folio_test_anon", "PageWriteback": "folio_test_writeback",
    "page_swapped": "folio_swapped", "folio_maybe_swapped": "folio_swapped", "try_to_free_swap": "folio_free_swap",
    "page_maybe_dma_pinned": "folio_maybe_dma_pinned", "PageTransCompound": "folio_test_large",
    "PageTransHuge": "folio_test_large", "PageCompound": "folio_test_large", "compound_head": "page_folio",
    "lock_page": "folio_lock", "unlock_page": "folio_unlock", "get_page": "folio_get", "put_page": "folio_put",
    "delete_from_swap_cache": "swap_cache_del_folio", "delete_from_swap_cache_locked": "swap_cache_del_folio",
    "SetPageDirty": "folio_set_dirty", "vm_normal_folio": "vm_normal_page", "thp_nr_pages": "folio_nr_pages",
    "vma_is_cow_mapping": "is_cow_mapping", "PageUptodate": "folio_test_uptodate", "PageMlocked": "folio_test_mlocked",
    "copy_user_highpage": "copy_mc_user_highpage", "page_needs_cow_for_dma": "folio_needs_cow_for_dma",
    "is_device_private_page": "folio_is_device_private", "lookup_swap_cache": "swap_cache_get_folio",
    "swap_free": "folio_put_swap", "swap_free_nr": "folio_put_swap", "set_pte_at": "set_ptes",
    "maybe_mkwrite": "pte_mkwrite", "pmd_page": "pmd_folio", "is_huge_zero_pfn": "is_huge_zero_pmd",
    "pte_uffd_wp": "pte_uffd", "pte_swp_uffd_wp": "pte_swp_uffd", "pte_mkuffd_wp": "pte_mkuffd",
    "pte_to_swp_entry": "softleaf_from_pte", "page_add_anon_rmap": "folio_add_anon_rmap_ptes",
    "do_page_add_anon_rmap": "folio_add_anon_rmap_ptes", "folio_add_anon_rmap_pte": "folio_add_anon_rmap_ptes",
    "page_add_new_anon_rmap": "folio_add_new_anon_rmap", "map_anon_folio_pmd": "map_anon_folio_pmd_pf",
    "wait_on_page_writeback": "folio_wait_writeback", "page_try_dup_anon_rmap": "folio_try_dup_anon_rmap_pte",
    "folio_likely_mapped_shared": "folio_maybe_mapped_shared",
    "lock_page_or_retry": "folio_lock_or_retry", "do_huge_pmd_wp_page_fallback": "copy_huge_page_by_pieces",
    "page_file_page": "folio_file_page", "PageSwapBacked": "folio_test_swapbacked", "PageDirty": "folio_test_dirty",
    "page_mapped": "folio_mapped", "page_mapping": "folio_mapping", "PageReclaim": "folio_test_reclaim",
    "page_ref_count": "folio_ref_count", "page_evictable": "folio_evictable",
    "PageUnevictable": "folio_test_unevictable", "PageActive": "folio_test_active",
    "page_is_file_lru": "folio_is_file_lru", "SetPageSwapBacked": "folio_set_swapbacked",
}
"""Names that changed between 5.7 and 7.3, to those of 7.3; of two that mean the same here, one."""

INERT = (
    r"flush_\w+|\w*_unlock|spin_lock\w*|pte_offset_map\w*|pte_unmap\w*|pte_lockptr|pmd_lock\w*|update_mmu_\w+|count_\w+"
    r"|mmu_notifier_\w+|delayacct_\w+|mem_cgroup_\w+|\w*cgroup_throttle_swaprate|folio_throttle_swaprate|folio_put"
    r"|folio_get|get_swap_device|put_swap_device|arch_\w+|(add|inc|dec)_mm_counter\w*|mm_counter\w*|pmd_mk\w+|pte_mk\w+"
    r"|folio_set_dirty|folio_lock|folio_move_anon_rmap|page_cpupid_xchg_last|folio_xchg_last_cpupid"
    r"|swap_update_readahead|swapcache_clear|folio_ref_(add|sub)|set_pte_range|vmf_anon_prepare|pm_\w+|folio_add_lru\w*"
    r"|lru_cache_add\w*|__?SetPageUptodate|__folio_mark_uptodate|(folio|page)_(dup|remove)_\w*rmap\w*|__page_dup_rmap"
    r"|atomic_(inc|dec|add|sub)\w*|atomic_read|check_swap_exclusive|softleaf_\w+|swp_(?!pte_prepare)\w+|rcu_read_lock|smp_\w+"
    r"|page_private|p[tm][ed]_pfn|folio_clear_\w+|put_page_testzero|raw_read_seqcount|__folio_rmap_sanity_checks|folio_add_large_mapcount"
    r"|folio_inc_large_mapcount|mk_\w+|folio_mk_\w+|pte_advance_pfn|pte_modify|pte_\w*wrprotect"
    r"|folio_(un)?lock_large_mapcount|page_ref_unfreeze|linear_page_index|ptep_set_wrprotect|swp_swap_info|folio_swap|pte_next_swp_offset|set_ptes"
    r"|pte_clear_\w+|pmd_clear_\w+|pte_swp_\w+|folio_page_idx|ptep_modify_prot_\w+|mmu_\w+|DECLARE_\w+|DEFINE_\w+|(add|remove)_wait_queue|schedule_\w+|workingset_refault|get_shadow_from_swap_cache|swap_readpage"
)
"""Calls that change nothing that a word says: counters, locks, TLBs, the cgroup, bits of a PTE that is being made."""

PAGE_THING, NULL = Thing("page"), 0
FREE = Bool("the page lock is free")
STABLE = Bool("its swap device needs stable pages")
MAPCOUNT, SUB_MAPCOUNT = Int("mapcount and swapcount"), Int("mapcount of the sub-page")
TOTAL = Int("swap entries of the whole folio")
UFFD, PENDING = Bool("VM_UFFD_WP"), Bool("a TLB flush is pending")
UNSHARE, WRITE = Bool("FAULT_FLAG_UNSHARE"), Bool("a write")
FOLL_PIN, FOLL_WRITE, LONGTERM, FORCE, COW = (
    Bool(n) for n in ("FOLL_PIN", "FOLL_WRITE", "FOLL_LONGTERM", "FOLL_FORCE", "FOLL_COW"))
ANON, ZERO, SWAP_FULL = Not(word("nonanon")), Bool("the huge zero page"), Bool("more than half of swap in use")
PROTNONE, SHARED_VMA, MAYWRITE = Bool("PROT_NONE"), Bool("VM_SHARED"), Bool("VM_MAYWRITE")
VMA = Bool("there is a VMA")
SHARED = Or(And(word("large"), Not(word("one-mm"))), And(Not(word("large")), OTHERS > 0))
"""folio_maybe_mapped_shared, without its errors."""

START: dict[str, Value] = {
    "cached": word("swap-cache"), "transient": TRANSIENT, "exclusive": word("exclusive"), "entry": False,
    "writable": False,
}


def _count(mapped: int) -> Any:
    """folio_ref_count: what maps it, the swap cache (once for each sub-page), references."""
    def count(match: Any, world: Mapping[str, Value]) -> Term:
        pages = If(word("large"), SUB_PAGES, IntVal(1))
        return mapped + OTHERS + If(world["cached"], pages, IntVal(0)) + REFERENCES + world["transient"]
    return count


def of(name: str) -> Any:
    """What the world says now."""
    return lambda match, world: world[name]


def _flag(bit: Term) -> Any:
    return lambda match, world: bit


def _page_words(mapped: int) -> list[tuple[str, Any]]:
    page = r"\(page\)"
    return [
        (rf"folio_ref_count{page}", _count(mapped)), (rf"folio_test_swapcache{page}", of("cached")),
        (rf"folio_test_ksm{page}", word("ksm")), (r"PageAnonExclusive\(page\)", of("exclusive")),
        (rf"folio_trylock{page}", FREE), (rf"folio_test_anon{page}", ANON), (rf"folio_test_large{page}", word("large")),
        (rf"folio_maybe_dma_pinned{page}", word("pinned")),
        (rf"folio_nr_pages{page}", If(word("large"), SUB_PAGES, IntVal(1))),
        (rf"folio_test_lru{page}", LOCAL == 0),
        (r"page_ref_freeze\(page,1\)", lambda match, world: _count(mapped)(match, world) == 1),
        (r"page_stable_node\(page\)", Thing("the stable node")),
        (r"page_folio\(page\)|folio_file_page\(page,.*\)|folio_page\(page,.*\)|&page->page|pmd_folio\(.*\)"
         r"|vm_normal_page(_pmd)?\(vma,.*\)|vmf->page|page", PAGE_THING),
        (r"page_trans_huge_map_swapcount\(page,.*\)", MAPCOUNT),
        (r"page_trans_huge_map_swapcount:total_swapcount", TOTAL), (r"page_swapcount\(page\)", ENTRIES),
        (r"(folio|page)_mapcount\(page\)", SUB_MAPCOUNT),
        (rf"folio_large_mapcount{page}", 1 + OTHERS),
        (r"test_bit\(FOLIO_MM_IDS_SHARED_BITNUM,&page->_mm_ids\)", Not(word("one-mm"))),
        (r"folio_maybe_mapped_shared\(page\)", SHARED), (r"folio_estimated_sharers\(page\)", If(SHARED, 2, 1)),
        (r"pm_suspended_storage\(\)|folio_is_device_private\(page\)|is_fsdax_page\(page\)|PageHWPoison\(page\)"
         r"|is_zero_pfn\(.*\)|folio_is_zone_device\(page\)", False),
        (r"(swap_info_get|_swap_info_get|get_swap_device|swp_swap_info|__swap_entry_to_info)\(.*\)", Thing("si")),
        (r"si->flags&SWP_STABLE_WRITES", STABLE), (r"si->flags&SWP_SYNCHRONOUS_IO", False),
        (r"_?swap_info_lock\(.*\)", False),
    ]


_PTE_WORDS: list[tuple[str, Any]] = [
    (r"vmf->vma", Thing("vma")), (r"vma->vm_mm|mm|src_mm", Thing("mm")),
    (r"\*vmf->pte|ptep_get\(vmf->pte\)|vmf->orig_pte|pte|\*ptep?|ptep_get\(ptep?\)|pte_clear_uffd_wp\(.*\)",
     Thing("pte")),
    (r"pte_write\(pte\)", word("writable")), (r"pte_dirty\(pte\)", word("dirty")), (r"pte_protnone\(pte\)", False),
    # Nobody else changes the PTE meanwhile: a fault is one step.
    (r"pte_same\(pte,pte\)", True), (r"pte_offset_map_lock\(.*\)", Thing("vmf->pte")),
    (r"pte_present\(pte\)", True), (r"pte_soft_dirty\(pte\)", word("soft-dirty")),
    (r"userfaultfd_pte_wp\(vma,(pte|#)\)|pte_uffd\(pte\)", word("uffd-wp")), (r"userfaultfd_wp_async\(vma\)", False),
    (r"userfaultfd_(wp|protected)\(vma\)", UFFD), (r"userfaultfd_rwp\(vma\)", False),
    (r"mm_tlb_flush_pending\(mm\)", PENDING),
    (r"pte_needs_soft_dirty_wp\(vma,(pte|#)\)", And(Not(word("vma-soft-dirty")), Not(word("soft-dirty")))),
    (r"vma_soft_dirty_enabled\(vma\)", Not(word("vma-soft-dirty"))),
    (r"vma->vm_flags&VM_WRITE|vma_test\(vma,VMA_WRITE_BIT\)", word("vma-write")),
    (r"vma->vm_flags&VM_(SHARED|MAYSHARE)|vma_test\(vma,VMA_(SHARED|MAYSHARE)_BIT\)", False),
    (r"vma->vm_flags&VM_MAYWRITE|vma_test\(vma,VMA_MAYWRITE_BIT\)", True),
    (r"vma->vm_flags&VM_LOCKED|vma_test\(vma,VMA_LOCKED_BIT\)|folio_test_mlocked\(page\)", False),
    (r"is_cow_mapping\((vma|vma->vm_flags)\)", True),
    (r"test_bit\(MMF_HAS_PINNED,&mm->flags\)|mm_flags_test\(MMF_HAS_PINNED,mm\)|atomic_read\(&mm->has_pinned\)"
     r"|mm->has_pinned", word("has-pinned")),
    (r"(vmf->)?flags&FAULT_FLAG_UNSHARE", UNSHARE), (r"(vmf->)?flags&FAULT_FLAG_WRITE", WRITE),
    (r"flags&FOLL_PIN", FOLL_PIN), (r"flags&FOLL_WRITE", FOLL_WRITE), (r"flags&FOLL_LONGTERM", LONGTERM),
    (r"flags&FOLL_FORCE", FORCE), (r"flags&FOLL_COW", COW),
    (r"folio_test_hugetlb\(page\)|PageHuge\(page\)", False), (r"PageHead\(page\)", True),
    (r"vmf", Thing("vmf")), (r"vma", Thing("vma")),
]


OWNED: list[tuple[str, Any]] = [(r"folio_ref_count\(page\)", _count(2))]
"""The count where whoever asks holds a reference itself."""


def _gone(world: dict[str, Value]) -> dict[str, Value]:
    return {**world, "cached": False}


def _drained(world: dict[str, Value]) -> dict[str, Value]:
    return {**world, "transient": world["transient"] - LOCAL}


def _made_exclusive(world: dict[str, Value]) -> dict[str, Value]:
    return {**world, "exclusive": True}


def _made_writable(world: dict[str, Value]) -> dict[str, Value]:
    return {**world, "writable": True}


EFFECTS = {
    "swap_cache_del_folio": _gone, "lru_add_drain": _drained, "SetPageAnonExclusive(page)": _made_exclusive,
    "page_move_anon_rmap": _made_exclusive,
    "ClearPageAnonExclusive(page)": lambda world: {**world, "exclusive": False},
    "folio_put_swap": lambda world: {**world, "entry": False},
}

MAPPED: tuple[Term, ...] = (
    *PAGE, MAPCOUNT >= 1, (MAPCOUNT == 1) == And(word("mapped-once"), Not(word("swapped"))), SUB_MAPCOUNT >= 1,
    (SUB_MAPCOUNT == 1) == word("page-mapped-once"), SUB_MAPCOUNT <= 1 + OTHERS,
    Or(word("large"), SUB_MAPCOUNT == 1 + OTHERS), Implies(MAPCOUNT == 1, And(TOTAL == 0, ENTRIES == 0)),
    word("needs-stable") == And(word("writeback"), STABLE),
)


def vocabulary(
    given: Sequence[Term], extra: Sequence[tuple[str, Any]] = (), events: Sequence[str] = (), stops: Sequence[str] = (),
    effects: Mapping[str, Any] | None = None, inert: str = "", once: bool = False,
    start: Mapping[str, Value] | None = None,
) -> Vocabulary:
    """The words of a page that a PTE or PMD maps; `extra` ones come first, `start` adds to the world at first."""
    words = [*extra, *_PTE_WORDS, *_page_words(1), (r"folio_swapped\(page\)", word("swapped")),
             (r"folio_test_writeback\(page\)", word("writeback"))]
    return Vocabulary(
        words, {**EFFECTS, **(effects or {})}, frozenset(events), frozenset(stops),
        f"{INERT}|{inert}" if inert else INERT, RENAMED, {**START, **(start or {})}, (*MAPPED, *given), once,
    )


_SWAP_WORDS: list[tuple[str, Any]] = [
    (r"pte_unmap_same\(.*\)|pte_same\(.*\)|folio_test_uptodate\(page\)|softleaf_is_swap\(.*\)|folio_matches_swap_entry\(.*\)"
     r"|folio_matches_swap_entry\(page,.*\)|folio_lock_or_retry\(page,mm,.*\)", True),
    (r"folio_lock_or_retry\(page,vmf\)|non_swap_entry\(.*\)|vmf->pte_gone", False),
    (r"swap_cache_get_folio\(.*\)|ksm_might_need_to_copy\(page,.*\)|swapin_\w+\(.*\)", PAGE_THING),
    (r"page_private\(page\)==#|page_private\(page\)|.*\.val", Thing("the swap entry's value")),
    (r"pte_swp_exclusive\(pte\)", word("swap-exclusive")), (r"pte_swp_uffd\(pte\)", word("uffd-wp")),
    (r"pte_swp_soft_dirty\(pte\)", word("soft-dirty")),
    (r"mem_cgroup_swap_full\(page\)", SWAP_FULL), (r"folio_test_writeback\(page\)", word("slot-writeback")),
    (r"vmf->pte|pte_offset_map\w*\(.*\)", Thing("vmf->pte")), (r"folio_mapped\(page\)", word("mapped")),
    (r"IS_ERR_OR_NULL\(page\)|IS_ERR\(page\)", False), (r"folio_test_mappedtodisk\(page\)", False),
    (r"ERR_PTR\(.*\)", Thing("an error")), (r"page==#|#==page", False),
    (r"page_trans_huge_map_swapcount\(page,.*\)", lambda match, world: OTHERS + ENTRIES + If(world["entry"], 1, 0)),
    (r"page_swapcount\(page\)", lambda match, world: ENTRIES + If(world["entry"], 1, 0)),
    (r"folio_swapped\(page\)", lambda match, world: Or(ENTRIES > 0, world["entry"])),
    (r"pte_mk\w+\(pte.*\)|pte_modify\(pte,.*\)|pte_advance_pfn\(pte,.*\)|mk_pte\(.*\)|folio_mk_pte\(.*\)"
     r"|pte_wrprotect\(pte\)", Thing("pte")),
]


def swap_vocabulary(given: Sequence[Term], events: Sequence[str] = (), stops: Sequence[str] = ()) -> Vocabulary:
    """The words of a page in the swap cache, to which a swap entry leads."""
    pending = And(word("slot-writeback"), word("stable-writes"))
    words = [*_SWAP_WORDS, (r"si->flags&SWP_STABLE_WRITES", word("stable-writes")), *_PTE_WORDS, *_page_words(1)]
    effects = {
        **EFFECTS, "pte_mkwrite": _made_writable, "pte_wrprotect": lambda world: {**world, "writable": False},
    }
    facts = (*SLOT, *given, Or(pending, Not(pending)))
    return Vocabulary(words, effects, frozenset(events), frozenset(stops), INERT, RENAMED,
                      {**START, "entry": True, "cached": True, "exclusive": False}, facts)


