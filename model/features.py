"""Parts of the domain that a check pays for only where it asks for them; a rule names those it needs."""

from __future__ import annotations

WORLD: dict[str, str] = {
    "huge": "transparent huge pages: PMD mappings, large folios, splitting, collapse",
    "zero": "the shared zero page",
    "file": "private file mappings and the page cache",
    "hugetlb": "private mappings of hugetlb pages: reservations, an empty pool",
    "movable": "ZONE_MOVABLE and CMA, from where FOLL_LONGTERM migrates a page first",
    "ksm": "KSM merging and un-merging",
    "migration": "page migration",
    "numa": "NUMA hinting",
    "lazyfree": "MADV_FREE",
    "force": "FOLL_FORCE writes (ptrace, /proc/pid/mem)",
    "mremap": "mremap",
    "mmap": "mmap of anonymous memory over whatever is there (MAP_FIXED)",
    "vm-soft-dirty": "VM_SOFTDIRTY: everything reads as soft-dirty until the first clear_refs; else there has been one",
    "madv-fork": "MADV_DONTFORK, MADV_WIPEONFORK: what fork leaves out, or leaves empty",
    "populate": "MADV_POPULATE_READ, MADV_POPULATE_WRITE: the faults of an access without the access",
    "uffd": "userfaultfd: registering for missing pages, unregistering, UFFDIO_COPY, UFFDIO_ZEROPAGE",
    "uffd-move": "UFFDIO_MOVE",
    "uffd-unpopulated": "userfaultfd with WP_UNPOPULATED: markers where nothing is mapped in anonymous memory",
    "uffd-async": "userfaultfd with WP_ASYNC, PAGEMAP_SCAN: writes are tracked without a monitor (with "
    "uffd-unpopulated)",
    "uffd-fork": "the fork event of userfaultfd: children are registered, too",
    "guard": "MADV_GUARD_INSTALL, MADV_GUARD_REMOVE: what touches a guard gets SIGSEGV, whatever is zapped",
    "exec": "mprotect(PROT_EXEC): whether VM_EXEC is set decides whether the next mprotect changes anything",
    "prot-none": "mprotect(PROT_NONE): loads and get_user_pages without FOLL_FORCE are refused",
    "sync-swap": "swap devices that read at once (zram, brd: SWP_SYNCHRONOUS_IO), past the swap cache",
    "stable-writes": "swap devices that need pages which do not change while they are written (SWP_STABLE_WRITES)",
}
"""What there may be. Name to one line."""

SPLIT: dict[str, str] = {
    "gup-fast": "GUP-fast reads the PTE, takes the reference, and looks again; slow GUP as before",
    "fork": "fork looks for pinned pages, copies page tables, flushes",
    "copy": "a write fault decides, copies the data, maps the copy",
    "tlb": "write-protecting leaves TLB entries stale until it flushes; splits fork and copy too",
    "swap-out": "reclaim adds a page to the swap cache, then unmaps it; with gup-fast it clears accessed bits first",
    "reclaim-flush": "reclaim unmaps a page and flushes TLBs later (with tlb); splits swap-out too",
    "split-pmd": "splitting a PMD moves its mapping's count to the sub-pages (with huge)",
    "collapse": "collapse looks at the block's pages, then again under locks (with huge)",
    "move": "UFFDIO_MOVE reads a swap entry, looks into the swap cache, then moves the entry (with uffd-move)",
    "migrate": "migration puts entries in the place of PTEs, counts references, maps a new page or the old one (with "
    "migration)",
    "sync-read": "a fault reads a slot past the swap cache, then maps the page (with sync-swap)",
    "share": "KSM takes a PTE away, looks at its page, gives it back",
}
"""What is not one step: name to one line."""

FEATURES: dict[str, str] = {**WORLD, **SPLIT}
