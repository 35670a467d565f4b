"""What a kernel decides: the record of decisions that rules ask, and the predicates that are such decisions.

A decision is a plain value or a predicate over state terms. Sources: domain.md sections 0.1, 2 and 8; commit ids as
given there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from z3 import And, BoolVal, Implies, Not, Or

from model import costs
from model.logic import (
    Term,
    exists,
    forall,
)
from model.state import (
    Page,
    Proc,
    Slot,
    cached,
    exclusive,
    has_pinned,
    in_page_cache,
    in_swap_cache,
    in_writeback,
    ksm,
    large,
    mapped,
    mapped_only_by,
    mapped_only_in,
    maps,
    maybe_pinned,
    needs_stable_page,
    page_swapped,
    pte_dirty,
    pte_huge,
    pte_swap_exclusive,
    pte_write,
    same_pmd,
    slot_frame,
    soft_dirty_needs_fault,
    sub_pages_mapped_once,
    swapped_in_alone,
    swapped_only_by,
    uffd_protects,
    unreferenced,
    vma_write,
)

Predicate = Callable[..., Term]


# Predicates (p: Proc, v: Page, f: Frame) that kernels use as decisions.

@costs.evaluated(costs.NOTHING)
def never(*_: Term) -> Term:
    """No."""
    return BoolVal(False)


@costs.evaluated(costs.NOTHING)
def always(*_: Term) -> Term:
    """Yes."""
    return BoolVal(True)


@costs.evaluated(costs.BY_MAPCOUNT)
def mapcount_is_one(p: Term, v: Term, f: Term) -> Term:
    """page_trans_huge_map_swapcount: page_mapcount + swap count == 1, of the most mapped sub-page; references do not
    count."""
    return And(sub_pages_mapped_once(p, v, f), Not(page_swapped(f)))


@costs.evaluated(costs.BY_MAPCOUNT)
def reused_by_mapcount(p: Term, v: Term, f: Term) -> Term:
    """reuse_swap_page: `mapcount_is_one`, and no device that needs stable pages is writing the page."""
    stable = exists(Slot, lambda s: And(cached(s), slot_frame(s) == f, needs_stable_page(s)))
    return And(mapcount_is_one(p, v, f), Not(stable))


@costs.evaluated(costs.BY_PAGE_COUNT)
def page_count_is_one(p: Term, v: Term, f: Term) -> Term:
    """page_count == 1 as 09854ba94c6a has it: the swap cache counts."""
    return And(mapped_only_by(p, v, f), Not(in_swap_cache(f)), unreferenced(f))


@costs.evaluated(costs.BY_PAGE_COUNT_AFTER_SWAP_CACHE)
def page_count_is_one_after_swap_cache(p: Term, v: Term, f: Term) -> Term:
    """page_count == 1 after try_to_free_swap, which fails under writeback or if a swap entry names the slot (5.18)."""
    return And(mapped_only_by(p, v, f), Not(page_swapped(f)), Not(in_writeback(f)), unreferenced(f))


@costs.evaluated(costs.BY_FLAG_OR_PAGE_COUNT)
def exclusive_or_page_count(p: Term, v: Term, f: Term) -> Term:
    """PG_anon_exclusive, else the 5.18 test (6c287605fd56)."""
    return Or(exclusive(f), page_count_is_one_after_swap_cache(p, v, f))


@costs.evaluated(costs.BY_FLAG)
def exclusive_only(p: Term, v: Term, f: Term) -> Term:
    """PG_anon_exclusive, and nothing else will do."""
    return exclusive(f)


@costs.evaluated(costs.BY_FLAG_OR_MM_ID)
def exclusive_or_alone(p: Term, v: Term, f: Term) -> Term:
    """PG_anon_exclusive, or the large folio has several mappings, all this mm's and each with its reference, and no
    other reference (__wp_can_reuse_large_anon_folio, 1da190f4d0a6: a folio of which one page is mapped is given back).

    The kernel remembers two mms to a folio and gives up beyond; a third one that has come and gone is not told apart.
    """
    several = Not(mapped_only_by(p, v, f))
    return Or(exclusive(f), And(several, mapped_only_in(p, f), unreferenced(f)))


def not_exclusive(p: Term, v: Term, f: Term) -> Term:
    """The test by the count was made, and with it try_to_free_swap."""
    return Not(exclusive(f))


# Read GUP (p, v, f, foll_pin: bool): may a reference be taken to f as (p, v) maps it now?

def read_as_mapped(p: Term, v: Term, f: Term, foll_pin: bool) -> Term:
    """Whatever is mapped."""
    return BoolVal(True)


def read_as_write(p: Term, v: Term, f: Term, foll_pin: bool) -> Term:
    """As a write GUP; in a read-only VMA, COW must have been broken (17839856fd58)."""
    return Or(pte_write(p, v), And(Not(vma_write(p, v)), Not(ksm(f)), mapcount_is_one(p, v, f)))


def read_private(p: Term, v: Term, f: Term, foll_pin: bool) -> Term:
    """Only a page that no other mapping or swap entry has, and no KSM page."""
    return And(Not(ksm(f)), mapcount_is_one(p, v, f))


def read_exclusive(p: Term, v: Term, f: Term, foll_pin: bool) -> Term:
    """FOLL_PIN needs W or PG_anon_exclusive (a7f226604170); FOLL_GET takes whatever is mapped."""
    return Or(pte_write(p, v), exclusive(f)) if foll_pin else BoolVal(True)


# Read GUP of a page cache page or the zero page (p, v, f, foll_pin: bool, longterm: bool).

def not_for_long(p: Term, v: Term, f: Term, foll_pin: bool, longterm: bool) -> Term:
    """FOLL_LONGTERM needs a page of the process's own (84209e87c696)."""
    return BoolVal(not longterm)


# Fork (p, v, f): does the child get a copy at once?

def copies_pinned(p: Term, v: Term, f: Term) -> Term:
    """page_needs_cow_for_dma: mm->has_pinned and the page maybe pinned (70e806e4e645)."""
    return And(has_pinned(p), maybe_pinned(f))


def copies_pinned_exclusive(p: Term, v: Term, f: Term) -> Term:
    """page_try_dup_anon_rmap fails: exclusive and maybe pinned."""
    return And(exclusive(f), copies_pinned(p, v, f))


# Swap-in on a write fault (p, v, s: Slot, f).

@costs.evaluated(costs.SWAP_IN_BY_MAPCOUNT)
def swap_in_by_mapcount(p: Term, v: Term, s: Term, f: Term) -> Term:
    """reuse_swap_page before the swap entry is freed: no mapping, and this the only entry."""
    return And(Not(mapped(f)), swapped_only_by(p, v, s), Not(needs_stable_page(s)))


@costs.evaluated(costs.SWAP_IN_BY_PAGE_COUNT)
def swap_in_by_page_count(p: Term, v: Term, s: Term, f: Term) -> Term:
    """page_count == 2 frees the swap cache, not under writeback, then page_count == 1 (c145e0b47c77)."""
    return swapped_in_alone(p, v, s, f)


@costs.evaluated(costs.SWAP_IN_BY_PAGE_COUNT)
def swap_in_by_page_count_read_only(p: Term, v: Term, s: Term, f: Term) -> Term:
    """The same once the page is mapped: mapping it writable has cleared FAULT_FLAG_WRITE (do_swap_page of 7.2.13)."""
    writable = And(vma_write(p, v), swap_in_by_exclusive_only(p, v, s, f),
                   Not(uffd_protects(p, v)), Not(soft_dirty_needs_fault(p, v)))
    return And(swap_in_by_page_count(p, v, s, f), Not(writable))


@costs.evaluated(costs.SWAP_IN_BY_PAGE_COUNT)
def swap_in_by_exclusive(p: Term, v: Term, s: Term, f: Term) -> Term:
    """The swap entry's exclusive bit, else the 5.18 test (1493a1913e34)."""
    return Or(swap_in_by_exclusive_only(p, v, s, f), swap_in_by_page_count(p, v, s, f))


@costs.evaluated(costs.SWAP_IN_BY_PAGE_COUNT)
def swap_in_by_exclusive_only(p: Term, v: Term, s: Term, f: Term) -> Term:
    """The swap entry's exclusive bit, dropped while a device that needs stable pages writes the page (do_swap_page)."""
    return And(pte_swap_exclusive(p, v), Not(needs_stable_page(s)))


# W back without a write fault (p, v, f).

def restores_dirty_exclusive(p: Term, v: Term, f: Term) -> Term:
    """can_change_pte_writable of 6.0: exclusive, dirty, no soft-dirty or uffd-wp fault needed; not of a PMD."""
    return And(pte_dirty(p, v), Not(pte_huge(p, v)), restores_exclusive(p, v, f))


def restores_exclusive(p: Term, v: Term, f: Term) -> Term:
    """can_change_private_pte_writable of 6.2: exclusive, and no soft-dirty or uffd-wp fault needed."""
    return And(restores_exclusive_unprotected(p, v, f), Not(uffd_protects(p, v)))


def restores_exclusive_unprotected(p: Term, v: Term, f: Term) -> Term:
    """The same at un-protecting, which clears uffd-wp before it asks: exclusive, and no soft-dirty fault needed."""
    return And(exclusive(f), Not(soft_dirty_needs_fault(p, v)))


# NUMA hinting and MADV_FREE (p, v, f).

def page_mapcount_is_one(p: Term, v: Term, f: Term) -> Term:
    """page_mapcount(f) == 1: nobody else maps this sub-page."""
    return forall(Proc, Page, lambda q, w: Implies(maps(q, w, f), Or(And(q == p, w == v), same_pmd(p, v, q, w))))


def mapped_in_one_mm(p: Term, v: Term, f: Term) -> Term:
    """folio_estimated_sharers, folio_likely_mapped_shared, folio_maybe_mapped_shared, without their errors."""
    return And(mapped_only_in(p, f), Or(large(f), mapped_only_by(p, v, f)))


def page_count_is_one_of_any(p: Term, v: Term, f: Term) -> Term:
    """page_count == 1, of a page that may be one of the page cache, which counts too."""
    return And(page_count_is_one(p, v, f), Not(in_page_cache(f)))


def unpinned_in_one_mm(p: Term, v: Term, f: Term) -> Term:
    """folio_maybe_dma_pinned no, and mapped by one mm."""
    return And(mapped_in_one_mm(p, v, f), Not(maybe_pinned(f)))


def as_it_was(p: Term, v: Term, f: Term) -> Term:
    """The write bit survives as pte_savedwrite, which on x86 is pte_write (b191f9b106ea, 4.0)."""
    return pte_write(p, v)


def writable_if_exclusive(p: Term, v: Term, f: Term) -> Term:
    """can_change_pte_writable and can_change_pmd_writable in a writable VMA (6a56ccbcf6c6, 6.2)."""
    return And(vma_write(p, v), restores_exclusive(p, v, f))


@dataclass(frozen=True)
class Decisions:
    """A named record of decisions. Predicates take state terms (p: Proc, v: Page, f: Frame, s: Slot) and give a Bool.

    reuse(p, v, f)                    a write fault may take f for its own (rows a and b of domain.md section 2)
    reuse_frees_swap_cache(p, v, f)   ... and f leaves the swap cache then
    reuse_ksm(p, v, f)                ... if f is a KSM page
    reuse_large(p, v, f)              ... if f is a PTE-mapped sub-page of a large folio, and for a reader that must not
                                      share it; None: as `reuse` and `unshare`
    huge_reuse(p, v, f)               a write fault on a PMD may take its THP (row b)
    huge_copies                       otherwise it copies the whole THP; else it splits the PMD
    huge_zero_fresh                   a write fault on the huge zero page maps a fresh THP; else it is as on a THP
    huge_zero_unshare                 what a fault for a reader makes of the huge zero page: `split` its PMD, a fresh
                                      THP mapped `as-write`, or one mapped `read-only` that keeps uffd-wp
    trylock                           the page lock is only tried: its holder causes spurious copies
    copy_frees_swap_cache             after a copy, the old page's idle swap-cache entry is freed
    read_gup(p, v, f, foll_pin)       a read GUP may take f as it is mapped (row c)
    read_gup_nonanon(p, v, f, foll_pin, longterm)
                                      ... if f is a page of the page cache or the zero page (row l)
    touch_dirties_pmd                 a read GUP makes the PMD that it looks at dirty (up to 4.14)
    read_gup_writes                   otherwise it raises a write fault
    unshare(p, v, f)                  otherwise a fault for a reader: f is kept where this holds, else copied;
                                      None where the kernel has no such fault
    longterm_migrates                 pages that FOLL_LONGTERM first moves elsewhere: those of CMA alone
                                      (`cma`), or those of ZONE_MOVABLE, too (`movable`)
    unshare_writable                  the copy for a reader is mapped writable, without uffd-wp
    fork_copies(p, v, f)              fork gives the child its own copy at once (row f)
    hugetlb_fork_copies(p, v, f)      ... of a hugetlb page
    hugetlb_copy_writable             ... and maps that copy writable, whatever the VMA
    mprotect_pinned, soft_dirty_pinned, uffd_wp_pinned
                                      `clear`, `skip` or `refuse` to write-protect a pinned page (rows g, h, i)
    mprotect_other_pinned             the same of an mprotect that leaves or gives VM_WRITE, but changes some flag, to a
                                      page that is pinned and writable: `clear` or `skip`
    uffd_unwp_pinned                  the same of un-protecting by userfaultfd: `clear` or `skip`
    mprotect_restores(p, v, f)        mprotect to flags with VM_WRITE gives the write bit back
    uffd_restores(p, v, f)            un-protecting does
    swap_out_pinned                   `allow`, or `refuse` to add a pinned page to the swap cache (row j)
    unmap_pinned                      `allow`, or `refuse` to replace the mappings of a pinned page by swap entries, be
                                      it in the swap cache already; where the kernel has PG_anon_exclusive, of a pinned
                                      exclusive page
    swap_in_reuse(p, v, s, f)         a write fault maps the swapped-in page writable
    swap_in_frees(p, v, s, f)         ... and f leaves the swap cache
    swap_in_sync                      how a fault reads a slot of a synchronous device that one entry names: `cached`,
                                      as of any device; it `skips` the swap cache; it `guards` the slot meanwhile, too
                                      (swapcache_prepare); `frees`: the page leaves the swap cache at once
    swap_in_counts                    a read fault that finds swap space more than half used asks for the count as well
    fault_waits_for_writeback         a write fault waits until a page under writeback is written before it decides
    swap_in_upgrades                  a read fault also maps an exclusive page writable where no tracking needs a fault
    numa_hints(p, v, f)               NUMA balancing takes the PTE of f away for a while
    numa_hints_huge(p, v, f)          ... or the PMD
    numa_write(p, v, f)               the write bit that it has when it comes back
    ksm_referenced                    `refuse` to merge a page with references, or `allow` (row k)
    ksm_keeps_soft_dirty              a PTE that KSM replaces keeps its soft-dirty bit
    unmerge_unshares                  un-merging raises a fault for a reader, else a write fault
    follows_inaccessible              follow_page finds what a PROT_NONE mapping maps, as KSM asks it
    ksm_walks                         ksmd's scan walks page tables itself, else it asks follow_page
    migrate_referenced                `refuse` to migrate a page with references, or `allow` (row k)
    migrate_large                     a large folio is migrated as a `whole`, or `split` first, or `split-partial`: if
                                      some part of it is no longer mapped
    migration_dirty                   `drop`: a migrated PTE is clean, the page dirty; `soft-dirty`: a dirty one is
                                      soft-dirty afterwards; `keep`: only a dirty PMD is. A split migrates PTEs, too
    migration_keeps_uffd_wp           a migrated PMD keeps uffd-wp
    split_keeps_dirty                 splitting a dirty PMD makes dirty, and so soft-dirty PTEs, else clean ones
    split_zero_parts                  splitting a folio lets mappings of a part that holds zeros alone `keep` it, `map`
                                      the zero page instead, or `map-bare`, without soft-dirty and uffd-wp
    collapse_shared                   khugepaged takes pages that others map too
    collapse_compound                 ... and sub-pages of large folios that are mapped by PTEs
    collapse_read_only                ... and blocks of which no PTE is writable
    collapse_cached(p, v, f)          ... and a page of the swap cache that is mapped read-only
    collapse_rechecks_uffd_wp         ... and looks for uffd-wp at its second look too
    discard_counts                    reclaim throws away a page given up by MADV_FREE only without references
    lazyfree_stays                    ... and one that has some, but is clean, stays given up; else it is ordinary again
    lazyfree_splits(p, v, f)          MADV_FREE may split a large folio of which PTEs map sub-pages
    mremap_clears_uffd_wp             mremap clears the uffd-wp bits of what leaves a VMA that is registered
    mremap_looks_first                mremap looks for what is to move before it unmaps what is where it is to go
    dontunmap_unlinks                 MREMAP_DONTUNMAP of a whole VMA takes its anon_vma away
    lazyfree_spares_ksm               MADV_FREE leaves KSM pages alone that are dirty or in the swap cache
    dontneed_frees_tables             MADV_DONTNEED of all that a PMD covers frees the page table too
    force_proof                       how a FOLL_FORCE write knows that COW is broken: `retry-as-read` (it does not look
                                      again), `dirty` (FOLL_COW and a dirty PTE), `exclusive`
    uffd_continue_dirty               UFFDIO_CONTINUE installs a page of the page cache dirty, though read-only
    uffd_prepares_first               UFFDIO_COPY, ZEROPAGE, CONTINUE and MOVE give the VMA that is to get a page an
                                      anon_vma before they look whether it is registered
    protect_batches                   mprotect and userfaultfd change the PTEs of a large folio together, and make all
                                      of them soft-dirty where some are dirty
    dofork_of_special                 MADV_DOFORK is allowed of a VM_DONTEXPAND mapping, as one of hugetlb pages is
    soft_dirty_lock                   clear_refs takes mmap_lock for `read` or `write`
    uffd_across_vmas                  userfaultfd protects a range that more than one VMA covers
    uffd_markers                      userfaultfd protects file mappings, and what it said outlives the PTE
    uffd_unpopulated                  there is a userfaultfd that leaves markers in anonymous memory (WP_UNPOPULATED)
    uffd_async                        there is one whose write faults resolve themselves (WP_ASYNC), and PAGEMAP_SCAN
    register_narrows                  registering with userfaultfd without write-protection ends what there was of it;
                                      else it is refused
    guard_regions                     there is MADV_GUARD_INSTALL, for anonymous memory at least
    guard_files                       MADV_GUARD_INSTALL of a file mapping: `refused`, or fork is told of it by an
                                      `anon-vma`, or by a `flag` (VM_MAYBE_GUARD)
    copy_fills_markers                UFFDIO_COPY and UFFDIO_CONTINUE map a page where any marker is, be it a guard
    unregister_unprotects             unregistering clears uffd-wp where the VMA was registered for it
    copy_protects_read_only           UFFDIO_COPY with MODE_WP sets uffd-wp in a read-only VMA, too
    early_copy_keeps_uffd_wp          fork's early copy of a protected page is protected in a child that is registered
    uffd_move                         UFFDIO_MOVE: there is `none`; it moves a swap entry and is `blind` for the swap
                                      cache; `carries` the page that it has found there; `rechecks` that it still is
                                      there, or that none is
    uffd_move_gives_up                ... and fails where a large folio cannot be split; else it tries until it can be
    move_soft_dirty                   what it moves is soft-dirty afterwards, and dirty if it was; else a page is both,
                                      and a swap entry as it was
    wp_flushes_uffd                   a write fault in a VMA registered for uffd-wp flushes the TLB before it decides
    fork_excludes_faults              no fault of the parent runs during fork (it may where VMAs have their own locks)
    fork_seqcount                     GUP-fast for FOLL_PIN gives up if a fork overlaps (write_protect_seq, row e)
    gup_fast_ordered                  GUP-fast reads PG_anon_exclusive after it has looked at the PTE again
    split_locks_page                  splitting a PMD takes the page lock
    exclusive_bit                     the kernel has PG_anon_exclusive
    """

    name: str
    about: str
    base: str | None
    cite: tuple[tuple[str, str], ...]
    reuse: Predicate
    reuse_frees_swap_cache: Predicate
    read_gup: Predicate
    fork_copies: Predicate
    swap_in_reuse: Predicate
    swap_in_frees: Predicate
    mprotect_restores: Predicate = never
    uffd_restores: Predicate = never
    unshare: Predicate | None = None
    unshare_writable: bool = False
    read_gup_writes: bool = False
    trylock: bool = False
    copy_frees_swap_cache: bool = False
    mprotect_pinned: str = "clear"
    soft_dirty_pinned: str = "clear"
    uffd_wp_pinned: str = "clear"
    mprotect_other_pinned: str = "clear"
    uffd_unwp_pinned: str = "clear"
    swap_out_pinned: str = "allow"
    unmap_pinned: str = "allow"
    swap_in_upgrades: bool = False
    swap_in_sync: str = "skips"
    swap_in_counts: bool = False
    fault_waits_for_writeback: bool = False
    exclusive_bit: bool = False
    reuse_ksm: Predicate = never
    reuse_large: Predicate | None = None
    huge_reuse: Predicate = mapcount_is_one
    huge_copies: bool = False
    huge_zero_fresh: bool = False
    huge_zero_unshare: str = "split"
    read_gup_nonanon: Predicate = always
    touch_dirties_pmd: bool = False
    numa_hints: Predicate = page_mapcount_is_one
    numa_hints_huge: Predicate = always
    numa_write: Predicate = as_it_was
    ksm_referenced: str = "refuse"
    ksm_keeps_soft_dirty: bool = False
    unmerge_unshares: bool = False
    follows_inaccessible: bool = True
    ksm_walks: bool = False
    migrate_referenced: str = "refuse"
    migrate_large: str = "whole"
    migration_dirty: str = "drop"
    migration_keeps_uffd_wp: bool = False
    split_keeps_dirty: bool = False
    split_zero_parts: str = "keep"
    collapse_shared: bool = True
    collapse_compound: bool = True
    collapse_read_only: bool = False
    collapse_cached: Predicate = always
    collapse_rechecks_uffd_wp: bool = False
    discard_counts: bool = False
    lazyfree_stays: bool = False
    lazyfree_splits: Predicate = page_mapcount_is_one
    mremap_looks_first: bool = False
    dontunmap_unlinks: bool = False
    mremap_clears_uffd_wp: bool = False
    lazyfree_spares_ksm: bool = False
    dontneed_frees_tables: bool = False
    force_proof: str = "dirty"
    uffd_continue_dirty: bool = False
    uffd_prepares_first: bool = False
    protect_batches: bool = False
    dofork_of_special: bool = True
    soft_dirty_lock: str = "read"
    uffd_across_vmas: bool = False
    uffd_markers: bool = False
    uffd_unpopulated: bool = False
    uffd_async: bool = False
    register_narrows: bool = True
    guard_regions: bool = False
    guard_files: str = "refused"
    copy_fills_markers: bool = False
    unregister_unprotects: bool = False
    copy_protects_read_only: bool = False
    early_copy_keeps_uffd_wp: bool = False
    hugetlb_fork_copies: Predicate = never
    hugetlb_copy_writable: bool = False
    longterm_migrates: str = "cma"
    uffd_move: str = "none"
    uffd_move_gives_up: bool = False
    move_soft_dirty: bool = False
    wp_flushes_uffd: bool = False
    fork_excludes_faults: bool = True
    fork_seqcount: bool = False
    gup_fast_ordered: bool = False
    split_locks_page: bool = False


DECISIONS = tuple(f.name for f in fields(Decisions) if f.name not in ("name", "about", "base", "cite"))
"""Names of the decisions, in the order of the record."""
PREDICATES = frozenset(f.name for f in fields(Decisions) if str(f.type).startswith("Predicate"))
ON_PINNED = ("clear", "skip", "refuse")
WORDS_ALLOWED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("mprotect_pinned", "soft_dirty_pinned", "uffd_wp_pinned", "mprotect_other_pinned"), ON_PINNED),
    **dict.fromkeys(("swap_out_pinned", "unmap_pinned", "ksm_referenced", "migrate_referenced"), ("allow", "refuse")),
    "uffd_unwp_pinned": ("clear", "skip"), "soft_dirty_lock": ("read", "write"),
    "huge_zero_unshare": ("split", "as-write", "read-only"), "migrate_large": ("split", "whole", "split-partial"),
    "migration_dirty": ("drop", "soft-dirty", "keep"), "split_zero_parts": ("keep", "map", "map-bare"),
    "guard_files": ("refused", "anon-vma", "flag"),
    "swap_in_sync": ("cached", "skips", "guards", "frees"), "longterm_migrates": ("cma", "movable"),
    "force_proof": ("retry-as-read", "dirty", "exclusive"), "uffd_move": ("none", "blind", "carries", "rechecks"),
}
"""Decisions that are one of several words, and those words."""


def value_text(value: Any) -> str:
    """A decision's value in a short text: the predicate's name, or the value itself."""
    return str(getattr(value, "__name__", value))
