"""get_user_pages: taking references, the faults it raises by itself, dropping, and stores by the holder (mm/gup.c)."""

from __future__ import annotations

from typing import Any

from z3 import And, BoolVal, Not, Or

from model.fault import NEW, N, P, V, free_idle_after_copy, leave_swap_cache, set_exclusive
from model.logic import Param, RuleTemplate, Step, Term, put, rule
from model.state import (
    Pin,
    frame_value,
    has_pinned,
    live,
    pin_attached,
    pin_foll_pin,
    pin_frame,
    pin_live,
    pin_longterm,
    pin_page,
    pin_proc,
    pin_write,
    pte_dirty,
    pte_frame,
    pte_present,
    pte_uffd_wp,
    pte_write,
    vma_write,
)

K = Param("k", Pin, fresh=True)
HELD = Param("k", Pin)


def _gup(name: str, foll_pin: bool, write: bool, longterm: bool, about: str) -> RuleTemplate:
    def body(kernel: Any, p: Term, v: Term, k: Term) -> Step:
        f = pte_frame(p, v)
        allowed = And(vma_write(p, v), pte_write(p, v)) if write else kernel.read_gup(p, v, f, foll_pin)
        taken = [
            put(pin_live(k), True), put(pin_frame(k), f), put(pin_proc(k), p), put(pin_page(k), v),
            put(pin_foll_pin(k), foll_pin), put(pin_write(k), write), put(pin_longterm(k), longterm),
            put(pin_attached(k), True),
        ]
        if foll_pin:
            taken.append(put(has_pinned(p), True))
        return Step([live(p, v), pte_present(p, v), allowed], taken)

    body.__doc__ = about
    function = "pin_user_pages" if foll_pin else "get_user_pages"
    flags = ", ".join(flag for flag, on in (("FOLL_WRITE", write), ("FOLL_LONGTERM", longterm)) if on)
    where = f"{function}({flags or 'read'}): follow_page_pte"
    return rule([P, V, K], where, "domain.md 1.3, (c) and (d) of each kernel", name=name)(body)


get_read = _gup("get-read", False, False, False, "FOLL_GET for reading (vmsplice, O_DIRECT writes before 6.5).")
get_write = _gup("get-write", False, True, False, "FOLL_GET for writing (O_DIRECT reads before 6.5).")
pin_read_short = _gup("pin-read", True, False, False, "FOLL_PIN for reading.")
pin_write_short = _gup("pin-write", True, True, False, "FOLL_PIN for writing.")
pin_read_long = _gup("pin-read-longterm", True, False, True, "FOLL_PIN | FOLL_LONGTERM for reading (RDMA, vfio).")
pin_write_long = _gup(
    "pin-write-longterm", True, True, True, "FOLL_PIN | FOLL_LONGTERM for writing (io_uring fixed buffers)."
)


@rule([P, V], "check_vma_flags, -EFAULT", "domain.md (c)", kind="refusal")
def gup_read_refused(kernel: Any, p: Term, v: Term) -> Step:
    """A read GUP where there is no VMA."""
    return Step([Not(live(p, v))])


@rule([P, V], "check_vma_flags, -EFAULT", "domain.md (d)", kind="refusal")
def gup_write_refused(kernel: Any, p: Term, v: Term) -> Step:
    """A write GUP where there is no VMA or a read-only one."""
    return Step([Not(And(live(p, v), vma_write(p, v)))])


def _needs_private(kernel: Any, p: Term, v: Term) -> list[Term]:
    f = pte_frame(p, v)
    return [live(p, v), pte_present(p, v), Not(pte_write(p, v)), Not(kernel.read_gup(p, v, f, True))]


@rule([P, V, NEW], "do_wp_page for a reader: FAULT_FLAG_UNSHARE, FAULT_FLAG_BREAK_COW, or a forced write fault",
      "domain.md 2.2, 2.3, 2.7, 2.10 (c); decision `unshare`")
def unshare_copy(kernel: Any, p: Term, v: Term, new: Term) -> Step | None:
    """GUP for reading copies a page that is not the mm's own alone; the copy stays read-only and keeps uffd-wp
    (unless the decision `unshare_writable` says otherwise)."""
    if kernel.unshare is None:
        return None
    old = pte_frame(p, v)
    guard = [*_needs_private(kernel, p, v), Not(kernel.unshare(p, v, old))]
    if kernel.read_gup_writes:
        guard.append(Not(vma_write(p, v)))
    writable = And(vma_write(p, v), BoolVal(kernel.unshare_writable))
    return Step(
        guard,
        [
            put(pte_frame(p, v), new), put(frame_value(new), frame_value(old)), put(pte_write(p, v), writable),
            put(pte_dirty(p, v), Or(writable, BoolVal(kernel.read_gup_writes))),
            put(pte_uffd_wp(p, v), And(pte_uffd_wp(p, v), BoolVal(not kernel.unshare_writable))),
            set_exclusive(kernel, new), free_idle_after_copy(kernel, p, v, old),
        ],
    )


@rule([P, V], "do_wp_page(FAULT_FLAG_UNSHARE), page_move_anon_rmap", "domain.md 2.10 (a), (c)")
def unshare_reuse(kernel: Any, p: Term, v: Term) -> Step | None:
    """FAULT_FLAG_UNSHARE finds that nobody else has the page: it becomes exclusive and stays read-only."""
    if not kernel.exclusive_bit or kernel.unshare is None:
        return None
    f = pte_frame(p, v)
    return Step(
        [*_needs_private(kernel, p, v), kernel.unshare(p, v, f)],
        [set_exclusive(kernel, f), leave_swap_cache(f, BoolVal(True))],
    )


@rule([HELD], "unpin_user_page, put_page", "domain.md 7.1")
def unpin(kernel: Any, k: Term) -> Step:
    """The holder drops its reference."""
    return Step([pin_live(k)], [put(pin_live(k), False)])


@rule([HELD], "unpin_user_page, put_page", "litmus.md", kind="refusal")
def reference_missing(kernel: Any, k: Term) -> Step:
    """There is no reference to drop or to store through: taking it was refused."""
    return Step([Not(pin_live(k))])


@rule([HELD, N], "device store", "domain.md I4")
def dma_store(kernel: Any, k: Term, n: Term) -> Step:
    """The device stores n into the page through a write reference."""
    return Step([pin_live(k), pin_write(k)], [put(frame_value(pin_frame(k)), n)])


RULES = (
    get_read, get_write, pin_read_short, pin_write_short, pin_read_long, pin_write_long,
    gup_read_refused, gup_write_refused, unshare_copy, unshare_reuse, unpin, reference_missing, dma_store,
)
