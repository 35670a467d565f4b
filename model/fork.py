"""fork: dup_mmap, copy_page_range, copy_one_pte / copy_present_pte (mm/memory.c).

One step, because mmap_lock is held for write throughout and the parent's TLB is flushed before it is dropped
(domain.md 7.3). The child never inherits references.
"""

from __future__ import annotations

from typing import Any

import z3
from z3 import And, If, Implies, Not, Or

from model.fault import P
from model.logic import Param, Step, Term, each, exists, forall, put, rule
from model.state import (
    Frame,
    Page,
    Proc,
    alive,
    exclusive,
    frame_free,
    frame_value,
    has_pinned,
    maps,
    pte_dirty,
    pte_frame,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    uffd_armed,
    vma,
    vma_soft_dirty,
    vma_uffd,
    vma_write,
)

CHILD = Param("child", Proc, fresh=True)


def copied_early(kernel: Any, p: Term, v: Term) -> Term:
    """The child gets its own copy of the page at (p, v)."""
    return And(pte_present(p, v), kernel.fork_copies(p, v, pte_frame(p, v)))


_of = z3.Const("v", Page)
COPY = Param(
    "copy", Frame, fresh=True, over=Page, of=_of,
    needed=lambda kernel, named, v: copied_early(kernel, named["p"], v),
)


@rule([P, CHILD, COPY], "dup_mmap, copy_page_range, copy_present_page", "domain.md (f) of each kernel; `fork_copies`")
def fork(kernel: Any, p: Term, q: Term, copy: Any) -> Step:
    """Every page is shared, read-only in both, except those that `fork_copies` names: the child gets its own copy."""

    def early(v: Term) -> Term:
        return copied_early(kernel, p, v)

    def shared(v: Term) -> Term:
        return And(pte_present(p, v), Not(kernel.fork_copies(p, v, pte_frame(p, v))))

    def was_shared(f: Term) -> Term:
        # Said of f, not of the PTE, so that "somebody pins f" stays outside the quantifier over pages.
        return exists(Page, lambda v: And(maps(p, v, f), Not(kernel.fork_copies(p, v, f))))

    child = each(
        Page,
        lambda v: put(vma(q, v), vma(p, v)) + put(vma_write(q, v), vma_write(p, v))
        # Without the fork event the child is not registered with userfaultfd.
        + put(vma_uffd(q, v), False) + put(pte_uffd_wp(q, v), False) + put(uffd_armed(q, v), False)
        + put(pte_present(q, v), pte_present(p, v))
        + put(pte_frame(q, v), If(early(v), copy(v), pte_frame(p, v)))
        + put(pte_write(q, v), And(early(v), vma_write(p, v)))
        + put(pte_dirty(q, v), Or(early(v), pte_dirty(p, v)))
        + put(pte_soft_dirty(q, v), Or(early(v), pte_soft_dirty(p, v)))
        + put(pte_swap(q, v), pte_swap(p, v)) + put(pte_slot(q, v), pte_slot(p, v)),
    )
    updates: list[Any] = [
        put(alive(q), True), put(has_pinned(q), False), put(vma_soft_dirty(q), vma_soft_dirty(p)), child,
        each(Page, lambda v: put(pte_write(p, v), False), when=shared),
        each(Page, lambda v: put(frame_value(copy(v)), frame_value(pte_frame(p, v))), when=early),
    ]
    if kernel.exclusive_bit:
        updates += [
            each(Page, lambda v: put(pte_swap_exclusive(p, v), False) + put(pte_swap_exclusive(q, v), False)),
            each(Page, lambda v: put(exclusive(copy(v)), True), when=early),
            each(Frame, lambda f: put(exclusive(f), False), when=was_shared),
        ]
    distinct = forall(Page, Page, lambda v, w: Implies(And(early(v), early(w), copy(v) == copy(w)), v == w))
    room = forall(Page, lambda v: Implies(early(v), frame_free(copy(v))))
    return Step([alive(p), room, distinct], updates)


RULES = (fork,)
