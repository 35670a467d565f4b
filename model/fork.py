"""fork: dup_mmap, copy_page_range, copy_one_pte / copy_present_pte (mm/memory.c); what madvise says of it.

One step, unless a feature splits it, because mmap_lock is held for write throughout and the parent's TLB is flushed
before it is dropped (domain.md 7.3). The child never inherits references.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import z3
from z3 import And, BoolVal, If, Implies, Not, Or

from model.decisions import Decisions, Predicate
from model.logic import (
    Param,
    RuleTemplate,
    Stage,
    Staged,
    StateFunction,
    Step,
    Term,
    Update,
    each,
    exists,
    forall,
    put,
    rule,
)
from model.protect import ranged
from model.ptes import P, V, fresh_page, has_anon_vma, split_pte
from model.state import (
    Frame,
    Page,
    Pin,
    Proc,
    Span,
    alike,
    alive,
    block,
    exclusive,
    fast,
    file,
    force_cow,
    fork_copy,
    fork_early,
    fork_shared,
    fork_tested,
    frame_free,
    frame_value,
    has_pinned,
    hugetlb,
    live,
    maps,
    memalloc_pin,
    migration_exclusive,
    nonanon,
    not_forked,
    page_table,
    pin_dontfork,
    pin_known,
    pin_page,
    pin_proc,
    pool_empty,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_migration,
    pte_none,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    seq_moved,
    stale,
    stale_frame,
    uffd_armed,
    uffd_marker,
    uffd_unpopulated,
    vma,
    vma_anon,
    vma_apart,
    vma_dontfork,
    vma_exec,
    vma_guard,
    vma_huge,
    vma_mergeable,
    vma_missing,
    vma_new,
    vma_none,
    vma_resv_owner,
    vma_resv_unmapped,
    vma_soft_dirty,
    vma_uffd,
    vma_unwatched,
    vma_wipeonfork,
    vma_write,
)

CHILD = Param("child", Proc, fresh=True)


def not_shared(kernel: Decisions, p: Term, v: Term, f: Term) -> Term:
    """fork copies f, mapped at (p, v), for the child."""
    small, of_hugetlb = _not_shared(kernel.fork_copies, p, v, f), _not_shared(kernel.hugetlb_fork_copies, p, v, f)
    return Or(And(Not(hugetlb(v)), small), And(hugetlb(v), of_hugetlb))


def _not_shared(copies: Predicate, p: Term, v: Term, f: Term) -> Term:
    return And(Not(nonanon(f)), copies(p, v, f))


def _comes_to_share(kernel: Decisions, p: Term, f: Term) -> Term:
    """The child comes to map f. Of hugetlb pages apart, so that "somebody pins f" stays outside the quantifier over
    pages."""

    def shares(kind: Callable[[Term], Term], copies: Predicate) -> Term:
        return exists(Page, lambda v: And(
            maps(p, v, f), Not(not_forked(p, v)), kind(v), Not(_not_shared(copies, p, v, f))
        ))

    return Or(shares(lambda v: Not(hugetlb(v)), kernel.fork_copies), shares(hugetlb, kernel.hugetlb_fork_copies))


def copied_early(kernel: Decisions, p: Term, v: Term) -> Term:
    """The child gets its own copy of the page at (p, v)."""
    return And(pte_present(p, v), Not(not_forked(p, v)), not_shared(kernel, p, v, pte_frame(p, v)))


def lacks_copies(kernel: Decisions, p: Term) -> Term:
    """copy_hugetlb_page_range finds no page for a copy that it has to make: fork fails."""
    return exists(Page, lambda v: And(hugetlb(v), pool_empty(v), copied_early(kernel, p, v)))


_of = z3.Const("v", Page)
COPY = Param(
    "copy", Frame, fresh=True, over=Page, of=_of,
    needed=lambda kernel, named, v: copied_early(kernel, named["p"], v),
)


def _forked(kernel: Decisions, p: Term, q: Term, copy: Any, event: bool = False) -> Staged:
    """The sub-steps of fork. `event`: the monitor is told of it, so that the child is registered as well."""
    now = SimpleNamespace(
        early=lambda v: copied_early(kernel, p, v), copy=copy,
        # Said of f, not of the PTE, so that "somebody pins f" stays outside the quantifier over pages.
        was_shared=lambda f: _comes_to_share(kernel, p, f),
    )
    saved = SimpleNamespace(
        early=lambda v: fork_early(p, v), copy=lambda v: fork_copy(p, v),
        was_shared=lambda f: _shares(p, f, lambda v: fork_early(p, v)),
    )

    def test(to: Any) -> Step:
        distinct = forall(
            Page, Page, lambda v, w: Implies(And(to.early(v), to.early(w), to.copy(v) == to.copy(w)), v == w)
        )
        room = forall(Page, lambda v: Implies(to.early(v), frame_free(to.copy(v))))
        overlaps = each(Pin, lambda k: put(seq_moved(k), True), when=lambda k: And(fast(k), pin_proc(k) == p))
        return Step([alive(p), Not(lacks_copies(kernel, p)), room, distinct], overlaps)

    def copy_tables(to: Any) -> Step:
        updates: list[Any] = [
            each(Page, lambda v: _inherited(kernel, p, q, v, to, event)),
            each(Page, lambda v: put(pte_write(p, v), False),
                 when=lambda v: And(
                     Or(And(pte_present(p, v), Not(to.early(v))), pte_migration(p, v)), Not(not_forked(p, v))
                 )),
            each(Page, lambda v: fresh_page(to.copy(v), frame_value(pte_frame(p, v)))
                 + put(page_table(p, block(v)), _table(p, v, to)), when=to.early),
            each(Page, lambda v: split_pte(kernel, p, v), when=lambda v: And(to.early(v), pte_huge(p, v))),
        ]
        if kernel.exclusive_bit:
            updates += [
                each(Page, lambda v: put(pte_swap_exclusive(p, v), False) + put(pte_swap_exclusive(q, v), False)
                     + put(migration_exclusive(p, v), False) + put(migration_exclusive(q, v), False),
                     when=lambda v: Not(not_forked(p, v))),
                each(Page, lambda v: put(exclusive(to.copy(v)), True), when=to.early),
                each(Frame, lambda f: put(exclusive(f), False), when=to.was_shared),
            ]
        return Step([], updates)

    def leave_stale(to: Any) -> list[Update]:
        return each(
            Page, lambda v: put(stale(p, v), True) + put(stale_frame(p, v), pte_frame(p, v)),
            when=lambda v: And(pte_present(p, v), pte_write(p, v), Not(not_forked(p, v)), Not(to.early(v))),
        )

    def finish(to: Any) -> Step:
        return Step([], [
            put(alive(q), True), put(has_pinned(q), False), put(vma_soft_dirty(q), vma_soft_dirty(p)),
            each(Page, lambda v: put(stale(p, v), False) + put(fork_early(p, v), False)),
        ])

    return Staged(
        (Stage("test", test), Stage("copy", copy_tables, apart={"tlb": leave_stale}), Stage("finish", finish)),
        (fork_tested(p, q), fork_shared(p, q)), now, saved,
        save=each(Page, lambda v: put(fork_early(p, v), True) + put(fork_copy(p, v), copy(v)), when=now.early),
    )


@rule([P, CHILD, COPY], "dup_mmap, copy_page_range, copy_present_page",
      "domain.md (f) of each kernel, 7.2 S1; decision `fork_copies`", lock="write", split=("fork", "tlb"))
def fork(kernel: Decisions, p: Term, q: Term, copy: Any) -> Staged:
    """Every page is shared, read-only in both, except those that `fork_copies` names: the child gets its own copy.

    Of a VMA with VM_DONTCOPY or VM_WIPEONFORK nothing is copied, and the parent's PTEs stay as they are. The PMD of a
    THP to be copied is split, and its sub-pages are copied one by one. Sub-steps: pages are looked at, page tables are
    copied, TLBs are flushed and the child may run.
    """
    return _forked(kernel, p, q, copy)


@rule([P, CHILD, COPY], "dup_mmap, dup_userfaultfd, copy_present_page",
      "domain.md 2.14, F24; decision `early_copy_keeps_uffd_wp`", lock="write", features=("uffd-fork",))
def fork_event(kernel: Decisions, p: Term, q: Term, copy: Any) -> Step:
    """fork under a monitor that asks for the fork event: the child is registered as its parent is, and keeps uffd-wp.

    Up to 5.13 not in the copy that it gets of a pinned page, which is writable (8f34f1eac382). One step, whatever else
    is in sub-steps.
    """
    return _forked(kernel, p, q, copy, event=True).whole()


def _shares(p: Term, f: Term, copied: Callable[[Term], Term]) -> Term:
    """The child comes to map f by a PTE of p's that is not `copied` early."""
    return exists(Page, lambda v: And(maps(p, v, f), Not(not_forked(p, v)), Not(copied(v))))


def _apart(p: Term, v: Term) -> Term:
    """anon_vma_fork: each VMA of the child has an anon_vma of its own, so that those of one block never merge."""

    def divides(flag: StateFunction) -> Term:
        return exists(Page, lambda w: And(block(w) == block(v), vma(p, w), flag(p, w) != flag(p, v)))

    partly = exists(Page, lambda w: And(block(w) == block(v), vma(p, w), Not(alike(vma_wipeonfork, p, v, w))))
    by_none = Or(vma_none(p, v), vma_apart(p, v))
    by_exec = If(divides(vma_exec), vma_exec(p, v), by_none)
    by_flag = If(divides(vma_mergeable), vma_mergeable(p, v), by_exec)
    inherited = If(vma_huge(p, v), If(divides(vma_write), vma_write(p, v), by_flag), vma_apart(p, v))
    # What is wiped has no anon_vma, and merges with what has none, but not with what has its parent's as well.
    wiped = If(vma_wipeonfork(p, v), vma_apart(p, v), inherited)
    return If(And(vma_huge(p, v), partly), vma_wipeonfork(p, v), wiped)


def _table(p: Term, v: Term, to: Any) -> Term:
    """There is a page table for v: there was, or the early copy of a THP splits its PMD."""
    return Or(page_table(p, block(v)), And(to.early(v), pte_huge(p, v)))


def _child_table(p: Term, v: Term, to: Any, event: bool) -> Term:
    """The child has one: not where fork copies nothing of what the PMD covers, be it that nothing but markers is there
    (vma_needs_copy)."""

    def somewhere(holds: Callable[[Term], Term]) -> Term:
        return exists(Page, lambda w: And(block(w) == block(v), vma(p, w), holds(w)))

    left_out = somewhere(lambda w: not_forked(p, w))
    marks = somewhere(uffd_unpopulated)
    needs = somewhere(lambda w: And(
        Not(not_forked(p, w)), Or(has_anon_vma(p, w), vma_uffd(p, w)) if event else has_anon_vma(p, w)
    ))
    return And(_table(p, v, to), Or(Not(left_out), somewhere(lambda w: Not(not_forked(p, w)))), Or(Not(marks), needs))


def _copies_ptes(p: Term, v: Term) -> Term:
    """fork copies the page table of the VMA; without an anon_vma a fault of the child finds all that is there.

    vma_needs_copy, in 5.10 the first lines of copy_page_range (d992895ba2b2, 2.6.14): not what maps pages of a file or
    the zero page alone. Without the fork event the child is not registered with userfaultfd, which would ask for it.
    Read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7.
    """
    return Or(Not(nonanon(pte_frame(p, v))), has_anon_vma(p, v), And(file(v), vma_guard(p, v)))


def _protected_copy(kernel: Decisions, p: Term, v: Term, early: Term) -> Term:
    """The child's uffd-wp bit where it is registered as its parent is; one that means nothing is cleared
    (userfaultfd_wp(dst_vma))."""
    copied = Or(Not(early), BoolVal(kernel.early_copy_keeps_uffd_wp))
    return And(pte_uffd_wp(p, v), vma_uffd(p, v), copied, Not(pte_guard(p, v)))


def _inherited(kernel: Decisions, p: Term, q: Term, v: Term, to: Any, event: bool) -> list[Update]:
    """What the child's page table says of v. Without the fork event it is not registered with userfaultfd."""
    early, copied = to.early(v), Not(not_forked(p, v))
    protected = _protected_copy(kernel, p, v, early) if event else BoolVal(False)
    # From 5.19 on, since there are markers, a child that is registered needs its page table (vma_needs_copy).
    needed = And(vma_uffd(p, v), BoolVal(event and kernel.uffd_markers))
    tables = Or(_copies_ptes(p, v), needed) if event else _copies_ptes(p, v)

    ignores_vma = And(hugetlb(v), BoolVal(kernel.hugetlb_copy_writable))

    def kept(flag: StateFunction) -> Term:
        return flag(p, v) if event else BoolVal(False)

    leaves_marker = And(vma_uffd(p, v), pte_none(p, v), uffd_marker(p, v))
    return (
        put(vma(q, v), And(vma(p, v), Not(vma_dontfork(p, v)))) + put(vma_apart(q, v), _apart(p, v))
        + put(page_table(q, block(v)), _child_table(p, v, to, event))
        + put(vma_dontfork(q, v), False) + put(vma_wipeonfork(q, v), vma_wipeonfork(p, v))
        + put(vma_write(q, v), vma_write(p, v)) + put(vma_exec(q, v), vma_exec(p, v))
        + put(vma_none(q, v), vma_none(p, v)) + put(vma_new(q, v), vma_new(p, v))
        + put(vma_huge(q, v), vma_huge(p, v)) + put(vma_mergeable(q, v), vma_mergeable(p, v))
        + put(vma_uffd(q, v), kept(vma_uffd)) + put(vma_missing(q, v), kept(vma_missing))
        + put(vma_unwatched(q, v), False) + put(pte_uffd_wp(q, v), protected) + put(uffd_armed(q, v), kept(uffd_armed))
        + put(uffd_marker(q, v), And(leaves_marker, copied) if event else BoolVal(False))
        + put(vma_resv_owner(q, v), False) + put(vma_resv_unmapped(q, v), False)
        + put(force_cow(q, v), False) + put(memalloc_pin(q, v), False)
        + put(pte_present(q, v), And(pte_present(p, v), copied, tables))
        + put(vma_anon(q, v), And(has_anon_vma(p, v), Not(vma_wipeonfork(p, v))))
        + put(pte_migration(q, v), And(pte_migration(p, v), copied, tables))
        + put(pte_frame(q, v), If(And(early, Not(pte_migration(p, v))), to.copy(v), pte_frame(p, v)))
        + put(pte_huge(q, v), And(pte_huge(p, v), Not(early)))
        + put(pte_write(q, v), And(early, Or(vma_write(p, v), ignores_vma), Not(protected)))
        + put(pte_dirty(q, v), Or(early, pte_dirty(p, v)))
        + put(pte_soft_dirty(q, v), Or(early, And(pte_soft_dirty(p, v), Not(pte_guard(p, v)))))
        + put(pte_guard(q, v), And(pte_guard(p, v), copied)) + put(vma_guard(q, v), vma_guard(p, v))
        + put(pte_swap(q, v), And(pte_swap(p, v), copied)) + put(pte_slot(q, v), pte_slot(p, v))
    )


def _advice(
    name: str, flag: StateFunction, on: bool, about: str, also: Callable[[Term, Term], list[Update]] = lambda p, v: [],
    anonymous: bool = False, undoes: bool = False,
) -> tuple[RuleTemplate, ...]:
    """The rules of one madvise about fork: of a page, of a whole block, where nothing changes, and refused.

    `also`: what it changes beside the flag. `anonymous`: it is refused of a file mapping, and of hugetlb pages.
    `undoes`: MADV_DOFORK, which does not ask what it may undo in every kernel; decision `dofork_of_special`.
    """
    function, source = f"madvise({name.upper().replace('-', '_')}): madvise_vma_behavior", "domain.md 2.14"
    features = ("madv-fork",)

    def allowed(kernel: Decisions, p: Term, v: Term) -> Term:
        if anonymous:
            return And(live(p, v), Not(file(v)), Not(hugetlb(v)))
        return live(p, v) if not undoes or kernel.dofork_of_special else And(live(p, v), Not(hugetlb(v)))

    def advise(kernel: Decisions, p: Term, span: Span) -> Step:
        return Step(
            [span.every(lambda v: allowed(kernel, p, v)), span.in_ptes(p)],
            [span.each(lambda v: put(flag(p, v), on) + also(p, v))],
        )

    def nothing(kernel: Decisions, p: Term, v: Term) -> Step:
        return Step([allowed(kernel, p, v), pte_present(p, v), pte_huge(p, v), flag(p, v) == BoolVal(on)])

    def refused(kernel: Decisions, p: Term, v: Term) -> Step:
        return Step([Not(allowed(kernel, p, v))])

    advise.__name__, advise.__doc__ = name, about
    nothing.__doc__ = "That has been said before of all that the PMD maps, which stays whole: new_flags == vm_flags."
    refused.__doc__ = f"There is no VMA{', or one of a file or of hugetlb pages' if anonymous else ''}."
    made = rule([P, V], function, source, name=f"{name}-nothing", features=(*features, "huge"), lock="write")(nothing)
    fails = rule([P, V], function, source, kind="refusal", name=f"{name}-refused", features=features)(refused)
    return (*ranged(function, source, lock="write", features=features)(advise), made, fails)


def _forked_again(p: Term, v: Term) -> list[Update]:
    return each(
        Pin, lambda k: put(pin_dontfork(k), False), when=lambda k: And(pin_known(k), pin_proc(k) == p, pin_page(k) == v)
    )


madv_dontfork = _advice(
    "madv-dontfork", vma_dontfork, True, "VM_DONTCOPY is set: a child of a later fork has no VMA there."
)
madv_dofork = _advice("madv-dofork", vma_dontfork, False, "VM_DONTCOPY is cleared.", _forked_again, undoes=True)
madv_wipeonfork = _advice(
    "madv-wipeonfork", vma_wipeonfork, True,
    "VM_WIPEONFORK is set: a child of a later fork finds nothing mapped there.", anonymous=True,
)
madv_keeponfork = _advice("madv-keeponfork", vma_wipeonfork, False, "VM_WIPEONFORK is cleared.")

RULES = (fork, fork_event, *madv_dontfork, *madv_dofork, *madv_wipeonfork, *madv_keeponfork)
