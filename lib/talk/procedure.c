// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * procedure.c - procedures: known to this process by name, and to each appliance by number
 *
 * An appliance hears of a procedure at its first use there, or at vine_proc_register(), and
 * gives a number, which stands for one reference of this session.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "talk/device.h"

struct number {
	struct appliance *appliance;
	uint32_t number;
};

struct procedure {
	struct talk_proc_obj obj;
	struct procedure *next;		/* in @all, which has a reference */
	unsigned int users;		/* registers and gets, also under way, without their puts */
	bool asking;			/* one of them asks the appliances */
	bool known;			/* one of them went well */
	vine_accel_type_e type;
	char name[TALK_NAME + 1];

	pthread_mutex_t lock;		/* of all that follows; nobody is asked under it */
	bool registered;		/* here: then the bytes are known, and stay */
	void *bytes;
	size_t size;
	struct number *numbers;
	unsigned int count;
};

/* Of @all, and what is before @type. Nobody is asked under it either. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;	/* one does not ask any more */
static struct procedure *all;

/* ---- what an appliance is asked ---- */

/* Statuses of struct talk_proc. */
enum { ACCEPTED, REFUSED, NO_ACCELERATOR, TOO_MUCH };

static struct vine_msg name_message(uint8_t op, const struct procedure *p)
{
	struct talk_name name = {
		.head = { .op = op, .a = p->type, .b = strlen(p->name) },
	};
	struct vine_msg msg;

	memcpy(name.name, p->name, name.head.b);
	message_set(&msg, &name, sizeof(name));
	return msg;
}

/* A status, or what appliance_ask() gives. */
static int ask(struct appliance *a, const struct heap_block *block, const struct vine_msg *msgs,
	       unsigned int n, uint32_t *number)
{
	struct talk_proc answer;
	int ret;

	ret = appliance_ask(a, block, msgs, n, TALK_PROC, &answer, sizeof(answer));
	if (ret)
		return ret;
	if (answer.head.a > TOO_MUCH || answer.reserved)
		return appliance_nonsense(a);
	*number = answer.id;
	return answer.head.a;
}

static int ask_get(const struct procedure *p, struct appliance *a, uint32_t *number)
{
	struct vine_msg msg = name_message(TALK_GET, p);

	return ask(a, NULL, &msg, 1, number);
}

static int ask_register(const struct procedure *p, struct appliance *a, const void *bytes,
			size_t size, uint32_t *number)
{
	struct talk_bytes where = { .head = { .op = TALK_BYTES } };
	struct vine_msg msgs[2] = { name_message(TALK_REGISTER, p) };
	struct heap_block *block = NULL;
	int ret;

	if (size) {
		ret = heap_alloc(size, &block);
		if (ret)
			return ret;
		memcpy(block->address, bytes, size);
		where.ref.where = TALK_WHERE(block->region->slot, block->offset);
		where.ref.size = size;
	}
	message_set(&msgs[1], &where, sizeof(where));
	ret = ask(a, block, msgs, 2, number);
	if (block)
		heap_free(block);
	return ret;
}

/* Ends a reference. */
static void put_number(struct appliance *a, uint32_t number)
{
	struct talk_put put = { .head = { .op = TALK_PUT }, .id = number };
	struct vine_msg msg;

	message_set(&msg, &put, sizeof(put));
	connection_tell(a->control, &msg);
}

/* ---- numbers; with the procedure's lock held ---- */

static struct number *find_number(const struct procedure *p, const struct appliance *a)
{
	unsigned int i;

	for (i = 0; i < p->count; i++) {
		if (p->numbers[i].appliance == a)
			return &p->numbers[i];
	}
	return NULL;
}

static int add_number(struct procedure *p, struct appliance *a, uint32_t number)
{
	struct number *grown;

	grown = realloc(p->numbers, (p->count + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	p->numbers = grown;
	p->numbers[p->count++] = (struct number){ a, number };
	return 0;
}

/*
 * Without the lock: keeps a number that an appliance gave. One is enough: another thread may
 * have got one meanwhile, and then it is that one.
 */
static int keep_number(struct procedure *p, struct appliance *a, uint32_t *number)
{
	uint32_t given = *number;
	struct number *found;
	int ret = 0;

	pthread_mutex_lock(&p->lock);
	found = find_number(p, a);
	if (found)
		*number = found->number;
	else
		ret = add_number(p, a, given);
	pthread_mutex_unlock(&p->lock);
	if (found || ret)
		put_number(a, given);
	return ret;
}

int procedure_number(struct talk_proc_obj *proc, struct appliance *a, uint32_t *number,
		     vine_task_reason_e *reason)
{
	struct procedure *p = (struct procedure *)proc;
	struct number *found;
	bool registered;
	int ret;

	*reason = vine_reason_none;
	pthread_mutex_lock(&p->lock);
	found = find_number(p, a);
	if (found)
		*number = found->number;
	registered = p->registered;
	pthread_mutex_unlock(&p->lock);
	if (found)
		return 0;
	ret = registered ? ask_register(p, a, p->bytes, p->size, number) : ask_get(p, a, number);
	if (ret == ACCEPTED)
		ret = keep_number(p, a, number);
	if (ret == REFUSED || ret == NO_ACCELERATOR)
		*reason = vine_reason_no_procedure;
	else if (ret == TOO_MUCH)
		*reason = vine_reason_no_memory;
	else if (ret && ret != -EPIPE)
		talk_warn("cannot tell appliance %s of procedure %s: %s", a->name, p->name,
			  strerror(-ret));
	return ret < 0 ? ret : 0;
}

/* ---- procedures ---- */

/* Appliances that are still there may forget it. No other thread knows it. */
static void put_numbers(struct procedure *p)
{
	for (; p->count; p->count--)
		put_number(p->numbers[p->count - 1].appliance, p->numbers[p->count - 1].number);
}

static void destroy(struct handle *h)
{
	struct procedure *p = (struct procedure *)h;

	put_numbers(p);
	pthread_mutex_destroy(&p->lock);
	free(p->numbers);
	free(p->bytes);
	free(p);
}

static struct procedure *procedure_new(vine_accel_type_e type, const char *name)
{
	struct procedure *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->type = type;
	memcpy(p->name, name, strnlen(name, TALK_NAME));
	p->obj.name = p->name;
	pthread_mutex_init(&p->lock, NULL);
	return p;
}

/* ---- those of this process ---- */

/* With the lock held, as in add() and begin(). */
static struct procedure *find(vine_accel_type_e type, const char *name)
{
	struct procedure *p;

	for (p = all; p; p = p->next) {
		if (p->type == type && !strcmp(p->name, name))
			return p;
	}
	return NULL;
}

static struct procedure *add(vine_accel_type_e type, const char *name)
{
	struct procedure *p = procedure_new(type, name);

	if (!p)
		return NULL;
	if (handle_open(&p->obj.h, HANDLE_PROC, destroy)) {
		destroy(&p->obj.h);
		return NULL;
	}
	handle_hold(&p->obj.h);
	p->next = all;
	all = p;
	return p;
}

/* A register or get begins: it is a user, and has a reference, should somebody put too often. */
static struct procedure *begin(vine_accel_type_e type, const char *name)
{
	struct procedure *p = find(type, name);

	if (!p)
		p = add(type, name);
	if (!p)
		return NULL;
	p->users++;
	handle_hold(&p->obj.h);
	return p;
}

/* False: it had no user: another thread has put the last one meanwhile. */
static bool drop_user(struct procedure *p)
{
	struct procedure **link;
	bool had, last;

	pthread_mutex_lock(&lock);
	had = p->users;
	last = had && !--p->users;
	if (last) {
		for (link = &all; *link != p; link = &(*link)->next)
			;
		*link = p->next;
	}
	pthread_mutex_unlock(&lock);
	if (last) {
		handle_close(HANDLE_PROC, p->obj.h.value);
		handle_put(&p->obj.h);
	}
	return had;
}

/* With the lock held, which it lets go. */
static int end(struct procedure *p, int ret, struct talk_proc_obj **proc)
{
	if (!ret)
		p->known = true;
	else if (!p->known)
		put_numbers(p);		/* the next one that registers it may have other bytes */
	pthread_mutex_unlock(&lock);
	if (ret)
		drop_user(p);
	else
		*proc = &p->obj;
	handle_put(&p->obj.h);
	return ret;
}

/* Around asking: others that need the answer wait, and those that do not go on. */
static void begin_asking(struct procedure *p)
{
	p->asking = true;
	pthread_mutex_unlock(&lock);
	appliances_find();
}

static void end_asking(struct procedure *p)
{
	pthread_mutex_lock(&lock);
	p->asking = false;
	pthread_cond_broadcast(&answered);
}

static bool is_same(const struct procedure *p, const void *bytes, size_t size)
{
	return p->size == size && (!size || !memcmp(p->bytes, bytes, size));
}

/* Tells every appliance that could run it. */
static int register_everywhere(struct procedure *p, const void *bytes, size_t size)
{
	struct appliance *a;
	uint32_t number;
	int ret = 0;

	for (a = appliance_next(NULL); a && !ret; a = appliance_next(a)) {
		if (!appliance_has(a, p->type))
			continue;
		ret = ask_register(p, a, bytes, size, &number);
		if (ret == ACCEPTED)
			ret = keep_number(p, a, &number);
		else if (ret == NO_ACCELERATOR || ret == -EPIPE)
			ret = 0;
		else if (ret == REFUSED)
			ret = -EEXIST;
		else if (ret == TOO_MUCH) {
			talk_warn("appliance %s has no room for procedure %s", a->name, p->name);
			ret = -ENOSPC;
		}
	}
	return ret;
}

/* Makes it one whose bytes are known. */
static int set_bytes(struct procedure *p, const void *bytes, size_t size)
{
	void *copy = NULL;
	int ret;

	if (size) {
		copy = malloc(size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, bytes, size);
	}
	ret = register_everywhere(p, bytes, size);
	if (ret) {
		free(copy);
		return ret;
	}
	pthread_mutex_lock(&p->lock);
	p->registered = true;
	p->bytes = copy;
	p->size = size;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

int procedure_register(vine_accel_type_e type, const char *name, const void *bytes, size_t size,
		       struct talk_proc_obj **proc)
{
	struct procedure *p;
	int ret;

	pthread_mutex_lock(&lock);
	p = begin(type, name);
	if (!p) {
		pthread_mutex_unlock(&lock);
		return -ENOMEM;
	}
	while (p->asking)
		pthread_cond_wait(&answered, &lock);
	if (p->registered) {
		ret = is_same(p, bytes, size) ? 0 : -EEXIST;
	} else {
		begin_asking(p);
		ret = set_bytes(p, bytes, size);
		end_asking(p);
	}
	return end(p, ret, proc);
}

/* One that an appliance has. */
static int get_anywhere(struct procedure *p)
{
	struct appliance *a;
	uint32_t number;

	for (a = appliance_next(NULL); a; a = appliance_next(a)) {
		if (appliance_has(a, p->type) && ask_get(p, a, &number) == ACCEPTED)
			return keep_number(p, a, &number);
	}
	return -ENOENT;
}

int procedure_get(vine_accel_type_e type, const char *name, struct talk_proc_obj **proc)
{
	struct procedure *p;
	int ret = 0;

	pthread_mutex_lock(&lock);
	p = begin(type, name);
	if (!p) {
		pthread_mutex_unlock(&lock);
		return -ENOMEM;
	}
	while (!p->known && p->asking)
		pthread_cond_wait(&answered, &lock);
	if (!p->known) {
		begin_asking(p);
		ret = get_anywhere(p);
		end_asking(p);
	}
	return end(p, ret, proc);
}

int procedure_put(struct talk_proc_obj *proc)
{
	return drop_user((struct procedure *)proc) ? 0 : -EINVAL;
}

/* All handles are closed. */
void procedures_close(void)
{
	struct procedure *p;

	while ((p = all)) {
		all = p->next;
		handle_put(&p->obj.h);
	}
}

void procedures_forked(void)
{
	all = NULL;
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&answered, NULL);
}
