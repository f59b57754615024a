/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * actor.h - for tests of the back end "device": an appliance that can be told to misbehave
 *
 * A thread of the test program, on the fake device (fake_vine.h). It checks that the client
 * keeps to the protocol, and does tasks at once: the first output becomes the task's first
 * buffer, with one added to each byte, the others are filled with their number.
 */
#ifndef ACTOR_H
#define ACTOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <vine_talk.h>

/* What is done to a message instead of sending it as it is. */
enum actor_trick {
	HONEST,
	CLOSE,			/* its queue is closed */
	DIE,			/* everything is closed */
	SILENT,			/* it is not sent */
	TWICE,			/* sent twice */
	SHORT,			/* a byte less */
	EMPTY,			/* no byte at all */
	LONG,			/* of the greatest length there is */
	OP, A, B, C, TAG,	/* that field is changed */
	NO,			/* a is 1: no, where that is asked */
	ONES,			/* all bytes after the head are 0xff */
	ACTOR_TRICKS
};

/* Set before actor_start(), or at any time when they are atomic. */
struct actor {
	const char *name;
	unsigned int accels;		/* of types CPU, GPU, FPGA, CPU, ... */
	int64_t offset;			/* its clock is ahead by so many ns */
	enum actor_trick trick;
	int trick_at;			/* which message that it sends, counted from 0 */
	unsigned int slow_ms;		/* it takes so long to say what an accelerator is */
	bool broken;			/* its accelerators are accel_failed, with statistics */
	bool no_register;		/* other bytes are registered already, for all names */

	atomic_bool deaf;		/* pulls nothing */
	atomic_bool hold;		/* keeps what is done to itself */
	atomic_int reason, detail;	/* of tasks */

	/* what it has seen */
	atomic_uint rounds;		/* of its loop: it knows what was set two rounds ago */
	atomic_uint queues;		/* open */
	atomic_uint accepted;		/* queues, ever */
	atomic_uint regions;		/* attached, on all queues */
	atomic_uint procedures;		/* references to some */
	atomic_uint registered;		/* ever */
	atomic_uint sent;		/* messages */
	atomic_uint tasks;		/* that came */
	atomic_uint held;		/* exclusive accelerators */
	atomic_uint violations;		/* of the protocol, each printed as a comment */
};

void actor_start(struct actor *a);
/* Ends it, if it has not died, and waits for it. */
void actor_stop(struct actor *a);

#endif /* ACTOR_H */
