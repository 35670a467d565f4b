"""Operations that take the write bit away or give it back: mprotect, soft-dirty clear, userfaultfd write-protect.

What each does to a pinned page is a decision of the kernel: `clear` (no test), `skip` (leave that PTE as it is) or
`refuse` (the call fails). Sources: change_pte_range (mm/mprotect.c), clear_soft_dirty (fs/proc/task_mmu.c).
"""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, If, Not, Or

from model.fault import P, V
from model.logic import Step, Term, each, exists, put, rule
from model.state import (
    Page,
    alive,
    live,
    pinned_in,
    pte_frame,
    pte_none,
    pte_present,
    pte_soft_dirty,
    pte_swap,
    pte_uffd_wp,
    pte_write,
    uffd_armed,
    vma_soft_dirty,
    vma_uffd,
    vma_write,
)


def write_pinned(p: Term, v: Term) -> Term:
    """The PTE is writable and its page maybe pinned: the test of 9348b73c2e1b, pte_is_pinned in task_mmu.c."""
    return And(pte_write(p, v), pinned_in(p, v))


def _skipped(decision: str, p: Term, v: Term) -> Term:
    return write_pinned(p, v) if decision == "skip" else BoolVal(False)


def _permitted(decision: str, p: Term, v: Term) -> list[Term]:
    return [Not(write_pinned(p, v))] if decision == "refuse" else []


@rule([P, V], "mprotect(PROT_READ), change_pte_range", "domain.md (g) of each kernel; decision `mprotect_pinned`")
def mprotect_ro(kernel: Any, p: Term, v: Term) -> Step:
    """VM_WRITE goes and the PTE loses its write bit."""
    decision = kernel.mprotect_pinned
    return Step(
        [live(p, v), *_permitted(decision, p, v)],
        [put(vma_write(p, v), False), put(pte_write(p, v), And(pte_write(p, v), _skipped(decision, p, v)))],
    )


@rule([P, V], "mprotect(PROT_READ) refused", "domain.md 2.8", kind="refusal")
def mprotect_ro_refused(kernel: Any, p: Term, v: Term) -> Step:
    """No VMA, or (decision `refuse`) a pinned writable page."""
    refused = write_pinned(p, v) if kernel.mprotect_pinned == "refuse" else BoolVal(False)
    return Step([Or(Not(live(p, v)), refused)])


@rule([P, V], "mprotect(PROT_READ | PROT_WRITE), can_change_pte_writable",
      "domain.md (g) of each kernel; decision `mprotect_restores`")
def mprotect_rw(kernel: Any, p: Term, v: Term) -> Step:
    """VM_WRITE comes back; the PTE gets its write bit only where `mprotect_restores` says so (64fe24a3e05e, 6.0)."""
    restored = And(pte_present(p, v), kernel.mprotect_restores(p, v, pte_frame(p, v)))
    return Step(
        [live(p, v)],
        [put(vma_write(p, v), True), put(pte_write(p, v), Or(pte_write(p, v), restored))],
    )


@rule([P, V], "mprotect, -ENOMEM", "domain.md (g)", kind="refusal")
def mprotect_rw_refused(kernel: Any, p: Term, v: Term) -> Step:
    """mprotect where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P], "clear_refs_write(CLEAR_REFS_SOFT_DIRTY), clear_soft_dirty",
      "domain.md (h) of each kernel; decision `soft_dirty_pinned`")
def clear_soft_dirty(kernel: Any, p: Term) -> Step:
    """Every PTE is write-protected and its soft-dirty bit cleared, but for pinned ones where the kernel skips them."""
    decision = kernel.soft_dirty_pinned
    permitted = [Not(exists(Page, lambda v: write_pinned(p, v)))] if decision == "refuse" else []
    return Step(
        [alive(p), *permitted],
        [
            put(vma_soft_dirty(p), False),
            each(Page, lambda v: put(pte_write(p, v), False) + put(pte_soft_dirty(p, v), False),
                 when=lambda v: Not(_skipped(decision, p, v))),
        ],
    )


@rule([P], "clear_refs_write refused", "domain.md 2.8", kind="refusal")
def clear_soft_dirty_refused(kernel: Any, p: Term) -> Step | None:
    """Decision `refuse`: some writable page is pinned."""
    if kernel.soft_dirty_pinned != "refuse":
        return None
    return Step([exists(Page, lambda v: write_pinned(p, v))])


@rule([P, V], "UFFDIO_WRITEPROTECT(MODE_WP), change_pte_range",
      "domain.md (i) of each kernel; decision `uffd_wp_pinned`")
def uffd_wp(kernel: Any, p: Term, v: Term) -> Step:
    """The PTE loses its write bit and gets uffd-wp; an empty PTE is left alone."""
    decision = kernel.uffd_wp_pinned
    kept = _skipped(decision, p, v)
    return Step(
        [live(p, v), vma_uffd(p, v), *_permitted(decision, p, v)],
        [
            put(pte_write(p, v), And(pte_write(p, v), kept)),
            put(pte_uffd_wp(p, v), If(kept, pte_uffd_wp(p, v), Not(pte_none(p, v)))),
            put(uffd_armed(p, v), Or(pte_present(p, v), pte_swap(p, v))),
        ],
    )


@rule([P, V], "UFFDIO_WRITEPROTECT refused", "domain.md 2.8", kind="refusal")
def uffd_wp_refused(kernel: Any, p: Term, v: Term) -> Step:
    """No registered VMA, or (decision `refuse`) a pinned writable page."""
    refused = write_pinned(p, v) if kernel.uffd_wp_pinned == "refuse" else BoolVal(False)
    return Step([Or(Not(And(live(p, v), vma_uffd(p, v))), refused)])


@rule([P, V], "UFFDIO_WRITEPROTECT(0), change_pte_range", "domain.md (i) of each kernel; decision `uffd_restores`")
def uffd_unwp(kernel: Any, p: Term, v: Term) -> Step:
    """uffd-wp is cleared; the write bit comes back only where `uffd_restores` says so."""
    restored = And(pte_present(p, v), vma_write(p, v), kernel.uffd_restores(p, v, pte_frame(p, v)))
    return Step(
        [live(p, v), vma_uffd(p, v)],
        [
            put(pte_uffd_wp(p, v), False), put(uffd_armed(p, v), False),
            put(pte_write(p, v), Or(pte_write(p, v), restored)),
        ],
    )


@rule([P, V], "UFFDIO_WRITEPROTECT, -ENOENT", "domain.md (i)", kind="refusal")
def uffd_unwp_refused(kernel: Any, p: Term, v: Term) -> Step:
    """No registered VMA."""
    return Step([Not(And(live(p, v), vma_uffd(p, v)))])


RULES = (
    mprotect_ro, mprotect_ro_refused, mprotect_rw, mprotect_rw_refused, clear_soft_dirty, clear_soft_dirty_refused,
    uffd_wp, uffd_wp_refused, uffd_unwp, uffd_unwp_refused,
)
