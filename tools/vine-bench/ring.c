// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * ring.c - the core's ring between two processes: round trips, and messages one way
 *
 * As a queue uses it: the producer looks for space, writes cells, and looks at the event
 * index whether the consumer sleeps and is to be told; the consumer copies a cell, checks
 * the copy, and hands the space back. Nobody sleeps here, so nobody is told. "Untold" leaves
 * that look out, as rings do whose consumers never sleep.
 */
#include "bench.h"
#include <ring.h>

struct side {
	struct vine_producer tx;
	struct vine_consumer rx;
};

struct state {
	struct side here, there;
	bool relaxed, told;
	unsigned int batch;
	uint64_t wakes;		/* that a sleeper would have needed */
};

/* One ring, from @tx to @rx. */
static void make_ring(struct vine_producer *tx, struct vine_consumer *rx)
{
	tx->ring = shared_memory(VINE_RING_BYTES(BENCH_DEPTH));
	tx->depth = BENCH_DEPTH;
	rx->ring = tx->ring;
	rx->depth = BENCH_DEPTH;
}

/* Room for up to @want cells: how many. */
static unsigned int await_space(struct vine_producer *tx, unsigned int want, bool relaxed)
{
	int space;

	for (;;) {
		space = vine_ring_space(tx, want);
		if (space > 0)
			return (unsigned int)space < want ? (unsigned int)space : want;
		if (space < 0)
			die("the ring's producer saw nonsense");
		wait_a_little(relaxed);
	}
}

/* Up to @want cells: how many. */
static unsigned int await_cells(struct vine_consumer *rx, struct vine_cell *cells,
				unsigned int want, bool relaxed)
{
	unsigned int n = 0;
	int there;

	for (;;) {
		there = vine_ring_peek(rx, n, &cells[n]);
		if (there < 0)
			die("the ring's consumer saw nonsense");
		n += (unsigned int)there;
		if (n == want || (n && !there))
			break;
		if (!there)
			wait_a_little(relaxed);
	}
	(void)vine_ring_consume(rx, n);
	return n;
}

/* ---- there and back ---- */

static void round_trip(void *state, uint64_t count)
{
	struct state *s = state;
	struct vine_cell cell = { .bytes = VINE_CELL_PAYLOAD };
	uint64_t i;

	for (i = 0; i < count; i++) {
		cell.word[0] = i;
		await_space(&s->here.tx, 1, s->relaxed);
		vine_ring_push(&s->here.tx, &cell);
		s->wakes += vine_ring_pushed(&s->here.tx);
		await_cells(&s->here.rx, &cell, 1, s->relaxed);
		if (cell.word[0] != i)
			die("the ring brought another message back");
	}
}

static void send_back(void *state, uint64_t count)
{
	struct state *s = state;
	struct vine_cell cell;

	for (; count; count--) {
		await_cells(&s->there.rx, &cell, 1, s->relaxed);
		await_space(&s->there.tx, 1, s->relaxed);
		vine_ring_push(&s->there.tx, &cell);
		s->wakes += vine_ring_pushed(&s->there.tx);
	}
}

double ring_rtt(const struct bench *b, bool relaxed)
{
	struct state s = { .relaxed = relaxed };
	struct duel d = { round_trip, send_back, &s };

	make_ring(&s.here.tx, &s.there.rx);
	make_ring(&s.there.tx, &s.here.rx);
	return fight(b, &d);
}

/* ---- one way ---- */

static void produce(void *state, uint64_t count)
{
	struct state *s = state;
	struct vine_cell cell = { .bytes = VINE_CELL_PAYLOAD };
	uint64_t sent = 0;
	unsigned int n;

	while (sent < count) {
		n = s->batch < count - sent ? s->batch : (unsigned int)(count - sent);
		n = await_space(&s->there.tx, n, s->relaxed);
		for (; n; n--) {
			cell.word[0] = sent++;
			vine_ring_push(&s->there.tx, &cell);
		}
		if (s->told)
			s->wakes += vine_ring_pushed(&s->there.tx);
	}
}

static void consume(void *state, uint64_t count)
{
	struct state *s = state;
	struct vine_cell cells[BENCH_BATCH];
	uint64_t got = 0;
	unsigned int n, i;

	while (got < count) {
		n = await_cells(&s->here.rx, cells, s->batch, s->relaxed);
		for (i = 0; i < n; i++)
			if (cells[i].word[0] != got++)
				die("the ring brought another message");
	}
}

static double messages(const struct bench *b, bool relaxed, unsigned int batch, bool told)
{
	struct state s = { .relaxed = relaxed, .batch = batch, .told = told };
	struct duel d = { consume, produce, &s };

	make_ring(&s.there.tx, &s.here.rx);
	return fight(b, &d);
}

double ring_one(const struct bench *b, bool relaxed)
{
	return messages(b, relaxed, 1, true);
}

double ring_batch(const struct bench *b, bool relaxed)
{
	return messages(b, relaxed, BENCH_BATCH, true);
}

double ring_one_untold(const struct bench *b, bool relaxed)
{
	return messages(b, relaxed, 1, false);
}

double ring_batch_untold(const struct bench *b, bool relaxed)
{
	return messages(b, relaxed, BENCH_BATCH, false);
}
