// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * procedure.c - the procedures that clients know: global by name and type, but for uploaded
 *               code and source, which are their machine's alone
 *
 * The bytes are copied from the client's memory into a file of our own, by write(2) from a
 * mapping: when the memory goes away under us that is an error of write(2), and not a
 * signal. Nothing of it is looked at before it is ours.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "serve/serve.h"

enum { PROC_OK, PROC_NO, PROC_NO_ACCELERATOR, PROC_SHORT };	/* of struct talk_proc */

#define SEALS	(F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL)

static bool type_is_here(const struct vine_serve *s, vine_accel_type_e type)
{
	unsigned int i;

	for (i = 0; i < s->accelerator_count; i++)
		if (type == ANY || s->accelerators[i]->type == type)
			return true;
	return false;
}

enum kind { REGISTERED, CODE, SOURCE, BY_ITSELF };

static bool is_uploaded(enum kind kind)
{
	return kind == CODE || kind == SOURCE;
}

/* @peer: whose, when it is code or source: of these there is one of a name. */
static struct procedure *find(struct vine_serve *s, vine_accel_type_e type, const char *name,
			      enum kind kind, unsigned int peer)
{
	struct list *item, *next;

	list_each(item, next, &s->procedures) {
		struct procedure *p = container_of(item, struct procedure, link);

		if (p->type == type && p->by_itself == (kind == BY_ITSELF) &&
		    p->code == is_uploaded(kind) && (!p->code || p->peer == peer) &&
		    !strcmp(p->name, name))
			return p;
	}
	return NULL;
}

bool procedures_hold(struct vine_serve *s, struct procedure *p, unsigned int machine)
{
	if (!p->by_machine[machine] &&
	    !limit_take_procedure(s, machine, p->bytes.bytes, !p->references))
		return false;
	p->by_machine[machine]++;
	p->references++;
	return true;
}

void procedures_put(struct vine_serve *s, struct procedure *p, unsigned int machine)
{
	bool last = !--p->references;

	if (!--p->by_machine[machine])
		limit_give_procedure(s, machine, p->bytes.bytes, last);
	if (!last)
		return;
	list_del(&p->link);
	memory_free(s, &p->bytes);
	free(p);
}

/* Takes over @fd. The session's reference is the first one. */
static int make(struct vine_serve *s, struct session *session, vine_accel_type_e type,
		const char *name, enum kind kind, int fd, uint64_t size, uint32_t *id)
{
	struct procedure *p = calloc(1, sizeof(*p));

	if (!p) {
		if (fd >= 0)
			close(fd);
		return PROC_SHORT;
	}
	p->type = type;
	strcpy(p->name, name);
	if (memory_init(s, &p->bytes, fd, size, true))
		goto free;
	p->by_itself = kind == BY_ITSELF;
	p->code = is_uploaded(kind);
	p->source = kind == SOURCE;
	p->peer = session->peer;
	*id = session_know(s, session, p);
	if (!*id)
		goto forget;
	list_add_tail(&s->procedures, &p->link);
	return PROC_OK;

forget:
	memory_free(s, &p->bytes);
free:
	free(p);
	return PROC_SHORT;
}

static bool write_all(int fd, const char *from, uint64_t size)
{
	ssize_t n;

	while (size) {
		n = write(fd, from, size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		from += n;
		size -= n;
	}
	return true;
}

/* A sealed copy, or -1. */
static int copy(const struct region *region, uint64_t offset, uint64_t size)
{
	void *from;
	int fd;

	fd = memfd_create("vine-procedure", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -1;
	if (vine_map(region->memory.fd, region->memory.bytes, &from))
		goto close;
	if (!write_all(fd, (char *)from + offset, size)) {
		vine_unmap(from, region->memory.bytes);
		goto close;
	}
	vine_unmap(from, region->memory.bytes);
	if (fcntl(fd, F_ADD_SEALS, SEALS))
		goto close;
	return fd;

close:
	close(fd);
	return -1;
}

static bool is_code(int fd)
{
	char magic[4];

	return pread(fd, magic, sizeof(magic), 0) == sizeof(magic) &&
		!memcmp(magic, "\177ELF", sizeof(magic));
}

static bool is_source(const struct vine_serve *s, vine_accel_type_e type, const char *name)
{
	return plugins_compiler(&s->plugins, type) && !plugins_find(&s->plugins, type, name);
}

/* Two of our own copies. */
static bool same(int a, int b, uint64_t size)
{
	char piece_a[4096], piece_b[4096];
	uint64_t at;
	ssize_t n;

	for (at = 0; at < size; at += n) {
		n = pread(a, piece_a, sizeof(piece_a), at);
		if (n <= 0 || pread(b, piece_b, n, at) != n || memcmp(piece_a, piece_b, n))
			return false;
	}
	return true;
}

int procedures_register(struct vine_serve *s, struct session *session, vine_accel_type_e type,
			const char *name, const struct region *region, uint64_t offset,
			uint64_t size, uint32_t *id)
{
	enum kind kind = REGISTERED;
	struct procedure *p;
	bool is_same;
	int fd = -1;

	if (!type_is_here(s, type))
		return PROC_NO_ACCELERATOR;
	if (size > s->bytes_max)
		return PROC_SHORT;
	s->copied += size;
	if (size) {
		fd = copy(region, offset, size);
		if (fd < 0)
			return PROC_SHORT;
		if (is_code(fd))
			kind = CODE;
		else if (is_source(s, type, name))
			kind = SOURCE;
	}
	p = find(s, type, name, kind, session->peer);
	if (!p)
		return make(s, session, type, name, kind, fd, size, id);
	is_same = p->bytes.bytes == size && (!size || same(fd, p->bytes.fd, size));
	if (size)
		close(fd);
	if (!is_same)
		return PROC_NO;
	*id = session_know(s, session, p);
	return *id ? PROC_OK : PROC_SHORT;
}

int procedures_get(struct vine_serve *s, struct session *session, vine_accel_type_e type,
		   const char *name, uint32_t *id)
{
	struct procedure *p;

	if (!type_is_here(s, type))
		return PROC_NO_ACCELERATOR;
	p = find(s, type, name, CODE, session->peer);
	if (!p)
		p = find(s, type, name, REGISTERED, 0);
	if (!p && !plugins_named(&s->plugins, type, name))
		return PROC_NO;
	if (!p)
		p = find(s, type, name, BY_ITSELF, 0);
	if (!p)
		return make(s, session, type, name, BY_ITSELF, -1, 0, id);
	*id = session_know(s, session, p);
	return *id ? PROC_OK : PROC_SHORT;
}
