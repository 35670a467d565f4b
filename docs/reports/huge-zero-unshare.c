/*
 * A read-only FOLL_LONGTERM pin of a huge zero page that userfaultfd has
 * write-protected maps a writable huge page there and forgets uffd-wp:
 * the next write is not reported.
 *
 * cc -O1 -Wall -Wextra -pthread -o huge-zero-unshare huge-zero-unshare.c
 * ./huge-zero-unshare [rdma|gup_test|gup_probe]
 *
 * What takes the pin, by default the first one that is there:
 *
 * rdma       a memory region of /dev/infiniband/uverbs0 registered without
 *            any IB_ACCESS_*_WRITE. Soft-RoCE will do:
 *              modprobe rdma_rxe
 *              rdma link add rxe0 type rxe netdev eth0
 *            In a bare machine, root may name an interface in RXE_NETDEV:
 *            the program then adds the link itself, and goes on as nobody.
 * gup_test   PIN_LONGTERM_TEST_START of a kernel with CONFIG_GUP_TEST=y
 *            (debugfs mounted, root)
 * gup_probe  the test module of that name
 *
 * Exit status: 0 every write to a protected page was reported; 1 one was
 * not; 4 it cannot be seen here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <unistd.h>

#define SMALL 4096UL
#define HUGE (2UL << 20)
#define UNSEEN 4

static int cannot(const char *what)
{
	printf("not observable: %s: %s\n", what, strerror(errno));
	exit(UNSEEN);
}

/* Holders of a read-only FOLL_LONGTERM pin. Each: 0, or -1 with errno. */

static int verbs = -1;
static uint32_t domain;

static int command(int number, void *in, size_t size, size_t answer)
{
	struct {
		struct ib_uverbs_cmd_hdr header;
		char body[128];
	} call = { .header = {
		number, (sizeof call.header + size) / 4, answer / 4 } };
	size_t length = sizeof call.header + size;

	memcpy(call.body, in, size);
	return write(verbs, &call, length) == (ssize_t)length ? 0 : -1;
}

/* What "rdma link add rxe0 type rxe netdev NAME" sends. */
static void add_link(const char *netdev)
{
	struct {
		struct nlmsghdr header;
		char body[128];
	} call = { .header = {
		.nlmsg_type = RDMA_NL_GET_TYPE(RDMA_NL_NLDEV,
					       RDMA_NLDEV_CMD_NEWLINK),
		.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK } };
	const struct { int type; const char *text; } part[] = {
		{ RDMA_NLDEV_ATTR_DEV_NAME, "rxe0" },
		{ RDMA_NLDEV_ATTR_LINK_TYPE, "rxe" },
		{ RDMA_NLDEV_ATTR_NDEV_NAME, netdev },
	};
	int file = socket(AF_NETLINK, SOCK_RAW, NETLINK_RDMA);
	char *end = call.body, reply[1024];
	struct nlmsgerr *said = (void *)(reply + NLMSG_HDRLEN);
	size_t i;

	for (i = 0; i < 3; i++) {
		struct nlattr *head = (struct nlattr *)end;
		size_t length = strlen(part[i].text) + 1;

		head->nla_type = part[i].type;
		head->nla_len = NLA_HDRLEN + length;
		memcpy(end + NLA_HDRLEN, part[i].text, length);
		end += NLA_ALIGN(head->nla_len);
	}
	call.header.nlmsg_len = end - (char *)&call;
	if (send(file, &call, call.header.nlmsg_len, 0) < 0 ||
	    recv(file, reply, sizeof reply, 0) < 0)
		perror("rdma link add");
	else if (said->error)
		fprintf(stderr, "rdma link add: %s\n",
			strerror(-said->error));
	close(file);
}

/* udev makes the node as a rule; in a bare machine we do. */
static void make_node(void)
{
	FILE *numbers = fopen(
		"/sys/class/infiniband_verbs/uverbs0/dev", "r");
	unsigned int major, minor;

	if (!numbers)
		return;
	mkdir("/dev/infiniband", 0755);
	if (fscanf(numbers, "%u:%u", &major, &minor) == 2)
		mknod("/dev/infiniband/uverbs0", S_IFCHR,
		      makedev(major, minor));
	chmod("/dev/infiniband/uverbs0", 0666);
	fclose(numbers);
}

static int rdma_open(void)
{
	struct ib_uverbs_get_context_resp context;
	struct ib_uverbs_get_context ask = { .response = (uintptr_t)&context };
	struct ib_uverbs_alloc_pd_resp answer[8];
	struct ib_uverbs_alloc_pd pd = { .response = (uintptr_t)answer };

	if (getenv("RXE_NETDEV")) {
		add_link(getenv("RXE_NETDEV"));
		make_node();
		if (setgid(65534) || setuid(65534) ||
		    prctl(PR_SET_DUMPABLE, 1))
			return -1;
	}
	verbs = open("/dev/infiniband/uverbs0", O_RDWR | O_CLOEXEC);
	if (verbs < 0 || command(IB_USER_VERBS_CMD_GET_CONTEXT, &ask,
				 sizeof ask, sizeof context) ||
	    command(IB_USER_VERBS_CMD_ALLOC_PD, &pd, sizeof pd,
		    sizeof answer))
		return -1;
	domain = answer[0].pd_handle;
	return 0;
}

static int rdma_pin(char *at)
{
	struct ib_uverbs_reg_mr_resp answer[8];
	struct ib_uverbs_reg_mr region = {
		.response = (uintptr_t)answer,
		.start = (uintptr_t)at, .hca_va = (uintptr_t)at,
		.length = SMALL, .pd_handle = domain,
		.access_flags = 0, /* the device may only read */
	};

	return command(IB_USER_VERBS_CMD_REG_MR, &region, sizeof region,
		       sizeof answer);
}

static int gup_test = -1;

static int gup_test_open(void)
{
	gup_test = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	return gup_test < 0 ? -1 : 0;
}

static int gup_test_pin(char *at)
{
	struct {
		uint64_t addr, size;
		uint32_t flags; /* 1: for writing, 2: GUP-fast */
	} pin = { (uintptr_t)at, SMALL, 0 };

	ioctl(gup_test, _IO('g', 8)); /* gives back an earlier one */
	return ioctl(gup_test, _IOC(_IOC_WRITE, 'g', 7, sizeof pin), &pin);
}

static int gup_probe = -1;

static int gup_probe_open(void)
{
	gup_probe = open("/dev/gup_probe", O_RDWR | O_CLOEXEC);
	return gup_probe < 0 ? -1 : 0;
}

static int gup_probe_pin(char *at)
{
	struct {
		uint64_t addr;
		uint32_t flags; /* FOLL_PIN, FOLL_LONGTERM */
		int32_t handle;
	} pin = { (uintptr_t)at, 1 << 0 | 1 << 2, 0 };

	return ioctl(gup_probe, _IOWR('G', 0x80, pin), &pin);
}

static const struct holder {
	const char *name;
	int (*open)(void), (*pin)(char *);
} holders[] = {
	{ "rdma", rdma_open, rdma_pin },
	{ "gup_test", gup_test_open, gup_test_pin },
	{ "gup_probe", gup_probe_open, gup_probe_pin },
};

/* The monitor counts write-protect messages and lets the writer go on. */

static int uffd;
static _Atomic int reported;

static void *monitor(void *unused)
{
	struct uffd_msg message;
	struct pollfd wait = { uffd, POLLIN, 0 };

	(void)unused;
	while (poll(&wait, 1, -1) == 1) {
		if (read(uffd, &message, sizeof message) != sizeof message)
			continue;
		if (message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			reported++;
		struct uffdio_writeprotect go_on = { .range = {
			message.arg.pagefault.address & ~(HUGE - 1), HUGE } };
		ioctl(uffd, UFFDIO_WRITEPROTECT, &go_on);
	}
	return NULL;
}

/* The uffd-wp bit of /proc/self/pagemap (bit 57); kernels before 5.14 do
 * not show it. */
static int pagemap_says_protected(char *at)
{
	int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (pread(file, &entry, sizeof entry,
		  (uintptr_t)at / SMALL * sizeof entry) != sizeof entry)
		entry = 0;
	close(file);
	return entry >> 57 & 1;
}

/* "AnonHugePages:" of the VMA at this address, in KiB. */
static long anon_huge(char *at)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");
	char line[256];
	unsigned long start, end;
	long here = 0, size = -1;

	while (smaps && fgets(line, sizeof line, smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= (uintptr_t)at && (uintptr_t)at < end;
		else if (here)
			sscanf(line, "AnonHugePages: %ld", &size);
	}
	if (smaps)
		fclose(smaps);
	return size;
}

/* Read a block, protect all of it, pin its page `pin` (or none: -1), write
 * to its page `write`. 1 if that write was not reported. */
static int lost(const struct holder *holder, int huge, int pin, int write)
{
	char *start = mmap(NULL, 3 * HUGE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)start + HUGE) & ~(HUGE - 1));
	struct uffdio_register all = {
		.range = { (uintptr_t)at, HUGE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = {
		.range = { (uintptr_t)at, HUGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int before, after, i;

	if (start == MAP_FAILED || mprotect(at, HUGE, PROT_READ | PROT_WRITE))
		cannot("mmap");
	if (madvise(at, HUGE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		cannot("madvise");
	for (i = 0; i < 512; i++)
		(void)*(volatile char *)(at + i * SMALL);
	if (ioctl(uffd, UFFDIO_REGISTER, &all) ||
	    ioctl(uffd, UFFDIO_WRITEPROTECT, &protect))
		cannot("userfaultfd");
	before = pagemap_says_protected(at + write * SMALL);
	if (pin >= 0 && holder->pin(at + pin * SMALL))
		cannot(holder->name);
	after = pagemap_says_protected(at + write * SMALL);
	printf("%s zero page, ", huge ? "huge" : "small");
	if (pin < 0)
		printf("no pin:");
	else
		printf("pin of page %d:", pin);
	printf(" uffd-wp of page %d %d -> %d, AnonHugePages %ld kB;",
	       write, before, after, anon_huge(at));
	reported = 0;
	*(volatile char *)(at + write * SMALL) = 1;
	printf(" write %s\n", reported ? "reported" : "NOT REPORTED");
	return !reported;
}

int main(int count, char **arguments)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP,
	};
	const struct holder *holder = NULL;
	struct utsname name;
	pthread_t thread;
	size_t i;
	int any;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < sizeof holders / sizeof *holders && !holder; i++)
		if ((count < 2 || !strcmp(arguments[1], holders[i].name)) &&
		    !holders[i].open())
			holder = &holders[i];
	if (!holder)
		cannot("nothing takes such pins here");
	uname(&name);
	printf("%s, pins by %s, user %d\n", name.release, holder->name,
	       (int)getuid());
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0)
		uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK |
			       UFFD_USER_MODE_ONLY);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) ||
	    pthread_create(&thread, NULL, monitor, NULL))
		cannot("userfaultfd");
	any = lost(holder, 1, -1, 0);   /* controls */
	any |= lost(holder, 0, -1, 0);
	any |= lost(holder, 0, 0, 0);
	any |= lost(holder, 1, 0, 0);   /* and the bug */
	any |= lost(holder, 1, 0, 511);
	return any;
}
