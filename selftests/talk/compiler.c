// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * compiler.c - a plugin for the tests: a compiler of a language of some words. "see" says what its
 *              process can do; "swap" gives its input, reversed; "leave" and "cling" start a child
 *              that does not end, which out 0 names, and the latter does not end either
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vine_serve.h>

#include "compiler.h"

static unsigned int compiled;

/* But for the folders that gcov makes when the checkout is there. */
static unsigned int count_files(const char *folder)
{
	DIR *d = opendir(folder);
	unsigned int n = 0;
	struct dirent *e;

	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.' && (e->d_type != DT_DIR ||
					     !strncmp(e->d_name, "vine-", 5));
	if (d)
		closedir(d);
	return n;
}

static int can_write(const char *folder)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/vine-test-%d", folder, getpid());
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0;
	close(fd);
	return 1;
}

static int has_network(void)
{
	struct ifaddrs *all = NULL, *i;
	int up = 0;

	if (getifaddrs(&all))
		return 0;
	for (i = all; i; i = i->ifa_next)
		up |= i->ifa_flags & IFF_UP;
	freeifaddrs(all);
	return !!up;
}

static int can_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid && raise(SIGCHLD) == 0;
}

/* It may have another number here. */
static uint32_t number_outside(void)
{
	char number[16] = "";

	return readlink("/proc/self", number, sizeof(number) - 1) > 0 ? atoi(number) : 0;
}

/* What the kernel lets processes of one user do to each other. */
static unsigned int can_reach(pid_t pid)
{
	const struct sched_param param = { 0 };
	struct rlimit limit;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	return (!kill(pid, 0)) | !fcntl(0, F_SETOWN, pid) << 1 |
	       !prlimit(pid, RLIMIT_CPU, NULL, &limit) << 2 |
	       !sched_setaffinity(pid, sizeof(cpus), &cpus) << 3 |
	       !sched_setscheduler(pid, SCHED_OTHER, &param) << 4 |
	       !setpriority(PRIO_PROCESS, pid, 19) << 5 |
	       !syscall(SYS_ioprio_set, 1, pid, 3 << 13) << 6;
}

static int see(const struct vine_call *call)
{
	struct compiler_facts facts = {
		.uid = getuid(), .pid = number_outside(), .compiled = compiled,
		.files = count_files("/tmp"), .can_write_tmp = can_write("/tmp"),
		.shared = count_files("/run") + count_files("/dev/shm"),
		.can_write = can_write("/var/tmp") || can_write("/dev/shm") || can_write("/root"),
		.has_network = has_network(),
	};
	const char *home = getenv("HOME");

	facts.can_fork = can_fork();
	if (call->in_count == 1)
		facts.can_reach = can_reach(*(const uint32_t *)call->in[0].address);
	facts.home_is_tmp = home && !strcmp(home, "/tmp");
	if (call->out_count != 1 || call->out[0].size < sizeof(facts))
		return EINVAL;
	memcpy(call->out[0].address, &facts, sizeof(facts));
	return 0;
}

static int swap(const struct vine_call *call)
{
	size_t i, size = call->out_count == 1 && call->in_count == 1 ? call->in[0].size : 0;

	if (!size || call->out[0].size != size)
		return EINVAL;
	for (i = 0; i < size; i++)
		((char *)call->out[0].address)[i] = ((char *)call->in[0].address)[size - 1 - i];
	return 0;
}

/* In a session of its own, where no signal for its parent's group finds it. */
static int leave(const struct vine_call *call)
{
	volatile uint32_t *child = call->out[0].address;

	if (fork() == 0) {
		setsid();
		*child = number_outside();
		for (;;)
			pause();
	}
	while (!*child)
		sched_yield();
	return 0;
}

static int cling(const struct vine_call *call)
{
	leave(call);
	for (;;)
		pause();
	return 0;
}

static const struct word {
	const char *name;
	vine_handler run;
} words[] = { { "see", see }, { "swap", swap }, { "leave", leave }, { "cling", cling } };

static int probe(const struct vine_call *call, char *text)
{
	const char *broken = getenv("COMPILER_BROKEN"), *sleeps = getenv("COMPILER_SLEEPS");

	if (sleeps) {
		*(volatile uint32_t *)strtoul(sleeps, NULL, 16) = 1;
		for (;;)
			pause();
	}
	snprintf(text, VINE_COMPILER_TEXT, "%s for %s", broken ? broken : "two words",
		 call->accelerator);
	return broken ? -1 : 0;
}

static void *compile(const struct vine_call *call, char *text)
{
	unsigned int i;

	if (call->in_count || call->out_count || call->args.address)
		return NULL;
	for (i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (call->bytes_size == strlen(words[i].name) &&
		    !memcmp(call->bytes, words[i].name, call->bytes_size)) {
			compiled++;
			return (void *)&words[i];
		}
	snprintf(text, VINE_COMPILER_TEXT, "no word:\n\033%.*s", (int)call->bytes_size,
		 (const char *)call->bytes);
	return NULL;
}

static int run(void *made, const struct vine_call *call)
{
	return ((const struct word *)made)->run(call);
}

static void release(void *made)
{
	(void)made;
}

static const struct vine_compiler compiler = {
	.name = "two words", .types = VINE_TYPE(GPU) | VINE_TYPE(CPU), .probe = probe,
	.compile = compile, .run = run, .release = release,
};

const struct vine_plugin vine_plugin = {
	.size = sizeof(vine_plugin), .name = "compiler", .compiler = &compiler,
};
