/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * serve.h - inside the appliance
 *
 *   serve.c       the calls of vine_serve.h, and the loop: one epoll set over the listener,
 *                 all queues and all workers' sockets
 *   connection.c  queues: messages are parsed and checked, answers sent
 *   session.c     a client process: its references to procedures, regions, held accelerators
 *   procedure.c   procedures that clients know
 *   limits.c      what clients may use of what all of them need
 *   memory.c      what workers map: regions, bytes of procedures
 *   scheduler.c   which task an accelerator runs next
 *   worker.c      workers, seen from here; work.c is their own side
 *   source.c      what a worker that runs source may do
 *   sandbox.c     what a worker that runs uploaded code may do
 *   forker.c      the process that workers are forked from, and a spare one
 *   plugin.c      handlers
 *
 * One thread. Each round of the loop takes a little from every queue that has something,
 * gives accelerators what they can take, and sends what is done. Whatever a client did
 * wrong ends in connection_close().
 */
#ifndef SERVE_H
#define SERVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/vine_wire.h>
#include <vine.h>
#include <vine_serve.h>

#include "serve/list.h"
#include "serve/plugin.h"
#include "serve/work.h"

#define BATCH		16	/* messages of one queue, in one round */
#define TASKS_MAX	512	/* of one queue, until their answers are sent; also buffers: */
#define BUFFERS_MAX	4096
#define COPY_ROUND	(1U << 20)	/* bytes of procedures; after them no more in this round */
#define WORKERS_MAX	64	/* of one accelerator */
#define GRACE_MS	1000	/* for a task whose client has gone */
#define TAG_HASH	64

/* What epoll watches. @ready is told the events. */
struct source {
	void (*ready)(struct vine_serve *s, struct source *source, uint32_t events);
};

/* ---- limits ---- */

/* Of which a machine may have some. */
enum limited {
	LIMIT_QUEUES,
	LIMIT_STRANGERS,	/* queues that have not said HELLO, or were turned away */
	LIMIT_DESCRIPTORS,	/* of queues, regions, and bytes of procedures */
	LIMIT_PROCEDURES,
	LIMIT_BYTES,		/* of procedures */
	LIMITED
};

/* Of all machines together; and of a session. */
struct limits {
	uint64_t all[LIMITED];
	unsigned int session_queues, session_regions, session_procedures;
	uint64_t session_bytes;
	unsigned int hello_ms;	/* until a queue has said HELLO */
};

/* Lines of the log in this second. */
struct pace {
	uint64_t second;
	unsigned int lines;
};

struct machine {
	uint64_t used[LIMITED];
	struct pace pace;
};

void limits_init(struct vine_serve *s);
/* False: the machine has had its share. */
bool limit_take(struct vine_serve *s, unsigned int machine, enum limited what);
void limit_give(struct vine_serve *s, unsigned int machine, enum limited what);
/* One is the machine's, too; @fresh: it is new; @last: it is no more. */
bool limit_take_procedure(struct vine_serve *s, unsigned int machine, uint64_t bytes, bool fresh);
void limit_give_procedure(struct vine_serve *s, unsigned int machine, uint64_t bytes, bool last);
/* Whether a line may be written about a machine, and one of its sessions (NULL: none known). */
bool limit_log(struct vine_serve *s, unsigned int machine, struct pace *session);

/* ---- memory ---- */

/*
 * Something that workers map. @slot: where, by the worker's number; -1: nowhere.
 */
struct memory {
	int fd;			/* -1: there is none */
	uint64_t beginning;	/* in the file that @fd is */
	uint64_t bytes;
	uint64_t client;	/* session.number; 0: everybody's */
	bool read_only;
	int16_t *slot;
};

/* Takes over @fd, also on failure. 0 or -ENOMEM. */
int memory_init(struct vine_serve *s, struct memory *m, int fd, uint64_t bytes,
		bool read_only);
/* No worker uses it any more; all forget it. */
void memory_free(struct vine_serve *s, struct memory *m);

struct session;

/* A client's region. Counted: tables of connections, and tasks. */
struct region {
	struct list link;	/* in its session, when it was imported */
	struct session *session;
	unsigned int references;
	uint64_t id;
	struct memory memory;	/* fd -1: it could not be imported, */
	vine_task_reason_e reason;	/* and why */
};

/* ---- procedures ---- */

/*
 * Counted: sessions that know it, and tasks. One of its name and type is registered; one more
 * by each machine when it is code, which no other machine's sessions find; by_itself is
 * another one, which has no bytes and that a plugin's handler made findable.
 */
struct procedure {
	struct list link;
	unsigned int references;
	unsigned int by_machine[VINE_MAX_PEERS];	/* of them */
	vine_accel_type_e type;
	bool by_itself;
	bool code;		/* its bytes are a shared object, or @source: for a compiler */
	bool source;
	unsigned int peer;	/* that registered it first */
	struct memory bytes;
	char name[TALK_NAME + 1];
};

/*
 * Both give the status of struct talk_proc, and if that is 0 a reference of @session's, whose
 * number for it is @*id. @region: NULL: no bytes; else they are there.
 */
int procedures_register(struct vine_serve *s, struct session *session, vine_accel_type_e type,
			const char *name, const struct region *region, uint64_t offset,
			uint64_t size, uint32_t *id);
int procedures_get(struct vine_serve *s, struct session *session, vine_accel_type_e type,
		   const char *name, uint32_t *id);
/* One more reference, or one less, of @machine. False: it has had its share. */
bool procedures_hold(struct vine_serve *s, struct procedure *p, unsigned int machine);
void procedures_put(struct vine_serve *s, struct procedure *p, unsigned int machine);

/* ---- sessions ---- */

struct reference {
	struct procedure *procedure;
	uint32_t id;
	unsigned int count;
};

/* Counted: its connections. Ids are its own: nobody uses up another's. */
struct session {
	struct list link;		/* while its control queue is there */
	unsigned int references;	/* queues */
	uint64_t token[2];
	uint64_t number;	/* none has had it before; not 0 */
	unsigned int peer;	/* machine and process: for people */
	uint32_t pid;
	struct list regions;
	unsigned int region_count;
	struct reference *known;
	unsigned int known_count;
	uint64_t known_bytes;
	uint32_t next_procedure, next_virtual;
	struct pace pace;
};

/* NULL: no memory. With a reference. */
struct session *session_new(struct vine_serve *s, unsigned int peer, uint32_t pid);
/* With a reference; NULL: no open session of that machine has that token, or too many queues. */
struct session *session_find(struct vine_serve *s, unsigned int peer, const uint64_t token[2]);
/* The control queue has gone. */
void session_end(struct vine_serve *s, struct session *session);
void session_put(struct vine_serve *s, struct session *session);

/* One more reference. The session's id for it; 0: no room. */
uint32_t session_know(struct vine_serve *s, struct session *session, struct procedure *p);
/* One reference less. False: it has none to that. */
bool session_unknow(struct vine_serve *s, struct session *session, uint32_t id);
struct procedure *session_procedure(const struct session *session, uint32_t id);

/* The region that is attached to @queue as @id, with a reference. NULL: no memory. */
struct region *session_region(struct vine_serve *s, struct session *session, int queue,
			      uint64_t id);
void region_put(struct vine_serve *s, struct region *r);

/* ---- tasks ---- */

struct buffer {
	struct region *region;
	uint64_t offset, size;
};

struct task {
	struct list link;	/* in flow.tasks, or in connection.done */
	struct list tag_link;
	struct connection *connection;
	struct accelerator *accelerator;
	struct procedure *procedure;	/* NULL: it fails, and @reason says why */
	const struct vine_procedure *handler;	/* NULL: uploaded code */
	const struct vine_compiler *compiler;	/* of that, when it is source */
	uint32_t tag;
	uint8_t flags, in_count, out_count;
	vine_task_reason_e reason;
	int detail;
	uint64_t received, started, ended;
	pid_t worker;		/* for the tracer */
	unsigned int buffers;	/* all: args, inputs, outputs */
	unsigned int have;	/* that have come */
	struct buffer buffer[];
};

void task_free(struct vine_serve *s, struct task *task);

/* ---- accelerators (scheduler.c) ---- */

/* What one connection wants of one accelerator. */
struct flow {
	struct list link;	/* in accelerator.flows, while there are tasks */
	struct list tasks;
};

/* Runs one task at a time: in one of two processes. */
struct lane;

struct accelerator {
	char name[32];
	vine_accel_type_e type;
	uint64_t pci;		/* as in struct talk_accel */
	const struct vine_compiler *compiler;	/* NULL: it runs no source */
	unsigned int lane_count;
	struct lane *lane;
	struct list flows;
	struct session *holder;
	uint32_t virtual_id;	/* of what @holder has */
	unsigned int queued, running;
	uint64_t done, failed, busy_ns;
};

/* @task is whole, and waits for its turn. */
void scheduler_add(struct vine_serve *s, struct task *task);
/* Frees the tasks of a connection that wait. */
void scheduler_drop(struct vine_serve *s, struct connection *c);
/* Starts what can be started. */
void scheduler_run(struct vine_serve *s, struct accelerator *a);
/*
 * A task that was given to a lane has come to its end; its times are set. @task is not the
 * caller's any more.
 */
void scheduler_finish(struct vine_serve *s, struct task *task, vine_task_reason_e reason,
		      int detail);

/* The accelerator that @session may call @id, or NULL. */
struct accelerator *scheduler_find(struct vine_serve *s, const struct session *session,
				   uint32_t id);
/* The virtual accelerator's id, or 0: somebody holds it. */
uint32_t scheduler_acquire(struct accelerator *a, struct session *session);
void scheduler_release(struct vine_serve *s, struct accelerator *a);

/* ---- workers (worker.c) ---- */

enum worker_state {
	WORKER_NONE,		/* no process: it is started when there is work */
	WORKER_IDLE,
	WORKER_BUSY,		/* with @task, or, when that is NULL, with forgetting */
	WORKER_ENDING,		/* killed, and not dead yet */
};

struct worker {
	struct source source;
	struct lane *lane;
	unsigned int number;
	enum worker_state state;
	unsigned int forker;		/* which one forks it */
	pid_t pid;			/* 0: it has not said so yet */
	int socket;
	struct session *session;	/* of uploaded code: whose; not counted */
	bool for_source;		/* it runs @session's source, and no other code */
	struct task *task;
	uint64_t serial;		/* of the last request */
	uint64_t deadline;		/* ns; VINE_FOREVER: none */
	bool again;			/* it was dead before it got @task: to be given again */
	vine_task_reason_e killed_for;	/* none: it was not us */
	unsigned int forgets;		/* slots to be forgotten */
	unsigned int next_slot;
	struct worker_slot {
		struct memory *memory;
		bool forget;		/* the worker maps something that is no more */
		uint64_t used;		/* serial of a request */
	} slot[WORK_SLOTS];
};

struct lane {
	struct accelerator *accelerator;
	struct worker plain;
	struct worker code;		/* one task's uploaded code, or one session's source */
};

/* Whether that task could be given to it now. */
bool lane_free(const struct lane *lane, const struct task *task);
/* Makes it free for another's code, soon. False: it is busy. */
bool lane_clear(struct vine_serve *s, struct lane *lane);
/* Gives it a task, and calls scheduler_finish() sooner or later. */
void lane_give(struct vine_serve *s, struct lane *lane, struct task *task);
/* 0, or -errno. It can be given a task at once. */
int worker_start(struct vine_serve *s, struct worker *w);
/* It has said so; or could not be forked: -errno. */
void worker_born(struct vine_serve *s, struct worker *w, pid_t pid);
/* Its forker has died; if it is not born yet it never will be. */
void worker_unborn(struct vine_serve *s, struct worker *w);
/*
 * Asks the compiler of @a's type, in such a worker as it would have, whether it can do its work:
 * then it is @a's. 0, or -1; the log says why, or what it is. -1 too when we are to stop meanwhile.
 */
int worker_probe(struct vine_serve *s, struct accelerator *a);
void worker_kill(struct vine_serve *s, struct worker *w, vine_task_reason_e why);
/* @slot is not needed any more. */
void worker_forget(struct vine_serve *s, struct worker *w, unsigned int slot);
/* Children have died. */
void workers_reap(struct vine_serve *s);
/* The client of what they do has gone. */
void workers_hurry(struct vine_serve *s, const struct connection *c);
/* Kills those whose time is over. */
void workers_expire(struct vine_serve *s, uint64_t now);
/* Kills all, and waits until they are dead. */
void workers_end(struct vine_serve *s);

/* ---- the forker ---- */

struct forker {
	struct source source;
	pid_t pid;			/* 0: it has not said so yet */
	int socket;			/* -1: there is none */
	unsigned int pending;		/* orders */
	uint64_t deadline;		/* of the first of them; ns */
};

/* False: on this kernel the C library has the forker's number for the first thread of workers. */
bool forker_numbers(void);
/* 0 or -errno. */
int forker_start(struct vine_serve *s);
/* All workers that were born are known then. */
void forker_end(struct vine_serve *s);
/* Waits for those that are on the way. */
void forker_settle(struct vine_serve *s);
/* Forks a worker, which has @socket, and calls worker_born() later. 0 or -errno. */
int forker_order(struct vine_serve *s, struct worker *w, int socket);
/* Replaces it when it takes too long. */
void forker_expire(struct vine_serve *s, uint64_t now);

/* ---- connections ---- */

enum connection_kind { CONNECTION_NEW, CONNECTION_REFUSED, CONNECTION_CONTROL, CONNECTION_TASKS };

/*
 * A queue. Of each task it is known where it is: being assembled (@partial), in a flow, with
 * a worker (@running), or @done and not sent. There are so many that the queue is not pulled
 * when there are too many: a client that does not read its answers fills its own rings.
 */
struct connection {
	struct source source;
	struct list link;	/* in serve.connections or serve.gone */
	struct list dirty;	/* in serve.dirty: something is to be sent, or to be pulled again */
	enum connection_kind kind;
	struct session *session;
	int queue;
	unsigned int peer;
	uint32_t tid;		/* of the client's thread: for people */
	uint32_t events;	/* that epoll watches */
	bool gone;
	struct list strange;	/* in serve.strangers, until it has said HELLO */
	uint64_t hello_by;	/* ns */
	struct region *region[TALK_REGIONS];
	struct talk_name name;	/* a REGISTER whose BYTES come next; op 0: there is none */
	struct task *partial;
	unsigned int tasks, buffers, running;
	struct list done;
	struct list tags[TAG_HASH];
	struct flow *flows;	/* one per accelerator */
	unsigned int answers;
	struct vine_msg answer[BATCH + 1];
};

/* Takes over @queue; turns it away when its machine has had its share. */
void connection_new(struct vine_serve *s, int queue, unsigned int peer);
/* @why: for the log, or NULL. What runs for it goes on for a while; freed when it is done. */
void connection_close(struct vine_serve *s, struct connection *c, const char *why);
/* @task is done, one way or another. */
void connection_answer(struct vine_serve *s, struct task *task);
/* Sends what there is room for. */
void connection_flush(struct vine_serve *s, struct connection *c);
void connection_free(struct vine_serve *s, struct connection *c);
/* Closes queues that have had the time to say HELLO. When that is to be called again; ns. */
void connections_expire(struct vine_serve *s, uint64_t now);
uint64_t connections_deadline(const struct vine_serve *s);
/* It will be flushed at the end of this round. */
void connection_dirty(struct vine_serve *s, struct connection *c);

/* ---- the appliance ---- */

struct vine_serve {
	char *device_path, name[VINE_SERVICE_NAME];
	uint64_t time_limit;		/* ns; 0: none */
	bool allow_code, allow_source, once;
	uid_t code_uid;
	gid_t code_gid;
	size_t bytes_max;
	void (*log)(const char *line);
	char host[48];

	struct plugins plugins;
	struct accelerator **accelerators;
	unsigned int accelerator_count;
	struct worker **workers;	/* by number */
	unsigned int worker_count;

	int device, listener, epoll, signals, stop;
	struct forker forker[2];	/* one is in use, the other one spare */
	unsigned int forking;		/* which is in use */
	struct source listener_source, signal_source, stop_source;
	struct list connections, gone, dirty, strangers, sessions, procedures;
	struct limits limits;
	uint64_t used[LIMITED];
	struct machine machines[VINE_MAX_PEERS];
	uint64_t sessions_ever;
	uint64_t copied;		/* bytes of procedures, in this round */
	uint64_t next_deadline;		/* no worker's or forker's is before; ns */
	uint64_t next_accept;		/* not before; 0: now */
	bool stopped, served;
	bool work;			/* an accelerator may have something to start */
	bool rejoin;			/* what there is of the device is lost */
	const char *failed;		/* why it cannot go on */
};

void serve_log(struct vine_serve *s, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A line about a client of @machine, if it has not had too many. @session: NULL: unknown. */
void serve_log_client(struct vine_serve *s, unsigned int machine, struct session *session,
		      const char *format, ...) __attribute__((format(printf, 4, 5)));
/* True when @err, negative, is about the device itself: the loop deals with it. */
bool serve_lost(struct vine_serve *s, int err);
int serve_watch(struct vine_serve *s, int fd, uint32_t events, struct source *source);
uint64_t serve_now(void);
/* Sets one of those deadlines that serve.next_deadline is not after. */
void serve_deadline(struct vine_serve *s, uint64_t *deadline, uint64_t when);

/* @text, which is a client's, for the log: zero-terminated, and nothing but printable ASCII. */
struct serve_text { char text[WORK_WHY]; } serve_text(const char *text);

#endif /* SERVE_H */
