/*
 * The first process of a virtual machine that runs one static program, /suite, and powers off.
 *
 * The second serial port (ttyS1) carries the suite's standard output and our last line, and nothing else (empty lines mean nothing):
 *   @exit N     the suite ended with status N (128 + signal if a signal ended it)
 *   @timeout    it had not ended after $PROOFS_SECONDS (on the kernel's command line; without it 60)
 * The first one (ttyS0) is the kernel's console and everybody's standard error; what could not be set up is said there,
 * and the suite runs without it.
 *
 * Read from the initramfs: /arguments (the suite's arguments, each ended by a NUL), /modules/order (a line each: file and
 * parameters), /gup_probe.ko. A virtio disk becomes the swap device.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void complain(const char *what)
{
	fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
}

static void mount_on(const char *type, const char *where)
{
	mkdir(where, 0755);
	if (mount(type, where, type, 0, NULL))
		complain(where);
}

/* The whole of a file, with a NUL behind it. The caller owns it; NULL (with errno) if it cannot be read. */
static char *contents(const char *path, size_t *length)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);
	struct stat about;
	char *text = NULL;
	ssize_t got;

	if (file < 0)
		return NULL;
	*length = 0;
	if (!fstat(file, &about) && (text = calloc(1, about.st_size + 1)))
		while ((got = read(file, text + *length, about.st_size - *length)) > 0)
			*length += got;
	close(file);
	return text;
}

static void put(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		complain(path);
	if (file >= 0)
		close(file);
}

static void load(const char *path, const char *parameters)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file < 0 || syscall(SYS_finit_module, file, parameters, 0))
		complain(path);
	if (file >= 0)
		close(file);
}

static void load_modules(void)
{
	size_t length;
	char path[512], *order = contents("/modules/order", &length), *line, *parameters;

	if (!order)
		return;
	for (line = strtok(order, "\n"); line; line = strtok(NULL, "\n")) {
		parameters = strchr(line, ' ');
		if (parameters)
			*parameters++ = 0;
		snprintf(path, sizeof path, "/modules/%s", line);
		load(path, parameters ? parameters : "");
	}
	free(order);
}

/* What mkswap writes: the first page describes the device (union swap_header of the kernel). */
static void swap_on(const char *device)
{
	struct {
		char boot[1024];
		uint32_t version, last_page, bad_pages;
		char rest[4096 - 1024 - 12 - 10], magic[10];
	} header = { .version = 1, .magic = { 'S', 'W', 'A', 'P', 'S', 'P', 'A', 'C', 'E', '2' } };
	int disk = open(device, O_WRONLY | O_CLOEXEC);
	uint64_t bytes = 0;

	if (disk < 0) {
		if (errno != ENOENT)
			complain(device);
		return;
	}
	if (ioctl(disk, BLKGETSIZE64, &bytes) || bytes < 2 * sizeof header) {
		complain(device);
	} else {
		header.last_page = bytes / sizeof header - 1;
		if (write(disk, &header, sizeof header) != sizeof header || fsync(disk) || swapon(device, 0))
			complain("swapon");
	}
	close(disk);
}

/* The last line on the results' port, and off. */
static void power_off(int results, const char *last_line)
{
	if (write(results, last_line, strlen(last_line)) < 0)
		complain("ttyS1");
	tcdrain(results);
	reboot(RB_POWER_OFF);
	_exit(1); /* of process 1: a panic, so the machine ends in any case */
}

static int open_port(const char *path)
{
	int port = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct termios mode;

	if (port >= 0 && !tcgetattr(port, &mode)) {
		cfmakeraw(&mode);
		cfsetspeed(&mode, B115200);
		tcsetattr(port, TCSANOW, &mode);
	}
	return port;
}

static void run_suite(int results, char **arguments)
{
	dup2(results, STDOUT_FILENO);
	setsid();
	execv("/suite", arguments);
	complain("/suite");
	_exit(127);
}

int main(void)
{
	char line[64], *text, *next, **arguments;
	int results, console, nothing, status = 0, count = 0;
	unsigned int seconds = 60;
	size_t length = 0;
	pid_t suite;

	mount_on("devtmpfs", "/dev");
	console = open_port("/dev/ttyS0");
	results = open_port("/dev/ttyS1");
	nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(nothing, STDIN_FILENO);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	if (getenv("PROOFS_SECONDS"))
		seconds = strtoul(getenv("PROOFS_SECONDS"), NULL, 10);
	if (!fork()) { /* the watchdog */
		sleep(seconds);
		power_off(results, "\n@timeout\n");
	}

	mount_on("proc", "/proc");
	mount_on("sysfs", "/sys");
	mount_on("tmpfs", "/tmp");
	mount_on("debugfs", "/sys/kernel/debug");
	mount_on("cgroup2", "/sys/fs/cgroup");
	put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	load_modules();
	swap_on("/dev/vda");
	if (!access("/gup_probe.ko", R_OK))
		load("/gup_probe.ko", "i_am_a_test_machine=1");

	text = contents("/arguments", &length);
	arguments = calloc(length + 2, sizeof *arguments); /* at most one a byte, /suite and NULL */
	arguments[count++] = "/suite";
	for (next = text; next && next < text + length; next += strlen(next) + 1)
		arguments[count++] = next;
	unsetenv("PROOFS_SECONDS");
	suite = fork();
	if (!suite)
		run_suite(results, arguments);
	while (wait(&status) != suite) /* orphans come to us too; the watchdog sees to it that this ends */
		;
	snprintf(line, sizeof line, "\n@exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	power_off(results, line);
}
