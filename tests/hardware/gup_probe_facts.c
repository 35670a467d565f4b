/*
 * Known facts of the kernel, asked of /dev/gup_probe: a line "ok FACT" or "WRONG FACT: what was seen" for each. Runs as
 * the only program of a virtual machine with one processor, two NUMA nodes and a swap disk (proofs/hardware/vm.py).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gup_probe.h"

#define HUGE (2ul << 20)

static int probe;
static int wrong;

static void fact(int holds, const char *what, struct gp_page seen)
{
	if (holds) {
		printf("ok %s\n", what);
	} else {
		wrong = 1;
		printf("WRONG %s: known %#x page %#x pte %#x count %d mapcount %d order %u pfn %#llx\n", what, seen.known,
		       seen.page, seen.pte, seen.page_count, seen.mapcount, seen.order, seen.pfn);
	}
	fflush(stdout);
}

static char *map(size_t bytes)
{
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		exit(2);
	return at;
}

static char *map_huge(void)
{
	char *at = map(2 * HUGE);

	at = (char *)(((unsigned long)at + HUGE - 1) & ~(HUGE - 1));
	madvise(at, HUGE, MADV_HUGEPAGE);
	return at;
}

/* Empties this CPU's batches of pages on their way to an LRU list, each of which counts as a reference. */
static void drain(void)
{
	static char *unrelated;

	if (!unrelated)
		unrelated = map(4096);
	madvise(unrelated, 4096, MADV_COLD);
}

static struct gp_page page(const void *at)
{
	struct gp_page out = { .addr = (unsigned long)at };

	if (ioctl(probe, GP_PAGE, &out))
		exit(2);
	return out;
}

static struct gp_page settled(const void *at)
{
	drain();
	return page(at);
}

static struct gp_page reference(int handle)
{
	struct gp_page out = { .handle = handle };

	if (ioctl(probe, GP_REF, &out))
		out.known = 0;
	return out;
}

/* A handle, or minus errno. */
static int take(const void *at, unsigned int flags)
{
	struct gp_take out = { .addr = (unsigned long)at, .flags = flags };

	return ioctl(probe, GP_TAKE, &out) ? -errno : out.handle;
}

static int at(unsigned long command, const void *where)
{
	struct gp_at out = { .addr = (unsigned long)where };

	return ioctl(probe, command, &out) ? -errno : out.handle;
}

static int give(unsigned long command, int handle)
{
	struct gp_handle in = { .handle = handle };

	return ioctl(probe, command, &in) ? -errno : 0;
}

static int peek(int handle)
{
	struct gp_byte byte = { .handle = handle };

	return ioctl(probe, GP_PEEK, &byte) ? -errno : byte.value;
}

static int poke(int handle, unsigned char value)
{
	struct gp_byte byte = { .handle = handle, .value = value };

	return ioctl(probe, GP_POKE, &byte) ? -errno : 0;
}

static int put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY), bad = file < 0 || write(file, text, strlen(text)) < 0;

	close(file);
	return bad;
}

/* A child that waits until it is killed. */
static pid_t child(void)
{
	pid_t pid = fork();

	if (!pid)
		for (;;)
			pause();
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void mappings(int exclusives)
{
	char *a = map(4096), seen;
	struct gp_page p = page(a);
	pid_t other;

	fact(!(p.known & GP_KNOWN_PAGE) && !(p.pte & GP_PTE_PRESENT), "nothing is mapped before the first touch", p);
	seen = *(volatile char *)a;
	p = page(a);
	fact(!seen && p.page & GP_ZERO_PAGE && !(p.page & GP_ANON) && !(p.pte & GP_PTE_WRITE), "a read maps the zero page", p);
	*a = 1;
	p = page(a);
	fact(p.page_count == p.mapcount + !(p.page & GP_LRU) && p.mapcount == 1, "the batch of an LRU list holds a reference", p);
	p = settled(a);
	fact(p.page & GP_ANON && p.page & GP_LRU && p.page & GP_SWAPBACKED && p.page_count == 1 && !p.order,
	     "an anonymous page has one reference once it is on its LRU list", p);
	fact((p.pte & (GP_PTE_PRESENT | GP_PTE_WRITE | GP_PTE_DIRTY | GP_PTE_YOUNG | GP_PTE_HUGE)) ==
	     (GP_PTE_PRESENT | GP_PTE_WRITE | GP_PTE_DIRTY | GP_PTE_YOUNG), "its PTE is writable, dirty and young", p);
	fact(!(p.known & GP_KNOWN_EXCLUSIVE) == !exclusives && !(p.page & GP_ANON_EXCLUSIVE) == !exclusives,
	     "it is exclusive, from 5.19", p);
	other = child();
	p = settled(a);
	fact(p.mapcount == 2 && p.page_count == 2 && !(p.pte & GP_PTE_WRITE) && !(p.page & GP_ANON_EXCLUSIVE),
	     "fork shares it, read-only and not exclusive", p);
	end(other);
	p = settled(a);
	fact(p.mapcount == 1 && p.page_count == 1 && !(p.pte & GP_PTE_WRITE), "the child's end leaves it read-only", p);
	mprotect(a, 4096, PROT_NONE);
	p = page(a);
	fact(p.pte & GP_PTE_PRESENT && p.pte & GP_PTE_PROTNONE && p.known & GP_KNOWN_PAGE, "PROT_NONE keeps the page", p);
}

static void references(int unshares)
{
	char *a = map(4096);
	int get, pin, held, longterm;
	struct gp_page p, q;
	pid_t other;

	*a = 1;
	drain();
	get = take(a, 0);
	p = page(a);
	fact(get >= 0 && p.page_count == 2 && !(p.page & GP_MAYBE_PINNED), "FOLL_GET is one reference", p);
	pin = take(a, GP_PIN | GP_WRITE | GP_FAST);
	p = page(a);
	fact(pin >= 0 && p.page_count == 2 + 1024 && p.page & GP_MAYBE_PINNED, "FOLL_PIN is 1024 references", p);
	held = at(GP_HOLD, a);
	q = reference(held);
	fact(held >= 0 && q.page_count == 3 + 1024 && q.pfn == p.pfn && q.mapcount == 1, "GP_HOLD is one more", q);
	fact(peek(get) == 1 && !poke(pin, 7) && *a == 7 && peek(held) == 7, "a store through a pin is seen by the process", p);
	fact(poke(get, 8) == -EPERM && poke(held, 8) == -EPERM && *a == 7, "only what was taken with GP_WRITE is stored to", p);
	fact(!give(GP_DIRTY, pin) && page(a).page & GP_PAGE_DIRTY, "GP_DIRTY sets PG_dirty", page(a));
	fact(!give(GP_DROP, get) && !give(GP_DROP, pin) && !give(GP_DROP, held) && page(a).page_count == 1,
	     "dropping them leaves the mapping's", page(a));
	fact(peek(get) == -EBADF && give(GP_DROP, 77) == -EBADF && give(GP_UNLOCK, -1) == -EBADF, "a dropped handle is none", p);
	fact(take(a, GP_LONGTERM) == -EINVAL && take(a, 1u << 9) == -EINVAL && take((void *)16, 0) == -EFAULT &&
	     at(GP_HOLD, map(4096)) == -ENXIO, "what cannot be taken is refused", p);

	other = child();
	p = settled(a);
	longterm = take(a, GP_PIN | GP_LONGTERM);
	drain();
	q = page(a);
	fact(longterm >= 0 && (q.pfn != p.pfn) == unshares && (!unshares || q.page & GP_ANON_EXCLUSIVE),
	     "a read-only long-term pin of a shared page unshares it, from 5.19", q);
	fact(reference(longterm).pfn == q.pfn && peek(longterm) == 7, "and is of the page that is mapped", reference(longterm));
	end(other);
	give(GP_DROP, longterm);
}

static void files(void)
{
	char *a = map(4096);
	struct gp_page p;
	int status, handle;
	pid_t pid = fork();

	if (!pid) {
		*a = 5;
		_exit(take(a, GP_PIN | GP_WRITE));
	}
	waitpid(pid, &status, 0);
	handle = WEXITSTATUS(status);
	p = reference(handle);
	fact(peek(handle) == 5 && p.mapcount == 0 && p.page & GP_MAYBE_PINNED, "a reference outlives the process that took it", p);
	give(GP_DROP, handle);

	*a = 6;
	handle = at(GP_LOCK, a);
	p = settled(a);
	fact(handle >= 0 && p.page & GP_LOCKED && p.page_count == 2, "GP_LOCK locks the page and holds a reference", p);
	fact(at(GP_LOCK, a) == -EDEADLK && give(GP_DROP, handle) == -EBADF, "a second lock would wait for ever", p);
	fact(!give(GP_UNLOCK, handle) && !(page(a).page & GP_LOCKED) && page(a).page_count == 1, "GP_UNLOCK ends both", page(a));
}

static void last_close(void)
{
	char *a = map(4096);
	int first = probe, n;
	struct gp_page p;

	*a = 1;
	probe = open("/dev/gup_probe", O_RDWR | O_CLOEXEC);
	for (n = 0; n < GP_HANDLES - 1; n++)
		take(a, GP_PIN);
	n = at(GP_LOCK, a);
	p = settled(a);
	fact(n == GP_HANDLES - 1 && p.page_count == 2 + 1024 * (GP_HANDLES - 1) && p.page & GP_LOCKED, "as many handles as said", p);
	fact(take(a, 0) == -ENFILE && page(a).page_count == p.page_count, "and not one more", page(a));
	close(probe);
	probe = first;
	p = page(a);
	fact(p.page_count == 1 && !(p.page & GP_LOCKED), "the last close gives everything back", p);
}

static void reclaim(int exclusives)
{
	char *a = map(4096), *b = map(4096);
	struct gp_page p = page(a);
	unsigned long node = 1;
	int status, tries;
	void *where = b;

	*a = 9;
	for (tries = 0; tries < 20 && !(p.pte & GP_PTE_SWAP); tries++) {
		drain();
		madvise(a, 4096, MADV_PAGEOUT);
		p = page(a);
	}
	fact(p.pte & GP_PTE_SWAP && !(p.pte & GP_PTE_PRESENT) && p.swap & 0xffffffff && !(p.known & GP_KNOWN_PAGE) &&
	     !(p.pte & GP_PTE_SWAP_EXCLUSIVE) == !exclusives, "MADV_PAGEOUT leaves a swap entry, exclusive from 5.19", p);
	status = *(volatile char *)a;
	p = settled(a);
	fact(status == 9 && p.pte & GP_PTE_PRESENT && p.page & GP_ANON, "and a read gets it back", p);

	*b = 2;
	p = settled(b);
	if (syscall(SYS_move_pages, 0, 1, &where, &node, &status, 2 /* MPOL_MF_MOVE */) || status != 1)
		status = -1;
	fact(status == 1 && page(b).pfn != p.pfn && *b == 2, "move_pages moves it to the other node", page(b));

	drain();
	madvise(b, 4096, MADV_FREE);
	p = settled(b);
	fact(!(p.page & GP_SWAPBACKED) && !(p.pte & GP_PTE_DIRTY), "MADV_FREE makes it lazily free and its PTE clean", p);
}

static void tracking(void)
{
	char *a = map(4096), *b = map(4096);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register area = { .range = { (unsigned long)b, 4096 }, .mode = UFFDIO_REGISTER_MODE_WP };
	struct uffdio_writeprotect protect = { .range = { (unsigned long)b, 4096 }, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	struct gp_page p;

	*a = 1;
	*b = 1;
	fact(!put("/proc/self/clear_refs", "4") && page(a).known & GP_KNOWN_SOFT_DIRTY && !(page(a).pte & GP_PTE_SOFT_DIRTY),
	     "clear_refs makes it soft-clean", page(a));
	*a = 2;
	fact(page(a).pte & GP_PTE_SOFT_DIRTY, "and a store soft-dirty", page(a));
	ioctl(uffd, UFFDIO_API, &api);
	ioctl(uffd, UFFDIO_REGISTER, &area);
	ioctl(uffd, UFFDIO_WRITEPROTECT, &protect);
	p = page(b);
	fact(p.known & GP_KNOWN_UFFD_WP && p.pte & GP_PTE_UFFD_WP && !(p.pte & GP_PTE_WRITE), "userfaultfd write-protects it", p);
	close(uffd);
}

static void huge(int exclusives)
{
	char *a = map_huge(), *z = map_huge(), seen;
	struct gp_page p;
	int pin;

	*a = 1;
	p = settled(a + 5 * 4096);
	fact(p.pte & GP_PTE_HUGE && p.order == 9 && p.page & GP_LARGE && p.mapcount == 1 && p.pfn == p.head_pfn + 5,
	     "MADV_HUGEPAGE maps a folio of order 9 with a PMD", p);
	fact(!(p.page & GP_ANON_EXCLUSIVE) == !exclusives, "which is exclusive, from 5.19", p);
	pin = take(a + 5 * 4096, GP_PIN | GP_WRITE);
	poke(pin, 3);
	fact(pin >= 0 && a[5 * 4096] == 3 && page(a).page & GP_MAYBE_PINNED && reference(pin).pfn == p.pfn,
	     "a pin of one page is of that page, and pins the folio", reference(pin));
	mprotect(a, 4096, PROT_READ);
	p = page(a + 5 * 4096);
	fact(!(p.pte & GP_PTE_HUGE) && p.order == 9 && p.mapcount == 1 && p.pte & GP_PTE_WRITE &&
	     !(p.page & GP_ANON_EXCLUSIVE) == !exclusives, "mprotect of a part splits the PMD, not the folio", p);
	give(GP_DROP, pin);
	seen = *(volatile char *)z;
	p = page(z + 4096);
	fact(!seen && p.pte & GP_PTE_HUGE && p.page & GP_ZERO_PAGE && !(p.page & GP_ANON), "a read maps the huge zero page", p);
}

static void merging(void)
{
	char *a = map(2 * 4096);
	struct gp_page p, q;
	int tries;

	memset(a, 0x5a, 2 * 4096);
	madvise(a, 2 * 4096, MADV_MERGEABLE);
	put("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	put("/sys/kernel/mm/ksm/run", "1");
	for (tries = 0; tries < 500 && !(page(a).page & GP_KSM); tries++)
		usleep(20000);
	put("/sys/kernel/mm/ksm/run", "0");
	p = settled(a);
	q = page(a + 4096);
	fact(p.page & GP_KSM && p.pfn == q.pfn && p.mapcount == 2 && !(p.page & GP_ANON_EXCLUSIVE), "KSM merges equal pages", p);
}

/* The module's own guard: here it is unloaded, and offered again without its parameter. */
static void guard(void)
{
	int file = open("/gup_probe.ko", O_RDONLY), bad;
	struct gp_page none = { 0 };

	close(probe);
	bad = syscall(SYS_delete_module, "gup_probe", 0);
	fact(!bad && access("/dev/gup_probe", F_OK), "the module can be unloaded", none);
	bad = syscall(SYS_finit_module, file, "", 0);
	fact(bad && errno == EPERM && access("/dev/gup_probe", F_OK), "it does not load where nobody says that it may", none);
	close(file);
}

int main(void)
{
	struct utsname name;
	int major, minor, from_5_19;
	struct gp_page none = { 0 };

	uname(&name);
	if (sscanf(name.release, "%d.%d", &major, &minor) != 2)
		return 2;
	from_5_19 = major > 5 || minor >= 19;
	probe = open("/dev/gup_probe", O_RDWR);
	fact(probe >= 0, "the probe is there", none);
	if (probe < 0)
		return 1;
	mappings(from_5_19);
	references(from_5_19);
	files();
	last_close();
	reclaim(from_5_19);
	tracking();
	huge(from_5_19);
	merging();
	guard();
	return wrong;
}
