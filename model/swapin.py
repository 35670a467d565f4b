"""Swap-in from synchronous devices (zram, brd: SWP_SYNCHRONOUS_IO), which may go past the swap cache: do_swap_page.

A slot that one swap entry names is read into a page of the process's own; it is free as soon as that is mapped, and the
next page that is swapped out may get it; decision `swap_in_sync`. Read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and
7.3-rc7. A forced write in a read-only VMA maps the page as a read does, and faults again. Left out: large folios read
as a whole (6.12).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from z3 import And, BoolVal, Not

from model.decisions import Decisions
from model.fault import past_swap_cache, swapped_in, upgraded
from model.logic import Param, Stage, Staged, Step, Term, put, rule
from model.ptes import NEW, P, V, fresh_page, not_claimed, set_exclusive
from model.state import (
    Slot,
    cached,
    live,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    slot_value,
    soft_dirty_needs_fault,
    sync_again,
    sync_exclusive,
    sync_io,
    sync_page,
    sync_reading,
    sync_slot,
    sync_soft_dirty,
    sync_uffd_wp,
    uffd_protects,
    vma_write,
)

SYNC = frozenset({"sync-swap"})
READ = "mm/memory.c, 4.15 to 6.18; decision `swap_in_sync`"


@rule([Param("s", Slot, fresh=True)], "swapon: SWP_SYNCHRONOUS_IO", "mm/swapfile.c", features=SYNC)
def swap_sync(kernel: Decisions, s: Term) -> Step:
    """The slot is on a device that reads and writes at once, as zram and brd do."""
    return Step([Not(sync_io(s))], [put(sync_io(s), True)])


def _skips(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """A fault at (p, v) reads the slot past the swap cache: swap_count == 1, and no page is there."""
    s = pte_slot(p, v)
    return [live(p, v), pte_swap(p, v), Not(cached(s)), past_swap_cache(kernel, p, v, s), *not_claimed(kernel, s)]


def _mapped(kernel: Decisions, p: Term, v: Term, f: Term, writes: bool) -> list[Any]:
    """The page is certainly the process's own, from 5.19 on exclusive, whatever its swap entry says."""
    untracked = And(Not(uffd_protects(p, v)), Not(soft_dirty_needs_fault(p, v)))
    if not writes:
        return [swapped_in(p, v, f, upgraded(kernel, p, v), BoolVal(False)), set_exclusive(kernel, f)]
    writable = untracked if kernel.swap_in_upgrades else Not(pte_uffd_wp(p, v))
    dirty = writable if kernel.swap_in_upgrades else BoolVal(True)
    return [swapped_in(p, v, f, writable, dirty), set_exclusive(kernel, f)]


@rule([P, V, NEW], "do_swap_page (read fault): skip swapcache", READ, features=SYNC, lock="fault")
def swap_in_sync_read(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A read fault reads the slot into a fresh page and maps it; the slot is free then."""
    value = slot_value(pte_slot(p, v))
    return Step(_skips(kernel, p, v), [fresh_page(new, value), *_mapped(kernel, p, v, new, False)])


@rule([P, V, NEW], "do_swap_page (write fault): skip swapcache", READ, features=SYNC, lock="fault")
def swap_in_sync_write(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A write fault does so, too, and maps it writable."""
    value = slot_value(pte_slot(p, v))
    return Step(
        [*_skips(kernel, p, v), vma_write(p, v)], [fresh_page(new, value), *_mapped(kernel, p, v, new, True)]
    )


@rule([P, V, NEW], "do_swap_page (read fault): skip swapcache, pte_same", READ, features=SYNC | {"sync-read"},
      lock="fault", split=("sync-read",))
def swap_in_sync_slow(kernel: Decisions, p: Term, v: Term, new: Term) -> Staged:
    """A read fault that is slow: between the reading and pte_same another thread may have mapped the page, written it,
    and reclaim swapped it out to the same slot. From 6.8 swapcache_prepare keeps all others from the slot meanwhile."""
    s = pte_slot(p, v)

    def unchanged(view: Any) -> Term:
        return And(
            pte_swap(p, v), pte_slot(p, v) == sync_slot(p, v), pte_swap_exclusive(p, v) == sync_exclusive(p, v),
            pte_soft_dirty(p, v) == sync_soft_dirty(p, v), pte_uffd_wp(p, v) == sync_uffd_wp(p, v),
        )

    return Staged(
        (
            Stage("read", lambda view: Step(_skips(kernel, p, v), [fresh_page(new, slot_value(s))])),
            Stage("map", lambda view: Step([], _mapped(kernel, p, v, view.page, False)), recheck=unchanged),
        ),
        (sync_reading(p, v),), SimpleNamespace(page=new), SimpleNamespace(page=sync_page(p, v)),
        save=[
            *put(sync_slot(p, v), s), *put(sync_page(p, v), new), *put(sync_again(p, v), False),
            *put(sync_exclusive(p, v), pte_swap_exclusive(p, v)), *put(sync_soft_dirty(p, v), pte_soft_dirty(p, v)),
            *put(sync_uffd_wp(p, v), pte_uffd_wp(p, v)),
        ],
    )


RULES = (swap_sync, swap_in_sync_read, swap_in_sync_write, swap_in_sync_slow)
