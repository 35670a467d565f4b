"""userfaultfd beyond write-protection: registering and unregistering, missing pages, UFFDIO_COPY, ZEROPAGE and MOVE.

Sources: mm/userfaultfd.c, fs/userfaultfd.c, do_anonymous_page, read in 5.10.262, 6.1.192, 6.12.118, 7.2.13 and 7.3-rc7;
domain.md 2.14. Write-protection is in protect.py.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from z3 import And, BoolVal, If, Not, Or

from model.decisions import Decisions
from model.fault import table_for
from model.huge import split_into_pages, split_updates
from model.logic import RuleTemplate, Stage, Staged, Step, Term, Update, each, only_if, put, rule
from model.protect import ranged, unprotected
from model.ptes import (
    NEW,
    N,
    P,
    V,
    anon_marker,
    fillable,
    fresh_page,
    has_features,
    map_pte,
    map_read_only,
    prepare_anon_vma,
    set_exclusive,
)
from model.state import (
    Frame,
    Span,
    alike,
    backed,
    backing,
    cached,
    exclusive,
    file,
    large,
    live,
    mapped_huge,
    maybe_pinned,
    misplaced,
    missing,
    move_found,
    move_from,
    move_looked,
    move_page,
    move_read,
    move_slot,
    nonanon,
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
    pte_swap_exclusive,
    pte_uffd_wp,
    pte_write,
    registered,
    slot_frame,
    stale,
    swaps,
    uffd_armed,
    uffd_marker,
    unplaced,
    unreferenced,
    vma,
    vma_exec,
    vma_missing,
    vma_uffd,
    vma_unwatched,
    vma_write,
)
from model.unmap import W, references_follow

UFFD = ("uffd",)
MOVE = ("uffd-move",)


# Registering

def _can_register(kernel: Decisions, p: Term, v: Term, for_wp: bool) -> Term:
    """vma_can_userfault; and where `register_narrows` does not hold, write-protection is not given up by it."""
    of_file = Or(Not(file(v)), BoolVal(kernel.uffd_markers)) if for_wp else BoolVal(True)
    kept = BoolVal(True) if for_wp or kernel.register_narrows else Not(vma_uffd(p, v))
    return And(live(p, v), of_file, kept, has_features(kernel, v))


def _over_holes(p: Term, span: Span, allowed: Callable[[Term], Term]) -> Term:
    """There is a VMA in the range, and all that there are can be (un)registered; holes are passed over."""
    if not span.whole:
        return allowed(span.page)
    return And(span.some(lambda v: live(p, v)), span.every(lambda v: Or(Not(live(p, v)), allowed(v))))


def _where_vmas_are(p: Term, span: Span, changed: Callable[[Term], list[Update]]) -> list[Update]:
    """Those updates for what is no hole; of a single page the guard says that it is none."""
    return span.each(changed, when=lambda v: live(p, v)) if span.whole else span.each(changed)


def _as_it_is(p: Term, v: Term, for_missing: bool, for_wp: bool) -> Term:
    """The VMA is registered for that, and perhaps for more."""
    return And(*([vma_missing(p, v)] if for_missing else []), *([vma_uffd(p, v)] if for_wp else []))


def _registration(name: str, for_missing: bool, for_wp: bool) -> tuple[RuleTemplate, ...]:
    """The rules of UFFDIO_REGISTER in that mode: of a page, of a whole block, where nothing changes, and refused."""
    function, source = "UFFDIO_REGISTER: userfaultfd_register", "domain.md 2.14; decision `register_narrows`"

    def register(kernel: Decisions, p: Term, span: Span) -> Step:
        """The VMA is registered for that alone, whatever it was registered for; PTEs stay as they are."""

        def changed(v: Term) -> list[Update]:
            same = _as_it_is(p, v, for_missing, for_wp)
            lost = And(uffd_armed(p, v), Or(BoolVal(for_wp), same))
            return (
                put(vma_missing(p, v), If(same, vma_missing(p, v), BoolVal(for_missing)))
                + put(vma_uffd(p, v), If(same, vma_uffd(p, v), BoolVal(for_wp)))
                + put(vma_unwatched(p, v), If(same, vma_unwatched(p, v), BoolVal(not for_wp)))
                + put(uffd_armed(p, v), lost)
            )

        return Step(
            [_over_holes(p, span, lambda v: _can_register(kernel, p, v, for_wp)), span.in_ptes(p)],
            [_where_vmas_are(p, span, changed)],
        )

    def nothing(kernel: Decisions, p: Term, v: Term) -> Step:
        """The VMA of what a PMD maps is registered for that: the PMD stays whole."""
        already = [pte_present(p, v), pte_huge(p, v), _as_it_is(p, v, for_missing, for_wp)]
        return Step([_can_register(kernel, p, v, for_wp), *already])

    def refused(kernel: Decisions, p: Term, span: Span) -> Step:
        """There is no VMA, or one that cannot be registered so."""
        return Step([Not(_over_holes(p, span, lambda v: _can_register(kernel, p, v, for_wp)))])

    register.__name__, refused.__name__ = name, f"{name}-refused"
    made = rule([P, V], function, source, name=f"{name}-nothing", features=(*UFFD, "huge"), lock="write")(nothing)
    return (
        *ranged(function, source, lock="write", features=UFFD)(register), made,
        *ranged(function, source, kind="refusal", features=UFFD)(refused),
    )


register_missing = _registration("uffd-register-missing", True, False)
register_wp = _registration("uffd-register-wp", False, True)
register_both = _registration("uffd-register-missing-wp", True, True)


@ranged("UFFDIO_UNREGISTER: userfaultfd_unregister", "domain.md 2.14; decision `unregister_unprotects`", lock="write",
        features=UFFD)
def uffd_unregister(kernel: Decisions, p: Term, span: Span) -> Step:
    """The VMA is not registered any more. From 6.0 (f369b07c8614) what was is un-protected as by UFFDIO_WRITEPROTECT;
    before, PTEs keep uffd-wp, and a later registration finds it there."""

    def changed(v: Term) -> list[Update]:
        gone = put(vma_missing(p, v), False) + put(vma_uffd(p, v), False)
        if not kernel.unregister_unprotects:
            was = Or(vma_unwatched(p, v), vma_uffd(p, v))
            return gone + put(vma_unwatched(p, v), was) + put(uffd_armed(p, v), False)
        cleared = unprotected(kernel, p, v) + put(stale(p, v), False)
        return gone + only_if(vma_uffd(p, v), cleared)

    return Step(
        [_over_holes(p, span, lambda v: live(p, v)), span.in_ptes(p)],
        [_where_vmas_are(p, span, changed)],
    )


@rule([P, V], "UFFDIO_UNREGISTER: userfaultfd_unregister", "domain.md 2.14", features=(*UFFD, "huge"), lock="write")
def uffd_unregister_nothing(kernel: Decisions, p: Term, v: Term) -> Step:
    """The VMA of what a PMD maps is not registered: the PMD stays whole."""
    return Step([live(p, v), pte_present(p, v), pte_huge(p, v), Not(registered(p, v))])


@ranged("UFFDIO_UNREGISTER, -EINVAL", "domain.md 2.14", kind="refusal", features=UFFD)
def uffd_unregister_refused(kernel: Decisions, p: Term, span: Span) -> Step:
    """There is no VMA; one that is not registered is no error."""
    return Step([Not(_over_holes(p, span, lambda v: live(p, v)))])


# Missing pages

@rule([P, V], "do_anonymous_page, do_huge_pmd_anonymous_page: handle_userfault(VM_UFFD_MISSING)", "domain.md 2.14",
      kind="block", features=UFFD)
def userfault_missing(kernel: Decisions, p: Term, v: Term) -> Step:
    """A fault, be it a read, finds nothing where missing pages are the monitor's: the thread waits for it."""
    return Step([live(p, v), pte_none(p, v), missing(p, v)])


def _filled(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """mfill_atomic (__mcopy_atomic in 5.10 and 6.1) finds a registered VMA and an empty PTE, or a marker."""
    return [live(p, v), registered(p, v), fillable(kernel, p, v)]


def _prepared(kernel: Decisions, p: Term, v: Term, asked: Term) -> list[Update]:
    """What is refused has given the VMA of v an anon_vma by then; decision `uffd_prepares_first`.

    find_vma_and_prepare_anon, read in 6.12.118, 7.2.13 and 7.3-rc7: whatever VMA it is. Before, __mcopy_atomic does so
    once it has `asked` what it asks of the VMA (5.10.262, 6.1.192).
    """
    return only_if(live(p, v) if kernel.uffd_prepares_first else And(live(p, v), asked), prepare_anon_vma(p, v))


def _copied(kernel: Decisions, p: Term, v: Term, n: Term, new: Term, protected: Any) -> list[Any]:
    """mfill_atomic_install_pte, mcopy_atomic_pte: a fresh page that holds n, dirty, writable where the VMA is."""
    return [
        fresh_page(new, n), map_pte(p, v, new), put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True),
        put(pte_uffd_wp(p, v), protected), put(uffd_marker(p, v), False), put(pte_guard(p, v), False),
        prepare_anon_vma(p, v), set_exclusive(kernel, new), table_for(p, v),
    ]


@rule([P, V, N, NEW], "UFFDIO_COPY: mfill_atomic_install_pte", "domain.md 2.14", features=UFFD, lock="read")
def uffd_copy(kernel: Decisions, p: Term, v: Term, n: Term, new: Term) -> Step:
    """A page that holds n is mapped where nothing was, writable in a writable VMA."""
    return Step(_filled(kernel, p, v), [
        *_copied(kernel, p, v, n, new, False), put(pte_write(p, v), vma_write(p, v)), put(uffd_armed(p, v), False)
    ])


@rule([P, V, N, NEW], "UFFDIO_COPY(MODE_WP): mfill_atomic_install_pte",
      "domain.md 2.14; decision `copy_protects_read_only`", features=UFFD, lock="read")
def uffd_copy_wp(kernel: Decisions, p: Term, v: Term, n: Term, new: Term) -> Step:
    """The same, with uffd-wp and not writable. Up to 5.18 a read-only VMA gets no uffd-wp, and mprotect makes it
    writable later."""
    protected = BoolVal(True) if kernel.copy_protects_read_only else vma_write(p, v)
    return Step([*_filled(kernel, p, v), vma_uffd(p, v)], [
        *_copied(kernel, p, v, n, new, protected), put(pte_write(p, v), False), put(uffd_armed(p, v), True)
    ])


@rule([P, V], "UFFDIO_COPY, -ENOENT, -EEXIST", "domain.md 2.14", kind="refusal", features=UFFD)
def uffd_copy_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """There is no registered VMA, or something is mapped or swapped out there."""
    return Step([Not(And(*_filled(kernel, p, v)))], [_prepared(kernel, p, v, registered(p, v))])


@rule([P, V], "UFFDIO_COPY(MODE_WP), -ENOENT, -EEXIST, -EINVAL", "domain.md 2.14", kind="refusal", features=UFFD)
def uffd_copy_wp_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """The same, or the VMA is not registered for write-protection."""
    return Step([Not(And(*_filled(kernel, p, v), vma_uffd(p, v)))], [_prepared(kernel, p, v, vma_uffd(p, v))])


@rule([P, V], "UFFDIO_ZEROPAGE: mfill_atomic_pte_zeropage", "domain.md 2.14", features=(*UFFD, "zero"), lock="read")
def uffd_zeropage(kernel: Decisions, p: Term, v: Term) -> Step:
    """The zero page is mapped where nothing was, read-only and clean; the VMA gets an anon_vma."""
    return Step(
        [*_filled(kernel, p, v), Not(file(v)), backed(v), Not(anon_marker(p, v)), Not(pte_guard(p, v))],
        [map_read_only(p, v, backing(v)), prepare_anon_vma(p, v), table_for(p, v)],
    )


@rule([P, V], "UFFDIO_ZEROPAGE, -EEXIST: mfill_atomic_pte_zeropage", "domain.md 2.14", kind="refusal",
      features=(*UFFD, "zero", "uffd-unpopulated"))
def uffd_zeropage_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A marker is in the way: it is no empty PTE for UFFDIO_ZEROPAGE, but for UFFDIO_COPY."""
    return Step([*_filled(kernel, p, v), anon_marker(p, v)], [_prepared(kernel, p, v, registered(p, v))])


# Moving

def _movable(kernel: Decisions, p: Term, v: Term, w: Term) -> list[Term]:
    """The VMAs may move pages, and nothing is where it is to go."""
    return [BoolVal(kernel.uffd_move != "none"), *_alike(p, v, w), pte_none(p, w), Not(anon_marker(p, w))]


def _alike(p: Term, v: Term, w: Term) -> list[Term]:
    """validate_move_areas: anonymous memory with the same access, writable; the target is registered."""
    return [
        live(p, v), vma(p, w), vma_write(p, v), vma_write(p, w), alike(vma_exec, p, v, w), registered(p, w),
        Not(file(v)), Not(file(w)),
    ]


def _present_movable(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """move_present_pte: an exclusive page that is not maybe pinned; FOLL_GET is not seen."""
    f = pte_frame(p, v)
    return [
        pte_present(p, v), Not(pte_huge(p, v)), Not(nonanon(f)), Not(large(f)), exclusive(f), Not(maybe_pinned(f))
    ]


def _swapped_movable(p: Term, v: Term) -> list[Term]:
    """move_pages_pte: a swap entry with its exclusive bit."""
    return [pte_swap(p, v), pte_swap_exclusive(p, v)]


def _zero_movable(p: Term, v: Term) -> list[Term]:
    return [pte_present(p, v), Not(pte_huge(p, v)), nonanon(pte_frame(p, v))]


def _arrives(p: Term, v: Term, w: Term) -> list[Any]:
    """References to what moves from v to w follow it, and w gets a page table. Nothing is left at v."""
    return [
        put(stale(p, v), False), put(uffd_marker(p, v), False), prepare_anon_vma(p, w), table_for(p, w),
        references_follow(p, v, w),
    ]


@rule([P, V, W], "UFFDIO_MOVE: move_present_pte", "domain.md 2.14; decisions `uffd_move`, `move_soft_dirty`",
      features=MOVE, lock="read")
def uffd_move(kernel: Decisions, p: Term, v: Term, w: Term) -> Step | None:
    """An exclusive page moves from v to w, which is registered and empty: writable and soft-dirty, without uffd-wp,
    and its anon_vma and index with it. Up to 6.15 it is dirty, whatever it was."""
    if kernel.uffd_move == "none":
        return None
    f = pte_frame(p, v)
    dirty = pte_dirty(p, v) if kernel.move_soft_dirty else BoolVal(True)
    return Step([*_movable(kernel, p, v, w), *_present_movable(kernel, p, v)], [
        put(pte_present(p, v), False), map_pte(p, w, f), put(pte_write(p, w), True), put(pte_dirty(p, w), dirty),
        put(pte_soft_dirty(p, w), True), put(pte_uffd_wp(p, w), False), put(uffd_armed(p, w), False),
        put(misplaced(f), False), *_arrives(p, v, w),
    ])


@rule([P, V, W], "UFFDIO_MOVE: move_zeropage_pte", "domain.md 2.14; decision `uffd_move`", features=(*MOVE, "zero"),
      lock="read")
def uffd_move_zero(kernel: Decisions, p: Term, v: Term, w: Term) -> Step | None:
    """The zero page moves, read-only and clean."""
    if kernel.uffd_move == "none":
        return None
    return Step([*_movable(kernel, p, v, w), *_zero_movable(p, v)], [
        put(pte_present(p, v), False), map_read_only(p, w, pte_frame(p, v)), *_arrives(p, v, w),
    ])


def _carried(kernel: Decisions, view: Any) -> list[list[Update]]:
    """What becomes of anon_vma and index of pages in the swap cache when their swap entry moves; decision `uffd_move`.

    The page under the slot is left behind, unless it is the one that was found, or has none yet. One that was found
    and is another by now gets them instead.
    """
    left_behind = each(
        Frame, lambda f: put(misplaced(f), True),
        when=lambda f: And(cached(view.slot), slot_frame(view.slot) == f, Not(unplaced(f)), Not(view.carries(f))),
    )
    if kernel.uffd_move == "blind":
        return [left_behind]
    taken = each(
        Frame, lambda f: put(misplaced(f), Not(And(cached(view.slot), slot_frame(view.slot) == f)))
        + put(unplaced(f), False), when=view.carries,
    )
    return [left_behind, taken]


@rule([P, V, W], "UFFDIO_MOVE: move_pages_pte, move_swap_pte",
      "domain.md 2.14, F33; decisions `uffd_move`, `move_soft_dirty`", features=MOVE, lock="read", split=("move",))
def uffd_move_swapped(kernel: Decisions, p: Term, v: Term, w: Term) -> Staged | None:
    """An exclusive swap entry moves as it is, uffd-wp included, and the page that is in the swap cache under its slot
    must learn where it belongs.

    Sub-steps: the PTE is read, the swap cache is looked into, and under page-table locks the entry moves if it is the
    same. Up to 6.13 nobody looked into the swap cache (c50f8e6053b0); up to 6.15 nobody looked again whether what was
    found is there, or nothing is (0ea148a79919). From 6.16 it is soft-dirty afterwards.
    """
    if kernel.uffd_move == "none":
        return None
    looks = kernel.uffd_move != "blind"
    s = pte_slot(p, v)
    now = SimpleNamespace(
        source=v, slot=s, found=cached(s) if looks else BoolVal(False),
        carries=lambda f: And(cached(s), slot_frame(s) == f) if looks else BoolVal(False),
    )
    saved = SimpleNamespace(
        source=move_from(p, w), slot=move_slot(p, w), found=move_found(p, w),
        carries=lambda f: And(move_found(p, w), move_page(p, w) == f),
    )

    def moved(view: Any) -> Step:
        u = view.source
        soft_dirty = BoolVal(True) if kernel.move_soft_dirty else pte_soft_dirty(p, u)
        return Step([], [
            put(pte_swap(p, u), False), put(pte_swap(p, w), True), put(pte_slot(p, w), view.slot),
            put(pte_swap_exclusive(p, w), True), put(pte_uffd_wp(p, w), pte_uffd_wp(p, u)),
            put(pte_soft_dirty(p, w), soft_dirty), put(uffd_armed(p, w), False), *_arrives(p, u, w),
            *_carried(kernel, view),
        ])

    def unchanged(view: Any) -> Term:
        u, s = view.source, view.slot
        same = And(swaps(p, u, s), pte_swap_exclusive(p, u), pte_none(p, w), Not(pte_present(p, u)))
        if kernel.uffd_move != "rechecks":
            return same
        return And(same, If(view.found, And(cached(s), view.carries(slot_frame(s))), Not(cached(s))))

    def look(view: Any) -> list[Update]:
        slot = move_slot(p, w)
        found = cached(slot) if looks else BoolVal(False)
        return put(move_found(p, w), found) + put(move_page(p, w), slot_frame(slot))

    return Staged(
        (
            Stage("read", lambda view: Step([*_movable(kernel, p, v, w), *_swapped_movable(p, v)])),
            Stage("look", lambda view: Step([]), apart={"move": look}),
            Stage("move", moved, recheck=unchanged),
        ),
        (move_read(p, w), move_looked(p, w)), now, saved, save=put(move_from(p, w), v) + put(move_slot(p, w), s),
    )


@rule([P, V, W], "UFFDIO_MOVE, -EINVAL, -ENOENT, -EEXIST, -EBUSY", "domain.md 2.14; decision `uffd_move`",
      kind="refusal", features=MOVE)
def uffd_move_refused(kernel: Decisions, p: Term, v: Term, w: Term) -> Step:
    """The VMAs are not alike, read-only, of a file, or the target is not registered or not empty; there is nothing to
    move; or it is shared, pinned, or a swap entry that is not exclusive. All is refused before 6.8. It waits for a page
    that is on its way. Of a large folio that cannot be split: decision `uffd_move_gives_up`."""
    if kernel.uffd_move == "none":
        return Step([])
    large_one = _large_movable(p, v)
    unsplit = [*large_one, unreferenced(pte_frame(p, v))] if kernel.uffd_move_gives_up else large_one
    what = Or(
        pte_migration(p, v), And(*_swapped_movable(p, v)), And(*_zero_movable(p, v)), And(*unsplit),
        And(*_present_movable(kernel, p, v)),
    )
    goes_on = Or(And(*_movable(kernel, p, v, w), what), And(*_pmd_movable(p, v, w)))
    return Step([Not(goes_on)], [_prepared(kernel, p, w, And(*_alike(p, v, w)))])


# Parts of huge pages. A PMD that moves as a whole, where both sides are aligned, is not told: which sub-page comes to
# lie where would be one more function to choose.

def _pmd_movable(p: Term, v: Term, w: Term) -> list[Term]:
    """move_pages: a PMD that maps an exclusive page, or the huge zero page, is split, if none maps the target."""
    f = pte_frame(p, v)
    onto_huge = mapped_huge(p, w)
    return [*_alike(p, v, w), pte_present(p, v), pte_huge(p, v), Or(nonanon(f), exclusive(f)), Not(onto_huge)]


def _large_movable(p: Term, v: Term) -> list[Term]:
    """move_pages_pte: a PTE that maps a part, marked as exclusive, of a large folio."""
    f = pte_frame(p, v)
    return [pte_present(p, v), Not(pte_huge(p, v)), Not(nonanon(f)), large(f), exclusive(f)]


@rule([P, V, W], "UFFDIO_MOVE: move_pages, split_huge_pmd", "domain.md 2.14; decision `uffd_move`",
      features=(*MOVE, "huge"), lock="read")
def uffd_move_split_pmd(kernel: Decisions, p: Term, v: Term, w: Term) -> Step | None:
    """A part of what a PMD maps is to move: the PMD is split before anybody looks whether there is room."""
    if kernel.uffd_move == "none":
        return None
    return Step(_pmd_movable(p, v, w), split_updates(kernel, p, v))


@rule([P, V, W], "UFFDIO_MOVE: move_pages_pte, split_folio", "domain.md 2.14; decision `uffd_move`",
      features=(*MOVE, "huge"), lock="read")
def uffd_move_split(kernel: Decisions, p: Term, v: Term, w: Term) -> Step | None:
    """A part of a large folio is to move to where nothing is: the folio is split, if nobody holds a reference."""
    if kernel.uffd_move == "none":
        return None
    f = pte_frame(p, v)
    return Step([*_movable(kernel, p, v, w), *_large_movable(p, v), unreferenced(f)], split_into_pages(kernel, f))


@rule([P, V, W], "UFFDIO_MOVE: move_pages_ptes, move_pages", "domain.md 2.14; decision `uffd_move_gives_up`",
      kind="block", features=(*MOVE, "huge"))
def uffd_move_again(kernel: Decisions, p: Term, v: Term, w: Term) -> Step | None:
    """A large folio to which somebody has a reference cannot be split: the ioctl tries again until it can."""
    if kernel.uffd_move == "none" or kernel.uffd_move_gives_up:
        return None
    return Step([
        *_movable(kernel, p, v, w), *_large_movable(p, v), Not(unreferenced(pte_frame(p, v))),
    ])


RULES = (
    *register_missing, *register_wp, *register_both, *uffd_unregister, uffd_unregister_nothing,
    *uffd_unregister_refused, userfault_missing, uffd_copy, uffd_copy_wp, uffd_copy_refused, uffd_copy_wp_refused,
    uffd_zeropage, uffd_zeropage_refused,
    uffd_move, uffd_move_zero, uffd_move_swapped, uffd_move_refused, uffd_move_split_pmd, uffd_move_split,
    uffd_move_again,
)
