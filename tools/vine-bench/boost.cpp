// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * boost.cpp - messages through boost::lockfree::spsc_queue, of structures of 64 bytes
 *
 * Its capacity is a constant of the program, which is the quicker of its two kinds.
 */
#include <new>

#include <boost/lockfree/spsc_queue.hpp>

#include "bench.h"

namespace {

struct message {
	uint64_t word[8];
};

typedef boost::lockfree::spsc_queue<message, boost::lockfree::capacity<BENCH_DEPTH - 1>> queue;

struct state {
	queue *q;
	bool relaxed;

	explicit state(bool r) : q(new (shared_memory(sizeof(queue))) queue), relaxed(r) {}
};

void check(const message &m, uint64_t expected)
{
	if (m.word[0] != expected)
		die("spsc_queue brought another message");
}

/* ---- one at a time ---- */

void produce_one(void *arg, uint64_t count)
{
	state *s = static_cast<state *>(arg);
	message m = {};

	while (m.word[0] < count) {
		while (!s->q->push(m))
			wait_a_little(s->relaxed);
		m.word[0]++;
	}
}

void consume_one(void *arg, uint64_t count)
{
	state *s = static_cast<state *>(arg);
	message m;

	for (uint64_t i = 0; i < count; i++) {
		while (!s->q->pop(m))
			wait_a_little(s->relaxed);
		check(m, i);
	}
}

/* ---- many at a time ---- */

void produce_batch(void *arg, uint64_t count)
{
	state *s = static_cast<state *>(arg);
	message m[BENCH_BATCH] = {};
	uint64_t sent = 0;

	while (sent < count) {
		size_t n = BENCH_BATCH < count - sent ? BENCH_BATCH : count - sent;

		for (size_t i = 0; i < n; i++)
			m[i].word[0] = sent++;
		for (size_t i = 0, done; i < n; i += done) {
			done = s->q->push(m + i, n - i);
			if (!done)
				wait_a_little(s->relaxed);
		}
	}
}

void consume_batch(void *arg, uint64_t count)
{
	state *s = static_cast<state *>(arg);
	message m[BENCH_BATCH];
	uint64_t got = 0;

	while (got < count) {
		size_t n = s->q->pop(m, BENCH_BATCH);

		if (!n)
			wait_a_little(s->relaxed);
		for (size_t i = 0; i < n; i++)
			check(m[i], got++);
	}
}

} /* namespace */

double boost_one(const struct bench *b, bool relaxed)
{
	state s(relaxed);
	struct duel d = { consume_one, produce_one, &s };

	return fight(b, &d);
}

double boost_batch(const struct bench *b, bool relaxed)
{
	state s(relaxed);
	struct duel d = { consume_batch, produce_batch, &s };

	return fight(b, &d);
}
