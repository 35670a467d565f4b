"""Operations that take the write bit away or give it back: mprotect, soft-dirty clear, userfaultfd write-protect.

What each does to a pinned page is a decision of the kernel: `clear` (no test), `skip` (leave that PTE as it is) or
`refuse` (the call fails). Sources: change_pte_range, change_huge_pmd (mm/mprotect.c, mm/huge_memory.c),
clear_soft_dirty (fs/proc/task_mmu.c). Those that take a range have a rule for one page, and with huge pages another
one for the whole block, which leaves its PMD whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from z3 import And, BoolVal, If, Not, Or

from model.decisions import Decisions
from model.logic import RuleTemplate, Stage, Staged, Step, Term, Update, each, exists, forall, put, rule
from model.ptes import P, V, batched
from model.state import (
    Page,
    Span,
    alike,
    alive,
    block,
    file,
    forked_alike,
    hugetlb,
    in_page_cache,
    ksm,
    live,
    mprotect_flushing,
    nonanon,
    page_table,
    pinned_in,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_migration,
    pte_none,
    pte_present,
    pte_soft_dirty,
    pte_swap,
    pte_uffd_wp,
    pte_write,
    readable,
    same_pmd,
    soft_dirty_flushing,
    stale,
    stale_frame,
    uffd_armed,
    uffd_flushing,
    uffd_marker,
    uffd_unpopulated,
    uffd_unwp_flushing,
    vma_exec,
    vma_huge,
    vma_mergeable,
    vma_missing,
    vma_new,
    vma_none,
    vma_soft_dirty,
    vma_uffd,
    vma_write,
)

NONE = ("prot-none",)


def ranged(
    kernel_function: str, source: str, kind: str = "step", lock: str = "", split: Iterable[str] = (),
    features: Iterable[str] = (),
) -> Callable[[Callable[[Any, Term, Span], Step | Staged]], tuple[RuleTemplate, RuleTemplate]]:
    """Decorator: the rule written below for one page, and as NAME-range (-refused) for a whole block."""

    def wrap(body: Callable[[Any, Term, Span], Step | Staged]) -> tuple[RuleTemplate, RuleTemplate]:
        def on(whole: bool) -> RuleTemplate:
            def run(kernel: Decisions, p: Term, v: Term) -> Step | Staged:
                return body(kernel, p, Span(v, whole))

            run.__doc__ = body.__doc__
            name = body.__name__.replace("_", "-")
            stem = name.removesuffix("-refused")
            name = f"{stem}-range{name[len(stem):]}" if whole else name
            return rule(
                [P, V], kernel_function, source, kind=kind, name=name,
                features=(*features, "huge") if whole else tuple(features), lock=lock, split=split,
            )(run)

        return on(False), on(True)

    return wrap


def flushing_later(
    step: Step, p: Term, covers: Callable[[Term], Term], pending: Term,
    left: Callable[[Term], Term] = lambda w: BoolVal(False),
) -> Staged:
    """The step, and the flush of the TLBs that its caller does at the end: flush_tlb_range.

    `covers(w)`: the pages of p that it protects, but those that it finds as they should be, `left(w)`. `pending`: the
    cell that says the flush is to come.
    """
    cached_writable = each(
        Page, lambda w: put(stale(p, w), True) + put(stale_frame(p, w), pte_frame(p, w)),
        when=lambda w: And(covers(w), Not(left(w)), pte_present(p, w), pte_write(p, w)),
    )
    flush = each(Page, lambda w: put(stale(p, w), False), when=covers)
    return Staged(
        (Stage("change", lambda view: step), Stage("flush", lambda view: Step([], [flush]))), (pending,),
        save=cached_writable,
    )


def write_pinned(p: Term, v: Term) -> Term:
    """The PTE is writable and its page maybe pinned: the test of 9348b73c2e1b, pte_is_pinned in task_mmu.c."""
    return And(pte_write(p, v), pinned_in(p, v))


def _skipped(decision: str, p: Term, v: Term) -> Term:
    return write_pinned(p, v) if decision == "skip" else BoolVal(False)


def _forbidden(decision: str, p: Term) -> Callable[[Term], Term]:
    return lambda v: write_pinned(p, v) if decision == "refuse" else BoolVal(False)


def _permitted(decision: str, p: Term, span: Span) -> list[Term]:
    return [Not(span.some(_forbidden(decision, p))), span.in_ptes(p)]


def _kept_or_restored(decision: str, restores: Callable[..., Term], p: Term, v: Term) -> Term:
    """The write bit after change_pte_range in a VMA that is writable from now on.

    pte_modify installs vm_page_prot, which is read-only in a private mapping, so a PTE loses its write bit, whoever
    asked for what; then can_change_pte_writable may give it (back), but not in hugetlb_change_protection.
    """
    f = pte_frame(p, v)
    restored = And(pte_present(p, v), Not(nonanon(f)), Not(hugetlb(v)), restores(p, v, f))
    return Or(And(pte_write(p, v), _skipped(decision, p, v)), restored)


@ranged("mprotect(PROT_READ): mprotect_fixup, change_pte_range, change_huge_pmd",
        "domain.md (g) of each kernel; decision `mprotect_pinned`", lock="write", split=("tlb",))
def mprotect_ro(kernel: Decisions, p: Term, span: Span) -> Staged:
    """VM_WRITE goes and the PTE loses its write bit; a VMA that has those flags already is left as it is."""
    return _made_read_only(kernel, p, span, lambda v: Not(Or(vma_write(p, v), vma_exec(p, v), vma_none(p, v))), False)


def _made_read_only(kernel: Decisions, p: Term, span: Span, same: Callable[[Term], Term], none: bool) -> Staged:
    """mprotect to flags without VM_WRITE. `same(v)`: the VMA has them already; `none`: VM_READ goes as well."""
    decision = kernel.mprotect_pinned

    def changed(v: Term) -> list[Update]:
        kept = Or(same(v), _skipped(decision, p, v))
        return (
            put(vma_write(p, v), False) + put(vma_exec(p, v), False) + put(vma_none(p, v), none)
            + put(pte_write(p, v), And(pte_write(p, v), kept))
        )

    step = Step(
        [span.every(lambda v: live(p, v)), *_permitted(decision, p, span)],
        [span.each(changed), batched(kernel, p, span, same)],
    )
    return flushing_later(step, p, span.covers, mprotect_flushing(p, span.page))


@ranged("mprotect(PROT_NONE): mprotect_fixup, change_pte_range, change_huge_pmd",
        "domain.md 2.14; decision `mprotect_pinned`", lock="write", split=("tlb",), features=NONE)
def mprotect_none(kernel: Decisions, p: Term, span: Span) -> Staged:
    """The same, and VM_READ goes: PTEs stay, but no load and no get_user_pages without FOLL_FORCE goes through them."""
    return _made_read_only(kernel, p, span, lambda v: vma_none(p, v), True)


@ranged("mprotect(PROT_NONE) refused", "domain.md 2.8", kind="refusal", features=NONE)
def mprotect_none_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """No VMA, or (decision `refuse`) a pinned writable page."""
    return _no_mprotect(kernel.mprotect_pinned, p, span)


@ranged("mprotect(PROT_READ) refused", "domain.md 2.8", kind="refusal")
def mprotect_ro_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """No VMA, or (decision `refuse`) a pinned writable page."""
    return _no_mprotect(kernel.mprotect_pinned, p, span)


def _no_mprotect(decision: str, p: Term, span: Span) -> Step:
    """mprotect is refused. Of a range with a hole what lies before it has been changed by then, page by page."""
    refused = _forbidden(decision, p)
    if span.whole:
        return Step([span.every(lambda v: live(p, v)), span.some(refused)])
    return Step([span.some(lambda v: Or(Not(live(p, v)), refused(v)))])


def _left_alone(p: Term, v: Term, write: bool, executable: bool, none: bool = False) -> Step:
    """mprotect of a part of what a PMD maps to the flags that its VMA has.

    mprotect_fixup returns before it splits the VMA, and with it the PMD (split_vma, vma_adjust_trans_huge). Read in
    5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7.
    """
    flags = [flag(p, v) == BoolVal(on) for flag, on in ((vma_write, write), (vma_exec, executable))]
    read = vma_none(p, v) if none else Not(vma_none(p, v))
    return Step([live(p, v), pte_present(p, v), pte_huge(p, v), *flags, read])


@rule([P, V], "mprotect_fixup: newflags == oldflags", "mm/mprotect.c", features=("huge",), lock="write")
def mprotect_ro_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """mprotect(PROT_READ) of a part of a THP that is read-only already does nothing: its PMD stays whole."""
    return _left_alone(p, v, write=False, executable=False)


@rule([P, V], "mprotect_fixup: newflags == oldflags", "mm/mprotect.c", features=("huge",), lock="write")
def mprotect_rw_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """mprotect(PROT_READ | PROT_WRITE) of a part of a THP that has those flags already: its PMD stays whole."""
    return _left_alone(p, v, write=True, executable=False)


@rule([P, V], "mprotect_fixup: newflags == oldflags", "mm/mprotect.c", features=("huge", "exec"), lock="write")
def mprotect_rwx_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """mprotect(PROT_READ | PROT_WRITE | PROT_EXEC) of a part of a THP that has those flags: its PMD stays whole."""
    return _left_alone(p, v, write=True, executable=True)


@rule([P, V], "mprotect_fixup: newflags == oldflags", "mm/mprotect.c", features=("huge", *NONE), lock="write")
def mprotect_none_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """mprotect(PROT_NONE) of a part of a THP that is PROT_NONE already does nothing: its PMD stays whole."""
    return _left_alone(p, v, write=False, executable=False, none=True)


def _made_writable(
    kernel: Decisions, p: Term, span: Span, same: Callable[[Term], Term], flags: Callable[[Term], list[Update]],
    when: Callable[[Term], Term] = lambda v: BoolVal(True),
) -> Staged:
    """mprotect to flags with VM_WRITE. `same(v)`: the VMA has them already; `flags(v)`: the updates of the VMA.

    `when(v)`: what must hold of each page.
    """

    def changed(v: Term) -> list[Update]:
        kept = _kept_or_restored(kernel.mprotect_other_pinned, kernel.mprotect_restores, p, v)
        return flags(v) + put(vma_none(p, v), False) + put(pte_write(p, v), If(same(v), pte_write(p, v), kept))

    step = Step(
        [span.every(lambda v: And(live(p, v), when(v))), *_permitted(kernel.mprotect_other_pinned, p, span)],
        [span.each(changed), batched(kernel, p, span, same)],
    )
    return flushing_later(step, p, span.covers, mprotect_flushing(p, span.page), left=same)


@ranged("mprotect(PROT_READ | PROT_WRITE): mprotect_fixup, change_pte_range, can_change_pte_writable",
        "domain.md (g) of each kernel; decisions `mprotect_restores`, `mprotect_other_pinned`", lock="write",
        split=("tlb",))
def mprotect_rw(kernel: Decisions, p: Term, span: Span) -> Staged:
    """VM_WRITE comes back; the PTE has its write bit then only where `mprotect_restores` says so (64fe24a3e05e, 6.0).

    A VMA that has those flags already is left as it is: mprotect_fixup returns at once.
    """
    return _made_writable(
        kernel, p, span, lambda v: And(vma_write(p, v), Not(vma_exec(p, v))),
        lambda v: put(vma_write(p, v), True) + put(vma_exec(p, v), False),
    )


@ranged("mprotect, -ENOMEM", "domain.md (g)", kind="refusal")
def mprotect_rw_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """mprotect where there is no VMA, or (decision `refuse`) a pinned writable page."""
    return _no_mprotect(kernel.mprotect_other_pinned, p, span)


@ranged("mprotect(PROT_READ | PROT_WRITE | PROT_EXEC): mprotect_fixup, change_pte_range",
        "domain.md (g) of each kernel; decisions `mprotect_restores`, `mprotect_other_pinned`", lock="write",
        split=("tlb",), features=("exec",))
def mprotect_rwx(kernel: Decisions, p: Term, span: Span) -> Staged:
    """VM_WRITE and VM_EXEC are set; where that changes anything the write bit goes as in mprotect(RW)."""
    return _made_writable(
        kernel, p, span, lambda v: And(vma_write(p, v), vma_exec(p, v)),
        lambda v: put(vma_write(p, v), True) + put(vma_exec(p, v), True),
    )


@ranged("mprotect, -ENOMEM", "domain.md (g)", kind="refusal", features=("exec",))
def mprotect_rwx_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """mprotect where there is no VMA, or (decision `refuse`) a pinned writable page."""
    return _no_mprotect(kernel.mprotect_other_pinned, p, span)


@ranged("mprotect of a writable VMA: mprotect_fixup, change_pte_range",
        "domain.md (g) of each kernel; decisions `mprotect_restores`, `mprotect_other_pinned`", lock="write",
        split=("tlb",))
def mprotect_other(kernel: Decisions, p: Term, span: Span) -> Staged:
    """An mprotect that changes another flag than VM_WRITE, as to RWX and back, or a protection key.

    Which flag it is does not matter here, so it is not remembered; `mprotect_rwx` remembers VM_EXEC.
    """
    return _made_writable(
        kernel, p, span, same=lambda v: BoolVal(False), flags=lambda v: [], when=lambda v: vma_write(p, v)
    )


@rule([P], "mmap: VM_SOFTDIRTY", "mm/mmap.c, read in 5.10.262 and 7.2.13", features=("vm-soft-dirty",))
def mmap_soft_dirty(kernel: Decisions, p: Term) -> Step:
    """The mappings of a process that has touched nothing are new: they read as soft-dirty."""
    return Step(
        [alive(p), Not(vma_soft_dirty(p)), forall(Page, lambda v: pte_none(p, v))], [put(vma_soft_dirty(p), True)]
    )


@rule([P], "clear_refs_write(CLEAR_REFS_SOFT_DIRTY), clear_soft_dirty",
      "domain.md (h) of each kernel; decisions `soft_dirty_pinned`, `soft_dirty_lock`", lock="soft-dirty",
      split=("tlb",))
def clear_soft_dirty(kernel: Decisions, p: Term) -> Staged:
    """Every PTE is write-protected and its soft-dirty bit cleared, but for pinned ones where the kernel skips them.

    A PMD is not tested for pins. A migration entry loses its soft-dirty bit only: it stays writable (clear_soft_dirty,
    read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7). The walk of page tables passes over hugetlb pages.
    """
    decision = kernel.soft_dirty_pinned
    permitted = [Not(exists(Page, lambda v: write_pinned(p, v)))] if decision == "refuse" else []
    step = Step(
        [alive(p), *permitted],
        [
            put(vma_soft_dirty(p), False), each(Page, lambda v: put(vma_new(p, v), False)),
            each(Page, lambda v: put(pte_write(p, v), And(pte_write(p, v), pte_migration(p, v)))
                 + put(pte_soft_dirty(p, v), False),
                 when=lambda v: And(Not(hugetlb(v)), Or(pte_huge(p, v), Not(_skipped(decision, p, v))))),
        ],
    )
    return flushing_later(step, p, lambda w: BoolVal(True), soft_dirty_flushing(p), left=hugetlb)


@rule([P], "clear_refs_write refused", "domain.md 2.8", kind="refusal")
def clear_soft_dirty_refused(kernel: Decisions, p: Term) -> Step | None:
    """Decision `refuse`: some writable page is pinned."""
    if kernel.soft_dirty_pinned != "refuse":
        return None
    return Step([exists(Page, lambda v: write_pinned(p, v))])


def _watched(kernel: Decisions, p: Term, span: Span) -> Term:
    """mwriteprotect_range finds what it is to change; decision `uffd_across_vmas`.

    Up to 6.3 find_dst_vma wants the range within one VMA; here two differ by a flag, as what mremap brings is not
    registered. Then (a1b92a3f14) it takes one VMA after the other and passes over holes.
    """

    def watched(v: Term) -> Term:
        return And(live(p, v), vma_uffd(p, v))

    if kernel.uffd_across_vmas:
        return And(span.some(watched), span.every(lambda v: Or(Not(live(p, v)), vma_uffd(p, v))))
    flags = (vma_write, vma_exec, *([vma_mergeable] if span.whole else []))
    return span.every(lambda v: And(
        watched(v), *(flag(p, v) == flag(p, span.page) for flag in flags), forked_alike(p, v, span.page),
        alike(vma_missing, p, v, span.page), alike(vma_none, p, v, span.page),
    ))


def _not_protected(kernel: Decisions, p: Term, span: Span, forbidden: Term | None = None) -> Step:
    """mwriteprotect_range fails, or what it finds is `forbidden`, and it has changed nothing.

    Where it takes one VMA after the other, those before one that is not registered have been changed by then, page by
    page. Not told: that it passes over a hole on the way to such a VMA.
    """
    watched = _watched(kernel, p, span)
    if span.whole and kernel.uffd_across_vmas:
        found = [] if forbidden is None else [And(watched, forbidden)]
        return Step([Or(span.every(lambda v: Not(live(p, v))), *found)])
    return Step([Not(watched) if forbidden is None else Or(Not(watched), forbidden)])


def table_of_markers(p: Term, v: Term) -> Term:
    """Where a THP might be, to protect an empty PMD makes a page table, for markers (pgtable_populate_needed)."""
    return And(uffd_unpopulated(v), vma_huge(p, v), pte_none(p, v))


@ranged("UFFDIO_WRITEPROTECT(MODE_WP), change_pte_range",
        "domain.md (i) of each kernel; decision `uffd_wp_pinned`", lock="read", split=("tlb",))
def uffd_wp(kernel: Decisions, p: Term, span: Span) -> Staged:
    """The PTE loses its write bit and gets uffd-wp; an empty PTE is left alone, and so is a guard.

    One of a file mapping gets a marker (from 5.19 on, before which there is no such mapping; decision `uffd_markers`),
    and one of anonymous memory where userfaultfd has WP_UNPOPULATED.
    """
    decision = kernel.uffd_wp_pinned

    def kept(v: Term) -> Term:
        return _skipped(decision, p, v)

    step = Step(
        [_watched(kernel, p, span), *_permitted(decision, p, span)],
        [span.each(
            lambda v: put(pte_write(p, v), And(pte_write(p, v), kept(v)))
            + put(pte_uffd_wp(p, v), If(Or(kept(v), pte_guard(p, v)), pte_uffd_wp(p, v), Not(pte_none(p, v))))
            + put(uffd_armed(p, v), Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v)))
            + put(uffd_marker(p, v), Or(And(file(v), BoolVal(kernel.uffd_markers)), uffd_unpopulated(v)))
        ), span.each(lambda v: put(page_table(p, block(v)), True), when=lambda v: table_of_markers(p, v)),
         batched(kernel, p, span)],
    )
    return flushing_later(step, p, span.covers, uffd_flushing(p, span.page))


@ranged("UFFDIO_WRITEPROTECT refused", "domain.md 2.8", kind="refusal")
def uffd_wp_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """No registered VMA, more than one, or (decision `refuse`) a pinned writable page."""
    return _not_protected(kernel, p, span, span.some(_forbidden(kernel.uffd_wp_pinned, p)))


def unprotected(kernel: Decisions, p: Term, v: Term) -> list[Update]:
    """uffd_wp_range without MODE_WP: uffd-wp goes, and so does the write bit unless `uffd_restores` gives it back."""

    def restores(r: Term, v: Term, f: Term) -> Term:
        return And(vma_write(r, v), kernel.uffd_restores(r, v, f))

    return (
        put(pte_uffd_wp(p, v), And(pte_guard(p, v), pte_uffd_wp(p, v))) + put(uffd_armed(p, v), False)
        + put(uffd_marker(p, v), False)
        + put(pte_write(p, v), _kept_or_restored(kernel.uffd_unwp_pinned, restores, p, v))
    )


@ranged("UFFDIO_WRITEPROTECT(0): mwriteprotect_range, change_pte_range",
        "domain.md (i) of each kernel; decisions `uffd_restores`, `uffd_unwp_pinned`", lock="read", split=("tlb",))
def uffd_unwp(kernel: Decisions, p: Term, span: Span) -> Staged:
    """uffd-wp is cleared, and so is the write bit of a page that was not protected; it comes back only where
    `uffd_restores` says so (931298e103c2, 6.3)."""

    changed = [span.each(lambda v: unprotected(kernel, p, v)), batched(kernel, p, span)]
    step = Step([_watched(kernel, p, span), span.in_ptes(p)], changed)
    return flushing_later(step, p, span.covers, uffd_unwp_flushing(p, span.page))


@ranged("UFFDIO_WRITEPROTECT, -ENOENT", "domain.md (i)", kind="refusal")
def uffd_unwp_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """No registered VMA, or more than one."""
    return _not_protected(kernel, p, span)


@rule([P, V], "change_prot_numa: change_pte_range; do_numa_page", "domain.md F18; decisions `numa_hints`, `numa_write`",
      features=("numa",), lock="read")
def numa_hint(kernel: Decisions, p: Term, v: Term) -> Step:
    """NUMA balancing takes the PTE away to see who uses it, and the next access brings it back.

    With the write bit that it had (pte_savedwrite, on x86 the bit itself), or from 6.2 with that which the mapping may
    have (can_change_pte_writable). What comes between does to the absent PTE what it would do to a read-only one.
    """
    f = pte_frame(p, v)
    return Step(
        [*_hintable(p, v), Not(pte_huge(p, v)), kernel.numa_hints(p, v, f)],
        [put(pte_write(p, v), kernel.numa_write(p, v, f))],
    )


@rule([P, V], "change_prot_numa: change_huge_pmd; do_huge_pmd_numa_page",
      "mm/huge_memory.c; decisions `numa_hints_huge`, `numa_write`", features=("numa", "huge"), lock="read")
def numa_hint_huge(kernel: Decisions, p: Term, v: Term) -> Step:
    """The same of a PMD, which stays whole."""
    f = pte_frame(p, v)
    return Step(
        [*_hintable(p, v), pte_huge(p, v), kernel.numa_hints_huge(p, v, f)],
        [each(Page, lambda w: put(pte_write(p, w), kernel.numa_write(p, v, f)), when=lambda w: same_pmd(p, v, p, w))],
    )


def _hintable(p: Term, v: Term) -> list[Term]:
    """task_numa_work leaves out PROT_NONE VMAs, change_pte_range the zero page (vm_normal_page) and KSM pages, and
    takes pages of the page cache, but for dirty ones, which there are none of here."""
    f = pte_frame(p, v)
    return [readable(p, v), pte_present(p, v), Not(ksm(f)), Or(Not(nonanon(f)), in_page_cache(f))]


@rule([P, V], "change_prot_numa", "domain.md F18", kind="refusal", features=("numa",))
def numa_hint_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """Nothing is mapped, or what is mapped is left out."""
    f = pte_frame(p, v)
    hints = If(pte_huge(p, v), kernel.numa_hints_huge(p, v, f), kernel.numa_hints(p, v, f))
    return Step([Or(Not(And(*_hintable(p, v))), Not(hints))])


RULES = (
    *mprotect_ro, *mprotect_ro_refused, *mprotect_rw, *mprotect_rw_refused,
    *mprotect_rwx, *mprotect_rwx_refused, *mprotect_none, *mprotect_none_refused, mprotect_none_nothing,
    *mprotect_other, mprotect_ro_nothing, mprotect_rw_nothing,
    mprotect_rwx_nothing, mmap_soft_dirty, clear_soft_dirty, clear_soft_dirty_refused,
    *uffd_wp, *uffd_wp_refused, *uffd_unwp, *uffd_unwp_refused, numa_hint, numa_hint_huge,
    numa_hint_refused,
)
