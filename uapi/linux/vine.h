/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR MIT */
/*
 * vine.h - the ioctl interface of /dev/vineN
 *
 * Descriptors: a device (open of /dev/vineN) makes listeners (VINE_LISTEN), queues
 * (VINE_CONNECT) and regions (VINE_REGION); a listener makes queues (VINE_ACCEPT);
 * a queue makes regions of the other side (VINE_IMPORT). A new descriptor comes
 * back in the field @fd, close-on-exec. What a descriptor stands for lives as long
 * as the descriptor, and a region also as long as its mappings.
 *
 * Every structure begins with its own size. A caller built against an older header
 * passes a smaller one, and the missing fields are zero; one built against a newer
 * header passes a larger one, and the fields that this kernel does not know must be
 * zero. No call returns data in its return value: 0, or -1 and errno.
 *
 * Errors that every call may give:
 *   ENOTTY      this kind of descriptor has no such call
 *   EINVAL      size below the smallest, or a reserved field is not zero, or a
 *               value is out of its range
 *   E2BIG       size beyond what this kernel knows, with non-zero bytes there
 *   EOPNOTSUPP  an unknown flag
 *   EFAULT      a bad pointer
 *   ENODEV      the device has been unplugged or unbound
 *   ENOTCONN    this machine was taken for dead and has joined anew: what was
 *               made before is lost (device descriptors go on working)
 *   EINTR       a signal came before anything was done
 *   ENOMEM, EMFILE, ENFILE  as everywhere
 *
 * Deadlines are absolute, in nanoseconds of CLOCK_MONOTONIC; 0 does not wait (the
 * call gives EAGAIN), VINE_FOREVER has no end. All calls may be made from any
 * thread at any time.
 */
#ifndef _UAPI_LINUX_VINE_H
#define _UAPI_LINUX_VINE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define VINE_SERVICE_NAME	32	/* bytes, with the terminating zero */
#define VINE_MSG_DATA		56	/* bytes of one message */
#define VINE_FOREVER		(~(__u64)0)

/*
 * VINE_INFO (device): what this device is, and how full its segment is.
 * All fields but @size and @flags are Out.
 *
 * @size: In: sizeof(struct vine_info)
 * @flags: In: 0
 * @features: VINE_FEATURE_* of this kernel
 * @segment_size: bytes of shared memory, tables included
 * @generation: random number of this segment
 * @chunk_size: bytes; regions take whole chunks
 * @chunks, @chunks_free: in the segment
 * @peer, @incarnation: who we are: slot 0..63, and how often it was taken
 * @vectors: MSI-X vectors served; 0: the device polls
 * @ivposition: ivshmem's number of this machine
 * @memory_type: VINE_MEMORY_*: how the kernel's mapping is cached
 * @kind: VINE_KIND_*
 * @peers, @services, @queues, @regions: entries in use in the segment, by all
 * @own_queues, @own_regions: of this machine (regions: those that hold rings too)
 */
struct vine_info {
	__u32 size;
	__u32 flags;
	__u64 features;
	__u64 segment_size;
	__u64 generation;
	__u64 chunk_size;
	__u32 chunks;
	__u32 chunks_free;
	__u32 peer;
	__u32 incarnation;
	__u32 vectors;
	__u32 ivposition;
	__u32 memory_type;
	__u32 kind;
	__u32 peers;
	__u32 services;
	__u32 queues;
	__u32 regions;
	__u32 own_queues;
	__u32 own_regions;
};

#define VINE_MEMORY_UNKNOWN	0
#define VINE_MEMORY_CACHED	1	/* write-back */
#define VINE_MEMORY_UNCACHED	2	/* slow: see Documentation/memory.md */

#define VINE_KIND_DOORBELL	0	/* ivshmem-doorbell */
#define VINE_KIND_PLAIN		1	/* ivshmem-plain, or its interrupts do not work */
#define VINE_KIND_LOOPBACK	2	/* kernel memory; this machine only */
#define VINE_KIND_HOST		3	/* no device: a process on the host (libvine) */

/*
 * VINE_SERVICES (device): the services that can be connected to.
 *
 * @size: In
 * @flags: In: 0
 * @count: In: room at @array, in structures; Out: how many there are (if larger
 *         than the room, the rest was left out)
 * @reserved: In: 0
 * @array: In: user address of struct vine_service[]; may be 0 when @count is 0
 */
struct vine_services {
	__u32 size;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__u64 array;
};

/*
 * @id: for VINE_CONNECT; not 0
 * @type: as the offerer said
 * @peer, @incarnation: who offers it
 * @name: zero-terminated, zero-padded
 */
struct vine_service {
	__u64 id;
	__u64 type;
	__u32 peer;
	__u32 incarnation;
	__u8 name[VINE_SERVICE_NAME];
};

/*
 * VINE_LISTEN (device): offer a service.
 *
 * @size: In
 * @flags: In: VINE_NONBLOCK or 0
 * @type: In: any number; VineTalk's accelerator type
 * @name: In: 1 to 31 bytes, zero-terminated, zero-padded
 * @fd: Out: the listener
 * @reserved: In: 0
 *
 * EINVAL the name; EADDRINUSE this machine offers that name already; ENOSPC the
 * segment has no free service entry.
 */
struct vine_listen {
	__u32 size;
	__u32 flags;
	__u64 type;
	__u8 name[VINE_SERVICE_NAME];
	__s32 fd;
	__u32 reserved;
};

/*
 * VINE_ACCEPT (listener): take the next connection.
 *
 * @size: In
 * @flags: In: VINE_NONBLOCK (the new queue has O_NONBLOCK) or 0
 * @deadline: In: how long to wait; O_NONBLOCK on the listener does not wait
 * @fd: Out: the queue
 * @depth: Out: messages that each ring holds
 * @peer, @incarnation: Out: whose connection it is
 *
 * EAGAIN, ETIMEDOUT nobody came.
 */
struct vine_accept {
	__u32 size;
	__u32 flags;
	__u64 deadline;
	__s32 fd;
	__u32 depth;
	__u32 peer;
	__u32 incarnation;
};

/*
 * VINE_CONNECT (device): make a queue to a service.
 *
 * @size: In
 * @flags: In: VINE_NONBLOCK: return at once, with O_NONBLOCK on the queue: it
 *         polls EPOLLOUT when it is accepted, EPOLLHUP when it is refused, and
 *         transfers give ENOTCONN until then. VINE_WAIT_SERVICE: if there is no
 *         such service, wait for it.
 * @deadline: In: until when it must be accepted
 * @id: In: a service, from VINE_SERVICES, or 0: by name
 * @name: In: as in VINE_LISTEN; all zero when @id is given. Of several services
 *        of that name, the one of the lowest peer slot
 * @depth: In: messages that each ring holds, a power of two, 2 to 4096
 * @fd: Out: the queue
 * @peer, @incarnation: Out: who serves it
 *
 * EINVAL name, id or depth; ENOENT there is no such service; ECONNREFUSED it was
 * withdrawn, or its machine died; EAGAIN (deadline 0), ETIMEDOUT it has not
 * accepted; ENOSPC the segment has no free queue, region or chunk.
 */
struct vine_connect {
	__u32 size;
	__u32 flags;
	__u64 deadline;
	__u64 id;
	__u8 name[VINE_SERVICE_NAME];
	__u32 depth;
	__s32 fd;
	__u32 peer;
	__u32 incarnation;
};

#define VINE_NONBLOCK		(1U << 0)
#define VINE_WAIT_SERVICE	(1U << 1)

/*
 * VINE_REGION (device): shared memory for bulk data, zeroed. mmap() the new
 * descriptor with MAP_SHARED.
 *
 * @size: In
 * @flags: In: 0
 * @bytes: In: > 0; Out: rounded up to whole chunks: what can be mapped
 * @fd: Out: the region
 * @reserved: In: 0
 *
 * EINVAL no bytes; ENOSPC no run of free chunks is that long, or no free entry.
 */
struct vine_region {
	__u32 size;
	__u32 flags;
	__u64 bytes;
	__s32 fd;
	__u32 reserved;
};

/*
 * VINE_ATTACH (queue, the client's side): let the server import one of our
 * regions. A region can be attached to many queues, a queue has up to 48.
 *
 * @size: In
 * @flags: In: 0
 * @region_fd: In: from VINE_REGION, of the same device
 * @reserved: In: 0
 * @id: Out: the region's name, for messages
 *
 * EBADF not a descriptor; EINVAL not a region of this device that we own, or the
 * server's side; ENOSPC too many are attached; EPIPE the other side is gone.
 */
struct vine_attach {
	__u32 size;
	__u32 flags;
	__s32 region_fd;
	__u32 reserved;
	__u64 id;
};

/*
 * VINE_IMPORT (queue, the server's side): a descriptor for a region that the
 * client has attached. It outlives the queue, the client, and the client's machine.
 *
 * @size: In
 * @flags: In: 0
 * @id: In: what the client's VINE_ATTACH gave
 * @bytes: Out: what can be mapped
 * @fd: Out: the region
 * @reserved: In: 0
 *
 * EINVAL the client's side; ENOENT no such living region is attached; EBADE the
 * client claims memory that is not its own.
 */
struct vine_import {
	__u32 size;
	__u32 flags;
	__u64 id;
	__u64 bytes;
	__s32 fd;
	__u32 reserved;
};

/* One message. @len: 0 to 56 bytes of @data. @reserved: 0. */
struct vine_msg {
	__u32 len;
	__u32 reserved;
	__u8 data[VINE_MSG_DATA];
};

/*
 * VINE_TRANSFER (queue): push and pull messages, and wait for some.
 *
 * Pushes what there is room for, without waiting; pulls what is there; if that is
 * less than @pull_min, waits for more until @deadline (O_NONBLOCK: does not wait).
 * When anything was pushed or pulled the call gives 0, and the counts say how much;
 * only without any progress does it give an error.
 *
 * @size: In
 * @flags: In: 0
 * @push: In: user address of struct vine_msg[]
 * @pull: In: user address of struct vine_msg[]
 * @push_count: In: messages at @push; Out: how many of them were pushed
 * @pull_count: In: room at @pull; Out: how many were pulled
 * @pull_min: In: how many to wait for, at most @pull_count
 * @reserved: In: 0
 * @deadline: In: how long to wait for them
 *
 * EINVAL counts; EMSGSIZE a message is longer than 56 bytes (those before it are
 * pushed); EAGAIN no room, or nothing there, and not to wait; ETIMEDOUT nothing
 * came; ENOTCONN not accepted yet; ECONNREFUSED it was refused; EPIPE the other
 * side is gone, and everything that it had sent was pulled; EIO it did something
 * impossible: the queue is broken for good.
 */
struct vine_transfer {
	__u32 size;
	__u32 flags;
	__u64 push;
	__u64 pull;
	__u32 push_count;
	__u32 pull_count;
	__u32 pull_min;
	__u32 reserved;
	__u64 deadline;
};

/*
 * poll() on a queue: EPOLLIN a message is there, or the other side is gone;
 * EPOLLOUT there is room (after VINE_CONNECT: it is accepted); EPOLLHUP the other
 * side is gone, or has refused; EPOLLERR the queue is broken, or the device gone.
 * On a listener: EPOLLIN a connection waits.
 */

/*
 * VINE_QUERY (device): what the tables of the segment say, entry by entry: for people
 * and for monitoring.
 *
 * Peers and services are told to everybody. Queues and regions, and the processes that
 * made things, are told only as far as they are those of the caller's effective user
 * on this machine; with CAP_SYS_ADMIN in the initial user namespace, all are.
 *
 * What other machines wrote is passed on as it stands: it may be old, or wrong. A state
 * that is not listed here means that the entry is damaged.
 *
 * @size: In
 * @flags: In: 0
 * @what: In: VINE_QUERY_PEERS and so on, which says what records there are at @array
 * @count: In: room at @array, in records; Out: how many there are (if larger than the
 *         room, the rest was left out)
 * @array: In: user address of struct vine_query_peer[] and so on; may be 0 when @count
 *         is 0
 *
 * EINVAL there is no such @what.
 */
struct vine_query {
	__u32 size;
	__u32 flags;
	__u32 what;
	__u32 count;
	__u64 array;
};

#define VINE_QUERY_PEERS	1	/* struct vine_query_peer */
#define VINE_QUERY_SERVICES	2	/* struct vine_query_service */
#define VINE_QUERY_QUEUES	3	/* struct vine_query_queue */
#define VINE_QUERY_REGIONS	4	/* struct vine_query_region */

/* In the @flags of the records. */
#define VINE_QUERY_OWN		(1U << 0)	/* of this machine */
#define VINE_QUERY_CLIENT	(1U << 1)	/* we have the client's side of the queue */
#define VINE_QUERY_SERVER	(1U << 2)	/* we have the server's side */
#define VINE_QUERY_BROKEN	(1U << 3)	/* EIO: seen on a side of ours */
#define VINE_QUERY_RINGS	(1U << 4)	/* rings lie there (of regions that we use) */

#define VINE_QUERY_UNKNOWN	(~0U)

/*
 * @peer, @incarnation: who
 * @state: VINE_QUERY_PEER_*
 * @flags: VINE_QUERY_OWN
 * @ivposition: ivshmem's number of that machine
 * @vectors: that it serves; 0: it polls
 * @beats: counted up by it several times a second, as long as it lives
 * @silent_ms: since this machine last saw @beats change; 0 of ourselves
 */
struct vine_query_peer {
	__u32 peer;
	__u32 incarnation;
	__u32 state;
	__u32 flags;
	__u32 ivposition;
	__u32 vectors;
	__u64 beats;
	__u64 silent_ms;
};

#define VINE_QUERY_PEER_LIVE	1
#define VINE_QUERY_PEER_SUSPECT	2	/* silent: dead, or paused */
#define VINE_QUERY_PEER_GONE	3	/* what it had is about to be handed back */

/*
 * @id, @type, @peer, @incarnation, @name: as VINE_SERVICES has them
 * @state: VINE_QUERY_SERVICE_*
 * @flags: VINE_QUERY_OWN
 * @waiting: connections that are not accepted yet
 * @pid: of the process here that offers it; 0: not told, or not here
 */
struct vine_query_service {
	__u64 id;
	__u64 type;
	__u32 peer;
	__u32 incarnation;
	__u32 state;
	__u32 flags;
	__u32 waiting;
	__u32 pid;
	__u8 name[VINE_SERVICE_NAME];
};

#define VINE_QUERY_SERVICE_CLAIM	1	/* comes or goes just now */
#define VINE_QUERY_SERVICE_LIVE		2	/* can be connected to, if its peer lives */

/*
 * @queue: number of the entry
 * @state: VINE_QUERY_QUEUE_*
 * @flags: VINE_QUERY_CLIENT, _SERVER, _BROKEN
 * @depth: messages that each ring holds; 0: nonsense stands there
 * @client, @client_incarnation: whose it is
 * @server, @server_incarnation: who serves it
 * @service: id of the service that was asked for; it may be gone
 * @to_server, @to_client: messages in the rings, VINE_QUERY_UNKNOWN unless we have a
 *         side of the queue. Those that the other machine has pulled count a while longer
 * @client_pid, @server_pid: of the processes here that made the two sides; 0: not told,
 *         not here, or ended
 * @attached: regions that the server may import
 * @reserved: 0
 */
struct vine_query_queue {
	__u32 queue;
	__u32 state;
	__u32 flags;
	__u32 depth;
	__u32 client;
	__u32 client_incarnation;
	__u32 server;
	__u32 server_incarnation;
	__u64 service;
	__u32 to_server;
	__u32 to_client;
	__u32 client_pid;
	__u32 server_pid;
	__u32 attached;
	__u32 reserved;
};

#define VINE_QUERY_QUEUE_CLAIM		1	/* is being made */
#define VINE_QUERY_QUEUE_CONNECTING	2	/* waits to be accepted */
#define VINE_QUERY_QUEUE_ACCEPTED	3
#define VINE_QUERY_QUEUE_REFUSED	4
#define VINE_QUERY_QUEUE_CANCELLED	5

/*
 * @id: as in VINE_ATTACH and VINE_IMPORT
 * @bytes: what it takes of the segment; 0: nonsense stands there
 * @holders: bit p: peer p uses it
 * @peer, @incarnation: whose it is
 * @state: VINE_QUERY_REGION_*
 * @flags: VINE_QUERY_OWN, VINE_QUERY_RINGS
 * @users: how often it is in use on this machine: made, imported, or by rings
 * @pid: of a process here that made or imported it; 0: not told, not here, or ended
 */
struct vine_query_region {
	__u64 id;
	__u64 bytes;
	__u64 holders;
	__u32 peer;
	__u32 incarnation;
	__u32 state;
	__u32 flags;
	__u32 users;
	__u32 pid;
};

#define VINE_QUERY_REGION_CLAIM	1	/* is being made */
#define VINE_QUERY_REGION_LIVE	2
#define VINE_QUERY_REGION_DYING	3	/* its owner let go; comes back when nobody holds it */

/*
 * VINE_BURY (device): declare a silent peer gone, so that what it had is free again.
 * For administrators, and only when its machine is known to be dead: one that is
 * merely paused goes on writing when it wakes, into memory that is others' by then.
 *
 * @size: In
 * @flags: In: 0
 * @peer, @incarnation: In: who
 *
 * EPERM without CAP_SYS_ADMIN in the initial user namespace; ENOENT there is no such
 * peer (any more); EBUSY it is not known to be silent, or it is ourselves.
 */
struct vine_bury {
	__u32 size;
	__u32 flags;
	__u32 peer;
	__u32 incarnation;
};

/* Without sizes: each structure carries its own. */
#define VINE_IOC	'v'
#define VINE_INFO	_IO(VINE_IOC, 0x40)
#define VINE_SERVICES	_IO(VINE_IOC, 0x41)
#define VINE_LISTEN	_IO(VINE_IOC, 0x42)
#define VINE_ACCEPT	_IO(VINE_IOC, 0x43)
#define VINE_CONNECT	_IO(VINE_IOC, 0x44)
#define VINE_REGION	_IO(VINE_IOC, 0x45)
#define VINE_ATTACH	_IO(VINE_IOC, 0x46)
#define VINE_IMPORT	_IO(VINE_IOC, 0x47)
#define VINE_TRANSFER	_IO(VINE_IOC, 0x48)
#define VINE_QUERY	_IO(VINE_IOC, 0x49)
#define VINE_BURY	_IO(VINE_IOC, 0x4a)

#endif /* _UAPI_LINUX_VINE_H */
