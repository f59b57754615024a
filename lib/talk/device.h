/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * device.h - inside the back ends "device" and "shm": work for the appliances behind
 *            /dev/vineN, or behind an endpoint of this process
 *
 *   device.c      the back ends: opens the device; buffers, tasks, and the rest of its table
 *   appliance.c   appliances: found, asked on their control queues, lost
 *   procedure.c   procedures: known to this process, and by number to each appliance
 *   connect.c     connections: queues, what is in flight on them, who waits
 *   heap.c        buffers in regions
 *   clock.c       the appliance's time in ours
 *   descriptor.c  descriptors, so that a forked child can close them
 *
 * Locks, in the order in which they are taken: that of the procedures; of one procedure, or
 * of the search for appliances; heap.c's of who makes a region; of one appliance's requests;
 * of the list of connections; of one connection; then the heap's, of a clock, of the
 * descriptors, under which no other is taken.
 *
 * A task is done, which frees its buffers and perhaps its procedure, while nothing from the
 * requests on is held; the locks before may be, so what is freed then takes none of those.
 */
#ifndef TALK_DEVICE_H
#define TALK_DEVICE_H

#include <errno.h>

#include <vine.h>

#include "talk/protocol.h"
#include "talk/talk.h"

/* How long an appliance may take for an answer, or to accept a queue. Tests are in a hurry. */
extern int device_patience_ms;

/* The device's descriptor: the same number from open to close. */
extern int device;

/* Whether calls on it spin by themselves before they sleep. */
extern bool device_spins;

/* As vine_info(); a signal does not end it. */
static inline int device_info(struct vine_info *info)
{
	int ret;

	do
		ret = vine_info(device, info);
	while (ret == -EINTR);
	return ret;
}

/* ---- descriptor.c ---- */

/* @fd: -1: none. In the list of all that are open. */
struct descriptor {
	int fd;
	struct descriptor *next, **link;
};

/*
 * A fork waits while the lock is held, so that the child knows each descriptor: it is held
 * from before one is made until descriptor_is(), which takes it (@fd < 0: there is none).
 */
void descriptors_lock(void);
void descriptors_unlock(void);
void descriptor_is(struct descriptor *d, int fd);

/* Takes the lock. Nothing when it is closed already. */
void descriptor_close(struct descriptor *d);

/* In the child of a fork: closes all. Async-signal-safe. */
void descriptors_forked(void);

/* -ENOMEM: forks are not watched. */
int descriptors_init(void);

/* ---- clock.c ---- */

/*
 * What is known of the clock of another machine: its time minus ours was in [@low, @high] at
 * @at, in nanoseconds. The caller has a lock.
 */
struct talk_clock {
	bool known;
	bool same;		/* it is our own: no conversion */
	int64_t low, high;
	uint64_t at;
};

void clock_init(struct talk_clock *c, bool same_machine);

/*
 * A message that we pushed at @pushed or later was received at @received and answered at
 * @sent, by the other clock; we had the answer at @pulled. Impossible times are ignored.
 */
void clock_sample(struct talk_clock *c, uint64_t pushed, uint64_t received, uint64_t sent,
		  uint64_t pulled);

/*
 * Sets start_ns, end_ns and error_ns from the other clock's @started and @ended (0: it did
 * not come to that), for a task that was issued at issue_ns and known to be done at @done.
 */
void clock_convert(const struct talk_clock *c, uint64_t started, uint64_t ended, uint64_t done,
		   vine_task_stats_s *stats);

/* ---- heap.c ---- */

/*
 * A region. Others read @slot, its number from 0 to TALK_REGIONS - 1, which is its index on
 * each connection; @serial, which no other region ever has; @descriptor; and @lost.
 */
struct heap_region {
	struct descriptor descriptor;
	unsigned int slot;
	uint64_t serial;
	/* heap.c: */
	uint8_t *base;
	uint64_t bytes;
	struct vine_info made;		/* which life of this machine it belongs to */
	struct heap_block *first;	/* its blocks and gaps, by address */
	unsigned int blocks;		/* not counting gaps */
	bool retired;			/* no new blocks; given back with its last one */
	atomic_bool lost;		/* its memory was replaced by some of this process */
};

/* A piece of a region. Others read @address, @region and @offset. */
struct heap_block {
	void *address;
	struct heap_region *region;
	uint64_t offset;
	/* heap.c: */
	uint64_t bytes;			/* with what follows the data */
	struct heap_block *before, *after;	/* in the region */
	struct heap_block *next, **link;	/* of a gap: in a bin; NULL: none */
	bool gap;
};

/*
 * @size: not 0. The block is aligned to 64 bytes, and TALK_REDZONE_BYTE fills what follows it,
 * at least TALK_REDZONE bytes. -ENOSPC (which was said), -ENOMEM, -EMFILE, ... May make a
 * region, which takes its time; other threads get on meanwhile.
 */
int heap_alloc(uint64_t size, struct heap_block **block);
void heap_free(struct heap_block *block);

/* Fills again what follows the @size bytes of a block. */
void heap_redzone(struct heap_block *block, uint64_t size);

/*
 * Somebody may still write here when the block is freed: its region is retired. The kernel
 * gives the memory to nobody as long as the other side maps it.
 */
void heap_distrust(struct heap_block *block);

/*
 * Something said ENOTCONN or ENODEV: regions that were lost are retired, and zeroed memory of
 * this process takes their place, so that nobody gets a SIGBUS.
 */
void heap_check(void);

void heap_close(void);
void heap_forked(void);

/* ---- connect.c ---- */

struct appliance;

struct device_data {
	struct talk_data_obj obj;
	struct heap_block *block;
};

struct device_task {
	struct talk_task_obj obj;
	_Atomic(struct connection *) connection;	/* it is issued on; with a reference */
	/* under that one's lock: */
	bool in_flight;
	struct device_task *next;		/* with the same hash; then among those done */
	/* once it is not in flight: */
	vine_task_reason_e reason;
	int detail;
};

#define CONNECTION_HASH	64

struct connection {
	struct descriptor queue;
	struct appliance *appliance;
	atomic_uint references;
	struct connection *next, **link;	/* all; under the list's lock */
	struct connection *next_owned;		/* of the same thread; or orphan */

	pthread_mutex_t lock;
	pthread_cond_t wake;		/* the puller has let go, or something was done */
	atomic_bool dead;		/* changed under @lock */
	bool orphan;			/* its thread has ended */
	bool pulling;			/* somebody pulls, without @lock: nobody else does */
	unsigned int users;		/* of the queue, without @lock: it stays open */
	unsigned int waiters;		/* for @wake */
	uint64_t typical_ns;		/* a wait takes; for whoever pulls */
	struct vine_msg *out;		/* [@out_first, @out_end) are to be pushed */
	unsigned int out_first, out_end, out_room;
	uint64_t attached[TALK_REGIONS];	/* the serials of regions; 0: none */
	struct device_task *flight[CONNECTION_HASH];
	unsigned int in_flight;
};

/* What is asked and told when a connection is made. */
struct greeting {
	uint64_t service;		/* In */
	uint64_t token[2];		/* In: all 0: a control queue, and then Out; else a session */
	unsigned int peer, incarnation;	/* Out */
	unsigned int accels;		/* Out */
	char host[48];			/* Out */
	uint64_t pushed, received, sent, pulled;	/* Out: see clock_sample() */
};

/*
 * Connects to @a, with a reference for the caller. -ETIMEDOUT; -EPROTO: it answers nonsense;
 * -EACCES: it refuses; or what vine_connect() gives.
 */
int connection_open(struct appliance *a, struct greeting *g, struct connection **out);

/* This thread's task queue to @a. With a reference for the caller. */
int connection_of_thread(struct appliance *a, struct connection **out);
void connection_put(struct connection *c);

/*
 * For a control queue; one caller at a time. Attaches the region of @block (may be NULL),
 * pushes @n messages and pulls @answers. After an error the connection is dead, or else
 * nothing was pushed.
 */
int connection_request(struct connection *c, const struct heap_block *block,
		       const struct vine_msg *msgs, unsigned int n, struct vine_msg *answer,
		       unsigned int answers);

/* Pushes @msg, now or with what comes next. */
void connection_tell(struct connection *c, const struct vine_msg *msg);

/* Of a control queue, between requests: is the other side there? 0, or it is dead. */
int connection_check(struct connection *c);

/*
 * 0: the task will be done, or lost. Else it is as before: -EPIPE: the connection is dead;
 * -ENOTCONN: a buffer is lost; -ENOSPC, -ENOMEM, ...
 */
int connection_issue(struct connection *c, struct device_task *task, uint32_t accel,
		     uint32_t proc);
void connection_wait(struct connection *c, struct device_task *task);

/* Takes the completions that are there, if nobody else pulls. Does not wait. */
void connection_poll(struct connection *c);

/* The same of all connections: for tasks that nobody waits for. */
void connections_poll(void);

/* A region goes: tells everybody who knows it. */
void connections_forget(const struct heap_region *region);

/* Closes all to @a: what is in flight there is lost. */
void connections_fail(struct appliance *a);

/* -ENOMEM. At the end all have failed, and nobody but threads that own one uses it. */
int connections_open(void);
void connections_close(void);
void connections_forked(void);

void message_set(struct vine_msg *msg, const void *body, size_t size);

/* ---- appliance.c ---- */

struct device_accel {
	struct talk_accel_obj obj;
	struct appliance *appliance;
	uint32_t id;
	uint64_t pci;			/* as in talk_accel */
	char name[32];
};

/* A session with an appliance. All that there ever were live until close. */
struct appliance {
	_Atomic(struct appliance *) next;
	uint64_t service;
	char name[VINE_SERVICE_NAME];
	char host[48];
	unsigned int peer, incarnation;
	uint64_t token[2];
	atomic_bool lost;
	_Atomic(uint64_t) retry;	/* when lost: talk_now() to try that service again */

	pthread_mutex_t request;	/* one at a time */
	struct connection *control;

	pthread_mutex_t clock_lock;
	struct talk_clock clock;
	struct connection *orphans;	/* under the list of connections' lock */

	struct device_accel *accels;
	unsigned int count;
};

/* Looks which there are. Blocks. */
void appliances_find(void);

/* Of those that are not lost: the first, or the one after @a; NULL: there is none. */
struct appliance *appliance_next(struct appliance *a);
bool appliance_has(const struct appliance *a, vine_accel_type_e type);

/*
 * Asks on the control queue: @n messages. @block: as for connection_request(). The answer has
 * @op, the first message's tag, no b and no c, and @size bytes. -EPIPE: the appliance is lost;
 * else nothing was asked.
 */
int appliance_ask(struct appliance *a, const struct heap_block *block,
		  const struct vine_msg *msgs, unsigned int n, uint8_t op, void *answer,
		  size_t size);

/* The answer was nonsense all the same. -EPIPE */
int appliance_nonsense(struct appliance *a);

/* Gives up a session that answered @error. */
void appliance_lost(struct appliance *a, int error);

/* At the end: loses all; frees them, when connections are closed. */
void appliances_fail(void);
void appliances_free(void);
void appliances_forked(void);

/* ---- procedure.c ---- */

int procedure_register(vine_accel_type_e type, const char *name, const void *bytes, size_t size,
		       struct talk_proc_obj **proc);
int procedure_get(vine_accel_type_e type, const char *name, struct talk_proc_obj **proc);
int procedure_put(struct talk_proc_obj *proc);

/*
 * Its number at @a, which may have to hear of it first. 0, and in @reason why a task with it
 * fails, if @a said so; -EPIPE: @a is lost; or another -errno of this side, which was said.
 */
int procedure_number(struct talk_proc_obj *proc, struct appliance *a, uint32_t *number,
		     vine_task_reason_e *reason);

void procedures_close(void);
void procedures_forked(void);

/* ---- device.c ---- */

/* After -ENODEV: there may be another device of the name. 0: @device is open. */
int device_reopen(void);

#endif /* TALK_DEVICE_H */
