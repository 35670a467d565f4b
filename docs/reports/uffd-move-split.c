/*
 * UFFDIO_MOVE of one page of a THP to which somebody has a reference: it
 * cannot be split, and the ioctl goes on trying for as long as that lasts.
 *
 * cc -O1 -Wall -Wextra -pthread -o uffd-move-split uffd-move-split.c
 * ./uffd-move-split [SECONDS]
 *
 * The reference is that of a pipe (vmsplice). After SECONDS (3) it is
 * dropped; meanwhile another thread wants to unmap a page of the same
 * mapping.
 *
 * Exit status: 0 the ioctl failed at once; 1 it went on until the
 * reference was dropped; 4 it cannot be seen here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define SMALL 4096UL
#define HUGE (2UL << 20)
#define UNSEEN 4

struct move {
	uint64_t to, from, length, mode;
	int64_t moved;
};

static int uffd, ends[2];
static char *thp, *target;
static struct move range;
static double took, cpu, waited;
static int failed;

static void cannot(const char *what)
{
	printf("not observable: %s: %s\n", what, strerror(errno));
	exit(UNSEEN);
}

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *mover(void *unused)
{
	double start = now(CLOCK_MONOTONIC), used = now(CLOCK_THREAD_CPUTIME_ID);

	(void)unused;
	/* _UFFDIO_MOVE, of 6.8 */
	failed = ioctl(uffd, _IOWR(UFFDIO, 5, struct move), &range) ? errno : 0;
	took = now(CLOCK_MONOTONIC) - start;
	cpu = now(CLOCK_THREAD_CPUTIME_ID) - used;
	return NULL;
}

static void *unmapper(void *unused)
{
	double start = now(CLOCK_MONOTONIC);

	(void)unused;
	munmap(target + 8 * SMALL, SMALL);
	waited = now(CLOCK_MONOTONIC) - start;
	return NULL;
}

static char *aligned(void)
{
	char *at = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		cannot("mmap");
	return (char *)(((uintptr_t)at + HUGE - 1) & ~(HUGE - 1));
}

int main(int count, char **words)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register watch = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	unsigned int seconds = count > 1 ? atoi(words[1]) : 3;
	pthread_t moving, unmapping;
	struct utsname kernel;
	struct iovec part;

	uname(&kernel);
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* UFFD_USER_MODE_ONLY */);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		cannot("userfaultfd");
	thp = aligned();
	target = aligned();
	if (madvise(thp, HUGE, MADV_HUGEPAGE) || madvise(target, HUGE, MADV_NOHUGEPAGE))
		cannot("MADV_HUGEPAGE");
	memset(thp, 1, HUGE);
	watch.range.start = (uintptr_t)target;
	watch.range.len = HUGE;
	if (ioctl(uffd, UFFDIO_REGISTER, &watch))
		cannot("UFFDIO_REGISTER");
	part.iov_base = thp;
	part.iov_len = SMALL;
	if (pipe(ends) || vmsplice(ends[1], &part, 1, 0) != (ssize_t)SMALL)
		cannot("vmsplice");

	range.to = (uintptr_t)target;
	range.from = (uintptr_t)thp + SMALL;
	range.length = SMALL;
	pthread_create(&moving, NULL, mover, NULL);
	usleep(100000);
	pthread_create(&unmapping, NULL, unmapper, NULL);
	sleep(seconds);
	close(ends[0]); /* drops the reference */
	close(ends[1]);
	pthread_join(moving, NULL);
	pthread_join(unmapping, NULL);
	if (failed == ENOTTY || failed == EINVAL) {
		printf("%s: not observable: UFFDIO_MOVE: %s\n", kernel.release, strerror(failed));
		return UNSEEN;
	}
	printf("%s: UFFDIO_MOVE: %s after %.3f s, %.3f s of them on the processor; munmap beside it took %.3f s\n",
	       kernel.release, failed ? strerror(failed) : "moved", took, cpu, waited);
	return took > seconds / 2.0;
}
