"""Migration: a page, or a large folio, moves to another place behind the processes' back (mm/migrate.c, mm/rmap.c)."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from z3 import And, BoolVal, Implies, Not, Or

from model.decisions import Decisions
from model.huge import split_into_pages
from model.logic import Stage, Staged, Step, Term, Update, each, exists, forall, only_if, put, rule
from model.ptes import NEW, fresh_page, lies, migrated_pte, one_vma, set_exclusive
from model.reclaim import F
from model.state import (
    FIRST,
    Frame,
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
    ksm,
    large,
    lazyfree,
    mapped,
    mapped_dirty,
    maps,
    maps_folio,
    maybe_pinned,
    migrates,
    migrating,
    migration_exclusive,
    misplaced,
    nonanon,
    only_migrated,
    page_dirty,
    partly_mapped,
    pte_frame,
    pte_huge,
    pte_migration,
    pte_present,
    same_folio,
    slot_frame,
    stale,
    unreferenced,
)


def _unmappable(kernel: Decisions, f: Term) -> list[Term]:
    """try_to_migrate: every PTE that maps f becomes a migration entry. The zero page never moves, nor what the walk of
    the reverse mapping does not find; from 5.19 nor an exclusive page that is maybe pinned (page_try_share_anon_rmap).
    """
    shares = kernel.exclusive_bit and kernel.migrate_referenced == "refuse"
    kept = And(exclusive(f), maybe_pinned(f)) if shares else BoolVal(False)
    return [mapped(f), Not(large(f)), Or(Not(nonanon(f)), in_page_cache(f)), Not(misplaced(f)), Not(kept)]


def movable_now(kernel: Decisions, f: Term) -> list[Term]:
    """migrate_page: the count is what mappings and the swap or page cache account for."""
    counted = unreferenced(f) if kernel.migrate_referenced == "refuse" else BoolVal(True)
    return [*_unmappable(kernel, f), counted]


def _movable_folio(f: Term) -> list[Term]:
    return [mapped(f), large(f), unreferenced(f)]


def _last_by_ptes(f: Term) -> Term:
    """try_to_migrate takes a PTE of f's folio away when no PMD maps it any more, and others still do.

    The anon_vma's tree has VMAs by where they begin: the first process's comes before those that fork copied, and the
    later of two that share the block after all that begin with it; which is taken to have more than one page.
    """

    def by_ptes(q: Term, w: Term) -> Term:
        return And(maps_folio(q, w, f), Not(pte_huge(q, w)))

    def no_pmd_but(spared: Callable[[Term], Term]) -> Term:
        return forall(Proc, Page, lambda r, u: Implies(And(maps_folio(r, u, f), pte_huge(r, u)), spared(r)))

    return Or(
        And(exists(Proc, Page, by_ptes), no_pmd_but(lambda r: BoolVal(False))),
        And(exists(Proc, Page, lambda q, w: And(by_ptes(q, w), q != FIRST)), no_pmd_but(lambda r: r == FIRST)),
        exists(Proc, Page, lambda q, w: And(by_ptes(q, w), Not(one_vma(q, w)))),
    )


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
      lock="rmap", split=("migrate",))
def migrate(kernel: Decisions, f: Term, new: Term) -> Staged:
    """A page moves to another frame; its mappings follow, with their bits, and the swap or page cache.

    Sub-steps: migration entries take the place of PTEs; if nobody else holds the page by then, it moves and entries
    become PTEs again, else they lead to where they did. All mappings go, and come back, in one.
    """
    now = _as_mapped(kernel, f)
    saved = SimpleNamespace(
        asked=[], found=lambda q, w: migrates(q, w, f), brought=_back_in_place,
        exclusive=exists(Proc, Page, lambda q, w: And(migrates(q, w, f), migration_exclusive(q, w))),
        dirty=page_dirty(f),
    )

    def move(view: Any) -> Step:
        return Step(view.asked, [
            *_moved(kernel, f, new, view),
            lies(new, lambda zone: exists(Proc, Page, lambda q, w: And(view.found(q, w), zone(w)))),
        ])

    return Staged(
        (
            Stage("unmap", lambda view: Step(_unmappable(kernel, f))),
            Stage("move", move, recheck=lambda view: _counted_alone(kernel, f), back="put-back",
                  undo=lambda view: _restored(kernel, view, f)),
        ),
        (migrating(f),), now, saved, save=_entries(kernel, f),
    )


def _as_mapped(kernel: Decisions, f: Term) -> Any:
    """What a migration of f in one step goes by."""
    return SimpleNamespace(
        asked=movable_now(kernel, f), found=lambda q, w: maps(q, w, f), brought=lambda q, w: [],
        exclusive=exclusive(f), dirty=Or(page_dirty(f), mapped_dirty(f)),
    )


def _restored(kernel: Decisions, view: Any, to: Term) -> list[Any]:
    """remove_migration_ptes: they map that page."""
    keeps = put(exclusive(to), view.exclusive) if kernel.exclusive_bit else []
    ptes = each(
        Proc, Page, lambda q, w: put(pte_frame(q, w), to) + migrated_pte(kernel, q, w) + view.brought(q, w),
        when=view.found,
    )
    return [ptes, keeps]


def _moved(kernel: Decisions, f: Term, new: Term, view: Any) -> list[Any]:
    """f has moved to new: its mappings, its place in the swap cache or page cache, and what it is."""
    kept = {
        u.function.name: u
        for u in (
            *put(ksm(new), ksm(f)), *put(lazyfree(new), lazyfree(f)), *put(nonanon(new), nonanon(f)),
            *put(page_dirty(new), view.dirty),
        )
    }
    return [
        *_restored(kernel, view, new),
        each(Slot, lambda s: put(slot_frame(s), new), when=lambda s: And(cached(s), slot_frame(s) == f)),
        each(Page, lambda v: put(backing(v), new), when=lambda v: caches(v, f)),
        [kept.get(u.function.name, u) for u in fresh_page(new, frame_value(f))],
    ]


def migrated_at_once(kernel: Decisions, f: Term, new: Term) -> list[Any]:
    """f moves to new in one step; where that lies is the caller's to say."""
    return _moved(kernel, f, new, _as_mapped(kernel, f))


def _counted_alone(kernel: Decisions, f: Term) -> Term:
    """folio_migrate_mapping: nobody else holds f, of which no PTE is left."""
    return only_migrated(f) if kernel.migrate_referenced == "refuse" else BoolVal(True)


def _entries(kernel: Decisions, f: Term) -> list[Any]:
    """try_to_migrate_one: entries keep the write bit, soft-dirty and uffd-wp, and from 5.19 whether f was exclusive.

    From 5.19 there are three kinds, writable, readable-exclusive and readable (6c287605fd56); before, two.
    """

    def entry(q: Term, w: Term) -> list[Update]:
        kind = put(migration_exclusive(q, w), exclusive(f)) if kernel.exclusive_bit else []
        return put(pte_present(q, w), False) + put(pte_migration(q, w), True) + kind + put(stale(q, w), False)

    return [
        *each(Proc, Page, entry, when=lambda q, w: maps(q, w, f)), *set_exclusive(kernel, f, False),
        *put(page_dirty(f), Or(page_dirty(f), mapped_dirty(f))),
    ]


def _back_in_place(q: Term, w: Term) -> list[Update]:
    return put(pte_present(q, w), True) + put(pte_migration(q, w), False) + put(pte_huge(q, w), False)


def _unmapped_folio(kernel: Decisions, f: Term) -> list[Any]:
    """What is left of large f's having been unmapped, when its PMDs and PTEs are back."""
    left = [
        *each(Proc, Page, lambda q, w: migrated_pte(kernel, q, w, moved=True), when=lambda q, w: maps_folio(q, w, f)),
        *each(
            Frame, lambda g: put(page_dirty(g), Or(page_dirty(g), mapped_dirty(g))), when=lambda g: same_folio(g, f)
        ),
    ]
    if kernel.migrate_large == "split-partial":
        left += each(
            Frame, lambda g: put(partly_mapped(g), Or(partly_mapped(g), _last_by_ptes(f))),
            when=lambda g: same_folio(g, f),
        )
    return left


def put_back(kernel: Decisions, f: Term) -> list[Any]:
    """What a migration of small f has done that fails for a reference: migrate_folio_unmap does not count, and
    remove_migration_ptes brings PTEs back as if f had moved."""
    return only_if(And(*_unmappable(kernel, f)), [
        *each(Proc, Page, lambda q, w: migrated_pte(kernel, q, w), when=lambda q, w: maps(q, w, f)),
        *put(page_dirty(f), Or(page_dirty(f), mapped_dirty(f))),
    ])


def _folio_put_back(kernel: Decisions, f: Term) -> list[Any]:
    """As `put_back`, of large f. Where it is split first nothing is done: that counts before. From 5.19 the walk ends
    at an exclusive part of a folio that is maybe pinned."""
    if kernel.migrate_large == "split":
        return []
    kept = exists(Proc, Page, lambda q, w: And(maps_folio(q, w, f), exclusive(pte_frame(q, w))))
    ends = And(maybe_pinned(f), kept) if kernel.exclusive_bit else BoolVal(False)
    return only_if(And(mapped(f), large(f), Not(ends)), _unmapped_folio(kernel, f))


@rule([F], "migrate_pages: try_to_migrate, remove_migration_pmd",
      "mm/migrate.c of 5.10.262, 6.1.192, 6.12.118, 7.2.13; decisions `migrate_large`, `migration_keeps_uffd_wp`",
      features=("huge", "migration"), lock="rmap")
def migrate_folio(kernel: Decisions, f: Term) -> Step:
    """A large folio moves as a whole, mapped by PMDs or PTEs, unless somebody holds a reference to any part of it.

    As nobody does, nothing tells the new frames from the old ones, and they keep their names here. From 6.9 on one of
    which a part is no longer mapped is split first (7262f208ca68; of 6.12.118: partially_mapped); in 4.8 each is. One
    mapped by PTEs counts as such from its first migration on: __folio_remove_rmap marks it as soon as one PTE is gone,
    and migrate_folio_move gives the mark to its copy (read in 6.12.118, 7.2.13, 7.3-rc7).
    """
    whole = _unmapped_folio(kernel, f)
    split = [u for updates in split_into_pages(kernel, f) for u in updates]
    splits = {"whole": BoolVal(False), "split": BoolVal(True)}.get(kernel.migrate_large)
    if splits is None:
        splits = Or(_partially_mapped(f), partly_mapped(f))
    return Step(_movable_folio(f), [
        *only_if(splits, split),
        *only_if(Not(splits), whole),
    ])


@rule([F], "migrate_pages: -EAGAIN", "domain.md (k) of each kernel", kind="refusal", features=("migration",))
def migrate_refused(kernel: Decisions, f: Term) -> Step:
    """Somebody holds a reference to the page or its folio, or it is the zero page.

    References are counted when all mappings are gone, which come back: read in 5.10.262, 6.1.192, 6.12.118, 7.2.13.
    """
    return Step(
        [Not(Or(And(*movable_now(kernel, f)), And(*_movable_folio(f))))],
        [*put_back(kernel, f), *_folio_put_back(kernel, f)],
    )


RULES = (migrate, migrate_folio, migrate_refused)
