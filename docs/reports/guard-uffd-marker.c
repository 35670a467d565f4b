/*
 * MADV_GUARD_INSTALL does not return where userfaultfd write-protects a
 * page of a file in memory: it begins again for ever.
 *
 * cc -O1 -Wall -Wextra -pthread -o guard-uffd-marker guard-uffd-marker.c
 * ./guard-uffd-marker
 *
 * Each case is a process of its own, which is killed after 3 seconds.
 *
 * Exit status: 0 every call returned; 1 one did not; 4 it cannot be seen
 * here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE 4096UL
#define GUARD_INSTALL 102
#define USER_MODE_ONLY 1
#define UNSEEN 4
#define SECONDS 3

struct when {
	const char *name;
	int file, shared, written, protect, lifted;
};

static const struct when cases[] = {
	{ "anonymous, written, protected", 0, 0, 1, 1, 0 },
	{ "private mapping of a file, written", 1, 0, 1, 0, 0 },
	{ "private mapping of a file, written, protected", 1, 0, 1, 1, 0 },
	{ "private mapping of a file, protected", 1, 0, 0, 1, 0 },
	{ "shared mapping of a file, protected", 1, 1, 0, 1, 0 },
	{ "private mapping of a file, protected for a second",
	  1, 0, 0, 1, 1 },
};

static int monitor;
static char *at;

static void cannot(const char *what)
{
	printf("not observable: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(UNSEEN);
}

static void protect(uint64_t mode)
{
	struct uffdio_writeprotect change = {
		.range = { (uintptr_t)at, SIZE }, .mode = mode,
	};

	if (ioctl(monitor, UFFDIO_WRITEPROTECT, &change))
		cannot("UFFDIO_WRITEPROTECT");
}

static void *lift(void *unused)
{
	sleep(1);
	protect(0);
	return unused;
}

static void install(const struct when *c)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register watched = {
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int file = -1, how = c->shared ? MAP_SHARED : MAP_PRIVATE;
	pthread_t thread;

	if (c->file) {
		file = memfd_create("a", 0);
		if (file < 0 || ftruncate(file, SIZE))
			cannot("memfd_create");
	}
	at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
		  how | (c->file ? 0 : MAP_ANONYMOUS), file, 0);
	if (at == MAP_FAILED)
		cannot("mmap");
	monitor = syscall(SYS_userfaultfd, O_CLOEXEC | USER_MODE_ONLY);
	if (monitor < 0 || ioctl(monitor, UFFDIO_API, &api))
		cannot("userfaultfd");
	watched.range.start = (uintptr_t)at;
	watched.range.len = SIZE;
	if (ioctl(monitor, UFFDIO_REGISTER, &watched))
		cannot("UFFDIO_REGISTER");
	if (c->written)
		*(volatile char *)at = 1;
	if (c->protect)
		protect(UFFDIO_WRITEPROTECT_MODE_WP);
	if (c->lifted && pthread_create(&thread, NULL, lift, NULL))
		cannot("pthread_create");
	if (madvise(at, SIZE, GUARD_INSTALL))
		cannot("MADV_GUARD_INSTALL");
	_exit(0);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* 0 it returned, 1 it had to be killed; exits where it cannot be seen. */
static int asked(const struct when *c)
{
	double start = seconds(), took;
	struct rusage used;
	int status, killed = 0;
	pid_t pid = fork();

	if (pid < 0)
		cannot("fork");
	if (!pid)
		install(c);
	while (wait4(pid, &status, WNOHANG, &used) == 0) {
		if (!killed && seconds() - start > SECONDS) {
			kill(pid, SIGKILL);
			killed = 1;
		}
		usleep(1000);
	}
	took = seconds() - start;
	if (WIFEXITED(status) && WEXITSTATUS(status) == UNSEEN)
		exit(UNSEEN);
	printf("%s: %s %.1f s, %ld.%ld s of it in the kernel\n", c->name,
	       killed ? "KILLED after" : "returned after", took,
	       (long)used.ru_stime.tv_sec,
	       (long)used.ru_stime.tv_usec / 100000);
	fflush(stdout);
	return killed;
}

int main(void)
{
	unsigned int i;
	int bad = 0;

	for (i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		bad |= asked(&cases[i]);
	return bad;
}
