"""Pages that change their frame behind the process's back: KSM and migration (mm/ksm.c, mm/migrate.c)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from z3 import And, BoolVal, Not, Or

from model.fault import NEW, P, V, fresh_page, migrated_pte, set_exclusive
from model.huge import split_into_pages
from model.logic import Param, Stage, Staged, Step, Term, each, exists, forall, put, rule
from model.reclaim import F
from model.state import (
    Page,
    Proc,
    Slot,
    backing,
    block,
    cached,
    caches,
    exclusive,
    frame_value,
    in_page_cache,
    in_swap_cache,
    ksm,
    ksm_cleared,
    ksm_tested,
    large,
    lazyfree,
    live,
    mapped,
    maps,
    maps_folio,
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
    """migrate_page: the count is what mappings and the swap or page cache account for. The zero page never moves."""
    counted = unreferenced(f) if kernel.migrate_referenced == "refuse" else BoolVal(True)
    return [mapped(f), Not(large(f)), Or(Not(nonanon(f)), in_page_cache(f)), counted]


def _movable_folio(f: Term) -> list[Term]:
    return [mapped(f), large(f), unreferenced(f)]


def _partially_mapped(f: Term) -> Term:
    """Some part of f's folio has no mapping left: it is seen in the block of one that has."""

    def unmapped(q: Term, w: Term) -> Term:
        return forall(Proc, lambda r: Not(maps_folio(r, w, f)))

    return exists(
        Proc, Page,
        lambda q, w: And(maps_folio(q, w, f), exists(Page, lambda u: And(block(u) == block(w), unmapped(q, u)))),
    )


@rule([F, NEW], "migrate_pages: try_to_migrate, remove_migration_ptes",
      "domain.md (k) of each kernel; decisions `migrate_referenced`, `migration_dirty`", features=("migration",),
      lock="rmap")
def migrate(kernel: Any, f: Term, new: Term) -> Step:
    """A page moves to another frame; its mappings follow, with their bits, and the swap or page cache."""
    keeps = put(exclusive(new), exclusive(f)) if kernel.exclusive_bit else []
    kept = {
        u.function.name: u
        for u in (*put(ksm(new), ksm(f)), *put(lazyfree(new), lazyfree(f)), *put(nonanon(new), nonanon(f)))
    }
    return Step(
        _movable(kernel, f),
        [
            each(
                Proc, Page, lambda q, w: put(pte_frame(q, w), new) + migrated_pte(kernel, q, w),
                when=lambda q, w: maps(q, w, f),
            ),
            each(Slot, lambda s: put(slot_frame(s), new), when=lambda s: And(cached(s), slot_frame(s) == f)),
            each(Page, lambda v: put(backing(v), new), when=lambda v: caches(v, f)),
            [kept.get(u.function.name, u) for u in fresh_page(new, frame_value(f))], keeps,
        ],
    )


@rule([F], "migrate_pages: try_to_migrate, remove_migration_pmd",
      "mm/migrate.c of 5.10.262, 6.1.192, 6.12.118, 7.2.13; decisions `migrate_large`, `migration_keeps_uffd_wp`",
      features=("huge", "migration"), lock="rmap")
def migrate_folio(kernel: Any, f: Term) -> Step:
    """A large folio moves as a whole, mapped by PMDs or PTEs, unless somebody holds a reference to any part of it.

    As nobody does, nothing tells the new frames from the old ones, and they keep their names here. From 6.9 on one of
    which a part is no longer mapped is split first (7262f208ca68; of 6.12.118: partially_mapped); in 4.8 each is.
    """
    whole = each(Proc, Page, lambda q, w: migrated_pte(kernel, q, w, moved=True), when=lambda q, w: maps_folio(q, w, f))
    split = [u for updates in split_into_pages(kernel, f) for u in updates]
    splits = {"whole": BoolVal(False), "split": BoolVal(True)}.get(kernel.migrate_large)
    if splits is None:
        splits = _partially_mapped(f)
    return Step(_movable_folio(f), [
        *(replace(u, when=And(splits, u.when)) for u in split),
        *(replace(u, when=And(Not(splits), u.when)) for u in whole),
    ])


@rule([F], "migrate_pages: -EAGAIN", "domain.md (k) of each kernel", kind="refusal", features=("migration",))
def migrate_refused(kernel: Any, f: Term) -> Step:
    """Somebody holds a reference to the page or its folio, or it is the zero page."""
    return Step([Not(Or(And(*_movable(kernel, f)), And(*_movable_folio(f))))])


RULES = (
    ksm_merge, ksm_merge_refused, unmerge, unmerge_refused, unmerge_copy, ksm_protect, migrate, migrate_folio,
    migrate_refused,
)
