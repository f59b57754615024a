// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * table.c - what descriptors stand for, by their numbers
 *
 * It is read without a lock: an object's memory is only ever used for another object, so
 * that its count can be looked at by who came too late.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK	1024	/* numbers */

typedef _Atomic(struct host_object *) entry;

static _Atomic(entry *) chunks[1024];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct host_object *pool[HOST_KINDS];	/* unused */

static const struct host_class *const classes[HOST_KINDS] = {
	&host_device_class, &host_listener_class, &host_queue_class, &host_region_class,
};
static const size_t sizes[HOST_KINDS] = {
	sizeof(struct host_device), sizeof(struct host_listener), sizeof(struct host_queue),
	sizeof(struct host_region),
};

/* NULL: no such number is ours. */
static entry *find(int fd)
{
	entry *chunk;

	if (fd < 0 || fd >= CHUNK * (int)ARRAY_SIZE(chunks))
		return NULL;
	chunk = atomic_load_explicit(&chunks[fd / CHUNK], memory_order_acquire);
	return chunk ? &chunk[fd % CHUNK] : NULL;
}

struct host_object *host_object_new(struct host_endpoint *ep, enum host_kind kind)
{
	struct host_object *o;

	pthread_mutex_lock(&lock);
	o = pool[kind];
	if (o)
		pool[kind] = o->next;
	pthread_mutex_unlock(&lock);
	if (o)
		memset((char *)o + sizeof(o->references), 0, sizes[kind] - sizeof(o->references));
	else
		o = calloc(1, sizes[kind]);
	if (!o)
		return NULL;
	o->kind = kind;
	o->ep = ep;
	atomic_fetch_add(&ep->references, 1);
	atomic_store_explicit(&o->references, 1, memory_order_release);
	return o;
}

void host_put(struct host_object *o)
{
	struct host_endpoint *ep;

	if (atomic_fetch_sub_explicit(&o->references, 1, memory_order_acq_rel) != 1)
		return;
	ep = o->ep;
	classes[o->kind]->end(o);
	pthread_mutex_lock(&lock);
	o->next = pool[o->kind];
	pool[o->kind] = o;
	pthread_mutex_unlock(&lock);
	host_endpoint_put(ep);
}

struct host_object *host_find(int fd)
{
	entry *e = find(fd);
	struct host_object *o;
	unsigned int n;

	if (!e)
		return NULL;
	for (;;) {
		o = atomic_load_explicit(e, memory_order_acquire);
		if (!o)
			return NULL;
		n = atomic_load_explicit(&o->references, memory_order_relaxed);
		while (n && !atomic_compare_exchange_weak_explicit(&o->references, &n, n + 1,
								   memory_order_acquire,
								   memory_order_relaxed))
			;
		if (!n)
			continue;	/* it was ended just now, and the number is not its any more */
		if (atomic_load_explicit(e, memory_order_acquire) == o)
			return o;
		host_put(o);
	}
}

static entry *find_or_make(int fd)
{
	entry *chunk;

	if (fd >= CHUNK * (int)ARRAY_SIZE(chunks))
		return NULL;
	pthread_mutex_lock(&lock);
	chunk = atomic_load(&chunks[fd / CHUNK]);
	if (!chunk) {
		chunk = calloc(CHUNK, sizeof(*chunk));
		atomic_store_explicit(&chunks[fd / CHUNK], chunk, memory_order_release);
	}
	pthread_mutex_unlock(&lock);
	return chunk ? &chunk[fd % CHUNK] : NULL;
}

int host_install(struct host_object *o, int fd)
{
	entry *e = find_or_make(fd);
	struct host_object *old;

	if (!e)
		return -ENOMEM;
	old = atomic_exchange(e, o);
	if (old) {	/* somebody has closed it, but not by vine_close() */
		classes[old->kind]->renumber(old, -1);
		host_put(old);
	}
	return 0;
}

void host_discard(struct host_object *o, int fd)
{
	classes[o->kind]->renumber(o, -1);
	close(fd);
	host_put(o);
}

int host_close(int fd)
{
	entry *e = find(fd);
	struct host_object *o = e ? atomic_exchange(e, NULL) : NULL;

	if (!o)
		return -ENOENT;
	host_discard(o, fd);
	return 0;
}

int host_move(int from, int to)
{
	entry *source = find(from), *target = find_or_make(to);
	struct host_object *o, *old = target ? host_find(to) : NULL;
	int err = target ? 0 : -ENOMEM;

	/* calls find the old one until they find the new; it must not touch the number any more */
	if (old)
		classes[old->kind]->renumber(old, -1);
	if (!err && dup3(from, to, O_CLOEXEC) < 0)
		err = -errno;
	if (err && old)
		classes[old->kind]->renumber(old, to);
	if (old)
		host_put(old);
	if (err) {
		if (host_close(from))
			close(from);
		return err;
	}
	o = source ? atomic_exchange(source, NULL) : NULL;
	if (o)
		classes[o->kind]->renumber(o, to);
	old = atomic_exchange(target, o);
	close(from);
	if (old)
		host_put(old);
	return 0;
}

void host_table_lock(void)
{
	pthread_mutex_lock(&lock);
}

void host_table_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

void host_table_forked(void)
{
	unsigned int i, n;
	entry *chunk;

	for (i = 0; i < ARRAY_SIZE(chunks); i++) {
		chunk = atomic_load(&chunks[i]);
		for (n = 0; chunk && n < CHUNK; n++)
			atomic_store(&chunk[n], NULL);
	}
	pthread_mutex_unlock(&lock);
}
