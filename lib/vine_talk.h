/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * vine_talk.h - the VineTalk API: accelerators, procedures, data and tasks
 *
 * Every call, type and constant of VineTalk (2016-06) is here, with its meaning; what is
 * new is marked so. Where the work goes (a device, this process, nowhere) is chosen by
 * the configuration: see the manual page of the same name.
 *
 * Handles (vine_accel, vine_proc, vine_data, vine_task) are opaque and never dereferenced:
 * a NULL, stale or foreign one is recognised, a line on standard error says so (at most 20
 * a second), and the call gives its result for failure. The library owns what they stand
 * for until it is freed, put or released.
 *
 * Threads: every call may be made by any thread at any time. These may block: vine_talk_*(),
 * vine_accel_list(), _stat(), _acquire() and _release(), vine_proc_*(), vine_data_alloc(),
 * vine_task_issue() and vine_task_wait(). A thread must not be cancelled (pthread_cancel())
 * inside a call: what it has locked would stay so. No call may be made by a signal handler.
 *
 * fork(): the child has no VineTalk: handles of its parent are stale there, and it may
 * call vine_talk_init() for a new start. exec() closes everything.
 *
 * Compiles as C99 and as C++98.
 */
#ifndef VINE_TALK_H
#define VINE_TALK_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum vine_accel_type {
	ANY,			/* all types, where one asks; never that of an accelerator */
	GPU,
	GPU_SOFT,		/* a GPU's work, done in software */
	CPU,
	FPGA,
	VINE_ACCEL_TYPES	/* how many there are, ANY included */
} vine_accel_type_e;

typedef enum vine_accel_state {
	accel_failed,		/* gone, or the handle is not one */
	accel_idle,
	accel_busy		/* it runs a task, or is held exclusively */
} vine_accel_state_e;

typedef enum vine_task_state_e {
	task_failed,
	task_issued,		/* not done yet */
	task_completed
} vine_task_state_e;

typedef enum vine_data_alloc_place {
	HostOnly = 1,		/* the application's alone; a task may use it all the same */
	AccelOnly = 2,		/* not for the application: vine_data_deref() gives NULL */
	Both = 3
} vine_data_alloc_place_e;

typedef void vine_accel;
typedef void vine_proc;
typedef void vine_data;
typedef void vine_task;

/* Where an accelerator is. Strings are zero-terminated, empty when not known. */
typedef struct vine_accel_loc {
	char segment[64];		/* "/dev/vine0", an endpoint's name (at most 63
					 * bytes of it), or the back end's */
	char appliance[32];		/* the service that offers it; not printable: "?" */
	char name[32];			/* its own name there */
	char host[64];			/* the appliance's host name, at most 47 bytes of it */
	char pci[16];			/* "0000:01:00.0"; empty when it is no PCI function */
	unsigned int peer;		/* the appliance's machine, as the segment counts: 0..63 */
	unsigned int incarnation;	/* how often that number was taken */
} vine_accel_loc_s;

/* Since the appliance started; over all its clients. */
typedef struct vine_accel_stats {
	uint64_t queued;		/* tasks that wait */
	uint64_t running;
	uint64_t done;			/* completed */
	uint64_t failed;
	uint64_t busy_ns;		/* time that tasks ran, summed */
} vine_accel_stats_s;

/* Why a task failed. New. */
typedef enum vine_task_reason {
	vine_reason_none,		/* it did not, or not yet */
	vine_reason_handler,		/* the handler gave an error: @detail is its number */
	vine_reason_crashed,		/* the handler crashed: @detail is the signal */
	vine_reason_timeout,		/* it ran longer than the appliance allows */
	vine_reason_overrun,		/* it wrote past output number @detail */
	vine_reason_no_procedure,	/* nothing here runs that procedure */
	vine_reason_not_allowed,	/* uploaded code or source, and it runs none */
	vine_reason_no_accelerator,	/* it is gone, or held by another client */
	vine_reason_no_memory,		/* the appliance ran short of something */
	vine_reason_bad_data,		/* the appliance cannot reach one of the buffers */
	vine_reason_lost,		/* the appliance, or its machine, died or is not reached:
					 * the handler may still write to the outputs, so free
					 * them, and take new ones for the next task */
	vine_reason_not_compiled,	/* its source is wrong: the appliance's log says how */
	VINE_TASK_REASONS
} vine_task_reason_e;

/*
 * Times are nanoseconds of this machine's CLOCK_MONOTONIC, 0 when it has not come to
 * that. @start_ns and @end_ns were taken by the appliance's clock; converted, they are
 * right to within +- @error_ns (0 when no conversion was needed).
 */
typedef struct vine_task_stats {
	uint64_t issue_ns;		/* vine_task_issue() was called */
	uint64_t start_ns;		/* the handler began */
	uint64_t end_ns;		/* the handler ended */
	uint64_t error_ns;
	uint64_t in_bytes;		/* arguments and inputs */
	uint64_t out_bytes;
	vine_task_reason_e reason;
	int detail;
} vine_task_stats_s;

/*
 * vine_talk_init - read the configuration and open the back end
 * vine_talk_exit - close it: tasks in flight are lost, every handle becomes stale
 *
 * Calls made without init warn, and init by themselves; but those that are given a handle
 * fail, for there is none yet. Inits are counted: the last exit closes, once the calls of
 * other threads have returned. When a configuration is wrong, a message names the file, the
 * line and what was expected; every call then gives its result for failure, until the next
 * init.
 */
void vine_talk_init(void);
void vine_talk_exit(void);

/*
 * vine_talk_backend - choose the back end, whatever the configuration says. New.
 *
 * @name: "device", "shm" (which wants shm_file in the configuration), "local" or "null";
 *        NULL: let the configuration choose again
 *
 * To be called before vine_talk_init(). Returns 1, or 0: no such back end, or too late.
 */
int vine_talk_backend(const char *name);

/*
 * vine_accel_list - the accelerators of a type, ANY for all
 *
 * @accels: Out: an array of as many handles, to be freed with free(); NULL: only count
 *
 * Returns how many, 0 for none and on failure (*@accels is NULL then). The same
 * accelerator has the same handle each time; a handle stays valid until vine_talk_exit(),
 * also when its accelerator is gone.
 */
int vine_accel_list(vine_accel_type_e type, vine_accel ***accels);

/* Where it is; all empty for a handle that is none. */
vine_accel_loc_s vine_accel_location(vine_accel *accel);

/* Its type; ANY for a handle that is none. */
vine_accel_type_e vine_accel_type(vine_accel *accel);

/* Its state, and its statistics (@stats may be NULL; zeroed on failure). */
vine_accel_state_e vine_accel_stat(vine_accel *accel, vine_accel_stats_s *stats);

/*
 * vine_accel_acquire - hold an accelerator for this process alone
 * vine_accel_release - let it go
 *
 * Accelerators are shared by default. Acquire makes *@accel a virtual accelerator, for
 * tasks of this process; those of others wait meanwhile. Release makes *@accel NULL; so
 * does the end of the process, for the appliance. Both return 1, or 0: not an accelerator
 * that can be acquired (held by somebody, virtual already, gone), or released (not
 * virtual). *@accel is unchanged then.
 */
int vine_accel_acquire(vine_accel **accel);
int vine_accel_release(vine_accel **accel);

/*
 * vine_proc_register - make a procedure known, or find the same one again
 *
 * @type: of the accelerators that run it; ANY for all
 * @name: 1 to 48 bytes
 * @bytes, @size: the procedure: what the handler of that name makes of it (source, a
 *                parameter, nothing at all), or a shared object when no handler has the
 *                name and the appliance allows uploaded code. @bytes may be NULL when
 *                @size is 0. Copied.
 *
 * Procedures are global to an appliance, by name and type. The same bytes again give the
 * same procedure; other bytes give NULL, as does every failure. Ended by vine_proc_put().
 */
vine_proc *vine_proc_register(vine_accel_type_e type, const char *name, const void *bytes,
			      size_t size);

/*
 * vine_proc_get - look a procedure up: one that somebody registered, or that the
 *                 appliance has by itself. NULL: there is none. Ended by vine_proc_put().
 * vine_proc_put - drop a reference. The last one of all clients makes an appliance forget
 *                 the bytes. Tasks in flight keep it. Returns 1, or 0: not a procedure.
 */
vine_proc *vine_proc_get(vine_accel_type_e type, const char *name);
int vine_proc_put(vine_proc *proc);

/*
 * vine_data_alloc - a buffer for tasks, zeroed or not, aligned to 64 bytes
 *
 * Usable from any thread, with any accelerator. NULL: @size is 0 or more than there is, or
 * @place is none. Ended by vine_data_free().
 */
vine_data *vine_data_alloc(size_t size, vine_data_alloc_place_e place);

/* What was asked for; 0 for a handle that is none. */
size_t vine_data_size(vine_data *data);

/* Where it is in this process; NULL for AccelOnly and for a handle that is none. */
void *vine_data_deref(vine_data *data);

/*
 * For the application to say that what it wrote is complete. No back end needs to know: that
 * a task is issued says it as well.
 */
void vine_data_mark_ready(vine_data *data);

/* The memory comes back when no task in flight uses it any more. NULL is allowed. */
void vine_data_free(vine_data *data);

/*
 * vine_task_issue - give an accelerator a task; does not wait for its end
 *
 * @args: may be NULL
 * @in_count, @input, @out_count, @output: buffers: together with @args at most 64
 *
 * A buffer that is an output of a task in flight is waited for first: so a task sees what
 * those before it wrote. One that is only an input of tasks in flight is not: wait for
 * those before you give it to a task as an output. One buffer may be both of one task.
 * Blocks also while this thread's queue is full. Returns a task, ended by
 * vine_task_free(), or NULL: a handle that is none, too many buffers, the accelerator is
 * gone, or this side ran short of something, or lost a buffer. A line on standard error says
 * which.
 */
vine_task *vine_task_issue(vine_accel *accel, vine_proc *proc, vine_data *args,
			   size_t in_count, vine_data **input, size_t out_count,
			   vine_data **output);

/*
 * vine_task_stat - how far a task is; does not block
 * vine_task_wait - wait for its end
 *
 * Both fail with task_failed for a handle that is none. @stats may be NULL.
 */
vine_task_state_e vine_task_stat(vine_task *task, vine_task_stats_s *stats);
vine_task_state_e vine_task_wait(vine_task *task);

/*
 * vine_task_free - let a task go; one in flight still runs to its end. NULL is allowed.
 *                  New.
 * vine_task_reason_text - a reason in a few words; never NULL. New.
 */
void vine_task_free(vine_task *task);
const char *vine_task_reason_text(vine_task_reason_e reason);

#ifdef __cplusplus
}
#endif

#endif /* VINE_TALK_H */
