"""What people claim of the kernel's copy-on-write and pinning, as closed first-order formulas over a state.

Each claim reads "for all elements with `when`, `then`": the first part is the premise (a check in which it never
holds is vacuous), an assignment that breaks the second is the witness that traces show. Sources: domain.md section 4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from z3 import And, Const, Implies, Not, Or

from model.blame import blamed, defect, nearest, place_of
from model.features import FEATURES
from model.kernels import Kernel
from model.logic import ModelError, Sort, Term, exists, forall
from model.state import (
    BY_NAME,
    CONSTANTS,
    SORTS,
    Bool,
    Frame,
    Page,
    Pin,
    Proc,
    Slot,
    alive,
    cached,
    cma,
    copy_from,
    copy_in_progress,
    exclusive,
    frame_free,
    hugetlb,
    leaked,
    mapped,
    maps,
    migrates,
    migration_exclusive,
    misplaced,
    movable,
    page_swapped,
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
    pte_frame,
    pte_migration,
    pte_present,
    pte_slot,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    resolves_to,
    slot_frame,
    soft_dirty_needs_fault,
    stale,
    stale_frame,
    still_to_copy,
    swaps,
    sync_again,
    sync_reading,
    sync_slot,
    uffd_armed,
    vma,
    vma_write,
    writeback,
)

__all__ = ["FURTHER", "INVARIANTS", "Invariant", "invariant"]


@dataclass(frozen=True)
class Invariant:
    """For all elements of `sorts`: `when` implies `then` (functions from that many terms to Bool terms).

    `statement`: the claim in words; `source`: who states it. `features`: parts of the domain without which it says
    nothing; a check of it turns them on. `needs_exclusive_bit`: it is about PG_anon_exclusive. Raises ModelError for
    sorts or features that there are not.
    """

    name: str
    statement: str
    source: str
    sorts: tuple[Sort, ...]
    when: Callable[..., Term]
    then: Callable[..., Term]
    needs_exclusive_bit: bool = False
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        sorts = isinstance(self.sorts, tuple) and self.sorts and all(s in SORTS for s in self.sorts)
        wanted = (
            *((what, "a text", isinstance(getattr(self, what), str)) for what in ("name", "statement", "source")),
            ("sorts", f"a tuple of {', '.join(map(str, SORTS))}, as (Pin,)", sorts),
            *((what, "a function of a term for each sort", callable(getattr(self, what))) for what in ("when", "then")),
            ("features", "a tuple of names, as ('huge',)", isinstance(self.features, tuple)),
        )
        for what, kind, fits in wanted:
            if not fits:
                raise ModelError(f"invariant {self.name}: {what} is {kind}, not {getattr(self, what)!r}")
        for feature in self.features:
            if feature not in FEATURES:
                raise ModelError(f"invariant {self.name}: no feature {feature!r}{nearest(feature, FEATURES)}")

    def check(self, file: str = "") -> None:
        """Raises ModelError, with the line, if `when` or `then` fails or gives no Bool term of the model's.

        `file`: what to name where no line is known.
        """
        given = [Const(f"{sort.name().lower()}{i}", sort) for i, sort in enumerate(self.sorts, 1)]
        for what in ("when", "then"):
            place = place_of(getattr(self, what)) or file
            # Called with other names too, it must speak of what it is given, not of what is called so.
            for asked in (given, [Const(f"{x}!", x.sort()) for x in given]):
                with blamed(f"invariant {self.name}: {what}", place):
                    term = getattr(self, what)(*asked)
                if wrong := defect(term, Bool, BY_NAME, [*CONSTANTS, *asked]):
                    raise ModelError(": ".join(filter(None, (place, f"invariant {self.name}", f"{what} {wrong}"))))

    @functools.cached_property
    def formula(self) -> Term:
        """The claim, a closed Bool term."""
        return forall(*self.sorts, lambda *x: Implies(self.when(*x), self.then(*x)))

    @functools.cached_property
    def premise(self) -> Term:
        """A closed Bool term: the claim says something in this state."""
        return exists(*self.sorts, self.when)

    def applies_to(self, kernel: Kernel) -> bool:
        """False where the claim is about something that the kernel does not have."""
        return kernel.exclusive_bit or not self.needs_exclusive_bit


def _reference(kind: Callable[[Term], Term]) -> Callable[[Term], Term]:
    return lambda k: And(pin_live(k), pin_attached(k), kind(k))


def _coherent(k: Term) -> Term:
    return resolves_to(pin_proc(k), pin_page(k), pin_frame(k))


def _mapped_writable(p: Term, v: Term) -> Term:
    return And(pte_present(p, v), pte_write(p, v), Not(pte_cleared(p, v)))


def _exclusive(f: Term, p: Term, v: Term, q: Term, w: Term, k: Term) -> Term:
    slot = pte_slot(p, v)
    return And(
        Implies(And(maps(p, v, f), _mapped_writable(p, v)), exclusive(f)),
        Implies(And(exclusive(f), maps(p, v, f), maps(q, w, f)), And(p == q, v == w)),
        Implies(And(pin_live(k), pin_foll_pin(k), pin_frame(k) == f), exclusive(f)),
        Implies(And(pte_swap(p, v), cached(slot), slot_frame(slot) == f), Not(exclusive(f))),
        Implies(
            And(pte_swap(p, v), pte_swap_exclusive(p, v)),
            And(
                Implies(swaps(q, w, slot), And(p == q, v == w)),
                Implies(cached(slot), Not(maps(q, w, slot_frame(slot)))),
            ),
        ),
        Implies(
            And(migrates(p, v, f), migration_exclusive(p, v)),
            And(Not(exclusive(f)), Not(maps(q, w, f)), Implies(migrates(q, w, f), And(p == q, v == w))),
        ),
    )


INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "coherence-write-pin",
        "a page pinned for writing (FOLL_PIN) is the page its process has mapped there, or that its swap entry "
        "leads to",
        "I1; Peter Xu, seed mail", (Pin,),
        _reference(lambda k: And(pin_foll_pin(k), pin_write(k))), _coherent,
    ),
    Invariant(
        "coherence-read-pin",
        "a page pinned for reading (FOLL_PIN) is the page its process has mapped there, or that its swap entry "
        "leads to",
        "I1; Peter Xu, seed mail; a7f226604170", (Pin,),
        _reference(lambda k: And(pin_foll_pin(k), Not(pin_write(k)))), _coherent,
    ),
    Invariant(
        "coherence-longterm-pin",
        "a page pinned for long (FOLL_LONGTERM) is the page its process has mapped there, or that its swap entry "
        "leads to",
        "I1; 84209e87c696", (Pin,),
        _reference(lambda k: And(pin_foll_pin(k), pin_longterm(k))), _coherent,
    ),
    Invariant(
        "coherence-get",
        "a page referenced by FOLL_GET is the page its process has mapped there, or that its swap entry leads to",
        "I1; seed mail; no kernel promises it", (Pin,), _reference(lambda k: Not(pin_foll_pin(k))), _coherent,
    ),
    Invariant(
        "write-bit",
        "while the VMA is writable, the PTE of a page pinned for writing (FOLL_PIN) is present and has its write bit",
        "I2; seed mail", (Pin,),
        lambda k: And(
            _reference(lambda r: And(pin_foll_pin(r), pin_write(r)))(k), vma_write(pin_proc(k), pin_page(k))
        ),
        lambda k: And(
            maps(pin_proc(k), pin_page(k), pin_frame(k)), pte_write(pin_proc(k), pin_page(k))
        ),
    ),
    Invariant(
        "isolation-mapping",
        "no other mapping or swap entry leads to a page that somebody has mapped writable",
        "I3", (Proc, Page, Proc, Page),
        lambda p, v, q, w: And(
            _mapped_writable(p, v), Or(pte_present(q, w), pte_swap(q, w), pte_migration(q, w)), Not(And(p == q, v == w))
        ),
        lambda p, v, q, w: Not(resolves_to(q, w, pte_frame(p, v))),
    ),
    Invariant(
        "isolation-reference",
        "a page that a process has mapped writable is not referenced by another process",
        "I3, both directions; CVE-2020-29374", (Proc, Page, Pin),
        lambda p, v, k: And(_mapped_writable(p, v), pin_live(k), pin_proc(k) != p),
        lambda p, v, k: pin_frame(k) != pte_frame(p, v),
    ),
    Invariant(
        "exclusive",
        "PG_anon_exclusive: a writable mapping and a FOLL_PIN have it, it means one mapping, a swap entry that "
        "keeps it is the only one, and a page that a swap entry leads to lacks it",
        "I5 b, c, e, f, g", (Frame, Proc, Page, Proc, Page, Pin),
        lambda f, p, v, q, w, k: Not(frame_free(f)), _exclusive, needs_exclusive_bit=True,
    ),
    Invariant(
        "uffd-wp",
        "a page write-protected through userfaultfd cannot be written without a message: its PTE has uffd-wp, not W",
        "I6", (Proc, Page),
        lambda p, v: And(uffd_armed(p, v), Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v))),
        lambda p, v: And(pte_uffd_wp(p, v), Not(_mapped_writable(p, v))),
    ),
    Invariant(
        "soft-dirty",
        "a page that can be written without a fault reads as soft-dirty",
        "I7", (Proc, Page), _mapped_writable, lambda p, v: Not(soft_dirty_needs_fault(p, v)),
    ),
    Invariant(
        "mprotect",
        "a page of a read-only VMA cannot be written without a fault",
        "domain.md 2.8: the price of skipping in mprotect", (Proc, Page),
        lambda p, v: And(vma(p, v), Not(vma_write(p, v)), pte_present(p, v)), lambda p, v: Not(pte_write(p, v)),
    ),
    Invariant(
        "swap-slot",
        "no slot is held, but for the time of its writing, for a page that no PTE maps and no swap entry names: the "
        "fault that could free it has",
        "I9; seed mail; f4c4a3f48480", (Slot,), lambda s: And(cached(s), Not(writeback(s))),
        lambda s: exists(Proc, Page, lambda q, w: Or(swaps(q, w, s), maps(q, w, slot_frame(s)))),
    ),
    Invariant(
        "counters",
        "each reference is counted once: a PTE is present or a swap entry and lies in a VMA of a live process, a page "
        "is in the swap cache under one slot",
        "I10", (Proc, Page, Slot, Slot),
        lambda p, v, s, t: Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v), cached(s)),
        lambda p, v, s, t: And(
            Not(And(pte_present(p, v), pte_swap(p, v))),
            Not(And(pte_migration(p, v), Or(pte_present(p, v), pte_swap(p, v)))),
            Implies(Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v)), And(alive(p), vma(p, v))),
            Implies(And(cached(s), cached(t), slot_frame(s) == slot_frame(t)), s == t),
        ),
    ),
)
"""Every invariant of the default table, in the order of its columns."""

FURTHER: tuple[Invariant, ...] = (
    Invariant(
        "tlb",
        "no CPU has a writable TLB entry of a page that a fault copies and will replace, or of a free page",
        "I8; domain.md F7, F19, F20", (Proc, Page), stale,
        lambda p, v: And(
            Not(frame_free(stale_frame(p, v))),
            Not(And(copy_in_progress(p, v), copy_from(p, v) == stale_frame(p, v), still_to_copy(p, v))),
        ),
        features=("tlb",),
    ),
    Invariant(
        "force-write",
        "a FOLL_FORCE write goes into no page that others can see",
        "I11; domain.md F15, F16, F17", (Frame,), lambda f: Not(frame_free(f)), lambda f: Not(leaked(f)),
        features=("force", "file", "zero"),
    ),
    Invariant(
        "dontfork-coherence",
        "a page referenced for writing, by FOLL_PIN or FOLL_GET, where MADV_DONTFORK was said before and is not undone "
        "is the page its process has mapped there, or that its swap entry leads to",
        "I1; domain.md F3: ibv_fork_init", (Pin,),
        _reference(lambda k: And(pin_write(k), pin_dontfork(k))), _coherent,
        features=("madv-fork",),
    ),
    Invariant(
        "hugetlb-write-pin",
        "a hugetlb page pinned for writing (FOLL_PIN) is the page its process has mapped there",
        "I1 for hugetlb; domain.md F3h: 4eae4efa2c29", (Pin,),
        _reference(lambda k: And(hugetlb(pin_page(k)), pin_foll_pin(k), pin_write(k))), _coherent,
        features=("hugetlb",),
    ),
    Invariant(
        "hugetlb-read-pin",
        "a hugetlb page pinned for reading (FOLL_PIN) is the page its process has mapped there",
        "I1 for hugetlb; domain.md F10h: c89357e27f20", (Pin,),
        _reference(lambda k: And(hugetlb(pin_page(k)), pin_foll_pin(k), Not(pin_write(k)))), _coherent,
        features=("hugetlb",),
    ),
    Invariant(
        "longterm-movable",
        "a page pinned for long (FOLL_LONGTERM) does not lie in ZONE_MOVABLE",
        "I14; domain.md F40: d1e153fea2a8", (Pin,),
        lambda k: And(pin_live(k), pin_longterm(k)), lambda k: Not(movable(pin_frame(k))), features=("movable",),
    ),
    Invariant(
        "longterm-cma",
        "a page pinned for long (FOLL_LONGTERM) does not lie in CMA",
        "I14; domain.md F40: 9a4e9f3b2d73", (Pin,),
        lambda k: And(pin_live(k), pin_longterm(k)), lambda k: Not(cma(pin_frame(k))), features=("movable",),
    ),
    Invariant(
        "swap-in-content",
        "a slot that a fault has read past the swap cache is given to no other page while its entry names it",
        "I15; domain.md F41: 13ddaf26be32", (Proc, Page),
        lambda p, v: And(sync_reading(p, v), pte_swap(p, v), pte_slot(p, v) == sync_slot(p, v)),
        lambda p, v: Not(sync_again(p, v)), features=("sync-swap", "sync-read"),
    ),
    Invariant(
        "reverse-mapping",
        "a page that is mapped, or that a swap entry leads to, is found there by its reverse mapping (anon_vma, index)",
        "I13; domain.md F33: c50f8e6053b0, 0ea148a79919", (Frame,),
        lambda f: Or(mapped(f), page_swapped(f)), lambda f: Not(misplaced(f)),
        features=("uffd-move",),
    ),
)
"""Invariants about what the default table leaves out."""


def invariant(name: str) -> Invariant:
    """The invariant of that name. Raises ModelError with the nearest names if there is none."""
    for each in (*INVARIANTS, *FURTHER):
        if each.name == name:
            return each
    raise ModelError(f"no invariant {name!r}{nearest(name, [i.name for i in (*INVARIANTS, *FURTHER)])}")
