/*
 * clear_refs clears the soft-dirty bit of a migration entry and leaves
 * the entry writable: the page is written afterwards without a fault,
 * and pagemap does not show it.
 *
 * cc -O1 -Wall -Wextra -pthread -o clear-refs-migration \
 *    clear-refs-migration.c
 * ./clear-refs-migration [SECONDS]
 *
 * A thread moves pages between NUMA nodes 0 and 1 (move_pages; booting
 * with numa=fake=2 will do). The main thread clears soft-dirty bits,
 * writes to each page, and looks which of them pagemap shows as written.
 * First so many rounds without the thread, as a control.
 *
 * Exit status: 0 every write was shown; 1 one was not; 4 it cannot be
 * seen here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGES 256
#define SIZE 4096UL
#define MOVE_MINE 2 /* MPOL_MF_MOVE */
#define SOFT_DIRTY (1ULL << 55)
#define CONTROLS 50
#define UNSEEN 4

static char *area;
static volatile int over;
static unsigned long moved;

static int cannot(const char *what)
{
	printf("not observable: %s: %s\n", what, strerror(errno));
	exit(UNSEEN);
}

static long move_to(int node)
{
	static void *pages[PAGES];
	static int nodes[PAGES], status[PAGES];
	long count = 0;

	for (int i = 0; i < PAGES; i++) {
		pages[i] = area + i * SIZE;
		nodes[i] = node;
	}
	if (syscall(SYS_move_pages, 0, PAGES, pages, nodes, status, MOVE_MINE) < 0)
		return -1;
	for (int i = 0; i < PAGES; i++)
		count += status[i] == node;
	return count;
}

static void *mover(void *unused)
{
	(void)unused;
	for (int node = 0; !over; node = !node)
		moved += move_to(node);
	return NULL;
}

/* Clear, write, look: how many pages were written and are not shown. */
static int one_round(int refs, int map, char value)
{
	uint64_t entries[PAGES];
	int unseen = 0;

	if (pwrite(refs, "4", 1, 0) != 1)
		cannot("/proc/self/clear_refs");
	for (int i = 0; i < PAGES; i++)
		area[i * SIZE] = value;
	if (pread(map, entries, sizeof(entries), (uintptr_t)area / SIZE * 8) != sizeof(entries))
		cannot("/proc/self/pagemap");
	for (int i = 0; i < PAGES; i++)
		unseen += !(entries[i] & SOFT_DIRTY);
	return unseen;
}

int main(int argc, char **argv)
{
	double limit = argc > 1 ? atof(argv[1]) : 20;
	int refs = open("/proc/self/clear_refs", O_WRONLY), map = open("/proc/self/pagemap", O_RDONLY);
	unsigned long rounds = 0, unseen = 0, control = 0;
	struct timespec start, now;
	pthread_t thread;

	setvbuf(stdout, NULL, _IONBF, 0);
	area = mmap(NULL, PAGES * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || refs < 0 || map < 0)
		cannot("mmap, clear_refs, pagemap");
	madvise(area, PAGES * SIZE, MADV_NOHUGEPAGE);
	for (int i = 0; i < CONTROLS; i++)
		control += one_round(refs, map, (char)i);
	printf("nothing moves: %lu of %d writes not shown\n", control, CONTROLS * PAGES);
	if (control) {
		printf("not observable: this kernel has no soft-dirty bits\n");
		return UNSEEN;
	}
	if (move_to(1) < 1 || move_to(0) < 1)
		cannot("move_pages between nodes 0 and 1");
	if (pthread_create(&thread, NULL, mover, NULL))
		cannot("pthread_create");
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		unseen += one_round(refs, map, (char)rounds++);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < limit);
	over = 1;
	pthread_join(thread, NULL);
	printf("pages move (%lu times): %lu of %lu writes not shown\n", moved, unseen, rounds * PAGES);
	return unseen > 0;
}
