/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * trace.h - the tracer: each call as a line of CSV and as an event of Chrome's JSON
 *
 * A traced call is a thin function around one that does the work:
 *
 *	size_t vine_data_size(vine_data *data)
 *	{
 *		return TRACED(data_size(data), TRACE_NUMBER("return", traced),
 *			      TRACE_HANDLE("data", data));
 *	}
 *
 * The first fact is the result, which is called "traced"; TRACE_NOTHING when there is none.
 * At most TRACE_FACTS follow, evaluated after the call and only when the tracer is on.
 * When it is off, a call costs one branch. With make TRACE=0 there is no branch either.
 */
#ifndef TALK_TRACE_H
#define TALK_TRACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "talk.h"

#define TRACE_FACTS	9		/* beside the result */
#define TRACE_BUFFER_MIN 4096		/* bytes: the longest record fits */
#define TRACE_BUFFER	65536		/* the default */

enum trace_kind { TRACE_IS_NOTHING, TRACE_IS_NUMBER, TRACE_IS_SIGNED, TRACE_IS_HANDLE,
		  TRACE_IS_TEXT };

struct trace_fact {
	const char *name;
	enum trace_kind kind;
	union {
		uint64_t number;
		const char *text;	/* any bytes; NULL is allowed; cut after 128 */
	};
};

#define TRACE_NOTHING		{ .kind = TRACE_IS_NOTHING }
#define TRACE_NUMBER(n, v)	{ (n), TRACE_IS_NUMBER, { .number = (uint64_t)(v) } }
#define TRACE_SIGNED(n, v)	{ (n), TRACE_IS_SIGNED, { .number = (uint64_t)(int64_t)(v) } }
#define TRACE_HANDLE(n, v)	{ (n), TRACE_IS_HANDLE, { .number = (uintptr_t)(v) } }
#define TRACE_TEXT(n, v)	{ (n), TRACE_IS_TEXT, { .text = (v) } }

#ifndef VINE_TRACER
#define VINE_TRACER 1			/* make TRACE=0 says 0 */
#endif

#if VINE_TRACER

/* Also true until somebody has said: the first call may be the one that reads the
 * configuration. */
extern atomic_bool trace_on;
#define TRACE_ON()	atomic_load_explicit(&trace_on, memory_order_relaxed)

#else

#define TRACE_ON()	false

#endif

#define TRACE_ARRAY(...)	((const struct trace_fact[]){ __VA_ARGS__ })
#define TRACE_LENGTH(...)	(sizeof(TRACE_ARRAY(__VA_ARGS__)) / sizeof(struct trace_fact))

#define TRACE_CALL(name, begin, ...)						\
	trace_call(name, begin, TRACE_ARRAY(__VA_ARGS__), TRACE_LENGTH(__VA_ARGS__))

#define TRACED(call, ...)							\
	({									\
		__typeof__(call) traced;					\
		uint64_t traced_begin;						\
										\
		if (__builtin_expect(!TRACE_ON(), 1)) {				\
			traced = (call);					\
		} else {							\
			traced_begin = talk_now();				\
			traced = (call);					\
			TRACE_CALL(__func__, traced_begin, __VA_ARGS__);	\
		}								\
		traced;								\
	})

#define TRACED_VOID(call, ...)							\
	do {									\
		uint64_t traced_begin;						\
										\
		if (__builtin_expect(!TRACE_ON(), 1)) {				\
			call;							\
		} else {							\
			traced_begin = talk_now();				\
			call;							\
			TRACE_CALL(__func__, traced_begin, __VA_ARGS__);	\
		}								\
	} while (0)

/* When TRACE_ON(): a piece of work of another thread or process, which @thread is. */
#define TRACE_SPAN(name, thread, begin, end, ...)				\
	trace_span(name, thread, begin, end, TRACE_ARRAY(__VA_ARGS__), TRACE_LENGTH(__VA_ARGS__))

#if VINE_TRACER

/*
 * trace_open - begin a trace: make its two files
 *
 * @wanted: false: there will be none; calls cost a branch from now on
 * @folder: where; empty: the working folder
 * @buffer_size: bytes per thread and file, the first open's stands; 0: TRACE_BUFFER; less
 *               than TRACE_BUFFER_MIN counts as that
 *
 * When it cannot, talk_warn() says why, and it is as if it were not wanted. Opens are
 * counted: each wants a trace_close(), and the last one completes the files. What is
 * still open at exit(), or when a signal ends the process, is completed as well.
 */
void trace_open(bool wanted, const char *folder, size_t buffer_size);
void trace_close(void);

void trace_call(const char *function, uint64_t begin, const struct trace_fact *facts,
		unsigned int count);
void trace_span(const char *name, pid_t thread, uint64_t begin, uint64_t end,
		const struct trace_fact *facts, unsigned int count);

/*
 * @task is given to the back end; is done; is refused by it, and why. All while its accelerator,
 * procedure and @stats are there, and when TRACE_ON().
 */
void trace_task_issued(const struct talk_task_obj *task);
void trace_task_done(const struct talk_task_obj *task);
void trace_task_refused(const struct talk_task_obj *task, const char *why);

#else

static inline void trace_call(const char *function, uint64_t begin,
			      const struct trace_fact *facts, unsigned int count)
{
	(void)function;
	(void)begin;
	(void)facts;
	(void)count;
}

static inline void trace_span(const char *name, pid_t thread, uint64_t begin, uint64_t end,
			      const struct trace_fact *facts, unsigned int count)
{
	(void)thread;
	(void)end;
	trace_call(name, begin, facts, count);
}

static inline void trace_open(bool wanted, const char *folder, size_t buffer_size)
{
	(void)folder;
	(void)buffer_size;
	if (wanted)
		talk_warn("no trace: this libvine was built with TRACE=0");
}

static inline void trace_close(void) { }

static inline void trace_task_issued(const struct talk_task_obj *task) { (void)task; }

static inline void trace_task_done(const struct talk_task_obj *task) { (void)task; }

static inline void trace_task_refused(const struct talk_task_obj *task, const char *why)
{
	(void)task;
	(void)why;
}

#endif

#endif /* TALK_TRACE_H */
