"""What a condition can ask of a test's end, as terms and as text, and what a user sees of a state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import z3

from model.logic import Scope, Sort, Term
from model.state import (
    Page,
    Pin,
    Proc,
    Slot,
    Value,
    cached,
    cma,
    exclusive,
    file,
    frame_value,
    ksm,
    live,
    loadable,
    loaded,
    maps,
    may_mark,
    misplaced,
    movable,
    nonanon,
    pin_frame,
    pin_live,
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
    pte_uffd_wp,
    pte_write,
    slot_frame,
    slot_free,
    uffd_async,
    uffd_marker,
    vma,
    vma_new,
    vma_soft_dirty,
    vma_uffd,
)
from proofs.derive.interpreter import Interpreter, State


class Fact(NamedTuple):
    """One thing that a condition asks of a test's end: a word and numbers of elements.

    `sees` (k, n): the holder of reference k reads value n; `loads` (p, v, n): a load gives n; `maps` (p, v, k): the PTE
    maps what the reference holds; `same` (p, v, q, w): both map one page; those of OF_ADDRESSES (p, v); `refused`,
    `blocked` (statement, 1-based); `slots` (how many).
    """

    what: str
    of: tuple[int, ...]

    @property
    @functools.cache  # noqa: B019  there are few facts
    def constant(self) -> Term:
        """What stands for it in `Litmus.condition`."""
        return z3.Bool(f"{self.what}{self.of}")

    @property
    def about(self) -> list[tuple[str, int]]:
        """The elements that it speaks of: name of the sort, and number."""
        return [(sort.name(), i) for sort, i in zip(_SORTS.get(self.what, ()), self.of, strict=False)]

    @functools.cache  # noqa: B019
    def meaning(self) -> Term:
        """A Bool term over the constants of `element`; of `refused`, `blocked` and `slots`, its own constant."""
        sorts = _SORTS.get(self.what, ())
        elements = [element(sort, number) for sort, number in zip(sorts, self.of, strict=False)]
        match self.what, elements:
            case "sees", [k, n]:
                return z3.And(pin_live(k), frame_value(pin_frame(k)) == n)
            case "loads", [p, v, n]:
                return z3.And(loadable(p, v), loaded(p, v) == n)
            case "maps", [p, v, k]:
                return z3.And(pin_live(k), maps(p, v, pin_frame(k)))
            case "same", [p, v, q, w]:
                return z3.And(pte_present(p, v), maps(q, w, pte_frame(p, v)))
            case what, [p, v]:
                return OF_ADDRESSES[what](p, v)
        return self.constant

    def text(self, names: Mapping[str, Sequence[str]]) -> str:
        """The fact as a condition says it, with those names of elements by sort."""
        named = [names[sort][i] for sort, i in self.about]
        match self.what, named:
            case "sees", [k, n]:
                return f"{k} sees {n}"
            case "loads", [p, v, n]:
                return f"{p}.{v} == {n}"
            case "maps", [p, v, k]:
                return f"{p}.{v} is {k}"
            case "same", [p, v, q, w]:
                return f"{p}.{v} is {q}.{w}"
            case what, [p, v]:
                return f"{what} {p}.{v}"
        return f"slots == {self.of[0]}" if self.what == "slots" else f"{self.what} {self.of[0]}"


def _uffd_wp(p: Term, v: Term) -> Term:
    """The PTE or swap entry is protected, or the empty PTE is a marker."""
    marked = z3.And(vma(p, v), may_mark(v), pte_none(p, v), uffd_marker(p, v))
    entry = z3.Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v), pte_guard(p, v))
    return z3.Or(z3.And(entry, pte_uffd_wp(p, v)), marked)


def _of_page(holds: Callable[[Term], Term]) -> Callable[[Term, Term], Term]:
    """The PTE maps a page of which that holds."""
    return lambda p, v: z3.And(pte_present(p, v), holds(pte_frame(p, v)))


OF_ADDRESSES: dict[str, Callable[[Term, Term], Term]] = {
    "writable": lambda p, v: z3.And(pte_present(p, v), pte_write(p, v)),
    "soft-dirty": lambda p, v: z3.And(live(p, v), z3.Or(vma_soft_dirty(p), vma_new(p, v), pte_soft_dirty(p, v))),
    "present": pte_present,
    "swapped": pte_swap,
    "guarded": pte_guard,
    "huge": lambda p, v: z3.And(pte_present(p, v), pte_huge(p, v)),
    "uffd-wp": _uffd_wp,
    "written": lambda p, v: z3.And(live(p, v), vma_uffd(p, v), uffd_async(v), z3.Not(_uffd_wp(p, v))),
    "dirty": lambda p, v: z3.And(pte_present(p, v), pte_dirty(p, v)),
    "exclusive": _of_page(exclusive),
    "ksm": _of_page(ksm),
    "movable": _of_page(lambda f: z3.Or(movable(f), cma(f))),
    "misplaced": lambda p, v: z3.Or(
        z3.And(pte_present(p, v), misplaced(pte_frame(p, v))),
        z3.And(pte_swap(p, v), cached(pte_slot(p, v)), misplaced(slot_frame(pte_slot(p, v)))),
    ),
    "zero": lambda p, v: z3.And(pte_present(p, v), z3.Not(file(v)), nonanon(pte_frame(p, v))),
}
"""What a condition asks of a process and a page: word to a Bool term over both."""
_SORTS: dict[str, tuple[Sort, ...]] = {
    "sees": (Pin, Value), "loads": (Proc, Page, Value), "maps": (Proc, Page, Pin), "same": (Proc, Page, Proc, Page),
    **dict.fromkeys(OF_ADDRESSES, (Proc, Page)),
}


def asked_of(facts: Sequence[Fact]) -> tuple[tuple[str, int], ...]:
    """The processes with a page, and the references, of which those facts speak."""
    found = [about for fact in facts for about in fact.about]
    return tuple(about for about in found if about[0] in ("Proc", "Page", "Pin"))


def element(sort: Sort, number: int) -> Term:
    """The constant that stands for one element in a fact's meaning."""
    return z3.Const(f"{sort.name()}!{number}", sort)


def elements(scope: Scope) -> dict[str, int]:
    """The constants of `element`, each with its number."""
    return {
        f"{sort.name()}!{number}": number
        for sort in (Proc, Page, Pin, Value) for number in range(scope.size(sort))
    }


# What a user sees of a state

_P, _V, _K, _S = (z3.Const(name, sort) for name, sort in zip("pvks", (Proc, Page, Pin, Slot), strict=True))
_LIVE, _LOADED, _HELD, _SEEN = loadable(_P, _V), loaded(_P, _V), pin_live(_K), frame_value(pin_frame(_K))
_FREE = slot_free(_S)
LOOKED_AT = (_LIVE, _LOADED, _HELD, _SEEN, _FREE)
"""The terms on which the answers of `value_loaded`, `value_seen` and `slots_used` depend."""


def value_loaded(interpreter: Interpreter, state: State, p: int, v: int) -> int | None:
    """What a load by process p from page v gives; None where it may not load, or waits for a monitor."""
    at = {"p": p, "v": v}
    return interpreter.evaluate(_LOADED, state, at) if interpreter.evaluate(_LIVE, state, at) else None


def value_seen(interpreter: Interpreter, state: State, k: int) -> int | None:
    """What the holder of reference k reads; None if nobody holds it."""
    at = {"k": k}
    return interpreter.evaluate(_SEEN, state, at) if interpreter.evaluate(_HELD, state, at) else None


def slots_used(interpreter: Interpreter, state: State) -> int:
    """How many swap slots are in use."""
    slots = range(interpreter.scope.size(Slot))
    return sum(not interpreter.evaluate(_FREE, state, {"s": s}) for s in slots)
