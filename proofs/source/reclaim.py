"""Decisions of reclaim, and what rules take for granted of it, as questions to C: shrink_folio_list, try_to_unmap_one.

Both are loops. One round is followed, of one page on the list, or of one PTE that maps it, with what comes before the
loop; and of shrink_folio_list what comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from z3 import And, Bool, BoolVal, Implies, Not

from proofs.source.entries import event, made_by, place_of
from proofs.source.expressions import Vocabulary
from proofs.source.faults import NO, YES
from proofs.source.findings import Candidate, DecisionReader, holds, no_exclusive_bit
from proofs.source.others import ANONYMOUS
from proofs.source.paths import Path
from proofs.source.values import Term, Thing, Value
from proofs.source.vocabulary import FREE, OWNED, vocabulary
from proofs.source.world import OTHERS, word

_ONE = "an anonymous page of order 0"

# shrink_folio_list

_LIST = ("shrink_folio_list", "shrink_page_list")
_VMSCAN = ("mm/vmscan.c",)
_STILL, _EMPTY = Bool("it stays mapped"), Bool("the list is empty")
_LIST_WORDS: list[tuple[str, Any]] = [
    (r"list_empty\(page_list\)|list_empty\(folio_list\)", _EMPTY),
    (r"list_empty\(.*\)", True), (r"lru_to_(page|folio)\(.*\)", Thing("page")),
    (r"folio_evictable\(page\)|sc->may_unmap|sc->may_writepage|ignore_references|may_enter_fs\(.*\)", True),
    (r"sc->gfp_mask&__GFP_(IO|FS)|may_enter_fs|folio_test_swapbacked\(page\)|folio_test_dirty\(page\)", True),
    *((rf"(FOLIO|PAGE)REF_{name}", n) for n, name in enumerate(("RECLAIM", "RECLAIM_CLEAN", "KEEP", "ACTIVATE"))),
    (r"lru_gen_enabled\(\)|can_demote\(.*\)|folio_test_writeback\(page\)|folio_is_file_lru\(page\)", False),
    (r"folio_test_lazyfree\(page\)|folio_test_pmd_mappable\(page\)|folio_test_(active|unevictable)\(page\)", False),
    (r"folio_mapped\(page\)", lambda match, world: world["mapped"]), (r"folio_mapping\(page\)", Thing("its mapping")),
    (r"(folio|page)_check_dirty_writeback:dirty", True), (r"(folio|page)_check_dirty_writeback:writeback", False),
    (r"folio_test_reclaim\(page\)|writeback_throttling_sane\(sc\)|current->tlb_ubc.flush_required", False),
    (r"folio_test_(has_)?hwpoison(ed)?\(page\)|folio_contain_hwpoisoned_page\(page\)", False),
    (r"inode_write_congested\(.*\)", False),
    (r"(folio_nr_pages|compound_nr)\(page\)", 1), (r"plug|folio_batch_add\(.*\)", 0),
]
_LIST_INERT = (
    r"memset|cond_resched|list_\w+|LIST_HEAD|folio_batch_\w+|folio_check_dirty_writeback|stat->\w+|folio_set_active"
    r"|SetPageActive|node_stat_\w+|mem_cgroup_\w+|demote_(folio|page)_list|swap_write_\w+|folio_unlock"
    r"|folio_unqueue_deferred_split|folio_mark_dirty|page_check_dirty_writeback|blk_\w+|current_is_kswapd"
    r"|free_unref_\w+|folio_free_swap|mem_cgroup_swap_full|filemap_\w+|count_\w+|get_compound_page_dtor"
)
_FREES = ("free_unref_page_list", "free_unref_folios")
_FLUSHES = ("try_to_unmap_flush", "try_to_unmap_flush_dirty")


def _listed(given: Sequence[Term], stops: tuple[str, ...], events: tuple[str, ...] = ()) -> Vocabulary:
    return vocabulary(
        (*ANONYMOUS, *given), _LIST_WORDS, events=events, stops=stops, inert=_LIST_INERT, once=True,
        start={"mapped": True}, effects={"try_to_unmap": lambda world: {**world, "mapped": _STILL}})


_TO_SWAP = ("add_to_swap", "folio_alloc_swap")


def _adds(path: Path) -> Term | None:
    if path.end == "stop":
        return BoolVal(path.value in _TO_SWAP)
    return NO if path.end == "return" else None


def _written_flushed(path: Path) -> Term | None:
    """Where the page is written out, TLBs were flushed since it was unmapped."""
    if path.end == "stop" and path.value == "pageout":
        return BoolVal(place_of(path, *_FLUSHES) > place_of(path, "try_to_unmap"))
    return YES if path.end in ("return", "stop") else None


def _freed_flushed(path: Path) -> Term | None:
    """Each time that pages are freed TLBs have been flushed since some page was unmapped."""
    if path.end not in ("return", "stop"):
        return None
    clean = False
    for each in path.state.events:
        clean = clean or each.name == "try_to_unmap_flush"
        if each.name in _FREES and not clean:
            return NO
        if each.name == "try_to_unmap":
            clean = False
    return YES


LISTED: tuple[DecisionReader, ...] = (
    DecisionReader("swap_out_pinned", _LIST, _listed((Not(word("swap-cache")), Not(_EMPTY), FREE),
                                         (*_TO_SWAP, "try_to_unmap")), _adds,
             lambda: [Candidate("refuse", Not(word("pinned"))), Candidate("allow", YES)],
             f"{_ONE} that is mapped, not in the swap cache, and that reclaim may write out", _VMSCAN),
)
_CACHED = _listed((word("swap-cache"),), ("pageout",), ("try_to_unmap", *_FLUSHES, *_FREES))
LISTED_GRANTED: tuple[DecisionReader, ...] = (
    DecisionReader("reclaim flushes TLBs before it writes out what it has unmapped", _LIST,
                   _CACHED, _written_flushed, holds,
                   f"{_ONE} in the swap cache, dirty", _VMSCAN, lapse="reclaim-frees-unflushed"),
    DecisionReader("reclaim flushes TLBs before it frees what it has unmapped", _LIST,
                   _CACHED, _freed_flushed, holds,
                   "pages that have been unmapped", _VMSCAN, lapse="reclaim-frees-unflushed"),
)

# try_to_unmap_one

_UNMAP = ("try_to_unmap_one",)
_RMAP = ("mm/rmap.c",)
_DEFERS, _PG_DIRTY = Bool("the flush may be put off"), Bool("PG_dirty")
_UNMAP_WORDS: list[tuple[str, Any]] = [
    (r"page_vma_mapped_walk\(.*\)", True), (r"arg&TTU_\w+", False), (r"arg", Thing("arg")),
    (r"should_defer_flush\(.*\)", _DEFERS), (r"pvmw\.pte|ptep", Thing("ptep")), (r"pvmw\.flags&\w+", False),
    (r"(ptep_get_and_clear|ptep_clear_flush|get_and_clear_ptes)\(.*\)", Thing("pte")),
    (r"pte_unused\(pte\)|userfaultfd_armed\(vma\)|(pte_install_uffd|cond_install_uffd)_\w+\(.*\)", False),
    (r"folio_unmap_pte_batch\(.*\)|can_batch_unmap_folio_ptes\(.*\)", 1),
    (r"folio_page\(page,.*\)|subpage", Thing("page")),
    (r"(swap_duplicate|arch_unmap_one|folio_dup_swap|swap_retry_table_alloc|folio_dup_swap_pte)\(.*\)", 0),
    (r"pte_swp_mk\w+\(.*\)|swp_entry_to_pte\(.*\)", lambda match, world: Thing(match[0])),
    (r"folio_test_dirty\(page\)", _PG_DIRTY), (r"vma->vm_flags&VM_DROPPABLE|vma_test\(vma,VMA_DROPPABLE_BIT\)", False),
    (r"folio_test_swapbacked\(page\)|folio_test_lazyfree\(page\)", lambda match, world: _swapbacked(match[0], world)),
    (r"folio_test_hwpoison\(page\)", False), (r"is_migration_entry\(.*\)|is_device_\w+\(.*\)|pte_pfn\(pte\)", False),
    (r"list_empty\(&mm->mmlist\)", False), (r"mm->mmlist", Thing("mmlist")),
]
_UNMAP_INERT = (
    r"DEFINE_\w+|split_huge_pmd_address|vma_address_end|adjust_range_\w+|update_hiwater_rss|mlock_\w+|page_swap_entry"
    r"|page_vma_mapped_walk_done|page_vma_mapped_walk|folio_mark_dirty|set_page_dirty|folio_set_swapbacked"
    r"|page_to_pfn|folio_pfn|hugetlb_\w+|munlock_\w+|folio_put_refs|smp_\w+|swap_free|folio_put_swap|barrier"
)
_REMOVES = ("folio_remove_rmap_ptes", "folio_remove_rmap_pte", "page_remove_rmap")
_DIRTIES = ("folio_mark_dirty", "set_page_dirty", "folio_set_dirty")
_SWAPBACKED = ("folio_set_swapbacked",)
_PENDING = "set_tlb_ubc_flush_pending"
_LATE = ("ptep_get_and_clear", "get_and_clear_ptes")
_AT_ONCE = ("ptep_clear_flush", "flush_tlb_range", "flush_tlb_page")


def _swapbacked(asked: str, world: Any) -> Value:
    """Reclaim's own pages are swap-backed; those given up by MADV_FREE are not."""
    return bool(world["lazyfree"]) is ("lazyfree" in asked)


def _unmapping(given: Sequence[Term], lazyfree: bool = False) -> Vocabulary:
    return vocabulary(
        (*ANONYMOUS, *given), [*_UNMAP_WORDS, *OWNED, (r"folio_mapcount\(page\)", 1 + OTHERS)], inert=_UNMAP_INERT,
        once=True, start={"lazyfree": lazyfree},
        events=("set_ptes", *_REMOVES, *_DIRTIES, *_SWAPBACKED, _PENDING, *_LATE, *_AT_ONCE))


def _ended(says: Callable[[Path], Term]) -> Callable[[Path], Term | None]:
    return lambda path: says(path) if path.end in ("return", "stop") else None


def _unmapped(path: Path) -> bool:
    """The page is not mapped there any more."""
    return event(path, *_REMOVES) is not None


def _if_unmapped(says: Callable[[Path], Term]) -> Callable[[Path], Term | None]:
    return _ended(lambda path: says(path) if _unmapped(path) else YES)


def _kept_in_entry(path: Path) -> Term:
    made = event(path, "set_ptes")
    bits = (("soft-dirty", r"\bpte_swp_mksoft_dirty\("), ("uffd-wp", r"\bpte_swp_mkuffd(_wp)?\("))
    return And(*(word(name) == BoolVal(made_by(made, call)) for name, call in bits))


def _exclusive_in_entry(path: Path) -> Term:
    return word("exclusive") == BoolVal(made_by(event(path, "set_ptes"), r"\bpte_swp_mkexclusive\("))


def _dirtied(path: Path) -> Term:
    return Implies(word("dirty"), BoolVal(event(path, *_DIRTIES) is not None))


def _flush_noted(path: Path) -> Term:
    """The PTE is cleared and flushed, or the flush that is put off is noted after it is cleared."""
    cleared, noted = place_of(path, *_LATE), place_of(path, _PENDING, *_AT_ONCE)
    return BoolVal(event(path, "ptep_clear_flush") is not None or noted > cleared >= 0)


_SWAPPING = _unmapping((word("swap-cache"),))
_COUNTED = And(Not(word("referenced")), Not(word("transient")))
_GIVEN_UP = f"{_ONE}, given up by MADV_FREE"
UNMAPPED: tuple[DecisionReader, ...] = (
    DecisionReader("unmap_pinned", _UNMAP, _SWAPPING, _ended(lambda path: BoolVal(_unmapped(path))),
                   lambda: [Candidate("allow", YES), Candidate("refuse", Not(And(word("exclusive"), word("pinned")))),
                            Candidate("refuse", Not(word("pinned")))],
                   f"{_ONE} in the swap cache", _RMAP),
    DecisionReader("discard_counts", _UNMAP, _unmapping((Not(word("swap-cache")),), lazyfree=True),
                   _ended(lambda path: BoolVal(_unmapped(path))),
                   lambda: [Candidate(True, And(Not(_PG_DIRTY), _COUNTED)), Candidate(False, Not(_PG_DIRTY))],
                   f"{_GIVEN_UP}; who looks at it holds a reference", _RMAP),
    DecisionReader("lazyfree_stays", _UNMAP, _unmapping((Not(word("swap-cache")), Not(_PG_DIRTY)), lazyfree=True),
                   _ended(lambda path: BoolVal(event(path, *_SWAPBACKED) is None)),
                   lambda: [Candidate(True, YES), Candidate(False, NO)], f"{_GIVEN_UP}, clean, with a reference", _RMAP,
                   when=_ended(lambda path: BoolVal(not _unmapped(path)))),
)
_SWAPPED = "a page that goes to swap"
UNMAPPED_GRANTED: tuple[DecisionReader, ...] = (
    DecisionReader("reclaim notes each flush that it puts off", _UNMAP, _SWAPPING,
                   _if_unmapped(_flush_noted), holds, _SWAPPED, _RMAP,
                   lapse="reclaim-forgets-flush"),
    DecisionReader("reclaim keeps soft-dirty and uffd-wp in the swap entry", _UNMAP, _SWAPPING,
                   _if_unmapped(_kept_in_entry), holds, _SWAPPED, _RMAP, lapse="unmap-forgets"),
    DecisionReader("a swap entry is exclusive where the page was", _UNMAP, _SWAPPING,
                   _if_unmapped(_exclusive_in_entry), holds, _SWAPPED, _RMAP,
                   settled=no_exclusive_bit("a swap entry is exclusive where the page was"),
                   lapse="swap-entry-always-exclusive"),
    DecisionReader("reclaim marks a page dirty whose PTE was", _UNMAP, _SWAPPING,
                   _if_unmapped(_dirtied), holds, _SWAPPED, _RMAP),
)
QUESTIONS = (*LISTED, *UNMAPPED)
GRANTED = (*LISTED_GRANTED, *UNMAPPED_GRANTED)
