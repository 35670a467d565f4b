"""Lapses: what the rules take for granted of every kernel, and a kernel with a mistake in it does not do.

A rule is written once for all kernels: that fork write-protects what it shares is no decision of any. A lapse takes
such a thing out of the rules: `V6_1.but("mine", "...", lapses=("fork-parent-writable",))`. What a kernel with it can do
includes what the mistaken one does; where several mistakes are alike, it does the worst of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import z3
from z3 import And, Not, Or

from model.logic import Rule, StateFunction, Term, Update, exists, folded, functions_in, only_if, put
from model.state import (
    Page,
    cached,
    exclusive,
    extra,
    fast_dirty,
    fast_held,
    fast_soft_dirty,
    fast_uffd_wp,
    fast_write,
    fast_young,
    ksm_cleared,
    ksm_tested,
    large,
    maps,
    nonanon,
    pin_live,
    pte_dirty,
    pte_frame,
    pte_huge,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    same_folio,
    soft_dirty_flushing,
    stale,
    swapped_only_by,
    uffd_flushing,
    uffd_unwp_flushing,
    unmap_flushing,
    writeback,
)

Edit = Callable[[Update], Update | None]


@dataclass(frozen=True)
class Lapse:
    """What is lost. rules: of those names, and all their sub-steps or those `stages`; update: what becomes of each
    update, None if it goes; guard: whether a conjunct of the guard stays; asks: what becomes of one that does; more:
    updates that come to the rule's; decides: decisions that are others, each of the kernel's own; features: without
    these it does not show."""

    about: str
    rules: tuple[str, ...]
    update: Edit = lambda update: update
    guard: Callable[[Term], bool] = lambda conjunct: True
    asks: Callable[[Term], Term] = lambda conjunct: conjunct
    more: Callable[[Rule], Sequence[Update]] = lambda rule: ()
    decides: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def of(self, rule: Rule) -> Rule:
        """The rule with the lapse, or as it was."""
        name, _, stage = rule.name.partition(".")
        if name not in self.rules or (self.stages and stage not in self.stages):
            return rule
        updates = tuple(u for u in map(self.update, rule.updates) if u is not None)
        guard = tuple(self.asks(part) for term in rule.guard for part in _conjuncts(term) if self.guard(part))
        changed = replace(rule, guard=guard, updates=(*updates, *self.more(rule)))
        return changed.rewritten(folded) or rule


def _conjuncts(term: Term) -> Iterable[Term]:
    return [part for each_one in term.children() for part in _conjuncts(each_one)] if z3.is_and(term) else [term]


def _lost(*functions: StateFunction, of: str = "", but: Callable[[Update], Term] | None = None,
          value: Callable[[Term], bool] = lambda term: True) -> Edit:
    """Updates of those functions go: `of` whose first argument is so called, of such a value, but where `but` holds."""
    def edit(update: Update) -> Update | None:
        hit = update.function in functions and value(update.value) and of in ("", str(update.index[0]))
        if not hit:
            return update
        return None if but is None else replace(update, when=And(update.when, but(update)))
    return edit


def _set(function: StateFunction, of: str, value: Callable[[Update], Term]) -> Edit:
    """Updates of that function, whose first argument is so called, give that value."""
    def edit(update: Update) -> Update | None:
        if update.function is not function or str(update.index[0]) != of:
            return update
        return replace(update, value=value(update))
    return edit


def _huge(update: Update) -> Term:
    return pte_huge(*update.index)


def _not_huge(update: Update) -> Term:
    return Not(pte_huge(*update.index))


def _parent(update: Update) -> tuple[Term, Term]:
    """Of a cell of the child: the same page of the parent."""
    return z3.Const("p", update.index[0].sort()), update.index[1]


def _mapped_huge(update: Update) -> Term:
    p = z3.Const("p", pte_huge.domain[0])
    return exists(Page, lambda v: And(maps(p, v, update.index[0]), pte_huge(p, v)))


def _as_parent(update: Update, kind: Callable[[Term, Term], Term]) -> Term:
    p, v = _parent(update)
    return Or(update.value, And(pte_present(p, v), pte_write(p, v), kind(p, v)))


def _speaks_of(*functions: StateFunction) -> Callable[[Term], bool]:
    names = {f.name for f in functions}
    return lambda conjunct: not names & functions_in(conjunct)


def _clean(rule: Rule) -> Sequence[Update]:
    """Whatever PTE the rule changes is clean afterwards."""
    changed = [u for u in rule.updates if u.function is pte_write]
    return [replace(u, function=pte_dirty, value=z3.BoolVal(False), when=And(u.when, pte_present(*u.index)))
            for u in changed]


def _forgotten(rule: Rule, of: StateFunction = pte_frame) -> Sequence[Update]:
    """The PTE that is written, which shows by an update of that function, is neither soft-dirty nor uffd-wp then."""
    changed = [u for u in rule.updates if u.function is of]
    return [replace(u, function=f, value=z3.BoolVal(False)) for u in changed for f in (pte_soft_dirty, pte_uffd_wp)]


def _never(*functions: StateFunction) -> Callable[[Term], Term]:
    """The guard takes those for false, whatever they are."""
    return lambda conjunct: z3.substitute_funs(conjunct, *((f.decl, z3.BoolVal(False)) for f in functions))


def _or_not_anonymous(conjunct: Term) -> Term:
    """The conjunct, or its page is no anonymous one, if it asks that."""
    asked = [t for t in _parts(conjunct) if z3.is_app(t) and t.decl().name() == nonanon.name]
    return Or(conjunct, asked[0]) if asked else conjunct


def _parts(term: Term) -> Iterable[Term]:
    yield term
    for child in term.children():
        yield from _parts(child)


def _leaves_cache(rule: Rule) -> Sequence[Update]:
    """The page that is swapped in leaves the swap cache if no other entry names it and it is not under writeback."""
    p, v = next(u.index for u in rule.updates if u.function is pte_frame)
    s = pte_slot(p, v)
    return only_if(And(swapped_only_by(p, v, s), Not(writeback(s))), put(cached(s), False))


def _present_only(update: Update) -> Update:
    """TLB entries go only of pages that are mapped."""
    if update.function is not stale or not z3.is_false(update.value):
        return update
    return replace(update, when=And(update.when, pte_present(*update.index)))


def _by_first_sub_page(update: Update) -> Update:
    """A PTE becomes writable where any sub-page of its folio that the process maps is exclusive."""
    if update.function is not pte_write:
        return update
    p, v = update.index
    f = pte_frame(p, v)
    some = exists(Page, lambda w: And(pte_present(p, w), same_folio(pte_frame(p, w), f), exclusive(pte_frame(p, w))))
    return replace(update, value=Or(update.value, And(pte_present(p, v), large(f), some)))


def _not_huge_page(copies: Any) -> Any:
    """The decision, and of no page of a THP."""
    return lambda p, v, f: And(copies(p, v, f), Not(pte_huge(p, v)))


_FORK = ("fork", "fork-event")
_FAST_READS = ("fast-pin-read", "fast-pin-read-longterm")
_FAST = tuple(f"fast-{kind}-{way}{term}" for kind, term in (("get", ""), ("pin", ""), ("pin", "-longterm"))
              for way in ("read", "write"))
_MPROTECT = tuple(f"{name}{suffix}" for name in ("mprotect-ro", "mprotect-rw", "mprotect-rwx", "mprotect-other")
                  for suffix in ("", "-range"))
_DIRTY = (pte_dirty, pte_soft_dirty)
_UNMAP = ("swap-out", "swap-out-cached")
_LATE = ("tlb", "reclaim-flush")
_KSM = (
    "ksm-merge", "ksm-join", "ksm-split", "ksm-split-other", "ksm-merge-undone", "ksm-merge-left", "ksm-merge-refused",
    "ksm-protect",
)

LAPSES: dict[str, Lapse] = {
    "fork-keeps-exclusive": Lapse(
        "fork shares pages and leaves them PG_anon_exclusive", _FORK,
        _lost(exclusive, value=z3.is_false, but=_mapped_huge)),
    "fork-keeps-huge-exclusive": Lapse(
        "fork shares a THP and leaves it PG_anon_exclusive", _FORK,
        _lost(exclusive, value=z3.is_false, but=lambda u: Not(_mapped_huge(u))), features=("huge",)),
    "fork-keeps-sub-pages-exclusive": Lapse(
        "fork shares sub-pages of a large folio and leaves them PG_anon_exclusive", _FORK,
        _lost(exclusive, value=z3.is_false, but=lambda u: Not(large(u.index[0]))), features=("huge",)),
    "fork-parent-writable": Lapse(
        "fork leaves what it shares writable in the parent", _FORK, _lost(pte_write, of="p", but=_huge)),
    "fork-parent-huge-writable": Lapse(
        "fork leaves a THP that it shares writable in the parent", _FORK, _lost(pte_write, of="p", but=_not_huge),
        features=("huge",)),
    "fork-child-writable": Lapse(
        "what fork shares is writable in the child where it was in the parent", _FORK,
        _set(pte_write, "child", lambda u: _as_parent(u, lambda p, v: Not(pte_huge(p, v))))),
    "fork-child-huge-writable": Lapse(
        "a THP that fork shares is writable in the child where it was in the parent", _FORK,
        _set(pte_write, "child", lambda u: _as_parent(u, pte_huge)), features=("huge",)),
    "fork-child-maps-source": Lapse(
        "the child maps the page itself, where fork has copied it for the child", _FORK,
        _set(pte_frame, "child", lambda u: pte_frame(*_parent(u)))),
    "fork-copy-protects-parent": Lapse(
        "fork write-protects in the parent what it copies for the child", _FORK,
        lambda u: replace(u, when=pte_present(*u.index)) if u.function is pte_write and str(u.index[0]) == "p" else u),
    "reuse-not-exclusive": Lapse("a page that is reused does not become PG_anon_exclusive", ("wp-reuse",),
                                 _lost(exclusive)),
    "huge-reuse-not-exclusive": Lapse("a THP that is reused does not become PG_anon_exclusive", ("huge-wp-reuse",),
                                      _lost(exclusive), features=("huge",)),
    "reuse-read-only": Lapse("a page that is reused stays read-only", ("wp-reuse",), _lost(pte_write)),
    "reuse-clean": Lapse("the PTE of a page that is reused stays clean", ("wp-reuse",), _lost(*_DIRTY)),
    "huge-reuse-read-only": Lapse("a THP that is reused stays read-only", ("huge-wp-reuse",), _lost(pte_write),
                                  features=("huge",)),
    "huge-reuse-clean": Lapse("the PMD of a THP that is reused stays clean", ("huge-wp-reuse",), _lost(*_DIRTY),
                              features=("huge",)),
    "copy-read-only": Lapse("a copy for a writer is mapped read-only", ("wp-copy", "wp-copy-spurious"),
                            _set(pte_write, "p", lambda u: z3.BoolVal(False))),
    "copy-clean": Lapse(
        "a copy for a writer is mapped clean", ("wp-copy", "wp-copy-spurious"),
        lambda u: replace(u, value=z3.BoolVal(False)) if u.function in _DIRTY else u),
    "copy-not-flushed": Lapse(
        "a copy is mapped while CPUs have the old page in their TLBs", ("wp-copy", "wp-copy-spurious"), _lost(stale),
        features=("tlb",)),
    "clear-refs-writable": Lapse("clear_refs does not write-protect", ("clear-soft-dirty",), _lost(pte_write)),
    "clear-refs-soft-dirty": Lapse("clear_refs leaves soft-dirty bits", ("clear-soft-dirty",), _lost(pte_soft_dirty)),
    "clear-refs-loses-dirty": Lapse("clear_refs loses a dirty bit that the CPU sets meanwhile", ("clear-soft-dirty",),
                                    more=_clean),
    "mprotect-loses-dirty": Lapse("mprotect loses a dirty bit that the CPU sets meanwhile", _MPROTECT, more=_clean),
    "mprotect-gives-write-bit": Lapse(
        "mprotect to read-only makes PTEs writable", ("mprotect-ro", "mprotect-ro-range"),
        _set(pte_write, "p", lambda u: Or(u.value, pte_present(*u.index)))),
    "unmap-keeps-exclusive": Lapse(
        "reclaim unmaps a page and leaves it PG_anon_exclusive", ("swap-out", "swap-out-cached"), _lost(exclusive)),
    "unmap-pinned": Lapse(
        "try_to_unmap makes an exclusive page shared that is pinned", ("swap-out-cached",),
        guard=_speaks_of(exclusive)),
    "gup-fast-no-second-look": Lapse(
        "GUP-fast does not look at the PTE again when it holds the page", _FAST, stages=("check",),
        guard=_speaks_of(pte_frame, pte_present, fast_write, fast_dirty, fast_soft_dirty, fast_uffd_wp, fast_young),
        features=("gup-fast",)),
    "gup-fast-writes-read-only": Lapse(
        "GUP-fast takes pages for writing that the PTE maps read-only",
        tuple(name for name in _FAST if "write" in name), features=("gup-fast",),
        guard=lambda conjunct: not (z3.is_app(conjunct) and conjunct.decl().name() in ("pte_write", "vma_write"))),
    "swap-in-forgets": Lapse(
        "swap-in loses soft-dirty and uffd-wp", ("swap-in-read", "swap-in-read-full", "swap-in-write"),
        _lost(pte_soft_dirty), more=_forgotten),
    "uffd-wp-forgotten": Lapse("UFFDIO_WRITEPROTECT does not set uffd-wp", ("uffd-wp", "uffd-wp-range"),
                               _lost(pte_uffd_wp)),
    "gup-fast-takes-shared": Lapse(
        "GUP-fast takes pages for FOLL_PIN that are not PG_anon_exclusive", _FAST_READS, guard=_speaks_of(exclusive),
        features=("gup-fast",)),
    "copy-no-second-look": Lapse(
        "a copy is mapped though the PTE has become another one while the lock was dropped", ("wp-copy",),
        stages=("install",), features=("copy",),
        guard=_speaks_of(pte_present, pte_frame, pte_write, pte_uffd_wp, pte_dirty, pte_soft_dirty)),
    "fork-shares-pinned-huge": Lapse(
        "fork shares a THP that may be pinned", _FORK, features=("huge",), decides={"fork_copies": _not_huge_page}),
    "unmap-forgets": Lapse(
        "reclaim loses soft-dirty and uffd-wp in the swap entry", _UNMAP,
        more=lambda rule: _forgotten(rule, pte_slot)),
    "swap-entry-always-exclusive": Lapse(
        "reclaim makes the swap entry of a shared page exclusive", _UNMAP,
        lambda u: replace(u, value=z3.BoolVal(True)) if u.function is pte_swap_exclusive else u),
    "swap-in-read-frees": Lapse(
        "swap-in by a read takes the page out of the swap cache", ("swap-in-read",), more=_leaves_cache),
    "reclaim-frees-unflushed": Lapse(
        "reclaim writes out and frees what it has unmapped, and flushes TLBs later",
        ("reclaim-swap-cache", "writeback-begin"), asks=_never(unmap_flushing), features=_LATE),
    "reclaim-forgets-flush": Lapse(
        "reclaim puts a flush off and does not do it", ("swap-out-cached",), _lost(stale), stages=("flush",),
        features=_LATE),
    "mprotect-leaves-flush": Lapse(
        "mprotect leaves TLB entries whose flush reclaim has put off", _MPROTECT, _present_only, features=_LATE),
    "munmap-leaves-flush": Lapse(
        "munmap leaves TLB entries whose flush reclaim has put off", ("munmap", "dontneed"),
        _present_only, features=_LATE),
    "mremap-leaves-flush": Lapse(
        "mremap leaves TLB entries whose flush reclaim has put off", ("mremap", "mremap-dontunmap"),
        _present_only, features=(*_LATE, "mremap")),
    "madv-free-leaves-flush": Lapse(
        "MADV_FREE leaves TLB entries whose flush reclaim has put off", ("madv-free-swapped",), _present_only,
        features=(*_LATE, "lazyfree")),
    "mprotect-sub-pages-writable": Lapse(
        "mprotect makes sub-pages writable because another one of their folio is PG_anon_exclusive",
        tuple(name for name in _MPROTECT if "-ro" not in name), _by_first_sub_page, features=("huge",)),
    "mprotect-huge-writable": Lapse(
        "mprotect makes a THP writable that is not PG_anon_exclusive", tuple(n for n in _MPROTECT if "-ro" not in n),
        _set(pte_write, "p", lambda u: Or(u.value, And(pte_present(*u.index), pte_huge(*u.index)))),
        features=("huge",)),
    "collapse-referenced": Lapse(
        "collapse takes pages that somebody refers to", ("collapse", "collapse-refused"),
        asks=_never(pin_live, fast_held, extra), features=("huge",)),
    "ksm-ignores-flush": Lapse(
        "ksmd does not count references though a TLB flush is pending", _KSM, features=("ksm", "tlb"),
        asks=_never(soft_dirty_flushing, uffd_flushing, uffd_unwp_flushing)),
    "ksm-dirty-uncounted": Lapse(
        "ksmd does not count references of a page whose PTE is read-only and dirty", _KSM, asks=_never(pte_dirty),
        features=("ksm",)),
    "ksm-exclusive-uncounted": Lapse(
        "ksmd does not count references of an exclusive page whose PTE is read-only and clean", _KSM,
        asks=_never(exclusive), features=("ksm",)),
    "ksm-gives-back-writable": Lapse(
        "ksmd leaves the page that it merges others into writable", ("ksm-merge", "ksm-protect"),
        _lost(pte_write, of="p"), features=("ksm",)),
    "ksm-counts-first": Lapse(
        "ksmd counts references while the PTE is there", _FAST, asks=_never(ksm_cleared, ksm_tested),
        features=("share", "gup-fast")),
    "gup-fast-takes-files": Lapse(
        "GUP-fast takes pages of the page cache and the zero page, which a writer replaces, for long",
        ("fast-pin-read-longterm",), stages=("read", "check"), asks=_or_not_anonymous, features=("file", "gup-fast")),
    "unshare-forgets": Lapse("a copy for a reader loses soft-dirty and uffd-wp", ("unshare-copy",),
                             _lost(pte_uffd_wp), more=_forgotten),
}
"""By name."""


def decided(names: Collection[str], value: Callable[[str], Any]) -> dict[str, Any]:
    """The decisions that are others with those lapses; `value`: what a decision is without."""
    made: dict[str, Any] = {}
    for name in names:
        for decision, change in LAPSES[name].decides.items():
            made[decision] = change(made.get(decision, value(decision)))
    return made


def applied(names: Collection[str], rules: Iterable[Rule]) -> list[Rule]:
    """The rules with those lapses."""
    made = list(rules)
    for name in names:
        made = [LAPSES[name].of(rule) for rule in made]
    return made
