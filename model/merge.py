"""KSM: pages of equal content become one, and are un-merged (mm/ksm.c)."""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, Implies, Not, Or

from model.decisions import Decisions
from model.fault import free_idle_after_copy
from model.huge import split_into_pages
from model.logic import Param, Stage, Staged, Step, Term, exists, put, rule
from model.ptes import NEW, P, V, followed, fresh_page, leave_swap_cache, set_exclusive
from model.state import (
    Page,
    Proc,
    exclusive,
    frame_value,
    ksm,
    ksm_cleared,
    ksm_tested,
    large,
    live,
    mapped_huge,
    mapped_only_by,
    misplaced,
    names_frame,
    nonanon,
    page_dirty,
    page_swapped,
    pte_dirty,
    pte_frame,
    pte_huge,
    pte_present,
    pte_soft_dirty,
    pte_uffd_wp,
    pte_write,
    soft_dirty_flushing,
    stale,
    uffd_flushing,
    uffd_protects,
    uffd_unwp_flushing,
    unreferenced,
    vma_mergeable,
    vma_none,
    vma_write,
)

Q, W = Param("q", Proc), Param("w", Page)


def _scanned(kernel: Decisions, r: Term, u: Term) -> Term:
    """ksmd comes by and finds what is mapped there, be it in a PROT_NONE VMA: scan_get_next_rmap_item."""
    return Or(Not(vma_none(r, u)), BoolVal(kernel.follows_inaccessible or kernel.ksm_walks))


def _comparable(kernel: Decisions, r: Term, u: Term) -> Term:
    """ksmd looks at what is mapped there: an anonymous page, by a PTE."""
    return And(
        live(r, u), pte_present(r, u), Not(pte_huge(r, u)), Not(nonanon(pte_frame(r, u))), _scanned(kernel, r, u)
    )


def _counted(kernel: Decisions, r: Term, u: Term) -> Term:
    """write_protect_page compares page_mapcount with page_count, and allows for the swap cache.

    It does so only if the PTE is writable or dirty, the page exclusive, or TLBs are about to be flushed; else whoever
    refers to the page is not seen. Read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7.
    """
    if kernel.ksm_referenced == "allow":
        return BoolVal(True)
    f = pte_frame(r, u)
    own = exclusive(f) if kernel.exclusive_bit else BoolVal(False)
    flushing = Or(soft_dirty_flushing(r), exists(Page, lambda x: Or(uffd_flushing(r, x), uffd_unwp_flushing(r, x))))
    return Implies(Or(pte_write(r, u), pte_dirty(r, u), own, flushing), unreferenced(f))


def _protectable(kernel: Decisions, r: Term, u: Term) -> Term:
    """write_protect_page does it, of a page that is where its index says (page_address_in_vma)."""
    f = pte_frame(r, u)
    return And(Not(large(f)), _counted(kernel, r, u), Not(misplaced(f)))


def _equal(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Term:
    """Both places are looked at, and two pages of equal content found; no two KSM pages have the same.

    What is no KSM page yet at (q, w) is looked for again when its like is found, at (p, v).
    """
    f, g = pte_frame(p, v), pte_frame(q, w)
    return And(
        _comparable(kernel, p, v), _comparable(kernel, q, w), f != g, frame_value(f) == frame_value(g),
        Not(And(ksm(f), ksm(g))), Or(ksm(f), ksm(g), followed(kernel, q, w)),
    )


def _merges(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Term:
    """The page at (p, v) is or becomes a KSM page, the one at (q, w) is not yet."""
    kept = Or(ksm(pte_frame(p, v)), _protectable(kernel, p, v))
    return And(_equal(kernel, p, v, q, w), Not(ksm(pte_frame(q, w))), kept, _protectable(kernel, q, w))


def _one_page(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Term:
    """Both places map one page, not that of the page cache or the zero page, at which ksmd does not look."""
    return And(
        live(p, v), live(q, w), pte_present(p, v), pte_present(q, w), pte_frame(p, v) == pte_frame(q, w),
        Not(nonanon(pte_frame(p, v))), _scanned(kernel, p, v), _scanned(kernel, q, w),
    )


def _becomes_ksm(kernel: Decisions, p: Term, v: Term) -> list[Any]:
    """try_to_merge_one_page without kpage: the PTE is cleaned and write-protected (its other bits stay), PG_dirty set.

    The place of what is a KSM page already is not touched.
    """
    f = pte_frame(p, v)
    return [
        put(ksm(f), True), set_exclusive(kernel, f, False), put(page_dirty(f), True),
        put(pte_write(p, v), And(pte_write(p, v), ksm(f))), put(pte_dirty(p, v), And(pte_dirty(p, v), ksm(f))),
        put(stale(p, v), False),
    ]


def _replaced(kernel: Decisions, q: Term, w: Term, f: Term) -> list[Any]:
    """replace_page: (q, w) maps f by a fresh PTE, mk_pte(f, vma->vm_page_prot): clean, not soft-dirty, without uffd-wp.

    Debian's 6.12.118 keeps soft-dirty. The page that was there leaves the swap cache if nobody else maps it.
    """
    g = pte_frame(q, w)
    kept = pte_soft_dirty(q, w) if kernel.ksm_keeps_soft_dirty else BoolVal(False)
    return [
        put(pte_frame(q, w), f), put(pte_write(q, w), False), put(pte_dirty(q, w), False),
        put(pte_soft_dirty(q, w), kept), put(pte_uffd_wp(q, w), False), put(stale(q, w), False),
        set_exclusive(kernel, g, False),
        leave_swap_cache(g, And(mapped_only_by(q, w, g), Not(page_swapped(g)))),
    ]


@rule([P, V], "madvise(MADV_MERGEABLE)", "mm/ksm.c: ksm_madvise; mm/madvise.c: madvise_behavior, madvise_update_vma",
      features=("ksm",), lock="write")
def madvise_mergeable(kernel: Decisions, p: Term, v: Term) -> Step:
    """The VMA gets VM_MERGEABLE, so that it is none with neighbours that lack it; fork and mremap keep it.

    A part of what a PMD maps becomes a VMA of its own, which splits the PMD. The rules of ksmd do not ask for the flag.
    """
    return Step([live(p, v), Not(vma_mergeable(p, v)), Not(mapped_huge(p, v))], put(vma_mergeable(p, v), True))


@rule([P, V, Q, W], "ksmd: try_to_merge_one_page, split_huge_page", "mm/ksm.c, read in 5.10.262 to 7.3-rc7",
      features=("ksm", "huge"), lock="read")
def ksm_split(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """ksmd splits the folio of a page for which it has found one of equal content; of others it splits none."""
    f = pte_frame(p, v)
    return Step([_equal(kernel, p, v, q, w), large(f), unreferenced(f)], split_into_pages(kernel, f))


@rule([P, V, Q, W], "ksmd: try_to_merge_one_page, split_huge_page", "mm/ksm.c, read in 5.10.262 to 7.3-rc7",
      features=("ksm", "huge"), lock="read")
def ksm_split_other(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """... then that of the other page, if the first is or can become a KSM page."""
    g = pte_frame(q, w)
    kept = Or(ksm(pte_frame(p, v)), _protectable(kernel, p, v))
    return Step([_equal(kernel, p, v, q, w), kept, large(g), unreferenced(g)], split_into_pages(kernel, g))


@rule([P, V, Q, W], "ksmd: try_to_merge_two_pages, write_protect_page, replace_page",
      "domain.md (k) of each kernel; decision `ksm_referenced`", features=("ksm",), lock="read")
def ksm_merge(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """Two pages of equal content become one KSM page, mapped read-only in both places; the first one is kept.

    That is the one that ksmd finds last: it looks for a page of equal content among those that it has seen.
    """
    return Step(
        [_merges(kernel, p, v, q, w)], [*_becomes_ksm(kernel, p, v), *_replaced(kernel, q, w, pte_frame(p, v))]
    )


@rule([P, V, Q, W], "ksmd: stable_tree_search, try_to_merge_with_ksm_page", "mm/ksm.c; decision `ksm_referenced`",
      features=("ksm",), lock="read")
def ksm_join(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """The second page is a KSM page already: it is kept, and replaces the first."""
    return Step(
        [_merges(kernel, q, w, p, v), ksm(pte_frame(q, w))], _replaced(kernel, p, v, pte_frame(q, w))
    )


@rule([P, V, Q, W], "ksmd: cmp_and_merge_page", "mm/ksm.c", features=("ksm",))
def ksm_merge_nothing(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """Both places map one page already: there is nothing to merge."""
    return Step([_one_page(kernel, p, v, q, w)])


def _half_merged(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Term:
    """The first page could be write-protected, so that it is a KSM page, and then the second could not."""
    return And(
        _equal(kernel, p, v, q, w), Not(ksm(pte_frame(p, v))), Not(ksm(pte_frame(q, w))),
        _protectable(kernel, p, v), Not(_protectable(kernel, q, w)),
    )


@rule([P, V, Q, W, NEW], "ksmd: try_to_merge_two_pages, break_cow", "mm/ksm.c, read in 5.10.262 to 7.3-rc7",
      kind="refusal", features=("ksm",), lock="read")
def ksm_merge_undone(kernel: Decisions, p: Term, v: Term, q: Term, w: Term, new: Term) -> Step:
    """The second page has references, so that the first, a KSM page by then, is un-merged: its place gets a copy."""
    return Step(
        [_half_merged(kernel, p, v, q, w), Not(_break_fails(kernel, p, v))],
        [*_broken(kernel, p, v, new), put(ksm(pte_frame(p, v)), True), put(page_dirty(pte_frame(p, v)), True),
         set_exclusive(kernel, pte_frame(p, v), False)],
    )


@rule([P, V, Q, W], "ksmd: try_to_merge_two_pages, break_cow", "mm/ksm.c, read in 5.10.262 and 6.1.192",
      kind="refusal", features=("ksm",), lock="read")
def ksm_merge_left(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """As `ksm_merge_undone`, but the copy fails (up to 6.1), so that the first place keeps the KSM page."""
    return Step([_half_merged(kernel, p, v, q, w), _break_fails(kernel, p, v)], _becomes_ksm(kernel, p, v))


@rule([P, V, Q, W], "ksmd: write_protect_page", "domain.md F13", kind="refusal", features=("ksm",))
def ksm_merge_refused(kernel: Decisions, p: Term, v: Term, q: Term, w: Term) -> Step:
    """The contents differ, there is no anonymous page, or somebody holds a reference to the first one."""
    return Step([
        Not(_merges(kernel, p, v, q, w)), Not(And(_merges(kernel, q, w, p, v), ksm(pte_frame(q, w)))),
        Not(_one_page(kernel, p, v, q, w)), Not(_half_merged(kernel, p, v, q, w)),
    ])


def _break_fails(kernel: Decisions, p: Term, v: Term) -> Term:
    """break_ksm raises a write fault (up to 6.1), which is the userfaultfd monitor's, or does not find the page of a
    PROT_NONE VMA; nobody is told."""
    missed = Not(followed(kernel, p, v))
    return And(Or(uffd_protects(p, v), missed), BoolVal(not kernel.unmerge_unshares))


def _broken(kernel: Decisions, p: Term, v: Term, new: Term) -> list[Any]:
    """break_ksm: (p, v) gets a copy of the KSM page.

    By a write fault (up to 6.1) the PTE is dirty and soft-dirty, and writable if the VMA is. By FAULT_FLAG_UNSHARE
    (6cce3314b928, 6.2) it is clean and read-only, and keeps soft-dirty and uffd-wp.
    """
    f = pte_frame(p, v)
    by_write = BoolVal(not kernel.unmerge_unshares)
    return [
        put(pte_frame(p, v), new), put(pte_write(p, v), And(vma_write(p, v), by_write)), put(pte_dirty(p, v), by_write),
        put(pte_soft_dirty(p, v), Or(pte_soft_dirty(p, v), by_write)), put(stale(p, v), False),
        fresh_page(new, frame_value(f)), set_exclusive(kernel, new), free_idle_after_copy(kernel, p, v, f),
    ]


@rule([P, V], "madvise(MADV_UNMERGEABLE)", "domain.md 2.11", features=("ksm",))
def unmerge(kernel: Decisions, p: Term, v: Term) -> Step:
    """No KSM page is (any more) to be un-merged, or userfaultfd protects it (up to 6.1) or its VMA is PROT_NONE (6.1),
    so that it stays one.

    VM_MERGEABLE goes. break_ksm waits for one that is on its way.
    """
    merged = And(names_frame(p, v), ksm(pte_frame(p, v)))
    return Step([live(p, v), Or(Not(merged), _break_fails(kernel, p, v))], put(vma_mergeable(p, v), False))


@rule([P, V], "madvise, -ENOMEM", "domain.md 2.11", kind="refusal", features=("ksm",))
def unmerge_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_UNMERGEABLE where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P, V, NEW], "break_ksm", "domain.md 2.11, F13; decision `unmerge_unshares`", features=("ksm",), lock="read")
def unmerge_copy(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """Un-merging gives the process a copy of the KSM page: by a write fault, or from 6.2 by FAULT_FLAG_UNSHARE."""
    f = pte_frame(p, v)
    return Step(
        [live(p, v), pte_present(p, v), ksm(f), Not(_break_fails(kernel, p, v))], _broken(kernel, p, v, new)
    )


@rule([P, V], "ksmd: write_protect_page", "domain.md F21, 7.2 S3", features=("share",), split=("share",), lock="read")
def ksm_protect(kernel: Decisions, p: Term, v: Term) -> Staged:
    """ksmd write-protects a page that nobody holds to compare it, and then finds no page like it.

    The PTE is taken away, the page looked at, PG_anon_exclusive cleared, the PTE given back: GUP-fast may come between.
    """
    f = pte_frame(p, v)
    plain = [live(p, v), pte_present(p, v), Not(pte_huge(p, v)), Not(nonanon(f)), Not(ksm(f)), Not(large(f))]
    return Staged(
        (
            Stage("clear", lambda view: Step(plain, put(stale(p, v), False))),
            Stage("test", lambda view: Step([], set_exclusive(kernel, f, False)),
                  recheck=lambda view: _counted(kernel, p, v), back="held"),
            Stage("restore", lambda view: Step(
                [], [put(pte_write(p, v), False), put(pte_dirty(p, v), False), put(page_dirty(f), True)]
            )),
        ),
        (ksm_cleared(p, v), ksm_tested(p, v)),
    )


RULES = (
    madvise_mergeable, ksm_split, ksm_split_other, ksm_merge, ksm_join, ksm_merge_nothing, ksm_merge_undone,
    ksm_merge_left, ksm_merge_refused,
    unmerge, unmerge_refused, unmerge_copy, ksm_protect,
)
