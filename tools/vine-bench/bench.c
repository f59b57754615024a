// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * bench.c - time, processors, and two processes that measure together
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("vine-bench: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void die_errno(const char *format, ...)
{
	const char *why = strerror(errno);
	va_list args;

	va_start(args, format);
	fputs("vine-bench: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", why);
	va_end(args);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die_errno("cannot run on processor %d", cpu);
}

void *shared_memory(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die_errno("no %llu bytes of memory", (unsigned long long)bytes);
	return p;
}

void say_sample(const char *name, double value)
{
	printf("%s %.6g\n", name, value);
	fflush(stdout);
}

/* ---- two processes ---- */

/* One process counts @go up, the other one @done. */
struct starter {
	uint64_t go __attribute__((aligned(BENCH_LINE)));
	uint64_t count;		/* 0: that was all */
	uint64_t done __attribute__((aligned(BENCH_LINE)));
};

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static void other_process(const struct duel *d, struct starter *s)
{
	uint64_t turn = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		turn++;
		while (load(&s->go) != turn)
			wait_a_little(true);
		if (!s->count)
			_exit(0);
		d->there(d->state, s->count);
		store(&s->done, turn);
	}
}

/* The other process has ended; was that as it should be? */
static void check_other(pid_t pid, int options)
{
	int status;
	pid_t ended;

	do
		ended = waitpid(pid, &status, options);
	while (ended < 0 && errno == EINTR);
	if (ended < 0)
		die_errno("waitpid");
	if (ended == pid && (status || options))
		die("the second process ended with status %#x", (unsigned int)status);
}

/* Both run @count times; how long that took here. */
static uint64_t turn(const struct duel *d, struct starter *s, uint64_t count, pid_t other)
{
	uint64_t begin, end, next = s->go + 1;

	s->count = count;
	begin = now_ns();
	store(&s->go, next);
	d->here(d->state, count);
	end = now_ns();
	while (load(&s->done) != next)
		check_other(other, WNOHANG);
	return end - begin;
}

double fight(const struct bench *b, const struct duel *d)
{
	struct starter *s = shared_memory(sizeof(*s));
	uint64_t ns, count = 16;
	pid_t pid;

	pin(b->cpu[1]);		/* it is there from its beginning: here we spin */
	pid = fork();
	if (pid < 0)
		die_errno("no second process");
	if (!pid)
		other_process(d, s);
	pin(b->cpu[0]);
	turn(d, s, count, pid);	/* the other one may not run yet */
	for (;;) {		/* this warms up, too */
		ns = turn(d, s, count, pid);
		if (ns >= b->sample_ns / 8)
			break;
		count *= 2;
	}
	count = (uint64_t)((double)count * (double)b->sample_ns / (double)ns) + 1;
	ns = turn(d, s, count, pid);
	s->count = 0;
	store(&s->go, s->go + 1);
	check_other(pid, 0);
	munmap(s, sizeof(*s));
	return (double)ns / (double)count;
}
