"""State functions, and the formulas of which meanings are made: what is free, and what would keep it from it.

A PMD that maps a THP is said by the same functions as PTEs, alike on all of its pages, and `pte_huge`. Source:
domain.md sections 1 and 8.
"""

from __future__ import annotations

from z3 import And, Not, Or

from model.logic import StateFunction, Term, by_terms, exists, register
from model.state.sorts import FIRST, Block, Bool, Folio, Frame, Page, Pin, Proc, Slot, Value


def _is_first(p: Term, *_: Term) -> Term:
    return p == FIRST


alive = StateFunction("alive", (Proc,), Bool, "the process exists", initial=_is_first)
has_pinned = StateFunction(
    "has_pinned", (Proc,), Bool, "mm->has_pinned / MMF_HAS_PINNED: FOLL_PIN was used; never cleared", meaningful=alive,
)
vma_soft_dirty = StateFunction(
    "vma_soft_dirty", (Proc,), Bool, "VM_SOFTDIRTY: everything reads as soft-dirty until the first clear_refs",
    meaningful=alive,
)
vma = StateFunction("vma", (Proc, Page), Bool, "a private anonymous VMA covers the page", initial=_is_first)
vma_write = StateFunction("vma_write", (Proc, Page), Bool, "VM_WRITE", meaningful=vma, initial=_is_first)
vma_exec = StateFunction("vma_exec", (Proc, Page), Bool, "VM_EXEC", meaningful=vma)
vma_none = StateFunction("vma_none", (Proc, Page), Bool, "PROT_NONE: no VM_READ", meaningful=vma, feature="prot-none")
vma_new = StateFunction(
    "vma_new", (Proc, Page), Bool, "VM_SOFTDIRTY of a VMA that is newer than the last clear_refs",
    meaningful=vma, feature="mmap",
)
vma_uffd = StateFunction(
    "vma_uffd", (Proc, Page), Bool, "registered with userfaultfd for write-protection (VM_UFFD_WP)",
    meaningful=vma, initial=_is_first,
)
vma_missing = StateFunction(
    "vma_missing", (Proc, Page), Bool, "registered with userfaultfd for missing pages (VM_UFFD_MISSING)",
    meaningful=vma, feature="uffd",
)
vma_unwatched = StateFunction(
    "vma_unwatched", (Proc, Page), Bool,
    "is not registered for write-protection any more, or mremap brought it: what uffd-wp bits are left there mean "
    "nothing", meaningful=vma, feature="uffd|mremap",
)
vma_huge = StateFunction("vma_huge", (Proc, Page), Bool, "MADV_HUGEPAGE: a THP may be mapped there", meaningful=vma)
vma_apart = StateFunction(
    "vma_apart", (Proc, Page), Bool,
    "the VMA does not merge with those that differ in this, be their flags the same: mremap brought it, or fork copied "
    "it by itself", meaningful=vma,
)
vma_mergeable = StateFunction(
    "vma_mergeable", (Proc, Page), Bool, "VM_MERGEABLE (MADV_MERGEABLE)", meaningful=vma, feature="ksm"
)
vma_dontfork = StateFunction(
    "vma_dontfork", (Proc, Page), Bool, "VM_DONTCOPY (MADV_DONTFORK): a child has no VMA there",
    meaningful=vma, feature="madv-fork",
)
vma_wipeonfork = StateFunction(
    "vma_wipeonfork", (Proc, Page), Bool, "VM_WIPEONFORK (MADV_WIPEONFORK): a child finds nothing mapped there",
    meaningful=vma, feature="madv-fork",
)
vma_anon = StateFunction(
    "vma_anon", (Proc, Page), Bool, "the VMA has an anon_vma: an anonymous page was mapped there, now or before",
    meaningful=vma, feature="zero|file",
)
block = StateFunction("block", (Page,), Block, "the range of virtual pages that one PMD covers")
hugetlb = StateFunction(
    "hugetlb", (Page,), Bool, "a private mapping of a hugetlb page lies there (VM_HUGETLB)", feature="hugetlb"
)
vma_resv_owner = StateFunction(
    "vma_resv_owner", (Proc, Page), Bool, "HPAGE_RESV_OWNER: the process has made the mapping, and reserved its page",
    meaningful=lambda p, v: And(vma(p, v), hugetlb(v)), feature="hugetlb",
)
vma_resv_unmapped = StateFunction(
    "vma_resv_unmapped", (Proc, Page), Bool,
    "HPAGE_RESV_UNMAPPED: the owner of the reservation has taken the page away, a fault gets SIGBUS",
    meaningful=vma_resv_owner.meaningful, feature="hugetlb",
)
pool_empty = StateFunction(
    "pool_empty", (Page,), Bool, "the pool of hugetlb pages has none but those that are in use or reserved",
    feature="hugetlb",
)
zone_movable = StateFunction("zone_movable", (Page,), Bool, "faults there take from ZONE_MOVABLE", feature="movable")
zone_cma = StateFunction(
    "zone_cma", (Page,), Bool, "what a fault allocates there lies in a pageblock of MIGRATE_CMA", feature="movable"
)
memalloc_pin = StateFunction(
    "memalloc_pin", (Proc, Page), Bool,
    "a GUP with FOLL_LONGTERM is at work there: what it allocates may be pinned (PF_MEMALLOC_PIN, up to 5.12 "
    "PF_MEMALLOC_NOCMA)", meaningful=vma, feature="movable",
)
page_table = StateFunction(
    "page_table", (Proc, Block), Bool, "the PMD leads to a page table, so that no fault maps a THP",
    meaningful=lambda p, b: alive(p),
)
file = StateFunction("file", (Page,), Bool, "a private file mapping lies there, else an anonymous one")
vma_guard = StateFunction(
    "vma_guard", (Proc, Page), Bool, "VM_MAYBE_GUARD: guards were installed in a mapping of a file", feature="guard",
    meaningful=lambda p, v: And(vma(p, v), file(v)),
)
file_value = StateFunction("file_value", (Page,), Value, "content of the file, where no page holds it", meaningful=file)
backed = StateFunction("backed", (Page,), Bool, "there is a page that a read fault would map there")
backing = StateFunction(
    "backing", (Page,), Frame, "that page: of the page cache, or the zero page that all anonymous mappings share",
    meaningful=backed,
)
pte_present = StateFunction("pte_present", (Proc, Page), Bool, "the PTE maps a page")
pte_swap = StateFunction("pte_swap", (Proc, Page), Bool, "the PTE is a swap entry")
pte_migration = StateFunction("pte_migration", (Proc, Page), Bool, "the PTE is a migration entry", feature="migrate")
pte_guard = StateFunction("pte_guard", (Proc, Page), Bool, "the PTE is a guard marker: SIGSEGV", feature="guard")
uffd_armed = StateFunction(
    "uffd_armed", (Proc, Page), Bool, "ghost: the last write-protect ioctl on the page succeeded, none undid it",
    meaningful=lambda p, v: Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v)),
)


def names_frame(p: Term, v: Term) -> Term:
    """The PTE is present, or a migration entry, so that it names a page."""
    return Or(pte_present(p, v), pte_migration(p, v))


pte_frame = StateFunction(
    "pte_frame", (Proc, Page), Frame, "the page that a present PTE maps, or a migration entry is of",
    meaningful=names_frame,
)
pte_huge = StateFunction(
    "pte_huge", (Proc, Page), Bool, "the page is mapped by a PMD, with the rest of its block", meaningful=pte_present
)
pte_write = StateFunction(
    "pte_write", (Proc, Page), Bool, "write bit of a present PTE; the migration entry is a writable one",
    meaningful=names_frame,
)
pte_dirty = StateFunction(
    "pte_dirty", (Proc, Page), Bool, "dirty bit of a present PTE, or what a migration entry remembers of it",
    meaningful=names_frame,
)
pte_uffd_wp = StateFunction(
    "pte_uffd_wp", (Proc, Page), Bool, "uffd-wp bit of a present or swap PTE, a migration entry or a guard",
    meaningful=lambda p, v: Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v), pte_guard(p, v)),
)
uffd_unpopulated = StateFunction(
    "uffd_unpopulated", (Page,), Bool,
    "the userfaultfd with which it is registered has WP_UNPOPULATED: it leaves markers in anonymous memory, too",
    feature="uffd-unpopulated",
)
uffd_async = StateFunction(
    "uffd_async", (Page,), Bool, "that userfaultfd has WP_ASYNC: write faults on what it protects resolve themselves",
    feature="uffd-async",
)
uffd_marker = StateFunction(
    "uffd_marker", (Proc, Page), Bool,
    "the empty PTE is a marker: what comes there is protected by userfaultfd (PTE_MARKER_UFFD_WP)",
    meaningful=lambda p, v: And(pte_none(p, v), vma(p, v), may_mark(v)), feature="file|uffd-unpopulated",
)
pte_soft_dirty = StateFunction(
    "pte_soft_dirty", (Proc, Page), Bool, "soft-dirty bit of a present or swap PTE, a migration entry or a guard",
    meaningful=lambda p, v: Or(pte_present(p, v), pte_swap(p, v), pte_migration(p, v), pte_guard(p, v)),
)
pte_slot = StateFunction("pte_slot", (Proc, Page), Slot, "the slot a swap entry names", meaningful=pte_swap)
pte_swap_exclusive = StateFunction(
    "pte_swap_exclusive", (Proc, Page), Bool, "exclusive bit of a swap entry (5.19+)", meaningful=pte_swap,
)
force_cow = StateFunction(
    "force_cow", (Proc, Page), Bool,
    "a FOLL_FORCE write in progress has broken COW here: FOLL_COW, before 4.9 without FOLL_WRITE", meaningful=vma,
)


def pin_known(k: Term) -> Term:
    """The reference is one, or GUP-fast is at work on it: its cells mean something."""
    return Or(pin_live(k), fast(k))


pin_live = StateFunction("pin_live", (Pin,), Bool, "the reference is held")
pin_frame = StateFunction("pin_frame", (Pin,), Frame, "the page it refers to", meaningful=pin_known)
pin_proc = StateFunction("pin_proc", (Pin,), Proc, "the mm that took it", meaningful=pin_known)
pin_page = StateFunction("pin_page", (Pin,), Page, "the address it was taken at", meaningful=pin_known)
pin_foll_pin = StateFunction("pin_foll_pin", (Pin,), Bool, "FOLL_PIN (true) or FOLL_GET", meaningful=pin_known)
pin_write = StateFunction("pin_write", (Pin,), Bool, "taken with FOLL_WRITE", meaningful=pin_known)
pin_longterm = StateFunction("pin_longterm", (Pin,), Bool, "taken with FOLL_LONGTERM", meaningful=pin_known)
pin_attached = StateFunction(
    "pin_attached", (Pin,), Bool,
    "ghost: no excusing event (munmap, MADV_DONTNEED, exit) has hit the place it was taken at",
    meaningful=pin_live,
)
pin_dontfork = StateFunction(
    "pin_dontfork", (Pin,), Bool,
    "ghost: VM_DONTCOPY has been set where it was taken since before that", meaningful=pin_known, feature="madv-fork",
)
cached = StateFunction("cached", (Slot,), Bool, "a page is in the swap cache under this slot")
slot_frame = StateFunction("slot_frame", (Slot,), Frame, "the page in the swap cache", meaningful=cached)
writeback = StateFunction(
    "writeback", (Slot,), Bool, "PG_writeback: the page in the swap cache is being written to the swap device",
    meaningful=cached,
)
stable_writes = StateFunction(
    "stable_writes", (Slot,), Bool,
    "the slot's swap device needs pages that do not change while it writes them (SWP_STABLE_WRITES)",
)
sync_io = StateFunction("sync_io", (Slot,), Bool, "its device reads at once (SWP_SYNCHRONOUS_IO)", feature="sync-swap")
slot_value = StateFunction(
    "slot_value", (Slot,), Value, "content on the swap device",
    meaningful=lambda s: And(Not(cached(s)), Not(slot_free(s))),
)
exclusive = StateFunction(
    "exclusive", (Frame,), Bool, "PG_anon_exclusive (5.19+)", meaningful=lambda f: Not(frame_free(f))
)
large = StateFunction("large", (Frame,), Bool, "a sub-page of a large folio", meaningful=lambda f: Not(frame_free(f)))
folio = StateFunction("folio", (Frame,), Folio, "the large folio of a sub-page", meaningful=large)
partly_mapped = StateFunction(
    "partly_mapped", (Frame,), Bool,
    "PG_partially_mapped of the large folio: said where a migration has left it, not where a part has no mapping",
    meaningful=large, feature="migration",
)
nonanon = StateFunction(
    "nonanon", (Frame,), Bool, "a page of the page cache, or the zero page", meaningful=lambda f: Not(frame_free(f))
)
ksm = StateFunction("ksm", (Frame,), Bool, "PageKsm", meaningful=lambda f: Not(frame_free(f)))
lazyfree = StateFunction(
    "lazyfree", (Frame,), Bool, "MADV_FREE: PG_swapbacked is clear", meaningful=lambda f: Not(frame_free(f))
)
page_dirty = StateFunction(
    "page_dirty", (Frame,), Bool,
    "PG_dirty; said from when the page is in the swap cache, which it leaves dirty (try_to_free_swap)",
    meaningful=lambda f: Not(frame_free(f)), feature="lazyfree",
)
leaked = StateFunction(
    "leaked", (Frame,), Bool, "ghost: a FOLL_FORCE write went into it while others could see it",
    meaningful=lambda f: Not(frame_free(f)),
)
extra = StateFunction("extra", (Frame,), Bool, "a transient reference: LRU batch, isolation, speculative get")
movable = StateFunction(
    "movable", (Frame,), Bool, "the page lies in ZONE_MOVABLE", meaningful=lambda f: Not(frame_free(f)),
    feature="movable",
)
cma = StateFunction(
    "cma", (Frame,), Bool, "the page lies in a pageblock of MIGRATE_CMA", meaningful=lambda f: Not(frame_free(f)),
    feature="movable",
)
unplaced = StateFunction(
    "unplaced", (Frame,), Bool,
    "the page was read into the swap cache and has not been mapped since: it has no anon_vma and no index yet",
    meaningful=lambda f: Not(frame_free(f)), feature="uffd-move",
)
misplaced = StateFunction(
    "misplaced", (Frame,), Bool,
    "anon_vma and index of the page lead to where it is not: a walk of its reverse mapping does not find its PTE",
    meaningful=lambda f: Not(frame_free(f)), feature="uffd-move",
)
frame_value = StateFunction(
    "frame_value", (Frame,), Value, "content of the page", meaningful=lambda f: Not(frame_free(f))
)

# Between the sub-steps of a rule that a feature splits (model/features.py).

copying = StateFunction("copying", (Proc, Page), Bool, "a fault has decided to copy the page, and holds it")
data_copied = StateFunction("data_copied", (Proc, Page), Bool, "... and has copied the data, not mapped the copy")


def copy_in_progress(p: Term, v: Term) -> Term:
    """A fault at (p, v) is copying a page."""
    return Or(copying(p, v), data_copied(p, v))


copy_from = StateFunction(
    "copy_from", (Proc, Page), Frame, "the page that the fault copies", meaningful=copy_in_progress
)
copy_to = StateFunction("copy_to", (Proc, Page), Frame, "the page that it copies to", meaningful=copy_in_progress)
copy_dirty = StateFunction(
    "copy_dirty", (Proc, Page), Bool, "dirty bit of the PTE when the fault decided", meaningful=copy_in_progress
)
copy_soft_dirty = StateFunction(
    "copy_soft_dirty", (Proc, Page), Bool, "soft-dirty bit of the PTE when it decided", meaningful=copy_in_progress
)
stale = StateFunction("stale", (Proc, Page), Bool, "some CPU has a writable TLB entry that has not been flushed")
stale_frame = StateFunction("stale_frame", (Proc, Page), Frame, "the page that it leads to", meaningful=stale)
uffd_flushing = StateFunction("uffd_flushing", (Proc, Page), Bool, "a write-protect ioctl has not flushed TLBs yet")
uffd_unwp_flushing = StateFunction(
    "uffd_unwp_flushing", (Proc, Page), Bool, "an un-protect ioctl has not flushed TLBs yet"
)
mprotect_flushing = StateFunction("mprotect_flushing", (Proc, Page), Bool, "mprotect has not flushed TLBs yet")
soft_dirty_flushing = StateFunction("soft_dirty_flushing", (Proc,), Bool, "clear_refs has not flushed TLBs yet")
fork_tested = StateFunction(
    "fork_tested", (Proc, Proc), Bool, "fork (parent, child) has looked for pinned pages, and shared nothing yet"
)
fork_shared = StateFunction(
    "fork_shared", (Proc, Proc), Bool, "fork (parent, child) has copied the page tables, and not flushed TLBs yet"
)
fork_early = StateFunction("fork_early", (Proc, Page), Bool, "the fork in progress copies the page for the child")
fork_copy = StateFunction("fork_copy", (Proc, Page), Frame, "the page that it copies to", meaningful=fork_early)
fast_read = StateFunction("fast_read", (Pin,), Bool, "GUP-fast has read the PTE")
fast_held = StateFunction("fast_held", (Pin,), Bool, "... and has taken the reference, not looked again yet")


def fast(k: Term) -> Term:
    """GUP-fast is at work on the reference."""
    return Or(fast_read(k), fast_held(k))


fast_write = StateFunction("fast_write", (Pin,), Bool, "the write bit of the PTE that it read", meaningful=fast)
fast_dirty = StateFunction("fast_dirty", (Pin,), Bool, "... its dirty bit", meaningful=fast)
fast_soft_dirty = StateFunction("fast_soft_dirty", (Pin,), Bool, "... its soft-dirty bit", meaningful=fast)
fast_uffd_wp = StateFunction("fast_uffd_wp", (Pin,), Bool, "... its uffd-wp bit", meaningful=fast)
fast_young = StateFunction("fast_young", (Pin,), Bool, "... its accessed bit", meaningful=fast)
pte_young = StateFunction("pte_young", (Proc, Page), Bool, "accessed bit (accessed.py)", meaningful=pte_present)
seq_moved = StateFunction("seq_moved", (Pin,), Bool, "a fork has begun since (write_protect_seq)", meaningful=fast)
ksm_cleared = StateFunction("ksm_cleared", (Proc, Page), Bool, "ksmd has taken the PTE away to look at its page")
ksm_tested = StateFunction("ksm_tested", (Proc, Page), Bool, "... and has found that nobody holds it")
unmap_flushing = StateFunction(
    "unmap_flushing", (Frame,), Bool, "reclaim has unmapped the page, still holds it, and has not flushed TLBs yet"
)
pmd_splitting = StateFunction(
    "pmd_splitting", (Proc, Page), Bool, "the PMD is being split: page_mapcount counts it no more, nor its PTEs yet"
)
collapse_scanned = StateFunction(
    "collapse_scanned", (Proc, Page), Bool, "a collapse of the block has looked at its pages, and will look again"
)
move_read = StateFunction(
    "move_read", (Proc, Page), Bool, "UFFDIO_MOVE has read a swap entry that it is to bring here", feature="move"
)
move_looked = StateFunction(
    "move_looked", (Proc, Page), Bool, "... and has looked for its page in the swap cache", feature="move"
)


def moving(p: Term, v: Term) -> Term:
    """UFFDIO_MOVE is at work on a swap entry that it is to bring to (p, v)."""
    return Or(move_read(p, v), move_looked(p, v))


move_from = StateFunction(
    "move_from", (Proc, Page), Page, "the page from where it brings the entry", meaningful=moving, feature="move"
)
move_slot = StateFunction(
    "move_slot", (Proc, Page), Slot, "the slot that the entry named", meaningful=moving, feature="move"
)
move_found = StateFunction(
    "move_found", (Proc, Page), Bool, "it has found a page under that slot, and holds it",
    meaningful=move_looked, feature="move",
)
move_page = StateFunction(
    "move_page", (Proc, Page), Frame, "that page", meaningful=lambda p, v: And(move_looked(p, v), move_found(p, v)),
    feature="move",
)
migrating = StateFunction(
    "migrating", (Frame,), Bool, "migration has locked and unmapped the page, holds it, and has not moved it yet",
    feature="migrate",
)
migration_exclusive = StateFunction(
    "migration_exclusive", (Proc, Page), Bool,
    "the migration entry says that the page was exclusive: it is writable or readable-exclusive (5.19+)",
    meaningful=pte_migration, feature="migrate",
)
sync_reading = StateFunction(
    "sync_reading", (Proc, Page), Bool, "a fault has read a slot past the swap cache; not mapped", feature="sync-read",
)
sync_slot, sync_page, sync_again, sync_exclusive, sync_soft_dirty, sync_uffd_wp = (
    StateFunction(f"sync_{of}", (Proc, Page), sort, says, meaningful=sync_reading, feature="sync-read")
    for of, sort, says in (
        ("slot", Slot, "the slot that it has read"), ("page", Frame, "the page that it has read it to"),
        ("again", Bool, "ghost: the slot was given to another page since"),
        *((bit, Bool, f"{bit} of the swap entry then") for bit in ("exclusive", "soft_dirty", "uffd_wp")),
    )
)
STEPS: tuple[StateFunction, ...] = (
    copying, data_copied, copy_from, copy_to, copy_dirty, copy_soft_dirty, stale, stale_frame, uffd_flushing,
    uffd_unwp_flushing, mprotect_flushing, soft_dirty_flushing, fork_tested, fork_shared, fork_early, fork_copy,
    fast_read, fast_held, fast_write, fast_dirty, fast_soft_dirty, fast_uffd_wp, fast_young, pte_young, seq_moved,
    ksm_cleared, ksm_tested, unmap_flushing, pmd_splitting, collapse_scanned, move_read, move_looked, move_from,
    move_slot, move_found, move_page, migrating, pte_migration, migration_exclusive, sync_reading, sync_slot, sync_page,
    sync_again, sync_exclusive, sync_soft_dirty, sync_uffd_wp,
)

FUNCTIONS: tuple[StateFunction, ...] = (
    alive, has_pinned, vma_soft_dirty, vma, vma_write, vma_exec, vma_none, vma_new, vma_uffd, vma_missing,
    vma_unwatched, vma_huge, vma_apart, vma_mergeable, vma_dontfork, vma_wipeonfork, vma_anon, vma_guard, pte_guard,
    uffd_armed, block, page_table, hugetlb, vma_resv_owner, vma_resv_unmapped, pool_empty, zone_movable, zone_cma,
    memalloc_pin, file, file_value, backed, backing, pte_present, pte_frame, pte_huge, pte_write, pte_dirty,
    pte_uffd_wp, pte_soft_dirty, pte_swap, pte_slot, pte_swap_exclusive, uffd_unpopulated, uffd_async, uffd_marker,
    force_cow, pin_live, pin_frame, pin_proc, pin_page, pin_foll_pin, pin_write, pin_longterm, pin_attached,
    pin_dontfork, cached, slot_frame, writeback, stable_writes, sync_io, slot_value, exclusive, large, folio,
    partly_mapped, nonanon, ksm, lazyfree, page_dirty, leaked, movable, cma, unplaced, misplaced, extra, frame_value,
    *STEPS,
)
BY_NAME = {f.name: f for f in FUNCTIONS}
register(FUNCTIONS)


# Whether an element is in use, on which the meaning of cells depends.

def maps(p: Term, v: Term, f: Term) -> Term:
    """The PTE of (p, v) maps f."""
    return And(pte_present(p, v), pte_frame(p, v) == f)


def swaps(p: Term, v: Term, s: Term) -> Term:
    """The PTE of (p, v) is a swap entry for slot s."""
    return And(pte_swap(p, v), pte_slot(p, v) == s)


def migrates(p: Term, v: Term, f: Term) -> Term:
    """The PTE of (p, v) is a migration entry of f."""
    return And(pte_migration(p, v), pte_frame(p, v) == f)


def same_folio(f: Term, g: Term) -> Term:
    """Two frames have one counter: they are the same, or sub-pages of one large folio."""
    return Or(f == g, And(large(f), large(g), folio(f) == folio(g)))


def maps_folio(p: Term, v: Term, f: Term) -> Term:
    """The PTE of (p, v) maps f or another sub-page of its folio."""
    return And(pte_present(p, v), same_folio(pte_frame(p, v), f))


@by_terms
def mapped(f: Term) -> Term:
    """folio_mapped: some PTE or PMD maps a part of f's folio."""
    return exists(Proc, Page, lambda q, w: maps_folio(q, w, f))


@by_terms
def in_swap_cache(f: Term) -> Term:
    """PageSwapCache(f)."""
    return exists(Slot, lambda s: And(cached(s), slot_frame(s) == f))


def held(k: Term) -> Term:
    """The reference counts: it was taken, or GUP-fast has it and may yet give it back."""
    return Or(pin_live(k), fast_held(k))


@by_terms
def in_flight(f: Term) -> Term:
    """A sub-step holds f: a fault that copies, a fork that will, reclaim, UFFDIO_MOVE, or migration."""
    return Or(in_flight_elsewhere(f), migrating(f))


def in_flight_elsewhere(f: Term) -> Term:
    """A sub-step of something else than migration holds f."""
    return Or(
        unmap_flushing(f),
        exists(Proc, Page, lambda q, w: And(copy_in_progress(q, w), Or(copy_from(q, w) == f, copy_to(q, w) == f))),
        exists(Proc, Page, lambda q, w: And(fork_early(q, w), fork_copy(q, w) == f)),
        exists(Proc, Page, lambda q, w: And(sync_reading(q, w), sync_page(q, w) == f)),
        exists(Proc, Page, lambda q, w: And(move_looked(q, w), move_found(q, w), move_page(q, w) == f)),
    )


@by_terms
def referenced(f: Term) -> Term:
    """Some get_user_pages reference (FOLL_GET or FOLL_PIN) to f's folio is held."""
    return exists(Pin, lambda k: And(held(k), same_folio(pin_frame(k), f)))


@by_terms
def transient(f: Term) -> Term:
    """f's folio has a transient reference."""
    return Or(
        extra(f), in_flight(f), And(large(f), exists(Frame, lambda g: And(extra(g), large(g), folio(g) == folio(f))))
    )


@by_terms
def unreferenced(f: Term) -> Term:
    """Neither a get_user_pages reference nor a transient one."""
    return And(Not(referenced(f)), Not(transient(f)))


def only_migrated(f: Term) -> Term:
    """folio_ref_count is what migration expects of a page of order 0 that it has unmapped: nobody else holds it."""
    return And(Not(referenced(f)), Not(extra(f)), Not(in_flight_elsewhere(f)))


def pte_none(p: Term, v: Term) -> Term:
    """The PTE is empty."""
    return And(Not(pte_present(p, v)), Not(pte_swap(p, v)), Not(pte_migration(p, v)), Not(pte_guard(p, v)))


def may_mark(v: Term) -> Term:
    """What is empty there can be a marker: in a file mapping, or anywhere if some userfaultfd leaves them in anonymous
    memory, as mremap moved them up to 6.12."""
    return Or(file(v), exists(Page, uffd_unpopulated))


def frame_free(f: Term) -> Term:
    """page_count(f) == 0."""
    return And(
        Not(mapped(f)), Not(in_swap_cache(f)), unreferenced(f),
        Not(exists(Page, lambda w: And(backed(w), backing(w) == f))),
    )


def slot_free(s: Term) -> Term:
    """swap_map[s] == 0."""
    return And(Not(cached(s)), Not(exists(Proc, Page, lambda q, w: swaps(q, w, s))))
