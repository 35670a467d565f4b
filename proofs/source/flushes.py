"""Who sees to TLB flushes that are put off, as questions to C.

Reclaim clears PTEs and flushes later (set_tlb_ubc_flush_pending); mprotect and others flush when they have changed all
entries of a range (mm_tlb_flush_pending). Until then a CPU can write to a page that looks write-protected or unmapped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from z3 import And, BoolVal, Implies, Not, Or

from proofs.source.entries import HINT_INERT, HINT_WORDS, event, made_by
from proofs.source.findings import DecisionReader, absent, holds, no_exclusive_bit
from proofs.source.others import ANONYMOUS, COMMITS, KSM_INERT, WALK, changing, succeeds
from proofs.source.paths import Path
from proofs.source.values import Term, Thing
from proofs.source.vocabulary import ANON, OWNED, PENDING, vocabulary
from proofs.source.world import LOCAL, word

# flush_tlb_batched_pending, before entries are looked at

_BATCHED = "flush_tlb_batched_pending"
_LOOPS = ("arch_enter_lazy_mmu_mode", "lazy_mmu_mode_enable")
"""Calls with which a loop over the entries of a table begins."""
_BEFORE: list[tuple[str, Any]] = [
    (r"pte_offset_map_\w+\(.*\)|get_old_pte\(.*\)", Thing("ptep")), (r"pte_none\(.*\)", False),
    (r"pmd_trans_huge\(.*\)|pmd_trans_unstable\(.*\)|fatal_signal_pending\(.*\)|need_rmap_locks", False),
    (r"walk->vma", Thing("vma")), (r"pmc->\w+|pageout_anon_only_filter|pageout", False),
]
_BEFORE_INERT = (
    r"tlb_\w+|init_rss_vec|pmd_addr_end|take_rmap_locks|spin_lock_nested|vma_is_\w+|pte_table_reclaim_possible|\w*can_do\w*"
    r"|can_reclaim_\w+|reclaim_pt_is_enabled|pmdp?_get\w*|vma_has_\w+|inode_\w+|file_\w+|pmd_none\w*|atomic_\w+|numa_node_id"
)


def _flushed_first(path: Path) -> Term | None:
    """Before the first entry of the table: the lock is taken, then the flush is seen to."""
    if path.end == "stop" and path.value in (*_LOOPS, *COMMITS):
        return BoolVal(event(path, _BATCHED) is not None)
    return BoolVal(True) if path.end in ("return", "stop") else None


def _before_loop(who: str, file: str, *functions: str, lapse: str = "") -> DecisionReader:
    return DecisionReader(
        f"{who} sees to flushes that reclaim has put off", functions,
        vocabulary(ANONYMOUS, _BEFORE, stops=_LOOPS, events=(_BATCHED,), inert=_BEFORE_INERT, once=True),
        _flushed_first, holds, "a table of PTEs", (file,), lapse=lapse)


# mm_tlb_flush_pending

_PUT_BACK: list[tuple[str, Any]] = [
    (r"pte_(wrprotect|mkclean|clear_savedwrite)\(.*\)", lambda match, world: Thing(match[0])),
    (r"pte_write\(pte_mkclean\(pte\)\)", word("writable")),
    (r"mm_tlb_flush_pending\(mm\)", PENDING), *WALK, *OWNED,
]
_KSM_DIRTIES = ("set_page_dirty", "folio_mark_dirty", "folio_set_dirty")


_LOOKING = vocabulary(ANONYMOUS, _PUT_BACK, inert=rf"{KSM_INERT}|set_ptes",
                      events=("set_ptes", "set_pte_at_notify", *_KSM_DIRTIES))


def _counts_where(flag: Term) -> Callable[[Path], Term | None]:
    """Where `flag` holds, ksmd goes on only if nobody else refers to the page."""
    def outcome(path: Path) -> Term | None:
        done = succeeds(path)
        alone = And(Not(word("referenced")), Not(word("transient")))
        return None if done is None else Implies(And(done, flag), alone)
    return outcome


def _as_it_was(path: Path) -> Term | None:
    """The PTE is put back read-only and clean, and the page made dirty if the PTE was; or just as it was."""
    done = succeeds(path)
    if done is None:
        return None
    made = event(path, "set_ptes", "set_pte_at_notify")
    if made is None:
        return BoolVal(True)
    protected = Or(Not(word("writable")), BoolVal(made_by(made, r"\bpte_wrprotect\(")))
    dirtied = Or(Not(word("dirty")), BoolVal(event(path, *_KSM_DIRTIES) is not None))
    good = And(protected, dirtied, BoolVal(made_by(made, r"\bpte_mkclean\(")))
    return And(Implies(done, good), Or(done, BoolVal(made.arguments[-1] == "pte")))


def _ksmd(fact: str, outcome: Any, **more: Any) -> DecisionReader:
    return DecisionReader(fact, ("write_protect_page",), _LOOKING, outcome, holds,
                          "an anonymous page of order 0 that a PTE maps", ("mm/ksm.c",), **more)


_MOVES = "NUMA balancing flushes what is pending before it moves a THP"
_EXCLUSIVE = "ksmd counts references of an exclusive page, whatever its PTE"


def _moved_flushed(path: Path) -> Term | None:
    """Where the THP is moved, TLBs are flushed if a flush is pending."""
    if path.end not in ("return", "stop"):
        return None
    return Implies(PENDING, BoolVal(path.end != "stop" or event(path, "flush_tlb_range") is not None))


GRANTED: tuple[DecisionReader, ...] = (
    DecisionReader(_MOVES, ("do_huge_pmd_numa_page",), vocabulary(
        (ANON, Not(word("ksm")), LOCAL == 0, word("large"), word("huge")),
        [(r"numa_node_id\(\)", Thing("this node")), (r"page_to_nid\(.*\)", Thing("its node")),
         (r"mpol_misplaced\(.*\)", Thing("another node")), *HINT_WORDS],
        events=("flush_tlb_range",), stops=("migrate_misplaced_transhuge_page",),
        inert=rf"{HINT_INERT}|get_page\w*|put_and_wait_on_page_locked|set_pmd_at"), _moved_flushed, holds,
        "a THP on another node", ("mm/huge_memory.c",),
        settled=absent(_MOVES, None, r"\bmigrate_misplaced_transhuge_page\b", files=("mm/huge_memory.c",),
                       anchors=("do_huge_pmd_numa_page",))),
    DecisionReader("mprotect sees to flushes that reclaim has put off",
                   ("change_pte_range",), changing(ANONYMOUS, (), (_BATCHED,)), _flushed_first, holds,
                   "a present PTE of an anonymous page", ("mm/mprotect.c",), lapse="mprotect-leaves-flush"),
    _before_loop("munmap", "mm/memory.c", "zap_pte_range", lapse="munmap-leaves-flush"),
    _before_loop("mremap", "mm/mremap.c", "move_ptes", lapse="mremap-leaves-flush"),
    _before_loop("MADV_FREE", "mm/madvise.c", "madvise_free_pte_range", lapse="madv-free-leaves-flush"),
    _ksmd("ksmd counts references while a TLB flush is pending", _counts_where(PENDING), lapse="ksm-ignores-flush"),
    _ksmd("ksmd counts references of a page whose PTE is dirty", _counts_where(word("dirty")),
          lapse="ksm-dirty-uncounted"),
    _ksmd(_EXCLUSIVE, _counts_where(word("exclusive")), settled=no_exclusive_bit(_EXCLUSIVE),
          lapse="ksm-exclusive-uncounted"),
    _ksmd("ksmd gives the PTE back read-only and clean, its page dirty if it was", _as_it_was,
          lapse="ksm-gives-back-writable"),
)
