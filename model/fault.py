"""Page faults: handle_pte_fault and below (mm/memory.c), and what the CPU does by itself."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from z3 import And, BoolVal, Implies, Not, Or

from model.decisions import Decisions
from model.logic import Stage, Staged, Step, Term, Update, each, forall, only_if, put, rule
from model.ptes import (
    NEW,
    N,
    P,
    V,
    fillable,
    fresh_page,
    has_features,
    leave_swap_cache,
    map_pte,
    map_read_only,
    map_writable,
    marked,
    not_claimed,
    one_vma,
    prepare_anon_vma,
    set_exclusive,
)
from model.state import (
    ZERO,
    Page,
    Proc,
    accessible,
    alive,
    anon,
    backed,
    backing,
    block,
    cached,
    copy_dirty,
    copy_from,
    copy_soft_dirty,
    copy_to,
    copying,
    data_copied,
    exclusive,
    file,
    file_value,
    frame_value,
    hugetlb,
    in_swap_cache,
    in_writeback,
    ksm,
    large,
    live,
    mapped_only_by,
    migrating,
    missing,
    needs_stable_page,
    nonanon,
    page_swapped,
    page_table,
    pte_cleared,
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
    same_pmd,
    slot_frame,
    slot_value,
    soft_dirty_needs_fault,
    stale,
    stale_frame,
    still_to_copy,
    swapped_in_alone,
    swapped_only_by,
    sync_io,
    uffd_armed,
    uffd_async,
    uffd_marker,
    uffd_protects,
    unplaced,
    vma_anon,
    vma_guard,
    vma_huge,
    vma_missing,
    vma_uffd,
    vma_write,
    writeback,
)


def free_idle_after_copy(kernel: Decisions, p: Term, v: Term, old: Term) -> list[Update]:
    """free_swap_cache(old_page) at the end of wp_page_copy: 5.14, f4c4a3f48480."""
    if not kernel.copy_frees_swap_cache:
        return []
    return leave_swap_cache(old, And(mapped_only_by(p, v, old), Not(page_swapped(old))))


def write_protected(kernel: Decisions, p: Term, v: Term) -> list[Term]:
    """A write fault on a present read-only PTE of a writable VMA that userfaultfd does not stop."""
    waits = in_writeback(pte_frame(p, v)) if kernel.fault_waits_for_writeback else BoolVal(False)
    return [
        live(p, v), vma_write(p, v), pte_present(p, v), Not(pte_huge(p, v)), Not(pte_write(p, v)),
        Not(uffd_protects(p, v)), Not(waits),
    ]


def may_reuse(kernel: Decisions, p: Term, v: Term, f: Term) -> Term:
    """What a write fault finds on the PTE of (p, v) is its process's own alone, in the kernel's opinion."""
    of_large = (kernel.reuse_large or kernel.reuse)(p, v, f)
    own = Or(And(large(f), of_large), And(Not(large(f)), kernel.reuse(p, v, f)))
    return And(Not(nonanon(f)), Or(And(ksm(f), kernel.reuse_ksm(p, v, f)), And(Not(ksm(f)), own)))


def huge_ready(p: Term, v: Term) -> Term:
    """A fault at (p, v) would map a THP: MADV_HUGEPAGE, one VMA, an empty PMD."""
    empty = forall(Page, lambda w: Implies(block(w) == block(v), And(vma_huge(p, w), pte_none(p, w))))
    return And(one_vma(p, v), Not(page_table(p, block(v))), empty)


def table_for(p: Term, v: Term) -> list[Update]:
    """A page that a fault maps by a PTE needs a page table; it matters where a THP might be."""
    return put(page_table(p, block(v)), Or(page_table(p, block(v)), vma_huge(p, v)))


def none_huge_ready(p: Term, v: Term) -> Term:
    """No THP would be mapped. Said by the VMA first, so that nothing remains of it where there are no huge pages."""
    return Or(Not(vma_huge(p, v)), Not(huge_ready(p, v)))


@rule([P, V, N], "CPU store", "domain.md 1.2")
def store(kernel: Decisions, p: Term, v: Term, n: Term) -> Step:
    """The CPU stores n through a writable PTE."""
    return Step(
        [live(p, v), pte_present(p, v), Not(pte_cleared(p, v)), pte_write(p, v)],
        [
            put(frame_value(pte_frame(p, v)), n), put(pte_dirty(p, v), True),
            each(Page, lambda w: put(pte_dirty(p, w), True), when=lambda w: same_pmd(p, v, p, w)),
        ],
    )


@rule([P, V, N], "CPU store through the TLB", "domain.md 1.2, I8", features=("tlb",))
def tlb_store(kernel: Decisions, p: Term, v: Term, n: Term) -> Step:
    """A CPU whose TLB entry has not been flushed stores n through it, whatever the PTE says by now."""
    return Step([alive(p), stale(p, v)], [put(frame_value(stale_frame(p, v)), n)])


@rule([P, V], "CPU load", "domain.md 1.2")
def load(kernel: Decisions, p: Term, v: Term) -> Step:
    """The CPU loads; where the zero page is not modelled, an untouched page reads as zero without a page."""
    unmapped = And(Not(file(v)), Not(hugetlb(v)), Not(backed(v)), Not(missing(p, v)))
    mapped = Or(pte_present(p, v), unmapped)
    here = And(live(p, v), accessible(p, v))
    return Step([here, Not(pte_swap(p, v)), Not(pte_migration(p, v)), Not(pte_cleared(p, v)), mapped])


@rule([P, V], "bad_area, SIGSEGV", "domain.md 1.2", kind="refusal")
def store_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A store where the VMA is missing or read-only, or at a guard."""
    writable = And(live(p, v), Or(vma_write(p, v), And(pte_present(p, v), pte_write(p, v))))
    return Step([Or(Not(writable), pte_guard(p, v))])


@rule([P, V], "bad_area, SIGSEGV", "domain.md 1.2", kind="refusal")
def load_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """A load where there is no VMA, or a PROT_NONE one, or at a guard."""
    return Step([Not(And(live(p, v), accessible(p, v)))])


@rule([P, V], "handle_userfault(VM_UFFD_WP)", "domain.md I6", kind="block")
def userfault_wait(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault on a uffd-wp PTE: the thread waits for the monitor. Not with WP_ASYNC (uffd-async-clear)."""
    return Step([
        live(p, v), vma_write(p, v), pte_present(p, v), Not(pte_write(p, v)), uffd_protects(p, v), Not(uffd_async(v))
    ])


@rule([P, V, NEW], "do_anonymous_page", "domain.md 2.1, 2.10 (AE set)", lock="fault")
def anon_fault(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A write fault on an empty PTE maps a fresh zeroed page, writable.

    Where a marker was it is dirty, with uffd-wp and read-only (2bad466cc9d9, 6.4): the next fault is the monitor's.
    """
    protected = marked(p, v)
    return Step(
        [live(p, v), vma_write(p, v), pte_none(p, v), Not(file(v)), none_huge_ready(p, v), Not(missing(p, v))],
        [fresh_page(new, ZERO), map_writable(p, v, new, protected=protected), put(uffd_armed(p, v), protected),
         set_exclusive(kernel, new), table_for(p, v)],
    )


@rule([V, NEW], "ZERO_PAGE", "domain.md 1.2", features=("zero",))
def backing_read(kernel: Decisions, v: Term, new: Term) -> Step:
    """The shared zero page comes into being: what reads of untouched anonymous memory map."""
    return Step(
        [Not(file(v)), Not(backed(v))],
        [
            each(Page, lambda w: put(backed(w), True) + put(backing(w), new),
                 when=lambda w: And(Not(file(w)), Not(hugetlb(w)))),
            fresh_page(new, ZERO, anonymous=False), set_exclusive(kernel, new, False),
        ],
    )


@rule([V, NEW], "filemap_fault, page_cache_read", "domain.md F12", features=("file",))
def file_read(kernel: Decisions, v: Term, new: Term) -> Step:
    """A page of a file comes into the page cache."""
    return Step(
        [file(v), Not(backed(v))],
        [put(backed(v), True), put(backing(v), new), fresh_page(new, file_value(v), anonymous=False),
         set_exclusive(kernel, new, False)],
    )


@rule([V, N], "mmap(MAP_PRIVATE) of a file", "domain.md F12", features=("file",))
def mmap_file(kernel: Decisions, v: Term, n: Term) -> Step:
    """A private mapping of a file that holds n takes the place of anonymous memory that nobody has touched.

    Up to 5.18 userfaultfd cannot protect it (vma_can_userfault); decision `uffd_markers`.
    """
    untouched = forall(Proc, lambda q: pte_none(q, v))

    def unregistered(q: Term) -> list[Update]:
        new = put(vma_missing(q, v), False)
        return new if kernel.uffd_markers else new + put(vma_uffd(q, v), False)

    return Step(
        [Not(file(v)), untouched],
        [put(file(v), True), put(file_value(v), n), put(backed(v), False),
         each(Proc, lambda q: put(vma_anon(q, v), False) + put(vma_guard(q, v), False)
              + put(uffd_marker(q, v), False) + unregistered(q))],
    )


@rule([P, V], "do_anonymous_page (read fault), do_read_fault", "domain.md F11, F12", lock="fault")
def map_backing(kernel: Decisions, p: Term, v: Term) -> Step:
    """A read fault maps the page of the page cache, with uffd-wp where a marker was, or the zero page, read-only."""
    return Step(
        [live(p, v), pte_none(p, v), backed(v), none_huge_ready(p, v), Not(missing(p, v)), Not(migrating(backing(v)))],
        [map_read_only(p, v, backing(v), protected=marked(p, v)), table_for(p, v)],
    )


@rule([P, V], "do_huge_pmd_anonymous_page (read fault)", "domain.md F16", features=("huge",), lock="fault")
def map_huge_zero(kernel: Decisions, p: Term, v: Term) -> Step:
    """A read fault maps the huge zero page; the zero page stands for each of its parts.

    do_huge_pmd_anonymous_page prepares an anon_vma before it looks at what the fault is for.
    """
    return Step(
        [live(p, v), vma_huge(p, v), huge_ready(p, v), Not(file(v)), backed(v), Not(missing(p, v))],
        each(
            Page, lambda w: map_read_only(p, w, backing(w), huge=True) + put(vma_anon(p, w), True),
            when=lambda w: block(w) == block(v),
        ),
    )


@rule([P, V, NEW], "do_cow_fault", "domain.md F15", features=("file",), lock="fault")
def cow_fault(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """A write fault on an empty PTE of a file mapping maps a copy of the page cache's page.

    Where a marker was it is dirty, with uffd-wp and read-only: the next fault is the monitor's.
    """
    protected = marked(p, v)
    return Step(
        [live(p, v), vma_write(p, v), pte_none(p, v), file(v), backed(v), Not(migrating(backing(v)))],
        [
            fresh_page(new, frame_value(backing(v))), map_pte(p, v, new), put(pte_write(p, v), Not(protected)),
            put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True), put(pte_uffd_wp(p, v), protected),
            put(uffd_armed(p, v), protected), prepare_anon_vma(p, v), set_exclusive(kernel, new),
        ],
    )


@rule([P, V], "UFFDIO_CONTINUE, mfill_atomic_install_pte", "domain.md F17", features=("file", "force"), lock="read")
def uffd_continue(kernel: Decisions, p: Term, v: Term) -> Step:
    """userfaultfd resolves a minor fault with the page of the page cache; dirty from 5.16, though read-only.

    The VMA gets an anon_vma (mfill_atomic, __mcopy_atomic: whatever comes), and a marker is written over.
    """
    return Step(
        [live(p, v), fillable(kernel, p, v), file(v), backed(v), Not(migrating(backing(v))), has_features(kernel, v)],
        map_read_only(p, v, backing(v), dirty=kernel.uffd_continue_dirty) + prepare_anon_vma(p, v)
        + put(pte_guard(p, v), False),
    )


@rule([P, V], "UFFDIO_CONTINUE, -EEXIST, -EFAULT", "domain.md F17", kind="refusal", features=("file", "force"))
def uffd_continue_refused(kernel: Decisions, p: Term, v: Term) -> Step:
    """UFFDIO_CONTINUE where something is mapped already, or where no file is, or no userfaultfd: that cannot be
    registered for minor faults. The VMA of a file that is has an anon_vma by then."""
    registered = And(live(p, v), file(v), has_features(kernel, v))
    return Step([Not(And(registered, fillable(kernel, p, v)))], [only_if(registered, prepare_anon_vma(p, v))])


@rule([P, V], "do_wp_page, wp_page_reuse", "domain.md (a) of each kernel; decision `reuse`", lock="fault")
def wp_reuse(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault on a read-only PTE gives the write bit back: the kernel takes the page for its own alone."""
    f = pte_frame(p, v)
    freed = kernel.reuse_frees_swap_cache(p, v, f)
    return Step(
        [*write_protected(kernel, p, v), may_reuse(kernel, p, v, f)],
        [
            put(pte_write(p, v), True), put(pte_dirty(p, v), True), put(pte_soft_dirty(p, v), True),
            set_exclusive(kernel, f), put(ksm(f), False), leave_swap_cache(f, freed),
        ],
    )


def copied(kernel: Decisions, p: Term, v: Term, new: Term, decided: Sequence[Term], tail_of: str = "") -> Staged:
    """wp_page_copy after it was `decided`: (p, v) gets a writable copy of the page it maps.

    The page-table lock is dropped for allocating and copying; the PTE must be the same when it is taken again.
    """

    def decide(page: Any) -> Step:
        return Step(decided, flush_before_deciding(kernel, p, v))

    def copy(page: Any) -> Step:
        return Step([], [fresh_page(page.new, frame_value(page.old))])

    def install(page: Any) -> Step:
        return Step([], [
            map_writable(p, v, page.new), set_exclusive(kernel, page.new), put(stale(p, v), False),
            free_idle_after_copy(kernel, p, v, page.old),
        ])

    old = pte_frame(p, v)
    return Staged(
        (Stage("decide", decide), Stage("copy", copy), Stage(
            "install", install, recheck=lambda page: still_to_copy(p, v)
        )),
        (copying(p, v), data_copied(p, v)), now=SimpleNamespace(old=old, new=new),
        saved=SimpleNamespace(old=copy_from(p, v), new=copy_to(p, v)),
        save=put(copy_from(p, v), old) + put(copy_to(p, v), new) + put(copy_dirty(p, v), pte_dirty(p, v))
        + put(copy_soft_dirty(p, v), pte_soft_dirty(p, v)), tail_of=tail_of,
    )


def flush_before_deciding(kernel: Decisions, p: Term, v: Term) -> list[Update]:
    """do_wp_page flushes first if the VMA is registered for uffd-wp and a flush is pending (6ce64428d620, 5.12)."""
    if not kernel.wp_flushes_uffd:
        return []
    return only_if(vma_uffd(p, v), put(stale(p, v), False))


@rule([P, V, NEW], "do_wp_page, wp_page_copy", "domain.md (a) of each kernel; decision `reuse`", lock="fault",
      split=("tlb", "copy"))
def wp_copy(kernel: Decisions, p: Term, v: Term, new: Term) -> Staged:
    """A write fault on a read-only PTE copies: the kernel cannot show that the page is its own alone."""
    return copied(
        kernel, p, v, new, [*write_protected(kernel, p, v), Not(may_reuse(kernel, p, v, pte_frame(p, v)))]
    )


@rule([P, V, NEW], "do_wp_page (trylock_page fails)", "domain.md 2.4 (a), F25", environment="trylock-fails",
      lock="fault", split=("tlb", "copy"))
def wp_copy_spurious(kernel: Decisions, p: Term, v: Term, new: Term) -> Staged | None:
    """Another holder of the page lock makes a reusable page be copied."""
    if not kernel.trylock:
        return None
    f = pte_frame(p, v)
    needs_lock = Not(exclusive(f)) if kernel.exclusive_bit else BoolVal(True)
    if kernel.reuse_large is not None:
        # __wp_can_reuse_large_anon_folio locks a large folio only to free its swap cache.
        needs_lock = And(needs_lock, Or(Not(large(f)), in_swap_cache(f)))
    return copied(
        kernel, p, v, new, [*write_protected(kernel, p, v), needs_lock, may_reuse(kernel, p, v, f)], tail_of="wp-copy"
    )


def past_swap_cache(kernel: Decisions, p: Term, v: Term, s: Term) -> Term:
    """do_swap_page reads s into a page that never is in the swap cache; decision `swap_in_sync`."""
    skips = kernel.swap_in_sync in ("skips", "guards")
    return And(sync_io(s), swapped_only_by(p, v, s)) if skips else BoolVal(False)


def leaves_at_once(kernel: Decisions, p: Term, v: Term, s: Term) -> Term:
    """A page of a synchronous device leaves the swap cache as it is mapped, if no other entry names the slot."""
    frees = kernel.swap_in_sync == "frees"
    return And(sync_io(s), swapped_only_by(p, v, s), Not(writeback(s))) if frees else BoolVal(False)


@rule([P, V, NEW], "swapin_readahead", "domain.md 2.1 (j)", lock="fault")
def swap_cache_read(kernel: Decisions, p: Term, v: Term, new: Term) -> Step:
    """The slot of a swap entry is read into a fresh page in the swap cache."""
    s = pte_slot(p, v)
    return Step(
        [live(p, v), pte_swap(p, v), Not(cached(s)), Not(past_swap_cache(kernel, p, v, s)), *not_claimed(kernel, s)],
        [put(cached(s), True), put(slot_frame(s), new), put(writeback(s), False),
         fresh_page(new, slot_value(s), in_cache=True),
         set_exclusive(kernel, new, False)],
    )


def swapped_in(p: Term, v: Term, f: Term, writable: Term, dirty: Term) -> list[Update]:
    """do_swap_page's new PTE: read-only unless `writable`; uffd-wp and soft-dirty come from the swap entry."""
    return (
        map_pte(p, v, f) + put(pte_swap(p, v), False) + put(pte_write(p, v), writable) + put(pte_dirty(p, v), dirty)
        + put(pte_soft_dirty(p, v), Or(pte_soft_dirty(p, v), dirty)) + put(unplaced(f), False)
    )


def upgraded(kernel: Decisions, p: Term, v: Term) -> Term:
    """A read fault maps an exclusive page writable at once where no tracking needs a fault (c18160dba5ff, 6.11)."""
    if not kernel.swap_in_upgrades:
        return BoolVal(False)
    return And(vma_write(p, v), Not(uffd_protects(p, v)), Not(soft_dirty_needs_fault(p, v)))


@rule([P, V], "do_swap_page (read fault)", "domain.md (j) of each kernel; decision `swap_in_upgrades`", lock="fault")
def swap_in_read(kernel: Decisions, p: Term, v: Term) -> Step:
    """A read fault maps the page of the swap cache, read-only unless the kernel upgrades exclusive pages at once.

    The swap entry's exclusive bit is dropped while a device that needs stable pages writes the page.
    """
    s = pte_slot(p, v)
    f = slot_frame(s)
    sole = And(pte_swap_exclusive(p, v), Not(needs_stable_page(s))) if kernel.exclusive_bit else BoolVal(False)
    return Step(
        [live(p, v), pte_swap(p, v), cached(s), Not(migrating(f))],
        [
            swapped_in(p, v, f, And(sole, upgraded(kernel, p, v)), BoolVal(False)),
            set_exclusive(kernel, f, Or(exclusive(f), sole)),
            only_if(leaves_at_once(kernel, p, v, s), put(cached(s), False)),
        ],
    )


@rule([P, V], "do_swap_page (read fault): should_try_to_free_swap, folio_ref_count == 1",
      "mm/memory.c 5.19 to 6.18; decision `swap_in_counts`", lock="fault")
def swap_in_read_full(kernel: Decisions, p: Term, v: Term) -> Step | None:
    """A read fault while more than half of the swap space is in use: the page leaves the swap cache, and with no other
    reference to it becomes exclusive, whatever its swap entry says."""
    if not kernel.swap_in_counts:
        return None
    s = pte_slot(p, v)
    f = slot_frame(s)
    return Step(
        [live(p, v), pte_swap(p, v), cached(s), Not(migrating(f)), anon(f), swapped_in_alone(p, v, s, f)],
        [
            swapped_in(p, v, f, upgraded(kernel, p, v), BoolVal(False)), set_exclusive(kernel, f),
            put(cached(s), False),
        ],
    )


@rule([P, V], "do_swap_page (write fault)", "domain.md (j) of each kernel; decisions `swap_in_reuse`, `swap_in_frees`",
      lock="fault")
def swap_in_write(kernel: Decisions, p: Term, v: Term) -> Step:
    """A write fault maps the page of the swap cache, writable if the kernel takes it for its own alone.

    Under writeback the page stays in the swap cache, be it taken or not (reuse_swap_page, folio_free_swap).
    """
    s = pte_slot(p, v)
    f = slot_frame(s)
    sole = And(anon(f), kernel.swap_in_reuse(p, v, s, f))
    # Before 6.11 the bit alone keeps the entry read-only; from then on userfaultfd_pte_wp asks the VMA, too.
    tracked = uffd_protects if kernel.swap_in_upgrades else pte_uffd_wp
    upgrade = And(sole, Not(tracked(p, v)))
    if kernel.swap_in_upgrades:
        upgrade = And(upgrade, Not(soft_dirty_needs_fault(p, v)))
    dirty = upgrade if kernel.swap_in_upgrades else sole
    waits = writeback(s) if kernel.fault_waits_for_writeback else BoolVal(False)
    frees = kernel.swap_in_frees(p, v, s, f)
    return Step(
        [live(p, v), vma_write(p, v), pte_swap(p, v), cached(s), Not(migrating(f)), Not(waits)],
        [
            swapped_in(p, v, f, upgrade, dirty),
            set_exclusive(kernel, f, Or(exclusive(f), sole)),
            put(cached(s), Or(writeback(s), Not(Or(frees, leaves_at_once(kernel, p, v, s))))),
        ],
    )


RULES = (
    store, tlb_store, load, store_refused, load_refused, userfault_wait, anon_fault, backing_read, file_read, mmap_file,
    map_backing, map_huge_zero, cow_fault, uffd_continue, uffd_continue_refused,
    wp_reuse, wp_copy, wp_copy_spurious,
    swap_cache_read, swap_in_read, swap_in_read_full, swap_in_write,
)

