"""Transparent huge pages: faults on PMDs, splitting, collapse (mm/huge_memory.c, mm/khugepaged.c).

A large folio is a set of frames, one for each page of the block that a PMD maps; their number is nowhere said. What a
PMD says is said alike of each page of the block, so that claims and rules about one page need not know. Simplified:
reclaim and a moved mapping split first, which the kernel does where it cannot do without; the zero page of a block is
the one zero page. Lines were compared in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3
from z3 import And, BoolVal, If, Implies, Not, Or

from model import locks
from model.decisions import Decisions
from model.fault import huge_ready
from model.gup import needs_private
from model.logic import Param, Stage, Staged, Step, Term, Update, each, exists, forall, put, rule
from model.ptes import (
    P,
    V,
    anon_marker,
    followed,
    fresh_page,
    leave_swap_cache,
    map_pte,
    map_writable,
    migrated_pte,
    one_vma,
    set_exclusive,
    split_pte,
)
from model.reclaim import F
from model.state import (
    ZERO,
    Folio,
    Frame,
    Page,
    Proc,
    anon,
    backed,
    backing,
    block,
    collapse_scanned,
    file,
    folio_free,
    frame_free,
    frame_value,
    in_swap_cache,
    large,
    live,
    loaded,
    mapped_dirty,
    mapped_only_by,
    maps,
    maps_folio,
    missing,
    nonanon,
    page_dirty,
    page_swapped,
    page_table,
    pmd_splitting,
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
    same_pmd,
    stale,
    uffd_armed,
    uffd_marker,
    uffd_protects,
    unreferenced,
    vma_anon,
    vma_huge,
    vma_missing,
    vma_uffd,
    vma_write,
)

HUGE = frozenset({"huge"})
FOLIO = Param("into", Folio, fresh=True)
_of = z3.Const("u", Page)
NEW = Param("new", Frame, fresh=True, over=Page, of=_of, needed=lambda kernel, named, u: block(u) == block(named["v"]))
"""A fresh frame for each page of the block of v."""


def in_block(v: Term) -> Callable[[Term], Term]:
    return lambda w: block(w) == block(v)


def fresh_block(v: Term, new: Any) -> list[Term]:
    """`new` gives a free frame to each page of the block of v, to no two the same."""
    here = in_block(v)
    return [
        forall(Page, lambda w: Implies(here(w), frame_free(new(w)))),
        forall(Page, Page, lambda w, u: Implies(And(here(w), here(u), new(w) == new(u)), w == u)),
    ]


def exclusive_folio(kernel: Decisions, f: Term) -> list[Update]:
    """PG_anon_exclusive of a PMD-mapped folio: of its head, which stands for all."""
    return each(Frame, lambda g: set_exclusive(kernel, g), when=lambda g: same_folio(g, f))


@rule([P, V], "madvise(MADV_HUGEPAGE)", "domain.md 1.2", features=HUGE,
      lock="write")
def madvise_hugepage(kernel: Decisions, p: Term, v: Term) -> Step:
    """A block that nobody has touched yet may get a THP."""
    untouched = forall(
        Page, lambda w: Implies(
            in_block(v)(w), And(live(p, w), pte_none(p, w), Not(vma_huge(p, w)), Not(anon_marker(p, w)))
        )
    )
    return Step([untouched], [each(Page, lambda w: put(vma_huge(p, w), True), when=in_block(v))])


@rule([P, V, NEW, FOLIO], "do_huge_pmd_anonymous_page", "domain.md 2.10 (AE set)", features=HUGE,
      lock="fault")
def huge_fault(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step:
    """A write fault in an empty block maps a fresh zeroed THP by a PMD, writable."""
    return Step(
        [vma_huge(p, v), huge_ready(p, v), vma_write(p, v), Not(file(v)), Not(missing(p, v)), *fresh_block(v, new)],
        [each(
            Page, lambda w: fresh_page(new(w), ZERO, into) + map_writable(p, w, new(w), huge=True)
            + put(uffd_armed(p, w), False) + set_exclusive(kernel, new(w)), when=in_block(v),
        )],
    )


def pmd_write_protected(p: Term, v: Term) -> list[Term]:
    """A write fault on a present read-only PMD of a writable VMA that userfaultfd does not stop."""
    return [
        live(p, v), vma_write(p, v), pte_present(p, v), pte_huge(p, v), Not(pte_write(p, v)), Not(uffd_protects(p, v)),
    ]


def huge_alone(kernel: Decisions, p: Term, v: Term) -> Term:
    """The THP that the PMD of (p, v) maps is its process's own alone, in the kernel's opinion."""
    f = pte_frame(p, v)
    return And(anon(f), kernel.huge_reuse(p, v, f))


def split_updates(kernel: Decisions, p: Term, v: Term) -> list[Update]:
    """__split_huge_pmd: PTEs map what the PMD mapped; PG_anon_exclusive goes from the head to each sub-page.

    Where a page table is, no fault maps a THP any more (__handle_mm_fault looks for an empty PMD).
    """
    return [
        *each(Page, lambda w: split_pte(kernel, p, w), when=lambda w: same_pmd(p, v, p, w)),
        *put(page_table(p, block(v)), True),
    ]


def zero_mapped(p: Term, v: Term) -> Term:
    """is_huge_zero_pmd: the PMD maps the huge zero page."""
    return And(pte_huge(p, v), nonanon(pte_frame(p, v)))


def _copied(p: Term, w: Term) -> Term:
    """What a fresh THP holds at w: a copy, or for the huge zero page zeroes (clear_huge_page)."""
    return z3.If(nonanon(pte_frame(p, w)), ZERO, loaded(p, w))


def splits_on_write(kernel: Decisions, p: Term, v: Term) -> Term:
    """A write fault on a PMD that is not the process's own alone splits it, and does not map a fresh THP."""
    fresh_zero = zero_mapped(p, v) if kernel.huge_zero_fresh else BoolVal(False)
    return And(Not(huge_alone(kernel, p, v)), Not(fresh_zero))


@rule([P, V], "do_huge_pmd_wp_page (reuse)", "domain.md (b) of each kernel; decision `huge_reuse`", features=HUGE,
      lock="fault")
def huge_wp_reuse(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault on a read-only PMD gives the write bit back: the kernel takes the THP for its own alone."""
    f = pte_frame(p, v)
    return Step(
        [*pmd_write_protected(p, v), huge_alone(kernel, p, v)],
        [
            each(
                Page, lambda w: put(pte_write(p, w), True) + put(pte_dirty(p, w), True)
                + put(pte_soft_dirty(p, w), True), when=lambda w: same_pmd(p, v, p, w),
            ),
            exclusive_folio(kernel, f),
        ],
    )


@rule([P, V, NEW, FOLIO], "do_huge_pmd_wp_page (copy)", "domain.md 2.1 (b); decision `huge_copies`", features=HUGE,
      lock="fault")
def huge_wp_copy(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step | None:
    """A write fault on a read-only PMD copies the whole THP (up to 5.7)."""
    if not kernel.huge_copies:
        return None
    return Step(
        [*pmd_write_protected(p, v), Not(huge_alone(kernel, p, v)), *fresh_block(v, new)],
        [each(Page, lambda w: fresh_page(new(w), _copied(p, w), into) + map_writable(p, w, new(w), huge=True),
            when=in_block(v),
        )],
    )


@rule([P, V, NEW, FOLIO], "do_huge_zero_wp_pmd, map_anon_folio_pmd_pf", "decision `huge_zero_fresh`; read in 7.2.13",
      features=("huge", "zero"), lock="fault")
def huge_zero_copy(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step | None:
    """A write fault on the huge zero page maps a fresh zeroed THP (1ced09e0331f, 6.13)."""
    if not kernel.huge_zero_fresh:
        return None
    return Step(
        [*pmd_write_protected(p, v), zero_mapped(p, v), *fresh_block(v, new)],
        [each(
            Page, lambda w: fresh_page(new(w), ZERO, into) + map_writable(p, w, new(w), huge=True)
            + set_exclusive(kernel, new(w)), when=in_block(v),
        )],
    )


@rule([P, V], "do_huge_pmd_wp_page (fallback), __split_huge_pmd", "domain.md (b) of each kernel", features=HUGE,
      lock="fault")
def huge_wp_split(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """A write fault on a read-only PMD splits it; the fault is tried again on the PTE (3917c80280c9, 5.8)."""
    if kernel.huge_copies:
        return None
    return Step([*pmd_write_protected(p, v), splits_on_write(kernel, p, v)], split_updates(kernel, p, v))


@rule([P, V], "do_huge_pmd_wp_page(FAULT_FLAG_UNSHARE)", "domain.md 2.10 (b), (c)", features=HUGE,
      lock="read")
def huge_unshare_reuse(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """FAULT_FLAG_UNSHARE finds that nobody else has the THP: it becomes exclusive and stays read-only."""
    if not kernel.exclusive_bit or kernel.unshare is None:
        return None
    f = pte_frame(p, v)
    return Step(
        [*needs_private(kernel, p, v), pte_huge(p, v), huge_alone(kernel, p, v)], exclusive_folio(kernel, f)
    )


@rule([P, V], "do_huge_pmd_wp_page (fault for a reader), __split_huge_pmd", "domain.md 2.7, 2.10 (b)", features=HUGE,
      lock="read")
def huge_unshare_split(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """GUP for reading needs a copy of a part of the THP: the PMD is split first."""
    if kernel.unshare is None:
        return None
    kept = huge_alone(kernel, p, v) if kernel.exclusive_bit else BoolVal(False)
    guard = [*needs_private(kernel, p, v), pte_huge(p, v), Not(kept)]
    if kernel.huge_zero_unshare != "split":
        guard.append(Not(zero_mapped(p, v)))
    if kernel.read_gup_writes:
        guard.append(Not(vma_write(p, v)))
    return Step(guard, split_updates(kernel, p, v))


@rule([P, V, NEW, FOLIO], "do_huge_pmd_wp_page(FAULT_FLAG_UNSHARE), do_huge_zero_wp_pmd",
      "decision `huge_zero_unshare`; read in 7.2.13 and 7.3-rc7", features=("huge", "zero"), lock="read")
def huge_zero_unshare(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step | None:
    """GUP for reading replaces the huge zero page by a fresh zeroed THP.

    From 6.13 do_huge_zero_wp_pmd does not look at FAULT_FLAG_UNSHARE: the PMD becomes what a write fault makes of it,
    dirty, writable in a writable VMA, and without uffd-wp, of which wp_huge_pmd takes notice for writers alone.
    """
    if kernel.unshare is None or kernel.huge_zero_unshare == "split":
        return None
    written = kernel.huge_zero_unshare == "as-write"
    return Step(
        [*needs_private(kernel, p, v), zero_mapped(p, v), *fresh_block(v, new)],
        [each(
            Page, lambda w: fresh_page(new(w), ZERO, into) + map_pte(p, w, new(w), huge=True)
            + put(pte_write(p, w), And(vma_write(p, w), BoolVal(written))) + put(pte_dirty(p, w), written)
            + put(pte_soft_dirty(p, w), Or(pte_soft_dirty(p, w), BoolVal(written)))
            + put(pte_uffd_wp(p, w), And(pte_uffd_wp(p, w), BoolVal(not written)))
            + set_exclusive(kernel, new(w)), when=in_block(v),
        )],
    )


@rule([P, V], "__split_huge_pmd", "domain.md 1.2, F14, 7.2 S6; decision `split_locks_page`", features=HUGE,
      split=("split-pmd",), lock="read")
def split_pmd(kernel: Decisions, p: Term, v: Term) -> Step | Staged:
    """The PMD becomes a table of PTEs that map the same sub-pages; the folio stays large.

    The PMD's mapping is taken off the count and those of the sub-pages are put on it one after the other; with the page
    lock nobody looks meanwhile (c444eb564fb1).
    """
    guard = [pte_huge(p, v), pte_present(p, v)]
    if kernel.split_locks_page:
        return Step(guard, split_updates(kernel, p, v))
    here = in_block(v)
    return Staged(
        (
            Stage("uncount", lambda view: Step(guard, [])),
            Stage("count", lambda view: Step([], [
                split_updates(kernel, p, v),
                each(Page, lambda w: put(pmd_splitting(p, w), False), when=lambda w: And(here(w), w != v)),
            ])),
        ),
        (pmd_splitting(p, v),),
        save=each(Page, lambda w: put(pmd_splitting(p, w), True), when=lambda w: And(here(w), w != v)),
    )


def split_into_pages(kernel: Decisions, f: Term) -> list[list[Update]]:
    """__split_huge_page of f's folio, whoever asks for it: unmap_folio, then remap_page by PTEs; decision
    `split_zero_parts`.

    From 6.12 (b1f202060afe) try_to_map_unused_to_zeropage maps the zero page, read-only, for each part that holds only
    zeros, be it mapped by PMDs or PTEs, of one process or of several: the part itself is freed. Soft-dirty and uffd-wp
    go along; up to 6.17 they are lost (9658d698a8a8, in Debian's 6.12.118). No mlock in the model. Where there is no
    zero page (yet) the PTE is empty, and reads as zero just so.
    """

    def remapped(q: Term, w: Term) -> list[Update]:
        if kernel.split_zero_parts == "keep":
            return put(pte_huge(q, w), False) + migrated_pte(kernel, q, w)
        unused = frame_value(pte_frame(q, w)) == ZERO
        bits = migrated_pte(kernel, q, w, unused=unused, bare=kernel.split_zero_parts == "map-bare")
        return (
            put(pte_huge(q, w), False) + bits + put(pte_present(q, w), Or(Not(unused), backed(w)))
            + put(pte_frame(q, w), If(And(unused, backed(w)), backing(w), pte_frame(q, w)))
            + put(pte_write(q, w), And(pte_write(q, w), Not(unused))) + put(uffd_marker(q, w), False)
        )

    return [
        each(
            Proc, Page, lambda q, w: remapped(q, w) + put(page_table(q, block(w)), True),
            when=lambda q, w: maps_folio(q, w, f),
        ),
        each(
            Frame, lambda g: put(large(g), False) + put(page_dirty(g), Or(page_dirty(g), mapped_dirty(g))),
            when=lambda g: same_folio(g, f),
        ),
    ]


@rule([F], "split_huge_page", "domain.md 7.1; decisions `split_zero_parts`, `migration_dirty`", features=HUGE)
def split_folio(kernel: Decisions, f: Term) -> Step:
    """A large folio without references other than its mappings becomes single pages."""
    return Step([Not(frame_free(f)), large(f), unreferenced(f)], split_into_pages(kernel, f))


@rule([P, V], "split_huge_pages of debugfs", "domain.md 7.1", features=HUGE)
def split_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """A page that is a folio by itself is split already."""
    f = pte_frame(p, v)
    return Step([live(p, v), pte_present(p, v), Not(large(f)), Not(zero_mapped(p, v))])


@rule([P, V], "split_huge_page, -EBUSY", "domain.md 7.1", kind="refusal", features=HUGE)
def split_folio_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """Somebody holds a reference to the folio, or it is the huge zero page; or follow_page, by which debugfs looks for
    it, finds nothing (split_huge_pages_pid)."""
    f = pte_frame(p, v)
    kept = And(large(f), Or(Not(unreferenced(f)), Not(followed(kernel, p, v))))
    return Step([live(p, v), pte_present(p, v), Or(kept, zero_mapped(p, v))])


def _none_or_zero(p: Term, w: Term) -> Term:
    """pte_none_or_zero: nothing is mapped there, or the zero page by a PTE."""
    none = And(Not(pte_present(p, w)), Not(pte_migration(p, w)))
    return And(Not(pte_swap(p, w)), Not(pte_guard(p, w)), Or(none, And(nonanon(pte_frame(p, w)), Not(pte_huge(p, w)))))


def _marker_left(p: Term, w: Term) -> Term:
    """A marker outlives its registration (SCAN_PTE_UFFD_WP: pte_swp_uffd_wp_any)."""
    return And(pte_none(p, w), anon_marker(p, w))


def _fits(kernel: Decisions, p: Term, w: Term, uffd_wp: bool = True) -> Term:
    """One page of a block, as __collapse_huge_page_isolate and the scan before it ask for it (mm/khugepaged.c).

    MADV_COLLAPSE (6.1) ignores how many there may be of each kind, and so does khugepaged here: max_ptes_none,
    max_ptes_shared and max_ptes_swap are settings, and that a page is young, or given up by MADV_FREE
    (SCAN_LACK_REFERENCED_PAGE, SCAN_PAGE_LAZYFREE of 7.2), matters to khugepaged alone. `uffd_wp`: tracked pages are
    refused (e1e267c7928f, 5.7). KSM pages are PageAnon, and taken.
    """
    f = pte_frame(p, w)
    shared = BoolVal(True) if kernel.collapse_shared else mapped_only_by(p, w, f)
    compound = BoolVal(True) if kernel.collapse_compound else Not(large(f))
    cached_alone = Or(Not(in_swap_cache(f)), pte_write(p, w), kernel.collapse_cached(p, w, f))
    page = And(
        pte_present(p, w), Not(pte_huge(p, w)), Not(nonanon(f)), unreferenced(f), shared, compound, cached_alone,
    )
    waits = pte_migration(p, w)
    tracked = And(Or(pte_present(p, w), pte_swap(p, w), waits), pte_uffd_wp(p, w)) if uffd_wp else BoolVal(False)
    hole = And(_none_or_zero(p, w), Not(vma_uffd(p, w)), Not(vma_missing(p, w)), Not(_marker_left(p, w)))
    return Or(hole, And(Or(page, pte_swap(p, w), waits), Not(tracked)))


def _collapsible(kernel: Decisions, p: Term, v: Term, uffd_wp: bool = True) -> list[Term]:
    """What collapsing the block of v asks: one VMA covers it, with an anon_vma (hugepage_vma_revalidate), each page
    fits, and up to 6.17 one PTE is writable (SCAN_PAGE_RO). From 6.18 on a page table without any page will do, but
    there must be one. Without a zero page nothing but an anonymous page has brought it, and the anon_vma too."""
    here = in_block(v)
    if kernel.collapse_read_only:
        some = Or(page_table(p, block(v)), exists(Page, lambda w: And(here(w), Not(pte_none(p, w)))))
    else:
        some = exists(Page, lambda w: And(here(w), pte_present(p, w), pte_write(p, w)))
    anonymous = Or(Not(backed(v)), exists(Page, lambda w: And(here(w), vma_anon(p, w))))
    return [one_vma(p, v), anonymous, forall(Page, lambda w: Implies(here(w), _fits(kernel, p, w, uffd_wp))), some]


@rule([P, V, NEW, FOLIO], "collapse_scan_pmd, collapse_huge_page (khugepaged, MADV_COLLAPSE)",
      "domain.md 6.2, I1; decisions `collapse_*`", features=HUGE, lock="read", split=("collapse",))
def collapse(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Staged:
    """The pages of a block are copied into a fresh THP, which only this process has.

    Swapped-out ones have been brought in by read faults (__collapse_huge_page_swapin). Two looks: under mmap_lock for
    reading, which is dropped, then for writing with the page table out of the way. The first pages leave the swap
    cache if nobody else has them (free_swap_cache).
    """
    here = in_block(v)
    present = forall(Page, lambda w: Implies(here(w), And(Not(pte_swap(p, w)), Not(pte_migration(p, w)))))

    def left_alone(f: Term) -> Term:
        """Only this block maps f, and no swap entry leads to it."""
        others = forall(Proc, Page, lambda q, w: Implies(maps_folio(q, w, f), And(q == p, here(w))))
        ours = exists(Page, lambda w: And(here(w), maps(p, w, f)))
        return And(ours, others, Not(page_swapped(f)))

    return Staged(
        (
            Stage("scan", lambda view: Step([*_collapsible(kernel, p, v), present])),
            Stage(
                "install", lambda view: Step(
                    locks.asks(kernel, "write", {"p": p, "v": v}),
                    [
                        each(
                            Page, lambda w: map_pte(p, w, new(w), huge=True)
                            + put(pte_write(p, w), vma_write(p, w)) + put(pte_dirty(p, w), True)
                            + put(pte_soft_dirty(p, w), True) + put(pte_uffd_wp(p, w), False)
                            + put(stale(p, w), False)
                            + put(uffd_armed(p, w), And(pte_present(p, w), uffd_armed(p, w)))
                            + put(vma_huge(p, w), True) + put(vma_anon(p, w), True)
                            + fresh_page(new(w), loaded(p, w), into)
                            + set_exclusive(kernel, new(w)), when=here,
                        ),
                        each(Frame, lambda f: leave_swap_cache(f, BoolVal(True)), when=left_alone),
                        put(page_table(p, block(v)), False),
                    ],
                ),
                recheck=lambda view: And(
                    *_collapsible(kernel, p, v, uffd_wp=kernel.collapse_rechecks_uffd_wp), present
                ),
                chooses=[*fresh_block(v, new), folio_free(into)],
            ),
        ),
        (collapse_scanned(p, v),),
    )


@rule([P, V], "madvise(MADV_FREE): madvise_free_huge_pmd, madvise_free_pte_range",
      "mm/huge_memory.c, mm/madvise.c; decision `lazyfree_splits`", features=("huge", "lazyfree"), lock="read")
def madv_free_split(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_FREE of a part of a large folio that nobody else maps splits it first, if nobody holds a reference.

    The kernel gives up a THP whole if all of it is named, and reclaim splits it or throws it away whole; here it is
    split at once.
    """
    f = pte_frame(p, v)
    alone = If(pte_huge(p, v), mapped_only_by(p, v, f), kernel.lazyfree_splits(p, v, f))
    split = split_folio.body(kernel, f)
    assert isinstance(split, Step)
    return Step([live(p, v), pte_present(p, v), anon(f), alone, *split.guard], split.updates)
@rule([P, V], "madvise(MADV_COLLAPSE): SCAN_PMD_MAPPED", "domain.md I1", features=HUGE)
def collapse_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """The block is mapped by a PMD already."""
    return Step([live(p, v), pte_present(p, v), pte_huge(p, v), Not(zero_mapped(p, v))])


@rule([P, V], "collapse_huge_page refused", "domain.md I1", kind="refusal", features=HUGE)
def collapse_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """Some page of the block has a reference, is tracked, or is missing where userfaultfd wants to know; none is
    writable; or the block lies in two VMAs.

    The huge zero page counts as refused: MADV_COLLAPSE returns 0, and the process has no THP.
    """
    whole = And(live(p, v), pte_present(p, v), pte_huge(p, v), Not(zero_mapped(p, v)))
    return Step([Not(whole), Not(And(*_collapsible(kernel, p, v)))])


RULES = (
    madvise_hugepage, huge_fault, huge_wp_reuse, huge_wp_copy, huge_zero_copy, huge_wp_split, huge_unshare_reuse,
    huge_zero_unshare, huge_unshare_split, split_pmd, split_folio, split_nothing, split_folio_refused, madv_free_split,
    collapse, collapse_nothing, collapse_refused,
)
