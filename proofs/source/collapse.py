"""Decisions of collapse, __collapse_huge_page_isolate, as questions to C: which PTEs of a block it accepts.

One round of its loop is followed, of one PTE; what it asks of the block afterwards is found as a pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from z3 import And, If, Not, Or

from model.decisions import always, reused_by_mapcount
from proofs.source.faults import NO, YES
from proofs.source.findings import Candidate, DecisionReader, holds
from proofs.source.paths import Path
from proofs.source.values import Term, Thing
from proofs.source.vocabulary import ANON, FREE, VMA, vocabulary
from proofs.source.world import LOCAL, OTHERS, F, P, V, abstracted, word

_ISOLATES = ("__collapse_huge_page_isolate",)
_FILES = ("mm/khugepaged.c",)
_WORDS: list[tuple[str, Any]] = [
    (r"pte|_pte", Thing("ptep")), (r"HPAGE_PMD_NR|nr_pages|1<<.*|order", 512), (r"lru", False),
    (r"\*_pte|ptep_get\(ptep\)|\*ptep", Thing("pte")), (r"pte_none(_or_zero)?\(.*\)|is_zero_pfn\(.*\)", False),
    (r"is_zone_device_page\(page\)|folio_test_lazyfree\(page\)|vma->vm_flags&VM_DROPPABLE", False),
    (r"khugepaged_max_ptes_shared|(khugepaged|collapse)_max_ptes_\w+(\(.*\))?", 256), (r"cc->is_khugepaged", True),
    (r"is_pmd_order\(.*\)|folio_isolate_lru\(page\)", True), (r"isolate_lru_page\(page\)", 0),
    (r"(folio_large_mapcount|total_mapcount|page_trans_huge_mapcount|folio_mapcount)\(page\)", 1 + OTHERS),
    (r"folio_expected_ref_count\(page\)", lambda match, world: 1 + OTHERS + If(world["cached"], 1, 0)),
    (r"folio_test_private\(page\)", False), (r"(compound_nr|folio_nr_pages)\(page\)", 1), (r"p?te_young\(pte\)", True),
]
_INERT = (
    r"release_pte_pages|trace_\w+|mod_node_page_state|node_stat_mod_folio|count_\w+|page_pgdat|folio_order|list_\w+"
    r"|page_is_young|folio_is_young|folio_test_(referenced|young)|PageReferenced|folio_pte_referenced|folio_is_file_lru"
)


def _accepts(path: Path) -> Term | None:
    """The loop goes on with the next PTE."""
    return YES if path.end == "stop" else NO if path.end == "return" else None


def _asked(given: Sequence[Term]) -> Any:
    return vocabulary((ANON, Not(word("ksm")), Not(word("huge")), LOCAL == 0, VMA, FREE, *given), _WORDS, inert=_INERT,
                      once=True)


_SMALL, _PLAIN = Not(word("large")), Not(word("uffd-wp"))
_UNREFERENCED = And(Not(word("referenced")), Not(word("transient")))
_ALONE = (word("alone"), Not(word("referenced")), Not(word("transient")), Not(word("swap-cache")))
QUESTIONS: tuple[DecisionReader, ...] = (
    DecisionReader("collapse_shared", _ISOLATES, _asked((_SMALL, _PLAIN, Not(word("swap-cache")))), _accepts, lambda: [
        Candidate(True, _UNREFERENCED), Candidate(False, And(_UNREFERENCED, word("alone")))],
        "a page of order 0 that is not in the swap cache", _FILES),
    DecisionReader("collapse_compound", _ISOLATES, _asked((word("large"), _PLAIN, *_ALONE)), _accepts,
                   lambda: [Candidate(True, YES), Candidate(False, NO)], "a sub-page of a large folio that a PTE maps",
                   _FILES),
    DecisionReader("collapse_cached", _ISOLATES, _asked((_SMALL, _PLAIN, word("swap-cache"))), _accepts, lambda: [
        Candidate(always, _UNREFERENCED),
        Candidate(reused_by_mapcount, And(_UNREFERENCED, Or(word("writable"),
                                                            abstracted(reused_by_mapcount(P, V, F)))))],
        "a page of order 0 in the swap cache", _FILES),
    DecisionReader("collapse_rechecks_uffd_wp", _ISOLATES, _asked((_SMALL, *_ALONE)), _accepts,
                   lambda: [Candidate(True, _PLAIN), Candidate(False, YES)], "a page of order 0 that nobody else has",
                   _FILES),
)
GRANTED: tuple[DecisionReader, ...] = (
    DecisionReader("collapse takes only pages that nobody refers to", _ISOLATES, _asked((_SMALL,)),
                   lambda path: YES if path.end == "return" else _UNREFERENCED if path.end == "stop" else None, holds,
                   "a page of order 0", _FILES, lapse="collapse-referenced"),
)
