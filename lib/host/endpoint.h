/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * endpoint.h - inside lib/host
 *
 *   name.c       names of endpoints
 *   segment.c    files, what they hold, mappings
 *   lock.c       locks on bytes of the file, segments that overlap, truncation
 *   bus.c        SIGBUS
 *   endpoint.c   joining, the thread that beats and wakes, being fenced, ending
 *   server.c     vine-server: memory, eventfds and IDs come from there
 *   table.c      descriptors by number
 *   poll.c       what makes a descriptor poll as the driver's do
 *   queue.c      connect, attach, the state of a queue
 *   transfer.c   push, pull, wait
 *   listener.c   listen, accept
 *   region.c     regions, imports, mappings
 *   query.c      info, services, query, bury
 *   futex.c      sleeping
 *
 * Locks, outermost first:
 *   ep->control   the core's [control]
 *   ep->drain     one drain at a time
 *   ep->ready     the tables of who is to be woken
 *   queue->tx, ->rx   the core's ring state, and that half of the descriptor's
 *   listener->lock    the listener's descriptor
 *   core's rung lock
 *   server->lock  eventfds of peers
 *   poll.c's lock     which ends are open: a fork waits for it
 * Who touches the segment has control, tx, rx or drain, and looks at host_entered() after
 * it got that: to stop all, say so and take each of them once.
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "../../driver/core/core.h"
#include <linux/vine.h>
#include "host/host.h"

#define HOST_TICK_MS	250
#define HOST_TIMEOUT_MS	5000	/* without a beat, a peer is suspect */

struct host_endpoint;

/* ---- name.c ---- */

struct host_name {
	enum { HOST_SHM, HOST_FILE, HOST_SERVER } kind;
	char path[4096];
	uint64_t off, size;	/* size 0: what there is */
	bool trunc;
};

/* 0 or -EINVAL. */
int host_name_parse(const char *text, struct host_name *name);

/* Notes a sentence for host_why(). Returns @err. */
int host_fail(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- segment.c ---- */

/* A mapped file; endpoints of one process on the same one share it. */
struct host_segment {
	struct host_segment *next;
	unsigned int references;
	dev_t dev;
	ino_t ino;
	uint64_t off, size;
	int fd;
	uint8_t *base;
	atomic_bool dead;	/* the file is shorter than it was */
};

/* Opens or makes the file that @name says. A descriptor or -errno. */
int host_segment_file(const struct host_name *name);

/*
 * @lock_fd: a descriptor of its own for the locks of one endpoint. Truncates, grows, and refuses
 * what shares bytes with another segment, or holds something else; says the size that there is.
 * It begins when this returns 0, until host_lock_ready().
 */
int host_segment_begin(int fd, int lock_fd, struct host_name *name);
/* Notes why the core refuses a segment with that format. Returns what vine_open() does. */
int host_refused(const struct host_name *name, uint64_t format, int err);

/* Takes over @fd when it returns 0. */
int host_segment_get(int fd, uint64_t off, uint64_t size, struct host_segment **segment);
void host_segment_put(struct host_segment *s);
/* Memory for a part of it, before it is touched: 0 or -ENOSPC. */
int host_segment_room(struct host_segment *s, uint64_t first, uint64_t bytes);

void host_segments_lock(void);
void host_segments_unlock(void);
void host_segments_forked(void);

/* An open file description of its own on what @fd is. */
int host_reopen(int fd);

/* ---- lock.c ---- */

/*
 * Locks, at byte @off + these; all in the 64 KiB with which no other segment can begin:
 *   0 to 63             of slots: it lives
 *   64                  of those who begin
 *   HOST_HOLDS + slot   shared by all regions that it has imported, until nobody has a
 *                       descriptor or a mapping of them, in whatever process
 *   HOST_HELD + index   the same of that region, of all slots
 */
#define HOST_HOLDS	128
#define HOST_HELD	4096

/* 0: nothing there. */
uint64_t host_format_at(int fd, uint64_t at);
/* Shares the byte of those who begin; waits for who truncates. 0 or -errno. */
int host_begin(int lock_fd, const struct host_name *name);
/* The same of a segment that is mapped already; never waits. -EAGAIN: somebody truncates. */
int host_lock_begin(int lock_fd, uint64_t off);
void host_lock_ready(int lock_fd, uint64_t off);
/* 0, or -EBUSY: another segment shares bytes with ours, or may. @wait: for who only begins. */
int host_check_overlap(int lock_fd, const struct host_name *name, bool wait);
/* Clears what nobody lives in, with all bytes of it locked; then it begins, and others wait. */
int host_truncate(int fd, int lock_fd, const struct host_name *name);
/* Notes why there are no locks. Returns @err. */
int host_no_lock(const struct host_name *name, int err);

/* ---- bus.c ---- */

/* A range that the SIGBUS handler is to watch: 0 or -ENOMEM. */
int host_guard(void *address, uint64_t bytes, struct host_segment *s);
void host_unguard(void *address);
/* Puts zeroed memory of our own where a file was mapped. False: it could not. */
bool host_replace(void *address, uint64_t bytes);
/* For fork: the child has no mapping of any. */
void host_guards_forked(void);

/* ---- futex.c ---- */

uint64_t host_now(void);
/* Sleeps while *@word is @seen, until @deadline. 0, -ETIMEDOUT or -EINTR. */
int host_sleep(atomic_uint *word, unsigned int seen, uint64_t deadline);
/* The same, but it also ends when the bell rings. */
int host_sleep_or_bell(atomic_uint *word, unsigned int seen, const __le64 *bell, uint32_t bell_seen,
		       uint64_t deadline);
void host_wake(atomic_uint *word);
/* The same between processes. */
void host_bell_sleep(const __le64 *bell, uint32_t seen, uint64_t deadline);
void host_bell_wake(const __le64 *bell);

/* ---- poll.c ---- */

/*
 * The user's end of a socket pair is the descriptor, the other one is the library's:
 * @byte: something is there to be read; @filled: no room to write.
 */
struct host_poll {
	struct host_poll *next;	/* of all */
	atomic_int user;	/* -1: closed; calls read it without a lock */
	int lib;		/* -1: closed */
	bool byte, filled, hung;
};

/* Both ends are -1 when it returns an error. */
int host_poll_open(struct host_poll *p, bool filled, bool nonblock);
/* False: there was no memory for it; try again later. */
bool host_poll_in(struct host_poll *p, bool on);
void host_poll_out(struct host_poll *p, bool on);
void host_poll_hang(struct host_poll *p);
void host_poll_fail(struct host_poll *p);
void host_poll_close(struct host_poll *p);
/* For fork, as those of the table. */
void host_polls_lock(void);
void host_polls_unlock(void);
void host_polls_forked(void);

/* ---- table.c ---- */

enum host_kind { HOST_DEVICE, HOST_LISTENER, HOST_QUEUE, HOST_REGION, HOST_KINDS };

struct host_object {
	atomic_uint references;
	enum host_kind kind;
	unsigned int session;	/* 0: there is nothing of it in the segment */
	struct host_endpoint *ep;
	struct host_object *next;
};

/* An object of @ep, which is held; NULL: no memory. It is zeroed, and has one reference. */
struct host_object *host_object_new(struct host_endpoint *ep, enum host_kind kind);
/* The number @fd is the object from now on, and the reference the table's. 0 or -ENOMEM. */
int host_install(struct host_object *o, int fd);
/* It came to nothing: closes @fd, which is no number of it any more, and drops it. */
void host_discard(struct host_object *o, int fd);
/* For fork: all numbers are forgotten. */
void host_table_lock(void);
void host_table_unlock(void);
void host_table_forked(void);

/* ---- objects ---- */

struct host_device {
	struct host_object o;
	struct host_poll poll;		/* under ep->ready */
};

struct host_listener {
	struct host_object o;
	struct vine_listener listener;	/* under control */
	pthread_mutex_t lock;
	struct host_poll poll;
	atomic_uint news;
};

struct host_queue {
	struct host_object o;
	struct vine_queue queue;
	atomic_bool connected;
	pthread_mutex_t tx, rx;
	struct host_poll poll;		/* byte: rx; filled: tx; the rest: both */
	bool armed;			/* rx: the other side will ring for the next cell */
	unsigned int waiting;		/* rx: threads that sleep for cells */
	atomic_bool lazy;		/* waits end before they sleep */
	atomic_uint slept;		/* the last so many did not */
	atomic_uint news;		/* counts refreshes */
	atomic_bool late;		/* not all is shown */
	atomic_ulong typical_ns;	/* that waits last */
};

struct host_region {
	struct host_object o;
	u64 id;
	bool own;
	u64 first;			/* byte in the segment */
	u64 bytes;
};

/* What is to be done with an object of that kind: when its number goes, and at its end. */
struct host_class {
	void (*renumber)(struct host_object *o, int fd);	/* -1: the number goes */
	void (*end)(struct host_object *o);
};
extern const struct host_class host_device_class, host_listener_class, host_queue_class,
	host_region_class;

/* ---- endpoint.c ---- */

struct host_server;

struct host_endpoint {
	struct vine_core core;
	struct vine_ops ops;
	struct vine_geometry geo;
	u32 *chunk_use;
	u32 chunks_room;
	atomic_uint references;
	struct host_endpoint *next;	/* of all */
	struct host_segment *segment;
	uint64_t off, size;		/* of the segment, if we have to make it */
	int lock_fd;
	int lock_error;			/* other than that somebody has it; with control */
	struct host_server *server;	/* NULL: none */
	u32 ivposition, vectors;

	pthread_t thread;
	bool running;
	atomic_bool quit;

	atomic_bool dead, joined;
	atomic_uint session;
	pthread_mutex_t control, drain, ready;
	struct host_queue *queues[2][VINE_MAX_QUEUES];
	struct host_listener *listeners[VINE_MAX_SERVICES];
	struct host_device *device;
	u32 unput[VINE_MAX_REGIONS];	/* imports that ended here, and others may map still */
	u32 unputs;			/* of all regions */
	bool fenced;			/* and has not left yet */
	atomic_uint tables;		/* counts changes of services and peers */
	atomic_bool tidy, tables_news;
	atomic_bool late;		/* a queue is */
	atomic_flag heard;		/* a thread that waits hears the bell itself */
	bool polling;			/* the thread's */
	atomic_ulong poll_ns;
};

/*
 * May what was made in @session touch the segment? 0, -ENODEV or -ENOTCONN. 0: of any
 * session.
 */
int host_entered(struct host_endpoint *ep, unsigned int session);
/* Takes control when it returns 0. */
int host_control(struct host_endpoint *ep, unsigned int session);
/* The same; false when there is nothing to be done, for what ends. */
bool host_control_end(struct host_endpoint *ep, unsigned int session);

void host_endpoint_put(struct host_endpoint *ep);
/* Has somebody else a lock on that byte of the segment? */
bool host_locked(struct host_endpoint *ep, u64 byte);
/* Takes what was marked, and wakes. @vector: of those; all when it is VINE_MAX_VECTORS. */
void host_drain(struct host_endpoint *ep, u32 vector);
/* The same without what takes long, for a thread that waits itself. */
void host_take_marks(struct host_endpoint *ep, u32 vector);
/* The word that others ring us by. */
__le64 *host_bell(struct host_endpoint *ep);

/* ---- server.c ---- */

/* What is not connected yet, or NULL. */
struct host_server *host_server_new(void);
/* Connects; says what the server gave. A descriptor of the memory, the caller's, or -errno. */
int host_server_open(struct host_server *s, const char *path, u32 *ivposition, u32 *vectors);
int host_server_start(struct host_server *s, struct host_endpoint *ep);
void host_server_ring(struct host_server *s, u32 ivposition, u32 vector);
/* Its thread has ended when it returns; peers can still be rung. */
void host_server_stop(struct host_server *s);
void host_server_close(struct host_server *s);
/* For fork; the child's copy is closed and unlocked. */
void host_server_lock(struct host_server *s);
void host_server_unlock(struct host_server *s);
void host_server_forked(struct host_server *s);

/* ---- calls ---- */

int host_do_info(struct host_endpoint *ep, struct vine_info *info);
int host_do_services(struct host_endpoint *ep, struct vine_services *s);
int host_do_query(struct host_endpoint *ep, struct vine_query *q);
int host_do_bury(struct host_endpoint *ep, struct vine_bury *b);
int host_do_listen(struct host_endpoint *ep, struct vine_listen *l);
int host_do_accept(struct host_listener *lf, struct vine_accept *a);
int host_do_connect(struct host_endpoint *ep, struct vine_connect *c);
int host_do_region(struct host_endpoint *ep, struct vine_region *r);
int host_do_attach(struct host_queue *q, struct vine_attach *a);
int host_do_import(struct host_queue *q, struct vine_import *i);
int host_do_transfer(struct host_queue *q, struct vine_transfer *t);

/* Does the descriptor say that its calls do not wait? */
bool host_nonblocking(int fd);

int host_queue_new(struct host_endpoint *ep, bool filled, bool nonblock, struct host_queue **queue);
void host_queue_publish(struct host_queue *q);
/* Has it been accepted? 0, -EINPROGRESS, -ECONNREFUSED, -EIO; with tx or rx, entered. */
int host_queue_connected(struct host_queue *q);
/* Looks at the queue's state, makes the descriptor say it, and wakes who sleeps. */
void host_queue_refresh(struct host_queue *q);
/* The same of those that could not be shown before. */
void host_queues_late(struct host_endpoint *ep);
/* Makes it so now, or in a while. With rx. */
void host_queue_readable(struct host_queue *q, bool on);
/* A connection may wait, or the listener is dead. */
void host_listener_news(struct host_listener *lf);
/* Does one wait? With control. */
void host_listener_refresh(struct host_listener *lf);
/*
 * The endpoint was fenced, or is dead: mappings of its regions get memory of their own, or none.
 * False: of one that could not be done; again later.
 */
bool host_regions_lost(struct host_endpoint *ep);
/* Lets go of imports that ended here and that nobody maps any more. With control. */
void host_regions_unmapped(struct host_endpoint *ep);
void host_maps_lock(void);
void host_maps_unlock(void);
void host_maps_forked(void);

#endif /* ENDPOINT_H */
