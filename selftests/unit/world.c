// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * world.c - a segment in private memory, and peers on it
 */
#include <stdio.h>
#include <sys/mman.h>
#include "world.h"

#define GUARD	(1ULL << 20)	/* unmapped, on both sides */

static void doorbell(struct vine_core *core, u32 ivpos, u32 vector)
{
	struct world *w = ((struct peer *)core)->w;

	__atomic_fetch_add(&w->bells, 1, __ATOMIC_RELAXED);
	if (ivpos < WORLD_PEERS && vector < 64)
		__atomic_fetch_add(&w->bell[ivpos][vector], 1, __ATOMIC_RELAXED);
	if (w->on_bell && !w->deaf)
		w->on_bell(w, ivpos, vector);
}

static void wake(struct vine_core *core, __le64 *bell)
{
	struct world *w = ((struct peer *)core)->w;

	(void)bell;
	__atomic_fetch_add(&w->wakes, 1, __ATOMIC_RELAXED);
}

static bool lock_slot(struct vine_core *core, u32 slot, bool on)
{
	struct peer *p = (struct peer *)core;

	if (p->w->locked[slot] && p->w->locked[slot] != p)
		return false;
	p->w->locked[slot] = on ? p : NULL;
	return true;
}

static bool dead(struct vine_core *core, u32 slot)
{
	return !((struct peer *)core)->w->locked[slot];
}

static const struct vine_ops machine_ops = { .doorbell = doorbell };
static const struct vine_ops host_ops = {
	.doorbell = doorbell, .wake = wake, .lock = lock_slot, .dead = dead,
};

static const struct vine_ops *ops(const struct peer *p)
{
	return p->host ? &host_ops : &machine_ops;
}

static void fatal(const char *what)
{
	printf("Bail out! %s\n", what);
	exit(2);
}

struct world *world_new(u64 size)
{
	struct world *w = calloc(1, sizeof(*w));

	w->size = size ? size : WORLD_SIZE;
	w->base = mmap(NULL, w->size + 2 * GUARD, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->base == MAP_FAILED)
		fatal("no memory");
	w->base += GUARD;
	if (mprotect(w->base, w->size, PROT_READ | PROT_WRITE) ||
	    vine_segment_open(w->base, w->size, &w->geo))
		fatal("no segment");
	return w;
}

void world_free(struct world *w)
{
	u32 i;

	for (i = 0; i < WORLD_PEERS; i++) {
		if (!w->peer[i])
			continue;
		free(w->peer[i]->chunk_use);
		free(w->peer[i]);
	}
	munmap(w->base - GUARD, w->size + 2 * GUARD);
	free(w);
}

struct peer *world_peer(struct world *w, u32 i)
{
	struct peer *p = w->peer[i];

	if (p)
		return p;
	p = calloc(1, sizeof(*p));
	p->w = w;
	p->chunk_use = calloc(w->geo.chunks, sizeof(*p->chunk_use));
	p->ivpos = i;
	p->vectors = 2;
	p->unique = true;
	p->timeout = 5;
	w->peer[i] = p;
	return p;
}

static void got(void *arg, u32 leaf, u64 bits)
{
	struct peer *p = arg;

	p->got[leaf] |= bits;
}

u64 peer_drain(struct peer *p, u32 leaf)
{
	u32 v;

	memset(p->got, 0, sizeof(p->got));
	for (v = 0; v < (p->vectors ? p->vectors : 1); v++)
		vine_drain(&p->core, v, got, p);
	return p->got[leaf];
}

int peer_join(struct peer *p)
{
	int err;

	vine_core_init(&p->core, p->w->base, &p->w->geo, p->chunk_use, ops(p));
	err = vine_join(&p->core, p->ivpos, p->vectors, p->unique, p->timeout);
	if (err)
		vine_core_init(&p->core, p->w->base, &p->w->geo, p->chunk_use, ops(p));
	else
		peer_drain(p, 0);
	return err;
}

void peer_leave(struct peer *p)
{
	vine_leave(&p->core);
	if (p->host)
		lock_slot(&p->core, p->core.slot, false);
	vine_core_init(&p->core, p->w->base, &p->w->geo, p->chunk_use, ops(p));
}

struct world *world_with(u32 n)
{
	struct world *w = world_new(0);
	u32 i;

	for (i = 0; i < n; i++)
		if (peer_join(world_peer(w, i)))
			fatal("a peer cannot join");
	return w;
}

static __le64 *slot_word(struct world *w, u32 slot)
{
	return &((struct vine_wire_peer *)(w->base + VINE_OFF_PEERS))[slot].word;
}

void world_bury(struct world *w, u32 slot)
{
	u64 old, new;

	do {
		old = vine_ld64(slot_word(w, slot));
		if (VINE_PEER_STATE(old) != VINE_PEER_LIVE &&
		    VINE_PEER_STATE(old) != VINE_PEER_SUSPECT)
			return;
		new = (old & ~0xffULL) | VINE_PEER_GONE;
	} while (vine_cas64(slot_word(w, slot), old, new) != old);
}

u32 world_chunks_free(struct world *w)
{
	__le64 *map = (__le64 *)(w->base + VINE_OFF_CHUNKMAP);
	u32 i, n = 0;

	for (i = 0; i < w->geo.chunks; i++)
		n += !vine_ld64(&map[i]);
	return n;
}

static u32 world_holds(struct world *w)
{
	struct vine_wire_region *r = (struct vine_wire_region *)(w->base + VINE_OFF_REGIONS);
	u32 i, k, n = 0;

	for (i = 0; i < VINE_MAX_REGIONS; i++)
		for (k = 0; k < VINE_MAX_PEERS; k++)
			n += !!vine_ld32(&r[i].hold[k]);
	return n;
}

bool world_clean(struct world *w)
{
	struct peer *last = world_peer(w, WORLD_PEERS - 1);
	struct vine_usage u;
	u32 i, holds;
	bool ok;

	if (peer_join(last)) {
		printf("# the last peer cannot join\n");
		return false;
	}
	for (i = 0; i < 3 + w->geo.chunks / 1024; i++)
		vine_tick(&last->core);
	vine_usage(&last->core, &u);
	holds = world_holds(w);
	ok = u.peers == 1 && !u.services && !u.queues && !u.regions && !holds &&
		u.chunks_free == u.chunks && !u.own_queues && !u.own_regions;
	if (!ok)
		printf("# left: %u peers, %u services, %u queues, %u regions, %u holds, %u of %u chunks\n",
		       u.peers - 1, u.services, u.queues, u.regions, holds,
		       u.chunks - u.chunks_free, u.chunks);
	peer_leave(last);
	for (i = 0; i < VINE_MAX_PEERS; i++)
		ok &= VINE_PEER_STATE(vine_ld64(slot_word(w, i))) == VINE_PEER_FREE;
	return ok;
}

bool peer_private_ok(struct peer *p)
{
	u32 i, k, used = 0, counted = 0;
	struct vine_use *use;

	for (i = 0; i < VINE_MAX_REGIONS; i++) {
		use = &p->core.use[i];
		if (!use->id)
			continue;
		if (VINE_REGION_INDEX(use->id) != i || !use->refs || !use->count ||
		    use->first >= p->core.geo.chunks ||
		    use->count > p->core.geo.chunks - use->first)
			return false;
		for (k = 0; k < use->count; k++)
			if (p->chunk_use[use->first + k] != i + 1)
				return false;
		counted += use->count;
	}
	for (i = 0; i < p->core.geo.chunks; i++)
		used += !!p->chunk_use[i];
	return used == counted;
}

bool world_private_ok(struct world *w)
{
	u32 i, k, chunk;
	u64 id, other;

	for (i = 0; i < WORLD_PEERS; i++) {
		if (!w->peer[i] || !w->peer[i]->core.inc)
			continue;
		if (!peer_private_ok(w->peer[i])) {
			printf("# the records of peer %u contradict themselves\n", i);
			return false;
		}
	}
	for (chunk = 0; chunk < w->geo.chunks; chunk++) {
		id = 0;
		for (i = 0; i < WORLD_PEERS; i++) {
			if (!w->peer[i] || !w->peer[i]->core.inc)
				continue;
			k = w->peer[i]->chunk_use[chunk];
			other = k ? w->peer[i]->core.use[k - 1].id : 0;
			if (id && other && id != other) {
				printf("# chunk %u is in use as %#llx and as %#llx\n", chunk,
				       (unsigned long long)id, (unsigned long long)other);
				return false;
			}
			id = other ? other : id;
		}
	}
	return true;
}

u64 rnd(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

int world_offer(struct peer *server, struct vine_listener *l, const char *name)
{
	return vine_service_offer(&server->core, l, name, 7);
}

int world_find(struct peer *client, const char *name, struct vine_service_seen *seen)
{
	return vine_service_find(&client->core, 0, (const u8 *)name, seen) ? 0 : -ENOENT;
}

int world_pair(struct peer *client, struct peer *server, u32 depth,
	       struct vine_queue *cq, struct vine_queue *sq)
{
	struct vine_service_seen seen;
	struct vine_listener l;
	int err;

	err = world_offer(server, &l, "pair");
	if (!err)
		err = world_find(client, "pair", &seen);
	if (!err)
		err = vine_queue_connect(&client->core, cq, &seen, depth);
	if (!err)
		err = vine_queue_accept(&server->core, &l, sq);
	if (!err)
		err = vine_connect_result(cq);
	vine_service_withdraw(&server->core, &l);
	return err;
}

bool send_one(struct vine_queue *q, u64 value, u32 bytes)
{
	struct vine_cell m = { .bytes = bytes };
	u32 i;

	if (vine_ring_space(&q->tx, 1) < 1)
		return false;
	for (i = 0; i < ARRAY_SIZE(m.word); i++)
		m.word[i] = value + i;
	vine_ring_push(&q->tx, &m);
	if (vine_ring_pushed(&q->tx))
		vine_queue_notify(q);
	return true;
}

int recv_one(struct vine_queue *q, u64 *value)
{
	struct vine_cell m;
	u32 i;
	int n = vine_ring_peek(&q->rx, 0, &m);

	if (n != 1)
		return n;
	for (i = 1; i < ARRAY_SIZE(m.word); i++)
		if (m.word[i] != m.word[0] + i)
			return -EILSEQ;
	*value = m.word[0];
	if (vine_ring_consume(&q->rx, 1))
		vine_queue_notify(q);
	return 1;
}
