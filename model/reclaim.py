"""What the kernel does by itself: reclaim to swap, swap-cache removal, transient references (mm/vmscan.c).

Adding to the swap cache and unmapping are one step here (page lock); the window between them is a sub-step race.
"""

from __future__ import annotations

from z3 import And, BoolVal, If, Implies, Not, Or

from model.decisions import Decisions
from model.logic import Param, Stage, Staged, Step, Term, Update, each, exists, forall, put, rule
from model.ptes import P, V, given_out, leave_swap_cache, left_marker, not_claimed
from model.state import (
    FIRST,
    Frame,
    Page,
    Proc,
    Slot,
    backed,
    cached,
    caches,
    exclusive,
    extra,
    file,
    file_value,
    frame_free,
    frame_value,
    in_page_cache,
    in_swap_cache,
    in_writeback,
    ksm,
    large,
    lazyfree,
    live,
    mapped,
    mapped_only_by,
    maps,
    maybe_pinned,
    migrating,
    misplaced,
    nonanon,
    page_dirty,
    page_swapped,
    pte_dirty,
    pte_frame,
    pte_present,
    pte_slot,
    pte_swap,
    pte_swap_exclusive,
    pte_write,
    pte_young,
    slot_frame,
    slot_value,
    stable_writes,
    stale,
    stale_frame,
    unmap_flushing,
    unreferenced,
    writeback,
)

F = Param("f", Frame)
S = Param("s", Slot)


def _kept_when_cached(kernel: Decisions, f: Term) -> Term:
    """try_to_unmap refuses: from 5.19 an exclusive page that is maybe pinned (page_try_share_anon_rmap).

    Of a page whose index leads elsewhere it does not find the PTE.
    """
    if kernel.unmap_pinned == "allow":
        return misplaced(f)
    return Or(misplaced(f), And(exclusive(f), maybe_pinned(f)) if kernel.exclusive_bit else maybe_pinned(f))


def _kept(kernel: Decisions, f: Term) -> Term:
    """Reclaim refuses a page that is not in the swap cache yet: from 5.11 one that is maybe pinned (feb889fb40fa)."""
    refused = maybe_pinned(f) if kernel.swap_out_pinned == "refuse" else BoolVal(False)
    return Or(refused, _kept_when_cached(kernel, f))


def _clean(f: Term) -> Term:
    """No PTE that maps f is dirty."""
    return forall(Proc, Page, lambda q, w: Implies(maps(q, w, f), Not(pte_dirty(q, w))))


def _swappable(f: Term) -> list[Term]:
    """Reclaim would add f to the swap cache, were it not pinned: anonymous, of order 0, not given up."""
    return [Not(large(f)), Not(nonanon(f)), Not(lazyfree(f))]


def _old(f: Term) -> Term:
    """Reclaim takes what it finds unused: page_check_references sees no accessed bit (and clears those that it sees).

    In 6.12.118 and later MADV_PAGEOUT does not look, as if the bits had been clear all along.
    """
    return forall(Proc, Page, lambda q, w: Implies(maps(q, w, f), Not(pte_young(q, w))))


def _discardable(kernel: Decisions, f: Term) -> Term:
    """try_to_unmap would throw f away: MADV_FREE, not dirty, and from 5.18 without references (6c8e2a256915)."""
    counted = unreferenced(f) if kernel.discard_counts else BoolVal(True)
    return And(lazyfree(f), Not(page_dirty(f)), counted, Not(misplaced(f)))


def _discarded(kernel: Decisions, f: Term) -> Term:
    """... and no PTE says that it was written since."""
    return And(_discardable(kernel, f), _clean(f))


def _unmapped(kernel: Decisions, f: Term, s: Term) -> list[list[Update]]:
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


def _flushed(f: Term) -> list[Update]:
    """No CPU has a TLB entry of the page any more, nor of where it was mapped."""
    return each(
        Proc, Page, lambda q, w: put(stale(q, w), False),
        when=lambda q, w: Or(maps(q, w, f), And(stale(q, w), stale_frame(q, w) == f)),
    )


def _flush_is_late(kernel: Decisions, f: Term) -> list[Update]:
    """should_defer_flush: CPUs keep entries of dirty PTEs; from 5.19 to 6.0 not of an exclusive page (088b8aa537c2)."""
    at_once = exclusive(f) if kernel.exclusive_bit and not kernel.gup_fast_ordered else BoolVal(False)
    return each(
        Proc, Page, lambda q, w: put(stale(q, w), True) + put(stale_frame(q, w), f),
        when=lambda q, w: And(maps(q, w, f), pte_write(q, w), pte_dirty(q, w), Not(at_once)),
    )


@rule([F, Param("s", Slot, fresh=True)], "shrink_page_list: add_to_swap, try_to_unmap",
      "domain.md (j) of each kernel, 7.2 S7; decision `swap_out_pinned`", lock="rmap",
      split=("swap-out", "reclaim-flush"))
def swap_out(kernel: Decisions, f: Term, s: Term) -> Staged:
    """Reclaim puts a mapped page into the swap cache and replaces its mappings by swap entries.

    Between the two somebody may pin it; then what holds of a page that was in the swap cache before decides.
    """
    add = Step(
        [mapped(f), *_swappable(f), Not(in_swap_cache(f)), Not(_kept(kernel, f)), *not_claimed(kernel, s),
         _old(f)],
        [put(cached(s), True), put(slot_frame(s), f), put(writeback(s), False), put(page_dirty(f), True), given_out(s)],
    )
    return Staged(
        (
            Stage("add", lambda view: add),
            Stage("unmap", lambda view: Step([], [*_unmapped(kernel, f, s), _flushed(f)])),
        ),
        (), tail_of="swap-out-cached",
    )


@rule([F], "shrink_page_list: try_to_unmap (lazy-free page)", "domain.md F22; decision `discard_counts`",
      features=("lazyfree",), lock="rmap")
def discard_lazyfree(kernel: Decisions, f: Term) -> Step:
    """Reclaim throws away a page that was given up with MADV_FREE and not written since."""
    return Step(
        [mapped(f), _discarded(kernel, f)],
        [each(Proc, Page, lambda q, w: _emptied(kernel, q, w), when=lambda q, w: maps(q, w, f))],
    )


def _emptied(kernel: Decisions, q: Term, w: Term) -> list[Update]:
    return put(pte_present(q, w), False) + put(stale(q, w), False) + left_marker(kernel, q, w)


def _first_stops(f: Term) -> Term:
    """The first process's PTE of f is dirty: its mapping is the first in the anon_vma's tree, which fork adds to."""
    return exists(Page, lambda w: And(maps(FIRST, w, f), pte_dirty(FIRST, w)))


@rule([F, Param("r", Proc), Param("u", Page)], "shrink_page_list: try_to_unmap (lazy-free page)",
      "mm/rmap.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13", features=("lazyfree",), lock="rmap")
def discard_lazyfree_part(kernel: Decisions, f: Term, r: Term, u: Term) -> Step:
    """Reclaim takes the page from one of its mappers and stops at the next one, which has written to it.

    try_to_unmap looks at one mapping after the other; the page is an ordinary one then, and dirty.
    """
    return Step(
        [_discardable(kernel, f), maps(r, u, f), Not(pte_dirty(r, u)), Not(_clean(f)), Not(_first_stops(f))],
        [_emptied(kernel, r, u), put(lazyfree(f), False), put(page_dirty(f), True)],
    )


@rule([F], "shrink_page_list: try_to_unmap, SetPageSwapBacked", "mm/rmap.c; decision `lazyfree_stays`",
      features=("lazyfree",), lock="rmap", kind="refusal")
def keep_lazyfree(kernel: Decisions, f: Term) -> Step:
    """Reclaim keeps a page that was given up, but written since or, from 5.18, has references: an ordinary one again.

    Where `lazyfree_stays` only a written one is; the other stays given up (try_to_unmap_one, read in 7.2.13).
    """
    written = Or(page_dirty(f), Not(_clean(f)))
    stays = And(Not(written), BoolVal(kernel.lazyfree_stays))
    return Step(
        [mapped(f), lazyfree(f), Not(_discarded(kernel, f))], [put(lazyfree(f), stays), put(page_dirty(f), written)]
    )


@rule([P, V], "madvise_free_pte_range", "domain.md F22; read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7",
      features=("lazyfree",), lock="read")
def madv_free(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_FREE: the PTE is clean from now on, and the page free for the taking until it is written.

    Only of a page that is dirty or in the swap cache, which it leaves, does it ask whether nobody else maps it.
    """
    f = pte_frame(p, v)
    return Step(
        _may_give_up(kernel, p, v),
        [put(lazyfree(f), True), put(page_dirty(f), False), put(pte_dirty(p, v), False),
         leave_swap_cache(f, BoolVal(True))],
    )


@rule([P, V], "madvise_free_pte_range", "domain.md F22", name="madv-free-nothing", features=("lazyfree",))
def madv_free_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_FREE leaves other pages alone."""
    return Step([live(p, v), Not(file(v)), Not(pte_swap(p, v)), Not(And(*_may_give_up(kernel, p, v)))])


@rule([P, V], "madvise, -ENOMEM; madvise_free_single_vma, -EINVAL", "domain.md F22", kind="refusal",
      features=("lazyfree",))
def madv_free_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_FREE where there is no VMA, or that of a file."""
    return Step([Or(Not(live(p, v)), file(v))])


def _may_give_up(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """madvise_free_pte_range's tests of a present PTE: mapcount == 1 and try_to_free_swap, where they are asked for."""
    f = pte_frame(p, v)
    spared = ksm(f) if kernel.lazyfree_spares_ksm else BoolVal(False)
    alone = And(mapped_only_by(p, v, f), Not(page_swapped(f)), Not(in_writeback(f)), Not(spared))
    return [
        live(p, v), Not(file(v)), pte_present(p, v), Not(nonanon(f)), Not(large(f)),
        Implies(Or(page_dirty(f), in_swap_cache(f)), alone),
    ]


@rule([F, S], "shrink_page_list: try_to_unmap", "domain.md (j) of each kernel; decision `unmap_pinned`",
      lock="rmap", split=("reclaim-flush",))
def swap_out_cached(kernel: Decisions, f: Term, s: Term) -> Staged:
    """Reclaim unmaps a page that is in the swap cache already, and not under writeback.

    TLBs are flushed before the page is unlocked if it is written out then (try_to_unmap_flush_dirty). Where it is not,
    because reclaim may not write (laptop mode, node reclaim) or may not enter the I/O path (GFP_NOIO, and the page was
    in the swap cache), the page is unlocked at once and TLBs are flushed when all pages have been looked at.
    """
    guard = [mapped(f), cached(s), slot_frame(s) == f, Not(writeback(s)), Not(_kept_when_cached(kernel, f))]
    return Staged(
        (
            Stage("unmap", lambda view: Step(guard, _unmapped(kernel, f, s))),
            Stage("flush", lambda view: Step([], _flushed(f))),
        ),
        (unmap_flushing(f),), save=_flush_is_late(kernel, f),
    )


@rule([F], "shrink_page_list: keep_locked", "domain.md (j) of each kernel", kind="refusal")
def swap_out_refused(kernel: Decisions, f: Term) -> Step:
    """Reclaim keeps the page, as one under writeback. A large folio has to be split first; the zero page is on no list.
    """
    kept = If(in_swap_cache(f), Or(in_writeback(f), _kept_when_cached(kernel, f)), _kept(kernel, f))
    return Step([mapped(f), Or(large(f), nonanon(f), kept), Not(lazyfree(f)), Not(in_page_cache(f))])


@rule([F], "shrink_page_list: try_to_unmap, __remove_mapping",
      "mm/vmscan.c, mm/shmem.c of 5.10.262, 6.1.192, 6.12.118, 7.2.13", features=("file",), lock="rmap")
def reclaim_file_page(kernel: Decisions, f: Term) -> Step:
    """Reclaim unmaps a page of a file, whoever holds a reference; without one it leaves the page cache, and is freed.

    The tests for pins are those of anonymous pages. A page that stays is found again by the next fault: of a file in
    memory (shmem) in the swap cache, to which shmem_writepage moves it. Its content is the file's then.
    """
    return Step(
        [mapped(f), in_page_cache(f)],
        [
            each(Proc, Page, lambda q, w: _emptied(kernel, q, w), when=lambda q, w: maps(q, w, f)),
            each(Page, lambda v: put(backed(v), Not(unreferenced(f))) + put(file_value(v), frame_value(f)),
                 when=lambda v: caches(v, f)),
        ],
    )


@rule([S], "shrink_page_list: pageout, swap_writepage, end_page_writeback, __remove_mapping", "domain.md 2.1 (j)")
def reclaim_swap_cache(kernel: Decisions, s: Term) -> Step:
    """A page that only the swap cache refers to is written out, if need be, and freed; nothing happens meanwhile."""
    f = slot_frame(s)
    return Step(
        [cached(s), Not(writeback(s)), Not(mapped(f)), unreferenced(f)],
        [put(cached(s), False), put(slot_value(s), frame_value(f))],
    )


@rule([S], "shrink_page_list: pageout, swap_writepage, set_page_writeback",
      "mm/vmscan.c, mm/page_io.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13")
def writeback_begin(kernel: Decisions, s: Term) -> Step:
    """An unmapped page begins to be written to the swap device; one with references is not (is_page_cache_freeable).

    Nor is one whose slot no swap entry names: swap_writepage frees the slot instead. That a page which has not changed
    since it was read in need not be written again is not modelled.
    """
    f = slot_frame(s)
    return Step(
        [cached(s), Not(writeback(s)), Not(mapped(f)), unreferenced(f), page_swapped(f)], [put(writeback(s), True)]
    )


@rule([S], "end_page_writeback, rotate_reclaimable_page", "mm/filemap.c, read in 5.10.262 and 7.2.13")
def writeback_end(kernel: Decisions, s: Term) -> Step:
    """The writing ends. If nobody has the page any more it leaves the swap cache.

    A page that is not wanted is moved to where reclaim looks next (PG_reclaim); that look is taken here as well.
    """
    f = slot_frame(s)
    return Step(
        [cached(s), writeback(s)],
        [put(writeback(s), False), put(cached(s), Or(mapped(f), page_swapped(f)))],
    )


@rule([Param("s", Slot, fresh=True)], "swapon: SWP_STABLE_WRITES", "mm/swapfile.c", features=("stable-writes",))
def swap_stable(kernel: Decisions, s: Term) -> Step:
    """The slot is on a device that needs pages which do not change while it writes them, as zram."""
    return Step([Not(stable_writes(s))], [put(stable_writes(s), True)])


@rule([S], "try_to_free_swap, folio_free_swap", "domain.md I9")
def free_swap_slot(kernel: Decisions, s: Term) -> Step:
    """A page whose slot no swap entry names, and which is not under writeback nor locked, leaves the swap cache."""
    return Step(
        [cached(s), Not(writeback(s)), Not(page_swapped(slot_frame(s))), Not(migrating(slot_frame(s)))],
        [put(cached(s), False)],
    )


@rule([F], "lru_cache_add, isolate_lru_page, speculative get_page", "domain.md 1.1")
def extra_ref(kernel: Decisions, f: Term) -> Step:
    """A transient reference appears."""
    return Step([Not(frame_free(f)), Not(extra(f))], [put(extra(f), True)])


@rule([F], "lru_add_drain, put_page", "domain.md 1.1")
def drop_extra(kernel: Decisions, f: Term) -> Step:
    """A transient reference goes."""
    return Step([extra(f)], [put(extra(f), False)])


RULES = (
    swap_out, swap_out_cached, swap_out_refused, reclaim_file_page, reclaim_swap_cache, writeback_begin, writeback_end,
    swap_stable, free_swap_slot, extra_ref, drop_extra,
    discard_lazyfree, discard_lazyfree_part, keep_lazyfree, madv_free, madv_free_nothing, madv_free_refused,
)
