// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * region.c - bulk data: regions, imports, mappings
 *
 * A region's descriptor is one of its own on the file, whose position is where the region
 * begins: who gets it from us can map it. What is mapped by vine_map() holds the region.
 * That of an import has locks, which last as long as anybody has it, or a mapping of it: until
 * then we hold the region.
 */
#include "host/endpoint.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ZERO_STEP	(1ULL << 20)

struct map {
	struct map *next;
	void *address;
	uint64_t bytes;
	struct host_object *region;
	bool lost;		/* it has other memory, or none, by now */
};

static pthread_mutex_t map_lock = PTHREAD_MUTEX_INITIALIZER;
static struct map *maps;

void host_maps_lock(void)
{
	pthread_mutex_lock(&map_lock);
}

void host_maps_unlock(void)
{
	pthread_mutex_unlock(&map_lock);
}

void host_maps_forked(void)
{
	maps = NULL;
	pthread_mutex_unlock(&map_lock);
}

static void region_renumber(struct host_object *o, int fd)
{
	(void)o;
	(void)fd;
}

/* With control. */
static void put_unmapped(struct host_endpoint *ep, u32 index)
{
	if (host_locked(ep, HOST_HELD + index))
		return;
	for (; ep->unput[index]; ep->unput[index]--, ep->unputs--)
		vine_region_put(&ep->core, ep->core.use[index].id);
}

void host_regions_unmapped(struct host_endpoint *ep)
{
	u32 i;

	for (i = 0; ep->unputs && i < VINE_MAX_REGIONS; i++)
		if (ep->unput[i])
			put_unmapped(ep, i);
}

static void region_end(struct host_object *o)
{
	struct host_region *r = (struct host_region *)o;
	struct host_endpoint *ep = o->ep;

	if (!o->session)
		return;
	pthread_mutex_lock(&ep->control);
	if (!host_entered(ep, o->session) && r->own) {
		vine_region_retire(&ep->core, r->id);
	} else if (!host_entered(ep, o->session)) {
		ep->unput[VINE_REGION_INDEX(r->id)]++;
		ep->unputs++;
		put_unmapped(ep, VINE_REGION_INDEX(r->id));
	}
	pthread_mutex_unlock(&ep->control);
}

const struct host_class host_region_class = { region_renumber, region_end };

/* ---- mappings ---- */

int host_map(struct host_object *o, uint64_t bytes, void **address)
{
	struct host_region *r = (struct host_region *)o;
	struct host_segment *s = o->ep->segment;
	struct map *m;
	int err;

	err = o->kind == HOST_REGION ? 0 : -ENODEV;
	if (!err && (!bytes || bytes > r->bytes))
		err = -EINVAL;
	if (err)
		goto fail;
	m = malloc(sizeof(*m));
	err = -ENOMEM;
	if (!m)
		goto fail;
	/* whole pages, of which the last may be used in part */
	*m = (struct map){ .bytes = (bytes + 4095) & ~4095ULL, .region = o };
	pthread_mutex_lock(&map_lock);
	err = host_entered(o->ep, o->session);
	if (!err) {
		m->address = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_NORESERVE, s->fd, s->off + r->first);
		err = m->address == MAP_FAILED ? -errno : 0;
	}
	if (!err) {
		madvise(m->address, m->bytes, MADV_DONTFORK);
		err = host_guard(m->address, m->bytes, s);
		if (err)
			munmap(m->address, m->bytes);
	}
	if (!err) {
		m->next = maps;
		maps = m;
		*address = m->address;
	}
	pthread_mutex_unlock(&map_lock);
	if (!err)
		return 0;	/* the reference is the mapping's */
	free(m);
fail:
	host_put(o);
	return err;
}

int host_unmap(void *address)
{
	struct map **at, *m;

	pthread_mutex_lock(&map_lock);
	for (at = &maps; *at && (*at)->address != address; at = &(*at)->next)
		;
	m = *at;
	if (m) {
		*at = m->next;
		host_unguard(m->address);
		munmap(m->address, m->bytes);
	}
	pthread_mutex_unlock(&map_lock);
	if (!m)
		return -ENOENT;
	host_put(m->region);
	free(m);
	return 0;
}

bool host_regions_lost(struct host_endpoint *ep)
{
	bool all = true;
	struct map *m;

	pthread_mutex_lock(&map_lock);
	for (m = maps; m; m = m->next) {
		if (m->region->ep != ep || m->lost)
			continue;
		m->lost = host_replace(m->address, m->bytes) ||
			!mprotect(m->address, m->bytes, PROT_NONE);
		all &= m->lost;
	}
	pthread_mutex_unlock(&map_lock);
	return all;
}

/* ---- calls ---- */

/* With control: @id is ours to use. */
static void region_set(struct host_region *r, u64 id, bool own)
{
	struct host_endpoint *ep = r->o.ep;
	const struct vine_use *use = vine_region_use(&ep->core, id);

	r->o.session = atomic_load(&ep->session);
	r->id = id;
	r->own = own;
	r->first = vine_chunk_offset(&ep->core, use->first);
	r->bytes = (u64)use->count << ep->geo.shift;
}

/* Nobody reads what was here before. Others get control in between. */
static int region_zero(struct host_region *r)
{
	struct host_endpoint *ep = r->o.ep;
	u64 at;
	int err;

	err = host_segment_room(ep->segment, r->first, r->bytes);
	if (err)
		return err;
	for (at = 0; at < r->bytes; at += ZERO_STEP) {
		err = host_control(ep, r->o.session);
		if (err)
			return err;
		memset(ep->segment->base + r->first + at, 0, min_t(u64, ZERO_STEP, r->bytes - at));
		pthread_mutex_unlock(&ep->control);
	}
	return 0;
}

/* A lock of the open file, which its mappings are of, too. */
static int share_lock(int fd, u64 byte)
{
	struct flock l = {
		.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
	};

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* With control. */
static int hold(const struct host_region *r, int fd)
{
	const struct host_endpoint *ep = r->o.ep;
	int err;

	err = share_lock(fd, ep->off + HOST_HELD + VINE_REGION_INDEX(r->id));
	return err ? err : share_lock(fd, ep->off + HOST_HOLDS + ep->core.slot);
}

static int descriptor(struct host_region *r)
{
	struct host_endpoint *ep = r->o.ep;
	int fd = host_reopen(ep->segment->fd), err;

	if (fd < 0)
		return fd;
	err = lseek(fd, ep->off + r->first, SEEK_SET) < 0 ? -errno : 0;
	if (!err && !r->own) {
		/* or it was lost meanwhile, and nobody is to take it for held */
		err = host_control(ep, r->o.session);
		if (!err) {
			err = hold(r, fd);
			pthread_mutex_unlock(&ep->control);
		}
	}
	if (!err)
		err = host_install(&r->o, fd);
	if (!err)
		return fd;
	close(fd);
	return err;
}

static int make(struct host_region *r, u64 bytes)
{
	struct host_endpoint *ep = r->o.ep;
	int err = host_control(ep, 0);
	u64 id;

	if (err)
		return err;
	err = vine_region_claim(&ep->core, bytes, &id);
	if (!err)
		region_set(r, id, true);
	pthread_mutex_unlock(&ep->control);
	if (!err)
		err = region_zero(r);
	if (!err)
		err = host_control(ep, r->o.session);
	if (err)
		return err;
	err = vine_region_publish(&ep->core, id);
	pthread_mutex_unlock(&ep->control);
	return err;
}

int host_do_region(struct host_endpoint *ep, struct vine_region *v)
{
	struct host_region *r;
	int fd;

	if (v->flags)
		return -EOPNOTSUPP;
	if (v->reserved || !v->bytes)
		return -EINVAL;
	r = (struct host_region *)host_object_new(ep, HOST_REGION);
	if (!r)
		return -ENOMEM;
	fd = make(r, v->bytes);
	if (!fd)
		fd = descriptor(r);
	if (fd < 0) {
		host_put(&r->o);
		return fd;
	}
	v->bytes = r->bytes;
	v->fd = fd;
	return 0;
}

int host_do_import(struct host_queue *q, struct vine_import *i)
{
	struct host_endpoint *ep = q->o.ep;
	struct host_region *r;
	int fd;

	if (i->flags)
		return -EOPNOTSUPP;
	if (i->reserved || q->queue.side != VINE_SIDE_SERVER)
		return -EINVAL;
	r = (struct host_region *)host_object_new(ep, HOST_REGION);
	if (!r)
		return -ENOMEM;
	fd = host_control(ep, q->o.session);
	if (!fd) {
		fd = vine_queue_import(&q->queue, i->id);
		if (!fd)
			region_set(r, i->id, false);
		pthread_mutex_unlock(&ep->control);
	}
	if (!fd)
		fd = descriptor(r);
	if (fd < 0) {
		host_put(&r->o);
		return fd;
	}
	i->bytes = r->bytes;
	i->fd = fd;
	return 0;
}
