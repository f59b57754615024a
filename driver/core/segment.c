// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * segment.c - the format: geometry, blank and foreign segments, usage
 */
#include "core.h"

/* The layout is an ABI between machines: pin all of it. */
#define PIN(type, field, offset) \
	_Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define PIN_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type)

PIN(vine_wire_header, format, 0);
PIN(vine_wire_header, features, 8);
PIN(vine_wire_header, generation, 16);
PIN_SIZE(vine_wire_header, 4096);
PIN(vine_wire_vector, summary, 0);
PIN(vine_wire_vector, drain_seq, 24);
PIN(vine_wire_vector, bell, 32);
PIN_SIZE(vine_wire_vector, 64);
PIN(vine_wire_peer, word, 0);
PIN(vine_wire_peer, beat, 64);
PIN(vine_wire_peer, vector, 128);
PIN(vine_wire_peer, leaf, 4224);
PIN_SIZE(vine_wire_peer, 8192);
PIN(vine_wire_service, ctl, 0);
PIN(vine_wire_service, type, 8);
PIN(vine_wire_service, name, 16);
PIN(vine_wire_service, backlog, 64);
PIN_SIZE(vine_wire_service, 1024);
PIN(vine_wire_queue, ctl, 0);
PIN(vine_wire_queue, server, 8);
PIN(vine_wire_queue, region, 16);
PIN(vine_wire_queue, rings, 24);
PIN(vine_wire_queue, closed_client, 64);
PIN(vine_wire_queue, closed_server, 96);
PIN(vine_wire_queue, attach, 128);
PIN_SIZE(vine_wire_queue, 512);
PIN(vine_wire_region, ctl, 0);
PIN(vine_wire_region, extent, 8);
PIN(vine_wire_region, bytes, 16);
PIN(vine_wire_region, hold, 64);
PIN_SIZE(vine_wire_region, 320);
PIN(vine_wire_cell, head, 0);
PIN(vine_wire_cell, payload, 8);
PIN_SIZE(vine_wire_cell, 64);
PIN(vine_wire_ring, consumed, 0);
PIN(vine_wire_ring, event, 64);
PIN(vine_wire_ring, space_event, 128);
PIN_SIZE(vine_wire_ring, 256);
_Static_assert(VINE_OFF_PEERS == 0x1000, "peers");
_Static_assert(VINE_OFF_SERVICES == 0x81000, "services");
_Static_assert(VINE_OFF_QUEUES == 0xc1000, "queues");
_Static_assert(VINE_OFF_REGIONS == 0x2c1000, "regions");
_Static_assert(VINE_OFF_CHUNKMAP == 0x401000, "chunk map");
_Static_assert(VINE_LEAF_SERVER * 64 == VINE_MAX_QUEUES, "a bit per queue");
_Static_assert(VINE_LEAF_TABLES * 64 == 2 * VINE_MAX_QUEUES + VINE_MAX_SERVICES,
	       "a bit per service");
_Static_assert(VINE_LEAVES <= VINE_SUMMARIES * 64, "a summary bit per leaf");
_Static_assert(VINE_MAX_VECTORS < 64, "vectors fit their field and the table");

static u64 vine_chunk_start(u32 shift, u64 chunks)
{
	u64 mask = (1ULL << shift) - 1;

	return (VINE_OFF_CHUNKMAP + chunks * 8 + mask) & ~mask;
}

int vine_geometry_of(u64 format, u64 size, struct vine_geometry *geo)
{
	if (VINE_FORMAT_MAGIC(format) != VINE_WIRE_MAGIC)
		return -EINVAL;
	if (VINE_FORMAT_VERSION(format) != VINE_WIRE_VERSION)
		return -EPROTONOSUPPORT;
	geo->format = format;
	geo->shift = VINE_FORMAT_SHIFT(format);
	geo->chunks = VINE_FORMAT_CHUNKS(format);
	if (geo->shift < VINE_MIN_CHUNK_SHIFT || geo->shift > VINE_MAX_CHUNK_SHIFT ||
	    !geo->chunks)
		return -EFBIG;
	/* 24 bits of chunks of at most 2^32 bytes: no overflow */
	geo->chunk_off = vine_chunk_start(geo->shift, geo->chunks);
	geo->size = geo->chunk_off + ((u64)geo->chunks << geo->shift);
	return geo->size <= size ? 0 : -EFBIG;
}

u64 vine_format_for(u64 size)
{
	u32 shift = VINE_MIN_CHUNK_SHIFT;
	u64 chunks;

	while (size >> shift > VINE_MAX_CHUNKS)
		shift++;
	for (chunks = size >> shift; chunks; chunks--)
		if (vine_chunk_start(shift, chunks) + (chunks << shift) <= size)
			break;
	return VINE_FORMAT(shift, chunks);
}

/*
 * Are all tables zero? The chunk map's size is not known here, so a foreign
 * segment is known by what precedes it: 4 MiB of zeroes with data behind them
 * is taken for blank.
 */
static bool vine_blank(void *base)
{
	const __le64 *p = base;
	u64 i;

	for (i = 0; i < VINE_OFF_CHUNKMAP / 8; i++)
		if (vine_ld64(p + i))
			return false;
	return true;
}

/* Of a segment that is not blank. */
static int vine_segment_read(void *base, u64 size, struct vine_geometry *geo)
{
	struct vine_wire_header *h = base;
	int err = vine_geometry_of(vine_ld64_acquire(&h->format), size, geo);

	if (!err && vine_ld64(&h->features) >> 32)
		err = -EPROTONOSUPPORT;
	return err;
}

int vine_segment_check(void *base, u64 size)
{
	struct vine_wire_header *h = base;
	struct vine_geometry geo;

	if (size < VINE_MIN_SEGMENT)
		return -ENOSPC;
	if (!vine_ld64_acquire(&h->format) && vine_blank(base))
		return 0;
	/* not blank any more: it is foreign, or another peer came first */
	return vine_segment_read(base, size, &geo);
}

int vine_segment_open(void *base, u64 size, struct vine_geometry *geo)
{
	struct vine_wire_header *h = base;
	int err;

	err = vine_segment_check(base, size);
	if (err)
		return err;
	vine_cas64(&h->format, 0, vine_format_for(size));
	err = vine_segment_read(base, size, geo);
	if (err)
		return err;
	vine_cas64(&h->generation, 0, vine_random64() | 1);
	return 0;
}

void vine_core_init(struct vine_core *c, void *base, const struct vine_geometry *geo,
		    u32 *chunk_use, const struct vine_ops *ops)
{
	u32 i, v;

	memset(c, 0, sizeof(*c));
	memset(chunk_use, 0, geo->chunks * sizeof(*chunk_use));
	c->base = base;
	c->ops = ops;
	c->geo = *geo;
	c->chunk_use = chunk_use;
	c->generation = vine_ld64(&vine_header(c)->generation);
	for (i = 0; i < VINE_MAX_PEERS; i++) {
		vine_lock_init(&c->dst[i].lock);
		for (v = 0; v < 64; v++)
			c->dst[i].rung[v] = ~0ULL;
	}
}

void vine_usage(struct vine_core *c, struct vine_usage *u)
{
	u32 i;

	memset(u, 0, sizeof(*u));
	u->chunks = c->geo.chunks;
	for (i = 0; i < VINE_MAX_PEERS; i++)
		u->peers += VINE_PEER_STATE(vine_ld64(&vine_peer(c, i)->word)) != VINE_PEER_FREE;
	for (i = 0; i < VINE_MAX_SERVICES; i++)
		u->services += VINE_CTL_STATE(vine_ld64(&vine_service(c, i)->ctl)) != 0;
	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		u->queues += VINE_CTL_STATE(vine_ld64(&vine_queue_entry(c, i)->ctl)) != 0;
		u->own_queues += c->own_queue[i].gen != 0;
	}
	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		u->regions += VINE_CTL_STATE(vine_ld64(&vine_region_entry(c, i)->ctl)) != 0;
		u->own_regions += c->use[i].id && c->use[i].own;
	}
	for (i = 0; i < c->geo.chunks; i++)
		u->chunks_free += !vine_ld64(vine_chunk_word(c, i));
}
