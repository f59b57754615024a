/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * vine_wire.h - what lies in the shared memory: the ABI between machines
 *
 * Versioned by VINE_WIRE_VERSION, apart from the ioctl ABI (linux/vine.h): the
 * machines that share a segment run different kernels. Everything is
 * little-endian, naturally aligned, and an offset or an index; there are no
 * pointers and no locks. Every word is changed by compare-and-swap only, or by
 * its one writer only; Documentation/protocol.md says which, and by whom.
 *
 * A segment, with C chunks of 2^S bytes, both from the first word:
 *
 *   VINE_OFF_HEADER    header                    4 KiB
 *   VINE_OFF_PEERS     64 peer slots             8 KiB each
 *   VINE_OFF_SERVICES  256 services              1 KiB each
 *   VINE_OFF_QUEUES    4096 queue entries        512 bytes each
 *   VINE_OFF_REGIONS   4096 region entries       320 bytes each
 *   VINE_OFF_CHUNKMAP  C chunk words             8 bytes each
 *   next multiple of the chunk size              chunk 0 ... chunk C-1
 *
 * An all-zero segment is a valid one but for the first word.
 */
#ifndef _UAPI_LINUX_VINE_WIRE_H
#define _UAPI_LINUX_VINE_WIRE_H

#include <linux/types.h>

#define VINE_WIRE_MAGIC		0x6e6976	/* "vin" */
#define VINE_WIRE_VERSION	1

#define VINE_MAX_PEERS		64
#define VINE_MAX_VECTORS	63	/* it must fit the slot word */
#define VINE_MAX_SERVICES	256
#define VINE_MAX_QUEUES		4096
#define VINE_MAX_REGIONS	4096
#define VINE_MAX_ATTACH		48	/* regions attached to one queue */
#define VINE_MIN_CHUNK_SHIFT	16
#define VINE_MAX_CHUNK_SHIFT	32
#define VINE_MAX_CHUNKS		((1 << 24) - 1)
#define VINE_NAME_SIZE		32	/* with its terminating zero */
#define VINE_CELL_PAYLOAD	56
#define VINE_MIN_DEPTH		2
#define VINE_MAX_DEPTH		4096	/* cells of one ring, a power of two */
#define VINE_MIN_SEGMENT	(8 << 20)

/*
 * Header. @format: 0, or VINE_FORMAT(...), set once by CAS from 0; all geometry
 * follows from it alone. @features: {incompatible:32, compatible:32}; a peer
 * refuses a segment with an incompatible bit that it does not know (version 1
 * knows none). @generation: random, set once by CAS from 0; another value means
 * that the segment was wiped under its users.
 */
struct vine_wire_header {
	__le64 format;
	__le64 features;
	__le64 generation;
	__le64 reserved[509];
};

#define VINE_FORMAT_MAGIC(w)	((__u32)((w) & 0xffffff))
#define VINE_FORMAT_VERSION(w)	((__u32)((w) >> 24 & 0xff))
#define VINE_FORMAT_SHIFT(w)	((__u32)((w) >> 32 & 0xff))
#define VINE_FORMAT_CHUNKS(w)	((__u32)((w) >> 40))
#define VINE_FORMAT(shift, chunks)				\
	((__u64)VINE_WIRE_MAGIC | (__u64)VINE_WIRE_VERSION << 24 |	\
	 (__u64)(shift) << 32 | (__u64)(chunks) << 40)

/*
 * Peer slot word: {incarnation:32, IVPosition:16, host:1, unique:1, vectors:6, state:8}.
 * @vectors is the number of MSI-X vectors that this peer serves; 0 means that
 * it has none, polls, and cannot ring. VINE_PEER_UNIQUE: no other living machine can
 * have this IVPosition (ivshmem-plain devices all read 0). VINE_PEER_HOST: a process on
 * the host. Others of these ring it by its bell, whatever @vectors says to the rest, and
 * while it lives it has a lock on its slot's byte of the file (Documentation/host.md).
 * @beat is counted up by the owner only.
 */
#define VINE_PEER_FREE		0
#define VINE_PEER_LIVE		1
#define VINE_PEER_SUSPECT	2
#define VINE_PEER_GONE		3

#define VINE_PEER_STATE(w)	((__u32)((w) & 0xff))
#define VINE_PEER_VECTORS(w)	((__u32)((w) >> 8 & 0x3f))
#define VINE_PEER_IVPOS(w)	((__u32)((w) >> 16 & 0xffff))
#define VINE_PEER_INC(w)	((__u32)((w) >> 32))
#define VINE_PEER_UNIQUE	(1ULL << 14)
#define VINE_PEER_HOST		(1ULL << 15)
#define VINE_PEER(inc, ivpos, vectors, state)			\
	((__u64)(state) | (__u64)(vectors) << 8 |		\
	 (__u64)(ivpos) << 16 | (__u64)(inc) << 32)

/*
 * Readiness. A peer has one bit per queue and side, one per service, and one
 * that says "look at the tables". The bits stand in leaf words; leaf word L
 * belongs to vector L % vectors (vector 0 of a peer that has none), and bit
 * L % 64 of summary word L / 64 of that vector says that the leaf word has a
 * bit. @drain_seq is counted up by the owner only, once per drain. @bell of vector 0 is
 * that of a process on the host, for all its vectors: counted up by those who ring it, who
 * then wake whoever sleeps on its low half (futex(2)).
 */
#define VINE_LEAF_CLIENT	0	/* + queue / 64: for the client's side */
#define VINE_LEAF_SERVER	64	/* + queue / 64: for the server's side */
#define VINE_LEAF_SERVICE	128	/* + service / 64: a connection waits */
#define VINE_LEAF_TABLES	132	/* bit 0: peers or services changed */
#define VINE_LEAVES		192
#define VINE_SUMMARIES		3

struct vine_wire_vector {
	__le64 summary[VINE_SUMMARIES];
	__le64 drain_seq;
	__le64 bell;
	__le64 reserved[3];
};

struct vine_wire_peer {
	__le64 word;
	__le64 reserved0[7];
	__le64 beat;
	__le64 reserved1[7];
	struct vine_wire_vector vector[64];
	__le64 leaf[VINE_LEAVES];
	__le64 reserved2[304];
};

/*
 * Control word of services, queues and regions:
 * {generation:24, incarnation:24, slot:8, state:8}. Slot and (the low 24 bits
 * of the) incarnation name the owner: of a service its server, of a queue its
 * client. FREE keeps the last generation; claiming counts it up (never to 0).
 */
#define VINE_CTL_STATE(w)	((__u32)((w) & 0xff))
#define VINE_CTL_SLOT(w)	((__u32)((w) >> 8 & 0xff))
#define VINE_CTL_INC(w)		((__u32)((w) >> 16 & 0xffffff))
#define VINE_CTL_GEN(w)		((__u32)((w) >> 40))
#define VINE_CTL(gen, inc, slot, state)				\
	((__u64)(state) | (__u64)(slot) << 8 |			\
	 (__u64)((inc) & 0xffffff) << 16 | (__u64)(gen) << 40)

/*
 * Service: FREE -> CLAIM -> LIVE -> CLAIM -> FREE, by its owner, or to FREE by a
 * reaper. @backlog has a bit per queue entry that waits for ACCEPT; clients
 * set it, the server takes whole words.
 */
#define VINE_SERVICE_FREE	0
#define VINE_SERVICE_CLAIM	1
#define VINE_SERVICE_LIVE	2

struct vine_wire_service {
	__le64 ctl;
	__le64 type;			/* accelerator type, as the offerer says */
	__u8 name[VINE_NAME_SIZE];
	__le64 reserved0[2];
	__le64 backlog[VINE_MAX_QUEUES / 64];
	__le64 reserved1[56];
};

/*
 * Queue: FREE -> CLAIM -> CONNECTING -> ACCEPTED | REFUSED | CANCELLED -> FREE.
 * @server and @rings are written in CLAIM and read once by the server when it
 * accepts. @closed[side] is written by that side only: the generation that it
 * has closed. @attach is written by the client only: regions that the server
 * may import through this queue, 0 or a region identifier.
 */
#define VINE_QUEUE_FREE		0
#define VINE_QUEUE_CLAIM	1
#define VINE_QUEUE_CONNECTING	2
#define VINE_QUEUE_ACCEPTED	3
#define VINE_QUEUE_REFUSED	4
#define VINE_QUEUE_CANCELLED	5

#define VINE_SIDE_CLIENT	0
#define VINE_SIDE_SERVER	1

/* @server: {service generation:24, incarnation:24, slot:8, service:8} */
#define VINE_SERVER_SERVICE(w)	((__u32)((w) & 0xff))
#define VINE_SERVER_SLOT(w)	((__u32)((w) >> 8 & 0xff))
#define VINE_SERVER_INC(w)	((__u32)((w) >> 16 & 0xffffff))
#define VINE_SERVER_GEN(w)	((__u32)((w) >> 40))
#define VINE_SERVER(gen, inc, slot, service)	VINE_CTL(gen, inc, slot, service)

/* @rings: {first byte in the ring region / 64:56, log2 depth:8} */
#define VINE_RINGS_SHIFT(w)	((__u32)((w) & 0xff))
#define VINE_RINGS_OFFSET(w)	((__u64)((w) >> 8) * 64)
#define VINE_RINGS(shift, offset)	((__u64)(shift) | (__u64)(offset) / 64 << 8)

struct vine_wire_queue {
	__le64 ctl;
	__le64 server;
	__le64 region;			/* identifier of the ring region */
	__le64 rings;
	__le64 reserved0[4];
	__le64 closed_client;
	__le64 reserved1[3];
	__le64 closed_server;
	__le64 reserved2[3];
	__le64 attach[VINE_MAX_ATTACH];
};

/*
 * Region: FREE -> CLAIM -> LIVE -> DYING -> FREE, one run of chunks. @extent
 * {number of chunks:32, first chunk:32} and @bytes are the owner's, written in
 * CLAIM. @hold[slot]: the incarnation of a peer that uses the region, or 0.
 */
#define VINE_REGION_FREE	0
#define VINE_REGION_CLAIM	1
#define VINE_REGION_LIVE	2
#define VINE_REGION_DYING	3

#define VINE_EXTENT_FIRST(w)	((__u32)((w) & 0xffffffff))
#define VINE_EXTENT_COUNT(w)	((__u32)((w) >> 32))
#define VINE_EXTENT(first, n)	((__u64)(first) | (__u64)(n) << 32)

struct vine_wire_region {
	__le64 ctl;
	__le64 extent;
	__le64 bytes;
	__le64 reserved[5];
	__le32 hold[VINE_MAX_PEERS];
};

/*
 * Region identifier {generation:24, 1:1, -:23, index:16}: what ATTACH gives,
 * what messages carry, and what a chunk word bears (a chunk word is 0 when the
 * chunk is free). A chunk whose identifier is not that of a region in use is
 * garbage, and any sweep may free it.
 */
#define VINE_REGION_INDEX(id)	((__u32)((id) & 0xffff))
#define VINE_REGION_GEN(id)	((__u32)((id) >> 40))
#define VINE_REGION_ID(gen, index)	\
	((__u64)(index) | 1ULL << 39 | (__u64)(gen) << 40)

/*
 * Cell: one message. @head {index + 1:56, payload bytes:8} is written last, with
 * release semantics. A ring starts zeroed.
 */
struct vine_wire_cell {
	__le64 head;
	__le64 payload[VINE_CELL_PAYLOAD / 8];
};

#define VINE_CELL_SEQ(w)	((__u64)(w) >> 8)
#define VINE_CELL_BYTES(w)	((__u32)((w) & 0xff))
#define VINE_CELL_HEAD(seq, bytes)	((__u64)(seq) << 8 | (__u64)(bytes))

/*
 * Ring: its words stand on cache lines of their own, by writer. The consumer
 * writes @consumed (lazily) and @event, the producer writes @space_event. The
 * cells come right behind. Of a queue's two rings the submission ring (client to
 * server) comes first.
 */
struct vine_wire_ring {
	__le64 consumed;
	__le64 reserved0[7];
	__le64 event;			/* ring me when cell @event is written */
	__le64 reserved1[7];
	__le64 space_event;		/* ring me when cell @space_event is consumed */
	__le64 reserved2[7];
	__le64 reserved3[8];
};

#define VINE_RING_BYTES(depth)	(256 + 64ULL * (depth))

#define VINE_OFF_HEADER		0
#define VINE_OFF_PEERS		0x1000
#define VINE_OFF_SERVICES	(VINE_OFF_PEERS + VINE_MAX_PEERS * 8192)
#define VINE_OFF_QUEUES		(VINE_OFF_SERVICES + VINE_MAX_SERVICES * 1024)
#define VINE_OFF_REGIONS	(VINE_OFF_QUEUES + VINE_MAX_QUEUES * 512)
#define VINE_OFF_CHUNKMAP	(VINE_OFF_REGIONS + VINE_MAX_REGIONS * 320)

#endif /* _UAPI_LINUX_VINE_WIRE_H */
