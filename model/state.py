"""The state of the memory-management model: order-0 private anonymous pages, their PTEs, references and swap slots.

Sorts (unbounded in a proof, finite in a scope; dependencies run Pin -> Proc, Page -> Slot -> Frame only):
`Proc` an mm, `Page` a virtual page, `Frame` a struct page, `Pin` one reference taken by get_user_pages (FOLL_GET or
FOLL_PIN), `Slot` a swap slot, `Value` the content of a page. Counters are never stored: `page_count(f) == 1` is said
as "this reference exists and no other one does". Source: domain.md sections 1 and 8.
"""

from __future__ import annotations

import z3
from z3 import And, Implies, Not, Or

from model.logic import Sort, StateFunction, Term, exists, forall

Proc: Sort = z3.DeclareSort("Proc")
Page: Sort = z3.DeclareSort("Page")
Frame: Sort = z3.DeclareSort("Frame")
Pin: Sort = z3.DeclareSort("Pin")
Slot: Sort = z3.DeclareSort("Slot")
Value: Sort = z3.DeclareSort("Value")
Bool: Sort = z3.BoolSort()
SORTS: tuple[Sort, ...] = (Proc, Page, Frame, Pin, Slot, Value)

FIRST: Term = z3.Const("first", Proc)
"""The process that exists in the initial state, with a writable VMA over every page; litmus tests call it A."""
ZERO: Term = z3.Const("zero", Value)
"""The content of a page before any store."""
CONSTANTS = (FIRST, ZERO)


def _is_first(p: Term, *_: Term) -> Term:
    return p == FIRST


alive = StateFunction("alive", (Proc,), Bool, "the process exists", initial=_is_first)
has_pinned = StateFunction(
    "has_pinned", (Proc,), Bool, "mm->has_pinned / MMF_HAS_PINNED: FOLL_PIN was used; never cleared",
    meaningful=alive,
)
vma_soft_dirty = StateFunction(
    "vma_soft_dirty", (Proc,), Bool, "VM_SOFTDIRTY: everything reads as soft-dirty until the first clear_refs",
    meaningful=alive, initial=_is_first,
)
vma = StateFunction("vma", (Proc, Page), Bool, "a private anonymous VMA covers the page", initial=_is_first)
vma_write = StateFunction(
    "vma_write", (Proc, Page), Bool, "VM_WRITE", meaningful=vma, initial=_is_first
)
vma_uffd = StateFunction(
    "vma_uffd", (Proc, Page), Bool, "registered with userfaultfd for write-protection (VM_UFFD_WP)",
    meaningful=vma, initial=_is_first,
)
pte_present = StateFunction("pte_present", (Proc, Page), Bool, "the PTE maps a page")
pte_swap = StateFunction("pte_swap", (Proc, Page), Bool, "the PTE is a swap entry")
uffd_armed = StateFunction(
    "uffd_armed", (Proc, Page), Bool, "ghost: the last write-protect ioctl on the page succeeded, none undid it",
    meaningful=lambda p, v: Or(pte_present(p, v), pte_swap(p, v)),
)
pte_frame = StateFunction(
    "pte_frame", (Proc, Page), Frame, "the page a present PTE maps", meaningful=pte_present
)
pte_write = StateFunction(
    "pte_write", (Proc, Page), Bool, "write bit of a present PTE", meaningful=pte_present
)
pte_dirty = StateFunction(
    "pte_dirty", (Proc, Page), Bool, "dirty bit of a present PTE", meaningful=pte_present
)
pte_uffd_wp = StateFunction(
    "pte_uffd_wp", (Proc, Page), Bool, "uffd-wp bit of a present or swap PTE",
    meaningful=lambda p, v: Or(pte_present(p, v), pte_swap(p, v)),
)
pte_soft_dirty = StateFunction(
    "pte_soft_dirty", (Proc, Page), Bool, "soft-dirty bit of a present or swap PTE",
    meaningful=lambda p, v: Or(pte_present(p, v), pte_swap(p, v)),
)
pte_slot = StateFunction(
    "pte_slot", (Proc, Page), Slot, "the slot a swap entry names", meaningful=pte_swap
)
pte_swap_exclusive = StateFunction(
    "pte_swap_exclusive", (Proc, Page), Bool, "exclusive bit of a swap entry (5.19+)",
    meaningful=pte_swap,
)
pin_live = StateFunction("pin_live", (Pin,), Bool, "the reference is held")
pin_frame = StateFunction("pin_frame", (Pin,), Frame, "the page it refers to", meaningful=pin_live)
pin_proc = StateFunction("pin_proc", (Pin,), Proc, "the mm that took it", meaningful=pin_live)
pin_page = StateFunction("pin_page", (Pin,), Page, "the address it was taken at", meaningful=pin_live)
pin_foll_pin = StateFunction(
    "pin_foll_pin", (Pin,), Bool, "FOLL_PIN (true) or FOLL_GET", meaningful=pin_live
)
pin_write = StateFunction("pin_write", (Pin,), Bool, "taken with FOLL_WRITE", meaningful=pin_live)
pin_longterm = StateFunction(
    "pin_longterm", (Pin,), Bool, "taken with FOLL_LONGTERM", meaningful=pin_live
)
pin_attached = StateFunction(
    "pin_attached", (Pin,), Bool,
    "ghost: no excusing event (munmap, MADV_DONTNEED, exit) has hit the place it was taken at",
    meaningful=pin_live,
)
cached = StateFunction("cached", (Slot,), Bool, "a page is in the swap cache under this slot")
slot_frame = StateFunction(
    "slot_frame", (Slot,), Frame, "the page in the swap cache", meaningful=cached
)
slot_value = StateFunction(
    "slot_value", (Slot,), Value, "content on the swap device",
    meaningful=lambda s: And(Not(cached(s)), Not(slot_free(s))),
)
exclusive = StateFunction(
    "exclusive", (Frame,), Bool, "PG_anon_exclusive (5.19+)", meaningful=lambda f: Not(frame_free(f))
)
extra = StateFunction(
    "extra", (Frame,), Bool, "a transient reference: LRU batch, isolation, speculative get"
)
frame_value = StateFunction(
    "frame_value", (Frame,), Value, "content of the page", meaningful=lambda f: Not(frame_free(f))
)

FUNCTIONS: tuple[StateFunction, ...] = (
    alive, has_pinned, vma_soft_dirty, vma, vma_write, vma_uffd, uffd_armed,
    pte_present, pte_frame, pte_write, pte_dirty, pte_uffd_wp, pte_soft_dirty,
    pte_swap, pte_slot, pte_swap_exclusive,
    pin_live, pin_frame, pin_proc, pin_page, pin_foll_pin, pin_write, pin_longterm, pin_attached,
    cached, slot_frame, slot_value, exclusive, extra, frame_value,
)


# What the kernel's counters say, as first-order statements.

def maps(p: Term, v: Term, f: Term) -> Term:
    """The PTE of (p, v) maps f."""
    return And(pte_present(p, v), pte_frame(p, v) == f)


def swaps(p: Term, v: Term, s: Term) -> Term:
    """The PTE of (p, v) is a swap entry for slot s."""
    return And(pte_swap(p, v), pte_slot(p, v) == s)


def mapped(f: Term) -> Term:
    """page_mapped(f)."""
    return exists(Proc, Page, lambda q, w: maps(q, w, f))


def mapped_only_by(p: Term, v: Term, f: Term) -> Term:
    """No PTE other than that of (p, v) maps f."""
    return forall(Proc, Page, lambda q, w: Implies(maps(q, w, f), And(q == p, w == v)))


def swapped_only_by(p: Term, v: Term, s: Term) -> Term:
    """No swap entry other than that of (p, v) names slot s."""
    return forall(Proc, Page, lambda q, w: Implies(swaps(q, w, s), And(q == p, w == v)))


def in_swap_cache(f: Term) -> Term:
    """PageSwapCache(f)."""
    return exists(Slot, lambda s: And(cached(s), slot_frame(s) == f))


def page_swapped(f: Term) -> Term:
    """page_swapped(f): f is in the swap cache and a swap entry names its slot."""
    return exists(
        Proc, Page,
        lambda q, w: And(pte_swap(q, w), cached(pte_slot(q, w)), slot_frame(pte_slot(q, w)) == f),
    )


def referenced(f: Term) -> Term:
    """Some get_user_pages reference (FOLL_GET or FOLL_PIN) to f is held."""
    return exists(Pin, lambda k: And(pin_live(k), pin_frame(k) == f))


def maybe_pinned(f: Term) -> Term:
    """page_maybe_dma_pinned(f), without the false positives of 1024 FOLL_GETs."""
    return exists(Pin, lambda k: And(pin_live(k), pin_foll_pin(k), pin_frame(k) == f))


def pinned_in(p: Term, v: Term) -> Term:
    """The test of page_needs_cow_for_dma and its relatives: mm->has_pinned, and the mapped page maybe pinned."""
    return And(pte_present(p, v), has_pinned(p), maybe_pinned(pte_frame(p, v)))


def unreferenced(f: Term) -> Term:
    """Neither a get_user_pages reference nor a transient one."""
    return And(Not(referenced(f)), Not(extra(f)))


def pte_none(p: Term, v: Term) -> Term:
    """The PTE is empty."""
    return And(Not(pte_present(p, v)), Not(pte_swap(p, v)))


def live(p: Term, v: Term) -> Term:
    """The process exists and has a VMA there."""
    return And(alive(p), vma(p, v))


# Fresh elements: nothing refers to them, so any one stands for all.

def frame_free(f: Term) -> Term:
    """page_count(f) == 0."""
    return And(Not(mapped(f)), Not(in_swap_cache(f)), unreferenced(f))


def slot_free(s: Term) -> Term:
    """swap_map[s] == 0."""
    return And(Not(cached(s)), Not(exists(Proc, Page, lambda q, w: swaps(q, w, s))))


def proc_free(p: Term) -> Term:
    """Not a process now, and no reference was taken by one of that name: so a name never stands for two mms."""
    return And(Not(alive(p)), Not(exists(Pin, lambda k: And(pin_live(k), pin_proc(k) == p))))


def fresh(x: Term) -> Term:
    """Nothing refers to x (a Proc, Frame, Slot or Pin)."""
    if x.sort() == Proc:
        return proc_free(x)
    if x.sort() == Frame:
        return frame_free(x)
    if x.sort() == Slot:
        return slot_free(x)
    return Not(pin_live(x))


# What people observe.

def loaded(p: Term, v: Term) -> Term:
    """The Value that a load by p at v returns. An untouched page reads as zero (the shared zero page)."""
    slot = pte_slot(p, v)
    swapped = z3.If(cached(slot), frame_value(slot_frame(slot)), slot_value(slot))
    return z3.If(pte_present(p, v), frame_value(pte_frame(p, v)), z3.If(pte_swap(p, v), swapped, ZERO))


def resolves_to(p: Term, v: Term, f: Term) -> Term:
    """(p, v) maps f, or is a swap entry whose slot has f in the swap cache."""
    slot = pte_slot(p, v)
    return Or(maps(p, v, f), And(pte_swap(p, v), cached(slot), slot_frame(slot) == f))
