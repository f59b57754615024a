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

double sample(uint64_t sample_ns, uint64_t (*run)(void *arg, uint64_t count), void *arg)
{
	uint64_t count = 1, ns, factor;

	run(arg, count);	/* the first one is unlike the others */
	for (;;) {
		ns = run(arg, count);
		/* a short batch says nothing: somebody else may have had the processor */
		if (ns >= sample_ns / 2)
			return (double)ns / (double)count;
		factor = sample_ns / (ns + 1) + 1;
		count *= factor < 8 ? factor : 8;
	}
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

struct match {
	const struct duel *duel;
	struct starter *starter;
	pid_t other;
};

/* Both run @count times; how long that took here. */
static uint64_t turn(void *arg, uint64_t count)
{
	struct match *m = arg;
	struct starter *s = m->starter;
	uint64_t begin, end, next = s->go + 1;

	s->count = count;
	begin = now_ns();
	store(&s->go, next);
	m->duel->here(m->duel->state, count);
	end = now_ns();
	while (load(&s->done) != next)
		check_other(m->other, WNOHANG);
	return end - begin;
}

double fight(const struct bench *b, const struct duel *d)
{
	struct match m = { .duel = d, .starter = shared_memory(sizeof(*m.starter)) };
	double ns;

	pin(b->cpu[1]);		/* it is there from its beginning: here we spin */
	m.other = fork();
	if (m.other < 0)
		die_errno("no second process");
	if (!m.other)
		other_process(d, m.starter);
	pin(b->cpu[0]);
	ns = sample(b->sample_ns, turn, &m);
	m.starter->count = 0;
	store(&m.starter->go, m.starter->go + 1);
	check_other(m.other, 0);
	munmap(m.starter, sizeof(*m.starter));
	return ns;
}
