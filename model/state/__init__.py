"""The state of the memory-management model: pages of private mappings, their PTEs, references and swap slots.

`sorts` has the sorts, `functions` the state functions, `counters` what the kernel's counters say as formulas over them,
`span` which pages an operation covers. All is imported from here, together with what formulas are made of.
"""

from z3 import And, Implies, Not, Or

from model.logic import Sort, StateFunction, Term, Update, each, exists, forall
from model.state.counters import *
from model.state.functions import *
from model.state.sorts import *
from model.state.span import *

__all__ = [
    "BY_NAME", "CONSTANTS", "FIRST", "FUNCTIONS", "SORTS", "STEPS", "UNUSED", "ZERO", "And", "Block", "Bool", "Folio",
    "Frame", "Implies", "Not", "Or", "Page", "Pin", "Proc", "Slot", "Sort", "Span", "StateFunction", "Term", "Update",
    "Value", "accessible", "alike", "alive", "anon", "backed", "backing", "block", "cached", "caches", "cma",
    "collapse_scanned", "copy_dirty", "copy_from", "copy_in_progress", "copy_soft_dirty", "copy_to", "copying",
    "data_copied", "each", "exclusive", "exists", "extra", "fast", "fast_dirty", "fast_held", "fast_read",
    "fast_soft_dirty", "fast_uffd_wp", "fast_write", "fast_young", "file", "file_value", "folio", "folio_free",
    "forall", "force_cow", "fork_copy", "fork_early", "fork_shared", "fork_tested", "forked_alike", "forking",
    "frame_free", "frame_value", "fresh", "has_pinned", "held", "hugetlb", "in_flight", "in_flight_elsewhere",
    "in_page_cache", "in_swap_cache", "in_writeback", "ksm", "ksm_cleared", "ksm_tested", "large", "lazyfree", "leaked",
    "live", "loadable", "loaded", "mapped", "mapped_dirty", "mapped_huge", "mapped_only_by", "mapped_only_in", "maps",
    "maps_folio", "may_fill", "may_mark", "maybe_pinned", "memalloc_pin", "migrates", "migrating",
    "migration_exclusive", "misplaced", "missing", "mmap_read_held", "mmap_write_held", "movable", "move_found",
    "move_from", "move_looked", "move_page", "move_read", "move_slot", "moving", "mprotect_flushing", "names_frame",
    "needs_stable_page", "nonanon", "not_forked", "only_migrated", "page_dirty", "page_swapped", "page_table",
    "partly_mapped", "pin_attached", "pin_dontfork", "pin_foll_pin", "pin_frame", "pin_known", "pin_live",
    "pin_longterm", "pin_page", "pin_proc", "pin_write", "pinned_in", "pmd_splitting", "pool_empty", "proc_free",
    "pte_cleared", "pte_dirty", "pte_frame", "pte_guard", "pte_huge", "pte_migration", "pte_none", "pte_present",
    "pte_slot", "pte_soft_dirty", "pte_swap", "pte_swap_exclusive", "pte_uffd_wp", "pte_write", "pte_young", "readable",
    "referenced", "registered", "resolves_to", "same_folio", "same_pmd", "seq_moved", "slot_frame", "slot_free",
    "slot_value", "soft_dirty_flushing", "soft_dirty_needs_fault", "stable_writes", "stale", "stale_frame",
    "still_to_copy", "sub_pages_mapped_once", "swapped_in_alone", "swapped_only_by", "swaps", "sync_again",
    "sync_exclusive", "sync_io", "sync_page", "sync_reading", "sync_slot", "sync_soft_dirty", "sync_uffd_wp",
    "transient", "uffd_armed", "uffd_async", "uffd_flushing", "uffd_marker", "uffd_protects", "uffd_unpopulated",
    "uffd_unwp_flushing", "unmap_flushing", "unplaced", "unreferenced", "vma", "vma_anon", "vma_apart", "vma_dontfork",
    "vma_exec", "vma_guard", "vma_huge", "vma_mergeable", "vma_missing", "vma_new", "vma_none", "vma_resv_owner",
    "vma_resv_unmapped", "vma_soft_dirty", "vma_uffd", "vma_unwatched", "vma_wipeonfork", "vma_write", "writeback",
    "zone_cma", "zone_movable",
]
