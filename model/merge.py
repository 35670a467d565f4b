"""Pages that change their frame behind the process's back: KSM and migration (mm/ksm.c, mm/migrate.c)."""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, Not, Or

from model.fault import NEW, P, V, fresh_page, set_exclusive
from model.logic import Param, Stage, Staged, Step, Term, each, put, rule
from model.reclaim import F
from model.state import (
    Page,
    Proc,
    Slot,
    cached,
    exclusive,
    frame_value,
    in_swap_cache,
    ksm,
    ksm_cleared,
    ksm_tested,
    large,
    lazyfree,
    live,
    mapped,
    maps,
    nonanon,
    pte_dirty,
    pte_frame,
    pte_huge,
    pte_present,
    pte_uffd_wp,
    pte_write,
    slot_frame,
    stale,
    unreferenced,
    vma_write,
)

Q, W = Param("q", Proc), Param("w", Page)


def _mergeable(kernel: Any, p: Term, v: Term, q: Term, w: Term) -> list[Term]:
    """try_to_merge_with_ksm_page: equal contents, and write_protect_page can account for every reference."""

    def plain(r: Term, u: Term) -> Term:
        f = pte_frame(r, u)
        counted = unreferenced(f) if kernel.ksm_referenced == "refuse" else BoolVal(True)
        return And(
            live(r, u), pte_present(r, u), Not(pte_huge(r, u)), Not(large(f)), Not(nonanon(f)),
            Not(in_swap_cache(f)), counted,
        )

    f, g = pte_frame(p, v), pte_frame(q, w)
    return [plain(p, v), plain(q, w), f != g, frame_value(f) == frame_value(g)]


@rule([P, V, Q, W], "ksmd: write_protect_page, replace_page", "domain.md (k) of each kernel; decision `ksm_referenced`",
      features=("ksm",), lock="read")
def ksm_merge(kernel: Any, p: Term, v: Term, q: Term, w: Term) -> Step:
    """Two pages of equal content become one KSM page, mapped read-only in both places."""
    f = pte_frame(p, v)
    return Step(
        _mergeable(kernel, p, v, q, w),
        [
            put(ksm(f), True), set_exclusive(kernel, f, False), put(pte_write(p, v), False),
            put(pte_frame(q, w), f), put(pte_write(q, w), False), put(stale(p, v), False), put(stale(q, w), False),
        ],
    )


@rule([P, V, Q, W], "ksmd: write_protect_page", "domain.md F13", kind="refusal", features=("ksm",))
def ksm_merge_refused(kernel: Any, p: Term, v: Term, q: Term, w: Term) -> Step:
    """The contents differ, or somebody holds a reference to one of the pages."""
    return Step([Not(And(*_mergeable(kernel, p, v, q, w)))])


@rule([P, V], "madvise(MADV_UNMERGEABLE)", "domain.md 2.11", features=("ksm",))
def unmerge(kernel: Any, p: Term, v: Term) -> Step:
    """There is no KSM page to un-merge (any more)."""
    return Step([live(p, v), Not(And(pte_present(p, v), ksm(pte_frame(p, v))))])


@rule([P, V], "madvise, -ENOMEM", "domain.md 2.11", kind="refusal", features=("ksm",))
def unmerge_refused(kernel: Any, p: Term, v: Term) -> Step:
    """MADV_UNMERGEABLE where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P, V, NEW], "break_ksm", "domain.md 2.11, F13", features=("ksm",), lock="read")
def unmerge_copy(kernel: Any, p: Term, v: Term, new: Term) -> Step:
    """Un-merging gives the process a copy of the KSM page: by a write fault, or from 6.2 by FAULT_FLAG_UNSHARE."""
    f = pte_frame(p, v)
    written = And(vma_write(p, v), Not(pte_uffd_wp(p, v)), BoolVal(not kernel.unmerge_unshares))
    return Step(
        [live(p, v), pte_present(p, v), ksm(f)],
        [
            put(pte_frame(p, v), new), put(pte_write(p, v), written),
            put(pte_dirty(p, v), Or(pte_dirty(p, v), written)), fresh_page(new, frame_value(f)),
            set_exclusive(kernel, new),
        ],
    )


@rule([P, V], "ksmd: write_protect_page", "domain.md F21, 7.2 S3", features=("share",), split=("share",), lock="read")
def ksm_protect(kernel: Any, p: Term, v: Term) -> Staged:
    """ksmd write-protects a page that nobody holds to compare it, and then finds no page like it.

    The PTE is taken away, the page looked at, PG_anon_exclusive cleared, the PTE given back: GUP-fast may come between.
    """
    f = pte_frame(p, v)
    plain = [live(p, v), pte_present(p, v), Not(pte_huge(p, v)), Not(nonanon(f)), Not(ksm(f)), Not(large(f))]
    return Staged(
        (
            Stage("clear", lambda view: Step(plain, put(stale(p, v), False))),
            Stage("test", lambda view: Step([], set_exclusive(kernel, f, False)), recheck=lambda view: unreferenced(f),
                  back="held"),
            Stage("restore", lambda view: Step([], put(pte_write(p, v), False))),
        ),
        (ksm_cleared(p, v), ksm_tested(p, v)),
    )


def _movable(kernel: Any, f: Term) -> list[Term]:
    """migrate_page: the count is what the mappings (and the swap cache) account for; a large folio is split first."""
    counted = unreferenced(f) if kernel.migrate_referenced == "refuse" else BoolVal(True)
    return [mapped(f), Not(large(f)), Not(nonanon(f)), counted]


@rule([F, NEW], "migrate_pages: try_to_migrate, remove_migration_ptes",
      "domain.md (k) of each kernel; decision `migrate_referenced`", features=("migration",), lock="rmap")
def migrate(kernel: Any, f: Term, new: Term) -> Step:
    """A page moves to another frame; its mappings follow, with their bits."""
    keeps = put(exclusive(new), exclusive(f)) if kernel.exclusive_bit else []
    kept = {u.function.name: u for u in (*put(ksm(new), ksm(f)), *put(lazyfree(new), lazyfree(f)))}
    return Step(
        _movable(kernel, f),
        [
            each(
                Proc, Page, lambda q, w: put(pte_frame(q, w), new) + put(stale(q, w), False),
                when=lambda q, w: maps(q, w, f),
            ),
            each(Slot, lambda s: put(slot_frame(s), new), when=lambda s: And(cached(s), slot_frame(s) == f)),
            [kept.get(u.function.name, u) for u in fresh_page(new, frame_value(f))], keeps,
        ],
    )


@rule([F], "migrate_pages: -EAGAIN", "domain.md (k) of each kernel", kind="refusal", features=("migration",))
def migrate_refused(kernel: Any, f: Term) -> Step:
    """Somebody holds a reference to the page, or it cannot be moved alone."""
    return Step([Not(And(*_movable(kernel, f)))])


RULES = (
    ksm_merge, ksm_merge_refused, unmerge, unmerge_refused, unmerge_copy, ksm_protect, migrate, migrate_refused,
)
