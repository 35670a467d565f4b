"""FOLL_LONGTERM and memory that must stay movable: ZONE_MOVABLE and CMA (mm/gup.c, __gup_longterm_locked).

What users' faults allocate lies there if there is room; a page that stays pinned for long could not be moved out of the
way. So such a GUP allocates elsewhere itself, and moves what it finds there; decision `longterm_migrates`. Left out:
large folios, hugetlb pages, pageblocks being isolated, device-coherent memory, fsdax.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

import z3
from z3 import And, BoolVal, Not

from model.decisions import Decisions
from model.force import may_force
from model.gup import done_there, may_take, unpinnable
from model.logic import Param, Rule, RuleTemplate, StateFunction, Step, Term, Update, each, exists, put, rule
from model.migration import migrated_at_once, movable_now, put_back
from model.ptes import NEW, P, V, lies
from model.reclaim import F
from model.state import (
    Frame,
    Page,
    Proc,
    Slot,
    cached,
    cma,
    large,
    live,
    maps,
    memalloc_pin,
    mmap_write_held,
    movable,
    pte_frame,
    pte_present,
    slot_frame,
    vma,
    writeback,
    zone_cma,
    zone_movable,
)

FEATURE = frozenset({"movable"})
READ = "mm/gup.c, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7"
NEVER_THERE = frozenset({"backing-read"})
"""Rules whose page the allocator does not give out to users: the zero page is part of the kernel's image."""


def placed(kernel: Decisions, rules: Iterable[Rule], features: Collection[str]) -> list[Rule]:
    """The rules, each of which says where the pages lie that it allocates, if there is memory of several kinds."""
    if not FEATURE.issubset(features):
        return [*rules]
    return [_placing(kernel, rule) for rule in rules]


_placed: dict[tuple[int, str], tuple[Rule, Rule]] = {}
"""By its id, with the decision that is asked, each rule and what becomes of it: kernels share most of their rules."""


def _placing(kernel: Decisions, rule: Rule) -> Rule:
    key = id(rule), kernel.longterm_migrates
    if key not in _placed:
        _placed[key] = rule, _made_placing(kernel, rule)
    return _placed[key][1]


def _made_placing(kernel: Decisions, rule: Rule) -> Rule:
    if any(u.function in (movable, cma) for u in rule.updates):
        return rule
    updates = [u for p in rule.params if p.sort == Frame and p.fresh for u in _place(kernel, rule, p)]
    return replace(rule, updates=(*rule.updates, *updates)) if updates else rule


def _place(kernel: Decisions, rule: Rule, new: Param) -> list[Update]:
    """Of the rule's fresh page, or of that for each page: where the memory of its page comes from."""
    named = {p.name: p.term for p in rule.params}
    if new.over is not None:
        # Values that do not depend on the page, so that a proof can say what comes next.
        return [*_for_each(new, zone_movable, movable), *_for_each(new, zone_cma, cma)]
    if rule.name in NEVER_THERE or "v" not in named:
        return lies(new.term, lambda zone: BoolVal(False))
    p, v = named.get("p"), named["v"]
    pins = exists(Proc, lambda q: And(vma(q, v), memalloc_pin(q, v))) if p is None else memalloc_pin(p, v)
    avoided = {"cma": (zone_cma,), "movable": (zone_movable, zone_cma)}[kernel.longterm_migrates]
    return lies(new.term, lambda zone: And(zone(v), Not(pins)) if zone in avoided else zone(v))


def _for_each(new: Param, zone: StateFunction, of: StateFunction) -> list[Update]:
    """The fresh page for each page lies where the memory of that comes from. The values do not depend on the page, so
    that a proof can say what comes next."""

    def made(w: Term) -> Term:
        return z3.substitute(new.needed, (new.of, w))

    return [
        *each(Page, lambda w: put(of(new.term(w)), True), when=lambda w: And(made(w), zone(w))),
        *each(Page, lambda w: put(of(new.term(w)), False), when=lambda w: And(made(w), Not(zone(w)))),
    ]


@rule([V], "movablecore=, memory hotplug", "mm/page_alloc.c (mm/mm_init.c), find_zone_movable_pfns_for_nodes",
      features=FEATURE)
def memory_movable(kernel: Decisions, v: Term) -> Step:
    """There is room in ZONE_MOVABLE for what faults allocate there."""
    return Step([Not(zone_movable(v)), Not(zone_cma(v))], [put(zone_movable(v), True)])


@rule([V], "cma=, reserved-memory", "mm/page_alloc.c, __rmqueue: more than half of the free memory is CMA's",
      features=FEATURE)
def memory_cma(kernel: Decisions, v: Term) -> Step:
    """There is room in CMA for what faults allocate there."""
    return Step([Not(zone_movable(v)), Not(zone_cma(v))], [put(zone_cma(v), True)])


@rule([P, V], "__gup_longterm_locked: memalloc_pin_save, memalloc_nocma_save", READ, features=FEATURE)
def memalloc_pin_save(kernel: Decisions, p: Term, v: Term) -> Step:
    """A GUP with FOLL_LONGTERM that has not found a page that it may keep: what it allocates, it may keep.

    The flag is the thread's; here also another thread's fault at the same address allocates so, meanwhile.
    """
    return Step([live(p, v), Not(memalloc_pin(p, v))], [put(memalloc_pin(p, v), True)])


def _longterm(
    kind: str, may: Callable[[Decisions, Term, Term], list[Term]], features: frozenset[str] = FEATURE
) -> tuple[RuleTemplate, RuleTemplate]:
    """Of one kind of GUP, which `may` take a page as it is mapped: the rule by which that moves, and the refusal."""

    def found(kernel: Decisions, p: Term, v: Term, f: Term) -> list[Term]:
        return [live(p, v), *may(kernel, p, v), maps(p, v, f), unpinnable(kernel, f), Not(large(f))]

    def migrates(kernel: Decisions, p: Term, v: Term, f: Term, new: Term) -> Step:
        """The page is unpinned, migrated to where it may stay, and looked for again (-EAGAIN).

        MIGRATE_SYNC waits for the end of writeback.
        """
        return Step([*found(kernel, p, v, f), memalloc_pin(p, v), Not(mmap_write_held(p)), *movable_now(kernel, f)], [
            *migrated_at_once(kernel, f, new), lies(new, lambda zone: BoolVal(False)),
            each(Slot, lambda s: put(writeback(s), False), when=lambda s: And(cached(s), slot_frame(s) == f)),
        ])

    def refused(kernel: Decisions, p: Term, v: Term) -> Step:
        """Somebody holds the page, so that it cannot be migrated in ten tries: -ENOMEM, and it is not pinned. Each time
        its PTEs have made place for migration entries."""
        f = pte_frame(p, v)
        return Step(
            [pte_present(p, v), *found(kernel, p, v, f), Not(And(*movable_now(kernel, f)))],
            [*done_there(p, v, True), *put_back(kernel, f)],
        )

    said = "check_and_migrate_movable_pages (up to 5.12 check_and_migrate_cma_pages)"
    return (
        rule([P, V, F, NEW], said, READ, name=f"longterm-migrate-{kind}", features=features, lock="rmap")(migrates),
        rule([P, V], f"{said}: -ENOMEM", READ, kind="refusal", name=f"longterm-refused-{kind}", features=features)(
            refused
        ),
    )


RULES = (
    memory_movable, memory_cma, memalloc_pin_save,
    *_longterm("read", lambda kernel, p, v: [pte_present(p, v), may_take(kernel, p, v, True, False, True)]),
    *_longterm("write", lambda kernel, p, v: [pte_present(p, v), may_take(kernel, p, v, True, True, True)]),
    *_longterm("force", may_force, FEATURE | {"force"}),
)
