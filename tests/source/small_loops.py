"""Functions of a small kernel of our own: reclaim, mprotect, KSM, collapse and faults, as far as they are asked."""

from __future__ import annotations

RECLAIM = """
static unsigned int shrink_page_list(struct list_head *page_list, struct scan_control *sc)
{
	LIST_HEAD(free_pages);

	while (!list_empty(page_list)) {
		struct page *page = lru_to_page(page_list);
		struct address_space *mapping;

		list_del(&page->lru);
		if (!trylock_page(page))
			goto keep;
		if (PageAnon(page) && !PageSwapCache(page)) {
			if (page_maybe_dma_pinned(page))
				goto keep_locked;
			if (!add_to_swap(page))
				goto keep_locked;
		}
		if (page_mapped(page)) {
			try_to_unmap(page, TTU_BATCH_FLUSH);
			if (page_mapped(page))
				goto keep_locked;
		}
		mapping = page_mapping(page);
		if (PageDirty(page)) {
			try_to_unmap_flush_dirty();
			if (pageout(page, mapping) != PAGE_CLEAN)
				goto keep;
		}
		unlock_page(page);
		list_add(&page->lru, &free_pages);
		continue;
keep_locked:
		unlock_page(page);
keep:
		list_add(&page->lru, page_list);
	}
	try_to_unmap_flush();
	free_unref_page_list(&free_pages);
	return 0;
}
"""

UNMAP = """
static bool try_to_unmap_one(struct page *page, struct vm_area_struct *vma, unsigned long address, void *arg)
{
	struct mm_struct *mm = vma->vm_mm;
	enum ttu_flags flags = (enum ttu_flags)(long)arg;
	bool ret = true, anon_exclusive;
	pte_t pteval, swp_pte;

	while (page_vma_mapped_walk(&pvmw)) {
		anon_exclusive = PageAnonExclusive(page);
		if (should_defer_flush(mm, flags)) {
			pteval = ptep_get_and_clear(mm, address, pvmw.pte);
			set_tlb_ubc_flush_pending(mm, pte_dirty(pteval));
		} else {
			pteval = ptep_clear_flush(vma, address, pvmw.pte);
		}
		if (pte_dirty(pteval))
			set_page_dirty(page);
		if (!PageSwapBacked(page)) {
			if (page_count(page) == 1 + page_mapcount(page) && !PageDirty(page))
				goto discard;
			set_pte_at(mm, address, pvmw.pte, pteval);
			SetPageSwapBacked(page);
			ret = false;
			break;
		}
		if (anon_exclusive && page_try_share_anon_rmap(page)) {
			set_pte_at(mm, address, pvmw.pte, pteval);
			ret = false;
			break;
		}
		swp_pte = swp_entry_to_pte(entry);
		if (anon_exclusive)
			swp_pte = pte_swp_mkexclusive(swp_pte);
		if (pte_soft_dirty(pteval))
			swp_pte = pte_swp_mksoft_dirty(swp_pte);
		if (pte_uffd_wp(pteval))
			swp_pte = pte_swp_mkuffd_wp(swp_pte);
		set_pte_at(mm, address, pvmw.pte, swp_pte);
discard:
		page_remove_rmap(page, vma);
	}
	return ret;
}
"""

SHARE = """
static inline int page_try_share_anon_rmap(struct page *page)
{
	if (page_maybe_dma_pinned(page))
		return -EBUSY;
	ClearPageAnonExclusive(page);
	return 0;
}
"""

PROTECT = """
static void commit_each(struct vm_area_struct *vma, struct page *page, unsigned long addr, pte_t *pte, pte_t oldpte,
		pte_t ptent, int nr)
{
	int n;

	for (n = 0; n < nr; n++) {
		pte_t entry = ptent;

		if (PageAnonExclusive(page + n))
			entry = pte_mkwrite(entry, vma);
		modify_prot_commit_ptes(vma, addr, pte + n, oldpte, entry, 1);
	}
}

static long change_pte_range(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr, unsigned long end,
		pgprot_t newprot, unsigned long cp_flags)
{
	pte_t *pte = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	int nr = 1;

	flush_tlb_batched_pending(vma->vm_mm);
	do {
		pte_t oldpte = *pte, ptent;
		struct page *page = vm_normal_page(vma, addr, oldpte);

		if (!pte_present(oldpte))
			continue;
		nr = mprotect_folio_pte_batch(page, pte, oldpte, end - addr, FPB_RESPECT_SOFT_DIRTY | FPB_RESPECT_WRITE);
		oldpte = modify_prot_start_ptes(vma, addr, pte, nr);
		ptent = pte_modify(oldpte, newprot);
		if (!(cp_flags & MM_CP_TRY_CHANGE_WRITABLE) || !may_write_some(vma, ptent)) {
			modify_prot_commit_ptes(vma, addr, pte, oldpte, ptent, nr);
			continue;
		}
		commit_each(vma, page, addr, pte, oldpte, ptent, nr);
	} while (pte += nr, addr += nr * PAGE_SIZE, addr != end);
	return 0;
}

static bool may_write_some(struct vm_area_struct *vma, pte_t pte)
{
	return !pte_needs_soft_dirty_wp(vma, pte) && !userfaultfd_pte_wp(vma, pte);
}
"""

HUGE = """
static bool can_change_pmd(struct vm_area_struct *vma, unsigned long addr, pmd_t pmd)
{
	if (pmd_needs_soft_dirty_wp(vma, pmd) || userfaultfd_huge_pmd_wp(vma, pmd))
		return false;
	return PageAnonExclusive(vm_normal_page_pmd(vma, addr, pmd));
}

int change_huge_pmd(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr, pgprot_t newprot,
		unsigned long cp_flags)
{
	pmd_t entry = pmd_modify(pmdp_invalidate_ad(vma, addr, pmd), newprot);

	if ((cp_flags & MM_CP_TRY_CHANGE_WRITABLE) && can_change_pmd(vma, addr, entry))
		entry = pmd_mkwrite(entry, vma);
	set_pmd_at(vma->vm_mm, addr, pmd, entry);
	return 1;
}

vm_fault_t do_huge_pmd_wp_page(struct vm_fault *vmf)
{
	struct page *page;

	spin_lock(vmf->ptl);
	if (!pmd_same(*vmf->pmd, vmf->orig_pmd))
		goto out;
	page = pmd_page(vmf->orig_pmd);
	if (!trylock_page(page)) {
		spin_unlock(vmf->ptl);
		lock_page(page);
		spin_lock(vmf->ptl);
		if (!pmd_same(*vmf->pmd, vmf->orig_pmd))
			goto out;
	}
	if (page_count(page) == 1)
		pmdp_set_access_flags(vmf->vma, vmf->address, vmf->pmd, vmf->orig_pmd, 1);
out:
	spin_unlock(vmf->ptl);
	return 0;
}
"""

KSM = """
static int write_protect_page(struct vm_area_struct *vma, struct page *page, pte_t *orig_pte)
{
	struct mm_struct *mm = vma->vm_mm;
	bool exclusive = PageAnonExclusive(page);
	pte_t entry = *pvmw.pte;
	int err = -EFAULT;

	if (pte_write(entry) || pte_dirty(entry) || exclusive || mm_tlb_flush_pending(mm)) {
		entry = ptep_clear_flush(vma, pvmw.address, pvmw.pte);
		if (page_mapcount(page) + 1 + PageSwapCache(page) != page_count(page)) {
			set_pte_at(mm, pvmw.address, pvmw.pte, entry);
			goto out;
		}
		if (exclusive && page_try_share_anon_rmap(page)) {
			set_pte_at(mm, pvmw.address, pvmw.pte, entry);
			goto out;
		}
		if (pte_dirty(entry))
			set_page_dirty(page);
		entry = pte_mkclean(entry);
		if (pte_write(entry))
			entry = pte_wrprotect(entry);
		set_pte_at(mm, pvmw.address, pvmw.pte, entry);
	}
	err = 0;
out:
	return err;
}

static int replace_page(struct vm_area_struct *vma, struct page *page, struct page *kpage, pte_t orig_pte)
{
	pte_t *ptep = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);

	if (!pte_same(*ptep, orig_pte))
		goto out;
	ptep_clear_flush(vma, addr, ptep);
	set_pte_at_notify(vma->vm_mm, addr, ptep, mk_pte(kpage, vma->vm_page_prot));
out:
	pte_unmap_unlock(ptep, ptl);
	return 0;
}
"""

FAULTS = """
static vm_fault_t wp_page_copy(struct vm_fault *vmf)
{
	struct page *old = vmf->page;
	struct page *fresh = alloc_page_vma(GFP_HIGHUSER_MOVABLE, vmf->vma, vmf->address);

	if (!cow_user_page(fresh, old, vmf))
		return 0;
	vmf->pte = pte_offset_map_lock(vmf->vma->vm_mm, vmf->pmd, vmf->address, &vmf->ptl);
	if (pte_same(*vmf->pte, vmf->orig_pte)) {
		ptep_clear_flush(vmf->vma, vmf->address, vmf->pte);
		set_pte_at(vmf->vma->vm_mm, vmf->address, vmf->pte, mk_pte(fresh, vmf->vma->vm_page_prot));
	}
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return 0;
}

static vm_fault_t do_wp_page(struct vm_fault *vmf)
{
	struct page *page = vm_normal_page(vmf->vma, vmf->address, vmf->orig_pte);

	if (!trylock_page(page)) {
		pte_unmap_unlock(vmf->pte, vmf->ptl);
		lock_page(page);
		vmf->pte = pte_offset_map_lock(vmf->vma->vm_mm, vmf->pmd, vmf->address, &vmf->ptl);
		if (!pte_same(*vmf->pte, vmf->orig_pte))
			return 0;
	}
	if (page_count(page) == 1)
		wp_page_reuse(vmf);
	return wp_page_copy(vmf);
}

vm_fault_t do_swap_page(struct vm_fault *vmf)
{
	struct page *page;

	if (!pte_unmap_same(vmf))
		return 0;
	page = lookup_swap_cache(entry, vmf->vma, vmf->address);
	vmf->pte = pte_offset_map_lock(vmf->vma->vm_mm, vmf->pmd, vmf->address, &vmf->ptl);
	if (!pte_same(*vmf->pte, vmf->orig_pte))
		goto out;
	set_pte_at(vmf->vma->vm_mm, vmf->address, vmf->pte, mk_pte(page, vmf->vma->vm_page_prot));
out:
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return 0;
}

static vm_fault_t do_numa_page(struct vm_fault *vmf)
{
	struct page *page;
	pte_t old;

	spin_lock(vmf->ptl);
	if (!pte_same(*vmf->pte, vmf->orig_pte))
		goto out;
	page = vm_normal_page(vmf->vma, vmf->address, vmf->orig_pte);
	if (numa_migrate_prep(page, vmf->vma, vmf->address) != NUMA_NO_NODE) {
		pte_unmap_unlock(vmf->pte, vmf->ptl);
		if (migrate_misplaced_page(page, vmf->vma))
			return 0;
		spin_lock(vmf->ptl);
		if (!pte_same(*vmf->pte, vmf->orig_pte))
			goto out;
	}
	old = ptep_modify_prot_start(vmf->vma, vmf->address, vmf->pte);
	ptep_modify_prot_commit(vmf->vma, vmf->address, vmf->pte, old, pte_modify(old, vmf->vma->vm_page_prot));
out:
	pte_unmap_unlock(vmf->pte, vmf->ptl);
	return 0;
}

static unsigned long zap_pte_range(struct mmu_gather *tlb, struct vm_area_struct *vma, pmd_t *pmd)
{
	pte_t *pte = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);

	flush_tlb_batched_pending(vma->vm_mm);
	arch_enter_lazy_mmu_mode();
	return 0;
}
"""

COLLAPSE = """
static int __collapse_huge_page_isolate(struct vm_area_struct *vma, unsigned long address, pte_t *pte)
{
	pte_t *_pte;
	int result = SCAN_FAIL;

	for (_pte = pte; _pte < pte + HPAGE_PMD_NR; _pte++, address += PAGE_SIZE) {
		pte_t pteval = *_pte;
		struct page *page;

		if (!pte_present(pteval) || pte_uffd_wp(pteval))
			goto out;
		page = vm_normal_page(vma, address, pteval);
		if (!trylock_page(page))
			goto out;
		if (page_count(page) != page_mapcount(page) + PageSwapCache(page)) {
			unlock_page(page);
			goto out;
		}
		if (isolate_lru_page(page)) {
			unlock_page(page);
			goto out;
		}
	}
	result = SCAN_SUCCEED;
out:
	release_pte_pages(pte, _pte);
	return result;
}
"""

FILES = {
    "mm/memory.c": FAULTS, "mm/vmscan.c": RECLAIM, "mm/rmap.c": UNMAP, "include/linux/rmap.h": SHARE,
    "mm/mprotect.c": PROTECT, "mm/huge_memory.c": HUGE, "mm/ksm.c": KSM,
    "mm/khugepaged.c": COLLAPSE,
    "include/linux/page-flags.h": "enum pageflags { PG_anon_exclusive };\n#define PageAnonExclusive(page) 1\n",
}
"""Text of each file."""
