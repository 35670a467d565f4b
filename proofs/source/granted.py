"""What the model's rules take for granted of C, whatever a kernel decides, as questions.

A rule is written once for all kernels: that fork clears PG_anon_exclusive of what it shares is no decision. Where a
tree does not do so, no kernel of the model is like it, and no verdict speaks of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from z3 import BoolVal, Not, Or

from proofs.source import collapse, entries, flushes, gup, rechecks, reclaim
from proofs.source.faults import SMALL, WP_STOPS, YES, huge, keeps_bits, leaves_cache, stops_at, swap
from proofs.source.findings import DecisionReader, holds, no_exclusive_bit
from proofs.source.others import (
    ANONYMOUS,
    COMMITS,
    COPY_STOPS,
    FORK_WORDS,
    KSM_INERT,
    WALK,
    changing,
    restores,
    succeeds,
)
from proofs.source.paths import Path
from proofs.source.values import Term, truth
from proofs.source.vocabulary import OWNED, SWAP_FULL, UNSHARE, WRITE, vocabulary
from proofs.source.world import word


def _ends(says: Callable[[Path], Term], stopping: Callable[[Path], Term | None] = lambda path: None) -> Any:
    """What `says` of a path that returns; `stopping`: of one that stops at a call."""
    def outcome(path: Path) -> Term | None:
        return says(path) if path.end == "return" else stopping(path) if path.end == "stop" else None
    return outcome


def _called(*names: str) -> Callable[[Path], Term]:
    return lambda path: BoolVal(all(any(e.name == name for e in path.state.events) for name in names))


_COPIED = stops_at(COPY_STOPS, ())
_FORK = ("copy_present_ptes", "copy_present_pte")
_PROTECTS = ("ptep_set_wrprotect",)


def _exclusive(path: Path) -> Term:
    return truth(path.state.world["exclusive"])


def _reused(path: Path) -> Term | None:
    if path.end != "stop":
        return None
    return _exclusive(path) if path.value in ("wp_page_reuse", "pmdp_set_access_flags") else YES


def _dirtied(path: Path) -> Term:
    return Or(truth(path.state.world["cached"]), _called("folio_set_dirty")(path))


def _counted_first(path: Path) -> Term | None:
    merged = succeeds(path)
    return None if merged is None else Or(Not(merged), _called("ptep_clear_flush", "pte_wrprotect")(path))


def _if_done(says: Callable[[Path], Term]) -> Callable[[Path], Term | None]:
    """What holds where the function succeeds."""
    def outcome(path: Path) -> Term | None:
        done = succeeds(path)
        return None if done is None else Or(Not(done), says(path))
    return outcome


def _stays(path: Path) -> Term | None:
    left = leaves_cache(path)
    return None if left is None else Not(left)


def _cleared(call: str) -> Callable[[Path], Term]:
    return lambda path: Or(Not(_called("ptep_modify_prot_commit")(path)), _called(call)(path))


def _sets_uffd(path: Path) -> Term | None:
    """A PTE that is put in place was marked."""
    if path.end != "stop":
        return None
    return BoolVal(path.value not in COMMITS or any(e.name == "pte_mkuffd" for e in path.state.events))


_WP = (*SMALL, WRITE, Not(UNSHARE))
GRANTED: tuple[DecisionReader, ...] = (
    DecisionReader("fork clears PG_anon_exclusive of what it shares", _FORK,
                   vocabulary((*ANONYMOUS, Not(word("uffd-wp"))), FORK_WORDS, stops=COPY_STOPS, inert=r"page_add_\w+"),
                   _ends(lambda path: Not(_exclusive(path)), _COPIED), holds, "an anonymous page of order 0",
                   ("mm/memory.c",),
                   settled=no_exclusive_bit("fork clears PG_anon_exclusive of what it shares"),
                   lapse="fork-keeps-exclusive"),
    DecisionReader("fork write-protects what it shares", _FORK,
                   vocabulary((*ANONYMOUS, Not(word("uffd-wp"))), FORK_WORDS, stops=COPY_STOPS, events=_PROTECTS,
                              inert=r"page_add_\w+"),
                   _ends(lambda path: Or(Not(word("writable")), _called(*_PROTECTS)(path)), _COPIED), holds,
                   "an anonymous page of order 0 in a private VMA", ("mm/memory.c",), lapse="fork-parent-writable"),
    DecisionReader("a page that is reused becomes exclusive", ("do_wp_page",), vocabulary(_WP, stops=WP_STOPS), _reused,
                   holds, "an anonymous page of order 0", ("mm/memory.c",),
                   settled=no_exclusive_bit("a page that is reused becomes exclusive"),
                   lapse="reuse-not-exclusive"),
    huge("a THP that is reused becomes exclusive", (WRITE, Not(UNSHARE)), False, _reused, holds, "a THP",
         settled=no_exclusive_bit("a THP that is reused becomes exclusive"),
         lapse="huge-reuse-not-exclusive"),
    *(DecisionReader(f"clear_refs {does}", ("clear_soft_dirty",),
                     vocabulary(ANONYMOUS, [(r"pgtable_supports_soft_dirty\(\)", True), (r"pte_none\(pte\)", False)],
                                events=("ptep_modify_prot_commit", call)),
                     _ends(_cleared(call)), holds, "a present PTE", ("fs/proc/task_mmu.c",), lapse=lapse)
      for does, call, lapse in (("write-protects", "pte_wrprotect", "clear-refs-writable"),
                                ("clears the soft-dirty bit", "pte_clear_soft_dirty", "clear-refs-soft-dirty"))),
    DecisionReader("a page that leaves the swap cache is dirty", ("folio_free_swap", "try_to_free_swap"),
                   vocabulary((*ANONYMOUS, word("swap-cache")), events=("folio_set_dirty",)), _ends(_dirtied), holds,
                   "a page of the swap cache", ("mm/swapfile.c",)),
    *(DecisionReader(fact, ("folio_try_share_anon_rmap_pte", "page_try_share_anon_rmap"),
                     vocabulary((*ANONYMOUS, word("exclusive"))), _if_done(says), holds, "an exclusive page of order 0",
                     ("include/linux/rmap.h",), settled=no_exclusive_bit(fact), lapse=lapse)
      for fact, says, lapse in (
          ("an exclusive page is made shared only if it is not pinned", lambda path: Not(word("pinned")),
           "unmap-pinned"),
          ("an exclusive page that is made shared is not exclusive any more", lambda path: Not(_exclusive(path)),
           "unmap-keeps-exclusive"))),
    DecisionReader("without MM_CP_TRY_CHANGE_WRITABLE no PTE becomes writable", ("change_pte_range",),
                   changing((*ANONYMOUS, Not(word("writable"))), ()),
                   lambda path: None if restores(path) is None else Not(restores(path)), holds,
                   "a read-only PTE of an anonymous page", ("mm/mprotect.c",), lapse="mprotect-gives-write-bit"),
    swap("a read fault leaves the page in the swap cache", (Not(WRITE), Not(UNSHARE), Not(SWAP_FULL)), _stays, holds,
         "a read fault, swap not half full", lapse="swap-in-read-frees"),
    swap("swap-in keeps soft-dirty and uffd-wp", (Not(WRITE), Not(UNSHARE), Not(SWAP_FULL)), keeps_bits, holds,
         "a read fault, swap not half full", events=("pte_mksoft_dirty", "pte_mkuffd"), lapse="swap-in-forgets"),
    DecisionReader("UFFDIO_WRITEPROTECT sets uffd-wp", ("change_pte_range",), changing(
        (*ANONYMOUS, Not(word("writable"))), ("MM_CP_UFFD_WP",), ("pte_mkuffd",)), _sets_uffd, holds,
        "a PTE of an anonymous page", ("mm/mprotect.c",), lapse="uffd-wp-forgotten"),
    DecisionReader("ksmd takes the PTE away before it counts references, and write-protects", ("write_protect_page",),
                   vocabulary((*ANONYMOUS, word("writable")), [*WALK, *OWNED], inert=KSM_INERT,
                              events=("ptep_clear_flush", "pte_wrprotect")),
                   _counted_first, holds, "a page that a writable PTE maps", ("mm/ksm.c",), lapse="ksm-counts-first"),
    *entries.GRANTED,
    *gup.GRANTED,
    *rechecks.GRANTED,
    *reclaim.GRANTED,
    *flushes.GRANTED,
    *collapse.GRANTED,
)
