/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * talk.h - inside the VineTalk library: its objects, and what a back end is
 *
 *   talk.c     the calls of vine_talk.h: checks handles, traces, hands on to the back end
 *   handle.c   handles: opaque numbers instead of pointers, so that stale ones are seen
 *   config.c   ~/.vinetalk
 *   trace.c    the tracer; trace.h says how a call is traced
 *   null.c     back end that does nothing: copy it to begin a new one
 *   local.c    back end that executes in this process, with a profile
 *   device.c   back end of /dev/vineN; device.h names the files that belong to it
 *
 * A back end embeds these structures in larger ones of its own. The front end sets and
 * reads the fields above each "back end:" line; the back end those below it.
 */
#ifndef TALK_H
#define TALK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <vine_talk.h>

#include "waiting.h"

/* ---- handles (handle.c) ---- */

enum handle_kind { HANDLE_ACCEL = 1, HANDLE_PROC, HANDLE_DATA, HANDLE_TASK };

/*
 * First member of every object. Counted: one reference is the user's (ended by
 * handle_close()), the others those of handle_get() and handle_hold(). The last put calls
 * @destroy. The count is not here but in a table, which outlives the object.
 */
struct handle {
	void *value;			/* what the user has; NULL before handle_open() */
	void (*destroy)(struct handle *h);
};

/* Gives @h its value, and the user's reference. -ENOMEM: too many (16 million). */
int handle_open(struct handle *h, enum handle_kind kind, void (*destroy)(struct handle *h));

/* The object, with a reference; NULL: @value is none of that kind. Lock-free. */
void *handle_get(enum handle_kind kind, const void *value);
void handle_hold(struct handle *h);
void handle_put(struct handle *h);

/*
 * Makes @value stale and drops the user's reference. Of several that try, one gets true.
 */
bool handle_close(enum handle_kind kind, const void *value);

/* Closes all of a kind. For vine_talk_exit(). */
void handle_close_all(enum handle_kind kind);

/* In the child of a fork: all are stale and none is destroyed. */
void handle_forked(void);

/* ---- objects ---- */

struct talk_accel_obj {
	struct handle h;
	/* set by the back end before handle_open(): */
	vine_accel_type_e type;
	bool virtual;
	const char *name;		/* for people and the tracer; lives as long as this */
};

struct talk_proc_obj {
	struct handle h;
	const char *name;		/* as an accelerator's */
};

/* @writer: the task in flight that has it as an output, or NULL. Under talk.c's data lock. */
struct talk_data_obj {
	struct handle h;
	vine_data_alloc_place_e place;
	size_t size;
	struct talk_task_obj *writer;
	/* back end: */
	void *address;			/* in this process */
};

/*
 * The front end holds a reference to the accelerator, the procedure and each buffer until
 * the task is done. The back end says so by talk_task_done(), once, from any thread.
 */
struct talk_task_obj {
	struct handle h;
	struct talk_accel_obj *accel;
	struct talk_proc_obj *proc;
	bool has_args;
	unsigned int in_count, out_count, buffers;	/* @buffers: args included */
	atomic_bool issued;		/* the back end has it, or has refused it */
	uint64_t id;			/* unique in this process; low half: TALK_TASK's tag */
	struct talk_data_obj **buffer;	/* args if any, inputs, outputs */
	vine_task_stats_s stats;	/* written before @state is; issue_ns by talk.c */
	_Atomic(vine_task_state_e) state;
};

/* ---- back ends ---- */

struct talk_config;

/*
 * Everything returns 0 or -errno, unless it says otherwise, and may be called by several
 * threads at once, but for open, close and forked. Objects passed in are alive for the
 * call. What went wrong beyond an errno is said by talk_warn().
 */
struct talk_backend {
	const char *name;

	/* Says by talk_warn() why it cannot. */
	int (*open)(const struct talk_config *config);
	/*
	 * No call is under way, and all handles are closed: what is left is held by tasks in
	 * flight. Waits for nothing: those are done with vine_reason_lost.
	 */
	void (*close)(void);
	/* In the child of a fork: let go of descriptors and mappings; async-signal-safe. */
	void (*forked)(void);

	/*
	 * Lists accelerators of @type (ANY: all), each with its handle open: fills @list up
	 * to @room, returns how many there are. References stay the back end's.
	 */
	int (*accel_list)(vine_accel_type_e type, struct talk_accel_obj **list, int room);
	void (*accel_location)(struct talk_accel_obj *accel, vine_accel_loc_s *loc);
	vine_accel_state_e (*accel_stat)(struct talk_accel_obj *accel, vine_accel_stats_s *stats);
	/* A new virtual accelerator, its handle open. talk.c closes that before the release. */
	int (*accel_acquire)(struct talk_accel_obj *accel, struct talk_accel_obj **acquired);
	int (*accel_release)(struct talk_accel_obj *accel);

	/*
	 * An object with its handle open; the same for the same procedure while it lives. The
	 * put that matches the last register or get closes the handle.
	 */
	int (*proc_register)(vine_accel_type_e type, const char *name, const void *bytes,
			     size_t size, struct talk_proc_obj **proc);
	int (*proc_get)(vine_accel_type_e type, const char *name, struct talk_proc_obj **proc);
	int (*proc_put)(struct talk_proc_obj *proc);

	/* Allocates the object with its memory, @address set; talk.c sets the rest. */
	int (*data_alloc)(size_t size, struct talk_data_obj **data);
	void (*data_free)(struct talk_data_obj *data);	/* nobody uses it any more */

	/* Allocates a task object; talk.c fills it in; freed by task_free. */
	struct talk_task_obj *(*task_new)(void);
	/*
	 * Starts it; may block while there is no room. After success talk_task_done() is
	 * called once, perhaps before this returns. -EPIPE: the accelerator is gone.
	 */
	int (*task_issue)(struct talk_task_obj *task);
	/* Takes what completions there are, without waiting. May be NULL. */
	void (*task_poll)(struct talk_task_obj *task);
	/* Waits until its state is not task_issued. */
	void (*task_wait)(struct talk_task_obj *task);
	void (*task_free)(struct talk_task_obj *task);
};

extern const struct talk_backend talk_device, talk_shm, talk_local, talk_null;

/* ---- what talk.c offers to back ends ---- */

/*
 * @reason: vine_reason_none: completed. @stats of the task must be filled in before
 * (start_ns, end_ns, error_ns). References are dropped: so it may call data_free, task_free
 * and @destroy, and is to be called with no lock held that these take.
 */
void talk_task_done(struct talk_task_obj *task, vine_task_reason_e reason, int detail);

/* One line on standard error, at most 20 a second, as "vine: ...". */
void talk_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t talk_now(void);

/* Of types, as people write them: "any", "gpu", ... */
extern const char *const talk_type_names[VINE_ACCEL_TYPES];

/* As vine_task_reason_text(), which is traced. */
const char *talk_reason_text(vine_task_reason_e reason);

/* ---- build options (options.mk) ---- */

/* make BACKEND=: the one that is used when nothing names one; "": it depends */
#ifndef VINE_BACKEND
#define VINE_BACKEND ""
#endif

/* ---- configuration (config.c) ---- */

struct talk_config {
	char file[4096];	/* where it comes from; empty: there is none */
	char backend[16];	/* empty: not said */
	char shm_file[4096];
	unsigned int shm_file_line;
	uint64_t shm_size, shm_off;	/* as shm_trunc, without meaning for a device */
	bool shm_trunc, shm_ivshmem;
	bool trace;
	char trace_dir[4096];	/* of the tracer's files; empty: the working folder */
	uint64_t log_buffer_size;	/* 0: not said */
	char plugins[4096];	/* folder of the handlers, for "local"; empty: the usual one */
	char profile[4096];	/* "local": where its JSON goes; "-": no JSON; empty: no profile */
};

/*
 * Reads $VINE_CONFIG (not for set-user-ID programs) or ~/.vinetalk, and then VINE_TRACE.
 * No file at all is fine, but for one that $VINE_CONFIG names. 0, or -1 with file, line
 * and what was expected in @error.
 */
int talk_config_read(struct talk_config *config, char *error, size_t room);

/* What VINE_TRACE says: trace and trace_dir; the others are left as they are. */
void talk_config_environment(struct talk_config *config);

/* The back end that it means, or NULL and why in @error: shm_file is not what it must be. */
const char *talk_config_backend(const struct talk_config *config, char *error, size_t room);

#endif /* TALK_H */
