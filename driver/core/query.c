// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * query.c - what the tables say, for people
 *
 * Others write the tables while they are read: each word is read once, and passed on as
 * it is. What is ours stands in private records.
 */
#include "core.h"
#include <linux/vine.h>

/* linux/vine.h has the states of the wire under names of its own. */
#define SAME_STATE(state)	_Static_assert(VINE_QUERY_##state == VINE_##state, #state)

SAME_STATE(PEER_LIVE);
SAME_STATE(PEER_SUSPECT);
SAME_STATE(PEER_GONE);
SAME_STATE(SERVICE_CLAIM);
SAME_STATE(SERVICE_LIVE);
SAME_STATE(QUEUE_CLAIM);
SAME_STATE(QUEUE_CONNECTING);
SAME_STATE(QUEUE_ACCEPTED);
SAME_STATE(QUEUE_REFUSED);
SAME_STATE(QUEUE_CANCELLED);
SAME_STATE(REGION_CLAIM);
SAME_STATE(REGION_LIVE);
SAME_STATE(REGION_DYING);

bool vine_describe_peer(struct vine_core *c, u32 i, u32 tick_ms, struct vine_query_peer *r)
{
	u64 word = vine_ld64_acquire(&vine_peer(c, i)->word);

	if (VINE_PEER_STATE(word) == VINE_PEER_FREE)
		return false;
	r->peer = i;
	r->incarnation = VINE_PEER_INC(word);
	r->state = VINE_PEER_STATE(word);
	r->ivposition = VINE_PEER_IVPOS(word);
	r->vectors = VINE_PEER_VECTORS(word);
	r->beats = vine_ld64(&vine_peer(c, i)->beat);
	if (i == c->slot && r->incarnation == c->inc)
		r->flags |= VINE_QUERY_OWN;
	else if (VINE_PEER_INC(c->seen[i].word) == r->incarnation)
		r->silent_ms = (u64)c->seen[i].idle * tick_ms;
	return true;
}

/*
 * How many of 64 queues, of which some have a bit in the backlog, wait for @server? Bits
 * outlive those who have given up.
 */
static u32 vine_count_waiting(struct vine_core *c, u32 first, u64 bits, u64 server)
{
	struct vine_wire_queue *e;
	u32 count = 0;

	for (; bits; bits &= bits - 1) {
		e = vine_queue_entry(c, first + vine_lowest_bit(bits));
		count += VINE_CTL_STATE(vine_ld64_acquire(&e->ctl)) == VINE_QUEUE_CONNECTING &&
			vine_ld64(&e->server) == server;
	}
	return count;
}

bool vine_describe_service(struct vine_core *c, u32 i, const struct vine_listener *own,
			   struct vine_query_service *r)
{
	struct vine_wire_service *s = vine_service(c, i);
	u64 ctl = vine_ld64_acquire(&s->ctl), server, bits;
	u32 n;

	if (VINE_CTL_STATE(ctl) == VINE_SERVICE_FREE)
		return false;
	r->id = vine_service_id(i, VINE_CTL_GEN(ctl));
	r->type = vine_ld64(&s->type);
	r->peer = VINE_CTL_SLOT(ctl);
	r->incarnation = VINE_CTL_INC(ctl);
	r->state = VINE_CTL_STATE(ctl);
	for (n = 0; n < VINE_SERVICE_NAME - 1; n++)
		r->name[n] = READ_ONCE(s->name[n]);
	server = VINE_SERVER(VINE_CTL_GEN(ctl), r->incarnation, r->peer, i);
	for (n = 0; n < ARRAY_SIZE(s->backlog); n++) {
		bits = vine_ld64(&s->backlog[n]);
		if (own)
			bits |= own->pending[n];
		r->waiting += vine_count_waiting(c, n * 64, bits, server);
	}
	if (own)
		r->flags |= VINE_QUERY_OWN;
	return true;
}

bool vine_describe_queue(struct vine_core *c, u32 i, struct vine_query_queue *r)
{
	struct vine_wire_queue *e = vine_queue_entry(c, i);
	u64 ctl = vine_ld64_acquire(&e->ctl), word;
	u32 shift, n;

	if (VINE_CTL_STATE(ctl) == VINE_QUEUE_FREE)
		return false;
	r->queue = i;
	r->state = VINE_CTL_STATE(ctl);
	r->client = VINE_CTL_SLOT(ctl);
	r->client_incarnation = VINE_CTL_INC(ctl);
	word = vine_ld64(&e->server);
	r->server = VINE_SERVER_SLOT(word);
	r->server_incarnation = VINE_SERVER_INC(word);
	r->service = vine_service_id(VINE_SERVER_SERVICE(word), VINE_SERVER_GEN(word));
	shift = VINE_RINGS_SHIFT(vine_ld64(&e->rings));
	if (shift < 32 && 1U << shift >= VINE_MIN_DEPTH && 1U << shift <= VINE_MAX_DEPTH)
		r->depth = 1U << shift;
	for (n = 0; n < VINE_MAX_ATTACH; n++)
		r->attached += !!vine_ld64(&e->attach[n]);
	r->to_server = VINE_QUERY_UNKNOWN;
	r->to_client = VINE_QUERY_UNKNOWN;
	return true;
}

bool vine_describe_region(struct vine_core *c, u32 i, struct vine_query_region *r)
{
	struct vine_wire_region *e = vine_region_entry(c, i);
	const struct vine_use *use = &c->use[i];
	u64 ctl = vine_ld64_acquire(&e->ctl), count;
	u32 n;

	if (VINE_CTL_STATE(ctl) == VINE_REGION_FREE)
		return false;
	r->id = VINE_REGION_ID(VINE_CTL_GEN(ctl), i);
	r->peer = VINE_CTL_SLOT(ctl);
	r->incarnation = VINE_CTL_INC(ctl);
	r->state = VINE_CTL_STATE(ctl);
	count = VINE_EXTENT_COUNT(vine_ld64(&e->extent));
	if (count <= c->geo.chunks)
		r->bytes = count << c->geo.shift;
	for (n = 0; n < VINE_MAX_PEERS; n++)
		if (vine_ld32(&e->hold[n]))
			r->holders |= 1ULL << n;
	if (use->id == r->id) {
		r->users = use->refs;
		r->flags |= use->own ? VINE_QUERY_OWN : 0;
		r->flags |= use->rings ? VINE_QUERY_RINGS : 0;
	}
	return true;
}
