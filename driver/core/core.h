/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * core.h - the protocol, as its two shells (driver/ and lib/host/) see it
 *
 * The core is freestanding: it never sleeps, allocates, blocks or touches user
 * memory, and all its work is bounded by the table sizes. It trusts nothing in
 * the segment: a shared word is read once, checked and then used, and what this
 * machine owns and imports stands in private records that are never relearnt.
 *
 * Locking, all of it the shell's:
 *   control  functions marked [control] are serialised per struct vine_core
 *   tx, rx   the two directions of a queue are each serialised (ring.h)
 *   drain    vine_drain() is serialised per vector
 * Everything else may be called at any time between join and leave.
 *
 * Functions return 0 or a negative errno; each says which.
 */
#ifndef VINE_CORE_H
#define VINE_CORE_H

#include "env.h"
#include <linux/vine_wire.h>

struct vine_core;
struct vine_queue;

/* Where segments begin in a memory, and how long they are, are multiples of it. */
#define VINE_PLACE	(1ULL << VINE_MIN_CHUNK_SHIFT)

/* Where things lie; from the first word of the segment alone. */
struct vine_geometry {
	u64 format;		/* the word itself */
	u64 size;		/* bytes used, all of it; a multiple of VINE_PLACE */
	u64 chunk_off;		/* first byte of chunk 0 */
	u32 shift;		/* log2 of the chunk size */
	u32 chunks;
};

struct vine_ops {
	/*
	 * Raise @vector in the peer at @ivpos. Called with a private lock held:
	 * must not sleep or call back into the core, but for vine_drain().
	 */
	void (*doorbell)(struct vine_core *core, u32 ivpos, u32 vector);
	/*
	 * Of a process on the host all, of others none:
	 * wake: wake who sleeps on the low half of *@bell, a word of the segment, which
	 *       has changed; as doorbell()
	 * lock: have, or give back, the lock that says that @slot's process lives. False:
	 *       another one has it
	 * dead: nobody has that lock, and so the process whose slot it was has ended
	 * room: get memory for rings, before they are touched: 0 or -errno
	 */
	void (*wake)(struct vine_core *core, __le64 *bell);
	bool (*lock)(struct vine_core *core, u32 slot, bool on);
	bool (*dead)(struct vine_core *core, u32 slot);
	int (*room)(struct vine_core *core, u64 offset, u64 bytes);
};

/* A region that this peer owns or has imported. */
struct vine_use {
	u64 id;			/* 0: not in use */
	u32 refs;		/* local users: the owner and every import */
	u32 first, count;	/* chunks */
	u32 slot, inc;		/* whose it is */
	bool own;		/* ours */
	bool rings;		/* holds rings: never mapped by a process */
	/* own ring regions only: pairs of rings of slot_bytes each, packed */
	u32 slot_bytes;
	u32 slots;
	u64 busy;
};

/* A queue entry of which this peer is the client. */
struct vine_own_queue {
	u32 gen;		/* 0: none */
	u16 region;		/* where its rings are: region index and slot */
	u8 ring_slot;
	bool closing;		/* our side is closed, the other may still write */
	bool served;		/* by ourselves: the server's side is open here too */
	u64 rings;		/* as in the entry */
	struct vine_queue *client;	/* while our side is open */
};

/* What this peer knows of another. */
struct vine_seen {
	u64 word, beat;
	u32 idle;		/* ticks without a beat */
};

/* Doorbells sent: rung[v] is the drain_seq that the last one answered. */
struct vine_rung {
	struct vine_lock lock;
	u64 rung[64];
};

struct vine_core {
	u8 *base;
	const struct vine_ops *ops;
	struct vine_geometry geo;
	u64 generation;
	u64 word;		/* our slot's, as we claimed it */
	u32 slot, inc, vectors;
	u32 timeout_ticks;
	u32 sweep_at;		/* the next chunk to sweep */
	u32 closing;		/* own queues with .closing set */
	u32 budget;		/* chunks that may still be freed in this pass */
	bool polled_peers;	/* a living peer cannot ring us */
	u32 *chunk_use;		/* per chunk: index + 1 of the region we use it in */
	u64 drain_seq[64];
	struct vine_use use[VINE_MAX_REGIONS];
	struct vine_own_queue own_queue[VINE_MAX_QUEUES];
	struct vine_seen seen[VINE_MAX_PEERS];
	struct vine_rung dst[VINE_MAX_PEERS];
};

static inline struct vine_wire_header *vine_header(struct vine_core *c)
{
	return (struct vine_wire_header *)c->base;
}

static inline struct vine_wire_peer *vine_peer(struct vine_core *c, u32 i)
{
	return (struct vine_wire_peer *)(c->base + VINE_OFF_PEERS) +
		vine_nospec(i, VINE_MAX_PEERS);
}

static inline struct vine_wire_service *vine_service(struct vine_core *c, u32 i)
{
	return (struct vine_wire_service *)(c->base + VINE_OFF_SERVICES) +
		vine_nospec(i, VINE_MAX_SERVICES);
}

static inline struct vine_wire_queue *vine_queue_entry(struct vine_core *c, u32 i)
{
	return (struct vine_wire_queue *)(c->base + VINE_OFF_QUEUES) +
		vine_nospec(i, VINE_MAX_QUEUES);
}

static inline struct vine_wire_region *vine_region_entry(struct vine_core *c, u32 i)
{
	return (struct vine_wire_region *)(c->base + VINE_OFF_REGIONS) +
		vine_nospec(i, VINE_MAX_REGIONS);
}

static inline __le64 *vine_chunk_word(struct vine_core *c, u32 i)
{
	return (__le64 *)(c->base + VINE_OFF_CHUNKMAP) +
		vine_nospec(i, c->geo.chunks);
}

/* The next generation or incarnation: 24 bits, never 0. */
static inline u32 vine_next(u32 n)
{
	n = (n + 1) & 0xffffff;
	return n ? n : 1;
}

/* ---- segment.c: the format ---- */

/**
 * vine_geometry_of() - what a format word means
 * @format: the first word of a segment
 * @size: bytes that this machine sees of the segment
 * @geo: filled in
 *
 * Return: 0; -EINVAL: not a vine segment; -EPROTONOSUPPORT: of another version;
 * -EFBIG: larger than @size, or impossible.
 */
int vine_geometry_of(u64 format, u64 size, struct vine_geometry *geo);

/* The format that a blank segment of @size bytes, VINE_MIN_SEGMENT or more, is given. */
u64 vine_format_for(u64 size);

/**
 * vine_segment_open() - check a segment; format it if it is blank
 * @base: the mapped segment, 64-byte aligned
 * @size: its size in bytes
 * @geo: filled in
 *
 * Writes nothing but the two words that format a blank (all-zero) segment.
 *
 * Return: 0; -ENOSPC: smaller than VINE_MIN_SEGMENT; else as
 * vine_geometry_of(); -EPROTONOSUPPORT also for unknown incompatible features.
 */
int vine_segment_open(void *base, u64 size, struct vine_geometry *geo);

/* Would vine_segment_open() refuse it? Says so likewise, and writes nothing. */
int vine_segment_check(void *base, u64 size);

/**
 * vine_core_init() - prepare private state, before every join
 * @core: memory of the shell's; its contents do not matter
 * @chunk_use: geo->chunks words of the shell's
 */
void vine_core_init(struct vine_core *core, void *base,
		    const struct vine_geometry *geo, u32 *chunk_use,
		    const struct vine_ops *ops);

struct vine_usage {
	u32 peers, services, queues, regions;	/* entries that are not FREE */
	u32 chunks, chunks_free;
	u32 own_queues, own_regions;		/* of this peer, rings included */
};

/* Counts what the segment holds, for people and tests. [control] */
void vine_usage(struct vine_core *core, struct vine_usage *usage);

/* ---- peer.c: slots, beats, death ---- */

/**
 * vine_join() - claim a peer slot
 * @ivpos: IVPosition of the device
 * @vectors: MSI-X vectors that it serves; 0: it polls
 * @unique: nobody else alive can have this IVPosition (a doorbell device), so
 *          a slot that bears it belongs to a dead predecessor; between processes
 *          the lock says whether that is so
 * @timeout_ticks: ticks without a beat after which a peer is suspect
 *
 * Of a process on the host the slot is locked when it returns 0, and until the shell
 * unlocks it after vine_leave(). The caller then drains each vector once. [control]
 *
 * Return: 0; -EUSERS: all slots are taken; -EADDRINUSE, of a process only: another
 * one that lives has this unique IVPosition.
 */
int vine_join(struct vine_core *core, u32 ivpos, u32 vectors, bool unique,
	      u32 timeout_ticks);

/**
 * vine_leave() - declare this peer gone and hand back all that it had
 *
 * The caller has stopped every use of the segment: no call in flight, no
 * mapping. Nothing but vine_core_init() may follow. [control]
 */
void vine_leave(struct vine_core *core);

#define VINE_TICK_FENCED	1	/* others count us out: stop, leave, join */
#define VINE_TICK_CHANGED	2	/* a peer came, went or is suspect */

/**
 * vine_tick() - beat, watch the others, clean up after the dead [control]
 *
 * Return: VINE_TICK_* bits.
 */
unsigned int vine_tick(struct vine_core *core);

/**
 * vine_peer_bury() - declare a silent peer gone and hand back all that it had [control]
 *
 * For an administrator who knows that its machine is dead: one that is merely paused
 * goes on writing when it wakes.
 *
 * Return: 0; -ENOENT: there is no such peer (any more); -EBUSY: it is LIVE, or it is us.
 */
int vine_peer_bury(struct vine_core *core, u32 slot, u32 inc);

/* Is the peer (slot, incarnation) LIVE? Its memory may be anything else. */
bool vine_peer_live(struct vine_core *core, u32 slot, u32 inc);

/* May the peer (slot, incarnation) still write? LIVE or SUSPECT. */
bool vine_peer_current(struct vine_core *core, u32 slot, u32 inc);

/* ---- ready.c: readiness and doorbells ---- */

/**
 * vine_ready_mark() - mark a bit of a peer and ring it if nobody of ours has
 * @slot: the peer
 * @leaf: leaf word, VINE_LEAF_*
 * @bit: 0..63
 */
void vine_ready_mark(struct vine_core *core, u32 slot, u32 leaf, u32 bit);

/* Tell every living peer, ourselves too, to look at the tables. */
void vine_ready_tables(struct vine_core *core);

typedef void (*vine_ready_fn)(void *arg, u32 leaf, u64 bits);

/**
 * vine_drain() - take the marked bits of one of our vectors, once
 *
 * From the interrupt, the tick (backstop), and after join. One pass: what is
 * marked meanwhile rings again.
 */
void vine_drain(struct vine_core *core, u32 vector, vine_ready_fn fn, void *arg);

/* ---- region.c: chunks and regions ---- */

/**
 * vine_region_claim() - take chunks for a new region
 * @bytes: > 0
 * @id: its identifier
 *
 * The region is CLAIMed: the caller zeroes its chunks, then publishes or
 * retires it. [control]
 *
 * Return: 0; -EINVAL: no bytes; -ENOSPC: no such run of free chunks, or no
 * free region entry.
 */
int vine_region_claim(struct vine_core *core, u64 bytes, u64 *id);

/* CLAIM -> LIVE. 0, or -ENOSPC when somebody has taken it away. [control] */
int vine_region_publish(struct vine_core *core, u64 id);

/* The owner lets go: no new import; freed when all holds are. [control] */
void vine_region_retire(struct vine_core *core, u64 id);

/**
 * vine_region_import() - hold a region of (slot, inc) [control]
 * @rings: for rings, which no process may map; a region is for one or the other
 *
 * Return: 0; -ENOENT: no such living region of that peer; -EBADE: it claims
 * chunks that are not its own, or that this peer uses otherwise.
 */
int vine_region_import(struct vine_core *core, u64 id, u32 slot, u32 inc, bool rings);

/* Drop an import. [control] */
void vine_region_put(struct vine_core *core, u64 id);

/* Our private record of a region in use, or NULL. [control] */
const struct vine_use *vine_region_use(struct vine_core *core, u64 id);

static inline u64 vine_chunk_offset(const struct vine_core *c, u32 chunk)
{
	return c->geo.chunk_off + ((u64)chunk << c->geo.shift);
}

/* For peer.c: reaping and sweeping. */
void vine_region_reap(struct vine_core *core);
void vine_region_sweep(struct vine_core *core);

/* ---- service.c ---- */

struct vine_service_seen {
	u32 index, gen;
	u32 slot, inc;
	u64 type;
	char name[VINE_NAME_SIZE];
};

/* What a listener needs. */
struct vine_listener {
	u32 index, gen;
	u64 pending[VINE_MAX_QUEUES / 64];	/* taken from the backlog */
};

/**
 * vine_service_offer() - make a service known [control]
 * @name: 1..31 bytes, zero-terminated
 *
 * Return: 0; -EADDRINUSE: this peer offers that name already; -ENOSPC.
 */
int vine_service_offer(struct vine_core *core, struct vine_listener *listener,
		       const char *name, u64 type);

/* Withdraw it and refuse who waits. [control] */
void vine_service_withdraw(struct vine_core *core, struct vine_listener *listener);

/* Reads entry @index. False unless it is LIVE and so is its peer. */
bool vine_service_read(struct vine_core *core, u32 index,
		       struct vine_service_seen *seen);

/*
 * The one that is called @id outside or, when that is 0, of the slot that comes first of
 * those that offer @name. False: there is none.
 */
bool vine_service_find(struct vine_core *core, u64 id, const u8 *name,
		       struct vine_service_seen *found);

/* What a service is called outside. */
static inline u64 vine_service_id(u32 index, u32 gen)
{
	return (u64)gen << 32 | (index + 1);
}

/* Of VINE_NAME_SIZE bytes. 0 or -EINVAL: 1 to 31 bytes, and zeroes behind them. */
int vine_check_name(const u8 *name);

/* True when a connection may wait. Moves the shared backlog to .pending. [control] */
bool vine_service_waiting(struct vine_core *core, struct vine_listener *listener);

/* Frees the services of those who are GONE. */
void vine_service_sweep(struct vine_core *core);

/* ---- queue.c ---- */

#include "ring.h"

/* One side of a queue. Embedded in the shell's own object. */
struct vine_queue {
	struct vine_core *core;
	u32 index, gen;
	u32 side;		/* VINE_SIDE_*: ours */
	u32 slot, inc;		/* the other side's peer */
	u32 service;		/* index; client: of the service it asks for */
	u64 region;		/* of the rings */
	bool hung;		/* the other side is gone; never reset */
	bool broken;		/* the other side did the impossible; never reset */
	struct vine_producer tx;
	struct vine_consumer rx;
	u64 attach[VINE_MAX_ATTACH];
};

/**
 * vine_queue_connect() - ask a service for a queue [control]
 * @depth: cells of each ring, a power of two in VINE_MIN_DEPTH..VINE_MAX_DEPTH
 *
 * Return: 0: CONNECTING; -EINVAL: depth; -ECONNREFUSED: the service has gone;
 * -ENOSPC: no queue entry, region entry or chunk is free.
 */
int vine_queue_connect(struct vine_core *core, struct vine_queue *queue,
		       const struct vine_service_seen *service, u32 depth);

/* Has it been accepted? 0, -EINPROGRESS, -ECONNREFUSED or -EIO. */
int vine_connect_result(struct vine_queue *queue);

/* Stop waiting. True when the server can no longer accept. */
bool vine_connect_cancel(struct vine_queue *queue);

/**
 * vine_queue_accept() - take the next waiting connection [control]
 *
 * Return: 0; -EAGAIN: nobody waits (any more).
 */
int vine_queue_accept(struct vine_core *core, struct vine_listener *listener,
		      struct vine_queue *queue);

/* Close our side. No call on @queue may be in flight or follow. [control] */
void vine_queue_close(struct vine_queue *queue);

/* Has the other side closed, or is its peer not LIVE? Sticky. */
bool vine_queue_hung(struct vine_queue *queue);

/* Tell the other side that its queue has news. */
void vine_queue_notify(struct vine_queue *queue);

/**
 * vine_queue_attach() - let the server import one of our regions [control]
 *
 * Return: 0; -EINVAL: not our region, or not the client's side; -ENOSPC:
 * VINE_MAX_ATTACH regions are attached.
 */
int vine_queue_attach(struct vine_queue *queue, u64 id);

/* Server: hold a region attached to this queue. As vine_region_import(). [control] */
int vine_queue_import(struct vine_queue *queue, u64 id);

/* Recycles what both sides have closed. [control] */
void vine_queue_sweep(struct vine_core *core);

/* ---- query.c ---- */

struct vine_query_peer;
struct vine_query_service;
struct vine_query_queue;
struct vine_query_region;

/*
 * Entry @i of a table as linux/vine.h has it, into @record, which is zeroed. False: it is
 * free. What the core does not know is left to the shell: processes, and of our own
 * queues which sides they are and what waits there. [control]
 *
 * @tick_ms: milliseconds between two calls of vine_tick()
 * @own: our listener, if it is ours
 */
bool vine_describe_peer(struct vine_core *core, u32 i, u32 tick_ms,
			struct vine_query_peer *record);
bool vine_describe_service(struct vine_core *core, u32 i, const struct vine_listener *own,
			   struct vine_query_service *record);
bool vine_describe_queue(struct vine_core *core, u32 i, struct vine_query_queue *record);
bool vine_describe_region(struct vine_core *core, u32 i, struct vine_query_region *record);

#endif /* VINE_CORE_H */
