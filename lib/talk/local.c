// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * local.c - the back end that executes in this process, with a profile
 *
 * It has one accelerator of each type. A task runs in the thread that issues it, and is done
 * when vine_task_issue() returns. Procedures are those that this process registers; handlers
 * are those of the plugins, or uploaded code, which is this process's own, or what a plugin's
 * compiler makes of its source.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/plugin.h"
#include "talk/profile.h"
#include "talk/protocol.h"
#include "talk/talk.h"

#define ALIGNMENT	64	/* that vine_data_alloc() promises */

struct local_accel {
	struct talk_accel_obj obj;
	struct local_accel *holds;	/* a virtual one: what it holds; else itself */
	bool held;			/* under @lock */
	_Atomic(uint64_t) running, done, failed, busy_ns;
};

struct local_proc {
	struct talk_proc_obj obj;
	struct local_proc *next;
	unsigned int references;	/* one for each register and get; under @lock */
	vine_accel_type_e type;
	void *bytes;
	size_t size;
	struct plugin_code code;	/* @run is NULL: it has none */
	pthread_mutex_t compiling;	/* held for @compiled */
	void *compiled[VINE_ACCEL_TYPES];	/* from its source; NULL: not yet */
	char name[];
};

static struct local_accel accels[VINE_ACCEL_TYPES];	/* by type; none for ANY */
static struct local_proc *procs;			/* under @lock */
static struct plugins plugins;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- open and close ---- */

static void accel_destroy(struct handle *h)
{
	(void)h;	/* it is static */
}

static int local_open(const struct talk_config *config)
{
	char error[PLUGIN_ERROR];
	int type, ret = 0;

	plugins_free(&plugins);		/* a parent's */
	if (plugins_load_folder(&plugins, *config->plugins ? config->plugins : NULL, error) < 0) {
		talk_warn("%s", error);
		plugins_free(&plugins);
		return -ENOEXEC;
	}
	for (type = ANY + 1; type < VINE_ACCEL_TYPES && !ret; type++) {
		accels[type] = (struct local_accel){
			.obj.type = type,
			.obj.name = talk_type_names[type],
			.holds = &accels[type],
		};
		ret = handle_open(&accels[type].obj.h, HANDLE_ACCEL, accel_destroy);
	}
	if (ret)
		plugins_free(&plugins);
	else
		profile_open(config->profile);
	return ret;
}

static void local_close(void)
{
	profile_close();
	plugins_free(&plugins);
	procs = NULL;		/* their handles are closed, so they are gone */
}

static void local_forked(void)
{
	profile_forked();
	pthread_mutex_init(&lock, NULL);
	procs = NULL;
}

/* ---- accelerators ---- */

static int local_accel_list(vine_accel_type_e type, struct talk_accel_obj **list, int room)
{
	int i, n = 0;

	for (i = ANY + 1; i < VINE_ACCEL_TYPES; i++) {
		if (type != ANY && type != accels[i].obj.type)
			continue;
		if (n < room)
			list[n] = &accels[i].obj;
		n++;
	}
	return n;
}

static void local_accel_location(struct talk_accel_obj *accel, vine_accel_loc_s *loc)
{
	strcpy(loc->segment, "local");
	strcpy(loc->name, accel->name);
	gethostname(loc->host, sizeof(loc->host) - 1);
}

static vine_accel_state_e local_accel_stat(struct talk_accel_obj *obj,
					   vine_accel_stats_s *stats)
{
	struct local_accel *accel = ((struct local_accel *)obj)->holds;
	bool held;

	stats->running = atomic_load(&accel->running);
	stats->done = atomic_load(&accel->done);
	stats->failed = atomic_load(&accel->failed);
	stats->busy_ns = atomic_load(&accel->busy_ns);
	pthread_mutex_lock(&lock);
	held = accel->held;
	pthread_mutex_unlock(&lock);
	return held || stats->running ? accel_busy : accel_idle;
}

static void virtual_destroy(struct handle *h)
{
	free(h);
}

/* All threads of this process are the same client, so nobody's tasks wait. */
static int local_accel_acquire(struct talk_accel_obj *obj, struct talk_accel_obj **acquired)
{
	struct local_accel *accel = (struct local_accel *)obj, *virtual;
	int ret = -EBUSY;

	virtual = calloc(1, sizeof(*virtual));
	if (!virtual)
		return -ENOMEM;
	virtual->obj.type = accel->obj.type;
	virtual->obj.virtual = true;
	virtual->obj.name = accel->obj.name;
	virtual->holds = accel;
	pthread_mutex_lock(&lock);
	if (!accel->held)
		ret = handle_open(&virtual->obj.h, HANDLE_ACCEL, virtual_destroy);
	if (!ret)
		accel->held = true;
	pthread_mutex_unlock(&lock);
	if (ret)
		free(virtual);
	else
		*acquired = &virtual->obj;
	return ret;
}

static int local_accel_release(struct talk_accel_obj *obj)
{
	struct local_accel *virtual = (struct local_accel *)obj;

	pthread_mutex_lock(&lock);
	virtual->holds->held = false;
	pthread_mutex_unlock(&lock);
	return 0;
}

/* ---- procedures ---- */

static void proc_destroy(struct handle *h)
{
	struct local_proc *p = (struct local_proc *)h;
	int type;

	if (p->code.run)
		plugin_code_close(&p->code);
	for (type = ANY + 1; type < VINE_ACCEL_TYPES; type++)
		if (p->compiled[type])
			plugins_compiler(&plugins, type)->release(p->compiled[type]);
	pthread_mutex_destroy(&p->compiling);
	free(p->bytes);
	free(p);
}

/* With the lock held. */
static struct local_proc *proc_find(vine_accel_type_e type, const char *name)
{
	struct local_proc *p;

	for (p = procs; p; p = p->next) {
		if (p->type == type && !strcmp(p->name, name))
			return p;
	}
	return NULL;
}

static bool proc_is(const struct local_proc *p, const void *bytes, size_t size)
{
	return p->size == size && (!size || !memcmp(p->bytes, bytes, size));
}

static bool is_code(const struct local_proc *p)
{
	return p->size >= SELFMAG && !memcmp(p->bytes, ELFMAG, SELFMAG);
}

/* A shared object is code when no handler has the name; what is none is the handler's. */
static void proc_load(struct local_proc *p)
{
	char error[PLUGIN_ERROR];

	if (!is_code(p) || plugins_find(&plugins, p->type, p->name))
		return;
	if (plugin_code_open(&p->code, p->bytes, p->size, error)) {
		p->code.run = NULL;
		talk_warn("procedure %s: %s", p->name, error);
	}
}

static struct local_proc *proc_new(vine_accel_type_e type, const char *name, const void *bytes,
				   size_t size)
{
	struct local_proc *p = calloc(1, sizeof(*p) + strlen(name) + 1);

	if (!p)
		return NULL;
	p->bytes = size ? malloc(size) : NULL;
	if (size && !p->bytes)
		goto free;
	if (size)
		memcpy(p->bytes, bytes, size);
	p->size = size;
	p->type = type;
	strcpy(p->name, name);
	pthread_mutex_init(&p->compiling, NULL);
	p->obj.name = p->name;
	proc_load(p);
	if (handle_open(&p->obj.h, HANDLE_PROC, proc_destroy))
		goto unload;
	p->next = procs;
	procs = p;
	return p;

unload:
	if (p->code.run)
		plugin_code_close(&p->code);
	free(p->bytes);
free:
	free(p);
	return NULL;
}

static int local_proc_register(vine_accel_type_e type, const char *name, const void *bytes,
			       size_t size, struct talk_proc_obj **proc)
{
	struct local_proc *p;
	int ret = 0;

	pthread_mutex_lock(&lock);
	p = proc_find(type, name);
	if (p && !proc_is(p, bytes, size))
		ret = -EEXIST;
	if (!p) {
		p = proc_new(type, name, bytes, size);
		ret = p ? 0 : -ENOMEM;
	}
	if (!ret) {
		p->references++;
		*proc = &p->obj;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

static int local_proc_get(vine_accel_type_e type, const char *name, struct talk_proc_obj **proc)
{
	struct local_proc *p;
	int ret = 0;

	pthread_mutex_lock(&lock);
	p = proc_find(type, name);
	if (!p && !plugins_named(&plugins, type, name)) {
		ret = -ENOENT;
	} else if (!p) {
		p = proc_new(type, name, NULL, 0);
		ret = p ? 0 : -ENOMEM;
	}
	if (!ret) {
		p->references++;
		*proc = &p->obj;
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

static int local_proc_put(struct talk_proc_obj *proc)
{
	struct local_proc *p = (struct local_proc *)proc, **link;
	int ret = 0;

	pthread_mutex_lock(&lock);
	if (!p->references) {
		ret = -EINVAL;		/* another thread has put the last one meanwhile */
	} else if (!--p->references) {
		for (link = &procs; *link != p; link = &(*link)->next)
			;
		*link = p->next;
		handle_close(HANDLE_PROC, p->obj.h.value);
	}
	pthread_mutex_unlock(&lock);
	return ret;
}

/* ---- buffers: a red zone follows each ---- */

static void redzone_paint(struct talk_data_obj *data)
{
	memset((char *)data->address + data->size, TALK_REDZONE_BYTE, TALK_REDZONE);
}

static bool redzone_is_whole(const struct talk_data_obj *data)
{
	const unsigned char *zone = (unsigned char *)data->address + data->size;
	int i;

	for (i = 0; i < TALK_REDZONE; i++) {
		if (zone[i] != TALK_REDZONE_BYTE)
			return false;
	}
	return true;
}

static int local_data_alloc(size_t size, struct talk_data_obj **data)
{
	struct talk_data_obj *d = calloc(1, sizeof(*d));
	size_t all;

	if (!d)
		return -ENOMEM;
	if (__builtin_add_overflow(size, TALK_REDZONE, &all) ||
	    posix_memalign(&d->address, ALIGNMENT, all)) {
		free(d);
		return -ENOMEM;
	}
	d->size = size;
	redzone_paint(d);
	*data = d;
	return 0;
}

static void local_data_free(struct talk_data_obj *data)
{
	free(data->address);
	free(data);
}

/* ---- tasks ---- */

static struct talk_task_obj *local_task_new(void)
{
	return calloc(1, sizeof(struct talk_task_obj));
}

static void local_task_free(struct talk_task_obj *task)
{
	free(task);
}

/* What runs a task. */
struct runner {
	vine_handler handler;			/* NULL: @compiler */
	const struct vine_compiler *compiler;
	void *compiled;
};

/* NULL: it does not compile, and a warning says why. */
static void *compile(struct local_proc *proc, const struct talk_accel_obj *accel,
		     const struct vine_compiler *compiler)
{
	const struct vine_call call = {
		.size = sizeof(call), .procedure = proc->name, .accelerator = accel->name,
		.type = accel->type, .bytes = proc->bytes, .bytes_size = proc->size,
	};
	char text[VINE_COMPILER_TEXT] = "";
	void *compiled;

	pthread_mutex_lock(&proc->compiling);
	compiled = proc->compiled[accel->type];
	if (!compiled)
		compiled = compiler->compile(&call, text);
	proc->compiled[accel->type] = compiled;
	pthread_mutex_unlock(&proc->compiling);
	if (!compiled)
		talk_warn("procedure %s does not compile: %s", proc->name, text);
	return compiled;
}

/* Finds what runs @proc there, or why nothing does. */
static vine_task_reason_e find_runner(struct local_proc *proc, const struct talk_accel_obj *accel,
				      struct runner *r)
{
	const struct vine_procedure *p = plugins_find(&plugins, accel->type, proc->name);

	*r = (struct runner){ 0 };
	if (proc->type != ANY && proc->type != accel->type)
		return vine_reason_no_procedure;
	r->handler = proc->code.run ? proc->code.run : p ? p->run : NULL;
	if (r->handler)
		return vine_reason_none;
	r->compiler = plugins_compiler(&plugins, accel->type);
	if (!r->compiler || !proc->size || is_code(proc))
		return vine_reason_no_procedure;
	r->compiled = compile(proc, accel, r->compiler);
	return r->compiled ? vine_reason_none : vine_reason_not_compiled;
}

/* Returns what the handler returns. */
static int run(const struct runner *runner, const struct talk_task_obj *task)
{
	const struct local_proc *proc = (struct local_proc *)task->proc;
	struct vine_buffer buffers[TALK_BUFFERS];
	struct vine_call call = {
		.size = sizeof(call), .procedure = proc->name, .accelerator = task->accel->name,
		.type = task->accel->type, .in_count = task->in_count,
		.out_count = task->out_count, .bytes = proc->bytes, .bytes_size = proc->size,
		.in = buffers + task->has_args,
		.out = buffers + task->has_args + task->in_count,
	};
	unsigned int i;

	for (i = 0; i < task->buffers; i++)
		buffers[i] = (struct vine_buffer){ task->buffer[i]->address,
						   task->buffer[i]->size };
	if (task->has_args)
		call.args = buffers[0];
	return runner->handler ? runner->handler(&call) :
	       runner->compiler->run(runner->compiled, &call);
}

/* The number of an output that was written past, or -1. Its red zone is whole afterwards. */
static int overrun(const struct talk_task_obj *task)
{
	struct talk_data_obj **out = task->buffer + task->buffers - task->out_count;
	int i, found = -1;

	for (i = task->out_count; i-- > 0;) {
		if (redzone_is_whole(out[i]))
			continue;
		redzone_paint(out[i]);
		found = i;
	}
	return found;
}

static int local_task_issue(struct talk_task_obj *task)
{
	struct local_accel *accel = ((struct local_accel *)task->accel)->holds;
	vine_task_reason_e reason;
	struct runner runner;
	int detail, past;
	uint64_t ns;

	reason = find_runner((struct local_proc *)task->proc, &accel->obj, &runner);
	if (reason) {
		atomic_fetch_add(&accel->failed, 1);
		talk_task_done(task, reason, 0);
		return 0;
	}
	atomic_fetch_add(&accel->running, 1);
	task->stats.start_ns = talk_now();
	detail = run(&runner, task);
	task->stats.end_ns = talk_now();
	atomic_fetch_sub(&accel->running, 1);

	past = overrun(task);
	if (detail)
		reason = vine_reason_handler;
	if (past >= 0) {
		reason = vine_reason_overrun;
		detail = past;
	}
	ns = task->stats.end_ns - task->stats.start_ns;
	atomic_fetch_add(&accel->busy_ns, ns);
	atomic_fetch_add(reason == vine_reason_none ? &accel->done : &accel->failed, 1);
	profile_add(task, ns, reason != vine_reason_none);
	talk_task_done(task, reason, detail);
	return 0;
}

static void local_task_wait(struct talk_task_obj *task)
{
	(void)task;
}

const struct talk_backend talk_local = {
	.name = "local",
	.open = local_open,
	.close = local_close,
	.forked = local_forked,
	.accel_list = local_accel_list,
	.accel_location = local_accel_location,
	.accel_stat = local_accel_stat,
	.accel_acquire = local_accel_acquire,
	.accel_release = local_accel_release,
	.proc_register = local_proc_register,
	.proc_get = local_proc_get,
	.proc_put = local_proc_put,
	.data_alloc = local_data_alloc,
	.data_free = local_data_free,
	.task_new = local_task_new,
	.task_issue = local_task_issue,
	.task_wait = local_task_wait,
	.task_free = local_task_free,
};
