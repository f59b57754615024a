/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * pingpong.h - a ping-pong of two cache lines, of which each side writes one: what a round
 *              trip through shared memory is compared with
 */
#ifndef VINE_BENCH_PINGPONG_H
#define VINE_BENCH_PINGPONG_H

#include "bench.h"

struct pingpong {
	uint64_t ping __attribute__((aligned(BENCH_LINE)));
	uint64_t pong __attribute__((aligned(BENCH_LINE)));
};

/* @rounds: so far; zeroed memory has seen none. */
static inline void pingpong_ping(struct pingpong *p, uint64_t rounds, uint64_t count,
				 bool relaxed)
{
	uint64_t i;

	for (i = rounds + 1; i <= rounds + count; i++) {
		__atomic_store_n(&p->ping, i, __ATOMIC_RELEASE);
		while (__atomic_load_n(&p->pong, __ATOMIC_ACQUIRE) != i)
			wait_a_little(relaxed);
	}
}

static inline void pingpong_pong(struct pingpong *p, uint64_t rounds, uint64_t count,
				 bool relaxed)
{
	uint64_t i;

	for (i = rounds + 1; i <= rounds + count; i++) {
		while (__atomic_load_n(&p->ping, __ATOMIC_ACQUIRE) != i)
			wait_a_little(relaxed);
		__atomic_store_n(&p->pong, i, __ATOMIC_RELEASE);
	}
}

#endif /* VINE_BENCH_PINGPONG_H */
