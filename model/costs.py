"""What a kernel's decisions cost: page locks taken and counters read while a write fault finds out whose a page is.

A predicate of `decisions.py` says what is decided; its `Evaluation` here says how the kernel finds out, and prices.py
which steps ask. Copies of pages and swap slots left behind are read off the rules themselves (proofs/cost). Counts are
linear in N, the sub-pages of a large folio (HPAGE_PMD_NR, 512 on x86-64). Sources: do_wp_page, do_swap_page
(mm/memory.c), do_huge_pmd_wp_page, __split_huge_pmd (mm/huge_memory.c), reuse_swap_page,
page_trans_huge_map_swapcount, try_to_free_swap (mm/swapfile.c), free_swap_cache (mm/swap_state.c), at the commits
named and in Debian's 5.10, 6.12 and 7.2.

KSM pages are not priced, nor is what free_swap_cache reads of a large folio.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from z3 import And, BoolVal, Not

from model.logic import Term
from model.state import (
    exclusive,
    in_swap_cache,
    large,
    mapped,
    mapped_only_by,
    mapped_only_in,
    unreferenced,
)

LOCKS, MAPCOUNTS, SWAPCOUNTS = "page locks", "mapcount reads", "swapcount reads"


@dataclass(frozen=True)
class Count:
    """ones + subpages * N + pages * P: N sub-pages of a large folio, at least 2; P pages of the process, at least 1."""

    ones: int = 0
    subpages: int = 0
    pages: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.ones + other.ones, self.subpages + other.subpages, self.pages + other.pages)

    def at(self, subpages: int, pages: int = 1) -> int:
        """The number for those sizes."""
        return self.ones + self.subpages * subpages + self.pages * pages

    def __str__(self) -> str:
        parts = [
            letter if times == 1 else f"{times}{letter}"
            for times, letter in ((self.subpages, "N"), (self.pages, "P")) if times
        ]
        return "+".join([*parts, *([str(self.ones)] if self.ones or not parts else [])])


ONE = Count(1)
PER_SUBPAGE = Count(0, 1)


@dataclass(frozen=True)
class Charge:
    """`count` of `meter`, paid where `when` holds in the state in which the step begins. `source`: who pays it."""

    meter: str
    count: Count
    when: Term
    source: str

    def where(self, condition: Term) -> Charge:
        """The same, paid only where the condition holds too."""
        return replace(self, when=And(condition, self.when))


Asked = Callable[[Term, Term, Term], Term]
"""Of (p, v, f): a Bool term."""


def _no(*_: Term) -> Term:
    return BoolVal(False)


def _yes(*_: Term) -> Term:
    return BoolVal(True)


def _nothing(*_: Term) -> list[Charge]:
    return []


@dataclass(frozen=True)
class Evaluation:
    """How a kernel finds out whether a predicate holds of the page f that (p, v) maps.

    settled(p, v, f)   a flag of the page says yes, before anything else is looked at
    hopeful(p, v, f)   else a glance without the page lock does not rule it out; so do_wp_page takes or tries the lock
    reads(p, v, f)     counters that are then read
    locks              it needs the page lock
    """

    settled: Asked = _no
    hopeful: Asked = _yes
    reads: Callable[[Term, Term, Term], list[Charge]] = _nothing
    locks: bool = True


Decision = TypeVar("Decision", bound=Callable[..., Term])
EVALUATIONS: dict[Any, Evaluation] = {}
"""Predicate to how it is evaluated."""


def evaluated(how: Evaluation) -> Callable[[Decision], Decision]:
    """Decorator of a predicate: how the kernel evaluates it. A predicate of one's own needs it to have a cost."""

    def wrap(predicate: Decision) -> Decision:
        EVALUATIONS[predicate] = how
        return predicate

    return wrap


# Ways of finding out.

NOTHING = Evaluation(hopeful=_no)
"""Nothing is looked at."""


def _every_sub_page(p: Term, v: Term, f: Term) -> list[Charge]:
    who = "reuse_swap_page, page_trans_huge_map_swapcount"
    swap_cache = in_swap_cache(f)
    return [
        Charge(MAPCOUNTS, ONE, Not(large(f)), who),
        # Each sub-page's _mapcount, whichever of them was written to, and the compound mapcount.
        Charge(MAPCOUNTS, PER_SUBPAGE + ONE, large(f), who),
        Charge(SWAPCOUNTS, ONE, And(Not(large(f)), swap_cache), who),
        Charge(SWAPCOUNTS, PER_SUBPAGE, And(large(f), swap_cache), f"{who} (CONFIG_THP_SWAP)"),
    ]


BY_MAPCOUNT = Evaluation(reads=_every_sub_page)
"""Under the page lock, whatever the counts: do_wp_page and do_huge_pmd_wp_page up to 5.8, the latter up to 5.17."""


def _alone(p: Term, v: Term, f: Term) -> Term:
    return And(mapped_only_by(p, v, f), unreferenced(f))


def _mapcount_again(p: Term, v: Term, f: Term) -> list[Charge]:
    return [
        Charge(MAPCOUNTS, ONE, Not(large(f)), "do_wp_page, page_mapcount"),
        Charge(MAPCOUNTS, Count(2), large(f), "do_wp_page, page_mapcount (its own and the compound one)"),
    ]


BY_PAGE_COUNT = Evaluation(
    hopeful=lambda p, v, f: And(_alone(p, v, f), Not(in_swap_cache(f))), reads=_mapcount_again
)
"""page_count first; the lock is tried, and mapcount read, only where that is 1 (09854ba94c6a)."""


def _swap_count(p: Term, v: Term, f: Term) -> list[Charge]:
    who = "try_to_free_swap, page_swapped"
    return [
        Charge(SWAPCOUNTS, ONE, And(Not(large(f)), in_swap_cache(f)), who),
        Charge(SWAPCOUNTS, PER_SUBPAGE, And(large(f), in_swap_cache(f)), f"{who} (CONFIG_THP_SWAP)"),
    ]


BY_PAGE_COUNT_AFTER_SWAP_CACHE = Evaluation(hopeful=_alone, reads=_swap_count)
"""page_count less the swap cache's reference first; then the lock, and try_to_free_swap (53a05ad9f21d)."""
BY_FLAG = Evaluation(settled=lambda p, v, f: exclusive(f), hopeful=_no)
"""PG_anon_exclusive alone."""
BY_FLAG_OR_PAGE_COUNT = replace(BY_PAGE_COUNT_AFTER_SWAP_CACHE, settled=BY_FLAG.settled)
"""PG_anon_exclusive, else as 5.18 (6c287605fd56)."""


def _large_mapcount(p: Term, v: Term, f: Term) -> list[Charge]:
    who = "__wp_can_reuse_large_anon_folio, folio_large_mapcount"
    own = mapped_only_in(p, f)
    return [
        Charge(MAPCOUNTS, ONE, BoolVal(True), who), Charge(MAPCOUNTS, ONE, own, who),
        Charge(MAPCOUNTS, ONE, And(own, unreferenced(f)), f"{who}, again under its bit lock"),
    ]


BY_FLAG_OR_MM_ID = Evaluation(settled=BY_FLAG.settled, reads=_large_mapcount, locks=False)
"""PG_anon_exclusive, else one counter for the large folio, without the page lock (1da190f4d0a6; read in 7.2)."""


def _swapped_in_by_mapcount(p: Term, v: Term, f: Term) -> list[Charge]:
    return [Charge(MAPCOUNTS, ONE, BoolVal(True), "reuse_swap_page"),
            Charge(SWAPCOUNTS, ONE, BoolVal(True), "reuse_swap_page, page_swapcount")]


SWAP_IN_BY_MAPCOUNT = Evaluation(reads=_swapped_in_by_mapcount)
"""reuse_swap_page on the page that was read in (up to 5.17)."""
SWAP_IN_BY_PAGE_COUNT = Evaluation(reads=lambda p, v, f: [
    Charge(SWAPCOUNTS, ONE, And(Not(mapped(f)), unreferenced(f)), "should_try_to_free_swap, try_to_free_swap"),
])
"""page_count == 2 first, then try_to_free_swap (c145e0b47c77); asked for where the entry is exclusive, too."""
