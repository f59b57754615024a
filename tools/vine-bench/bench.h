/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * bench.h - what the measurements have in common: time, processors, two processes that
 *           measure together, and how a sample is said
 *
 * A sample is a line "NAME VALUE" on standard output: the script vine-bench, which runs the
 * programs, makes medians and ratios of them. Everything else is on standard error, and
 * whatever goes wrong ends the program.
 */
#ifndef VINE_BENCH_H
#define VINE_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BENCH_LINE	64	/* bytes that two processors pass on at a time */
#define BENCH_DEPTH	1024	/* messages that a ring of any make holds */
#define BENCH_BATCH	32	/* messages at a time, when it is not one */

/* Ends the program with a message; die_errno() adds what errno means. */
void die(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void die_errno(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Nanoseconds of CLOCK_MONOTONIC. Dear in an emulated guest: time batches. */
uint64_t now_ns(void);

/* This process runs on that processor alone from now on. */
void pin(int cpu);

/* Zeroed memory that this process and its children share, already there. */
void *shared_memory(uint64_t bytes);

void say_sample(const char *name, double value);

/*
 * One sample: nanoseconds for each time, of a batch that takes @sample_ns or so. @run gives
 * the nanoseconds that @count times took; it is called with more and more of them until they
 * take that long, which warms up what is measured.
 */
double sample(uint64_t sample_ns, uint64_t (*run)(void *arg, uint64_t count), void *arg);

/* ---- two processes ---- */

/* Where, and for how long. */
struct bench {
	int cpu[2];		/* of this process and the other one */
	uint64_t sample_ns;	/* how long a sample should take */
};

/*
 * What is measured: @here runs in this process and @there in a second one, @count times
 * each, at the same time; again and again, so each leaves things as it found them. What
 * @state points to is copied into the second process, but for memory that is shared.
 */
struct duel {
	void (*here)(void *state, uint64_t count);
	void (*there)(void *state, uint64_t count);
	void *state;
};

/* A sample() of both at once. */
double fight(const struct bench *b, const struct duel *d);

/* What is done while another processor is waited for: nothing, or what it is told to spare. */
static inline void wait_a_little(bool relaxed)
{
#if defined(__x86_64__)
	if (relaxed)
		__builtin_ia32_pause();
#elif defined(__aarch64__)
	if (relaxed)
		__asm__ volatile("yield");
#else
	(void)relaxed;
#endif
}

/* ---- subjects, for native.c: nanoseconds for each time ---- */

double pingpong_one_line(const struct bench *b, bool relaxed);
double pingpong_two_lines(const struct bench *b, bool relaxed);
double ring_rtt(const struct bench *b, bool relaxed);
double ring_one(const struct bench *b, bool relaxed);
double ring_batch(const struct bench *b, bool relaxed);
double ring_one_untold(const struct bench *b, bool relaxed);
double ring_batch_untold(const struct bench *b, bool relaxed);
double rte_one(const struct bench *b, bool relaxed);
double rte_batch(const struct bench *b, bool relaxed);
double boost_one(const struct bench *b, bool relaxed);
double boost_batch(const struct bench *b, bool relaxed);
double pipe_rtt(const struct bench *b, bool relaxed);
double unix_rtt(const struct bench *b, bool relaxed);

#ifdef __cplusplus
}
#endif

#endif /* VINE_BENCH_H */
