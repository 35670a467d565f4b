"""Transparent huge pages: faults on PMDs, splitting, collapse (mm/huge_memory.c, mm/khugepaged.c).

A large folio is a set of frames, one for each page of the block that a PMD maps; their number is nowhere said. What a
PMD says is said alike of each page of the block, so that claims and rules about one page need not know. Simplified:
reclaim and a moved mapping split first, which the kernel does where it cannot do without; the zero page of a block is
the one zero page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3
from z3 import And, BoolVal, If, Implies, Not, Or

from model.fault import P, V, fresh_page, huge_ready, map_pte, map_writable, migrated_pte, set_exclusive, split_pte
from model.gup import needs_private
from model.logic import Param, Stage, Staged, Step, Term, Update, each, exists, forall, put, rule
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
    file,
    frame_free,
    frame_value,
    in_swap_cache,
    large,
    live,
    loaded,
    mapped_only_in,
    maps_folio,
    nonanon,
    pmd_splitting,
    pte_dirty,
    pte_frame,
    pte_huge,
    pte_none,
    pte_present,
    pte_soft_dirty,
    pte_uffd_wp,
    pte_write,
    same_folio,
    same_pmd,
    uffd_armed,
    unreferenced,
    vma_huge,
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


def exclusive_folio(kernel: Any, f: Term) -> list[Update]:
    """PG_anon_exclusive of a PMD-mapped folio: of its head, which stands for all."""
    return each(Frame, lambda g: set_exclusive(kernel, g), when=lambda g: same_folio(g, f))


@rule([P, V], "madvise(MADV_HUGEPAGE)", "domain.md 1.2", features=HUGE,
      lock="write")
def madvise_hugepage(kernel: Any, p: Term, v: Term) -> Step:
    """A block that nobody has touched yet may get a THP."""
    untouched = forall(
        Page, lambda w: Implies(in_block(v)(w), And(live(p, w), pte_none(p, w), Not(vma_huge(p, w))))
    )
    return Step([untouched], [each(Page, lambda w: put(vma_huge(p, w), True), when=in_block(v))])


@rule([P, V, NEW, FOLIO], "do_huge_pmd_anonymous_page", "domain.md 2.10 (AE set)", features=HUGE,
      lock="fault")
def huge_fault(kernel: Any, p: Term, v: Term, new: Any, into: Term) -> Step:
    """A write fault in an empty block maps a fresh zeroed THP by a PMD, writable."""
    return Step(
        [vma_huge(p, v), huge_ready(p, v), vma_write(p, v), Not(file(v)), *fresh_block(v, new)],
        [each(
            Page, lambda w: fresh_page(new(w), ZERO, into) + map_writable(p, w, new(w), huge=True)
            + put(uffd_armed(p, w), False) + set_exclusive(kernel, new(w)), when=in_block(v),
        )],
    )


def pmd_write_protected(p: Term, v: Term) -> list[Term]:
    """A write fault on a present read-only PMD of a writable VMA that userfaultfd does not stop."""
    return [
        live(p, v), vma_write(p, v), pte_present(p, v), pte_huge(p, v), Not(pte_write(p, v)), Not(pte_uffd_wp(p, v)),
    ]


def huge_alone(kernel: Any, p: Term, v: Term) -> Term:
    """The THP that the PMD of (p, v) maps is its process's own alone, in the kernel's opinion."""
    f = pte_frame(p, v)
    return And(anon(f), kernel.huge_reuse(p, v, f))


def split_updates(kernel: Any, p: Term, v: Term) -> list[Update]:
    """__split_huge_pmd: PTEs map what the PMD mapped; PG_anon_exclusive goes from the head to each sub-page."""
    return each(Page, lambda w: split_pte(kernel, p, w), when=lambda w: same_pmd(p, v, p, w))


@rule([P, V], "do_huge_pmd_wp_page (reuse)", "domain.md (b) of each kernel; decision `huge_reuse`", features=HUGE,
      lock="fault")
def huge_wp_reuse(kernel: Any, p: Term, v: Term) -> Step:
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
def huge_wp_copy(kernel: Any, p: Term, v: Term, new: Any, into: Term) -> Step | None:
    """A write fault on a read-only PMD copies the whole THP (up to 5.7)."""
    if not kernel.huge_copies:
        return None
    return Step(
        [*pmd_write_protected(p, v), Not(huge_alone(kernel, p, v)), *fresh_block(v, new)],
        [each(Page, lambda w: fresh_page(new(w), loaded(p, w), into) + map_writable(p, w, new(w), huge=True),
            when=in_block(v),
        )],
    )


@rule([P, V], "do_huge_pmd_wp_page (fallback), __split_huge_pmd", "domain.md (b) of each kernel", features=HUGE,
      lock="fault")
def huge_wp_split(kernel: Any, p: Term, v: Term) -> Step | None:
    """A write fault on a read-only PMD splits it; the fault is tried again on the PTE (3917c80280c9, 5.8)."""
    if kernel.huge_copies:
        return None
    return Step([*pmd_write_protected(p, v), Not(huge_alone(kernel, p, v))], split_updates(kernel, p, v))


@rule([P, V], "do_huge_pmd_wp_page(FAULT_FLAG_UNSHARE)", "domain.md 2.10 (b), (c)", features=HUGE,
      lock="read")
def huge_unshare_reuse(kernel: Any, p: Term, v: Term) -> Step | None:
    """FAULT_FLAG_UNSHARE finds that nobody else has the THP: it becomes exclusive and stays read-only."""
    if not kernel.exclusive_bit or kernel.unshare is None:
        return None
    f = pte_frame(p, v)
    return Step(
        [*needs_private(kernel, p, v), pte_huge(p, v), huge_alone(kernel, p, v)], exclusive_folio(kernel, f)
    )


@rule([P, V], "do_huge_pmd_wp_page (fault for a reader), __split_huge_pmd", "domain.md 2.7, 2.10 (b)", features=HUGE,
      lock="read")
def huge_unshare_split(kernel: Any, p: Term, v: Term) -> Step | None:
    """GUP for reading needs a copy of a part of the THP: the PMD is split first."""
    if kernel.unshare is None:
        return None
    kept = huge_alone(kernel, p, v) if kernel.exclusive_bit else BoolVal(False)
    guard = [*needs_private(kernel, p, v), pte_huge(p, v), Not(kept)]
    if kernel.read_gup_writes:
        guard.append(Not(vma_write(p, v)))
    return Step(guard, split_updates(kernel, p, v))


@rule([P, V], "__split_huge_pmd", "domain.md 1.2, F14, 7.2 S6; decision `split_locks_page`", features=HUGE,
      split=("split-pmd",), lock="read")
def split_pmd(kernel: Any, p: Term, v: Term) -> Step | Staged:
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


def split_into_pages(kernel: Any, f: Term) -> list[list[Update]]:
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
            + put(pte_write(q, w), And(pte_write(q, w), Not(unused)))
        )

    return [
        each(Proc, Page, remapped, when=lambda q, w: maps_folio(q, w, f)),
        each(Frame, lambda g: put(large(g), False), when=lambda g: same_folio(g, f)),
    ]


@rule([F], "split_huge_page", "domain.md 7.1; decisions `split_zero_parts`, `migration_dirty`", features=HUGE)
def split_folio(kernel: Any, f: Term) -> Step:
    """A large folio without references other than its mappings becomes single pages."""
    return Step([large(f), unreferenced(f)], split_into_pages(kernel, f))


@rule([F], "split_huge_page, -EBUSY", "domain.md 7.1", kind="refusal", features=HUGE)
def split_folio_refused(kernel: Any, f: Term) -> Step:
    """The page is not large, or somebody holds a reference to its folio."""
    return Step([Or(Not(large(f)), Not(unreferenced(f)))])


def _collapsible(kernel: Any, p: Term, v: Term) -> list[Term]:
    """What collapse_huge_page asks of the block: each page empty, or mapped by a PTE to an anonymous page that nobody
    holds a reference to, and before 5.8 that nobody else maps and that is of order 0. Up to 6.12 at least, one PTE must
    be writable (SCAN_PAGE_RO)."""

    def fits(w: Term) -> Term:
        f = pte_frame(p, w)
        shared = BoolVal(True) if kernel.collapse_shared else mapped_only_in(p, f)
        compound = BoolVal(True) if kernel.collapse_compound else Not(large(f))
        page = And(
            pte_present(p, w), Not(pte_huge(p, w)), Not(pte_uffd_wp(p, w)),
            Or(nonanon(f), And(anon(f), Not(in_swap_cache(f)), unreferenced(f), shared, compound)),
        )
        return And(live(p, w), Not(file(w)), Or(page, pte_none(p, w)))

    some = exists(
        Page, lambda w: And(in_block(v)(w), pte_present(p, w), Or(BoolVal(kernel.collapse_read_only), pte_write(p, w)))
    )
    return [forall(Page, lambda w: Implies(in_block(v)(w), fits(w))), some]


@rule([P, V, NEW, FOLIO], "collapse_huge_page (khugepaged, MADV_COLLAPSE)", "domain.md 6.2, I1", features=HUGE,
      lock="write")
def collapse(kernel: Any, p: Term, v: Term, new: Any, into: Term) -> Step:
    """The pages of a block are copied into a fresh THP, which only this process has."""
    return Step(
        [*_collapsible(kernel, p, v), *fresh_block(v, new)],
        [each(
            Page, lambda w: map_pte(p, w, new(w), huge=True) + put(pte_write(p, w), vma_write(p, w))
            + put(pte_dirty(p, w), True) + put(pte_soft_dirty(p, w), True) + put(pte_uffd_wp(p, w), False)
            + put(uffd_armed(p, w), False) + put(vma_huge(p, w), True)
            + fresh_page(new(w), loaded(p, w), into) + set_exclusive(kernel, new(w)),
            when=in_block(v),
        )],
    )


@rule([P, V], "collapse_huge_page refused", "domain.md I1", kind="refusal", features=HUGE)
def collapse_refused(kernel: Any, p: Term, v: Term) -> Step:
    """Some page of the block has a reference, is tracked, swapped out, none is writable, or it is a THP already."""
    return Step([Not(And(*_collapsible(kernel, p, v)))])


RULES = (
    madvise_hugepage, huge_fault, huge_wp_reuse, huge_wp_copy, huge_wp_split, huge_unshare_reuse, huge_unshare_split,
    split_pmd, split_folio, split_folio_refused, collapse, collapse_refused,
)
