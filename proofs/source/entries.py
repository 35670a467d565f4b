"""Which page-table entry is made where a page is copied, reused, shared or given back, as questions to C.

An entry is known by the calls that made it: `pte_mkwrite(pte_mkdirty(mk_pte(new page,...)),vma)`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from z3 import And, Bool, BoolVal, Not, Or

from model.decisions import as_it_was, never
from proofs.source.faults import NO, SMALL, SMALL_WORDS, YES, flags, huge
from proofs.source.findings import Candidate, DecisionReader, Together, absent, holds, no_exclusive_bit, predicates
from proofs.source.others import ANONYMOUS, COMMITS, FORK_WORDS, HINTING, HINTING_INERT, NUMA_WORDS
from proofs.source.paths import Path
from proofs.source.values import Event, Term, Thing, Value, truth
from proofs.source.vocabulary import ANON, FREE, UNSHARE, VMA, WRITE, vocabulary
from proofs.source.world import LOCAL, word

_MEMORY, _HUGE_FILE, _RMAP = ("mm/memory.c",), ("mm/huge_memory.c",), ("include/linux/rmap.h",)
_WRITABLE, _DIRTY, _PROTECTED = (rf"\bp[mt][de]_({name})\(" for name in ("mkwrite", "mkdirty", "wrprotect"))


def event(path: Path, *names: str) -> Event | None:
    """The last call of one of those names on a path."""
    return next((e for e in reversed(path.state.events) if e.name in names), None)


def place_of(path: Path, *names: str) -> int:
    """How many calls that count come before the last of one of those names; -1 if there is none."""
    return next((n for n, e in reversed(list(enumerate(path.state.events))) if e.name in names), -1)


def made_by(made: Event | None, *calls: str) -> bool:
    """Some argument of the call was made with each of those calls (regular expressions)."""
    return made is not None and any(all(re.search(c, a) for c in calls) for a in made.arguments)


def _new(made: Event | None) -> bool:
    return made_by(made, r"new page")


# Copies: wp_page_copy

_NEW_PAGE = Thing("new page")
COPY_WORDS: list[tuple[str, Any]] = [
    (r"(folio_prealloc|alloc_page_vma|vma_alloc_folio|alloc_zeroed_user_highpage_movable|vma_alloc_zeroed_movable_folio"
     r"|vma_alloc_page)\(.*\)", _NEW_PAGE),
    (r"&new page->page|page_folio\(new page\)", _NEW_PAGE),
    (r"(__wp_page_copy_user|mem_cgroup_charge|vmf_anon_prepare|anon_vma_prepare)\(.*\)|cow_user_page:err", 0),
    (r"cow_user_page\(.*\)", True), (r"pte_offset_map_lock\(.*\)", Thing("vmf->pte")),
    (r"vmf->vma->vm_mm", Thing("mm")), (r"pte_pfn\(.*\)", Thing("its pfn")),
]
_COPYING = ("__wp_page_copy_user", "cow_user_page")
_CLEARED, _SET, _REMOVED = ("ptep_clear_flush", "ptep_clear_flush_notify"), ("set_ptes", "set_pte_at_notify"), (
    "folio_remove_rmap_pte", "page_remove_rmap")
COPY_INERT = (
    r"kmsan_\w+|pte_sw_mkyoung|ksm_\w+|folio_put|put_page|update_mmu_\w+|__folio_mark_uptodate|free_swap_cache"
    r"|(page|folio)_add_\w+|lru_cache_\w+|munlock_vma_page|ClearPageMlocked|cgroup_throttle_swaprate|__mem_cgroup_\w+"
)


def _copying(name: str, given: Sequence[Term], outcome: Any, candidates: Any, words: str,
             facts: Sequence[Term] = SMALL, **more: Any) -> DecisionReader:
    asked = vocabulary((*facts, *given), COPY_WORDS, inert=COPY_INERT, events=(
        *_COPYING, *_CLEARED, *_SET, *_REMOVED, "free_swap_cache"))
    said = f"{SMALL_WORDS}; {words}"
    return DecisionReader(name, ("wp_page_copy",), asked, outcome, candidates, said, _MEMORY, **more)


def _of_return(says: Callable[[Path], bool]) -> Callable[[Path], Term | None]:
    return lambda path: BoolVal(says(path)) if path.end == "return" else None


def _copied_in_order(path: Path) -> bool:
    """The copy is made, the old entry cleared and flushed, the copy mapped, and only then the old page given up."""
    order = [place_of(path, *names) for names in (_COPYING, _CLEARED, _SET, _REMOVED)]
    return order == sorted(order) and order[0] >= 0 and _new(event(path, *_SET)) and _new(event(path, *_COPYING))


COPIES: tuple[DecisionReader, ...] = (
    _copying("copy_frees_swap_cache", (WRITE, Not(UNSHARE)),
             _of_return(lambda path: event(path, "free_swap_cache") is not None), flags(), "a write fault that copies"),
    _copying("unshare_writable", (UNSHARE, Not(WRITE)), _of_return(lambda p: made_by(event(p, *_SET), _WRITABLE)),
             flags(), "a fault for a reader that copies",
             settled=absent("unshare_writable", False, r"\bFAULT_FLAG_UNSHARE\b", files=_MEMORY,
                            anchors=("wp_page_copy",))),
)
_KEEPS = "a copy for a reader keeps soft-dirty and uffd-wp"
SMALL_ANY = tuple(fact for fact in SMALL if not fact.eq(Not(word("uffd-wp"))))
_ORDER = "a copy is mapped when the old entry is cleared and flushed, and the old page given up after that"

# NUMA hinting: the entry comes back

_NO_NODE = Thing("no node")
HINT_WORDS: list[tuple[str, Any]] = [
    (r"NUMA_NO_NODE|numa_migrate_(prep|check)\(.*\)|mpol_misplaced\(.*\)", _NO_NODE),
    (r"p[mt][de]_savedwrite\(p[mt][de]\)", word("writable")), (r"p[mt][de]_write\(p[mt][de]\)", False),
    (r"p[mt][de]_modify\(pte,.*\)|ptep_modify_prot_start\(.*\)", Thing("pte")), (r"pmd_modify\(pmd,.*\)", Thing("pmd")),
    (r"vmf->orig_pmd|pmd|\*vmf->pmd|pmdp_get\(.*\)|old_?pmd", Thing("pmd")),
    (r"pmd_same\(.*\)", True), (r"pmd_trans_migrating\(.*\)", False), (r"pmd_dirty\(pmd\)", word("dirty")),
    (r"pmd_soft_dirty\(pmd\)", word("soft-dirty")), (r"userfaultfd_huge_pmd_wp\(vma,pmd\)", word("uffd-wp")),
    (r"pmd_protnone\(pmd\)", False), (r"vma_wants_manual_pte_write_upgrade\(vma\)", word("vma-write")),
    (r"pmd_needs_soft_dirty_wp\(vma,pmd\)", And(Not(word("vma-soft-dirty")), Not(word("soft-dirty")))),
    (r"is_huge_zero_(page|folio)\(.*\)|(folio_is_zone_device|is_zone_device_page)\(page\)", False),
    (r"vm_normal_folio_pmd\(.*\)|vm_normal_folio\(.*\)", Thing("page")),
    (r"sysctl_numa_balancing_mode&NUMA_BALANCING_\w+|node_is_toptier\(.*\)", False),
]
HINT_INERT = (
    r"task_numa_fault|numa_node_id|pte_write|page_to_nid|folio_nid|page_cpupid_last|folio_last_cpupid|page_mapcount"
    r"|pmd_mk\w+|put_page|count_\w+|unlock_page|page_(un)?lock_anon_vma_\w+"
)


def _given_back(commits: tuple[str, ...]) -> Callable[[Path], Term | None]:
    def outcome(path: Path) -> Term | None:
        if path.end != "return":
            return None
        return BoolVal(made_by(event(path, *commits), _WRITABLE))
    return outcome


def _hint(function: str, file: str, given: Sequence[Term], commits: tuple[str, ...], words: str) -> DecisionReader:
    facts = (ANON, Not(word("ksm")), LOCAL == 0, FREE, word("vma-write"), *given)
    asked = vocabulary(facts, HINT_WORDS, events=commits, inert=HINT_INERT)
    return DecisionReader(
        "numa_write", (function,), asked, _given_back(commits), lambda: predicates("numa_write"), words, (file,))


def _remembered(write: str, *commits: str) -> Callable[[Path], Term | None]:
    """What NUMA hinting puts in the entry's place remembers that it was writable."""
    def outcome(path: Path) -> Term | None:
        made = event(path, *commits)
        if path.end not in ("return", "stop"):
            return None
        return YES if made is None else Or(Not(word("writable")), BoolVal(made_by(made, rf"\b{write}\(")))
    return outcome


def _hinted(function: str, file: str, given: Sequence[Term], commits: tuple[str, ...], write: str, words: str
            ) -> DecisionReader:
    asked = vocabulary(
        (ANON, Not(word("ksm")), LOCAL == 0, *given), [*HINTING, (r"pmdp_invalidate\w*\(.*\)", Thing("pmd"))],
        events=commits, inert=HINTING_INERT, once=True, stops=COMMITS)
    return DecisionReader(
        "numa_write", (function,), asked, _remembered(write, *commits, *COMMITS),
        lambda: [Candidate(as_it_was, YES), Candidate(never, NO)], words, (file,),
        settled=absent("numa_write", None, r"_savedwrite\b", files=(file,), anchors=(function,)))


def _alike(values: list[Any]) -> list[Any]:
    said = [v for v in values if v is not None]
    return [never] if never in said else said[:1] if all(v is said[0] for v in said) else []


NUMA = Together("numa_write", (
    _hinted("change_pte_range", "mm/mprotect.c", (Not(word("large")), Not(word("huge"))), COMMITS, "pte_mk_savedwrite",
            "a PTE that NUMA hinting takes"),
    _hinted("change_huge_pmd", "mm/huge_memory.c", (word("large"), word("huge")), ("set_pmd_at",), "pmd_mk_savedwrite",
            "a PMD that NUMA hinting takes"),
    _hint("do_numa_page", "mm/memory.c", (Not(word("large")), Not(word("huge"))), ("ptep_modify_prot_commit",),
          "an anonymous page of order 0 in a writable private VMA that is not moved"),
    _hint("do_huge_pmd_numa_page", "mm/huge_memory.c", (word("large"), word("huge")), ("set_pmd_at",),
          "a THP in a writable private VMA that is not moved"),
), _alike)

QUESTIONS: tuple[DecisionReader | Together, ...] = (*COPIES, NUMA)

# What rules take for granted

_FORK = ("copy_present_ptes", "copy_present_pte")
_SOURCE = ("ptep_set_wrprotect", "wrprotect_ptes")
_FORK_EVENTS = (*_SET, *_SOURCE, "copy_mc_user_highpage", "pte_wrprotect")


def _forking(name: str, says: Callable[[Path], bool], **more: Any) -> DecisionReader:
    asked = vocabulary((*ANONYMOUS, Not(word("uffd-wp"))), [
        (r"userfaultfd_(wp|rwp|protected)\((child|vma)\)", False), (r"copy_mc_user_highpage\(.*\)", 0),
        (r"pte_clear_uffd(_wp)?\((.*)\)", lambda match, world: Thing(match[2])), (r"&new page->page", _NEW_PAGE),
        *FORK_WORDS],
        events=_FORK_EVENTS, inert=r"(page|folio)_add_\w+|pte_mkold")
    return DecisionReader(name, _FORK, asked, _of_return(says), holds, "an anonymous page of order 0 in a private VMA",
                          _MEMORY, **more)


def _maps_copy(path: Path) -> bool:
    """Where the page is copied, the child maps the copy, dirty and writable."""
    copied = event(path, "copy_mc_user_highpage")
    if copied is None:
        return True
    return copied.arguments[:2] == ("new page", "page") and _new(event(path, *_SET)) and made_by(
        event(path, *_SET), _WRITABLE, _DIRTY)


def _source_kept(path: Path) -> bool:
    return event(path, "copy_mc_user_highpage") is None or event(path, *_SOURCE) is None


def _child_protected(path: Path) -> bool:
    """What the child maps of a page that is shared is write-protected, if the parent's entry was writable."""
    if event(path, "copy_mc_user_highpage") is not None or event(path, *_SOURCE) is None:
        return True
    return made_by(event(path, *_SET), _PROTECTED) and not made_by(event(path, *_SET), _WRITABLE)


_NEXT = Bool("the next sub-page is exclusive")


def _batch(path: Path) -> Term | None:
    """Two sub-pages of a folio: neither is exclusive afterwards, or nothing is shared because one may be pinned."""
    if path.end != "return":
        return None
    pinned = And(word("has-pinned"), word("pinned"), Or(word("exclusive"), _NEXT))
    shared = Not(Or(truth(path.state.world["exclusive"]), truth(path.state.world["next"]), pinned))
    return shared if path.value == 0 else And(pinned, BoolVal(path.value != 0))


def _cleared_next(world: dict[str, Value]) -> dict[str, Value]:
    return {**world, "next": False}


_BATCH = "fork looks at each sub-page of a large folio that it shares in one go"
_THP_FORK = [
    (r"pmdp_get_lockless\(.*\)|\*src_pmd|pmd", Thing("pmd")), (r"pmd_special\(pmd\)|is_huge_zero_\w+\(.*\)", False),
    (r"pmd_present\(pmd\)|pmd_trans_huge\(pmd\)|vma_is_anonymous\(.*\)|thp_migration_supported\(\)", True),
    (r"pmd_is_valid_softleaf\(pmd\)|is_swap_pmd\(pmd\)|is_pmd_migration_entry\(pmd\)", False),
    (r"pmd_page\(pmd\)", Thing("page")), (r"pte_alloc_one\(.*\)", Thing("a page table")),
    (r"userfaultfd_(wp|rwp|protected)\((child|vma)\)", False), (r"dst_mm", Thing("child mm")),
]


def _thp(name: str, says: Callable[[Path], Term], **more: Any) -> DecisionReader:
    asked = vocabulary((ANON, Not(word("ksm")), word("large"), word("huge"), LOCAL == 0), _THP_FORK,
                       events=("pmdp_set_wrprotect", "set_pmd_at"), stops=("__split_huge_pmd",),
                       inert=r"pgtable_trans_huge_\w+|mm_inc_nr_ptes|pte_free|mm_get_huge_\w+|page_dup_\w+|pmd_wrprotect")

    def outcome(path: Path) -> Term | None:
        return YES if path.end == "stop" else says(path) if path.end == "return" else None
    return DecisionReader(name, ("copy_huge_pmd",), asked, outcome, holds, "a THP in a private VMA", _HUGE_FILE, **more)


_STARTS = ("ptep_modify_prot_start", "modify_prot_start_ptes")
_TAKEN = rf"\b({'|'.join(_STARTS)})\("


def _taken_first(path: Path) -> Term | None:
    """The entry that is put in place was made from the one that was taken away for it."""
    if path.end not in ("return", "stop"):
        return None
    made = event(path, *COMMITS)
    return BoolVal(made is None or (event(path, *_STARTS) is not None and any(
        re.search(_TAKEN, each) for each in made.arguments[4:5])))


_SUB_PAGES = "mprotect gives the write bit back to sub-pages that are exclusive, and to no other"
_ALIKE = "mprotect changes PTEs in one go that are alike in soft-dirty and write bits"
_BATCHES = vocabulary(
    (ANON, Not(word("ksm")), word("large"), Not(word("huge")), LOCAL == 0, VMA, word("vma-write"),
     Not(word("writable")), Not(word("uffd-wp"))),
    [(r"mprotect_(folio_)?pte_batch\(.*\)", 2), (r"page\+1", Thing("next page")),
     (r"PageAnonExclusive\(next page\)", _NEXT), (r"p?tep?\+1", Thing("next PTE")), (r"addr", Thing("addr")),
     (r"pte_mkwrite\(.*\)", lambda match, world: Thing(match[0])), (r"pte_advance_pfn\(pte,.*\)", Thing("pte")),
     (r"pte_advance_pfn\(pte_mkwrite.*\)", Thing("pte_mkwrite(pte)")),
     (r"(ptep_modify_prot_start|modify_prot_start_ptes|pte_modify)\(.*\)", Thing("pte")),
     (r"pte_needs_flush\(.*\)", False), (r"cp_flags&MM_CP_TRY_CHANGE_WRITABLE", True), (r"cp_flags&MM_CP_\w+", False),
     *NUMA_WORDS],
    events=(*COMMITS, *_STARTS, "mprotect_folio_pte_batch"), once=True,
    inert=r"tlb_\w+|lazy_mmu_\w+|xchg_page_\w+")


def _each_sub_page(path: Path) -> Term | None:
    """Every PTE that was taken away is put back, and writable only if its sub-page is exclusive."""
    if path.end not in ("return", "stop"):
        return None
    written: dict[int, bool] = {}
    for made in (e for e in path.state.events if e.name in COMMITS):
        first = int(made.arguments[2] == "next PTE")
        many = int(made.arguments[5]) if made.name == "modify_prot_commit_ptes" else 1
        written |= dict.fromkeys(range(first, first + many), made_by(made, r"\bpte_mkwrite\("))
    taken = [int(e.arguments[3]) if e.name == "modify_prot_start_ptes" else 1 for e in path.state.events
             if e.name in _STARTS]
    writable = [(word("exclusive"), _NEXT)[n] for n, on in written.items() if on]
    return And(BoolVal(len(written) == sum(taken)), *writable)


_UPGRADES = "mprotect gives a THP its write bit back where it would give it to a page"
_UPGRADING = vocabulary(
    (ANON, Not(word("ksm")), word("large"), word("huge"), LOCAL == 0, VMA, word("vma-write")),
    [(r"p[mt][de]_write\(.*\)", False), (r"pmd_mkwrite\(.*\)", lambda match, world: Thing(match[0])),
     (r"(pmd_modify|pmdp_invalidate\w*|pmd_mkuffd\w*|pmd_clear_uffd\w*)\(.*\)", Thing("pmd")),
     (r"cp_flags&MM_CP_TRY_CHANGE_WRITABLE", True), (r"cp_flags&MM_CP_\w+", False), *HINT_WORDS, *NUMA_WORDS],
    events=("set_pmd_at",), inert=HINTING_INERT)


def _upgraded(path: Path) -> Term | None:
    """The PMD that is put back is writable just where the THP is exclusive and no tracking needs a fault."""
    if path.end not in ("return", "stop"):
        return None
    free = And(Not(word("uffd-wp")), Or(word("vma-soft-dirty"), word("soft-dirty")))
    return BoolVal(made_by(event(path, "set_pmd_at"), r"\bpmd_mkwrite\(")) == And(word("exclusive"), free)


def _alike_in_batch(path: Path) -> Term | None:
    asked = event(path, "mprotect_folio_pte_batch")
    if path.end not in ("return", "stop"):
        return None
    return BoolVal(asked is None or event(path, *COMMITS) is None or all(
        flag in asked.arguments[-1] for flag in ("FPB_RESPECT_SOFT_DIRTY", "FPB_RESPECT_WRITE")))


_THP_CLEARS = "fork clears PG_anon_exclusive of a THP that it shares"
_THP_PINNED = "fork shares a THP only if it is not exclusive and pinned"
_REUSES = (WRITE, Not(UNSHARE))


def _mapped(how: str, *calls: str) -> Callable[[Path], Term | None]:
    """The entry that one of the calls puts in place was made so."""
    def outcome(path: Path) -> Term | None:
        made = event(path, *calls)
        if path.end == "stop" and made is None:
            return YES
        return BoolVal(made_by(made, how)) if path.end in ("return", "stop") else None
    return outcome


def _kept_bits(path: Path) -> Term | None:
    if path.end != "return":
        return None
    made = event(path, *_SET)
    bits = (("soft-dirty", r"\bpte_mksoft_dirty\("), ("uffd-wp", r"\bpte_mkuffd\("))
    return And(*(Or(Not(word(name)), BoolVal(made_by(made, call))) for name, call in bits))


def _written(bit: str, how: str, lapse: str) -> tuple[DecisionReader, ...]:
    """What is given to a writer is mapped writable, or dirty."""
    return (
        _copying(f"a copy for a writer is mapped {bit}", _REUSES, _mapped(how, *_SET), holds,
                 "a write fault that copies", lapse=f"copy-{lapse}"),
        DecisionReader(f"a page that is reused is mapped {bit}", ("wp_page_reuse",),
                       vocabulary((*SMALL, *_REUSES, word("vma-write")), events=("ptep_set_access_flags",)),
                       _mapped(how, "ptep_set_access_flags"), holds, "an anonymous page of order 0 in a writable VMA",
                       _MEMORY, lapse=f"reuse-{lapse}"),
        huge(f"a THP that is reused is mapped {bit}", (*_REUSES, word("vma-write")), False,
             _mapped(how, "pmdp_set_access_flags"), holds, "a THP in a writable VMA", lapse=f"huge-reuse-{lapse}"),
    )


GRANTED: tuple[DecisionReader, ...] = (
    _copying(_ORDER, (), _of_return(_copied_in_order), holds, "a fault that copies", lapse="copy-not-flushed"),
    *_written("writable", _WRITABLE, "read-only"), *_written("dirty", _DIRTY, "clean"),
    _copying(_KEEPS, (UNSHARE, Not(WRITE)), _kept_bits, holds, "a fault for a reader that copies", facts=SMALL_ANY,
             settled=absent(_KEEPS, None, r"\bFAULT_FLAG_UNSHARE\b", files=_MEMORY, anchors=("wp_page_copy",)),
             lapse="unshare-forgets"),
    _forking("fork's early copy is what the child maps", _maps_copy, lapse="fork-child-maps-source"),
    _forking("fork leaves the parent's PTE of a page that it copies as it was", _source_kept,
             lapse="fork-copy-protects-parent"),
    _forking("what fork shares is write-protected in the child, too", _child_protected, lapse="fork-child-writable"),
    DecisionReader(_BATCH, ("folio_try_dup_anon_rmap_ptes",), vocabulary(
        (ANON, Not(word("ksm")), word("large"), Not(word("huge")), LOCAL == 0),
        [(r"nr_pages", 2), (r"page\+1", Thing("next page")),
         (r"page_folio\(next page\)", Thing("page")), (r"next page\+1", Thing("another folio")),
         (r"PageAnonExclusive\(next page\)", lambda match, world: world["next"])],
        effects={"ClearPageAnonExclusive(next page)": _cleared_next}, start={"next": _NEXT}),
        _batch, holds, "two sub-pages of a large folio in a private VMA", _RMAP,
        settled=absent(_BATCH, None, r"\bfolio_try_dup_anon_rmap_ptes\b", files=_RMAP,
                       anchors=("page_try_dup_anon_rmap", "page_dup_rmap")),
        lapse="fork-keeps-sub-pages-exclusive"),
    DecisionReader("mprotect takes a PTE away while it changes it, so that no bit that the CPU sets is lost",
        ("change_pte_range",), vocabulary(ANONYMOUS, [(r"cp_flags&MM_CP_\w+", False), *HINTING], stops=COMMITS,
                                         events=_STARTS, once=True, inert=HINTING_INERT), _taken_first, holds,
        "a present PTE of an anonymous page, mprotect to read-only", ("mm/mprotect.c",),
        lapse="mprotect-loses-dirty"),
    DecisionReader("clear_refs takes a PTE away while it changes it, so that no bit that the CPU sets is lost",
        ("clear_soft_dirty",),
        vocabulary(ANONYMOUS, [(r"pgtable_supports_soft_dirty\(\)", True), (r"pte_none\(pte\)", False)],
                   events=(*COMMITS, *_STARTS)), _taken_first, holds, "a present PTE", ("fs/proc/task_mmu.c",),
        lapse="clear-refs-loses-dirty"),
    DecisionReader(_SUB_PAGES, ("change_pte_range",), _BATCHES, _each_sub_page, holds,
                   "two sub-pages of a large folio, of which read-only PTEs map both", ("mm/mprotect.c",),
                   settled=no_exclusive_bit(_SUB_PAGES), lapse="mprotect-sub-pages-writable"),
    DecisionReader(_UPGRADES, ("change_huge_pmd",), _UPGRADING, _upgraded, holds,
                   "a read-only PMD of a private, writable VMA that maps a THP", _HUGE_FILE,
                   settled=absent(_UPGRADES, None, r"\bMM_CP_TRY_CHANGE_WRITABLE\b", files=_HUGE_FILE,
                                  anchors=("change_huge_pmd",)), lapse="mprotect-huge-writable"),
    DecisionReader(_ALIKE, ("change_pte_range",), _BATCHES, _alike_in_batch, holds, "two sub-pages of a large folio",
                   ("mm/mprotect.c",)),
    _thp("fork write-protects a THP that it shares",
         lambda path: BoolVal(event(path, "pmdp_set_wrprotect") is not None), lapse="fork-parent-huge-writable"),
    _thp("a THP that fork shares is write-protected in the child, too",
         lambda path: BoolVal(made_by(event(path, "set_pmd_at"), _PROTECTED)), lapse="fork-child-huge-writable"),
    _thp(_THP_CLEARS, lambda path: Not(truth(path.state.world["exclusive"])),
         settled=no_exclusive_bit(_THP_CLEARS), lapse="fork-keeps-huge-exclusive"),
    _thp(_THP_PINNED, lambda path: Not(And(word("has-pinned"), word("pinned"), word("exclusive"))),
         settled=no_exclusive_bit(_THP_PINNED), lapse="fork-shares-pinned-huge"),
)
