// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * uploaded.c - a procedure that a test uploads: it says who it is and what it can see, or
 *              crashes
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <vine_serve.h>

#include "uploaded.h"

static unsigned int count_fds(void)
{
	unsigned int n = 0;
	int fd;

	for (fd = 0; fd < 4096; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int can_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0;
}

static int has_clock(void)
{
	clockid_t clock;

	/* how the kernel names a thread's clock; not every kernel has them (POSIX_TIMERS) */
	return !pthread_getcpuclockid(pthread_self(), &clock) &&
		clock == (clockid_t)(~(unsigned int)gettid() << 3 | 6);
}

/* Whether the inverse of @secret is anywhere in this process's memory. */
__attribute__((no_sanitize("address", "thread", "undefined")))
static int sees(const uint64_t secret[2])
{
	char line[256], access[8];
	unsigned long from, to;
	const uint64_t *p;
	int found = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	if (!f)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		/* not vvar and its like; the sanitizers' shadow is terabytes */
		if (sscanf(line, "%lx-%lx %7s", &from, &to, access) != 3 || access[0] != 'r' ||
		    access[1] != 'w' || to - from > 1UL << 30)
			continue;
		for (p = (const uint64_t *)from; p + 1 < (const uint64_t *)to; p++)
			found += p[0] == ~secret[0] && p[1] == ~secret[1];
	}
	fclose(f);
	return found;
}

__attribute__((visibility("default")))
int vine_procedure(const struct vine_call *call)
{
	const struct uploaded_order *order = call->in[0].address;
	struct uploaded_facts facts;

	if (call->in[0].size < sizeof(*order) || call->out[0].size < sizeof(facts))
		return 1;
	if (order->crash)
		__builtin_trap();
	facts = (struct uploaded_facts){
		.uid = getuid(), .pid = getpid(), .fds = count_fds(), .forks = can_fork(),
		.own_clock = has_clock(), .sees = sees(order->secret),
	};
	memcpy(call->out[0].address, &facts, sizeof(facts));
	return 0;
}
