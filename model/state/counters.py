"""What the kernel's counters, locks and loads say, as formulas: counters are never stored.

`page_count(f) == 1` is said as "this reference exists and no other one does".
"""

from __future__ import annotations

import z3
from z3 import And, Implies, Not, Or

from model.logic import Sort, StateFunction, Term, by_terms, exists, forall
from model.state.functions import (
    alive,
    backed,
    backing,
    block,
    cached,
    collapse_scanned,
    copy_dirty,
    copy_from,
    copy_in_progress,
    copy_soft_dirty,
    file,
    file_value,
    folio,
    force_cow,
    fork_shared,
    fork_tested,
    frame_free,
    frame_value,
    has_pinned,
    held,
    hugetlb,
    ksm,
    ksm_cleared,
    ksm_tested,
    large,
    mapped,
    maps,
    maps_folio,
    migrates,
    moving,
    mprotect_flushing,
    names_frame,
    nonanon,
    pin_foll_pin,
    pin_frame,
    pin_known,
    pin_proc,
    pmd_splitting,
    pool_empty,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_none,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_uffd_wp,
    pte_write,
    same_folio,
    slot_frame,
    slot_free,
    slot_value,
    stable_writes,
    swaps,
    sync_reading,
    uffd_flushing,
    uffd_unwp_flushing,
    unreferenced,
    vma,
    vma_dontfork,
    vma_missing,
    vma_new,
    vma_none,
    vma_resv_owner,
    vma_resv_unmapped,
    vma_soft_dirty,
    vma_uffd,
    vma_unwatched,
    vma_wipeonfork,
    writeback,
)
from model.state.sorts import ZERO, Folio, Frame, Page, Pin, Proc, Slot

# How far the sub-steps of others are.

@by_terms
def mmap_read_held(p: Term) -> Term:
    """Something holds mmap_lock of p for reading: a fault that copies or reads, an ioctl of userfaultfd that will flush
    or move, the retry loop of a FOLL_FORCE write."""
    return exists(Page, lambda v: Or(
        copy_in_progress(p, v), uffd_flushing(p, v), uffd_unwp_flushing(p, v), And(vma(p, v), force_cow(p, v)),
        moving(p, v), sync_reading(p, v),
    ))


@by_terms
def mmap_write_held(p: Term) -> Term:
    """Some sub-step holds mmap_lock of p for writing: fork, or mprotect that will flush."""
    return Or(forking(p), exists(Page, lambda v: mprotect_flushing(p, v)))


@by_terms
def forking(p: Term) -> Term:
    """fork of p is in progress: write_protect_seq is odd."""
    return exists(Proc, lambda q: Or(fork_tested(p, q), fork_shared(p, q)))


def still_to_copy(p: Term, v: Term) -> Term:
    """pte_same: the PTE is what the fault in progress saw, though it may have been something else meanwhile."""
    return And(
        pte_present(p, v), pte_frame(p, v) == copy_from(p, v), Not(pte_write(p, v)), Not(uffd_protects(p, v)),
        pte_dirty(p, v) == copy_dirty(p, v), pte_soft_dirty(p, v) == copy_soft_dirty(p, v),
    )


def pte_cleared(p: Term, v: Term) -> Term:
    """ksmd holds the page-table lock, and the PTE is empty meanwhile, whatever its cells say."""
    return Or(ksm_cleared(p, v), ksm_tested(p, v))


# userfaultfd

def uffd_protects(p: Term, v: Term) -> Term:
    """userfaultfd_pte_wp, userfaultfd_huge_pmd_wp: uffd-wp, in a VMA that is registered for it."""
    return And(pte_uffd_wp(p, v), Not(vma_unwatched(p, v)))


def missing(p: Term, v: Term) -> Term:
    """A fault at (p, v) that finds nothing is the monitor's; what a file holds is in the page cache or swapped out."""
    return And(vma_missing(p, v), Not(file(v)))


def registered(p: Term, v: Term) -> Term:
    """vma->vm_userfaultfd_ctx.ctx: with userfaultfd, for whatever."""
    return And(vma(p, v), Or(vma_uffd(p, v), vma_missing(p, v)))


# Counters, and flags of pages.

def mapped_huge(p: Term, v: Term) -> Term:
    """A PMD maps the page: where no PTE is present, `pte_huge` says nothing."""
    return And(pte_present(p, v), pte_huge(p, v))


def same_pmd(p: Term, v: Term, q: Term, w: Term) -> Term:
    """One PMD of one mm maps both pages."""
    return And(p == q, pte_huge(p, v), pte_huge(q, w), block(v) == block(w))


@by_terms
def mapped_only_by(p: Term, v: Term, f: Term) -> Term:
    """Of the mappings that page_count counts, f's folio has none but the PTE or PMD of (p, v)."""
    return forall(
        Proc, Page,
        lambda q, w: Implies(maps_folio(q, w, f), Or(And(q == p, w == v), same_pmd(p, v, q, w))),
    )


@by_terms
def mapped_only_in(p: Term, f: Term) -> Term:
    """No other mm maps any part of f's folio."""
    return forall(Proc, Page, lambda q, w: Implies(maps_folio(q, w, f), q == p))


@by_terms
def sub_pages_mapped_once(p: Term, v: Term, f: Term) -> Term:
    """page_mapcount(f) == 1 by (p, v), and of a large folio no sub-page has more mappings than one."""
    once = forall(
        Proc, Page, Proc, Page,
        lambda q, w, r, u: Implies(
            And(maps_folio(q, w, f), maps(r, u, pte_frame(q, w)), Not(pmd_splitting(q, w)), Not(pmd_splitting(r, u))),
            And(q == r, w == u),
        ),
    )
    alone = forall(
        Proc, Page, lambda q, w: Implies(And(maps(q, w, f), Not(pmd_splitting(q, w))), And(q == p, w == v))
    )
    return And(alone, Or(Not(large(f)), once))


@by_terms
def swapped_only_by(p: Term, v: Term, s: Term) -> Term:
    """No swap entry other than that of (p, v) names slot s."""
    return forall(Proc, Page, lambda q, w: Implies(swaps(q, w, s), And(q == p, w == v)))


@by_terms
def in_page_cache(f: Term) -> Term:
    """f is a page of a file."""
    return exists(Page, lambda w: caches(w, f))


def caches(v: Term, f: Term) -> Term:
    """f is the page of the page cache for what is mapped at v; the zero page backs anonymous memory."""
    return And(file(v), backed(v), backing(v) == f)


@by_terms
def in_writeback(f: Term) -> Term:
    """PageWriteback(f): it is in the swap cache, and being written to the swap device."""
    return exists(Slot, lambda s: And(cached(s), slot_frame(s) == f, writeback(s)))


def needs_stable_page(s: Term) -> Term:
    """The page of slot s is under writeback, and must not change meanwhile: SWP_STABLE_WRITES."""
    return And(writeback(s), stable_writes(s))


@by_terms
def page_swapped(f: Term) -> Term:
    """page_swapped(f): f is in the swap cache and a swap entry names its slot."""
    return exists(
        Proc, Page,
        lambda q, w: And(pte_swap(q, w), cached(pte_slot(q, w)), slot_frame(pte_slot(q, w)) == f),
    )


@by_terms
def maybe_pinned(f: Term) -> Term:
    """page_maybe_dma_pinned(f), of its folio, without the false positives of 1024 FOLL_GETs."""
    return exists(Pin, lambda k: And(held(k), pin_foll_pin(k), same_folio(pin_frame(k), f)))


@by_terms
def pinned_in(p: Term, v: Term) -> Term:
    """The test of page_needs_cow_for_dma and its relatives: mm->has_pinned, and the mapped page maybe pinned."""
    return And(pte_present(p, v), has_pinned(p), maybe_pinned(pte_frame(p, v)))


def anon(f: Term) -> Term:
    """PageAnon and not PageKsm: a page that a write fault may find to be one process's own."""
    return And(Not(nonanon(f)), Not(ksm(f)))


def soft_dirty_needs_fault(p: Term, v: Term) -> Term:
    """pte_needs_soft_dirty_wp: writes are tracked since a clear_refs, and the PTE is not soft-dirty yet."""
    return And(Not(vma_soft_dirty(p)), Not(vma_new(p, v)), Not(pte_soft_dirty(p, v)))


@by_terms
def swapped_in_alone(p: Term, v: Term, s: Term, f: Term) -> Term:
    """page_count == 1 once the swap entry of (p, v) is freed and the swap cache left, which fails under writeback."""
    return And(Not(writeback(s)), Not(mapped(f)), swapped_only_by(p, v, s), unreferenced(f))


@by_terms
def mapped_dirty(f: Term) -> Term:
    """Some PTE or PMD that maps f is dirty."""
    return exists(Proc, Page, lambda q, w: And(maps(q, w, f), pte_dirty(q, w)))


def not_forked(p: Term, v: Term) -> Term:
    """fork copies no page table of the VMA: its child has no such VMA, or one where nothing is mapped."""
    return And(vma(p, v), Or(vma_dontfork(p, v), vma_wipeonfork(p, v)))


def alike(flag: StateFunction, p: Term, v: Term, w: Term) -> Term:
    """The flag is the same at v and w. Said by connectives, of which nothing is left where it is never set."""
    return Or(And(flag(p, v), flag(p, w)), And(Not(flag(p, v)), Not(flag(p, w))))


def readable(p: Term, v: Term) -> Term:
    """The VMA has VM_READ: check_vma_flags, vma_is_accessible."""
    return And(live(p, v), Not(vma_none(p, v)))


def accessible(p: Term, v: Term) -> Term:
    """The CPU may load through the PTE, and GUP-fast takes it (pte_access_permitted). One that kept its write bit when
    its VMA became PROT_NONE is as it was. What touches a guard gets SIGSEGV (handle_pte_marker)."""
    return And(Or(Not(vma_none(p, v)), And(pte_present(p, v), pte_write(p, v))), Not(pte_guard(p, v)))


def forked_alike(p: Term, v: Term, w: Term) -> Term:
    """What madvise said of fork does not put v and w into two VMAs."""
    return And(alike(vma_dontfork, p, v, w), alike(vma_wipeonfork, p, v, w))


def live(p: Term, v: Term) -> Term:
    """The process exists and has a VMA there."""
    return And(alive(p), vma(p, v))


def loadable(p: Term, v: Term) -> Term:
    """A load by p at v returns: it is no fault that only a monitor ends, or for which there is no page."""
    waits = And(missing(p, v), pte_none(p, v))
    return And(live(p, v), accessible(p, v), Not(waits), Not(And(hugetlb(v), pte_none(p, v), Not(may_fill(p, v)))))


def may_fill(p: Term, v: Term) -> Term:
    """hugetlb_no_page finds a page: it is reserved, or the pool has one more."""
    return And(Not(vma_resv_unmapped(p, v)), Or(vma_resv_owner(p, v), Not(pool_empty(v))))


# Fresh elements: nothing refers to them, so any one stands for all.

@by_terms
def proc_free(p: Term) -> Term:
    """Not a process now, and no reference was taken by one of that name: so a name never stands for two mms."""
    return And(
        Not(alive(p)), Not(exists(Pin, lambda k: And(pin_known(k), pin_proc(k) == p))),
        Not(exists(Proc, lambda q: Or(fork_tested(q, p), fork_shared(q, p)))),
        forall(Page, lambda v: Not(collapse_scanned(p, v))),
    )


@by_terms
def folio_free(d: Term) -> Term:
    """No frame is a sub-page of that folio, free ones among them."""
    return Not(exists(Frame, lambda f: And(large(f), folio(f) == d)))


UNUSED: tuple[Sort, ...] = (Proc, Frame, Folio, Slot, Pin)
"""The sorts of which an element may be one that nothing refers to."""


@by_terms
def fresh(x: Term) -> Term:
    """Nothing refers to x, of a sort of UNUSED."""
    if x.sort() == Folio:
        return folio_free(x)
    if x.sort() == Proc:
        return proc_free(x)
    if x.sort() == Frame:
        return frame_free(x)
    if x.sort() == Slot:
        return slot_free(x)
    return Not(pin_known(x))


# What people observe.

def loaded(p: Term, v: Term) -> Term:
    """The Value that a load by p at v returns, or will once the page has arrived. An untouched page reads as what
    backs it, its file, or as zero."""
    slot = pte_slot(p, v)
    swapped = z3.If(cached(slot), frame_value(slot_frame(slot)), slot_value(slot))
    untouched = z3.If(backed(v), frame_value(backing(v)), z3.If(file(v), file_value(v), ZERO))
    return z3.If(names_frame(p, v), frame_value(pte_frame(p, v)), z3.If(pte_swap(p, v), swapped, untouched))


def resolves_to(p: Term, v: Term, f: Term) -> Term:
    """(p, v) maps f, or is a swap entry whose slot has f in the swap cache, or a migration entry of f."""
    slot = pte_slot(p, v)
    return Or(maps(p, v, f), And(pte_swap(p, v), cached(slot), slot_frame(slot) == f), migrates(p, v, f))
