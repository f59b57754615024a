/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * protocol.h - what a VineTalk client and an appliance say to each other
 *
 * Over vine queues, one message of up to 56 bytes at a time, little-endian. The kernel has
 * copied a message before anybody looks at it. Only bulk data and the bytes of procedures
 * are in shared memory, in the client's regions. Documentation/talk.md tells the story.
 *
 * A process has one control queue to each appliance (its session: references to procedures
 * and acquired accelerators belong to it and end with it), and one task queue per thread.
 * A message that makes no sense closes its queue: size, op, a reserved field, a value out
 * of range, an op of the other kind of queue, an answer's op. What can go wrong for an
 * honest client has a status or a reason instead.
 */
#ifndef TALK_PROTOCOL_H
#define TALK_PROTOCOL_H

#include <stdint.h>

#define TALK_SERVICE	0x314b4c4154454e56ULL	/* type of the service: "VNETALK1" */
#define TALK_VERSION	1
#define TALK_DEPTH	64	/* of the rings that the library asks for */
#define TALK_NAME	48	/* bytes of a procedure's name; no terminating zero */
#define TALK_BUFFERS	64	/* args, inputs and outputs of a task */
#define TALK_REGIONS	48	/* as many as can be attached to a queue */
#define TALK_REDZONE	64	/* bytes after a buffer, when TALK_REDZONES is given */
#define TALK_REDZONE_BYTE 0xc5

enum talk_op {
	/* both kinds of queue; HELLO is the first message, and comes once */
	TALK_HELLO = 1,		/* -> WELCOME, HOST */
	TALK_REGION,		/* no answer */
	TALK_REGION_GONE,	/* no answer */
	/* control queue: one request at a time */
	TALK_ACCEL,		/* -> ACCEL */
	TALK_STAT,		/* -> STAT */
	TALK_ACQUIRE,		/* -> ACQUIRE */
	TALK_RELEASE,		/* -> RELEASE */
	TALK_REGISTER,		/* and then BYTES -> PROC */
	TALK_BYTES,
	TALK_GET,		/* -> PROC */
	TALK_PUT,		/* no answer */
	/* task queue */
	TALK_TASK,		/* and then REFS, as many as it takes -> DONE */
	TALK_REFS,
	/* answers that are not named as their request */
	TALK_WELCOME,
	TALK_HOST,
	TALK_PROC,
	TALK_DONE,
};

/*
 * Begins every message. What @a, @b, @c and @tag mean is said at each; 0 when nothing is.
 * An answer has the @tag of its request.
 */
struct talk_head {
	uint8_t op;
	uint8_t a, b, c;
	uint32_t tag;
};

/* A piece of a region. Both 0: none (of arguments, of a procedure's bytes). */
struct talk_ref {
	uint64_t where;		/* the region's index << 48 | offset */
	uint64_t size;		/* bytes */
};

#define TALK_WHERE(index, offset)	((uint64_t)(index) << 48 | (offset))
#define TALK_WHERE_INDEX(where)		((unsigned int)((where) >> 48))
#define TALK_WHERE_OFFSET(where)	((where) & ((1ULL << 48) - 1))

/* @token: all 0: this is a control queue; else from WELCOME: a task queue of that session */
struct talk_hello {
	struct talk_head head;
	uint32_t version;
	uint32_t reserved;
	uint64_t token[2];
	uint32_t pid, tid;	/* for people; as the client counts them */
};

/*
 * @a: 0, or 1: no (another version; an unknown token): the queue is of no use.
 * Times are the appliance's CLOCK_MONOTONIC, ns: when the HELLO was pulled, and when this
 * was pushed.
 */
struct talk_welcome {
	struct talk_head head;
	uint32_t version;
	uint32_t accels;	/* how many */
	uint64_t token[2];
	uint64_t received, sent;
};

struct talk_host {
	struct talk_head head;
	char host[48];		/* zero-terminated, zero-padded */
};

/*
 * The client has attached a region to this queue: @tag is its index from now on, 0 to
 * TALK_REGIONS - 1, and in use already makes no sense. Before it goes, GONE says so; tasks
 * that use it and are not done yet keep it. When the appliance cannot import it, tasks that
 * use it fail with vine_reason_bad_data.
 */
struct talk_region {
	struct talk_head head;
	uint64_t id;		/* from VINE_ATTACH */
};

struct talk_region_gone {
	struct talk_head head;
};

/* Request: @tag: the number of an accelerator, 0 to accels - 1 (others make no sense). */
struct talk_accel_get {
	struct talk_head head;
};

/* Answer: @a: its type. */
struct talk_accel {
	struct talk_head head;
	uint32_t id;
	uint32_t reserved;
	uint64_t pci;		/* 0, or 1 << 63 | domain << 16 | bus << 8 | dev << 3 | fn */
	char name[32];		/* zero-terminated, zero-padded */
};

/* STAT, ACQUIRE and RELEASE, as requests. */
struct talk_accel_op {
	struct talk_head head;
	uint32_t id;
	uint32_t reserved;
};

/* Answer to STAT: @a: vine_accel_state_e. */
struct talk_stat {
	struct talk_head head;
	uint32_t queued, running;
	uint64_t done, failed, busy_ns;
};

/* Answer to ACQUIRE and RELEASE: @a: 0, or 1: no. @id: the virtual accelerator, or 0. */
struct talk_acquired {
	struct talk_head head;
	uint32_t id;
	uint32_t reserved;
};

/* REGISTER and GET. @a: type, ANY included; @b: bytes of @name, 1 to TALK_NAME. */
struct talk_name {
	struct talk_head head;
	char name[TALK_NAME];	/* zero-padded */
};

/* Directly after REGISTER, with its @tag. */
struct talk_bytes {
	struct talk_head head;
	struct talk_ref ref;	/* nobody writes there until the answer comes */
};

/*
 * Answer to REGISTER and GET. @a: 0; or 1: no such procedure (GET), other bytes are
 * registered (REGISTER); 2: no accelerator of that type here; 3: the appliance ran short,
 * or the bytes are too many or out of reach.
 * Each of these gives one reference, which PUT ends.
 */
struct talk_proc {
	struct talk_head head;
	uint32_t id;		/* the session's; never used again; PUT of another makes no sense */
	uint32_t reserved;
};

struct talk_put {
	struct talk_head head;
	uint32_t id;
	uint32_t reserved;
};

/*
 * @a: TALK_ARGS | TALK_REDZONES; @b: inputs; @c: outputs; @tag: not that of a task in
 * flight on this queue. The buffers, args (if TALK_ARGS) and inputs and outputs in this
 * order, are two here and three in each REFS, which follow at once, until there are all;
 * unused ones are zero. A buffer is at least one byte.
 */
struct talk_task {
	struct talk_head head;
	uint32_t accel, proc;
	struct talk_ref ref[2];
	uint64_t reserved;
};

#define TALK_ARGS	1
#define TALK_REDZONES	2	/* TALK_REDZONE bytes of TALK_REDZONE_BYTE follow each output */

/* @a: how many, 1 to 3; @tag: the task's. */
struct talk_refs {
	struct talk_head head;
	struct talk_ref ref[3];
};

/*
 * @a: vine_task_reason_e: 0 it is completed. Times are the appliance's, ns: the task was
 * pulled, the handler began and ended (0: it did not come to that), this was pushed.
 */
struct talk_done {
	struct talk_head head;
	int32_t detail;
	uint32_t reserved;
	uint64_t received, started, ended, sent;
};

/* Sizes are part of the protocol: a message is exactly as long as its structure. */
_Static_assert(sizeof(struct talk_head) == 8, "talk_head");
_Static_assert(sizeof(struct talk_ref) == 16, "talk_ref");
_Static_assert(sizeof(struct talk_hello) == 40, "talk_hello");
_Static_assert(sizeof(struct talk_welcome) == 48, "talk_welcome");
_Static_assert(sizeof(struct talk_host) == 56, "talk_host");
_Static_assert(sizeof(struct talk_region) == 16, "talk_region");
_Static_assert(sizeof(struct talk_accel) == 56, "talk_accel");
_Static_assert(sizeof(struct talk_accel_op) == 16, "talk_accel_op");
_Static_assert(sizeof(struct talk_stat) == 40, "talk_stat");
_Static_assert(sizeof(struct talk_acquired) == 16, "talk_acquired");
_Static_assert(sizeof(struct talk_name) == 56, "talk_name");
_Static_assert(sizeof(struct talk_bytes) == 24, "talk_bytes");
_Static_assert(sizeof(struct talk_proc) == 16, "talk_proc");
_Static_assert(sizeof(struct talk_put) == 16, "talk_put");
_Static_assert(sizeof(struct talk_task) == 56, "talk_task");
_Static_assert(sizeof(struct talk_refs) == 56, "talk_refs");
_Static_assert(sizeof(struct talk_done) == 48, "talk_done");

#endif /* TALK_PROTOCOL_H */
