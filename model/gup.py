"""get_user_pages: taking references, the faults it raises by itself, dropping, and stores by the holder (mm/gup.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from z3 import And, BoolVal, Implies, Not, Or

from model.decisions import Decisions
from model.fault import free_idle_after_copy
from model.logic import Param, RuleTemplate, Stage, Staged, Step, Term, Update, each, put, rule
from model.ptes import NEW, N, P, V, fresh_page, leave_swap_cache, prepare_anon_vma, set_exclusive
from model.state import (
    Page,
    Pin,
    accessible,
    anon,
    cma,
    fast_dirty,
    fast_held,
    fast_read,
    fast_soft_dirty,
    fast_uffd_wp,
    fast_write,
    fast_young,
    forking,
    frame_free,
    frame_value,
    has_pinned,
    large,
    live,
    memalloc_pin,
    movable,
    nonanon,
    page_dirty,
    pin_attached,
    pin_dontfork,
    pin_foll_pin,
    pin_frame,
    pin_live,
    pin_longterm,
    pin_page,
    pin_proc,
    pin_write,
    pte_cleared,
    pte_dirty,
    pte_frame,
    pte_guard,
    pte_huge,
    pte_present,
    pte_soft_dirty,
    pte_uffd_wp,
    pte_write,
    pte_young,
    readable,
    same_pmd,
    seq_moved,
    vma_dontfork,
    vma_none,
    vma_write,
)

K = Param("k", Pin, fresh=True)
HELD = Param("k", Pin)
READ = (
    (fast_write, pte_write), (fast_dirty, pte_dirty), (fast_soft_dirty, pte_soft_dirty), (fast_uffd_wp, pte_uffd_wp),
)
"""The bits of the PTE that GUP-fast has read, each with the PTE's own: gup_pte_range compares the whole pte_val.
The accessed bit is another one (`as_young`)."""


def as_young(k: Term, p: Term, v: Term) -> list[Term]:
    """The PTE's accessed bit is as GUP-fast has read it; said so that nothing remains where there is none."""
    return [Implies(fast_young(k), pte_young(p, v)), Implies(pte_young(p, v), fast_young(k))]


def may_read(kernel: Decisions, p: Term, v: Term, f: Term, foll_pin: bool, longterm: bool) -> Term:
    """A read GUP takes f as (p, v) maps it."""
    return Or(
        And(nonanon(f), kernel.read_gup_nonanon(p, v, f, foll_pin, longterm)),
        And(Not(nonanon(f)), kernel.read_gup(p, v, f, foll_pin)),
    )


def may_take(kernel: Decisions, p: Term, v: Term, foll_pin: bool, write: bool, longterm: bool) -> Term:
    """Such a GUP takes the page that the PTE of (p, v) maps, be it wherever."""
    if write:
        return And(vma_write(p, v), pte_write(p, v))
    return And(Not(vma_none(p, v)), may_read(kernel, p, v, pte_frame(p, v), foll_pin, longterm))


def unpinnable(kernel: Decisions, f: Term) -> Term:
    """is_longterm_pinnable_page says no: FOLL_LONGTERM must not leave f where it is; decision `longterm_migrates`."""
    return cma(f) if kernel.longterm_migrates == "cma" else Or(movable(f), cma(f))


def may_stay(kernel: Decisions, f: Term, longterm: bool) -> list[Term]:
    """Such a GUP may keep f, as far as it matters where f lies."""
    return [Not(unpinnable(kernel, f))] if longterm else []


def done_there(p: Term, v: Term, longterm: bool) -> list[Update]:
    """memalloc_pin_restore."""
    return put(memalloc_pin(p, v), False) if longterm else []


def reference(p: Term, v: Term, k: Term, foll_pin: bool, write: bool, longterm: bool) -> list[Update]:
    """Say of k that it is such a reference to the page that (p, v) maps."""
    return [
        *put(pin_frame(k), pte_frame(p, v)), *put(pin_proc(k), p), *put(pin_page(k), v),
        *put(pin_foll_pin(k), foll_pin), *put(pin_write(k), write), *put(pin_longterm(k), longterm),
        *put(pin_dontfork(k), vma_dontfork(p, v)),
    ]


def counts(k: Term) -> list[Update]:
    """k is a reference from now on, taken where its process maps the page."""
    return put(pin_live(k), True) + put(pin_attached(k), True)


def remembers_pin(p: Term, foll_pin: bool) -> list[Update]:
    """The mm has pinned something once."""
    return put(has_pinned(p), True) if foll_pin else []


def _gup(name: str, foll_pin: bool, write: bool, longterm: bool, about: str) -> tuple[RuleTemplate, RuleTemplate]:
    """The rule of slow GUP, which finds and takes under the page-table lock, and that of GUP-fast, which does not."""

    def taken(p: Term, v: Term, k: Term) -> list[Update]:
        return reference(p, v, k, foll_pin, write, longterm)

    def allowed(kernel: Decisions, p: Term, v: Term) -> Term:
        return may_take(kernel, p, v, foll_pin, write, longterm)

    def slow(kernel: Decisions, p: Term, v: Term, k: Term) -> Step:
        touched = [] if foll_pin or write or not kernel.touch_dirties_pmd else each(
            Page, lambda w: put(pte_dirty(p, w), True), when=lambda w: same_pmd(p, v, p, w)
        )
        return Step(
            [live(p, v), pte_present(p, v), allowed(kernel, p, v), *may_stay(kernel, pte_frame(p, v), longterm)],
            [counts(k), *taken(p, v, k), remembers_pin(p, foll_pin), touched, done_there(p, v, longterm)],
        )

    def quick(kernel: Decisions, p: Term, v: Term, k: Term) -> Staged:
        q, w, f = pin_proc(k), pin_page(k), pin_frame(k)
        counted = foll_pin and kernel.fork_seqcount
        # A page whose owner's mark may be read before the PTE is looked at again (no ordering before 088b8aa537c2).
        again = allowed(kernel, q, w) if kernel.gup_fast_ordered else BoolVal(True)

        def unchanged(view: Any) -> Term:
            there = And(pte_present(q, w), Not(pte_cleared(q, w)), accessible(q, w))
            bits = [*(bit(q, w) == seen(k) for seen, bit in READ), *as_young(k, q, w)]
            same = And(there, pte_frame(q, w) == f, *bits)
            overlaps = Or(seq_moved(k), forking(q)) if counted else BoolVal(False)
            return And(same, again, Not(overlaps))

        def goes_on(updates: Sequence[Any]) -> Step:
            # What was begun with other flags goes on as that.
            kind = zip((pin_foll_pin, pin_write, pin_longterm), (foll_pin, write, longterm), strict=True)
            return Step([flag(k) if on else Not(flag(k)) for flag, on in kind], updates)

        return Staged(
            (
                Stage("read", lambda view: Step(
                    [live(p, v), pte_present(p, v), Not(pte_cleared(p, v)), allowed(kernel, p, v),
                     *may_stay(kernel, pte_frame(p, v), longterm),
                     *([Not(forking(p))] if counted else [])],
                    [remembers_pin(p, foll_pin)],
                )),
                Stage("grab", lambda view: goes_on([]), recheck=lambda view: Not(frame_free(f)), back="undo-grab"),
                Stage("check", lambda view: goes_on(counts(k)), recheck=unchanged, back="undo"),
            ),
            (fast_read(k), fast_held(k)),
            save=[
                *taken(p, v, k), *(u for seen, bit in READ for u in put(seen(k), bit(p, v))),
                put(fast_young(k), pte_young(p, v)), put(seq_moved(k), False),
            ],
        )

    slow.__doc__ = about
    quick.__doc__ = f"{about} By GUP-fast."
    function = "pin_user_pages" if foll_pin else "get_user_pages"
    flags = ", ".join(flag for flag, on in (("FOLL_WRITE", write), ("FOLL_LONGTERM", longterm)) if on)
    said = "domain.md 1.3, (c) and (d) of each kernel"
    return (
        rule([P, V, K], f"{function}({flags or 'read'}): follow_page_pte", said, name=name, lock="read")(slow),
        rule([P, V, K], f"{function}_fast({flags or 'read'}): gup_pte_range", "domain.md (e), 7.2 S1, S3",
             name=f"fast-{name}", features=("gup-fast",), split=("gup-fast",))(quick),
    )


get_read = _gup("get-read", False, False, False, "FOLL_GET for reading (vmsplice, O_DIRECT writes before 6.5).")
get_write = _gup("get-write", False, True, False, "FOLL_GET for writing (O_DIRECT reads before 6.5).")
pin_read_short = _gup("pin-read", True, False, False, "FOLL_PIN for reading.")
pin_write_short = _gup("pin-write", True, True, False, "FOLL_PIN for writing.")
pin_read_long = _gup("pin-read-longterm", True, False, True, "FOLL_PIN | FOLL_LONGTERM for reading (RDMA, vfio).")
pin_write_long = _gup(
    "pin-write-longterm", True, True, True, "FOLL_PIN | FOLL_LONGTERM for writing (io_uring fixed buffers)."
)


@rule([P, V], "follow_page_pte(FOLL_TOUCH | FOLL_WRITE), touch_pmd", "mm/gup.c, read in 5.10.262, 6.12.118, 7.2.13",
      features=("lazyfree",), lock="read")
def gup_touch(kernel: Decisions, p: Term, v: Term) -> Step:
    """Slow GUP for writing makes a page dirty whose PTE is writable and clean; GUP-fast does not look at that."""
    f = pte_frame(p, v)
    return Step(
        [live(p, v), vma_write(p, v), pte_present(p, v), pte_write(p, v), Not(pte_dirty(p, v)), Not(page_dirty(f))],
        [put(page_dirty(f), True)],
    )


@rule([P, V], "madvise(MADV_POPULATE_READ): faultin_page_range", "domain.md 2.14", features=("populate",), lock="read")
def madv_populate_read(kernel: Decisions, p: Term, v: Term) -> Step:
    """There is a page that a load would find: without FOLL_PIN no reader needs one of its own."""
    return Step([readable(p, v), pte_present(p, v)])


@rule([P, V], "madvise(MADV_POPULATE_WRITE): faultin_page_range", "domain.md 2.14", features=("populate",), lock="read")
def madv_populate_write(kernel: Decisions, p: Term, v: Term) -> Step:
    """There is a page that a store would find, and nothing is stored."""
    return Step([live(p, v), vma_write(p, v), pte_present(p, v), pte_write(p, v)])


@rule([P, V], "check_vma_flags, -EFAULT", "domain.md (c)", kind="refusal")
def gup_read_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A read GUP where there is no VMA, or a PROT_NONE one, or at a guard."""
    return Step([Or(Not(readable(p, v)), pte_guard(p, v))])


@rule([P, V], "check_vma_flags, -EFAULT", "domain.md (d)", kind="refusal")
def gup_write_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write GUP where there is no VMA or a read-only one, or at a guard."""
    return Step([Or(Not(And(live(p, v), vma_write(p, v))), pte_guard(p, v))])


def needs_private(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """GUP for reading does not take the page as it is mapped; some kind of it, FOLL_PIN | FOLL_LONGTERM at the most."""
    f = pte_frame(p, v)
    return [
        live(p, v), pte_present(p, v), Not(pte_write(p, v)), Not(may_read(kernel, p, v, f, True, True)),
    ]


def may_unshare(kernel: Decisions, p: Term, v: Term, f: Term) -> Term:
    """A fault for a reader finds that f is its process's own alone: the same test as a write fault's in do_wp_page
    where that looks at large folios apart (wp_can_reuse_anon_folio)."""
    decide = kernel.unshare
    assert decide is not None, "only a kernel that has such a fault is asked"
    of_large = (kernel.reuse_large or decide)(p, v, f)
    return And(anon(f), Or(And(large(f), of_large), And(Not(large(f)), decide(p, v, f))))


@rule([P, V, NEW], "do_wp_page for a reader: FAULT_FLAG_UNSHARE, FAULT_FLAG_BREAK_COW, or a forced write fault",
      "domain.md 2.2, 2.3, 2.7, 2.10 (c); decision `unshare`", lock="read")
def unshare_copy(kernel: Decisions, p: Term, v: Term, new: Term) -> Step | None:
    """GUP for reading copies a page that is not the mm's own alone; the copy stays read-only and keeps uffd-wp
    (unless the decision `unshare_writable` says otherwise)."""
    if kernel.unshare is None:
        return None
    old = pte_frame(p, v)
    guard = [*needs_private(kernel, p, v), Not(pte_huge(p, v)), Not(may_unshare(kernel, p, v, old))]
    if kernel.read_gup_writes:
        guard.append(Not(vma_write(p, v)))
    writable = And(vma_write(p, v), BoolVal(kernel.unshare_writable))
    return Step(
        guard,
        [
            put(pte_frame(p, v), new), fresh_page(new, frame_value(old)), put(pte_write(p, v), writable),
            *prepare_anon_vma(p, v),
            put(pte_dirty(p, v), Or(writable, BoolVal(kernel.read_gup_writes))),
            put(pte_uffd_wp(p, v), And(pte_uffd_wp(p, v), BoolVal(not kernel.unshare_writable))),
            set_exclusive(kernel, new), free_idle_after_copy(kernel, p, v, old),
        ],
    )


@rule([P, V], "do_wp_page(FAULT_FLAG_UNSHARE), page_move_anon_rmap", "domain.md 2.10 (a), (c)", lock="read")
def unshare_reuse(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """FAULT_FLAG_UNSHARE finds that nobody else has the page: it becomes exclusive and stays read-only."""
    if not kernel.exclusive_bit or kernel.unshare is None:
        return None
    f = pte_frame(p, v)
    return Step(
        [*needs_private(kernel, p, v), Not(pte_huge(p, v)), may_unshare(kernel, p, v, f)],
        [set_exclusive(kernel, f), leave_swap_cache(f, BoolVal(True))],
    )


@rule([HELD], "unpin_user_page, put_page", "domain.md 7.1")
def unpin(kernel: Decisions, k: Term) -> Step:
    """The holder drops its reference; what it wrote makes the page dirty, so that MADV_FREE is off."""
    f = pin_frame(k)
    return Step([pin_live(k)], [put(pin_live(k), False), put(page_dirty(f), Or(page_dirty(f), pin_write(k)))])


@rule([HELD], "unpin_user_page, put_page", "litmus.md", kind="refusal")
def reference_missing(kernel: Decisions, k: Term) -> Step:
    """There is no reference to drop or to store through: taking it was refused."""
    return Step([Not(pin_live(k))])


@rule([HELD, N], "device store", "domain.md I4")
def dma_store(kernel: Decisions, k: Term, n: Term) -> Step:
    """The device stores n into the page through a write reference."""
    return Step([pin_live(k), pin_write(k)], [put(frame_value(pin_frame(k)), n)])


RULES = (
    *get_read, *get_write, *pin_read_short, *pin_write_short, *pin_read_long, *pin_write_long,
    gup_touch, madv_populate_read, madv_populate_write, gup_read_refused, gup_write_refused, unshare_copy,
    unshare_reuse, unpin, reference_missing, dma_store,
)
