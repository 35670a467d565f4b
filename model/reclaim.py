"""What the kernel does by itself: reclaim to swap, swap-cache removal, transient references (mm/vmscan.c).

Adding to the swap cache and unmapping are one step here (page lock); the window between them is a sub-step race.
"""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, If, Not, Or

from model.logic import Param, Step, Term, Update, each, put, rule
from model.state import (
    Frame,
    Page,
    Proc,
    Slot,
    cached,
    exclusive,
    extra,
    frame_free,
    frame_value,
    in_swap_cache,
    mapped,
    maps,
    maybe_pinned,
    page_swapped,
    pte_present,
    pte_slot,
    pte_swap,
    pte_swap_exclusive,
    slot_frame,
    slot_value,
    unreferenced,
)

F = Param("f", Frame)
S = Param("s", Slot)


def _kept_when_cached(kernel: Any, f: Term) -> Term:
    """try_to_unmap refuses: from 5.19 an exclusive page that is maybe pinned (page_try_share_anon_rmap)."""
    if kernel.unmap_pinned == "allow":
        return BoolVal(False)
    return And(exclusive(f), maybe_pinned(f)) if kernel.exclusive_bit else maybe_pinned(f)


def _kept(kernel: Any, f: Term) -> Term:
    """Reclaim refuses a page that is not in the swap cache yet: from 5.11 one that is maybe pinned (feb889fb40fa)."""
    refused = maybe_pinned(f) if kernel.swap_out_pinned == "refuse" else BoolVal(False)
    return Or(refused, _kept_when_cached(kernel, f))


def _unmapped(kernel: Any, f: Term, s: Term) -> list[list[Update]]:
    """try_to_unmap: every PTE that maps f becomes a swap entry for s; soft-dirty and uffd-wp move along."""
    updates = [
        each(Proc, Page, lambda q, w: put(pte_present(q, w), False) + put(pte_swap(q, w), True)
             + put(pte_slot(q, w), s), when=lambda q, w: maps(q, w, f)),
    ]
    if kernel.exclusive_bit:
        updates += [
            each(Proc, Page, lambda q, w: put(pte_swap_exclusive(q, w), exclusive(f)),
                 when=lambda q, w: maps(q, w, f)),
            put(exclusive(f), False),
        ]
    return updates


@rule([F, Param("s", Slot, fresh=True)], "shrink_page_list: add_to_swap, try_to_unmap",
      "domain.md (j) of each kernel; decision `swap_out_pinned`")
def swap_out(kernel: Any, f: Term, s: Term) -> Step:
    """Reclaim puts a mapped page into the swap cache and replaces its mappings by swap entries."""
    return Step(
        [mapped(f), Not(in_swap_cache(f)), Not(_kept(kernel, f))],
        [put(cached(s), True), put(slot_frame(s), f), *_unmapped(kernel, f, s)],
    )


@rule([F, S], "shrink_page_list: try_to_unmap", "domain.md (j) of each kernel; decision `unmap_pinned`")
def swap_out_cached(kernel: Any, f: Term, s: Term) -> Step:
    """Reclaim unmaps a page that is in the swap cache already."""
    return Step(
        [mapped(f), cached(s), slot_frame(s) == f, Not(_kept_when_cached(kernel, f))], _unmapped(kernel, f, s)
    )


@rule([F], "shrink_page_list: keep_locked", "domain.md (j) of each kernel", kind="refusal")
def swap_out_refused(kernel: Any, f: Term) -> Step:
    """Reclaim keeps the page."""
    return Step([mapped(f), If(in_swap_cache(f), _kept_when_cached(kernel, f), _kept(kernel, f))])


@rule([S], "__remove_mapping, writeback", "domain.md 2.1 (j)")
def reclaim_swap_cache(kernel: Any, s: Term) -> Step:
    """A page that only the swap cache refers to is written out and freed."""
    f = slot_frame(s)
    return Step(
        [cached(s), Not(mapped(f)), unreferenced(f)],
        [put(cached(s), False), put(slot_value(s), frame_value(f))],
    )


@rule([S], "try_to_free_swap", "domain.md I9")
def free_swap_slot(kernel: Any, s: Term) -> Step:
    """A page whose slot no swap entry names leaves the swap cache."""
    return Step([cached(s), Not(page_swapped(slot_frame(s)))], [put(cached(s), False)])


@rule([F], "lru_cache_add, isolate_lru_page, speculative get_page", "domain.md 1.1")
def extra_ref(kernel: Any, f: Term) -> Step:
    """A transient reference appears."""
    return Step([Not(frame_free(f)), Not(extra(f))], [put(extra(f), True)])


@rule([F], "lru_add_drain, put_page", "domain.md 1.1")
def drop_extra(kernel: Any, f: Term) -> Step:
    """A transient reference goes."""
    return Step([extra(f)], [put(extra(f), False)])


RULES = (swap_out, swap_out_cached, swap_out_refused, reclaim_swap_cache, free_swap_slot, extra_ref, drop_extra)
