// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * replay.c - runs saved inputs; TAP
 *
 *   replay FILE|FOLDER...
 *
 * Each argument is a test, in a process of its own: one input, or all of a folder. With a
 * slash at the end, each input of the folder is a test.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "fuzz.h"

static char (*at)[4096];	/* the input that runs; the parent says so when it fails */
static u32 *inputs;
static u32 tests, failed;

static void run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	static u8 data[8192];
	size_t n;

	snprintf(*at, sizeof(*at), "%s", path);
	if (!f) {
		perror(path);
		exit(1);
	}
	n = fread(data, 1, sizeof(data), f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, n);
	++*inputs;
}

static int visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Calls @fn for each input of @path; false if it is no folder. */
static bool each(const char *path, void (*fn)(const char *path))
{
	struct dirent **names;
	int i, n = scandir(path, &names, visible, alphasort);
	char name[4096];

	if (n < 0)
		return false;
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, names[i]->d_name);
		free(names[i]);
		fn(name);
	}
	free(names);
	return true;
}

/* The last two parts of a path. */
static const char *short_name(const char *path)
{
	const char *p = strrchr(path, '/');

	while (p && p > path && p[-1] != '/')
		p--;
	return p ? p : path;
}

static void test(const char *path)
{
	const char *name = short_name(path);
	int status = 0;
	pid_t pid;

	fflush(stdout);
	*inputs = 0;
	pid = fork();
	if (!pid) {
		dup2(2, 1);	/* the lines of a test are the parent's */
		if (!each(path, run_file))
			run_file(path);
		exit(0);	/* the sanitizer looks for leaks */
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		perror("replay");
		exit(2);
	}
	tests++;
	if (!status) {
		printf("ok %u - %s: %u input%s\n", tests, name, *inputs, *inputs == 1 ? "" : "s");
		return;
	}
	failed++;
	printf("not ok %u - %s\n# at %s\n", tests, name, *at);
}

int main(int argc, char **argv)
{
	size_t n;
	int i;

	at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED || argc < 2) {
		fprintf(stderr, "usage: replay FILE|FOLDER...\n");
		return 2;
	}
	inputs = (u32 *)(at + 1);
	for (i = 1; i < argc; i++) {
		n = strlen(argv[i]);
		if (argv[i][n - 1] != '/') {
			test(argv[i]);
			continue;
		}
		argv[i][n - 1] = 0;
		if (!each(argv[i], test)) {
			perror(argv[i]);
			return 2;
		}
	}
	printf("1..%u\n", tests);
	return !!failed;
}
