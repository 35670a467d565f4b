"""userfaultfd write-protection without a monitor: UFFD_FEATURE_WP_UNPOPULATED, UFFD_FEATURE_WP_ASYNC, PAGEMAP_SCAN.

Sources: mm/memory.c, fs/proc/task_mmu.c, mm/userfaultfd.c (fs/userfaultfd.c), read in 6.12.118, 7.2.13 and 7.3-rc7;
domain.md 2.14. Which features the userfaultfd has that a page is registered with is said of the page, once.
"""

from __future__ import annotations

from z3 import And, BoolVal, Not, Or

from model.decisions import Decisions
from model.huge import split_updates
from model.logic import Step, Term, Update, each, forall, put, rule
from model.protect import ranged, table_of_markers
from model.ptes import P, V
from model.state import (
    Page,
    Proc,
    Span,
    alive,
    block,
    file,
    hugetlb,
    live,
    may_mark,
    page_table,
    pte_huge,
    pte_migration,
    pte_none,
    pte_present,
    pte_swap,
    pte_uffd_wp,
    pte_write,
    stale,
    uffd_armed,
    uffd_async,
    uffd_marker,
    uffd_protects,
    uffd_unpopulated,
    vma_missing,
    vma_uffd,
    vma_write,
)

UNPOPULATED = ("uffd-unpopulated",)
ASYNC = ("uffd-async",)


# Which userfaultfd

def _untouched(v: Term) -> list[Term]:
    """Nobody has touched v."""
    return [Not(hugetlb(v)), forall(Proc, lambda q: pte_none(q, v))]


def _asked(v: Term, given: bool) -> list[list[Update]]:
    """The userfaultfd of v leaves markers; where it is not `given`, nobody is registered there.

    What is empty elsewhere could be a marker from now on, and is none.
    """
    registered = [] if given else each(Proc, lambda q: put(vma_uffd(q, v), False) + put(vma_missing(q, v), False))
    unmarked = each(
        Proc, Page, lambda q, w: put(uffd_marker(q, w), False), when=lambda q, w: And(Not(file(w)), Not(may_mark(w)))
    )
    return [put(uffd_unpopulated(v), True), unmarked, registered]


@rule([V], "UFFDIO_API(UFFD_FEATURE_WP_UNPOPULATED)", "domain.md 2.14; decision `uffd_unpopulated`",
      features=UNPOPULATED)
def uffd_api_unpopulated(kernel: Decisions, v: Term) -> Step:
    """The program wants v registered with a userfaultfd that leaves markers. Before 6.4 there is none (-EINVAL)."""
    return Step([Not(uffd_unpopulated(v)), *_untouched(v)], _asked(v, kernel.uffd_unpopulated))


@rule([V], "UFFDIO_API(UFFD_FEATURE_WP_ASYNC)", "domain.md 2.14; decision `uffd_async`",
      features=(*UNPOPULATED, *ASYNC))
def uffd_api_async(kernel: Decisions, v: Term) -> Step:
    """The program wants v registered with a userfaultfd whose write faults resolve themselves, and which leaves markers
    too. Before 6.7 there is none."""
    return Step(
        [Not(uffd_unpopulated(v)), *_untouched(v)], [put(uffd_async(v), True), *_asked(v, kernel.uffd_async)]
    )


# Write faults

def async_protects(p: Term, v: Term) -> Term:
    """userfaultfd_wp_async: a write fault on what userfaultfd protects is not the monitor's."""
    return And(uffd_protects(p, v), uffd_async(v))


def tracked_no_more(p: Term, v: Term) -> list[Update]:
    """do_wp_page clears uffd-wp and goes on with what is a write fault like others."""
    return put(pte_uffd_wp(p, v), False) + put(uffd_armed(p, v), False)


def _written(p: Term, v: Term) -> list[Term]:
    return [live(p, v), vma_write(p, v), pte_present(p, v), Not(pte_write(p, v)), async_protects(p, v)]


@rule([P, V], "do_wp_page: userfaultfd_wp_async", "domain.md 2.14; decision `uffd_async`", features=ASYNC, lock="fault")
def uffd_async_clear(kernel: Decisions, p: Term, v: Term) -> Step:
    """With WP_ASYNC a write fault on a uffd-wp PTE clears uffd-wp and goes on, as if there were no userfaultfd."""
    return Step([*_written(p, v), Not(pte_huge(p, v))], tracked_no_more(p, v))


@rule([P, V], "wp_huge_pmd: userfaultfd_wp_async, __split_huge_pmd", "domain.md 2.14; decision `uffd_async`",
      features=("huge", *ASYNC), lock="fault")
def uffd_async_split(kernel: Decisions, p: Term, v: Term) -> Step:
    """... and one on a uffd-wp PMD splits it, so that what is not written stays protected."""
    return Step([*_written(p, v), pte_huge(p, v)], split_updates(kernel, p, v))


# PAGEMAP_SCAN

def _tracked(p: Term, v: Term) -> Term:
    """pagemap_scan_test_walk: userfaultfd_wp_async, userfaultfd_wp_use_markers."""
    return And(vma_uffd(p, v), uffd_async(v))


def _may_scan(kernel: Decisions, p: Term, span: Span) -> Term:
    """There is PAGEMAP_SCAN, and every VMA in the range is tracked; holes are passed over."""
    return And(BoolVal(kernel.uffd_async), span.every(lambda v: Or(Not(live(p, v)), _tracked(p, v))))


@ranged("ioctl(PAGEMAP_SCAN): pagemap_scan_pmd_entry, make_uffd_wp_pte, pagemap_scan_pte_hole",
        "domain.md 2.14; decision `uffd_async`", lock="read", features=ASYNC)
def pagemap_scan(kernel: Decisions, p: Term, span: Span) -> Step:
    """What was written (has no uffd-wp, or is empty and no marker) is told, and protected again with the PTE locked,
    whoever has pinned it: PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC of PAGE_IS_WRITTEN.

    TLBs are flushed for what was written before the lock is dropped. A PTE's writable migration entry stays so, and its
    page comes back writable, without uffd-wp: it reads as written again (make_uffd_wp_pte, remove_migration_pte).
    """

    def protected(v: Term) -> list[Update]:
        entry = And(pte_migration(p, v), pte_write(p, v))
        was = And(Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v)), pte_uffd_wp(p, v))
        is_now = And(Not(pte_none(p, v)), Not(entry))
        return (
            put(pte_write(p, v), entry) + put(pte_uffd_wp(p, v), is_now) + put(uffd_armed(p, v), is_now)
            + put(uffd_marker(p, v), True) + put(stale(p, v), And(stale(p, v), was))
        )

    return Step([alive(p), _may_scan(kernel, p, span), span.in_ptes(p)], [
        span.each(protected, when=lambda v: live(p, v)),
        span.each(
            lambda v: put(page_table(p, block(v)), True), when=lambda v: And(live(p, v), table_of_markers(p, v))
        ),
    ])


@rule([P, V], "ioctl(PAGEMAP_SCAN): pagemap_scan_thp_entry", "domain.md 2.14; decision `uffd_async`",
      features=("huge", *ASYNC), lock="read")
def pagemap_scan_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """A part of what a PMD maps that is protected has not been written: the PMD stays whole."""
    return Step([
        BoolVal(kernel.uffd_async), live(p, v), _tracked(p, v), pte_present(p, v), pte_huge(p, v), pte_uffd_wp(p, v)
    ])


@ranged("ioctl(PAGEMAP_SCAN), -EPERM, -ENOTTY", "domain.md 2.14; decision `uffd_async`", kind="refusal", features=ASYNC)
def pagemap_scan_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """There is a VMA that is not registered for write-protection with WP_ASYNC; all is refused before 6.7.

    Those before it have been protected by then, page by page (pagemap_scan_test_walk fails when it comes to one).
    """
    if span.whole and kernel.uffd_async:
        untracked = span.every(lambda v: Not(And(live(p, v), _tracked(p, v))))
        return Step([Not(_may_scan(kernel, p, span)), untracked])
    return Step([Not(_may_scan(kernel, p, span))])


RULES = (
    uffd_api_unpopulated, uffd_api_async, uffd_async_clear, uffd_async_split,
    *pagemap_scan, pagemap_scan_nothing, *pagemap_scan_refused,
)
