// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * session.c - a client process: what it knows, and what it has shown us of its memory
 *
 * It begins and ends with a control queue. Task queues that are left over then stay, but
 * their session knows no procedure any more.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "serve/serve.h"

/* ---- lives ---- */

/* All zero is none. */
static bool make_token(uint64_t token[2])
{
	do {
		if (getrandom(token, 16, 0) != 16)
			return false;
	} while (!token[0] && !token[1]);
	return true;
}

struct session *session_new(struct vine_serve *s, unsigned int peer, uint32_t pid)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session || !make_token(session->token)) {
		free(session);
		return NULL;
	}
	session->references = 1;
	session->number = ++s->sessions_ever;
	session->peer = peer;
	session->pid = pid;
	session->next_procedure = 1;
	session->next_virtual = s->accelerator_count;
	list_init(&session->regions);
	list_add_tail(&s->sessions, &session->link);
	return session;
}

struct session *session_find(struct vine_serve *s, unsigned int peer, const uint64_t token[2])
{
	struct session *session;
	struct list *item, *next;

	list_each(item, next, &s->sessions) {
		session = container_of(item, struct session, link);
		/* both at once: how long it takes says nothing about one of them */
		if (session->peer != peer ||
		    ((session->token[0] ^ token[0]) | (session->token[1] ^ token[1])))
			continue;
		if (session->references == s->limits.session_queues)
			break;
		session->references++;
		return session;
	}
	return NULL;
}

/* A worker of this session's code has nobody left to work for. */
static void end_workers(struct vine_serve *s, const struct session *session)
{
	unsigned int i;

	for (i = 0; i < s->worker_count; i++) {
		struct worker *w = s->workers[i];

		if (w->session != session)
			continue;
		w->session = NULL;
		if (w->state == WORKER_IDLE || (w->state == WORKER_BUSY && !w->task))
			worker_kill(s, w, vine_reason_none);
	}
}

void session_end(struct vine_serve *s, struct session *session)
{
	unsigned int i;

	list_del(&session->link);
	for (i = 0; i < s->accelerator_count; i++)
		if (s->accelerators[i]->holder == session)
			scheduler_release(s, s->accelerators[i]);
	for (i = 0; i < session->known_count; i++)
		procedures_put(s, session->known[i].procedure, session->peer);
	free(session->known);
	session->known = NULL;
	session->known_count = 0;
}

void session_put(struct vine_serve *s, struct session *session)
{
	if (--session->references)
		return;
	end_workers(s, session);
	free(session);
}

/* ---- procedures ---- */

static struct reference *reference_of(const struct session *session, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < session->known_count; i++)
		if (session->known[i].id == id)
			return &session->known[i];
	return NULL;
}

static struct reference *reference_to(const struct session *session, const struct procedure *p)
{
	unsigned int i;

	for (i = 0; i < session->known_count; i++)
		if (session->known[i].procedure == p)
			return &session->known[i];
	return NULL;
}

uint32_t session_know(struct vine_serve *s, struct session *session, struct procedure *p)
{
	struct reference *r = reference_to(session, p);

	if (r) {
		if (r->count == UINT32_MAX)
			return 0;
		r->count++;
		return r->id;
	}
	if (session->known_count == s->limits.session_procedures ||
	    p->bytes.bytes > s->limits.session_bytes - session->known_bytes ||
	    session->next_procedure == UINT32_MAX)
		return 0;
	r = realloc(session->known, (session->known_count + 1) * sizeof(*r));
	if (!r)
		return 0;
	session->known = r;
	if (!procedures_hold(s, p, session->peer))
		return 0;
	r += session->known_count++;
	*r = (struct reference){ p, session->next_procedure++, 1 };
	session->known_bytes += p->bytes.bytes;
	return r->id;
}

bool session_unknow(struct vine_serve *s, struct session *session, uint32_t id)
{
	struct reference *r = reference_of(session, id);

	if (!r)
		return false;
	if (--r->count)
		return true;
	session->known_bytes -= r->procedure->bytes.bytes;
	procedures_put(s, r->procedure, session->peer);
	*r = session->known[--session->known_count];
	return true;
}

struct procedure *session_procedure(const struct session *session, uint32_t id)
{
	struct reference *r = reference_of(session, id);

	return r ? r->procedure : NULL;
}

/* ---- regions ---- */

static struct region *find_region(const struct session *session, uint64_t id)
{
	struct list *item, *next;

	list_each(item, next, &session->regions) {
		struct region *r = container_of(item, struct region, link);

		if (r->id == id)
			return r;
	}
	return NULL;
}

static bool count_region(struct vine_serve *s, struct session *session)
{
	if (session->region_count >= s->limits.session_regions ||
	    !limit_take(s, session->peer, LIMIT_DESCRIPTORS))
		return false;
	session->region_count++;
	return true;
}

static void uncount_region(struct vine_serve *s, struct session *session)
{
	session->region_count--;
	limit_give(s, session->peer, LIMIT_DESCRIPTORS);
}

static vine_task_reason_e reason_of(int err)
{
	switch (err) {
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return vine_reason_no_memory;
	default:
		return vine_reason_bad_data;
	}
}

/* Takes over @fd, -errno: it could not be imported. NULL: no memory. */
static struct region *new_region(struct vine_serve *s, struct session *session, int fd,
				 uint64_t id, uint64_t bytes)
{
	struct region *r;

	if (fd >= 0 && !count_region(s, session)) {
		vine_close(fd);
		fd = -EMFILE;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		if (fd >= 0)
			vine_close(fd);
		goto uncount;
	}
	*r = (struct region){ .session = session, .references = 1, .id = id };
	list_init(&r->link);
	if (fd < 0)
		r->reason = reason_of(fd);
	if (!memory_init(s, &r->memory, fd < 0 ? -1 : fd, bytes, false)) {
		r->memory.client = session->number;
		return r;
	}
	free(r);
uncount:
	if (fd >= 0)
		uncount_region(s, session);
	return NULL;
}

/*
 * A process attaches a region to each of its queues, but we need it once. Its id says which
 * it is: ids are not used again, and that it is attached here is checked by importing it.
 */
struct region *session_region(struct vine_serve *s, struct session *session, int queue,
			      uint64_t id)
{
	uint64_t bytes = 0;
	struct region *r;
	int fd;

	fd = vine_import(queue, id, &bytes);
	if (fd < 0)
		serve_lost(s, fd);
	r = fd < 0 ? NULL : find_region(session, id);
	if (r) {
		vine_close(fd);
		r->references++;
		return r;
	}
	r = new_region(s, session, fd, id, bytes);
	/* what could not be imported is nobody else's, and may be many */
	if (r && r->memory.fd >= 0)
		list_add_tail(&session->regions, &r->link);
	return r;
}

void region_put(struct vine_serve *s, struct region *r)
{
	if (--r->references)
		return;
	list_del(&r->link);
	if (r->memory.fd >= 0)
		uncount_region(s, r->session);
	memory_free(s, &r->memory);
	free(r);
}
