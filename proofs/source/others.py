"""Decisions of fork, write-protecting, NUMA hinting, KSM and migration, as questions to C."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from z3 import And, Bool, BoolVal, Not

from model import decisions
from proofs.source.expressions import Vocabulary
from proofs.source.faults import NO, YES, stops_at
from proofs.source.findings import Candidate, DecisionReader, absent, predicates
from proofs.source.paths import Path
from proofs.source.values import Flags, Term, Thing, truth
from proofs.source.vocabulary import (
    ANON,
    OWNED,
    PROTNONE,
    VMA,
    vocabulary,
)
from proofs.source.world import LOCAL, REFERENCES, TRANSIENT, word

ANONYMOUS = (ANON, Not(word("ksm")), Not(word("large")), Not(word("huge")), LOCAL == 0, VMA)


def returns(path: Path) -> Term | None:
    """What the function answers."""
    return truth(path.value) if path.end == "return" and path.value is not None else None


def refuses(path: Path) -> Term | None:
    """The function does not answer yes."""
    answer = returns(path)
    return None if answer is None else Not(answer)


def succeeds(path: Path) -> Term | None:
    """The function answers 0, and no error."""
    if path.end != "return":
        return None
    if isinstance(path.value, Flags):
        return BoolVal(path.value.names == {"MIGRATEPAGE_SUCCESS"})
    return BoolVal(path.value == 0) if isinstance(path.value, int) else None if path.value is None else Not(
        truth(path.value)) if not isinstance(path.value, Thing) else NO


COPY_STOPS = ("copy_mc_user_highpage",)
FORK_WORDS = [
    (r"\*prealloc", Thing("new page")), (r"child->vm_mm", Thing("child mm")),
    (r"userfaultfd_(wp|rwp|protected)\(child\)", Bool("the child is registered with userfaultfd")),
    (r"vma->vm_flags", Thing("vma->vm_flags")), (r"rss\[.*\]", Thing("rss", null=True)), (r"addr", Thing("addr")),
]


def _copies(path: Path) -> Term | None:
    if path.end == "stop":
        return stops_at(COPY_STOPS, ())(path)
    return NO if path.end == "return" else None


FORK: tuple[DecisionReader, ...] = (
    DecisionReader("fork_copies", ("copy_present_ptes", "copy_present_pte"),
                   vocabulary((*ANONYMOUS, Not(word("uffd-wp"))), FORK_WORDS, stops=COPY_STOPS, inert=r"page_add_\w+"),
                   _copies, lambda: predicates("fork_copies"),
                   "an anonymous page of order 0 in a private VMA; there is memory for a copy", ("mm/memory.c",)),
)


def _clears(path: Path) -> Term | None:
    if path.end == "return":
        return BoolVal(any(e.name == "ptep_modify_prot_commit" for e in path.state.events))
    return None


_PINNED = And(word("writable"), word("has-pinned"), word("pinned"))
_STARTS = ("ptep_modify_prot_start", "modify_prot_start_ptes")


def _protects(path: Path) -> Term | None:
    """In a round of the loop: the PTE is changed, or left alone."""
    if path.end == "stop":
        return BoolVal(path.value in _STARTS)
    return None


NUMA_WORDS: list[tuple[str, Any]] = [
    (r"page_to_nid\(page\)|folio_nid\(page\)", Thing("its node")), (r"numa_node_id\(\)", Thing("this node")),
    (r"NUMA_NO_NODE", Thing("no node")), (r"sysctl_numa_balancing_mode&NUMA_BALANCING_NORMAL", True),
    (r"sysctl_numa_balancing_mode&NUMA_BALANCING_MEMORY_TIERING|folio_use_access_time\(page\)", False),
    (r"node_is_toptier\(.*\)", True),
    (r"(page|folio)_is_file_lru\(page\)|PageDirty\(page\)|folio_test_dirty\(page\)", False),
    (r"is_zone_device_page\(page\)|folio_is_zone_device\(page\)", False), (r"pmd_trans_unstable\(.*\)", False),
    (r"pte_offset_map_lock\(.*\)", Thing("ptep")), (r"userfaultfd_rwp\(vma\)", False), (r"pte_none\(pte\)", False),
    (r"vma_is_single_threaded_private\(vma\)", False), (r"mprotect_folio_pte_batch\(.*\)", 1),
    (r"is_huge_zero_(pmd|page|folio)\(.*\)|is_swap_pmd\(.*\)|pmd_is_\w+\(.*\)|pmd_protnone\(.*\)", False),
    (r"pmd_present\(.*\)|pmd_trans_huge_lock\(.*\)|__pmd_trans_huge_lock\(.*\)", True),
    (r"\*pmd|pmdp_get\(.*\)", Thing("pmd")),
    (r"thp_migration_supported\(\)", True), (r"atomic_read\(&mm->mm_users\)", 2), (r"mm->mm_users", 2),
    (r"pmd_write\(.*\)", word("writable")),
]
HINTING = [(r"cp_flags&MM_CP_PROT_NUMA", True), (r"cp_flags&MM_CP_\w+", False), *NUMA_WORDS]
"""The words of change_pte_range and change_huge_pmd for NUMA hinting."""
HINTING_INERT = r"tlb_\w+|lazy_mmu_\w+|xchg_page_\w+|page_anon_exclusive_\w+|pmd_modify|huge_pmd_needs_flush"


def _protecting(decision: str, flags_on: tuple[str, ...], candidates: Any, given: tuple[Term, ...], words: str,
                functions: tuple[str, ...] = ("change_pte_range",), files: tuple[str, ...] = ("mm/mprotect.c",),
                stops: tuple[str, ...] = _STARTS, outcome: Any = _protects, **more: Any) -> DecisionReader:
    on = "|".join(flags_on)
    extra = [*NUMA_WORDS, *([(rf"cp_flags&({on})", True)] if on else []), (r"cp_flags&MM_CP_\w+", False)]
    asked = vocabulary(given, extra, stops=stops, once=True, inert=r"tlb_\w+|lazy_mmu_\w+|xchg_page_\w+")
    return DecisionReader(decision, functions, asked, outcome, candidates, words, files, **more)


def _pinned_values(*values: str) -> Any:
    formulas = {"clear": YES, "skip": Not(_PINNED)}
    return lambda: [Candidate(v, formulas[v]) for v in values]


def _numa_values() -> list[Candidate]:
    return [Candidate(c.value, And(c.formula, Not(word("ksm")))) for c in predicates("numa_hints")]


def _takes_pmd(path: Path) -> Term | None:
    if path.end == "stop":
        return YES
    return NO if path.end == "return" else None


PROTECT: tuple[DecisionReader, ...] = (
    DecisionReader("soft_dirty_pinned", ("clear_soft_dirty",),
                   vocabulary(ANONYMOUS, [(r"pgtable_supports_soft_dirty\(\)", True), (r"pte_none\(pte\)", False)],
                              events=("ptep_modify_prot_commit",)),
                   _clears, _pinned_values("clear", "skip"), "a present PTE of an anonymous page in a private VMA",
                   ("fs/proc/task_mmu.c",)),
    _protecting("mprotect_pinned", (), _pinned_values("clear", "skip"), ANONYMOUS,
                "a present PTE of an anonymous page; mprotect"),
    _protecting("mprotect_other_pinned", ("MM_CP_TRY_CHANGE_WRITABLE", "MM_CP_DIRTY_ACCT"),
                _pinned_values("clear", "skip"), ANONYMOUS,
                "a present PTE of an anonymous page; an mprotect to flags with VM_WRITE"),
    _protecting("uffd_wp_pinned", ("MM_CP_UFFD_WP",), _pinned_values("clear", "skip"), ANONYMOUS,
                "a present PTE of an anonymous page; UFFDIO_WRITEPROTECT"),
    _protecting("uffd_unwp_pinned", ("MM_CP_UFFD_WP_RESOLVE",), _pinned_values("clear", "skip"), ANONYMOUS,
                "a present PTE of an anonymous page; UFFDIO_WRITEPROTECT that ends it"),
    _protecting("numa_hints", ("MM_CP_PROT_NUMA",), _numa_values, (ANON, *ANONYMOUS[2:]),
                "a present PTE of an anonymous page of order 0, on another node, in a private VMA"),
    _protecting("numa_hints_huge", ("MM_CP_PROT_NUMA",), lambda: predicates("numa_hints_huge"),
                (ANON, Not(word("ksm")), word("large"), word("huge"), LOCAL == 0, VMA),
                "a PMD that maps a THP, on another node, in a private VMA", ("change_huge_pmd",), ("mm/huge_memory.c",),
                ("pmdp_invalidate", "pmdp_invalidate_ad", "pmdp_modify_prot_start"), _takes_pmd),
)

_RESTORE = (Not(word("ksm")), Not(word("large")), Not(word("huge")), LOCAL == 0, word("vma-write"),
            Not(word("writable")), VMA)
COMMITS = ("ptep_modify_prot_commit", "modify_prot_commit_ptes")
"""Calls that put a changed PTE in place."""
_CHANGING = [
    (r"pte_protnone\(pte\)", PROTNONE), (r"(pte_modify|pte_advance_pfn)\(pte,.*\)", Thing("pte")),
    (r"(ptep_modify_prot_start|modify_prot_start_ptes)\(.*\)|pte_clear_uffd(_wp)?\(pte\)", Thing("pte")),
    (r"page_anon_exclusive_batch\(.*\)", 1), (r"addr|idx", Thing("addr")),
]


def restores(path: Path) -> Term | None:
    """A round of the loop commits a PTE that was made writable."""
    if path.end == "stop" and path.value in COMMITS:
        return BoolVal(any(e.name == "pte_mkwrite" for e in path.state.events))
    return None


def changing(given: Sequence[Term], on: tuple[str, ...], events: tuple[str, ...] = ()) -> Vocabulary:
    """The words of change_pte_range, with those flags set and no others."""
    flags_on = [(rf"cp_flags&({'|'.join(on)})", True)] if on else []
    extra = [*_CHANGING, *flags_on, (r"cp_flags&MM_CP_\w+", False), *NUMA_WORDS]
    return vocabulary(given, extra, stops=COMMITS, events=("pte_mkwrite", *events), once=True,
                      inert=r"tlb_\w+|lazy_mmu_\w+|page_anon_exclusive_\w+")


def _restoring(decision: str, on: tuple[str, ...], given: tuple[Term, ...], words: str, **more: Any) -> DecisionReader:
    def values() -> list[Candidate]:
        return [Candidate(c.value, And(c.formula, ANON, Not(PROTNONE))) for c in predicates(decision)]

    return DecisionReader(decision, ("change_pte_range",), changing((*_RESTORE, *given), on), restores, values, words,
                          ("mm/mprotect.c",), beyond=(PROTNONE,), **more)


RESTORE: tuple[DecisionReader, ...] = (
    _restoring("mprotect_restores", ("MM_CP_TRY_CHANGE_WRITABLE",), (),
               "a page of order 0 that a read-only PTE maps in a private, writable VMA, its protection changed"),
    _restoring("uffd_restores", ("MM_CP_TRY_CHANGE_WRITABLE", "MM_CP_UFFD_WP_RESOLVE"), (Not(word("uffd-wp")),),
               "the same, uffd-wp cleared",
               settled=absent("uffd_restores", decisions.never, r"\bMM_CP_TRY_CHANGE_WRITABLE\b",
                              files=("mm/userfaultfd.c",), anchors=("mwriteprotect_range",))),
)

_UNREFERENCED = And(Not(word("referenced")), Not(word("transient")))
_REFUSES = lambda: [Candidate("refuse", _UNREFERENCED), Candidate("allow", YES)]  # noqa: E731
WALK = [
    (r"page_address_in_vma\(.*\)", Thing("its address")), (r"page_vma_mapped_walk\(&pvmw\)", True),
    (r"pvmw\.(pte|address)", Thing("ptep")), (r"mm_tlb_flush_pending\(mm\)", False),
    (r"pte_savedwrite\(pte\)", False),
    (r"ptep_clear_flush\(.*\)|pte_mkclean\(pte\)|pte_wrprotect\(pte\)", Thing("pte")),
]
KSM_INERT = (
    r"pte_clear_savedwrite|set_pte_at_notify|set_page_dirty|folio_mark_dirty|page_vma_mapped_walk_done|page_to_pfn"
    r"|folio_pfn|smp_\w+"
)
_MOVING: list[tuple[str, Any]] = [
    (r"mapping|extra_count|folio_mapcount\(page\)|folio_order\(page\)|0<<0", 0),
    # Nothing maps it any more; whoever moves it has isolated it, and holds a reference.
    (r"folio_ref_count\(page\)", 1 + REFERENCES + TRANSIENT),
    (r"page_has_type\(.*\)|folio_test_hugetlb\(page\)|PageHuge\(page\)", False),
]
_MOVING_INERT = (
    r"XA_STATE|(page|folio)_index|page_has_private|folio_test_(private|swapbacked|large_rmappable)|PageSwapBacked"
    r"|__(folio_set_s|SetPageS)wap[bB]acked|mod_mthp_stat"
)
MOVE: tuple[DecisionReader, ...] = (
    DecisionReader("migrate_referenced", ("folio_migrate_mapping", "migrate_page_move_mapping"),
        vocabulary((*ANONYMOUS, Not(word("swap-cache"))), _MOVING, inert=_MOVING_INERT, start={"cached": False}),
        succeeds, _REFUSES, "an anonymous page of order 0 that is not in the swap cache and that nothing maps now",
        ("mm/migrate.c",)),
    DecisionReader("ksm_referenced", ("write_protect_page",),
                   vocabulary((*ANONYMOUS, word("writable")), [*WALK, *OWNED], inert=KSM_INERT), succeeds, _REFUSES,
                   "an anonymous page of order 0 that a writable PTE maps", ("mm/ksm.c",)),
)
QUESTIONS = (*FORK, *PROTECT, *RESTORE, *MOVE)
