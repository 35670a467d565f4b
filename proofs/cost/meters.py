"""What operations cost, kernel by kernel: page locks, mapcount and swapcount reads, copies of pages, slots left behind.

An operation is the faults that a memory access may raise one after the other, undisturbed. Which faults follow which is
asked of a solver: the next fault's guard, said of the state before. So is which of the things that `model/costs.py`
charges can be due together; the sums that can be are the operation's costs. Copies are the updates that write one
page's content to a fresh page; slots left behind are what `cached` says after the faults. The greatest cost is then
sought in a scope, by exploration, and its trace executed; that nothing is dearer is asked of z3 and cvc5, for any
number of processes, pages, frames, references, slots, and sub-pages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import z3
from z3 import And, BoolVal, Not

from model.costs import LOCKS, MAPCOUNTS, SWAPCOUNTS
from model.logic import Term, exists, forall
from model.state import (
    Page,
    Proc,
    Slot,
    anon,
    cached,
    in_writeback,
    large,
    mapped,
    pte_frame,
    pte_huge,
    pte_present,
    pte_slot,
    pte_swap,
    slot_frame,
    swaps,
    writeback,
)

COPIES, SLOTS = "page copies", "slots left"
METERS: dict[str, str] = {
    LOCKS: "page-lock acquisitions, attempts of trylock_page included",
    MAPCOUNTS: "reads of a mapcount",
    SWAPCOUNTS: "reads of a swap count",
    COPIES: "pages copied",
    SLOTS: "swap slots, each with its page, that are held afterwards though no page table leads to them any more",
}
"""What is counted, each explained."""
DEPTH = 4
"""Faults that one access may raise; an operation that can raise more is an error here."""
SECONDS = 20.0
"""Time limit of one solver query, and of one exploration."""
SHOWN = (
    "v5.7", "v5.8", "v5.9", "v5.14", "v5.18", "v5.19", "v6.12", "v6.15", "break-cow", "mapcount-unshare",
)
"""Kernels that cost something else than the one before them, and two proposals."""

P_, V_ = z3.Const("p", Proc), z3.Const("v", Page)


@dataclass(frozen=True)
class MeteredAccess:
    """An access by (p, v) in the states where `start` holds. `access`: as in model/operations.py; or a rule's name.

    `shared`: it is a fault of the fork-heavy workload.
    """

    name: str
    about: str
    access: str
    start: Callable[[Term, Term], Term]
    features: tuple[str, ...] = ()
    shared: bool = False


def _maps(p: Term, v: Term) -> Term:
    return And(pte_present(p, v), Not(pte_swap(p, v)), anon(pte_frame(p, v)))


def small(p: Term, v: Term) -> Term:
    """A page under writeback keeps its slot, whatever the kernel's rules."""
    f = pte_frame(p, v)
    return And(_maps(p, v), Not(pte_huge(p, v)), Not(large(f)), Not(in_writeback(f)))


def swapped(p: Term, v: Term) -> Term:
    return And(pte_swap(p, v), Not(pte_present(p, v)), Not(writeback(pte_slot(p, v))))


def _sub_page(p: Term, v: Term) -> Term:
    return And(_maps(p, v), Not(pte_huge(p, v)), large(pte_frame(p, v)))


def _thp(p: Term, v: Term) -> Term:
    return And(_maps(p, v), pte_huge(p, v), large(pte_frame(p, v)))


OPERATIONS: tuple[MeteredAccess, ...] = (
    MeteredAccess("write small", "a write to a small page mapped read-only", "store", small, shared=True),
    MeteredAccess("write swapped", "a write to a page that is swapped out", "store", swapped),
    MeteredAccess("pin small", "FOLL_PIN for reading, of a small page mapped read-only", "read-gup", small),
    MeteredAccess("fork", "fork, small pages", "fork", lambda p, v: BoolVal(True)),
    MeteredAccess("write sub-page", "a write to a sub-page of a THP, mapped read-only by a PTE", "store", _sub_page,
                  ("huge",), shared=True),
    MeteredAccess("write THP", "a write to a THP mapped read-only by a PMD", "store", _thp, ("huge",), shared=True),
)


# Slots.

def idle(s: Term) -> Term:
    """The slot is held by the swap cache alone: no swap entry names it."""
    return And(cached(s), Not(exists(Proc, Page, lambda q, w: swaps(q, w, s))))


def slot_left(s: Term) -> Term:
    """... and no page table has its page."""
    return And(idle(s), Not(mapped(slot_frame(s))))


@dataclass(frozen=True)
class Lemma:
    """What the bounds assume of states, with the features that make it worth saying; proved for each kernel."""

    name: str
    formula: Term
    features: tuple[tuple[str, ...], ...] = ((), ("huge",))


LEMMAS: tuple[Lemma, ...] = (
    Lemma("a page is in the swap cache under one slot", forall(
        Slot, Slot, lambda s, t: z3.Implies(And(cached(s), cached(t), slot_frame(s) == slot_frame(t)), s == t)
    )),
    # Reclaim of this model splits a THP first.
    Lemma("no part of a large folio is in the swap cache", forall(
        Slot, lambda s: Not(And(cached(s), large(slot_frame(s))))
    ), (("huge",),)),
)
