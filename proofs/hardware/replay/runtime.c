//: core
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * A test runs in several processes, each with memory of its own: the first one, and those it forks. A director tells
 * each what to do next (act) and waits for the answer, so the steps happen in the order in which they are written. All
 * run on one CPU, whose batch of pages on their way to an LRU list is emptied after each step: it holds a reference to
 * each of them.
 */

#define PAGE 4096UL
#define HUGE (512 * PAGE)
#define MOST 16 /* processes, pages, references */
#define MOST_SECONDS 60 /* of a test */

/* What an action returns: 0, -errno, or one of these. */
#define BLOCKED (-5000) /* waits for the userfaultfd monitor */
#define UNSEEN (-5001)  /* cannot be done or seen here: shared->reason */

#define DIRECTOR (-1) /* in place of a process: the director does it itself */

enum truth { NO, YES, UNKNOWN };

struct args {
	int page, other; /* which place; mremap and KSM name two */
	int whole;       /* the whole huge page of which `page` is the first part */
	int ref, child, value;
	int flags;
};

typedef long action(const struct args *);

struct request {
	action *what;
	struct args args;
};

/* A page, or a part of a huge page: the address of its first 4 KiB. The parts of a huge page follow each other. */
struct place {
	char *at;
	size_t length, whole; /* of the page, and of the huge page that it is the first part of */
	int was_read_only;    /* a store of try_store has changed the PMD, which mapped it read-only */
	int of_hugetlb;
	int of_movable; /* what is allocated for it lies in ZONE_MOVABLE: a long-term pin may be refused with ENOMEM */
	int tracking;	/* what its userfaultfd has: 0, or TRACK_UNPOPULATED or TRACK_ASYNC */
};

/* The addresses of the pages of a part that has many, but for the first one, which is what tests look at. */
#define for_rest(at, p) for ((at) = (p)->at + PAGE; (at) < (p)->at + (p)->length; (at) += PAGE)

/* What holds a reference, and where the page was when it was taken. */
struct reference {
	enum { NOTHING, IN_PIPE, IN_RING, IN_PROBE } held;
	int handle; /* of the probe */
	char *at;
	uint64_t pfn; /* 0: not known */
};

/* What is known about one page of one process. */
struct fact {
	enum truth mapped, on_swap, guarded, huge, protected, written, has_write, is_soft_dirty;
	uint64_t pfn;
};

static struct place place[MOST];
static int places;
static struct {
	char reason[256];
	struct reference ref[MOST];
	struct fact fact;
	pid_t pid[MOST];
	enum truth gone[MOST];
	int watched;     /* a page has been registered with userfaultfd */
	int at_once;     /* operations at the same time are under way */
	int missing;     /* ... by uffd_register, so that a page may be missing; to ask for one maps it where none is */
	int extra[MOST]; /* handles of transient references, plus one */
	uint64_t frame;  /* the one that reclaim is to take */
	struct {
		uint64_t entry, frame; /* a pagemap entry, and the frame that it led to when it was made; 0: free */
	} writing[MOST];	       /* pages whose writing to the swap disk is to go on until the test says otherwise */
	char swap_off[64], swap_on[64]; /* which swap device is to be turned off and on after the test */
	struct {
		const char *path;
		char value[64];
	} setting[MOST]; /* changed settings of the machine, and what they were */
} *shared;
static int to[MOST], from[MOST]; /* ends of the sockets between the director and each process */
static int allowed;              /* --allow-host-settings */
static int silent;               /* --only-verdicts: a serial line costs as much as a step does */
static char *spare, *read_only;  /* memory of our own, not the test's */
static const char *lead = "";    /* what each line begins with */
static int step_number, unseen_step;
static uint64_t refused_steps, blocked_steps;
static int test_over; /* 1: a step is blocked; 2: it cannot be done here */
static long (*after_step)(void); /* UNSEEN if something went on behind the test's back */
static __thread sigjmp_buf back;
static __thread volatile sig_atomic_t guarded;
static volatile sig_atomic_t told_to_end, time_is_over;
static cpu_set_t home; /* the CPU on which all of this runs, but for operations at the same time */

/* "It cannot be seen here", and why. */
static long __attribute__((__format__(printf, 1, 2))) unseen(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(shared->reason, sizeof(shared->reason), format, list);
	va_end(list);
	return UNSEEN;
}

static void print_text(const char *text)
{
	putchar('"');
	for (; *text; text++)
		printf(*text == '"' || *text == '\\' ? "\\%c" : (unsigned char)*text < ' ' ? " " : "%c", *text);
	putchar('"');
}

static void end_soon(int number)
{
	told_to_end = number;
}

static void end_test(int number)
{
	time_is_over = number;
}

static void caught(int number)
{
	if (guarded)
		siglongjmp(back, number);
	_exit(128 + number);
}

/* Empty this CPU's batches of pages on their way to an LRU list: MADV_COLD begins with that (5.4); so do enough faults. */
static void drain(void)
{
	int i;

	if (madvise(spare, PAGE, 20 /* MADV_COLD */)) {
		for (i = 0; i < 64; i++)
			spare[i * PAGE] = 1;
		madvise(spare, 64 * PAGE, MADV_DONTNEED);
	}
}

/* A process does what it is told until it ends, or has been told nothing for longer than any test takes. */
static void serve(int number)
{
	struct request request;
	long answer;

	sched_setaffinity(0, sizeof(home), &home);
	while (recv(from[number], &request, sizeof(request), 0) == sizeof(request)) {
		answer = request.what(&request.args);
		drain();
		if (send(from[number], &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
			break;
	}
	_exit(0);
}

/* The process ends; act waits until its memory is gone. */
static long leave(const struct args *a)
{
	(void)a;
	_exit(0);
}

static long act(int process, action *what, struct args args)
{
	struct request request = { what, args };
	struct pollfd wait = { .events = POLLIN };
	long answer = 0;

	if (test_over == 2)
		return UNSEEN;
	if (process == DIRECTOR)
		return what(&args);
	if (shared->gone[process] == YES)
		return -ESRCH;
	if (send(to[process], &request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
		return unseen("a process is gone");
	wait.fd = what == leave ? (int)syscall(SYS_pidfd_open, shared->pid[process], 0) : to[process];
	if (wait.fd < 0)
		return unseen("pidfd_open: %s", strerror(errno));
	if (poll(&wait, 1, 20000) != 1)
		return unseen("a step did not return within 20 seconds");
	if (what == leave) {
		close(wait.fd);
		shared->gone[process] = YES;
		return 0;
	}
	if (recv(to[process], &answer, sizeof(answer), 0) != sizeof(answer))
		return unseen("a process ended in the middle of a step");
	return answer;
}

static void print_step(const char *text, long answer)
{
	printf("%s{\"step\": %d, \"operation\": ", lead, step_number);
	print_text(text);
	if (answer == UNSEEN) {
		printf(", \"result\": \"not observable\", \"reason\": ");
		print_text(shared->reason);
	} else {
		printf(", \"result\": \"%s\"", answer == BLOCKED ? "blocked" : answer ? "refused" : "done");
		if (answer && answer != BLOCKED)
			printf(", \"error\": \"%s\"", strerror((int)-answer));
	}
	puts("}");
}

/*
 * An action on so many places or references (`parts`), one after the other, until one is refused; with `on`, it goes on
 * to the others. `by`: how it is done by that process. The first answer that is not 0, UNSEEN before any other.
 */
static long each_part(long (*by)(int, action *, struct args), int process, action *what, int parts, int on, struct args args)
{
	long answer, worst = 0;
	int i;

	for (i = 0; i < parts && (!worst || (on && worst != UNSEEN)); i++) {
		answer = by(process, what, args);
		worst = worst && answer != UNSEEN ? worst : answer;
		args.page++;
		args.other++;
		args.ref++;
	}
	return worst;
}

/* What came of a line of the test. */
static void tell(const char *text, long worst)
{
	if (!silent)
		print_step(text, worst);
	if (worst == UNSEEN) {
		test_over = 2;
		unseen_step = step_number;
	} else if (worst == BLOCKED) {
		test_over = 1;
		blocked_steps |= 1ULL << (step_number - 1);
	} else if (worst) {
		refused_steps |= 1ULL << (step_number - 1);
	}
}

/* One line of the test, done by a process as `each_part` says. */
static void step(int process, const char *text, action *what, int parts, int on, struct args args)
{
	long worst;

	step_number++;
	if (test_over)
		return;
	worst = each_part(act, process, what, parts, on, args);
	if (after_step && worst != UNSEEN && after_step())
		worst = UNSEEN;
	tell(text, worst);
}

/* Room for a place, with nothing mapped around it, so that it is a VMA of its own. */
static char *reserve(void)
{
	char *start = mmap(NULL, 3 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED) {
		perror("mmap");
		exit(4);
	}
	return (char *)(((uintptr_t)start + HUGE) & ~(HUGE - 1));
}

static void add_place(char *at, size_t length, size_t whole)
{
	place[places++] = (struct place){ .at = at, .length = length, .whole = whole };
}

/* The beginnings of a page, in args.flags. */
#define READ_ONLY 1
#define OF_ZERO 2

/* The first process maps a page; what fails here cannot be tested. */
static void map(action *what, struct args args)
{
	long answer = test_over ? 0 : act(0, what, args);

	if (!answer)
		return;
	if (answer != UNSEEN)
		unseen("a page cannot be mapped: %s", strerror((int)-answer));
	test_over = 2;
}

static int direct(int (*test)(void))
{
	struct timeval most = { .tv_sec = 2 * MOST_SECONDS };
	int pair[2], i;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	for (i = 0; i < MOST; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)) {
			perror("socketpair");
			return 4;
		}
		to[i] = pair[0];
		from[i] = pair[1];
		setsockopt(from[i], SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
	}
	return test();
}

/* The first process begins, with the places mapped so far. */
static void begin(void)
{
	pid_t pid = fork();

	if (!pid)
		serve(0);
	shared->pid[0] = pid;
}

/* Write a text to a file of /proc or /sys. */
static long put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	long answer = file < 0 || write(file, text, strlen(text)) < 0 ? -errno : 0;

	if (file >= 0)
		close(file);
	return answer;
}

/* A test by itself, in a group of processes that is gone afterwards. The exit status of its director. */
static int run(const char *name, int (*test)(void))
{
	int status = 0, ended = 0, i;
	pid_t director;

	memset(shared, 0, sizeof(*shared));
	printf("%s{\"test\": ", lead);
	print_text(name);
	puts("}");
	director = fork();
	if (!director)
		_exit(direct(test));
	setpgid(director, director);
	time_is_over = 0;
	alarm(MOST_SECONDS);
	while (!ended && !told_to_end && !time_is_over)
		ended = waitpid(director, &status, 0) == director;
	alarm(0);
	kill(-director, SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	for (i = 0; i < MOST && shared->setting[i].path; i++)
		put(shared->setting[i].path, shared->setting[i].value);
	if (*shared->swap_on) {
		swapoff(shared->swap_off);
		swapon(shared->swap_on, 0);
	}
	if (told_to_end)
		exit(128 + told_to_end);
	if (!ended || !WIFEXITED(status)) {
		unseen("the test did not come to its end");
		printf("%s{\"verdict\": \"not observable\", \"reason\": \"%s\"}\n", lead, shared->reason);
		return 4;
	}
	return WEXITSTATUS(status);
}

static void prepare(void)
{
	struct sigaction action = { .sa_handler = caught }, end = { .sa_handler = end_soon };
	struct sigaction over = { .sa_handler = end_test }; /* without SA_RESTART, so that waitpid returns */

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED) {
		perror("mmap");
		exit(4);
	}
	setvbuf(stdout, NULL, _IOLBF, 0); /* what is known stays known, and is not printed twice by who is forked */
	CPU_ZERO(&home);
	CPU_SET(sched_getcpu() < 0 ? 0 : sched_getcpu(), &home);
	sched_setaffinity(0, sizeof(home), &home);
	spare = mmap(NULL, 65 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	read_only = spare + 64 * PAGE;
	mprotect(read_only, PAGE, PROT_READ);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGALRM, &over, NULL);
}

//: touch
static int in_hugetlb(const char *at)
{
	int i;

	for (i = 0; i < places; i++)
		if (place[i].of_hugetlb && place[i].at <= at && at < place[i].at + place[i].length)
			return 1;
	return 0;
}

/*
 * One byte of memory: -EFAULT where it must not be touched, or the pool has no hugetlb page for it; BLOCKED where
 * userfaultfd would have to be asked, which says SIGBUS, too.
 */
static long touch(char *at, int *value, int writes)
{
	int number = sigsetjmp(back, 1);

	if (number) {
		guarded = 0;
		return number == SIGBUS && !in_hugetlb(at) ? BLOCKED : -EFAULT;
	}
	guarded = 1;
	if (writes)
		*(volatile char *)at = (char)*value;
	else
		*value = *(volatile unsigned char *)at;
	guarded = 0;
	return 0;
}

//: result
static long result(long returned)
{
	return returned < 0 ? -errno : 0;
}

//: pagemap
/* The /proc/PID/pagemap entry of an address: bit 63 present, 62 swapped, 55 soft-dirty, 0 to 54 the frame's number. */
static uint64_t pagemap(const char *at)
{
	uint64_t entry = 0;
	int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (file < 0 || pread(file, &entry, sizeof(entry), (uintptr_t)at / PAGE * sizeof(entry)) != sizeof(entry))
		entry = 0;
	if (file >= 0)
		close(file);
	return entry;
}

//: frame_at
static uint64_t frame_at(const char *at)
{
	uint64_t entry = pagemap(at);

	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

//: smaps_at
/* What /proc/self/smaps says of a VMA: Rss and AnonHugePages in kB, and VmFlags. */
struct smaps {
	unsigned long start, end, resident, huge;
	char mode[5], flags[512];
};

/* Of the VMA at this address; all of it is 0 where there is none. */
static struct smaps smaps_at(const char *at)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	struct smaps next = { 0 }, found = { 0 };
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx %4s", &next.start, &next.end, next.mode) == 3) {
			if (found.end)
				break;
			if (next.start <= (uintptr_t)at && (uintptr_t)at < next.end)
				found = next;
		} else if (found.end) {
			sscanf(line, "Rss: %lu kB", &found.resident);
			sscanf(line, "AnonHugePages: %lu kB", &found.huge);
			if (!strncmp(line, "VmFlags:", 8))
				strcpy(found.flags, line + 8);
		}
	}
	if (file)
		fclose(file);
	return found;
}

//: release
/* The kernel's release as a number: 6.15 is 615. */
static int release(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	uname(&name);
	return sscanf(name.release, "%d.%d", &major, &minor) == 2 ? major * 100 + minor : 0;
}

//: is_guard
/* What is there is a guard: bit 58 of pagemap, of 6.15. Those two of 6.13 and 6.14 are not seen. */
static int is_guard(const char *at)
{
	return pagemap(at) >> 58 & 1;
}

//: protection
static int protection(int is_read_only)
{
	return is_read_only ? PROT_READ : PROT_READ | PROT_WRITE;
}

//: small_page
/* An anonymous page that nobody has touched, or with OF_ZERO one that has been read. */
static long small_page(const struct args *a)
{
	char *at = place[a->page].at;
	int value;

	if (mmap(at, PAGE, protection(a->flags & READ_ONLY), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		return -errno;
	return a->flags & OF_ZERO ? touch(at, &value, 0) : 0;
}
//: zone_movable
/* Does the frame, or with 0 any, lie in ZONE_MOVABLE of some node? */
static int zone_movable(uint64_t pfn)
{
	FILE *file = fopen("/proc/zoneinfo", "re");
	unsigned long long spanned = 0, managed = 0, start = 0;
	char line[256];
	int here = 0, found = 0;

	while (file && !found && fgets(line, sizeof(line), file)) {
		if (strstr(line, ", zone "))
			here = strstr(line, " Movable") != NULL;
		sscanf(line, " spanned %llu", &spanned);
		sscanf(line, " managed %llu", &managed);
		if (here && sscanf(line, " start_pfn: %llu", &start) == 1)
			found = managed && (!pfn || (start <= pfn && pfn < start + spanned));
	}
	if (file)
		fclose(file);
	return found;
}

//: movable_page
/* The page declared last is to lie in ZONE_MOVABLE, from where user memory is taken first where there is such a zone. */
static void movable_place(void)
{
	place[places - 1].of_movable = 1;
}

static long movable_page(const struct args *a)
{
	(void)a;
	return zone_movable(0) ? 0 : unseen("no memory lies in ZONE_MOVABLE: boot with movablecore=256M");
}

//: get_text
static int get_text(const char *path, char *text, size_t size)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, text, size - 1);

	if (file >= 0)
		close(file);
	text[length < 0 ? 0 : length] = 0;
	return length >= 0;
}

//: set
/* Change a setting of the machine until the test is over; restore_settings puts it back. */
static long set(const char *path, const char *text)
{
	char old[64], *bracket;
	long answer;
	int i = 0;

	if (!get_text(path, old, sizeof(old)))
		return unseen("there is no %s", path);
	bracket = strchr(old, '['); /* always [madvise] never */
	if (bracket)
		memmove(old, bracket + 1, strlen(bracket));
	old[strcspn(old, "]\n")] = 0;
	if (!strcmp(old, text))
		return 0;
	if (!allowed)
		return unseen("%s is %s and would have to be %s: --allow-host-settings", path, old, text);
	answer = put(path, text);
	if (answer)
		return unseen("%s cannot be set: %s", path, strerror((int)-answer));
	while (i < MOST - 1 && shared->setting[i].path && strcmp(shared->setting[i].path, path))
		i++;
	if (!shared->setting[i].path) {
		shared->setting[i].path = path;
		strcpy(shared->setting[i].value, old);
	}
	return 0;
}

//: touch_all
/* The same for each page of a part that has many: the first one, at which tests look, decides. */
static long touch_all(const struct place *p, int value, int writes)
{
	long answer = touch(p->at, &value, writes);
	char *at;

	if (!answer)
		for_rest(at, p)
			touch(at, &value, writes);
	return answer;
}

//: store
static long store(const struct args *a)
{
	return touch_all(&place[a->page], a->value, 1);
}

//: load
static long load(const struct args *a)
{
	return touch_all(&place[a->page], 0, 0);
}

//: fork_child
static long fork_child(const struct args *a)
{
	pid_t pid = fork();

	if (!pid)
		serve(a->child);
	shared->pid[a->child] = pid < 0 ? 0 : pid;
	return result(pid);
}

//: monitored
static int monitored; /* this process's mappings are registered with the userfaultfd that its fork's event brought */
#define BROUGHT "the mapping is registered with the userfaultfd that the fork's event brought"

//: fork_told
#include <poll.h>

static volatile int forked;

/*
 * Reads the event of a fork, which brings the child's userfaultfd into our table of files, where it stays. There is none
 * if nothing is registered.
 */
static int read_event(void *file)
{
	struct pollfd wait = { .fd = *(int *)file, .events = POLLIN };
	struct uffd_msg message;
	int last;

	do {
		last = forked;
		if (poll(&wait, 1, last ? 0 : 10) == 1)
			return read(wait.fd, &message, sizeof(message)) == sizeof(message) ? 0 : 1;
	} while (!last);
	return 0;
}

/* fork waits until somebody has read of it: a task that shares our memory, so that it is no fork itself. */
static long fork_told(const struct args *a)
{
	static char stack[16 * PAGE] __attribute__((__aligned__(16)));
	int file = uffd_of(a->page), status = 0;
	pid_t reader, pid;

	if (monitored) /* whose events nobody reads */
		return unseen(BROUGHT);
	if (file < 0)
		return UNSEEN;
	forked = 0;
	reader = clone(read_event, stack + sizeof(stack), CLONE_VM | CLONE_FILES | SIGCHLD, &file);
	if (reader < 0)
		return unseen("clone: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		monitored = 1;
		serve(a->child);
	}
	forked = 1;
	shared->pid[a->child] = pid < 0 ? 0 : pid;
	if (waitpid(reader, &status, 0) != reader || status)
		return unseen("the event of the fork could not be read");
	return result(pid);
}

//: unmap
static long unmap(const struct args *a)
{
	struct place *p = &place[a->page];

	return result(munmap(p->at, p->length));
}

//: map_again
static long map_again(const struct args *a)
{
	struct place *p = &place[a->page];

	void *at = mmap(p->at, p->length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return result(at == MAP_FAILED ? -1 : 0);
}

//: covered
/* How many bytes a call covers: all of a whole huge page in the call for its first part, else the part. */
static unsigned long covered(const struct args *a)
{
	struct place *p = &place[a->page];

	return a->whole && !((uintptr_t)p->at % HUGE) ? p->whole : p->length;
}

//: advise
/* madvise(value); of a whole huge page at once */
static long advise(const struct args *a)
{
	struct place *p = &place[a->page];

	return result(madvise(p->at, covered(a), a->value));
}

//: populate
/* The faults of a load, or with a value of a store. EFAULT is the SIGBUS that userfaultfd answers faults with. */
static long populate(const struct args *a)
{
	struct place *p = &place[a->page];
	long answer = result(madvise(p->at, p->length, a->value ? 23 /* MADV_POPULATE_WRITE */ : 22));

	if (answer == -EINVAL && madvise(spare, PAGE, 22))
		return unseen("this kernel has no MADV_POPULATE_READ");
	return answer == -EFAULT && shared->watched && !is_guard(p->at) ? BLOCKED : answer;
}

//: tried
/*
 * A call by a task that shares our memory, and that is ended if it goes on trying. It returns an error number, or 0.
 */
static long tried(int (*call)(void *), void *given, const char *name)
{
	static char stack[16 * PAGE] __attribute__((__aligned__(16)));
	int status = 0, tries;
	pid_t task = clone(call, stack + sizeof(stack), CLONE_VM | CLONE_FILES | SIGCHLD, given);

	if (task < 0)
		return unseen("clone: %s", strerror(errno));
	for (tries = 0; tries < 2000; tries++) {
		if (waitpid(task, &status, WNOHANG))
			return WIFEXITED(status) ? -WEXITSTATUS(status) : unseen("%s was killed", name);
		usleep(1000);
	}
	kill(task, SIGKILL);
	waitpid(task, &status, 0);
	return BLOCKED;
}

//: guard
struct guard_range {
	char *at;
	size_t length;
	int advice;
};

static struct guard_range guards;

static int guard_there(void *unused)
{
	(void)unused;
	return madvise(guards.at, guards.length, guards.advice) ? errno : 0;
}

/* MADV_GUARD_INSTALL (102), which may go on trying where userfaultfd is, or MADV_GUARD_REMOVE (103), both of 6.13. */
static long guard(const struct args *a)
{
	guards.at = place[a->page].at;
	guards.length = covered(a);
	guards.advice = a->value;
	return shared->watched ? tried(guard_there, NULL, "MADV_GUARD_INSTALL") : -guard_there(NULL);
}

//: remote_store
#include <sys/uio.h>

/* A store to our own memory by process_vm_writev, which takes references of the pages while it copies. */
static long remote_store(const struct args *a)
{
	const struct place *p = &place[a->page];
	char value = (char)a->value, *at;
	struct iovec from = { &value, 1 }, to = { p->at, 1 };
	long answer = process_vm_writev(getpid(), &from, 1, &to, 1, 0) == 1 ? 0 : -errno;

	if (!answer)
		for_rest(at, p) {
			to.iov_base = at;
			if (process_vm_writev(getpid(), &from, 1, &to, 1, 0) != 1)
				break;
		}
	return answer;
}

//: move
/* mremap of the page to where the other one is. flags: further ones, or 0. */
static long move(const struct args *a)
{
	struct place *old = &place[a->page], *new = &place[a->other];
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (int)a->flags;

	if (mremap(old->at, old->length, old->length, flags, new->at) != new->at)
		return -errno;
	new->length = old->length;
	return 0;
}

//: protect
static long protect(const struct args *a)
{
	struct place *p = &place[a->page];

	return result(mprotect(p->at, covered(a), a->value));
}

//: clear_soft_dirty
static long clear_soft_dirty(const struct args *a)
{
	(void)a;
	spare[0] = 1;
	if (!(pagemap(spare) >> 55 & 1))
		return unseen("this kernel does not track soft-dirty pages");
	return put("/proc/self/clear_refs", "4");
}

//: file_page
/* A private mapping of a page of a file in memory, which holds the value. A store puts it into the page cache. */
static long file_page(const struct args *a)
{
	int file = (int)syscall(SYS_memfd_create, "page", 1U /* MFD_CLOEXEC */);
	char *at = place[a->page].at, value = (char)a->value;

	if (file < 0 || ftruncate(file, PAGE) || pwrite(file, &value, 1, 0) != 1)
		return unseen("memfd_create: %s", strerror(errno));
	if (mmap(at, PAGE, protection(a->flags & READ_ONLY), MAP_PRIVATE | MAP_FIXED, file, 0) != at)
		return -errno;
	close(file);
	return 0;
}

//: hugetlb_page
static const char *const hugetlb_pool = "/proc/sys/vm/nr_hugepages";

static void add_hugetlb_place(char *at)
{
	add_place(at, HUGE, HUGE);
	place[places - 1].of_hugetlb = 1;
}

/* A private mapping of a hugetlb page that nobody has touched; the pool has as many as a test can need. */
static long hugetlb_page(const struct args *a)
{
	char *at = place[a->page].at;
	long answer = set(hugetlb_pool, "32");

	if (answer)
		return answer;
	if (mmap(at, HUGE, protection(a->flags & READ_ONLY), MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, -1,
		 0) != at)
		return unseen("no hugetlb page can be mapped: %s", strerror(errno));
	return 0;
}

//: drain_hugetlb
/* The pool is left with the pages that are in use or reserved: with none for whoever has no reservation. */
static long drain_hugetlb(const struct args *a)
{
	(void)a;
	return set(hugetlb_pool, "0");
}

//: huge_mapped
#define NOT_COUNTED "smaps counts no PMD that a PROT_NONE mapping has (from 6.1 to 6.4)"

/*
 * Does a PMD map anonymous memory in the VMA at this address? UNKNOWN where nobody may access it and smaps counts less
 * than pagemap has, zero pages aside: its walk leaves out such PMDs then.
 */
static enum truth huge_mapped(const char *at)
{
	struct smaps here = smaps_at(at);
	unsigned long present = 0;
	const char *page;

	if (here.huge || strncmp(here.mode, "---", 3))
		return here.huge ? YES : NO;
	for (page = (const char *)here.start; page < (const char *)here.end; page += PAGE)
		present += pagemap(page) >> 63 && !(frame_flags(frame_at(page)) >> ZERO_PAGE & 1);
	return here.resident < present * (PAGE >> 10) ? UNKNOWN : NO;
}

//: huge_page
/* A huge page mapped by a PMD, which has been written to; with OF_ZERO the huge zero page. */
static long huge_page(const struct args *a)
{
	static const char *const enabled = "/sys/kernel/mm/transparent_hugepage/enabled";
	char *at = place[a->page].at, now[64];
	int value = 0;
	long answer;

	if (get_text(enabled, now, sizeof(now)) && strstr(now, "[always]"))
		answer = 0;
	else
		answer = set(enabled, "madvise");
	if (answer)
		return answer;
	if (mmap(at, HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != at)
		return -errno;
	if (madvise(at, HUGE, MADV_HUGEPAGE))
		return unseen("MADV_HUGEPAGE: %s", strerror(errno));
	answer = touch(at, &value, !(a->flags & OF_ZERO));
	if (!answer && !(a->flags & OF_ZERO) && huge_mapped(at) != YES)
		return unseen("the kernel had no huge page to give");
	return answer ? answer : result(mprotect(at, HUGE, protection(a->flags & READ_ONLY)));
}

//: userfaultfd_with
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#define TRACK_UNPOPULATED 1
#define TRACK_ASYNC 2
#define NOT_OFFERED (-2)

static uint64_t userfaultfd_features; /* those that the kernel has */
static int told_of_forks;	      /* the monitor is to be told of forks, and gets the child's userfaultfd */

/*
 * This process's userfaultfd with that tracking, whose faults end in SIGBUS instead of waiting for a monitor. NOT_OFFERED if
 * the kernel has none with it.
 */
static int userfaultfd_with(int tracking)
{
	static const uint64_t more[] = { 0, 1U << 13 /* UFFD_FEATURE_WP_UNPOPULATED */, 1U << 15 /* UFFD_FEATURE_WP_ASYNC */ };
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_SIGBUS };
	static struct { int file; pid_t owner; } made[3];
	int *file = &made[tracking].file;

	if (made[tracking].owner == getpid() && (*file > 0 || *file == NOT_OFFERED))
		return *file;
	made[tracking].owner = getpid();
	api.features |= more[tracking] | (told_of_forks ? UFFD_FEATURE_EVENT_FORK : 0);
	*file = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (*file < 0) {
		unseen("userfaultfd: %s", strerror(errno));
		return *file = -1;
	}
	if (ioctl(*file, UFFDIO_API, &api) || !(api.ioctls & 1ULL << _UFFDIO_REGISTER)) {
		int invalid = errno == EINVAL && !api.ioctls;

		close(*file);
		*file = tracking && invalid ? NOT_OFFERED : -1;
		if (*file == -1)
			unseen("this kernel has no userfaultfd write-protect");
	}
	userfaultfd_features = api.features;
	return *file;
}

//: uffd_of
/* That of a page; any, where nobody can be registered. */
static int uffd_of(int page)
{
	int file = userfaultfd_with(place[page].tracking);

	return file == NOT_OFFERED ? userfaultfd_with(0) : file;
}

//: register_page
/* Nobody is registered where the kernel has no such userfaultfd. */
static long register_page(int tracking, char *at, size_t length, uint64_t mode)
{
	struct uffdio_register range = { .range = { (uintptr_t)at, length }, .mode = mode };
	int file = userfaultfd_with(tracking);

	if (file < 0)
		return file == NOT_OFFERED ? 0 : UNSEEN;
	return ioctl(file, UFFDIO_REGISTER, &range) ? unseen("UFFDIO_REGISTER: %s", strerror(errno)) : 0;
}

//: watcher
static pid_t watcher[MOST]; /* who has registered the page's VMA: a child's is not */

//: watch_page
static long watch_page(const struct args *a)
{
	shared->watched = 1;
	watcher[a->page] = getpid();
	return register_page(place[a->page].tracking, place[a->page].at, place[a->page].whole, UFFDIO_REGISTER_MODE_WP);
}

//: uffd_protect
/* Write-protect the page, or with value 0 un-protect it. */
static long uffd_protect(const struct args *a)
{
	struct place *p = &place[a->page];
	struct uffdio_writeprotect change = {
		.range = { (uintptr_t)p->at, a->whole ? p->whole : p->length },
		.mode = a->value ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int file = uffd_of(a->page);

	return file < 0 ? UNSEEN : result(ioctl(file, UFFDIO_WRITEPROTECT, &change));
}

//: track
/* What the userfaultfd has with which the page, or all of a huge page, is registered. */
static void track(int page, int tracking)
{
	int i;

	for (i = 0; i < places; i++)
		if (((uintptr_t)place[i].at & ~(HUGE - 1)) == ((uintptr_t)place[page].at & ~(HUGE - 1)))
			place[i].tracking = tracking;
}

//: scan_pages
#include <sys/ioctl.h>

/* struct pm_scan_arg, of 6.7 */
struct scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, any_of, returned;
};
struct scanned {
	uint64_t start, end, categories;
};

#define SCAN_WP 1
#define SCAN_CHECK 2
#define WRITTEN 2 /* PAGE_IS_WRITTEN */

/* How many pages of the range are written; with SCAN_WP they are protected. Or -errno. */
static long scan_pages(const char *at, size_t length, int flags)
{
	struct scanned found[64];
	struct scan scan = {
		.size = sizeof(scan), .flags = flags | SCAN_CHECK, .start = (uintptr_t)at, .end = (uintptr_t)at + length,
		.vec = (uintptr_t)found, .vec_len = 64, .mask = WRITTEN, .returned = WRITTEN,
	};
	int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long answer = file < 0 ? -1 : ioctl(file, _IOWR('f', 16, struct scan), &scan), i, pages = 0;

	if (answer < 0)
		answer = -errno;
	for (i = 0; i < answer; i++)
		pages += (long)((found[i].end - found[i].start) / PAGE);
	if (file >= 0)
		close(file);
	return answer < 0 ? answer : pages;
}

//: pagemap_scan
static long pagemap_scan(const struct args *a)
{
	const struct place *p = &place[a->page];
	long answer = scan_pages(p->at, a->whole ? p->whole : p->length, SCAN_WP);

	return answer < 0 ? answer : 0;
}

//: look_written
static long look_written(const struct args *a)
{
	shared->fact.written = scan_pages(place[a->page].at, PAGE, 0) > 0 ? YES : NO;
	return 0;
}

//: is_written
static enum truth is_written(int process, int page)
{
	if (absent(process))
		return NO;
	return act(process, look_written, (struct args){ .page = page }) ? UNKNOWN : shared->fact.written;
}

//: modes_of
/* With which modes the VMA is registered, as bits of UFFDIO_REGISTER. */
static uint64_t modes_of(const char *at)
{
	struct smaps here = smaps_at(at);

	return (strstr(here.flags, " um") ? UFFDIO_REGISTER_MODE_MISSING : 0) |
	       (strstr(here.flags, " uw") ? UFFDIO_REGISTER_MODE_WP : 0);
}

//: uffd_continue
/* The page is registered for minor faults at this moment only. */
static long uffd_continue(const struct args *a)
{
	struct place *p = &place[a->page];
	struct uffdio_range range = { (uintptr_t)p->at, PAGE };
	struct uffdio_continue page = { .range = range };
	struct uffdio_writeprotect again = { .range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP };
	int protected = pagemap(p->at) >> 57 & 1; /* which is said from 5.14 on, as is what is asked for here */
	uint64_t modes = modes_of(p->at);
	/* From 7.3 on a registration that leaves write-protect out is refused where there was one with it. */
	long answer = register_page(p->tracking, p->at, PAGE, 4 /* UFFDIO_REGISTER_MODE_MINOR */ | modes);

	if (answer) /* that of a file in memory it can register */
		return errno == EINVAL && userfaultfd_features & 1U << 10 /* UFFD_FEATURE_MINOR_SHMEM */ ? -EINVAL : answer;
	answer = result(ioctl(uffd_of(a->page), UFFDIO_CONTINUE, &page));
	/* To register for less changes nothing up to 7.2; to unregister takes write-protection away. */
	if (ioctl(uffd_of(a->page), UFFDIO_UNREGISTER, &range) || (modes && register_page(p->tracking, p->at, PAGE, modes)))
		return UNSEEN;
	if (answer && protected && ioctl(uffd_of(a->page), UFFDIO_WRITEPROTECT, &again))
		return unseen("UFFDIO_WRITEPROTECT: %s", strerror(errno));
	return answer;
}

//: uffd_register
/* Register the page, or all of a huge page, for the mode in value; with 0 unregister it. */
static long uffd_register(const struct args *a)
{
	struct place *p = &place[a->page];
	struct uffdio_register change = { .range = { (uintptr_t)p->at, a->whole ? p->whole : p->length } };
	int file = uffd_of(a->page);
	long answer;

	if (a->value && userfaultfd_with(p->tracking) == NOT_OFFERED)
		return -EINVAL;
	if (file < 0)
		return UNSEEN;
	shared->watched = shared->missing = 1;
	change.mode = a->value;
	answer = result(ioctl(file, a->value ? UFFDIO_REGISTER : UFFDIO_UNREGISTER, &change));
	if (monitored && (answer == -EBUSY || answer == -EINVAL))
		return unseen(BROUGHT);
	return answer;
}

//: uffd_fill
#define COPY 1	     /* in args.flags: UFFDIO_COPY, else UFFDIO_ZEROPAGE */
#define PROTECTED 2 /* with UFFDIO_COPY_MODE_WP */

/* One page that holds the value, or zeros, where nothing is. */
static long fill(const struct args *a, char *at)
{
	static char content[PAGE] __attribute__((__aligned__(4096)));
	struct uffdio_zeropage zeros = { .range = { (uintptr_t)at, PAGE } };
	struct uffdio_copy copy = {
		.dst = (uintptr_t)at, .src = (uintptr_t)content, .len = PAGE,
		.mode = a->flags & PROTECTED ? UFFDIO_COPY_MODE_WP : 0,
	};

	content[0] = (char)a->value;
	return result(a->flags & COPY ? ioctl(uffd_of(a->page), UFFDIO_COPY, &copy) :
					ioctl(uffd_of(a->page), UFFDIO_ZEROPAGE, &zeros));
}

/* The same for each page of a part that has many: the first one decides. */
static long uffd_fill(const struct args *a)
{
	const struct place *p = &place[a->page];
	long answer = uffd_of(a->page) < 0 ? UNSEEN : fill(a, p->at);
	char *at;

	if (!answer)
		for_rest(at, p)
			fill(a, at);
	return answer;
}

//: uffd_move
static struct uffd_range { uint64_t to, from, length, mode; int64_t moved; } uffd_range;

static int move_there(void *file)
{
	return ioctl(*(int *)file, _IOWR(UFFDIO, 5, uffd_range), &uffd_range) ? errno : 0;
}

/* UFFDIO_MOVE, of 6.8, of the page to where the other one is. It may go on trying. */
static long uffd_move(const struct args *a)
{
	int file = uffd_of(a->other);

	if (file < 0)
		return UNSEEN;
	uffd_range.to = (uintptr_t)place[a->other].at;
	uffd_range.from = (uintptr_t)place[a->page].at;
	uffd_range.length = place[a->page].length;
	return tried(move_there, &file, "UFFDIO_MOVE");
}

//: uffd_bit
/* The userfaultfd bit of what is at this address: pagemap has it (bit 57) since 5.14, and the probe on each kernel. */
static enum truth uffd_bit(const char *at)
{
	struct gp_page page = { .addr = (uintptr_t)at };

	if (release() >= 514)
		return pagemap(at) >> 57 & 1 ? YES : NO;
	if (probe < 0 || ioctl(probe, GP_PAGE, &page) || !(page.known & GP_KNOWN_UFFD_WP))
		return UNKNOWN;
	return page.pte & GP_PTE_UFFD_WP ? YES : NO;
}

//: force_store
/* FOLL_FORCE: a store to our own memory through /proc/self/mem, which asks for no permission of the VMA. */
static long force_store(const struct args *a)
{
	int file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	const struct place *p = &place[a->page];
	char value = (char)a->value, *at;
	enum truth bit = NO;
	int missing;
	long answer;

	if (file < 0)
		return unseen("/proc/self/mem: %s", strerror(errno));
	if (pwrite(file, &value, 1, (uintptr_t)read_only) != 1)
		answer = unseen("this kernel refuses forced writes through /proc/self/mem");
	else
		answer = pwrite(file, &value, 1, (uintptr_t)p->at) == 1 ? 0 : -errno;
	if (!answer)
		for_rest(at, p)
			if (pwrite(file, &value, 1, (uintptr_t)at) != 1)
				break;
	close(file);
	if (is_guard(p->at))
		return answer;
	if (answer && answer != UNSEEN && shared->watched && !touch(p->at, &missing, 0))
		bit = uffd_bit(p->at);
	else if (answer && answer != UNSEEN && shared->watched && !msync(p->at, PAGE, MS_ASYNC))
		bit = YES; /* a page is missing, of what is mapped */
	if (bit == UNKNOWN)
		return unseen("nobody says whether userfaultfd refused the forced write; the module gup_probe does");
	return bit ? BLOCKED : answer;
}

//: taken
/* May memory at this address be written to, as far as its VMA goes? */
static int in_writable_vma(const char *at)
{
	return smaps_at(at).mode[1] == 'w';
}

/*
 * A reference was taken, or was not. A ring's or pipe's page is the one that is mapped right after. `writes`: for
 * writing, which a mapping that is not writable refuses before it looks for a page; `forced`: but for FOLL_FORCE. Where
 * the bit of userfaultfd is not known, a store raises the same fault, and says who refused it. Amid others one of them may
 * have taken the bit away by now.
 */
static long taken(const struct args *a, long answer, int held, int writes, int forced)
{
	struct reference *r = &shared->ref[a->ref];
	enum truth bit;
	int value;

	if (answer == -EFAULT && is_guard(place[a->page].at))
		return answer;
	if (answer == -EFAULT && shared->missing && (!writes || forced || in_writable_vma(place[a->page].at)) &&
	    touch(place[a->page].at, &value, 0) == BLOCKED)
		return BLOCKED; /* a page is missing */
	if (answer == -EFAULT && shared->watched && ((writes && forced) || in_writable_vma(place[a->page].at))) {
		bit = uffd_bit(place[a->page].at);
		if (bit == YES || (bit == NO && shared->at_once) ||
		    (bit == UNKNOWN && !touch(place[a->page].at, &value, 0) &&
		     touch(place[a->page].at, &value, 1) == BLOCKED))
			return BLOCKED;
	}
	if (answer)
		return answer;
	r->held = held;
	r->at = place[a->page].at;
	r->pfn = held == IN_PROBE ? 0 : frame_at(r->at);
	return 0;
}

//: fault_rest
/* Of a part that has many pages one is referenced; the others get the faults that this takes, and keep what they hold. */
static void fault_rest(const struct place *p, int writes)
{
	char *at;
	int value;

	for_rest(at, p)
		if (!touch(at, &value, 0) && writes)
			touch(at, &value, 1);
}

//: take_into_pipe
/* FOLL_GET for reading: a pipe buffer that is the page itself. */
static long take_into_pipe(const struct args *a)
{
	struct iovec page = { place[a->page].at, PAGE };
	ssize_t moved = vmsplice(pipes[a->ref][1], &page, 1, SPLICE_F_NONBLOCK);
	long answer = taken(a, moved == (ssize_t)PAGE ? 0 : moved < 0 ? -errno : -EFAULT, IN_PIPE, 0, 0);

	if (!answer)
		fault_rest(&place[a->page], 0);
	return answer;
}

//: pipe_for
static int pipes[MOST][2];

/* Before the first process begins, so that the pipe outlives them all. */
static void pipe_for(int ref)
{
	if (pipe2(pipes[ref], O_NONBLOCK)) {
		perror("pipe");
		exit(4);
	}
}

//: ring_for
#include <linux/io_uring.h>

static struct ring {
	int file, error;
	struct io_uring_params about;
	char *submissions, *completions;
	struct io_uring_sqe *entries;
} rings[MOST];

/* An io_uring for one registered buffer, made before the first process begins, so that it outlives them all. */
static void ring_for(int ref)
{
	struct ring *r = &rings[ref];

	r->file = (int)syscall(SYS_io_uring_setup, 2, &r->about);
	r->error = r->file < 0 ? errno : 0;
}

//: take_into_ring
/* FOLL_PIN | FOLL_WRITE | FOLL_LONGTERM: a registered buffer of io_uring. */
static long take_into_ring(const struct args *a)
{
	struct iovec page = { place[a->page].at, PAGE };
	struct ring *r = &rings[a->ref];
	long answer;

	if (r->error)
		return unseen("io_uring_setup: %s", strerror(r->error));
	answer = result(syscall(SYS_io_uring_register, r->file, IORING_REGISTER_BUFFERS, &page, 1));
	if ((answer == -ENOMEM && !place[a->page].of_movable) || answer == -EPERM)
		return unseen("a registered buffer: %s", strerror((int)-answer));
	answer = taken(a, answer, IN_RING, 1, 0);
	if (!answer)
		fault_rest(&place[a->page], 1);
	return answer;
}

//: transfer
/* The device's side of a registered buffer: `opcode` between its first byte and a file's. */
static long transfer(int ref, int opcode, int file)
{
	struct reference *reference = &shared->ref[ref];
	struct ring *r = &rings[ref];
	struct io_uring_params *p = &r->about;
	struct io_uring_cqe *done;
	unsigned int *tail, *head;

	if (!r->entries) {
		r->submissions = mmap(NULL, p->sq_off.array + p->sq_entries * sizeof(unsigned int), PROT_READ | PROT_WRITE,
				      MAP_SHARED, r->file, IORING_OFF_SQ_RING);
		r->completions = mmap(NULL, p->cq_off.cqes + p->cq_entries * sizeof(*done), PROT_READ | PROT_WRITE,
				      MAP_SHARED, r->file, IORING_OFF_CQ_RING);
		r->entries = mmap(NULL, p->sq_entries * sizeof(*r->entries), PROT_READ | PROT_WRITE, MAP_SHARED, r->file,
				  IORING_OFF_SQES);
		if (r->submissions == MAP_FAILED || r->completions == MAP_FAILED || r->entries == MAP_FAILED)
			return unseen("io_uring: %s", strerror(errno));
	}
	tail = (unsigned int *)(r->submissions + p->sq_off.tail);
	memset(r->entries, 0, sizeof(*r->entries));
	r->entries[0].opcode = (uint8_t)opcode;
	r->entries[0].fd = file;
	r->entries[0].addr = (uintptr_t)reference->at;
	r->entries[0].len = 1;
	((unsigned int *)(r->submissions + p->sq_off.array))[*tail & (p->sq_entries - 1)] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->file, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
		return unseen("io_uring_enter: %s", strerror(errno));
	head = (unsigned int *)(r->completions + p->cq_off.head);
	done = (struct io_uring_cqe *)(r->completions + p->cq_off.cqes) + (*head & (p->cq_entries - 1));
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return done->res == 1 ? 0 : unseen("io_uring: %s", strerror(-done->res));
}

static int scratch_file(void)
{
	int file = (int)syscall(SYS_memfd_create, "device", 1U /* MFD_CLOEXEC */);

	if (file < 0)
		unseen("memfd_create: %s", strerror(errno));
	return file;
}

//: probe
#include <linux/ioctl.h>
#include <linux/types.h>
#include <sys/ioctl.h>
@HEADER@
static int probe = -1;

/* Opened before the first process begins: references belong to the open file, and outlive who took them. */
static void open_probe(void)
{
	probe = open("/dev/gup_probe", O_RDWR | O_CLOEXEC);
	/* It would refuse what it does not know, as the kernel refuses other things. */
	if (probe >= 0 && ioctl(probe, GP_SAME)) {
		fputs("# gup_probe is of another version: its module has to be built anew (docs/kernels.md)\n", stderr);
		close(probe);
		probe = -1;
	}
}

//: without_probe
static long without_probe(const char *what)
{
	return unseen("nothing in user space holds %s; the module gup_probe does, of this version (docs/kernels.md)", what);
}

//: take_by_probe
/* flags: as of GP_TAKE. */
static long take_by_probe(const struct args *a)
{
	const struct place *p = &place[a->page];
	struct gp_take take = { .addr = (uintptr_t)p->at, .flags = (uint32_t)a->flags }, rest = take;
	struct gp_handle handle = { 0 };
	struct gp_page page = { 0 };
	long answer;
	char *at;

	if (probe < 0)
		return without_probe("such a reference");
	answer = taken(a, result(ioctl(probe, GP_TAKE, &take)), IN_PROBE, (a->flags & GP_WRITE) != 0,
		       (a->flags & GP_FORCE) != 0);
	if (answer)
		return answer;
	for_rest(at, p) { /* as fault_rest does */
		rest.addr = (uintptr_t)at;
		if (ioctl(probe, GP_TAKE, &rest))
			break;
		handle.handle = rest.handle;
		ioctl(probe, GP_DROP, &handle);
	}
	page.handle = shared->ref[a->ref].handle = take.handle;
	shared->ref[a->ref].pfn = !ioctl(probe, GP_REF, &page) && page.known & GP_KNOWN_PAGE ? page.pfn : frame_at(p->at);
	return 0;
}

//: extra_of
/* The handle of the transient reference to the page at this address, plus one. */
static int *extra_of(const char *at)
{
	struct gp_page page = { 0 };
	int i;

	for (i = 0; i < MOST; i++) {
		page.handle = shared->extra[i] - 1;
		if (page.handle >= 0 && !ioctl(probe, GP_REF, &page) && same_frame(page.pfn, frame_at(at)))
			return &shared->extra[i];
	}
	return NULL;
}

//: hold
/* A transient reference, as a CPU's LRU batch has. One page has one. */
static long hold(const struct args *a)
{
	struct gp_at at = { .addr = (uintptr_t)place[a->page].at };
	int i;

	if (probe < 0)
		return without_probe("a page for a moment");
	for (i = 0; i < MOST && shared->extra[i]; i++)
		;
	if (i == MOST)
		return unseen("more pages are held for a moment than there is room for");
	if (extra_of(place[a->page].at))
		return -EBUSY;
	if (ioctl(probe, GP_HOLD, &at))
		return -errno;
	shared->extra[i] = at.handle + 1;
	return 0;
}

//: let_go
static long let_go(const struct args *a)
{
	struct gp_handle handle = { 0 };
	int *extra;

	if (probe < 0)
		return without_probe("a page for a moment");
	extra = frame_at(place[a->page].at) ? extra_of(place[a->page].at) : NULL;
	if (!extra)
		return -ENOENT;
	handle.handle = *extra - 1;
	*extra = 0;
	return result(ioctl(probe, GP_DROP, &handle));
}

//: device_store
/* The device stores a byte into the page: the director does it, for processes may be gone. */
static long device_store(const struct args *a)
{
	char value = (char)a->value;
	long answer = -EBADF;
	int file;

	if (shared->ref[a->ref].held == IN_RING) {
		file = scratch_file();
		if (file < 0)
			return UNSEEN;
		if (pwrite(file, &value, 1, 0) == 1)
			answer = transfer(a->ref, IORING_OP_READ_FIXED, file);
		close(file);
	}
	return answer;
}

//: device_store_by_probe
static long device_store_by_probe(const struct args *a)
{
	struct gp_byte byte = { .handle = shared->ref[a->ref].handle, .value = (uint8_t)a->value };

	return shared->ref[a->ref].held == IN_PROBE ? result(ioctl(probe, GP_POKE, &byte)) : -EBADF;
}

//: drop_pipe
static long drop_pipe(const struct args *a)
{
	char page[PAGE];

	if (shared->ref[a->ref].held != IN_PIPE)
		return -EBADF;
	shared->ref[a->ref].held = NOTHING;
	return result(read(pipes[a->ref][0], page, sizeof(page)));
}

//: drop_ring
static long drop_ring(const struct args *a)
{
	if (shared->ref[a->ref].held != IN_RING)
		return -EBADF;
	shared->ref[a->ref].held = NOTHING;
	return result(syscall(SYS_io_uring_register, rings[a->ref].file, IORING_UNREGISTER_BUFFERS, NULL, 0));
}

//: drop_probe
static long drop_probe(const struct args *a)
{
	struct gp_handle handle = { .handle = shared->ref[a->ref].handle };

	if (shared->ref[a->ref].held != IN_PROBE)
		return -EBADF;
	shared->ref[a->ref].held = NOTHING;
	return result(ioctl(probe, GP_DROP, &handle));
}

//: frame_flags
#define LARGE (3UL << 15) /* in kpageflags: part of a large folio */
#define SWAP_BACKED (1UL << 14)
#define ANONYMOUS (1UL << 12)
#define THP 22
#define ZERO_PAGE 24
#define KSM_PAGE 21
#define DIRTY 4

/* /proc/kpageflags of a frame (bit 8 under writeback), or nothing without privileges. */
static uint64_t frame_flags(uint64_t frame)
{
	int file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags = 0;

	if (file < 0 || pread(file, &flags, sizeof(flags), (off_t)(frame * sizeof(flags))) != sizeof(flags))
		flags = 0;
	if (file >= 0)
		close(file);
	return flags;
}

//: under_writeback
static int under_writeback(uint64_t frame)
{
	return frame && frame_flags(frame) >> 8 & 1;
}

//: wait_for_writing
static long wait_for_writing(uint64_t frame)
{
	time_t last = time(NULL) + 15;

	while (under_writeback(frame)) {
		if (time(NULL) > last)
			return unseen("the writing of a page does not end");
		usleep(1000);
	}
	return 0;
}

//: writing_ended
static const char *const writing_ended = "the writing of a page ended before it was told to";

//: ram_swap
/* A block device in memory (the module brd): reads and writes of it are done when the call returns. */
#define RAM_DISK "/dev/ram0"

static int no_ram_swap;

/* Before the first process begins: all that is swapped out in this test goes to memory. */
static void ram_swap(void)
{
	struct {
		char boot[1024];
		uint32_t version, last, bad, rest[125];
		char unused[4096 - 1024 - 512 - 10], magic[10];
	} head = { .version = 1, .last = 1023, .magic = "SWAPSPACE2" };
	char swaps[1024], other[64] = "";
	int disk = allowed ? open(RAM_DISK, O_RDWR | O_CLOEXEC) : -1;

	if (disk < 0 || pwrite(disk, &head, sizeof(head), 0) != sizeof(head) || fsync(disk) ||
	    !get_text("/proc/swaps", swaps, sizeof(swaps)) || sscanf(swaps, "%*[^\n] %63s", other) != 1 || swapoff(other)) {
		no_ram_swap = 1;
	} else {
		strcpy(shared->swap_off, RAM_DISK);
		strcpy(shared->swap_on, other);
		no_ram_swap = swapon(RAM_DISK, 0) != 0;
	}
	if (disk >= 0)
		close(disk);
}

//: slow_swap
/*
 * A virtual machine has two slow disks for tests in which the writing of a page goes on. They may write so few bytes a
 * second together that one waits for what the other has written: the first is for swap, the second is to be kept busy.
 */
#define SLOW "/dev/vdb"
#define BUSY "/dev/vdc"
#define SLOW_LABEL "cow-gup-slow" /* of both: so that no other disk is written to */

static int busy_disk = -1;

/* Is the writing of each page that goes on still going on? */
static long still_writing(void)
{
	int i;

	for (i = 0; i < MOST; i++)
		if (shared->writing[i].frame && !under_writeback(shared->writing[i].frame))
			return unseen("%s", writing_ended);
	return 0;
}

static int slow_disk(const char *path)
{
	int disk = allowed ? open(path, O_RDWR | O_DIRECT | O_CLOEXEC) : -1;

	if (disk >= 0 && pread(disk, spare, PAGE, 0) == PAGE && !strcmp(spare + 1052 /* of struct swap_header */, SLOW_LABEL))
		return disk;
	if (disk >= 0)
		close(disk);
	return -1;
}

/* Before the first process begins: all that is swapped out in this test is written slowly. `stable`: "1", or "0". */
static void slow_swap(const char *stable)
{
	char swaps[1024], fast[64] = "";
	int disk = slow_disk(SLOW);

	after_step = still_writing;
	if (disk >= 0)
		close(disk);
	if (disk < 0 || put("/sys/block/vdb/queue/stable_writes", stable) || !get_text("/proc/swaps", swaps, sizeof(swaps)) ||
	    sscanf(swaps, "%*[^\n] %63s", fast) != 1 || swapoff(fast))
		return;
	strcpy(shared->swap_off, SLOW);
	strcpy(shared->swap_on, fast);
	if (!swapon(SLOW, 0))
		busy_disk = slow_disk(BUSY);
}

static long keep_busy(void)
{
	int i;

	if (busy_disk < 0)
		return unseen("there is no swap disk that is slow enough to see a page being written (docs/kernels.md)");
	for (i = 0; i < MOST; i++)
		if (shared->writing[i].frame)
			return 0; /* what is written now waits for that */
	return pwrite(busy_disk, spare, 2 * PAGE, PAGE) == 2 * PAGE ? 0 :
	       unseen("the slow disk cannot be kept busy: %s", strerror(errno));
}

//: writeback_end
/* The writing of the page that is mapped here, or that the swap entry leads to, ends. */
static long writeback_end(const struct args *a)
{
	uint64_t entry = pagemap(place[a->page].at), frame = frame_at(place[a->page].at);
	int i;

	for (i = 0; i < MOST; i++) {
		if (!shared->writing[i].frame ||
		    (entry >> 63 ? shared->writing[i].frame != frame : (shared->writing[i].entry ^ entry) & SWAP_ENTRY))
			continue;
		frame = shared->writing[i].frame;
		shared->writing[i].frame = 0;
		return under_writeback(frame) ? wait_for_writing(frame) : unseen("%s", writing_ended);
	}
	return -ENOENT;
}

//: SWAP_ENTRY
#define SWAP_ENTRY (1ULL << 62 | ((1ULL << 55) - 1)) /* of a pagemap entry: that it is one, and which */

//: pageout
#define PASSED_OVER (-5002)
#define WRITING 1 /* in args.flags: the writing of the page goes on afterwards */
#define TO_DISCARD 2 /* MADV_FREE was the last that was done to it */

/*
 * Reclaim has taken the page that was mapped here, in shared->frame. Unless it is to go on, its writing ends; it was not
 * begun if somebody refers to the page, which stays dirty then.
 */
static long taken_out(const struct args *a)
{
	uint64_t entry = pagemap(place[a->page].at);
	int i;

	if (a->flags & TO_DISCARD && entry >> 62 & 1)
		return unseen("the page was not discarded, and swapped by the next attempt of the same reclaim");
	if (!(a->flags & WRITING))
		return wait_for_writing(shared->frame);
	if (!under_writeback(shared->frame))
		return !(entry >> 62 & 1) || frame_flags(shared->frame) >> DIRTY & 1 ? 0 :
		       unseen("the page had no need to be written");
	for (i = 0; i < MOST - 1 && shared->writing[i].frame; i++)
		;
	shared->writing[i].entry = entry;
	shared->writing[i].frame = shared->frame;
	return 0;
}

/* Reclaim of the page that this process maps; refused if it is still mapped afterwards. */
static long pageout(const struct args *a)
{
	struct place *p = &place[a->page];
	uint64_t entry = pagemap(p->at), flags;

	shared->frame = frame_at(p->at);
	flags = shared->frame ? frame_flags(shared->frame) : 0;
	if (!(entry >> 63))
		return -ENOENT;
	if (madvise(p->at, p->length, 21 /* MADV_PAGEOUT */))
		return unseen("MADV_PAGEOUT: %s", strerror(errno));
	entry = pagemap(p->at);
	if (!(entry >> 63))
		return taken_out(a);
	if (!swap_space())
		return unseen("there is no swap device");
	if (flags >> ZERO_PAGE & 1)
		return -EBUSY;
	return entry >> 56 & 1 && !(flags & LARGE) ? -EBUSY : PASSED_OVER;
}

//: own_cgroup
/* What reclaim can do to pages of several processes: the test has a memory cgroup of its own, which is told to shrink. */
#define CGROUP "/sys/fs/cgroup/cow-gup-test"

static int in_cgroup;

static void own_cgroup(void)
{
	if (geteuid() || !allowed)
		return;
	mkdir(CGROUP, 0755);
	in_cgroup = !access(CGROUP "/memory.high", W_OK) && !put(CGROUP "/cgroup.procs", "0");
}

//: shrink
/*
 * Keep reclaim off the other pages of the test; with value 0 let it have them again. A VMA that maps the page to be taken is
 * not locked: it would be kept then, wherever else it is mapped. Another huge page is locked as a whole, for a VMA that ends
 * within it splits its PMD. What a slow disk would have to write first, all other memory, is locked for such a disk only:
 * with next to nothing on its lists 5.10 does not take a KSM page.
 */
static long keep_others(const struct args *a)
{
	char *target = place[a->page].at;
	struct place *p;

	if (!a->value)
		return result(munlockall());
	if (a->flags & WRITING)
		syscall(SYS_mlockall, MCL_CURRENT | 4 /* MCL_ONFAULT */);
	for (p = place; p < place + places; p++) {
		if (p->of_hugetlb) /* which no reclaim takes, and which mlock2 would fault in */
			continue;
		if (p->whole == HUGE && !((uintptr_t)p->at & (HUGE - 1)) && (target < p->at || target >= p->at + HUGE))
			syscall(SYS_mlock2, p->at, HUGE, 1U /* MLOCK_ONFAULT */);
		if (frame_at(p->at) == shared->frame)
			munlock(p->at, p->length);
		else
			syscall(SYS_mlock2, p->at, p->length, 1U);
	}
	return 0;
}

static void each_process(action *what, struct args args)
{
	int i;

	if (args.flags & WRITING)
		act(DIRECTOR, what, args);
	for (i = 0; i < MOST; i++)
		if (!absent(i))
			act(i, what, args);
}

/*
 * Reclaim by the cgroup, which minds who else maps the page no more than any other reclaim. It makes several attempts: what
 * the first one does not discard after MADV_FREE is a page as any other for the next one.
 */
static long shrink(int process, struct args args)
{
	uint64_t was = frame_flags(shared->frame);
	int tries, i;

	for (i = 0; args.flags & WRITING && i < places; i++)
		if (place[i].of_hugetlb)
			return unseen("all other memory is locked for a slow disk, which faults hugetlb pages in");
	if (!in_cgroup)
		return unseen("MADV_PAGEOUT passes over pages of several processes, and there is no memory cgroup to shrink");
	args.value = 1;
	each_process(keep_others, args);
	for (tries = 0; tries < 60; tries++) {
		if (put(CGROUP "/memory.reclaim", "512K") == -ENOENT) {
			set(CGROUP "/memory.high", "128K");
			put(CGROUP "/memory.high", "max");
		}
		if (act(process, look, args) || shared->fact.mapped != YES || (frame_flags(shared->frame) & ~was & SWAP_BACKED))
			break;
	}
	args.value = 0;
	each_process(keep_others, args);
	if (was && !(was & SWAP_BACKED))
		args.flags |= TO_DISCARD;
	return shared->fact.mapped == YES ? -EBUSY : act(process, taken_out, args);
}

//: page_out
/* Reclaim of the page that process `child` maps. A large folio that it passes over is split first, if it can be. */
static long page_out(const struct args *a)
{
	struct args by = *a;
	long answer = act(a->child, pageout, *a);

	if (answer == PASSED_OVER && frame_flags(shared->frame) & LARGE) {
		by.value = 1;
		answer = act(a->child, split_folio, by);
		answer = answer ? answer : act(a->child, pageout, *a);
	}
	return answer == PASSED_OVER ? shrink(a->child, *a) : answer;
}

//: page_out_sync
static long page_out_sync(const struct args *a)
{
	return no_ram_swap ? unseen("there is no swap device in memory: the module brd makes one (docs/kernels.md)") : page_out(a);
}

//: page_out_writing
static long page_out_writing(const struct args *a)
{
	long answer = keep_busy();

	return answer ? answer : page_out(a);
}

//: page_out_here
/* Reclaim of the page that this process maps, as page_out does it for one that nobody else uses. */
static long page_out_here(const struct args *a)
{
	long answer = pageout(a);

	return answer == PASSED_OVER ? unseen("reclaim passed the page over") : answer;
}

//: swap_space
#include <sys/sysinfo.h>

static unsigned long swap_space(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : info.freeswap * info.mem_unit / PAGE;
}

//: wait_for_scans
/* Wait until a kernel thread, by its counter, has gone over all memory that it looks at so many times. */
static long wait_for_scans(const char *counter, long number)
{
	char text[64];
	long first = get_text(counter, text, sizeof(text)) ? atol(text) : 0;
	int tries;

	for (tries = 0; tries < 2000; tries++) {
		if (get_text(counter, text, sizeof(text)) && atol(text) >= first + number)
			return 0;
		usleep(2000);
	}
	return unseen("%s does not rise", counter);
}

//: wait_for_end_of_scans
static void wait_for_end_of_scans(const char *counter)
{
	char text[2][64] = { "" };
	int still = 0, tries;

	for (tries = 0; still < 5 && tries < 200; tries++) {
		get_text(counter, text[tries % 2], sizeof(text[0]));
		still = strcmp(text[0], text[1]) ? 0 : still + 1;
		usleep(2000);
	}
}

//: map_one_page
/* Both map the same page, which is no page of a file and not the zero page. */
static int map_one_page(const struct place *p, const struct place *q)
{
	return frame_at(p->at) == frame_at(q->at) && frame_flags(frame_at(p->at)) & ANONYMOUS;
}

//: merge
#define KSM "/sys/kernel/mm/ksm/"

/* Let ksmd look at the two pages, and at nothing else of this process, until it has had time to merge them. */
static long merge(const struct args *a)
{
	struct place *p = &place[a->page], *q = &place[a->other];
	long answer;

	if (madvise(p->at, PAGE, MADV_MERGEABLE) || madvise(q->at, PAGE, MADV_MERGEABLE))
		return errno == ENOMEM ? -ENOMEM : unseen("MADV_MERGEABLE: %s", strerror(errno));
	if (!(pagemap(p->at) >> 63) || !(pagemap(q->at) >> 63))
		return -ENOENT;
	if (!frame_at(p->at) || !frame_flags(frame_at(p->at)))
		return unseen("without page frame numbers nobody knows what ksmd did");
	if (!(frame_flags(frame_at(p->at)) & frame_flags(frame_at(q->at)) & ANONYMOUS))
		return -EBUSY;
	if (p == q) /* nothing to merge, though ksmd would find other parts of its block that are mergeable */
		return 0;
	if (!access(KSM "smart_scan", F_OK)) /* from 6.7 on pages that were looked at in vain are passed over for a while */
		set(KSM "smart_scan", "0");
	answer = set(KSM "sleep_millisecs", "1");
	answer = answer ? answer : set(KSM "pages_to_scan", "1000");
	answer = answer ? answer : set(KSM "run", "1");
	if (answer)
		return answer;
	answer = wait_for_scans(KSM "full_scans", 4);
	put(KSM "run", "0");
	/* Splitting a THP may have mapped the zero page in place of both. */
	return answer ? answer : map_one_page(p, q) ? 0 : -EBUSY;
}

//: migrate
#define MPOL_MF_MOVE_ALL 4

/* Move the page to another NUMA node, whoever maps it. */
static long migrate(const struct args *a)
{
	void *at = place[a->page].at;
	int node = -1, status = -EBUSY, other;

	if (!frame_at(at))
		return pagemap(at) >> 63 ? unseen("page frame numbers are for root") : -ENOENT;
	if (syscall(SYS_move_pages, 0, 1UL, &at, NULL, &node, 0))
		return unseen("the page's NUMA node is not known: %s", strerror(errno));
	if (node == -ENOENT)
		return unseen("move_pages does not find what a PROT_NONE mapping maps (from 6.1 to 6.4)");
	if (node < 0) /* the zero page */
		return node;
	for (other = 0; other < 2; other++) {
		if (other == node)
			continue;
		if (syscall(SYS_move_pages, 0, 1UL, &at, &other, &status, MPOL_MF_MOVE_ALL) < 0)
			return unseen("move_pages to node %d: %s", other, strerror(errno));
	}
	return status < 0 ? status : 0;
}

//: numa
/*
 * A NUMA hinting scan of the page; refused if it leaves it out. Balancing is on for that moment only, and moves nothing:
 * pages stay where they are with a memory policy that names a node. Scans go by whole VMAs: they do not split a PMD. Of
 * a part that has many pages the first one stands for all.
 */
static long numa(const struct args *a)
{
	static const char *const balancing = "/proc/sys/kernel/numa_balancing";
	struct place *p = &place[a->page];
	struct gp_range range = { .addr = (uintptr_t)p->at, .length = PAGE };
	unsigned long node = 1;
	char before[16];
	long answer;
	int value;

	if (p->whole == HUGE && mapped_by_pmd(p->at))
		range = (struct gp_range){ .addr = range.addr & ~(HUGE - 1), .length = HUGE };
	if (probe < 0)
		return unseen("NUMA balancing takes PTEs away when it likes; the module gup_probe does when told (docs/kernels.md)");
	if (!get_text(balancing, before, sizeof(before)))
		return unseen("this kernel has no NUMA balancing");
	if (syscall(SYS_set_mempolicy, 1 /* MPOL_PREFERRED */, &node, 8 * sizeof(node)))
		return unseen("set_mempolicy: %s", strerror(errno));
	answer = set(balancing, "1");
	if (answer)
		return answer;
	answer = result(ioctl(probe, GP_NUMA, &range));
	put(balancing, before);
	if (answer == -EOPNOTSUPP)
		return unseen("this kernel has no NUMA balancing");
	if (answer || !range.changed)
		return answer ? answer : -EBUSY;
	touch(p->at, &value, 0); /* which brings back what was taken away */
	return 0;
}

//: split_all
/* Split all large folios of the machine, but for those of the test that are not meant: a pipe holds them meanwhile.
 * Pages of the one that is meant may have been moved elsewhere. */
static long split_all(const struct place *meant)
{
	struct iovec page = { .iov_len = 1 };
	uint64_t frame, folio = frame_at(meant->at) / (HUGE / PAGE);
	int ends[2], i;
	long answer = pipe(ends) ? -errno : 0;

	if (answer)
		return answer;
	for (i = 0; i < places && !answer; i++) {
		frame = frame_at(place[i].at);
		page.iov_base = place[i].at;
		if (frame && frame / (HUGE / PAGE) != folio && frame_flags(frame) & LARGE &&
		    vmsplice(ends[1], &page, 1, SPLICE_F_NONBLOCK) != 1)
			answer = unseen("vmsplice: %s", strerror(errno));
	}
	answer = answer ? answer : put("/sys/kernel/debug/split_huge_pages", "1");
	close(ends[0]);
	close(ends[1]);
	return answer;
}

//: split_folio
/* Split the large folio at this page into pages; refused if it stays one. `value`: however it can be done. */
static long split_folio(const struct args *a)
{
	const struct place *p = &place[a->page];
	uint64_t frame = frame_at(p->at), flags;
	char range[96];
	long answer;

	if (!frame)
		return pagemap(p->at) >> 63 ? unseen("page frame numbers are for root") : -ENOENT;
	snprintf(range, sizeof(range), "%d,0x%lx,0x%lx", (int)getpid(), (unsigned long)p->at,
		 (unsigned long)(p->at + PAGE));
	answer = put("/sys/kernel/debug/split_huge_pages", range);
	/* Before 5.13 it has no other way; from 6.1 to 6.4 it does not find what a PROT_NONE mapping maps. */
	if (answer == -EINVAL || (a->value && allowed && frame_flags(frame) & LARGE))
		answer = allowed ? split_all(p) : -EPERM;
	if (answer == -ENOENT || answer == -EPERM || answer == -EACCES)
		return unseen("split_huge_pages in debugfs: %s", strerror((int)-answer));
	frame = frame_at(p->at);
	flags = frame ? frame_flags(frame) : 0;
	if (frame && !flags)
		return unseen("nobody knows whether it was split: /proc/kpageflags");
	return flags & LARGE ? -EBUSY : 0;
}

//: collapse
#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"

/* How many parts of huge pages a PMD maps, but of the one that begins at this address. */
static int huge_elsewhere(const char *at)
{
	int i, number = 0;

	for (i = 0; i < places; i++)
		number += place[i].whole == HUGE && (place[i].at < at || place[i].at >= at + HUGE) &&
			  huge_mapped(place[i].at) != NO;
	return number;
}

/* Make the pages a huge page: MADV_COLLAPSE (6.1), else khugepaged is let loose on them. */
static long collapse(const struct args *a)
{
	char *at = (char *)((uintptr_t)place[a->page].at & ~(HUGE - 1)), *page;
	long answer;
	int value, others;

	if (huge_mapped(at) == UNKNOWN)
		return unseen(NOT_COUNTED);
	if (huge_mapped(at))
		return 0;
	if (!madvise(at, HUGE, 25 /* MADV_COLLAPSE */))
		return huge_mapped(at) ? 0 : -EBUSY;
	answer = -errno;
	if (answer != -EINVAL || !madvise(at, 0, 25)) /* of no bytes it is invalid only where there is none */
		return answer;
	others = huge_elsewhere(at);
	for (page = at; page < at + HUGE; page += PAGE) /* up to 6.1 one must have been read lately */
		if (pagemap(page) >> 63)
			touch(page, &value, 0);
	answer = set(KHUGEPAGED "scan_sleep_millisecs", "1");
	answer = answer ? answer : set(KHUGEPAGED "pages_to_scan", "100000");
	answer = answer ? answer : set(KHUGEPAGED "max_ptes_shared", "511");
	if (answer)
		return answer;
	answer = wait_for_scans(KHUGEPAGED "full_scans", 3);
	/* It sleeps after the scan that this begins: else it would go on while the test does. */
	put(KHUGEPAGED "scan_sleep_millisecs", "600000");
	wait_for_end_of_scans(KHUGEPAGED "full_scans");
	if (huge_elsewhere(at) > others)
		return unseen("khugepaged has collapsed another huge page, too");
	return huge_mapped(at) ? 0 : answer ? answer : -EBUSY;
}

//: swapped
/* Is it on a swap device? Types of entries from 16 on are of none: migration, markers. Numbers are shown to root. */
static enum truth swapped(uint64_t entry)
{
	if (!(entry >> 62 & 1) || entry >> 58 & 1 /* a guard */)
		return NO;
	if (!(entry & ((1ULL << 55) - 1)))
		return shared->watched ? UNKNOWN : YES;
	return (entry & 31) < 16 ? YES : NO;
}

//: look
/* What /proc/self/pagemap knows of a page. */
static long look(const struct args *a)
{
	uint64_t entry = pagemap(place[a->page].at);

	spare[0] = 1;
	shared->fact = (struct fact){
		.mapped = entry >> 63 ? YES : NO,
		.on_swap = swapped(entry),
		.guarded = release() < 613 ? NO : release() < 615 ? UNKNOWN : entry >> 58 & 1 ? YES : NO,
		.is_soft_dirty = !(pagemap(spare) >> 55 & 1) ? UNKNOWN : entry >> 55 & 1 ? YES : NO,
		.pfn = frame_at(place[a->page].at),
	};
	return 0;
}

//: absent
/* It has ended, or was never forked, because the test stopped before. */
static int absent(int process)
{
	return shared->gone[process] == YES || !shared->pid[process];
}

//: seen
static enum truth seen(int process, int page)
{
	memset(&shared->fact, 0, sizeof(shared->fact));
	if (absent(process))
		return NO;
	return act(process, look, (struct args){ .page = page }) ? UNKNOWN : shared->fact.mapped;
}

//: same_frame
/* Are they one page? So are all zero pages, small and huge, and all parts of that: the model has one. */
static int same_frame(uint64_t one, uint64_t other)
{
	return one == other || (frame_flags(one) >> ZERO_PAGE & 1 && frame_flags(other) >> ZERO_PAGE & 1);
}

//: maps
/* Does the process map at `page` what the reference holds? */
static enum truth maps(int process, int page, int ref)
{
	enum truth present = seen(process, page);

	if (shared->ref[ref].held == NOTHING)
		return NO;
	if (present != YES)
		return present;
	return !shared->fact.pfn || !shared->ref[ref].pfn ? UNKNOWN : same_frame(shared->fact.pfn, shared->ref[ref].pfn);
}

//: add_huge_place
/* A huge page in `parts` parts, each a page but for one, which has all the rest. */
static void add_huge_place(char *at, int parts, int rest)
{
	int i;

	for (i = 0; i < parts; i++) {
		add_place(at, i == rest ? HUGE - (parts - 1) * PAGE : PAGE, HUGE);
		at += place[places - 1].length;
	}
}

//: map_same
/* Do they map the same page? */
static enum truth map_same(int process, int page, int other_process, int other_page)
{
	enum truth present = seen(process, page), other;
	uint64_t pfn = shared->fact.pfn;

	other = seen(other_process, other_page);
	if (present != YES || other != YES)
		return both(present, other);
	return !pfn || !shared->fact.pfn ? UNKNOWN : same_frame(pfn, shared->fact.pfn);
}

//: is_present
static enum truth is_present(int process, int page)
{
	return seen(process, page);
}

//: is_swapped
static enum truth is_swapped(int process, int page)
{
	return seen(process, page) == UNKNOWN ? UNKNOWN : shared->fact.on_swap;
}

//: is_guarded
static enum truth is_guarded(int process, int page)
{
	return seen(process, page) == UNKNOWN ? UNKNOWN : shared->fact.guarded;
}

//: page_flag
/* A bit of /proc/kpageflags of the page that the process maps there. */
static enum truth page_flag(int process, int page, int bit)
{
	enum truth there = seen(process, page);
	uint64_t flags = shared->fact.pfn ? frame_flags(shared->fact.pfn) : 0;

	if (there != YES)
		return there;
	return !flags ? UNKNOWN : flags >> bit & 1 ? YES : NO;
}

//: is_ksm
/* kpageflags of 6.12 calls every anonymous page one of KSM: it masks two bits of the mapping, of which one is set. */
static enum truth is_ksm(int process, int page)
{
	enum truth merged = page_flag(process, page, KSM_PAGE);

	spare[0] = 1;
	if (merged == YES && frame_flags(frame_at(spare)) >> KSM_PAGE & 1) {
		unseen("this kernel calls every anonymous page one of KSM");
		return UNKNOWN;
	}
	return merged;
}

//: is_zero
static enum truth is_zero(int process, int page)
{
	return page_flag(process, page, ZERO_PAGE);
}

//: is_movable
static enum truth is_movable(int process, int page)
{
	enum truth there = seen(process, page);

	if (there != YES)
		return there;
	return !shared->fact.pfn ? UNKNOWN : zone_movable(shared->fact.pfn) ? YES : NO;
}

//: is_exclusive
/*
 * PG_anon_exclusive has the number of PG_mappedtodisk, or PG_owner_2 later, which kpageflags shows as bit 34: of the
 * page in 6.1, of its folio's first page from 6.12 on, so that a part of a large folio is not told.
 */
static enum truth is_exclusive(int process, int page)
{
	enum truth large = either(page_flag(process, page, 15), page_flag(process, page, 16));

	if (seen(process, page) == YES && large == YES) {
		unseen("of a large folio PG_anon_exclusive is shown for one page");
		return UNKNOWN;
	}
	return both(page_flag(process, page, 12), page_flag(process, page, 34));
}

//: look_huge
static long look_huge(const struct args *a)
{
	shared->fact.huge = huge_mapped(place[a->page].at);
	return shared->fact.huge == UNKNOWN ? unseen(NOT_COUNTED) : 0;
}

//: is_huge
/* Does a PMD map it? The huge zero page, which only a PMD maps, is not among the anonymous memory that smaps counts. */
static enum truth is_huge(int process, int page)
{
	enum truth there = seen(process, page), counted;

	if (there != YES)
		return there;
	if (act(process, look_huge, (struct args){ .page = page }))
		return UNKNOWN;
	counted = shared->fact.huge;
	return either(counted, both(is_zero(process, page), page_flag(process, page, THP)));
}

//: look_protected
static long look_protected(const struct args *a)
{
	shared->fact.protected = uffd_bit(place[a->page].at);
	return 0;
}

//: is_uffd_wp
static enum truth is_uffd_wp(int process, int page)
{
	if (absent(process))
		return NO;
	return act(process, look_protected, (struct args){ .page = page }) ? UNKNOWN : shared->fact.protected;
}

//: soft_dirty
static enum truth soft_dirty(int process, int page)
{
	seen(process, page);
	return absent(process) ? NO : shared->fact.is_soft_dirty;
}

//: mapped_by_pmd
static int mapped_by_pmd(const char *at)
{
	uint64_t flags = frame_at(at) ? frame_flags(frame_at(at)) : 0;

	return huge_mapped(at) || (flags >> ZERO_PAGE & 1 && flags >> THP & 1);
}

//: try_store
/* Is the PTE writable? A store of what is there already raises no fault then. One that does changes all of a PMD. */
static long try_store(const struct args *a)
{
	struct rusage before, after;
	char *at = place[a->page].at;
	int value = 0, by_pmd, i;

	shared->fact.has_write = NO;
	if (place[a->page].was_read_only || touch(at, &value, 0))
		return 0;
	by_pmd = place[a->page].whole == HUGE && mapped_by_pmd(at);
	getrusage(RUSAGE_SELF, &before);
	if (!touch(at, &value, 1)) {
		getrusage(RUSAGE_SELF, &after);
		shared->fact.has_write = before.ru_minflt == after.ru_minflt ? YES : NO;
	}
	for (i = 0; by_pmd && shared->fact.has_write == NO && i < places; i++)
		if (((uintptr_t)place[i].at & ~(HUGE - 1)) == ((uintptr_t)at & ~(HUGE - 1)))
			place[i].was_read_only = 1;
	return 0;
}

//: writable
static enum truth writable(int process, int page)
{
	enum truth present = seen(process, page);

	if (present != YES)
		return present;
	return act(process, try_store, (struct args){ .page = page }) ? UNKNOWN : shared->fact.has_write;
}

//: load_value
static long load_value(const struct args *a)
{
	int value = 0;
	long answer = touch(place[a->page].at, &value, 0);

	return answer ? answer : value;
}

//: loads
/* Does a load by the process give this value? */
static enum truth loads(int process, int page, int value)
{
	long answer = absent(process) ? -EFAULT : act(process, load_value, (struct args){ .page = page });

	return answer == UNSEEN ? UNKNOWN : answer == value;
}

//: pipe_sees
/* Does the pipe's reader find this value? A second pipe gets the same buffer, so that the first one keeps it. */
static enum truth pipe_sees(int ref, int value)
{
	unsigned char found;
	int copy[2];
	enum truth same = UNKNOWN;

	if (shared->ref[ref].held == NOTHING)
		return NO;
	if (pipe2(copy, O_NONBLOCK))
		return UNKNOWN;
	if (tee(pipes[ref][0], copy[1], PAGE, SPLICE_F_NONBLOCK) > 0 && read(copy[0], &found, 1) == 1)
		same = found == value;
	close(copy[0]);
	close(copy[1]);
	return same;
}

//: ring_sees
/* Does the device load this value from the page? */
static enum truth ring_sees(int ref, int value)
{
	unsigned char found;
	enum truth same = UNKNOWN;
	int file;

	if (shared->ref[ref].held == NOTHING)
		return NO;
	file = scratch_file();
	if (file < 0)
		return UNKNOWN;
	if (!transfer(ref, IORING_OP_WRITE_FIXED, file) && pread(file, &found, 1, 0) == 1)
		same = found == value;
	close(file);
	return same;
}

//: probe_sees
static enum truth probe_sees(int ref, int value)
{
	struct gp_byte byte = { .handle = shared->ref[ref].handle };

	if (shared->ref[ref].held == NOTHING)
		return NO;
	return ioctl(probe, GP_PEEK, &byte) ? UNKNOWN : byte.value == value;
}

//: slots_used
static unsigned long swap_space_before;

/* Up to 6.13 a CPU takes 64 slots at once, and they all count as used. */
static int slots_are_cached(void)
{
	FILE *file = fopen("/proc/kallsyms", "re");
	char line[512];
	int found = 0;

	while (file && !found && fgets(line, sizeof(line), file))
		found = strstr(line, " free_swap_slot\n") != NULL;
	if (file)
		fclose(file);
	return !file || found;
}

static enum truth slots_used(unsigned long number)
{
	if (slots_are_cached()) {
		unseen("this kernel sets swap slots aside, and does not tell them from those in use");
		return UNKNOWN;
	}
	return swap_space_before - swap_space() == number;
}

//: was_refused
static enum truth was_refused(int number)
{
	return refused_steps >> (number - 1) & 1 ? YES : NO;
}

//: was_blocked
static enum truth was_blocked(int number)
{
	return blocked_steps >> (number - 1) & 1 ? YES : NO;
}

//: either
static enum truth either(enum truth x, enum truth y)
{
	return x == YES || y == YES ? YES : x == NO && y == NO ? NO : UNKNOWN;
}

//: both
static enum truth both(enum truth x, enum truth y)
{
	return x == NO || y == NO ? NO : x == YES && y == YES ? YES : UNKNOWN;
}

//: negated
static enum truth negated(enum truth x)
{
	return x == UNKNOWN ? UNKNOWN : x == NO ? YES : NO;
}

//: judge
#define ANY_STEPS (~0ULL)

/* How a test may end: the refused and the blocked steps (bit k - 1 is step k), and whether its condition is true. */
struct outcome {
	uint64_t refused, blocked;
	enum truth condition;
};

/* The last line of a test: 0 if it ended as one of `may`, 1 if not, 4 if that cannot be seen here. */
static int judge(enum truth condition, const struct outcome *may, int count)
{
	static const char *const word[] = { "false", "true", "null" };
	int i, status = count ? 1 : 0;

	if (test_over == 2) {
		printf("%s{\"verdict\": \"not observable\", \"step\": %d, \"reason\": ", lead, unseen_step);
		print_text(shared->reason);
		puts("}");
		return 4;
	}
	for (i = 0; i < count; i++)
		if (may[i].condition == condition && (may[i].refused == ANY_STEPS ||
		    (may[i].refused == refused_steps && may[i].blocked == blocked_steps)))
			status = 0;
	if (condition == UNKNOWN)
		status = 4;
	printf("%s{\"verdict\": \"%s\", \"condition\": %s, \"refused\": %llu, \"blocked\": %llu", lead,
	       status == 4 ? "not observable" : !count ? "observed" : status ? "not as predicted" : "as predicted",
	       word[condition], (unsigned long long)refused_steps, (unsigned long long)blocked_steps);
	if (status == 4) {
		if (!*shared->reason)
			unseen("page frame numbers, or what they are compared with, are not known");
		printf(", \"reason\": ");
		print_text(shared->reason);
	}
	puts("}");
	return status;
}

//: make_ready
static void print_release(void)
{
	struct utsname name;

	uname(&name);
	printf("%s{\"release\": ", lead);
	print_text(name.release);
	puts("}");
}

/* Exits with 2 for wrong arguments. */
static void make_ready(int count, char **arguments)
{
	int i;

	for (i = 1; i < count; i++) {
		if (!strcmp(arguments[i], "--allow-host-settings")) {
			allowed = 1;
		} else if (!strcmp(arguments[i], "--only-verdicts")) {
			silent = 1;
		} else {
			fprintf(stderr, "usage: %s [--allow-host-settings] [--only-verdicts]\n", arguments[0]);
			exit(2);
		}
	}
	prepare();
	print_release();
}

//: at_marks
/* Where a debugger outside of the machine takes over; they do nothing. Threads are numbered from 0. */
static void at_symbols(const char *text, size_t length) __attribute__((noinline, used));
static void at_symbols(const char *text, size_t length)
{
	asm volatile("" ::"r"(text), "r"(length) : "memory");
}

static void at_next(volatile long *test) __attribute__((noinline, used));
static void at_next(volatile long *test)
{
	asm volatile("" ::"r"(test) : "memory");
}

static void at_ready(long number, volatile char *loads) __attribute__((noinline, used));
static void at_ready(long number, volatile char *loads)
{
	asm volatile("" ::"r"(number), "r"(loads) : "memory");
}

static void at_go(long number, const char *page) __attribute__((noinline, used));
static void at_go(long number, const char *page)
{
	asm volatile("" ::"r"(number), "r"(page) : "memory");
}

static void at_wait(long number) __attribute__((noinline, used));
static void at_wait(long number)
{
	asm volatile("" ::"r"(number) : "memory");
}

static void at_done(long number) __attribute__((noinline, used));
static void at_done(long number)
{
	asm volatile("" ::"r"(number) : "memory");
}

static void at_spin(void) __attribute__((noinline, used));
static void at_spin(void)
{
	asm volatile("1: pause; jmp 1b" ::: "memory");
}

//: left_to_debugger
/* What a debugger does with the operation that follows. */
static long left_to_debugger(const struct args *a)
{
	(void)a;
	return 0;
}

//: racing
#include <pthread.h>

/*
 * Operations at the same time: each is done by a thread of its process, thread n on CPU n + 1. Threads have stacks that fork
 * does not write-protect, but for the one that forks.
 */
struct racer {
	const char *text;
	action *what;
	struct args args;
	int process, parts, on;
	volatile char loads; /* its CPU is to have the page's PTE in its TLB, as one that may be written through */
	volatile int finished;
	volatile long answer;
};

static struct field {
	struct racer racer[MOST];
	volatile int finished; /* how many */
} *racing;
static int racers;

static void open_race(void)
{
	racing = mmap(NULL, sizeof(*racing), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (racing == MAP_FAILED) {
		perror("mmap");
		exit(4);
	}
}

static long by_itself(int process, action *what, struct args args)
{
	(void)process;
	return what(&args);
}

static void run_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* What this process has of the program and of shared memory, in its page tables: no fault of that comes amid the race. */
static void be_there(void)
{
	extern char __executable_start[], _end[];
	char *at;
	int value;

	for (at = __executable_start; at < _end; at += PAGE)
		touch(at, &value, 0);
	for (at = (char *)shared; at < (char *)(shared + 1); at += PAGE)
		__atomic_fetch_or(at, 0, __ATOMIC_SEQ_CST);
	for (at = (char *)racing; at < (char *)(racing + 1); at += PAGE)
		__atomic_fetch_or(at, 0, __ATOMIC_SEQ_CST);
}

/* Who waits for the userfaultfd monitor tries again until nobody is left who could let it go on. */
static long race_now(long number)
{
	struct racer *r = &racing->racer[number];
	int others, last;

	run_on((int)number + 1);
	be_there();
	drain();
	at_ready(number, &r->loads);
	syscall(SYS_getppid); /* tells the debugger our kernel stack */
	if (r->loads)
		__atomic_fetch_or(place[r->args.page].at, 0, __ATOMIC_SEQ_CST);
	at_go(number, place[r->args.page].at);
	do {
		others = racing->finished;
		last = others >= racers - 1;
		r->answer = each_part(by_itself, r->process, r->what, r->parts, r->on, r->args);
		if (r->answer != BLOCKED)
			break;
		at_wait(number);
	} while (!last);
	at_done(number);
	drain();
	r->finished = 1;
	__atomic_fetch_add(&racing->finished, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void *race_in_thread(void *number)
{
	race_now((long)number);
	return NULL;
}

static long race_by_thread(const struct args *a)
{
	int kind = racing->racer[a->value].what == fork_child ? MAP_PRIVATE : MAP_SHARED;
	char *stack = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attributes;
	pthread_t thread;

	if (stack == MAP_FAILED)
		return unseen("mmap: %s", strerror(errno));
	memset(stack, 0, 64 * PAGE);
	racers = a->flags;
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, stack, 64 * PAGE);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attributes, race_in_thread, (void *)(long)a->value))
		return unseen("a thread cannot be made");
	return 0;
}

/* A process that ends has no other thread. */
static long race_to_the_end(const struct args *a)
{
	racers = a->flags;
	return race_now(a->value);
}

static void racer(int process, const char *text, action *what, int parts, int on, struct args args)
{
	racing->racer[racers++] = (struct racer){
		.text = text, .what = what, .args = args, .process = process, .parts = parts, .on = on
	};
}

/* Let the operation begin. `ends`: what tells that its process is gone, or -1. */
static long begin_racer(int number, int count, int *ends)
{
	struct racer *r = &racing->racer[number];
	struct request end = { race_to_the_end, { .value = number, .flags = count } };

	*ends = -1;
	if (r->what != leave)
		return act(r->process, race_by_thread, end.args);
	*ends = (int)syscall(SYS_pidfd_open, shared->pid[r->process], 0);
	if (*ends < 0 || send(to[r->process], &end, sizeof(end), MSG_NOSIGNAL) != sizeof(end))
		return unseen("a process is gone");
	return 0;
}

static int races_on(int number, int ends)
{
	struct pollfd end = { .fd = ends, .events = POLLIN };

	return ends < 0 ? !racing->racer[number].finished : poll(&end, 1, 0) != 1;
}

/* All of the line's operations, and what came of each. */
static void race(void)
{
	int ends[MOST], i, count = racers, begun = 0, left = count, waits;
	long answer = 0;

	racers = racing->finished = 0;
	shared->at_once = 1;
	while (begun < count && !answer && !test_over) {
		answer = begin_racer(begun, count, &ends[begun]);
		begun++;
	}
	for (waits = 0; left && !answer && !test_over && waits < 20000; waits++) {
		usleep(1000);
		for (left = i = 0; i < count; i++)
			left += races_on(i, ends[i]);
	}
	shared->at_once = 0;
	if (left && !answer && !test_over)
		answer = unseen("operations at the same time did not end within 20 seconds");
	for (i = 0; i < count; i++) {
		struct racer *r = &racing->racer[i];

		step_number++;
		if (test_over == 2 || (test_over && left))
			continue;
		if (r->what == leave)
			shared->gone[r->process] = YES;
		tell(r->text, answer ? answer : r->answer);
	}
}

//: scheduled
#include <termios.h>

/* What /proc/kallsyms says, for the debugger to take. */
static void tell_symbols(void)
{
	size_t size = 32 << 20, length = 0;
	char *text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int file = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	while (text != MAP_FAILED && file >= 0 && (got = read(file, text + length, size - length)) > 0)
		length += got;
	at_symbols(text, length);
	munmap(text, size);
	close(file);
}

/* Tests one after the other, as often and in the order that a debugger says: their numbers, -1 at the end. */
int main(int count, char **arguments)
{
	volatile long test = -1;

	run_on(0);
	if (count == 3) {
		tell_symbols();
		count = 2;
	}
	make_ready(count, arguments);
	for (;;) {
		fflush(stdout);
		tcdrain(STDOUT_FILENO);
		test = -1;
		at_next(&test);
		if (test < 0)
			return 0;
		run(tests[test].name, tests[test].run);
	}
}

//: main
/* Exit status of a single test: 0 as predicted, 1 not so, 4 not observable here. */
int main(int count, char **arguments)
{
	int status = 0;
	size_t i;

	make_ready(count, arguments);
	for (i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		status = run(tests[i].name, tests[i].run);
	return i == 1 ? status : 0;
}

//: tap
/* A line of KTAP for each test, its steps before it as comments. Exit status: 0, 1 if one failed, 4 if all were skipped. */
int main(int count, char **arguments)
{
	const size_t number = sizeof(tests) / sizeof(*tests);
	size_t i, failed = 0, skipped = 0;

	lead = "# ";
	puts("TAP version 13");
	make_ready(count, arguments);
	printf("1..%zu\n", number);
	for (i = 0; i < number; i++) {
		int status = run(tests[i].name, tests[i].run);

		failed += status == 1;
		skipped += status == 4;
		printf("%s %zu %s%s%s\n", status == 1 ? "not ok" : "ok", i + 1, tests[i].name,
		       status == 4 ? " # SKIP " : "", status == 4 ? shared->reason : "");
	}
	printf("# Totals: pass:%zu fail:%zu xfail:0 xpass:0 skip:%zu error:0\n", number - failed - skipped, failed, skipped);
	return failed ? 1 : skipped == number ? 4 : 0;
}
