// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * check.c - what must be true of a victim's private records, whatever the segment says
 *
 * Compiled without sanitizers: it runs after each call.
 */
#include "fuzz.h"

/* How often the victim has been given region @id, by its handles and queues. */
static u32 given(const struct victim *v, const struct vine_use *use)
{
	u32 i, n = 0;

	for (i = 0; i < GRANTS; i++)
		n += (v->own[i].id == use->id) + (v->import[i].id == use->id);
	for (i = 0; i <= QUEUES; i++)
		n += v->queue[i] && v->queue[i]->side == VINE_SIDE_SERVER &&
			v->queue[i]->region == use->id;
	return n + (use->own && use->busy);	/* our rings are in it */
}

/* Regions: what stands in ->use, ->chunk_use and what was given are one. */
static void check_uses(const struct victim *v)
{
	const struct vine_core *c = &v->peer->core;
	const struct vine_use *use;
	u32 i, k, used = 0, counted = 0;

	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		use = &c->use[i];
		if (!use->id)
			continue;
		MUST(use->id == VINE_REGION_ID(VINE_REGION_GEN(use->id), i), "region in use");
		MUST(use->count && use->first < c->geo.chunks &&
		     use->count <= c->geo.chunks - use->first, "region in use");
		MUST(use->own == (use->slot == c->slot), "region in use");
		MUST(!use->own || use->inc == c->inc, "region in use");
		MUST(use->refs == given(v, use), "region in use");
		MUST(!use->busy || (use->own && use->rings), "ring region");
		MUST(!use->busy == !use->slot_bytes, "ring region");
		MUST(!use->busy || (use->slots && use->slots <= 64 &&
		     (u64)use->slots * use->slot_bytes <= (u64)use->count << c->geo.shift),
		     "ring region");
		/* each chunk is this region's alone */
		for (k = 0; k < use->count; k++)
			MUST(c->chunk_use[use->first + k] == i + 1, "chunk in use");
		counted += use->count;
	}
	for (i = 0; i < c->geo.chunks; i++)
		used += !!c->chunk_use[i];
	MUST(used == counted, "chunks in use");
}

/* What a process may map is what it was given, and holds no rings. */
static void check_grants(struct victim *v)
{
	const struct vine_use *use;
	const struct grant *g;
	u32 i;

	for (i = 0; i < 2 * GRANTS; i++) {
		g = i < GRANTS ? &v->own[i] : &v->import[i - GRANTS];
		if (!g->id)
			continue;
		use = vine_region_use(&v->peer->core, g->id);
		MUST(use && !use->rings, "mapped region");
		MUST(use->first == g->first && use->count == g->count, "mapped region");
		MUST(use->slot == g->slot && use->inc == g->inc, "mapped region");
		MUST(i >= GRANTS || use->own, "mapped region");
	}
}

/* Our side of queue @own as whom the index says, or NULL. */
static const struct vine_queue *find(const struct victim *v, u32 side, u32 index, u32 gen)
{
	const struct vine_queue *q;
	u32 i;

	for (i = 0; i <= QUEUES; i++) {
		q = v->queue[i];
		if (q && q->side == side && q->index == index && q->gen == gen &&
		    (side == VINE_SIDE_CLIENT || q->slot == v->peer->core.slot))
			return q;
	}
	return NULL;
}

/* Queues that we have made: each has rings of its own in a ring region of ours. */
static void check_own_queues(const struct victim *v)
{
	static u64 taken[VINE_MAX_REGIONS];
	const struct vine_core *c = &v->peer->core;
	const struct vine_own_queue *own;
	const struct vine_use *use;
	const struct vine_queue *q;
	u32 i, closing = 0;

	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		own = &c->own_queue[i];
		if (!own->gen) {
			MUST(!own->closing && !own->served && !own->client, "no queue");
			continue;
		}
		use = &c->use[own->region];
		MUST(use->id && use->own && use->rings, "own queue");
		MUST(own->ring_slot < use->slots, "own queue");
		MUST(use->busy >> own->ring_slot & 1, "own queue");
		MUST(!(taken[own->region] >> own->ring_slot & 1), "own queue");
		taken[own->region] |= 1ULL << own->ring_slot;
		MUST(VINE_RINGS_OFFSET(own->rings) == (u64)own->ring_slot * use->slot_bytes,
		     "own queue");
		q = find(v, VINE_SIDE_CLIENT, i, own->gen);
		MUST(own->client == q && own->closing == !q, "own queue");
		MUST(own->served == !!find(v, VINE_SIDE_SERVER, i, own->gen), "own queue");
		closing += own->closing;
	}
	MUST(c->closing == closing, "own queues");
	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		MUST(c->use[i].id ? c->use[i].busy == taken[i] : !taken[i], "ring slots");
		taken[i] = 0;
	}
	for (i = 0; i <= QUEUES; i++) {
		q = v->queue[i];
		MUST(!q || q->side != VINE_SIDE_CLIENT || c->own_queue[q->index].client == q,
		     "client's side");
	}
}

void queue_rings(const struct vine_queue *q, u64 *from, u64 *to)
{
	const struct vine_wire_ring *first =
		q->side == VINE_SIDE_CLIENT ? q->tx.ring : q->rx.ring;

	*from = (u64)((const u8 *)first - world->base);
	*to = *from + 2 * VINE_RING_BYTES(q->tx.depth);
}

/* The rings of our open queues lie in memory that is ours to use, and apart. */
static void check_queues(struct victim *v)
{
	const struct vine_core *c = &v->peer->core;
	u64 from[QUEUES + 1], to[QUEUES + 1], begin;
	const struct vine_use *use;
	const struct vine_queue *q, *other;
	u32 i, k, depth;

	for (i = 0; i <= QUEUES; i++) {
		q = v->queue[i];
		if (!q)
			continue;
		use = vine_region_use(&v->peer->core, q->region);
		MUST(use && use->rings && use->own == (q->side == VINE_SIDE_CLIENT ||
						       q->slot == c->slot), "queue");
		MUST(q->side == VINE_SIDE_CLIENT || (use->slot == q->slot && use->inc == q->inc),
		     "queue");
		depth = q->tx.depth;
		MUST(depth == q->rx.depth && depth >= VINE_MIN_DEPTH &&
		     depth <= VINE_MAX_DEPTH && !(depth & (depth - 1)), "queue");
		queue_rings(q, &from[i], &to[i]);
		begin = vine_chunk_offset(c, use->first);
		MUST(from[i] >= begin && from[i] % 64 == 0 &&
		     to[i] <= begin + ((u64)use->count << c->geo.shift), "rings");
		MUST(q->tx.tail - q->tx.consumed <= depth, "producer");
		MUST(q->tx.told <= q->tx.tail, "producer");
		MUST(q->rx.head - q->rx.published <= depth, "consumer");
		for (k = 0; k < i; k++) {
			other = v->queue[k];
			if (!other || from[i] >= to[k] || from[k] >= to[i])
				continue;
			/* both sides of our own; or a client lies about its own memory */
			MUST(use->own ? q->side != other->side && q->index == other->index &&
			     q->gen == other->gen : q->side == other->side, "rings that overlap");
		}
	}
}

void check_victim(struct victim *v)
{
	if (!v->joined)
		return;
	check_uses(v);
	check_grants(v);
	check_own_queues(v);
	check_queues(v);
}

void check_bystander(const struct vine_use *rings)
{
	u32 i;

	for (i = 0; i < rings->count; i++)
		MUST(!victim[1].joined || !victim[1].peer->chunk_use[rings->first + i],
		     "the bystander's chunks");
}

void check_empty(struct victim *v)
{
	const struct vine_core *c = &v->peer->core;
	u32 i;

	check_victim(v);
	MUST(!c->closing, "after all is closed");
	for (i = 0; i < VINE_MAX_QUEUES; i++)
		MUST(!c->own_queue[i].gen, "after all is closed");
	for (i = 0; i < VINE_MAX_REGIONS; i++)
		MUST(!c->use[i].id, "after all is closed");
}

void check_clean(void)
{
	struct vine_core *c = &victim[0].peer->core;
	const __le64 *hold;
	u32 i, k;

	for (i = 0; i < VINE_MAX_PEERS; i++)
		MUST(!VINE_PEER_STATE(vine_ld64(&vine_peer(c, i)->word)), "peer, after leaving");
	for (i = 0; i < VINE_MAX_SERVICES; i++)
		MUST(!VINE_CTL_STATE(vine_ld64(&vine_service(c, i)->ctl)),
		     "service, after leaving");
	for (i = 0; i < VINE_MAX_QUEUES; i++)
		MUST(!VINE_CTL_STATE(vine_ld64(&vine_queue_entry(c, i)->ctl)),
		     "queue, after leaving");
	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		MUST(!VINE_CTL_STATE(vine_ld64(&vine_region_entry(c, i)->ctl)),
		     "region, after leaving");
		hold = (const __le64 *)vine_region_entry(c, i)->hold;
		for (k = 0; k < VINE_MAX_PEERS / 2; k++)
			MUST(!hold[k], "hold, after leaving");
	}
	for (i = 0; i < c->geo.chunks; i++)
		MUST(!vine_ld64(vine_chunk_word(c, i)), "chunk, after leaving");
}
