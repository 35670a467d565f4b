"""Decisions of get_user_pages, slow and fast, as questions to C, and what rules take for granted of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from z3 import And, BoolVal, If, Implies, Int, Not, Or

from model import decisions
from model.kernels import FURTHER, KERNELS
from proofs.source.csource import NotRead, Tree
from proofs.source.faults import NO, YES, flags
from proofs.source.findings import (
    PATTERN,
    Candidate,
    DecisionFinding,
    DecisionReader,
    Together,
    absent,
    holds,
    no_exclusive_bit,
)
from proofs.source.others import ANONYMOUS
from proofs.source.paths import Path
from proofs.source.values import Term, Thing, Value, truth
from proofs.source.vocabulary import (
    ANON,
    COW,
    FOLL_PIN,
    FOLL_WRITE,
    FORCE,
    LONGTERM,
    MAPPED,
    MAYWRITE,
    SHARED_VMA,
    vocabulary,
)
from proofs.source.world import LOCAL, F, P, V, abstracted, solved, word

_FILES = ("mm/gup.c",)
_HEADERS = ("include/linux/mm.h", "mm/internal.h", "mm/gup.c")


def _distinct(decision: str, formula: Any) -> list[Candidate]:
    values = {id(v): v for v in (getattr(k, decision) for k in (*KERNELS, *FURTHER))}
    return [Candidate(v, formula(v)) for v in values.values()]


def _gup_values() -> list[Candidate]:
    def formula(value: Any) -> Term:
        pinned, got = (abstracted(value(P, V, F, pin)) for pin in (True, False))
        return If(FOLL_PIN, pinned, got)
    return _distinct("read_gup", formula)


def _nonanon_values() -> list[Candidate]:
    def formula(value: Any) -> Term:
        asked = {(pin, term): abstracted(value(P, V, F, pin, term)) for pin in (True, False) for term in (True, False)}
        return If(FOLL_PIN, If(LONGTERM, asked[True, True], asked[True, False]), asked[False, False])
    return _distinct("read_gup_nonanon", formula)


def _force_values() -> list[Candidate]:
    """With what C asks beyond the model, where VMAs are private and may be written."""
    cow, exclusive = And(FORCE, COW), And(
        FORCE, Not(SHARED_VMA), MAYWRITE, Not(word("vma-write")), ANON, word("exclusive"), Not(word("uffd-wp")),
        Or(word("vma-soft-dirty"), word("soft-dirty")))
    values = {"dirty": And(cow, word("dirty")), "exclusive": exclusive, "retry-as-read": cow}
    return [Candidate(value, Or(word("writable"), formula)) for value, formula in values.items()]


_READ_GUP = (Not(FOLL_WRITE), Not(word("writable")))
_GUP_WORDS: list[tuple[str, Any]] = [
    (r"vma_is_secretmem\(.*\)|is_vm_hugetlb_page\(vma\)|pmd_bad\(.*\)|pte_devmap\(pte\)|pte_special\(pte\)", False),
    (r"folio_is_secretmem\(page\)|page_is_secretmem\(page\)|flags&FOLL_(SPLIT|MLOCK|DUMP|TOUCH)", False),
    (r"gup_(can_follow_protnone|fast_folio_allowed|allow_\w+)\(.*\)", True),
    (r"pte_access_permitted\(pte,flags&FOLL_WRITE\)", Or(Not(FOLL_WRITE), word("writable"))),
    (r"folio_fast_pin_allowed\(.*\)", True),
    (r"try_grab_page\(page,.*\)", 1), (r"try_grab_folio\(.*\)", 0), (r"arch_make_(folio|page)_accessible\(page\)", 0),
    (r"ERR_PTR\(.*\)", lambda match, world: Thing(match[0])),
    (r"pte_page\(pte\)", Thing("page")), (r"pte_offset_map\w*\(.*\)", Thing("ptep")), (r"flags&FOLL_GET", False),
]
_GUP_INERT = (
    r"(folio|page)_(mark|set)_\w+|mark_page_accessed|SetPageReferenced|gup_put_folio|put_\w+|unpin_user_page|undo_\w+"
)


def _taken(path: Path) -> Term | None:
    """The path returns the page; for an error, or NULL, the caller has it faulted in."""
    if path.end != "return":
        return None
    given = path.value
    if given == Thing("page"):
        return YES
    return NO if given in (0, Thing("ERR_PTR(-EMLINK)")) else None


def _no_other_way(tree: Tree) -> None:
    """Raises NotRead where __get_user_pages changes the flags of reads, so that follow_page_pte says only half."""
    if place := tree.mentions(r"\b(should_force_cow_break|FOLL_BREAK_COW)\b", *_FILES):
        raise NotRead(f"the flags of reads are changed at {place}, which follow_page_pte does not see")


def _made_writes(decision: str, value: Any) -> Callable[[Tree], DecisionFinding | None]:
    """That value, where reads of COW mappings become writes (17839856fd58, 5.8): found as a pattern."""
    def settled(tree: Tree) -> DecisionFinding | None:
        place = tree.mentions(r"if \(should_force_cow_break\([^;]*\)\)\s*foll_flags \|= FOLL_WRITE;", *_FILES)
        return (place and DecisionFinding(decision, PATTERN, (value,), (f"reads are made writes at {place}",))) or None
    return settled


def _slow(decision: str, given: tuple[Term, ...], candidates: Any, words: str, **more: Any) -> DecisionReader:
    return DecisionReader(
        decision, ("follow_page_pte",), vocabulary((*given, *_READ_GUP), _GUP_WORDS, inert=_GUP_INERT), _taken,
        candidates, words, _FILES, also=_no_other_way, **more)


def _asked_by(name: str, *callers: str, files: tuple[str, ...] = ()) -> Callable[[Tree], None]:
    """Raises NotRead unless one of the callers calls it: else what it says decides nothing."""
    def also(tree: Tree) -> None:
        for caller in callers:
            found = tree.find(caller, files)
            if found is not None and f"{name}(" in found.node.text.decode("utf-8", "replace"):
                return
        raise NotRead(f"{name} is called by none of {', '.join(callers)}")
    return also


def in_order(*names: str) -> Callable[[Path], Term | None]:
    """A path that returns says yes if each of those calls on it that is not the first comes after the one before."""
    def outcome(path: Path) -> Term | None:
        if path.end != "return":
            return None
        called = [e.name for e in path.state.events]
        places = [[n for n, name in enumerate(called) if name == wanted] for wanted in names]
        return BoolVal(all(not later or bool(earlier and min(earlier) < min(later))
                           for earlier, later in itertools.pairwise(places)))
    return outcome


def _shared_in_order(path: Path) -> Term | None:
    """Where PG_anon_exclusive goes: a barrier, the test of pins, the bit, a barrier."""
    if path.end != "return":
        return None
    called = [e.name for e in path.state.events]
    if "ClearPageAnonExclusive" not in called:
        return YES
    wanted = ["smp_mb", "folio_maybe_dma_pinned", "ClearPageAnonExclusive", "smp_mb__after_atomic"]
    return BoolVal([name for name in called if name in wanted] == wanted)


def _throughout(formula: Term) -> Term:
    """It is so in every state, or it is not so."""
    return BoolVal(solved((*MAPPED, *ANONYMOUS), Not(formula)) is None)


_READER = DecisionReader(
    "gup_fast_ordered", ("gup_must_unshare",),
    vocabulary((*ANONYMOUS, *_READ_GUP, FOLL_PIN), events=("smp_rmb", "smp_mb", "PageAnonExclusive")),
    in_order("smp_rmb", "PageAnonExclusive"), flags(), "a FOLL_PIN for reading of an anonymous page", _HEADERS,
    transform=_throughout,
    settled=no_exclusive_bit("gup_fast_ordered", False))
_SHARER = DecisionReader(
    "gup_fast_ordered", ("folio_try_share_anon_rmap_pte", "page_try_share_anon_rmap"),
    vocabulary((*ANONYMOUS, word("exclusive")), events=(
        "smp_mb", "smp_mb__after_atomic", "folio_maybe_dma_pinned", "ClearPageAnonExclusive")),
    _shared_in_order, flags(), "an exclusive page that is made shared", ("include/linux/rmap.h",),
    transform=_throughout,
    settled=no_exclusive_bit("gup_fast_ordered", False))


def _all_true(values: list[Any]) -> list[Any]:
    return [all(values)]


QUESTIONS: tuple[DecisionReader | Together, ...] = (
    _slow("read_gup", ANONYMOUS, _gup_values, "an anonymous page of order 0, a read, the PTE read-only",
          parameters=(("foll_pin", FOLL_PIN),), settled=_made_writes("read_gup", decisions.read_as_write)),
    _slow("read_gup_nonanon", (Not(ANON), Not(word("ksm")), Not(word("large"))), _nonanon_values,
          "a page of the page cache or the zero page, a read, the PTE read-only",
          parameters=(("foll_pin", FOLL_PIN), ("longterm", LONGTERM)),
          settled=_made_writes("read_gup_nonanon", decisions.never)),
    DecisionReader("force_proof", ("can_follow_write_pte",),
                   vocabulary((Not(word("ksm")), Not(word("large")), Not(word("huge")), LOCAL == 0, FOLL_WRITE), [
                       (r"vma->vm_flags&VM_(SHARED|MAYSHARE)", SHARED_VMA), (r"vma->vm_flags&VM_MAYWRITE", MAYWRITE)]),
                   lambda path: truth(path.value) if path.end == "return" and path.value is not None else None,
                   _force_values, "a write to a page of order 0, no KSM page", _FILES,
                   also=_asked_by("can_follow_write_pte", "follow_page_pte", files=_FILES)),
    Together("gup_fast_ordered", (_READER, _SHARER), _all_true),
)

# GUP-fast, which has no VMA and takes no lock

_OLD_PTE, _NEW_PTE = Int("the PTE that was read"), Int("the PTE now")
_OLD_PMD, _NEW_PMD = Int("the PMD that was read"), Int("the PMD now")


def _read_again(match: Any, world: Mapping[str, Value]) -> Value:
    return Thing("pte now") if world.get("grabbed") else Thing("pte")


_FAST_WORDS: list[tuple[str, Any]] = [
    (r"ptep_get(_lockless)?\(ptep\)|gup_get_pte\(ptep\)|\*ptep", _read_again),
    (r"pmdp_get(_lockless)?\(pmdp\)|\*pmdp", Thing("pmd now")), (r"pmd", Thing("pmd")),
    (r"pte_val\(pte\)", _OLD_PTE), (r"pte_val\(pte now\)", _NEW_PTE), (r"pmd_val\(pmd\)", _OLD_PMD),
    (r"pmd_val\(pmd now\)", _NEW_PMD), (r"try_grab_(folio|folio_fast|compound_head)\(.*\)", Thing("page")),
]


def _grab(world: dict[str, Value]) -> dict[str, Value]:
    return {**world, "grabbed": True}


_GRABS = ("try_grab_folio", "try_grab_folio_fast", "try_grab_compound_head")


def _if_taken(needs: Term) -> Callable[[Path], Term | None]:
    """In the round of one PTE: what holds of a page that is taken."""
    def outcome(path: Path) -> Term | None:
        if path.end == "stop":
            return And(needs, truth(path.state.world.get("grabbed", False)))
        return YES if path.end == "return" else None
    return outcome


def _fast(name: str, given: tuple[Term, ...], needs: Term, words: str, **more: Any) -> DecisionReader:
    asked = vocabulary(given, [*_FAST_WORDS, *_GUP_WORDS], once=True, inert=_GUP_INERT,
                       effects=dict.fromkeys(_GRABS, _grab))
    return DecisionReader(name, ("gup_fast_pte_range", "gup_pte_range"), asked, _if_taken(needs), holds, words, _FILES,
                          **more)


_AGAIN = "GUP-fast looks at the PTE and the PMD again once it holds the page"
_UNSHARES = "GUP-fast leaves pages that are not exclusive to slow GUP"
_NO_VMA = "GUP-fast, which has no VMA, leaves what is no anonymous page to slow GUP if it is for long"
GRANTED: tuple[DecisionReader, ...] = (
    _fast(_AGAIN, ANONYMOUS, And(_OLD_PTE == _NEW_PTE, _OLD_PMD == _NEW_PMD), "an anonymous page of order 0",
          lapse="gup-fast-no-second-look"),
    _fast(_UNSHARES, (*ANONYMOUS, FOLL_PIN), Or(word("writable"), FOLL_WRITE, word("exclusive")),
          "an anonymous page of order 0, FOLL_PIN",
          settled=no_exclusive_bit(_UNSHARES), lapse="gup-fast-takes-shared"),
    _fast("GUP-fast takes for writing only what the PTE maps writable", (*ANONYMOUS, FOLL_WRITE), word("writable"),
          "an anonymous page of order 0, FOLL_WRITE", lapse="gup-fast-writes-read-only"),
    _fast(_NO_VMA, (Not(ANON), Not(word("ksm")), Not(word("large")), FOLL_PIN, LONGTERM, Not(FOLL_WRITE)),
          Implies(Not(word("writable")), NO), "a page of the page cache or the zero page, FOLL_PIN | FOLL_LONGTERM",
          settled=absent(_NO_VMA, None, r"gup_must_unshare\(struct vm_area_struct", files=_HEADERS,
                         anchors=("follow_page_pte",)), lapse="gup-fast-takes-files"),
)
