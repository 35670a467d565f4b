"""Page faults: handle_pte_fault and below (mm/memory.c), and what the CPU does by itself."""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, Not, Or

from model.logic import Param, Step, Term, Update, each, put, rule
from model.state import (
    ZERO,
    Frame,
    Page,
    Proc,
    Slot,
    Value,
    cached,
    exclusive,
    frame_value,
    live,
    mapped_only_by,
    page_swapped,
    pte_dirty,
    pte_frame,
    pte_none,
    pte_present,
    pte_slot,
    pte_soft_dirty,
    pte_swap,
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    slot_frame,
    slot_value,
    uffd_armed,
    vma_write,
)

P, V = Param("p", Proc), Param("v", Page)
NEW = Param("new", Frame, fresh=True)
N = Param("n", Value)


def map_writable(p: Term, v: Term, f: Term, value: Term) -> list[Update]:
    """Install f at (p, v) with W, D and soft-dirty (maybe_mkwrite(pte_mkdirty(...)) in a writable VMA)."""
    return (
        put(pte_present(p, v), True) + put(pte_frame(p, v), f) + put(pte_write(p, v), True)
        + put(pte_dirty(p, v), True) + put(pte_soft_dirty(p, v), True) + put(pte_uffd_wp(p, v), False)
        + put(frame_value(f), value)
    )


def set_exclusive(kernel: Any, f: Term, value: Any = True) -> list[Update]:
    """SetPageAnonExclusive(f), in kernels that have the bit."""
    return put(exclusive(f), value) if kernel.exclusive_bit else []


def leave_swap_cache(f: Term, when: Term) -> list[Update]:
    """delete_from_swap_cache(f) if it is there and `when` holds."""
    return each(Slot, lambda s: put(cached(s), False), when=lambda s: And(cached(s), slot_frame(s) == f, when))


def free_idle_after_copy(kernel: Any, p: Term, v: Term, old: Term) -> list[Update]:
    """free_swap_cache(old_page) at the end of wp_page_copy: 5.14, f4c4a3f48480."""
    if not kernel.copy_frees_swap_cache:
        return []
    return leave_swap_cache(old, And(mapped_only_by(p, v, old), Not(page_swapped(old))))


def write_protected(p: Term, v: Term) -> list[Term]:
    """A write fault on a present read-only PTE of a writable VMA that userfaultfd does not stop."""
    return [live(p, v), vma_write(p, v), pte_present(p, v), Not(pte_write(p, v)), Not(pte_uffd_wp(p, v))]


@rule([P, V, N], "CPU store", "domain.md 1.2")
def store(kernel: Any, p: Term, v: Term, n: Term) -> Step:
    """The CPU stores n through a writable PTE."""
    return Step(
        [live(p, v), pte_present(p, v), pte_write(p, v)],
        [put(frame_value(pte_frame(p, v)), n), put(pte_dirty(p, v), True)],
    )


@rule([P, V], "CPU load", "domain.md 1.2")
def load(kernel: Any, p: Term, v: Term) -> Step:
    """The CPU loads; an untouched page reads as zero without a page of its own (the shared zero page)."""
    return Step([live(p, v), Not(pte_swap(p, v))])


@rule([P, V], "bad_area, SIGSEGV", "domain.md 1.2", kind="refusal")
def store_refused(kernel: Any, p: Term, v: Term) -> Step:
    """A store where the VMA is missing or read-only."""
    writable = And(live(p, v), Or(vma_write(p, v), And(pte_present(p, v), pte_write(p, v))))
    return Step([Not(writable)])


@rule([P, V], "bad_area, SIGSEGV", "domain.md 1.2", kind="refusal")
def load_refused(kernel: Any, p: Term, v: Term) -> Step:
    """A load where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P, V], "handle_userfault(VM_UFFD_WP)", "domain.md I6", kind="block")
def userfault_wait(kernel: Any, p: Term, v: Term) -> Step:
    """A write fault on a uffd-wp PTE: the thread waits for the monitor."""
    return Step([live(p, v), vma_write(p, v), pte_present(p, v), Not(pte_write(p, v)), pte_uffd_wp(p, v)])


@rule([P, V, NEW], "do_anonymous_page", "domain.md 2.1, 2.10 (AE set)")
def anon_fault(kernel: Any, p: Term, v: Term, new: Term) -> Step:
    """A write fault on an empty PTE maps a fresh zeroed page, writable."""
    return Step(
        [live(p, v), vma_write(p, v), pte_none(p, v)],
        [map_writable(p, v, new, ZERO), put(uffd_armed(p, v), False), set_exclusive(kernel, new)],
    )


@rule([P, V], "do_wp_page, wp_page_reuse", "domain.md (a) of each kernel; decision `reuse`")
def wp_reuse(kernel: Any, p: Term, v: Term) -> Step:
    """A write fault on a read-only PTE gives the write bit back: the kernel takes the page for its own alone."""
    f = pte_frame(p, v)
    freed = kernel.reuse_frees_swap_cache(p, v, f)
    return Step(
        [*write_protected(p, v), kernel.reuse(p, v, f)],
        [
            put(pte_write(p, v), True), put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True),
            set_exclusive(kernel, f), leave_swap_cache(f, freed),
        ],
    )


def copied(kernel: Any, p: Term, v: Term, new: Term) -> list[Any]:
    """wp_page_copy: (p, v) gets a writable copy of the page it maps."""
    old = pte_frame(p, v)
    return [
        map_writable(p, v, new, frame_value(old)), set_exclusive(kernel, new),
        free_idle_after_copy(kernel, p, v, old),
    ]


@rule([P, V, NEW], "do_wp_page, wp_page_copy", "domain.md (a) of each kernel; decision `reuse`")
def wp_copy(kernel: Any, p: Term, v: Term, new: Term) -> Step:
    """A write fault on a read-only PTE copies: the kernel cannot show that the page is its own alone."""
    return Step([*write_protected(p, v), Not(kernel.reuse(p, v, pte_frame(p, v)))], copied(kernel, p, v, new))


@rule([P, V, NEW], "do_wp_page (trylock_page fails)", "domain.md 2.4 (a), F25", environment="trylock-fails")
def wp_copy_spurious(kernel: Any, p: Term, v: Term, new: Term) -> Step | None:
    """Another holder of the page lock makes a reusable page be copied."""
    if not kernel.trylock:
        return None
    f = pte_frame(p, v)
    needs_lock = Not(exclusive(f)) if kernel.exclusive_bit else BoolVal(True)
    return Step([*write_protected(p, v), needs_lock, kernel.reuse(p, v, f)], copied(kernel, p, v, new))


@rule([P, V, NEW], "swapin_readahead", "domain.md 2.1 (j)")
def swap_cache_read(kernel: Any, p: Term, v: Term, new: Term) -> Step:
    """The slot of a swap entry is read into a fresh page in the swap cache."""
    s = pte_slot(p, v)
    return Step(
        [live(p, v), pte_swap(p, v), Not(cached(s))],
        [put(cached(s), True), put(slot_frame(s), new), put(frame_value(new), slot_value(s)),
         set_exclusive(kernel, new, False)],
    )


def swapped_in(p: Term, v: Term, f: Term, writable: Term, dirty: Term) -> list[Update]:
    """do_swap_page's new PTE: read-only unless `writable`; uffd-wp and soft-dirty come from the swap entry."""
    return (
        put(pte_present(p, v), True) + put(pte_frame(p, v), f) + put(pte_swap(p, v), False)
        + put(pte_write(p, v), writable) + put(pte_dirty(p, v), dirty)
        + put(pte_soft_dirty(p, v), Or(pte_soft_dirty(p, v), dirty))
    )


@rule([P, V], "do_swap_page (read fault)", "domain.md (j) of each kernel; decision `swap_in_upgrades`")
def swap_in_read(kernel: Any, p: Term, v: Term) -> Step:
    """A read fault maps the page of the swap cache, read-only unless the kernel upgrades exclusive pages at once."""
    s = pte_slot(p, v)
    f = slot_frame(s)
    sole = pte_swap_exclusive(p, v) if kernel.exclusive_bit else BoolVal(False)
    upgrade = And(sole, vma_write(p, v), Not(pte_uffd_wp(p, v)), pte_soft_dirty(p, v))
    writable = upgrade if kernel.swap_in_upgrades else BoolVal(False)
    return Step(
        [live(p, v), pte_swap(p, v), cached(s)],
        [swapped_in(p, v, f, writable, BoolVal(False)), set_exclusive(kernel, f, Or(exclusive(f), sole))],
    )


@rule([P, V], "do_swap_page (write fault)", "domain.md (j) of each kernel; decisions `swap_in_reuse`, `swap_in_frees`")
def swap_in_write(kernel: Any, p: Term, v: Term) -> Step:
    """A write fault maps the page of the swap cache, writable if the kernel takes it for its own alone."""
    s = pte_slot(p, v)
    f = slot_frame(s)
    sole = kernel.swap_in_reuse(p, v, s, f)
    upgrade = And(sole, Not(pte_uffd_wp(p, v)))
    if kernel.swap_in_upgrades:
        upgrade = And(upgrade, pte_soft_dirty(p, v))
    dirty = upgrade if kernel.swap_in_upgrades else sole
    return Step(
        [live(p, v), vma_write(p, v), pte_swap(p, v), cached(s)],
        [
            swapped_in(p, v, f, upgrade, dirty),
            set_exclusive(kernel, f, Or(exclusive(f), sole)),
            put(cached(s), Not(kernel.swap_in_frees(p, v, s, f))),
        ],
    )


RULES = (
    store, load, store_refused, load_refused, userfault_wait, anon_fault, wp_reuse, wp_copy, wp_copy_spurious,
    swap_cache_read, swap_in_read, swap_in_write,
)

