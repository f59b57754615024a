// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * ring_test.c - cells, indices, the two event indices; and sleepers on two threads
 */
#include <sys/eventfd.h>
#include <poll.h>
#include "tap.h"
#include "world.h"

static struct vine_wire_ring *ring;
static struct vine_producer tx;
static struct vine_consumer rx;

static void ring_new(u32 depth)
{
	free(ring);
	ring = aligned_alloc(64, VINE_RING_BYTES(depth));
	memset(ring, 0, VINE_RING_BYTES(depth));
	tx = (struct vine_producer){ .ring = ring, .depth = depth };
	rx = (struct vine_consumer){ .ring = ring, .depth = depth };
}

static bool push(u64 value)
{
	struct vine_cell m = { { value, ~value }, 16 };

	if (vine_ring_space(&tx, 1) < 1)
		return false;
	vine_ring_push(&tx, &m);
	return true;
}

static bool pull(u64 *value)
{
	struct vine_cell m;

	if (vine_ring_peek(&rx, 0, &m) != 1 || m.bytes != 16 || m.word[1] != ~m.word[0])
		return false;
	*value = m.word[0];
	vine_ring_consume(&rx, 1);
	return true;
}

static void order(u32 depth)
{
	u64 in = 0, out = 0, v, seed = depth;
	u32 i, n;

	ring_new(depth);
	while (out < 20 * depth) {
		n = (u32)(rnd(&seed) % (depth + 1));
		for (i = 0; i < n && push(in); i++)
			in++;
		n = (u32)(rnd(&seed) % (depth + 1));
		for (i = 0; i < n && pull(&v); i++)
			CHECK(v == out++);
		vine_ring_publish(&rx);
		CHECK(in - out <= depth);
	}
}

static void order_2(void)
{
	order(2);
}

static void order_4096(void)
{
	order(4096);
}

static void full(void)
{
	u32 depth, i;
	u64 v;

	for (depth = 2; depth <= 4096; depth *= 2) {
		ring_new(depth);
		for (i = 0; i < depth; i++)
			CHECK(push(i));
		CHECK(!push(0) && vine_ring_space(&tx, 1) == 0);
		CHECK(vine_ring_space(&tx, 0) == 0);
		CHECK(pull(&v) && v == 0);
		vine_ring_publish(&rx);
		CHECK(push(depth) && !push(0));
		for (i = 1; i <= depth; i++)
			CHECK(pull(&v) && v == i);
		CHECK(!pull(&v) && vine_ring_ready(&rx) == 0);
	}
}

static void space_wanted(void)
{
	u64 v;
	u32 i;

	ring_new(8);
	for (i = 0; i < 6; i++)
		push(i);
	for (i = 0; i < 5; i++)
		pull(&v);
	vine_ring_publish(&rx);
	CHECK(vine_ring_space(&tx, 2) == 2);	/* enough: it does not look */
	CHECK(vine_ring_space(&tx, 3) == 7);
	CHECK(vine_ring_space(&tx, 100) == 7);
}

static void payloads(void)
{
	struct vine_cell m, got;
	u32 n, i;

	ring_new(4);
	for (n = 0; n <= 56; n++) {
		for (i = 0; i < 7; i++)
			m.word[i] = n * 100 + i;
		m.bytes = n;
		vine_ring_push(&tx, &m);
		CHECK(vine_ring_peek(&rx, 0, &got) == 1 && got.bytes == n);
		CHECK(!memcmp(m.word, got.word, 56));
		vine_ring_consume(&rx, 1);
	}
}

static void peek_ahead(void)
{
	struct vine_cell m;
	u32 i;

	ring_new(8);
	for (i = 0; i < 5; i++)
		push(i + 50);
	for (i = 0; i < 5; i++)
		CHECK(vine_ring_peek(&rx, i, &m) == 1 && m.word[0] == i + 50);
	for (i = 5; i <= 8; i++)
		CHECK(vine_ring_peek(&rx, i, &m) == 0);
	vine_ring_consume(&rx, 5);
	vine_ring_publish(&rx);
	for (i = 0; i < 8; i++)
		push(i + 60);
	for (i = 0; i < 8; i++)
		CHECK(vine_ring_peek(&rx, i, &m) == 1 && m.word[0] == i + 60);
	CHECK(vine_ring_peek(&rx, 8, &m) == 0);
}

/* Armed at n, the producer must be told when cell n is there, and only then. */
static void event_exact(void)
{
	u32 armed, before, batch, i;
	u64 v;

	for (armed = 0; armed < 8; armed++) {
		for (before = 0; before < 4; before++) {
			for (batch = 1; batch < 5; batch++) {
				ring_new(16);
				for (i = 0; i < armed; i++)
					push(i);
				for (i = 0; i < armed; i++)
					pull(&v);
				vine_ring_publish(&rx);
				vine_ring_pushed(&tx);
				CHECK(vine_ring_arm(&rx) == 0);
				/* looks at the event index without a cell */
				for (i = 0; i < before; i++)
					CHECK(!vine_ring_pushed(&tx));
				for (i = 0; i < batch; i++)
					push(i);
				CHECK(vine_ring_pushed(&tx));
				CHECK(!vine_ring_pushed(&tx));
				push(0);
				CHECK(!vine_ring_pushed(&tx));
			}
		}
	}
}

static void event_ahead(void)
{
	u64 v;
	u32 i;

	ring_new(16);
	push(0);
	vine_ring_pushed(&tx);
	pull(&v);
	vine_st64(&ring->event, 5);	/* "when the sixth is there" */
	for (i = 1; i < 5; i++) {
		push(i);
		CHECK(!vine_ring_pushed(&tx));
	}
	push(5);
	CHECK(vine_ring_pushed(&tx));
	push(6);
	CHECK(!vine_ring_pushed(&tx));
}

static void event_busy(void)
{
	u64 v, told = 0;
	u32 i;

	/* a consumer that never sleeps is told once at most */
	ring_new(16);
	for (i = 0; i < 1000; i++) {
		push(i);
		told += vine_ring_pushed(&tx);
		pull(&v);
	}
	CHECK(told <= 1);
}

static void arm_sees(void)
{
	ring_new(4);
	push(1);
	CHECK(vine_ring_arm(&rx) == 1);
}

static void space_event(void)
{
	u32 depth, n, i;
	u64 v;

	for (depth = 2; depth <= 64; depth *= 2) {
		for (n = 1; n <= depth; n++) {
			ring_new(depth);
			for (i = 0; i < depth; i++)
				push(i);
			pull(&v);
			vine_ring_publish(&rx);
			push(0);
			CHECK(vine_ring_arm_space(&tx) == 0);
			CHECK(!vine_ring_publish(&rx));
			bool told = false;

			for (i = 0; i < n; i++) {
				CHECK(vine_ring_peek(&rx, 0, &(struct vine_cell){ { 0 }, 0 }) == 1);
				told |= vine_ring_consume(&rx, 1);
			}
			told |= vine_ring_publish(&rx);
			CHECK(told);
			CHECK(vine_ring_space(&tx, 1) == (int)n);
		}
	}
}

static void space_once(void)
{
	u64 v;
	u32 i, told = 0;

	ring_new(64);
	for (i = 0; i < 64; i++)
		push(i);
	vine_ring_arm_space(&tx);
	for (i = 0; i < 64; i++) {
		rx.head++;
		told += vine_ring_publish(&rx);
	}
	CHECK(told == 1);
	/* nobody waits for space: nobody is told */
	for (i = 0; i < 640; i++) {
		CHECK(push(i) && pull(&v));
		CHECK(!vine_ring_publish(&rx));
	}
}

static void arm_space_sees(void)
{
	u64 v;
	u32 i;

	ring_new(4);
	for (i = 0; i < 4; i++)
		push(i);
	pull(&v);
	vine_ring_publish(&rx);
	CHECK(vine_ring_arm_space(&tx) == 1);
}

static void impossible_head(void)
{
	struct vine_cell m;
	u64 seq, v, i, depth = 8;
	u32 at;

	for (at = 0; at < 24; at++) {
		for (seq = 0; seq < 64; seq++) {
			ring_new((u32)depth);
			for (i = 0; i < at; i++) {
				push(i);
				pull(&v);
				vine_ring_publish(&rx);
			}
			vine_st64(&vine_ring_cell(ring, 8, at)->head, VINE_CELL_HEAD(seq, 8));
			int want = seq == at + 1 ? 1 :
				seq == (at >= depth ? at + 1 - depth : 0) ? 0 : -EIO;

			CHECK(vine_ring_peek(&rx, 0, &m) == want);
			CHECK(vine_ring_ready(&rx) == want);
			vine_ring_publish(&rx);
			CHECK(vine_ring_arm(&rx) == want);
		}
	}
}

static void far_head(void)
{
	struct vine_cell m;
	u32 bit;

	ring_new(8);
	for (bit = 0; bit < 56; bit++) {
		vine_st64(&vine_ring_cell(ring, 8, 0)->head, VINE_CELL_HEAD((1ULL << bit), 8));
		CHECK(vine_ring_peek(&rx, 0, &m) == (bit ? -EIO : 1));
	}
	vine_st64(&vine_ring_cell(ring, 8, 0)->head, ~0ULL);
	CHECK(vine_ring_peek(&rx, 0, &m) == -EIO && vine_ring_ready(&rx) == -EIO);
}

static void impossible_bytes(void)
{
	struct vine_cell m;
	u32 n;

	ring_new(8);
	for (n = 0; n < 256; n++) {
		vine_st64(&vine_ring_cell(ring, 8, 0)->head, VINE_CELL_HEAD(1ULL, n));
		CHECK(vine_ring_peek(&rx, 0, &m) == (n <= 56 ? 1 : -EIO));
	}
}

static void impossible_consumed(void)
{
	u64 c, from, tail;
	u32 i;

	for (tail = 4; tail <= 12; tail++) {
		for (c = 0; c < 40; c++) {
			u64 v;

			ring_new(4);
			for (i = 0; i < tail; i++) {
				if (!push(i)) {
					pull(&v);
					vine_ring_publish(&rx);
					push(i);
				}
			}
			from = tx.consumed;
			vine_st64(&ring->consumed, c);
			int want = c < from || c > tail ? -EIO : (int)(4 - (tail - c));

			CHECK(vine_ring_space(&tx, 5) == want);
			CHECK(want == -EIO ? tx.consumed == from : tx.consumed == c);
		}
	}
	ring_new(4);
	push(0);
	for (i = 1; i < 64; i++) {
		vine_st64(&ring->consumed, 1ULL << i);
		CHECK(vine_ring_space(&tx, 4) == -EIO && vine_ring_arm_space(&tx) == 3);
	}
	vine_st64(&ring->consumed, ~0ULL);
	CHECK(vine_ring_space(&tx, 4) == -EIO);
}

static void quarters(void)
{
	u32 depth, i;
	u64 v, last;

	for (depth = 2; depth <= 4096; depth *= 2) {
		ring_new(depth);
		for (i = 0; i < depth; i++)
			push(i);
		last = 0;
		for (i = 1; i <= depth; i++) {
			CHECK(pull(&v));
			if (i - last >= (depth + 3) / 4)
				last = i;
			CHECK(vine_ld64(&ring->consumed) == last);
		}
		vine_ring_publish(&rx);
		CHECK(vine_ld64(&ring->consumed) == depth);
	}
}

static void copied_once(void)
{
	struct vine_cell m;

	ring_new(4);
	push(42);
	CHECK(vine_ring_peek(&rx, 0, &m) == 1);
	memset(vine_ring_cell(ring, 4, 0), 0xff, 4 * 64);
	CHECK(m.word[0] == 42 && m.word[1] == ~42ULL && m.bytes == 16);
}

/* How many wait, at every position and fill of every small ring. */
static void waiting(void)
{
	u32 depth, at, i;
	u64 v;

	for (depth = 2; depth <= 64; depth *= 2) {
		ring_new(depth);
		CHECK(vine_ring_waiting(&rx) == 0);
		for (at = 0; at < 3 * depth; at++) {
			for (i = 1; i <= depth; i++) {
				CHECK(push(i));
				CHECK(vine_ring_waiting(&rx) == i);
			}
			while (i-- > 1) {
				CHECK(vine_ring_waiting(&rx) == i && pull(&v));
				vine_ring_publish(&rx);
			}
			CHECK(vine_ring_waiting(&rx) == 0);
			CHECK(push(0) && pull(&v));
			vine_ring_publish(&rx);
		}
	}
}

/* Whatever stands in the cells, it is a number up to the depth. */
static void waiting_lies(void)
{
	struct vine_wire_cell *cell;
	u64 seed = 1;
	u32 i, n;

	ring_new(64);
	for (n = 0; n < 1000; n++) {
		for (i = 0; i < 64; i++) {
			cell = vine_ring_cell(ring, 64, i);
			vine_st64(&cell->head, VINE_CELL_HEAD(rnd(&seed) & 1 ? i + 1 : rnd(&seed), 0));
		}
		CHECK(vine_ring_waiting(&rx) <= 64);
	}
}

/* ---- two peers that sleep ---- */

static struct world *w;
static struct vine_queue cq, sq;
static int bell_fd[2];
static u64 messages, sleeps[2];
static u32 spin_max;
static bool lost;

static void bell(struct world *world, u32 ivpos, u32 vector)
{
	u64 one = 1;

	(void)world;
	(void)vector;
	if (write(bell_fd[ivpos], &one, sizeof(one)) != sizeof(one))
		abort();
}

/* Sleeps until a doorbell comes: there is no tick. Then drains, as an interrupt does. */
static bool doze(u32 who)
{
	struct pollfd fd = { .fd = bell_fd[who], .events = POLLIN };
	u64 n;

	sleeps[who]++;
	if (poll(&fd, 1, 10000) != 1) {
		printf("# peer %u was never woken\n", who);
		WRITE_ONCE(lost, true);
		return false;
	}
	if (read(bell_fd[who], &n, sizeof(n)) != sizeof(n))
		abort();
	peer_drain(w->peer[who], 0);
	return true;
}

static u64 checksum(u64 n)
{
	return rnd(&n);
}

static void *producer(void *arg)
{
	u64 n = 0, seed = 1;
	u32 i, spin;
	struct vine_cell m;

	(void)arg;
	while (n < messages && !READ_ONCE(lost)) {
		int room = vine_ring_space(&cq.tx, 1);
		u32 batch = 1 + (u32)(rnd(&seed) % 8);

		for (i = 0; i < batch && (int)i < room && n < messages; i++, n++) {
			m = (struct vine_cell){ { n, checksum(n), n ^ 5 }, (u32)(n % 57) };
			vine_ring_push(&cq.tx, &m);
		}
		if (vine_ring_pushed(&cq.tx))
			vine_queue_notify(&cq);
		if (room > (int)i)
			continue;
		for (spin = (u32)(rnd(&seed) % spin_max); spin; spin--)
			if (vine_ring_space(&cq.tx, 1))
				break;
		if (!spin && !vine_ring_arm_space(&cq.tx) && !doze(0))
			break;
	}
	return NULL;
}

static void *consumer(void *arg)
{
	u64 n = 0, seed = 2;
	struct vine_cell m;
	u32 spin;
	int got;

	(void)arg;
	while (n < messages && !READ_ONCE(lost)) {
		got = vine_ring_peek(&sq.rx, 0, &m);
		if (got == 1) {
			if (!EXPECT(m.word[0] == n && m.word[1] == checksum(n) &&
				    m.word[2] == (n ^ 5) && m.bytes == n % 57)) {
				WRITE_ONCE(lost, true);
				break;
			}
			n++;
			if (vine_ring_consume(&sq.rx, 1))
				vine_queue_notify(&sq);
			continue;
		}
		EXPECT(!got);
		if (vine_ring_publish(&sq.rx))
			vine_queue_notify(&sq);
		for (spin = (u32)(rnd(&seed) % spin_max); spin; spin--)
			if (vine_ring_ready(&sq.rx))
				break;
		if (!spin && !vine_ring_arm(&sq.rx) && !doze(1))
			break;
	}
	EXPECT(n == messages);
	return NULL;
}

static void stress(u32 depth)
{
	unsigned int rounds = 100;
	pthread_t t[2];
	int i;

	w = world_with(2);
	w->on_bell = bell;
	messages = SCALED(1000000ULL);
	spin_max = depth == 2 ? SCALED(20000) : 300;
	lost = false;
	for (i = 0; i < 2; i++) {
		bell_fd[i] = eventfd(0, 0);
		sleeps[i] = 0;
	}
	EXPECT(!world_pair(w->peer[0], w->peer[1], depth, &cq, &sq));
	/* a machine that runs one after the other gives them little reason to sleep */
	do {
		pthread_create(&t[0], NULL, producer, NULL);
		pthread_create(&t[1], NULL, consumer, NULL);
		for (i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
	} while (!lost && sleeps[0] + sleeps[1] <= messages / 10000 && --rounds);
	EXPECT(!lost);
	printf("# depth %u: %llu messages; the producer slept %llu times, the consumer %llu times\n",
	       depth, (unsigned long long)messages, (unsigned long long)sleeps[0],
	       (unsigned long long)sleeps[1]);
	EXPECT(sleeps[0] + sleeps[1] > messages / 10000);
	for (i = 0; i < 2; i++) {
		close(bell_fd[i]);
		peer_leave(w->peer[i]);
	}
	EXPECT(world_clean(w));
	world_free(w);
}

static void stress_2(void)
{
	stress(2);
}

static void stress_8(void)
{
	stress(8);
}

static void stress_256(void)
{
	stress(256);
}

static const struct tap_test tests[] = {
	{ "cells come in order through a ring of 2", order_2 },
	{ "cells come in order through a ring of 4096", order_4096 },
	{ "a full ring takes no cell, and one for each that is consumed", full },
	{ "space is looked up only when the known space is not enough", space_wanted },
	{ "payloads of 0 to 56 bytes are whole", payloads },
	{ "peeking ahead sees each cell that is there and no other", peek_ahead },
	{ "an armed consumer is told of its cell, once, and of no other", event_exact },
	{ "an event index ahead is told when it is crossed", event_ahead },
	{ "a consumer that never sleeps is not told", event_busy },
	{ "arming a ring with a cell says so", arm_sees },
	{ "a producer that waits for space is told of the first", space_event },
	{ "a producer is told of space once, and not when it does not wait", space_once },
	{ "arming for space when there is some says so", arm_space_sees },
	{ "every impossible sequence number is EIO", impossible_head },
	{ "a sequence number far off is EIO", far_head },
	{ "a payload longer than 56 bytes is EIO", impossible_bytes },
	{ "every impossible consumer index is EIO and not believed", impossible_consumed },
	{ "the consumer's index is published at every quarter and not between", quarters },
	{ "a cell is copied once", copied_once },
	{ "the cells that wait are counted", waiting },
	{ "cells that lie are counted up to the depth", waiting_lies },
	{ "depth 2, both sides sleep: nothing is lost", stress_2 },
	{ "depth 8, both sides sleep: nothing is lost", stress_8 },
	{ "depth 256, both sides sleep: nothing is lost", stress_256 },
};

TAP_MAIN(tests)
