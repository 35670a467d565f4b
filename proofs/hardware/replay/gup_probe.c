// SPDX-License-Identifier: GPL-2.0
/*
 * The module behind gup_probe.h, for virtual machines that run our tests: anybody who opens it can read and write pages
 * through references, and leave pages locked. It builds for Linux 5.10, 6.1, 6.12, 7.2 and 7.3 on x86-64.
 */
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#include "gup_probe.h"

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 18, 0) /* before folios: the first page of a compound page */
typedef struct page folio_t;
#define page_folio compound_head
#define folio_page(folio, n) ((folio) + (n))
#define folio_pfn page_to_pfn
#define folio_order compound_order
#define folio_put put_page
#define folio_try_get get_page_unless_zero
#define folio_ref_count page_ref_count
#define folio_lock_killable lock_page_killable
#define folio_unlock unlock_page
#define folio_maybe_dma_pinned page_maybe_dma_pinned
#define folio_entire_mapcount compound_mapcount
#define folio_test_anon PageAnon
#define folio_test_ksm PageKsm
#define folio_test_swapcache PageSwapCache
#define folio_test_locked PageLocked
#define folio_test_lru PageLRU
#define folio_test_dirty PageDirty
#define folio_test_large PageCompound
#define folio_test_swapbacked PageSwapBacked
#define folio_test_writeback PageWriteback
#else
typedef struct folio folio_t;
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
#define get_user_pages(start, n, flags, pages) get_user_pages(start, n, flags, pages, NULL)
#define pin_user_pages(start, n, flags, pages) pin_user_pages(start, n, flags, pages, NULL)
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#include <linux/leafops.h>
#define leaf_of softleaf_from_pte
#define leaf_is_swap softleaf_is_swap
#define leaf_is_migration softleaf_is_migration
#else
#define leaf_of pte_to_swp_entry
#define leaf_is_swap(leaf) (!non_swap_entry(leaf))
#define leaf_is_migration is_migration_entry
#endif

#if LINUX_VERSION_CODE >= KERNEL_VERSION(7, 3, 0) /* one bit for write-protect and read-write-protect (RWP) */
#define pte_uffd_wp pte_uffd
#define pte_swp_uffd_wp pte_swp_uffd
#endif

enum kind { FREE, HELD, GOT, PINNED, LOCKED };

struct entry {
	struct page *page;
	enum kind kind;
	bool write;
};

struct table {
	struct mutex lock;
	struct entry entries[GP_HANDLES];
};

static void give_back(struct entry *entry)
{
	if (entry->kind == PINNED) {
		unpin_user_page(entry->page);
	} else {
		if (entry->kind == LOCKED)
			folio_unlock(page_folio(entry->page));
		folio_put(page_folio(entry->page));
	}
	entry->kind = FREE;
}

/* The handle of a new entry, which is given back if there is no room. */
static int keep(struct table *table, struct entry entry, __s32 *handle)
{
	int n, error = -ENFILE;

	mutex_lock(&table->lock);
	for (n = 0; n < GP_HANDLES && error; n++) {
		if (table->entries[n].kind == FREE) {
			table->entries[n] = entry;
			*handle = n;
			error = 0;
		}
	}
	mutex_unlock(&table->lock);
	if (error)
		give_back(&entry);
	return error;
}

/* The entry of a handle, a page lock or not; table->lock is held. */
static struct entry *find(struct table *table, __s32 handle, bool lock)
{
	struct entry *entry;

	if (handle < 0 || handle >= GP_HANDLES)
		return NULL;
	entry = &table->entries[handle];
	return entry->kind != FREE && (entry->kind == LOCKED) == lock ? entry : NULL;
}

/* Whether this file has locked the page, so that waiting for its lock would be for ever; table->lock is held. */
static bool locked_here(struct table *table, struct page *page)
{
	int n;

	for (n = 0; n < GP_HANDLES; n++)
		if (table->entries[n].kind == LOCKED && page_folio(table->entries[n].page) == page_folio(page))
			return true;
	return false;
}

static long take(struct table *table, struct gp_take *take)
{
	struct entry entry = { .kind = take->flags & GP_PIN ? PINNED : GOT, .write = take->flags & GP_WRITE };
	unsigned int gup = (take->flags & GP_WRITE ? FOLL_WRITE : 0) | (take->flags & GP_LONGTERM ? FOLL_LONGTERM : 0) |
			   (take->flags & GP_FORCE ? FOLL_FORCE : 0);
	unsigned long start = untagged_addr(take->addr) & PAGE_MASK;
	long taken;

	if (take->flags & ~(GP_PIN | GP_WRITE | GP_LONGTERM | GP_FAST | GP_FORCE))
		return -EINVAL;
	if (take->flags & GP_FORCE && take->flags & GP_FAST)
		return -EINVAL;
	if (take->flags & GP_LONGTERM && !(take->flags & GP_PIN))
		return -EINVAL;
	if (take->flags & GP_FAST) {
		taken = take->flags & GP_PIN ? pin_user_pages_fast(start, 1, gup, &entry.page) :
					       get_user_pages_fast(start, 1, gup, &entry.page);
	} else {
		mmap_read_lock(current->mm);
		taken = take->flags & GP_PIN ? pin_user_pages(start, 1, gup, &entry.page) :
					       get_user_pages(start, 1, gup, &entry.page);
		mmap_read_unlock(current->mm);
	}
	if (taken != 1)
		return taken < 0 ? taken : -EFAULT;
	return keep(table, entry, &take->handle);
}

/*
 * The entry that maps `addr`, of a page table or a PMD that is none (then *huge; their bits are at the same places, and
 * PSE is PAT). False if there is no page table. With interrupts off no page table is freed, as for GUP-fast.
 */
static bool walk(unsigned long addr, pte_t *pte, bool *huge)
{
	pgd_t *pgd = pgd_offset(current->mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t pmd;

	if (addr >= TASK_SIZE_MAX || pgd_none(*pgd) || pgd_bad(*pgd))
		return false;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d) || p4d_bad(*p4d))
		return false;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud) || pud_leaf(*pud) || pud_bad(*pud))
		return false;
	pmd = READ_ONCE(*pmd_offset(pud, addr));
	if (pmd_none(pmd))
		return false;
	*huge = !pmd_present(pmd) || pmd_leaf(pmd);
	*pte = *huge ? __pte(pmd_val(pmd)) : READ_ONCE(((pte_t *)pmd_page_vaddr(pmd))[pte_index(addr)]);
	return true;
}

/* The page that is mapped at `addr` with a reference to it, or NULL; and walk()'s answers. */
static struct page *mapped(unsigned long addr, bool *known, pte_t *pte, bool *huge)
{
	struct page *page = NULL;
	unsigned long flags, pfn;
	folio_t *folio;

	mmap_read_lock(current->mm);
	local_irq_save(flags);
	*known = walk(addr, pte, huge);
	if (*known && pte_present(*pte)) {
		pfn = *huge ? pmd_pfn(__pmd(pte_val(*pte))) + pte_index(addr) : pte_pfn(*pte);
		if (pfn_valid(pfn)) {
			page = pfn_to_page(pfn);
			folio = page_folio(page);
			if (!folio_try_get(folio)) {
				page = NULL;
			} else if (page_folio(page) != folio) { /* split meanwhile */
				folio_put(folio);
				page = NULL;
			}
		}
	}
	local_irq_restore(flags);
	mmap_read_unlock(current->mm);
	return page;
}

static __u32 pte_bits(pte_t pte, bool huge, __u64 *swap)
{
	__u32 bits = huge ? GP_PTE_HUGE : 0;

	if (pte_none(pte))
		return bits;
	if (pte_present(pte))
		return bits | GP_PTE_PRESENT | (pte_write(pte) ? GP_PTE_WRITE : 0) | (pte_dirty(pte) ? GP_PTE_DIRTY : 0) |
		       (pte_young(pte) ? GP_PTE_YOUNG : 0) | (pte_uffd_wp(pte) ? GP_PTE_UFFD_WP : 0) |
		       (pte_soft_dirty(pte) ? GP_PTE_SOFT_DIRTY : 0) | (pte_protnone(pte) ? GP_PTE_PROTNONE : 0);
	bits |= (pte_swp_uffd_wp(pte) ? GP_PTE_UFFD_WP : 0) | (pte_swp_soft_dirty(pte) ? GP_PTE_SOFT_DIRTY : 0);
	if (leaf_is_migration(leaf_of(pte)))
		return bits | GP_PTE_MIGRATION;
	if (!leaf_is_swap(leaf_of(pte)))
		return bits | GP_PTE_MARKER;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 19, 0)
	bits |= pte_swp_exclusive(pte) ? GP_PTE_SWAP_EXCLUSIVE : 0;
#endif
	*swap = (__u64)swp_type(leaf_of(pte)) << 32 | swp_offset(leaf_of(pte));
	return bits | GP_PTE_SWAP;
}

/* Whether one PMD or more map the folio as a whole. */
static inline int entire_mapcount(folio_t *folio)
{
	return folio_test_large(folio) ? folio_entire_mapcount(folio) : 0;
}

static int mapcount(struct page *page, __u32 *known)
{
	folio_t *folio = page_folio(page);

	*known |= GP_KNOWN_PAGE_MAPCOUNT | (folio_test_large(folio) ? 0 : GP_KNOWN_FOLIO_MAPCOUNT);
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return page_mapcount(page); /* knows of pages that a PMD and PTEs map */
#else
	if (IS_ENABLED(CONFIG_NO_PAGE_MAPCOUNT) && folio_test_large(folio)) {
		*known ^= GP_KNOWN_PAGE_MAPCOUNT | GP_KNOWN_FOLIO_MAPCOUNT;
		return folio_mapcount(folio);
	}
	return atomic_read(&page->_mapcount) + 1 + entire_mapcount(folio);
#endif
}

static bool anon_exclusive(struct page *page)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 19, 0)
	folio_t *folio = page_folio(page);

	return folio_test_anon(folio) && !folio_test_ksm(folio) &&
	       PageAnonExclusive(entire_mapcount(folio) ? folio_page(folio, 0) : page);
#else
	return false;
#endif
}

/* Everything about a page but how it is mapped. */
static void describe(struct page *page, struct gp_page *out)
{
	folio_t *folio = page_folio(page);

	out->known |= GP_KNOWN_PAGE;
	if (LINUX_VERSION_CODE >= KERNEL_VERSION(5, 19, 0))
		out->known |= GP_KNOWN_EXCLUSIVE;
	out->pfn = page_to_pfn(page);
	out->head_pfn = folio_pfn(folio);
	out->order = folio_order(folio);
	out->page_count = folio_ref_count(folio);
	out->mapcount = mapcount(page, &out->known);
	out->page = (folio_test_anon(folio) ? GP_ANON : 0) | (folio_test_ksm(folio) ? GP_KSM : 0) |
		    (folio_test_swapcache(folio) ? GP_SWAPCACHE : 0) | (anon_exclusive(page) ? GP_ANON_EXCLUSIVE : 0) |
		    (folio_test_locked(folio) ? GP_LOCKED : 0) | (folio_test_lru(folio) ? GP_LRU : 0) |
		    (page == ZERO_PAGE(0) ? GP_ZERO_PAGE : 0) | (folio_test_dirty(folio) ? GP_PAGE_DIRTY : 0) |
		    (folio_maybe_dma_pinned(folio) ? GP_MAYBE_PINNED : 0) | (folio_test_large(folio) ? GP_LARGE : 0) |
		    (folio_test_swapbacked(folio) ? GP_SWAPBACKED : 0) | (folio_test_writeback(folio) ? GP_WRITEBACK : 0);
}

static long page_at(struct gp_page *out)
{
	bool known, huge;
	struct page *page;
	pte_t pte;
	*out = (struct gp_page){ .addr = out->addr, .handle = -1 };
	page = mapped(out->addr, &known, &pte, &huge);

	if (known) {
		out->known |= GP_KNOWN_PTE;
		out->pte = pte_bits(pte, huge, &out->swap);
	}
	if (IS_ENABLED(CONFIG_HAVE_ARCH_USERFAULTFD_WP))
		out->known |= GP_KNOWN_UFFD_WP;
	if (IS_ENABLED(CONFIG_MEM_SOFT_DIRTY))
		out->known |= GP_KNOWN_SOFT_DIRTY;
	if (!page)
		return 0;
	describe(page, out);
	out->page_count--;
	if (huge && !(out->page & GP_ANON) && !page_folio(page)->mapping)
		out->page |= GP_ZERO_PAGE; /* the huge one's symbol is not for modules; nothing else is mapped like that */
	folio_put(page_folio(page));
	return 0;
}

static long hold(struct table *table, struct gp_at *at)
{
	bool known, huge;
	pte_t pte;
	struct entry entry = { .page = mapped(at->addr, &known, &pte, &huge), .kind = HELD };

	return entry.page ? keep(table, entry, &at->handle) : -ENXIO;
}

static long lock(struct table *table, struct gp_at *at)
{
	bool known, huge, here;
	pte_t pte;
	struct entry entry = { .page = mapped(at->addr, &known, &pte, &huge), .kind = LOCKED };
	long error;

	if (!entry.page)
		return -ENXIO;
	mutex_lock(&table->lock);
	here = locked_here(table, entry.page);
	mutex_unlock(&table->lock);
	error = here ? -EDEADLK : folio_lock_killable(page_folio(entry.page));
	if (!error)
		return keep(table, entry, &at->handle);
	folio_put(page_folio(entry.page));
	return error;
}

/* What is done through a handle; table->lock is held. */
static unsigned long (*scan)(struct vm_area_struct *vma, unsigned long start, unsigned long end);

/* Where a function of the kernel's is that modules may not name; NULL if there is none. */
static void *address_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *found;

	if (register_kprobe(&probe))
		return NULL;
	found = probe.addr;
	unregister_kprobe(&probe);
	return found;
}

/*
 * A NUMA hinting scan of the range. A second user of the memory for so long: of a process that runs by itself pages on its
 * own node are passed over.
 */
static long numa(struct gp_range *range)
{
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma;
	long result = -ENXIO;

	if (!scan)
		return -EOPNOTSUPP;
	mmget(mm);
	mmap_read_lock(mm);
	vma = find_vma(mm, range->addr);
	if (vma && vma->vm_start <= range->addr && range->length <= vma->vm_end - range->addr) {
		range->changed = scan(vma, range->addr, range->addr + range->length);
		result = 0;
	}
	mmap_read_unlock(mm);
	mmput(mm);
	return result;
}

static long use(struct table *table, unsigned int command, void *argument)
{
	__s32 handle = command == GP_REF ? ((struct gp_page *)argument)->handle : *(__s32 *)argument;
	struct entry *entry = find(table, handle, command == GP_UNLOCK);
	struct gp_byte *byte = argument;
	u8 *first;

	if (!entry)
		return -EBADF;
	first = page_address(entry->page);
	switch (command) {
	case GP_PEEK:
		byte->value = READ_ONCE(*first);
		return 0;
	case GP_POKE:
		if (!entry->write)
			return -EPERM;
		WRITE_ONCE(*first, byte->value);
		return 0;
	case GP_DIRTY:
		if (locked_here(table, entry->page))
			return -EDEADLK;
		set_page_dirty_lock(entry->page);
		return 0;
	case GP_REF:
		*(struct gp_page *)argument = (struct gp_page){ .handle = handle };
		describe(entry->page, argument);
		return 0;
	default: /* GP_DROP, GP_UNLOCK */
		give_back(entry);
		return 0;
	}
}

static long gup_probe_ioctl(struct file *file, unsigned int command, unsigned long user)
{
	struct table *table = file->private_data;
	union {
		struct gp_take take;
		struct gp_at at;
		struct gp_page page;
		struct gp_range range;
		char bytes[128];
	} argument;
	size_t size = _IOC_SIZE(command);
	long result;

	if (_IOC_TYPE(command) != 'G' || size > sizeof(argument))
		return -ENOTTY;
	if (copy_from_user(&argument, (void __user *)user, size))
		return -EFAULT;
	switch (command) {
	case GP_SAME:
		return 0;
	case GP_TAKE:
		result = take(table, &argument.take);
		break;
	case GP_HOLD:
		result = hold(table, &argument.at);
		break;
	case GP_LOCK:
		result = lock(table, &argument.at);
		break;
	case GP_PAGE:
		result = page_at(&argument.page);
		break;
	case GP_NUMA:
		result = numa(&argument.range);
		break;
	case GP_PEEK:
	case GP_POKE:
	case GP_DROP:
	case GP_DIRTY:
	case GP_UNLOCK:
	case GP_REF:
		mutex_lock(&table->lock);
		result = use(table, command, &argument);
		mutex_unlock(&table->lock);
		break;
	default:
		return -ENOTTY;
	}
	if (!result && _IOC_DIR(command) & _IOC_READ && copy_to_user((void __user *)user, &argument, size))
		return -EFAULT;
	return result;
}

static int gup_probe_open(struct inode *inode, struct file *file)
{
	struct table *table = kvzalloc(sizeof(*table), GFP_KERNEL);

	if (!table)
		return -ENOMEM;
	mutex_init(&table->lock);
	file->private_data = table;
	return 0;
}

static int gup_probe_release(struct inode *inode, struct file *file)
{
	struct table *table = file->private_data;
	int n;

	for (n = 0; n < GP_HANDLES; n++)
		if (table->entries[n].kind != FREE)
			give_back(&table->entries[n]);
	kvfree(table);
	return 0;
}

static const struct file_operations gup_probe_operations = {
	.owner = THIS_MODULE,
	.open = gup_probe_open,
	.release = gup_probe_release,
	.unlocked_ioctl = gup_probe_ioctl,
};

static struct miscdevice gup_probe_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "gup_probe",
	.fops = &gup_probe_operations,
	.mode = 0666,
};

static bool i_am_a_test_machine;
module_param(i_am_a_test_machine, bool, 0444);
MODULE_PARM_DESC(i_am_a_test_machine, "without it the module does not load");

static int __init gup_probe_init(void)
{
	if (!i_am_a_test_machine) {
		pr_err("gup_probe: lets anybody change any page; only for test machines, with i_am_a_test_machine=1\n");
		return -EPERM;
	}
	scan = address_of("change_prot_numa");
	return misc_register(&gup_probe_device);
}

static void __exit gup_probe_exit(void)
{
	misc_deregister(&gup_probe_device);
}

module_init(gup_probe_init);
module_exit(gup_probe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("References to pages, and what the kernel knows about a page");
