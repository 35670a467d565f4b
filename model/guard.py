"""Guard regions: MADV_GUARD_INSTALL and MADV_GUARD_REMOVE (6.13).

Sources: mm/madvise.c, mm/memory.c, mm/userfaultfd.c, read in 7.2.13 and 7.3-rc7; absent in 6.12.118; domain.md 2.14. A
guard is a marker, no empty PTE (`pte_none`), so that whatever asks for one maps nothing there.
"""

from __future__ import annotations

from z3 import And, BoolVal, Not, Or

from model.decisions import Decisions
from model.fault import table_for
from model.logic import Step, Term, Update, each, only_if, put, rule
from model.ptes import P, V, prepare_anon_vma
from model.state import (
    Page,
    block,
    file,
    hugetlb,
    live,
    mapped_huge,
    page_table,
    pte_guard,
    pte_none,
    pte_soft_dirty,
    pte_uffd_wp,
    registered,
    uffd_marker,
    uffd_protects,
    vma_anon,
    vma_guard,
)
from model.unmap import zap

GUARD = ("guard",)


def _allowed(kernel: Decisions, p: Term, v: Term) -> Term:
    """is_valid_guard_vma; decisions `guard_regions`, `guard_files`."""
    of_file = Not(file(v)) if kernel.guard_files == "refused" else BoolVal(True)
    return And(BoolVal(kernel.guard_regions), live(p, v), Not(hugetlb(v)), of_file)


def _keeps_marker(p: Term, v: Term) -> Term:
    """What zap_vma_range leaves of a file mapping is a marker of userfaultfd, which is no guard.

    Without ZAP_FLAG_DROP_MARKER zap_nonpresent_ptes passes over it, and zap_install_uffd_wp_if_needed makes one.
    """
    empty = pte_none(p, v)
    return And(file(v), Or(And(empty, uffd_marker(p, v)), And(Not(empty), Not(pte_guard(p, v)), uffd_protects(p, v))))


def _guarded(p: Term, v: Term) -> list[Update]:
    """guard_install_set_pte, where there is no guard yet: one that there is stays as it is."""
    return (
        put(pte_guard(p, v), True) + put(pte_uffd_wp(p, v), And(pte_guard(p, v), pte_uffd_wp(p, v)))
        + put(pte_soft_dirty(p, v), And(pte_guard(p, v), pte_soft_dirty(p, v)))
    )


def _told(kernel: Decisions, p: Term, v: Term) -> list[Update]:
    """fork shall copy the page table: an anon_vma makes it, or for a file VM_MAYBE_GUARD (ab04b530e7e8); decision
    `guard_files`."""
    if kernel.guard_files == "flag":
        return only_if(Not(file(v)), prepare_anon_vma(p, v)) + only_if(file(v), put(vma_guard(p, v), True))
    return prepare_anon_vma(p, v)


@rule([P, V], "madvise(MADV_GUARD_INSTALL): madvise_guard_install, guard_install_set_pte",
      "domain.md 2.14; decisions `guard_*`", features=GUARD, lock="read")
def guard_install(kernel: Decisions, p: Term, v: Term) -> Step:
    """What is mapped, swapped out or marked there is zapped, as by MADV_DONTNEED, and a guard takes its place."""
    return Step(
        [_allowed(kernel, p, v), Not(mapped_huge(p, v)), Not(_keeps_marker(p, v))],
        [*zap(kernel, lambda q, w: And(q == p, w == v)), _guarded(p, v), table_for(p, v), _told(kernel, p, v)],
    )


@rule([P, V], "madvise(MADV_GUARD_INSTALL): madvise_guard_install, guard_install_pmd_entry, zap_huge_pmd",
      "domain.md 2.14; decisions `guard_*`", features=(*GUARD, "huge"), lock="read")
def guard_install_block(kernel: Decisions, p: Term, v: Term) -> Step:
    """A PMD that maps all of it goes, and a page table of guards comes."""

    def here(w: Term) -> Term:
        return block(w) == block(v)

    return Step(
        [_allowed(kernel, p, v), mapped_huge(p, v)],
        [
            *zap(kernel, lambda q, w: And(q == p, here(w))), put(page_table(p, block(v)), True),
            each(Page, lambda w: _guarded(p, w) + put(vma_anon(p, w), True), when=here),
        ],
    )


@rule([P, V], "madvise(MADV_GUARD_INSTALL): madvise_guard_install, zap_nonpresent_ptes", "domain.md 2.14",
      features=(*GUARD, "file"), lock="read")
def guard_zap(kernel: Decisions, p: Term, v: Term) -> Step:
    """What userfaultfd protects of a file mapping is zapped, and leaves a marker, which will be in the way."""
    return Step(
        [_allowed(kernel, p, v), _keeps_marker(p, v), Not(pte_none(p, v))],
        [*zap(kernel, lambda q, w: And(q == p, w == v)), _told(kernel, p, v)],
    )


@rule([P, V], "madvise(MADV_GUARD_INSTALL): restart_syscall", "domain.md 2.14", kind="block", features=(*GUARD, "file"))
def guard_install_again(kernel: Decisions, p: Term, v: Term) -> Step:
    """A marker of userfaultfd in a file mapping is neither empty nor zapped: the call begins again until it is gone."""
    return Step([_allowed(kernel, p, v), _keeps_marker(p, v), pte_none(p, v)])


@rule([P, V], "madvise, -ENOMEM, -EINVAL: is_valid_guard_vma", "domain.md 2.14; decisions `guard_*`",
      kind="refusal", features=GUARD)
def guard_install_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """There is no VMA, or one of hugetlb pages, or up to 6.14 of a file; all is refused before 6.13."""
    return Step([Not(_allowed(kernel, p, v))])


@rule([P, V], "madvise(MADV_GUARD_REMOVE): guard_remove_pte_entry", "domain.md 2.14; decisions `guard_*`",
      features=GUARD, lock="read")
def guard_remove(kernel: Decisions, p: Term, v: Term) -> Step:
    """A guard goes, and nothing is there; all else stays as it is. A PMD, which has no guards, is passed over."""
    return Step(
        [_allowed(kernel, p, v)],
        [only_if(pte_guard(p, v), put(pte_guard(p, v), False) + put(uffd_marker(p, v), False))],
    )


@rule([P, V], "madvise, -ENOMEM, -EINVAL: is_valid_guard_vma", "domain.md 2.14; decisions `guard_*`",
      kind="refusal", features=GUARD)
def guard_remove_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """There is no VMA, or one that can have no guards."""
    return Step([Not(_allowed(kernel, p, v))])


@rule([P, V], "UFFDIO_ZEROPAGE, -EEXIST: mfill_atomic_pte_zeropage", "domain.md 2.14", kind="refusal",
      features=(*GUARD, "uffd", "zero"))
def uffd_zeropage_refused_guard(kernel: Decisions, p: Term, v: Term) -> Step:
    """A guard is no empty PTE for UFFDIO_ZEROPAGE, be it one for UFFDIO_COPY."""
    return Step([live(p, v), registered(p, v), pte_guard(p, v)])


RULES = (
    guard_install, guard_install_block, guard_zap, guard_install_again, guard_install_refused, guard_remove,
    guard_remove_refused, uffd_zeropage_refused_guard,
)
