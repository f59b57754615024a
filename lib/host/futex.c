// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * futex.c - sleeping and waking: in this process, and between processes
 */
#include "host/endpoint.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t host_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* FUTEX_WAIT_BITSET's time is absolute, and by CLOCK_MONOTONIC. */
static int futex_wait(const void *word, int private, uint32_t seen, uint64_t deadline)
{
	struct timespec t = { deadline / 1000000000, deadline % 1000000000 };

	if (!syscall(SYS_futex, word, FUTEX_WAIT_BITSET | private, seen,
		     deadline == VINE_FOREVER ? NULL : &t, NULL, FUTEX_BITSET_MATCH_ANY))
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

int host_sleep(atomic_uint *word, unsigned int seen, uint64_t deadline)
{
	return futex_wait(word, FUTEX_PRIVATE_FLAG, seen, deadline);
}

/* Headers of 2021 lack it, and struct futex_waitv. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv	449
#endif

struct word {
	uint64_t seen, address;
	uint32_t flags, reserved;
};

#define WORD_32_BITS	2

int host_sleep_or_bell(atomic_uint *word, unsigned int seen, const __le64 *bell, uint32_t bell_seen,
		       uint64_t deadline)
{
	struct timespec t = { deadline / 1000000000, deadline % 1000000000 };
	struct word words[] = {
		{ seen, (uintptr_t)word, WORD_32_BITS | FUTEX_PRIVATE_FLAG, 0 },
		{ bell_seen, (uintptr_t)bell, WORD_32_BITS, 0 },
	};
	long n = syscall(SYS_futex_waitv, words, 2, 0, deadline == VINE_FOREVER ? NULL : &t, CLOCK_MONOTONIC);

	if (n >= 0 || errno == EAGAIN)
		return 0;
	if (errno != ETIMEDOUT && errno != EINTR)	/* Linux before 5.16, or a filter */
		return host_sleep(word, seen, deadline);
	return -errno;
}

void host_wake(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX);
}

void host_bell_sleep(const __le64 *bell, uint32_t seen, uint64_t deadline)
{
	/* whatever it says: the caller looks again */
	(void)futex_wait(bell, 0, seen, deadline);
}

void host_bell_wake(const __le64 *bell)
{
	syscall(SYS_futex, bell, FUTEX_WAKE, INT_MAX);
}
