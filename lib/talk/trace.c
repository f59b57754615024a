// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * trace.c - the tracer: a line of CSV and an event of Chrome's JSON for each call
 *
 * Each thread formats into a buffer of its own and takes no lock for it. A record is
 * published by one store, when it is complete; who empties the buffer (its thread when it is
 * full or ends, whoever closes the trace, a handler of a fatal signal) holds its @emptying
 * flag, and writes what is published with one write(2) to a descriptor with O_APPEND: so
 * records never mix.
 *
 * A run is the time from the first trace_open() to the last trace_close(). A thread that is
 * late, and writes to its buffer when the run is over, changes nothing: its buffer still has
 * the number of that run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "text.h"
#include "trace.h"

#define BUFFER_MAX	(1UL << 30)	/* an end has 32 bits */
#define PATIENCE_MS	2000		/* with a thread that is writing */

enum { CSV, JSON, FILES };

struct trace_buffer {
	struct trace_buffer *next;
	atomic_bool used;		/* a thread has it */
	atomic_bool emptying;
	atomic_uint run;		/* what is in it belongs to this one */
	_Atomic uint64_t ends;		/* published bytes: CSV | JSON << 32 */
	pid_t thread;
	size_t size;			/* of each */
	char *bytes[FILES];
};

/* Of @run: the phase is in the two lowest bits. */
#define RUN_PHASE	3U
#define RUN_CLOSED	0U
#define RUN_OPEN	1U
#define RUN_ENDING	2U

atomic_bool trace_on = true;

static atomic_uint run;
static _Atomic(struct trace_buffer *) buffers;	/* all there ever were; reused */
static __thread struct trace_buffer *mine;
static int descriptors[FILES] = { -1, -1 };
static atomic_bool damaged;
static pid_t process;			/* that the files belong to */
static size_t buffer_bytes;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* what follows */
static unsigned int opens;
static bool prepared;
static pthread_key_t thread_key;
static char path[FILES][4096 + 256];

static const int fatal_signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGBUS,
				     SIGABRT, SIGFPE, SIGILL };
#define FATAL_SIGNALS	(sizeof(fatal_signals) / sizeof(fatal_signals[0]))

/* ---- emptying buffers ---- */

static bool write_all(int fd, const char *bytes, size_t n)
{
	ssize_t done;

	while (n) {
		done = write(fd, bytes, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		bytes += done;
		n -= (size_t)done;
	}
	return true;
}

/* The caller holds @emptying. What is published does not change under it. */
static void write_out(struct trace_buffer *b)
{
	uint64_t ends = atomic_load_explicit(&b->ends, memory_order_acquire);

	if (!write_all(descriptors[CSV], b->bytes[CSV], (uint32_t)ends) ||
	    !write_all(descriptors[JSON], b->bytes[JSON], ends >> 32))
		atomic_store(&damaged, true);
}

/* A child of a bare clone() has our memory, but its descriptors are other ones. */
static bool is_ours(void)
{
	return getpid() == process;
}

static void give_up(void)
{
	if (atomic_exchange(&trace_on, false))
		talk_warn("the trace %s is incomplete: it could not be written", path[CSV]);
}

/*
 * By the buffer's thread. Signals are blocked so that no handler waits for the thread that
 * it has interrupted.
 */
static void empty_mine(struct trace_buffer *b)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!atomic_exchange(&b->emptying, true)) {
		if (atomic_load(&run) == b->run && is_ours())
			write_out(b);
		atomic_store_explicit(&b->ends, 0, memory_order_relaxed);
		atomic_store(&b->emptying, false);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (atomic_load(&damaged))
		give_up();
}

/* By others. False: its thread does not come to an end with it. */
static bool hold(struct trace_buffer *b)
{
	unsigned int ms;

	for (ms = 0; ms < PATIENCE_MS; ms++) {
		if (!atomic_exchange(&b->emptying, true))
			return true;
		poll(NULL, 0, 1);
	}
	return false;
}

/*
 * Ends the run: writes what all threads have published, and completes the JSON. When
 * several try, one does it and the others wait. Async-signal-safe; all signals are blocked.
 */
static void end_run(void)
{
	unsigned int now = atomic_load(&run), ms;
	struct trace_buffer *b;

	if (!is_ours())
		return;
	if ((now & RUN_PHASE) != RUN_OPEN ||
	    !atomic_compare_exchange_strong(&run, &now, now - RUN_OPEN + RUN_ENDING)) {
		for (ms = 0; ms < PATIENCE_MS; ms++) {
			if ((atomic_load(&run) & RUN_PHASE) != RUN_ENDING)
				return;
			poll(NULL, 0, 1);
		}
		return;
	}
	for (b = atomic_load(&buffers); b; b = b->next) {
		if (!hold(b))
			continue;
		if (atomic_load(&b->run) == now)
			write_out(b);
		atomic_store(&b->emptying, false);
	}
	write_all(descriptors[JSON], "\n]\n", 3);
	close(descriptors[CSV]);
	close(descriptors[JSON]);
	atomic_store(&run, now - RUN_OPEN + RUN_PHASE + 1);
}

/* ---- the ends of a thread, a process, a child's parent ---- */

static void on_thread_exit(void *buffer)
{
	struct trace_buffer *b = buffer;

	empty_mine(b);
	mine = NULL;
	atomic_store_explicit(&b->used, false, memory_order_release);
}

static void on_fatal_signal(int sig)
{
	struct sigaction standard = { .sa_handler = SIG_DFL };

	end_run();
	sigaction(sig, &standard, NULL);
	raise(sig);			/* pending until the handler returns */
}

static void catch_signals(void)
{
	struct sigaction ours = { .sa_handler = on_fatal_signal, .sa_flags = SA_ONSTACK }, was;
	size_t i;

	sigfillset(&ours.sa_mask);
	for (i = 0; i < FATAL_SIGNALS; i++)
		if (!sigaction(fatal_signals[i], NULL, &was) && !(was.sa_flags & SA_SIGINFO) &&
		    was.sa_handler == SIG_DFL)
			sigaction(fatal_signals[i], &ours, NULL);
}

static void release_signals(void)
{
	struct sigaction standard = { .sa_handler = SIG_DFL }, was;
	size_t i;

	for (i = 0; i < FATAL_SIGNALS; i++)
		if (!sigaction(fatal_signals[i], NULL, &was) && was.sa_handler == on_fatal_signal)
			sigaction(fatal_signals[i], &standard, NULL);
}

/* As a destructor it runs after those and the exit handlers of whoever uses the library. */
__attribute__((destructor)) static void finish(void)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	end_run();
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The files and what is in the buffers are the parent's; only this thread is left. */
static void in_child(void)
{
	struct trace_buffer *b;
	unsigned int now = atomic_load(&run);
	pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	lock = fresh;
	opens = 0;
	for (b = atomic_load(&buffers); b; b = b->next) {
		atomic_store(&b->emptying, false);
		atomic_store(&b->used, b == mine);
	}
	if ((now & RUN_PHASE) != RUN_CLOSED) {
		close(descriptors[CSV]);
		close(descriptors[JSON]);
		release_signals();
	}
	atomic_store(&run, (now | RUN_PHASE) + 1);
	atomic_store(&trace_on, true);
}

/* ---- opening and closing ---- */

/* Both files, the beginning of each written; or -1 after a warning. */
static int make_files(const char *folder)
{
	static const char *const ending[FILES] = { "csv", "json" };
	char host[65] = "", date[32] = "", more[16] = "", *slash;
	struct timespec wall;
	struct tm tm;
	unsigned int try;
	int i;

	gethostname(host, sizeof(host) - 1);
	while ((slash = strchr(host, '/')))
		*slash = '_';
	clock_gettime(CLOCK_REALTIME, &wall);
	strftime(date, sizeof(date), "%Y%m%d-%H%M%S", localtime_r(&wall.tv_sec, &tm));

	/* the same name twice: a second run within a second */
	for (try = 2; ; try++) {
		for (i = 0; i < FILES; i++) {
			snprintf(path[i], sizeof(path[i]), "%s%strace_%s_%ld_%s%s.%s", folder,
				 *folder ? "/" : "", host, (long)getpid(), date, more, ending[i]);
			descriptors[i] = open(path[i], O_WRONLY | O_CREAT | O_EXCL | O_APPEND |
					      O_CLOEXEC, 0666);
			if (descriptors[i] < 0)
				break;
		}
		if (i == FILES)
			return 0;
		if (i == JSON) {
			close(descriptors[CSV]);
			unlink(path[CSV]);
		}
		if (errno != EEXIST || try > 1000)
			break;
		snprintf(more, sizeof(more), "-%u", try);
	}
	talk_warn("no trace: cannot make %s: %s", path[i], strerror(errno));
	return -1;
}

static bool begin_files(void)
{
	static const char columns[] =
		"timestamp,core,thread,function,duration,return,arg1,arg2,arg3,arg4,arg5,arg6,"
		"arg7,arg8,arg9\n";
	struct timespec wall;
	char begin[1024];
	struct text t = { begin, begin + sizeof(begin), false };

	clock_gettime(CLOCK_REALTIME, &wall);
	text_put(&t, "[\n{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":");
	text_signed(&t, process);
	text_put(&t, ",\"tid\":");
	text_signed(&t, process);
	text_put(&t, ",\"args\":{\"name\":");
	text_json(&t, "", program_invocation_short_name);
	text_put(&t, ",\"monotonic_ns\":");
	text_number(&t, talk_now());
	text_put(&t, ",\"realtime_ns\":");
	text_number(&t, (uint64_t)wall.tv_sec * 1000000000 + (uint64_t)wall.tv_nsec);
	text_put(&t, "}}");
	return write_all(descriptors[CSV], columns, sizeof(columns) - 1) &&
	       write_all(descriptors[JSON], begin, (size_t)(t.at - begin));
}

static void open_files(const char *folder, size_t buffer_size)
{
	if (!prepared) {
		if (pthread_key_create(&thread_key, on_thread_exit) ||
		    pthread_atfork(NULL, NULL, in_child)) {
			talk_warn("no trace: the process is short of memory or keys");
			return;
		}
		prepared = true;
	}
	if (make_files(folder))
		return;
	process = getpid();
	buffer_bytes = buffer_size ? buffer_size : TRACE_BUFFER;
	if (buffer_bytes < TRACE_BUFFER_MIN)
		buffer_bytes = TRACE_BUFFER_MIN;
	if (buffer_bytes > BUFFER_MAX)
		buffer_bytes = BUFFER_MAX;
	atomic_store(&damaged, !begin_files());
	atomic_fetch_add(&run, RUN_OPEN);
	catch_signals();
}

void trace_open(bool wanted, const char *folder, size_t buffer_size)
{
	pthread_mutex_lock(&lock);
	opens++;
	if (wanted && (atomic_load(&run) & RUN_PHASE) == RUN_CLOSED)
		open_files(folder, buffer_size);
	atomic_store(&trace_on, (atomic_load(&run) & RUN_PHASE) == RUN_OPEN);
	pthread_mutex_unlock(&lock);
}

void trace_close(void)
{
	pthread_mutex_lock(&lock);
	if (opens && --opens == 0) {
		if ((atomic_load(&run) & RUN_PHASE) == RUN_OPEN) {
			finish();
			release_signals();
			if (atomic_load(&damaged))
				give_up();
		}
		atomic_store(&trace_on, true);
	}
	pthread_mutex_unlock(&lock);
}

/* ---- records ---- */

static struct trace_buffer *take_buffer(void)
{
	struct trace_buffer *b;
	bool unused;

	for (b = atomic_load(&buffers); b; b = b->next) {
		unused = false;
		if (b->size == buffer_bytes &&
		    atomic_compare_exchange_strong(&b->used, &unused, true))
			goto taken;
	}
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->size = buffer_bytes;
	b->bytes[CSV] = malloc(FILES * b->size);
	if (!b->bytes[CSV]) {
		free(b);
		return NULL;
	}
	b->bytes[JSON] = b->bytes[CSV] + b->size;
	b->used = true;
	b->next = atomic_load(&buffers);
	while (!atomic_compare_exchange_weak(&buffers, &b->next, b))
		;
taken:
	if (pthread_setspecific(thread_key, b)) {
		atomic_store_explicit(&b->used, false, memory_order_release);
		return NULL;
	}
	b->thread = gettid();
	mine = b;
	return b;
}

/* This thread's, for the run that is open; NULL: there is none. */
static struct trace_buffer *my_buffer(void)
{
	unsigned int now = atomic_load_explicit(&run, memory_order_acquire);
	struct trace_buffer *b = mine;

	if ((now & RUN_PHASE) != RUN_OPEN)
		return NULL;
	if (!b)
		b = take_buffer();
	if (b && b->run != now) {
		b->thread = gettid();	/* it may be a child's */
		atomic_store_explicit(&b->ends, 0, memory_order_relaxed);
		atomic_store_explicit(&b->run, now, memory_order_release);
	}
	return b;
}

/*
 * Adds a record, which @format writes: to both files, or leaves one as it is. When there is
 * no room, empties the buffer and tries again.
 */
static void add(struct trace_buffer *b,
		void (*format)(struct text *csv, struct text *json, pid_t thread, const void *what),
		pid_t thread, const void *what)
{
	struct text csv = { .end = b->bytes[CSV] + b->size };
	struct text json = { .end = b->bytes[JSON] + b->size };
	int try, error = errno;
	uint64_t ends;

	for (try = 0; try < 2; try++) {
		ends = atomic_load_explicit(&b->ends, memory_order_relaxed);
		csv.at = b->bytes[CSV] + (uint32_t)ends;
		json.at = b->bytes[JSON] + (ends >> 32);
		csv.full = json.full = false;
		format(&csv, &json, thread, what);
		if (!csv.full && !json.full) {
			ends = (uint64_t)(csv.at - b->bytes[CSV]) |
			       (uint64_t)(json.at - b->bytes[JSON]) << 32;
			atomic_store_explicit(&b->ends, ends, memory_order_release);
			break;
		}
		empty_mine(b);
	}
	errno = error;
}

/* What events of JSON begin with: "@kind@name", the phase, time, process and thread. */
static void json_begin(struct text *t, const char *kind, const char *name, const char *phase,
		       uint64_t ns, pid_t thread)
{
	text_put(t, ",\n{\"name\":");
	text_json(t, kind, name ? name : "");
	text_put(t, ",\"ph\":\"");
	text_put(t, phase);
	text_put(t, "\",\"ts\":");
	text_micros(t, ns);
	text_put(t, ",\"pid\":");
	text_signed(t, process);
	text_put(t, ",\"tid\":");
	text_signed(t, thread);
}

static void json_text(struct text *t, const char *key, const char *value)
{
	text_put(t, key);
	text_json(t, "", value ? value : "");
}

static void json_number(struct text *t, const char *key, uint64_t value)
{
	text_put(t, key);
	text_number(t, value);
}

static void csv_fact(struct text *t, const struct trace_fact *fact, const char *name)
{
	char before[32];
	struct text b = { before, before + sizeof(before) - 1, false };

	text_put(&b, name);
	text_put(&b, *name ? "=" : "");
	*b.at = '\0';
	if (fact->kind == TRACE_IS_TEXT) {
		text_csv(t, before, fact->text ? fact->text : "NULL");
		return;
	}
	text_put(t, before);
	if (fact->kind == TRACE_IS_NUMBER)
		text_number(t, fact->number);
	else if (fact->kind == TRACE_IS_SIGNED)
		text_signed(t, (int64_t)fact->number);
	else if (fact->kind == TRACE_IS_HANDLE)
		text_hex(t, fact->number);
}

static void json_fact(struct text *t, const struct trace_fact *fact)
{
	text_json(t, "", fact->name);
	text_put(t, ":");
	if (fact->kind == TRACE_IS_NUMBER) {
		text_number(t, fact->number);
	} else if (fact->kind == TRACE_IS_SIGNED) {
		text_signed(t, (int64_t)fact->number);
	} else if (fact->kind == TRACE_IS_HANDLE) {
		text_put(t, "\"");
		text_hex(t, fact->number);
		text_put(t, "\"");
	} else if (fact->text) {
		text_json(t, "", fact->text);
	} else {
		text_put(t, "null");
	}
}

struct span {
	const char *name;
	uint64_t begin, end;
	int core;
	const struct trace_fact *facts;
	unsigned int count;
};

static void format_span(struct text *csv, struct text *json, pid_t thread, const void *what)
{
	const struct span *span = what;
	const char *comma = "";
	unsigned int i;

	text_number(csv, span->begin);
	text_put(csv, ",");
	if (span->core >= 0)
		text_signed(csv, span->core);
	text_put(csv, ",");
	text_signed(csv, thread);
	text_put(csv, ",");
	text_csv(csv, "", span->name);
	text_put(csv, ",");
	text_number(csv, span->end - span->begin);
	for (i = 0; i <= TRACE_FACTS; i++) {
		text_put(csv, ",");
		if (i < span->count)
			csv_fact(csv, &span->facts[i], i ? span->facts[i].name : "");
	}
	text_put(csv, "\n");

	json_begin(json, "", span->name, "X", span->begin, thread);
	text_put(json, ",\"dur\":");
	text_micros(json, span->end - span->begin);
	text_put(json, ",\"args\":{");
	for (i = 0; i < span->count; i++) {
		if (span->facts[i].kind == TRACE_IS_NOTHING)
			continue;
		text_put(json, comma);
		json_fact(json, &span->facts[i]);
		comma = ",";
	}
	if (span->core >= 0) {
		text_put(json, comma);
		json_number(json, "\"core\":", (uint64_t)span->core);
	}
	text_put(json, "}}");
}

void trace_call(const char *function, uint64_t begin, const struct trace_fact *facts,
		unsigned int count)
{
	struct trace_buffer *b = my_buffer();
	struct span span = { function, begin, talk_now(), sched_getcpu(), facts, count };

	if (b)
		add(b, format_span, b->thread, &span);
}

void trace_span(const char *name, pid_t thread, uint64_t begin, uint64_t end,
		const struct trace_fact *facts, unsigned int count)
{
	struct trace_buffer *b = my_buffer();
	struct span span = { name, begin, end, -1, facts, count };

	if (b)
		add(b, format_span, thread, &span);
}

/* An asynchronous event; the process and the task's id name the pair. */
static void json_async(struct text *t, const struct talk_task_obj *task, bool appliance,
		       const char *phase, uint64_t ns, pid_t thread)
{
	json_begin(t, appliance ? "appliance " : "task ",
		   appliance ? task->accel->name : task->proc->name, phase, ns, thread);
	text_put(t, appliance ? ",\"cat\":\"appliance\"" : ",\"cat\":\"task\"");
	text_put(t, ",\"id2\":{\"local\":\"");
	text_hex(t, task->id);
	text_put(t, "\"},\"args\":{");
}

static void format_issued(struct text *csv, struct text *json, pid_t thread, const void *what)
{
	const struct talk_task_obj *task = what;

	(void)csv;
	json_async(json, task, false, "b", task->stats.issue_ns, thread);
	json_text(json, "\"accelerator\":", task->accel->name);
	json_text(json, ",\"procedure\":", task->proc->name);
	json_number(json, ",\"tag\":", (uint32_t)task->id);
	json_number(json, ",\"in_bytes\":", task->stats.in_bytes);
	json_number(json, ",\"out_bytes\":", task->stats.out_bytes);
	text_put(json, "}}");
}

static void format_done(struct text *csv, struct text *json, pid_t thread, const void *what)
{
	const struct talk_task_obj *task = what;
	const vine_task_stats_s *stats = &task->stats;

	(void)csv;
	if (stats->start_ns) {
		json_async(json, task, true, "b", stats->start_ns, thread);
		json_text(json, "\"procedure\":", task->proc->name);
		json_number(json, ",\"task\":", task->id);
		json_number(json, ",\"clock_error_ns\":", stats->error_ns);
		text_put(json, "}}");
		json_async(json, task, true, "e", stats->end_ns, thread);
		text_put(json, "}}");
	}
	json_async(json, task, false, "e", talk_now(), thread);
	json_text(json, "\"state\":", stats->reason == vine_reason_none ? "completed" : "failed");
	json_text(json, ",\"reason\":", talk_reason_text(stats->reason));
	text_put(json, ",\"detail\":");
	text_signed(json, stats->detail);
	text_put(json, "}}");
}

struct refusal {
	const struct talk_task_obj *task;
	const char *why;
};

static void format_refused(struct text *csv, struct text *json, pid_t thread, const void *what)
{
	const struct refusal *r = what;

	(void)csv;
	json_async(json, r->task, false, "e", talk_now(), thread);
	json_text(json, "\"state\":", "refused");
	json_text(json, ",\"reason\":", r->why);
	text_put(json, "}}");
}

void trace_task_issued(const struct talk_task_obj *task)
{
	struct trace_buffer *b = my_buffer();

	if (b)
		add(b, format_issued, b->thread, task);
}

void trace_task_done(const struct talk_task_obj *task)
{
	struct trace_buffer *b = my_buffer();

	if (b)
		add(b, format_done, b->thread, task);
}

void trace_task_refused(const struct talk_task_obj *task, const char *why)
{
	struct trace_buffer *b = my_buffer();
	struct refusal r = { task, why };

	if (b)
		add(b, format_refused, b->thread, &r);
}
