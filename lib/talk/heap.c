// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * heap.c - buffers in regions of the shared memory
 *
 * A region is a row of blocks and gaps, without two gaps side by side. Gaps are in bins by
 * the power of two in their size; what fits is looked for in the bin of the size wanted and
 * then taken from the next larger one. All this is private memory: in the shared memory are
 * only the buffers, each followed by a redzone, by which the appliance sees that a task wrote
 * past its end.
 *
 * Regions are made as needed, each a quarter of all there are, so that TALK_REGIONS of them
 * cover any segment; a region without blocks is given back, but for the last that became so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "talk/device.h"

#define ALIGN		64ULL
#define REGION_MIN	(1ULL << 20)
#define SIZE_MAX_HERE	(1ULL << 47)	/* what a talk_ref can reach, with room to round */
#define BINS		64
#define LOOK		32		/* gaps of the wanted size's own bin that are tried */

/* @grow: whoever makes a region; taken before @lock, under which everything else is. */
static pthread_mutex_t grow = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct heap_region *regions[TALK_REGIONS];
static struct heap_region *spare;	/* the one without blocks that is kept */
static uint64_t serials;
static struct heap_block *bins[BINS];
static uint64_t bins_used;		/* a bit for each that has gaps */

/* ---- gaps ---- */

static unsigned int bin_of(uint64_t bytes)
{
	return 63 - __builtin_clzll(bytes);
}

static void gap_add(struct heap_block *b)
{
	unsigned int bin = bin_of(b->bytes);

	b->gap = true;
	b->next = bins[bin];
	b->link = &bins[bin];
	if (b->next)
		b->next->link = &b->next;
	bins[bin] = b;
	bins_used |= 1ULL << bin;
}

/* It may be in no bin: that of a retired region. */
static void gap_remove(struct heap_block *b)
{
	unsigned int bin = bin_of(b->bytes);

	b->gap = false;
	if (!b->link)
		return;
	*b->link = b->next;
	if (b->next)
		b->next->link = b->link;
	b->link = NULL;
	if (!bins[bin])
		bins_used &= ~(1ULL << bin);
}

/* A gap of at least @bytes, or NULL; tries up to @look of those that may be too small. */
static struct heap_block *gap_find(uint64_t bytes, unsigned int look)
{
	unsigned int bin = bin_of(bytes);
	struct heap_block *b;
	uint64_t larger;

	for (b = bins[bin]; b && look; b = b->next, look--) {
		if (b->bytes >= bytes)
			return b;
	}
	larger = bins_used & ~((2ULL << bin) - 1);
	return larger ? bins[__builtin_ctzll(larger)] : NULL;
}

/* ---- blocks ---- */

/* Makes a block of the beginning of a gap; the rest stays a gap, in @rest. */
static void split(struct heap_block *b, uint64_t bytes, struct heap_block *rest)
{
	*rest = (struct heap_block){
		.address = (uint8_t *)b->address + bytes, .region = b->region,
		.offset = b->offset + bytes, .bytes = b->bytes - bytes,
		.before = b, .after = b->after,
	};
	if (rest->after)
		rest->after->before = rest;
	b->after = rest;
	b->bytes = bytes;
	gap_add(rest);
}

/* @b takes in its successor, which is in no bin. */
static void merge(struct heap_block *b)
{
	struct heap_block *after = b->after;

	b->bytes += after->bytes;
	b->after = after->after;
	if (b->after)
		b->after->before = b;
	free(after);
}

/* @rest: memory for what is left of the gap; NULL then if it was used. */
static struct heap_block *take(uint64_t bytes, unsigned int look, struct heap_block **rest)
{
	struct heap_block *b = gap_find(bytes, look);

	if (!b)
		return NULL;
	gap_remove(b);
	if (b->bytes > bytes) {
		split(b, bytes, *rest);
		*rest = NULL;
	}
	b->region->blocks++;
	if (spare == b->region)
		spare = NULL;
	return b;
}

/* ---- regions ---- */

/* No new block will be there. */
static void retire(struct heap_region *r)
{
	struct heap_block *b;

	if (r->retired)
		return;
	r->retired = true;
	if (spare == r)
		spare = NULL;
	for (b = r->first; b; b = b->after) {
		if (b->gap) {
			gap_remove(b);
			b->gap = true;
		}
	}
}

static void unmap(struct heap_region *r)
{
	if (r->base)
		vine_unmap(r->base, r->bytes);
}

/* Without the lock; retired, and without blocks: nobody knows it but the connections. */
static void give_back(struct heap_region *r)
{
	if (!r)
		return;
	connections_forget(r);
	unmap(r);
	descriptor_close(&r->descriptor);
	/* only now: a queue has so many attached, and that one no more */
	pthread_mutex_lock(&lock);
	regions[r->slot] = NULL;
	pthread_mutex_unlock(&lock);
	free(r->first);
	free(r);
}

/* Retires the spare region; for give_back(). */
static struct heap_region *take_spare(void)
{
	struct heap_region *r = spare;

	if (r)
		retire(r);
	return r;
}

/* -ENOSPC: there are too many. Reserves the place. */
static int find_slot(struct heap_region *r)
{
	for (r->slot = 0; r->slot < TALK_REGIONS; r->slot++) {
		if (!regions[r->slot]) {
			regions[r->slot] = r;
			r->serial = ++serials;
			return 0;
		}
	}
	return -ENOSPC;
}

/* A region of that size, mapped. */
static int make(struct heap_region *r, uint64_t bytes)
{
	void *base;
	int ret;

	/* before: should this machine be taken for dead now, the region will be distrusted */
	ret = device_info(&r->made);
	if (ret)
		return ret;
	descriptors_lock();
	do
		ret = vine_region(device, bytes, &r->bytes);
	while (ret == -EINTR);
	descriptor_is(&r->descriptor, ret);
	descriptors_unlock();
	if (ret < 0)
		return ret;
	ret = vine_map(r->descriptor.fd, r->bytes, &base);
	if (ret) {
		descriptor_close(&r->descriptor);
		return ret;
	}
	/* a child has no VineTalk, and is not to write into what is the parent's */
	madvise(base, r->bytes, MADV_DONTFORK);
	r->base = base;
	return 0;
}

/* As make(), but smaller than @wanted, down to @needed, when there is no room for it. */
static int make_any(struct heap_region *r, uint64_t needed, uint64_t wanted)
{
	struct heap_region *unused;
	int ret;

	for (;;) {
		ret = make(r, wanted);
		if (ret != -ENOSPC)
			return ret;
		if (wanted > needed) {
			wanted = wanted / 2 > needed ? wanted / 2 : needed;
			continue;
		}
		pthread_mutex_lock(&lock);
		unused = take_spare();
		pthread_mutex_unlock(&lock);
		if (!unused)
			return ret;
		give_back(unused);
	}
}

/* How large a new region is to be, for a block of so many bytes. */
static uint64_t region_bytes(uint64_t needed)
{
	uint64_t all = 0, wanted;
	unsigned int i;

	for (i = 0; i < TALK_REGIONS; i++) {
		if (regions[i] && !regions[i]->retired)
			all += regions[i]->bytes;
	}
	wanted = all / 4 > REGION_MIN ? all / 4 : REGION_MIN;
	return needed > wanted ? needed : wanted;
}

/* Makes room for a block of @bytes. With @grow held. */
static int add_region(uint64_t bytes)
{
	struct heap_region *r = calloc(1, sizeof(*r));
	struct heap_block *gap = calloc(1, sizeof(*gap));
	struct heap_region *unused = NULL;
	uint64_t wanted = 0;
	int ret = -ENOMEM;

	if (!r || !gap)
		goto fail;
	do {
		give_back(unused);
		pthread_mutex_lock(&lock);
		ret = find_slot(r);
		unused = ret ? take_spare() : NULL;
		if (!ret)
			wanted = region_bytes(bytes);
		r->retired = true;	/* until there is memory, it does not count */
		pthread_mutex_unlock(&lock);
	} while (unused);
	if (ret)
		goto fail;
	ret = make_any(r, bytes, wanted);
	pthread_mutex_lock(&lock);
	if (ret) {
		regions[r->slot] = NULL;
	} else {
		r->retired = false;
		gap->address = r->base;
		gap->region = r;
		gap->bytes = r->bytes;
		r->first = gap;
		gap_add(gap);
		unused = take_spare();
		spare = r;
	}
	pthread_mutex_unlock(&lock);
	give_back(unused);
	if (!ret)
		return 0;
fail:
	free(gap);
	free(r);
	return ret;
}

/* ---- what others call ---- */

void heap_redzone(struct heap_block *block, uint64_t size)
{
	memset((uint8_t *)block->address + size, TALK_REDZONE_BYTE, block->bytes - size);
}

static void warn(uint64_t size, int error)
{
	if (error == -ENOSPC)
		talk_warn("no room in the shared memory for a buffer of %" PRIu64 " bytes", size);
	else
		talk_warn("cannot get shared memory: %s", strerror(-error));
}

/* A block, of a new region if need be. @rest: as for take(). */
static int get(uint64_t bytes, struct heap_block **rest, struct heap_block **block)
{
	struct heap_block *b;
	int ret;

	pthread_mutex_lock(&lock);
	b = take(bytes, LOOK, rest);
	pthread_mutex_unlock(&lock);
	*block = b;
	if (b)
		return 0;
	pthread_mutex_lock(&grow);
	do {
		/* another thread may have made one meanwhile, or take what we make */
		pthread_mutex_lock(&lock);
		b = take(bytes, LOOK, rest);
		pthread_mutex_unlock(&lock);
		ret = b ? 0 : add_region(bytes);
	} while (!b && !ret);
	if (!b) {
		pthread_mutex_lock(&lock);
		b = take(bytes, UINT32_MAX, rest);
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_unlock(&grow);
	*block = b;
	return b ? 0 : ret;
}

int heap_alloc(uint64_t size, struct heap_block **block)
{
	struct heap_block *rest;
	uint64_t bytes;
	int ret = -ENOSPC;

	if (size > SIZE_MAX_HERE)
		goto fail;
	bytes = ((size + ALIGN - 1) & ~(ALIGN - 1)) + TALK_REDZONE;
	rest = malloc(sizeof(*rest));
	if (!rest)
		return -ENOMEM;
	ret = get(bytes, &rest, block);
	if (ret == -ENOSPC) {
		connections_poll();	/* tasks that are done may have buffers to give */
		ret = get(bytes, &rest, block);
	}
	free(rest);
	if (ret)
		goto fail;
	heap_redzone(*block, size);
	return 0;
fail:
	warn(size, ret);
	return ret;
}

void heap_free(struct heap_block *block)
{
	struct heap_region *r = block->region, *unused = NULL;
	struct heap_block *b = block;

	pthread_mutex_lock(&lock);
	if (b->after && b->after->gap) {
		gap_remove(b->after);
		merge(b);
	}
	if (b->before && b->before->gap) {
		b = b->before;
		gap_remove(b);
		merge(b);
	}
	b->gap = true;
	b->link = NULL;
	if (!r->retired)
		gap_add(b);
	if (!--r->blocks) {
		unused = r->retired ? r : take_spare();
		if (!r->retired)
			spare = r;
	}
	pthread_mutex_unlock(&lock);
	give_back(unused);
}

void heap_distrust(struct heap_block *block)
{
	pthread_mutex_lock(&lock);
	retire(block->region);
	pthread_mutex_unlock(&lock);
}

/* Is it of this life of this machine? */
static bool alive(const struct heap_region *r, const struct vine_info *now)
{
	return r->made.generation == now->generation && r->made.peer == now->peer &&
	       r->made.incarnation == now->incarnation;
}

/* With the lock held. The descriptor stays: it says ENOTCONN or ENODEV to who attaches it. */
static void replace(struct heap_region *r)
{
	void *base;

	retire(r);
	r->lost = true;
	base = mmap(r->base, r->bytes, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		r->base = NULL;		/* what is there now may be somebody else's */
}

void heap_check(void)
{
	struct heap_region *unused = NULL;
	struct vine_info now;
	unsigned int i;
	bool gone;
	int ret;

	ret = device_info(&now);
	gone = ret == -ENODEV;
	if (ret && !gone)
		return;
	pthread_mutex_lock(&lock);
	for (i = 0; i < TALK_REGIONS; i++) {
		struct heap_region *r = regions[i];

		/* retired, and without blocks: it is being made, or given back */
		if (!r || r->lost || (r->retired && !r->blocks) || (!gone && alive(r, &now)))
			continue;
		if (spare == r)
			unused = r;
		replace(r);
	}
	pthread_mutex_unlock(&lock);
	give_back(unused);
}

void heap_close(void)
{
	struct heap_block *b, *after;
	unsigned int i;

	for (i = 0; i < TALK_REGIONS; i++) {
		struct heap_region *r = regions[i];

		if (!r)
			continue;
		unmap(r);
		descriptor_close(&r->descriptor);
		for (b = r->first; b; b = after) {
			after = b->after;
			free(b);
		}
		free(r);
		regions[i] = NULL;
	}
	memset(bins, 0, sizeof(bins));
	bins_used = 0;
	spare = NULL;
}

/* The regions are not mapped here, and descriptors_forked() has closed them. */
void heap_forked(void)
{
	memset(regions, 0, sizeof(regions));
	memset(bins, 0, sizeof(bins));
	bins_used = 0;
	spare = NULL;
	pthread_mutex_init(&lock, NULL);
	pthread_mutex_init(&grow, NULL);
}
