// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * talk.c - the calls of vine_talk.h: checks handles, traces, hands on to the back end
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "talk/protocol.h"
#include "talk/talk.h"
#include "talk/trace.h"

#define EXPORT __attribute__((visibility("default")))

/* ---- what back ends use as well ---- */

uint64_t talk_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

const char *const talk_type_names[VINE_ACCEL_TYPES] = {
	[ANY] = "any", [GPU] = "gpu", [GPU_SOFT] = "gpu_soft", [CPU] = "cpu", [FPGA] = "fpga",
};

const char *talk_reason_text(vine_task_reason_e reason)
{
	static const char *const text[VINE_TASK_REASONS] = {
		[vine_reason_none] = "it did not fail",
		[vine_reason_handler] = "the handler gave an error",
		[vine_reason_crashed] = "the handler crashed",
		[vine_reason_timeout] = "the handler ran longer than allowed",
		[vine_reason_overrun] = "the handler wrote past an output",
		[vine_reason_no_procedure] = "nothing there runs that procedure",
		[vine_reason_not_allowed] = "uploaded code is not allowed there",
		[vine_reason_no_accelerator] = "the accelerator is gone, or held by another",
		[vine_reason_no_memory] = "the appliance ran short of something",
		[vine_reason_bad_data] = "the appliance cannot reach a buffer",
		[vine_reason_lost] = "the appliance is gone",
		[vine_reason_not_compiled] = "its source does not compile there",
	};

	return (unsigned int)reason < VINE_TASK_REASONS ? text[reason] : "unknown reason";
}

#define WARNINGS_A_SECOND	20

void talk_warn(const char *format, ...)
{
	static _Atomic(uint64_t) recent;	/* second << 8 | warnings in it */
	uint64_t now = talk_now() / 1000000000 << 8, old, new;
	char line[5000] = "vine: ";		/* a path fits; the rest is cut off */
	size_t length = strlen(line);
	va_list args;

	old = atomic_load_explicit(&recent, memory_order_relaxed);
	do {
		new = (old | 0xff) == (now | 0xff) ? old + 1 : now + 1;
		if ((new & 0xff) > WARNINGS_A_SECOND)
			return;
	} while (!atomic_compare_exchange_weak_explicit(&recent, &old, new,
							memory_order_relaxed,
							memory_order_relaxed));

	va_start(args, format);
	vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	length = strlen(line);
	line[length++] = '\n';
	/* one write: lines of several threads and processes do not mix */
	if (write(STDERR_FILENO, line, length) < 0)
		return;
}

/* ---- open and closed ---- */

static const struct talk_backend *const backends[] = {
	&talk_device, &talk_shm, &talk_local, &talk_null,
};

enum talk_state {
	CLOSED,
	OPEN,
	FAILED,		/* the reason was said; nothing is tried until the next init */
	CLOSING,	/* waits for the calls under way */
};

static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t life_changed = PTHREAD_COND_INITIALIZER;
static _Atomic(enum talk_state) state;		/* changed under @life */
static unsigned int inits;			/* under @life */
static const struct talk_backend *chosen;	/* by vine_talk_backend(); under @life */
static const struct talk_backend *backend;	/* constant while OPEN */
static struct talk_config config;		/* constant while OPEN */

/* Calls under way, counted in places that few threads share. */
#define CALLS_PLACES	64
static struct {
	_Alignas(64) atomic_uint n;
} calls[CALLS_PLACES];

static atomic_uint *my_calls(void)
{
	/* threads' addresses are pages apart */
	uint64_t hash = ((uint64_t)pthread_self() >> 12) * 0x9e3779b97f4a7c15ULL;

	return &calls[hash >> 58].n;
}

static void leave(void)
{
	atomic_fetch_sub(my_calls(), 1);
	if (atomic_load(&state) != CLOSING)
		return;
	pthread_mutex_lock(&life);
	pthread_cond_broadcast(&life_changed);
	pthread_mutex_unlock(&life);
}

/* True: open, and stays so until leave(). */
static bool enter(void)
{
	atomic_fetch_add(my_calls(), 1);
	if (atomic_load(&state) == OPEN)
		return true;
	leave();
	return false;
}

static bool calls_under_way(void)
{
	int i;

	for (i = 0; i < CALLS_PLACES; i++) {
		if (atomic_load(&calls[i].n))
			return true;
	}
	return false;
}

static void fork_prepare(void)
{
	pthread_mutex_lock(&life);
}

static void fork_parent(void)
{
	pthread_mutex_unlock(&life);
}

static void data_lock_reset(void);

/* Async-signal-safe, but for the locks, which nobody can hold: there is one thread. */
static void fork_child(void)
{
	int i;

	pthread_mutex_init(&life, NULL);
	pthread_cond_init(&life_changed, NULL);
	data_lock_reset();
	for (i = 0; i < CALLS_PLACES; i++)
		atomic_store(&calls[i].n, 0);
	handle_forked();
	if (backend)
		backend->forked();
	backend = NULL;
	inits = 0;
	atomic_store(&state, CLOSED);
}

static void watch_forks(void)
{
	if (pthread_atfork(fork_prepare, fork_parent, fork_child))
		talk_warn("no memory: children of this process must not use VineTalk");
}

static void close_handles(void)
{
	handle_close_all(HANDLE_TASK);
	handle_close_all(HANDLE_DATA);
	handle_close_all(HANDLE_PROC);
	handle_close_all(HANDLE_ACCEL);
}

static const struct talk_backend *find_backend(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(backends) / sizeof(backends[0]); i++) {
		if (!strcmp(backends[i]->name, name))
			return backends[i];
	}
	return NULL;
}

/* With @life held, and not OPEN. Sets @state. */
static void open_backend(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static char error[sizeof(config.file) + sizeof(config.shm_file) + 256];
	const char *name;

	pthread_once(&once, watch_forks);
	atomic_store(&state, FAILED);
	if (talk_config_read(&config, error, sizeof(error))) {
		talk_warn("%s", error);
		return;
	}
	backend = chosen;
	if (!backend) {
		name = talk_config_backend(&config, error, sizeof(error));
		if (!name) {
			talk_warn("%s", error);
			return;
		}
		backend = find_backend(name);
	}
	if (backend->open(&config)) {
		close_handles();
		backend = NULL;
		return;
	}
	trace_open(config.trace, config.trace_dir, config.log_buffer_size);
	atomic_store(&state, OPEN);
}

static void wait_while_closing(void)
{
	while (atomic_load(&state) == CLOSING)
		pthread_cond_wait(&life_changed, &life);
}

static void talk_init(void)
{
	pthread_mutex_lock(&life);
	wait_while_closing();
	inits++;
	if (atomic_load(&state) != OPEN)
		open_backend();
	pthread_mutex_unlock(&life);
}

/* Returns true when this closed it. */
static bool talk_exit(void)
{
	bool closed = false;

	pthread_mutex_lock(&life);
	wait_while_closing();
	if (atomic_load(&state) == CLOSED)
		talk_warn("vine_talk_exit() without vine_talk_init()");
	if (inits)
		inits--;
	if (inits)
		goto unlock;
	if (atomic_load(&state) == OPEN) {
		atomic_store(&state, CLOSING);
		while (calls_under_way())
			pthread_cond_wait(&life_changed, &life);
		close_handles();
		backend->close();
		backend = NULL;
		closed = true;
	}
	atomic_store(&state, CLOSED);
	pthread_cond_broadcast(&life_changed);
unlock:
	pthread_mutex_unlock(&life);
	return closed;
}

/* As enter(); opens what is closed, for calls that need no handle. */
static bool enter_or_open(const char *call)
{
	while (!enter()) {
		pthread_mutex_lock(&life);
		wait_while_closing();
		if (atomic_load(&state) == CLOSED) {
			talk_warn("%s() without vine_talk_init(), which is tried now", call);
			open_backend();
		}
		pthread_mutex_unlock(&life);
		if (atomic_load(&state) == FAILED)
			return false;
	}
	return true;
}

static int talk_backend(const char *name)
{
	const struct talk_backend *found = name ? find_backend(name) : NULL;
	int ret = 0;

	pthread_mutex_lock(&life);
	if (name && !found) {
		talk_warn("vine_talk_backend(): there is no back end \"%s\"", name);
	} else if (atomic_load(&state) == OPEN || atomic_load(&state) == CLOSING) {
		talk_warn("vine_talk_backend(): too late, VineTalk is open");
	} else {
		chosen = found;
		ret = 1;
	}
	pthread_mutex_unlock(&life);
	return ret;
}

/* ---- handles ---- */

static void warn_handle(enum handle_kind kind, const void *value, const char *call)
{
	static const char *const names[] = {
		[HANDLE_ACCEL] = "an accelerator", [HANDLE_PROC] = "a procedure",
		[HANDLE_DATA] = "a buffer", [HANDLE_TASK] = "a task",
	};

	/* when opening failed there are no handles, and that was said */
	if (atomic_load(&state) != FAILED)
		talk_warn("%s(): %p is no handle of %s, or no more", call, value, names[kind]);
}

/* The object, with a reference. */
static void *lookup(enum handle_kind kind, const void *value, const char *call)
{
	void *object = handle_get(kind, value);

	if (!object)
		warn_handle(kind, value, call);
	return object;
}

/* The object, until end(). While nothing is open, nothing is a handle. */
static void *begin(enum handle_kind kind, const void *value, const char *call)
{
	void *object;

	if (!enter()) {
		warn_handle(kind, value, call);
		return NULL;
	}
	object = lookup(kind, value, call);
	if (!object)
		leave();
	return object;
}

static void end(struct handle *h)
{
	handle_put(h);
	leave();
}

/* ---- accelerators ---- */

static bool is_type(vine_accel_type_e type, const char *call)
{
	if ((unsigned int)type < VINE_ACCEL_TYPES)
		return true;
	talk_warn("%s(): %u is no type of accelerators", call, (unsigned int)type);
	return false;
}

/*
 * How many there are, or -errno, and in @list, to be freed, as many. Some may appear while
 * they are counted.
 */
static int accel_objects(vine_accel_type_e type, struct talk_accel_obj ***list)
{
	struct talk_accel_obj **grown;
	int n = 64, room;	/* most have no more, and need not look twice */

	*list = NULL;
	do {
		room = n;
		grown = realloc(*list, room * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		*list = grown;
		n = backend->accel_list(type, *list, room);
	} while (n > room);
	return n;
}

static int accel_handles(vine_accel_type_e type, vine_accel ***accels)
{
	struct talk_accel_obj **objects;
	vine_accel **handles = NULL;
	int i, n;

	n = accel_objects(type, &objects);
	if (n > 0)
		handles = malloc(n * sizeof(*handles));
	for (i = 0; handles && i < n; i++)
		handles[i] = objects[i]->h.value;
	free(objects);
	*accels = handles;
	return handles ? n : 0;
}

static int accel_list(vine_accel_type_e type, vine_accel ***accels)
{
	static const char call[] = "vine_accel_list";
	int n;

	if (accels)
		*accels = NULL;
	if (!is_type(type, call) || !enter_or_open(call))
		return 0;
	if (accels)
		n = accel_handles(type, accels);
	else
		n = backend->accel_list(type, NULL, 0);
	leave();
	return n > 0 ? n : 0;
}

static vine_accel_loc_s accel_location(vine_accel *value)
{
	struct talk_accel_obj *accel = begin(HANDLE_ACCEL, value, "vine_accel_location");
	vine_accel_loc_s loc = { .segment = "" };

	if (!accel)
		return loc;
	backend->accel_location(accel, &loc);
	end(&accel->h);
	return loc;
}

static vine_accel_type_e accel_type(vine_accel *value)
{
	struct talk_accel_obj *accel = begin(HANDLE_ACCEL, value, "vine_accel_type");
	vine_accel_type_e type;

	if (!accel)
		return ANY;
	type = accel->type;
	end(&accel->h);
	return type;
}

static vine_accel_state_e accel_stat(vine_accel *value, vine_accel_stats_s *stats)
{
	struct talk_accel_obj *accel = begin(HANDLE_ACCEL, value, "vine_accel_stat");
	vine_accel_stats_s all = { .queued = 0 };
	vine_accel_state_e ret = accel_failed;

	if (accel) {
		ret = backend->accel_stat(accel, &all);
		end(&accel->h);
	}
	if (stats)
		*stats = all;
	return ret;
}

static int accel_acquire(vine_accel **value)
{
	static const char call[] = "vine_accel_acquire";
	struct talk_accel_obj *accel = begin(HANDLE_ACCEL, value ? *value : NULL, call);
	struct talk_accel_obj *acquired;
	int ret;

	if (!accel)
		return 0;
	ret = accel->virtual ? -EINVAL : backend->accel_acquire(accel, &acquired);
	if (!ret)
		*value = acquired->h.value;
	end(&accel->h);
	return !ret;
}

static int accel_release(vine_accel **value)
{
	static const char call[] = "vine_accel_release";
	struct talk_accel_obj *accel = begin(HANDLE_ACCEL, value ? *value : NULL, call);
	int ret;

	if (!accel)
		return 0;
	/* of several threads that release it, one does; then it is gone, come what may */
	ret = accel->virtual && handle_close(HANDLE_ACCEL, accel->h.value);
	if (ret) {
		backend->accel_release(accel);
		*value = NULL;
	}
	end(&accel->h);
	return ret;
}

/* ---- procedures ---- */

static bool is_proc_name(const char *name, const char *call)
{
	size_t length = name ? strnlen(name, TALK_NAME + 1) : 0;

	if (length && length <= TALK_NAME)
		return true;
	talk_warn("%s(): a procedure's name has 1 to %d bytes", call, TALK_NAME);
	return false;
}

static vine_proc *proc_register(vine_accel_type_e type, const char *name, const void *bytes,
				size_t size)
{
	static const char call[] = "vine_proc_register";
	struct talk_proc_obj *proc;
	vine_proc *value = NULL;

	if (!is_type(type, call) || !is_proc_name(name, call))
		return NULL;
	if (size && !bytes) {
		talk_warn("%s(): the bytes are NULL, and their size is %zu", call, size);
		return NULL;
	}
	if (!enter_or_open(call))
		return NULL;
	if (!backend->proc_register(type, name, bytes, size, &proc))
		value = proc->h.value;
	leave();
	return value;
}

static vine_proc *proc_get(vine_accel_type_e type, const char *name)
{
	static const char call[] = "vine_proc_get";
	struct talk_proc_obj *proc;
	vine_proc *value = NULL;

	if (!is_type(type, call) || !is_proc_name(name, call) || !enter_or_open(call))
		return NULL;
	if (!backend->proc_get(type, name, &proc))
		value = proc->h.value;
	leave();
	return value;
}

static int proc_put(vine_proc *value)
{
	struct talk_proc_obj *proc = begin(HANDLE_PROC, value, "vine_proc_put");
	int ret;

	if (!proc)
		return 0;
	ret = backend->proc_put(proc);
	end(&proc->h);
	return !ret;
}

/* ---- buffers ---- */

static void data_destroy(struct handle *h)
{
	backend->data_free((struct talk_data_obj *)h);
}

static vine_data *data_alloc(size_t size, vine_data_alloc_place_e place)
{
	static const char call[] = "vine_data_alloc";
	struct talk_data_obj *data;
	vine_data *value = NULL;

	if (place != HostOnly && place != AccelOnly && place != Both) {
		talk_warn("%s(): %u is no place", call, (unsigned int)place);
		return NULL;
	}
	if (!size || !enter_or_open(call))
		return NULL;
	if (backend->data_alloc(size, &data))
		goto leave;
	data->place = place;
	data->size = size;
	if (handle_open(&data->h, HANDLE_DATA, data_destroy))
		backend->data_free(data);
	else
		value = data->h.value;
leave:
	leave();
	return value;
}

static size_t data_size(vine_data *value)
{
	struct talk_data_obj *data = begin(HANDLE_DATA, value, "vine_data_size");
	size_t size;

	if (!data)
		return 0;
	size = data->size;
	end(&data->h);
	return size;
}

static void *data_deref(vine_data *value)
{
	struct talk_data_obj *data = begin(HANDLE_DATA, value, "vine_data_deref");
	void *address;

	if (!data)
		return NULL;
	address = data->place == AccelOnly ? NULL : data->address;
	end(&data->h);
	return address;
}

/* Only looks whether it is a buffer. */
static void data_mark_ready(vine_data *value)
{
	struct talk_data_obj *data = begin(HANDLE_DATA, value, "vine_data_mark_ready");

	if (!data)
		return;
	end(&data->h);
}

/* Ends the user's reference. The object lives on while a call or a task uses it. */
static void close_handle(enum handle_kind kind, void *value, const char *call)
{
	bool open;

	if (!value)
		return;
	open = enter();
	if (!open || !handle_close(kind, value))
		warn_handle(kind, value, call);
	if (open)
		leave();
}

/* ---- tasks: who writes to which buffer ---- */

/*
 * Protects @writer of all buffers. A writer that its thread has not given to the back end
 * yet cannot be waited for there; so that is waited for first, which is rare.
 */
static pthread_mutex_t data_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t data_issued = PTHREAD_COND_INITIALIZER;
static atomic_uint data_waiters;	/* of @data_issued */

static void data_lock_reset(void)
{
	pthread_mutex_init(&data_lock, NULL);
	pthread_cond_init(&data_issued, NULL);
	atomic_store(&data_waiters, 0);
}

static struct talk_data_obj **outputs_of(const struct talk_task_obj *task)
{
	return task->buffer + task->buffers - task->out_count;
}

static void wait_for_task(struct talk_task_obj *task)
{
	if (atomic_load_explicit(&task->state, memory_order_acquire) == task_issued)
		backend->task_wait(task);
}

static void wait_until_issued(struct talk_task_obj *task)
{
	if (atomic_load(&task->issued))
		return;
	pthread_mutex_lock(&data_lock);
	atomic_fetch_add(&data_waiters, 1);
	while (!atomic_load(&task->issued))
		pthread_cond_wait(&data_issued, &data_lock);
	atomic_fetch_sub(&data_waiters, 1);
	pthread_mutex_unlock(&data_lock);
}

static void mark_issued(struct talk_task_obj *task)
{
	atomic_store(&task->issued, true);
	if (!atomic_load(&data_waiters))
		return;
	pthread_mutex_lock(&data_lock);
	pthread_cond_broadcast(&data_issued);
	pthread_mutex_unlock(&data_lock);
}

/* Waits until nobody writes to a buffer of @task, and makes it the writer of its outputs. */
static void claim_buffers(struct talk_task_obj *task)
{
	struct talk_task_obj *writer;
	unsigned int i;

	pthread_mutex_lock(&data_lock);
	for (i = 0; i < task->buffers;) {
		writer = task->buffer[i]->writer;
		if (!writer) {
			i++;
			continue;
		}
		handle_hold(&writer->h);
		pthread_mutex_unlock(&data_lock);
		wait_until_issued(writer);
		wait_for_task(writer);
		handle_put(&writer->h);
		pthread_mutex_lock(&data_lock);
		i = 0;		/* others may have become writers meanwhile */
	}
	for (i = 0; i < task->out_count; i++)
		outputs_of(task)[i]->writer = task;
	pthread_mutex_unlock(&data_lock);
}

static void unclaim_buffers(struct talk_task_obj *task)
{
	unsigned int i;

	if (!task->out_count)
		return;
	pthread_mutex_lock(&data_lock);
	for (i = 0; i < task->out_count; i++)
		outputs_of(task)[i]->writer = NULL;
	pthread_mutex_unlock(&data_lock);
}

/* ---- tasks ---- */

static void task_destroy(struct handle *h)
{
	struct talk_task_obj *task = (struct talk_task_obj *)h;

	free(task->buffer);
	backend->task_free(task);
}

/* With room for @buffers, its handle open; has taken the caller's reference to @accel. */
static struct talk_task_obj *task_new(struct talk_accel_obj *accel, size_t buffers)
{
	struct talk_task_obj *task = backend->task_new();

	if (!task)
		return NULL;
	task->buffer = calloc(buffers + 1, sizeof(*task->buffer));
	if (!task->buffer || handle_open(&task->h, HANDLE_TASK, task_destroy)) {
		free(task->buffer);
		backend->task_free(task);
		return NULL;
	}
	task->accel = accel;
	return task;
}

static bool add_buffers(struct talk_task_obj *task, vine_data **values, size_t count,
			uint64_t *bytes, const char *call)
{
	struct talk_data_obj *data;
	size_t i;

	for (i = 0; i < count; i++) {
		data = lookup(HANDLE_DATA, values[i], call);
		if (!data)
			return false;
		task->buffer[task->buffers++] = data;
		*bytes += data->size;
	}
	return true;
}

/* What the task has got so far. */
static void drop_references(struct talk_task_obj *task)
{
	unsigned int i;

	for (i = 0; i < task->buffers; i++)
		handle_put(&task->buffer[i]->h);
	if (task->proc)
		handle_put(&task->proc->h);
	handle_put(&task->accel->h);
}

/*
 * The state comes last: who has seen it and frees the buffers, has their memory back then.
 * The task itself is held until this has ended.
 */
void talk_task_done(struct talk_task_obj *task, vine_task_reason_e reason, int detail)
{
	vine_task_state_e end = reason == vine_reason_none ? task_completed : task_failed;

	task->stats.reason = reason;
	task->stats.detail = detail;
	if (TRACE_ON())
		trace_task_done(task);
	unclaim_buffers(task);
	drop_references(task);
	atomic_store_explicit(&task->state, end, memory_order_release);
	handle_put(&task->h);
}

static bool buffers_fit(vine_data *args, size_t in_count, vine_data **input, size_t out_count,
			vine_data **output, const char *call)
{
	if ((in_count && !input) || (out_count && !output)) {
		talk_warn("%s(): an array of buffers is NULL, and its count is not 0", call);
		return false;
	}
	if (in_count > TALK_BUFFERS || out_count > TALK_BUFFERS ||
	    !!args + in_count + out_count > TALK_BUFFERS) {
		talk_warn("%s(): a task has at most %d buffers", call, TALK_BUFFERS);
		return false;
	}
	return true;
}

static vine_task *task_issue(vine_accel *accel, vine_proc *proc, vine_data *args,
			     size_t in_count, vine_data **input, size_t out_count,
			     vine_data **output)
{
	static const char call[] = "vine_task_issue";
	static _Atomic(uint64_t) last_id;
	uint64_t now = talk_now();
	struct talk_accel_obj *accel_obj;
	struct talk_task_obj *task;
	vine_task *value;
	int ret;

	if (!buffers_fit(args, in_count, input, out_count, output, call))
		return NULL;
	accel_obj = begin(HANDLE_ACCEL, accel, call);
	if (!accel_obj)
		return NULL;
	task = task_new(accel_obj, !!args + in_count + out_count);
	if (!task) {
		talk_warn("%s(): no memory for a task", call);
		end(&accel_obj->h);
		return NULL;
	}
	value = task->h.value;
	task->proc = lookup(HANDLE_PROC, proc, call);
	task->has_args = args;
	task->in_count = in_count;
	task->out_count = out_count;
	task->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
	task->stats.issue_ns = now;
	atomic_store_explicit(&task->state, task_issued, memory_order_relaxed);
	if (!task->proc ||
	    !add_buffers(task, &args, !!args, &task->stats.in_bytes, call) ||
	    !add_buffers(task, input, in_count, &task->stats.in_bytes, call) ||
	    !add_buffers(task, output, out_count, &task->stats.out_bytes, call))
		goto drop;

	handle_hold(&task->h);		/* until talk_task_done() */
	claim_buffers(task);
	if (TRACE_ON())
		trace_task_issued(task);
	ret = backend->task_issue(task);
	if (ret)
		goto unclaim;
	mark_issued(task);
	leave();
	return value;

unclaim:
	if (TRACE_ON())
		trace_task_refused(task, ret == -EPIPE ? "the accelerator is gone" : strerror(-ret));
	unclaim_buffers(task);
	atomic_store_explicit(&task->state, task_failed, memory_order_release);
	mark_issued(task);
	handle_put(&task->h);
drop:
	drop_references(task);
	handle_close(HANDLE_TASK, value);
	leave();
	return NULL;
}

/* In flight, only what does not change is there for the asking. */
static vine_task_stats_s task_stats(const struct talk_task_obj *task, vine_task_state_e end)
{
	if (end != task_issued)
		return task->stats;
	return (vine_task_stats_s){
		.issue_ns = task->stats.issue_ns,
		.in_bytes = task->stats.in_bytes,
		.out_bytes = task->stats.out_bytes,
	};
}

static vine_task_state_e task_stat(vine_task *value, vine_task_stats_s *stats)
{
	struct talk_task_obj *task = begin(HANDLE_TASK, value, "vine_task_stat");
	vine_task_stats_s all = { .issue_ns = 0 };
	vine_task_state_e ret = task_failed;

	if (task) {
		if (backend->task_poll && atomic_load(&task->state) == task_issued)
			backend->task_poll(task);
		ret = atomic_load_explicit(&task->state, memory_order_acquire);
		all = task_stats(task, ret);
		end(&task->h);
	}
	if (stats)
		*stats = all;
	return ret;
}

static vine_task_state_e task_wait(vine_task *value)
{
	struct talk_task_obj *task = begin(HANDLE_TASK, value, "vine_task_wait");
	vine_task_state_e ret;

	if (!task)
		return task_failed;
	wait_for_task(task);
	ret = atomic_load_explicit(&task->state, memory_order_acquire);
	end(&task->h);
	return ret;
}

/* ---- the calls ---- */

#define TYPE(type)	TRACE_NUMBER("type", type)
#define ACCEL(accel)	TRACE_HANDLE("accel", accel)
#define PROC(proc)	TRACE_HANDLE("proc", proc)
#define DATA(data)	TRACE_HANDLE("data", data)
#define TASK(task)	TRACE_HANDLE("task", task)
#define NUMBER		TRACE_NUMBER("return", traced)
#define HANDLE		TRACE_HANDLE("return", traced)

/* The first one opens the trace, and the last exit closes it: both are in it. */
EXPORT void vine_talk_init(void)
{
	uint64_t begin = talk_now();

	talk_init();
	if (TRACE_ON())
		TRACE_CALL("vine_talk_init", begin, TRACE_NOTHING);
}

EXPORT void vine_talk_exit(void)
{
	uint64_t begin = talk_now();
	bool closed = talk_exit();

	if (TRACE_ON())
		TRACE_CALL("vine_talk_exit", begin, TRACE_NOTHING);
	if (closed)
		trace_close();
}

EXPORT int vine_talk_backend(const char *name)
{
	return TRACED(talk_backend(name), NUMBER, TRACE_TEXT("name", name));
}

EXPORT int vine_accel_list(vine_accel_type_e type, vine_accel ***accels)
{
	return TRACED(accel_list(type, accels), NUMBER, TYPE(type),
		      TRACE_HANDLE("accels", accels ? *accels : NULL));
}

EXPORT vine_accel_loc_s vine_accel_location(vine_accel *accel)
{
	return TRACED(accel_location(accel), TRACE_TEXT("return", traced.name), ACCEL(accel),
		      TRACE_TEXT("segment", traced.segment),
		      TRACE_TEXT("appliance", traced.appliance),
		      TRACE_TEXT("host", traced.host), TRACE_TEXT("pci", traced.pci));
}

EXPORT vine_accel_type_e vine_accel_type(vine_accel *accel)
{
	return TRACED(accel_type(accel), NUMBER, ACCEL(accel));
}

EXPORT vine_accel_state_e vine_accel_stat(vine_accel *accel, vine_accel_stats_s *stats)
{
	return TRACED(accel_stat(accel, stats), NUMBER, ACCEL(accel),
		      TRACE_NUMBER("queued", stats ? stats->queued : 0),
		      TRACE_NUMBER("running", stats ? stats->running : 0),
		      TRACE_NUMBER("done", stats ? stats->done : 0),
		      TRACE_NUMBER("failed", stats ? stats->failed : 0));
}

EXPORT int vine_accel_acquire(vine_accel **accel)
{
	vine_accel *before = accel ? *accel : NULL;

	return TRACED(accel_acquire(accel), NUMBER, ACCEL(before),
		      TRACE_HANDLE("virtual", traced ? *accel : NULL));
}

EXPORT int vine_accel_release(vine_accel **accel)
{
	vine_accel *before = accel ? *accel : NULL;

	return TRACED(accel_release(accel), NUMBER, ACCEL(before));
}

EXPORT vine_proc *vine_proc_register(vine_accel_type_e type, const char *name,
				     const void *bytes, size_t size)
{
	return TRACED(proc_register(type, name, bytes, size), HANDLE, TYPE(type),
		      TRACE_TEXT("name", name), TRACE_HANDLE("bytes", bytes),
		      TRACE_NUMBER("size", size));
}

EXPORT vine_proc *vine_proc_get(vine_accel_type_e type, const char *name)
{
	return TRACED(proc_get(type, name), HANDLE, TYPE(type), TRACE_TEXT("name", name));
}

EXPORT int vine_proc_put(vine_proc *proc)
{
	return TRACED(proc_put(proc), NUMBER, PROC(proc));
}

EXPORT vine_data *vine_data_alloc(size_t size, vine_data_alloc_place_e place)
{
	return TRACED(data_alloc(size, place), HANDLE, TRACE_NUMBER("size", size),
		      TRACE_NUMBER("place", place));
}

EXPORT size_t vine_data_size(vine_data *data)
{
	return TRACED(data_size(data), NUMBER, DATA(data));
}

EXPORT void *vine_data_deref(vine_data *data)
{
	return TRACED(data_deref(data), HANDLE, DATA(data));
}

EXPORT void vine_data_mark_ready(vine_data *data)
{
	TRACED_VOID(data_mark_ready(data), TRACE_NOTHING, DATA(data));
}

EXPORT void vine_data_free(vine_data *data)
{
	TRACED_VOID(close_handle(HANDLE_DATA, data, __func__), TRACE_NOTHING, DATA(data));
}

EXPORT vine_task *vine_task_issue(vine_accel *accel, vine_proc *proc, vine_data *args,
				  size_t in_count, vine_data **input, size_t out_count,
				  vine_data **output)
{
	return TRACED(task_issue(accel, proc, args, in_count, input, out_count, output), HANDLE,
		      ACCEL(accel), PROC(proc), TRACE_HANDLE("args", args),
		      TRACE_NUMBER("in_count", in_count), TRACE_HANDLE("input", input),
		      TRACE_NUMBER("out_count", out_count), TRACE_HANDLE("output", output));
}

EXPORT vine_task_state_e vine_task_stat(vine_task *task, vine_task_stats_s *stats)
{
	return TRACED(task_stat(task, stats), NUMBER, TASK(task));
}

EXPORT vine_task_state_e vine_task_wait(vine_task *task)
{
	return TRACED(task_wait(task), NUMBER, TASK(task));
}

EXPORT void vine_task_free(vine_task *task)
{
	TRACED_VOID(close_handle(HANDLE_TASK, task, __func__), TRACE_NOTHING, TASK(task));
}

EXPORT const char *vine_task_reason_text(vine_task_reason_e reason)
{
	return TRACED(talk_reason_text(reason), TRACE_TEXT("return", traced),
		      TRACE_NUMBER("reason", reason));
}
