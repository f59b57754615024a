// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * queue.c - queues: connect, accept, close, recycle
 *
 * The client claims an entry and rings for it, fills both in, and says CONNECTING.
 * Its cancel and the server's accept race on that one word. Each side then has a
 * `closed` word of its own; the entry is FREE again, by anybody, once each side has
 * closed or its peer can write no more. Only then does the client use the rings'
 * memory again: rings are packed into ring regions, which are regions like others,
 * held by the client and by each server that has a queue in them.
 */
#include "core.h"

#define VINE_MAX_RING_SLOTS	64	/* rings packed into one region */

static u64 vine_ring_pair_bytes(u32 depth)
{
	return 2 * VINE_RING_BYTES(depth);
}

/* ---- where rings lie ---- */

/* A free slot of @bytes in one of our ring regions; makes a region if need be. */
static int vine_rings_get(struct vine_core *c, u32 bytes, u64 *region, u32 *slot)
{
	struct vine_use *use;
	u64 id;
	u32 i;
	int err;

	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		use = &c->use[i];
		if (!use->id || use->slot_bytes != bytes)
			continue;
		for (*slot = 0; *slot < use->slots; (*slot)++)
			if (!(use->busy >> *slot & 1))
				goto found;
	}
	err = vine_region_claim(c, bytes, &id);
	if (err)
		return err;
	use = &c->use[VINE_REGION_INDEX(id)];
	use->rings = true;
	use->slot_bytes = bytes;
	use->slots = min_t(u64, VINE_MAX_RING_SLOTS,
			   ((u64)use->count << c->geo.shift) / bytes);
	if (c->ops->room)
		err = c->ops->room(c, vine_chunk_offset(c, use->first),
				   (u64)use->count << c->geo.shift);
	if (!err)
		err = vine_region_publish(c, id);
	if (err) {
		vine_region_retire(c, id);
		return err;
	}
	*slot = 0;
found:
	use->busy |= 1ULL << *slot;
	*region = use->id;
	return 0;
}

static void vine_rings_put(struct vine_core *c, u32 index, u32 slot)
{
	struct vine_use *use = &c->use[index];

	use->busy &= ~(1ULL << slot);
	if (use->busy)
		return;
	use->slot_bytes = 0;	/* no new ring here, though it may live on */
	vine_region_retire(c, use->id);
}

/* Both rings of a queue: submissions, then completions. */
static void vine_rings_set(struct vine_queue *q, u64 offset, u32 depth)
{
	u8 *pair = q->core->base + offset;
	struct vine_wire_ring *submit = (struct vine_wire_ring *)pair;
	struct vine_wire_ring *complete =
		(struct vine_wire_ring *)(pair + VINE_RING_BYTES(depth));

	memset(&q->tx, 0, sizeof(q->tx));
	memset(&q->rx, 0, sizeof(q->rx));
	q->tx.depth = depth;
	q->rx.depth = depth;
	q->tx.ring = q->side == VINE_SIDE_CLIENT ? submit : complete;
	q->rx.ring = q->side == VINE_SIDE_CLIENT ? complete : submit;
}

/* ---- recycling ---- */

static bool vine_side_done(struct vine_core *c, const __le64 *closed, u32 gen,
			   u32 slot, u32 inc)
{
	return vine_ld64_acquire(closed) == gen || !vine_peer_current(c, slot, inc);
}

/* Frees entry @index if nobody can use it any more. Anybody may. */
static void vine_queue_finish(struct vine_core *c, u32 index)
{
	struct vine_wire_queue *e = vine_queue_entry(c, index);
	u64 ctl = vine_ld64_acquire(&e->ctl), server;
	u32 gen = VINE_CTL_GEN(ctl), slot = VINE_CTL_SLOT(ctl);
	bool client_done;

	if (VINE_CTL_STATE(ctl) == VINE_QUEUE_FREE)
		return;
	client_done = vine_side_done(c, &e->closed_client, gen, slot, VINE_CTL_INC(ctl));
	if (!client_done)
		return;
	if (VINE_CTL_STATE(ctl) == VINE_QUEUE_ACCEPTED) {
		server = vine_ld64(&e->server);
		if (!vine_side_done(c, &e->closed_server, gen, VINE_SERVER_SLOT(server),
				    VINE_SERVER_INC(server)))
			return;
	}
	vine_cas64(&e->ctl, ctl, VINE_CTL(gen, 0, 0, VINE_QUEUE_FREE));
}

/* Our entry @index, closed here: is it FREE, so that its rings can be used again? */
static void vine_own_reclaim(struct vine_core *c, u32 index)
{
	struct vine_own_queue *own = &c->own_queue[index];
	u64 ctl = vine_ld64_acquire(&vine_queue_entry(c, index)->ctl);

	/* what we serve ourselves we know to be in use, whatever the entry says */
	if (!own->closing || own->served ||
	    (VINE_CTL_STATE(ctl) != VINE_QUEUE_FREE && VINE_CTL_GEN(ctl) == own->gen))
		return;
	vine_rings_put(c, own->region, own->ring_slot);
	memset(own, 0, sizeof(*own));
	c->closing--;
}

void vine_queue_sweep(struct vine_core *c)
{
	u32 i;

	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		vine_queue_finish(c, i);
		if (c->closing)
			vine_own_reclaim(c, i);
	}
}

/* ---- the client ---- */

static u64 vine_client_ctl(const struct vine_queue *q, u32 state)
{
	return VINE_CTL(q->gen, q->core->inc, q->core->slot, state);
}

static bool vine_claim_queue(struct vine_core *c, struct vine_queue *q)
{
	struct vine_wire_queue *e;
	u64 old;
	u32 i;

	for (i = 0; i < VINE_MAX_QUEUES; i++) {
		e = vine_queue_entry(c, i);
		old = vine_ld64_acquire(&e->ctl);
		if (VINE_CTL_STATE(old) != VINE_QUEUE_FREE || c->own_queue[i].gen)
			continue;
		q->index = i;
		q->gen = vine_next(VINE_CTL_GEN(old));
		if (vine_cas64(&e->ctl, old, vine_client_ctl(q, VINE_QUEUE_CLAIM)) == old)
			return true;
	}
	return false;
}

int vine_queue_connect(struct vine_core *c, struct vine_queue *q,
		       const struct vine_service_seen *service, u32 depth)
{
	struct vine_wire_service *s = vine_service(c, service->index);
	struct vine_own_queue *own;
	struct vine_wire_queue *e;
	u32 ring_slot, bytes, i;
	u64 region, offset;
	int err;

	if (depth < VINE_MIN_DEPTH || depth > VINE_MAX_DEPTH || depth & (depth - 1))
		return -EINVAL;
	memset(q, 0, sizeof(*q));
	q->core = c;
	q->side = VINE_SIDE_CLIENT;
	q->slot = service->slot;
	q->inc = service->inc;
	q->service = service->index;
	if (!vine_claim_queue(c, q))
		return -ENOSPC;
	e = vine_queue_entry(c, q->index);
	bytes = (u32)vine_ring_pair_bytes(depth);
	err = vine_rings_get(c, bytes, &region, &ring_slot);
	if (err) {
		vine_cas64(&e->ctl, vine_client_ctl(q, VINE_QUEUE_CLAIM),
			   VINE_CTL(q->gen, 0, 0, VINE_QUEUE_FREE));
		return err;
	}
	q->region = region;
	offset = (u64)ring_slot * bytes;
	own = &c->own_queue[q->index];
	own->gen = q->gen;
	own->region = (u16)VINE_REGION_INDEX(region);
	own->ring_slot = (u8)ring_slot;
	own->rings = VINE_RINGS(vine_lowest_bit(depth), offset);
	own->client = q;
	vine_rings_set(q, vine_chunk_offset(c, vine_region_use(c, region)->first) + offset,
		       depth);
	memset(q->tx.ring, 0, bytes);	/* the submission ring comes first */
	vine_st64(&e->server, VINE_SERVER(service->gen, service->inc, service->slot,
					  service->index));
	vine_st64(&e->region, region);
	vine_st64(&e->rings, own->rings);
	for (i = 0; i < VINE_MAX_ATTACH; i++)
		vine_st64(&e->attach[i], 0);
	if (vine_cas64(&e->ctl, vine_client_ctl(q, VINE_QUEUE_CLAIM),
		       vine_client_ctl(q, VINE_QUEUE_CONNECTING)) !=
	    vine_client_ctl(q, VINE_QUEUE_CLAIM))
		goto lost;
	vine_set_bit64(&s->backlog[q->index / 64], q->index % 64);
	/* withdrawn meanwhile? It looked at the backlog after it said so */
	if (vine_ld64(&s->ctl) != VINE_CTL(service->gen, service->inc, service->slot,
					   VINE_SERVICE_LIVE))
		goto lost;
	vine_ready_mark(c, q->slot, VINE_LEAF_SERVICE + q->service / 64,
			q->service % 64);
	return 0;
lost:
	vine_queue_close(q);
	return -ECONNREFUSED;
}

int vine_connect_result(struct vine_queue *q)
{
	u64 ctl = vine_ld64_acquire(&vine_queue_entry(q->core, q->index)->ctl);

	if (ctl == vine_client_ctl(q, VINE_QUEUE_ACCEPTED))
		return 0;
	if (ctl == vine_client_ctl(q, VINE_QUEUE_CONNECTING) &&
	    vine_peer_live(q->core, q->slot, q->inc))
		return -EINPROGRESS;
	if (ctl == vine_client_ctl(q, VINE_QUEUE_CONNECTING) && !vine_connect_cancel(q))
		return -EINPROGRESS;	/* accepted just now: the next look sees it */
	if (ctl == vine_client_ctl(q, VINE_QUEUE_CONNECTING) ||
	    ctl == vine_client_ctl(q, VINE_QUEUE_CANCELLED) ||
	    ctl == vine_client_ctl(q, VINE_QUEUE_REFUSED))
		return -ECONNREFUSED;
	WRITE_ONCE(q->broken, true);
	return -EIO;
}

bool vine_connect_cancel(struct vine_queue *q)
{
	u64 old = vine_client_ctl(q, VINE_QUEUE_CONNECTING);

	return vine_cas64(&vine_queue_entry(q->core, q->index)->ctl, old,
			  vine_client_ctl(q, VINE_QUEUE_CANCELLED)) == old;
}

int vine_queue_attach(struct vine_queue *q, u64 id)
{
	const struct vine_use *use = vine_region_use(q->core, id);
	struct vine_wire_queue *e = vine_queue_entry(q->core, q->index);
	u32 i, at = VINE_MAX_ATTACH;

	if (q->side != VINE_SIDE_CLIENT || !use || !use->own || use->rings)
		return -EINVAL;
	for (i = 0; i < VINE_MAX_ATTACH; i++) {
		if (q->attach[i] == id)
			return 0;
		/* free, or of a region that is no more */
		if (at == VINE_MAX_ATTACH &&
		    (!q->attach[i] || !vine_region_use(q->core, q->attach[i])))
			at = i;
	}
	if (at == VINE_MAX_ATTACH)
		return -ENOSPC;
	q->attach[at] = id;
	vine_st64_release(&e->attach[at], id);
	return 0;
}

/* ---- the server ---- */

/*
 * Our own entry of this index, if @q is our connection to ourselves. An entry in the
 * segment that merely says so would give away what other processes here own.
 */
static struct vine_own_queue *vine_own_peer(const struct vine_queue *q)
{
	struct vine_own_queue *own = &q->core->own_queue[q->index];

	return q->slot == q->core->slot && own->gen == q->gen ? own : NULL;
}

/*
 * Takes queue @index if it asks for this service. -EAGAIN: it does not, or its
 * client was faster with its cancel.
 */
static int vine_accept_one(struct vine_core *c, struct vine_listener *l,
			   struct vine_queue *q, u32 index)
{
	struct vine_wire_queue *e = vine_queue_entry(c, index);
	u64 ctl = vine_ld64_acquire(&e->ctl), region, rings, offset;
	const struct vine_use *use;
	struct vine_own_queue *own;
	u32 shift;
	int err;

	if (VINE_CTL_STATE(ctl) != VINE_QUEUE_CONNECTING ||
	    VINE_CTL_SLOT(ctl) >= VINE_MAX_PEERS ||
	    vine_ld64(&e->server) != VINE_SERVER(l->gen, c->inc, c->slot, l->index))
		return -EAGAIN;
	memset(q, 0, sizeof(*q));
	q->core = c;
	q->side = VINE_SIDE_SERVER;
	q->index = index;
	q->gen = VINE_CTL_GEN(ctl);
	q->slot = VINE_CTL_SLOT(ctl);
	q->inc = VINE_CTL_INC(ctl);
	q->service = l->index;
	region = vine_ld64(&e->region);
	rings = vine_ld64(&e->rings);
	own = vine_own_peer(q);
	if (q->slot == c->slot && (!own || !own->client || own->served ||
				   own->rings != rings ||
				   c->use[own->region].id != region))
		goto refuse;
	/* hold first: once we have accepted, the rings are ours to write */
	err = vine_region_import(c, region, q->slot, q->inc, true);
	if (err)
		goto refuse;
	use = vine_region_use(c, region);
	shift = VINE_RINGS_SHIFT(rings);
	offset = VINE_RINGS_OFFSET(rings);
	if (shift > 12 || 1U << shift < VINE_MIN_DEPTH ||
	    offset > (u64)use->count << c->geo.shift ||
	    vine_ring_pair_bytes(1U << shift) > ((u64)use->count << c->geo.shift) - offset)
		goto put;
	vine_rings_set(q, vine_chunk_offset(c, use->first) + offset, 1U << shift);
	q->region = region;
	if (vine_cas64(&e->ctl, ctl, (ctl & ~0xffULL) | VINE_QUEUE_ACCEPTED) == ctl) {
		if (own)
			own->served = true;
		vine_queue_notify(q);
		return 0;
	}
put:
	vine_region_put(c, region);
refuse:
	if (vine_cas64(&e->ctl, ctl, (ctl & ~0xffULL) | VINE_QUEUE_REFUSED) == ctl)
		vine_queue_notify(q);
	return -EAGAIN;
}

int vine_queue_accept(struct vine_core *c, struct vine_listener *l, struct vine_queue *q)
{
	u32 i, bit;

	if (!vine_service_waiting(c, l))
		return -EAGAIN;
	for (i = 0; i < ARRAY_SIZE(l->pending); i++) {
		while (l->pending[i]) {
			bit = vine_lowest_bit(l->pending[i]);
			l->pending[i] &= l->pending[i] - 1;
			if (!vine_accept_one(c, l, q, i * 64 + bit))
				return 0;
		}
	}
	return -EAGAIN;
}

int vine_queue_import(struct vine_queue *q, u64 id)
{
	struct vine_wire_queue *e = vine_queue_entry(q->core, q->index);
	struct vine_own_queue *own = vine_own_peer(q);
	u64 attached;
	u32 i;

	if (q->side != VINE_SIDE_SERVER)
		return -EINVAL;
	for (i = 0; i < VINE_MAX_ATTACH; i++) {
		if (q->slot != q->core->slot)
			attached = vine_ld64_acquire(&e->attach[i]);
		else
			attached = own && own->client ? own->client->attach[i] : 0;
		if (id && attached == id)
			return vine_region_import(q->core, id, q->slot, q->inc, false);
	}
	return -ENOENT;
}

/* ---- both ---- */

bool vine_queue_hung(struct vine_queue *q)
{
	struct vine_wire_queue *e = vine_queue_entry(q->core, q->index);
	__le64 *closed = q->side == VINE_SIDE_CLIENT ? &e->closed_server :
						       &e->closed_client;

	if (READ_ONCE(q->hung))
		return true;
	if (vine_ld64_acquire(closed) != q->gen && vine_peer_live(q->core, q->slot, q->inc))
		return false;
	WRITE_ONCE(q->hung, true);
	return true;
}

void vine_queue_notify(struct vine_queue *q)
{
	u32 leaf = q->side == VINE_SIDE_CLIENT ? VINE_LEAF_SERVER : VINE_LEAF_CLIENT;

	vine_ready_mark(q->core, q->slot, leaf + q->index / 64, q->index % 64);
}

void vine_queue_close(struct vine_queue *q)
{
	struct vine_core *c = q->core;
	struct vine_wire_queue *e = vine_queue_entry(c, q->index);
	struct vine_own_queue *own = &c->own_queue[q->index];
	bool client = q->side == VINE_SIDE_CLIENT;

	if (client)
		vine_connect_cancel(q);
	vine_st64_release(client ? &e->closed_client : &e->closed_server, q->gen);
	vine_mb();	/* pairs with itself on the other side: one sees both */
	vine_queue_finish(c, q->index);
	vine_queue_notify(q);
	if (client) {
		own->client = NULL;
		own->closing = true;
		c->closing++;
	} else {
		vine_region_put(c, q->region);
		own = vine_own_peer(q);
		if (own)
			own->served = false;
	}
	vine_own_reclaim(c, q->index);
}
