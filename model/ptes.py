"""What rules of several files write and ask: a fresh page, a PTE that maps it, what is left of one taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from z3 import And, BoolVal, If, Implies, Not, Or

from model.decisions import Decisions
from model.logic import Param, StateFunction, Term, Update, each, exists, forall, put
from model.state import (
    Frame,
    Page,
    Proc,
    Slot,
    Span,
    Value,
    alike,
    block,
    cached,
    cma,
    exclusive,
    file,
    folio,
    forked_alike,
    frame_value,
    ksm,
    large,
    lazyfree,
    leaked,
    live,
    may_mark,
    misplaced,
    movable,
    nonanon,
    page_dirty,
    partly_mapped,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_migration,
    pte_none,
    pte_present,
    pte_soft_dirty,
    pte_swap,
    pte_uffd_wp,
    pte_write,
    same_folio,
    slot_frame,
    stale,
    sync_again,
    sync_reading,
    sync_slot,
    uffd_armed,
    uffd_async,
    uffd_marker,
    uffd_protects,
    uffd_unpopulated,
    unplaced,
    vma_anon,
    vma_apart,
    vma_exec,
    vma_huge,
    vma_mergeable,
    vma_missing,
    vma_none,
    vma_uffd,
    vma_unwatched,
    vma_write,
    writeback,
    zone_cma,
    zone_movable,
)

P, V = Param("p", Proc), Param("v", Page)
NEW = Param("new", Frame, fresh=True)
N = Param("n", Value)


def fresh_page(
    f: Term, value: Term, of: Term | None = None, anonymous: bool = True, in_cache: bool = False
) -> list[Update]:
    """f, which was free, becomes a page with that content; a sub-page of the large folio `of` if given.

    `in_cache`: it is made for the swap cache.
    """
    parts = put(large(f), True) + put(folio(f), of) if of is not None else put(large(f), False)
    plain = put(nonanon(f), not anonymous) + put(ksm(f), False) + put(lazyfree(f), False) + put(leaked(f), False)
    placed = put(unplaced(f), in_cache) + put(misplaced(f), False) + put(partly_mapped(f), False)
    return parts + plain + placed + put(page_dirty(f), in_cache) + put(frame_value(f), value)


def lies(f: Term, says: Callable[[StateFunction], Any]) -> list[Update]:
    """Where a fresh page lies: `says`, of `zone_movable` and `zone_cma`, which pages' memory comes from there, whether
    this one does."""
    return put(movable(f), says(zone_movable)) + put(cma(f), says(zone_cma))


def map_pte(p: Term, v: Term, f: Term, huge: bool = False) -> list[Update]:
    """(p, v) comes to map f, by a PTE or by a PMD; the other bits are the caller's to set."""
    return put(pte_present(p, v), True) + put(pte_frame(p, v), f) + put(pte_huge(p, v), huge)


def map_writable(p: Term, v: Term, f: Term, huge: bool = False, protected: Any = False) -> list[Update]:
    """Install f at (p, v) with W, D and soft-dirty (maybe_mkwrite(pte_mkdirty(...)) in a writable VMA).

    It is an anonymous page, for which there must be an anon_vma (anon_vma_prepare, vmf_anon_prepare). `protected`: with
    uffd-wp, which takes W away (pte_mkuffd_wp).
    """
    return (put(vma_anon(p, v), True) if huge else prepare_anon_vma(p, v)) + (
        map_pte(p, v, f, huge) + put(pte_write(p, v), Not(protected) if protected is not False else True)
        + put(pte_dirty(p, v), True) + put(pte_soft_dirty(p, v), True) + put(pte_uffd_wp(p, v), protected)
    )


def map_read_only(
    p: Term, v: Term, f: Term, dirty: bool = False, huge: bool = False, protected: Any = False
) -> list[Update]:
    """Install f at (p, v), not writable: mk_pte(f, vma->vm_page_prot), which is not soft-dirty.

    So do_anonymous_page, do_set_pte, set_huge_zero_page and mfill_atomic_install_pte; pte_mkdirty sets soft-dirty too.
    `protected`: with uffd-wp.
    """
    return (
        map_pte(p, v, f, huge) + put(pte_write(p, v), False) + put(pte_dirty(p, v), dirty)
        + put(pte_soft_dirty(p, v), dirty) + put(pte_uffd_wp(p, v), protected) + put(uffd_armed(p, v), protected)
    )


def followed(kernel: Decisions, p: Term, v: Term) -> Term:
    """follow_page finds what is mapped there; decision `follows_inaccessible`."""
    return Or(Not(vma_none(p, v)), BoolVal(kernel.follows_inaccessible))


def split_pte(kernel: Decisions, p: Term, v: Term) -> list[Update]:
    """__split_huge_pmd_locked: a PTE takes over from the PMD what it said of v; decision `split_keeps_dirty`.

    The page becomes dirty where the PMD was. The PTE does so only with that decision; then pte_mkdirty makes it
    soft-dirty, too, on x86.
    """
    f = pte_frame(p, v)
    split = put(pte_huge(p, v), False) + put(page_dirty(f), Or(page_dirty(f), pte_dirty(p, v)))
    if not kernel.split_keeps_dirty:
        return split + put(pte_dirty(p, v), False)
    return split + put(pte_soft_dirty(p, v), Or(pte_soft_dirty(p, v), pte_dirty(p, v)))


def migrated_pte(
    kernel: Decisions, p: Term, v: Term, moved: bool = False, unused: Term | None = None, bare: bool = False
) -> list[Update]:
    """Bits of the PTE of (p, v) after a migration entry took its place, and remove_migration_pte that of the entry.

    `moved`: what was a PMD is one again (remove_migration_pmd). `unused`: the PTE maps the zero page then, if `bare`
    without soft-dirty and uffd-wp. Decision `migration_dirty`: up to 6.0 an entry has no dirty bit, and the page alone
    is dirty afterwards (2e3468778dbe, 6.1), which the caller sees to. pte_mkdirty and pmd_mkdirty set soft-dirty too,
    on x86: remove_migration_pte clears it again in 6.12 (not in 6.6), remove_migration_pmd nowhere.
    set_pmd_migration_entry forgets uffd-wp up to 6.2, decision `migration_keeps_uffd_wp` (24bf08c4376b).
    """
    bits = {function: function(p, v) for function in (pte_dirty, pte_soft_dirty, pte_uffd_wp)}
    before = dict(bits)
    pmd = pte_huge(p, v) if moved else BoolVal(False)
    if kernel.migration_dirty == "drop":
        bits[pte_dirty] = BoolVal(False)
    elif moved or kernel.migration_dirty == "soft-dirty":
        marks = pte_dirty(p, v) if kernel.migration_dirty == "soft-dirty" else And(pte_dirty(p, v), pmd)
        bits[pte_soft_dirty] = Or(pte_soft_dirty(p, v), marks)
    if moved and not kernel.migration_keeps_uffd_wp:
        bits[pte_uffd_wp] = And(pte_uffd_wp(p, v), Not(pmd))
    if unused is not None:
        for function in tuple(bits) if bare else (pte_dirty,):
            bits[function] = And(bits[function], Not(unused))
    changed = [put(function(p, v), bit) for function, bit in bits.items() if bit is not before[function]]
    return sum(changed, put(stale(p, v), False))


def set_exclusive(kernel: Decisions, f: Term, value: Any = True) -> list[Update]:
    """SetPageAnonExclusive(f), in kernels that have the bit."""
    return put(exclusive(f), value) if kernel.exclusive_bit else []


def leave_swap_cache(f: Term, when: Term) -> list[Update]:
    """delete_from_swap_cache(f) if it is there, not under writeback, and `when` holds.

    So do reuse_swap_page, try_to_free_swap and folio_free_swap (mm/swapfile.c).
    """
    return each(
        Slot, lambda s: put(cached(s), False),
        when=lambda s: And(cached(s), Not(writeback(s)), slot_frame(s) == f, when),
    )


def not_claimed(kernel: Decisions, s: Term) -> list[Term]:
    """No fault that skips the swap cache has claimed s: swapcache_prepare (13ddaf26be32, 6.8)."""
    if kernel.swap_in_sync != "guards":
        return []
    return [Not(exists(Proc, Page, lambda q, w: And(sync_reading(q, w), sync_slot(q, w) == s)))]


def given_out(s: Term) -> list[Update]:
    """What a fault has read from slot s past the swap cache is not what will be there."""
    return each(Proc, Page, lambda q, w: put(sync_again(q, w), True),
                when=lambda q, w: And(sync_reading(q, w), sync_slot(q, w) == s))


def marked(p: Term, v: Term) -> Term:
    """The fault finds a marker of userfaultfd (vmf_orig_pte_uffd_wp, of do_anonymous_page, do_set_pte, set_pte_range).

    One that is left where write-protection is not registered any more is cleared (pte_marker_handle_uffd_wp).
    """
    return And(may_mark(v), uffd_marker(p, v), Not(vma_unwatched(p, v)))


def anon_marker(p: Term, v: Term) -> Term:
    """The empty PTE of anonymous memory is a marker, whatever is registered there."""
    return And(may_mark(v), Not(file(v)), uffd_marker(p, v))


def fillable(kernel: Decisions, p: Term, v: Term) -> Term:
    """mfill_atomic_install_pte finds an empty PTE, or a marker; decision `copy_fills_markers`."""
    return Or(pte_none(p, v), And(BoolVal(kernel.copy_fills_markers), pte_guard(p, v)))


def left_marker(kernel: Decisions, q: Term, w: Term) -> list[Update]:
    """What was at (q, w) is taken away, and a marker left if userfaultfd protects it; decision `uffd_markers`.

    pte_install_uffd_wp_if_needed, called by zap_pte_range and try_to_unmap_one: of a file mapping, whatever was mapped,
    swapped out or marked there.
    """
    if not kernel.uffd_markers:
        return put(uffd_marker(q, w), False)
    here = If(Or(pte_present(q, w), pte_swap(q, w), pte_migration(q, w)), uffd_protects(q, w), uffd_marker(q, w))
    return put(uffd_marker(q, w), And(file(w), here))


VMA_FLAGS = (vma_write, vma_exec, vma_uffd, vma_apart, vma_mergeable)
"""What VMAs that are one have in common, beside `forked_alike`, `vma_missing` and `vma_none`."""


def one_vma(p: Term, v: Term) -> Term:
    """One anonymous VMA covers the block of v (thp_vma_suitable_order).

    Neighbours merge if their flags are the same, they have an anon_vma in common, and addresses and vm_pgoff go
    together (is_mergeable_vma, is_mergeable_anon_vma).
    """

    return forall(Page, lambda w: Implies(block(w) == block(v), _merges(p, v, w)))


def _merges(p: Term, v: Term, w: Term) -> Term:
    """w's VMA is anonymous, and what tells VMAs apart is as v's."""
    same = [flag(p, w) == flag(p, v) for flag in VMA_FLAGS]
    return And(live(p, w), Not(file(w)), *same, forked_alike(p, v, w), alike(vma_missing, p, v, w),
               alike(vma_none, p, v, w))


def beside(p: Term, v: Term, w: Term) -> Term:
    """w is another part of v's block that v's VMA covers. Said by MADV_HUGEPAGE first, so that nothing remains of it
    where there are no huge pages."""
    return And(vma_huge(p, v), block(w) == block(v), w != v, _merges(p, v, w))


def prepare_anon_vma(p: Term, v: Term) -> list[Update]:
    """The VMA of v has an anon_vma from now on, and keeps it when it is split (__anon_vma_prepare, __split_vma)."""
    return put(vma_anon(p, v), True) + each(
        Page, lambda w: put(vma_anon(p, w), True), when=lambda w: beside(p, v, w),
    )


def has_anon_vma(p: Term, v: Term) -> Term:
    """The VMA of v has an anon_vma, be it that of one with which it has merged (is_mergeable_anon_vma).

    Not told: up to 6.15 a VMA that has one does not merge with a neighbour that has none when it is its own flags that
    come to be the other's (list_is_singular of the other's empty chain; 879bca0a2c4f); what has merged keeps it when it
    is split again.
    """
    return Or(vma_anon(p, v), exists(Page, lambda w: And(beside(p, v, w), vma_anon(p, w))))


def has_features(kernel: Decisions, v: Term) -> Term:
    """UFFDIO_API has given the program the userfaultfd that it wants for v."""
    unpopulated = BoolVal(True) if kernel.uffd_unpopulated else Not(uffd_unpopulated(v))
    return And(unpopulated, BoolVal(True) if kernel.uffd_async else Not(uffd_async(v)))


def batched(
    kernel: Decisions, p: Term, span: Span, left: Callable[[Term], Term] = lambda v: BoolVal(False)
) -> list[Update]:
    """modify_prot_start_ptes reads the PTEs of one large folio together, and what one of them says of dirty all get by
    pte_mkdirty, which makes them soft-dirty, too, on x86; decision `protect_batches`.

    `left(v)`: the VMA is left alone. Read together is what agrees in W, soft-dirty and uffd-wp (FPB_RESPECT_WRITE,
    FPB_RESPECT_SOFT_DIRTY, pte_same). Not told: that they become dirty, too, and not soft-dirty where the first alone
    is dirty; that parts between which one differs are no batch; what precedes a hole or a VMA at which the call fails;
    and NUMA scans of more than a page.
    """
    if not (span.whole and kernel.protect_batches):
        return []

    def merged(v: Term) -> Term:
        f = pte_frame(p, v)
        with_it = exists(Page, lambda w: And(
            beside(p, v, w), pte_present(p, w), same_folio(pte_frame(p, w), f), pte_write(p, w) == pte_write(p, v),
            pte_uffd_wp(p, w) == pte_uffd_wp(p, v), Not(pte_soft_dirty(p, w)), Or(pte_dirty(p, v), pte_dirty(p, w)),
        ))
        return And(pte_present(p, v), Not(pte_huge(p, v)), Not(pte_soft_dirty(p, v)), Not(left(v)), with_it)

    return span.each(lambda v: put(pte_soft_dirty(p, v), True), when=merged)
