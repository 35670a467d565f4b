"""The accessed bit of PTEs, where GUP-fast and reclaim are in sub-steps: it changes between GUP-fast's two looks.

gup_pte_range compares the whole PTE. Reclaim clears the bit before it adds a page to the swap cache (MADV_PAGEOUT by
itself in 5.10 and 6.1, in madvise_cold_or_pageout_pte_range; kswapd by page_referenced), and CPUs set it. Without both
features nobody clears it between the two, and there is none. Read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from z3 import And, BoolVal, Not, is_false

from model import fault
from model.decisions import Decisions
from model.logic import Param, Rule, RuleTemplate, Step, Term, Update, each, exists, put, rule, text_of
from model.ptes import N, P, V
from model.state import Frame, Page, Proc, large, maps, nonanon, pte_frame, pte_huge, pte_present, pte_young

FEATURES = ("gup-fast", "swap-out")
"""Both are needed."""
CHILD = "child"
"""What rules call the process that fork makes: its PTEs are old (pte_mkold)."""


@rule([Param("f", Frame)], "page_referenced, madvise_cold_or_pageout_pte_range",
      "mm/rmap.c, mm/madvise.c; domain.md 1.2", features=FEATURES, lock="rmap")
def age(kernel: Decisions, f: Term) -> Step:
    """Reclaim clears the accessed bits of a page. CPUs set them again; TLBs are not flushed for it."""
    young = exists(Proc, Page, lambda q, w: And(maps(q, w, f), pte_young(q, w)))
    return Step(
        [young, Not(large(f)), Not(nonanon(f))],
        each(Proc, Page, lambda q, w: put(pte_young(q, w), False), when=lambda q, w: maps(q, w, f)),
    )


def _accessing(access: RuleTemplate, params: list[Param]) -> RuleTemplate:
    """The access by a CPU whose TLB has no entry of the page: it sets the PTE's accessed bit if that is clear."""

    def sets(kernel: Decisions, p: Term, v: Term, *rest: Term) -> Step:
        step = access.body(kernel, p, v, *rest)
        assert isinstance(step, Step)
        clear = [pte_present(p, v), Not(pte_young(p, v)), Not(pte_huge(p, v))]
        return Step([*step.guard, *clear], [*step.updates, put(pte_young(p, v), True)])

    sets.__doc__ = f"{access.body.__doc__} No TLB has it: the accessed bit is set."
    return rule(params, access.kernel_function, access.source, name=f"{access.name}-accessed", features=FEATURES)(sets)


RULES = (age, _accessing(fault.store, [P, V, N]), _accessing(fault.load, [P, V]))


def followed(rules: Iterable[Rule], features: Collection[str]) -> list[Rule]:
    """The rules, each of which says what the accessed bit of the PTEs is that it makes anew: set, but in a child."""
    if not set(FEATURES).issubset(features):
        return [*rules]
    return [replace(r, updates=(*r.updates, *_made_anew(r.updates))) for r in rules]


def _made_anew(updates: tuple[Update, ...]) -> list[Update]:
    present = [u for u in updates if u.function is pte_present and not is_false(u.value)]
    cells = [[*map(text_of, u.index)] for u in present]
    remapped = [replace(u, value=BoolVal(True)) for u in updates
                if u.function is pte_frame and [*map(text_of, u.index)] not in cells]
    return [
        replace(u, function=pte_young, value=BoolVal(False) if str(u.index[0]) == CHILD else u.value)
        for u in (*present, *remapped)
    ]
