/*
 * What write faults after fork cost on the running kernel, in nanoseconds, beside reads and copies that user space
 * makes itself. One JSON object on standard output; ratios of its numbers are what one may compare.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 64 << 20, HUGE = 2 << 20, PAGE = 4096, SUBPAGES = 512, LINE = 64, ROUNDS = 7 };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return 1e9 * t.tv_sec + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* A filled private region, of huge pages if wanted and there are any. */
static char *region(int huge)
{
	char *room = mmap(NULL, SIZE + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *start;

	if (room == MAP_FAILED)
		die("mmap");
	start = (char *)(((unsigned long)room + HUGE - 1) & ~(HUGE - 1UL));
	madvise(start, SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(start, 1, SIZE);
	return start;
}

static int is_huge(void)
{
	FILE *rollup = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	long kilobytes = 0;

	while (rollup && fgets(line, sizeof(line), rollup))
		sscanf(line, "AnonHugePages: %ld", &kilobytes);
	if (rollup)
		fclose(rollup);
	return kilobytes >= SIZE / 1024;
}

static pid_t sleeper(void)
{
	pid_t child = fork();

	if (child < 0)
		die("fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	return child;
}

static void end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static double written(volatile char *at)
{
	double start = now();

	for (long i = 0; i < SIZE; i += PAGE)
		at[i] = 2;
	return (now() - start) / (SIZE / PAGE);
}

static int smaller(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *times)
{
	qsort(times, ROUNDS, sizeof(*times), smaller);
	return times[ROUNDS / 2];
}

/* A write to each page while `sharers` other processes map it too; if `gone`, they have ended before. */
static double fault(int huge, int sharers, int gone)
{
	double times[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		char *at = region(huge);
		pid_t children[64];

		for (int i = 0; i < sharers; i++)
			children[i] = sleeper();
		for (int i = 0; gone && i < sharers; i++)
			end(children[i]);
		times[round] = written(at);
		for (int i = 0; !gone && i < sharers; i++)
			end(children[i]);
		munmap(at, SIZE);
	}
	return median(times);
}

/* As many reads as a large folio has sub-pages, one in a line: of the same lines again and again, or of others. */
static double reads(const char *at, int same)
{
	double times[ROUNDS];
	unsigned long sum = 0;

	for (int round = 0; round < ROUNDS; round++) {
		double start = now();

		for (long folio = 0; folio < SIZE / (SUBPAGES * LINE); folio++)
			for (long i = 0; i < SUBPAGES; i++)
				sum += *(volatile const int *)(at + (same ? 0 : folio * SUBPAGES * LINE) + i * LINE);
		times[round] = (now() - start) / (SIZE / (SUBPAGES * LINE));
	}
	return sum ? median(times) : 0;
}

static double copied(char *to, const char *from)
{
	double times[ROUNDS];

	for (int round = 0; round < ROUNDS; round++) {
		double start = now();

		for (long i = 0; i < SIZE; i += PAGE)
			memcpy(to + i, from + i, PAGE);
		times[round] = (now() - start) / (SIZE / PAGE);
	}
	return median(times);
}

int main(void)
{
	struct utsname name;
	char *a, *b;

	uname(&name);
	a = region(1);
	printf("{\"release\": \"%s\", \"huge\": %s", name.release, is_huge() ? "true" : "false");
	b = region(1);
	printf(", \"copy\": %.1f, \"reads near\": %.1f, \"reads far\": %.1f", copied(a, b), reads(a, 1), reads(a, 0));
	munmap(a, SIZE);
	munmap(b, SIZE);
	for (int huge = 0; huge < 2; huge++) {
		const char *kind = huge ? "huge" : "small";

		printf(", \"%s alone\": %.1f", kind, fault(huge, 1, 1));
		printf(", \"%s shared by 2\": %.1f", kind, fault(huge, 1, 0));
		printf(", \"%s shared by 9\": %.1f", kind, fault(huge, 8, 0));
	}
	printf("}\n");
	return 0;
}
