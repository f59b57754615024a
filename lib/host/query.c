// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * query.c - what the tables say; an administrator's word
 *
 * Who has the file can read all of it, so all of it is told. Other machines write while it
 * is read: each word is read once, and passed on as it is.
 */
#include "host/endpoint.h"

#include <sys/stat.h>
#include <unistd.h>

int host_do_info(struct host_endpoint *ep, struct vine_info *info)
{
	struct vine_usage usage;
	int err;

	if (info->flags)
		return -EOPNOTSUPP;
	err = host_control(ep, 0);
	if (err)
		return err;
	vine_usage(&ep->core, &usage);
	*info = (struct vine_info){
		.size = info->size, .segment_size = ep->geo.size,
		.generation = ep->core.generation, .chunk_size = 1ULL << ep->geo.shift,
		.chunks = usage.chunks, .chunks_free = usage.chunks_free,
		.peer = ep->core.slot, .incarnation = ep->core.inc,
		.vectors = ep->core.vectors, .ivposition = ep->ivposition,
		.memory_type = VINE_MEMORY_CACHED, .kind = VINE_KIND_HOST,
		.peers = usage.peers, .services = usage.services, .queues = usage.queues,
		.regions = usage.regions, .own_queues = usage.own_queues,
		.own_regions = usage.own_regions,
	};
	pthread_mutex_unlock(&ep->control);
	return 0;
}

int host_do_services(struct host_endpoint *ep, struct vine_services *s)
{
	struct vine_service *to = (struct vine_service *)(uintptr_t)s->array;
	u32 room = s->count, count = 0, i;
	struct vine_service_seen seen;
	int err;

	if (s->flags)
		return -EOPNOTSUPP;
	if (s->reserved)
		return -EINVAL;
	err = host_control(ep, 0);
	if (err)
		return err;
	for (i = 0; i < VINE_MAX_SERVICES; i++) {
		if (!vine_service_read(&ep->core, i, &seen))
			continue;
		if (count < room) {
			to[count] = (struct vine_service){
				.id = host_service_id(seen.index, seen.gen), .type = seen.type,
				.peer = seen.slot, .incarnation = seen.inc,
			};
			memcpy(to[count].name, seen.name, strlen(seen.name));
		}
		count++;
	}
	pthread_mutex_unlock(&ep->control);
	s->count = count;
	return 0;
}

/* ---- the tables: each function is called with control, and @record zeroed ---- */

static bool query_peer(struct host_endpoint *ep, u32 i, void *record)
{
	struct vine_query_peer *r = record;
	struct vine_core *c = &ep->core;
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
		r->silent_ms = (u64)c->seen[i].idle * HOST_TICK_MS;
	return true;
}

static bool query_service(struct host_endpoint *ep, u32 i, void *record)
{
	struct vine_query_service *r = record;
	struct vine_core *c = &ep->core;
	struct vine_wire_service *s = vine_service(c, i);
	struct host_listener *lf = ep->listeners[i];
	u64 ctl = vine_ld64_acquire(&s->ctl), server, bits;
	struct vine_wire_queue *e;
	u32 n;

	if (VINE_CTL_STATE(ctl) == VINE_SERVICE_FREE)
		return false;
	r->id = host_service_id(i, VINE_CTL_GEN(ctl));
	r->type = vine_ld64(&s->type);
	r->peer = VINE_CTL_SLOT(ctl);
	r->incarnation = VINE_CTL_INC(ctl);
	r->state = VINE_CTL_STATE(ctl);
	for (n = 0; n < VINE_SERVICE_NAME - 1; n++)
		r->name[n] = READ_ONCE(s->name[n]);
	server = VINE_SERVER(VINE_CTL_GEN(ctl), r->incarnation, r->peer, i);
	for (n = 0; n < ARRAY_SIZE(s->backlog); n++) {
		bits = vine_ld64(&s->backlog[n]) | (lf ? lf->listener.pending[n] : 0);
		for (; bits; bits &= bits - 1) {	/* they outlive those who gave up */
			e = vine_queue_entry(c, n * 64 + vine_lowest_bit(bits));
			r->waiting += vine_ld64(&e->server) == server &&
				VINE_CTL_STATE(vine_ld64(&e->ctl)) == VINE_QUEUE_CONNECTING;
		}
	}
	if (lf) {
		r->flags |= VINE_QUERY_OWN;
		r->pid = getpid();
	}
	return true;
}

/* The messages that wait in the two directions of a queue, as our side sees them. */
static void count_messages(struct host_queue *q, u32 *to_us, u32 *from_us)
{
	int space;

	pthread_mutex_lock(&q->rx);
	*to_us = vine_ring_waiting(&q->queue.rx);
	pthread_mutex_unlock(&q->rx);
	pthread_mutex_lock(&q->tx);
	space = vine_ring_space(&q->queue.tx, q->queue.tx.depth);
	*from_us = space < 0 ? VINE_QUERY_UNKNOWN : q->queue.tx.depth - space;
	pthread_mutex_unlock(&q->tx);
}

static bool query_queue(struct host_endpoint *ep, u32 i, void *record)
{
	struct host_queue *client = ep->queues[VINE_SIDE_CLIENT][i];
	struct host_queue *server = ep->queues[VINE_SIDE_SERVER][i];
	struct vine_wire_queue *e = vine_queue_entry(&ep->core, i);
	struct vine_query_queue *r = record;
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
	r->service = host_service_id(VINE_SERVER_SERVICE(word), VINE_SERVER_GEN(word));
	shift = VINE_RINGS_SHIFT(vine_ld64(&e->rings));
	if (shift < 32 && 1U << shift >= VINE_MIN_DEPTH && 1U << shift <= VINE_MAX_DEPTH)
		r->depth = 1U << shift;
	for (n = 0; n < VINE_MAX_ATTACH; n++)
		r->attached += !!vine_ld64(&e->attach[n]);
	r->to_server = VINE_QUERY_UNKNOWN;
	r->to_client = VINE_QUERY_UNKNOWN;
	if (client) {
		r->flags |= VINE_QUERY_CLIENT;
		r->client_pid = getpid();
		count_messages(client, &r->to_client, &r->to_server);
	}
	if (server) {
		r->flags |= VINE_QUERY_SERVER;
		r->server_pid = getpid();
		count_messages(server, &r->to_server, &n);
		if (!client)
			r->to_client = n;
	}
	if ((client && READ_ONCE(client->queue.broken)) ||
	    (server && READ_ONCE(server->queue.broken)))
		r->flags |= VINE_QUERY_BROKEN;
	return true;
}

static bool query_region(struct host_endpoint *ep, u32 i, void *record)
{
	struct vine_query_region *r = record;
	struct vine_core *c = &ep->core;
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
		r->pid = use->rings ? 0 : getpid();
	}
	return true;
}

static const struct table {
	u32 entries, size;
	bool (*read)(struct host_endpoint *ep, u32 i, void *record);	/* false: it is free */
} tables[] = {
	[VINE_QUERY_PEERS] = { VINE_MAX_PEERS, sizeof(struct vine_query_peer), query_peer },
	[VINE_QUERY_SERVICES] = {
		VINE_MAX_SERVICES, sizeof(struct vine_query_service), query_service
	},
	[VINE_QUERY_QUEUES] = { VINE_MAX_QUEUES, sizeof(struct vine_query_queue), query_queue },
	[VINE_QUERY_REGIONS] = {
		VINE_MAX_REGIONS, sizeof(struct vine_query_region), query_region
	},
};

int host_do_query(struct host_endpoint *ep, struct vine_query *q)
{
	u32 room = q->count, count = 0, i;
	char *to = (char *)(uintptr_t)q->array;
	const struct table *table;
	union {
		struct vine_query_peer peer;
		struct vine_query_service service;
		struct vine_query_queue queue;
		struct vine_query_region region;
	} record;
	int err;

	if (q->flags)
		return -EOPNOTSUPP;
	if (!q->what || q->what >= ARRAY_SIZE(tables))
		return -EINVAL;
	table = &tables[q->what];
	err = host_control(ep, 0);
	if (err)
		return err;
	/* those who end take themselves off the tables with it, but wait for control then */
	pthread_mutex_lock(&ep->ready);
	for (i = 0; i < table->entries; i++) {
		memset(&record, 0, sizeof(record));
		if (!table->read(ep, i, &record))
			continue;
		if (count < room)
			memcpy(to + (size_t)count * table->size, &record, table->size);
		count++;
	}
	pthread_mutex_unlock(&ep->ready);
	pthread_mutex_unlock(&ep->control);
	q->count = count;
	return 0;
}

int host_do_bury(struct host_endpoint *ep, struct vine_bury *b)
{
	struct stat st;
	int err;

	if (b->flags)
		return -EOPNOTSUPP;
	if (geteuid() && (fstat(ep->segment->fd, &st) || st.st_uid != geteuid()))
		return -EPERM;
	err = host_control(ep, 0);
	if (err)
		return err;
	err = vine_peer_bury(&ep->core, b->peer, b->incarnation);
	pthread_mutex_unlock(&ep->control);
	return err;
}
