// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * data.c - what a producer writes and a consumer reads, each byte of it; and copies
 */
#include <stdlib.h>
#include <string.h>

#include "guest.h"

void data_fill(void *to, uint64_t bytes, uint64_t seed)
{
	uint64_t *word = to, i;

	for (i = 0; i < bytes / 8; i++)
		word[i] = seed + i;
}

uint64_t data_sum(const void *from, uint64_t bytes)
{
	const uint64_t *word = from;
	uint64_t i, sum = 0;

	for (i = 0; i < bytes / 8; i++)
		sum += word[i];
	return sum;
}

uint64_t data_expected(uint64_t bytes, uint64_t seed)
{
	uint64_t n = bytes / 8;

	return n * seed + n * (n - 1) / 2;
}

#define COPIES	8	/* as many pairs as there are tasks in flight: more than a cache */

void data_copy(uint64_t count)
{
	static char *from, *to;
	uint64_t i;

	if (!from) {
		from = aligned_alloc(4096, COPIES * MIB);
		to = aligned_alloc(4096, COPIES * MIB);
		if (!from || !to)
			die("no memory");
		data_fill(from, COPIES * MIB, 1);
		data_fill(to, COPIES * MIB, 2);
	}
	for (i = 0; i < count; i++)
		memcpy(to + i % COPIES * MIB, from + i % COPIES * MIB, MIB);
	/* so that no copy is left out */
	__asm__ volatile("" : : "r"(to) : "memory");
}
