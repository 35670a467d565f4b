"""Decisions of write faults, of faults for a reader, and of swap-in, as questions to C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import z3
from z3 import And, BoolVal, Implies, Not, Or

from model.decisions import always, never, not_exclusive
from proofs.source.csource import Tree
from proofs.source.findings import ALL, Candidate, DecisionFinding, DecisionReader, absent, of_slot, predicates
from proofs.source.paths import Path
from proofs.source.values import Term, Thing, truth
from proofs.source.vocabulary import (
    ANON,
    FREE,
    PENDING,
    SWAP_FULL,
    UFFD,
    UNSHARE,
    WRITE,
    ZERO,
    swap_vocabulary,
    vocabulary,
)
from proofs.source.world import LOCAL, F, P, V, abstracted, word

NO, YES = BoolVal(False), BoolVal(True)
SMALL = (ANON, Not(word("ksm")), Not(word("large")), Not(word("huge")), Not(word("uffd-wp")), FREE, LOCAL == 0)
SMALL_WORDS = (
    "an anonymous page, no KSM page, of order 0, not uffd-wp; the page lock is free, this CPU's LRU batch empty"
)
COPIES = ("wp_page_copy",)
WP_STOPS = ("wp_page_reuse", "wp_page_copy", "wp_pfn_shared", "wp_page_shared", "handle_userfault", "reuse_ksm_page")


def stops_at(yes: tuple[str, ...], no: tuple[str, ...]) -> Callable[[Path], Term | None]:
    """What a path decides that ends with one of those calls."""
    def outcome(path: Path) -> Term | None:
        if path.end != "stop":
            return None
        return YES if path.value in yes else NO if path.value in no else None
    return outcome


def has(names: tuple[str, ...]) -> Callable[[Path], Term | None]:
    """A path says yes if one of those calls is on it."""
    return lambda path: BoolVal(any(e.name in names for e in path.state.events))


def flags(yes: Any = True, no: Any = False) -> Callable[[], list[Candidate]]:
    """Of a decision with two values: that which always says yes, and that which never does."""
    return lambda: [Candidate(yes, YES), Candidate(no, NO)]


def _wp(
    decision: str, given: tuple[Term, ...], outcome: Any, candidates: Any, words: str, **more: Any
) -> DecisionReader:
    asked = vocabulary(given, stops=more.pop("stops", WP_STOPS), events=more.pop("events", ()))
    return DecisionReader(decision, ("do_wp_page",), asked, outcome, candidates, words, ("mm/memory.c",), **more)


def _frees(path: Path) -> Term | None:
    reuses = stops_at(("wp_page_reuse",), COPIES)(path)
    return None if reuses is None else And(reuses, Not(truth(path.state.world["cached"])))


def _reuse_large() -> list[Candidate]:
    """The kernels' own, and where a kernel has none, what it does with small pages."""
    return predicates("reuse_large", more=[k.reuse for k in ALL if k.reuse_large is None])


def _only_if_locked(copies: Term) -> Term:
    """It copies while the page is locked, and not if it is not."""
    locked, free = (z3.substitute(copies, (FREE, BoolVal(on))) for on in (False, True))
    return And(locked, Not(free))


def _kept(path: Path) -> Term | None:
    if path.end == "return":
        return YES
    return stops_at((), COPIES)(path)


_WRITE = (WRITE, Not(UNSHARE))
_LARGE = (ANON, Not(word("ksm")), word("large"), Not(word("huge")), Not(word("uffd-wp")), Not(word("swap-cache")), FREE,
          LOCAL == 0)
_SOLE = (word("alone"), Not(word("referenced")), Not(word("transient")),
         word("page-mapped-once"), word("mapped-once"), Not(word("swap-cache")))

WRITE_FAULTS: tuple[DecisionReader, ...] = (
    _wp("reuse", (*SMALL[1:], *_WRITE), stops_at(("wp_page_reuse",), COPIES), lambda: [
        Candidate(c.value, And(ANON, c.formula)) for c in predicates("reuse")],
        SMALL_WORDS.replace("an anonymous page, no", "no")),
    _wp("reuse_frees_swap_cache", (*SMALL, *_WRITE), _frees, lambda: [
        Candidate(d, abstracted(d(P, V, F))) for d in (never, always, not_exclusive)],
        f"{SMALL_WORDS}; it is reused, in the swap cache, and not under writeback",
        when=stops_at(("wp_page_reuse",), COPIES), compared=(word("swap-cache"), Not(word("writeback")))),
    _wp("reuse_ksm", (ANON, word("ksm"), Not(word("large")), Not(word("huge")), Not(word("uffd-wp")), FREE,
                      Not(word("exclusive")), LOCAL == 0, *_WRITE),
        stops_at(("wp_page_reuse",), COPIES), lambda: predicates("reuse_ksm"), "a KSM page, which is never exclusive",
        stops=tuple(name for name in WP_STOPS if name != "reuse_ksm_page")),
    _wp("reuse_large", (*_LARGE, *_WRITE), stops_at(("wp_page_reuse",), COPIES), _reuse_large,
        "a sub-page, mapped by a PTE, of a large folio that is not in the swap cache; the lock is free"),
    _wp("trylock", (*SMALL[:-2], LOCAL == 0, *_WRITE, *_SOLE), stops_at(COPIES, ("wp_page_reuse",)), lambda: [
        Candidate(True, YES), Candidate(True, Not(word("exclusive"))), Candidate(False, NO)],
        "a page that nobody else has, but perhaps locked", transform=_only_if_locked),
    _wp("wp_flushes_uffd", (*SMALL, *_WRITE, UFFD, PENDING), has(("flush_tlb_page",)), flags(),
        f"{SMALL_WORDS}; in a VMA registered for uffd-wp, with a TLB flush pending", events=("flush_tlb_page",)),
    _wp("fault_waits_for_writeback", (*SMALL, *_WRITE, word("writeback")), has(("folio_wait_writeback",)), flags(),
        f"{SMALL_WORDS}; under writeback", events=("folio_wait_writeback",)),
    _wp("unshare", (*SMALL, UNSHARE, Not(WRITE), Not(word("exclusive"))), _kept, lambda: predicates("unshare"),
        f"{SMALL_WORDS}; a fault for a reader, of a page that is not exclusive",
        settled=absent("unshare", None, r"\bFAULT_FLAG_UNSHARE\b", files=("mm/memory.c",), anchors=("do_wp_page",))),
)

_HUGE = (ANON, Not(word("ksm")), word("large"), word("huge"), Not(word("uffd-wp")), FREE, LOCAL == 0,
         Not(word("writeback")))
_HUGE_STOPS = ("pmdp_set_access_flags", "__split_huge_pmd", "copy_huge_page_by_pieces", "copy_user_huge_page")
_MAPPED = ("map_anon_folio_pmd_pf",)
_SPLITS = ("__split_huge_pmd",)
_COPIES_HUGE = ("copy_huge_page_by_pieces", "copy_user_huge_page")


HUGE_WORDS = [
    (r"is_huge_zero_(pmd|page)\(.*\)", ZERO), (r"pmd_same\(.*\)|vma->anon_vma", True),
    (r"(vma_alloc_anon_folio_pmd|alloc_hugepage_vma|vma_alloc_folio)\(.*\)", Thing("a new folio")),
    (r"check_stable_address_space\(.*\)", False), (r"vmf->orig_pmd|pmd|\*vmf->pmd|pmdp_get\(.*\)", Thing("pmd")),
]
HUGE_INERT = r"pmdp_huge_clear_flush\w*|transparent_hugepage_enabled|prep_transhuge_page"


def huge(
    decision: str, given: tuple[Term, ...], zero: bool, outcome: Any, candidates: Any, words: str, **more: Any
) -> DecisionReader:
    """A question about a write fault on a PMD that maps a THP, or the huge zero page."""
    asked = vocabulary((*_HUGE, *given, ZERO if zero else Not(ZERO)), HUGE_WORDS, stops=_HUGE_STOPS, events=_MAPPED,
                       inert=HUGE_INERT)
    return DecisionReader(
        decision, ("do_huge_pmd_wp_page",), asked, outcome, candidates, words, ("mm/huge_memory.c",), **more)


def _zero_unshare(tree: Tree) -> DecisionFinding | None:
    return absent("huge_zero_unshare", "split", r"\bFAULT_FLAG_UNSHARE\b", files=("mm/huge_memory.c",),
                  anchors=("do_huge_pmd_wp_page",))(tree)


def _fresh(path: Path) -> Term | None:
    """A fresh THP is mapped, and nothing else done."""
    if path.end == "return":
        return BoolVal(any(e.name in _MAPPED for e in path.state.events))
    return stops_at((), (*_SPLITS, *_COPIES_HUGE))(path)


def _splits(path: Path) -> Term | None:
    fresh = _fresh(path)
    return None if fresh is None else Not(fresh)


_THP = "a THP that a PMD maps, so that it is not under writeback, not the huge zero page; its lock is free"
HUGE_FAULTS: tuple[DecisionReader, ...] = (
    huge("huge_reuse", _WRITE, False, stops_at(("pmdp_set_access_flags",), (*_SPLITS, *_COPIES_HUGE)),
         lambda: predicates("huge_reuse"), _THP),
    huge("huge_copies", _WRITE, False, stops_at(_COPIES_HUGE, (*_SPLITS, "pmdp_set_access_flags")), lambda: [
        Candidate(False, NO), *(Candidate(True, Not(abstracted(k.huge_reuse(P, V, F)))) for k in ALL[:1])], _THP),
    huge("huge_zero_fresh", _WRITE, True, _fresh, flags(), "the huge zero page; there is memory for a THP"),
    huge("huge_zero_unshare", (UNSHARE, Not(WRITE)), True, _splits, flags("split", "as-write"),
         "the huge zero page, a fault for a reader; there is memory for a THP", settled=_zero_unshare),
)

_SWAPPED = (ANON, Not(word("ksm")), Not(word("large")), LOCAL == 0, word("swap-cache"))
_SWAPPED_WORDS = "an order-0 page of the swap cache, no KSM page; this CPU's LRU batch is empty, swap not half full"
MAPS = ("set_ptes", "do_wp_page", "folio_add_anon_rmap_ptes", "folio_add_new_anon_rmap")


def _installed(path: Path) -> bool:
    return any(e.name == "set_ptes" for e in path.state.events) and path.end in ("return", "stop")


def _maps_writable(path: Path) -> Term | None:
    return truth(path.state.world["writable"]) if _installed(path) else None


def leaves_cache(path: Path) -> Term | None:
    """The page that is swapped in is not in the swap cache afterwards."""
    return Not(truth(path.state.world["cached"])) if _installed(path) else None


def _marks_exclusive(path: Path) -> Term | None:
    if not _installed(path):
        return None
    added = [e for e in path.state.events if e.name.startswith("folio_add")]
    return BoolVal(any("RMAP_EXCLUSIVE" in argument for e in added for argument in e.arguments))


def keeps_bits(path: Path) -> Term | None:
    """The page that is swapped in is mapped soft-dirty and uffd-wp where the swap entry was."""
    if not _installed(path):
        return None
    made = {e.name for e in path.state.events}
    return And(Or(Not(word("soft-dirty")), BoolVal("pte_mksoft_dirty" in made)),
               Or(Not(word("uffd-wp")), BoolVal("pte_mkuffd" in made)))


def swap(
    decision: str, given: tuple[Term, ...], outcome: Any, candidates: Any, words: str, **more: Any
) -> DecisionReader:
    """A question about a fault on a swap entry whose page is in the swap cache."""
    asked = swap_vocabulary((*_SWAPPED, *given), events=(*MAPS, *more.pop("events", ())), stops=("do_wp_page",))
    return DecisionReader(decision, ("do_swap_page",), asked, outcome, candidates, words, ("mm/memory.c",), **more)


def _swap_frees() -> list[Candidate]:
    return [Candidate(c.value, And(c.formula, Not(word("slot-writeback"))))
            for c in predicates("swap_in_frees", of_slot)]


def _swap_reuse() -> list[Candidate]:
    """Not where uffd-wp is set; from 6.11 on not where soft-dirty tracking needs a fault either."""
    tracked = Not(word("uffd-wp")), _NO_TRACKING
    return [Candidate(c.value, And(c.formula, free)) for free in tracked for c in predicates("swap_in_reuse", of_slot)]


_NO_TRACKING = And(word("vma-write"), Not(word("uffd-wp")), Or(word("vma-soft-dirty"), word("soft-dirty")))


def _counts() -> list[Candidate]:
    alone = And(Not(word("mapped")), word("swapped-alone"), Not(word("referenced")), Not(word("transient")),
                Not(word("slot-writeback")))
    return [Candidate(False, NO), Candidate(True, alone)]


def _upgrades() -> list[Candidate]:
    kept = Not(And(word("slot-writeback"), word("stable-writes")))
    return [Candidate(False, NO), Candidate(True, And(word("swap-exclusive"), kept, _NO_TRACKING))]


def _no_bit(tree: Tree) -> DecisionFinding | None:
    return absent("swap_in_counts", False, r"\bpte_swp_exclusive\b", files=("mm/memory.c",),
                  anchors=("do_swap_page",))(tree)


SWAP_FAULTS: tuple[DecisionReader, ...] = (
    swap("swap_in_reuse", (*_WRITE, Not(SWAP_FULL), word("vma-write")), _maps_writable, _swap_reuse,
          f"{_SWAPPED_WORDS}; a write fault in a writable VMA"),
    swap("swap_in_frees", (*_WRITE, Not(SWAP_FULL), word("vma-write")), leaves_cache, _swap_frees,
          f"{_SWAPPED_WORDS}; a write fault in a writable VMA; an exclusive swap entry is the only one of its slot",
          compared=(Implies(word("swap-exclusive"), word("swapped-alone")),)),
    swap("swap_in_counts", (Not(WRITE), Not(UNSHARE), SWAP_FULL, Not(word("swap-exclusive"))),
          _marks_exclusive, _counts,
          "a read fault, the swap entry not exclusive, more than half of swap in use", settled=_no_bit),
    swap("swap_in_upgrades", (Not(WRITE), Not(UNSHARE), Not(SWAP_FULL)), _maps_writable, _upgrades,
          f"{_SWAPPED_WORDS}; a read fault"),
)
QUESTIONS = (*WRITE_FAULTS, *HUGE_FAULTS, *SWAP_FAULTS)
