"""Whether an entry is looked at again when its lock has been taken, before it is changed, as questions to C.

Each taking and each giving up of a page-table lock begins a new time. `pte_same` and `pmd_same` say whether the entry
is at this time what the fault saw; what is put in its place must rest on the answer of the time at which that is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from z3 import And, Bool, BoolVal, Int, Not

from proofs.source.entries import COPY_INERT, COPY_WORDS, HINT_INERT, HINT_WORDS
from proofs.source.expressions import Vocabulary
from proofs.source.faults import HUGE_INERT, HUGE_WORDS, MAPS
from proofs.source.findings import DecisionReader, holds
from proofs.source.others import KSM_INERT
from proofs.source.paths import Path
from proofs.source.values import Term, Thing, Value, truth
from proofs.source.vocabulary import ANON, swap_vocabulary, vocabulary
from proofs.source.world import LOCAL, word

_LOCKS = ("pte_offset_map_lock", "pte_unmap_unlock", "spin_lock", "spin_unlock", "pmd_lock", "pte_offset_map_rw_nolock")
_OTHER_LOCKS = tuple(f"spin_{way}(&{of}->lock)" for way in ("lock", "unlock") for of in ("si", "ci"))
"""Of swap, not of page tables."""
_SAME = r"p[tm][ed]_same\(.*\)"
_PLAIN = (ANON, Not(word("ksm")), LOCAL == 0)
_SMALL = (*_PLAIN, Not(word("large")), Not(word("huge")))
_THP = (*_PLAIN, word("large"), word("huge"))


def _unchanged(time: int, held: bool) -> Term:
    """The entry is what was read; at first only if the caller holds the lock."""
    return BoolVal(True) if held and time == 0 else Bool(f"the entry is what was read, at time {time}")


def _timed(known: Vocabulary, sets: Sequence[str], held: bool) -> Vocabulary:
    """The vocabulary in which `pte_same` is asked at a time, and `sets` change the entry at one."""
    def asked(match: Any, world: Mapping[str, Value]) -> Term:
        return _unchanged(world["time"], held)

    def moved(world: dict[str, Value]) -> dict[str, Value]:
        return {**world, "time": world["time"] + 1}

    def put(world: dict[str, Value]) -> dict[str, Value]:
        return {**world, "looked": And(world["looked"], _unchanged(world["time"], held))}

    effects = {**known.effects, **dict.fromkeys(_LOCKS, moved), **dict.fromkeys(_OTHER_LOCKS, dict),
               **dict.fromkeys(sets, put)}
    return replace(known, words=[(_SAME, asked), *known.words], effects=effects,
                   start={**known.start, "time": 0, "looked": BoolVal(True)})


def _question(
    fact: str, functions: tuple[str, ...], file: str, known: Vocabulary, sets: Sequence[str], words: str,
    held: bool = False, stop: str = "", lapse: str = "",
) -> DecisionReader:
    """Whether all `sets`, and the call `stop` at which a path ends, come after a look at their time.

    held: the caller has the lock and has looked.
    """
    def outcome(path: Path) -> Term | None:
        looked = truth(path.state.world["looked"])
        if path.end == "stop" and path.value == stop:
            return And(looked, _unchanged(path.state.world["time"], held))
        return looked if path.end in ("return", "stop") else None

    return DecisionReader(fact, functions, _timed(known, sets, held), outcome, holds, words, (file,), lapse=lapse)


_MIGRATES: list[tuple[str, Any]] = [
    (r"migrate_misplaced_(page|folio|transhuge_page)\(.*\)", Bool("the page is moved")),
    (r"(numa_migrate_(prep|check)|mpol_misplaced)\(.*\)", Int("the node that it belongs to")), (r"NUMA_NO_NODE", -1),
    (r"migrate_misplaced_folio_prepare\(.*\)", Bool("it cannot be isolated")),
    (r"numa_node_id\(\)", Thing("this node")),
    (r"folio_nid\(.*\)|page_to_nid\(.*\)", Thing("its node")),
]


def _of_hint(given: Sequence[Term], commit: str) -> Vocabulary:
    return vocabulary((*given, word("vma-write")), [*_MIGRATES, *HINT_WORDS], events=(commit,),
                      inert=rf"{HINT_INERT}|get_page\w*|put_and_wait_on_page_locked")


_REPLACED: list[tuple[str, Any]] = [
    (r"page_address_in_vma\(.*\)", Thing("its address")), (r"mm_find_pmd\(.*\)", Thing("pmd")),
    (r"pmdp_get_lockless\(.*\)", Thing("pmd")), (r"(folio|page)_mapped\(page\)", Bool("it is mapped elsewhere")),
    (r"pmd_present\(.*\)", True), (r"pmd_trans_huge\(.*\)", False), (r"kpage|page_folio\(kpage\)", Thing("kpage")),
    (r"is_zero_pfn\(.*\)", Bool("the zero page takes its place")),
]
_ONE = "an anonymous page of order 0"
GRANTED: tuple[DecisionReader, ...] = (
    _question("a copy is mapped only where the PTE is still what was copied", ("wp_page_copy",), "mm/memory.c",
              vocabulary(_SMALL, COPY_WORDS, inert=COPY_INERT), ("set_ptes", "set_pte_at_notify", "ptep_clear_flush",
                                                                 "ptep_clear_flush_notify"),
              f"{_ONE}, a fault that copies", lapse="copy-no-second-look"),
    _question("a page is reused only where the PTE is still what was read", ("do_wp_page",), "mm/memory.c",
              vocabulary(_SMALL, stops=("wp_page_reuse", "wp_page_copy", "handle_userfault")), (), f"{_ONE}, a fault",
              held=True, stop="wp_page_reuse"),
    _question("a THP is reused only where the PMD is still what was read", ("do_huge_pmd_wp_page",),
              "mm/huge_memory.c",
              vocabulary(_THP, HUGE_WORDS, stops=("pmdp_set_access_flags", "__split_huge_pmd",
                                                  "copy_huge_page_by_pieces", "copy_user_huge_page"),
                         inert=HUGE_INERT),
              ("set_pmd_at", "map_anon_folio_pmd_pf"), "a THP, or the huge zero page",
              stop="pmdp_set_access_flags"),
    _question("swap-in maps the page only where the PTE is still the swap entry", ("do_swap_page",), "mm/memory.c",
              swap_vocabulary((ANON, Not(word("ksm")), Not(word("large")), LOCAL == 0, word("swap-cache")),
                              events=MAPS, stops=("do_wp_page",)), ("set_ptes",), "an order-0 page of the swap cache"),
    _question("a NUMA hint is taken back only where the PTE is still what was read", ("do_numa_page",), "mm/memory.c",
              _of_hint(_SMALL, "ptep_modify_prot_commit"), ("ptep_modify_prot_commit",), f"{_ONE}, moved or not"),
    _question("a THP's NUMA hint is taken back only where the PMD is still what was read",
              ("do_huge_pmd_numa_page",), "mm/huge_memory.c", _of_hint(_THP, "set_pmd_at"), ("set_pmd_at",),
              "a THP, moved or not"),
    _question("ksmd merges only where the PTE is still what it compared", ("replace_page",), "mm/ksm.c",
              vocabulary(_SMALL, _REPLACED, inert=rf"{KSM_INERT}|{COPY_INERT}|get_page|pfn_pte|pte_mkspecial|barrier"),
              ("ptep_clear_flush", "set_ptes", "set_pte_at_notify"), _ONE),
)
