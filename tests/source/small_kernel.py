"""Functions of a small kernel of our own: fork, copies, GUP, slow and fast, as far as what is asked of them."""

from __future__ import annotations

FORK = """
static int copy_present_page(struct vm_area_struct *dst_vma, struct vm_area_struct *src_vma, pte_t *dst_pte,
		pte_t *src_pte, unsigned long addr, struct page **prealloc, struct page *page)
{
	struct page *fresh = *prealloc;
	pte_t pte;

	if (!fresh)
		return -EAGAIN;
	*prealloc = NULL;
	copy_user_highpage(fresh, page, addr, src_vma);
	page_add_new_anon_rmap(fresh, dst_vma, addr);
	pte = mk_pte(fresh, dst_vma->vm_page_prot);
	pte = maybe_mkwrite(pte_mkdirty(pte), dst_vma);
	set_pte_at(dst_vma->vm_mm, addr, dst_pte, pte);
	return 0;
}

static int copy_present_pte(struct vm_area_struct *dst_vma, struct vm_area_struct *src_vma, pte_t *dst_pte,
		pte_t *src_pte, unsigned long addr, int *rss, struct page **prealloc)
{
	pte_t pte = *src_pte;
	struct page *page = vm_normal_page(src_vma, addr, pte);

	if (page && PageAnon(page)) {
		if (page_try_dup_anon_rmap(page, false, src_vma))
			return copy_present_page(dst_vma, src_vma, dst_pte, src_pte, addr, prealloc, page);
	}
	if (is_cow_mapping(src_vma->vm_flags) && pte_write(pte)) {
		ptep_set_wrprotect(src_vma->vm_mm, addr, src_pte);
		pte = pte_wrprotect(pte);
	}
	set_pte_at(dst_vma->vm_mm, addr, dst_pte, pte);
	return 0;
}
"""

RMAP = """
static inline int page_try_dup_anon_rmap(struct page *page, bool compound, struct vm_area_struct *vma)
{
	if (PageAnonExclusive(page)) {
		if (test_bit(MMF_HAS_PINNED, &vma->vm_mm->flags) && page_maybe_dma_pinned(page))
			return -EBUSY;
		ClearPageAnonExclusive(page);
	}
	return 0;
}

static inline int page_try_share_anon_rmap(struct page *page)
{
	smp_mb();
	if (page_maybe_dma_pinned(page))
		return -EBUSY;
	ClearPageAnonExclusive(page);
	smp_mb__after_atomic();
	return 0;
}
"""

COPY = """
static vm_fault_t wp_page_copy(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct page *old = vmf->page;
	struct page *fresh = alloc_page_vma(GFP_HIGHUSER_MOVABLE, vma, vmf->address);
	const bool unshare = vmf->flags & FAULT_FLAG_UNSHARE;
	pte_t entry;

	if (!cow_user_page(fresh, old, vmf))
		return 0;
	entry = mk_pte(fresh, vma->vm_page_prot);
	if (unshare) {
		if (pte_soft_dirty(vmf->orig_pte))
			entry = pte_mksoft_dirty(entry);
		if (pte_uffd_wp(vmf->orig_pte))
			entry = pte_mkuffd_wp(entry);
	} else {
		entry = maybe_mkwrite(pte_mkdirty(entry), vma);
	}
	vmf->pte = pte_offset_map_lock(vma->vm_mm, vmf->pmd, vmf->address, &vmf->ptl);
	if (!pte_same(*vmf->pte, vmf->orig_pte))
		return 0;
	ptep_clear_flush(vma, vmf->address, vmf->pte);
	set_pte_at(vma->vm_mm, vmf->address, vmf->pte, entry);
	page_remove_rmap(old, vma);
	free_swap_cache(old);
	return 0;
}

static inline void wp_page_reuse(struct vm_fault *vmf)
{
	pte_t entry = maybe_mkwrite(pte_mkdirty(pte_mkyoung(vmf->orig_pte)), vmf->vma);

	ptep_set_access_flags(vmf->vma, vmf->address, vmf->pte, entry, 1);
}
"""

GUP = """
static struct page *follow_page_pte(struct vm_area_struct *vma, unsigned long address, pmd_t *pmd, unsigned int flags)
{
	pte_t *ptep = pte_offset_map_lock(vma->vm_mm, pmd, address, &ptl);
	pte_t pte = *ptep;
	struct page *page = vm_normal_page(vma, address, pte);

	if (!pte_present(pte))
		return NULL;
	if (!pte_write(pte) && gup_must_unshare(vma, flags, page))
		return ERR_PTR(-EMLINK);
	try_grab_folio(page, 1, flags);
	return page;
}

static int gup_pte_range(pmd_t pmd, pmd_t *pmdp, unsigned long addr, unsigned long end, unsigned int flags,
		struct page **pages, int *nr)
{
	pte_t *ptep = pte_offset_map(&pmd, addr);

	do {
		pte_t pte = ptep_get_lockless(ptep);
		struct page *page = pte_page(pte);
		struct folio *folio;

		if (!pte_access_permitted(pte, flags & FOLL_WRITE))
			return 0;
		folio = try_grab_folio_fast(page, 1, flags);
		if (!folio)
			return 0;
		if (pmd_val(pmd) != pmd_val(*pmdp) || pte_val(pte) != pte_val(ptep_get_lockless(ptep)))
			goto back;
		if (!pte_write(pte) && gup_must_unshare(NULL, flags, page))
			goto back;
		pages[*nr] = page;
	} while (ptep++, addr += PAGE_SIZE, addr != end);
	return 1;
back:
	gup_put_folio(folio, 1, flags);
	return 0;
}
"""

MUST_UNSHARE = """
static inline bool gup_must_unshare(struct vm_area_struct *vma, unsigned int flags, struct page *page)
{
	if ((flags & (FOLL_WRITE | FOLL_PIN)) != FOLL_PIN)
		return false;
	if (!PageAnon(page)) {
		if (!(flags & FOLL_LONGTERM))
			return false;
		if (!vma)
			return true;
		return is_cow_mapping(vma->vm_flags);
	}
	smp_rmb();
	return !PageAnonExclusive(page);
}
"""

FILES = {"mm/memory.c": FORK + COPY, "include/linux/rmap.h": RMAP, "mm/gup.c": GUP, "mm/internal.h": MUST_UNSHARE}
"""Text of each file."""
