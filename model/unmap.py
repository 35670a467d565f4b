"""Excusing events: munmap, MADV_DONTNEED, exit (zap_pte_range and above). They detach the references taken there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from z3 import And, Implies, Not, Or

from model.fault import P, V
from model.logic import Step, Term, Update, each, exists, forall, put, rule
from model.state import (
    Page,
    Pin,
    Proc,
    Slot,
    alive,
    cached,
    live,
    maps,
    pin_attached,
    pin_live,
    pin_page,
    pin_proc,
    pte_present,
    pte_swap,
    slot_frame,
    swaps,
    vma,
)


def _zap(kernel: Any, zapped: Callable[[Term, Term], Term]) -> list[list[Update]]:
    """Empty the PTEs for which `zapped` holds, detach their references, free what only the swap cache still holds.

    The last is free_swap_cache / free_swap_and_cache: a page that no PTE maps and no swap entry names any more.
    """

    def last_user(s: Term) -> Term:
        def used(q: Term, w: Term) -> Term:
            return Or(maps(q, w, slot_frame(s)), swaps(q, w, s))

        return And(
            cached(s),
            exists(Proc, Page, lambda q, w: And(zapped(q, w), used(q, w))),
            forall(Proc, Page, lambda q, w: Implies(used(q, w), zapped(q, w))),
        )

    return [
        each(Proc, Page, lambda q, w: put(pte_present(q, w), False) + put(pte_swap(q, w), False), when=zapped),
        each(Pin, lambda k: put(pin_attached(k), False),
             when=lambda k: And(pin_live(k), zapped(pin_proc(k), pin_page(k)))),
        each(Slot, lambda s: put(cached(s), False), when=last_user),
    ]


@rule([P, V], "munmap, zap_pte_range", "domain.md I1")
def munmap(kernel: Any, p: Term, v: Term) -> Step:
    """The VMA and the PTE go; a page that is referenced lives on, invisible to the process."""
    return Step([live(p, v)], [put(vma(p, v), False), *_zap(kernel, lambda q, w: And(q == p, w == v))])


@rule([P, V], "madvise(MADV_DONTNEED), zap_page_range", "domain.md I1")
def dontneed(kernel: Any, p: Term, v: Term) -> Step:
    """The PTE goes, the VMA stays: the next touch gets a new page."""
    return Step([live(p, v)], _zap(kernel, lambda q, w: And(q == p, w == v)))


@rule([P, V], "madvise, -ENOMEM", "domain.md I1", kind="refusal")
def dontneed_refused(kernel: Any, p: Term, v: Term) -> Step:
    """MADV_DONTNEED where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P, V], "munmap of nothing", "domain.md I1", name="munmap-nothing")
def munmap_nothing(kernel: Any, p: Term, v: Term) -> Step:
    """munmap where there is no VMA succeeds and does nothing."""
    return Step([alive(p), Not(vma(p, v))])


@rule([P], "exit_mmap", "domain.md I1")
def exit(kernel: Any, p: Term) -> Step:
    """The process and its page tables go; its references stay until they are dropped."""
    return Step(
        [alive(p)],
        [put(alive(p), False), each(Page, lambda v: put(vma(p, v), False)),
         *_zap(kernel, lambda q, w: q == p)],
    )


RULES = (munmap, munmap_nothing, dontneed, dontneed_refused, exit)
