"""Decisions of GUP, fork, write-protecting, NUMA hinting, KSM and migration, as questions to C."""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, If, Not, Or

from model import decisions
from proofs.source.csource import NotRead, Tree
from proofs.source.faults import NO, SMALL, YES, absent, stops_at
from proofs.source.findings import Candidate, Question, predicates
from proofs.source.paths import Path
from proofs.source.values import Flags, Term, Thing, truth
from proofs.source.vocabulary import (
    ANON,
    COW,
    FOLL_PIN,
    FOLL_WRITE,
    FORCE,
    LONGTERM,
    OWNED,
    VMA,
    vocabulary,
)
from proofs.source.world import LOCAL, F, P, V, abstracted, word

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


def _distinct(decision: str, formula: Any) -> list[Candidate]:
    from proofs.source.findings import ALL  # noqa: PLC0415
    values = {id(v): v for v in (getattr(k, decision) for k in ALL)}
    return [Candidate(v, formula(v)) for v in values.values()]


def _no_unsharing(decision: str, value: Any) -> Any:
    return absent(decision, value, r"\bgup_must_unshare\b", r"\bshould_force_cow_break\b", r"\bFOLL_BREAK_COW\b",
                  files=("mm/gup.c",))


def _asked_by(name: str, *callers: str, files: tuple[str, ...] = ()) -> Any:
    """Raises NotRead unless one of the callers calls it: else what it says decides nothing."""
    def also(tree: Tree) -> None:
        for caller in callers:
            found = tree.find(caller, files)
            if found is not None and f"{name}(" in found.node.text.decode("utf-8", "replace"):
                return
        raise NotRead(f"{name} is called by none of {', '.join(callers)}")
    return also


_GUP = ("include/linux/mm.h", "mm/internal.h", "mm/gup.c")
_READ_GUP = (Not(FOLL_WRITE), Not(word("writable")))
GUP: tuple[Question, ...] = (
    Question("read_gup", ("gup_must_unshare",), vocabulary((*ANONYMOUS, *_READ_GUP)), refuses, _gup_values,
             "an anonymous page of order 0, a read, the PTE read-only", _GUP,
             settled=_no_unsharing("read_gup", decisions.read_as_mapped),
             also=_asked_by("gup_must_unshare", "follow_page_pte", files=("mm/gup.c",))),
    Question("read_gup_nonanon", ("gup_must_unshare",),
             vocabulary((Not(ANON), Not(word("ksm")), Not(word("large")), VMA, *_READ_GUP)), refuses, _nonanon_values,
             "a page of the page cache or the zero page, a read, the PTE read-only, not by GUP-fast", _GUP,
             settled=_no_unsharing("read_gup_nonanon", decisions.always),
             also=_asked_by("gup_must_unshare", "follow_page_pte", files=("mm/gup.c",))),
    Question("force_proof", ("can_follow_write_pte",),
             vocabulary((*ANONYMOUS, FORCE, FOLL_WRITE, Not(word("writable")), Not(word("vma-write")))), returns,
             lambda: [
                 Candidate("dirty", And(COW, word("dirty"))),
                 Candidate("exclusive", And(word("exclusive"), Not(word("uffd-wp")),
                                            Or(word("vma-soft-dirty"), word("soft-dirty")))),
                 Candidate("retry-as-read", COW)],
             "a forced write to an anonymous page in a private VMA without VM_WRITE, the PTE read-only", ("mm/gup.c",),
             also=_asked_by("can_follow_write_pte", "follow_page_pte", files=("mm/gup.c",))),
)

_COPY = ("copy_mc_user_highpage",)


def _copies(path: Path) -> Term | None:
    if path.end == "stop":
        return stops_at(_COPY, ())(path)
    return NO if path.end == "return" else None


FORK: tuple[Question, ...] = (
    Question("fork_copies", ("copy_present_ptes", "copy_present_pte"),
             vocabulary((*ANONYMOUS, Not(word("uffd-wp"))), [
                 (r"\*prealloc", Thing("new page")), (r"child->vm_mm", Thing("child mm")),
                 (r"vma->vm_flags", Thing("vma->vm_flags")), (r"rss\[.*\]", Thing("rss", null=True)),
             ], stops=_COPY, inert=r"page_add_\w+|ClearPageAnonExclusive"),
             _copies, lambda: predicates("fork_copies"),
             "an anonymous page of order 0 in a private VMA; there is memory for a copy", ("mm/memory.c",)),
)


def _clears(path: Path) -> Term | None:
    if path.end == "return":
        return BoolVal(any(e.name == "ptep_modify_prot_commit" for e in path.state.events))
    return None


_PINNED = And(word("writable"), word("has-pinned"), word("pinned"))
_COMMITS = ("ptep_modify_prot_start", "modify_prot_start_ptes")


def _protects(path: Path) -> Term | None:
    """In a round of the loop: the PTE is changed, or left alone."""
    if path.end == "stop":
        return BoolVal(path.value in _COMMITS)
    return None


_NUMA_WORDS = [
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


def _protecting(decision: str, flags_on: tuple[str, ...], candidates: Any, given: tuple[Term, ...], words: str,
                functions: tuple[str, ...] = ("change_pte_range",), files: tuple[str, ...] = ("mm/mprotect.c",),
                stops: tuple[str, ...] = _COMMITS, outcome: Any = _protects, **more: Any) -> Question:
    on = "|".join(flags_on)
    extra = [*_NUMA_WORDS, *([(rf"cp_flags&({on})", True)] if on else []), (r"cp_flags&MM_CP_\w+", False)]
    asked = vocabulary(given, extra, stops=stops, once=True, inert=r"tlb_\w+|lazy_mmu_\w+|xchg_page_\w+")
    return Question(decision, functions, asked, outcome, candidates, words, files, **more)


def _pinned_values(*values: str) -> Any:
    formulas = {"clear": YES, "skip": Not(_PINNED)}
    return lambda: [Candidate(v, formulas[v]) for v in values]


def _numa_values() -> list[Candidate]:
    return predicates("numa_hints")


def _takes_pmd(path: Path) -> Term | None:
    if path.end == "stop":
        return YES
    return NO if path.end == "return" else None


PROTECT: tuple[Question, ...] = (
    Question("soft_dirty_pinned", ("clear_soft_dirty",),
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
    _protecting("numa_hints", ("MM_CP_PROT_NUMA",), _numa_values, ANONYMOUS,
                "a present PTE of an anonymous page of order 0, no KSM page, on another node, in a private VMA"),
    _protecting("numa_hints_huge", ("MM_CP_PROT_NUMA",), lambda: predicates("numa_hints_huge"),
                (ANON, Not(word("ksm")), word("large"), word("huge"), LOCAL == 0, VMA),
                "a PMD that maps a THP, on another node, in a private VMA", ("change_huge_pmd",), ("mm/huge_memory.c",),
                ("pmdp_invalidate", "pmdp_invalidate_ad", "pmdp_modify_prot_start"), _takes_pmd),
)

_RESTORE = (*SMALL[:4], LOCAL == 0, word("vma-write"), Not(word("writable")), VMA)
_MPROTECT = ("change_pte_range", "change_present_ptes", "set_write_prot_commit_flush_ptes", "commit_anon_folio_batch")


def _uffd_values() -> list[Candidate]:
    return predicates("uffd_restores")


RESTORE: tuple[Question, ...] = (
    Question("mprotect_restores", ("can_change_pte_writable",), vocabulary(_RESTORE), returns,
             lambda: predicates("mprotect_restores"),
             "an anonymous page that a read-only PTE maps in a private, writable VMA", ("mm/mprotect.c",),
             settled=absent("mprotect_restores", decisions.never, r"\bcan_change_pte_writable\b",
                            files=("mm/mprotect.c",))),
    Question("uffd_restores", ("can_change_pte_writable",), vocabulary((*_RESTORE, Not(word("uffd-wp")))), returns,
             _uffd_values, "the same, uffd-wp cleared", ("mm/mprotect.c",),
             settled=absent("uffd_restores", decisions.never, r"\bMM_CP_TRY_CHANGE_WRITABLE\b",
                            files=("mm/userfaultfd.c",))),
)

_UNREFERENCED = And(Not(word("referenced")), Not(word("transient")))
_REFUSES = lambda: [Candidate("refuse", _UNREFERENCED), Candidate("allow", YES)]  # noqa: E731
_WALK = [
    (r"page_address_in_vma\(.*\)", Thing("its address")), (r"page_vma_mapped_walk\(&pvmw\)", True),
    (r"pvmw\.(pte|address)", Thing("ptep")), (r"mm_tlb_flush_pending\(mm\)", False),
    (r"pte_savedwrite\(pte\)", False),
    (r"ptep_clear_flush\(.*\)|pte_mkclean\(pte\)|pte_wrprotect\(pte\)", Thing("pte")),
]
MOVE: tuple[Question, ...] = (
    Question("ksm_referenced", ("write_protect_page",), vocabulary((*ANONYMOUS, word("writable")), [*_WALK, *OWNED],
             inert=r"pte_clear_savedwrite|set_pte_at_notify|set_page_dirty|folio_mark_dirty|page_vma_mapped_walk_done|page_to_pfn"
                   r"|folio_pfn|smp_\w+|ClearPageAnonExclusive"), succeeds, _REFUSES,
             "an anonymous page of order 0 that a writable PTE maps", ("mm/ksm.c",)),
)
QUESTIONS = (*GUP, *FORK, *PROTECT, *RESTORE, *MOVE)
