"""FOLL_FORCE writes (ptrace, /proc/pid/mem) into read-only private mappings, and their retry loop (mm/gup.c).

faultin_page breaks COW without making the PTE writable; follow_page_pte then needs a proof that COW was broken, and
between the two the page may be replaced (Dirty COW). Each iteration is a rule here, so others' rules may come between.
In a writable VMA the ordinary write faults do.
"""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, Not, Or

from model.decisions import Decisions
from model.fault import huge_ready, may_reuse, none_huge_ready, swapped_in, table_for
from model.gup import K, counts, done_there, may_stay, reference, remembers_pin
from model.huge import (
    FOLIO,
    exclusive_folio,
    fresh_block,
    huge_alone,
    in_block,
    split_updates,
    splits_on_write,
    zero_mapped,
)
from model.huge import NEW as NEWS
from model.logic import RuleTemplate, Step, Term, Update, each, exists, put, rule
from model.ptes import NEW, N, P, V, fresh_page, map_pte, map_read_only, marked, prepare_anon_vma, set_exclusive
from model.state import (
    ZERO,
    Page,
    Proc,
    anon,
    backed,
    backing,
    cached,
    exclusive,
    file,
    force_cow,
    frame_value,
    ksm,
    leaked,
    live,
    loaded,
    migrating,
    missing,
    nonanon,
    page_dirty,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_none,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_uffd_wp,
    pte_write,
    resolves_to,
    same_pmd,
    slot_frame,
    soft_dirty_needs_fault,
    uffd_async,
    uffd_protects,
    vma_anon,
    vma_huge,
    vma_write,
    writeback,
)
from model.tracking import async_protects, tracked_no_more

FORCE = frozenset({"force"})


def _read_only(p: Term, v: Term) -> list[Term]:
    return [live(p, v), Not(vma_write(p, v))]


def can_follow(kernel: Decisions, p: Term, v: Term) -> Term:
    """can_follow_write_pte, can_follow_write_pmd (mm/gup.c): what a FOLL_FORCE write accepts without W; decision
    `force_proof`.

    From 6.0 (5535be309971) an exclusive page that needs no fault for soft-dirty or uffd-wp tracking either.
    """
    f = pte_frame(p, v)
    match kernel.force_proof:
        case "retry-as-read":
            return force_cow(p, v)
        case "dirty":
            return And(force_cow(p, v), pte_dirty(p, v))
        case _:
            # Read in 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7; can_follow_write_pmd says the same.
            return And(anon(f), exclusive(f), Not(soft_dirty_needs_fault(p, v)), Not(uffd_protects(p, v)))


def may_force(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """A FOLL_FORCE | FOLL_WRITE GUP takes the page that a read-only VMA maps at (p, v)."""
    return [*_read_only(p, v), pte_present(p, v), Or(pte_write(p, v), can_follow(kernel, p, v))]


def _reads_again(kernel: Decisions, p: Term, v: Term) -> Term:
    """Before 4.9 the retry after COW was broken is a read."""
    return force_cow(p, v) if kernel.force_proof == "retry-as-read" else BoolVal(False)


def seen_by_others(p: Term, v: Term, f: Term) -> Term:
    """f is the page cache's, the zero page, or somebody else's mapping or swap entry leads to it."""
    return Or(
        nonanon(f),
        exists(Proc, Page, lambda q, w: And(resolves_to(q, w, f), Not(And(q == p, w == v)))),
    )


@rule([P, V, N], "__access_remote_vm, follow_page_pte(FOLL_FORCE | FOLL_WRITE)",
      "domain.md F15, F17, I11; decision `force_proof`", features=FORCE)
def force_store(kernel: Decisions, p: Term, v: Term, n: Term) -> Step:
    """A FOLL_FORCE write stores n into the page that it takes for the process's own."""
    f = pte_frame(p, v)
    allowed = Or(pte_write(p, v), And(Not(vma_write(p, v)), can_follow(kernel, p, v)))
    return Step(
        [live(p, v), pte_present(p, v), allowed],
        [put(frame_value(f), n), put(force_cow(p, v), False),
         put(page_dirty(f), True), put(leaked(f), Or(leaked(f), seen_by_others(p, v, f)))],
    )


@rule([P, V], "access_remote_vm, -EIO", "domain.md 1.3", kind="refusal", features=FORCE)
def force_store_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A FOLL_FORCE write where there is no VMA, or at a guard."""
    return Step([Or(Not(live(p, v)), pte_guard(p, v))])


def _forced_gup(name: str, function: str, foll_pin: bool, longterm: bool, about: str) -> RuleTemplate:
    def taken(kernel: Decisions, p: Term, v: Term, k: Term) -> Step:
        return Step(
            [*may_force(kernel, p, v), *may_stay(kernel, pte_frame(p, v), longterm)],
            [counts(k), *reference(p, v, k, foll_pin, True, longterm), remembers_pin(p, foll_pin),
             put(force_cow(p, v), False), done_there(p, v, longterm)],
        )

    taken.__doc__ = about
    return rule([P, V, K], f"{function}: follow_page_pte(FOLL_FORCE | FOLL_WRITE)",
                "domain.md 1.3.1, F15; decision `force_proof`", name=name, features=FORCE, lock="read")(taken)


get_write_force = _forced_gup(
    "get-write-force", "get_user_pages", False, False,
    "FOLL_GET with FOLL_FORCE | FOLL_WRITE in a read-only mapping takes what a forced write would store to "
    "(ib_umem_get for a device that only reads, up to 5.5).",
)
pin_write_longterm_force = _forced_gup(
    "pin-write-longterm-force", "pin_user_pages", True, True,
    "FOLL_PIN | FOLL_LONGTERM with FOLL_FORCE | FOLL_WRITE in a read-only mapping takes what a forced write would "
    "store to (ib_umem_get for a device that only reads, 5.6 to 6.1).",
)


def _map_private(
    kernel: Decisions, p: Term, v: Term, new: Term, value: Term, dirty: bool, protected: Any = False
) -> list[list[Update]]:
    """Install a fresh page of the process's own at (p, v), not writable because the VMA is not."""
    return [
        map_read_only(p, v, new, dirty, protected=protected), fresh_page(new, value), set_exclusive(kernel, new),
        prepare_anon_vma(p, v),
    ]


@rule([P, V, NEW], "do_anonymous_page", "domain.md 1.2", features=FORCE)
def force_anon_fault(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A forced write fault on an empty PTE maps a fresh zeroed page, clean and read-only. With uffd-wp where a marker
    was."""
    return Step(
        [*_read_only(p, v), pte_none(p, v), Not(file(v)), none_huge_ready(p, v), Not(missing(p, v)),
         Not(_reads_again(kernel, p, v))],
        [*_map_private(kernel, p, v, new, ZERO, dirty=False, protected=marked(p, v)), table_for(p, v)],
    )


@rule([P, V, NEWS, FOLIO], "__handle_mm_fault: create_huge_pmd; do_huge_pmd_anonymous_page, maybe_pmd_mkwrite",
      "mm/memory.c, mm/huge_memory.c of 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7", features=("force", "huge"))
def force_huge_fault(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step:
    """A forced write fault in an empty block maps a fresh zeroed THP, dirty, not writable because the VMA is not."""
    return Step(
        [*_read_only(p, v), vma_huge(p, v), huge_ready(p, v), Not(file(v)), Not(missing(p, v)),
         Not(_reads_again(kernel, p, v)), *fresh_block(v, new)],
        [each(
            Page, lambda w: map_read_only(p, w, new(w), dirty=True, huge=True) + put(vma_anon(p, w), True)
            + fresh_page(new(w), ZERO, into) + set_exclusive(kernel, new(w)), when=in_block(v),
        )],
    )


@rule([P, V, NEW], "do_cow_fault", "domain.md F15", features=("force", "file"))
def force_cow_fault(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A forced write fault on an empty PTE of a file mapping maps a copy of the page cache's page, read-only, dirty."""
    return Step(
        [*_read_only(p, v), pte_none(p, v), file(v), backed(v), Not(migrating(backing(v))),
         Not(_reads_again(kernel, p, v))],
        _map_private(kernel, p, v, new, frame_value(backing(v)), dirty=True, protected=marked(p, v)),
    )


@rule([P, V], "faultin_page without FOLL_WRITE", "domain.md F15", features=FORCE)
def force_read_again(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """The retry of a forced write maps, as a read, whatever backs the address (before 19be0eaffa3a, 4.9)."""
    if kernel.force_proof != "retry-as-read":
        return None
    return Step(
        [*_read_only(p, v), pte_none(p, v), backed(v), Not(missing(p, v)), Not(migrating(backing(v))), force_cow(p, v)],
        map_read_only(p, v, backing(v)),
    )


@rule([P, V], "do_swap_page (write fault)", "domain.md (j) of each kernel; decisions `swap_in_reuse`, `swap_in_frees`",
      features=FORCE)
def force_swap_in(kernel: Decisions, p: Term, v: Term) -> Step:
    """A forced write fault maps the page of the swap cache, not writable because the VMA is not.

    Up to 6.10 a page that the kernel takes for the process's own becomes dirty, and COW counts as broken
    (VM_FAULT_WRITE), even if userfaultfd protects it: do_wp_page, which would tell the monitor, is not called. From
    6.11 it always is.
    """
    s = pte_slot(p, v)
    f = slot_frame(s)
    writes = Not(_reads_again(kernel, p, v))
    sole = And(writes, anon(f), kernel.swap_in_reuse(p, v, s, f))
    broken = BoolVal(False) if kernel.swap_in_upgrades else sole
    waits = writeback(s) if kernel.fault_waits_for_writeback else BoolVal(False)
    frees = And(writes, kernel.swap_in_frees(p, v, s, f))
    return Step(
        [*_read_only(p, v), pte_swap(p, v), cached(s), Not(migrating(f)), Not(waits)],
        [
            swapped_in(p, v, f, BoolVal(False), broken), set_exclusive(kernel, f, Or(exclusive(f), sole)),
            put(cached(s), Or(writeback(s), Not(frees))), put(force_cow(p, v), Or(force_cow(p, v), broken)),
        ],
    )


@rule([P, V], "do_wp_page, wp_huge_pmd: handle_userfault(VM_UFFD_WP)",
      "mm/memory.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13", kind="block", features=FORCE)
def force_userfault_wait(kernel: Decisions, p: Term, v: Term) -> Step:
    """A forced write fault on a uffd-wp PTE or PMD of a read-only VMA is the monitor's: VM_WRITE is not asked for."""
    return Step([*_refused(kernel, p, v), uffd_protects(p, v), Not(uffd_async(v))])


@rule([P, V], "do_wp_page: userfaultfd_wp_async", "domain.md 2.14; decision `uffd_async`",
      features=("force", "uffd-async"))
def force_async_clear(kernel: Decisions, p: Term, v: Term) -> Step:
    """With WP_ASYNC a forced write fault on a uffd-wp PTE of a read-only VMA clears uffd-wp and goes on."""
    return Step([*_refused(kernel, p, v), Not(pte_huge(p, v)), async_protects(p, v)], tracked_no_more(p, v))


@rule([P, V], "wp_huge_pmd: userfaultfd_wp_async", "domain.md 2.14; decision `uffd_async`",
      features=("force", "huge", "uffd-async"))
def force_async_split(kernel: Decisions, p: Term, v: Term) -> Step:
    """... and on a uffd-wp PMD splits it first."""
    return Step([*_refused(kernel, p, v), pte_huge(p, v), async_protects(p, v)], split_updates(kernel, p, v))


def _refused(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """A PTE or PMD that the retry loop does not accept as it is."""
    return [*_read_only(p, v), pte_present(p, v), Not(pte_write(p, v)), Not(can_follow(kernel, p, v))]


def _protected(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """A forced write fault on such a PTE or PMD, which userfaultfd does not stop."""
    return [*_refused(kernel, p, v), Not(uffd_protects(p, v))]


@rule([P, V], "do_wp_page, wp_page_reuse, VM_FAULT_WRITE", "domain.md F15", features=FORCE)
def force_wp_reuse(kernel: Decisions, p: Term, v: Term) -> Step:
    """A forced write fault finds the page the process's own: dirty, and COW counts as broken (FOLL_COW)."""
    f = pte_frame(p, v)
    return Step(
        [*_protected(kernel, p, v), Not(pte_huge(p, v)), may_reuse(kernel, p, v, f)],
        [put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True), put(force_cow(p, v), True), put(ksm(f), False),
         set_exclusive(kernel, f)],
    )


@rule([P, V, NEW], "do_wp_page, wp_page_copy, VM_FAULT_WRITE", "domain.md F15", features=FORCE)
def force_wp_copy(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A forced write fault copies the page; the copy is read-only and dirty, and COW counts as broken (FOLL_COW)."""
    f = pte_frame(p, v)
    return Step(
        [*_protected(kernel, p, v), Not(pte_huge(p, v)), Not(may_reuse(kernel, p, v, f))],
        [
            put(pte_frame(p, v), new), put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True),
            put(force_cow(p, v), True), fresh_page(new, frame_value(f)), set_exclusive(kernel, new),
            prepare_anon_vma(p, v),
        ],
    )


@rule([P, V, NEWS, FOLIO], "do_huge_pmd_wp_page, VM_FAULT_WRITE", "domain.md F16", features=("force", "huge"))
def force_huge_copy(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step | None:
    """A forced write fault copies a THP or the huge zero page; the copy is read-only and dirty (up to 5.7)."""
    if not kernel.huge_copies:
        return None
    return Step(
        [*_protected(kernel, p, v), pte_huge(p, v), Not(huge_alone(kernel, p, v)), *fresh_block(v, new)],
        [each(
            Page, lambda w: map_pte(p, w, new(w), huge=True) + put(pte_dirty(p, w), True)
            + put(pte_soft_dirty(p, w), True) + fresh_page(new(w), loaded(p, w), into), when=in_block(v),
        ), put(force_cow(p, v), True)],
    )


@rule([P, V], "do_huge_pmd_wp_page, VM_FAULT_WRITE", "domain.md F16", features=("force", "huge"))
def force_huge_reuse(kernel: Decisions, p: Term, v: Term) -> Step:
    """A forced write fault finds the THP the process's own: dirty, and COW counts as broken."""
    return Step(
        [*_protected(kernel, p, v), pte_huge(p, v), huge_alone(kernel, p, v)],
        [
            each(
                Page, lambda w: put(pte_dirty(p, w), True) + put(pte_soft_dirty(p, w), True),
                when=lambda w: same_pmd(p, v, p, w),
            ),
            put(force_cow(p, v), True), exclusive_folio(kernel, pte_frame(p, v)),
        ],
    )


@rule([P, V], "do_huge_pmd_wp_page (fallback), __split_huge_pmd", "domain.md F16", features=("force", "huge"))
def force_huge_split(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """A forced write fault splits a PMD that it cannot take as it is (5.8)."""
    if kernel.huge_copies:
        return None
    return Step([*_protected(kernel, p, v), pte_huge(p, v), splits_on_write(kernel, p, v)], split_updates(kernel, p, v))


@rule([P, V, NEWS, FOLIO], "do_huge_zero_wp_pmd", "decision `huge_zero_fresh`; read in 7.2.13",
      features=("force", "huge", "zero"))
def force_huge_zero(kernel: Decisions, p: Term, v: Term, new: Any, into: Term) -> Step | None:
    """A forced write fault on the huge zero page maps a fresh zeroed THP, dirty, not writable because the VMA is not
    (1ced09e0331f, 6.13)."""
    if not kernel.huge_zero_fresh:
        return None
    return Step(
        [*_protected(kernel, p, v), zero_mapped(p, v), *fresh_block(v, new)],
        [each(
            Page, lambda w: map_pte(p, w, new(w), huge=True) + put(pte_dirty(p, w), True)
            + put(pte_soft_dirty(p, w), True) + put(pte_uffd_wp(p, w), False) + fresh_page(new(w), ZERO, into)
            + set_exclusive(kernel, new(w)), when=in_block(v),
        ), put(force_cow(p, v), True)],
    )


RULES = (
    force_store, force_store_refused, get_write_force, pin_write_longterm_force, force_anon_fault, force_huge_fault,
    force_cow_fault, force_read_again, force_swap_in, force_userfault_wait, force_async_clear, force_async_split,
    force_wp_reuse, force_wp_copy, force_huge_copy, force_huge_zero, force_huge_reuse, force_huge_split,
)
