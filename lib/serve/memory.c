// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * memory.c - what workers map: clients' regions, and the bytes of procedures
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "serve/serve.h"

/*
 * A region of an endpoint in user space begins at its descriptor's position: asked for here,
 * once, since those who get the descriptor may move that.
 */
static uint64_t beginning(int fd)
{
	struct stat st;
	off_t at = 0;

	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		at = lseek(fd, 0, SEEK_CUR);
	return at < 0 ? 0 : at;
}

int memory_init(struct vine_serve *s, struct memory *m, int fd, uint64_t bytes,
		bool read_only)
{
	unsigned int i;

	*m = (struct memory){ .fd = fd, .bytes = bytes, .read_only = read_only };
	if (fd < 0)
		return 0;
	if (!read_only)
		m->beginning = beginning(fd);
	m->slot = malloc(s->worker_count * sizeof(*m->slot));
	if (!m->slot) {
		vine_close(fd);
		m->fd = -1;
		return -ENOMEM;
	}
	for (i = 0; i < s->worker_count; i++)
		m->slot[i] = -1;
	return 0;
}

void memory_free(struct vine_serve *s, struct memory *m)
{
	unsigned int i;

	if (m->fd < 0)
		return;
	for (i = 0; i < s->worker_count; i++)
		if (m->slot[i] >= 0)
			worker_forget(s, s->workers[i], m->slot[i]);
	free(m->slot);
	vine_close(m->fd);
	m->fd = -1;
}
