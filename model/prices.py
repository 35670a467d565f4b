"""Which steps of a kernel pay for finding out whose a page is, and what: the evaluations of costs.py, rule by rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from z3 import And, BoolVal, Not

from model.costs import EVALUATIONS, LOCKS, MAPCOUNTS, ONE, SWAPCOUNTS, Charge, Evaluation
from model.decisions import Decisions
from model.logic import ModelError, Term
from model.state import (
    anon,
    in_swap_cache,
    large,
    mapped_only_by,
    pte_frame,
    pte_slot,
    slot_frame,
)


class UnpricedError(ModelError):
    """A decision of which nothing says how the kernel evaluates it."""


def evaluation(kernel: Decisions, decision: str) -> Evaluation:
    """How the kernel evaluates what that decision of it is. Raises UnpricedError if nobody has said it."""
    predicate = getattr(kernel, decision)
    if predicate not in EVALUATIONS:
        name = getattr(predicate, "__name__", predicate)
        raise UnpricedError(
            f"kernel {kernel.name}: nothing says what {name}, its {decision}, reads; decorate it with "
            f"@model.costs.evaluated"
        )
    return EVALUATIONS[predicate]



def _wp_page(kernel: Decisions, p: Term, v: Term, decisions: Mapping[bool, str]) -> list[Charge]:
    """do_wp_page deciding; `decisions`: for small pages (False) and for sub-pages of large folios (True)."""
    f = pte_frame(p, v)
    charges = []
    for of_large, decision in decisions.items():
        how = evaluation(kernel, decision)
        asked = And(anon(f), large(f) if of_large else Not(large(f)), Not(how.settled(p, v, f)), how.hopeful(p, v, f))
        if how.locks:
            charges.append(Charge(LOCKS, ONE, asked, "do_wp_page"))
        charges += [charge.where(asked) for charge in how.reads(p, v, f)]
    return charges


def _decides(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """do_wp_page on a write fault."""
    return _wp_page(kernel, p, v, {False: "reuse", True: "reuse" if kernel.reuse_large is None else "reuse_large"})


def _frees_after_copy(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """wp_page_copy's end: free_swap_cache of the old page, if it is unmapped now (f4c4a3f48480)."""
    if not kernel.copy_frees_swap_cache:
        return []
    f = pte_frame(p, v)
    there = And(Not(large(f)), in_swap_cache(f))
    return [
        Charge(MAPCOUNTS, ONE, there, "free_swap_cache, page_mapped"),
        Charge(LOCKS, ONE, And(there, mapped_only_by(p, v, f)), "free_swap_cache"),
        Charge(SWAPCOUNTS, ONE, And(there, mapped_only_by(p, v, f)), "free_swap_cache, try_to_free_swap"),
    ]


def _copies(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    return [*_decides(kernel, p, v), *_frees_after_copy(kernel, p, v)]


def _copies_untried(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """trylock_page fails: it was tried, and nothing is read under it."""
    tried = [charge for charge in _decides(kernel, p, v) if charge.meter == LOCKS]
    return [*tried, *_frees_after_copy(kernel, p, v)]


def _unshares(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """do_wp_page for a reader. Without FAULT_FLAG_UNSHARE it is an ordinary write fault, or decides as one."""
    if not kernel.exclusive_bit:
        return _decides(kernel, p, v)
    return _wp_page(kernel, p, v, {False: "unshare", True: "unshare" if kernel.reuse_large is None else "reuse_large"})


def _unshares_by_copy(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    return [*_unshares(kernel, p, v), *_frees_after_copy(kernel, p, v)]


def _huge(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """do_huge_pmd_wp_page deciding: the lock whatever the counts, unless a flag has settled it."""
    f, how = pte_frame(p, v), evaluation(kernel, "huge_reuse")
    asked = And(anon(f), Not(how.settled(p, v, f)))
    return [
        Charge(LOCKS, ONE, asked, "do_huge_pmd_wp_page"),
        *(charge.where(And(asked, how.hopeful(p, v, f))) for charge in how.reads(p, v, f)),
    ]


def _splits(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """... and then __split_huge_pmd, which locks the page once more where somebody might read mapcounts meanwhile."""
    locked = [Charge(LOCKS, ONE, anon(pte_frame(p, v)), "__split_huge_pmd")] if kernel.split_locks_page else []
    return [*_huge(kernel, p, v), *locked]


def _swaps_in(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """do_swap_page holds the lock of the page that it maps."""
    return [Charge(LOCKS, ONE, BoolVal(True), "do_swap_page")]


def _swaps_in_to_write(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    f, how = slot_frame(pte_slot(p, v)), evaluation(kernel, "swap_in_reuse")
    return [*_swaps_in(kernel, p, v), *(charge.where(anon(f)) for charge in how.reads(p, v, f))]


def _free(kernel: Decisions, p: Term, v: Term) -> list[Charge]:
    """No page that others may have is looked at."""
    return []


PRICES: dict[str, Callable[[Decisions, Term, Term], list[Charge]]] = {
    "wp-reuse": _decides, "wp-copy": _copies, "wp-copy-spurious": _copies_untried,
    "unshare-reuse": _unshares, "unshare-copy": _unshares_by_copy,
    "huge-wp-reuse": _huge, "huge-wp-copy": _huge, "huge-wp-split": _splits,
    "huge-unshare-reuse": _huge, "huge-unshare-split": _splits,
    "huge-zero-copy": _free, "huge-zero-unshare": _free,
    "swap-in-read": _swaps_in, "swap-in-write": _swaps_in_to_write,
    "swap-cache-read": _free, "anon-fault": _free, "huge-fault": _free, "fork": _free,
}
"""Rule to what it pays, of (kernel, p, v). A rule that is not here has no price, which is not the price nothing."""


def charges(kernel: Decisions, rule: str, p: Term, v: Term) -> list[Charge]:
    """What the kernel pays when (p, v) takes that rule. Raises UnpricedError for a rule without a price."""
    if rule not in PRICES:
        raise UnpricedError(f"nothing says what rule {rule} costs; there is {', '.join(PRICES)}")
    return PRICES[rule](kernel, p, v)
