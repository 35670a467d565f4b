"""Private anonymous mappings of hugetlb pages (mmap with MAP_HUGETLB), of one size: mm/hugetlb.c.

Here a hugetlb page is one Page and one Frame. It is not swapped, merged, migrated, collapsed, tracked by soft-dirty or
by userfaultfd: the rules of all that leave it alone (`spared`). The process that has mapped it owns a reservation, so
that its first fault finds a page; a child owns none. Read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from z3 import And, Implies, Not

from model.decisions import Decisions
from model.fork import lacks_copies
from model.gup import needs_private
from model.logic import Rule, RuleTemplate, Step, Term, Update, each, exists, forall, put, rule
from model.ptes import NEW, P, V, fresh_page, map_read_only, map_writable, prepare_anon_vma, set_exclusive
from model.state import (
    ZERO,
    Frame,
    Page,
    Proc,
    alive,
    block,
    file,
    frame_value,
    hugetlb,
    live,
    mapped_only_by,
    maps,
    may_fill,
    pool_empty,
    pte_dirty,
    pte_frame,
    pte_none,
    pte_present,
    pte_soft_dirty,
    pte_write,
    uffd_marker,
    vma,
    vma_huge,
    vma_mergeable,
    vma_missing,
    vma_resv_owner,
    vma_resv_unmapped,
    vma_uffd,
    vma_write,
)

FEATURE = frozenset({"hugetlb"})
READ = "read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7"

ALIKE = frozenset({
    "store", "load", "store-refused", "load-refused", "get-read", "get-write", "pin-read", "pin-write",
    "pin-read-longterm", "pin-write-longterm", "gup-read-refused", "gup-write-refused", "madv-populate-read",
    "madv-populate-write", "fork", "fork-event", "munmap", "munmap-nothing", "mprotect-ro", "mprotect-ro-refused",
    "mprotect-rw", "mprotect-rw-refused", "mprotect-rwx", "mprotect-rwx-refused", "mprotect-other",
    "madv-dontfork", "madv-dontfork-refused", "madv-dofork", "madv-dofork-refused", "madv-wipeonfork-refused",
    "madv-keeponfork", "madv-keeponfork-refused", "extra-ref", "drop-extra", "guard-install-refused",
    "guard-remove-refused",
})
"""Rules of other files that take a hugetlb page, or its address, as they take any; their sub-steps, too."""
OF_BLOCK = frozenset({"madvise-hugepage"})
"""Rules that change what other pages of the block are, too."""


def spared(rules: Iterable[Rule], features: Collection[str], own: Iterable[RuleTemplate]) -> list[Rule]:
    """The rules without what they would do to hugetlb pages, if there are any: but those that know them, and a user's
    `own`."""
    if not FEATURE.issubset(features):
        return [*rules]
    known = {*ALIKE, *(template.name for template in (*RULES, *own))}
    return [rule if rule.name.partition(".")[0] in known else _sparing(rule) for rule in rules]


_spared: dict[int, tuple[Rule, Rule]] = {}
"""Of each rule, by its id and beside it, what is left of it: kernels share most of their rules, as objects."""


def _sparing(rule: Rule) -> Rule:
    if id(rule) not in _spared:
        _spared[id(rule)] = rule, _made_sparing(rule)
    return _spared[id(rule)][1]


def _made_sparing(rule: Rule) -> Rule:
    def elsewhere(x: Term) -> Term:
        if rule.name in OF_BLOCK:
            return forall(Page, lambda w: Implies(block(w) == block(x), Not(hugetlb(w))))
        return Not(hugetlb(x))

    pages = [elsewhere(p.term) for p in rule.params if p.sort == Page]
    frames = [
        forall(Proc, Page, lambda q, w, f=p.term: Implies(maps(q, w, f), Not(hugetlb(w))))
        for p in rule.params if p.sort == Frame and not p.fresh
    ]
    return replace(rule, guard=(*rule.guard, *pages, *frames))


def _here(p: Term, v: Term) -> list[Term]:
    return [live(p, v), hugetlb(v)]


def _has_page(p: Term, v: Term) -> Term:
    """alloc_hugetlb_folio succeeds though no reservation is left for (p, v)."""
    return Not(pool_empty(v))


def _others(p: Term, v: Term) -> Term:
    """Another VMA, which owns no reservation, maps the page of (p, v): those that unmap_ref_private takes it from."""
    return exists(
        Proc, lambda q: And(q != p, maps(q, v, pte_frame(p, v)), Not(vma_resv_owner(q, v)))
    )


@rule([P, V], "mmap(MAP_PRIVATE | MAP_HUGETLB): hugetlb_reserve_pages", f"mm/hugetlb.c, {READ}", features=FEATURE,
      lock="write")
def mmap_hugetlb(kernel: Decisions, p: Term, v: Term) -> Step:
    """A private hugetlb mapping takes the place of anonymous memory that nobody has touched; p owns its reservation.

    Nothing else lies in its block, and nobody else has a mapping there.
    """
    alone = forall(Proc, lambda q: Implies(q != p, Not(vma(q, v))))
    small = forall(Page, lambda w: Implies(block(w) == block(v), Not(vma_huge(p, w))))
    return Step(
        [live(p, v), Not(hugetlb(v)), Not(file(v)), pte_none(p, v), alone, small, _has_page(p, v)],
        [
            put(hugetlb(v), True), put(vma_resv_owner(p, v), True), put(vma_resv_unmapped(p, v), False),
            put(vma_uffd(p, v), False), put(vma_missing(p, v), False), put(vma_mergeable(p, v), False),
        ],
    )


@rule([V], "nr_hugepages: set_max_huge_pages", f"mm/hugetlb.c, {READ}", features=FEATURE)
def hugetlb_drain(kernel: Decisions, v: Term) -> Step:
    """The administrator sets the size of the pool to 0: what is neither used nor reserved goes, and what is freed later
    goes as well (surplus pages)."""
    return Step([hugetlb(v)], each(Page, lambda w: put(pool_empty(w), True)))


@rule([P, V, NEW], "hugetlb_no_page", f"mm/hugetlb.c, {READ}", features=FEATURE, lock="fault")
def hugetlb_fault(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A fault on an empty PTE maps a fresh zeroed page, read-only; one for writing then goes on in hugetlb_wp."""
    return Step(
        [*_here(p, v), pte_none(p, v), may_fill(p, v)],
        [fresh_page(new, ZERO), map_read_only(p, v, new), prepare_anon_vma(p, v), set_exclusive(kernel, new)],
    )


@rule([P, V], "hugetlb_no_page, -ENOSPC: SIGBUS", f"mm/hugetlb.c, {READ}", kind="refusal", features=FEATURE)
def hugetlb_fault_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """There is nothing mapped, and no page: the pool is empty, or the owner of the reservation has taken it away
    (HPAGE_RESV_UNMAPPED)."""
    return Step([*_here(p, v), pte_none(p, v), Not(may_fill(p, v))])


def _write_fault(p: Term, v: Term) -> list[Term]:
    return [*_here(p, v), vma_write(p, v), pte_present(p, v), Not(pte_write(p, v))]


def _alone(p: Term, v: Term) -> Term:
    """page_mapcount == 1, of an anonymous page; references do not count, in any kernel."""
    return mapped_only_by(p, v, pte_frame(p, v))


@rule([P, V], "hugetlb_wp (up to 5.18 hugetlb_cow)", f"mm/hugetlb.c, {READ}", features=FEATURE, lock="fault")
def hugetlb_reuse(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault takes the page if it is mapped once, whoever refers to it; from 5.19 it becomes exclusive."""
    return Step(
        [*_write_fault(p, v), _alone(p, v)],
        [
            put(pte_write(p, v), True), put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True),
            set_exclusive(kernel, pte_frame(p, v)),
        ],
    )


@rule([P, V, NEW], "hugetlb_wp (up to 5.18 hugetlb_cow)", f"mm/hugetlb.c, {READ}", features=FEATURE, lock="fault")
def hugetlb_copy(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A write fault copies a page that is mapped more than once."""
    return Step(
        [*_write_fault(p, v), Not(_alone(p, v)), _has_page(p, v)],
        [fresh_page(new, frame_value(pte_frame(p, v))), map_writable(p, v, new), set_exclusive(kernel, new)],
    )


def _taken_back(p: Term, v: Term) -> list[Update]:
    """unmap_ref_private: whoever maps the page and owns no reservation loses it, and gets SIGBUS from then on."""
    f = pte_frame(p, v)
    return each(
        Proc,
        lambda q: put(pte_present(q, v), False) + put(uffd_marker(q, v), False) + put(vma_resv_unmapped(q, v), True),
        when=lambda q: And(q != p, maps(q, v, f), Not(vma_resv_owner(q, v))),
    )


@rule([P, V], "hugetlb_wp: unmap_ref_private", f"mm/hugetlb.c, {READ}", features=FEATURE, lock="fault")
def hugetlb_take_back(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault of the reservation's owner finds no page to copy to: it takes the page from its children."""
    return Step(
        [*_write_fault(p, v), vma_resv_owner(p, v), Not(_has_page(p, v)), _others(p, v)], _taken_back(p, v)
    )


@rule([P, V], "hugetlb_wp, -ENOSPC: SIGBUS", f"mm/hugetlb.c, {READ}", kind="refusal", features=FEATURE)
def hugetlb_copy_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault of one that owns no reservation finds no page to copy to."""
    return Step([*_write_fault(p, v), Not(_alone(p, v)), Not(_has_page(p, v)), Not(vma_resv_owner(p, v))])


def _unshare_fault(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """hugetlb_wp for a reader (FAULT_FLAG_UNSHARE), which kernels have that have PG_anon_exclusive."""
    return [*needs_private(kernel, p, v), hugetlb(v)]


@rule([P, V], "hugetlb_wp(FAULT_FLAG_UNSHARE)", "mm/hugetlb.c, read in 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7",
      features=FEATURE, lock="fault")
def hugetlb_unshare_reuse(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """A fault for a reader finds the page mapped once: it becomes exclusive and stays read-only."""
    if not kernel.exclusive_bit:
        return None
    fault = _unshare_fault(kernel, p, v)
    return Step([*fault, _alone(p, v)], [set_exclusive(kernel, pte_frame(p, v))])


@rule([P, V, NEW], "hugetlb_wp(FAULT_FLAG_UNSHARE)", "mm/hugetlb.c, read in 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7",
      features=FEATURE, lock="fault")
def hugetlb_unshare_copy(kernel: Decisions, p: Term, v: Term, new: Term) -> Step | None:
    """A fault for a reader copies a page that is mapped more than once; the copy is read-only."""
    if not kernel.exclusive_bit:
        return None
    fault = _unshare_fault(kernel, p, v)
    return Step(
        [*fault, Not(_alone(p, v)), _has_page(p, v)],
        [fresh_page(new, frame_value(pte_frame(p, v))), map_read_only(p, v, new), set_exclusive(kernel, new)],
    )


@rule([P, V], "hugetlb_wp(FAULT_FLAG_UNSHARE): unmap_ref_private",
      "mm/hugetlb.c, read in 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7", features=FEATURE, lock="fault")
def hugetlb_unshare_take_back(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """A fault for a reader that owns the reservation takes the page from its children, too, if the pool is empty."""
    if not kernel.exclusive_bit:
        return None
    fault = _unshare_fault(kernel, p, v)
    return Step(
        [*fault, vma_resv_owner(p, v), Not(_has_page(p, v)), _others(p, v)], _taken_back(p, v)
    )


@rule([P, V], "hugetlb_wp(FAULT_FLAG_UNSHARE), -ENOSPC: -EFAULT",
      "mm/hugetlb.c, read in 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7", kind="refusal", features=FEATURE)
def hugetlb_unshare_refused(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """A fault for a reader, which is a write fault in 5.8, owns no reservation and finds no page to copy to."""
    if not (kernel.exclusive_bit or kernel.read_gup_writes):
        return None
    fault = _write_fault(p, v) if kernel.read_gup_writes else _unshare_fault(kernel, p, v)
    return Step([*fault, Not(_alone(p, v)), Not(_has_page(p, v)), Not(vma_resv_owner(p, v))])


@rule([P], "copy_hugetlb_page_range, -ENOSPC", "mm/hugetlb.c, read in 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7",
      kind="refusal", features=FEATURE)
def fork_refused(kernel: Decisions, p: Term) -> Step:
    """fork has to copy a pinned hugetlb page, and the pool is empty."""
    return Step([alive(p), lacks_copies(kernel, p)])


RULES = (
    mmap_hugetlb, hugetlb_drain, hugetlb_fault, hugetlb_fault_refused, hugetlb_reuse, hugetlb_copy, hugetlb_take_back,
    hugetlb_copy_refused, hugetlb_unshare_reuse, hugetlb_unshare_copy, hugetlb_unshare_take_back,
    hugetlb_unshare_refused, fork_refused,
)
