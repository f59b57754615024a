/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * common.h - what the traffic programs share: TAP, options, time, counts
 *
 * A program says its plan first, so that whoever reads its output notices when it
 * dies before its end.
 */
#ifndef TRAFFIC_COMMON_H
#define TRAFFIC_COMMON_H

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vine.h>

#define __printf(at, first)	__attribute__((__format__(__printf__, at, first)))
#define __noreturn		__attribute__((__noreturn__))

/* ---- TAP ---- */

void tap_plan(int tests);
/* One test. Gives @good back. */
__printf(2, 3) bool tap_ok(bool good, const char *format, ...);
__printf(2, 3) void tap_skip(int tests, const char *format, ...);
__printf(1, 2) void tap_note(const char *format, ...);
/* What main() returns: 0 when all that was planned was run and has passed. */
int tap_end(void);
/* The program cannot go on. Kills nobody: children die with their parent. */
__printf(1, 2) __noreturn void tap_bail(const char *format, ...);

/* ---- command line: "--name VALUE" for each, in any order ---- */

struct option_value {
	const char *name;	/* with its dashes */
	const char **text;	/* one of these three: where it goes */
	long *number;
	bool *flag;
};

/* Ends the program for --help and for what is not understood. */
void parse_options(int argc, char **argv, const char *usage,
		   const struct option_value *options);

/* The program bails out after so many seconds. */
void limit_time(long seconds);

/* ---- time ---- */

uint64_t now_ns(void);
/* A breath between two looks; true when @deadline (ns) is over. */
bool late(uint64_t deadline);

/* True as soon as @condition is; false after @seconds. */
#define until(condition, seconds)					\
({									\
	uint64_t __end = now_ns() + (seconds) * 1000000000ULL;		\
	bool __is;							\
									\
	while (!(__is = (condition)) && !late(__end))			\
		;							\
	__is;								\
})

/* ---- memory that others look at ---- */

static inline void store(uint64_t *at, uint64_t value)
{
	__atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static inline uint64_t load(const uint64_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

/* ---- numbers ---- */

static inline uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
	return x ^ x >> 32;
}

/* The next of a sequence that @state seeds. */
static inline uint64_t next_random(uint64_t *state)
{
	return mix(*state += 0x9e3779b97f4a7c15ULL);
}

/* ---- the device ---- */

/* Open, and the program ends (as skipped) if there is none. NULL: the default. */
int open_device(const char *path);
struct vine_info device_info(int device);

/*
 * Waits until everything has come back: all that is ours, or with @alone all that is
 * in the segment but services. Tells what has not.
 */
bool all_back(int device, bool alone, int seconds);

/*
 * Two programs meet: one offers, the other connects. False when the other did not
 * come. The value goes from who offers to who connects, and the other way.
 */
bool meet(int device, bool offer, const char *name, uint64_t tell, uint64_t *told,
	  int seconds);

#endif /* TRAFFIC_COMMON_H */
