// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * query.c - what the tables say; an administrator's word
 *
 * Who has the file can read all of it, so all of it is told.
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
				.id = vine_service_id(seen.index, seen.gen), .type = seen.type,
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
	return vine_describe_peer(&ep->core, i, HOST_TICK_MS, record);
}

static bool query_service(struct host_endpoint *ep, u32 i, void *record)
{
	struct host_listener *lf = ep->listeners[i];
	struct vine_query_service *r = record;

	if (!vine_describe_service(&ep->core, i, lf ? &lf->listener : NULL, r))
		return false;
	if (lf)
		r->pid = getpid();
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
	struct vine_query_queue *r = record;
	u32 waiting;

	if (!vine_describe_queue(&ep->core, i, r))
		return false;
	if (client) {
		r->flags |= VINE_QUERY_CLIENT;
		r->client_pid = getpid();
		count_messages(client, &r->to_client, &r->to_server);
	}
	if (server) {
		r->flags |= VINE_QUERY_SERVER;
		r->server_pid = getpid();
		count_messages(server, &r->to_server, &waiting);
		if (!client)
			r->to_client = waiting;
	}
	if ((client && READ_ONCE(client->queue.broken)) ||
	    (server && READ_ONCE(server->queue.broken)))
		r->flags |= VINE_QUERY_BROKEN;
	return true;
}

static bool query_region(struct host_endpoint *ep, u32 i, void *record)
{
	struct vine_query_region *r = record;

	if (!vine_describe_region(&ep->core, i, r))
		return false;
	if (r->users && !(r->flags & VINE_QUERY_RINGS))
		r->pid = getpid();
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

/* A process on this host that is only stopped goes on writing: there, to kill it is what helps. */
static bool lives_here(struct host_endpoint *ep, const struct vine_bury *b)
{
	u64 word;

	if (b->peer >= VINE_MAX_PEERS)
		return false;
	word = vine_ld64_acquire(&vine_peer(&ep->core, b->peer)->word);
	return VINE_PEER_STATE(word) == VINE_PEER_SUSPECT && word & VINE_PEER_HOST &&
		VINE_PEER_INC(word) == b->incarnation && !ep->ops.dead(&ep->core, b->peer);
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
	err = lives_here(ep, b) ? -EBUSY : vine_peer_bury(&ep->core, b->peer, b->incarnation);
	pthread_mutex_unlock(&ep->control);
	return err;
}
