/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * world.h - a segment in private memory, and peers on it
 */
#ifndef WORLD_H
#define WORLD_H

#include <core.h>

#define WORLD_PEERS	65		/* one more than fit */
#define WORLD_SIZE	(16ULL << 20)

struct world;

struct peer {
	struct vine_core core;
	struct world *w;
	u32 *chunk_use;
	u32 ivpos, vectors, timeout;
	bool unique;
	bool host;		/* a process on the host */
	u64 got[VINE_LEAVES];	/* what peer_drain() has found */
};

struct world {
	u8 *base;
	u64 size;
	struct vine_geometry geo;
	struct peer *peer[WORLD_PEERS];
	bool deaf;		/* doorbells are dropped, as hardware may */
	u64 bells;		/* rung, dropped ones too */
	u64 wakes;		/* the same without a device, between processes */
	struct peer *locked[VINE_MAX_PEERS];	/* which process has the slot's lock */
	u64 bell[WORLD_PEERS][64];	/* the same by IVPosition and vector */
	/* called for a doorbell that is not dropped; may be NULL */
	void (*on_bell)(struct world *w, u32 ivpos, u32 vector);
};

/* A blank segment of @size bytes (0: WORLD_SIZE), formatted; no peers. */
struct world *world_new(u64 size);
void world_free(struct world *w);

/* Peer @i with IVPosition @i, 2 vectors, timeout of 5 ticks; made but not joined. */
struct peer *world_peer(struct world *w, u32 i);

/* Peers 0..n-1, joined. Failure is fatal. */
struct world *world_with(u32 n);

/* As vine_join(): fresh private state, then the drain that it asks for. */
int peer_join(struct peer *p);
void peer_leave(struct peer *p);

/* Drains every vector into ->got. Returns the bits of @leaf that came. */
u64 peer_drain(struct peer *p, u32 leaf);

/* Says GONE of a peer's slot, as vine-server would. */
void world_bury(struct world *w, u32 slot);

/*
 * When nobody has joined any more: a last peer comes, ticks and leaves. Is every
 * chunk, queue, region, service, hold and slot free? Says what is not.
 */
bool world_clean(struct world *w);

/* Chunks that are free by the table. */
u32 world_chunks_free(struct world *w);

/*
 * Do the private records of the living peers agree with themselves and with each
 * other: no chunk in use under two identities?
 */
bool world_private_ok(struct world *w);
bool peer_private_ok(struct peer *p);

/* As a hostile peer would. */
static inline void vine_st32(__le32 *p, u32 v)
{
	__atomic_store_n(p, v, __ATOMIC_RELAXED);
}

/* A deterministic random number. */
u64 rnd(u64 *state);

/* ---- queues ---- */

/* Offers @name at @server; the client's view of it in @seen. */
int world_offer(struct peer *server, struct vine_listener *l, const char *name);
int world_find(struct peer *client, const char *name, struct vine_service_seen *seen);

/* A connected queue between two peers by way of a service of its own. */
int world_pair(struct peer *client, struct peer *server, u32 depth,
	       struct vine_queue *cq, struct vine_queue *sq);

/* One message of @n bytes with @value in it, the wanted one as well. */
bool send_one(struct vine_queue *q, u64 value, u32 bytes);
int recv_one(struct vine_queue *q, u64 *value);

#endif /* WORLD_H */
