// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * queues.c - between two guests: the bare ping-pong, and round trips over a queue by the
 *            transfer call, spinning or asleep
 */
#include <errno.h>
#include <string.h>

#include "guest.h"

void lines_ping(struct link *l, uint64_t count)
{
	pingpong_ping(l->lines, l->rounds, count, false);
	l->rounds += count;
}

void lines_pong(struct link *l, uint64_t count)
{
	pingpong_pong(l->lines, l->rounds, count, false);
	l->rounds += count;
}

/* One call: pushes @msg if told so, and pulls into it. Returns how many were pulled. */
static unsigned int transfer(int queue, struct vine_msg *msg, bool push, bool spin)
{
	struct vine_transfer t;
	struct vine_msg in;
	int ret;

	memset(&t, 0, sizeof(t));
	if (push) {
		t.push = (uintptr_t)msg;
		t.push_count = 1;
	}
	t.pull = (uintptr_t)&in;
	t.pull_count = 1;
	t.pull_min = !spin;
	t.deadline = spin ? 0 : VINE_FOREVER;
	ret = vine_transfer(queue, &t);
	if (ret == -EAGAIN && spin && !push)
		return 0;
	check(ret, "transfer");
	if (push && !t.push_count)
		die("no room for a message");
	if (t.pull_count)
		*msg = in;
	return t.pull_count;
}

void queue_ping(struct link *l, uint64_t count, bool spin, uint64_t *each)
{
	struct vine_msg msg = { .len = MESSAGE };
	uint64_t i, begin = 0, end;

	if (each)
		begin = now_ns();
	for (i = 0; i < count; i++) {
		memcpy(msg.data, &i, sizeof(i));
		if (!transfer(l->queue, &msg, true, spin))
			while (!transfer(l->queue, &msg, false, spin))
				;
		if (memcmp(msg.data, &i, sizeof(i)))
			die("the queue brought another message back");
		if (!each)
			continue;
		end = now_ns();
		each[i] = end - begin;
		begin = end;
	}
}

void queue_pong(struct link *l, uint64_t count, bool spin)
{
	struct vine_msg msg;

	while (!transfer(l->queue, &msg, false, spin))
		;
	for (; count > 1; count--)
		if (!transfer(l->queue, &msg, true, spin))
			while (!transfer(l->queue, &msg, false, spin))
				;
	check(vine_push(l->queue, &msg, 1), "push");
}
