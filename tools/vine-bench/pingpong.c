// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * pingpong.c - the bare ping-pong between two processes
 */
#include "bench.h"
#include "pingpong.h"

struct state {
	struct pingpong *shared;
	bool relaxed;
	uint64_t rounds;	/* so far */
};

static void ping_two(void *state, uint64_t count)
{
	struct state *s = state;

	pingpong_ping(s->shared, s->rounds, count, s->relaxed);
	s->rounds += count;
}

static void pong_two(void *state, uint64_t count)
{
	struct state *s = state;

	pingpong_pong(s->shared, s->rounds, count, s->relaxed);
	s->rounds += count;
}

/* One line, which both write in turn: odd numbers, even numbers. */
static void volley(void *state, uint64_t count, uint64_t mine)
{
	struct state *s = state;
	uint64_t *line = &s->shared->ping, i;

	for (i = 2 * s->rounds; i < 2 * (s->rounds + count); i += 2) {
		while (__atomic_load_n(line, __ATOMIC_ACQUIRE) != i + mine)
			wait_a_little(s->relaxed);
		__atomic_store_n(line, i + mine + 1, __ATOMIC_RELEASE);
	}
	/* the last one is answered, too */
	while (!mine && __atomic_load_n(line, __ATOMIC_ACQUIRE) != i)
		wait_a_little(s->relaxed);
	s->rounds += count;
}

static void ping_one(void *state, uint64_t count)
{
	volley(state, count, 0);
}

static void pong_one(void *state, uint64_t count)
{
	volley(state, count, 1);
}

double pingpong_one_line(const struct bench *b, bool relaxed)
{
	struct state s = { .shared = shared_memory(sizeof(*s.shared)), .relaxed = relaxed };
	struct duel d = { ping_one, pong_one, &s };

	return fight(b, &d);
}

double pingpong_two_lines(const struct bench *b, bool relaxed)
{
	struct state s = { .shared = shared_memory(sizeof(*s.shared)), .relaxed = relaxed };
	struct duel d = { ping_two, pong_two, &s };

	return fight(b, &d);
}
