// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * rte.c - messages through DPDK's rte_ring: one producer, one consumer, elements of 64 bytes
 *
 * All of the ring that runs here is inline in its headers (Debian: libdpdk-dev), so no
 * library of DPDK is needed; what rte_ring_init() would set is set by hand.
 */
#include "bench.h"
#include <rte_ring.h>
#include <rte_ring_elem.h>

struct message {
	uint64_t word[8];
};

struct state {
	struct rte_ring *ring;
	bool relaxed;
};

static struct rte_ring *make_ring(void)
{
	struct rte_ring *r = shared_memory(sizeof(*r) + BENCH_DEPTH * sizeof(struct message));

	r->size = BENCH_DEPTH;
	r->mask = BENCH_DEPTH - 1;
	r->capacity = BENCH_DEPTH - 1;
	r->prod.sync_type = RTE_RING_SYNC_ST;
	r->cons.sync_type = RTE_RING_SYNC_ST;
	return r;
}

static void check(const struct message *m, uint64_t expected)
{
	if (m->word[0] != expected)
		die("rte_ring brought another message");
}

/* ---- one at a time ---- */

static void produce_one(void *state, uint64_t count)
{
	struct state *s = state;
	struct message m = { 0 };

	while (m.word[0] < count) {
		while (rte_ring_sp_enqueue_elem(s->ring, &m, sizeof(m)))
			wait_a_little(s->relaxed);
		m.word[0]++;
	}
}

static void consume_one(void *state, uint64_t count)
{
	struct state *s = state;
	struct message m;
	uint64_t i;

	for (i = 0; i < count; i++) {
		while (rte_ring_sc_dequeue_elem(s->ring, &m, sizeof(m)))
			wait_a_little(s->relaxed);
		check(&m, i);
	}
}

/* ---- many at a time ---- */

static void produce_batch(void *state, uint64_t count)
{
	struct state *s = state;
	struct message m[BENCH_BATCH] = { 0 };
	uint64_t sent = 0;
	unsigned int n, i, done;

	while (sent < count) {
		n = BENCH_BATCH < count - sent ? BENCH_BATCH : (unsigned int)(count - sent);
		for (i = 0; i < n; i++)
			m[i].word[0] = sent++;
		for (i = 0; i < n; i += done) {
			done = rte_ring_sp_enqueue_burst_elem(s->ring, &m[i], sizeof(m[0]),
							      n - i, NULL);
			if (!done)
				wait_a_little(s->relaxed);
		}
	}
}

static void consume_batch(void *state, uint64_t count)
{
	struct state *s = state;
	struct message m[BENCH_BATCH];
	uint64_t got = 0;
	unsigned int n, i;

	while (got < count) {
		n = rte_ring_sc_dequeue_burst_elem(s->ring, m, sizeof(m[0]), BENCH_BATCH, NULL);
		if (!n)
			wait_a_little(s->relaxed);
		for (i = 0; i < n; i++)
			check(&m[i], got++);
	}
}

double rte_one(const struct bench *b, bool relaxed)
{
	struct state s = { make_ring(), relaxed };
	struct duel d = { consume_one, produce_one, &s };

	return fight(b, &d);
}

double rte_batch(const struct bench *b, bool relaxed)
{
	struct state s = { make_ring(), relaxed };
	struct duel d = { consume_batch, produce_batch, &s };

	return fight(b, &d);
}
