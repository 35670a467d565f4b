/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note
 *
 * /dev/gup_probe, a test instrument for virtual machines: references to pages as drivers take them, and what the
 * kernel knows about a page. An address is one of the calling process; every call is about the one 4 KiB page there.
 *
 * A handle names a reference (or a page lock) and belongs to the open file, not to the process: it outlives the
 * process that took it as long as some process has the file open, and is given back at the last close at the latest.
 * Numbers of dropped handles are used again, smallest first.
 *
 * Each ioctl returns 0, or -1 with errno:
 *   EINVAL  unknown flag, or one that does not go with the others     EBADF   no such handle, or of the other kind
 *   ENFILE  no handle left                                            ENXIO   no page (GP_NUMA: no VMA) is there
 *   EPERM   GP_POKE on a reference not taken with GP_WRITE            EDEADLK this file holds that page's lock
 * or what get_user_pages said: EFAULT (not mapped, or not so), ENOMEM, EINTR...
 */
#ifndef GUP_PROBE_H
#define GUP_PROBE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define GP_HANDLES 256 /* of one open file */

/* gp_take.flags; none of them: get_user_pages with FOLL_GET, for reading */
#define GP_PIN       (1u << 0) /* FOLL_PIN (pin_user_pages) instead of FOLL_GET */
#define GP_WRITE     (1u << 1) /* FOLL_WRITE */
#define GP_LONGTERM  (1u << 2) /* FOLL_LONGTERM; only with GP_PIN */
#define GP_FAST      (1u << 3) /* get_user_pages_fast or pin_user_pages_fast: without mmap_lock if it can */
#define GP_FORCE     (1u << 4) /* FOLL_FORCE; not with GP_FAST */

struct gp_take {
	__u64 addr;
	__u32 flags;
	__s32 handle; /* out */
};

/* GP_PEEK, GP_POKE: the first byte of the page, through the reference; like a device's store, a poke marks nothing dirty */
struct gp_byte {
	__s32 handle;
	__u8 value; /* out of GP_PEEK, in to GP_POKE */
	__u8 zero[3];
};

/* GP_HOLD, GP_LOCK: a page that is mapped there right now; no fault, no get_user_pages */
struct gp_at {
	__u64 addr;
	__s32 handle; /* out */
	__u32 zero;
};

/* gp_page.known: which of the others this kernel can tell and were found */
#define GP_KNOWN_PTE            (1u << 0) /* GP_PAGE: gp_page.pte, for there is a page table (or a PMD leaf) */
#define GP_KNOWN_PAGE           (1u << 1) /* a page with a struct page is there, so pfn, counts and page bits */
#define GP_KNOWN_PAGE_MAPCOUNT  (1u << 2) /* mapcount is of this 4 KiB page alone (with PMD mappings of its folio) */
#define GP_KNOWN_FOLIO_MAPCOUNT (1u << 3) /* mapcount is of the whole folio; for order 0 that is the same */
#define GP_KNOWN_EXCLUSIVE      (1u << 4) /* this kernel has PG_anon_exclusive (5.19 or newer) */
#define GP_KNOWN_UFFD_WP        (1u << 5) /* this kernel has a userfaultfd write-protect bit in PTEs */
#define GP_KNOWN_SOFT_DIRTY     (1u << 6) /* this kernel has a soft-dirty bit in PTEs */

/* gp_page.page */
#define GP_ANON           (1u << 0)
#define GP_KSM            (1u << 1)
#define GP_SWAPCACHE      (1u << 2)
#define GP_ANON_EXCLUSIVE (1u << 3)
#define GP_LOCKED         (1u << 4)
#define GP_LRU            (1u << 5) /* on an LRU list (not merely in a CPU's batch for one) */
#define GP_ZERO_PAGE      (1u << 6) /* the zero page, or part of the huge zero page */
#define GP_PAGE_DIRTY     (1u << 7) /* PG_dirty, not the PTE's */
#define GP_MAYBE_PINNED   (1u << 8) /* page_maybe_dma_pinned: FOLL_PIN, or more than 1023 FOLL_GETs */
#define GP_LARGE          (1u << 9) /* part of a folio of order greater than 0 */
#define GP_SWAPBACKED     (1u << 10) /* PG_swapbacked; an anonymous page without it is lazily free (MADV_FREE) */
#define GP_WRITEBACK      (1u << 11)

/* gp_page.pte */
#define GP_PTE_PRESENT        (1u << 0) /* maps a page; includes PROT_NONE ones (see GP_PTE_PROTNONE) */
#define GP_PTE_HUGE           (1u << 1) /* all pte bits are of a PMD leaf */
#define GP_PTE_WRITE          (1u << 2)
#define GP_PTE_DIRTY          (1u << 3)
#define GP_PTE_YOUNG          (1u << 4)
#define GP_PTE_UFFD_WP        (1u << 5)
#define GP_PTE_SOFT_DIRTY     (1u << 6)
#define GP_PTE_PROTNONE       (1u << 7) /* NUMA hinting or PROT_NONE */
#define GP_PTE_SWAP           (1u << 8) /* an entry of a swap device: gp_page.swap */
#define GP_PTE_MIGRATION      (1u << 9) /* a migration entry */
#define GP_PTE_MARKER         (1u << 10) /* neither empty nor one of the others (a marker, poison, device memory) */
#define GP_PTE_SWAP_EXCLUSIVE (1u << 11) /* the swap entry's exclusive bit */

struct gp_page {
	__u64 addr; /* in of GP_PAGE */
	__s32 handle; /* in of GP_REF */
	__u32 known; /* GP_KNOWN_*; everything else is out, and zero where not known */
	__u64 pfn; /* of this 4 KiB page */
	__u64 head_pfn; /* of its folio's first page; the same for order 0 */
	__s32 page_count; /* of the folio; this call's own reference is not in it */
	__s32 mapcount; /* 0: not mapped */
	__u32 page; /* GP_ANON... */
	__u32 pte; /* GP_PTE_...; GP_PAGE only */
	__u64 swap; /* type in the upper 32 bits, offset in the lower */
	__u32 order; /* of the folio */
	__u32 zero;
};

struct gp_range {
	__u64 addr, length; /* of page tables within one VMA of the calling process */
	__u64 changed; /* out: how many entries */
};

struct gp_handle {
	__s32 handle;
	__u32 zero;
};

#define GP_TAKE   _IOWR('G', 0x80, struct gp_take)
#define GP_PEEK   _IOWR('G', 0x81, struct gp_byte)
#define GP_POKE   _IOW('G', 0x82, struct gp_byte)
#define GP_DROP   _IOW('G', 0x83, struct gp_handle) /* GP_TAKE's and GP_HOLD's */
#define GP_HOLD   _IOWR('G', 0x84, struct gp_at) /* a bare reference to the page's folio (get_page); GP_PEEK may look */
/* Lock the page's folio and hold a reference, as every locker must. Faults that need the lock wait until GP_UNLOCK. */
#define GP_LOCK   _IOWR('G', 0x85, struct gp_at)
#define GP_UNLOCK _IOW('G', 0x86, struct gp_handle)
#define GP_PAGE   _IOWR('G', 0x87, struct gp_page)
#define GP_REF    _IOWR('G', 0x88, struct gp_page)
#define GP_DIRTY  _IOW('G', 0x89, struct gp_handle) /* set_page_dirty_lock, as a driver does after stores of its device */

/*
 * A NUMA hinting scan of the range, as NUMA balancing makes (EOPNOTSUPP: this kernel has none). What a scan leaves out, it
 * leaves out here; with kernel.numa_balancing 0 that is all of the memory next to a processor, from 6.1 on.
 */
#define GP_NUMA   _IOWR('G', 0x8a, struct gp_range)

/* 0 if the module has been built with this header's calls and flags; one of another version does not know the call. */
#define GP_VERSION 1
#define GP_SAME    _IO('G', 0x8b + GP_VERSION)

#endif
