// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * subject.c - what the tests of vine_talk.h have in common
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "subject.h"

vine_accel *subject_accel[VINE_ACCEL_TYPES];

static char said[65536];
static int lines, screen = -1, memory = -1;
static atomic_int seconds;

/* Too large a size is not an error of the test. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* In place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
	int ret = syscall(SYS_clock_gettime, clock, t);

	t->tv_sec += atomic_load(&seconds);
	return ret;
}

void subject_second(void)
{
	atomic_fetch_add(&seconds, 1);
}

const char *subject_said(void)
{
	ssize_t n = pread(memory, said, sizeof(said) - 1, 0);
	char *c;

	if (n < 0 || ftruncate(memory, 0))
		abort();
	said[n] = '\0';
	lines = 0;
	for (c = said; *c; c++)
		lines += *c == '\n';
	return said;
}

int subject_lines(void)
{
	subject_said();
	return lines;
}

void subject_config(const char *backend, const char *more)
{
	FILE *f = fopen("config", "we");

	if (!f || fprintf(f, "backend %s\nplugins " PLUGINS "\n%s", backend, more) < 0 || fclose(f))
		abort();
}

void subject_open(void)
{
	vine_accel **list;
	int i, n;

	subject_second();
	subject_said();
	vine_talk_init();
	memset(subject_accel, 0, sizeof(subject_accel));
	n = vine_accel_list(ANY, &list);
	for (i = 0; i < n; i++)
		subject_accel[vine_accel_type(list[i])] = list[i];
	free(list);
}

void subject_begin(const char *backend, const char *more)
{
	subject_config(backend, more);
	subject_open();
}

void subject_end(void)
{
	vine_talk_exit();
}

vine_data *subject_data(size_t size, int byte)
{
	vine_data *data = vine_data_alloc(size, Both);

	if (!data)
		abort();
	memset(vine_data_deref(data), byte, size);
	return data;
}

vine_data *subject_bytes(const void *bytes, size_t size)
{
	vine_data *data = subject_data(size, 0);

	memcpy(vine_data_deref(data), bytes, size);
	return data;
}

void subject_sleeps(pid_t tid)
{
	char path[64], state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	for (;;) {
		f = fopen(path, "re");
		if (!f)
			return;
		if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			state = '?';
		fclose(f);
		if (state == 'S')
			return;
		sched_yield();
	}
}

int subject_main(const struct tap_test *tests, int n)
{
	static char folder[] = "/tmp/vine-talk-XXXXXX";
	char command[64];
	int ret;

	screen = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	memory = memfd_create("said", MFD_CLOEXEC);
	if (screen < 0 || memory < 0 || !mkdtemp(folder) || chdir(folder))
		return 2;
	setenv("VINE_CONFIG", "config", 1);
	unsetenv("VINE_PLUGINS");
	unsetenv("VINE_TRACE");
	fcntl(memory, F_SETFL, O_APPEND);
	if (__sanitizer_set_report_fd)
		__sanitizer_set_report_fd((void *)(intptr_t)screen);
	dup2(memory, STDERR_FILENO);
	ret = tap_main(tests, n);
	dup2(screen, STDERR_FILENO);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) ? 2 : ret;
}
