// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * null.c - the back end that does nothing: copy it to begin a new one
 *
 * It has one accelerator of each type; buffers are malloc'ed; a task is completed when it is
 * issued, and its outputs are left as they were. So it also shows what the library itself
 * costs.
 *
 * To begin a new back end, copy this file, rename what is called null, name it in talk.h and
 * in the list in talk.c, and replace one function after the other. talk.h says what each has
 * to do. talk.c has checked all arguments, and calls nothing but open() while it is closed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "talk/talk.h"

#define ALIGNMENT	64	/* that vine_data_alloc() promises */

/* An object begins with that of talk.h. */
struct null_accel {
	struct talk_accel_obj obj;
	struct null_accel *holds;	/* a virtual one: what it holds */
	bool held;
};

struct null_proc {
	struct talk_proc_obj obj;
	struct null_proc *next;
	unsigned int references;	/* one for each register and get */
	vine_accel_type_e type;
	size_t size;			/* of the bytes, after the name and its zero */
	char name[];
};

static struct null_accel accels[VINE_ACCEL_TYPES];	/* by type; none for ANY */
static struct null_proc *procs;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* of all that changes above */

/* ---- accelerators ---- */

/* Called when nobody uses the object any more. These are static. */
static void accel_destroy(struct handle *h)
{
	(void)h;
}

static int null_open(const struct talk_config *config)
{
	int type, ret = 0;

	(void)config;
	for (type = ANY + 1; type < VINE_ACCEL_TYPES && !ret; type++) {
		accels[type] = (struct null_accel){
			.obj.type = type,
			.obj.name = talk_type_names[type],
		};
		ret = handle_open(&accels[type].obj.h, HANDLE_ACCEL, accel_destroy);
	}
	return ret;
}

/* talk.c has closed all handles: nothing is in use but by tasks in flight, and here are none. */
static void null_close(void)
{
	procs = NULL;
}

/* Nothing of the parent's is freed: its other threads may have been about to use it. */
static void null_forked(void)
{
	procs = NULL;
	pthread_mutex_init(&lock, NULL);
}

static int null_accel_list(vine_accel_type_e type, struct talk_accel_obj **list, int room)
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

static void null_accel_location(struct talk_accel_obj *accel, vine_accel_loc_s *loc)
{
	strcpy(loc->segment, "null");
	strcpy(loc->name, accel->name);
}

static vine_accel_state_e null_accel_stat(struct talk_accel_obj *obj, vine_accel_stats_s *stats)
{
	struct null_accel *accel = (struct null_accel *)obj;
	vine_accel_state_e state;

	(void)stats;		/* zeroed, and nothing to add */
	pthread_mutex_lock(&lock);
	state = accel->held || accel->holds ? accel_busy : accel_idle;
	pthread_mutex_unlock(&lock);
	return state;
}

static void virtual_destroy(struct handle *h)
{
	free(h);
}

static int null_accel_acquire(struct talk_accel_obj *obj, struct talk_accel_obj **acquired)
{
	struct null_accel *accel = (struct null_accel *)obj, *virtual;
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

static int null_accel_release(struct talk_accel_obj *obj)
{
	struct null_accel *virtual = (struct null_accel *)obj;

	pthread_mutex_lock(&lock);
	virtual->holds->held = false;
	pthread_mutex_unlock(&lock);
	return 0;
}

/* ---- procedures ---- */

static void proc_destroy(struct handle *h)
{
	free(h);
}

/* With the lock held. */
static struct null_proc *proc_find(vine_accel_type_e type, const char *name)
{
	struct null_proc *p;

	for (p = procs; p; p = p->next) {
		if (p->type == type && !strcmp(p->name, name))
			return p;
	}
	return NULL;
}

static bool proc_is(const struct null_proc *p, const void *bytes, size_t size)
{
	return p->size == size && (!size || !memcmp(p->name + strlen(p->name) + 1, bytes, size));
}

static struct null_proc *proc_new(vine_accel_type_e type, const char *name, const void *bytes,
				  size_t size)
{
	size_t name_size = strlen(name) + 1, all;
	struct null_proc *p;

	if (__builtin_add_overflow(sizeof(*p) + name_size, size, &all))
		return NULL;
	p = calloc(1, all);
	if (!p)
		return NULL;
	p->type = type;
	p->size = size;
	memcpy(p->name, name, name_size);
	p->obj.name = p->name;
	if (size)
		memcpy(p->name + name_size, bytes, size);
	if (handle_open(&p->obj.h, HANDLE_PROC, proc_destroy)) {
		free(p);
		return NULL;
	}
	p->next = procs;
	procs = p;
	return p;
}

static int null_proc_register(vine_accel_type_e type, const char *name, const void *bytes,
			      size_t size, struct talk_proc_obj **proc)
{
	struct null_proc *p;
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

static int null_proc_get(vine_accel_type_e type, const char *name, struct talk_proc_obj **proc)
{
	struct null_proc *p;

	pthread_mutex_lock(&lock);
	p = proc_find(type, name);
	if (p) {
		p->references++;
		*proc = &p->obj;
	}
	pthread_mutex_unlock(&lock);
	return p ? 0 : -ENOENT;
}

static int null_proc_put(struct talk_proc_obj *proc)
{
	struct null_proc *p = (struct null_proc *)proc, **link;
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

/* ---- buffers ---- */

static int null_data_alloc(size_t size, struct talk_data_obj **data)
{
	struct talk_data_obj *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	if (posix_memalign(&d->address, ALIGNMENT, size)) {
		free(d);
		return -ENOMEM;
	}
	*data = d;
	return 0;
}

static void null_data_free(struct talk_data_obj *data)
{
	free(data->address);
	free(data);
}

/* ---- tasks ---- */

static struct talk_task_obj *null_task_new(void)
{
	return calloc(1, sizeof(struct talk_task_obj));
}

static int null_task_issue(struct talk_task_obj *task)
{
	task->stats.start_ns = task->stats.issue_ns;
	task->stats.end_ns = task->stats.issue_ns;
	talk_task_done(task, vine_reason_none, 0);
	return 0;
}

/* It is done already. */
static void null_task_wait(struct talk_task_obj *task)
{
	(void)task;
}

static void null_task_free(struct talk_task_obj *task)
{
	free(task);
}

const struct talk_backend talk_null = {
	.name = "null",
	.open = null_open,
	.close = null_close,
	.forked = null_forked,
	.accel_list = null_accel_list,
	.accel_location = null_accel_location,
	.accel_stat = null_accel_stat,
	.accel_acquire = null_accel_acquire,
	.accel_release = null_accel_release,
	.proc_register = null_proc_register,
	.proc_get = null_proc_get,
	.proc_put = null_proc_put,
	.data_alloc = null_data_alloc,
	.data_free = null_data_free,
	.task_new = null_task_new,
	.task_issue = null_task_issue,
	.task_wait = null_task_wait,
	.task_free = null_task_free,
};
