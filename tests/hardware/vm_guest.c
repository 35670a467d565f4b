/* What test_vm.py runs in a virtual machine: the first argument says what. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void show(const char *path)
{
	char line[512];
	FILE *file = fopen(path, "r");

	printf("%s:", path);
	while (file && fgets(line, sizeof line, file))
		printf(" %.*s", (int)strcspn(line, "\n"), line);
	printf("\n");
}

int main(int count, char **arguments)
{
	const char *what = count > 1 ? arguments[1] : "";
	int file, n;

	if (!strcmp(what, "show")) {
		for (n = 2; n < count; n++)
			show(arguments[n]);
		fprintf(stderr, "standard error is on the console\n");
		return 0;
	}
	if (!strcmp(what, "arguments")) {
		for (n = 2; n < count; n++)
			printf("[%s]\n", arguments[n]);
		printf("no newline at the end");
		return 3;
	}
	if (!strcmp(what, "sleep")) {
		printf("asleep\n");
		fflush(stdout);
		pause();
	}
	if (!strcmp(what, "crash")) {
		file = open("/proc/sysrq-trigger", O_WRONLY);
		n = write(file, "c", 1);
	}
	return 99;
}
