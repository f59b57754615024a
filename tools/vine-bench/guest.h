/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * guest.h - the measurements between two guests: what the files of vine-bench-guest share
 *
 * One guest drives and prints the samples, the other one serves. They agree over a queue of
 * their own, the control: an order says what is measured and how often, the answer that it
 * was done.
 */
#ifndef VINE_BENCH_GUEST_H
#define VINE_BENCH_GUEST_H

#include <vine.h>

#include "bench.h"
#include "pingpong.h"

#define MIB		(1UL << 20)
#define MESSAGE		VINE_MSG_DATA	/* bytes of a round trip, of TCP as well */

enum order {
	ORDER_END,
	ORDER_PINGPONG,
	ORDER_XFER,		/* the transfer call, spinning */
	ORDER_BLOCK,		/* the transfer call, asleep */
	ORDER_TCP,
	ORDER_TCP_BULK,
	ORDER_BELLS,		/* how many doorbells it has rung */
};

/* What the two guests have between them. */
struct link {
	int control, queue;
	int tcp;
	struct pingpong *lines;
	uint64_t rounds;	/* of the ping-pong, so far */
};

/* A result of libvine; it ends the program when it is an error. */
int check(int ret, const char *what);

/* ---- queues.c: ping-pong, and round trips over a queue; each side ---- */

void lines_ping(struct link *l, uint64_t count);
void lines_pong(struct link *l, uint64_t count);
/* @each: Out: nanoseconds of each round trip; NULL: not wanted, and nobody reads the clock. */
void queue_ping(struct link *l, uint64_t count, bool spin, uint64_t *each);
void queue_pong(struct link *l, uint64_t count, bool spin);

/* ---- tcp.c: the same, and much data one way ---- */

int tcp_accept(void);
int tcp_connect(const char *address);
void tcp_ping(struct link *l, uint64_t count, uint64_t *each);
void tcp_pong(struct link *l, uint64_t count);
/* So many MiB; the receiver's sum of all bytes comes back. */
void tcp_send(struct link *l, uint64_t count);
void tcp_receive(struct link *l, uint64_t count);

/* ---- data.c: what a producer writes and a consumer reads: all of it ---- */

void data_fill(void *to, uint64_t bytes, uint64_t seed);
uint64_t data_sum(const void *from, uint64_t bytes);
/* What data_sum() makes of the two functions above. */
uint64_t data_expected(uint64_t bytes, uint64_t seed);
/* Copies of 1 MiB. */
void data_copy(uint64_t count);

/* ---- tasks.c: VineTalk ---- */

/* Serves tasks in a process of its own, until this one ends. */
void tasks_serve(void);
void tasks_init(void);
/* Tasks of 1 MiB that is written here and read there, some in flight. */
void tasks_bulk(uint64_t count);
/* Tasks that touch nothing, one at a time, with an input of 64 bytes or of 1 MiB. */
void tasks_small(uint64_t count);
void tasks_large(uint64_t count);
/* Tasks that do nothing, as many in flight as a queue takes. */
void tasks_saturate(uint64_t count);

/* ---- bells.c: doorbells ---- */

/* Counts from now on, for it costs something. False: this kernel cannot count. */
bool bells_count(void);
uint64_t bells_rung(void);
void bells_stop(void);

#endif /* VINE_BENCH_GUEST_H */
