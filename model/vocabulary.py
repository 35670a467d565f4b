"""The words in which inductive invariants are found and read: relations over the state.

A word is false where what it looks at has no meaning (the write bit of an absent PTE): such cells keep stale values in
a proof, and a clause that depends on them is not inductive. A clause says that some words cannot hold together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from z3 import And, Or

from model.logic import Sort, Term
from model.state import (
    Frame,
    Page,
    Pin,
    Proc,
    Slot,
    alive,
    backed,
    backing,
    block,
    cached,
    cma,
    copy_from,
    copy_in_progress,
    copy_to,
    copying,
    data_copied,
    exclusive,
    extra,
    fast_held,
    fast_read,
    file,
    folio,
    force_cow,
    fork_copy,
    fork_early,
    fork_shared,
    fork_tested,
    has_pinned,
    hugetlb,
    ksm,
    large,
    lazyfree,
    leaked,
    maps,
    maps_folio,
    migrates,
    migrating,
    migration_exclusive,
    misplaced,
    movable,
    move_found,
    move_looked,
    move_page,
    move_read,
    move_slot,
    moving,
    mprotect_flushing,
    nonanon,
    pin_attached,
    pin_dontfork,
    pin_foll_pin,
    pin_frame,
    pin_live,
    pin_longterm,
    pin_page,
    pin_proc,
    pin_write,
    pte_cleared,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_migration,
    pte_present,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    same_folio,
    slot_frame,
    soft_dirty_flushing,
    stale,
    stale_frame,
    swaps,
    sync_page,
    sync_reading,
    sync_slot,
    uffd_armed,
    uffd_flushing,
    uffd_unwp_flushing,
    unmap_flushing,
    unplaced,
    vma,
    vma_dontfork,
    vma_exec,
    vma_huge,
    vma_missing,
    vma_none,
    vma_resv_owner,
    vma_uffd,
    vma_unwatched,
    vma_wipeonfork,
    vma_write,
    writeback,
)


@dataclass(frozen=True)
class Word:
    """A relation over elements of `sorts`; `holds` gives its quantifier-free formula.

    `symmetric`: it says the same where its first half of elements and its second change places. `needs`: names of
    state functions without which it says nothing that other words do not.
    """

    name: str
    sorts: tuple[Sort, ...]
    holds: Callable[..., Term]
    symmetric: bool = False
    needs: frozenset[str] = frozenset()


def _held(field: Callable[[Term], Term]) -> Callable[[Term], Term]:
    return lambda k: And(pin_live(k), field(k))


def _mapped(bit: Callable[[Term, Term], Term]) -> Callable[[Term, Term], Term]:
    return lambda p, v: And(pte_present(p, v), bit(p, v))


def _entry(bit: Callable[[Term, Term], Term]) -> Callable[[Term, Term], Term]:
    return lambda p, v: And(Or(pte_present(p, v), pte_swap(p, v)), bit(p, v))


def _same(a: Term, b: Term) -> Term:
    return a == b


WORDS: tuple[Word, ...] = (
    Word("alive", (Proc,), alive),
    Word("has pinned", (Proc,), lambda p: And(alive(p), has_pinned(p))),
    Word("VMA", (Proc, Page), vma),
    Word("executable VMA", (Proc, Page), lambda p, v: And(vma(p, v), vma_exec(p, v))),
    Word("PROT_NONE VMA", (Proc, Page), lambda p, v: And(vma(p, v), vma_none(p, v))),
    Word("DONTFORK VMA", (Proc, Page), lambda p, v: And(vma(p, v), vma_dontfork(p, v))),
    Word("WIPEONFORK VMA", (Proc, Page), lambda p, v: And(vma(p, v), vma_wipeonfork(p, v))),
    Word("VMA for missing pages", (Proc, Page), lambda p, v: And(vma(p, v), vma_missing(p, v))),
    Word("VMA watched no more", (Proc, Page), lambda p, v: And(vma(p, v), vma_unwatched(p, v))),
    Word("VMA for write-protection", (Proc, Page), lambda p, v: And(vma(p, v), vma_uffd(p, v)),
         needs=frozenset({vma_missing.name})),
    Word("writable VMA", (Proc, Page), lambda p, v: And(vma(p, v), vma_write(p, v))),
    Word("present", (Proc, Page), pte_present),
    Word("W", (Proc, Page), _mapped(pte_write)),
    Word("dirty", (Proc, Page), _mapped(pte_dirty)),
    Word("uffd-wp", (Proc, Page), _entry(pte_uffd_wp)),
    Word("soft-dirty", (Proc, Page), _entry(pte_soft_dirty)),
    Word("armed", (Proc, Page), _entry(uffd_armed)),
    Word("swap entry", (Proc, Page), pte_swap),
    Word("guard", (Proc, Page), pte_guard),
    Word("huge", (Proc, Page), _mapped(pte_huge)),
    Word("THP VMA", (Proc, Page), lambda p, v: And(vma(p, v), vma_huge(p, v))),
    Word("FOLL_COW", (Proc, Page), lambda p, v: And(vma(p, v), force_cow(p, v))),
    Word("file", (Page,), file),
    Word("hugetlb", (Page,), hugetlb),
    Word("owns reservation", (Proc, Page), lambda p, v: And(vma(p, v), hugetlb(v), vma_resv_owner(p, v))),
    Word("reads past", (Proc, Page, Slot), lambda p, v, s: And(sync_reading(p, v), sync_slot(p, v) == s)),
    Word("reads to", (Proc, Page, Frame), lambda p, v, f: And(sync_reading(p, v), sync_page(p, v) == f)),
    Word("movable", (Frame,), movable),
    Word("CMA", (Frame,), cma),
    Word("backed by", (Page, Frame), lambda v, f: And(backed(v), backing(v) == f)),
    Word("same block", (Page, Page), lambda v, w: block(v) == block(w), symmetric=True),
    Word("copying", (Proc, Page), copying),
    Word("data copied", (Proc, Page), data_copied),
    Word("copies from", (Proc, Page, Frame), lambda p, v, f: And(copy_in_progress(p, v), copy_from(p, v) == f)),
    Word("copies to", (Proc, Page, Frame), lambda p, v, f: And(copy_in_progress(p, v), copy_to(p, v) == f)),
    Word("stale", (Proc, Page, Frame), lambda p, v, f: And(stale(p, v), stale_frame(p, v) == f)),
    Word("uffd flush pending", (Proc, Page), uffd_flushing),
    Word("un-protect flush pending", (Proc, Page), uffd_unwp_flushing),
    Word("mprotect flush pending", (Proc, Page), mprotect_flushing),
    Word("clear_refs flush pending", (Proc,), soft_dirty_flushing),
    Word("fork has tested", (Proc, Proc), fork_tested),
    Word("fork has shared", (Proc, Proc), fork_shared),
    Word("fork copies to", (Proc, Page, Frame), lambda p, v, f: And(fork_early(p, v), fork_copy(p, v) == f)),
    Word("a move has read", (Proc, Page), move_read),
    Word("a move has looked", (Proc, Page), move_looked),
    Word("a move brings", (Proc, Page, Slot), lambda p, v, s: And(moving(p, v), move_slot(p, v) == s)),
    Word("a move has found", (Proc, Page, Frame), lambda p, v, f: And(
        move_looked(p, v), move_found(p, v), move_page(p, v) == f
    )),
    Word("PTE read", (Pin,), fast_read),
    Word("PTE read and reference taken", (Pin,), fast_held),
    Word("PTE taken away", (Proc, Page), pte_cleared),
    Word("migration entry", (Proc, Page), pte_migration),
    Word("writable migration entry", (Proc, Page), lambda p, v: And(pte_migration(p, v), pte_write(p, v))),
    Word("migrates", (Proc, Page, Frame), migrates),
    Word("migrates exclusively", (Proc, Page, Frame), lambda p, v, f: And(
        migrates(p, v, f), migration_exclusive(p, v)
    )),
    Word("being migrated", (Frame,), migrating),
    Word("maps", (Proc, Page, Frame), maps),
    Word("maps part of folio", (Proc, Page, Frame), maps_folio),
    Word("shares folio", (Proc, Page, Proc, Page), lambda p, v, q, w: And(
        pte_present(q, w), maps_folio(p, v, pte_frame(q, w))
    ), symmetric=True),
    Word("exclusive page", (Proc, Page), _mapped(lambda p, v: exclusive(pte_frame(p, v))),
         needs=frozenset({large.name})),
    Word("swaps", (Proc, Page, Slot), swaps),
    Word("swaps exclusively", (Proc, Page, Slot), lambda p, v, s: And(swaps(p, v, s), pte_swap_exclusive(p, v))),
    Word("exclusive", (Frame,), exclusive),
    Word("unmapped, flush pending", (Frame,), unmap_flushing),
    Word("sub-page", (Frame,), large),
    Word("same large folio", (Frame, Frame), lambda f, g: And(large(f), large(g), folio(f) == folio(g)),
         symmetric=True),
    Word("no anonymous page", (Frame,), nonanon),
    Word("KSM", (Frame,), ksm),
    Word("lazy-free", (Frame,), lazyfree),
    Word("leaked", (Frame,), leaked),
    Word("never mapped since read in", (Frame,), unplaced),
    Word("misplaced", (Frame,), misplaced),
    Word("extra reference", (Frame,), extra),
    Word("cached", (Slot,), cached),
    Word("under writeback", (Slot,), lambda s: And(cached(s), writeback(s))),
    Word("holds", (Slot, Frame), lambda s, f: And(cached(s), slot_frame(s) == f)),
    Word("held", (Pin,), pin_live),
    Word("FOLL_PIN", (Pin,), _held(pin_foll_pin)),
    Word("write pin", (Pin,), lambda k: And(pin_live(k), pin_foll_pin(k), pin_write(k))),
    Word("longterm pin", (Pin,), lambda k: And(pin_live(k), pin_foll_pin(k), pin_longterm(k))),
    Word("write reference under DONTFORK", (Pin,), lambda k: And(pin_live(k), pin_write(k), pin_dontfork(k))),
    Word("refers to", (Pin, Frame), lambda k, f: And(pin_live(k), pin_frame(k) == f)),
    Word("refers to folio", (Pin, Frame), lambda k, f: And(pin_live(k), same_folio(pin_frame(k), f))),
    Word("attached to", (Pin, Frame), lambda k, f: And(pin_live(k), pin_attached(k), pin_frame(k) == f)),
    Word("taken by", (Pin, Proc), lambda k, p: And(pin_live(k), pin_proc(k) == p)),
    Word("taken at", (Pin, Page), lambda k, v: And(pin_live(k), pin_page(k) == v)),
    Word("attached at", (Pin, Proc, Page), lambda k, p, v: And(
        pin_live(k), pin_attached(k), pin_proc(k) == p, pin_page(k) == v
    )),
    Word("same process", (Proc, Proc), _same, symmetric=True),
    Word("same page", (Page, Page), _same, symmetric=True),
    Word("same frame", (Frame, Frame), _same, symmetric=True),
    Word("same slot", (Slot, Slot), _same, symmetric=True),
    Word("same reference", (Pin, Pin), _same, symmetric=True),
)

VARIABLES: dict[str, Sort] = {
    "p": Proc, "q": Proc, "v": Page, "w": Page, "f": Frame, "g": Frame, "k": Pin, "l": Pin, "s": Slot, "t": Slot,
}
PLACES = ("pv", "qw", "pvqw")
"""A word about processes and pages is said of these only."""
PROFILES = ("pvfks", "pvqwfs", "pvqwfk", "fstkl")
"""The sets of variables of which one clause may speak."""
