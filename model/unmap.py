"""Excusing events: munmap, MADV_DONTNEED, exit (zap_pte_range and above). They detach the references taken there."""

from __future__ import annotations

from collections.abc import Callable

from z3 import And, BoolVal, Implies, Not, Or

from model.decisions import Decisions
from model.logic import Param, Step, Term, Update, each, exists, forall, put, rule
from model.ptes import P, V, anon_marker, beside, has_anon_vma, left_marker, one_vma
from model.state import (
    Page,
    Pin,
    Proc,
    Slot,
    alive,
    block,
    cached,
    file,
    force_cow,
    hugetlb,
    live,
    mapped_huge,
    maps,
    memalloc_pin,
    migrating,
    migration_exclusive,
    page_table,
    pin_attached,
    pin_live,
    pin_page,
    pin_proc,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_migration,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    registered,
    slot_frame,
    stale,
    swaps,
    uffd_armed,
    uffd_marker,
    vma,
    vma_anon,
    vma_apart,
    vma_dontfork,
    vma_exec,
    vma_huge,
    vma_mergeable,
    vma_missing,
    vma_new,
    vma_none,
    vma_uffd,
    vma_unwatched,
    vma_wipeonfork,
    vma_write,
    writeback,
)


def _detach(zapped: Callable[[Term, Term], Term]) -> list[list[Update]]:
    """Detach the references taken where `zapped` holds, free what only the swap cache still holds once that is gone.

    The last is free_swap_cache / free_swap_and_cache: a page that no PTE maps and no swap entry names any more, unless
    it is under writeback (try_to_free_swap, folio_free_swap), when the end of that frees it, or locked by migration.
    """

    def last_user(s: Term) -> Term:
        def used(q: Term, w: Term) -> Term:
            return Or(maps(q, w, slot_frame(s)), swaps(q, w, s))

        return And(
            cached(s), Not(writeback(s)), Not(migrating(slot_frame(s))),
            exists(Proc, Page, lambda q, w: And(zapped(q, w), used(q, w))),
            forall(Proc, Page, lambda q, w: Implies(used(q, w), zapped(q, w))),
        )

    return [
        each(Pin, lambda k: put(pin_attached(k), False),
             when=lambda k: And(pin_live(k), zapped(pin_proc(k), pin_page(k)))),
        each(Slot, lambda s: put(cached(s), False), when=last_user),
    ]


def zap(kernel: Decisions, zapped: Callable[[Term, Term], Term]) -> list[list[Update]]:
    """Empty the PTEs for which `zapped` holds, and `_detach`. Markers go with their VMA (ZAP_FLAG_DROP_MARKER); guards
    stay, but where the VMA goes."""
    return [
        each(
            Proc, Page,
            lambda q, w: put(pte_present(q, w), False) + put(pte_swap(q, w), False) + put(pte_migration(q, w), False)
            + put(stale(q, w), False) + left_marker(kernel, q, w),
            when=zapped,
        ),
        *_detach(zapped),
    ]


@rule([P, V], "munmap, zap_pte_range", "domain.md I1", lock="write")
def munmap(kernel: Decisions, p: Term, v: Term) -> Step:
    """The VMA and the PTE go; a page that is referenced lives on, invisible to the process."""
    return Step(
        [live(p, v), Not(mapped_huge(p, v))],
        [put(vma(p, v), False), put(pte_guard(p, v), False), *zap(kernel, lambda q, w: And(q == p, w == v))],
    )


@rule([P, V], "madvise(MADV_DONTNEED), zap_page_range", "domain.md I1", lock="read")
def dontneed(kernel: Decisions, p: Term, v: Term) -> Step:
    """The PTE goes, the VMA stays: the next touch gets a new page."""
    return Step([live(p, v), Not(mapped_huge(p, v))], zap(kernel, lambda q, w: And(q == p, w == v)))


@rule([P, V], "madvise(MADV_DONTNEED), zap_huge_pmd, try_to_free_pte",
      "domain.md I1; decision `dontneed_frees_tables`", features=("huge",), lock="read")
def dontneed_block(kernel: Decisions, p: Term, v: Term) -> Step:
    """All that one PMD covers goes at once: a PMD that maps it, or from 6.14 a page table, which is then empty: not one
    with a guard."""
    guarded = exists(Page, lambda w: And(block(w) == block(v), pte_guard(p, w)))
    table = And(one_vma(p, v), Not(guarded)) if kernel.dontneed_frees_tables else BoolVal(False)
    return Step(
        [live(p, v), Or(mapped_huge(p, v), table)],
        [*zap(kernel, lambda q, w: And(q == p, block(w) == block(v))), put(page_table(p, block(v)), False)],
    )


@rule([P, V], "madvise, -ENOMEM", "domain.md I1", kind="refusal")
def dontneed_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_DONTNEED where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P, V], "madvise(MADV_FREE): madvise_free_pte_range, free_swap_and_cache",
      "mm/madvise.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13", features=("lazyfree",), lock="read")
def madv_free_swapped(kernel: Decisions, p: Term, v: Term) -> Step:
    """MADV_FREE drops a swap entry at once: the next touch gets a new page, as after MADV_DONTNEED."""
    return Step([live(p, v), pte_swap(p, v)], zap(kernel, lambda q, w: And(q == p, w == v)))


@rule([P, V], "munmap of nothing", "domain.md I1", name="munmap-nothing")
def munmap_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """munmap where there is no VMA succeeds and does nothing."""
    return Step([alive(p), Not(vma(p, v))])


@rule([P, V], "mmap(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED): mmap_region, __mmap_region",
      "domain.md 2.14; mm/mmap.c, mm/vma.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13", features=("mmap",),
      lock="write")
def mmap(kernel: Decisions, p: Term, v: Term) -> Step:
    """A VMA of anonymous memory comes in the place of whatever is there: writable, empty, with no advice and not
    registered, without an anon_vma, and soft-dirty until the next clear_refs.

    In the block of a huge page it is no part of what had MADV_HUGEPAGE. Not told: mmap over a mapping of a file, since
    what backs an address is the same in every process here; nor how it merges with a neighbour in the block which was
    mapped anew or moved too, which makes both soft-dirty (__mmap_complete): no test may ask.
    """
    flags = (
        vma_exec, vma_none, vma_huge, vma_mergeable, vma_dontfork, vma_wipeonfork, vma_anon, vma_uffd, vma_missing,
        vma_unwatched, force_cow, memalloc_pin,
    )
    return Step(
        [alive(p), Not(file(v)), Not(hugetlb(v)), Not(And(vma(p, v), mapped_huge(p, v)))],
        [
            *(put(flag(p, v), False) for flag in (*flags, pte_guard)), put(vma(p, v), True), put(vma_write(p, v), True),
            put(vma_apart(p, v), True), put(vma_new(p, v), True), *zap(kernel, lambda q, w: And(q == p, w == v)),
        ],
    )


@rule([P], "exit_mmap", "domain.md I1", lock="write")
def exit(kernel: Decisions, p: Term) -> Step:
    """The process and its page tables go; its references stay until they are dropped."""
    return Step(
        [alive(p)],
        [put(alive(p), False), each(Page, lambda v: put(vma(p, v), False) + put(pte_guard(p, v), False)),
         *zap(kernel, lambda q, w: q == p)],
    )


W = Param("w", Page)


def references_follow(p: Term, v: Term, w: Term) -> list[Update]:
    """References that p took at v are to what it has at w from now on."""
    return each(Pin, lambda k: put(pin_page(k), w),
                when=lambda k: And(pin_live(k), pin_attached(k), pin_proc(k) == p, pin_page(k) == v))


def _moved(kernel: Decisions, p: Term, v: Term, w: Term, left: list[Update]) -> Step:
    """What v has moves to w, where whatever was mapped goes. `left`: what becomes of the VMA at v."""
    cleared = kernel.mremap_clears_uffd_wp
    # A guard keeps the bit where userfaultfd has left since (vma_has_uffd_without_event_remap).
    of_guard = And(pte_guard(p, v), pte_uffd_wp(p, v), Not(registered(p, v)))
    bit = put(pte_uffd_wp(p, w), of_guard if cleared else pte_uffd_wp(p, v)) + put(vma_unwatched(p, w), not cleared)
    moved = [
        put(function(p, w), function(p, v))
        for function in (
            vma_write, vma_exec, vma_none, vma_new, vma_mergeable, vma_dontfork, vma_wipeonfork, pte_present, pte_frame,
            pte_write, pte_dirty, pte_swap, pte_slot, pte_swap_exclusive, pte_migration, migration_exclusive,
        )
    ]
    return Step(
        [live(p, v), v != w, Not(mapped_huge(p, v)), Not(mapped_huge(p, w)), Not(file(v)), Not(file(w))],
        [
            left, put(pte_present(p, v), False), put(pte_swap(p, v), False), put(pte_migration(p, v), False),
            put(pte_guard(p, v), False), put(pte_guard(p, w), pte_guard(p, v)), *moved,
            put(vma_anon(p, w), has_anon_vma(p, v)),
            put(vma(p, w), True), put(vma_huge(p, w), vma_huge(p, v)), put(vma_apart(p, w), True),
            put(page_table(p, block(w)), Or(page_table(p, block(w)), vma_huge(p, v), vma_huge(p, w))),
            put(vma_uffd(p, w), False), put(vma_missing(p, w), False), put(pte_huge(p, w), False),
            put(pte_soft_dirty(p, w), True), bit, put(uffd_armed(p, w), False), put(force_cow(p, w), False),
            put(memalloc_pin(p, w), False),
            put(stale(p, v), False), put(stale(p, w), False), put(uffd_marker(p, v), False),
            put(uffd_marker(p, w), False if cleared else anon_marker(p, v)),
            *_detach(lambda q, u: And(q == p, u == w)), references_follow(p, v, w),
        ],
    )


@rule([P, V, W], "move_page_tables, move_ptes", "domain.md I1; cow.c, partial mremap; decision `mremap_clears_uffd_wp`",
      features=("mremap",), lock="write")
def mremap(kernel: Decisions, p: Term, v: Term, w: Term) -> Step:
    """The page moves from v to w, where whatever was mapped goes; references to it follow, and it is soft-dirty there,
    as is a swap entry (move_soft_dirty_pte, move_soft_dirty_pmd).

    Its registration with userfaultfd is lost (no remap event), and with it the uffd-wp bit; the bit alone stays where
    `mremap_clears_uffd_wp` does not hold.
    """
    return _moved(kernel, p, v, w, put(vma(p, v), False))


@rule([P, V, W], "mremap(MREMAP_DONTUNMAP): move_vma, move_page_tables, dontunmap_complete",
      "mm/mremap.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13, 7.3-rc7", features=("mremap",), lock="write")
def mremap_dontunmap(kernel: Decisions, p: Term, v: Term, w: Term) -> Step:
    """mremap that leaves the VMA at v, empty and with its flags and its registration: the next touch gets a new page.

    A VMA that is moved as a whole loses its anon_vma; decision `dontunmap_unlinks`.
    """
    kept = exists(Page, lambda u: beside(p, v, u)) if kernel.dontunmap_unlinks else BoolVal(True)
    return _moved(kernel, p, v, w, put(vma_anon(p, v), And(has_anon_vma(p, v), kept)))


@rule([P, V, W], "mremap, -EFAULT, -EINVAL", "domain.md I1", kind="refusal", features=("mremap",))
def mremap_refused(kernel: Decisions, p: Term, v: Term, w: Term) -> Step:
    """mremap of no mapping, or onto itself."""
    target = live(p, w) if not kernel.mremap_looks_first else BoolVal(False)
    return Step([Or(v == w, And(Not(live(p, v)), Not(target)))])


@rule([P, V, W], "mremap_to: do_munmap, vma_to_resize", "mm/mremap.c, read in 5.10.262; decision `mremap_looks_first`",
      kind="refusal", features=("mremap",), lock="write")
def mremap_refused_unmaps(kernel: Decisions, p: Term, v: Term, w: Term) -> Step:
    """mremap of no mapping, which has unmapped what was where it was to go."""
    unmaps = munmap.body(kernel, p, w)
    assert isinstance(unmaps, Step)
    return Step(
        [BoolVal(not kernel.mremap_looks_first), alive(p), Not(vma(p, v)), v != w, *unmaps.guard], unmaps.updates
    )


RULES = (
    munmap, munmap_nothing, mmap, dontneed, dontneed_block, dontneed_refused, madv_free_swapped, exit,
    mremap, mremap_dontunmap, mremap_refused, mremap_refused_unmaps,
)
