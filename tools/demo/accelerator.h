/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * accelerator.h - the accelerators of the demo's appliance: two threads of the CPU
 */
#ifndef DEMO_ACCELERATOR_H
#define DEMO_ACCELERATOR_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One task. The giver owns it, and the memory that it names, until it is done. */
struct job {
	struct job *next;
	void *owner;		/* the giver's */
	uint64_t tag;		/* the giver's */
	const uint8_t *in;
	uint8_t *out;
	uint32_t in_bytes;
	uint32_t out_room;
	uint32_t status;	/* Out: enum demo_status */
	uint32_t out_bytes;	/* Out */
};

/* First in, first out; what is empty has @first NULL. */
struct jobs {
	struct job *first, *last;
};

/* Where accelerators put what they have done; @event counts it and can be polled. */
struct done {
	pthread_mutex_t lock;
	struct jobs jobs;
	int event;
};

struct accelerator {
	const char *name;
	void (*run)(struct job *job);
	bool corrupt;		/* spoil the next result: for the tests of the demo */

	struct done *done;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct jobs jobs;
	bool stop;
};

void accelerator_sha256(struct job *job);
void accelerator_deflate(struct job *job);

/* @a: name, run and corrupt are set. Returns 0 or an errno. */
int accelerator_start(struct accelerator *a, struct done *done);

/* Ends when the job at hand is done; those that wait are left undone. */
void accelerator_stop(struct accelerator *a);

/* Does not block. Jobs of one accelerator are done in the order given. */
void accelerator_give(struct accelerator *a, struct job *job);

void jobs_add(struct jobs *jobs, struct job *job);
struct job *jobs_take(struct jobs *jobs);

#endif
